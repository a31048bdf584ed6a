package vault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
)

// ErrNotExist and ErrExist are what a Store answers, wrapped or bare.
var (
	ErrNotExist = errors.New("no such blob")
	ErrExist    = errors.New("blob exists already")
)

// Store keeps named blobs that never change once written. Names are
// "folder/name" of lower-case letters, digits and dots. It is not trusted:
// whoever alters it can only make a fetch fail. Package storetest holds the
// conformance test that every implementation runs. Methods may be called from
// several goroutines.
type Store interface {
	// Put calls write once with a writer and makes all it wrote visible under
	// name in one atomic step, durable (file and folder) when Put returns.
	// When write fails, or ctx ends, nothing becomes visible and that error is
	// returned. ErrExist when the name is taken: the blob there is untouched.
	Put(ctx context.Context, name string, write func(w io.Writer) error) error
	// Range reads length bytes from offset. A blob too short for that gives
	// io.ErrUnexpectedEOF from Range or from the reader. ErrNotExist.
	Range(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error)
	// Size returns the blob's bytes. ErrNotExist is how to ask for existence.
	Size(ctx context.Context, name string) (int64, error)
	// List returns, sorted, the names that start with prefix, which holds
	// at least the folder and its slash.
	List(ctx context.Context, prefix string) ([]string, error)
	// Delete removes a blob durably; one that is not there is no error.
	Delete(ctx context.Context, name string) error
}

// readBlob reads a whole small blob; more than limit bytes is an error.
func readBlob(ctx context.Context, s Store, name string, limit int64) ([]byte, error) {
	size, err := s.Size(ctx, name)
	if err != nil {
		return nil, err
	}
	if size > limit {
		return nil, fmt.Errorf("%w: %s has %d bytes, at most %d are allowed", errFormat, name, size, limit)
	}
	r, err := s.Range(ctx, name, 0, size)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b := make([]byte, size)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, err
	}
	return b, nil
}

// Memory is a Store in memory, for tests. The zero value is ready.
type Memory struct {
	mu    sync.Mutex
	blobs map[string][]byte
}

func (m *Memory) Put(ctx context.Context, name string, write func(w io.Writer) error) error {
	var b bytes.Buffer
	if err := write(&b); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.blobs[name]; ok {
		return fmt.Errorf("%s: %w", name, ErrExist)
	}
	if m.blobs == nil {
		m.blobs = make(map[string][]byte)
	}
	m.blobs[name] = b.Bytes()
	return nil
}

func (m *Memory) get(name string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, ok := m.blobs[name]
	if !ok {
		return nil, fmt.Errorf("%s: %w", name, ErrNotExist)
	}
	return b, nil
}

func (m *Memory) Range(_ context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	b, err := m.get(name)
	if err != nil {
		return nil, err
	}
	if offset < 0 || length < 0 || offset > int64(len(b)) || length > int64(len(b))-offset {
		return nil, fmt.Errorf("%s has %d bytes: %w", name, len(b), io.ErrUnexpectedEOF)
	}
	return io.NopCloser(bytes.NewReader(b[offset : offset+length])), nil
}

func (m *Memory) Size(_ context.Context, name string) (int64, error) {
	b, err := m.get(name)
	return int64(len(b)), err
}

func (m *Memory) List(_ context.Context, prefix string) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	names := slices.Sorted(maps.Keys(m.blobs))
	return slices.DeleteFunc(names, func(n string) bool { return !strings.HasPrefix(n, prefix) }), nil
}

func (m *Memory) Delete(_ context.Context, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.blobs, name)
	return nil
}
