package capture

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/evidence/recording"
	"github.com/zhenglian/zhenglian/internal/capture/clean"
	"github.com/zhenglian/zhenglian/internal/capture/proxy"
)

// Names of steps besides those of evidence/recording.
const StepEnvironment = "environment"

// Run is what an unattended recording needs.
type Run struct {
	Config
	Actions []Action
	// Bulk goes on after a step that failed: the list's other addresses are worth
	// recording all the same. A script stops.
	Bulk bool
	// Inspect looks at the machine; its error, and an unclean report, end the
	// session before anything is recorded.
	Inspect func(ctx context.Context) (*clean.Report, error)
	// Room makes the browser's room.
	Room func(ctx context.Context) (Room, error)
	// Proxy is the proxy's configuration without Recorder and CA.
	Proxy proxy.Config
	// Time is the longest a session takes: 2 h when zero.
	Time          time.Duration
	Width, Height int // of the window; 1280×720 when zero
	// Done, which may be nil, hears of each step that was done or failed.
	Done func(step int, name string, err error)
}

// Reasons of partial sessions begin with one of these words.
const (
	ReasonUnclean  = "unclean environment"
	ReasonRoom     = "no browser"
	ReasonBrowser  = "the browser ended"
	ReasonProxy    = "the proxy ended"
	ReasonTime     = "the time allowed is over"
	ReasonBytes    = "the traffic allowed is used up"
	ReasonStopped  = "stopped from outside"
	ReasonStep     = "a step failed"
	ReasonRecorder = "the recorder was killed"
)

// Record opens a session, records the actions in it, and seals it: complete, or
// partial with the reason when something went wrong. When it returns an error
// with a Result, the session is sealed on disk and not on the chain (Resume); with
// neither, it stands on disk as it was.
func Record(ctx context.Context, r Run) (*Result, error) {
	if r.Time == 0 {
		r.Time = 2 * time.Hour
	}
	if r.Width == 0 || r.Height == 0 {
		r.Width, r.Height = 1280, 720
	}
	s, err := Open(r.Config)
	if err != nil {
		return nil, err
	}
	reason := r.record(ctx, s)
	result, err := s.Seal(ctx, reason)
	return result, errors.Join(err, s.Close())
}

// record returns the reason why the session is partial, "" when it is not.
func (r *Run) record(ctx context.Context, s *Session) string {
	outer := ctx
	ctx, cancel := context.WithTimeoutCause(ctx, r.Time, errors.New(ReasonTime))
	defer cancel()
	if reason := r.before(ctx, s); reason != "" {
		return reason
	}
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	reason, err := r.during(ctx, end, s)
	if err == nil {
		return ""
	}
	if outer.Err() != nil {
		return join(ReasonStopped, context.Cause(outer))
	}
	if cause := context.Cause(ctx); cause != nil {
		return cause.Error()
	}
	return join(reason, err)
}

func join(what string, err error) string { return what + ": " + err.Error() }

// before writes the report of the environment into the record and brings it to
// the chain. Nothing is recorded in an environment that is not clean.
func (r *Run) before(ctx context.Context, s *Session) string {
	rep, err := r.Inspect(ctx)
	if err != nil {
		return join(ReasonUnclean, err)
	}
	if err := s.Environment(ctx, rep); err != nil {
		return join("the environment's report was not deposited", err)
	}
	if p := rep.Problems(); len(p) > 0 {
		return clip(ReasonUnclean + ": " + strings.Join(p, "; "))
	}
	return ""
}

