package verify_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/binary"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/evidence/recording"
	"github.com/zhenglian/zhenglian/internal/testalliance"
	"github.com/zhenglian/zhenglian/internal/testrecording"
	"github.com/zhenglian/zhenglian/verify"
)

// filmed is a trail with a recorded session, step by step as a recorder makes it.
type filmed struct {
	*testalliance.Alliance
	li, recorder *testalliance.Member
	trail        evidence.Digest
	session      evidence.Digest
	rec          *testrecording.Recording
	summary      *recording.Summary
	batches      int
}

// forgery changes what a recorder does. The zero value is an honest one.
type forgery struct {
	events  func(*testrecording.Recording) error             // instead of the story
	batch   func(n int, b *recording.Batch) *recording.Batch // nil: not deposited
	signer  func(f *filmed) *testalliance.Member             // of batches
	sealed  func(f *filmed, files map[string][]byte)         // before they are deposited
	summary func(*recording.Summary)
	reason  string // of a partial recording
	unseal  bool   // no seal
	opening func(*recording.Opening)
}

// archiveKey signs archives: a key that everybody knows.
func archiveKey() *ecdsa.PrivateKey {
	scalar := make([]byte, 48) // of P-384
	binary.BigEndian.PutUint64(scalar[40:], 12345)
	k, err := ecdsa.ParseRawPrivateKey(elliptic.P384(), scalar)
	if err != nil {
		panic(err)
	}
	return k
}

func film(t testing.TB, seed string, g forgery) *filmed {
	t.Helper()
	a, err := testalliance.New(seed, 1)
	must(t, err)
	f := &filmed{Alliance: a, session: evidence.SumSHA256([]byte("session"))}
	f.li, err = a.Enrol("m:li", 2, false)
	must(t, err)
	f.recorder, err = a.Enrol("m:recorder", 1, false)
	must(t, err)
	kid := f.recorder.Signer.Public().KID()
	open := &recording.Opening{Session: f.session, Recorder: kid, Purpose: "固定侵权网页", Consent: "同意全程录制", Start: "https://works.example/"}
	if g.opening != nil {
		g.opening(open)
	}
	f.trail, err = a.Open(f.li, testalliance.Step{Phase: evidence.PhaseBefore, Name: "开始取证", Act: func(m *evidence.Manifest) error {
		m.Act, m.Dimensions.Before = &evidence.Act{Kind: recording.ActRecord}, open.Facts()
		return nil
	}})
	must(t, err)
	_, err = a.Authorise(f.li, f.trail, kid, evidence.RightAppend)
	must(t, err)
	clock := func() time.Time { return time.Unix(testalliance.BlockTime(a.Size())-5, 0) }
	f.rec, err = testrecording.New(testrecording.Config{Session: f.session, Trail: f.trail, Recorder: kid, Start: clock(), Key: archiveKey()})
	must(t, err)
	deposit := func(b *recording.Batch) error {
		by := f.recorder
		if g.signer != nil {
			by = g.signer(f)
		}
		_, err := a.Deposit(by, f.trail, testalliance.Step{Name: recording.StepBatch, Act: func(m *evidence.Manifest) error {
			m.Dimensions.During = b.Facts()
			return nil
		}})
		f.rec.Wait(clock().Sub(f.rec.Now()))
		return err
	}
	batch := func() error {
		b, err := f.rec.Batch()
		if err != nil {
			return err
		}
		f.batches++
		if g.batch != nil {
			b = g.batch(f.batches, b)
		}
		if b == nil {
			return nil
		}
		return deposit(b)
	}
	if g.events != nil {
		must(t, g.events(f.rec))
	} else {
		must(t, f.rec.Story(batch))
	}
	f.summary, err = f.rec.Seal(g.reason)
	must(t, err)
	must(t, batch())
	if g.unseal {
		return f
	}
	if g.summary != nil {
		g.summary(f.summary)
	}
	files := map[string][]byte{recording.FileEvents: f.rec.Log.Bytes(), recording.FileWACZ: f.rec.WACZ, recording.FileVideo: f.rec.Video}
	for name, data := range f.rec.Downloads {
		files[name] = data
	}
	if g.sealed != nil {
		g.sealed(f, files)
	}
	var order []string
	for name, data := range files {
		if len(data) > 0 { // a session without pictures has no video
			order = append(order, name)
		}
	}
	slices.Sort(order)
	_, err = a.Deposit(f.recorder, f.trail, testalliance.Step{Phase: evidence.PhaseAfter, Name: recording.StepSeal, Objects: files, Order: order, Act: func(m *evidence.Manifest) error {
		m.Dimensions.After = f.summary.Facts()
		return nil
	}})
	must(t, err)
	return f
}

