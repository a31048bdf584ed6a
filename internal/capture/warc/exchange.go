package warc

import (
	"crypto/tls"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/evidence/recording"
	"github.com/zhenglian/zhenglian/internal/capture/proxy"
)

// minRevisit is the size in bytes of the smallest payload that is written once
// only: a revisit record has 600 bytes itself.
const minRevisit = 4 << 10

// media types of blocks (WARC 1.1 §6.3, 6.4, 6.2).
const (
	mediaResponse = "application/http;msgtype=response"
	mediaRequest  = "application/http;msgtype=request"
	mediaFields   = "application/warc-fields"
)

// Exchange writes the records of an exchange at StageEnd: the response as it was
// on the wire (or a revisit record, when the same payload of the same address is
// there already), the request, and a metadata record with what else is known of
// it. An exchange without response has no response record, one that was never
// sent no request record.
func (w *Writer) Exchange(e *proxy.Exchange) error {
	if e.Stage != proxy.StageEnd || e.Kind == proxy.KindConnection {
		return fmt.Errorf("writing exchange %d: it is at the stage %s of a %s", e.ID, e.Stage, e.Kind)
	}
	id := func(kind string) string { return recording.RecordID(w.config.Session, int64(e.ID), kind) }
	var ids []string
	if e.ResponseHead != nil {
		if err := w.response(e, id(recording.KindResponse)); err != nil {
			return err
		}
		ids = append(ids, id(recording.KindResponse))
	}
	if e.RequestHead != nil && !e.Requested.IsZero() {
		r := &record{kind: recording.RecordRequest, id: id(recording.KindRequest), uri: e.URL, at: e.Requested, media: mediaRequest,
			fields: append(w.network(e), concurrent(ids)...), open: w.message(e.RequestHead, e.RequestBody, e.RequestFraming)}
		if e.RequestBody != nil {
			r.payload = &e.RequestBody.SHA256
		}
		if t := truncated(e.RequestTruncated); t != "" {
			r.fields = append(r.fields, field{"WARC-Truncated", t})
		}
		if _, err := w.write(r); err != nil {
			return err
		}
		ids = append(ids, r.id)
	}
	at := e.Ended
	if at.IsZero() {
		at = e.Began
	}
	facts := constant(fieldsBlock(w.facts(e)))
	_, err := w.write(&record{kind: recording.RecordMetadata, id: id(recording.KindMetadata), uri: e.URL, at: at, media: mediaFields, fields: concurrent(ids), open: facts})
	return err
}

func (w *Writer) response(e *proxy.Exchange, id string) error {
	r := &record{kind: recording.RecordResponse, id: id, uri: e.URL, at: e.Responded, media: mediaResponse,
		fields: w.network(e), open: w.message(e.ResponseHead, e.ResponseBody, e.ResponseFraming), plain: packed(e.Media, e.ResponseHead)}
	if t := truncated(e.Truncated); t != "" {
		r.fields = append(r.fields, field{"WARC-Truncated", t})
	}
	body := e.ResponseBody
	if body != nil {
		r.payload = &body.SHA256
	}
	if e.Status != 101 {
		r.page = &indexed{url: e.URL, method: e.Method, media: e.Media, status: e.Status}
	}
	if body == nil || body.Size < minRevisit || e.ResponseFraming != nil || e.Truncated != "" {
		_, err := w.write(r)
		return err
	}
	key := repeated{e.URL, body.SHA256}
	if first, again := w.payloads[key]; again {
		r.kind, r.plain = recording.RecordRevisit, false
		r.open = constant(e.ResponseHead)
		r.page.media = "warc/revisit"
		r.fields = append(r.fields, field{"WARC-Profile", "http://netpreserve.org/warc/1.1/revisit/identical-payload-digest"},
			field{"WARC-Refers-To", "<" + first.id + ">"}, field{"WARC-Refers-To-Target-URI", e.URL}, field{"WARC-Refers-To-Date", first.date})
		_, err := w.write(r)
		return err
	}
	if _, err := w.write(r); err != nil {
		return err
	}
	w.payloads[key] = referred{id, r.at.UTC().Format("2006-01-02T15:04:05.000Z")}
	return nil
}

// repeated is a payload at an address; referred is the record that has it.
type repeated struct {
	url    string
	sha256 evidence.Digest
}

type referred struct{ id, date string }

// message is the block of an HTTP message: head, and the body as on the wire.
func (w *Writer) message(head []byte, body, framing *proxy.Blob) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) {
		if body == nil {
			return constant(head)()
		}
		content, err := w.blob(body)
		if err != nil {
			return nil, err
		}
		whole := &chain{parts: []io.Reader{strings.NewReader(string(head)), content}, closers: []io.Closer{content}}
		if framing == nil {
			return whole, nil
		}
		frames, err := w.blob(framing)
		if err != nil {
			return nil, closing(err, content)
		}
		pr, pw := io.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			pw.CloseWithError(recording.Reassemble(pw, content, frames))
		}()
		whole.parts[1] = pr
		// Closing the pipe ends the goroutine; the blobs are closed after it.
		whole.closers = []io.Closer{pr, waiting(done), content, frames}
		return whole, nil
	}
}

