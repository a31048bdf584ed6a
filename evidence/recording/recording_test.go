package recording_test

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	merkle "github.com/transparency-dev/merkle/testonly"

	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/evidence/recording"
	"github.com/zhenglian/zhenglian/internal/testrecording"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func whole(t testing.TB) *testrecording.Recording {
	t.Helper()
	r, _, err := testrecording.Whole(testrecording.Example())
	must(t, err)
	return r
}

// readAll reads a log and returns the events before the first error.
func readAll(log []byte) (events []*recording.Logged, chain recording.Chain, err error) {
	r := recording.NewLogReader(bytes.NewReader(log))
	for {
		e, err := r.Next()
		if err == io.EOF {
			return events, r.Chain(), nil
		}
		if err != nil {
			return events, r.Chain(), err
		}
		events = append(events, e)
	}
}

func TestLog(t *testing.T) {
	r := whole(t)
	events, chain, err := readAll(r.Log.Bytes())
	must(t, err)
	if !chain.Closed || chain.Next != int64(len(events)) || len(events) != len(r.Digests) {
		t.Errorf("%d events, chain %+v", len(events), chain)
	}
	for i, e := range events {
		if e.Digest != r.Digests[i] {
			t.Errorf("event %d has another digest", i)
		}
		line, err := e.Encode()
		must(t, err)
		if evidence.SumSHA256(line) != e.Digest {
			t.Errorf("event %d is written otherwise than it was read", i)
		}
	}
}

func TestLogFaults(t *testing.T) {
	log := whole(t).Log.Bytes()
	lines := bytes.SplitAfter(log, []byte("\n"))
	lines = lines[:len(lines)-1]
	join := func(parts ...[][]byte) []byte { return bytes.Join(slices.Concat(parts...), nil) }
	fork := append([][]byte{}, lines[:6]...)
	e, err := recording.ParseEvent(bytes.TrimSuffix(lines[5], []byte("\n")))
	must(t, err)
	e.Mono++
	other, err := e.Encode()
	must(t, err)
	fork = append(fork, append(other, '\n'))
	for _, tc := range []struct {
		name string
		log  []byte
		code string
		seq  int64
	}{
		{"nothing", nil, "empty", 0},
		{"an event missing", join(lines[:4], lines[5:]), "gap", 4},
		{"an event twice", join(lines[:5], lines[4:]), "fork", 5}, // its prev is not the last event's digest
		{"two events of one number", join(fork, lines[6:]), "fork", 6},
		{"two events exchanged", join(lines[:4], lines[5:6], lines[4:5], lines[6:]), "gap", 4},
		{"an old event again", join(lines[:6], lines[2:]), "order", 6},
		{"a byte of a text", bytes.Replace(log, []byte("cat /etc"), []byte("cat /Etc"), 1), "link", 2},
		{"the last line cut", log[:len(log)-7], "line", int64(len(lines) - 1)},
		{"something after the end", join(lines, lines[len(lines)-1:]), "after-close", int64(len(lines))},
		{"a blank line", join(lines[:3], [][]byte{[]byte("\n")}, lines[3:]), "form", 3},
		{"CR LF", bytes.ReplaceAll(log, []byte("\n"), []byte("\r\n")), "form", 0},
		{"a line without end", bytes.Repeat([]byte("x"), recording.MaxEvent+10), "too-large", 0},
	} {
		_, _, err := readAll(tc.log)
		var bad *recording.EventError
		if !errors.As(err, &bad) || bad.Code != tc.code || bad.Seq != tc.seq {
			t.Errorf("%s: %v, want %s at %d", tc.name, err, tc.code, tc.seq)
		}
	}
	events, chain, err := readAll(join(lines[:9]))
	if err != nil || chain.Closed || len(events) != 9 {
		t.Errorf("a log cut at a line: %v %+v", err, chain)
	}
}

