package verify_test

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"html"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/evidence/webauthn/webauthntest"
	"github.com/zhenglian/zhenglian/internal/testalliance"
	"github.com/zhenglian/zhenglian/verify"
	"github.com/zhenglian/zhenglian/verify/render"
)

const (
	site   = "portal.example"
	origin = "https://portal.example"
)

// office is a certification authority in memory.
type office struct {
	key  ed25519.PrivateKey
	cert *x509.Certificate
}

func newOffice(t testing.TB, name string) *office {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Unix(testalliance.Start, 0).AddDate(-1, 0, 0),
		NotAfter: time.Unix(testalliance.Start, 0).AddDate(9, 0, 0), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	return &office{key, cert}
}

func (o *office) entry(id string) evidence.CertificateAuthority {
	return evidence.CertificateAuthority{ID: id, Certificate: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: o.cert.Raw}))}
}

// issue makes a certificate of a key, valid from to until seconds after Start.
func (o *office) issue(t testing.TB, key *evidence.PublicKey, serial, from, until int64) (chain []byte, c *evidence.Certificate) {
	t.Helper()
	pub, err := x509.ParsePKIXPublicKey(key.DER())
	must(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "m:li"},
		NotBefore: time.Unix(testalliance.Start+from, 0), NotAfter: time.Unix(testalliance.Start+until, 0), KeyUsage: x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(rand.Reader, template, o.cert, pub.(crypto.PublicKey), o.key)
	must(t, err)
	chain = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return chain, &evidence.Certificate{KID: key.KID(), Serial: evidence.CertificateSerial(template.SerialNumber), NotBefore: testalliance.Start + from,
		NotAfter: testalliance.Start + until, SHA256: evidence.SumSHA256(der)}
}

// signing is the story of an act: Li has a certificate and a passkey, and signs
// an agreement with both.
type signing struct {
	*testalliance.Alliance
	t      testing.TB
	li     *testalliance.Member
	auth   *webauthntest.Authenticator
	office *office
	chain  []byte
	trail  evidence.Digest
}

type plot struct {
	assurance, level int  // of Li's enrolment, demanded by the policy
	demo, passkey    bool // Li is a demonstration identity; the passkey is one's
	binder           string
	member           string                             // whose the passkey is
	before           func(*signing)                     // after the passkey was bound and before the act
	confirm          func(*signing, *evidence.Manifest) // default: honestly
	after            func(*signing)
	unbound, late    bool // the passkey is never registered; only after the act
	from, until      int64
	certifier        string
	noCertificate    bool
}

func act(t testing.TB, p plot) *signing {
	t.Helper()
	a, err := testalliance.New("act", 4)
	must(t, err)
	s := &signing{Alliance: a, t: t, auth: webauthntest.New(site), office: newOffice(t, "示范数字证书认证中心")}
	if p.assurance == 0 {
		p.assurance = 3
	}
	s.li, err = a.Enrol("m:li", p.assurance, p.demo)
	must(t, err)
	bind := func() {
		k := &evidence.Passkey{Member: "m:li", Key: s.auth.Key(), Credential: s.auth.Credential(), RelyingParty: site, Demo: p.passkey}
		if p.member != "" {
			k.Member = p.member
		}
		by := "ca"
		if p.binder != "" {
			by = p.binder
		}
		must(t, a.BindPasskey(by, k))
	}
	if !p.unbound && !p.late {
		bind()
	}
	if p.until == 0 {
		p.from, p.until = -86400, 86400*200
	}
	if !p.noCertificate {
		var c *evidence.Certificate
		s.chain, c = s.office.issue(t, s.li.Signer.Public(), 4711, p.from, p.until)
		by := "ca"
		if p.certifier != "" {
			by = p.certifier
		}
		must(t, a.Certify(by, c))
	}
	if p.before != nil {
		p.before(s)
	}
	s.trail, err = a.Open(s.li, testalliance.Step{Name: "签署协议", Objects: map[string][]byte{"agreement.txt": []byte("协议")}, Act: func(m *evidence.Manifest) error {
		m.Act = &evidence.Act{Kind: "sign"}
		if p.confirm != nil {
			p.confirm(s, m)
			return nil
		}
		s.confirm(m, s.auth)
		return nil
	}})
	must(t, err)
	if p.late {
		bind()
	}
	if p.after != nil {
		p.after(s)
	}
	must(t, a.Policy.AddCertificateAuthority(s.office.entry("ca")))
	a.Policy.Acts = []evidence.ActRule{{Kind: "sign", Assurance: 2, Passkey: true}}
	if p.level != 0 {
		a.Policy.Acts[0].Assurance = p.level
	}
	must(t, a.Policy.Validate())
	return s
}

