package verify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/evidence/recording"
)

// Tolerances of recordings. spec/recording.md, part 6.
const (
	// BatchPromptness is how many seconds after an event its batch should be on the
	// chain: the recorder deposits every two seconds, a block takes a few. Later
	// ones are named.
	BatchPromptness = 60
	// clockDrift is how far the recorder's clock may leave the one that is never set.
	clockDrift = 2 * time.Second
	// slow counts notices and is no check.
	slow = "recording-slow"
	// namedFaults is how many faults of one check are named each; the rest are counted.
	namedFaults = 20
)

// Recording is a recorded session of the trail, also one that ended badly or was
// never handed in.
type Recording struct {
	Session     evidence.Digest `json:"session"`
	Verdict     Verdict         `json:"verdict"`
	Purpose     string          `json:"purpose,omitempty"`
	Consent     string          `json:"consent,omitempty"`
	Start       string          `json:"start,omitempty"`  // address asked for at the opening
	Opened      int             `json:"opened,omitempty"` // step; absent when the package shows no opening
	Sealed      int             `json:"sealed,omitempty"` // step; absent when it was never sealed, or that is withheld
	State       string          `json:"state"`            // "complete", "partial" or "unsealed"
	Reason      string          `json:"reason,omitempty"` // of partial, by the recorder
	Events      int64           `json:"events"`           // by the batches and the seal
	Batches     int             `json:"batches"`
	From        string          `json:"from,omitempty"` // the recorder's clock, RFC 3339 with milliseconds
	To          string          `json:"to,omitempty"`
	Exchanges   int             `json:"exchanges"`
	Failed      int             `json:"failed"` // exchanges without a response
	Records     int             `json:"records"`
	Frames      int             `json:"frames"`
	VideoMillis int64           `json:"video_millis"`
	Log         string          `json:"log,omitempty"` // paths in the package
	Archive     string          `json:"archive,omitempty"`
	Video       string          `json:"video,omitempty"`
	Environment string          `json:"environment,omitempty"` // "clean", "exceptions" or "unclean", by the recorder
	Exceptions  []string        `json:"exceptions,omitempty"`
	Timeline    []Moment        `json:"timeline"`
}

// Moment is a step of a session, as a reader goes through it.
type Moment struct {
	Seq        int64           `json:"seq"` // of the event
	Event      evidence.Digest `json:"event"`
	Kind       string          `json:"kind"` // "step", "failed" or "download"
	Name       string          `json:"name"`
	URL        string          `json:"url,omitempty"`
	Title      string          `json:"title,omitempty"`
	Status     int64           `json:"status,omitempty"` // HTTP status of the page
	Why        string          `json:"why,omitempty"`    // of a failed one
	At         string          `json:"at"`               // the recorder's clock
	Batch      int             `json:"batch,omitempty"`  // step of the package that has the event on the chain
	NotBefore  string          `json:"not_before,omitempty"`
	NotAfter   string          `json:"not_after,omitempty"`
	Screenshot evidence.Digest `json:"screenshot,omitzero"`
	Record     string          `json:"record,omitempty"` // WARC-Record-ID of the screenshot
	SHA256     evidence.Digest `json:"sha256,omitzero"`  // of a download
}

// recorded is a session while it is being judged.
type recorded struct {
	*run
	rep     *Recording
	id      evidence.Digest
	opening *recording.Opening
	opened  *step
	batches []*batched
	summary *recording.Summary
	sealed  *step
	lines   map[string]int // faults named, by check
	said    map[string]bool

	log
	archived
}

// batched is a batch with the step that has it.
type batched struct {
	*recording.Batch
	step *step
	sum  evidence.Digest
	head evidence.Digest
	seen bool // its last event was read
}

// checkRecordings judges every session of the trail. spec/recording.md, part 6.
func (r *run) checkRecordings(ctx context.Context) error {
	sessions := r.sessions()
	for _, c := range sessions {
		if err := ctx.Err(); err != nil {
			return err
		}
		from := len(r.rep.Checks)
		if err := c.judge(ctx); err != nil {
			return err
		}
		c.rep.Verdict = Matches
		for _, l := range r.rep.Checks[from:] {
			c.rep.Verdict = Weakest(c.rep.Verdict, l.Verdict)
		}
		r.rep.Recordings = append(r.rep.Recordings, *c.rep)
	}
	return nil
}

