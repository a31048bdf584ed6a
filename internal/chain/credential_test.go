package chain

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/evidence/webauthn/webauthntest"
	"github.com/zhenglian/zhenglian/internal/testalliance"
)

func (a *allied) signer(name string) evidence.Signer {
	a.Helper()
	s, err := testalliance.Signer(name)
	if err != nil {
		a.Fatal(err)
	}
	return s
}

func (a *allied) clock() int64 { return time.Now().Add(time.Duration(a.ahead.Load())).Unix() }

// register has the CA make a statement of the registry.
func (a *allied) register(contentType string, payload []byte) {
	a.Helper()
	st, err := evidence.Statement{Issuer: "ca", Subject: evidence.SubjectRegistry, IssuedAt: a.clock(), ContentType: contentType, Payload: payload}.Sign(a.Get("ca").Statement)
	if err != nil {
		a.Fatal(err)
	}
	a.everywhere(a.submit("ca", st.Bytes()).Position)
}

// everywhere waits until every node knows what was registered at a position.
func (a *allied) everywhere(position uint64) {
	a.Helper()
	for id, n := range a.nodes {
		if err := n.WaitFinal(a.Context(), position); err != nil {
			a.Fatalf("%s: %v", id, err)
		}
	}
}

func (a *allied) enrol(member string, key evidence.Signer) {
	a.Helper()
	a.register(evidence.TypeEnrolment, (&evidence.Enrolment{Member: member, Key: key.Public(), Kind: evidence.KindPerson, Demo: true}).Encode())
}

func (a *allied) certify(key evidence.Signer, from, until int64) {
	a.Helper()
	a.register(evidence.TypeCertificate, (&evidence.Certificate{KID: key.Public().KID(), Serial: []byte{1}, NotBefore: from, NotAfter: until,
		SHA256: evidence.SumSHA256([]byte(time.Unix(until, 0).String()))}).Encode())
}

func (a *allied) deposit(member string, key evidence.Signer, salt string) *evidence.Statement {
	a.Helper()
	d := evidence.SumSHA256([]byte(salt))
	st, err := evidence.Statement{Issuer: member, Subject: evidence.SubjectNewTrail, IssuedAt: a.clock(), ContentType: evidence.TypeDeposit,
		Payload: d[:], After: evidence.Checkpoint{Root: emptyRoot}, ManifestSM3: d}.Sign(key)
	if err != nil {
		a.Fatal(err)
	}
	return st
}

// A key ends with its last certificate by the chain's clock: nobody takes its
// statements, and a node that puts one into a block all the same finds it refused
// there by all. A renewal makes it good again.
func TestKeyEndsWithItsCertificate(t *testing.T) {
	a := startAllied(t)
	li := a.signer("li")
	a.enrol("m:li", li)
	now := a.clock()
	a.certify(li, now-60, now+1800)
	a.submit("court", a.deposit("m:li", li, "in time").Bytes())

	a.ahead.Store(int64(time.Hour))
	late := a.deposit("m:li", li, "late")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for id, n := range a.nodes {
		out, err := n.Submit(ctx, [][]byte{late.Bytes()}, true)
		if err != nil || out[0].Code != evidence.CodeExpiredKey || out[0].Accepted {
			t.Errorf("%s: %+v, %v", id, out, err)
		}
	}

	// The notary does not look.
	liar := a.nodes["notary"]
	items := []item{newItem(late.Bytes())}
	liar.verifier.verify(items)
	p, err := liar.admitOwn(ctx, [][]byte{late.Bytes()}, items)
	if err != nil {
		t.Fatal(err)
	}
	for id, n := range a.nodes {
		for waited := 0; ; waited++ {
			committed, err := n.committed(p.digest)
			if err != nil {
				t.Fatal(err)
			}
			if committed {
				break
			}
			if waited > 600 {
				t.Fatalf("%s: the notary's batch is never committed", id)
			}
			time.Sleep(50 * time.Millisecond)
		}
		if _, err := n.Lookup(late.Digest()); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s registered a statement of a key that had ended: %v", id, err)
		}
	}

	// Keys without certificates go on; and so does this one when it is renewed.
	wang := a.signer("wang")
	a.enrol("m:wang", wang)
	a.submit("court", a.deposit("m:wang", wang, "of a key without a certificate").Bytes())
	now = a.clock()
	a.certify(li, now-60, now+86400)
	a.everywhere(a.submit("forensic", a.deposit("m:li", li, "after the renewal").Bytes()).Position)
	m, err := a.nodes["court"].Member(li.Public().KID())
	if err != nil || len(m.Certificates) != 2 || m.Certificates[1].NotAfter != now+86400 {
		t.Errorf("%+v, %v", m, err)
	}
	root := a.nodes["court"].machine.cur.Load().Registry
	for id, n := range a.nodes {
		if got := n.machine.cur.Load().Registry; got != root {
			t.Errorf("%s: the registry's hash is %s, the court's %s", id, got, root)
		}
	}
}

// Whoever lost a key reads what she registered with it by another of her keys.
func TestOtherKeysOfTheOwnerRead(t *testing.T) {
	a := startAllied(t)
	first, second, third, wang := a.signer("li"), a.signer("li's second"), a.signer("li's third"), a.signer("wang")
	a.enrol("m:li", first)
	a.enrol("m:li", second)
	a.enrol("m:li", third)
	a.enrol("m:wang", wang)
	auth := webauthntest.NewEd25519("portal.example")
	a.register(evidence.TypePasskey, (&evidence.Passkey{Member: "m:li", Key: auth.Key(), Credential: auth.Credential(), RelyingParty: "portal.example", Demo: true}).Encode())
	opening := a.deposit("m:li", first, "hers")
	a.everywhere(a.submit("court", opening.Bytes()).Position)
	for _, revoked := range []evidence.Signer{first, third} {
		a.register(evidence.TypeRevocation, (&evidence.Revocation{KID: revoked.Public().KID(), Reason: 1}).Encode())
	}
	n := a.nodes["court"]
	for name, tc := range map[string]struct {
		kid    evidence.Digest
		owner  bool
		rights uint64
	}{
		"the revoked key itself": {first.Public().KID(), true, evidence.RightRead | evidence.RightAppend},
		"another of her keys":    {second.Public().KID(), false, evidence.RightRead},
		"one that is revoked":    {third.Public().KID(), false, 0},
		"her passkey":            {auth.Key().KID(), false, 0},
		"another member's":       {wang.Public().KID(), false, 0},
		"nobody's":               {evidence.SumSHA256([]byte("x")), false, 0},
	} {
		owner, rights, err := n.TrailRights(opening.Digest(), tc.kid)
		if err != nil || owner != tc.owner || rights != tc.rights {
			t.Errorf("%s: owner %v, rights %d, %v", name, owner, rights, err)
		}
	}
	m, err := n.Member(auth.Key().KID())
	if err != nil || m.Passkey == nil || m.Passkey.RelyingParty != "portal.example" || m.Genesis || !m.Demo || m.Kind != "passkey" || m.Holder != "m:li" {
		t.Errorf("%+v, %v", m, err)
	}
}
