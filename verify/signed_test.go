package verify_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/testalliance"
	"github.com/zhenglian/zhenglian/verify"
)

func TestSignedReport(t *testing.T) {
	s := tell(t, "signed", 4)
	rep := check(t, encode(t, s.content(t)), verify.Options{Policy: s.Policy, Log: s.Log("court")})
	attest := s.Get("court").Attest
	data, err := verify.SignReport(rep, "(2026)浙0192民初1号", testalliance.Start, attest)
	must(t, err)
	body, err := verify.ParseSignedReport(data, s.Policy)
	must(t, err)
	if body.Kind != verify.KindEvidenceChain || body.Court != "court" || body.Time != "2026-03-01T01:30:00Z" || len(body.Report.Steps) != 4 {
		t.Errorf("%+v", body)
	}
	t.Run("altered", func(t *testing.T) {
		for _, change := range [][2]string{{"浙0192", "浙0193"}, {`"matches"`, `"does-not-match"`}, {`"court":"court"`, `"court":"notary"`}} {
			if altered := bytes.Replace(data, []byte(change[0]), []byte(change[1]), 1); bytes.Equal(altered, data) {
				t.Fatalf("%q is not in the report", change[0])
			} else if _, err := verify.ParseSignedReport(altered, s.Policy); err == nil {
				t.Errorf("%q for %q is accepted", change[1], change[0])
			}
		}
	})
	t.Run("signed by another institution", func(t *testing.T) {
		data, err := verify.SignReport(rep, "", testalliance.Start, s.Get("notary").Attest)
		must(t, err)
		if _, err := verify.ParseSignedReport(data, s.Policy); err == nil {
			t.Error("accepted")
		}
	})
	t.Run("a report that does not match is no evidence chain", func(t *testing.T) {
		c := s.content(t)
		c.Steps = c.Steps[:3]
		data, err := verify.SignReport(check(t, encode(t, c), verify.Options{Policy: s.Policy, Log: s.Log("court")}), "", testalliance.Start, attest)
		must(t, err)
		body, err := verify.ParseSignedReport(data, s.Policy)
		must(t, err)
		if body.Kind != verify.KindVerificationReport {
			t.Errorf("it is a %s", body.Kind)
		}
	})
	t.Run("not made against a court's log", func(t *testing.T) {
		if _, err := verify.SignReport(check(t, encode(t, s.content(t)), verify.Options{Policy: s.Policy}), "", testalliance.Start, attest); err == nil {
			t.Error("signed")
		}
	})
	t.Run("OpenSSL agrees", func(t *testing.T) { opensslVerifies(t, data, attest.Public()) })
}

// opensslVerifies checks the signature as spec/report.md says anyone can: the
// label and the canonical body, under the attestation key.
func opensslVerifies(t *testing.T, data []byte, key *evidence.PublicKey) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed")
	}
	var parts struct {
		Body      json.RawMessage
		Signature struct{ Value []byte }
	}
	must(t, json.Unmarshal(data, &parts))
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		must(t, os.WriteFile(path, data, 0o600))
		return path
	}
	message := append([]byte("zhenglian verification report v1\n"), parts.Body...)
	out, err := exec.Command(openssl, "pkeyutl", "-verify", "-pubin", "-inkey", write("key.pem", key.PEM()), "-rawin",
		"-in", write("message", message), "-sigfile", write("signature", parts.Signature.Value)).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "Verified Successfully") {
		t.Errorf("openssl: %v\n%s", err, out)
	}
}

// The core that a court must be able to trust imports nothing but evidence and
// the standard library, and of that no network, clock or file.
func TestImports(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{join .Imports "\n"}}`, ".").Output()
	must(t, err)
	for _, path := range strings.Fields(string(out)) {
		first, _, _ := strings.Cut(path, "/")
		switch {
		case path == "github.com/zhenglian/zhenglian/evidence":
		case strings.Contains(first, "."), path == "os", path == "net", strings.HasPrefix(path, "net/"), path == "math/rand", path == "syscall", path == "log":
			t.Errorf("verify imports %s", path)
		}
	}
	src, err := filepath.Glob("*.go")
	must(t, err)
	for _, name := range src {
		data, err := os.ReadFile(name)
		must(t, err)
		if !strings.HasSuffix(name, "_test.go") && bytes.Contains(data, []byte("time.Now")) {
			t.Errorf("%s asks the clock", name)
		}
	}
}
