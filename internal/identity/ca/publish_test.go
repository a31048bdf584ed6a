package ca_test

import (
	"bytes"
	"crypto"
	"encoding/base64"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emmansun/gmsm/smx509"
	"golang.org/x/crypto/ocsp"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/identity/ca"
	"github.com/zhenglian/zhenglian/internal/signing"
)

// status asks the running responder over HTTP.
func (h *house) status(t *testing.T, e *ca.Entry) *ocsp.Response {
	t.Helper()
	i := h.cfg.Issuers[0]
	if e.Issuer != i.Key.Public().KID().String() {
		i = h.cfg.Issuers[1]
	}
	r, err := ocsp.ParseResponse(h.ask(t, i, e.Serial, crypto.SHA1, http.MethodPost), nil)
	must(t, err)
	if r.Certificate == nil {
		t.Fatal("the answer does not bring its responder's certificate")
	}
	// The delegation: signed by the CA, for OCSP alone.
	c, err := smx509.ParseCertificate(r.Certificate.Raw)
	must(t, err)
	must(t, c.CheckSignatureFrom(i.Certificate))
	if !slices.Equal(c.ExtKeyUsage, []smx509.ExtKeyUsage{smx509.ExtKeyUsageOCSPSigning}) {
		t.Errorf("the responder's usages are %v", c.ExtKeyUsage)
	}
	if r.SerialNumber.Cmp(e.Serial) != 0 {
		t.Errorf("the answer is about %x", r.SerialNumber)
	}
	return r
}

func (h *house) ask(t *testing.T, i *ca.Issuer, serial *big.Int, hash crypto.Hash, method string) []byte {
	t.Helper()
	sum := func(b []byte) []byte { w := hash.New(); w.Write(b); return w.Sum(nil) }
	q, err := (&ocsp.Request{HashAlgorithm: hash, IssuerNameHash: sum(i.Certificate.RawSubject), IssuerKeyHash: sum(i.Key.Public().Raw()), SerialNumber: serial}).Marshal()
	must(t, err)
	var r *http.Request
	if method == http.MethodGet {
		r = httptest.NewRequest(method, "/ca/ocsp/"+url.PathEscape(encode(q)), nil)
	} else {
		r = httptest.NewRequest(method, "/ca/ocsp", bytes.NewReader(q))
	}
	w := httptest.NewRecorder()
	h.Handler().ServeHTTP(w, r)
	if w.Code != http.StatusOK || w.Header().Get("Content-Type") != "application/ocsp-response" {
		t.Fatalf("%s: %d %s", method, w.Code, w.Header())
	}
	return w.Body.Bytes()
}

func (h *house) list(t *testing.T, name string) *smx509.RevocationList {
	t.Helper()
	w := httptest.NewRecorder()
	h.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/ca/"+name+".crl", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("%s.crl: %d", name, w.Code)
	}
	l, err := smx509.ParseRevocationList(w.Body.Bytes())
	must(t, err)
	i := h.cfg.Issuers[0]
	if name == "sm2" {
		i = h.cfg.Issuers[1]
	}
	must(t, l.CheckSignatureFrom(i.Certificate))
	return l
}

func TestRevocation(t *testing.T) {
	for _, alg := range []evidence.Algorithm{evidence.ES256, evidence.SM2SM3} {
		name := signing.AlgorithmName(alg)
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, nil)
			key, subject := h.member(t, "m:li", alg)
			if _, err := h.Revoke(t.Context(), key.Public().KID(), 6); !hasCode(err, ca.SubjectReason) {
				t.Errorf("certificateHold: %v", err)
			}
			e, err := h.Issue(t.Context(), request(t, key), subject, 0)
			must(t, err)
			renewed, err := h.Renew(t.Context(), request(t, key), 0)
			must(t, err)
			must(t, h.Sync(t.Context()))
			if r := h.status(t, e); r.Status != ocsp.Good || !r.ThisUpdate.Equal(h.clock) {
				t.Errorf("before: %d at %s", r.Status, r.ThisUpdate)
			}
			before := h.list(t, name)
			h.clock = h.clock.Add(time.Minute)
			at := h.clock
			_, err = h.Revoke(t.Context(), key.Public().KID(), 1)
			must(t, err)
			h.clock = h.clock.Add(time.Minute)
			for _, e := range []*ca.Entry{e, renewed} { // all of the key's certificates
				if r := h.status(t, e); r.Status != ocsp.Revoked || r.RevocationReason != ocsp.KeyCompromise || !r.RevokedAt.Equal(at) {
					t.Errorf("after: %d, reason %d, at %s", r.Status, r.RevocationReason, r.RevokedAt)
				}
			}
			after := h.list(t, name)
			if len(before.RevokedCertificateEntries) != 0 || len(after.RevokedCertificateEntries) != 2 || after.Number.Cmp(before.Number) != 1 {
				t.Fatalf("lists %d with %d and %d with %d entries", before.Number, len(before.RevokedCertificateEntries), after.Number, len(after.RevokedCertificateEntries))
			}
			if r := after.RevokedCertificateEntries[0]; r.ReasonCode != 1 || !r.RevocationTime.Equal(at) {
				t.Errorf("listed with reason %d at %s", r.ReasonCode, r.RevocationTime)
			}
			if _, err := h.Revoke(t.Context(), key.Public().KID(), 4); err != nil {
				t.Errorf("revoking again: %v", err)
			}
			if v, err := h.Register().Revocation(t.Context(), key.Public().KID()); err != nil || v.Reason != 1 {
				t.Errorf("the first reason stands: %+v %v", v, err)
			}
			// Long after its end it leaves the list.
			h.clock = h.clock.Add(ca.DefaultValidity + 8*24*time.Hour)
			must(t, h.Sync(t.Context()))
			if l := h.list(t, name); len(l.RevokedCertificateEntries) != 0 {
				t.Errorf("%d entries after the end", len(l.RevokedCertificateEntries))
			}
		})
	}
}

