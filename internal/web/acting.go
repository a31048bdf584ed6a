package web

import (
	"fmt"
	"net/http"
	"slices"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/identity"
)

// sessionActing is the enterprise for which the person of the session acts; empty:
// she acts for herself.
const sessionActing = "acting"

// forHeader names, on requests of the member's scripts, for whom their page was
// made (Person.filing): a page of before a switch does not go on for another.
const forHeader = "Zhenglian-For"

// actingRoutes let a person choose for whom she acts. The session remembers the
// choice and nothing else: the register says on every request whether she still may.
func (s *Site) actingRoutes() {
	if s.config.Parts.Register != nil {
		s.page("POST /acting", signedIn, s.actFor)
	}
}

// actFor takes the form's member: an enterprise whose mandate she has, or empty or
// her own for herself. Another's member is refused as one that does not exist.
func (s *Site) actFor(r *request) error {
	id := r.PostFormValue("member")
	if id == "" || id == r.person.Own {
		r.session().Take(sessionActing)
		r.notice("success", "keys.acting-self")
		r.redirect("/keys")
		return nil
	}
	m, err := r.mandate(id)
	if err != nil {
		return err
	}
	if m == nil {
		return fail(http.StatusNotFound, "keys.no-member")
	}
	r.session().Put(sessionActing, m.ID)
	r.notice("success", "keys.acting-now", "name", m.Name)
	r.redirect("/keys")
	return nil
}

// mandate returns an enterprise for which the person acts now, with her powers; nil
// when there is none of that id.
func (r *request) mandate(id string) (*identity.Member, error) {
	members, err := r.site.config.Parts.Register.Members(r.Context(), r.asker())
	if err != nil {
		return nil, fmt.Errorf("listing members: %w", err)
	}
	for _, m := range members {
		if m.ID == id && m.Kind == evidence.KindEnterprise {
			return m, nil
		}
	}
	return nil, nil
}

// act makes the person whom the session's choice says. When the mandate is over
// she is herself again, and the next page says so.
func (r *request) act() error {
	p := *r.person
	p.Own, p.Acting = p.Member, nil
	r.person = &p
	id := r.session().Get(sessionActing)
	if id == "" || r.site.config.Parts.Register == nil {
		return nil
	}
	m, err := r.mandate(id)
	if err != nil {
		return err
	}
	if m == nil {
		r.session().Take(sessionActing)
		r.notice("warning", "keys.acting-over")
		return nil
	}
	p.Member, p.Kind, p.Acting = m.ID, m.Kind.String(), m
	return nil
}

// samePage refuses a script whose page was made for another person or member than
// the session's now.
func (r *request) samePage() error {
	if made := r.Header.Get(forHeader); made != "" && r.person != nil && made != r.person.filing() {
		return fail(http.StatusConflict, "deposit.switched")
	}
	return nil
}

// may reports whether the person has a power for whom she acts. She has all for
// herself.
func (p *Person) may(power identity.Power) bool {
	return p.Acting == nil || slices.Contains(p.Acting.Powers, power)
}

// filing is the name by which a browser files its key: one for each person and
// member.
func (p *Person) filing() string {
	if p.Acting == nil {
		return p.ID
	}
	return p.ID + "/" + p.Acting.ID
}

// depositor is the name of whom the deposits are.
func (p *Person) depositor() string {
	if p.Acting == nil {
		return p.Name
	}
	return p.Acting.Name
}

// power refuses what the mandate does not include.
func (r *request) power(power identity.Power) error {
	if !r.person.may(power) {
		return fail(http.StatusForbidden, "deposit.power")
	}
	return nil
}
