package chain

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/zhenglian/zhenglian/evidence"
)

// Alliance returns the genesis this node belongs to.
func (n *Node) Alliance() *evidence.Alliance { return n.alliance }

// Institution returns the id of the institution whose node this is.
func (n *Node) Institution() string { return n.id }

// Status returns where the node stands.
func (n *Node) Status() Status {
	s := Status{Institution: n.id, Faults: map[string]string{}, DiskFree: n.disk.free.Load(), CatchingUp: true}
	if cur := n.machine.cur.Load(); cur != nil {
		s.Height, s.Size, s.Root = cur.Height, cur.Size, cur.Root
		if cur.Time > 0 {
			s.BlockTime = time.UnixMilli(cur.Time).UTC()
		}
	}
	s.WitnessedSize = n.witness.finalSize()
	s.Peers = n.peers.status()
	s.Pending = n.pool.statements()
	if n.started.Load() {
		s.CatchingUp = n.catchingUp()
	}
	n.faultsMu.Lock()
	maps.Copy(s.Faults, n.faults)
	n.faultsMu.Unlock()
	if n.disk.full.Load() {
		s.Faults["disk"] = ErrDiskFull.Error()
	}
	return s
}

// WaitFinal returns when a quorum has signed a root that covers the position.
func (n *Node) WaitFinal(ctx context.Context, position uint64) error {
	return n.witness.final.wait(ctx, position+1, n.stopping)
}

// Lookup finds an entry by the digest of the registered statement.
func (n *Node) Lookup(digest evidence.Digest) (Record, error) {
	p, ok, err := n.idx.position(digestKey('e', digest))
	if err != nil {
		return Record{}, err
	}
	if !ok {
		return Record{}, ErrNotFound
	}
	r, err := n.RecordAt(p)
	if err == nil && r.Entry != digest {
		return Record{}, ErrNotFound
	}
	return r, err
}

// RecordAt returns the entry at a position and when it was registered.
func (n *Node) RecordAt(position uint64) (Record, error) {
	b, err := n.boundaryOf(position)
	if err != nil {
		return Record{}, err
	}
	r := Record{Position: position, Height: b.Height, Time: time.UnixMilli(b.Time).UTC(), Final: position < n.witness.finalSize()}
	if r.Entry, err = n.entryAt(position); err != nil {
		return Record{}, err
	}
	for _, d := range n.alliance.Institutions {
		if n.witness.sizeOf(d.ID) > position {
			r.Witnesses = append(r.Witnesses, d.ID)
		}
	}
	return r, nil
}

// boundaryOf returns the block that registered a position.
func (n *Node) boundaryOf(position uint64) (b boundary, err error) {
	if position >= n.machine.cur.Load().Size {
		return b, ErrNotFound
	}
	found := false
	err = n.idx.boundariesFrom(position+1, func(x boundary) (bool, error) {
		b, found = x, true
		return false, nil
	})
	if err == nil && !found {
		err = &DamagedError{"index", fmt.Sprintf("no block is known for position %d", position)}
	}
	return b, err
}

// StatementAt returns the registered bytes of a position, from this node's own
// batches or, when those are damaged, from a peer; always checked against the
// log.
func (n *Node) StatementAt(position uint64) ([]byte, error) {
	b, err := n.boundaryOf(position)
	if err != nil {
		return nil, err
	}
	v, err := n.idx.get(u64key('h', uint64(b.Height)))
	if err != nil {
		return nil, err
	}
	blk, err := decodeBlock(v)
	if err != nil {
		return nil, err
	}
	at := blk.First
	for _, bb := range blk.Batches {
		if position >= at+bb.registered() {
			at += bb.registered()
			continue
		}
		batch, err := n.blockBatch(context.Background(), bb)
		if err != nil {
			return nil, err
		}
		skip := bb.Refused
		for i := range batch.items {
			if len(skip) > 0 && int(skip[0].At) == i {
				skip = skip[1:]
				continue
			}
			if at == position {
				return n.checkedAgainstLog(position, batch.items[i].st.Bytes())
			}
			at++
		}
	}
	return nil, &DamagedError{"index", fmt.Sprintf("block %d does not hold position %d", b.Height, position)}
}

func (n *Node) checkedAgainstLog(position uint64, raw []byte) ([]byte, error) {
	entry, err := n.ledger.Entry(position)
	if err != nil {
		return nil, err
	}
	if evidence.SumSHA256(raw) != entry {
		return nil, &DamagedError{"ledger", fmt.Sprintf("entry %d is not the digest of the statement registered there", position)}
	}
	return raw, nil
}

