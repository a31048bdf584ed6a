package signin_test

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"

	"github.com/zhenglian/zhenglian/internal/identity/signin"
)

func TestSignIn(t *testing.T) {
	c := newClock()
	f := newFake(t, c.now)
	f.userInfo = func(info object) { info["verified_claims"] = verified(c.now(), document("vpip", "pvp")) }
	rp := party(t, c.now, f.config())
	begun, err := rp.Begin(t.Context(), "fake", signin.Options{Language: "zh-CN"})
	if err != nil {
		t.Fatal(err)
	}
	u, _ := url.Parse(begun.Redirect)
	q := u.Query()
	for key, want := range map[string]string{"response_type": "code", "client_id": "portal", "redirect_uri": "https://portal.example/signin/callback/fake", "code_challenge_method": "S256", "scope": "openid", "ui_locales": "zh-CN", "state": begun.State} {
		if q.Get(key) != want {
			t.Errorf("%s is %q, want %q", key, q.Get(key), want)
		}
	}
	if len(q.Get("nonce")) < 43 || len(q.Get("state")) < 43 || len(q.Get("code_challenge")) != 43 || q.Get("nonce") == q.Get("state") {
		t.Errorf("state, nonce or challenge are weak: %v", q)
	}
	if !json.Valid([]byte(q.Get("claims"))) || !strings.Contains(q.Get("claims"), "id_card_number") {
		t.Errorf("claims is %s", q.Get("claims"))
	}
	if strings.Contains(begun.Redirect, "verifier") {
		t.Error("the verifier travels through the browser")
	}
	id, err := rp.Finish(t.Context(), "fake", begun.Pending, f.visit(begun.Redirect))
	if err != nil {
		t.Fatal(err)
	}
	if id.Issuer != f.server.URL || id.Subject != "s1" || id.Provider != "fake" || id.Level != signin.Seen || id.Name != "林若溪" || id.Facts.Number.Number() != number() ||
		id.Facts.Birth.Format(time.DateOnly) != "1992-05-14" || !id.Source.UserInfo || id.Source.TrustFramework != "cn_rna" || len(id.Reasons) != 0 || id.Demo || !id.Verified.Equal(c.now()) {
		t.Errorf("%+v", id)
	}
	if got := rp.Choices(); len(got) != 1 || got[0].NameZH != "假" {
		t.Errorf("%+v", got)
	}
}

// attack is one sign-in in which something is wrong.
type attack struct {
	name string
	want signin.Code // empty: it must succeed
	set  func(f *fake, p *signin.Provider, o *signin.Options)
	send func(f *fake, begun *signin.Begun, q url.Values, c *clock) // changes what arrives
}

