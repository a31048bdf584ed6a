package evidence

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

const (
	// maxJSONDepth bounds the recursion of the reader. The deepest document of
	// spec/ has six levels; 64 leaves room for free data and costs little stack.
	maxJSONDepth = 64
	// maxJSONValues bounds the memory a hostile text takes, about 100 bytes a
	// value. The largest document of spec/, the index of a package with every
	// entry it may have, holds under 800,000 values.
	maxJSONValues = 1 << 20
	// maxJSONInteger is the largest integer every JSON reader keeps exactly
	// (RFC 7493 §2.2): 2^53-1.
	maxJSONInteger = 1<<53 - 1
)

// JSONError says where a JSON text breaks the rules of spec/manifest.md, part 1.
type JSONError struct {
	Offset int    // byte offset in the text, from 0
	Path   string // where in the document, such as $.objects[3].name
	Code   string // stable word for programs and vectors, such as "duplicate-name"
	Reason string // one sentence for people
}

func (e *JSONError) Error() string {
	return fmt.Sprintf("%s at %s (byte %d)", e.Reason, e.Path, e.Offset)
}

// Canonicalize returns the RFC 8785 form of a JSON text. The text may be laid
// out freely, but only hold what this project's formats know: integers within
// ±(2^53-1) without fraction, exponent or minus zero, no name twice in one
// object, valid UTF-8 and no lone surrogate. Errors are *JSONError.
func Canonicalize(data []byte) ([]byte, error) {
	n, err := parseJSON(data)
	if err != nil {
		return nil, err
	}
	return n.append(make([]byte, 0, len(data))), nil
}

// requireCanonical parses data and refuses any other layout than the canonical
// one, naming the first byte that differs.
func requireCanonical(data []byte) (*jsonNode, error) {
	n, err := parseJSON(data)
	if err != nil {
		return nil, err
	}
	want := n.append(make([]byte, 0, len(data)))
	if bytes.Equal(want, data) {
		return n, nil
	}
	at := 0
	for at < len(want) && at < len(data) && want[at] == data[at] {
		at++
	}
	return nil, &JSONError{at, n.pathAt(at), "not-canonical",
		"the text is valid JSON but not in canonical form (RFC 8785: no blanks, names sorted, shortest strings)"}
}

// jsonNode is a parsed value. kind is one of { [ " 0 t f n.
type jsonNode struct {
	kind   byte
	begin  int // of the comma or name before the value, or of the value
	offset int // of the value's first byte
	end    int // after its last byte
	text   string
	names  []string // kind {: in canonical order, beside items
	items  []*jsonNode
}

func (n *jsonNode) member(name string) *jsonNode {
	if i, ok := slices.BinarySearchFunc(n.names, name, compareUTF16); ok {
		return n.items[i]
	}
	return nil
}

// pathAt names the innermost value that covers the byte at offset, a member's
// name and the comma before it counted with its value.
func (n *jsonNode) pathAt(offset int) string {
	path := "$"
next:
	for i, item := range n.items {
		if item.begin <= offset && offset < item.end {
			path += n.step(i)
			n = item
			goto next
		}
	}
	return path
}

func (n *jsonNode) step(i int) string {
	if n.kind == '[' {
		return "[" + strconv.Itoa(i) + "]"
	}
	return pathName(n.names[i])
}

// pathName writes .name, or ["name"] when the name is no plain word.
func pathName(name string) string {
	plain := name != ""
	for i := 0; i < len(name); i++ {
		c := name[i]
		plain = plain && (c == '_' || c == '-' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z')
	}
	if plain {
		return "." + name
	}
	if len(name) > 64 {
		name = name[:64] + "…"
	}
	return "[" + strconv.Quote(name) + "]"
}

func (n *jsonNode) append(b []byte) []byte {
	switch n.kind {
	case '{':
		b = append(b, '{')
		for i, name := range n.names {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(appendJSONString(b, name), ':')
			b = n.items[i].append(b)
		}
		return append(b, '}')
	case '[':
		b = append(b, '[')
		for i, item := range n.items {
			if i > 0 {
				b = append(b, ',')
			}
			b = item.append(b)
		}
		return append(b, ']')
	case '"':
		return appendJSONString(b, n.text)
	}
	return append(b, n.text...)
}

// appendJSONString follows RFC 8785 §3.2.2.2.
func appendJSONString(b []byte, s string) []byte {
	const hexDigits = "0123456789abcdef"
	b = append(b, '"')
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\b':
			b = append(b, '\\', 'b')
		case '\t':
			b = append(b, '\\', 't')
		case '\n':
			b = append(b, '\\', 'n')
		case '\f':
			b = append(b, '\\', 'f')
		case '\r':
			b = append(b, '\\', 'r')
		default:
			if c < 0x20 {
				b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
			} else {
				b = append(b, c)
			}
		}
	}
	return append(b, '"')
}

