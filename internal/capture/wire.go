package capture

import (
	"context"
	"crypto/tls"
	"fmt"
	"strings"

	"github.com/zhenglian/zhenglian/evidence/recording"
	"github.com/zhenglian/zhenglian/internal/capture/proxy"
)

// Roles of blobs on the wire that a verifier of the common roles does not read.
const (
	roleBrowserHead = "browser.head"
	roleInterim     = "interim.head"
	roleDNS         = "dns.message"
	roleOCSP        = "ocsp"
)

const mediaHead = "application/http"

// Wire is the session as the proxy's recorder.
func (s *Session) Wire() proxy.Recorder { return wire{s} }

type wire struct{ s *Session }

// Blob implements proxy.Recorder.
func (w wire) Blob(role, media string) (proxy.BlobWriter, error) {
	if err := w.s.Failed(); err != nil {
		return nil, err
	}
	f, err := w.s.blobs.begin()
	if err != nil {
		return nil, w.s.broken(err)
	}
	return &wireBlob{f, role, media}, nil
}

// Record implements proxy.Recorder: an exchange's stage becomes an event, a
// connection up to three.
func (w wire) Record(_ context.Context, e proxy.Exchange) error {
	switch {
	case e.Kind == proxy.KindConnection && e.Stage == proxy.StageConnection:
		return w.connection(&e)
	case e.Kind == proxy.KindConnection:
		// It carried no exchange: said once more with the reason.
		return w.s.event(recording.TypeConnection, w.reached(&e), nil)
	case e.Stage == proxy.StageRequest:
		return w.request(&e)
	case e.Stage == proxy.StageResponse:
		data := number(&e)
		data["status"] = int64(e.Status)
		blobs := []Blob{{recording.RoleResponseHead, mediaHead, e.ResponseHead}}
		for _, head := range e.Interim {
			blobs = append(blobs, Blob{roleInterim, mediaHead, head})
		}
		w.s.mu.Lock()
		w.s.status[e.URL] = e.Status
		w.s.mu.Unlock()
		return w.s.Event(recording.TypeResponse, data, blobs[:min(len(blobs), recording.MaxBlobs)]...)
	case e.Stage == proxy.StageEnd:
		return w.end(&e)
	}
	return fmt.Errorf("recording exchange %d: the stage %q is not known", e.ID, e.Stage)
}

func number(e *proxy.Exchange) recording.Data {
	d := recording.Data{"exchange": int64(e.ID), "url": clip(e.URL)}
	if e.Conn != nil {
		d["connection"] = int64(e.Conn.ID)
	}
	return d
}

func (w wire) request(e *proxy.Exchange) error {
	data := number(e)
	data["method"] = clip(e.Method)
	if e.Background {
		data["background"] = true
	}
	if len(e.Edits) > 0 {
		data["edits"] = e.Edits
	}
	if e.Kind != proxy.KindHTTP {
		data["kind"] = string(e.Kind)
	}
	blobs := []Blob{{recording.RoleRequestHead, mediaHead, e.RequestHead}}
	if e.BrowserHead != nil {
		blobs = append(blobs, Blob{roleBrowserHead, mediaHead, e.BrowserHead})
	}
	return w.s.Event(recording.TypeRequest, data, blobs...)
}

func (w wire) end(e *proxy.Exchange) error {
	data := number(e)
	set := func(name, value string) {
		if value != "" {
			data[name] = clip(value)
		}
	}
	set("truncated", e.Truncated)
	set("request-truncated", e.RequestTruncated)
	set("code", e.Code)
	set("error", e.Error)
	if e.Status != 0 {
		data["status"] = int64(e.Status)
	}
	if e.Background {
		data["background"] = true
	}
	var blobs []recording.Blob
	for _, b := range []*proxy.Blob{e.RequestBody, e.RequestFraming, e.ResponseBody, e.ResponseFraming, e.Sent, e.Received, e.Frames} {
		if b != nil {
			blobs = append(blobs, recording.Blob{Role: b.Role, SHA256: b.SHA256, Size: b.Size, Media: mediaOf(b.Media)})
		}
	}
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	if err := w.s.eventLocked(recording.TypeEnd, data, blobs); err != nil {
		return err
	}
	if e.ResponseBody != nil && e.Truncated == "" && e.Status/100 == 2 {
		w.s.bodies[e.ResponseBody.SHA256] = int64(e.ID)
		if h, err := recording.ParseHTTPHead(e.ResponseHead); err == nil && strings.EqualFold(h.Get("Content-Encoding"), "gzip") {
			w.s.packed[e.URL] = int64(e.ID)
		}
	}
	return nil
}

func (w wire) connection(e *proxy.Exchange) error {
	c := e.Conn
	id := int64(c.ID)
	if d := c.DNS; d != nil {
		answers, records := []string{}, []string{}
		for _, r := range d.Records[:min(len(d.Records), recording.MaxList)] {
			if r.Type == "A" || r.Type == "AAAA" {
				answers = append(answers, clip(r.Data))
			}
			records = append(records, clip(fmt.Sprintf("%s %d %s %s", r.Name, r.TTL, r.Type, r.Data)))
		}
		data := recording.Data{"connection": id, "name": clip(d.Host), "answers": answers, "resolver": d.Resolver, "authentic": d.AD, "records": records, "took": d.Took.Microseconds()}
		var raw []Blob
		for _, m := range d.Raw[:min(len(d.Raw), recording.MaxBlobs)] {
			raw = append(raw, Blob{roleDNS, "application/dns-message", m})
		}
		if err := w.s.Event(recording.TypeDNS, data, raw...); err != nil {
			return err
		}
	}
	if t := c.TLS; t != nil {
		verdict := t.Verdict
		if verdict == "" {
			verdict = verdictGood
		}
		data := recording.Data{"connection": id, "name": clip(c.Host), "verdict": clip(verdict), "version": tls.VersionName(t.Version), "cipher": tls.CipherSuiteName(t.Cipher), "roots": t.Roots,
			"server-name": clip(t.ServerName), "version-id": int64(t.Version), "cipher-id": int64(t.Cipher)}
		var certs []Blob
		for _, der := range t.Chain[:min(len(t.Chain), recording.MaxBlobs-1)] {
			certs = append(certs, Blob{recording.RoleCertificate, "application/pkix-cert", der})
		}
		if t.OCSP != nil {
			certs = append(certs, Blob{roleOCSP, "application/ocsp-response", t.OCSP})
		}
		if err := w.s.Event(recording.TypeTLS, data, certs...); err != nil {
			return err
		}
	}
	return w.s.event(recording.TypeConnection, w.reached(e), nil)
}

const verdictGood = "good"

func (w wire) reached(e *proxy.Exchange) recording.Data {
	c := e.Conn
	if c == nil {
		return recording.Data{"connection": int64(e.ID), "name": clip(e.URL), "code": e.Code, "error": clip(e.Error)}
	}
	d := recording.Data{"connection": int64(c.ID), "name": clip(c.Host), "port": int64(c.Port)}
	set := func(name, value string) {
		if value != "" {
			d[name] = clip(value)
		}
	}
	if c.Remote.IsValid() {
		d["remote"], d["local"] = c.Remote.String(), c.Local.String()
	}
	set("exception", c.Exception)
	set("code", e.Code)
	set("error", e.Error)
	if e.Background {
		d["background"] = true
	}
	for _, t := range c.Tried {
		set("tried", t.Addr.String()+": "+t.Error)
	}
	return d
}
