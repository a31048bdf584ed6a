package ca

import (
	"bytes"
	"crypto/rand"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"

	"github.com/emmansun/gmsm/smx509"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/signing"
)

// MaxRequest bounds a certification request in bytes; usual ones have 300 to 1,000.
const MaxRequest = 16 << 10

// Request is a certification request (PKCS #10, RFC 2986) whose maker proved to
// hold its key. Subject and attributes are not taken from it.
type Request struct {
	Key *evidence.PublicKey
	// Digest is SHA-256 of the CertificationRequestInfo, what was signed. One
	// request gives one certificate, so a renewal needs a request that differs: a
	// subjectAltName with a fresh urn:uuid does (spec/certificate.md).
	Digest evidence.Digest
}

// RequestError says why a certification request is refused.
type RequestError struct {
	Code   RequestCode
	Reason string
}

// RequestCode names a reason, for translation.
type RequestCode string

// The reasons.
const (
	RequestMalformed RequestCode = "malformed" // not one PKCS #10 request in DER or PEM
	RequestBadKey    RequestCode = "bad-key"   // a key that enrolment refuses too
	RequestBadProof  RequestCode = "bad-proof" // not signed by its key, or by an algorithm that is not the key's
)

func (e *RequestError) Error() string { return "the certification request is refused: " + e.Reason }

// ParseRequest reads a request in DER or PEM and checks that its maker holds the
// key, which has to be one that enrolment accepts (evidence.ParsePublicKey).
// Errors are *RequestError.
func ParseRequest(data []byte) (*Request, error) {
	refuse := func(code RequestCode, format string, args ...any) (*Request, error) {
		return nil, &RequestError{code, fmt.Sprintf(format, args...)}
	}
	if len(data) > MaxRequest {
		return refuse(RequestMalformed, "it has %d bytes, more than %d", len(data), MaxRequest)
	}
	der := data
	if block, rest := pem.Decode(data); block != nil {
		if block.Type != "CERTIFICATE REQUEST" && block.Type != "NEW CERTIFICATE REQUEST" || len(bytes.TrimSpace(rest)) != 0 {
			return refuse(RequestMalformed, "it is not one PEM block CERTIFICATE REQUEST")
		}
		der = block.Bytes
	}
	csr, err := smx509.ParseCertificateRequest(der)
	if err != nil {
		return refuse(RequestMalformed, "it is no PKCS #10 request: %v", err)
	}
	key, err := evidence.ParsePublicKey(csr.RawSubjectPublicKeyInfo)
	if err != nil {
		return refuse(RequestBadKey, "its key cannot be certified: %v", err)
	}
	var fits bool
	switch csr.SignatureAlgorithm {
	case smx509.PureEd25519:
		fits = key.Algorithm() == evidence.EdDSA
	case smx509.ECDSAWithSHA256, smx509.ECDSAWithSHA384, smx509.ECDSAWithSHA512:
		fits = key.Algorithm() == evidence.ES256
	case smx509.SM2WithSM3:
		fits = key.Algorithm() == evidence.SM2SM3
	}
	if !fits {
		return refuse(RequestBadProof, "it is signed with %v, which does not fit its %s key", csr.SignatureAlgorithm, key.Algorithm())
	}
	if err := csr.CheckSignature(); err != nil {
		return refuse(RequestBadProof, "its signature does not verify: the request was changed, or its maker does not hold the key")
	}
	return &Request{Key: key, Digest: evidence.SumSHA256(csr.RawTBSCertificateRequest)}, nil
}

// errNotOurs says that a key is none that this institution certifies.
var errNotOurs = errors.New("this institution has enrolled no such key")

// NewRequest makes a request for a key, in DER. common becomes the subject's
// name, which the authority ignores. No two requests are alike: each has a fresh
// urn:uuid (RFC 9562, version 4) as its alternative name.
func NewRequest(key *signing.Key, common string) ([]byte, error) {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails (crypto/rand)
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	fresh := &url.URL{Scheme: "urn", Opaque: fmt.Sprintf("uuid:%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])}
	der, err := smx509.CreateCertificateRequest(rand.Reader, &smx509.CertificateRequest{Subject: pkix.Name{CommonName: common}, URIs: []*url.URL{fresh}}, key.Private())
	if err != nil {
		return nil, fmt.Errorf("signing a certification request: %w", err)
	}
	return der, nil
}
