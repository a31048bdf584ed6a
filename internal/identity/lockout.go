package identity

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/zhenglian/zhenglian/internal/store"
)

// Action is what somebody could try again and again.
type Action string

// The actions under lock-out.
const (
	ActionSignIn   Action = "sign-in"
	ActionAct      Action = "act"
	ActionRecovery Action = "recovery"
)

const (
	// freeAttempts: a person who mistypes or whose device fails gets through;
	// an attacker gets so many a day and then ever fewer.
	freeAttempts = 5
	// firstLock doubles with every further attempt, up to longestLock.
	firstLock   = 30 * time.Second
	longestLock = 24 * time.Hour
	// lockoutMemory: attempts are forgotten when none was made for so long.
	lockoutMemory = 24 * time.Hour
	// addressFactor: many persons share an address (an office, a court's hall),
	// so an address has so many times the attempts.
	addressFactor = 10
)

// Locked says that attempts are refused until a time.
type Locked struct{ Until time.Time }

func (e *Locked) Error() string {
	return fmt.Sprintf("too many attempts: the next one counts from %s on", e.Until.UTC().Format(time.RFC3339))
}

// Attempt charges one attempt to a person (or whatever names one: "" when she is
// not known yet) and to an address, before it is made, so that attempts made at
// the same time are all counted. It fails with *Locked. Passed takes it back.
func (r *Register) Attempt(ctx context.Context, action Action, person, address string) error {
	var locked *Locked
	err := r.db.In(ctx, func(tx *store.Tx) error {
		locked = nil
		now := r.now()
		for _, k := range r.lockoutKeys(action, person, address) {
			var failures, until, last int64
			err := one(tx.QueryRow(ctx, "SELECT failures, until, last FROM lockouts WHERE id = $1", k.id), &failures, &until, &last)
			if err != nil && !errors.Is(err, ErrUnknown) {
				return err
			}
			if until > now.UnixMilli() {
				if locked == nil || time.UnixMilli(until).After(locked.Until) {
					locked = &Locked{time.UnixMilli(until)}
				}
				continue // an attempt that was not allowed is not charged: nobody is locked out for ever by another's
			}
			if now.UnixMilli()-last > lockoutMemory.Milliseconds() {
				failures = 0
			}
			failures++
			until = now.Add(lockFor(failures, k.free)).UnixMilli()
			if _, err := tx.Exec(ctx, "INSERT INTO lockouts (id, failures, until, last) VALUES ($1, $2, $3, $4) ON CONFLICT (id) DO UPDATE SET failures = excluded.failures, until = excluded.until, last = excluded.last",
				k.id, failures, until, now.UnixMilli()); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if locked != nil {
		return locked
	}
	return nil
}

// lockFor returns how long no further attempt counts after so many.
func lockFor(failures, free int64) time.Duration {
	if failures < free {
		return 0
	}
	d := firstLock
	for range failures - free {
		if d *= 2; d >= longestLock {
			return longestLock
		}
	}
	return d
}

// Passed says that the attempt succeeded: the person's count is gone, and the
// address's is one less. (An attacker with one good account of his own does not
// clear his address with it.)
func (r *Register) Passed(ctx context.Context, action Action, person, address string) error {
	return r.db.In(ctx, func(tx *store.Tx) error { return r.passed(ctx, tx, action, person, address) })
}

func (r *Register) passed(ctx context.Context, tx *store.Tx, action Action, person, address string) error {
	for _, k := range r.lockoutKeys(action, person, address) {
		query := "DELETE FROM lockouts WHERE id = $1"
		if k.shared {
			query = "UPDATE lockouts SET failures = failures - 1, until = 0 WHERE id = $1 AND failures > 0"
		}
		if _, err := tx.Exec(ctx, query, k.id); err != nil {
			return err
		}
	}
	return nil
}

type lockoutKey struct {
	id     string
	free   int64
	shared bool
}

func (r *Register) lockoutKeys(action Action, person, address string) []lockoutKey {
	var keys []lockoutKey
	if person != "" {
		keys = append(keys, lockoutKey{hex.EncodeToString(r.blindID("lockout", string(action), "person", person)), freeAttempts, false})
	}
	if address != "" {
		keys = append(keys, lockoutKey{hex.EncodeToString(r.blindID("lockout", string(action), "address", address)), freeAttempts * addressFactor, true})
	}
	return keys
}
