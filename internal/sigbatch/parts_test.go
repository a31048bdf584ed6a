package sigbatch

import (
	"encoding/binary"
	"fmt"
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/oasisprotocol/curve25519-voi/curve"
	"github.com/oasisprotocol/curve25519-voi/curve/scalar"
	"pgregory.net/rapid"
)

func TestWideSum(t *testing.T) {
	l, _ := scalar.BASEPOINT_ORDER.MarshalBinary()
	order := new(big.Int).SetBytes(reversed(l))
	word := rapid.OneOf(rapid.Uint64(), rapid.SampledFrom([]uint64{0, 1, 1<<63 - 1, 1 << 63, 1<<64 - 1}))
	rapid.Check(t, func(rt *rapid.T) {
		var w wide
		want := new(big.Int)
		for range rapid.IntRange(0, 40).Draw(rt, "terms") {
			z := [2]uint64{word.Draw(rt, "z0"), word.Draw(rt, "z1")}
			x := [4]uint64{word.Draw(rt, "x0"), word.Draw(rt, "x1"), word.Draw(rt, "x2"), word.Draw(rt, "x3")}
			w.addMul(&z, &x)
			want.Add(want, new(big.Int).Mul(number(z[:]), number(x[:])))
		}
		if got := number(w[:]); got.Cmp(want) != 0 {
			rt.Fatalf("sum is %x, want %x", got, want)
		}
		var s scalar.Scalar
		w.modL(&s)
		b, err := s.MarshalBinary()
		if err != nil {
			rt.Fatal(err)
		}
		if got := new(big.Int).SetBytes(reversed(b)); got.Cmp(want.Mod(want, order)) != 0 {
			rt.Fatalf("sum modulo L is %x, want %x", got, want)
		}
	})
}

func number(w []uint64) *big.Int {
	n := new(big.Int)
	for i := len(w) - 1; i >= 0; i-- {
		n.Lsh(n, 64).Or(n, new(big.Int).SetUint64(w[i]))
	}
	return n
}

func cacheKeys(from, to int) []sliceKey {
	var out []sliceKey
	for i := from; i < to; i++ {
		var k sliceKey
		binary.LittleEndian.PutUint32(k.key[:], uint32(i))
		k.point = curve.NewEdwardsPoint()
		out = append(out, k)
	}
	return out
}

func cacheHits(c *keyCache, from, to int) (n int) {
	keys := cacheKeys(from, to)
	for i := range keys {
		keys[i].point = nil
	}
	c.lookup(keys)
	for i := range keys {
		if keys[i].point != nil {
			n++
		}
	}
	return n
}

func TestKeyCache(t *testing.T) {
	c := newKeyCache(10)
	c.insert(cacheKeys(0, 5))
	if n := cacheHits(c, 0, 5); n != 5 {
		t.Fatalf("%d of 5 keys kept", n)
	}
	// A flood of keys used once leaves those in use alone, while these are
	// asked for between its waves.
	for wave := range 30 {
		c.insert(cacheKeys(100+4*wave, 104+4*wave))
		if n := cacheHits(c, 0, 5); n != 5 {
			t.Fatalf("wave %d: %d of 5 used keys kept", wave, n)
		}
		if n := c.len(); n > 10 {
			t.Fatalf("%d keys kept in a cache of 10", n)
		}
	}
	// Keys no longer asked for go in the end.
	c.insert(cacheKeys(1000, 1040))
	if n := cacheHits(c, 0, 5); n != 0 {
		t.Errorf("%d idle keys kept", n)
	}
	if n := cacheHits(c, 1000, 1040); n != 10 {
		t.Errorf("%d keys in a full cache of 10", n)
	}
	if len(c.index) != len(c.slots) {
		t.Errorf("%d keys indexed in %d slots", len(c.index), len(c.slots))
	}

	// Keys that did not decode are not kept.
	bad := cacheKeys(2000, 2001)
	bad[0].point = nil
	c.insert(bad)
	if n := cacheHits(c, 2000, 2001); n != 0 {
		t.Error("a key without a point is kept")
	}

	none := newKeyCache(-1)
	none.insert(cacheKeys(0, 3))
	if none.len() != 0 || cacheHits(none, 0, 3) != 0 {
		t.Error("a cache of no capacity keeps keys")
	}
}

