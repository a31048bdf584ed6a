package browser

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/zhenglian/zhenglian/internal/capture/proxy"
	"github.com/zhenglian/zhenglian/internal/capture/sandbox"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// long enough for a browser on a loaded machine; nothing is asserted about it.
const long = 20 * time.Second

// record keeps what the proxy carried and drops the bytes.
type record struct {
	mu        sync.Mutex
	exchanges []proxy.Exchange
}

func (r *record) Record(_ context.Context, e proxy.Exchange) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.exchanges = append(r.exchanges, e)
	return nil
}

// asked is what reached the proxy: host and error code of each connection.
func (r *record) all() []proxy.Exchange {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.exchanges)
}

func (r *record) Blob(role, media string) (proxy.BlobWriter, error) {
	return &nothing{role: role, media: media}, nil
}

type nothing struct {
	role, media string
	size        int64
}

func (n *nothing) Write(p []byte) (int, error) { n.size += int64(len(p)); return len(p), nil }
func (n *nothing) Commit() (proxy.Blob, error) {
	return proxy.Blob{Role: n.role, Media: n.media, Size: n.size}, nil
}
func (n *nothing) Abort() {}

// world is a site, the proxy, the room and the browser.
type world struct {
	t      testing.TB
	b      *Browser
	room   *sandbox.Room
	record *record
	cancel context.CancelFunc
	ctx    context.Context

	mu     sync.Mutex
	events []Event
	more   chan struct{}
	acts   []string
}

type options struct {
	config  Config
	room    sandbox.Config
	noFrame bool // events are taken, pictures are not kept
}

func newWorld(t testing.TB, site http.Handler, o options) *world {
	t.Helper()
	w := &world{t: t, record: &record{}, more: make(chan struct{})}
	server := httptest.NewServer(site)
	t.Cleanup(server.Close)
	at := netip.MustParseAddrPort(server.Listener.Addr().String())
	o.room.Folder = t.TempDir()
	for dir := o.room.Folder; dir != os.TempDir() && dir != "/"; dir = dir[:strings.LastIndexByte(dir, '/')] {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	w.room, err = sandbox.Open(t.Context(), o.room)
	var missing *sandbox.Incomplete
	if errors.As(err, &missing) {
		t.Skip(missing.Text("en"))
	}
	if err != nil {
		t.Fatal(err)
	}
	ca, err := proxy.NewCA("test", time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	c := proxy.Config{Recorder: w.record, CA: ca}
	for _, host := range []string{"site.example.test", "other.example.org", "bad.example.test"} {
		c.Exceptions = append(c.Exceptions, proxy.Exception{Host: host, Port: 80, Dial: at})
	}
	// The same site over TLS with a certificate that nobody vouches for.
	secure := httptest.NewTLSServer(site)
	t.Cleanup(secure.Close)
	c.Exceptions = append(c.Exceptions, proxy.Exception{Host: "bad.example.test", Port: 443, Dial: netip.MustParseAddrPort(secure.Listener.Addr().String())})
	p, err := proxy.New(c)
	if err != nil {
		t.Fatal(err)
	}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- p.Serve(w.ctx, w.room.Listener()) }()
	o.config.Room, o.config.SPKI = w.room, ca.SPKI()
	if o.config.Before == nil {
		o.config.Before = func(_ context.Context, tab TabID, a Act) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.acts = append(w.acts, fmt.Sprintf("%d %s %v", tab, a.Kind(), a.Fields()))
			return nil
		}
	}
	w.b, err = Start(w.ctx, o.config)
	if err != nil {
		w.cancel()
		<-served
		w.room.Close()
		t.Fatal(err)
	}
	taken := make(chan struct{})
	go func() {
		defer close(taken)
		for e := range w.b.Events() {
			if _, ok := e.Body.(Frame); ok && o.noFrame {
				continue
			}
			w.mu.Lock()
			w.events = append(w.events, e)
			close(w.more)
			w.more = make(chan struct{})
			w.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), long)
		defer cancel()
		if err := w.b.Close(ctx); err != nil {
			t.Error(err)
		}
		<-taken
		w.cancel()
		if err := <-served; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if err := w.room.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			for _, e := range w.all() {
				if _, ok := e.Body.(Frame); !ok {
					t.Logf("%d tab %d %s %+v", e.Seq, e.Tab, e.Body.Kind(), e.Body)
				}
			}
			for _, e := range w.record.all() {
				t.Logf("wire %d stage %v %s %s", e.ID, e.Stage, e.Code, e.Error)
			}
		}
	})
	return w
}

func (w *world) all() []Event {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.events)
}

// mark is a place in the events: what comes after it is new.
func (w *world) mark() int { return len(w.all()) }

// wait returns the first event after a mark for which is holds, as its type.
func wait[B Body](w *world, from int, is func(B) bool) (Event, B) {
	w.t.Helper()
	end := time.After(long)
	for {
		w.mu.Lock()
		more := w.more
		for _, e := range w.events[min(from, len(w.events)):] {
			if body, ok := e.Body.(B); ok && is(body) {
				w.mu.Unlock()
				return e, body
			}
		}
		w.mu.Unlock()
		select {
		case <-more:
		case <-end:
			var zero B
			w.t.Fatalf("no %s came", zero.Kind())
		}
	}
}

func any1[B Body](B) bool { return true }

// do lets acts through, all of them.
func (w *world) do(acts ...Act) {
	w.t.Helper()
	for _, a := range acts {
		ctx, cancel := context.WithTimeout(w.ctx, long)
		err := w.b.Input(ctx, a)
		cancel()
		if err != nil {
			w.t.Fatalf("%s %v: %v", a.Kind(), a.Fields(), err)
		}
	}
}

// open goes to a page of the site and waits until it is loaded.
func (w *world) open(address string) {
	w.t.Helper()
	from := w.mark()
	w.do(Navigate{address})
	wait(w, from, any1[NavLoaded])
}

func (w *world) click(x, y int) {
	w.t.Helper()
	w.do(Mouse{Type: "move", X: x, Y: y}, Mouse{Type: "down", X: x, Y: y, Button: "left", Clicks: 1}, Mouse{Type: "up", X: x, Y: y, Button: "left", Clicks: 1})
}

// says waits until the page's text holds something, and returns the text.
func (w *world) says(want string) string {
	w.t.Helper()
	var text string
	for end := time.Now().Add(long); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(w.ctx, long)
		var err error
		text, err = w.b.VisibleText(ctx)
		cancel()
		if err == nil && strings.Contains(text, want) {
			return text
		}
	}
	w.t.Fatalf("the page does not say %q: %q", want, text)
	return ""
}

// page serves one page at every path.
func site(pages map[string]string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, ok := pages[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		io.WriteString(w, "<!doctype html><meta charset=utf-8><style>body{margin:0}</style>"+body)
	})
}

const home = "http://site.example.test"
