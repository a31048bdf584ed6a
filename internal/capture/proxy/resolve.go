package proxy

import (
	"context"
	crand "crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// Resolver finds the addresses of a name. The answer is worth recording also
// when there is an error.
type Resolver interface {
	Resolve(ctx context.Context, host string) (Answer, []netip.Addr, error)
}

// DNS asks one or more recursive servers itself, for A and AAAA, so that the
// record has every answer with its TTL and the messages as received. The hosts
// file of this machine is not read.
type DNS struct {
	Servers []netip.AddrPort // asked in order, the next when one fails
	Timeout time.Duration    // for one question to one server; zero: 5 s
}

// SystemDNS reads the servers that this machine is configured with from a file
// in the form of resolv.conf(5).
func SystemDNS(file string) (DNS, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return DNS{}, fmt.Errorf("reading the resolvers: %w", err)
	}
	var d DNS
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if len(f) >= 2 && f[0] == "nameserver" {
			addr, err := netip.ParseAddr(f[1])
			if err != nil {
				return DNS{}, fmt.Errorf("reading the resolvers in %s: %w", file, err)
			}
			d.Servers = append(d.Servers, netip.AddrPortFrom(addr, 53))
		}
	}
	if len(d.Servers) == 0 {
		return DNS{}, fmt.Errorf("%s names no nameserver: name one there or configure one", file)
	}
	return d, nil
}

// Resolve asks for the A and AAAA records of host. IPv4 addresses come first.
func (d DNS) Resolve(ctx context.Context, host string) (Answer, []netip.Addr, error) {
	a := Answer{Host: host, Began: time.Now()}
	name, err := dnsmessage.NewName(host + ".")
	if err != nil {
		return a, nil, fmt.Errorf("asking for %q: %w", host, err)
	}
	var last error = errors.New("no DNS server is configured")
	for _, server := range d.Servers {
		a.Resolver, a.Records, a.Raw, a.AD = server.String(), nil, nil, true
		var addrs []netip.Addr
		last = nil
		for _, kind := range []dnsmessage.Type{dnsmessage.TypeA, dnsmessage.TypeAAAA} {
			raw, m, err := d.ask(ctx, server, name, kind)
			if err != nil {
				last = fmt.Errorf("asking %s for %s %s: %w", server, host, kind, err)
				break
			}
			a.Raw = append(a.Raw, raw)
			a.AD = a.AD && m.AuthenticData
			if m.RCode != dnsmessage.RCodeSuccess {
				a.Took = time.Since(a.Began)
				return a, nil, fmt.Errorf("%s answers %s for %s", server, m.RCode, host)
			}
			found, records := readAnswers(m)
			a.Records = append(a.Records, records...)
			addrs = append(addrs, found...)
		}
		a.Took = time.Since(a.Began)
		if last != nil {
			continue
		}
		if len(addrs) == 0 {
			return a, nil, fmt.Errorf("%s has no address for %s", server, host)
		}
		return a, addrs, nil
	}
	a.Took = time.Since(a.Began)
	return a, nil, last
}

// readAnswers lists the answer section and the addresses in it. Every address
// counts, also those under names that the chain of CNAMEs does not lead to: the
// guard looks at all of them.
func readAnswers(m dnsmessage.Message) (addrs []netip.Addr, records []DNSRecord) {
	for _, r := range m.Answers {
		rec := DNSRecord{Name: strings.TrimSuffix(r.Header.Name.String(), "."), TTL: int64(r.Header.TTL)}
		switch b := r.Body.(type) {
		case *dnsmessage.AResource:
			addr := netip.AddrFrom4(b.A)
			rec.Type, rec.Data = "A", addr.String()
			addrs = append(addrs, addr)
		case *dnsmessage.AAAAResource:
			addr := netip.AddrFrom16(b.AAAA)
			rec.Type, rec.Data = "AAAA", addr.String()
			addrs = append(addrs, addr)
		case *dnsmessage.CNAMEResource:
			rec.Type, rec.Data = "CNAME", strings.TrimSuffix(b.CNAME.String(), ".")
		case *dnsmessage.UnknownResource:
			rec.Type, rec.Data = fmt.Sprintf("TYPE%d", b.Type), hex.EncodeToString(b.Data)
		default:
			rec.Type = fmt.Sprintf("TYPE%d", r.Header.Type)
		}
		records = append(records, rec)
	}
	return addrs, records
}

func (d DNS) ask(ctx context.Context, server netip.AddrPort, name dnsmessage.Name, kind dnsmessage.Type) ([]byte, dnsmessage.Message, error) {
	timeout := d.Timeout
	if timeout == 0 {
		timeout = 5 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var random [2]byte
	if _, err := crand.Read(random[:]); err != nil {
		return nil, dnsmessage.Message{}, err
	}
	id := binary.BigEndian.Uint16(random[:])
	question := dnsmessage.Question{Name: name, Type: kind, Class: dnsmessage.ClassINET}
	query := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: id, RecursionDesired: true, AuthenticData: true},
		Questions: []dnsmessage.Question{question},
	}
	packet, err := query.Pack()
	if err != nil {
		return nil, dnsmessage.Message{}, err
	}
	raw, m, err := d.exchange(ctx, "udp", server, packet, id, question)
	if err == nil && m.Truncated {
		raw, m, err = d.exchange(ctx, "tcp", server, packet, id, question)
	}
	return raw, m, err
}

func (d DNS) exchange(ctx context.Context, network string, server netip.AddrPort, packet []byte, id uint16, question dnsmessage.Question) ([]byte, dnsmessage.Message, error) {
	var none dnsmessage.Message
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, network, server.String())
	if err != nil {
		return nil, none, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if network == "tcp" {
		packet = append(binary.BigEndian.AppendUint16(nil, uint16(len(packet))), packet...)
	}
	if _, err := conn.Write(packet); err != nil {
		return nil, none, because(ctx, err)
	}
	buf := make([]byte, 65535)
	for {
		var n int
		if network == "tcp" {
			var size [2]byte
			if _, err := io.ReadFull(conn, size[:]); err != nil {
				return nil, none, because(ctx, err)
			}
			n = int(binary.BigEndian.Uint16(size[:]))
			if _, err := io.ReadFull(conn, buf[:n]); err != nil {
				return nil, none, because(ctx, err)
			}
		} else if n, err = conn.Read(buf); err != nil {
			return nil, none, because(ctx, err)
		}
		var m dnsmessage.Message
		err := m.Unpack(buf[:n])
		// Another's answer, or a forged one: wait for ours (RFC 5452 §9.1).
		ours := err == nil && m.ID == id && m.Response && len(m.Questions) == 1 && m.Questions[0].Type == question.Type &&
			strings.EqualFold(m.Questions[0].Name.String(), question.Name.String())
		if ours {
			return append([]byte(nil), buf[:n]...), m, nil
		}
		if network == "tcp" {
			return nil, none, errors.New("the answer is to another question")
		}
	}
}

// because tells the context's reason where a closed connection would.
func because(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}
