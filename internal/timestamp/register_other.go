//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package timestamp

import "os"

// lock does nothing: this system has no flock. Keep to one process a register.
func lock(*os.File) error { return nil }

// syncDirectory does nothing: this system cannot sync a directory.
func syncDirectory(string) error { return nil }
