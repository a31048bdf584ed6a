package member

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/signing"
)

// The journal, one folder a trail. Every file is written whole and durably, once:
//
//	journal/<trail>/000001.after      cosigned checkpoint that the statement names
//	journal/<trail>/000001.cose       the signed statement; from here on it exists
//	journal/<trail>/000001.final      where it stands, once that is proven
//	journal/<trail>/000001.refused    why the rules of the chain refuse it
//	journal/<trail>.lock              held while a step is added
//	journal/last                      the trail that was added to last
//
// Numbers count this home's steps, not the trail's: others may add some.
//
// A power cut before .cose: nothing was signed that anybody has. After it and
// before .final: the same bytes are sent again, and the log gives them the one
// place that they have. journal/last may be lost: it is a convenience.
type journal struct{ dir string }

// Entry is one signed statement of the journal.
type Entry struct {
	Trail     evidence.Digest
	N         int // from 1, among this home's steps of the trail
	Statement *evidence.Statement
	After     []byte   // cosigned checkpoint that the statement names; nil at size 0
	Place     *Place   // nil until it is proven to be final
	Refused   *Refusal // set when the rules of the chain refuse it for good
}

// Pending reports whether the statement may still have to be sent.
func (e *Entry) Pending() bool { return e.Place == nil && e.Refused == nil }

// Place is where a statement stands.
type Place struct {
	Position uint64 `json:"position"`
	TreeSize uint64 `json:"tree_size"`
	Time     string `json:"time"` // block time by which a quorum had it, RFC 3339 in UTC
}

// Refusal is why the rules refuse a statement.
type Refusal struct {
	Code   string `json:"code"`
	Reason string `json:"reason"`
}

const (
	suffixStatement = ".cose"
	suffixAfter     = ".after"
	suffixFinal     = ".final"
	suffixRefused   = ".refused"
)

func (j *journal) folder(trail evidence.Digest) string { return filepath.Join(j.dir, trail.String()) }

func (j *journal) file(trail evidence.Digest, n int, suffix string) string {
	return filepath.Join(j.folder(trail), fmt.Sprintf("%06d%s", n, suffix))
}

// trails returns the trails that the journal has statements of.
func (j *journal) trails() ([]evidence.Digest, error) {
	found, err := os.ReadDir(j.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading the journal: %w", err)
	}
	var all []evidence.Digest
	for _, f := range found {
		if d, err := evidence.ParseDigest(f.Name()); err == nil && f.IsDir() {
			all = append(all, d)
		}
	}
	return all, nil
}

// entries returns this home's statements of a trail, in order; none when there
// are none.
func (j *journal) entries(trail evidence.Digest) ([]Entry, error) {
	found, err := os.ReadDir(j.folder(trail))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the journal: %w", err)
	}
	var all []Entry
	for _, f := range found { // sorted by name, so by number
		num, ok := strings.CutSuffix(f.Name(), suffixStatement)
		n, err := strconv.Atoi(num)
		if !ok || err != nil {
			continue
		}
		e, err := j.entry(trail, n)
		if err != nil {
			return nil, err
		}
		all = append(all, *e)
	}
	return all, nil
}

func (j *journal) entry(trail evidence.Digest, n int) (*Entry, error) {
	path := j.file(trail, n, suffixStatement)
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the journal: %w", err)
	}
	e := &Entry{Trail: trail, N: n}
	if e.Statement, err = evidence.ParseStatement(data); err != nil {
		return nil, &DamagedError{path, err}
	}
	if name, ok := e.Statement.Trail(); !ok || name != trail {
		return nil, &DamagedError{path, errors.New("the statement is of another trail")}
	}
	if e.After, err = os.ReadFile(j.file(trail, n, suffixAfter)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading the journal: %w", err)
	}
	var place Place
	if ok, err := readNote(j.file(trail, n, suffixFinal), &place); err != nil {
		return nil, err
	} else if ok {
		e.Place = &place
	}
	var refused Refusal
	if ok, err := readNote(j.file(trail, n, suffixRefused), &refused); err != nil {
		return nil, err
	} else if ok {
		e.Refused = &refused
	}
	return e, nil
}

// readNote reads a small JSON file; ok is false when there is none.
func readNote(path string, into any) (ok bool, err error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("reading the journal: %w", err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		return false, &DamagedError{path, err}
	}
	return true, nil
}