func TestAttacks(t *testing.T) {
	claim := func(key string, value any) func(*fake, *signin.Provider, *signin.Options) {
		return func(f *fake, _ *signin.Provider, _ *signin.Options) {
			f.claims = func(c object) {
				if value == nil {
					delete(c, key)
					return
				}
				c[key] = value
			}
		}
	}
	at := func(key string, off time.Duration) func(*fake, *signin.Provider, *signin.Options) {
		return func(f *fake, _ *signin.Provider, _ *signin.Options) {
			f.claims = func(c object) { c[key] = f.now().Add(off).Unix() }
		}
	}
	answer := func(key, value string) func(*fake, *signin.Begun, url.Values, *clock) {
		return func(_ *fake, _ *signin.Begun, q url.Values, _ *clock) {
			if value == "" {
				q.Del(key)
				return
			}
			q.Set(key, value)
		}
	}
	token := func(make func(f *fake, c object) string) func(*fake, *signin.Provider, *signin.Options) {
		return func(f *fake, _ *signin.Provider, _ *signin.Options) {
			f.idToken = func(c object) string { return make(f, c) }
		}
	}
	for _, a := range []attack{
		{name: "nothing is wrong"},
		// The answer.
		{name: "another state", want: signin.NotBegun, send: answer("state", strings.Repeat("x", 43))},
		{name: "no state", want: signin.NotBegun, send: answer("state", "")},
		{name: "two states", want: signin.NotBegun, send: func(_ *fake, _ *signin.Begun, q url.Values, _ *clock) { q.Add("state", "x") }},
		{name: "no sign-in in this browser", want: signin.NotBegun, send: func(_ *fake, b *signin.Begun, _ url.Values, _ *clock) { b.Pending = "" }},
		{name: "a pending of empty secrets", want: signin.NotBegun, send: func(_ *fake, b *signin.Begun, q url.Values, _ *clock) {
			b.Pending = `{"p":"fake"}`
			q.Del("state")
		}},
		{name: "after eleven minutes", want: signin.Expired, send: func(_ *fake, _ *signin.Begun, _ url.Values, c *clock) { c.add(11 * time.Minute) }},
		{name: "another issuer answers", want: signin.WrongIssuer, send: answer("iss", "https://evil.example")},
		{name: "the promised iss is missing", want: signin.WrongIssuer, send: answer("iss", "")},
		{name: "two issuers", want: signin.NotBegun, send: func(_ *fake, _ *signin.Begun, q url.Values, _ *clock) { q.Add("iss", "https://evil.example") }},
		{name: "no iss where none is promised", set: func(f *fake, _ *signin.Provider, _ *signin.Options) {
			delete(f.discovery, "authorization_response_iss_parameter_supported")
		}, send: answer("iss", "")},
		{name: "a wrong iss where none is promised", want: signin.WrongIssuer, set: func(f *fake, _ *signin.Provider, _ *signin.Options) {
			delete(f.discovery, "authorization_response_iss_parameter_supported")
		}, send: answer("iss", "https://evil.example")},
		{name: "she said no", want: signin.Cancelled, send: func(_ *fake, _ *signin.Begun, q url.Values, _ *clock) {
			q.Del("code")
			q.Set("error", "access_denied")
		}},
		{name: "an error from another issuer", want: signin.WrongIssuer, send: func(_ *fake, _ *signin.Begun, q url.Values, _ *clock) {
			q.Set("error", "access_denied")
			q.Set("iss", "https://evil.example")
		}},
		{name: "an invented code", want: signin.Refused, send: answer("code", "guess")},
		{name: "no code", want: signin.Refused, send: answer("code", "")},
		{name: "the verifier of another sign-in", want: signin.Refused, send: func(_ *fake, b *signin.Begun, _ url.Values, _ *clock) {
			var s object
			_ = json.Unmarshal([]byte(b.Pending), &s)
			s["v"] = strings.Repeat("v", 43)
			changed, _ := json.Marshal(s)
			b.Pending = string(changed)
		}},
		// The ID token.
		{name: "another nonce", want: signin.BadToken, set: claim("nonce", strings.Repeat("n", 43))},
		{name: "no nonce", want: signin.BadToken, set: claim("nonce", nil)},
		{name: "another client's token", want: signin.BadToken, set: claim("aud", "other-portal")},
		{name: "for us and another, issued to the other", want: signin.BadToken, set: func(f *fake, _ *signin.Provider, _ *signin.Options) {
			f.claims = func(c object) { c["aud"], c["azp"] = []string{"portal", "other"}, "other" }
		}},
		{name: "for us and another, issued to nobody", want: signin.BadToken, set: claim("aud", []string{"portal", "other"})},
		{name: "for us and another, issued to us", set: func(f *fake, _ *signin.Provider, _ *signin.Options) {
			f.claims = func(c object) { c["aud"], c["azp"] = []string{"portal", "other"}, "portal" }
		}},
		{name: "azp is another", want: signin.BadToken, set: claim("azp", "other")},
		{name: "another issuer's token", want: signin.BadToken, set: claim("iss", "https://evil.example")},
		{name: "expired", want: signin.BadToken, set: at("exp", -2*time.Minute)},
		{name: "expired within the clocks' difference", set: at("exp", -30*time.Second)},
		{name: "without expiry", want: signin.BadToken, set: claim("exp", nil)},
		{name: "issued before the sign-in", want: signin.BadToken, set: at("iat", -5*time.Minute)},
		{name: "issued in the future", want: signin.BadToken, set: at("iat", 5*time.Minute)},
		{name: "issued in the future within the clocks' difference", set: at("iat", 30*time.Second)},
		{name: "without time of issue", want: signin.BadToken, set: claim("iat", nil)},
		{name: "no subject", want: signin.BadToken, set: claim("sub", nil)},
		{name: "a subject of 300 characters", want: signin.BadToken, set: claim("sub", strings.Repeat("s", 300))},
		{name: "at_hash of another access token", want: signin.BadToken, set: claim("at_hash", "AAAAAAAAAAAAAAAAAAAAAA")},
		{name: "auth_time in the future", want: signin.BadToken, set: at("auth_time", 5*time.Minute)},
		{name: "types that are wrong", want: signin.BadToken, set: claim("auth_time", "yesterday")},
		{name: "unsigned", want: signin.BadToken, set: token(func(_ *fake, c object) string {
			payload, _ := json.Marshal(c)
			return base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + base64.RawURLEncoding.EncodeToString(payload) + "."
		})},
		{name: "HS256 under the public key", want: signin.BadToken, set: token(func(f *fake, c object) string {
			public, _ := f.key.PublicKey.Bytes()
			return f.signed(jose.HS256, public, "k", c)
		})},
		{name: "HS256 under the client's secret", want: signin.BadToken, set: func(f *fake, p *signin.Provider, _ *signin.Options) {
			p.Secret = "a secret of thirty-two characters."
			f.idToken = func(c object) string { return f.signed(jose.HS256, []byte(p.Secret), "k", c) }
		}},
		{name: "another key of the same name", want: signin.BadToken, set: token(func(f *fake, c object) string {
			return f.signed(jose.ES256, newFake(f.t, f.now).key, "k", c)
		})},
		{name: "an algorithm that was not announced", want: signin.BadToken, set: token(func(f *fake, c object) string {
			key, err := rsa.GenerateKey(rand.Reader, 2048)
			if err != nil {
				f.t.Fatal(err)
			}
			return f.signed(jose.RS256, key, "k", c)
		})},
		{name: "no token at all", want: signin.BadToken, set: token(func(*fake, object) string { return "" })},
		{name: "changed after signing", want: signin.BadToken, set: token(func(f *fake, c object) string {
			good := strings.Split(f.sign(c), ".")
			c["sub"] = "somebody-else"
			payload, _ := json.Marshal(c)
			return good[0] + "." + base64.RawURLEncoding.EncodeToString(payload) + "." + good[2]
		})},
		// Userinfo.
		{name: "userinfo of another subject", want: signin.BadToken, set: func(f *fake, _ *signin.Provider, _ *signin.Options) {
			f.userInfo = func(info object) {
				info["sub"] = "s2"
				info["verified_claims"] = verified(f.now(), document("vpip", "pvp"))
			}
		}},
		{name: "userinfo without a subject", want: signin.BadToken, set: func(f *fake, _ *signin.Provider, _ *signin.Options) {
			f.userInfo = func(info object) { delete(info, "sub") }
		}},
		{name: "userinfo for another client", want: signin.BadToken, set: func(f *fake, _ *signin.Provider, _ *signin.Options) {
			f.userInfo = func(info object) { info["aud"] = "other" }
		}},
		{name: "userinfo fails", want: signin.Unreachable, set: func(f *fake, _ *signin.Provider, _ *signin.Options) {
			f.info = func(w http.ResponseWriter) { http.Error(w, "林若溪 "+number(), http.StatusInternalServerError) }
		}},
		{name: "signed userinfo", set: func(f *fake, _ *signin.Provider, _ *signin.Options) {
			f.info = func(w http.ResponseWriter) {
				w.Header().Set("Content-Type", "application/jwt")
				_, _ = w.Write([]byte(f.sign(object{"iss": f.server.URL, "aud": "portal", "sub": "s1"})))
			}
		}},
		{name: "userinfo signed for another client", want: signin.BadToken, set: func(f *fake, _ *signin.Provider, _ *signin.Options) {
			f.info = func(w http.ResponseWriter) {
				w.Header().Set("Content-Type", "application/jwt")
				_, _ = w.Write([]byte(f.sign(object{"iss": f.server.URL, "aud": "other", "sub": "s1"})))
			}
		}},
		{name: "userinfo signed by somebody else", want: signin.Unreachable, set: func(f *fake, _ *signin.Provider, _ *signin.Options) {
			f.info = func(w http.ResponseWriter) {
				w.Header().Set("Content-Type", "application/jwt")
				_, _ = w.Write([]byte(f.signed(jose.ES256, newFake(f.t, f.now).key, "k", object{"iss": f.server.URL, "aud": "portal", "sub": "s1"})))
			}
		}},
		{name: "userinfo redirects", want: signin.Unreachable, set: func(f *fake, _ *signin.Provider, _ *signin.Options) {
			f.info = func(w http.ResponseWriter) {
				f.info = nil // the second time it would answer
				w.Header().Set("Location", f.server.URL+"/userinfo")
				w.WriteHeader(http.StatusTemporaryRedirect)
			}
		}},
		{name: "userinfo without end", want: signin.Unreachable, set: func(f *fake, _ *signin.Provider, _ *signin.Options) {
			f.info = func(w http.ResponseWriter) {
				_, _ = w.Write([]byte(`{"sub":"s1","x":"` + strings.Repeat("x", 2<<20) + `"}`))
			}
		}},
		{name: "the token endpoint is broken", want: signin.Unreachable, set: func(f *fake, _ *signin.Provider, _ *signin.Options) {
			f.answer = func(w http.ResponseWriter) { http.Error(w, "林若溪 "+number(), http.StatusBadGateway) }
		}},
		// Step-up.
		{name: "fresh as asked", set: func(_ *fake, _ *signin.Provider, o *signin.Options) { o.Fresh = true }},
		{name: "fresh asked, old given", want: signin.NotFresh, set: func(f *fake, _ *signin.Provider, o *signin.Options) {
			o.Fresh = true
			f.claims = func(c object) { c["auth_time"] = f.now().Add(-time.Hour).Unix() }
		}},
		{name: "fresh asked, nothing said", want: signin.NotFresh, set: func(f *fake, _ *signin.Provider, o *signin.Options) {
			o.Fresh = true
			f.claims = func(c object) { delete(c, "auth_time") }
		}},
		{name: "strong asked, weak given", want: signin.NotStrong, set: func(f *fake, _ *signin.Provider, o *signin.Options) {
			o.ACR = []string{"strong"}
			f.claims = func(c object) { c["acr"] = "weak" }
		}},
		{name: "strong as asked", set: func(f *fake, _ *signin.Provider, o *signin.Options) {
			o.ACR = []string{"strong"}
			f.claims = func(c object) { c["acr"] = "strong" }
		}},
		{name: "somebody else confirms", want: signin.OtherPerson, set: func(_ *fake, _ *signin.Provider, o *signin.Options) { o.Subject = "s0" }},
		{name: "she confirms herself", set: func(_ *fake, _ *signin.Provider, o *signin.Options) { o.Subject = "s1" }},
	} {
		t.Run(a.name, func(t *testing.T) {
			c := newClock()
			f := newFake(t, c.now)
			p, o := f.config(), signin.Options{}
			if a.set != nil {
				a.set(f, &p, &o)
			}
			rp := party(t, c.now, p)
			begun, err := rp.Begin(t.Context(), "fake", o)
			if err != nil {
				t.Fatal(err)
			}
			q := f.visit(begun.Redirect)
			if a.send != nil {
				a.send(f, begun, q, c)
			}
			id, err := rp.Finish(t.Context(), "fake", begun.Pending, q)
			if a.want == "" {
				if err != nil || id.Subject != "s1" {
					t.Fatalf("%+v, %v", id, err)
				}
				return
			}
			if !signin.IsCode(err, a.want) || id != nil {
				t.Fatalf("%+v, %v; want %s", id, err, a.want)
			}
			if strings.Contains(err.Error(), "林若溪") || strings.Contains(err.Error(), "张三") || strings.Contains(err.Error(), number()) {
				t.Errorf("the error tells who it is: %v", err)
			}
		})
	}
}

