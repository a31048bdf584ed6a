package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/evidence/recording"
	"github.com/zhenglian/zhenglian/internal/capture"
	"github.com/zhenglian/zhenglian/internal/capture/capturetest"
	"github.com/zhenglian/zhenglian/internal/capture/clean"
	"github.com/zhenglian/zhenglian/internal/capture/sandbox"
	"github.com/zhenglian/zhenglian/verify"
)

// recordSite serves a page with a work to download.
func recordSite(t *testing.T) (site string) {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = io.WriteString(w, `<!doctype html><title>侵权作品</title><p id="p">全文</p><a href="/novel.txt">下载</a>`)
	})
	mux.HandleFunc("GET /novel.txt", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Disposition", "attachment; filename=novel.txt")
		_, _ = io.WriteString(w, strings.Repeat("侵权作品的全部内容。", 1000))
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return "works.example:80=" + strings.TrimPrefix(server.URL, "http://")
}

func (s *story) recorder() string {
	s.Helper()
	home := s.path("recorder")
	s.must(0, "member", "init", "--home", home, "--kind", "service")
	s.must(0, "member", "enrol", "--home", s.alliance.Node("ca").Home, "--request", filepath.Join(home, "request.json"), "--assurance", "1", "--demo", "--out", filepath.Join(home, "enrolment.json"))
	return home
}

func plainRoom(context.Context) (capture.Room, error) { return new(capturetest.Room), nil }

