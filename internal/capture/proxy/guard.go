package proxy

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Failure is why something was not carried: a code for programs and a sentence
// for the record.
type Failure struct {
	Code string // one of the Code constants
	Text string
	Err  error // the cause, when there is one
}

func (f *Failure) Error() string {
	if f.Err != nil {
		return f.Text + ": " + f.Err.Error()
	}
	return f.Text
}

func (f *Failure) Unwrap() error { return f.Err }

func failure(code string, err error, format string, args ...any) *Failure {
	return &Failure{Code: code, Text: fmt.Sprintf(format, args...), Err: err}
}

// Exception lets the browser reach one host and port that the guard would
// refuse, at one address: a test site on loopback. Exceptions are part of the
// cleanliness report; each connection that used one names it.
type Exception struct {
	Host string         // lower case, as the browser asks for it
	Port uint16         // as the browser asks for it
	Dial netip.AddrPort // where it is; may be any address, at any port
}

// String is the entry as reports show it: "host:port → address:port".
func (e Exception) String() string {
	return fmt.Sprintf("%s:%d → %s", e.Host, e.Port, e.Dial)
}

// CheckHost brings a host as a browser writes it (a URL's host, IPv6 in
// brackets or not) to the form that is looked up, lower case without the final
// dot, and refuses what is no public name and no plain address. An address is
// returned when host is one; it is refused when CheckAddress refuses it. No
// spelling of an IPv4 address is understood but four decimal numbers: 127.1,
// 0x7f000001, 2130706433 and 0177.0.0.1 are refused, as the browser rewrites
// them before it asks (URL Standard, "ends in a number").
func CheckHost(host string) (string, netip.Addr, error) {
	bare := host
	if strings.HasPrefix(bare, "[") && strings.HasSuffix(bare, "]") {
		bare = bare[1 : len(bare)-1]
		if !strings.Contains(bare, ":") {
			return "", netip.Addr{}, failure(CodeRefusedHost, nil, "host %q is no IPv6 address", host)
		}
	}
	if strings.Contains(bare, ":") {
		if strings.Contains(bare, "%") {
			return "", netip.Addr{}, failure(CodeRefusedAddress, nil, "address %q has a zone: only link-local ones do", host)
		}
		addr, err := netip.ParseAddr(bare)
		if err != nil {
			return "", netip.Addr{}, failure(CodeRefusedHost, nil, "host %q is no address", host)
		}
		return addr.String(), addr, CheckAddress(addr)
	}
	name := strings.ToLower(strings.TrimSuffix(bare, "."))
	if name == "" || len(name) > 253 {
		return "", netip.Addr{}, failure(CodeRefusedHost, nil, "host of %d octets is no name", len(name))
	}
	labels := strings.Split(name, ".")
	for _, l := range labels {
		if l == "" || len(l) > 63 {
			return "", netip.Addr{}, failure(CodeRefusedHost, nil, "host %q has a label of %d octets", host, len(l))
		}
		for _, c := range []byte(l) {
			if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
				return "", netip.Addr{}, failure(CodeRefusedHost, nil, "host %q has the character %q: names are written in their ASCII form", host, c)
			}
		}
	}
	if last := labels[len(labels)-1]; endsInNumber(last) {
		addr, err := netip.ParseAddr(name)
		if err != nil {
			return "", netip.Addr{}, failure(CodeRefusedAddress, nil, "host %q is a number in another spelling than four decimal parts", host)
		}
		return addr.String(), addr, CheckAddress(addr)
	}
	if len(labels) == 1 {
		return "", netip.Addr{}, failure(CodeRefusedHost, nil, "host %q has no dot: it is a name of this machine or network", host)
	}
	// RFC 6761, RFC 6762, RFC 8375, RFC 7686, RFC 9476 and ICANN's "internal".
	for _, inner := range []string{"localhost", "local", "internal", "localdomain", "home.arpa", "onion", "alt"} {
		if strings.HasSuffix(name, "."+inner) {
			return "", netip.Addr{}, failure(CodeRefusedHost, nil, "host %q is under %q, which is no part of the public name space", host, inner)
		}
	}
	return name, netip.Addr{}, nil
}

func endsInNumber(label string) bool {
	if rest, ok := strings.CutPrefix(label, "0x"); ok {
		return strings.Trim(rest, "0123456789abcdef") == ""
	}
	return strings.Trim(label, "0123456789") == ""
}

