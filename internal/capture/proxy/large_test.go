package proxy

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
)

// 400 MB through TLS and back, twice: with a length and chunked. The heap stays
// where it was and what is allocated along the way does not follow the size.
func TestLargeBodiesAreFlat(t *testing.T) {
	size := int64(400 << 20)
	if testing.Short() {
		size = 40 << 20
	}
	root := newTestCA(t)
	for _, chunked := range []bool{false, true} {
		t.Run(fmt.Sprint("chunked ", chunked), func(t *testing.T) {
			block := make([]byte, 64<<10)
			for i := range block {
				block[i] = byte(i * 7)
			}
			want := sha256.New()
			for sent := int64(0); sent < size; sent += int64(len(block)) {
				want.Write(block)
			}
			to := origin(t, root.server("site.test", time.Now().Add(time.Hour)), func(c net.Conn, r *bufio.Reader) {
				if _, err := readHead(r, 1<<20); err != nil {
					return
				}
				w := bufio.NewWriterSize(c, 128<<10)
				if chunked {
					io.WriteString(w, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
				} else {
					fmt.Fprintf(w, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", size)
				}
				for sent := int64(0); sent < size; sent += int64(len(block)) {
					if chunked {
						fmt.Fprintf(w, "%x\r\n", len(block))
					}
					w.Write(block)
					if chunked {
						io.WriteString(w, "\r\n")
					}
				}
				if chunked {
					io.WriteString(w, "0\r\n\r\n")
				}
				w.Flush()
			})
			m := newMemory()
			m.digests = true
			w := newWorld(t, Config{Recorder: m, Exceptions: exception("site.test", 443, to), Roots: root.pool(), RootsName: "test"})
			b, _ := w.tunnel("site.test:443")
			inner, err := b.secure(w, "site.test")
			if err != nil {
				t.Fatal(err)
			}
			var before, peak, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			began := time.Now()
			inner.say("GET /large HTTP/1.1\r\nHost: site.test\r\n\r\n")
			inner.head()
			buf := make([]byte, 64<<10)
			var read, marked int64
			limit := size
			if chunked {
				limit += size/int64(len(block))*int64(len("10000\r\n\r\n")) + int64(len("0\r\n\r\n"))
			}
			for read < limit {
				n, err := inner.r.Read(buf[:min(int64(len(buf)), limit-read)])
				read += int64(n)
				if err != nil {
					t.Fatalf("after %d octets: %v", read, err)
				}
				if read-marked >= size/20 {
					marked = read
					var now runtime.MemStats
					runtime.ReadMemStats(&now)
					if now.HeapAlloc > peak.HeapAlloc {
						peak = now
					}
				}
			}
			took := time.Since(began)
			inner.Close()
			e := ended(m.wait(t, ends(1)))[0]
			runtime.ReadMemStats(&after)
			if e.Truncated != "" || e.ResponseBody.Size != size || e.ResponseBody.SHA256 != evidence.Digest(want.Sum(nil)) {
				t.Errorf("recorded %d octets", e.ResponseBody.Size)
			}
			extra := int64(peak.HeapAlloc) - int64(before.HeapAlloc)
			allocated := after.TotalAlloc - before.TotalAlloc
			t.Logf("%d octets in %s (%.0f MB/s), heap at most %d KiB more, %d KiB allocated in all", size, took.Round(time.Millisecond), float64(size)/1e6/took.Seconds(), extra>>10, allocated>>10)
			if extra > 32<<20 {
				t.Errorf("the heap grew by %d octets", extra)
			}
			// A body that was held anywhere would cost its size at the least; the race
			// detector's pools cost a third of it.
			if allocated > uint64(size)/2 {
				t.Errorf("%d octets were allocated for %d carried", allocated, size)
			}
		})
	}
}
