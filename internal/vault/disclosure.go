package vault

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"filippo.io/age"
	"github.com/transparency-dev/merkle/compact"

	"github.com/zhenglian/zhenglian/evidence"
)

// Disclosure lets its reader open one range of an object and prove it, and
// nothing else of it. It discloses whole chunks: up to ChunkSize-1 bytes on
// either side of the range can be read by who receives it. It holds keys, so
// it travels like the plaintext it opens.
type Disclosure struct {
	Object        evidence.Digest // SHA-256 of the whole; names it, a range cannot prove it
	Size          int64           // of the whole, bytes
	PlaintextRoot evidence.Digest
	Offset        int64      // first byte of the range
	Length        int64      // bytes, at least 1
	Keys          [][32]byte // key tree nodes over the range, left to right
	Left, Right   []evidence.Digest
}

const (
	disclosureMagic = "ZLDISCL1"
	disclosureFixed = 8 + 8 + 32 + 32 + 8 + 8
)

// checkRange refuses ranges that are empty or not within size bytes.
func checkRange(size, offset, length int64) error {
	if offset < 0 || length < 1 || offset > size || length > size-offset {
		return fmt.Errorf("range of %d bytes from %d is not within the object's %d bytes", length, offset, size)
	}
	return nil
}

// coverChunks returns the chunks [begin, end) over a range that checkRange took.
func coverChunks(offset, length int64) (begin, end uint64) {
	return uint64(offset) / ChunkSize, uint64(offset+length-1)/ChunkSize + 1
}

// Chunks returns the number of the first chunk disclosed and how many there are.
func (d *Disclosure) Chunks() (first, count uint64) {
	begin, end := coverChunks(d.Offset, d.Length)
	return begin, end - begin
}

// Disclose makes the disclosure of length bytes from offset, with an identity
// that opens the object. Compare Object, Size and PlaintextRoot with the
// manifest's before handing it out. ErrMissing, ErrNotForKey, *DamagedError.
func (v *Vault) Disclose(ctx context.Context, digest evidence.Digest, offset, length int64, identities ...age.Identity) (*Disclosure, error) {
	h, err := v.head(ctx, digest)
	if err != nil {
		return nil, err
	}
	if err := checkRange(h.object.Size, offset, length); err != nil {
		return nil, fmt.Errorf("disclosing object %s: %w", digest, err)
	}
	root, err := v.unlock(ctx, h, identities)
	if err != nil {
		return nil, err
	}
	leaves, _, err := v.leaves(ctx, h)
	if err != nil {
		return nil, err
	}
	return disclose(h.object, root, leaves, offset, length)
}

func disclose(o Object, root key, leaves []evidence.Digest, offset, length int64) (*Disclosure, error) {
	d := &Disclosure{Object: o.SHA256, Size: o.Size, PlaintextRoot: o.PlaintextRoot, Offset: offset, Length: length}
	begin, end := coverChunks(offset, length)
	path := keyPath{top: keyNode{height: Depth, key: root}}
	for _, n := range compact.RangeNodes(begin, end, nil) {
		k, err := path.node(n.Level, n.Index)
		if err != nil {
			return nil, err
		}
		d.Keys = append(d.Keys, k)
	}
	var err error
	d.Left, d.Right, err = rangeProof(leaves, begin, end)
	return d, err
}

// Sealed returns the sealed chunks over a range, one after the other: what
// must travel with its disclosure. It needs no key and proves nothing; the
// disclosure does.
func (v *Vault) Sealed(ctx context.Context, digest evidence.Digest, offset, length int64) (io.ReadCloser, error) {
	h, err := v.head(ctx, digest)
	if err != nil {
		return nil, err
	}
	if err := checkRange(h.object.Size, offset, length); err != nil {
		return nil, fmt.Errorf("fetching object %s: %w", digest, err)
	}
	begin, end := coverChunks(offset, length)
	r, err := v.chunks(ctx, h, begin, end-begin)
	if err != nil {
		return nil, (&unsealer{digest: digest}).fetchError(begin, err)
	}
	return r, nil
}

// parts returns how many keys and left and right hashes the range takes.
func (d *Disclosure) parts() (keys, left, right int) {
	begin, end := coverChunks(d.Offset, d.Length)
	n := chunkCount(d.Size)
	return compact.RangeSize(begin, end), compact.RangeSize(0, begin), compact.RangeSize(end, n)
}

func (d *Disclosure) check() error {
	if d.Size < 0 || d.Size > MaxSize {
		return formatError("size %d is not within 0 and %d", d.Size, int64(MaxSize))
	}
	if err := checkRange(d.Size, d.Offset, d.Length); err != nil {
		return fmt.Errorf("%w: %w", errFormat, err)
	}
	k, l, r := d.parts()
	if len(d.Keys) != k || len(d.Left) != l || len(d.Right) != r {
		return formatError("%d keys, %d left and %d right hashes, this range takes %d, %d and %d", len(d.Keys), len(d.Left), len(d.Right), k, l, r)
	}
	return nil
}

