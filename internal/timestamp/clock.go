package timestamp

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

const (
	defaultInterval = 2 * time.Minute
	defaultTimeout  = 3 * time.Second
	// minInterval is the shortest poll that RFC 5905 §7.2 (MINPOLL) allows
	// towards a server: 16 s. Anything faster gets a kiss of death.
	minInterval = 16 * time.Second

	// driftPPM is how far a clock may run off between measurements: MAXFREQ of
	// RFC 5905 appendix A.1.1, the most that an NTP daemon slews by. Crystals
	// stay under a fifth of it.
	driftPPM = 500
)

// ErrClockUnknown says that nobody knows how wrong the clock is.
var ErrClockUnknown = errors.New("the clock's error is unknown")

// Reading is a time and the most by which it can be wrong, either way.
type Reading struct {
	Time  time.Time
	Error time.Duration
}

// ClockConfig says whom to ask for the time.
type ClockConfig struct {
	// Sources are NTP servers, "host" or "host:port". Three or more, run by
	// different people on hosts other than this one: a majority of them is
	// believed, so that with three one may lie. A name or an address of this
	// host does not count, nor does a second name for the same address, nor a
	// server that takes its time from this host or from nowhere.
	Sources  []string
	Interval time.Duration // between measurements; 0: two minutes, at least 16 s
	Timeout  time.Duration // for one server; 0: three seconds

	onThisHost bool // tests alone: sources on this host count
}

// SourceStatus is what one server said the last time.
type SourceStatus struct {
	Address string
	Counts  bool          // among those that the majority is taken of
	Offset  time.Duration // to be added to this host's clock
	Error   time.Duration // on either side of Offset: root distance (RFC 5905 §11.2)
	Fault   error         // nil when it was asked and answered
}

// ClockStatus is what the clock knows.
type ClockStatus struct {
	Measured time.Time // by this host's clock; zero before the first success
	Known    bool
	Error    time.Duration // now; meaningless unless Known
	Reason   error         // why it is not known
	Sources  []SourceStatus
}

// Clock is this host's clock and how wrong it can be, measured against NTP
// servers. It corrects nothing: keeping the host's clock right is the work of
// its NTP daemon, judging it is the work of Clock.
//
//	unknown ──majority agrees──► known ──time passes──► known, wider
//	   ▲                           │ majority agrees: measured anew
//	   └──a majority answers and disagrees
//
// A round in which too few answer leaves the last measurement, whose error grows
// by 500 ppm, and by every difference between the host's clock and its
// monotonic one: a clock that is set back or forward is wrong by that much until
// it is measured again.
//
// Plain NTP is not authenticated: whoever is on the path to a majority of the
// servers can move the time.
type Clock struct {
	cfg  ClockConfig
	read func() (wall time.Time, monotonic time.Duration)

	mu       sync.Mutex
	known    bool
	reason   error
	wall     time.Time     // at the last measurement
	at       time.Duration // the same, monotonic
	err      time.Duration // then
	statuses []SourceStatus
}

// NewClock returns a clock that does not know its error yet.
func NewClock(cfg ClockConfig) (*Clock, error) {
	if len(cfg.Sources) == 0 {
		return nil, errors.New("a clock without NTP servers cannot know its error: name at least one, better three, that are not on this host")
	}
	if cfg.Interval == 0 {
		cfg.Interval = defaultInterval
	}
	if cfg.Interval < minInterval {
		return nil, fmt.Errorf("an interval of %s between measurements is too short for NTP servers; take %s or more", cfg.Interval, minInterval)
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = defaultTimeout
	}
	cfg.Sources = slices.Clone(cfg.Sources)
	start := time.Now()
	return &Clock{
		cfg:    cfg,
		reason: fmt.Errorf("%w: it has not been measured yet", ErrClockUnknown),
		read: func() (time.Time, time.Duration) {
			now := time.Now()
			return now.Round(0), now.Sub(start)
		},
	}, nil
}

// Run measures at once and then at every interval, until ctx ends, whose error it
// returns. While the error is unknown it measures every 16 s.
func (c *Clock) Run(ctx context.Context) error {
	for {
		wait := c.cfg.Interval
		if c.Measure(ctx) != nil {
			wait = minInterval
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

// Measure asks every source once. The error says why the clock's error is not
// known from this round; an older measurement may still hold.
func (c *Clock) Measure(ctx context.Context) error {
	wall, at := c.read()
	statuses := c.ask(ctx)
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("measuring the clock: %w", err)
	}
	var intervals []interval
	counting, answered := 0, 0
	for _, s := range statuses {
		if !s.Counts {
			continue
		}
		counting++
		if s.Fault == nil {
			answered++
			intervals = append(intervals, interval{s.Offset - s.Error, s.Offset + s.Error})
		}
	}
	majority := counting/2 + 1
	agreed, ok := agree(intervals, majority)

	c.mu.Lock()
	defer c.mu.Unlock()
	c.statuses = statuses
	var err error
	switch {
	case ok:
		c.known, c.reason = true, nil
		c.wall, c.at, c.err = wall, at, max(agreed.low.Abs(), agreed.high.Abs())
	case counting == 0:
		err = fmt.Errorf("%w: no NTP server counts: %w", ErrClockUnknown, statuses[0].Fault)
	case answered < majority:
		err = fmt.Errorf("%w: %d of %d NTP servers answered, %d must", ErrClockUnknown, answered, counting, majority)
	default:
		err = fmt.Errorf("%w: %d NTP servers answered and no %d of them agree", ErrClockUnknown, answered, majority)
		c.known = false
	}
	if !c.known {
		c.reason = err
	}
	return err
}

// Now returns the host's time and how wrong it can be. Errors wrap
// ErrClockUnknown.
func (c *Clock) Now() (Reading, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now()
}

func (c *Clock) now() (Reading, error) {
	if !c.known {
		return Reading{}, c.reason
	}
	wall, at := c.read()
	elapsed := at - c.at
	set := (wall.Sub(c.wall) - elapsed).Abs() // by whoever sets the clock
	return Reading{Time: wall.UTC(), Error: c.err + set + elapsed/1_000_000*driftPPM}, nil
}

// Status returns what the clock knows, for an operator to see.
func (c *Clock) Status() ClockStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := ClockStatus{Known: c.known, Reason: c.reason, Measured: c.wall, Sources: slices.Clone(c.statuses)}
	if r, err := c.now(); err == nil {
		s.Error = r.Error
	}
	return s
}

// interval is where, by one server's word, the true offset lies.
type interval struct{ low, high time.Duration }

// agree returns the smallest interval that holds every point which at least m
// intervals cover. When m are a majority and the majority of servers is right,
// the true offset is in it: those that are right all cover it. (Marzullo's
// algorithm, as in RFC 5905 §11.2.1, would return the best covered part alone;
// that is narrower, and wrong where liars overlap with some who are right.)
func agree(intervals []interval, m int) (hull interval, ok bool) {
	type edge struct {
		at   time.Duration
		open bool
	}
	var edges []edge
	for _, i := range intervals {
		edges = append(edges, edge{i.low, true}, edge{i.high, false})
	}
	slices.SortFunc(edges, func(a, b edge) int {
		switch {
		case a.at < b.at:
			return -1
		case a.at > b.at:
			return 1
		case a.open == b.open:
			return 0
		case a.open:
			return -1 // intervals that touch overlap
		}
		return 1
	})
	depth := 0
	for _, e := range edges {
		if e.open {
			depth++
			if depth == m && !ok {
				hull.low, ok = e.at, true
			}
			continue
		}
		if depth == m {
			hull.high = e.at
		}
		depth--
	}
	return hull, ok
}
