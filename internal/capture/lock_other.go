//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package capture

import (
	"fmt"
	"os"
	"path/filepath"
)

// lockFolder locks nothing: this system has no flock. Do not resume a session
// while it is recorded.
func lockFolder(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking the session's folder: %w", err)
	}
	return f, nil
}
