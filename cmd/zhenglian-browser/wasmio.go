//go:build js && wasm

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"syscall/js"

	"github.com/zhenglian/zhenglian/internal/vault"
)

const (
	// window is how much is asked of the page at once: one call for each small
	// read would cost more than the reading.
	window = 1 << 20
	// piece is how much ciphertext goes out at once, small enough to be sent
	// again over a phone's connection.
	piece = 4 << 20
)

// letGoEvery is how many bytes pass to or from the page between two collections
// of garbage.
const letGoEvery = 8 << 20

// passage counts bytes that go to and come from the page in arrays of its own.
// Go keeps such an array until it collects garbage, which its own small heap
// gives it no reason to do: without this, a video would be held in memory by the
// arrays it went through.
type passage int

func (p *passage) passed(n int) {
	if *p += passage(n); *p >= letGoEvery {
		*p = 0
		runtime.GC()
	}
}

// thrownError is what a promise was rejected with.
type thrownError struct{ reason js.Value }

func (e *thrownError) Error() string {
	if e.reason.Type() == js.TypeObject && e.reason.Get("message").Type() == js.TypeString {
		return e.reason.Get("message").String()
	}
	if e.reason.Type() == js.TypeString {
		return e.reason.String()
	}
	return "the page gave no reason"
}

// await waits for a promise, and takes a value that is none as it is.
func await(v js.Value) (js.Value, error) {
	if v.Type() != js.TypeObject || v.Get("then").Type() != js.TypeFunction {
		return v, nil
	}
	type outcome struct {
		value js.Value
		err   error
	}
	done := make(chan outcome, 1)
	settle := func(fail bool) js.Func {
		return js.FuncOf(func(_ js.Value, args []js.Value) any {
			v := js.Undefined()
			if len(args) > 0 {
				v = args[0]
			}
			if fail {
				done <- outcome{err: &thrownError{v}}
			} else {
				done <- outcome{value: v}
			}
			return nil
		})
	}
	resolved, rejected := settle(false), settle(true)
	defer resolved.Release()
	defer rejected.Release()
	v.Call("then", resolved, rejected)
	o := <-done
	return o.value, o.err
}

// pageReader reads a file of the page from its start.
type pageReader struct {
	source js.Value
	size   int64
	at     int64
	buf    []byte // a window
	rest   []byte // of buf, not yet read
	way    passage
}

func (r *pageReader) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		if r.at >= r.size {
			return 0, io.EOF
		}
		n := min(window, r.size-r.at)
		data, err := await(r.source.Call("read", float64(r.at), float64(n)))
		if err != nil {
			return 0, fmt.Errorf("reading %d bytes at %d: %w", n, r.at, err)
		}
		if data.Type() != js.TypeObject || !data.InstanceOf(js.Global().Get("Uint8Array")) || int64(data.Length()) != n {
			return 0, fmt.Errorf("reading %d bytes at %d: the file gave another number: it changed while it was read", n, r.at)
		}
		if r.buf == nil {
			r.buf = make([]byte, min(window, r.size))
		}
		r.rest = r.buf[:n]
		js.CopyBytesToGo(r.rest, data)
		r.at += n
		r.way.passed(int(n))
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

type writerFunc func([]byte) error

func (f writerFunc) Write(b []byte) (int, error) {
	if err := f(b); err != nil {
		return 0, err
	}
	return len(b), nil
}

// pageStore is a vault's store behind functions of the page. It is not trusted,
// as no store is.
type pageStore struct{ functions js.Value }

func storeOf(o js.Value) (vault.Store, error) {
	s := o.Get("store")
	if s.Type() != js.TypeObject {
		return nil, inputError("store is an object")
	}
	for _, name := range []string{"size", "range", "list", "begin"} {
		if s.Get(name).Type() != js.TypeFunction {
			return nil, inputError("store.%s is a function", name)
		}
	}
	return &pageStore{s}, nil
}

// Put implements vault.Store: what write gives goes out in pieces, so that no
// more than one is held.
func (s *pageStore) Put(ctx context.Context, name string, write func(w io.Writer) error) error {
	upload, err := await(s.functions.Call("begin", name))
	if err != nil {
		return fmt.Errorf("beginning the upload: %w", err)
	}
	if upload.Type() != js.TypeObject {
		return fmt.Errorf("%s: %w", name, vault.ErrExist)
	}
	buf := make([]byte, 0, 64<<10)
	var way passage
	send := func() error {
		if len(buf) == 0 {
			return nil
		}
		_, err := await(upload.Call("write", jsBytes(buf)))
		way.passed(len(buf))
		buf = buf[:0]
		if err != nil {
			return fmt.Errorf("uploading: %w", err)
		}
		return nil
	}
	err = write(writerFunc(func(b []byte) error {
		for len(b) > 0 {
			n := min(piece-len(buf), len(b))
			buf = append(buf, b[:n]...)
			b = b[n:]
			if len(buf) == piece {
				if err := send(); err != nil {
					return err
				}
			}
		}
		return ctx.Err()
	}))
	if err == nil {
		err = send()
	}
	if err != nil {
		_, abortErr := await(upload.Call("abort"))
		return errors.Join(err, abortErr)
	}
	first, err := await(upload.Call("finish"))
	if err != nil {
		return fmt.Errorf("ending the upload: %w", err)
	}
	if !first.Truthy() {
		return fmt.Errorf("%s: %w", name, vault.ErrExist)
	}
	return nil
}

