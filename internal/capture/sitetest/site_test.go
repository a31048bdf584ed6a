package sitetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/capture/proxy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// record keeps ends and digests.
type record struct {
	mu   sync.Mutex
	list []proxy.Exchange
}

func (r *record) Record(_ context.Context, e proxy.Exchange) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, e)
	return nil
}

func (r *record) Blob(role, media string) (proxy.BlobWriter, error) {
	return &blob{role: role, media: media}, nil
}

type blob struct {
	bytes.Buffer
	role, media string
}

func (b *blob) Commit() (proxy.Blob, error) {
	return proxy.Blob{Role: b.role, Media: b.media, Size: int64(b.Len()), SHA256: evidence.Digest(sha256.Sum256(b.Bytes()))}, nil
}
func (b *blob) Abort() {}

// find waits for the end of an exchange: a stream's is recorded after the
// browser has seen it.
func (r *record) find(t *testing.T, address string) proxy.Exchange {
	t.Helper()
	for range 1000 {
		r.mu.Lock()
		for _, e := range r.list {
			if e.Stage == proxy.StageEnd && e.URL == address {
				r.mu.Unlock()
				return e
			}
		}
		r.mu.Unlock()
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("%s is not in the record", address)
	return proxy.Exchange{}
}

// through is a client that goes through a recording proxy, as a browser would.
func through(t *testing.T) (*Site, *record, *http.Client, string) {
	t.Helper()
	site, err := Start()
	if err != nil {
		t.Fatal(err)
	}
	ca, err := proxy.NewCA("test", time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	r := &record{}
	p, err := proxy.New(proxy.Config{Recorder: r, CA: ca, Exceptions: site.Exceptions(), Roots: site.Roots(), RootsName: RootsName, Resolver: site.Resolver(), Ports: []uint16{80, 443, site.Canary().Port()}})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- p.Serve(ctx, l) }()
	roots := x509.NewCertPool()
	roots.AddCert(ca.Certificate())
	transport := &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: l.Addr().String()}), TLSClientConfig: &tls.Config{RootCAs: roots}, DisableCompression: true}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
		if err := site.Close(); err != nil && !strings.Contains(err.Error(), "closed") {
			t.Error(err)
		}
	})
	return site, r, &http.Client{Transport: transport, Timeout: time.Minute}, l.Addr().String()
}

func get(t *testing.T, c *http.Client, address string) (*http.Response, string) {
	t.Helper()
	r, err := c.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r, string(body)
}

// The whole story through the recording proxy: search, result, copy, film,
// download, redirect, a page that changes.
func TestStory(t *testing.T) {
	_, record, c, _ := through(t)
	for address, want := range map[string]string{
		"https://" + Search + "/":                                  "寻迹搜索",
		"https://" + Search + "/search?q=" + url.QueryEscape("渡口"): "https://" + Shop + "/item",
		"https://" + Search + "/search?q=none":                     "没有找到",
		"https://" + Author + "/":                                  "摆渡人",
		"https://" + Shop + "/item":                                "https://" + CDN + "/film.webm",
		"http://" + Plain + "/old":                                 "高清无水印",
		"https://" + Shop + "/service-worker.js":                   "caches.open",
		"http://" + Inner + "/":                                    `"http://0177.0.0.1:`,
	} {
		r, body := get(t, c, address)
		if r.StatusCode != 200 || !strings.Contains(body, want) || strings.Contains(body, "ZgotmplZ") {
			t.Errorf("%s: %s, %.300q", address, r.Status, body)
		}
		e := record.find(t, address)
		if e.Conn.Exception == "" || e.Conn.TLS != nil && (e.Conn.TLS.Verdict != "" || e.Conn.TLS.Roots != RootsName) {
			t.Errorf("%s on %+v", address, e.Conn)
		}
	}
	if e := record.find(t, "http://"+Plain+"/old"); e.Status != 301 {
		t.Errorf("the redirect is recorded as %d", e.Status)
	}
	_, sealed := get(t, c, "https://"+Author+"/pictures/1.png")
	_, copied := get(t, c, "https://"+CDN+"/pictures/1.png")
	_, again := get(t, c, "https://"+CDN+"/pictures/1.png")
	if sealed == copied || copied != again || !strings.HasPrefix(copied, "\x89PNG") {
		t.Error("the pictures are not an original and a copy that stays the same")
	}
	var seen []string
	for range 2 {
		_, body := get(t, c, "https://"+Shop+"/notice")
		seen = append(seen, body)
	}
	if !strings.Contains(seen[0], "热卖") || !strings.Contains(seen[1], "已下架") {
		t.Error("the page does not change between visits")
	}
}

