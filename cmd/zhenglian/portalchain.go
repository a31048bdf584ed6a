package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/zhenglian/zhenglian/client"
	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/identity"
	"github.com/zhenglian/zhenglian/internal/identity/ca"
	"github.com/zhenglian/zhenglian/internal/institution"
)

// registerTime is how long the desk waits for one statement to be final before
// it tries again; a healthy alliance needs tens of milliseconds.
const registerTime = 30 * time.Second

// deskChain is the way of an institution's desk to the log: the statement key
// and the client. It serves identity.Chain, and issuing with asCA.
type deskChain struct {
	home   *institution.Home
	signer evidence.Signer // the statement key
	client *client.Client
	now    func() time.Time
}

// Prepare implements identity.Chain.
func (d *deskChain) Prepare(_ context.Context, contentType string, content []byte) ([]byte, error) {
	s, err := evidence.Statement{
		Issuer: d.home.ID(), Subject: evidence.SubjectRegistry, IssuedAt: d.now().Unix(),
		ContentType: contentType, Payload: content,
	}.Sign(d.signer)
	if err != nil {
		return nil, err
	}
	return s.Bytes(), nil
}

// Register implements identity.Chain.
func (d *deskChain) Register(ctx context.Context, statement []byte) (uint64, error) {
	position, problem, err := d.register(ctx, statement)
	if problem != nil {
		code, _ := evidence.CodeByName(problem.Code)
		return 0, &identity.Refusal{Code: code, Reason: problem.Detail}
	}
	return position, err
}

// register returns a problem where the rules refuse the statement for good.
func (d *deskChain) register(ctx context.Context, statement []byte) (uint64, *client.Problem, error) {
	ctx, cancel := context.WithTimeout(ctx, registerTime)
	defer cancel()
	final, err := d.client.Deposit(ctx, statement)
	var problem *client.Problem
	if errors.As(err, &problem) && problem.Rule() {
		return 0, problem, nil
	}
	if err != nil {
		return 0, nil, err
	}
	return final.Position, nil, nil
}

// asCA serves ca.Chain.
type asCA struct{ *deskChain }

// Register implements ca.Chain.
func (d asCA) Register(ctx context.Context, statement []byte) (uint64, error) {
	position, problem, err := d.register(ctx, statement)
	if problem != nil {
		return 0, &ca.RefusedError{Code: problem.Code, Reason: problem.Detail}
	}
	return position, err
}

// Key implements ca.Chain.
func (d asCA) Key(ctx context.Context, kid evidence.Digest) (*ca.Key, error) {
	m, err := d.client.Member(ctx, kid)
	if errors.Is(err, client.ErrNotFound) {
		return &ca.Key{}, nil
	}
	if err != nil {
		return nil, err
	}
	if m.Genesis || m.OfNode || m.Passkey != nil {
		return &ca.Key{}, nil // an institution's key, or a passkey: no member's
	}
	enrolment, _, err := d.statement(ctx, m.EnrolledAt)
	if err != nil {
		return nil, fmt.Errorf("proving the enrolment at position %d: %w", m.EnrolledAt, err)
	}
	k := &ca.Key{Member: m.Holder, EnrolledBy: enrolment.Issuer, Assurance: m.Assurance, Demo: m.Demo, Revoked: m.Revoked, Position: m.RevokedAt}
	k.Kind, _ = evidence.ParseMemberKind(m.Kind)
	if !m.Revoked {
		return k, nil
	}
	s, at, err := d.statement(ctx, m.RevokedAt)
	if err != nil {
		return nil, fmt.Errorf("proving the revocation at position %d: %w", m.RevokedAt, err)
	}
	r, err := evidence.ParseRevocation(s.Payload)
	if err != nil {
		return nil, fmt.Errorf("the revocation at position %d: %w", m.RevokedAt, err)
	}
	k.Reason, k.RevokedAt = int(r.Reason), at
	return k, nil
}

// statement returns a proven statement of the registry and the time of its block,
// as the institution says it.
func (d *deskChain) statement(ctx context.Context, position uint64) (*evidence.Statement, time.Time, error) {
	r, _, err := d.client.Registration(ctx, position)
	if err != nil {
		return nil, time.Time{}, err
	}
	s, err := evidence.ParseStatement(r.Statement)
	if err != nil {
		return nil, time.Time{}, err
	}
	record, err := d.client.RecordAt(ctx, position)
	if err != nil {
		return nil, time.Time{}, err
	}
	return s, record.BlockTime, nil
}
