package ledger

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
)

const (
	entriesName = "entries"
	syncedName  = "synced"
)

func levelName(level int) string { return "hashes." + strconv.Itoa(level) }

// file is what the log needs of a file. Reads and writes at different offsets
// may run at once.
type file interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Truncate(size int64) error
	Sync() error
	Size() (int64, error)
}

// storage is the directory that holds the files.
type storage interface {
	// open opens a file for reading and writing. Without create, a missing one
	// is fs.ErrNotExist.
	open(name string, create bool) (file, error)
	// syncDir makes the names of created files durable.
	syncDir() error
	close() error
}

type directory struct {
	path   string
	handle *os.File // held open for the lock and for syncDir
}

// openDirectory creates dir when absent and locks it against a second Open.
func openDirectory(dir string) (*directory, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	handle, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := lock(handle); err != nil {
		handle.Close()
		return nil, err
	}
	return &directory{path: dir, handle: handle}, nil
}

func (d *directory) open(name string, create bool) (file, error) {
	flags := os.O_RDWR
	if create {
		flags |= os.O_CREATE
	}
	f, err := os.OpenFile(filepath.Join(d.path, name), flags, 0o644)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (d *directory) syncDir() error { return syncDirectory(d.handle) }

func (d *directory) close() error { return d.handle.Close() } // releases the lock

type osFile struct{ *os.File }

func (f osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// DamageError says where the log's files contradict each other or the root
// that was published. errors.Is(err, ErrDamaged) holds.
type DamageError struct {
	File   string // name within the log's directory
	Offset int64  // first byte of the damaged stretch
	Length int64  // its length in bytes: the damage is somewhere in it
	Reason string
}

func (e *DamageError) Error() string {
	remedy := "close the log, delete the file and open the log again: it is rebuilt from entries"
	if e.File == entriesName {
		remedy = "restore these bytes from the batches or from another institution's copy; if they are right already, delete the hashes files and check again"
	}
	return fmt.Sprintf("%s is damaged in the %d bytes from byte %d: %s; %s", e.File, e.Length, e.Offset, e.Reason, remedy)
}

// Unwrap returns ErrDamaged.
func (e *DamageError) Unwrap() error { return ErrDamaged }
