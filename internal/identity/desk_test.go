package identity_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/identity"
	"github.com/zhenglian/zhenglian/internal/identity/gb/gbtest"
)

func (w *world) personal(n int) identity.Body {
	return identity.Body{Name: "王五", Document: identity.DocumentID, Number: number(n).Number()}
}

func (w *world) company(seq int) identity.Body {
	return identity.Body{Enterprise: "测试有限公司", USCC: gbtest.USCC(seq).String(), Representative: "赵六", RepresentativeNumber: number(500).Number(),
		Powers: []identity.Power{identity.PowerDeposit, identity.PowerSign}, From: w.now.Add(-time.Hour), To: w.now.Add(30 * 24 * time.Hour)}
}

// submitted is an application at the desk.
func (w *world) submitted(who identity.Who, kind identity.ApplicationKind, b identity.Body) *identity.Application {
	w.t.Helper()
	a, err := w.reg.Draft(w.ctx, who, kind)
	w.must(err)
	w.must(w.reg.SaveDraft(w.ctx, who, a.ID, b))
	if kind != identity.ApplyRecovery {
		_, err = w.reg.AddDocument(w.ctx, who, a.ID, `C:\scans\身份证.pdf`, pdf("card"))
		w.must(err)
	}
	w.must(w.reg.SubmitApplication(w.ctx, who, a.ID))
	a, err = w.reg.Application(w.ctx, who, a.ID)
	w.must(err)
	return a
}

func approve(level int) identity.Decision {
	return identity.Decision{Outcome: identity.ApplicationApproved, Level: level}
}

func application(t *testing.T, w *world) {
	officer, a := w.signedIn("officer", 2), w.signedIn("a", 0)
	app := w.submitted(a, identity.ApplyPerson, w.personal(50))
	if app.State != identity.ApplicationSubmitted || app.Documents[0].Name != "身份证.pdf" || app.Documents[0].Media != "application/pdf" {
		t.Errorf("%+v", app)
	}
	again, err := w.reg.Draft(w.ctx, a, identity.ApplyPerson)
	w.must(err)
	if again.ID != app.ID {
		t.Error("two undecided applications of one kind")
	}
	w.is(w.reg.SaveDraft(w.ctx, a, app.ID, w.personal(51)), identity.ErrState, "changing what the officer reads")
	queue, err := w.reg.Queue(w.ctx, officer, "")
	w.must(err)
	if len(queue) != 1 || queue[0].Body.Name != "" || queue[0].Documents != nil {
		t.Errorf("the queue tells whom: %+v", queue)
	}
	opened, err := w.reg.OpenApplication(w.ctx, officer, app.ID, "first check")
	w.must(err)
	if opened.Body.Name != "王五" || opened.Duplicate || opened.Own {
		t.Errorf("%+v", opened)
	}
	content, media, err := w.reg.OpenDocument(w.ctx, officer, app.ID, app.Documents[0].ID, "compare with the form")
	w.must(err)
	if !bytes.Equal(content, pdf("card")) || media != "application/pdf" {
		t.Errorf("%s %q", media, content)
	}
	_, err = w.reg.Decide(w.ctx, officer, app.ID, identity.Decision{Outcome: identity.ApplicationCorrection, Reason: "the back is missing"})
	w.must(err)
	got, err := w.reg.Application(w.ctx, a, app.ID)
	w.must(err)
	if got.State != identity.ApplicationCorrection || got.Reply != "the back is missing" || got.Officer != officer.Person {
		t.Errorf("%+v", got)
	}
	_, err = w.reg.Decide(w.ctx, officer, app.ID, approve(2))
	w.is(err, identity.ErrState, "deciding what is being corrected")
	w.must(w.reg.SubmitApplication(w.ctx, a, app.ID))
	_, err = w.reg.Decide(w.ctx, officer, app.ID, approve(3))
	w.must(err)
	_, err = w.reg.Decide(w.ctx, officer, app.ID, identity.Decision{Outcome: identity.ApplicationRefused, Reason: "x"})
	w.is(err, identity.ErrState, "deciding twice")
	p, err := w.reg.Person(w.ctx, a.Person)
	w.must(err)
	if p.Level != 3 || p.Name != "王五" {
		t.Errorf("%+v", p)
	}
	facts, err := w.reg.Facts(w.ctx, a.Person)
	w.must(err)
	for _, f := range facts {
		if f.Source != "desk:"+officer.Person || f.Level != 3 {
			t.Errorf("%s from %s at level %d", f.Name, f.Source, f.Level)
		}
	}
	if k := w.enrolled(a); k.Level != 3 {
		t.Errorf("enrolled at level %d", k.Level)
	}
	// The applicant can read who looked and why.
	log, err := w.reg.Accesses(w.ctx, a.Person, 100)
	w.must(err)
	seen := map[string]string{}
	for _, e := range log {
		if e.Actor == officer.Person {
			seen[e.Action] = e.Purpose
		}
	}
	if seen["open-application"] != "first check" || seen["open-document"] != "compare with the form" || seen["ask-correction"] == "" {
		t.Errorf("%v", seen)
	}
	if _, ok := seen["approve"]; !ok {
		t.Error("the approval is not in the log")
	}
	// Another applicant with the same card.
	b := w.signedIn("b", 0)
	app = w.submitted(b, identity.ApplyPerson, w.personal(50))
	opened, err = w.reg.OpenApplication(w.ctx, officer, app.ID, "check")
	w.must(err)
	if !opened.Duplicate {
		t.Error("the officer is not told that the document is registered")
	}
	_, err = w.reg.Decide(w.ctx, officer, app.ID, approve(2))
	w.is(err, identity.ErrDocument, "one document for two persons")
	if got, err := w.reg.Application(w.ctx, b, app.ID); err != nil || got.State != identity.ApplicationSubmitted {
		t.Errorf("%+v %v", got, err)
	}
}

