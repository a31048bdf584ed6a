package identity

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/identity/gb"
	"github.com/zhenglian/zhenglian/internal/store"
)

// Queue lists what waits for the desk, oldest first, and says nothing of whom:
// looking at one application is OpenApplication's. state is "" for what is
// submitted.
func (r *Register) Queue(ctx context.Context, officer Who, state ApplicationState) ([]*Application, error) {
	if _, err := r.officer(ctx, officer, RoleRA); err != nil {
		return nil, err
	}
	if state == "" {
		state = ApplicationSubmitted
	}
	// What is a draft, or was withdrawn, is the applicant's alone.
	if state == ApplicationDraft || state == ApplicationWithdrawn {
		return nil, ErrForbidden
	}
	return store.Collect[*Application](r.db.Query(ctx, "SELECT "+applicationColumns+" FROM applications WHERE state = $1 ORDER BY submitted LIMIT 200", string(state)))(func(rows *store.Rows) (*Application, error) {
		return r.readApplication(rows.Scan, false)
	})
}

// maxPurpose in characters.
const maxPurpose = 200

// Opened is an application as an officer sees it.
type Opened struct {
	*Application
	Facts     []Fact // what is known of the applicant already
	Duplicate bool   // the document or the code is registered for somebody else
	Own       bool   // the officer's own: she sees it and decides nothing
}

// OpenApplication shows an officer one application. Each look is in the access
// log before anything is shown, with the officer, the time and her purpose,
// which she has to give, and the applicant can read it.
func (r *Register) OpenApplication(ctx context.Context, officer Who, id, purpose string) (*Opened, error) {
	o := new(Opened)
	err := r.look(ctx, officer, id, "open-application", purpose, func(tx *store.Tx, a *Application) (err error) {
		*o = Opened{Application: a, Own: a.Person == officer.Person}
		if o.Facts, err = r.facts(ctx, tx, a.Person); err != nil {
			return err
		}
		o.Duplicate, err = r.duplicate(ctx, tx, a)
		return err
	})
	if err != nil {
		return nil, err
	}
	return o, nil
}

// OpenDocument shows an officer one uploaded paper; logged like OpenApplication.
func (r *Register) OpenDocument(ctx context.Context, officer Who, application, id, purpose string) (content []byte, media string, err error) {
	err = r.look(ctx, officer, application, "open-document", purpose, func(tx *store.Tx, a *Application) (err error) {
		content, media, err = r.documentContent(ctx, tx, application, id)
		return err
	})
	if err != nil {
		return nil, "", err
	}
	return content, media, nil
}

func (r *Register) look(ctx context.Context, officer Who, id, action, purpose string, read func(tx *store.Tx, a *Application) error) error {
	purpose = strings.TrimSpace(purpose)
	if purpose == "" || len([]rune(purpose)) > maxPurpose {
		return FieldErrors{{Field: "purpose", Reason: "required"}}
	}
	if _, err := r.officer(ctx, officer, RoleRA); err != nil {
		return err
	}
	return r.db.In(ctx, func(tx *store.Tx) error {
		a, err := r.application(ctx, tx, id)
		if err != nil {
			return err
		}
		if a.State == ApplicationDraft || a.State == ApplicationWithdrawn {
			return ErrUnknown
		}
		if err := r.log(ctx, tx, Access{Actor: officer.Person, Subject: a.Person, Action: action, Object: id, Purpose: purpose}); err != nil {
			return err
		}
		return read(tx, a)
	})
}

// duplicate: is this document another person's, or the code of a member already?
func (r *Register) duplicate(ctx context.Context, tx *store.Tx, a *Application) (bool, error) {
	var n int
	switch a.Kind {
	case ApplyPerson:
		id, err := gb.ParseIDNumber(a.Body.Number, r.now())
		if err != nil {
			return false, nil
		}
		err = tx.QueryRow(ctx, "SELECT COUNT(*) FROM persons WHERE document = $1 AND id <> $2", r.document(DocumentID, id.Number()), a.Person).Scan(&n)
		return n > 0, err
	case ApplyEnterprise:
		code, err := gb.ParseUSCC(a.Body.USCC)
		if err != nil {
			return false, nil
		}
		err = tx.QueryRow(ctx, "SELECT COUNT(*) FROM members WHERE document = $1", r.document(DocumentUSCC, code.String())).Scan(&n)
		return n > 0, err
	}
	return false, nil
}

