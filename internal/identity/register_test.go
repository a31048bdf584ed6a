package identity_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/identity"
)

func signIn(t *testing.T, w *world) {
	a := w.signedIn("a", 2)
	again, err := w.reg.SignIn(w.ctx, identity.SignIn{Issuer: issuer, Subject: "a"})
	w.must(err)
	if again.ID != a.Person || again.Name != "测试a" || again.Level != 2 || again.Member != "" {
		t.Errorf("the second sign-in is %+v", again)
	}
	other, err := w.reg.SignIn(w.ctx, identity.SignIn{Issuer: "https://other.example", Subject: "a"})
	w.must(err)
	if other.ID == a.Person {
		t.Error("another provider's subject of the same name is the same person")
	}
	// Lengths go into the index: no split of the two texts is another's.
	split, err := w.reg.SignIn(w.ctx, identity.SignIn{Issuer: issuer + "a", Subject: "b"})
	w.must(err)
	joined, err := w.reg.SignIn(w.ctx, identity.SignIn{Issuer: issuer, Subject: "ab"})
	w.must(err)
	if split.ID == joined.ID {
		t.Error("issuer and subject can be exchanged at their border")
	}
	if _, err := w.reg.SignIn(w.ctx, identity.SignIn{Issuer: issuer}); err == nil {
		t.Error("a sign-in without a subject")
	}
}

func levels(t *testing.T, w *world) {
	a := w.signedIn("a", 0)
	if _, err := w.reg.EnrolKey(w.ctx, a, identity.NewKey{Public: publicKey(t), Holder: identity.HolderBrowser}); !errors.Is(err, identity.ErrLevel) {
		t.Errorf("a nameless person enrols a key: %v", err)
	}
	in := func(facts []identity.Fact) *identity.Person {
		t.Helper()
		p, err := w.reg.SignIn(w.ctx, identity.SignIn{Issuer: issuer, Subject: "a", Facts: facts})
		w.must(err)
		return p
	}
	if p := in([]identity.Fact{{Name: identity.FactRealName, Value: "昵称", Level: 3}}); p.Level != 0 || p.Name != "昵称" {
		t.Errorf("a name alone gives %+v", p)
	}
	mixed := w.facts("李四", number(1).Number(), 3)
	mixed[2].Level = 1
	if p := in(mixed); p.Level != 1 {
		t.Errorf("the weakest of the three does not rule: %+v", p)
	}
	if p := in(w.facts("李四", number(1).Number(), 2)); p.Level != 2 {
		t.Errorf("%+v", p)
	}
	if p := in(w.facts("别人", number(2).Number(), 1)); p.Level != 2 || p.Name != "李四" {
		t.Errorf("what somebody only says replaced what was checked: %+v", p)
	}
	if _, err := w.reg.SignIn(w.ctx, identity.SignIn{Issuer: issuer, Subject: "x", Facts: w.facts("李", "119999199005170019", 2)}); err == nil {
		t.Error("an ID number with a wrong check digit is registered")
	} else if strings.Contains(err.Error(), "119999199005170019") {
		t.Errorf("the message has the number: %v", err)
	}
}

func oneDocument(t *testing.T, w *world) {
	n := number(7).Number()
	_, err := w.reg.SignIn(w.ctx, identity.SignIn{Issuer: issuer, Subject: "squatter", Facts: w.facts("李四", n, 1)})
	w.must(err)
	_, err = w.reg.SignIn(w.ctx, identity.SignIn{Issuer: issuer, Subject: "owner", Facts: w.facts("李四", n, 2)})
	w.must(err) // who only claimed the number did not take it
	_, err = w.reg.SignIn(w.ctx, identity.SignIn{Issuer: "https://other.example", Subject: "owner", Facts: w.facts("李四", n, 3)})
	w.is(err, identity.ErrDocument, "one document, two persons")
	_, err = w.reg.SignIn(w.ctx, identity.SignIn{Issuer: "https://other.example", Subject: "lower", Facts: w.facts("李四", strings.ToLower(number(7).Number()), 2)})
	w.is(err, identity.ErrDocument, "in another spelling")
}

