package verify

import (
	"compress/gzip"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/evidence/recording"
)

// judgeConnection: the address dialled was among the answers, and the verdict on
// the certificates is one that they bear out.
func (c *recorded) judgeConnection(n int64, conn *connected, fail func(Reason)) {
	if conn.made == nil {
		return // it was never made; what DNS and TLS said stands in the log
	}
	name := conn.made.Data.Text("name")
	if x := conn.made.Data.Text("exception"); x != "" && c.once("exception "+x) {
		c.run.notice(c.at(c.rep.Log), because("recording-exception", "exception", x))
	}
	remote, err := netip.ParseAddrPort(conn.made.Data.Text("remote"))
	_, literal := netip.ParseAddr(name)
	switch {
	case err != nil:
		// No address answered.
	case conn.dns != nil:
		if conn.dns.Data.Text("name") != name || !slices.ContainsFunc(conn.dns.Data.Texts("answers"), func(a string) bool {
			addr, err := netip.ParseAddr(a)
			return err == nil && addr.Unmap() == remote.Addr().Unmap()
		}) {
			fail(because("recording-dns-differs", "connection", n, "host", name, "remote", remote))
		}
	case literal != nil && conn.made.Data.Text("exception") == "":
		fail(because("recording-no-dns", "connection", n, "host", name))
	}
	if conn.tls != nil {
		c.judgeChain(n, name, conn.tls, fail)
	}
}

// judgeChain looks at the certificates again. Which roots are trusted is the
// recorder's word; that the leaf is for the host, was valid, and that each is
// signed by the next, anybody can see.
func (c *recorded) judgeChain(n int64, host string, e *recording.Logged, fail func(Reason)) {
	verdict := e.Data.Text("verdict")
	if verdict != "good" {
		if c.once("certificate " + host + " " + verdict) {
			c.run.notice(c.at(c.rep.Log), because("recording-bad-certificate", "host", host, "detail", verdict))
		}
		return
	}
	var chain []*x509.Certificate
	for _, b := range e.Blobs {
		if b.Role != recording.RoleCertificate {
			continue
		}
		der := c.certs[b.SHA256]
		if der == nil {
			return // not handed in: the blobs' line says so
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			fail(because("recording-certificate", "connection", n, "host", host, "code", "form", "detail", err))
			return
		}
		chain = append(chain, cert)
	}
	if len(chain) == 0 {
		fail(because("recording-certificate", "connection", n, "host", host, "code", "none", "detail", ""))
		return
	}
	leaf := chain[0]
	if err := leaf.VerifyHostname(host); err != nil {
		fail(because("recording-certificate", "connection", n, "host", host, "code", "host", "detail", err))
	}
	if e.Time.Before(leaf.NotBefore) || e.Time.After(leaf.NotAfter) {
		fail(because("recording-certificate", "connection", n, "host", host, "code", "validity", "detail", ""))
	}
}

// judgeVideo compares the video's frames with those in the log, bit by bit.
func (c *recorded) judgeVideo(ctx context.Context) error {
	at := c.at(c.rep.Video)
	c.rep.Frames = len(c.frames)
	if n := len(c.times); n > 0 {
		c.rep.VideoMillis = c.times[n-1]
	}
	if c.rep.Video == "" {
		if len(c.frames) > 0 {
			c.run.check("recording-video", at, Undetermined, because("recording-no-video", "count", len(c.frames)), ClauseBefore)
		}
		return nil
	}
	file, err := c.file(c.rep.Video)
	if err != nil {
		return err
	}
	fail := func(v Verdict, why Reason) {
		if c.more("recording-video") {
			c.run.check("recording-video", at, v, why, ClauseUnaltered)
		}
	}
	if sum := c.run.files[c.rep.Video].SHA256; !c.videoSum.IsZero() && sum != c.videoSum {
		fail(DoesNotMatch, because("recording-file-differs", "name", recording.FileVideo, "found", sum, "want", c.videoSum))
	}
	r := recording.NewVideoReader(file)
	count := 0
	for {
		if count%256 == 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		f, err := r.Next()
		if err == io.EOF {
			break
		}
		var bad *recording.VideoError
		if errors.As(err, &bad) {
			fail(DoesNotMatch, because("recording-video-broken", "offset", bad.Offset, "code", bad.Code, "detail", bad.Reason))
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading %s: %w", c.rep.Video, err)
		}
		count++
		switch {
		case f.Number >= len(c.frames):
		case f.SHA256 != c.frames[f.Number]:
			fail(DoesNotMatch, because("recording-frame-differs", "frame", f.Number, "found", f.SHA256, "want", c.frames[f.Number]))
		case f.Time != time.Duration(c.times[f.Number])*time.Millisecond:
			fail(DoesNotMatch, because("recording-frame-time", "frame", f.Number, "found", f.Time.Milliseconds(), "want", c.times[f.Number]))
		}
	}
	switch {
	case count != len(c.frames) && !c.broken:
		v := DoesNotMatch
		if c.summary.State == recording.StatePartial {
			v = Undetermined // killed between a frame and its event, or the other way round
		}
		fail(v, because("recording-frames-count", "found", count, "want", len(c.frames)))
	case c.good("recording-video"):
		c.run.check("recording-video", at, Matches, because("recording-video-holds", "count", count), ClauseBefore, ClauseUnaltered)
	}
	return nil
}

