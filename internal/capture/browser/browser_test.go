package browser

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image/jpeg"
	"image/png"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/internal/capture/sandbox"
)

// The first event says what runs, and every renderer has the browser's own
// sandbox and the room around it.
func TestStartedConfined(t *testing.T) {
	w := newWorld(t, site(map[string]string{"/": "<title>Hello</title>hello"}), options{})
	_, s := wait(w, 0, any1[Started])
	if w.all()[0].Seq != 1 || w.all()[0].Body.Kind() != "browser.started" {
		t.Errorf("the first event is %s", w.all()[0].Body.Kind())
	}
	for _, a := range s.Args {
		if strings.Contains(a, "no-sandbox") || strings.HasPrefix(a, "--ignore-certificate-errors=") || a == "--ignore-certificate-errors" {
			t.Errorf("started with %s", a)
		}
	}
	w.open(home + "/")
	renderers := 0
	for _, p := range w.room.Processes() {
		t.Logf("%+v", p)
		if p.User != w.room.User() || !p.OwnNetwork || !p.OwnFiles || !p.NoNewPrivs {
			t.Errorf("%s %d is outside the room", p.Kind, p.PID)
		}
		if p.Kind == "renderer" {
			renderers++
			if p.Seccomp != 2 || p.CapEff != "0000000000000000" || !p.OwnUser || !p.OwnPIDs {
				t.Errorf("renderer %d has no sandbox: %+v", p.PID, p)
			}
		}
	}
	if renderers == 0 {
		t.Error("no renderer was seen")
	}
}

func TestNavigation(t *testing.T) {
	w := newWorld(t, site(map[string]string{"/": "<title>一</title><a href='/two'>one</a>", "/two": "<title>Two</title>two", "/slow": "slow"}), options{})
	w.open(home + "/")
	wait(w, 0, func(p PageInfo) bool { return p.Title == "一" && p.URL == home+"/" })
	from := w.mark()
	w.click(5, 10)
	_, nav := wait(w, from, any1[NavCommitted])
	if nav.URL != home+"/two" || !nav.Main || nav.Media != "text/html" {
		t.Errorf("committed %+v", nav)
	}
	w.says("two")
	from = w.mark()
	w.do(History{-1})
	wait(w, from, func(n NavCommitted) bool { return n.URL == home+"/" })
	w.says("one")
	from = w.mark()
	w.do(History{1})
	wait(w, from, func(n NavCommitted) bool { return n.URL == home+"/two" })
	from = w.mark()
	w.do(Reload{})
	wait(w, from, any1[NavLoaded])
	var r *Refused
	if err := w.b.Input(w.ctx, History{1}); !errors.As(err, &r) {
		t.Errorf("forward from the last page: %v", err)
	}
	from = w.mark()
	w.do(Navigate{home + "/two#part"})
	wait(w, from, func(n NavWithin) bool { return n.Main && n.URL == home+"/two#part" })
	from = w.mark()
	w.do(Navigate{"http://nothing.example.test/"}) // refused by no one, resolved by no one
	_, nav = wait(w, from, func(n NavCommitted) bool { return n.Main })
	if nav.Unreachable == "" && !strings.Contains(nav.URL, "nothing.example.test") {
		t.Errorf("a host that is not there gives %+v", nav)
	}
	acts := strings.Join(w.acts, "\n")
	if !strings.Contains(acts, "1 navigate map[url:"+home+"/]") || !strings.Contains(acts, "1 history map[by:-1]") || strings.Contains(acts, "by:1]\n1 history map[by:1]") {
		t.Errorf("written down:\n%s", acts)
	}
}

// A load that does not end is stopped.
func TestStop(t *testing.T) {
	begun, release := make(chan struct{}, 1), make(chan struct{})
	w := newWorld(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/" {
			return
		}
		begun <- struct{}{}
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}), options{})
	defer close(release)
	done := make(chan error, 1)
	go func() { done <- w.b.Input(w.ctx, Navigate{home + "/"}) }()
	<-begun
	w.do(Stop{})
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(long):
		t.Error("the navigation does not end")
	}
}

