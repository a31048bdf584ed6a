package identity

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/store"
)

// Member is a party that deposits: a person herself, or an enterprise.
type Member struct {
	ID         string // "m:" and 26 characters of base32
	Kind       evidence.MemberKind
	Name       string
	Level      int
	Commitment evidence.Digest // to name, kind of document and number
	Demo       bool
	Created    time.Time
	Powers     []Power // of the person who asks

	detail memberDetail
	person string
}

// memberDetail is sealed.
type memberDetail struct {
	Name           string
	Document       string // DocumentID, DocumentUSCC, …
	Number         string
	Representative string `json:",omitempty"` // an enterprise's legal representative
	Salt           evidence.Salt
}

// DocumentUSCC is the kind of document of an enterprise (GB 32100).
const DocumentUSCC = "cn-uscc"

// Power is what an agent may do for an enterprise.
type Power string

// The powers. A person has them all for herself.
const (
	PowerDeposit Power = "deposit" // put on record
	PowerSign    Power = "sign"    // sign documents and contracts
	PowerFile    Power = "file"    // file, submit and settle at a court
	PowerKeys    Power = "keys"    // see and revoke the keys of other agents
)

// Powers lists all powers in the order in which pages show them.
func Powers() []Power { return []Power{PowerDeposit, PowerSign, PowerFile, PowerKeys} }

// May says whether the person who asked for m has the power.
func (m *Member) May(p Power) bool {
	for _, have := range m.Powers {
		if have == p {
			return true
		}
	}
	return false
}

func (r *Register) member(ctx context.Context, q store.Reader, id string) (*Member, error) {
	m := &Member{ID: id}
	var sealed, commitment []byte
	var created int64
	var person *string
	if err := one(q.QueryRow(ctx, "SELECT kind, detail, commitment, level, demo, created, person FROM members WHERE id = $1", id), &m.Kind, &sealed, &commitment, &m.Level, &m.Demo, &created, &person); err != nil {
		return nil, err
	}
	if person != nil {
		m.person = *person
	}
	m.Created = time.UnixMilli(created)
	plain, err := r.keys.Open("members", "detail", id, sealed)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(plain, &m.detail); err != nil {
		return nil, fmt.Errorf("member %s: %w", id, err)
	}
	m.Name = m.detail.Name
	m.Commitment, err = digestOf(commitment)
	return m, err
}

// mayAct returns the powers with which a person acts for a member now. It fails
// with ErrUnknown when she does not: who asks about another's member learns
// nothing.
func (r *Register) mayAct(ctx context.Context, q store.Reader, person, member string) ([]Power, error) {
	var own *string
	if err := one(q.QueryRow(ctx, "SELECT person FROM members WHERE id = $1", member), &own); err != nil {
		return nil, err
	}
	if own != nil {
		if *own != person {
			return nil, ErrUnknown
		}
		return Powers(), nil
	}
	now := r.millis()
	words, err := store.Collect[string](q.Query(ctx, "SELECT powers FROM mandates WHERE member = $1 AND person = $2 AND starts <= $3 AND ends > $3 AND ended IS NULL", member, person, now))(func(rows *store.Rows) (s string, err error) {
		return s, rows.Scan(&s)
	})
	if err != nil {
		return nil, err
	}
	if len(words) == 0 {
		return nil, ErrUnknown
	}
	have := map[Power]bool{}
	for _, w := range strings.Fields(strings.Join(words, " ")) {
		have[Power(w)] = true
	}
	var powers []Power
	for _, p := range Powers() {
		if have[p] {
			powers = append(powers, p)
		}
	}
	return powers, nil
}

// Members returns the members a person acts for now: herself first, once she is
// one, and the enterprises that gave her a mandate.
func (r *Register) Members(ctx context.Context, who Who) ([]*Member, error) {
	now := r.millis()
	ids, err := store.Collect[string](r.db.Query(ctx, `SELECT id FROM members WHERE person = $1
		UNION SELECT member FROM mandates WHERE person = $1 AND starts <= $2 AND ends > $2 AND ended IS NULL`, who.Person, now))(func(rows *store.Rows) (s string, err error) { return s, rows.Scan(&s) })
	if err != nil {
		return nil, err
	}
	var all []*Member
	for _, id := range ids {
		m, err := r.Member(ctx, who, id)
		if err != nil {
			return nil, err
		}
		if m.person != "" {
			all = append([]*Member{m}, all...)
		} else {
			all = append(all, m)
		}
	}
	return all, nil
}

