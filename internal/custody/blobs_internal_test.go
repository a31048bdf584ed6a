package custody

import (
	"context"
	"crypto/sha256"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/internal/store/storetest"
)

// nobody is an alliance that is never asked.
type nobody struct{ Alliance }

// TestSweep: an upload that nobody goes on with is dropped, a fresh one and a
// whole blob stay.
func TestSweep(t *testing.T) {
	ctx := context.Background()
	c, err := Open(Config{DB: storetest.NewDSN(storetest.SQLite).Open(t), Dir: t.TempDir(), Alliance: nobody{}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	const half, whole = "data/00000000000000000000000000000001", "data/00000000000000000000000000000002"
	for name, last := range map[string]bool{half: false, whole: true} {
		if _, err := c.PutPiece(ctx, "m:li", name, 0, []byte("x"), sha256.Sum256([]byte("x")), last); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := c.blobs.sweep(time.Now().Add(-time.Hour)); err != nil || n != 0 {
		t.Errorf("fresh: swept %d, %v", n, err)
	}
	if n, err := c.blobs.sweep(time.Now().Add(time.Hour)); err != nil || n != 1 {
		t.Errorf("stale: swept %d, %v", n, err)
	}
	if n, err := c.Pending(ctx, "m:li", half); err != nil || n != 0 {
		t.Errorf("the half one has %d bytes, %v", n, err)
	}
	if n, err := c.Size(ctx, "m:li", whole); err != nil || n != 1 {
		t.Errorf("the whole one has %d bytes, %v", n, err)
	}
}

// TestSameBlobTwice: two pages that upload one blob at once do not mix.
func TestSameBlobTwice(t *testing.T) {
	ctx := context.Background()
	c, err := Open(Config{DB: storetest.NewDSN(storetest.SQLite).Open(t), Dir: t.TempDir(), Alliance: nobody{}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	const name = "data/00000000000000000000000000000003"
	var done sync.WaitGroup
	results := make([]error, 8)
	for i := range results {
		done.Go(func() {
			piece := []byte{byte(i), byte(i)}
			_, results[i] = c.PutPiece(ctx, "m:li", name, 0, piece, sha256.Sum256(piece), true)
		})
	}
	done.Wait()
	first := 0
	for i, err := range results {
		switch {
		case err == nil:
			first++
		case !errors.Is(err, ErrExist):
			t.Errorf("page %d: %v", i, err)
		}
	}
	f, err := c.Open(ctx, "m:li", name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got := make([]byte, 3)
	if n, _ := f.Read(got); first != 1 || n != 2 || got[0] != got[1] {
		t.Errorf("%d were first, the blob is %v", first, got[:n])
	}
	if len(c.blobs.busy.names) != 0 {
		t.Errorf("%d locks stay", len(c.blobs.busy.names))
	}
}