// TestSumIsCoalesced counts the terms of a sum: n + m + 1 for n signatures of
// m keys.
func TestSumIsCoalesced(t *testing.T) {
	items := signedItems(t, 20, 300, 7, 10)
	s := newSlice()
	ok := make([]bool, len(items))
	s.verify(newKeyCache(0), items, ok)
	if n := len(s.termPoints); n != 300+7+1 {
		t.Errorf("%d terms, want 308", n)
	}
	for i := range ok {
		if !ok[i] {
			t.Fatalf("item %d refused", i)
		}
	}
	if len(s.keys) != 7 {
		t.Errorf("%d keys, want 7", len(s.keys))
	}
}

// TestTorsionIsNoDetour checks that components of small order, which anyone can
// put into a signature, do not make the sum of valid signatures fail.
func TestTorsionIsNoDetour(t *testing.T) {
	tor, none := torsionPoint(t), curve.NewEdwardsPoint()
	rng := rand.NewChaCha8([32]byte{3})
	items := signedItems(t, 22, 50, 5, 10)
	for i := range 50 {
		items = append(items, torsioned(t, rng, scalar.NewFromUint64(uint64(i%7+1)), tor, none, []byte{byte(i)}))
		items = append(items, torsioned(t, rng, scalar.NewFromUint64(uint64(i%7+1)), none, tor, []byte{byte(i)}))
	}
	s := newSlice()
	ok := make([]bool, len(items))
	s.verify(newKeyCache(0), items, ok)
	if n := count(ok); n != len(items) || s.epoch != 1 {
		t.Errorf("%d of %d valid after %d sums, want all after 1", n, len(items), s.epoch)
	}
}

// TestIsolationIsBounded counts the work of isolating bad signatures. A sum
// costs at least two units a signature (sumCost) and the splits together at
// most splitShare of singleCost a signature: no signature is summed more than
// 1 + 7.5 times on average, nor checked alone twice.
func TestIsolationIsBounded(t *testing.T) {
	const n = 1024
	items := signedItems(t, 23, n, 64, 10)
	for _, bad := range []int{1, 5, 30, 200, n} {
		spoilt := append([]Item(nil), items...)
		for i := range bad {
			spoilt[i*n/bad].Message = nil
		}
		s := newSlice()
		ok := make([]bool, n)
		s.verify(newKeyCache(0), spoilt, ok)
		if got := count(ok); got != n-bad {
			t.Fatalf("%d bad: %d valid", bad, got)
		}
		if s.summed > n+n*singleCost*splitShare/200 {
			t.Errorf("%d bad: %d signatures summed for %d", bad, s.summed, n)
		}
		if s.single > n {
			t.Errorf("%d bad: %d signatures checked alone for %d", bad, s.single, n)
		}
		if bad == 1 && (s.single > 16 || s.summed > 2*n) {
			t.Errorf("one bad signature of %d: %d summed, %d checked alone", n, s.summed, s.single)
		}
	}
}

// TestDepth bounds the number of sums one signature can be part of, each of
// which is wrong with probability at most 2^-128: eight make 2^-125.
func TestDepth(t *testing.T) {
	checks := 1
	for size := maxSlice; size > fanout; size = (size + fanout - 1) / fanout {
		checks++
	}
	if checks > 8 {
		t.Errorf("%d checks of one signature, want at most 8", checks)
	}
}

// TestReleaseForgets checks that a slice put back holds no key of its last use.
func TestReleaseForgets(t *testing.T) {
	s := newSlice()
	items := signedItems(t, 21, 50, 50, 10)
	s.verify(newKeyCache(0), items, make([]bool, len(items)))
	s.release()
	for _, k := range s.keys[:cap(s.keys)] {
		if k.point != nil {
			t.Fatal("a key's point is kept")
		}
	}
	for _, p := range s.termPoints[:cap(s.termPoints)] {
		if p != nil {
			t.Fatal("a term's point is kept")
		}
	}
	if len(s.keyAt) != 0 {
		t.Fatal("keys are kept in the index")
	}
}

func ExampleVerifier_Verify() {
	items := make([]Item, 3) // three items with a zero key and no signature
	fmt.Println(New(Config{KeyCache: 1000, Parallel: 1}).Verify(items))
	// Output: [false false false]
}