// Environment records an inspection: an event for each output, one for the
// verdict; and deposits report and outputs as objects of a step of the phase
// before. It returns when that is final.
func (s *Session) Environment(ctx context.Context, rep *clean.Report) error {
	text, err := rep.JSON()
	if err != nil {
		return err
	}
	files := []File{memory("environment.json", "application/json", text)}
	for n, o := range rep.Outputs {
		data := recording.Data{"command": clip(o.Command)}
		if o.Error != "" {
			data["error"] = clip(o.Error)
		}
		if err := s.Event("env."+o.Check, data, Blob{"output", o.Media, o.Data}); err != nil {
			return err
		}
		if len(o.Data) > 0 {
			files = append(files, memory(fmt.Sprintf("%02d-%s.txt", n+1, o.Check), "text/plain", o.Data))
		}
	}
	if err := s.Event(recording.TypeEnvReport, recording.Data{"verdict": rep.Verdict, "exceptions": clipped(rep.Exceptions)}, Blob{recording.RoleReport, "application/json", text}); err != nil {
		return err
	}
	s.batch.turn.Lock()
	defer s.batch.turn.Unlock()
	n, err := s.config.Chain.Signed(ctx)
	if err != nil {
		return err
	}
	_, err = s.deposit(ctx, n+1, intent{Step: StepEnvironment}, Step{Phase: evidence.PhaseBefore, Name: StepEnvironment,
		Facts: map[string]string{"session": s.config.Session.String(), "verdict": rep.Verdict}, Files: files})
	return err
}

func memory(name, media string, data []byte) File {
	return File{name, media, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }}
}

func clipped(all []string) []string {
	out := []string{}
	for _, x := range all[:min(len(all), 16)] { // an event has 64 KiB; the report has them all
		out = append(out, clipTo(x, 2048))
	}
	return out
}

// during records the actions. The error is why the session is partial; reason
// says what kind of error that is.
func (r *Run) during(ctx context.Context, end context.CancelCauseFunc, s *Session) (reason string, err error) {
	room, err := r.Room(ctx)
	if err != nil {
		return ReasonRoom, err
	}
	defer func() { err = errors.Join(err, room.Close()) }()
	if report, err := room.Report(); err != nil {
		return ReasonRoom, err
	} else if report != nil {
		if err := s.Event("env.sandbox", recording.Data{"command": "sandbox"}, Blob{"output", "application/json", report}); err != nil {
			return ReasonRoom, err
		}
	}
	listener, err := room.Listener()
	if err != nil {
		return ReasonRoom, err
	}
	ca, err := proxy.NewCA(s.config.Session.String()[:16], s.config.Now(), proxy.MaxCALife)
	if err != nil {
		return ReasonProxy, errors.Join(err, listener.Close())
	}
	c := r.Proxy
	c.Recorder, c.CA = s.Wire(), ca
	p, err := proxy.New(c)
	if err != nil {
		return ReasonProxy, errors.Join(err, listener.Close())
	}
	// The proxy ends after the browser, so that what the browser asked for last has
	// its end in the record.
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := p.Serve(serving, listener); err != nil {
			end(errors.New(join(ReasonProxy, err)))
		}
	})
	defer wg.Wait()
	defer stop()
	begun := make(chan struct{})
	b, err := room.Start(ctx, Launch{Begun: begun, SPKI: ca.SPKI(), CA: ca.Certificate().Raw, Width: r.Width, Height: r.Height, Observer: s})
	if err != nil {
		return ReasonRoom, err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	begin := sync.OnceFunc(func() { close(begun) })
	defer begin()
	done := make(chan struct{})
	defer close(done)
	wg.Go(func() {
		select {
		case <-b.Gone():
			end(errors.New(ReasonBrowser + ": " + b.Why()))
		case <-done:
		}
	})
	data := recording.Data{"version": clip(b.Version())}
	if d := b.Binary(); !d.IsZero() {
		data["binary"] = d.String()
	}
	if err := s.Event(recording.TypeBrowser, data); err != nil {
		return ReasonRoom, err
	}
	s.Phase(evidence.PhaseDuring)
	begin()
	if err := r.actions(ctx, s, b); err != nil {
		return ReasonStep, err
	}
	if limit := c.Limits.SessionBytes; limit > 0 && p.Carried() > limit {
		return ReasonBytes, fmt.Errorf("%d bytes", limit)
	}
	return "", nil
}