func (f *filmed) pack(t testing.TB) []byte {
	t.Helper()
	c, err := f.Content(f.trail)
	must(t, err)
	return encode(t, c)
}

func (f *filmed) report(t testing.TB) *verify.Report {
	t.Helper()
	return check(t, f.pack(t), verify.Options{Policy: f.Policy, Log: f.Log("court")})
}

func TestRecordingHolds(t *testing.T) {
	f := film(t, "film", forgery{})
	rep := f.report(t)
	wants(t, rep, verify.Matches, "recording-opened", "recording-events-complete", "recording-batches", "recording-times", "recording-clean", "recording-archive-holds",
		"recording-exchanges", "recording-network-holds", "recording-video-holds", "recording-download-holds", "recording-blobs")
	if len(rep.Recordings) != 1 {
		t.Fatalf("%d recordings", len(rep.Recordings))
	}
	r := rep.Recordings[0]
	if r.State != "complete" || r.Purpose != "固定侵权网页" || r.Batches != 4 || r.Frames != 8 || r.Exchanges != 9 || r.Failed != 1 || r.Verdict != verify.Matches || r.Environment != "clean" {
		t.Errorf("%+v", r)
	}
	if len(r.Timeline) != 2 {
		t.Fatalf("timeline %+v", r.Timeline)
	}
	step, save := r.Timeline[0], r.Timeline[1]
	if step.Name != "打开作品页" || step.URL != "https://works.example/" || step.Status != 200 || step.Screenshot.IsZero() || step.Record == "" || step.Batch == 0 || step.NotAfter == "" || step.NotBefore == "" {
		t.Errorf("step %+v", step)
	}
	if save.Kind != "download" || save.Name != "novel.txt" || save.SHA256 != evidence.SumSHA256(testrecording.Work()) {
		t.Errorf("download %+v", save)
	}
}

// lines returns the lines of the log, each with its end.
func lines(log []byte) [][]byte {
	return slices.Collect(func(yield func([]byte) bool) {
		for line := range bytes.Lines(log) {
			if !yield(line) {
				return
			}
		}
	})
}

