package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
)

// Head is an institution's signed trail head that verified.
type Head struct {
	*evidence.TrailHead
	Bytes []byte
}

// TrailHeads asks every institution for its signed head of the trail and
// returns those that verify, by institution. For the trail's owner, keys she
// authorised to read, and institutions. Without any the error is a *Problem,
// ErrNotFound or *UnavailableError.
func (c *Client) TrailHeads(ctx context.Context, trail evidence.Digest) (map[string]Head, error) {
	if c.signer == nil {
		return nil, errNoSigner
	}
	return following(ctx, c, func(bool) (map[string]Head, bool, error) { return c.trailHeads(ctx, trail) })
}

func (c *Client) trailHeads(ctx context.Context, trail evidence.Digest) (_ map[string]Head, unknown bool, _ error) {
	heads := map[string]Head{}
	var failed []Attempt
	var denied *Problem
	var split error
	roots := map[uint64]rootSeen{}
	q := request{method: http.MethodGet, path: "/api/v1/trails/" + trail.String() + "/head", accept: typeCOSE, signed: true}
	c.each(ctx, q, 10*time.Second, func(n *node, a *answer, err error) bool {
		var h *evidence.TrailHead
		if err == nil {
			h, err = c.checkHead(n.institution, trail, a.body)
		}
		if err != nil {
			unknown = unknown || errors.As(err, new(*UnknownKeyError))
			var p *Problem
			if errors.As(err, &p) && p.Status < 500 && p.Status != http.StatusTooManyRequests {
				denied = p
			}
			failed = append(failed, Attempt{n.institution, err})
			return true
		}
		if seen, ok := roots[h.Size]; ok && seen.root != h.Root {
			split = &EquivocationError{Size: h.Size, RootA: seen.root, RootB: h.Root, ByA: seen.by, ByB: n.institution, ProofA: seen.data, ProofB: a.body}
			return false
		}
		roots[h.Size] = rootSeen{h.Root, n.institution, a.body}
		heads[n.institution] = Head{h, a.body}
		return true
	})
	switch {
	case split != nil:
		return nil, unknown, split
	case len(heads) > 0:
		return heads, unknown, nil
	case ctx.Err() != nil:
		return nil, unknown, ctx.Err()
	case denied != nil && denied.Status == http.StatusNotFound:
		return nil, unknown, ErrNotFound
	case denied != nil:
		return nil, unknown, denied
	}
	return nil, unknown, fmt.Errorf("asking for the heads of trail %s: %w", trail, &UnavailableError{failed})
}

func (c *Client) checkHead(inst string, trail evidence.Digest, data []byte) (*evidence.TrailHead, error) {
	h, err := evidence.ParseTrailHead(data)
	if err != nil {
		return nil, err
	}
	holder, key, ok := c.Policy().ByKID(h.KID, evidence.UseAttest, h.Size)
	if _, known := c.Policy().Known(h.KID, evidence.UseAttest); !known {
		return nil, &UnknownKeyError{inst, evidence.UseAttest, h.KID}
	}
	switch {
	case h.Institution != inst || !ok || holder != inst:
		return nil, fmt.Errorf("it sent a trail head that is not signed by its own key")
	case h.Trail != trail:
		return nil, fmt.Errorf("it sent the head of trail %s", h.Trail)
	}
	return h, h.Verify(key)
}

// TrailStep is a statement of a trail.
type TrailStep struct {
	*evidence.Statement
	Position uint64
}

// Trail is a trail as the institutions have it.
type Trail struct {
	Trail evidence.Digest
	// Steps are the statements of those who had a right in the trail, in order;
	// none when its opening statement is not in the log.
	Steps []TrailStep
	// Foreign are statements that name the trail and whose signers had no right in
	// it. They are no part of it, but heads count them.
	Foreign []TrailStep
	Heads   map[string]Head // that verified, by institution
}

// Last returns the last statement's digest, which the next one names as `prev`.
func (t *Trail) Last() evidence.Digest {
	if len(t.Steps) == 0 {
		return evidence.Digest{}
	}
	return t.Steps[len(t.Steps)-1].Digest()
}

// Rights returns whether the key owns the trail, and else its rights after the
// last step.
func (t *Trail) Rights(kid evidence.Digest) (owner bool, rights uint64) {
	if len(t.Steps) == 0 {
		return false, 0
	}
	if t.Steps[0].KID == kid {
		return true, evidence.RightRead | evidence.RightAppend
	}
	return false, t.grants()[kid]
}

