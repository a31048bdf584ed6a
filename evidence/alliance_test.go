package evidence

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/emmansun/gmsm/sm2"
)

func newEd25519Signer(t testing.TB, label string) Signer {
	t.Helper()
	seed := sha256.Sum256([]byte(label))
	s, err := NewSigner(ed25519.NewKeyFromSeed(seed[:]))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newP256Signer(t testing.TB) Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewSigner(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newSM2Signer(t testing.TB) Signer {
	t.Helper()
	key, err := sm2.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewSigner(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// testDescriptor makes an institution with its keys, by proof name.
func testDescriptor(t testing.TB, id string, receipt ...Signer) (*Descriptor, map[string]Signer) {
	t.Helper()
	keys := map[string]Signer{}
	for _, use := range []KeyUse{UseConsensus, UseNode, UseCosign, UseStatement, UseAttest, UseTLS} {
		keys[string(use)] = newEd25519Signer(t, id+" "+string(use))
	}
	d := &Descriptor{V: 1, ID: id, Name: "机构 " + id, Kind: KindOther,
		Addresses: Addresses{API: "https://" + id + ".example", Peer: id + ".example:7443", P2P: "[2001:db8::1]:26656"},
		Keys: InstitutionKeys{Consensus: keys["consensus"].Public().Raw(), Node: keys["node"].Public().Raw(),
			Cosign: keys["cosign"].Public().DER(), Statement: keys["statement"].Public().DER(), Attest: keys["attest"].Public().DER(), TLS: keys["tls"].Public().DER()}}
	for i, s := range receipt {
		d.Keys.Receipt = append(d.Keys.Receipt, s.Public().DER())
		keys["receipt."+string(rune('1'+i))] = s
	}
	for name, s := range keys {
		if err := d.Prove(name, s); err != nil {
			t.Fatal(err)
		}
	}
	return d, keys
}

type descriptorVector struct {
	Name, Descriptor, Reason, Field string
	SigningInputHex                 string `json:"signing_input_hex"`
}

func TestDescriptorVectors(t *testing.T) {
	for _, v := range readDocumentVectors[descriptorVector](t, "alliance/descriptors-valid.json") {
		t.Run(v.Name, func(t *testing.T) {
			d, err := ParseDescriptor([]byte(v.Descriptor))
			if err != nil {
				t.Fatal(err)
			}
			if again, err := d.Encode(); err != nil || string(again) != v.Descriptor {
				t.Errorf("encoded again: %s, %v", again, err)
			}
			if in, err := d.SigningInput("cosign"); err != nil || hex.EncodeToString(in) != v.SigningInputHex {
				t.Errorf("signing input differs: %s, %v", in, err)
			}
		})
	}
	for _, v := range readDocumentVectors[descriptorVector](t, "alliance/descriptors-invalid.json") {
		t.Run(v.Name, func(t *testing.T) {
			_, err := ParseDescriptor([]byte(v.Descriptor))
			wantFieldError(t, err, v.Reason, v.Field)
		})
	}
}

type allianceVector struct {
	Name, Alliance string
	ID             Digest
	Origin         string
	ChainID        string `json:"chain_id"`
	Cosigners      map[string]string
	Quorum         int
}

func TestAllianceVectors(t *testing.T) {
	for _, v := range readDocumentVectors[allianceVector](t, "alliance/valid.json") {
		a, err := ParseAlliance([]byte(v.Alliance))
		if err != nil {
			t.Fatal(err)
		}
		if again, err := a.Encode(); err != nil || string(again) != v.Alliance {
			t.Errorf("encoded again: %s, %v", again, err)
		}
		if a.ID() != v.ID || a.Origin() != v.Origin || a.ChainID != v.ChainID || Quorum(len(a.Institutions)) != v.Quorum {
			t.Errorf("id %s, origin %s, chain %s", a.ID(), a.Origin(), a.ChainID)
		}
		for id, name := range v.Cosigners {
			if a.CosignerName(id) != name || a.Institution(id) == nil {
				t.Errorf("cosigner %s: %s", id, a.CosignerName(id))
			}
		}
		created, _ := time.Parse(time.RFC3339, a.Created)
		shuffled := []Descriptor{a.Institutions[2], a.Institutions[0], a.Institutions[3], a.Institutions[1]}
		b, err := NewAlliance(a.Name, a.Slug, created.Add(999*time.Millisecond), shuffled)
		if err != nil || b.ID() != a.ID() {
			t.Errorf("founded again: %v", err)
		}
	}
	for _, v := range readDocumentVectors[struct{ Name, Alliance, Reason, Field string }](t, "alliance/invalid.json") {
		t.Run(v.Name, func(t *testing.T) {
			_, err := ParseAlliance([]byte(v.Alliance))
			wantFieldError(t, err, v.Reason, v.Field)
		})
	}
	for _, v := range readDocumentVectors[struct{ N, Quorum int }](t, "alliance/quorum.json") {
		if Quorum(v.N) != v.Quorum || 3*v.Quorum <= 2*v.N {
			t.Errorf("quorum of %d: %d", v.N, Quorum(v.N))
		}
	}
}

func TestPolicyVectors(t *testing.T) {
	type vector struct {
		Name, Policy, Reason, Field string
		Founded                     bool
	}
	a, err := ParseAlliance([]byte(readDocumentVectors[allianceVector](t, "alliance/valid.json")[0].Alliance))
	if err != nil {
		t.Fatal(err)
	}
	founded, err := PolicyFromAlliance(a)
	if err != nil {
		t.Fatal(err)
	}
	want, err := founded.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range readDocumentVectors[vector](t, "alliance/policy-valid.json") {
		t.Run(v.Name, func(t *testing.T) {
			p, err := ParsePolicy([]byte(v.Policy))
			if err != nil {
				t.Fatal(err)
			}
			got, err := p.Encode()
			if err != nil || bytes.Equal(got, want) != v.Founded {
				t.Errorf("as PolicyFromAlliance: %v, want %v; %v", !v.Founded, v.Founded, err)
			}
		})
	}
	for _, v := range readDocumentVectors[vector](t, "alliance/policy-invalid.json") {
		t.Run(v.Name, func(t *testing.T) {
			_, err := ParsePolicy([]byte(v.Policy))
			wantFieldError(t, err, v.Reason, v.Field)
		})
	}
}

func TestPolicyKeysByRange(t *testing.T) {
	old, young, sm := newEd25519Signer(t, "old").Public(), newP256Signer(t).Public(), newSM2Signer(t).Public()
	p := &Policy{V: 1, Alliance: SumSHA256(nil), Name: "n", Origin: "o", Quorum: 1, Institutions: []PolicyInstitution{{ID: "court", Name: "c", Kind: KindCourt, Keys: []PolicyKey{
		{Use: UseReceipt, Key: string(old.PEM()), From: 0, To: 100},
		{Use: UseReceipt, Key: string(young.PEM()), From: 100},
		{Use: UseReceipt, Key: string(sm.PEM()), From: 50},
	}}}}
	if len(p.Keys("court", UseReceipt, 1)) != 0 {
		t.Error("keys that were not checked are trusted")
	}
	if err := p.Validate(); err != nil {
		t.Fatal(err)
	}
	for size, want := range map[uint64][]*PublicKey{0: {old}, 49: {old}, 50: {old, sm}, 99: {old, sm}, 100: {young, sm}, 1 << 40: {young, sm}} {
		got := p.Keys("court", UseReceipt, size)
		if len(got) != len(want) {
			t.Fatalf("size %d: %d keys, want %d", size, len(got), len(want))
		}
		for i := range got {
			if !got[i].Equal(want[i]) {
				t.Errorf("size %d: another key", size)
			}
		}
	}
	if p.Keys("court", UseCosign, 0) != nil || p.Keys("other", UseReceipt, 0) != nil {
		t.Error("keys for another use or institution")
	}
	if inst, k, ok := p.ByKID(old.KID(), UseReceipt, 99); !ok || inst != "court" || !k.Equal(old) {
		t.Error("ByKID does not find the key")
	}
	for _, c := range []struct {
		kid  Digest
		use  KeyUse
		size uint64
	}{{old.KID(), UseReceipt, 100}, {old.KID(), UseCosign, 1}, {SumSHA256(nil), UseReceipt, 1}} {
		if _, _, ok := p.ByKID(c.kid, c.use, c.size); ok {
			t.Errorf("ByKID finds %v", c)
		}
	}
}

func TestDescriptorWithSM2Receipts(t *testing.T) {
	d, keys := testDescriptor(t, "court", newEd25519Signer(t, "r"), newSM2Signer(t), newP256Signer(t))
	data, err := d.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseDescriptor(data); err != nil {
		t.Fatal(err)
	}
	if got, err := d.PublicKeys(UseReceipt); err != nil || len(got) != 3 {
		t.Errorf("%d receipt keys, %v", len(got), err)
	}
	if len(data) > maxDescriptor-2000 {
		t.Errorf("a descriptor with three receipt keys has %d bytes", len(data))
	}
	if err := d.Prove("receipt.4", keys["tls"]); err == nil || !strings.Contains(err.Error(), "receipt.3") {
		t.Errorf("a proof for a key that is not there: %v", err)
	}
	if err := d.Prove("tls", keys["node"]); err == nil {
		t.Error("another key proved the tls key")
	}
	only, _ := testDescriptor(t, "notary", newSM2Signer(t))
	wantFieldError(t, only.Validate(), "key-algorithm", "$.keys.receipt")
	twice, _ := testDescriptor(t, "notary", newEd25519Signer(t, "r1"), newEd25519Signer(t, "r2"))
	wantFieldError(t, twice.Validate(), "key-algorithm", "$.keys.receipt[1]")
	// A proof whose s is not reduced verifies under no rule.
	d.Proofs["node"][63] |= 0xf0
	wantFieldError(t, d.Validate(), "proof", "$.proofs.node")
}

func FuzzParseAlliance(f *testing.F) {
	f.Add([]byte(readDocumentVectors[allianceVector](f, "alliance/valid.json")[0].Alliance))
	f.Add([]byte(readDocumentVectors[descriptorVector](f, "alliance/descriptors-valid.json")[0].Descriptor))
	f.Add([]byte(readDocumentVectors[struct {
		Name, Policy string
		Founded      bool
	}](f, "alliance/policy-valid.json")[0].Policy))
	f.Fuzz(func(t *testing.T, data []byte) {
		var fe *FieldError
		if a, err := ParseAlliance(data); err == nil {
			if again, err := a.Encode(); err != nil || !bytes.Equal(again, data) {
				t.Fatal("the alliance encodes differently")
			}
		} else if !errors.As(err, &fe) {
			t.Fatalf("not a *FieldError: %v", err)
		}
		if d, err := ParseDescriptor(data); err == nil {
			if again, err := d.Encode(); err != nil || !bytes.Equal(again, data) {
				t.Fatal("the descriptor encodes differently")
			}
		} else if !errors.As(err, &fe) {
			t.Fatalf("not a *FieldError: %v", err)
		}
		if p, err := ParsePolicy(data); err == nil {
			again, err := p.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := ParsePolicy(again); err != nil {
				t.Fatalf("the policy is refused when written again: %v", err)
			}
		} else if !errors.As(err, &fe) {
			t.Fatalf("not a *FieldError: %v", err)
		}
	})
}
