package judges

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha512"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/internal/testrecording"
	"github.com/zhenglian/zhenglian/internal/tour"
)

// recorded makes a whole recording with a signed archive, written to a folder and
// unpacked there by unzip.
func recorded(t *testing.T) (r *testrecording.Recording, dir string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	must(t, err)
	c := testrecording.Example()
	c.Key = key
	r, _, err = testrecording.Whole(c)
	must(t, err)
	dir = t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "recording.wacz"), r.WACZ, 0o600))
	return r, dir
}

func unzipped(t *testing.T, dir string) string {
	t.Helper()
	folder := filepath.Join(dir, "wacz")
	if out, err := exec.Command(tool(t, "unzip"), "-q", filepath.Join(dir, "recording.wacz"), "-d", folder).CombinedOutput(); err != nil {
		t.Fatalf("unzip: %v\n%s", err, out)
	}
	return folder
}

// npmReady installs the judges of package.json.
func npmReady(t *testing.T, module string) {
	t.Helper()
	npm := tool(t, "npm")
	if _, err := os.Stat("node_modules/" + module); err != nil {
		if out, err := exec.Command(npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund").CombinedOutput(); err != nil {
			t.Skipf("npm cannot install the judges (is there a registry?): %v\n%s", err, bytes.TrimSpace(out))
		}
	}
}

// warcio reads every record, and its digests and index are ours.
func TestWarcio(t *testing.T) {
	if testing.Short() {
		t.Skip("installs npm packages: left out of -short")
	}
	node := tool(t, "node")
	npmReady(t, "warcio")
	_, dir := recorded(t)
	folder := unzipped(t, dir)
	warc, index := filepath.Join(folder, "archive/data.warc.gz"), filepath.Join(folder, "indexes/index.cdxj")
	judge := func() (string, error) {
		out, err := exec.Command(node, "archive.mjs", warc, index).CombinedOutput()
		return string(out), err
	}
	out, err := judge()
	if err != nil {
		t.Fatalf("warcio refuses an honest archive: %v\n%s", err, out)
	}
	// warcinfo; 9 exchanges with request and metadata, 8 of them with a response; 1 screenshot and 3 others.
	if n := strings.Count(out, "block "); n != 1+9+9+8+4 {
		t.Errorf("%d blocks, want 31:\n%s", n, out)
	}
	if n := strings.Count(out, "index "); n != 8 {
		t.Errorf("%d lines of the index, want 8:\n%s", n, out)
	}
	if n := strings.Count(out, "payload "); n < 10 {
		t.Errorf("%d payloads:\n%s", n, out)
	}
	data, err := os.ReadFile(index)
	must(t, err)
	must(t, os.WriteFile(index, bytes.Replace(data, []byte(`"status":302`), []byte(`"status":200`), 1), 0o600))
	if out, err := judge(); err == nil || !strings.Contains(out, "FAILED") {
		t.Errorf("an altered index passes: %s", out)
	}
}

// OpenSSL verifies the signature of the archive.
func TestArchiveSignature(t *testing.T) {
	openssl := tool(t, "openssl")
	_, dir := recorded(t)
	folder := unzipped(t, dir)
	data, err := os.ReadFile(filepath.Join(folder, "datapackage-digest.json"))
	must(t, err)
	var d struct {
		Hash       string
		SignedData struct{ Hash, Signature, PublicKey string }
	}
	must(t, json.Unmarshal(data, &d))
	out, err := exec.Command(openssl, "dgst", "-sha256", "-r", filepath.Join(folder, "datapackage.json")).Output()
	must(t, err)
	if !strings.HasPrefix("sha256:"+string(out), d.Hash) {
		t.Errorf("openssl dgst gives %s, the archive says %s", out, d.Hash)
	}
	raw, err := base64.StdEncoding.DecodeString(d.SignedData.Signature)
	must(t, err)
	der, err := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(raw[:48]), new(big.Int).SetBytes(raw[48:])})
	must(t, err)
	spki, err := base64.StdEncoding.DecodeString(d.SignedData.PublicKey)
	must(t, err)
	verify := func(text string) (string, error) {
		for name, content := range map[string][]byte{"text": []byte(text), "sig": der, "key.der": spki} {
			must(t, os.WriteFile(filepath.Join(dir, name), content, 0o600))
		}
		out, err := exec.Command(openssl, "dgst", "-sha256", "-keyform", "DER", "-verify", filepath.Join(dir, "key.der"), "-signature", filepath.Join(dir, "sig"), filepath.Join(dir, "text")).CombinedOutput()
		return string(out), err
	}
	if out, err := verify(d.SignedData.Hash); err != nil || !strings.Contains(out, "Verified OK") {
		t.Errorf("openssl dgst -verify: %v\n%s", err, out)
	}
	if out, err := verify("sha256:" + strings.Repeat("0", 64)); err == nil {
		t.Errorf("openssl takes another text: %s", out)
	}
}

