package ledger

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// flip returns a function that inverts one byte of a file.
func flip(name string, at int64) func(dir string) error {
	return func(dir string) error {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		var b [1]byte
		if _, err := f.ReadAt(b[:], at); err != nil {
			return err
		}
		b[0] ^= 0xff
		_, err = f.WriteAt(b[:], at)
		return err
	}
}

func TestCheckNamesTheDamage(t *testing.T) {
	const size = 66_000 // 257 full tiles and 208 entries: subtrees of 128, 64 and 16
	for _, c := range []struct {
		name   string
		damage func(dir string) error
		synced bool
		want   DamageError
	}{
		{"hash", flip("hashes.1", 77*32+5), true, DamageError{File: "hashes.1", Offset: 77 * 32, Length: 32}},
		{"last hash", flip("hashes.1", 256*32), false, DamageError{File: "hashes.1", Offset: 256 * 32, Length: 32}},
		{"hash of level 2", flip("hashes.2", 31), true, DamageError{File: "hashes.2", Offset: 0, Length: 32}},
		{"file cut", func(dir string) error { return os.Truncate(filepath.Join(dir, "hashes.1"), 100*32) }, true,
			DamageError{File: "hashes.1", Offset: 100 * 32, Length: 32}},
		{"entry", flip("entries", 1000*32+9), true, DamageError{File: "entries", Offset: 768 * 32, Length: 256 * 32}},
		{"entry, never synced", flip("entries", 1000*32+9), false, DamageError{File: "entries", Offset: 768 * 32, Length: 256 * 32}},
		{"entry past the tiles", flip("entries", 65_930*32), true, DamageError{File: "entries", Offset: 65_920 * 32, Length: 64 * 32}},
		{"entry past the tiles, never synced", flip("entries", 65_999*32), false, DamageError{File: "entries", Offset: 65_984 * 32, Length: 16 * 32}},
		{"entries cut", func(dir string) error { return os.Truncate(filepath.Join(dir, "entries"), 100*32) }, true,
			DamageError{File: "entries", Offset: 100 * 32, Length: (checkChunk - 100) * 32}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			l := mustOpen(t, dir)
			mustAppend(t, l, digests(0, size))
			if c.synced {
				if err := l.Sync(); err != nil {
					t.Fatal(err)
				}
			}
			mustCheck(t, l)
			if err := c.damage(dir); err != nil {
				t.Fatal(err)
			}
			err := l.Check(t.Context(), nil)
			var got *DamageError
			if !errors.As(err, &got) || !errors.Is(err, ErrDamaged) {
				t.Fatalf("Check returned %v, want damage", err)
			}
			if got.File != c.want.File || got.Offset != c.want.Offset || got.Length != c.want.Length {
				t.Errorf("Check blames %s at %d, %d bytes; want %s at %d, %d bytes (%v)",
					got.File, got.Offset, got.Length, c.want.File, c.want.Offset, c.want.Length, err)
			}
			if !strings.Contains(err.Error(), c.want.File) {
				t.Errorf("the message does not name the file: %v", err)
			}
		})
	}
}

func TestOpenRefusesDamagedEntries(t *testing.T) {
	for _, at := range []int64{5, 299*32 + 31} { // in a full tile, and past it
		dir := t.TempDir()
		l := mustOpen(t, dir)
		mustAppend(t, l, digests(0, 300))
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		// Without hashes.1, nothing but the mark knows what entries was.
		if err := errors.Join(flip("entries", at)(dir), os.Remove(filepath.Join(dir, "hashes.1"))); err != nil {
			t.Fatal(err)
		}
		var damage *DamageError
		if _, err := Open(dir); !errors.As(err, &damage) || damage.File != "entries" {
			t.Fatalf("byte %d flipped: Open returned %v, want damage in entries", at, err)
		}
		if err := flip("entries", at)(dir); err != nil {
			t.Fatal(err)
		}
		mustCheck(t, mustOpen(t, dir)) // the refused Open left no lock and no harm
	}
}

func TestCheckProgressAndStop(t *testing.T) {
	l := mustOpen(t, t.TempDir())
	const size = 2*checkChunk + 10
	mustAppend(t, l, digests(0, size))
	var seen []uint64
	if err := l.Check(t.Context(), func(done, total uint64) {
		if total != size {
			t.Errorf("total %d, want %d", total, size)
		}
		seen = append(seen, done)
	}); err != nil {
		t.Fatal(err)
	}
	if len(seen) != 3 || seen[0] != checkChunk || seen[2] != size {
		t.Errorf("progress %v", seen)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err := l.Check(ctx, func(uint64, uint64) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled Check returned %v", err)
	}
	err = l.Check(t.Context(), func(done, _ uint64) {
		if done == checkChunk {
			if err := l.Truncate(5); err != nil {
				t.Error(err)
			}
		}
	})
	if !errors.Is(err, ErrTruncated) {
		t.Errorf("Check of a log that shrank returned %v", err)
	}
}
