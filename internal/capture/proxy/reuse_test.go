package proxy

import (
	"bufio"
	"context"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// An origin that closes an idle connection closes the browser's too, which then
// opens another; no request is lost on the way.
func TestIdleOriginCloses(t *testing.T) {
	to := origin(t, nil, func(c net.Conn, r *bufio.Reader) {
		if _, err := readHead(r, 1<<20); err == nil {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	})
	w := newWorld(t, Config{Exceptions: exception("site.test", 80, to)})
	b, _ := w.tunnel("site.test:80")
	b.say("GET / HTTP/1.1\r\nHost: site.test\r\n\r\n")
	b.head()
	if got := b.rest(); got != "ok" { // and then the end
		t.Errorf("%q", got)
	}
	if e := ended(w.m.wait(t, ends(1)))[0]; e.Truncated != "" || e.Code != "" {
		t.Errorf("recorded as %q %q", e.Truncated, e.Code)
	}
}

// An origin that speaks unasked is not believed to answer the next request.
func TestUnaskedResponse(t *testing.T) {
	more := make(chan struct{})
	to := origin(t, nil, func(c net.Conn, r *bufio.Reader) {
		if _, err := readHead(r, 1<<20); err == nil {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			<-more
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged")
			_, _ = r.ReadByte() // until the proxy closes
		}
	})
	w := newWorld(t, Config{Exceptions: exception("site.test", 80, to)})
	b, _ := w.tunnel("site.test:80")
	b.say("GET / HTTP/1.1\r\nHost: site.test\r\n\r\n")
	b.head()
	b.read(2)
	close(more)
	if got := b.rest(); got != "" {
		t.Errorf("the browser read %q", got)
	}
}

// Requests to several hosts on one connection of the browser.
func TestHostsInTurn(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n"
	one, _ := says(t, nil, ok+"1", ok+"1")
	two, _ := says(t, nil, ok+"2", ok+"2", ok+"2")
	w := newWorld(t, Config{Exceptions: append(exception("one.test", 80, one), exception("two.test", 80, two)...)})
	b := w.dial()
	for _, host := range []string{"one", "two", "two", "one"} {
		b.say("GET http://" + host + ".test/ HTTP/1.1\r\nHost: " + host + ".test\r\n\r\n")
		b.head()
		if got := b.read(1); (got == "1") != (host == "one") {
			t.Errorf("%s answered %q", host, got)
		}
	}
	list := w.m.wait(t, ends(4))
	if n := len(connections(list)); n != 3 {
		t.Errorf("%d connections for one, two, two, one", n)
	}
	for _, e := range ended(list) {
		if !strings.Contains(e.URL, e.Conn.Host) {
			t.Errorf("%s on a connection to %s", e.URL, e.Conn.Host)
		}
	}
}

// The proxy serves a socket of the file system too: the only way out of a
// network namespace.
func TestUnixSocket(t *testing.T) {
	to, _ := says(t, nil, "HTTP/1.1 200 OK\r\n\r\nto the end")
	ca, err := NewCA("test", time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	m := newMemory()
	p, err := New(Config{Recorder: m, CA: ca, Resolver: &names{}, Exceptions: exception("site.test", 80, to)})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "exit")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- p.Serve(ctx, l) }()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "GET http://site.test/ HTTP/1.1\r\nHost: site.test\r\n\r\n")
	if got, err := io.ReadAll(c); err != nil || !strings.HasSuffix(string(got), "to the end") {
		t.Errorf("%q, %v", got, err)
	}
	stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// What a small exchange costs through the proxy, without the recorder's disk.
func BenchmarkSmallExchange(b *testing.B) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	answer := "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + strings.Repeat("x", 100)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			r := bufio.NewReader(c)
			for {
				if _, err := readHead(r, 1<<16); err != nil {
					break
				}
				io.WriteString(c, answer)
			}
			c.Close()
		}
	}()
	ca, err := NewCA("bench", time.Now(), time.Hour)
	if err != nil {
		b.Fatal(err)
	}
	p, err := New(Config{Recorder: newMemory(), CA: ca, Resolver: &names{}, Exceptions: exception("site.test", 80, l.Addr().(*net.TCPAddr).AddrPort())})
	if err != nil {
		b.Fatal(err)
	}
	front, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- p.Serve(ctx, front) }()
	run := func(name, addr, request string) {
		b.Run(name, func(b *testing.B) {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			buf := make([]byte, len(answer))
			for b.Loop() {
				io.WriteString(c, request)
				if _, err := io.ReadFull(c, buf); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	run("direct", l.Addr().String(), "GET / HTTP/1.1\r\nHost: site.test\r\n\r\n")
	run("proxy", front.Addr().String(), "GET http://site.test/ HTTP/1.1\r\nHost: site.test\r\n\r\n")
	stop()
	<-served
	l.Close()
	<-done
}
