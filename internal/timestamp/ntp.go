package timestamp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"

	"github.com/beevik/ntp"
)

// ErrThisHost says that a source shows this host's own clock.
var ErrThisHost = errors.New("the server shows this host's own clock, which says nothing about its error; name one on another host")

// errDuplicate says that two names lead to one server.
var errDuplicate = errors.New("another name in the list leads to the same server; name a different one")

// ask asks every source at once and waits for all.
func (c *Clock) ask(ctx context.Context) []SourceStatus {
	statuses := make([]SourceStatus, len(c.cfg.Sources))
	remotes := make([]netip.AddrPort, len(statuses))
	own, err := ownAddresses()
	if err != nil {
		for i, s := range c.cfg.Sources {
			statuses[i] = SourceStatus{Address: s, Counts: true, Fault: err}
		}
		return statuses
	}
	var wg sync.WaitGroup
	for i, source := range c.cfg.Sources {
		wg.Go(func() { statuses[i], remotes[i] = c.askOne(ctx, source, own) })
	}
	wg.Wait()
	seen := map[netip.AddrPort]bool{}
	for i, r := range remotes {
		if r.IsValid() && seen[r] {
			statuses[i].Counts, statuses[i].Fault = false, errDuplicate
		}
		seen[r] = true
	}
	return statuses
}

// askOne asks one server (RFC 5905 §8, client mode) and returns who answered.
func (c *Clock) askOne(ctx context.Context, source string, own map[netip.Addr]bool) (SourceStatus, netip.AddrPort) {
	status := SourceStatus{Address: source, Counts: true}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	var remote netip.AddrPort
	stop := func() bool { return false }
	dial := func(_, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, "udp", address)
		if err != nil {
			return nil, err
		}
		udp, ok := conn.RemoteAddr().(*net.UDPAddr)
		if !ok {
			return nil, errors.Join(fmt.Errorf("%s is no UDP address", conn.RemoteAddr()), conn.Close())
		}
		remote = netip.AddrPortFrom(udp.AddrPort().Addr().Unmap(), udp.AddrPort().Port())
		if !c.cfg.onThisHost && (own[remote.Addr().WithZone("")] || !foreign(remote.Addr())) {
			return nil, errors.Join(ErrThisHost, conn.Close())
		}
		// The library knows no context. It closes the connection itself, too.
		stop = context.AfterFunc(ctx, func() { conn.Close() })
		return conn, nil
	}
	defer func() { stop() }()
	r, err := ntp.QueryWithOptions(source, ntp.QueryOptions{Timeout: c.cfg.Timeout, Dialer: dial})
	if err == nil {
		err = r.Validate()
	}
	if err == nil && !c.cfg.onThisHost {
		err = checkReference(r, own)
	}
	if err != nil {
		status.Fault = fmt.Errorf("asking the NTP server %s: %w", source, err)
		status.Counts = !errors.Is(err, ErrThisHost)
		return status, remote
	}
	status.Offset = r.ClockOffset
	// Round trip and root delay by halves, root dispersion (RFC 5905 §11.2), and
	// the resolution of the server's clock.
	status.Error = r.RootDistance + r.Precision
	return status, remote
}

// foreign reports whether an address can be another host's.
func foreign(a netip.Addr) bool {
	return !a.IsLoopback() && !a.IsUnspecified() && !a.IsMulticast()
}

func ownAddresses() (map[netip.Addr]bool, error) {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("listing this host's addresses: %w", err)
	}
	own := map[netip.Addr]bool{}
	for _, a := range addresses {
		if n, ok := a.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(n.IP); ok {
				own[ip.Unmap()] = true
			}
		}
	}
	return own, nil
}

// checkReference refuses a server that says of itself that it takes its time from
// this host (RFC 5905 §11.2.1, the loop test; an IPv4 address is visible, an
// IPv6 address is hashed and not) or from its own, uncorrected clock.
func checkReference(r *ntp.Response, own map[netip.Addr]bool) error {
	ref := r.ReferenceString()
	if r.Stratum == 1 {
		if name := strings.Trim(ref, "."); name == "LOCL" || name == "LCL" || name == "LOCAL" {
			return fmt.Errorf("its reference is %s, a clock that nobody corrects", name)
		}
		return nil
	}
	a, err := netip.ParseAddr(ref)
	if err != nil {
		return nil
	}
	if own[a] && foreign(a) {
		return ErrThisHost
	}
	if a.IsLoopback() {
		return fmt.Errorf("its reference is %s, a clock that nobody corrects", ref)
	}
	return nil
}
