package recording

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"strconv"
	"strings"

	"github.com/zhenglian/zhenglian/evidence"
)

// maxHead is the size in bytes of the largest head of a request or response:
// what browsers and servers take, several times over.
const maxHead = 1 << 20

// HTTPHead is the start line and the fields of an HTTP/1.1 message.
type HTTPHead struct {
	Start  string // "GET / HTTP/1.1" or "HTTP/1.1 200 OK"
	Status int    // of a response, 0 of a request
	Fields [][2]string
}

// Get returns the values of a field, joined by commas (RFC 9110 §5.2).
func (h *HTTPHead) Get(name string) string {
	var out []string
	for _, f := range h.Fields {
		if strings.EqualFold(f[0], name) {
			out = append(out, f[1])
		}
	}
	return strings.Join(out, ", ")
}

// Chunked reports whether the last transfer coding is chunked (RFC 9112 §6.3).
func (h *HTTPHead) Chunked() bool {
	codings := strings.Split(h.Get("Transfer-Encoding"), ",")
	return strings.EqualFold(strings.TrimSpace(codings[len(codings)-1]), "chunked")
}

// ParseHTTPHead reads a head, the empty line included. What a server sent is not
// held to the rules more than is needed to read it: a line without colon is left
// out, and a bare LF ends a line (RFC 9112 §2.2).
func ParseHTTPHead(data []byte) (*HTTPHead, error) {
	h := &HTTPHead{}
	for i, line := range bytes.Split(data, []byte("\n")) {
		line = bytes.TrimSuffix(line, []byte("\r"))
		if i == 0 {
			h.Start = string(line)
			continue
		}
		if name, value, ok := bytes.Cut(line, []byte(":")); ok {
			h.Fields = append(h.Fields, [2]string{string(name), string(bytes.Trim(value, " \t"))})
		}
	}
	if rest, ok := strings.CutPrefix(h.Start, "HTTP/1."); ok {
		parts := strings.SplitN(rest, " ", 3)
		if len(parts) < 2 {
			return nil, fmt.Errorf("%.60q is no status line", h.Start)
		}
		status, err := strconv.Atoi(parts[1])
		if err != nil || status < 100 || status > 999 {
			return nil, fmt.Errorf("%.60q is no status line", h.Start)
		}
		h.Status = status
	}
	return h, nil
}

// message takes the block of a request or response record apart as it streams:
// head, body as on the wire, payload with the transfer coding removed.
type message struct {
	buf     []byte // the head until it is whole
	head    *HTTPHead
	headSum evidence.Digest
	headLen int64
	err     error

	payload     hash.Hash
	payloadSize int64
	framing     hash.Hash
	framingSize int64
	chunks      *dechunker // nil: not chunked
	sink        func([]byte)
}

func newMessage(sink func([]byte)) *message {
	return &message{payload: sha256.New(), framing: sha256.New(), sink: sink}
}

// Write never fails: what is wrong with the message stands in err.
func (m *message) Write(p []byte) (int, error) {
	n := len(p)
	if m.head == nil && m.err == nil {
		from := max(0, len(m.buf)-3)
		m.buf = append(m.buf, p...)
		end := endOfHead(m.buf, from)
		switch {
		case end < 0 && len(m.buf) > maxHead:
			m.err = fmt.Errorf("its head does not end within %d bytes", maxHead)
			m.buf = nil
			return n, nil
		case end < 0:
			return n, nil
		}
		m.begin(end)
		p, m.buf = m.buf[end:], nil
	}
	if m.err != nil || len(p) == 0 {
		return n, nil
	}
	if m.chunks != nil {
		m.err = m.chunks.write(p)
	} else {
		m.data(p)
	}
	return n, nil
}

// endOfHead returns the index after the empty line, or -1.
func endOfHead(b []byte, from int) int {
	end := -1
	for _, mark := range []string{"\r\n\r\n", "\n\n", "\n\r\n"} {
		if i := bytes.Index(b[from:], []byte(mark)); i >= 0 && (end < 0 || from+i+len(mark) < end) {
			end = from + i + len(mark)
		}
	}
	return end
}

func (m *message) begin(end int) {
	m.headSum, m.headLen = evidence.SumSHA256(m.buf[:end]), int64(end)
	head, err := ParseHTTPHead(m.buf[:end])
	if err != nil {
		m.err = err
		return
	}
	m.head = head
	if head.Chunked() && !m.bodiless() {
		m.chunks = &dechunker{data: m.data, framing: func(p []byte) { m.framing.Write(p); m.framingSize += int64(len(p)) }}
	}
}