// judgeDownloads: what was saved is what a recorded response brought.
func (c *recorded) judgeDownloads() {
	for _, e := range c.downloads {
		b, has := e.Blob(recording.RoleDownload)
		if !has || !c.read {
			continue // cancelled, or the archive's lines say why it cannot be compared
		}
		name, at := e.Data.Text("name"), c.at(c.rep.Log)
		id := recording.RecordID(c.id, e.Data.Int("exchange"), recording.KindResponse)
		s := c.records[id]
		known := e.Data.Has("exchange")
		if s != nil && s.kind == recording.RecordRevisit { // the payload is in the record it refers to
			id = s.refers
			s = c.records[id]
		}
		switch other, ok := c.payloads[b.SHA256]; {
		case known && s != nil && (s.payload.SHA256 == b.SHA256 || c.unpacked[id] == b.SHA256):
			c.run.check("recording-download", at, Matches, because("recording-download-holds", "name", name, "id", id), ClauseBefore, ClauseUnaltered)
		case known:
			c.run.check("recording-download", at, DoesNotMatch, because("recording-download-differs", "name", name, "exchange", e.Data.Int("exchange")), ClauseBefore, ClauseUnaltered)
		case ok:
			c.run.check("recording-download", at, Matches, because("recording-download-holds", "name", name, "id", other), ClauseBefore, ClauseUnaltered)
		default:
			c.run.check("recording-download", at, Undetermined, because("recording-download-made", "name", name), ClauseBefore)
		}
	}
}

// judgeBlobs: everything that an event names is in the package.
func (c *recorded) judgeBlobs() {
	if c.rep.Archive == "" || c.broken {
		return // said already
	}
	for i := range c.run.rep.Steps {
		for _, o := range c.run.rep.Steps[i].Objects {
			if o.Path != "" {
				f := c.run.files[o.Path]
				c.present[f.SHA256] = f.Size
			}
		}
	}
	for _, d := range slices.SortedFunc(maps.Keys(c.blobs), func(a, b evidence.Digest) int { return slices.Compare(a[:], b[:]) }) {
		w := c.blobs[d]
		size, there := c.present[d]
		switch {
		case !there && w.size == 0:
		case !there:
			if c.more("recording-blob") {
				c.run.check("recording-blob", c.at(c.rep.Log), Undetermined, because("recording-blob-missing", "event", w.seq, "role", w.role, "sha256", d), ClauseBefore)
			}
		case size != w.size:
			if c.more("recording-blob") {
				c.run.check("recording-blob", c.at(c.rep.Log), DoesNotMatch, because("recording-blob-size", "event", w.seq, "role", w.role, "found", size, "want", w.size), ClauseUnaltered)
			}
		}
	}
	if c.good("recording-blob") {
		c.run.check("recording-blob", c.at(c.rep.Log), Matches, because("recording-blobs", "count", len(c.blobs)), ClauseBefore, ClauseUnaltered)
	}
}

// maxUnpacked bounds what a compressed download may become.
const maxUnpacked = 8 << 30

// gunzip computes the digest of what is written to it with gzip taken off.
type gunzip struct {
	w    *io.PipeWriter
	done chan struct{}
	sum  evidence.Digest
	err  error
}

func newGunzip() *gunzip {
	r, w := io.Pipe()
	g := &gunzip{w: w, done: make(chan struct{})}
	go func() {
		defer close(g.done)
		h := sha256.New()
		z, err := gzip.NewReader(r)
		if err == nil {
			_, err = io.Copy(h, io.LimitReader(z, maxUnpacked))
		}
		g.sum, g.err = evidence.Digest(h.Sum(nil)), err
		_, _ = io.Copy(io.Discard, r) // whatever follows, so that writing goes on
	}()
	return g
}

func (g *gunzip) Write(p []byte) (int, error) { return g.w.Write(p) }

// end waits for the digest; ok is false when the bytes are no gzip.
func (g *gunzip) end() (evidence.Digest, bool) {
	_ = g.w.Close() // never fails
	<-g.done
	return g.sum, g.err == nil
}
