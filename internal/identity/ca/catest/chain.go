// Package catest is a chain for tests of the certification authority: the real
// registry of keys, in memory, with faults on demand.
package catest

import (
	"context"
	"sync"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/identity/ca"
	"github.com/zhenglian/zhenglian/internal/registry"
	"github.com/zhenglian/zhenglian/internal/testalliance"
)

// Chain implements ca.Chain.
type Chain struct {
	CA *testalliance.Institution // whose statement key the authority has

	mu       sync.Mutex
	now      func() time.Time
	registry *registry.Registry
	placed   map[evidence.Digest]uint64
	times    []time.Time // by position
	before   error
	after    error
	sent     int
}

// New makes the chain of an alliance of four institutions.
func New(now func() time.Time) (*Chain, error) {
	a, err := testalliance.New("ca", 4)
	if err != nil {
		return nil, err
	}
	r, err := registry.New(a.Alliance)
	if err != nil {
		return nil, err
	}
	c := &Chain{now: now, registry: r, placed: map[evidence.Digest]uint64{}}
	for _, i := range a.Institutions {
		if i.Kind == evidence.KindCA {
			c.CA = i
		}
	}
	return c, nil
}

// Fail makes Register fail: before, and nothing is registered; after, and the
// answer is lost. Nil ends that.
func (c *Chain) Fail(before, after error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.before, c.after = before, after
}

// Statements returns how many different statements the chain has.
func (c *Chain) Statements() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.times)
}

// Sent returns how often a statement was sent.
func (c *Chain) Sent() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sent
}

// Register implements ca.Chain.
func (c *Chain) Register(_ context.Context, statement []byte) (uint64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sent++
	if c.before != nil {
		return 0, c.before
	}
	s, err := evidence.ParseStatement(statement)
	if err != nil {
		return 0, &ca.RefusedError{Code: "malformed", Reason: err.Error()}
	}
	position, known := c.placed[s.Digest()]
	if !known {
		if refused := c.registry.Check(s, c.now().UnixMilli()); refused != nil {
			return 0, &ca.RefusedError{Code: refused.Code.String(), Reason: refused.Reason}
		}
		position = uint64(len(c.times))
		if err := c.registry.Apply(s, position); err != nil {
			return 0, err
		}
		c.placed[s.Digest()] = position
		c.times = append(c.times, c.now())
	}
	return position, c.after
}

// Key implements ca.Chain.
func (c *Chain) Key(_ context.Context, kid evidence.Digest) (*ca.Key, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k, ok := c.registry.Key(kid)
	if !ok || k.Enrolment == nil {
		return &ca.Key{}, nil
	}
	e := k.Enrolment
	key := &ca.Key{Member: e.Member, EnrolledBy: k.EnrolledBy, Kind: e.Kind, Assurance: int(e.Assurance), Demo: e.Demo}
	if k.Revoked {
		key.Revoked, key.Reason, key.Position, key.RevokedAt = true, int(k.Reason), k.RevokedAt, c.times[k.RevokedAt]
	}
	return key, nil
}

// Enrol registers a member's key, signed by the CA institution.
func (c *Chain) Enrol(member string, key *evidence.PublicKey, kind evidence.MemberKind, assurance int, demo bool) error {
	e := evidence.Enrolment{Member: member, Key: key, Kind: kind, Assurance: uint64(assurance), Demo: demo}
	if assurance > 0 {
		e.Commitment = evidence.SumSHA256([]byte(member))
	}
	return c.sign(c.CA.Statement, c.CA.ID, evidence.TypeEnrolment, e.Encode())
}

// RevokeByHolder registers a revocation that the key's holder signs with it.
func (c *Chain) RevokeByHolder(holder evidence.Signer, member string, reason uint64) error {
	r := evidence.Revocation{KID: holder.Public().KID(), Reason: reason}
	return c.sign(holder, member, evidence.TypeRevocation, r.Encode())
}

func (c *Chain) sign(by evidence.Signer, issuer, contentType string, content []byte) error {
	s, err := evidence.Statement{Issuer: issuer, Subject: evidence.SubjectRegistry, IssuedAt: c.now().Unix(), ContentType: contentType, Payload: content}.Sign(by)
	if err != nil {
		return err
	}
	_, err = c.Register(context.Background(), s.Bytes())
	return err
}
