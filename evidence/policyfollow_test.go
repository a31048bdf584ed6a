package evidence_test

import (
	"bytes"
	"testing"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/testalliance"
)

// rotated is a test alliance that changed keys.
type rotated struct {
	testing.TB
	*testalliance.Alliance
}

func newRotated(t testing.TB, seed string) *rotated {
	t.Helper()
	a, err := testalliance.New(seed, 4)
	if err != nil {
		t.Fatal(err)
	}
	return &rotated{t, a}
}

func (r *rotated) rotate(id string, uses ...evidence.KeyUse) {
	r.Helper()
	for _, use := range uses {
		if _, err := r.Rotate(id, use, evidence.ReasonSuperseded); err != nil {
			r.Fatal(err)
		}
	}
}

func (r *rotated) changes() []evidence.Registration {
	r.Helper()
	all, err := r.ChangesAsOf(r.Size())
	if err != nil {
		r.Fatal(err)
	}
	return all
}

// follows requires how many of the changes the founding policy takes in.
func (r *rotated) follows(what string, changes []evidence.Registration, want int) (*evidence.Policy, []evidence.NotFollowed) {
	r.Helper()
	before, err := r.Policy.Encode()
	if err != nil {
		r.Fatal(err)
	}
	p, took, refused := r.Policy.Follow(changes)
	if len(took) != want {
		r.Errorf("%s: %d changes followed, want %d; refused: %v", what, len(took), want, refused)
	}
	if err := p.Validate(); err != nil {
		r.Errorf("%s: the policy that came out: %v", what, err)
	}
	after, err := r.Policy.Encode()
	if err != nil || !bytes.Equal(before, after) {
		r.Errorf("%s: following altered the policy it began with (%v)", what, err)
	}
	return p, refused
}

// Two institutions change at once, then all four: no receipt is left that is by
// a founding key, and the changes lead there all the same.
func TestFollowWhenAllChange(t *testing.T) {
	r := newRotated(t, "all change")
	r.rotate("court", evidence.UseReceipt, evidence.UseStatement)
	r.rotate("notary", evidence.UseStatement, evidence.UseReceipt)
	r.follows("two institutions", r.changes(), 4)
	r.rotate("ca", evidence.UseReceipt, evidence.UseCosign)
	r.rotate("forensic", evidence.UseAttest, evidence.UseReceipt, evidence.UseReceipt)
	p, _ := r.follows("all", r.changes(), 9)
	for _, inst := range r.Institutions {
		if k := p.Keys(inst.ID, evidence.UseReceipt, r.Size()); len(k) != 1 || k[0].KID() != inst.Receipt.Public().KID() {
			t.Errorf("%s: %v", inst.ID, k)
		}
		if k := p.Keys(inst.ID, evidence.UseReceipt, 0); len(k) != 1 || !k[0].Equal(r.Policy.Keys(inst.ID, evidence.UseReceipt, 0)[0]) {
			t.Errorf("%s at the founding: %v", inst.ID, k)
		}
	}
	// A policy that has some of them takes in the others.
	half, _, _ := r.Policy.Follow(r.changes())
	if _, took, refused := half.Follow(r.changes()); len(took) != 0 || len(refused) != 0 {
		t.Errorf("a second time: %v %v", took, refused)
	}
	// One that is told the last changes alone cannot judge them, and says so.
	all := r.changes()
	_, refused := r.follows("the last alone", all[len(all)-1:], 0)
	if len(refused) != 1 || !refused[0].Open {
		t.Errorf("changes that rest on unknown keys: %+v", refused)
	}
}