func TestAddressesRefused(t *testing.T) {
	w := newWorld(t, site(map[string]string{
		"/": `<a id=a href="file:///etc/passwd" style="position:absolute;left:0;top:0;width:50px;height:50px;background:red"></a>
		<a href="view-source:http://site.example.test/" style="position:absolute;left:100px;top:0;width:50px;height:50px;background:blue"></a>
		<a href="chrome://version" style="position:absolute;left:200px;top:0;width:50px;height:50px;background:green"></a>here`,
	}), options{})
	for _, address := range []string{"file:///etc/passwd", "chrome://version", "about:blank", "javascript:alert(1)", "view-source:" + home, "data:text/html,x", "ftp://x.example.test/", "", "example.com", "http://", "http://user:secret@site.example.test/", "http://a\\b/", "HTTP:opaque", "devtools://devtools/bundled/inspector.html"} {
		var r *Refused
		if err := w.b.Input(w.ctx, Navigate{address}); !errors.As(err, &r) {
			t.Errorf("%q: %v", address, err)
		}
		if address == "" {
			continue // an empty tab
		}
		if err := w.b.Input(w.ctx, OpenTab{address}); !errors.As(err, &r) {
			t.Errorf("a tab with %q: %v", address, err)
		}
	}
	w.mu.Lock()
	if len(w.acts) > 0 {
		t.Errorf("acts that were refused are written down: %v", w.acts)
	}
	w.mu.Unlock()
	w.open(home + "/")
	for x := 25; x < 300; x += 100 {
		w.click(x, 25)
	}
	w.says("here")
	for _, tab := range w.b.Tabs() {
		if !strings.HasPrefix(tab.URL, home) && tab.URL != "about:blank" && !strings.HasPrefix(tab.URL, "chrome-error:") && tab.URL != "" && !strings.HasPrefix(tab.URL, "about:") {
			t.Errorf("a link led to %s", tab.URL)
		}
	}
}

// The policy stands also where our own list of addresses does not.
func TestPolicyBlocksFiles(t *testing.T) {
	w := newWorld(t, site(map[string]string{"/": "x"}), options{})
	for _, address := range []string{"file:///etc/passwd", "file:///home/recording/profile", "chrome://version/", "view-source:http://site.example.test/", "devtools://devtools/bundled/inspector.html"} {
		w.b.mu.Lock()
		tab := w.b.active
		w.b.mu.Unlock()
		var reply struct {
			ErrorText string `json:"errorText"`
		}
		err := w.b.wire.call(w.ctx, tab.s.id, "Page.navigate", map[string]any{"url": address}, &reply)
		text, _ := w.b.VisibleText(w.ctx)
		t.Logf("%s: %v %q", address, err, reply.ErrorText)
		if err == nil && reply.ErrorText == "" {
			t.Errorf("%s was opened: %q", address, text)
		}
		if strings.Contains(text, "recording:x:") {
			t.Errorf("%s shows a file", address)
		}
	}
}

