package api

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/zhenglian/zhenglian/evidence"
)

// Media types of a batch.
const (
	typeCBORSeq = "application/cbor-seq" // RFC 8742: statements one after the other
	typeNDJSON  = "application/x-ndjson" // one a line: a base64 string, or {"statement": base64}
)

// batchItem is one statement of a batch, or why its bytes are none.
type batchItem struct {
	statement []byte
	bad       *evidence.FormatError // the item is skipped, the rest goes on
	broken    *failure              // nothing can be read any more
}

// batchReader splits a stream into items. Whatever the stream holds, an item
// takes no more memory than the largest statement in its encoding.
type batchReader interface {
	// next returns io.EOF at the end, and an item with broken set when the stream
	// cannot be followed any further.
	next() (batchItem, error)
}

func oversized() *evidence.FormatError {
	return &evidence.FormatError{Code: evidence.CodeOversize, Field: "statement", Reason: fmt.Sprintf("at most %d bytes are allowed", evidence.MaxStatement)}
}

// cborSequence finds where each data item ends (RFC 8949 §3, well-formedness
// only) and leaves all judgement of its content to the node. An item that is
// well-formed and no statement costs only itself.
type cborSequence struct {
	br   *bufio.Reader
	read int64 // bytes consumed
	buf  []byte
	over bool // the item is longer than a statement: its bytes are not kept
}

// maxNesting of CBOR items: a statement needs six levels, and each level costs
// the reader eight bytes.
const maxNesting = 64

var errNotWellFormed = errors.New("not well-formed CBOR")

func (c *cborSequence) next() (batchItem, error) {
	if _, err := c.br.Peek(1); errors.Is(err, io.EOF) {
		return batchItem{}, io.EOF
	}
	c.buf, c.over = make([]byte, 0, 512), false // handed on: the node keeps it
	start := c.read
	if err := c.item(); err != nil {
		return batchItem{broken: streamBroken(err, c.read, start)}, nil
	}
	if c.over {
		return batchItem{bad: oversized()}, nil
	}
	return batchItem{statement: c.buf}, nil
}

func streamBroken(err error, at, start int64) *failure {
	var f *failure
	switch {
	case errors.As(err, &f):
		return f
	case errors.Is(err, errNotWellFormed):
		return fail(400, "stream-broken", "body", "the bytes at offset %d are not well-formed CBOR; the item began at %d", at, start)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fail(400, "stream-broken", "body", "the stream ends at offset %d within the item that began at %d", at, start)
	}
	var timeout interface{ Timeout() bool }
	if errors.As(err, &timeout) && timeout.Timeout() {
		return fail(408, "timeout", "body", "nothing more arrived in time after offset %d", at)
	}
	if large, _ := failureOf(err); large.code == "too-large" {
		return fail(413, "batch-limit", "body", "%s", large.detail)
	}
	return fail(400, "stream-broken", "body", "the connection failed after offset %d", at)
}

// indefinite marks an open item of unknown length on the stack.
const indefinite = ^uint64(0)

func (c *cborSequence) item() error {
	var stack [maxNesting]uint64 // items still to come on each level
	depth := 0
	for {
		ib, err := c.byte()
		if err != nil {
			return err
		}
		major, info := ib>>5, ib&31
		var n uint64
		opens, count := false, uint64(0)
		switch {
		case info < 24:
			n = uint64(info)
		case info <= 27:
			for range 1 << (info - 24) {
				b, err := c.byte()
				if err != nil {
					return err
				}
				n = n<<8 | uint64(b)
			}
		case info == 31 && major == 7: // break
			if depth == 0 || stack[depth-1] != indefinite {
				return errNotWellFormed
			}
			depth--
		case info == 31 && major >= 2 && major <= 5:
			opens, count = true, indefinite
		default:
			return errNotWellFormed
		}
		if info != 31 {
			switch major {
			case 2, 3:
				if err := c.skip(n); err != nil {
					return err
				}
			case 4:
				opens, count = n > 0, n
			case 5:
				if n > 1<<60 {
					return errNotWellFormed
				}
				opens, count = n > 0, 2*n
			case 6:
				opens, count = true, 1
			}
		}
		if opens {
			if depth == maxNesting {
				return errNotWellFormed
			}
			stack[depth] = count
			depth++
			continue
		}
		// An item is complete, and with it every level it was the last of.
		for depth > 0 && stack[depth-1] != indefinite {
			if stack[depth-1]--; stack[depth-1] > 0 {
				break
			}
			depth--
		}
		if depth == 0 {
			return nil
		}
	}
}

