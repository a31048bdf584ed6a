package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"time"
)

// Sessions keeps browser sessions for github.com/alexedwards/scs/v2 (CtxStore).
// A row holds the digest of the session's token, so that whoever reads the
// database cannot continue a session, and its data is sealed.
type Sessions struct {
	db   *DB
	keys *Keys
	now  func() time.Time
}

// NewSessions returns the sessions of a database. now is the clock of expiry;
// nil is time.Now.
func NewSessions(db *DB, keys *Keys, now func() time.Time) *Sessions {
	if now == nil {
		now = time.Now
	}
	return &Sessions{db, keys, now}
}

func sessionRow(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// FindCtx returns a session's data; found is false when it is unknown, has
// expired, or does not open.
func (s *Sessions) FindCtx(ctx context.Context, token string) (b []byte, found bool, err error) {
	row := sessionRow(token)
	var sealed []byte
	err = s.db.QueryRow(ctx, "SELECT data FROM sessions WHERE token = $1 AND expires > $2", row, s.now().UnixMilli()).Scan(&sealed)
	if errors.Is(err, ErrNone) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	b, err = s.keys.Open("sessions", "data", row, sealed)
	if err != nil {
		return nil, false, nil // altered: scs asks for "not found"
	}
	return b, true, nil
}

// CommitCtx writes a session.
func (s *Sessions) CommitCtx(ctx context.Context, token string, b []byte, expiry time.Time) error {
	row := sessionRow(token)
	return s.db.In(ctx, func(tx *Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO sessions (token, data, expires) VALUES ($1, $2, $3)
			ON CONFLICT (token) DO UPDATE SET data = excluded.data, expires = excluded.expires`,
			row, s.keys.Seal("sessions", "data", row, b), expiry.UnixMilli())
		return err
	})
}

// DeleteCtx removes a session; one that is not there is no error.
func (s *Sessions) DeleteCtx(ctx context.Context, token string) error {
	return s.db.In(ctx, func(tx *Tx) error {
		_, err := tx.Exec(ctx, "DELETE FROM sessions WHERE token = $1", sessionRow(token))
		return err
	})
}

// Find, Commit and Delete are what scs asks of a store without contexts.
func (s *Sessions) Find(token string) ([]byte, bool, error) {
	return s.FindCtx(context.Background(), token)
}

// Commit is CommitCtx without a context.
func (s *Sessions) Commit(token string, b []byte, expiry time.Time) error {
	return s.CommitCtx(context.Background(), token, b, expiry)
}

// Delete is DeleteCtx without a context.
func (s *Sessions) Delete(token string) error { return s.DeleteCtx(context.Background(), token) }

// Sweep removes expired sessions and returns how many.
func (s *Sessions) Sweep(ctx context.Context) (n int64, err error) {
	err = s.db.In(ctx, func(tx *Tx) error {
		n, err = tx.Exec(ctx, "DELETE FROM sessions WHERE expires <= $1", s.now().UnixMilli())
		return err
	})
	return n, err
}

// Run sweeps at every interval until ctx ends; failed, when not nil, hears of
// sweeps that failed.
func (s *Sessions) Run(ctx context.Context, interval time.Duration, failed func(error)) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if _, err := s.Sweep(ctx); err != nil && ctx.Err() == nil && failed != nil {
				failed(err)
			}
		}
	}
}
