package institution

import (
	"crypto/rand"
	"crypto/x509/pkix"
	"errors"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/emmansun/gmsm/smx509"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/signing"
	"github.com/zhenglian/zhenglian/internal/signing/tokentest"
)

// An institution whose signing keys are on a token: its home opens, its receipt
// verifies as anybody's, and no file of them is on the disk.
func TestKeysOnAToken(t *testing.T) {
	card := tokentest.New(t, "ca")
	home := filepath.Join(t.TempDir(), "ca")
	p := params("ca", evidence.KindCA)
	p.ReceiptAlgorithm = evidence.ES256
	p.Token = TokenConfig{Module: card.Module, PINFile: card.PINFile}
	p.Keys = map[string]string{}
	for _, name := range []string{"receipt", "cosign", "statement", "attest", "tsa", "ca"} {
		p.Keys[name] = "pkcs11:token=ca;object=" + name
	}
	d, err := Init(home, p)
	if err != nil {
		t.Fatal(err)
	}
	h, err := Open(home)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	root := evidence.Checkpoint{Size: 5, Root: evidence.SumSHA256([]byte("root"))}
	signed, err := evidence.SignRoot(h.Key(evidence.UseReceipt), "ca", "example/log", 1, root)
	if err != nil {
		t.Fatal(err)
	}
	receipt := signed.Receipt(0, nil)
	if len(receipt) == 0 {
		t.Fatal("no receipt")
	}
	for use, alg := range map[evidence.KeyUse]evidence.Algorithm{evidence.UseReceipt: evidence.ES256, evidence.UseCosign: evidence.EdDSA, evidence.UseStatement: evidence.EdDSA, evidence.UseAttest: evidence.EdDSA} {
		key := h.Key(use)
		if !key.OnToken() || key.Public().Algorithm() != alg {
			t.Errorf("the %s key is %v, on a token: %v", use, key, key.OnToken())
		}
		sig, err := key.Sign([]byte("message"))
		if err != nil {
			t.Fatal(err)
		}
		public, err := d.PublicKeys(use)
		if err != nil || public[0].VerifyStrict([]byte("message"), sig) != nil {
			t.Errorf("%s: the descriptor's key does not verify it: %v", use, err)
		}
		if _, err := os.Lstat(filepath.Join(home, "keys", string(use)+".pem")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the %s key is in a file", use)
		}
	}
	if h.Key(evidence.UseTLS).OnToken() || h.Key(evidence.UseConsensus).OnToken() {
		t.Error("the engine's keys are on the token")
	}
	// The authorities too.
	now := time.Now()
	if _, err := MakeCA(home, true, true, now, selfSigned); err != nil {
		t.Fatal(err)
	}
	ca, err := h.CA()
	if err != nil {
		t.Fatal(err)
	}
	if len(ca.Keys) != 2 || !ca.Keys[0].Key.OnToken() || ca.Keys[1].Key.OnToken() || ca.Keys[1].Key.Public().Algorithm() != evidence.SM2SM3 {
		t.Errorf("CA keys %v", ca.Keys)
	}
	// The next CA key on it, by [keys] ca-2, beside the former one.
	settings, err := os.ReadFile(filepath.Join(home, configFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(home, configFile), []byte(strings.Replace(string(settings), "[keys]\n", "[keys]\nca-2 = \"pkcs11:token=ca;object=ca-2\"\n", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	rotated, err := RotateCA(home, false, now, selfSigned)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Open(home)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	after, err := again.CA()
	if err != nil {
		t.Fatal(err)
	}
	if len(after.Keys) != 3 || !after.Keys[0].Key.OnToken() || !after.Keys[1].Key.OnToken() || after.Keys[0].Generation != 2 || after.Keys[0].Key.Public().Equal(after.Keys[1].Key.Public()) ||
		!after.Keys[1].Key.Public().Equal(ca.Keys[0].Key.Public()) || !strings.HasPrefix(rotated.Key, "pkcs11:") {
		t.Errorf("after its replacement: %v, %+v", after.Keys, rotated)
	}
	// Without the PIN the home says what is missing.
	if err := os.WriteFile(card.PINFile, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var wrong *Error
	var token *signing.TokenError
	if _, err := Open(home); !errors.As(err, &wrong) || wrong.Code != CodeKeyUnreadable || !errors.As(err, &token) || token.Code != signing.TokenNoPIN {
		t.Errorf("without a PIN: %v", err)
	}
	// Another token with the same label: its key is another.
	if err := os.WriteFile(card.PINFile, []byte(tokentest.PIN+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(home, configFile))
	if err != nil {
		t.Fatal(err)
	}
	swapped := strings.Replace(string(text), "object=attest", "object=statement", 1)
	if swapped == string(text) {
		t.Fatalf("node.toml has no URI of the attest key:\n%s", text)
	}
	if err := os.WriteFile(filepath.Join(home, configFile), []byte(swapped), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(home); !errors.As(err, &wrong) || wrong.Code != CodeKeyMismatch {
		t.Errorf("a key that the descriptor does not name: %v", err)
	}
}

// selfSigned stands for the certification authority's own code.
func selfSigned(key *signing.Key, name string, generation int, _ bool, now time.Time) ([]byte, error) {
	c := &smx509.Certificate{SerialNumber: big.NewInt(int64(generation)), Subject: pkix.Name{CommonName: name}, NotBefore: now, NotAfter: now.AddDate(10, 0, 0),
		BasicConstraintsValid: true, IsCA: true, KeyUsage: smx509.KeyUsageCertSign | smx509.KeyUsageCRLSign}
	return smx509.CreateCertificate(rand.Reader, c, c, key.Private().Public(), key.Private())
}

func TestKeySettings(t *testing.T) {
	for text, want := range map[string]string{
		"[keys]\nconsensus = \"pkcs11:token=a;object=b\"":                          "keys.consensus",
		"[keys]\nreceipt-sm2 = \"pkcs11:token=a;object=b\"":                        "keys.receipt-sm2",
		"[keys]\nreceipt-1 = \"pkcs11:token=a;object=b\"":                          "keys.receipt-1",
		"[keys]\nreceipt = \"keys/receipt.pem\"":                                   "keys.receipt",
		"[keys]\nreceipt = \"pkcs11:token=a;object=b?pin-value=495271\"":           "keys.receipt",
		"[keys]\nreceipt = \"pkcs11:token=a;object=b\"":                            "",
		"[keys]\nstatement-2 = \"pkcs11:token=a;object=b\"\n[token]\nmodule=\"x\"": "",
	} {
		h, _ := initHome(t, params("court", evidence.KindCourt))
		if err := os.WriteFile(filepath.Join(h, configFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := OpenPublic(h)
		var e *Error
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: %v", text, err)
		case want != "" && (!errors.As(err, &e) || e.Subject != want):
			t.Errorf("%s: %v, want one about %s", text, err, want)
		case err != nil && strings.Contains(err.Error(), "495271"):
			t.Errorf("the error quotes the PIN: %v", err)
		}
	}
}

// A power cut at each step of MakeCA, and the same run again.
func TestMakeCA(t *testing.T) {
	court, _ := initHome(t, params("court", evidence.KindCourt))
	var e *Error
	if _, err := MakeCA(court, false, false, time.Now(), selfSigned); !errors.As(err, &e) || e.Code != CodeCA {
		t.Errorf("a court makes a CA: %v", err)
	}
	home := filepath.Join(t.TempDir(), "ca")
	p := params("ca", evidence.KindCA)
	if _, err := Init(home, p); err != nil {
		t.Fatal(err)
	}
	h, err := OpenPublic(home)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.CA(); h.HasCA() || !errors.As(err, &e) || !strings.Contains(e.Hint, "institution ca") {
		t.Errorf("a home without one: %v", err)
	}
	cut := errors.New("power cut")
	broken := func(*signing.Key, string, int, bool, time.Time) ([]byte, error) { return nil, cut }
	if _, err := MakeCA(home, true, true, time.Now(), broken); !errors.Is(err, cut) || h.HasCA() {
		t.Fatalf("a power cut: %v", err)
	}
	before, err := os.ReadFile(filepath.Join(home, "keys", "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	a, err := MakeCA(home, true, true, time.Now(), selfSigned)
	if err != nil {
		t.Fatal(err)
	}
	if after, err := os.ReadFile(filepath.Join(home, "keys", "ca.pem")); err != nil || string(after) != string(before) {
		t.Error("the key was made twice")
	}
	if _, err := MakeCA(home, true, true, time.Now(), selfSigned); !errors.As(err, &e) || e.Code != CodeExists {
		t.Errorf("a second authority: %v", err)
	}
	ca, err := h.CA()
	if err != nil {
		t.Fatal(err)
	}
	if len(ca.Keys) != 2 || ca.Authority.Certificate != a.Certificate || !ca.Authority.Demonstration || !strings.Contains(a.CertificateSM2, "CERTIFICATE") {
		t.Errorf("opened %+v", ca.Authority)
	}
	if err := os.Chmod(filepath.Join(home, "keys", "ca.pem"), 0o644); err != nil {
		t.Fatal(err)
	}
	var exposed *signing.ExposedError
	if _, err := h.CA(); !errors.As(err, &exposed) {
		t.Errorf("an exposed CA key: %v", err)
	}
}