func TestEventRules(t *testing.T) {
	base := func() *recording.Event {
		return &recording.Event{V: 1, Session: evidence.SumSHA256([]byte("s")), Seq: 1, Phase: evidence.PhaseDuring, Type: "input", At: "2026-11-22T15:05:38.123Z", Mono: 1,
			Prev: evidence.SumSHA256([]byte("p")), Data: recording.Data{"kind": "key"}}
	}
	if _, err := base().Encode(); err != nil {
		t.Fatal(err)
	}
	many := recording.Data{}
	for i := range recording.MaxData + 1 {
		many["a"+strings.Repeat("b", i%20)+string(rune('a'+i/20))] = "x"
	}
	blob := recording.Blob{Role: "x", SHA256: evidence.SumSHA256(nil), Media: "text/plain"}
	for name, tc := range map[string]struct {
		code  string
		alter func(*recording.Event)
	}{
		"version":             {"version", func(e *recording.Event) { e.V = 2 }},
		"no session":          {"session", func(e *recording.Event) { e.Session = evidence.Digest{} }},
		"seq":                 {"range", func(e *recording.Event) { e.Seq = -1 }},
		"phase":               {"phase", func(e *recording.Event) { e.Phase = "later" }},
		"phase of the type":   {"phase", func(e *recording.Event) { e.Phase = evidence.PhaseAfter }},
		"mono":                {"range", func(e *recording.Event) { e.Mono = -1 }},
		"first without open":  {"type", func(e *recording.Event) { e.Seq, e.Prev = 0, evidence.Digest{} }},
		"prev in the first":   {"link", func(e *recording.Event) { e.Seq = 0 }},
		"no prev":             {"link", func(e *recording.Event) { e.Prev = evidence.Digest{} }},
		"time without millis": {"time", func(e *recording.Event) { e.At = "2026-11-22T15:05:38Z" }},
		"time with offset":    {"time", func(e *recording.Event) { e.At = "2026-11-22T15:05:38.123+08:00" }},
		"type":                {"type", func(e *recording.Event) { e.Type = "input.key" }},
		"field's name":        {"name", func(e *recording.Event) { e.Data["Kind"] = "x" }},
		"a float":             {"value", func(e *recording.Event) { e.Data["x"] = 1.5 }},
		"an object":           {"value", func(e *recording.Event) { e.Data["x"] = map[string]any{} }},
		"mixed list":          {"value", func(e *recording.Event) { e.Data["x"] = []any{"a", int64(1)} }},
		"integer":             {"value", func(e *recording.Event) { e.Data["x"] = int64(1) << 53 }},
		"long text":           {"value", func(e *recording.Event) { e.Data["x"] = strings.Repeat("x", recording.MaxText+1) }},
		"no UTF-8":            {"value", func(e *recording.Event) { e.Data["x"] = "\xff" }},
		"too many fields":     {"too-many", func(e *recording.Event) { e.Data = many }},
		"required field":      {"required", func(e *recording.Event) { delete(e.Data, "kind") }},
		"kind of field":       {"value", func(e *recording.Event) { e.Data["kind"] = int64(1) }},
		"blob's role":         {"name", func(e *recording.Event) { b := blob; b.Role = "X"; e.Blobs = []recording.Blob{b} }},
		"blob's media": {"value", func(e *recording.Event) {
			b := blob
			b.Media = "text/html; charset=utf-8"
			e.Blobs = []recording.Blob{b}
		}},
		"blob's size":   {"range", func(e *recording.Event) { b := blob; b.Size = -1; e.Blobs = []recording.Blob{b} }},
		"blob's digest": {"value", func(e *recording.Event) { b := blob; b.SHA256 = evidence.Digest{}; e.Blobs = []recording.Blob{b} }},
		"missing blob":  {"required", func(e *recording.Event) { e.Type, e.Data = "step.done", recording.Data{"name": "n", "url": "u"} }},
		"frames without digest": {"value", func(e *recording.Event) {
			e.Type, e.Data = "video.frames", recording.Data{"first": int64(0), "frames": []string{"x"}, "times": []int64{1}}
		}},
		"frames without times": {"value", func(e *recording.Event) {
			e.Type, e.Data = "video.frames", recording.Data{"first": int64(0), "frames": []string{evidence.SumSHA256(nil).String()}, "times": []string{}}
		}},
		"close with a count": {"value", func(e *recording.Event) {
			e.Phase, e.Type = evidence.PhaseAfter, "session.close"
			e.Data = recording.Data{"state": "complete", "count": int64(2), "head": e.Prev.String()}
		}},
		"close with a head": {"value", func(e *recording.Event) {
			e.Phase, e.Type = evidence.PhaseAfter, "session.close"
			e.Data = recording.Data{"state": "complete", "count": int64(1), "head": e.Session.String()}
		}},
		"partial without why": {"value", func(e *recording.Event) {
			e.Phase, e.Type = evidence.PhaseAfter, "session.close"
			e.Data = recording.Data{"state": "partial", "count": int64(1), "head": e.Prev.String()}
		}},
	} {
		e := base()
		tc.alter(e)
		_, err := e.Encode()
		var bad *recording.EventError
		if !errors.As(err, &bad) || bad.Code != tc.code {
			t.Errorf("%s: %v, want %s", name, err, tc.code)
		}
	}
}

