package sigbatch

import (
	"crypto/rand"
	"crypto/sha512"
	"encoding/binary"
	"hash"

	"github.com/oasisprotocol/curve25519-voi/curve"
	"github.com/oasisprotocol/curve25519-voi/curve/scalar"
)

const (
	// fewest is the number of signatures from which one multiplication is
	// cheaper than checking each alone.
	fewest = 4

	// fanout is the number of parts a failed group is split into. The sum of
	// the last part is the group's sum less the others', so a split multiplies
	// (fanout−1)/fanout of the group. Four costs as much as two for a lone bad
	// signature, less for several, and halves the depth, which the error bound
	// counts: 4096 → 1024 → 256 → 64 → 16 → 4 is six checks of one signature,
	// each wrong with probability at most 2^-128, together below 2^-125.
	fanout = 4

	// splitShare bounds the work of isolating bad signatures: the cost of all
	// splits of a slice stays below this fraction, in percent, of the cost of
	// checking all its equations alone. Past it the failed groups are checked
	// alone.
	splitShare = 75

	// pippengerFrom is the number of points from which curve25519-voi sums by
	// Pippenger's buckets instead of Straus's tables, and padFrom the number
	// from which it is worth padding a sum with terms of coefficient zero,
	// which the buckets skip, to get there.
	pippengerFrom = 190
	padFrom       = 110
)

// slice is the working memory of one multiscalar multiplication, reused from
// slice to slice.
type slice struct {
	hash   hash.Hash
	digest [sha512.Size]byte
	random []byte

	entries []entry
	points  []curve.EdwardsPoint // R of entry i
	zs      []scalar.Scalar      // z of entry i

	keys   []sliceKey
	keyAt  map[[KeySize]byte]int32 // into keys
	epoch  uint32                  // number of the current sum, to tell stale slots
	sums   []wide                  // Σ z·k of the keys of the current sum
	folded []scalar.Scalar         // the same modulo L

	termScalars []*scalar.Scalar
	termPoints  []*curve.EdwardsPoint
	zero        scalar.Scalar

	// Work done since the slice was taken up, in signatures: summed (each
	// time) and checked alone.
	summed, single int
}

// entry is an item whose every part decoded: only the equation is open.
type entry struct {
	item int32 // index into the slice's items and results
	key  int32 // index into slice.keys
	z    [2]uint64
	s, k [4]uint64
}

// sliceKey is one distinct public key of a slice. point is nil if the key
// does not decode.
type sliceKey struct {
	key    [KeySize]byte
	point  *curve.EdwardsPoint
	cached bool
	epoch  uint32 // the sum that slot belongs to
	slot   int32  // index into slice.sums
}

func newSlice() *slice {
	return &slice{hash: sha512.New(), keyAt: make(map[[KeySize]byte]int32)}
}

// release makes the slice ready for the next use, and drops its references to
// the keys' points, so that a pooled slice keeps no evicted key alive.
func (s *slice) release() {
	clear(s.keys[:cap(s.keys)])
	clear(s.termPoints[:cap(s.termPoints)])
	clear(s.keyAt)
}

// verify sets ok[i] for every item; ok is all false when it is called.
func (s *slice) verify(cache *keyCache, items []Item, ok []bool) {
	s.decodeKeys(cache, items)
	s.decodeItems(items)
	if len(s.entries) < fewest {
		s.singles(0, len(s.entries), ok)
		return
	}
	s.drawZ()
	var sum curve.EdwardsPoint
	s.sum(&sum, 0, len(s.entries))
	if sum.IsSmallOrder() {
		s.accept(0, len(s.entries), ok)
		return
	}
	s.isolate(&sum, ok)
}

