package verify

import (
	"github.com/zhenglian/zhenglian/evidence"
)

const pathAlliance = "trust/alliance.json"

// establishTrust decides whose keys count. The package's own founding document
// serves as trust only when the verifier pinned its digest; without any trust
// it serves to find contradictions, and the issuer is not established.
func (r *run) establishTrust() {
	own := r.packageAlliance()
	policy, pin := r.opts.Policy, r.opts.Alliance
	at := Subject{Path: pathAlliance}
	switch {
	case policy != nil && pin != nil && policy.Alliance != *pin:
		r.check("issuer", Subject{}, DoesNotMatch, because("policy-other-alliance", "policy", policy.Alliance, "pinned", *pin), ClausePlatform)
	case policy != nil:
		r.policy, r.trusted = policy, true
		r.rep.Basis.Kind = "policy"
		r.checkPolicyAlliance(own, policy)
	case pin != nil && own == nil:
		r.check("issuer", at, Undetermined, because("alliance-absent", "pinned", *pin), ClausePlatform)
	case pin != nil && own.ID() != *pin:
		r.check("issuer", at, DoesNotMatch, because("alliance-other", "found", own.ID(), "pinned", *pin), ClausePlatform)
	case pin != nil:
		r.policy = r.fromAlliance(own)
		if r.trusted = r.policy != nil; r.trusted {
			r.rep.Basis.Kind = "alliance"
			r.check("issuer", at, Matches, because("alliance-pinned", "name", own.Name, "alliance", own.ID()), ClausePlatform)
		}
	}
	if !r.trusted {
		r.rep.Basis.Kind = "none"
		if pin == nil && policy == nil {
			r.check("issuer", Subject{}, Undetermined, because("no-policy"), ClausePlatform)
		}
		if own != nil {
			r.policy = r.fromAlliance(own)
		}
	}
	if r.policy != nil {
		b := &r.rep.Basis
		b.Alliance, b.Name, b.Quorum, b.Institutions = r.policy.Alliance, r.policy.Name, r.policy.Quorum, len(r.policy.Institutions)
		if r.trusted {
			b.Names = make(map[string]string, len(r.policy.Institutions))
			for i := range r.policy.Institutions {
				b.Names[r.policy.Institutions[i].ID] = r.policy.Institutions[i].Name
			}
		}
	}
}

// packageAlliance reads the founding document in the package; nil when there is
// none or it is no such document, which a check then says.
func (r *run) packageAlliance() *evidence.Alliance {
	if _, ok := r.files[pathAlliance]; !ok {
		return nil
	}
	data := r.readFile(pathAlliance)
	r.judged[pathAlliance] = true
	a, err := evidence.ParseAlliance(data)
	if err != nil {
		code, field, _, detail := formatParts(err)
		r.check("alliance", Subject{Path: pathAlliance}, DoesNotMatch, because("alliance-malformed", "field", field, "code", code, "detail", detail), ClausePlatform, ClauseJSON)
		return nil
	}
	return a
}

func (r *run) fromAlliance(a *evidence.Alliance) *evidence.Policy {
	p, err := evidence.PolicyFromAlliance(a)
	if err != nil {
		code, field, _, detail := formatParts(err)
		r.check("alliance", Subject{Path: pathAlliance}, DoesNotMatch, because("alliance-malformed", "field", field, "code", code, "detail", detail), ClausePlatform)
		return nil
	}
	return p
}

// checkPolicyAlliance compares the package's founding document, a convenience
// for readers, with the alliance of the policy.
func (r *run) checkPolicyAlliance(own *evidence.Alliance, policy *evidence.Policy) {
	at := Subject{Path: pathAlliance}
	switch {
	case own == nil:
		r.check("issuer", Subject{}, Matches, because("policy-trusted", "name", policy.Name, "alliance", policy.Alliance), ClausePlatform)
	case own.ID() != policy.Alliance:
		r.check("issuer", at, DoesNotMatch, because("alliance-other", "found", own.ID(), "pinned", policy.Alliance), ClausePlatform)
	default:
		r.check("issuer", at, Matches, because("policy-trusted", "name", policy.Name, "alliance", policy.Alliance), ClausePlatform)
	}
}