// A batch's root is RFC 6962's over the digests, by the reference tree.
func TestBatchRoot(t *testing.T) {
	ref := merkle.New(rfc6962.DefaultHasher)
	tree := recording.NewTree()
	for n := range 70 {
		d := evidence.SumSHA256([]byte{byte(n)})
		ref.AppendData(d[:])
		must(t, tree.Add(d))
		root, err := tree.Root()
		must(t, err)
		if root != evidence.Digest(ref.Hash()) || tree.Size() != int64(n+1) {
			t.Fatalf("root of %d events", n+1)
		}
	}
}

func TestFacts(t *testing.T) {
	b := &recording.Batch{Session: evidence.SumSHA256([]byte("s")), First: 3, Last: 9, Root: evidence.SumSHA256([]byte("r")), Head: evidence.SumSHA256([]byte("h"))}
	m := &evidence.Manifest{Phase: evidence.PhaseDuring, Step: recording.StepBatch, Dimensions: evidence.Dimensions{During: b.Facts()}}
	got, ok, err := recording.BatchOf(m)
	if err != nil || !ok || *got != *b {
		t.Errorf("%+v %v %v", got, ok, err)
	}
	for name, value := range map[string]string{"session": "x", "first": "03", "last": "2", "root": "", "head": "00"} {
		m.Dimensions.During = b.Facts()
		m.Dimensions.During[name] = value
		if _, ok, err := recording.BatchOf(m); !ok || err == nil {
			t.Errorf("a batch with %s %q is read", name, value)
		}
	}
	m.Step = "another"
	if _, ok, _ := recording.BatchOf(m); ok {
		t.Error("another step is a batch")
	}
	s := &recording.Summary{Session: b.Session, Count: 4, Head: b.Head, State: "partial", Reason: "断电"}
	m = &evidence.Manifest{Phase: evidence.PhaseAfter, Step: recording.StepSeal, Dimensions: evidence.Dimensions{After: s.Facts()}}
	if got, ok, err := recording.SummaryOf(m); err != nil || !ok || *got != *s {
		t.Errorf("%+v %v %v", got, ok, err)
	}
	o := &recording.Opening{Session: b.Session, Recorder: b.Head, Purpose: "p", Consent: "c"}
	m = &evidence.Manifest{Act: &evidence.Act{Kind: "record"}, Dimensions: evidence.Dimensions{Before: o.Facts()}}
	if got, ok, err := recording.OpeningOf(m); err != nil || !ok || *got != *o {
		t.Errorf("%+v %v %v", got, ok, err)
	}
}

func TestTime(t *testing.T) {
	at := time.Date(2026, 11, 22, 23, 5, 38, 120_999_999, time.FixedZone("", 8*3600))
	if s := recording.FormatTime(at); s != "2026-11-22T15:05:38.120Z" {
		t.Error(s)
	}
}

// What a body was on the wire comes back from payload and framing.
func TestReassemble(t *testing.T) {
	body := []byte(strings.Repeat("abcdefghij", 10))
	framing := []byte("21;x=y\r\n\r\n21;x=y\r\n\r\n21;x=y\r\n\r\n1;x=y\r\n\r\n0\r\nX-Trailer: 1\r\n\r\n")
	var wire bytes.Buffer
	must(t, recording.Reassemble(&wire, bytes.NewReader(body), bytes.NewReader(framing)))
	want := "21;x=y\r\n" + string(body[:33]) + "\r\n21;x=y\r\n" + string(body[33:66]) + "\r\n21;x=y\r\n" + string(body[66:99]) + "\r\n1;x=y\r\n" + string(body[99:]) + "\r\n0\r\nX-Trailer: 1\r\n\r\n"
	if wire.String() != want {
		t.Errorf("%q", wire.String())
	}
	for name, tc := range map[string]struct{ body, framing, want string }{
		"cut within a chunk":     {"abc", "5\r\n", "5\r\nabc"},
		"cut within a size line": {"abc", "3\r\n\r\n1", "3\r\nabc\r\n1"},
		"a size that is none":    {"abc", "3\r\n\r\nxyz\r\n", "3\r\nabc\r\nxyz\r\n"},
	} {
		var out bytes.Buffer
		if err := recording.Reassemble(&out, strings.NewReader(tc.body), strings.NewReader(tc.framing)); err != nil || out.String() != tc.want {
			t.Errorf("%s: %q %v", name, out.String(), err)
		}
	}
	if err := recording.Reassemble(io.Discard, strings.NewReader("ab"), strings.NewReader("5\r\n\r\n0\r\n\r\n")); err == nil {
		t.Error("a body that is too short for its framing is reassembled")
	}
}
