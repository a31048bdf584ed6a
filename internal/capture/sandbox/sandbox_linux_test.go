package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// shell opens a room in which a shell takes the browser's place.
func shell(t *testing.T, c Config) *Room {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("not root: TestWithoutRoot shows what is said then")
	}
	c.Browser, c.Folder = "/usr/bin/dash", t.TempDir()
	if err := os.Chmod(c.Folder, 0o711); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Dir(c.Folder), 0o711); err != nil {
		t.Fatal(err)
	}
	r, err := Open(t.Context(), c)
	var missing *Incomplete
	if errors.As(err, &missing) {
		t.Skip(missing.Text("en"))
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// run runs a script in the room and returns what it wrote.
func run(t *testing.T, r *Room, script string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	c, err := r.Start([]string{"-c", script}, nil, nil, &out)
	if err != nil {
		t.Fatal(err)
	}
	<-c.Done()
	return out.String(), c.Err()
}

func TestRoom(t *testing.T) {
	r := shell(t, Config{})
	for _, i := range r.Report().Items {
		t.Log(i.Text("en"))
	}
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	uid := strconv.Itoa(r.User())
	for _, c := range []struct{ name, script, want string }{
		{"its own user", "id -u; id -g; id -G", uid + "\n" + uid + "\n" + uid + "\n"},
		{"no capability, no new privileges", "grep -E '^(Cap(Inh|Prm|Eff|Bnd|Amb)|NoNewPrivs)' /proc/self/status | sort | tr -d '\\t'",
			"CapAmb:0000000000000000\nCapBnd:0000000000000000\nCapEff:0000000000000000\nCapInh:0000000000000000\nCapPrm:0000000000000000\nNoNewPrivs:1\n"},
		{"lo alone", "cut -s -d: -f1 /proc/net/dev | tail -n +1 | tr -d ' ' | sort | tr '\\n' ' '; cat /proc/net/route | tail -n +2", "lo "},
		{"no file of the host", "cat " + secret + " 2>/dev/null || echo none; ls -d /roo? 2>/dev/null; ls /home /var/lib /run 2>/dev/null", "none\n/home:\nrecording\n"},
		{"its own passwd", "cut -d: -f1 /etc/passwd; ls /etc/shadow 2>/dev/null || echo none", "recording\nnone\n"},
		{"read-only", "for f in /x /etc/x /usr/x /dev/x; do echo > $f; done 2>/dev/null; ls /x /etc/x /usr/x /dev/x 2>/dev/null; echo > /home/recording/y && ls /home/recording", "downloads\nprofile\ny\n"},
		{"no process of others", "cat /proc/1/cmdline 2>/dev/null || echo none", "none\n"},
		{"the policy", "grep -c 'file://' /etc/chromium/policies/managed/zhenglian.json", "1\n"},
		{"no old root", "ls -d /old 2>/dev/null; grep -c ' / / ' /proc/self/mountinfo", "1\n"},
		{"no environment of the recorder", "env | cut -d= -f1 | sort | tr '\\n' ' '", "HOME LANG PATH PWD TMPDIR TZ XDG_RUNTIME_DIR "},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, _ := run(t, r, c.script)
			if got != c.want {
				t.Errorf("%s\ngives %q\nwant  %q", c.script, got, c.want)
			}
		})
	}
}

// The one thing that answers inside is the listener.
func TestRoomNetwork(t *testing.T) {
	r := shell(t, Config{})
	outside, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer outside.Close()
	served := make(chan string, 1)
	go func() {
		conn, err := r.Listener().Accept()
		if err != nil {
			served <- err.Error()
			return
		}
		defer conn.Close()
		b, _ := io.ReadAll(conn)
		served <- string(b)
	}()
	bash := func(script string) (string, error) {
		return run(t, r, "exec /bin/bash -c '"+script+"' 2>&1")
	}
	if out, err := bash(fmt.Sprintf("echo hello > /dev/tcp/127.0.0.1/%d", ProxyPort)); err != nil {
		t.Fatalf("the proxy is not reached: %v %s", err, out)
	}
	if got := <-served; got != "hello\n" {
		t.Errorf("the proxy's side heard %q", got)
	}
	port := outside.Addr().(*net.TCPAddr).Port
	for _, to := range []string{fmt.Sprintf("127.0.0.1/%d", port), "169.254.169.254/80", "10.0.0.1/80", "1.1.1.1/53"} {
		if out, err := bash("echo x > /dev/tcp/" + to); err == nil {
			t.Errorf("%s is reached from the room: %s", to, out)
		}
	}
	// The host's loopback has no such port.
	if c, err := net.DialTimeout("tcp4", fmt.Sprintf("127.0.0.1:%d", ProxyPort), time.Second); err == nil {
		c.Close()
		t.Error("the room's socket is on the host")
	}
}