// An answer that comes twice is refused, and nothing is asked of the provider a
// second time: neither by the same browser nor from a second copy of its session.
func TestAnswerOnce(t *testing.T) {
	c := newClock()
	f := newFake(t, c.now)
	rp := party(t, c.now, f.config())
	begun, err := rp.Begin(t.Context(), "fake", signin.Options{})
	if err != nil {
		t.Fatal(err)
	}
	q := f.visit(begun.Redirect)
	if _, err := rp.Finish(t.Context(), "fake", begun.Pending, q); err != nil {
		t.Fatal(err)
	}
	if _, err := rp.Finish(t.Context(), "fake", begun.Pending, q); !signin.IsCode(err, signin.Used) {
		t.Errorf("the second time: %v", err)
	}
	if f.tokenCalls != 1 {
		t.Errorf("%d codes were exchanged", f.tokenCalls)
	}
	c.add(13 * time.Minute) // the memory of used states ends after the sign-in did
	if _, err := rp.Finish(t.Context(), "fake", begun.Pending, q); !signin.IsCode(err, signin.Expired) {
		t.Errorf("much later: %v", err)
	}
	// A code that another browser stole is of no use in a sign-in of its own: the
	// verifier is another one.
	mine, err := rp.Begin(t.Context(), "fake", signin.Options{})
	if err != nil {
		t.Fatal(err)
	}
	hers, err := rp.Begin(t.Context(), "fake", signin.Options{})
	if err != nil {
		t.Fatal(err)
	}
	f.visit(mine.Redirect)
	stolen := f.visit(hers.Redirect)
	stolen.Set("state", mine.State)
	if _, err := rp.Finish(t.Context(), "fake", mine.Pending, stolen); !signin.IsCode(err, signin.Refused) && !signin.IsCode(err, signin.BadToken) {
		t.Errorf("a stolen code: %v", err)
	}
}

