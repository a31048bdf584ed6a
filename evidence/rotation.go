package evidence

import (
	"fmt"
	"slices"
)

// TypeKeyChange is the content type of the statement by which an institution
// replaces one of its own keys. spec/registry.md, part 3.
const TypeKeyChange = "application/vnd.zhenglian.key-change+cbor"

// MaxKeyChanges of one institution, for all uses together: quarterly changes of
// four keys for sixteen years. It bounds the policy that a thief of a statement
// key can make everybody read.
const MaxKeyChanges = 256

// KeyChange is the content of a TypeKeyChange statement: the institution that
// signs it replaces one of its keys. The new key counts for logs larger than
// the statement's position, the old one for those up to it.
type KeyChange struct {
	Use      KeyUse // receipt, cosign, attest or statement
	Key      *PublicKey
	Replaces Digest // kid of the key that ends
	Reason   uint64 // CRLReason, RFC 5280 §5.3.1: ReasonSuperseded, ReasonCompromised or ReasonUnspecified
	Proof    []byte // 64 bytes by Key over KeyChangeInput
}

// Reasons for which a key is replaced (CRLReason, RFC 5280 §5.3.1).
const (
	ReasonUnspecified = 0
	ReasonCompromised = 1
	ReasonSuperseded  = 4
)

// ReasonName names a reason as RFC 5280 §5.3.1 does.
func ReasonName(reason uint64) string {
	switch reason {
	case ReasonCompromised:
		return "keyCompromise"
	case ReasonSuperseded:
		return "superseded"
	}
	return "unspecified"
}

// endings are the names of all reasons.
func endings() []string {
	return []string{ReasonName(ReasonUnspecified), ReasonName(ReasonCompromised), ReasonName(ReasonSuperseded)}
}

// policyUses are the uses whose signatures reach a package, in the order of
// their numbers in a key change, from 1.
func policyUses() []KeyUse { return []KeyUse{UseReceipt, UseCosign, UseAttest, UseStatement} }

// Replaceable reports whether a key of this use is replaced by a statement in
// the log. The others (consensus, node, tls) are the engine's and the peers'.
func (u KeyUse) Replaceable() bool { return slices.Contains(policyUses(), u) }

// keyChangeLabel separates these proofs from all else a key signs.
const keyChangeLabel = "zhenglian key change v1\n"

// KeyChangeInput returns the bytes by whose signature the new key proves that
// it is held and meant for this: the label, then, each with a line feed, the
// alliance's id, the institution, the use, and the kid that is replaced.
func KeyChangeInput(alliance Digest, institution string, use KeyUse, replaces Digest) []byte {
	return fmt.Appendf(nil, "%s%s\n%s\n%s\n%s\n", keyChangeLabel, alliance, institution, use, replaces)
}

// NewKeyChange makes the content of a change to the key that signer holds.
func NewKeyChange(alliance Digest, institution string, use KeyUse, replaces Digest, reason uint64, signer Signer) (*KeyChange, error) {
	proof, err := signer.Sign(KeyChangeInput(alliance, institution, use, replaces))
	if err != nil {
		return nil, fmt.Errorf("proving the new %s key: %w", use, err)
	}
	return ParseKeyChange((&KeyChange{Use: use, Key: signer.Public(), Replaces: replaces, Reason: reason, Proof: proof}).Encode())
}

// Encode returns the content in deterministic CBOR.
func (k *KeyChange) Encode() []byte {
	b := appendHead(nil, majorMap, 5)
	b = appendInt(appendInt(b, 1), int64(1+slices.Index(policyUses(), k.Use)))
	b = appendBytes(appendInt(b, 2), k.Key.DER())
	b = appendBytes(appendInt(b, 3), k.Replaces[:])
	b = appendInt(appendInt(b, 4), int64(k.Reason))
	return appendBytes(appendInt(b, 5), k.Proof)
}

// ParseKeyChange reads the content of a TypeKeyChange statement. A key that
// enrolment refuses, or that cannot have this use, gives a *FormatError with
// CodeBadKey. The proof is not checked: it is for one alliance and institution.
func ParseKeyChange(content []byte) (*KeyChange, error) {
	c := &cursor{data: content}
	k := new(KeyChange)
	c.fields("key-change", 5)
	c.field("key-change", 1)
	n := c.uint("key-change.use")
	if uses := policyUses(); c.err == nil {
		if n < 1 || n > uint64(len(uses)) {
			c.fail(CodeMalformed, "key-change.use", "%d is not 1 (receipt), 2 (cosign), 3 (attest) or 4 (statement)", n)
		} else {
			k.Use = uses[n-1]
		}
	}
	c.field("key-change", 2)
	der := c.bytes("key-change.key")
	c.field("key-change", 3)
	k.Replaces = c.digest("key-change.replaces")
	c.field("key-change", 4)
	if k.Reason = c.uint("key-change.reason"); k.Reason != ReasonUnspecified && k.Reason != ReasonCompromised && k.Reason != ReasonSuperseded {
		c.fail(CodeMalformed, "key-change.reason", "%d is not 0 (unspecified), 1 (keyCompromise) or 4 (superseded)", k.Reason)
	}
	c.field("key-change", 5)
	if k.Proof = c.bytes("key-change.proof"); c.err == nil && len(k.Proof) != SignatureSize {
		c.fail(CodeMalformed, "key-change.proof", "it has %d bytes, want %d", len(k.Proof), SignatureSize)
	}
	c.end("key-change")
	if c.err != nil {
		return k, c.error()
	}
	key, err := ParsePublicKey(der)
	if err != nil {
		c.fail(CodeBadKey, "key-change.key", "%v", err)
		return k, c.error()
	}
	k.Key = key
	if !slices.Contains(k.Use.algorithms(), key.Algorithm()) {
		c.fail(CodeBadKey, "key-change.key", "a %s key cannot be %s", k.Use, key.Algorithm())
	}
	return k, c.error()
}

