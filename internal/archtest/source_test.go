package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/zhenglian/zhenglian"

// file is one Go file of the module.
type file struct {
	path    string // from the module's root, with slashes
	pkg     string // its folder, the same way
	test    bool
	lines   int
	text    []byte
	syntax  *ast.File
	imports []string
	fset    *token.FileSet
}

// root is the module's root, two folders up.
const root = "../.."

// readModule parses every Go file of the module.
func readModule(t *testing.T) []*file {
	t.Helper()
	fset := token.NewFileSet()
	var files []*file
	for _, name := range tree(t) {
		if path.Ext(name) != ".go" {
			continue
		}
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		syntax, err := parser.ParseFile(fset, name, text, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		f := &file{path: name, pkg: path.Dir(name), test: strings.HasSuffix(name, "_test.go"), lines: strings.Count(string(text), "\n"), text: text, syntax: syntax, fset: fset}
		for _, spec := range syntax.Imports {
			p, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			f.imports = append(f.imports, p)
		}
		files = append(files, f)
	}
	if len(files) < 50 {
		t.Fatalf("only %d Go files were found: the test looks at the wrong folder", len(files))
	}
	return files
}

// tree lists the project's files: not what was built, fetched or installed.
func tree(t *testing.T) []string {
	t.Helper()
	var names []string
	err := fs.WalkDir(os.DirFS(root), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			switch d.Name() {
			case ".git", "bin", "out", "node_modules":
				return fs.SkipDir
			}
			return nil
		}
		if d.Type().IsRegular() {
			names = append(names, name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}
