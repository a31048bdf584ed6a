package signing_test

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/signing"
	"github.com/zhenglian/zhenglian/internal/signing/tokentest"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func tokens(t *testing.T, cfg signing.TokenConfig) *signing.Tokens {
	t.Helper()
	s := signing.NewTokens(cfg)
	t.Cleanup(func() { must(t, s.Close()) })
	return s
}

func TestTokenURIs(t *testing.T) {
	u, err := signing.ParseTokenURI("pkcs11:token=The%20Court;object=receipt;id=%01%ff;type=private?module-path=/usr/lib/p11.so&pin-source=file:/etc/pin")
	must(t, err)
	if u.Token != "The Court" || u.Object != "receipt" || !bytes.Equal(u.ID, []byte{1, 255}) || u.Module != "/usr/lib/p11.so" || u.PIN != "/etc/pin" {
		t.Errorf("read as %+v", u)
	}
	if text := u.String(); text != "pkcs11:token=The%20Court;object=receipt;id=%01%FF" {
		t.Errorf("written as %s", text)
	}
	for uri, want := range map[string]string{
		"token=a;object=b":                            "is named like",
		"pkcs11:object=b":                             "name the token",
		"pkcs11:token=a;serial=1;object=b":            "not by both",
		"pkcs11:token=a":                              "name the key",
		"pkcs11:token=a;object=b;object=c":            "twice",
		"pkcs11:token=a;object=%zz":                   "wrong escape",
		"pkcs11:token=a;object=b;slot-id=1":           "not supported",
		"pkcs11:token=a;object=b;type=public":         "no private key",
		"pkcs11:token=a;object=b?pin-value=495271":    "holds a PIN",
		"pkcs11:token=a;object=b?pin-source=|cat":     "no file",
		"pkcs11:token=a;object=b?pin-source=https:x":  "no file",
		"pkcs11:token=a;object=b?module-name=softhsm": "not supported",
	} {
		_, err := signing.ParseTokenURI(uri)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", uri, err, want)
		} else if strings.Contains(err.Error(), "495271") {
			t.Error("an error quotes the PIN")
		}
	}
}

func FuzzParseTokenURI(f *testing.F) {
	f.Add("pkcs11:token=a%20b;object=b;id=%00?module-path=/x&pin-source=file:/y")
	f.Fuzz(func(t *testing.T, s string) {
		u, err := signing.ParseTokenURI(s)
		if err != nil {
			return
		}
		back, err := signing.ParseTokenURI(u.String())
		if err != nil || back.Token != u.Token || back.Serial != u.Serial || back.Object != u.Object || !bytes.Equal(back.ID, u.ID) {
			t.Fatalf("%q became %q: %v", s, u, err)
		}
	})
}

func TestTokenSigns(t *testing.T) {
	card := tokentest.New(t, "court")
	store := tokens(t, signing.TokenConfig{})
	for _, alg := range []evidence.Algorithm{evidence.ES256, evidence.EdDSA} {
		uri := card.URI(signing.AlgorithmName(alg))
		if _, err := store.Key(uri); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("a key that is not there: %v", err)
		}
		made, err := store.Generate(uri, alg)
		must(t, err)
		if _, err := store.Generate(uri, alg); !errors.Is(err, fs.ErrExist) {
			t.Errorf("%s: made again: %v", alg, err)
		}
		// Another process finds the same key.
		key, err := tokens(t, signing.TokenConfig{}).Key(uri)
		must(t, err)
		if !key.Public().Equal(made.Public()) || key.Public().Algorithm() != alg || !key.OnToken() {
			t.Errorf("%s: found %v, made %v", alg, key, made)
		}
		for i := range 8 { // low s half of the time by chance
			message := fmt.Appendf(nil, "message %d", i)
			sig, err := key.Sign(message)
			must(t, err)
			must(t, key.Public().VerifyStrict(message, sig))
			if key.Public().Verify([]byte("massage"), sig) == nil {
				t.Error("it verifies for another message")
			}
		}
		if text := fmt.Sprintf("%+v", key); !strings.Contains(text, key.Public().KID().String()) || strings.Contains(text, card.PINFile) {
			t.Errorf("it prints as %s", text)
		}
		if _, err := key.EncodePEM(); err == nil {
			t.Error("a key left its token")
		}
		if alg == evidence.ES256 {
			if _, err := key.Private().Sign(nil, make([]byte, 48), crypto.SHA384); err == nil {
				t.Error("it signed another digest")
			}
			// As X.509 uses it.
			c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "x"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
			der, err := x509.CreateCertificate(nil, c, c, key.Private().Public(), key.Private())
			must(t, err)
			cert, err := x509.ParseCertificate(der)
			must(t, err)
			must(t, cert.CheckSignatureFrom(cert))
		}
	}
	if _, err := store.Generate(card.URI("sm2"), evidence.SM2SM3); err == nil {
		t.Error("an SM2 key was made on the token")
	}
}