// bodiless: RFC 9112 §6.3, as far as the response alone tells.
func (m *message) bodiless() bool {
	s := m.head.Status
	return s > 0 && s < 200 || s == 204 || s == 304
}

func (m *message) data(p []byte) {
	m.payload.Write(p)
	m.payloadSize += int64(len(p))
	if m.sink != nil {
		m.sink(p)
	}
}

// end says whether the message is whole. Truncated ones are allowed to lack
// their end.
func (m *message) end(truncated bool) error {
	switch {
	case m.err != nil && (m.chunks == nil || !truncated):
		return m.err
	case m.head == nil:
		return fmt.Errorf("it has no head")
	case m.chunks != nil && m.chunks.state != chunkDone && !truncated:
		return fmt.Errorf("its chunks end before the last one")
	}
	return nil
}

// dechunker removes the chunked transfer coding (RFC 9112 §7.1) as bytes come,
// and hands on data and framing apart.
type dechunker struct {
	data, framing func([]byte)

	state chunkState
	line  []byte
	left  int64
}

type chunkState int

const (
	chunkSize chunkState = iota
	chunkData
	chunkEnd // CRLF after the data
	chunkTrailer
	chunkDone
)

// maxChunkLine bounds a size line with its extensions, and each trailer line.
const maxChunkLine = 64 << 10

func (d *dechunker) write(p []byte) error {
	for len(p) > 0 {
		switch d.state {
		case chunkData:
			n := min(int64(len(p)), d.left)
			d.data(p[:n])
			p = p[n:]
			if d.left -= n; d.left == 0 {
				d.state = chunkEnd
			}
		case chunkDone:
			return fmt.Errorf("%d bytes follow the last chunk", len(p))
		default:
			i := bytes.IndexByte(p, '\n')
			if i < 0 {
				i = len(p) - 1
			}
			d.framing(p[:i+1])
			d.line = append(d.line, p[:i+1]...)
			p = p[i+1:]
			if len(d.line) > maxChunkLine {
				return fmt.Errorf("a line of its chunks has more than %d bytes", maxChunkLine)
			}
			if d.line[len(d.line)-1] != '\n' {
				return nil
			}
			if err := d.endLine(); err != nil {
				return err
			}
			d.line = d.line[:0]
		}
	}
	return nil
}

func (d *dechunker) endLine() error {
	line := string(bytes.TrimRight(d.line, "\r\n"))
	switch d.state {
	case chunkSize:
		size, _, _ := strings.Cut(line, ";")
		n, err := strconv.ParseUint(strings.TrimSpace(size), 16, 62)
		if err != nil {
			return fmt.Errorf("%.40q is no size of a chunk", line)
		}
		d.left, d.state = int64(n), chunkData
		if n == 0 {
			d.state = chunkTrailer
		}
	case chunkEnd:
		if line != "" {
			return fmt.Errorf("a chunk is longer than its size says")
		}
		d.state = chunkSize
	case chunkTrailer:
		if line == "" {
			d.state = chunkDone
		}
	}
	return nil
}

// Reassemble writes a chunked body as it was on the wire, from the body with the
// transfer coding removed and from what that took away: size lines with their
// extensions, line ends and trailers, in their order.
func Reassemble(w io.Writer, body, framing io.Reader) error {
	lines := bufio.NewReaderSize(framing, maxChunkLine)
	for state := chunkSize; ; {
		line, err := lines.ReadSlice('\n')
		if err == io.EOF && len(line) == 0 {
			return nil // cut off: what follows was never received
		}
		if err != nil && err != io.EOF {
			return fmt.Errorf("reading the framing of a body: %w", err)
		}
		if _, err := w.Write(line); err != nil {
			return err
		}
		d := dechunker{state: state, line: line}
		if line[len(line)-1] != '\n' {
			return nil
		}
		if err := d.endLine(); err != nil {
			if _, more := lines.ReadByte(); more == io.EOF {
				return nil // whoever received it stopped reading at this line
			}
			return fmt.Errorf("reading the framing of a body: %w", err)
		}
		if state = d.state; state == chunkData {
			n, err := io.CopyN(w, body, d.left)
			if err == io.EOF { // cut off within this chunk
				if _, err := lines.ReadByte(); err == nil {
					return fmt.Errorf("reassembling a body: %d of %d bytes of a chunk are there, and framing follows", n, d.left)
				}
				return nil
			}
			if err != nil {
				return fmt.Errorf("reassembling a body: %w", err)
			}
			state = chunkEnd
		}
	}
}