// Range implements vault.Store.
func (s *pageStore) Range(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	size, err := s.Size(ctx, name)
	if err != nil {
		return nil, err
	}
	if offset < 0 || length < 0 || offset > size || length > size-offset {
		return nil, fmt.Errorf("%s has %d bytes: %w", name, size, io.ErrUnexpectedEOF)
	}
	return io.NopCloser(&rangeReader{s: s, name: name, at: offset, end: offset + length}), nil
}

// rangeReader fetches a range in windows.
type rangeReader struct {
	s       *pageStore
	name    string
	at, end int64
	rest    []byte
	way     passage
}

func (r *rangeReader) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		if r.at >= r.end {
			return 0, io.EOF
		}
		n := min(piece, r.end-r.at)
		data, err := await(r.s.functions.Call("range", r.name, float64(r.at), float64(n)))
		if err != nil {
			return 0, fmt.Errorf("fetching %s: %w", r.name, err)
		}
		if r.rest, err = bytesOf(data); err != nil {
			return 0, err
		}
		if int64(len(r.rest)) != n {
			return 0, fmt.Errorf("fetching %s: %w", r.name, io.ErrUnexpectedEOF)
		}
		r.at += n
		r.way.passed(int(n))
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// Size implements vault.Store.
func (s *pageStore) Size(_ context.Context, name string) (int64, error) {
	v, err := await(s.functions.Call("size", name))
	if err != nil {
		return 0, fmt.Errorf("asking for %s: %w", name, err)
	}
	if v.Type() != js.TypeNumber {
		return 0, fmt.Errorf("asking for %s: the page gave no number", name)
	}
	if v.Float() < 0 {
		return 0, fmt.Errorf("%s: %w", name, vault.ErrNotExist)
	}
	return int64(v.Float()), nil
}

// List implements vault.Store.
func (s *pageStore) List(_ context.Context, prefix string) ([]string, error) {
	v, err := await(s.functions.Call("list", prefix))
	if err != nil {
		return nil, fmt.Errorf("listing %s: %w", prefix, err)
	}
	names, err := textsOf(v)
	for _, n := range names {
		if !strings.HasPrefix(n, prefix) {
			return nil, fmt.Errorf("listing %s: the page gave %q", prefix, n)
		}
	}
	return names, err
}

// Delete implements vault.Store. The portal keeps what it has: a second copy
// of the same content, uploaded at the same moment, stays there unread.
func (s *pageStore) Delete(_ context.Context, name string) error {
	if strings.HasPrefix(name, "data/") {
		return nil
	}
	return fmt.Errorf("%s cannot be removed from here", name)
}

// pageFile is the file that a package is written into: small writes are
// gathered, and going back flushes them.
type pageFile struct {
	write    js.Value
	progress func(int64)
	at       int64  // of the next byte
	size     int64  // of the file
	buf      []byte // ends at at
	way      passage
}

func (f *pageFile) flush() error {
	if len(f.buf) == 0 {
		return nil
	}
	_, err := await(f.write.Invoke(float64(f.at-int64(len(f.buf))), jsBytes(f.buf)))
	f.way.passed(len(f.buf))
	f.buf = f.buf[:0]
	if f.progress != nil {
		f.progress(f.size)
	}
	return err
}

func (f *pageFile) Write(b []byte) (int, error) {
	if len(f.buf)+len(b) > window {
		if err := f.flush(); err != nil {
			return 0, err
		}
	}
	f.buf = append(f.buf, b...)
	f.at += int64(len(b))
	f.size = max(f.size, f.at)
	return len(b), nil
}

func (f *pageFile) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += f.at
	case io.SeekEnd:
		offset += f.size
	}
	if offset < 0 || offset > f.size {
		return f.at, fmt.Errorf("seeking to %d in a file of %d bytes", offset, f.size)
	}
	if offset != f.at {
		if err := f.flush(); err != nil {
			return f.at, err
		}
		f.at = offset
	}
	return f.at, nil
}
