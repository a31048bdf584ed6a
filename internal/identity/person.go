package identity

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/identity/gb"
	"github.com/zhenglian/zhenglian/internal/store"
)

// FactName names what is known of a person.
type FactName string

// The facts. The first three are the real name: they are taken and replaced
// together.
const (
	FactRealName   FactName = "name"
	FactDocument   FactName = "document" // kind: DocumentID or another word
	FactNumber     FactName = "number"
	FactPhone      FactName = "phone"
	FactEmail      FactName = "email"
	FactAddress    FactName = "address"
	FactEmployment FactName = "employment"
)

// DocumentID is the kind of document of a resident identity card (GB 11643).
const DocumentID = "cn-resident-id"

// The levels of assurance.
const (
	LevelSelf     = 1 // self-asserted
	LevelDocument = 2 // a document, or a two- or four-element check
	LevelPresent  = 3 // in person, or a live face
)

// Fact is one thing known of a person, from whom, and how well.
type Fact struct {
	Name     FactName
	Value    string
	Source   string // the sign-in's issuer, or "desk:" and the officer's person id
	Level    int
	Verified time.Time
}

// SignIn is what a sign-in says.
type SignIn struct {
	Issuer, Subject string
	Facts           []Fact // Source, Level and Verified set by the caller
	Address         string
}

// Person is who signed in.
type Person struct {
	ID         string
	Created    time.Time
	Generation int64  // sessions keep it; those of an older one are over
	Level      int    // of the real name; 0: none is known
	Name       string // "" when none is known
	Member     string // her own member id; "" before her first key
	Roles      []Role
}

// Is says whether the person has the role.
func (p *Person) Is(role Role) bool { return slices.Contains(p.Roles, role) }

// SignIn finds the person behind a sign-in, or makes one, and takes over the
// facts it brings: those of a lower level never replace those of a higher one.
// It fails with ErrDocument when the document it vouches for belongs to another
// person of the register (who signed in another way: she uses that, or goes to
// the desk), and with ErrConflict when an enrolled member would become another
// person (an account that changed hands).
func (r *Register) SignIn(ctx context.Context, s SignIn) (*Person, error) {
	if s.Issuer == "" || s.Subject == "" {
		return nil, errors.New("a sign-in without issuer or subject")
	}
	row := r.identity(s.Issuer, s.Subject)
	var id string
	err := r.db.In(ctx, func(tx *store.Tx) error {
		now := r.millis()
		err := one(tx.QueryRow(ctx, "SELECT person FROM signins WHERE identity = $1", row), &id)
		switch {
		case errors.Is(err, ErrUnknown):
			id = newID("p:")
			if _, err := tx.Exec(ctx, "INSERT INTO persons (id, created) VALUES ($1, $2)", id, now); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, "INSERT INTO signins (identity, person, issuer, subject, created, last) VALUES ($1, $2, $3, $4, $5, $5)",
				row, id, s.Issuer, r.keys.Seal("signins", "subject", row, []byte(s.Subject)), now); err != nil {
				return err
			}
		case err != nil:
			return err
		default:
			if _, err := tx.Exec(ctx, "UPDATE signins SET last = $1 WHERE identity = $2", now, row); err != nil {
				return err
			}
		}
		if err := r.learn(ctx, tx, id, s.Facts); err != nil {
			return err
		}
		return r.log(ctx, tx, Access{Actor: id, Subject: id, Action: "sign-in", Object: s.Issuer, Purpose: s.Address})
	})
	if err != nil {
		return nil, fmt.Errorf("signing a person in: %w", err)
	}
	return r.Person(ctx, id)
}

