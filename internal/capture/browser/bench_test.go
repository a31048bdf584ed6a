package browser

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// load is the machine's, so that figures can be read.
func load(b *testing.B) {
	if data, err := os.ReadFile("/proc/loadavg"); err == nil {
		b.Logf("load %s", strings.TrimSpace(string(data)))
	}
}

const busyPage = `<body style="background:#fff;font:16px sans-serif">
<div id=x style="position:absolute;left:0;top:0;width:1280px;height:400px"></div><div style="position:absolute;top:420px">` +
	`<p>The quick brown fox 证据保全 jumps over the lazy dog.</p></div><script>let n=false;addEventListener('mousedown',()=>{n=!n;document.getElementById('x').style.background=n?'#c00':'#00c'})</script>`

// BenchmarkInputToPicture measures from the call of Input (a press at which the
// page changes a large area) until the reader holds a picture drawn after it.
func BenchmarkInputToPicture(b *testing.B) {
	w := newWorld(b, site(map[string]string{"/": busyPage}), options{})
	w.open(home + "/")
	time.Sleep(time.Second) // the first pictures are through
	load(b)
	var took []time.Duration
	for b.Loop() {
		from := w.mark()
		begun := time.Now()
		w.do(Mouse{Type: "down", X: 300, Y: 600, Button: "left", Clicks: 1})
		wait(w, from, any1[Frame])
		took = append(took, time.Since(begun))
		w.do(Mouse{Type: "up", X: 300, Y: 600, Button: "left", Clicks: 1})
		time.Sleep(30 * time.Millisecond) // nothing is under way at the next press
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*9/10].Microseconds())/1000, "p90-ms")
	b.ReportMetric(float64(w.room.MemoryPeak())/(1<<20), "peak-MiB")
	load(b)
}

// BenchmarkFrames counts the pictures of a page that never rests, at 1280 × 720.
// One iteration is five seconds.
func BenchmarkFrames(b *testing.B) {
	w := newWorld(b, site(map[string]string{"/": `<body><div id=x style="position:absolute;width:600px;height:400px;background:linear-gradient(red,blue);color:#fff;font:40px sans-serif">moving 移动</div>
		<script>let t=0;(function f(){t++;document.getElementById('x').style.transform='translate('+(t*7%600)+'px,'+(t*5%300)+'px)';requestAnimationFrame(f)})()</script>`}), options{})
	w.open(home + "/")
	time.Sleep(time.Second)
	load(b)
	var pictures, octets int
	var spent time.Duration
	for b.Loop() {
		from, begun := w.mark(), time.Now()
		time.Sleep(5 * time.Second)
		spent += time.Since(begun)
		for _, e := range w.all()[from:] {
			if f, ok := e.Body.(Frame); ok {
				pictures++
				octets += len(f.JPEG)
			}
		}
	}
	b.ReportMetric(float64(pictures)/spent.Seconds(), "frames/s")
	b.ReportMetric(float64(octets)/spent.Seconds()/1e6, "MB/s")
	b.ReportMetric(float64(w.room.MemoryPeak())/(1<<20), "peak-MiB")
	load(b)
}
