package vault

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/emmansun/gmsm/sm3"

	"github.com/zhenglian/zhenglian/evidence"
)

// inFlight chunks bound the memory of one Put: 2 MiB each. Four keep the three
// workers and the writer busy.
const inFlight = 4

// work is one chunk on its way through the workers.
type work struct {
	index         uint64
	plain, sealed []byte
	plainLeaf     evidence.Digest
	cipherLeaf    evidence.Digest
	err           error
	wait          sync.WaitGroup // SHA-256, SM3, sealing
}

// seal reads r to its end and writes a data blob: sealed chunks, then the leaf
// tables. Memory is constant but for 64 bytes a chunk. Before the tables,
// hashed is told the finished object and may stop the writing with an error.
//
//	r → reader ─┬→ SHA-256 ──────────────────┐
//	            ├→ SM3 (the slowest) ────────┼→ writer, in order → w
//	            └→ leaf, AES-GCM, leaf ──────┘
func seal(ctx context.Context, r io.Reader, root key, w io.Writer, progress func(n int64), hashed func(Object) error) (Object, error) {
	ctx, cancel := context.WithCancel(ctx)
	var workers sync.WaitGroup
	defer workers.Wait()
	defer cancel()

	// Every channel holds all work there is, so that no worker blocks on one.
	free := make(chan *work, inFlight)
	toSHA, toSM3, toSeal, order := make(chan *work, inFlight), make(chan *work, inFlight), make(chan *work, inFlight), make(chan *work, inFlight)
	var readErr error // written before order is closed, read after

	workers.Go(func() {
		defer close(order)
		defer close(toSeal)
		defer close(toSM3)
		defer close(toSHA)
		for i := uint64(0); ; i++ {
			var c *work
			if i < inFlight {
				c = new(work)
			} else {
				select {
				case c = <-free:
				case <-ctx.Done():
				}
			}
			if readErr = ctx.Err(); readErr != nil {
				return
			}
			last, err := c.fill(r)
			if err != nil {
				readErr = fmt.Errorf("reading plaintext of chunk %d: %w", i, err)
				return
			}
			if len(c.plain) > 0 {
				if i >= MaxChunks {
					readErr = fmt.Errorf("plaintext is longer than the limit of %d bytes", uint64(MaxSize))
					return
				}
				c.index = i
				c.wait.Add(3)
				toSHA <- c
				toSM3 <- c
				toSeal <- c
				order <- c
			}
			if last {
				return
			}
		}
	})
	sha, sm := sha256.New(), sm3.New()
	workers.Go(func() {
		for c := range toSHA {
			sha.Write(c.plain)
			c.wait.Done()
		}
	})
	workers.Go(func() {
		for c := range toSM3 {
			sm.Write(c.plain)
			c.wait.Done()
		}
	})
	workers.Go(func() {
		keys := rootSource(root)
		for c := range toSeal {
			c.err = c.seal(keys)
			c.wait.Done()
		}
	})

	var o Object
	var plainLeaves, cipherLeaves []evidence.Digest
	for c := range order {
		c.wait.Wait()
		if c.err != nil {
			return o, fmt.Errorf("sealing chunk %d: %w", c.index, c.err)
		}
		if _, err := w.Write(c.sealed); err != nil {
			return o, fmt.Errorf("writing chunk %d: %w", c.index, err)
		}
		plainLeaves = append(plainLeaves, c.plainLeaf)
		cipherLeaves = append(cipherLeaves, c.cipherLeaf)
		o.Size += int64(len(c.plain))
		o.Chunks++
		if progress != nil {
			progress(o.Size)
		}
		free <- c
	}
	if readErr != nil {
		return o, readErr
	}
	// Each chunk was waited for, so both hashes have seen all of them.
	sha.Sum(o.SHA256[:0])
	sm.Sum(o.SM3[:0])
	var err error
	if o.PlaintextRoot, err = merkleRoot(plainLeaves); err != nil {
		return o, err
	}
	if o.CiphertextRoot, err = merkleRoot(cipherLeaves); err != nil {
		return o, err
	}
	if err := hashed(o); err != nil {
		return o, err
	}
	table := make([]byte, 0, 64*len(plainLeaves))
	for _, leaves := range [][]evidence.Digest{plainLeaves, cipherLeaves} {
		for i := range leaves {
			table = append(table, leaves[i][:]...)
		}
	}
	if _, err := w.Write(table); err != nil {
		return o, fmt.Errorf("writing leaf tables: %w", err)
	}
	return o, nil
}

// fill reads one chunk. It is not io.ReadFull, whose ErrUnexpectedEOF a cut-off
// upload also gives: taking that for the end would deposit half a file.
func (c *work) fill(r io.Reader) (last bool, err error) {
	const start = 64 << 10 // most manifests and records fit
	c.plain = slices.Grow(c.plain[:0], start)
	empty := 0
	for len(c.plain) < ChunkSize {
		if len(c.plain) == cap(c.plain) {
			c.plain = slices.Grow(c.plain, ChunkSize-len(c.plain))
		}
		n, err := r.Read(c.plain[len(c.plain):min(cap(c.plain), ChunkSize)])
		c.plain = c.plain[:len(c.plain)+n]
		if err == io.EOF {
			return true, nil
		} else if err != nil {
			return false, err
		}
		if n > 0 {
			empty = 0
		} else if empty++; empty == 100 {
			return false, io.ErrNoProgress
		}
	}
	return false, nil
}

func (c *work) seal(keys *keySource) error {
	k, err := keys.chunk(c.index)
	if err != nil {
		return err
	}
	c.plainLeaf = plainLeaf(k.salt, c.plain)
	c.sealed = k.aead.Seal(slices.Grow(c.sealed[:0], len(c.plain)+tagSize), chunkNonce(), c.plain, chunkData(c.index))
	c.cipherLeaf = cipherLeaf(c.sealed)
	return nil
}
