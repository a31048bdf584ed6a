package institution

import (
	"crypto"
	"crypto/x509"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
)

// joined makes a home that has joined an alliance of its own.
func joined(t *testing.T, p Params) string {
	t.Helper()
	home, d := initHome(t, p)
	if _, err := Join(home, genesis(t, d)); err != nil {
		t.Fatal(err)
	}
	return home
}

func begin(t *testing.T, home string, use evidence.KeyUse, sm2 bool) *Rotation {
	t.Helper()
	r, err := open(t, home).BeginRotation(use, sm2, 0)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// rotateTo does a whole rotation as if the log had put it at this position.
func rotateTo(t *testing.T, home string, use evidence.KeyUse, position uint64) *Rotation {
	t.Helper()
	r := begin(t, home, use, false)
	if err := r.Sign(open(t, home).Key(evidence.UseStatement), evidence.ReasonSuperseded, time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := r.Finish(evidence.SumSHA256(r.Statement), position); err != nil {
		t.Fatal(err)
	}
	return r
}

// A crash after each step: what is on disk is found and used, and until the last
// step commands sign with the old key.
func TestRotationGoesOn(t *testing.T) {
	home := joined(t, params("court", evidence.KindCourt))
	h := open(t, home)
	old := h.Key(evidence.UseReceipt).Public()

	first := begin(t, home, evidence.UseReceipt, false)
	if first.Resumed || first.Replaces != old.KID() || first.Key.Public().Algorithm() != old.Algorithm() {
		t.Fatalf("%+v", first)
	}
	second := begin(t, home, evidence.UseReceipt, false)
	if !second.Resumed || !second.Key.Public().Equal(first.Key.Public()) || second.Statement != nil {
		t.Fatalf("after the key: %+v", second)
	}
	if err := second.Sign(h.Key(evidence.UseStatement), evidence.ReasonCompromised, time.Now()); err != nil {
		t.Fatal(err)
	}
	third := begin(t, home, evidence.UseReceipt, false)
	if string(third.Statement) != string(second.Statement) {
		t.Fatal("after the statement: another one would be sent")
	}
	if err := third.Sign(h.Key(evidence.UseStatement), evidence.ReasonSuperseded, time.Now()); err != nil || string(third.Statement) != string(second.Statement) {
		t.Fatalf("a second statement was made: %v", err)
	}
	if got := open(t, home).Key(evidence.UseReceipt).Public(); !got.Equal(old) {
		t.Error("commands sign with a key that the log may not have")
	}
	// A node that learns of it from the log finds it.
	if key, err := h.FindKey(evidence.UseReceipt, third.Key.Public().KID()); err != nil || !key.Public().Equal(third.Key.Public()) {
		t.Errorf("finding the new key: %v", err)
	}
	if err := third.Finish(evidence.SumSHA256(third.Statement), 7); err != nil {
		t.Fatal(err)
	}
	if err := third.Finish(evidence.SumSHA256(third.Statement), 7); err != nil {
		t.Errorf("finishing twice: %v", err)
	}
	if got := open(t, home).Key(evidence.UseReceipt).Public(); !got.Equal(third.Key.Public()) {
		t.Error("commands do not sign with the new key")
	}
	// The home that was open all the while reads it again when asked.
	if key, err := h.Current(evidence.UseReceipt); err != nil || !key.Public().Equal(third.Key.Public()) {
		t.Errorf("Current: %v", err)
	}
	if key, err := h.FindKey(evidence.UseReceipt, old.KID()); err != nil || !key.Public().Equal(old) {
		t.Errorf("finding the old key: %v", err)
	}
	next := begin(t, home, evidence.UseReceipt, false)
	if next.Resumed || next.Replaces != third.Key.Public().KID() {
		t.Errorf("the next rotation: %+v", next)
	}
	s, err := evidence.ParseStatement(third.Statement)
	if err != nil {
		t.Fatal(err)
	}
	k, err := evidence.ParseKeyChange(s.Payload)
	if err != nil || k.Prove(h.Alliance.ID(), "court") != nil || k.Reason != evidence.ReasonCompromised || k.Replaces != old.KID() {
		t.Errorf("the statement says %+v, %v", k, err)
	}
}

// Once replaced, a key may be destroyed: the home opens without it.
func TestOldKeyMayBeDestroyed(t *testing.T) {
	home := joined(t, params("court", evidence.KindCourt))
	r := rotateTo(t, home, evidence.UseStatement, 3)
	if err := os.Remove(filepath.Join(home, "keys", "statement.pem")); err != nil {
		t.Fatal(err)
	}
	h := open(t, home)
	if !h.Key(evidence.UseStatement).Public().Equal(r.Key.Public()) {
		t.Error("it signs with another key")
	}
	if _, err := h.FindKey(evidence.UseStatement, r.Replaces); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("finding a destroyed key: %v", err)
	}
	// A key whose private half is lost is still replaced: the public one is known.
	rotateTo(t, home, evidence.UseAttest, 4)
	if err := os.Remove(filepath.Join(home, "keys", "attest.2.pem")); err != nil {
		t.Fatal(err)
	}
	_, err := Open(home)
	wantCode(t, err, CodeKeyMissing)
	h, err = Open(home, evidence.UseStatement) // what the command opens
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.BeginRotation(evidence.UseAttest, false, 0); err != nil {
		t.Errorf("replacing a lost key: %v", err)
	}
}

func TestRotationRefusals(t *testing.T) {
	p := params("court", evidence.KindCourt)
	p.SM2Receipt = true
	home := joined(t, p)
	h := open(t, home)
	for _, use := range []evidence.KeyUse{evidence.UseConsensus, evidence.UseNode, evidence.UseTLS, "nonsense"} {
		_, err := h.BeginRotation(use, false, 0)
		wantCode(t, err, CodeRotation)
	}
	sm2 := begin(t, home, evidence.UseReceipt, true)
	if sm2.Key.Public().Algorithm() != evidence.SM2SM3 || filepath.Base(sm2.KeyPath()) != "receipt-sm2.2.pem" {
		t.Errorf("the SM2 key: %v %s", sm2.Key, sm2.KeyPath())
	}
	other := joined(t, params("notary", evidence.KindNotary))
	_, err := open(t, other).BeginRotation(evidence.UseReceipt, true, 0)
	wantCode(t, err, CodeNoSM2)

	// The file holds another key than the log has.
	r := rotateTo(t, home, evidence.UseCosign, 5)
	good, err := os.ReadFile(filepath.Join(home, "keys", "cosign.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(r.KeyPath(), good, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = Open(home)
	wantCode(t, err, CodeKeyMismatch)
	// Its record is damaged.
	if err := os.WriteFile(filepath.Join(home, "rotations", "cosign.2.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = Open(home)
	wantCode(t, err, CodeRotation)

	// Refused by the log for good: the way is clear for another try.
	r = begin(t, other, evidence.UseReceipt, false)
	if err := r.Sign(open(t, other).Key(evidence.UseStatement), 0, time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := r.Withdraw(true); err != nil {
		t.Fatal(err)
	}
	if again := begin(t, other, evidence.UseReceipt, false); again.Resumed || again.Statement != nil || again.Key.Public().Equal(r.Key.Public()) {
		t.Errorf("after a burned key: %+v", again)
	}
}

// The authority's next key: old certificates stay in its public file, and a
// crash in between leaves it signing as before.
func TestRotateTSA(t *testing.T) {
	home, _ := initHome(t, params("ca", evidence.KindCA))
	_, _, err := RotateTSA(home, time.Now(), issuePlain)
	wantCode(t, err, CodeTSA) // there is none
	if _, err := MakeTSA(home, true, time.Now(), issuePlain); err != nil {
		t.Fatal(err)
	}
	before, err := open(t, home).TSA()
	if err != nil {
		t.Fatal(err)
	}
	cut := errors.New("cut")
	_, _, err = RotateTSA(home, time.Now(), func(crypto.PublicKey, string, time.Time) (*x509.Certificate, *x509.Certificate, error) {
		return nil, nil, cut
	})
	wantCode(t, err, CodeTSA)
	if got, err := open(t, home).TSA(); err != nil || !got.Key.Public().Equal(before.Key.Public()) || !got.Chain[0].Equal(before.Chain[0]) {
		t.Fatalf("after the cut: %v", err)
	}
	made, err := os.ReadFile(filepath.Join(home, "keys", "tsa.2.pem"))
	if err != nil {
		t.Fatal(err)
	}
	public, n, err := RotateTSA(home, time.Now(), issuePlain)
	if err != nil || n != 2 {
		t.Fatalf("generation %d, %v", n, err)
	}
	if again, err := os.ReadFile(filepath.Join(home, "keys", "tsa.2.pem")); err != nil || string(again) != string(made) {
		t.Errorf("the key was made twice: %v", err)
	}
	after, err := open(t, home).TSA()
	if err != nil {
		t.Fatal(err)
	}
	anchors := public.Anchors()
	if after.Key.Public().Equal(before.Key.Public()) || len(anchors) != 2 || !anchors[0].Equal(after.Chain[1]) || !anchors[1].Equal(before.Chain[1]) || !public.Demonstration {
		t.Errorf("%d certificates in the public file", len(anchors))
	}
	// Certificates of the institution's own CA, for a key made before: the same root
	// stays the only one.
	store := open(t, home).keyStore()
	key, err := store.Generate("tsa.3", evidence.ES256, nil)
	if err != nil {
		t.Fatal(err)
	}
	own, root, err := issuePlain(key.Private().Public(), "own", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(home, "tsa", "chain.3.pem")
	if err := os.WriteFile(path, encodeChain(after.Chain[0], root), 0o600); err != nil {
		t.Fatal(err)
	}
	_, _, err = RotateTSA(home, time.Now(), issuePlain)
	wantCode(t, err, CodeTSA) // the certificate is another key's
	if err := os.WriteFile(path, encodeChain(own, after.Chain[1]), 0o600); err != nil {
		t.Fatal(err)
	}
	public, n, err = RotateTSA(home, time.Now(), issuePlain)
	if err != nil || n != 3 || len(public.Anchors()) != 2 {
		t.Errorf("under the same root: generation %d, %d certificates, %v", n, len(public.Anchors()), err)
	}
	if got, err := open(t, home).TSA(); err != nil || !got.Key.Public().Equal(key.Public()) {
		t.Errorf("it signs with another key: %v", err)
	}
}