func TestInput(t *testing.T) {
	w := newWorld(t, site(map[string]string{"/": `
		<input id=i style="position:absolute;left:0;top:0;width:300px;height:40px" oninput="log('value '+this.value)" onkeydown="log('down '+event.key+' '+event.code+' '+event.keyCode+' '+event.isTrusted)">
		<div id=log style="position:absolute;top:100px;white-space:pre"></div>
		<div style="height:5000px"></div>
		<script>function log(s){document.getElementById('log').textContent+=s+'\n'}
		addEventListener('scroll',()=>log('scrolled '+(scrollY>0)+(scrollX>0)));
		addEventListener('mousemove',e=>{if(e.buttons)log('drag '+e.buttons)});
		addEventListener('compositionupdate',e=>log('composing '+e.data));addEventListener('compositionend',e=>log('composed '+e.data));
		addEventListener('dblclick',()=>log('double'));
		addEventListener('contextmenu',e=>{e.preventDefault();log('menu '+e.shiftKey)});
		addEventListener('wheel',e=>log('wheel '+e.deltaX+' '+e.deltaY));</script>`}), options{})
	w.open(home + "/")
	w.click(50, 20)
	w.do(Key{Type: "down", Key: "a", Code: "KeyA"}, Key{Type: "up", Key: "a", Code: "KeyA"})
	w.says("down a KeyA 65 true\nvalue a")
	w.do(Key{Type: "down", Key: "Backspace"}, Key{Type: "up", Key: "Backspace"})
	w.says("down Backspace")
	w.do(Text{"证据，保全"})
	w.says("value 证据，保全")
	w.do(Compose{Text: "ni", Start: 2, End: 2})
	w.says("composing ni")
	w.do(Compose{Text: "ni hao", Start: 6, End: 6}, Text{"你好"})
	w.says("value 证据，保全你好")
	w.says("composed 你好")
	w.do(Key{Type: "down", Key: "a", Code: "KeyA", Modifiers: Control}, Key{Type: "up", Key: "a", Code: "KeyA", Modifiers: Control}, Key{Type: "down", Key: "x", Code: "KeyX"}, Key{Type: "up", Key: "x", Code: "KeyX"})
	w.says("value x\n")
	w.do(Wheel{X: 600, Y: 400, DY: 300})
	w.says("wheel 0 300")
	w.says("scrolled truefalse")
	w.do(Wheel{X: 600, Y: 400, DY: -3000})
	w.do(Mouse{Type: "down", X: 600, Y: 500, Button: "left", Clicks: 1}, Mouse{Type: "move", X: 610, Y: 510}, Mouse{Type: "up", X: 610, Y: 510, Button: "left", Clicks: 1})
	w.says("drag 1")
	for n := 1; n <= 2; n++ {
		w.do(Mouse{Type: "down", X: 600, Y: 500, Button: "left", Clicks: n}, Mouse{Type: "up", X: 600, Y: 500, Button: "left", Clicks: n})
	}
	w.says("double")
	w.do(Mouse{Type: "down", X: 600, Y: 500, Button: "right", Clicks: 1, Modifiers: Shift}, Mouse{Type: "up", X: 600, Y: 500, Button: "right", Clicks: 1, Modifiers: Shift})
	w.says("menu true")
	for _, bad := range []Act{nil, Mouse{Type: "down", X: 1, Y: 1}, Mouse{Type: "jump"}, Mouse{Type: "move", X: 1 << 20}, Wheel{DX: 1 << 20}, Key{Type: "down"}, Key{Type: "press", Key: "a"}, Text{}, Text{"\xff"}, Text{strings.Repeat("x", maxInput+1)}, Compose{Start: -1}, History{}, Choose{Select: 77}, AnswerDialog{Tab: 1}, SwitchTab{9}, CloseTab{1}} {
		var r *Refused
		if err := w.b.Input(w.ctx, bad); !errors.As(err, &r) {
			t.Errorf("%#v: %v", bad, err)
		}
	}
}

