package ca_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emmansun/gmsm/smx509"
	"golang.org/x/crypto/ocsp"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/identity/ca"
	"github.com/zhenglian/zhenglian/internal/identity/ca/catest"
	"github.com/zhenglian/zhenglian/internal/signing"
	"github.com/zhenglian/zhenglian/internal/store"
	"github.com/zhenglian/zhenglian/internal/store/storetest"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// house is a demonstration's authority with its chain and clock.
type house struct {
	*ca.Authority
	chain *catest.Chain
	cfg   ca.Config
	clock time.Time
}

func newHouse(t *testing.T, change func(*ca.Config)) *house {
	t.Helper()
	return newHouseOn(t, storetest.NewDSN(storetest.SQLite).Open(t), change)
}

func newHouseOn(t *testing.T, db *store.DB, change func(*ca.Config)) *house {
	t.Helper()
	h := &house{clock: time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC)}
	now := func() time.Time { return h.clock }
	var err error
	h.chain, err = catest.New(now)
	must(t, err)
	h.cfg = ca.Config{Institution: h.chain.CA.ID, Register: ca.NewRegister(db, now), Chain: h.chain, Statement: h.chain.CA.Statement,
		URL: "http://portal.example", Demonstration: true, Now: now}
	for _, alg := range []evidence.Algorithm{evidence.ES256, evidence.SM2SM3} {
		key := newKey(t, alg)
		der, err := ca.SelfIssue(key, "某某数字认证中心", 1, true, h.clock)
		must(t, err)
		i, err := ca.NewIssuer(key, der, 1)
		must(t, err)
		h.cfg.Issuers = append(h.cfg.Issuers, i)
	}
	if change != nil {
		change(&h.cfg)
	}
	h.Authority, err = ca.New(h.cfg)
	must(t, err)
	return h
}

func newKey(t testing.TB, alg evidence.Algorithm) *signing.Key {
	t.Helper()
	k, err := signing.Generate(alg, nil)
	must(t, err)
	return k
}

// request makes a request that no other is like.
func request(t testing.TB, key *signing.Key) []byte {
	t.Helper()
	der, err := ca.NewRequest(key, "m:whoever")
	must(t, err)
	return der
}

// member enrols a new key.
func (h *house) member(t *testing.T, id string, alg evidence.Algorithm) (*signing.Key, ca.Subject) {
	t.Helper()
	key := newKey(t, alg)
	must(t, h.chain.Enrol(id, key.Public(), evidence.KindPerson, 2, true))
	return key, ca.Subject{Member: id, Kind: evidence.KindPerson, Assurance: 2, Demo: true}
}