// decodeKeys finds the distinct keys of the items whose signatures are well
// formed, starts an entry for each such item, and decodes each key once.
func (s *slice) decodeKeys(cache *keyCache, items []Item) {
	s.entries, s.keys = s.entries[:0], s.keys[:0]
	s.epoch, s.summed, s.single = 0, 0, 0
	for i := range items {
		it := &items[i]
		if !wellFormed(it.Signature) {
			continue
		}
		at, seen := s.keyAt[it.Key]
		if !seen {
			at = int32(len(s.keys))
			s.keyAt[it.Key] = at
			s.keys = append(s.keys, sliceKey{key: it.Key})
		}
		s.entries = append(s.entries, entry{item: int32(i), key: at})
	}

	cache.lookup(s.keys)
	decoded := false
	for i := range s.keys {
		k := &s.keys[i]
		if k.point != nil {
			continue
		}
		p := new(curve.EdwardsPoint)
		if decodePoint(p, k.key[:]) {
			k.point = p
			decoded = true
		}
	}
	if decoded {
		cache.insert(s.keys)
	}
}

// decodeItems decodes R and S and computes k of each entry, and drops the
// entries that cannot be valid.
func (s *slice) decodeItems(items []Item) {
	if cap(s.points) < len(s.entries) {
		s.points = make([]curve.EdwardsPoint, len(s.entries))
		s.zs = make([]scalar.Scalar, len(s.entries))
	}
	s.points, s.zs = s.points[:cap(s.points)], s.zs[:cap(s.zs)]

	n := 0
	var k scalar.Scalar
	var enc [scalar.ScalarSize]byte
	for _, e := range s.entries {
		it := &items[e.item]
		if s.keys[e.key].point == nil || !decodePoint(&s.points[n], it.Signature[:32]) {
			continue
		}
		challenge(&k, s.hash, &s.digest, &it.Key, it.Message, it.Signature)
		_ = k.ToBytes(enc[:]) // fails on a wrong length only
		e.k = words(enc[:])
		e.s = words(it.Signature[32:])
		s.entries[n] = e
		n++
	}
	s.entries = s.entries[:n]
}

// drawZ gives each entry a fresh random coefficient of 128 bits.
//
// They must be unpredictable to whoever chose the signatures. Write D_i for
// the amount by which equation i is off. The sum tests Σ z_i·D_i = 0: knowing
// z_1 and z_2, one would choose D_1 and D_2 to cancel and have two invalid
// signatures accepted. Not knowing them, whatever the D_i are, at most one of
// the 2^128 values of z_i makes the sum vanish when D_i ≠ 0. So they come from
// the system's generator, in one reading per slice, after the signatures have
// been received, and are used for this slice alone.
func (s *slice) drawZ() {
	need := 16 * len(s.entries)
	if cap(s.random) < need {
		s.random = make([]byte, need)
	}
	s.random = s.random[:need]
	// crypto/rand.Read never returns an error: it ends the program instead.
	_, _ = rand.Read(s.random)

	var enc [scalar.ScalarSize]byte
	for i := range s.entries {
		copy(enc[:16], s.random[16*i:])
		s.entries[i].z[0] = binary.LittleEndian.Uint64(enc[0:])
		s.entries[i].z[1] = binary.LittleEndian.Uint64(enc[8:])
		_, _ = s.zs[i].SetBits(enc[:]) // fails on a wrong length only
	}
}

// sum sets p to Σ [z_i]R_i + Σ_A [Σ z_i·k_i]A − [Σ z_i·S_i]B over the entries
// lo ≤ i < hi, up to a point of small order: a coefficient of A is reduced
// modulo L although A may have a component of order 8, which is why only
// IsSmallOrder may be asked of the result.
//
// Terms of one key are one term, so n signatures of m keys are n+m+1 points.
func (s *slice) sum(p *curve.EdwardsPoint, lo, hi int) {
	s.epoch++
	s.summed += hi - lo
	s.sums = s.sums[:0]
	s.termScalars, s.termPoints = s.termScalars[:0], s.termPoints[:0]

	var sB wide
	for i := lo; i < hi; i++ {
		e := &s.entries[i]
		key := &s.keys[e.key]
		if key.epoch != s.epoch {
			key.epoch, key.slot = s.epoch, int32(len(s.sums))
			s.sums = append(s.sums, wide{})
			s.termPoints = append(s.termPoints, key.point)
		}
		s.sums[key.slot].addMul(&e.z, &e.k)
		sB.addMul(&e.z, &e.s)
	}

	m := len(s.sums)
	if cap(s.folded) < m+1 {
		s.folded = make([]scalar.Scalar, m+1)
	}
	s.folded = s.folded[:m+1]
	for i := range s.sums {
		s.sums[i].modL(&s.folded[i])
		s.termScalars = append(s.termScalars, &s.folded[i])
	}
	sB.modL(&s.folded[m])
	s.folded[m].Neg(&s.folded[m])
	s.termScalars = append(s.termScalars, &s.folded[m])
	s.termPoints = append(s.termPoints, curve.ED25519_BASEPOINT_POINT)

	for i := lo; i < hi; i++ {
		s.termScalars = append(s.termScalars, &s.zs[i])
		s.termPoints = append(s.termPoints, &s.points[i])
	}
	if len(s.termPoints) >= padFrom {
		for len(s.termPoints) < pippengerFrom {
			s.termScalars = append(s.termScalars, &s.zero)
			s.termPoints = append(s.termPoints, curve.ED25519_BASEPOINT_POINT)
		}
	}
	p.MultiscalarMulVartime(s.termScalars, s.termPoints)
}