// Decision of an officer.
type Decision struct {
	Outcome ApplicationState // ApplicationApproved, ApplicationRefused or ApplicationCorrection
	Reason  string           // shown to the applicant; required unless approved
	Level   int              // for an approved person: LevelDocument or LevelPresent
}

// Decided is what a decision made.
type Decided struct {
	Member string // of an approved enterprise
	// RecoveryCode of an approved recovery, told once: the officer gives it to
	// the applicant in person, not through the sign-in that may have been stolen.
	RecoveryCode string
}

// Decide answers a submitted application. An officer decides nothing of her own
// (ErrForbidden), and nothing twice (ErrState). Approving fails with ErrDocument
// when the document is another person's.
func (r *Register) Decide(ctx context.Context, officer Who, id string, d Decision) (*Decided, error) {
	d.Reason = strings.TrimSpace(d.Reason)
	switch {
	case d.Outcome != ApplicationApproved && d.Outcome != ApplicationRefused && d.Outcome != ApplicationCorrection:
		return nil, fmt.Errorf("no such decision: %q", d.Outcome)
	case d.Outcome != ApplicationApproved && d.Reason == "":
		return nil, FieldErrors{{Field: "reason", Reason: "required"}}
	case len([]rune(d.Reason)) > maxRemark:
		return nil, FieldErrors{{Field: "reason", Reason: "too-long"}}
	}
	if _, err := r.officer(ctx, officer, RoleRA); err != nil {
		return nil, err
	}
	var done *Decided
	err := r.db.In(ctx, func(tx *store.Tx) error {
		done = new(Decided)
		a, err := r.application(ctx, tx, id)
		if err != nil {
			return err
		}
		if a.Person == officer.Person {
			return ErrForbidden
		}
		if a.State != ApplicationSubmitted {
			return ErrState
		}
		var code []byte
		if d.Outcome == ApplicationApproved {
			switch a.Kind {
			case ApplyPerson:
				err = r.approvePerson(ctx, tx, officer, a, d.Level)
			case ApplyEnterprise:
				done.Member, err = r.approveEnterprise(ctx, tx, a)
			case ApplyRecovery:
				done.RecoveryCode, code, err = r.approveRecovery(ctx, tx, a)
			}
			if err != nil {
				return err
			}
		}
		var member *string
		if done.Member != "" {
			member = &done.Member
		} else if a.Kind == ApplyRecovery && d.Outcome == ApplicationApproved {
			member = &a.Body.Member
		}
		var reply []byte
		if d.Reason != "" {
			reply = r.keys.Seal("applications", "reply", id, []byte(d.Reason))
		}
		if _, err := tx.Exec(ctx, "UPDATE applications SET state = $1, reply = $2, decided = $3, changed = $3, officer = $4, member = $5, code = $6 WHERE id = $7",
			string(d.Outcome), reply, r.millis(), officer.Person, member, code, id); err != nil {
			return err
		}
		action := map[ApplicationState]string{ApplicationApproved: "approve", ApplicationRefused: "refuse", ApplicationCorrection: "ask-correction"}[d.Outcome]
		return r.log(ctx, tx, Access{Actor: officer.Person, Subject: a.Person, Action: action, Object: id, Purpose: d.Reason})
	})
	if err != nil {
		return nil, fmt.Errorf("deciding an application: %w", err)
	}
	r.nudge()
	return done, nil
}

func (r *Register) approvePerson(ctx context.Context, tx *store.Tx, officer Who, a *Application, level int) error {
	if level != LevelDocument && level != LevelPresent {
		return FieldErrors{{Field: "level", Reason: "unknown"}}
	}
	source, now := "desk:"+officer.Person, r.now()
	return r.learn(ctx, tx, a.Person, []Fact{
		{FactRealName, a.Body.Name, source, level, now},
		{FactDocument, a.Body.Document, source, level, now},
		{FactNumber, a.Body.Number, source, level, now},
	})
}

