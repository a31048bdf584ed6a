package custody

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/zhenglian/zhenglian/client"
	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/store"
)

const (
	// atOnce is how many trails are submitted at once: one statement takes about
	// as long as a block, most of it waiting.
	atOnce = 16
	// placePoll is how often the place of a submitted statement is asked for.
	placePoll = 100 * time.Millisecond
	// placeWait is how long, before waiting for finality alone.
	placeWait = 5 * time.Second
	// stampWait is how long a token is waited for; they come within a second.
	stampWait = 15 * time.Second
	// sweepEvery is how often unfinished uploads are looked at.
	sweepEvery = time.Hour
)

// Run submits what waits, one trail after its own order, until ctx ends; then it
// waits for its workers and returns nil. What an interrupted run left is
// submitted first.
func (c *Custody) Run(ctx context.Context) error {
	var workers sync.WaitGroup
	defer workers.Wait()
	var mu sync.Mutex
	busy := map[string]bool{}
	slots := make(chan struct{}, atOnce)
	retry := time.NewTicker(c.config.Retry)
	defer retry.Stop()
	sweep := time.NewTicker(sweepEvery)
	defer sweep.Stop()
	for {
		trails, err := c.waiting(ctx)
		if err != nil && ctx.Err() == nil {
			c.config.Logger.Error("looking for statements to submit", "error", err)
		}
		for _, trail := range trails {
			mu.Lock()
			taken := busy[trail]
			busy[trail] = true
			mu.Unlock()
			if taken {
				continue
			}
			workers.Go(func() {
				defer func() {
					mu.Lock()
					delete(busy, trail)
					mu.Unlock()
				}()
				select {
				case slots <- struct{}{}:
					defer func() { <-slots }()
				case <-ctx.Done():
					return
				}
				if err := c.submitTrail(ctx, trail); err != nil && ctx.Err() == nil {
					c.config.Logger.Warn("submitting a trail; trying again", "trail", trail, "error", err)
				}
			})
		}
		select {
		case <-ctx.Done():
			return nil
		case <-c.wake:
		case <-retry.C:
		case <-sweep.C:
			if n, err := c.blobs.sweep(c.config.Now().Add(-staleAfter)); err != nil {
				c.config.Logger.Error("dropping unfinished uploads", "error", err)
			} else if n > 0 {
				c.config.Logger.Info("dropped unfinished uploads", "count", n)
			}
		}
	}
}

func (c *Custody) waiting(ctx context.Context) ([]string, error) {
	return store.Collect[string](c.config.DB.Query(ctx, `SELECT DISTINCT trail FROM custody_statements WHERE state IN ('received', 'chained')`))(
		func(r *store.Rows) (trail string, err error) { err = r.Scan(&trail); return trail, err })
}

// submitTrail sees a trail's waiting statements through, in order: one is sent
// only when the one before it has a place, since after a refused one it would
// stand in the log without what it names.
func (c *Custody) submitTrail(ctx context.Context, trail string) error {
	for {
		rows, err := c.query(ctx, `WHERE trail = $1 AND state IN ('received', 'chained') ORDER BY seq LIMIT 1`, trail)
		if err != nil || len(rows) == 0 {
			return err
		}
		d := &rows[0]
		if d.Statement.Prev != (evidence.Digest{}) {
			before, err := c.query(ctx, `WHERE digest = $1 AND state = 'refused'`, d.Statement.Prev.String())
			if err != nil {
				return err
			}
			if len(before) > 0 {
				if err := c.refused(ctx, d, RefusePrevious, "the statement that it names as the one before was refused"); err != nil {
					return err
				}
				continue
			}
		}
		if err := c.submit(ctx, d); err != nil {
			return err
		}
	}
}

