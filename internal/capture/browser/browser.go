package browser

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	cdpbrowser "github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/target"

	"github.com/zhenglian/zhenglian/internal/capture/sandbox"
)

// Config of a browser. Room, SPKI and Before must be there.
type Config struct {
	Room *sandbox.Room // open; its Listener is served by the session's proxy
	// SPKI is the base64 of the SHA-256 of the session authority's public key: the
	// one certificate that the browser believes beside its own roots.
	SPKI string
	// Before is called with every act before it goes to the browser, one at a time
	// and in the order in which they go. An error keeps the act back and ends the
	// browser with ReasonRecord: what cannot be written down does not happen.
	Before func(ctx context.Context, tab TabID, act Act) error
	// Width and Height of the page in CSS pixels; default 1280 × 720.
	Width, Height int
	Quality       int    // of pictures, 1 to 100; default 80
	Language      string // "zh-CN" by default
	UserAgent     string // "": the browser's own words
	Tabs          int    // at most so many at a time; default 12
}

func (c Config) filled() (Config, error) {
	if c.Room == nil || c.Before == nil {
		return c, errors.New("a recorded browser needs a sandbox and a record")
	}
	if raw, err := base64.StdEncoding.DecodeString(c.SPKI); err != nil || len(raw) != 32 {
		return c, fmt.Errorf("the key of the session's authority is no SHA-256 in base64: %q", c.SPKI)
	}
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	def(&c.Width, 1280)
	def(&c.Height, 720)
	def(&c.Quality, 80)
	def(&c.Tabs, 12)
	if c.Language == "" {
		c.Language = "zh-CN"
	}
	return c, errors.Join(within("width", c.Width, 320, 3840), within("height", c.Height, 240, 2160), within("quality", c.Quality, 1, 100), within("tabs", c.Tabs, 1, 100))
}

// Browser is one running Chromium.
type Browser struct {
	config Config
	child  *sandbox.Child
	wire   *wire
	said   *tail // what the process wrote
	events chan Event
	drop   chan struct{} // closed: nobody takes events any more
	done   chan struct{} // closed when all goroutines have ended
	begun  chan struct{} // closed: Started is in the queue

	acting sync.Mutex // acts go one after another

	mu       sync.Mutex
	queue    []Event
	wake     chan struct{}
	ending   *Ended // the first reason
	finished bool   // the reader is at its end: nothing comes any more
	tabs     map[target.SessionID]*tab
	inner    map[target.SessionID]*tab // frames of other sites in a tab
	frames   map[cdp.FrameID]*tab
	opened   TabID // the last number given
	active   *tab
	changed  chan struct{} // closed and made anew when tabs or active change
	pictures uint64
	selects  map[int]*selectBox
	selected int

	setups sync.WaitGroup
}

// tab is a page. Its fields are the Browser's mu's.
type tab struct {
	id      TabID
	target  target.ID
	s       session
	ready   bool
	crashed bool
	dialog  bool
	held    chan struct{} // closed while a dialog is open
	shown   PageInfo
	buttons int           // mouse buttons that are down
	painted chan struct{} // closed: a picture came since the document changed
	drawn   bool          // painted is closed
}

// start-up takes two seconds; a loaded machine may need many more.
const patience = 15 * time.Second

// Start starts the browser in its room. The end of ctx ends it. Events must be
// taken until the channel is closed.
func Start(ctx context.Context, c Config) (*Browser, error) {
	c, err := c.filled()
	if err != nil {
		return nil, err
	}
	b := &Browser{
		config: c, said: &tail{}, events: make(chan Event), drop: make(chan struct{}), done: make(chan struct{}), begun: make(chan struct{}),
		wake: make(chan struct{}, 1), tabs: map[target.SessionID]*tab{}, inner: map[target.SessionID]*tab{}, frames: map[cdp.FrameID]*tab{},
		changed: make(chan struct{}), selects: map[int]*selectBox{},
	}
	args := b.args()
	if err := b.launch(args); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { b.end(ReasonClosed, "the recorder ended the browser") })
	var running sync.WaitGroup
	running.Go(b.listen)
	running.Go(b.pump)
	running.Go(b.watch)
	running.Go(b.titles)
	go func() {
		running.Wait()
		b.setups.Wait()
		stop()
		close(b.done)
	}()
	if err := b.begin(ctx, args); err != nil {
		b.end(ReasonCrashed, err.Error())
		close(b.drop)
		<-b.done
		return nil, fmt.Errorf("starting the browser: %w%s", err, b.said.text())
	}
	return b, nil
}

