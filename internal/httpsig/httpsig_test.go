package httpsig

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/emmansun/gmsm/sm2"
	"github.com/zhenglian/zhenglian/evidence"
)

const origin = "https://court.example"

func testSigners(t testing.TB) map[string]evidence.Signer {
	t.Helper()
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sm, err := sm2.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]evidence.Signer{}
	for name, key := range map[string]any{"Ed25519": ed, "ES256": p256, "SM2": sm} {
		var s evidence.Signer
		switch k := key.(type) {
		case ed25519.PrivateKey:
			s, err = evidence.NewSigner(k)
		case *ecdsa.PrivateKey:
			s, err = evidence.NewSigner(k)
		case *sm2.PrivateKey:
			s, err = evidence.NewSigner(k)
		}
		if err != nil {
			t.Fatal(name, err)
		}
		out[name] = s
	}
	return out
}

// RFC 9421 appendix B.2.6: the standard's own key, request, base and signature.
func TestVectorB26(t *testing.T) {
	block, _ := pem.Decode([]byte(`-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIJ+DYvh6SEqVTm50DFtMDoQikTmiCqirVv9mWG9qfSnF
-----END PRIVATE KEY-----
`))
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := evidence.NewSigner(key.(ed25519.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	const wantPublic = "MCowBQYDK2VwAyEAJrQLj5P/89iXES9+vFgrIy29clF9CC/oPPsw3c5D0bs="
	if got := base64.StdEncoding.EncodeToString(signer.Public().DER()); got != wantPublic {
		t.Fatalf("public key %s, want %s", got, wantPublic)
	}
	r := httptest.NewRequest("POST", "/foo?param=Value&Pet=dog", strings.NewReader(`{"hello": "world"}`))
	r.Header.Set("Date", "Tue, 20 Apr 2021 02:07:55 GMT")
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Content-Length", "18")
	const params = `("date" "@method" "@path" "@authority" "content-type" "content-length");created=1618884473;keyid="test-key-ed25519"`
	tgt, err := serverTarget(r, "https://example.com")
	if err != nil {
		t.Fatal(err)
	}
	base, err := signatureBase(r, tgt, []string{"date", "@method", "@path", "@authority", "content-type", "content-length"}, params)
	if err != nil {
		t.Fatal(err)
	}
	want := `"date": Tue, 20 Apr 2021 02:07:55 GMT
"@method": POST
"@path": /foo
"@authority": example.com
"content-type": application/json
"content-length": 18
"@signature-params": ` + params
	if string(base) != want {
		t.Fatalf("signature base:\n%s\nwant:\n%s", base, want)
	}
	sig, err := signer.Sign(base)
	if err != nil {
		t.Fatal(err)
	}
	const wantSig = "wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw=="
	if got := base64.StdEncoding.EncodeToString(sig); got != wantSig {
		t.Fatalf("signature %s, want %s", got, wantSig)
	}
	raw, _ := base64.StdEncoding.DecodeString(wantSig)
	if err := signer.Public().Verify(base, raw); err != nil {
		t.Fatal(err)
	}
}

// received is the request as the server gets it.
func received(t *testing.T, r *http.Request) *http.Request {
	t.Helper()
	s := httptest.NewRequest(r.Method, r.URL.RequestURI(), nil)
	s.Host = r.Host
	s.Header = r.Header.Clone()
	return s
}

func TestSignVerify(t *testing.T) {
	for name, signer := range testSigners(t) {
		t.Run(name, func(t *testing.T) {
			now := time.Unix(1700000000, 5)
			v := NewVerifier(Config{Now: func() time.Time { return now }})
			find := func(kid evidence.Digest) (*evidence.PublicKey, error) {
				if kid != signer.Public().KID() {
					return nil, errors.New("unknown")
				}
				return signer.Public(), nil
			}
			for _, body := range [][]byte{nil, []byte(`{"a":1}`)} {
				r, _ := http.NewRequest("POST", origin+"/api/v1/x%20y?from=1&limit=2", nil)
				if err := Sign(r, body, signer, now, nil); err != nil {
					t.Fatal(err)
				}
				kid, err := v.Verify(received(t, r), origin, body, find)
				if err != nil || kid != signer.Public().KID() {
					t.Fatalf("kid %s, %v", kid, err)
				}
			}
		})
	}
}

// An attacker has one good signed request and changes or repeats it.
func TestAttacks(t *testing.T) {
	signer := testSigners(t)["Ed25519"]
	start := time.Unix(1700000000, 0)
	body := []byte(`{"x":1}`)
	cases := []struct {
		name   string
		want   Code
		change func(s *http.Request, o *string, b *[]byte, now *time.Time)
	}{
		{"none", "", func(*http.Request, *string, *[]byte, *time.Time) {}},
		{"method", CodeInvalid, func(s *http.Request, _ *string, _ *[]byte, _ *time.Time) { s.Method = "DELETE" }},
		{"path", CodeInvalid, func(s *http.Request, _ *string, _ *[]byte, _ *time.Time) { s.RequestURI = "/trails/b?x=1" }},
		{"query", CodeInvalid, func(s *http.Request, _ *string, _ *[]byte, _ *time.Time) { s.RequestURI = "/trails/a?x=2" }},
		{"query dropped", CodeInvalid, func(s *http.Request, _ *string, _ *[]byte, _ *time.Time) { s.RequestURI = "/trails/a" }},
		{"absolute target", CodeMalformed, func(s *http.Request, _ *string, _ *[]byte, _ *time.Time) { s.RequestURI = origin + "/trails/a?x=1" }},
		{"other server", CodeInvalid, func(_ *http.Request, o *string, _ *[]byte, _ *time.Time) { *o = "https://notary.example" }},
		{"other scheme", CodeInvalid, func(_ *http.Request, o *string, _ *[]byte, _ *time.Time) { *o = "http://court.example" }},
		{"body", CodeInvalid, func(_ *http.Request, _ *string, b *[]byte, _ *time.Time) { *b = []byte(`{"x":2}`) }},
		{"body dropped", CodeInvalid, func(_ *http.Request, _ *string, b *[]byte, _ *time.Time) { *b = nil }},
		{"digest exchanged with body", CodeInvalid, func(s *http.Request, _ *string, b *[]byte, _ *time.Time) {
			*b = []byte("y")
			s.Header.Set("Content-Digest", "sha-256=:ofq9JWQOGXMHWzKpy7GpM+gcEgPRTf+D+g0PrpsU+Xk=:")
		}},
		{"five minutes late", "", func(_ *http.Request, _ *string, _ *[]byte, now *time.Time) { *now = start.Add(5 * time.Minute) }},
		{"stale", CodeStale, func(_ *http.Request, _ *string, _ *[]byte, now *time.Time) {
			*now = start.Add(5*time.Minute + time.Second)
		}},
		{"from the future", CodeStale, func(_ *http.Request, _ *string, _ *[]byte, now *time.Time) {
			*now = start.Add(-5*time.Minute - time.Second)
		}},
		{"no signature", CodeMissing, func(s *http.Request, _ *string, _ *[]byte, _ *time.Time) { s.Header.Del("Signature") }},
		{"no input", CodeMissing, func(s *http.Request, _ *string, _ *[]byte, _ *time.Time) { s.Header.Del("Signature-Input") }},
		{"created moved", CodeInvalid, edit("created=1700000000", "created=1700000001")},
		{"nonce moved", CodeInvalid, edit(`nonce="`, `nonce="A`)},
		{"method uncovered", CodeMalformed, edit(`"@method" `, ``)},
		{"target uncovered", CodeMalformed, edit(`"@target-uri" `, ``)},
		{"digest uncovered", CodeMalformed, edit(` "content-digest"`, ``)},
		{"algorithm confused", CodeMalformed, edit(`;nonce`, `;alg="hmac-sha256";nonce`)},
		{"component twice", CodeMalformed, edit(`"@method"`, `"@method" "@method"`)},
		{"component with parameter", CodeMalformed, edit(`"@method"`, `"@method";req`)},
		{"unknown derived component", CodeMalformed, edit(`("@method"`, `("@status" "@method"`)},
		{"absent field", CodeMalformed, edit(`("@method"`, `("x-absent" "@method"`)},
		{"parameter twice", CodeMalformed, edit(`;keyid`, `;created=1700000000;keyid`)},
		{"unknown parameter", CodeMalformed, edit(`;keyid`, `;x=1;keyid`)},
		{"no nonce", CodeMalformed, edit(`;nonce="`, `;tag="`)},
		{"expired", CodeStale, edit(`;keyid`, `;expires=1700000000;keyid`)},
		{"two signatures", CodeMalformed, func(s *http.Request, _ *string, _ *[]byte, _ *time.Time) {
			s.Header.Add("Signature-Input", s.Header.Get("Signature-Input"))
		}},
		{"two in one line", CodeMalformed, func(s *http.Request, _ *string, _ *[]byte, _ *time.Time) {
			s.Header.Set("Signature-Input", s.Header.Get("Signature-Input")+", b=()")
		}},
		{"blank in form", CodeMalformed, edit(`" "@target`, `"  "@target`)},
		{"keyid upper case", CodeMalformed, edit(`keyid="`, `keyid="AB`)},
		{"long", CodeMalformed, edit(`nonce="`, `nonce="`+strings.Repeat("a", 4000))},
		{"signature cut", CodeMalformed, func(s *http.Request, _ *string, _ *[]byte, _ *time.Time) {
			s.Header.Set("Signature", "zhenglian=:AAAA:")
		}},
		{"label differs", CodeMalformed, func(s *http.Request, _ *string, _ *[]byte, _ *time.Time) {
			s.Header.Set("Signature", "x"+s.Header.Get("Signature"))
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			now := start.Add(-10 * time.Minute)
			v := NewVerifier(Config{Now: func() time.Time { return now }})
			now = start
			r, _ := http.NewRequest("POST", origin+"/trails/a?x=1", nil)
			if err := Sign(r, body, signer, start, nil); err != nil {
				t.Fatal(err)
			}
			s, o, b := received(t, r), origin, body
			c.change(s, &o, &b, &now)
			_, err := v.Verify(s, o, b, func(evidence.Digest) (*evidence.PublicKey, error) { return signer.Public(), nil })
			if got := codeOf(err); got != c.want {
				t.Fatalf("code %q (%v), want %q", got, err, c.want)
			}
		})
	}
}

func edit(old, replacement string) func(*http.Request, *string, *[]byte, *time.Time) {
	return func(s *http.Request, _ *string, _ *[]byte, _ *time.Time) {
		s.Header.Set("Signature-Input", strings.Replace(s.Header.Get("Signature-Input"), old, replacement, 1))
	}
}

func codeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	if err != nil {
		return Code(err.Error())
	}
	return ""
}

func TestReplay(t *testing.T) {
	signer := testSigners(t)["ES256"]
	now := time.Unix(1700000000, 0)
	config := Config{Now: func() time.Time { return now }}
	v := NewVerifier(config)
	find := func(evidence.Digest) (*evidence.PublicKey, error) { return signer.Public(), nil }
	now = now.Add(10 * time.Second)
	r, _ := http.NewRequest("GET", origin+"/trails/a", nil)
	if err := Sign(r, nil, signer, now, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Verify(received(t, r), origin, nil, find); err != nil {
		t.Fatal(err)
	}
	// At once, and at the last moment at which it is not stale.
	for _, later := range []time.Duration{0, DefaultWindow} {
		now = time.Unix(1700000010, 0).Add(later)
		if _, err := v.Verify(received(t, r), origin, nil, find); codeOf(err) != CodeReplayed {
			t.Fatalf("after %s: %v", later, err)
		}
	}
	// A restart forgets the nonces: what was signed before it is refused.
	now = time.Unix(1700000011, 0)
	if _, err := NewVerifier(config).Verify(received(t, r), origin, nil, find); codeOf(err) != CodeStale {
		t.Fatalf("after a restart: %v", err)
	}
}

func TestNonceBounds(t *testing.T) {
	c := newNonceCache(5, 3)
	now := time.Unix(1700000000, 0)
	a, b := evidence.Digest{1}, evidence.Digest{2}
	for i := range 3 {
		if err := c.use(a, fmt.Sprint(i), now, now.Add(time.Duration(3-i)*time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.use(a, "3", now, now.Add(time.Minute)); codeOf(err) != CodeTooMany {
		t.Fatalf("a fourth of the key: %v", err)
	}
	for i := range 2 {
		if err := c.use(b, fmt.Sprint(i), now, now.Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.use(b, "2", now, now.Add(time.Minute)); codeOf(err) != CodeTooMany {
		t.Fatalf("a sixth of all: %v", err)
	}
	now = now.Add(61 * time.Second)
	if err := c.use(b, "2", now, now.Add(time.Minute)); err != nil {
		t.Fatalf("after the oldest went stale: %v", err)
	}
	if len(c.seen) != 3 || len(c.expiry) != 3 || c.keys[a] != 2 || c.keys[b] != 1 {
		t.Fatalf("kept %d, %d, %v", len(c.seen), len(c.expiry), c.keys)
	}
}

func FuzzParseInput(f *testing.F) {
	f.Add(`zhenglian=("@method" "@target-uri");created=1700000000;keyid="`+strings.Repeat("a", 64)+`";nonce="x"`, "zhenglian=:AAAA:")
	f.Add(`a=();expires=1`, "")
	f.Fuzz(func(t *testing.T, in, sig string) {
		h := http.Header{"Signature-Input": {in}, "Signature": {sig}}
		p, err := parseInput(h)
		if err != nil {
			if codeOf(err) != CodeMalformed {
				t.Fatalf("unexpected error %v", err)
			}
			return
		}
		if !strings.HasSuffix(in, p.params) || len(p.components) > maxComponents || len(p.signature) != 64 || p.nonce == "" {
			t.Fatalf("accepted %+v", p)
		}
	})
}