// blockBatch reads a committed batch. A damaged one is reported and fetched.
func (n *Node) blockBatch(ctx context.Context, bb blockBatch) (*batch, error) {
	raw, err := n.batches.get(bb.Digest, bb.Loc)
	if err != nil {
		n.fault("batch store", err.Error())
		n.metrics.fetched.Inc()
		ctx, cancel := context.WithTimeout(ctx, peerTimeout)
		defer cancel()
		fetched, ferr := n.peers.fetch(ctx, bb.Digest)
		if ferr != nil {
			return nil, errors.Join(err, ferr)
		}
		raw = fetched
		if err := n.mendBatch(bb.Digest, raw); err != nil {
			n.log.Warn("a damaged batch stays so", "batch", bb.Digest, "error", err)
		}
	}
	return decodeBatch(raw)
}

// rawBatch returns a batch for a peer, wherever this node has it.
func (n *Node) rawBatch(d evidence.Digest) ([]byte, error) {
	if p := n.pool.get(d); p != nil {
		return p.raw, nil
	}
	n.locMu.Lock()
	loc, ok := n.orphans[d]
	n.locMu.Unlock()
	if ok {
		return n.batches.get(d, loc)
	}
	v, err := n.idx.get(digestKey('b', d))
	if err != nil {
		return nil, err
	}
	if v == nil {
		return nil, ErrNotFound
	}
	v, err = n.idx.get(u64key('h', binary.BigEndian.Uint64(v)))
	if err != nil {
		return nil, err
	}
	blk, err := decodeBlock(v)
	if err != nil {
		return nil, err
	}
	for _, bb := range blk.Batches {
		if bb.Digest == d {
			raw, err := n.batches.get(d, bb.Loc)
			if err != nil {
				n.fault("batch store", err.Error())
			}
			return raw, err
		}
	}
	return nil, ErrNotFound
}

// receiptsSearch bounds how many blocks after its own are looked at for one
// that a quorum signed; beyond it the newest signed root serves.
const receiptsSearch = 256

// ReceiptsAt derives every institution's receipts for a position: over the
// earliest covering root that a quorum has signed and that is timestamped, where
// one is near, else the earliest that all have signed, else a quorum, else what
// is there.
func (n *Node) ReceiptsAt(position uint64) (Receipts, error) {
	if position >= n.machine.cur.Load().Size {
		return nil, ErrNotFound
	}
	best, sigs, err := n.stampedBoundary(position)
	if err != nil {
		return nil, err
	}
	if sigs == nil {
		if best, sigs, err = n.witnessedBoundary(position); err != nil {
			return nil, err
		}
	}
	out := Receipts{}
	if sigs == nil {
		return out, nil
	}
	path, err := n.ledger.InclusionProof(position, best.Size)
	if err != nil {
		return nil, fmt.Errorf("proving position %d in size %d: %w", position, best.Size, err)
	}
	entry, err := n.ledger.Entry(position)
	if err != nil {
		return nil, err
	}
	for id, x := range sigs {
		for _, r := range x.Roots {
			sig, err := evidence.NewRootSignature(r.Protected, r.Signature)
			if err != nil {
				return nil, &DamagedError{"index", fmt.Sprintf("root signature of %s at block %d: %v", id, x.Height, err)}
			}
			if sig.Size != best.Size {
				return nil, &DamagedError{"index", fmt.Sprintf("root signature of %s at block %d: it is over size %d, the block ended at %d", id, x.Height, sig.Size, best.Size)}
			}
			raw := sig.Receipt(position, path)
			// What the ledger says now must lead to the root that was signed then.
			rec, err := evidence.ParseReceipt(raw)
			if err != nil {
				return nil, err
			}
			if root, err := rec.Root(entry); err != nil || root != best.Root {
				return nil, &DamagedError{"ledger", fmt.Sprintf("the path of position %d does not lead to the root signed at size %d", position, best.Size)}
			}
			out[id] = append(out[id], raw)
		}
	}
	return out, nil
}

// witnessedBoundary returns the block whose root most institutions signed,
// searching from the position's own on.
func (n *Node) witnessedBoundary(position uint64) (best boundary, sigs map[string]witnessWire, err error) {
	seen := 0
	all := len(n.alliance.Institutions)
	err = n.idx.boundariesFrom(position+1, func(b boundary) (bool, error) {
		seen++
		at, err := n.witness.at(b.Height)
		if err != nil {
			return false, err
		}
		if len(at) > len(sigs) {
			best, sigs = b, at
		}
		if len(sigs) >= all || len(sigs) >= evidence.Quorum(all) && seen > 16 {
			return false, nil
		}
		return seen < receiptsSearch, nil
	})
	return best, sigs, err
}

