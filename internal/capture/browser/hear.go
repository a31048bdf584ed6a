package browser

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/chromedp/cdproto"
	cdpbrowser "github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/cdp"
	jsonv2 "github.com/chromedp/cdproto/cdp/jsonv2"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/cdproto/security"
	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"
)

// unreadable is an event that the record would lack.
type unreadable struct {
	method string
	err    error
}

func (u *unreadable) Error() string { return fmt.Sprintf("reading %s: %v", u.method, u.err) }

func read[E any](m *cdproto.Message, into *E) error {
	if err := jsonv2.Unmarshal(m.Params, into, chromedp.DefaultUnmarshalOptions); err != nil {
		return &unreadable{string(m.Method), err}
	}
	return nil
}

// on reads an event and does what f says with it, under mu.
func on[E any](b *Browser, m *cdproto.Message, f func(E)) error {
	var e E
	if err := read(m, &e); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	f(e)
	return nil
}

// hear takes one event of the browser. What is not named here is not told.
func (b *Browser) hear(m *cdproto.Message) error {
	switch string(m.Method) {
	case target.AttachedToTarget.Method:
		return on(b, m, func(e target.EventAttachedToTarget) { b.attached(m.SessionID, e) })
	case target.DetachedFromTarget.Method:
		var e target.EventDetachedFromTarget
		if err := read(m, &e); err != nil {
			return err
		}
		b.wire.forget(e.SessionID)
		b.mu.Lock()
		defer b.mu.Unlock()
		b.detached(e.SessionID)
		return nil
	case target.TargetInfoChanged.Method:
		return on(b, m, func(e target.EventTargetInfoChanged) { b.info(e.TargetInfo) })
	case target.TargetCrashed.Method:
		var e target.EventTargetCrashed
		if err := read(m, &e); err != nil {
			return err
		}
		b.mu.Lock()
		t := b.byTarget(e.TargetID)
		if t != nil {
			t.crashed = true
			b.release(t)
			b.emit(t, TabCrashed{e.Status, e.ErrorCode})
		}
		b.mu.Unlock()
		if t != nil {
			b.wire.forget(t.s.id)
		}
		return nil
	case cdpbrowser.DownloadWillBegin.Method:
		return on(b, m, func(e cdpbrowser.EventDownloadWillBegin) {
			b.emit(b.frames[e.FrameID], DownloadBegun{e.GUID, clip(e.URL), clip(e.SuggestedFilename)})
		})
	case cdpbrowser.DownloadProgress.Method:
		return on(b, m, func(e cdpbrowser.EventDownloadProgress) {
			if e.State != cdpbrowser.DownloadProgressStateInProgress {
				b.emit(nil, DownloadEnded{e.GUID, string(e.State), int64(e.ReceivedBytes)})
			}
		})
	}
	b.mu.Lock()
	t, main := b.tabs[m.SessionID], true
	if t == nil {
		t, main = b.inner[m.SessionID], false
	}
	b.mu.Unlock()
	if t == nil {
		return nil
	}
	return b.hearPage(t, main, m)
}

