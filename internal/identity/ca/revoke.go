package ca

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
)

// ReasonOK reports whether a number is a CRLReason (RFC 5280 §5.3.1) of a
// revocation that is for good: certificateHold and removeFromCRL are not, and a
// CA's own compromise is another matter.
func ReasonOK(reason int) bool { return slices.Contains([]int{0, 1, 3, 4, 5, 9}, reason) }

// Revoke revokes a key that the institution enrolled, and with it all of its
// certificates: on the chain first, then in the register, then a new list is
// signed. A key that is revoked already stays as it is and is no error.
// Errors as of Issue.
func (a *Authority) Revoke(ctx context.Context, kid evidence.Digest, reason int) (*Revocation, error) {
	if !ReasonOK(reason) {
		return nil, refuse(SubjectReason, "%d is no CRLReason of a revocation that is for good: 0, 1, 3, 4, 5 or 9", reason)
	}
	known, err := a.cfg.Chain.Key(ctx, kid)
	switch {
	case err != nil:
		return nil, fmt.Errorf("asking the chain for key %s: %w", kid, err)
	case known.Member == "" || known.EnrolledBy != a.cfg.Institution:
		return nil, refuse(SubjectNotEnrolled, "%v: %s", errNotOurs, kid)
	}
	v := &Revocation{KID: kid, Reason: reason, State: Intended, At: a.cfg.Now().UTC().Truncate(time.Second)}
	if !known.Revoked {
		content := evidence.Revocation{KID: kid, Reason: uint64(reason)}
		if v.Statement, err = a.statement(evidence.TypeRevocation, content.Encode()); err != nil {
			return nil, err
		}
		earlier, err := a.cfg.Register.intendRevocation(ctx, v)
		if err != nil {
			return nil, err
		}
		if earlier != nil && earlier.State == Intended {
			v = earlier // it is sent as it was: one revocation, one statement
		}
	}
	return v, a.finishRevocation(ctx, v)
}

// finishRevocation sends v where the chain has none, and writes down what the
// chain then says: its time and, where the holder was first, her reason.
func (a *Authority) finishRevocation(ctx context.Context, v *Revocation) error {
	var refused *RefusedError
	if v.Statement != nil {
		if _, err := a.cfg.Chain.Register(ctx, v.Statement); err != nil && !errors.As(err, &refused) {
			return &PendingError{nil, err}
		}
	}
	known, err := a.cfg.Chain.Key(ctx, v.KID)
	if err != nil {
		return &PendingError{nil, err}
	}
	if !known.Revoked {
		if refused == nil {
			return &PendingError{nil, errors.New("the own node does not know it yet")}
		}
		if err := a.cfg.Register.withdraw(ctx, v.KID); err != nil {
			return err
		}
		return refused
	}
	v.State, v.Reason, v.Position, v.At = Revoked, known.Reason, known.Position, known.RevokedAt.UTC().Truncate(time.Second)
	if err := a.cfg.Register.revoked(ctx, v); err != nil {
		return err
	}
	a.cfg.Logger.Info("key revoked", "kid", v.KID, "reason", v.Reason, "position", v.Position)
	return a.signLists(ctx)
}

// Resume finishes what was begun: certificates and revocations that are recorded
// and not on the chain. One that still cannot be finished does not stop the
// others; what is returned is of the last.
func (a *Authority) Resume(ctx context.Context) error {
	var last error
	entries, err := a.cfg.Register.unfinished(ctx)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := a.finish(ctx, e); err != nil {
			last = fmt.Errorf("finishing certificate %s: %w", SerialHex(e.Serial), err)
		}
	}
	revocations, err := a.cfg.Register.unfinishedRevocations(ctx)
	if err != nil {
		return err
	}
	for _, v := range revocations {
		if err := a.finishRevocation(ctx, v); err != nil {
			last = fmt.Errorf("finishing the revocation of %s: %w", v.KID, err)
		}
	}
	return last
}

// Sync asks the chain about every key with a live certificate, so that what its
// holder revoked herself is in CRL and OCSP too.
func (a *Authority) Sync(ctx context.Context) error {
	began := a.cfg.Now()
	live, err := a.cfg.Register.live(ctx)
	if err != nil {
		return err
	}
	asked := map[evidence.Digest]bool{}
	for _, e := range live {
		kid := e.Key.KID()
		if asked[kid] {
			continue
		}
		asked[kid] = true
		if v, err := a.cfg.Register.Revocation(ctx, kid); err == nil && v.State == Revoked {
			continue
		} else if err != nil && !errors.Is(err, ErrUnknown) {
			return err
		}
		known, err := a.cfg.Chain.Key(ctx, kid)
		if err != nil {
			return fmt.Errorf("asking the chain for key %s: %w", kid, err)
		}
		if known.Revoked {
			v := &Revocation{KID: kid, Reason: known.Reason, Position: known.Position, At: known.RevokedAt}
			if err := a.cfg.Register.revoked(ctx, v); err != nil {
				return err
			}
			a.cfg.Logger.Info("the chain says that a key is revoked", "kid", kid, "reason", v.Reason, "position", v.Position)
		}
	}
	a.mu.Lock()
	if began.After(a.synced) {
		a.synced = began
	}
	a.mu.Unlock()
	return a.signLists(ctx)
}

// Run resumes, synchronises and signs lists at once and then at each interval,
// until ctx ends. What fails is logged and tried again.
func (a *Authority) Run(ctx context.Context) error {
	tick := time.NewTicker(a.cfg.SyncInterval)
	defer tick.Stop()
	for {
		if err := errors.Join(a.Resume(ctx), a.Sync(ctx)); err != nil && ctx.Err() == nil {
			a.cfg.Logger.Warn("the certification authority has unfinished work", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