// Checkpoint returns the newest public checkpoint: cosigned by every
// institution, or by a quorum while one of them is away.
func (n *Node) Checkpoint() evidence.CosignedCheckpoint {
	b := n.witness.checkpointBoundary()
	if b.Size == 0 {
		return evidence.CosignedCheckpoint{Origin: n.origin, Checkpoint: evidence.Checkpoint{Root: emptyRoot}}
	}
	c, err := n.cosigned(b)
	if err != nil {
		n.fault("index", fmt.Sprintf("the checkpoint of size %d cannot be read: %v", b.Size, err))
		return evidence.CosignedCheckpoint{Origin: n.origin, Checkpoint: evidence.Checkpoint{Root: emptyRoot}}
	}
	return c
}

// CheckpointAt returns the checkpoint of a block that ended at this size.
func (n *Node) CheckpointAt(size uint64) (evidence.CosignedCheckpoint, error) {
	b, ok, err := n.idx.boundaryAt(size)
	if err != nil {
		return evidence.CosignedCheckpoint{}, err
	}
	if !ok {
		return evidence.CosignedCheckpoint{}, ErrNotFound
	}
	return n.cosigned(b)
}

func (n *Node) cosigned(b boundary) (evidence.CosignedCheckpoint, error) {
	c := evidence.CosignedCheckpoint{Origin: n.origin, Checkpoint: b.Checkpoint}
	sigs, err := n.witness.at(b.Height)
	if err != nil {
		return c, err
	}
	for _, id := range slices.Sorted(maps.Keys(sigs)) {
		keys := n.reg.InstitutionKeys(id, evidence.UseCosign, b.Size)
		if len(keys) == 0 {
			return c, &DamagedError{"index", fmt.Sprintf("%s signed size %d and has no cosigning key for it", id, b.Size)}
		}
		name := n.alliance.CosignerName(id)
		c.Cosignatures = append(c.Cosignatures, evidence.Cosignature{Name: name, KeyID: evidence.CosignerKeyID(name, keys[0]), Time: sigs[id].Cosig.Time, Signature: sigs[id].Cosig.Signature})
	}
	return c, nil
}

// Tile returns a hash tile of the log as C2SP tlog-tiles has it.
func (n *Node) Tile(level uint, index uint64, width int) ([]byte, error) {
	if !n.fullTile(level, index) {
		return n.ledger.Tile(int(level), index, width)
	}
	tile, err := n.ledger.Tile(int(level), index, 256)
	if err != nil {
		return nil, err
	}
	if err := n.checkTile(level, index, slices.Collect(slices.Chunk(tile, 32))); err != nil {
		return nil, err
	}
	return tile[:32*width], nil
}

// EntryBundle returns a bundle of entries as C2SP tlog-tiles has it.
func (n *Node) EntryBundle(index uint64, width int) ([]byte, error) {
	if !n.fullTile(0, index) {
		return n.ledger.EntryBundle(index, width)
	}
	bundle, err := n.ledger.EntryBundle(index, 256)
	if err != nil {
		return nil, err
	}
	hashes := make([][]byte, 0, 256)
	for e := range slices.Chunk(bundle, 2+32) {
		hashes = append(hashes, rfc6962.DefaultHasher.HashLeaf(e[2:]))
	}
	if err := n.checkTile(0, index, hashes); err != nil {
		return nil, err
	}
	return bundle[:(2+32)*width], nil
}

// Trail returns the statements of a trail that its owner or a key she
// authorised made, as of the newest checkpoint. Statements of others that name
// the trail are not part of it.
func (n *Node) Trail(trail evidence.Digest) (TrailView, error) {
	v, _, err := n.readTrail(trail)
	return v, err
}

