package web_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/zhenglian/zhenglian/internal/web"
	"github.com/zhenglian/zhenglian/internal/web/webtest"
)

// get asks for a path without following where it leads.
func get(t *testing.T, p *webtest.Portal, method, path string, change func(*http.Request)) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, p.Origin+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(req)
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func TestLanguageOfTheWayIn(t *testing.T) {
	p := webtest.Start(t)
	for accept, want := range map[string]string{
		"": "/zh-CN/", "zh-CN": "/zh-CN/", "zh-Hans": "/zh-CN/", "zh": "/zh-CN/", "zh-TW,en;q=0.5": "/zh-CN/", "en-GB,en;q=0.9": "/en/", "en": "/en/",
		"fr": "/zh-CN/", "fr,en;q=0.1": "/en/", "not a language;;": "/zh-CN/",
	} {
		resp, _ := get(t, p, "GET", "/", func(r *http.Request) {
			if accept != "" {
				r.Header.Set("Accept-Language", accept)
			}
		})
		if got := resp.Header.Get("Location"); resp.StatusCode != http.StatusSeeOther || got != want {
			t.Errorf("Accept-Language %q leads to %q (%d), want %q", accept, got, resp.StatusCode, want)
		}
	}
}

// An address without its language leads to the page in the reader's; what is no
// page is not found, and nothing is led to but pages.
func TestLanguageLeftOut(t *testing.T) {
	p := webtest.Start(t)
	english := func(r *http.Request) { r.Header.Set("Accept-Language", "en") }
	for path, want := range map[string]string{"/verify": "/en/verify", "/verify?x=1": "/en/verify?x=1", "/no-such": "", "/app/member": ""} {
		resp, _ := get(t, p, "GET", path, english)
		if want == "" && resp.StatusCode == http.StatusSeeOther {
			t.Errorf("%s: %d", path, resp.StatusCode)
		}
		if want != "" && (resp.StatusCode != http.StatusSeeOther || resp.Header.Get("Location") != want) {
			t.Errorf("%s: %d to %q", path, resp.StatusCode, resp.Header.Get("Location"))
		}
	}
	if resp, _ := get(t, p, "POST", "/verify", english); resp.StatusCode == http.StatusSeeOther {
		t.Error("a post was led on")
	}
}

func TestFrontPage(t *testing.T) {
	p := webtest.Start(t)
	for _, lang := range web.Languages() {
		resp, body := get(t, p, "GET", "/"+lang+"/", nil)
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %d\n%s", lang, resp.StatusCode, body)
		}
		for _, want := range []string{`<html lang="` + lang + `"`, `href="/en/"`, `href="/zh-CN/"`, "示例认证中心", `class="demo-strip"`} {
			if !strings.Contains(body, want) {
				t.Errorf("%s: the front page does not have %q", lang, want)
			}
		}
		if strings.Contains(body, "‹") {
			t.Errorf("%s: a text is missing:\n%s", lang, body)
		}
	}
}
