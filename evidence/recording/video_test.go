package recording_test

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/evidence/recording"
)

func pictures(t testing.TB, n int) [][]byte {
	t.Helper()
	var out [][]byte
	for i := range n {
		img := image.NewRGBA(image.Rect(0, 0, 64, 48))
		for x := range 64 {
			img.Set(x, i%48, color.RGBA{uint8(x), uint8(i), 90, 255})
		}
		var b bytes.Buffer
		must(t, jpeg.Encode(&b, img, nil))
		out = append(out, b.Bytes())
	}
	return out
}

func written(t testing.TB, frames [][]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := recording.NewVideoWriter(&b, 64, 48)
	for i, f := range frames {
		must(t, w.Add(time.Duration(i*i)*7*time.Millisecond, f))
	}
	return b.Bytes()
}

func frames(video []byte) (out [][]byte, times []time.Duration, err error) {
	r := recording.NewVideoReader(bytes.NewReader(video))
	for {
		f, err := r.Next()
		if err == io.EOF {
			return out, times, nil
		}
		if err != nil {
			return out, times, err
		}
		out, times = append(out, bytes.Clone(f.Data)), append(times, f.Time)
	}
}

func same(t *testing.T, what string, got, want [][]byte) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d frames, want %d", what, len(got), len(want))
	}
	for i := range want {
		if !bytes.Equal(got[i], want[i]) {
			t.Errorf("%s: frame %d is another", what, i)
		}
	}
}

func TestVideo(t *testing.T) {
	want := pictures(t, 9)
	got, times, err := frames(written(t, want))
	must(t, err)
	same(t, "written here", got, want)
	for i, at := range times {
		if at != time.Duration(i*i)*7*time.Millisecond {
			t.Errorf("frame %d at %s", i, at)
		}
	}
}

// Other people's software makes and reads the same frames.
func TestFFmpeg(t *testing.T) {
	ffmpeg, err := exec.LookPath("ffmpeg")
	if err != nil {
		t.Skip("ffmpeg is not installed")
	}
	dir := t.TempDir()
	run := func(args ...string) {
		t.Helper()
		if out, err := exec.Command(ffmpeg, append([]string{"-v", "error", "-threads", "1"}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("ffmpeg %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	want := pictures(t, 12)
	for i, f := range want {
		must(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("in%03d.jpg", i)), f, 0o600))
	}
	for name, args := range map[string][]string{
		"file": {"-framerate", "10", "-i", dir + "/in%03d.jpg", "-c", "copy", dir + "/file.mkv"},
		"live": {"-framerate", "10", "-i", dir + "/in%03d.jpg", "-c", "copy", "-live", "1", dir + "/live.mkv"},
	} {
		run(args...)
		data, err := os.ReadFile(dir + "/" + name + ".mkv")
		must(t, err)
		got, times, err := frames(data)
		must(t, err)
		same(t, "muxed by ffmpeg, "+name, got, want)
		if times[5] != 500*time.Millisecond {
			t.Errorf("%s: frame 5 at %s", name, times[5])
		}
	}
	must(t, os.WriteFile(dir+"/own.mkv", written(t, want), 0o600))
	run("-i", dir+"/own.mkv", "-c", "copy", "-f", "image2", dir+"/out%03d.jpg")
	var got [][]byte
	for i := range want {
		f, err := os.ReadFile(filepath.Join(dir, fmt.Sprintf("out%03d.jpg", i+1)))
		must(t, err)
		got = append(got, f)
	}
	same(t, "taken apart by ffmpeg", got, want)
}

func TestVideoFaults(t *testing.T) {
	good := written(t, pictures(t, 3))
	sound := bytes.Replace(good, []byte("V_MJPEG"), []byte("V_MPEG4"), 1)
	for name, tc := range map[string]struct {
		video []byte
		code  string
	}{
		"nothing":            {nil, "form"},
		"another file":       {[]byte("\x89PNG\r\n\x1a\n and so on"), "form"},
		"webm":               {bytes.Replace(good, []byte("matroska"), []byte("webmwebm"), 1), "form"},
		"another codec":      {sound, "form"},
		"cut off":            {good[:len(good)-5], "truncated"},
		"without its tracks": {append(bytes.Clone(good[:20]), good[30:]...), ""},
		"a size of 2^56":     {bytes.Replace(good, []byte{0xa3, 0x01, 0, 0, 0}, []byte{0xa3, 0x01, 0xff, 0, 0}, 1), "element"},
		"a lace":             {bytes.Replace(good, []byte{0x81, 0, 0, 0x80}, []byte{0x81, 0, 0, 0x82}, 1), "form"},
		"another track":      {bytes.Replace(good, []byte{0x81, 0, 0, 0x80}, []byte{0x82, 0, 0, 0x80}, 1), "form"},
	} {
		_, _, err := frames(tc.video)
		var bad *recording.VideoError
		if !errors.As(err, &bad) || tc.code != "" && bad.Code != tc.code {
			t.Errorf("%s: %v, want %s", name, err, tc.code)
		}
	}
	w := recording.NewVideoWriter(io.Discard, 1, 1)
	must(t, w.Add(time.Second, []byte("x")))
	if w.Add(0, []byte("x")) == nil || w.Add(2*time.Second, nil) == nil {
		t.Error("a frame back in time, or an empty one, is written")
	}
}
