package ca_test

import (
	"bytes"
	"crypto"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/emmansun/gmsm/smx509"
	"golang.org/x/crypto/ocsp"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/identity/ca"
	"github.com/zhenglian/zhenglian/internal/signing"
	"github.com/zhenglian/zhenglian/internal/store/storetest"
)

// replaceKey gives the house the next CA key of an algorithm and starts it again.
func (h *house) replaceKey(t *testing.T, alg evidence.Algorithm) *ca.Issuer {
	t.Helper()
	generation := h.Present(alg).Generation + 1
	key := newKey(t, alg)
	der, err := ca.SelfIssue(key, "某某数字认证中心", generation, true, h.clock)
	must(t, err)
	i, err := ca.NewIssuer(key, der, generation)
	must(t, err)
	// In any order: the generation counts.
	h.cfg.Issuers = append([]*ca.Issuer{i}, h.cfg.Issuers...)
	h.Authority, err = ca.New(h.cfg)
	must(t, err)
	return i
}

// get fetches one of the public files.
func (h *house) get(t *testing.T, name string) (int, []byte) {
	t.Helper()
	w := httptest.NewRecorder()
	h.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/ca/"+name, nil))
	return w.Code, w.Body.Bytes()
}

// listOf fetches an issuer's list, signed by that issuer.
func (h *house) listOf(t *testing.T, i *ca.Issuer) *smx509.RevocationList {
	t.Helper()
	code, der := h.get(t, i.Name()+".crl")
	if code != http.StatusOK {
		t.Fatalf("%s.crl: %d", i.Name(), code)
	}
	l, err := smx509.ParseRevocationList(der)
	must(t, err)
	must(t, l.CheckSignatureFrom(i.Certificate))
	return l
}

// says asks the responder about a certificate of an issuer; the answer is signed
// by a delegate of that same issuer.
func (h *house) says(t *testing.T, i *ca.Issuer, e *ca.Entry) *ocsp.Response {
	t.Helper()
	r, err := ocsp.ParseResponse(h.ask(t, i, e.Serial, crypto.SHA256, http.MethodPost), nil)
	must(t, err)
	c, err := smx509.ParseCertificate(r.Certificate.Raw)
	must(t, err)
	must(t, c.CheckSignatureFrom(i.Certificate))
	return r
}

// After its key was replaced an authority issues under the new one, and goes on
// speaking for the old one, at the old addresses, until nothing under it is left.
func TestReplacedKey(t *testing.T) {
	for _, alg := range []evidence.Algorithm{evidence.ES256, evidence.SM2SM3} {
		name := signing.AlgorithmName(alg)
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, nil)
			old := h.Present(alg)
			li, subject := h.member(t, "m:li", alg)
			before, err := h.Issue(t.Context(), request(t, li), subject, 0)
			must(t, err)
			must(t, h.Sync(t.Context()))
			first := h.listOf(t, old)

			h.clock = h.clock.AddDate(0, 0, 10)
			next := h.replaceKey(t, alg)
			if next.Name() != name+"-2" || h.Present(alg) != next || old.Name() != name {
				t.Fatalf("issuers %s and %s", old.Name(), next.Name())
			}
			after, err := h.Renew(t.Context(), request(t, li), 0)
			must(t, err)
			must(t, h.Sync(t.Context()))
			for _, tc := range []struct {
				e      *ca.Entry
				issuer *ca.Issuer
				other  *ca.Issuer
			}{{before, old, next}, {after, next, old}} {
				c, err := smx509.ParseCertificate(tc.e.DER)
				must(t, err)
				must(t, c.CheckSignatureFrom(tc.issuer.Certificate))
				if c.CheckSignatureFrom(tc.other.Certificate) == nil {
					t.Error("it verifies under the other generation")
				}
				if c.CRLDistributionPoints[0] != "http://portal.example/ca/"+tc.issuer.Name()+".crl" || c.IssuingCertificateURL[0] != "http://portal.example/ca/"+tc.issuer.Name()+".crt" {
					t.Errorf("addresses %v %v", c.CRLDistributionPoints, c.IssuingCertificateURL)
				}
				if code, der := h.get(t, tc.issuer.Name()+".crt"); code != http.StatusOK || !bytes.Equal(der, tc.issuer.Certificate.Raw) {
					t.Errorf("%s.crt: %d", tc.issuer.Name(), code)
				}
				if r := h.says(t, tc.issuer, tc.e); r.Status != ocsp.Good {
					t.Errorf("OCSP says %d", r.Status)
				}
				// The other generation knows nothing of it.
				if r := h.says(t, tc.other, tc.e); r.Status != ocsp.Unknown {
					t.Errorf("the other generation says %d", r.Status)
				}
				if text, err := h.CertificatePEM(tc.e); err != nil || !bytes.Contains(text, pemOf(tc.issuer.Certificate.Raw)) {
					t.Errorf("PEM without its issuer: %v", err)
				}
			}
			if old.Certificate.Subject.String() == next.Certificate.Subject.String() {
				t.Error("two roots of one name")
			}
			// Both lists go on; a revoked key stands on both.
			if l := h.listOf(t, old); l.Number.Cmp(first.Number) != 1 || len(l.RevokedCertificateEntries) != 0 {
				t.Errorf("the old list is %d with %d entries", l.Number, len(l.RevokedCertificateEntries))
			}
			_, err = h.Revoke(t.Context(), li.Public().KID(), 1)
			must(t, err)
			for i, e := range map[*ca.Issuer]*ca.Entry{old: before, next: after} {
				if l := h.listOf(t, i); len(l.RevokedCertificateEntries) != 1 || l.RevokedCertificateEntries[0].SerialNumber.Cmp(e.Serial) != 0 {
					t.Errorf("%s has %d entries", i.Name(), len(l.RevokedCertificateEntries))
				}
				if r := h.says(t, i, e); r.Status != ocsp.Revoked || r.RevocationReason != ocsp.KeyCompromise {
					t.Errorf("%s says %d", i.Name(), r.Status)
				}
			}
			// Six days after the last of its certificates the old key still signs; eight days after it does not.
			end := time.Unix(before.NotAfter, 0)
			h.clock = end.AddDate(0, 0, 6)
			must(t, h.Sync(t.Context()))
			last := h.listOf(t, old)
			if !last.ThisUpdate.Equal(h.clock) {
				t.Errorf("its list is of %s", last.ThisUpdate)
			}
			h.clock = end.AddDate(0, 0, 8)
			must(t, h.Sync(t.Context()))
			if l := h.listOf(t, old); l.Number.Cmp(last.Number) != 0 {
				t.Error("a list is signed that nobody needs")
			}
			if answer := h.ask(t, old, before.Serial, crypto.SHA1, http.MethodPost); !bytes.Equal(answer, ocsp.UnauthorizedErrorResponse) {
				t.Errorf("after the end: %x", answer)
			}
			if l := h.listOf(t, next); !l.ThisUpdate.Equal(h.clock) {
				t.Errorf("the present list is of %s", l.ThisUpdate)
			}
		})
	}
}

