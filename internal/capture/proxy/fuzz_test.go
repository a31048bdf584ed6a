package proxy

import (
	"bufio"
	"bytes"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

// Whatever a head is: no panic, no octet lost, and where another reader of
// HTTP takes it too, the same idea of where the body ends.
func FuzzHead(f *testing.F) {
	for _, s := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n", "HTTP/1.1 204\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip, zstd\r\nProxy-Connection: x\r\n\r\n", "HTTP/1.1 200 OK\r\n folded\r\n\r\n", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n", "\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding : chunked\r\nContent-Length: 4\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bufio.NewReaderSize(bytes.NewReader(data), bufferSize)
		raw, err := readHead(r, 1<<16)
		if !bytes.HasPrefix(data, raw) {
			t.Fatal("octets were changed")
		}
		if err != nil {
			return
		}
		if h, err := parseHead(raw, false); err == nil {
			if _, _, _, err := h.requestLine(); err == nil {
				again, edits := h.forOrigin("")
				if len(edits) == 0 && !bytes.Equal(again, raw) {
					t.Fatalf("changed without an edit: %q", again)
				}
				g, err := parseHead(again, false)
				if err != nil {
					t.Fatalf("an edited head is none: %q: %v", again, err)
				}
				if more, edits := g.forOrigin(""); len(edits) != 0 || !bytes.Equal(more, again) {
					t.Fatalf("edited twice: %q", more)
				}
			}
		}
		h, err := parseHead(raw, true)
		if err != nil {
			return
		}
		status, minor, err := h.statusLine()
		if err != nil {
			return
		}
		how, err := h.responseFraming("GET", status, minor)
		if err != nil || how.none && len(h.values("Content-Length")) == 0 {
			return
		}
		theirs, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(raw)), &http.Request{Method: "GET"})
		if err != nil {
			return
		}
		chunked := len(theirs.TransferEncoding) == 1 && theirs.TransferEncoding[0] == "chunked"
		switch {
		case status/100 == 1 || status == 204 || status == 304:
		case chunked != how.chunked:
			t.Fatalf("%q: chunked is %v here and %v there", raw, how.chunked, chunked)
		case !chunked && theirs.ContentLength >= 0 && (how.toClose || theirs.ContentLength != how.length):
			t.Fatalf("%q: %+v here, %d there", raw, how, theirs.ContentLength)
		case !chunked && theirs.ContentLength < 0 && !how.toClose:
			t.Fatalf("%q: %+v here, to the end there", raw, how)
		}
	})
}

// Whatever a chunked body is: the wire comes back from payload and framing.
func FuzzChunks(f *testing.F) {
	for _, s := range []string{"3\r\nabc\r\n0\r\n\r\n", "3;x=\"\r\"\r\nabc\r\n0\r\nT: 1\r\n\r\n", "0\r\n\r\nrest", "ffffffffffffffff\r\nx", "1\r\nab", "5\r\nabc", ""} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var body, frames, wire bytes.Buffer
		r := newBodyReader(bufio.NewReaderSize(bytes.NewReader(data), bufferSize), framing{chunked: true}, 1<<16, &body, &frames)
		for {
			piece, last, err := r.next()
			wire.Write(piece)
			if last || err != nil {
				if !bytes.HasPrefix(data, wire.Bytes()) {
					t.Fatal("octets were changed")
				}
				var again bytes.Buffer
				rerr := Reassemble(&again, bytes.NewReader(frames.Bytes()), bytes.NewReader(body.Bytes()))
				if last && (rerr != nil || !bytes.Equal(again.Bytes(), wire.Bytes())) {
					t.Fatalf("put together again: %q, not %q: %v", again.Bytes(), wire.Bytes(), rerr)
				}
				if err != nil && !bytes.HasPrefix(data, again.Bytes()) {
					t.Fatalf("a cut body comes back as %q", again.Bytes())
				}
				return
			}
		}
	})
}

// The guard takes any text.
func FuzzHost(f *testing.F) {
	for _, s := range []string{"example.com", "127.0.0.1", "[::1]", "0x7f.1", "a..b", "[::ffff:1.2.3.4]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name, addr, err := CheckHost(s)
		if err != nil {
			return
		}
		if addr.IsValid() {
			if addr.IsLoopback() || addr.IsPrivate() || addr.IsLinkLocalUnicast() || addr.IsMulticast() || addr.IsUnspecified() || addr.Is4In6() || !addr.IsGlobalUnicast() {
				t.Fatalf("%q passes as %s", s, addr)
			}
			return
		}
		last := name[strings.LastIndexByte(name, '.')+1:]
		digits, base := last, 10
		if rest, ok := strings.CutPrefix(last, "0x"); ok {
			digits, base = rest, 16
		}
		if _, err := strconv.ParseUint(digits, base, 64); err == nil || !strings.Contains(name, ".") {
			t.Fatalf("%q passes as a name", name)
		}
		if again, _, err := CheckHost(name); err != nil || again != name {
			t.Fatalf("%q is %q the second time: %v", name, again, err)
		}
	})
}