// sessions gathers the recordings that manifests speak of, in the order in which
// they are first named.
func (r *run) sessions() []*recorded {
	var out []*recorded
	of := func(id evidence.Digest) *recorded {
		for _, c := range out {
			if c.id == id {
				return c
			}
		}
		c := &recorded{run: r, id: id, rep: &Recording{Session: id, State: "unsealed", Timeline: []Moment{}}, lines: map[string]int{}, said: map[string]bool{}}
		out = append(out, c)
		return c
	}
	bad := func(s *step, err error) {
		fact, detail := "", err.Error()
		var f *recording.FactError
		if errors.As(err, &f) {
			fact, detail = f.Fact, f.Reason
		}
		r.check("recording", Subject{Step: s.n, Path: s.index.Manifest}, DoesNotMatch, because("recording-fact", "fact", fact, "detail", detail), ClauseBefore)
	}
	for _, s := range r.steps {
		if s.manifest == nil {
			continue
		}
		at := Subject{Step: s.n, Path: s.index.Manifest}
		if o, ok, err := recording.OpeningOf(s.manifest); err != nil {
			bad(s, err)
		} else if ok {
			c := of(o.Session)
			if c.opening != nil {
				r.check("recording", at, DoesNotMatch, because("recording-opened-twice", "session", o.Session, "other", c.opened.n), ClauseBefore)
				continue
			}
			c.opening, c.opened = o, s
		}
		if b, ok, err := recording.BatchOf(s.manifest); err != nil {
			bad(s, err)
		} else if ok {
			c := of(b.Session)
			c.batches = append(c.batches, &batched{Batch: b, step: s})
		}
		if m, ok, err := recording.SummaryOf(s.manifest); err != nil {
			bad(s, err)
		} else if ok {
			c := of(m.Session)
			if c.summary != nil {
				r.check("recording", at, DoesNotMatch, because("recording-sealed-twice", "session", m.Session, "other", c.sealed.n), ClauseBefore)
				continue
			}
			c.summary, c.sealed = m, s
		}
	}
	return out
}

// at is the subject of a check on a file of the recording; of the whole with "".
func (c *recorded) at(path string) Subject {
	s := Subject{Path: path}
	switch {
	case c.sealed != nil:
		s.Step = c.sealed.n
	case len(c.batches) > 0:
		s.Step = c.batches[len(c.batches)-1].step.n
	case c.opened != nil:
		s.Step = c.opened.n
	}
	return s
}

// more reports whether another fault of the check may be named, and counts it.
func (c *recorded) more(id string) bool {
	c.lines[id]++
	return c.lines[id] <= namedFaults
}

// once reports whether a notice about what is the first: a session has one site's
// certificate on many connections.
func (c *recorded) once(about string) bool {
	first := !c.said[about]
	c.said[about] = true
	return first
}

// good reports that the check found no fault, and says how many were not named.
func (c *recorded) good(id string) bool { return c.lines[id] == 0 }

// judge goes through one session.
func (c *recorded) judge(ctx context.Context) error {
	c.judgeOpening()
	c.judgeBatches()
	if c.summary == nil {
		events := int64(0)
		if n := len(c.batches); n > 0 {
			events = c.batches[n-1].Last + 1
		}
		c.rep.Events = events
		c.run.check("recording", c.at(""), Undetermined, because("recording-unsealed", "session", c.id, "purpose", c.rep.Purpose, "events", events), ClauseBefore)
		return nil
	}
	c.rep.Sealed, c.rep.State, c.rep.Reason, c.rep.Events = c.sealed.n, c.summary.State, c.summary.Reason, c.summary.Count
	if k := c.sealed.stmt.KID; c.opening != nil && k != c.opening.Recorder && k != c.opened.stmt.KID {
		c.run.check("recording", c.at(""), DoesNotMatch, because("recording-other-recorder", "kid", k, "recorder", c.opening.Recorder), ClauseBefore)
	}
	files := c.files()
	c.rep.Log, c.rep.Archive, c.rep.Video = files[recording.FileEvents], files[recording.FileWACZ], files[recording.FileVideo]
	if c.rep.Log == "" {
		c.run.check("recording-events", c.at(""), Undetermined, because("recording-no-log", "session", c.id), ClauseBefore)
		return nil
	}
	if err := c.readLog(ctx); err != nil {
		return err
	}
	c.judgeEnd()
	c.judgeAnchors()
	c.judgeEnvironment()
	if err := c.readArchive(ctx); err != nil {
		return err
	}
	c.judgeExchanges()
	c.judgeNetwork()
	if err := c.judgeVideo(ctx); err != nil {
		return err
	}
	c.judgeDownloads()
	c.judgeBlobs()
	c.timeline()
	for _, id := range sortedKeys(c.lines) {
		if n := c.lines[id]; n > namedFaults && id != slow {
			c.run.notice(c.at(""), because("recording-more", "first", id, "count", n-namedFaults))
		}
	}
	return nil
}

// files are the objects of the sealing step that were handed in, by name.
func (c *recorded) files() map[string]string {
	out := map[string]string{}
	for _, o := range c.run.rep.Steps[c.sealed.n-1].Objects {
		if o.Path != "" && out[o.Name] == "" {
			out[o.Name] = o.Path
		}
	}
	return out
}

// file opens a file of the package, of which checkFiles has said whether it is
// what the index says.
func (c *recorded) file(path string) (*io.SectionReader, error) {
	f, err := c.run.pkg.File(path)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	return f, nil
}

