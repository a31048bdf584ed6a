package proxy

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// head is a message's head as it was on the wire, with marks.
type head struct {
	raw    []byte // with line ends and the empty line
	start  string // request line or status line, without line end
	fields []field
}

// field is one field line. Values are without the white space around them.
type field struct {
	name, value string // name as written
	from, to    int    // of the line in raw, with its line end
}

var errHeadTooLong = errors.New("the head is longer than the limit")

// readHead reads a head to its empty line: raw octets. io.EOF means that the
// other side closed before the first octet.
func readHead(r *bufio.Reader, limit int) ([]byte, error) {
	var raw []byte
	lineStart := 0
	for {
		part, err := r.ReadSlice('\n')
		raw = append(raw, part...)
		if len(raw) > limit {
			return raw, errHeadTooLong
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil {
			if errors.Is(err, io.EOF) && len(raw) > 0 {
				err = io.ErrUnexpectedEOF
			}
			return raw, err
		}
		line := bytes.TrimRight(raw[lineStart:], "\r\n")
		if len(line) == 0 {
			return raw, nil
		}
		lineStart = len(raw)
	}
}

// parseHead finds the lines of a head. It refuses what two readers could read
// differently: folded lines, bare CR, NUL, more than one CR at a line's end. A
// response (lenient) may end its lines with LF alone and may have lines that are
// no fields, because browsers take both the same way (RFC 9112 §2.2); a request
// may not.
func parseHead(raw []byte, lenient bool) (head, error) {
	h := head{raw: raw}
	at, n := 0, 0
	for at < len(raw) {
		end := bytes.IndexByte(raw[at:], '\n')
		if end < 0 {
			return h, errors.New("the head does not end with a line end")
		}
		next := at + end + 1
		line := raw[at : next-1]
		if cut, ok := bytes.CutSuffix(line, []byte("\r")); ok {
			line = cut
		} else if !lenient {
			return h, fmt.Errorf("line %d ends with LF alone", n+1)
		}
		if bytes.ContainsAny(line, "\r\x00") {
			return h, fmt.Errorf("line %d has a bare CR or a NUL", n+1)
		}
		n++
		switch {
		case n == 1:
			if len(line) == 0 {
				return h, errors.New("the head begins with an empty line")
			}
			h.start = string(line)
		case len(line) == 0:
			if next != len(raw) {
				return h, errors.New("octets follow the empty line")
			}
			return h, nil
		case line[0] == ' ' || line[0] == '\t':
			return h, fmt.Errorf("line %d is folded (RFC 9112 §5.2)", n)
		default:
			name, value, ok := strings.Cut(string(line), ":")
			switch {
			case ok && isToken(name):
				h.fields = append(h.fields, field{name: name, value: strings.Trim(value, " \t"), from: at, to: next})
			case !lenient:
				return h, fmt.Errorf("line %d is no field", n)
			case framingField(name):
				// "Transfer-Encoding : chunked" counts for some readers and not for others.
				return h, fmt.Errorf("line %d names a framing field with characters around it", n)
			}
		}
		at = next
	}
	return h, errors.New("the head has no empty line")
}

func isToken(s string) bool {
	for _, c := range []byte(s) {
		switch {
		case c >= '0' && c <= '9', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0:
		default:
			return false
		}
	}
	return s != ""
}

// framingField: whether a name that is no token looks like one that decides
// where the message ends.
func framingField(name string) bool {
	var letters strings.Builder
	for _, c := range []byte(strings.ToLower(name)) {
		if c >= 'a' && c <= 'z' || c == '-' {
			letters.WriteByte(c)
		}
	}
	switch letters.String() {
	case "content-length", "transfer-encoding", "connection", "upgrade":
		return true
	}
	return false
}

func (h head) values(name string) (list []string) {
	for _, f := range h.fields {
		if strings.EqualFold(f.name, name) {
			list = append(list, f.value)
		}
	}
	return list
}

func (h head) first(name string) string {
	if v := h.values(name); len(v) > 0 {
		return v[0]
	}
	return ""
}

// hasToken: whether a field that is a list has an element.
func (h head) hasToken(name, token string) bool {
	for _, v := range h.values(name) {
		for element := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.Trim(element, " \t"), token) {
				return true
			}
		}
	}
	return false
}

// requestLine divides the start line of a request: only HTTP/1.1 and HTTP/1.0.
func (h head) requestLine() (method, target string, minor int, err error) {
	p := strings.Split(h.start, " ")
	if len(p) != 3 || !isToken(p[0]) || p[1] == "" {
		return "", "", 0, fmt.Errorf("the request line %.80q is none", h.start)
	}
	for _, c := range []byte(p[1]) {
		if c <= ' ' || c >= 0x7f {
			return "", "", 0, fmt.Errorf("the request target has the octet %#02x", c)
		}
	}
	switch p[2] {
	case "HTTP/1.1":
		return p[0], p[1], 1, nil
	case "HTTP/1.0":
		return p[0], p[1], 0, nil
	}
	return "", "", 0, fmt.Errorf("the protocol %.20q is not carried: HTTP/1.1 is", p[2])
}

