package proxy

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// Spellings of inner addresses, and names that are no names of the public
// network. None of them may lead to a dial.
func TestGuardTable(t *testing.T) {
	refused := []string{
		"127.0.0.1", "127.0.0.2", "127.255.255.254", "0.0.0.0", "0.1.2.3", "127.0.0.1.",
		"0x7f000001", "0X7F000001", "2130706433", "127.1", "127.0.1", "0177.0.0.1", "0177.1", "00000177.0.0.1", "0x7f.0.0.1", "0x7f.1", "127.0.0.0x1", "017700000001",
		"0", "0x0", "0x", "1.2.3", "1.2.3.4.5", "256.1.1.1", "01.02.03.04", "8.8.8.08", "4294967295", "99999999999",
		"10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "100.100.100.200", "100.127.255.255",
		"169.254.169.254", "169.254.0.1", "0xa9fea9fe", "2852039166", "0251.0376.0251.0376", "169.254.43518", "192.0.0.192", "168.63.129.16",
		"192.0.2.1", "198.51.100.7", "203.0.113.9", "198.18.0.1", "198.19.255.255", "192.88.99.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
		"[::1]", "::1", "[0:0:0:0:0:0:0:1]", "[0000:0000:0000:0000:0000:0000:0000:0001]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::FFFF:8.8.8.8]", "[0:0:0:0:0:ffff:10.0.0.1]",
		"[::127.0.0.1]", "[::7f00:1]", "[64:ff9b::7f00:1]", "[64:ff9b::169.254.169.254]", "[64:ff9b:1::a00:1]", "[2002:7f00:1::]", "[2002:a9fe:a9fe::1]", "[2001:0:1::1]", "[2001:db8::1]",
		"[fe80::1]", "[fe80::1%25eth0]", "[fe80::1%eth0]", "[fec0::1]", "[fc00::1]", "[fd00:ec2::254]", "[ff02::1]", "[3fff::1]", "[4000::1]", "[100::1]", "[5f00::1]", "[::ffff:0:127.0.0.1]",
		"localhost", "LOCALHOST", "localhost.", "a.localhost", "x.y.localhost.", "localhost.localdomain", "printer", "printer.local", "router.home.arpa", "metadata.google.internal", "abc.onion", "x.alt",
		"", ".", "..", "a..b", ".a.b", "a.b..", "exa mple.com", "example.com/x", "user@example.com", "example.com\\x", "例子.cn", "１２７.0.0.1", "127。0。0。1", "ⓛocalhost", "%31%32%37.0.0.1", "a%2eb", "[127.0.0.1]", "[example.com]", "[::1", "::1]", "a:b",
		strings.Repeat("a", 64) + ".com", strings.Repeat("a.", 130) + "com",
	}
	for _, host := range refused {
		name, addr, err := CheckHost(host)
		var f *Failure
		if !errors.As(err, &f) || f.Code != CodeRefusedAddress && f.Code != CodeRefusedHost {
			t.Errorf("%q passes as %q %v: %v", host, name, addr, err)
		}
	}
	allowed := map[string]string{
		"example.com": "example.com", "EXAMPLE.com.": "example.com", "xn--fsqu00a.xn--0zwm56d": "xn--fsqu00a.xn--0zwm56d", "a_b.example.com": "a_b.example.com", "1.example.com": "1.example.com",
		"0x7f.example.com": "0x7f.example.com", "127.0.0.1.example.com": "127.0.0.1.example.com", "nic.0xyz": "nic.0xyz",
		"8.8.8.8": "8.8.8.8", "1.1.1.1.": "1.1.1.1", "[2606:4700:4700::1111]": "2606:4700:4700::1111", "2400:3200::1": "2400:3200::1", "126.255.255.255": "126.255.255.255", "128.0.0.1": "128.0.0.1",
		"11.0.0.1": "11.0.0.1", "172.15.255.255": "172.15.255.255", "172.32.0.1": "172.32.0.1", "100.63.255.255": "100.63.255.255", "100.128.0.1": "100.128.0.1", "169.253.0.1": "169.253.0.1", "223.255.255.255": "223.255.255.255",
	}
	for host, want := range allowed {
		if name, _, err := CheckHost(host); err != nil || name != want {
			t.Errorf("%q is %q, %v", host, name, err)
		}
	}
}

// watched counts what reaches a listener on loopback: nothing may.
func watched(t *testing.T) netip.AddrPort {
	return origin(t, nil, func(c net.Conn, _ *bufio.Reader) {
		t.Error("a connection reached loopback")
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret")
	})
}

