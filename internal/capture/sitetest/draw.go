package sitetest

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"math"
)

// The size of pictures, in pixels.
const (
	pictureWidth  = 640
	pictureHeight = 360
)

// Picture draws "Ferry in the Mist" as PNG. The original (sealed) has a red seal
// in its corner; the copy has none and is brighter. Detail 2 shows the boat alone.
func Picture(sealed bool, detail int) ([]byte, error) {
	img := landscape(0.35, detail)
	for y := range pictureHeight {
		for x := range pictureWidth {
			c := img.RGBAAt(x, y)
			if !sealed {
				img.SetRGBA(x, y, color.RGBA{brighter(c.R), brighter(c.G), brighter(c.B), 255})
			} else if x > 570 && x < 615 && y > 290 && y < 335 && (x+y)%9 > 2 {
				img.SetRGBA(x, y, color.RGBA{170, 30, 30, 255})
			}
		}
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		return nil, fmt.Errorf("drawing a picture: %w", err)
	}
	return b.Bytes(), nil
}

func brighter(v uint8) uint8 { return uint8(min(255, int(v)*9/8)) }

// landscape draws mountains, mist, water and a boat. At is how far the boat has
// come, from 0 to 1.
func landscape(at float64, detail int) *image.RGBA {
	img := image.NewRGBA(image.Rect(0, 0, pictureWidth, pictureHeight))
	for py := range pictureHeight {
		for px := range pictureWidth {
			x, y := float64(px)/pictureWidth, float64(py)/pictureHeight
			if detail == 2 {
				x, y = at-0.1+x*0.25, 0.62+y*0.25
			}
			img.SetRGBA(px, py, tone(x, y, at))
		}
	}
	return img
}

func tone(x, y, at float64) color.RGBA {
	if inBoat(x, y, at) {
		return color.RGBA{52, 44, 40, 255}
	}
	light := 0.93 - 0.12*y
	for layer := range 4 {
		depth := float64(layer)
		ridge := 0.30 + 0.09*depth - 0.10*math.Sin(x*(5+2*depth)+depth*1.7) - 0.03*math.Sin(x*(17+5*depth)+depth)
		if y > ridge && y < 0.68 {
			mist := math.Min(1, (y-ridge)*4)
			light = 0.72 - 0.13*depth + 0.30*mist*mist
		}
	}
	if y >= 0.68 {
		light = 0.66 + 0.05*math.Sin(x*60+y*400) - 0.25*(y-0.68)
	}
	light = math.Max(0, math.Min(1, light))
	return color.RGBA{uint8(light * 225), uint8(light * 238), uint8(light * 240), 255}
}

func inBoat(x, y, at float64) bool {
	dx, dy := x-at, y-0.74
	hull := dy > 0 && dy < 0.035 && math.Abs(dx) < 0.09-dy
	man := math.Abs(dx-0.03) < 0.008 && dy > -0.09 && dy <= 0
	pole := math.Abs(dx-0.05-(dy+0.12)*0.25) < 0.002 && dy > -0.16 && dy < 0.08
	return hull || man || pole
}
