package sitetest

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

//go:embed content
var content embed.FS

// modified is the date of everything that has one.
func modified() time.Time { return time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC) }

type result struct{ Title, Text, Address, words string }

func results() []result {
	return []result{
		{"雾中渡口 — 林观澜", "原作首发页面，摄影与文字。", "https://" + Author + "/", "雾中渡口 江南 晨雾 林观澜 渡口"},
		{"江南晨雾 高清无水印 — 云集图库", "商用授权，立即下载，含配套视频。", "https://" + Shop + "/item", "雾中渡口 江南 晨雾 图库 渡口"},
		{"江南晨雾（旧址）", "页面已迁移。", "http://" + Plain + "/old", "江南 晨雾"},
		{"渡口图片分享（证书有误的站点）", "自签名证书。", "https://" + SelfSigned + "/", "渡口 图片"},
	}
}

// pages serves all hosts.
func (s *Site) pages() (http.Handler, error) {
	t, err := template.ParseFS(content, "content/*.html")
	if err != nil {
		return nil, fmt.Errorf("reading the test site's pages: %w", err)
	}
	hosts := map[string]*http.ServeMux{}
	for _, h := range []string{Search, Author, Shop, CDN, Plain, Inner, SelfSigned, Expired} {
		hosts[h] = http.NewServeMux()
	}
	page := func(name, title, site string, data func(*http.Request) map[string]any) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			values := map[string]any{"Title": title, "Site": site, "CDN": "https://" + CDN, "Year": 2026}
			if data != nil {
				for k, v := range data(r) {
					values[k] = v
				}
			}
			var b bytes.Buffer
			if err := t.ExecuteTemplate(&b, name, values); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			w.Header().Set("Content-Length", strconv.Itoa(b.Len()))
			_, _ = w.Write(b.Bytes()) // a client that is gone
		}
	}
	search := page("search.html", "寻迹搜索", "寻迹搜索", func(r *http.Request) map[string]any {
		q := strings.TrimSpace(r.URL.Query().Get("q"))
		var found []result
		for _, hit := range results() {
			if q != "" && strings.Contains(hit.words, q) {
				found = append(found, hit)
			}
		}
		return map[string]any{"Query": q, "Results": found}
	})
	hosts[Search].HandleFunc("GET /{$}", search)
	hosts[Search].HandleFunc("GET /search", search)
	hosts[Author].HandleFunc("GET /{$}", page("author.html", "雾中渡口", "林观澜的相册", nil))
	hosts[Author].HandleFunc("GET /pictures/{n}", picture(true))
	hosts[CDN].HandleFunc("GET /pictures/{n}", picture(false))
	hosts[CDN].HandleFunc("GET /film.webm", file("content/film.webm", "video/webm")) // ranges too
	hosts[Shop].HandleFunc("GET /item", page("item.html", "江南晨雾 — 云集图库", "云集图库", nil))
	hosts[Shop].HandleFunc("GET /notice", page("notice.html", "公告 — 云集图库", "云集图库", func(*http.Request) map[string]any {
		return map[string]any{"Visit": s.visits.Add(1)}
	}))
	for _, name := range []string{"item.js", "worker.js", "service-worker.js"} {
		hosts[Shop].HandleFunc("GET /"+name, file("content/"+name, "text/javascript; charset=utf-8"))
	}
	hosts[Shop].HandleFunc("GET /data/worker.json", text("application/json", `{"text":"后台线程已运行"}`))
	hosts[Shop].HandleFunc("GET /data/service-worker.json", text("application/json", `{"text":"本段文字来自离线缓存"}`))
	hosts[Shop].HandleFunc("GET /download/1", download)
	hosts[Shop].HandleFunc("GET /download/large", large)
	hosts[Shop].HandleFunc("GET /cut", cut)
	hosts[Shop].HandleFunc("GET /events", events)
	hosts[Shop].HandleFunc("GET /socket", socket)
	hosts[Plain].HandleFunc("GET /{path...}", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "https://"+Shop+"/item", http.StatusMovedPermanently)
	})
	hosts[Inner].HandleFunc("GET /{$}", page("inner.html", "内部地址", "不怀好意的站点", func(*http.Request) map[string]any {
		list, err := json.Marshal(append(s.InnerAddresses(), "http://"+Inner+"/redirect"))
		if err != nil {
			return nil
		}
		return map[string]any{"Addresses": template.JS(list)}
	}))
	hosts[Inner].HandleFunc("GET /inner.js", file("content/inner.js", "text/javascript; charset=utf-8"))
	hosts[Inner].HandleFunc("GET /redirect/{path...}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Access-Control-Allow-Origin", "*")
		http.Redirect(w, r, "http://"+s.Canary().String()+"/"+r.PathValue("path"), http.StatusFound)
	})
	for _, h := range []string{SelfSigned, Expired} {
		hosts[h].HandleFunc("GET /{$}", page("notice.html", "证书有误的站点", "证书有误的站点", func(*http.Request) map[string]any {
			return map[string]any{"Visit": 1}
		}))
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mux := hosts[r.Host]
		if mux == nil {
			http.Error(w, "no host "+url.PathEscape(r.Host)+" here", http.StatusMisdirectedRequest)
			return
		}
		mux.ServeHTTP(w, r)
	}), nil
}

