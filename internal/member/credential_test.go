package member_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/evidence/webauthn/webauthntest"
	"github.com/zhenglian/zhenglian/internal/member"
	"github.com/zhenglian/zhenglian/internal/testalliance"
	"github.com/zhenglian/zhenglian/verify"
)

const site = "portal.example"

// certificate issues one for the world's member, self-made, registered by the ca.
func (w *world) certificate(t *testing.T, serial int64) []byte {
	t.Helper()
	_, issuer, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := x509.ParsePKIXPublicKey(w.alice.Public().DER())
	if err != nil {
		t.Fatal(err)
	}
	now := w.net.Now()
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "m:alice"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(300 * 24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, &x509.Certificate{Subject: pkix.Name{CommonName: "ca"}}, pub, issuer)
	if err != nil {
		t.Fatal(err)
	}
	unlock := w.net.Lock()
	defer unlock()
	err = w.net.Certify("ca", &evidence.Certificate{KID: w.alice.Public().KID(), Serial: evidence.CertificateSerial(template.SerialNumber), NotBefore: template.NotBefore.Unix(),
		NotAfter: template.NotAfter.Unix(), SHA256: evidence.SumSHA256(der)})
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// A package carries how the passkey of an act and the signer's certificates were
// registered, and the certificates that the home has.
func TestPackageCarriesCredentials(t *testing.T) {
	w := newWorld(t)
	h := w.open(t)
	auth := webauthntest.New(site)
	unlock := w.net.Lock()
	err := w.net.BindPasskey("ca", &evidence.Passkey{Member: "m:alice", Key: auth.Key(), Credential: auth.Credential(), RelyingParty: site, Demo: true})
	unlock()
	if err != nil {
		t.Fatal(err)
	}
	kept, lost := w.certificate(t, 1), w.certificate(t, 2)
	if err := os.WriteFile(filepath.Join(w.config.Dir, "certificate.pem"), kept, 0o600); err != nil {
		t.Fatal(err)
	}
	st := step(evidence.Digest{}, "签署", text("a.txt", "a"))
	st.Act = func(_ context.Context, m *evidence.Manifest) error {
		m.Act = &evidence.Act{Kind: "sign"}
		challenge, err := m.ActDigest()
		m.Act.Passkey = auth.Assert(challenge, "https://"+site, true)
		return err
	}
	entry, _, err := h.Deposit(t.Context(), w.client, st, member.Events{})
	if err != nil {
		t.Fatal(err)
	}
	trail := entry.Statement.Digest()
	rep, data, _ := w.check(t, h, trail)
	wantMatch(t, rep)
	if a := rep.Steps[0].Act; a == nil || a.Passkey == nil || a.Passkey.Verdict != verify.Matches || !a.Passkey.Demo {
		t.Errorf("%+v", a)
	}
	p, err := evidence.OpenPackage(strings.NewReader(string(data)), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	if reg, err := p.Passkey(auth.Key().KID()); err != nil || reg == nil || len(reg.Receipts) != 4 {
		t.Errorf("%+v, %v", reg, err)
	}
	for text, there := range map[string]bool{string(kept): true, string(lost): false} {
		block, _ := pem.Decode([]byte(text))
		digest := evidence.SumSHA256(block.Bytes)
		if reg, err := p.Issuance(digest); err != nil || reg == nil || len(reg.Receipts) != 4 {
			t.Errorf("%+v, %v", reg, err)
		}
		if chain, err := p.Certificate(digest); err != nil || (string(chain) == text) != there {
			t.Errorf("%s, %v", chain, err)
		}
	}

	// What is no certificate is no reason for a package that lacks one in silence.
	if err := os.WriteFile(filepath.Join(w.config.Dir, "certificate.pem"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Package(t.Context(), w.client, trail, &evidence.MemoryFile{}); err == nil || !strings.Contains(err.Error(), "certificate.pem") {
		t.Errorf("%v", err)
	}
}

// Refused confirmations leave nothing behind that was signed.
func TestActNotConfirmed(t *testing.T) {
	w := newWorld(t)
	h := w.open(t)
	st := step(evidence.Digest{}, "签署", text("a.txt", "a"))
	refused := errors.New("the person said no")
	st.Act = func(context.Context, *evidence.Manifest) error { return refused }
	if _, _, err := h.Deposit(t.Context(), w.client, st, member.Events{}); !errors.Is(err, refused) {
		t.Fatal(err)
	}
	if pending, err := h.Pending(); err != nil || len(pending) != 0 {
		t.Errorf("%v, %v", pending, err)
	}
}

// Her key was stolen and revoked; with another key of hers she packages what she
// deposited with it.
func TestPackageByAnotherKey(t *testing.T) {
	w := newWorld(t)
	h := w.open(t)
	entry, _, err := h.Deposit(t.Context(), w.client, step(evidence.Digest{}, "下载", text("a.txt", "a")), member.Events{})
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	second, err := testalliance.Signer("alice's second")
	if err != nil {
		t.Fatal(err)
	}
	w.net.EnrolKey(t, "m:alice", second)
	unlock := w.net.Lock()
	_, err = w.net.Revoke(w.member)
	unlock()
	if err != nil {
		t.Fatal(err)
	}
	w.config.Signer, w.client = second, w.net.Client(t, second)
	rep, _, packed := w.check(t, w.open(t), entry.Statement.Digest())
	wantMatch(t, rep)
	if packed.Steps != 1 || len(packed.Withheld) != 0 || packed.NoObject != 0 {
		t.Errorf("%+v", packed)
	}
	if !slices.ContainsFunc(rep.Notices, func(n verify.Notice) bool { return strings.HasPrefix(n.Reason.Key, "key-revoked-later") }) {
		t.Errorf("%+v", rep.Notices)
	}
}