func (c *recorded) judgeOpening() {
	if c.opening == nil {
		c.run.check("recording", c.at(""), c.unlessWithheld(), because("recording-not-opened", "session", c.id), ClauseBefore)
		return
	}
	c.rep.Opened, c.rep.Purpose, c.rep.Consent, c.rep.Start = c.opened.n, c.opening.Purpose, c.opening.Consent, c.opening.Start
	at := Subject{Step: c.opened.n, Path: c.opened.index.Manifest}
	if owner := c.run.owner(); owner != nil && c.opened.stmt.KID != owner.stmt.KID {
		c.run.check("recording", at, DoesNotMatch, because("recording-not-by-owner", "session", c.id), ClauseBefore)
		return
	}
	c.run.check("recording", at, Matches, because("recording-opened", "purpose", c.opening.Purpose, "recorder", c.opening.Recorder), ClauseBefore)
}

// unlessWithheld: what is missing may be among what was not handed in, of which
// other checks speak.
func (c *recorded) unlessWithheld() Verdict {
	if slices.ContainsFunc(c.run.rep.Withheld, func(w Withheld) bool { return w.What != "object" }) {
		return Undetermined
	}
	return DoesNotMatch
}

// judgeBatches: by the recorder, in order, from event 0, without gap.
func (c *recorded) judgeBatches() {
	c.rep.Batches = len(c.batches)
	next := int64(0)
	for _, b := range c.batches {
		at := Subject{Step: b.step.n, Path: b.step.index.Manifest}
		fail := func(v Verdict, why Reason) {
			if c.more("recording-batch") {
				c.run.check("recording-batch", at, v, why, ClauseBefore)
			}
		}
		if c.opening != nil && b.step.stmt.KID != c.opening.Recorder {
			fail(DoesNotMatch, because("recording-other-recorder", "kid", b.step.stmt.KID, "recorder", c.opening.Recorder))
		}
		if c.sealed != nil && b.step.n > c.sealed.n {
			fail(DoesNotMatch, because("recording-batch-after-seal", "first_event", b.First, "last_event", b.Last))
		}
		switch {
		case b.First > next:
			fail(c.unlessWithheld(), because("recording-batch-gap", "first_event", next, "last_event", b.First-1))
		case b.First < next:
			fail(DoesNotMatch, because("recording-batch-overlap", "first_event", b.First, "last_event", min(b.Last, next-1)))
		}
		next = max(next, b.Last+1)
	}
	if c.summary != nil && next > c.summary.Count {
		if c.more("recording-batch") {
			c.run.check("recording-batch", c.at(""), DoesNotMatch, because("recording-cut", "count", c.summary.Count, "chained", next), ClauseBefore)
		}
	}
}

func (c *recorded) judgeEnvironment() {
	e := c.environment
	at := c.at(c.rep.Log)
	if e == nil {
		c.run.check("recording-environment", at, Undetermined, because("recording-no-environment"), ClauseBefore)
		return
	}
	c.rep.Environment, c.rep.Exceptions = e.Data.Text("verdict"), e.Data.Texts("exceptions")
	switch {
	case c.rep.Environment == recording.EnvUnclean:
		c.run.check("recording-environment", at, DoesNotMatch, because("recording-unclean"), ClauseBefore, ClausePlatform)
	case c.rep.Environment == recording.EnvExceptions || len(c.rep.Exceptions) > 0:
		for _, x := range c.rep.Exceptions {
			if c.once("exception " + x) {
				c.run.notice(at, because("recording-exception", "exception", x))
			}
		}
		c.run.check("recording-environment", at, Matches, because("recording-clean-but", "count", len(c.rep.Exceptions)), ClauseBefore, ClausePlatform)
	default:
		c.run.check("recording-environment", at, Matches, because("recording-clean"), ClauseBefore, ClausePlatform)
	}
}

// timeline lists the steps as a reader goes through them.
func (c *recorded) timeline() {
	for _, e := range c.moments {
		m := Moment{Seq: e.Seq, Event: e.Digest, At: e.At, Name: e.Data.Text("name"), URL: e.Data.Text("url"), Title: e.Data.Text("title"), Status: e.Data.Int("status"), Why: e.Data.Text("reason"), Kind: "step"}
		if b := c.anchorOf(e.Seq); b != nil {
			bracket := c.run.rep.Steps[b.n-1].Time
			m.Batch, m.NotBefore, m.NotAfter = b.n, bracket.NotBefore, bracket.NotAfter
		}
		switch e.Type {
		case recording.TypeStepFailed:
			m.Kind = "failed"
		case recording.TypeDownloaded:
			m.Kind = "download"
			d, _ := e.Blob(recording.RoleDownload)
			m.SHA256 = d.SHA256
			m.Why = e.Data.Text("state")
		}
		if b, ok := e.Blob(recording.RoleScreenshot); ok {
			m.Screenshot, m.Record = b.SHA256, c.places[b.SHA256]
		}
		c.rep.Timeline = append(c.rep.Timeline, m)
	}
}
