package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/client"
	"github.com/zhenglian/zhenglian/client/clienttest"
	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/chain"
	"github.com/zhenglian/zhenglian/internal/testalliance"
)

func signer(t testing.TB, text string) evidence.Signer {
	t.Helper()
	s, err := testalliance.Signer(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// statement signs a deposit of that text.
func statement(t testing.TB, s evidence.Signer, issuer, text string, set func(*evidence.Statement)) []byte {
	t.Helper()
	d := evidence.SumSHA256([]byte(text))
	st := evidence.Statement{Issuer: issuer, Subject: evidence.SubjectNewTrail, IssuedAt: testalliance.Start, ContentType: evidence.TypeDeposit,
		Payload: d[:], ManifestSM3: evidence.SumSM3([]byte(text))}
	if set != nil {
		set(&st)
	}
	signed, err := st.Sign(s)
	if err != nil {
		t.Fatal(err)
	}
	return signed.Bytes()
}

func newNet(t testing.TB) (*clienttest.Net, *client.Client, evidence.Signer) {
	t.Helper()
	net := clienttest.New(t, "a", 4)
	alice := signer(t, "alice")
	net.EnrolKey(t, "m:alice", alice)
	return net, net.Client(t, alice), alice
}

func TestDepositIsFinalAndIdempotent(t *testing.T) {
	net, c, alice := newNet(t)
	s := statement(t, alice, "m:alice", "one", nil)
	first, err := c.Deposit(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	if first.Position != 1 || first.Code != evidence.CodeOK || len(first.Receipts) != 4 || len(first.Missing) != 0 {
		t.Fatalf("got %+v", first)
	}
	if _, err := c.Deposit(t.Context(), statement(t, alice, "m:alice", "two", nil)); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		again, err := c.Deposit(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		if again.Position != first.Position || again.Code != evidence.CodeRegistered {
			t.Fatalf("again: %+v", again)
		}
	}
	if net.Size() != 3 {
		t.Fatalf("the log has %d entries", net.Size())
	}
}

func TestInstitutionsDown(t *testing.T) {
	net, c, alice := newNet(t)
	for _, id := range net.Others("notary") {
		net.Nodes[id].Twist(clienttest.Twist{Down: true})
	}
	f, err := c.Deposit(t.Context(), statement(t, alice, "m:alice", "one", nil))
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Receipts) != 4 {
		t.Fatalf("%d receipts", len(f.Receipts))
	}
	net.Nodes["notary"].Twist(clienttest.Twist{Down: true})
	impatient, err := client.New(client.Config{Alliance: net.Alliance.Alliance, URLs: net.URLs(), Patience: -1})
	if err != nil {
		t.Fatal(err)
	}
	_, err = impatient.Submit(t.Context(), statement(t, alice, "m:alice", "two", nil))
	var down *client.UnavailableError
	if !errors.As(err, &down) || len(down.Attempts) != 4 {
		t.Fatalf("got %v", err)
	}
}

// A node answers with receipts that it made up: right names, its own keys.
func TestLyingReceipts(t *testing.T) {
	net, c, alice := newNet(t)
	forged, err := testalliance.New("forger", 4)
	if err != nil {
		t.Fatal(err)
	}
	s := statement(t, alice, "m:alice", "one", nil)
	parsed, err := evidence.ParseStatement(s)
	if err != nil {
		t.Fatal(err)
	}
	forged.Append(parsed)
	lie := clienttest.Twist{
		Submit: func(all [][]byte) ([]chain.Outcome, error) {
			return []chain.Outcome{{Digest: parsed.Digest(), Entry: parsed.Digest(), Accepted: true, Known: true, Final: true}}, nil
		},
		Receipts: func(uint64, chain.Receipts) chain.Receipts {
			out := chain.Receipts{}
			for _, inst := range forged.Institutions {
				root, err := evidence.SignRoot(inst.Receipt, inst.ID, net.Origin(), testalliance.Start, evidence.Checkpoint{Size: 1, Root: forged.RootAt(1)})
				if err != nil {
					return nil
				}
				out[inst.ID] = [][]byte{root.Receipt(0, nil)}
			}
			return out
		},
	}
	// All of them say that it is final: nobody believes it.
	for _, n := range net.Nodes {
		n.Twist(lie)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	_, err = c.Deposit(ctx, s)
	var open *client.NotFinalError
	var down *client.UnavailableError
	if !errors.As(err, &open) && !errors.As(err, &down) {
		t.Fatalf("a deposit that no log has was called %v", err)
	}
	for _, n := range net.Nodes {
		n.Twist(clienttest.Twist{})
	}
	// The first one lies: the next one is asked.
	net.Nodes["ca"].Twist(lie)
	if f, err := net.Client(t, alice).Deposit(t.Context(), s); err != nil || f.Position != 1 || net.Size() != 2 {
		t.Fatalf("one liar: %+v %v", f, err)
	}
	// An honest one takes it; the liar's receipts are thrown away and named.
	net.Nodes["ca"].Twist(clienttest.Twist{Receipts: lie.Receipts})
	f, err := c.Deposit(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Receipts) != 4 {
		t.Fatalf("%d receipts", len(f.Receipts))
	}
	for _, id := range net.Others("ca") {
		net.Nodes[id].Twist(clienttest.Twist{Receipts: lie.Receipts})
	}
	_, err = c.Confirm(t.Context(), parsed.Digest())
	var quorum *client.UnavailableError
	if !errors.As(err, &quorum) || !strings.Contains(err.Error(), "that the policy does not know") {
		t.Fatalf("forged receipts of everybody: %v", err)
	}
}

// An institution that is cut off from the others accepts and never registers.
func TestStuckInstitution(t *testing.T) {
	net, c, alice := newNet(t)
	net.Nodes["ca"].Twist(clienttest.Twist{Submit: func(all [][]byte) ([]chain.Outcome, error) {
		return []chain.Outcome{{Digest: evidence.SumSHA256(all[0]), Accepted: true}}, nil
	}})
	f, err := c.Deposit(t.Context(), statement(t, alice, "m:alice", "one", nil))
	if err != nil || f.Position != 1 {
		t.Fatalf("%+v %v", f, err)
	}
}

// Fewer institutions than a quorum hold receipts.
func TestBelowQuorum(t *testing.T) {
	net, c, alice := newNet(t)
	s := statement(t, alice, "m:alice", "one", nil)
	if _, err := c.Submit(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	for _, n := range net.Nodes {
		n.Twist(clienttest.Twist{Receipts: func(_ uint64, r chain.Receipts) chain.Receipts {
			delete(r, "ca")
			delete(r, "court")
			return r
		}})
	}
	_, err := c.Confirm(t.Context(), evidence.SumSHA256(s))
	var quorum *client.QuorumError
	if !errors.As(err, &quorum) || quorum.Have != 2 || quorum.Need != 3 {
		t.Fatalf("got %v", err)
	}
}

// An institution signed two logs: the client shows the proof.
func TestEquivocation(t *testing.T) {
	net, c, alice := newNet(t)
	s := statement(t, alice, "m:alice", "one", nil)
	if _, err := c.Submit(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	twin, err := testalliance.New("a", 4) // the same keys, another log
	if err != nil {
		t.Fatal(err)
	}
	if _, err := twin.EnrolKey("m:bob", signer(t, "bob"), evidence.KindPerson, 0, true, "ca"); err != nil {
		t.Fatal(err)
	}
	parsed, err := evidence.ParseStatement(s)
	if err != nil {
		t.Fatal(err)
	}
	twin.Append(parsed)
	other, err := twin.Receipts(1, 2, "notary")
	if err != nil {
		t.Fatal(err)
	}
	net.Nodes["ca"].Twist(clienttest.Twist{Receipts: func(_ uint64, r chain.Receipts) chain.Receipts {
		r["notary"] = [][]byte{other["notary"]}
		return r
	}})
	_, err = c.Confirm(t.Context(), parsed.Digest())
	var split *client.EquivocationError
	if !errors.As(err, &split) || split.Size != 2 || split.RootA == split.RootB {
		t.Fatalf("got %v", err)
	}
}

func TestRefusals(t *testing.T) {
	net, c, alice := newNet(t)
	stranger := statement(t, signer(t, "mallory"), "m:mallory", "x", nil)
	_, err := c.Deposit(t.Context(), stranger)
	var p *client.Problem
	if !errors.As(err, &p) || p.Code != "unknown-key" || !p.Rule() {
		t.Fatalf("got %v", err)
	}
	if _, err := c.Submit(t.Context(), []byte("no statement")); err == nil {
		t.Fatal("what is no statement was sent")
	}
	// One institution alone cannot keep a member from depositing.
	net.Nodes["ca"].Twist(clienttest.Twist{Submit: func(all [][]byte) ([]chain.Outcome, error) {
		return []chain.Outcome{{Digest: evidence.SumSHA256(all[0]), Code: evidence.CodeRevokedKey, Reason: "says who"}}, nil
	}})
	if _, err := c.Deposit(t.Context(), statement(t, alice, "m:alice", "one", nil)); err != nil {
		t.Fatalf("a lying refusal was believed: %v", err)
	}
}

// The connection is cut after the statement was registered.
func TestAnswerLost(t *testing.T) {
	net, c, alice := newNet(t)
	for _, n := range net.Nodes {
		n.Twist(clienttest.Twist{Cut: 1})
	}
	f, err := c.Deposit(t.Context(), statement(t, alice, "m:alice", "one", nil))
	if err != nil {
		t.Fatal(err)
	}
	if f.Position != 1 || net.Size() != 2 {
		t.Fatalf("position %d, the log has %d entries", f.Position, net.Size())
	}
}

func TestBusyInstitutions(t *testing.T) {
	net, c, alice := newNet(t)
	net.Nodes["ca"].Twist(clienttest.Twist{Busy: time.Hour})
	if _, err := c.Deposit(t.Context(), statement(t, alice, "m:alice", "one", nil)); err != nil {
		t.Fatal(err)
	}
	for _, n := range net.Nodes {
		n.Twist(clienttest.Twist{Busy: time.Hour})
	}
	_, err := c.Submit(t.Context(), statement(t, alice, "m:alice", "two", nil))
	var down *client.UnavailableError
	var p *client.Problem
	if !errors.As(err, &down) {
		t.Fatalf("got %v", err)
	}
	if errors.As(err, &p) && p.RetryAfter != time.Hour {
		t.Fatalf("retry after %s", p.RetryAfter)
	}
}

func TestCheckpoint(t *testing.T) {
	net, c, alice := newNet(t)
	if _, err := c.Deposit(t.Context(), statement(t, alice, "m:alice", "one", nil)); err != nil {
		t.Fatal(err)
	}
	net.Nodes["ca"].Twist(clienttest.Twist{Lag: 1}) // stale, but true
	net.Nodes["court"].Twist(clienttest.Twist{Cosigned: func(cp evidence.CosignedCheckpoint) evidence.CosignedCheckpoint {
		cp.Size += 100 // a lie: no cosignature is over it
		return cp
	}})
	cp, err := c.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if cp.Size != 2 {
		t.Fatalf("size %d", cp.Size)
	}
	for _, n := range net.Nodes {
		n.Twist(clienttest.Twist{Cosigned: func(cp evidence.CosignedCheckpoint) evidence.CosignedCheckpoint {
			cp.Cosignatures = cp.Cosignatures[:2]
			return cp
		}})
	}
	_, err = c.Checkpoint(t.Context())
	var quorum *client.QuorumError
	if !errors.As(err, &quorum) || quorum.Have != 2 {
		t.Fatalf("two cosignatures of three needed: %v", err)
	}
}

// trailOf deposits steps of one trail and returns its name.
func trailOf(t testing.TB, c *client.Client, s evidence.Signer, steps int) evidence.Digest {
	t.Helper()
	var trail, prev evidence.Digest
	for i := range steps {
		data := statement(t, s, "m:alice", fmt.Sprint(i), func(st *evidence.Statement) {
			if i > 0 {
				st.Subject, st.Prev = evidence.TrailSubject(trail), prev
			}
		})
		if _, err := c.Deposit(t.Context(), data); err != nil {
			t.Fatal(err)
		}
		prev = evidence.SumSHA256(data)
		if i == 0 {
			trail = prev
		}
	}
	return trail
}

func TestTrail(t *testing.T) {
	net, c, alice := newNet(t)
	trail := trailOf(t, c, alice, 3)
	bob := signer(t, "bob")
	net.EnrolKey(t, "m:bob", bob)
	foreign := statement(t, bob, "m:bob", "intruder", func(st *evidence.Statement) {
		st.Subject, st.Prev = evidence.TrailSubject(trail), trail
	})
	if _, err := c.Deposit(t.Context(), foreign); err != nil {
		t.Fatal(err)
	}
	got, err := c.Trail(t.Context(), trail)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Steps) != 3 || len(got.Foreign) != 1 || len(got.Heads) != 4 {
		t.Fatalf("%d steps, %d foreign, %d heads", len(got.Steps), len(got.Foreign), len(got.Heads))
	}
	if owner, _ := got.Rights(alice.Public().KID()); !owner {
		t.Fatal("alice does not own her trail")
	}
	// Bob may not see it, and a client without a key cannot ask.
	_, err = net.Client(t, bob).Trail(t.Context(), trail)
	var p *client.Problem
	if !errors.As(err, &p) || p.Status != http.StatusForbidden {
		t.Fatalf("bob got %v", err)
	}
	if _, err := net.Client(t, nil).Trail(t.Context(), trail); err == nil {
		t.Fatal("nobody got a trail")
	}
	// Whoever leaves out the last steps contradicts the others' heads.
	short := func(v chain.TrailView) chain.TrailView {
		v.Positions, v.Entries = v.Positions[:1], v.Entries[:1]
		return v
	}
	net.Nodes["ca"].Twist(clienttest.Twist{Trail: short})
	if got, err = c.Trail(t.Context(), trail); err != nil || len(got.Steps) != 3 {
		t.Fatalf("one institution truncates: %d steps, %v", len(got.Steps), err)
	}
	for _, n := range net.Nodes {
		n.Twist(clienttest.Twist{Trail: short})
	}
	if _, err = c.Trail(t.Context(), trail); err == nil {
		t.Fatal("a truncated trail was believed against the signed heads")
	}
}

func TestRegistration(t *testing.T) {
	net, c, alice := newNet(t)
	m, err := c.Member(t.Context(), alice.Public().KID())
	if err != nil {
		t.Fatal(err)
	}
	if m.Holder != "m:alice" || m.EnrolledAt != 0 || !m.Demo {
		t.Fatalf("got %+v", m)
	}
	reg, f, err := c.Registration(t.Context(), m.EnrolledAt)
	if err != nil {
		t.Fatal(err)
	}
	if len(reg.Receipts) != 4 || f.Position != 0 {
		t.Fatalf("got %d receipts, position %d", len(reg.Receipts), f.Position)
	}
	if _, err := c.Member(t.Context(), evidence.SumSHA256([]byte("nobody"))); !errors.Is(err, client.ErrNotFound) {
		t.Fatalf("got %v", err)
	}
	url := net.Nodes["ca"].URL
	if _, _, err := client.FetchAlliance(t.Context(), nil, url, net.ID()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := client.FetchAlliance(t.Context(), nil, url, evidence.SumSHA256(nil)); err == nil {
		t.Fatal("another alliance than the pinned one was taken")
	}
}

func TestBatch(t *testing.T) {
	net, c, alice := newNet(t)
	const n = 2500
	var all [][]byte
	for i := range n {
		all = append(all, statement(t, alice, "m:alice", fmt.Sprint(i), nil))
	}
	all[7] = []byte("no statement")
	all[9] = all[8]
	// The first institution breaks off in the middle; the rest goes to the next.
	calls := 0
	ca := net.Nodes["ca"]
	ca.Twist(clienttest.Twist{Submit: func(s [][]byte) ([]chain.Outcome, error) {
		if calls++; calls > 1 {
			return nil, chain.ErrStopping
		}
		return net.Nodes["court"].Submit(t.Context(), s, true)
	}})
	i := 0
	next := func() ([]byte, error) {
		if i == len(all) {
			return nil, io.EOF
		}
		i++
		return all[i-1], nil
	}
	var got []client.Outcome
	err := c.Batch(t.Context(), next, true, func(o client.Outcome) error {
		got = append(got, o)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != n {
		t.Fatalf("%d outcomes of %d", len(got), n)
	}
	for i, o := range got {
		switch {
		case o.Digest != evidence.SumSHA256(all[i]):
			t.Fatalf("outcome %d is of another statement", i)
		case i == 7:
			if o.Accepted() {
				t.Fatal("what is no statement was accepted")
			}
		case !o.Accepted() || !o.Known || !o.Final:
			t.Fatalf("outcome %d: %+v", i, o)
		}
	}
	if got[8].Position != got[9].Position {
		t.Fatalf("the same statement twice: positions %d and %d", got[8].Position, got[9].Position)
	}
	if size := net.Size(); size != n-2+1 {
		t.Fatalf("the log has %d entries", size)
	}
	if !slices.ContainsFunc(got, func(o client.Outcome) bool { return o.Institution != "ca" }) {
		t.Fatal("no other institution helped")
	}
	// A source that fails ends the batch with its error.
	boom := errors.New("boom")
	if err := c.Batch(t.Context(), func() ([]byte, error) { return nil, boom }, true, func(client.Outcome) error { return nil }); !errors.Is(err, boom) {
		t.Fatalf("got %v", err)
	}
	// Nothing at all is no error.
	if err := c.Batch(t.Context(), func() ([]byte, error) { return nil, io.EOF }, true, func(client.Outcome) error { return nil }); err != nil {
		t.Fatalf("an empty batch: %v", err)
	}
}

func TestNewRefuses(t *testing.T) {
	net, _, _ := newNet(t)
	for name, c := range map[string]client.Config{
		"nothing":  {},
		"stranger": {Alliance: net.Alliance.Alliance, URLs: map[string]string{"nobody": "http://x.example"}},
		"address":  {Alliance: net.Alliance.Alliance, URLs: map[string]string{"ca": "ftp://x.example"}},
		"prefer":   {Alliance: net.Alliance.Alliance, Prefer: "nobody"},
		"policy":   {Policy: net.Policy},
	} {
		if _, err := client.New(c); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
