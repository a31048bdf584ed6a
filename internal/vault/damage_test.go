package vault_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"

	"filippo.io/age"

	"github.com/zhenglian/zhenglian/internal/vault"
)

func replace(t *testing.T, s vault.Store, name string, b []byte) {
	t.Helper()
	if err := s.Delete(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	if err := s.Put(t.Context(), name, func(w io.Writer) error { _, err := w.Write(b); return err }); err != nil {
		t.Fatal(err)
	}
}

func wantDamage(t *testing.T, err error, part string, chunk int64) {
	t.Helper()
	d, ok := errors.AsType[*vault.DamagedError](err)
	if !ok || d.Part != part || d.Chunk != chunk {
		t.Errorf("got %v, want damage of %s %d", err, part, chunk)
	}
}

func TestFlippedByte(t *testing.T) {
	s := new(vault.Memory)
	v := vault.New(s)
	owner, friend := newKey(t), newKey(t)
	o := put(t, v, pattern(2*mib+10), owner)
	if err := v.AddRecipient(t.Context(), o.SHA256, owner, friend.Recipient()); err != nil {
		t.Fatal(err)
	}
	whole := blobs(t, s)
	var dataBlob, grantBlob string
	for n := range whole {
		if strings.HasPrefix(n, "data/") {
			dataBlob = n
		} else if strings.HasPrefix(n, "grants/") {
			grantBlob = n
		}
	}
	headBlob := "objects/" + o.SHA256.String()
	const sealed = mib + 16
	headLen, dataLen := len(whole[headBlob]), len(whole[dataBlob])
	cases := []struct {
		what, blob string
		at         int
		key        age.Identity
		part       string
		chunk      int64
		keyless    bool // Verify finds it too, in the same place
	}{
		{"magic", headBlob, 0, owner, vault.PartHead, -1, true},
		{"data name", headBlob, 8, owner, vault.PartHead, -1, false},
		{"size", headBlob, 31, owner, vault.PartHead, -1, false},
		{"sha256", headBlob, 32, owner, vault.PartHead, -1, true},
		{"sm3", headBlob, 64, owner, vault.PartHead, -1, false},
		{"plaintext root", headBlob, 96, owner, vault.PartHead, -1, false},
		{"ciphertext root", headBlob, 128, owner, vault.PartHead, -1, false},
		{"key count", headBlob, 161, owner, vault.PartHead, -1, true},
		{"recipient", headBlob, 162, owner, vault.PartHead, -1, false},
		{"wrapped key's header", headBlob, 162 + 34 + 30, owner, vault.PartKey, -1, false},
		{"wrapped key's body", headBlob, headLen - 40, owner, vault.PartKey, -1, false},
		{"mac", headBlob, headLen - 1, owner, vault.PartHead, -1, false},
		{"grant magic", grantBlob, 0, friend, vault.PartGrant, -1, false},
		{"grant name", grantBlob, 8, friend, vault.PartGrant, -1, false},
		{"grant recipient", grantBlob, 24, friend, vault.PartGrant, -1, false},
		{"grant key", grantBlob, len(whole[grantBlob]) - 40, friend, vault.PartGrant, -1, false},
		{"grant mac", grantBlob, len(whole[grantBlob]) - 1, friend, vault.PartGrant, -1, false},
		{"chunk 0 first", dataBlob, 0, owner, vault.PartChunk, 0, true},
		{"chunk 0 tag", dataBlob, sealed - 1, owner, vault.PartChunk, 0, true},
		{"chunk 1 first", dataBlob, sealed, friend, vault.PartChunk, 1, true},
		{"chunk 2 last", dataBlob, 2*sealed + 25, owner, vault.PartChunk, 2, true},
		{"plaintext leaf", dataBlob, 2*sealed + 26, owner, vault.PartLeaves, -1, true},
		{"ciphertext leaf", dataBlob, dataLen - 1, owner, vault.PartLeaves, -1, true},
	}
	for _, c := range cases {
		t.Run(c.what, func(t *testing.T) {
			b := bytes.Clone(whole[c.blob])
			b[c.at] ^= 1
			replace(t, s, c.blob, b)
			defer replace(t, s, c.blob, whole[c.blob])
			_, err := v.Open(t.Context(), o.SHA256, c.key)
			wantDamage(t, err, c.part, c.chunk)
			if c.keyless {
				_, err := v.Verify(t.Context(), o.SHA256)
				wantDamage(t, err, c.part, c.chunk)
			}
			if c.part == vault.PartChunk {
				// Only that chunk is lost; the others still read.
				r, err := v.OpenObject(t.Context(), o, c.key)
				if err != nil {
					t.Fatal(err)
				}
				for i := range o.Chunks {
					_, err := r.ReadAt(make([]byte, 1), i*mib)
					if i == c.chunk {
						wantDamage(t, err, vault.PartChunk, i)
					} else if err != nil {
						t.Errorf("chunk %d: %v", i, err)
					}
				}
				_, err = v.Put(t.Context(), bytes.NewReader(pattern(2*mib+10)), []age.Recipient{owner.Recipient()}, nil)
				wantDamage(t, err, vault.PartChunk, c.chunk)
			}
		})
	}
	t.Run("damaged grant is made anew", func(t *testing.T) {
		b := bytes.Clone(whole[grantBlob])
		b[len(b)-1] ^= 1
		replace(t, s, grantBlob, b)
		if err := v.AddRecipient(t.Context(), o.SHA256, owner, friend.Recipient()); err != nil {
			t.Fatal(err)
		}
		if _, err := v.Open(t.Context(), o.SHA256, friend); err != nil {
			t.Error(err)
		}
	})
	for _, n := range []int{0, sealed, dataLen - 1} {
		t.Run(fmt.Sprintf("data torn at %d", n), func(t *testing.T) {
			replace(t, s, dataBlob, whole[dataBlob][:n])
			_, err := v.Open(t.Context(), o.SHA256, owner)
			wantDamage(t, err, vault.PartData, -1)
			_, err = v.Verify(t.Context(), o.SHA256)
			wantDamage(t, err, vault.PartData, -1)
		})
	}
	t.Run("head torn", func(t *testing.T) {
		for n := range headLen {
			replace(t, s, headBlob, whole[headBlob][:n])
			_, err := v.Stat(t.Context(), o.SHA256)
			wantDamage(t, err, vault.PartHead, -1)
		}
		if _, err := v.Sweep(t.Context()); err == nil {
			t.Error("Sweep ran with a head it could not read")
		}
		if err := v.Remove(t.Context(), o.SHA256); err != nil {
			t.Fatal(err)
		}
		if n, err := v.Sweep(t.Context()); n != 2 || err != nil {
			t.Errorf("Sweep = %d, %v, want data and grant", n, err)
		}
		again := put(t, v, pattern(2*mib+10), owner)
		if again.SHA256 != o.SHA256 || again.CiphertextRoot == o.CiphertextRoot {
			t.Error("object put again after removal is not a fresh encryption of the same content")
		}
	})
}

// failing is a disk that fills up: budget bytes can be written in all.
type failing struct {
	vault.Store
	budget int
}

type failingWriter struct {
	io.Writer
	f *failing
}

func (w failingWriter) Write(p []byte) (int, error) {
	if len(p) > w.f.budget {
		n, _ := w.Writer.Write(p[:w.f.budget])
		w.f.budget = 0
		return n, syscall.ENOSPC
	}
	w.f.budget -= len(p)
	return w.Writer.Write(p)
}

func (f *failing) Put(ctx context.Context, name string, write func(io.Writer) error) error {
	return f.Store.Put(ctx, name, func(w io.Writer) error { return write(failingWriter{w, f}) })
}

func TestDiskFull(t *testing.T) {
	owner := newKey(t)
	plain := pattern(3 * mib)
	const data = 3*(mib+16) + 3*64
	for _, budget := range []int{0, 1, mib, mib + 16, 2*mib + 500, data - 1, data, data + 100} {
		t.Run(fmt.Sprint(budget), func(t *testing.T) {
			dir := openDir(t, t.TempDir())
			v := vault.New(&failing{dir, budget})
			_, err := v.Put(t.Context(), bytes.NewReader(plain), []age.Recipient{owner.Recipient()}, nil)
			if !errors.Is(err, syscall.ENOSPC) {
				t.Errorf("Put: %v, want ENOSPC", err)
			}
			if b := blobs(t, dir); len(b) != 0 {
				t.Errorf("%d blobs left, want none", len(b))
			}
			if o := put(t, vault.New(dir), plain, owner); o.Size != 3*mib {
				t.Errorf("Put with room again: %+v", o)
			}
		})
	}
}

func TestTornInput(t *testing.T) {
	owner := newKey(t)
	for _, n := range []int{0, 10, mib, mib + 10, 9 * mib} {
		// A cut-off upload ends so; taking it for the end deposits half a file.
		r := io.MultiReader(bytes.NewReader(pattern(n)), iotest.ErrReader(io.ErrUnexpectedEOF))
		dir := openDir(t, t.TempDir())
		_, err := vault.New(dir).Put(t.Context(), r, []age.Recipient{owner.Recipient()}, nil)
		if !errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(err.Error(), fmt.Sprintf("chunk %d", n/mib)) {
			t.Errorf("after %d bytes: %v, want ErrUnexpectedEOF in chunk %d", n, err, n/mib)
		}
		if b := blobs(t, dir); len(b) != 0 {
			t.Errorf("after %d bytes: %d blobs left", n, len(b))
		}
	}
}

// What a Put takes must not grow with the object, but for 64 bytes a chunk.
func TestMemoryIsConstant(t *testing.T) {
	owner := newKey(t)
	taken := func(size int64) uint64 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, err := vault.New(new(nowhere)).Put(t.Context(), &zeros{size}, []age.Recipient{owner.Recipient()}, nil); err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}
	small, large := taken(8*mib), taken(40*mib)
	if large > small+mib {
		t.Errorf("8 MiB took %d bytes of memory in all, 40 MiB took %d", small, large)
	}
}

