package render

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/zhenglian/zhenglian/verify"
)

// uses is what the sources of verify put into a report.
type uses struct {
	reasons map[string][][]string // key → names of values, one list for each call
	checks  map[string]bool
}

// readUses finds every because("key", "name", value, …) and every
// r.check("id", …) in the sources of verify.
func readUses(t *testing.T) uses {
	t.Helper()
	u := uses{map[string][][]string{}, map[string]bool{}}
	fset := token.NewFileSet()
	names, err := filepath.Glob("../*.go")
	if err != nil {
		t.Fatal(err)
	}
	var files []*ast.File
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(fset, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	literal := func(e ast.Expr) (string, bool) {
		l, ok := e.(*ast.BasicLit)
		if !ok || l.Kind != token.STRING {
			return "", false
		}
		s, err := strconv.Unquote(l.Value)
		return s, err == nil
	}
	look := func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || len(call.Args) == 0 {
			return true
		}
		switch f := call.Fun.(type) {
		case *ast.Ident:
			if f.Name != "because" {
				return true
			}
			key, ok := literal(call.Args[0])
			if !ok {
				t.Errorf("%s: because needs a literal key, so that this test can find it", fset.Position(call.Pos()))
				return true
			}
			names := []string{}
			for i := 1; i < len(call.Args); i += 2 {
				name, ok := literal(call.Args[i])
				if !ok {
					t.Errorf("%s: because needs literal names", fset.Position(call.Pos()))
				}
				names = append(names, name)
			}
			u.reasons[key] = append(u.reasons[key], names)
		case *ast.SelectorExpr:
			if id, ok := literal(call.Args[0]); ok && f.Sel.Name == "check" {
				u.checks[id] = true
			}
			// The functions that take a check's id and hand it on.
			if f.Sel.Name == "registryStatement" || f.Sel.Name == "signedByInstitution" {
				id, _ := literal(call.Args[0])
				u.checks[id] = true
			}
		}
		return true
	}
	for _, f := range files {
		ast.Inspect(f, look)
	}
	if len(u.reasons) < 100 || len(u.checks) < 25 {
		t.Fatalf("found %d reasons and %d checks: this test no longer reads the sources", len(u.reasons), len(u.checks))
	}
	return u
}

var placeholder = regexp.MustCompile(`\{([a-z0-9_]+)(?::[^}/]+/[^}/]+)?\}`)

// Every reason, check and clause has its words in every language, and no
// sentence asks for a value that some call does not give.
func TestEveryMessageIsThere(t *testing.T) {
	u := readUses(t)
	own := ownKeys(t)
	for _, lang := range Languages() {
		r, err := New(lang)
		if err != nil {
			t.Fatal(err)
		}
		need := map[string]bool{}
		for key, calls := range u.reasons {
			need[key] = true
			for _, m := range placeholder.FindAllStringSubmatch(r.messages[key], -1) {
				for _, names := range calls {
					if !slices.Contains(names, m[1]) {
						t.Errorf("%s: %q asks for {%s}, a call gives only %v", lang, key, m[1], names)
					}
				}
			}
		}
		for id := range u.checks {
			need["check."+id] = true
		}
		for _, c := range verify.Clauses() {
			need["clause."+c] = true
		}
		for _, v := range []verify.Verdict{verify.Matches, verify.DoesNotMatch, verify.Undetermined} {
			need["verdict."+string(v)] = true
		}
		for key := range own {
			need[key] = true
		}
		for key := range need {
			if strings.TrimSpace(r.messages[key]) == "" {
				t.Errorf("%s: message %q is missing", lang, key)
			}
		}
		for key := range r.messages {
			if !need[key] {
				t.Errorf("%s: message %q is used nowhere", lang, key)
			}
		}
	}
}

// ownKeys are the keys that this package names itself.
func ownKeys(t *testing.T) map[string]bool {
	t.Helper()
	keys := map[string]bool{}
	for _, name := range []string{"page.go", "credential.go", "recording.go", "court.go", "catalogue.go", "text.go", "report.html"} {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`"([a-z0-9]+(?:[.-][a-z0-9-]+)+)"|"(title|footer|witness|unreadable)"`).FindAllStringSubmatch(string(data), -1) {
			if k := m[1] + m[2]; k != "zh-CN" && k != "utf-8" && k != "cannot-be-determined" && !strings.HasPrefix(k, "width=") && !strings.HasPrefix(k, "script") {
				keys[k] = true
			}
		}
	}
	// Those put together at run time, one for each value.
	for prefix, values := range map[string][]string{
		"basis.": {"policy", "alliance", "none", "unread"}, "step.": {"authorisation", "deposit", "unreadable"}, "phase.": {"before", "during", "after"},
		"kind.": {"person", "enterprise", "platform", "service", "unknown"}, "assurance.": {"0", "1", "2", "3"}, "withheld.": {"manifest", "object"},
		"unreadable.":      {"not-a-container", "truncated", "not-a-package", "version", "end-record", "directory", "local-header", "gap", "offset", "too-many"},
		"part.":            {"request-head", "request-body", "response-head", "response-body", "framing", "address", "status", "revisit", "ip-address", "connection", "dns-answer", "certificate"},
		"recording-state.": {"complete", "partial", "unsealed"}, "moment.": {"step", "failed", "download"},
		"act.":        {"deposit", "record", "sign", "file", "submit", "grant", "settle", "revoke", "recover"},
		"revocation.": {"unspecified", "keycompromise", "cacompromise", "affiliationchanged", "superseded", "cessationofoperation", "certificatehold", "removefromcrl", "privilegewithdrawn", "aacompromise"},
	} {
		for _, v := range values {
			keys[prefix+v] = true
		}
	}
	return keys
}

func TestNumber(t *testing.T) {
	r, err := New("en")
	if err != nil {
		t.Fatal(err)
	}
	for n, want := range map[string]string{
		"1": "1 check: 1 matches, 1 does not match, 1 cannot be determined",
		"2": "2 checks: 2 match, 2 do not match, 2 cannot be determined",
	} {
		if got := r.with("checks.counts", "total", n, "matches", n, "bad", n, "open", n); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestUnknownLanguage(t *testing.T) {
	if _, err := New("zh-Hans"); err == nil {
		t.Error("a language without messages is accepted")
	}
}

func TestValues(t *testing.T) {
	r, err := New("zh-CN")
	if err != nil {
		t.Fatal(err)
	}
	r.names = map[string]string{"court": "示范法院"}
	for _, tc := range []struct{ name, value, want string }{
		{"block_time", "2026-03-01T01:30:00Z", "2026-03-01 09:30:00 +08:00"},
		{"off_seconds", "4000", "1 小时 6 分 40 秒"},
		{"off_seconds", "0", "0 秒"},
		{"position", "1234567", "1234567"},
		{"institution", "court", "示范法院（court）"},
		{"institutions", "court, x", "示范法院（court）、x"},
		{"institutions", "4", "4"},
		{"name", "a\x1b[2Jb\u202ec", "a\uFFFD[2Jb\uFFFDc"},
	} {
		if got := r.value(tc.name, tc.value); got != tc.want {
			t.Errorf("%s %q: %q, want %q", tc.name, tc.value, got, tc.want)
		}
	}
}