func changedHands(t *testing.T, w *world) {
	a := w.signedIn("a", 2)
	w.enrolled(a)
	_, err := w.reg.SignIn(w.ctx, identity.SignIn{Issuer: issuer, Subject: "a", Facts: w.facts("别人", number(99).Number(), 3)})
	w.is(err, identity.ErrConflict, "an account that says it is another person now")
	p, err := w.reg.Person(w.ctx, a.Person)
	w.must(err)
	if p.Name != "测试a" {
		t.Errorf("the name became %q", p.Name)
	}
}

func enrolment(t *testing.T, w *world) {
	a := w.signedIn("a", 2)
	n := identity.NewKey{Public: publicKey(t), Label: "  my\u202elaptop\n ", Holder: identity.HolderBrowser, Recipient: "age1recovery"}
	k, err := w.reg.EnrolKey(w.ctx, a, n)
	w.must(err)
	if k.State != identity.StateWaiting || k.Position != -1 || k.Label != "mylaptop" || k.Recipient != "age1recovery" || k.Level != 2 {
		t.Errorf("%+v", k)
	}
	if len(k.Member) != 28 || !strings.HasPrefix(k.Member, "m:") || strings.ToLower(k.Member) != k.Member {
		t.Errorf("member id %q", k.Member)
	}
	w.must(w.reg.Deliver(w.ctx))
	again, err := w.reg.EnrolKey(w.ctx, a, n)
	w.must(err)
	if again.State != identity.StateEnrolled || again.Position != 0 || len(w.log.entries) != 1 {
		t.Errorf("%+v with %d entries", again, len(w.log.entries))
	}
	e, err := evidence.ParseEnrolment(w.log.of(evidence.TypeEnrolment)[0])
	w.must(err)
	commitment, salt, err := w.reg.Commitment(w.ctx, a, k.Member)
	w.must(err)
	if e.Member != k.Member || !e.Key.Equal(n.Public) || e.Kind != evidence.KindPerson || e.Assurance != 2 || !e.Demo || e.Commitment != commitment {
		t.Errorf("%+v", e)
	}
	if commitment != evidence.Commit(salt, "测试a", identity.DocumentID, number(1).Number()) {
		t.Error("the salt does not open the commitment")
	}
	// A second key is the same member's, at the level she has then.
	_, err = w.reg.SignIn(w.ctx, identity.SignIn{Issuer: issuer, Subject: "a", Facts: w.facts("测试a", number(1).Number(), 3)})
	w.must(err)
	second := w.enrolled(a)
	e, err = evidence.ParseEnrolment(w.log.of(evidence.TypeEnrolment)[1])
	w.must(err)
	if second.Member != k.Member || e.Assurance != 3 || e.Commitment != commitment {
		t.Errorf("%+v %+v", second, e)
	}
	w.must(w.reg.Label(w.ctx, a, k.KID, "desk"))
	keys, err := w.reg.KeysOf(w.ctx, a, k.Member)
	w.must(err)
	if len(keys) != 2 || keys[0].Label != "desk" && keys[1].Label != "desk" {
		t.Errorf("%+v", keys)
	}
	for name, bad := range map[string]identity.NewKey{"no key": {Holder: identity.HolderFile}, "no holder": {Public: publicKey(t)}, "long label": {Public: publicKey(t), Holder: identity.HolderFile, Label: strings.Repeat("长", 61)}} {
		if _, err := w.reg.EnrolKey(w.ctx, a, bad); err == nil {
			t.Errorf("%s: enrolled", name)
		}
	}
}

