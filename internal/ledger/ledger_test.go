package ledger

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/merkle/testonly"
	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"

	"github.com/zhenglian/zhenglian/evidence"
)

// digests returns entries first … first+n-1 of an endless made-up log.
func digests(first, n int) []evidence.Digest {
	out := make([]evidence.Digest, n)
	for i := range out {
		var b [8]byte
		binary.BigEndian.PutUint64(b[:], uint64(first+i))
		out[i] = sha256.Sum256(b[:])
	}
	return out
}

func reference(entries []evidence.Digest) *testonly.Tree {
	tree := testonly.New(rfc6962.DefaultHasher)
	for i := range entries {
		tree.AppendData(entries[i][:])
	}
	return tree
}

func mustOpen(t testing.TB, dir string) *Log {
	t.Helper()
	l, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func mustAppend(t testing.TB, l *Log, entries []evidence.Digest) {
	t.Helper()
	size, root, err := l.Append(entries)
	if err != nil {
		t.Fatal(err)
	}
	if gotSize, gotRoot := l.Head(); size != gotSize || root != gotRoot {
		t.Fatalf("Append returned %d %s, Head %d %s", size, root, gotSize, gotRoot)
	}
}

func mustCheck(t testing.TB, l *Log) {
	t.Helper()
	if err := l.Check(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
}

// The first roots of the RFC 6962 test tree cannot be used (its leaves are not
// 32 bytes); these were computed with sha256sum and xxd.
func TestSmallRoots(t *testing.T) {
	zero, one := evidence.Digest{}, evidence.Digest{31: 1}
	for _, c := range []struct {
		entries []evidence.Digest
		root    string
	}{
		{nil, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
		{[]evidence.Digest{zero}, "7f9c9e31ac8256ca2f258583df262dbc7d6f68f2a03043d5c99a4ae5a7396ce9"},
		{[]evidence.Digest{zero, one}, "fc1cb46daa84d0e650f2e714a970936d1de022735e136e275eb27fa010402a6f"},
	} {
		l := mustOpen(t, t.TempDir())
		mustAppend(t, l, c.entries)
		if got := l.Root().String(); got != c.root {
			t.Errorf("root of %d entries is %s, want %s", len(c.entries), got, c.root)
		}
	}
}

// Everything a reader can ask, at the sizes where tiles begin and end.
func TestAgainstReference(t *testing.T) {
	const total = 66_000 // past 256², so that hashes.2 exists
	entries := digests(0, total)
	tree := reference(entries)
	l := mustOpen(t, t.TempDir())
	for at, step := 0, 1; at < total; step = step*3 + 1 {
		n := min(step, total-at)
		mustAppend(t, l, entries[at:at+n])
		at += n
		if got, want := l.Root(), evidence.Digest(tree.HashAt(uint64(at))); got != want {
			t.Fatalf("root at %d is %s, want %s", at, got, want)
		}
	}
	sizes := []uint64{0, 1, 2, 3, 127, 128, 129, 255, 256, 257, 511, 512, 513, 65_279, 65_535, 65_536, 65_537, 65_792, total - 1, total}
	for _, size := range sizes {
		root, err := l.RootAt(size)
		if err != nil {
			t.Fatal(err)
		}
		if want := tree.HashAt(size); !bytes.Equal(root[:], want) {
			t.Fatalf("root at %d is %s, want %x", size, root, want)
		}
		for _, index := range sizes {
			if index >= size {
				continue
			}
			path, err := l.InclusionProof(index, size)
			if err != nil {
				t.Fatal(err)
			}
			want, err := tree.InclusionProof(index, size)
			if err != nil {
				t.Fatal(err)
			}
			comparePaths(t, fmt.Sprintf("inclusion %d in %d", index, size), path, want)
		}
		for _, first := range sizes {
			if first > size {
				continue
			}
			path, err := l.ConsistencyProof(first, size)
			if err != nil {
				t.Fatal(err)
			}
			want, err := tree.ConsistencyProof(first, size)
			if err != nil {
				t.Fatal(err)
			}
			comparePaths(t, fmt.Sprintf("consistency %d to %d", first, size), path, want)
		}
	}
	mustCheck(t, l)
}

func comparePaths(t *testing.T, what string, got []evidence.Digest, want [][]byte) {
	t.Helper()
	if got == nil {
		t.Fatalf("%s: nil, want an empty path", what)
	}
	if len(got) != len(want) {
		t.Fatalf("%s: %d hashes, want %d", what, len(got), len(want))
	}
	for i := range got {
		if !bytes.Equal(got[i][:], want[i]) {
			t.Fatalf("%s: hash %d is %s, want %x", what, i, got[i], want[i])
		}
	}
}

func paths(path []evidence.Digest) [][]byte {
	out := make([][]byte, len(path))
	for i := range path {
		out[i] = path[i][:]
	}
	return out
}

func TestProofsVerify(t *testing.T) {
	l := mustOpen(t, t.TempDir())
	mustAppend(t, l, digests(0, 70_000))
	rapid.Check(t, func(t *rapid.T) {
		second := rapid.Uint64Range(1, 70_000).Draw(t, "second")
		first := rapid.Uint64Range(1, second).Draw(t, "first")
		index := rapid.Uint64Range(0, first-1).Draw(t, "index")
		root1, err := l.RootAt(first)
		if err != nil {
			t.Fatal(err)
		}
		root2, err := l.RootAt(second)
		if err != nil {
			t.Fatal(err)
		}
		consistency, err := l.ConsistencyProof(first, second)
		if err != nil {
			t.Fatal(err)
		}
		if err := proof.VerifyConsistency(rfc6962.DefaultHasher, first, second, paths(consistency), root1[:], root2[:]); err != nil {
			t.Fatal(err)
		}
		inclusion, err := l.InclusionProof(index, second)
		if err != nil {
			t.Fatal(err)
		}
		entry, err := l.Entry(index)
		if err != nil {
			t.Fatal(err)
		}
		leaf := rfc6962.DefaultHasher.HashLeaf(entry[:])
		if err := proof.VerifyInclusion(rfc6962.DefaultHasher, index, second, leaf, paths(inclusion), root2[:]); err != nil {
			t.Fatal(err)
		}
	})
}

// tileReader serves our tiles to golang.org/x/mod/sumdb/tlog.
type tileReader struct{ l *Log }

func (r tileReader) Height() int                     { return 8 }
func (r tileReader) SaveTiles([]tlog.Tile, [][]byte) {}
func (r tileReader) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var out [][]byte
	for _, tile := range tiles {
		data, err := r.l.Tile(tile.L, uint64(tile.N), tile.W)
		if err != nil {
			return nil, err
		}
		out = append(out, data)
	}
	return out, nil
}

func TestTilesAgainstTlog(t *testing.T) {
	const total = 70_000 // the example of tlog-tiles
	entries := digests(0, total)
	var stored []tlog.Hash
	read := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(indexes))
		for i, x := range indexes {
			out[i] = stored[x]
		}
		return out, nil
	})
	for i := range entries {
		hashes, err := tlog.StoredHashes(int64(i), entries[i][:], read)
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, hashes...)
	}
	l := mustOpen(t, t.TempDir())
	mustAppend(t, l, entries)
	for _, size := range []int64{1, 255, 256, 257, 65_536, total} {
		count := map[string]int{}
		for _, tile := range tlog.NewTiles(8, 0, size) {
			want, err := tlog.ReadTileData(tile, read)
			if err != nil {
				t.Fatal(err)
			}
			got, err := l.Tile(tile.L, uint64(tile.N), tile.W)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Fatalf("size %d: tile %s differs", size, tile.Path())
			}
			count[fmt.Sprintf("level %d, width %d", tile.L, tile.W)]++
		}
		if size == total {
			want := map[string]int{"level 0, width 256": 273, "level 0, width 112": 1, "level 1, width 256": 1, "level 1, width 17": 1, "level 2, width 1": 1}
			if fmt.Sprint(count) != fmt.Sprint(want) {
				t.Errorf("tiles of %d entries: %v, want %v", total, count, want)
			}
		}
		root, err := l.RootAt(uint64(size))
		if err != nil {
			t.Fatal(err)
		}
		tree := tlog.Tree{N: size, Hash: tlog.Hash(root)}
		reader := tlog.TileHashReader(tree, tileReader{l})
		path, err := tlog.ProveRecord(size, size/2, reader)
		if err != nil {
			t.Fatal(err)
		}
		if err := tlog.CheckRecord(path, size, tree.Hash, size/2, tlog.RecordHash(entries[size/2][:])); err != nil {
			t.Fatal(err)
		}
	}
}

