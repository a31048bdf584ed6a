package identity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/zhenglian/zhenglian/internal/identity/gb"
	"github.com/zhenglian/zhenglian/internal/store"
)

// ApplicationKind says what is applied for.
type ApplicationKind string

// The kinds of application.
const (
	ApplyPerson     ApplicationKind = "person"     // to be identified at level 2 or 3
	ApplyEnterprise ApplicationKind = "enterprise" // an enterprise as a member, or a mandate for one that is
	ApplyRecovery   ApplicationKind = "recovery"   // a device was lost or stolen
)

// ApplicationState of an application.
type ApplicationState string

// The states: draft → submitted → approved | refused | correction → submitted …
const (
	ApplicationDraft      ApplicationState = "draft"
	ApplicationSubmitted  ApplicationState = "submitted"
	ApplicationCorrection ApplicationState = "correction"
	ApplicationApproved   ApplicationState = "approved"
	ApplicationRefused    ApplicationState = "refused"
	ApplicationWithdrawn  ApplicationState = "withdrawn"
)

// Body is what an applicant fills in. Which fields count depends on the kind.
type Body struct {
	// Person.
	Name     string `json:",omitempty"`
	Document string `json:",omitempty"` // DocumentID
	Number   string `json:",omitempty"`
	// Enterprise.
	Enterprise           string    `json:",omitempty"`
	USCC                 string    `json:",omitempty"` // unified social credit code
	Representative       string    `json:",omitempty"` // legal representative
	RepresentativeNumber string    `json:",omitempty"` // of the identity card
	Powers               []Power   `json:",omitempty"`
	From                 time.Time `json:",omitzero"`
	To                   time.Time `json:",omitzero"` // not included
	// Recovery.
	Member string `json:",omitempty"`
	Stolen bool   `json:",omitempty"` // not only lost: somebody else may have it
	// All.
	Remark string `json:",omitempty"`
}

// Application at the desk. Body and Documents are filled where one application
// is read, not in lists.
type Application struct {
	ID        string
	Person    string // the applicant
	Kind      ApplicationKind
	State     ApplicationState
	Body      Body
	Reply     string // the officer's reason
	Created   time.Time
	Changed   time.Time
	Submitted time.Time
	Decided   time.Time
	Officer   string
	Member    string // what an approval made or gave
	Documents []Document
}

// Document is an uploaded paper; its content is read by OpenDocument.
type Document struct {
	ID    string
	Name  string
	Media string // application/pdf, image/jpeg, image/png
	Size  int64
}

// FieldError says what is wrong with one field of an application. Reason is a
// stable word: required, too-long, unknown, id-number, uscc, dates, taken-back,
// document-missing, media, too-large, too-many.
type FieldError struct {
	Field  string // as in Body, lower case with '-': name, number, uscc, …, documents
	Reason string
	Err    error // more, such as *gb.Error
}

func (e *FieldError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("%s: %s: %v", e.Field, e.Reason, e.Err)
	}
	return e.Field + ": " + e.Reason
}

func (e *FieldError) Unwrap() error { return e.Err }

// FieldErrors are all that is wrong with an application.
type FieldErrors []*FieldError

func (e FieldErrors) Error() string {
	parts := make([]string, len(e))
	for i, f := range e {
		parts[i] = f.Error()
	}
	return "the application cannot be submitted: " + strings.Join(parts, "; ")
}

const (
	// MaxDocument in bytes: a scanned page in colour, or a photograph.
	MaxDocument = 8 << 20
	// maxDocuments: both sides of a card, a licence, a mandate of some pages.
	maxDocuments = 10
	maxField     = 200
	maxRemark    = 2000
	// maxMandate: what is given for longer is forgotten.
	maxMandate = 3 * 366 * 24 * time.Hour
)

