package registry

import (
	"fmt"

	"github.com/zhenglian/zhenglian/evidence"
)

// Issued is a certificate that the registry knows of a key.
type Issued struct {
	*evidence.Certificate
	Position uint64 // of the statement
}

// Expires returns the second in which the last of the key's certificates ends,
// included; limited is false for a key without one, which does not expire.
func (k *Key) Expires() (seconds int64, limited bool) { return k.until, len(k.Certificates) > 0 }

// expired says whether the last certificate of a key ended before block time,
// in milliseconds.
func (k *Key) expired(blockTime int64) bool {
	return len(k.Certificates) > 0 && blockTime >= (k.until+1)*1000
}

// checkPasskey: the member is known, the signer is the institution that enrolled
// her, and the key is in no other use.
func (r *Registry) checkPasskey(signer *Key, s *evidence.Statement) *Refusal {
	p, err := evidence.ParsePasskey(s.Payload)
	if err != nil {
		return &Refusal{evidence.CodeMalformed, "payload", err.Error()}
	}
	if signer.Institution != evidence.KindCA {
		return &Refusal{evidence.CodeNotAllowed, "protected.kid", "only an institution of kind ca registers passkeys"}
	}
	if r.used(p.Key.KID()) {
		return &Refusal{evidence.CodeConflict, "payload.key", "this key is known already"}
	}
	by, ok := r.members[p.Member]
	switch {
	case !ok:
		return &Refusal{evidence.CodeConflict, "payload.member", "no such member is enrolled: enrol a key of hers first"}
	case by != signer.Holder:
		return &Refusal{evidence.CodeConflict, "payload.member", fmt.Sprintf("this member was enrolled by %q, which alone registers passkeys for it", by)}
	}
	return nil
}

// checkCertificate: the key is a member's, not revoked, and the signer is the
// institution that enrolled it.
func (r *Registry) checkCertificate(signer *Key, s *evidence.Statement) *Refusal {
	c, err := evidence.ParseCertificate(s.Payload)
	if err != nil {
		return &Refusal{evidence.CodeMalformed, "payload", err.Error()}
	}
	target, ok := r.keys[c.KID]
	switch {
	case signer.Institution != evidence.KindCA:
		return &Refusal{evidence.CodeNotAllowed, "protected.kid", "only an institution of kind ca issues certificates"}
	case !ok || target.Enrolment == nil:
		return &Refusal{evidence.CodeConflict, "payload.kid", "no member signs with this key"}
	case target.EnrolledBy != signer.Holder:
		return &Refusal{evidence.CodeNotAllowed, "protected.kid", fmt.Sprintf("the key was enrolled by %q, which alone certifies it", target.EnrolledBy)}
	case target.Revoked:
		return &Refusal{evidence.CodeConflict, "payload.kid", fmt.Sprintf("the key was revoked at position %d", target.RevokedAt)}
	}
	for _, old := range target.Certificates {
		if old.SHA256 == c.SHA256 {
			return &Refusal{evidence.CodeConflict, "payload.sha256", fmt.Sprintf("this certificate is registered at position %d already", old.Position)}
		}
	}
	return nil
}

func (r *Registry) applyPasskey(s *evidence.Statement, position uint64) error {
	p, err := evidence.ParsePasskey(s.Payload)
	if err != nil {
		return fmt.Errorf("applying the passkey at position %d: %w", position, err)
	}
	r.keys[p.Key.KID()] = &Key{Public: p.Key, Holder: p.Member, Passkey: p, EnrolledBy: s.Issuer, EnrolledAt: position}
	return nil
}

func (r *Registry) applyCertificate(s *evidence.Statement, position uint64) error {
	c, err := evidence.ParseCertificate(s.Payload)
	if err != nil {
		return fmt.Errorf("applying the certificate at position %d: %w", position, err)
	}
	old, ok := r.keys[c.KID]
	if !ok {
		return fmt.Errorf("applying the certificate at position %d: key %s is unknown", position, c.KID)
	}
	certified := *old
	// A slice of its own: a Key never changes once it is returned.
	certified.Certificates = append(append([]Issued{}, old.Certificates...), Issued{c, position})
	certified.until = max(old.until, c.NotAfter)
	r.keys[c.KID] = &certified
	return nil
}