func (t *Trail) grants() map[evidence.Digest]uint64 {
	granted := map[evidence.Digest]uint64{}
	for _, s := range t.Steps {
		apply(granted, t.Steps[0].KID, s.Statement)
	}
	return granted
}

func apply(granted map[evidence.Digest]uint64, owner evidence.Digest, s *evidence.Statement) {
	if s.ContentType != evidence.TypeAuthorisation || s.KID != owner {
		return
	}
	if a, err := evidence.ParseAuthorisation(s.Payload); err == nil {
		granted[a.KID] = a.Rights
	}
}

// Trail fetches a trail and checks it against the signed heads: nothing that an
// institution's head counts may be missing. The statements are proven by their
// digests, their places are not: Confirm proves those. For the same askers as
// TrailHeads.
func (c *Client) Trail(ctx context.Context, trail evidence.Digest) (*Trail, error) {
	heads, err := c.TrailHeads(ctx, trail)
	if err != nil {
		return nil, err
	}
	var top *evidence.TrailHead
	for _, h := range heads {
		if top == nil || h.Count > top.Count {
			top = h.TrailHead
		}
	}
	var entries []trailEntry
	path := "/api/v1/trails/" + trail.String()
	_, err = c.anyNode(ctx, request{method: http.MethodGet, path: path + "?limit=1000", accept: typeJSON, signed: true}, func(a *answer) error {
		entries, err = c.pages(ctx, path, a)
		switch {
		case err != nil:
			return err
		case uint64(len(entries)) < top.Count:
			return fmt.Errorf("it lists %d statements of the trail, the head of %s counts %d", len(entries), top.Institution, top.Count)
		case top.Count > 0 && entries[top.Count-1].Entry != top.Last:
			return fmt.Errorf("it lists another statement as number %d than the head of %s", top.Count, top.Institution)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("fetching trail %s: %w", trail, err)
	}
	t := &Trail{Trail: trail, Heads: heads}
	granted := map[evidence.Digest]uint64{}
	for _, e := range entries {
		data, err := c.Statement(ctx, e.Entry)
		if err != nil {
			return nil, err
		}
		s, err := evidence.ParseStatement(data)
		if err != nil {
			return nil, fmt.Errorf("reading statement %s: %w", e.Entry, err)
		}
		step := TrailStep{s, e.Position}
		if name, ok := s.Trail(); !ok || name != trail {
			return nil, fmt.Errorf("statement %s is not of trail %s", e.Entry, trail)
		}
		switch {
		case len(t.Steps) == 0 && e.Entry == trail:
			t.Steps = append(t.Steps, step)
		case len(t.Steps) > 0 && (s.KID == t.Steps[0].KID || s.ContentType == evidence.TypeDeposit && granted[s.KID]&evidence.RightAppend != 0):
			t.Steps = append(t.Steps, step)
			apply(granted, t.Steps[0].KID, s)
		default:
			t.Foreign = append(t.Foreign, step)
		}
	}
	return t, nil
}

type trailEntry struct {
	Position uint64          `json:"position"`
	Entry    evidence.Digest `json:"digest"`
}

// maxTrail bounds a trail that is read: 1,000 pages. A trail of a whole year,
// one step a minute, has half of it.
const maxTrail = 1_000_000

// pages reads the first page, and the others from the same institution.
func (c *Client) pages(ctx context.Context, path string, a *answer) ([]trailEntry, error) {
	var all []trailEntry
	for {
		var page struct {
			Statements []trailEntry `json:"statements"`
			Next       *int         `json:"next"`
		}
		if err := readJSON(a, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Statements...)
		if page.Next == nil {
			break
		}
		if *page.Next != len(all) || len(page.Statements) == 0 || len(all) >= maxTrail {
			return nil, errors.New("its pages of the trail do not follow each other")
		}
		var err error
		if a, err = c.ask(ctx, a.node, request{method: http.MethodGet, path: fmt.Sprintf("%s?limit=1000&from=%d", path, len(all)), accept: typeJSON, signed: true}); err != nil {
			return nil, err
		}
	}
	if !slices.IsSortedFunc(all, func(x, y trailEntry) int {
		if x.Position < y.Position {
			return -1
		}
		return 1
	}) {
		return nil, errors.New("its list of the trail is not in the order of the log")
	}
	return all, nil
}
