package capture

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/evidence/recording"
	"github.com/zhenglian/zhenglian/internal/capture/browser"
	"github.com/zhenglian/zhenglian/internal/capture/sandbox"
)

// Chromium makes a room for the recorded Chromium. *sandbox.Incomplete when the
// machine cannot hold one safely.
func Chromium(ctx context.Context, c sandbox.Config) (Room, error) {
	r, err := sandbox.Open(ctx, c)
	if err != nil {
		return nil, err
	}
	return &chromiumRoom{r}, nil
}

type chromiumRoom struct{ room *sandbox.Room }

// Listener implements Room.
func (r *chromiumRoom) Listener() (net.Listener, error) { return r.room.Listener(), nil }

// Close implements Room.
func (r *chromiumRoom) Close() error { return r.room.Close() }

// Report implements Room.
func (r *chromiumRoom) Report() ([]byte, error) { return json.Marshal(r.room.Report()) }

// times of a page. A page that goes on loading is shown as it is then.
const (
	loadTime = 30 * time.Second
	quiet    = 700 * time.Millisecond // without a navigation beginning or ending
	findTime = 30 * time.Second
)

// chromium is package browser as a script drives it.
type chromium struct {
	b        *browser.Browser
	observer Observer
	version  string
	width    int
	height   int
	gone     chan struct{}
	pumped   chan struct{}

	mu       sync.Mutex
	why      string
	changed  chan struct{} // closed and made anew at each navigation, load and download
	moved    time.Time     // of the last of these
	loading  bool
	security map[browser.TabID]string
	offered  map[string]browser.DownloadBegun
	saved    int // downloads that ended
	failed   error
}

// Start implements Room.
func (r *chromiumRoom) Start(ctx context.Context, l Launch) (Browser, error) {
	c := &chromium{observer: l.Observer, width: l.Width, height: l.Height, gone: make(chan struct{}), pumped: make(chan struct{}), changed: make(chan struct{}), security: map[browser.TabID]string{}, offered: map[string]browser.DownloadBegun{}}
	var err error
	c.b, err = browser.Start(ctx, browser.Config{Room: r.room, SPKI: l.SPKI, Before: c.before, Width: l.Width, Height: l.Height})
	if err != nil {
		return nil, err
	}
	first, ok := <-c.b.Events()
	started, is := first.Body.(browser.Started)
	if !ok || !is {
		return nil, errors.Join(errors.New("the browser ended while it started"), c.b.Close(context.WithoutCancel(ctx)))
	}
	c.version = started.Product
	go func() {
		defer close(c.pumped)
		select {
		case <-l.Begun:
		case <-c.b.Done():
		}
		c.pump()
	}()
	return c, nil
}

// before writes an act down before it goes to the browser.
func (c *chromium) before(_ context.Context, tab browser.TabID, act browser.Act) error {
	data := recording.Data{"kind": act.Kind(), "tab": int64(tab)}
	for name, v := range act.Fields() {
		switch v := v.(type) {
		case string:
			data[word(name)] = clip(v)
		case int:
			data[word(name)] = int64(v)
		case bool:
			data[word(name)] = v
		default:
			return fmt.Errorf("act %s holds a %T", act.Kind(), v)
		}
	}
	return c.observer.Event(recording.TypeInput, data)
}

