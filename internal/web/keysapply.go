package web

import (
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"slices"
	"time"

	"github.com/zhenglian/zhenglian/internal/identity"
)

// applications are the pages on which a person applies to be identified, an
// enterprise to be a member, and whoever lost a device to begin anew.
func (s *Site) applications() {
	s.page("GET /apply", signedIn, s.applyPage)
	s.page("POST /apply", signedIn, s.applyBegin)
	s.page("GET /apply/{id}", signedIn, s.applicationPage)
	s.page("POST /apply/{id}", signedIn, s.applicationSave)
	s.page("POST /apply/{id}/withdraw", signedIn, s.applicationWithdraw)
	s.bare("GET /apply/{id}/documents/{document}", signedIn, s.applicationDocument)
	s.page("POST /apply/{id}/documents/{document}/remove", signedIn, s.applicationRemove)
}

func undecided(state identity.ApplicationState) bool {
	return state == identity.ApplicationDraft || state == identity.ApplicationSubmitted || state == identity.ApplicationCorrection
}

func (s *Site) applyPage(r *request) error {
	all, err := s.config.Parts.Register.Applications(r.Context(), r.asker())
	if err != nil {
		return fmt.Errorf("listing applications: %w", err)
	}
	return r.render(http.StatusOK, "keys-apply", struct {
		Applications []*identity.Application
		CanAgent     bool // identified well enough to act for an enterprise
	}{all, r.person.Level >= identity.LevelDocument})
}

func (s *Site) applyBegin(r *request) error {
	kind := identity.ApplicationKind(r.PostFormValue("kind"))
	if kind != identity.ApplyPerson && kind != identity.ApplyEnterprise {
		return fail(http.StatusUnprocessableEntity, "problem.bad-request")
	}
	a, err := s.config.Parts.Register.Draft(r.Context(), r.asker(), kind)
	if err != nil {
		return registered(fmt.Errorf("beginning an application: %w", err))
	}
	r.redirect("/apply/" + a.ID)
	return nil
}

// powerChoice is one power as a box to tick.
type powerChoice struct {
	Power   identity.Power
	Checked bool
}

type applicationView struct {
	*identity.Application
	Editable bool
	Errors   map[string]string // by field
	From, To string            // days, To included
	Powers   []powerChoice
}

func (s *Site) applicationView(r *request, a *identity.Application, bad identity.FieldErrors) *applicationView {
	v := &applicationView{Application: a, Editable: a.State == identity.ApplicationDraft || a.State == identity.ApplicationCorrection, Errors: map[string]string{}}
	for _, f := range bad {
		if v.Errors[f.Field] == "" {
			v.Errors[f.Field] = r.T("keys.wrong-" + f.Reason)
		}
	}
	if !a.Body.From.IsZero() {
		v.From = a.Body.From.In(beijingZone()).Format(time.DateOnly)
	}
	if !a.Body.To.IsZero() {
		v.To = a.Body.To.In(beijingZone()).AddDate(0, 0, -1).Format(time.DateOnly)
	}
	for _, p := range identity.Powers() {
		v.Powers = append(v.Powers, powerChoice{p, slices.Contains(a.Body.Powers, p)})
	}
	return v
}

func (s *Site) applicationPage(r *request) error {
	a, err := s.config.Parts.Register.Application(r.Context(), r.asker(), r.PathValue("id"))
	if err != nil {
		return registered(fmt.Errorf("reading an application: %w", err))
	}
	return r.render(http.StatusOK, "keys-application", s.applicationView(r, a, nil))
}

// maxUpload of one form: some pages in colour at once.
const maxUpload = 3*identity.MaxDocument + 1<<20

