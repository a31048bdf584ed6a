package warc_test

import (
	"archive/zip"
	"crypto/sha256"
	"io"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/evidence/recording"
	"github.com/zhenglian/zhenglian/internal/capture/proxy"
	"github.com/zhenglian/zhenglian/internal/capture/warc"
	"github.com/zhenglian/zhenglian/internal/testrecording"
)

// body is size bytes that nobody holds.
func body(size int64) io.Reader { return io.LimitReader(&noise{}, size) }

type noise struct{ n byte }

func (z *noise) Read(p []byte) (int, error) {
	for i := range p {
		z.n = z.n*5 + 1
		p[i] = z.n
	}
	return len(p), nil
}

// peak runs f and returns by how much the heap had grown at the worst moment that
// was seen.
func peak(f func()) uint64 {
	runtime.GC()
	var before, now runtime.MemStats
	runtime.ReadMemStats(&before)
	done, most := make(chan struct{}), make(chan uint64)
	go func() {
		top := before.HeapAlloc
		for {
			select {
			case <-done:
				most <- top
				return
			case <-time.After(20 * time.Millisecond):
				runtime.ReadMemStats(&now)
				top = max(top, now.HeapAlloc)
			}
		}
	}()
	f()
	close(done)
	return <-most - before.HeapAlloc
}

// A large body is written and read without being held.
func TestLargeBody(t *testing.T) {
	size := int64(128 << 20)
	if testing.Short() {
		size = 16 << 20
	}
	h := sha256.New()
	_, err := io.Copy(h, body(size))
	must(t, err)
	sum := evidence.Digest(h.Sum(nil))
	file, err := os.Create(t.TempDir() + "/large.wacz")
	must(t, err)
	defer func() { must(t, file.Close()) }()
	c := testrecording.Example()
	grown := peak(func() {
		w, err := warc.New(file, warc.Config{Session: c.Session, Created: c.Start, Blobs: func(evidence.Digest) (io.ReadCloser, error) { return io.NopCloser(body(size)), nil }})
		must(t, err)
		must(t, w.Exchange(&proxy.Exchange{ID: 1, Stage: proxy.StageEnd, Kind: proxy.KindHTTP, Method: "GET", URL: "http://a.example/video", Requested: c.Start, Responded: c.Start, Ended: c.Start,
			Status: 200, Media: "video/mp4", RequestHead: []byte("GET /video HTTP/1.1\r\n\r\n"), ResponseHead: []byte("HTTP/1.1 200 OK\r\n\r\n"),
			ResponseBody: &proxy.Blob{Role: proxy.RoleResponseBody, SHA256: sum, Size: size}}))
		must(t, w.Close())
	})
	info, err := file.Stat()
	must(t, err)
	if info.Size() < size || grown > 24<<20 {
		t.Errorf("writing %d bytes took %d bytes of heap", info.Size(), grown)
	}
	t.Logf("writing %d MiB: %d KiB of heap", size>>20, grown>>10)
	grown = peak(func() {
		z, err := zip.NewReader(file, info.Size())
		must(t, err)
		in, err := z.Open("archive/data.warc.gz")
		must(t, err)
		r := recording.NewWARCReader(in)
		for {
			rec, err := r.Next()
			if err == io.EOF {
				break
			}
			must(t, err)
			if rec.Type == "response" && rec.Payload.SHA256 != sum {
				t.Error("another payload")
			}
		}
	})
	if grown > 24<<20 {
		t.Errorf("reading took %d bytes of heap", grown)
	}
	t.Logf("reading: %d KiB of heap", grown>>10)
}
