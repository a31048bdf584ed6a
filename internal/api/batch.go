package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/chain"
)

// BatchLine is one line of a batch's answer: what became of the n-th statement.
type BatchLine struct {
	N          int     `json:"n" doc:"Counts the statements of the batch from 1"`
	Status     int     `json:"status" doc:"HTTP status this statement would have had alone"`
	Code       string  `json:"code"`
	Digest     string  `json:"digest,omitempty" doc:"SHA-256 of the bytes sent"`
	Position   *uint64 `json:"position,omitempty" doc:"Place in the log, once known"`
	Entry      string  `json:"entry,omitempty" doc:"Digest registered, when it differs from digest"`
	Final      bool    `json:"final"`
	Field      string  `json:"field,omitempty"`
	Reason     string  `json:"reason,omitempty" doc:"In the reader's language"`
	Detail     string  `json:"detail,omitempty" doc:"For a developer"`
	Hint       string  `json:"hint,omitempty" doc:"In the reader's language"`
	RetryAfter int     `json:"retry_after,omitempty" doc:"Seconds"`
}

// BatchEnd is the last line of a batch's answer. Without it the answer was cut.
type BatchEnd struct {
	End        bool   `json:"end" doc:"Always true: tells this line from the others"`
	Complete   bool   `json:"complete" doc:"Every statement sent was read and has its line above"`
	Read       int    `json:"read" doc:"Lines above"`
	Accepted   int    `json:"accepted"`
	Refused    int    `json:"refused"`
	Code       string `json:"code,omitempty" doc:"Why it ended early"`
	Reason     string `json:"reason,omitempty" doc:"In the reader's language"`
	Detail     string `json:"detail,omitempty"`
	Hint       string `json:"hint,omitempty"`
	RetryAfter int    `json:"retry_after,omitempty" doc:"Seconds"`
}

func (s *Server) batchRoute() {
	responses := answers(answer("200", "One BatchLine a statement, in order, then one BatchEnd", typeNDJSON))
	responses["200"].Content[typeNDJSON].Schema = &huma.Schema{OneOf: []*huma.Schema{schemaOf[BatchLine](s), schemaOf[BatchEnd](s)}}
	s.handle(huma.Operation{OperationID: "deposit-batch", Method: http.MethodPost, Path: "/api/v1/batches", Tags: []string{tagDeposit},
		Summary:     "Register many statements in one request",
		Description: "A file or a stream: CBOR sequence of statements (their bytes one after the other), or one base64 string a line. Answers while it reads, so read while you send. A bad statement costs only its own line. When the node is busy it reads more slowly, and at last ends with code overloaded: send the rest again later; sending a statement twice is safe.",
		Parameters:  []*huma.Param{waitParam()},
		RequestBody: requestBody("The statements", typeCBORSeq, typeNDJSON),
		Responses:   responses}, s.batch)
}

// batch is one batch being answered.
type batch struct {
	s     *Server
	r     *http.Request
	w     http.ResponseWriter
	rc    *http.ResponseController
	out   *bufio.Writer
	enc   *json.Encoder
	lang  string
	final bool
	begun bool // the status line went out
	end   BatchEnd
}

// linger is how long a slice waits for more statements once it has one: long
// enough to fill slices from a fast sender, short against a block.
const linger = 20 * time.Millisecond

func (s *Server) batch(w http.ResponseWriter, r *http.Request) error {
	final, err := waitsFinal(r)
	if err != nil {
		return err
	}
	if err := takes(r, typeCBORSeq, typeNDJSON); err != nil {
		return err
	}
	select {
	case s.batches <- struct{}{}:
		defer func() { <-s.batches }()
	default:
		return fail(http.StatusTooManyRequests, "overloaded", "", "%d batches are being read", s.limits.MaxBatches).after(5 * time.Second)
	}
	s.metrics.batches.Inc()
	defer s.metrics.batches.Dec()

	b := &batch{s: s, r: r, w: w, rc: http.NewResponseController(w), out: bufio.NewWriterSize(w, 64<<10), lang: s.language(r), final: final}
	b.enc = json.NewEncoder(b.out)
	b.end.End = true
	// HTTP/1.1 would otherwise swallow the rest of the body at the first line
	// written. Others (HTTP/2) always can.
	_ = b.rc.EnableFullDuplex()

	items, stop := b.startReading()
	defer stop()
	return b.run(items)
}

