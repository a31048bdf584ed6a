package vault

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
)

// Dir is a Store in a local directory. Not trusted: whoever alters it can only
// make a fetch fail.
//
// A Put writes tmp/<random>, syncs it, links it to its name (a link, because a
// rename would replace a blob another process wrote meanwhile), syncs the
// folder and drops the temporary name. A power cut before the link leaves only
// a file in tmp; between link and folder sync the caller has no answer yet, so
// either outcome is right; after it the blob stays.
type Dir struct{ root *os.Root }

// Folders of a vault. The heads' folder is what makes an object visible.
const (
	folderData  = "data/"
	folderHead  = "objects/"
	folderGrant = "grants/"
	folderTemp  = "tmp/"
)

// OpenDir opens the directory, making it and its folders when missing. The
// filesystem must know hard links. Close it after use.
func OpenDir(name string) (*Dir, error) {
	if err := os.MkdirAll(name, 0o700); err != nil {
		return nil, fmt.Errorf("making vault directory: %w", err)
	}
	root, err := os.OpenRoot(name)
	if err != nil {
		return nil, fmt.Errorf("opening vault directory: %w", err)
	}
	d := &Dir{root}
	for _, f := range []string{folderData, folderHead, folderGrant, folderTemp} {
		if err := root.Mkdir(strings.TrimSuffix(f, "/"), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			root.Close()
			return nil, fmt.Errorf("making vault folder: %w", err)
		}
	}
	if err := d.syncFolder("."); err != nil {
		root.Close()
		return nil, err
	}
	return d, nil
}

// Close releases the directory; blobs stay.
func (d *Dir) Close() error { return d.root.Close() }

// ctxWriter ends a long write when its context ends.
type ctxWriter struct {
	ctx context.Context
	w   io.Writer
}

func (c ctxWriter) Write(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.w.Write(p)
}

func (d *Dir) Put(ctx context.Context, name string, write func(w io.Writer) error) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	tmp := folderTemp + rand.Text()
	f, err := d.root.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("creating temporary file: %w", err)
	}
	// A leftover in tmp is harmless (RemoveTemporary drops it), so a failing
	// removal never turns a durable Put into an error.
	defer func() { _ = d.root.Remove(tmp) }()
	if err := write(ctxWriter{ctx, f}); err != nil {
		f.Close()
		return err
	}
	if err := f.Sync(); err != nil {
		f.Close()
		return fmt.Errorf("syncing %s: %w", name, err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("closing %s: %w", name, err)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := d.root.Link(tmp, name); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("%s: %w", name, ErrExist)
		}
		return fmt.Errorf("naming %s: %w", name, err)
	}
	if err := d.syncFolder(path.Dir(name)); err != nil {
		_ = d.root.Remove(name) // not known to be durable, so not to be seen
		return err
	}
	return nil
}

func (d *Dir) Range(_ context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	f, err := d.root.Open(name)
	if err != nil {
		return nil, notExist(name, err)
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	if offset < 0 || length < 0 || offset > info.Size() || length > info.Size()-offset {
		f.Close()
		return nil, fmt.Errorf("%s has %d bytes: %w", name, info.Size(), io.ErrUnexpectedEOF)
	}
	return struct {
		io.Reader
		io.Closer
	}{io.NewSectionReader(f, offset, length), f}, nil
}

func (d *Dir) Size(_ context.Context, name string) (int64, error) {
	info, err := d.root.Lstat(name)
	if err != nil {
		return 0, notExist(name, err)
	}
	return info.Size(), nil
}

func (d *Dir) List(_ context.Context, prefix string) ([]string, error) {
	folder, start := path.Split(prefix)
	f, err := d.root.Open(strings.TrimSuffix(folder, "/"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("listing %s: %w", folder, err)
	}
	defer f.Close()
	entries, err := f.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("listing %s: %w", folder, err)
	}
	var names []string
	for _, e := range entries {
		if strings.HasPrefix(e, start) {
			names = append(names, folder+e)
		}
	}
	slices.Sort(names)
	return names, nil
}

func (d *Dir) Delete(_ context.Context, name string) error {
	if err := d.root.Remove(name); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("deleting %s: %w", name, err)
	}
	return d.syncFolder(path.Dir(name))
}

// RemoveTemporary drops what interrupted Puts left. No Put may be running, in
// this or another process.
func (d *Dir) RemoveTemporary(ctx context.Context) error {
	names, err := d.List(ctx, folderTemp)
	for _, n := range names {
		err = errors.Join(err, d.Delete(ctx, n))
	}
	return err
}

func (d *Dir) syncFolder(name string) error {
	f, err := d.root.Open(name)
	if err != nil {
		return fmt.Errorf("opening folder %s to sync it: %w", name, err)
	}
	err = f.Sync()
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("syncing folder %s: %w", name, err)
	}
	return nil
}

func notExist(name string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w", name, ErrNotExist)
	}
	return err
}