func TestEntryBundle(t *testing.T) {
	entries := digests(0, 300)
	l := mustOpen(t, t.TempDir())
	mustAppend(t, l, entries)
	for _, c := range []struct {
		index uint64
		width int
	}{{0, 1}, {0, 255}, {0, 256}, {1, 1}, {1, 44}} {
		got, err := l.EntryBundle(c.index, c.width)
		if err != nil {
			t.Fatal(err)
		}
		var want string
		for i := range c.width {
			want += "0020" + entries[int(c.index)*256+i].String()
		}
		if hex.EncodeToString(got) != want {
			t.Errorf("bundle %d width %d differs", c.index, c.width)
		}
	}
}

func TestOutsideTheLog(t *testing.T) {
	l := mustOpen(t, t.TempDir())
	mustAppend(t, l, digests(0, 300))
	const huge = 1 << 63
	for name, call := range map[string]func() error{
		"entry":              func() error { _, err := l.Entry(300); return err },
		"entries":            func() error { _, err := l.Entries(299, 2); return err },
		"entries overflow":   func() error { _, err := l.Entries(299, huge*2-1); return err },
		"root":               func() error { _, err := l.RootAt(301); return err },
		"inclusion size":     func() error { _, err := l.InclusionProof(0, 301); return err },
		"inclusion index":    func() error { _, err := l.InclusionProof(7, 7); return err },
		"consistency order":  func() error { _, err := l.ConsistencyProof(8, 7); return err },
		"consistency size":   func() error { _, err := l.ConsistencyProof(8, 301); return err },
		"truncate":           func() error { return l.Truncate(301) },
		"tile width 0":       func() error { _, err := l.Tile(0, 0, 0); return err },
		"tile width 257":     func() error { _, err := l.Tile(0, 0, 257); return err },
		"tile partial":       func() error { _, err := l.Tile(0, 1, 45); return err },
		"tile index":         func() error { _, err := l.Tile(0, 2, 1); return err },
		"tile index huge":    func() error { _, err := l.Tile(0, huge, 1); return err },
		"tile level 1":       func() error { _, err := l.Tile(1, 0, 2); return err },
		"tile level 2 empty": func() error { _, err := l.Tile(2, 0, 1); return err },
		"tile level 63":      func() error { _, err := l.Tile(63, 0, 1); return err },
		"tile level -1":      func() error { _, err := l.Tile(-1, 0, 1); return err },
		"bundle":             func() error { _, err := l.EntryBundle(1, 45); return err },
	} {
		if err := call(); !errors.Is(err, ErrRange) {
			t.Errorf("%s: %v, want ErrRange", name, err)
		}
	}
}