// startReading reads items ahead, so that a slice is filled while the one
// before is being registered. stop ends and waits for the reading.
func (b *batch) startReading() (<-chan batchItem, func()) {
	l := b.s.limits
	body := &pacedReader{r: http.MaxBytesReader(b.w, b.r.Body, l.BatchBytes), rc: b.rc, patience: l.ReadTimeout}
	var reader batchReader
	if media, _, _ := mime.ParseMediaType(b.r.Header.Get("Content-Type")); media == typeCBORSeq {
		reader = &cborSequence{br: bufio.NewReaderSize(body, 64<<10)}
	} else {
		reader = &jsonLines{br: bufio.NewReaderSize(body, 64<<10)}
	}
	items := make(chan batchItem, l.SliceStatements)
	quit := make(chan struct{})
	var reading sync.WaitGroup
	reading.Go(func() {
		defer close(items)
		for n := 0; ; n++ {
			body.began = time.Now()
			item, err := reader.next()
			if err != nil { // io.EOF
				// No deadline may strike while the answer is still being made: net/http
				// would take it for a client that left.
				_ = b.rc.SetReadDeadline(time.Time{})
				return
			}
			if n == l.BatchStatements {
				item = batchItem{broken: fail(http.StatusRequestEntityTooLarge, "batch-limit", "body", "at most %d statements are allowed", l.BatchStatements)}
			}
			select {
			case items <- item:
			case <-quit:
				return
			}
			if item.broken != nil {
				return
			}
		}
	})
	return items, func() {
		close(quit)
		if !b.end.Complete {
			body.cut() // wakes a read that waits for the client
		}
		reading.Wait()
	}
}

// pacedReader gives each statement its own time to arrive, counted from when
// the reader began to look for it, so that a sender that drips bytes gains
// nothing.
type pacedReader struct {
	r        io.Reader
	rc       *http.ResponseController
	patience time.Duration
	began    time.Time

	mu  sync.Mutex
	off bool
}

func (p *pacedReader) Read(b []byte) (int, error) {
	p.mu.Lock()
	if p.off {
		p.mu.Unlock()
		return 0, context.Canceled
	}
	_ = p.rc.SetReadDeadline(p.began.Add(p.patience)) // not all transports have one; those in tests do not block
	p.mu.Unlock()
	return p.r.Read(b)
}

// cut makes this and all later reads return.
func (p *pacedReader) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.off = true
	_ = p.rc.SetReadDeadline(time.Unix(1, 0))
}

// run registers slice after slice. Its error is an answer of its own; after the
// first line has gone out, everything is said in lines.
func (b *batch) run(items <-chan batchItem) error {
	for {
		slice, more := b.slice(items)
		if len(slice) > 0 {
			// The stream broke before anything of it was a statement: plain error.
			if f := slice[len(slice)-1].broken; f != nil {
				slice = slice[:len(slice)-1]
				if len(slice) == 0 {
					return b.finish(f)
				}
				if err := b.register(slice); err != nil {
					return b.finish(err)
				}
				return b.finish(f)
			}
			if err := b.register(slice); err != nil {
				return b.finish(err)
			}
		}
		if !more {
			return b.finish(nil)
		}
		if b.s.draining.Err() != nil {
			return b.finish(chain.ErrStopping)
		}
	}
}

// slice collects what is there, up to SliceStatements: nothing when the server
// stops.
func (b *batch) slice(items <-chan batchItem) (slice []batchItem, more bool) {
	select {
	case first, ok := <-items:
		if !ok {
			return nil, false
		}
		slice = append(slice, first)
	case <-b.s.draining.Done():
		return nil, true
	}
	timer := time.NewTimer(linger)
	defer timer.Stop()
	for len(slice) < b.s.limits.SliceStatements {
		select {
		case item, ok := <-items:
			if !ok {
				return slice, false
			}
			slice = append(slice, item)
		case <-timer.C:
			return slice, true
		}
	}
	return slice, true
}

// register submits the statements of a slice and writes its lines. An error
// means that the batch ends; when some lines had gone out before, the slice's
// statements have got lines with that error.
func (b *batch) register(slice []batchItem) error {
	statements := make([][]byte, 0, len(slice))
	for _, it := range slice {
		if it.bad == nil {
			statements = append(statements, it.statement)
		}
	}
	var outcomes []chain.Outcome
	if len(statements) > 0 {
		var err error
		if outcomes, err = b.submit(statements); err != nil {
			if !b.begun {
				return err
			}
			for range slice {
				b.line(b.errorLine(err))
			}
			return err
		}
	}
	for _, it := range slice {
		o := chain.Outcome{}
		if it.bad != nil {
			o = chain.Outcome{Code: it.bad.Code, Field: it.bad.Field, Reason: it.bad.Reason}
		} else {
			o, outcomes = outcomes[0], outcomes[1:]
		}
		b.s.metrics.outcomes.WithLabelValues(o.Code.String()).Inc()
		b.line(b.outcomeLine(o))
	}
	return b.flush()
}

