package web_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/zhenglian/zhenglian/internal/identity"
	"github.com/zhenglian/zhenglian/internal/identity/demoprovider"
	"github.com/zhenglian/zhenglian/internal/identity/signin"
	"github.com/zhenglian/zhenglian/internal/web"
	"github.com/zhenglian/zhenglian/internal/web/webtest"
)

var (
	_ web.Providers = (*signin.RelyingParty)(nil)
	_ web.Entrance  = (*identity.Register)(nil)
)

// gate is a portal with the demonstration's provider on a listener of its own.
type gate struct {
	*webtest.Portal
	t        *testing.T
	entrance *webtest.Entrance
	provider *httptest.Server
}

func newGate(t *testing.T, changes ...func(*web.Config)) *gate {
	t.Helper()
	g := &gate{t: t}
	var handler http.Handler
	g.provider = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler.ServeHTTP(w, r) }))
	t.Cleanup(g.provider.Close)
	changes = append([]func(*web.Config){func(c *web.Config) {
		g.entrance = c.Parts.Entrance.(*webtest.Entrance)
		callback := c.Origin + "/signin/callback"
		p, err := demoprovider.New(demoprovider.Config{Issuer: g.provider.URL, Demonstration: true, Clients: []demoprovider.Client{{ID: "portal", RedirectURIs: []string{callback + "/demo"}}}})
		if err != nil {
			t.Fatal(err)
		}
		handler = p.Handler()
		c.Parts.Providers, err = signin.New(signin.Config{Callback: callback, Demonstration: true, Providers: []signin.Provider{{
			ID: "demo", NameZH: "演示身份认证", NameEN: "Demonstration identities", Issuer: g.provider.URL, ClientID: "portal", NumberClaim: demoprovider.NumberClaim, Demonstration: true,
			Policy: signin.Policy{Frameworks: []signin.Framework{{Name: demoprovider.TrustFramework}}},
		}}})
		if err != nil {
			t.Fatal(err)
		}
	}}, changes...)
	g.Portal = webtest.Start(t, changes...)
	return g
}

// surfer is a browser with cookies that does not follow redirects by itself.
type surfer struct {
	t      *testing.T
	client *http.Client
	at     *url.URL
	status int
	page   string
}

func (g *gate) surfer() *surfer {
	jar, err := cookiejar.New(nil)
	if err != nil {
		g.t.Fatal(err)
	}
	at, _ := url.Parse(g.Origin)
	return &surfer{t: g.t, client: &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, at: at}
}

// open asks for an address, and for those that it leads to until one of them
// matches stop; it returns where it ended.
func (s *surfer) open(method, address string, form url.Values, stop string) string {
	s.t.Helper()
	for range 10 {
		to, err := s.at.Parse(address)
		if err != nil {
			s.t.Fatal(err)
		}
		var body io.Reader
		if form != nil {
			body = strings.NewReader(form.Encode())
		}
		req, err := http.NewRequestWithContext(s.t.Context(), method, to.String(), body)
		if err != nil {
			s.t.Fatal(err)
		}
		if form != nil {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		if method == http.MethodPost {
			req.Header.Set("Origin", to.Scheme+"://"+to.Host)
		}
		resp, err := s.client.Do(req)
		if err != nil {
			s.t.Fatal(err)
		}
		page, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			s.t.Fatal(err)
		}
		s.at, s.status, s.page = to, resp.StatusCode, string(page)
		next := resp.Header.Get("Location")
		if next == "" {
			return to.String()
		}
		absolute, err := to.Parse(next)
		if err != nil {
			s.t.Fatal(err)
		}
		if stop != "" && strings.Contains(absolute.String(), stop) {
			return absolute.String()
		}
		method, address, form = http.MethodGet, absolute.String(), nil
	}
	s.t.Fatal("too many redirects")
	return ""
}

// choose fills in the provider's page and stops before the portal's callback.
func (s *surfer) choose(person string) string {
	s.t.Helper()
	id := regexp.MustCompile(`name="id" value="([^"]+)"`).FindStringSubmatch(s.page)
	if id == nil {
		s.t.Fatalf("this is not the provider's page: %d %s", s.status, s.page)
	}
	return s.open(http.MethodPost, "/login", url.Values{"id": {id[1]}, "person": {person}}, "/signin/callback/")
}

func (s *surfer) signIn(g *gate, lang, person string) {
	s.t.Helper()
	s.open(http.MethodGet, g.Origin+"/signin/with/demo?lang="+lang, nil, "")
	s.open(http.MethodGet, s.choose(person), nil, "")
}

