package client

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
)

// confirmWait is how long Confirm waits for the slowest institutions once a
// quorum is proven: long enough for one on the other side of the world.
const confirmWait = 3 * time.Second

// Confirm proves that an entry (a statement's digest) is final: it gathers the
// receipts that the institutions hold and checks each against the policy. Fewer
// than a quorum give a *QuorumError, two roots of one size an
// *EquivocationError, and no trace of the entry ErrNotFound.
//
// A receipt by a key that the policy does not know makes the client follow the
// institutions' key changes first.
func (c *Client) Confirm(ctx context.Context, entry evidence.Digest) (*Final, error) {
	return following(ctx, c, func(first bool) (*Final, bool, error) {
		g := &gathering{c: c, policy: c.Policy(), entry: entry, receipts: map[string]*held{}, rejected: map[string]error{}, roots: map[uint64]rootSeen{}}
		f, err := c.confirm(ctx, g, first)
		return f, g.unknown, err
	})
}

// confirm gathers once. With early set it does not insist where a key is not known.
func (c *Client) confirm(ctx context.Context, g *gathering, early bool) (*Final, error) {
	q := request{method: http.MethodGet, path: "/entries/" + g.entry.String() + "/receipts", accept: typeJSON}
	// The one that answered last usually has all of them.
	var first error
	a, err := c.anyNode(ctx, q, func(a *answer) error {
		if err := g.add(a); !early || !g.unknown {
			return err
		}
		return nil
	})
	if err != nil {
		var unavailable *UnavailableError
		if !errors.As(err, &unavailable) {
			return nil, err
		}
		first = err
	}
	if g.equivocation == nil && len(g.receipts) < len(g.policy.Institutions) {
		absent := 0
		c.each(ctx, q, confirmWait, func(n *node, other *answer, err error) bool {
			if a != nil && n == a.node {
				return true
			}
			if err == nil {
				err = g.add(other)
			}
			var p *Problem
			if errors.As(err, &p) && p.Status == http.StatusNotFound {
				absent++
			} else if err != nil {
				g.rejected[n.institution] = err
			}
			return g.equivocation == nil && len(g.receipts) < len(g.policy.Institutions)
		})
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	switch {
	case g.equivocation != nil:
		return nil, g.equivocation
	case len(g.receipts) < g.policy.Quorum && first != nil:
		return nil, first
	case len(g.receipts) < g.policy.Quorum:
		return nil, &QuorumError{fmt.Sprintf("entry %s", g.entry), len(g.receipts), g.policy.Quorum, g.attempts()}
	}
	return g.final(), nil
}

// held is a receipt that verified.
type held struct {
	data []byte
	*evidence.Receipt
}

type rootSeen struct {
	root evidence.Digest
	by   string
	data []byte
}

// gathering collects the receipts of one entry.
type gathering struct {
	c            *Client
	policy       *evidence.Policy // the same for all receipts
	entry        evidence.Digest
	receipts     map[string]*held
	rejected     map[string]error // by institution that gave the answer
	roots        map[uint64]rootSeen
	equivocation error
	unknown      bool // some receipt is by a key that the policy does not know
}

// receiptMap is the answer of /entries/{id}/receipts: institution to receipts.
type receiptMap map[string][][]byte

// add takes the receipts of one answer that hold. Its error says what was wrong
// with the answer: then another institution is asked too.
func (g *gathering) add(a *answer) error {
	var m receiptMap
	if err := readJSON(a, &m); err != nil {
		return err
	}
	var first error
	wrong := 0
	for _, inst := range slices.Sorted(maps.Keys(m)) {
		for _, data := range m[inst] {
			if err := g.take(inst, data); err != nil {
				if errors.As(err, new(*EquivocationError)) {
					g.equivocation = err
					return nil
				}
				if wrong++; first == nil {
					first = fmt.Errorf("the receipt of %s does not hold: %w", inst, err)
				}
			}
		}
	}
	if wrong > 0 {
		err := first
		if wrong > 1 {
			err = fmt.Errorf("%w (and %d more)", first, wrong-1)
		}
		g.rejected[a.node.institution] = err
		if len(g.receipts) < g.policy.Quorum {
			return err
		}
	}
	return nil
}

func (g *gathering) take(inst string, data []byte) error {
	r, err := checkReceipt(g.policy, inst, g.entry, data)
	if err != nil {
		g.unknown = g.unknown || errors.As(err, new(*UnknownKeyError))
		return err
	}
	root, err := r.Root(g.entry)
	if err != nil {
		return err
	}
	if seen, ok := g.roots[r.Size]; ok && seen.root != root {
		return &EquivocationError{Size: r.Size, RootA: seen.root, RootB: root, ByA: seen.by, ByB: inst, ProofA: seen.data, ProofB: data}
	} else if !ok {
		g.roots[r.Size] = rootSeen{root, inst, data}
	}
	for other, h := range g.receipts {
		if h.LeafIndex != r.LeafIndex {
			return fmt.Errorf("it says position %d, that of %s says %d", r.LeafIndex, other, h.LeafIndex)
		}
	}
	// One of each institution: in an algorithm that other people's tools know
	// before SM2, then the smallest tree.
	if h, ok := g.receipts[inst]; ok {
		sm2Had, sm2New := h.Algorithm == evidence.SM2SM3, r.Algorithm == evidence.SM2SM3
		if sm2New && !sm2Had || sm2New == sm2Had && h.Size <= r.Size {
			return nil
		}
	}
	g.receipts[inst] = &held{data, r}
	return nil
}

func (g *gathering) attempts() []Attempt {
	var all []Attempt
	for _, inst := range slices.Sorted(maps.Keys(g.rejected)) {
		all = append(all, Attempt{inst, g.rejected[inst]})
	}
	return all
}

func (g *gathering) final() *Final {
	f := &Final{Entry: g.entry, Receipts: map[string][]byte{}, Rejected: g.attempts()}
	var times []int64
	for inst, h := range g.receipts {
		f.Receipts[inst] = h.data
		f.Position = h.LeafIndex
		f.TreeSize = max(f.TreeSize, h.Size)
		times = append(times, h.IssuedAt)
	}
	slices.Sort(times)
	f.Time = time.Unix(times[g.policy.Quorum-1], 0)
	for i := range g.policy.Institutions {
		if id := g.policy.Institutions[i].ID; g.receipts[id] == nil {
			f.Missing = append(f.Missing, id)
		}
	}
	return f
}

// checkReceipt verifies one receipt for the entry: whose it is, of which log,
// and its signature over the root that its path leads to.
func checkReceipt(policy *evidence.Policy, inst string, entry evidence.Digest, data []byte) (*evidence.Receipt, error) {
	r, err := evidence.ParseReceipt(data)
	if err != nil {
		return nil, err
	}
	if r.Issuer != inst {
		return nil, fmt.Errorf("it is issued by %q", r.Issuer)
	}
	if r.Log != policy.Origin {
		return nil, fmt.Errorf("it is of the log %q, not %q", r.Log, policy.Origin)
	}
	holder, key, ok := policy.ByKID(r.KID, evidence.UseReceipt, r.Size)
	if _, known := policy.Known(r.KID, evidence.UseReceipt); !known {
		return nil, &UnknownKeyError{inst, evidence.UseReceipt, r.KID}
	}
	if !ok || holder != inst {
		return nil, fmt.Errorf("key %s is not one of the institution's for size %d", r.KID, r.Size)
	}
	if err := r.VerifyInclusion(key, entry); err != nil {
		return nil, err
	}
	return r, nil
}

// freshWait is how long Checkpoint waits for a later checkpoint from others
// once it has one: the answers of institutions that work come within it.
const freshWait = 300 * time.Millisecond

// Checkpoint returns the latest checkpoint that a quorum cosigned, among those
// of the institutions that answer in time, with the cosignatures that verified.
// It is what a statement names as `after`.
func (c *Client) Checkpoint(ctx context.Context) (*evidence.CosignedCheckpoint, error) {
	return following(ctx, c, func(first bool) (*evidence.CosignedCheckpoint, bool, error) { return c.checkpoint(ctx, first) })
}

// checkpoint asks until somebody has one that counts. With early set it stops at
// the first round in which cosignatures were there and not enough of them.
func (c *Client) checkpoint(ctx context.Context, early bool) (cp *evidence.CosignedCheckpoint, short bool, err error) {
	deadline := c.now().Add(c.patience)
	wait := backoffFirst
	for {
		best, rejected, err := c.latest(ctx)
		if err != nil {
			return nil, false, err
		}
		if best != nil {
			return best, false, nil
		}
		if ctx.Err() != nil {
			return nil, false, ctx.Err()
		}
		err = fmt.Errorf("looking for a checkpoint: %w", &UnavailableError{rejected})
		if early && errors.As(err, new(*QuorumError)) {
			return nil, true, err
		}
		pause := c.pause(wait)
		if c.now().Add(pause).After(deadline) {
			return nil, false, err
		}
		if err := sleep(ctx, pause); err != nil {
			return nil, false, err
		}
		wait = min(2*wait, backoffMost)
	}
}

// latest asks everybody once.
func (c *Client) latest(ctx context.Context) (best *evidence.CosignedCheckpoint, rejected []Attempt, err error) {
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	var timer *time.Timer
	seen := map[uint64]*evidence.CosignedCheckpoint{}
	from := map[uint64]string{}
	q := request{method: http.MethodGet, path: "/checkpoint", accept: "text/plain"}
	c.each(inner, q, 10*time.Second, func(n *node, a *answer, fault error) bool {
		var cp *evidence.CosignedCheckpoint
		if fault == nil {
			cp, fault = CheckCheckpoint(c.Policy(), a.body)
		}
		if fault != nil {
			rejected = append(rejected, Attempt{n.institution, fault})
			return true
		}
		if other := seen[cp.Size]; other != nil && other.Root != cp.Root {
			err = &EquivocationError{Size: cp.Size, RootA: other.Root, RootB: cp.Root, ByA: from[cp.Size], ByB: n.institution, ProofA: other.Encode(), ProofB: cp.Encode()}
			return false
		}
		seen[cp.Size], from[cp.Size] = cp, n.institution
		if best == nil || cp.Size > best.Size {
			best = cp
		}
		if timer == nil {
			timer = time.AfterFunc(freshWait, cancel)
		}
		return true
	})
	if timer != nil {
		timer.Stop()
	}
	return best, rejected, err
}

// CheckCheckpoint reads a cosigned checkpoint and counts the cosignatures of
// the policy's institutions. It returns the checkpoint with those that
// verified; without a quorum of them the error is a *QuorumError.
func CheckCheckpoint(policy *evidence.Policy, text []byte) (*evidence.CosignedCheckpoint, error) {
	cp, err := evidence.ParseCheckpoint(text)
	if err != nil {
		return nil, err
	}
	if cp.Origin != policy.Origin {
		return nil, fmt.Errorf("the checkpoint is of the log %q, not %q", cp.Origin, policy.Origin)
	}
	good := cp.Cosignatures[:0:0]
	have := map[string]bool{}
	for _, sig := range cp.Cosignatures {
		inst, ours := strings.CutPrefix(sig.Name, cp.Origin+"/")
		if !ours || have[inst] {
			continue
		}
		for _, key := range policy.Keys(inst, evidence.UseCosign, cp.Size) {
			if cp.VerifyCosignature(sig, key) == nil {
				good, have[inst] = append(good, sig), true
				break
			}
		}
	}
	if len(have) < policy.Quorum {
		return nil, &QuorumError{What: fmt.Sprintf("the checkpoint of size %d", cp.Size), Have: len(have), Need: policy.Quorum}
	}
	cp.Cosignatures = good
	return cp, nil
}
