package capture

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/evidence/recording"
)

// batcher brings the events to the chain: one batch after the other, at each
// step and at least every Config.Every, in a goroutine of its own.
type batcher struct {
	s    *Session
	kick chan struct{}
	done chan struct{}
	end  context.CancelFunc

	turn sync.Mutex // one deposit at a time

	mu   sync.Mutex
	next int64 // first event that is in no signed batch
	err  error // of the last deposit
}

func startBatches(s *Session, next int64) *batcher {
	ctx, end := context.WithCancel(context.Background())
	b := &batcher{s: s, kick: make(chan struct{}, 1), done: make(chan struct{}), end: end, next: next}
	go func() {
		defer close(b.done)
		b.run(ctx)
	}()
	return b
}

func (b *batcher) run(ctx context.Context) {
	t := time.NewTicker(b.s.config.Every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		case <-b.kick:
		}
		if err := b.flush(ctx); err != nil {
			b.s.config.Logger.Warn("the batch of events is not on the chain yet", "err", err)
		}
	}
}

func (b *batcher) ask() {
	select {
	case b.kick <- struct{}{}:
	default: // one is asked for already, and will hold this step too
	}
}

// stop waits for the deposit under way. No batch is made afterwards but by flush.
func (b *batcher) stop() {
	b.end()
	<-b.done
}

func (b *batcher) progress() (int64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.next, b.err
}

// flush deposits a batch over what is in none, if there is any: the events of
// the phases before and during. Those of the phase after are covered by the
// summary's head.
func (b *batcher) flush(ctx context.Context) error {
	b.turn.Lock()
	defer b.turn.Unlock()
	first, _ := b.progress()
	batch, err := b.s.batchFrom(first)
	if err != nil || batch == nil {
		return err
	}
	signed, err := b.add(ctx, batch)
	if err != nil {
		err = fmt.Errorf("depositing the batch of events %d to %d: %w", batch.First, batch.Last, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if signed {
		b.next = batch.Last + 1
	}
	b.err = err
	return err
}

func (b *batcher) add(ctx context.Context, batch *recording.Batch) (bool, error) {
	n, err := b.s.config.Chain.Signed(ctx)
	if err != nil {
		return false, err
	}
	return b.s.deposit(ctx, n+1, intent{Step: recording.StepBatch, First: batch.First, Last: batch.Last},
		Step{Phase: evidence.PhaseDuring, Name: recording.StepBatch, Facts: batch.Facts()})
}

// batchFrom makes the batch of the events from first on; nil when there are
// none.
func (s *Session) batchFrom(first int64) (*recording.Batch, error) {
	s.mu.Lock()
	end := s.log.chain.Next
	if s.after >= 0 {
		end = s.after
	}
	if first >= end {
		s.mu.Unlock()
		return nil, nil
	}
	digests := s.log.digests[first:end] // only ever appended to
	s.mu.Unlock()
	t := recording.NewTree()
	for _, d := range digests {
		if err := t.Add(d); err != nil {
			return nil, fmt.Errorf("making a batch: %w", err)
		}
	}
	root, err := t.Root()
	if err != nil {
		return nil, fmt.Errorf("making a batch: %w", err)
	}
	return &recording.Batch{Session: s.config.Session, First: first, Last: end - 1, Root: root, Head: digests[len(digests)-1]}, nil
}

// errNotFinal says that a session was sealed on disk and is not on the chain.
var errNotFinal = errors.New("the recording is whole on disk, and not all of it is on the chain yet")