func (s *signing) confirm(m *evidence.Manifest, with *webauthntest.Authenticator) {
	challenge, err := m.ActDigest()
	must(s.t, err)
	m.Act.Passkey = with.Assert(challenge, origin, true)
}

func (s *signing) pack(alter func(c *testalliance.Content)) []byte {
	s.t.Helper()
	c, err := s.Content(s.trail)
	must(s.t, err)
	if s.chain != nil {
		c.Certificates = [][]byte{s.chain}
	}
	if alter != nil {
		alter(c)
	}
	return encode(s.t, c)
}

func TestAct(t *testing.T) {
	s := act(t, plot{})
	rep := check(t, s.pack(nil), verify.Options{Policy: s.Policy})
	wants(t, rep, verify.Matches, "act-confirmed", "passkey-holds", "assurance-reached", "issuance-holds", "certificate-holds", "certificate-covers")
	st := rep.Steps[0]
	if st.Act == nil || st.Act.Kind != "sign" || st.Act.Passkey == nil || st.Act.Passkey.Verdict != verify.Matches || st.Act.Passkey.RelyingParty != site || st.Act.MinimumAssurance != 2 || !st.Act.PasskeyDemanded {
		t.Errorf("%+v", st.Act)
	}
	if c := st.Certificate; c == nil || !c.Shown || !c.Chained || c.Serial != "1267" || c.Assurance != 3 || c.Institution != "ca" || c.Subject != "CN=m:li" {
		t.Errorf("%+v", st.Certificate)
	}
	status := func(rep *verify.Report) bool {
		return slices.ContainsFunc(rep.NotProven, func(why verify.Reason) bool { return why.Key == "not-proven-passkey-status" })
	}
	if !status(rep) || status(check(t, s.pack(nil), verify.Options{Policy: s.Policy, Log: s.Log("court")})) {
		t.Error("offline the passkey's status is open, before the court it is not")
	}
	// The court's own registry says the same.
	wants(t, check(t, s.pack(nil), verify.Options{Policy: s.Policy, Log: s.Log("court")}), verify.Matches, "act-confirmed")
	// It also knows the passkey when the package leaves it out.
	wants(t, check(t, s.pack(func(c *testalliance.Content) { clear(c.Passkeys) }), verify.Options{Policy: s.Policy, Log: s.Log("court")}), verify.Matches, "act-confirmed")
	// A policy that demands nothing still has what is there checked.
	s.Policy.Acts, s.Policy.CertificateAuthorities = nil, nil
	rep = check(t, s.pack(nil), verify.Options{Policy: s.Policy})
	wants(t, rep, verify.Matches, "act-confirmed", "certificate-registered")
	if find(rep, "assurance-reached") != nil || rep.Steps[0].Certificate.Chained {
		t.Error("a policy without demands made some")
	}
	// So does the alliance's id alone.
	id := s.ID()
	wants(t, check(t, s.pack(nil), verify.Options{Alliance: &id}), verify.Matches, "act-confirmed")
	// The certificate holds her name, so that she may keep it to herself.
	rep = check(t, s.pack(func(c *testalliance.Content) { c.Certificates = nil }), verify.Options{Policy: s.Policy})
	wants(t, rep, verify.Matches, "certificate-covers")
	if c := rep.Steps[0].Certificate; c == nil || c.Shown || c.Subject != "" {
		t.Errorf("%+v", c)
	}
}

