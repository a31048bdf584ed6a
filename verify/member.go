package verify

import (
	"github.com/zhenglian/zhenglian/evidence"
)

// member is what is known of a signing key.
type member struct {
	kid         evidence.Digest
	key         *evidence.PublicKey
	holder      string
	kind        string
	institution bool
	assurance   int
	demo        bool
	commitment  evidence.Digest
	by          string // institution that enrolled it, by the package
	holds       bool   // enrolment verified, or a key of the policy
	genesis     bool   // known from the founding on
	enrolledAt  uint64 // position; meaningless for institutions and genesis keys
	path        string
	revocations []revocation
}

// revocation is one that verified.
type revocation struct {
	position uint64
	path     string
	reason   string // name of the CRLReason, RFC 5280 §5.3.1; empty when not known
}

// revocationReason names a CRLReason as RFC 5280 §5.3.1 does.
func revocationReason(n uint64) string {
	names := [...]string{"unspecified", "keyCompromise", "cACompromise", "affiliationChanged", "superseded", "cessationOfOperation", "certificateHold", "", "removeFromCRL", "privilegeWithdrawn", "aACompromise"}
	if n < uint64(len(names)) {
		return names[n]
	}
	return ""
}

// memberOf returns what is known of a key for a statement at that position.
func (r *run) memberOf(kid evidence.Digest, position uint64) *member {
	if m := r.memberFromLog(kid); m != nil {
		if shown := r.members[kid]; shown != nil {
			m.path = shown.path
			for i := range m.revocations { // a registry need not keep the reason
				for _, rev := range shown.revocations {
					if rev.position == m.revocations[i].position {
						m.revocations[i].reason = rev.reason
					}
				}
			}
			if m.commitment.IsZero() && shown.holds {
				m.commitment = shown.commitment // a registry need not keep it
			}
		}
		return m
	}
	if r.policy != nil {
		if inst, key, ok := r.policy.ByKID(kid, evidence.UseStatement, position); ok {
			return &member{kid: kid, key: key, holder: inst, kind: string(r.policy.Institution(inst).Kind), institution: true, holds: true}
		}
	}
	return r.members[kid]
}

// checkMembers verifies the enrolment and revocation of each member key that a
// step names or the package carries.
func (r *run) checkMembers() {
	for _, kid := range r.memberKIDs() {
		r.checkEnrolment(kid)
	}
	r.checkPasskeys()
	for _, kid := range r.memberKIDs() {
		r.checkRevocation(kid)
	}
}

// registryStatement verifies what statements of the registry share: form,
// receipts with a quorum, and a registry subject.
func (r *run) registryStatement(id string, at Subject, contentType string, data []byte, receipts []receiptFile) (*evidence.Statement, registered, bool) {
	r.judged[at.Path] = true
	s, err := evidence.ParseStatement(data)
	if err != nil {
		code, field, offset, detail := formatParts(err)
		r.check(id, at, DoesNotMatch, because("statement-malformed", "code", code, "field", field, "offset", offset, "detail", detail), ClausePlatform, ClauseEncoding)
		return nil, registered{}, false
	}
	if s.ContentType != contentType {
		r.check(id, at, DoesNotMatch, because("registry-other-kind"), ClausePlatform)
		return nil, registered{}, false
	}
	reg := r.checkReceipts(at, s.Digest(), nil, receipts)
	return s, reg, true
}

// signedByInstitution verifies a registry statement under the key of an institution that
// the policy trusts. Without keys the answer is open, not wrong.
func (r *run) signedByInstitution(id string, at Subject, s *evidence.Statement, position uint64) (inst *evidence.PolicyInstitution, ok bool) {
	if r.policy == nil {
		r.check(id, at, Undetermined, because("no-keys"), ClausePlatform)
		return nil, false
	}
	name, key, found := r.policy.ByKID(s.KID, evidence.UseStatement, position)
	if !found && r.policy.Institution(s.Issuer) != nil && r.unknownKey(s.KID) {
		r.check(id, at, Undetermined, because("key-unknown", "institution", s.Issuer, "key", s.KID), ClausePlatform)
		return nil, false
	}
	if !found {
		r.check(id, at, DoesNotMatch, because("registry-signer-unknown"), ClausePlatform)
		return nil, false
	}
	if s.Issuer != name || s.Algorithm != key.Algorithm() || key.Verify(s.ToBeSigned(), s.Signature) != nil {
		r.check(id, at, DoesNotMatch, because("registry-signature", "institution", name), ClausePlatform, ClauseCOSE)
		return nil, false
	}
	return r.policy.Institution(name), true
}