func (b *Browser) launch(args []string) error {
	in, toBrowser, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("making the browser's pipe: %w", err)
	}
	fromBrowser, out, err := os.Pipe()
	if err != nil {
		return errors.Join(fmt.Errorf("making the browser's pipe: %w", err), in.Close(), toBrowser.Close())
	}
	b.wire = newWire(fromBrowser, toBrowser)
	b.child, err = b.config.Room.Start(append(args, "about:blank"), nil, []*os.File{in, out}, b.said)
	in.Close()
	out.Close()
	if err != nil {
		b.wire.conn.Close()
	}
	return err
}

// begin makes the browser listen and tell, before any page is opened.
func (b *Browser) begin(ctx context.Context, args []string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	root := session{w: b.wire}
	version, err := cdp.Call(ctx, root, cdpbrowser.GetVersion, cdp.Empty{})
	if err != nil {
		return err
	}
	yes := true
	pages := target.Filter{{Type: "page"}}
	if _, err := cdp.Call(ctx, root, target.SetDiscoverTargets, target.SetDiscoverTargetsParams{Discover: true, Filter: pages}); err != nil {
		return err
	}
	downloads := cdpbrowser.SetDownloadBehaviorParams{Behavior: cdpbrowser.SetDownloadBehaviorBehaviorAllowAndName,
		DownloadPath: b.config.Room.Place(sandbox.Downloads), EventsEnabled: &yes}
	if _, err := cdp.Call(ctx, root, cdpbrowser.SetDownloadBehavior, downloads); err != nil {
		return err
	}
	if _, err := cdp.Call(ctx, root, target.SetAutoAttach, target.SetAutoAttachParams{AutoAttach: true, WaitForDebuggerOnStart: true, Flatten: &yes, Filter: pages}); err != nil {
		return err
	}
	if err := b.awaitTab(ctx, func() bool { return b.active != nil && b.active.ready }); err != nil {
		return err
	}
	processes, err := b.confined()
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	started := Event{At: time.Now(), Body: Started{version.Product, version.ProtocolVersion, version.UserAgent, b.config.Room.Browser(), args, processes}}
	b.queue = append([]Event{started}, b.queue...)
	close(b.begun)
	b.poke()
	return nil
}

// confined looks whether every renderer has its sandbox, and whether there is one.
func (b *Browser) confined() ([]sandbox.Process, error) {
	all := b.config.Room.Processes()
	renderers := 0
	for _, p := range all {
		if p.Kind != "renderer" {
			continue
		}
		renderers++
		if !p.Confined() {
			return nil, fmt.Errorf("renderer %d has no sandbox: seccomp %d, capabilities %s, own user namespace %t", p.PID, p.Seccomp, p.CapEff, p.OwnUser)
		}
	}
	if renderers == 0 {
		return nil, errors.New("no renderer is seen in the sandbox")
	}
	return all, nil
}

// awaitTab waits until is holds. is runs under mu.
func (b *Browser) awaitTab(ctx context.Context, is func() bool) error {
	for {
		b.mu.Lock()
		ok, changed := is(), b.changed
		b.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-b.wire.lost:
			return errLost
		case <-ctx.Done():
			return fmt.Errorf("waiting for a tab: %w", ctx.Err())
		}
	}
}

func (b *Browser) args() []string {
	c := b.config
	args := []string{
		"--headless", "--remote-debugging-pipe", "--user-data-dir=" + c.Room.Place(sandbox.Profile),
		"--no-first-run", "--no-default-browser-check", "--password-store=basic",
		// The way out is the proxy, for loopback too.
		"--proxy-server=http://" + c.Room.Listener().Addr().String(), "--proxy-bypass-list=<-loopback>",
		"--ignore-certificate-errors-spki-list=" + c.SPKI,
		"--disable-quic", "--force-webrtc-ip-handling-policy=disable_non_proxied_udp", "--dns-prefetch-disable",
		// Nothing by itself.
		"--disable-sync", "--disable-background-networking", "--disable-component-update", "--disable-default-apps", "--disable-extensions",
		"--disable-breakpad", "--disable-crash-reporter", "--disable-domain-reliability", "--disable-client-side-phishing-detection", "--metrics-recording-only", "--no-pings",
		"--disable-features=Translate,MediaRouter,DialMediaRouteProvider,OptimizationHints,AutofillServerCommunication,InterestFeedContentSuggestions,CertificateTransparencyComponentUpdater,WebUIOmniboxPopup,WebUIOmniboxAimPopup,WebUIOmniboxFullPopup,AsyncDns,DnsOverHttps",
		// What is seen.
		"--window-size=" + strconv.Itoa(c.Width) + "," + strconv.Itoa(c.Height), "--force-color-profile=srgb", "--disable-gpu", "--mute-audio",
		"--lang=" + c.Language, "--accept-lang=" + c.Language,
		"--disable-backgrounding-occluded-windows",
	}
	if c.UserAgent != "" {
		args = append(args, "--user-agent="+c.UserAgent)
	}
	return args
}