func (n *Node) readTrail(trail evidence.Digest) (TrailView, map[evidence.Digest]uint64, error) {
	cur := n.machine.cur.Load()
	v := TrailView{Trail: trail, Checkpoint: evidence.Checkpoint{Size: cur.Size, Root: cur.Root}}
	// Not the last block's time: a block may have registered nothing.
	end, _, err := n.idx.boundaryAt(cur.Size)
	if err != nil {
		return v, nil, err
	}
	v.Time = time.UnixMilli(end.Time).UTC()
	first, err := n.Lookup(trail)
	if err != nil {
		return v, nil, err
	}
	positions := []uint64{first.Position}
	prefix := digestKey('t', trail)
	err = n.idx.scan(prefix, append(slices.Clone(prefix), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff), func(k, _ []byte) (bool, error) {
		if p := binary.BigEndian.Uint64(k[1+prefixLen:]); p < cur.Size {
			positions = append(positions, p)
		}
		return true, nil
	})
	if err != nil {
		return v, nil, err
	}
	rights := map[evidence.Digest]uint64{}
	var owner evidence.Digest
	for i, p := range positions {
		raw, err := n.StatementAt(p)
		if err != nil {
			return v, nil, err
		}
		st, err := evidence.ParseStatement(raw)
		if err != nil {
			return v, nil, fmt.Errorf("statement at position %d: %w", p, err)
		}
		if i == 0 {
			if st.Subject != evidence.SubjectNewTrail {
				return v, nil, ErrNotFound
			}
			owner = st.KID
			rights[owner] = evidence.RightRead | evidence.RightAppend
		}
		if of, ok := st.Trail(); !ok || of != trail || rights[st.KID]&evidence.RightAppend == 0 {
			continue
		}
		if st.ContentType == evidence.TypeAuthorisation {
			if st.KID != owner {
				continue
			}
			a, err := evidence.ParseAuthorisation(st.Payload)
			if err != nil {
				return v, nil, err
			}
			if a.KID != owner {
				rights[a.KID] = a.Rights
			}
		}
		v.Positions = append(v.Positions, p)
		v.Entries = append(v.Entries, st.Digest())
	}
	return v, rights, nil
}

// TrailRights returns what a key may do in a trail. Every key of the owner's
// that is not revoked may read, so that she can still see what she registered
// with one that is.
func (n *Node) TrailRights(trail, kid evidence.Digest) (owner bool, rights uint64, err error) {
	v, all, err := n.readTrail(trail)
	if err != nil {
		return false, 0, err
	}
	raw, err := n.StatementAt(v.Positions[0])
	if err != nil {
		return false, 0, err
	}
	st, err := evidence.ParseStatement(raw)
	if err != nil {
		return false, 0, err
	}
	rights = all[kid]
	if opened, ok := n.reg.Key(st.KID); ok && st.KID != kid {
		if mine, ok := n.reg.Key(kid); ok && mine.Enrolment != nil && !mine.Revoked && mine.Holder == opened.Holder {
			rights |= evidence.RightRead
		}
	}
	return st.KID == kid, rights, nil
}

// TrailHead signs what this institution's log holds of a trail.
func (n *Node) TrailHead(trail evidence.Digest) ([]byte, error) {
	v, _, err := n.readTrail(trail)
	if err != nil {
		return nil, err
	}
	attest, err := n.signer(evidence.UseAttest, v.Size)
	if err != nil {
		return nil, err
	}
	return evidence.TrailHead{Institution: n.id, IssuedAt: v.Time.Unix(), Trail: trail, Count: uint64(len(v.Positions)),
		Last: v.Entries[len(v.Entries)-1], Checkpoint: v.Checkpoint}.Sign(attest)
}

// KeyPositions returns up to limit positions, from one on, that a key registered.
func (n *Node) KeyPositions(kid evidence.Digest, from uint64, limit int) ([]uint64, error) {
	lower := digestKey('k', kid)
	if from > 0 {
		b, err := n.boundaryOf(from)
		if errors.Is(err, ErrNotFound) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		lower = binary.BigEndian.AppendUint64(lower, uint64(b.Height))
	}
	upper := append(digestKey('k', kid), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)
	var out []uint64
	err := n.idx.scan(lower, upper, func(_, v []byte) (bool, error) {
		r := &varReader{b: v}
		for len(r.b) > 0 && len(out) < limit {
			if p := r.uvarint(); p >= from {
				out = append(out, p)
			}
		}
		if r.err != nil {
			return false, &DamagedError{"index", "the positions of a key cannot be read"}
		}
		return len(out) < limit, nil
	})
	return out, err
}

// Member returns what the registry knows of a key.
func (n *Node) Member(kid evidence.Digest) (MemberView, error) {
	k, ok := n.reg.Key(kid)
	if !ok {
		return MemberView{}, ErrNotFound
	}
	v := MemberView{KID: kid, Holder: k.Holder, Institution: k.Institution != "", Kind: string(k.Institution), DER: k.Public.DER(),
		EnrolledAt: k.EnrolledAt, Genesis: k.EnrolledBy == "", Passkey: k.Passkey, Certificates: k.Certificates, Revoked: k.Revoked, RevokedAt: k.RevokedAt, Reason: k.Reason}
	if k.Enrolment != nil {
		v.Kind, v.Assurance, v.Demo = k.Enrolment.Kind.String(), k.Enrolment.Assurance, k.Enrolment.Demo
	}
	if k.Passkey != nil {
		v.Kind, v.Demo = "passkey", k.Passkey.Demo
	}
	return v, nil
}
