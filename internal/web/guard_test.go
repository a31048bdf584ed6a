package web_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/zhenglian/zhenglian/internal/web"
	"github.com/zhenglian/zhenglian/internal/web/webtest"
)

// Every route of the table is tried by everybody: who the table does not admit is
// led to sign in, or refused, and never reaches the handler.
func TestAccessTable(t *testing.T) {
	p := webtest.Start(t)
	admitted := map[string][]string{
		"public":   {"", webtest.Newcomer, webtest.Member, webtest.Officer, webtest.Operator},
		"signedIn": {webtest.Newcomer, webtest.Member, webtest.Officer, webtest.Operator},
		"member":   {webtest.Member, webtest.Officer},
		"officer":  {webtest.Officer},
		"operator": {webtest.Operator},
	}
	tried := 0
	for _, route := range p.Site.Routes() {
		for _, person := range []string{"", webtest.Newcomer, webtest.Member, webtest.Officer, webtest.Operator} {
			if slices.Contains(admitted[route.Access], person) {
				continue
			}
			tried++
			path := regexp.MustCompile(`\{[^}]*\}`).ReplaceAllString(route.Pattern, "x")
			if route.Kind == "page" {
				path = "/en" + path
			}
			resp, body := get(t, p, route.Method, path, func(r *http.Request) {
				r.Header.Set("Sec-Fetch-Site", "same-origin")
				if person != "" {
					r.AddCookie(p.SignIn(t, person))
				}
			})
			name := fmt.Sprintf("%s %s by %q", route.Method, path, person)
			switch {
			case person == "" && route.Kind == "page" && route.Method == "GET":
				if resp.StatusCode != http.StatusSeeOther || !strings.HasPrefix(resp.Header.Get("Location"), "/en/signin?next=") {
					t.Errorf("%s: %d to %q, want the way to sign in", name, resp.StatusCode, resp.Header.Get("Location"))
				}
			case person == "":
				if resp.StatusCode != http.StatusUnauthorized {
					t.Errorf("%s: %d, want 401\n%s", name, resp.StatusCode, body)
				}
			default:
				if resp.StatusCode != http.StatusForbidden {
					t.Errorf("%s: %d, want 403\n%s", name, resp.StatusCode, body)
				}
			}
			if route.Kind == "app" && resp.Header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("%s: the refusal is %s", name, resp.Header.Get("Content-Type"))
			}
		}
	}
	if tried < 4 {
		t.Errorf("only %d refusals were tried: the table is wrong", tried)
	}
}

// A refusal is in the reader's language and says what to do.
func TestProblemPages(t *testing.T) {
	p := webtest.Start(t)
	for path, want := range map[string][]string{
		"/zh-CN/nowhere": {"没有这个页面", "首页", `lang="zh-CN"`},
		"/en/nowhere":    {"There is no such page", "front page", `lang="en"`},
	} {
		resp, body := get(t, p, "GET", path, nil)
		if resp.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %d", path, resp.StatusCode)
		}
		for _, w := range want {
			if !strings.Contains(body, w) {
				t.Errorf("%s does not say %q", path, w)
			}
		}
	}
	resp, body := get(t, p, "GET", "/somewhere", func(r *http.Request) { r.Header.Set("Accept-Language", "en") })
	if resp.StatusCode != http.StatusNotFound || !strings.Contains(body, "There is no such page") {
		t.Errorf("a path without language: %d", resp.StatusCode)
	}
}

