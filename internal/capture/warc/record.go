package warc

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/evidence/recording"
)

// field is a named field of a record; empty values are left out.
type field struct{ name, value string }

// record is one about to be written. open gives its block, each time anew.
type record struct {
	kind    string // WARC-Type
	id      string
	uri     string
	at      time.Time
	media   string // Content-Type of the block
	fields  []field
	payload *evidence.Digest
	open    func() (io.ReadCloser, error)
	// plain: the content is compressed already, so that compressing is for nothing.
	plain bool
	// page is what the index says of the record; nil keeps it out of the index.
	page *indexed
}

// place is where a record lies in the WARC file.
type place struct {
	offset, length int64
	block          evidence.Digest
}

// write writes one record as one gzip member (WARC 1.1 annex D.2).
func (w *Writer) write(r *record) (place, error) {
	sum, size, err := measure(r)
	if err != nil {
		return place{}, err
	}
	at := place{offset: w.warc.n, block: sum}
	level := gzip.BestSpeed
	if r.plain {
		level = gzip.NoCompression
	}
	gz, err := gzip.NewWriterLevel(&w.warc, level)
	if err != nil {
		return place{}, fmt.Errorf("writing record %s: %w", r.id, err)
	}
	if err := w.writeRecord(gz, r, sum, size); err != nil {
		return place{}, fmt.Errorf("writing record %s: %w", r.id, err)
	}
	if err := gz.Close(); err != nil {
		return place{}, fmt.Errorf("writing record %s: %w", r.id, err)
	}
	w.records++
	at.length = w.warc.n - at.offset
	if r.page != nil {
		w.index = append(w.index, r.page.line(r, at))
	}
	return at, nil
}

func (w *Writer) writeRecord(to io.Writer, r *record, sum evidence.Digest, size int64) error {
	var head bytes.Buffer
	put := func(name, value string) {
		if value != "" {
			head.WriteString(name + ": " + oneLine(value) + "\r\n")
		}
	}
	head.WriteString("WARC/1.1\r\n")
	put("WARC-Type", r.kind)
	put("WARC-Record-ID", "<"+r.id+">")
	put("WARC-Date", r.at.UTC().Format("2006-01-02T15:04:05.000Z"))
	if r.kind != recording.RecordInfo {
		put("WARC-Target-URI", r.uri)
		put("WARC-Warcinfo-ID", "<"+w.info+">")
	}
	for _, f := range r.fields {
		put(f.name, f.value)
	}
	put("WARC-Block-Digest", labelled(sum))
	if r.payload != nil {
		put("WARC-Payload-Digest", labelled(*r.payload))
	}
	put("Content-Type", r.media)
	fmt.Fprintf(&head, "Content-Length: %d\r\n\r\n", size)
	if _, err := to.Write(head.Bytes()); err != nil {
		return err
	}
	block, err := r.open()
	if err != nil {
		return err
	}
	again := sha256.New()
	n, err := io.Copy(io.MultiWriter(to, again), block)
	if closed := block.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return err
	}
	if n != size || evidence.Digest(again.Sum(nil)) != sum {
		return fmt.Errorf("the block was another when it was read again")
	}
	_, err = io.WriteString(to, "\r\n\r\n")
	return err
}

// measure reads the block for its digest and size.
func measure(r *record) (evidence.Digest, int64, error) {
	block, err := r.open()
	if err != nil {
		return evidence.Digest{}, 0, fmt.Errorf("writing record %s: %w", r.id, err)
	}
	h := sha256.New()
	n, err := io.Copy(h, block)
	if closed := block.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return evidence.Digest{}, 0, fmt.Errorf("writing record %s: %w", r.id, err)
	}
	return evidence.Digest(h.Sum(nil)), n, nil
}

func labelled(d evidence.Digest) string { return "sha256:" + d.String() }

// oneLine keeps a value from breaking out of its line: what an origin sent may
// hold anything.
func oneLine(s string) string {
	return strings.TrimSpace(strings.Map(func(c rune) rune {
		if c < 0x20 || c == 0x7f {
			return ' '
		}
		return c
	}, s))
}

// fieldsBlock is a block of the type application/warc-fields.
func fieldsBlock(fields []field) []byte {
	var b bytes.Buffer
	for _, f := range fields {
		if v := oneLine(f.value); v != "" {
			b.WriteString(f.name + ": " + v + "\r\n")
		}
	}
	return b.Bytes()
}

func constant(data []byte) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
}

// counted counts what was written.
type counted struct {
	w io.Writer
	n int64
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