func TestCancelledPut(t *testing.T) {
	owner := newKey(t)
	dir := openDir(t, t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	_, err := vault.New(dir).Put(ctx, bytes.NewReader(pattern(12*mib)), []age.Recipient{owner.Recipient()}, func(n int64) {
		if n >= 2*mib {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Put: %v, want context.Canceled", err)
	}
	if b := blobs(t, dir); len(b) != 0 {
		t.Errorf("%d blobs left", len(b))
	}
}

// What a power cut leaves after each step of a Put, and what Sweep makes of it.
func TestPowerCut(t *testing.T) {
	owner := newKey(t)
	path := t.TempDir()
	dir := openDir(t, path)
	v := vault.New(dir)
	kept := put(t, v, []byte("kept"), owner)
	lost := put(t, v, []byte("its head was not written"), owner)
	if err := dir.Delete(t.Context(), "objects/"+lost.SHA256.String()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(path, "tmp", "TORN"), []byte("half a blob"), 0o600); err != nil {
		t.Fatal(err)
	}
	if list, err := v.List(t.Context()); err != nil || len(list) != 1 || list[0] != kept.SHA256 {
		t.Errorf("List = %v, %v, want the kept object alone", list, err)
	}
	if _, err := v.Open(t.Context(), lost.SHA256, owner); !errors.Is(err, vault.ErrMissing) {
		t.Errorf("Open of the lost: %v, want ErrMissing", err)
	}
	if n, err := v.Sweep(t.Context()); n != 1 || err != nil {
		t.Errorf("Sweep = %d, %v, want 1", n, err)
	}
	if b := blobs(t, dir); len(b) != 2 {
		t.Errorf("%d blobs left, want 2", len(b))
	}
	if _, err := v.Open(t.Context(), kept.SHA256, owner); err != nil {
		t.Errorf("kept object: %v", err)
	}
	put(t, v, []byte("its head was not written"), owner)
}
