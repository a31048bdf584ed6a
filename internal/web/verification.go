package web

import (
	"fmt"
	"net/http"
	"strconv"

	"github.com/zhenglian/zhenglian/evidence"
)

// verification is the public page on which anybody checks a package in her own
// browser. The server gives the program and the policy, and learns nothing.
func (s *Site) verification() {
	s.page("GET /verify", public, s.verifyPage)
	s.navigate(40, "/verify", "verify.nav", public)
	s.bare("GET /verify/policy.json", public, s.verifyPolicy)
}

// policy is what the pages propose now, nil when they propose none.
func (s *Site) policy() *evidence.Policy {
	if s.config.Alliance.Policy == nil {
		return nil
	}
	return s.config.Alliance.Policy()
}

// verifyView is what the page shows.
type verifyView struct {
	Built        bool // the WebAssembly module is here
	Policy       bool // this portal has its alliance's policy
	Institutions int
	Quorum       int
}

func (s *Site) verifyPage(r *request) error {
	v := verifyView{Built: s.statics.has("verify.wasm") && s.statics.has("wasm_exec.js")}
	if p := s.policy(); p != nil {
		v.Policy, v.Institutions, v.Quorum = true, len(p.Institutions), p.Quorum
	}
	return r.render(http.StatusOK, "verify", v)
}

func (s *Site) verifyPolicy(r *request) error {
	p := s.policy()
	if p == nil {
		return fail(http.StatusNotFound, "verify.no-policy")
	}
	policy, err := p.Encode()
	if err != nil {
		return fmt.Errorf("encoding the policy: %w", err)
	}
	h := r.w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Disposition", `inline; filename="policy.json"`)
	h.Set("Content-Length", strconv.Itoa(len(policy)))
	_, _ = r.w.Write(policy) // the browser may have gone away
	return nil
}