func TestSelect(t *testing.T) {
	w := newWorld(t, site(map[string]string{"/": `<div style="height:700px"></div>
		<select id=s style="width:200px;height:40px" onchange="log('change '+this.value+' '+event.isTrusted)" oninput="log('input '+this.value)">
		<option value=a>甲<option value=b disabled>乙<optgroup label=组><option value=c>丙<option value=d>丁</optgroup></select>
		<pre id=log></pre><div style="height:2000px"></div><script>function log(s){document.getElementById('log').textContent+=s+'\n'}</script>`}), options{})
	w.open(home + "/")
	w.do(Wheel{X: 600, Y: 300, DY: 500})
	for end := time.Now().Add(long); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if w.scrolled() >= 500 {
			break
		}
	}
	from := w.mark()
	w.click(50, 220)
	e, s := wait(w, from, any1[SelectOpened])
	if e.Tab != 1 || len(s.Options) != 4 || s.Options[0] != (Option{0, "甲", "", false, true}) || s.Options[1] != (Option{1, "乙", "", true, false}) || s.Options[3] != (Option{3, "丁", "组", false, false}) {
		t.Errorf("options %+v", s.Options)
	}
	if s.X != 0 || s.Y < 195 || s.Y > 205 || s.Width != 200 || s.Height != 40 {
		t.Errorf("the box is at %d,%d, %d × %d", s.X, s.Y, s.Width, s.Height)
	}
	var r *Refused
	if err := w.b.Input(w.ctx, Choose{s.Select, 1}); !errors.As(err, &r) {
		t.Errorf("a disabled option: %v", err)
	}
	w.do(Choose{s.Select, 3})
	if text := w.says("change d true"); strings.Contains(text, "change c") || strings.Count(text, "input") != 1 {
		t.Errorf("the page saw more than one choice: %s", text)
	}
	if err := w.b.Input(w.ctx, Choose{s.Select, 2}); !errors.As(err, &r) {
		t.Errorf("a list that is closed: %v", err)
	}
	from = w.mark()
	w.click(50, 220)
	_, s = wait(w, from, any1[SelectOpened])
	if !s.Options[3].Selected {
		t.Errorf("after the choice: %+v", s.Options)
	}
	w.do(Choose{s.Select, -1})
	from = w.mark()
	w.do(Key{Type: "down", Key: " ", Code: "Space"}, Key{Type: "up", Key: " ", Code: "Space"})
	_, s = wait(w, from, any1[SelectOpened])
	w.do(Choose{s.Select, 0})
	w.says("change a true")
}

func (w *world) scrolled() int {
	y := 0
	for _, e := range w.all() {
		if f, ok := e.Body.(Frame); ok {
			y = f.ScrollY
		}
	}
	return y
}

func TestDialogs(t *testing.T) {
	w := newWorld(t, site(map[string]string{"/": `<button style="position:absolute;left:0;top:0;width:100px;height:50px" onclick="const a=confirm('真的吗?');const p=prompt('name','def');document.getElementById('o').textContent=a+' '+p">x</button><div id=o style="margin-top:100px"></div>`}), options{})
	w.open(home + "/")
	from := w.mark()
	w.click(50, 25)
	e, d := wait(w, from, any1[DialogOpened])
	if d.Type != "confirm" || d.Message != "真的吗?" || e.Tab != 1 {
		t.Errorf("dialog %+v", d)
	}
	var r *Refused
	if err := w.b.Input(w.ctx, Text{"x"}); !errors.As(err, &r) || r.Code != "dialog" {
		t.Errorf("an input while a dialog is open: %v", err)
	}
	if _, _, err := w.b.Shot(w.ctx, false); !errors.As(err, &r) {
		t.Errorf("a picture while a dialog is open: %v", err)
	}
	w.do(AnswerDialog{Tab: 1, Accept: true})
	_, d = wait(w, from, func(d DialogOpened) bool { return d.Type == "prompt" })
	if d.Default != "def" {
		t.Errorf("prompt %+v", d)
	}
	w.do(AnswerDialog{Tab: 1, Accept: true, Text: "名字"})
	_, c := wait(w, from, func(c DialogClosed) bool { return c.Text != "" })
	if !c.Accepted || c.Text != "名字" {
		t.Errorf("closed %+v", c)
	}
	w.says("true 名字")
}

