//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package member

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// tryLock takes the lock, which holds until the file is closed, by us or by the
// end of the process. ok is false while another process or handle has it.
func tryLock(f *os.File, shared bool) (ok bool, err error) {
	how := syscall.LOCK_EX
	if shared {
		how = syscall.LOCK_SH
	}
	err = syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("locking %s: %w", f.Name(), err)
	}
	return true, nil
}
