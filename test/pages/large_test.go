package pages

import (
	"bytes"
	"crypto/sha256"
	"hash"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/emmansun/gmsm/sm3"
	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/tour"
	"github.com/zhenglian/zhenglian/internal/web/webtest"
)

// sparse writes a file and leaves holes where there are only zeros.
type sparse struct{ *os.File }

func (s sparse) Write(b []byte) (int, error) {
	if len(b) < 4096 || len(bytes.Trim(b, "\x00")) > 0 {
		return s.File.Write(b)
	}
	if _, err := s.Seek(int64(len(b)), io.SeekCurrent); err != nil {
		return 0, err
	}
	return len(b), nil
}

// WriterTo and ReaderFrom of the file would go around Write.
func (s sparse) ReadFrom(r io.Reader) (int64, error) {
	return io.Copy(struct{ io.Writer }{s}, r)
}

// zeros reads as many zeros as it says.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// largePackage writes a package of the portal's alliance in which a file is as
// large as said: all zeros, which is not what was registered. Everything else in
// it holds, and the index agrees with the zeros, so that all of them must be read.
func largePackage(t *testing.T, p *webtest.Portal, size int64) string {
	t.Helper()
	data, err := os.ReadFile(p.Package(t, false))
	must(t, err)
	pkg, err := evidence.OpenPackage(bytes.NewReader(data), int64(len(data)))
	must(t, err)
	sha, national := sha256.New(), sm3.New()
	_, err = io.Copy(io.MultiWriter(sha, national), io.LimitReader(zeros{}, size))
	must(t, err)
	name := filepath.Join(t.TempDir(), "large.zip")
	file, err := os.Create(name)
	must(t, err)
	defer file.Close()
	w := evidence.NewContainerWriter(sparse{file})
	index := pkg.Index
	replaced := ""
	for i := range index.Files {
		f := &index.Files[i]
		if replaced == "" && strings.HasSuffix(f.Path, "page.html") {
			replaced = f.Path
			f.Size, f.SHA256, f.SM3 = size, sum(sha), sum(national)
			must(t, w.Add(f.Path, size, io.LimitReader(zeros{}, size)))
			continue
		}
		r, err := pkg.File(f.Path)
		must(t, err)
		content, err := io.ReadAll(r)
		must(t, err)
		must(t, w.AddBytes(f.Path, content))
	}
	if replaced == "" {
		t.Fatal("the package has no page.html")
	}
	for i := range index.Steps {
		for j := range index.Steps[i].Objects {
			if o := &index.Steps[i].Objects[j]; o.Path == replaced {
				o.SHA256 = sum(sha)
			}
		}
	}
	text, err := evidence.MarshalCanonical(&index)
	must(t, err)
	must(t, w.AddBytes("index.json", text))
	must(t, w.Close())
	end, err := file.Seek(0, io.SeekCurrent)
	must(t, err)
	must(t, file.Truncate(end))
	return name
}

func sum(h hash.Hash) evidence.Digest { return evidence.Digest(h.Sum(nil)) }

// A large file neither freezes the page nor fills the memory. 256 MiB of it in
// every run; ZHENGLIAN_LARGE=1 makes it 10 GiB, which takes long.
func TestVerificationOfALargeFile(t *testing.T) {
	size := int64(256 << 20)
	if os.Getenv("ZHENGLIAN_LARGE") != "" {
		size = 10 << 30
	}
	b := browser(t)
	p := webtest.Start(t)
	name := largePackage(t, p, size)
	v := verification(t, b, p, "en", tour.Screen{})
	ctx := t.Context()

	// The page counts its own frames; a frozen one has none.
	_, err := tour.Eval[bool](ctx, v, `(() => {
		globalThis.frames = { count: 0, longest: 0 };
		let last = performance.now();
		const tick = (now) => { frames.count++; frames.longest = Math.max(frames.longest, now - last); last = now; requestAnimationFrame(tick); };
		requestAnimationFrame(tick);
		return true;
	})()`)
	must(t, err)
	began := time.Now()
	must(t, v.Upload(ctx, "Choose a package", name))
	// While it is at work the page answers: it tells how far it is, and can be
	// told to stop.
	must(t, v.WaitText(ctx, "% checked"))
	must(t, v.Click(ctx, "button", "Cancel"))
	must(t, v.WaitText(ctx, "Cancelled. There is no finding."))

	must(t, v.Click(ctx, "button", "Verify again"))
	seen := map[string]bool{}
	v.Patience = time.Hour
	for {
		text, err := tour.Eval[string](ctx, v, `document.querySelector("#result:not([hidden])") ? "" : document.getElementById("progress-text").textContent`)
		must(t, err)
		if text == "" {
			break
		}
		seen[text] = true
		time.Sleep(20 * time.Millisecond)
	}
	took := time.Since(began)
	if shown := verdictShown(t, v); !strings.Contains(shown, "Does not match") || !strings.Contains(shown, "page.html") {
		t.Errorf("the finding is: %s", shown)
	}
	if len(seen) < 4 {
		t.Errorf("the page showed only these while it was at work: %v", seen)
	}
	frames, err := tour.Eval[struct{ Count, Longest float64 }](ctx, v, `({ Count: frames.count, Longest: frames.longest })`)
	must(t, err)
	memory, err := tour.Eval[string](ctx, v, `document.getElementById("verify").dataset.memory`)
	must(t, err)
	t.Logf("%d bytes in %s; %v frames, the longest pause %v ms; the module had %s bytes of memory", size, took, frames.Count, frames.Longest, memory)
	if frames.Count < 10 {
		t.Errorf("the page drew %v frames", frames.Count)
	}
	if bytes, err := tour.Eval[float64](ctx, v, `Number(document.getElementById("verify").dataset.memory)`); err != nil || bytes <= 0 || bytes > 128<<20 {
		t.Errorf("the module had %v bytes of memory for a file of %d (%v)", bytes, size, err)
	}
}
