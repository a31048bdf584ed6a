package capture

import (
	"fmt"
	"io"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/evidence/recording"
	"github.com/zhenglian/zhenglian/internal/capture/proxy"
	"github.com/zhenglian/zhenglian/internal/capture/warc"
)

// onWire are the roles whose bytes are in request and response records, or in
// files of their own; the blobs of all others become resource records.
var onWire = [...]string{recording.RoleRequestHead, recording.RoleRequestBody, recording.RoleRequestFraming,
	recording.RoleResponseHead, recording.RoleResponseBody, recording.RoleResponseFraming, recording.RoleDownload, recording.RoleVideo, recording.RoleWACZ}

// archiver makes recording.wacz of the event log and the blobs, and of nothing
// else: what a session that was killed has on disk is enough.
type archiver struct {
	s           *Session
	w           *warc.Writer
	exchanges   map[int64]*proxy.Exchange // without end yet
	connections map[int64]*proxy.Connection
	answered    map[string]time.Time // by address, of the last response
	resources   map[evidence.Digest]bool
	pages       map[string]bool
}

// archive writes the archive and returns how many records it has.
func (s *Session) archive(created time.Time) (records int, err error) {
	err = writeWhole(filepath.Join(s.config.Dir, recording.FileWACZ), func(out io.Writer) error {
		w, err := warc.New(out, warc.Config{Session: s.config.Session, Title: s.config.Title, Software: s.config.Software, Created: created.UTC().Truncate(time.Second), Blobs: s.blobs.open, Key: s.key})
		if err != nil {
			return err
		}
		a := &archiver{s: s, w: w, exchanges: map[int64]*proxy.Exchange{}, connections: map[int64]*proxy.Connection{}, answered: map[string]time.Time{}, resources: map[evidence.Digest]bool{}, pages: map[string]bool{}}
		if err := s.log.read(a.take); err != nil {
			return err
		}
		if err := w.Close(); err != nil {
			return err
		}
		records = w.Records()
		return nil
	})
	return records, err
}

func (a *archiver) take(e *recording.Logged) error {
	var err error
	switch e.Type {
	case recording.TypeDNS, recording.TypeTLS, recording.TypeConnection:
		err = a.connection(e)
	case recording.TypeRequest, recording.TypeResponse:
		err = a.begun(e)
	case recording.TypeEnd:
		err = a.end(e)
	case recording.TypeStep:
		a.page(e)
	}
	if err != nil {
		return err
	}
	return a.keep(e)
}

// keep writes the blobs that are in no other record.
func (a *archiver) keep(e *recording.Logged) error {
	for _, b := range e.Blobs {
		if slices.Contains(onWire[:], b.Role) || a.resources[b.SHA256] || b.Size == 0 {
			continue
		}
		a.resources[b.SHA256] = true
		uri := "urn:zhenglian:" + b.Role + ":" + b.SHA256.String()
		if page := e.Data.Text("url"); b.Role == recording.RoleScreenshot && page != "" {
			uri = "urn:view:" + page
		}
		if err := a.w.Resource(b.SHA256.String(), uri, b.Media, e.Time, b.SHA256, b.Size); err != nil {
			return err
		}
	}
	return nil
}

func (a *archiver) page(e *recording.Logged) {
	url := e.Data.Text("url")
	at, ok := a.answered[url]
	if !ok {
		at, ok = a.answered[strings.SplitN(url, "#", 2)[0]]
	}
	if !ok {
		return // nothing in the archive shows it
	}
	if key := url + " " + at.String(); !a.pages[key] {
		a.pages[key] = true
		a.w.Page(warc.Page{URL: url, Title: e.Data.Text("title"), At: at})
	}
}

