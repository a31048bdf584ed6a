// Package pages opens every page of the portal in a real browser, in every
// language, on a phone's and a desktop's screen, light and dark, and holds it to
// what a page here must be.
package pages

import (
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/zhenglian/zhenglian/internal/tour"
	"github.com/zhenglian/zhenglian/internal/web"
	"github.com/zhenglian/zhenglian/internal/web/webtest"
)

// browser opens one for the test; without Chromium the test is left out.
func browser(t *testing.T) *tour.Browser {
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
	return b
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// screens are what the pages are looked at on.
var screens = []struct {
	name   string
	screen tour.Screen
}{
	{"narrow-light", tour.Screen{Width: 360, Height: 800, Mobile: true}},
	{"narrow-dark", tour.Screen{Width: 360, Height: 800, Mobile: true, Dark: true}},
	{"wide-light", tour.Screen{Width: 1280, Height: 900}},
	{"wide-dark", tour.Screen{Width: 1280, Height: 900, Dark: true}},
}

func axeSource(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile("node_modules/axe-core/axe.min.js")
	if errors.Is(err, os.ErrNotExist) {
		t.Fatal("axe-core is not installed: run `sh scripts/prepare.sh`, or `npm ci` in test/pages")
	}
	must(t, err)
	return string(data)
}

// visit opens a scene for a visitor of its own.
func visit(t *testing.T, b *tour.Browser, p *webtest.Portal, scene webtest.Scene, lang string, screen tour.Screen) *tour.Visitor {
	t.Helper()
	screen.Lang, screen.Still = lang, true
	v, err := b.Visit(screen)
	must(t, err)
	t.Cleanup(v.Leave)
	if scene.Person != "" {
		must(t, v.SetCookie(t.Context(), p.Origin, p.SignIn(t, scene.Person, scene.Acting)))
	}
	show(t, v, p, scene, lang, screen)
	return v
}

// show opens a scene for a visitor who is there already, on another screen.
func show(t *testing.T, v *tour.Visitor, p *webtest.Portal, scene webtest.Scene, lang string, screen tour.Screen) {
	t.Helper()
	screen.Lang, screen.Still = lang, true
	if scene.Prepare != nil {
		defer scene.Prepare(p)()
	}
	must(t, v.Look(screen))
	must(t, v.Go(t.Context(), p.Origin+"/"+lang+scene.Path))
}

// TestEveryPage opens every page that the site lists, so that none is forgotten.
func TestEveryPage(t *testing.T) {
	b, axe := browser(t), axeSource(t)
	p := webtest.Start(t)
	scenes, missing := p.Scenes()
	for _, pattern := range missing {
		t.Errorf("the page %s has a wildcard and no example in internal/web/webtest", pattern)
	}
	for _, scene := range scenes {
		for _, lang := range web.Languages() {
			t.Run(scene.Name+"/"+lang, func(t *testing.T) {
				// One visitor looks at the page on every screen, as who turns a phone
				// or drags a window does.
				v := visit(t, b, p, scene, lang, screens[0].screen)
				requests := v.Requests()
				if len(requests) == 0 {
					t.Error("no request was seen: the check for foreign hosts sees nothing")
				}
				for _, s := range screens {
					s.screen.Lang, s.screen.Still = lang, true
					must(t, v.Look(s.screen))
					checkPage(t, v, p, scene, lang, s.name, axe)
				}
				for _, r := range tour.Foreign(p.Origin, append(requests, v.Requests()...)) {
					t.Errorf("asked elsewhere: %s", r)
				}
			})
		}
	}
}

// facts of a page that its own script can tell.
type facts struct {
	Title    string
	Lang     string
	Heading  int  // h1 elements
	Wider    bool // than the screen
	Place    string
	Missing  string // a text that is missing, between angle quotes
	Status   int
	Skip     bool // a skip link comes first
	Controls []string
}

const readFacts = `(() => {
	const wide = document.scrollingElement.scrollWidth > innerWidth;
	return {
		Title: document.title, Lang: document.documentElement.lang, Heading: document.querySelectorAll("h1").length, Wider: wide, Place: location.pathname,
		Missing: (document.body.innerText.match(/‹[^›]*›/) ?? [""])[0],
		Status: performance.getEntriesByType("navigation")[0].responseStatus,
		Skip: document.querySelector("a")?.getAttribute("href") === "#main",
		Controls: [...document.querySelectorAll("a, button, summary, input, select")].filter((e) => {
			const box = e.getBoundingClientRect();
			return e.checkVisibility({ opacityProperty: false }) && box.width > 0 && (box.right > innerWidth + 1 || box.left < -1) && !e.classList.contains("skip");
		}).map((e) => e.outerHTML.slice(0, 120)),
	};
})()`

func checkPage(t *testing.T, v *tour.Visitor, p *webtest.Portal, scene webtest.Scene, lang, screen, axe string) {
	t.Helper()
	ctx := t.Context()
	f, err := tour.Eval[facts](ctx, v, readFacts)
	must(t, err)
	want := scene.Status
	if want == 0 {
		want = 200
	}
	path, _, _ := strings.Cut(scene.Path, "?")
	if f.Status != want || f.Place != "/"+lang+path {
		t.Fatalf("%s: %s answered %d, at %s; want %d", screen, scene.Path, f.Status, f.Place, want)
	}
	site := map[string]string{"zh-CN": " · 证链", "en": " · Zhenglian"}[lang]
	if name, ok := strings.CutSuffix(f.Title, site); f.Lang != lang || !ok || strings.TrimSpace(name) == "" {
		t.Errorf("%s: the page's language is %q and its title %q", screen, f.Lang, f.Title)
	}
	if f.Heading != 1 || !f.Skip {
		t.Errorf("%s: %d headings of the first level, skip link %v", screen, f.Heading, f.Skip)
	}
	if f.Wider || len(f.Controls) > 0 {
		t.Errorf("%s: the page is wider than the screen: %v", screen, f.Controls)
	}
	if f.Missing != "" {
		t.Errorf("%s: a text is missing: %s", screen, f.Missing)
	}
	violations, err := v.Axe(ctx, axe)
	must(t, err)
	for _, x := range violations {
		t.Errorf("%s: axe: %s", screen, x)
	}
	for _, line := range v.Console() {
		// The answer's own status is no mistake of the page.
		if want >= 400 && strings.Contains(line, "the server responded with a status of") {
			continue
		}
		t.Errorf("%s: the console says: %s", screen, line)
	}
}

// TestScreenshots writes a picture of every page into the folder that
// ZHENGLIAN_SCREENSHOTS names: light, and with ZHENGLIAN_DARK dark as well.
// ZHENGLIAN_SCENES names the pages, all without it.
func TestScreenshots(t *testing.T) {
	dir := os.Getenv("ZHENGLIAN_SCREENSHOTS")
	if dir == "" {
		t.Skip("ZHENGLIAN_SCREENSHOTS names no folder")
	}
	b := browser(t)
	p := webtest.Start(t)
	must(t, os.MkdirAll(dir, 0o755))
	scenes, _ := p.Scenes()
	for _, scene := range scenes {
		if only := strings.Fields(os.Getenv("ZHENGLIAN_SCENES")); len(only) > 0 && !slices.Contains(only, scene.Name) {
			continue
		}
		for _, lang := range web.Languages() {
			var v *tour.Visitor
			for _, s := range screens {
				if s.screen.Dark && os.Getenv("ZHENGLIAN_DARK") == "" {
					continue
				}
				if v == nil {
					v = visit(t, b, p, scene, lang, s.screen)
				} else {
					show(t, v, p, scene, lang, s.screen)
				}
				png, err := v.Screenshot(t.Context())
				must(t, err)
				name := url.PathEscape(scene.Name) + "." + lang + "." + s.name + ".png"
				must(t, os.WriteFile(filepath.Join(dir, name), png, 0o644))
			}
			v.Leave()
		}
	}
}
