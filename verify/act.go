package verify

import (
	"errors"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/evidence/webauthn"
)

// checkAct verifies how the person behind a deposit confirmed it, and holds it
// against what the policy demands of acts of this kind.
func (r *run) checkAct(s *step, at Subject) {
	m := s.manifest
	var rule evidence.ActRule
	if r.policy != nil {
		if demanded := r.policy.ActRule(m.Kind()); demanded != nil {
			rule = *demanded
		}
	}
	if m.Act == nil && rule == (evidence.ActRule{}) {
		return
	}
	act := &StepAct{Kind: m.Kind(), MinimumAssurance: rule.Assurance, PasskeyDemanded: rule.Passkey}
	r.rep.Steps[s.n-1].Act = act
	if rule.Assurance > 0 {
		r.checkAssurance(s, at, act)
	}
	switch {
	case m.Act != nil && m.Act.Passkey != nil:
		r.checkConfirmation(s, at, act)
	case rule.Passkey:
		r.check("act", at, DoesNotMatch, because("act-no-passkey", "act", act.Kind), ClauseBefore)
	}
}

// person returns the member whose act a deposit is, by the manifest; nil when
// she is not known, or is neither the signer nor the owner of the trail.
func (r *run) person(s *step) *member {
	if s.manifest.Person.Member == s.stmt.Issuer {
		return s.signer
	}
	owner := r.owner()
	if owner == nil || owner.stmt.Issuer != s.manifest.Person.Member {
		return nil
	}
	return r.memberOf(owner.stmt.KID, owner.reg.position)
}

// checkAssurance compares the level of the enrolment with the least that the
// policy takes for the act. What the manifest says of itself does not count.
func (r *run) checkAssurance(s *step, at Subject, act *StepAct) {
	name := s.manifest.Person.Member
	switch m := r.person(s); {
	case m == nil || !m.holds:
		r.check("assurance", at, Undetermined, because("person-not-enrolled", "member", name), ClauseBefore)
	case m.institution:
		r.check("assurance", at, Matches, because("person-institution", "member", name), ClauseBefore)
	case m.assurance < act.MinimumAssurance:
		r.check("assurance", at, DoesNotMatch, because("assurance-below", "member", name, "assurance", m.assurance, "act", act.Kind, "minimum", act.MinimumAssurance), ClauseBefore)
	case m.demo:
		r.check("assurance", at, Matches, because("assurance-demo", "member", name, "assurance", m.assurance, "act", act.Kind, "minimum", act.MinimumAssurance), ClauseBefore)
	default:
		r.check("assurance", at, Matches, because("assurance-reached", "member", name, "assurance", m.assurance, "act", act.Kind, "minimum", act.MinimumAssurance), ClauseBefore)
	}
}

// checkConfirmation verifies the passkey's signature over this very manifest,
// whose passkey it is, and that it was registered and not revoked at the time.
func (r *run) checkConfirmation(s *step, at Subject, act *StepAct) {
	a := s.manifest.Act.Passkey
	at.Key = a.KID.String()
	act.Passkey = &StepPasskey{KID: a.KID, Verdict: DoesNotMatch}
	verdict := func(v Verdict, why Reason) {
		act.Passkey.Verdict = v
		r.check("act", at, v, why, ClauseBefore, ClauseWebAuthn)
	}
	k := r.passkeyOf(a.KID)
	if k == nil || !k.holds {
		verdict(Undetermined, because("act-passkey-not-shown"))
		return
	}
	act.Passkey.RelyingParty, act.Passkey.Demo = k.RelyingParty, k.Demo
	person := r.person(s)
	switch {
	case k.Member != s.manifest.Person.Member:
		verdict(DoesNotMatch, because("act-other-member", "found", k.Member, "member", s.manifest.Person.Member))
		return
	case k.Demo && person != nil && person.holds && !person.demo:
		verdict(DoesNotMatch, because("act-demo-hidden", "member", k.Member))
		return
	case !s.reg.seen:
		verdict(Undetermined, because("key-position-unknown"))
		return
	case k.position >= s.reg.position:
		verdict(DoesNotMatch, because("act-passkey-later", "enrolled", k.position, "position", s.reg.position))
		return
	}
	for _, rev := range k.revocations {
		if rev.position <= s.reg.position {
			verdict(DoesNotMatch, because("act-passkey-revoked", "revoked", rev.position, "position", s.reg.position))
			return
		}
		r.notice(Subject{Step: s.n, Key: at.Key}, because("act-passkey-revoked-later", "revoked", rev.position, "position", s.reg.position))
	}
	challenge, err := s.manifest.ActDigest()
	if err != nil { // the manifest was read already, so that it is valid
		verdict(DoesNotMatch, because("act-assertion", "code", "challenge", "detail", err))
		return
	}
	if err := webauthn.Check(a, k.Key, challenge, k.RelyingParty); err != nil {
		code, detail := "malformed", err.Error()
		var w *webauthn.Error
		if errors.As(err, &w) {
			code, detail = w.Code, w.Reason
		}
		verdict(DoesNotMatch, because("act-assertion", "code", code, "detail", detail))
		return
	}
	if k.Demo {
		verdict(Matches, because("act-confirmed-demo", "member", k.Member, "act", act.Kind, "site", k.RelyingParty))
		return
	}
	verdict(Matches, because("act-confirmed", "member", k.Member, "act", act.Kind, "site", k.RelyingParty))
}