// Costs in units of about a microsecond; only their ratios matter. The
// coefficient of a key is twice as long as a z, so its term costs twice.
const singleCost = 20

// sumCost estimates the cost of a sum over n entries of m keys.
func sumCost(n, m int) int {
	if n+m+1 < padFrom {
		return 20 + 3*n + 5*m
	}
	return 250 + 2*n + 4*m
}

// group is a run of entries whose sum is known and not zero.
type group struct {
	lo, hi int
	sum    curve.EdwardsPoint
}

// isolate finds the bad entries of a slice whose sum is not zero. It splits
// failed groups breadth first, largest first, with the coefficients already
// drawn: that some subset was seen to fail says nothing of the others' z that
// the signer, who has long fixed the signatures, could use.
func (s *slice) isolate(sum *curve.EdwardsPoint, ok []bool) {
	n := len(s.entries)
	budget := singleCost * n * splitShare / 100
	failed := []group{{lo: 0, hi: n}}
	failed[0].sum.Set(sum)
	for len(failed) > 0 {
		g := failed[0]
		failed = failed[1:]
		size := g.hi - g.lo
		part := (size + fanout - 1) / fanout
		cost := ((size - 1) / part) * sumCost(part, min(part, len(s.keys)))
		// A group must shrink when it is split, or isolate would not end: so
		// one no larger than the fanout is never split, however cheap it looks.
		if size <= fanout || cost > budget || 2*cost > singleCost*size {
			s.singles(g.lo, g.hi, ok)
			continue
		}
		budget -= cost
		rest := g
		for rest.lo < g.hi {
			child := group{lo: rest.lo, hi: min(rest.lo+part, g.hi)}
			if child.hi < g.hi {
				s.sum(&child.sum, child.lo, child.hi)
				rest.sum.Sub(&rest.sum, &child.sum)
			} else {
				child.sum.Set(&rest.sum)
			}
			rest.lo = child.hi
			if child.sum.IsSmallOrder() {
				s.accept(child.lo, child.hi, ok)
			} else {
				failed = append(failed, child)
			}
		}
	}
}

func (s *slice) accept(lo, hi int, ok []bool) {
	for i := lo; i < hi; i++ {
		ok[s.entries[i].item] = true
	}
}

// singles checks the equations of the entries lo ≤ i < hi one by one.
func (s *slice) singles(lo, hi int, ok []bool) {
	s.single += hi - lo
	var sc, k scalar.Scalar
	for i := lo; i < hi; i++ {
		e := &s.entries[i]
		setWords(&sc, &e.s)
		setWords(&k, &e.k)
		ok[e.item] = equationHolds(s.keys[e.key].point, &s.points[i], &sc, &k)
	}
}

func setWords(s *scalar.Scalar, w *[4]uint64) {
	var b [scalar.ScalarSize]byte
	for i, word := range w {
		binary.LittleEndian.PutUint64(b[8*i:], word)
	}
	_, _ = s.SetBits(b[:]) // fails on a wrong length only
}
