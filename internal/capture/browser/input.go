package browser

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"
	"unicode/utf8"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp/kb"
)

// Input lets an act through to the browser. It checks the act (*Refused), calls
// Before, sends the act, and returns when the browser has taken it: when the page
// has seen an input, when a navigation has an answer. It does not wait for a page
// that waits for a dialog's answer. Acts are sent in the order in which Before
// was called; calls that wait for the browser do not hold up others, so that a
// load can be stopped.
func (b *Browser) Input(ctx context.Context, act Act) error {
	if act == nil {
		return refuse("value", "there is no act")
	}
	if err := act.check(); err != nil {
		return err
	}
	wait, err := b.dispatch(ctx, act)
	if err != nil {
		return err
	}
	err = wait(ctx)
	if errors.Is(err, errHeldUp) {
		return nil // it was taken: the page asks something
	}
	if err != nil {
		return fmt.Errorf("act %s: %w", act.Kind(), err)
	}
	return nil
}

// waiting waits for what became of an act that was sent.
type waiting func(context.Context) error

func taken(context.Context) error { return nil }

// dispatch writes an act down and sends it, while no other act is.
func (b *Browser) dispatch(ctx context.Context, act Act) (waiting, error) {
	b.acting.Lock()
	defer b.acting.Unlock()
	t, err := b.addressed(act)
	if err != nil {
		return nil, err
	}
	switch act.(type) {
	case Mouse, Wheel, Key, Text, Compose:
		b.awaitPaint(ctx, t)
	}
	// What has to be asked of the page is asked before the act is written down, so
	// that nothing lies between the record and the act.
	var found *selectBox
	if m, ok := act.(Mouse); ok && m.Type == "down" && m.Button == "left" {
		found = b.findSelect(ctx, t, m.X, m.Y)
	}
	if k, ok := act.(Key); ok && k.opensSelect() {
		found = b.findFocusedSelect(ctx, t)
	}
	var entry *page.NavigationEntry
	if h, ok := act.(History); ok {
		if entry, err = b.historyEntry(ctx, t, h.By); err != nil {
			return nil, err
		}
	}
	if err := b.before(ctx, t, act); err != nil {
		return nil, err
	}
	if entry != nil {
		return b.sendTo(t, page.CommandNavigateToHistoryEntry, page.NavigateToHistoryEntryParams{EntryID: entry.ID})
	}
	wait, err := b.carryOut(t, act)
	if err == nil && found != nil {
		plain := wait
		wait = func(ctx context.Context) error { err := plain(ctx); b.announce(found); return err }
	}
	return wait, err
}

// awaitPaint waits a little for a new document to be drawn: the browser drops
// what is pressed before, and what is written down should have been seen.
func (b *Browser) awaitPaint(ctx context.Context, t *tab) {
	b.mu.Lock()
	painted := t.painted
	b.mu.Unlock()
	enough := time.NewTimer(time.Second)
	defer enough.Stop()
	select {
	case <-painted:
	case <-enough.C:
	case <-b.wire.lost:
	case <-ctx.Done():
	}
}

// before has the act written down. Without that there is no act, and no browser.
func (b *Browser) before(ctx context.Context, t *tab, act Act) error {
	if err := b.config.Before(ctx, t.id, act); err != nil {
		b.end(ReasonRecord, "an act could not be written down: "+err.Error())
		return fmt.Errorf("writing down an act before it is done: %w", err)
	}
	return nil
}

