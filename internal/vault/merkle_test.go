package vault

import (
	"crypto/sha256"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/zhenglian/zhenglian/evidence"
)

// mth is RFC 6962 §2.1 as it is written, over leaf hashes.
func mth(leaves []evidence.Digest) evidence.Digest {
	switch n := len(leaves); n {
	case 0:
		return sha256.Sum256(nil)
	case 1:
		return leaves[0]
	default:
		k := 1
		for k*2 < n {
			k *= 2
		}
		l, r := mth(leaves[:k]), mth(leaves[k:])
		return sha256.Sum256(slices.Concat([]byte{1}, l[:], r[:]))
	}
}

func TestRangeProof(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 300).Draw(t, "leaves")
		leaves := make([]evidence.Digest, n)
		for i := range leaves {
			leaves[i] = sha256.Sum256([]byte{byte(i), byte(i >> 8)})
		}
		root, err := merkleRoot(leaves)
		if err != nil || root != mth(leaves) {
			t.Fatalf("root of %d leaves differs from RFC 6962 §2.1: %v", n, err)
		}
		begin := rapid.IntRange(0, n-1).Draw(t, "begin")
		end := rapid.IntRange(begin+1, n).Draw(t, "end")
		left, right, err := rangeProof(leaves, uint64(begin), uint64(end))
		if err != nil {
			t.Fatal(err)
		}
		got, err := rangeProofRoot(uint64(n), uint64(begin), leaves[begin:end], left, right)
		if err != nil || got != root {
			t.Fatalf("proof of [%d, %d) of %d gives another root: %v", begin, end, n, err)
		}
		// One leaf changed gives another root.
		part := slices.Clone(leaves[begin:end])
		part[rapid.IntRange(0, len(part)-1).Draw(t, "changed")][0] ^= 1
		if got, err := rangeProofRoot(uint64(n), uint64(begin), part, left, right); err == nil && got == root {
			t.Fatal("a changed leaf gives the same root")
		}
	})
	if root, err := merkleRoot(nil); err != nil || root != sha256.Sum256(nil) {
		t.Errorf("root of no leaves is %s, %v", root, err)
	}
}

func TestKeyPathRefusesWhatIsNotUnderIt(t *testing.T) {
	whole := keyPath{top: keyNode{height: Depth, key: vectorRoot()}}
	k, err := whole.node(2, 3) // chunks 12 to 15
	if err != nil {
		t.Fatal(err)
	}
	part := &keySource{nodes: []keyNode{{2, 3, k}}}
	for i := range uint64(20) {
		_, err := part.chunk(i)
		if inside := i >= 12 && i < 16; inside != (err == nil) {
			t.Errorf("chunk %d: %v", i, err)
		}
	}
}
