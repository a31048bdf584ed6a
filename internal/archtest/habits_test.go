package archtest

import (
	"bytes"
	"go/ast"
	"go/token"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// longFiles may have more than maxLines lines, for the reason given.
var longFiles = map[string]string{}

const maxLines = 700

func TestFilesAreShort(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range readModule(t) {
		seen[f.path] = f.lines > maxLines
		if f.lines > maxLines && longFiles[f.path] == "" {
			t.Errorf("%s has %d lines, more than %d: divide it, or list it with a reason", f.path, f.lines, maxLines)
		}
	}
	for name := range longFiles {
		if !seen[name] {
			t.Errorf("%s is listed as long and is not: take it off the list", name)
		}
	}
}

func TestPackageComments(t *testing.T) {
	comments := map[string]string{}
	packages := map[string]bool{}
	for _, f := range readModule(t) {
		if f.test {
			continue
		}
		packages[f.pkg] = true
		if f.syntax.Doc != nil {
			comments[f.pkg] += f.syntax.Doc.Text()
		}
	}
	for pkg := range packages {
		text := comments[pkg]
		switch {
		case text == "":
			t.Errorf("%s has no package comment", pkg)
		case !strings.HasPrefix(text, "Package "+path.Base(pkg)+" ") && !strings.HasPrefix(text, "Command "+path.Base(pkg)+" "):
			t.Errorf("the comment of %s begins with %.40q", pkg, text)
		case trusts(pkg) && !strings.Contains(strings.ToLower(text), "trust"):
			t.Errorf("the comment of %s does not say what it trusts", pkg)
		}
	}
}

// trusts: packages that a node or a verification rests on.
func trusts(pkg string) bool {
	return !testSupport(pkg) && !strings.HasPrefix(pkg, "test/") && !strings.HasPrefix(pkg, "cmd/") && !strings.HasPrefix(pkg, "scripts/") && !strings.HasPrefix(pkg, "spec/")
}

// No init, no state that a package keeps for itself: what a program does is
// what its main and its constructors say.
func TestNoHiddenState(t *testing.T) {
	files := readModule(t)
	variables := map[string]map[string]bool{} // package → its variables
	for _, f := range files {
		for _, decl := range f.syntax.Decls {
			if gen, ok := decl.(*ast.GenDecl); ok && gen.Tok == token.VAR && !f.test {
				for _, spec := range gen.Specs {
					for _, name := range spec.(*ast.ValueSpec).Names {
						if variables[f.pkg] == nil {
							variables[f.pkg] = map[string]bool{}
						}
						variables[f.pkg][name.Name] = true
					}
				}
			}
		}
	}
	for _, f := range files {
		if f.test {
			continue
		}
		unresolved := map[*ast.Ident]bool{} // names declared in other files of the package
		for _, id := range f.syntax.Unresolved {
			unresolved[id] = true
		}
		global := func(e ast.Expr) bool {
			for {
				switch x := e.(type) {
				case *ast.IndexExpr:
					e = x.X
				case *ast.SelectorExpr:
					e = x.X
				case *ast.StarExpr:
					e = x.X
				case *ast.ParenExpr:
					e = x.X
				case *ast.Ident:
					if !variables[f.pkg][x.Name] {
						return false
					}
					return unresolved[x] || x.Obj != nil && f.syntax.Scope.Lookup(x.Name) == x.Obj
				default:
					return false
				}
			}
		}
		report := func(e ast.Expr) {
			if global(e) {
				t.Errorf("%s changes a variable of its package", f.fset.Position(e.Pos()))
			}
		}
		for _, decl := range f.syntax.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			if fn.Recv == nil && fn.Name.Name == "init" {
				t.Errorf("%s: there is no init here: let main or a constructor do it", f.fset.Position(fn.Pos()))
			}
			ast.Inspect(fn, func(n ast.Node) bool {
				switch s := n.(type) {
				case *ast.AssignStmt:
					if s.Tok != token.DEFINE {
						for _, e := range s.Lhs {
							report(e)
						}
					}
				case *ast.IncDecStmt:
					report(s.X)
				case *ast.RangeStmt:
					if s.Tok == token.ASSIGN {
						report(s.Key)
						report(s.Value)
					}
				}
				return true
			})
		}
	}
}

// badNames are words that say nothing about what a thing is.
func TestNames(t *testing.T) {
	bad := regexp.MustCompile(`(Manager|Service|Helper|Util|Utils)$`)
	for _, f := range readModule(t) {
		if base := path.Base(f.pkg); base == "util" || base == "utils" || base == "helpers" || base == "common" {
			t.Errorf("%s: the package's name says nothing", f.path)
		}
		for _, decl := range f.syntax.Decls {
			gen, ok := decl.(*ast.GenDecl)
			if !ok || gen.Tok != token.TYPE {
				continue
			}
			for _, spec := range gen.Specs {
				if name := spec.(*ast.TypeSpec).Name; bad.MatchString(name.Name) {
					t.Errorf("%s: %s says nothing about what it is", f.fset.Position(name.Pos()), name.Name)
				}
			}
		}
	}
}

// words that have no place in the project. They are written in halves so that
// this file has none of them.
var words = []struct {
	pattern *regexp.Regexp
	why     string
}{
	{regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X|HA` + `CK)\b`), "do it, or open an issue"},
	{regexp.MustCompile(`(^|[^.\w/@])/(root|work|home/[a-z])(/|\b)`), "a path of somebody's machine"},
	{regexp.MustCompile(`proxy\.gol` + `ang\.org|registry\.np` + `mjs\.org|deb\.deb` + `ian\.org|sum\.gol` + `ang\.org`), "a registry's host: clients know where to fetch"},
}

func TestWords(t *testing.T) {
	text := []string{".go", ".md", ".sh", ".txt", ".txtar", ".json", ".toml", ".yml", ".yaml", ".mjs", ".cjs", ".js", ".ts", ".py", ".html", ".css", ".svg", ".mod", ""}
	for _, name := range tree(t) {
		if !slices.Contains(text, path.Ext(name)) {
			continue
		}
		data, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		if bytes.IndexByte(data, 0) >= 0 {
			continue // no text
		}
		for _, w := range words {
			if at := w.pattern.FindIndex(data); at != nil {
				line := 1 + bytes.Count(data[:at[0]], []byte("\n"))
				t.Errorf("%s:%d: %q: %s", name, line, bytes.TrimSpace(data[at[0]:at[1]]), w.why)
			}
		}
	}
}
