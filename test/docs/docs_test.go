package docs

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// root is the module's.
const root = "../.."

// block is one shell block of a document and how it is run.
type block struct {
	line int // of the document, from 1
	how  string
	text string
}

var runComment = regexp.MustCompile(`^<!-- run(?:: ([a-z]+))? -->$`)

// blocks reads the shell blocks of a document. Fences of other kinds are text.
func blocks(t *testing.T, path string) []block {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	var found []block
	var b *block
	how, fence := "", ""
	for i, line := range strings.Split(string(data), "\n") {
		switch {
		case fence != "" && strings.TrimSpace(line) == "```":
			if b != nil {
				found = append(found, *b)
			}
			b, fence, how = nil, "", ""
		case fence != "":
			if b != nil {
				b.text += line + "\n"
			}
		case strings.HasPrefix(strings.TrimSpace(line), "```"):
			fence = strings.TrimSpace(line)
			switch strings.TrimPrefix(fence, "```") {
			case "sh", "bash", "shell", "console":
				if how == "" {
					t.Errorf("%s:%d: this block is not run: put <!-- run --> before it", path, i+1)
				}
				b = &block{line: i + 1, how: how}
			}
		case strings.TrimSpace(line) == "":
		default:
			how = ""
			if m := runComment.FindStringSubmatch(strings.TrimSpace(line)); m != nil {
				if how = m[1]; how == "" {
					how = "here"
				}
			}
		}
	}
	if fence != "" {
		t.Errorf("%s: a fence is not closed", path)
	}
	return found
}

func documents(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/*/*.md"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			rel, err := filepath.Rel(root, f)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, rel)
		}
	}
	if len(all) < 5 {
		t.Fatalf("only %v were found: the test looks at the wrong folder", all)
	}
	return all
}

// TestEveryBlockIsRun fails for a block that no test below runs.
func TestEveryBlockIsRun(t *testing.T) {
	for _, path := range documents(t) {
		for _, b := range blocks(t, path) {
			switch b.how {
			case "here", "nodes", "portal", "stopped":
				if _, ok := sessions[path]; !ok {
					t.Errorf("%s:%d: no session runs this document: add it to sessions", path, b.line)
				}
			case "make":
				if !slices.Contains(makeSessions, path) {
					t.Errorf("%s:%d: add the document to makeSessions", path, b.line)
				}
			case "":
			default:
				t.Errorf("%s:%d: there is no way to run a block called %q", path, b.line, b.how)
			}
		}
	}
}

// run runs a script in a shell of its own and ends everything it started.
func run(t *testing.T, dir, script string, env ...string) string {
	t.Helper()
	cmd := exec.Command("bash", "-eu", "-o", "pipefail")
	cmd.Dir = dir
	cmd.Stdin = strings.NewReader(script)
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	out := new(strings.Builder)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.WaitDelay = 5 * time.Second // of what a script left running
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }()
	timer := time.AfterFunc(10*time.Minute, func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	defer timer.Stop()
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v:\n%s", err, tail(out.String(), 60))
	}
	return out.String()
}

func tail(s string, lines int) string {
	all := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// programs builds the program once and returns its folder.
func programs(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	out, err := exec.Command("go", "build", "-buildvcs=false", "-o", dir, "../../cmd/...").CombinedOutput()
	if err != nil {
		t.Fatalf("building the programs: %v\n%s", err, out)
	}
	return dir
}

var link = regexp.MustCompile(`\]\(([^)#\s]+)(#[^)]*)?\)`)

// TestLinks: every link to a file of the tree leads to one.
func TestLinks(t *testing.T) {
	for _, path := range documents(t) {
		data, err := os.ReadFile(filepath.Join(root, path))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(data), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(root, filepath.Dir(path), m[1])); err != nil {
				t.Errorf("%s: the link to %s leads nowhere", path, m[1])
			}
		}
	}
}

var named = regexp.MustCompile("`([a-z][a-z0-9/-]*) ((?:Test|Fuzz|Example)[A-Za-z0-9]*)`")

// TestNamedTests: a test that a document names exists in that package.
func TestNamedTests(t *testing.T) {
	count := 0
	for _, path := range documents(t) {
		data, err := os.ReadFile(filepath.Join(root, path))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range named.FindAllStringSubmatch(string(data), -1) {
			count++
			if !hasTest(t, m[1], m[2]) {
				t.Errorf("%s names `%s %s`, and there is no such test", path, m[1], m[2])
			}
		}
	}
	if count == 0 {
		t.Error("no document names a test: the pattern is wrong")
	}
}

func hasTest(t *testing.T, pkg, name string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, pkg, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(data), fmt.Sprintf("\nfunc %s(", name)) {
			return true
		}
	}
	return false
}
