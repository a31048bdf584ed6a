package archtest

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// house is the list of docs/design.md, "The house": what production code of a
// package may import of this module. A package below another in the list may
// import what stands above it, where it is named; nothing else. A package that
// is missing here has no place in the house yet: give it one, here and there.
var house = []struct {
	pkg  string
	uses []string
}{
	{"evidence", nil},
	{"evidence/rfc3161", []string{"evidence"}},
	{"evidence/recording", []string{"evidence"}},
	{"evidence/webauthn", []string{"evidence"}},
	{"verify", []string{"evidence", "evidence/recording", "evidence/rfc3161", "evidence/webauthn"}},
	{"internal/httpsig", []string{"evidence"}},
	{"client", []string{"evidence", "evidence/rfc3161", "verify", "internal/httpsig"}},
	{"internal/signing", []string{"evidence"}},
	{"internal/institution", []string{"evidence", "internal/signing"}},
	{"internal/sigbatch", nil},
	{"internal/timestamp", []string{"evidence", "evidence/rfc3161", "internal/signing"}},
	{"internal/ledger", []string{"evidence"}},
	{"internal/registry", []string{"evidence"}},
	{"internal/chain", []string{"evidence", "internal/ledger", "internal/registry", "internal/sigbatch"}},
	{"internal/vault", []string{"evidence"}},
	{"internal/api", []string{"evidence", "internal/chain", "internal/httpsig"}},
	{"internal/member", []string{"evidence", "client", "internal/signing", "internal/vault"}},
	{"internal/local", []string{"evidence"}},                                                                   // other processes are known by their command lines alone
	{"internal/bench", []string{"evidence", "internal/institution", "internal/local"}},                         // the same
	{"internal/demo", []string{"evidence", "verify", "internal/local", "internal/tour", "internal/tour/walk"}}, // the same
	{"internal/court", []string{"evidence", "verify", "client", "verify/render"}},
	{"internal/store", nil},
	{"internal/identity/gb", nil},
	{"internal/identity", []string{"evidence", "evidence/webauthn", "internal/store", "internal/identity/gb"}},
	{"internal/identity/signin", []string{"internal/identity", "internal/identity/gb"}},
	{"internal/identity/demoprovider", []string{"internal/identity/gb"}},
	{"internal/identity/ca", []string{"evidence", "internal/store", "internal/signing"}},
	{"internal/custody", []string{"evidence", "client", "internal/store", "internal/vault"}},
	{"internal/web", []string{"evidence", "evidence/webauthn", "client", "internal/store", "internal/identity", "internal/identity/gb", "internal/identity/signin", "internal/identity/ca", "internal/custody"}},
	{"internal/tour", []string{"evidence", "internal/local"}},                       // other processes are known by their addresses and command lines alone
	{"internal/tour/walk", []string{"evidence", "internal/tour", "internal/local"}}, // the same
	{"verify/render", []string{"evidence", "verify"}},
	{"verify/command", []string{"evidence", "verify", "verify/render"}},
	{"internal/capture/proxy", []string{"evidence"}},
	{"internal/capture/sandbox", nil},
	{"internal/capture/browser", []string{"internal/capture/sandbox"}},
	{"internal/capture/warc", []string{"evidence", "evidence/recording", "internal/capture/proxy"}},
	{"internal/capture/clean", nil},
	{"internal/capture", []string{"evidence", "evidence/recording", "internal/capture/proxy", "internal/capture/warc", "internal/capture/clean", "internal/capture/sandbox", "internal/capture/browser"}},
}