// What an attacker may do to a recording, and the line that names it.
func TestRecordingForged(t *testing.T) {
	replace := func(name string, with func(f *filmed, old []byte) []byte) func(*filmed, map[string][]byte) {
		return func(f *filmed, files map[string][]byte) { files[name] = with(f, files[name]) }
	}
	ahead := func(events int) func(int, *recording.Batch) *recording.Batch {
		return func(n int, b *recording.Batch) *recording.Batch {
			if n == 2 {
				b.First += int64(events)
			}
			return b
		}
	}
	for _, tc := range []struct {
		name string
		g    forgery
		key  string
	}{
		{"an event altered", forgery{sealed: replace("events.jsonl", func(_ *filmed, log []byte) []byte { return bytes.Replace(log, []byte("/old"), []byte("/new"), 1) })}, "recording-events-broken"},
		{"an event left out", forgery{sealed: replace("events.jsonl", func(_ *filmed, log []byte) []byte { return bytes.Join(slices.Delete(lines(log), 5, 6), nil) })}, "recording-events-broken"},
		{"the end cut off", forgery{sealed: replace("events.jsonl", func(_ *filmed, log []byte) []byte { l := lines(log); return bytes.Join(l[:len(l)-3], nil) })}, "recording-not-closed"},
		{"the end cut off, and the summary with it", forgery{summary: func(s *recording.Summary) { s.Count -= 3 }}, "recording-cut"},
		{"two events exchanged", forgery{sealed: replace("events.jsonl", func(_ *filmed, log []byte) []byte {
			l := lines(log)
			l[7], l[8] = l[8], l[7]
			return bytes.Join(l, nil)
		})}, "recording-events-broken"},
		{"another log, consistent in itself", forgery{sealed: replace("events.jsonl", func(f *filmed, _ []byte) []byte {
			c := testrecording.Example()
			c.Session, c.Trail, c.Recorder, c.Start = f.session, f.trail, f.recorder.Signer.Public().KID(), f.rec.Now()
			r, _, err := testrecording.Whole(c)
			if err != nil {
				panic(err)
			}
			return r.Log.Bytes()
		})}, "recording-batch-differs"},
		{"another session's log", forgery{sealed: replace("events.jsonl", func(*filmed, []byte) []byte {
			r, _, err := testrecording.Whole(testrecording.Example())
			if err != nil {
				panic(err)
			}
			return r.Log.Bytes()
		})}, "recording-other-trail"},
		{"a batch left out", forgery{batch: func(n int, b *recording.Batch) *recording.Batch {
			if n == 2 {
				return nil
			}
			return b
		}}, "recording-batch-gap"},
		{"a batch that begins late", forgery{batch: ahead(1)}, "recording-batch-gap"},
		{"a batch that begins early", forgery{batch: ahead(-1)}, "recording-batch-overlap"},
		{"a batch with another root", forgery{batch: func(n int, b *recording.Batch) *recording.Batch {
			if n == 1 {
				b.Root[0] ^= 1
			}
			return b
		}}, "recording-batch-differs"},
		{"a batch by the party", forgery{signer: func(f *filmed) *testalliance.Member { return f.li }}, "recording-other-recorder"},
		{"a byte of the archive", forgery{sealed: replace("recording.wacz", func(_ *filmed, b []byte) []byte { b[len(b)/3] ^= 4; return b })}, "recording-archive-fault"},
		{"an archive without one exchange", forgery{sealed: replace("recording.wacz", func(f *filmed, _ []byte) []byte {
			f.rec.Exchanges = slices.Delete(f.rec.Exchanges, 2, 3)
			return rebuilt(f)
		})}, "recording-record-missing"},
		{"an archive with another response", forgery{sealed: replace("recording.wacz", func(f *filmed, _ []byte) []byte {
			e := *f.rec.Exchanges[5]
			b := f.rec.Blob(recording.RoleResponseBody, "text/html", []byte("<p>2</p>"))
			body := *e.ResponseBody
			body.SHA256 = b.SHA256
			e.ResponseBody = &body
			f.rec.Exchanges[5] = &e
			return rebuilt(f)
		})}, "recording-record-differs"},
		{"an archive with one exchange more", forgery{sealed: replace("recording.wacz", func(f *filmed, _ []byte) []byte {
			e := *f.rec.Exchanges[5]
			e.ID = 77
			f.rec.Exchanges = append(f.rec.Exchanges, &e)
			return rebuilt(f)
		})}, "recording-record-foreign"},
		{"another address in the archive", forgery{sealed: replace("recording.wacz", func(f *filmed, _ []byte) []byte {
			e := *f.rec.Exchanges[5]
			c := *e.Conn
			c.DNS = nil
			e.Conn = &c
			f.rec.Exchanges[5] = &e
			return rebuilt(f)
		})}, "recording-facts-differ"},
		{"a frame of the video", forgery{sealed: replace("video.mkv", func(_ *filmed, b []byte) []byte { b[len(b)-30] ^= 1; return b })}, "recording-frame-differs"},
		{"a video cut short", forgery{sealed: replace("video.mkv", func(_ *filmed, b []byte) []byte { return b[:len(b)-30] })}, "recording-video-broken"},
		{"another session.close than the seal", forgery{summary: func(s *recording.Summary) { s.State, s.Reason = "partial", "浏览器崩溃" }}, "recording-state-differs"},
		{"another head in the seal", forgery{summary: func(s *recording.Summary) { s.Head[3] ^= 1 }}, "recording-end-differs"},
		{"a fact without meaning", forgery{summary: func(s *recording.Summary) { s.State = "fine" }}, "recording-fact"},
		{"a recorder other than announced", forgery{opening: func(o *recording.Opening) { o.Recorder = evidence.SumSHA256([]byte("another")) }}, "recording-other-recorder"},
		{"a session other than announced", forgery{opening: func(o *recording.Opening) { o.Session = evidence.SumSHA256([]byte("another")) }}, "recording-not-opened"},
		{"a clock an hour ahead", forgery{events: func(r *testrecording.Recording) error {
			r.Wait(time.Hour)
			return r.Environment("clean")
		}}, "recording-time-ahead"},
		{"an unclean environment", forgery{events: func(r *testrecording.Recording) error { return r.Environment("unclean") }}, "recording-unclean"},
		{"a download that nobody sent", forgery{events: func(r *testrecording.Recording) error {
			if err := r.Environment("clean"); err != nil {
				return err
			}
			c, err := r.Connect()
			if err != nil {
				return err
			}
			id, err := r.Exchange(testrecording.Visit{URL: "https://works.example/a", Conn: c, Status: 200, Media: "text/plain", Body: []byte("a")})
			if err != nil {
				return err
			}
			return r.Download("a.txt", "https://works.example/a", id, []byte("b"))
		}}, "recording-download-differs"},
		{"an address that DNS did not name", forgery{events: func(r *testrecording.Recording) error {
			if err := r.Environment("clean"); err != nil {
				return err
			}
			if err := r.Event(recording.TypeDNS, recording.Data{"connection": int64(40), "name": "a.example", "answers": []string{"203.0.113.9"}}); err != nil {
				return err
			}
			return r.Event(recording.TypeConnection, recording.Data{"connection": int64(40), "name": "a.example", "remote": "203.0.113.7:80"})
		}}, "recording-dns-differs"},
	} {
		t.Run(strings.ReplaceAll(tc.name, " ", "-"), func(t *testing.T) {
			wants(t, film(t, "forged", tc.g).report(t), verify.DoesNotMatch, tc.key)
		})
	}
}