// submit sends one statement and writes down what became of it. An error means
// that nobody knows yet: the same bytes go out again later.
func (c *Custody) submit(ctx context.Context, d *Deposit) error {
	data := d.Statement.Bytes()
	if d.State == Received {
		out, err := c.config.Alliance.Submit(ctx, data)
		if p, ok := errors.AsType[*client.Problem](err); ok && p.Rule() {
			return c.refused(ctx, d, p.Code, p.Detail)
		}
		if err != nil {
			return err
		}
		if out.Known && out.Entry != d.Digest() {
			return c.refused(ctx, d, RefuseRegistered, fmt.Sprintf("the log has the same content as %s, under another signature", out.Entry))
		}
		if err := c.place(ctx, d, out); err != nil {
			return err
		}
	}
	final, err := c.config.Alliance.Deposit(ctx, data)
	if p, ok := errors.AsType[*client.Problem](err); ok && p.Rule() {
		return c.refused(ctx, d, p.Code, p.Detail)
	}
	if err != nil {
		return err
	}
	if final.Entry != d.Digest() {
		return c.refused(ctx, d, RefuseRegistered, fmt.Sprintf("the log has the same content as %s, under another signature", final.Entry))
	}
	if err := c.final(ctx, d, final); err != nil {
		return err
	}
	stamped, _, err := c.config.Alliance.AwaitTimestamp(ctx, final.Position, stampWait)
	if err != nil || !stamped {
		return ctx.Err() // a record stands without; its page looks for tokens itself
	}
	return c.set(ctx, d, `stamped = $2`, c.now())
}

// place waits a moment for the statement's position, which comes before it is
// final, so that its owner can see both.
func (c *Custody) place(ctx context.Context, d *Deposit, out *client.Outcome) error {
	position, known := out.Position, out.Known
	for began := time.Now(); !known && time.Since(began) < placeWait; {
		rec, err := c.config.Alliance.Lookup(ctx, d.Digest())
		if err == nil {
			position, known = rec.Position, true
			break
		}
		if !errors.Is(err, client.ErrNotFound) {
			return nil // Deposit finds out what is wrong
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(placePoll):
		}
	}
	if !known {
		return nil
	}
	return c.set(ctx, d, `state = 'chained', position = $2`, int64(position))
}

func (c *Custody) final(ctx context.Context, d *Deposit, f *client.Final) error {
	var before *int64
	if after := d.Statement.After; after.Size > 0 {
		// The bracket's lower end; without it the record stands, and its package
		// proves the time all the same.
		if cp, err := c.config.Alliance.CheckpointAt(ctx, after.Size); err == nil && cp.Root == after.Root {
			before = quorumTime(cp)
		}
	}
	witnesses := make([]string, 0, len(f.Receipts))
	for inst := range f.Receipts {
		witnesses = append(witnesses, inst)
	}
	return c.set(ctx, d, `state = 'final', position = $2, tree_size = $3, not_later = $4, witnesses = $5, not_before = $6`,
		int64(f.Position), int64(f.TreeSize), f.Time.UnixMilli(), strings.Join(slices.Sorted(slices.Values(witnesses)), " "), before)
}

// quorumTime returns the earliest cosignature's time in milliseconds: the
// checkpoint was there then, whoever of the others was slow.
func quorumTime(cp *evidence.CosignedCheckpoint) *int64 {
	var first *int64
	for _, s := range cp.Cosignatures {
		if ms := int64(s.Time) * 1000; first == nil || ms < *first {
			first = &ms
		}
	}
	return first
}

func (c *Custody) refused(ctx context.Context, d *Deposit, code, reason string) error {
	return c.set(ctx, d, `state = 'refused', code = $2, reason = $3`, code, strings.ToValidUTF8(reason, "?"))
}

func (c *Custody) set(ctx context.Context, d *Deposit, what string, args ...any) error {
	err := c.config.DB.In(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE custody_statements SET `+what+` WHERE digest = $1`, append([]any{d.Digest().String()}, args...)...)
		return err
	})
	if err != nil {
		return fmt.Errorf("noting what became of %s: %w", d.Digest(), err)
	}
	return nil
}