func TestFollowRefuses(t *testing.T) {
	r := newRotated(t, "refuses")
	forger := newRotated(t, "forger")
	r.rotate("court", evidence.UseReceipt)
	r.rotate("ca", evidence.UseCosign)
	good := r.changes()

	// change replaces the notary's receipt key, signed by whoever; it is in no log.
	change := func(by string, signer evidence.Signer, next evidence.Signer, replaces evidence.Digest) evidence.Registration {
		k, err := evidence.NewKeyChange(r.ID(), by, evidence.UseReceipt, replaces, 0, next)
		if err != nil {
			t.Fatal(err)
		}
		s, err := evidence.Statement{Issuer: by, Subject: evidence.SubjectRegistry, IssuedAt: testalliance.Start, ContentType: evidence.TypeKeyChange, Payload: k.Encode()}.Sign(signer)
		if err != nil {
			t.Fatal(err)
		}
		return evidence.Registration{Statement: s.Bytes(), Receipts: map[string][]byte{}}
	}
	// witness adds receipts over a log of one entry, by these signers.
	witness := func(reg evidence.Registration, signers map[string]evidence.Signer) evidence.Registration {
		s, err := evidence.ParseStatement(reg.Statement)
		if err != nil {
			t.Fatal(err)
		}
		lone, err := testalliance.New("lone", 4)
		if err != nil {
			t.Fatal(err)
		}
		lone.Append(s)
		for id, signer := range signers {
			root, err := evidence.SignRoot(signer, id, r.Origin(), testalliance.Start, lone.Now())
			if err != nil {
				t.Fatal(err)
			}
			reg.Receipts[id] = root.Receipt(0, nil)
		}
		return reg
	}
	notary := r.Get("notary")
	mine := forger.Get("notary").Receipt
	founding := notary.Receipt.Public().KID()

	for what, bad := range map[string]evidence.Registration{
		"without receipts":       change("notary", notary.Statement, mine, founding),
		"two receipts of four":   witness(change("notary", notary.Statement, mine, founding), map[string]evidence.Signer{"notary": notary.Receipt, "ca": r.Get("ca").Receipt}),
		"by the forger's key":    witness(change("notary", forger.Get("notary").Statement, mine, founding), map[string]evidence.Signer{"notary": notary.Receipt, "ca": r.Get("ca").Receipt, "forensic": r.Get("forensic").Receipt}),
		"by another institution": witness(change("ca", r.Get("ca").Statement, mine, founding), map[string]evidence.Signer{"notary": notary.Receipt, "ca": r.Get("ca").Receipt, "forensic": r.Get("forensic").Receipt}),
		"the forger's log":       witness(change("notary", notary.Statement, mine, founding), map[string]evidence.Signer{"notary": mine, "ca": forger.Get("ca").Receipt, "forensic": forger.Get("forensic").Receipt}),
		"receipts of one institution under other names": func() evidence.Registration {
			reg := witness(change("notary", notary.Statement, mine, founding), map[string]evidence.Signer{"notary": notary.Receipt})
			reg.Receipts["ca"], reg.Receipts["court"] = reg.Receipts["notary"], reg.Receipts["notary"]
			return reg
		}(),
		"no key change": {Statement: []byte{1, 2, 3}},
	} {
		r.follows(what, []evidence.Registration{bad}, 0)
		// It stands in no good one's way, wherever it comes.
		r.follows(what+", first", append([]evidence.Registration{bad}, good...), 2)
		r.follows(what+", last", append(append([]evidence.Registration{}, good...), bad), 2)
	}

	// Whoever has the statement keys of two institutions makes them name keys of
	// his own; a third receipt he does not get.
	ca := r.Get("ca")
	two := map[string]evidence.Signer{"notary": mine, "ca": forger.Get("ca").Receipt}
	stolen := []evidence.Registration{
		witness(change("notary", notary.Statement, two["notary"], founding), two),
		witness(change("ca", ca.Statement, two["ca"], ca.Receipt.Public().KID()), two),
	}
	r.follows("two stolen statement keys", stolen, 0)

	// Taken out of their order the ranges would differ: the position proven decides.
	tampered := evidence.Registration{Statement: good[0].Statement, Receipts: good[1].Receipts}
	r.follows("receipts of another change", []evidence.Registration{tampered, good[1]}, 1)
}

