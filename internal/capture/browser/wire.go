package browser

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/chromedp/cdproto"
	jsonv2 "github.com/chromedp/cdproto/cdp/jsonv2"
	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"
)

// maxMessage is the longest message of the browser, in octets: a snapshot of a
// large page has some ten million.
const maxMessage = 256 << 20

var (
	errLost     = errors.New("the browser is gone")
	errDetached = errors.New("the tab is gone or its page crashed")
	errTooLong  = fmt.Errorf("a message of the browser is longer than %d octets", maxMessage)
	errHeldUp   = errors.New("the page waits for a dialog's answer")
)

// wire sends commands over the pipe and gives replies to those who wait. Who
// reads it gets the events, one after another.
type wire struct {
	conn *chromedp.PipeConn

	mu      sync.Mutex
	next    int64
	waiting map[int64]waiter
	lost    chan struct{}
	isLost  bool
}

type waiter struct {
	session target.SessionID
	reply   chan *cdproto.Message // closed when there will be none
}

func newWire(r io.ReadCloser, w io.WriteCloser) *wire {
	return &wire{conn: chromedp.NewPipeConn(&boundedPipe{ReadCloser: r}, w), waiting: map[int64]waiter{}, lost: make(chan struct{})}
}

// boundedPipe fails when a message does not end.
type boundedPipe struct {
	io.ReadCloser
	since int
}

func (p *boundedPipe) Read(b []byte) (int, error) {
	n, err := p.ReadCloser.Read(b)
	if end := bytes.LastIndexByte(b[:n], 0); end >= 0 {
		p.since = n - end - 1
	} else if p.since += n; p.since > maxMessage {
		return n, errTooLong
	}
	return n, err
}

// read calls hear with every event until the pipe ends. hear must not wait for
// replies.
func (w *wire) read(hear func(*cdproto.Message) error) error {
	for {
		m := new(cdproto.Message)
		if err := w.conn.Read(context.Background(), m); err != nil {
			return err
		}
		if m.ID == 0 {
			if err := hear(m); err != nil {
				return err
			}
			continue
		}
		w.mu.Lock()
		waits, ok := w.waiting[m.ID]
		delete(w.waiting, m.ID)
		w.mu.Unlock()
		if ok {
			waits.reply <- m
		}
	}
}

// lose tells everybody who waits that nothing comes any more.
func (w *wire) lose() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.isLost {
		return
	}
	w.isLost = true
	close(w.lost)
	for id, waits := range w.waiting {
		close(waits.reply)
		delete(w.waiting, id)
	}
}

// forget does the same for one session: its page is gone.
func (w *wire) forget(s target.SessionID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, waits := range w.waiting {
		if waits.session == s {
			close(waits.reply)
			delete(w.waiting, id)
		}
	}
}

// reply is an answer to come.
type reply struct {
	w      *wire
	id     int64
	method string
	ch     chan *cdproto.Message
}

// send sends a command; its reply is waited for with wait, or dropped.
func (w *wire) send(s target.SessionID, method string, params any) (*reply, error) {
	var raw []byte
	if params != nil {
		var err error
		if raw, err = jsonv2.Marshal(params, chromedp.DefaultMarshalOptions); err != nil {
			return nil, fmt.Errorf("writing %s: %w", method, err)
		}
	}
	ch := make(chan *cdproto.Message, 1)
	w.mu.Lock()
	if w.isLost {
		w.mu.Unlock()
		return nil, errLost
	}
	w.next++
	id := w.next
	w.waiting[id] = waiter{s, ch}
	w.mu.Unlock()
	err := w.conn.Write(context.Background(), &cdproto.Message{ID: id, SessionID: s, Method: cdproto.MethodType(method), Params: raw})
	if err != nil {
		w.drop(id)
		return nil, fmt.Errorf("sending %s: %w: %w", method, errLost, err)
	}
	return &reply{w, id, method, ch}, nil
}

func (w *wire) drop(id int64) {
	w.mu.Lock()
	delete(w.waiting, id)
	w.mu.Unlock()
}

// wait waits for the reply, or until held is closed (errHeldUp).
func (r *reply) wait(ctx context.Context, held <-chan struct{}, result any) error {
	var m *cdproto.Message
	select {
	case m = <-r.ch:
	case <-held:
		r.w.drop(r.id)
		return errHeldUp
	case <-ctx.Done():
		r.w.drop(r.id)
		return fmt.Errorf("waiting for %s: %w", r.method, ctx.Err())
	}
	switch {
	case m == nil:
		select {
		case <-r.w.lost:
			return errLost
		default:
			return errDetached
		}
	case m.Error != nil:
		return fmt.Errorf("%s: %w", r.method, m.Error)
	case result == nil:
		return nil
	}
	if err := jsonv2.Unmarshal(m.Result, result, chromedp.DefaultUnmarshalOptions); err != nil {
		return fmt.Errorf("reading the reply to %s: %w", r.method, err)
	}
	return nil
}

func (w *wire) call(ctx context.Context, s target.SessionID, method string, params, result any) error {
	r, err := w.send(s, method, params)
	if err != nil {
		return err
	}
	return r.wait(ctx, nil, result)
}

// session speaks to one target; "" is the browser. It is a cdp.Session.
type session struct {
	w  *wire
	id target.SessionID
}

func (s session) Call(ctx context.Context, method string, params, result any) error {
	return s.w.call(ctx, s.id, method, params, result)
}

// Subscribe is of no use here: all events go one way.
func (session) Subscribe(string) (<-chan jsonv2.Value, func()) {
	none := make(chan jsonv2.Value)
	close(none)
	return none, func() {}
}