// An authority that replaced its key: a package with a certificate under the old
// root holds under a policy that names both, in any order, and under one that
// names the old one alone; under the new one alone it does not.
func TestReplacedAuthority(t *testing.T) {
	s := act(t, plot{})
	pkg, old, next := s.pack(nil), s.office.entry("ca"), newOffice(t, "示范数字证书认证中心 2").entry("ca")
	for _, tc := range []struct {
		name  string
		named []evidence.CertificateAuthority
		want  verify.Verdict
		why   string
	}{
		{"both", []evidence.CertificateAuthority{next, old}, verify.Matches, "certificate-holds"},
		{"the old one", []evidence.CertificateAuthority{old}, verify.Matches, "certificate-holds"},
		{"the new one", []evidence.CertificateAuthority{next}, verify.DoesNotMatch, "certificate-chain"},
	} {
		s.Policy.CertificateAuthorities = nil
		for _, c := range tc.named {
			must(t, s.Policy.AddCertificateAuthority(c))
		}
		rep := check(t, pkg, verify.Options{Policy: s.Policy})
		wants(t, rep, tc.want, tc.why)
		if c := rep.Steps[0].Certificate; c == nil || c.Chained != (tc.want == verify.Matches) {
			t.Errorf("%s: %+v", tc.name, c)
		}
	}
	// And a certificate under the new root, the other way round.
	n := act(t, plot{})
	pkg = n.pack(nil)
	must(t, n.Policy.AddCertificateAuthority(old))
	wants(t, check(t, pkg, verify.Options{Policy: n.Policy}), verify.Matches, "certificate-holds")
	n.Policy.CertificateAuthorities = nil
	must(t, n.Policy.AddCertificateAuthority(old))
	wants(t, check(t, pkg, verify.Options{Policy: n.Policy}), verify.DoesNotMatch, "certificate-chain")
}

