package proxy

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
)

const (
	// maxSizeLine bounds a line with a chunk's size and extensions, in octets.
	maxSizeLine = 4096
	// bufferSize is for each direction of a connection, in octets.
	bufferSize = 32 << 10
)

var errFraming = errors.New("the chunked body cannot be read")

// bodyReader reads a body from the wire piece by piece. What it returns is the
// wire's octets; what it stores are payload and framing, apart.
type bodyReader struct {
	src    *bufio.Reader
	buf    []byte
	f      framing
	left   int64 // octets of payload before the next mark
	state  chunkState
	limit  int // octets of trailers
	body   io.Writer
	frames io.Writer // nil unless chunked
}

type chunkState int

const (
	chunkSize chunkState = iota
	chunkData
	chunkEnd
	chunkTrailers
)

func newBodyReader(src *bufio.Reader, f framing, limit int, body, frames io.Writer) *bodyReader {
	return &bodyReader{src: src, buf: make([]byte, bufferSize), f: f, left: f.length, limit: limit, body: body, frames: frames}
}

// storeError is a failure of the record, not of the wire.
type storeError struct{ err error }

func (e *storeError) Error() string { return "recording a body: " + e.err.Error() }
func (e *storeError) Unwrap() error { return e.err }

func store(w io.Writer, b []byte) error {
	if _, err := w.Write(b); err != nil {
		return &storeError{err}
	}
	return nil
}

// next reads the next piece and stores it. The slice is good until the next
// call. last is true with the piece that ends the body; a body that ends by
// closing has an empty last piece.
func (b *bodyReader) next() (wire []byte, last bool, err error) {
	switch {
	case b.f.none:
		return nil, true, nil
	case b.f.chunked:
		return b.nextChunked()
	case b.f.toClose:
		n, err := b.src.Read(b.buf)
		if err := store(b.body, b.buf[:n]); err != nil {
			return nil, false, err
		}
		if errors.Is(err, io.EOF) {
			return b.buf[:n], true, nil
		}
		return b.buf[:n], false, err
	}
	wire, err = b.payload()
	return wire, b.left == 0, err
}

func (b *bodyReader) payload() ([]byte, error) {
	n, err := b.src.Read(b.buf[:min(int64(len(b.buf)), b.left)])
	b.left -= int64(n)
	if serr := store(b.body, b.buf[:n]); serr != nil {
		return nil, serr
	}
	if b.left == 0 {
		return b.buf[:n], nil
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return b.buf[:n], err
}

func (b *bodyReader) nextChunked() ([]byte, bool, error) {
	if b.state == chunkData {
		wire, err := b.payload()
		if b.left == 0 {
			b.state = chunkEnd
		}
		return wire, false, err
	}
	line, err := b.src.ReadSlice('\n')
	if serr := store(b.frames, line); serr != nil {
		return nil, false, serr
	}
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return nil, false, fmt.Errorf("%w: a line is too long", errFraming)
	case errors.Is(err, io.EOF):
		return line, false, io.ErrUnexpectedEOF
	case err != nil:
		return line, false, err
	}
	last, err := b.framingLine(line)
	return line, last, err
}

// framingLine takes a line that is no payload.
func (b *bodyReader) framingLine(line []byte) (last bool, err error) {
	text, crlf := bytes.CutSuffix(line, []byte("\r\n"))
	if !crlf {
		return false, fmt.Errorf("%w: a line does not end with CR LF", errFraming)
	}
	switch b.state {
	case chunkSize:
		if b.left, err = parseChunkSize(text); err != nil {
			return false, err
		}
		b.state = chunkData
		if b.left == 0 {
			b.state = chunkTrailers
		}
	case chunkEnd:
		if len(text) != 0 {
			return false, fmt.Errorf("%w: a chunk is longer than its size", errFraming)
		}
		b.state = chunkSize
	case chunkTrailers:
		if b.limit -= len(line); b.limit < 0 {
			return false, fmt.Errorf("%w: the trailers are longer than the limit", errFraming)
		}
		return len(text) == 0, nil
	}
	return false, nil
}

// parseChunkSize reads a chunk's size; extensions are left alone.
func parseChunkSize(line []byte) (int64, error) {
	if len(line) > maxSizeLine {
		return 0, fmt.Errorf("%w: a size line is too long", errFraming)
	}
	digits, _, _ := bytes.Cut(line, []byte(";"))
	digits = bytes.TrimRight(digits, " \t")
	for _, c := range digits {
		if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F') {
			return 0, fmt.Errorf("%w: a size is no hexadecimal number", errFraming)
		}
	}
	n, err := strconv.ParseInt(string(digits), 16, 63)
	if err != nil {
		return 0, fmt.Errorf("%w: a size is no hexadecimal number or too large", errFraming)
	}
	return n, nil
}

// Reassemble writes a chunked body as it was on the wire, from the blobs of its
// framing and of its payload. A body that was cut off comes out cut off.
func Reassemble(w io.Writer, framing, payload io.Reader) error {
	lines := bufio.NewReaderSize(framing, bufferSize)
	b := bodyReader{limit: 1 << 30}
	for {
		line, err := lines.ReadSlice('\n')
		if _, werr := w.Write(line); werr != nil {
			return werr
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading the framing: %w", err)
		}
		last, err := b.framingLine(line)
		if err != nil {
			return err
		}
		if last {
			return nil
		}
		if b.state == chunkData {
			n, err := io.CopyN(w, payload, b.left)
			if errors.Is(err, io.EOF) && n < b.left {
				return nil // cut off inside this chunk
			}
			if err != nil {
				return fmt.Errorf("copying the payload: %w", err)
			}
			b.state = chunkEnd
		}
	}
}
