package api

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
)

// readBatch splits an answer into its lines and its end.
func readBatch(t *testing.T, r io.Reader) ([]BatchLine, *BatchEnd) {
	t.Helper()
	var lines []BatchLine
	sc := bufio.NewScanner(r)
	for sc.Scan() {
		var end BatchEnd
		if err := json.Unmarshal(sc.Bytes(), &end); err != nil {
			t.Fatalf("%v in %q", err, sc.Text())
		}
		if end.End {
			if sc.Scan() {
				t.Fatalf("%q follows the end", sc.Text())
			}
			return lines, &end
		}
		var l BatchLine
		if err := json.Unmarshal(sc.Bytes(), &l); err != nil {
			t.Fatal(err)
		}
		if l.N != len(lines)+1 {
			t.Fatalf("line %d has number %d", len(lines)+1, l.N)
		}
		lines = append(lines, l)
	}
	return lines, nil
}

func (w *world) batch(kind string, body []byte, header ...string) ([]BatchLine, *BatchEnd, answerOf) {
	w.t.Helper()
	a := w.do("POST", "/api/v1/batches", body, append([]string{"Content-Type", kind}, header...)...)
	if a.status != 200 {
		return nil, nil, a
	}
	lines, end := readBatch(w.t, bytes.NewReader(a.body))
	return lines, end, a
}

func ndjson(items ...[]byte) []byte {
	var b bytes.Buffer
	for i, it := range items {
		s := base64.StdEncoding.EncodeToString(it)
		if i%2 == 0 {
			fmt.Fprintf(&b, "%q\n", s)
		} else {
			fmt.Fprintf(&b, "{\"statement\": %q}\r\n\n", s)
		}
	}
	return b.Bytes()
}

// One of every kind of bad statement among good ones: each costs its own line.
func TestBatchMixed(t *testing.T) {
	w := newWorld(t)
	good := func(i int) []byte { return w.deposit(w.alice, "m:alice", fmt.Sprint("batch ", i)).Bytes() }
	tampered := slices.Clone(good(90))
	tampered[len(tampered)-1] ^= 1
	nonMinimal := slices.Clone(good(91))
	nonMinimal = append([]byte{0xd2, 0x98, 0x04}, nonMinimal[2:]...)
	long := append([]byte{0x59, 0x20, 0x00}, make([]byte, 0x2000)...)
	items := [][]byte{good(0), tampered, good(1), {0x18, 0x2a}, w.deposit(w.ghost, "m:ghost", "x").Bytes(), nonMinimal, long, good(0), good(2)}
	want := []string{"ok", "bad-signature", "ok", "malformed", "unknown-key", "malformed", "oversize", "already-registered", "ok"}
	for kind, body := range map[string][]byte{typeCBORSeq: bytes.Join(items, nil), typeNDJSON: ndjson(items...)} {
		t.Run(kind, func(t *testing.T) {
			lines, end, a := w.batch(kind, body, "Accept-Language", "zh-CN")
			if a.header.Get("Content-Type") != typeNDJSON || end == nil || !end.Complete || end.Read != len(items) || end.Accepted != 4 || end.Refused != 5 {
				t.Fatalf("%+v", end)
			}
			for i, l := range lines {
				code := l.Code
				if code == "already-registered" && want[i] == "ok" { // of the other kind's run
					code = "ok"
				}
				if code != want[i] {
					t.Errorf("line %d: %+v, want %s", i+1, l, want[i])
				}
				if accepted := l.Status < 300; accepted != (l.Position != nil) || accepted == (l.Reason != "") || (!accepted && l.Reason != wordsOf(l.Code, chinese).title) {
					t.Errorf("line %d: %+v", i+1, l)
				}
			}
			if *lines[0].Position != *lines[7].Position || lines[0].Digest != evidence.SumSHA256(items[0]).String() {
				t.Errorf("%+v %+v", lines[0], lines[7])
			}
		})
	}
}

