package capture

import (
	"context"
	"io"
	"net"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/evidence/recording"
)

// Browser is the recorded browser as a script drives it. Every error but
// *StepError means that the browser is gone.
type Browser interface {
	// Version is the browser's own name and version; Binary the digest of the
	// program, zeros when not known.
	Version() string
	Binary() evidence.Digest
	// Goto opens an address and returns when it is loaded.
	Goto(ctx context.Context, url string) error
	// Click clicks the element that a CSS selector finds, or that shows the text.
	Click(ctx context.Context, selector, text string) error
	Type(ctx context.Context, selector, text string) error
	// Wait waits until the selector finds a visible element.
	Wait(ctx context.Context, selector string) error
	// Scroll moves the page by so many pixels down.
	Scroll(ctx context.Context, pixels int) error
	// Download clicks like Click, and returns when a file was saved and the Observer
	// was told of it.
	Download(ctx context.Context, selector, text string) error
	// Page is what is shown now.
	Page(ctx context.Context) (*Page, error)
	// Gone is closed when the browser ended; Why says how.
	Gone() <-chan struct{}
	Why() string
	// Close ends the browser and destroys its profile.
	Close() error
}

// Page is what a step shows.
type Page struct {
	URL, Title string
	Status     int    // HTTP status of the document, 0 when not known
	Security   string // the browser's own word: secure, insecure, neutral…
	Screenshot []byte // PNG
	DOM        []byte // markup as it stands
	Tree       []byte // the same with its frames and where things are, in the browser's JSON; may be nil
}

// StepError says why a step could not be done; the browser goes on.
type StepError struct{ Reason string }

func (e *StepError) Error() string { return e.Reason }

// Observer is told by the browser what happens in it. *Session is one.
type Observer interface {
	Event(kind string, data recording.Data, blobs ...Blob) error
	Frame(at time.Time, width, height int, jpeg []byte) error
	// Download records a saved file, and returns the name that it has in the record.
	Download(id, url, name, state string, r io.Reader) (string, error)
}

// Launch is what a browser needs to begin.
type Launch struct {
	SPKI     string // of the session's authority: proxy.CA.SPKI
	CA       []byte // its certificate, DER
	Width    int
	Height   int
	Observer Observer
	// Begun is closed when the session is in the phase during: what the browser says
	// is told to the Observer from then on.
	Begun <-chan struct{}
}

// Room is where the browser lives: it reaches nothing but the proxy.
type Room interface {
	// Listener is where the proxy serves it. Called once.
	Listener() (net.Listener, error)
	// Report says what holds the browser, for the record, in JSON; nil: nothing to say.
	Report() ([]byte, error)
	// Start starts the browser. Called once, after the proxy serves.
	Start(ctx context.Context, l Launch) (Browser, error)
	// Close ends what lives in it and destroys what it left.
	Close() error
}