// compareUTF16 orders two valid UTF-8 strings by their UTF-16 code units
// (RFC 8785 §3.2.3). It differs from byte order only where a supplementary
// character (units from U+D800) meets one of U+E000 to U+FFFF.
func compareUTF16(a, b string) int {
	for a != "" && b != "" {
		ra, na := utf8.DecodeRuneInString(a)
		rb, nb := utf8.DecodeRuneInString(b)
		if ra != rb {
			if ha, hb := firstUnit(ra), firstUnit(rb); ha != hb {
				return int(ha) - int(hb)
			}
			return int(ra) - int(rb)
		}
		a, b = a[na:], b[nb:]
	}
	return len(a) - len(b)
}

func firstUnit(r rune) rune {
	if r < 0x10000 {
		return r
	}
	high, _ := utf16.EncodeRune(r)
	return high
}

// jsonReader is a strict single-pass reader.
type jsonReader struct {
	data []byte
	pos  int
	path []pathStep
	seen int // values so far
}

// pathStep is a member's name, or an element's index when name is nil.
type pathStep struct {
	name  *string
	index int
}

func parseJSON(data []byte) (*jsonNode, error) {
	r := &jsonReader{data: data}
	r.blank()
	n, err := r.value()
	if err != nil {
		return nil, err
	}
	if r.blank(); r.pos != len(data) {
		return nil, r.fail(r.pos, "syntax", "something follows the JSON value")
	}
	return n, nil
}

func (r *jsonReader) fail(offset int, code, reason string) error {
	path := []byte("$")
	for _, s := range r.path {
		if s.name != nil {
			path = append(path, pathName(*s.name)...)
		} else {
			path = append(strconv.AppendInt(append(path, '['), int64(s.index), 10), ']')
		}
	}
	return &JSONError{offset, string(path), code, reason}
}

func (r *jsonReader) blank() {
	for r.pos < len(r.data) {
		switch r.data[r.pos] {
		case ' ', '\t', '\n', '\r':
			r.pos++
		default:
			return
		}
	}
}

// peek returns the next byte, or 0 at the end (0 is no byte JSON allows).
func (r *jsonReader) peek() byte {
	if r.pos < len(r.data) {
		return r.data[r.pos]
	}
	return 0
}

func (r *jsonReader) unexpected(want string) error {
	if r.pos >= len(r.data) {
		return r.fail(r.pos, "syntax", "the text ends where "+want+" is expected")
	}
	return r.fail(r.pos, "syntax", fmt.Sprintf("found %q where %s is expected", r.data[r.pos:r.pos+1], want))
}

func (r *jsonReader) value() (*jsonNode, error) {
	n := &jsonNode{begin: r.pos, offset: r.pos, kind: r.peek()}
	if r.seen++; r.seen > maxJSONValues {
		return nil, r.fail(r.pos, "too-many", fmt.Sprintf("more than %d values in one document", maxJSONValues))
	}
	var err error
	switch n.kind {
	case '{', '[':
		if len(r.path) >= maxJSONDepth {
			return nil, r.fail(r.pos, "depth", fmt.Sprintf("more than %d levels of nesting", maxJSONDepth))
		}
		if n.kind == '{' {
			err = r.object(n)
		} else {
			err = r.array(n)
		}
	case '"':
		n.text, err = r.str()
	case 't':
		n.text, err = r.word("true")
	case 'f':
		n.text, err = r.word("false")
	case 'n':
		n.text, err = r.word("null")
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		n.kind = '0'
		n.text, err = r.number()
	default:
		err = r.unexpected("a value")
	}
	n.end = r.pos
	return n, err
}

func (r *jsonReader) word(w string) (string, error) {
	if !bytes.HasPrefix(r.data[r.pos:], []byte(w)) {
		return "", r.unexpected(w)
	}
	r.pos += len(w)
	return w, nil
}

func (r *jsonReader) number() (string, error) {
	start := r.pos
	if r.peek() == '-' {
		r.pos++
	}
	digits := r.pos
	for c := r.peek(); c >= '0' && c <= '9'; c = r.peek() {
		r.pos++
	}
	text := string(r.data[start:r.pos])
	switch {
	case r.pos == digits:
		return "", r.unexpected("a digit")
	case r.data[digits] == '0' && r.pos > digits+1:
		return "", r.fail(start, "syntax", "a number has a leading zero")
	case r.peek() == '.' || r.peek() == 'e' || r.peek() == 'E':
		return "", r.fail(start, "not-an-integer", "a number has a fraction or an exponent: write a plain integer, or text")
	case text == "-0":
		return "", r.fail(start, "not-an-integer", "minus zero is refused: write 0")
	}
	v, err := strconv.ParseInt(text, 10, 64)
	if err != nil || v > maxJSONInteger || v < -maxJSONInteger {
		return "", r.fail(start, "number-range", "an integer is beyond ±(2^53-1), which readers do not keep exactly: write it as text")
	}
	return text, nil
}

func (r *jsonReader) array(n *jsonNode) error {
	r.pos++
	if r.blank(); r.peek() == ']' {
		r.pos++
		return nil
	}
	for i := 0; ; i++ {
		r.path = append(r.path, pathStep{index: i})
		r.blank()
		item, err := r.value()
		if err != nil {
			return err
		}
		r.path = r.path[:len(r.path)-1]
		n.items = append(n.items, item)
		r.blank()
		switch r.peek() {
		case ',':
			r.pos++
		case ']':
			r.pos++
			return nil
		default:
			return r.unexpected("a comma or ]")
		}
	}
}