// CheckAddress refuses every address that is not plain public unicast: those of
// the registries of special-purpose addresses (RFC 6890 and IANA's tables for
// IPv4 and IPv6), multicast, and IPv6 forms with an IPv4 address inside
// (mapped, NAT64, 6to4, Teredo), whatever address that is.
func CheckAddress(addr netip.Addr) error {
	if !addr.IsValid() || addr.Zone() != "" {
		return failure(CodeRefusedAddress, nil, "no plain address")
	}
	for _, s := range special() {
		if s.prefix.Contains(addr) {
			return failure(CodeRefusedAddress, nil, "address %s is %s (%s)", addr, s.what, s.prefix)
		}
	}
	if addr.Is6() && !netip.MustParsePrefix("2000::/3").Contains(addr) {
		return failure(CodeRefusedAddress, nil, "address %s is not in the global unicast space 2000::/3", addr)
	}
	return nil
}

type specialPrefix struct {
	prefix netip.Prefix
	what   string
}

func special() []specialPrefix {
	p := netip.MustParsePrefix
	return []specialPrefix{
		{p("127.0.0.0/8"), "loopback"},
		{p("0.0.0.0/8"), "this host"},
		{p("10.0.0.0/8"), "private"},
		{p("172.16.0.0/12"), "private"},
		{p("192.168.0.0/16"), "private"},
		{p("100.64.0.0/10"), "shared by a carrier's customers"}, // a cloud's metadata too: 100.100.100.200
		{p("169.254.0.0/16"), "link-local"},                     // metadata: 169.254.169.254
		{p("192.0.0.0/24"), "for protocols"},                    // metadata: 192.0.0.192
		{p("192.0.2.0/24"), "for documentation"},
		{p("192.31.196.0/24"), "for AS112"},
		{p("192.52.193.0/24"), "for AMT"},
		{p("192.88.99.0/24"), "a 6to4 relay"},
		{p("192.175.48.0/24"), "for AS112"},
		{p("198.18.0.0/15"), "for benchmarks"},
		{p("198.51.100.0/24"), "for documentation"},
		{p("203.0.113.0/24"), "for documentation"},
		{p("168.63.129.16/32"), "a cloud's metadata"},
		{p("224.0.0.0/4"), "multicast"},
		{p("240.0.0.0/4"), "reserved"},
		{p("::1/128"), "loopback"},
		{p("::/128"), "unspecified"},
		{p("::ffff:0:0/96"), "IPv4 mapped into IPv6"},
		{p("64:ff9b::/96"), "IPv4 behind NAT64"},
		{p("64:ff9b:1::/48"), "IPv4 behind NAT64"},
		{p("fc00::/7"), "private"},
		{p("fe80::/10"), "link-local"},
		{p("fec0::/10"), "site-local"},
		{p("ff00::/8"), "multicast"},
		{p("2001::/23"), "for protocols, Teredo among them"},
		{p("2001:db8::/32"), "for documentation"},
		{p("2002::/16"), "IPv4 inside 6to4"},
		{p("2620:4f:8000::/48"), "for AS112"},
		{p("3fff::/20"), "for documentation"},
	}
}

// splitAuthority divides host:port as a browser writes it. A missing port is 0.
func splitAuthority(authority string) (host string, port uint16, err error) {
	if strings.ContainsAny(authority, "@/?#\\ \t\r\n") {
		return "", 0, failure(CodeRefusedHost, nil, "authority %q has user information or other characters that do not belong there", authority)
	}
	host = authority
	if i := strings.LastIndexByte(authority, ':'); i >= 0 && !strings.HasSuffix(authority, "]") {
		n, err := strconv.ParseUint(authority[i+1:], 10, 16)
		if err != nil || n == 0 || authority[i+1] == '+' {
			return "", 0, failure(CodeRefusedPort, nil, "authority %q has no port that is a number from 1 to 65535", authority)
		}
		host, port = authority[:i], uint16(n)
	}
	if host == "" || strings.Contains(host, ":") && !strings.HasPrefix(host, "[") {
		return "", 0, failure(CodeRefusedHost, nil, "authority %q has no host", authority)
	}
	return host, port, nil
}

// target is a host and port that the guard let pass, with the only addresses
// that may be dialled for it.
type target struct {
	host      string
	addr      netip.Addr // valid when host is an address
	port      uint16
	exception *Exception
}

func (p *Proxy) checkTarget(host string, port uint16) (target, error) {
	// An exception is for one exact name and port.
	plain := strings.ToLower(host)
	for _, e := range p.config.Exceptions {
		if e.Host == plain && e.Port == port {
			return target{host: e.Host, port: port, exception: &e}, nil
		}
	}
	name, addr, err := CheckHost(host)
	if err != nil {
		return target{host: plain, port: port}, err
	}
	t := target{host: name, addr: addr, port: port}
	if !slices.Contains(p.config.Ports, port) {
		return t, failure(CodeRefusedPort, nil, "port %d is not among those allowed %v", port, p.config.Ports)
	}
	return t, nil
}