// Member returns a member for which the person acts; ErrUnknown otherwise.
func (r *Register) Member(ctx context.Context, who Who, id string) (*Member, error) {
	powers, err := r.mayAct(ctx, r.db, who.Person, id)
	if err != nil {
		return nil, err
	}
	m, err := r.member(ctx, r.db, id)
	if err != nil {
		return nil, err
	}
	m.Powers = powers
	return m, nil
}

// newMember writes a member. document is nil for persons, who have theirs in
// their own row.
func (r *Register) newMember(ctx context.Context, tx *store.Tx, kind evidence.MemberKind, person *string, document []byte, level int, d memberDetail) (*Member, error) {
	salt, err := evidence.NewSalt(rand.Reader)
	if err != nil {
		return nil, err
	}
	d.Salt = salt
	m := &Member{ID: newID("m:"), Kind: kind, Name: d.Name, Level: level, Commitment: evidence.Commit(salt, d.Name, d.Document, d.Number), Demo: r.demo, Created: time.UnixMilli(r.millis()), detail: d}
	plain, err := json.Marshal(d)
	if err != nil {
		return nil, err
	}
	_, err = tx.Exec(ctx, "INSERT INTO members (id, kind, person, document, detail, commitment, level, demo, created) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
		m.ID, int64(kind), person, document, r.keys.Seal("members", "detail", m.ID, plain), m.Commitment[:], level, m.Demo, m.Created.UnixMilli())
	return m, err
}

// ownMember returns the person's own member, and makes it from her real name
// when there is none. A level that rose since counts for what is enrolled next.
func (r *Register) ownMember(ctx context.Context, tx *store.Tx, person string) (*Member, error) {
	name, kind, number, err := r.realName(ctx, tx, person)
	if err != nil {
		return nil, err
	}
	var level int
	if err := one(tx.QueryRow(ctx, "SELECT level FROM persons WHERE id = $1", person), &level); err != nil {
		return nil, err
	}
	if level < LevelSelf {
		return nil, ErrLevel
	}
	var id string
	err = one(tx.QueryRow(ctx, "SELECT id FROM members WHERE person = $1", person), &id)
	if errors.Is(err, ErrUnknown) {
		return r.newMember(ctx, tx, evidence.KindPerson, &person, nil, level, memberDetail{Name: name, Document: kind, Number: number})
	}
	if err != nil {
		return nil, err
	}
	m, err := r.member(ctx, tx, id)
	if err != nil {
		return nil, err
	}
	changed := m.detail.Name != name || m.detail.Document != kind || m.detail.Number != number
	if level > m.Level || changed {
		m.Level = max(level, m.Level)
		if changed {
			m.Level = level
			m.detail.Name, m.detail.Document, m.detail.Number = name, kind, number
			m.Commitment = evidence.Commit(m.detail.Salt, name, kind, number)
		}
		plain, err := json.Marshal(m.detail)
		if err != nil {
			return nil, err
		}
		if _, err := tx.Exec(ctx, "UPDATE members SET level = $1, commitment = $2, detail = $3 WHERE id = $4", m.Level, m.Commitment[:], r.keys.Seal("members", "detail", id, plain), id); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// endMandates revokes the keys and passkeys of mandates that are over.
func (r *Register) endMandates(ctx context.Context) error {
	err := r.db.In(ctx, func(tx *store.Tx) error {
		type mandate struct{ id, member, person string }
		over, err := store.Collect[mandate](tx.Query(ctx, "SELECT id, member, person FROM mandates WHERE ends <= $1 AND ended IS NULL", r.millis()))(func(rows *store.Rows) (m mandate, err error) {
			return m, rows.Scan(&m.id, &m.member, &m.person)
		})
		if err != nil {
			return err
		}
		for _, m := range over {
			if _, err := tx.Exec(ctx, "UPDATE mandates SET ended = $1 WHERE id = $2", r.millis(), m.id); err != nil {
				return err
			}
			if _, err := r.mayAct(ctx, tx, m.person, m.member); err == nil {
				continue // another mandate goes on
			} else if !errors.Is(err, ErrUnknown) {
				return err
			}
			if err := r.revokeAll(ctx, tx, m.member, m.person, ReasonAffiliation); err != nil {
				return err
			}
			if err := r.log(ctx, tx, Access{Subject: m.person, Action: "mandate-ended", Object: m.member}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("ending mandates: %w", err)
	}
	r.nudge()
	return nil
}
