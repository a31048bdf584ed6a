package evidence

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
)

// ActDeposit is the kind of act of a manifest that names none.
const ActDeposit = "deposit"

// Act says what a deposit does where it is more than keeping files, and how the
// person behind it confirmed just that. spec/manifest.md, part 3.
type Act struct {
	Kind    string     `json:"kind"`              // 1 to 32 of a-z and '-', from a letter: deposit, record, sign, file, submit, grant, settle, revoke, recover…
	Passkey *Assertion `json:"passkey,omitempty"` // how she confirmed it
}

// Assertion is what a passkey signed (WebAuthn Level 3 §5.8, an assertion): the
// challenge in it is the manifest's ActDigest. The texts are base64url without
// padding. evidence/webauthn checks it.
type Assertion struct {
	KID               Digest `json:"kid"` // of the passkey's key, which a TypePasskey statement binds to a member
	AuthenticatorData string `json:"authenticator_data"`
	ClientData        string `json:"client_data"` // the JSON that the browser made
	Signature         string `json:"signature"`
}

// Limits of an assertion in bytes, before base64url.
const (
	// maxAuthenticatorData: 37 bytes, and extensions that no authenticator we
	// know of fills by a tenth.
	maxAuthenticatorData = 2048
	// maxClientData: the challenge, and an origin of up to 253 characters twice.
	maxClientData = 4096
	// maxAssertionSignature: Ed25519 has 64 bytes, ECDSA on P-256 in DER 72 at most.
	maxAssertionSignature = 128
)

// actLabel separates challenges from every other use of SHA-256.
const actLabel = "zhenglian act v1\x00"

// Kind returns what the deposit does: ActDeposit unless the manifest says more.
func (m *Manifest) Kind() string {
	if m.Act == nil {
		return ActDeposit
	}
	return m.Act.Kind
}

// ActDigest returns the WebAuthn challenge with which a passkey confirms this
// manifest: SHA-256 over "zhenglian act v1", a zero byte and the manifest's
// canonical bytes without act.passkey. The manifest must name an act and be
// valid; errors are *FieldError.
func (m *Manifest) ActDigest() (Digest, error) {
	if m.Act == nil {
		return Digest{}, &FieldError{"$.act", "required", "the manifest names no act that a passkey could confirm", "set act.kind first", nil}
	}
	plain := *m
	plain.Act = &Act{Kind: m.Act.Kind}
	data, err := plain.Encode()
	if err != nil {
		return Digest{}, err
	}
	return sha256.Sum256(append([]byte(actLabel), data...)), nil
}

func (a *Act) validate(path string) error {
	if !isActKind(a.Kind) {
		return &FieldError{path + ".kind", "act-kind", fmt.Sprintf("%.40q is no kind of act", a.Kind), "use 1 to 32 of a-z and '-', beginning with a letter, such as sign", nil}
	}
	if a.Passkey == nil {
		return nil
	}
	if a.Passkey.KID.IsZero() {
		return &FieldError{path + ".passkey.kid", "required", "the passkey's kid is all zeros", "take it from the passkey's registration", nil}
	}
	for _, f := range []struct {
		name, text string
		limit      int
	}{
		{".authenticator_data", a.Passkey.AuthenticatorData, maxAuthenticatorData},
		{".client_data", a.Passkey.ClientData, maxClientData},
		{".signature", a.Passkey.Signature, maxAssertionSignature},
	} {
		raw, err := decodeBase64URL(f.text)
		if err != nil || len(raw) == 0 || len(raw) > f.limit {
			return &FieldError{path + ".passkey" + f.name, "base64url", fmt.Sprintf("it is not 1 to %d bytes in base64url without padding", f.limit), "write the browser's answer as it is", err}
		}
	}
	return nil
}

// Bytes returns what the browser gave: authenticator data, client data and
// signature. The error says which text is no base64url without padding.
func (a *Assertion) Bytes() (authenticatorData, clientData, signature []byte, err error) {
	for _, f := range []struct {
		name, text string
		to         *[]byte
	}{{"authenticator data", a.AuthenticatorData, &authenticatorData}, {"client data", a.ClientData, &clientData}, {"signature", a.Signature, &signature}} {
		if *f.to, err = decodeBase64URL(f.text); err != nil {
			return nil, nil, nil, fmt.Errorf("%s: %w", f.name, err)
		}
	}
	return authenticatorData, clientData, signature, nil
}

// decodeBase64URL reads RFC 4648 §5 without padding, in its one form.
func decodeBase64URL(s string) ([]byte, error) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err == nil && base64.RawURLEncoding.EncodeToString(raw) != s {
		err = fmt.Errorf("it is not base64url without padding")
	}
	return raw, err
}

func isActKind(s string) bool {
	if s == "" || len(s) > 32 || s[0] == '-' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !(c >= 'a' && c <= 'z' || c == '-') {
			return false
		}
	}
	return true
}