func TestTabs(t *testing.T) {
	w := newWorld(t, site(map[string]string{
		"/":    `<a href="/two" target=_blank rel=opener style="position:absolute;width:200px;height:100px;background:#eee">one</a>`,
		"/two": `<title>Two</title>two<script>console.error('first words')</script>`, "/three": "three"}), options{config: Config{Tabs: 3}})
	w.open(home + "/")
	from := w.mark()
	w.click(50, 50)
	e, opened := wait(w, from, any1[TabOpened])
	if opened.Opener != 1 || e.Tab != 2 {
		t.Errorf("opened %d by %d", e.Tab, opened.Opener)
	}
	// Nothing of the new tab is missed, its first script neither.
	if e, c := wait(w, from, func(c Console) bool { return c.Source == "console" }); e.Tab != 2 || c.Text != "first words" || c.Level != "error" {
		t.Errorf("console %d %+v", e.Tab, c)
	}
	wait(w, from, func(p PageInfo) bool { return p.Title == "Two" })
	wait(w, from, any1[TabActive])
	w.says("two")
	w.do(OpenTab{home + "/three"})
	w.says("three")
	var r *Refused
	if err := w.b.Input(w.ctx, OpenTab{}); !errors.As(err, &r) {
		t.Errorf("a fourth tab: %v", err)
	}
	w.do(SwitchTab{1})
	w.says("one")
	from = w.mark()
	w.do(CloseTab{1})
	wait(w, from, any1[TabClosed])
	if tabs := w.b.Tabs(); len(tabs) != 2 || tabs[0].ID != 2 || tabs[1].ID != 3 {
		t.Errorf("tabs %+v", tabs)
	}
	wait(w, from, any1[TabActive])
	from = w.mark()
	w.do(SwitchTab{2})
	if e, f := wait(w, from, any1[Frame]); e.Tab != 2 && len(f.JPEG) == 0 {
		t.Errorf("no picture of the tab gone to")
	}
}

func TestPictures(t *testing.T) {
	w := newWorld(t, site(map[string]string{"/": `<body style="background:rgb(0,0,255)" onmousedown="document.body.style.background='rgb(255,0,0)'"><div style="height:3000px"></div><script>console.warn('w')</script>`}), options{})
	w.open(home + "/")
	from := w.mark()
	w.click(600, 300)
	_, f := wait(w, from, func(f Frame) bool {
		img, err := jpeg.Decode(bytes.NewReader(f.JPEG))
		if err != nil {
			t.Errorf("picture %d: %v", f.Number, err)
			return true
		}
		if b := img.Bounds(); b.Dx() != 1280 || b.Dy() != 720 {
			t.Errorf("picture of %v", b)
		}
		r, _, b, _ := img.At(640, 600).RGBA()
		return r > 0xf000 && b < 0x1000
	})
	if f.Shown.IsZero() || f.Width != 1280 || f.Height != 720 {
		t.Errorf("picture %d: %s %d × %d", f.Number, f.Shown, f.Width, f.Height)
	}
	var last uint64
	for i, e := range w.all() {
		if e.Seq != uint64(i+1) {
			t.Fatalf("event %d has number %d", i+1, e.Seq)
		}
		if f, ok := e.Body.(Frame); ok {
			if f.Number <= last {
				t.Errorf("picture %d after %d", f.Number, last)
			}
			last = f.Number
		}
	}
	shot, _, err := w.b.Shot(w.ctx, false)
	if err != nil {
		t.Fatal(err)
	}
	if c, err := png.DecodeConfig(bytes.NewReader(shot)); err != nil || c.Width != 1280 || c.Height != 720 {
		t.Errorf("shot: %v %d × %d", err, c.Width, c.Height)
	}
	if shot, _, err = w.b.Shot(w.ctx, true); err != nil {
		t.Fatal(err)
	}
	if c, err := png.DecodeConfig(bytes.NewReader(shot)); err != nil || c.Height < 3000 {
		t.Errorf("whole page: %v %d × %d", err, c.Width, c.Height)
	}
	doc, err := w.b.Document(w.ctx)
	if err != nil {
		t.Fatal(err)
	}
	if doc.URL != home+"/" || len(doc.Snapshots) != 1 || !bytes.Contains(doc.Snapshots[0], []byte("rgb(255, 0, 0)")) {
		t.Errorf("document of %s: %.300s", doc.URL, doc.Snapshots)
	}
	wait(w, 0, func(c Console) bool { return c.Level == "warning" && c.Text == "w" })
}

