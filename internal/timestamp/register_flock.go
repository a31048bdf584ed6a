//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package timestamp

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// lock holds until the file is closed, by us or by the end of the process.
func lock(f *os.File) error {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return ErrRegisterInUse
	}
	if err != nil {
		return fmt.Errorf("locking the register: %w", err)
	}
	return nil
}

func syncDirectory(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("syncing the register's directory: %w", err)
	}
	return errors.Join(d.Sync(), d.Close())
}
