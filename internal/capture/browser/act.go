package browser

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"unicode/utf8"
)

// Act is what a person or a script does: one of the types of this file.
type Act interface {
	// Kind is the act's name in the record: "navigate", "mouse", …
	Kind() string
	// Fields are the act as the record has it: strings, ints and bools.
	Fields() map[string]any
	check() error
}

// Modifiers held with a key or button.
const (
	Alt     = 1
	Control = 2
	Meta    = 4
	Shift   = 8
)

type (
	// Navigate opens an address in the active tab: http or https.
	Navigate struct{ URL string }
	// History goes back (-1), forward (1) or further.
	History struct{ By int }
	// Reload loads the page again.
	Reload struct{}
	// Stop ends the loading.
	Stop struct{}
	// OpenTab opens a tab with an address, or an empty one, and goes to it.
	OpenTab struct{ URL string }
	// SwitchTab goes to a tab.
	SwitchTab struct{ Tab TabID }
	// CloseTab closes a tab. The last one is not closed.
	CloseTab struct{ Tab TabID }
	// Mouse moves, presses or releases. X and Y are in the page, from its upper left
	// corner as shown, in CSS pixels.
	Mouse struct {
		Type      string // "move", "down", "up"
		X, Y      int
		Button    string // "left", "middle", "right"; "none" or "" when moving without
		Clicks    int    // 1, 2 or 3 with a button
		Modifiers int
	}
	// Wheel scrolls at a place, in CSS pixels; down and right are positive.
	Wheel struct {
		X, Y, DX, DY int
		Modifiers    int
	}
	// Key presses or releases a key, in the words of the DOM's KeyboardEvent.
	Key struct {
		Type      string // "down", "up"
		Key       string // "a", "Enter", "ArrowDown"
		Code      string // "KeyA"
		KeyCode   int    // the legacy number; 0: found from Key
		Modifiers int
		Repeat    bool
	}
	// Text enters text at once, as an input method does when it is done: any script.
	Text struct{ Text string }
	// Compose shows what an input method is about to enter; "" drops it. Text ends it.
	Compose struct {
		Text       string
		Start, End int // selection within, in UTF-16 units
	}
	// Reveal scrolls to an element that a script names, as Locate finds it.
	Reveal struct{ Selector, Text string }
	// Choose answers SelectOpened; Index -1 closes the list without a choice.
	Choose struct{ Select, Index int }
	// AnswerDialog answers DialogOpened in a tab.
	AnswerDialog struct {
		Tab    TabID
		Accept bool
		Text   string // of a prompt
	}
)

func (Navigate) Kind() string     { return "navigate" }
func (History) Kind() string      { return "history" }
func (Reload) Kind() string       { return "reload" }
func (Stop) Kind() string         { return "stop" }
func (OpenTab) Kind() string      { return "tab.open" }
func (SwitchTab) Kind() string    { return "tab.switch" }
func (CloseTab) Kind() string     { return "tab.close" }
func (Mouse) Kind() string        { return "mouse" }
func (Wheel) Kind() string        { return "wheel" }
func (Key) Kind() string          { return "key" }
func (Text) Kind() string         { return "text" }
func (Compose) Kind() string      { return "compose" }
func (Reveal) Kind() string       { return "reveal" }
func (Choose) Kind() string       { return "choose" }
func (AnswerDialog) Kind() string { return "dialog.answer" }

func (a Navigate) Fields() map[string]any  { return map[string]any{"url": a.URL} }
func (a History) Fields() map[string]any   { return map[string]any{"by": a.By} }
func (Reload) Fields() map[string]any      { return map[string]any{} }
func (Stop) Fields() map[string]any        { return map[string]any{} }
func (a OpenTab) Fields() map[string]any   { return map[string]any{"url": a.URL} }
func (a SwitchTab) Fields() map[string]any { return map[string]any{"tab": int(a.Tab)} }
func (a CloseTab) Fields() map[string]any  { return map[string]any{"tab": int(a.Tab)} }
func (a Mouse) Fields() map[string]any {
	return map[string]any{"type": a.Type, "x": a.X, "y": a.Y, "button": a.Button, "clicks": a.Clicks, "modifiers": a.Modifiers}
}
func (a Wheel) Fields() map[string]any {
	return map[string]any{"x": a.X, "y": a.Y, "dx": a.DX, "dy": a.DY, "modifiers": a.Modifiers}
}
func (a Key) Fields() map[string]any {
	return map[string]any{"type": a.Type, "key": a.Key, "code": a.Code, "keyCode": a.KeyCode, "modifiers": a.Modifiers, "repeat": a.Repeat}
}
func (a Text) Fields() map[string]any { return map[string]any{"text": a.Text} }
func (a Compose) Fields() map[string]any {
	return map[string]any{"text": a.Text, "start": a.Start, "end": a.End}
}
func (a Reveal) Fields() map[string]any {
	return map[string]any{"selector": a.Selector, "text": a.Text}
}
func (a Choose) Fields() map[string]any { return map[string]any{"select": a.Select, "index": a.Index} }
func (a AnswerDialog) Fields() map[string]any {
	return map[string]any{"tab": int(a.Tab), "accept": a.Accept, "text": a.Text}
}

