package chain

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// mark is a number that only grows and that many can wait on.
type mark struct {
	s *markState
}

type markState struct {
	mu  sync.Mutex
	n   uint64
	chg chan struct{}
}

func newMark() mark { return mark{&markState{chg: make(chan struct{})}} }

func (m mark) load() uint64 {
	m.s.mu.Lock()
	defer m.s.mu.Unlock()
	return m.s.n
}

// raise sets the mark to n if that is more, and wakes those who wait.
func (m mark) raise(n uint64) {
	m.s.mu.Lock()
	defer m.s.mu.Unlock()
	if n > m.s.n {
		m.s.n = n
		close(m.s.chg)
		m.s.chg = make(chan struct{})
	}
}

// changed returns a channel that is closed at the next raise.
func (m mark) changed() <-chan struct{} {
	m.s.mu.Lock()
	defer m.s.mu.Unlock()
	return m.s.chg
}

// wait returns when the mark is at least n.
func (m mark) wait(ctx context.Context, n uint64, stop <-chan struct{}) error {
	for {
		m.s.mu.Lock()
		if m.s.n >= n {
			m.s.mu.Unlock()
			return nil
		}
		chg := m.s.chg
		m.s.mu.Unlock()
		select {
		case <-chg:
		case <-ctx.Done():
			return ctx.Err()
		case <-stop:
			return ErrStopping
		}
	}
}

// disk watches the room on the data directory's file system. Below the reserve
// nothing new is accepted, neither from clients nor from peers, so that what
// is under way (consensus, the index) can finish and go on being served.
type disk struct {
	dir     string
	reserve uint64
	log     *slog.Logger
	full    atomic.Bool
	free    atomic.Uint64
}

func (d *disk) check() {
	var st syscall.Statfs_t
	if err := syscall.Statfs(d.dir, &st); err != nil {
		d.log.Error("cannot tell the room on the disk", "dir", d.dir, "error", err)
		return
	}
	free := st.Bavail * uint64(st.Bsize)
	d.free.Store(free)
	if full := free < d.reserve; full != d.full.Load() {
		d.full.Store(full)
		if full {
			d.log.Error("the disk is full: new deposits are refused until there is room", "dir", d.dir, "free", free, "reserve", d.reserve)
		} else {
			d.log.Info("there is room on the disk again", "dir", d.dir, "free", free)
		}
	}
}

// run looks at the disk often enough that the reserve cannot be used up in
// between: 200 ms of the fastest intake are a few megabytes.
func (d *disk) run(ctx context.Context) error {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			d.check()
		}
	}
}

func isNoSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