// statusLine divides the start line of a response.
func (h head) statusLine() (status, minor int, err error) {
	s := h.start
	switch {
	case strings.HasPrefix(s, "HTTP/1.1 "):
		minor = 1
	case strings.HasPrefix(s, "HTTP/1.0 "):
	default:
		return 0, 0, fmt.Errorf("the status line %.40q is none of HTTP/1.1", s)
	}
	code := s[len("HTTP/1.1 "):]
	if len(code) < 3 || len(code) > 3 && code[3] != ' ' {
		return 0, 0, fmt.Errorf("the status line %.40q has no status of three digits", s)
	}
	for _, c := range []byte(code[:3]) {
		if c < '0' || c > '9' {
			return 0, 0, fmt.Errorf("the status line %.40q has no status of three digits", s)
		}
	}
	status, err = strconv.Atoi(code[:3])
	if err != nil || status < 100 {
		return 0, 0, fmt.Errorf("the status line %.40q has no status from 100", s)
	}
	return status, minor, nil
}

// framing is how the end of a body is found (RFC 9112 §6.3).
type framing struct {
	none    bool
	chunked bool
	length  int64 // when neither none, chunked nor toClose
	toClose bool
	doubt   bool // both ways were given: the connection is closed afterwards
}

func (h head) requestFraming(minor int) (framing, error) {
	coding, length := h.values("Transfer-Encoding"), h.values("Content-Length")
	switch {
	case len(coding) == 0 && len(length) == 0:
		return framing{none: true}, nil
	case len(coding) > 0 && len(length) > 0:
		return framing{}, errors.New("the request has Transfer-Encoding and Content-Length")
	case len(coding) > 0:
		if minor == 0 || len(coding) != 1 || !strings.EqualFold(coding[0], "chunked") {
			return framing{}, fmt.Errorf("the request's transfer coding %q is not carried", coding)
		}
		return framing{chunked: true}, nil
	}
	n, err := contentLength(length)
	return framing{length: n, none: n == 0}, err
}

func (h head) responseFraming(method string, status, minor int) (framing, error) {
	coding, length := h.values("Transfer-Encoding"), h.values("Content-Length")
	n, err := contentLength(length)
	switch {
	case err != nil:
		return framing{}, err
	case len(coding) > 0 && (minor == 0 || len(coding) != 1 || !strings.EqualFold(coding[0], "chunked")):
		return framing{}, fmt.Errorf("the response's transfer coding %q is not carried", coding)
	case method == "HEAD" || status == 204 || status == 304 || status/100 == 1:
		return framing{none: true}, nil
	case len(coding) > 0:
		return framing{chunked: true, doubt: len(length) > 0}, nil
	case len(length) > 0:
		return framing{length: n, none: n == 0}, nil
	}
	return framing{toClose: true}, nil
}

// contentLength reads the field's lines: the same number in all of them.
func contentLength(lines []string) (int64, error) {
	value := int64(-1)
	for _, line := range lines {
		for element := range strings.SplitSeq(line, ",") {
			element = strings.Trim(element, " \t")
			if element == "" || strings.Trim(element, "0123456789") != "" {
				return 0, fmt.Errorf("Content-Length %.40q is no number", line)
			}
			n, err := strconv.ParseInt(element, 10, 64)
			if err != nil {
				return 0, fmt.Errorf("Content-Length %.40q is too large", line)
			}
			if value >= 0 && n != value {
				return 0, errors.New("Content-Length has two values")
			}
			value = n
		}
	}
	return max(value, 0), nil
}

// persistent: whether the sender leaves the connection open afterwards.
func (h head) persistent(minor int) bool {
	if minor == 0 {
		return h.hasToken("Connection", "keep-alive") && !h.hasToken("Connection", "close")
	}
	return !h.hasToken("Connection", "close")
}

// forOrigin makes of a browser's head the one that goes to the origin and names
// what was changed. Lines that stay are copied octet for octet. A target of ""
// stays as it was.
func (h head) forOrigin(target string) (raw []byte, edits []string) {
	edit := func(name string) {
		if len(edits) == 0 || edits[len(edits)-1] != name {
			edits = append(edits, name)
		}
	}
	end := bytes.IndexByte(h.raw, '\n') + 1
	if p := strings.Split(h.start, " "); target != "" && p[1] != target {
		raw = append(raw, p[0]+" "+target+" "+p[2]+"\r\n"...)
		edit(EditTarget)
	} else {
		raw = append(raw, h.raw[:end]...)
	}
	var fields []byte
	var proxied, coded bool
	for _, f := range h.fields {
		switch strings.ToLower(f.name) {
		case "proxy-connection", "proxy-authorization":
			proxied = true
			continue
		case "accept-encoding":
			if value, changed := withoutUnreadable(f.value); changed {
				fields = append(fields, f.name+": "+value+"\r\n"...)
				coded = true
				continue
			}
		}
		fields = append(fields, h.raw[f.from:f.to]...)
	}
	if proxied {
		edit(EditProxyFields)
	}
	if coded {
		edit(EditAcceptEncoding)
	}
	return append(append(raw, fields...), "\r\n"...), edits
}

// withoutUnreadable strikes zstd (RFC 8878) and the codings that need a shared
// dictionary (RFC 9842) out of a list of codings.
func withoutUnreadable(value string) (string, bool) {
	var kept []string
	changed := false
	for element := range strings.SplitSeq(value, ",") {
		name, _, _ := strings.Cut(element, ";")
		switch strings.ToLower(strings.Trim(name, " \t")) {
		case "zstd", "dcz", "dcb":
			changed = true
		default:
			kept = append(kept, element)
		}
	}
	if !changed {
		return value, false
	}
	left := strings.Trim(strings.Join(kept, ","), " \t")
	if left == "" {
		left = "identity"
	}
	return left, true
}
