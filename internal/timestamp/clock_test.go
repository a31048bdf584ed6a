package timestamp

import (
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// ntpServer is an NTP server on loopback whose clock is off.
type ntpServer struct {
	mu     sync.Mutex
	offset time.Duration
	change func(packet []byte) // before it leaves; nil: as it is
	silent bool

	conn *net.UDPConn
}

const ntpEpoch = 2208988800 // seconds from 1900 to 1970

func ntpTime(t time.Time) uint64 {
	return uint64(t.Unix()+ntpEpoch)<<32 | uint64(t.Nanosecond())<<32/1e9
}

func newNTPServer(t testing.TB, offset time.Duration) *ntpServer {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	s := &ntpServer{offset: offset, conn: conn}
	done := make(chan struct{})
	go func() {
		defer close(done)
		query := make([]byte, 512)
		for {
			n, from, err := conn.ReadFromUDP(query)
			if err != nil {
				return
			}
			if n < 48 {
				continue
			}
			s.answer(query[:48], from)
		}
	}()
	t.Cleanup(func() {
		conn.Close()
		<-done
	})
	return s
}

func (s *ntpServer) answer(query []byte, to *net.UDPAddr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.silent {
		return
	}
	now := time.Now().Add(s.offset)
	p := make([]byte, 48)
	p[0] = 4<<3 | 4                              // version 4, server
	p[1] = 2                                     // stratum
	p[3] = 0xEC                                  // 2^-20 s
	binary.BigEndian.PutUint32(p[4:], 1<<16/100) // root delay 10 ms
	binary.BigEndian.PutUint32(p[8:], 1<<16/200) // root dispersion 5 ms
	copy(p[12:], []byte{192, 0, 2, 1})           // reference: TEST-NET-1
	binary.BigEndian.PutUint64(p[16:], ntpTime(now.Add(-time.Minute)))
	copy(p[24:], query[40:48])
	binary.BigEndian.PutUint64(p[32:], ntpTime(now))
	binary.BigEndian.PutUint64(p[40:], ntpTime(now))
	if s.change != nil {
		s.change(p)
	}
	_, _ = s.conn.WriteToUDP(p, to)
}

func (s *ntpServer) set(f func(*ntpServer)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s)
}

func (s *ntpServer) address() string { return s.conn.LocalAddr().String() }

// testClock is a clock over servers on this host, with a host clock that the
// test can set.
type testClock struct {
	*Clock
	mu      sync.Mutex
	set     time.Duration // by somebody
	elapsed time.Duration // beyond the real time
}

func newTestClock(t testing.TB, servers ...*ntpServer) *testClock {
	t.Helper()
	cfg := ClockConfig{onThisHost: true, Timeout: 500 * time.Millisecond}
	for _, s := range servers {
		cfg.Sources = append(cfg.Sources, s.address())
	}
	c, err := NewClock(cfg)
	if err != nil {
		t.Fatal(err)
	}
	tc := &testClock{Clock: c}
	real := c.read
	c.read = func() (time.Time, time.Duration) {
		tc.mu.Lock()
		defer tc.mu.Unlock()
		wall, at := real()
		return wall.Add(tc.set + tc.elapsed), at + tc.elapsed
	}
	return tc
}

func (c *testClock) move(set, elapsed time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.set, c.elapsed = c.set+set, c.elapsed+elapsed
}