// Prove checks the proof of possession, strictly: the same for every reader.
func (k *KeyChange) Prove(alliance Digest, institution string) error {
	return k.Key.VerifyStrict(KeyChangeInput(alliance, institution, k.Use, k.Replaces), k.Proof)
}

// InstitutionKey is a key of an institution and the sizes of the log it counts
// for: From ≤ size < To, without end when To is 0. For statement keys positions
// take the place of sizes.
type InstitutionKey struct {
	Public *PublicKey
	Use    KeyUse
	From   uint64
	To     uint64
	Reason uint64 // why it was replaced, when To is not 0
	slot   int    // its place among the keys of the use
}

// Covers reports whether the key counts for a log of this size.
func (k *InstitutionKey) Covers(size uint64) bool {
	return k.From <= size && (k.To == 0 || size < k.To)
}

// KeyHistory is an institution's replaceable keys, past and present: a fold
// over its key changes. The zero value has none. A History is not safe for
// concurrent use while changes are applied.
type KeyHistory struct {
	keys    []InstitutionKey
	changes int
}

// NewKeyHistory begins with the keys of a descriptor.
func NewKeyHistory(d *Descriptor) (*KeyHistory, error) {
	h := new(KeyHistory)
	for _, use := range policyUses() {
		keys, err := d.PublicKeys(use)
		if err != nil {
			return nil, err
		}
		for i, k := range keys {
			h.keys = append(h.keys, InstitutionKey{Public: k, Use: use, slot: i})
		}
	}
	return h, nil
}

// Clone returns a copy that changes apart.
func (h *KeyHistory) Clone() *KeyHistory {
	return &KeyHistory{keys: slices.Clone(h.keys), changes: h.changes}
}

// All returns every key: by use, then place, then age.
func (h *KeyHistory) All() []InstitutionKey {
	all := slices.Clone(h.keys)
	slices.SortStableFunc(all, func(a, b InstitutionKey) int {
		ua, ub := slices.Index(policyUses(), a.Use), slices.Index(policyUses(), b.Use)
		if ua != ub {
			return ua - ub
		}
		return a.slot - b.slot
	})
	return all
}

// Keys returns the keys of a use that count for a log of this size, in the
// order of the descriptor: a new key takes the place of the one it replaces.
func (h *KeyHistory) Keys(use KeyUse, size uint64) []*PublicKey {
	var out []*PublicKey
	for i := range h.keys {
		if k := &h.keys[i]; k.Use == use && k.Covers(size) {
			for len(out) <= k.slot {
				out = append(out, nil)
			}
			out[k.slot] = k.Public
		}
	}
	return out
}

// ChangeError says why a key change does not stand.
type ChangeError struct {
	Code   Code
	Field  string
	Reason string
}

func (e *ChangeError) Error() string {
	return fmt.Sprintf("%s: %s: %s", e.Code, e.Field, e.Reason)
}

// Check applies the rules of a key change that an institution's own keys decide
// (spec/registry.md, part 3), but for the proof. The error is a *ChangeError.
func (h *KeyHistory) Check(k *KeyChange) error {
	if h.changes >= MaxKeyChanges {
		return &ChangeError{CodeNotAllowed, "payload", fmt.Sprintf("this institution has changed keys %d times, which is the most", h.changes)}
	}
	old, ok := h.current(k.Use, k.Replaces)
	if !ok {
		return &ChangeError{CodeConflict, "payload.replaces", fmt.Sprintf("%s is not a %s key that this institution uses now", k.Replaces, k.Use)}
	}
	if k.Use != UseReceipt {
		return nil
	}
	foreign := false // a key that other people's tools know
	for i := range h.keys {
		other := &h.keys[i]
		if other.Use != UseReceipt || other.To != 0 || other == old {
			continue
		}
		if other.Public.Algorithm() == k.Key.Algorithm() {
			return &ChangeError{CodeBadKey, "payload.key", fmt.Sprintf("another receipt key of this institution is %s: one of each algorithm", k.Key.Algorithm())}
		}
		foreign = foreign || other.Public.Algorithm() != SM2SM3
	}
	if !foreign && k.Key.Algorithm() == SM2SM3 {
		return &ChangeError{CodeBadKey, "payload.key", "no receipt key would be Ed25519 or P-256, and other people's tools know no SM2"}
	}
	return nil
}

func (h *KeyHistory) current(use KeyUse, kid Digest) (*InstitutionKey, bool) {
	for i := range h.keys {
		if k := &h.keys[i]; k.Use == use && k.To == 0 && k.Public.KID() == kid {
			return k, true
		}
	}
	return nil, false
}

// Apply folds in a change that Check let pass, at its position in the log. It
// reports false, and does nothing, when the key that it replaces is not there.
func (h *KeyHistory) Apply(k *KeyChange, position uint64) bool {
	old, ok := h.current(k.Use, k.Replaces)
	if !ok {
		return false
	}
	slot := old.slot
	old.To, old.Reason = position+1, k.Reason
	h.keys = append(h.keys, InstitutionKey{Public: k.Key, Use: k.Use, From: position + 1, slot: slot})
	h.changes++
	return true
}