// Refused is an act that is not let through to the browser; it was not written
// down either.
type Refused struct {
	Code string // "address", "value", "tab", "dialog", "select"
	Text string // English; the portal has the reader's language
}

func (r *Refused) Error() string { return r.Text }

func refuse(code, format string, args ...any) error {
	return &Refused{code, fmt.Sprintf(format, args...)}
}

// CheckURL refuses what is no plain address of the web.
func CheckURL(address string) error {
	if len(address) > 8192 {
		return refuse("address", "the address has %d characters, more than 8192", len(address))
	}
	u, err := url.Parse(address)
	switch {
	case err != nil:
		return refuse("address", "the address cannot be read: %v", errors.Unwrap(err))
	case u.Scheme != "http" && u.Scheme != "https":
		return refuse("address", "only addresses that begin with http:// or https:// are opened, not %q", clip(u.Scheme))
	case u.Host == "" || u.Opaque != "":
		return refuse("address", "the address names no host")
	case u.User != nil:
		return refuse("address", "the address holds a name or password before the host: leave it out")
	case strings.ContainsFunc(address, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\\' }):
		return refuse("address", "the address holds a character that addresses do not have")
	}
	return nil
}

const (
	far      = 1 << 14 // no page's picture is larger, in pixels
	maxInput = 10000   // octets of text entered at once
)

func within(name string, v, low, high int) error {
	if v < low || v > high {
		return refuse("value", "%s is %d, not between %d and %d", name, v, low, high)
	}
	return nil
}

func oneOf(name, v string, of ...string) error {
	for _, o := range of {
		if v == o {
			return nil
		}
	}
	return refuse("value", "%s is %q, none of %s", name, clip(v), strings.Join(of, ", "))
}

func text(name, v string) error {
	if len(v) > maxInput || !utf8.ValidString(v) {
		return refuse("value", "%s is longer than %d octets or no text", name, maxInput)
	}
	return nil
}

func (a Navigate) check() error { return CheckURL(a.URL) }
func (a History) check() error {
	if a.By == 0 {
		return refuse("value", "by is 0: it is the page that is shown")
	}
	return within("by", a.By, -50, 50)
}
func (Reload) check() error { return nil }
func (Stop) check() error   { return nil }
func (a OpenTab) check() error {
	if a.URL == "" {
		return nil
	}
	return CheckURL(a.URL)
}
func (SwitchTab) check() error { return nil }
func (CloseTab) check() error  { return nil }
func (a Mouse) check() error {
	err := errors.Join(within("x", a.X, -far, far), within("y", a.Y, -far, far), within("modifiers", a.Modifiers, 0, 15),
		oneOf("type", a.Type, "move", "down", "up"), oneOf("button", a.Button, "", "none", "left", "middle", "right"), within("clicks", a.Clicks, 0, 3))
	if err == nil && a.Type != "move" && (a.Button == "" || a.Button == "none") {
		err = refuse("value", "no button is named to press or release")
	}
	return err
}
func (a Wheel) check() error {
	return errors.Join(within("x", a.X, -far, far), within("y", a.Y, -far, far), within("dx", a.DX, -far, far), within("dy", a.DY, -far, far), within("modifiers", a.Modifiers, 0, 15))
}
func (a Key) check() error {
	if a.Key == "" || len(a.Key) > 64 || len(a.Code) > 64 || !utf8.ValidString(a.Key) || !utf8.ValidString(a.Code) {
		return refuse("value", "the key has no name or none that is one")
	}
	return errors.Join(oneOf("type", a.Type, "down", "up"), within("modifiers", a.Modifiers, 0, 15), within("keyCode", a.KeyCode, 0, 255))
}
func (a Text) check() error {
	if a.Text == "" {
		return refuse("value", "there is no text to enter")
	}
	return text("text", a.Text)
}
func (a Compose) check() error {
	return errors.Join(text("text", a.Text), within("start", a.Start, 0, maxInput), within("end", a.End, 0, maxInput))
}
func (a Reveal) check() error       { return errors.Join(text("selector", a.Selector), text("text", a.Text)) }
func (a Choose) check() error       { return within("index", a.Index, -1, 1<<20) }
func (a AnswerDialog) check() error { return text("text", a.Text) }
