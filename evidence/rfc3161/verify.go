package rfc3161

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"
)

// DemonstrationPolicy is the policy of tokens that a demonstration's authority
// issues. All of 2.999 is the arc that ITU-T X.660 reserves for examples: no
// policy under it is anybody's.
const DemonstrationPolicy = "2.999.3161.1"

// IsDemonstration reports whether a policy is in the arc for examples.
func IsDemonstration(policy string) bool {
	return policy == "2.999" || strings.HasPrefix(policy, "2.999.")
}

// Code says what is wrong with a token.
type Code string

const (
	CodeMalformed   Code = "malformed"       // not a token of RFC 3161, or one that could be read in two ways
	CodeAlgorithm   Code = "wrong-algorithm" // signed in a way that is not accepted
	CodeImprint     Code = "wrong-imprint"   // over other bytes
	CodeCertificate Code = "certificate"     // the signer's certificate is missing, or not one for timestamps
	CodeSignature   Code = "bad-signature"
	CodeValidity    Code = "not-valid-then" // the certificate was not valid at the token's time
	CodeUntrusted   Code = "untrusted"      // no anchor leads to the certificate
)

// Error is why a token is not accepted.
type Error struct {
	Code   Code
	Reason string
}

func (e *Error) Error() string { return "timestamp token: " + e.Reason }

func refuse(code Code, format string, args ...any) error {
	return &Error{Code: code, Reason: fmt.Sprintf(format, args...)}
}

// Trust says whose tokens count. It comes from the verifier's policy. The zero
// value trusts nobody.
type Trust struct {
	// Anchors are root certificates, or authorities' own certificates.
	Anchors []*x509.Certificate
	// Keys are pinned authorities: SHA-256 of a SubjectPublicKeyInfo (KeyID). A
	// CA's key does not count here: its certificate would come from the token.
	Keys [][32]byte
	// Certificates help to build chains and are not trusted: those that a
	// package carries beside its tokens.
	Certificates []*x509.Certificate
}

// KeyID returns what Trust.Keys pins: SHA-256 of the SubjectPublicKeyInfo.
func KeyID(cert *x509.Certificate) [32]byte { return sha256.Sum256(cert.RawSubjectPublicKeyInfo) }

// Info is what a token says.
type Info struct {
	Time      time.Time     // genTime, UTC
	Accuracy  time.Duration // on either side of Time; 0 when the authority does not state one
	Serial    *big.Int      // up to 160 bits
	Policy    string        // object identifier, dotted
	Nonce     *big.Int      // nil when there is none
	Authority string        // subject of the authority's certificate, RFC 2253
	Demo      bool          // issued under a policy of the arc for examples
	// Chain is the authority's certificate and those up to the anchor; the
	// certificate alone when its key is pinned or no anchor was reached.
	Chain []*x509.Certificate
	// Algorithms that its word rests on, sorted: digests as SHA-256, keys as
	// RSA-3072 or ECDSA-P256.
	Algorithms []string
}

// Earliest returns the time before which the token was not made.
func (i *Info) Earliest() time.Time { return i.Time.Add(-i.Accuracy) }

// Latest returns the time after which the token was not made, and with it that
// after which the imprint did not come into being. Where no accuracy is stated
// it is Time, and the reader must say so.
func (i *Info) Latest() time.Time { return i.Time.Add(i.Accuracy) }

// Verify checks a token (DER) over an imprint, SHA-256, at the token's own time:
// a certificate that has expired since is good. Errors are *Error. With
// CodeUntrusted and CodeValidity the Info is complete all the same, and its
// signature verified: what it says is consistent, and nobody vouches for it.
//
// Revocation and broken algorithms are the verifier's to say: Info.Holds.
func Verify(der []byte, imprint [32]byte, trust Trust) (Info, error) {
	return VerifyDigest(der, crypto.SHA256, imprint[:], trust)
}

