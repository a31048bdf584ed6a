package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/court"
	"github.com/zhenglian/zhenglian/internal/local"
	"github.com/zhenglian/zhenglian/internal/signing"
	"github.com/zhenglian/zhenglian/verify"
)

// story runs commands of this program in processes of their own.
type story struct {
	*testing.T
	binary, dir string
	alliance    *local.Alliance
}

// cli runs one command and returns what it printed and its exit code.
func (s *story) cli(args ...string) (out, errs string, code int) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.binary, args...)
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), "LANG=en_US.UTF-8", "LC_ALL=en_US.UTF-8")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	began := time.Now()
	err := cmd.Run()
	s.Logf("%6d ms  exit %d  %.100s", time.Since(began).Milliseconds(), cmd.ProcessState.ExitCode(), strings.ReplaceAll(strings.Join(args, " "), s.dir+"/", ""))
	if _, ok := err.(*exec.ExitError); err != nil && !ok {
		s.Fatal(err)
	}
	return stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()
}

func (s *story) must(code int, args ...string) string {
	s.Helper()
	out, errs, got := s.cli(args...)
	if got != code {
		s.Fatalf("zhenglian %s: exit code %d, want %d\n%s%s", strings.Join(args, " "), got, code, out, errs)
	}
	return out
}

func (s *story) path(name string) string { return filepath.Join(s.dir, name) }

func (s *story) write(name, content string) string {
	s.Helper()
	if err := os.WriteFile(s.path(name), []byte(content), 0o600); err != nil {
		s.Fatal(err)
	}
	return s.path(name)
}

func (s *story) deposit(args ...string) depositResult {
	s.Helper()
	var r depositResult
	out := s.must(0, append([]string{"deposit", "--home", s.path("alice"), "--json"}, args...)...)
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		s.Fatalf("%v: %s", err, out)
	}
	return r
}

