package capture_test

import (
	"bytes"
	"image"
	"image/jpeg"
)

func testPicture() []byte {
	var b bytes.Buffer
	_ = jpeg.Encode(&b, image.NewGray(image.Rect(0, 0, 16, 16)), nil) // into memory
	return b.Bytes()
}
