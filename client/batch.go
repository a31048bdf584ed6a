package client

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
)

const (
	// Lines of base64 and not a CBOR sequence, in which bytes that are no
	// statement could take the rest with them.
	typeLines = "application/x-ndjson"

	// batchWindow is how many statements may be sent and unanswered: twice what a
	// node has in hand (a slice of 1,000 and the next one read ahead), so that it
	// never runs dry. At 300 bytes each it is 1.2 MB.
	batchWindow = 4096
)

// batchLine is one line of a batch's answer, or its end.
type batchLine struct {
	Status     int             `json:"status"`
	Code       string          `json:"code"`
	Position   *uint64         `json:"position"`
	Entry      evidence.Digest `json:"entry"`
	Final      bool            `json:"final"`
	Field      string          `json:"field"`
	Reason     string          `json:"reason"`
	Detail     string          `json:"detail"`
	Hint       string          `json:"hint"`
	RetryAfter int             `json:"retry_after"`
	End        bool            `json:"end"`
	Complete   bool            `json:"complete"`
}

// Batch sends a stream of statements in one request and hands over what became
// of each, in order. next returns the statements and io.EOF at their end; each
// is called once for every statement read, from one goroutine. When final, the
// institution waits for finality before it answers a slice; the outcomes stay
// its word, which Confirm proves.
//
// When an institution breaks off, the statements without an answer go to the
// next one; those that were registered already keep their place. The error is
// that of next or each, a context's, or *UnavailableError: every statement
// before the first one without an outcome has had its own.
func (c *Client) Batch(ctx context.Context, next func() ([]byte, error), final bool, each func(Outcome) error) error {
	b := &batchSender{c: c, next: next, each: each, final: final}
	b.room.L = &b.mu
	deadline := c.now().Add(c.patience)
	wait := backoffFirst
	for {
		var attempts []Attempt
		for _, n := range c.inTurn() {
			if c.now().UnixMilli() < n.busyUntil.Load() {
				attempts = append(attempts, Attempt{n.institution, errors.New("it asked to be left alone for a while")})
				continue
			}
			answered := b.answered
			err := b.send(ctx, n)
			var stop *stopError
			switch {
			case errors.As(err, &stop):
				return stop.err
			case ctx.Err() != nil:
				return ctx.Err()
			case err == nil:
				c.prefer(n)
				return nil
			}
			if b.answered > answered { // it did something: start counting anew
				deadline, wait = c.now().Add(c.patience), backoffFirst
			}
			attempts = append(attempts, Attempt{n.institution, err})
		}
		pause := c.pause(wait)
		if c.now().Add(pause).After(deadline) {
			return fmt.Errorf("sending the batch, after %d statements: %w", b.answered, &UnavailableError{attempts})
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
		wait = min(2*wait, backoffMost)
	}
}

// stopError ends the whole batch, not one attempt.
type stopError struct{ err error }

func (e *stopError) Error() string { return e.err.Error() }
func (e *stopError) Unwrap() error { return e.err }

type batchSender struct {
	c        *Client
	next     func() ([]byte, error)
	each     func(Outcome) error
	final    bool
	answered int

	mu      sync.Mutex
	room    sync.Cond // signalled when waiting shrinks or closed is set
	waiting [][]byte  // read from next and without an outcome
	drained bool      // next gave io.EOF
	broken  error     // next gave another error
	closed  bool      // this attempt is over
}

// send makes one attempt with one institution. nil: everything has its outcome.
func (b *batchSender) send(ctx context.Context, n *node) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	pr, pw := io.Pipe()
	var writing sync.WaitGroup
	b.mu.Lock()
	b.closed = false
	b.mu.Unlock()
	writing.Go(func() { _ = pw.CloseWithError(b.write(pw)) })
	defer func() {
		b.mu.Lock()
		b.closed = true
		b.room.Broadcast()
		b.mu.Unlock()
		_ = pr.Close()
		writing.Wait() // a next that blocks for ever is the caller's
	}()
	wait := "none"
	if b.final {
		wait = "final"
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, n.base+"/api/v1/batches?wait="+wait, pr)
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", typeLines)
	r.Header.Set("Accept", typeLines)
	r.Header.Set("Accept-Language", b.c.language)
	resp, err := b.c.http.Do(r)
	if broken := b.failure(); broken != nil && (err != nil || resp.StatusCode != http.StatusOK) {
		if err == nil {
			_ = resp.Body.Close()
		}
		return &stopError{broken}
	}
	if err != nil {
		if b.finished() {
			return nil // there was nothing to send
		}
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
		err := b.c.refusal(n, resp, body)
		var busy *busyError
		if b.finished() {
			return nil
		}
		if resp.StatusCode < 300 || errors.As(err, &busy) {
			return err
		}
		return &stopError{err}
	}
	return b.readLines(n, resp.Body)
}

