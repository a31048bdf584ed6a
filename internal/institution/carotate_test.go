package institution

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/signing"
)

// caHome is a CA institution with a P-256 and an SM2 authority.
func caHome(t *testing.T, sm2 bool) string {
	t.Helper()
	home, _ := initHome(t, params("ca", evidence.KindCA))
	if _, err := MakeCA(home, true, sm2, time.Now(), selfSigned); err != nil {
		t.Fatal(err)
	}
	return home
}

func openCA(t *testing.T, home string) *CA {
	t.Helper()
	h, err := OpenPublic(home)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := h.CA()
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// names are the generations in their order, as p256.2 and so on.
func (c *CA) names() (out []string) {
	for _, k := range c.Keys {
		alg := "gone"
		if k.Key != nil {
			alg = signing.AlgorithmName(k.Key.Public().Algorithm())
		}
		out = append(out, alg+"."+string(rune('0'+k.Generation)))
	}
	return out
}

func TestRotateCA(t *testing.T) {
	home := caHome(t, true)
	before := openCA(t, home)
	r, err := RotateCA(home, false, time.Now(), selfSigned)
	if err != nil {
		t.Fatal(err)
	}
	if r.Generation != 2 || r.Key != filepath.Join(home, "keys", "ca.2.pem") || r.Certificate != filepath.Join(home, "ca", "certificate.2.pem") || r.Former != filepath.Join(home, "ca", "certificate.pem") {
		t.Errorf("rotated %+v", r)
	}
	if _, err := RotateCA(home, true, time.Now(), selfSigned); err != nil {
		t.Fatal(err)
	}
	if _, err := RotateCA(home, false, time.Now(), selfSigned); err != nil {
		t.Fatal(err)
	}
	after := openCA(t, home)
	if got := after.names(); !slices.Equal(got, []string{"p256.3", "p256.2", "p256.1", "sm2.2", "sm2.1"}) {
		t.Fatalf("generations %v", got)
	}
	if !after.Keys[2].Key.Public().Equal(before.Keys[0].Key.Public()) || string(after.Keys[2].Certificate) != string(before.Keys[0].Certificate) ||
		string(after.Keys[4].Certificate) != string(before.Keys[1].Certificate) {
		t.Error("the first generation is another one")
	}
	a := after.Authority
	if len(a.Former) != 2 || a.Former[1] != before.Authority.Certificate || len(a.FormerSM2) != 1 || a.FormerSM2[0] != before.Authority.CertificateSM2 ||
		slices.Contains(a.Former, a.Certificate) || a.CertificateSM2 == before.Authority.CertificateSM2 {
		t.Errorf("the public file has %+v", a)
	}
	all := a.ForPolicy()
	if len(all) != 3 || all[0].Certificate != a.Certificate || all[2].Certificate != before.Authority.Certificate || all[1].ID != "ca" {
		t.Errorf("policies get %+v", all)
	}
	// A former key that was destroyed is left out; the present one is missed.
	if err := os.Remove(filepath.Join(home, "keys", "ca.pem")); err != nil {
		t.Fatal(err)
	}
	if got := openCA(t, home).names(); got[2] != "gone.1" {
		t.Errorf("without the first key: %v", got)
	}
	if err := os.Rename(filepath.Join(home, "keys", "ca.3.pem"), filepath.Join(home, "keys", "ca.2.pem")); err != nil {
		t.Fatal(err)
	}
	h, err := OpenPublic(home)
	if err != nil {
		t.Fatal(err)
	}
	_, err = h.CA()
	wantCode(t, err, CodeCA)
}

func TestRotateCARefusals(t *testing.T) {
	home, _ := initHome(t, params("ca", evidence.KindCA))
	_, err := RotateCA(home, false, time.Now(), selfSigned)
	wantCode(t, err, CodeCA)
	if !strings.Contains(err.Error(), "institution ca") {
		t.Errorf("a home without an authority: %v", err)
	}
	home = caHome(t, false)
	_, err = RotateCA(home, true, time.Now(), selfSigned)
	wantCode(t, err, CodeNoSM2)
	// Another key's certificate in the place of the new one's is not published.
	other := openCA(t, caHome(t, false)).Authority.Certificate
	if err := os.WriteFile(filepath.Join(home, "ca", "certificate.2.pem"), []byte(other), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err = RotateCA(home, false, time.Now(), selfSigned); err == nil || !strings.Contains(err.Error(), "of another key") {
		t.Errorf("another key's certificate: %v", err)
	}
	if got := openCA(t, home); len(got.Authority.Former) != 0 || !slices.Equal(got.names(), []string{"p256.1"}) {
		t.Errorf("after a refusal: %v, %+v", got.names(), got.Authority)
	}
	// A key file that was exchanged behind the mark's back.
	if err := os.Remove(filepath.Join(home, "ca", "certificate.2.pem")); err != nil {
		t.Fatal(err)
	}
	if _, err := RotateCA(home, false, time.Now(), selfSigned); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(home, "keys", "ca.2.pem")); err != nil {
		t.Fatal(err)
	}
	if _, err := signing.Dir(filepath.Join(home, "keys")).Generate("ca.2", evidence.ES256, nil); err != nil {
		t.Fatal(err)
	}
	h, err := OpenPublic(home)
	if err != nil {
		t.Fatal(err)
	}
	_, err = h.CA()
	wantCode(t, err, CodeCA)
}

// A power cut after each step, and the same run again: one key, one certificate,
// and until the last step the authority signs as before.
func TestRotateCACrashes(t *testing.T) {
	cut := errors.New("power cut")
	broken := func(*signing.Key, string, int, bool, time.Time) ([]byte, error) { return nil, cut }
	block := func(t *testing.T, path string) (undo func()) { // a directory that is not empty cannot be replaced
		t.Helper()
		if err := os.MkdirAll(filepath.Join(path, "x"), 0o700); err != nil {
			t.Fatal(err)
		}
		return func() {
			if err := os.RemoveAll(path); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, tc := range map[string]struct {
		interrupt func(t *testing.T, home string) (undo func())
		published bool // the public file has the new certificate already
	}{
		"after the key": {func(t *testing.T, home string) func() {
			if _, err := RotateCA(home, true, time.Now(), broken); !errors.Is(err, cut) {
				t.Fatal(err)
			}
			return nil
		}, false},
		"after the certificate": {func(t *testing.T, home string) func() {
			return block(t, filepath.Join(home, "ca", "authority.json.new"))
		}, false},
		"after the public file": {func(t *testing.T, home string) func() {
			// Nothing can be read there, and nothing created.
			mark := filepath.Join(home, "rotations", "ca-sm2.2.json")
			if err := errors.Join(os.MkdirAll(filepath.Dir(mark), 0o700), os.Symlink("nowhere", mark)); err != nil {
				t.Fatal(err)
			}
			return func() {
				if err := os.Remove(mark); err != nil {
					t.Fatal(err)
				}
			}
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			home := caHome(t, true)
			before := openCA(t, home)
			undo := tc.interrupt(t, home)
			if undo != nil {
				_, err := RotateCA(home, true, time.Now(), selfSigned)
				wantCode(t, err, CodeRotation)
				undo()
			}
			key, err := os.ReadFile(filepath.Join(home, "keys", "ca-sm2.2.pem"))
			if err != nil {
				t.Fatal(err)
			}
			half := openCA(t, home)
			if got := half.names(); !slices.Equal(got, []string{"p256.1", "sm2.1"}) {
				t.Errorf("half-way it signs with %v", got)
			}
			if (half.Authority.CertificateSM2 != before.Authority.CertificateSM2) != tc.published {
				t.Error("half-way the public file is another than it should be")
			}
			if _, err := RotateCA(home, true, time.Now(), selfSigned); err != nil {
				t.Fatal(err)
			}
			if again, err := os.ReadFile(filepath.Join(home, "keys", "ca-sm2.2.pem")); err != nil || string(again) != string(key) {
				t.Errorf("the key was made twice: %v", err)
			}
			after := openCA(t, home)
			if got := after.names(); !slices.Equal(got, []string{"p256.1", "sm2.2", "sm2.1"}) || !slices.Equal(after.Authority.FormerSM2, []string{before.Authority.CertificateSM2}) ||
				after.Authority.Former != nil || after.Authority.Certificate != before.Authority.Certificate {
				t.Errorf("in the end %v, %+v", got, after.Authority)
			}
			// The mark alone was lost: it is written again, and nothing else changes.
			if err := os.Remove(filepath.Join(home, "rotations", "ca-sm2.2.json")); err != nil {
				t.Fatal(err)
			}
			if _, err := RotateCA(home, true, time.Now(), selfSigned); err != nil {
				t.Fatal(err)
			}
			if last := openCA(t, home); !slices.Equal(last.names(), after.names()) || !slices.Equal(last.Authority.FormerSM2, after.Authority.FormerSM2) {
				t.Errorf("after a lost mark %v", last.names())
			}
		})
	}
}
