package court

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jws"

	"github.com/zhenglian/zhenglian/evidence"
)

// TypeDocument is the document's media type, the JWS's "cty".
const TypeDocument = "application/vnd.zhenglian.evidence-chain+json"

// Attester is the court's attestation key: Ed25519 or P-256.
type Attester interface {
	Public() *evidence.PublicKey
	Private() crypto.Signer
}

// Sign returns the detached signature of a document's bytes: a JWS in flattened
// JSON serialization (RFC 7515 §7.2.2, appendix F), EdDSA (RFC 8037) or ES256,
// with the key's kid. A JWS signs base64url text and a COSE structure CBOR, so
// that no signature by this key can pass for one of the other kind.
func Sign(document []byte, key Attester) ([]byte, error) {
	alg, err := algorithm(key.Public())
	if err != nil {
		return nil, err
	}
	h := jws.NewHeaders()
	for name, value := range map[string]string{
		jws.KeyIDKey: key.Public().KID().String(), jws.TypeKey: "JOSE+JSON", jws.ContentTypeKey: TypeDocument} {
		if err := h.Set(name, value); err != nil {
			return nil, fmt.Errorf("signing the evidence chain: %w", err)
		}
	}
	sig, err := jws.Sign(nil, jws.WithJSON(), jws.WithDetachedPayload(document), jws.WithKey(alg, key.Private(), jws.WithProtectedHeaders(h)))
	if err != nil {
		return nil, fmt.Errorf("signing the evidence chain: %w", err)
	}
	return append(bytes.TrimSpace(sig), '\n'), nil
}

func algorithm(key *evidence.PublicKey) (jwa.SignatureAlgorithm, error) {
	switch key.Algorithm() {
	case evidence.EdDSA:
		return jwa.EdDSA(), nil
	case evidence.ES256:
		return jwa.ES256(), nil
	}
	return jwa.NoSignature(), fmt.Errorf("an evidence chain is signed with Ed25519 or P-256, not %s", key.Algorithm())
}

// VerifyDocument checks the detached signature with the court's attestation key
// and reads the document. Exactly one signature, by this key and its algorithm;
// nothing outside the protected header; no extension.
func VerifyDocument(document, signature []byte, key *evidence.PublicKey) (*Document, error) {
	alg, err := algorithm(key)
	if err != nil {
		return nil, err
	}
	var flat struct {
		Protected string `json:"protected"`
		Signature string `json:"signature"`
	}
	dec := json.NewDecoder(bytes.NewReader(signature))
	dec.DisallowUnknownFields() // no payload, no unprotected header, no second signature
	if err := dec.Decode(&flat); err != nil || dec.More() {
		return nil, errors.Join(errors.New("the signature is not a JWS with one signature and a detached payload"), err)
	}
	public, err := x509.ParsePKIXPublicKey(key.DER())
	if err != nil {
		return nil, fmt.Errorf("reading the court's key: %w", err)
	}
	if _, err := jws.Verify(signature, jws.WithJSON(), jws.WithKey(alg, public), jws.WithDetachedPayload(document), jws.WithCritValidation(true)); err != nil {
		return nil, fmt.Errorf("%w: %w", evidence.ErrBadSignature, err)
	}
	m, err := jws.Parse(signature, jws.WithJSON())
	if err != nil || len(m.Signatures()) != 1 {
		return nil, errors.Join(errors.New("the signature is not a JWS with one signature"), err)
	}
	h := m.Signatures()[0].ProtectedHeaders()
	if kid, _ := h.KeyID(); kid != key.KID().String() {
		return nil, fmt.Errorf("%w: it names key %q", evidence.ErrBadSignature, kid)
	}
	if cty, _ := h.ContentType(); cty != TypeDocument {
		return nil, fmt.Errorf("%w: it is over a %q", evidence.ErrBadSignature, cty)
	}
	return ParseDocument(document)
}
