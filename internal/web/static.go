package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"path"
	"strconv"
	"strings"
)

//go:embed static
var staticFiles embed.FS

// wasm holds what scripts/build.sh puts there: verify.wasm.gz and others, and the
// Go distribution's wasm_exec.js. Without them the pages that need them say so.
//
//go:embed wasm
var wasmFiles embed.FS

// statics are the files of pages, under an address that changes with their
// content: /static/FINGERPRINT/NAME. Small files share one fingerprint, so that
// modules can import each other by name; WebAssembly has its own, so that a word
// changed in a script does not fetch 12 MB again.
type statics struct {
	files map[string]*staticFile // by name
	tree  string                 // fingerprint of the small files
}

type staticFile struct {
	fingerprint string
	contentType string
	plain       []byte // nil: kept compressed alone
	gzipped     []byte // nil: not worth it
}

func loadStatics(small, wasm fs.FS) (*statics, error) {
	s := &statics{files: map[string]*staticFile{}}
	tree := sha256.New()
	add := func(root fs.FS, dir string) error {
		return fs.WalkDir(root, dir, func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || strings.HasSuffix(name, ".md") {
				return err
			}
			data, err := fs.ReadFile(root, name)
			if err != nil {
				return err
			}
			short := strings.TrimPrefix(name, dir+"/")
			if base, ok := strings.CutSuffix(short, ".gz"); ok {
				s.files[base] = &staticFile{fingerprint: fingerprint(data), contentType: contentType(base), gzipped: data}
				return nil
			}
			fmt.Fprintf(tree, "%d %s %d\n", len(short), short, len(data))
			tree.Write(data)
			f := &staticFile{contentType: contentType(short), plain: data}
			if f.contentType != "image/png" {
				f.gzipped = compress(data)
			}
			s.files[short] = f
			return nil
		})
	}
	if err := add(small, "static"); err != nil {
		return nil, fmt.Errorf("reading the static files: %w", err)
	}
	if err := add(wasm, "wasm"); err != nil {
		return nil, fmt.Errorf("reading the WebAssembly modules: %w", err)
	}
	s.tree = hex.EncodeToString(tree.Sum(nil))[:16]
	for _, f := range s.files {
		if f.fingerprint == "" {
			f.fingerprint = s.tree
		}
	}
	return s, nil
}

func fingerprint(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])[:16]
}

// compress returns data in gzip, or nil when that saves nothing.
func compress(data []byte) []byte {
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return nil
	}
	if _, err := z.Write(data); err != nil {
		return nil
	}
	if z.Close() != nil || b.Len() >= len(data) {
		return nil
	}
	return b.Bytes()
}

// contentType by the name; the system's own table is not asked, so that every
// machine serves the same.
func contentType(name string) string {
	switch path.Ext(name) {
	case ".css":
		return "text/css; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	case ".png":
		return "image/png"
	case ".wasm":
		return "application/wasm"
	case ".json":
		return "application/json"
	}
	return "application/octet-stream"
}

func (s *statics) has(name string) bool { return s.files[name] != nil }

// url returns a file's address. A name that is missing is a mistake in a template.
func (s *statics) url(name string) (string, error) {
	f := s.files[name]
	if f == nil {
		return "", fmt.Errorf("there is no static file %q", name)
	}
	return "/static/" + f.fingerprint + "/" + name, nil
}

// workerPolicy is the content policy of scripts that run as workers. A worker
// whose name begins with "offline-" may open no connection at all: what it is
// given to read cannot leave it but through the page.
func workerPolicy(name string) string {
	policy := "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'"
	if !strings.HasPrefix(path.Base(name), "offline-") {
		policy += "; connect-src 'self'"
	}
	return policy
}

// ServeHTTP serves a file at its fingerprint, for a year; at another, 404: a page
// of an earlier version asks for what is no longer here.
func (s *statics) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	print, name, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/static/"), "/")
	f := s.files[name]
	if f == nil || f.fingerprint != print {
		http.Error(w, "没有这个文件，请刷新页面。\nNo such file: reload the page.", http.StatusNotFound)
		return
	}
	h := w.Header()
	h.Set("Content-Type", f.contentType)
	h.Set("Content-Security-Policy", workerPolicy(name))
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	h.Set("ETag", `"`+f.fingerprint+`"`)
	h.Set("Vary", "Accept-Encoding")
	body := f.plain
	switch {
	case f.gzipped != nil && acceptsGzip(r):
		h.Set("Content-Encoding", "gzip")
		body = f.gzipped
	case body == nil: // kept compressed alone, for a client that takes no gzip
		z, err := gzip.NewReader(bytes.NewReader(f.gzipped))
		if err != nil {
			http.Error(w, "the file is damaged", http.StatusInternalServerError)
			return
		}
		if body, err = io.ReadAll(z); err != nil {
			http.Error(w, "the file is damaged", http.StatusInternalServerError)
			return
		}
	}
	if r.Header.Get("If-None-Match") == h.Get("ETag") {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // the browser may have gone away
	}
}

func acceptsGzip(r *http.Request) bool {
	for _, part := range strings.Split(r.Header.Get("Accept-Encoding"), ",") {
		name, q, _ := strings.Cut(strings.TrimSpace(part), ";")
		if strings.TrimSpace(name) == "gzip" {
			return strings.ReplaceAll(q, " ", "") != "q=0"
		}
	}
	return false
}