// newStory starts four institutions, each a process, and enrols alice and bob.
// With the id of an institution that one runs a demonstration's timestamp
// authority.
func newStory(t *testing.T, tsa ...string) *story {
	t.Helper()
	if testing.Short() {
		t.Skip("starts four nodes")
	}
	dir := t.TempDir()
	s := &story{T: t, binary: filepath.Join(dir, "zhenglian"), dir: dir}
	if out, err := exec.Command("go", "build", "-o", s.binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("building: %v\n%s", err, out)
	}
	var err error
	s.alliance, err = local.New(t.Context(), local.Config{Binary: s.binary, Dir: filepath.Join(dir, "net"), Name: "示范存证联盟", Slug: "demo", TSA: strings.Join(tsa, ""),
		Institutions: []local.Spec{{ID: "ca", Name: "示范认证中心", Kind: evidence.KindCA}, {ID: "court", Name: "示范法院", Kind: evidence.KindCourt},
			{ID: "forensic", Name: "示范鉴定所", Kind: evidence.KindForensic}, {ID: "notary", Name: "示范公证处", Kind: evidence.KindNotary}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.alliance.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.alliance.Stop() })
	for _, name := range []string{"alice", "bob"} {
		s.must(0, "member", "init", "--home", s.path(name))
		s.must(0, "member", "enrol", "--home", s.alliance.Node("ca").Home, "--request", filepath.Join(s.path(name), "request.json"), "--assurance", "2", "--demo", "--out", filepath.Join(s.path(name), "enrolment.json"))
	}
	return s
}

// A matter from its first step to the court, with what goes wrong on the way.
func TestStoryOfADeposit(t *testing.T) {
	s := newStory(t)
	// Without the founding document nothing can be checked, and nothing is sent.
	_, errs, code := s.cli("deposit", "--home", s.path("alice"), s.write("a.txt", "甲"))
	if code != exitUsage || !strings.Contains(errs, "--alliance") {
		t.Fatalf("exit code %d: %s", code, errs)
	}
	page := s.write("网页.html", strings.Repeat("<p>被诉侵权内容</p>", 200_000))
	first := s.deposit("--alliance", s.alliance.Node("notary").API, "--phase", "before", "--step", "取证前检查", "--place", "address=杭州市", "--device", "演示机",
		"--before", "consent=signed", "--out", s.path("p1.zip"), s.path("a.txt"))
	if !first.Final || first.Position == nil || len(first.Witnesses) < 3 || first.Package != s.path("p1.zip") {
		t.Fatalf("%+v", first)
	}
	dims := s.write("dims.json", `{"place":{"network":"demo"},"during":{"tool":"browser"},"note":"备注"}`)
	second := s.deposit("--trail", "last", "--dimensions", dims, "--out", s.path("p2.zip"), page)
	if second.Trail != first.Trail || *second.Position <= *first.Position || second.Step != "网页.html" {
		t.Fatalf("%+v", second)
	}
	// A step without files, not waited for; the package waits.
	third := s.deposit("--trail", first.Trail.String(), "--phase", "after", "--step", "封存", "--manifest-only", "--no-wait")
	if third.Final || third.Package != "" {
		t.Fatalf("%+v", third)
	}
	s.must(0, "package", first.Trail.String(), "--home", s.path("alice"), "--timeout", "15s", "--out", s.path("p3.zip"))
	shown := s.must(0, "package", "show", s.path("p3.zip"))
	if !strings.Contains(shown, "Step 3: after  封存") || !strings.Contains(shown, "网页.html") {
		t.Fatal(shown)
	}

	s.must(0, "verify", s.path("p3.zip"), "--policy", s.alliance.Policy)
	s.must(0, "verify", s.path("p3.zip"), "--alliance", s.alliance.Alliance.ID().String())
	s.must(1, "verify", s.path("p3.zip"))
	s.must(2, "verify", s.write("text.zip", "no package"), "--policy", s.alliance.Policy)
	s.must(2, "verify")
	var rep verify.Report
	if err := json.Unmarshal([]byte(s.must(0, "verify", s.path("p3.zip"), "--policy", s.alliance.Policy, "--json")), &rep); err != nil || len(rep.Steps) != 3 {
		t.Fatal(err, len(rep.Steps))
	}

	// The same in Chinese.
	if zh := s.must(0, "deposit", "--lang", "zh-CN", "--home", s.path("bob"), "--alliance", s.alliance.Genesis, "--out", s.path("bob.zip"), s.path("a.txt")); !strings.Contains(zh, "已存证，最终确认") {
		s.Fatal(zh)
	}
	if _, errs, code := s.cli("package", "last", "--lang", "zh-CN", "--home", s.path("bob"), "--out", s.path("p3.zip")); code != exitFailed || !strings.Contains(errs, "没有覆盖") {
		s.Fatalf("another trail's package was written over: %d %s", code, errs)
	}

	s.courtChecks(first.Trail)
	s.lateAndResumed(first.Trail)
	s.batch()
}

// courtChecks has the court check packages that hold, withhold and are altered.
func (s *story) courtChecks(trail evidence.Digest) {
	home := s.alliance.Node("court").Home
	check := func(code int, pkg, out string) *court.Document {
		s.Helper()
		s.must(code, "court", "check", s.path(pkg), "--home", home, "--out", s.path(out))
		data, err := os.ReadFile(filepath.Join(s.path(out), courtDocument))
		if err != nil {
			s.Fatal(err)
		}
		sig, err := os.ReadFile(filepath.Join(s.path(out), courtSignature))
		if err != nil {
			s.Fatal(err)
		}
		keys, err := s.alliance.Alliance.Institution("court").PublicKeys(evidence.UseAttest)
		if err != nil {
			s.Fatal(err)
		}
		d, err := court.VerifyDocument(data, sig, keys[0])
		if err != nil {
			s.Fatal(err)
		}
		s.snippet(out, keys[0])
		for _, name := range []string{courtPage, courtText} {
			if info, err := os.Stat(filepath.Join(s.path(out), name)); err != nil || info.Size() < 500 {
				s.Fatal(name, err)
			}
		}
		return d
	}
	if d := check(0, "p3.zip", "found"); d.Kind != court.EvidenceChain || len(d.Links) != 3 || d.Trail != trail {
		s.Fatalf("%s, %d links", d.Kind, len(d.Links))
	}
	// The first package knows one step; two more stand in the court's log.
	if d := check(1, "p1.zip", "withheld"); d.Kind != court.Incomplete || len(d.Report.Withheld) != 2 {
		s.Fatalf("%s, withheld %+v", d.Kind, d.Report.Withheld)
	}
	pkg, err := os.ReadFile(s.path("p3.zip"))
	if err != nil {
		s.Fatal(err)
	}
	pkg[bytes.Index(pkg, []byte("<p>"))+100_000] ^= 4
	s.write("bad.zip", string(pkg))
	if d := check(1, "bad.zip", "bad"); d.Kind != court.Invalid || len(d.Differs) == 0 {
		s.Fatalf("%s", d.Kind)
	}
	s.must(2, "court", "check", s.path("text.zip"), "--home", home)
	s.must(1, "court", "check", s.path("p3.zip"), "--home", home, "--out", s.path("found")) // not written over
	s.must(1, "court", "check", s.path("p3.zip"), "--home", s.alliance.Node("notary").Home) // no court
}

// snippet runs what spec/evidence-chain.md shows in the folder of a finding.
func (s *story) snippet(dir string, key *evidence.PublicKey) {
	s.Helper()
	for _, program := range []string{"bash", "jq", "openssl"} {
		if _, err := exec.LookPath(program); err != nil {
			s.Logf("no %s: the snippet was not run", program)
			return
		}
	}
	spec, err := os.ReadFile(filepath.Join("..", "..", "spec", "evidence-chain.md"))
	if err != nil {
		s.Fatal(err)
	}
	_, code, _ := strings.Cut(string(spec), "\n```\n")
	code, _, _ = strings.Cut(code, "\n```\n")
	if err := os.WriteFile(filepath.Join(s.path(dir), "court-attest.pem"), key.PEM(), 0o600); err != nil {
		s.Fatal(err)
	}
	cmd := exec.CommandContext(s.Context(), "bash", "-euc", code)
	cmd.Dir = s.path(dir)
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "Signature Verified Successfully") {
		s.Fatalf("the snippet of spec/evidence-chain.md: %v\n%s", err, out)
	}
}

