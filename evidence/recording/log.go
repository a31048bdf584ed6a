package recording

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
)

// Chain links events as they happen: what a recorder keeps in memory, and what
// it takes up again after a fault from LogReader.Chain.
type Chain struct {
	Session evidence.Digest
	Next    int64           // seq of the next event
	Head    evidence.Digest // digest of the last event
	Phase   evidence.Phase
	Mono    int64
	Closed  bool // session.close was the last
}

// Link fills in v, session, seq and prev, and returns the event's bytes and
// digest. The chain moves on only when the caller says so with Advance, after the
// bytes are on disk. Errors are *EventError.
func (c *Chain) Link(e *Event) (line []byte, digest evidence.Digest, err error) {
	e.V, e.Session, e.Seq, e.Prev = 1, c.Session, c.Next, c.Head
	if line, err = e.Encode(); err != nil {
		return nil, digest, err
	}
	return line, evidence.SumSHA256(line), c.follows(e)
}

// Advance makes e the last event.
func (c *Chain) Advance(e *Event, digest evidence.Digest) {
	c.Next, c.Head, c.Phase, c.Mono, c.Closed = e.Seq+1, digest, e.Phase, e.Mono, e.Type == TypeClose
}

// Close is the data of the session.close that would come next.
func (c *Chain) Close(state, reason string) Data {
	d := Data{"state": state, "count": c.Next, "head": c.Head.String()}
	if reason != "" {
		d["reason"] = reason
	}
	return d
}

// follows holds e to what came before.
func (c *Chain) follows(e *Event) error {
	fail := func(code, field, reason string, args ...any) error {
		return &EventError{c.Next, code, field, fmt.Sprintf(reason, args...), nil}
	}
	switch {
	case c.Closed:
		return fail("after-close", "", "something follows session.close")
	case e.Session != c.Session:
		return fail("session", "$.session", "it belongs to the session %s", e.Session)
	case e.Seq > c.Next:
		return fail("gap", "$.seq", "event %d stands where %d belongs: %d missing", e.Seq, c.Next, e.Seq-c.Next)
	case e.Seq == c.Next-1:
		return fail("fork", "$.seq", "there are two events %d", e.Seq)
	case e.Seq < c.Next:
		return fail("order", "$.seq", "event %d stands where %d belongs", e.Seq, c.Next)
	case e.Prev != c.Head:
		return fail("link", "$.prev", "it does not name the event before it, which has another digest: that one was altered or exchanged")
	case phaseRank(e.Phase) < phaseRank(c.Phase):
		return fail("phase", "$.phase", "%s comes after %s", e.Phase, c.Phase)
	case e.Mono < c.Mono:
		return fail("mono", "$.mono", "the clock that is never set went back from %d to %d", c.Mono, e.Mono)
	}
	return nil
}

// Logged is an event as it stands in a log.
type Logged struct {
	*Event
	Digest evidence.Digest
	Time   time.Time // At
}

// LogReader reads events.jsonl, one event a line, and holds each to the one
// before.
type LogReader struct {
	r     *bufio.Reader
	chain Chain
	err   error
}

// NewLogReader reads a log from r.
func NewLogReader(r io.Reader) *LogReader { return &LogReader{r: bufio.NewReaderSize(r, MaxEvent+2)} }

// Chain is the state after the last event read, from which a recorder goes on.
func (l *LogReader) Chain() Chain { return l.chain }

// Next returns the next event. io.EOF is the end; whether the log ends as it
// should, Chain().Closed says. Errors are *EventError with code form, line,
// too-large, gap, order, fork, link, session, phase, mono, after-close and those
// of ParseEvent; others come from the reader. After an error it returns that.
func (l *LogReader) Next() (*Logged, error) {
	if l.err != nil {
		return nil, l.err
	}
	out, err := l.next()
	if err != nil {
		l.err = err
		return nil, err
	}
	l.chain.Advance(out.Event, out.Digest)
	return out, nil
}

func (l *LogReader) next() (*Logged, error) {
	n := l.chain.Next
	line, err := l.r.ReadSlice('\n')
	switch {
	case err == io.EOF && len(line) == 0:
		if n == 0 {
			return nil, &EventError{0, "empty", "", "the log holds no event", nil}
		}
		return nil, io.EOF
	case err == io.EOF:
		return nil, &EventError{n, "line", "", "the last line has no end: it was not written whole", nil}
	case errors.Is(err, bufio.ErrBufferFull):
		return nil, tooLarge(n, MaxEvent+1)
	case err != nil:
		return nil, fmt.Errorf("reading the event log: %w", err)
	case n >= MaxEvents:
		return nil, &EventError{n, "too-many", "", fmt.Sprintf("more than %d events", MaxEvents), nil}
	}
	line = bytes.TrimSuffix(line, []byte("\n"))
	e, err := ParseEvent(line)
	if err != nil {
		var bad *EventError
		if errors.As(err, &bad) {
			bad.Seq = n
		}
		return nil, err
	}
	if n == 0 {
		l.chain.Session = e.Session
	}
	if err := l.chain.follows(e); err != nil {
		return nil, err
	}
	t, err := ParseTime(e.At)
	if err != nil {
		return nil, &EventError{n, "time", "$.at", err.Error(), nil}
	}
	return &Logged{e, evidence.SumSHA256(line), t}, nil
}
