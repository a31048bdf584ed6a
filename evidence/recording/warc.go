package recording

import (
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
)

// Limits of a WARC file.
const (
	// maxRecordHead: the named fields of a record; the longest is an address.
	maxRecordHead = 128 << 10
	maxField      = 64 << 10
	// MaxRecords bounds one archive: three for each exchange and one a picture.
	MaxRecords = 1 << 22
)

// Record types (WARC 1.1 §6).
const (
	RecordInfo     = "warcinfo"
	RecordRequest  = "request"
	RecordResponse = "response"
	RecordRevisit  = "revisit"
	RecordMetadata = "metadata"
	RecordResource = "resource"
)

// Record is one record of a WARC file. Its sums are those of the bytes read.
type Record struct {
	Number int    // from 0
	Offset int64  // of its gzip member in the file
	Length int64  // of its gzip member
	Fields []Pair // named fields in their order
	Type   string
	ID     string // without < >
	URI    string // WARC-Target-URI, "" where there is none
	Date   time.Time
	Size   int64 // of the block

	Block evidence.Digest // SHA-256
	// Of requests, responses and revisits:
	HTTP    *HTTPHead
	Head    Part
	Payload Part // transfer coding removed, content coding kept
	Framing Part // what "chunked" took; Size 0 where nothing was
	Content []byte
	Faults  []*WARCError // digests that differ, and blocks that cannot be read as HTTP
}

// Pair is a named field.
type Pair struct{ Name, Value string }

// Part is a stretch of bytes by its SHA-256.
type Part struct {
	SHA256 evidence.Digest
	Size   int64
}

// Get returns a named field of the record, whose name is compared without case.
func (r *Record) Get(name string) string {
	for _, f := range r.Fields {
		if strings.EqualFold(f.Name, name) {
			return f.Value
		}
	}
	return ""
}

// WARCError says which rule a record breaks.
type WARCError struct {
	Record int    // number, from 0
	Offset int64  // of the record in the file
	ID     string // of the record, where it was read
	Code   string // stable word, such as "block-digest"
	Reason string
}

func (e *WARCError) Error() string {
	return fmt.Sprintf("record %d at byte %d: %s", e.Record, e.Offset, e.Reason)
}

// WARCReader reads a WARC file of one gzip member a record, as this project
// writes them (WARC 1.1, annex D.2), and checks every digest. It holds one
// record's fields and no block in memory.
type WARCReader struct {
	in     *counter
	gz     *gzip.Reader
	number int
	seen   map[string]bool
	// Keep says which blocks come with Record.Content, up to the number of bytes it
	// returns; 0 for none. It may be nil.
	Keep func(*Record) int64
	// Body, where it is set, returns a writer for the payload of a record, which
	// gets its bytes as they stream; nil for none. Record.HTTP is read by then. It is
	// not asked for an empty payload.
	Body func(*Record) io.Writer
}

// NewWARCReader reads from r.
func NewWARCReader(r io.Reader) *WARCReader {
	return &WARCReader{in: &counter{r: bufio.NewReaderSize(r, 64<<10)}, seen: map[string]bool{}}
}