// add writes a signed statement, which may be sent once add has returned.
func (j *journal) add(s *evidence.Statement, after []byte) (*Entry, error) {
	trail, ok := s.Trail()
	if !ok {
		return nil, errors.New("writing the journal: the statement belongs to no trail")
	}
	if err := os.MkdirAll(j.folder(trail), 0o700); err != nil {
		return nil, fmt.Errorf("writing the journal: %w", err)
	}
	if err := syncDir(j.dir); err != nil {
		return nil, err
	}
	n := 1
	for {
		if _, err := os.Lstat(j.file(trail, n, suffixStatement)); errors.Is(err, fs.ErrNotExist) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("writing the journal: %w", err)
		}
		n++
	}
	if after != nil {
		// One that an interrupted run left is of no statement: it goes.
		if err := os.Remove(j.file(trail, n, suffixAfter)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("writing the journal: %w", err)
		}
		if err := signing.CreateFile(j.file(trail, n, suffixAfter), after, 0o600); err != nil {
			return nil, fmt.Errorf("writing the journal: %w", err)
		}
	}
	if err := signing.CreateFile(j.file(trail, n, suffixStatement), s.Bytes(), 0o600); err != nil {
		return nil, fmt.Errorf("writing the journal: %w", err)
	}
	return &Entry{Trail: trail, N: n, Statement: s, After: after}, nil
}

// settle writes where a statement stands.
func (j *journal) settle(e *Entry, p Place) error {
	e.Place = &p
	return j.note(e, suffixFinal, p)
}

// refuse writes that the rules refuse a statement.
func (j *journal) refuse(e *Entry, r Refusal) error {
	e.Refused = &r
	return j.note(e, suffixRefused, r)
}

func (j *journal) note(e *Entry, suffix string, v any) error {
	data, err := json.Marshal(v)
	if err == nil {
		err = signing.CreateFile(j.file(e.Trail, e.N, suffix), append(data, '\n'), 0o600)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) { // another run was here: it says the same
		return fmt.Errorf("writing the journal: %w", err)
	}
	return nil
}

// last returns the trail that was added to last; ok is false when none was.
func (j *journal) last() (trail evidence.Digest, ok bool, err error) {
	data, err := os.ReadFile(filepath.Join(j.dir, "last"))
	if errors.Is(err, fs.ErrNotExist) {
		return trail, false, nil
	}
	if err != nil {
		return trail, false, fmt.Errorf("reading the journal: %w", err)
	}
	trail, err = evidence.ParseDigest(strings.TrimSpace(string(data)))
	if err != nil {
		return trail, false, &DamagedError{filepath.Join(j.dir, "last"), err}
	}
	return trail, true, nil
}

func (j *journal) setLast(trail evidence.Digest) error {
	f, err := os.CreateTemp(j.dir, "last-*")
	if err != nil {
		return fmt.Errorf("writing the journal: %w", err)
	}
	_, err = f.WriteString(trail.String() + "\n")
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), filepath.Join(j.dir, "last"))
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("writing the journal: %w", err)
	}
	return nil
}

// lockEvery is how often a lock that another process holds is tried.
const lockEvery = 50 * time.Millisecond

// lock waits until no other process adds to the trail. waiting, which may be
// nil, is called once when it has to wait.
func (j *journal) lock(ctx context.Context, trail evidence.Digest, waiting func()) (unlock func(), err error) {
	return lockFile(ctx, j.folder(trail)+".lock", false, waiting)
}

func lockFile(ctx context.Context, path string, shared bool, waiting func()) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking: %w", err)
	}
	for {
		ok, err := tryLock(f, shared)
		if err != nil {
			_ = f.Close()
			return nil, err
		}
		if ok {
			return func() { _ = f.Close() }, nil // the file stays: removing it would race
		}
		if waiting != nil {
			waiting()
			waiting = nil
		}
		t := time.NewTimer(lockEvery)
		select {
		case <-ctx.Done():
			t.Stop()
			_ = f.Close()
			return nil, ctx.Err()
		case <-t.C:
		}
	}
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("writing the journal: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return fmt.Errorf("writing the journal: %w", err)
	}
	return nil
}

// DamagedError says which file of the journal cannot be read.
type DamagedError struct {
	Path string
	Err  error
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("%s in the journal is damaged: %v", e.Path, e.Err)
}

// Unwrap returns what the file is.
func (e *DamagedError) Unwrap() error { return e.Err }

// pendingOf returns the entries that may still have to be sent.
func pendingOf(all []Entry) []Entry {
	return slices.DeleteFunc(slices.Clone(all), func(e Entry) bool { return !e.Pending() })
}
