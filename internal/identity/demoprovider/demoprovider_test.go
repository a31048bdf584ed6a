package demoprovider_test

import (
	"encoding/json"
	"html"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/internal/identity/demoprovider"
	"github.com/zhenglian/zhenglian/internal/identity/gb"
	"github.com/zhenglian/zhenglian/internal/identity/gb/gbtest"
	"github.com/zhenglian/zhenglian/internal/identity/signin"
)

// stage is a provider on a loopback listener, mounted at a path beside another
// page, and a portal that uses it.
type stage struct {
	t        *testing.T
	server   *httptest.Server
	provider *demoprovider.Provider
	rp       *signin.RelyingParty
	now      time.Time
}

func newStage(t *testing.T, secret string) *stage {
	s := &stage{t: t, now: time.Now()}
	mux := http.NewServeMux()
	s.server = httptest.NewServer(mux)
	t.Cleanup(s.server.Close)
	issuer := s.server.URL + "/demo-identity"
	callback := "http://localhost:1/signin/callback"
	var err error
	s.provider, err = demoprovider.New(demoprovider.Config{Issuer: issuer, Demonstration: true, Now: func() time.Time { return s.now },
		Clients: []demoprovider.Client{{ID: "portal", Secret: secret, RedirectURIs: []string{callback + "/demo"}}, {ID: "other", RedirectURIs: []string{"http://localhost:2/cb"}}}})
	if err != nil {
		t.Fatal(err)
	}
	mux.Handle("/demo-identity/", s.provider.Handler())
	s.rp, err = signin.New(signin.Config{Callback: callback, Demonstration: true, Now: func() time.Time { return s.now }, Providers: []signin.Provider{{
		ID: "demo", Issuer: issuer, ClientID: "portal", Secret: secret, Scopes: []string{"openid", "profile"}, NumberClaim: demoprovider.NumberClaim, Demonstration: true,
		Policy: signin.Policy{Frameworks: []signin.Framework{{Name: demoprovider.TrustFramework}}, MaxAge: 24 * time.Hour},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func browser() *http.Client {
	return &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// page reads a page and checks what every page of this provider must have.
func (s *stage) page(resp *http.Response, err error) string {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	if !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") {
		s.t.Fatalf("%s answers %s: %s", resp.Request.URL, resp.Status, body)
	}
	text := string(body)
	if !strings.Contains(text, "演示身份，并无真人") && !strings.Contains(text, "Demonstration identities, no real persons") {
		s.t.Errorf("%s has no banner", resp.Request.URL)
	}
	if strings.Contains(text, "<script") || !strings.Contains(resp.Header.Get("Content-Security-Policy"), "default-src 'none'") {
		s.t.Errorf("%s has a script, or lets one in", resp.Request.URL)
	}
	for _, p := range demoprovider.People() {
		if strings.Contains(text, p.Number) {
			s.t.Errorf("%s shows a number", resp.Request.URL)
		}
	}
	return text
}

// choose goes through the pages as a person does and returns the answer that the
// portal gets.
func (s *stage) choose(redirect, person string) url.Values {
	s.t.Helper()
	resp, err := browser().Get(redirect)
	if err != nil {
		s.t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusSeeOther {
		s.t.Fatalf("the authorization endpoint answers %s", resp.Status)
	}
	next, _ := resp.Location()
	text := s.page(browser().Get(next.String()))
	id := regexp.MustCompile(`name="id" value="([^"]+)"`).FindStringSubmatch(text)
	action := regexp.MustCompile(`action="([^"]+)"`).FindStringSubmatch(text)
	if id == nil || action == nil {
		s.t.Fatalf("no form: %s", text)
	}
	to, _ := next.Parse(html.UnescapeString(action[1]))
	resp, err = browser().PostForm(to.String(), url.Values{"id": {id[1]}, "person": {person}})
	if err != nil {
		s.t.Fatal(err)
	}
	resp.Body.Close()
	back, err := resp.Location()
	if err != nil {
		s.t.Fatalf("no way back: %s", resp.Status)
	}
	if !strings.HasPrefix(back.String(), "http://localhost:1/signin/callback/demo?") {
		s.t.Fatalf("sent to %s", back)
	}
	// The form is spent.
	resp, err = browser().PostForm(to.String(), url.Values{"id": {id[1]}, "person": {person}})
	s.page(resp, err)
	if resp.StatusCode != http.StatusGone {
		s.t.Errorf("a form that was sent answers %s", resp.Status)
	}
	return back.Query()
}

func TestPeople(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range demoprovider.People() {
		id, err := gb.ParseIDNumber(p.Number, time.Now())
		if err != nil {
			t.Errorf("%s: %v", p.Subject, err)
			continue
		}
		if id.Region() != gbtest.Region {
			t.Errorf("%s has a number of a region that may exist", p.Subject)
		}
		if id.Birth().Format(time.DateOnly) != p.Birth || seen[p.Number] || seen[p.Subject] {
			t.Errorf("%s: birth %s, or somebody else's number", p.Subject, p.Birth)
		}
		seen[p.Number], seen[p.Subject] = true, true
		if o := p.Organisation; o != nil {
			if u, err := gb.ParseUSCC(o.USCC); err != nil || u.String()[2:8] != gbtest.Region {
				t.Errorf("%s: %v", o.NameEN, err)
			}
		}
	}
}

func TestSignInAsEverybody(t *testing.T) {
	for _, secret := range []string{"", "a client's secret: 秘密+/="} {
		s := newStage(t, secret)
		for _, p := range s.provider.People() {
			begun, err := s.rp.Begin(t.Context(), "demo", signin.Options{Language: "en", Fresh: true, ACR: []string{demoprovider.ACR}})
			if err != nil {
				t.Fatal(err)
			}
			id, err := s.rp.Finish(t.Context(), "demo", begun.Pending, s.choose(begun.Redirect, p.Subject))
			if err != nil {
				t.Fatal(err)
			}
			if id.Subject != p.Subject || int(id.Level) != p.Level || id.Name != p.NameZH || !id.Demo || id.Issuer != s.provider.Issuer() {
				t.Errorf("%s: %+v", p.Subject, id)
			}
			if p.Level > 1 && id.Facts.Number.Number() != p.Number || p.Level == 1 && id.Facts != (signin.Facts{}) {
				t.Errorf("%s: %v", p.Subject, id.Facts)
			}
		}
	}
}

func TestLanguages(t *testing.T) {
	s := newStage(t, "")
	for lang, want := range map[string]string{"zh-CN": "请选择登录身份", "en": "Choose who to sign in as"} {
		begun, err := s.rp.Begin(t.Context(), "demo", signin.Options{Language: lang})
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.Get(begun.Redirect)
		if text := s.page(resp, err); !strings.Contains(text, want) || !strings.Contains(text, `lang="`+lang+`"`) {
			t.Errorf("%s: %.300s", lang, text)
		}
		if csp := resp.Header.Get("Content-Security-Policy"); !strings.Contains(csp, "form-action 'self' http://localhost:1;") {
			t.Errorf("the browser would stop on its way back to the portal: %s", csp)
		}
	}
}

func TestCancel(t *testing.T) {
	s := newStage(t, "")
	begun, err := s.rp.Begin(t.Context(), "demo", signin.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.rp.Finish(t.Context(), "demo", begun.Pending, s.choose(begun.Redirect, "")); !signin.IsCode(err, signin.Cancelled) {
		t.Error(err)
	}
}

// What the provider refuses at its authorization endpoint.
func TestAuthorizeRefuses(t *testing.T) {
	s := newStage(t, "")
	begun, err := s.rp.Begin(t.Context(), "demo", signin.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		key, value string
		want       string // the error that the portal gets; empty: a page
	}{
		"unknown client":                  {"client_id", "nobody", ""},
		"another redirect address":        {"redirect_uri", "http://localhost:1/signin/callback/demo/", ""},
		"another client's address":        {"redirect_uri", "http://localhost:2/cb", ""},
		"no PKCE":                         {"code_challenge", "", "invalid_request"},
		"plain PKCE":                      {"code_challenge_method", "plain", "invalid_request"},
		"no openid":                       {"scope", "profile", "invalid_scope"},
		"implicit":                        {"response_type", "id_token", "unauthorized_client"},
		"in the fragment":                 {"response_mode", "fragment", "invalid_request"},
		"without asking":                  {"prompt", "none", "login_required"},
		"a request object":                {"request", "x.y.z", "request_not_supported"},
		"claims that are none":            {"claims", "[", "invalid_request"},
		"an ID token hint of anybody's":   {"id_token_hint", "x", "-"},
		"a parameter that nobody defined": {"x", "y", "-"},
	} {
		u, _ := url.Parse(begun.Redirect)
		q := u.Query()
		q.Set(c.key, c.value)
		u.RawQuery = q.Encode()
		resp, err := browser().Get(u.String())
		if err != nil {
			t.Fatal(err)
		}
		if c.want == "" {
			if resp.StatusCode != http.StatusBadRequest {
				t.Errorf("%s: %s", name, resp.Status)
			}
			s.page(resp, err)
			continue
		}
		resp.Body.Close()
		to, _ := resp.Location()
		if c.want == "-" {
			if to == nil || to.Path != "/demo-identity/login" {
				t.Errorf("%s: sent to %v", name, to)
			}
			continue
		}
		if to == nil || to.Query().Get("error") != c.want || to.Query().Get("iss") != s.provider.Issuer() || to.Query().Get("state") != begun.State || to.Query().Get("code") != "" {
			t.Errorf("%s: sent to %v", name, to)
		}
	}
}

// What it refuses at its token endpoint, and what a second use of a code costs.
func TestTokenRefuses(t *testing.T) {
	verifier, redirect := "v0123456789012345678901234567890123456789012", "http://localhost:1/signin/callback/demo"
	challenge := "mnqkC7zLNT_OW_1m-Zmh6T5TjVY18xxN17_IL2I8cRo"
	s := newStage(t, "")
	code := func() string {
		q := url.Values{"client_id": {"portal"}, "redirect_uri": {redirect}, "response_type": {"code"}, "scope": {"openid"}, "state": {"s"}, "nonce": {"n"}, "code_challenge": {challenge}, "code_challenge_method": {"S256"}}
		return s.choose(s.provider.Issuer()+"/authorize?"+q.Encode(), "demo-lin").Get("code")
	}
	exchange := func(form url.Values) (int, map[string]any) {
		resp, err := http.PostForm(s.provider.Issuer()+"/token", form)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var out map[string]any
		if err := json.NewDecoder(resp.Body).Decode(&out); err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, out
	}
	form := func(change ...string) url.Values {
		f := url.Values{"grant_type": {"authorization_code"}, "client_id": {"portal"}, "redirect_uri": {redirect}, "code": {code()}, "code_verifier": {verifier}}
		for i := 0; i+1 < len(change); i += 2 {
			f.Set(change[i], change[i+1])
		}
		return f
	}
	for name, f := range map[string]url.Values{
		"another verifier":         form("code_verifier", strings.Repeat("w", 43)),
		"no verifier":              form("code_verifier", ""),
		"another client":           form("client_id", "other"),
		"unknown client":           form("client_id", "nobody"),
		"another redirect address": form("redirect_uri", "http://localhost:2/cb"),
		"an invented code":         form("code", "x"),
		"a refresh token":          form("grant_type", "refresh_token", "refresh_token", "x"),
		"client credentials":       form("grant_type", "client_credentials"),
	} {
		if status, out := exchange(f); status < 400 || status >= 500 || out["id_token"] != nil || out["error"] == nil {
			t.Errorf("%s: %d %v", name, status, out)
		}
		// Whoever guessed wrong has spent the code.
		if name == "another verifier" {
			f.Set("code_verifier", verifier)
			if status, _ := exchange(f); status < 400 {
				t.Error("a second try is allowed")
			}
		}
	}
	good := form()
	status, out := exchange(good)
	if status != http.StatusOK || out["id_token"] == nil || out["refresh_token"] != nil {
		t.Fatalf("%d %v", status, out)
	}
	userinfo := func() int {
		req, _ := http.NewRequest(http.MethodGet, s.provider.Issuer()+"/userinfo", nil)
		req.Header.Set("Authorization", "Bearer "+out["access_token"].(string))
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		if strings.Contains(string(body), "verified_claims") {
			t.Error("verified claims that nobody asked for")
		}
		return resp.StatusCode
	}
	if userinfo() != http.StatusOK {
		t.Error("the access token is of no use")
	}
	if status, _ := exchange(good); status != http.StatusBadRequest {
		t.Errorf("the second use of a code: %d", status)
	}
	if userinfo() < 400 {
		t.Error("the access token outlives the second use of its code")
	}
	late := form()
	s.now = s.now.Add(2 * time.Minute)
	if status, _ := exchange(late); status != http.StatusBadRequest {
		t.Errorf("an old code: %d", status)
	}
}

// A form on another site cannot choose for her.
func TestForeignForm(t *testing.T) {
	s := newStage(t, "")
	req, _ := http.NewRequest(http.MethodPost, s.provider.Issuer()+"/login", strings.NewReader("id=x&person=demo-lin"))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Sec-Fetch-Site", "cross-site")
	resp, err := browser().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("%s", resp.Status)
	}
}

func TestOnlyForDemonstrations(t *testing.T) {
	c := demoprovider.Config{Issuer: "http://localhost:1/demo"}
	if _, err := demoprovider.New(c); err == nil {
		t.Error("it runs at a portal that is no demonstration")
	}
	c.Demonstration = true
	if _, err := demoprovider.New(c); err != nil {
		t.Error(err)
	}
	c.Issuer = "http://localhost:1/demo/"
	if _, err := demoprovider.New(c); err == nil {
		t.Error("an issuer that ends with a slash is accepted")
	}
}

func TestKeyFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "demo.pem")
	keys := func() string {
		p, err := demoprovider.New(demoprovider.Config{Issuer: "http://localhost:1/demo", Demonstration: true, KeyFile: name})
		if err != nil {
			t.Fatal(err)
		}
		w := httptest.NewRecorder()
		p.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/demo/keys", nil))
		if strings.Contains(w.Body.String(), `"d"`) {
			t.Fatal("the private key is published")
		}
		return w.Body.String()
	}
	if a, b := keys(), keys(); a != b || !strings.Contains(a, "P-256") {
		t.Errorf("the key changed: %s %s", a, b)
	}
	if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
	if err := os.WriteFile(name, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := demoprovider.New(demoprovider.Config{Issuer: "http://localhost:1/demo", Demonstration: true, KeyFile: name}); err == nil {
		t.Error("a file that holds no key is accepted")
	}
}
