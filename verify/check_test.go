package verify_test

import (
	"testing"

	"github.com/zhenglian/zhenglian/verify"
)

func TestHonestPackageMatches(t *testing.T) {
	s := tell(t, "honest", 4)
	pkg := encode(t, s.content(t))
	id := s.ID()
	for name, opts := range map[string]verify.Options{
		"policy":      {Policy: s.Policy},
		"pinned":      {Alliance: &id},
		"both":        {Policy: s.Policy, Alliance: &id},
		"court's log": {Policy: s.Policy, Log: s.Log("court")},
	} {
		t.Run(name, func(t *testing.T) {
			rep := check(t, pkg, opts)
			wants(t, rep, verify.Matches)
			if !rep.IssuerEstablished || !rep.Completeness.Known || rep.Completeness.Count != 4 || len(rep.Steps) != 4 {
				t.Errorf("issuer %v, completeness %+v, %d steps", rep.IssuerEstablished, rep.Completeness, len(rep.Steps))
			}
		})
	}
}
