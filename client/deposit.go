package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
)

// Outcome is what an institution said of one statement. It is a claim: Confirm
// proves it.
type Outcome struct {
	Institution string          // that took it
	Digest      evidence.Digest // of the bytes sent
	Code        evidence.Code   // CodeOK, CodeRegistered (known before), or why it was refused
	Position    uint64          // its place in the log, when Known
	Known       bool
	Entry       evidence.Digest // registered; another than Digest when the same content was registered before under another signature
	Final       bool            // the institution says that a quorum has signed a root over it
	// Of a refusal:
	Field, Reason, Hint string
}

// Accepted reports whether the statement is on its way into the log or in it.
func (o *Outcome) Accepted() bool {
	return o.Code == evidence.CodeOK || o.Code == evidence.CodeRegistered
}

// deposited is the answer of /api/v1/statements.
type deposited struct {
	Code     string          `json:"code"`
	Digest   evidence.Digest `json:"digest"`
	Position *uint64         `json:"position"`
	Entry    evidence.Digest `json:"entry"`
	Final    bool            `json:"final"`
}

// Submit hands a signed statement to an institution and returns when one has it
// durably. It does not wait for finality: Deposit does. A refusal is a *Problem
// whose Rule is true; since one institution's word is not enough, it is only
// returned when a second one agrees or none other answers.
func (c *Client) Submit(ctx context.Context, statement []byte) (*Outcome, error) {
	return c.submit(ctx, statement, "none")
}

func (c *Client) submit(ctx context.Context, statement []byte, wait string) (*Outcome, error) {
	if _, err := evidence.ParseStatement(statement); err != nil {
		return nil, fmt.Errorf("submitting: this is no statement: %w", err)
	}
	digest := evidence.SumSHA256(statement)
	q := request{method: http.MethodPost, path: "/api/v1/statements?wait=" + wait, contentType: typeCOSE, body: statement, accept: typeJSON}
	var out *Outcome
	read := func(a *answer) error {
		var err error
		out, err = readDeposited(a, digest)
		return err
	}
	_, err := c.anyNode(ctx, q, read)
	var refused *Problem
	if errors.As(err, &refused) && refused.Rule() && len(c.nodes) > 1 {
		if second := c.secondOpinion(ctx, q, refused.Institution, read); second {
			return out, nil
		}
	}
	if err != nil {
		return nil, fmt.Errorf("submitting statement %s: %w", digest, err)
	}
	return out, nil
}

func readDeposited(a *answer, digest evidence.Digest) (*Outcome, error) {
	var d deposited
	if err := readJSON(a, &d); err != nil {
		return nil, err
	}
	o := &Outcome{Institution: a.node.institution, Digest: digest, Entry: digest, Final: d.Final && d.Position != nil}
	switch d.Code {
	case evidence.CodeOK.String():
	case evidence.CodeRegistered.String():
		o.Code = evidence.CodeRegistered
	default:
		return nil, fmt.Errorf("it accepted the statement with the code %.40q", d.Code)
	}
	if d.Digest != digest {
		return nil, fmt.Errorf("it speaks of statement %s, sent was %s", d.Digest, digest)
	}
	if d.Position != nil {
		o.Position, o.Known = *d.Position, true
	}
	if !d.Entry.IsZero() {
		o.Entry = d.Entry
	}
	return o, nil
}

// secondOpinion asks the institutions but one, each once, and reports whether
// read took an answer. One that refuses too ends it.
func (c *Client) secondOpinion(ctx context.Context, q request, but string, read func(*answer) error) bool {
	for _, n := range c.inTurn() {
		if n.institution == but {
			continue
		}
		a, err := c.ask(ctx, n, q)
		if err == nil && read(a) == nil {
			c.prefer(n)
			return true
		}
		var p *Problem
		if errors.As(err, &p) && p.Rule() {
			return false
		}
	}
	return false
}

// Deposit submits the statement and waits until it is final, which it proves:
// the receipts of a quorum are checked against the policy. While it is not, the
// same bytes go to one institution after the other. It waits until ctx ends; the
// error is then a *NotFinalError once an institution has the
// statement. Sending the same statement again is safe and gives the same
// position.
func (c *Client) Deposit(ctx context.Context, statement []byte) (*Final, error) {
	var accepted *Outcome
	wait := backoffFirst
	for {
		o, err := c.submit(ctx, statement, "final")
		switch {
		case err != nil && accepted != nil && ctx.Err() != nil:
			return nil, &NotFinalError{accepted.Digest, ctx.Err()}
		case err != nil:
			return nil, err
		}
		accepted = o
		var shortage error
		if o.Final {
			final, err := c.Confirm(ctx, o.Entry)
			if err == nil {
				final.Code = o.Code
				return final, nil
			}
			var quorum *QuorumError
			var unavailable *UnavailableError
			switch {
			case ctx.Err() != nil:
				return nil, &NotFinalError{o.Digest, ctx.Err()}
			case errors.As(err, &quorum), errors.As(err, &unavailable), errors.Is(err, ErrNotFound):
				shortage = err // an institution was too quick with "final", or lied
			default:
				return nil, err
			}
		}
		// One that is cut off from the others keeps a statement for ever, and one
		// that lies never had it: the next one is asked.
		c.avoid(o.Institution)
		if err := sleep(ctx, wait); err != nil {
			return nil, &NotFinalError{o.Digest, errors.Join(err, shortage)}
		}
		wait = min(2*wait, backoffMost)
	}
}

// Final is a proven registration.
type Final struct {
	Code     evidence.Code // CodeOK or CodeRegistered, from Deposit
	Entry    evidence.Digest
	Position uint64
	// Receipts has one of each institution whose receipt was had and holds.
	Receipts map[string][]byte
	// TreeSize is the largest size that a receipt speaks of, and Time the block
	// time by which a quorum had signed.
	TreeSize uint64
	Time     time.Time
	// Missing are the institutions of the policy without a receipt here; Rejected
	// says whose answers were thrown away.
	Missing  []string
	Rejected []Attempt
}
