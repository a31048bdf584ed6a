package capture_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/evidence/recording"
	"github.com/zhenglian/zhenglian/internal/capture"
	"github.com/zhenglian/zhenglian/internal/capture/capturetest"
	"github.com/zhenglian/zhenglian/internal/capture/clean"
)

func TestRecord(t *testing.T) {
	chain := new(capturetest.Chain)
	r := newRun(t, chain, story()...)
	res, err := capture.Record(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if res.State != recording.StateComplete || res.Steps != 6 || res.Failed != 0 || res.Frames != 6 {
		t.Fatalf("%+v", res)
	}
	j := judge(t, chain.All())
	if chain.Busy {
		t.Error("two deposits overlapped")
	}
	if len(j.batches) < 2 {
		t.Errorf("%d batches", len(j.batches))
	}
	if j.last.Digests["novel.txt"] != evidence.SumSHA256(work()) {
		t.Errorf("the download has %s", j.last.Digests["novel.txt"])
	}
	// Everything on the wire is there, and input stands before what it caused.
	if n := j.count(recording.TypeEnd); n != 3 || j.count(recording.TypeRequest) != n || j.count(recording.TypeResponse) != n {
		t.Errorf("%d exchanges ended", n)
	}
	order := []string{recording.TypeOpen, "env.hosts", recording.TypeEnvReport, recording.TypeBrowser, recording.TypeInput, recording.TypeNavStart, recording.TypeConnection, recording.TypeRequest, recording.TypeResponse, recording.TypeEnd}
	for i, kind := range order {
		if j.events[i].Type != kind {
			t.Errorf("event %d is %s and not %s", i, j.events[i].Type, kind)
		}
	}
	for _, e := range j.events {
		if e.Type == recording.TypeDownloaded && !e.Data.Has("exchange") {
			t.Error("the download names no exchange")
		}
	}
	if err := capture.Destroy(r.Dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(r.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Error("plaintext stays on disk")
	}
}

func TestPartial(t *testing.T) {
	gone := capture.Action{Do: "click", Text: "不在页面上"}
	for name, c := range map[string]struct {
		change func(*capture.Run)
		reason string
		failed int
	}{
		"the browser crashes": {func(r *capture.Run) {
			r.Room = func(context.Context) (capture.Room, error) { return &capturetest.Room{Crash: "/novel"}, nil }
		}, capture.ReasonBrowser + ": crashed", 1},
		"a step of a script fails": {func(r *capture.Run) { r.Actions = append([]capture.Action{r.Actions[0], gone}, r.Actions...) }, capture.ReasonStep, 1},
		"there is no browser": {func(r *capture.Run) {
			r.Room = func(context.Context) (capture.Room, error) { return nil, errors.New("no namespace") }
		}, capture.ReasonRoom, 0},
		"time is over": {func(r *capture.Run) {
			r.Time = 300 * time.Millisecond
			r.Actions = append(r.Actions[:1:1], capture.Action{Do: "wait", Seconds: 60})
		}, capture.ReasonTime, 1},
		"traffic is used up": {func(r *capture.Run) {
			r.Proxy.Limits.SessionBytes = 100_000
			r.Bulk = true
		}, capture.ReasonBytes, 1},
		"the environment is unclean": {func(r *capture.Run) {
			r.Inspect = func(context.Context) (*clean.Report, error) {
				return &clean.Report{V: 1, Verdict: clean.Unclean, Findings: []clean.Finding{{Check: "hosts", Problem: "it sends a name elsewhere"}}}, nil
			}
		}, capture.ReasonUnclean + ": hosts", 0},
	} {
		t.Run(name, func(t *testing.T) {
			chain := new(capturetest.Chain)
			r := newRun(t, chain, story()...)
			c.change(&r)
			res, err := capture.Record(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			if res.State != recording.StatePartial || !strings.HasPrefix(res.Reason, c.reason) || res.Failed != c.failed {
				t.Errorf("%+v", res)
			}
			j := judge(t, chain.All())
			if j.summary.State != recording.StatePartial || j.summary.Reason != res.Reason {
				t.Errorf("%+v", j.summary)
			}
			if c.reason == capture.ReasonUnclean+": hosts" && (j.count(recording.TypeRequest) > 0 || j.count(recording.TypeBrowser) > 0) {
				t.Error("something was recorded in an unclean environment")
			}
		})
	}
}

func TestStoppedFromOutside(t *testing.T) {
	chain := new(capturetest.Chain)
	r := newRun(t, chain, append(story()[:1], capture.Action{Do: "wait", Seconds: 60})...)
	ctx, cancel := context.WithCancelCause(t.Context())
	r.Done = func(int, string, error) { cancel(errors.New("interrupt")) }
	res, err := capture.Record(ctx, r)
	if err != nil || res.Reason != capture.ReasonStopped+": interrupt" {
		t.Fatalf("%+v, %v", res, err)
	}
	judge(t, chain.All())
}

// A list goes on after an address that fails; what failed is in the record.
func TestBulk(t *testing.T) {
	chain := new(capturetest.Chain)
	list, err := capture.ReadList(strings.NewReader("# list\nhttp://" + host + "/\n\nhttp://127.0.0.1:9/x\nhttp://" + host + "/novel\n"))
	if err != nil {
		t.Fatal(err)
	}
	r := newRun(t, chain, list...)
	r.Bulk = true
	res, err := capture.Record(t.Context(), r)
	if err != nil || res.State != recording.StateComplete || res.Steps != 3 || res.Failed != 0 {
		t.Fatalf("%+v, %v", res, err)
	}
	j := judge(t, chain.All())
	refused := false
	for _, e := range j.events {
		if e.Type == recording.TypeStep && e.Data.Int("status") == 403 {
			refused = true
		}
	}
	if !refused {
		for _, e := range j.events {
			t.Log(e.Type, e.Data)
		}
		t.Error("an inner address was not shown as refused")
	}
}

// The chain is away for a while, and answers late: no event is in two batches or
// in none.
func TestChainAway(t *testing.T) {
	chain := new(capturetest.Chain)
	s, err := capture.Open(config(t, chain))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 60 {
		chain.Set(i%3 == 1, i%3 == 2)
		if err := s.Event("console", recording.Data{"level": "error", "text": fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
		s.Step()
		time.Sleep(2 * time.Millisecond) // so that several batches are tried
	}
	chain.Set(true, false)
	if _, err := s.Seal(t.Context(), ""); !errors.Is(err, capturetest.ErrDown) {
		t.Fatalf("sealed without a chain: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	chain.Set(false, false)
	c := config(t, chain)
	left, err := capture.Left(filepath.Dir(c.Dir))
	if err != nil || len(left) > 0 {
		t.Fatal(left, err) // another folder
	}
}

func TestResumeAfterChainAway(t *testing.T) {
	chain := new(capturetest.Chain)
	c := config(t, chain)
	s, err := capture.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	chain.Set(true, false)
	if _, err := s.Seal(t.Context(), ""); !errors.Is(err, capturetest.ErrDown) {
		t.Fatalf("sealed without a chain: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	chain.Set(false, false)
	left, err := capture.Left(filepath.Dir(c.Dir))
	if err != nil || len(left) != 1 || left[c.Dir].Session != c.Session {
		t.Fatal(left, err)
	}
	for range 2 { // the second finds everything done
		if s, err = capture.Resume(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		res, err := s.Seal(t.Context(), capture.ReasonRecorder)
		if err != nil || res.State != recording.StateComplete {
			t.Fatalf("%+v, %v: it had been closed complete", res, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	judge(t, chain.All())
}

const (
	envChild = "ZHENGLIAN_TEST_RECORD_IN"
	childAt  = "recorded "
)

// TestMain is also the recorder that TestKilled kills.
func TestMain(m *testing.M) {
	if dir := os.Getenv(envChild); dir != "" {
		if err := endless(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

func killConfig(dir string) capture.Config {
	return capture.Config{Dir: filepath.Join(dir, "open", "session"), Session: evidence.SumSHA256([]byte("killed")), Trail: evidence.SumSHA256([]byte("trail")), Recorder: evidence.SumSHA256([]byte("recorder")),
		Software: "zhenglian/test", Chain: folderChain{filepath.Join(dir, "chain")}, Every: 20 * time.Millisecond}
}

// endless records until it is killed.
func endless(dir string) error {
	s, err := capture.Open(killConfig(dir))
	if err != nil {
		return err
	}
	if err := s.Event(recording.TypeEnvReport, recording.Data{"verdict": "clean", "exceptions": []string{}}, capture.Blob{Role: "report", Data: []byte("{}")}); err != nil {
		return err
	}
	s.Phase(evidence.PhaseDuring)
	room := new(capturetest.Room)
	if _, err := room.Listener(); err != nil {
		return err
	}
	picture := testPicture()
	for n := 0; ; n++ {
		if err := s.Frame(time.Now(), 16, 16, picture); err != nil {
			return err
		}
		if err := s.Event(recording.TypeRequest, recording.Data{"exchange": int64(n + 1), "method": "GET", "url": "http://example.org/"}, capture.Blob{Role: "request.head", Media: "application/http", Data: fmt.Appendf(nil, "GET /%d HTTP/1.1\r\n\r\n", n)}); err != nil {
			return err
		}
		fmt.Println(childAt, n)
	}
}

func TestKilled(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), envChild+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	told := 0
	for lines := bufio.NewScanner(out); told < 100 && lines.Scan(); {
		if strings.HasPrefix(lines.Text(), childAt) {
			told++
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	if told < 100 {
		t.Fatalf("the recorder ended after %d events", told)
	}

	c := killConfig(dir)
	before := len(c.Chain.(folderChain).all(t))
	if before == 0 {
		t.Error("no batch was deposited before the kill")
	}
	s, err := capture.Resume(t.Context(), capture.Config{Dir: c.Dir, Chain: c.Chain})
	if err != nil {
		t.Fatal(err)
	}
	res, err := s.Seal(t.Context(), capture.ReasonRecorder)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	j := judge(t, c.Chain.(folderChain).all(t))
	if res.State != recording.StatePartial || res.Reason != capture.ReasonRecorder || j.count(recording.TypeRequest) < told || j.count(recording.TypeEnd) != j.count(recording.TypeRequest) {
		t.Errorf("%+v, %d of %d requests", res, j.count(recording.TypeRequest), told)
	}
}

// A power cut leaves half a line: it is cut off, what stands before it is kept.
func TestTornEnd(t *testing.T) {
	chain := new(capturetest.Chain)
	c := config(t, chain)
	s, err := capture.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for name, torn := range map[string]string{recording.FileEvents: `{"at":"2026`, "small.blobs": "half a digest", "deposits.jsonl": `{"n":`} {
		f, err := os.OpenFile(filepath.Join(c.Dir, name), os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(torn); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if s, err = capture.Resume(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if err := s.Event("console", recording.Data{"level": "error", "text": "after"}, capture.Blob{Role: "x", Data: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Seal(t.Context(), "cut"); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if j := judge(t, chain.All()); j.events[1].Type != "console" {
		t.Error(j.events[1].Type)
	}
}

// An event altered on disk while nobody looked is found, and nothing is sealed.
func TestAlteredOnDisk(t *testing.T) {
	c := config(t, new(capturetest.Chain))
	s, err := capture.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := s.Event("console", recording.Data{"level": "error", "text": "said"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(c.Dir, recording.FileEvents)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(data), "said", "sold", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	var bad *recording.EventError
	if _, err := capture.Resume(t.Context(), c); !errors.As(err, &bad) || bad.Code != "link" {
		t.Fatalf("%v", err)
	}
}

func TestScripts(t *testing.T) {
	good := `[{"do":"goto","url":"https://example.org/"},{"do":"wait","seconds":2},{"do":"click","text":"下载"},{"do":"type","selector":"#q","text":"作品"},{"do":"scroll","pixels":-3},{"do":"screenshot"},{"do":"download","selector":"a"}]`
	if all, err := capture.ReadScript([]byte(good)); err != nil || len(all) != 7 {
		t.Fatal(all, err)
	}
	for _, bad := range []string{``, `[]`, `{}`, `[{"do":"goto"}]`, `[{"do":"goto","url":"file:///etc/passwd"}]`, `[{"do":"goto","url":"javascript:1"}]`, `[{"do":"goto","url":"http://u:p@h/"}]`,
		`[{"do":"click"}]`, `[{"do":"click","text":"a","selector":"b"}]`, `[{"do":"wait"}]`, `[{"do":"wait","seconds":-1}]`, `[{"do":"wait","seconds":601}]`, `[{"do":"scroll"}]`, `[{"do":"screenshot","url":"http://h/"}]`,
		`[{"do":"run"}]`, `[{"do":"screenshot","speed":1}]`, `[{"do":"screenshot"}] x`} {
		if all, err := capture.ReadScript([]byte(bad)); err == nil {
			t.Errorf("%s was taken as %v", bad, all)
		}
	}
	if _, err := capture.ReadList(strings.NewReader("ftp://example.org/\n")); err == nil {
		t.Error("an address of ftp was taken")
	}
}
