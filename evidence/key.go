package evidence

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"

	"github.com/emmansun/gmsm/sm2"
	"github.com/oasisprotocol/curve25519-voi/curve"
	"github.com/oasisprotocol/curve25519-voi/primitives/ed25519"
)

// Algorithm is a COSE signature algorithm identifier.
type Algorithm int64

// The algorithms a statement or receipt may be signed with. Their raw
// signatures are all 64 bytes.
const (
	// EdDSA is Ed25519 (RFC 9053 §2.2), verified by the cofactored equation
	// with the decoding rules of ZIP-215.
	EdDSA Algorithm = -8
	// ES256 is ECDSA on P-256 with SHA-256 (RFC 9053 §2.1), r‖s, s in the
	// lower half of the order.
	ES256 Algorithm = -7
	// SM2SM3 is SM2 with SM3 (GB/T 32918.2), r‖s, signer ID 1234567812345678.
	// IANA has no number for it: private use.
	SM2SM3 Algorithm = -70100
)

// String returns the name used in reports and metrics.
func (a Algorithm) String() string {
	switch a {
	case EdDSA:
		return "Ed25519"
	case ES256:
		return "ES256"
	case SM2SM3:
		return "SM2-with-SM3"
	}
	return fmt.Sprintf("algorithm %d", int64(a))
}

// SignatureSize is the length in bytes of every raw signature.
const SignatureSize = 64

// The one accepted encoding of each kind of SubjectPublicKeyInfo: these bytes,
// then the key (RFC 8410 §4; RFC 5480 §2 with a named curve and an uncompressed
// point; GB/T 35276).
var (
	spkiEd25519 = []byte{0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00}
	spkiP256    = []byte{0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00}
	spkiSM2     = []byte{0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x81, 0x1c, 0xcf, 0x55, 0x01, 0x82, 0x2d, 0x03, 0x42, 0x00}
)

// ErrBadSignature says that a signature is not the key's over these bytes.
var ErrBadSignature = errors.New("the signature does not verify under this key")

// PublicKey is a verification key that passed every enrolment check: it is on
// its curve, in the one accepted encoding, and (Ed25519) canonical, of large
// order and without torsion.
type PublicKey struct {
	alg Algorithm
	der []byte
	kid Digest
	ec  *ecdsa.PublicKey // ES256 and SM2SM3
}

// ParsePublicKey reads a DER SubjectPublicKeyInfo in its one accepted form.
func ParsePublicKey(der []byte) (*PublicKey, error) {
	k := &PublicKey{der: bytes.Clone(der), kid: sha256.Sum256(der)}
	switch {
	case len(der) == len(spkiEd25519)+32 && bytes.HasPrefix(der, spkiEd25519):
		k.alg = EdDSA
		if err := checkEd25519(der[len(spkiEd25519):]); err != nil {
			return nil, err
		}
		return k, nil
	case len(der) == len(spkiP256)+65 && bytes.HasPrefix(der, spkiP256):
		k.alg = ES256
		pub, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), der[len(spkiP256):])
		if err != nil {
			return nil, fmt.Errorf("P-256 key: %w", err)
		}
		k.ec = pub
		return k, nil
	case len(der) == len(spkiSM2)+65 && bytes.HasPrefix(der, spkiSM2):
		k.alg = SM2SM3
		pub, err := sm2.NewPublicKey(der[len(spkiSM2):])
		if err != nil {
			return nil, fmt.Errorf("SM2 key: %w", err)
		}
		k.ec = pub
		return k, nil
	}
	return nil, errors.New("not an Ed25519, P-256 or SM2 SubjectPublicKeyInfo in minimal DER with a named curve and an uncompressed point")
}

// NewEd25519Key wraps 32 raw bytes.
func NewEd25519Key(raw []byte) (*PublicKey, error) {
	if len(raw) != 32 {
		return nil, fmt.Errorf("an Ed25519 key has 32 bytes, not %d", len(raw))
	}
	return ParsePublicKey(append(bytes.Clone(spkiEd25519), raw...))
}