func anothersApplication(t *testing.T, w *world) {
	a, b := w.signedIn("a", 0), w.signedIn("b", 0)
	draft, err := w.reg.Draft(w.ctx, a, identity.ApplyPerson)
	w.must(err)
	doc, err := w.reg.AddDocument(w.ctx, a, draft.ID, "a.pdf", pdf("a"))
	w.must(err)
	_, err = w.reg.Application(w.ctx, b, draft.ID)
	w.is(err, identity.ErrUnknown, "reading")
	w.is(w.reg.SaveDraft(w.ctx, b, draft.ID, w.personal(1)), identity.ErrUnknown, "writing")
	w.is(w.reg.SubmitApplication(w.ctx, b, draft.ID), identity.ErrUnknown, "submitting")
	w.is(w.reg.Withdraw(w.ctx, b, draft.ID), identity.ErrUnknown, "withdrawing")
	w.is(w.reg.RemoveDocument(w.ctx, b, draft.ID, doc), identity.ErrUnknown, "removing a paper")
	_, err = w.reg.AddDocument(w.ctx, b, draft.ID, "b.pdf", pdf("b"))
	w.is(err, identity.ErrUnknown, "adding a paper")
	_, _, err = w.reg.Document(w.ctx, b, draft.ID, doc)
	w.is(err, identity.ErrUnknown, "a paper")
	own, err := w.reg.Draft(w.ctx, b, identity.ApplyPerson)
	w.must(err)
	_, _, err = w.reg.Document(w.ctx, b, own.ID, doc)
	w.is(err, identity.ErrUnknown, "a paper through one's own application")
	w.is(w.reg.RemoveDocument(w.ctx, b, own.ID, doc), identity.ErrUnknown, "removing it through one's own")
	w.must(w.reg.Withdraw(w.ctx, a, draft.ID))
	w.is(w.reg.Withdraw(w.ctx, a, draft.ID), identity.ErrState, "withdrawing twice")
	var left int
	w.must(w.db.QueryRow(w.ctx, "SELECT COUNT(*) FROM documents").Scan(&left))
	if left != 0 {
		t.Errorf("%d papers are left", left)
	}
}