func TestBatchBrokenStreams(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Limits.BatchStatements = 4; c.Limits.BatchBytes = 20_000 })
	good := w.deposit(w.alice, "m:alice", "one").Bytes()
	for _, c := range []struct {
		name, kind string
		body       []byte
		lines      int
		code       string
	}{
		{"truncated", typeCBORSeq, append(slices.Clone(good), good[:100]...), 1, "stream-broken"},
		{"reserved", typeCBORSeq, append(slices.Clone(good), 0x1c), 1, "stream-broken"},
		{"stray break", typeCBORSeq, append(slices.Clone(good), 0xff), 1, "stream-broken"},
		{"nested", typeCBORSeq, append(slices.Clone(good), bytes.Repeat([]byte{0x81}, 100)...), 1, "stream-broken"},
		{"a string of 2^63 bytes", typeCBORSeq, append(slices.Clone(good), 0x5b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2), 1, "stream-broken"},
		{"a map of 2^62 pairs", typeCBORSeq, append(slices.Clone(good), 0xbb, 0x40, 0, 0, 0, 0, 0, 0, 0, 1, 2), 1, "stream-broken"},
		{"too many", typeCBORSeq, bytes.Repeat(good, 6), 4, "batch-limit"},
		{"too many lines", typeNDJSON, ndjson(good, good, good, good, good), 4, "batch-limit"},
		{"too long", typeCBORSeq, append(slices.Clone(good), append([]byte{0x5a, 0, 1, 0, 0}, make([]byte, 1<<16)...)...), 1, "batch-limit"},
		{"one endless line", typeNDJSON, append(ndjson(good), bytes.Repeat([]byte("A"), 30_000)...), 1, "batch-limit"},
	} {
		t.Run(c.name, func(t *testing.T) {
			lines, end, a := w.batch(c.kind, c.body)
			if end == nil || end.Complete || end.Code != c.code || len(lines) != c.lines || end.Reason == "" {
				t.Fatalf("%d lines, %+v, %d %.300s", len(lines), end, a.status, a.body)
			}
		})
	}
	// Nothing readable at all is a plain refusal.
	for body, code := range map[string]string{"": "empty", "\xff": "stream-broken"} {
		_, _, a := w.batch(typeCBORSeq, []byte(body))
		w.want(a, 400, code)
	}
	_, _, a := w.batch("text/csv", good)
	w.want(a, 415, "unsupported-media")
}

func TestBatchOverload(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Limits.SliceStatements = 2; c.Limits.BatchPatience = 25 * time.Millisecond })
	var items [][]byte
	for i := range 6 {
		items = append(items, w.deposit(w.alice, "m:alice", fmt.Sprint("overload ", i)).Bytes())
	}
	body := bytes.Join(items, nil)
	// A short overload is only slower.
	w.node.set(func() { w.node.overload = 1 })
	if lines, end, a := w.batch(typeCBORSeq, body[:len(items[0])*2]); end == nil || !end.Complete || len(lines) != 2 {
		t.Fatalf("%+v %d %s", end, a.status, a.body)
	}
	// A long one from the start is 429 with nothing taken.
	w.node.set(func() { w.node.overload = 1000 })
	_, _, a := w.batch(typeCBORSeq, body)
	w.want(a, 429, "overloaded")
	if a.header.Get("Retry-After") == "" {
		t.Fatal("no Retry-After")
	}
	// A long one in the middle: lines say so for the slice in hand, and the end.
	w.node.set(func() { w.node.overload = 0 })
	pr, pw := io.Pipe()
	r, _ := http.NewRequest("POST", w.url+"/api/v1/batches", pr)
	r.Header.Set("Content-Type", typeCBORSeq)
	go func() {
		_, _ = pw.Write(bytes.Join(items[:2], nil))
	}()
	res, err := http.DefaultClient.Do(r) // returns with the first lines, while the body is open
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	br := bufio.NewReader(res.Body)
	for range 2 {
		if line, err := br.ReadString('\n'); err != nil || !strings.Contains(line, `"status":2`) {
			t.Fatalf("%q %v", line, err)
		}
	}
	w.node.set(func() { w.node.overload = 1000 })
	go func() {
		_, _ = pw.Write(bytes.Join(items[2:], nil))
		_ = pw.Close()
	}()
	rest, _ := io.ReadAll(br)
	var last BatchEnd
	lines := strings.Split(strings.TrimSpace(string(rest)), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil || !last.End || last.Complete || last.Code != "overloaded" || last.RetryAfter < 1 || last.Accepted != 2 {
		t.Fatalf("%s", rest)
	}
	for _, l := range lines[:len(lines)-1] {
		if !strings.Contains(l, `"status":429`) || !strings.Contains(l, `"retry_after":1`) {
			t.Fatalf("%s", l)
		}
	}
	w.node.set(func() { w.node.overload = 0 })
}

// A million bytes a second or one byte: memory and slices stay bounded.
func TestBatchMemoryIsFlat(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Limits.SliceStatements = 100 })
	one := w.deposit(w.alice, "m:alice", "same").Bytes()
	const count = 20_000
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	body := io.LimitReader(&repeated{one: one}, int64(len(one))*count)
	r, _ := http.NewRequest("POST", w.url+"/api/v1/batches", body)
	r.Header.Set("Content-Type", typeCBORSeq)
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	n, peak := 0, uint64(0)
	for sc := bufio.NewScanner(res.Body); sc.Scan(); n++ {
		if n%5_000 == 0 {
			runtime.GC()
			runtime.ReadMemStats(&after)
			peak = max(peak, after.HeapAlloc)
		}
	}
	if n != count+1 {
		t.Fatalf("%d lines", n)
	}
	grown := int64(peak) - int64(before.HeapAlloc)
	t.Logf("%d bytes of live memory for a batch of %d", grown, len(one)*count)
	if grown > 16<<20 {
		t.Fatal("memory grows with the batch")
	}
	for _, size := range w.node.calls() {
		if size > 100 {
			t.Fatalf("a slice of %d", size)
		}
	}
}

