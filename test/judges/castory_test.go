package judges

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/client"
	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/local"
	"github.com/zhenglian/zhenglian/internal/signing/tokentest"
)

// program builds zhenglian, or takes the one that ZHENGLIAN_BINARY names.
func program(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("ZHENGLIAN_BINARY"); path != "" {
		return path
	}
	path := filepath.Join(t.TempDir(), "zhenglian")
	if out, err := exec.Command("go", "build", "-o", path, "github.com/zhenglian/zhenglian/cmd/zhenglian").CombinedOutput(); err != nil {
		t.Fatalf("building the program: %v\n%s", err, out)
	}
	return path
}

// A whole alliance of processes: the court's and the CA's signing keys are on a
// token, one member's too; the CA's officer issues, renews and revokes at the
// command line; openssl and a client judge.
func TestCertificatesOfAnAlliance(t *testing.T) {
	if testing.Short() {
		t.Skip("starts an alliance: left out of -short")
	}
	openssl := tool(t, "openssl")
	card := tokentest.New(t, "hsm")
	t.Setenv("LANG", "en_US.UTF-8")
	t.Setenv("LC_ALL", "")
	binary := program(t)
	// Not the test's context, which ends before the processes are asked to stop.
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	t.Cleanup(cancel)
	dir := t.TempDir()

	onToken := func(id string, names ...string) []string {
		args := []string{"--receipt-algorithm", "p256", "--token-module", card.Module, "--token-pin-file", card.PINFile}
		for _, name := range names {
			args = append(args, "--token-key", fmt.Sprintf("%s=pkcs11:token=hsm;object=%s-%s", name, id, name))
		}
		return args
	}
	a, err := local.New(ctx, local.Config{Binary: binary, Dir: filepath.Join(dir, "alliance"), Name: "judges", Slug: "judges", Institutions: []local.Spec{
		{ID: "ca", Name: "某某数字认证中心", Kind: evidence.KindCA, Args: onToken("ca", "statement", "ca")},
		{ID: "court", Name: "某某互联网法院", Kind: evidence.KindCourt, Args: onToken("court", "receipt", "cosign", "attest", "statement")},
		{ID: "forensic", Name: "某某司法鉴定中心", Kind: evidence.KindForensic},
		{ID: "notary", Name: "某某公证处", Kind: evidence.KindNotary},
	}})
	must(t, err)
	t.Cleanup(func() {
		if err := a.Stop(); err != nil && !t.Failed() {
			t.Error(err)
		}
	})
	must(t, a.Start(ctx))
	for _, name := range []string{"receipt", "cosign", "attest", "statement"} {
		if _, err := os.Lstat(filepath.Join(a.Node("court").Home, "keys", name+".pem")); err == nil {
			t.Errorf("the court's %s key is in a file", name)
		}
	}
	run := func(args ...string) string {
		t.Helper()
		out, err := local.Run(ctx, binary, nil, args...)
		must(t, err)
		return out
	}
	refused := func(want string, args ...string) {
		t.Helper()
		if out, err := local.Run(ctx, binary, nil, args...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("zhenglian %s: %v, want %q\n%s", strings.Join(args, " "), err, want, out)
		}
	}
	judge := func(want string, args ...string) string {
		t.Helper()
		out, err := exec.CommandContext(ctx, openssl, args...).CombinedOutput()
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("openssl %s: %v, want %q\n%s", strings.Join(args, " "), err, want, out)
		}
		return string(out)
	}
	path := func(name string) string { return filepath.Join(dir, name) }
	home := a.Node("ca").Home

	// The authority, and where it is reached.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	address := listener.Addr().String()
	must(t, listener.Close())
	_, port, err := net.SplitHostPort(address)
	must(t, err)
	origin := "http://localhost:" + port
	run("institution", "portal", "--home", home, "--listen", address, "--origin", origin, "--demonstration")
	run("institution", "ca", "--home", home, "--demonstration", "--sm2")
	refused("institution rotate --use ca", "institution", "ca", "--home", home)
	root, rootSM2 := filepath.Join(home, "ca", "certificate.pem"), filepath.Join(home, "ca", "certificate-sm2.pem")

	var serving *exec.Cmd
	stop := func() {
		if serving == nil {
			return
		}
		_ = serving.Process.Signal(syscall.SIGTERM)
		if err := serving.Wait(); err != nil && !t.Failed() {
			t.Errorf("ca serve: %v", err)
		}
		serving = nil
	}
	t.Cleanup(stop)
	serve := func(list string) {
		t.Helper()
		stop()
		serving = local.Command(ctx, binary, nil, "ca", "serve", "--home", home, "--listen", address)
		must(t, serving.Start())
		waitFor(t, ctx, origin+"/ca/"+list+".crl")
	}
	serve("p256")

	// Members: one under a passphrase, one with SM2, one on the token.
	must(t, os.WriteFile(path("phrase"), []byte("正确的马电池订书钉\n"), 0o600))
	for _, m := range []struct {
		name string
		init []string
		open []string
		root string
	}{
		{"alice", []string{"--passphrase-file", path("phrase")}, []string{"--passphrase-file", path("phrase")}, root},
		{"sm2", []string{"--algorithm", "sm2", "--kind", "enterprise"}, nil, rootSM2},
		{"card", []string{"--algorithm", "p256", "--key", card.URI("member")}, nil, root},
	} {
		run(append([]string{"member", "init", "--home", path(m.name)}, m.init...)...)
		csr, cert := path(m.name+".csr"), path(m.name+".pem")
		run(append([]string{"member", "csr", "--home", path(m.name), "--out", csr}, m.open...)...)
		issue := []string{"ca", "issue", "--home", home, "--request", csr, "--out", cert}
		refused("has enrolled no such key", issue...)
		run("member", "enrol", "--home", home, "--request", path(m.name+"/request.json"), "--assurance", "2", "--demo", "--out", path(m.name+"/enrolment.json"))
		run(issue...)
		refused("exists and was left as it is", issue...)
		options := []string{"verify", "-x509_strict", "-CAfile", m.root}
		if m.name == "sm2" {
			options = append(options, "-vfyopt", distid)
		}
		judge(": OK", append(options, cert)...)
		run("member", "certificate", "--home", path(m.name), cert)
		if out := run("member", "certificate", "--home", path(m.name)); !strings.Contains(out, "2.999.5280.9 (demonstration)") {
			t.Errorf("the member's home shows:\n%s", out)
		}
	}
	refused("is not of this member's key", "member", "certificate", "--home", path("card"), path("alice.pem"))
	if text, err := os.ReadFile(path("card/key.pem")); err != nil || !strings.HasPrefix(string(text), "pkcs11:token=hsm") {
		t.Errorf("the member's key file holds %.40q, %v", text, err)
	}

	// She deposits with the key on the token, and the verifier takes it.
	must(t, os.WriteFile(path("contract.txt"), []byte("合同\n"), 0o600))
	run("deposit", path("contract.txt"), "--home", path("card"), "--alliance", a.Genesis, "--phase", "before", "--step", "signed", "--out", path("package.zip"))
	run("verify", path("package.zip"), "--policy", a.Policy)
	// A policy that names the authority: the certificate in the package is judged too.
	run("alliance", "policy", a.Genesis, "--certificate-authority", filepath.Join(home, "ca", "authority.json"), "--out", path("policy.json"))
	var report struct {
		Steps []struct {
			Certificate *struct {
				Shown, Chained bool
				Subject        string
			}
		}
	}
	must(t, json.Unmarshal([]byte(run("verify", path("package.zip"), "--policy", path("policy.json"), "--json")), &report))
	if len(report.Steps) != 1 || report.Steps[0].Certificate == nil || !report.Steps[0].Certificate.Shown || !report.Steps[0].Certificate.Chained ||
		!strings.HasPrefix(report.Steps[0].Certificate.Subject, "CN=m:") {
		t.Errorf("the report says of the certificate: %+v", report.Steps)
	}

	// The court's receipts, made on the token, verify like the others'.
	c, err := client.New(client.Config{Alliance: a.Alliance})
	must(t, err)
	m := regexp.MustCompile(`"statement":"([0-9a-f]{64})"`).FindStringSubmatch(readFile(t, path("card/enrolment.json")))
	if m == nil {
		t.Fatal("the enrolment names no statement")
	}
	entry, err := evidence.ParseDigest(m[1])
	must(t, err)
	for {
		final, err := c.Confirm(ctx, entry)
		must(t, err)
		if len(final.Rejected) > 0 {
			t.Fatalf("rejected: %v", final.Rejected)
		}
		if final.Receipts["court"] != nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}

	// Renewal, revocation, and what the public is told.
	first := serial(t, judge("serial=", "x509", "-noout", "-serial", "-in", path("alice.pem")))
	status := func(cert, want string) {
		t.Helper()
		for range 100 { // the serving process asks the chain from time to time; the officer's command writes its register
			out, _ := exec.CommandContext(ctx, openssl, "ocsp", "-issuer", root, "-cert", cert, "-url", origin+"/ca/ocsp", "-CAfile", root, "-no_nonce").CombinedOutput()
			if strings.Contains(string(out), want) && strings.Contains(string(out), "Response verify OK") {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
		t.Errorf("OCSP never says %q of %s", want, cert)
	}
	status(path("alice.pem"), ": good")
	refused("give --kid or --serial", "ca", "revoke", "--home", home, "--reason", "keyCompromise")
	run("member", "csr", "--home", path("alice"), "--out", path("alice2.csr"), "--passphrase-file", path("phrase"))
	run("ca", "renew", "--home", home, "--request", path("alice2.csr"), "--out", path("alice2.pem"), "--validity", "48h")
	run("ca", "revoke", "--home", home, "--serial", first, "--reason", "keyCompromise")
	status(path("alice.pem"), "Reason: keyCompromise")
	status(path("alice2.pem"), "Reason: keyCompromise")
	status(path("card.pem"), ": good")
	run("ca", "crl", "--home", home, "--out", path("list.pem"))
	judge("verify OK", "crl", "-in", path("list.pem"), "-CAfile", root, "-noout", "-verify")
	if out, err := exec.CommandContext(ctx, openssl, "verify", "-crl_check", "-CAfile", root, "-CRLfile", path("list.pem"), path("alice.pem")).CombinedOutput(); err == nil {
		t.Errorf("a revoked certificate verifies:\n%s", out)
	}
	if out := run("ca", "status", "--home", home, "--serial", first); !strings.Contains(out, "revoked (keyCompromise") {
		t.Errorf("ca status:\n%s", out)
	}
	run("member", "csr", "--home", path("alice"), "--out", path("alice3.csr"), "--passphrase-file", path("phrase"))
	refused("this key is revoked", "ca", "renew", "--home", home, "--request", path("alice3.csr"), "--out", path("alice3.pem"))
	refused("", "deposit", path("contract.txt"), "--home", path("alice"), "--alliance", a.Genesis, "--no-package", "--passphrase-file", path("phrase"))

	// The CA key is replaced, on the token as before, and the serving process restarted.
	settings := filepath.Join(home, "node.toml")
	text := readFile(t, settings)
	must(t, os.WriteFile(settings, []byte(strings.Replace(text, "[keys]\n", "[keys]\nca-2 = \"pkcs11:token=hsm;object=ca-ca-2\"\n", 1)), 0o600))
	run("institution", "rotate", "--home", home, "--use", "ca")
	if _, err := os.Lstat(filepath.Join(home, "keys", "ca.2.pem")); err == nil {
		t.Error("the next CA key is in a file")
	}
	serve("p256-2")
	next := filepath.Join(home, "ca", "certificate.2.pem")
	run("member", "csr", "--home", path("card"), "--out", path("card2.csr"))
	run("ca", "renew", "--home", home, "--request", path("card2.csr"), "--out", path("card2.pem"))
	run("member", "certificate", "--home", path("card"), path("card2.pem"))
	judge(": OK", "verify", "-x509_strict", "-CAfile", next, path("card2.pem"))
	judge(": OK", "verify", "-x509_strict", "-CAfile", root, path("card.pem"))
	if out, err := exec.CommandContext(ctx, openssl, "verify", "-CAfile", root, path("card2.pem")).CombinedOutput(); err == nil {
		t.Errorf("a new certificate verifies under the old root:\n%s", out)
	}
	status(path("card.pem"), ": good")
	status(path("alice.pem"), "Reason: keyCompromise")
	root = next // whom OCSP is asked of from here on
	status(path("card2.pem"), ": good")
	run("ca", "crl", "--home", home, "--out", path("list2.pem"))
	judge("verify OK", "crl", "-in", path("list2.pem"), "-CAfile", next, "-noout", "-verify")
	// What she deposited before holds under the policy of then and of now; what she
	// deposits now wants the one of now.
	run("alliance", "policy", a.Genesis, "--certificate-authority", filepath.Join(home, "ca", "authority.json"), "--out", path("policy2.json"))
	run("deposit", path("contract.txt"), "--home", path("card"), "--alliance", a.Genesis, "--phase", "before", "--step", "signed again", "--out", path("package2.zip"))
	run("verify", path("package.zip"), "--policy", path("policy.json"))
	run("verify", path("package.zip"), "--policy", path("policy2.json"))
	run("verify", path("package2.zip"), "--policy", path("policy2.json"))
	refused("", "verify", path("package2.zip"), "--policy", path("policy.json"))
}

func serial(t *testing.T, line string) string {
	t.Helper()
	_, text, ok := strings.Cut(strings.TrimSpace(line), "serial=")
	if !ok {
		t.Fatalf("openssl prints %q", line)
	}
	return text
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	must(t, err)
	return string(data)
}

func waitFor(t *testing.T, ctx context.Context, url string) {
	t.Helper()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		must(t, err)
		if answer, err := http.DefaultClient.Do(request); err == nil {
			_ = answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return
			}
		}
		if ctx.Err() != nil {
			t.Fatalf("%s never answers", url)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