// addressed finds the tab that an act is for and whether it can take it.
func (b *Browser) addressed(act Act) (*tab, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ending != nil {
		return nil, errLost
	}
	t := b.active
	switch a := act.(type) {
	case SwitchTab:
		t = b.byID(a.Tab)
	case CloseTab:
		t = b.byID(a.Tab)
		if t != nil && len(b.tabs) == 1 {
			return nil, refuse("tab", "the last tab is not closed: end the recording instead")
		}
	case AnswerDialog:
		if t = b.byID(a.Tab); t != nil && !t.dialog {
			return nil, refuse("dialog", "tab %d asks nothing", a.Tab)
		}
		if t != nil {
			return t, nil
		}
	case OpenTab:
		if len(b.tabs) >= b.config.Tabs {
			return nil, refuse("tab", "there are %d tabs: close one first", len(b.tabs))
		}
	case Choose:
		if s := b.selects[a.Select]; s == nil || s.tab != b.active {
			return nil, refuse("select", "list %d is not open", a.Select)
		} else if a.Index >= len(s.options) || a.Index >= 0 && s.options[a.Index].Disabled {
			return nil, refuse("select", "list %d has no option %d that can be chosen", a.Select, a.Index)
		}
	}
	switch act.(type) {
	case SwitchTab, CloseTab, OpenTab:
	case Navigate, Reload:
		if t != nil && t.dialog {
			return nil, refuse("dialog", "the page asks something: answer first")
		}
	default:
		switch {
		case t != nil && t.dialog:
			return nil, refuse("dialog", "the page asks something: answer first")
		case t != nil && t.crashed:
			return nil, refuse("tab", "the page crashed: load it again or open another address")
		}
	}
	if t == nil {
		return nil, refuse("tab", "there is no such tab")
	}
	return t, nil
}

// sendTo sends a command to a tab; what waits stops waiting when a dialog opens.
func (b *Browser) sendTo(t *tab, method string, params any) (waiting, error) {
	b.mu.Lock()
	held := t.held
	b.mu.Unlock()
	r, err := b.wire.send(t.s.id, method, params)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) error { return r.wait(ctx, held, nil) }, nil
}

// wheel is input.DispatchMouseEventParams with deltas that are sent when 0: a
// wheel event without deltaX is refused.
type wheel struct {
	Type      string  `json:"type"`
	X         int     `json:"x"`
	Y         int     `json:"y"`
	Modifiers int     `json:"modifiers"`
	DeltaX    float64 `json:"deltaX"`
	DeltaY    float64 `json:"deltaY"`
}

func (b *Browser) carryOut(t *tab, act Act) (waiting, error) {
	switch a := act.(type) {
	case Navigate:
		return b.sendTo(t, page.CommandNavigate, page.NavigateParams{URL: a.URL, TransitionType: page.TransitionTypeTyped})
	case Reload:
		return b.sendTo(t, page.CommandReload, page.ReloadParams{})
	case Stop:
		return b.sendTo(t, page.CommandStopLoading, nil)
	case OpenTab:
		return b.openTab(a)
	case SwitchTab:
		b.activate(t)
		return taken, nil
	case CloseTab:
		return b.sendClose(t)
	case Mouse:
		return b.sendTo(t, input.CommandDispatchMouseEvent, b.mouse(t, a))
	case Wheel:
		return b.sendTo(t, input.CommandDispatchMouseEvent, wheel{"mouseWheel", a.X, a.Y, a.Modifiers, float64(a.DX), float64(a.DY)})
	case Key:
		return b.sendTo(t, input.CommandDispatchKeyEvent, a.params())
	case Text:
		return b.sendTo(t, input.CommandInsertText, input.InsertTextParams{Text: a.Text})
	case Compose:
		return b.sendTo(t, input.CommandImeSetComposition, input.ImeSetCompositionParams{Text: a.Text, SelectionStart: int64(a.Start), SelectionEnd: int64(a.End)})
	case Reveal:
		return func(ctx context.Context) error {
			_, err := b.seek(ctx, t, a.Selector, a.Text, true)
			return err
		}, nil
	case Choose:
		return b.choose(t, a)
	case AnswerDialog:
		r, err := b.wire.send(t.s.id, page.CommandHandleJavaScriptDialog, page.HandleJavaScriptDialogParams{Accept: a.Accept, PromptText: a.Text})
		if err != nil {
			return nil, err
		}
		return func(ctx context.Context) error { return r.wait(ctx, nil, nil) }, nil
	}
	return nil, refuse("value", "there is no act %T", act)
}

func (b *Browser) openTab(a OpenTab) (waiting, error) {
	address := a.URL
	if address == "" {
		address = "about:blank"
	}
	r, err := b.wire.send("", target.CommandCreateTarget, target.CreateTargetParams{URL: address})
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		var made target.CreateTargetResult
		if err := r.wait(ctx, nil, &made); err != nil {
			return err
		}
		return b.awaitTab(ctx, func() bool { return b.active != nil && b.active.target == made.TargetID })
	}, nil
}

