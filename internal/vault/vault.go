package vault

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"filippo.io/age"

	"github.com/zhenglian/zhenglian/evidence"
)

// Vault is one member's encrypted objects in one Store. Its methods may be
// called from several goroutines.
type Vault struct{ store Store }

// New returns the vault kept in the store.
func New(s Store) *Vault { return &Vault{s} }

func headName(d evidence.Digest) string { return folderHead + d.String() }
func dataName(id dataID) string         { return folderData + hex.EncodeToString(id[:]) }
func grantPrefix(id dataID) string      { return folderGrant + hex.EncodeToString(id[:]) + "." }
func grantName(id dataID, r evidence.Digest) string {
	return grantPrefix(id) + r.String()
}

// errHeld stops the writing of content that is held already.
var errHeld = errors.New("content is held already")

// Put reads r to its end once and keeps it encrypted to the recipients, which
// are the owner and whom she grants. It returns when everything is durable.
// progress, which may be nil, hears the plaintext bytes written so far.
//
// Content already held for all of the recipients is not written again: the
// held copy is checked against its ciphertext root and its Object returned. A
// held copy found damaged is a *DamagedError (Remove it, then Put again); one
// held for others is ErrOtherRecipients.
//
// An r that ends in anything but io.EOF leaves nothing behind. Put returns only
// after a Read in progress does.
func (v *Vault) Put(ctx context.Context, r io.Reader, recipients []age.Recipient, progress func(n int64)) (Object, error) {
	ids, recipients, err := recipientSet(recipients)
	if err != nil {
		return Object{}, err
	}
	var root key
	var h head
	rand.Read(root[:])
	rand.Read(h.id[:])
	for i, id := range ids {
		w, err := wrapKey(root, id, recipients[i])
		if err != nil {
			return Object{}, err
		}
		h.keys = append(h.keys, w)
	}
	// 1. The data blob, durable under a random name nobody looks for.
	var held Object
	err = v.store.Put(ctx, dataName(h.id), func(w io.Writer) error {
		h.object, err = seal(ctx, r, root, w, progress, func(o Object) error {
			held, err = v.held(ctx, o, ids)
			if err == nil && held != (Object{}) {
				return errHeld
			}
			return err
		})
		return err
	})
	if errors.Is(err, errHeld) {
		return held, nil
	} else if err != nil {
		return Object{}, fmt.Errorf("storing object: %w", err)
	}
	// 2. The head, which makes the object visible in one step.
	if h.mac, err = headMAC(root, h.unsigned()); err != nil {
		return Object{}, err
	}
	err = v.store.Put(ctx, headName(h.object.SHA256), func(w io.Writer) error {
		_, err := w.Write(h.marshal())
		return err
	})
	if err == nil {
		return h.object, nil
	}
	// Our data blob is dropped only when no head can refer to it.
	clean := context.WithoutCancel(ctx)
	if errors.Is(err, ErrExist) {
		// Another Put of the same content was first.
		if derr := v.store.Delete(clean, dataName(h.id)); derr != nil {
			return Object{}, fmt.Errorf("dropping a second copy: %w", derr)
		}
		held, err := v.held(ctx, h.object, ids)
		if err == nil && held == (Object{}) {
			err = fmt.Errorf("object %s was removed while it was put; put it again", h.object.SHA256)
		}
		return held, err
	}
	if _, serr := v.store.Size(clean, headName(h.object.SHA256)); errors.Is(serr, ErrNotExist) {
		err = errors.Join(err, v.store.Delete(clean, dataName(h.id)))
	}
	return Object{}, fmt.Errorf("storing head of object %s: %w", h.object.SHA256, err)
}

// held returns the zero Object when the vault does not hold o's content.
func (v *Vault) held(ctx context.Context, o Object, ids []evidence.Digest) (Object, error) {
	h, err := v.head(ctx, o.SHA256)
	if errors.Is(err, ErrMissing) {
		return Object{}, nil
	} else if err != nil {
		return Object{}, err
	}
	if h.object.Size != o.Size || h.object.SM3 != o.SM3 {
		return Object{}, damaged(o.SHA256, PartHead, errors.New("its size or SM3 digest is not that of the content"))
	}
	grants, err := v.store.List(ctx, grantPrefix(h.id))
	if err != nil {
		return Object{}, fmt.Errorf("listing grants: %w", err)
	}
	for _, id := range ids {
		inHead := slices.ContainsFunc(h.keys, func(w wrappedKey) bool { return w.recipient == id })
		if !inHead && !slices.Contains(grants, grantName(h.id, id)) {
			return Object{}, fmt.Errorf("object %s, recipient %s: %w", o.SHA256, id, ErrOtherRecipients)
		}
	}
	// Answering "held" for a copy that has rotted would lose the content that
	// is in the caller's hands right now.
	return v.verify(ctx, h)
}

