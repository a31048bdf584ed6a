// Package testrecording makes whole recordings for tests: event log, web archive
// and video of a visit to a made-up site, without a browser or a network.
//
//	New ─► Event, Exchange, Step … ─► Seal ─► events.jsonl, recording.wacz, video.mkv
//	                └► Batch: what the chain would have had at that time
//
// For tests alone. A test that wants a forged recording changes what it hands in
// or calls Event with what never happened.
package testrecording

import (
	"bytes"
	"crypto/ecdsa"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"io"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/evidence/recording"
	"github.com/zhenglian/zhenglian/internal/capture/proxy"
	"github.com/zhenglian/zhenglian/internal/capture/warc"
)

// Config says whose recording it is.
type Config struct {
	Session  evidence.Digest
	Trail    evidence.Digest
	Recorder evidence.Digest // kid
	Start    time.Time
	Key      *ecdsa.PrivateKey // signs the archive; may be nil
}

// Recording is one under way.
type Recording struct {
	config Config
	chain  recording.Chain
	now    time.Time
	phase  evidence.Phase

	Log       bytes.Buffer
	Digests   []evidence.Digest // of the events
	Blobs     map[evidence.Digest][]byte
	Exchanges []*proxy.Exchange
	Downloads map[string][]byte

	shots  []shot
	pages  []warc.Page
	others []recording.Blob // certificates, reports: kept as resource records
	frames [][]byte
	times  []time.Duration
	batch  int64
	next   uint64 // exchange or connection

	WACZ, Video []byte
}

type shot struct {
	url  string
	at   time.Time
	blob recording.Blob
}

// New begins a recording with its session.open.
func New(c Config) (*Recording, error) {
	r := &Recording{config: c, chain: recording.Chain{Session: c.Session}, now: c.Start, phase: evidence.PhaseBefore, Blobs: map[evidence.Digest][]byte{}, Downloads: map[string][]byte{}, next: 1}
	return r, r.Event(recording.TypeOpen, recording.Data{"trail": c.Trail.String(), "recorder": c.Recorder.String(), "version": "test"})
}

// Phase moves on.
func (r *Recording) Phase(p evidence.Phase) { r.phase = p }

// Now is the clock of the next event.
func (r *Recording) Now() time.Time { return r.now }

// Wait lets time pass.
func (r *Recording) Wait(d time.Duration) { r.now = r.now.Add(d) }

// Next is the seq of the next event.
func (r *Recording) Next() int64 { return r.chain.Next }

// Event appends an event, 10 ms after the last.
func (r *Recording) Event(kind string, data recording.Data, blobs ...recording.Blob) error {
	r.Wait(10 * time.Millisecond)
	e := &recording.Event{Phase: r.phase, Type: kind, At: recording.FormatTime(r.now), Mono: r.now.Sub(r.config.Start).Microseconds(), Data: data, Blobs: blobs}
	line, digest, err := r.chain.Link(e)
	if err != nil {
		return err
	}
	r.chain.Advance(e, digest)
	r.Log.Write(append(line, '\n'))
	r.Digests = append(r.Digests, digest)
	return nil
}

// Blob stores bytes.
func (r *Recording) Blob(role, media string, data []byte) recording.Blob {
	d := evidence.SumSHA256(data)
	r.Blobs[d] = data
	return recording.Blob{Role: role, SHA256: d, Size: int64(len(data)), Media: media}
}

// Kept stores bytes that will be a resource record.
func (r *Recording) Kept(role, media string, data []byte) recording.Blob {
	b := r.Blob(role, media, data)
	r.others = append(r.others, b)
	return b
}

// Environment writes the report of the environment and begins what is recorded.
func (r *Recording) Environment(verdict string, exceptions ...string) error {
	if exceptions == nil {
		exceptions = []string{}
	}
	if err := r.Event("env.hosts", recording.Data{"command": "cat /etc/hosts"}, r.Kept("output", "text/plain", []byte("127.0.0.1 localhost\n"))); err != nil {
		return err
	}
	report := r.Kept(recording.RoleReport, "application/json", fmt.Appendf(nil, `{"verdict":%q}`, verdict))
	if err := r.Event(recording.TypeEnvReport, recording.Data{"verdict": verdict, "exceptions": exceptions}, report); err != nil {
		return err
	}
	if err := r.Event(recording.TypeBrowser, recording.Data{"version": "Chromium 140"}); err != nil {
		return err
	}
	r.phase = evidence.PhaseDuring
	return nil
}

// Visit is one exchange of a site.
type Visit struct {
	Method, URL    string
	Conn           *proxy.Connection
	RequestBody    []byte
	Status         int
	Media          string
	Extra          string // further response fields, each with CR LF
	Body           []byte
	Framing        []byte // chunked when not nil
	Truncated      string
	Code           string // no response when set
	BodilessStatus bool   // 101, 204, 304
}

