package verify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/evidence/recording"
)

// log is what a session's events say.
type log struct {
	broken      bool // reading ended at a fault
	chain       recording.Chain
	end         *recording.Logged // session.close
	tail        *recording.Logged // the first event after the last batch
	environment *recording.Logged
	exchanges   map[int64]*exchanged
	order       []int64 // of exchanges
	connections map[int64]*connected
	frames      []evidence.Digest
	times       []int64 // of the frames, milliseconds
	videoSum    evidence.Digest
	archiveSum  evidence.Digest
	downloads   []*recording.Logged
	moments     []*recording.Logged
	blobs       map[evidence.Digest]wanted
}

// wanted is a blob that some event names.
type wanted struct {
	size int64
	seq  int64
	role string
}

// exchanged is what events say of an exchange.
type exchanged struct{ request, response, end *recording.Logged }

// connected is what events say of a connection.
type connected struct{ made, dns, tls *recording.Logged }

// readLog streams the event log once: links, batches, and what later checks need.
func (c *recorded) readLog(ctx context.Context) error {
	file, err := c.file(c.rep.Log)
	if err != nil {
		return err
	}
	c.exchanges, c.connections, c.blobs = map[int64]*exchanged{}, map[int64]*connected{}, map[evidence.Digest]wanted{}
	r := recording.NewLogReader(file)
	tree, next, drifted := recording.NewTree(), 0, false
	var zero time.Time
	for {
		e, err := r.Next()
		var bad *recording.EventError
		switch {
		case errors.As(err, &bad):
			c.broken = true
			c.run.check("recording-events", c.at(c.rep.Log), DoesNotMatch, because("recording-events-broken", "event", bad.Seq, "code", bad.Code, "detail", bad.Reason), ClauseUnaltered, ClauseJSON)
		case err != nil && err != io.EOF:
			return fmt.Errorf("reading %s: %w", c.rep.Log, err)
		}
		if err != nil {
			break
		}
		if e.Seq%1024 == 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		if e.Seq == 0 {
			zero = e.Time
			c.rep.From = e.At
			c.checkFirst(e)
		}
		c.rep.To = e.At
		if off := e.Time.Sub(zero) - time.Duration(e.Mono)*time.Microsecond; !drifted && (off > clockDrift || off < -clockDrift) {
			drifted = true
			c.run.notice(c.at(c.rep.Log), because("recording-clock-set", "event", e.Seq, "off_seconds", int64(off.Abs().Seconds())))
		}
		c.take(e)
		next, tree, err = c.feed(e, next, tree)
		if err != nil {
			return err
		}
	}
	c.chain = r.Chain()
	return nil
}

// feed adds an event to the batch that it belongs to, and compares a batch that
// is full.
func (c *recorded) feed(e *recording.Logged, next int, tree *recording.Tree) (int, *recording.Tree, error) {
	for next < len(c.batches) && c.batches[next].Last < e.Seq {
		next, tree = next+1, recording.NewTree()
	}
	if next == len(c.batches) && c.tail == nil {
		c.tail = e
	}
	if next == len(c.batches) || e.Seq < c.batches[next].First {
		return next, tree, nil
	}
	b := c.batches[next]
	if e.Seq == b.First {
		c.judgeTime(b.step, e)
	}
	if err := tree.Add(e.Digest); err != nil {
		return next, tree, fmt.Errorf("adding event %d to its batch: %w", e.Seq, err)
	}
	if e.Seq < b.Last {
		return next, tree, nil
	}
	c.judgeTime(b.step, e)
	b.seen, b.head = true, e.Digest
	var err error
	b.sum, err = tree.Root()
	return next, tree, err
}

