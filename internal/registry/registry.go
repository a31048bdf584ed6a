// Package registry knows whose keys may register what. It is nothing but a fold
// over the registry statements of the log (spec/statement.md), in log order,
// from the keys of the genesis: whoever has the log can compute it again.
//
//	genesis ──► institutions' keys
//	log: key change (by the institution) ──► its next key, from the next size on
//	     enrolment (by a CA) ──► member key, active from the next position
//	     passkey (by that CA) ──► confirms acts, signs nothing
//	     certificate (by that CA) ──► the key ends with the last of them
//	     revocation (by that CA or the member) ──► revoked from the next position
//	Check(statement, block time) ──► may it be registered here?   Apply ──► fold
//
// Everything here is deterministic: no clock, no randomness, no map order, and
// a bad statement gets a code, never a panic.
//
// Trusted: whoever alters a running registry can let a foreign key deposit on
// this node; the others would refuse the block it then proposes.
package registry

import (
	"fmt"
	"sync"

	"github.com/zhenglian/zhenglian/evidence"
)

// Key is what the registry knows of one key. A Key never changes once it is
// returned; a revocation puts another in its place.
type Key struct {
	Public      *evidence.PublicKey
	Holder      string                   // member or institution id: the iss of what it signs
	Institution evidence.InstitutionKind // of an institution's statement key; else empty
	Enrolment   *evidence.Enrolment      // of a member's key; else nil
	Passkey     *evidence.Passkey        // of a passkey, which signs no statements; else nil
	EnrolledBy  string                   // institution id; empty for keys of the genesis
	EnrolledAt  uint64                   // position of the enrolment, of the passkey's statement or of the change to an institution's key
	Revoked     bool
	RevokedAt   uint64 // position of the revocation, or of the change to the next key: nothing from there on
	Reason      uint64 // CRLReason, RFC 5280 §5.3.1
	// Certificates of a member's key in the order of the log. A key that has any
	// registers nothing after the last of them has ended.
	Certificates []Issued
	until        int64 // latest NotAfter of Certificates
}

// Registry is safe for concurrent readers beside one writer.
type Registry struct {
	mu      sync.RWMutex
	keys    map[evidence.Digest]*Key
	members map[string]string // member id → institution that enrolled it
	hash    evidence.Digest   // running hash of the changes

	institutions *institutions
}

// New returns the registry of the genesis: every institution's statement key.
func New(a *evidence.Alliance) (*Registry, error) {
	r := &Registry{keys: map[evidence.Digest]*Key{}, members: map[string]string{}}
	for i := range a.Institutions {
		d := &a.Institutions[i]
		keys, err := d.PublicKeys(evidence.UseStatement)
		if err != nil {
			return nil, fmt.Errorf("statement key of %s: %w", d.ID, err)
		}
		for _, k := range keys {
			r.keys[k.KID()] = &Key{Public: k, Holder: d.ID, Institution: d.Kind}
		}
	}
	r.hash = a.ID()
	var err error
	r.institutions, err = newInstitutions(a)
	return r, err
}

// Key returns what is known of a key.
func (r *Registry) Key(kid evidence.Digest) (*Key, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	k, ok := r.keys[kid]
	return k, ok
}

// Hash returns the running hash of all changes: the alliance's id at genesis,
// then SHA-256(hash ‖ digest of the registry statement) for each one.
func (r *Registry) Hash() evidence.Digest {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.hash
}

// Refusal says why a statement may not be registered.
type Refusal struct {
	Code   evidence.Code
	Field  string
	Reason string
}

// Holder finds the key that a statement names and says whether algorithm and
// issuer are that key's. The refusal is nil when they are.
func (r *Registry) Holder(s *evidence.Statement) (*Key, *Refusal) {
	key, ok := r.Key(s.KID)
	switch {
	case !ok:
		return nil, &Refusal{evidence.CodeUnknownKey, "protected.kid", fmt.Sprintf("no member or institution of this alliance has the key %s", s.KID)}
	case key.Passkey != nil:
		return key, &Refusal{evidence.CodeNotAllowed, "protected.kid", "the key is a passkey, which confirms acts and signs no statements"}
	case s.Algorithm != key.Public.Algorithm():
		return key, &Refusal{evidence.CodeWrongAlgorithm, "protected.alg", fmt.Sprintf("the key signs with %s", key.Public.Algorithm())}
	case s.Issuer != key.Holder:
		return key, &Refusal{evidence.CodeWrongIssuer, "protected.claims.iss", fmt.Sprintf("the key is held by %q", key.Holder)}
	}
	return key, nil
}

