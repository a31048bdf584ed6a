// Package scenarios runs whole alliances as processes and breaks them: killed,
// cut off, damaged, full, lied to. What must hold afterwards is one invariant,
// and one Checker asserts it.
//
//	local.New ─► nodes as processes ─► load: deposits, what was acknowledged is noted
//	fault (kill, cut, damage, fill, attack) ─► repair
//	Checker.Await ─► every node at one size, every institution has cosigned it
//	Checker.Check ─► entries, roots, positions, receipts, fsck; for every node
//
// The checker trusts the alliance's genesis and what it was told had been
// acknowledged; it computes roots from the entries that each node serves and
// believes no node's word on anything else.
package scenarios

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/transparency-dev/formats/note"
	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/api"
	"github.com/transparency-dev/tessera/client"
	"github.com/transparency-dev/tessera/fsck"
	"golang.org/x/sync/errgroup"

	"github.com/zhenglian/zhenglian/evidence"
)

// Ack is a deposit that an institution has called final.
type Ack struct {
	Entry    evidence.Digest // digest of the registered statement
	Position uint64
}

// Checker asserts the invariant on every node of an alliance.
type Checker struct {
	Alliance *evidence.Alliance
	Nodes    map[string]string // institution → base URL
	HTTP     *http.Client
	// Policy says which keys count for which size once institutions changed some;
	// nil: the founders'.
	Policy atomic.Pointer[evidence.Policy]
}

// keys are an institution's keys of a use for a size of the log.
func (c *Checker) keys(institution string, use evidence.KeyUse, size uint64) ([]*evidence.PublicKey, error) {
	p := c.Policy.Load()
	if p == nil {
		var err error
		if p, err = evidence.PolicyFromAlliance(c.Alliance); err != nil {
			return nil, err
		}
		c.Policy.CompareAndSwap(nil, p)
	}
	keys := p.Keys(institution, use, size)
	if len(keys) == 0 {
		return nil, fmt.Errorf("%s has no %s key for size %d", institution, use, size)
	}
	return keys, nil
}

// view is what one node serves of the log.
type view struct {
	id         string
	checkpoint *evidence.CosignedCheckpoint
	entries    []evidence.Digest
	roots      []evidence.Digest // by size
}

// quiet is how often in a row the alliance must be found settled: what a node
// has read and not yet made a batch of shows nowhere.
const quiet = 4

// Await returns when nothing waits for a block anywhere and every node serves
// one and the same checkpoint, cosigned by every institution, of at least this
// size and as large as its log.
func (c *Checker) Await(ctx context.Context, atLeast uint64) (uint64, error) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	var reason error
	for last, calm := uint64(0), 0; ; {
		size, why := c.settled(ctx, atLeast)
		if why != nil || size != last {
			last, calm = size, 0
		}
		if calm++; why == nil && calm >= quiet {
			return size, nil
		}
		if ctx.Err() == nil {
			reason = why
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return 0, fmt.Errorf("the alliance does not settle at size %d or more: %w", atLeast, reason)
		}
	}
}

func (c *Checker) settled(ctx context.Context, atLeast uint64) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var first evidence.Checkpoint
	for i, id := range c.ids() {
		cp, err := c.checkpoint(ctx, id)
		if err != nil {
			return 0, err
		}
		var s struct {
			Size    uint64          `json:"size"`
			Root    evidence.Digest `json:"root"`
			Pending int             `json:"pending"`
		}
		if err := c.getJSON(ctx, id, "/api/v1/status", &s); err != nil {
			return 0, err
		}
		switch {
		case s.Pending > 0:
			return 0, fmt.Errorf("%s: %d statements are accepted and not in the log", id, s.Pending)
		case cp.Size < atLeast:
			return 0, fmt.Errorf("%s: checkpoint of size %d", id, cp.Size)
		case len(cp.Cosignatures) < len(c.Alliance.Institutions):
			return 0, fmt.Errorf("%s: %d cosignatures at size %d", id, len(cp.Cosignatures), cp.Size)
		case s.Size != cp.Size || s.Root != cp.Root:
			return 0, fmt.Errorf("%s: log of size %d, checkpoint of size %d", id, s.Size, cp.Size)
		case i > 0 && cp.Checkpoint != first:
			return 0, fmt.Errorf("%s: size %d root %s, others size %d root %s", id, cp.Size, cp.Root, first.Size, first.Root)
		}
		first = cp.Checkpoint
	}
	return first.Size, nil
}