func TestClock(t *testing.T) {
	a, b, liar := newNTPServer(t, 0), newNTPServer(t, 2*time.Millisecond), newNTPServer(t, time.Hour)
	c := newTestClock(t, a, b, liar)
	if _, err := c.Now(); !errors.Is(err, ErrClockUnknown) {
		t.Fatalf("before it was measured: %v", err)
	}
	if err := c.Measure(t.Context()); err != nil {
		t.Fatal(err)
	}
	r, err := c.Now()
	if err != nil || r.Error < 5*time.Millisecond || r.Error > time.Second {
		t.Fatalf("one of three lies by an hour: %+v, %v", r, err)
	}
	if s := c.Status(); !s.Known || len(s.Sources) != 3 || s.Sources[2].Offset < 59*time.Minute || !s.Sources[2].Counts {
		t.Errorf("status %+v", s)
	}

	// The host's clock is set back by ten minutes: at once it is that much wrong,
	// and the next measurement says so too.
	c.move(-10*time.Minute, 0)
	if r, err := c.Now(); err != nil || r.Error < 10*time.Minute || r.Error > 11*time.Minute {
		t.Errorf("set back: %+v, %v", r, err)
	}
	c.move(10*time.Minute, 0)

	// An hour without an answer: the error grows by 500 ppm.
	for _, s := range []*ntpServer{a, b, liar} {
		s.set(func(s *ntpServer) { s.silent = true })
	}
	c.move(0, time.Hour)
	if err := c.Measure(t.Context()); !errors.Is(err, ErrClockUnknown) {
		t.Errorf("nobody answers: %v", err)
	}
	if got, err := c.Now(); err != nil || got.Error < r.Error+1800*time.Millisecond {
		t.Errorf("an hour later: %+v, %v", got, err)
	}

	// They answer and contradict each other: nothing is known.
	for i, s := range []*ntpServer{a, b, liar} {
		s.set(func(s *ntpServer) { s.silent, s.offset = false, time.Duration(i)*time.Hour })
	}
	if err := c.Measure(t.Context()); !errors.Is(err, ErrClockUnknown) {
		t.Errorf("all contradict each other: %v", err)
	}
	if _, err := c.Now(); !errors.Is(err, ErrClockUnknown) {
		t.Errorf("after a contradiction: %v", err)
	}
	// A host clock that is a minute off is measured as that.
	for _, s := range []*ntpServer{a, b, liar} {
		s.set(func(s *ntpServer) { s.offset = -time.Minute })
	}
	if err := c.Measure(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r, err := c.Now(); err != nil || r.Error < time.Minute || r.Error > 62*time.Second {
		t.Errorf("a minute off: %+v, %v", r, err)
	}
}

func TestSourcesOnThisHost(t *testing.T) {
	s := newNTPServer(t, 0)
	c, err := NewClock(ClockConfig{Sources: []string{s.address(), "localhost:1", "[::1]:1"}, Timeout: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Measure(t.Context()); !errors.Is(err, ErrThisHost) {
		t.Errorf("measured against this host: %v", err)
	}
	for _, s := range c.Status().Sources {
		if s.Counts && !strings.HasPrefix(s.Address, "[") { // without IPv6 there is no route to ask ::1 by
			t.Errorf("%s counts: %+v", s.Address, s)
		}
	}
	own, err := ownAddresses()
	if err != nil {
		t.Fatal(err)
	}
	for a := range own {
		if a.IsLoopback() || !a.Is4() {
			continue
		}
		c, err := NewClock(ClockConfig{Sources: []string{a.String()}, Timeout: 200 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Measure(t.Context()); !errors.Is(err, ErrThisHost) {
			t.Errorf("measured against %s: %v", a, err)
		}
	}
	// The same server twice is one server.
	c, err = NewClock(ClockConfig{Sources: []string{s.address(), s.address()}, onThisHost: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Measure(t.Context()); err != nil || c.Status().Sources[1].Counts {
		t.Errorf("the same server twice: %v, %+v", err, c.Status().Sources)
	}
	if _, err := NewClock(ClockConfig{}); err == nil {
		t.Error("a clock without sources")
	}
}

func TestFaultySources(t *testing.T) {
	for name, change := range map[string]func([]byte){
		"not synchronised": func(p []byte) { p[0] |= 3 << 6 },
		"kiss of death":    func(p []byte) { p[1] = 0; copy(p[12:], "RATE") },
		"stratum 16":       func(p []byte) { p[1] = 16 },
		"another query's":  func(p []byte) { p[30] ^= 1 },
		"far from a clock": func(p []byte) { binary.BigEndian.PutUint32(p[8:], 20<<16) },
		"client mode":      func(p []byte) { p[0] = 4<<3 | 3 },
	} {
		t.Run(name, func(t *testing.T) {
			s := newNTPServer(t, 0)
			s.set(func(s *ntpServer) { s.change = change })
			c := newTestClock(t, s)
			if err := c.Measure(t.Context()); !errors.Is(err, ErrClockUnknown) {
				t.Errorf("measured: %v, %+v", err, c.Status())
			}
			t.Log(c.Status().Sources[0].Fault)
		})
	}
}

func TestClockRunEnds(t *testing.T) {
	s := newNTPServer(t, 0)
	s.set(func(s *ntpServer) { s.silent = true })
	c := newTestClock(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- c.Run(ctx) }()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// While fewer than half of the servers lie, whatever they say and however they
// overlap, the true offset lies in what was agreed.
func TestAgree(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 20000 {
		n := 1 + random.IntN(9)
		truth := time.Duration(random.IntN(1000) - 500)
		var all []interval
		for i := range n {
			if i <= (n-1)/2-random.IntN(2) && i < (n+1)/2-1 { // a liar
				low := time.Duration(random.IntN(2000) - 1000)
				all = append(all, interval{low, low + time.Duration(random.IntN(500))})
				continue
			}
			all = append(all, interval{truth - time.Duration(random.IntN(300)), truth + time.Duration(random.IntN(300))})
		}
		got, ok := agree(all, n/2+1)
		if !ok || got.low > truth || got.high < truth {
			t.Fatalf("%v of %v: %v, %v", truth, all, got, ok)
		}
	}
	if got, ok := agree([]interval{{0, 1}, {2, 3}, {4, 5}}, 2); ok {
		t.Errorf("three that contradict each other agree on %v", got)
	}
	if got, ok := agree([]interval{{0, 2}, {2, 3}}, 2); !ok || got != (interval{2, 2}) {
		t.Errorf("two that touch: %v, %v", got, ok)
	}
}
