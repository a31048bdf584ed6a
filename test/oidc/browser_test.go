package oidc_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/zhenglian/zhenglian/internal/identity/demoprovider"
	"github.com/zhenglian/zhenglian/internal/identity/signin"
	"github.com/zhenglian/zhenglian/internal/tour"
	"github.com/zhenglian/zhenglian/internal/web"
	"github.com/zhenglian/zhenglian/internal/web/webtest"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestBrowser signs in, confirms and signs out in a real browser, on a phone in
// English and on a desktop in Chinese: policies for content and cookies hold
// there as nowhere else. Every page on the way, the provider's too, is held to axe.
func TestBrowser(t *testing.T) {
	if testing.Short() {
		t.Skip("opens a browser: left out of -short")
	}
	b, err := tour.Open(t.Context())
	if errors.Is(err, tour.ErrNoBrowser) {
		t.Skip(err)
	}
	must(t, err)
	defer func() { must(t, b.Close()) }()
	axe, err := os.ReadFile("../pages/node_modules/axe-core/axe.min.js")
	if errors.Is(err, os.ErrNotExist) {
		t.Skip("axe-core is not installed: run `sh scripts/prepare.sh`")
	}
	must(t, err)

	var handler http.Handler
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler.ServeHTTP(w, r) }))
	defer server.Close()
	issuer := strings.Replace(server.URL, "127.0.0.1", "localhost", 1) // the browser knows names alone
	portal := webtest.Start(t, func(c *web.Config) {
		callback := c.Origin + "/signin/callback"
		p, err := demoprovider.New(demoprovider.Config{Issuer: issuer, Demonstration: true, Clients: []demoprovider.Client{{ID: "portal", RedirectURIs: []string{callback + "/demo"}}}})
		must(t, err)
		handler = p.Handler()
		c.Parts.Providers, err = signin.New(signin.Config{Callback: callback, Demonstration: true, Providers: []signin.Provider{{
			ID: "demo", NameZH: "演示身份认证", NameEN: "Demonstration identities", Issuer: issuer, ClientID: "portal", NumberClaim: demoprovider.NumberClaim, Demonstration: true,
			Policy: signin.Policy{Frameworks: []signin.Framework{{Name: demoprovider.TrustFramework}}},
		}}})
		must(t, err)
	})
	type words struct{ with, choose, person, welcome, again, why, confirmed, everywhere, all, gone string }
	for lang, w := range map[string]words{
		"en": {"Sign in with Demonstration identities", "Choose who to sign in as", "Sign in as this person: Chen Yiming", "You are signed in: 陈一鸣", "Confirm that it is you",
			"This step needs a sign-in from just now", "You have confirmed that it is you", "Sign out everywhere", "Sign out everywhere now", "All your sign-ins have ended"},
		"zh-CN": {"通过演示身份认证登录", "请选择登录身份", "以此身份登录: 陈一鸣", "已登录：陈一鸣", "再次确认身份", "此操作需要您刚刚登录过", "已再次确认您的身份", "退出所有设备", "立即退出所有设备", "所有设备上的登录均已失效"},
	} {
		t.Run(lang, func(t *testing.T) {
			ctx := t.Context()
			screen := tour.Screen{Width: 1280, Height: 900, Lang: lang}
			if lang == "en" {
				screen = tour.Screen{Width: 360, Height: 800, Mobile: true, Lang: lang}
			}
			v, err := b.Visit(screen)
			must(t, err)
			defer v.Leave()
			see := func(text string) {
				t.Helper()
				must(t, v.WaitText(ctx, text))
				broken, err := v.Axe(ctx, string(axe))
				must(t, err)
				for _, rule := range broken {
					t.Errorf("the page with %q: %v", text, rule)
				}
				if wide, err := tour.Eval[bool](ctx, v, "document.scrollingElement.scrollWidth > innerWidth"); err != nil || wide {
					t.Errorf("the page with %q is wider than the screen (%v)", text, err)
				}
			}
			must(t, v.Go(ctx, portal.Origin+"/"+lang+"/session"))
			must(t, v.Click(ctx, "link", w.with))
			see(w.choose)
			must(t, v.Click(ctx, "button", w.person))
			see(w.welcome)
			must(t, v.Click(ctx, "link", w.again))
			see(w.why)
			must(t, v.Click(ctx, "link", w.with))
			see(w.choose)
			must(t, v.Click(ctx, "button", w.person))
			see(w.confirmed)
			must(t, v.Click(ctx, "link", w.everywhere))
			must(t, v.WaitText(ctx, w.all))
			must(t, v.Click(ctx, "button", w.all))
			see(w.gone)
			if said := v.Console(); len(said) != 0 {
				t.Errorf("the console says %v", said)
			}
		})
	}
}
