package vault_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"filippo.io/age"
	"github.com/emmansun/gmsm/sm3"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/vault"
	"github.com/zhenglian/zhenglian/internal/vault/storetest"
)

const mib = vault.ChunkSize

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestStores(t *testing.T) {
	t.Run("memory", func(t *testing.T) {
		storetest.Run(t, func(*testing.T) vault.Store { return new(vault.Memory) })
	})
	t.Run("directory", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) vault.Store { return openDir(t, t.TempDir()) })
	})
}

func openDir(t testing.TB, path string) *vault.Dir {
	t.Helper()
	d, err := vault.OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func newKey(t testing.TB) *age.X25519Identity {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// pattern returns n bytes that repeat nowhere.
func pattern(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{7}).Read(b)
	return b
}

func put(t testing.TB, v *vault.Vault, plain []byte, id *age.X25519Identity) vault.Object {
	t.Helper()
	o, err := v.Put(t.Context(), bytes.NewReader(plain), []age.Recipient{id.Recipient()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestRoundTrip(t *testing.T) {
	owner := newKey(t)
	v := vault.New(openDir(t, t.TempDir()))
	for _, n := range []int{0, 1, 1000, 64 << 10, 64<<10 + 1, mib - 1, mib, mib + 1, 2 * mib, 5*mib + 3} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			plain := pattern(n)
			var heard int64
			o, err := v.Put(t.Context(), iotest.HalfReader(bytes.NewReader(plain)), []age.Recipient{owner.Recipient()}, func(n int64) { heard = n })
			if err != nil {
				t.Fatal(err)
			}
			if heard != int64(n) || o.Size != int64(n) || o.Chunks != int64((n+mib-1)/mib) {
				t.Errorf("progress %d, object %+v, want %d bytes", heard, o, n)
			}
			if o.SHA256 != sha256.Sum256(plain) || o.SM3 != sm3.Sum(plain) {
				t.Error("digests are not the plaintext's")
			}
			for name, open := range map[string]func() (*vault.Content, error){
				"Open":       func() (*vault.Content, error) { return v.Open(t.Context(), o.SHA256, owner) },
				"OpenObject": func() (*vault.Content, error) { return v.OpenObject(t.Context(), o, newKey(t), owner) },
			} {
				c, err := open()
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				got, err := io.ReadAll(c)
				if err != nil || !bytes.Equal(got, plain) || c.Size() != int64(n) || c.Object() != o {
					t.Errorf("%s: %d bytes, %v, want the %d put", name, len(got), err, n)
				}
			}
			if got, err := v.Verify(t.Context(), o.SHA256); err != nil || got != o {
				t.Errorf("Verify = %+v, %v", got, err)
			}
			if got, err := v.Stat(t.Context(), o.SHA256); err != nil || got != o {
				t.Errorf("Stat = %+v, %v", got, err)
			}
		})
	}
	list, err := v.List(t.Context())
	if err != nil || len(list) != 10 {
		t.Errorf("List: %d objects, %v, want 10", len(list), err)
	}
}

// blobs returns the store's blobs other than temporary files.
func blobs(t *testing.T, s vault.Store) map[string][]byte {
	t.Helper()
	out := make(map[string][]byte)
	for _, f := range []string{"data/", "objects/", "grants/", "tmp/"} {
		names, err := s.List(context.Background(), f)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range names {
			size, err := s.Size(context.Background(), n)
			if err != nil {
				t.Fatal(err)
			}
			r, err := s.Range(context.Background(), n, 0, size)
			if err != nil {
				t.Fatal(err)
			}
			out[n], err = io.ReadAll(r)
			r.Close()
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	return out
}

func TestPutIsIdempotent(t *testing.T) {
	s := openDir(t, t.TempDir())
	v := vault.New(s)
	owner, friend, other := newKey(t), newKey(t), newKey(t)
	plain := pattern(mib + 5)
	o := put(t, v, plain, owner)
	before := blobs(t, s)
	if again := put(t, v, plain, owner); again != o {
		t.Errorf("second Put = %+v, want %+v", again, o)
	}
	if after := blobs(t, s); len(after) != 2 || len(before) != 2 {
		t.Errorf("%d blobs, then %d, want 2", len(before), len(after))
	} else {
		for n, b := range before {
			if !bytes.Equal(after[n], b) {
				t.Errorf("blob %s was rewritten", n)
			}
		}
	}
	if err := v.AddRecipient(t.Context(), o.SHA256, owner, friend.Recipient()); err != nil {
		t.Fatal(err)
	}
	both := []age.Recipient{friend.Recipient(), owner.Recipient()}
	if again, err := v.Put(t.Context(), bytes.NewReader(plain), both, nil); err != nil || again != o {
		t.Errorf("Put for owner and grantee = %+v, %v, want the held object", again, err)
	}
	if _, err := v.Put(t.Context(), bytes.NewReader(plain), []age.Recipient{other.Recipient()}, nil); !errors.Is(err, vault.ErrOtherRecipients) {
		t.Errorf("Put for another: %v, want ErrOtherRecipients", err)
	}
	if n := len(blobs(t, s)); n != 3 {
		t.Errorf("%d blobs, want 3: head, data, grant", n)
	}
}

func TestConcurrentPutsOfOneContent(t *testing.T) {
	s := openDir(t, t.TempDir())
	v := vault.New(s)
	owner := newKey(t)
	plain := pattern(2*mib + 9)
	got := make([]vault.Object, 6)
	var wg sync.WaitGroup
	for i := range got {
		wg.Go(func() {
			o, err := v.Put(t.Context(), bytes.NewReader(plain), []age.Recipient{owner.Recipient()}, nil)
			if err != nil {
				t.Error(err)
			}
			got[i] = o
		})
	}
	wg.Wait()
	for _, o := range got {
		if o != got[0] {
			t.Errorf("two Puts returned %+v and %+v", o, got[0])
		}
	}
	if n := len(blobs(t, s)); n != 2 {
		t.Errorf("%d blobs, want 2", n)
	}
}

func TestGrant(t *testing.T) {
	s := new(vault.Memory)
	v := vault.New(s)
	owner, friend := newKey(t), newKey(t)
	pq, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	o := put(t, v, pattern(100), owner)
	if _, err := v.Open(t.Context(), o.SHA256, friend); !errors.Is(err, vault.ErrNotForKey) {
		t.Errorf("Open before the grant: %v, want ErrNotForKey", err)
	}
	if _, err := v.Open(t.Context(), o.SHA256); !errors.Is(err, vault.ErrNotForKey) {
		t.Errorf("Open without identity: %v, want ErrNotForKey", err)
	}
	if err := v.AddRecipient(t.Context(), o.SHA256, friend, friend.Recipient()); !errors.Is(err, vault.ErrNotForKey) {
		t.Errorf("granting with a foreign key: %v, want ErrNotForKey", err)
	}
	// The grantee grants on, to a post-quantum key.
	for range 2 {
		if err := v.AddRecipient(t.Context(), o.SHA256, owner, friend.Recipient()); err != nil {
			t.Fatal(err)
		}
		if err := v.AddRecipient(t.Context(), o.SHA256, friend, pq.Recipient()); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range []age.Identity{owner, friend, pq} {
		if c, err := v.Open(t.Context(), o.SHA256, id); err != nil || c.Object() != o {
			t.Errorf("Open with %T: %v", id, err)
		}
	}
	if n := len(blobs(t, s)); n != 4 {
		t.Errorf("%d blobs, want 4", n)
	}
	var missing evidence.Digest
	if _, err := v.Open(t.Context(), missing, owner); !errors.Is(err, vault.ErrMissing) {
		t.Errorf("Open of nothing: %v, want ErrMissing", err)
	}
	pass, err := age.NewScryptRecipient("a passphrase")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Put(t.Context(), strings.NewReader("x"), []age.Recipient{pass}, nil); err == nil {
		t.Error("Put took a passphrase recipient")
	}
	if _, err := v.Put(t.Context(), strings.NewReader("x"), nil, nil); err == nil {
		t.Error("Put took no recipient")
	}
}

// A store that puts another object's wrapped key in place must not get that
// key wrapped to a grantee of this one.
func TestStoreExchangesBlobs(t *testing.T) {
	s := new(vault.Memory)
	v := vault.New(s)
	owner, friend := newKey(t), newKey(t)
	a, b := put(t, v, []byte("harmless"), owner), put(t, v, []byte("a secret"), owner)
	heads := blobs(t, s)
	ha, hb := heads["objects/"+a.SHA256.String()], heads["objects/"+b.SHA256.String()]
	const keys = 8 + 16 + 136 // same lengths, so the wrapped keys can be exchanged
	forged := append(bytes.Clone(ha[:keys]), hb[keys:]...)
	replace(t, s, "objects/"+a.SHA256.String(), forged)
	wantDamage(t, v.AddRecipient(t.Context(), a.SHA256, owner, friend.Recipient()), vault.PartHead, -1)
	if _, err := v.Open(t.Context(), b.SHA256, friend); !errors.Is(err, vault.ErrNotForKey) {
		t.Errorf("grantee of one object opens the other: %v", err)
	}

	// A whole head under another's name.
	replace(t, s, "objects/"+a.SHA256.String(), hb)
	_, err := v.Open(t.Context(), a.SHA256, owner)
	wantDamage(t, err, vault.PartHead, -1)
}

func TestReadRanges(t *testing.T) {
	owner := newKey(t)
	v := vault.New(new(vault.Memory))
	plain := pattern(5*mib + 77)
	o := put(t, v, plain, owner)
	c, err := v.OpenObject(t.Context(), o, owner)
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		off := rapid.IntRange(0, len(plain)).Draw(t, "offset")
		n := rapid.IntRange(0, 2*mib+5).Draw(t, "length")
		b := make([]byte, n)
		got, err := c.ReadAt(b, int64(off))
		want := plain[off:min(off+n, len(plain))]
		if !bytes.Equal(b[:got], want) || (got < n) != (err == io.EOF) || err != nil && err != io.EOF {
			t.Fatalf("ReadAt(%d, %d) = %d, %v", n, off, got, err)
		}
	})
}

func TestDisclose(t *testing.T) {
	owner := newKey(t)
	v := vault.New(new(vault.Memory))
	plain := pattern(6*mib + 100)
	o := put(t, v, plain, owner)
	rapid.Check(t, func(t *rapid.T) {
		off := rapid.Int64Range(0, o.Size-1).Draw(t, "offset")
		n := rapid.Int64Range(1, min(o.Size-off, 3*mib)).Draw(t, "length")
		d, err := v.Disclose(context.Background(), o.SHA256, off, n, owner)
		if err != nil {
			t.Fatal(err)
		}
		b, err := d.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		if d, err = vault.ParseDisclosure(b); err != nil {
			t.Fatal(err)
		}
		r, err := v.Sealed(context.Background(), o.SHA256, off, n)
		if err != nil {
			t.Fatal(err)
		}
		sealed, err := io.ReadAll(r)
		r.Close()
		if err != nil {
			t.Fatal(err)
		}
		c, err := d.Open(o, bytes.NewReader(sealed))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(c)
		if err != nil || !bytes.Equal(got, plain[off:off+n]) || c.Start() != off {
			t.Fatalf("disclosed %d bytes, %v, want [%d, %d)", len(got), err, off, off+n)
		}

		// One byte changed anywhere is told.
		at := rapid.IntRange(0, len(b)-1).Draw(t, "flip")
		b[at] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		d, err = vault.ParseDisclosure(b)
		if err != nil {
			return
		}
		c, err = d.Open(o, bytes.NewReader(sealed))
		if err != nil {
			return
		}
		// A shorter, longer or moved range within the same chunks is as true
		// a disclosure; nothing else may pass.
		got, err = io.ReadAll(c)
		if at < 80 || at >= 96 || err != nil || !bytes.Equal(got, plain[d.Offset:d.Offset+d.Length]) {
			t.Fatalf("byte %d changed and the disclosure opens, %v", at, err)
		}
	})
	first, err := v.Disclose(t.Context(), o.SHA256, mib, mib, owner)
	if err != nil {
		t.Fatal(err)
	}
	r, err := v.Sealed(t.Context(), o.SHA256, mib, mib)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := io.ReadAll(r)
	r.Close()
	if err != nil {
		t.Fatal(err)
	}
	sealed[mib/2] ^= 1
	_, err = first.Open(o, bytes.NewReader(sealed))
	wantDamage(t, err, vault.PartChunk, 1)
	_, err = first.Open(o, bytes.NewReader(sealed[:100]))
	wantDamage(t, err, vault.PartChunk, 1)
	foreign := o
	foreign.PlaintextRoot[0] ^= 1
	sealed[mib/2] ^= 1
	_, err = first.Open(foreign, bytes.NewReader(sealed))
	wantDamage(t, err, vault.PartDisclosure, -1)
	for _, c := range [][2]int64{{0, 0}, {-1, 5}, {o.Size, 1}, {0, o.Size + 1}, {5, 1<<63 - 1}} {
		if _, err := v.Disclose(t.Context(), o.SHA256, c[0], c[1], owner); err == nil {
			t.Errorf("Disclose(%d, %d) took a range that is not in the object", c[0], c[1])
		}
		if _, err := v.Sealed(t.Context(), o.SHA256, c[0], c[1]); err == nil {
			t.Errorf("Sealed(%d, %d) took a range that is not in the object", c[0], c[1])
		}
	}
}