func TestCloseEndsEverything(t *testing.T) {
	r := shell(t, Config{})
	out, w := io.Pipe()
	c, err := r.Start([]string{"-c", "(setsid sleep 1000 & setsid setsid sleep 1000 &) ; echo ready; exec sleep 1000"}, nil, nil, w)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAtLeast(out, make([]byte, 6), 6); err != nil {
		t.Fatal(err)
	}
	go io.Copy(io.Discard, out)
	defer out.Close()
	home, user := filepath.Dir(r.HostPath(Profile)), r.User()
	groups := r.group.folders
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-c.Done():
	default:
		t.Error("the child is not waited for")
	}
	for _, p := range processes() {
		if p.uid == user && p.state != "Z" { // the dead are the machine's first process's
			t.Errorf("process %d of the room is left (%s)", p.pid, p.state)
		}
	}
	if _, err := os.Stat(home); !os.IsNotExist(err) {
		t.Errorf("the home is left: %v", err)
	}
	for _, g := range groups {
		if _, err := os.Stat(g); !os.IsNotExist(err) {
			t.Errorf("the control group %s is left", g)
		}
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if _, err := r.Start(nil, nil, nil, nil); err == nil {
		t.Error("a closed room starts a browser")
	}
}

func TestTwoRooms(t *testing.T) {
	a, b := shell(t, Config{}), shell(t, Config{})
	if a.User() == b.User() {
		t.Error("two rooms have one user")
	}
	if _, err := run(t, a, "echo mine > /home/recording/mine"); err != nil {
		t.Fatal(err)
	}
	if out, _ := run(t, b, "ls /home/recording"); strings.Contains(out, "mine") {
		t.Errorf("a room sees the other's home: %s", out)
	}
}

func TestLimits(t *testing.T) {
	r := shell(t, Config{Limits: Limits{Memory: 64 << 20, Processes: 40, File: 1 << 20}})
	if out, err := run(t, r, "dd if=/dev/zero of=/home/recording/big bs=1M count=3 2>/dev/null"); err == nil {
		t.Errorf("a file beyond the limit was written: %s", out)
	}
	if !r.Report().Holds(PartMemory) {
		t.Skip("no limit of memory on this host")
	}
	out, err := run(t, r, `exec /usr/bin/perl -e '$x = "a" x 200000000; print length $x'`)
	if err == nil {
		t.Errorf("200 MB were had under a limit of 64 MiB: %s", out)
	}
	if peak := r.MemoryPeak(); peak == 0 || peak > 64<<20 {
		t.Errorf("the peak is told as %d octets", peak)
	}
	if !r.Report().Holds(PartPIDs) {
		t.Skip("no limit of processes on this host")
	}
	if out, err := run(t, r, "i=0; while [ $i -lt 100 ]; do sleep 5 & i=$((i+1)); done; echo all"); err == nil && strings.Contains(out, "all") {
		t.Error("100 processes under a limit of 40")
	}
}

func TestLimitOfTime(t *testing.T) {
	r := shell(t, Config{Limits: Limits{Time: 200 * time.Millisecond}})
	if _, err := run(t, r, "exec sleep 1000"); err == nil {
		t.Error("the room outlived its time")
	}
	<-r.Over()
	if r.OverReason() != "time" {
		t.Errorf("the reason is %q", r.OverReason())
	}
}

func TestLimitOfDisk(t *testing.T) {
	r := shell(t, Config{Limits: Limits{Disk: 1 << 20}})
	if _, err := run(t, r, "dd if=/dev/zero of=/home/recording/big bs=1M count=5 2>/dev/null; exec sleep 1000"); err == nil {
		t.Error("the room outgrew its disk")
	}
	<-r.Over()
	if r.OverReason() != "disk" {
		t.Errorf("the reason is %q", r.OverReason())
	}
}

// What weakens the browser's own sandbox is refused before anything starts.
func TestStartRefuses(t *testing.T) {
	r := shell(t, Config{})
	for _, arg := range []string{"--no-sandbox", "--no-sandbox=1", "--disable-seccomp-filter-sandbox", "--single-process", "--no-zygote", "--ignore-certificate-errors", "--disable-web-security", "--remote-debugging-port=9222"} {
		if _, err := r.Start([]string{arg}, nil, nil, nil); err == nil || !strings.Contains(err.Error(), "refused") {
			t.Errorf("%s: %v", arg, err)
		}
	}
}

