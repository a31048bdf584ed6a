package vault

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"filippo.io/age"
	"github.com/emmansun/gmsm/sm3"

	"github.com/zhenglian/zhenglian/evidence"
)

// Content is the decrypted content of an object, or of a disclosed range of
// one. Every byte it gives was authenticated by its chunk and against the
// plaintext root; an error is a *DamagedError that names the chunk. ReadAt may
// be called in parallel, and calls wait for each other.
type Content struct {
	*io.SectionReader // Read, ReadAt, Seek, Size; the range's first byte is at 0
	object            Object
	start             int64
}

// Object returns the object the content belongs to. From Open and OpenObject
// all of it is proven. From Disclosure.Open it is what the caller wanted, of
// which SHA256, Size and PlaintextRoot were compared with the disclosure's and
// the range proven to lie under PlaintextRoot; no range proves the digests of
// the whole.
func (c *Content) Object() Object { return c.object }

// Start returns where in the object the content begins, in bytes.
func (c *Content) Start() int64 { return c.start }

// unsealer opens and checks the chunks [first, first+count) of an object.
type unsealer struct {
	digest evidence.Digest
	size   int64
	first  uint64
	count  uint64
	leaves []evidence.Digest // of those chunks, proven; what is read must match
	// fetch returns the sealed bytes of n chunks from chunk i on.
	fetch func(i, n uint64) (io.ReadCloser, error)

	mu     sync.Mutex // guards what follows
	keys   *keySource
	sealed []byte
	plain  []byte // the last chunk opened
	at     uint64
	held   bool // plain is chunk at
}

// open decrypts sealed, which is chunk i, into u.plain and returns its leaf.
func (u *unsealer) open(i uint64, sealed []byte) (leaf evidence.Digest, err error) {
	u.held = false
	k, err := u.keys.chunk(i)
	if err != nil {
		return leaf, fmt.Errorf("object %s: %w", u.digest, err)
	}
	u.plain, err = k.aead.Open(u.plain[:0], chunkNonce(), sealed, chunkData(i))
	if err != nil {
		return leaf, damagedChunk(u.digest, i, err)
	}
	leaf = plainLeaf(k.salt, u.plain)
	if u.leaves != nil && leaf != u.leaves[i-u.first] {
		return leaf, damagedChunk(u.digest, i, errors.New("it is not the chunk under the plaintext root"))
	}
	u.at, u.held = i, true
	return leaf, nil
}

// stream opens n chunks from chunk i on in one fetch and hands each to f.
func (u *unsealer) stream(i, n uint64, f func(i uint64, plain []byte, leaf evidence.Digest) error) error {
	if n == 0 {
		return nil
	}
	r, err := u.fetch(i, n)
	if err != nil {
		return u.fetchError(i, err)
	}
	defer r.Close()
	for end := i + n; i < end; i++ {
		u.sealed = slices.Grow(u.sealed[:0], sealed1)[:chunkLen(u.size, i)+tagSize]
		if _, err := io.ReadFull(r, u.sealed); err != nil {
			return u.fetchError(i, err)
		}
		leaf, err := u.open(i, u.sealed)
		if err != nil {
			return err
		}
		if err := f(i, u.plain, leaf); err != nil {
			return err
		}
	}
	return nil
}

// fetchError: bytes that are not there are damage; a store that fails is not.
func (u *unsealer) fetchError(i uint64, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, ErrNotExist) {
		return damagedChunk(u.digest, i, fmt.Errorf("it is cut off or missing: %w", err))
	}
	return fmt.Errorf("fetching chunk %d of object %s: %w", i, u.digest, err)
}

// ReadAt implements io.ReaderAt in the object's own offsets.
func (u *unsealer) ReadAt(p []byte, off int64) (int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	n := 0
	for n < len(p) {
		if off >= u.size {
			return n, io.EOF
		}
		i := uint64(off / ChunkSize)
		if !u.held || u.at != i {
			err := u.stream(i, 1, func(uint64, []byte, evidence.Digest) error { return nil })
			if err != nil {
				return n, err
			}
		}
		m := copy(p[n:], u.plain[off-int64(i)*ChunkSize:])
		n, off = n+m, off+int64(m)
	}
	return n, nil
}

// Open returns the content of an object known by its digest alone. It reads
// and checks the whole object before it returns, because nothing less binds
// the content to the digest. Who has the Object from a manifest uses
// OpenObject, which need not. ctx bounds the later reads too.
// ErrMissing, ErrNotForKey, *DamagedError.
func (v *Vault) Open(ctx context.Context, digest evidence.Digest, identities ...age.Identity) (*Content, error) {
	h, err := v.head(ctx, digest)
	if err != nil {
		return nil, err
	}
	u, err := v.unsealer(ctx, h, identities)
	if err != nil {
		return nil, err
	}
	sha, sm := sha256.New(), sm3.New()
	err = u.stream(0, u.count, func(_ uint64, plain []byte, _ evidence.Digest) error {
		var wg sync.WaitGroup
		wg.Go(func() { sm.Write(plain) })
		sha.Write(plain)
		wg.Wait()
		return ctx.Err()
	})
	if err != nil {
		return nil, err
	}
	if [32]byte(sha.Sum(nil)) != h.object.SHA256 {
		return nil, damaged(digest, PartContent, errors.New("its SHA-256 digest is another"))
	}
	if [32]byte(sm.Sum(nil)) != h.object.SM3 {
		return nil, damaged(digest, PartContent, errors.New("its SM3 digest is another"))
	}
	return u.content(h.object, 0, h.object.Size), nil
}

