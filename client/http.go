package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"github.com/zhenglian/zhenglian/internal/httpsig"
)

const (
	typeCOSE = "application/cose"
	typeJSON = "application/json"

	// maxAnswer bounds what is read of an answer, in bytes: the receipts of 100
	// institutions of 4 kB, two each, in base64, and a manifest's worth of trail.
	maxAnswer = 8 << 20
	// backoffFirst and backoffMost bound the waits between rounds over all
	// institutions; a round's wait is random up to the doubled one before.
	backoffFirst = 200 * time.Millisecond
	backoffMost  = 5 * time.Second
)

// request is one question, to any institution.
type request struct {
	method      string
	path        string // with its query
	contentType string
	body        []byte
	accept      string
	signed      bool
}

// answer is an institution's answer below 400.
type answer struct {
	node   *node
	status int
	header http.Header
	body   []byte
}

// busyError asks to be left alone for a while.
type busyError struct{ *Problem }

func (e *busyError) Unwrap() error { return e.Problem }

// ask sends the request to one institution, once. Errors are *Problem, a
// *busyError around one, or what the connection said.
func (c *Client) ask(ctx context.Context, n *node, q request) (*answer, error) {
	r, err := http.NewRequestWithContext(ctx, q.method, n.base+q.path, bytes.NewReader(q.body))
	if err != nil {
		return nil, err
	}
	if q.body == nil {
		r.Body, r.ContentLength = http.NoBody, 0
	} else {
		r.Header.Set("Content-Type", q.contentType)
	}
	r.Header.Set("Accept", q.accept)
	r.Header.Set("Accept-Language", c.language)
	if q.signed {
		if c.signer == nil {
			return nil, errNoSigner
		}
		if err := httpsig.Sign(r, q.body, c.signer, c.now(), c.random); err != nil {
			return nil, err
		}
	}
	resp, err := c.http.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("the answer broke off: %w", err)
	}
	if len(body) > maxAnswer {
		return nil, fmt.Errorf("the answer has more than %d bytes", maxAnswer)
	}
	if resp.StatusCode >= 400 {
		return nil, c.refusal(n, resp, body)
	}
	if resp.StatusCode >= 300 {
		return nil, fmt.Errorf("it redirects to %.200q: use the address where the node itself answers", resp.Header.Get("Location"))
	}
	return &answer{n, resp.StatusCode, resp.Header, body}, nil
}

// refusal reads an error answer. What is busy, full or broken may be asked
// again; what the request itself causes may not.
func (c *Client) refusal(n *node, resp *http.Response, body []byte) error {
	p := &Problem{}
	if json.Unmarshal(body, p) != nil || p.Code == "" {
		p = &Problem{Code: "http-" + strconv.Itoa(resp.StatusCode), Title: http.StatusText(resp.StatusCode)}
	}
	p.Institution, p.Status = n.institution, resp.StatusCode
	p.RetryAfter = retryAfter(resp.Header.Get("Retry-After"), c.now())
	switch resp.StatusCode {
	case http.StatusTooManyRequests, http.StatusRequestTimeout, http.StatusInternalServerError, http.StatusBadGateway,
		http.StatusServiceUnavailable, http.StatusGatewayTimeout, http.StatusInsufficientStorage:
		n.busyUntil.Store(c.now().Add(p.RetryAfter).UnixMilli())
		return &busyError{p}
	}
	return p
}

// retryAfter reads the field (RFC 9110 §10.2.3): seconds or a date. What is
// absurd counts as an hour, which no call waits for.
func retryAfter(v string, now time.Time) time.Duration {
	if s, err := strconv.ParseUint(v, 10, 32); err == nil {
		return min(time.Duration(s)*time.Second, time.Hour)
	}
	if t, err := http.ParseTime(v); err == nil {
		return min(max(t.Sub(now), 0), time.Hour)
	}
	return 0
}

// anyNode asks one institution after the other, in rounds, until accept takes
// an answer. accept may be nil. A *Problem that the request itself causes ends
// it at once; one that denies, or ErrNotFound, only when nobody in the round
// had an answer. The other errors of ask and accept send it on to the next
// institution.
func (c *Client) anyNode(ctx context.Context, q request, accept func(*answer) error) (*answer, error) {
	if q.signed && c.signer == nil {
		return nil, errNoSigner
	}
	deadline := c.now().Add(c.patience)
	wait := backoffFirst
	for {
		var attempts []Attempt
		missing := false
		var denied *Problem
		for _, n := range c.inTurn() {
			if c.now().UnixMilli() < n.busyUntil.Load() {
				attempts = append(attempts, Attempt{n.institution, errors.New("it asked to be left alone for a while")})
				continue
			}
			a, err := c.ask(ctx, n, q)
			if err == nil && accept != nil {
				err = accept(a)
			}
			if err == nil {
				c.prefer(n)
				return a, nil
			}
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			var busy *busyError
			var problem *Problem
			if errors.As(err, &problem) && !errors.As(err, &busy) {
				switch problem.Status {
				case http.StatusNotFound: // one that lags does not know it yet
					missing = true
				case http.StatusUnauthorized, http.StatusForbidden: // nor the key, nor the trail
					if denied == nil {
						denied = problem
					}
				default:
					return nil, problem
				}
			}
			attempts = append(attempts, Attempt{n.institution, err})
		}
		switch {
		case denied != nil:
			return nil, denied
		case missing:
			return nil, ErrNotFound
		}
		pause := c.pause(wait)
		if c.now().Add(pause).After(deadline) {
			return nil, &UnavailableError{attempts}
		}
		if err := sleep(ctx, pause); err != nil {
			return nil, err
		}
		wait = min(2*wait, backoffMost)
	}
}

// pause is how long to wait before the next round: until the first institution
// that asked for time is ready, and a random part of wait, so that clients that
// failed together do not come back together.
func (c *Client) pause(wait time.Duration) time.Duration {
	now := c.now().UnixMilli()
	soonest := c.nodes[0].busyUntil.Load()
	for _, n := range c.nodes {
		soonest = min(soonest, n.busyUntil.Load())
	}
	return time.Duration(max(0, soonest-now))*time.Millisecond + rand.N(wait) + wait/4
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// each asks all institutions at once and hands the answers over one by one, in
// the order of their coming, until take returns false or all have answered. An
// institution has at most `limit` for its answer.
func (c *Client) each(ctx context.Context, q request, limit time.Duration, take func(n *node, a *answer, err error) bool) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	type result struct {
		n   *node
		a   *answer
		err error
	}
	results := make(chan result, len(c.nodes))
	for _, n := range c.nodes {
		go func() {
			a, err := c.ask(ctx, n, q)
			results <- result{n, a, err}
		}()
	}
	more := true
	for range c.nodes { // all are waited for: cancel makes the rest end at once
		r := <-results
		if more && !take(r.n, r.a, r.err) {
			more = false
			cancel()
		}
	}
}

// readJSON reads an answer's JSON.
func readJSON(a *answer, v any) error {
	if err := json.Unmarshal(a.body, v); err != nil {
		return fmt.Errorf("the answer is not the JSON expected: %w", err)
	}
	return nil
}