// A frame of another site is listened to as well, and is in the document.
func TestForeignFrame(t *testing.T) {
	w := newWorld(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "text/html")
		if r.Host == "other.example.org" {
			io.WriteString(rw, "<p>foreign words</p><script>console.error('from the frame')</script>")
			return
		}
		io.WriteString(rw, `<iframe src="http://other.example.org/"></iframe>`)
	}), options{})
	w.open(home + "/")
	wait(w, 0, func(c Console) bool { return c.Text == "from the frame" })
	doc, err := w.b.Document(w.ctx)
	if err != nil {
		t.Fatal(err)
	}
	if all := bytes.Join(doc.Snapshots, nil); !bytes.Contains(all, []byte("foreign words")) {
		t.Errorf("the frame is not in the document: %d snapshots", len(doc.Snapshots))
	}
}

func TestDownload(t *testing.T) {
	content := bytes.Repeat([]byte("evidence "), 100000)
	w := newWorld(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/file" {
			rw.Header().Set("Content-Disposition", `attachment; filename="../../作品.bin"`)
			rw.Write(content)
			return
		}
		rw.Header().Set("Content-Type", "text/html")
		io.WriteString(rw, `<a href="/file" style="position:absolute;width:200px;height:100px;background:#eee">get</a>`)
	}), options{})
	w.open(home + "/")
	from := w.mark()
	w.click(50, 50)
	e, begun := wait(w, from, any1[DownloadBegun])
	if begun.URL != home+"/file" || !strings.Contains(begun.Name, "作品") || strings.Contains(begun.Name, "/") || e.Tab != 1 {
		t.Errorf("tab %d %+v", e.Tab, begun)
	}
	_, ended := wait(w, from, any1[DownloadEnded])
	if ended.ID != begun.ID || ended.State != "completed" || ended.Size != int64(len(content)) {
		t.Errorf("%+v", ended)
	}
	f, err := w.b.Download(ended.ID)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got, err := io.ReadAll(f); err != nil || !bytes.Equal(got, content) {
		t.Errorf("the file holds %d octets, not the %d served: %v", len(got), len(content), err)
	}
	for _, id := range []string{"", "..", "../profile", "a/b"} {
		if _, err := w.b.Download(id); err == nil {
			t.Errorf("download %q was opened", id)
		}
	}
}

// A certificate that nobody vouches for stays one, although the browser believes
// the proxy's others.
func TestBadCertificate(t *testing.T) {
	w := newWorld(t, site(map[string]string{"/": "should not be seen"}), options{})
	from := w.mark()
	w.do(Navigate{"https://bad.example.test/"})
	wait(w, from, func(n NavCommitted) bool { return n.Main && n.Unreachable == "https://bad.example.test/" })
	_, s := wait(w, from, func(s Security) bool { return s.Error != "" })
	if s.State != "insecure" && s.State != "insecure-broken" || len(s.Certificate) == 0 || !strings.Contains(s.Error, "ERR_CERT") {
		t.Errorf("state %q error %q certificate of %d octets", s.State, s.Error, len(s.Certificate))
	}
	if text, err := w.b.VisibleText(w.ctx); err != nil || strings.Contains(text, "should not be seen") {
		t.Errorf("%q %v", text, err)
	}
}