func rebuilt(f *filmed) []byte {
	if _, err := f.rec.Archive(); err != nil {
		panic(err)
	}
	return f.rec.WACZ
}

// What is no forgery, but not whole either.
func TestRecordingOpen(t *testing.T) {
	t.Run("never sealed", func(t *testing.T) {
		rep := film(t, "unsealed", forgery{unseal: true}).report(t)
		wants(t, rep, verify.Undetermined, "recording-unsealed")
		if r := rep.Recordings[0]; r.State != "unsealed" || r.Purpose == "" || r.Events == 0 {
			t.Errorf("%+v", r)
		}
	})
	t.Run("partial", func(t *testing.T) {
		rep := film(t, "partial", forgery{reason: "浏览器崩溃"}).report(t)
		wants(t, rep, verify.Matches, "recording-events-partial")
		if r := rep.Recordings[0]; r.State != "partial" || r.Reason != "浏览器崩溃" {
			t.Errorf("%+v", r)
		}
	})
	t.Run("the last events only in the seal", func(t *testing.T) {
		rep := film(t, "tail", forgery{reason: "进程被终止", batch: func(n int, b *recording.Batch) *recording.Batch {
			if n == 4 {
				return nil
			}
			return b
		}}).report(t)
		wants(t, rep, verify.Matches, "recording-events-partial")
		if !slices.ContainsFunc(rep.Notices, func(n verify.Notice) bool { return n.Reason.Key == "recording-tail" }) {
			t.Errorf("notices %+v", rep.Notices)
		}
	})
	for name, key := range map[string]string{"events.jsonl": "recording-no-log", "recording.wacz": "recording-no-archive", "video.mkv": "recording-no-video"} {
		t.Run("without "+name, func(t *testing.T) {
			f := film(t, "without", forgery{})
			pkg, err := testalliance.Repack(f.pack(t), func(ix *evidence.Index, files map[string][]byte) {
				s := &ix.Steps[len(ix.Steps)-1]
				for i, o := range s.Objects {
					if strings.HasSuffix(o.Path, name) {
						files[o.Path] = nil
						s.Objects = slices.Delete(s.Objects, i, i+1)
						return
					}
				}
			})
			must(t, err)
			wants(t, check(t, pkg, verify.Options{Policy: f.Policy, Log: f.Log("court")}), verify.Undetermined, key, "object-withheld")
		})
	}
	t.Run("a compressed download, and one that the page made", func(t *testing.T) {
		rep := film(t, "gzip", forgery{events: func(r *testrecording.Recording) error {
			if err := r.Environment("clean"); err != nil {
				return err
			}
			c, err := r.Connect()
			if err != nil {
				return err
			}
			packed := testrecording.Gzip(testrecording.Work())
			id, err := r.Exchange(testrecording.Visit{URL: "https://works.example/a", Conn: c, Status: 200, Media: "text/plain", Extra: "Content-Encoding: gzip\r\n", Body: packed, Framing: testrecording.Chunks(packed, 40)})
			if err != nil {
				return err
			}
			if err := r.Download("a.txt", "https://works.example/a", id, testrecording.Work()); err != nil {
				return err
			}
			made := r.Blob(recording.RoleDownload, "text/plain", []byte("made"))
			r.Downloads["made.txt"] = []byte("made")
			return r.Event(recording.TypeDownloaded, recording.Data{"id": "d2", "url": "blob:https://works.example/1", "name": "made.txt", "state": "completed"}, made)
		}}).report(t)
		wants(t, rep, verify.Undetermined, "recording-download-holds", "recording-download-made")
		if rep.Count(verify.Undetermined) != 1 {
			show(t, rep)
			t.Error("more is open than the file that the page made")
		}
	})
	t.Run("an environment with exceptions", func(t *testing.T) {
		rep := film(t, "exceptions", forgery{events: func(r *testrecording.Recording) error {
			return r.Environment("exceptions", "no network namespace")
		}}).report(t)
		wants(t, rep, verify.Matches, "recording-clean-but")
		if !slices.ContainsFunc(rep.Notices, func(n verify.Notice) bool { return n.Reason.Params["exception"] == "no network namespace" }) {
			t.Errorf("notices %+v", rep.Notices)
		}
	})
}

