package verify_test

import (
	"bytes"
	"context"
	"io"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/testalliance"
	"github.com/zhenglian/zhenglian/verify"
)

func reader(data []byte) io.ReaderAt { return bytes.NewReader(data) }

// flipped shows a package with one bit other than it is, without a copy.
type flipped struct {
	data []byte
	at   int64
	bit  byte
}

func (f flipped) ReadAt(p []byte, off int64) (int, error) {
	n, err := bytes.NewReader(f.data).ReadAt(p, off)
	if f.at >= off && f.at < off+int64(n) {
		p[f.at-off] ^= f.bit
	}
	return n, err
}

// TestEveryByte flips a bit in every byte of a package in turn. Each must make
// the whole "does not match", and the report must name the file that the byte
// lies in, or the offset where the container breaks its form.
func TestEveryByte(t *testing.T) {
	a, err := testalliance.New("flip", 1)
	must(t, err)
	li, err := a.Enrol("m:li", 2, false)
	must(t, err)
	trail, err := a.Open(li, testalliance.Step{Name: "x", Objects: map[string][]byte{"a.txt": []byte("a")}})
	must(t, err)
	c, err := a.Content(trail)
	must(t, err)
	pad := newStampPad(t)
	must(t, a.Policy.AddTimestampAuthority(pad.Entry("notary", false)))
	size := c.Info.TreeSize
	c.Checkpoints[size], err = a.Cosigned(size)
	must(t, err)
	c.Timestamps[size] = pad.token(t, a.BodyAt(size), testalliance.BlockTime(size-1)+1, time.Second, realPolicy())
	c.Keys, c.MemberKeys = nil, nil // compared in TestRules; every byte costs a verification
	pkg := encode(t, c)
	wants(t, check(t, pkg, verify.Options{Policy: a.Policy}), verify.Matches)
	opened, err := evidence.OpenPackage(reader(pkg), int64(len(pkg)))
	must(t, err)
	place := places(t, opened, pkg)

	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		next int
		bad  int
	)
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for {
				mu.Lock()
				i := next
				next += everyByteStep
				mu.Unlock()
				if i >= len(pkg) {
					return
				}
				r := flipped{pkg, int64(i), 1 << (i % 8)}
				rep, err := verify.Check(context.Background(), r, int64(len(pkg)), verify.Options{Policy: a.Policy})
				mu.Lock()
				switch {
				case err != nil:
					t.Errorf("byte %d (%s): %v", i, place[i], err)
					bad++
				case rep.Verdict != verify.DoesNotMatch:
					t.Errorf("byte %d (%s): %s", i, place[i], rep.Verdict)
					bad++
				case place[i] != "" && !rep.Named(place[i]):
					t.Errorf("byte %d lies in %s, which no line names: %+v", i, place[i], rep.Checks)
					bad++
				case place[i] == "" && find(rep, "container-damaged-at") == nil && find(rep, "container-damaged") == nil && !namesAny(rep):
					t.Errorf("byte %d of the container's own structure is not named: %+v", i, rep.Checks)
					bad++
				}
				if bad > 10 {
					next = len(pkg)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	t.Logf("%d bytes, one flipped in every %d: each does not match and is named", len(pkg), everyByteStep)
}

// namesAny: a checksum in the directory belongs to a file and is named by it.
func namesAny(rep *verify.Report) bool {
	for _, c := range rep.Checks {
		if c.Verdict == verify.DoesNotMatch && c.Subject.Path != "" {
			return true
		}
	}
	return false
}

// places says for each byte in which file's content it lies; "" for the
// container's own structure.
func places(t *testing.T, p *evidence.Package, pkg []byte) []string {
	t.Helper()
	out := make([]string, len(pkg))
	c, err := evidence.OpenContainer(reader(pkg), int64(len(pkg)))
	must(t, err)
	for _, e := range c.Entries() {
		for i := e.Offset; i < e.Offset+e.Size; i++ {
			out[i] = e.Name
		}
	}
	return out
}