// MarshalBinary returns the disclosure's bytes, spec/vault.md "Disclosure".
func (d *Disclosure) MarshalBinary() ([]byte, error) {
	if err := d.check(); err != nil {
		return nil, fmt.Errorf("writing disclosure: %w", err)
	}
	b := binary.BigEndian.AppendUint64([]byte(disclosureMagic), uint64(d.Size))
	b = append(b, d.Object[:]...)
	b = append(b, d.PlaintextRoot[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(d.Offset))
	b = binary.BigEndian.AppendUint64(b, uint64(d.Length))
	for i := range d.Keys {
		b = append(b, d.Keys[i][:]...)
	}
	for _, list := range [][]evidence.Digest{d.Left, d.Right} {
		for i := range list {
			b = append(b, list[i][:]...)
		}
	}
	return b, nil
}

// ParseDisclosure reads exactly what MarshalBinary writes.
func ParseDisclosure(b []byte) (*Disclosure, error) {
	fail := func(err error) (*Disclosure, error) { return nil, fmt.Errorf("reading disclosure: %w", err) }
	if len(b) < disclosureFixed {
		return fail(formatError("disclosure of %d bytes is cut off", len(b)))
	}
	if string(b[:8]) != disclosureMagic {
		return fail(formatError("disclosure does not begin with %q", disclosureMagic))
	}
	// A value above the largest int64 turns negative here and is refused.
	d := &Disclosure{
		Size:          int64(binary.BigEndian.Uint64(b[8:])),
		Object:        evidence.Digest(b[16:48]),
		PlaintextRoot: evidence.Digest(b[48:80]),
		Offset:        int64(binary.BigEndian.Uint64(b[80:])),
		Length:        int64(binary.BigEndian.Uint64(b[88:])),
	}
	if d.Size < 0 || d.Size > MaxSize {
		return fail(formatError("size %d is not within 0 and %d", uint64(d.Size), int64(MaxSize)))
	}
	if err := checkRange(d.Size, d.Offset, d.Length); err != nil {
		return fail(fmt.Errorf("%w: %w", errFormat, err))
	}
	keys, left, right := d.parts()
	b = b[disclosureFixed:]
	if want := 32 * (keys + left + right); len(b) != want {
		return fail(formatError("%d bytes of keys and proof, this range takes %d", len(b), want))
	}
	d.Keys = make([][32]byte, keys)
	d.Left, d.Right = make([]evidence.Digest, left), make([]evidence.Digest, right)
	for i := range d.Keys {
		b = b[copy(d.Keys[i][:], b):]
	}
	for _, list := range [][]evidence.Digest{d.Left, d.Right} {
		for i := range list {
			b = b[copy(list[i][:], b):]
		}
	}
	return d, nil
}

// Open proves the range against want, which comes from the manifest (SHA256,
// Size and PlaintextRoot are used), and returns the range's content. sealed
// holds the sealed chunks of Vault.Sealed, the first at offset 0. All of them
// are read and checked before Open returns, and again when they are read.
// Errors are *DamagedError.
func (d *Disclosure) Open(want Object, sealed io.ReaderAt) (*Content, error) {
	bad := func(err error) (*Content, error) { return nil, damaged(want.SHA256, PartDisclosure, err) }
	if err := d.check(); err != nil {
		return bad(err)
	}
	if d.Object != want.SHA256 || d.Size != want.Size || d.PlaintextRoot != want.PlaintextRoot {
		return bad(errors.New("it is of another object: digest, size or plaintext root differ"))
	}
	begin, end := coverChunks(d.Offset, d.Length)
	keys := new(keySource)
	for i, n := range compact.RangeNodes(begin, end, nil) {
		keys.nodes = append(keys.nodes, keyNode{n.Level, n.Index, d.Keys[i]})
	}
	u := &unsealer{
		digest: d.Object, size: d.Size, first: begin, count: end - begin, keys: keys,
		fetch: func(i, n uint64) (io.ReadCloser, error) {
			length := int64(n-1)*sealed1 + int64(chunkLen(d.Size, i+n-1)) + tagSize
			return io.NopCloser(io.NewSectionReader(sealed, int64(i-begin)*sealed1, length)), nil
		},
	}
	var leaves []evidence.Digest
	err := u.stream(begin, end-begin, func(_ uint64, _ []byte, leaf evidence.Digest) error {
		leaves = append(leaves, leaf)
		return nil
	})
	if err != nil {
		return nil, err
	}
	root, err := rangeProofRoot(chunkCount(d.Size), begin, leaves, d.Left, d.Right)
	if err != nil {
		return bad(err)
	}
	if root != want.PlaintextRoot {
		return bad(errors.New("chunks and proof do not give the object's plaintext root"))
	}
	u.leaves = leaves // what is read later must be what was proven now
	return u.content(want, d.Offset, d.Length), nil
}
