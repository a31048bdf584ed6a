package testrecording

import (
	"bytes"
	"compress/gzip"
	"crypto/ed25519"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net/netip"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/evidence/recording"
	"github.com/zhenglian/zhenglian/internal/capture/proxy"
)

// Host is the name of the made-up site.
const Host = "works.example"

// Connect records a connection to the site with its DNS answer and certificate.
func (r *Recording) Connect() (*proxy.Connection, error) {
	id := r.next
	r.next++
	der, err := certificate(Host, r.config.Start)
	if err != nil {
		return nil, err
	}
	c := &proxy.Connection{ID: id, Host: Host, Port: 443, Remote: netip.MustParseAddrPort("203.0.113.7:443"), Local: netip.MustParseAddrPort("198.51.100.2:40000"), Dialled: r.now,
		DNS: &proxy.Answer{Host: Host, Resolver: "192.0.2.53:53", Began: r.now, Records: []proxy.DNSRecord{{Name: Host, Type: "A", TTL: 60, Data: "203.0.113.7"}}},
		TLS: &proxy.TLS{ServerName: Host, Version: 0x0304, Cipher: 0x1301, Chain: [][]byte{der}, Roots: "test", Verified: r.now}}
	n := int64(id)
	if err := r.Event(recording.TypeDNS, recording.Data{"connection": n, "name": Host, "answers": []string{"203.0.113.7"}, "resolver": "192.0.2.53:53"}); err != nil {
		return nil, err
	}
	if err := r.Event(recording.TypeTLS, recording.Data{"connection": n, "name": Host, "verdict": "good", "version": "TLS 1.3", "roots": "test"}, r.Kept(recording.RoleCertificate, "application/pkix-cert", der)); err != nil {
		return nil, err
	}
	return c, r.Event(recording.TypeConnection, recording.Data{"connection": n, "name": Host, "remote": c.Remote.String(), "port": int64(443)})
}

// certificate is self-signed, by a key that everybody knows.
func certificate(host string, start time.Time) ([]byte, error) {
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32))
	t := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host}, NotBefore: start.AddDate(0, -1, 0), NotAfter: start.AddDate(0, 2, 0)}
	return x509.CreateCertificate(nil, t, t, key.Public(), key)
}

// html is the page that the site shows.
const html = `<!doctype html><meta charset="utf-8"><title>作品</title><h1 id="t">侵权作品</h1><img id="i" src="/picture.png" alt="">`

// Gzip compresses with a fixed header.
func Gzip(data []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write(data) // into memory
	_ = w.Close()
	return b.Bytes()
}

// Chunks is the framing of a body in chunks of that size.
func Chunks(body []byte, size int) []byte {
	var b bytes.Buffer
	for n := len(body); n > 0; n -= size {
		fmt.Fprintf(&b, "%x\r\n\r\n", min(n, size))
	}
	b.WriteString("0\r\n\r\n") // no trailer and no extensions: common viewers take them for content
	return b.Bytes()
}

// Work is the file that the story downloads.
func Work() []byte { return bytes.Repeat([]byte("侵权作品的全部内容。"), 300) }

// Story plays a visit up to its end, without sealing: a page with a picture, a
// redirect, the same picture again, a refused request, a form, a download. batch
// is called where the recorder deposits one.
func (r *Recording) Story(batch func() error) error {
	if err := r.Environment(recording.EnvClean); err != nil {
		return err
	}
	if err := batch(); err != nil {
		return err
	}
	base := "https://" + Host
	if err := r.Event(recording.TypeInput, recording.Data{"kind": "address", "text": base + "/"}); err != nil {
		return err
	}
	c, err := r.Connect()
	if err != nil {
		return err
	}
	page, image := Gzip([]byte(html)), picture(99, true)
	for len(image) < 5000 {
		image = append(image, 0) // large enough to be written once only
	}
	visits := []Visit{
		{URL: base + "/", Conn: c, Status: 200, Media: "text/html; charset=utf-8", Extra: "Content-Encoding: gzip\r\n", Body: page, Framing: Chunks(page, 50)},
		{URL: base + "/picture.png", Conn: c, Status: 200, Media: "image/png", Body: image},
		{URL: base + "/old", Conn: c, Status: 302, Media: "text/plain", Extra: "Location: /\r\n"},
		{URL: base + "/picture.png", Conn: c, Status: 200, Media: "image/png", Body: image},
		{URL: "http://127.0.0.1/", Code: proxy.CodeRefusedAddress},
		{Method: "POST", URL: base + "/search", Conn: c, RequestBody: []byte("q=%E4%BD%9C%E5%93%81"), Status: 200, Media: "text/html", Body: []byte("<p>1</p>")},
		{URL: base + "/none", Conn: c, Status: 204, Media: "text/plain", BodilessStatus: true},
		{URL: base + "/long", Conn: c, Status: 200, Media: "text/plain", Body: []byte("beginning"), Truncated: proxy.TruncatedOrigin},
	}
	for _, v := range visits {
		if _, err := r.Exchange(v); err != nil {
			return err
		}
	}
	if err := r.Frames(5); err != nil {
		return err
	}
	if err := r.Step("打开作品页", base+"/", "作品"); err != nil {
		return err
	}
	if err := batch(); err != nil {
		return err
	}
	id, err := r.Exchange(Visit{URL: base + "/novel.txt", Conn: c, Status: 200, Media: "application/octet-stream", Body: Work()})
	if err != nil {
		return err
	}
	if err := r.Download("novel.txt", base+"/novel.txt", id, Work()); err != nil {
		return err
	}
	if err := r.Frames(3); err != nil {
		return err
	}
	return batch()
}

// Whole plays the story to its end, with batches to nobody.
func Whole(c Config) (*Recording, *recording.Summary, error) {
	r, err := New(c)
	if err != nil {
		return nil, nil, err
	}
	if err := r.Story(func() error { _, err := r.Batch(); return err }); err != nil {
		return nil, nil, err
	}
	s, err := r.Seal("")
	return r, s, err
}

// Example is a configuration for tests that have no alliance.
func Example() Config {
	return Config{Session: evidence.SumSHA256([]byte("session")), Trail: evidence.SumSHA256([]byte("trail")), Recorder: evidence.SumSHA256([]byte("recorder")),
		Start: time.Date(2026, 11, 22, 15, 5, 38, 0, time.UTC)}
}