// Check asserts that the log is the same on every node, that every
// acknowledged deposit is in it once and at its position on every node, that
// what was only accepted is in it once, that every receipt of every institution
// verifies, and that an independent fsck finds the public log clean. It returns
// all that is wrong. Call it after Await, without load.
func (c *Checker) Check(ctx context.Context, acks []Ack, accepted []evidence.Digest) error {
	var views []*view
	for _, id := range c.ids() {
		v, err := c.read(ctx, id)
		if err != nil {
			return fmt.Errorf("reading the log of %s: %w", id, err)
		}
		views = append(views, v)
	}
	var errs []error
	for _, v := range views[1:] {
		if !slices.Equal(v.entries, views[0].entries) {
			errs = append(errs, fmt.Errorf("%s and %s serve different logs", v.id, views[0].id))
		}
	}
	for _, v := range views {
		errs = append(errs, c.checkView(v, acks, accepted))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := c.checkDeposits(ctx, views[0], acks); err != nil {
		return err
	}
	return c.fsck(ctx)
}

func (c *Checker) ids() []string {
	var ids []string
	for id := range c.Nodes {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// checkpoint fetches a node's checkpoint and verifies every cosignature on it.
func (c *Checker) checkpoint(ctx context.Context, id string) (*evidence.CosignedCheckpoint, error) {
	text, err := c.get(ctx, id, "/checkpoint")
	if err != nil {
		return nil, err
	}
	cp, err := evidence.ParseCheckpoint(text)
	if err != nil {
		return nil, fmt.Errorf("checkpoint of %s: %w", id, err)
	}
	if cp.Origin != c.Alliance.Origin() {
		return nil, fmt.Errorf("checkpoint of %s: origin %q", id, cp.Origin)
	}
	seen := map[string]bool{}
	for _, s := range cp.Cosignatures {
		d := c.institutionOf(s.Name)
		if d == nil || seen[s.Name] {
			return nil, fmt.Errorf("checkpoint of %s: cosigned by %q, a stranger or twice", id, s.Name)
		}
		seen[s.Name] = true
		keys, err := c.keys(d.ID, evidence.UseCosign, cp.Size)
		if err != nil {
			return nil, err
		}
		if err := cp.VerifyCosignature(s, keys[0]); err != nil {
			return nil, fmt.Errorf("checkpoint of %s: cosignature of %s: %w", id, s.Name, err)
		}
	}
	if len(seen) < evidence.Quorum(len(c.Alliance.Institutions)) {
		return nil, fmt.Errorf("checkpoint of %s: %d cosignatures are no quorum", id, len(seen))
	}
	return cp, nil
}

func (c *Checker) institutionOf(cosigner string) *evidence.Descriptor {
	for i := range c.Alliance.Institutions {
		if d := &c.Alliance.Institutions[i]; c.Alliance.CosignerName(d.ID) == cosigner {
			return d
		}
	}
	return nil
}

// read fetches all entries under a node's checkpoint and computes every root.
func (c *Checker) read(ctx context.Context, id string) (*view, error) {
	v := &view{id: id}
	var err error
	if v.checkpoint, err = c.checkpoint(ctx, id); err != nil {
		return nil, err
	}
	fetcher, err := c.fetcher(id)
	if err != nil {
		return nil, err
	}
	tree := (&compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}).NewEmptyRange(0)
	v.roots = append(v.roots, evidence.Digest(rfc6962.DefaultHasher.EmptyRoot()))
	for at := uint64(0); at < v.checkpoint.Size; at = uint64(len(v.entries)) {
		width := uint8(min(256, v.checkpoint.Size-at)) // 0 stands for a full bundle
		data, err := fetcher.ReadEntryBundle(ctx, at/256, width)
		if err != nil {
			return nil, fmt.Errorf("entries from %d on: %w", at, err)
		}
		var b api.EntryBundle
		if err := b.UnmarshalText(data); err != nil {
			return nil, fmt.Errorf("entries from %d on: %w", at, err)
		}
		if len(b.Entries) == 0 {
			return nil, fmt.Errorf("no entries from %d on", at)
		}
		for _, e := range b.Entries {
			if len(e) != len(evidence.Digest{}) {
				return nil, fmt.Errorf("entry %d has %d bytes", len(v.entries), len(e))
			}
			v.entries = append(v.entries, evidence.Digest(e))
			if err := tree.Append(rfc6962.DefaultHasher.HashLeaf(e), nil); err != nil {
				return nil, err
			}
			root, err := tree.GetRootHash(nil)
			if err != nil {
				return nil, err
			}
			v.roots = append(v.roots, evidence.Digest(root))
		}
	}
	return v, nil
}

func (c *Checker) checkView(v *view, acks []Ack, accepted []evidence.Digest) error {
	var errs []error
	if got := v.roots[len(v.entries)]; got != v.checkpoint.Root {
		errs = append(errs, fmt.Errorf("%s: its entries have the root %s, its checkpoint says %s", v.id, got, v.checkpoint.Root))
	}
	at := make(map[evidence.Digest]uint64, len(v.entries))
	for p, e := range v.entries {
		if old, twice := at[e]; twice {
			errs = append(errs, fmt.Errorf("%s: the entry of position %d stands at %d again", v.id, old, p))
		}
		at[e] = uint64(p)
	}
	lost := 0
	for _, a := range acks {
		if p, ok := at[a.Entry]; !ok || p != a.Position {
			if lost++; lost <= 3 {
				errs = append(errs, fmt.Errorf("%s: deposit %s was acknowledged at position %d; there: %v, at %d", v.id, a.Entry, a.Position, ok, p))
			}
		}
	}
	for _, e := range accepted {
		if _, ok := at[e]; !ok {
			if lost++; lost <= 3 {
				errs = append(errs, fmt.Errorf("%s: deposit %s was accepted and is not there", v.id, e))
			}
		}
	}
	if lost > 3 {
		errs = append(errs, fmt.Errorf("%s: %d deposits lost in all", v.id, lost))
	}
	return errors.Join(errs...)
}

// everywhere is how many deposits are asked for at every node; of more, the
// others are asked for at one node each, in turn.
const everywhere = 300

// checkDeposits asks the nodes for the record and the receipts of every
// deposit: first and last, and evenly between, at every node.
func (c *Checker) checkDeposits(ctx context.Context, log *view, acks []Ack) error {
	roots := &rootChecker{c: c, log: log, good: map[string]bool{}}
	times := make([]sync.Map, len(acks)) // block time → nothing; one an ack
	ids := c.ids()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(4)
	every := max(1, len(acks)/everywhere)
	for i, a := range acks {
		asked := ids
		if i%every != 0 && i != len(acks)-1 {
			asked = ids[i%len(ids) : i%len(ids)+1]
		}
		for _, id := range asked {
			g.Go(func() error {
				if err := c.checkDeposit(ctx, roots, id, a, &times[i]); err != nil {
					return fmt.Errorf("%s, position %d: %w", id, a.Position, err)
				}
				return nil
			})
		}
	}
	return g.Wait()
}

func (c *Checker) checkDeposit(ctx context.Context, roots *rootChecker, id string, a Ack, times *sync.Map) error {
	var rec struct {
		Position  uint64          `json:"position"`
		Digest    evidence.Digest `json:"digest"`
		BlockTime string          `json:"block_time"`
		Witnesses []string        `json:"witnesses"`
		Final     bool            `json:"final"`
	}
	if err := c.getJSON(ctx, id, "/api/v1/statements/"+a.Entry.String(), &rec); err != nil {
		return err
	}
	if rec.Position != a.Position || rec.Digest != a.Entry || !rec.Final || len(rec.Witnesses) < evidence.Quorum(len(c.Alliance.Institutions)) {
		return fmt.Errorf("record of %s: %+v", a.Entry, rec)
	}
	times.Store(rec.BlockTime, nil)
	n := 0
	times.Range(func(any, any) bool { n++; return true })
	if n != 1 {
		return errors.New("nodes tell different block times")
	}
	var receipts map[string][][]byte
	if err := c.getJSON(ctx, id, fmt.Sprintf("/api/v1/positions/%d/receipts", a.Position), &receipts); err != nil {
		return err
	}
	if len(receipts) < evidence.Quorum(len(c.Alliance.Institutions)) {
		return fmt.Errorf("receipts of %d institutions", len(receipts))
	}
	for issuer, list := range receipts {
		for _, raw := range list {
			if err := roots.receipt(issuer, a, raw); err != nil {
				return fmt.Errorf("receipt of %s: %w", issuer, err)
			}
		}
	}
	return nil
}

// rootChecker verifies receipts. One root signature serves many receipts and
// is verified once; the path of each is followed.
type rootChecker struct {
	c   *Checker
	log *view

	mu   sync.Mutex
	good map[string]bool // signatures that verify over the root of their size
}

func (r *rootChecker) receipt(issuer string, a Ack, raw []byte) error {
	rec, err := evidence.ParseReceipt(raw)
	if err != nil {
		return err
	}
	if rec.Issuer != issuer || rec.Log != r.c.Alliance.Origin() || rec.LeafIndex != a.Position {
		return fmt.Errorf("it says issuer %q, log %q, position %d", rec.Issuer, rec.Log, rec.LeafIndex)
	}
	if rec.Size >= uint64(len(r.log.roots)) {
		return fmt.Errorf("it is over size %d of a log of %d", rec.Size, len(r.log.entries))
	}
	root, err := rec.Root(a.Entry)
	if err != nil {
		return err
	}
	if root != r.log.roots[rec.Size] {
		return fmt.Errorf("its path does not lead to the root of size %d", rec.Size)
	}
	key := fmt.Sprintf("%s %d %x %x", issuer, rec.Size, rec.Protected, rec.Signature)
	r.mu.Lock()
	known := r.good[key]
	r.mu.Unlock()
	if known {
		return nil
	}
	keys, err := r.c.keys(issuer, evidence.UseReceipt, rec.Size)
	if err != nil {
		return err
	}
	for _, k := range keys {
		if k.KID() == rec.KID {
			if err := rec.VerifyInclusion(k, a.Entry); err != nil {
				return err
			}
			r.mu.Lock()
			r.good[key] = true
			r.mu.Unlock()
			return nil
		}
	}
	return fmt.Errorf("it is by no receipt key of %s", issuer)
}

// fsckAll is the size up to which every node's log is checked with every
// institution's key; of larger ones, with one key each.
const fsckAll = 3000

// fsck has tessera's checker read every node's public log.
func (c *Checker) fsck(ctx context.Context) error {
	for i, id := range c.ids() {
		fetcher, err := c.fetcher(id)
		if err != nil {
			return err
		}
		cp, err := c.checkpoint(ctx, id)
		if err != nil {
			return err
		}
		for j := range c.Alliance.Institutions {
			d := &c.Alliance.Institutions[j]
			if cp.Size > fsckAll && j != i%len(c.Alliance.Institutions) {
				continue
			}
			keys, err := c.keys(d.ID, evidence.UseCosign, cp.Size)
			if err != nil {
				return err
			}
			verifier, err := note.NewVerifier(evidence.CosignerVKey(c.Alliance.CosignerName(d.ID), keys[0]))
			if err != nil {
				return err
			}
			if err := fsck.New(c.Alliance.Origin(), verifier, fetcher, leafHashes, fsck.Opts{N: 64}).Check(ctx); err != nil {
				return fmt.Errorf("fsck of the log of %s with the key of %s: %w", id, d.ID, err)
			}
		}
	}
	return nil
}

func leafHashes(data []byte) ([][]byte, error) {
	var b api.EntryBundle
	if err := b.UnmarshalText(data); err != nil {
		return nil, err
	}
	var out [][]byte
	for _, e := range b.Entries {
		out = append(out, rfc6962.DefaultHasher.HashLeaf(e))
	}
	return out, nil
}

func (c *Checker) fetcher(id string) (*client.HTTPFetcher, error) {
	base, err := url.Parse(c.Nodes[id] + "/")
	if err != nil {
		return nil, err
	}
	return client.NewHTTPFetcher(base, c.HTTP)
}

func (c *Checker) getJSON(ctx context.Context, id, path string, into any) error {
	data, err := c.get(ctx, id, path)
	if err != nil {
		return err
	}
	if err := json.NewDecoder(bytes.NewReader(data)).Decode(into); err != nil {
		return fmt.Errorf("%s%s: %w", id, path, err)
	}
	return nil
}

func (c *Checker) get(ctx context.Context, id, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.Nodes[id]+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.HTTP.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%s%s: %w", id, path, err)
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("%s%s: %w", id, path, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s%s answers %d: %s", id, path, resp.StatusCode, strings.TrimSpace(string(data)))
	}
	return data, nil
}