func officers(t *testing.T, w *world) {
	officer, operator, a := w.signedIn("officer", 0), w.signedIn("operator", 2), w.signedIn("a", 0)
	app := w.submitted(a, identity.ApplyPerson, w.personal(60))
	for name, who := range map[string]identity.Who{"the applicant": a, "an operator": operator} {
		_, err := w.reg.Queue(w.ctx, who, "")
		w.is(err, identity.ErrForbidden, name+" reads the queue")
		_, err = w.reg.OpenApplication(w.ctx, who, app.ID, "curious")
		w.is(err, identity.ErrForbidden, name+" opens")
		_, _, err = w.reg.OpenDocument(w.ctx, who, app.ID, app.Documents[0].ID, "curious")
		w.is(err, identity.ErrForbidden, name+" opens a paper")
		_, err = w.reg.Decide(w.ctx, who, app.ID, approve(3))
		w.is(err, identity.ErrForbidden, name+" decides")
	}
	_, err := w.reg.OpenApplication(w.ctx, officer, app.ID, "  ")
	var bad identity.FieldErrors
	if !errors.As(err, &bad) || bad[0].Field != "purpose" {
		t.Errorf("a look without a purpose: %v", err)
	}
	draft, err := w.reg.Draft(w.ctx, w.signedIn("c", 0), identity.ApplyPerson)
	w.must(err)
	_, err = w.reg.OpenApplication(w.ctx, officer, draft.ID, "early")
	w.is(err, identity.ErrUnknown, "a draft")
	_, err = w.reg.Queue(w.ctx, officer, identity.ApplicationDraft)
	w.is(err, identity.ErrForbidden, "the drafts")
	// Her own: she may look, another decides.
	own := w.submitted(officer, identity.ApplyPerson, w.personal(61))
	opened, err := w.reg.OpenApplication(w.ctx, officer, own.ID, "own")
	w.must(err)
	if !opened.Own {
		t.Error("the page is not told that it is her own")
	}
	_, err = w.reg.Decide(w.ctx, officer, own.ID, approve(3))
	w.is(err, identity.ErrForbidden, "her own application")
	_, err = w.reg.Decide(w.ctx, w.signedIn("officer2", 2), own.ID, approve(3))
	w.must(err)
	for name, d := range map[string]identity.Decision{"no reason": {Outcome: identity.ApplicationRefused}, "no outcome": {Reason: "x"}, "back to draft": {Outcome: identity.ApplicationDraft, Reason: "x"}, "level 1": approve(1), "level 4": approve(4)} {
		if _, err := w.reg.Decide(w.ctx, officer, app.ID, d); err == nil {
			t.Errorf("%s: decided", name)
		}
	}
}

