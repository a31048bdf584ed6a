package vault

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/zhenglian/zhenglian/evidence"
)

// Object is what the manifest records of an object: enough to fetch it from an
// untrusted store and to check a disclosed range of it. Comparable.
type Object struct {
	SHA256         evidence.Digest `json:"sha256"`
	SM3            evidence.Digest `json:"sm3"`
	Size           int64           `json:"size"`   // plaintext bytes
	Chunks         int64           `json:"chunks"` // of ChunkSize bytes, the last may be shorter
	PlaintextRoot  evidence.Digest `json:"plaintext_root"`
	CiphertextRoot evidence.Digest `json:"ciphertext_root"`
}

const (
	headMagic  = "ZLVAULT1"
	grantMagic = "ZLGRANT1"

	headFixed = 8 + 16 + objectLen
	objectLen = 8 + 4*32
	macLen    = 32

	// MaxRecipients of one Put. Grants come on top, one blob each.
	MaxRecipients = 64
	// maxWrap bounds one age file: X25519 makes about 200 bytes, the hybrid
	// post-quantum recipient under 3,000.
	maxWrap = 16 << 10
	maxHead = headFixed + 2 + MaxRecipients*(32+2+maxWrap) + macLen
)

// errFormat marks bytes that are not in the form spec/vault.md gives.
var errFormat = errors.New("not in vault form")

func formatError(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errFormat, fmt.Sprintf(format, args...))
}

// dataID names the data blob; random, so that it can be chosen before the
// content is known.
type dataID [16]byte

// wrappedKey is the root key as one age file for one recipient.
type wrappedKey struct {
	recipient evidence.Digest // SHA-256 of the recipient's text, "age1…"
	file      []byte
}

// head is the blob that makes an object visible.
type head struct {
	id     dataID
	object Object
	keys   []wrappedKey // ascending by recipient, at least one
	mac    [macLen]byte
}

func appendObject(b []byte, o Object) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(o.Size))
	b = append(b, o.SHA256[:]...)
	b = append(b, o.SM3[:]...)
	b = append(b, o.PlaintextRoot[:]...)
	return append(b, o.CiphertextRoot[:]...)
}

// readObject reads objectLen bytes.
func readObject(b []byte) (o Object, err error) {
	size := binary.BigEndian.Uint64(b)
	if size > MaxSize {
		return o, formatError("size %d is above the limit of %d", size, uint64(MaxSize))
	}
	o.Size, o.Chunks = int64(size), int64(chunkCount(int64(size)))
	b = b[8:]
	for _, d := range []*evidence.Digest{&o.SHA256, &o.SM3, &o.PlaintextRoot, &o.CiphertextRoot} {
		b = b[copy(d[:], b):]
	}
	return o, nil
}

func appendWrap(b []byte, w wrappedKey) []byte {
	b = append(b, w.recipient[:]...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(w.file)))
	return append(b, w.file...)
}

func readWrap(b []byte) (w wrappedKey, rest []byte, err error) {
	if len(b) < 34 {
		return w, nil, formatError("cut off in a wrapped key")
	}
	copy(w.recipient[:], b)
	n := int(binary.BigEndian.Uint16(b[32:]))
	if b = b[34:]; n == 0 || n > maxWrap {
		return w, nil, formatError("wrapped key of %d bytes, want 1 to %d", n, maxWrap)
	}
	if len(b) < n {
		return w, nil, formatError("cut off in a wrapped key")
	}
	w.file = bytes.Clone(b[:n])
	return w, b[n:], nil
}

// unsigned is every byte before the MAC.
func (h *head) unsigned() []byte {
	b := append([]byte(headMagic), h.id[:]...)
	b = appendObject(b, h.object)
	b = binary.BigEndian.AppendUint16(b, uint16(len(h.keys)))
	for _, k := range h.keys {
		b = appendWrap(b, k)
	}
	return b
}

func (h *head) marshal() []byte { return append(h.unsigned(), h.mac[:]...) }

// parseHead reads exactly what marshal writes; there is one form for each head.
func parseHead(b []byte) (*head, error) {
	if len(b) < headFixed+2+macLen {
		return nil, formatError("head of %d bytes is cut off", len(b))
	}
	if string(b[:8]) != headMagic {
		return nil, formatError("head does not begin with %q", headMagic)
	}
	h := &head{id: dataID(b[8:24])}
	var err error
	if h.object, err = readObject(b[24:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(b[headFixed:]))
	if n == 0 || n > MaxRecipients {
		return nil, formatError("%d wrapped keys, want 1 to %d", n, MaxRecipients)
	}
	b = b[headFixed+2:]
	for i := range n {
		var w wrappedKey
		if w, b, err = readWrap(b); err != nil {
			return nil, err
		}
		if i > 0 && bytes.Compare(h.keys[i-1].recipient[:], w.recipient[:]) >= 0 {
			return nil, formatError("recipients are not in ascending order")
		}
		h.keys = append(h.keys, w)
	}
	if len(b) != macLen {
		return nil, formatError("%d bytes after the wrapped keys, want a MAC of %d", len(b), macLen)
	}
	copy(h.mac[:], b)
	return h, nil
}

// grant is the root key wrapped later for one more recipient, in its own blob
// so that two grants at once cannot lose each other.
type grant struct {
	id   dataID
	wrap wrappedKey
	mac  [macLen]byte
}

func (g *grant) unsigned() []byte {
	return appendWrap(append([]byte(grantMagic), g.id[:]...), g.wrap)
}

func (g *grant) marshal() []byte { return append(g.unsigned(), g.mac[:]...) }

func parseGrant(b []byte) (*grant, error) {
	if len(b) < 24 {
		return nil, formatError("grant of %d bytes is cut off", len(b))
	}
	if string(b[:8]) != grantMagic {
		return nil, formatError("grant does not begin with %q", grantMagic)
	}
	g := &grant{id: dataID(b[8:24])}
	var err error
	if g.wrap, b, err = readWrap(b[24:]); err != nil {
		return nil, err
	}
	if len(b) != macLen {
		return nil, formatError("%d bytes after the wrapped key, want a MAC of %d", len(b), macLen)
	}
	copy(g.mac[:], b)
	return g, nil
}

// headMAC binds heads and grants to the root key. Without it a store could put
// another object's wrapped key under this one's name, and a grant of this
// object would hand out the other's key.
func headMAC(root key, unsigned []byte) (out [macLen]byte, err error) {
	k, err := expand(root, infoHead)
	if err != nil {
		return out, err
	}
	m := hmac.New(sha256.New, k[:])
	m.Write(unsigned)
	m.Sum(out[:0])
	return out, nil
}

var errMAC = errors.New("its MAC under the object's key does not match")

func checkMAC(root key, unsigned []byte, mac [macLen]byte) error {
	want, err := headMAC(root, unsigned)
	if err != nil {
		return err
	}
	if !hmac.Equal(want[:], mac[:]) {
		return errMAC
	}
	return nil
}