// learn takes over facts.
func (r *Register) learn(ctx context.Context, tx *store.Tx, person string, facts []Fact) error {
	real := map[FactName]*Fact{}
	for i := range facts {
		f := &facts[i]
		if f.Value == "" {
			continue
		}
		switch f.Name {
		case FactRealName, FactDocument, FactNumber:
			real[f.Name] = f
		default:
			if err := r.writeFact(ctx, tx, person, f); err != nil {
				return err
			}
		}
	}
	if len(real) == 0 {
		return nil
	}
	if len(real) < 3 {
		// A name alone is a way to call her, and no real name.
		if f := real[FactRealName]; f != nil {
			plain := *f
			plain.Level = min(plain.Level, LevelSelf)
			var have int
			if err := tx.QueryRow(ctx, "SELECT level FROM persons WHERE id = $1", person).Scan(&have); err != nil || have > 0 {
				return err
			}
			return r.writeFact(ctx, tx, person, &plain)
		}
		return nil
	}
	name, kind, number := real[FactRealName], real[FactDocument], real[FactNumber]
	if kind.Value == DocumentID {
		id, err := gb.ParseIDNumber(number.Value, r.now())
		if err != nil {
			return fmt.Errorf("the document's number: %w", err)
		}
		n := *number
		n.Value, number = id.Number(), &n
	}
	level := min(name.Level, kind.Level, number.Level)
	var have int
	var document []byte
	if err := tx.QueryRow(ctx, "SELECT level, document FROM persons WHERE id = $1", person).Scan(&have, &document); err != nil {
		return err
	}
	if level < have {
		return nil
	}
	index := r.document(kind.Value, number.Value)
	if document != nil && string(document) != string(index) {
		var members int
		if err := tx.QueryRow(ctx, "SELECT COUNT(*) FROM members WHERE person = $1", person).Scan(&members); err != nil {
			return err
		}
		if members > 0 || have >= LevelDocument {
			return ErrConflict
		}
	}
	// A number that somebody only claims is not indexed: it would keep the one
	// whose it is out.
	claimed := index
	if level < LevelDocument {
		claimed = nil
	} else {
		var other string
		err := one(tx.QueryRow(ctx, "SELECT id FROM persons WHERE document = $1 AND id <> $2", index, person), &other)
		if err == nil {
			return ErrDocument
		}
		if !errors.Is(err, ErrUnknown) {
			return err
		}
	}
	if _, err := tx.Exec(ctx, "UPDATE persons SET level = $1, document = $2 WHERE id = $3", level, claimed, person); err != nil {
		return err
	}
	for _, f := range []*Fact{name, kind, number} {
		if err := r.writeFact(ctx, tx, person, f); err != nil {
			return err
		}
	}
	return nil
}

// document is the blind index of a document.
func (r *Register) document(kind, number string) []byte {
	return r.blindID("document", kind, number)
}

// writeFact replaces a fact unless a better one is there.
func (r *Register) writeFact(ctx context.Context, tx *store.Tx, person string, f *Fact) error {
	row := person + "/" + string(f.Name)
	_, err := tx.Exec(ctx, `INSERT INTO facts (id, person, name, value, source, level, verified) VALUES ($1, $2, $3, $4, $5, $6, $7)
		ON CONFLICT (id) DO UPDATE SET value = excluded.value, source = excluded.source, level = excluded.level, verified = excluded.verified
		WHERE facts.level <= excluded.level`,
		row, person, string(f.Name), r.keys.Seal("facts", "value", row, []byte(f.Value)), f.Source, f.Level, f.Verified.UnixMilli())
	return err
}

// Facts returns what is known of a person. The caller answers for who reads it;
// officers go through OpenApplication, which is logged.
func (r *Register) Facts(ctx context.Context, person string) ([]Fact, error) {
	return r.facts(ctx, r.db, person)
}

func (r *Register) facts(ctx context.Context, q store.Reader, person string) ([]Fact, error) {
	return store.Collect[Fact](q.Query(ctx, "SELECT name, value, source, level, verified FROM facts WHERE person = $1 ORDER BY name", person))(func(rows *store.Rows) (f Fact, err error) {
		var sealed []byte
		var verified int64
		if err := rows.Scan(&f.Name, &sealed, &f.Source, &f.Level, &verified); err != nil {
			return f, err
		}
		f.Verified = time.UnixMilli(verified)
		plain, err := r.keys.Open("facts", "value", person+"/"+string(f.Name), sealed)
		f.Value = string(plain)
		return f, err
	})
}