// word makes an event's name of a field: keyCode is key-code.
func word(name string) string {
	var b strings.Builder
	for _, r := range name {
		if unicode.IsUpper(r) {
			b.WriteByte('-')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// pump takes the browser's events until the last.
func (c *chromium) pump() {
	defer close(c.gone)
	for e := range c.b.Events() {
		if end, ok := e.Body.(browser.Ended); ok {
			c.mu.Lock()
			c.why = strings.TrimSuffix(end.Reason+": "+end.Detail, ": ")
			c.mu.Unlock()
			continue
		}
		c.mu.Lock()
		failed := c.failed
		c.mu.Unlock()
		if failed != nil {
			continue // what cannot be recorded is not; the browser is being closed
		}
		if err := c.take(e); err != nil {
			c.mu.Lock()
			c.failed = err
			c.mu.Unlock()
			// Not from here: Close waits until the events were taken.
			go func() { _ = c.b.Close(context.Background()) }()
		}
	}
}

// notice tells those who wait that something moved.
func (c *chromium) notice(loading bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.loading, c.moved = loading, time.Now()
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *chromium) tab(id browser.TabID) browser.Tab {
	for _, t := range c.b.Tabs() {
		if t.ID == id {
			return t
		}
	}
	return browser.Tab{ID: id}
}

// take records an event.
func (c *chromium) take(e browser.Event) error {
	data := recording.Data{"tab": int64(e.Tab)}
	set := func(name, value string) {
		if value != "" {
			data[name] = clip(value)
		}
	}
	switch x := e.Body.(type) {
	case browser.Frame:
		return c.observer.Frame(e.At, x.Width, x.Height, x.JPEG)
	case browser.NavStarted:
		if !x.Main {
			return nil
		}
		c.notice(true)
		data["url"] = clip(x.URL)
		set("how", x.How)
		return c.observer.Event(recording.TypeNavStart, data)
	case browser.NavCommitted:
		if !x.Main {
			return nil
		}
		data["url"] = clip(x.URL)
		if x.Unreachable != "" {
			c.notice(false)
			data["url"], data["error"] = clip(x.Unreachable), "the browser could not show this address and shows its own page"
		}
		return c.observer.Event(recording.TypeNavEnd, data)
	case browser.NavLoaded:
		c.notice(false)
		t := c.tab(e.Tab)
		data["url"] = clip(t.URL)
		set("title", t.Title)
		return c.observer.Event(recording.TypeNavEnd, data)
	case browser.Security:
		c.mu.Lock()
		c.security[e.Tab] = x.State
		c.mu.Unlock()
		data["url"], data["state"] = clip(c.tab(e.Tab).URL), clip(x.State)
		set("reason", x.Error)
		return c.observer.Event("security.state", data)
	case browser.TabOpened:
		return c.observer.Event("tab.opened", data)
	case browser.TabClosed:
		return c.observer.Event("tab.closed", data)
	case browser.TabCrashed:
		c.notice(false)
		set("reason", fmt.Sprintf("%s %d", x.Status, x.Code))
		return c.observer.Event("tab.crashed", data)
	case browser.DialogOpened:
		data["kind"], data["text"] = clip(x.Type), clip(x.Message)
		if err := c.observer.Event("dialog", data); err != nil {
			return err
		}
		// A script has nobody to ask: it says yes to what only tells and no to what asks.
		// Not from here: the answer is an act, which waits for what is taken here.
		go func() {
			_ = c.b.Input(context.Background(), browser.AnswerDialog{Tab: e.Tab, Accept: x.Type == "alert" || x.Type == "beforeunload"})
		}()
		return nil
	case browser.DialogClosed:
		data["kind"], data["text"], data["answer"] = "closed", clip(x.Text), fmt.Sprintf("accepted %t", x.Accepted)
		return c.observer.Event("dialog", data)
	case browser.Console:
		data["level"], data["text"] = clip(x.Level), clip(x.Text)
		set("url", x.URL)
		set("source", x.Source)
		return c.observer.Event("console", data)
	case browser.DownloadBegun:
		c.mu.Lock()
		c.offered[x.ID] = x
		c.mu.Unlock()
		return c.observer.Event(recording.TypeDownload, recording.Data{"id": clip(x.ID), "url": clip(x.URL), "name": clip(x.Name)})
	case browser.DownloadEnded:
		return c.download(x)
	}
	return nil
}

func (c *chromium) download(x browser.DownloadEnded) error {
	c.mu.Lock()
	offer := c.offered[x.ID]
	delete(c.offered, x.ID)
	c.mu.Unlock()
	var err error
	if x.State == "completed" {
		f, openErr := c.b.Download(x.ID)
		if openErr != nil {
			return openErr
		}
		_, err = c.observer.Download(clip(x.ID), offer.URL, offer.Name, x.State, f)
		err = errors.Join(err, f.Close())
	} else {
		err = c.observer.Event(recording.TypeDownloaded, recording.Data{"id": clip(x.ID), "url": clip(offer.URL), "name": clip(offer.Name), "state": clip(x.State)})
	}
	c.mu.Lock()
	c.saved++
	c.mu.Unlock()
	c.notice(false)
	return err
}

// Version implements Browser.
func (c *chromium) Version() string { return c.version }

// Binary implements Browser: the inspection has it.
func (*chromium) Binary() evidence.Digest { return evidence.Digest{} }

// Gone implements Browser.
func (c *chromium) Gone() <-chan struct{} { return c.gone }

// Why implements Browser.
func (c *chromium) Why() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failed != nil {
		return "what it said could not be recorded: " + c.failed.Error()
	}
	return c.why
}

// Close implements Browser.
func (c *chromium) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	err := c.b.Close(ctx)
	<-c.pumped
	c.mu.Lock()
	defer c.mu.Unlock()
	return errors.Join(err, c.failed)
}

// do lets an act through.
func (c *chromium) do(ctx context.Context, act browser.Act) error {
	return c.outcome(ctx, c.b.Input(ctx, act))
}

// outcome tells what a step could not do from a browser that is gone.
func (c *chromium) outcome(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil {
		return err
	}
	select {
	case <-c.b.Done():
		return err
	default:
		return &StepError{err.Error()}
	}
}

// settle waits until the page is loaded and nothing has moved for a while.
func (c *chromium) settle(ctx context.Context) error {
	limit := time.NewTimer(loadTime)
	defer limit.Stop()
	c.notice(c.isLoading())
	for {
		c.mu.Lock()
		loading, moved, changed := c.loading, c.moved, c.changed
		c.mu.Unlock()
		left := quiet - time.Since(moved)
		if !loading && left <= 0 {
			return nil
		}
		if loading {
			left = loadTime
		}
		t := time.NewTimer(left)
		select {
		case <-t.C:
		case <-changed:
		case <-limit.C:
			t.Stop()
			return nil // what is there is shown
		case <-c.gone:
			t.Stop()
			return errors.New("the browser is gone")
		case <-ctx.Done():
			t.Stop()
			return context.Cause(ctx)
		}
		t.Stop()
	}
}

func (c *chromium) isLoading() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.loading
}

