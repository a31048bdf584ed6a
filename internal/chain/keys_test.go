package chain

import (
	"bytes"
	"errors"
	"io/fs"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
)

// keyring gives a node the keys that its institution made since.
type keyring struct{ m sync.Map }

func (k *keyring) find(_ evidence.KeyUse, kid evidence.Digest) (evidence.Signer, error) {
	if s, ok := k.m.Load(kid); ok {
		return s.(evidence.Signer), nil
	}
	return nil, fs.ErrNotExist
}

// witnessed waits until a node has the institution's signatures over the first
// root that covers a position, and returns them with the root's block.
func (a *allied) witnessed(node, by string, position uint64) (boundary, witnessWire) {
	a.Helper()
	n := a.nodes[node]
	b, err := n.boundaryOf(position)
	for i := 0; err != nil && i < 600; i++ { // this node may have the block a little later
		time.Sleep(50 * time.Millisecond)
		b, err = n.boundaryOf(position)
	}
	if err != nil {
		a.Fatal(err)
	}
	for range 600 {
		all, err := n.witness.at(b.Height)
		if err != nil {
			a.Fatal(err)
		}
		if x, ok := all[by]; ok {
			return b, x
		}
		time.Sleep(50 * time.Millisecond)
	}
	a.Fatalf("%s never got the signatures of %s over size %d", node, by, b.Size)
	return b, witnessWire{}
}

// over signs a root as an institution would, with these keys.
func (a *allied) over(b boundary, receipt, cosign evidence.Signer) witnessWire {
	a.Helper()
	r, err := evidence.SignRoot(receipt, "court", a.Origin(), b.Time/1000, b.Checkpoint)
	if err != nil {
		a.Fatal(err)
	}
	cp := evidence.CosignedCheckpoint{Origin: a.Origin(), Checkpoint: b.Checkpoint}
	c, err := cp.Cosign(cosign, a.CosignerName("court"), time.Now().Unix())
	if err != nil {
		a.Fatal(err)
	}
	return witnessWire{Height: b.Height, Size: b.Size, Roots: []rootWire{{r.Protected, r.Signature}}, Cosig: cosigWire{c.Time, c.Signature}}
}

// An institution that replaced its keys signs the very next root with the new
// ones, without a restart; signatures by the old key over larger roots, and by the
// new one over smaller roots, are refused by its peers.
func TestReplacedKeyIsRefused(t *testing.T) {
	ring := &keyring{}
	a := startAllied(t, func(c *Config) {
		if c.Institution == "court" {
			c.Signer = ring.find
		}
	})
	court := a.Get("court")
	before := a.submit("court", a.enrolment(0))
	oldBlock, _ := a.witnessed("ca", "court", before.Position)

	var last Outcome
	next := map[evidence.KeyUse]evidence.Signer{}
	for i, use := range []evidence.KeyUse{evidence.UseReceipt, evidence.UseCosign} {
		s, key, err := a.KeyChange("court", use, evidence.ReasonSuperseded)
		if err != nil {
			t.Fatal(err)
		}
		ring.m.Store(key.Public().KID(), key)
		next[use] = key
		if last = a.submit("notary", s.Bytes()); last.Position != before.Position+1+uint64(i) {
			t.Fatalf("the change is at %d", last.Position)
		}
	}
	newBlock, sigs := a.witnessed("ca", "court", last.Position)
	if r, err := evidence.NewRootSignature(sigs.Roots[0].Protected, sigs.Roots[0].Signature); err != nil || r.KID != next[evidence.UseReceipt].Public().KID() {
		t.Errorf("the root that covers the change is signed by %v, %v", r, err)
	}
	if receipts, err := a.nodes["ca"].ReceiptsAt(before.Position); err != nil || len(receipts["court"]) != 1 {
		t.Errorf("the old receipts: %v", err)
	} else if r, err := evidence.ParseReceipt(receipts["court"][0]); err != nil || r.KID != court.Receipt.Public().KID() {
		t.Errorf("the old receipt is by another key: %v", err)
	}

	later := a.submit("ca", a.enrolment(1))
	b, _ := a.witnessed("forensic", "court", later.Position)
	peer := a.nodes["forensic"].witness
	for what, x := range map[string]witnessWire{
		"old receipt key, new root":   a.over(b, court.Receipt, next[evidence.UseCosign]),
		"old cosigning key, new root": a.over(b, next[evidence.UseReceipt], court.Cosign),
		"both old, first root beyond": a.over(newBlock, court.Receipt, court.Cosign),
		"new receipt key, old root":   a.over(oldBlock, next[evidence.UseReceipt], court.Cosign),
		"new cosigning key, old root": a.over(oldBlock, court.Receipt, next[evidence.UseCosign]),
		"another institution's key":   a.over(b, a.Get("notary").Receipt, next[evidence.UseCosign]),
		"one root signature too few": func() witnessWire {
			x := a.over(b, next[evidence.UseReceipt], next[evidence.UseCosign])
			x.Roots = nil
			return x
		}(),
		"the statement key as a receipt": a.over(b, court.Statement, next[evidence.UseCosign]),
	} {
		if err := peer.receive("court", x); err == nil {
			t.Errorf("%s: taken", what)
		}
	}
	if err := peer.receive("court", a.over(b, next[evidence.UseReceipt], next[evidence.UseCosign])); err != nil {
		t.Errorf("the new keys, new root: %v", err)
	}
	if err := peer.receive("court", a.over(oldBlock, court.Receipt, court.Cosign)); err != nil {
		t.Errorf("the old keys, old root: %v", err)
	}

	// All nodes have the same policy, and what proves it leads there.
	var want []byte
	for id, n := range a.nodes {
		p, err := n.Policy()
		if err != nil {
			t.Fatal(err)
		}
		data, err := p.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if want == nil {
			want = data
		}
		if !bytes.Equal(data, want) {
			t.Errorf("%s has another policy", id)
		}
	}
	records, more, err := a.nodes["notary"].KeyChanges(0, 1)
	if err != nil || !more || len(records) != 1 || records[0].Position != before.Position+1 {
		t.Fatalf("the first page of key changes: %+v %v %v", records, more, err)
	}
	if keys := a.nodes["court"].ReceiptKeys(); len(keys) != 2 || !keys[0].Equal(next[evidence.UseReceipt].Public()) || !keys[1].Equal(court.Receipt.Public()) {
		t.Errorf("the court's receipt keys: %v", keys)
	}
}

