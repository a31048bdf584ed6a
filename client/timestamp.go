package client

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
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
		trust.Anchors = []*x509.Certificate{known.X509()}
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
