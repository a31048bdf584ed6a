package sigbatch

import (
	"bytes"
	stdlib "crypto/ed25519"
	"crypto/sha512"
	"encoding/binary"
	"fmt"
	"math/big"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/oasisprotocol/curve25519-voi/curve"
	"github.com/oasisprotocol/curve25519-voi/curve/scalar"
	"github.com/oasisprotocol/curve25519-voi/primitives/ed25519"
	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

// signedItems makes n valid items by the given number of keys, the keys taking
// turns. It is deterministic in seed.
func signedItems(tb testing.TB, seed uint64, n, keys, msgLen int) []Item {
	tb.Helper()
	var s [32]byte
	s[0], s[1], s[2] = byte(seed), byte(seed>>8), byte(seed>>16)
	rng := rand.NewChaCha8(s)
	private := make([]stdlib.PrivateKey, min(n, keys))
	for i := range private {
		var b [32]byte
		_, _ = rng.Read(b[:])
		private[i] = stdlib.NewKeyFromSeed(b[:])
	}
	items := make([]Item, n)
	for i := range items {
		key := private[i%len(private)]
		items[i].Message = make([]byte, msgLen)
		_, _ = rng.Read(items[i].Message)
		items[i].Signature = stdlib.Sign(key, items[i].Message)
		copy(items[i].Key[:], key.Public().(stdlib.PublicKey))
	}
	return items
}

// reference is the independent judge: curve25519-voi's own single check under
// its ZIP 215 options.
func reference(it Item) bool {
	return ed25519.VerifyWithOptions(it.Key[:], it.Message, it.Signature,
		&ed25519.Options{Verify: ed25519.VerifyOptionsZIP_215})
}

// agree fails the test unless Verify and Single both say of every item what
// the reference says, and returns what that is.
func agree(tb testing.TB, v *Verifier, items []Item) []bool {
	tb.Helper()
	got := v.Verify(items)
	if len(got) != len(items) {
		tb.Fatalf("%d results for %d items", len(got), len(items))
	}
	want := make([]bool, len(items))
	for i, it := range items {
		want[i] = reference(it)
		if one := Single(it.Key, it.Message, it.Signature); one != want[i] {
			tb.Errorf("item %d: Single says %v, reference %v: key %x sig %x", i, one, want[i], it.Key, it.Signature)
		}
		if got[i] != want[i] {
			tb.Errorf("item %d of %d: Verify says %v, reference %v: key %x sig %x", i, len(items), got[i], want[i], it.Key, it.Signature)
		}
	}
	return want
}

func count(ok []bool) (n int) {
	for _, b := range ok {
		if b {
			n++
		}
	}
	return n
}

func clone(items []Item) []Item {
	out := make([]Item, len(items))
	for i, it := range items {
		out[i] = Item{Key: it.Key, Message: bytes.Clone(it.Message), Signature: bytes.Clone(it.Signature)}
	}
	return out
}

// torsionPoint returns a point of order 8, found as [L]P for P not in a
// subgroup.
func torsionPoint(tb testing.TB) *curve.EdwardsPoint {
	tb.Helper()
	for y := byte(2); y < 255; y++ {
		var p, q, t4 curve.EdwardsPoint
		if !decodePoint(&p, append([]byte{y}, make([]byte, 31)...)) {
			continue
		}
		q.Mul(&p, scalar.BASEPOINT_ORDER)
		t4.Add(&q, &q)
		t4.Add(&t4, &t4)
		if !t4.IsIdentity() && q.IsSmallOrder() {
			return &q
		}
	}
	tb.Fatal("no point of order 8 found")
	return nil
}

// smallOrderEncodings returns every encoding that ZIP 215 decodes to one of
// the eight points of small order: the canonical ones, y+p for y below 19, and
// x = 0 with a sign bit of 1.
func smallOrderEncodings(tb testing.TB) [][32]byte {
	tb.Helper()
	p := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 255), big.NewInt(19))
	t := torsionPoint(tb)
	q := curve.NewEdwardsPoint()
	seen := map[[32]byte]bool{}
	var out [][32]byte
	for range 8 {
		q.Add(q, t)
		var c curve.CompressedEdwardsY
		c.SetEdwardsPoint(q)
		c[31] &= 0x7f
		y := new(big.Int).SetBytes(reversed(c[:]))
		for ; y.BitLen() <= 255; y.Add(y, p) {
			for _, sign := range []byte{0, 0x80} {
				var enc [32]byte
				y.FillBytes(enc[:])
				copy(enc[:], reversed(enc[:]))
				enc[31] |= sign
				if !seen[enc] {
					seen[enc] = true
					out = append(out, enc)
				}
			}
		}
	}
	return out
}