// write sends what is waiting from an earlier attempt, then what next gives.
func (b *batchSender) write(w io.Writer) error {
	b.mu.Lock()
	again := append([][]byte(nil), b.waiting...)
	done := b.drained || b.broken != nil
	b.mu.Unlock()
	var line []byte
	send := func(s []byte) error {
		line = append(line[:0], '"')
		line = base64.StdEncoding.AppendEncode(line, s)
		line = append(line, '"', '\n')
		_, err := w.Write(line)
		return err
	}
	for _, s := range again {
		if err := send(s); err != nil {
			return err
		}
	}
	for !done {
		b.mu.Lock()
		for len(b.waiting) >= batchWindow && !b.closed {
			b.room.Wait()
		}
		closed := b.closed
		b.mu.Unlock()
		if closed {
			return io.ErrClosedPipe
		}
		s, err := b.next()
		b.mu.Lock()
		switch {
		case errors.Is(err, io.EOF):
			b.drained, done = true, true
		case err != nil:
			b.broken, done = err, true
		default:
			b.waiting = append(b.waiting, s)
		}
		b.mu.Unlock()
		if done {
			break
		}
		if err := send(s); err != nil {
			return err
		}
	}
	return nil
}

func (b *batchSender) failure() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.broken
}

func (b *batchSender) finished() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.drained && len(b.waiting) == 0
}

// readLines hands the outcomes over as they come.
func (b *batchSender) readLines(n *node, body io.Reader) error {
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var l batchLine
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			return fmt.Errorf("a line of the answer is not the JSON expected: %w", err)
		}
		if l.End {
			if l.RetryAfter > 0 {
				n.busyUntil.Store(b.c.now().Add(min(time.Duration(l.RetryAfter)*time.Second, time.Hour)).UnixMilli())
			}
			if broken := b.failure(); broken != nil {
				return &stopError{broken}
			}
			if l.Complete && b.finished() {
				return nil
			}
			return fmt.Errorf("it ended the batch early (%s): %s", l.Code, l.Reason)
		}
		o, ok, err := b.outcome(n, l)
		if err != nil {
			return err
		}
		if !ok {
			return fmt.Errorf("it could not take a statement (%s): %s", l.Code, l.Reason) // this and the rest go to the next one
		}
		b.answered++
		if err := b.each(o); err != nil {
			return &stopError{err}
		}
	}
	if broken := b.failure(); broken != nil {
		return &stopError{broken}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("the answer broke off: %w", err)
	}
	return errors.New("the answer broke off")
}

// outcome takes the first statement that waits; ok is false when the line says
// that the institution, and not the statement, is the reason: it waits on.
func (b *batchSender) outcome(n *node, l batchLine) (o Outcome, ok bool, err error) {
	o = Outcome{Institution: n.institution, Final: l.Final, Field: l.Field, Reason: firstNonEmpty(l.Detail, l.Reason), Hint: l.Hint}
	switch {
	case l.Code == evidence.CodeOK.String():
	default:
		if o.Code, ok = evidence.CodeByName(l.Code); !ok {
			return o, false, nil
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.waiting) == 0 {
		return o, false, errors.New("it answers for more statements than it was sent")
	}
	o.Digest = evidence.SumSHA256(b.waiting[0])
	o.Entry = o.Digest
	b.waiting = b.waiting[1:]
	b.room.Signal()
	if l.Position != nil {
		o.Position, o.Known = *l.Position, true
	}
	if !l.Entry.IsZero() {
		o.Entry = l.Entry
	}
	return o, true, nil
}

func firstNonEmpty(texts ...string) string {
	for _, s := range texts {
		if s != "" {
			return s
		}
	}
	return ""
}
