// Package tokentest makes SoftHSM tokens and the program that signs with them,
// for tests.
package tokentest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// PIN opens the tokens made here.
const PIN = "495271"

// Token is a new SoftHSM token.
type Token struct {
	Label   string
	Module  string // file of SoftHSM's library
	PINFile string
	Program string // zhenglian-token
}

// URI names a key on it.
func (k *Token) URI(object string) string {
	return "pkcs11:token=" + k.Label + ";object=" + object + "?module-path=" + k.Module + "&pin-source=file:" + k.PINFile
}

// New makes a token of a name for t; it lives in the test's directory. The test
// is skipped where SoftHSM or a C compiler is missing, and there alone. It sets
// SOFTHSM2_CONF and ZHENGLIAN_TOKEN_PROGRAM for the test.
func New(t *testing.T, label string) *Token {
	t.Helper()
	util, err := exec.LookPath("softhsm2-util")
	if err != nil {
		t.Skip("softhsm2-util is not installed")
	}
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("gcc is not installed, which the PKCS#11 binding needs")
	}
	k := &Token{Label: label}
	for _, path := range []string{"/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so", "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so", "/usr/local/lib/softhsm/libsofthsm2.so"} {
		if _, err := os.Stat(path); err == nil {
			k.Module = path
			break
		}
	}
	if k.Module == "" {
		t.Skip("libsofthsm2.so is not where Debian has it")
	}
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "tokens"), 0o700))
	conf := filepath.Join(dir, "softhsm2.conf")
	must(t, os.WriteFile(conf, []byte("directories.tokendir = "+filepath.Join(dir, "tokens")+"\nobjectstore.backend = file\nlog.level = ERROR\n"), 0o600))
	t.Setenv("SOFTHSM2_CONF", conf)
	if out, err := exec.Command(util, "--init-token", "--free", "--label", label, "--so-pin", "87654321", "--pin", PIN).CombinedOutput(); err != nil {
		t.Fatalf("softhsm2-util: %v\n%s", err, out)
	}
	k.PINFile = filepath.Join(dir, "pin")
	must(t, os.WriteFile(k.PINFile, []byte(PIN+"\n"), 0o600))
	k.Program = filepath.Join(dir, "zhenglian-token")
	build := exec.Command("go", "build", "-o", k.Program, "github.com/zhenglian/zhenglian/cmd/zhenglian-token")
	build.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building zhenglian-token: %v\n%s", err, out)
	}
	t.Setenv("ZHENGLIAN_TOKEN_PROGRAM", k.Program)
	return k
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