// The browser owns its home: what it puts there must not lead the recorder to
// other files, or hold it up.
func TestOpenFile(t *testing.T) {
	r := shell(t, Config{})
	if _, err := run(t, r, "cd /home/recording/downloads; echo good > file; ln -s /etc/shadow link; ln -s ../../../../../../../etc climb; mkfifo pipe; mkdir dir"); err != nil {
		t.Fatal(err)
	}
	f, err := r.OpenFile(Downloads + "/file")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if b, _ := io.ReadAll(f); string(b) != "good\n" {
		t.Errorf("the file holds %q", b)
	}
	for _, name := range []string{"link", "climb/passwd", "pipe", "dir", "../../../etc/passwd"} {
		if f, err := r.OpenFile(Downloads + "/" + name); err == nil {
			f.Close()
			t.Errorf("%s was opened", name)
		}
	}
	for _, path := range []string{"/etc/passwd", Home + "/../x", ""} {
		if p := r.HostPath(path); p != "" {
			t.Errorf("%q is said to be at %s", path, p)
		}
	}
}

func TestCheck(t *testing.T) {
	report, err := Check(t.Context(), Config{Browser: "/usr/bin/dash", Folder: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, i := range report.Items {
		seen[i.Part] = true
		for _, lang := range []string{"zh-CN", "en"} {
			if text := i.Text(lang); text == "" || strings.Contains(text, "%!") {
				t.Errorf("%s in %s: %q", i.Part, lang, text)
			}
		}
	}
	for part := range english().parts {
		if part != PartRoot && !seen[part] {
			t.Errorf("the report says nothing of %s", part)
		}
	}
}

// Both languages have every text.
func TestTexts(t *testing.T) {
	en, zh := english(), chinese()
	for key := range en.parts {
		if zh.parts[key] == "" {
			t.Errorf("no Chinese name of %s", key)
		}
	}
	for key := range en.remedies {
		if zh.remedies[key] == "" {
			t.Errorf("no Chinese remedy of %s", key)
		}
	}
	missing := &Incomplete{Report{Items: []Item{{Part: PartNetwork, Detail: "why", remedy: remedyRoot}, {Part: PartUser, GivenUp: true}}}}
	for lang, want := range map[string]string{"en": "Run the recorder as root", "zh-CN": "root 身份运行"} {
		if text := missing.Text(lang); !strings.Contains(text, want) || strings.Contains(text, "given up") || strings.Contains(text, "放弃（") {
			t.Errorf("%s: %s", lang, text)
		}
	}
}

func TestConfig(t *testing.T) {
	for name, c := range map[string]Config{
		"given up": {Without: []string{PartRenderer}}, "unknown": {Without: []string{"x"}},
		"system's user": {User: 33}, "negative": {Limits: Limits{Memory: -1}},
	} {
		if _, err := Open(context.Background(), c); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	if _, err := Open(t.Context(), Config{Browser: "/usr/bin/chromium-script", Folder: t.TempDir()}); err == nil {
		t.Error("a browser that is not there is taken")
	}
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	_, err := Open(t.Context(), Config{Browser: script, Folder: t.TempDir()})
	var missing *Incomplete
	if !errors.As(err, &missing) || len(missing.Report.Missing()) == 0 {
		t.Errorf("a script is taken for a browser: %v", err)
	}
}

// runAs runs the calling test again as another user.
func runAs(t *testing.T, user uint32) {
	t.Helper()
	// The test program lies where others may not look: they get a copy.
	folder := t.TempDir()
	for _, dir := range []string{folder, filepath.Dir(folder)} {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(folder, "test")
	if err := os.WriteFile(program, self, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-test.run", "^"+t.Name()+"$", "-test.v")
	cmd.Dir, cmd.Env = "/", []string{"TMPDIR=/tmp"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}}
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("as user %d: %v\n%s", user, err, out)
	}
}

// What a recorder that is not root is told.
func TestWithoutRoot(t *testing.T) {
	if os.Geteuid() == 0 {
		runAs(t, 65534)
		return
	}
	_, err := Open(t.Context(), Config{Folder: t.TempDir()})
	var missing *Incomplete
	if !errors.As(err, &missing) {
		t.Fatalf("without root: %v", err)
	}
	for _, part := range []string{PartNetwork, PartUser, PartFiles} {
		if missing.Report.Holds(part) {
			t.Errorf("%s is said to hold without root", part)
		}
	}
}

// A room whose recorder was killed is removed, one in use is not.
func TestSweep(t *testing.T) {
	r := shell(t, Config{})
	folder := filepath.Dir(r.folder)
	left := filepath.Join(folder, "recording-left")
	if err := os.MkdirAll(filepath.Join(left, "home", "profile"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(left, "held"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if n, err := Sweep(Config{Folder: folder}); err != nil || n != 1 {
		t.Errorf("%d rooms removed: %v", n, err)
	}
	if _, err := os.Stat(left); !os.IsNotExist(err) {
		t.Errorf("the room left behind is there: %v", err)
	}
	if out, err := run(t, r, "echo > /home/recording/x && echo fine"); err != nil || out != "fine\n" {
		t.Errorf("the room in use is harmed: %q %v", out, err)
	}
}
