package verify_test

import (
	"testing"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/testalliance"
	"github.com/zhenglian/zhenglian/verify"
)

// deposit adds a step to the trail of the story.
func (s *story) deposit(t testing.TB, name string) {
	t.Helper()
	_, err := s.Deposit(s.li, s.trail, testalliance.Step{Phase: evidence.PhaseAfter, Name: name})
	must(t, err)
}

func (s *story) rotate(t testing.TB, id string, reason uint64, uses ...evidence.KeyUse) {
	t.Helper()
	for _, use := range uses {
		_, err := s.Rotate(id, use, reason)
		must(t, err)
	}
}

// Package A is from before two institutions changed keys, package B from after:
// both hold under the pinned id, under the policy of the founding, and under the
// one that follows the changes.
func TestPackagesAcrossKeyChanges(t *testing.T) {
	s := tell(t, "a", 4)
	a := encode(t, s.content(t))
	s.rotate(t, "court", evidence.ReasonSuperseded, evidence.UseReceipt, evidence.UseCosign, evidence.UseStatement, evidence.UseAttest)
	s.rotate(t, "notary", evidence.ReasonSuperseded, evidence.UseStatement, evidence.UseCosign, evidence.UseReceipt)
	s.deposit(t, "换钥之后")
	// A key that the CA's new statement key enrolled signs too.
	s.rotate(t, "ca", evidence.ReasonSuperseded, evidence.UseStatement)
	zhou, err := s.Enrol("m:zhou", 2, false)
	must(t, err)
	_, err = s.Authorise(s.li, s.trail, zhou.Signer.Public().KID(), evidence.RightAppend)
	must(t, err)
	_, err = s.Deposit(zhou, s.trail, testalliance.Step{Name: "新成员"})
	must(t, err)
	content := s.content(t)
	b := encode(t, content)

	id := s.ID()
	changes, err := s.ChangesAsOf(s.Size())
	must(t, err)
	current, took, _ := s.Policy.Follow(changes)
	if len(took) != 8 {
		t.Fatalf("%d changes followed", len(took))
	}
	for name, opts := range map[string]verify.Options{"pinned": {Alliance: &id}, "founding policy": {Policy: s.Policy}, "current policy": {Policy: current},
		"both": {Policy: current, Alliance: &id}, "own log": {Policy: current, Log: s.Log("court")}} {
		t.Run(name, func(t *testing.T) {
			if opts.Log == nil {
				wants(t, check(t, a, opts), verify.Matches)
			}
			rep := check(t, b, opts)
			wants(t, rep, verify.Matches)
			if opts.Policy == current {
				if len(rep.Unchecked) == 0 {
					t.Error("the changes that the policy has are not listed as resting on nothing")
				}
			} else {
				wants(t, rep, verify.Matches, "key-change-holds")
			}
		})
	}

	// Without the changes in it only the current policy knows the keys.
	content.KeyChanges = nil
	bare := encode(t, content)
	wants(t, check(t, bare, verify.Options{Policy: current}), verify.Matches)
	rep := check(t, bare, verify.Options{Alliance: &id})
	wants(t, rep, verify.Undetermined, "key-unknown", "quorum-unknown")
	for _, c := range rep.Checks {
		if c.Verdict == verify.DoesNotMatch {
			t.Errorf("%s %s: an unknown key is called wrong", c.ID, c.Reason.Key)
		}
	}
}

func TestForgedKeyChanges(t *testing.T) {
	forge := func(t *testing.T, s *story) []evidence.Registration {
		f := tell(t, "forger", 4)
		f.rotate(t, "court", 0, evidence.UseReceipt)
		changes, err := f.ChangesAsOf(f.Size())
		must(t, err)
		return changes
	}
	for name, tc := range map[string]struct {
		alter  func(t *testing.T, s *story, c *testalliance.Content)
		want   verify.Verdict
		reason string
	}{
		"as it is": {func(*testing.T, *story, *testalliance.Content) {}, verify.Matches, "key-change-holds"},
		"one receipt less": {func(t *testing.T, s *story, c *testalliance.Content) {
			delete(c.KeyChanges[0].Receipts, "ca")
		}, verify.Matches, "key-change-holds"},
		"two receipts less": {func(t *testing.T, s *story, c *testalliance.Content) {
			delete(c.KeyChanges[0].Receipts, "ca")
			delete(c.KeyChanges[0].Receipts, "forensic")
		}, verify.DoesNotMatch, "key-change-refused"},
		"another alliance's change": {func(t *testing.T, s *story, c *testalliance.Content) {
			c.KeyChanges = append(c.KeyChanges, forge(t, s)...)
		}, verify.DoesNotMatch, "key-change-refused"},
		"a change that no log has": {func(t *testing.T, s *story, c *testalliance.Content) {
			st, _, err := s.KeyChange("notary", evidence.UseReceipt, 0)
			must(t, err)
			c.KeyChanges = append(c.KeyChanges, evidence.Registration{Statement: st.Bytes(), Receipts: c.KeyChanges[0].Receipts})
		}, verify.DoesNotMatch, "key-change-refused"},
		"a signature altered": {func(t *testing.T, s *story, c *testalliance.Content) {
			st := append([]byte{}, c.KeyChanges[0].Statement...)
			st[len(st)-1] ^= 1
			c.KeyChanges[0].Statement = st
		}, verify.DoesNotMatch, "key-change-refused"},
		"signed with the old key after the change": {func(t *testing.T, s *story, c *testalliance.Content) {
			rec, err := evidence.ParseReceipt(c.Steps[0].Receipts["court"])
			must(t, err)
			root, err := evidence.SignRoot(s.Get("court").At(evidence.UseReceipt, 0), "court", s.Origin(), rec.IssuedAt, evidence.Checkpoint{Size: rec.Size, Root: s.RootAt(rec.Size)})
			must(t, err)
			c.Steps[0].Receipts["court"] = root.Receipt(rec.LeafIndex, rec.Path)
		}, verify.DoesNotMatch, "receipt-key"},
	} {
		t.Run(name, func(t *testing.T) {
			s := tell(t, "a", 4)
			s.rotate(t, "court", evidence.ReasonSuperseded, evidence.UseReceipt)
			s.deposit(t, "换钥之后")
			c := s.content(t)
			tc.alter(t, s, c)
			id := s.ID()
			wants(t, check(t, encode(t, c), verify.Options{Alliance: &id}), tc.want, tc.reason)
			// Nobody's trust comes from the package.
			if rep := check(t, encode(t, c), verify.Options{}); rep.Verdict == verify.Matches {
				t.Error("without a policy it matches")
			}
		})
	}
}

// What a key signed before it was found compromised still counts, and the
// report says what became of the key.
func TestCompromisedKeyIsShown(t *testing.T) {
	s := tell(t, "a", 4)
	a := encode(t, s.content(t))
	s.rotate(t, "court", evidence.ReasonCompromised, evidence.UseReceipt)
	changes, err := s.ChangesAsOf(s.Size())
	must(t, err)
	p, _, _ := s.Policy.Follow(changes)
	rep := check(t, a, verify.Options{Policy: p})
	wants(t, rep, verify.Matches)
	n := 0
	for _, notice := range rep.Notices {
		if notice.Reason.Key == "key-compromised" {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d notices that the court's key was compromised, want 1: %+v", n, rep.Notices)
	}
}