// A node whose institution's new key is not at hand says so and goes on; when the
// key comes, it signs.
func TestMissingKey(t *testing.T) {
	ring := &keyring{}
	a := startAllied(t, func(c *Config) {
		if c.Institution == "court" {
			c.Signer = ring.find
		}
	})
	s, key, err := a.KeyChange("court", evidence.UseReceipt, evidence.ReasonSuperseded)
	if err != nil {
		t.Fatal(err)
	}
	o := a.submit("ca", s.Bytes())
	court := a.nodes["court"]
	fault := func() string { return court.Status().Faults["keys"] }
	for i := 0; !strings.Contains(fault(), key.Public().KID().String()); i++ {
		if i > 600 {
			t.Fatalf("its faults: %v", court.Status().Faults)
		}
		time.Sleep(50 * time.Millisecond)
	}
	var missing *KeyMissingError
	if _, err := court.signer(evidence.UseReceipt, o.Position+1); !errors.As(err, &missing) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("signing without the key: %v", err)
	}
	a.submit("court", a.enrolment(0)) // it votes, and others witness
	// Somebody's other key does not do.
	ring.m.Store(key.Public().KID(), a.Get("notary").Receipt)
	if _, err := court.signer(evidence.UseReceipt, o.Position+1); !errors.As(err, &missing) {
		t.Errorf("signing with another key: %v", err)
	}
	ring.m.Store(key.Public().KID(), key)
	last := court.machine.cur.Load().Size - 1
	if _, x := a.witnessed("ca", "court", last); len(x.Roots) != 1 {
		t.Errorf("%d root signatures", len(x.Roots))
	}
	for i := 0; fault() != ""; i++ {
		if i > 100 {
			t.Fatalf("it still says %q", fault())
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// moody signs, or fails in one of the ways in which tokens do.
type moody struct {
	evidence.Signer
	mood atomic.Value // string: "", "gone", "hanging", "wrong"
	wake chan struct{}
}

func (m *moody) Sign(message []byte) ([]byte, error) {
	switch m.mood.Load() {
	case "gone":
		return nil, errors.New("the token is gone")
	case "hanging":
		<-m.wake
		return nil, errors.New("the token did not answer in time")
	case "wrong":
		sig, err := m.Signer.Sign(message)
		if err == nil {
			sig[10] ^= 1
		}
		return sig, err
	}
	return m.Signer.Sign(message)
}

// A node whose token is gone, hangs, or signs rubbish says so, goes on voting and
// serving, and signs again when the token does.
func TestFailingToken(t *testing.T) {
	receipt, cosign := &moody{wake: make(chan struct{})}, &moody{wake: make(chan struct{})}
	a := startAllied(t, func(c *Config) {
		if c.Institution == "court" {
			receipt.Signer, cosign.Signer = c.Receipts[0], c.Cosign
			c.Receipts, c.Cosign = []evidence.Signer{receipt}, cosign
		}
	})
	court := a.nodes["court"]
	faulty := func(want string) {
		t.Helper()
		for i := 0; ; i++ {
			fault := court.Status().Faults["keys"]
			if want == "" && fault == "" || want != "" && strings.Contains(fault, want) {
				return
			}
			if i > 600 {
				t.Fatalf("its fault is %q, want %q", fault, want)
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
	for i, tc := range []struct {
		key        *moody
		mood, want string
	}{
		{receipt, "gone", "the token is gone"}, {cosign, "gone", "the token is gone"},
		{receipt, "wrong", receipt.Public().KID().String()}, {cosign, "wrong", cosign.Public().KID().String()},
		{receipt, "hanging", "did not answer in time"},
	} {
		tc.key.mood.Store(tc.mood)
		o := a.submit("ca", a.enrolment(2*i))
		if tc.mood == "hanging" {
			a.submit("court", a.enrolment(2*i+1)) // while it hangs
			close(tc.key.wake)
		}
		faulty(tc.want)
		if tc.mood != "hanging" {
			a.submit("court", a.enrolment(2*i+1)) // it votes, and others witness
		}
		if b, err := court.boundaryOf(o.Position); err != nil {
			t.Fatal(err)
		} else if x, err := court.witness.at(b.Height); err != nil || len(x["court"].Roots) != 0 {
			t.Errorf("%s: it stored %v, %v", tc.mood, x["court"], err)
		}
		tc.key.mood.Store("")
		last := court.machine.cur.Load().Size - 1
		if _, x := a.witnessed("ca", "court", last); len(x.Roots) != 1 {
			t.Errorf("%s: %d root signatures", tc.mood, len(x.Roots))
		}
		faulty("")
	}
}