// hearPage takes an event of a page, or of a frame of another site in it.
func (b *Browser) hearPage(t *tab, main bool, m *cdproto.Message) error {
	top := func(parent bool) bool { return main && !parent }
	switch string(m.Method) {
	case page.ScreencastFrame.Method:
		return on(b, m, func(e page.EventScreencastFrame) { b.picture(t, e) })
	case page.FrameAttached.Method:
		return on(b, m, func(e page.EventFrameAttached) { b.frames[e.FrameID] = t })
	case page.FrameStartedNavigating.Method:
		return on(b, m, func(e page.EventFrameStartedNavigating) {
			b.emit(t, NavStarted{string(e.FrameID) == string(t.target), clip(e.URL), string(e.NavigationType)})
		})
	case page.FrameNavigated.Method:
		return on(b, m, func(e page.EventFrameNavigated) {
			b.frames[e.Frame.ID] = t
			if top(e.Frame.ParentID != "") {
				t.crashed = false
				if t.drawn {
					t.drawn, t.painted = false, make(chan struct{})
				}
			}
			b.emit(t, NavCommitted{top(e.Frame.ParentID != ""), clip(e.Frame.URL + e.Frame.URLFragment), clip(e.Frame.MimeType), clip(e.Frame.UnreachableURL)})
		})
	case page.NavigatedWithinDocument.Method:
		return on(b, m, func(e page.EventNavigatedWithinDocument) {
			b.emit(t, NavWithin{string(e.FrameID) == string(t.target), clip(e.URL)})
		})
	case page.LoadEventFired.Method:
		return on(b, m, func(page.EventLoadEventFired) {
			if main {
				b.emit(t, NavLoaded{})
			}
		})
	case page.JavascriptDialogOpening.Method:
		return on(b, m, func(e page.EventJavascriptDialogOpening) {
			if !t.dialog {
				t.dialog = true
				close(t.held)
			}
			b.emit(t, DialogOpened{string(e.Type), clip(e.Message), clip(e.DefaultPrompt), clip(e.URL)})
		})
	case page.JavascriptDialogClosed.Method:
		return on(b, m, func(e page.EventJavascriptDialogClosed) {
			b.release(t)
			b.emit(t, DialogClosed{e.Result, clip(e.UserInput)})
		})
	case page.FileChooserOpened.Method:
		return on(b, m, func(e page.EventFileChooserOpened) {
			b.emit(t, FileAsked{e.Mode == page.FileChooserOpenedModeSelectMultiple})
		})
	case security.VisibleSecurityStateChanged.Method:
		return on(b, m, func(e security.EventVisibleSecurityStateChanged) { b.emit(t, securityOf(e.VisibleSecurityState)) })
	case runtime.ExceptionThrown.Method:
		return on(b, m, func(e runtime.EventExceptionThrown) {
			d := e.ExceptionDetails
			text := d.Text
			if d.Exception != nil {
				text += " " + d.Exception.Description
			}
			b.emit(t, Console{"error", "exception", clip(text), clip(d.URL), d.LineNumber + 1})
		})
	case runtime.ConsoleAPICalled.Method:
		return on(b, m, func(e runtime.EventConsoleAPICalled) {
			level := map[runtime.ConsoleAPICalledType]string{runtime.ConsoleAPICalledTypeError: "error", runtime.ConsoleAPICalledTypeAssert: "error", runtime.ConsoleAPICalledTypeWarning: "warning"}[e.Type]
			if level == "" {
				return
			}
			var parts []string
			for _, a := range e.Args {
				switch {
				case a.Description != "":
					parts = append(parts, a.Description)
				default:
					var s string
					if jsonv2.Unmarshal(a.Value, &s) != nil {
						s = string(a.Value)
					}
					parts = append(parts, s)
				}
			}
			c := Console{Level: level, Source: "console", Text: clip(strings.Join(parts, " "))}
			if e.StackTrace != nil && len(e.StackTrace.CallFrames) > 0 {
				c.URL, c.Line = clip(e.StackTrace.CallFrames[0].URL), e.StackTrace.CallFrames[0].LineNumber+1
			}
			b.emit(t, c)
		})
	case log.EntryAdded.Method:
		return on(b, m, func(e log.EventEntryAdded) {
			if l := string(e.Entry.Level); l == "error" || l == "warning" {
				b.emit(t, Console{l, string(e.Entry.Source), clip(e.Entry.Text), clip(e.Entry.URL), e.Entry.LineNumber})
			}
		})
	}
	return nil
}

func securityOf(s *security.VisibleSecurityState) Security {
	out := Security{State: string(s.SecurityState), Issues: s.SecurityStateIssueIDs}
	if c := s.CertificateSecurityState; c != nil {
		out.Protocol, out.Subject, out.Issuer, out.Error = clip(c.Protocol), clip(c.SubjectName), clip(c.Issuer), clip(c.CertificateNetworkError)
		if len(c.Certificate) > 0 {
			if der, err := base64.StdEncoding.DecodeString(c.Certificate[0]); err == nil {
				out.Certificate = der
			}
		}
	}
	return out
}

// info takes what the browser says of a page's address and title. mu is held.
func (b *Browser) info(i *target.Info) {
	t := b.byTarget(i.TargetID)
	if t == nil {
		return
	}
	if now := (PageInfo{clip(i.URL), clip(i.Title)}); now != t.shown {
		t.shown = now
		b.emit(t, now)
	}
}

// glance is how often titles are asked for: the browser tells of addresses by
// itself, but not of a title that came after.
const glance = 300 * time.Millisecond