func (g *gate) cookie(s *surfer) string {
	at, _ := url.Parse(g.Origin)
	for _, c := range s.client.Jar.Cookies(at) {
		if strings.HasSuffix(c.Name, "zhenglian") {
			return c.Value
		}
	}
	return ""
}

func TestSignInPages(t *testing.T) {
	g := newGate(t)
	s := g.surfer()
	// She wants a page for people who are signed in, and gets there in the end.
	if at := s.open(http.MethodGet, g.Origin+"/en/session", nil, ""); !strings.Contains(at, "/en/signin?next=%2Fen%2Fsession") {
		t.Fatalf("led to %s", at)
	}
	link := regexp.MustCompile(`href="(/signin/with/demo[^"]+)"`).FindStringSubmatch(s.page)
	if link == nil || !strings.Contains(s.page, "demonstration identity") {
		t.Fatalf("no way to the provider: %s", s.page)
	}
	s.open(http.MethodGet, strings.ReplaceAll(link[1], "&amp;", "&"), nil, "")
	if !strings.Contains(s.page, "Demonstration identities, no real persons") || !strings.Contains(s.page, "Lin Ruoxi") {
		t.Fatalf("not at the provider, or not in English: %s", s.page)
	}
	before := g.cookie(s)
	at := s.open(http.MethodGet, s.choose("demo-lin"), nil, "")
	if at != g.Origin+"/en/session" || s.status != http.StatusOK {
		t.Fatalf("ended at %s: %d", at, s.status)
	}
	for _, want := range []string{"林若溪", "You are signed in", "Level 3", "demo-lin", g.provider.URL, "demonstration identity"} {
		if !strings.Contains(s.page, want) {
			t.Errorf("the page about the session does not have %q", want)
		}
	}
	if strings.Contains(s.page, "119999199205149024") {
		t.Error("the page shows the number")
	}
	if after := g.cookie(s); after == "" || after == before {
		t.Errorf("the session kept its cookie over the sign-in")
	}
	learned := g.entrance.Learned[0]
	if learned.Issuer != g.provider.URL || learned.Subject != "demo-lin" || len(learned.Facts) != 3 || learned.Facts[2].Value != "119999199205149024" || learned.Facts[0].Level != 3 || learned.Facts[1].Value != identity.DocumentID || learned.Address != "127.0.0.1" {
		t.Errorf("the register learned %+v", learned)
	}
	if n := g.entrance.Counted("127.0.0.1"); n != 0 {
		t.Errorf("%d attempts count against her address", n)
	}
	// Who is signed in is not asked again.
	if at := s.open(http.MethodGet, g.Origin+"/en/signin?next=/en/session", nil, ""); at != g.Origin+"/en/session" {
		t.Errorf("led to %s", at)
	}
	s.open(http.MethodPost, g.Origin+"/en/signout", url.Values{}, "")
	if !strings.Contains(s.page, "You are signed out") {
		t.Errorf("nothing says so: %s", s.page)
	}
	if at := s.open(http.MethodGet, g.Origin+"/en/session", nil, ""); !strings.Contains(at, "/en/signin") {
		t.Errorf("still signed in: %s", at)
	}
}

func TestSelfAsserted(t *testing.T) {
	g := newGate(t)
	s := g.surfer()
	s.signIn(g, "zh-CN", "demo-wu")
	s.open(http.MethodGet, g.Origin+"/zh-CN/session", nil, "")
	if !strings.Contains(s.page, "认证方没有提供您的核验信息") || !strings.Contains(s.page, "吴小满") {
		t.Errorf("the page does not say why: %s", s.page)
	}
	if f := g.entrance.Learned[0].Facts; len(f) != 1 || f[0].Name != identity.FactRealName || f[0].Level != 1 {
		t.Errorf("the register learned %+v", f)
	}
}

// Session fixation: a cookie that somebody knew before the sign-in is worth
// nothing after it, and what was in that session is gone.
func TestFixation(t *testing.T) {
	g := newGate(t)
	victim, attacker := g.surfer(), g.surfer()
	victim.open(http.MethodGet, g.Origin+"/signin/with/demo?lang=en", nil, "")
	at, _ := url.Parse(g.Origin)
	attacker.client.Jar.SetCookies(at, []*http.Cookie{{Name: "zhenglian", Value: g.cookie(victim), Path: "/"}})
	victim.open(http.MethodGet, victim.choose("demo-lin"), nil, "")
	if to := attacker.open(http.MethodGet, g.Origin+"/en/session", nil, ""); !strings.Contains(to, "/en/signin") {
		t.Errorf("the old cookie is signed in: %s", to)
	}
}

