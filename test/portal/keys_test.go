package portal

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/zhenglian/zhenglian/internal/tour/walk"
)

// A key is revoked from another device while a deposit is being filled in: the
// deposit is refused and the page says why; what was deposited before stands, and
// openssl hears of the revocation by OCSP and by the list.
func TestRevokedKey(t *testing.T) {
	s := tell(t)
	w := s.visitor(wide(walk.Chinese))
	s.must(w.SignIn(s.ctx, walk.Ma))
	text(s)(w.MakeKey(s.ctx, "值班电脑"))
	s.must(w.KeepPaper(s.ctx))
	file, _ := s.photo("机房巡检.jpg", 90_000)
	trail := text(s)(w.Deposit(s.ctx, walk.Deposit{Files: []string{file}, Step: "巡检照片"}))
	s.must(w.Record(s.ctx, trail, "巡检照片"))
	before := text(s)(w.Package(s.ctx))
	certificate := s.checkCertificate(before)
	kid := s.member(w).Keys[0].KID

	s.must(w.FillDeposit(s.ctx, walk.Deposit{Files: []string{file}, Step: "吊销以后"}))
	other := s.visitor(narrow(walk.English))
	s.must(other.SignIn(s.ctx, walk.Ma))
	s.must(other.Revoke(s.ctx, kid))
	s.must(w.Press(s.ctx))
	s.must(w.WaitText(s.ctx, "密钥已被吊销"))
	s.must(w.WaitText(s.ctx, "请新建密钥"))
	s.must(w.Open(s.ctx, "/deposit"))
	s.must(w.WaitText(s.ctx, "本浏览器的密钥已被吊销"))

	// The record is still hers to read and to hand out.
	s.must(w.Record(s.ctx, trail, "巡检照片"))
	after := text(s)(w.Package(s.ctx))
	for when, packet := range map[string]string{"before": before, "after": after} {
		if report, status := s.verify(packet); status != 0 {
			t.Errorf("the package made %s the revocation: %d\n%s", when, status, report)
		}
	}
	if out := s.ocsp(certificate); !strings.Contains(out, ": revoked") {
		t.Errorf("openssl ocsp says:\n%s", out)
	}
	list := filepath.Join(s.TempDir(), "list.crl")
	a := s.session().get("/ca/p256.crl")
	s.must(os.WriteFile(list, []byte(a.body), 0o600))
	if out, err := s.openssl("verify", "-crl_check", "-CAfile", s.root(), "-CRLfile", list, certificate); err == nil || !strings.Contains(out, "certificate revoked") {
		t.Errorf("openssl verify -crl_check: %v\n%s", err, out)
	}
}