// ParsePublicKeyPEM reads one "PUBLIC KEY" block and nothing after it.
func ParsePublicKeyPEM(text []byte) (*PublicKey, error) {
	block, rest := pem.Decode(text)
	if block == nil || block.Type != "PUBLIC KEY" {
		return nil, errors.New(`no PEM block "PUBLIC KEY" found`)
	}
	if len(bytes.TrimSpace(rest)) != 0 {
		return nil, errors.New("something follows the PEM block")
	}
	return ParsePublicKey(block.Bytes)
}

// checkEd25519 refuses the keys with which a signer could play tricks: a
// non-canonical encoding (one key, two kids), a small-order point (signs
// anything) and a torsion component (strict and cofactored checks differ).
func checkEd25519(raw []byte) error {
	var c curve.CompressedEdwardsY
	copy(c[:], raw)
	if !c.IsCanonicalVartime() {
		return errors.New("Ed25519 key is not in canonical encoding")
	}
	var p curve.EdwardsPoint
	if _, err := p.SetCompressedY(&c); err != nil {
		return errors.New("Ed25519 key is not a point of the curve")
	}
	if p.IsSmallOrder() {
		return errors.New("Ed25519 key has small order")
	}
	if !p.IsTorsionFree() {
		return errors.New("Ed25519 key has a torsion component")
	}
	return nil
}

// Algorithm returns the one algorithm this key signs with.
func (k *PublicKey) Algorithm() Algorithm { return k.alg }

// KID returns the key's name everywhere: SHA-256 of its SubjectPublicKeyInfo.
func (k *PublicKey) KID() Digest { return k.kid }

// DER returns the SubjectPublicKeyInfo. The caller must not change it.
func (k *PublicKey) DER() []byte { return k.der }

// PEM returns the SubjectPublicKeyInfo as a "PUBLIC KEY" block.
func (k *PublicKey) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: k.der})
}

// Raw returns the 32 bytes of an Ed25519 key, or the 65 bytes of the
// uncompressed point of the others.
func (k *PublicKey) Raw() []byte {
	if k.alg == EdDSA {
		return k.der[len(spkiEd25519):]
	}
	return k.der[len(spkiP256):]
}

// Equal reports whether both are the same key.
func (k *PublicKey) Equal(o *PublicKey) bool { return o != nil && k.kid == o.kid }

// Verify checks a raw 64-byte signature over message. It returns
// ErrBadSignature, possibly wrapped with the reason.
func (k *PublicKey) Verify(message, signature []byte) error {
	if len(signature) != SignatureSize {
		return fmt.Errorf("%w: it has %d bytes, not %d", ErrBadSignature, len(signature), SignatureSize)
	}
	if k.alg == EdDSA {
		if !ed25519.VerifyWithOptions(k.Raw(), message, signature, &ed25519.Options{Verify: ed25519.VerifyOptionsZIP_215}) {
			return ErrBadSignature
		}
		return nil
	}
	r, s := new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])
	if k.alg == ES256 {
		if s.Cmp(halfOrderP256()) > 0 {
			return fmt.Errorf("%w: s is not in the lower half of the order", ErrBadSignature)
		}
		hash := sha256.Sum256(message)
		if !ecdsa.Verify(k.ec, hash[:], r, s) {
			return ErrBadSignature
		}
		return nil
	}
	hash, err := sm2.CalculateSM2Hash(k.ec, message, nil)
	if err != nil || !sm2.Verify(k.ec, hash, r, s) {
		return ErrBadSignature
	}
	return nil
}

// VerifyStrict is Verify by the strictest reading (RFC 8032 §5.1.7 without the
// cofactor, canonical encodings). It differs from Verify only for an Ed25519
// signature that its own signer made on purpose to be read in two ways.
func (k *PublicKey) VerifyStrict(message, signature []byte) error {
	if err := k.Verify(message, signature); err != nil {
		return err
	}
	if k.alg == EdDSA && !ed25519.VerifyWithOptions(k.Raw(), message, signature, &ed25519.Options{Verify: ed25519.VerifyOptionsStdLib}) {
		return fmt.Errorf("%w by the strict rule of RFC 8032, although it does by the cofactored one", ErrBadSignature)
	}
	return nil
}

func halfOrderP256() *big.Int {
	return new(big.Int).Rsh(elliptic.P256().Params().N, 1)
}