func TestIssue(t *testing.T) {
	for _, alg := range []evidence.Algorithm{evidence.EdDSA, evidence.ES256, evidence.SM2SM3} {
		t.Run(signing.AlgorithmName(alg), func(t *testing.T) {
			h := newHouse(t, nil)
			key, subject := h.member(t, "m:li", alg)
			e, err := h.Issue(t.Context(), request(t, key), subject, 0)
			must(t, err)
			c, err := smx509.ParseCertificate(e.DER)
			must(t, err)
			issuer := h.cfg.Issuers[0].Certificate
			if alg == evidence.SM2SM3 {
				issuer = h.cfg.Issuers[1].Certificate
			}
			must(t, c.CheckSignatureFrom(issuer))
			kid := key.Public().KID()
			switch {
			case c.Subject.CommonName != "m:li" || len(c.Subject.Organization) != 0:
				t.Errorf("the subject is %v", c.Subject)
			case !bytes.Equal(c.SubjectKeyId, kid[:]) || !bytes.Equal(c.AuthorityKeyId, issuer.SubjectKeyId):
				t.Errorf("key identifiers %x, %x", c.SubjectKeyId, c.AuthorityKeyId)
			case !bytes.Equal(c.RawSubjectPublicKeyInfo, key.Public().DER()):
				t.Error("it is of another key")
			case len(c.SerialNumber.Bytes()) != 16 || c.SerialNumber.Sign() != 1:
				t.Errorf("the serial number is %x", c.SerialNumber)
			case c.NotAfter.Sub(h.clock) != ca.DefaultValidity || h.clock.Sub(c.NotBefore) > time.Minute || h.clock.Before(c.NotBefore):
				t.Errorf("valid from %s to %s", c.NotBefore, c.NotAfter)
			case c.IsCA || !c.BasicConstraintsValid || c.KeyUsage != smx509.KeyUsageDigitalSignature:
				t.Errorf("CA %v, key usage %v", c.IsCA, c.KeyUsage)
			case !slices.Equal(c.OCSPServer, []string{"http://portal.example/ca/ocsp"}) || len(c.CRLDistributionPoints) != 1 || len(c.IssuingCertificateURL) != 1:
				t.Errorf("addresses %v %v %v", c.OCSPServer, c.CRLDistributionPoints, c.IssuingCertificateURL)
			case len(c.Policies) != 2 || c.Policies[0].String() != "2.999.5280.1.2" || c.Policies[1].String() != ca.DemonstrationPolicy:
				t.Errorf("policies %v", c.Policies)
			}
			s, err := evidence.ParseStatement(e.Statement)
			must(t, err)
			said, err := evidence.ParseCertificate(s.Payload)
			must(t, err)
			if said.SHA256 != evidence.SumSHA256(e.DER) || said.KID != kid || new(big.Int).SetBytes(said.Serial).Cmp(c.SerialNumber) != 0 ||
				said.NotAfter != c.NotAfter.Unix() || said.NotBefore != c.NotBefore.Unix() || e.Position != 1 {
				t.Errorf("the statement at %d says %+v", e.Position, said)
			}
			text, err := h.CertificatePEM(e)
			if err != nil || bytes.Count(text, []byte("BEGIN CERTIFICATE")) != 2 {
				t.Errorf("PEM: %s, %v", text, err)
			}
		})
	}
}