// Draft begins an application. A person has one undecided application of a kind
// at a time: it is answered when there is one.
func (r *Register) Draft(ctx context.Context, who Who, kind ApplicationKind) (*Application, error) {
	switch kind {
	case ApplyPerson, ApplyEnterprise, ApplyRecovery:
	default:
		return nil, fmt.Errorf("no such kind of application: %q", kind)
	}
	var id string
	err := r.db.In(ctx, func(tx *store.Tx) error {
		err := one(tx.QueryRow(ctx, "SELECT id FROM applications WHERE person = $1 AND kind = $2 AND state IN ('draft', 'submitted', 'correction') ORDER BY created LIMIT 1", who.Person, string(kind)), &id)
		if !errors.Is(err, ErrUnknown) {
			return err
		}
		id = newID("a:")
		_, err = tx.Exec(ctx, "INSERT INTO applications (id, person, kind, state, body, created, changed) VALUES ($1, $2, $3, 'draft', $4, $5, $5)",
			id, who.Person, string(kind), r.keys.Seal("applications", "body", id, []byte("{}")), r.millis())
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("beginning an application: %w", err)
	}
	return r.Application(ctx, who, id)
}

const applicationColumns = "id, person, kind, state, body, reply, created, changed, submitted, decided, officer, member"

func (r *Register) readApplication(scan func(...any) error, whole bool) (*Application, error) {
	a := new(Application)
	var body, reply []byte
	var created, changed int64
	var submitted, decided *int64
	var officer, member *string
	if err := scan(&a.ID, &a.Person, &a.Kind, &a.State, &body, &reply, &created, &changed, &submitted, &decided, &officer, &member); err != nil {
		return nil, err
	}
	a.Created, a.Changed, a.Submitted, a.Decided = time.UnixMilli(created), time.UnixMilli(changed), fromMillis(submitted), fromMillis(decided)
	if officer != nil {
		a.Officer = *officer
	}
	if member != nil {
		a.Member = *member
	}
	if !whole {
		return a, nil
	}
	plain, err := r.keys.Open("applications", "body", a.ID, body)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(plain, &a.Body); err != nil {
		return nil, fmt.Errorf("application %s: %w", a.ID, err)
	}
	if reply != nil {
		if plain, err = r.keys.Open("applications", "reply", a.ID, reply); err != nil {
			return nil, err
		}
		a.Reply = string(plain)
	}
	return a, nil
}

// application reads one whole, whoever asks.
func (r *Register) application(ctx context.Context, q store.Reader, id string) (*Application, error) {
	a, err := r.readApplication(func(to ...any) error {
		return one(q.QueryRow(ctx, "SELECT "+applicationColumns+" FROM applications WHERE id = $1", id), to...)
	}, true)
	if err != nil {
		return nil, err
	}
	a.Documents, err = store.Collect[Document](q.Query(ctx, "SELECT id, name, media, size FROM documents WHERE application = $1 ORDER BY created, id", id))(func(rows *store.Rows) (d Document, err error) {
		var name []byte
		if err := rows.Scan(&d.ID, &name, &d.Media, &d.Size); err != nil {
			return d, err
		}
		plain, err := r.keys.Open("documents", "name", d.ID, name)
		d.Name = string(plain)
		return d, err
	})
	return a, err
}

// Application returns the person's own application; ErrUnknown for another's.
func (r *Register) Application(ctx context.Context, who Who, id string) (*Application, error) {
	a, err := r.application(ctx, r.db, id)
	if err != nil {
		return nil, err
	}
	if a.Person != who.Person {
		return nil, ErrUnknown
	}
	return a, nil
}

// Applications lists the person's own, newest first, without what is in them.
func (r *Register) Applications(ctx context.Context, who Who) ([]*Application, error) {
	return store.Collect[*Application](r.db.Query(ctx, "SELECT "+applicationColumns+" FROM applications WHERE person = $1 ORDER BY created DESC", who.Person))(func(rows *store.Rows) (*Application, error) {
		return r.readApplication(rows.Scan, false)
	})
}

// edit runs do on the person's own application while she may change it.
func (r *Register) edit(ctx context.Context, who Who, id string, do func(tx *store.Tx, a *Application) error) error {
	return r.db.In(ctx, func(tx *store.Tx) error {
		a, err := r.application(ctx, tx, id)
		if err != nil {
			return err
		}
		if a.Person != who.Person {
			return ErrUnknown
		}
		if a.State != ApplicationDraft && a.State != ApplicationCorrection {
			return ErrState
		}
		if err := do(tx, a); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, "UPDATE applications SET changed = $1 WHERE id = $2", r.millis(), id)
		return err
	})
}

