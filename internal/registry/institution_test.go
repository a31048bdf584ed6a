package registry_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/registry"
	"github.com/zhenglian/zhenglian/internal/testalliance"
)

// fold is a registry beside the log of a test alliance.
type fold struct {
	testing.TB
	*testalliance.Alliance
	*registry.Registry
}

func newFold(t testing.TB, seed string) *fold {
	t.Helper()
	a, err := testalliance.New(seed, 4)
	if err != nil {
		t.Fatal(err)
	}
	r, err := registry.New(a.Alliance)
	if err != nil {
		t.Fatal(err)
	}
	return &fold{t, a, r}
}

func (f *fold) must(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

// offer checks a statement as the machine does and applies it when it may be.
func (f *fold) offer(s *evidence.Statement, position uint64) *registry.Refusal {
	f.Helper()
	if _, no := f.Holder(s); no != nil {
		return no
	}
	if no := f.Registry.Check(s, testalliance.BlockTime(position)*1000); no != nil {
		return no
	}
	f.must(f.Apply(s, position))
	return nil
}

func (f *fold) refused(what string, s *evidence.Statement, code evidence.Code, field string) {
	f.Helper()
	before := f.Hash()
	no := f.offer(s, 50)
	if no == nil || no.Code != code || no.Field != field {
		f.Errorf("%s: %+v, want %s %s", what, no, code, field)
	}
	if f.Hash() != before {
		f.Errorf("%s: a refusal changed the registry", what)
	}
}

func (f *fold) signer(text string) evidence.Signer {
	f.Helper()
	s, err := testalliance.Signer(text)
	f.must(err)
	return s
}

// change is one by `by`, to the key of `next`, made for the places given.
func (f *fold) change(by string, key evidence.Signer, next evidence.Signer, alliance evidence.Digest, provenFor string, use, provenUse evidence.KeyUse, replaces evidence.Digest) *evidence.Statement {
	f.Helper()
	k, err := evidence.NewKeyChange(alliance, provenFor, provenUse, replaces, evidence.ReasonSuperseded, next)
	f.must(err)
	k.Use = use
	s, err := evidence.Statement{Issuer: by, Subject: evidence.SubjectRegistry, IssuedAt: testalliance.Start, ContentType: evidence.TypeKeyChange, Payload: k.Encode()}.Sign(key)
	f.must(err)
	return s
}

func (f *fold) kid(id string, use evidence.KeyUse, size uint64) evidence.Digest {
	f.Helper()
	keys := f.InstitutionKeys(id, use, size)
	if len(keys) != 1 {
		f.Fatalf("%d %s keys of %s at size %d", len(keys), use, id, size)
	}
	return keys[0].KID()
}

func TestKeyChangeRanges(t *testing.T) {
	for _, use := range []evidence.KeyUse{evidence.UseReceipt, evidence.UseCosign, evidence.UseAttest, evidence.UseStatement} {
		f := newFold(t, "ranges")
		old := f.kid("court", use, 0)
		s, next, err := f.KeyChange("court", use, evidence.ReasonSuperseded)
		f.must(err)
		before := f.Hash()
		if no := f.offer(s, 7); no != nil {
			t.Fatalf("%s: %+v", use, no)
		}
		if f.kid("court", use, 7) != old || f.kid("court", use, 8) != next.Public().KID() || f.kid("notary", use, 8) == next.Public().KID() {
			t.Errorf("%s: the old key counts to size 7, the new one from 8, and nobody else's changes", use)
		}
		d := s.Digest()
		if f.Hash() != evidence.SumSHA256(append(before[:], d[:]...)) {
			t.Errorf("%s: the change is not in the running hash", use)
		}
		if got := f.Registry.KeyChanges(); len(got) != 1 || got[0] != 7 {
			t.Errorf("%s: key changes at %v", use, got)
		}
	}
}

func TestStatementKeyChange(t *testing.T) {
	f := newFold(t, "statement")
	enrol := func(name string, by evidence.Signer) *evidence.Statement {
		e := &evidence.Enrolment{Member: "m:" + name, Key: f.signer(name).Public(), Kind: evidence.KindPerson}
		s, err := evidence.Statement{Issuer: "ca", Subject: evidence.SubjectRegistry, IssuedAt: testalliance.Start, ContentType: evidence.TypeEnrolment, Payload: e.Encode()}.Sign(by)
		f.must(err)
		return s
	}
	old := f.Get("ca").Statement
	s, next, err := f.Alliance.KeyChange("ca", evidence.UseStatement, evidence.ReasonCompromised)
	f.must(err)
	f.refused("the new key before the change", enrol("early", next), evidence.CodeUnknownKey, "protected.kid")
	if no := f.offer(enrol("li", old), 0); no != nil {
		t.Fatal(no)
	}
	if no := f.offer(s, 1); no != nil {
		t.Fatal(no)
	}
	f.refused("the old key after the change", enrol("late", old), evidence.CodeRevokedKey, "protected.kid")
	f.refused("the same change again", s, evidence.CodeRevokedKey, "protected.kid")
	if no := f.offer(enrol("wang", next), 2); no != nil {
		t.Errorf("the new key: %+v", no)
	}
	k, _ := f.Key(old.Public().KID())
	if !k.Revoked || k.RevokedAt != 1 || k.Reason != evidence.ReasonCompromised {
		t.Errorf("the old key: %+v", k)
	}
	// A member whom the old key enrolled is still the institution's to revoke.
	rev := &evidence.Revocation{KID: f.signer("li").Public().KID(), Reason: 1}
	r, err := evidence.Statement{Issuer: "ca", Subject: evidence.SubjectRegistry, IssuedAt: testalliance.Start, ContentType: evidence.TypeRevocation, Payload: rev.Encode()}.Sign(next)
	f.must(err)
	if no := f.offer(r, 3); no != nil {
		t.Errorf("revoking with the new key: %+v", no)
	}
}

func TestKeyChangeRefusals(t *testing.T) {
	f := newFold(t, "refusals")
	id, court, notary := f.ID(), f.Get("court"), f.Get("notary")
	receipt := court.Receipt.Public().KID()
	fresh := func(name string) evidence.Signer { return f.signer("fresh " + name) }
	use := evidence.UseReceipt
	member, err := f.Enrol("m:li", 2, true)
	f.must(err)
	e := &evidence.Enrolment{Member: "m:li", Key: member.Signer.Public(), Kind: evidence.KindPerson}
	s, err := evidence.Statement{Issuer: "ca", Subject: evidence.SubjectRegistry, IssuedAt: testalliance.Start, ContentType: evidence.TypeEnrolment, Payload: e.Encode()}.Sign(f.Get("ca").Statement)
	f.must(err)
	if no := f.offer(s, 0); no != nil {
		t.Fatal(no)
	}

	f.refused("by a member", f.change("m:li", member.Signer, fresh("a"), id, "m:li", use, use, receipt), evidence.CodeNotAllowed, "protected.kid")
	f.refused("by another institution", f.change("notary", notary.Statement, fresh("b"), id, "notary", use, use, receipt), evidence.CodeConflict, "payload.replaces")
	f.refused("by another institution, proven for the one", f.change("notary", notary.Statement, fresh("c"), id, "court", use, use, receipt), evidence.CodeBadKey, "payload.proof")
	f.refused("another institution's name", f.change("court", notary.Statement, fresh("d"), id, "court", use, use, receipt), evidence.CodeWrongIssuer, "protected.claims.iss")
	f.refused("signed with the receipt key", f.change("court", court.Receipt, fresh("e"), id, "court", use, use, receipt), evidence.CodeUnknownKey, "protected.kid")
	f.refused("proven for another alliance", f.change("court", court.Statement, fresh("f"), evidence.SumSHA256(nil), "court", use, use, receipt), evidence.CodeBadKey, "payload.proof")
	f.refused("proven for another use", f.change("court", court.Statement, fresh("g"), id, "court", evidence.UseCosign, use, receipt), evidence.CodeBadKey, "payload.proof")
	f.refused("of another use", f.change("court", court.Statement, fresh("h"), id, "court", evidence.UseCosign, evidence.UseCosign, receipt), evidence.CodeConflict, "payload.replaces")
	f.refused("to a key that is not known", f.change("court", court.Statement, fresh("i"), id, "court", use, use, evidence.SumSHA256(nil)), evidence.CodeConflict, "payload.replaces")
	for what, used := range map[string]evidence.Signer{"itself": court.Receipt, "its cosigning key": court.Cosign, "another's receipt key": notary.Receipt, "a member's key": member.Signer,
		"its tls key": f.signer("refusals/court/tls"), "another's consensus key": f.signer("refusals/ca/consensus")} {
		f.refused("to "+what, f.change("court", court.Statement, used, id, "court", use, use, receipt), evidence.CodeConflict, "payload.key")
	}
	// Without the proof: somebody else's public key.
	k, err := evidence.NewKeyChange(id, "court", use, receipt, evidence.ReasonSuperseded, fresh("j"))
	f.must(err)
	k.Key = fresh("somebody else's").Public()
	s, err = f.SignKeyChange("court", k)
	f.must(err)
	f.refused("without proof of possession", s, evidence.CodeBadKey, "payload.proof")

	// A change that was good once: its predecessor no longer counts.
	first := f.change("court", court.Statement, fresh("k"), id, "court", use, use, receipt)
	again := f.change("court", court.Statement, fresh("l"), id, "court", use, use, receipt)
	if no := f.offer(first, 20); no != nil {
		t.Fatal(no)
	}
	f.refused("replayed", first, evidence.CodeConflict, "payload.key")
	f.refused("a second change of the same key", again, evidence.CodeConflict, "payload.replaces")
	f.refused("back to the old key", f.change("court", court.Statement, court.Receipt, id, "court", use, use, fresh("k").Public().KID()), evidence.CodeConflict, "payload.key")

	// The other way round: no member gets a key that an institution has.
	for what, used := range map[string]evidence.Signer{"a new receipt key": fresh("k"), "a founder's cosigning key": court.Cosign} {
		e := &evidence.Enrolment{Member: "m:zhou", Key: used.Public(), Kind: evidence.KindPerson}
		s, err := evidence.Statement{Issuer: "ca", Subject: evidence.SubjectRegistry, IssuedAt: testalliance.Start, ContentType: evidence.TypeEnrolment, Payload: e.Encode()}.Sign(f.Get("ca").Statement)
		f.must(err)
		f.refused("enrolling "+what, s, evidence.CodeConflict, "payload.key")
	}
}

func TestKeyChangesAreBounded(t *testing.T) {
	f := newFold(t, "many")
	replaces := f.Get("court").Attest.Public().KID()
	for i := range evidence.MaxKeyChanges + 1 {
		next := f.signer(fmt.Sprint("many ", i))
		s := f.change("court", f.Get("court").Statement, next, f.ID(), "court", evidence.UseAttest, evidence.UseAttest, replaces)
		if i == evidence.MaxKeyChanges {
			f.refused("one too many", s, evidence.CodeNotAllowed, "payload")
			break
		}
		if no := f.offer(s, uint64(i)); no != nil {
			t.Fatalf("change %d: %+v", i, no)
		}
		replaces = next.Public().KID()
	}
	// The policy that follows is still one.
	p, err := evidence.PolicyFromAlliance(f.Alliance.Alliance)
	f.must(err)
	for i := range p.Institutions {
		p.Institutions[i].Keys = f.History(p.Institutions[i].ID).PolicyKeys()
	}
	data, err := p.Encode()
	f.must(err)
	if _, err := evidence.ParsePolicy(data); err != nil {
		t.Errorf("the policy of %d bytes: %v", len(data), err)
	}
}

// Whatever institutions change in whatever order: every size has exactly one key
// for each place; what one institution does changes no other's keys; and a
// policy that follows the changes, handed over in any order, is the registry's.
func TestKeyChangesProperty(t *testing.T) {
	uses := []evidence.KeyUse{evidence.UseReceipt, evidence.UseCosign, evidence.UseAttest, evidence.UseStatement}
	rapid.Check(t, func(rt *rapid.T) {
		f := newFold(t, "property")
		ids := []string{"ca", "court", "forensic", "notary"}
		alone := map[string]*registry.Registry{}
		for _, id := range ids {
			r, err := registry.New(f.Alliance.Alliance)
			f.must(err)
			alone[id] = r
		}
		for range rapid.IntRange(1, 12).Draw(rt, "changes") {
			id, use := rapid.SampledFrom(ids).Draw(rt, "institution"), rapid.SampledFrom(uses).Draw(rt, "use")
			s, _, err := f.Alliance.KeyChange(id, use, evidence.ReasonSuperseded)
			f.must(err)
			p, err := f.Rotate(id, use, evidence.ReasonSuperseded)
			f.must(err)
			if no := f.offer(s, p); no != nil {
				rt.Fatalf("%s %s: %+v", id, use, no)
			}
			f.must(alone[id].Apply(s, p))
			if rapid.Bool().Draw(rt, "deposit between") {
				_, err := f.Enrol(fmt.Sprintf("m:%d", p), 1, true)
				f.must(err)
			}
		}
		size := f.Size()
		for _, id := range ids {
			for _, use := range uses {
				for n := range size + 2 {
					got := f.kid(id, use, n)
					if want := f.Get(id).At(use, n).Public().KID(); got != want {
						rt.Fatalf("%s %s at size %d: %s, want %s", id, use, n, got, want)
					}
					if other := alone[id].InstitutionKeys(id, use, n); len(other) != 1 || other[0].KID() != got {
						rt.Fatalf("%s %s at size %d depends on the others", id, use, n)
					}
				}
			}
		}
		changes, err := f.ChangesAsOf(size)
		f.must(err)
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "shuffle"), 0))
		rng.Shuffle(len(changes), func(i, j int) { changes[i], changes[j] = changes[j], changes[i] })
		followed, took, refused := f.Policy.Follow(changes)
		if len(took) != len(changes) || len(refused) != 0 {
			rt.Fatalf("%d of %d followed: %v", len(took), len(changes), refused)
		}
		want, err := evidence.PolicyFromAlliance(f.Alliance.Alliance)
		f.must(err)
		for i := range want.Institutions {
			want.Institutions[i].Keys = f.History(want.Institutions[i].ID).PolicyKeys()
		}
		a, err := followed.Encode()
		f.must(err)
		b, err := want.Encode()
		f.must(err)
		if !bytes.Equal(a, b) {
			rt.Fatalf("the policy that follows is not the registry's:\n%s\n%s", a, b)
		}
	})
}