func TestRanges(t *testing.T) {
	_, record, c, _ := through(t)
	address := "https://" + CDN + "/film.webm"
	_, whole := get(t, c, address)
	request, err := http.NewRequest(http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Range", "bytes=1000-1999")
	r, err := c.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	part, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != 206 || string(part) != whole[1000:2000] {
		t.Errorf("%s, %d octets, %v", r.Status, len(part), err)
	}
	record.mu.Lock()
	defer record.mu.Unlock()
	if e := record.list[len(record.list)-1]; e.Status != 206 || e.ResponseBody.SHA256 != evidence.Digest(sha256.Sum256(part)) {
		t.Errorf("recorded: %d, %+v", e.Status, e.ResponseBody)
	}
}

func TestDownloads(t *testing.T) {
	_, record, c, _ := through(t)
	for address, size := range map[string]int64{"https://" + Shop + "/download/1": DownloadSize, "https://" + Shop + "/download/large?mb=3": 3 << 20, "https://" + Shop + "/download/large?mb=3&chunked=1": 3 << 20} {
		r, body := get(t, c, address)
		if int64(len(body)) != size || !strings.HasPrefix(r.Header.Get("Content-Disposition"), "attachment") {
			t.Errorf("%s: %d octets", address, len(body))
		}
		if e := record.find(t, address); e.ResponseBody.SHA256 != evidence.Digest(sha256.Sum256([]byte(body))) {
			t.Errorf("%s: another digest is recorded", address)
		}
	}
	r, err := c.Get("https://" + Shop + "/cut")
	if err == nil {
		_, err = io.ReadAll(r.Body)
		r.Body.Close()
	}
	if err == nil {
		t.Error("what is cut off comes whole")
	}
	if e := record.find(t, "https://"+Shop+"/cut"); e.Truncated != proxy.TruncatedOrigin {
		t.Errorf("recorded as %q", e.Truncated)
	}
}

func TestBadCertificates(t *testing.T) {
	_, record, c, _ := through(t)
	for host, verdict := range map[string]string{SelfSigned: "unknown authority", Expired: "expired"} {
		if r, err := c.Get("https://" + host + "/"); err == nil {
			r.Body.Close()
			t.Errorf("%s is believed", host)
		}
		found := false
		record.mu.Lock()
		for _, e := range record.list {
			found = found || e.Stage == proxy.StageConnection && e.Conn.Host == host && strings.Contains(e.Conn.TLS.Verdict, verdict)
		}
		record.mu.Unlock()
		if !found {
			t.Errorf("the verdict on %s is not in the record", host)
		}
	}
}

// Nothing that the page of Inner tries arrives, by whatever spelling, name or
// redirect; each attempt is in the record.
func TestInnerAddresses(t *testing.T) {
	site, record, c, _ := through(t)
	list := append(site.InnerAddresses(), "http://"+Inner+"/redirect")
	if len(list) < 21 {
		t.Fatalf("%d spellings", len(list))
	}
	for _, address := range list {
		r, body := get(t, c, address+"/canary")
		if r.StatusCode != 403 && r.StatusCode != 502 || strings.Contains(body, "canary-reached") || r.Header.Get("Zhenglian-Proxy") == "" {
			t.Errorf("%s: %s", address, r.Status)
		}
		if e := record.find(t, address+"/canary"); e.Code == "" && e.Status != 302 {
			t.Errorf("%s is recorded without a reason", address)
		}
	}
	if n := site.CanaryHits(); n != 0 {
		t.Errorf("%d connections reached 127.0.0.1", n)
	}
	// The canary is alive: without the proxy it is reached.
	r, err := http.Get("http://" + site.Canary().String() + "/canary")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if body, _ := io.ReadAll(r.Body); string(body) != "canary-reached" || site.CanaryHits() == 0 {
		t.Errorf("the canary says %q", body)
	}
	http.DefaultClient.CloseIdleConnections()
}

// The page's socket and its stream of events.
func TestStreams(t *testing.T) {
	_, record, c, addr := through(t)
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "CONNECT "+Shop+":443 HTTP/1.1\r\nHost: "+Shop+":443\r\n\r\n")
	answer := make([]byte, len("HTTP/1.1 200 Connection established\r\n\r\n"))
	if _, err := io.ReadFull(conn, answer); err != nil {
		t.Fatal(err)
	}
	secured := tls.Client(conn, &tls.Config{ServerName: Shop, RootCAs: c.Transport.(*http.Transport).TLSClientConfig.RootCAs})
	io.WriteString(secured, "GET /socket HTTP/1.1\r\nHost: "+Shop+"\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"+
		"\x81\x82\x00\x00\x00\x00hi"+"\x88\x82\x00\x00\x00\x00\x03\xe8")
	said, _ := io.ReadAll(secured) // to the end
	if !strings.Contains(string(said), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") || !strings.HasSuffix(string(said), "\x81\x0b听到：hi\x88\x02\x03\xe8") {
		t.Errorf("the socket said %q", said)
	}
	if e := record.find(t, "https://"+Shop+"/socket"); e.Kind != proxy.KindWebSocket || e.FramesSent != 2 || e.FramesReceived != 2 || e.Truncated != "" {
		t.Errorf("recorded: %s, %d, %d, %q", e.Kind, e.FramesSent, e.FramesReceived, e.Truncated)
	}
	r, err := c.Get("https://" + Shop + "/events")
	if err != nil {
		t.Fatal(err)
	}
	want := "id: 1\ndata: 今日浏览 1201 次\n\n"
	got := make([]byte, len(want))
	if _, err := io.ReadFull(r.Body, got); err != nil || string(got) != want {
		t.Errorf("%q, %v", got, err)
	}
	r.Body.Close()
}