// Through the proxy: by absolute form, by tunnel, by name, after a redirect.
func TestGuardThroughProxy(t *testing.T) {
	inner := watched(t)
	loop, public := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("203.0.114.1")
	mapped := netip.MustParseAddr("::ffff:127.0.0.1")
	table := &names{table: map[string][][]netip.Addr{
		"inner.example.com":  {{loop}},
		"mixed.example.com":  {{public, loop}},
		"mixed2.example.com": {{loop, public}},
		"mapped.example.com": {{mapped}},
		"meta.example.com":   {{netip.MustParseAddr("169.254.169.254")}},
		"empty.example.com":  {{}},
	}}
	w := newWorld(t, Config{Resolver: table, Ports: []uint16{80, 443, inner.Port()}})
	cases := map[string]string{
		"127.0.0.1": CodeRefusedAddress, "0x7f000001": CodeRefusedAddress, "2130706433": CodeRefusedAddress, "127.1": CodeRefusedAddress, "0177.0.0.1": CodeRefusedAddress,
		"[::ffff:127.0.0.1]": CodeRefusedAddress, "[::1]": CodeRefusedAddress, "localhost": CodeRefusedHost, "localhost.": CodeRefusedHost, "127.0.0.1.": CodeRefusedAddress, "169.254.169.254": CodeRefusedAddress,
		"inner.example.com": CodeRefusedAddress, "mixed.example.com": CodeRefusedAddress, "mixed2.example.com": CodeRefusedAddress, "mapped.example.com": CodeRefusedAddress, "meta.example.com": CodeRefusedAddress,
		"empty.example.com": CodeResolve, "none.example.com": CodeResolve, "u@127.0.0.1": CodeRefusedHost, "example.com@127.0.0.1": CodeRefusedHost,
	}
	port := inner.String()[strings.LastIndexByte(inner.String(), ':'):]
	for host, code := range cases {
		for _, form := range []string{"absolute", "tunnel"} {
			t.Run(host+" "+form, func(t *testing.T) {
				before := len(connections(w.m.wait(t, func([]Exchange) bool { return true })))
				var answer string
				if form == "tunnel" {
					_, answer = w.tunnel(host + port)
				} else {
					b := w.dial()
					b.say("GET http://" + host + port + "/ HTTP/1.1\r\nHost: " + host + port + "\r\n\r\n")
					answer = b.rest()
				}
				if !strings.Contains(answer, "Zhenglian-Proxy: "+code+"\r\n") {
					t.Errorf("the browser read %.300q", answer)
				}
				if form == "tunnel" || !strings.Contains(host, "@") { // that is refused before there is a connection
					list := connections(w.m.wait(t, func(l []Exchange) bool { return len(connections(l)) > before }))
					if last := list[len(list)-1]; last.Code != code || last.Conn.Remote.IsValid() {
						t.Errorf("recorded %q %q, dialled %s", last.Code, last.Error, last.Conn.Remote)
					}
				}
			})
		}
	}
}

// A name that is public when it is asked for first and inner afterwards: each
// connection asks once and dials what it looked at.
func TestRebinding(t *testing.T) {
	inner := watched(t)
	table := &names{table: map[string][][]netip.Addr{"rebind.example.com": {
		{netip.MustParseAddr("8.8.8.8"), netip.MustParseAddr("10.0.0.1")}, {netip.MustParseAddr("127.0.0.1")},
	}}}
	w := newWorld(t, Config{Resolver: table, Ports: []uint16{inner.Port()}})
	for range 2 {
		if _, answer := w.tunnel("rebind.example.com" + inner.String()[len("127.0.0.1"):]); !strings.HasPrefix(answer, "HTTP/1.1 403 ") {
			t.Errorf("%q", answer)
		}
	}
	list := w.m.wait(t, func(l []Exchange) bool { return len(connections(l)) == 2 })
	for i, want := range []string{"10.0.0.1", "127.0.0.1"} {
		c := connections(list)[i]
		if !strings.Contains(c.Error, want) || c.Conn.DNS == nil || len(c.Conn.DNS.Records) == 0 || c.Conn.Remote.IsValid() {
			t.Errorf("recorded %q, %+v", c.Error, c.Conn)
		}
	}
}

func TestPorts(t *testing.T) {
	w := newWorld(t, Config{})
	for _, authority := range []string{"8.8.8.8:22", "8.8.8.8:8080", "8.8.8.8:25", "8.8.8.8:0", "8.8.8.8:65536", "8.8.8.8:-1", "8.8.8.8:+80", "8.8.8.8:", "8.8.8.8"} {
		if _, answer := w.tunnel(authority); !strings.Contains(answer, "Zhenglian-Proxy: "+CodeRefusedPort) {
			t.Errorf("%s: %q", authority, answer)
		}
	}
}

