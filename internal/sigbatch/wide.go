package sigbatch

import (
	"encoding/binary"
	"math/bits"

	"github.com/oasisprotocol/curve25519-voi/curve/scalar"
)

// wide is a sum of products z·x with z < 2^128 and x < 2^256, not reduced, in
// little-endian words. 2^64 products fit in its 448 bits. Adding integers and
// reducing modulo L once per key spares a multiplication and an addition
// modulo L for every signature.
type wide [7]uint64

// addMul adds z·x to w.
func (w *wide) addMul(z *[2]uint64, x *[4]uint64) {
	var c uint64

	// x·z[0], aligned at word 0.
	h0, l0 := bits.Mul64(x[0], z[0])
	h1, l1 := bits.Mul64(x[1], z[0])
	h2, l2 := bits.Mul64(x[2], z[0])
	h3, l3 := bits.Mul64(x[3], z[0])
	l1, c = bits.Add64(l1, h0, 0)
	l2, c = bits.Add64(l2, h1, c)
	l3, c = bits.Add64(l3, h2, c)
	h3 += c
	w[0], c = bits.Add64(w[0], l0, 0)
	w[1], c = bits.Add64(w[1], l1, c)
	w[2], c = bits.Add64(w[2], l2, c)
	w[3], c = bits.Add64(w[3], l3, c)
	w[4], c = bits.Add64(w[4], h3, c)
	w[5], c = bits.Add64(w[5], 0, c)
	w[6] += c

	// x·z[1], aligned at word 1.
	h0, l0 = bits.Mul64(x[0], z[1])
	h1, l1 = bits.Mul64(x[1], z[1])
	h2, l2 = bits.Mul64(x[2], z[1])
	h3, l3 = bits.Mul64(x[3], z[1])
	l1, c = bits.Add64(l1, h0, 0)
	l2, c = bits.Add64(l2, h1, c)
	l3, c = bits.Add64(l3, h2, c)
	h3 += c
	w[1], c = bits.Add64(w[1], l0, 0)
	w[2], c = bits.Add64(w[2], l1, c)
	w[3], c = bits.Add64(w[3], l2, c)
	w[4], c = bits.Add64(w[4], l3, c)
	w[5], c = bits.Add64(w[5], h3, c)
	w[6] += c
}

// modL sets s to w mod L.
func (w *wide) modL(s *scalar.Scalar) {
	var b [scalar.ScalarWideSize]byte
	for i, word := range w {
		binary.LittleEndian.PutUint64(b[8*i:], word)
	}
	// The only error is a wrong length, which the type of b excludes.
	_, _ = s.SetBytesModOrderWide(b[:])
}

// words reads the 32 bytes of b as a little-endian number.
func words(b []byte) [4]uint64 {
	return [4]uint64{
		binary.LittleEndian.Uint64(b[0:]),
		binary.LittleEndian.Uint64(b[8:]),
		binary.LittleEndian.Uint64(b[16:]),
		binary.LittleEndian.Uint64(b[24:]),
	}
}
