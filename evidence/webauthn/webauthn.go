// Package webauthn checks that a passkey confirmed one act: the assertion that
// stands in a manifest (WebAuthn Level 3 §7.2, without the steps that need a
// server's memory).
//
//	manifest ──► ActDigest = challenge ─┐
//	passkey statement ──► key, RP ID ───┼─► Check ──► nil, or why not
//	manifest's act.passkey ─────────────┘
//
// It is pure: no clock, no network, no state. It trusts nobody: not the
// browser's JSON, which only counts because the signature covers it, and not
// the authenticator's counter, which nothing here remembers. What it cannot
// know: which person held the device, and whether the authenticator's word on
// user verification is true; no attestation is looked at.
package webauthn

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/zhenglian/zhenglian/evidence"
)

// Error says which step of the procedure an assertion fails at. Code is a
// stable word for reports and vectors.
type Error struct {
	Code   string // encoding, client-data, type, challenge, origin, cross-origin, authenticator-data, relying-party, user-present, user-verified, key, signature
	Reason string
}

func (e *Error) Error() string { return "passkey assertion: " + e.Code + ": " + e.Reason }

func refuse(code, format string, args ...any) error {
	return &Error{code, fmt.Sprintf(format, args...)}
}

// Bits of the authenticator data's flags, WebAuthn Level 3 §6.1.
const (
	flagUP = 1 << 0 // user present
	flagUV = 1 << 2 // user verified
	flagBE = 1 << 3 // backup eligible
	flagBS = 1 << 4 // backed up
	flagAT = 1 << 6 // attested credential data, which no assertion has
	flagED = 1 << 7 // extensions
)

// Check returns nil when the key signed exactly this challenge as an assertion
// for the relying party, with the user present and verified and no other site's
// frame between. Errors are *Error; they do not wrap what bad bytes say.
func Check(a *evidence.Assertion, key *evidence.PublicKey, challenge evidence.Digest, relyingParty string) error {
	if a == nil || key == nil {
		return refuse("encoding", "there is no assertion, or no key")
	}
	authData, clientData, signature, err := a.Bytes()
	if err != nil {
		return refuse("encoding", "%v", err)
	}
	if key.KID() != a.KID {
		return refuse("key", "the assertion names another key")
	}
	// Steps 10 to 14: what the browser says it was asked.
	c, err := parseClientData(clientData)
	if err != nil {
		return err
	}
	switch {
	case c.Type != "webauthn.get":
		return refuse("type", "it is of type %.40q, not webauthn.get", c.Type)
	case c.Challenge != base64.RawURLEncoding.EncodeToString(challenge[:]):
		return refuse("challenge", "another challenge was signed than the digest of this act")
	case c.CrossOrigin || c.TopOrigin != "":
		return refuse("cross-origin", "it was asked for from within a page of another origin")
	}
	if err := checkOrigin(c.Origin, relyingParty); err != nil {
		return err
	}
	// Steps 15 to 20: what the authenticator says.
	if err := checkAuthenticatorData(authData, relyingParty); err != nil {
		return err
	}
	// Steps 21 and 22.
	hash := sha256.Sum256(clientData)
	return checkSignature(key, append(bytes.Clone(authData), hash[:]...), signature)
}

// clientData is CollectedClientData, WebAuthn Level 3 §5.8.1.
type clientData struct {
	Type        string
	Challenge   string
	Origin      string
	CrossOrigin bool
	TopOrigin   string
}

// parseClientData reads the JSON that the browser made. Members that we do not
// know are passed over, as §5.8.1 asks; one that stands twice is refused, since
// two readers could then read two things.
func parseClientData(data []byte) (c clientData, err error) {
	bad := func(format string, args ...any) (clientData, error) {
		return clientData{}, refuse("client-data", format, args...)
	}
	if !utf8.Valid(data) {
		return bad("it is not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(data))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return bad("it is no JSON object")
	}
	into := map[string]any{"type": &c.Type, "challenge": &c.Challenge, "origin": &c.Origin, "crossOrigin": &c.CrossOrigin, "topOrigin": &c.TopOrigin}
	seen := map[string]bool{}
	for d.More() {
		t, err := d.Token()
		name, ok := t.(string)
		if err != nil || !ok {
			return bad("it is no JSON object")
		}
		if seen[name] {
			return bad("a member stands in it twice: %.40q", name)
		}
		seen[name] = true
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return bad("it is no JSON object")
		}
		if to, known := into[name]; known {
			if bytes.Equal(value, []byte("null")) || json.Unmarshal(value, to) != nil {
				return bad("its member %s is of another type", name)
			}
		}
	}
	if t, err := d.Token(); err != nil || t != json.Delim('}') {
		return bad("it ends early")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return bad("something follows it")
	}
	for _, name := range []string{"type", "challenge", "origin"} {
		if !seen[name] {
			return bad("its member %s is missing", name)
		}
	}
	return c, nil
}

