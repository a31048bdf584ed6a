package portal

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/zhenglian/zhenglian/evidence"
	memberhome "github.com/zhenglian/zhenglian/internal/member"
	"github.com/zhenglian/zhenglian/internal/store"
	"github.com/zhenglian/zhenglian/internal/tour"
	"github.com/zhenglian/zhenglian/internal/tour/walk"
)

// days of a mandate, from today on.
func days(n int) (from, to string) {
	now := time.Now().In(time.FixedZone("", 8*3600))
	return now.Format(time.DateOnly), now.AddDate(0, 0, n).Format(time.DateOnly)
}

// pdf writes a paper of an application.
func (s *story) pdf(name string) string {
	s.Helper()
	path := filepath.Join(s.TempDir(), name)
	s.must(os.WriteFile(path, []byte("%PDF-1.7\n% "+name+"\n%%EOF\n"), 0o600))
	return path
}

// company applies for the demonstration's enterprise and is approved.
func company(s *story, w *walk.Walker, powers ...string) walk.Application {
	s.Helper()
	from, to := days(180)
	return walk.Application{Enterprise: walk.Company, Code: walk.CompanyCode, Representative: walk.Zhao.Name(walk.Chinese), RepresNumber: "119999197903099053",
		Powers: powers, From: from, To: to, Papers: []string{s.pdf("licence.pdf"), s.pdf("mandate.pdf")}}
}