// Events is everything that happens, in order, until Ended.
func (b *Browser) Events() <-chan Event { return b.events }

// listen reads the pipe until its end.
func (b *Browser) listen() {
	err := b.wire.read(b.hear)
	var bad *unreadable
	if errors.As(err, &bad) || errors.Is(err, errTooLong) {
		b.end(ReasonWire, err.Error())
	}
	select {
	case <-b.child.Done(): // watch tells how
	case <-time.After(2 * time.Second):
		b.end(ReasonCrashed, fmt.Sprintf("the pipe ended before the browser: %v", err))
	}
	b.wire.lose()
	<-b.child.Done()
	b.exited() // watch may come later
	b.wire.conn.Close()
	b.mu.Lock()
	b.finished = true
	b.poke()
	b.mu.Unlock()
}

// watch waits for what ends the browser from outside.
func (b *Browser) watch() {
	select {
	case <-b.config.Room.Over():
		b.end(ReasonLimit, b.config.Room.OverReason())
	case <-b.child.Done():
		b.exited()
	}
	<-b.child.Done()
	// Descendants may hold the pipe open.
	b.config.Room.Kill()
	b.wire.lose()
}

// exited says how the browser ended, when nothing was said before.
func (b *Browser) exited() {
	detail := "exit without error"
	if err := b.child.Err(); err != nil {
		detail = err.Error()
	}
	if why := b.config.Room.OverReason(); why != "" {
		b.end(ReasonLimit, why)
	} else {
		b.end(ReasonCrashed, detail)
	}
}

// end ends the browser; the first reason counts.
func (b *Browser) end(reason, detail string) {
	b.mu.Lock()
	first := b.ending == nil
	if first {
		b.ending = &Ended{reason, clip(detail)}
	}
	b.mu.Unlock()
	if first {
		b.config.Room.Kill()
		b.wire.lose()
	}
}

// Close ends the browser, politely first, and waits until all events were taken
// or ctx ends; then the rest is dropped.
func (b *Browser) Close(ctx context.Context) error {
	b.mu.Lock()
	if b.ending == nil {
		b.ending = &Ended{ReasonClosed, "closed by the recorder"}
	}
	b.mu.Unlock()
	if _, err := b.wire.send("", cdpbrowser.CommandClose, nil); err == nil {
		grace := time.NewTimer(3 * time.Second)
		defer grace.Stop()
		select {
		case <-b.child.Done():
		case <-grace.C:
		case <-ctx.Done():
		}
	}
	b.config.Room.Kill()
	b.wire.lose()
	select {
	case <-b.done:
		return nil
	case <-ctx.Done():
	}
	b.mu.Lock()
	select {
	case <-b.drop:
	default:
		close(b.drop)
	}
	b.mu.Unlock()
	<-b.done
	return fmt.Errorf("closing the browser: events were not taken: %w", ctx.Err())
}

// emit puts an event into the queue. mu is held.
func (b *Browser) emit(t *tab, body Body) {
	e := Event{At: time.Now(), Body: body}
	if t != nil {
		e.Tab = t.id
	}
	b.queue = append(b.queue, e)
	b.poke()
	if len(b.queue) > maxQueue && b.ending == nil {
		b.ending = &Ended{ReasonRecord, "the recorder does not take events: " + strconv.Itoa(len(b.queue)) + " wait"}
		go b.config.Room.Kill() // not under mu; the room ends its own
	}
}

func (b *Browser) poke() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// pump hands the queue over. A picture's place is free again when it was taken.
func (b *Browser) pump() {
	defer close(b.events)
	var seq uint64
	give := func(e Event) bool {
		seq++
		e.Seq = seq
		select {
		case b.events <- e:
			return true
		case <-b.drop:
			return false
		}
	}
	select {
	case <-b.begun:
	case <-b.drop:
		return
	}
	for {
		b.mu.Lock()
		queue, finished := b.queue, b.finished
		b.queue = nil
		b.mu.Unlock()
		for _, e := range queue {
			if !give(e) {
				return
			}
			if f, ok := e.Body.(Frame); ok {
				b.acknowledge(e.Tab, f)
			}
		}
		if len(queue) > 0 {
			continue
		}
		if finished {
			give(Event{At: time.Now(), Body: *b.ending})
			return
		}
		select {
		case <-b.wake:
		case <-b.drop:
			return
		}
	}
}

// tail keeps the end of what the browser's process wrote.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if n := len(t.buf); n > maxText {
		t.buf = append(t.buf[:0], t.buf[n-maxText/2:]...)
	}
	return len(p), nil
}

func (t *tail) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(bytes.TrimSpace(t.buf)) == 0 {
		return ""
	}
	return "\n" + string(t.buf)
}