// checkOrigin: the page was the relying party's (WebAuthn Level 3 §5.1.3: its
// host is the RP ID or under it), in a secure context.
func checkOrigin(origin, relyingParty string) error {
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" || u.Scheme+"://"+u.Host != origin {
		return refuse("origin", "%.100q is no origin", origin)
	}
	host := u.Hostname()
	if host != relyingParty && !strings.HasSuffix(host, "."+relyingParty) {
		return refuse("origin", "the page was %.100q, not one of %s", origin, relyingParty)
	}
	local := host == "localhost" || strings.HasSuffix(host, ".localhost")
	if u.Scheme != "https" && !(u.Scheme == "http" && local) {
		return refuse("origin", "the page %.100q was not fetched securely", origin)
	}
	return nil
}

func checkAuthenticatorData(data []byte, relyingParty string) error {
	const head = 37 // rpIdHash, flags, signCount
	if len(data) < head {
		return refuse("authenticator-data", "it has %d bytes, fewer than 37", len(data))
	}
	if want := sha256.Sum256([]byte(relyingParty)); !bytes.Equal(data[:32], want[:]) {
		return refuse("relying-party", "it was made for another site than %s", relyingParty)
	}
	flags := data[32]
	switch {
	case flags&flagUP == 0:
		return refuse("user-present", "nobody was at the device")
	case flags&flagUV == 0:
		return refuse("user-verified", "the device did not verify its user")
	case flags&flagBS != 0 && flags&flagBE == 0:
		return refuse("authenticator-data", "the key is said to be backed up and not to be eligible for it")
	case flags&flagAT != 0:
		return refuse("authenticator-data", "it is of a registration, not of an assertion")
	case flags&flagED == 0 && len(data) != head:
		return refuse("authenticator-data", "%d bytes follow its end", len(data)-head)
	case flags&flagED != 0:
		rest := data[head:]
		if len(rest) == 0 || rest[0]>>5 != 5 {
			return refuse("authenticator-data", "its extensions are no CBOR map")
		}
		if n, ok := skip(rest, 0); !ok || n != len(rest) {
			return refuse("authenticator-data", "its extensions are not one well-formed CBOR map")
		}
	}
	return nil
}

// maxDepth of extensions: CTAP 2.2 §8 allows messages nested four deep.
const maxDepth = 4

// skip returns the length of the CBOR item at the start of b. Lengths are
// definite, as CTAP2 has them (CTAP 2.2 §8).
func skip(b []byte, depth int) (n int, ok bool) {
	if len(b) == 0 || depth > maxDepth {
		return 0, false
	}
	major, info := b[0]>>5, b[0]&31
	arg, n := uint64(info), 1
	if info > 27 {
		return 0, false
	}
	if info >= 24 {
		size := 1 << (info - 24)
		if len(b) < 1+size {
			return 0, false
		}
		arg = 0
		for _, x := range b[1 : 1+size] {
			arg = arg<<8 | uint64(x)
		}
		n += size
	}
	items := uint64(0)
	switch major {
	case 2, 3:
		if arg > uint64(len(b)-n) {
			return 0, false
		}
		return n + int(arg), true
	case 4:
		items = arg
	case 5:
		if arg > uint64(len(b)) {
			return 0, false
		}
		items = 2 * arg
	case 6:
		items = 1
	}
	for ; items > 0; items-- { // ends with the bytes: each item takes one at least
		m, ok := skip(b[n:], depth+1)
		if !ok {
			return 0, false
		}
		n += m
	}
	return n, true
}

// checkSignature: ES256 in DER (WebAuthn Level 3 §6.5.5), in which s may be high,
// as authenticators make it; Ed25519 as 64 bytes.
func checkSignature(key *evidence.PublicKey, message, signature []byte) error {
	switch key.Algorithm() {
	case evidence.EdDSA:
		if key.VerifyStrict(message, signature) != nil {
			return refuse("signature", "it is not this key's signature")
		}
	case evidence.ES256:
		pub, err := x509.ParsePKIXPublicKey(key.DER())
		ec, ok := pub.(*ecdsa.PublicKey)
		if err != nil || !ok {
			return refuse("key", "the key cannot be read")
		}
		hash := sha256.Sum256(message)
		if !ecdsa.VerifyASN1(ec, hash[:], signature) {
			return refuse("signature", "it is not this key's signature")
		}
	default:
		return refuse("key", "a passkey is an Ed25519 or a P-256 key, not %s", key.Algorithm())
	}
	return nil
}
