package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// hold marks a room's folder as in use until the file is closed or the process
// ends, however it ends.
func hold(folder string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(folder, "held"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("marking the sandbox's folder: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("marking the sandbox's folder: %w", err), f.Close())
	}
	return f, nil
}

// Sweep removes what rooms left behind whose recorder was killed: homes with what
// the browser kept, and control groups. Their processes ended with it. It returns
// how many rooms it removed; rooms in use are left alone.
func Sweep(c Config) (int, error) {
	c, err := c.filled()
	if err != nil {
		return 0, err
	}
	folders, err := filepath.Glob(filepath.Join(c.Folder, "recording-*", "held"))
	if err != nil {
		return 0, fmt.Errorf("looking for rooms left behind: %w", err)
	}
	var errs []error
	swept := 0
	for _, held := range folders {
		folder := filepath.Dir(held)
		f, err := hold(folder)
		if err != nil {
			continue // in use
		}
		v1, v2, err := hierarchies()
		errs = append(errs, err)
		g := &cgroup{folders: map[string]string{}}
		name := "zhenglian-" + filepath.Base(folder)
		if v2 != "" {
			g.v2 = filepath.Join(v2, name)
		}
		for _, h := range v1 {
			g.folders[h.controllers[0]] = filepath.Join(h.folder, name)
		}
		errs = append(errs, g.remove(), os.RemoveAll(folder), f.Close())
		swept++
	}
	if err := errors.Join(errs...); err != nil {
		return swept, fmt.Errorf("removing rooms left behind: %w", err)
	}
	return swept, nil
}
