package api

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	f_note "github.com/transparency-dev/formats/note"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/api"
	"github.com/transparency-dev/tessera/api/layout"
	"github.com/transparency-dev/tessera/client"
	"github.com/transparency-dev/tessera/fsck"
	"github.com/zhenglian/zhenglian/evidence"
)

// fill registers deposits until the log has size entries.
func (w *world) fill(size int) {
	w.t.Helper()
	for i := len(w.node.entries); i < size; i++ {
		w.register(w.deposit(w.alice, "m:alice", fmt.Sprint("filler ", i)))
	}
}

func bundleHashes(data []byte) ([][]byte, error) {
	var b api.EntryBundle
	if err := b.UnmarshalText(data); err != nil {
		return nil, err
	}
	var out [][]byte
	for _, e := range b.Entries {
		out = append(out, rfc6962.DefaultHasher.HashLeaf(e))
	}
	return out, nil
}

// The independent reader: tessera's fsck with each institution's key, and its
// client's proofs, over HTTP.
func TestTesseraReadsTheLog(t *testing.T) {
	w := newWorld(t)
	w.fill(256*3 + 44)
	base, err := url.Parse(w.url + "/")
	if err != nil {
		t.Fatal(err)
	}
	fetcher, err := client.NewHTTPFetcher(base, http.DefaultClient)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	origin := w.node.alliance.Origin()
	for _, inst := range institutions {
		vkey := evidence.CosignerVKey(w.node.alliance.CosignerName(inst), w.node.keys[inst]["cosign"].Public())
		verifier, err := f_note.NewVerifier(vkey)
		if err != nil {
			t.Fatal(err)
		}
		if err := fsck.New(origin, verifier, fetcher, bundleHashes, fsck.Opts{N: 64}).Check(ctx); err != nil {
			t.Fatalf("fsck with the key of %s: %v", inst, err)
		}
		cp, _, _, err := client.FetchCheckpoint(ctx, fetcher.ReadCheckpoint, verifier, origin)
		if err != nil || cp.Size != 812 {
			t.Fatalf("%+v %v", cp, err)
		}
		builder, err := client.NewProofBuilder(ctx, cp.Size, fetcher.ReadTile)
		if err != nil {
			t.Fatal(err)
		}
		path, err := builder.InclusionProof(ctx, 300)
		if err != nil {
			t.Fatal(err)
		}
		entry := w.node.entries[300]
		if err := proof.VerifyInclusion(rfc6962.DefaultHasher, 300, cp.Size, rfc6962.DefaultHasher.HashLeaf(entry[:]), path, cp.Hash); err != nil {
			t.Fatal(err)
		}
	}
	// A damaged log is found, so that the check above means something.
	verifier, _ := f_note.NewVerifier(evidence.CosignerVKey(w.node.alliance.CosignerName("court"), w.node.keys["court"]["cosign"].Public()))
	w.node.set(func() { w.node.entries[5][0] ^= 1 })
	if err := fsck.New(origin, verifier, fetcher, bundleHashes, fsck.Opts{N: 64}).Check(ctx); err == nil {
		t.Fatal("fsck passed a damaged entry")
	}
}