// Goto implements Browser. An address that cannot be shown is no error: the
// browser's own page says so, and is what is recorded.
func (c *chromium) Goto(ctx context.Context, url string) error {
	err := c.do(ctx, browser.Navigate{URL: url})
	if err != nil && !strings.Contains(err.Error(), "net::ERR_") {
		return err
	}
	return c.settle(ctx)
}

// Click implements Browser.
func (c *chromium) Click(ctx context.Context, selector, text string) error {
	if err := c.press(ctx, selector, text); err != nil {
		return err
	}
	return c.settle(ctx)
}

// press clicks an element, scrolling to it first.
func (c *chromium) press(ctx context.Context, selector, text string) error {
	e, err := c.b.Locate(ctx, selector, text)
	if err == nil && !e.Shown {
		if err := c.do(ctx, browser.Reveal{Selector: selector, Text: text}); err != nil {
			return err
		}
		e, err = c.b.Locate(ctx, selector, text)
	}
	if err != nil {
		return c.outcome(ctx, err)
	}
	for _, act := range []browser.Mouse{{Type: "move", X: e.X, Y: e.Y}, {Type: "down", X: e.X, Y: e.Y, Button: "left", Clicks: 1}, {Type: "up", X: e.X, Y: e.Y, Button: "left", Clicks: 1}} {
		if err := c.do(ctx, act); err != nil {
			return err
		}
	}
	return nil
}

// Type implements Browser.
func (c *chromium) Type(ctx context.Context, selector, text string) error {
	if err := c.press(ctx, selector, ""); err != nil {
		return err
	}
	if err := c.do(ctx, browser.Text{Text: text}); err != nil {
		return err
	}
	return c.settle(ctx)
}

// Wait implements Browser.
func (c *chromium) Wait(ctx context.Context, selector string) error {
	within, cancel := context.WithTimeout(ctx, findTime)
	defer cancel()
	for {
		if _, err := c.b.Locate(within, selector, ""); err == nil {
			return nil
		}
		t := time.NewTimer(quiet)
		select {
		case <-t.C:
		case <-within.Done():
			t.Stop()
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return &StepError{fmt.Sprintf("nothing visible on the page was %s within %s", selector, findTime)}
		}
	}
}

// Scroll implements Browser.
func (c *chromium) Scroll(ctx context.Context, pixels int) error {
	const most = 10_000 // of one act
	for pixels != 0 {
		by := max(-most, min(most, pixels))
		if err := c.do(ctx, browser.Wheel{X: c.width / 2, Y: c.height / 2, DY: by}); err != nil {
			return err
		}
		pixels -= by
	}
	return c.settle(ctx)
}

// Download implements Browser.
func (c *chromium) Download(ctx context.Context, selector, text string) error {
	c.mu.Lock()
	before := c.saved
	c.mu.Unlock()
	if err := c.press(ctx, selector, text); err != nil {
		return err
	}
	for {
		c.mu.Lock()
		saved, changed := c.saved, c.changed
		c.mu.Unlock()
		if saved > before {
			return nil
		}
		select {
		case <-changed:
		case <-c.gone:
			return errors.New("the browser is gone")
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Page implements Browser.
func (c *chromium) Page(ctx context.Context) (*Page, error) {
	shot, id, err := c.b.Shot(ctx, true)
	if err != nil {
		return nil, c.outcome(ctx, err)
	}
	doc, err := c.b.Document(ctx)
	if err != nil {
		return nil, c.outcome(ctx, err)
	}
	var parts []json.RawMessage
	for _, s := range doc.Snapshots {
		parts = append(parts, s)
	}
	dom, err := json.Marshal(parts)
	if err != nil {
		return nil, fmt.Errorf("writing the page's document: %w", err)
	}
	html, err := c.b.HTML(ctx)
	if err != nil {
		return nil, c.outcome(ctx, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return &Page{URL: doc.URL, Title: doc.Title, Security: c.security[id], Screenshot: shot, DOM: []byte(html), Tree: dom}, nil
}