// Exchange records a request and its response, and returns its number.
func (r *Recording) Exchange(v Visit) (uint64, error) {
	id := r.next
	r.next++
	if v.Method == "" {
		v.Method = "GET"
	}
	e := &proxy.Exchange{ID: id, Stage: proxy.StageEnd, Kind: proxy.KindHTTP, Conn: v.Conn, Method: v.Method, URL: v.URL, Status: v.Status, Media: v.Media, Truncated: v.Truncated, Code: v.Code}
	conn := int64(0)
	if v.Conn != nil {
		conn = int64(v.Conn.ID)
	}
	e.Began = r.now
	r.Wait(time.Millisecond)
	e.Requested = r.now
	e.RequestHead = fmt.Appendf(nil, "%s %s HTTP/1.1\r\nHost: %s\r\n\r\n", v.Method, pathOf(v.URL), hostOf(v.URL))
	number := func() recording.Data {
		return recording.Data{"exchange": int64(id), "url": v.URL, "connection": conn}
	}
	request := number()
	request["method"] = v.Method
	if err := r.Event(recording.TypeRequest, request, r.Blob(recording.RoleRequestHead, "application/http", e.RequestHead)); err != nil {
		return id, err
	}
	var blobs []recording.Blob
	part := func(role, media string, data []byte) *proxy.Blob {
		b := r.Blob(role, media, data)
		blobs = append(blobs, b)
		return &proxy.Blob{Role: role, SHA256: b.SHA256, Size: b.Size, Media: media}
	}
	if v.RequestBody != nil {
		e.RequestBody = part(recording.RoleRequestBody, "application/octet-stream", v.RequestBody)
	}
	r.Wait(time.Millisecond)
	end := number()
	if v.Code == "" {
		e.Responded = r.now
		size := fmt.Sprintf("Content-Length: %d\r\n", len(v.Body))
		if v.Framing != nil {
			size = "Transfer-Encoding: chunked\r\n"
		}
		if v.BodilessStatus {
			size = ""
		}
		e.ResponseHead = fmt.Appendf(nil, "HTTP/1.1 %d X\r\nContent-Type: %s\r\n%s%s\r\n", v.Status, v.Media, v.Extra, size)
		if !v.BodilessStatus {
			e.ResponseBody = part(recording.RoleResponseBody, "application/octet-stream", v.Body)
		}
		if v.Framing != nil {
			e.ResponseFraming = part(recording.RoleResponseFraming, "application/octet-stream", v.Framing)
		}
		head := number()
		head["status"] = int64(v.Status)
		if err := r.Event(recording.TypeResponse, head, r.Blob(recording.RoleResponseHead, "application/http", e.ResponseHead)); err != nil {
			return id, err
		}
		end["status"] = int64(v.Status)
	} else {
		end["code"] = v.Code
	}
	if v.Truncated != "" {
		end["truncated"] = v.Truncated
	}
	r.Wait(time.Millisecond)
	e.Ended = r.now
	r.Exchanges = append(r.Exchanges, e)
	return id, r.Event(recording.TypeEnd, end, blobs...)
}

func pathOf(url string) string {
	_, rest, _ := bytes.Cut([]byte(url), []byte("://"))
	if i := bytes.IndexByte(rest, '/'); i >= 0 {
		return string(rest[i:])
	}
	return "/"
}

func hostOf(url string) string {
	_, rest, _ := bytes.Cut([]byte(url), []byte("://"))
	if i := bytes.IndexByte(rest, '/'); i >= 0 {
		rest = rest[:i]
	}
	return string(rest)
}

// Step marks a step with a screenshot.
func (r *Recording) Step(name, url, title string) error {
	b := r.Blob(recording.RoleScreenshot, "image/png", picture(len(r.shots), true))
	r.shots = append(r.shots, shot{url, r.now, b})
	at := r.now
	for _, e := range r.Exchanges {
		if e.URL == url {
			at = e.Responded
		}
	}
	r.pages = append(r.pages, warc.Page{URL: url, Title: title, At: at})
	return r.Event(recording.TypeStep, recording.Data{"name": name, "url": url, "title": title, "status": int64(200)}, b)
}

// Frames films that many pictures, 40 ms apart.
func (r *Recording) Frames(n int) error {
	frames, times := []string{}, []int64{}
	first := len(r.frames)
	for i := range n {
		data := picture(first+i, false)
		at := time.Duration(len(r.frames)) * 40 * time.Millisecond
		r.frames, r.times = append(r.frames, data), append(r.times, at)
		frames, times = append(frames, evidence.SumSHA256(data).String()), append(times, at.Milliseconds())
	}
	return r.Event(recording.TypeFrames, recording.Data{"first": int64(first), "frames": frames, "times": times})
}