// Whatever step the power cut comes after, what was accepted is in the log once.
func crash(t *testing.T, w *world) {
	a := w.signedIn("a", 2)
	enrol := func() *identity.Key {
		k, err := w.reg.EnrolKey(w.ctx, a, identity.NewKey{Public: publicKey(t), Holder: identity.HolderFile})
		w.must(err)
		return k
	}
	check := func(k *identity.Key, entries int) {
		t.Helper()
		w.reg = w.restart()
		w.must(w.reg.Deliver(w.ctx))
		got, err := w.reg.Key(w.ctx, a, k.KID)
		w.must(err)
		if got.State != identity.StateEnrolled || len(w.log.entries) != entries {
			t.Errorf("%s with %d entries, want enrolled with %d", got.State, len(w.log.entries), entries)
		}
	}
	k := enrol() // cut after the intention
	check(k, 1)
	k = enrol() // cut after signing, before anything left
	w.log.down = errors.New("no route")
	if err := w.reg.Deliver(w.ctx); !errors.Is(err, w.log.down) {
		t.Errorf("the log is unreachable: %v", err)
	}
	signed := w.log.signed
	w.log.down = nil
	check(k, 2)
	if w.log.signed != signed {
		t.Error("a statement was signed twice")
	}
	k = enrol() // cut after the log took it, before the answer came
	w.log.crash = errors.New("connection lost")
	if err := w.reg.Deliver(w.ctx); err == nil {
		t.Error("a lost answer is no error")
	}
	w.log.crash = nil
	check(k, 3)
	if n, err := w.reg.Waiting(w.ctx); n != 0 || err != nil {
		t.Errorf("%d wait, %v", n, err)
	}
	// A register without a chain accepts and waits.
	without, err := identity.New(identity.Config{DB: w.db, Keys: w.keys, Origin: origin, Now: func() time.Time { return w.now }})
	w.must(err)
	_, err = without.EnrolKey(w.ctx, a, identity.NewKey{Public: publicKey(t), Holder: identity.HolderFile})
	w.must(err)
	w.must(without.Deliver(w.ctx))
	if n, err := without.Waiting(w.ctx); n != 1 || err != nil {
		t.Errorf("%d wait, %v", n, err)
	}
}

func refusedByLog(t *testing.T, w *world) {
	a := w.signedIn("a", 2)
	w.log.refuse[evidence.TypeEnrolment] = &identity.Refusal{Code: evidence.CodeBadKey, Reason: "small order"}
	bad := w.enrolled(a)
	if bad.State != identity.StateRefused || !strings.Contains(bad.Problem, "small order") {
		t.Errorf("%+v", bad)
	}
	delete(w.log.refuse, evidence.TypeEnrolment)
	if good := w.enrolled(a); good.State != identity.StateEnrolled || good.Member != bad.Member {
		t.Errorf("what is refused stops the next: %+v", good)
	}
	w.must(w.reg.Revoke(w.ctx, a, bad.KID, identity.ReasonCessation)) // nothing to do
	w.must(w.reg.Deliver(w.ctx))
	if n := len(w.log.of(evidence.TypeRevocation)); n != 0 {
		t.Errorf("%d revocations of a key that the log never had", n)
	}
}

func revocation(t *testing.T, w *world) {
	a := w.signedIn("a", 2)
	k := w.enrolled(a)
	if err := w.reg.Revoke(w.ctx, a, k.KID, 7); err == nil {
		t.Error("reason 7 is not one")
	}
	w.must(w.reg.Revoke(w.ctx, a, k.KID, identity.ReasonCompromise))
	w.must(w.reg.Revoke(w.ctx, a, k.KID, identity.ReasonCessation))
	got, err := w.reg.Key(w.ctx, a, k.KID)
	w.must(err)
	if got.State != identity.StateRevoking || got.Reason != identity.ReasonCompromise || !got.Revoked.Equal(w.now) {
		t.Errorf("%+v", got)
	}
	w.must(w.reg.Deliver(w.ctx))
	got, err = w.reg.Key(w.ctx, a, k.KID)
	w.must(err)
	all := w.log.of(evidence.TypeRevocation)
	if got.State != identity.StateRevoked || len(all) != 1 {
		t.Fatalf("%s, %d revocations", got.State, len(all))
	}
	r, err := evidence.ParseRevocation(all[0])
	w.must(err)
	if r.KID != k.KID || r.Reason != 1 {
		t.Errorf("%+v", r)
	}
	// Revoked while its enrolment waits: both go out, in order, and it ends revoked.
	early, err := w.reg.EnrolKey(w.ctx, a, identity.NewKey{Public: publicKey(t), Holder: identity.HolderFile})
	w.must(err)
	w.must(w.reg.Revoke(w.ctx, a, early.KID, identity.ReasonCessation))
	w.must(w.reg.Deliver(w.ctx))
	got, err = w.reg.Key(w.ctx, a, early.KID)
	w.must(err)
	last := w.log.entries[len(w.log.entries)-2:]
	if got.State != identity.StateRevoked || got.Position < 0 || last[0][0] != evidence.TypeEnrolment || last[1][0] != evidence.TypeRevocation {
		t.Errorf("%+v %s %s", got, last[0][0], last[1][0])
	}
}