func TestActAttacks(t *testing.T) {
	thief := webauthntest.New(site)
	for _, tc := range []struct {
		name   string
		plot   plot
		alter  func(s *signing, c *testalliance.Content)
		want   verify.Verdict
		reason string
	}{
		{"not confirmed", plot{confirm: func(*signing, *evidence.Manifest) {}}, nil, verify.DoesNotMatch, "act-no-passkey"},
		{"the act left out, so that it would be a plain deposit", plot{confirm: func(_ *signing, m *evidence.Manifest) { m.Act = nil }}, func(s *signing, _ *testalliance.Content) {
			s.Policy.Acts[0].Kind = evidence.ActDeposit
		}, verify.DoesNotMatch, "act-no-passkey"},
		{"the confirmation of another manifest", plot{confirm: func(s *signing, m *evidence.Manifest) {
			s.confirm(m, s.auth)
			m.Note = "and one thing more"
		}}, nil, verify.DoesNotMatch, "act-assertion"},
		{"the confirmation of another kind of act", plot{confirm: func(s *signing, m *evidence.Manifest) {
			s.confirm(m, s.auth)
			kept := m.Act.Passkey
			m.Act = &evidence.Act{Kind: "sign", Passkey: kept}
			m.Objects[0].Name = "other.txt"
		}}, nil, verify.DoesNotMatch, "act-assertion"},
		{"without the user's verification", plot{confirm: func(s *signing, m *evidence.Manifest) {
			challenge, err := m.ActDigest()
			must(s.t, err)
			m.Act.Passkey = s.auth.Assert(challenge, origin, false)
		}}, nil, verify.DoesNotMatch, "act-assertion"},
		{"on another site", plot{confirm: func(s *signing, m *evidence.Manifest) {
			challenge, err := m.ActDigest()
			must(s.t, err)
			m.Act.Passkey = s.auth.Assert(challenge, "https://evil.example", true)
		}}, nil, verify.DoesNotMatch, "act-assertion"},
		{"with a passkey that nobody registered", plot{confirm: func(s *signing, m *evidence.Manifest) { s.confirm(m, thief) }}, nil, verify.Undetermined, "act-passkey-not-shown"},
		{"a thief's signature under her passkey's name", plot{confirm: func(s *signing, m *evidence.Manifest) {
			s.confirm(m, thief)
			m.Act.Passkey.KID = s.auth.Key().KID()
		}}, nil, verify.DoesNotMatch, "act-assertion"},
		{"another member's passkey", plot{member: "m:wang"}, nil, verify.DoesNotMatch, "act-other-member"},
		{"a passkey registered after the act", plot{late: true}, nil, verify.DoesNotMatch, "act-passkey-later"},
		{"a passkey revoked before the act", plot{before: func(s *signing) { must(s.t, s.RevokePasskey(s.auth.Key().KID())) }}, nil, verify.DoesNotMatch, "act-passkey-revoked"},
		{"a demonstration's passkey for a real member", plot{passkey: true}, nil, verify.DoesNotMatch, "act-demo-hidden"},
		{"a passkey registered by a court", plot{binder: "court"}, nil, verify.DoesNotMatch, "passkey-not-ca"},
		{"the registration of the passkey without a quorum", plot{}, func(s *signing, c *testalliance.Content) {
			k := c.Passkeys[s.auth.Key().KID()]
			delete(k.Receipts, "court")
			delete(k.Receipts, "notary")
		}, verify.DoesNotMatch, "act-passkey-not-shown"},
		{"the registration under another passkey's name", plot{}, func(s *signing, c *testalliance.Content) {
			c.Passkeys[thief.Key().KID()] = c.Passkeys[s.auth.Key().KID()]
		}, verify.DoesNotMatch, "passkey-other-key"},
		{"an enrolment in the place of the passkey's registration", plot{}, func(s *signing, c *testalliance.Content) {
			c.Passkeys[s.auth.Key().KID()] = c.Enrolments[s.li.Signer.Public().KID()]
		}, verify.DoesNotMatch, "registry-other-kind"},
		{"a level below what the act needs", plot{assurance: 1, level: 3}, nil, verify.DoesNotMatch, "assurance-below"},

		{"a certificate that ended before the step", plot{from: -86400, until: 15, before: func(s *signing) { idle(s, 6) }}, nil, verify.DoesNotMatch, "certificate-ended"},
		{"a certificate that ended while the step was registered", plot{from: -86400, until: 35}, nil, verify.Undetermined, "certificate-ended-perhaps"},
		{"a certificate that begins later", plot{from: 86400, until: 86400 * 20}, nil, verify.DoesNotMatch, "certificate-not-begun"},
		{"a certificate registered by a court", plot{certifier: "court"}, nil, verify.DoesNotMatch, "issuance-not-ca"},
		{"a certificate by an authority that the policy does not know", plot{}, func(s *signing, _ *testalliance.Content) {
			s.Policy.CertificateAuthorities = nil
			must(s.t, s.Policy.AddCertificateAuthority(newOffice(s.t, "forger").entry("ca")))
		}, verify.DoesNotMatch, "certificate-chain"},
		{"another certificate of the same key", plot{}, func(s *signing, c *testalliance.Content) {
			other, _ := s.office.issue(s.t, s.li.Signer.Public(), 4712, -86400, 86400*200)
			c.Certificates = append(c.Certificates, other)
		}, verify.Undetermined, "certificate-not-registered"},
		{"the registration without a quorum", plot{}, func(s *signing, c *testalliance.Content) {
			for _, reg := range c.Issuances {
				delete(reg.Receipts, "court")
				delete(reg.Receipts, "notary")
			}
		}, verify.DoesNotMatch, "certificate-not-registered"},
		{"the registration under another certificate's name", plot{}, func(s *signing, c *testalliance.Content) {
			for _, reg := range c.Issuances {
				c.Issuances[evidence.SumSHA256([]byte("x"))] = reg
			}
		}, verify.DoesNotMatch, "issuance-other-certificate"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := act(t, tc.plot)
			pkg := s.pack(func(c *testalliance.Content) {
				if tc.alter != nil {
					tc.alter(s, c)
				}
			})
			wants(t, check(t, pkg, verify.Options{Policy: s.Policy}), tc.want, tc.reason)
		})
	}
}

// idle lets the log grow by statements of others.
func idle(s *signing, n int) {
	other, err := s.Enrol("m:other", 1, false)
	must(s.t, err)
	for range n {
		_, err := s.Open(other, testalliance.Step{})
		must(s.t, err)
	}
}

