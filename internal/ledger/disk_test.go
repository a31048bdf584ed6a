package ledger

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"maps"
	"slices"
	"sync"
)

// memDisk is a storage in memory that can fail and can lose power. A file's
// content is what processes see; what is on disk is the content at its last
// Sync and whatever of the later writes the system happened to write.
type memDisk struct {
	mu      sync.Mutex
	files   map[string]*memFile
	durable map[string]bool // names that syncDir has written
	fail    func(op, name string) (written int, err error)
}

func newMemDisk() *memDisk {
	return &memDisk{files: map[string]*memFile{}, durable: map[string]bool{}}
}

var errInjected = errors.New("no space left on device (injected)")

func (d *memDisk) fault(op, name string) (int, error) {
	if d.fail == nil {
		return 0, nil
	}
	return d.fail(op, name)
}

func (d *memDisk) open(name string, create bool) (file, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, err := d.fault("open", name); err != nil {
		return nil, err
	}
	f, ok := d.files[name]
	if !ok {
		if !create {
			return nil, fs.ErrNotExist
		}
		f = &memFile{disk: d, name: name}
		d.files[name] = f
	}
	return f, nil
}

func (d *memDisk) syncDir() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, err := d.fault("syncdir", ""); err != nil {
		return err
	}
	for name := range d.files {
		d.durable[name] = true
	}
	return nil
}

func (d *memDisk) close() error { return nil }

// powerCut returns the disk as a machine finds it that starts again. choose
// returns a number from 0 to n-1.
func (d *memDisk) powerCut(choose func(n int) int) *memDisk {
	d.mu.Lock()
	defer d.mu.Unlock()
	after := newMemDisk()
	for _, name := range slices.Sorted(maps.Keys(d.files)) {
		f := d.files[name]
		if !d.durable[name] && choose(2) == 0 {
			continue
		}
		content := bytes.Clone(f.onDisk)
		kept := choose(4) // sometimes all later writes, sometimes none
		for _, op := range f.pending {
			switch {
			case kept == 0 || kept == 1 && choose(2) == 0:
			case op.truncate:
				content = resize(content, op.off)
			case kept == 1 && choose(3) == 0: // length without bytes
				content = writeAt(content, make([]byte, len(op.data)), op.off)
			case kept == 1 && choose(3) == 0: // torn
				content = writeAt(content, op.data[:choose(len(op.data)+1)], op.off)
			default:
				content = writeAt(content, op.data, op.off)
			}
		}
		after.files[name] = &memFile{disk: after, name: name, content: content, onDisk: bytes.Clone(content)}
		after.durable[name] = true
	}
	return after
}

type memOp struct {
	truncate bool
	off      int64
	data     []byte
}

type memFile struct {
	disk    *memDisk
	name    string
	content []byte
	onDisk  []byte
	pending []memOp
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if _, err := f.disk.fault("read", f.name); err != nil {
		return 0, err
	}
	if off >= int64(len(f.content)) {
		return 0, io.EOF
	}
	n := copy(p, f.content[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	n, err := f.disk.fault("write", f.name)
	if err == nil {
		n = len(p)
	}
	p = bytes.Clone(p[:min(n, len(p))])
	f.content = writeAt(f.content, p, off)
	f.pending = append(f.pending, memOp{off: off, data: p})
	return len(p), err
}

func (f *memFile) Truncate(size int64) error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if _, err := f.disk.fault("truncate", f.name); err != nil {
		return err
	}
	f.content = resize(f.content, size)
	f.pending = append(f.pending, memOp{truncate: true, off: size})
	return nil
}

func (f *memFile) Sync() error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if _, err := f.disk.fault("sync", f.name); err != nil {
		return err
	}
	f.onDisk, f.pending = bytes.Clone(f.content), nil
	return nil
}

func (f *memFile) Size() (int64, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	return int64(len(f.content)), nil
}

func (f *memFile) Close() error { return nil }

func resize(b []byte, size int64) []byte {
	if size <= int64(len(b)) {
		return b[:size:size]
	}
	return append(b, make([]byte, size-int64(len(b)))...)
}

func writeAt(b, p []byte, off int64) []byte {
	if len(p) == 0 {
		return b
	}
	if end := off + int64(len(p)); end > int64(len(b)) {
		b = resize(b, end)
	}
	copy(b[off:], p)
	return b
}