// SaveDraft keeps what was filled in so far; nothing is required yet.
func (r *Register) SaveDraft(ctx context.Context, who Who, id string, b Body) error {
	for _, s := range []*string{&b.Name, &b.Document, &b.Number, &b.Enterprise, &b.USCC, &b.Representative, &b.RepresentativeNumber, &b.Member, &b.Remark} {
		*s = strings.TrimSpace(*s)
		if !utf8.ValidString(*s) || utf8.RuneCountInString(*s) > maxRemark {
			return FieldErrors{{Field: "remark", Reason: "too-long"}}
		}
	}
	plain, err := json.Marshal(b)
	if err != nil {
		return err
	}
	return r.edit(ctx, who, id, func(tx *store.Tx, _ *Application) error {
		_, err := tx.Exec(ctx, "UPDATE applications SET body = $1 WHERE id = $2", r.keys.Seal("applications", "body", id, plain), id)
		return err
	})
}

// AddDocument keeps an uploaded paper, encrypted. What it is, is read from its
// content, not from what the browser says.
func (r *Register) AddDocument(ctx context.Context, who Who, id, name string, content []byte) (document string, err error) {
	media := http.DetectContentType(content)
	switch {
	case len(content) == 0:
		return "", FieldErrors{{Field: "documents", Reason: "required"}}
	case len(content) > MaxDocument:
		return "", FieldErrors{{Field: "documents", Reason: "too-large"}}
	case media != "application/pdf" && media != "image/jpeg" && media != "image/png":
		return "", FieldErrors{{Field: "documents", Reason: "media"}}
	}
	if i := strings.LastIndexAny(name, `/\`); i >= 0 {
		name = name[i+1:]
	}
	runes := []rune(strings.ToValidUTF8(name, "?"))
	if name, err = cleanLabel(string(runes[:min(maxLabel, len(runes))])); err != nil {
		return "", err
	}
	document = newID("d:")
	err = r.edit(ctx, who, id, func(tx *store.Tx, a *Application) error {
		if len(a.Documents) >= maxDocuments {
			return FieldErrors{{Field: "documents", Reason: "too-many"}}
		}
		_, err := tx.Exec(ctx, "INSERT INTO documents (id, application, name, media, size, content, created) VALUES ($1, $2, $3, $4, $5, $6, $7)",
			document, id, r.keys.Seal("documents", "name", document, []byte(name)), media, len(content), r.keys.Seal("documents", "content", document, content), r.millis())
		return err
	})
	return document, err
}

// RemoveDocument removes an own paper before the application is decided.
func (r *Register) RemoveDocument(ctx context.Context, who Who, id, document string) error {
	return r.edit(ctx, who, id, func(tx *store.Tx, _ *Application) error {
		n, err := tx.Exec(ctx, "DELETE FROM documents WHERE id = $1 AND application = $2", document, id)
		if err == nil && n == 0 {
			return ErrUnknown
		}
		return err
	})
}

// SubmitApplication gives an application to the desk. It fails with FieldErrors
// that name all that is wrong.
func (r *Register) SubmitApplication(ctx context.Context, who Who, id string) error {
	return r.edit(ctx, who, id, func(tx *store.Tx, a *Application) error {
		if bad := r.check(a); len(bad) > 0 {
			return bad
		}
		if a.Kind == ApplyEnterprise {
			var level int
			if err := one(tx.QueryRow(ctx, "SELECT level FROM persons WHERE id = $1", who.Person), &level); err != nil {
				return err
			}
			if level < LevelDocument {
				return ErrLevel // an agent nobody identified
			}
		}
		if a.Kind == ApplyRecovery {
			if _, err := r.mayAct(ctx, tx, who.Person, a.Body.Member); errors.Is(err, ErrUnknown) {
				return FieldErrors{{Field: "member", Reason: "unknown"}}
			} else if err != nil {
				return err
			}
		}
		_, err := tx.Exec(ctx, "UPDATE applications SET state = 'submitted', submitted = $1 WHERE id = $2", r.millis(), id)
		return err
	})
}

// Withdraw takes an undecided application back; its papers are deleted.
func (r *Register) Withdraw(ctx context.Context, who Who, id string) error {
	return r.db.In(ctx, func(tx *store.Tx) error {
		n, err := tx.Exec(ctx, "UPDATE applications SET state = 'withdrawn', body = $1, reply = NULL, changed = $2 WHERE id = $3 AND person = $4 AND state IN ('draft', 'submitted', 'correction')",
			r.keys.Seal("applications", "body", id, []byte("{}")), r.millis(), id, who.Person)
		if err != nil {
			return err
		}
		if n == 0 {
			var own string
			if err := one(tx.QueryRow(ctx, "SELECT id FROM applications WHERE id = $1 AND person = $2", id, who.Person), &own); err != nil {
				return err
			}
			return ErrState
		}
		_, err = tx.Exec(ctx, "DELETE FROM documents WHERE application = $1", id)
		return err
	})
}

func (r *Register) check(a *Application) (bad FieldErrors) {
	b := &a.Body
	add := func(field, reason string, err error) { bad = append(bad, &FieldError{field, reason, err}) }
	text := func(field, s string) {
		switch {
		case s == "":
			add(field, "required", nil)
		case utf8.RuneCountInString(s) > maxField:
			add(field, "too-long", nil)
		}
	}
	idNumber := func(field, s string) {
		if s == "" {
			add(field, "required", nil)
		} else if _, err := gb.ParseIDNumber(s, r.now()); err != nil {
			add(field, "id-number", err)
		}
	}
	switch a.Kind {
	case ApplyPerson:
		text("name", b.Name)
		if b.Document != DocumentID {
			add("document", "unknown", nil)
		}
		idNumber("number", b.Number)
	case ApplyEnterprise:
		text("enterprise", b.Enterprise)
		if b.USCC == "" {
			add("uscc", "required", nil)
		} else if _, err := gb.ParseUSCC(b.USCC); err != nil {
			add("uscc", "uscc", err)
		}
		text("representative", b.Representative)
		idNumber("representative-number", b.RepresentativeNumber)
		if len(b.Powers) == 0 {
			add("powers", "required", nil)
		}
		for _, p := range b.Powers {
			if !slices.Contains(Powers(), p) {
				add("powers", "unknown", nil)
			}
		}
		if b.From.IsZero() || !b.To.After(b.From) || !b.To.After(r.now()) || b.To.Sub(b.From) > maxMandate {
			add("to", "dates", nil)
		}
	case ApplyRecovery:
		text("member", b.Member)
		text("remark", b.Remark)
	}
	if a.Kind != ApplyRecovery && len(a.Documents) == 0 {
		add("documents", "document-missing", nil)
	}
	return bad
}

func (r *Register) documentContent(ctx context.Context, q store.Reader, application, id string) (content []byte, media string, err error) {
	var sealed []byte
	if err := one(q.QueryRow(ctx, "SELECT content, media FROM documents WHERE id = $1 AND application = $2", id, application), &sealed, &media); err != nil {
		return nil, "", err
	}
	content, err = r.keys.Open("documents", "content", id, sealed)
	return content, media, err
}

// Document returns an own paper.
func (r *Register) Document(ctx context.Context, who Who, application, id string) (content []byte, media string, err error) {
	if _, err := r.Application(ctx, who, application); err != nil {
		return nil, "", err
	}
	return r.documentContent(ctx, r.db, application, id)
}