// What the registration says of a certificate must be what the certificate says.
func TestCertificateDiffers(t *testing.T) {
	for name, tc := range map[string]struct {
		alter  func(t *testing.T, s *signing, c *evidence.Certificate)
		reason string
	}{
		"serial": {func(_ *testing.T, _ *signing, c *evidence.Certificate) { c.Serial = []byte{9} }, "certificate-differs"},
		"end":    {func(_ *testing.T, _ *signing, c *evidence.Certificate) { c.NotAfter += 86400 }, "certificate-differs"},
		"key": {func(t *testing.T, s *signing, c *evidence.Certificate) {
			other, err := s.Enrol("m:wang", 3, false)
			must(t, err)
			c.KID = other.Signer.Public().KID()
		}, "certificate-key"},
	} {
		t.Run(name, func(t *testing.T) {
			s := act(t, plot{noCertificate: true, before: func(s *signing) {
				chain, c := s.office.issue(s.t, s.li.Signer.Public(), 7, -86400, 86400*200)
				tc.alter(t, s, c)
				must(s.t, s.Certify("ca", c))
				s.chain = chain
			}})
			pkg := s.pack(func(c *testalliance.Content) {
				// Registered for another key: its registration comes along on its own.
				if len(c.Issuances) == 0 {
					c.Issuances[evidence.SumSHA256(pemBytes(t, s.chain))] = s.last(t)
				}
			})
			wants(t, check(t, pkg, verify.Options{Policy: s.Policy}), verify.DoesNotMatch, tc.reason)
		})
	}
}

func pemBytes(t testing.TB, text []byte) []byte {
	t.Helper()
	block, _ := pem.Decode(text)
	if block == nil {
		t.Fatal("no PEM")
	}
	return block.Bytes
}

// last returns the registration of the newest certificate in the log.
func (s *signing) last(t testing.TB) *evidence.Registration {
	t.Helper()
	log := s.Log("court")
	for p := s.Size(); p > 0; p-- {
		data, err := log.Statement(t.Context(), p-1)
		must(t, err)
		st, err := evidence.ParseStatement(data)
		must(t, err)
		if st.ContentType == evidence.TypeCertificate {
			receipts, err := s.Receipts(p-1, s.Size())
			must(t, err)
			return &evidence.Registration{Statement: data, Receipts: receipts}
		}
	}
	t.Fatal("no certificate in the log")
	return nil
}

// A renewal makes an ended certificate no matter; the older stays for what was
// deposited under it.
func TestRenewed(t *testing.T) {
	s := act(t, plot{from: -86400, until: 15, before: func(s *signing) {
		_, c := s.office.issue(s.t, s.li.Signer.Public(), 4712, 0, 86400*300)
		must(s.t, s.Certify("ca", c))
		idle(s, 6)
	}})
	rep := check(t, s.pack(nil), verify.Options{Policy: s.Policy})
	wants(t, rep, verify.Matches, "certificate-covers")
	if c := rep.Steps[0].Certificate; c == nil || c.Serial != "1268" {
		t.Errorf("%+v", rep.Steps[0].Certificate)
	}
}

// An intermediate authority stands between.
func TestChain(t *testing.T) {
	var between *office
	s := act(t, plot{noCertificate: true, before: func(s *signing) {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		must(s.t, err)
		template := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "between"}, NotBefore: s.office.cert.NotBefore, NotAfter: s.office.cert.NotAfter,
			IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
		der, err := x509.CreateCertificate(rand.Reader, template, s.office.cert, key.Public(), s.office.key)
		must(s.t, err)
		cert, err := x509.ParseCertificate(der)
		must(s.t, err)
		between = &office{key, cert}
		chain, c := between.issue(s.t, s.li.Signer.Public(), 8, -86400, 86400*200)
		must(s.t, s.Certify("ca", c))
		s.chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})...)
	}})
	wants(t, check(t, s.pack(nil), verify.Options{Policy: s.Policy}), verify.Matches, "certificate-holds")
	leaf := s.chain[:bytes.Index(s.chain[1:], []byte("-----BEGIN"))+1]
	pkg := s.pack(func(c *testalliance.Content) { c.Certificates = [][]byte{leaf} })
	wants(t, check(t, pkg, verify.Options{Policy: s.Policy}), verify.DoesNotMatch, "certificate-chain")
}