// chain reads its parts one after the other.
type chain struct {
	parts   []io.Reader
	closers []io.Closer
}

func (c *chain) Read(p []byte) (int, error) {
	for len(c.parts) > 0 {
		n, err := c.parts[0].Read(p)
		if err == io.EOF {
			c.parts, err = c.parts[1:], nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
	return 0, io.EOF
}

func (c *chain) Close() error {
	var first error
	for _, x := range c.closers {
		if err := x.Close(); err != nil && first == nil {
			first = err
		}
	}
	return first
}

type waiting chan struct{}

func (w waiting) Close() error { <-w; return nil }

func closing(err error, c io.Closer) error {
	_ = c.Close() // the first error tells more
	return err
}

// blob opens a blob of the store and holds it to its digest.
func (w *Writer) blob(b *proxy.Blob) (io.ReadCloser, error) {
	r, err := w.config.Blobs(b.SHA256)
	if err != nil {
		return nil, fmt.Errorf("opening blob %s (%s): %w", b.SHA256, b.Role, err)
	}
	return newChecked(r, b.SHA256, b.Size), nil
}

// network names the address that was dialled.
func (w *Writer) network(e *proxy.Exchange) []field {
	if e.Conn == nil || !e.Conn.Remote.IsValid() {
		return nil
	}
	return []field{{"WARC-IP-Address", e.Conn.Remote.Addr().Unmap().String()}}
}

func concurrent(ids []string) []field {
	var out []field
	for _, id := range ids {
		out = append(out, field{"WARC-Concurrent-To", "<" + id + ">"})
	}
	return out
}

// truncated maps the proxy's reasons to those of WARC 1.1 §5.13.
func truncated(reason string) string {
	switch reason {
	case "":
		return ""
	case proxy.TruncatedLimit:
		return "length"
	case proxy.TruncatedStalled, proxy.TruncatedSession:
		return "time"
	case proxy.TruncatedOrigin, proxy.TruncatedBrowser:
		return "disconnect"
	}
	return "unspecified"
}

// facts of an exchange that no other record holds.
func (w *Writer) facts(e *proxy.Exchange) []field {
	number := func(n uint64) string { return strconv.FormatUint(n, 10) }
	moment := func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return recording.FormatTime(t)
	}
	out := []field{{"session", w.config.Session.String()}, {"exchange", number(e.ID)}, {"kind", string(e.Kind)}, {"began", moment(e.Began)}, {"requested", moment(e.Requested)},
		{"responded", moment(e.Responded)}, {"ended", moment(e.Ended)}, {"edits", strings.Join(e.Edits, " ")}, {"truncated", e.Truncated}, {"request-truncated", e.RequestTruncated}, {"code", e.Code}, {"error", e.Error}}
	if e.Background {
		out = append(out, field{"background", "true"})
	}
	for _, b := range []*proxy.Blob{e.Sent, e.Received, e.Frames} {
		if b != nil {
			out = append(out, field{b.Role, labelled(b.SHA256)})
		}
	}
	c := e.Conn
	if c == nil {
		return out
	}
	out = append(out, field{"connection", number(c.ID)}, field{"host", c.Host}, field{"exception", c.Exception})
	if c.Remote.IsValid() {
		out = append(out, field{"remote", c.Remote.String()}, field{"local", c.Local.String()})
	}
	if c.DNS != nil {
		out = append(out, field{"dns-resolver", c.DNS.Resolver})
		for _, r := range c.DNS.Records {
			out = append(out, field{"dns-answer", r.Name + " " + r.Type + " " + r.Data})
		}
	}
	if t := c.TLS; t != nil {
		verdict := t.Verdict
		if verdict == "" {
			verdict = "good"
		}
		out = append(out, field{"tls-version", tls.VersionName(t.Version)}, field{"tls-cipher", tls.CipherSuiteName(t.Cipher)}, field{"tls-server-name", t.ServerName},
			field{"tls-roots", t.Roots}, field{"tls-verdict", verdict})
		for _, der := range t.Chain {
			out = append(out, field{"certificate", labelled(evidence.SumSHA256(der))})
		}
	}
	return out
}

// packed reports content that does not get smaller by compressing.
func packed(media string, head []byte) bool {
	media, _, _ = strings.Cut(strings.ToLower(media), ";")
	media = strings.TrimSpace(media)
	major, _, _ := strings.Cut(media, "/")
	if media == "image/svg+xml" || media == "image/bmp" {
		return false
	}
	if major == "video" || major == "audio" || major == "image" || slices.Contains([]string{"application/zip", "application/gzip", "application/pdf", "font/woff2", "application/octet-stream"}, media) {
		return true
	}
	h, err := recording.ParseHTTPHead(head)
	return err == nil && h.Get("Content-Encoding") != ""
}