// A recording from the command line to the verdict, with an HTTP client in place
// of the browser.
func TestStoryOfARecording(t *testing.T) {
	s := newStory(t)
	o := recordFlags{recorder: s.recorder(), purpose: "侵权取证", consent: true, out: s.path("out"), limit: time.Minute, bytes: 1 << 30, asJSON: true,
		allow: clean.Checks(), sites: []string{recordSite(t)},
		depositorFlags: depositorFlags{home: s.path("alice"), alliance: s.alliance.Genesis, timeout: time.Minute}}
	var out, errs bytes.Buffer
	a := &app{lang: chinese, out: &out, err: &errs, env: os.Getenv, now: time.Now}
	script := s.write("steps.json", `[{"do":"goto","url":"http://works.example/"},{"do":"wait","selector":"#p"},{"do":"download","text":"下载","name":"下载作品"}]`)
	o.script = script
	actions, err := a.recordActions(&o, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.record(t.Context(), &o, actions, plainRoom); err != nil {
		t.Fatalf("%v\n%s", err, errs.String())
	}
	rep, result := s.recorded(out.Bytes(), 0)
	if result.State != recording.StateComplete || result.Steps != 3 {
		t.Errorf("%+v", result)
	}
	if len(rep.Recordings) != 1 || rep.Recordings[0].Verdict != verify.Matches || rep.Recordings[0].Purpose != "侵权取证" || rep.Recordings[0].State != recording.StateComplete || len(rep.Recordings[0].Timeline) != 4 {
		t.Errorf("%+v", rep.Recordings)
	}
	if left, err := os.ReadDir(filepath.Join(o.recorder, recordingsFolder)); err != nil || len(left) > 0 {
		t.Errorf("plaintext stays with the recorder: %v %v", left, err)
	}

	// A step that fails: sealed as partial, with the reason, and still a package that
	// verifies.
	out.Reset()
	o.out = s.path("out2")
	err = a.record(t.Context(), &o, append(actions[:1:1], capture.Action{Do: "click", Text: "不在"}), plainRoom)
	if err == nil || !strings.Contains(err.Error(), "录制不完整") {
		t.Fatalf("%v", err)
	}
	rep, result = s.recorded(out.Bytes(), 0)
	if result.State != recording.StatePartial || !strings.HasPrefix(rep.Recordings[0].Reason, capture.ReasonStep) || rep.Recordings[0].Verdict != verify.Matches {
		t.Errorf("%+v", rep.Recordings)
	}

	// An environment that is not clean records nothing; that is on the chain too.
	out.Reset()
	o.out, o.allow = s.path("out3"), nil
	t.Setenv("https_proxy", "http://elsewhere.example:3128")
	if err = a.record(t.Context(), &o, actions, plainRoom); err == nil || !strings.Contains(err.Error(), "proxy-variables") {
		t.Fatalf("%v", err)
	}
	rep, _ = s.recorded(out.Bytes(), 1)
	if r := rep.Recordings[0]; r.Verdict != verify.DoesNotMatch || r.Environment != recording.EnvUnclean || r.Exchanges != 0 {
		t.Errorf("%+v", r)
	}

	s.interrupted(&o, actions)
	s.chromium(&o)
}

// chromium records the same site with the real browser, by the program itself.
func (s *story) chromium(o *recordFlags) {
	s.Helper()
	// Containers lack parts of the room; the browser's own sandbox is never missing.
	parts := []string{sandbox.PartNetwork, sandbox.PartUser, sandbox.PartFiles, sandbox.PartPolicy, sandbox.PartMemory, sandbox.PartCPU, sandbox.PartPIDs}
	report, err := sandbox.Check(s.Context(), sandbox.Config{Without: parts})
	if err != nil || len(report.Missing()) > 0 {
		s.Logf("no Chromium can be run here: %v %v", err, report.Missing())
		return
	}
	script := s.write("browser.json", `[{"do":"goto","url":"http://works.example/"},{"do":"wait","selector":"#p"},{"do":"scroll","pixels":200},{"do":"download","text":"下载","seconds":30},{"do":"screenshot"}]`)
	out := s.must(0, "record", "--home", s.path("alice"), "--recorder-home", o.recorder, "--purpose", "侵权取证", "--consent", "--script", script, "--out", s.path("out5"), "--json",
		"--test-site", strings.Join(o.sites, ","), "--allow-unclean", strings.Join(clean.Checks(), ","), "--without", strings.Join(parts, ","))
	rep, result := s.recorded([]byte(out), 0)
	r := rep.Recordings[0]
	if result.State != recording.StateComplete || result.Steps != 5 || r.Verdict != verify.Matches || r.Frames == 0 || len(r.Timeline) != 6 || r.Timeline[0].Status != 200 || r.Timeline[0].Title != "侵权作品" {
		s.Errorf("%+v %+v", result, r)
	}
}

// interrupted: the chain is away when the recording is sealed; --resume finds it.
func (s *story) interrupted(o *recordFlags, actions []capture.Action) {
	s.Helper()
	var out, errs bytes.Buffer
	a := &app{lang: english, out: &out, err: &errs, env: os.Getenv, now: time.Now}
	r, err := a.openRecorder(s.Context(), o)
	if err != nil {
		s.Fatal(err)
	}
	session := evidence.SumSHA256([]byte("interrupted"))
	trail, err := r.open(s.Context(), a, o, session, actions[0].URL)
	if err != nil {
		s.Fatal(err)
	}
	config := r.config(trail, filepath.Join(o.recorder, recordingsFolder, session.String()))
	config.Session, config.Note = session, map[string]string{"home": o.home, "out": s.path("out4")}
	open, err := capture.Open(config)
	if err != nil {
		s.Fatal(err)
	}
	// While it is recorded, nobody seals it.
	resume := recordFlags{recorder: o.recorder, asJSON: true, depositorFlags: depositorFlags{timeout: time.Minute}}
	if err := a.recordResume(s.Context(), &resume); err != nil || !strings.Contains(errs.String(), "left alone") {
		s.Fatalf("%v %s", err, errs.String())
	}
	if err := open.Close(); err != nil { // as if it had been killed here
		s.Fatal(err)
	}
	r.Close()
	if err := a.recordResume(s.Context(), &resume); err != nil {
		s.Fatal(err)
	}
	rep, result := s.recorded(out.Bytes(), -1)
	if result.State != recording.StatePartial || rep.Recordings[0].Reason != capture.ReasonRecorder {
		s.Errorf("%+v", rep.Recordings)
	}
	out.Reset()
	if err := a.recordResume(s.Context(), &resume); err != nil || !strings.Contains(out.String(), "No recording is open") {
		s.Errorf("%v %s", err, out.String())
	}
}

// recorded verifies the package that a recording wrote.
func (s *story) recorded(printed []byte, code int) (*verify.Report, *capture.Result) {
	s.Helper()
	var said struct {
		Result  capture.Result
		Package string
	}
	if err := json.Unmarshal(printed, &said); err != nil {
		s.Fatalf("%v: %s", err, printed)
	}
	text, errs, got := s.cli("verify", said.Package, "--policy", s.alliance.Policy, "--json")
	rep := new(verify.Report)
	if err := json.Unmarshal([]byte(text), rep); err != nil || len(rep.Recordings) == 0 {
		s.Fatalf("%v, %d recordings: %s", err, len(rep.Recordings), errs)
	}
	if code >= 0 && got != code {
		for _, c := range rep.Checks {
			if c.Verdict != verify.Matches {
				s.Errorf("%s %+v: %s %v", c.ID, c.Subject, c.Verdict, c.Reason)
			}
		}
		s.Fatalf("exit code %d, want %d", got, code)
	}
	return rep, &said.Result
}
