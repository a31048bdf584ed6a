package web

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/zhenglian/zhenglian/internal/identity"
)

// desk is the registration authority's: officers see what waits, open one
// application at a time for a purpose that they give, and decide. Each look is
// in the access log before anything is shown, and the pages say so.
func (s *Site) desk() {
	if s.config.Parts.Register == nil {
		return
	}
	s.page("GET /desk", officer, s.deskQueue)
	s.page("GET /desk/{id}", officer, s.deskOpen)
	s.page("POST /desk/{id}", officer, s.deskPurpose)
	s.page("POST /desk/{id}/close", officer, s.deskClose)
	s.page("GET /desk/{id}/documents/{document}", officer, s.deskDocument)
	s.bare("GET /desk/{id}/documents/{document}/content", officer, s.deskContent)
	s.page("POST /desk/{id}/decide", officer, s.deskDecide)
	s.navigate(60, "/desk", "desk.nav", officer)
}

// sessionPurpose keeps why one application was opened, in the officer's session:
// "ID\npurpose". Opening another asks again.
const sessionPurpose = "desk.purpose"

// deskStates are the lists of the desk.
func deskStates() []identity.ApplicationState {
	return []identity.ApplicationState{identity.ApplicationSubmitted, identity.ApplicationCorrection, identity.ApplicationApproved, identity.ApplicationRefused}
}

func (s *Site) deskQueue(r *request) error {
	state := identity.ApplicationSubmitted
	for _, one := range deskStates() {
		if r.URL.Query().Get("state") == string(one) {
			state = one
		}
	}
	all, err := s.config.Parts.Register.Queue(r.Context(), r.asker(), state)
	if err != nil {
		return registered(fmt.Errorf("reading the queue: %w", err))
	}
	return r.render(http.StatusOK, "desk", struct {
		State        identity.ApplicationState
		States       []identity.ApplicationState
		Applications []*identity.Application
		Self         string
	}{state, deskStates(), all, r.person.ID})
}

// purpose returns why this session opened the application; empty: it did not.
func (r *request) purpose(id string) string {
	opened, purpose, _ := strings.Cut(r.session().Get(sessionPurpose), "\n")
	if opened != id {
		return ""
	}
	return purpose
}

func (s *Site) deskPurpose(r *request) error {
	id, purpose := r.PathValue("id"), strings.TrimSpace(r.PostFormValue("purpose"))
	if purpose == "" || len([]rune(purpose)) > 200 {
		return r.render(http.StatusUnprocessableEntity, "desk-purpose", map[string]string{"ID": id, "Error": r.T("desk.purpose-wrong")})
	}
	r.session().Put(sessionPurpose, id+"\n"+purpose)
	r.redirect("/desk/" + id)
	return nil
}

func (s *Site) deskClose(r *request) error {
	r.session().Take(sessionPurpose)
	r.redirect("/desk")
	return nil
}

type deskView struct {
	*applicationView
	Opened   *identity.Opened
	Facts    []factView
	Purpose  string
	Error    string
	Reason   string
	Decision string
	Decide   bool // submitted, and not her own
}

func (s *Site) deskView(r *request, id, purpose string) (*deskView, error) {
	o, err := s.config.Parts.Register.OpenApplication(r.Context(), r.asker(), id, purpose)
	if err != nil {
		return nil, registered(fmt.Errorf("opening an application: %w", err))
	}
	return &deskView{applicationView: s.applicationView(r, o.Application, nil), Opened: o, Facts: s.factViews(r, o.Facts), Purpose: purpose, Reason: r.PostFormValue("reason"), Decision: r.PostFormValue("outcome"),
		Decide: o.State == identity.ApplicationSubmitted && !o.Own}, nil
}

func (s *Site) deskOpen(r *request) error {
	id := r.PathValue("id")
	purpose := r.purpose(id)
	if purpose == "" {
		return r.render(http.StatusOK, "desk-purpose", map[string]string{"ID": id, "Error": ""})
	}
	v, err := s.deskView(r, id, purpose)
	if err != nil {
		return err
	}
	return r.render(http.StatusOK, "desk-application", v)
}

type deskDocumentView struct {
	Application string
	Document    identity.Document
	Image       bool
}

// deskDocument is the viewer. The paper itself comes from deskContent, where the
// look is logged.
func (s *Site) deskDocument(r *request) error {
	id := r.PathValue("id")
	purpose := r.purpose(id)
	if purpose == "" {
		return r.render(http.StatusOK, "desk-purpose", map[string]string{"ID": id, "Error": ""})
	}
	v, err := s.deskView(r, id, purpose)
	if err != nil {
		return err
	}
	for _, d := range v.Documents {
		if d.ID == r.PathValue("document") {
			return r.render(http.StatusOK, "desk-document", deskDocumentView{id, d, strings.HasPrefix(d.Media, "image/")})
		}
	}
	return fail(http.StatusNotFound, "keys.unknown")
}

func (s *Site) deskContent(r *request) error {
	id := r.PathValue("id")
	purpose := r.purpose(id)
	if purpose == "" {
		return fail(http.StatusForbidden, "desk.no-purpose")
	}
	content, media, err := s.config.Parts.Register.OpenDocument(r.Context(), r.asker(), id, r.PathValue("document"), purpose)
	if err != nil {
		return registered(fmt.Errorf("opening a document: %w", err))
	}
	return r.paper(content, media)
}

func (s *Site) deskDecide(r *request) error {
	id := r.PathValue("id")
	purpose := r.purpose(id)
	if purpose == "" {
		return fail(http.StatusForbidden, "desk.no-purpose")
	}
	level, err := strconv.Atoi(r.PostFormValue("level"))
	if err != nil {
		level = 0 // only approving a person needs one, and refuses this
	}
	d := identity.Decision{Outcome: identity.ApplicationState(r.PostFormValue("outcome")), Reason: r.PostFormValue("reason"), Level: level}
	if d.Outcome != identity.ApplicationApproved && d.Outcome != identity.ApplicationRefused && d.Outcome != identity.ApplicationCorrection {
		return s.deskAgain(r, id, purpose, r.T("desk.choose"))
	}
	done, err := s.config.Parts.Register.Decide(r.Context(), r.asker(), id, d)
	var bad identity.FieldErrors
	switch {
	case errors.As(err, &bad):
		key := "desk.wrong-" + bad[0].Field
		if !s.texts.has(key) {
			key = "desk.choose"
		}
		return s.deskAgain(r, id, purpose, r.T(key))
	case errors.Is(err, identity.ErrDocument):
		return s.deskAgain(r, id, purpose, r.T("desk.duplicate"))
	case errors.Is(err, identity.ErrConflict):
		return s.deskAgain(r, id, purpose, r.T("desk.conflict"))
	case err != nil:
		return registered(fmt.Errorf("deciding an application: %w", err))
	}
	s.deliver(r)
	r.session().Take(sessionPurpose)
	if done.RecoveryCode != "" {
		// Shown here and kept nowhere: the page cannot be had again.
		return r.render(http.StatusOK, "desk-code", done)
	}
	r.notice("success", "desk.decided")
	r.redirect("/desk")
	return nil
}

func (s *Site) deskAgain(r *request, id, purpose, text string) error {
	v, err := s.deskView(r, id, purpose)
	if err != nil {
		return err
	}
	v.Error = text
	return r.render(http.StatusUnprocessableEntity, "desk-application", v)
}