// Download saves what an exchange brought.
func (r *Recording) Download(name, url string, exchange uint64, content []byte) error {
	if err := r.Event(recording.TypeDownload, recording.Data{"id": "d1", "url": url, "name": name}); err != nil {
		return err
	}
	r.Downloads[name] = content
	return r.Event(recording.TypeDownloaded, recording.Data{"id": "d1", "url": url, "name": name, "state": "completed", "exchange": int64(exchange)},
		r.Blob(recording.RoleDownload, "application/octet-stream", content))
}

// Batch returns the batch over the events since the last one.
func (r *Recording) Batch() (*recording.Batch, error) {
	b := &recording.Batch{Session: r.config.Session, First: r.batch, Last: r.chain.Next - 1, Head: r.chain.Head}
	t := recording.NewTree()
	for _, d := range r.Digests[b.First:] {
		if err := t.Add(d); err != nil {
			return nil, err
		}
	}
	r.batch = r.chain.Next
	var err error
	b.Root, err = t.Root()
	return b, err
}

// Seal makes the archive and the video and ends the log; partial with a reason,
// complete without.
func (r *Recording) Seal(reason string) (*recording.Summary, error) {
	r.phase = evidence.PhaseAfter
	if err := r.sealVideo(); err != nil {
		return nil, err
	}
	records, err := r.Archive()
	if err != nil {
		return nil, err
	}
	wacz := recording.Blob{Role: recording.RoleWACZ, SHA256: evidence.SumSHA256(r.WACZ), Size: int64(len(r.WACZ)), Media: "application/wacz"}
	if err := r.Event(recording.TypeWARCSealed, recording.Data{"records": int64(records)}, wacz); err != nil {
		return nil, err
	}
	state := recording.StateComplete
	if reason != "" {
		state = recording.StatePartial
	}
	if err := r.Event(recording.TypeClose, r.chain.Close(state, reason)); err != nil {
		return nil, err
	}
	return &recording.Summary{Session: r.config.Session, Count: r.chain.Next, Head: r.chain.Head, State: state, Reason: reason}, nil
}

func (r *Recording) sealVideo() error {
	var b bytes.Buffer
	v := recording.NewVideoWriter(&b, 64, 48)
	for i, f := range r.frames {
		if err := v.Add(r.times[i], f); err != nil {
			return err
		}
	}
	r.Video = b.Bytes()
	video := recording.Blob{Role: recording.RoleVideo, SHA256: evidence.SumSHA256(r.Video), Size: int64(len(r.Video)), Media: "video/matroska"}
	return r.Event(recording.TypeVideoSealed, recording.Data{"frames": int64(len(r.frames))}, video)
}

// Archive writes the web archive anew from what the recording holds now, and
// returns how many records it has.
func (r *Recording) Archive() (int, error) {
	var out bytes.Buffer
	w, err := warc.New(&out, warc.Config{Session: r.config.Session, Title: "测试取证", Software: "zhenglian/test", Created: r.config.Start.Truncate(time.Second), Key: r.config.Key, Blobs: r.open})
	if err != nil {
		return 0, err
	}
	for _, e := range r.Exchanges {
		if err := w.Exchange(e); err != nil {
			return 0, err
		}
	}
	for i, s := range r.shots {
		if err := w.Resource(fmt.Sprintf("shot %d", i), "urn:view:"+s.url, "image/png", s.at, s.blob.SHA256, s.blob.Size); err != nil {
			return 0, err
		}
	}
	for i, b := range r.others {
		if err := w.Resource(fmt.Sprintf("other %d", i), "urn:zhenglian:"+b.Role, b.Media, r.config.Start, b.SHA256, b.Size); err != nil {
			return 0, err
		}
	}
	for _, p := range r.pages {
		w.Page(p)
	}
	if err := w.Close(); err != nil {
		return 0, err
	}
	r.WACZ = out.Bytes()
	return w.Records(), nil
}

func (r *Recording) open(d evidence.Digest) (io.ReadCloser, error) {
	data, ok := r.Blobs[d]
	if !ok {
		return nil, fmt.Errorf("there is no blob %s", d)
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

// picture is a small image that differs with n.
func picture(n int, lossless bool) []byte {
	img := image.NewRGBA(image.Rect(0, 0, 64, 48))
	for x := range 64 {
		for y := range 48 {
			img.Set(x, y, color.RGBA{uint8(x*4 + n*16), uint8(y * 5), uint8(n * 40), 255})
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