func TestHeaders(t *testing.T) {
	p := webtest.Start(t)
	resp, _ := get(t, p, "GET", "/en/", nil)
	csp := resp.Header.Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "script-src 'self' 'wasm-unsafe-eval'", "style-src 'self'", "connect-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'", "require-trusted-types-for 'script'"} {
		if !strings.Contains(csp, want) {
			t.Errorf("the policy %q lacks %q", csp, want)
		}
	}
	for _, bad := range []string{"unsafe-inline", "'unsafe-eval'", "http:", "https:", "*", "data:"} {
		if strings.Contains(csp, bad) {
			t.Errorf("the policy %q has %q", csp, bad)
		}
	}
	for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin", "Cross-Origin-Opener-Policy": "same-origin",
		"Cross-Origin-Resource-Policy": "same-origin", "Cache-Control": "no-store", "Strict-Transport-Security": ""} {
		if got := resp.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// Over https the browser is told to stay with it, and the cookie is pinned to
// this host.
func TestHTTPS(t *testing.T) {
	p := webtest.Start(t, func(c *web.Config) { c.Origin = "https://portal.example" })
	req := httptest.NewRequest("POST", "https://portal.example/en/signout", nil)
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	c := p.SignIn(t, webtest.Member)
	c.Name = "__Host-zhenglian"
	req.AddCookie(c)
	w := httptest.NewRecorder()
	p.Site.Handler().ServeHTTP(w, req)
	resp := w.Result()
	if got := resp.Header.Get("Strict-Transport-Security"); !strings.Contains(got, "max-age=31536000") {
		t.Errorf("HSTS is %q", got)
	}
	set := resp.Header.Get("Set-Cookie")
	for _, want := range []string{"__Host-zhenglian=", "HttpOnly", "Secure", "SameSite=Lax", "Path=/"} {
		if !strings.Contains(set, want) {
			t.Errorf("the cookie is %q, without %q", set, want)
		}
	}
	if strings.Contains(set, "Domain") {
		t.Errorf("the cookie %q has a domain", set)
	}
}

// Another site's request is refused, whatever its way; and so is one with a
// session's cookie that does not say where it comes from, which the library
// would let pass.
func TestOtherSitesRequests(t *testing.T) {
	p := webtest.Start(t)
	cookie := p.SignIn(t, webtest.Member)
	for _, c := range []struct {
		name   string
		change func(*http.Request)
		want   int
	}{
		{"own page", func(r *http.Request) { r.AddCookie(cookie); r.Header.Set("Sec-Fetch-Site", "same-origin") }, 303},
		{"own page of an older browser", func(r *http.Request) { r.AddCookie(cookie); r.Header.Set("Origin", p.Origin) }, 303},
		{"other site", func(r *http.Request) { r.AddCookie(cookie); r.Header.Set("Sec-Fetch-Site", "cross-site") }, 403},
		{"other host of the same site", func(r *http.Request) { r.AddCookie(cookie); r.Header.Set("Sec-Fetch-Site", "same-site") }, 403},
		{"other origin", func(r *http.Request) { r.AddCookie(cookie); r.Header.Set("Origin", "https://evil.example") }, 403},
		{"no origin named", func(r *http.Request) { r.AddCookie(cookie); r.Header.Set("Origin", "null") }, 403},
		{"neither header", func(r *http.Request) { r.AddCookie(cookie) }, 403},
	} {
		resp, body := get(t, p, "POST", "/en/signout", c.change)
		if resp.StatusCode != c.want {
			t.Errorf("%s: %d, want %d", c.name, resp.StatusCode, c.want)
		}
		if c.want == 403 && !strings.Contains(body, "came from another site") {
			t.Errorf("%s: the page does not say why", c.name)
		}
		if c.want == 303 {
			cookie = p.SignIn(t, webtest.Member)
		}
	}
}

func TestOtherHostIsRefused(t *testing.T) {
	p := webtest.Start(t)
	resp, body := get(t, p, "GET", "/en/", func(r *http.Request) { r.Host = "evil.example" })
	if resp.StatusCode != http.StatusMisdirectedRequest || !strings.Contains(body, p.Origin) {
		t.Errorf("another host: %d", resp.StatusCode)
	}
	if resp, _ := get(t, p, "GET", "/healthz", func(r *http.Request) { r.Host = "10.0.0.1" }); resp.StatusCode != http.StatusOK {
		t.Errorf("the health check by address: %d", resp.StatusCode)
	}
}

// Requests are limited by address, behind a trusted proxy by the address that it
// saw; nobody else's word on it counts.
func TestRateLimit(t *testing.T) {
	p := webtest.Start(t, func(c *web.Config) { c.Limits = web.Limits{PagesPerMinute: 5, ActsPerMinute: -1} })
	last := 0
	for i := range 12 {
		resp, body := get(t, p, "GET", "/en/", func(r *http.Request) { r.Header.Set("X-Forwarded-For", fmt.Sprintf("192.0.2.%d", i)) })
		last = resp.StatusCode
		if last == http.StatusTooManyRequests && (resp.Header.Get("Retry-After") == "" || !strings.Contains(body, "Wait a minute")) {
			t.Error("the refusal does not say when to come back")
		}
	}
	if last != http.StatusTooManyRequests {
		t.Errorf("the twelfth request in a minute got %d", last)
	}
}

// brokenPeople panics with what nobody should read in a log.
type brokenPeople struct{ web.People }

// A panic is a page for the reader and a line for the operator, and the line has
// nothing of what was in the request.
func TestPanic(t *testing.T) {
	var logged bytes.Buffer
	p := webtest.Start(t, func(c *web.Config) {
		c.Logger = slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
		c.Parts.People = brokenPeople{} // a nil part: calling it panics
	})
	cookie := p.SignIn(t, webtest.Member)
	resp, body := get(t, p, "GET", "/en/?secret=110101199003071234", func(r *http.Request) { r.AddCookie(cookie) })
	if resp.StatusCode != http.StatusInternalServerError || !strings.Contains(body, "Something failed here") {
		t.Errorf("%d:\n%s", resp.StatusCode, body)
	}
	log := logged.String()
	if !strings.Contains(log, "request panicked") || !strings.Contains(log, "GET /en/{$}") {
		t.Errorf("the log does not have it: %s", log)
	}
	for _, secret := range []string{"110101199003071234", cookie.Value, webtest.Member + `"`} {
		if strings.Contains(log, secret) {
			t.Errorf("the log has %q", secret)
		}
	}
}

func TestSessionEnds(t *testing.T) {
	p := webtest.Start(t)
	cookie := p.SignIn(t, webtest.Member)
	signedIn := func() bool {
		_, body := get(t, p, "GET", "/en/", func(r *http.Request) { r.AddCookie(cookie) })
		return strings.Contains(body, "买买提明")
	}
	if !signedIn() {
		t.Fatal("the session does not hold")
	}
	// The store has no cookie that would open anything.
	rows, err := p.Sessions.All()
	if err != nil || len(rows) == 0 {
		t.Fatalf("%d sessions, %v", len(rows), err)
	}
	for token := range rows {
		if token == cookie.Value {
			t.Error("the store holds the cookie itself")
		}
		other := &http.Cookie{Name: cookie.Name, Value: token}
		_, body := get(t, p, "GET", "/en/", func(r *http.Request) { r.AddCookie(other) })
		if strings.Contains(body, "买买提明") {
			t.Error("what the store holds opens a session")
		}
	}
	person, err := p.People.Person(t.Context(), webtest.Member)
	if err != nil {
		t.Fatal(err)
	}
	person.Generation++
	p.People.Set(*person)
	if signedIn() {
		t.Error("the session outlives signing out everywhere")
	}
	person.Generation--
	p.People.Set(*person)
	if signedIn() {
		t.Error("the session came back: it was not destroyed")
	}
}

func TestStaticFiles(t *testing.T) {
	p := webtest.Start(t)
	_, body := get(t, p, "GET", "/en/", nil)
	address := regexp.MustCompile(`/static/[0-9a-f]{16}/site\.css`).FindString(body)
	if address == "" {
		t.Fatalf("the page has no fingerprinted style sheet:\n%s", body)
	}
	plain, text := get(t, p, "GET", address, func(r *http.Request) { r.Header.Set("Accept-Encoding", "identity") })
	packed, data := get(t, p, "GET", address, func(r *http.Request) { r.Header.Set("Accept-Encoding", "br, gzip;q=0.8") })
	if plain.Header.Get("Content-Encoding") != "" || packed.Header.Get("Content-Encoding") != "gzip" {
		t.Fatalf("encodings %q and %q", plain.Header.Get("Content-Encoding"), packed.Header.Get("Content-Encoding"))
	}
	z, err := gzip.NewReader(strings.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	unpacked, err := io.ReadAll(z)
	if err != nil || string(unpacked) != text {
		t.Errorf("the compressed file is another (%v)", err)
	}
	if cache := plain.Header.Get("Cache-Control"); !strings.Contains(cache, "immutable") {
		t.Errorf("Cache-Control %q", cache)
	}
	if resp, _ := get(t, p, "GET", "/static/0000000000000000/site.css", nil); resp.StatusCode != http.StatusNotFound {
		t.Errorf("another fingerprint: %d", resp.StatusCode)
	}
	if resp, _ := get(t, p, "GET", address, func(r *http.Request) { r.Header.Set("If-None-Match", plain.Header.Get("ETag")) }); resp.StatusCode != http.StatusNotModified {
		t.Errorf("a copy that is known: %d", resp.StatusCode)
	}
}