func TestWhoGetsNone(t *testing.T) {
	h := newHouse(t, nil)
	key, subject := h.member(t, "m:li", evidence.EdDSA)
	stranger := newKey(t, evidence.ES256)
	revoked, revokedSubject := h.member(t, "m:wang", evidence.ES256)
	must(t, h.chain.RevokeByHolder(revoked, "m:wang", 1))
	other := subject
	other.Member = "m:wang"
	higher := subject
	higher.Assurance = 3
	real := subject
	real.Demo = false
	for name, tc := range map[string]struct {
		key      *signing.Key
		subject  ca.Subject
		validity time.Duration
		want     ca.SubjectCode
	}{
		"a stranger":      {stranger, subject, 0, ca.SubjectNotEnrolled},
		"another member":  {key, other, 0, ca.SubjectDiffers},
		"a higher level":  {key, higher, 0, ca.SubjectDiffers},
		"as a real one":   {key, real, 0, ca.SubjectDiffers},
		"a revoked key":   {revoked, revokedSubject, 0, ca.SubjectRevoked},
		"too short":       {key, subject, time.Hour - time.Second, ca.SubjectValidity},
		"too long":        {key, subject, 400 * 24 * time.Hour, ca.SubjectValidity},
		"after its CA":    {key, subject, 399 * 24 * time.Hour, ""}, // allowed: control
		"a negative time": {key, subject, -time.Hour, ca.SubjectValidity},
	} {
		_, err := h.Issue(t.Context(), request(t, tc.key), tc.subject, tc.validity)
		var refused *ca.SubjectError
		if got := errors.As(err, &refused); got != (tc.want != "") || got && refused.Code != tc.want {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
	// The CA's own end bounds everything under it.
	h.clock = h.clock.AddDate(10, 0, -30)
	if _, err := h.Issue(t.Context(), request(t, key), subject, 0); err == nil || !strings.Contains(err.Error(), "the CA certificate ends") {
		t.Errorf("past the CA's end: %v", err)
	}
	// Only one CA: no certificates for the others' keys.
	p256 := newHouse(t, func(c *ca.Config) { c.Issuers = c.Issuers[:1] })
	sm2, subject := p256.member(t, "m:li", evidence.SM2SM3)
	var refused *ca.SubjectError
	if _, err := p256.Issue(t.Context(), request(t, sm2), subject, 0); !errors.As(err, &refused) || refused.Code != ca.SubjectNoCA {
		t.Errorf("an SM2 key without an SM2 CA: %v", err)
	}
}

func TestNoDemonstrationAmongRealOnes(t *testing.T) {
	if _, err := ca.New(ca.Config{}); err == nil {
		t.Error("an empty configuration is accepted")
	}
	h := newHouse(t, func(c *ca.Config) { c.Demonstration, c.PolicyArc = false, "1.3.6.1.4.1.99999.1" })
	key, subject := h.member(t, "m:li", evidence.ES256)
	if _, err := h.Issue(t.Context(), request(t, key), subject, 0); err == nil {
		t.Error("a real authority certifies an invented person")
	}
	cfg := h.cfg
	for _, arc := range []string{"", "2.999.1", "nonsense", "1.2.x"} {
		cfg.PolicyArc = arc
		if _, err := ca.New(cfg); err == nil {
			t.Errorf("a real authority issues under %q", arc)
		}
	}
}

// Names stand in certificates only where the configuration asks for them.
func TestNames(t *testing.T) {
	for _, names := range []bool{false, true} {
		h := newHouse(t, func(c *ca.Config) { c.Names = names })
		key, subject := h.member(t, "m:shop", evidence.ES256)
		subject.Organization = "某某科技有限公司"
		e, err := h.Issue(t.Context(), request(t, key), subject, 0)
		must(t, err)
		c, err := x509.ParseCertificate(e.DER)
		must(t, err)
		if got := len(c.Subject.Organization) == 1 && c.Subject.Organization[0] == "某某科技有限公司"; got != names {
			t.Errorf("names %v: the subject is %v", names, c.Subject)
		}
		for _, name := range []string{strings.Repeat("某", 65), "a\nb", "\u202eb", "\xff"} {
			subject.Organization = name
			if _, err := h.Issue(t.Context(), request(t, key), subject, 0); (err != nil) != names {
				t.Errorf("names %v: an organization called %q: %v", names, name, err)
			}
		}
	}
}

func TestRequests(t *testing.T) {
	key := newKey(t, evidence.ES256)
	good := request(t, key)
	if r, err := ca.ParseRequest(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: good})); err != nil || !r.Key.Equal(key.Public()) {
		t.Errorf("PEM: %v", err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	must(t, err)
	big384, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "x"}}, p384)
	must(t, err)
	stolen := bytes.Replace(good, key.Public().Raw(), newKey(t, evidence.ES256).Public().Raw(), 1) // another's key under my signature
	for name, tc := range map[string]struct {
		data []byte
		want ca.RequestCode
	}{
		"empty":         {nil, ca.RequestMalformed},
		"trailing":      {append(bytes.Clone(good), 0), ca.RequestMalformed},
		"long":          {make([]byte, ca.MaxRequest+1), ca.RequestMalformed},
		"other PEM":     {pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: good}), ca.RequestMalformed},
		"P-384":         {big384, ca.RequestBadKey},
		"another's key": {stolen, ca.RequestBadProof},
		"altered":       {append(bytes.Clone(good[:len(good)-1]), good[len(good)-1]^1), ca.RequestBadProof},
	} {
		_, err := ca.ParseRequest(tc.data)
		var refused *ca.RequestError
		if !errors.As(err, &refused) || refused.Code != tc.want {
			t.Errorf("%s: %v, want %s", name, err, tc.want)
		}
	}
}

func FuzzParseRequest(f *testing.F) {
	for _, alg := range []evidence.Algorithm{evidence.EdDSA, evidence.ES256, evidence.SM2SM3} {
		f.Add(request(f, newKey(f, alg)))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if r, err := ca.ParseRequest(data); err == nil && r.Key == nil {
			t.Fatal("accepted without a key")
		}
	})
}

