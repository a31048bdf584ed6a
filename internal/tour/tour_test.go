package tour_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/internal/tour"
)

const page = `<!DOCTYPE html><html lang="en"><title>Page</title><body>
<h1>A page</h1>
<label for="name">Your name</label><input id="name" value="old">
<label for="kind">Kind</label><select id="kind"><option value="1">one</option><option value="2">two</option></select>
<label for="file">A file</label><input type="file" id="file">
<button id="go">Say it</button><button id="hidden" hidden>Never</button>
<a href="/file" download="letter.txt">Take the letter</a>
<p id="out"></p>
<script>
document.getElementById("go").onclick = () => setTimeout(() => {
	document.getElementById("out").textContent = "Hello " + document.getElementById("name").value + ", kind " + document.getElementById("kind").value;
}, 50);
document.getElementById("file").onchange = (e) => e.target.files[0].text().then((t) => { document.getElementById("out").textContent = "The file says " + t; });
console.error("a mistake"); fetch("http://elsewhere.example/x").catch(() => {});
</script>`

func open(t *testing.T, screen tour.Screen) (*tour.Visitor, string) {
	t.Helper()
	if testing.Short() {
		t.Skip("opens a browser: left out of -short")
	}
	b, err := tour.Open(t.Context())
	if errors.Is(err, tour.ErrNoBrowser) {
		t.Skip(err)
	}
	must(t, err)
	t.Cleanup(func() { must(t, b.Close()) })
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "seen", Value: r.Header.Get("Accept-Language"), HttpOnly: true})
		fmt.Fprint(w, page)
	})
	mux.HandleFunc("GET /file", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "a letter") })
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	origin := strings.Replace(server.URL, "127.0.0.1", "localhost", 1)
	v, err := b.Visit(screen)
	must(t, err)
	t.Cleanup(v.Leave)
	must(t, v.Go(t.Context(), origin+"/"))
	return v, origin
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestVisit(t *testing.T) {
	v, origin := open(t, tour.Screen{Width: 400, Dark: true, Lang: "en"})
	ctx := t.Context()
	must(t, v.Fill(ctx, "Your name", "Li 山"))
	must(t, v.Choose(ctx, "Kind", "two"))
	must(t, v.Click(ctx, "button", "Say it"))
	must(t, v.WaitText(ctx, "Hello Li 山, kind 2"))

	file := filepath.Join(t.TempDir(), "a.txt")
	must(t, os.WriteFile(file, []byte("good day"), 0o600))
	must(t, v.Upload(ctx, "A file", file))
	must(t, v.WaitText(ctx, "The file says good day"))

	path, err := v.Download(ctx, func() error { return v.Click(ctx, "link", "Take the…") })
	must(t, err)
	if data, err := os.ReadFile(path); err != nil || string(data) != "a letter" {
		t.Errorf("the download is %q, %v", data, err)
	}

	dark, err := tour.Eval[bool](ctx, v, `matchMedia("(prefers-color-scheme: dark)").matches && innerWidth === 400`)
	must(t, err)
	if !dark {
		t.Error("the screen is not as asked for")
	}
	if cookies, err := v.Cookies(ctx, origin); err != nil || len(cookies) != 1 || cookies[0].Value != "en" {
		t.Errorf("the cookies: %v, %v", cookies, err)
	}
	if png, err := v.Screenshot(ctx); err != nil || !strings.HasPrefix(string(png), "\x89PNG") {
		t.Errorf("the screenshot: %d bytes, %v", len(png), err)
	}
	if pdf, err := v.PDF(ctx); err != nil || !strings.HasPrefix(string(pdf), "%PDF") {
		t.Errorf("the print: %d bytes, %v", len(pdf), err)
	}
	if console := v.Console(); len(console) == 0 || !strings.Contains(console[0], "a mistake") {
		t.Errorf("the console: %q", console)
	}
	if foreign := tour.Foreign(origin, v.Requests()); len(foreign) != 1 || foreign[0] != "GET http://elsewhere.example/x" {
		t.Errorf("requests elsewhere: %q", foreign)
	}
}

// What is not there, or hidden, is not found; the error says what is on the page.
func TestNotThere(t *testing.T) {
	v, _ := open(t, tour.Screen{})
	v.Patience = 300 * time.Millisecond
	for what, err := range map[string]error{
		"a button that is hidden": v.Click(t.Context(), "button", "Never"),
		"a link that is none":     v.Click(t.Context(), "link", "Say it"),
		"a field":                 v.Fill(t.Context(), "Your age", "7"),
		"a text":                  v.WaitText(t.Context(), "Goodbye"),
	} {
		if err == nil || !strings.Contains(err.Error(), "A page") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

const makePasskey = `navigator.credentials.create({ publicKey: { challenge: new Uint8Array(32), rp: { id: "localhost", name: "x" }, user: { id: new Uint8Array(8), name: "li", displayName: "Li" },
	pubKeyCredParams: [{ type: "public-key", alg: -7 }], authenticatorSelection: { residentKey: "required", userVerification: "required" } } })
	.then((c) => c.type, (e) => e.name)`

func TestAuthenticator(t *testing.T) {
	v, _ := open(t, tour.Screen{})
	ctx := t.Context()
	device, err := v.AddAuthenticator(ctx)
	must(t, err)
	must(t, device.Refuse(ctx, true))
	if got, err := tour.Eval[string](ctx, v, makePasskey); err != nil || got != "NotAllowedError" {
		t.Errorf("the wrong finger: %q, %v", got, err)
	}
	must(t, device.Refuse(ctx, false))
	if got, err := tour.Eval[string](ctx, v, makePasskey); err != nil || got != "public-key" {
		t.Errorf("making a passkey: %q, %v", got, err)
	}
	if creds, err := device.Credentials(ctx); err != nil || len(creds) != 1 || creds[0].RpID != "localhost" {
		t.Errorf("the device holds %d credentials, %v", len(creds), err)
	}
	must(t, device.Lose(ctx))
	if _, err := device.Credentials(ctx); err == nil {
		t.Error("the lost device still answers")
	}
}