// What a page tries to reach goes to the proxy, which refuses it, or nowhere.
func TestInnerAddresses(t *testing.T) {
	var tries []string
	for _, a := range []string{"http://127.0.0.1:9222/", "http://localhost/", "http://169.254.169.254/latest/meta-data/", "http://[::1]/", "http://0x7f000001/", "http://2130706433/", "http://127.1/", "http://10.0.0.1/", "http://[fd00::1]/", "http://recording/", fmt.Sprintf("http://127.0.0.1:%d/", sandbox.ProxyPort), "file:///etc/passwd"} {
		tries = append(tries, fmt.Sprintf(`fetch(%q,{mode:'no-cors'}).then(()=>'REACHED',e=>'refused').then(s=>log(%q+s))`, a, "fetch "+a+" "))
	}
	for _, a := range []string{"ws://127.0.0.1:9222/", "ws://169.254.169.254/", fmt.Sprintf("ws://127.0.0.1:%d/", sandbox.ProxyPort)} {
		tries = append(tries, fmt.Sprintf(`new Promise(r=>{try{const w=new WebSocket(%q);w.onopen=()=>r('REACHED');w.onerror=()=>r('refused')}catch(e){r('refused')}}).then(s=>log(%q+s))`, a, "socket "+a+" "))
	}
	w := newWorld(t, site(map[string]string{"/": `<pre id=log></pre><script>let n=0;function log(s){document.getElementById('log').textContent+=s+'\n';if(++n==` + fmt.Sprint(len(tries)) + `)document.title='done'}
		` + strings.Join(tries, ";\n") + `</script>`}), options{})
	w.open(home + "/")
	wait(w, 0, func(p PageInfo) bool { return p.Title == "done" })
	text := w.says("refused")
	// A refusal over plain HTTP is an answer of the proxy's own, which a page that
	// asks for any answer takes for one: what counts is what was dialled.
	for line := range strings.Lines(text) {
		if strings.Contains(line, "REACHED") && !strings.HasPrefix(line, "fetch http://") {
			t.Error(strings.TrimSpace(line))
		}
	}
	for _, e := range w.record.all() {
		if e.Conn != nil && e.Conn.Remote.IsValid() && e.Conn.Exception == "" {
			t.Errorf("the proxy dialled %s for %s", e.Conn.Remote, e.Conn.Host)
		}
	}
}

func TestWebRTC(t *testing.T) {
	w := newWorld(t, site(map[string]string{"/": `<pre id=log></pre><script>(async()=>{let seen=[];
		const p=new RTCPeerConnection({iceServers:[{urls:'stun:127.0.0.1:3128'},{urls:'turn:127.0.0.1:3128?transport=tcp',username:'u',credential:'c'}]});
		p.onicecandidate=e=>{if(e.candidate&&e.candidate.candidate)seen.push(e.candidate.candidate);else if(!e.candidate)end()};
		p.createDataChannel('x');await p.setLocalDescription(await p.createOffer());setTimeout(()=>end(),5000);
		let over=false;function end(){if(over)return;over=true;document.getElementById('log').textContent='candidates:'+seen.length+' '+seen.join('|')}})()</script>`}), options{})
	w.open(home + "/")
	if text := w.says("candidates:"); !strings.HasPrefix(text, "candidates:0") {
		t.Error(text)
	}
}

func TestTabCrash(t *testing.T) {
	w := newWorld(t, site(map[string]string{"/": "alive"}), options{})
	w.open(home + "/")
	w.says("alive")
	from := w.mark()
	killed := 0
	for _, p := range w.room.Processes() {
		if p.Kind == "renderer" {
			syscall.Kill(p.PID, syscall.SIGKILL)
			killed++
		}
	}
	if killed == 0 {
		t.Fatal("no renderer was found")
	}
	e, c := wait(w, from, any1[TabCrashed])
	if e.Tab != 1 || c.Status == "" {
		t.Errorf("tab %d %+v", e.Tab, c)
	}
	var r *Refused
	if err := w.b.Input(w.ctx, Text{"x"}); !errors.As(err, &r) || r.Code != "tab" {
		t.Errorf("an input to a crashed page: %v", err)
	}
	if tabs := w.b.Tabs(); len(tabs) != 1 || !tabs[0].Crashed {
		t.Errorf("%+v", tabs)
	}
	w.open(home + "/")
	w.says("alive")
	from = w.mark()
	w.do(Wheel{X: 5, Y: 5, DY: 1}, Navigate{home + "/?again"})
	wait(w, from, any1[Frame]) // pictures go on
}