func reversed(b []byte) []byte {
	out := make([]byte, len(b))
	for i := range b {
		out[len(b)-1-i] = b[i]
	}
	return out
}

// TestSmallOrderMatrix is the matrix of ZIP 215's test vectors: 14 encodings
// of A by 14 of R, S = 0, all of them valid whatever the message.
func TestSmallOrderMatrix(t *testing.T) {
	encodings := smallOrderEncodings(t)
	if len(encodings) != 14 {
		t.Fatalf("%d encodings of small-order points, want 14", len(encodings))
	}
	var items []Item
	for _, a := range encodings {
		for _, r := range encodings {
			items = append(items, Item{Key: a, Message: []byte("Zcash"), Signature: append(r[:], make([]byte, 32)...)})
		}
	}
	v := New(Config{Parallel: 1})
	if n := count(agree(t, v, items)); n != 196 {
		t.Errorf("%d of the 196 are valid by the reference", n)
	}
	for i := range items {
		agree(t, v, items[i:i+1])
	}
	// Among ordinary signatures, good and bad.
	mixed := append(clone(items), signedItems(t, 2, 100, 9, 50)...)
	mixed[210].Message[3] ^= 4
	mixed[17].Signature[32] = 1 // S = 1 with small-order A and R is off
	if n := count(agree(t, v, mixed)); n != 294 {
		t.Errorf("%d valid, want 294", n)
	}
}

// torsioned makes a signature with a key that has a component of small order,
// and with such an R. Only the cofactored equation accepts every one of them.
func torsioned(tb testing.TB, rng *rand.ChaCha8, a *scalar.Scalar, torA, torR *curve.EdwardsPoint, msg []byte) Item {
	tb.Helper()
	var wide [64]byte
	_, _ = rng.Read(wide[:])
	r, err := scalar.NewFromBytesModOrderWide(wide[:])
	if err != nil {
		tb.Fatal(err)
	}
	encode := func(x *scalar.Scalar, tor *curve.EdwardsPoint) (c curve.CompressedEdwardsY) {
		var p curve.EdwardsPoint
		p.MulBasepoint(curve.ED25519_BASEPOINT_TABLE, x)
		c.SetEdwardsPoint(p.Add(&p, tor))
		return c
	}
	key, rEnc := encode(a, torA), encode(r, torR)
	h := sha512.Sum512(append(append(bytes.Clone(rEnc[:]), key[:]...), msg...))
	k, err := scalar.NewFromBytesModOrderWide(h[:])
	if err != nil {
		tb.Fatal(err)
	}
	var s scalar.Scalar
	s.Mul(k, a)
	s.Add(&s, r)
	sBytes, err := s.MarshalBinary()
	if err != nil {
		tb.Fatal(err)
	}
	return Item{Key: key, Message: msg, Signature: append(bytes.Clone(rEnc[:]), sBytes...)}
}

func TestTorsionedKeys(t *testing.T) {
	rng := rand.NewChaCha8([32]byte{7})
	tor := torsionPoint(t)
	var items []Item
	for keyNo := range 8 {
		var b [64]byte
		b[0], b[1] = byte(keyNo), 99
		a, err := scalar.NewFromBytesModOrderWide(b[:])
		if err != nil {
			t.Fatal(err)
		}
		torA := curve.NewEdwardsPoint()
		for range keyNo {
			torA.Add(torA, tor)
		}
		torR := curve.NewEdwardsPoint()
		for i := range 40 {
			torR.Add(torR, tor)
			items = append(items, torsioned(t, rng, a, torA, torR, fmt.Appendf(nil, "torsioned %d %d", keyNo, i)))
		}
	}
	v := New(Config{})
	if n := count(agree(t, v, items)); n != len(items) {
		t.Errorf("%d of %d torsioned signatures valid by the reference", n, len(items))
	}
	strict := 0
	for _, it := range items {
		if stdlib.Verify(it.Key[:], it.Message, it.Signature) {
			strict++
		}
	}
	if strict == len(items) {
		t.Error("the cofactorless check accepts them all: the items do not test the cofactor")
	}
	for i := 0; i < len(items); i += 11 {
		items[i].Message = []byte("another")
	}
	if n := count(agree(t, v, items)); n != len(items)-30 {
		t.Errorf("%d valid, want %d", n, len(items)-30)
	}
}