// realName returns name, kind of document and number; ErrLevel without them.
func (r *Register) realName(ctx context.Context, q store.Reader, person string) (name, kind, number string, err error) {
	facts, err := r.facts(ctx, q, person)
	if err != nil {
		return "", "", "", err
	}
	for _, f := range facts {
		switch f.Name {
		case FactRealName:
			name = f.Value
		case FactDocument:
			kind = f.Value
		case FactNumber:
			number = f.Value
		}
	}
	if name == "" || kind == "" || number == "" {
		return "", "", "", ErrLevel
	}
	return name, kind, number, nil
}

// Person returns a person. It fails with ErrUnknown.
func (r *Register) Person(ctx context.Context, id string) (*Person, error) {
	p := &Person{ID: id}
	var created int64
	var erased *int64
	if err := one(r.db.QueryRow(ctx, "SELECT created, generation, level, erased FROM persons WHERE id = $1", id), &created, &p.Generation, &p.Level, &erased); err != nil {
		return nil, err
	}
	if erased != nil {
		return nil, ErrUnknown
	}
	p.Created = time.UnixMilli(created)
	var sealed []byte
	err := one(r.db.QueryRow(ctx, "SELECT value FROM facts WHERE id = $1", id+"/"+string(FactRealName)), &sealed)
	if err == nil {
		var name []byte
		name, err = r.keys.Open("facts", "value", id+"/"+string(FactRealName), sealed)
		p.Name = string(name)
	}
	if err != nil && !errors.Is(err, ErrUnknown) {
		return nil, err
	}
	if err := one(r.db.QueryRow(ctx, "SELECT id FROM members WHERE person = $1", id), &p.Member); err != nil && !errors.Is(err, ErrUnknown) {
		return nil, err
	}
	identities, err := store.Collect[string](r.db.Query(ctx, "SELECT identity FROM signins WHERE person = $1", id))(func(rows *store.Rows) (s string, err error) { return s, rows.Scan(&s) })
	if err != nil {
		return nil, err
	}
	for _, i := range identities {
		for _, role := range r.roles[i] {
			if !p.Is(role) {
				p.Roles = append(p.Roles, role)
			}
		}
	}
	return p, nil
}

// officer returns the acting person if she has the role; ErrForbidden otherwise.
func (r *Register) officer(ctx context.Context, who Who, role Role) (*Person, error) {
	p, err := r.Person(ctx, who.Person)
	if err != nil {
		return nil, err
	}
	if !p.Is(role) {
		return nil, ErrForbidden
	}
	return p, nil
}

// SignOutEverywhere ends all of a person's sessions: those of an older
// generation than the one it returns are over.
func (r *Register) SignOutEverywhere(ctx context.Context, who Who) (generation int64, err error) {
	err = r.db.In(ctx, func(tx *store.Tx) error {
		if err := one(tx.QueryRow(ctx, "UPDATE persons SET generation = generation + 1 WHERE id = $1 RETURNING generation", who.Person), &generation); err != nil {
			return err
		}
		for _, q := range []string{"DELETE FROM ceremonies WHERE person = $1", "DELETE FROM permissions WHERE person = $1"} {
			if _, err := tx.Exec(ctx, q, who.Person); err != nil {
				return err
			}
		}
		return r.log(ctx, tx, Access{Actor: who.Person, Subject: who.Person, Action: "sign-out-everywhere"})
	})
	return generation, err
}

// Commitment returns what a member puts into the person part of her manifests,
// and the salt that opens it, which she keeps. The person must act for the member.
func (r *Register) Commitment(ctx context.Context, who Who, member string) (evidence.Digest, evidence.Salt, error) {
	if _, err := r.mayAct(ctx, r.db, who.Person, member); err != nil {
		return evidence.Digest{}, evidence.Salt{}, err
	}
	m, err := r.member(ctx, r.db, member)
	if err != nil {
		return evidence.Digest{}, evidence.Salt{}, err
	}
	return m.Commitment, m.detail.Salt, nil
}