func pemOf(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// What was intended under the old key when it was replaced is finished under it.
func TestReplacedKeyMeetsIntent(t *testing.T) {
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
	old := h.Present(evidence.ES256)
	h.replaceKey(t, evidence.ES256)
	must(t, h.Resume(t.Context()))
	e, err := h.Issue(t.Context(), req, subject, 0)
	must(t, err)
	if e.State != ca.Issued || e.Issuer != old.ID() {
		t.Errorf("finished as %s under %s", e.State, e.Issuer)
	}
}

// A former key that is gone is missed as long as something is under it, and does
// not keep the others from their work.
func TestFormerKeyGone(t *testing.T) {
	h := newHouse(t, nil)
	li, subject := h.member(t, "m:li", evidence.EdDSA)
	before, err := h.Issue(t.Context(), request(t, li), subject, 0)
	must(t, err)
	old := h.Present(evidence.EdDSA)
	next := h.replaceKey(t, evidence.ES256)
	gone, err := ca.NewIssuer(nil, old.Certificate.Raw, 1)
	must(t, err)
	for n, i := range h.cfg.Issuers {
		if i == old {
			h.cfg.Issuers[n] = gone
		}
	}
	h.Authority, err = ca.New(h.cfg)
	must(t, err)
	err = h.Sync(t.Context())
	var missed *ca.KeyGoneError
	if !errors.As(err, &missed) || missed.Name != "p256" || !strings.Contains(err.Error(), "backup") {
		t.Errorf("without the former key: %v", err)
	}
	after, err := h.Renew(t.Context(), request(t, li), 0)
	must(t, err)
	if r := h.says(t, next, after); r.Status != ocsp.Good {
		t.Errorf("OCSP of the present key says %d", r.Status)
	}
	h.listOf(t, next)
	if answer := h.ask(t, old, before.Serial, crypto.SHA1, http.MethodPost); !bytes.Equal(answer, ocsp.InternalErrorErrorResponse) {
		t.Errorf("OCSP of the former key: %x", answer)
	}
	h.clock = time.Unix(before.NotAfter, 0).AddDate(0, 0, 8)
	if err := h.Sync(t.Context()); err != nil {
		t.Errorf("when nothing is under it any more: %v", err)
	}
	// The present key is never done without.
	present, err := ca.NewIssuer(nil, next.Certificate.Raw, 2)
	must(t, err)
	h.cfg.Issuers = []*ca.Issuer{gone, present}
	if _, err := ca.New(h.cfg); !errors.As(err, &missed) || missed.Name != "p256-2" {
		t.Errorf("without the present key: %v", err)
	}
	if _, err := ca.NewIssuer(newKey(t, evidence.ES256), next.Certificate.Raw, 2); err == nil {
		t.Error("another key under that certificate")
	}
}

// The question whether a former issuer is done stands on each engine.
func TestReplacedKeyOnBothEngines(t *testing.T) {
	storetest.Run(t, func(t *testing.T, fresh storetest.NewDSN) {
		h := newHouseOn(t, fresh.Open(t), nil)
		old := h.Present(evidence.ES256)
		h.replaceKey(t, evidence.ES256)
		must(t, h.Sync(t.Context()))
		if code, _ := h.get(t, old.Name()+".crl"); code != http.StatusNotFound {
			t.Errorf("a list under a key that never signed: %d", code)
		}
		key, subject := h.member(t, "m:li", evidence.EdDSA)
		e, err := h.Issue(t.Context(), request(t, key), subject, 0)
		must(t, err)
		if e.Issuer != h.Present(evidence.ES256).ID() {
			t.Error("issued under the former key")
		}
	})
}