// approveEnterprise makes the member, or takes the one of that code, and gives
// the mandate.
func (r *Register) approveEnterprise(ctx context.Context, tx *store.Tx, a *Application) (string, error) {
	code, err := gb.ParseUSCC(a.Body.USCC)
	if err != nil {
		return "", FieldErrors{{Field: "uscc", Reason: "uscc", Err: err}}
	}
	index := r.document(DocumentUSCC, code.String())
	var id string
	err = one(tx.QueryRow(ctx, "SELECT id FROM members WHERE document = $1", index), &id)
	if errors.Is(err, ErrUnknown) {
		var m *Member
		m, err = r.newMember(ctx, tx, evidence.KindEnterprise, nil, index, LevelDocument, memberDetail{Name: a.Body.Enterprise, Document: DocumentUSCC, Number: code.String(), Representative: a.Body.Representative})
		if err == nil {
			id = m.ID
		}
	}
	if err != nil {
		return "", err
	}
	words := make([]string, len(a.Body.Powers))
	for i, p := range a.Body.Powers {
		words[i] = string(p)
	}
	_, err = tx.Exec(ctx, "INSERT INTO mandates (id, member, person, powers, starts, ends, application) VALUES ($1, $2, $3, $4, $5, $6, $7)",
		newID("n:"), id, a.Person, strings.Join(words, " "), a.Body.From.UnixMilli(), a.Body.To.UnixMilli(), a.ID)
	return id, err
}

const (
	// recoveryTime: from entering the code to the end of enrolling anew.
	recoveryTime = time.Hour
	// codeTime: from the desk to where the new device is, which may have to be
	// bought first.
	codeTime = 7 * 24 * time.Hour
)

// approveRecovery revokes all that the applicant held for the member, ends her
// sessions, and makes a code: 100 bits, typed once.
func (r *Register) approveRecovery(ctx context.Context, tx *store.Tx, a *Application) (code string, blind []byte, err error) {
	if _, err := r.mayAct(ctx, tx, a.Person, a.Body.Member); err != nil {
		return "", nil, err
	}
	reason := ReasonCessation
	if a.Body.Stolen {
		reason = ReasonCompromise
	}
	if err := r.revokeAll(ctx, tx, a.Body.Member, a.Person, reason); err != nil {
		return "", nil, err
	}
	for _, q := range []string{"UPDATE persons SET generation = generation + 1 WHERE id = $1", "DELETE FROM permissions WHERE person = $1", "DELETE FROM ceremonies WHERE person = $1"} {
		if _, err := tx.Exec(ctx, q, a.Person); err != nil {
			return "", nil, err
		}
	}
	raw := random(20)
	return raw[:5] + "-" + raw[5:10] + "-" + raw[10:15] + "-" + raw[15:], r.blindID("recovery code", a.Person, raw), nil
}

// Recover takes the code of an approved recovery: this session may then, within
// an hour, enrol a key and bind a passkey for the member that it returns. A code
// counts once, within 7 days and for its applicant alone; wrong ones lock (Locked).
func (r *Register) Recover(ctx context.Context, who Who, code string) (member string, err error) {
	if err := r.Attempt(ctx, ActionRecovery, who.Person, who.Address); err != nil {
		return "", err
	}
	code = strings.ToLower(strings.Map(func(c rune) rune {
		if c == '-' || c == ' ' {
			return -1
		}
		return c
	}, code))
	err = r.db.In(ctx, func(tx *store.Tx) error {
		var id string
		err := one(tx.QueryRow(ctx, "UPDATE applications SET code = NULL WHERE person = $1 AND code = $2 AND decided > $3 AND kind = 'recovery' AND state = 'approved' RETURNING id, member",
			who.Person, r.blindID("recovery code", who.Person, code), r.now().Add(-codeTime).UnixMilli()), &id, &member)
		if errors.Is(err, ErrUnknown) {
			return fmt.Errorf("the recovery code is wrong, was used, or is older than 7 days: %w", ErrCeremony)
		}
		if err != nil {
			return err
		}
		for _, p := range []Permit{PermitKey, PermitPasskey} {
			if err := r.permit(ctx, tx, who, member, p, recoveryTime); err != nil {
				return err
			}
		}
		if err := r.passed(ctx, tx, ActionRecovery, who.Person, who.Address); err != nil {
			return err
		}
		return r.log(ctx, tx, Access{Actor: who.Person, Subject: who.Person, Action: "recover", Object: id})
	})
	return member, err
}
