package main

import (
	"bytes"
	"fmt"
	"strings"
)

// Passkeys and certificates of the registry.

const (
	typePasskey     = "application/vnd.zhenglian.member-passkey+cbor"
	typeCertificate = "application/vnd.zhenglian.key-certificate+cbor"

	day = 24 * 60 * 60
)

func passkey(member string, der []byte, site string, demo int64) fields {
	return fields{{num(1), tstr(member)}, {num(2), bstr(der)}, {num(3), bstr(sum("a credential id"))}, {num(4), tstr(site)}, {num(5), num(demo)}}
}

func certificate(kid, serial []byte, from, until int64, der string) fields {
	return fields{{num(1), bstr(kid)}, {num(2), bstr(serial)}, {num(3), num(from)}, {num(4), num(until)}, {num(5), bstr(sum(der))}}
}

// credentialStatements are valid statements of the two kinds.
func (c *cast) credentialStatements() []*statement {
	registry := func(name, ctype string, payload fields) *statement {
		return &statement{name: name, key: c.ca, iss: "ca", sub: "registry", iat: iat + 3, ctype: ctype, payload: payload.encode()}
	}
	return []*statement{
		registry("passkey, P-256", typePasskey, passkey("m:alice", c.bob.der, "portal.example", 0)),
		registry("passkey, Ed25519, of a demonstration on one's own machine", typePasskey, passkey("m:alice", c.eve.der, "localhost", 1)),
		registry("certificate", typeCertificate, certificate(c.alice.kid(), []byte{0x12, 0x67}, iat, iat+365*day, "a certificate")),
		registry("certificate with the longest serial number and validity", typeCertificate, certificate(c.alice.kid(), bytes.Repeat([]byte{0x7f}, 20), iat, iat+400*day, "another")),
	}
}

// credentialContents are contents of the two kinds, good and bad.
func credentialContents(c *cast) []contentVector {
	var out []contentVector
	add := func(kind, name string, b []byte, code, field string) {
		out = append(out, contentVector{name, kind, fmt.Sprintf("%x", b), code, field})
	}
	p := passkey("m:alice", c.bob.der, "portal.example", 0)
	pk := func(name string, f fields, code, field string) { add("passkey", name, f.encode(), code, field) }
	pk("P-256", p, "ok", "")
	pk("Ed25519", p.with(2, bstr(c.alice.der)), "ok", "")
	pk("SM2", p.with(2, bstr(c.recorder.der)), "bad-key", "passkey.key")
	pk("key empty", p.with(2, bstr(nil)), "bad-key", "passkey.key")
	pk("key of small order", p.with(2, bstr(derEd25519(make([]byte, 32)))), "bad-key", "passkey.key")
	pk("an institution's id for the member", p.with(1, tstr("ca")), malformed, "passkey.member")
	pk("member of its prefix alone", p.with(1, tstr("m:")), malformed, "passkey.member")
	pk("credential of 31 bytes", p.with(3, bstr(make([]byte, 31))), malformed, "passkey.credential")
	for _, site := range []string{"localhost", "a", "x--y.example", "1.2.3.a", strings.Repeat("a", 63) + ".example"} {
		pk("site "+site, p.with(4, tstr(site)), "ok", "")
	}
	for _, site := range []string{"", "Portal.example", "portal.example.", ".example", "portal..example", "portal.example:8443", "https://portal.example", "-a.example", "a-.example", "a_b.example",
		"127.0.0.1", "[::1]", "法院.example", "a b", strings.Repeat("a", 64) + ".example", strings.Repeat("a.", 127) + "a"} {
		code, field := malformed, "passkey.relying-party"
		if site == strings.Repeat("a.", 127)+"a" { // 255 characters
			pk("site of 255 characters", p.with(4, tstr(site)), code, field)
			continue
		}
		pk(fmt.Sprintf("site %q", site), p.with(4, tstr(site)), code, field)
	}
	pk("site is bytes", p.with(4, bstr([]byte("portal.example"))), malformed, "passkey.relying-party")
	pk("demo 2", p.with(5, num(2)), malformed, "passkey.demo")
	pk("a sixth field", p.add(0, num(6), num(0)), malformed, "passkey")
	pk("four fields", p.without(5), malformed, "passkey")
	pk("key before member", p.swap(1, 2), malformed, "passkey")
	add("passkey", "a byte after it", cat(p.encode(), []byte{0}), malformed, "passkey")

	k := certificate(c.alice.kid(), []byte{1}, iat, iat+365*day, "a certificate")
	cert := func(name string, f fields, code, field string) { add("certificate", name, f.encode(), code, field) }
	cert("of a year", k, "ok", "")
	cert("of one second", k.with(4, num(iat)), "ok", "")
	cert("of 400 days", k.with(4, num(iat+400*day)), "ok", "")
	cert("of 400 days and a second", k.with(4, num(iat+400*day+1)), malformed, "certificate.not-after")
	cert("that ends before it begins", k.with(4, num(iat-1)), malformed, "certificate.not-after")
	cert("that begins after the year 9999", k.with(3, num(253402300800)), malformed, "certificate.not-before")
	cert("that begins before 1970", k.with(3, num(-1)), malformed, "certificate.not-before")
	cert("kid of 31 bytes", k.with(1, bstr(make([]byte, 31))), malformed, "certificate.kid")
	cert("digest of 20 bytes", k.with(5, bstr(make([]byte, 20))), malformed, "certificate.sha256")
	for _, s := range []struct {
		name   string
		serial []byte
		ok     bool
	}{
		{"of 20 bytes", bytes.Repeat([]byte{0x7f}, 20), true}, {"whose top bit a zero keeps positive", []byte{0, 0x80}, true},
		{"empty", nil, false}, {"of 21 bytes", bytes.Repeat([]byte{0x7f}, 21), false}, {"zero", []byte{0}, false}, {"negative", []byte{0x80}, false}, {"with a needless zero", []byte{0, 0x7f}, false},
	} {
		code, field := "ok", ""
		if !s.ok {
			code, field = malformed, "certificate.serial"
		}
		cert("serial number "+s.name, k.with(2, bstr(s.serial)), code, field)
	}
	cert("serial number as a number", k.with(2, num(1)), malformed, "certificate.serial")
	cert("a sixth field", k.add(0, num(6), num(0)), malformed, "certificate")
	add("certificate", "a byte after it", cat(k.encode(), []byte{0}), malformed, "certificate")
	return out
}