func (a *archiver) connection(e *recording.Logged) error {
	id := e.Data.Int("connection")
	c := a.connections[id]
	if c == nil {
		c = &proxy.Connection{ID: uint64(id), Host: e.Data.Text("name")}
		a.connections[id] = c
	}
	switch e.Type {
	case recording.TypeDNS:
		c.DNS = &proxy.Answer{Host: c.Host, Resolver: e.Data.Text("resolver"), Began: e.Time, AD: e.Data.Bool("authentic")}
		for _, line := range e.Data.Texts("records") {
			f := strings.SplitN(line, " ", 4)
			if len(f) == 4 {
				c.DNS.Records = append(c.DNS.Records, proxy.DNSRecord{Name: f[0], Type: f[2], Data: f[3]})
			}
		}
	case recording.TypeTLS:
		c.TLS = &proxy.TLS{ServerName: e.Data.Text("server-name"), Version: uint16(e.Data.Int("version-id")), Cipher: uint16(e.Data.Int("cipher-id")), Roots: e.Data.Text("roots"), Verified: e.Time}
		if v := e.Data.Text("verdict"); v != verdictGood {
			c.TLS.Verdict = v
		}
		for _, b := range e.Blobs {
			if b.Role != recording.RoleCertificate {
				continue
			}
			der, err := a.read(b.SHA256)
			if err != nil {
				return err
			}
			c.TLS.Chain = append(c.TLS.Chain, der)
		}
	case recording.TypeConnection:
		c.Port, c.Exception = uint16(e.Data.Int("port")), e.Data.Text("exception")
		if text := e.Data.Text("remote"); text != "" {
			var err error
			if c.Remote, err = netip.ParseAddrPort(text); err != nil {
				return fmt.Errorf("event %d: %w", e.Seq, err)
			}
			if c.Local, err = netip.ParseAddrPort(e.Data.Text("local")); err != nil {
				c.Local = netip.AddrPort{} // a local address that is none over TCP
			}
		}
	}
	return nil
}

// read returns a small blob.
func (a *archiver) read(d evidence.Digest) ([]byte, error) {
	r, err := a.s.blobs.open(d)
	if err != nil {
		return nil, fmt.Errorf("opening blob %s: %w", d, err)
	}
	data, err := io.ReadAll(io.LimitReader(r, 16<<20))
	if err != nil {
		return nil, fmt.Errorf("reading blob %s: %w", d, err)
	}
	if evidence.SumSHA256(data) != d {
		return nil, fmt.Errorf("blob %s was altered on disk", d)
	}
	return data, r.Close()
}

func (a *archiver) exchange(e *recording.Logged) *proxy.Exchange {
	id := e.Data.Int("exchange")
	x := a.exchanges[id]
	if x == nil {
		x = &proxy.Exchange{ID: uint64(id), Kind: proxy.KindHTTP, Began: e.Time, URL: e.Data.Text("url")}
		a.exchanges[id] = x
	}
	if x.Conn == nil {
		x.Conn = a.connections[e.Data.Int("connection")]
	}
	return x
}

func (a *archiver) begun(e *recording.Logged) error {
	x := a.exchange(e)
	role := recording.RoleRequestHead
	if e.Type == recording.TypeResponse {
		role = recording.RoleResponseHead
	}
	b, _ := e.Blob(role)
	head, err := a.read(b.SHA256)
	if err != nil {
		return err
	}
	if e.Type == recording.TypeRequest {
		x.Method, x.Edits, x.Background, x.Requested, x.RequestHead = e.Data.Text("method"), e.Data.Texts("edits"), e.Data.Bool("background"), e.Time, head
		if kind := e.Data.Text("kind"); kind != "" {
			x.Kind = proxy.Kind(kind)
		}
		return nil
	}
	x.Status, x.Responded, x.ResponseHead = int(e.Data.Int("status")), e.Time, head
	if h, err := recording.ParseHTTPHead(head); err == nil {
		x.Media = h.Get("Content-Type")
	}
	a.answered[x.URL] = e.Time
	return nil
}

func (a *archiver) end(e *recording.Logged) error {
	x := a.exchange(e)
	delete(a.exchanges, int64(x.ID))
	x.Stage, x.Ended, x.Truncated, x.RequestTruncated, x.Code, x.Error = proxy.StageEnd, e.Time, e.Data.Text("truncated"), e.Data.Text("request-truncated"), e.Data.Text("code"), e.Data.Text("error")
	for _, b := range e.Blobs {
		blob := &proxy.Blob{Role: b.Role, SHA256: b.SHA256, Size: b.Size, Media: b.Media}
		switch b.Role {
		case proxy.RoleRequestBody:
			x.RequestBody = blob
		case proxy.RoleRequestFraming:
			x.RequestFraming = blob
		case proxy.RoleResponseBody:
			x.ResponseBody = blob
		case proxy.RoleResponseFraming:
			x.ResponseFraming = blob
		case proxy.RoleStreamSent:
			x.Sent = blob
		case proxy.RoleStreamReceived:
			x.Received = blob
		case proxy.RoleFrames:
			x.Frames = blob
		}
	}
	return a.w.Exchange(x)
}