type repeated struct {
	one []byte
	at  int
}

func (r *repeated) Read(b []byte) (int, error) {
	n := copy(b, r.one[r.at:])
	r.at = (r.at + n) % len(r.one)
	return n, nil
}

// A sender that drips is cut off, and gives its place back.
func TestBatchSlowSender(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Limits.ReadTimeout = 150 * time.Millisecond; c.Limits.MaxBatches = 1 })
	good := w.deposit(w.alice, "m:alice", "slow").Bytes()
	pr, pw := io.Pipe()
	quit := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = pw.Write(good)
		for _, b := range good {
			select {
			case <-quit:
				return
			case <-time.After(50 * time.Millisecond):
				if _, err := pw.Write([]byte{b}); err != nil {
					return
				}
			}
		}
	}()
	r, _ := http.NewRequest("POST", w.url+"/api/v1/batches", pr)
	r.Header.Set("Content-Type", typeCBORSeq)
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	// Meanwhile there is no second place.
	_, _, a := w.batch(typeCBORSeq, good)
	w.want(a, 429, "overloaded")
	lines, end := readBatch(t, res.Body)
	if len(lines) != 1 || end == nil || end.Code != "timeout" {
		t.Fatalf("%+v %+v", lines, end)
	}
	res.Body.Close()
	close(quit)
	_ = pr.CloseWithError(errors.New("done"))
	<-done
	for range 100 {
		if _, _, a = w.batch(typeCBORSeq, good); a.status == 200 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("the place was not given back: %d %s", a.status, a.body)
}

// A client that sends and never reads is cut off when nothing more fits on the
// way to it, and gives its place back.
func TestBatchDeafClient(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Limits.WriteTimeout = 200 * time.Millisecond; c.Limits.MaxBatches = 1 })
	c, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const count = 100_000 // one byte each, a line of 300 back: more than the kernel holds
	fmt.Fprintf(c, "POST /api/v1/batches HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n", typeCBORSeq, count)
	if _, err := c.Write(make([]byte, count)); err != nil {
		t.Fatal(err)
	}
	good := w.deposit(w.alice, "m:alice", "deaf").Bytes()
	var a answerOf
	for range 500 {
		if _, _, a = w.batch(typeCBORSeq, good); a.status == 200 {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("the place was not given back: %d %s", a.status, a.body)
}

// A stop ends a batch after the slice in hand, and says so.
func TestBatchStopping(t *testing.T) {
	w := newWorld(t)
	pr, pw := io.Pipe()
	r, _ := http.NewRequest("POST", w.url+"/api/v1/batches", pr)
	r.Header.Set("Content-Type", typeCBORSeq)
	written := make(chan struct{})
	go func() {
		defer close(written)
		_, _ = pw.Write(w.deposit(w.alice, "m:alice", "before the stop").Bytes())
	}()
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	<-written
	w.server.drain()
	lines, end := readBatch(t, res.Body) // while the sender waits
	if len(lines) != 1 || end == nil || end.Complete || end.Code != "stopping" || end.Accepted != 1 {
		t.Fatalf("%+v %+v", lines, end)
	}
	_ = pw.Close()
}

func FuzzBatchReaders(f *testing.F) {
	good := makeDeposit(f, newEd25519(f), "m:fuzz", "fuzz").Bytes()
	f.Add(good, true)
	f.Add(append(slices.Clone(good), good...), true)
	f.Add([]byte{0x9f, 0x01, 0xff, 0xbf, 0xff, 0x5f, 0x41, 0, 0xff, 0xfb, 0, 0, 0, 0, 0, 0, 0, 0}, true)
	f.Add([]byte{0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, true)
	f.Add(ndjson(good, good), false)
	f.Add([]byte("\"AA==\"\n{\"statement\":1}\n\n[]\n"), false)
	f.Fuzz(func(t *testing.T, stream []byte, binary bool) {
		var r batchReader = &jsonLines{br: bufio.NewReaderSize(bytes.NewReader(stream), maxLine+100)}
		if binary {
			r = &cborSequence{br: bufio.NewReader(bytes.NewReader(stream))}
		}
		var joined []byte
		lossless := true
		for n := 0; ; n++ {
			if n > len(stream) {
				t.Fatal("it never ends")
			}
			item, err := r.next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if item.broken != nil {
				if item.broken.status < 400 || item.broken.code == "" {
					t.Fatalf("%+v", item.broken)
				}
				lossless = false
				break
			}
			if item.bad != nil {
				lossless = false
				continue
			}
			if len(item.statement) > evidence.MaxStatement {
				t.Fatalf("%d bytes", len(item.statement))
			}
			joined = append(joined, item.statement...)
		}
		if binary && lossless && !bytes.Equal(joined, stream) {
			t.Fatalf("% x is split into % x", stream, joined)
		}
	})
}
