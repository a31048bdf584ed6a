//go:build !js

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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

// answer is a line that testdata/run.mjs prints.
type answer struct {
	Status  int      `json:"status"`
	Verdict string   `json:"verdict"`
	Error   string   `json:"error"`
	Named   []string `json:"named"`
	Page    int      `json:"page"`
	Calls   int      `json:"calls"`
	Steps   int      `json:"steps"`
	Memory  int64    `json:"memory"`
}

// TestWebAssembly builds the module and runs it under Node on an honest
// package, a tampered one, one with an object of 48 MiB, and a file that is no
// package. The module's memory must not grow with the object.
func TestWebAssembly(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the WebAssembly module: left out of -short")
	}
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("node is not installed: install Node.js 18 or later to run the WebAssembly module here")
	}
	dir := t.TempDir()
	wasm := filepath.Join(dir, "verify.wasm")
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", wasm, ".")
	build.Env = append(os.Environ(), "GOOS=js", "GOARCH=wasm", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building for WebAssembly: %v\n%s", err, out)
	}
	info, err := os.Stat(wasm)
	must(t, err)
	t.Logf("the module has %d bytes", info.Size())

	a, err := testalliance.New("wasm", 4)
	must(t, err)
	good := writePackage(t, a, filepath.Join(dir, "good.zip"), []byte("<p>page</p>"))
	large := writePackage(t, a, filepath.Join(dir, "large.zip"), make([]byte, 48<<20))
	data, err := os.ReadFile(good)
	must(t, err)
	data[bytes.Index(data, []byte("<p>page"))] ^= 1
	bad := filepath.Join(dir, "bad.zip")
	must(t, os.WriteFile(bad, data, 0o600))
	none := filepath.Join(dir, "none.zip")
	must(t, os.WriteFile(none, []byte("no package"), 0o600))
	policy, err := a.Policy.Encode()
	must(t, err)
	policyFile := filepath.Join(dir, "policy.json")
	must(t, os.WriteFile(policyFile, policy, 0o600))

	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	must(t, err)
	run := exec.Command(node, "testdata/run.mjs", filepath.Join(strings.TrimSpace(string(goroot)), "lib", "wasm", "wasm_exec.js"), wasm, policyFile, good, bad, none, large)
	run.Stderr = os.Stderr
	out, err := run.Output()
	if err != nil {
		t.Fatalf("running the module: %v\n%s", err, out)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(lines) != 4 {
		t.Fatalf("%d answers, want 4:\n%s", len(lines), out)
	}
	answers := make([]answer, len(lines))
	for i, line := range lines {
		must(t, json.Unmarshal([]byte(line), &answers[i]))
		t.Log(line)
	}
	if g := answers[0]; g.Status != 0 || g.Verdict != "matches" || g.Page == 0 || g.Steps == 0 {
		t.Errorf("the honest package: %+v", g)
	}
	if b := answers[1]; b.Status != 1 || b.Verdict != "does-not-match" || !slices.Contains(b.Named, "objects/000001/01-page.html") {
		t.Errorf("the tampered package: %+v", b)
	}
	if n := answers[2]; n.Status != 2 || n.Error == "" {
		t.Errorf("no package: %+v", n)
	}
	l := answers[3]
	if l.Status != 0 {
		t.Errorf("the large package: %+v", l)
	}
	// The garbage collector may double a heap of a few MiB; an object of 48 MiB
	// held in memory would show.
	if grown := l.Memory - answers[0].Memory; grown > 16<<20 {
		t.Errorf("memory grew by %d bytes for an object of 48 MiB", grown)
	}
}

func writePackage(t *testing.T, a *testalliance.Alliance, name string, page []byte) string {
	t.Helper()
	li, err := a.Enrol("m:li", 2, false)
	must(t, err)
	trail, err := a.Open(li, testalliance.Step{Phase: evidence.PhaseDuring, Name: "保存", Objects: map[string][]byte{"page.html": page}})
	must(t, err)
	c, err := a.Content(trail)
	must(t, err)
	pkg, err := c.Encode()
	must(t, err)
	must(t, os.WriteFile(name, pkg, 0o600))
	return name
}