func (c *cborSequence) byte() (byte, error) {
	b, err := c.br.ReadByte()
	if err != nil {
		return 0, err
	}
	c.read++
	if c.keep(1) {
		c.buf = append(c.buf, b)
	}
	return b, nil
}

// keep reports whether n more bytes still fit a statement.
func (c *cborSequence) keep(n uint64) bool {
	if !c.over && n > uint64(evidence.MaxStatement-len(c.buf)) {
		c.over, c.buf = true, nil
	}
	return !c.over
}

// skip consumes a string of n bytes, whatever n claims to be.
func (c *cborSequence) skip(n uint64) error {
	if !c.keep(n) {
		for n > 0 {
			step := int(min(n, 1<<20))
			k, err := c.br.Discard(step)
			c.read += int64(k)
			if err != nil {
				return err
			}
			n -= uint64(k)
		}
		return nil
	}
	at := len(c.buf)
	c.buf = append(c.buf, make([]byte, n)...)
	k, err := io.ReadFull(c.br, c.buf[at:])
	c.read += int64(k)
	return err
}

// jsonLines reads one statement a line. A line that is none costs only itself.
type jsonLines struct {
	br   *bufio.Reader // with room for maxLine
	line int64
	read int64
}

// maxLine is a statement in base64 with room for the member's name.
const maxLine = (evidence.MaxStatement+2)/3*4 + 64

func (j *jsonLines) next() (batchItem, error) {
	for {
		start := j.read
		line, err := j.br.ReadSlice('\n')
		j.read += int64(len(line))
		j.line++
		long := errors.Is(err, bufio.ErrBufferFull)
		for errors.Is(err, bufio.ErrBufferFull) {
			var more []byte
			more, err = j.br.ReadSlice('\n')
			j.read += int64(len(more))
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return batchItem{broken: streamBroken(err, j.read, start)}, nil
		}
		if long || len(line) > maxLine {
			return batchItem{bad: oversized()}, nil
		}
		text := strings.TrimSpace(string(line))
		if text == "" {
			if err != nil {
				return batchItem{}, io.EOF
			}
			continue
		}
		return j.parse(text), nil
	}
}

func (j *jsonLines) parse(text string) batchItem {
	var encoded string
	var err error
	if strings.HasPrefix(text, "{") {
		var d struct {
			Statement *string `json:"statement"`
		}
		dec := json.NewDecoder(strings.NewReader(text))
		dec.DisallowUnknownFields()
		if err = dec.Decode(&d); err == nil && dec.InputOffset() != int64(len(text)) {
			err = errors.New("something follows")
		}
		if d.Statement != nil {
			encoded = *d.Statement
		}
	} else {
		err = json.Unmarshal([]byte(text), &encoded)
	}
	if err != nil {
		return batchItem{bad: &evidence.FormatError{Code: evidence.CodeMalformed, Field: "statement", Reason: fmt.Sprintf(`line %d is neither a JSON string nor {"statement": "…"}`, j.line)}}
	}
	b, err := base64.StdEncoding.Strict().DecodeString(encoded)
	switch {
	case err != nil:
		return batchItem{bad: &evidence.FormatError{Code: evidence.CodeMalformed, Field: "statement", Reason: fmt.Sprintf("line %d is not in standard base64 with padding", j.line)}}
	case len(b) > evidence.MaxStatement:
		return batchItem{bad: oversized()}
	}
	return batchItem{statement: b}
}
