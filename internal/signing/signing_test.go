package signing

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/emmansun/gmsm/smx509"

	"github.com/zhenglian/zhenglian/evidence"
)

func algorithms() []evidence.Algorithm {
	return []evidence.Algorithm{evidence.EdDSA, evidence.ES256, evidence.SM2SM3}
}

func generate(t *testing.T, alg evidence.Algorithm) *Key {
	t.Helper()
	k, err := Generate(alg, nil)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestKeySurvivesItsFile(t *testing.T) {
	for _, alg := range algorithms() {
		path := filepath.Join(t.TempDir(), "key.pem")
		k := generate(t, alg)
		if k.Public().Algorithm() != alg {
			t.Fatalf("made a %s key, want %s", k.Public().Algorithm(), alg)
		}
		if err := k.Save(path, nil); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode() != 0o600 {
			t.Fatalf("%s: mode %v, %v; want -rw-------", alg, info.Mode(), err)
		}
		back, err := Load(path, nil)
		if err != nil {
			t.Fatal(err)
		}
		sig, err := back.Sign([]byte("message"))
		if err != nil {
			t.Fatal(err)
		}
		if err := k.Public().VerifyStrict([]byte("message"), sig); err != nil {
			t.Errorf("%s: the loaded key signs for another: %v", alg, err)
		}
		if err := k.Public().Verify([]byte("massage"), sig); !errors.Is(err, evidence.ErrBadSignature) {
			t.Errorf("%s: another message verifies", alg)
		}
	}
}

func TestSaveNeverReplaces(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key.pem")
	first := generate(t, evidence.EdDSA)
	if err := first.Save(path, nil); err != nil {
		t.Fatal(err)
	}
	if err := generate(t, evidence.EdDSA).Save(path, nil); !errors.Is(err, fs.ErrExist) {
		t.Fatalf("saving over a key: %v, want fs.ErrExist", err)
	}
	if k, err := Load(path, nil); err != nil || !k.Public().Equal(first.Public()) {
		t.Errorf("the first key is gone: %v", err)
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 1 {
		t.Errorf("temporary files were left: %v", left)
	}
	dir := Dir(t.TempDir())
	if _, err := dir.Generate("receipt", evidence.ES256, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := dir.Generate("receipt", evidence.ES256, nil); !errors.Is(err, fs.ErrExist) {
		t.Errorf("Dir.Generate over a key: %v, want fs.ErrExist", err)
	}
	if _, err := dir.Key("cosign"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a key that is not there: %v, want fs.ErrNotExist", err)
	}
}

func TestExposedFilesAreRefused(t *testing.T) {
	for _, mode := range []fs.FileMode{0o640, 0o604, 0o620, 0o602, 0o610, 0o644, 0o666, 0o777} {
		path := filepath.Join(t.TempDir(), "key.pem")
		if err := generate(t, evidence.EdDSA).Save(path, nil); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		_, err := Load(path, nil)
		var exposed *ExposedError
		if !errors.As(err, &exposed) || exposed.Mode != mode || exposed.Dir || !strings.Contains(err.Error(), "chmod 600") {
			t.Errorf("mode %04o: %v, want an ExposedError with a hint", mode, err)
		}
	}
	for _, tc := range []struct {
		mode fs.FileMode
		ok   bool
	}{{0o700, true}, {0o755, true}, {0o777 | fs.ModeSticky, true}, {0o770, false}, {0o702, false}} {
		dir := t.TempDir()
		path := filepath.Join(dir, "key.pem")
		if err := generate(t, evidence.EdDSA).Save(path, nil); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, tc.mode); err != nil {
			t.Fatal(err)
		}
		_, err := Load(path, nil)
		var exposed *ExposedError
		if refused := errors.As(err, &exposed) && exposed.Dir; refused == tc.ok || tc.ok && err != nil {
			t.Errorf("directory of mode %v: %v", tc.mode, err)
		}
	}
}

func TestPassphrase(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key.pem")
	k := generate(t, evidence.SM2SM3)
	if err := k.Save(path, Fixed("正确的马电池订书钉")); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil || !bytes.HasPrefix(content, []byte("-----BEGIN AGE ENCRYPTED FILE-----")) {
		t.Fatalf("the file is no age file: %.40q, %v", content, err)
	}
	if back, err := Load(path, Fixed("正确的马电池订书钉")); err != nil || !back.Public().Equal(k.Public()) {
		t.Errorf("the right passphrase: %v", err)
	}
	if _, err := Load(path, Fixed("错误的")); !errors.Is(err, ErrWrongPassphrase) {
		t.Errorf("a wrong passphrase: %v", err)
	}
	if _, err := Load(path, nil); !errors.Is(err, ErrNeedsPassphrase) {
		t.Errorf("no passphrase: %v", err)
	}
	asked := errors.New("nobody answers")
	if _, err := Load(path, func(string) (string, error) { return "", asked }); !errors.Is(err, asked) {
		t.Errorf("a failing prompt: %v", err)
	}
}

func TestKeysAreNotPrinted(t *testing.T) {
	k := generate(t, evidence.EdDSA)
	seed := fmt.Sprintf("%x", k.Private())[:64]
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%q"} {
		text := fmt.Sprintf(verb, k)
		if !strings.Contains(text, k.Public().KID().String()) || strings.Contains(strings.ToLower(text), seed[:16]) || strings.Contains(text, "private") {
			t.Errorf("%s prints %q", verb, text)
		}
	}
	if text := k.LogValue().String(); strings.Contains(text, seed[:16]) {
		t.Errorf("the log shows %q", text)
	}
}

func TestForeignFilesAreRefused(t *testing.T) {
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := smx509.MarshalPKCS8PrivateKey(p384)
	if err != nil {
		t.Fatal(err)
	}
	good, err := generate(t, evidence.EdDSA).EncodePEM()
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		text []byte
		want string
	}{
		"empty":      {nil, "no PEM block"},
		"P-384":      {pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), "P-256"},
		"SEC1":       {pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), "openssl pkcs8"},
		"encrypted":  {pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: der}), "age passphrase"},
		"public key": {pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), "PUBLIC KEY"},
		"two keys":   {append(bytes.Clone(good), good...), "one key, one file"},
		"rubbish":    {pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("rubbish")}), "not a PKCS#8"},
	} {
		if _, err := ParsePEM(tc.text); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q in it", name, err, tc.want)
		}
	}
	if _, err := Generate(evidence.Algorithm(-19), nil); err == nil {
		t.Error("a key was made for an algorithm that is not ours")
	}
}

