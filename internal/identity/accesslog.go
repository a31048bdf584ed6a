package identity

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/zhenglian/zhenglian/internal/store"
)

// Access is one entry of the access log: who did what with whose data, and why.
type Access struct {
	Number  int64 // 1, 2, …
	At      time.Time
	Actor   string // person id, or "" for the register itself
	Subject string // the person whose data it was
	Action  string // sign-in, open-application, open-document, approve, refuse, ask-correction, export, erase, recover, …
	Object  string // an application's or key's id
	Purpose string // in the actor's words
}

// BrokenLog says that the access log was altered outside of this program.
type BrokenLog struct {
	Number int64 // the first entry that is missing or does not match
	Reason string
}

func (e *BrokenLog) Error() string {
	return fmt.Sprintf("the access log was altered at entry %d: %s; compare it with a backup, and find out who can write to the database", e.Number, e.Reason)
}

func (r *Register) accessMAC(a *Access, previous []byte) []byte {
	return r.blindID("access log", strconv.FormatInt(a.Number, 10), strconv.FormatInt(a.At.UnixMilli(), 10), a.Actor, a.Subject, a.Action, a.Object, a.Purpose, base64.StdEncoding.EncodeToString(previous))
}

// log appends an entry in the transaction of what it tells of.
//
// Each row has a MAC over itself and the MAC before, and the head has one over
// the last number, under a key that is not in the database: whoever can write
// there can neither alter nor remove an entry, the last ones included, without
// CheckAccesses finding it. Putting the whole database back to an older state is
// not seen from inside; that is what AccessHead is for, which can be deposited.
func (r *Register) log(ctx context.Context, tx *store.Tx, a Access) error {
	var seq int64
	var previous []byte
	err := one(tx.QueryRow(ctx, "SELECT seq FROM accesses_head WHERE one = 1"), &seq)
	if err != nil && !errors.Is(err, ErrUnknown) {
		return err
	}
	if seq > 0 {
		if err := one(tx.QueryRow(ctx, "SELECT mac FROM accesses WHERE seq = $1", seq), &previous); errors.Is(err, ErrUnknown) {
			return &BrokenLog{seq, "the last entry is missing"}
		} else if err != nil {
			return err
		}
	}
	a.Number, a.At = seq+1, time.UnixMilli(r.millis())
	mac := r.accessMAC(&a, previous)
	row := strconv.FormatInt(a.Number, 10)
	if _, err := tx.Exec(ctx, "INSERT INTO accesses (seq, at, actor, subject, action, object, purpose, mac) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
		a.Number, a.At.UnixMilli(), a.Actor, a.Subject, a.Action, a.Object, r.keys.Seal("accesses", "purpose", row, []byte(a.Purpose)), mac); err != nil {
		return err
	}
	_, err = tx.Exec(ctx, "INSERT INTO accesses_head (one, seq, mac) VALUES (1, $1, $2) ON CONFLICT (one) DO UPDATE SET seq = excluded.seq, mac = excluded.mac",
		a.Number, r.headMAC(a.Number, mac))
	return err
}

func (r *Register) headMAC(seq int64, mac []byte) []byte {
	return r.blindID("access log head", strconv.FormatInt(seq, 10), base64.StdEncoding.EncodeToString(mac))
}

// Accesses returns what was done with one person's data, newest first.
func (r *Register) Accesses(ctx context.Context, person string, limit int) ([]Access, error) {
	return r.accesses(ctx, r.db, "SELECT seq, at, actor, subject, action, object, purpose FROM accesses WHERE subject = $1 ORDER BY seq DESC LIMIT $2", person, limit)
}

func (r *Register) accesses(ctx context.Context, q store.Reader, query string, args ...any) ([]Access, error) {
	return store.Collect[Access](q.Query(ctx, query, args...))(func(rows *store.Rows) (a Access, err error) {
		var at int64
		var purpose []byte
		if err := rows.Scan(&a.Number, &at, &a.Actor, &a.Subject, &a.Action, &a.Object, &purpose); err != nil {
			return a, err
		}
		a.At = time.UnixMilli(at)
		plain, err := r.keys.Open("accesses", "purpose", strconv.FormatInt(a.Number, 10), purpose)
		a.Purpose = string(plain)
		return a, err
	})
}

// AccessHead returns the number of entries and what stands for all of them: a
// value to deposit, so that an older state of the database can be told.
func (r *Register) AccessHead(ctx context.Context) (entries int64, head []byte, err error) {
	err = one(r.db.QueryRow(ctx, "SELECT seq, mac FROM accesses_head WHERE one = 1"), &entries, &head)
	if errors.Is(err, ErrUnknown) {
		return 0, nil, nil
	}
	return entries, head, err
}

// CheckAccesses reads the whole access log. It fails with *BrokenLog when an
// entry was altered, removed, added or moved.
func (r *Register) CheckAccesses(ctx context.Context) error {
	return r.db.In(ctx, func(tx *store.Tx) error { // one state of the database
		type entry struct {
			Access
			mac []byte
		}
		all, err := store.Collect[entry](tx.Query(ctx, "SELECT seq, at, actor, subject, action, object, purpose, mac FROM accesses ORDER BY seq"))(func(rows *store.Rows) (e entry, err error) {
			var at int64
			var purpose []byte
			if err := rows.Scan(&e.Number, &at, &e.Actor, &e.Subject, &e.Action, &e.Object, &purpose, &e.mac); err != nil {
				return e, err
			}
			e.At = time.UnixMilli(at)
			plain, err := r.keys.Open("accesses", "purpose", strconv.FormatInt(e.Number, 10), purpose)
			if err != nil {
				return e, &BrokenLog{e.Number, "its purpose does not open"}
			}
			e.Purpose = string(plain)
			return e, nil
		})
		if err != nil {
			return err
		}
		var previous []byte
		for i, e := range all {
			if e.Number != int64(i)+1 {
				return &BrokenLog{int64(i) + 1, "the entry is missing"}
			}
			if !bytes.Equal(e.mac, r.accessMAC(&e.Access, previous)) {
				return &BrokenLog{e.Number, "the entry does not match its code"}
			}
			previous = e.mac
		}
		var seq int64
		var mac []byte
		err = one(tx.QueryRow(ctx, "SELECT seq, mac FROM accesses_head WHERE one = 1"), &seq, &mac)
		switch {
		case errors.Is(err, ErrUnknown):
			if len(all) == 0 {
				return nil
			}
			return &BrokenLog{int64(len(all)), "the head is missing"}
		case err != nil:
			return err
		case seq != int64(len(all)):
			return &BrokenLog{min(seq, int64(len(all))) + 1, fmt.Sprintf("there are %d entries and the head says %d", len(all), seq)}
		case !bytes.Equal(mac, r.headMAC(seq, previous)):
			return &BrokenLog{seq, "the head does not match its code"}
		}
		return nil
	})
}
