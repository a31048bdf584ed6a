package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// shown are folders and files of the host that the room sees, read-only: programs,
// libraries, fonts, the zone of the clock. None of them is a person's.
var shown = [...]string{
	"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32",
	"/etc/fonts", "/etc/ssl/certs", "/etc/alternatives", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/localtime", "/etc/timezone",
	"/var/cache/fontconfig",
}

// devices that any program may expect.
var devices = [...]string{"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"}

// privateMounts gives the calling thread a mount namespace from which nothing
// comes back to the host.
func privateMounts() error {
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
		return fmt.Errorf("making a mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making the mounts private: %w", err)
	}
	return nil
}

// enterRoot exchanges the calling thread's root for one in memory, mounted on the
// folder at. home is the host's folder that the room may write to. extra are
// further folders to show, the browser's own.
func enterRoot(at, home string, user int, memory int64, policy []byte, extra ...string) error {
	if err := unix.Mount("room", at, "tmpfs", unix.MS_NOSUID, "mode=0755,size=16m"); err != nil {
		return fmt.Errorf("mounting the root: %w", err)
	}
	for _, path := range append(shown[:], extra...) {
		if err := show(at, path, unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV); err != nil {
			return err
		}
	}
	for _, path := range devices {
		if err := show(at, path, unix.MS_NOSUID|unix.MS_NOEXEC); err != nil {
			return err
		}
	}
	inside := filepath.Join(at, Home)
	if err := os.MkdirAll(inside, 0o755); err != nil {
		return fmt.Errorf("making the home's place: %w", err)
	}
	if err := bind(home, inside, unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC); err != nil {
		return err
	}
	for _, m := range []struct{ path, kind, options string }{
		{"/tmp", "tmpfs", "mode=1777,size=64m"},
		{"/dev/shm", "tmpfs", fmt.Sprintf("mode=1777,size=%d", memory/2)},
		{"/proc", "proc", "hidepid=2"}, // of processes, those of its own user alone
	} {
		if err := os.MkdirAll(filepath.Join(at, m.path), 0o755); err != nil {
			return fmt.Errorf("making %s: %w", m.path, err)
		}
		if err := unix.Mount(m.kind, filepath.Join(at, m.path), m.kind, unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, m.options); err != nil {
			return fmt.Errorf("mounting %s: %w", m.path, err)
		}
	}
	if err := os.Symlink("/proc/self/fd", filepath.Join(at, "/dev/fd")); err != nil {
		return fmt.Errorf("making /dev/fd: %w", err)
	}
	if err := writeEtc(at, user, policy); err != nil {
		return err
	}
	// From here on the old root is below the new one, and then nowhere.
	old := filepath.Join(at, "old")
	if err := os.Mkdir(old, 0o700); err != nil {
		return fmt.Errorf("making the old root's place: %w", err)
	}
	if err := unix.PivotRoot(at, old); err != nil {
		return fmt.Errorf("exchanging the root: %w", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return fmt.Errorf("going to the new root: %w", err)
	}
	if err := unix.Unmount("/old", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leaving the old root: %w", err)
	}
	if err := unix.Rmdir("/old"); err != nil {
		return fmt.Errorf("removing the old root's place: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|unix.MS_NOSUID, ""); err != nil {
		return fmt.Errorf("making the root read-only: %w", err)
	}
	return nil
}

func writeEtc(at string, user int, policy []byte) error {
	files := map[string]string{
		"/etc/passwd":        fmt.Sprintf("recording:x:%d:%d::%s:/usr/sbin/nologin\n", user, user, Home),
		"/etc/group":         fmt.Sprintf("recording:x:%d:\n", user),
		"/etc/hosts":         "127.0.0.1 localhost\n",
		"/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
	}
	for _, folder := range policyFolders() {
		files[filepath.Join(folder, "zhenglian.json")] = string(policy)
	}
	for path, text := range files {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(at, path)), 0o755); err != nil {
			return fmt.Errorf("making the folder of %s: %w", path, err)
		}
		if err := os.WriteFile(filepath.Join(at, path), []byte(text), 0o644); err != nil {
			return fmt.Errorf("writing %s: %w", path, err)
		}
	}
	return nil
}

// policyFolders are where Chromium and Chrome look for managed policies.
func policyFolders() []string {
	return []string{"/etc/chromium/policies/managed", "/etc/opt/chrome/policies/managed"}
}

// show makes a path of the host visible at the same place below at. What the host
// does not have is left out.
func show(at, path string, flags uintptr) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking at %s: %w", path, err)
	}
	to := filepath.Join(at, path)
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return fmt.Errorf("making the place of %s: %w", path, err)
	}
	switch {
	case info.Mode()&fs.ModeSymlink != 0 && !strings.HasPrefix(path, "/etc/"):
		target, err := os.Readlink(path)
		if err != nil {
			return fmt.Errorf("reading the link %s: %w", path, err)
		}
		return os.Symlink(target, to)
	case info.Mode()&fs.ModeSymlink != 0: // a file's content, wherever it lies
		if path, err = filepath.EvalSymlinks(path); err != nil {
			return nil
		}
		if info, err = os.Stat(path); err != nil {
			return nil
		}
	}
	if info.IsDir() {
		err = os.MkdirAll(to, 0o755)
	} else {
		err = os.WriteFile(to, nil, 0o644)
	}
	if err != nil {
		return fmt.Errorf("making the place of %s: %w", path, err)
	}
	return bind(path, to, flags)
}

func bind(from, to string, flags uintptr) error {
	if err := unix.Mount(from, to, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("showing %s: %w", from, err)
	}
	if err := unix.Mount("", to, "", unix.MS_REMOUNT|unix.MS_BIND|flags, ""); err != nil {
		return fmt.Errorf("limiting %s: %w", from, err)
	}
	return nil
}