// OpenSSL reads the keys made here, and its keys are read here.
func TestOpenSSLAgrees(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed")
	}
	for alg, args := range map[evidence.Algorithm][]string{
		evidence.EdDSA:  {"-algorithm", "ED25519"},
		evidence.ES256:  {"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"},
		evidence.SM2SM3: {"-algorithm", "SM2"},
	} {
		dir := t.TempDir()
		ours, theirs := filepath.Join(dir, "ours.pem"), filepath.Join(dir, "theirs.pem")
		k := generate(t, alg)
		if err := k.Save(ours, nil); err != nil {
			t.Fatal(err)
		}
		public, err := exec.Command(openssl, "pkey", "-in", ours, "-pubout").Output()
		if err != nil {
			t.Errorf("%s: openssl does not read our key: %v", alg, err)
		} else if !bytes.Equal(public, k.Public().PEM()) {
			t.Errorf("%s: openssl reads another public key:\n%s%s", alg, public, k.Public().PEM())
		}
		if out, err := exec.Command(openssl, append([]string{"genpkey", "-out", theirs}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("openssl genpkey: %v\n%s", err, out)
		}
		if back, err := Load(theirs, nil); err != nil || back.Public().Algorithm() != alg {
			t.Errorf("%s: a key by openssl: %v", alg, err)
		}
	}
}

func FuzzParsePEM(f *testing.F) {
	for _, alg := range algorithms() {
		k, err := Generate(alg, nil)
		if err != nil {
			f.Fatal(err)
		}
		text, err := k.EncodePEM()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		k, err := ParsePEM(text)
		if err != nil {
			return
		}
		again, err := k.EncodePEM()
		if err != nil {
			t.Fatal(err)
		}
		if back, err := ParsePEM(again); err != nil || !back.Public().Equal(k.Public()) {
			t.Fatalf("the key changed when it was written: %v", err)
		}
	})
}
