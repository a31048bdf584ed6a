package webtest

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/client/clienttest"
	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/custody"
	"github.com/zhenglian/zhenglian/internal/identity"
	"github.com/zhenglian/zhenglian/internal/store"
	"github.com/zhenglian/zhenglian/internal/web"
)

// Deposits is a part for the member's pages that is no fake: custody over a
// database of its own, beside an alliance on loopback, which enrols any key that
// a browser asks for.
type Deposits struct {
	*custody.Custody
	Net *clienttest.Net

	mu      sync.Mutex
	t       testing.TB
	members map[string]string // person → member
	keys    map[string][]web.MemberKey
	people  *People
}

// WithDeposits gives a portal the pages of deposits and records, on real parts.
func WithDeposits(t testing.TB, into **Deposits) func(*web.Config) {
	return func(c *web.Config) {
		net := clienttest.New(t, "deposits", 4)
		db, err := store.Open(context.Background(), t.TempDir()+"/portal.db")
		check(t, err)
		t.Cleanup(func() { _ = db.Close() })
		cust, err := custody.Open(custody.Config{DB: db, Dir: t.TempDir(), Alliance: net.Client(t, net.Get("ca").Statement), Retry: 100 * time.Millisecond})
		check(t, err)
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- cust.Run(ctx) }()
		t.Cleanup(func() {
			cancel()
			check(t, <-done)
			check(t, cust.Close())
		})
		d := &Deposits{Custody: cust, Net: net, t: t, members: map[string]string{}, keys: map[string][]web.MemberKey{}}
		if p, ok := c.Parts.People.(*People); ok {
			d.people = p
		}
		c.Alliance = web.Alliance{ID: net.ID(), Name: net.Policy.Name, Policy: func() *evidence.Policy { return net.Policy }}
		c.Parts.Custody, c.Parts.Enroller = d, d
		*into = d
	}
}

// Describe is web.Enroller's.
func (d *Deposits) Describe(_ context.Context, _ identity.Who, member string) (evidence.Person, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return evidence.Person{Member: member, Assurance: 2, Demo: true, Commitment: evidence.SumSHA256([]byte("commitment " + member))}, nil
}

// Keys is web.Enroller's.
func (d *Deposits) Keys(_ context.Context, who identity.Who, _ string) ([]web.MemberKey, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.keys[who.Person]), nil
}

// Enrol is web.Enroller's.
func (d *Deposits) Enrol(_ context.Context, who identity.Who, member string, request []byte, label, recipient string) (*web.Enrolled, error) {
	r, err := x509.ParseCertificateRequest(request)
	if err == nil {
		err = r.CheckSignature()
	}
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(r.PublicKey)
	if err != nil {
		return nil, err
	}
	key, err := evidence.ParsePublicKey(der)
	if err != nil {
		return nil, err
	}
	if member == "" {
		member = "m:" + strings.Repeat(who.Person[:1], 26)
	}
	m := d.Net.EnrolKey(d.t, member, publicOnly{key})
	d.mu.Lock()
	defer d.mu.Unlock()
	d.members[who.Person] = member
	d.keys[who.Person] = append(d.keys[who.Person], web.MemberKey{KID: key.KID(), Label: label, Recipient: recipient, Enrolled: time.Now()})
	if d.people != nil {
		if p, err := d.people.Person(context.Background(), who.Person); err == nil {
			p.Member = member
			d.people.Set(*p)
		}
	}
	return &web.Enrolled{Member: member, KID: key.KID(), Position: m.EnrolledAt, Certificate: pem.EncodeToMemory(&pem.Block{Type: "TEST", Bytes: der})}, nil
}

// Certificate is web.Enroller's.
func (d *Deposits) Certificate(context.Context, evidence.Digest, evidence.Digest) ([]byte, error) {
	return nil, nil
}

type publicOnly struct{ key *evidence.PublicKey }

func (s publicOnly) Public() *evidence.PublicKey { return s.key }
func (s publicOnly) Sign([]byte) ([]byte, error) { panic("the private half is in the browser") }