func (r *jsonReader) object(n *jsonNode) error {
	r.pos++
	if r.blank(); r.peek() == '}' {
		r.pos++
		return nil
	}
	type member struct {
		name   string
		offset int
		value  *jsonNode
	}
	var members []member
	for more := true; more; {
		begin := r.pos
		if len(members) > 0 {
			begin-- // the comma
		}
		r.blank()
		offset := r.pos
		if r.peek() != '"' {
			return r.unexpected("a name in quotes")
		}
		name, err := r.str()
		if err != nil {
			return err
		}
		r.path = append(r.path, pathStep{name: &name})
		if r.blank(); r.peek() != ':' {
			return r.unexpected("a colon")
		}
		r.pos++
		r.blank()
		item, err := r.value()
		if err != nil {
			return err
		}
		r.path = r.path[:len(r.path)-1]
		item.begin = begin
		members = append(members, member{name, offset, item})
		r.blank()
		switch r.peek() {
		case ',':
		case '}':
			more = false
		default:
			return r.unexpected("a comma or }")
		}
		r.pos++
	}
	slices.SortStableFunc(members, func(a, b member) int { return compareUTF16(a.name, b.name) })
	for i, m := range members {
		if i > 0 && m.name == members[i-1].name {
			r.path = append(r.path, pathStep{name: &m.name})
			return r.fail(m.offset, "duplicate-name", "a name stands twice in one object")
		}
		n.names = append(n.names, m.name)
		n.items = append(n.items, m.value)
	}
	return nil
}

func (r *jsonReader) str() (string, error) {
	r.pos++
	start := r.pos
	for r.pos < len(r.data) { // the common case: nothing to unescape
		c := r.data[r.pos]
		if c == '"' {
			s := string(r.data[start:r.pos])
			r.pos++
			return s, nil
		}
		if c < 0x20 || c == '\\' || c >= utf8.RuneSelf {
			break
		}
		r.pos++
	}
	b := append([]byte(nil), r.data[start:r.pos]...)
	for r.pos < len(r.data) {
		c := r.data[r.pos]
		switch {
		case c == '"':
			r.pos++
			return string(b), nil
		case c == '\\':
			ch, err := r.escape()
			if err != nil {
				return "", err
			}
			b = utf8.AppendRune(b, ch)
		case c < 0x20:
			return "", r.fail(r.pos, "syntax", "a control character stands unescaped in a string")
		case c < utf8.RuneSelf:
			b = append(b, c)
			r.pos++
		default:
			ch, size := utf8.DecodeRune(r.data[r.pos:])
			if ch == utf8.RuneError && size == 1 {
				return "", r.fail(r.pos, "invalid-utf8", "the text is not valid UTF-8: save it as UTF-8 (not GBK)")
			}
			b = append(b, r.data[r.pos:r.pos+size]...)
			r.pos += size
		}
	}
	return "", r.fail(r.pos, "syntax", "the text ends inside a string")
}

func (r *jsonReader) escape() (rune, error) {
	start := r.pos
	if r.pos+1 >= len(r.data) {
		return 0, r.fail(len(r.data), "syntax", "the text ends inside a string")
	}
	c := r.data[r.pos+1]
	r.pos += 2
	switch c {
	case '"', '\\', '/':
		return rune(c), nil
	case 'b':
		return '\b', nil
	case 'f':
		return '\f', nil
	case 'n':
		return '\n', nil
	case 'r':
		return '\r', nil
	case 't':
		return '\t', nil
	case 'u':
	default:
		return 0, r.fail(start, "syntax", "an unknown escape in a string")
	}
	unit, ok := r.hex4()
	if !ok {
		return 0, r.fail(start, "syntax", `\u is not followed by four hexadecimal digits`)
	}
	if !utf16.IsSurrogate(unit) {
		return unit, nil
	}
	if bytes.HasPrefix(r.data[r.pos:], []byte(`\u`)) {
		r.pos += 2
		if low, ok := r.hex4(); ok {
			if ch := utf16.DecodeRune(unit, low); ch != utf8.RuneError {
				return ch, nil
			}
		}
	}
	return 0, r.fail(start, "lone-surrogate", "half of a surrogate pair stands alone in a string")
}

func (r *jsonReader) hex4() (rune, bool) {
	if r.pos+4 > len(r.data) {
		return 0, false
	}
	var v rune
	for _, c := range r.data[r.pos : r.pos+4] {
		switch {
		case c >= '0' && c <= '9':
			v = v<<4 | rune(c-'0')
		case c >= 'a' && c <= 'f':
			v = v<<4 | rune(c-'a'+10)
		case c >= 'A' && c <= 'F':
			v = v<<4 | rune(c-'A'+10)
		default:
			return 0, false
		}
	}
	r.pos += 4
	return v, true
}
