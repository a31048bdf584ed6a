package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/verify"
)

// tool runs another program, and skips the test where it is not installed.
func (s *story) tool(name string, args ...string) string {
	s.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		s.Skipf("%s is not installed", name)
	}
	cmd := exec.Command(path, args...)
	cmd.Dir = s.dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		s.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// unpack returns the folder of a package, taken apart by other people's software.
func (s *story) unpack(pkg string) string {
	s.Helper()
	folder, err := os.MkdirTemp(s.dir, "package-")
	if err != nil {
		s.Fatal(err)
	}
	s.tool("unzip", "-q", pkg, "-d", folder)
	return folder
}

func (s *story) verified(pkg string, args ...string) *verify.Report {
	s.Helper()
	out := s.must(0, append([]string{"verify", pkg, "--json", "--policy", s.alliance.Policy}, args...)...)
	var rep verify.Report
	if err := json.Unmarshal([]byte(out), &rep); err != nil {
		s.Fatalf("%v: %s", err, out)
	}
	return &rep
}

// A statement's own token, from the deposit and afterwards, and a renewal of the
// package; unzip, sha512sum and OpenSSL agree at each step.
func TestStoryOfTimestamps(t *testing.T) {
	s := newStory(t, "ca")
	root := filepath.Join(s.alliance.Node("ca").Home, "tsa", "root.pem")
	first := s.deposit("--alliance", s.alliance.Genesis, "--timestamp", "--out", s.path("p.zip"), s.write("a.txt", "甲"))
	if len(first.Own) != 1 || first.Own[0] != "ca" {
		t.Fatalf("%+v", first)
	}
	folder := s.unpack(s.path("p.zip"))
	token := filepath.Join(folder, "timestamps", "statements", "000001.ca.tsr")
	statement := filepath.Join(folder, "statements", "000001.cose")
	if out := s.tool("openssl", "ts", "-verify", "-data", statement, "-in", token, "-token_in", "-CAfile", root); !strings.Contains(out, "OK") {
		t.Error(out)
	}
	rep := s.verified(s.path("p.zip"))
	if own := rep.Steps[0].Time.OwnToken; own == nil || own.Authority != "ca" || !own.Demo || rep.Steps[0].Time.Token == nil {
		t.Errorf("%+v", rep.Steps[0].Time)
	}

	// The same with OpenSSL's own query at the institution's address.
	s.tool("openssl", "ts", "-query", "-data", statement, "-sha256", "-cert", "-out", s.path("q.tsq"))
	s.tool("curl", "-fsS", "-H", "Content-Type: application/timestamp-query", "--data-binary", "@"+s.path("q.tsq"), s.alliance.Node("ca").API+"/tsa", "-o", s.path("q.tsr"))
	if out := s.tool("openssl", "ts", "-verify", "-queryfile", s.path("q.tsq"), "-in", s.path("q.tsr"), "-CAfile", root); !strings.Contains(out, "OK") {
		t.Error(out)
	}

	// Afterwards, through an institution that runs no authority itself.
	second := s.deposit("--trail", "last", "--no-package", s.write("b.txt", "乙"))
	if len(second.Own) != 0 {
		t.Errorf("%+v", second)
	}
	var line stampedStep
	if out := s.must(0, "timestamp", "last", "--home", s.path("alice"), "--step", "2", "--institution", "notary", "--json"); json.Unmarshal([]byte(out), &line) != nil || line.Step != 2 || line.Statement != second.Statement || len(line.Authorities) != 1 {
		t.Errorf("%+v", line)
	}
	if _, errs, code := s.cli("timestamp", "last", "--home", s.path("alice"), "--step", "3"); code != exitUsage || !strings.Contains(errs, "1 to 2") {
		t.Errorf("exit code %d: %s", code, errs)
	}
	// The institutions hand their tokens on to each other within seconds.
	for began := time.Now(); ; time.Sleep(200 * time.Millisecond) {
		s.must(0, "package", "last", "--home", s.path("alice"), "--institution", "notary", "--out", s.path("p.zip"))
		rep := s.verified(s.path("p.zip"))
		if rep.Steps[0].Time.OwnToken != nil && rep.Steps[1].Time.OwnToken != nil && rep.Steps[1].Time.Token != nil {
			break
		}
		if time.Since(began) > time.Minute {
			t.Fatalf("%+v, %+v", rep.Steps[0].Time, rep.Steps[1].Time)
		}
	}

	// A renewal, twice; the second lists the first.
	authority := filepath.Join(s.alliance.Node("ca").Home, "tsa", "authority.json")
	for range 2 {
		s.must(0, "timestamp", "renew", s.path("p.zip"), "--tsa", s.alliance.Node("ca").API+"/tsa", "--authority", authority)
	}
	folder = s.unpack(s.path("p.zip"))
	for _, n := range []string{"001", "002"} {
		list := filepath.Join(folder, "timestamps", "renewals", n+".sha512")
		s.tool("sh", "-c", "cd '"+folder+"' && sha512sum --quiet -c timestamps/renewals/"+n+".sha512")
		if out := s.tool("openssl", "ts", "-verify", "-data", list, "-in", filepath.Join(folder, "timestamps", "renewals", n+".ca.tsr"), "-token_in", "-CAfile", root); !strings.Contains(out, "OK") {
			t.Error(out)
		}
	}
	rep = s.verified(s.path("p.zip"))
	renewals, seen := 0, 0
	for _, ts := range rep.Timestamps {
		if ts.Renewal > 0 {
			renewals++
		}
		if ts.SeenBy != "" {
			seen++
		}
	}
	if renewals != 2 || seen != len(rep.Timestamps)-1 {
		t.Errorf("%d renewals, %d of %d tokens are renewed", renewals, seen, len(rep.Timestamps))
	}
	// What nobody could make again is not written over.
	if _, errs, code := s.cli("package", "last", "--home", s.path("alice"), "--out", s.path("p.zip")); code != 1 || !strings.Contains(errs, "renewals") {
		t.Errorf("exit code %d: %s", code, errs)
	}

	// The authority's key is lost: a policy that says so trusts its tokens no more.
	policy, err := evidence.ParsePolicy([]byte(s.read(s.alliance.Policy)))
	if err != nil {
		t.Fatal(err)
	}
	policy.TimestampAuthorities[0].Revoked = []evidence.AuthorityRevocation{{At: time.Now().UTC().Add(-time.Hour).Format("2006-01-02T15:04:05Z"), Reason: "keyCompromise"}}
	data, err := policy.Encode()
	if err != nil {
		t.Fatal(err)
	}
	out := s.must(0, "verify", s.path("p.zip"), "--json", "--policy", s.write("lost.json", string(data)))
	var lost verify.Report
	if err := json.Unmarshal([]byte(out), &lost); err != nil {
		t.Fatal(err)
	}
	if lost.Steps[0].Time.Token != nil || lost.Steps[0].Time.OwnToken != nil {
		t.Errorf("a lost key's tokens count: %+v", lost.Steps[0].Time)
	}
}

func (s *story) read(path string) string {
	s.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		s.Fatal(err)
	}
	return string(data)
}
