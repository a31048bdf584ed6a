package browser

import (
	"context"
	"errors"
	"fmt"
	"os"

	jsonv2 "github.com/chromedp/cdproto/cdp/jsonv2"
	"github.com/chromedp/cdproto/domsnapshot"
	"github.com/chromedp/cdproto/page"

	"github.com/zhenglian/zhenglian/internal/capture/sandbox"
)

// Tab is what the address bar and the row of tabs show.
type Tab struct {
	ID      TabID
	URL     string
	Title   string
	Active  bool
	Crashed bool
	Dialog  bool // waits for AnswerDialog
}

// Tabs lists the open tabs in order of opening.
func (b *Browser) Tabs() []Tab {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []Tab
	for id := TabID(1); id <= b.opened; id++ {
		if t := b.byID(id); t != nil {
			out = append(out, Tab{id, t.shown.URL, t.shown.Title, b.active == t, t.crashed, t.dialog})
		}
	}
	return out
}

// Done is closed when the browser has ended and everything was taken or dropped.
func (b *Browser) Done() <-chan struct{} { return b.done }

// observed is the active tab, when it can be looked at.
func (b *Browser) observed() (*tab, chan struct{}, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch t := b.active; {
	case b.ending != nil:
		return nil, nil, errLost
	case t == nil:
		return nil, nil, refuse("tab", "no tab is shown")
	case t.crashed:
		return nil, nil, refuse("tab", "the page crashed")
	case t.dialog:
		return nil, nil, refuse("dialog", "the page asks something: it cannot be looked at until that is answered")
	default:
		return t, t.held, nil
	}
}

// ask asks the active tab's page. A dialog that opens meanwhile ends it (Refused).
func (b *Browser) ask(ctx context.Context, method string, params, result any) (TabID, error) {
	t, held, err := b.observed()
	if err != nil {
		return 0, err
	}
	r, err := b.wire.send(t.s.id, method, params)
	if err != nil {
		return 0, err
	}
	if err = r.wait(ctx, held, result); errors.Is(err, errHeldUp) {
		err = refuse("dialog", "the page asks something: it cannot be looked at until that is answered")
	}
	return t.id, err
}

// Shot takes a picture of the active tab as PNG: of what is shown, or of the
// whole page. The height of a whole page is cut at 16,384 pixels.
func (b *Browser) Shot(ctx context.Context, whole bool) (png []byte, tab TabID, err error) {
	p := page.CaptureScreenshotParams{Format: page.CaptureScreenshotFormatPng}
	if whole {
		var m page.GetLayoutMetricsResult
		if _, err := b.ask(ctx, page.CommandGetLayoutMetrics, nil, &m); err != nil {
			return nil, 0, fmt.Errorf("measuring the page: %w", err)
		}
		if c := m.CSSContentSize; c != nil {
			yes := true
			p.CaptureBeyondViewport = &yes
			p.Clip = &page.Viewport{Width: min(c.Width, far), Height: min(c.Height, far), Scale: 1}
		}
	}
	var r page.CaptureScreenshotResult
	if tab, err = b.ask(ctx, page.CommandCaptureScreenshot, p, &r); err != nil {
		return nil, 0, fmt.Errorf("taking a picture: %w", err)
	}
	return r.Data, tab, nil
}

// Document is the active tab's page as the browser built it, at one moment.
type Document struct {
	Tab   TabID
	URL   string
	Title string
	// Snapshots are the replies to DOMSnapshot.captureSnapshot, as JSON: the page with
	// the frames of its site, then each frame of another site.
	Snapshots [][]byte
}

// Document takes the document tree, with what fields hold and where things are.
func (b *Browser) Document(ctx context.Context) (Document, error) {
	yes := true
	params := domsnapshot.CaptureSnapshotParams{ComputedStyles: []string{"display", "visibility", "opacity"}, IncludeDOMRects: &yes}
	var raw jsonv2.Value
	id, err := b.ask(ctx, domsnapshot.CommandCaptureSnapshot, params, &raw)
	if err != nil {
		return Document{}, fmt.Errorf("taking the document: %w", err)
	}
	out := Document{Tab: id, Snapshots: [][]byte{raw}}
	b.mu.Lock()
	t := b.byID(id)
	var frames []session
	if t != nil {
		out.URL, out.Title = t.shown.URL, t.shown.Title
		for sid, of := range b.inner {
			if of == t {
				frames = append(frames, session{b.wire, sid})
			}
		}
	}
	b.mu.Unlock()
	for _, f := range frames {
		var raw jsonv2.Value
		err := f.Call(ctx, domsnapshot.CommandCaptureSnapshot, params, &raw)
		switch {
		case err == nil:
			out.Snapshots = append(out.Snapshots, raw)
		case !errors.Is(err, errDetached): // the frame went away
			return Document{}, fmt.Errorf("taking a frame's document: %w", err)
		}
	}
	return out, nil
}

// Download opens the file of a completed download for reading. It is the
// browser's: what it holds must be compared with the recorded response.
func (b *Browser) Download(id string) (*os.File, error) {
	for _, c := range id {
		if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c == '-') {
			return nil, fmt.Errorf("%q names no download", clip(id))
		}
	}
	if id == "" || len(id) > 64 {
		return nil, fmt.Errorf("%q names no download", clip(id))
	}
	return b.config.Room.OpenFile(sandbox.Downloads + "/" + id)
}