// InnerAddresses are the spellings that the page of Inner tries: of 127.0.0.1,
// at the canary's port, and of 169.254.169.254.
func (s *Site) InnerAddresses() []string {
	port := ":" + strconv.Itoa(int(s.Canary().Port()))
	var list []string
	for _, host := range []string{"127.0.0.1", "0x7f000001", "2130706433", "127.1", "0177.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "localhost", "127.0.0.1.", "0.0.0.0", Rebind, Mixed} {
		list = append(list, "http://"+host+port)
	}
	for _, host := range []string{"169.254.169.254", "0xa9fea9fe", "2852039166", "0251.0376.0251.0376", "169.254.43518", "[::ffff:169.254.169.254]", "[::ffff:a9fe:a9fe]", "[64:ff9b::a9fe:a9fe]", "[2002:a9fe:a9fe::1]", Metadata} {
		list = append(list, "http://"+host)
	}
	return list
}

func picture(sealed bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.Atoi(strings.TrimSuffix(r.PathValue("n"), ".png"))
		if err != nil || n < 1 || n > 2 {
			http.NotFound(w, r)
			return
		}
		data, err := Picture(sealed, n)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "image/png")
		http.ServeContent(w, r, "", modified(), bytes.NewReader(data))
	}
}

func file(name, media string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		data, err := content.ReadFile(name)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", media)
		http.ServeContent(w, r, "", modified(), bytes.NewReader(data))
	}
}

func text(media, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", media)
		_, _ = io.WriteString(w, body) // a client that is gone
	}
}

// DownloadSize is the size of /download/1, in octets.
const DownloadSize = 2 << 20

// Filler writes n octets that a seed determines, 64 KiB at a time.
func Filler(w io.Writer, seed string, n int64) error {
	block := make([]byte, 0, 64<<10)
	for i := 0; len(block) < cap(block); i++ {
		sum := sha256.Sum256([]byte(seed + strconv.Itoa(i)))
		block = append(block, sum[:]...)
	}
	for n > 0 {
		part := block[:min(n, int64(len(block)))]
		if _, err := w.Write(part); err != nil {
			return err
		}
		n -= int64(len(part))
	}
	return nil
}

func download(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Disposition", `attachment; filename="original.bin"; filename*=UTF-8''`+url.PathEscape("江南晨雾原图包.bin"))
	w.Header().Set("Content-Length", strconv.Itoa(DownloadSize))
	_ = Filler(w, "download", DownloadSize) // a client that is gone
}

// large serves ?mb=N mebibytes (400 unless told, 1024 at most), chunked with
// ?chunked=1.
func large(w http.ResponseWriter, r *http.Request) {
	mb, err := strconv.ParseInt(r.URL.Query().Get("mb"), 10, 64)
	if err != nil || mb < 1 || mb > 1024 {
		mb = 400
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Disposition", `attachment; filename="large.bin"`)
	if r.URL.Query().Get("chunked") == "" {
		w.Header().Set("Content-Length", strconv.FormatInt(mb<<20, 10))
	}
	_ = Filler(w, "large", mb<<20) // a client that is gone
}

// cut promises more than it gives.
func cut(w http.ResponseWriter, _ *http.Request) {
	conn, out, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer conn.Close()
	_, _ = io.WriteString(out, "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 1000\r\n\r\n只有这些")
	_ = out.Flush() // a client that is gone
}

// events is a stream of three server-sent events that then stays open.
func events(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	for i := 1; i <= 3; i++ {
		if _, err := fmt.Fprintf(w, "id: %d\ndata: 今日浏览 %d 次\n\n", i, 1200+i); err != nil {
			return
		}
		if http.NewResponseController(w).Flush() != nil {
			return
		}
	}
	<-r.Context().Done()
}

// socket is a WebSocket (RFC 6455) that answers the first message with one and
// then closes when the client does.
func socket(w http.ResponseWriter, r *http.Request) {
	key := r.Header.Get("Sec-WebSocket-Key")
	if key == "" || !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		http.Error(w, "this is a WebSocket", http.StatusUpgradeRequired)
		return
	}
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer conn.Close()
	defer context.AfterFunc(r.Context(), func() { conn.Close() })()
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) // RFC 6455 §1.3
	fmt.Fprintf(buffered, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n", base64.StdEncoding.EncodeToString(sum[:]))
	if buffered.Flush() != nil {
		return
	}
	_ = conn.SetDeadline(time.Now().Add(time.Minute)) // a closed connection shows below
	for {
		opcode, payload, err := readFrame(buffered.Reader)
		if err != nil {
			return
		}
		answer := []byte("听到：" + string(payload))
		switch opcode {
		case 8:
			answer = payload
		case 1:
		default:
			continue
		}
		if _, err := buffered.Write(append([]byte{0x80 | opcode, byte(len(answer))}, answer...)); err != nil || buffered.Flush() != nil || opcode == 8 {
			return
		}
	}
}

// readFrame reads a client's frame of at most 100 octets.
func readFrame(r *bufio.Reader) (opcode byte, payload []byte, err error) {
	var h [6]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return 0, nil, err
	}
	n := int(h[1] & 0x7f)
	if h[1]&0x80 == 0 || n > 100 {
		return 0, nil, fmt.Errorf("a frame that is not masked, or of more than 100 octets")
	}
	payload = make([]byte, n)
	if _, err := io.ReadFull(r, payload); err != nil {
		return 0, nil, err
	}
	for i := range payload {
		payload[i] ^= h[2+i%4]
	}
	return h[0] & 0x0f, payload, nil
}