// An enterprise becomes a member through the registration desk: refused once with
// a reason, asked for a correction, approved. Its agent deposits under a mandate,
// by a platform's key and in her browser, and when the mandate has ended she cannot.
func TestEnterprise(t *testing.T) {
	s := tell(t)
	officer := s.visitor(wide(walk.Chinese))
	s.must(officer.SignIn(s.ctx, walk.Sun))
	zhao := s.visitor(wide(walk.Chinese))
	s.must(zhao.SignIn(s.ctx, walk.Zhao))

	first := text(s)(zhao.Apply(s.ctx, company(s, zhao, "deposit", "sign", "file", "keys")))
	s.must(officer.Examine(s.ctx, first, "初审"))
	text(s)(officer.Decide(s.ctx, walk.Decision{Outcome: "refused", Reason: "营业执照已注销版本，请提交现行执照"}))
	s.must(zhao.Open(s.ctx, "/apply/"+first))
	s.must(zhao.WaitText(s.ctx, "营业执照已注销版本"))
	s.must(zhao.WaitText(s.ctx, "未批准"))

	second := text(s)(zhao.Apply(s.ctx, company(s, zhao, "deposit", "sign", "file", "keys")))
	s.must(officer.Examine(s.ctx, second, "重新申请的初审"))
	text(s)(officer.Decide(s.ctx, walk.Decision{Outcome: "correct", Reason: "授权书缺少签字页"}))
	s.must(zhao.Open(s.ctx, "/apply/"+second))
	s.must(zhao.WaitText(s.ctx, "授权书缺少签字页"))
	s.must(zhao.Amend(s.ctx, second, walk.Application{Papers: []string{s.pdf("signature-page.pdf")}}))
	s.must(officer.Examine(s.ctx, second, "复核补正"))
	text(s)(officer.Decide(s.ctx, walk.Decision{Outcome: "approved"}))
	s.must(zhao.Open(s.ctx, "/keys"))
	s.must(zhao.WaitText(s.ctx, walk.Company))
	s.must(zhao.Open(s.ctx, "/keys/log"))
	s.must(zhao.WaitText(s.ctx, "复核补正")) // who looked, and why

	// The agent, in English on her phone.
	he := s.visitor(narrow(walk.English))
	s.must(he.SignIn(s.ctx, walk.He))
	third := text(s)(he.Apply(s.ctx, company(s, he, "deposit")))
	s.must(officer.Examine(s.ctx, third, "经办人授权"))
	s.must(officer.WaitText(s.ctx, "信用代码已登记"))
	text(s)(officer.Decide(s.ctx, walk.Decision{Outcome: "approved"}))
	s.must(he.Open(s.ctx, "/keys"))
	s.must(he.WaitText(s.ctx, walk.Company))

	// Her key is in the company's systems: made by openssl as the page says.
	request, key := s.opensslKey()
	s.must(he.Open(s.ctx, "/keys/request"))
	s.must(he.Fill(s.ctx, "Name…", "archive server"))
	member := text(s)(tour.Eval[string](s.ctx, he.Visitor, `(([request, name]) => { const option = [...document.querySelector("#member").options].find((o) => o.text.includes(name));
		document.querySelector("#member").value = option.value; document.querySelector("#request").value = request; return option.value; })(`+quoted(request, walk.Company)+`)`))
	s.must(he.Click(s.ctx, "button", "Enrol"))
	s.must(he.WaitText(s.ctx, "The key is enrolled and its certificate issued."))

	// The agent's own platform deposits for the enterprise.
	signer, err := evidence.NewSigner(key)
	s.must(err)
	c := s.client(signer)
	enrolled, err := c.Member(s.ctx, signer.Public().KID())
	s.must(err)
	if enrolled.Holder != member || enrolled.Kind != "enterprise" {
		t.Fatalf("the log has the key under %+v", enrolled)
	}
	r, _, err := c.Registration(s.ctx, enrolled.EnrolledAt)
	s.must(err)
	st, err := evidence.ParseStatement(r.Statement)
	s.must(err)
	enrolment, err := evidence.ParseEnrolment(st.Payload)
	s.must(err)
	vaultKey, err := age.GenerateX25519Identity()
	s.must(err)
	home := func() *memberhome.Home {
		h, err := memberhome.Open(s.ctx, memberhome.Config{Dir: filepath.Join(s.TempDir(), "platform"), Signer: signer, Identity: vaultKey, Recipient: vaultKey.Recipient(),
			Person: evidence.Person{Member: member, Commitment: enrolment.Commitment, Assurance: int(enrolment.Assurance), Demo: enrolment.Demo}})
		s.must(err)
		s.Cleanup(func() { s.must(h.Close()) })
		return h
	}()
	contract := filepath.Join(s.TempDir(), "contract.txt")
	s.must(os.WriteFile(contract, []byte("a contract of the company"), 0o600))
	deposit := func() (evidence.Digest, error) { return depositPlain(s, home, c, contract) }
	trail, err := deposit()
	s.must(err)
	packet := filepath.Join(s.TempDir(), "company.zip")
	f, err := os.Create(packet)
	s.must(err)
	_, err = home.Package(s.ctx, c, trail, f)
	s.must(err)
	s.must(f.Close())
	report, status := s.verify(packet)
	if status != 0 || !strings.Contains(report, member) {
		t.Errorf("the company's package: %d\n%s", status, report)
	}

	// And she does in her browser, with a key and a passkey for the enterprise.
	_, err = he.AddAuthenticator(s.ctx)
	s.must(err)
	s.must(he.ActFor(s.ctx, walk.Company))
	text(s)(he.MakeKey(s.ctx, "He's phone"))
	s.must(he.KeepPaper(s.ctx))
	s.must(he.AddPasskey(s.ctx, member, "He's phone"))
	offer, _ := s.photo("offer-of-the-company.jpg", 50_000)
	inBrowser := text(s)(he.Deposit(s.ctx, walk.Deposit{Files: []string{offer}, Step: "Offer as sent", Confirm: true}))
	s.must(he.Record(s.ctx, inBrowser, "Offer as sent"))
	s.must(he.WaitText(s.ctx, walk.Company))
	made := text(s)(he.Package(s.ctx))
	if report, status := s.verify(made); status != 0 || !strings.Contains(report, member) || !strings.Contains(strings.ToLower(report), "passkey") {
		t.Errorf("the package that the agent made in her browser: %d\n%s", status, report)
	}
	// For herself this browser has no such key.
	s.must(he.ActForSelf(s.ctx))
	s.must(he.Open(s.ctx, "/deposit/key"))
	s.must(he.WaitText(s.ctx, "Make and enrol the key"))
	s.must(he.ActFor(s.ctx, walk.Company))
	s.must(he.Record(s.ctx, inBrowser, "Offer as sent"))
	// The representative sees it. It opens with the agent's keys alone, and the page says so.
	s.must(zhao.ActFor(s.ctx, walk.Company))
	text(s)(zhao.MakeKey(s.ctx, "赵的电脑"))
	s.must(zhao.KeepPaper(s.ctx))
	s.must(zhao.Open(s.ctx, "/records/"+inBrowser))
	s.must(zhao.WaitText(s.ctx, "加密给了办理存证的代理人的密钥"))
	if page := text(s)(zhao.Text(s.ctx)); strings.Contains(page, "Offer as sent") {
		t.Errorf("the representative's browser opened the agent's manifest:\n%s", page)
	}

	// The mandate ends: its last day is over when the portal starts again.
	s.must(shared.portal.Stop())
	s.endMandate(member, third)
	s.must(shared.portal.Start(s.ctx, portalEnv))
	s.must(shared.portal.WaitReady(s.ctx))
	s.eventually("the agent's key to be revoked", func() error {
		k, err := c.Member(s.ctx, signer.Public().KID())
		if err == nil && !k.Revoked {
			err = errNotYet
		}
		return err
	})
	if _, err := deposit(); err == nil || !strings.Contains(err.Error(), evidence.CodeRevokedKey.String()) {
		t.Errorf("after the mandate a deposit answers %v", err)
	}
	s.must(he.Open(s.ctx, "/keys"))
	s.must(he.WaitText(s.ctx, "Your mandate for the enterprise is over."))
	page := text(s)(he.Text(s.ctx))
	if strings.Contains(page, walk.Company) {
		t.Errorf("after the mandate she still acts for the company:\n%s", page)
	}
	s.must(he.Open(s.ctx, "/keys/log"))
	s.must(he.WaitText(s.ctx, "the mandate ended; keys were revoked"))
	// What she deposited while it ran stands, and the representative's mandate goes on.
	for _, packet := range []string{packet, made} {
		if report, status := s.verify(packet); status != 0 {
			t.Errorf("the package from before: %d\n%s", status, report)
		}
	}
	s.must(zhao.Open(s.ctx, "/keys"))
	s.must(zhao.WaitText(s.ctx, walk.Company))
	for _, w := range []*walk.Walker{officer, zhao, he} {
		s.quiet(w)
	}
}

