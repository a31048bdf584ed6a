package main

import (
	"encoding/binary"
	"errors"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// audit watches directories by inotify, which sees the opens of every process.
type audit struct {
	t     *testing.T
	fd    int
	homes map[int32]string // watch → home
}

func newAudit(t *testing.T) *audit {
	t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		t.Skipf("inotify is not to be had here: %v", err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return &audit{t: t, fd: fd, homes: map[int32]string{}}
}

func (a *audit) watch(home string) {
	a.t.Helper()
	w, err := unix.InotifyAddWatch(a.fd, filepath.Join(home, "keys"), unix.IN_OPEN|unix.IN_ACCESS)
	if err != nil {
		a.t.Fatal(err)
	}
	a.homes[int32(w)] = filepath.Base(home)
}

// opened returns the homes whose key files were opened since the last call,
// and which files.
func (a *audit) opened() map[string][]string {
	a.t.Helper()
	seen := map[string][]string{}
	buf := make([]byte, 64<<10)
	for {
		n, err := unix.Read(a.fd, buf)
		if errors.Is(err, unix.EAGAIN) {
			return seen
		}
		if err != nil {
			a.t.Fatal(err)
		}
		for b := buf[:n]; len(b) >= unix.SizeofInotifyEvent; {
			w := int32(binary.NativeEndian.Uint32(b))
			mask := binary.NativeEndian.Uint32(b[4:])
			length := int(binary.NativeEndian.Uint32(b[12:]))
			name := strings.TrimRight(string(b[unix.SizeofInotifyEvent:unix.SizeofInotifyEvent+length]), "\x00")
			b = b[unix.SizeofInotifyEvent+length:]
			if mask&unix.IN_Q_OVERFLOW != 0 {
				a.t.Fatal("inotify lost events")
			}
			if home := a.homes[w]; name != "" && !slices.Contains(seen[home], name) {
				seen[home] = append(seen[home], name)
			}
		}
	}
}

// No process ever reads two institutions' keys: each command runs as a process
// of its own while the key directories of all homes are watched.
func TestNoProcessReadsTwoInstitutionsKeys(t *testing.T) {
	program, err := exec.LookPath("zhenglian") // testscript.Main puts it on the path
	if err != nil {
		t.Fatal(err)
	}
	// Not t.TempDir, which only this user may enter: another one runs a copy of
	// the program in it below.
	dir, err := os.MkdirTemp("", "zhenglian-homes-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	node := newFakeNode(dir)
	server := httptest.NewServer(node)
	defer server.Close()
	var owner *syscall.Credential
	command := func(args ...string) error {
		cmd := exec.Command(program, args...)
		cmd.Dir = dir
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LANG=C", "HOME=" + dir}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: owner}
		out, err := cmd.CombinedOutput()
		if err != nil {
			return errors.New(strings.Join(args, " ") + ": " + string(out))
		}
		return nil
	}
	must := func(args ...string) {
		t.Helper()
		if err := command(args...); err != nil {
			t.Fatal(err)
		}
	}
	kinds := map[string]string{"court": "court", "notary": "notary", "ca": "ca"}
	watch := newAudit(t)
	ids := []string{"court", "notary", "ca"}
	for _, id := range ids {
		must("institution", "init", "--home", id, "--id", id, "--name", id, "--kind", kinds[id], "--api", server.URL+"/ok", "--peer", "127.0.0.1:7443", "--p2p", "127.0.0.1:26656")
		// Nothing made before was opened by this init.
		if seen := watch.opened(); len(seen) != 0 {
			t.Errorf("init of %s opened %v", id, seen)
		}
		if err := node.signs(id); err != nil { // before the watch, for the node is in this process
			t.Fatal(err)
		}
		watch.watch(filepath.Join(dir, id))
	}
	must("member", "init", "--home", "alice")

	type step struct {
		args []string
		home string   // the one home whose keys it may open; "" for none
		keys []string // exactly these, when given
	}
	steps := []step{
		{args: []string{"alliance", "genesis", "--name", "x", "--slug", "x", "--out", "alliance.json", "court/descriptor.json", "notary/descriptor.json", "ca/descriptor.json"}},
		{args: []string{"alliance", "show", "alliance.json"}},
		{args: []string{"alliance", "policy", "alliance.json"}},
	}
	for _, id := range ids {
		steps = append(steps,
			step{args: []string{"institution", "join", "--home", id, "alliance.json"}},
			step{args: []string{"institution", "show", "--home", id}, home: id})
	}
	steps = append(steps,
		step{args: []string{"member", "enrol", "--home", "ca", "--request", "alice/request.json", "--assurance", "0"}, home: "ca", keys: []string{"statement.pem"}},
		step{args: []string{"member", "revoke", "--home", "ca", "--kid", strings.Repeat("ab", 32), "--reason", "superseded"}, home: "ca", keys: []string{"statement.pem"}})
	for _, s := range steps {
		must(s.args...)
		seen := watch.opened()
		for home, files := range seen {
			if home != s.home {
				t.Errorf("%s opened %v of %s", strings.Join(s.args, " "), files, home)
			}
		}
		if s.home != "" && len(seen[s.home]) == 0 {
			t.Errorf("%s: the audit saw no key being opened, so it proves nothing", strings.Join(s.args, " "))
		}
		if s.keys != nil && !slices.Equal(seen[s.home], s.keys) {
			t.Errorf("%s opened %v, needs %v alone", strings.Join(s.args, " "), seen[s.home], s.keys)
		}
	}

	// The same with the law instead of a witness: a user who cannot enter the
	// others' homes does all that one institution does.
	if os.Getuid() != 0 {
		t.Log("not root: the part with another user is left out")
		return
	}
	const nobody = 65534
	if !reachableByAll(dir) {
		t.Log("another user cannot reach the directory of temporary files: the part with another user is left out")
		return
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	binary, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	// testscript.Main knows the command by the name of its file.
	program = filepath.Join(dir, "zhenglian")
	if err := os.WriteFile(program, binary, 0o755); err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(filepath.Join(dir, "court"), func(path string, _ os.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, nobody, nobody))
	})
	if err != nil {
		t.Fatal(err)
	}
	owner = &syscall.Credential{Uid: nobody, Gid: nobody}
	must("institution", "show", "--home", "court")
	must("institution", "join", "--home", "court", "alliance.json")
	must("alliance", "show", "alliance.json")
	if err := command("institution", "show", "--home", "notary"); err == nil || !strings.Contains(err.Error(), "may not access") {
		t.Errorf("another institution's home was opened: %v", err)
	}
}

// reachableByAll reports whether a user who owns none of the directories above
// path may enter them.
func reachableByAll(path string) bool {
	for p := filepath.Dir(path); ; p = filepath.Dir(p) {
		info, err := os.Stat(p)
		if err != nil || info.Mode().Perm()&0o001 == 0 {
			return false
		}
		if p == filepath.Dir(p) {
			return true
		}
	}
}
