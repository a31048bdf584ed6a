package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/identity"
	"github.com/zhenglian/zhenglian/internal/identity/ca"
	"github.com/zhenglian/zhenglian/internal/web"
)

// enrolling is how long a page waits for an enrolment to be in the log before it
// says that it is on its way.
const enrolling = 15 * time.Second

// webEnroller gives members keys and certificates: the register enrols, the
// authority certifies, in this order.
type webEnroller struct {
	register  *identity.Register
	authority *ca.Authority // nil: enrolments without certificates
	validity  time.Duration
}

// Describe implements web.Enroller.
func (e *webEnroller) Describe(ctx context.Context, who identity.Who, member string) (evidence.Person, error) {
	m, err := e.register.Member(ctx, who, member)
	if err != nil {
		return evidence.Person{}, err
	}
	return evidence.Person{Member: m.ID, Commitment: m.Commitment, Assurance: m.Level, Demo: m.Demo}, nil
}

// Keys implements web.Enroller.
func (e *webEnroller) Keys(ctx context.Context, who identity.Who, member string) ([]web.MemberKey, error) {
	keys, err := e.register.KeysOf(ctx, who, member)
	if err != nil {
		return nil, err
	}
	out := make([]web.MemberKey, 0, len(keys))
	for _, k := range keys {
		if k.Person != who.Person {
			continue // an enterprise's other agent
		}
		m := web.MemberKey{KID: k.KID, Label: k.Label, Recipient: k.Recipient, Enrolled: k.Created, Revoked: k.State == identity.StateRevoked || k.State == identity.StateRevoking}
		entry, err := e.issued(ctx, k.KID)
		if err != nil {
			return nil, err
		}
		if entry != nil {
			m.NotAfter = time.Unix(entry.NotAfter, 0)
		}
		out = append(out, m)
	}
	return out, nil
}

// issued returns the last certificate of a key, nil when it has none.
func (e *webEnroller) issued(ctx context.Context, kid evidence.Digest) (*ca.Entry, error) {
	if e.authority == nil {
		return nil, nil
	}
	entries, err := e.authority.Register().ByKey(ctx, kid)
	if err != nil {
		return nil, err
	}
	for _, entry := range entries { // the newest first
		if entry.State == ca.Issued {
			return entry, nil
		}
	}
	return nil, nil
}

// Enrol implements web.Enroller.
func (e *webEnroller) Enrol(ctx context.Context, who identity.Who, member string, request []byte, label, recipient string) (*web.Enrolled, error) {
	r, err := ca.ParseRequest(request)
	if err != nil {
		return nil, err
	}
	key, err := e.register.EnrolKey(ctx, who, identity.NewKey{Member: member, Public: r.Key, Label: label, Holder: identity.HolderBrowser, Recipient: recipient})
	if err != nil {
		return nil, err
	}
	if key, err = e.await(ctx, who, key); err != nil {
		return nil, err
	}
	out := &web.Enrolled{Member: key.Member, KID: key.KID, Position: uint64(key.Position)}
	if e.authority == nil {
		return out, nil
	}
	entry, err := e.authority.IssueEnrolled(ctx, request, "", e.validity)
	var pending *ca.PendingError
	if errors.As(err, &pending) {
		return nil, fmt.Errorf("%w: %w", web.ErrEnrolling, err)
	}
	if err != nil {
		return nil, err
	}
	out.Certificate, err = e.authority.CertificatePEM(entry)
	return out, err
}

// await returns the key when its enrolment has a place in the log.
func (e *webEnroller) await(ctx context.Context, who identity.Who, key *identity.Key) (*identity.Key, error) {
	over := time.NewTimer(enrolling)
	defer over.Stop()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		switch key.State {
		case identity.StateWaiting:
		case identity.StateRefused:
			return nil, fmt.Errorf("the log refused the enrolment: %s", key.Problem)
		case identity.StateEnrolled:
			return key, nil
		default:
			return nil, identity.ErrState
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-over.C:
			return nil, web.ErrEnrolling
		case <-again.C:
		}
		var err error
		if key, err = e.register.Key(ctx, who, key.KID); err != nil {
			return nil, err
		}
	}
}

// Certificate implements web.Enroller.
func (e *webEnroller) Certificate(ctx context.Context, kid, sha256 evidence.Digest) ([]byte, error) {
	if e.authority == nil {
		return nil, nil
	}
	entries, err := e.authority.Register().ByKey(ctx, kid)
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		if entry.State == ca.Issued && evidence.SumSHA256(entry.DER) == sha256 {
			return e.authority.CertificatePEM(entry)
		}
	}
	return nil, nil
}
