package pages

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/internal/tour"
	"github.com/zhenglian/zhenglian/internal/web/webtest"
)

// verification opens the verification page; without the module it fails, since
// nobody would see the page work.
func verification(t *testing.T, b *tour.Browser, p *webtest.Portal, lang string, screen tour.Screen) *tour.Visitor {
	t.Helper()
	v := visit(t, b, p, webtest.Scene{Path: "/verify"}, lang, screen)
	built, err := tour.Eval[bool](t.Context(), v, `document.getElementById("verify") !== null`)
	must(t, err)
	if !built {
		t.Fatal("the WebAssembly module is not built: run `sh scripts/wasm.sh`")
	}
	v.Patience = time.Minute
	return v
}

// verdictShown waits for the finding and returns its words.
func verdictShown(t *testing.T, v *tour.Visitor) string {
	t.Helper()
	deadline := time.Now().Add(v.Patience)
	for time.Now().Before(deadline) {
		text, err := tour.Eval[string](t.Context(), v, `document.querySelector("#result:not([hidden]) .verdict-block")?.innerText ?? document.querySelector("#verify-error:not([hidden])")?.innerText ?? ""`)
		must(t, err)
		if text != "" {
			return text
		}
		time.Sleep(50 * time.Millisecond)
	}
	text, err := v.Text(t.Context())
	must(t, err)
	t.Fatalf("no finding was shown:\n%s", text)
	return ""
}

// A package is verified in the visitor's browser: the finding first, in the
// page's language; and the portal is sent nothing of it.
func TestVerification(t *testing.T) {
	b, axe := browser(t), axeSource(t)
	p := webtest.Start(t)
	good, damaged := p.Package(t, false), p.Package(t, true)
	none := filepath.Join(t.TempDir(), "letter.zip")
	must(t, os.WriteFile(none, []byte("this is no package"), 0o600))
	for _, c := range []struct {
		name, lang, label, file string
		want                    []string
	}{
		{"matches", "zh-CN", "选择证据包", good, []string{"相符"}},
		{"matches", "en", "Choose a package", good, []string{"Matches"}},
		{"does not match", "zh-CN", "选择证据包", damaged, []string{"不符", "page.html"}},
		{"does not match", "en", "Choose a package", damaged, []string{"Does not match", "page.html"}},
		{"no package", "zh-CN", "选择证据包", none, []string{"无法作为证据包读取"}},
		{"no package", "en", "Choose a package", none, []string{"cannot be read"}},
	} {
		t.Run(c.name+"/"+c.lang, func(t *testing.T) {
			for _, s := range screens {
				v := verification(t, b, p, c.lang, s.screen)
				v.Requests()
				must(t, v.Upload(t.Context(), c.label, c.file))
				shown := verdictShown(t, v)
				for _, want := range c.want {
					if !strings.Contains(shown, want) {
						t.Errorf("%s: the finding does not have %q:\n%s", s.name, want, shown)
					}
				}
				for _, r := range v.Requests() {
					if !strings.HasPrefix(r, "GET "+p.Origin+"/static/") && r != "GET "+p.Origin+"/verify/policy.json" {
						t.Errorf("%s: verifying asked for %s", s.name, r)
					}
				}
				if _, err := tour.Eval[bool](t.Context(), v, `document.querySelector("details.more").open = true`); err != nil {
					t.Fatal(err)
				}
				f, err := tour.Eval[facts](t.Context(), v, readFacts)
				must(t, err)
				if f.Wider || len(f.Controls) > 0 {
					t.Errorf("%s: the report is wider than the screen: %v", s.name, f.Controls)
				}
				violations, err := v.Axe(t.Context(), axe)
				must(t, err)
				for _, x := range violations {
					t.Errorf("%s: axe: %s", s.name, x)
				}
				for _, line := range v.Console() {
					t.Errorf("%s: the console says: %s", s.name, line)
				}
				if _, err := tour.Eval[bool](t.Context(), v, `document.querySelector("details.more").open = false; true`); err != nil {
					t.Fatal(err)
				}
				picture(t, v, "verify-"+strings.ReplaceAll(c.name, " ", "-")+"."+c.lang+"."+s.name)
				v.Leave()
			}
		})
	}
}

