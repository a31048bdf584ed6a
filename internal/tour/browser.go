package tour

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// ErrNoBrowser says that there is no Chromium on this machine.
var ErrNoBrowser = errors.New("there is no Chromium here: install Debian's package chromium")

// Browser is a Chromium without a window.
type Browser struct {
	ctx    context.Context
	cancel context.CancelFunc
	said   *bytes.Buffer // what the process wrote
	temp   string
}

// Find returns the path of Chromium. ErrNoBrowser.
func Find() (string, error) {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", ErrNoBrowser
}

// Open starts a browser that reaches this machine alone: names other than
// localhost do not resolve. It lives until Close or the end of ctx.
func Open(ctx context.Context) (*Browser, error) {
	path, err := Find()
	if err != nil {
		return nil, err
	}
	temp, err := os.MkdirTemp("", "tour-")
	if err != nil {
		return nil, fmt.Errorf("making a folder for the browser: %w", err)
	}
	b := &Browser{said: &bytes.Buffer{}, temp: temp}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path),
		chromedp.UserDataDir(temp+"/profile"),
		chromedp.CombinedOutput(b.said),
		chromedp.DisableGPU,
		chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE *.localhost"),
		chromedp.Flag("disable-component-update", true),
		// File names are read in the locale's encoding, and one that is not
		// installed here would make Chinese ones unreadable.
		chromedp.Env("LC_ALL=C.UTF-8"),
	)
	allocator, stop := chromedp.NewExecAllocator(ctx, options...)
	first, cancel := chromedp.NewContext(allocator, chromedp.WithErrorf(func(string, ...any) {}))
	b.ctx, b.cancel = first, func() { cancel(); stop() }
	if err := chromedp.Do(first); err != nil {
		b.cancel() // ends the writing to said
		return nil, errors.Join(fmt.Errorf("starting %s: %w\n%s", path, err, b.said), os.RemoveAll(temp))
	}
	return b, nil
}

// Close ends the browser and removes its files.
func (b *Browser) Close() error {
	b.cancel()
	if err := os.RemoveAll(b.temp); err != nil {
		return fmt.Errorf("removing the browser's files: %w", err)
	}
	return nil
}

// Screen is what a visitor looks at. The zero value is a desktop's of
// 1280 × 900, light.
type Screen struct {
	Width, Height int
	Dark          bool
	Mobile        bool
	Lang          string // of Accept-Language; "zh-CN" when empty
	Still         bool   // prefers reduced motion
	Print         bool   // as on paper
}

// Visitor is a person at a browser of her own: nothing of other visitors'.
type Visitor struct {
	// Patience is how long a step may take (15 s).
	Patience time.Duration

	ctx       context.Context
	cancel    context.CancelFunc
	downloads string
	lang      string

	mu       sync.Mutex
	console  []string
	requests []string
	finished map[string]string // guid → name of a completed download
}

// Visit opens an empty page for a new visitor.
func (b *Browser) Visit(screen Screen) (*Visitor, error) {
	ctx, cancel := chromedp.NewContext(b.ctx, chromedp.WithNewBrowserContext())
	v := &Visitor{Patience: 15 * time.Second, ctx: ctx, cancel: cancel, finished: map[string]string{}}
	if err := v.begin(b, screen); err != nil {
		cancel()
		return nil, fmt.Errorf("opening a page: %w", err)
	}
	return v, nil
}

func (v *Visitor) begin(b *Browser, screen Screen) error {
	var err error
	if v.downloads, err = os.MkdirTemp(b.temp, "downloads-"); err != nil {
		return err
	}
	if err := chromedp.Do(v.ctx); err != nil {
		return err
	}
	if err := chromedp.Listen(v.ctx, v.hear); err != nil {
		return err
	}
	if err := chromedp.ListenBrowser(v.ctx, v.hear); err != nil {
		return err
	}
	if _, err := chromedp.Call(v.ctx, network.Enable, network.EnableParams{}); err != nil {
		return err
	}
	yes := true
	allow := browser.SetDownloadBehaviorParams{Behavior: browser.SetDownloadBehaviorBehaviorAllowAndName,
		BrowserContextID: chromedp.FromContext(v.ctx).BrowserContextID, DownloadPath: v.downloads, EventsEnabled: &yes}
	if _, err := chromedp.CallBrowser(v.ctx, browser.SetDownloadBehavior, allow); err != nil {
		return err
	}
	return v.Look(screen)
}