// TestRecordingEveryByte flips bits across the files of a recording, in a package
// whose index agrees with the altered file: the whole does not match, the file is
// named by its own check and, where it is not a manifest, by the recording's.
func TestRecordingEveryByte(t *testing.T) {
	f := film(t, "bytes", forgery{})
	pkg := f.pack(t)
	p, err := evidence.OpenPackage(reader(pkg), int64(len(pkg)))
	must(t, err)
	manifests, files, deep := 0, 0, 0
	for _, file := range p.Files() {
		base := file.Path[strings.LastIndexByte(file.Path, '/')+1:]
		_, name, _ := strings.Cut(base, "-")
		if !slices.Contains([]string{"events.jsonl", "recording.wacz", "video.mkv"}, name) && !strings.HasPrefix(file.Path, "manifests/") {
			continue
		}
		step := max(file.Size/30, 1)
		for at := step / 2; at < file.Size; at += step {
			altered, err := testalliance.Repack(pkg, func(_ *evidence.Index, files map[string][]byte) { files[file.Path][at] ^= 1 << (at % 7) })
			must(t, err)
			rep := check(t, altered, verify.Options{Policy: f.Policy})
			if rep.Verdict != verify.DoesNotMatch || !rep.Named(file.Path) {
				t.Errorf("byte %d of %s: %s", at, file.Path, rep.Verdict)
			}
			if strings.HasPrefix(file.Path, "manifests/") {
				manifests++
				continue
			}
			files++
			if slices.ContainsFunc(rep.Checks, func(l verify.Line) bool {
				return strings.HasPrefix(l.ID, "recording") && l.Verdict == verify.DoesNotMatch && l.Subject.Path == file.Path
			}) {
				deep++
			} else {
				t.Errorf("byte %d of %s: no check of the recording names it", at, file.Path)
			}
		}
	}
	if manifests < 70 || files < 70 {
		t.Errorf("%d bytes of manifests and %d of files flipped: too few", manifests, files)
	}
	t.Logf("%d bytes of manifests and %d of the recording's files flipped, each named; %d by the recording's own checks too", manifests, files, deep)
}
