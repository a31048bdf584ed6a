package institution

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
)

// issuePlain makes certificates of the right shape for these tests, which are
// about files.
func issuePlain(key crypto.PublicKey, name string, now time.Time) (own, root *x509.Certificate, err error) {
	ca, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	make := func(n int64, parent *x509.Certificate, pub crypto.PublicKey) (*x509.Certificate, error) {
		c := &x509.Certificate{SerialNumber: big.NewInt(n), Subject: pkix.Name{CommonName: name}, NotBefore: now, NotAfter: now.AddDate(1, 0, 0), IsCA: parent == nil, BasicConstraintsValid: true}
		if parent == nil {
			parent = c
		}
		der, err := x509.CreateCertificate(rand.Reader, c, parent, pub, ca)
		if err != nil {
			return nil, err
		}
		return x509.ParseCertificate(der)
	}
	if root, err = make(1, nil, ca.Public()); err == nil {
		own, err = make(2, root, key)
	}
	return own, root, err
}

func TestMakeTSA(t *testing.T) {
	home, d := initHome(t, params("ca", evidence.KindCA))
	if _, err := open(t, home).TSA(); err == nil {
		t.Fatal("an authority is there before it is made")
	} else {
		wantCode(t, err, CodeTSA)
	}
	// The power fails while the certificates are made: the key stays, and is used.
	cut := errors.New("cut")
	_, err := MakeTSA(home, true, time.Now(), func(crypto.PublicKey, string, time.Time) (*x509.Certificate, *x509.Certificate, error) {
		return nil, nil, cut
	})
	wantCode(t, err, CodeTSA)
	key, err := os.ReadFile(filepath.Join(home, "keys", "tsa.pem"))
	if err != nil {
		t.Fatal(err)
	}
	made, err := MakeTSA(home, true, time.Now(), issuePlain)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := os.ReadFile(filepath.Join(home, "keys", "tsa.pem")); err != nil || string(again) != string(key) {
		t.Errorf("the key was made twice: %v", err)
	}
	got, err := open(t, home).TSA()
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Chain) != 2 || got.Authority.ID != "ca" || got.Authority.Name != d.Name || !got.Authority.Demonstration || got.Authority.Certificate != made.Certificate ||
		!got.Authority.X509().Equal(got.Chain[1]) || got.Key.Public().Algorithm() != evidence.ES256 {
		t.Errorf("%+v", got)
	}
	if pub, ok := got.Chain[0].PublicKey.(*ecdsa.PublicKey); !ok || !pub.Equal(got.Key.Private().Public()) {
		t.Error("the certificate is for another key")
	}
	_, err = MakeTSA(home, false, time.Now(), issuePlain)
	wantCode(t, err, CodeExists)
	// The key stands in no descriptor, and a home without it opens.
	if err := os.Remove(filepath.Join(home, "keys", "tsa.pem")); err != nil {
		t.Fatal(err)
	}
	_, err = open(t, home).TSA()
	wantCode(t, err, CodeTSA)
}

func TestAuthorities(t *testing.T) {
	other, _ := initHome(t, params("ca", evidence.KindCA))
	if _, err := MakeTSA(other, true, time.Now(), issuePlain); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(other, "tsa", "authority.json")
	home, d := initHome(t, params("court", evidence.KindCourt))
	h := &Home{Path: home, Descriptor: d}
	var err error
	h.Config, err = h.loadConfig([]string{"ZHENGLIAN_NODE_TIMESTAMPS_AUTHORITIES=http://127.0.0.1:1/tsa " + file + ", https://b.example/tsa " + file})
	if err != nil {
		t.Fatal(err)
	}
	all, err := h.Authorities()
	if err != nil || len(all) != 2 || all[0].URL != "http://127.0.0.1:1/tsa" || all[1].URL != "https://b.example/tsa" || all[1].ID != "ca" || all[0].X509() == nil {
		t.Fatalf("%+v %v", all, err)
	}
	if err := os.WriteFile(filepath.Join(home, "a.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	h.Config.Timestamps.Authorities[1].File = "a.json"
	_, err = h.Authorities()
	wantCode(t, err, CodeTSA)
}
