package capturetest

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/capture"
)

// ErrDown is the error of a chain that is not reached.
var ErrDown = errors.New("no institution answers")

// Chain keeps steps in memory.
type Chain struct {
	mu    sync.Mutex
	Steps []Deposited
	// Down makes every deposit fail before it is signed; Late makes it fail after.
	Down, Late bool
	// Busy is raised when two deposits overlap, which must not happen.
	Busy bool
	busy bool
	// Hook, which may be nil, is called in each deposit before it is signed.
	Hook func(capture.Step)
}

// Deposited is a step with its files read.
type Deposited struct {
	capture.Step
	Digests map[string]evidence.Digest
	Content map[string][]byte
}

// Add implements capture.Chain.
func (c *Chain) Add(_ context.Context, s capture.Step) (bool, error) {
	c.mu.Lock()
	if c.busy {
		c.Busy = true
	}
	c.busy = true
	hook := c.Hook
	c.mu.Unlock()
	if hook != nil {
		hook(s)
	}
	d := Deposited{s, map[string]evidence.Digest{}, map[string][]byte{}}
	var failed error
	for _, f := range s.Files {
		r, err := f.Open()
		if err != nil {
			failed = err
			break
		}
		data, err := io.ReadAll(r)
		if failed = errors.Join(err, r.Close()); failed != nil {
			break
		}
		d.Digests[f.Name], d.Content[f.Name] = evidence.SumSHA256(data), data
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.busy = false
	switch {
	case failed != nil:
		return false, failed
	case c.Down:
		return false, ErrDown
	}
	c.Steps = append(c.Steps, d)
	if c.Late {
		return true, ErrDown
	}
	return true, nil
}

// Set changes what the chain does.
func (c *Chain) Set(down, late bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.Down, c.Late = down, late
}

// Signed implements capture.Chain.
func (c *Chain) Signed(context.Context) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.Steps), nil
}

// Flush implements capture.Chain.
func (c *Chain) Flush(context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.Down || c.Late {
		return ErrDown
	}
	return nil
}

// All returns the steps so far.
func (c *Chain) All() []Deposited {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]Deposited(nil), c.Steps...)
}