// OpenObject returns the content of an object known from its manifest, without
// reading it first: every read is checked against want's plaintext root. want
// must be what the manifest says, all fields. ctx bounds the later reads too.
// ErrMissing, ErrNotForKey, *DamagedError.
func (v *Vault) OpenObject(ctx context.Context, want Object, identities ...age.Identity) (*Content, error) {
	h, err := v.head(ctx, want.SHA256)
	if err != nil {
		return nil, err
	}
	if h.object != want {
		return nil, damaged(want.SHA256, PartHead, errors.New("its size, SM3 digest or roots are not those asked for"))
	}
	u, err := v.unsealer(ctx, h, identities)
	if err != nil {
		return nil, err
	}
	return u.content(h.object, 0, h.object.Size), nil
}

func (u *unsealer) content(o Object, start, length int64) *Content {
	return &Content{io.NewSectionReader(u, start, length), o, start}
}

// unsealer opens the head, and proves the leaf table under its root.
func (v *Vault) unsealer(ctx context.Context, h *head, ids []age.Identity) (*unsealer, error) {
	root, err := v.unlock(ctx, h, ids)
	if err != nil {
		return nil, err
	}
	plain, _, err := v.leaves(ctx, h)
	if err != nil {
		return nil, err
	}
	return &unsealer{
		digest: h.object.SHA256,
		size:   h.object.Size,
		count:  uint64(h.object.Chunks),
		leaves: plain,
		keys:   rootSource(root),
		fetch:  func(i, n uint64) (io.ReadCloser, error) { return v.chunks(ctx, h, i, n) },
	}, nil
}

// chunks returns the sealed bytes of n chunks from chunk i on; n is at least 1.
func (v *Vault) chunks(ctx context.Context, h *head, i, n uint64) (io.ReadCloser, error) {
	length := int64(n-1)*sealed1 + int64(chunkLen(h.object.Size, i+n-1)) + tagSize
	return v.store.Range(ctx, dataName(h.id), int64(i)*sealed1, length)
}

// leaves reads both leaf tables and checks them against the head's roots.
func (v *Vault) leaves(ctx context.Context, h *head) (plain, cipher []evidence.Digest, err error) {
	d := h.object.SHA256
	size, err := v.store.Size(ctx, dataName(h.id))
	if errors.Is(err, ErrNotExist) {
		return nil, nil, damaged(d, PartData, errors.New("its data blob is missing"))
	} else if err != nil {
		return nil, nil, fmt.Errorf("reading object %s: %w", d, err)
	}
	if want := dataLen(h.object.Size); size != want {
		return nil, nil, damaged(d, PartData, fmt.Errorf("data blob has %d bytes, want %d", size, want))
	}
	off := tableOffset(h.object.Size)
	r, err := v.store.Range(ctx, dataName(h.id), off, size-off)
	if err != nil {
		return nil, nil, fmt.Errorf("reading leaf tables of object %s: %w", d, err)
	}
	defer r.Close()
	for i, leaves := range []*[]evidence.Digest{&plain, &cipher} {
		*leaves = make([]evidence.Digest, h.object.Chunks)
		for j := range *leaves {
			if _, err := io.ReadFull(r, (*leaves)[j][:]); err != nil {
				return nil, nil, fmt.Errorf("reading leaf tables of object %s: %w", d, err)
			}
		}
		root, err := merkleRoot(*leaves)
		if err != nil {
			return nil, nil, err
		}
		if want := []evidence.Digest{h.object.PlaintextRoot, h.object.CiphertextRoot}[i]; root != want {
			return nil, nil, damaged(d, PartLeaves, fmt.Errorf("the %s leaves do not give their root", []string{"plaintext", "ciphertext"}[i]))
		}
	}
	return plain, cipher, nil
}

// Verify is a holder's check, without a key: every sealed chunk against the
// ciphertext root, and the leaf tables against both roots. It returns what was
// checked against; compare that with the manifest, since a store could have
// exchanged the whole. ErrMissing, *DamagedError.
func (v *Vault) Verify(ctx context.Context, digest evidence.Digest) (Object, error) {
	h, err := v.head(ctx, digest)
	if err != nil {
		return Object{}, err
	}
	return v.verify(ctx, h)
}

func (v *Vault) verify(ctx context.Context, h *head) (Object, error) {
	_, leaves, err := v.leaves(ctx, h)
	if err != nil || len(leaves) == 0 {
		return h.object, err
	}
	u := &unsealer{digest: h.object.SHA256} // for its fetchError
	r, err := v.chunks(ctx, h, 0, uint64(len(leaves)))
	if err != nil {
		return Object{}, u.fetchError(0, err)
	}
	defer r.Close()
	buf := make([]byte, chunkLen(h.object.Size, 0)+tagSize)
	for i, want := range leaves {
		if err := ctx.Err(); err != nil {
			return Object{}, err
		}
		sealed := buf[:chunkLen(h.object.Size, uint64(i))+tagSize]
		if _, err := io.ReadFull(r, sealed); err != nil {
			return Object{}, u.fetchError(uint64(i), err)
		}
		if cipherLeaf(sealed) != want {
			return Object{}, damagedChunk(h.object.SHA256, uint64(i), errors.New("it is not the chunk under the ciphertext root"))
		}
	}
	return h.object, nil
}