// head reads and parses an object's head. ErrMissing, *DamagedError.
func (v *Vault) head(ctx context.Context, d evidence.Digest) (*head, error) {
	b, err := readBlob(ctx, v.store, headName(d), maxHead)
	switch {
	case errors.Is(err, ErrNotExist):
		return nil, fmt.Errorf("object %s: %w", d, ErrMissing)
	case errors.Is(err, errFormat), errors.Is(err, io.ErrUnexpectedEOF):
		return nil, damaged(d, PartHead, err)
	case err != nil:
		return nil, fmt.Errorf("reading head of object %s: %w", d, err)
	}
	h, err := parseHead(b)
	if err != nil {
		return nil, damaged(d, PartHead, err)
	}
	if h.object.SHA256 != d {
		return nil, damaged(d, PartHead, fmt.Errorf("it is the head of object %s", h.object.SHA256))
	}
	return h, nil
}

// unlock finds the root key with the identities and proves the head with it.
// ErrNotForKey, *DamagedError.
func (v *Vault) unlock(ctx context.Context, h *head, ids []age.Identity) (key, error) {
	d := h.object.SHA256
	if len(ids) == 0 {
		return key{}, fmt.Errorf("object %s: no identity given: %w", d, ErrNotForKey)
	}
	var broken error // the first damage met; told when no other wrap opens
	for _, w := range h.keys {
		root, err := unwrapKey(w, ids)
		if errors.Is(err, errNoMatch) {
			continue
		} else if err != nil {
			broken = firstErr(broken, damaged(d, PartKey, err))
			continue
		}
		if err := checkMAC(root, h.unsigned(), h.mac); err != nil {
			broken = firstErr(broken, damaged(d, PartHead, err))
			continue
		}
		return root, nil
	}
	names, err := v.store.List(ctx, grantPrefix(h.id))
	if err != nil {
		return key{}, fmt.Errorf("listing grants of object %s: %w", d, err)
	}
	for _, name := range names {
		g, err := v.grant(ctx, h, name)
		if err != nil {
			broken = firstErr(broken, err)
			continue
		}
		root, err := unwrapKey(g.wrap, ids)
		if errors.Is(err, errNoMatch) {
			continue
		} else if err != nil {
			broken = firstErr(broken, damaged(d, PartGrant, err))
			continue
		}
		if err := checkMAC(root, g.unsigned(), g.mac); err != nil {
			broken = firstErr(broken, damaged(d, PartGrant, err))
			continue
		}
		if err := checkMAC(root, h.unsigned(), h.mac); err != nil {
			broken = firstErr(broken, damaged(d, PartHead, err))
			continue
		}
		return root, nil
	}
	if broken != nil {
		return key{}, broken
	}
	return key{}, fmt.Errorf("object %s: %w", d, ErrNotForKey)
}

func firstErr(first, next error) error {
	if first != nil {
		return first
	}
	return next
}

func (v *Vault) grant(ctx context.Context, h *head, name string) (*grant, error) {
	b, err := readBlob(ctx, v.store, name, 24+34+maxWrap+macLen)
	if err != nil && !errors.Is(err, errFormat) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, fmt.Errorf("reading grant: %w", err)
	}
	var g *grant
	if err == nil {
		g, err = parseGrant(b)
	}
	if err == nil && grantName(g.id, g.wrap.recipient) != name {
		err = errors.New("it is a grant of another object or to another key")
	}
	if err != nil {
		return nil, damaged(h.object.SHA256, PartGrant, err)
	}
	return g, nil
}