func (b *Browser) titles() {
	tick := time.NewTicker(glance)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-b.wire.lost:
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		var r target.GetTargetsResult
		err := b.wire.call(ctx, "", target.CommandGetTargets, target.GetTargetsParams{Filter: target.Filter{{Type: "page"}}}, &r)
		cancel()
		if err != nil {
			continue // lost ends it
		}
		b.mu.Lock()
		for _, i := range r.TargetInfos {
			b.info(i)
		}
		b.mu.Unlock()
	}
}

func (b *Browser) byTarget(id target.ID) *tab {
	for _, t := range b.tabs {
		if t.target == id {
			return t
		}
	}
	return nil
}

func (b *Browser) byID(id TabID) *tab {
	for _, t := range b.tabs {
		if t.id == id {
			return t
		}
	}
	return nil
}

// release lets acts wait for the page again. mu is held.
func (b *Browser) release(t *tab) {
	if t.dialog {
		t.dialog, t.held = false, make(chan struct{})
	}
}

// turn tells those who wait for a change of the tabs. mu is held.
func (b *Browser) turn() {
	close(b.changed)
	b.changed = make(chan struct{})
}

// attached takes a new page or frame, which stands still until prepared. mu is
// held.
func (b *Browser) attached(parent target.SessionID, e target.EventAttachedToTarget) {
	s := session{b.wire, e.SessionID}
	outer := b.tabs[parent]
	if outer == nil {
		outer = b.inner[parent]
	}
	switch {
	case ownPage(e.TargetInfo.URL):
		// The browser keeps pages of its own ready, for menus that are never shown here.
		b.setups.Go(func() { b.order(s, runtime.CommandRunIfWaitingForDebugger, nil) })
	case e.TargetInfo.Type == "page" && parent == "":
		b.opened++
		t := &tab{id: b.opened, target: e.TargetInfo.TargetID, s: s, held: make(chan struct{}), painted: make(chan struct{})}
		b.tabs[e.SessionID], b.frames[cdp.FrameID(t.target)] = t, t
		var opener TabID
		if o := b.byTarget(e.TargetInfo.OpenerID); o != nil {
			opener = o.id
		}
		b.emit(t, TabOpened{opener})
		if len(b.tabs) > b.config.Tabs {
			b.setups.Go(func() { b.closeTarget(t.target) }) // never run
			return
		}
		b.setups.Go(func() { b.prepare(t) })
	case e.TargetInfo.Type == "iframe" && outer != nil:
		b.inner[e.SessionID] = outer
		b.setups.Go(func() { b.prepareFrame(s) })
	default:
		b.setups.Go(func() { b.order(s, runtime.CommandRunIfWaitingForDebugger, nil) })
	}
}

// ownPage: a page that belongs to the browser and no person opened.
func ownPage(address string) bool {
	return strings.HasPrefix(address, "chrome://") || strings.HasPrefix(address, "chrome-untrusted://") || strings.HasPrefix(address, "devtools://")
}

// order sends commands whose replies are waited for one by one afterwards.
func (b *Browser) order(s session, commands ...any) error {
	var replies []*reply
	for i := 0; i+1 < len(commands); i += 2 {
		r, err := b.wire.send(s.id, commands[i].(string), commands[i+1])
		if err != nil {
			return err
		}
		replies = append(replies, r)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var errs []error
	for _, r := range replies {
		errs = append(errs, r.wait(ctx, nil, nil))
	}
	return errors.Join(errs...)
}

func (b *Browser) prepare(t *tab) {
	yes := true
	err := b.order(t.s,
		page.CommandEnable, nil, runtime.CommandEnable, nil, log.CommandEnable, nil, security.CommandEnable, nil,
		page.CommandSetInterceptFileChooserDialog, page.SetInterceptFileChooserDialogParams{Enabled: true},
		emulation.CommandSetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: int64(b.config.Width), Height: int64(b.config.Height), DeviceScaleFactor: 1},
		target.CommandSetAutoAttach, target.SetAutoAttachParams{AutoAttach: true, WaitForDebuggerOnStart: true, Flatten: &yes, Filter: target.Filter{{Type: "iframe"}}},
		runtime.CommandRunIfWaitingForDebugger, nil)
	if err != nil {
		if !errors.Is(err, errDetached) && !errors.Is(err, errLost) {
			b.end(ReasonWire, fmt.Sprintf("a tab cannot be listened to: %v", err))
		}
		return
	}
	if _, err := b.confined(); err != nil {
		select {
		case <-b.wire.lost: // it ended meanwhile
		default:
			b.end(ReasonUnsafe, err.Error())
		}
		return
	}
	b.mu.Lock()
	t.ready = true
	there := b.tabs[t.s.id] == t
	b.turn()
	b.mu.Unlock()
	if there {
		b.activate(t)
	}
}