// submit tries until the node takes the slice or patience ends. Meanwhile
// nothing more is read than the slice ahead: the sender feels it as a slow
// connection.
func (b *batch) submit(statements [][]byte) ([]chain.Outcome, error) {
	deadline := time.Now().Add(b.s.limits.BatchPatience)
	for {
		ctx, cancel := b.s.waitContext(b.r)
		outcomes, err := b.s.node.Submit(ctx, statements, b.final)
		ended := ctx.Err() != nil
		cancel()
		if err != nil && ended && len(outcomes) == len(statements) {
			err = nil // the wait for finality ended, the outcomes stand
		}
		if err == nil && len(outcomes) != len(statements) {
			err = fmt.Errorf("the node gave %d outcomes for %d statements", len(outcomes), len(statements))
		}
		var overload *chain.OverloadError
		if !errors.As(err, &overload) {
			return outcomes, err
		}
		pause := min(max(overload.RetryAfter, 10*time.Millisecond), 5*time.Second)
		if time.Now().Add(pause).After(deadline) {
			return nil, err
		}
		select {
		case <-time.After(pause):
		case <-b.r.Context().Done():
			return nil, b.r.Context().Err()
		case <-b.s.draining.Done():
			return nil, chain.ErrStopping
		}
	}
}

func (b *batch) outcomeLine(o chain.Outcome) BatchLine {
	if !o.Accepted && o.Code == evidence.CodeOK { // the wait ended before the node had looked at it
		l := b.errorLine(context.DeadlineExceeded)
		if !o.Digest.IsZero() {
			l.Digest = o.Digest.String()
		}
		return l
	}
	l := BatchLine{Code: o.Code.String(), Final: o.Final}
	if !o.Digest.IsZero() {
		l.Digest = o.Digest.String()
	}
	if o.Known {
		l.Position = &o.Position
		if o.Entry != o.Digest && !o.Entry.IsZero() {
			l.Entry = o.Entry.String()
		}
	}
	switch {
	case !o.Accepted:
		f := refused(o)
		text := wordsOf(f.code, b.lang)
		l.Status, l.Field, l.Reason, l.Detail, l.Hint = f.status, f.field, text.title, f.detail, text.hint
	case !o.Final:
		l.Status = http.StatusAccepted
		b.s.pending.add(o.Digest)
	case o.Code == evidence.CodeRegistered:
		l.Status = http.StatusOK
	default:
		l.Status = http.StatusCreated
	}
	return l
}

func (b *batch) errorLine(err error) BatchLine {
	p := b.s.problem(b.r, err)
	return BatchLine{Status: p.Status, Code: p.Code, Field: p.Field, Reason: p.Title, Detail: p.Detail, Hint: p.Hint, RetryAfter: p.RetryAfter}
}

// line appends one line to the buffer; a write that fails shows in flush.
func (b *batch) line(l BatchLine) {
	if !b.begun {
		b.begun = true
		_ = b.rc.SetWriteDeadline(time.Now().Add(b.s.limits.WriteTimeout))
		b.w.Header().Set("Content-Type", typeNDJSON)
		b.w.Header().Set("Content-Language", b.lang)
		b.w.Header().Set("X-Accel-Buffering", "no") // proxies that would hold the lines back
		b.w.WriteHeader(http.StatusOK)
	}
	b.end.Read++
	if l.N = b.end.Read; l.Status < 300 {
		b.end.Accepted++
	} else {
		b.end.Refused++
	}
	_ = b.enc.Encode(l)
}

func (b *batch) flush() error {
	_ = b.rc.SetWriteDeadline(time.Now().Add(b.s.limits.WriteTimeout))
	if err := b.out.Flush(); err != nil {
		return fmt.Errorf("writing to the client: %w", context.Canceled)
	}
	_ = b.rc.Flush()
	return nil
}

// finish writes the last line, or returns the error for an answer of its own
// when no line has gone out.
func (b *batch) finish(err error) error {
	if err != nil && !b.begun {
		b.w.Header().Set("Connection", "close") // the rest of the body is not read
		return err
	}
	if !b.begun { // no statement at all
		return fail(http.StatusBadRequest, evidence.CodeEmpty.String(), "body", "the batch holds no statement")
	}
	b.end.Complete = err == nil
	if err != nil {
		p := b.s.problem(b.r, err)
		b.end.Code, b.end.Reason, b.end.Detail, b.end.Hint, b.end.RetryAfter = p.Code, p.Title, p.Detail, p.Hint, p.RetryAfter
	}
	_ = b.enc.Encode(b.end)
	_ = b.flush() // a client that left is told nothing
	return nil
}