// outside limits who imports what comes from elsewhere, directly.
var outside = []struct {
	prefix string
	only   []string // packages and the packages under them
	why    string
}{
	{"github.com/cometbft/", []string{"internal/chain"}, "one package knows the engine, so that it can be replaced"},
	{"github.com/cockroachdb/pebble", []string{"internal/chain"}, "the index is part of the chain's state"},
	{"github.com/veraison/go-cose", []string{"evidence", "client", "test"}, "the chain reads statements with its own strict reader"},
	{"filippo.io/age", []string{"internal/vault", "internal/signing", "internal/member", "cmd/zhenglian", "cmd/zhenglian-browser"}, "age wraps keys and nothing else"},
	{"github.com/spf13/", []string{"cmd/zhenglian"}, "a command line is the program's own business"},
	{"github.com/danielgtaylor/huma", []string{"internal/api"}, "HTTP stays at the edge"},
	{"database/sql", []string{"internal/store"}, "SQL has one place"},
	{"github.com/chromedp/", []string{"internal/capture", "internal/tour"}, "one package drives the browser"},
}

func TestHouse(t *testing.T) {
	allowed := map[string][]string{}
	for _, h := range house {
		allowed[h.pkg] = h.uses
	}
	for _, f := range readModule(t) {
		_, planned := allowed[f.pkg]
		free := f.test || strings.HasPrefix(f.pkg, "cmd/") || strings.HasPrefix(f.pkg, "test/") || strings.HasPrefix(f.pkg, "scripts/") || strings.HasPrefix(f.pkg, "spec/") || testSupport(f.pkg)
		if !planned && !free && f.pkg != "internal/archtest" {
			t.Errorf("%s: the package %s is not in the plan of the house: add it to docs/design.md and to this test", f.path, f.pkg)
			continue
		}
		for _, imported := range f.imports {
			own, ours := strings.CutPrefix(imported, module+"/")
			if !ours {
				continue
			}
			switch {
			case strings.HasPrefix(own, "cmd/"), own == "internal/archtest":
				t.Errorf("%s imports %s, which is a program or a test", f.path, own)
			case !f.test && testSupport(own) && !testSupport(f.pkg) && !strings.HasPrefix(f.pkg, "test/"):
				t.Errorf("%s imports %s, which is there for tests alone", f.path, own)
			case !free && !slices.Contains(allowed[f.pkg], own):
				t.Errorf("%s imports %s, which %s may not", f.path, own, f.pkg)
			}
		}
	}
}

// testSupport: packages that exist for tests, named so that nobody errs.
func testSupport(pkg string) bool {
	last := pkg[strings.LastIndexByte(pkg, '/')+1:]
	return strings.HasPrefix(last, "test") && pkg != "test" || strings.HasSuffix(last, "test")
}

func TestOutside(t *testing.T) {
	for _, f := range readModule(t) {
		for _, imported := range f.imports {
			for _, rule := range outside {
				if !strings.HasPrefix(imported, rule.prefix) {
					continue
				}
				inside := slices.ContainsFunc(rule.only, func(p string) bool { return f.pkg == p || strings.HasPrefix(f.pkg, p+"/") })
				if !inside && !(f.test || strings.HasPrefix(f.pkg, "test/")) {
					t.Errorf("%s imports %s; only %s may: %s", f.path, imported, strings.Join(rule.only, ", "), rule.why)
				}
			}
		}
	}
}

// What a court must be able to trust depends, all the way down, on no engine, no
// database and no HTTP.
func TestPureCore(t *testing.T) {
	for _, pkg := range []string{"evidence", "evidence/recording", "evidence/rfc3161", "verify"} {
		out, err := exec.Command("go", "list", "-deps", module+"/"+pkg).CombinedOutput()
		if err != nil {
			t.Fatalf("listing what %s depends on: %v\n%s", pkg, err, out)
		}
		deps := strings.Fields(string(out))
		if !slices.Contains(deps, "crypto/sha256") {
			t.Fatalf("%s does not depend on crypto/sha256: the list is wrong: %s", pkg, out)
		}
		for _, d := range deps {
			for _, banned := range []string{"net/http", "database/sql", "github.com/cometbft", "github.com/cockroachdb", "os/exec", "google.golang.org/grpc"} {
				if d == banned || strings.HasPrefix(d, banned+"/") {
					t.Errorf("%s depends on %s", pkg, d)
				}
			}
		}
	}
}