// applicationSave keeps what was filled in and uploaded, and submits when that
// button was pressed. What is wrong is shown beside its field, and nothing that
// was right is lost.
func (s *Site) applicationSave(r *request) error {
	ctx, reg, who, id := r.Context(), s.config.Parts.Register, r.asker(), r.PathValue("id")
	r.Body = http.MaxBytesReader(r.w, r.Body, maxUpload)
	var tooLarge *http.MaxBytesError
	if err := r.ParseMultipartForm(1 << 20); errors.As(err, &tooLarge) {
		return fail(http.StatusRequestEntityTooLarge, "problem.too-large").because(err)
	} else if err != nil && !errors.Is(err, http.ErrNotMultipart) {
		return fail(http.StatusBadRequest, "problem.bad-request").because(err)
	}
	if r.MultipartForm != nil {
		defer r.MultipartForm.RemoveAll()
	}
	a, err := reg.Application(ctx, who, id)
	if err != nil {
		return registered(fmt.Errorf("reading an application: %w", err))
	}
	var bad identity.FieldErrors
	note := func(err error) error {
		var more identity.FieldErrors
		if errors.As(err, &more) {
			bad = append(bad, more...)
			return nil
		}
		return err
	}
	if err := note(reg.SaveDraft(ctx, who, id, bodyOf(r, a))); err != nil {
		return registered(fmt.Errorf("saving an application: %w", err))
	}
	if r.MultipartForm != nil {
		for _, header := range r.MultipartForm.File["documents"] {
			content, err := readUpload(header)
			if err != nil {
				return err
			}
			if len(content) == 0 && header.Filename == "" {
				continue
			}
			if _, err := reg.AddDocument(ctx, who, id, header.Filename, content); note(err) != nil {
				return registered(fmt.Errorf("keeping a document: %w", err))
			}
		}
	}
	submitted := r.PostFormValue("do") == "submit"
	if submitted && len(bad) == 0 {
		if err := note(reg.SubmitApplication(ctx, who, id)); err != nil {
			return registered(fmt.Errorf("submitting an application: %w", err))
		}
	}
	if len(bad) > 0 {
		if a, err = reg.Application(ctx, who, id); err != nil {
			return registered(err)
		}
		return r.render(http.StatusUnprocessableEntity, "keys-application", s.applicationView(r, a, bad))
	}
	if submitted {
		r.notice("success", "keys.submitted")
	} else {
		r.notice("info", "keys.saved")
	}
	r.redirect("/apply/" + id)
	return nil
}

// bodyOf reads the form; what it has no field for stays.
func bodyOf(r *request, a *identity.Application) identity.Body {
	b := a.Body
	switch a.Kind {
	case identity.ApplyPerson:
		b.Name, b.Document, b.Number = r.PostFormValue("name"), identity.DocumentID, r.PostFormValue("number")
	case identity.ApplyEnterprise:
		b.Enterprise, b.USCC = r.PostFormValue("enterprise"), r.PostFormValue("uscc")
		b.Representative, b.RepresentativeNumber = r.PostFormValue("representative"), r.PostFormValue("representative-number")
		b.Powers = nil
		for _, p := range identity.Powers() {
			if r.PostFormValue("power-"+string(p)) != "" {
				b.Powers = append(b.Powers, p)
			}
		}
		// A day that cannot be read is none, and is asked for on submitting.
		b.From, _ = time.ParseInLocation(time.DateOnly, r.PostFormValue("from"), beijingZone())
		b.To, _ = time.ParseInLocation(time.DateOnly, r.PostFormValue("to"), beijingZone())
		if !b.To.IsZero() {
			b.To = b.To.AddDate(0, 0, 1) // the day itself counts
		}
	}
	b.Remark = r.PostFormValue("remark")
	return b
}

func readUpload(h *multipart.FileHeader) ([]byte, error) {
	f, err := h.Open()
	if err != nil {
		return nil, fmt.Errorf("reading an upload: %w", err)
	}
	defer f.Close()
	// One byte more than allowed: the register says that it is too large.
	content, err := io.ReadAll(io.LimitReader(f, identity.MaxDocument+1))
	if err != nil {
		return nil, fmt.Errorf("reading an upload: %w", err)
	}
	return content, nil
}

func (s *Site) applicationWithdraw(r *request) error {
	if err := s.config.Parts.Register.Withdraw(r.Context(), r.asker(), r.PathValue("id")); err != nil {
		return registered(fmt.Errorf("withdrawing an application: %w", err))
	}
	r.notice("success", "keys.withdrawn")
	r.redirect("/apply")
	return nil
}

func (s *Site) applicationRemove(r *request) error {
	if err := s.config.Parts.Register.RemoveDocument(r.Context(), r.asker(), r.PathValue("id"), r.PathValue("document")); err != nil {
		return registered(fmt.Errorf("removing a document: %w", err))
	}
	r.redirect("/apply/" + r.PathValue("id"))
	return nil
}

