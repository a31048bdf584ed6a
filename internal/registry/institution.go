package registry

import (
	"errors"
	"fmt"
	"slices"

	"github.com/zhenglian/zhenglian/evidence"
)

// institutions are the keys of the alliance's institutions: those that can be
// replaced with the sizes of the log they count for, and the kid of every one,
// so that no key ever gets a second purpose.
type institutions struct {
	alliance evidence.Digest
	kinds    map[string]evidence.InstitutionKind
	history  map[string]*evidence.KeyHistory
	kids     map[evidence.Digest]bool // of all uses, past and present
	changes  []uint64                 // positions of the key changes, ascending
}

func newInstitutions(a *evidence.Alliance) (*institutions, error) {
	in := &institutions{alliance: a.ID(), kinds: map[string]evidence.InstitutionKind{}, history: map[string]*evidence.KeyHistory{}, kids: map[evidence.Digest]bool{}}
	for i := range a.Institutions {
		d := &a.Institutions[i]
		h, err := evidence.NewKeyHistory(d)
		if err != nil {
			return nil, err
		}
		in.kinds[d.ID], in.history[d.ID] = d.Kind, h
		for _, use := range []evidence.KeyUse{evidence.UseConsensus, evidence.UseNode, evidence.UseReceipt, evidence.UseCosign,
			evidence.UseStatement, evidence.UseAttest, evidence.UseTLS} {
			keys, err := d.PublicKeys(use)
			if err != nil {
				return nil, err
			}
			for _, k := range keys {
				in.kids[k.KID()] = true
			}
		}
	}
	return in, nil
}

// used reports whether anybody has or had this key, for whatever purpose. The
// caller holds mu.
func (r *Registry) used(kid evidence.Digest) bool {
	_, ok := r.keys[kid]
	return ok || r.institutions.kids[kid]
}

// checkKeyChange: spec/registry.md, part 3. The caller holds mu.
func (r *Registry) checkKeyChange(signer *Key, s *evidence.Statement) *Refusal {
	k, err := evidence.ParseKeyChange(s.Payload)
	if err != nil {
		return &Refusal{evidence.CodeMalformed, "payload", err.Error()}
	}
	h := r.institutions.history[signer.Holder]
	if signer.Institution == "" || h == nil {
		return &Refusal{evidence.CodeNotAllowed, "protected.kid", "only an institution replaces its keys"}
	}
	if err := k.Prove(r.institutions.alliance, signer.Holder); err != nil {
		return &Refusal{evidence.CodeBadKey, "payload.proof", "the new key does not prove that it is held, for this alliance, institution, use and predecessor"}
	}
	if r.used(k.Key.KID()) {
		return &Refusal{evidence.CodeConflict, "payload.key", "this key is or was in use already: make a new one for each purpose"}
	}
	var no *evidence.ChangeError
	if err := h.Check(k); errors.As(err, &no) {
		return &Refusal{no.Code, no.Field, no.Reason}
	}
	return nil
}

// applyKeyChange folds in a key change. The caller holds mu.
func (r *Registry) applyKeyChange(s *evidence.Statement, position uint64) error {
	k, err := evidence.ParseKeyChange(s.Payload)
	if err != nil {
		return fmt.Errorf("applying the key change at position %d: %w", position, err)
	}
	in := r.institutions
	h := in.history[s.Issuer]
	if h == nil || !h.Apply(k, position) {
		return fmt.Errorf("applying the key change at position %d: %q has no such key", position, s.Issuer)
	}
	in.kids[k.Key.KID()] = true
	in.changes = append(in.changes, position)
	if k.Use != evidence.UseStatement {
		return nil
	}
	if old, ok := r.keys[k.Replaces]; ok {
		ended := *old
		ended.Revoked, ended.RevokedAt, ended.Reason = true, position, k.Reason
		r.keys[k.Replaces] = &ended
	}
	r.keys[k.Key.KID()] = &Key{Public: k.Key, Holder: s.Issuer, Institution: in.kinds[s.Issuer], EnrolledBy: s.Issuer, EnrolledAt: position}
	return nil
}

// InstitutionKeys returns an institution's keys of a use that count for a log
// of this size, in the order of its descriptor; none for an institution or a
// use that is not known. Sizes that the log has reached have one answer for
// ever.
func (r *Registry) InstitutionKeys(institution string, use evidence.KeyUse, size uint64) []*evidence.PublicKey {
	r.mu.RLock()
	defer r.mu.RUnlock()
	h := r.institutions.history[institution]
	if h == nil {
		return nil
	}
	return h.Keys(use, size)
}

// History returns a copy of an institution's keys, nil for one that is not known.
func (r *Registry) History(institution string) *evidence.KeyHistory {
	r.mu.RLock()
	defer r.mu.RUnlock()
	h := r.institutions.history[institution]
	if h == nil {
		return nil
	}
	return h.Clone()
}

// KeyChanges returns the positions of the key changes, ascending.
func (r *Registry) KeyChanges() []uint64 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return slices.Clone(r.institutions.changes)
}
