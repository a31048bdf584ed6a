package signing

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/emmansun/gmsm/sm2"
	"github.com/emmansun/gmsm/smx509"

	"github.com/zhenglian/zhenglian/evidence"
)

// Key is a private key that this process may use. It is an evidence.Signer.
type Key struct {
	evidence.Signer
	private crypto.Signer
}

// NewKey wraps an Ed25519, P-256 or SM2 private key (evidence.NewSigner).
func NewKey(private crypto.Signer) (*Key, error) {
	signer, err := evidence.NewSigner(private)
	if err != nil {
		return nil, err
	}
	return &Key{Signer: signer, private: private}, nil
}

// Private returns the key as the standard library's interfaces want it:
// ed25519.PrivateKey, *ecdsa.PrivateKey or *sm2.PrivateKey; for a token, a
// crypto.Signer of its own. TLS and the consensus engine need it.
func (k *Key) Private() crypto.Signer { return k.private }

// Format writes the algorithm and kid under every verb, so that no log line
// and no error can carry the private part.
func (k *Key) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, k.describe()) }

// LogValue is Format for log/slog.
func (k *Key) LogValue() slog.Value { return slog.StringValue(k.describe()) }

func (k *Key) describe() string {
	if k == nil {
		return "no key"
	}
	return k.Public().Algorithm().String() + " key " + k.Public().KID().String()
}

// Generate makes a key. random is crypto/rand.Reader when nil; the standard
// library draws P-256 keys from its own source whatever random is.
func Generate(alg evidence.Algorithm, random io.Reader) (*Key, error) {
	if random == nil {
		random = rand.Reader
	}
	var private crypto.Signer
	var err error
	switch alg {
	case evidence.EdDSA:
		_, private, err = ed25519.GenerateKey(random)
	case evidence.ES256:
		private, err = ecdsa.GenerateKey(elliptic.P256(), random)
	case evidence.SM2SM3:
		private, err = sm2.GenerateKey(random)
	default:
		return nil, fmt.Errorf("cannot make a key for %s: use Ed25519, ES256 or SM2-with-SM3", alg)
	}
	if err != nil {
		return nil, fmt.Errorf("making a key for %s: %w", alg, err)
	}
	return NewKey(private)
}

// ParseAlgorithm reads the names used on the command line and in
// configuration: ed25519, p256 and sm2.
func ParseAlgorithm(name string) (evidence.Algorithm, error) {
	switch name {
	case "ed25519":
		return evidence.EdDSA, nil
	case "p256":
		return evidence.ES256, nil
	case "sm2":
		return evidence.SM2SM3, nil
	}
	return 0, fmt.Errorf("%q is not an algorithm: use ed25519, p256 or sm2", name)
}

// AlgorithmName is the inverse of ParseAlgorithm.
func AlgorithmName(alg evidence.Algorithm) string {
	switch alg {
	case evidence.EdDSA:
		return "ed25519"
	case evidence.ES256:
		return "p256"
	case evidence.SM2SM3:
		return "sm2"
	}
	return alg.String()
}

const pemPrivateKey = "PRIVATE KEY" // RFC 5958 §5

// EncodePEM returns the key as one unencrypted PKCS#8 block (RFC 5958).
func (k *Key) EncodePEM() ([]byte, error) {
	der, err := smx509.MarshalPKCS8PrivateKey(k.private)
	if err != nil {
		return nil, fmt.Errorf("encoding the private key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemPrivateKey, Bytes: der}), nil
}

// ParsePEM reads what EncodePEM writes. The error never quotes the input.
func ParsePEM(text []byte) (*Key, error) {
	block, rest := pem.Decode(text)
	switch {
	case block == nil:
		return nil, errors.New("there is no PEM block in it")
	case block.Type == "ENCRYPTED PRIVATE KEY":
		return nil, errors.New("PKCS#8 encryption is not supported: convert it with `openssl pkcs8` and protect it with an age passphrase")
	case block.Type != pemPrivateKey:
		return nil, fmt.Errorf("it holds a %q block, want PKCS#8 %q: convert it with `openssl pkcs8 -topk8 -nocrypt`", block.Type, pemPrivateKey)
	case len(rest) != 0:
		return nil, errors.New("something follows the PEM block: one key, one file")
	}
	private, err := smx509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("the PEM block is not a PKCS#8 private key")
	}
	signer, ok := private.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a %T cannot sign", private)
	}
	return NewKey(signer)
}