// The same answer in many windows at once signs in once.
func TestAnswerOnceAtOnce(t *testing.T) {
	c := newClock()
	f := newFake(t, c.now)
	rp := party(t, c.now, f.config())
	begun, err := rp.Begin(t.Context(), "fake", signin.Options{})
	if err != nil {
		t.Fatal(err)
	}
	q := f.visit(begun.Redirect)
	results := make(chan error)
	for range 8 {
		go func() {
			_, err := rp.Finish(t.Context(), "fake", begun.Pending, q)
			results <- err
		}()
	}
	in, used := 0, 0
	for range 8 {
		switch err := <-results; {
		case err == nil:
			in++
		case signin.IsCode(err, signin.Used):
			used++
		}
	}
	if in != 1 || used != 7 || f.tokenCalls != 1 {
		t.Errorf("%d signed in, %d were refused as used, %d codes exchanged", in, used, f.tokenCalls)
	}
}

// Mix-up: a sign-in begun with one provider is never finished with another.
func TestMixUp(t *testing.T) {
	c := newClock()
	honest, evil := newFake(t, c.now), newFake(t, c.now)
	a, b := honest.config(), evil.config()
	a.ID, b.ID = "honest", "evil"
	rp := party(t, c.now, a, b)
	begun, err := rp.Begin(t.Context(), "honest", signin.Options{})
	if err != nil {
		t.Fatal(err)
	}
	q := honest.visit(begun.Redirect)
	if _, err := rp.Finish(t.Context(), "evil", begun.Pending, q); !signin.IsCode(err, signin.WrongIssuer) {
		t.Errorf("at the other's address: %v", err)
	}
	if evil.tokenCalls != 0 {
		t.Error("the other provider was given the code")
	}
	// Nor when neither names itself in its answers.
	delete(honest.discovery, "authorization_response_iss_parameter_supported")
	delete(evil.discovery, "authorization_response_iss_parameter_supported")
	silent := party(t, c.now, a, b)
	if begun, err = silent.Begin(t.Context(), "honest", signin.Options{}); err != nil {
		t.Fatal(err)
	}
	q = honest.visit(begun.Redirect)
	q.Del("iss")
	if _, err := silent.Finish(t.Context(), "evil", begun.Pending, q); !signin.IsCode(err, signin.WrongIssuer) {
		t.Errorf("at the other's address, without iss: %v", err)
	}
	if evil.tokenCalls != 0 {
		t.Error("the other provider was given the code")
	}
	// The evil provider's code, brought to the honest one's address.
	if begun, err = rp.Begin(t.Context(), "honest", signin.Options{}); err != nil {
		t.Fatal(err)
	}
	q = evil.visit(begun.Redirect)
	if _, err := rp.Finish(t.Context(), "honest", begun.Pending, q); !signin.IsCode(err, signin.WrongIssuer) {
		t.Errorf("with the other's iss: %v", err)
	}
	if _, err := rp.Begin(t.Context(), "nobody\n", signin.Options{}); !signin.IsCode(err, signin.UnknownProvider) {
		t.Errorf("a provider that is none: %v", err)
	}
	if _, err := rp.Finish(t.Context(), "nobody", "", nil); !signin.IsCode(err, signin.UnknownProvider) {
		t.Errorf("a provider that is none: %v", err)
	}
}