func (b *Browser) prepareFrame(s session) {
	yes := true
	err := b.order(s, page.CommandEnable, nil, runtime.CommandEnable, nil, log.CommandEnable, nil,
		target.CommandSetAutoAttach, target.SetAutoAttachParams{AutoAttach: true, WaitForDebuggerOnStart: true, Flatten: &yes, Filter: target.Filter{{Type: "iframe"}}},
		runtime.CommandRunIfWaitingForDebugger, nil)
	if err != nil && !errors.Is(err, errDetached) && !errors.Is(err, errLost) {
		b.end(ReasonWire, fmt.Sprintf("a frame cannot be listened to: %v", err))
	}
}

// detached: a tab or frame is gone. mu is held.
func (b *Browser) detached(s target.SessionID) {
	delete(b.inner, s)
	t := b.tabs[s]
	if t == nil {
		return
	}
	delete(b.tabs, s)
	for id, of := range b.frames {
		if of == t {
			delete(b.frames, id)
		}
	}
	for id, of := range b.inner {
		if of == t {
			delete(b.inner, id)
		}
	}
	b.release(t)
	b.emit(t, TabClosed{})
	if b.active == t {
		b.active = nil
		var last *tab
		for _, other := range b.tabs {
			if other.ready && (last == nil || other.id > last.id) {
				last = other
			}
		}
		if last != nil {
			b.setups.Go(func() { b.activate(last) })
		}
	}
	b.turn()
}

func (b *Browser) closeTarget(id target.ID) error {
	r, err := b.wire.send("", target.CommandCloseTarget, target.CloseTargetParams{TargetID: id})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return r.wait(ctx, nil, nil)
}

// activate makes a tab the one that is shown and acted on.
func (b *Browser) activate(t *tab) {
	b.mu.Lock()
	if b.tabs[t.s.id] != t || b.active == t {
		b.mu.Unlock()
		return
	}
	before := b.active
	b.active = t
	b.emit(t, TabActive{})
	b.turn()
	b.mu.Unlock()
	if before != nil {
		b.wire.send(before.s.id, page.CommandStopScreencast, nil) // it may be gone
	}
	yes, quality := true, int64(b.config.Quality)
	err := b.order(t.s, page.CommandBringToFront, nil, page.CommandStartScreencast, page.StartScreencastParams{Format: page.StartScreencastFormatJpeg, Quality: &quality,
		MaxWidth: int64(b.config.Width), MaxHeight: int64(b.config.Height), EveryNthFrame: 1, MaxFramesInFlight: 3, SendLastFrame: &yes})
	if err != nil && !errors.Is(err, errDetached) && !errors.Is(err, errLost) {
		b.end(ReasonWire, fmt.Sprintf("a tab gives no pictures: %v", err))
	}
}

// picture takes a picture. Late ones of a tab that is not shown any more are
// dropped. mu is held.
func (b *Browser) picture(t *tab, e page.EventScreencastFrame) {
	if b.active != t {
		return
	}
	if !t.drawn {
		t.drawn = true
		close(t.painted)
	}
	b.pictures++
	f := Frame{Number: b.pictures, JPEG: e.Data, ack: e.SessionID}
	if d := e.Metadata; d != nil {
		f.Width, f.Height, f.ScrollX, f.ScrollY = int(d.DeviceWidth), int(d.DeviceHeight), int(d.ScrollOffsetX), int(d.ScrollOffsetY)
		if s := d.Timestamp.Float64(); s > 0 {
			f.Shown = time.UnixMicro(int64(s * 1e6)).UTC()
		}
	}
	b.emit(t, f)
}

func (b *Browser) acknowledge(id TabID, f Frame) {
	b.mu.Lock()
	t := b.byID(id)
	b.mu.Unlock()
	if t != nil {
		r, err := b.wire.send(t.s.id, page.CommandScreencastFrameAck, page.ScreencastFrameAckParams{SessionID: f.ack})
		if err == nil {
			b.wire.drop(r.id)
		}
	}
}