// An exception is for one host and port, and is reported.
func TestExceptions(t *testing.T) {
	to, _ := says(t, nil, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
	w := newWorld(t, Config{Exceptions: exception("site.test", 80, to)})
	for _, authority := range []string{"127.0.0.1" + to.String()[len("127.0.0.1"):], "site.test:443", "www.site.test:80", "localhost:80"} {
		if _, answer := w.tunnel(authority); strings.HasPrefix(answer, "HTTP/1.1 200 ") {
			t.Errorf("%s is reached", authority)
		}
	}
	b := w.dial()
	b.say("GET http://site.test/ HTTP/1.1\r\nHost: site.test\r\n\r\n")
	b.rest()
	e := ended(w.m.wait(t, ends(1)))[0]
	want := "site.test:80 → " + to.String()
	if e.Conn.Exception != want || e.Conn.Remote != to || len(w.p.Exceptions()) != 1 || w.p.Exceptions()[0] != want {
		t.Errorf("recorded %q, reported %q", e.Conn.Exception, w.p.Exceptions())
	}
}

// dnsServer answers on loopback over UDP and TCP.
func dnsServer(t *testing.T, answer func(q dnsmessage.Message, tcp bool) []dnsmessage.Message) netip.AddrPort {
	t.Helper()
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := net.Listen("tcp", udp.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	reply := func(packet []byte, tcp bool) (out [][]byte) {
		var q dnsmessage.Message
		if q.Unpack(packet) != nil {
			return nil
		}
		for _, m := range answer(q, tcp) {
			raw, err := m.Pack()
			if err != nil {
				t.Error(err)
			}
			out = append(out, raw)
		}
		return out
	}
	done := make(chan struct{}, 2)
	go func() {
		defer func() { done <- struct{}{} }()
		buf := make([]byte, 4096)
		for {
			n, from, err := udp.ReadFrom(buf)
			if err != nil {
				return
			}
			for _, raw := range reply(buf[:n], false) {
				udp.WriteTo(raw, from)
			}
		}
	}()
	go func() {
		defer func() { done <- struct{}{} }()
		for {
			c, err := tcp.Accept()
			if err != nil {
				return
			}
			var size [2]byte
			io.ReadFull(c, size[:])
			packet := make([]byte, binary.BigEndian.Uint16(size[:]))
			io.ReadFull(c, packet)
			for _, raw := range reply(packet, true) {
				c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(raw))), raw...))
			}
			c.Close()
		}
	}()
	t.Cleanup(func() { udp.Close(); tcp.Close(); <-done; <-done })
	return udp.LocalAddr().(*net.UDPAddr).AddrPort()
}

// All records with their TTLs, from the messages themselves; forged answers are
// waited out; a cut answer is asked for again over TCP.
func TestDNS(t *testing.T) {
	name, alias := dnsmessage.MustNewName("www.example.com."), dnsmessage.MustNewName("edge.example.net.")
	server := dnsServer(t, func(q dnsmessage.Message, tcp bool) []dnsmessage.Message {
		m := dnsmessage.Message{Header: dnsmessage.Header{ID: q.ID, Response: true, RecursionAvailable: true}, Questions: q.Questions}
		if strings.HasPrefix(q.Questions[0].Name.String(), "nx.") {
			m.RCode = dnsmessage.RCodeNameError
			return []dnsmessage.Message{m}
		}
		forged := m
		forged.ID++
		forged.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}, Body: &dnsmessage.AResource{A: [4]byte{6, 6, 6, 6}}}}
		if q.Questions[0].Type == dnsmessage.TypeAAAA {
			if !tcp {
				m.Truncated = true
				return []dnsmessage.Message{m}
			}
			m.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: alias, Type: dnsmessage.TypeAAAA, Class: dnsmessage.ClassINET, TTL: 7}, Body: &dnsmessage.AAAAResource{AAAA: netip.MustParseAddr("2606:4700::1").As16()}}}
			return []dnsmessage.Message{m}
		}
		m.Answers = []dnsmessage.Resource{
			{Header: dnsmessage.ResourceHeader{Name: name, Type: dnsmessage.TypeCNAME, Class: dnsmessage.ClassINET, TTL: 300}, Body: &dnsmessage.CNAMEResource{CNAME: alias}},
			{Header: dnsmessage.ResourceHeader{Name: alias, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET, TTL: 60}, Body: &dnsmessage.AResource{A: [4]byte{1, 2, 3, 4}}},
			{Header: dnsmessage.ResourceHeader{Name: alias, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET, TTL: 60}, Body: &dnsmessage.AResource{A: [4]byte{1, 2, 3, 5}}},
		}
		return []dnsmessage.Message{forged, m}
	})
	d := DNS{Servers: []netip.AddrPort{server}, Timeout: 20 * time.Second}
	a, addrs, err := d.Resolve(context.Background(), "www.example.com")
	if err != nil {
		t.Fatal(err)
	}
	want := []DNSRecord{
		{"www.example.com", "CNAME", 300, "edge.example.net"}, {"edge.example.net", "A", 60, "1.2.3.4"}, {"edge.example.net", "A", 60, "1.2.3.5"}, {"edge.example.net", "AAAA", 7, "2606:4700::1"},
	}
	if len(a.Records) != len(want) || len(a.Raw) != 2 || a.Resolver != server.String() || len(addrs) != 3 {
		t.Fatalf("%+v, %v", a, addrs)
	}
	for i := range want {
		if a.Records[i] != want[i] {
			t.Errorf("record %d is %+v", i, a.Records[i])
		}
	}
	if _, _, err := d.Resolve(context.Background(), "nx.example.com"); err == nil || !strings.Contains(err.Error(), "NameError") {
		t.Errorf("a name that is not there: %v", err)
	}
	if _, _, err := (DNS{}).Resolve(context.Background(), "a.example.com"); err == nil {
		t.Error("no server, and no error")
	}
}
