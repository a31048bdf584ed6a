// Package judges checks evidence packages with software that is not this
// project's: unzip, OpenSSL, and two COSE libraries for Node.
//
//	package ─► unzip ─► folder ─┬─► openssl: keys, SM3
//	                            └─► judge.mjs: signatures, hash envelopes, receipts
//
// A test that lacks its tool is skipped with the reason.
package judges

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/testalliance"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not installed", name)
	}
	return path
}

// unpacked makes a package of three steps and unpacks it with unzip.
func unpacked(t *testing.T) (folder string) {
	t.Helper()
	unzip := tool(t, "unzip")
	a, err := testalliance.New("judges", 4)
	must(t, err)
	li, err := a.Enrol("m:li", 2, false)
	must(t, err)
	for i := range 9 { // a log whose paths have several levels
		_, err := a.Enrol(fmt.Sprintf("m:other-%d", i), 1, false)
		must(t, err)
	}
	trail, err := a.Open(li, testalliance.Step{Phase: evidence.PhaseBefore, Name: "开始", Objects: map[string][]byte{"授权书.txt": []byte("同意")}})
	must(t, err)
	_, err = a.Authorise(li, trail, evidence.SumSHA256([]byte("some key")), evidence.RightRead)
	must(t, err)
	_, err = a.Deposit(li, trail, testalliance.Step{Objects: map[string][]byte{"page.html": []byte("<p>网页</p>")}})
	must(t, err)
	c, err := a.Content(trail)
	must(t, err)
	pkg, err := c.Encode()
	must(t, err)
	dir := t.TempDir()
	file := filepath.Join(dir, "package.zip")
	must(t, os.WriteFile(file, pkg, 0o600))
	if out, err := exec.Command(unzip, "-t", file).CombinedOutput(); err != nil {
		t.Fatalf("unzip -t: %v\n%s", err, out)
	}
	folder = filepath.Join(dir, "package")
	if out, err := exec.Command(unzip, "-q", file, "-d", folder).CombinedOutput(); err != nil {
		t.Fatalf("unzip: %v\n%s", err, out)
	}
	return folder
}

func TestOpenSSL(t *testing.T) {
	openssl := tool(t, "openssl")
	folder := unpacked(t)
	keys, err := filepath.Glob(filepath.Join(folder, "trust", "*.pem"))
	must(t, err)
	members, err := filepath.Glob(filepath.Join(folder, "trust", "members", "*.pem"))
	must(t, err)
	if len(keys) != 4 || len(members) != 1 {
		t.Fatalf("%d institutions' key files and %d members', want 4 and 1", len(keys), len(members))
	}
	for _, name := range append(keys, members...) {
		if out, err := exec.Command(openssl, "pkey", "-pubin", "-in", name, "-noout").CombinedOutput(); err != nil {
			t.Errorf("openssl does not read %s: %v\n%s", filepath.Base(name), err, out)
		}
	}
	der, err := exec.Command(openssl, "pkey", "-pubin", "-in", members[0], "-outform", "DER").Output()
	must(t, err)
	if kid := evidence.SumSHA256(der).String(); kid+".pem" != filepath.Base(members[0]) {
		t.Errorf("the kid by openssl is %s, the file is %s", kid, filepath.Base(members[0]))
	}
	for _, n := range []string{"000001", "000003"} {
		data, err := os.ReadFile(filepath.Join(folder, "manifests", n+".json"))
		must(t, err)
		var m struct {
			Objects []struct{ SHA256, SM3 string }
		}
		must(t, json.Unmarshal(data, &m))
		objects, err := filepath.Glob(filepath.Join(folder, "objects", n, "*"))
		must(t, err)
		if len(objects) != 1 || len(m.Objects) != 1 {
			t.Fatalf("step %s has %d files", n, len(objects))
		}
		for alg, want := range map[string]string{"-sm3": m.Objects[0].SM3, "-sha256": m.Objects[0].SHA256} {
			out, err := exec.Command(openssl, "dgst", alg, "-r", objects[0]).Output()
			if err != nil {
				t.Fatalf("openssl dgst %s: %v", alg, err)
			}
			if !strings.HasPrefix(string(out), want) {
				t.Errorf("openssl dgst %s gives %s, the manifest %s", alg, out, want)
			}
		}
	}
}

// TestNode runs judge.mjs on a package as it is and on altered ones.
func TestNode(t *testing.T) {
	if testing.Short() {
		t.Skip("installs two npm packages: left out of -short")
	}
	node, npm := tool(t, "node"), tool(t, "npm")
	if _, err := os.Stat("node_modules/@auth0/cose"); err != nil {
		if out, err := exec.Command(npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund").CombinedOutput(); err != nil {
			t.Skipf("npm cannot install the judges (is there a registry?): %v\n%s", err, bytes.TrimSpace(out))
		}
	}
	folder := unpacked(t)
	judge := func() (string, error) {
		out, err := exec.Command(node, "judge.mjs", folder).CombinedOutput()
		return string(out), err
	}
	out, err := judge()
	if err != nil {
		t.Fatalf("the judge refuses an honest package: %v\n%s", err, out)
	}
	// 3 statements, 4 receipts each, 2 objects, 4 receipts of the enrolment.
	if n := strings.Count(out, "ok "); n != 3+12+2+4 {
		t.Errorf("%d things hold, want 21:\n%s", n, out)
	}
	for _, name := range []string{"statements/000001.cose", "receipts/000003.court.cose", "manifests/000003.json", "objects/000003/01-page.html"} {
		path := filepath.Join(folder, name)
		data, err := os.ReadFile(path)
		must(t, err)
		altered := bytes.Clone(data)
		altered[len(altered)-5] ^= 1
		must(t, os.WriteFile(path, altered, 0o600))
		if out, err := judge(); err == nil || !strings.Contains(out, "FAILED") {
			t.Errorf("%s altered: %v\n%s", name, err, out)
		}
		must(t, os.WriteFile(path, data, 0o600))
	}
}