func roll(t *testing.T, w *world) {
	a := w.signedIn("a", 2)
	first := w.enrolled(a)
	w.now = w.now.Add(time.Minute)
	second := w.enrolled(a)
	w.now = w.now.Add(time.Minute)
	w.must(w.reg.Revoke(w.ctx, a, first.KID, identity.ReasonCompromise))
	got, err := w.reg.Roll(w.ctx, 2)
	w.must(err)
	if got.Enrolled != 1 || got.Revoked != 1 || len(got.Changes) != 2 {
		t.Fatalf("%+v", got)
	}
	if c := got.Changes[0]; !c.Revoked || c.Member != first.Member || !c.At.Equal(w.now) {
		t.Errorf("the newest change: %+v", c)
	}
	if c := got.Changes[1]; c.Revoked || c.Member != second.Member || c.Kind != evidence.KindPerson || c.Level != second.Level {
		t.Errorf("the one before: %+v", c)
	}
}

func anothersKey(t *testing.T, w *world) {
	a, b := w.signedIn("a", 2), w.signedIn("b", 2)
	k := w.enrolled(a)
	_, err := w.reg.EnrolKey(w.ctx, b, identity.NewKey{Public: k.Public, Holder: identity.HolderFile})
	w.is(err, identity.ErrTaken, "another's key")
	_, err = w.reg.EnrolKey(w.ctx, b, identity.NewKey{Member: k.Member, Public: publicKey(t), Holder: identity.HolderFile})
	w.is(err, identity.ErrUnknown, "a key for another's member")
	_, err = w.reg.Key(w.ctx, b, k.KID)
	w.is(err, identity.ErrUnknown, "looking")
	w.is(w.reg.Revoke(w.ctx, b, k.KID, identity.ReasonCompromise), identity.ErrUnknown, "revoking")
	w.is(w.reg.Label(w.ctx, b, k.KID, "x"), identity.ErrUnknown, "labelling")
	keys, err := w.reg.KeysOf(w.ctx, b, k.Member)
	w.must(err)
	if len(keys) != 0 {
		t.Errorf("b sees %d keys", len(keys))
	}
	_, _, err = w.reg.Commitment(w.ctx, b, k.Member)
	w.is(err, identity.ErrUnknown, "another's salt")
	_, err = w.reg.BeginPasskey(w.ctx, b, k.Member, "")
	w.is(err, identity.ErrUnknown, "a passkey for another's member")
	_, err = w.reg.BeginAct(w.ctx, b, k.Member, digest("x"))
	w.is(err, identity.ErrUnknown, "an act in another's name")
}

func signOutEverywhere(t *testing.T, w *world) {
	a := w.signedIn("a", 2)
	before, err := w.reg.Person(w.ctx, a.Person)
	w.must(err)
	k := w.enrolled(a)
	d := w.bound(a, k.Member)
	c, err := w.reg.BeginAct(w.ctx, a, k.Member, digest("x"))
	w.must(err)
	g, err := w.reg.SignOutEverywhere(w.ctx, a)
	w.must(err)
	after, err := w.reg.Person(w.ctx, a.Person)
	w.must(err)
	if g != before.Generation+1 || after.Generation != g {
		t.Errorf("%d, then %d, and %d", before.Generation, g, after.Generation)
	}
	_, err = w.reg.FinishAct(w.ctx, a, c.ID, digest("x"), d.get(t, c))
	w.is(err, identity.ErrCeremony, "an act of a session that is over")
}

func run(t *testing.T, w *world) {
	a := w.signedIn("a", 2)
	ctx, cancel := context.WithCancel(w.ctx)
	done := make(chan error)
	go func() { done <- w.reg.Run(ctx, func(err error) { t.Error(err) }) }()
	k, err := w.reg.EnrolKey(w.ctx, a, identity.NewKey{Public: publicKey(t), Holder: identity.HolderFile})
	w.must(err)
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		got, err := w.reg.Key(w.ctx, a, k.KID)
		w.must(err)
		if got.State == identity.StateEnrolled {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("still %s", got.State)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestNewRefuses(t *testing.T) {
	for _, origin := range []string{"", "portal.example", "http://portal.example", "ftp://localhost"} {
		if _, err := identity.New(identity.Config{Origin: origin}); err == nil {
			t.Errorf("%q is an origin", origin)
		}
	}
}
