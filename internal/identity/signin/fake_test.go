package signin_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"

	"github.com/zhenglian/zhenglian/internal/identity/gb/gbtest"
	"github.com/zhenglian/zhenglian/internal/identity/signin"
)

type object = map[string]any

// fake is a provider that a test can make lie about anything.
type fake struct {
	t      *testing.T
	server *httptest.Server
	key    *ecdsa.PrivateKey
	now    func() time.Time

	mu         sync.Mutex
	down       bool
	discovery  object
	tokenCalls int
	challenge  string                      // of the last authorization request
	idToken    func(object) string         // signs the claims; nil: honestly
	claims     func(object)                // changes the ID token's claims
	userInfo   func(object)                // changes userinfo
	codes      map[string]bool             // code → used
	answer     func(http.ResponseWriter)   // instead of the token answer
	info       func(w http.ResponseWriter) // instead of userinfo
	nonce      string
}

func newFake(t *testing.T, now func() time.Time) *fake {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{t: t, key: key, now: now, codes: map[string]bool{}}
	mux := http.NewServeMux()
	f.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.down {
			http.Error(w, "away", http.StatusServiceUnavailable)
			return
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(f.server.Close)
	at := f.server.URL
	f.discovery = object{"issuer": at, "authorization_endpoint": at + "/authorize", "token_endpoint": at + "/token", "userinfo_endpoint": at + "/userinfo", "jwks_uri": at + "/keys",
		"id_token_signing_alg_values_supported": []string{"ES256", "HS256", "none"}, "code_challenge_methods_supported": []string{"S256"},
		"claims_parameter_supported": true, "authorization_response_iss_parameter_supported": true}
	write := func(w http.ResponseWriter, v any) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v)
	}
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, r *http.Request) { write(w, f.discovery) })
	mux.HandleFunc("/keys", func(w http.ResponseWriter, r *http.Request) {
		write(w, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: f.key.Public(), KeyID: "k", Algorithm: "ES256", Use: "sig"}}})
	})
	mux.HandleFunc("/token", func(w http.ResponseWriter, r *http.Request) {
		f.tokenCalls++
		if f.answer != nil {
			f.answer(w)
			return
		}
		sum := sha256.Sum256([]byte(r.FormValue("code_verifier")))
		code := r.FormValue("code")
		used, known := f.codes[code]
		f.codes[code] = true
		if !known || used || base64.RawURLEncoding.EncodeToString(sum[:]) != f.challenge {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusBadRequest)
			write(w, object{"error": "invalid_grant", "error_description": "张三 11010519491231002X"})
			return
		}
		claims := object{"iss": at, "sub": "s1", "aud": "portal", "nonce": f.nonce, "iat": f.now().Unix(), "exp": f.now().Add(time.Minute).Unix(), "auth_time": f.now().Unix()}
		if f.claims != nil {
			f.claims(claims)
		}
		sign := f.sign
		if f.idToken != nil {
			sign = f.idToken
		}
		write(w, object{"access_token": "a", "token_type": "Bearer", "id_token": sign(claims)})
	})
	mux.HandleFunc("/userinfo", func(w http.ResponseWriter, r *http.Request) {
		if f.info != nil {
			f.info(w)
			return
		}
		info := object{"sub": "s1"}
		if f.userInfo != nil {
			f.userInfo(info)
		}
		write(w, info)
	})
	return f
}

func (f *fake) sign(claims object) string { return f.signed(jose.ES256, f.key, "k", claims) }

func (f *fake) signed(alg jose.SignatureAlgorithm, key any, kid string, claims object) string {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: jose.JSONWebKey{Key: key, KeyID: kid}}, nil)
	if err != nil {
		f.t.Fatal(err)
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		f.t.Fatal(err)
	}
	jws, err := signer.Sign(payload)
	if err != nil {
		f.t.Fatal(err)
	}
	text, err := jws.CompactSerialize()
	if err != nil {
		f.t.Fatal(err)
	}
	return text
}

// visit is what the provider does when the browser comes: it looks at the
// request and answers with a code.
func (f *fake) visit(redirect string) url.Values {
	u, err := url.Parse(redirect)
	if err != nil {
		f.t.Fatal(err)
	}
	q := u.Query()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.nonce, f.challenge = q.Get("nonce"), q.Get("code_challenge")
	code := rand.Text()
	f.codes[code] = false
	return url.Values{"code": {code}, "state": {q.Get("state")}, "iss": {f.server.URL}}
}

func (f *fake) config() signin.Provider {
	return signin.Provider{ID: "fake", NameZH: "假", NameEN: "Fake", Issuer: f.server.URL, ClientID: "portal", NumberClaim: "id_card_number",
		Policy: signin.Policy{Frameworks: []signin.Framework{{Name: "cn_rna"}}, MaxAge: 365 * 24 * time.Hour}}
}

func party(t *testing.T, now func() time.Time, providers ...signin.Provider) *signin.RelyingParty {
	t.Helper()
	rp, err := signin.New(signin.Config{Callback: "https://portal.example/signin/callback", Demonstration: true, Providers: providers, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return rp
}

// number is of nobody.
func number() string { return gbtest.IDNumber(1992, 5, 14, 902).Number() }

// verified is what a provider that believes in this person says.
func verified(at time.Time, evidence ...object) object {
	list := []any{}
	for _, e := range evidence {
		list = append(list, e)
	}
	return object{
		"verification": object{"trust_framework": "cn_rna", "time": at.UTC().Format(time.RFC3339), "evidence": list},
		"claims":       object{"name": "林若溪", "birthdate": "1992-05-14", "id_card_number": number()},
	}
}

func document(methods ...string) object {
	details := []any{}
	for _, m := range methods {
		details = append(details, object{"check_method": m})
	}
	return object{"type": "document", "check_details": details}
}

// clock is a test's time; it may be moved.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.Now().Truncate(time.Second)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}
