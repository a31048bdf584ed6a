// Package capturetest has what stands in for a browser and a chain in tests of
// recordings.
//
//	Room ─► Plain: an HTTP client behind the proxy that knows links, titles and files
//	Chain: keeps what was deposited in memory; refuses and fails as it is told
//
// For tests alone.
package capturetest

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"html"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"io"
	"net"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/evidence/recording"
	"github.com/zhenglian/zhenglian/internal/capture"
)

// Room is one whose browser is Plain.
type Room struct {
	// Crash, when set, ends the browser at the first address that holds it.
	Crash string

	listener net.Listener
	browser  *Plain
}

// Listener implements capture.Room.
func (r *Room) Listener() (net.Listener, error) {
	var err error
	r.listener, err = net.Listen("tcp", "127.0.0.1:0")
	return r.listener, err
}

// Start implements capture.Room.
func (r *Room) Start(_ context.Context, l capture.Launch) (capture.Browser, error) {
	cert, err := x509.ParseCertificate(l.CA)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	through := &url.URL{Scheme: "http", Host: r.listener.Addr().String()}
	r.browser = &Plain{launch: l, gone: make(chan struct{}), crash: r.Crash,
		client: &http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(through), TLSClientConfig: &tls.Config{RootCAs: pool}, DisableCompression: true}}}
	return r.browser, nil
}

// Report implements capture.Room.
func (r *Room) Report() ([]byte, error) { return nil, nil }

// Close implements capture.Room.
func (r *Room) Close() error { return nil }

// Plain is an HTTP client as a capture.Browser. Its pictures are made up.
type Plain struct {
	launch capture.Launch
	client *http.Client
	crash  string

	url, body, title string
	status, shots    int
	once             sync.Once
	gone             chan struct{}
	why              string
}

// Version implements capture.Browser.
func (*Plain) Version() string { return "plain/1" }

// Binary implements capture.Browser.
func (*Plain) Binary() evidence.Digest { return evidence.Digest{} }

// Gone implements capture.Browser.
func (p *Plain) Gone() <-chan struct{} { return p.gone }

// Why implements capture.Browser.
func (p *Plain) Why() string { return p.why }

// Close implements capture.Browser.
func (p *Plain) Close() error {
	p.client.CloseIdleConnections()
	p.end("closed")
	return nil
}

func (p *Plain) end(why string) { p.once.Do(func() { p.why = why; close(p.gone) }) }

func (p *Plain) fetch(ctx context.Context, address string) (*http.Response, []byte, error) {
	if p.crash != "" && strings.Contains(address, p.crash) {
		p.end("crashed")
		return nil, nil, errors.New("the browser is gone")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, nil, &capture.StepError{Reason: err.Error()}
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return nil, nil, &capture.StepError{Reason: err.Error()}
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, nil, &capture.StepError{Reason: err.Error()}
	}
	return resp, data, nil
}

// Goto implements capture.Browser.
func (p *Plain) Goto(ctx context.Context, address string) error {
	if err := p.launch.Observer.Event(recording.TypeNavStart, recording.Data{"url": address}); err != nil {
		return err
	}
	resp, data, err := p.fetch(ctx, address)
	if err != nil {
		return err
	}
	p.url, p.body, p.status, p.title = resp.Request.URL.String(), string(data), resp.StatusCode, ""
	if m := regexp.MustCompile(`<title>([^<]*)</title>`).FindStringSubmatch(p.body); m != nil {
		p.title = html.UnescapeString(m[1])
	}
	for range 3 {
		if err := p.launch.Observer.Frame(time.Now(), 32, 24, p.picture(false)); err != nil {
			return err
		}
	}
	return p.launch.Observer.Event(recording.TypeNavEnd, recording.Data{"url": p.url, "title": p.title, "status": int64(p.status)})
}

// link finds an address by the text of its link.
func (p *Plain) link(text string) (string, error) {
	m := regexp.MustCompile(`<a href="([^"]*)"[^>]*>` + regexp.QuoteMeta(html.EscapeString(text)) + `</a>`).FindStringSubmatch(p.body)
	if text == "" || m == nil {
		return "", &capture.StepError{Reason: fmt.Sprintf("nothing on the page shows %q", text)}
	}
	base, err := url.Parse(p.url)
	if err != nil {
		return "", err
	}
	to, err := base.Parse(m[1])
	if err != nil {
		return "", &capture.StepError{Reason: err.Error()}
	}
	return to.String(), nil
}

// Click implements capture.Browser, for links by their text.
func (p *Plain) Click(ctx context.Context, _, text string) error {
	to, err := p.link(text)
	if err != nil {
		return err
	}
	return p.Goto(ctx, to)
}

// Type implements capture.Browser.
func (p *Plain) Type(_ context.Context, selector, _ string) error { return p.find(selector) }

// Wait implements capture.Browser.
func (p *Plain) Wait(_ context.Context, selector string) error { return p.find(selector) }

func (p *Plain) find(selector string) error {
	if !strings.Contains(p.body, `id="`+strings.TrimPrefix(selector, "#")+`"`) {
		return &capture.StepError{Reason: "nothing on the page is " + selector}
	}
	return nil
}

// Scroll implements capture.Browser.
func (*Plain) Scroll(context.Context, int) error { return nil }

// Download implements capture.Browser.
func (p *Plain) Download(ctx context.Context, _, text string) error {
	to, err := p.link(text)
	if err != nil {
		return err
	}
	name := path.Base(to)
	if err := p.launch.Observer.Event(recording.TypeDownload, recording.Data{"id": "d" + name, "url": to, "name": name}); err != nil {
		return err
	}
	_, data, err := p.fetch(ctx, to)
	if err != nil {
		return err
	}
	_, err = p.launch.Observer.Download("d"+name, to, name, "completed", bytes.NewReader(data))
	return err
}

// Page implements capture.Browser.
func (p *Plain) Page(context.Context) (*capture.Page, error) {
	return &capture.Page{URL: p.url, Title: p.title, Status: p.status, Security: "neutral", Screenshot: p.picture(true), DOM: []byte(p.body)}, nil
}

func (p *Plain) picture(lossless bool) []byte {
	p.shots++
	img := image.NewRGBA(image.Rect(0, 0, 32, 24))
	for x := range 32 {
		for y := range 24 {
			img.Set(x, y, color.RGBA{uint8(x*8 + p.shots*16), uint8(y * 10), uint8(p.shots * 40), 255})
		}
	}
	var b bytes.Buffer
	if lossless {
		_ = png.Encode(&b, img) // into memory
	} else {
		_ = jpeg.Encode(&b, img, nil)
	}
	return b.Bytes()
}
