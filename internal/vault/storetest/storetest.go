// Package storetest is the conformance test of vault.Store: every
// implementation runs it. It belongs to tests alone.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/zhenglian/zhenglian/internal/vault"
)

// Run checks a store that open makes, empty, for each test.
func Run(t *testing.T, open func(t *testing.T) vault.Store) {
	ctx := t.Context()
	put := func(s vault.Store, name, text string) error {
		return s.Put(ctx, name, func(w io.Writer) error {
			// Two writes, as a writer of chunks makes them.
			if _, err := io.WriteString(w, text[:len(text)/2]); err != nil {
				return err
			}
			_, err := io.WriteString(w, text[len(text)/2:])
			return err
		})
	}
	get := func(s vault.Store, name string, off, n int64) (string, error) {
		r, err := s.Range(ctx, name, off, n)
		if err != nil {
			return "", err
		}
		defer r.Close()
		b := make([]byte, n)
		_, err = io.ReadFull(r, b)
		if err == nil {
			if extra, _ := io.Copy(io.Discard, r); extra != 0 {
				return "", fmt.Errorf("%d bytes more than asked for", extra)
			}
		}
		return string(b), err
	}

	t.Run("put then range", func(t *testing.T) {
		s := open(t)
		if err := put(s, "data/a", "0123456789"); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			off, n int64
			want   string
		}{{0, 10, "0123456789"}, {3, 4, "3456"}, {9, 1, "9"}, {10, 0, ""}, {0, 0, ""}} {
			if got, err := get(s, "data/a", c.off, c.n); err != nil || got != c.want {
				t.Errorf("Range(%d, %d) = %q, %v, want %q", c.off, c.n, got, err, c.want)
			}
		}
		if n, err := s.Size(ctx, "data/a"); n != 10 || err != nil {
			t.Errorf("Size = %d, %v, want 10", n, err)
		}
	})
	t.Run("range past the end", func(t *testing.T) {
		s := open(t)
		if err := put(s, "data/a", "0123456789"); err != nil {
			t.Fatal(err)
		}
		for _, c := range [][2]int64{{0, 11}, {8, 3}, {11, 1}} {
			if _, err := get(s, "data/a", c[0], c[1]); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("Range(%d, %d): %v, want ErrUnexpectedEOF", c[0], c[1], err)
			}
		}
	})
	t.Run("missing", func(t *testing.T) {
		s := open(t)
		if _, err := s.Size(ctx, "data/a"); !errors.Is(err, vault.ErrNotExist) {
			t.Errorf("Size: %v, want ErrNotExist", err)
		}
		if _, err := get(s, "data/a", 0, 1); !errors.Is(err, vault.ErrNotExist) {
			t.Errorf("Range: %v, want ErrNotExist", err)
		}
		if err := s.Delete(ctx, "data/a"); err != nil {
			t.Errorf("Delete: %v, want nil", err)
		}
		if names, err := s.List(ctx, "data/"); len(names) != 0 || err != nil {
			t.Errorf("List = %v, %v, want none", names, err)
		}
	})
	t.Run("a blob is never replaced", func(t *testing.T) {
		s := open(t)
		if err := put(s, "data/a", "first"); err != nil {
			t.Fatal(err)
		}
		if err := put(s, "data/a", "other"); !errors.Is(err, vault.ErrExist) {
			t.Errorf("second Put: %v, want ErrExist", err)
		}
		if got, err := get(s, "data/a", 0, 5); got != "first" || err != nil {
			t.Errorf("blob is %q, %v, want the first", got, err)
		}
	})
	t.Run("one of many Puts wins", func(t *testing.T) {
		s := open(t)
		var won atomic.Int32
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				if err := put(s, "data/a", "same"); err == nil {
					won.Add(1)
				} else if !errors.Is(err, vault.ErrExist) {
					t.Errorf("Put: %v", err)
				}
			})
		}
		wg.Wait()
		if won.Load() != 1 {
			t.Errorf("%d Puts succeeded, want 1", won.Load())
		}
	})
	t.Run("a failed write leaves nothing", func(t *testing.T) {
		s := open(t)
		torn := errors.New("torn")
		err := s.Put(ctx, "data/a", func(w io.Writer) error {
			if _, err := w.Write(bytes.Repeat([]byte{1}, 1<<16)); err != nil {
				return err
			}
			if _, err := s.Size(ctx, "data/a"); !errors.Is(err, vault.ErrNotExist) {
				t.Errorf("blob is visible while it is written: %v", err)
			}
			return torn
		})
		if !errors.Is(err, torn) {
			t.Errorf("Put: %v, want the writer's error", err)
		}
		if names, err := s.List(ctx, "data/"); len(names) != 0 || err != nil {
			t.Errorf("List = %v, %v, want none", names, err)
		}
	})
	t.Run("an ended context leaves nothing", func(t *testing.T) {
		s := open(t)
		ctx, cancel := context.WithCancel(ctx)
		err := s.Put(ctx, "data/a", func(w io.Writer) error {
			cancel()
			_, err := w.Write([]byte{1})
			return err
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Put: %v, want context.Canceled", err)
		}
		if _, err := s.Size(t.Context(), "data/a"); !errors.Is(err, vault.ErrNotExist) {
			t.Errorf("Size: %v, want ErrNotExist", err)
		}
	})
	t.Run("list and delete", func(t *testing.T) {
		s := open(t)
		for _, n := range []string{"grants/b.2", "grants/a.1", "grants/a.2", "data/a"} {
			if err := put(s, n, "x"); err != nil {
				t.Fatal(err)
			}
		}
		check := func(prefix string, want ...string) {
			t.Helper()
			got, err := s.List(ctx, prefix)
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("List(%q) = %v, %v, want %v", prefix, got, err, want)
			}
		}
		check("grants/", "grants/a.1", "grants/a.2", "grants/b.2")
		check("grants/a.", "grants/a.1", "grants/a.2")
		check("grants/c")
		if err := s.Delete(ctx, "grants/a.1"); err != nil {
			t.Fatal(err)
		}
		check("grants/a.", "grants/a.2")
		if err := put(s, "grants/a.1", "again"); err != nil {
			t.Errorf("Put after Delete: %v", err)
		}
	})
}