func TestRenewal(t *testing.T) {
	h := newHouse(t, nil)
	key, subject := h.member(t, "m:li", evidence.EdDSA)
	if _, err := h.Renew(t.Context(), request(t, key), 0); !hasCode(err, ca.SubjectNone) {
		t.Errorf("renewing nothing: %v", err)
	}
	req := request(t, key)
	first, err := h.Issue(t.Context(), req, subject, 0)
	must(t, err)
	again, err := h.Issue(t.Context(), req, subject, 0)
	must(t, err)
	if !bytes.Equal(again.DER, first.DER) || h.chain.Statements() != 2 {
		t.Error("the same request gave another certificate")
	}
	h.clock = h.clock.AddDate(0, 0, 80)
	second, err := h.Renew(t.Context(), request(t, key), 0)
	must(t, err)
	if second.Serial.Cmp(first.Serial) == 0 || second.NotAfter <= first.NotAfter || second.Subject != first.Subject {
		t.Errorf("renewed: %+v", second)
	}
	h.clock = h.clock.AddDate(0, 0, 11) // the first has ended: its request is worth nothing
	if _, err := h.Renew(t.Context(), req, 0); !hasCode(err, ca.SubjectUsed) {
		t.Errorf("an old request, replayed: %v", err)
	}
	// Another key of the same member; the old one ends.
	next := newKey(t, evidence.ES256)
	if _, err := h.Rekey(t.Context(), request(t, next), key.Public().KID(), 0); !hasCode(err, ca.SubjectNotEnrolled) {
		t.Errorf("a key that nobody enrolled: %v", err)
	}
	must(t, h.chain.Enrol("m:li", next.Public(), evidence.KindPerson, 2, true))
	third, err := h.Rekey(t.Context(), request(t, next), key.Public().KID(), 0)
	must(t, err)
	if v, err := h.Register().Revocation(t.Context(), key.Public().KID()); err != nil || v.State != ca.Revoked || v.Reason != 4 {
		t.Errorf("the old key: %+v, %v", v, err)
	}
	if _, err := h.Renew(t.Context(), request(t, key), 0); !hasCode(err, ca.SubjectRevoked) {
		t.Errorf("renewing a revoked key: %v", err)
	}
	if all, err := h.Register().ByMember(t.Context(), "m:li"); err != nil || len(all) != 3 || all[0].Serial.Cmp(third.Serial) != 0 {
		t.Errorf("%d entries, %v", len(all), err)
	}
}

func hasCode(err error, code ca.SubjectCode) bool {
	var refused *ca.SubjectError
	return errors.As(err, &refused) && refused.Code == code
}

// A power cut or a lost answer at each step: nothing issued is lost, and nothing
// is on the chain that the register does not know.
func TestCrashes(t *testing.T) {
	down := errors.New("the line is dead")
	h := newHouse(t, nil)
	key, subject := h.member(t, "m:li", evidence.SM2SM3)

	// Between 2 and 3: the statement did not arrive.
	h.chain.Fail(down, nil)
	req := request(t, key)
	_, err := h.Issue(t.Context(), req, subject, 0)
	var pending *ca.PendingError
	if !errors.As(err, &pending) || !errors.Is(err, down) {
		t.Fatalf("a dead line: %v", err)
	}
	e, err := h.Register().BySerial(t.Context(), pending.Serial)
	must(t, err)
	if e.State != ca.Signed || h.chain.Statements() != 1 {
		t.Fatalf("state %s, %d statements", e.State, h.chain.Statements())
	}
	if _, err := h.CertificatePEM(e); err == nil {
		t.Error("a certificate is handed out that the chain does not have")
	}
	// Between 3 and 4: it is on the chain, and the answer was lost.
	h.chain.Fail(nil, down)
	if err := h.Resume(t.Context()); !errors.Is(err, down) {
		t.Fatalf("a lost answer: %v", err)
	}
	if h.chain.Statements() != 2 {
		t.Fatalf("%d statements on the chain", h.chain.Statements())
	}
	// A new process goes on where it was left.
	h.chain.Fail(nil, nil)
	h.Authority, err = ca.New(h.cfg)
	must(t, err)
	must(t, h.Resume(t.Context()))
	done, err := h.Issue(t.Context(), req, subject, 0)
	must(t, err)
	if done.State != ca.Issued || !bytes.Equal(done.DER, e.DER) || h.chain.Statements() != 2 || done.Position != 1 {
		t.Errorf("after the crashes: state %s at %d, %d statements", done.State, done.Position, h.chain.Statements())
	}
	sent := h.chain.Sent()
	must(t, h.Resume(t.Context()))
	if h.chain.Sent() != sent {
		t.Error("what is finished is sent again")
	}

	// Revocations take the same steps.
	h.chain.Fail(down, nil)
	if _, err := h.Revoke(t.Context(), key.Public().KID(), 1); !errors.As(err, &pending) {
		t.Fatalf("revoking on a dead line: %v", err)
	}
	h.chain.Fail(nil, down)
	if _, err := h.Revoke(t.Context(), key.Public().KID(), 1); !errors.As(err, &pending) {
		t.Fatalf("revoking with a lost answer: %v", err)
	}
	h.chain.Fail(nil, nil)
	must(t, h.Resume(t.Context()))
	v, err := h.Register().Revocation(t.Context(), key.Public().KID())
	must(t, err)
	if v.State != ca.Revoked || v.Reason != 1 || h.chain.Statements() != 3 {
		t.Errorf("revoked: %+v, %d statements", v, h.chain.Statements())
	}
}