func (r *run) checkEnrolment(kid evidence.Digest) {
	data, receipts, path, present := r.registration(kid, "enrolment", evidence.RoleEnrolmentReceipt)
	if !present {
		return // the step's key status says so
	}
	at := Subject{Path: path, Key: kid.String()}
	s, reg, ok := r.registryStatement("enrolment", at, evidence.TypeEnrolment, data, receipts)
	if !ok {
		return
	}
	e, err := evidence.ParseEnrolment(s.Payload)
	if err != nil { // ParseStatement has read it already
		r.check("enrolment", at, DoesNotMatch, because("registry-other-kind"), ClausePlatform)
		return
	}
	m := &member{kid: kid, key: e.Key, holder: e.Member, kind: e.Kind.String(), assurance: int(e.Assurance), demo: e.Demo, commitment: e.Commitment, enrolledAt: reg.position, path: path}
	if e.Key.KID() != kid {
		r.check("enrolment", at, DoesNotMatch, because("enrolment-other-key", "found", e.Key.KID()), ClausePlatform)
		return
	}
	r.members[kid] = m
	inst, ok := r.signedByInstitution("enrolment", at, s, reg.position)
	switch {
	case !ok:
		return
	case inst.Kind != evidence.KindCA:
		r.check("enrolment", at, DoesNotMatch, because("enrolment-not-ca", "institution", inst.ID), ClausePlatform)
		return
	case !reg.quorum:
		return // its own check has said so
	}
	m.holds, m.by = true, inst.ID
	r.check("enrolment", at, Matches, because("enrolment-holds", "member", m.holder, "institution", inst.ID, "position", reg.position), ClausePlatform, ClauseBefore)
}

func (r *run) checkRevocation(kid evidence.Digest) {
	data, receipts, path, present := r.registration(kid, "revocation", evidence.RoleRevocationReceipt)
	if !present {
		return
	}
	at := Subject{Path: path, Key: kid.String()}
	s, reg, ok := r.registryStatement("revocation", at, evidence.TypeRevocation, data, receipts)
	if !ok {
		return
	}
	rev, err := evidence.ParseRevocation(s.Payload)
	if err != nil || rev.KID != kid {
		r.check("revocation", at, DoesNotMatch, because("revocation-other-key"), ClausePlatform)
		return
	}
	// The holder may revoke a key, with it or with another of the same holder;
	// otherwise an institution does.
	m, k := r.members[kid], r.passkeys[kid]
	holder := ""
	switch {
	case m != nil:
		holder = m.holder
	case k != nil:
		holder = k.Member
	}
	if by := r.members[s.KID]; by != nil && by.key != nil && holder != "" && by.holder == holder && s.Issuer == holder {
		if by.key.Verify(s.ToBeSigned(), s.Signature) != nil {
			r.check("revocation", at, DoesNotMatch, because("registry-signature", "institution", s.Issuer), ClausePlatform, ClauseCOSE)
			return
		}
	} else if _, ok := r.signedByInstitution("revocation", at, s, reg.position); !ok {
		return
	}
	if !reg.quorum {
		return
	}
	found := revocation{position: reg.position, path: path, reason: revocationReason(rev.Reason)}
	switch {
	case m != nil:
		m.revocations = append(m.revocations, found)
	case k != nil:
		k.revocations = append(k.revocations, found)
	}
	r.check("revocation", at, Matches, because("revocation-holds", "position", reg.position), ClausePlatform)
}

// checkKeyStatus says whether the key might sign at the step's position. That
// it was not revoked before cannot be proven by inclusion: a quorum's receipt
// asserts that the registration rules held, key status included.
func (r *run) checkKeyStatus(s *step, at Subject) {
	m := s.signer
	at.Path = m.path
	if at.Path == "" {
		at.Path = s.index.Statement
	}
	switch {
	case m.holder != s.stmt.Issuer:
		r.check("key-status", at, DoesNotMatch, because("key-other-holder", "holder", m.holder, "issuer", s.stmt.Issuer), ClausePlatform)
	case m.institution && len(m.revocations) == 0:
		r.check("key-status", at, Matches, because("key-institution", "institution", m.holder, "position", s.reg.position), ClausePlatform)
	case !m.holds:
		r.check("key-status", at, Undetermined, because("key-not-shown"), ClausePlatform)
	case !s.reg.seen:
		r.check("key-status", at, Undetermined, because("key-position-unknown"), ClausePlatform)
	case !m.genesis && m.enrolledAt >= s.reg.position:
		r.check("key-status", at, DoesNotMatch, because("key-enrolled-later", "enrolled", m.enrolledAt, "position", s.reg.position), ClausePlatform)
	default:
		for _, rev := range m.revocations {
			if rev.position <= s.reg.position {
				if rev.path != "" {
					at.Path = rev.path
				}
				r.check("key-status", at, DoesNotMatch, because("key-revoked", "revoked", rev.position, "position", s.reg.position), ClausePlatform)
				return
			}
			if rev.reason == "" {
				r.notice(Subject{Step: s.n, Key: at.Key}, because("key-revoked-later", "revoked", rev.position, "position", s.reg.position))
				continue
			}
			r.notice(Subject{Step: s.n, Key: at.Key}, because("key-revoked-later-reason", "revoked", rev.position, "position", s.reg.position, "revocation", rev.reason))
		}
		r.check("key-status", at, Matches, because("key-good", "member", m.holder, "enrolled", m.enrolledAt, "position", s.reg.position), ClausePlatform)
	}
}