func fields(t *testing.T, w *world) {
	a := w.signedIn("a", 2)
	wrong := func(kind identity.ApplicationKind, b identity.Body) string {
		t.Helper()
		app, err := w.reg.Draft(w.ctx, a, kind)
		w.must(err)
		w.must(w.reg.SaveDraft(w.ctx, a, app.ID, b))
		err = w.reg.SubmitApplication(w.ctx, a, app.ID)
		var bad identity.FieldErrors
		if !errors.As(err, &bad) {
			t.Fatalf("%+v: %v", b, err)
		}
		var words []string
		for _, f := range bad {
			words = append(words, f.Field+":"+f.Reason)
		}
		return strings.Join(words, " ")
	}
	if got := wrong(identity.ApplyPerson, identity.Body{}); got != "name:required document:unknown number:required documents:document-missing" {
		t.Error(got)
	}
	b := w.personal(1)
	b.Number = "119999199005170019"
	if got := wrong(identity.ApplyPerson, b); got != "number:id-number documents:document-missing" {
		t.Error(got)
	}
	if got := wrong(identity.ApplyEnterprise, identity.Body{}); got != "enterprise:required uscc:required representative:required representative-number:required powers:required to:dates documents:document-missing" {
		t.Error(got)
	}
	for name, change := range map[string]func(*identity.Body){
		"turned dates": func(b *identity.Body) { b.From, b.To = b.To, b.From }, "over": func(b *identity.Body) { b.From, b.To = w.now.Add(-48*time.Hour), w.now }, "too long": func(b *identity.Body) { b.To = b.From.AddDate(4, 0, 0) },
	} {
		b := w.company(1)
		change(&b)
		if got := wrong(identity.ApplyEnterprise, b); got != "to:dates documents:document-missing" {
			t.Errorf("%s: %s", name, got)
		}
	}
	b = w.company(1)
	b.USCC = "91119999T000000100"
	b.Powers = []identity.Power{"everything"}
	if got := wrong(identity.ApplyEnterprise, b); got != "uscc:uscc powers:unknown documents:document-missing" {
		t.Error(got)
	}
	if got := wrong(identity.ApplyRecovery, identity.Body{Member: "m:another", Remark: "lost"}); got != "member:unknown" {
		t.Error(got)
	}
	app, err := w.reg.Draft(w.ctx, a, identity.ApplyPerson)
	w.must(err)
	if err := w.reg.SaveDraft(w.ctx, a, app.ID, identity.Body{Remark: strings.Repeat("长", 3000)}); err == nil {
		t.Error("a remark without end")
	}
	if _, err := w.reg.Draft(w.ctx, a, "other"); err == nil {
		t.Error("an application of another kind")
	}
}