func TestOutage(t *testing.T) {
	c := newClock()
	f := newFake(t, c.now)
	rp := party(t, c.now, f.config())
	set := func(down bool) {
		f.mu.Lock()
		f.down = down
		f.mu.Unlock()
	}
	begin := func() error {
		_, err := rp.Begin(t.Context(), "fake", signin.Options{})
		return err
	}
	set(true)
	if err := begin(); !signin.IsCode(err, signin.Unreachable) {
		t.Fatalf("away from the start: %v", err)
	}
	set(false)
	if err := begin(); !signin.IsCode(err, signin.Unreachable) {
		t.Fatalf("within the pause after a failure it is not asked again: %v", err)
	}
	c.add(6 * time.Second)
	if err := begin(); err != nil {
		t.Fatal(err)
	}
	set(true)
	if err := begin(); err != nil {
		t.Fatalf("the document is at hand: %v", err)
	}
	c.add(2 * time.Hour)
	if err := begin(); err != nil {
		t.Fatalf("an old document serves for a day: %v", err)
	}
	c.add(24 * time.Hour)
	if err := begin(); !signin.IsCode(err, signin.Unreachable) {
		t.Fatalf("but not for ever: %v", err)
	}
}

func TestDiscoveryRefused(t *testing.T) {
	for name, change := range map[string]func(object){
		"another issuer":        func(d object) { d["issuer"] = "https://evil.example" },
		"no PKCE with S256":     func(d object) { d["code_challenge_methods_supported"] = []string{"plain"} },
		"only HS256":            func(d object) { d["id_token_signing_alg_values_supported"] = []string{"HS256", "none"} },
		"no token endpoint":     func(d object) { delete(d, "token_endpoint") },
		"keys over plain http":  func(d object) { d["jwks_uri"] = "http://evil.example/keys" },
		"a script for endpoint": func(d object) { d["authorization_endpoint"] = "javascript:alert(1)" },
	} {
		c := newClock()
		f := newFake(t, c.now)
		change(f.discovery)
		if _, err := party(t, c.now, f.config()).Begin(t.Context(), "fake", signin.Options{}); !signin.IsCode(err, signin.Unreachable) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestConfig(t *testing.T) {
	good := signin.Provider{ID: "gov", Issuer: "https://id.example.cn", ClientID: "zl"}
	for name, change := range map[string]func(*signin.Config){
		"callback over http":          func(c *signin.Config) { c.Callback = "http://portal.example/cb" },
		"two of one id":               func(c *signin.Config) { c.Providers = append(c.Providers, good) },
		"an id with a slash":          func(c *signin.Config) { c.Providers[0].ID = "a/b" },
		"no id":                       func(c *signin.Config) { c.Providers[0].ID = "" },
		"issuer over http":            func(c *signin.Config) { c.Providers[0].Issuer = "http://id.example.cn" },
		"no client":                   func(c *signin.Config) { c.Providers[0].ClientID = "" },
		"HS256":                       func(c *signin.Config) { c.Providers[0].Algorithms = []string{"HS256"} },
		"claims that are no JSON":     func(c *signin.Config) { c.Providers[0].Claims = json.RawMessage("{") },
		"a framework without name":    func(c *signin.Config) { c.Providers[0].Policy.Frameworks = []signin.Framework{{}} },
		"a demonstration in earnest":  func(c *signin.Config) { c.Providers[0].Demonstration = true },
		"an age below 0":              func(c *signin.Config) { c.Providers[0].Policy.MaxAge = -1 },
		"a level that does not exist": func(c *signin.Config) { c.Providers[0].Policy.Frameworks = []signin.Framework{{Name: "x", AtMost: 4}} },
	} {
		c := signin.Config{Callback: "https://portal.example/cb", Providers: []signin.Provider{good}}
		if _, err := signin.New(c); err != nil {
			t.Fatal(err)
		}
		c.Providers = []signin.Provider{good}
		change(&c)
		if _, err := signin.New(c); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}
