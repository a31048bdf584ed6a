package browser

import (
	"time"

	"github.com/zhenglian/zhenglian/internal/capture/sandbox"
)

// TabID names a tab within a session: 1, 2, … in order of opening.
type TabID int

// Event is something that the browser did or said.
type Event struct {
	Seq  uint64    // 1, 2, …
	At   time.Time // when the recorder read it from the pipe
	Tab  TabID     // 0: of no tab
	Body Body
}

// Body is one of the types of this file.
type Body interface {
	// Kind is the event's name in the record: "nav.committed", …
	Kind() string
}

type (
	// Started is the first event.
	Started struct {
		Product   string // "Chrome/156.0.8078.79"
		Protocol  string
		UserAgent string
		Program   string   // path of the browser
		Args      []string // as started, without the address
		Processes []sandbox.Process
	}
	// Frame is a picture of the active tab's page.
	Frame struct {
		Number  uint64    // 1, 2, … across tabs
		JPEG    []byte    // as the browser gave it
		Shown   time.Time // the browser's clock, when it drew it; zero when not told
		Width   int       // of the page, in CSS pixels
		Height  int
		ScrollX int
		ScrollY int

		ack int64
	}
	// NavStarted: a frame set out for an address; where it arrives may differ.
	NavStarted struct {
		Main bool
		URL  string
		How  string // the protocol's word: "reload", "differentDocument", …
	}
	// NavCommitted: a frame shows another document.
	NavCommitted struct {
		Main        bool
		URL         string // with fragment
		Media       string // as the browser took it
		Unreachable string // the address that could not be loaded: what is shown is the browser's own page
	}
	// NavWithin: the address changed, the document did not.
	NavWithin struct {
		Main bool
		URL  string
	}
	// NavLoaded: the main document and what it asked for are loaded.
	NavLoaded struct{}
	// PageInfo: what the address bar shows.
	PageInfo struct{ URL, Title string }
	// Security is what the browser would show beside the address.
	Security struct {
		State       string // "secure", "neutral", "insecure", "insecure-broken", "unknown"
		Protocol    string // of TLS; "" for none
		Subject     string // of the certificate the browser saw: the session's own copy
		Issuer      string
		Certificate []byte // DER
		Error       string // "net::ERR_CERT_AUTHORITY_INVALID", …; "" for none
		Issues      []string
	}
	// TabOpened: a tab is there. Opener is the tab whose page opened it, 0 for none.
	TabOpened struct{ Opener TabID }
	// TabActive: pictures are of this tab from now on.
	TabActive struct{}
	// TabClosed: it is gone.
	TabClosed struct{}
	// TabCrashed: its renderer ended. Reload and Navigate revive it.
	TabCrashed struct {
		Status string // the protocol's word: "killed", "crashed", "oom", …
		Code   int64
	}
	// DialogOpened: the page waits for AnswerDialog.
	DialogOpened struct {
		Type    string // "alert", "confirm", "prompt", "beforeunload"
		Message string
		Default string // of a prompt
		URL     string // of the frame that asks
	}
	// DialogClosed: it was answered, or the page went away.
	DialogClosed struct {
		Accepted bool
		Text     string
	}
	// SelectOpened: a list is open that is in no picture. Choose answers it.
	SelectOpened struct {
		Select        int // for Choose
		Options       []Option
		X, Y          int // of the box, in the page's picture
		Width, Height int
	}
	// FileAsked: the page asked for a file of the visitor's. She cannot give any.
	FileAsked struct{ Multiple bool }
	// DownloadBegun: a file is being saved.
	DownloadBegun struct {
		ID   string // of the browser; the file's name in the downloads
		URL  string
		Name string // that the site suggests
	}
	// DownloadEnded: State is "completed" or "canceled". The file is opened with
	// Browser.Download.
	DownloadEnded struct {
		ID    string
		State string
		Size  int64 // octets received
	}
	// Console is an error or warning of the page's programs, or of the browser about
	// the page.
	Console struct {
		Level  string // "error", "warning"
		Source string // "exception", "console", "network", "security", …
		Text   string
		URL    string
		Line   int64 // from 1; 0: not told
	}
	// Ended is the last event; the channel is closed after it.
	Ended struct {
		Reason string // one of the Reason constants
		Detail string // English, for the record
	}
)

// Reasons of Ended.
const (
	ReasonClosed  = "closed"         // Close, or the context's end
	ReasonCrashed = "crashed"        // the browser ended by itself
	ReasonLimit   = "limit"          // a limit of the sandbox: Detail is "time" or "disk"
	ReasonRecord  = "record-failed"  // Before failed, or the events were not taken
	ReasonUnsafe  = "unsafe"         // a renderer without sandbox
	ReasonWire    = "protocol-error" // the browser said what cannot be read
)

// Option is one of a select box.
type Option struct {
	Index    int // in the box, headings of groups not counted
	Label    string
	Group    string
	Disabled bool
	Selected bool
}

func (Started) Kind() string       { return "browser.started" }
func (Frame) Kind() string         { return "frame" }
func (NavStarted) Kind() string    { return "nav.started" }
func (NavCommitted) Kind() string  { return "nav.committed" }
func (NavWithin) Kind() string     { return "nav.within" }
func (NavLoaded) Kind() string     { return "nav.loaded" }
func (PageInfo) Kind() string      { return "nav.address" }
func (Security) Kind() string      { return "security.state" }
func (TabOpened) Kind() string     { return "tab.opened" }
func (TabActive) Kind() string     { return "tab.active" }
func (TabClosed) Kind() string     { return "tab.closed" }
func (TabCrashed) Kind() string    { return "tab.crashed" }
func (DialogOpened) Kind() string  { return "dialog.opened" }
func (DialogClosed) Kind() string  { return "dialog.closed" }
func (SelectOpened) Kind() string  { return "select.opened" }
func (FileAsked) Kind() string     { return "file.asked" }
func (DownloadBegun) Kind() string { return "download.begin" }
func (DownloadEnded) Kind() string { return "download.end" }
func (Console) Kind() string       { return "console" }
func (Ended) Kind() string         { return "browser.ended" }

const (
	maxText  = 16 << 10 // octets of a text that a page decides; what is longer is cut
	maxQueue = 20000    // events that nobody has taken
)

// clip cuts a text that a page decides.
func clip(s string) string {
	if len(s) <= maxText {
		return s
	}
	cut := maxText
	for cut > 0 && s[cut]&0xc0 == 0x80 { // not within a character
		cut--
	}
	return s[:cut] + "…"
}
