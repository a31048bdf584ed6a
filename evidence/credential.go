package evidence

import (
	"bytes"
	"math/big"
	"strings"
)

// MaxCertificate is the longest validity of a member's certificate in seconds,
// 400 days: a year, and time to renew in.
const MaxCertificate = 400 * 24 * 60 * 60

// Passkey is the content of a TypePasskey statement: the CA institution that
// enrolled a member says that this WebAuthn credential is hers. A passkey signs
// no statements; it confirms acts inside manifests (Assertion).
type Passkey struct {
	Member       string     // as in Enrolment
	Key          *PublicKey // Ed25519 or P-256
	Credential   Digest     // SHA-256 of the credential id
	RelyingParty string     // RP ID, a lower-case domain (WebAuthn Level 3 §5.4.2)
	Demo         bool       // as in Enrolment
}

// Encode returns the content in deterministic CBOR.
func (p *Passkey) Encode() []byte {
	b := appendHead(nil, majorMap, 5)
	b = appendText(appendInt(b, 1), p.Member)
	b = appendBytes(appendInt(b, 2), p.Key.DER())
	b = appendBytes(appendInt(b, 3), p.Credential[:])
	b = appendText(appendInt(b, 4), p.RelyingParty)
	demo := int64(0)
	if p.Demo {
		demo = 1
	}
	return appendInt(appendInt(b, 5), demo)
}

// ParsePasskey reads the content of a TypePasskey statement. A key that is
// refused gives a *FormatError with CodeBadKey.
func ParsePasskey(content []byte) (*Passkey, error) {
	c := &cursor{data: content}
	p := new(Passkey)
	c.fields("passkey", 5)
	c.field("passkey", 1)
	p.Member = c.member("passkey.member")
	c.field("passkey", 2)
	der := c.bytes("passkey.key")
	c.field("passkey", 3)
	p.Credential = c.digest("passkey.credential")
	c.field("passkey", 4)
	p.RelyingParty = string(c.text("passkey.relying-party"))
	if c.err == nil && !validRelyingParty(p.RelyingParty) {
		c.fail(CodeMalformed, "passkey.relying-party", "want a domain name of lower-case letters, digits, '-' and '.', such as portal.example")
	}
	c.field("passkey", 5)
	p.Demo = c.flag("passkey.demo")
	c.end("passkey")
	if c.err == nil {
		key, err := ParsePublicKey(der)
		switch {
		case err != nil:
			c.fail(CodeBadKey, "passkey.key", "%v", err)
		case key.Algorithm() == SM2SM3:
			c.fail(CodeBadKey, "passkey.key", "a passkey is an Ed25519 or a P-256 key")
		}
		p.Key = key
	}
	return p, c.error()
}

// validRelyingParty: a domain in the form that browsers compare (WebAuthn
// Level 3 §5.1.3): labels of RFC 1123 in lower case, no port, no final dot, and
// no address, which a browser takes for no RP ID.
func validRelyingParty(s string) bool {
	if len(s) == 0 || len(s) > 253 {
		return false
	}
	digits := true
	for label := range strings.SplitSeq(s, ".") {
		if len(label) == 0 || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		digits = true
		for i := range len(label) {
			c := label[i]
			if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-') {
				return false
			}
			digits = digits && c >= '0' && c <= '9'
		}
	}
	return !digits // 127.0.0.1 ends in digits alone
}

// Certificate is the content of a TypeCertificate statement: the CA institution
// that enrolled a member's key issued this X.509 certificate for it. A key with
// certificates registers nothing after the last of them has ended.
type Certificate struct {
	KID       Digest // of the enrolled key
	Serial    []byte // contents of the INTEGER, RFC 5280 §4.1.2.2: 1 to 20 bytes, positive, minimal (CertificateSerial)
	NotBefore int64  // seconds since 1970, included
	NotAfter  int64  // seconds since 1970, included; at most MaxCertificate after NotBefore
	SHA256    Digest // of the DER
}

// CertificateSerial returns the contents of the DER INTEGER n, which has to be
// positive: the form that Certificate.Serial has.
func CertificateSerial(n *big.Int) []byte {
	b := n.Bytes()
	if len(b) > 0 && b[0] >= 0x80 {
		return append([]byte{0}, b...)
	}
	return b
}

// Encode returns the content in deterministic CBOR.
func (c *Certificate) Encode() []byte {
	b := appendHead(nil, majorMap, 5)
	b = appendBytes(appendInt(b, 1), c.KID[:])
	b = appendBytes(appendInt(b, 2), c.Serial)
	b = appendInt(appendInt(b, 3), c.NotBefore)
	b = appendInt(appendInt(b, 4), c.NotAfter)
	return appendBytes(appendInt(b, 5), c.SHA256[:])
}

// ParseCertificate reads the content of a TypeCertificate statement.
func ParseCertificate(content []byte) (*Certificate, error) {
	c := &cursor{data: content}
	cert := new(Certificate)
	c.fields("certificate", 5)
	c.field("certificate", 1)
	cert.KID = c.digest("certificate.kid")
	c.field("certificate", 2)
	cert.Serial = bytes.Clone(c.bytes("certificate.serial"))
	if c.err == nil && !validSerial(cert.Serial) {
		c.fail(CodeMalformed, "certificate.serial", "want the 1 to 20 bytes of a positive INTEGER in DER")
	}
	c.field("certificate", 3)
	cert.NotBefore = c.seconds("certificate.not-before")
	c.field("certificate", 4)
	cert.NotAfter = c.seconds("certificate.not-after")
	if c.err == nil && (cert.NotAfter < cert.NotBefore || cert.NotAfter-cert.NotBefore > MaxCertificate) {
		c.fail(CodeMalformed, "certificate.not-after", "it is valid for %d seconds, want 0 to %d (400 days)", cert.NotAfter-cert.NotBefore, MaxCertificate)
	}
	c.field("certificate", 5)
	cert.SHA256 = c.digest("certificate.sha256")
	c.end("certificate")
	return cert, c.error()
}

func validSerial(s []byte) bool {
	switch {
	case len(s) == 0 || len(s) > 20 || s[0] >= 0x80:
		return false
	case s[0] == 0:
		return len(s) > 1 && s[1] >= 0x80
	}
	return true
}

// member reads the id of a member.
func (c *cursor) member(field string) string {
	s := string(c.text(field))
	if c.err == nil && (!validID(s) || !strings.HasPrefix(s, "m:") || len(s) < 3) {
		c.fail(CodeMalformed, field, `want "m:" and up to 62 characters of a-z, 0-9, '-', '.' and ':'`)
	}
	return s
}

// flag reads 0 or 1.
func (c *cursor) flag(field string) bool {
	n := c.uint(field)
	if n > 1 {
		c.fail(CodeMalformed, field, "%d is not 0 or 1", n)
	}
	return n == 1
}