// The worker that reads the package can open no connection: the page's own word
// for it would be worth nothing.
func TestVerificationWorkerIsOffline(t *testing.T) {
	b := browser(t)
	p := webtest.Start(t)
	v := verification(t, b, p, "en", tour.Screen{})
	// The worker's own address serves the policy it runs under.
	policy, err := tour.Eval[string](t.Context(), v, `fetch(document.getElementById("verify").dataset.worker).then((r) => r.headers.get("content-security-policy"))`)
	must(t, err)
	if !strings.HasPrefix(policy, "default-src 'none';") || strings.Contains(policy, "connect-src") {
		t.Errorf("the worker's policy is %q", policy)
	}
	// And the browser keeps to it: a worker at that address tries.
	if _, err := tour.Eval[bool](t.Context(), v, `import(document.querySelector('script[src*="/verify.js"]').src.replace("/verify.js", "/trusted.js")).then((m) => {
		globalThis.spy = m.worker(document.getElementById("verify").dataset.worker);
		return new Promise((r) => setTimeout(() => r(true), 500));
	})`); err != nil {
		t.Fatal(err)
	}
	for _, way := range []string{`fetch("/healthz").then(() => "sent")`, `fetch("/healthz?secret", { mode: "no-cors" }).then(() => "sent")`,
		`new Promise((sent) => { const x = new XMLHttpRequest(); x.onload = () => sent("sent"); x.onerror = () => sent("refused"); x.open("GET", "/healthz"); x.send(); })`,
		`new Promise((sent) => { const s = new WebSocket(location.origin.replace("http", "ws")); s.onopen = () => sent("sent"); s.onerror = () => sent("refused"); })`,
		`new Promise((sent) => { const s = new EventSource("/healthz"); s.onopen = () => sent("sent"); s.onerror = () => sent("refused"); })`,
	} {
		got, err := tour.EvalInWorker[string](t.Context(), v, `(async () => { try { return await `+way+`; } catch { return "refused"; } })()`)
		must(t, err)
		if got != "refused" {
			t.Errorf("the worker's %s was %s", way, got)
		}
	}
	// The page itself can, so the test sees the difference.
	if got, err := tour.Eval[string](t.Context(), v, `fetch("/healthz").then(() => "sent")`); err != nil || got != "sent" {
		t.Errorf("the page's own request: %q, %v", got, err)
	}
}

// What the visitor trusts is hers to choose; a package without it is no pass.
func TestVerificationTrust(t *testing.T) {
	b := browser(t)
	p := webtest.Start(t)
	good := p.Package(t, false)
	policy, err := p.Alliance.Policy.Encode()
	must(t, err)
	file := filepath.Join(t.TempDir(), "policy.json")
	must(t, os.WriteFile(file, policy, 0o600))

	v := verification(t, b, p, "en", tour.Screen{})
	ctx := t.Context()
	must(t, v.Click(ctx, "radio", "An alliance id that I have from a reliable source"))
	must(t, v.Upload(ctx, "Choose a package", good))
	if shown := verdictShown(t, v); !strings.Contains(shown, "Enter an alliance id") {
		t.Errorf("without an id it says: %s", shown)
	}
	must(t, v.Fill(ctx, "Alliance id", p.Alliance.ID().String()))
	must(t, v.Click(ctx, "button", "Verify again"))
	if shown := verdictShown(t, v); !strings.Contains(shown, "Matches") {
		t.Errorf("with the pinned id it says: %s", shown)
	}
	must(t, v.Fill(ctx, "Alliance id", strings.Repeat("0", 64)))
	must(t, v.Click(ctx, "button", "Verify again"))
	time.Sleep(200 * time.Millisecond)
	if shown := verdictShown(t, v); strings.Contains(shown, "Matches") {
		t.Errorf("with another alliance's id it says: %s", shown)
	}
	must(t, v.Click(ctx, "radio", "A policy file of my own"))
	must(t, v.Upload(ctx, "Policy file", file))
	must(t, v.Click(ctx, "button", "Verify again"))
	time.Sleep(200 * time.Millisecond)
	if shown := verdictShown(t, v); !strings.Contains(shown, "Matches") {
		t.Errorf("with the visitor's own policy it says: %s", shown)
	}
}

// picture writes a screenshot where ZHENGLIAN_SCREENSHOTS asks for them.
func picture(t *testing.T, v *tour.Visitor, name string) {
	t.Helper()
	dir := os.Getenv("ZHENGLIAN_SCREENSHOTS")
	if dir == "" {
		return
	}
	png, err := v.Screenshot(t.Context())
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644))
}