func TestTileAnswers(t *testing.T) {
	w := newWorld(t)
	w.fill(300)
	for path, length := range map[string]int{"/tile/0/000": 256 * 32, "/tile/0/001.p/44": 44 * 32, "/tile/0/001.p/7": 7 * 32, "/tile/1/000.p/1": 32, "/tile/entries/000": 256 * 34, "/tile/entries/001.p/44": 44 * 34} {
		a := w.get(path)
		if a.status != 200 || len(a.body) != length || a.header.Get("Cache-Control") != immutable || a.header.Get("Content-Type") != "application/octet-stream" || a.header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s: %d, %d bytes, %v", path, a.status, len(a.body), a.header)
		}
		if h := w.do("HEAD", path, nil); h.status != 200 || len(h.body) != 0 {
			t.Errorf("HEAD %s: %d", path, h.status)
		}
	}
	a := w.get("/checkpoint")
	cp, err := evidence.ParseCheckpoint(a.body)
	if a.status != 200 || err != nil || cp.Size != 300 || len(cp.Cosignatures) != 4 || a.header.Get("Content-Type") != "text/plain; charset=utf-8" || !strings.Contains(a.header.Get("Cache-Control"), "max-age=1") {
		t.Fatalf("%d %v %v", a.status, a.header, err)
	}
	if b := w.get("/api/v1/checkpoints/300"); !bytes.Equal(a.body, b.body) {
		t.Fatalf("%d %s", b.status, b.body)
	}
	w.want(w.get("/api/v1/checkpoints/301"), 404, "not-found")
	w.want(w.get("/api/v1/checkpoints/-1"), 400, "bad-request")
}

// Whatever else an attacker asks for is absent, and nothing leaves the log.
func TestTilePathTricks(t *testing.T) {
	w := newWorld(t)
	w.fill(300)
	for _, path := range []string{
		"/tile/0/001", "/tile/0/001.p/45", "/tile/0/002", "/tile/1/000", "/tile/2/000", "/tile/0/001.p/0", "/tile/0/001.p/044", "/tile/0/001.p/256",
		"/tile/0/001.p/-1", "/tile/0/001.p/+7", "/tile/0/0", "/tile/0/00", "/tile/0/0000", "/tile/0/x000", "/tile/0/x000/000", "/tile/0/x001", "/tile/0/000/", "/tile/0/000.p/", "/tile/0/000.p",
		"/tile/00/000", "/tile/01/000", "/tile/-1/000", "/tile/64/000", "/tile/999/000", "/tile/0/%30%30%30", "/tile/0/%2e%2e%2f", "/tile/%2e%2e/checkpoint", "/tile/0/x999/x999/x999/x999/x999/x999/999",
		"/tile/0/x018/x446/x744/x073/x709/x551/615", "/tile/7/000", "/tile/entries/002", "/tile/entries/001", "/tile/entries/..%2f..%2fetc%2fpasswd", "/tile/entries/%00", "/tile/entries/", "/tile/0/", "/tile/", "/tile",
		"/tile/0/000%00", "/tile/0/０００", "/tile/entries/000.p/256", "/tile/entries/000.p/1.p/1",
	} {
		a := w.get(path)
		if a.status != 404 || a.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d %v", path, a.status, a.header)
		}
	}
	// net/http cleans these; what they lead to is a path of the log again or nothing.
	for _, path := range []string{"/tile/0/../../checkpoint", "//checkpoint", "/tile//0/000"} {
		if a := w.get(path); a.status != 301 && a.status != 307 && a.status != 404 {
			t.Errorf("%s: %d", path, a.status)
		}
	}
}

// Every path that the other implementation makes is read back the same.
func FuzzParseTileIndex(f *testing.F) {
	f.Add("x001/x234/067.p/8", uint64(1234067), uint8(8))
	f.Add("000", uint64(0), uint8(0))
	f.Fuzz(func(t *testing.T, text string, n uint64, p uint8) {
		n %= 1e18 // six groups
		want := int(p)
		if want == 0 {
			want = tileWidth
		}
		index, width, ok := parseTileIndex(layout.NWithSuffix(0, n, p))
		if !ok || index != n || width != want {
			t.Fatalf("%d.p/%d is read as %d, %d, %v", n, p, index, width, ok)
		}
		if index, width, ok = parseTileIndex(text); ok {
			if width < 1 || width > tileWidth {
				t.Fatalf("width %d", width)
			}
			if back := layout.NWithSuffix(0, index, uint8(width%tileWidth)); back != text {
				t.Fatalf("%q is accepted and is %q", text, back)
			}
		}
	})
}