// A file with a URI stands for a key file.
func TestTokenInPlaceOfAKeyFile(t *testing.T) {
	card := tokentest.New(t, "member")
	store := tokens(t, signing.TokenConfig{})
	made, err := store.Generate(card.URI("key"), evidence.ES256)
	must(t, err)
	path := filepath.Join(t.TempDir(), "key.pem")
	must(t, signing.SaveURI(path, card.URI("key")))
	key, err := store.Open(path, nil)
	must(t, err)
	if !key.Public().Equal(made.Public()) {
		t.Error("another key was opened")
	}
	if err := signing.SaveURI(filepath.Join(t.TempDir(), "key.pem"), "pkcs11:token=a;object=b?pin-value=1"); err == nil {
		t.Error("a PIN was written into a file")
	}
	plain, err := signing.Generate(evidence.EdDSA, nil)
	must(t, err)
	file := filepath.Join(t.TempDir(), "key.pem")
	must(t, plain.Save(file, nil))
	if back, err := store.Open(file, nil); err != nil || !back.Public().Equal(plain.Public()) {
		t.Errorf("a key file: %v", err)
	}
	// Mixed: what has a URI is on the token, the rest in files.
	mixed := signing.Mixed{Files: signing.Dir(t.TempDir()), Tokens: store, URIs: map[string]string{"receipt": card.URI("key"), "statement": card.URI("new")}}
	if k, err := mixed.Generate("receipt", evidence.EdDSA, nil); err != nil || !k.Public().Equal(made.Public()) {
		t.Errorf("a key that was made in a ceremony is taken: %v", err)
	}
	if k, err := mixed.Generate("statement", evidence.EdDSA, nil); err != nil || !k.OnToken() || k.Public().Algorithm() != evidence.EdDSA {
		t.Errorf("a new key on the token: %v", err)
	}
	if k, err := mixed.Generate("attest", evidence.EdDSA, nil); err != nil || k.OnToken() {
		t.Errorf("a key in a file: %v", err)
	}
}

