package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
)

// keys is how far the client has followed the institutions' key changes.
type keys struct {
	mu       sync.Mutex // held while following
	last     time.Time  // when nothing new was found
	remember func(*evidence.Policy)
}

// UnknownKeyError says that something is signed with a key that the policy does
// not know, and that no key change leads to.
type UnknownKeyError struct {
	Institution string // whose key it is said to be
	Use         evidence.KeyUse
	KID         evidence.Digest
}

func (e *UnknownKeyError) Error() string {
	return fmt.Sprintf("it is signed by %s with a %s key that the policy does not know, %s: get the current policy with `zhenglian alliance policy`", e.Institution, e.Use, e.KID)
}

// followAgain is how long the client believes, after it found nothing new, that
// there is nothing: who sends rubbish must not make it ask everybody each time.
const followAgain = 10 * time.Second

// followWait bounds the answer of one institution.
const followWait = 10 * time.Second

// Follow asks every institution for the changes of institutions' keys, takes
// those into the policy that are proven under it, and returns them. What one
// institution holds back another shows. It is called by itself when a key is
// not known; a caller does so to be up to date. The error is of type
// *UnavailableError when nobody answers.
func (c *Client) Follow(ctx context.Context) ([]evidence.Followed, error) {
	c.keys.mu.Lock()
	defer c.keys.mu.Unlock()
	return c.follow(ctx)
}

func (c *Client) follow(ctx context.Context) ([]evidence.Followed, error) {
	next, _, followed, err := c.followFrom(ctx, c.Policy())
	if err != nil {
		return nil, fmt.Errorf("following the institutions' key changes: %w", err)
	}
	if len(followed) == 0 {
		c.keys.last = c.now()
		return nil, nil
	}
	c.policy.Store(next)
	if c.keys.remember != nil {
		c.keys.remember(next)
	}
	return followed, nil
}

// KeyChanges returns all key changes since the founding that are proven, in log
// order, with the receipts that prove them: what a package needs so that a
// reader who has only the founding document can follow. The client needs the
// founding document.
func (c *Client) KeyChanges(ctx context.Context) ([]evidence.Registration, error) {
	if c.alliance == nil {
		return nil, errors.New("fetching the institutions' key changes: the client has no founding document")
	}
	founded, err := evidence.PolicyFromAlliance(c.alliance)
	if err != nil {
		return nil, err
	}
	_, changes, _, err := c.followFrom(ctx, founded)
	if err != nil {
		return nil, fmt.Errorf("fetching the institutions' key changes: %w", err)
	}
	return changes, nil
}

// PackageChanges returns the key changes that a package needs, none while the
// policy knows founders' keys alone, and the largest size of the log that their
// receipts are over.
func (c *Client) PackageChanges(ctx context.Context) (changes []evidence.Registration, size uint64, err error) {
	if !c.Policy().Changed() {
		return nil, 0, nil
	}
	if changes, err = c.KeyChanges(ctx); err != nil {
		return nil, 0, err
	}
	for _, ch := range changes {
		for inst, data := range ch.Receipts {
			r, err := evidence.ParseReceipt(data)
			if err != nil {
				return nil, 0, fmt.Errorf("reading the receipt of %s: %w", inst, err)
			}
			size = max(size, r.Size)
		}
	}
	return changes, size, nil
}

// followFrom asks all and follows each answer in turn, so that a wrong answer
// stands in no other's way.
func (c *Client) followFrom(ctx context.Context, p *evidence.Policy) (next *evidence.Policy, changes []evidence.Registration, followed []evidence.Followed, err error) {
	next = p
	var failed []Attempt
	answers := 0
	c.each(ctx, request{method: http.MethodGet, path: keyChangesPath, accept: typeJSON}, followWait, func(n *node, a *answer, err error) bool {
		var all []evidence.Registration
		if err == nil {
			all, err = c.changePages(ctx, a)
		}
		if err != nil {
			failed = append(failed, Attempt{n.institution, err})
			return true
		}
		answers++
		by := make(map[evidence.Digest]evidence.Registration, len(all))
		for _, r := range all {
			by[evidence.SumSHA256(r.Statement)] = r
		}
		after, took, _ := next.Follow(all)
		next = after
		for _, f := range took {
			followed = append(followed, f)
			changes = append(changes, by[f.Statement])
		}
		return true
	})
	switch {
	case ctx.Err() != nil:
		return nil, nil, nil, ctx.Err()
	case answers == 0:
		return nil, nil, nil, &UnavailableError{failed}
	}
	return next, changes, followed, nil
}

const keyChangesPath = "/api/v1/key-changes"

// maxChangePages holds all changes that an alliance can make, ten a page.
const maxChangePages = evidence.MaxInstitutions * evidence.MaxKeyChanges / 10

func (c *Client) changePages(ctx context.Context, a *answer) ([]evidence.Registration, error) {
	var all []evidence.Registration
	var from uint64
	for range maxChangePages {
		var page struct {
			Changes []struct {
				Statement []byte     `json:"statement"`
				Receipts  receiptMap `json:"receipts"`
			} `json:"changes"`
			Next *uint64 `json:"next"`
		}
		if err := readJSON(a, &page); err != nil {
			return nil, err
		}
		for _, ch := range page.Changes {
			r := evidence.Registration{Statement: ch.Statement, Receipts: map[string][]byte{}}
			for inst, receipts := range ch.Receipts {
				r.Receipts[inst] = pickReceipt(receipts)
			}
			all = append(all, r)
		}
		if page.Next == nil {
			return all, nil
		}
		if *page.Next <= from {
			break
		}
		from = *page.Next
		var err error
		if a, err = c.ask(ctx, a.node, request{method: http.MethodGet, path: keyChangesPath + "?from=" + strconv.FormatUint(from, 10), accept: typeJSON}); err != nil {
			return nil, err
		}
	}
	return nil, errors.New("its pages of key changes do not follow each other")
}

// pickReceipt takes the receipt that other people's tools read too.
func pickReceipt(all [][]byte) []byte {
	for _, data := range all {
		if r, err := evidence.ParseReceipt(data); err == nil && r.Algorithm != evidence.SM2SM3 {
			return data
		}
	}
	if len(all) > 0 {
		return all[0]
	}
	return nil
}

// following does something that needs the institutions' keys; when it met one
// that is not known, it follows their changes and does it again. op is told
// whether it is the first time.
func following[T any](ctx context.Context, c *Client, op func(first bool) (out T, unknown bool, err error)) (T, error) {
	before := c.Policy()
	out, unknown, err := op(true)
	if !unknown || ctx.Err() != nil {
		return out, err
	}
	c.keys.mu.Lock()
	if c.Policy() == before && c.now().Sub(c.keys.last) >= followAgain {
		if _, ferr := c.follow(ctx); ferr != nil && ctx.Err() != nil {
			c.keys.mu.Unlock()
			return out, ctx.Err()
		}
	}
	c.keys.mu.Unlock()
	if err == nil && c.Policy() == before {
		return out, nil
	}
	out, _, err = op(false)
	return out, err
}
