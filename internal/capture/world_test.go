package capture_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/evidence/recording"
	"github.com/zhenglian/zhenglian/internal/capture"
	"github.com/zhenglian/zhenglian/internal/capture/capturetest"
	"github.com/zhenglian/zhenglian/internal/capture/clean"
	"github.com/zhenglian/zhenglian/internal/capture/proxy"
)

const host = "works.example"

func work() []byte { return bytes.Repeat([]byte("侵权作品的全部内容。"), 20_000) } // more than a small blob

// site is a site on loopback that the proxy reaches as works.example.
func site(t testing.TB) proxy.Config {
	t.Helper()
	mux := http.NewServeMux()
	page := func(path, text string) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			_, _ = io.WriteString(w, text)
		})
	}
	page("/{$}", `<!doctype html><title>作品</title><p id="q"></p><a href="/novel">打开</a> <a href="/gone">没有</a>`)
	page("/novel", `<!doctype html><title>侵权作品</title><a href="/novel.txt">下载</a>`)
	mux.HandleFunc("GET /novel.txt", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(work()) })
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	return proxy.Config{Resolver: proxy.DNS{}, Exceptions: []proxy.Exception{{Host: host, Port: 80, Dial: netip.MustParseAddrPort(u.Host)}}}
}

func config(t testing.TB, chain capture.Chain) capture.Config {
	return capture.Config{Dir: filepath.Join(t.TempDir(), "session"), Session: evidence.SumSHA256([]byte(t.Name())), Trail: evidence.SumSHA256([]byte("trail")), Recorder: evidence.SumSHA256([]byte("recorder")),
		Software: "zhenglian/test", Start: "http://" + host + "/", Chain: chain, Every: 50 * time.Millisecond, Deposit: time.Second}
}

func isClean(context.Context) (*clean.Report, error) {
	return &clean.Report{V: 1, Verdict: clean.Clean, Outputs: []clean.Output{{Check: "hosts", Command: "cat /etc/hosts", Media: "text/plain", Data: []byte("127.0.0.1 localhost\n")}}}, nil
}

func newRun(t testing.TB, chain capture.Chain, actions ...capture.Action) capture.Run {
	return capture.Run{Config: config(t, chain), Actions: actions, Inspect: isClean, Proxy: site(t),
		Room: func(context.Context) (capture.Room, error) { return new(capturetest.Room), nil }}
}

func story() []capture.Action {
	return []capture.Action{{Do: "goto", URL: "http://" + host + "/"}, {Do: "type", Selector: "#q", Text: "侵权作品"}, {Do: "click", Text: "打开"}, {Do: "scroll", Pixels: 300}, {Do: "download", Text: "下载"}, {Do: "screenshot", Name: "最后"}}
}

// judged is what the chain and the files say of a sealed session.
type judged struct {
	*testing.T
	events  []*recording.Logged
	last    capturetest.Deposited
	batches []*recording.Batch
	summary *recording.Summary
}

func (j *judged) count(kind string) (n int) {
	for _, e := range j.events {
		if e.Type == kind {
			n++
		}
	}
	return n
}

// judge holds a sealed session to what every one must be: linked, batches of
// everything before the phase after, in order and each once, archive and video
// as the log says.
func judge(t *testing.T, steps []capturetest.Deposited) *judged {
	t.Helper()
	j := &judged{T: t, last: steps[len(steps)-1]}
	r := recording.NewLogReader(bytes.NewReader(j.last.Content[recording.FileEvents]))
	for {
		e, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		j.events = append(j.events, e)
	}
	chain := r.Chain()
	next := int64(0)
	for _, s := range steps {
		m := &evidence.Manifest{Phase: s.Phase, Step: s.Name}
		switch s.Phase {
		case evidence.PhaseDuring:
			m.Dimensions.During = s.Facts
		case evidence.PhaseAfter:
			m.Dimensions.After = s.Facts
		}
		b, ok, err := recording.BatchOf(m)
		if err != nil {
			t.Fatal(err)
		}
		if ok {
			if b.First != next || b.Last >= chain.Next {
				t.Fatalf("batch %d to %d, expected from %d to at most %d", b.First, b.Last, next, chain.Next-1)
			}
			tree := recording.NewTree()
			for _, e := range j.events[b.First : b.Last+1] {
				if err := tree.Add(e.Digest); err != nil {
					t.Fatal(err)
				}
			}
			root, err := tree.Root()
			if err != nil || root != b.Root || b.Head != j.events[b.Last].Digest {
				t.Fatalf("batch %d to %d differs, %v", b.First, b.Last, err)
			}
			next = b.Last + 1
			j.batches = append(j.batches, b)
		}
		if j.summary, _, err = recording.SummaryOf(m); err != nil {
			t.Fatal(err)
		}
	}
	if j.summary == nil || !chain.Closed || j.summary.Count != chain.Next || j.summary.Head != chain.Head {
		t.Fatalf("the seal says %+v, the log ends with %d %s", j.summary, chain.Next, chain.Head)
	}
	if next < chain.Next && j.events[next].Phase != evidence.PhaseAfter {
		t.Fatalf("event %d, %s, is in no batch", next, j.events[next].Type)
	}
	j.files()
	return j
}

