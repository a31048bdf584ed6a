package client_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/zhenglian/zhenglian/client"
	"github.com/zhenglian/zhenglian/client/clienttest"
	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/chain"
)

func rotate(t *testing.T, net *clienttest.Net, id string, uses ...evidence.KeyUse) {
	t.Helper()
	unlock := net.Lock()
	defer unlock()
	for _, use := range uses {
		if _, err := net.Rotate(id, use, evidence.ReasonSuperseded); err != nil {
			t.Fatal(err)
		}
	}
}

var everyUse = []evidence.KeyUse{evidence.UseReceipt, evidence.UseCosign, evidence.UseAttest, evidence.UseStatement}

// A client that knows the founding keys alone goes on while all institutions
// replace all their keys, and ends with the policy that the nodes have.
func TestClientFollowsKeys(t *testing.T) {
	net, _, alice := newNet(t)
	var kept *evidence.Policy
	c, err := client.New(client.Config{Alliance: net.Alliance.Alliance, URLs: net.URLs(), Signer: alice, Remember: func(p *evidence.Policy) { kept = p }})
	if err != nil {
		t.Fatal(err)
	}
	before, err := c.Deposit(t.Context(), statement(t, alice, "m:alice", "one", nil))
	if err != nil {
		t.Fatal(err)
	}
	for _, inst := range net.Institutions {
		rotate(t, net, inst.ID, everyUse...)
	}
	after, err := c.Deposit(t.Context(), statement(t, alice, "m:alice", "two", nil))
	if err != nil || len(after.Receipts) != 4 {
		t.Fatalf("a deposit under new keys: %+v, %v", after, err)
	}
	if cp, err := c.Checkpoint(t.Context()); err != nil || len(cp.Cosignatures) != 4 {
		t.Fatalf("the checkpoint: %v, %v", cp, err)
	}
	if cp, err := c.CheckpointAt(t.Context(), before.Position+1); err != nil || len(cp.Cosignatures) != 4 {
		t.Fatalf("an old checkpoint under new keys: %v, %v", cp, err)
	}
	if heads, err := c.TrailHeads(t.Context(), after.Entry); err != nil || len(heads) != 4 {
		t.Fatalf("the heads: %v, %v", heads, err)
	}
	want, err := net.Nodes["court"].Policy()
	if err != nil {
		t.Fatal(err)
	}
	if !samePolicy(t, c.Policy(), want) || kept != c.Policy() {
		t.Error("the client's policy is not the nodes', or was not handed over")
	}
	changes, err := c.KeyChanges(t.Context())
	if err != nil || len(changes) != 16 {
		t.Fatalf("%d key changes, %v", len(changes), err)
	}
}

func samePolicy(t *testing.T, a, b *evidence.Policy) bool {
	t.Helper()
	x, err := a.Encode()
	if err != nil {
		t.Fatal(err)
	}
	y, err := b.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Equal(x, y)
}

// What one institution holds back the others show; what it makes up is not
// believed, and stands in no other change's way.
func TestLyingKeyChanges(t *testing.T) {
	net, c, alice := newNet(t)
	rotate(t, net, "court", everyUse...)
	forger := clienttest.New(t, "forger", 4)
	rotate(t, forger, "notary", evidence.UseReceipt)
	for name, lie := range map[string]func([]chain.KeyChangeRecord) []chain.KeyChangeRecord{
		"held back": func([]chain.KeyChangeRecord) []chain.KeyChangeRecord { return nil },
		"made up": func(all []chain.KeyChangeRecord) []chain.KeyChangeRecord {
			forged, _, err := forger.Nodes["ca"].KeyChanges(0, 10)
			if err != nil {
				panic(err)
			}
			return append(forged, all[:1]...)
		},
	} {
		net.Nodes["ca"].Twist(clienttest.Twist{Changes: lie})
		fresh := net.Client(t, alice)
		if _, err := fresh.Follow(t.Context()); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		want, err := net.Nodes["notary"].Policy()
		if err != nil {
			t.Fatal(err)
		}
		if !samePolicy(t, fresh.Policy(), want) {
			t.Errorf("%s: the policy is not the honest institutions'", name)
		}
	}
	// All of them: the new keys stay unknown, and what they sign is not believed.
	for _, n := range net.Nodes {
		n.Twist(clienttest.Twist{Changes: func([]chain.KeyChangeRecord) []chain.KeyChangeRecord { return nil }})
	}
	f, err := c.Deposit(t.Context(), statement(t, alice, "m:alice", "one", nil))
	if err != nil || len(f.Receipts) != 3 {
		t.Fatalf("with one unknown institution: %+v, %v", f, err)
	}
	rotate(t, net, "notary", evidence.UseReceipt)
	if _, err := net.Client(t, alice).Confirm(t.Context(), f.Entry); !errors.As(err, new(*client.UnknownKeyError)) {
		t.Errorf("half of the institutions' keys are unknown: %v", err)
	}
}