func (s *Site) applicationDocument(r *request) error {
	content, media, err := s.config.Parts.Register.Document(r.Context(), r.asker(), r.PathValue("id"), r.PathValue("document"))
	if err != nil {
		return registered(fmt.Errorf("reading a document: %w", err))
	}
	return r.paper(content, media)
}

// paper shows an uploaded paper: an image, or a PDF in the browser's own viewer,
// and nothing in it runs here.
func (r *request) paper(content []byte, media string) error {
	h := r.w.Header()
	h.Set("Content-Type", media)
	h.Set("Content-Disposition", "inline")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; sandbox")
	if media == "application/pdf" {
		// A sandboxed page shows no PDF in Chromium: it is saved instead.
		h.Set("Content-Disposition", `attachment; filename="document.pdf"`)
	}
	_, err := r.w.Write(content)
	return err
}

// lost is the page for whoever lost a device.
func (s *Site) lost() {
	s.page("GET /lost", signedIn, s.lostPage)
	s.page("POST /lost", signedIn, s.lostApply)
	s.page("POST /lost/code", signedIn, s.lostCode)
}

type lostView struct {
	Members []*identity.Member
	Pending *identity.Application // undecided
	Decided *identity.Application // the last decided one
	Error   string
	Remark  string
}

func (s *Site) lostView(r *request) (*lostView, error) {
	members, err := s.config.Parts.Register.Members(r.Context(), r.asker())
	if err != nil {
		return nil, fmt.Errorf("listing members: %w", err)
	}
	all, err := s.config.Parts.Register.Applications(r.Context(), r.asker())
	if err != nil {
		return nil, fmt.Errorf("listing applications: %w", err)
	}
	v := &lostView{Members: members, Remark: r.PostFormValue("remark")}
	for _, a := range all {
		switch {
		case a.Kind != identity.ApplyRecovery || a.State == identity.ApplicationWithdrawn:
		case a.State == identity.ApplicationSubmitted || a.State == identity.ApplicationCorrection:
			if v.Pending == nil {
				v.Pending = a
			}
		case a.State != identity.ApplicationDraft && v.Decided == nil:
			v.Decided = a
		}
	}
	return v, nil
}

func (s *Site) lostPage(r *request) error {
	v, err := s.lostView(r)
	if err != nil {
		return err
	}
	return r.render(http.StatusOK, "keys-lost", v)
}

func (s *Site) lostApply(r *request) error {
	ctx, reg, who := r.Context(), s.config.Parts.Register, r.asker()
	a, err := reg.Draft(ctx, who, identity.ApplyRecovery)
	if err != nil {
		return registered(fmt.Errorf("beginning an application: %w", err))
	}
	if a.State == identity.ApplicationSubmitted {
		r.redirect("/lost")
		return nil
	}
	err = reg.SaveDraft(ctx, who, a.ID, identity.Body{Member: r.PostFormValue("member"), Stolen: r.PostFormValue("how") == "stolen", Remark: r.PostFormValue("remark")})
	if err == nil {
		err = reg.SubmitApplication(ctx, who, a.ID)
	}
	var bad identity.FieldErrors
	if errors.As(err, &bad) {
		v, err := s.lostView(r)
		if err != nil {
			return err
		}
		v.Error = r.T("keys.wrong-" + bad[0].Reason)
		return r.render(http.StatusUnprocessableEntity, "keys-lost", v)
	}
	if err != nil {
		return registered(fmt.Errorf("submitting an application: %w", err))
	}
	r.notice("success", "keys.submitted")
	r.redirect("/lost")
	return nil
}

func (s *Site) lostCode(r *request) error {
	if _, err := s.config.Parts.Register.Recover(r.Context(), r.asker(), r.PostFormValue("code")); errors.Is(err, identity.ErrCeremony) {
		return fail(http.StatusUnprocessableEntity, "keys.bad-code").because(err).at("code")
	} else if err != nil {
		return registered(fmt.Errorf("taking a recovery code: %w", err))
	}
	r.notice("success", "keys.recovered")
	r.redirect("/keys")
	return nil
}