// judgeTime holds an event's clock against the time at which the chain had it.
func (c *recorded) judgeTime(s *step, e *recording.Logged) {
	if !s.reg.quorum {
		return // the step's own line says so
	}
	at := Subject{Step: s.n, Path: c.rep.Log}
	after, claim := s.reg.notAfter, e.Time.Unix()
	off := claim - after
	switch {
	case off > BatchPromptness:
		if c.more("recording-time") {
			c.run.check("recording-time", at, DoesNotMatch, because("recording-time-ahead", "event", e.Seq, "claimed_time", e.At, "after_time", clockText(after), "off_seconds", off), ClauseBefore)
		}
	case -off > ClockTolerance:
		if c.more("recording-time") {
			c.run.check("recording-time", at, Undetermined, because("recording-time-late", "event", e.Seq, "claimed_time", e.At, "after_time", clockText(after), "off_seconds", -off), ClauseBefore)
		}
	case -off > BatchPromptness:
		if c.more(slow) {
			c.run.notice(at, because("recording-time-slow", "event", e.Seq, "off_seconds", -off))
		}
	}
}

// checkFirst compares session.open with the trail and the opening.
func (c *recorded) checkFirst(e *recording.Logged) {
	fail := func(why Reason) {
		c.run.check("recording-events", c.at(c.rep.Log), DoesNotMatch, why, ClauseBefore)
	}
	if e.Session != c.id {
		fail(because("recording-other-session", "found", e.Session, "session", c.id))
	}
	if t := e.Data.Text("trail"); t != c.run.pkg.Index.Trail.String() {
		fail(because("recording-other-trail", "found", t, "trail", c.run.pkg.Index.Trail))
	}
	if k := e.Data.Text("recorder"); c.opening != nil && k != c.opening.Recorder.String() {
		fail(because("recording-other-recorder", "kid", k, "recorder", c.opening.Recorder))
	}
	if s := c.opened; s != nil {
		if before := c.run.rep.Steps[s.n-1].Time.NotBefore; before != "" {
			if t, err := time.Parse(time.RFC3339, before); err == nil && t.Unix()-e.Time.Unix() > ClockTolerance {
				fail(because("recording-time-before", "claimed_time", e.At, "before_time", before))
			}
		}
	}
}

// take keeps what later checks need of an event.
func (c *recorded) take(e *recording.Logged) {
	for _, b := range e.Blobs {
		if _, known := c.blobs[b.SHA256]; !known {
			c.blobs[b.SHA256] = wanted{b.Size, e.Seq, b.Role}
		}
	}
	switch e.Type {
	case recording.TypeEnvReport:
		c.environment = e
	case recording.TypeRequest, recording.TypeResponse, recording.TypeEnd:
		c.takeExchange(e)
	case recording.TypeConnection, recording.TypeDNS, recording.TypeTLS:
		n := e.Data.Int("connection")
		x := c.connections[n]
		if x == nil {
			x = &connected{}
			c.connections[n] = x
		}
		switch e.Type {
		case recording.TypeConnection:
			x.made = e
		case recording.TypeDNS:
			x.dns = e
		default:
			x.tls = e
		}
	case recording.TypeFrames:
		if first := e.Data.Int("first"); first != int64(len(c.frames)) && c.more("recording-video") {
			c.run.check("recording-video", c.at(c.rep.Log), DoesNotMatch, because("recording-frames-gap", "event", e.Seq, "found", first, "want", len(c.frames)), ClauseBefore)
		}
		for _, f := range e.Data.Texts("frames") {
			d, _ := evidence.ParseDigest(f) // the event's form was checked
			c.frames = append(c.frames, d)
		}
		c.times = append(c.times, e.Data.Ints("times")...)
	case recording.TypeVideoSealed:
		b, _ := e.Blob(recording.RoleVideo)
		c.videoSum = b.SHA256
	case recording.TypeWARCSealed:
		b, _ := e.Blob(recording.RoleWACZ)
		c.archiveSum = b.SHA256
	case recording.TypeDownloaded:
		c.downloads, c.moments = append(c.downloads, e), append(c.moments, e)
	case recording.TypeStep, recording.TypeStepFailed:
		c.moments = append(c.moments, e)
	case recording.TypeClose:
		c.end = e
	}
}