func TestTokenFailures(t *testing.T) {
	card := tokentest.New(t, "court")
	code := func(err error) signing.TokenCode {
		var e *signing.TokenError
		if errors.As(err, &e) {
			return e.Code
		}
		return signing.TokenCode(fmt.Sprint(err))
	}
	store := tokens(t, signing.TokenConfig{})
	_, err := store.Generate(card.URI("key"), evidence.ES256)
	must(t, err)

	wrong := filepath.Join(t.TempDir(), "pin")
	must(t, os.WriteFile(wrong, []byte("111111\n"), 0o600))
	bad := *card
	bad.PINFile = wrong
	refused := tokens(t, signing.TokenConfig{})
	for range 5 { // a token would lock itself; a new PIN counts only for a new process
		_, err := refused.Key(bad.URI("key"))
		if code(err) != signing.TokenWrongPIN || strings.Contains(err.Error(), "111111") {
			t.Fatalf("a wrong PIN: %v", err)
		}
	}
	must(t, os.Chmod(wrong, 0o644))
	var exposed *signing.ExposedError
	if _, err := tokens(t, signing.TokenConfig{}).Key(bad.URI("key")); !errors.As(err, &exposed) {
		t.Errorf("a PIN that others can read: %v", err)
	}
	plain := "pkcs11:token=court;object=key"
	for name, tc := range map[string]struct {
		cfg  signing.TokenConfig
		uri  string
		want signing.TokenCode
	}{
		"no module":       {signing.TokenConfig{PINFile: card.PINFile}, plain, signing.TokenNoModule},
		"a wrong module":  {signing.TokenConfig{PINFile: card.PINFile, Module: "/nonexistent.so"}, plain, signing.TokenNoModule},
		"no PIN":          {signing.TokenConfig{Module: card.Module, Env: func(string) string { return "" }}, plain, signing.TokenNoPIN},
		"another token":   {signing.TokenConfig{Module: card.Module, PINFile: card.PINFile}, "pkcs11:token=notary;object=key", signing.TokenNoToken},
		"another key":     {signing.TokenConfig{Module: card.Module, PINFile: card.PINFile}, "pkcs11:token=court;object=kee", signing.TokenNoKey},
		"no program":      {signing.TokenConfig{Module: card.Module, PINFile: card.PINFile, Program: "/nonexistent"}, plain, signing.TokenNoProgram},
		"a wrong program": {signing.TokenConfig{Module: card.Module, PINFile: card.PINFile, Program: "/bin/true"}, plain, signing.TokenFailed},
	} {
		if _, err := tokens(t, tc.cfg).Key(tc.uri); code(err) != tc.want {
			t.Errorf("%s: %v, want %s", name, err, tc.want)
		}
	}
	// By the settings and the environment instead of the URI.
	env := tokens(t, signing.TokenConfig{Env: func(name string) string {
		return map[string]string{signing.EnvTokenModule: card.Module, signing.EnvTokenPIN: tokentest.PIN, signing.EnvTokenProgram: card.Program}[name]
	}})
	key, err := env.Key(plain)
	must(t, err)
	// The signing process is killed: the next signature starts another.
	killChildren(t, card.Program)
	for range 2 {
		if _, err = key.Sign([]byte("after")); err == nil {
			break
		}
	}
	must(t, err)
}

// killChildren ends the signing processes of this test's own program.
func killChildren(t *testing.T, program string) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("processes are found by /proc")
	}
	links, err := filepath.Glob("/proc/[0-9]*/exe")
	must(t, err)
	n := 0
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil && target == program {
			var pid int
			_, err := fmt.Sscanf(link, "/proc/%d/exe", &pid)
			must(t, err)
			p, err := os.FindProcess(pid)
			must(t, err)
			must(t, p.Kill())
			n++
		}
	}
	if n == 0 {
		t.Fatal("no signing process was found")
	}
}

// A token that hangs does not hang its node, and one that signs wrongly is found
// out.
func TestTokenThatMisbehaves(t *testing.T) {
	key, err := signing.Generate(evidence.ES256, nil)
	must(t, err)
	spki := key.Public().DER()
	program := filepath.Join(t.TempDir(), "fake-token")
	script := func(sign string) {
		must(t, os.WriteFile(program, fmt.Appendf(nil, "#!/bin/sh\nread q; echo '{}'\nread q; printf '{\"Public\":\"%%s\"}\\n' '%s'\nread q; %s\n", b64(spki), sign), 0o700))
	}
	open := func() *signing.Key {
		store := tokens(t, signing.TokenConfig{Module: "x", Program: program, Timeout: 300 * time.Millisecond, Env: func(string) string { return "1" }})
		k, err := store.Key("pkcs11:token=a;object=b")
		must(t, err)
		return k
	}
	hash := sha256.Sum256([]byte("another message"))
	sig, err := key.Private().Sign(nil, hash[:], crypto.SHA256)
	must(t, err)
	for name, tc := range map[string]struct{ do, want string }{
		"silent":  {"sleep 1", "did not answer within"},
		"wrong":   {"echo '{\"Signature\":\"" + b64(sig) + "\"}'", "does not verify"},
		"rubbish": {"echo hello", "something else than an answer"},
		"gone":    {"exit 1", "ended without an answer"},
	} {
		script(tc.do)
		if _, err := open().Sign([]byte("message")); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}

func TestTokenManyAtOnce(t *testing.T) {
	card := tokentest.New(t, "court")
	store := tokens(t, signing.TokenConfig{})
	key, err := store.Generate(card.URI("key"), evidence.ES256)
	must(t, err)
	var wait sync.WaitGroup
	for i := range 16 {
		wait.Go(func() {
			message := fmt.Appendf(nil, "%d", i)
			sig, err := key.Sign(message)
			if err == nil {
				err = key.Public().VerifyStrict(message, sig)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
}

func b64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }
