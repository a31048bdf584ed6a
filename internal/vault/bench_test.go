package vault_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/zhenglian/zhenglian/internal/vault"
)

// zeros is content without memory.
type zeros struct{ left int64 }

func (z *zeros) Read(p []byte) (int, error) {
	if z.left == 0 {
		return 0, io.EOF
	}
	n := min(int64(len(p)), z.left)
	clear(p[:n])
	z.left -= n
	return int(n), nil
}

// nowhere takes data blobs and forgets them: the benchmark measures the
// vault's own work, not the disk.
type nowhere struct{ vault.Memory }

func (n *nowhere) Put(ctx context.Context, name string, write func(io.Writer) error) error {
	if strings.HasPrefix(name, "data/") {
		return write(io.Discard)
	}
	return n.Memory.Put(ctx, name, write)
}

func BenchmarkPut(b *testing.B) {
	const size = 64 * mib
	for _, where := range []string{"nowhere", "directory"} {
		b.Run(where, func(b *testing.B) {
			owner := newKey(b)
			b.SetBytes(size)
			b.ReportAllocs()
			for b.Loop() {
				var s vault.Store = new(nowhere)
				path := ""
				if where == "directory" {
					path = b.TempDir()
					s = openDir(b, path)
				}
				if _, err := vault.New(s).Put(b.Context(), &zeros{size}, []age.Recipient{owner.Recipient()}, nil); err != nil {
					b.Fatal(err)
				}
				if path != "" {
					os.RemoveAll(path)
				}
			}
		})
	}
}

func BenchmarkSmallPut(b *testing.B) {
	owner := newKey(b)
	v := vault.New(openDir(b, b.TempDir()))
	for i := 0; b.Loop(); i++ {
		if _, err := v.Put(b.Context(), strings.NewReader(fmt.Sprint("record ", i)), []age.Recipient{owner.Recipient()}, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRead(b *testing.B) {
	const size = 64 * mib
	owner := newKey(b)
	v := vault.New(openDir(b, b.TempDir()))
	o, err := v.Put(b.Context(), &zeros{size}, []age.Recipient{owner.Recipient()}, nil)
	if err != nil {
		b.Fatal(err)
	}
	run := func(name string, f func() error) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(size)
			for b.Loop() {
				if err := f(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	run("OpenObject and copy", func() error {
		c, err := v.OpenObject(b.Context(), o, owner)
		if err == nil {
			_, err = io.Copy(io.Discard, c)
		}
		return err
	})
	run("Open", func() error { _, err := v.Open(b.Context(), o.SHA256, owner); return err })
	run("Verify", func() error { _, err := v.Verify(b.Context(), o.SHA256); return err })
}
