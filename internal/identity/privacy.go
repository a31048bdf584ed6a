package identity

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/zhenglian/zhenglian/internal/store"
)

// Export is all that the register knows of a person, for herself: the right to
// consult and copy (Personal Information Protection Law of the PRC, article 45).
type Export struct {
	Person       string
	Created      time.Time
	Level        int
	SignIns      []ExportedSignIn
	Facts        []Fact
	Members      []ExportedMember
	Applications []*Application // with the names of their papers
	Accesses     []Access       // with her data
}

// ExportedSignIn is one way in which she signs in.
type ExportedSignIn struct {
	Issuer, Subject string
	First, Last     time.Time
}

// ExportedMember is one member for which she acts, with what she holds for it.
type ExportedMember struct {
	ID, Kind, Name string
	Commitment     string
	Salt           string // what opens the commitment
	Keys           []ExportedKey
	Passkeys       []ExportedKey
}

// ExportedKey is one key or passkey.
type ExportedKey struct {
	KID, Label string
	State      State
	Position   int64
	Created    time.Time
	Revoked    time.Time `json:",omitzero"`
}

// maxExported accesses: more than one person causes in the years of retention.
const maxExported = 100_000

// Export gathers a person's own data.
func (r *Register) Export(ctx context.Context, who Who) (*Export, error) {
	p, err := r.Person(ctx, who.Person)
	if err != nil {
		return nil, err
	}
	if err := r.db.In(ctx, func(tx *store.Tx) error {
		return r.log(ctx, tx, Access{Actor: p.ID, Subject: p.ID, Action: "export"})
	}); err != nil {
		return nil, err
	}
	e := &Export{Person: p.ID, Created: p.Created, Level: p.Level}
	if e.SignIns, err = store.Collect[ExportedSignIn](r.db.Query(ctx, "SELECT identity, issuer, subject, created, last FROM signins WHERE person = $1 ORDER BY created", p.ID))(func(rows *store.Rows) (s ExportedSignIn, err error) {
		var row string
		var sealed []byte
		var first, last int64
		if err := rows.Scan(&row, &s.Issuer, &sealed, &first, &last); err != nil {
			return s, err
		}
		s.First, s.Last = time.UnixMilli(first), time.UnixMilli(last)
		plain, err := r.keys.Open("signins", "subject", row, sealed)
		s.Subject = string(plain)
		return s, err
	}); err != nil {
		return nil, err
	}
	if e.Facts, err = r.Facts(ctx, p.ID); err != nil {
		return nil, err
	}
	members, err := r.Members(ctx, who)
	if err != nil {
		return nil, err
	}
	for _, m := range members {
		em := ExportedMember{ID: m.ID, Kind: m.Kind.String(), Name: m.Name, Commitment: m.Commitment.String(), Salt: m.detail.Salt.String()}
		keys, err := r.KeysOf(ctx, who, m.ID)
		if err != nil {
			return nil, err
		}
		for _, k := range keys {
			if k.Person == p.ID {
				em.Keys = append(em.Keys, ExportedKey{k.KID.String(), k.Label, k.State, k.Position, k.Created, k.Revoked})
			}
		}
		passkeys, err := r.Passkeys(ctx, who, m.ID)
		if err != nil {
			return nil, err
		}
		for _, k := range passkeys {
			if k.Person == p.ID {
				em.Passkeys = append(em.Passkeys, ExportedKey{k.KID.String(), k.Label, k.State, k.Position, k.Created, k.Revoked})
			}
		}
		e.Members = append(e.Members, em)
	}
	own, err := r.Applications(ctx, who)
	if err != nil {
		return nil, err
	}
	for _, a := range own {
		whole, err := r.Application(ctx, who, a.ID)
		if err != nil {
			return nil, err
		}
		e.Applications = append(e.Applications, whole)
	}
	e.Accesses, err = r.Accesses(ctx, p.ID, maxExported)
	return e, err
}

// JSON returns the export as a person can keep it.
func (e *Export) JSON() ([]byte, error) { return json.MarshalIndent(e, "", "  ") }

// Kept is why data stays although the person asked for its deletion.
type Kept struct {
	What string // identity, applications, access-log
	Law  string // where the duty stands
}

// Erase deletes what no duty of retention holds (article 47 of the same law):
// phone, address and the like, and the papers of applications that were not
// approved. Whoever was never enrolled is erased whole, ways to sign in
// included. What identified a member stays: the Electronic Signature Law,
// article 24, wants it kept for at least five years after a certificate ended.
// The access log stays for everybody: it has ids, and what officers wrote.
func (r *Register) Erase(ctx context.Context, who Who) ([]Kept, error) {
	kept := []Kept{{"access-log", "PIPL 55–56"}}
	err := r.db.In(ctx, func(tx *store.Tx) error {
		kept = kept[:1]
		var enrolled int
		if err := tx.QueryRow(ctx, "SELECT (SELECT COUNT(*) FROM member_keys WHERE person = $1) + (SELECT COUNT(*) FROM mandates WHERE person = $1) + (SELECT COUNT(*) FROM applications WHERE officer = $1)", who.Person).Scan(&enrolled); err != nil {
			return err
		}
		steps := []string{
			"DELETE FROM facts WHERE person = $1 AND name NOT IN ('name', 'document', 'number')",
			"DELETE FROM documents WHERE application IN (SELECT id FROM applications WHERE person = $1 AND state <> 'approved')",
			"DELETE FROM applications WHERE person = $1 AND state <> 'approved'",
		}
		if enrolled > 0 {
			kept = append(kept, Kept{"identity", "Electronic Signature Law 24"}, Kept{"applications", "Electronic Signature Law 24"})
		} else {
			steps = append(steps,
				"DELETE FROM documents WHERE application IN (SELECT id FROM applications WHERE person = $1)",
				"DELETE FROM applications WHERE person = $1",
				"DELETE FROM facts WHERE person = $1",
				"DELETE FROM signins WHERE person = $1",
				"DELETE FROM permissions WHERE person = $1",
				"DELETE FROM ceremonies WHERE person = $1",
			)
		}
		for _, q := range steps {
			if _, err := tx.Exec(ctx, q, who.Person); err != nil {
				return err
			}
		}
		if enrolled == 0 {
			if _, err := tx.Exec(ctx, "UPDATE persons SET erased = $1, generation = generation + 1, level = 0, document = NULL WHERE id = $2", r.millis(), who.Person); err != nil {
				return err
			}
		}
		return r.log(ctx, tx, Access{Actor: who.Person, Subject: who.Person, Action: "erase"})
	})
	if err != nil {
		return nil, fmt.Errorf("erasing: %w", err)
	}
	return kept, nil
}
