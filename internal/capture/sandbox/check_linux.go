package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Check builds a room without a browser in it and takes it down again: what the
// report says was tried, not guessed.
func Check(ctx context.Context, c Config) (Report, error) {
	room, err := Open(ctx, c)
	var incomplete *Incomplete
	if errors.As(err, &incomplete) {
		return incomplete.Report, nil
	}
	if err != nil {
		return Report{}, err
	}
	return room.Report(), room.Close()
}

// container names what kind of container this process is in, by the marks that
// the common ones leave; "" when there is none.
func container() string {
	for file, name := range map[string]string{"/.dockerenv": "docker", "/run/.containerenv": "podman", "/run/systemd/container": "systemd"} {
		if _, err := os.Stat(file); err == nil {
			return name
		}
	}
	if v := os.Getenv("container"); v != "" {
		return v
	}
	if os.Getenv("KUBERNETES_SERVICE_HOST") != "" {
		return "kubernetes"
	}
	return ""
}

// usernsAllowed tries whether a user without rights may make a user namespace,
// which the browser's own sandbox needs. user 0: this process's own.
func usernsAllowed(user int) error {
	for _, knob := range []struct{ file, bad string }{
		{"/proc/sys/user/max_user_namespaces", "0"}, {"/proc/sys/kernel/unprivileged_userns_clone", "0"},
	} {
		if data, err := os.ReadFile(knob.file); err == nil && strings.TrimSpace(string(data)) == knob.bad {
			return fmt.Errorf("%s is %s", strings.ReplaceAll(strings.TrimPrefix(knob.file, "/proc/sys/"), "/", "."), knob.bad)
		}
	}
	cmd := exec.Command("/bin/true")
	cmd.Env = []string{}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, Pdeathsig: syscall.SIGKILL}
	if user != 0 {
		// The clone is made before the user is changed: ask as that user, by a program.
		cmd = exec.Command("/usr/bin/unshare", "--user", "/bin/true")
		cmd.Env = []string{}
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Credential: &syscall.Credential{Uid: uint32(user), Gid: uint32(user), Groups: []uint32{}}}
		if _, err := os.Stat("/usr/bin/unshare"); err != nil {
			return nil // the browser itself will tell: it does not start without
		}
	}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("an unprivileged user cannot make a user namespace: %w", err)
	}
	return nil
}

// policyInstalled looks for the policy on the host, for a room without files of
// its own.
func policyInstalled() error {
	want := string(Policy())
	for _, folder := range policyFolders() {
		if data, err := os.ReadFile(folder + "/zhenglian.json"); err == nil && string(data) == want {
			return nil
		}
	}
	return errors.New("the managed policy is not installed on this machine")
}

// Process is a process of a room as /proc shows it.
type Process struct {
	PID        int    `json:"pid"`
	Kind       string `json:"kind"` // of --type: "renderer", "zygote", "utility", "gpu-process"; "browser" for the first
	User       int    `json:"user"`
	Seccomp    int    `json:"seccomp"`    // 2: a filter
	CapEff     string `json:"capEff"`     // effective capabilities, hexadecimal
	NoNewPrivs bool   `json:"noNewPrivs"` // prctl(2), PR_SET_NO_NEW_PRIVS
	OwnUser    bool   `json:"ownUser"`    // in a user namespace of its own
	OwnNetwork bool   `json:"ownNetwork"` // in another network namespace than the recorder
	OwnPIDs    bool   `json:"ownPids"`    // in a process namespace of its own
	OwnFiles   bool   `json:"ownFiles"`   // in a mount namespace of its own
}

// Confined says whether a renderer has the browser's own sandbox around it.
func (p Process) Confined() bool {
	caps, err := strconv.ParseUint(p.CapEff, 16, 64)
	return err == nil && caps == 0 && p.Seccomp == 2 && p.NoNewPrivs && p.OwnUser
}

// Processes lists what runs in the room.
func (r *Room) Processes() []Process {
	var out []Process
	for _, s := range processes() {
		if r.user != 0 && s.uid != r.user || r.user == 0 && !r.descends(s) || s.state == "Z" {
			continue
		}
		dir := "/proc/" + strconv.Itoa(s.pid)
		cmdline, err := os.ReadFile(dir + "/cmdline")
		if err != nil || len(cmdline) == 0 {
			continue // it ended
		}
		p := Process{PID: s.pid, User: s.uid, Kind: "browser", CapEff: s.capEff, Seccomp: s.seccomp, NoNewPrivs: s.noNewPrivs}
		// Chromium's children write their command line with spaces.
		for arg := range strings.FieldsFuncSeq(string(cmdline), func(c rune) bool { return c == 0 || c == ' ' }) {
			if kind, ok := strings.CutPrefix(arg, "--type="); ok {
				p.Kind = kind
				break
			}
		}
		// A program beside the browser (the one that waits for crashes) has no kind.
		if program, err := os.Readlink(dir + "/exe"); err == nil && p.Kind == "browser" && filepath.Base(program) != filepath.Base(r.browser) {
			p.Kind = filepath.Base(program)
		}
		other := func(ns string) bool {
			mine, err1 := os.Readlink("/proc/self/ns/" + ns)
			its, err2 := os.Readlink(dir + "/ns/" + ns)
			return err1 == nil && err2 == nil && mine != its
		}
		p.OwnUser, p.OwnNetwork, p.OwnPIDs, p.OwnFiles = other("user"), other("net"), other("pid"), other("mnt")
		out = append(out, p)
	}
	return out
}

// descends: whether a process is of a session that the room started.
func (r *Room) descends(s status) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.children {
		if sid, err := unix.Getsid(s.pid); err == nil && sid == c.PID() {
			return true
		}
	}
	return false
}

type status struct {
	pid, uid, seccomp int
	state, capEff     string
	noNewPrivs        bool
}

// processes reads /proc of the host.
func processes() []status {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var out []status
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		data, err := os.ReadFile("/proc/" + e.Name() + "/status")
		if err != nil {
			continue
		}
		s := status{pid: pid, uid: -1}
		for line := range strings.Lines(string(data)) {
			key, value, _ := strings.Cut(line, ":")
			f := strings.Fields(value)
			if len(f) == 0 {
				continue
			}
			switch key {
			case "Uid":
				s.uid, _ = strconv.Atoi(f[0])
			case "State":
				s.state = f[0]
			case "CapEff":
				s.capEff = f[0]
			case "Seccomp":
				s.seccomp, _ = strconv.Atoi(f[0])
			case "NoNewPrivs":
				s.noNewPrivs = f[0] == "1"
			}
		}
		out = append(out, s)
	}
	return out
}