// counter counts bytes; gzip reads no further than a member's end from a
// io.ByteReader.
type counter struct {
	r *bufio.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

func (c *counter) ReadByte() (byte, error) {
	b, err := c.r.ReadByte()
	if err == nil {
		c.n++
	}
	return b, err
}

// Next reads the next record whole and checks it. io.EOF is the end. A
// *WARCError means that nothing after it can be read; digests that differ are in
// Record.Faults, and reading goes on. Other errors come from the reader.
func (w *WARCReader) Next() (*Record, error) {
	rec := &Record{Number: w.number, Offset: w.in.n}
	if _, err := w.in.r.Peek(1); err != nil {
		if err != io.EOF {
			return nil, fmt.Errorf("reading the archive: %w", err)
		}
		return nil, io.EOF
	}
	if w.number++; w.number > MaxRecords {
		return nil, rec.fail("too-many", "more than %d records", MaxRecords)
	}
	var err error
	if w.gz == nil {
		w.gz, err = gzip.NewReader(w.in)
	} else {
		err = w.gz.Reset(w.in)
	}
	if err != nil {
		return nil, rec.broken(err)
	}
	w.gz.Multistream(false)
	body := bufio.NewReaderSize(w.gz, 32<<10)
	if err := rec.readHead(body); err != nil {
		return nil, err
	}
	if w.seen[rec.ID] {
		return nil, rec.fail("record-id", "another record has the same WARC-Record-ID")
	}
	w.seen[rec.ID] = true
	if err := w.readBlock(rec, body); err != nil {
		return nil, err
	}
	// The end is read to the checksum, which io.ReadFull would hide: it makes one
	// error of an end and of one that is not expected.
	var end []byte
	for err = nil; err == nil && len(end) <= 4; {
		var c byte
		if c, err = body.ReadByte(); err == nil {
			end = append(end, c)
		}
	}
	switch {
	case err != nil && err != io.EOF:
		return nil, rec.broken(err)
	case string(end) != "\r\n\r\n":
		return nil, rec.fail("end", "the block is not followed by two line ends and nothing else")
	}
	rec.Length = w.in.n - rec.Offset
	return rec, nil
}

func (r *Record) fail(code, reason string, args ...any) *WARCError {
	return &WARCError{r.Number, r.Offset, r.ID, code, fmt.Sprintf(reason, args...)}
}

func (r *Record) fault(code, reason string, args ...any) {
	r.Faults = append(r.Faults, r.fail(code, reason, args...))
}

// broken tells a damaged member from a failing reader.
func (r *Record) broken(err error) error {
	var corrupt flate.CorruptInputError
	switch {
	case errors.Is(err, gzip.ErrChecksum), errors.Is(err, gzip.ErrHeader), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return r.fail("gzip", "its compressed form is damaged: %v", err)
	case errors.As(err, &corrupt):
		return r.fail("gzip", "its compressed form is damaged: %v", err)
	}
	return fmt.Errorf("reading the archive: %w", err)
}

func (r *Record) readHead(body *bufio.Reader) error {
	total := 0
	line := func() (string, error) {
		var out []byte
		for {
			part, err := body.ReadSlice('\n')
			out = append(out, part...)
			total += len(part)
			if total > maxRecordHead {
				return "", r.fail("too-large", "its named fields have more than %d bytes", maxRecordHead)
			}
			switch {
			case err == bufio.ErrBufferFull:
				continue
			case err == io.EOF:
				return "", r.fail("form", "it ends within its named fields")
			case err != nil:
				return "", r.broken(err)
			}
			s, ok := strings.CutSuffix(string(out), "\r\n")
			if !ok || strings.ContainsAny(s, "\r\x00") {
				return "", r.fail("form", "a line does not end with CR LF")
			}
			return s, nil
		}
	}
	first, err := line()
	if err != nil {
		return err
	}
	if first != "WARC/1.1" {
		return r.fail("version", "it begins with %.20q and not with WARC/1.1", first)
	}
	for {
		s, err := line()
		if err != nil {
			return err
		}
		if s == "" {
			break
		}
		name, value, ok := strings.Cut(s, ": ")
		if !ok || name == "" || strings.ContainsAny(name, " \t:") || strings.TrimSpace(value) != value || len(s) > maxField {
			return r.fail("form", "%.60q is no named field", s)
		}
		if r.Get(name) != "" && !strings.EqualFold(name, "WARC-Concurrent-To") {
			return r.fail("form", "the field %s stands twice", name)
		}
		r.Fields = append(r.Fields, Pair{name, value})
	}
	return r.readFields()
}

// readFields takes what every record must have (WARC 1.1 §5.2 to 5.5).
func (r *Record) readFields() error {
	r.Type = r.Get("WARC-Type")
	if !slices.Contains([]string{RecordInfo, RecordRequest, RecordResponse, RecordRevisit, RecordMetadata, RecordResource}, r.Type) {
		return r.fail("type", "%.30q is no type of record that a recording has", r.Type)
	}
	id := r.Get("WARC-Record-ID")
	if len(id) < 3 || id[0] != '<' || id[len(id)-1] != '>' {
		return r.fail("record-id", "it has no WARC-Record-ID")
	}
	r.ID, r.URI = id[1:len(id)-1], r.Get("WARC-Target-URI")
	size, err := strconv.ParseInt(r.Get("Content-Length"), 10, 62)
	if err != nil || size < 0 || strconv.FormatInt(size, 10) != r.Get("Content-Length") {
		return r.fail("length", "it has no Content-Length")
	}
	r.Size = size
	if r.Date, err = time.Parse(time.RFC3339Nano, r.Get("WARC-Date")); err != nil || !strings.HasSuffix(r.Get("WARC-Date"), "Z") {
		return r.fail("date", "it has no WARC-Date in UTC")
	}
	if r.Type != RecordInfo && r.URI == "" {
		return r.fail("target", "it has no WARC-Target-URI")
	}
	if r.Get("WARC-Block-Digest") == "" {
		return r.fail("block-digest", "it has no WARC-Block-Digest")
	}
	return nil
}

func (r *Record) isHTTP() bool {
	return r.Type == RecordRequest || r.Type == RecordResponse || r.Type == RecordRevisit
}

// readBlock streams the block through its digests.
func (w *WARCReader) readBlock(r *Record, body io.Reader) error {
	block := sha256.New()
	sinks := []io.Writer{block}
	var kept *bytes.Buffer
	if w.Keep != nil {
		if limit := w.Keep(r); limit > 0 && r.Size <= limit {
			kept = &bytes.Buffer{}
			sinks = append(sinks, kept)
		}
	}
	var m *message
	if r.isHTTP() {
		var to io.Writer
		asked := w.Body == nil
		m = newMessage(func(p []byte) {
			if !asked {
				asked, r.HTTP = true, m.head
				to = w.Body(r)
			}
			if to != nil {
				_, _ = to.Write(p) // the caller's writer keeps its own error
			}
		})
		sinks = append(sinks, m)
	}
	n, err := io.CopyN(io.MultiWriter(sinks...), body, r.Size)
	switch {
	case err == io.EOF:
		return r.fail("length", "its block has %d bytes, its Content-Length is %d", n, r.Size)
	case err != nil:
		return r.broken(err)
	}
	r.Block = evidence.Digest(block.Sum(nil))
	if kept != nil {
		r.Content = kept.Bytes()
	}
	r.compare("WARC-Block-Digest", "block-digest", block)
	if m != nil {
		r.readMessage(m)
	}
	return nil
}

func (r *Record) readMessage(m *message) {
	// The answer to a HEAD request names the coding of a body that it does not have.
	bodiless := r.Get("WARC-Payload-Digest") == "" && r.Size == m.headLen
	truncated := r.Get("WARC-Truncated") != "" || r.Type == RecordRevisit || bodiless
	if err := m.end(truncated); err != nil {
		r.fault("http", "its block is no HTTP message: %v", err)
	}
	r.HTTP = m.head
	r.Head = Part{m.headSum, m.headLen}
	r.Payload = Part{evidence.Digest(m.payload.Sum(nil)), m.payloadSize}
	r.Framing = Part{evidence.Digest(m.framing.Sum(nil)), m.framingSize}
	if r.Type != RecordRevisit { // of a revisit it is that of another record
		r.compare("WARC-Payload-Digest", "payload-digest", m.payload)
	}
}

// compare holds a digest that the record names against what was computed.
func (r *Record) compare(field, code string, h hash.Hash) {
	named := r.Get(field)
	if named == "" {
		return
	}
	d, err := ParseLabelledDigest(named)
	if err != nil {
		r.fault(code, "%s: %v", field, err)
		return
	}
	if got := evidence.Digest(h.Sum(nil)); got != d {
		r.fault(code, "%s says %s, the bytes have %s", field, d, got)
	}
}

// ParseLabelledDigest reads "sha256:" and a SHA-256 digest in hexadecimal or
// base32, the two forms that are in use (WARC 1.1 §5.8).
func ParseLabelledDigest(s string) (d evidence.Digest, err error) {
	text, ok := strings.CutPrefix(s, "sha256:")
	if !ok {
		return d, fmt.Errorf("%.20q is no SHA-256 digest", s)
	}
	raw, err := hex.DecodeString(text)
	if err != nil {
		raw, err = base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(strings.TrimRight(text, "="))
	}
	if err != nil || len(raw) != len(d) {
		return d, fmt.Errorf("%.80q is no SHA-256 digest", s)
	}
	return evidence.Digest(raw), nil
}

// Kinds of records of an exchange, for RecordID.
const (
	KindRequest  = "request"
	KindResponse = "response"
	KindMetadata = "metadata"
)

// recordLabel separates record ids from every other use of SHA-256.
const recordLabel = "zhenglian warc record v1\x00"

// RecordID returns the WARC-Record-ID, without < >, of what an exchange of a
// session left: a UUID of version 8 (RFC 9562 §5.8) from SHA-256 over the label,
// the session, the exchange's number in decimal, a colon and the kind. So an
// event names its record without a field for it.
func RecordID(session evidence.Digest, exchange int64, kind string) string {
	return NamedRecordID(session, strconv.FormatInt(exchange, 10)+":"+kind)
}

// NamedRecordID is RecordID for records of no exchange, by a name of their own.
func NamedRecordID(session evidence.Digest, name string) string {
	d := evidence.SumSHA256(slices.Concat([]byte(recordLabel), session[:], []byte(name)))
	d[6] = d[6]&0x0f | 0x80
	d[8] = d[8]&0x3f | 0x80
	return fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", d[0:4], d[4:6], d[6:8], d[8:10], d[10:16])
}

// ParseFields reads a block of the type application/warc-fields: the values of
// each name in their order.
func ParseFields(block []byte) (map[string][]string, error) {
	out := map[string][]string{}
	for i, line := range strings.Split(strings.TrimSuffix(string(block), "\r\n"), "\r\n") {
		name, value, ok := strings.Cut(line, ": ")
		if !ok || name == "" {
			return nil, fmt.Errorf("line %d is no named field", i+1)
		}
		out[name] = append(out[name], value)
	}
	return out, nil
}
