package sitetest

import (
	"fmt"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The film is what ffmpeg made of frames of draw.go: with ZHENGLIAN_MAKE_FILM=1
// it is made again (another ffmpeg writes other octets), else its beginning is
// looked at.
func TestFilm(t *testing.T) {
	if os.Getenv("ZHENGLIAN_MAKE_FILM") == "1" {
		dir := t.TempDir()
		for i := range 72 {
			f, err := os.Create(filepath.Join(dir, fmt.Sprintf("%02d.png", i)))
			if err != nil {
				t.Fatal(err)
			}
			if err := png.Encode(f, landscape(0.1+float64(i)/90, 1)); err != nil {
				t.Fatal(err)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
		}
		out, err := exec.Command("ffmpeg", "-y", "-loglevel", "error", "-threads", "1", "-framerate", "12", "-i", filepath.Join(dir, "%02d.png"),
			"-vf", "scale=480:270", "-c:v", "libvpx", "-b:v", "300k", "-fflags", "+bitexact", "-flags:v", "+bitexact", "content/film.webm").CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	film, err := os.ReadFile("content/film.webm")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(film), "\x1aE\xdf\xa3") || !strings.Contains(string(film[:200]), "webm") || len(film) < 50<<10 {
		t.Errorf("%d octets that are no film", len(film))
	}
}