// Login CSRF: the attacker's own answer, brought to the victim's browser, signs
// nobody in; nor does a link on another site begin anything.
func TestForeignAnswer(t *testing.T) {
	g := newGate(t)
	attacker, victim := g.surfer(), g.surfer()
	attacker.open(http.MethodGet, g.Origin+"/signin/with/demo?lang=en", nil, "")
	answer := attacker.choose("demo-gao")
	for name, prepare := range map[string]func(){
		"a browser without session": func() {},
		"a browser that began its own": func() {
			victim.open(http.MethodGet, g.Origin+"/signin/with/demo?lang=en", nil, "")
		},
	} {
		prepare()
		victim.open(http.MethodGet, answer, nil, "")
		if !strings.Contains(victim.at.Path, "/signin") || len(g.entrance.Learned) != 0 {
			t.Errorf("%s: at %s, %v", name, victim.at, g.entrance.Learned)
		}
		if strings.Contains(victim.page, "You are signed in") {
			t.Errorf("%s: signed in", name)
		}
	}
	if !strings.Contains(victim.page, "与本浏览器发起的登录不符") {
		t.Errorf("nothing says what happened: %s", victim.page)
	}
	if n := g.entrance.Counted("127.0.0.1"); n != 2 {
		t.Errorf("%d attempts count, want 2", n)
	}
	resp, _ := get(t, g.Portal, "GET", "/signin/with/demo", func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") })
	if to := resp.Header.Get("Location"); to != "/zh-CN/signin" {
		t.Errorf("another site's link leads to %q", to)
	}
	// The answer is still good where it belongs, once.
	attacker.open(http.MethodGet, answer, nil, "")
	if !strings.Contains(attacker.page, "You are signed in") {
		t.Errorf("%s", attacker.page)
	}
	attacker.open(http.MethodGet, answer, nil, "")
	if len(g.entrance.Learned) != 1 {
		t.Errorf("the answer counted %d times", len(g.entrance.Learned))
	}
}

func TestStepUp(t *testing.T) {
	g := newGate(t)
	s := g.surfer()
	s.signIn(g, "en", "demo-lin")
	s.open(http.MethodGet, g.Origin+"/en/signin/confirm?next=/en/session", nil, "")
	link := regexp.MustCompile(`href="(/signin/with/demo[^"]+)"`).FindStringSubmatch(s.page)
	if link == nil {
		t.Fatalf("no way to the provider: %s", s.page)
	}
	address := g.Origin + strings.ReplaceAll(link[1], "&amp;", "&")
	before := g.cookie(s)
	s.open(http.MethodGet, address, nil, "")
	s.open(http.MethodGet, s.choose("demo-lin"), nil, "")
	if !strings.Contains(s.page, "You have confirmed") || s.at.Path != "/en/session" || g.cookie(s) == before {
		t.Errorf("at %s, cookie renewed %v: %s", s.at, g.cookie(s) != before, s.page)
	}
	// Somebody else at the keyboard: nobody changes, and it counts against her.
	s.open(http.MethodGet, address, nil, "")
	s.open(http.MethodGet, s.choose("demo-gao"), nil, "")
	if !strings.Contains(s.page, "Another account signed in") || s.at.Path != "/en/signin/confirm" || !strings.Contains(s.page, "林若溪") {
		t.Errorf("at %s: %s", s.at, s.page)
	}
	if n := g.entrance.Counted("p:demo-lin"); n != 1 {
		t.Errorf("%d attempts count against her, want 1", n)
	}
	// A confirmation whose session is over confirms nothing.
	s.open(http.MethodGet, address, nil, "")
	answer := s.choose("demo-lin")
	if _, err := g.entrance.SignOutEverywhere(t.Context(), identity.Who{Person: "p:demo-lin"}); err != nil {
		t.Fatal(err)
	}
	s.open(http.MethodGet, answer, nil, "")
	if strings.Contains(s.page, "You have confirmed") {
		t.Error("a session that was ended confirmed something")
	}
}

func TestSignOutEverywhere(t *testing.T) {
	g := newGate(t)
	one, two := g.surfer(), g.surfer()
	one.signIn(g, "en", "demo-chen")
	two.signIn(g, "en", "demo-chen")
	one.open(http.MethodGet, g.Origin+"/en/signout/everywhere", nil, "")
	if !strings.Contains(one.page, `action="/en/signout/everywhere"`) {
		t.Fatalf("%s", one.page)
	}
	one.open(http.MethodPost, g.Origin+"/en/signout/everywhere", url.Values{}, "")
	if !strings.Contains(one.page, "All your sign-ins have ended") {
		t.Errorf("%s", one.page)
	}
	for i, s := range []*surfer{one, two} {
		if to := s.open(http.MethodGet, g.Origin+"/en/session", nil, ""); !strings.Contains(to, "/en/signin") {
			t.Errorf("browser %d is still signed in: %s", i+1, to)
		}
	}
}

func TestSignInRefused(t *testing.T) {
	for want, err := range map[string]error{
		"registered under another sign-in":     identity.ErrDocument,
		"does not fit the registered identity": identity.ErrConflict,
		"Something failed here":                fmt.Errorf("the disk is full of %s", "119999199205149024"),
		"This account cannot sign in here now": nil, // locked by the institution
		"Too many attempts to sign in":         &identity.Locked{},
	} {
		g := newGate(t)
		s := g.surfer()
		s.open(http.MethodGet, g.Origin+"/signin/with/demo?lang=en", nil, "")
		answer := s.choose("demo-lin")
		switch {
		case err == nil:
			g.entrance.Locked = true
		case strings.HasPrefix(want, "Too many"):
			g.entrance.Most, g.entrance.Failures["127.0.0.1"] = 1, 1
		default:
			g.entrance.Refuse = err
		}
		s.open(http.MethodGet, answer, nil, "")
		if !strings.Contains(s.page, want) || s.status < 400 || strings.Contains(s.page, "119999199205149024") {
			t.Errorf("%s: %d %s", want, s.status, s.page)
		}
		if to := s.open(http.MethodGet, g.Origin+"/en/session", nil, ""); !strings.Contains(to, "/en/signin") {
			t.Errorf("%s: signed in all the same", want)
		}
	}
}

func TestProviderAway(t *testing.T) {
	g := newGate(t)
	g.provider.Close()
	s := g.surfer()
	s.open(http.MethodGet, g.Origin+"/signin/with/demo?lang=en&next=/en/session", nil, "")
	if s.at.Path != "/en/signin" || !strings.Contains(s.page, "does not answer as it should") || !strings.Contains(s.page, "next=%2Fen%2Fsession") {
		t.Errorf("at %s: %s", s.at, s.page)
	}
}

// Where a sign-in leads afterwards is a page of this portal, whatever the link said.
func TestNextStaysHere(t *testing.T) {
	for _, next := range []string{"https://evil.example/", "//evil.example", "/\\evil.example", "/en//evil.example", "javascript:alert(1)", "/en/\nx"} {
		g := newGate(t)
		s := g.surfer()
		s.open(http.MethodGet, g.Origin+"/signin/with/demo?"+url.Values{"lang": {"en"}, "next": {next}}.Encode(), nil, "")
		if at := s.open(http.MethodGet, s.choose("demo-lin"), nil, ""); at != g.Origin+"/en/" {
			t.Errorf("%q leads to %s", next, at)
		}
	}
}

func TestCookieOfSignIn(t *testing.T) {
	g := newGate(t)
	resp, _ := get(t, g.Portal, "GET", "/signin/with/demo", nil)
	if len(resp.Cookies()) != 1 {
		t.Fatalf("cookies: %v", resp.Cookies())
	}
	if c := resp.Cookies()[0]; !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.MaxAge != 0 || !c.Expires.IsZero() {
		t.Errorf("%+v", c)
	}
	secure, err := web.New(func() web.Config {
		c := webtest.Config(g.Portal)
		c.Origin = "https://portal.example"
		c.Alliance = web.Alliance{ID: g.Alliance.ID(), Name: "x"}
		c.Parts.Providers = begins{}
		return c
	}())
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	secure.Handler().ServeHTTP(w, httptest.NewRequest("GET", "https://portal.example/signin/with/demo", nil))
	if len(w.Result().Cookies()) != 1 {
		t.Fatalf("cookies: %v", w.Result().Cookies())
	}
	if c := w.Result().Cookies()[0]; c.Name != "__Host-zhenglian" || !c.Secure || !c.HttpOnly || c.Domain != "" || c.Path != "/" {
		t.Errorf("%+v", c)
	}
}

// begins is a provider that sends browsers somewhere.
type begins struct{ webtest.Providers }

func (begins) Begin(_ context.Context, _ string, _ signin.Options) (*signin.Begun, error) {
	return &signin.Begun{Redirect: "https://id.example/authorize", State: "s", Pending: "p"}, nil
}

func TestSignInRate(t *testing.T) {
	g := newGate(t, func(c *web.Config) {
		c.Limits = web.Limits{PagesPerMinute: -1, ActsPerMinute: 100}
		c.Parts.Providers = begins{}
	})
	last := 0
	for range 61 {
		resp, _ := get(t, g.Portal, "GET", "/signin/with/demo", nil)
		last = resp.StatusCode
	}
	if last != http.StatusTooManyRequests {
		t.Errorf("the sixty-first sign-in of a minute: %d", last)
	}
}
