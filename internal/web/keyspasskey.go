package web

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/zhenglian/zhenglian/internal/identity"
	"github.com/zhenglian/zhenglian/internal/identity/ca"
)

type passkeyView struct {
	Member *identity.Member
	Have   bool // another passkey has to confirm
}

// keysPasskey is the page on which a passkey is bound: the browser's part needs a
// script.
func (s *Site) keysPasskey(r *request) error {
	members, err := s.config.Parts.Register.Members(r.Context(), r.asker())
	if err != nil {
		return fmt.Errorf("listing members: %w", err)
	}
	for _, m := range members {
		if m.ID == r.PathValue("member") {
			passkeys, err := s.config.Parts.Register.Passkeys(r.Context(), r.asker(), m.ID)
			if err != nil {
				return fmt.Errorf("listing passkeys: %w", err)
			}
			v := passkeyView{Member: m}
			for _, p := range passkeys {
				v.Have = v.Have || p.Person == r.person.ID && inForce(p.State)
			}
			return r.render(http.StatusOK, "keys-passkey", v)
		}
	}
	return fail(http.StatusNotFound, "keys.no-member")
}

func (s *Site) appBeginPasskey(r *request) error {
	var v struct {
		Member string `json:"member"`
		Label  string `json:"label"`
	}
	if err := r.readJSON(&v, 4<<10); err != nil {
		return err
	}
	if len([]rune(v.Label)) > 60 {
		return fail(http.StatusUnprocessableEntity, "keys.long-label").at("label")
	}
	c, err := s.config.Parts.Register.BeginPasskey(r.Context(), r.asker(), v.Member, v.Label)
	if err != nil {
		return registered(err)
	}
	return r.json(http.StatusOK, c)
}

// maxAnswer in bytes: a credential with its attestation object.
const maxAnswer = 32 << 10

func (s *Site) appFinishPasskey(r *request) error {
	var answer json.RawMessage
	if err := r.readJSON(&answer, maxAnswer); err != nil {
		return err
	}
	p, err := s.config.Parts.Register.FinishPasskey(r.Context(), r.asker(), r.PathValue("id"), answer)
	if err != nil {
		return registered(err)
	}
	done := s.deliver(r)
	if done {
		r.notice("success", "keys.passkey-bound")
	} else {
		r.notice("warning", "keys.passkey-soon")
	}
	return r.json(http.StatusCreated, map[string]any{"kid": p.KID, "next": r.path("/keys")})
}

func (s *Site) appBeginPasskeyPermit(r *request) error {
	var v struct {
		Member string          `json:"member"`
		Permit identity.Permit `json:"permit"`
	}
	if err := r.readJSON(&v, 4<<10); err != nil {
		return err
	}
	if v.Permit != identity.PermitPasskey && v.Permit != identity.PermitKey {
		return fail(http.StatusUnprocessableEntity, "problem.bad-request").at("permit")
	}
	c, err := s.config.Parts.Register.BeginStepUp(r.Context(), r.asker(), v.Member, v.Permit)
	if err != nil {
		return registered(err)
	}
	return r.json(http.StatusOK, c)
}

func (s *Site) appFinishPasskeyPermit(r *request) error {
	var answer json.RawMessage
	if err := r.readJSON(&answer, maxAnswer); err != nil {
		return err
	}
	if err := s.config.Parts.Register.FinishStepUp(r.Context(), r.asker(), r.PathValue("id"), answer); err != nil {
		return registered(err)
	}
	return r.json(http.StatusOK, map[string]bool{"ok": true})
}

// requestView is the form for a key that lies in a file or a token: whoever has
// openssl needs no script here.
type requestView struct {
	Members                []*identity.Member
	Member, Label, Request string
	Error                  string
	Confirm                string // the member whose passkey has to confirm
}

func (s *Site) requestForm(r *request) (*requestView, error) {
	members, err := s.config.Parts.Register.Members(r.Context(), r.asker())
	if err != nil {
		return nil, fmt.Errorf("listing members: %w", err)
	}
	return &requestView{Members: members, Member: r.FormValue("member"), Label: r.PostFormValue("label"), Request: r.PostFormValue("request")}, nil
}

func (s *Site) keysRequest(r *request) error {
	v, err := s.requestForm(r)
	if err != nil {
		return err
	}
	if v.Member == "" && r.person.Acting != nil {
		v.Member = r.person.Member
	}
	return r.render(http.StatusOK, "keys-request", v)
}

func (s *Site) keysEnrol(r *request) error {
	r.Body = http.MaxBytesReader(r.w, r.Body, 64<<10)
	v, err := s.requestForm(r)
	if err != nil {
		return err
	}
	if len([]rune(v.Label)) > 60 {
		return fail(http.StatusUnprocessableEntity, "keys.long-label").at("label")
	}
	e, err := s.config.Parts.Enroller.Enrol(r.Context(), r.asker(), v.Member, []byte(strings.TrimSpace(v.Request)), v.Label, "")
	var bad *ca.RequestError
	switch {
	case errors.As(err, &bad):
		v.Error = r.T("keys.bad-request", "reason", bad.Reason)
		return r.render(http.StatusUnprocessableEntity, "keys-request", v)
	case errors.Is(err, identity.ErrPermission):
		if v.Confirm = v.Member; v.Confirm == "" {
			v.Confirm = r.person.Own
		}
		return r.render(http.StatusForbidden, "keys-request", v)
	case errors.Is(err, ErrEnrolling):
		r.notice("warning", "keys.enrolled-soon")
		r.redirect("/keys")
		return nil
	case err != nil:
		return registered(fmt.Errorf("enrolling a key: %w", err))
	}
	r.notice("success", "keys.enrolled-now")
	r.redirect("/keys/" + e.KID.String())
	return nil
}
