package ledger

import (
	"crypto/sha256"
	"fmt"
	"slices"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/zhenglian/zhenglian/evidence"
)

// hasher computes leaf and node hashes of RFC 6962 §2.1 into blocks of memory,
// because one allocation a hash would cost as much as the hashing.
type hasher struct {
	block []byte // unused rest of the current block
}

const hasherBlock = 1 << 16

// newHasher makes room for n hashes at first, up to one block.
func newHasher(n int) *hasher {
	return &hasher{block: make([]byte, min(n*hashSize, hasherBlock))}
}

func (h *hasher) keep(sum [hashSize]byte) []byte {
	if len(h.block) < hashSize {
		h.block = make([]byte, hasherBlock)
	}
	out := h.block[:hashSize:hashSize]
	h.block = h.block[hashSize:]
	copy(out, sum[:])
	return out
}

func (h *hasher) leaf(entry []byte) []byte { return h.keep(leafHash(entry)) }

func (h *hasher) node(left, right []byte) []byte {
	var b [1 + 2*hashSize]byte
	b[0] = rfc6962.RFC6962NodeHashPrefix
	copy(b[1:], left)
	copy(b[1+hashSize:], right)
	return h.keep(sha256.Sum256(b[:]))
}

func leafHash(entry []byte) [hashSize]byte {
	var b [1 + hashSize]byte
	b[0] = rfc6962.RFC6962LeafHashPrefix
	copy(b[1:], entry)
	return sha256.Sum256(b[:])
}

// grower extends a tree entry by entry and reports each hash that belongs into
// a hashes file, lower levels first, each level in order.
type grower struct {
	hash  *hasher
	tree  *compact.Range
	visit compact.VisitFn
}

// newGrower starts at size with the given spine (which stays unchanged), with
// room for n hashes.
func newGrower(size uint64, spine [][]byte, n int, complete func(level int, index uint64, hash []byte)) (*grower, error) {
	g := &grower{hash: newHasher(n)}
	factory := &compact.RangeFactory{Hash: g.hash.node}
	tree, err := factory.NewRange(0, size, slices.Clone(spine))
	if err != nil {
		return nil, fmt.Errorf("continuing the tree at %d: %w", size, err)
	}
	g.tree = tree
	g.visit = func(id compact.NodeID, hash []byte) {
		if id.Level > 0 && id.Level%8 == 0 {
			complete(int(id.Level/8), id.Index, hash)
		}
	}
	return g, nil
}

// append adds entries, 32 bytes each.
func (g *grower) append(entries []byte) error {
	for entry := range slices.Chunk(entries, hashSize) {
		if err := g.tree.Append(g.hash.leaf(entry), g.visit); err != nil {
			return fmt.Errorf("adding entry %d to the tree: %w", g.tree.End(), err)
		}
	}
	return nil
}

func (g *grower) root() (evidence.Digest, error) { return rangeRoot(g.tree) }

func (g *grower) state(levels []file) (*state, error) {
	root, err := g.root()
	if err != nil {
		return nil, err
	}
	// The spine is copied so that it does not keep whole blocks in memory.
	spine := make([][]byte, 0, len(g.tree.Hashes()))
	for _, h := range g.tree.Hashes() {
		spine = append(spine, slices.Clone(h))
	}
	return &state{size: g.tree.End(), root: root, spine: spine, levels: levels}, nil
}

func rangeRoot(tree *compact.Range) (evidence.Digest, error) {
	if tree.End() == 0 {
		return evidence.Digest(rfc6962.DefaultHasher.EmptyRoot()), nil
	}
	root, err := tree.GetRootHash(nil)
	if err != nil {
		return evidence.Digest{}, fmt.Errorf("computing the root of %d entries: %w", tree.End(), err)
	}
	return evidence.Digest(root), nil
}

// subtree returns the root over the hashes of a tile, 32 bytes each, and puts
// all nodes of complete subtrees into nodes, unless it is nil.
func subtree(hashes []byte, nodes *tileNodes) ([]byte, error) {
	h := newHasher(len(hashes) / hashSize) // a tree has one node less than leaves
	tree := (&compact.RangeFactory{Hash: h.node}).NewEmptyRange(0)
	var visit compact.VisitFn
	if nodes != nil {
		visit = func(id compact.NodeID, hash []byte) { copy(nodes.node(id.Level, id.Index), hash) }
	}
	for hash := range slices.Chunk(hashes, hashSize) {
		if err := tree.Append(hash, visit); err != nil {
			return nil, fmt.Errorf("hashing a tile: %w", err)
		}
	}
	return tree.GetRootHash(nil)
}
