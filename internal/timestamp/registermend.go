package timestamp

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Mended says what MendRegister did.
type Mended struct {
	Damage *DamageError // nil: the register was whole, and nothing was done
	Head   Head         // of the register now
	Last   time.Time    // of its newest entry; zero when it has none
	Kept   string       // where the damaged file is
	Lost   int64        // bytes of it from the damage on, which are in Kept alone
}

// MendRegister puts a register in the place of a damaged one that holds its lines
// up to the damage, so that numbers, chain and times go on from there, and keeps
// the damaged file beside it: it is the account of what was issued after. It
// returns ErrRegisterInUse while an authority writes it.
//
//  1. the good lines are copied to a new file, synced: nothing has changed
//  2. the damaged file gets its second name: the register is still the damaged one
//  3. the new file takes the register's name: done
func MendRegister(path string, now time.Time) (m Mended, err error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return m, fmt.Errorf("opening the register: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := lock(f); err != nil {
		return m, err
	}
	var size int64
	m.Head, m.Last, size, err = readRegister(f, path, nil)
	if err == nil {
		return m, nil
	}
	if !errors.As(err, &m.Damage) {
		return m, err
	}
	info, err := f.Stat()
	if err != nil {
		return m, fmt.Errorf("mending the register: %w", err)
	}
	m.Lost = info.Size() - size
	m.Kept = path + ".damaged-" + now.UTC().Format("20060102T150405Z")
	fresh := path + ".new"
	if err := copyStart(f, size, fresh); err != nil {
		return m, fmt.Errorf("mending the register: %w", err)
	}
	if err := os.Link(path, m.Kept); err != nil {
		return m, fmt.Errorf("keeping the damaged register: %w", err)
	}
	if err := os.Rename(fresh, path); err != nil {
		return m, fmt.Errorf("putting the mended register in place: %w", err)
	}
	return m, syncDirectory(filepath.Dir(path))
}

// copyStart writes the first bytes of a register to a new file, whole.
func copyStart(from io.ReaderAt, size int64, to string) error {
	if err := os.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) { // of a run that was cut
		return err
	}
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if size == 0 { // not even the first line was good
		_, err = out.WriteString(registerHeader)
	} else {
		_, err = io.Copy(out, io.NewSectionReader(from, 0, size))
	}
	return errors.Join(err, out.Sync(), out.Close())
}
