package evidence

import (
	"crypto"
	"crypto/ecdsa"
	stded25519 "crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/asn1"
	"fmt"
	"math/big"

	"github.com/emmansun/gmsm/sm2"
)

// Signer makes raw 64-byte signatures with one key. Implementations hold the
// key in memory, in a file or in a token.
type Signer interface {
	Public() *PublicKey
	// Sign signs the whole message (it hashes itself where the algorithm does).
	Sign(message []byte) ([]byte, error)
}

// NewSigner wraps a standard library or gmsm private key: Ed25519, ECDSA on
// P-256 or *sm2.PrivateKey. ES256 signatures come out deterministic (RFC 6979)
// and with s in the lower half.
func NewSigner(key crypto.Signer) (Signer, error) {
	switch k := key.(type) {
	case stded25519.PrivateKey:
		pub, err := NewEd25519Key(k.Public().(stded25519.PublicKey))
		if err != nil {
			return nil, err
		}
		return ed25519Signer{k, pub}, nil
	case *sm2.PrivateKey:
		raw := append(append([]byte{}, spkiSM2...), make([]byte, 65)...)
		point := raw[len(spkiSM2):] // by hand: crypto/ecdsa writes no point of this curve
		point[0] = 4
		k.X.FillBytes(point[1:33])
		k.Y.FillBytes(point[33:])
		pub, err := ParsePublicKey(raw)
		if err != nil {
			return nil, err
		}
		return sm2Signer{k, pub}, nil
	case *ecdsa.PrivateKey:
		raw, err := k.PublicKey.Bytes()
		if err != nil {
			return nil, err
		}
		if k.Curve != elliptic.P256() {
			return nil, fmt.Errorf("curve %s is not supported: use P-256", k.Curve.Params().Name)
		}
		pub, err := ParsePublicKey(append(append([]byte{}, spkiP256...), raw...))
		if err != nil {
			return nil, err
		}
		return p256Signer{k, pub}, nil
	}
	return nil, fmt.Errorf("cannot sign with a %T: use Ed25519, P-256 or SM2", key)
}

type ed25519Signer struct {
	key stded25519.PrivateKey
	pub *PublicKey
}

func (s ed25519Signer) Public() *PublicKey { return s.pub }
func (s ed25519Signer) Sign(message []byte) ([]byte, error) {
	return stded25519.Sign(s.key, message), nil
}

type p256Signer struct {
	key *ecdsa.PrivateKey
	pub *PublicKey
}

func (s p256Signer) Public() *PublicKey { return s.pub }
func (s p256Signer) Sign(message []byte) ([]byte, error) {
	hash := sha256.Sum256(message)
	der, err := s.key.Sign(nil, hash[:], crypto.SHA256)
	if err != nil {
		return nil, err
	}
	return rawSignature(der, elliptic.P256().Params().N)
}

type sm2Signer struct {
	key *sm2.PrivateKey
	pub *PublicKey
}

func (s sm2Signer) Public() *PublicKey { return s.pub }
func (s sm2Signer) Sign(message []byte) ([]byte, error) {
	der, err := s.key.SignWithSM2(rand.Reader, nil, message)
	if err != nil {
		return nil, err
	}
	return rawSignature(der, nil)
}

// rawSignature turns DER {r, s} into r‖s; with order given, s is brought into
// the lower half.
func rawSignature(der []byte, order *big.Int) ([]byte, error) {
	var sig struct{ R, S *big.Int }
	if rest, err := asn1.Unmarshal(der, &sig); err != nil || len(rest) != 0 {
		return nil, fmt.Errorf("reading the DER signature: %w", err)
	}
	if order != nil && sig.S.Cmp(new(big.Int).Rsh(order, 1)) > 0 {
		sig.S.Sub(order, sig.S)
	}
	raw := make([]byte, SignatureSize)
	sig.R.FillBytes(raw[:32])
	sig.S.FillBytes(raw[32:])
	return raw, nil
}
