//go:build js && wasm

package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"

	"github.com/zhenglian/zhenglian/evidence"
)

// callbackSigner signs through a function that WebCrypto stands behind. What
// comes back is raw: 64 bytes of Ed25519, or r‖s of ECDSA on P-256 with SHA-256
// (Web Cryptography API §23.7), in which s may be in the upper half.
type callbackSigner struct {
	public *evidence.PublicKey
	sign   func(message []byte) ([]byte, error)
}

func newCallbackSigner(spki []byte, sign func([]byte) ([]byte, error)) (*callbackSigner, error) {
	public, err := evidence.ParsePublicKey(spki)
	if err != nil {
		return nil, inputError("reading the public key: %v", err)
	}
	if a := public.Algorithm(); a != evidence.EdDSA && a != evidence.ES256 {
		return nil, inputError("a browser signs with Ed25519 or P-256, not with %s", a)
	}
	return &callbackSigner{public, sign}, nil
}

// Public implements evidence.Signer.
func (s *callbackSigner) Public() *evidence.PublicKey { return s.public }

// Sign implements evidence.Signer.
func (s *callbackSigner) Sign(message []byte) ([]byte, error) {
	sig, err := s.sign(message)
	if err != nil {
		return nil, err
	}
	if len(sig) != evidence.SignatureSize {
		return nil, fmt.Errorf("the browser gave a signature of %d bytes, want %d", len(sig), evidence.SignatureSize)
	}
	if s.public.Algorithm() == evidence.ES256 {
		sig = lowS(sig)
	}
	return sig, nil
}

// lowS brings s of a raw r‖s on P-256 into the lower half of the order, which
// the chain asks for (spec/statement.md): both halves verify elsewhere.
func lowS(sig []byte) []byte {
	n := elliptic.P256().Params().N
	s := new(big.Int).SetBytes(sig[32:])
	if s.Cmp(new(big.Int).Rsh(n, 1)) <= 0 || s.Cmp(n) >= 0 {
		return sig
	}
	out := append([]byte{}, sig...)
	s.Sub(n, s).FillBytes(out[32:])
	return out
}

// messageSigner is the same key for package x509, which takes a
// crypto.MessageSigner: WebCrypto hashes by itself and signs no digest.
type messageSigner struct {
	signer *callbackSigner
	public crypto.PublicKey
}

func newMessageSigner(s *callbackSigner) (*messageSigner, error) {
	if s.public.Algorithm() == evidence.EdDSA {
		return &messageSigner{s, ed25519.PublicKey(s.public.Raw())}, nil
	}
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), s.public.Raw())
	if err != nil {
		return nil, fmt.Errorf("reading the point: %w", err)
	}
	return &messageSigner{s, key}, nil
}

func (m *messageSigner) Public() crypto.PublicKey { return m.public }

func (m *messageSigner) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("this key signs messages, not their digests")
}

// SignMessage implements crypto.MessageSigner.
func (m *messageSigner) SignMessage(_ io.Reader, message []byte, _ crypto.SignerOpts) ([]byte, error) {
	sig, err := m.signer.Sign(message)
	if err != nil || m.signer.public.Algorithm() == evidence.EdDSA {
		return sig, err
	}
	return asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])})
}

// certificateRequest makes a PKCS #10 request (RFC 2986) for the key.
func certificateRequest(s *callbackSigner, name string) ([]byte, error) {
	m, err := newMessageSigner(s)
	if err != nil {
		return nil, err
	}
	if name == "" {
		return nil, inputError("a certificate request needs a name")
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: name}}, m)
	if err != nil {
		return nil, fmt.Errorf("making the certificate request: %w", err)
	}
	made, err := x509.ParseCertificateRequest(der)
	if err == nil {
		err = made.CheckSignature()
	}
	if err != nil {
		return nil, fmt.Errorf("checking the certificate request: %w", err)
	}
	return der, nil
}

func requestPEM(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}