// Python's zipfile reads the archive and its checksums.
func TestArchivePython(t *testing.T) {
	python := tool(t, "python3")
	_, dir := recorded(t)
	const script = `import sys, zipfile
z = zipfile.ZipFile(sys.argv[1])
assert z.testzip() is None
print("\n".join(sorted(z.namelist())))`
	out, err := exec.Command(python, "-c", script, filepath.Join(dir, "recording.wacz")).CombinedOutput()
	if want := "archive/data.warc.gz\ndatapackage-digest.json\ndatapackage.json\nindexes/index.cdxj\npages/pages.jsonl\n"; err != nil || string(out) != want {
		t.Errorf("%v\n%s", err, out)
	}
}

// The viewer, as the registry has it: by SHA-512, so that it is this one.
const (
	viewer       = "replaywebpage@2.5.3"
	viewerSHA512 = "nCj2PSON3BxeSJKE8AsYPyULv0XPZKJWfy4l9PyQre9SqwLZ+WKZVs/sfLqPOQ4GrH+0YkjbwOhr8cSTH08gsQ=="
)

// viewerFiles packs the viewer once and returns its ui.js and sw.js.
func viewerFiles(t *testing.T) (ui, sw []byte) {
	t.Helper()
	npm, tar := tool(t, "npm"), tool(t, "tar")
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = t.TempDir()
	}
	file := filepath.Join(cache, "zhenglian-judges", "replaywebpage-2.5.3.tgz")
	right := func() bool {
		data, err := os.ReadFile(file)
		sum := sha512.Sum512(data)
		return err == nil && base64.StdEncoding.EncodeToString(sum[:]) == viewerSHA512
	}
	if !right() {
		must(t, os.MkdirAll(filepath.Dir(file), 0o755))
		if out, err := exec.Command(npm, "pack", "--silent", "--pack-destination", filepath.Dir(file), viewer).CombinedOutput(); err != nil {
			t.Skipf("npm cannot fetch %s (is there a registry?): %v\n%s", viewer, err, bytes.TrimSpace(out))
		}
		if !right() {
			t.Fatalf("%s is not the package that was looked at", viewer)
		}
	}
	read := func(name string) []byte {
		out, err := exec.Command(tar, "-xzOf", file, "package/"+name).Output()
		must(t, err)
		return out
	}
	return read("ui.js"), read("sw.js")
}

// ReplayWeb.page shows the recorded page with its picture in a real browser that
// reaches nothing but this test's own server.
func TestReplay(t *testing.T) {
	if testing.Short() {
		t.Skip("fetches a viewer and drives a browser: left out of -short")
	}
	ui, sw := viewerFiles(t)
	r, _ := recorded(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	b, err := tour.Open(t.Context())
	if errors.Is(err, tour.ErrNoBrowser) {
		t.Skip(err)
	}
	must(t, err)
	defer func() { must(t, b.Close()) }()

	mux := http.NewServeMux()
	serve := func(path, media string, data []byte) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, req *http.Request) {
			w.Header().Set("Content-Type", media)
			http.ServeContent(w, req, "", time.Time{}, bytes.NewReader(data))
		})
	}
	serve("/{$}", "text/html", []byte(`<!doctype html><meta charset="utf-8"><title>replay</title><script src="ui.js"></script>
<replay-web-page source="/recording.wacz" url="https://works.example/" replayBase="/replay/" embed="replayonly" style="height:600px"></replay-web-page>`))
	serve("/ui.js", "text/javascript", ui)
	serve("/replay/sw.js", "text/javascript", sw)
	serve("/recording.wacz", "application/wacz", r.WACZ)
	server := httptest.NewServer(mux)
	defer server.Close()
	address := strings.Replace(server.URL, "127.0.0.1", "localhost", 1)

	v, err := b.Visit(tour.Screen{})
	must(t, err)
	defer v.Leave()
	must(t, v.Go(ctx, address+"/"))
	// The page lies two frames deep: the viewer's, and the replay's in it.
	const look = `(() => {
  const walk = (root) => {
    for (const f of root.querySelectorAll('iframe')) {
      const d = f.contentDocument
      if (!d) continue
      const i = d.getElementById('i')
      if (d.getElementById('t') && i && i.complete) return d.getElementById('t').textContent + ' ' + i.naturalWidth + 'x' + i.naturalHeight
      const found = walk(d)
      if (found) return found
    }
    for (const e of root.querySelectorAll('*')) {
      if (!e.shadowRoot) continue
      const found = walk(e.shadowRoot)
      if (found) return found
    }
    return ''
  }
  return walk(document)
})()`
	var seen string
	for seen == "" && ctx.Err() == nil {
		if seen, err = tour.Eval[string](ctx, v, look); err != nil {
			break
		}
		time.Sleep(200 * time.Millisecond)
	}
	if seen != "侵权作品 64x48" {
		text, _ := v.Text(t.Context())
		t.Errorf("the viewer shows %q (%v)\n%s\n%v\n%v", seen, err, text, v.Console(), v.Requests())
	}
}