func (r *Run) actions(ctx context.Context, s *Session, b Browser) error {
	for n, a := range r.Actions {
		err := r.step(ctx, s, b, &a)
		if r.Done != nil {
			r.Done(n+1, a.title(), err)
		}
		var failed *StepError
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !errors.As(err, &failed):
			return fmt.Errorf("step %d, %s: %w", n+1, a.title(), err)
		case !r.Bulk:
			return fmt.Errorf("step %d, %s: %w", n+1, a.title(), failed)
		}
	}
	return nil
}

// step does one action: it is written down before it is done, and what the page
// shows afterwards is recorded. *StepError when it could not be done.
func (r *Run) step(ctx context.Context, s *Session, b Browser, a *Action) error {
	input := recording.Data{"kind": "script", "do": a.Do, "name": clip(a.title())}
	for name, v := range map[string]string{"url": a.URL, "selector": a.Selector, "text": a.Text} {
		if v != "" {
			input[name] = clip(v)
		}
	}
	for name, v := range map[string]int{"seconds": a.Seconds, "pixels": a.Pixels} {
		if v != 0 {
			input[name] = int64(v)
		}
	}
	if err := s.Event(recording.TypeInput, input); err != nil {
		return err
	}
	err := r.act(ctx, b, a)
	var page *Page
	if err == nil {
		page, err = b.Page(ctx)
	}
	if err != nil {
		// Also when the browser is gone: the step was begun and not done.
		why := err
		if ctx.Err() != nil {
			why = context.Cause(ctx)
		}
		if told := s.Event(recording.TypeStepFailed, recording.Data{"name": clip(a.title()), "reason": clip(why.Error()), "url": clip(a.URL)}); told != nil {
			return told
		}
		s.Step()
		return err
	}
	return s.Done(a.title(), page)
}

// Done records that a step is over, with what the page shows.
func (s *Session) Done(name string, page *Page) error {
	data := recording.Data{"name": clip(name), "url": clip(page.URL)}
	if page.Title != "" {
		data["title"] = clip(page.Title)
	}
	if page.Security != "" {
		data["security"] = clip(page.Security)
	}
	if status := s.statusOf(page); status != 0 {
		data["status"] = int64(status)
	}
	if n := s.Frames(); n > 0 {
		data["frame"] = n - 1
	}
	blobs := []Blob{{recording.RoleScreenshot, "image/png", page.Screenshot}}
	if len(page.DOM) > 0 {
		blobs = append(blobs, Blob{recording.RoleDOM, "text/html", page.DOM})
	}
	if len(page.Tree) > 0 {
		blobs = append(blobs, Blob{"dom.tree", "application/json", page.Tree})
	}
	if err := s.Event(recording.TypeStep, data, blobs...); err != nil {
		return err
	}
	s.Step()
	return nil
}

// statusOf is the HTTP status of what a page shows: what the proxy heard last of
// that address, where the browser does not say.
func (s *Session) statusOf(page *Page) int {
	if page.Status != 0 {
		return page.Status
	}
	url, _, _ := strings.Cut(page.URL, "#")
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status[url]
}

func (r *Run) act(ctx context.Context, b Browser, a *Action) error {
	switch a.Do {
	case "goto":
		return b.Goto(ctx, a.URL)
	case "click":
		return b.Click(ctx, a.Selector, a.Text)
	case "type":
		return b.Type(ctx, a.Selector, a.Text)
	case "scroll":
		return b.Scroll(ctx, a.Pixels)
	case "download":
		limit := 10 * time.Minute
		if a.Seconds != 0 {
			limit = time.Duration(a.Seconds) * time.Second
		}
		within, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		err := b.Download(within, a.Selector, a.Text)
		if err != nil && within.Err() != nil && ctx.Err() == nil {
			return &StepError{fmt.Sprintf("nothing was saved within %s", limit)}
		}
		return err
	case "wait":
		if a.Selector != "" {
			return b.Wait(ctx, a.Selector)
		}
		t := time.NewTimer(time.Duration(a.Seconds) * time.Second)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}