// VerifyDigest is Verify for a token over another of the three digest algorithms,
// which authorities issue and packages do not carry.
func VerifyDigest(der []byte, hash crypto.Hash, imprint []byte, trust Trust) (Info, error) {
	t, err := parse(der)
	if err != nil {
		return Info{}, err
	}
	if a := t.info.Imprint.Algorithm.Algorithm; hash == 0 || digest(a) != hash {
		return Info{}, refuse(CodeImprint, "the imprint is made with digest algorithm %s, want %s", a, hash)
	}
	if !bytes.Equal(t.info.Imprint.Digest, imprint) {
		return Info{}, refuse(CodeImprint, "the token is over %x, not over %x", t.info.Imprint.Digest, imprint)
	}
	cert, err := t.verifySignature(trust)
	if err != nil {
		return Info{}, err
	}
	info := Info{
		Time: t.info.Time, Accuracy: t.accuracy, Serial: t.info.Serial, Policy: t.policy, Nonce: t.info.Nonce,
		Authority: cert.Subject.String(), Demo: IsDemonstration(t.policy), Chain: []*x509.Certificate{cert},
	}
	if info.Time.Before(cert.NotBefore) || info.Time.After(cert.NotAfter) {
		return info, refuse(CodeValidity, "the token is of %s; the authority's certificate is valid from %s to %s",
			info.Time.Format(time.RFC3339), cert.NotBefore.UTC().Format(time.RFC3339), cert.NotAfter.UTC().Format(time.RFC3339))
	}
	info.Algorithms = algorithms(t, info.Chain)
	if slices.Contains(trust.Keys, KeyID(cert)) {
		return info, nil
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	for _, c := range trust.Anchors {
		roots.AddCert(c)
	}
	for _, c := range slices.Concat(t.certificates, trust.Certificates) {
		between.AddCert(c)
	}
	chains, err := cert.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, CurrentTime: info.Time, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageTimeStamping},
	})
	if err != nil {
		return info, refuse(CodeUntrusted, "no chain from %s to a trusted authority at %s: %v", info.Authority, info.Time.Format(time.RFC3339), err)
	}
	info.Chain = chains[0]
	info.Algorithms = algorithms(t, info.Chain)
	return info, nil
}

// verifySignature finds the certificate that the signature names, among those in
// the token and those at hand, and checks the signature with it.
func (t *token) verifySignature(trust Trust) (*x509.Certificate, error) {
	var cert *x509.Certificate
	for _, c := range slices.Concat(t.certificates, trust.Certificates, trust.Anchors) {
		if t.names(c) {
			cert = c
			break
		}
	}
	if cert == nil {
		return nil, refuse(CodeCertificate, "the authority's certificate is neither in the token nor at hand")
	}
	if err := CheckCertificate(cert); err != nil {
		return nil, err
	}
	t.cms.Certificates = []*x509.Certificate{cert}
	if err := t.cms.Verify(); err != nil {
		return nil, refuse(CodeSignature, "the signature does not verify with the certificate of %s: %v", cert.Subject, err)
	}
	return cert, nil
}

// CheckCertificate reports whether a certificate may sign tokens: extended key
// usage timeStamping, alone and critical (RFC 3161 §2.3), no CA, and an RSA key
// of 2048 bits or more or an ECDSA key on a NIST curve. Errors are *Error.
func CheckCertificate(cert *x509.Certificate) error {
	if len(cert.ExtKeyUsage) != 1 || cert.ExtKeyUsage[0] != x509.ExtKeyUsageTimeStamping || len(cert.UnknownExtKeyUsage) != 0 {
		return refuse(CodeCertificate, "the certificate of %s is not one for timestamps alone", cert.Subject)
	}
	for _, e := range cert.Extensions {
		if e.Id.String() == oidExtendedKeyUsage && !e.Critical {
			return refuse(CodeCertificate, "the certificate of %s does not mark its use for timestamps as critical", cert.Subject)
		}
	}
	if cert.IsCA {
		return refuse(CodeCertificate, "the certificate of %s is a certification authority's", cert.Subject)
	}
	// OpenSSL asks for the same: one of these two, and no other.
	signs := x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment
	if cert.KeyUsage != 0 && (cert.KeyUsage&signs == 0 || cert.KeyUsage&^signs != 0) {
		return refuse(CodeCertificate, "the key usage of the certificate of %s is not that of a timestamp authority", cert.Subject)
	}
	switch key := cert.PublicKey.(type) {
	case *rsa.PublicKey:
		if key.N.BitLen() < 2048 {
			return refuse(CodeAlgorithm, "the authority's RSA key has %d bits, fewer than 2048", key.N.BitLen())
		}
	case *ecdsa.PublicKey:
		if key.Curve != elliptic.P256() && key.Curve != elliptic.P384() && key.Curve != elliptic.P521() {
			return refuse(CodeAlgorithm, "the authority's ECDSA key is on curve %s", key.Curve.Params().Name)
		}
	default:
		return refuse(CodeAlgorithm, "the authority's key is neither RSA nor ECDSA, and common tools cannot check its tokens")
	}
	return nil
}
