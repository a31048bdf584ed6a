package web

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
)

func TestTextsAreHeldAgainstEachOther(t *testing.T) {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	for name, c := range map[string]struct {
		files fstest.MapFS
		want  string
	}{
		"complete":        {fstest.MapFS{"text/zh-CN/a.json": file(`{"a.x":"{n} 个"}`), "text/en/a.json": file(`{"a.x":"{n} {n:thing/things}"}`)}, ""},
		"key missing":     {fstest.MapFS{"text/zh-CN/a.json": file(`{"a.x":"一","a.y":"二"}`), "text/en/a.json": file(`{"a.x":"one"}`)}, `"a.y" is missing in en`},
		"key missing, zh": {fstest.MapFS{"text/zh-CN/a.json": file(`{"a.x":"一"}`), "text/en/a.json": file(`{"a.x":"one","a.y":"two"}`)}, `"a.y" is missing in zh-CN`},
		"value missing":   {fstest.MapFS{"text/zh-CN/a.json": file(`{"a.x":"{n} 个"}`), "text/en/a.json": file(`{"a.x":"some"}`)}, `"a.x" takes [] in en and [n]`},
		"foreign key":     {fstest.MapFS{"text/zh-CN/a.json": file(`{"b.x":"一"}`), "text/en/a.json": file(`{"b.x":"one"}`)}, `does not begin with "a."`},
		"empty":           {fstest.MapFS{"text/zh-CN/a.json": file(`{"a.x":" "}`), "text/en/a.json": file(`{"a.x":"one"}`)}, `"a.x" is empty`},
		"no language":     {fstest.MapFS{"text/zh-CN/a.json": file(`{"a.x":"一"}`)}, "none in text/en"},
		"no JSON":         {fstest.MapFS{"text/zh-CN/a.json": file(`{`), "text/en/a.json": file(`{}`)}, "reading the texts of"},
	} {
		_, err := loadTexts(c.files)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) && !strings.Contains(err.Error(), strings.Replace(c.want, "[] in en and [n]", "[n] in zh-CN and []", 1))):
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestSay(t *testing.T) {
	c := &catalogues{texts: map[string]map[string]string{"en": {"a.x": "{n} {n:file/files} of {who}"}}}
	for n, want := range map[int]string{1: "1 file of Li", 2: "2 files of Li", 1234567: "1234567 files of Li"} {
		if got, err := c.say("en", "a.x", "n", n, "who", "Li"); got != want || err != nil {
			t.Errorf("%d: %q, %v", n, got, err)
		}
	}
	if _, err := c.say("en", "a.x", "n", 1); err == nil {
		t.Error("a value that is missing goes unnoticed")
	}
	if got, err := c.say("en", "a.y"); err == nil || got != "‹a.y›" {
		t.Errorf("a missing key: %q, %v", got, err)
	}
}

func TestTemplatesNameTheirTexts(t *testing.T) {
	texts, err := loadTexts(textFiles)
	if err != nil {
		t.Fatal(err)
	}
	statics, err := loadStatics(staticFiles, wasmFiles)
	if err != nil {
		t.Fatal(err)
	}
	s := &Site{texts: texts, statics: statics}
	good := fstest.MapFS{"template/shared/layout.html": {Data: []byte(`{{define "layout"}}{{template "main" .}}{{end}}`)}, "template/a.html": {Data: []byte(`{{define "main"}}{{if .}}{{t "layout.name"}}{{end}}{{end}}`)}}
	if _, err := loadTemplates(good, s); err != nil {
		t.Errorf("%v", err)
	}
	good["template/a.html"].Data = []byte(`{{define "main"}}{{if .}}{{range .}}{{else}}{{print (t "layout.no-such")}}{{end}}{{end}}{{end}}`)
	if _, err := loadTemplates(good, s); err == nil || !strings.Contains(err.Error(), `no text "layout.no-such"`) {
		t.Errorf("a text that is missing: %v", err)
	}
}