func (c *recorded) takeExchange(e *recording.Logged) {
	n := e.Data.Int("exchange")
	x := c.exchanges[n]
	if x == nil {
		x = &exchanged{}
		c.exchanges[n] = x
		c.order = append(c.order, n)
	}
	place := &x.end
	switch e.Type {
	case recording.TypeRequest:
		place = &x.request
	case recording.TypeResponse:
		place = &x.response
	}
	if *place != nil && c.more("recording-exchange") {
		c.run.check("recording-exchange", c.at(c.rep.Log), DoesNotMatch, because("recording-exchange-twice", "exchange", n, "event", e.Seq, "other", (*place).Seq), ClauseBefore)
	}
	*place = e
}

// judgeEnd: the log ends with session.close, and with the event that the seal
// names.
func (c *recorded) judgeEnd() {
	if c.broken {
		return
	}
	s, at := c.summary, c.at(c.rep.Log)
	switch {
	case c.end == nil:
		c.run.check("recording-events", at, DoesNotMatch, because("recording-not-closed", "count", c.chain.Next), ClauseUnaltered)
	case c.chain.Next != s.Count || c.chain.Head != s.Head:
		c.run.check("recording-events", at, DoesNotMatch, because("recording-end-differs", "count", c.chain.Next, "want", s.Count), ClauseUnaltered)
	case c.end.Data.Text("state") != s.State || c.end.Data.Text("reason") != s.Reason:
		c.run.check("recording-events", at, DoesNotMatch, because("recording-state-differs", "state", c.end.Data.Text("state"), "want", s.State), ClauseUnaltered)
	case s.State == recording.StatePartial:
		c.run.notice(at, because("recording-partial", "why", s.Reason, "count", s.Count))
		c.run.check("recording-events", at, Matches, because("recording-events-partial", "count", s.Count, "why", s.Reason), ClauseBefore, ClauseUnaltered)
	default:
		c.run.check("recording-events", at, Matches, because("recording-events-complete", "count", s.Count), ClauseBefore, ClauseUnaltered)
	}
}

// judgeAnchors compares the batches on the chain with the log.
func (c *recorded) judgeAnchors() {
	for _, b := range c.batches {
		at := Subject{Step: b.step.n, Path: c.rep.Log}
		var why Reason
		switch {
		case !b.seen && c.broken:
			continue // the log's own line says where reading ended
		case !b.seen:
			why = because("recording-batch-missing", "first_event", b.First, "last_event", b.Last)
		case b.sum != b.Root || b.head != b.Head:
			why = because("recording-batch-differs", "first_event", b.First, "last_event", b.Last)
		default:
			continue
		}
		if c.more("recording-batch") {
			c.run.check("recording-batch", at, DoesNotMatch, why, ClauseBefore, ClauseUnaltered, ClauseMerkle)
		}
	}
	if c.broken || c.end == nil {
		return
	}
	last := int64(0)
	if n := len(c.batches); n > 0 {
		last = c.batches[n-1].Last + 1
	}
	if rest := c.chain.Next - last; rest > 0 {
		// The seal has the head, and so all before it; but only as of then.
		c.run.notice(c.at(c.rep.Log), because("recording-tail", "count", rest))
		if c.tail != nil {
			c.judgeTime(c.sealed, c.tail)
		}
		c.judgeTime(c.sealed, c.end)
	}
	if c.good("recording-batch") {
		c.run.check("recording-batch", c.at(c.rep.Log), Matches, because("recording-batches", "count", len(c.batches), "events", c.chain.Next), ClauseBefore, ClauseUnaltered, ClauseMerkle)
	}
	if c.good("recording-time") {
		c.run.check("recording-time", c.at(c.rep.Log), Matches, because("recording-times", "from_time", c.rep.From, "to_time", c.rep.To), ClauseBefore)
	}
}

// anchorOf returns the step that has the event on the chain, nil when none has.
func (c *recorded) anchorOf(seq int64) *step {
	for _, b := range c.batches {
		if b.First <= seq && seq <= b.Last {
			return b.step
		}
	}
	return c.sealed
}