// addL adds L to the S of a signature: a second encoding of the same number,
// which ZIP 215 refuses.
func addL(sig []byte) {
	l, _ := scalar.BASEPOINT_ORDER.MarshalBinary()
	a, b := words(sig[32:]), words(l)
	var carry uint64
	for i := range a {
		sum := a[i] + b[i] + carry
		if sum < a[i] || carry == 1 && sum == a[i] {
			carry = 1
		} else {
			carry = 0
		}
		binary.LittleEndian.PutUint64(sig[32+8*i:], sum)
	}
}

func TestMalformed(t *testing.T) {
	good := signedItems(t, 3, 40, 5, 64)
	v := New(Config{Parallel: 1})
	tests := []struct {
		name  string
		spoil func(*Item)
	}{
		{"S+L", func(it *Item) { addL(it.Signature) }},
		{"S=L", func(it *Item) { l, _ := scalar.BASEPOINT_ORDER.MarshalBinary(); copy(it.Signature[32:], l) }},
		{"S all ones", func(it *Item) { copy(it.Signature[32:], bytes.Repeat([]byte{255}, 32)) }},
		{"S=0", func(it *Item) { clear(it.Signature[32:]) }},
		{"nil signature", func(it *Item) { it.Signature = nil }},
		{"empty signature", func(it *Item) { it.Signature = []byte{} }},
		{"63 bytes", func(it *Item) { it.Signature = it.Signature[:63] }},
		{"65 bytes", func(it *Item) { it.Signature = append(it.Signature, 0) }},
		{"32 bytes", func(it *Item) { it.Signature = it.Signature[:32] }},
		{"R not on the curve", func(it *Item) { copy(it.Signature, append([]byte{2}, make([]byte, 31)...)) }},
		{"key not on the curve", func(it *Item) { it.Key = [32]byte{2} }},
		{"key of another", func(it *Item) { it.Key = good[1].Key }},
		{"zero key", func(it *Item) { it.Key = [32]byte{} }},
		{"nil message", func(it *Item) { it.Message = nil }},
		{"longer message", func(it *Item) { it.Message = append(it.Message, 0) }},
		{"sign of R", func(it *Item) { it.Signature[31] ^= 0x80 }},
		{"sign of A", func(it *Item) { it.Key[31] ^= 0x80 }},
	}
	all := clone(good)
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bad := clone(good)[5]
			tt.spoil(&bad)
			for _, at := range []int{0, 1, 19, 39, 40} {
				items := append(append(clone(good[:at]), bad), good[at:]...)
				if n := count(agree(t, v, items)); n != 40 {
					t.Fatalf("at %d: %d valid, want 40", at, n)
				}
			}
			if count(agree(t, v, []Item{bad})) != 0 {
				t.Error("alone: valid")
			}
		})
		tt.spoil(&all[2*i])
	}
	agree(t, v, all)
}

func TestEmpty(t *testing.T) {
	for _, p := range []int{0, 1, 3} {
		v := New(Config{Parallel: p})
		if got := v.Verify(nil); len(got) != 0 {
			t.Errorf("Verify(nil) has %d results", len(got))
		}
		if got := v.Verify([]Item{{}}); len(got) != 1 || got[0] {
			t.Errorf("Verify of a zero item is %v", got)
		}
	}
	// A signature of the empty message, given as nil and as empty.
	it := signedItems(t, 4, 1, 1, 0)[0]
	for _, m := range [][]byte{nil, {}} {
		it.Message = m
		if !Single(it.Key, it.Message, it.Signature) {
			t.Error("signature of the empty message refused")
		}
	}
}