func TestBrowserKilled(t *testing.T) {
	w := newWorld(t, site(map[string]string{"/": "alive"}), options{})
	w.open(home + "/")
	for _, p := range w.room.Processes() {
		if p.Kind == "browser" {
			syscall.Kill(p.PID, syscall.SIGKILL)
		}
	}
	_, ended := wait(w, 0, any1[Ended])
	if ended.Reason != ReasonCrashed || !strings.Contains(ended.Detail, "killed") {
		t.Errorf("%+v", ended)
	}
	if err := w.b.Input(w.ctx, Text{"x"}); err == nil {
		t.Error("a dead browser takes input")
	}
	select {
	case <-w.b.Done():
	case <-time.After(long):
		t.Error("it is not done")
	}
	if all := w.all(); all[len(all)-1].Body.Kind() != "browser.ended" {
		t.Errorf("the last event is %s", all[len(all)-1].Body.Kind())
	}
}

// What cannot be written down is not done, and nothing is done after it.
func TestBeforeFails(t *testing.T) {
	var asked int
	visited := make(chan string, 10)
	w := newWorld(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { visited <- r.URL.Path }), options{config: Config{
		Before: func(_ context.Context, _ TabID, a Act) error {
			if asked++; asked > 1 {
				return errors.New("the disk is full")
			}
			return nil
		}}})
	w.open(home + "/first")
	if err := w.b.Input(w.ctx, Navigate{home + "/second"}); err == nil || !strings.Contains(err.Error(), "disk is full") {
		t.Errorf("%v", err)
	}
	_, ended := wait(w, 0, any1[Ended])
	if ended.Reason != ReasonRecord {
		t.Errorf("%+v", ended)
	}
	for len(visited) > 0 {
		if path := <-visited; path == "/second" {
			t.Error("the act was done although it could not be written down")
		}
	}
}

func TestLimitOfRoom(t *testing.T) {
	w := newWorld(t, site(map[string]string{"/": "x"}), options{room: sandbox.Config{Limits: sandbox.Limits{Time: 8 * time.Second}}})
	_, ended := wait(w, 0, any1[Ended])
	if ended.Reason != ReasonLimit || ended.Detail != "time" {
		t.Errorf("%+v", ended)
	}
}

func TestConfigRefused(t *testing.T) {
	for name, c := range map[string]Config{"nothing": {}, "no record": {Room: &sandbox.Room{}}, "no key": {Room: &sandbox.Room{}, Before: func(context.Context, TabID, Act) error { return nil }}} {
		if _, err := Start(t.Context(), c); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

// What scripts need: an element is found, scrolled to, and pressed like a
// person's.
func TestLocate(t *testing.T) {
	w := newWorld(t, site(map[string]string{"/": `<h1>Search</h1><input id=q><div style="height:3000px"></div><button onclick="document.title='pressed'">查 询</button><button style="display:none">查 询</button>`}), options{})
	w.open(home + "/")
	for _, c := range []struct{ selector, text string }{{"#nothing", ""}, {"a", "x"}, {"][", ""}, {"", ""}, {"", "不存在"}} {
		var r *Refused
		if _, err := w.b.Locate(w.ctx, c.selector, c.text); !errors.As(err, &r) || r.Code != "element" {
			t.Errorf("%+v: %v", c, err)
		}
	}
	e, err := w.b.Locate(w.ctx, "button", "查 询")
	if err != nil || e.Shown {
		t.Errorf("far below: %+v %v", e, err)
	}
	w.do(Reveal{"", "查 询"})
	e, err = w.b.Locate(w.ctx, "", "查 询")
	if err != nil || !e.Shown || e.Y < 0 || e.Y > 720 {
		t.Fatalf("scrolled to: %+v %v", e, err)
	}
	from := w.mark()
	w.click(e.X, e.Y)
	wait(w, from, func(p PageInfo) bool { return p.Title == "pressed" })
	if html, err := w.b.HTML(w.ctx); err != nil || !strings.Contains(html, "<h1>Search</h1>") || !strings.HasPrefix(html, "<!DOCTYPE html>") {
		t.Errorf("%v %.100s", err, html)
	}
}