// hear keeps what the page says and asks for.
func (v *Visitor) hear(ev any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch ev := ev.(type) {
	case *runtime.EventExceptionThrown:
		text := ev.ExceptionDetails.Text
		if e := ev.ExceptionDetails.Exception; e != nil {
			text += " " + e.Description
		}
		v.console = append(v.console, text)
	case *runtime.EventConsoleAPICalled:
		if ev.Type == runtime.ConsoleAPICalledTypeError || ev.Type == runtime.ConsoleAPICalledTypeWarning {
			text := string(ev.Type)
			for _, a := range ev.Args {
				text += " " + string(a.Value) + a.Description
			}
			v.console = append(v.console, text)
		}
	case *log.EventEntryAdded:
		if ev.Entry.Level == log.EntryLevelError || ev.Entry.Level == log.EntryLevelWarning {
			v.console = append(v.console, string(ev.Entry.Source)+": "+ev.Entry.Text+" "+ev.Entry.URL)
		}
	case *network.EventRequestWillBeSent:
		v.requests = append(v.requests, ev.Request.Method+" "+ev.Request.URL)
	case *browser.EventDownloadProgress:
		if ev.State == browser.DownloadProgressStateCompleted {
			v.finished[ev.GUID] = v.downloads + "/" + ev.GUID
		}
	}
}

// Look changes the screen. The language holds from the next page on.
func (v *Visitor) Look(screen Screen) error {
	if screen.Width == 0 {
		screen.Width = 1280
	}
	if screen.Height == 0 {
		screen.Height = 900
	}
	if screen.Lang == "" {
		screen.Lang = "zh-CN"
	}
	v.lang = screen.Lang
	features := []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: pick(screen.Dark, "dark", "light")},
		{Name: "prefers-reduced-motion", Value: pick(screen.Still, "reduce", "no-preference")}}
	ctx, done := v.step(v.ctx)
	defer done()
	if _, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Media: pick(screen.Print, "print", ""), Features: features}); err != nil {
		return fmt.Errorf("setting the colour scheme: %w", err)
	}
	size := emulation.SetDeviceMetricsOverrideParams{Width: int64(screen.Width), Height: int64(screen.Height), DeviceScaleFactor: 1, Mobile: screen.Mobile}
	if _, err := chromedp.Call(ctx, emulation.SetDeviceMetricsOverride, size); err != nil {
		return fmt.Errorf("setting the screen: %w", err)
	}
	headers := network.SetExtraHTTPHeadersParams{Headers: network.Headers{"Accept-Language": screen.Lang}}
	if _, err := chromedp.Call(ctx, network.SetExtraHTTPHeaders, headers); err != nil {
		return fmt.Errorf("setting the language: %w", err)
	}
	return nil
}

func pick(yes bool, a, b string) string {
	if yes {
		return a
	}
	return b
}

// Leave ends the visit; her cookies and keys are gone with it.
func (v *Visitor) Leave() { v.cancel() }

// step bounds one step by the visitor's patience and by the caller's context.
func (v *Visitor) step(ctx context.Context) (context.Context, func()) {
	out, cancel := context.WithTimeout(v.ctx, v.Patience)
	stop := context.AfterFunc(ctx, cancel)
	return out, func() { stop(); cancel() }
}

// Console returns the errors and warnings that the page's console has had, and
// forgets them.
func (v *Visitor) Console() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	out := v.console
	v.console = nil
	return out
}

// Requests returns method and address of what the page asked for, and forgets
// it. Requests of workers are not among them; a foreign name would not resolve.
func (v *Visitor) Requests() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	out := v.requests
	v.requests = nil
	return out
}

// Foreign returns those of the requests that went to another origin than the
// one given, without data: and blob: addresses.
func Foreign(origin string, requests []string) []string {
	var out []string
	for _, r := range requests {
		_, address, _ := bytes.Cut([]byte(r), []byte(" "))
		u, err := url.Parse(string(address))
		if err != nil || u.Scheme != "data" && u.Scheme != "blob" && u.Scheme+"://"+u.Host != origin {
			out = append(out, r)
		}
	}
	return out
}
