package chain

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/zhenglian/zhenglian/evidence"
)

// witness signs the root after every block that grew the log, exchanges the
// signatures with the peers, checks theirs against this node's own roots, and
// knows what is final: covered by roots that a quorum of institutions signed.
//
//	commit ─► own signatures ─► index, every peer
//	peer's signatures ─► own root of that block ─► both checked ─► index ─► final size
//
// Signatures that come before the block they are about wait a little; those
// that never come are asked for. What is lost in a crash is signed or asked for
// again.
type witness struct {
	n *Node

	mu      sync.Mutex
	newest  map[string]boundary // by institution: its newest signed boundary
	early   map[string][]witnessWire
	cosigs  map[uint64]int // size → institutions that cosigned, for recent sizes
	sizes   []uint64       // keys of cosigs, ascending
	final   mark
	quorumC boundary // newest boundary with a quorum of cosignatures
	allC    boundary // newest with all of them
}

// witnessWire is an institution's signatures over the root of one block, as
// they travel and as they are stored.
type witnessWire struct {
	Height int64       `json:"height"`
	Size   uint64      `json:"size"`
	Roots  []rootWire  `json:"roots"` // COSE receipt signatures, one a receipt key
	Cosig  cosigWire   `json:"cosig"`
	_      [0]struct{} // keyed literals only
}

type rootWire struct {
	Protected []byte `json:"p"`
	Signature []byte `json:"s"`
}

type cosigWire struct {
	Time      int64  `json:"t"` // seconds since 1970, the institution's clock
	Signature []byte `json:"s"`
}

// earlyMax is how many signatures about blocks to come are kept for a peer.
const earlyMax = 1024

func newWitness(n *Node) *witness {
	return &witness{n: n, newest: map[string]boundary{}, early: map[string][]witnessWire{}, cosigs: map[uint64]int{}, final: newMark()}
}

func witnessKey(height int64, institution string) []byte {
	return append(u64key('w', uint64(height)), institution...)
}

// load finds the newest signatures of each institution after a start.
func (w *witness) load() error {
	for _, d := range w.n.alliance.Institutions {
		v, err := w.n.idx.get(append([]byte{'W'}, d.ID...))
		if err != nil {
			return err
		}
		if v == nil {
			continue
		}
		b, ok, err := w.n.idx.boundaryAt(binary.BigEndian.Uint64(v))
		if err != nil {
			return err
		}
		if ok {
			w.newest[d.ID] = b
		}
	}
	// The cosignatures of the newest boundaries, for the public checkpoint.
	size := w.n.machine.cur.Load().Size
	if size == 0 {
		return nil
	}
	b, ok, err := w.n.idx.boundaryAt(size)
	if err != nil || !ok {
		return err
	}
	low := max(0, b.Height-recentBoundaries)
	err = w.n.idx.scan(u64key('w', uint64(low)), []byte{'w' + 1}, func(_, v []byte) (bool, error) {
		var x witnessWire
		if err := json.Unmarshal(v, &x); err != nil {
			return false, &DamagedError{"index", "a root signature cannot be read"}
		}
		if b, ok, err := w.n.idx.boundaryAt(x.Size); err != nil {
			return false, err
		} else if ok {
			w.count(b)
		}
		return true, nil
	})
	w.advance()
	return err
}

// count notes one more cosignature of a boundary. The caller holds mu, or is load.
func (w *witness) count(b boundary) {
	if _, ok := w.cosigs[b.Size]; !ok {
		at, _ := slices.BinarySearch(w.sizes, b.Size)
		w.sizes = slices.Insert(w.sizes, at, b.Size)
		if len(w.sizes) > recentBoundaries {
			delete(w.cosigs, w.sizes[0])
			w.sizes = w.sizes[1:]
		}
	}
	w.cosigs[b.Size]++
	all := len(w.n.alliance.Institutions)
	if w.cosigs[b.Size] >= evidence.Quorum(all) && b.Size > w.quorumC.Size {
		w.quorumC = b
	}
	if w.cosigs[b.Size] >= all && b.Size > w.allC.Size {
		w.allC = b
	}
}

// advance recomputes the final size. The caller holds mu, or is load.
func (w *witness) advance() {
	all := len(w.n.alliance.Institutions)
	sizes := make([]uint64, 0, all)
	for _, b := range w.newest {
		sizes = append(sizes, b.Size)
	}
	q := evidence.Quorum(all)
	if len(sizes) < q {
		return
	}
	slices.Sort(sizes)
	w.final.raise(sizes[len(sizes)-q])
}

func (w *witness) finalSize() uint64 { return w.final.load() }

// sign makes and spreads this institution's signatures over a new root, with
// the keys that count for its size, and takes in what peers sent about it
// before. After a *KeyMissingError or a *SigningError nothing of its own was
// stored or sent.
func (w *witness) sign(b boundary) error {
	// The peers' signatures do not wait for this institution's key.
	defer w.takeEarly(b.Height)
	x, err := w.signed(b)
	if err != nil {
		return err
	}
	if err := w.keep(w.n.id, x, b); err != nil {
		return err
	}
	for _, q := range w.n.peers.byID {
		select {
		case q.witness <- []witnessWire{x}:
		default: // it polls
		}
	}
	return nil
}