// Between 1 and 2: only the intent is there.
func TestCrashAfterIntent(t *testing.T) {
	h := newHouse(t, nil)
	key, subject := h.member(t, "m:li", evidence.ES256)
	broken := h.cfg
	broken.Statement = deadSigner{h.chain.CA.Statement}
	dead, err := ca.New(broken)
	must(t, err)
	req := request(t, key)
	if _, err := dead.Issue(t.Context(), req, subject, 0); err == nil {
		t.Fatal("issued without a statement key")
	}
	all, err := h.Register().ByKey(t.Context(), key.Public().KID())
	must(t, err)
	if len(all) != 1 || all[0].State != ca.Intended || all[0].DER != nil {
		t.Fatalf("the register has %+v", all)
	}
	serial := all[0].Serial
	must(t, h.Resume(t.Context()))
	e, err := h.Issue(t.Context(), req, subject, 0)
	must(t, err)
	if e.State != ca.Issued || e.Serial.Cmp(serial) != 0 {
		t.Errorf("finished as %s with serial %x, intended was %x", e.State, e.Serial, serial)
	}
}

// Two processes at the same step: one certificate remains, the other was never
// outside of its process.
func TestTwoProcesses(t *testing.T) {
	h := newHouse(t, nil)
	key, subject := h.member(t, "m:li", evidence.ES256)
	slow := h.cfg
	slow.Statement = &interrupted{Signer: h.chain.CA.Statement, meanwhile: func() { must(t, h.Resume(t.Context())) }}
	second, err := ca.New(slow)
	must(t, err)
	e, err := second.Issue(t.Context(), request(t, key), subject, 0)
	must(t, err)
	kept, err := h.Register().BySerial(t.Context(), e.Serial)
	must(t, err)
	s, err := evidence.ParseStatement(kept.Statement)
	must(t, err)
	said, err := evidence.ParseCertificate(s.Payload)
	must(t, err)
	if h.chain.Statements() != 2 || !bytes.Equal(e.DER, kept.DER) || said.SHA256 != evidence.SumSHA256(e.DER) {
		t.Errorf("%d statements; the certificate handed out is %x, the register's %x, the chain's %x", h.chain.Statements(), evidence.SumSHA256(e.DER), evidence.SumSHA256(kept.DER), said.SHA256)
	}
}

// interrupted lets somebody else go first, once.
type interrupted struct {
	evidence.Signer
	meanwhile func()
}

func (s *interrupted) Sign(message []byte) ([]byte, error) {
	if f := s.meanwhile; f != nil {
		s.meanwhile = nil
		f()
	}
	return s.Signer.Sign(message)
}

type deadSigner struct{ evidence.Signer }

