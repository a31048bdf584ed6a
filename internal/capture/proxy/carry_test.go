package proxy

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
)

// Byte for byte: what the origin says, however odd, is what is recorded and
// what the browser reads; what the browser says is what the origin reads.
func TestWireIsKept(t *testing.T) {
	const body = "正文 body"
	cases := []struct {
		name     string
		response string
		payload  string // what is left without transfer coding; "-": no blob
		framing  string
	}{
		{"case, order and doubles", "HTTP/1.1 200 All  Right \r\nset-cookie: a=1\r\nX-ODD:v\r\nSet-Cookie: b=2\r\nx-odd:\t w  \r\nCONTENT-length: 11\r\nX-Empty:\r\n\r\n" + body, body, ""},
		{"bare LF", "HTTP/1.1 200 OK\nContent-Length: 11\nX: y\n\n" + body, body, ""},
		{"a line that is no field", "HTTP/1.1 200 OK\r\nthis is nothing\r\nContent-Length: 11\r\n\r\n" + body, body, ""},
		{"no reason", "HTTP/1.1 200\r\nContent-Length: 11, 11\r\nContent-Length: 11\r\n\r\n" + body, body, ""},
		{"not UTF-8", "HTTP/1.1 200 OK\r\nX: \xff\xfe\xd6\xd0\r\nContent-Length: 2\r\n\r\n\xd6\xd0", "\xd6\xd0", ""},
		{"content coding stays", "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x08\x00", "\x1f\x8b\x08\x00", ""},
		{"chunk extensions and trailers", "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\nTrailer: X-Sum\r\n\r\n" +
			"3;name=\"v;w\";q\r\nabc\r\n0005  \r\ndefgh\r\n00;last\r\nX-Sum: 1\r\nx-other:2\r\n\r\n", "abcdefgh", "3;name=\"v;w\";q\r\n\r\n0005  \r\n\r\n00;last\r\nX-Sum: 1\r\nx-other:2\r\n\r\n"},
		{"empty chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "", "0\r\n\r\n"},
		{"chunked and a length", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 99\r\n\r\n1\r\nx\r\n0\r\n\r\n", "x", "1\r\n\r\n0\r\n\r\n"},
		{"up to the end", "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n" + body, body, ""},
		{"HTTP/1.0", "HTTP/1.0 200 OK\r\n\r\n" + body, body, ""},
		{"204", "HTTP/1.1 204 No Content\r\nX: 1\r\n\r\n", "-", ""},
		{"304 with a length", "HTTP/1.1 304 Not Modified\r\nContent-Length: 11\r\n\r\n", "-", ""},
		{"empty", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "-", ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			to, asked := says(t, nil, c.response)
			w := newWorld(t, Config{Exceptions: exception("site.test", 80, to)})
			b := w.dial()
			const request = "GET /a%20b?q=%E8%AF%81 HTTP/1.1\r\nhost: site.test\r\nX-b: 2\r\nX-A:1\r\nX-b:  3\t\r\nConnection: close\r\n\r\n"
			b.say(strings.Replace(request, "/a", "http://site.test/a", 1))
			got := b.rest()
			if got != c.response {
				t.Errorf("the browser read\n%q, not\n%q", got, c.response)
			}
			if asked.all() != request {
				t.Errorf("the origin read\n%q, not\n%q", asked.all(), request)
			}
			e := ended(w.m.wait(t, ends(1)))[0]
			if string(e.RequestHead) != request || e.URL != "http://site.test/a%20b?q=%E8%AF%81" || !slices.Equal(e.Edits, []string{EditTarget}) {
				t.Errorf("recorded of the request: %q, %q, %q", e.RequestHead, e.URL, e.Edits)
			}
			end := strings.Index(c.response, "\n\r\n") + 3
			if c.name == "bare LF" {
				end = strings.Index(c.response, "\n\n") + 2
			}
			if string(e.ResponseHead) != c.response[:end] {
				t.Errorf("recorded head %q", e.ResponseHead)
			}
			if e.Truncated != "" || e.Error != "" || e.RequestBody != nil {
				t.Errorf("recorded as truncated %q, error %q", e.Truncated, e.Error)
			}
			if c.payload == "-" {
				if e.ResponseBody != nil {
					t.Errorf("there is a body of %d octets", e.ResponseBody.Size)
				}
				return
			}
			if got := w.m.bytes(t, e.ResponseBody); string(got) != c.payload {
				t.Errorf("recorded payload %q", got)
			}
			if c.framing == "" {
				if e.ResponseFraming != nil {
					t.Error("there is framing")
				}
				return
			}
			framing := w.m.bytes(t, e.ResponseFraming)
			if string(framing) != c.framing {
				t.Errorf("recorded framing %q", framing)
			}
			var wire bytes.Buffer
			if err := Reassemble(&wire, bytes.NewReader(framing), bytes.NewReader(w.m.bytes(t, e.ResponseBody))); err != nil {
				t.Fatal(err)
			}
			if wire.String() != c.response[end:] {
				t.Errorf("put together again: %q", wire.String())
			}
		})
	}
}

// What two readers could read differently is not carried, and is recorded.
func TestDoubtIsRefused(t *testing.T) {
	responses := map[string]string{
		"folded line":         "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\nok",
		"bare CR":             "HTTP/1.1 200 OK\r\nX: a\rContent-Length: 2\r\n\r\nok",
		"NUL":                 "HTTP/1.1 200 OK\r\nX: a\x00b\r\nContent-Length: 2\r\n\r\nok",
		"two lengths":         "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
		"length with sign":    "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
		"length too large":    "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nok",
		"space before colon":  "HTTP/1.1 200 OK\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
		"another coding":      "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
		"coding twice":        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"coding in HTTP/1.0":  "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"HTTP/0.9":            "<html>hello</html>\r\n\r\n",
		"HTTP/2 status":       "HTTP/2 200\r\n\r\n",
		"status of 2 digits":  "HTTP/1.1 20 OK\r\n\r\n",
		"unasked 101":         "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
		"407":                 "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=x\r\nContent-Length: 0\r\n\r\n",
		"head without an end": "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("a", 300<<10) + "\r\n\r\n",
	}
	for name, response := range responses {
		t.Run(name, func(t *testing.T) {
			to, _ := says(t, nil, response)
			w := newWorld(t, Config{Exceptions: exception("site.test", 80, to)})
			b := w.dial()
			b.say("GET http://site.test/ HTTP/1.1\r\nHost: site.test\r\n\r\n")
			if got := b.rest(); !strings.HasPrefix(got, "HTTP/1.1 502 ") || !strings.Contains(got, "no content of the site") {
				t.Errorf("the browser read %.200q", got)
			}
			e := ended(w.m.wait(t, ends(1)))[0]
			if e.Code != CodeResponse || e.Error == "" || len(e.ResponseHead) == 0 && name != "head without an end" {
				t.Errorf("recorded as %q %q, head %q", e.Code, e.Error, e.ResponseHead)
			}
		})
	}
	requests := map[string]string{
		"folded line":        "GET http://site.test/ HTTP/1.1\r\nHost: site.test\r\n x\r\n\r\n",
		"bare LF":            "GET http://site.test/ HTTP/1.1\nHost: site.test\n\n",
		"no colon":           "GET http://site.test/ HTTP/1.1\r\nHost: site.test\r\nnothing\r\n\r\n",
		"both framings":      "POST http://site.test/ HTTP/1.1\r\nHost: site.test\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"another host":       "GET http://site.test/ HTTP/1.1\r\nHost: other.test\r\n\r\n",
		"two hosts":          "GET http://site.test/ HTTP/1.1\r\nHost: site.test\r\nHost: site.test\r\n\r\n",
		"no host":            "GET http://site.test/ HTTP/1.1\r\n\r\n",
		"origin form":        "GET / HTTP/1.1\r\nHost: site.test\r\n\r\n",
		"another scheme":     "GET ftp://site.test/ HTTP/1.1\r\nHost: site.test\r\n\r\n",
		"https without TLS":  "GET https://site.test/ HTTP/1.1\r\nHost: site.test\r\n\r\n",
		"HTTP/2 preface":     "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"space in target":    "GET http://site.test/a b HTTP/1.1\r\nHost: site.test\r\n\r\n",
		"something else":     "\x04\x01\x00\x50\r\n\r\n",
		"user information":   "GET http://me:secret@site.test/ HTTP/1.1\r\nHost: site.test\r\n\r\n",
		"fragment as a host": "GET http://site.test#@x/ HTTP/1.1\r\nHost: site.test\r\n\r\n",
	}
	for name, request := range requests {
		t.Run("request: "+name, func(t *testing.T) {
			to, asked := says(t, nil, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			w := newWorld(t, Config{Exceptions: exception("site.test", 80, to)})
			b := w.dial()
			b.say(request)
			if got := b.rest(); !strings.HasPrefix(got, "HTTP/1.1 40") {
				t.Errorf("the browser read %.200q", got)
			}
			e := ended(w.m.wait(t, ends(1)))[0]
			if e.Code == "" || e.Requested != (time.Time{}) || e.RequestHead != nil || asked.all() != "" {
				t.Errorf("recorded as %q %q; the origin was asked %q", e.Code, e.Error, asked.all())
			}
			if len(e.BrowserHead) == 0 {
				t.Error("what the browser said is not recorded")
			}
		})
	}
}

// The edits of a request are the ones named, and nothing else.
func TestRequestEdits(t *testing.T) {
	to, asked := says(t, nil, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
	w := newWorld(t, Config{Exceptions: exception("site.test", 80, to)})
	b := w.dial()
	request := "GET http://site.test?x HTTP/1.1\r\nHost: site.test\r\nProxy-Connection: keep-alive\r\nAccept-Encoding: zstd, gzip;q=0.5,  br, dcb\r\nproxy-authorization: x\r\nX:  y \r\n\r\n"
	b.say(request)
	b.rest()
	want := "GET /?x HTTP/1.1\r\nHost: site.test\r\nAccept-Encoding: gzip;q=0.5,  br\r\nX:  y \r\n\r\n"
	e := ended(w.m.wait(t, ends(1)))[0]
	if asked.all() != want || string(e.RequestHead) != want {
		t.Errorf("the origin read %q, recorded %q", asked.all(), e.RequestHead)
	}
	if string(e.BrowserHead) != request || !slices.Equal(e.Edits, []string{EditTarget, EditProxyFields, EditAcceptEncoding}) {
		t.Errorf("recorded of the browser: %q, edits %q", e.BrowserHead, e.Edits)
	}
}

// Connections are used again; each exchange is recorded apart, in order, and
// with the connection that carried it.
func TestConnectionsAreReused(t *testing.T) {
	root := newTestCA(t)
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprint("tls ", secure), func(t *testing.T) {
			answers := []string{
				"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none",
				"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ntwo\r\n0\r\n\r\n",
				"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", // to HEAD
				"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nfour",
			}
			config := root.server("site.test", time.Now().Add(time.Hour))
			if !secure {
				config = nil
			}
			to, _ := says(t, config, answers...)
			port, prefix := uint16(80), "http://site.test"
			if secure {
				port, prefix = 443, ""
			}
			w := newWorld(t, Config{Exceptions: exception("site.test", port, to), Roots: root.pool(), RootsName: "test"})
			b := w.dial()
			if secure {
				var answer string
				b, answer = w.tunnel("site.test:443")
				if !strings.HasPrefix(answer, "HTTP/1.1 200 ") {
					t.Fatal(answer)
				}
				var err error
				if b, err = b.secure(w, "site.test"); err != nil {
					t.Fatal(err)
				}
			}
			for i, answer := range answers {
				method := "GET"
				if i == 2 {
					method = "HEAD"
				}
				b.say(method + " " + prefix + "/ HTTP/1.1\r\nHost: site.test\r\n\r\n")
				if got := b.read(len(answer)); got != answer {
					t.Fatalf("answer %d is %q", i, got)
				}
			}
			list := w.m.wait(t, ends(4))
			all := ended(list)
			for i, e := range all {
				if e.Conn != all[0].Conn || i > 0 && e.ID <= all[i-1].ID {
					t.Errorf("exchange %d is on another connection or out of order", i)
				}
			}
			if n := len(connections(list)); n != 1 {
				t.Errorf("%d connections", n)
			}
			if len(all[3].Interim) != 1 || all[3].Status != 404 || all[2].ResponseBody != nil || all[2].Method != "HEAD" {
				t.Errorf("recorded: interim %q, status %d", all[3].Interim, all[3].Status)
			}
			var stages []Stage
			for _, e := range list {
				stages = append(stages, e.Stage)
			}
			want := []Stage{StageConnection}
			for range answers {
				want = append(want, StageRequest, StageResponse, StageEnd)
			}
			if !slices.Equal(stages, want) {
				t.Errorf("stages %q", stages)
			}
			if secure && (all[0].URL != "https://site.test/" || all[0].Conn.TLS.Verdict != "" || all[0].Conn.TLS.Roots != "test" || all[0].Conn.TLS.ALPN != "http/1.1") {
				t.Errorf("%q on %+v", all[0].URL, all[0].Conn.TLS)
			}
		})
	}
}

// Request bodies: with a length, chunked with extensions, with 100-continue.
func TestRequestBodies(t *testing.T) {
	long := strings.Repeat("0123456789abcdef", 20000)
	cases := []struct{ name, fields, wire, payload string }{
		{"length", "Content-Length: 320000\r\n", long, long},
		{"chunked", "Transfer-Encoding: chunked\r\n", "4e200;x\r\n" + long + "\r\n1\r\nz\r\n0\r\nT: 1\r\n\r\n", long + "z"},
	}
	for _, c := range cases {
		for _, expect := range []bool{false, true} {
			t.Run(fmt.Sprint(c.name, " expect ", expect), func(t *testing.T) {
				got := make(chan string, 1)
				to := origin(t, nil, func(conn net.Conn, r *bufio.Reader) {
					if _, err := readHead(r, 1<<20); err != nil {
						return
					}
					if expect {
						io.WriteString(conn, "HTTP/1.1 100 Continue\r\nX-A: 1\r\n\r\n")
					}
					buf := make([]byte, len(c.wire))
					_, _ = io.ReadFull(r, buf) // what came is compared
					got <- string(buf)
					io.WriteString(conn, "HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok")
				})
				w := newWorld(t, Config{Exceptions: exception("site.test", 80, to)})
				b := w.dial()
				fields := c.fields
				if expect {
					fields += "Expect: 100-continue\r\n"
				}
				b.say("POST http://site.test/up HTTP/1.1\r\nHost: site.test\r\nContent-Type: text/x\r\n" + fields + "\r\n")
				if expect {
					if h := b.head(); h != "HTTP/1.1 100 Continue\r\nX-A: 1\r\n\r\n" {
						t.Fatalf("%q", h)
					}
				}
				b.say(c.wire)
				if <-got != c.wire {
					t.Error("the origin read other octets")
				}
				b.head()
				b.read(2)
				e := ended(w.m.wait(t, ends(1)))[0]
				if string(w.m.bytes(t, e.RequestBody)) != c.payload || e.RequestBody.Media != "text/x" || e.RequestTruncated != "" {
					t.Errorf("recorded %d octets of %q, truncated %q", e.RequestBody.Size, e.RequestBody.Media, e.RequestTruncated)
				}
				if c.name == "chunked" {
					var wire bytes.Buffer
					if err := Reassemble(&wire, bytes.NewReader(w.m.bytes(t, e.RequestFraming)), bytes.NewReader(w.m.bytes(t, e.RequestBody))); err != nil || wire.String() != c.wire {
						t.Errorf("put together again: %d octets, %v", wire.Len(), err)
					}
				}
				if expect != (len(e.Interim) == 1) {
					t.Errorf("interim %q", e.Interim)
				}
			})
		}
	}
}

// The origin answers before it has read the request.
func TestAnsweredEarly(t *testing.T) {
	answered := make(chan struct{})
	to := origin(t, nil, func(conn net.Conn, r *bufio.Reader) {
		if _, err := readHead(r, 1<<20); err == nil {
			io.WriteString(conn, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno")
			<-answered
		}
	})
	w := newWorld(t, Config{Exceptions: exception("site.test", 80, to)})
	b := w.dial()
	b.say("POST http://site.test/up HTTP/1.1\r\nHost: site.test\r\nContent-Length: 1000\r\n\r\npart")
	b.head()
	if got := b.rest(); got != "no" {
		t.Errorf("the browser read %q", got)
	}
	close(answered)
	e := ended(w.m.wait(t, ends(1)))[0]
	if e.Status != 413 || e.RequestTruncated != TruncatedEarly || string(w.m.bytes(t, e.RequestBody)) != "part" || e.Truncated != "" {
		t.Errorf("recorded: %d %q %q", e.Status, e.RequestTruncated, e.Truncated)
	}
}

// Truncation, each with its reason; the browser sees it too.
func TestTruncation(t *testing.T) {
	hold := make(chan struct{})
	t.Cleanup(func() { close(hold) })
	cases := []struct {
		name, response, reason, payload string
		stay                            bool // the origin stays silent
		limits                          Limits
	}{
		{"length", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345", TruncatedOrigin, "12345", false, Limits{}},
		{"chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nA\r\n12345", TruncatedOrigin, "12345", false, Limits{}},
		{"no last chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n", TruncatedOrigin, "12345", false, Limits{}},
		{"bad chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\nzz\r\n", TruncatedFraming, "12345", false, Limits{}},
		{"long chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n123456\r\n0\r\n\r\n", TruncatedFraming, "12345", false, Limits{}},
		{"negative chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n-1\r\n", TruncatedFraming, "12345", false, Limits{}},
		{"chunk of LF", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n5\n", TruncatedFraming, "12345", false, Limits{}},
		{"stalled", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345", TruncatedStalled, "12345", true, Limits{Stall: 300 * time.Millisecond}},
		{"limit", "HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n" + strings.Repeat("x", 2000), TruncatedLimit, strings.Repeat("x", 2000), false, Limits{SessionBytes: 600}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			to := origin(t, nil, func(conn net.Conn, r *bufio.Reader) {
				if _, err := readHead(r, 1<<20); err == nil {
					io.WriteString(conn, c.response)
					if c.stay {
						_, _ = r.ReadByte() // until the proxy closes
					}
				}
			})
			w := newWorld(t, Config{Exceptions: exception("site.test", 80, to), Limits: c.limits})
			b := w.dial()
			b.say("GET http://site.test/ HTTP/1.1\r\nHost: site.test\r\n\r\n")
			b.rest()
			e := ended(w.m.wait(t, ends(1)))[0]
			if e.Truncated != c.reason || !strings.HasPrefix(c.payload, string(w.m.bytes(t, e.ResponseBody))) || e.Status != 200 {
				t.Errorf("recorded: truncated %q, payload %q", e.Truncated, w.m.bytes(t, e.ResponseBody))
			}
			if c.reason != TruncatedLimit && string(w.m.bytes(t, e.ResponseBody)) != c.payload {
				t.Errorf("recorded payload %q", w.m.bytes(t, e.ResponseBody))
			}
		})
	}
}

// The browser goes in the middle of a stream; the session ends in the middle of
// one; the origin closes without a word.
func TestEndsBeforeTheEnd(t *testing.T) {
	stream := func(conn net.Conn, r *bufio.Reader) {
		if _, err := readHead(r, 1<<20); err == nil {
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
			_, _ = r.ReadByte() // until the proxy closes
		}
	}
	const get = "GET http://site.test/ HTTP/1.1\r\nHost: site.test\r\n\r\n"
	t.Run("browser", func(t *testing.T) {
		w := newWorld(t, Config{Exceptions: exception("site.test", 80, origin(t, nil, stream))})
		b := w.dial()
		b.say(get)
		b.head()
		if got := b.read(9); got != "data: 1\n\n" { // at once, not when a buffer is full
			t.Fatal(got)
		}
		b.Close()
		e := ended(w.m.wait(t, ends(1)))[0]
		if e.Truncated != TruncatedBrowser || string(w.m.bytes(t, e.ResponseBody)) != "data: 1\n\n" || e.Media != "text/event-stream" {
			t.Errorf("truncated %q", e.Truncated)
		}
	})
	t.Run("session", func(t *testing.T) {
		w := newWorld(t, Config{Exceptions: exception("site.test", 80, origin(t, nil, stream))})
		b := w.dial()
		b.say(get)
		b.head()
		b.read(9)
		if err := w.end(); err != nil {
			t.Error(err)
		}
		e := ended(w.m.wait(t, ends(1)))[0]
		if e.Truncated != TruncatedSession || string(w.m.bytes(t, e.ResponseBody)) != "data: 1\n\n" {
			t.Errorf("truncated %q", e.Truncated)
		}
	})
	t.Run("browser before the response", func(t *testing.T) {
		asked := make(chan struct{}, 1)
		w := newWorld(t, Config{Exceptions: exception("site.test", 80, origin(t, nil, func(conn net.Conn, r *bufio.Reader) {
			_, _ = readHead(r, 1<<20)
			asked <- struct{}{}
			_, _ = r.ReadByte() // until the proxy closes
		}))})
		b := w.dial()
		b.say(get)
		<-asked
		b.Close()
		if e := ended(w.m.wait(t, ends(1)))[0]; e.Code != CodeBrowser {
			t.Errorf("code %q", e.Code)
		}
	})
	t.Run("origin without a word", func(t *testing.T) {
		w := newWorld(t, Config{Exceptions: exception("site.test", 80, origin(t, nil, func(_ net.Conn, r *bufio.Reader) { _, _ = readHead(r, 1<<20) }))})
		b := w.dial()
		b.say(get)
		if got := b.rest(); !strings.HasPrefix(got, "HTTP/1.1 502 ") {
			t.Errorf("%.100q", got)
		}
		if e := ended(w.m.wait(t, ends(1)))[0]; e.Code != CodeOrigin {
			t.Errorf("code %q", e.Code)
		}
	})
}

// A recorder that fails ends the session before anything is passed on.
func TestRecorderFails(t *testing.T) {
	full := errors.New("the disk is full")
	for _, stage := range []Stage{StageConnection, StageRequest, StageResponse, StageEnd} {
		t.Run(string(stage), func(t *testing.T) {
			to, asked := says(t, nil, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody")
			m := newMemory()
			m.refuse = func(e Exchange) error {
				if e.Stage == stage {
					return full
				}
				return nil
			}
			w := newWorld(t, Config{Recorder: m, Exceptions: exception("site.test", 80, to)})
			b := w.dial()
			b.say("GET http://site.test/ HTTP/1.1\r\nHost: site.test\r\n\r\n")
			got := b.rest()
			err := <-w.served
			w.served = nil
			if !errors.Is(err, full) {
				t.Errorf("Serve said %v", err)
			}
			if strings.Contains(got, "body") || stage != StageEnd && got != "" {
				t.Errorf("the browser read %q", got)
			}
			if before := stage == StageConnection || stage == StageRequest; before && asked.all() != "" {
				t.Errorf("the origin was asked %q", asked.all())
			}
		})
	}
	t.Run("blob", func(t *testing.T) {
		body := strings.Repeat("x", 100000)
		to, _ := says(t, nil, "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"+body)
		m := newMemory()
		m.fullAt = 50000
		w := newWorld(t, Config{Recorder: m, Exceptions: exception("site.test", 80, to)})
		b := w.dial()
		b.say("GET http://site.test/ HTTP/1.1\r\nHost: site.test\r\n\r\n")
		got := b.rest()
		err := <-w.served
		w.served = nil
		if err == nil || !strings.Contains(err.Error(), "no space left") || strings.Count(got, "x") > 50000 {
			t.Errorf("Serve said %v; the browser read %d octets", err, len(got))
		}
	})
}

// When the browser holds the whole response, the record of it is complete.
func TestRecordedBeforeSeen(t *testing.T) {
	to, _ := says(t, nil, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody")
	m := newMemory()
	passed := make(chan struct{})
	m.refuse = func(e Exchange) error {
		if e.Stage == StageEnd {
			<-passed
		}
		return nil
	}
	w := newWorld(t, Config{Recorder: m, Exceptions: exception("site.test", 80, to)})
	b := w.dial()
	b.say("GET http://site.test/ HTTP/1.1\r\nHost: site.test\r\n\r\n")
	read := make(chan string, 1)
	go func() {
		raw, _ := readHead(b.r, 1<<20)
		buf := make([]byte, 4)
		n, _ := io.ReadFull(b.r, buf)
		read <- string(raw) + string(buf[:n])
	}()
	w.m.wait(t, func(list []Exchange) bool { return len(list) >= 2 })
	select {
	case got := <-read:
		t.Errorf("the browser read %q before the record was there", got)
	case <-time.After(200 * time.Millisecond):
	}
	close(passed)
	if got := <-read; !strings.HasSuffix(got, "body") {
		t.Errorf("the browser read %q", got)
	}
	if d := evidence.Digest(ended(w.m.wait(t, ends(1)))[0].ResponseBody.SHA256); d == (evidence.Digest{}) {
		t.Error("no digest")
	}
}
