package capture

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/evidence/recording"
)

// Left returns the sessions that lie in dir and were not ended, by folder.
func Left(dir string) (map[string]State, error) {
	found, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("looking for open sessions: %w", err)
	}
	out := map[string]State{}
	for _, f := range found {
		if !f.IsDir() {
			continue
		}
		folder := filepath.Join(dir, f.Name())
		st, err := readState(folder)
		if errors.Is(err, fs.ErrNotExist) {
			continue // killed before it began, or while it was removed
		}
		if err != nil {
			return nil, err
		}
		out[folder] = *st
	}
	return out, nil
}

func readState(dir string) (*State, error) {
	data, err := os.ReadFile(filepath.Join(dir, fileState))
	if err != nil {
		return nil, fmt.Errorf("reading the session's state: %w", err)
	}
	st := new(State)
	if err := json.Unmarshal(data, st); err != nil {
		return nil, fmt.Errorf("reading %s: %w", filepath.Join(dir, fileState), err)
	}
	return st, nil
}

// ErrNothing says that a killed session had not even its first event.
var ErrNothing = errors.New("the session had not begun: nothing was recorded")

// ErrBusy says that a process records in this folder, or seals it.
var ErrBusy = errors.New("another process has this session open")

// Resume takes up a session that was not ended, so that Seal can end it: nothing
// else is recorded in it. Of the configuration only Dir, Chain, Now, Deposit and
// Logger count. ErrNothing when its log holds no event, ErrBusy when it is not over.
func Resume(ctx context.Context, c Config) (*Session, error) {
	c.fill()
	st, err := readState(c.Dir)
	if err != nil {
		return nil, err
	}
	private, err := x509.ParsePKCS8PrivateKey(st.Key)
	key, ok := private.(*ecdsa.PrivateKey)
	if err != nil || !ok {
		return nil, fmt.Errorf("reading the archive's key of %s: it is damaged", c.Dir)
	}
	c.Session, c.Trail, c.Recorder, c.Software, c.Title, c.Note = st.Session, st.Trail, st.Recorder, st.Software, st.Title, st.Note
	s := newSession(c, *st, key)
	if s.lock, err = lockFolder(c.Dir); err != nil {
		return nil, err
	}
	if s.log, err = openLog(c.Dir); err != nil {
		err = errors.Join(err, s.Close())
		var bad *recording.EventError
		if errors.Is(err, fs.ErrNotExist) || errors.As(err, &bad) && bad.Code == "empty" {
			return nil, fmt.Errorf("%s: %w", c.Dir, ErrNothing)
		}
		return nil, err
	}
	if s.log.chain.Session != st.Session {
		return nil, errors.Join(fmt.Errorf("%s holds the log of another session", c.Dir), s.Close())
	}
	if s.blobs, err = openBlobs(c.Dir); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	s.phase, s.offset = s.log.chain.Phase, s.log.chain.Mono
	err = s.log.read(func(e *recording.Logged) error {
		if e.Phase == evidence.PhaseAfter && s.after < 0 {
			s.after = e.Seq
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	signed, err := c.Chain.Signed(ctx)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	all, err := intents(c.Dir)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	next := int64(0)
	for _, i := range signedOf(all, signed) {
		if i.Step == recording.StepBatch {
			next = max(next, i.Last+1)
		}
	}
	s.batch = startBatches(s, next)
	s.batch.stop() // Seal makes the batches that are missing
	return s, nil
}

func sortedKeys[V any](m map[int64]V) []int64 { return slices.Sorted(maps.Keys(m)) }