// lateAndResumed: nobody can be reached between signing and sending.
func (s *story) lateAndResumed(trail evidence.Digest) {
	before := s.must(0, "trail", "list", "--home", s.path("alice"))
	var dead []string
	for _, n := range s.alliance.Nodes {
		dead = append(dead, "--url", n.ID+"=http://127.0.0.1:1")
	}
	_, errs, code := s.cli(append([]string{"deposit", "--home", s.path("alice"), "--timeout", "2s", s.path("a.txt")}, dead...)...)
	if code != exitFailed || !strings.Contains(errs, "--resume") {
		s.Fatalf("exit code %d: %s", code, errs)
	}
	if after := s.must(0, "trail", "list", "--home", s.path("alice")); after != before {
		s.Fatalf("something was signed without a checkpoint:\n%s", after)
	}
	s.must(0, "deposit", "--home", s.path("alice"), "--resume")
	// Bob may add to the trail once alice lets him.
	kid := ""
	for line := range strings.Lines(s.must(0, "member", "show", "--home", s.path("bob"))) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == "kid" {
			kid = f[1]
		}
	}
	bob := []string{"deposit", "--home", s.path("bob"), "--alliance", s.alliance.Genesis, "--trail", trail.String(), "--no-package", s.path("a.txt")}
	s.must(1, bob...)
	s.must(0, "trail", "authorise", "--home", s.path("alice"), "--trail", trail.String(), "--kid", kid, "--read", "--append")
	s.must(0, bob...)
}

// batch sends statements that were signed elsewhere.
func (s *story) batch() {
	key, err := signing.Load(filepath.Join(s.path("alice"), "key.pem"), nil)
	if err != nil {
		s.Fatal(err)
	}
	var e enrolment
	data, err := signing.ReadSecret(filepath.Join(s.path("alice"), "enrolment.json"), nil)
	if err != nil {
		s.Fatal(err)
	}
	if err := evidence.UnmarshalCanonical(data, &e); err != nil {
		s.Fatal(err)
	}
	var lines strings.Builder
	var sequence []byte
	for i := range 20 {
		d := evidence.SumSHA256([]byte{byte(i)})
		st, err := evidence.Statement{Issuer: e.Member, Subject: evidence.SubjectNewTrail, IssuedAt: time.Now().Unix(), ContentType: evidence.TypeDeposit,
			Payload: d[:], ManifestSM3: d, After: evidence.Checkpoint{Root: evidence.SumSHA256(nil)}}.Sign(key)
		if err != nil {
			s.Fatal(err)
		}
		lines.WriteString(base64.StdEncoding.EncodeToString(st.Bytes()) + "\n")
		sequence = append(sequence, st.Bytes()...)
	}
	first := s.must(0, "deposit", "--home", s.path("alice"), "--statements", s.write("batch.txt", lines.String()))
	again := s.must(0, "deposit", "--home", s.path("alice"), "--statements", s.write("batch.cbor", string(sequence)))
	positions := func(out string) (all []uint64) {
		for line := range strings.Lines(out) {
			var o batchOutcome
			if err := json.Unmarshal([]byte(line), &o); err != nil || o.Position == nil || !o.Final {
				s.Fatalf("%v: %s", err, line)
			}
			all = append(all, *o.Position)
		}
		return all
	}
	a, b := positions(first), positions(again)
	if len(a) != 20 || len(b) != 20 {
		s.Fatalf("%d and %d lines", len(a), len(b))
	}
	for i := range a {
		if a[i] != b[i] {
			s.Fatalf("statement %d: positions %d and %d", i, a[i], b[i])
		}
	}
	_, _, code := s.cli("deposit", "--home", s.path("alice"), "--statements", s.write("junk.txt", base64.StdEncoding.EncodeToString([]byte("junk"))+"\n"))
	if code != exitFailed {
		s.Fatalf("a refused statement: exit code %d", code)
	}
}
