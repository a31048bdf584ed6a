package sigbatch

import (
	"crypto/sha512"
	"hash"

	"github.com/oasisprotocol/curve25519-voi/curve"
	"github.com/oasisprotocol/curve25519-voi/curve/scalar"
)

// Single reports whether sig is a signature of msg under key by the rules of
// ZIP 215. It is the meaning of a result of Verify, computed for one
// signature, without randomness and without a cache.
func Single(key [KeySize]byte, msg, sig []byte) bool {
	if !wellFormed(sig) {
		return false
	}
	var a, r curve.EdwardsPoint
	if !decodePoint(&a, key[:]) || !decodePoint(&r, sig[:32]) {
		return false
	}
	var s, k scalar.Scalar
	if _, err := s.SetBits(sig[32:]); err != nil {
		return false
	}
	var digest [sha512.Size]byte
	challenge(&k, sha512.New(), &digest, &key, msg, sig)
	return equationHolds(&a, &r, &s, &k)
}

// wellFormed checks all that needs no arithmetic: the length, and S < L
// (RFC 8032 §5.1.7, ZIP 215).
func wellFormed(sig []byte) bool {
	return len(sig) == SignatureSize && scalar.ScMinimalVartime(sig[32:])
}

// decodePoint decodes an encoding by ZIP 215: the y-coordinate is taken modulo
// p and need not be below it, and x = 0 may carry a sign bit of 1.
func decodePoint(p *curve.EdwardsPoint, enc []byte) bool {
	var c curve.CompressedEdwardsY
	copy(c[:], enc)
	_, err := p.SetCompressedY(&c)
	return err == nil
}

// challenge sets k = SHA-512(R ‖ A ‖ M) mod L over the encodings as received
// (RFC 8032 §5.1.7). The caller lends the hash and the digest's memory.
func challenge(k *scalar.Scalar, h hash.Hash, digest *[sha512.Size]byte, key *[KeySize]byte, msg, sig []byte) {
	h.Reset()
	h.Write(sig[:32])
	h.Write(key[:])
	h.Write(msg)
	h.Sum(digest[:0])
	// The only error is a wrong length, which the type of digest excludes.
	_, _ = k.SetBytesModOrderWide(digest[:])
}

// equationHolds checks [8]([S]B − R − [k]A) = 0.
func equationHolds(a, r *curve.EdwardsPoint, s, k *scalar.Scalar) bool {
	var negA, diff curve.EdwardsPoint
	negA.Neg(a)
	// The result is a multiple of the difference by a number invertible modulo
	// L; a point is of small order exactly when that multiple of it is.
	return diff.TripleScalarMulBasepointVartime(k, &negA, s, r).IsSmallOrder()
}