// TestEveryFlippedBit flips each bit of a signature and of its key in turn.
func TestEveryFlippedBit(t *testing.T) {
	one := signedItems(t, 5, 1, 1, 8)
	var items []Item
	for bit := range 8 * (32 + 64) {
		it := clone(one)[0]
		if bit < 256 {
			it.Key[bit/8] ^= 1 << (bit % 8)
		} else {
			it.Signature[bit/8-32] ^= 1 << (bit % 8)
		}
		items = append(items, it)
	}
	if n := count(agree(t, New(Config{}), items)); n != 0 {
		t.Errorf("%d valid", n)
	}
}

// TestErrorsThatCancel has pairs of signatures off by +d and −d: their sum
// holds without random coefficients.
func TestErrorsThatCancel(t *testing.T) {
	v := New(Config{Parallel: 1})
	for _, keys := range []int{1, 2, 50} {
		items := signedItems(t, 6, 200, keys, 30)
		for _, pair := range [][2]int{{0, 1}, {3, 150}, {42, 199}} {
			for i, at := range pair {
				var s, one scalar.Scalar
				if _, err := s.SetBits(items[at].Signature[32:]); err != nil {
					t.Fatal(err)
				}
				one.One()
				if i == 0 {
					s.Add(&s, &one)
				} else {
					s.Sub(&s, &one)
				}
				b, err := s.MarshalBinary()
				if err != nil {
					t.Fatal(err)
				}
				copy(items[at].Signature[32:], b)
			}
		}
		if n := count(agree(t, v, items)); n != 194 {
			t.Errorf("%d keys: %d valid, want 194", keys, n)
		}
	}
}

// TestEveryPosition puts one bad signature at every position.
func TestEveryPosition(t *testing.T) {
	for _, n := range []int{1, 2, 3, 4, 5, 9, 13, 33, 70, 130} {
		for _, keys := range []int{3, 1000} {
			items := signedItems(t, 8, n, keys, 20)
			v := New(Config{Parallel: 1})
			for at := range items {
				items[at].Message[0] ^= 1
				for i, ok := range v.Verify(items) {
					if ok != (i != at) {
						t.Fatalf("n=%d keys=%d bad=%d: item %d is %v", n, keys, at, i, ok)
					}
				}
				items[at].Message[0] ^= 1
			}
		}
	}
}

// TestEverySize has every size of batch up to 300 with its last, its first or
// a few of its signatures bad, so that groups of every size get split.
func TestEverySize(t *testing.T) {
	all := signedItems(t, 13, 300, 1, 5)
	v := New(Config{Parallel: 1})
	for n := 1; n <= len(all); n++ {
		for _, bad := range [][]int{{n - 1}, {0}, {n / 5, n / 2, n - 1}} {
			items := append([]Item(nil), all[:n]...)
			want := make([]bool, n)
			for i := range want {
				want[i] = true
			}
			for _, at := range bad {
				items[at].Message = nil
				want[at] = false
			}
			if got := v.Verify(items); !slices.Equal(got, want) {
				t.Fatalf("n=%d bad=%v: %v", n, bad, got)
			}
		}
	}
}

// TestSpoiltBatches checks large batches over the numbers of bad signatures
// that lead to every kind of splitting and to the end of the budget.
func TestSpoiltBatches(t *testing.T) {
	const n = 4500 // two slices
	for _, keys := range []int{64, n} {
		items := signedItems(t, 9, n, keys, 100)
		v := New(Config{Parallel: 2})
		for _, bad := range []int{0, 1, 2, 7, 60, 500, n - 1, n} {
			spoilt := clone(items)
			want := make([]bool, n)
			for i := range want {
				want[i] = true
			}
			for i := range bad {
				at := i * n / bad
				spoilt[at].Signature[40] ^= 1
				want[at] = false
			}
			for i, ok := range v.Verify(spoilt) {
				if ok != want[i] {
					t.Fatalf("keys=%d bad=%d: item %d is %v", keys, bad, i, ok)
				}
			}
		}
	}
}

