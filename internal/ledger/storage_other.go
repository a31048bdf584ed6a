//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package ledger

import "os"

// lock does nothing: this system has no flock. Keep to one process a log.
func lock(*os.File) error { return nil }

// syncDirectory does nothing: this system cannot sync a directory.
func syncDirectory(*os.File) error { return nil }