// Check says whether the holder of the key may register this statement at this
// block time, in milliseconds: whether the key is revoked or its certificates
// have ended and, for statements of the registry, whether this signer may make
// that change. It returns nil when it may.
func (r *Registry) Check(s *evidence.Statement, blockTime int64) *Refusal {
	r.mu.RLock()
	defer r.mu.RUnlock()
	key, ok := r.keys[s.KID]
	switch {
	case !ok:
		return &Refusal{evidence.CodeUnknownKey, "protected.kid", fmt.Sprintf("no member or institution of this alliance has the key %s", s.KID)}
	case key.Revoked:
		return &Refusal{evidence.CodeRevokedKey, "protected.kid", fmt.Sprintf("the key was revoked at position %d of the log", key.RevokedAt)}
	case key.expired(blockTime):
		return &Refusal{evidence.CodeExpiredKey, "protected.kid", fmt.Sprintf("the last certificate of the key ended at %d seconds since 1970: renew it", key.until)}
	case s.ContentType == evidence.TypeEnrolment:
		return r.checkEnrolment(key, s)
	case s.ContentType == evidence.TypePasskey:
		return r.checkPasskey(key, s)
	case s.ContentType == evidence.TypeCertificate:
		return r.checkCertificate(key, s)
	case s.ContentType == evidence.TypeRevocation:
		return r.checkRevocation(key, s)
	case s.ContentType == evidence.TypeKeyChange:
		return r.checkKeyChange(key, s)
	}
	return nil
}

func (r *Registry) checkEnrolment(signer *Key, s *evidence.Statement) *Refusal {
	e, err := evidence.ParseEnrolment(s.Payload)
	if err != nil {
		return &Refusal{evidence.CodeMalformed, "payload", err.Error()}
	}
	if signer.Institution != evidence.KindCA {
		return &Refusal{evidence.CodeNotAllowed, "protected.kid", "only an institution of kind ca enrols members"}
	}
	if r.used(e.Key.KID()) {
		return &Refusal{evidence.CodeConflict, "payload.key", "this key is enrolled already"}
	}
	if by, ok := r.members[e.Member]; ok && by != signer.Holder {
		return &Refusal{evidence.CodeConflict, "payload.member", fmt.Sprintf("this member was enrolled by %q, which alone adds keys to it", by)}
	}
	return nil
}

func (r *Registry) checkRevocation(signer *Key, s *evidence.Statement) *Refusal {
	rev, err := evidence.ParseRevocation(s.Payload)
	if err != nil {
		return &Refusal{evidence.CodeMalformed, "payload", err.Error()}
	}
	target, ok := r.keys[rev.KID]
	switch {
	case !ok || target.Enrolment == nil && target.Passkey == nil:
		return &Refusal{evidence.CodeConflict, "payload.kid", "no member has this key"}
	case target.Revoked:
		return &Refusal{evidence.CodeConflict, "payload.kid", fmt.Sprintf("the key was revoked at position %d already", target.RevokedAt)}
	case signer.Holder != target.EnrolledBy && signer.Holder != target.Holder:
		return &Refusal{evidence.CodeNotAllowed, "protected.kid", "only the institution that enrolled the key or its holder revokes it"}
	}
	return nil
}

// Apply folds in a registry statement that Check let pass, at its position.
// Other statements change nothing.
func (r *Registry) Apply(s *evidence.Statement, position uint64) error {
	if !s.Registry() {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch s.ContentType {
	case evidence.TypeEnrolment:
		e, err := evidence.ParseEnrolment(s.Payload)
		if err != nil {
			return fmt.Errorf("applying the enrolment at position %d: %w", position, err)
		}
		r.keys[e.Key.KID()] = &Key{Public: e.Key, Holder: e.Member, Enrolment: e, EnrolledBy: s.Issuer, EnrolledAt: position}
		r.members[e.Member] = s.Issuer
	case evidence.TypePasskey:
		if err := r.applyPasskey(s, position); err != nil {
			return err
		}
	case evidence.TypeCertificate:
		if err := r.applyCertificate(s, position); err != nil {
			return err
		}
	case evidence.TypeRevocation:
		rev, err := evidence.ParseRevocation(s.Payload)
		if err != nil {
			return fmt.Errorf("applying the revocation at position %d: %w", position, err)
		}
		old, ok := r.keys[rev.KID]
		if !ok {
			return fmt.Errorf("applying the revocation at position %d: key %s is unknown", position, rev.KID)
		}
		revoked := *old
		revoked.Revoked, revoked.RevokedAt, revoked.Reason = true, position, rev.Reason
		r.keys[rev.KID] = &revoked
	case evidence.TypeKeyChange:
		if err := r.applyKeyChange(s, position); err != nil {
			return err
		}
	}
	d := s.Digest()
	r.hash = evidence.SumSHA256(append(append([]byte{}, r.hash[:]...), d[:]...))
	return nil
}

// Keys returns how many keys are known, institutions' among them.
func (r *Registry) Keys() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.keys)
}