// What a member revokes with her own key, the authority learns from the chain.
func TestRevokedByItsHolder(t *testing.T) {
	h := newHouse(t, nil)
	key, subject := h.member(t, "m:li", evidence.EdDSA)
	e, err := h.Issue(t.Context(), request(t, key), subject, 0)
	must(t, err)
	must(t, h.chain.RevokeByHolder(key, "m:li", 3))
	must(t, h.Sync(t.Context()))
	if r := h.status(t, e); r.Status != ocsp.Revoked || r.RevocationReason != 3 {
		t.Errorf("status %d, reason %d", r.Status, r.RevocationReason)
	}
	// And a revocation by the officer meets hers: hers stands.
	if v, err := h.Revoke(t.Context(), key.Public().KID(), 9); err != nil || v.Reason != 3 {
		t.Errorf("%+v, %v", v, err)
	}
}

func TestOCSP(t *testing.T) {
	h := newHouse(t, nil)
	key, subject := h.member(t, "m:li", evidence.EdDSA)
	e, err := h.Issue(t.Context(), request(t, key), subject, 0)
	must(t, err)
	i := h.cfg.Issuers[0]
	// Nobody asked the chain yet: no word about revocations.
	if answer := h.ask(t, i, e.Serial, crypto.SHA1, http.MethodPost); !bytes.Equal(answer, ocsp.TryLaterErrorResponse) {
		t.Errorf("before the first look at the chain: %x", answer)
	}
	must(t, h.Sync(t.Context()))
	for _, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA256} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			r, err := ocsp.ParseResponse(h.ask(t, i, e.Serial, hash, method), nil)
			if err != nil || r.Status != ocsp.Good || r.IssuerHash != hash {
				t.Errorf("%s %s: %+v, %v", hash, method, r, err)
			}
		}
	}
	if r := h.status(t, &ca.Entry{Serial: big.NewInt(4711), Issuer: e.Issuer}); r.Status != ocsp.Unknown {
		t.Errorf("a serial that was never issued: %d", r.Status)
	}
	// The P-256 CA does not answer for the SM2 CA's serials, and none for a stranger's.
	if r := h.status(t, &ca.Entry{Serial: e.Serial, Issuer: h.cfg.Issuers[1].Key.Public().KID().String()}); r.Status != ocsp.Unknown {
		t.Errorf("a serial of the other CA: %d", r.Status)
	}
	stranger := newHouse(t, nil).cfg.Issuers[0]
	if answer := h.ask(t, stranger, e.Serial, crypto.SHA1, http.MethodPost); !bytes.Equal(answer, ocsp.UnauthorizedErrorResponse) {
		t.Errorf("another CA: %x", answer)
	}
	for _, r := range []*http.Request{
		httptest.NewRequest(http.MethodPost, "/ca/ocsp", strings.NewReader("rubbish")),
		httptest.NewRequest(http.MethodGet, "/ca/ocsp/rubbish!", nil),
		httptest.NewRequest(http.MethodGet, "/ca/ocsp/"+strings.Repeat("A", 8192), nil),
	} {
		w := httptest.NewRecorder()
		h.Handler().ServeHTTP(w, r)
		if !bytes.Equal(w.Body.Bytes(), ocsp.MalformedRequestErrorResponse) {
			t.Errorf("%s %.30s: %x", r.Method, r.URL, w.Body.Bytes())
		}
	}
	// The responder is in the register too, and is replaced in time.
	first := h.status(t, e).Certificate
	if known, err := h.Register().BySerial(t.Context(), first.SerialNumber); err != nil || known.Role != ca.RoleResponder || !bytes.Equal(known.DER, first.Raw) {
		t.Errorf("the responder's certificate: %+v, %v", known, err)
	}
	h.clock = h.clock.AddDate(0, 0, 4)
	if answer := h.ask(t, i, e.Serial, crypto.SHA1, http.MethodPost); !bytes.Equal(answer, ocsp.TryLaterErrorResponse) {
		t.Errorf("four days after the last look at the chain: %x", answer)
	}
	must(t, h.Sync(t.Context()))
	if next := h.status(t, e).Certificate; next.SerialNumber.Cmp(first.SerialNumber) == 0 || next.NotBefore.After(h.clock) {
		t.Error("the responder's certificate was not replaced")
	}
}

func TestListsGoOn(t *testing.T) {
	h := newHouse(t, nil)
	must(t, h.Sync(t.Context()))
	first := h.list(t, "p256")
	must(t, h.Sync(t.Context()))
	if same := h.list(t, "p256"); same.Number.Cmp(first.Number) != 0 {
		t.Error("a list is signed without need")
	}
	h.clock = h.clock.Add(12 * time.Hour)
	must(t, h.Sync(t.Context()))
	if next := h.list(t, "p256"); next.Number.Cmp(first.Number) != 1 || !next.NextUpdate.Equal(h.clock.Add(24*time.Hour)) {
		t.Errorf("list %d until %s", next.Number, next.NextUpdate)
	}
	w := httptest.NewRecorder()
	h.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/ca/sm2.crt", nil))
	if !bytes.Equal(w.Body.Bytes(), h.cfg.Issuers[1].Certificate.Raw) {
		t.Error("sm2.crt is another certificate")
	}
	for _, path := range []string{"/ca/p384.crl", "/ca/p384.crt", "/ca/p256", "/ca/.crt"} {
		w := httptest.NewRecorder()
		h.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		if w.Code != http.StatusNotFound {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
}

func encode(b []byte) string { return base64.StdEncoding.EncodeToString(b) }