// signed makes this institution's signatures over a root and checks each: one
// that peers refuse would stand in its own way for good, since the first that is
// stored for a root stays.
func (w *witness) signed(b boundary) (witnessWire, error) {
	x := witnessWire{Height: b.Height, Size: b.Size}
	receipts, err := w.n.signers(evidence.UseReceipt, b.Size)
	if err != nil {
		return x, err
	}
	cosign, err := w.n.signer(evidence.UseCosign, b.Size)
	if err != nil {
		return x, err
	}
	for _, key := range receipts {
		r, err := evidence.SignRoot(key, w.n.id, w.n.origin, b.Time/1000, b.Checkpoint)
		if err == nil {
			err = r.Verify(key.Public(), b.Root)
		}
		if err != nil {
			return x, &SigningError{evidence.UseReceipt, key.Public().KID(), b.Size, err}
		}
		x.Roots = append(x.Roots, rootWire{r.Protected, r.Signature})
	}
	cp := evidence.CosignedCheckpoint{Origin: w.n.origin, Checkpoint: b.Checkpoint}
	c, err := cp.Cosign(cosign, w.n.alliance.CosignerName(w.n.id), w.n.now().Unix())
	if err == nil {
		err = cp.VerifyCosignature(c, cosign.Public())
	}
	if err != nil {
		return x, &SigningError{evidence.UseCosign, cosign.Public().KID(), b.Size, err}
	}
	x.Cosig = cosigWire{c.Time, c.Signature}
	return x, nil
}

// receive checks a peer's signatures. Those about a block to come wait for it.
func (w *witness) receive(from string, x witnessWire) error {
	if err := w.checkShape(from, x); err != nil {
		return err
	}
	if x.Height > w.n.machine.cur.Load().Height {
		w.mu.Lock()
		defer w.mu.Unlock()
		e := append(w.early[from], x)
		if len(e) > earlyMax {
			e = e[len(e)-earlyMax:]
		}
		w.early[from] = e
		return nil
	}
	b, ok, err := w.n.idx.boundaryAt(x.Size)
	if err != nil {
		return err
	}
	if !ok || b.Height != x.Height {
		return fmt.Errorf("this log has no block %d that ends at size %d", x.Height, x.Size)
	}
	if err := w.check(from, x, b); err != nil {
		w.n.metrics.badWitness.Inc()
		return err
	}
	return w.keep(from, x, b)
}

// checkShape refuses what could not be kept in little memory.
func (w *witness) checkShape(from string, x witnessWire) error {
	d := w.n.alliance.Institution(from)
	if d == nil {
		return fmt.Errorf("%q is no institution of this alliance", from)
	}
	if len(x.Roots) != len(d.Keys.Receipt) {
		return fmt.Errorf("%d root signatures, want one for each of %d receipt keys", len(x.Roots), len(d.Keys.Receipt))
	}
	for _, r := range x.Roots {
		if len(r.Protected) > evidence.MaxReceipt || len(r.Signature) != evidence.SignatureSize {
			return fmt.Errorf("a root signature of %d and %d bytes", len(r.Protected), len(r.Signature))
		}
	}
	if len(x.Cosig.Signature) != evidence.SignatureSize {
		return fmt.Errorf("a cosignature of %d bytes", len(x.Cosig.Signature))
	}
	return nil
}

// check verifies a peer's signatures over this node's own root, by the keys that
// count for its size: a peer whose root differs fails here, and one that signs
// with a key it has replaced.
func (w *witness) check(from string, x witnessWire, b boundary) error {
	receipts := w.n.reg.InstitutionKeys(from, evidence.UseReceipt, b.Size)
	if len(receipts) != len(x.Roots) {
		return fmt.Errorf("%d root signatures, want one for each of %d receipt keys", len(x.Roots), len(receipts))
	}
	for i, r := range x.Roots {
		sig, err := evidence.NewRootSignature(r.Protected, r.Signature)
		if err != nil {
			return err
		}
		if sig.Issuer != from || sig.Log != w.n.origin || sig.IssuedAt != b.Time/1000 || sig.Size != b.Size {
			return fmt.Errorf("the root signature says issuer %q, log %q, time %d, size %d", sig.Issuer, sig.Log, sig.IssuedAt, sig.Size)
		}
		if err := sig.Verify(receipts[i], b.Root); err != nil {
			return fmt.Errorf("over the root of size %d: %w", b.Size, err)
		}
	}
	cosign := w.n.reg.InstitutionKeys(from, evidence.UseCosign, b.Size)
	if len(cosign) == 0 {
		return fmt.Errorf("no cosigning key of %s is known for size %d", from, b.Size)
	}
	cp := evidence.CosignedCheckpoint{Origin: w.n.origin, Checkpoint: b.Checkpoint}
	name := w.n.alliance.CosignerName(from)
	c := evidence.Cosignature{Name: name, KeyID: evidence.CosignerKeyID(name, cosign[0]), Time: x.Cosig.Time, Signature: x.Cosig.Signature}
	if err := cp.VerifyCosignature(c, cosign[0]); err != nil {
		return fmt.Errorf("cosignature over size %d: %w", b.Size, err)
	}
	return nil
}

