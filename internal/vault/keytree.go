package vault

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/bits"
)

const (
	// ChunkSize is the plaintext of every chunk but the last, in bytes.
	ChunkSize = 1 << 20
	// Depth of the key tree. It is fixed, so that a stream of unknown length
	// can be sealed as it comes; a smaller object uses the tree's left edge,
	// and the nodes over a range are the same ones whatever the object's size.
	Depth = 32
	// MaxChunks leaves the root itself out of every disclosure: 4 PiB less 1 MiB.
	MaxChunks = 1<<Depth - 1
	// MaxSize is the largest object, in bytes.
	MaxSize = MaxChunks * ChunkSize

	keySize = 32
	tagSize = 16 // AES-GCM's
	sealed1 = ChunkSize + tagSize
)

// HKDF-Expand info strings (RFC 5869 §2.3). Every key in the tree is uniform
// already, so Extract is left out, as §3.3 allows.
const (
	infoLeft  = "zhenglian/vault/v1 left"
	infoRight = "zhenglian/vault/v1 right"
	infoChunk = "zhenglian/vault/v1 chunk"
	infoSalt  = "zhenglian/vault/v1 salt"
	infoHead  = "zhenglian/vault/v1 head"
)

type key [keySize]byte

func expand(k key, info string) (out key, err error) {
	b, err := hkdf.Expand(sha256.New, k[:], info, keySize)
	if err != nil {
		return out, fmt.Errorf("deriving %q: %w", info, err)
	}
	copy(out[:], b)
	return out, nil
}

// keyNode is the key of one node. Height 0 is a chunk's, Depth the root's; it
// covers chunks [index<<height, (index+1)<<height).
type keyNode struct {
	height uint
	index  uint64
	key    key
}

// keyPath derives keys under one node and remembers the path to the last one,
// so that reading in order costs two derivations a chunk, not one a level.
// Not for concurrent use.
type keyPath struct {
	top   keyNode
	path  [Depth + 1]key // path[h] is the last key's ancestor at height h
	last  uint64
	valid bool
}

// node returns the key at the place, which must lie under the top node.
func (p *keyPath) node(height uint, index uint64) (key, error) {
	if height > p.top.height || index>>(p.top.height-height) != p.top.index {
		return key{}, fmt.Errorf("key node %d.%d is not under the disclosed node %d.%d", height, index, p.top.height, p.top.index)
	}
	at := index << height // the leftmost chunk under it
	from := p.top.height
	if p.valid {
		// The paths to last and at part one below the highest differing bit.
		from = min(from, uint(bits.Len64(at^p.last)))
	}
	if !p.valid {
		p.path[p.top.height] = p.top.key
	}
	p.valid = false // until the path is whole again
	for h := from; h > 0; h-- {
		info := infoLeft
		if at>>(h-1)&1 == 1 {
			info = infoRight
		}
		k, err := expand(p.path[h], info)
		if err != nil {
			return key{}, err
		}
		p.path[h-1] = k
	}
	p.last, p.valid = at, true
	return p.path[height], nil
}

// keySource gives chunk keys from the nodes of a disjoint, ordered cover.
type keySource struct {
	nodes []keyNode
	path  keyPath
}

func rootSource(root key) *keySource {
	return &keySource{nodes: []keyNode{{height: Depth, key: root}}}
}

// chunkKeys are what one chunk needs.
type chunkKeys struct {
	aead cipher.AEAD
	salt key
}

func (s *keySource) chunk(i uint64) (chunkKeys, error) {
	for _, n := range s.nodes {
		if i>>n.height != n.index {
			continue
		}
		if s.path.top != n {
			s.path = keyPath{top: n}
		}
		leaf, err := s.path.node(0, i)
		if err != nil {
			return chunkKeys{}, err
		}
		return leafKeys(leaf)
	}
	return chunkKeys{}, fmt.Errorf("no key for chunk %d: it is outside the disclosed range", i)
}

func leafKeys(leaf key) (chunkKeys, error) {
	k, err := expand(leaf, infoChunk)
	if err != nil {
		return chunkKeys{}, err
	}
	salt, err := expand(leaf, infoSalt)
	if err != nil {
		return chunkKeys{}, err
	}
	block, err := aes.NewCipher(k[:])
	if err != nil {
		return chunkKeys{}, err
	}
	aead, err := cipher.NewGCM(block)
	return chunkKeys{aead, salt}, err
}

// chunkNonce and chunkData are AES-GCM's nonce and associated data. A chunk key
// seals one chunk once (the root key is fresh for each object), so the nonce
// may be zero.
func chunkNonce() []byte { return make([]byte, 12) }

func chunkData(i uint64) []byte { return binary.BigEndian.AppendUint64(nil, i) }

// chunkCount is how many chunks hold size bytes; none for an empty object.
func chunkCount(size int64) uint64 { return (uint64(size) + ChunkSize - 1) / ChunkSize }

// chunkLen is the plaintext length of chunk i of an object of size bytes.
func chunkLen(size int64, i uint64) int {
	return int(min(ChunkSize, size-int64(i)*ChunkSize))
}

// dataLen is the length of a data blob: sealed chunks, then two leaf tables.
func dataLen(size int64) int64 { return tableOffset(size) + int64(chunkCount(size))*2*32 }

func tableOffset(size int64) int64 { return size + int64(chunkCount(size))*tagSize }
