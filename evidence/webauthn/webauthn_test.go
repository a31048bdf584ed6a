package webauthn_test

import (
	"crypto/elliptic"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/evidence/webauthn"
	"github.com/zhenglian/zhenglian/evidence/webauthn/webauthntest"
)

const (
	site   = "portal.example"
	origin = "https://portal.example"
)

func text(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func bytesOf(t *testing.T, s string) []byte {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestGenuine(t *testing.T) {
	challenge := evidence.SumSHA256([]byte("this act"))
	for name, auth := range map[string]*webauthntest.Authenticator{"ES256": webauthntest.New(site), "Ed25519": webauthntest.NewEd25519(site)} {
		for _, from := range []string{origin, "https://portal.example:8443", "https://ca.portal.example"} {
			if err := webauthn.Check(auth.Assert(challenge, from, true), auth.Key(), challenge, site); err != nil {
				t.Errorf("%s from %s: %v", name, from, err)
			}
		}
	}
	local := webauthntest.New("localhost")
	if err := webauthn.Check(local.Assert(challenge, "http://localhost:8443", true), local.Key(), challenge, "localhost"); err != nil {
		t.Errorf("on this machine: %v", err)
	}
	auth := webauthntest.New(site)
	// Members that nobody knows, and extensions.
	client := []byte(`{"type":"webauthn.get","challenge":"` + text(challenge[:]) + `","origin":"` + origin + `","crossOrigin":false,"other_keys_can_be_added_here":{"x":[1]}}`)
	data := auth.Data(webauthntest.UP | webauthntest.UV | 1<<7)
	data = append(data, 0xa1, 0x61, 'x', 0x82, 0x01, 0x41, 0x02)
	if err := webauthn.Check(auth.Sign(data, client), auth.Key(), challenge, site); err != nil {
		t.Errorf("extensions: %v", err)
	}
}

// ECDSA in WebAuthn may have either s: an authenticator does not choose.
func TestHighS(t *testing.T) {
	challenge := evidence.SumSHA256([]byte("this act"))
	auth := webauthntest.New(site)
	a := auth.Assert(challenge, origin, true)
	var rs struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(bytesOf(t, a.Signature), &rs); err != nil {
		t.Fatal(err)
	}
	rs.S.Sub(elliptic.P256().Params().N, rs.S)
	der, err := asn1.Marshal(rs)
	if err != nil {
		t.Fatal(err)
	}
	a.Signature = text(der)
	if err := webauthn.Check(a, auth.Key(), challenge, site); err != nil {
		t.Errorf("the other s: %v", err)
	}
}

func TestAttacks(t *testing.T) {
	challenge, other := evidence.SumSHA256([]byte("this act")), evidence.SumSHA256([]byte("another act"))
	good := byte(webauthntest.UP | webauthntest.UV)
	client := func(kind string, c evidence.Digest, from string, cross bool) []byte {
		return webauthntest.ClientData(kind, c, from, cross)
	}
	plain := client("webauthn.get", challenge, origin, false)
	for _, alg := range []string{"ES256", "Ed25519"} {
		auth, foreign := webauthntest.New(site), webauthntest.New(site)
		if alg == "Ed25519" {
			auth, foreign = webauthntest.NewEd25519(site), webauthntest.NewEd25519(site)
		}
		flip := func(s string, at int) string {
			b := bytesOf(t, s)
			b[(at+len(b))%len(b)] ^= 1
			return text(b)
		}
		otherSite := webauthntest.New("portal.example.evil.example")
		for _, tc := range []struct {
			name string
			a    *evidence.Assertion
			key  *evidence.PublicKey
			code string
		}{
			{"another act", auth.Assert(other, origin, true), nil, "challenge"},
			{"another relying party", otherSite.Assert(challenge, origin, true), otherSite.Key(), "relying-party"},
			{"a page of another site", auth.Assert(challenge, "https://evil.example", true), nil, "origin"},
			{"a page whose name only ends alike", auth.Assert(challenge, "https://evilportal.example", true), nil, "origin"},
			{"not secure", auth.Assert(challenge, "http://portal.example", true), nil, "origin"},
			{"an origin with a path", auth.Assert(challenge, origin+"/x", true), nil, "origin"},
			{"an origin with a user", auth.Assert(challenge, "https://portal.example@evil.example", true), nil, "origin"},
			{"an app", auth.Assert(challenge, "android:apk-key-hash:abc", true), nil, "origin"},
			{"no user verification", auth.Assert(challenge, origin, false), nil, "user-verified"},
			{"nobody there", auth.Sign(auth.Data(webauthntest.UV), plain), nil, "user-present"},
			{"backed up, not eligible", auth.Sign(auth.Data(good|1<<4), plain), nil, "authenticator-data"},
			{"a registration's flags", auth.Sign(auth.Data(good|1<<6), plain), nil, "authenticator-data"},
			{"create", auth.Sign(auth.Data(good), client("webauthn.create", challenge, origin, false)), nil, "type"},
			{"payment", auth.Sign(auth.Data(good), client("payment.get", challenge, origin, false)), nil, "type"},
			{"in a frame of another", auth.Sign(auth.Data(good), client("webauthn.get", challenge, origin, true)), nil, "cross-origin"},
			{"with a top origin", auth.Sign(auth.Data(good), fmt.Appendf(nil, `{"type":"webauthn.get","challenge":"%s","origin":"%s","topOrigin":"https://evil.example"}`, text(challenge[:]), origin)), nil, "cross-origin"},
			{"bytes after the authenticator data", auth.Sign(append(auth.Data(good), 0), plain), nil, "authenticator-data"},
			{"authenticator data cut off", auth.Sign(auth.Data(good)[:36], plain), nil, "authenticator-data"},
			{"extensions announced and absent", auth.Sign(auth.Data(good|1<<7), plain), nil, "authenticator-data"},
			{"extensions no map", auth.Sign(append(auth.Data(good|1<<7), 0x80), plain), nil, "authenticator-data"},
			{"extensions with more behind", auth.Sign(append(auth.Data(good|1<<7), 0xa0, 0xa0), plain), nil, "authenticator-data"},
			{"extensions too deep", auth.Sign(append(auth.Data(good|1<<7), append([]byte{0xa1, 0x01}, []byte(strings.Repeat("\x81", 9)+"\x01")...)...), plain), nil, "authenticator-data"},
			{"extensions longer than they are", auth.Sign(append(auth.Data(good|1<<7), 0xbb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff), plain), nil, "authenticator-data"},
			{"a member twice", auth.Sign(auth.Data(good), fmt.Appendf(nil, `{"type":"webauthn.get","challenge":"%s","challenge":"%s","origin":"%s"}`, text(other[:]), text(challenge[:]), origin)), nil, "client-data"},
			{"a member in capitals", auth.Sign(auth.Data(good), fmt.Appendf(nil, `{"Type":"webauthn.get","challenge":"%s","origin":"%s"}`, text(challenge[:]), origin)), nil, "client-data"},
			{"a member of another type", auth.Sign(auth.Data(good), fmt.Appendf(nil, `{"type":"webauthn.get","challenge":"%s","origin":"%s","crossOrigin":"false"}`, text(challenge[:]), origin)), nil, "client-data"},
			{"a member that is null", auth.Sign(auth.Data(good), fmt.Appendf(nil, `{"type":"webauthn.get","challenge":"%s","origin":"%s","crossOrigin":null}`, text(challenge[:]), origin)), nil, "client-data"},
			{"client data with more behind", auth.Sign(auth.Data(good), append(plain[:len(plain):len(plain)], ' ', '1')), nil, "client-data"},
			{"client data a list", auth.Sign(auth.Data(good), []byte(`[]`)), nil, "client-data"},
			{"client data not UTF-8", auth.Sign(auth.Data(good), append([]byte{0xff}, plain...)), nil, "client-data"},
			{"a challenge with padding", auth.Sign(auth.Data(good), fmt.Appendf(nil, `{"type":"webauthn.get","challenge":"%s=","origin":"%s"}`, text(challenge[:]), origin)), nil, "challenge"},
			{"somebody else's passkey", foreign.Assert(challenge, origin, true), nil, "key"},
		} {
			key := tc.key
			if key == nil {
				key = auth.Key()
			}
			want(t, alg+": "+tc.name, webauthn.Check(tc.a, key, challenge, site), tc.code)
		}
		// What was signed, altered afterwards.
		for _, tc := range []struct {
			name  string
			alter func(a *evidence.Assertion)
			code  string
		}{
			{"a byte of the signature", func(a *evidence.Assertion) { a.Signature = flip(a.Signature, -1) }, "signature"},
			{"a byte after the signature", func(a *evidence.Assertion) { a.Signature = text(append(bytesOf(t, a.Signature), 0)) }, "signature"},
			{"no signature", func(a *evidence.Assertion) { a.Signature = "" }, "signature"},
			{"the counter", func(a *evidence.Assertion) { a.AuthenticatorData = flip(a.AuthenticatorData, -1) }, "signature"},
			{"a blank in the client data", func(a *evidence.Assertion) { a.ClientData = text(append(bytesOf(t, a.ClientData), ' ')) }, "signature"},
			{"the authenticator data's site", func(a *evidence.Assertion) { a.AuthenticatorData = flip(a.AuthenticatorData, 0) }, "relying-party"},
			{"the name of the key", func(a *evidence.Assertion) { a.KID = foreign.Key().KID() }, "key"},
			{"another's answer under the same name", func(a *evidence.Assertion) {
				kid := a.KID
				*a = *foreign.Assert(challenge, origin, true)
				a.KID = kid
			}, "signature"},
			{"padding", func(a *evidence.Assertion) { a.ClientData += "=" }, "encoding"},
			{"a line feed", func(a *evidence.Assertion) { a.ClientData += "\n" }, "encoding"},
		} {
			a := auth.Assert(challenge, origin, true)
			tc.alter(a)
			want(t, alg+": "+tc.name, webauthn.Check(a, auth.Key(), challenge, site), tc.code)
		}
		want(t, alg+": none", webauthn.Check(nil, auth.Key(), challenge, site), "encoding")
	}
}

func want(t *testing.T, name string, err error, code string) {
	t.Helper()
	var e *webauthn.Error
	if !errors.As(err, &e) || e.Code != code {
		t.Errorf("%s: %v, want code %s", name, err, code)
	}
}

// Whatever a browser or an authenticator gives, Check answers; and nothing but
// the genuine bytes is accepted.
func FuzzCheck(f *testing.F) {
	challenge := evidence.SumSHA256([]byte("this act"))
	auth := webauthntest.FromSeed(site, "fuzz")
	a := auth.Assert(challenge, origin, true)
	data, client, sig, err := a.Bytes()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data, client, sig)
	f.Add(append(auth.Data(webauthntest.UP|webauthntest.UV|1<<7), 0xa1, 0x61, 'x', 0x01), client, sig)
	f.Add(data, []byte(`{"type":"webauthn.get"}`), sig)
	f.Fuzz(func(t *testing.T, d, c, s []byte) {
		err := webauthn.Check(&evidence.Assertion{KID: auth.Key().KID(), AuthenticatorData: text(d), ClientData: text(c), Signature: text(s)}, auth.Key(), challenge, site)
		same := string(d) == string(data) && string(c) == string(client) && string(s) == string(sig)
		if (err == nil) != same {
			t.Errorf("accepted: %v, genuine: %v", err == nil, same)
		}
	})
}

// The vectors were made, and are checked, by other implementations too.
func TestVectors(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("..", "..", "spec", "vectors", "act", "assertions.json"))
	if err != nil {
		t.Fatal(err)
	}
	var vectors []struct {
		Name         string          `json:"name"`
		Manifest     string          `json:"manifest"`
		Challenge    evidence.Digest `json:"challenge"`
		Key          []byte          `json:"key"`
		RelyingParty string          `json:"relying_party"`
		Reason       string          `json:"reason"` // Error.Code, empty for none
	}
	if err := json.Unmarshal(data, &vectors); err != nil {
		t.Fatal(err)
	}
	if len(vectors) < 50 {
		t.Fatalf("%d vectors", len(vectors))
	}
	for _, v := range vectors {
		m, err := evidence.ParseManifest([]byte(v.Manifest))
		if err != nil {
			t.Errorf("%s: %v", v.Name, err)
			continue
		}
		key, err := evidence.ParsePublicKey(v.Key)
		if err != nil {
			t.Errorf("%s: %v", v.Name, err)
			continue
		}
		challenge, err := m.ActDigest()
		if err != nil || challenge != v.Challenge {
			t.Errorf("%s: challenge %s, %v", v.Name, challenge, err)
		}
		err = webauthn.Check(m.Act.Passkey, key, challenge, v.RelyingParty)
		if v.Reason != "" {
			want(t, v.Name, err, v.Reason)
		} else if err != nil {
			t.Errorf("%s: %v", v.Name, err)
		}
	}
}
