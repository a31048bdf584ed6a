package web

import (
	"net/http"
	"slices"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/identity"
)

// deposit is the page on which a member deposits files, and the one on which
// this browser gets its key. Both need a script: what they do happens on her
// device.
func (s *Site) deposit() {
	if s.config.Parts.Custody == nil || s.config.Parts.Enroller == nil {
		return
	}
	s.page("GET /deposit", member, s.depositPage)
	s.page("GET /deposit/key", signedIn, s.depositKeyPage)
	s.navigate(10, "/deposit", "deposit.nav", member)
}

// workbench is what the scripts of the member's pages start with.
type workbench struct {
	Built  bool   // the WebAssembly module is here
	Person string // with the member: by which this browser files its key
	Member string
	Acts   bool
}

func (s *Site) workbench(r *request) workbench {
	return workbench{Built: s.statics.has("browser.wasm") && s.statics.has("wasm_exec.js"), Person: r.person.filing(), Member: r.person.Member, Acts: s.config.Parts.Acts != nil}
}

type depositView struct {
	workbench
	Trail string // the trail that a step is added to; empty: it opens one
	Next  string // what a new key leads to
	// Demanded: the institution's policy asks for a passkey on every deposit.
	Demanded bool
	// Denied: her mandate does not include deposits.
	Denied bool
}

func (s *Site) depositPage(r *request) error {
	v := depositView{workbench: s.workbench(r), Denied: !r.person.may(identity.PowerDeposit)}
	if p := s.policy(); p != nil {
		rule := p.ActRule(evidence.ActDeposit)
		v.Demanded = rule != nil && rule.Passkey
	}
	if text := r.URL.Query().Get("trail"); text != "" {
		trail, err := digestOf(text)
		if err != nil {
			return err
		}
		if _, err := s.config.Parts.Custody.Trail(r.Context(), r.person.Member, trail); err != nil {
			return r.refused(err)
		}
		v.Trail = trail.String()
	}
	return r.render(http.StatusOK, "deposit", v)
}

func (s *Site) depositKeyPage(r *request) error {
	next := r.URL.Query().Get("next")
	return r.render(http.StatusOK, "deposit-key", depositView{workbench: s.workbench(r), Next: r.localPath(next, "/deposit")})
}

// witnessName is an institution's name in the policy, or its id.
func (s *Site) witnessName(id string) string {
	p := s.policy()
	if p == nil {
		return id
	}
	i := slices.IndexFunc(p.Institutions, func(i evidence.PolicyInstitution) bool { return i.ID == id })
	if i < 0 {
		return id
	}
	return p.Institutions[i].Name
}
