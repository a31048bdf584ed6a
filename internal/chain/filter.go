package chain

import (
	"context"
	"encoding/binary"
	"sync"

	"github.com/zhenglian/zhenglian/evidence"
)

// idFilter says of most statement IDs that they are not in the log, without a
// look into the index: nearly every deposit is new, and finding nothing in an
// ordered store costs more than verifying a tenth of a signature. It is a chain
// of blocked Bloom filters, each twice the one before, 12 bits an ID.
//
// It is filled from the index in the background after a start; until then it
// knows nothing and every look goes to the index. Being wrong one way costs
// such a look; it is never wrong the other way, because an ID is added before
// the block that registers it is committed.
type idFilter struct {
	mu    sync.RWMutex
	gens  []blockedBloom
	ready bool
}

// blockedBloom has blocks of 512 bits; an ID sets seven bits in one block.
type blockedBloom struct {
	blocks [][8]uint64
	n, max uint64
}

const (
	filterBits  = 12
	filterFirst = 1 << 20 // IDs of the first filter: 1.5 MB
	filterLast  = 1 << 27 // IDs of the largest: 200 MB, at 20,000 a second for two hours
)

func newBloom(max uint64) blockedBloom {
	return blockedBloom{blocks: make([][8]uint64, max*filterBits/512), max: max}
}

// place returns the block and the bits of an ID, which is a digest and so
// already random.
func (b *blockedBloom) place(id []byte) (*[8]uint64, uint64) {
	return &b.blocks[binary.LittleEndian.Uint64(id)%uint64(len(b.blocks))], binary.LittleEndian.Uint64(id[8:])
}

func (b *blockedBloom) has(id []byte) bool {
	block, bits := b.place(id)
	for range 7 {
		if block[bits>>6&7]&(1<<(bits&63)) == 0 {
			return false
		}
		bits >>= 9
	}
	return true
}

func (b *blockedBloom) add(id []byte) {
	block, bits := b.place(id)
	for range 7 {
		block[bits>>6&7] |= 1 << (bits & 63)
		bits >>= 9
	}
	b.n++
}

// mayHave reports false only for IDs that are not in the log.
func (f *idFilter) mayHave(id evidence.Digest) bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if !f.ready {
		return true
	}
	for i := range f.gens {
		if f.gens[i].has(id[:prefixLen]) {
			return true
		}
	}
	return false
}

// add notes the first prefixLen bytes of IDs.
func (f *idFilter) add(ids [][prefixLen]byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range ids {
		last := len(f.gens) - 1
		if last < 0 || f.gens[last].n >= f.gens[last].max {
			max := uint64(filterFirst)
			if last >= 0 {
				max = min(2*f.gens[last].max, filterLast)
			}
			f.gens = append(f.gens, newBloom(max))
			last++
		}
		f.gens[last].add(ids[i][:])
	}
}

// fill adds every ID of the index, then makes the filter answer. Blocks that
// commit meanwhile add theirs themselves.
func (f *idFilter) fill(ctx context.Context, x *index) error {
	var page [][prefixLen]byte
	err := x.scan([]byte{'i'}, []byte{'i' + 1}, func(k, _ []byte) (bool, error) {
		page = append(page, [prefixLen]byte(k[1:]))
		if len(page) == 4096 {
			f.add(page)
			page = page[:0]
		}
		return ctx.Err() == nil, nil
	})
	if err != nil || ctx.Err() != nil {
		return err
	}
	f.add(page)
	f.mu.Lock()
	f.ready = true
	f.mu.Unlock()
	return nil
}
