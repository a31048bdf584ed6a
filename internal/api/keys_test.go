package api

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/zhenglian/zhenglian/evidence"
)

// change registers a key change of the court.
func (w *world) change(replaces evidence.Digest) (*evidence.Statement, evidence.Signer) {
	w.t.Helper()
	next := newEd25519(w.t)
	k, err := evidence.NewKeyChange(w.node.alliance.ID(), "court", evidence.UseAttest, replaces, evidence.ReasonSuperseded, next)
	if err != nil {
		w.t.Fatal(err)
	}
	st, err := evidence.Statement{Issuer: "court", Subject: evidence.SubjectRegistry, IssuedAt: 1700000000, ContentType: evidence.TypeKeyChange,
		Payload: k.Encode()}.Sign(w.node.keys["court"]["statement"])
	if err != nil {
		w.t.Fatal(err)
	}
	w.register(st)
	return st, next
}

// Anybody gets the key changes in pages, with what proves them.
func TestKeyChangePages(t *testing.T) {
	w := newWorld(t)
	var page KeyChanges
	w.get("/api/v1/key-changes").into(t, &page)
	if len(page.Changes) != 0 || page.Next != nil {
		t.Fatalf("changes before any: %+v", page)
	}
	replaces := w.node.keys["court"]["attest"].Public().KID()
	var want []*evidence.Statement
	for range keyChangePage + 2 {
		st, next := w.change(replaces)
		w.register(w.deposit(w.alice, "m:alice", fmt.Sprint(len(want)))) // others between them
		want, replaces = append(want, st), next.Public().KID()
	}
	var got []KeyChange
	for from, pages := uint64(0), 0; ; pages++ {
		page = KeyChanges{}
		w.get(fmt.Sprintf("/api/v1/key-changes?from=%d", from)).into(t, &page)
		got = append(got, page.Changes...)
		if page.Next == nil {
			if pages != 1 {
				t.Errorf("%d more pages", pages)
			}
			break
		}
		from = *page.Next
	}
	if len(got) != len(want) {
		t.Fatalf("%d changes, want %d", len(got), len(want))
	}
	for i, c := range got {
		raw, err := base64.StdEncoding.DecodeString(c.Statement)
		if err != nil || evidence.SumSHA256(raw) != want[i].Digest() || c.Digest != want[i].Digest().String() || c.Institution != "court" || c.Use != "attest" || c.Reason != "superseded" {
			t.Errorf("change %d: %+v, %v", i, c, err)
		}
		for inst, all := range c.Receipts {
			data, err := base64.StdEncoding.DecodeString(all[0])
			if err != nil {
				t.Fatal(err)
			}
			if r, err := evidence.ParseReceipt(data); err != nil || r.Issuer != inst || r.LeafIndex != c.Position {
				t.Errorf("change %d: the receipt of %s: %v", i, inst, err)
			}
		}
		if len(c.Receipts) == 0 {
			t.Errorf("change %d comes without receipts", i)
		}
	}
	w.want(w.get("/api/v1/key-changes?from=x"), http.StatusBadRequest, "bad-request")
}

// The well-known keys hold past ones too, since old receipts stay.
func TestPastReceiptKeys(t *testing.T) {
	w := newWorld(t)
	old := newEd25519(t)
	w.node.set(func() { w.node.oldReceiptKeys = []*evidence.PublicKey{old.Public()} })
	a := w.get("/.well-known/scitt-keys", "Accept", typeCBOR)
	var set []map[int]any
	if err := cbor.Unmarshal(a.body, &set); err != nil || len(set) != 2 {
		t.Fatalf("%d %x %v", a.status, a.body, err)
	}
	kid := old.Public().KID()
	if got, ok := set[1][2].([]byte); !ok || string(got) != string(kid[:]) {
		t.Errorf("the past key does not stand last: %v", set)
	}
	if a := w.get("/.well-known/scitt-keys/"+base64.RawURLEncoding.EncodeToString(kid[:]), "Accept", typeCBOR); a.status != http.StatusOK {
		t.Errorf("the past key by its kid: %d %s", a.status, a.body)
	}
	a = w.get("/api/v1/policy")
	if p, err := evidence.ParsePolicy(a.body); err != nil || p.Alliance != w.node.alliance.ID() {
		t.Errorf("the policy: %d %v", a.status, err)
	}
	if !json.Valid(a.body) || a.header.Get("Cache-Control") != keysAge {
		t.Errorf("the policy's header: %v", a.header)
	}
}

// An institution's replaced statement key reads nothing more, whatever the
// reason: with it, it read everything.
func TestReplacedStatementKeyReadsNothing(t *testing.T) {
	w := newWorld(t)
	opening, _ := w.trail(0)
	key := w.node.keys["notary"]["statement"]
	path := "/api/v1/trails/" + opening.Digest().String()
	if a := w.as(key, path); a.status != http.StatusOK {
		t.Fatalf("an institution's lookup: %d %s", a.status, a.body)
	}
	w.node.revoke(key, evidence.ReasonSuperseded)
	w.want(w.as(key, path), http.StatusUnauthorized, "revoked-key")
}