func TestMixedProperty(t *testing.T) {
	pool := signedItems(t, 10, 300, 17, 40)
	small := smallOrderEncodings(t)
	v := New(Config{Parallel: 2, KeyCache: 5})
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(0, 300).Draw(rt, "n")
		items := clone(pool[:n])
		faults := rapid.SliceOfN(rapid.IntRange(0, 299), 0, 20).Draw(rt, "bad")
		for _, at := range faults {
			if at >= n {
				continue
			}
			it := &items[at]
			switch rapid.IntRange(0, 6).Draw(rt, "kind") {
			case 0:
				it.Message = append(it.Message, 'x')
			case 1:
				if len(it.Signature) == SignatureSize {
					it.Signature[rapid.IntRange(0, 63).Draw(rt, "byte")] ^= 1 << rapid.IntRange(0, 7).Draw(rt, "bit")
				}
			case 2:
				it.Key[rapid.IntRange(0, 31).Draw(rt, "byte")] ^= 1 << rapid.IntRange(0, 7).Draw(rt, "bit")
			case 3:
				it.Signature = it.Signature[:min(len(it.Signature), rapid.IntRange(0, 63).Draw(rt, "len"))]
			case 4:
				if len(it.Signature) == SignatureSize {
					addL(it.Signature)
				}
			case 5:
				it.Key = rapid.SampledFrom(small).Draw(rt, "A")
			case 6:
				r := rapid.SampledFrom(small).Draw(rt, "R")
				it.Key = rapid.SampledFrom(small).Draw(rt, "A")
				it.Signature = append(r[:], make([]byte, 32)...)
			}
		}
		got := v.Verify(items)
		for i, it := range items {
			if want := reference(it); got[i] != want {
				rt.Fatalf("item %d of %d is %v, reference says %v", i, n, got[i], want)
			}
		}
	})
}

func TestConcurrentUse(t *testing.T) {
	defer goleak.VerifyNone(t)
	v := New(Config{Parallel: 3, KeyCache: 30})
	items := signedItems(t, 11, 600, 50, 60)
	items[77].Message[1] ^= 1
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i, ok := range v.Verify(items[g*10:]) {
				if ok != (i+g*10 != 77) {
					t.Errorf("goroutine %d: item %d is %v", g, i, ok)
				}
			}
		})
	}
	wg.Wait()
	if n := v.keys.len(); n != 30 {
		t.Errorf("%d keys kept, want 30", n)
	}
}

func TestShare(t *testing.T) {
	for _, p := range []int{1, 2, 3, 8} {
		for n := range 20000 {
			size, count := share(n, p)
			if size < 1 || size > maxSlice || count*size < n || n > 0 && (count-1)*size >= n {
				t.Fatalf("share(%d, %d) = %d, %d", n, p, size, count)
			}
		}
	}
}

// FuzzVerify compares Verify with Single on a batch made from the input: some
// ordinary signatures and as many items as the bytes give.
func FuzzVerify(f *testing.F) {
	good := signedItems(f, 12, 6, 2, 10)
	for _, it := range good {
		f.Add(append(append(append([]byte{1}, it.Key[:]...), it.Signature...), it.Message...), uint8(10))
	}
	for _, enc := range smallOrderEncodings(f) {
		b := append(append([]byte{0}, enc[:]...), enc[:]...)
		f.Add(append(b, make([]byte, 32)...), uint8(0))
	}
	v := New(Config{Parallel: 1, KeyCache: 64})
	f.Fuzz(func(t *testing.T, data []byte, msgLen uint8) {
		items := clone(good)
		for len(data) > 0 && len(items) < 40 {
			control := data[0]
			data = data[1:]
			var it Item
			data = data[copy(it.Key[:], data):]
			if control&1 == 1 {
				it.Key = good[int(control>>1)%len(good)].Key
			}
			take := func(n int) []byte {
				n = min(n, len(data))
				b := data[:n]
				data = data[n:]
				return b
			}
			it.Signature = take(SignatureSize)
			it.Message = take(int(msgLen))
			items = append(items, it)
		}
		for i, ok := range v.Verify(items) {
			if want := Single(items[i].Key, items[i].Message, items[i].Signature); ok != want {
				t.Fatalf("item %d is %v, Single says %v", i, ok, want)
			}
			if want := reference(items[i]); ok != want {
				t.Fatalf("item %d is %v, reference says %v", i, ok, want)
			}
		}
	})
}