func documents(t *testing.T, w *world) {
	a := w.signedIn("a", 0)
	app, err := w.reg.Draft(w.ctx, a, identity.ApplyPerson)
	w.must(err)
	for name, content := range map[string][]byte{"empty": nil, "a page with a script": []byte("<html><script>alert(1)</script>"), "svg": []byte(`<svg xmlns="http://www.w3.org/2000/svg"/>`), "too large": append(pdf("x"), make([]byte, identity.MaxDocument)...)} {
		if _, err := w.reg.AddDocument(w.ctx, a, app.ID, "a.pdf", content); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	png := []byte("\x89PNG\x0D\x0A\x1A\x0A rest")
	for i := range 10 {
		if _, err := w.reg.AddDocument(w.ctx, a, app.ID, strings.Repeat("名", 100)+"\xff.png", png); err != nil {
			t.Fatalf("%d: %v", i, err)
		}
	}
	_, err = w.reg.AddDocument(w.ctx, a, app.ID, "a.png", png)
	var bad identity.FieldErrors
	if !errors.As(err, &bad) || bad[0].Reason != "too-many" {
		t.Errorf("%v", err)
	}
	app, err = w.reg.Application(w.ctx, a, app.ID)
	w.must(err)
	content, media, err := w.reg.Document(w.ctx, a, app.ID, app.Documents[3].ID)
	w.must(err)
	if media != "image/png" || !bytes.Equal(content, png) {
		t.Errorf("%s %q", media, content)
	}
	w.must(w.reg.RemoveDocument(w.ctx, a, app.ID, app.Documents[3].ID))
}

func enterprise(t *testing.T, w *world) {
	officer, agent, second := w.signedIn("officer", 2), w.signedIn("agent", 2), w.signedIn("second", 2)
	nobody := w.signedIn("nobody", 0)
	app, err := w.reg.Draft(w.ctx, nobody, identity.ApplyEnterprise)
	w.must(err)
	w.must(w.reg.SaveDraft(w.ctx, nobody, app.ID, w.company(1)))
	_, err = w.reg.AddDocument(w.ctx, nobody, app.ID, "a.pdf", pdf("licence"))
	w.must(err)
	w.is(w.reg.SubmitApplication(w.ctx, nobody, app.ID), identity.ErrLevel, "an agent nobody identified")

	app = w.submitted(agent, identity.ApplyEnterprise, w.company(1))
	done, err := w.reg.Decide(w.ctx, officer, app.ID, approve(0))
	w.must(err)
	own := w.enrolled(agent)
	members, err := w.reg.Members(w.ctx, agent)
	w.must(err)
	if len(members) != 2 || members[0].ID != own.Member || members[1].ID != done.Member || members[1].Kind != evidence.KindEnterprise || members[1].Name != "测试有限公司" {
		t.Fatalf("%+v", members)
	}
	if !members[1].May(identity.PowerSign) || members[1].May(identity.PowerFile) || !members[0].May(identity.PowerFile) {
		t.Errorf("powers %v and %v", members[1].Powers, members[0].Powers)
	}
	k, err := w.reg.EnrolKey(w.ctx, agent, identity.NewKey{Member: done.Member, Public: publicKey(t), Holder: identity.HolderToken})
	w.must(err)
	w.must(w.reg.Deliver(w.ctx))
	all := w.log.of(evidence.TypeEnrolment)
	e, err := evidence.ParseEnrolment(all[len(all)-1])
	w.must(err)
	if e.Kind != evidence.KindEnterprise || e.Member != done.Member || e.Assurance != 2 {
		t.Errorf("%+v", e)
	}
	// A second agent of the same enterprise: the same member, other keys.
	body := w.company(1)
	body.Powers = []identity.Power{identity.PowerKeys}
	app = w.submitted(second, identity.ApplyEnterprise, body)
	opened, err := w.reg.OpenApplication(w.ctx, officer, app.ID, "check")
	w.must(err)
	if !opened.Duplicate {
		t.Error("the officer is not told that the enterprise is a member")
	}
	_, err = w.reg.Key(w.ctx, second, k.KID)
	w.is(err, identity.ErrUnknown, "before the mandate")
	again, err := w.reg.Decide(w.ctx, officer, app.ID, approve(0))
	w.must(err)
	if again.Member != done.Member {
		t.Errorf("two members for one code")
	}
	got, err := w.reg.Key(w.ctx, second, k.KID) // who looks after keys
	w.must(err)
	if got.Person != agent.Person {
		t.Errorf("%+v", got)
	}
	k2, err := w.reg.EnrolKey(w.ctx, second, identity.NewKey{Member: done.Member, Public: publicKey(t), Holder: identity.HolderToken})
	w.must(err)
	_, err = w.reg.Key(w.ctx, agent, k2.KID)
	w.is(err, identity.ErrUnknown, "another agent's key without that power")
	w.must(w.reg.Revoke(w.ctx, second, k.KID, identity.ReasonAffiliation))
}

func mandateEnds(t *testing.T, w *world) {
	officer, agent := w.signedIn("officer", 2), w.signedIn("agent", 2)
	own := w.enrolled(agent)
	done, err := w.reg.Decide(w.ctx, officer, w.submitted(agent, identity.ApplyEnterprise, w.company(2)).ID, approve(0))
	w.must(err)
	k, err := w.reg.EnrolKey(w.ctx, agent, identity.NewKey{Member: done.Member, Public: publicKey(t), Holder: identity.HolderBrowser})
	w.must(err)
	w.bound(agent, done.Member)
	w.must(w.reg.Sweep(w.ctx))
	w.now = w.now.Add(30 * 24 * time.Hour) // the mandate's end, not included
	_, err = w.reg.EnrolKey(w.ctx, agent, identity.NewKey{Member: done.Member, Public: publicKey(t), Holder: identity.HolderBrowser})
	w.is(err, identity.ErrUnknown, "enrolling after the mandate")
	_, err = w.reg.BeginAct(w.ctx, agent, done.Member, digest("x"))
	w.is(err, identity.ErrUnknown, "acting after the mandate")
	w.must(w.reg.Sweep(w.ctx))
	w.must(w.reg.Sweep(w.ctx))
	w.must(w.reg.Deliver(w.ctx))
	if n := len(w.log.of(evidence.TypeRevocation)); n != 2 {
		t.Errorf("%d revocations, want the key's and the passkey's", n)
	}
	got, err := w.reg.Key(w.ctx, agent, k.KID)
	w.must(err)
	if got.State != identity.StateRevoked || got.Reason != identity.ReasonAffiliation {
		t.Errorf("%+v", got)
	}
	if got, err = w.reg.Key(w.ctx, agent, own.KID); err != nil || got.State != identity.StateEnrolled {
		t.Errorf("her own key: %+v %v", got, err)
	}
}

func recovery(t *testing.T, w *world) {
	officer, a, b := w.signedIn("officer", 2), w.signedIn("a", 2), w.signedIn("b", 2)
	k := w.enrolled(a)
	d := w.bound(a, k.Member)
	before, err := w.reg.Person(w.ctx, a.Person)
	w.must(err)
	app := w.submitted(a, identity.ApplyRecovery, identity.Body{Member: k.Member, Stolen: true, Remark: "taken on the bus"})
	done, err := w.reg.Decide(w.ctx, officer, app.ID, approve(0))
	w.must(err)
	w.must(w.reg.Deliver(w.ctx))
	revoked := w.log.of(evidence.TypeRevocation)
	if len(revoked) != 2 {
		t.Fatalf("%d revocations", len(revoked))
	}
	r, err := evidence.ParseRevocation(revoked[0])
	w.must(err)
	if r.Reason != uint64(identity.ReasonCompromise) {
		t.Errorf("reason %d", r.Reason)
	}
	after, err := w.reg.Person(w.ctx, a.Person)
	w.must(err)
	if after.Generation == before.Generation {
		t.Error("the thief's session goes on")
	}
	// Without the code the sign-in alone, which may be the thief's, gets nothing.
	newKey := identity.NewKey{Public: publicKey(t), Holder: identity.HolderBrowser}
	_, err = w.reg.EnrolKey(w.ctx, a, newKey)
	w.is(err, identity.ErrPermission, "a key without the code")
	_, err = w.reg.Recover(w.ctx, b, done.RecoveryCode)
	w.is(err, identity.ErrCeremony, "another's code")
	_, err = w.reg.Recover(w.ctx, a, "aaaaa-aaaaa-aaaaa-aaaaa")
	w.is(err, identity.ErrCeremony, "a guess")
	w.now = w.now.Add(6 * 24 * time.Hour)
	member, err := w.reg.Recover(w.ctx, a, " "+strings.ToUpper(done.RecoveryCode)+" ")
	w.must(err)
	if member != k.Member {
		t.Errorf("%s", member)
	}
	_, err = w.reg.Recover(w.ctx, a, done.RecoveryCode)
	w.is(err, identity.ErrCeremony, "the code a second time")
	fresh, err := w.reg.EnrolKey(w.ctx, a, newKey)
	w.must(err)
	if fresh.Member != k.Member {
		t.Error("another member")
	}
	c, err := w.reg.BeginPasskey(w.ctx, a, k.Member, "old phone")
	w.must(err)
	_, err = w.reg.FinishPasskey(w.ctx, a, c.ID, d.create(t, c, origin))
	w.is(err, identity.ErrTaken, "the stolen phone again")
	_ = w.bound(a, k.Member) // the new one
	app = w.submitted(a, identity.ApplyRecovery, identity.Body{Member: k.Member, Remark: "again"})
	done, err = w.reg.Decide(w.ctx, officer, app.ID, approve(0))
	w.must(err)
	w.now = w.now.Add(7 * 24 * time.Hour)
	_, err = w.reg.Recover(w.ctx, a, done.RecoveryCode)
	w.is(err, identity.ErrCeremony, "a code seven days old")
}