// A change that replaces a key which was replaced already does not reach back.
func TestFollowKeepsClosedRanges(t *testing.T) {
	r := newRotated(t, "closed")
	first, _, err := r.KeyChange("court", evidence.UseReceipt, evidence.ReasonCompromised)
	if err != nil {
		t.Fatal(err)
	}
	stale := *first // same predecessor, registered later by a log without rules
	r.rotate("court", evidence.UseReceipt, evidence.UseReceipt)
	k, err := evidence.ParseKeyChange(stale.Payload)
	if err != nil {
		t.Fatal(err)
	}
	other, err := testalliance.Signer("another key")
	if err != nil {
		t.Fatal(err)
	}
	k, err = evidence.NewKeyChange(r.ID(), "court", evidence.UseReceipt, k.Replaces, evidence.ReasonUnspecified, other)
	if err != nil {
		t.Fatal(err)
	}
	s, err := r.SignKeyChange("court", k)
	if err != nil {
		t.Fatal(err)
	}
	p := r.Append(s)
	receipts, err := r.Receipts(p, r.Size())
	if err != nil {
		t.Fatal(err)
	}
	r.follows("replacing a replaced key", append(r.changes()[:2], evidence.Registration{Statement: s.Bytes(), Receipts: receipts}), 2)
}

// The policy of a changed alliance survives its file, and says which keys were
// compromised.
func TestChangedPolicyFile(t *testing.T) {
	r := newRotated(t, "file")
	p, err := r.Rotate("court", evidence.UseReceipt, evidence.ReasonCompromised)
	if err != nil {
		t.Fatal(err)
	}
	followed, _ := r.follows("one", r.changes(), 1)
	data, err := followed.Encode()
	if err != nil {
		t.Fatal(err)
	}
	again, err := evidence.ParsePolicy(data)
	if err != nil {
		t.Fatal(err)
	}
	old := r.Policy.Keys("court", evidence.UseReceipt, 0)[0].KID()
	if got := again.Compromised(); len(got) != 1 || got[old] != p+1 {
		t.Errorf("compromised: %v", got)
	}
	if _, _, ok := again.ByKID(old, evidence.UseReceipt, p); !ok {
		t.Error("the old key does not count for the size of its own position")
	}
	if _, _, ok := again.ByKID(old, evidence.UseReceipt, p+1); ok {
		t.Error("the old key counts beyond it")
	}
	if !again.Changed() || r.Policy.Changed() {
		t.Error("which policy is changed?")
	}
}

func TestKeyChangeContent(t *testing.T) {
	r := newRotated(t, "content")
	s, _, err := r.KeyChange("court", evidence.UseAttest, evidence.ReasonSuperseded)
	if err != nil {
		t.Fatal(err)
	}
	k, err := evidence.ParseKeyChange(s.Payload)
	if err != nil || !bytes.Equal(k.Encode(), s.Payload) || k.Use != evidence.UseAttest || k.Reason != evidence.ReasonSuperseded || k.Prove(r.ID(), "court") != nil {
		t.Fatalf("%+v, %v", k, err)
	}
	if k.Prove(r.ID(), "notary") == nil {
		t.Error("the proof holds for another institution")
	}
	for i := range s.Payload { // nothing in it is free
		bad := bytes.Clone(s.Payload)
		bad[i] ^= 1
		if got, err := evidence.ParseKeyChange(bad); err == nil && got.Prove(r.ID(), "court") == nil && got.Reason == k.Reason {
			t.Errorf("with byte %d altered it still holds", i)
		}
	}
	for n := range s.Payload {
		if _, err := evidence.ParseKeyChange(s.Payload[:n]); err == nil {
			t.Errorf("cut to %d bytes it is still read", n)
		}
	}
	sm2 := *k
	sm2.Use = "consensus"
	if _, err := evidence.ParseKeyChange(sm2.Encode()); err == nil {
		t.Error("a use that cannot be replaced is read")
	}
}