func (deadSigner) Sign([]byte) ([]byte, error) { return nil, errors.New("the token is gone") }

// A key that its holder revokes between intent and statement: the certificate is
// closed for good, and nobody is told that it is good.
func TestRefusedByTheChain(t *testing.T) {
	h := newHouse(t, nil)
	key, subject := h.member(t, "m:li", evidence.ES256)
	h.chain.Fail(errors.New("down"), nil)
	_, err := h.Issue(t.Context(), request(t, key), subject, 0)
	var pending *ca.PendingError
	if !errors.As(err, &pending) {
		t.Fatal(err)
	}
	h.chain.Fail(nil, nil)
	must(t, h.chain.RevokeByHolder(key, "m:li", 1))
	if err := h.Resume(t.Context()); err == nil {
		t.Error("the chain took a certificate for a revoked key")
	}
	e, err := h.Register().BySerial(t.Context(), pending.Serial)
	must(t, err)
	if e.State != ca.Refused || e.Reason == "" {
		t.Errorf("state %s, reason %q", e.State, e.Reason)
	}
	must(t, h.Sync(t.Context()))
	if r := h.status(t, e); r.Status != ocsp.Revoked {
		t.Errorf("OCSP says %d of a refused certificate", r.Status)
	}
	if l := h.list(t, "p256"); len(l.RevokedCertificateEntries) != 1 {
		t.Errorf("the list has %d entries", len(l.RevokedCertificateEntries))
	}
	must(t, h.Resume(t.Context())) // it is not tried again
}

// Two requests at once for one key: both get one, and serials never repeat.
func TestConcurrentIssue(t *testing.T) {
	h := newHouse(t, nil)
	key, subject := h.member(t, "m:li", evidence.ES256)
	req := request(t, key)
	type result struct {
		e   *ca.Entry
		err error
	}
	results := make(chan result)
	for range 4 {
		go func() { e, err := h.Issue(context.Background(), req, subject, 0); results <- result{e, err} }()
	}
	var der []byte
	for range 4 {
		r := <-results
		var pending *ca.PendingError
		if errors.As(r.err, &pending) { // another was between two steps: asking again gives the same
			r.e, r.err = h.Issue(t.Context(), req, subject, 0)
		}
		must(t, r.err)
		if der == nil {
			der = r.e.DER
		}
		if !bytes.Equal(der, r.e.DER) {
			t.Error("one request, two certificates")
		}
	}
	if n := h.chain.Statements(); n != 2 {
		t.Errorf("%d statements", n)
	}
}

// One life of a certificate on each engine that a register may stand on.
func TestBothEngines(t *testing.T) {
	storetest.Run(t, func(t *testing.T, fresh storetest.NewDSN) {
		h := newHouseOn(t, fresh.Open(t), nil)
		key, subject := h.member(t, "m:li", evidence.EdDSA)
		down := errors.New("down")
		h.chain.Fail(down, nil)
		req := request(t, key)
		if _, err := h.Issue(t.Context(), req, subject, 0); !errors.Is(err, down) {
			t.Fatal(err)
		}
		h.chain.Fail(nil, nil)
		must(t, h.Resume(t.Context()))
		e, err := h.Issue(t.Context(), req, subject, 0)
		must(t, err)
		_, err = h.Renew(t.Context(), request(t, key), time.Hour)
		must(t, err)
		must(t, h.Sync(t.Context()))
		if r := h.status(t, e); r.Status != ocsp.Good {
			t.Errorf("OCSP says %d", r.Status)
		}
		_, err = h.Revoke(t.Context(), key.Public().KID(), 9)
		must(t, err)
		if l := h.list(t, "p256"); len(l.RevokedCertificateEntries) != 2 || l.Number.Int64() != h.clock.Unix()+1 || l.RevokedCertificateEntries[0].ReasonCode != 9 {
			t.Errorf("list %d has %d entries", l.Number, len(l.RevokedCertificateEntries))
		}
		all, err := h.Register().All(t.Context(), 10)
		if err != nil || len(all) != 2 {
			t.Errorf("%d entries, %v", len(all), err)
		}
	})
}
