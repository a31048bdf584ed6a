package vault

import (
	"crypto/sha256"
	"fmt"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/zhenglian/zhenglian/evidence"
)

// plainLeaf is RFC 6962 §2.1's leaf hash of salt ‖ plaintext. The salt comes
// from the chunk's key: who holds a neighbour's leaf hash from a proof cannot
// test a guess of its content.
func plainLeaf(salt key, plain []byte) (d evidence.Digest) {
	h := sha256.New()
	h.Write([]byte{rfc6962.RFC6962LeafHashPrefix})
	h.Write(salt[:])
	h.Write(plain)
	h.Sum(d[:0])
	return d
}

// cipherLeaf is RFC 6962 §2.1's leaf hash of a sealed chunk.
func cipherLeaf(sealed []byte) (d evidence.Digest) {
	h := sha256.New()
	h.Write([]byte{rfc6962.RFC6962LeafHashPrefix})
	h.Write(sealed)
	h.Sum(d[:0])
	return d
}

func newTree() *compact.RangeFactory {
	return &compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}
}

func appendLeaves(r *compact.Range, leaves []evidence.Digest) error {
	for i := range leaves {
		if err := r.Append(leaves[i][:], nil); err != nil {
			return fmt.Errorf("hashing Merkle tree: %w", err)
		}
	}
	return nil
}

// merkleRoot is RFC 6962 §2.1's MTH; SHA-256 of nothing for no leaves.
func merkleRoot(leaves []evidence.Digest) (d evidence.Digest, err error) {
	r := newTree().NewEmptyRange(0)
	if err := appendLeaves(r, leaves); err != nil {
		return d, err
	}
	return rangeRoot(r)
}

func rangeRoot(r *compact.Range) (d evidence.Digest, err error) {
	b, err := r.GetRootHash(nil)
	if err != nil {
		return d, fmt.Errorf("hashing Merkle tree: %w", err)
	}
	if b == nil {
		b = rfc6962.DefaultHasher.EmptyRoot()
	}
	copy(d[:], b)
	return d, nil
}

// rangeProof returns the hashes of the perfect subtrees left and right of
// leaves [begin, end), each list from left to right.
func rangeProof(leaves []evidence.Digest, begin, end uint64) (left, right []evidence.Digest, err error) {
	tree := newTree()
	l, r := tree.NewEmptyRange(0), tree.NewEmptyRange(end)
	if err := appendLeaves(l, leaves[:begin]); err != nil {
		return nil, nil, err
	}
	if err := appendLeaves(r, leaves[end:]); err != nil {
		return nil, nil, err
	}
	return digests(l.Hashes()), digests(r.Hashes()), nil
}

// rangeProofRoot returns the root that the leaves from begin on give with the proof, in a
// tree of size leaves.
func rangeProofRoot(size, begin uint64, leaves, left, right []evidence.Digest) (d evidence.Digest, err error) {
	tree := newTree()
	end := begin + uint64(len(leaves))
	whole, err := tree.NewRange(0, begin, slicesOf(left))
	if err != nil {
		return d, fmt.Errorf("proof left of the range: %w", err)
	}
	if err := appendLeaves(whole, leaves); err != nil {
		return d, err
	}
	rest, err := tree.NewRange(end, size, slicesOf(right))
	if err != nil {
		return d, fmt.Errorf("proof right of the range: %w", err)
	}
	if err := whole.AppendRange(rest, nil); err != nil {
		return d, fmt.Errorf("joining proof: %w", err)
	}
	return rangeRoot(whole)
}

func digests(b [][]byte) []evidence.Digest {
	out := make([]evidence.Digest, len(b))
	for i := range b {
		copy(out[i][:], b[i])
	}
	return out
}

func slicesOf(d []evidence.Digest) [][]byte {
	out := make([][]byte, len(d))
	for i := range d {
		out[i] = d[i][:]
	}
	return out
}