// A phone is lost. The registration desk makes sure who she is and hands a code
// over; her old keys and passkey end with her sessions; on a new phone she makes
// a new key, and the recovery key from paper opens her old photo.
func TestLostPhone(t *testing.T) {
	s := tell(t)
	officer := s.visitor(wide(walk.English))
	s.must(officer.SignIn(s.ctx, walk.Sun))
	old := s.visitor(narrow(walk.English))
	phone, err := old.AddAuthenticator(s.ctx)
	s.must(err)
	s.must(old.SignIn(s.ctx, walk.Wu))
	application := text(s)(old.Apply(s.ctx, walk.Application{Name: "吴小满", Number: "119999199907239032", Papers: []string{s.pdf("front.pdf"), s.pdf("back.pdf")}}))
	s.must(officer.Examine(s.ctx, application, "first check of the card"))
	text(s)(officer.Decide(s.ctx, walk.Decision{Outcome: "approved", Level: 3}))
	paper := text(s)(old.MakeKey(s.ctx, "red phone"))
	s.must(old.KeepPaper(s.ctx))
	s.must(old.AddPasskey(s.ctx, "", "red phone"))
	file, mark := s.photo("the-stairs-in-the-morning.jpg", 150_000)
	trail := text(s)(old.Deposit(s.ctx, walk.Deposit{Files: []string{file}, Step: "The broken stairs", Confirm: true}))
	lostKey := s.member(old).Keys[0].KID
	lostPasskeys, err := phone.Credentials(s.ctx)
	s.must(err)

	// The new phone knows nothing, and no key can be made there without the old
	// passkey or the desk.
	fresh := s.visitor(narrow(walk.English))
	if _, err := fresh.AddAuthenticator(s.ctx); err != nil {
		t.Fatal(err)
	}
	s.must(fresh.SignIn(s.ctx, walk.Wu))
	request, _ := s.opensslKey()
	if got := s.fetch(fresh, "POST", "/app/keys", map[string]any{"request": []byte(request), "label": "thief"}); got.Status != 403 || !strings.Contains(got.Body, "recovery code") {
		t.Errorf("a key without the passkey: %d %s", got.Status, got.Body)
	}
	lost := text(s)(fresh.Lose(s.ctx, "left in a taxi on the third ring road", true))
	s.must(officer.Examine(s.ctx, lost, "she came with her identity card"))
	code := text(s)(officer.Decide(s.ctx, walk.Decision{Outcome: "approved"}))

	// Sessions, key and passkey of before are over.
	s.must(old.Open(s.ctx, "/records"))
	if path := text(s)(old.Path(s.ctx)); !strings.HasPrefix(path, "/signin") {
		t.Errorf("the lost phone is still signed in, at %s", path)
	}
	s.must(fresh.SignIn(s.ctx, walk.Wu))
	s.eventually("the log to have the revocations", func() error {
		for _, k := range s.member(fresh).Keys {
			if k.KID == lostKey && !k.Revoked {
				return errNotYet
			}
		}
		return nil
	})
	s.must(fresh.Open(s.ctx, "/keys"))
	if page := text(s)(fresh.Text(s.ctx)); strings.Contains(page, "in force") {
		t.Errorf("after the recovery something is still in force:\n%s", page)
	}
	if got := s.fetch(fresh, "POST", "/app/keys", map[string]any{"request": []byte(request), "label": "before the code"}); got.Status != 403 {
		t.Errorf("a key without the code: %d %s", got.Status, got.Body)
	}
	// The thief has the sign-in too, but not the code.
	thief := s.signIn(walk.Wu)
	if a := thief.post("/en/lost/code", "code", "AAAAA-AAAAA-AAAAA-AAAAA"); a.status != 422 {
		t.Errorf("a guessed code answers %d", a.status)
	}
	if a := s.signIn(walk.Gao).post("/en/lost/code", "code", code); a.status != 422 {
		t.Errorf("somebody else with the code gets %d", a.status)
	}
	s.must(fresh.Recover(s.ctx, code))
	if a := thief.post("/en/lost/code", "code", code); a.status != 422 {
		t.Errorf("the code a second time answers %d", a.status)
	}
	fresh.Console() // has the refusals that were asked for
	s.must(fresh.RestoreKey(s.ctx, "blue phone", strings.ToLower(paper)))
	s.must(fresh.AddPasskey(s.ctx, "", "blue phone"))
	s.must(fresh.Record(s.ctx, trail, "The broken stairs"))
	copied := text(s)(fresh.File(s.ctx, filepath.Base(file)))
	data, err := os.ReadFile(copied)
	s.must(err)
	if !strings.Contains(string(data), string(mark)) {
		t.Error("the photo that opens on the new phone is another one")
	}
	packet := text(s)(fresh.Package(s.ctx))
	if report, status := s.verify(packet); status != 0 {
		t.Errorf("the package from the new phone: %d\n%s", status, report)
	}
	second, _ := s.photo("the-stairs-again.jpg", 50_000)
	text(s)(fresh.Deposit(s.ctx, walk.Deposit{Files: []string{second}, Step: "The stairs, a week later", Confirm: true}))

	// The lost passkey confirms nothing any more.
	got := s.fetch(fresh, "POST", "/app/acts", map[string]string{"digest": strings.Repeat("ab", 32)})
	if got.Status != 200 || !strings.Contains(got.Body, "allowCredentials") {
		t.Errorf("an act begins with %d %s", got.Status, got.Body)
	}
	for _, c := range lostPasskeys {
		if strings.Contains(got.Body, base64.RawURLEncoding.EncodeToString(c.CredentialID)) {
			t.Errorf("the lost passkey is still offered: %s", got.Body)
		}
	}
	s.quiet(fresh)
}