func (b *Browser) sendClose(t *tab) (waiting, error) {
	r, err := b.wire.send("", target.CommandCloseTarget, target.CloseTargetParams{TargetID: t.target})
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		if err := r.wait(ctx, t.held, nil); err != nil {
			return err
		}
		return b.awaitTab(ctx, func() bool { return b.byID(t.id) == nil || t.dialog })
	}, nil
}

// historyEntry finds where the history goes. Only the web's addresses are gone to.
func (b *Browser) historyEntry(ctx context.Context, t *tab, by int) (*page.NavigationEntry, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var h page.GetNavigationHistoryResult
	if err := t.s.Call(ctx, page.CommandGetNavigationHistory, nil, &h); err != nil {
		return nil, fmt.Errorf("reading the tab's history: %w", err)
	}
	to := int(h.CurrentIndex) + by
	if to < 0 || to >= len(h.Entries) {
		return nil, refuse("value", "there is no page there in this tab's history")
	}
	if u, err := url.Parse(h.Entries[to].URL); err != nil || u.Scheme != "http" && u.Scheme != "https" && h.Entries[to].URL != "about:blank" {
		return nil, refuse("address", "the page there is none of the web")
	}
	return h.Entries[to], nil
}

func (b *Browser) mouse(t *tab, a Mouse) input.DispatchMouseEventParams {
	bit := map[string]int{"left": 1, "right": 2, "middle": 4}[a.Button]
	b.mu.Lock()
	defer b.mu.Unlock()
	out := input.DispatchMouseEventParams{X: float64(a.X), Y: float64(a.Y), Modifiers: int64(a.Modifiers), Button: input.MouseButton(a.Button), ClickCount: int64(a.Clicks)}
	switch a.Type {
	case "down":
		out.Type = input.DispatchMouseEventTypeMousePressed
		t.buttons |= bit
	case "up":
		out.Type = input.DispatchMouseEventTypeMouseReleased
		t.buttons &^= bit
	default:
		out.Type = input.DispatchMouseEventTypeMouseMoved
		if out.Button == "" {
			out.Button = input.MouseButtonNone
		}
	}
	out.Buttons = int64(t.buttons)
	return out
}

// params are the protocol's. A key with a character enters it, but not with
// Control, Alt or Meta.
func (k Key) params() input.DispatchKeyEventParams {
	out := input.DispatchKeyEventParams{Type: input.DispatchKeyEventTypeKeyUp, Key: k.Key, Code: k.Code, Modifiers: int64(k.Modifiers), WindowsVirtualKeyCode: int64(k.KeyCode)}
	if r, size := utf8.DecodeRuneInString(k.Key); size == len(k.Key) {
		if known, ok := kb.Keys[r]; ok {
			if out.WindowsVirtualKeyCode == 0 {
				out.WindowsVirtualKeyCode = known.Windows
			}
			if out.Code == "" {
				out.Code = known.Code
			}
		}
	} else if code := legacy(k.Key); out.WindowsVirtualKeyCode == 0 {
		out.WindowsVirtualKeyCode = int64(code)
	}
	out.NativeVirtualKeyCode = out.WindowsVirtualKeyCode
	if k.Type != "down" {
		return out
	}
	out.Type = input.DispatchKeyEventTypeRawKeyDown
	if k.Repeat {
		yes := true
		out.AutoRepeat = &yes
	}
	if k.Modifiers&(Control|Alt|Meta) == 0 {
		switch {
		case k.Key == "Enter":
			out.Text = "\r"
		case utf8.RuneCountInString(k.Key) == 1:
			out.Text = k.Key
		}
		if out.Text != "" {
			out.Type, out.UnmodifiedText = input.DispatchKeyEventTypeKeyDown, out.Text
		}
	}
	return out
}

// legacy is the number that UI Events, appendix "Legacy Key & Mouse Event
// Attributes", gives to a named key; 0 for others.
func legacy(key string) int {
	return map[string]int{
		"Backspace": 8, "Tab": 9, "Enter": 13, "Shift": 16, "Control": 17, "Alt": 18, "CapsLock": 20, "Escape": 27,
		"PageUp": 33, "PageDown": 34, "End": 35, "Home": 36, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40,
		"Insert": 45, "Delete": 46, "Meta": 91,
		"F1": 112, "F2": 113, "F3": 114, "F4": 115, "F5": 116, "F6": 117, "F7": 118, "F8": 119, "F9": 120, "F10": 121, "F11": 122, "F12": 123,
	}[key]
}