// A passkey that is revoked afterwards does not undo what it confirmed, and the
// reader is told. The holder may revoke it herself.
func TestPasskeyRevokedLater(t *testing.T) {
	s := act(t, plot{after: func(s *signing) { must(s.t, s.RevokePasskey(s.auth.Key().KID())) }})
	for name, opts := range map[string]verify.Options{"offline": {Policy: s.Policy}, "at court": {Policy: s.Policy, Log: s.Log("court")}} {
		rep := check(t, s.pack(nil), opts)
		wants(t, rep, verify.Matches, "act-confirmed")
		if !slices.ContainsFunc(rep.Notices, func(n verify.Notice) bool { return n.Reason.Key == "act-passkey-revoked-later" }) {
			t.Errorf("%s: nobody says so: %+v", name, rep.Notices)
		}
	}
	// Only the court's registry knows of a revocation that the package leaves out.
	s = act(t, plot{before: func(s *signing) { must(s.t, s.RevokePasskey(s.auth.Key().KID())) }})
	hidden := s.pack(func(c *testalliance.Content) { clear(c.Revocations) })
	wants(t, check(t, hidden, verify.Options{Policy: s.Policy, Log: s.Log("court")}), verify.DoesNotMatch, "act-passkey-revoked")
}

// A demonstration is named wherever its level, certificate or passkey is shown.
func TestDemonstrationIsNamed(t *testing.T) {
	s := act(t, plot{demo: true, passkey: true})
	rep := check(t, s.pack(nil), verify.Options{Policy: s.Policy})
	wants(t, rep, verify.Matches, "act-confirmed-demo", "assurance-demo")
	if !slices.ContainsFunc(rep.NotProven, func(why verify.Reason) bool { return why.Key == "not-proven-demo-passkey" }) {
		t.Errorf("%+v", rep.NotProven)
	}
	for lang, want := range map[string][]string{
		"zh-CN": {"本步骤的行为", "签署", "本人以通行密钥确认（网站 portal.example）", "通行密钥属于演示身份", "演示身份的证书", "身份保证等级 3", "自 2026-02-28 09:30:00 +08:00"},
		"en":    {"What the step does", "signing", "confirmed by the person with a passkey (site portal.example)", "demonstration identity's certificate", "assurance 3", "serial number 1267"},
	} {
		r, err := render.New(lang)
		must(t, err)
		var text, page strings.Builder
		must(t, r.Text(&text, rep))
		must(t, r.HTML(&page, rep))
		for _, w := range want {
			if !strings.Contains(text.String(), w) {
				t.Errorf("%s: the text does not say %q", lang, w)
			}
			if !strings.Contains(html.UnescapeString(page.String()), w) {
				t.Errorf("%s: the page does not say %q", lang, w)
			}
		}
		if strings.Contains(text.String(), "‹") {
			t.Errorf("%s: a message is missing:\n%s", lang, text.String())
		}
	}
}

// No byte of what registers a passkey or a certificate, and none of a
// certificate, can be altered by somebody who keeps the index in agreement.
func TestCredentialBytes(t *testing.T) {
	s := act(t, plot{})
	pkg := s.pack(nil)
	opened, err := evidence.OpenPackage(reader(pkg), int64(len(pkg)))
	must(t, err)
	tried := map[evidence.Role]int{}
	for _, f := range opened.Files() {
		switch f.Role {
		case evidence.RolePasskey, evidence.RolePasskeyReceipt, evidence.RoleIssuance, evidence.RoleIssuanceReceipt, evidence.RoleCertificate:
		default:
			continue
		}
		for at := int64(tried[f.Role] % 5); at < f.Size; at += 5 { // one in five, and others in the next file of its role
			altered, err := testalliance.Repack(pkg, func(_ *evidence.Index, files map[string][]byte) { files[f.Path][at] ^= 1 })
			must(t, err)
			if rep := check(t, altered, verify.Options{Policy: s.Policy}); rep.Verdict == verify.Matches {
				t.Errorf("byte %d of %s can be altered", at, f.Path)
			}
		}
		tried[f.Role]++
	}
	if len(tried) != 5 || tried[evidence.RoleIssuanceReceipt] != 4 {
		t.Errorf("%v", tried)
	}
}
