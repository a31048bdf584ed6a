package demo

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestMain makes orphans come to this process, so that a test sees what a
// demonstration leaves running.
func TestMain(m *testing.M) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func program(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "zhenglian")
	out, err := exec.Command("go", "build", "-buildvcs=false", "-o", path, "../../cmd/zhenglian").CombinedOutput()
	if err != nil {
		t.Fatalf("building the program: %v\n%s", err, out)
	}
	return path
}

// file writes n bytes that do not repeat.
func file(t *testing.T, dir, name string, n int64) string {
	t.Helper()
	path := filepath.Join(dir, name)
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	source := rand.NewChaCha8([32]byte{byte(n)})
	if _, err := io.CopyN(f, source, n); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

type summary struct {
	Packages []struct {
		Name, Path, Verdict string
		Objects, Faults     []string
	}
	Institutions []struct {
		ID, Name, Kind, Address string
		Keys                    []struct {
			Use, KID string
			Public   []byte
		}
	}
	Portal struct {
		Origin, Package, Finding string
		Pictures                 []string
	}
	Timings []struct {
		Scene   string
		Seconds float64
	}
}

func readSummary(t *testing.T, dir string) (s summary) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "summary.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// left lists the processes that run the program, this process's own children or
// not.
func left(t *testing.T, program string) []string {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, e := range entries {
		exe, err := os.Readlink(filepath.Join("/proc", e.Name(), "exe"))
		if err != nil || exe != program {
			continue
		}
		line, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		found = append(found, e.Name()+" "+string(bytes.ReplaceAll(line, []byte{0}, []byte{' '})))
	}
	return found
}

// noneLeft waits a moment for processes that are ending, and reaps orphans.
func noneLeft(t *testing.T, program string) {
	t.Helper()
	for range 100 {
		var status syscall.WaitStatus
		for {
			if pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil); err != nil || pid <= 0 {
				break
			}
		}
		if len(left(t, program)) == 0 {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Errorf("these still run: %q", left(t, program))
}

// TestDemo plays it twice in one folder, the second time with other files and
// in Chinese.
func TestDemo(t *testing.T) {
	bin, files, out := program(t), t.TempDir(), filepath.Join(t.TempDir(), "demo")
	play := func(lang string, paths ...string) string {
		cmd := exec.Command(bin, append([]string{"demo", "--out", out, "--"}, paths...)...)
		cmd.Env = append(os.Environ(), "LANG="+lang, "LC_ALL=")
		text, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		return string(text)
	}
	check := func(objects []string, largest string) {
		t.Helper()
		s := readSummary(t, out)
		if len(s.Packages) != 2 || s.Packages[0].Verdict != "matches" || s.Packages[1].Verdict != "does not match" {
			t.Fatalf("packages: %+v", s.Packages)
		}
		if got := strings.Join(s.Packages[0].Objects, " "); got != strings.Join(objects, " ") {
			t.Errorf("the package has %q, want %q", got, objects)
		}
		if f := s.Packages[1].Faults; len(f) == 0 || !strings.HasSuffix(f[0], largest) {
			t.Errorf("faults are %q, want %s", f, largest)
		}
		for _, p := range s.Packages {
			path := p.Path
			if !filepath.IsAbs(path) {
				path = filepath.Join(out, path)
			}
			if _, err := os.Stat(path); err != nil {
				t.Error(err)
			}
		}
		kinds := ""
		for _, i := range s.Institutions {
			kinds += i.Kind + " "
			if i.Address == "" || i.Name == "" || len(i.Keys) < 7 {
				t.Errorf("institution %+v", i)
			}
			for _, k := range i.Keys {
				if _, err := x509.ParsePKIXPublicKey(k.Public); err != nil {
					t.Errorf("%s key of %s: %v", k.Use, i.ID, err)
				}
				if sum := fmt.Sprintf("%x", sha256.Sum256(k.Public)); sum != k.KID {
					t.Errorf("%s key of %s has the id %s, not %s", k.Use, i.ID, k.KID, sum)
				}
			}
		}
		if kinds != "ca court forensic notary " {
			t.Errorf("kinds: %s", kinds)
		}
		if p := s.Portal; p.Origin == "" || p.Finding != "Matches" && p.Finding != "相符" || len(p.Pictures) != 7 {
			t.Errorf("the browser's scene: %+v", p)
		}
		if len(s.Timings) != 9 {
			t.Errorf("timings: %+v", s.Timings)
		}
		noneLeft(t, bin)
		// The token is one to other people's software too.
		stamp := func(name string) string { return filepath.Join(out, "timestamp", name) }
		if text, err := exec.Command("openssl", "ts", "-verify", "-data", stamp("body"), "-in", stamp("token.tsr"), "-token_in", "-CAfile", stamp("root.pem")).CombinedOutput(); err != nil {
			t.Errorf("openssl ts: %v\n%s", err, text)
		}
		report, err := os.ReadFile(filepath.Join(out, "evidence-chain", "report.txt"))
		if err != nil {
			t.Fatal(err)
		}
		if s := string(report); !strings.Contains(s, "demonstration token") && !strings.Contains(s, "演示时间戳") {
			t.Errorf("the report does not name the demonstration's token:\n%s", s)
		}
	}
	text := play("en_US.UTF-8", file(t, files, "a contract.pdf", 5_000), file(t, files, "clip.mp4", 3_000_000), file(t, files, "photo.jpg", 70_000))
	for _, want := range []string{"The evidence chain stands", "clip.mp4", "no pass", "demonstration token", "openssl ts -verify", "What to try next"} {
		if !strings.Contains(text, want) {
			t.Errorf("it does not say %q:\n%s", want, text)
		}
	}
	check([]string{"01-a contract.pdf", "01-clip.mp4", "01-photo.jpg"}, "clip.mp4")

	if text = play("zh_CN.UTF-8", file(t, files, "合同.pdf", 9_000)); !strings.Contains(text, "证据链成立") {
		t.Errorf("it does not say 证据链成立:\n%s", text)
	}
	check([]string{"01-合同.pdf"}, "合同.pdf")

	// A folder with anything else in it is left alone.
	other := t.TempDir()
	file(t, other, "mine.txt", 10)
	cmd := exec.Command(bin, "demo", "--out", other, "--once", filepath.Join(files, "photo.jpg"))
	if text, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(text), "--out") {
		t.Errorf("a folder with other files: %v\n%s", err, text)
	}
	if _, err := os.Stat(filepath.Join(other, "mine.txt")); err != nil {
		t.Error(err)
	}
}

// TestInterrupted ends it in the middle, by Ctrl-C and by force: nothing is left
// running, and the next one plays in the same folder.
func TestInterrupted(t *testing.T) {
	bin, out := program(t), filepath.Join(t.TempDir(), "demo")
	photo := file(t, t.TempDir(), "photo.jpg", 70_000)
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGKILL} {
		cmd := exec.Command(bin, "demo", "--out", out, "--once", photo)
		said := new(bytes.Buffer)
		cmd.Stdout, cmd.Stderr = said, said
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(time.Minute); ; { // until the four nodes run
			nodes := 0
			for _, line := range left(t, bin) {
				if strings.Contains(line, " node --home ") {
					nodes++
				}
			}
			if nodes == 4 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("the nodes do not start")
			}
			time.Sleep(20 * time.Millisecond)
		}
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err == nil {
			t.Errorf("%v: it ended as if it were done:\n%s", sig, said)
		}
		noneLeft(t, bin)
	}
}