// keep stores checked signatures and moves the marks.
func (w *witness) keep(from string, x witnessWire, b boundary) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	key := witnessKey(x.Height, from)
	if old, err := w.n.idx.get(key); err != nil || old != nil {
		if old != nil && b.Size > w.newest[from].Size {
			w.newest[from] = b
			w.advance()
		}
		return err
	}
	v, err := json.Marshal(x)
	if err != nil {
		return err
	}
	batch := w.n.idx.db.NewBatch()
	_ = batch.Set(key, v, nil)
	if b.Size > w.newest[from].Size {
		_ = batch.Set(append([]byte{'W'}, from...), binary.BigEndian.AppendUint64(nil, b.Size), nil)
	}
	if err := w.n.idx.db.Apply(batch, pebble.NoSync); err != nil {
		return fmt.Errorf("storing root signatures: %w", err)
	}
	w.count(b)
	if b.Size > w.newest[from].Size {
		w.newest[from] = b
		w.advance()
	}
	return nil
}

// takeEarly receives what came too early, now that height is committed.
func (w *witness) takeEarly(height int64) {
	w.mu.Lock()
	due := map[string][]witnessWire{}
	for from, xs := range w.early {
		var rest []witnessWire
		for _, x := range xs {
			if x.Height <= height {
				due[from] = append(due[from], x)
			} else {
				rest = append(rest, x)
			}
		}
		if len(rest) == 0 {
			delete(w.early, from)
		} else {
			w.early[from] = rest
		}
	}
	w.mu.Unlock()
	for from, xs := range due {
		for _, x := range xs {
			if err := w.receive(from, x); err != nil {
				w.n.log.Warn("refused a root signature", "from", from, "height", x.Height, "reason", err)
			}
		}
	}
}

// behind reports whether a peer's signatures over this node's newest root are
// missing, and from which height to ask.
func (w *witness) behind(id string) (int64, bool) {
	cur := w.n.machine.cur.Load()
	w.mu.Lock()
	defer w.mu.Unlock()
	b := w.newest[id]
	return b.Height + 1, b.Size < cur.Size
}

func (w *witness) sizeOf(id string) uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.newest[id].Size
}

// own returns this node's signatures from a height on. It answers the newest
// ones too when there are more than limit, since one later root serves every
// earlier statement.
func (w *witness) own(from int64, limit int) ([]witnessWire, error) {
	var out []witnessWire
	err := w.n.idx.scan(u64key('w', uint64(from)), []byte{'w' + 1}, func(k, v []byte) (bool, error) {
		if string(k[9:]) != w.n.id {
			return true, nil
		}
		var x witnessWire
		if err := json.Unmarshal(v, &x); err != nil {
			return false, &DamagedError{"index", "a root signature cannot be read"}
		}
		out = append(out, x)
		return len(out) < limit, nil
	})
	return out, err
}

// at returns the signatures of every institution over the root of one block.
func (w *witness) at(height int64) (map[string]witnessWire, error) {
	out := map[string]witnessWire{}
	err := w.n.idx.scan(u64key('w', uint64(height)), u64key('w', uint64(height)+1), func(k, v []byte) (bool, error) {
		var x witnessWire
		if err := json.Unmarshal(v, &x); err != nil {
			return false, &DamagedError{"index", "a root signature cannot be read"}
		}
		out[string(k[9:])] = x
		return true, nil
	})
	return out, err
}

// resign makes sure after a start that this institution has signed its newest
// root: a crash may have come between the block and the signature.
func (w *witness) resign() error {
	cur := w.n.machine.cur.Load()
	if cur.Size == 0 {
		return nil
	}
	b, ok, err := w.n.idx.boundaryAt(cur.Size)
	if err != nil || !ok {
		return err
	}
	if v, err := w.n.idx.get(witnessKey(b.Height, w.n.id)); err != nil || v != nil {
		return err
	}
	return w.sign(b)
}

// checkpointBoundary picks what the public checkpoint shows: the newest that
// every institution cosigned, unless one of them is away; then the newest with
// a quorum.
func (w *witness) checkpointBoundary() boundary {
	w.mu.Lock()
	defer w.mu.Unlock()
	alone := w.n.now().UnixMilli() - w.quorumC.Time // how long the newest has waited for the rest
	if w.quorumC.Size > w.allC.Size && (alone > waitForAll.Milliseconds() || w.quorumC.Time-w.allC.Time > lagMax.Milliseconds()) {
		return w.quorumC
	}
	return w.allC
}

const (
	// waitForAll is longer than a cosignature takes to arrive, shorter than
	// anybody waits for a checkpoint.
	waitForAll = 2 * time.Second
	// lagMax bounds how old the checkpoint gets under load while one lags.
	lagMax = 10 * time.Second
)
