// Package sigbatch verifies many Ed25519 signatures at once under the rules of
// ZIP 215, so that a node can check every statement itself at the rate at
// which batches of statements arrive.
//
//	items ──cut──▶ slices of at most 4096, spread over Parallel goroutines
//	slice: lengths, S < L, keys from the cache or decoded, R decoded, k = SHA-512(R‖A‖M)
//	       draw z_i, add up z_i·k_i per key ──▶ one multiscalar multiplication
//	       [8](Σ[z_i]R_i + Σ_A[Σ z_i·k_i]A − [Σ z_i·S_i]B) = 0 ? all valid
//	       else: quarter the slice until the bad ones are alone, within a budget
//
// The rule is one for single and batch alike (ZIP 215): S is canonical
// (0 ≤ S < L), A and R are any encodings that decode to a curve point,
// non-canonical ones and small orders included, and the equation is the
// cofactored [8][S]B = [8]R + [8][k]A, where k hashes the encodings as they
// came. A cofactorless check, such as the standard library's, disagrees on
// signatures that only the key's own holder can make; nodes that mix the two
// rules can disagree on a block.
//
// Trusted: crypto/rand (whoever predicts the z_i can make invalid signatures
// pass together) and the curve arithmetic of curve25519-voi. Not trusted:
// keys, messages and signatures; whoever chooses them all can cost this
// package about twice the time of checking each signature alone, and nothing
// else.
package sigbatch

import (
	"runtime"
	"sync"
	"sync/atomic"
)

const (
	// KeySize and SignatureSize are the lengths in bytes of an Ed25519 public
	// key and of a signature (RFC 8032 §5.1.5, §5.1.6).
	KeySize       = 32
	SignatureSize = 64

	// DefaultKeyCache is the number of decoded keys kept when Config.KeyCache
	// is 0. A kept key takes about 300 bytes.
	DefaultKeyCache = 1 << 14

	// maxSlice is the number of signatures in one multiscalar multiplication.
	// The multiplication has a fixed cost of some 8,400 point additions
	// whatever its size, so larger is cheaper per signature. From 4096 to 8192
	// the gain measured was under 2 %, while one bad signature spoils twice
	// as many.
	maxSlice = 4096

	// minShare is the least number of signatures worth a goroutine of their
	// own: a sum over fewer costs half as much again per signature.
	minShare = 128
)

// Item is one signature to check. Message is the whole byte string that was
// signed (no prehash). A Signature that is not 64 bytes long is invalid, not an
// error.
type Item struct {
	Key                [KeySize]byte
	Message, Signature []byte
}

// Config sizes a Verifier. The zero value works.
type Config struct {
	// KeyCache is the greatest number of decoded public keys to keep;
	// 0 means DefaultKeyCache, a negative number means none.
	KeyCache int
	// Parallel is the greatest number of goroutines one Verify call computes
	// in; 0 or less means one per processor Go may use.
	Parallel int
}

// Verifier checks batches of signatures. It may be used from several
// goroutines at once; they share its cache of keys.
type Verifier struct {
	parallel int
	keys     *keyCache
	scratch  sync.Pool // of *slice
}

// New returns a Verifier with an empty key cache.
func New(c Config) *Verifier {
	if c.KeyCache == 0 {
		c.KeyCache = DefaultKeyCache
	}
	if c.Parallel <= 0 {
		c.Parallel = runtime.GOMAXPROCS(0)
	}
	v := &Verifier{parallel: c.Parallel, keys: newKeyCache(c.KeyCache)}
	v.scratch.New = func() any { return newSlice() }
	return v
}

// Verify checks every item and returns as many results, in order: result i is
// what Single says of item i. A valid signature is never refused; an invalid
// one passes, whatever its neighbours, with probability at most 2^-125 over
// this call's random numbers. Verify keeps no reference to the items and
// returns after all its goroutines have ended.
func (v *Verifier) Verify(items []Item) []bool {
	ok := make([]bool, len(items))
	size, count := share(len(items), v.parallel)
	workers := min(count, v.parallel)
	if workers <= 1 {
		for lo := 0; lo < len(items); lo += size {
			hi := min(lo+size, len(items))
			v.verifySlice(items[lo:hi], ok[lo:hi])
		}
		return ok
	}

	var next atomic.Int64
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for {
				lo := (int(next.Add(1)) - 1) * size
				if lo >= len(items) {
					return
				}
				hi := min(lo+size, len(items))
				v.verifySlice(items[lo:hi], ok[lo:hi])
			}
		})
	}
	wg.Wait()
	return ok
}

// share says how to cut n items for p goroutines: into count slices of at most
// size items, equal but for the last, and a multiple of p of them where n
// allows, so that no goroutine idles while another does a whole slice.
func share(n, p int) (size, count int) {
	if n == 0 {
		return 1, 0
	}
	p = max(1, min(p, n/minShare))
	rounds := (n + p*maxSlice - 1) / (p * maxSlice)
	size = (n + p*rounds - 1) / (p * rounds)
	return size, (n + size - 1) / size
}

func (v *Verifier) verifySlice(items []Item, ok []bool) {
	s := v.scratch.Get().(*slice)
	s.verify(v.keys, items, ok)
	s.release()
	v.scratch.Put(s)
}