// opensslKey makes a key and its certificate request by the commands that the
// page shows.
func (s *story) opensslKey() (request string, key crypto.Signer) {
	s.Helper()
	dir := s.TempDir()
	keyFile, csr := filepath.Join(dir, "key.pem"), filepath.Join(dir, "request.pem")
	for _, args := range [][]string{{"genpkey", "-algorithm", "ed25519", "-out", keyFile}, {"req", "-new", "-key", keyFile, "-subj", "/", "-out", csr}} {
		if out, err := s.openssl(args...); err != nil {
			s.Fatalf("openssl: %v\n%s", err, out)
		}
	}
	data, err := os.ReadFile(csr)
	s.must(err)
	secret, err := os.ReadFile(keyFile)
	s.must(err)
	block, _ := pem.Decode(secret)
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	s.must(err)
	return string(data), parsed.(crypto.Signer)
}

// endMandate lets the time of a mandate pass: the one row says until when.
func (s *story) endMandate(member, application string) {
	s.Helper()
	db, err := store.Open(s.ctx, filepath.Join(portalHome(), "portal", "portal.db"))
	s.must(err)
	s.must(db.In(s.ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(s.ctx, "UPDATE mandates SET ends = $1 WHERE member = $2 AND application = $3", time.Now().Add(-time.Second).UnixMilli(), member, application)
		return err
	}))
	s.must(db.Close())
}
