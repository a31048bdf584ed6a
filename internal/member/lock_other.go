//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package member

import "os"

// tryLock does nothing: this system has no flock. Keep to one deposit at a time.
func tryLock(*os.File, bool) (bool, error) { return true, nil }