// AddRecipient wraps the object's key for one more recipient, with an identity
// that opens it. One who can open it already is no error. A later withdrawal
// can stop delivery; it cannot recall the key.
func (v *Vault) AddRecipient(ctx context.Context, digest evidence.Digest, identity age.Identity, recipient age.Recipient) error {
	id, err := RecipientID(recipient)
	if err != nil {
		return err
	}
	h, err := v.head(ctx, digest)
	if err != nil {
		return err
	}
	root, err := v.unlock(ctx, h, []age.Identity{identity})
	if err != nil {
		return fmt.Errorf("granting: %w", err)
	}
	if slices.ContainsFunc(h.keys, func(w wrappedKey) bool { return w.recipient == id }) {
		return nil
	}
	name := grantName(h.id, id)
	old, err := v.grant(ctx, h, name)
	if err == nil && checkMAC(root, old.unsigned(), old.mac) == nil {
		return nil
	}
	if _, bad := errors.AsType[*DamagedError](err); err != nil && !bad && !errors.Is(err, ErrNotExist) {
		return err
	}
	if !errors.Is(err, ErrNotExist) { // a damaged grant is made anew
		if err := v.store.Delete(ctx, name); err != nil {
			return fmt.Errorf("replacing a damaged grant: %w", err)
		}
	}
	g := grant{id: h.id}
	if g.wrap, err = wrapKey(root, id, recipient); err != nil {
		return err
	}
	if g.mac, err = headMAC(root, g.unsigned()); err != nil {
		return err
	}
	err = v.store.Put(ctx, name, func(w io.Writer) error {
		_, err := w.Write(g.marshal())
		return err
	})
	if err != nil && !errors.Is(err, ErrExist) { // ErrExist: the same grant, made at the same moment
		return fmt.Errorf("storing grant of object %s: %w", digest, err)
	}
	return nil
}

// Stat returns what the head says of an object. Without a key nothing proves
// it: compare with the manifest. ErrMissing, *DamagedError.
func (v *Vault) Stat(ctx context.Context, digest evidence.Digest) (Object, error) {
	h, err := v.head(ctx, digest)
	if err != nil {
		return Object{}, err
	}
	return h.object, nil
}

// List returns the digests of all objects, ascending.
func (v *Vault) List(ctx context.Context) ([]evidence.Digest, error) {
	names, err := v.store.List(ctx, folderHead)
	if err != nil {
		return nil, fmt.Errorf("listing objects: %w", err)
	}
	out := make([]evidence.Digest, 0, len(names))
	for _, n := range names {
		d, err := evidence.ParseDigest(strings.TrimPrefix(n, folderHead))
		if err != nil {
			return nil, fmt.Errorf("listing objects: foreign blob %q in the vault: %w", n, err)
		}
		out = append(out, d)
	}
	return out, nil
}

// Remove deletes an object, its head first, so that no half of it is ever
// visible. A copy elsewhere, or a key already granted, is out of its reach.
func (v *Vault) Remove(ctx context.Context, digest evidence.Digest) error {
	h, err := v.head(ctx, digest)
	if _, bad := errors.AsType[*DamagedError](err); bad {
		// Without a readable head its blobs are unknown; Sweep finds them.
		return v.store.Delete(ctx, headName(digest))
	} else if err != nil {
		return err
	}
	if err := v.store.Delete(ctx, headName(digest)); err != nil {
		return fmt.Errorf("removing object %s: %w", digest, err)
	}
	names, err := v.store.List(ctx, grantPrefix(h.id))
	if err != nil {
		return fmt.Errorf("removing object %s: %w", digest, err)
	}
	for _, n := range append(names, dataName(h.id)) {
		if err := v.store.Delete(ctx, n); err != nil {
			return fmt.Errorf("removing object %s: %w", digest, err)
		}
	}
	return nil
}

// Sweep deletes the blobs no head refers to, which interrupted Puts and
// Removes left, and returns how many. Call it at start: no Put may be running,
// in this or another process. It deletes nothing while any head is unreadable.
func (v *Vault) Sweep(ctx context.Context) (int, error) {
	if s, ok := v.store.(interface{ RemoveTemporary(context.Context) error }); ok {
		if err := s.RemoveTemporary(ctx); err != nil {
			return 0, fmt.Errorf("sweeping: %w", err)
		}
	}
	objects, err := v.List(ctx)
	if err != nil {
		return 0, fmt.Errorf("sweeping: %w", err)
	}
	used := make(map[string]bool, len(objects))
	for _, d := range objects {
		h, err := v.head(ctx, d)
		if err != nil {
			return 0, fmt.Errorf("sweeping: %w", err)
		}
		used[hex.EncodeToString(h.id[:])] = true
	}
	n := 0
	for _, folder := range []string{folderGrant, folderData} {
		names, err := v.store.List(ctx, folder)
		if err != nil {
			return n, fmt.Errorf("sweeping: %w", err)
		}
		for _, name := range names {
			id, _, _ := strings.Cut(strings.TrimPrefix(name, folder), ".")
			if used[id] {
				continue
			}
			if err := v.store.Delete(ctx, name); err != nil {
				return n, fmt.Errorf("sweeping: %w", err)
			}
			n++
		}
	}
	return n, nil
}