// Keys that the code names have texts, and every text is named somewhere.
func TestKeysInCode(t *testing.T) {
	texts, err := loadTexts(textFiles)
	if err != nil {
		t.Fatal(err)
	}
	files, err := fs.Glob(os.DirFS("."), "*.go")
	if err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{}
	var prefixes []string // of keys that are put together
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				if key, ok := failKey(n); ok {
					for _, part := range []string{".title", ".detail"} {
						used[key+part] = true
						if !texts.has(key + part) {
							t.Errorf("%s: fail names %q, which has no %s", name, key, part)
						}
					}
				}
			case *ast.BasicLit:
				if text, err := strconv.Unquote(n.Value); err == nil && n.Kind == token.STRING {
					used[text] = true
					if strings.HasSuffix(text, "-") || strings.HasSuffix(text, ".") {
						prefixes = append(prefixes, text)
					}
				}
			}
			return true
		})
	}
	quoted := regexp.MustCompile(`"([a-z]+\.[a-z0-9.-]+)"`)
	for _, root := range []string{"template", "static"} {
		err := fs.WalkDir(os.DirFS("."), root, func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			data, err := os.ReadFile(name)
			for _, m := range quoted.FindAllStringSubmatch(string(data), -1) {
				used[m[1]] = true
				if strings.HasSuffix(m[1], "-") || strings.HasSuffix(m[1], ".") {
					prefixes = append(prefixes, m[1])
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(texts.texts[languages[0]])) {
		base := strings.TrimSuffix(strings.TrimSuffix(key, ".title"), ".detail")
		if !used[key] && !used[base] && !slices.ContainsFunc(prefixes, func(p string) bool { return len(p) > 3 && strings.HasPrefix(key, p) }) {
			t.Errorf("nothing uses the text %q", key)
		}
	}
}

// failKey returns the key of fail(status, key…).
func failKey(call *ast.CallExpr) (string, bool) {
	id, ok := call.Fun.(*ast.Ident)
	if !ok || id.Name != "fail" || len(call.Args) < 2 {
		return "", false
	}
	lit, ok := call.Args[1].(*ast.BasicLit)
	if !ok {
		return "", false
	}
	key, err := strconv.Unquote(lit.Value)
	return key, err == nil
}

// A link from outside leads nowhere but into this portal.
func TestLocalPath(t *testing.T) {
	r := &request{lang: "en", Request: httptest.NewRequest(http.MethodGet, "/", nil)}
	for next, want := range map[string]string{
		"/en/records":              "/en/records",
		"/zh-CN/deposit?x=1":       "/zh-CN/deposit?x=1",
		"/en":                      "/en",
		"":                         "/en/",
		"https://evil.example/":    "/en/",
		"//evil.example/en/":       "/en/",
		"/\\evil.example":          "/en/",
		"/en/\\evil.example":       "/en/",
		"/english":                 "/en/",
		"/en//evil.example":        "/en/",
		"/en/a\r\nSet-Cookie: x=1": "/en/",
		"javascript:alert(1)":      "/en/",
		"/app/keys":                "/en/",
		"/en/../../evil":           "/en/../../evil", // stays on this host whatever it resolves to
	} {
		if got := r.localPath(next, "/"); got != want {
			t.Errorf("%q leads to %q, want %q", next, got, want)
		}
	}
}

func TestClientAddress(t *testing.T) {
	s := &Site{}
	request := func(remote string, forwarded ...string) *http.Request {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr = remote
		for _, f := range forwarded {
			r.Header.Add("X-Forwarded-For", f)
		}
		return r
	}
	if got := s.clientAddress(request("192.0.2.1:99", "203.0.113.9")); got != "192.0.2.1" {
		t.Errorf("nobody is trusted: %s", got)
	}
	s.config.TrustedProxies = prefixes(t, "10.0.0.0/8")
	for _, c := range []struct{ remote, forwarded, want string }{
		{"10.0.0.1:99", "203.0.113.9", "203.0.113.9"},
		{"10.0.0.1:99", "203.0.113.9, 198.51.100.7", "198.51.100.7"}, // what the client wrote itself comes before
		{"10.0.0.1:99", "198.51.100.7, 10.0.0.2", "198.51.100.7"},
		{"10.0.0.1:99", "nonsense", "10.0.0.1"},
		{"192.0.2.1:99", "203.0.113.9", "192.0.2.1"},
		{"[2001:db8:1:2:3::4]:99", "", "2001:db8:1:2::"},
	} {
		if got := s.clientAddress(request(c.remote, c.forwarded)); got != c.want {
			t.Errorf("%s with %q: %s, want %s", c.remote, c.forwarded, got, c.want)
		}
	}
}

func prefixes(t *testing.T, texts ...string) []netip.Prefix {
	t.Helper()
	var out []netip.Prefix
	for _, text := range texts {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, p)
	}
	return out
}
