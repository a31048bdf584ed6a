package identity

import (
	"context"
	"errors"
	"fmt"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/store"
)

// Chain is the way to the alliance's log, with the institution's statement key.
//
// What is announced is never lost and never announced twice:
//  1. the intention is committed together with the row that it is about;
//  2. Prepare signs; the signed bytes are committed;
//  3. Register takes these bytes; the position is committed with the row's new state.
//
// A power cut after 1 signs again, and nothing had left; after 2, the same bytes
// are registered, and the log answers bytes it knows with their old position.
type Chain interface {
	// Prepare signs a statement with this content and returns its bytes. It
	// must not send anything.
	Prepare(ctx context.Context, contentType string, content []byte) (statement []byte, err error)
	// Register gives the statement to the log and returns its position once it
	// is final. Bytes that are there already give their old position. It fails
	// with *Refusal when the log will never take them; after any other error it
	// is called again.
	Register(ctx context.Context, statement []byte) (position uint64, err error)
}

// Refusal says that the log refused a statement for good.
type Refusal struct {
	Code   evidence.Code
	Reason string
}

func (e *Refusal) Error() string { return fmt.Sprintf("the log refused it: %v: %s", e.Code, e.Reason) }

// Purpose says what a submission is about.
type Purpose string

// The purposes; each has a kid for its subject.
const (
	PurposeKey           Purpose = "key"
	PurposePasskey       Purpose = "passkey"
	PurposeRevokeKey     Purpose = "revoke-key"
	PurposeRevokePasskey Purpose = "revoke-passkey"
)

// Announce records that a statement with this content is to be registered. It
// is part of the caller's transaction; Deliver does the rest afterwards.
func (r *Register) Announce(ctx context.Context, tx *store.Tx, purpose Purpose, kid evidence.Digest, contentType string, content []byte) error {
	var seq int64
	if err := tx.QueryRow(ctx, "SELECT COALESCE(MAX(seq), 0) + 1 FROM submissions").Scan(&seq); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, "INSERT INTO submissions (seq, purpose, subject, type, content, state, created) VALUES ($1, $2, $3, $4, $5, 'waiting', $6)",
		seq, string(purpose), kid.String(), contentType, content, r.millis())
	return err
}

// nudge makes Run deliver now.
func (r *Register) nudge() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Waiting returns how many statements have not reached the log.
func (r *Register) Waiting(ctx context.Context) (n int, err error) {
	return n, r.db.QueryRow(ctx, "SELECT COUNT(*) FROM submissions WHERE state = 'waiting'").Scan(&n)
}

// Deliver registers what waits, oldest first, until nothing waits or the chain
// cannot be reached. A statement that is refused is marked so and does not stop
// the others.
func (r *Register) Deliver(ctx context.Context) error {
	if r.chain == nil {
		return nil
	}
	r.delivering.Lock()
	defer r.delivering.Unlock()
	for {
		more, err := r.deliverOne(ctx)
		if err != nil || !more {
			return err
		}
	}
}

type submission struct {
	seq                int64
	purpose, subject   string
	contentType        string
	content, statement []byte
}

func (r *Register) deliverOne(ctx context.Context) (more bool, err error) {
	var s submission
	err = one(r.db.QueryRow(ctx, "SELECT seq, purpose, subject, type, content, statement FROM submissions WHERE state = 'waiting' ORDER BY seq LIMIT 1"),
		&s.seq, &s.purpose, &s.subject, &s.contentType, &s.content, &s.statement)
	if errors.Is(err, ErrUnknown) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if s.statement == nil {
		if s.statement, err = r.chain.Prepare(ctx, s.contentType, s.content); err != nil {
			return false, fmt.Errorf("signing the %s statement %d: %w", s.purpose, s.seq, err)
		}
		// Another process at the same database may have signed meanwhile: what was
		// written first is what goes out.
		err := r.db.In(ctx, func(tx *store.Tx) error {
			if _, err := tx.Exec(ctx, "UPDATE submissions SET statement = $1 WHERE seq = $2 AND statement IS NULL", s.statement, s.seq); err != nil {
				return err
			}
			return one(tx.QueryRow(ctx, "SELECT statement FROM submissions WHERE seq = $1", s.seq), &s.statement)
		})
		if err != nil {
			return false, err
		}
	}
	position, err := r.chain.Register(ctx, s.statement)
	var refused *Refusal
	if err != nil && !errors.As(err, &refused) {
		return false, fmt.Errorf("registering the %s statement %d: %w", s.purpose, s.seq, err)
	}
	err = r.db.In(ctx, func(tx *store.Tx) error { return r.settle(ctx, tx, &s, position, refused) })
	return err == nil, err
}

// settle writes what became of a submission and what follows for its subject.
func (r *Register) settle(ctx context.Context, tx *store.Tx, s *submission, position uint64, refused *Refusal) error {
	now := r.millis()
	var state string
	if err := one(tx.QueryRow(ctx, "SELECT state FROM submissions WHERE seq = $1", s.seq), &state); err != nil || state != "waiting" {
		return err // another process was first
	}
	if refused != nil {
		if _, err := tx.Exec(ctx, "UPDATE submissions SET state = 'refused', problem = $1, finished = $2 WHERE seq = $3", refused.Error(), now, s.seq); err != nil {
			return err
		}
	} else if _, err := tx.Exec(ctx, "UPDATE submissions SET state = 'done', position = $1, finished = $2 WHERE seq = $3", int64(position), now, s.seq); err != nil {
		return err
	}
	var table string
	switch Purpose(s.purpose) {
	case PurposeKey:
		table = "member_keys"
	case PurposePasskey:
		table = "passkeys"
	case PurposeRevokeKey, PurposeRevokePasskey:
		// Refused: it was never enrolled, or is revoked there already. Either
		// way it registers nothing any more.
		table = "member_keys"
		if Purpose(s.purpose) == PurposeRevokePasskey {
			table = "passkeys"
		}
		_, err := tx.Exec(ctx, "UPDATE "+table+" SET state = 'revoked' WHERE kid = $1 AND state = 'revoking'", s.subject)
		return err
	default:
		return nil
	}
	var err error
	if refused != nil {
		_, err = tx.Exec(ctx, "UPDATE "+table+" SET state = 'refused', problem = $2 WHERE kid = $1 AND state = 'waiting'", s.subject, refused.Error())
	} else {
		// A key whose revocation waits behind this stays one that is being revoked.
		_, err = tx.Exec(ctx, "UPDATE "+table+" SET position = $2, state = CASE WHEN state = 'waiting' THEN 'enrolled' ELSE state END WHERE kid = $1", s.subject, int64(position))
	}
	return err
}
