package judges

import (
	"crypto"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/evidence/rfc3161"
	"github.com/zhenglian/zhenglian/internal/testalliance"
)

// A token whose authority's certificate has expired since is good at its time: for
// us by itself, for OpenSSL when it is told the time.
func TestExpiredToken(t *testing.T) {
	openssl := tool(t, "openssl")
	pad, err := testalliance.NewStampPadAt(time.Now().AddDate(-10, 0, 0).Add(3 * time.Second)) // its certificates last ten years
	must(t, err)
	dir := t.TempDir()
	at := time.Now().Unix()
	token, err := pad.Token("a statement", at, time.Second, 1, 2, 3)
	must(t, err)
	time.Sleep(time.Until(pad.Certificate().NotAfter.Add(time.Second)))

	known := pad.Entry("notary", false)
	policy := &evidence.Policy{}
	_ = policy.AddTimestampAuthority(known) // reads the certificate; the rest of the policy is not needed
	info, err := rfc3161.Verify(token, sha256.Sum256([]byte("a statement")), rfc3161.Trust{Anchors: policy.TimestampAuthority("notary").Anchors()})
	must(t, err)
	if !info.Ends().Before(time.Now()) || info.Time.Unix() != at {
		t.Fatalf("the certificate ends at %s, the token is of %s", info.Ends(), info.Time)
	}
	for name, content := range map[string]string{"data": "a statement", "token": string(token), "root.pem": known.Certificate} {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
	}
	args := []string{"ts", "-verify", "-data", filepath.Join(dir, "data"), "-in", filepath.Join(dir, "token"), "-token_in", "-CAfile", filepath.Join(dir, "root.pem")}
	if out, err := exec.Command(openssl, args...).CombinedOutput(); err == nil || !strings.Contains(string(out), "expired") {
		t.Errorf("OpenSSL takes it now: %v\n%s", err, out)
	}
	if out, err := exec.Command(openssl, append(args, "-attime", fmt.Sprint(at))...).CombinedOutput(); err != nil || !strings.Contains(string(out), "OK") {
		t.Errorf("OpenSSL at the token's time: %v\n%s", err, out)
	}
}

// A renewal's list and token are what sha512sum and OpenSSL say they are.
func TestRenewal(t *testing.T) {
	openssl, unzip, sha512sum := tool(t, "openssl"), tool(t, "unzip"), tool(t, "sha512sum")
	a, err := testalliance.New("renewal", 4)
	must(t, err)
	li, err := a.Enrol("m:li", 2, false)
	must(t, err)
	trail, err := a.Open(li, testalliance.Step{Name: "开始", Objects: map[string][]byte{"授权书.txt": []byte("同意")}})
	must(t, err)
	c, err := a.Content(trail)
	must(t, err)
	data, err := c.Encode()
	must(t, err)
	pad, err := testalliance.NewStampPad()
	must(t, err)
	dir := t.TempDir()
	file := filepath.Join(dir, "package.zip")
	for n := 1; n <= 2; n++ { // the second lists the first
		p, err := evidence.OpenPackage(strings.NewReader(string(data)), int64(len(data)))
		must(t, err)
		number, list, err := p.ListForRenewal(t.Context())
		must(t, err)
		if number != n {
			t.Fatalf("renewal %d, want %d", number, n)
		}
		token, err := pad.TokenOver(crypto.SHA512, list, time.Now().Unix(), time.Second, 1, 2, 3)
		must(t, err)
		sum := sha512.Sum512(list)
		if _, err := rfc3161.VerifyDigest(token, crypto.SHA512, sum[:], rfc3161.Trust{Anchors: []*x509.Certificate{pad.Certificate()}}); err != nil {
			t.Fatal(err)
		}
		out := &evidence.MemoryFile{}
		must(t, p.AddTimestamps(out, map[string][]byte{evidence.RenewalListPath(n): list, evidence.RenewalTokenPath(n, "notary"): token}))
		data = out.Bytes()
	}
	must(t, os.WriteFile(file, data, 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "root.pem"), []byte(pad.Entry("notary", false).Certificate), 0o600))
	folder := filepath.Join(dir, "package")
	if out, err := exec.Command(unzip, "-q", file, "-d", folder).CombinedOutput(); err != nil {
		t.Fatalf("unzip: %v\n%s", err, out)
	}
	sums := func(n int) (string, error) {
		cmd := exec.Command(sha512sum, "--quiet", "-c", fmt.Sprintf("timestamps/renewals/%03d.sha512", n))
		cmd.Dir = folder
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	for n := 1; n <= 2; n++ {
		if out, err := sums(n); err != nil {
			t.Errorf("sha512sum -c of renewal %d: %v\n%s", n, err, out)
		}
		list, token := filepath.Join(folder, evidence.RenewalListPath(n)), filepath.Join(folder, evidence.RenewalTokenPath(n, "notary"))
		if out, err := exec.Command(openssl, "ts", "-verify", "-data", list, "-in", token, "-token_in", "-CAfile", filepath.Join(dir, "root.pem")).CombinedOutput(); err != nil || !strings.Contains(string(out), "OK") {
			t.Errorf("openssl ts -verify of renewal %d: %v\n%s", n, err, out)
		}
	}
	must(t, os.WriteFile(filepath.Join(folder, "statements", "000001.cose"), []byte("another"), 0o600))
	if out, err := sums(2); err == nil || !strings.Contains(out, "000001.cose") {
		t.Errorf("sha512sum passes over an exchanged statement: %s", out)
	}
}