func (j *judged) files() {
	j.Helper()
	data := j.last.Content[recording.FileWACZ]
	a, err := recording.OpenArchive(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		j.Fatal(err)
	}
	faults, err := a.Check(nil)
	if err != nil || len(faults) > 0 || !a.Signed || a.Key.String() != j.events[0].Data.Text("wacz-key") {
		j.Fatalf("%v %v, signed %v", faults, err, a.Signed)
	}
	var frames []string
	for _, e := range j.events {
		frames = append(frames, e.Data.Texts("frames")...)
		for _, kind := range []string{recording.RoleWACZ, recording.RoleVideo} {
			name := map[string]string{recording.RoleWACZ: recording.FileWACZ, recording.RoleVideo: recording.FileVideo}[kind]
			if b, ok := e.Blob(kind); ok && j.last.Digests[name] != b.SHA256 {
				j.Errorf("%s is not what the log names", name)
			}
		}
	}
	if len(frames) == 0 {
		return
	}
	v := recording.NewVideoReader(bytes.NewReader(j.last.Content[recording.FileVideo]))
	for n := 0; ; n++ {
		f, err := v.Next()
		if err == io.EOF && n == len(frames) {
			return
		}
		if err != nil || n >= len(frames) || f.SHA256.String() != frames[n] {
			j.Fatalf("frame %d of %d: %v", n, len(frames), err)
		}
	}
}

// folderChain is a chain that another process can go on with: each step is a
// line of a file, files of a step lie beside it.
type folderChain struct{ dir string }

func (c folderChain) Add(_ context.Context, s capture.Step) (bool, error) {
	n, err := c.Signed(context.Background())
	if err != nil {
		return false, err
	}
	dir := filepath.Join(c.dir, fmt.Sprintf("%06d.part", n+1))
	if err := os.MkdirAll(filepath.Join(dir, "files"), 0o700); err != nil {
		return false, err
	}
	text := string(s.Phase) + "\n" + s.Name + "\n"
	for name, v := range s.Facts {
		text += name + "=" + strconv.Quote(v) + "\n"
	}
	err = os.WriteFile(filepath.Join(dir, "step"), []byte(text), 0o600)
	for _, f := range s.Files {
		r, openErr := f.Open()
		if openErr != nil {
			return false, openErr
		}
		data, readErr := io.ReadAll(r)
		err = errors.Join(err, readErr, r.Close(), os.WriteFile(filepath.Join(dir, "files", f.Name), data, 0o600))
	}
	if err != nil {
		return false, err
	}
	return true, os.Rename(dir, strings.TrimSuffix(dir, ".part"))
}

func (c folderChain) Signed(context.Context) (int, error) {
	all, err := filepath.Glob(filepath.Join(c.dir, "[0-9]*[0-9]"))
	return len(all), err
}

func (c folderChain) Flush(context.Context) error { return nil }

func (c folderChain) all(t testing.TB) []capturetest.Deposited {
	t.Helper()
	folders, err := filepath.Glob(filepath.Join(c.dir, "[0-9]*[0-9]"))
	if err != nil {
		t.Fatal(err)
	}
	var out []capturetest.Deposited
	for _, dir := range folders {
		data, err := os.ReadFile(filepath.Join(dir, "step"))
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSpace(string(data)), "\n")
		d := capturetest.Deposited{Step: capture.Step{Phase: evidence.Phase(lines[0]), Name: lines[1], Facts: map[string]string{}}, Digests: map[string]evidence.Digest{}, Content: map[string][]byte{}}
		for _, l := range lines[2:] {
			name, v, _ := strings.Cut(l, "=")
			if d.Facts[name], err = strconv.Unquote(v); err != nil {
				t.Fatal(err)
			}
		}
		files, err := os.ReadDir(filepath.Join(dir, "files"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if d.Content[f.Name()], err = os.ReadFile(filepath.Join(dir, "files", f.Name())); err != nil {
				t.Fatal(err)
			}
			d.Digests[f.Name()] = evidence.SumSHA256(d.Content[f.Name()])
		}
		out = append(out, d)
	}
	return out
}
