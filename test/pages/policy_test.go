package pages

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/testalliance"
	"github.com/zhenglian/zhenglian/internal/tour"
	"github.com/zhenglian/zhenglian/internal/web/webtest"
)

// What an injected text would try, the browser refuses by the page's policy.
func TestContentPolicy(t *testing.T) {
	b := browser(t)
	p := webtest.Start(t)
	v := visit(t, b, p, webtest.Scene{Path: "/verify"}, "en", tour.Screen{})
	ctx := t.Context()
	for name, try := range map[string]string{
		"text as HTML":              `(() => { try { document.body.innerHTML += "<b>x</b>"; return "done"; } catch (e) { return "refused"; } })()`,
		"an inline script":          `(() => { const s = document.createElement("script"); try { s.textContent = "globalThis.ran = true"; } catch { return "refused"; } document.head.append(s); return globalThis.ran ? "done" : "refused"; })()`,
		"an attribute's script":     `new Promise((r) => { const i = document.createElement("img"); try { i.setAttribute("onerror", "globalThis.ranToo = true"); } catch { return r("refused"); } i.src = "/static/none.png"; document.body.append(i); i.addEventListener("error", () => setTimeout(() => r(globalThis.ranToo ? "done" : "refused"), 50)); })`,
		"a script of another host":  `new Promise((r) => { const s = document.createElement("script"); try { s.src = "http://localhost:1/x.js"; } catch { return r("refused"); } s.onload = () => r("done"); s.onerror = () => r("refused"); document.head.append(s); })`,
		"a worker out of a text":    `(() => { try { new Worker("data:text/javascript,1"); return "done"; } catch { return "refused"; } })()`,
		"a second trusted policy":   `(() => { try { trustedTypes.createPolicy("zhenglian", { createHTML: (x) => x }); return "done"; } catch { return "refused"; } })()`,
		"a request to another host": `(() => new Promise((r) => { addEventListener("securitypolicyviolation", (e) => r(e.effectiveDirective === "connect-src" ? "refused" : e.effectiveDirective), { once: true }); fetch("http://127.0.0.1:1/").then(() => r("done"), () => {}); }))()`,
		"an inline style":           `(() => { const d = document.createElement("p"); d.setAttribute("style", "position: fixed"); document.body.append(d); return getComputedStyle(d).position === "fixed" ? "done" : "refused"; })()`,
		"a form to another host":    `(() => new Promise((r) => { addEventListener("securitypolicyviolation", (e) => r(e.effectiveDirective === "form-action" ? "refused" : e.effectiveDirective), { once: true }); const f = document.createElement("form"); f.action = "http://127.0.0.1:1/"; f.method = "post"; document.body.append(f); f.submit(); }))()`,
		"a frame":                   `(() => new Promise((r) => { addEventListener("securitypolicyviolation", (e) => r(e.effectiveDirective === "frame-src" ? "refused" : e.effectiveDirective), { once: true }); const f = document.createElement("iframe"); f.src = "/en/"; document.body.append(f); }))()`,
	} {
		must(t, v.Go(ctx, p.Origin+"/en/verify"))
		got, err := tour.Eval[string](ctx, v, try)
		if err != nil || got != "refused" {
			t.Errorf("%s was %s (%v)", name, got, err)
		}
	}
	// A worker's address is one of this portal's files, or nothing.
	got, err := tour.Eval[string](ctx, v, `import(document.querySelector('script[src*="/site.js"]').src.replace("/site.js", "/trusted.js")).then((m) => {
		try { m.worker("https://elsewhere.example/x.js"); return "done"; } catch { return "refused"; }
	})`)
	if err != nil || got != "refused" {
		t.Errorf("a worker from elsewhere was %s (%v)", got, err)
	}
}

// A package is written by whoever hands it in: what it calls its steps and files
// is text on the page, whatever it looks like.
func TestHostilePackage(t *testing.T) {
	b := browser(t)
	p := webtest.Start(t)
	m, err := p.Alliance.Enrol("m:abcdefghijklmnopqrstuvwxyz", 1, true)
	must(t, err)
	const step = `<img src=x onerror=alert(1)></main><script>alert(2)</script><h2>Matches`
	trail, err := p.Alliance.Open(m, testalliance.Step{Phase: evidence.PhaseDuring, Name: step, Note: `</dd></dl><div class="whole matches"><span class="verdict">forged</span><p>forged</p></div><form action=/en/signout>`,
		Objects: map[string][]byte{"a&b.html": []byte("page")}})
	must(t, err)
	content, err := p.Alliance.Content(trail)
	must(t, err)
	data, err := content.Encode()
	must(t, err)
	// And a byte is another, so that the verdict has something to be forged about.
	data[bytes.Index(data, []byte("page"))+1] ^= 1
	name := filepath.Join(t.TempDir(), "hostile.zip")
	must(t, os.WriteFile(name, data, 0o600))

	v := verification(t, b, p, "en", tour.Screen{})
	must(t, v.Upload(t.Context(), "Choose a package", name))
	if shown := verdictShown(t, v); !strings.Contains(shown, "Does not match") || strings.Contains(shown, "forged") {
		t.Errorf("the finding is: %s", shown)
	}
	foreign, err := tour.Eval[string](t.Context(), v, `[...document.querySelectorAll("#result img, #result script, #result form, #result iframe, #result a, #result .whole, #result [onerror]")].map((e) => e.outerHTML).join()`)
	must(t, err)
	if foreign != "" {
		t.Errorf("the package put this into the page: %s", foreign)
	}
	text, err := v.Text(t.Context())
	must(t, err)
	if !strings.Contains(text, "<img src=x onerror=alert(1)>") {
		t.Errorf("the step's name is not shown as it is:\n%s", text)
	}
	for _, line := range v.Console() {
		t.Errorf("the console says: %s", line)
	}
}
