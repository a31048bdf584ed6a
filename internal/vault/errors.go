package vault

import (
	"errors"
	"fmt"

	"github.com/zhenglian/zhenglian/evidence"
)

// ErrMissing: the vault holds no object with the digest.
var ErrMissing = errors.New("object is not in this vault")

// ErrNotForKey: the object is held, and none of the identities given opens it.
var ErrNotForKey = errors.New("object is not encrypted to any of the given keys; ask its owner for a grant")

// ErrOtherRecipients: Put was asked for recipients the held copy is not
// encrypted to. The vault cannot rewrap a key it does not know.
var ErrOtherRecipients = errors.New("object is already held, for other recipients; use AddRecipient with a key that opens it")

// Parts of an object, as DamagedError names them.
const (
	PartHead       = "head"
	PartKey        = "wrapped key"
	PartGrant      = "grant"
	PartData       = "data length"
	PartLeaves     = "leaf table"
	PartChunk      = "chunk"
	PartContent    = "content"
	PartDisclosure = "disclosure"
)

// DamagedError says which part of an object does not authenticate. It never
// says that a person did it: a failing disk looks the same.
type DamagedError struct {
	Object evidence.Digest
	Part   string // one of the Part constants
	Chunk  int64  // chunk number from 0 when Part is PartChunk, else -1
	Err    error  // what the check said
}

func (e *DamagedError) Error() string {
	place := e.Part
	if e.Part == PartChunk {
		place = fmt.Sprintf("chunk %d", e.Chunk)
	}
	return fmt.Sprintf("object %s: %s is damaged: %v; restore it from another copy", e.Object, place, e.Err)
}

func (e *DamagedError) Unwrap() error { return e.Err }

func damaged(d evidence.Digest, part string, err error) error {
	return &DamagedError{Object: d, Part: part, Chunk: -1, Err: err}
}

func damagedChunk(d evidence.Digest, chunk uint64, err error) error {
	return &DamagedError{Object: d, Part: PartChunk, Chunk: int64(chunk), Err: err}
}