func TestReopen(t *testing.T) {
	dir := t.TempDir()
	entries := digests(0, 66_000)
	l := mustOpen(t, dir)
	if _, err := Open(dir); !errors.Is(err, ErrInUse) {
		t.Errorf("second Open: %v, want ErrInUse", err)
	}
	mustAppend(t, l, entries)
	_, root := l.Head()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := l.Append(entries); !errors.Is(err, ErrClosed) {
		t.Errorf("Append after Close: %v, want ErrClosed", err)
	}
	if _, err := l.Entry(0); !errors.Is(err, ErrClosed) {
		t.Errorf("Entry after Close: %v, want ErrClosed", err)
	}
	l = mustOpen(t, dir)
	if got := l.Recovered(); got != (Recovery{}) {
		t.Errorf("after a clean Close, Open mended %+v", got)
	}
	if size, got := l.Head(); size != 66_000 || got != root || l.Synced() != 66_000 {
		t.Errorf("reopened at %d %s, synced %d", size, got, l.Synced())
	}
	info, err := os.Stat(filepath.Join(dir, "hashes.1"))
	if err != nil || info.Size() != 257*32 {
		t.Errorf("hashes.1: %v, %v, want 257 hashes", info, err)
	}
}

func TestOpenMends(t *testing.T) {
	entries := digests(0, 66_000)
	full := evidence.Digest(reference(entries).Hash())
	cut := func(name string, size int64) func(string) error {
		return func(dir string) error { return os.Truncate(filepath.Join(dir, name), size) }
	}
	remove := func(name string) func(string) error {
		return func(dir string) error { return os.Remove(filepath.Join(dir, name)) }
	}
	for _, c := range []struct {
		name   string
		damage func(dir string) error
		size   uint64
		want   Recovery
	}{
		{"hashes.1 torn", cut("hashes.1", 200*32+5), 66_000, Recovery{Rebuilt: 57}},
		{"hashes.1 longer", cut("hashes.1", 300*32), 66_000, Recovery{}},
		{"hashes.1 gone", remove("hashes.1"), 66_000, Recovery{Rebuilt: 257}},
		{"hashes.2 gone", remove("hashes.2"), 66_000, Recovery{Rebuilt: 1}},
		{"mark gone", remove("synced"), 66_000, Recovery{Rebuilt: 258}},
		{"mark empty", cut("synced", 0), 66_000, Recovery{Rebuilt: 258}},
		{"hash at the spine flipped", flip("hashes.2", 3), 66_000, Recovery{Rebuilt: 258}},
		{"entry torn", cut("entries", 65_999*32+31), 65_999, Recovery{TornBytes: 31, Lost: 1}},
		{"entries lost", cut("entries", 500*32), 500, Recovery{Lost: 65_500}},
		{"entries gone", remove("entries"), 0, Recovery{Lost: 66_000}},
		{"half an entry more", cut("entries", 66_000*32+7), 66_000, Recovery{TornBytes: 7}},
		{"three entries of zeros more", cut("entries", 66_003*32), 66_003, Recovery{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			l := mustOpen(t, dir)
			mustAppend(t, l, entries)
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			if err := c.damage(dir); err != nil {
				t.Fatal(err)
			}
			l = mustOpen(t, dir)
			if l.Size() != c.size || l.Recovered() != c.want {
				t.Fatalf("opened at %d with %+v, want %d with %+v", l.Size(), l.Recovered(), c.size, c.want)
			}
			mustCheck(t, l)
			// Recovery as the package comment tells it.
			if l.Size() > 66_000 {
				if err := l.Truncate(l.Synced()); err != nil {
					t.Fatal(err)
				}
			}
			mustAppend(t, l, entries[l.Size():])
			if l.Root() != full {
				t.Errorf("root after recovery %s, want %s", l.Root(), full)
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			l = mustOpen(t, dir)
			if size, root := l.Head(); size != 66_000 || root != full || l.Recovered() != (Recovery{}) {
				t.Errorf("second opening: %d, %s, %+v", size, root, l.Recovered())
			}
			mustCheck(t, l)
		})
	}
}

func TestTruncate(t *testing.T) {
	entries := digests(0, 70_000)
	other := digests(1_000_000, 70_000)
	for _, size := range []int{0, 255, 256, 65_535, 65_536, 69_999} {
		dir := t.TempDir()
		l := mustOpen(t, dir)
		mustAppend(t, l, entries)
		if err := l.Sync(); err != nil {
			t.Fatal(err)
		}
		if _, err := l.InclusionProof(300, 70_000); err != nil { // fills the cache
			t.Fatal(err)
		}
		if err := l.Truncate(uint64(size)); err != nil {
			t.Fatal(err)
		}
		if l.Synced() > l.Size() {
			t.Errorf("after Truncate(%d) %d entries count as synced", size, l.Synced())
		}
		mustCheck(t, l)
		mixed := append(append([]evidence.Digest{}, entries[:size]...), other[size:]...)
		tree := reference(mixed)
		if got := l.Root(); !bytes.Equal(got[:], tree.HashAt(uint64(size))) {
			t.Fatalf("root after Truncate(%d) is %s", size, got)
		}
		mustAppend(t, l, mixed[size:])
		if got := l.Root(); !bytes.Equal(got[:], tree.Hash()) {
			t.Fatalf("root after Truncate(%d) and Append is %s", size, got)
		}
		path, err := l.InclusionProof(300, 70_000)
		if err != nil {
			t.Fatal(err)
		}
		want, err := tree.InclusionProof(300, 70_000)
		if err != nil {
			t.Fatal(err)
		}
		comparePaths(t, "after Truncate", path, want)
		mustCheck(t, l)
	}
}

// Readers beside a writer see sizes that only grow and proofs that verify.
func TestConcurrentReaders(t *testing.T) {
	l := mustOpen(t, t.TempDir())
	mustAppend(t, l, digests(0, 1))
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			for last := uint64(0); ; {
				select {
				case <-done:
					return
				default:
				}
				size, root := l.Head()
				if size < last {
					t.Errorf("size went from %d to %d", last, size)
					return
				}
				last = size
				index := size * 2 / 3
				path, err := l.InclusionProof(index, size)
				if err != nil {
					t.Error(err)
					return
				}
				entry, err := l.Entry(index)
				if err != nil {
					t.Error(err)
					return
				}
				leaf := rfc6962.DefaultHasher.HashLeaf(entry[:])
				if err := proof.VerifyInclusion(rfc6962.DefaultHasher, index, size, leaf, paths(path), root[:]); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	readers.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			if err := l.Sync(); err != nil {
				t.Error(err)
				return
			}
			if err := l.Check(t.Context(), nil); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for at := 1; at < 20_000; at += 501 {
		mustAppend(t, l, digests(at, 501))
	}
	close(done)
	readers.Wait()
	mustCheck(t, l)
}
