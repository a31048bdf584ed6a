package client

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/evidence/rfc3161"
)

// tokenWire is a token as an institution sends it.
type tokenWire struct {
	Authority string `json:"authority"`
	Token     []byte `json:"token"`
}

// Timestamps returns the RFC 3161 tokens over a checkpoint that an institution
// holds, by authority, perhaps none. Each is a token over this very checkpoint;
// one of an authority that the policy knows is the authority's own. Of others
// nobody has said that they count. What does not hold is left out. ErrNotFound.
func (c *Client) Timestamps(ctx context.Context, cp evidence.Checkpoint) (map[string][]byte, error) {
	stamped := evidence.CosignedCheckpoint{Origin: c.Policy().Origin, Checkpoint: cp}
	imprint := sha256.Sum256([]byte(stamped.Body()))
	out := map[string][]byte{}
	_, err := c.anyNode(ctx, request{method: http.MethodGet, path: fmt.Sprintf("/api/v1/checkpoints/%d/timestamps", cp.Size), accept: typeJSON}, func(a *answer) error {
		var v struct {
			Tokens []tokenWire `json:"tokens"`
		}
		if err := readJSON(a, &v); err != nil {
			return err
		}
		clear(out)
		for _, t := range v.Tokens {
			if c.checkToken(t, imprint) == nil {
				out[t.Authority] = t.Token
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("fetching the timestamps of size %d: %w", cp.Size, err)
	}
	return out, nil
}

func (c *Client) checkToken(t tokenWire, imprint [32]byte) error {
	known := c.Policy().TimestampAuthority(t.Authority)
	var trust rfc3161.Trust
	if known != nil {
		trust.Anchors = known.Anchors()
	}
	_, err := rfc3161.Verify(t.Token, imprint, trust)
	var e *rfc3161.Error
	if known == nil && errors.As(err, &e) && e.Code == rfc3161.CodeUntrusted {
		return nil
	}
	return err
}

// timestampPoll is how often AwaitTimestamp asks: a token comes within a second.
const timestampPoll = 150 * time.Millisecond

// AwaitTimestamp waits until an institution says that a checkpoint which covers
// the position has a token, for at most the time given. asking is false when the
// institution asks no authority: then it does not wait. What it says is a hint of
// when to fetch; Timestamps checks.
func (c *Client) AwaitTimestamp(ctx context.Context, position uint64, wait time.Duration) (stamped, asking bool, err error) {
	limited, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	q := request{method: http.MethodGet, path: fmt.Sprintf("/api/v1/positions/%d/timestamp", position), accept: typeJSON}
	for {
		var v struct {
			Asking bool        `json:"asking"`
			Size   *uint64     `json:"size"`
			Tokens []tokenWire `json:"tokens"`
		}
		_, err := c.anyNode(limited, q, func(a *answer) error { return readJSON(a, &v) })
		switch {
		case ctx.Err() != nil:
			return false, asking, ctx.Err()
		case limited.Err() != nil:
			return false, asking, nil
		case err != nil:
			return false, asking, fmt.Errorf("asking for the timestamp of position %d: %w", position, err)
		case v.Size != nil && *v.Size > position && len(v.Tokens) > 0:
			return true, true, nil
		case !v.Asking:
			return false, false, nil
		}
		asking = true
		_ = sleep(limited, timestampPoll) // the next round sees why it ended
	}
}

// StatementTimestamps returns the tokens over a statement itself that an
// institution holds, by authority, perhaps none; checked as those of Timestamps.
// ErrNotFound.
func (c *Client) StatementTimestamps(ctx context.Context, position uint64, statement evidence.Digest) (map[string][]byte, error) {
	tokens, err := c.statementTokens(ctx, request{method: http.MethodGet, path: statementTokensPath(position), accept: typeJSON}, statement)
	if err != nil {
		return nil, fmt.Errorf("fetching the timestamps of the statement at position %d: %w", position, err)
	}
	return tokens, nil
}

// StampStatement has an institution's authorities stamp the statement at a
// position, whose digest the client knows, and returns the tokens over it, by
// authority, of which there is at least one. It needs a signer with a registered
// key. An institution that asks no authority, or whose authorities are away, is
// passed over.
func (c *Client) StampStatement(ctx context.Context, position uint64, statement evidence.Digest) (map[string][]byte, error) {
	q := request{method: http.MethodPost, path: statementTokensPath(position), accept: typeJSON, signed: true}
	var tokens map[string][]byte
	var failures error
	for _, n := range c.inTurn() {
		a, err := c.ask(ctx, n, q)
		if err == nil {
			tokens, err = c.readStatementTokens(a, statement)
		}
		if err == nil && len(tokens) == 0 {
			err = fmt.Errorf("%s gives no token that holds", n.institution)
		}
		if err == nil {
			c.prefer(n) // it has them at once, the others soon
			return tokens, nil
		}
		failures = errors.Join(failures, fmt.Errorf("%s: %w", n.institution, err))
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	return nil, fmt.Errorf("having the statement at position %d timestamped: %w", position, failures)
}

func statementTokensPath(position uint64) string {
	return fmt.Sprintf("/api/v1/positions/%d/statement-timestamps", position)
}

func (c *Client) statementTokens(ctx context.Context, q request, statement evidence.Digest) (tokens map[string][]byte, err error) {
	_, err = c.anyNode(ctx, q, func(a *answer) (err error) {
		tokens, err = c.readStatementTokens(a, statement)
		return err
	})
	return tokens, err
}

func (c *Client) readStatementTokens(a *answer, statement evidence.Digest) (map[string][]byte, error) {
	var v struct {
		Tokens []tokenWire `json:"tokens"`
	}
	if err := readJSON(a, &v); err != nil {
		return nil, err
	}
	out := map[string][]byte{}
	for _, t := range v.Tokens {
		if c.checkToken(t, statement) == nil {
			out[t.Authority] = t.Token
		}
	}
	return out, nil
}
