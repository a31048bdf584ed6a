package evidence

import (
	"bytes"
	"fmt"
	"unicode/utf8"
)

// Deterministic CBOR (RFC 8949 §4.2.1), the small part of it that statements
// and receipts use. Our own reader, because the chain must accept exactly one
// byte string for one meaning and a general decoder accepts many.

const (
	majorUint  = 0
	majorNint  = 1
	majorBytes = 2
	majorText  = 3
	majorArray = 4
	majorMap   = 5
	majorTag   = 6
)

func appendHead(b []byte, major byte, n uint64) []byte {
	m := major << 5
	switch {
	case n < 24:
		return append(b, m|byte(n))
	case n < 1<<8:
		return append(b, m|24, byte(n))
	case n < 1<<16:
		return append(b, m|25, byte(n>>8), byte(n))
	case n < 1<<32:
		return append(b, m|26, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}
	return append(b, m|27, byte(n>>56), byte(n>>48), byte(n>>40), byte(n>>32), byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
}

func appendInt(b []byte, v int64) []byte {
	if v < 0 {
		return appendHead(b, majorNint, uint64(-1-v))
	}
	return appendHead(b, majorUint, uint64(v))
}

func appendBytes(b, v []byte) []byte { return append(appendHead(b, majorBytes, uint64(len(v))), v...) }
func appendText(b []byte, v string) []byte {
	return append(appendHead(b, majorText, uint64(len(v))), v...)
}

// cursor reads deterministic CBOR from left to right. The first error sticks
// and every later read returns zero values.
type cursor struct {
	data []byte
	pos  int
	err  *FormatError
}

func (c *cursor) fail(code Code, field, format string, args ...any) {
	if c.err == nil {
		c.err = &FormatError{Code: code, Field: field, Offset: c.pos, Reason: fmt.Sprintf(format, args...)}
	}
}

// head reads one initial byte with its argument in the shortest form.
func (c *cursor) head(field string) (major byte, n uint64) {
	if c.err != nil {
		return 0, 0
	}
	if c.pos >= len(c.data) {
		c.fail(CodeMalformed, field, "the bytes end here")
		return 0, 0
	}
	ib := c.data[c.pos]
	major, info := ib>>5, ib&31
	if info < 24 {
		c.pos++
		return major, uint64(info)
	}
	if info > 27 {
		c.fail(CodeNotDeterministic, field, "indefinite length or reserved value 0x%02x", ib)
		return 0, 0
	}
	size := 1 << (info - 24)
	if len(c.data)-c.pos-1 < size {
		c.fail(CodeMalformed, field, "the bytes end within a length")
		return 0, 0
	}
	for _, x := range c.data[c.pos+1 : c.pos+1+size] {
		n = n<<8 | uint64(x)
	}
	if (size == 1 && n < 24) || (size > 1 && n>>(4*size) == 0) {
		c.fail(CodeNotDeterministic, field, "the number %d is not in its shortest form", n)
		return 0, 0
	}
	c.pos += 1 + size
	return major, n
}

func (c *cursor) expect(field string, want byte, kind string) uint64 {
	at := c.pos
	major, n := c.head(field)
	if c.err == nil && major != want {
		c.pos = at
		c.fail(CodeMalformed, field, "expected %s", kind)
		return 0
	}
	return n
}

func (c *cursor) uint(field string) uint64   { return c.expect(field, majorUint, "an unsigned integer") }
func (c *cursor) array(field string) uint64  { return c.expect(field, majorArray, "an array") }
func (c *cursor) mapLen(field string) uint64 { return c.expect(field, majorMap, "a map") }

func (c *cursor) int(field string) int64 {
	at := c.pos
	major, n := c.head(field)
	if c.err != nil {
		return 0
	}
	if major > majorNint || n > 1<<63-1 {
		c.pos = at
		c.fail(CodeMalformed, field, "expected an integer of at most 63 bits")
		return 0
	}
	if major == majorNint {
		return -1 - int64(n)
	}
	return int64(n)
}

func (c *cursor) take(field string, n uint64) []byte {
	if c.err != nil {
		return nil
	}
	if n > uint64(len(c.data)-c.pos) {
		c.fail(CodeMalformed, field, "a string of %d bytes, but %d are left", n, len(c.data)-c.pos)
		return nil
	}
	v := c.data[c.pos : c.pos+int(n) : c.pos+int(n)]
	c.pos += int(n)
	return v
}

func (c *cursor) bytes(field string) []byte {
	return c.take(field, c.expect(field, majorBytes, "a byte string"))
}

func (c *cursor) text(field string) []byte {
	v := c.take(field, c.expect(field, majorText, "a text string"))
	if c.err == nil && !utf8.Valid(v) {
		c.fail(CodeMalformed, field, "the text is not UTF-8")
	}
	return v
}

func (c *cursor) digest(field string) (d Digest) {
	v := c.bytes(field)
	if c.err == nil && len(v) != len(d) {
		c.fail(CodeMalformed, field, "a digest of %d bytes, want 32", len(v))
		return d
	}
	copy(d[:], v)
	return d
}

// algorithm reads a signature algorithm that a statement or receipt may name.
func (c *cursor) algorithm(field string) Algorithm {
	at := c.pos
	a := Algorithm(c.int(field))
	if c.err == nil && a != EdDSA && a != ES256 && a != SM2SM3 {
		c.pos = at
		c.fail(CodeWrongAlgorithm, field, "%d is none of -8 (EdDSA), -7 (ES256), %d (SM2-with-SM3)", int64(a), int64(SM2SM3))
	}
	return a
}

// id reads the id of a member or an institution.
func (c *cursor) id(field string) string {
	at := c.pos
	s := string(c.text(field))
	if c.err == nil && !validID(s) {
		c.pos = at
		c.fail(CodeMalformed, field, "want 1 to 64 characters of a-z, 0-9, '-', '.' and ':'")
	}
	return s
}

// size reads a number of entries of the log or a position in it: 63 bits, which
// is what other readers of CBOR and of checkpoints can hold.
func (c *cursor) size(field string) uint64 {
	at := c.pos
	v := c.uint(field)
	if v > 1<<63-1 {
		c.pos = at
		c.fail(CodeMalformed, field, "%d is more than any log holds", v)
		return 0
	}
	return v
}

// seconds reads a time in seconds since 1970.
func (c *cursor) seconds(field string) int64 {
	at := c.pos
	v := c.uint(field)
	if v > maxTime {
		c.pos = at
		c.fail(CodeMalformed, field, "%d is not in seconds since 1970", v)
		return 0
	}
	return int64(v)
}

// literal requires exactly these bytes.
func (c *cursor) literal(field string, want ...byte) {
	if c.err != nil {
		return
	}
	if !bytes.HasPrefix(c.data[c.pos:], want) {
		if len(c.data)-c.pos < len(want) && bytes.HasPrefix(want, c.data[c.pos:]) {
			c.fail(CodeMalformed, field, "the bytes end here")
			return
		}
		c.fail(CodeMalformed, field, "expected % x", want)
		return
	}
	c.pos += len(want)
}

// end requires that nothing is left.
func (c *cursor) end(field string) {
	if c.err == nil && c.pos != len(c.data) {
		c.fail(CodeMalformed, field, "%d bytes follow the end", len(c.data)-c.pos)
	}
}

// key reads a map key and requires bytewise ascending order of the encodings.
func (c *cursor) key(field string, last *[]byte) int64 {
	at := c.pos
	k := c.int(field)
	if c.err != nil {
		return 0
	}
	enc := c.data[at:c.pos]
	if *last != nil && bytes.Compare(*last, enc) >= 0 {
		c.pos = at
		c.fail(CodeNotDeterministic, field, "label %d is out of order or stands twice", k)
		return 0
	}
	*last = enc
	return k
}

func (c *cursor) error() error {
	if c.err == nil {
		return nil
	}
	return c.err
}
