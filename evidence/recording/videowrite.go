package recording

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"
)

// VideoWriter writes JPEG pictures as a Matroska file that players play and
// VideoReader reads, each picture as it was given and at its own time. It streams
// and never goes back, so that a file whose writer was killed plays up to there.
type VideoWriter struct {
	w      io.Writer
	width  int
	height int
	begun  bool
	last   time.Duration
	frames int
}

// NewVideoWriter writes to w a video of that many pixels.
func NewVideoWriter(w io.Writer, width, height int) *VideoWriter {
	return &VideoWriter{w: w, width: width, height: height}
}

// Add writes a picture shown from that time after the video's beginning, in
// whole milliseconds. Times ascend or stay.
func (v *VideoWriter) Add(at time.Duration, jpeg []byte) error {
	at = at.Truncate(time.Millisecond)
	switch {
	case at < v.last || at < 0:
		return fmt.Errorf("adding frame %d: its time %s is before %s", v.frames, at, v.last)
	case len(jpeg) == 0 || len(jpeg) > MaxFrame-4:
		return fmt.Errorf("adding frame %d: it has %d bytes, not 1 to %d", v.frames, len(jpeg), MaxFrame-4)
	case v.frames >= MaxFrames:
		return errors.New("adding a frame: the video is full")
	}
	var out []byte
	if !v.begun {
		out = v.head()
		v.begun = true
	}
	// One cluster a frame: a few bytes more, and nothing to go back to.
	block := append([]byte{0x81, 0, 0, 0x80}, jpeg...)
	out = append(out, element(idCluster, append(number(idTimestamp, uint64(at.Milliseconds())), element(idSimpleBlock, block)...))...)
	if _, err := v.w.Write(out); err != nil {
		return fmt.Errorf("adding frame %d: %w", v.frames, err)
	}
	v.last = at
	v.frames++
	return nil
}

// Frames is how many pictures were written.
func (v *VideoWriter) Frames() int { return v.frames }

func (v *VideoWriter) head() []byte {
	ebml := element(idEBML, join(number(0x4286, 1), number(0x42F7, 1), number(0x42F2, 4), number(0x42F3, 8), element(idDocType, []byte("matroska")), number(0x4287, 4), number(0x4285, 2)))
	info := element(idInfo, join(number(idTimestampScale, 1_000_000), element(0x4D80, []byte("zhenglian")), element(0x5741, []byte("zhenglian"))))
	track := element(idTrackEntry, join(number(idTrackNumber, 1), number(idTrackUID, 1), number(idTrackType, 1), number(0x9C, 0), element(idCodecID, []byte("V_MJPEG")),
		element(idVideo, join(number(idPixelWidth, uint64(v.width)), number(idPixelHeight, uint64(v.height))))))
	segment := append(elementID(idSegment), 0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff) // its size is not known
	return join(ebml, segment, info, element(idTracks, track))
}

func join(parts ...[]byte) []byte {
	var out []byte
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

func elementID(id uint32) []byte {
	b := binary.BigEndian.AppendUint32(nil, id)
	for b[0] == 0 {
		b = b[1:]
	}
	return b
}

func element(id uint32, content []byte) []byte {
	b := elementID(id)
	size := binary.BigEndian.AppendUint64(nil, uint64(len(content))|1<<56)
	return append(append(b, size...), content...)
}

func number(id uint32, n uint64) []byte {
	b := binary.BigEndian.AppendUint64(nil, n)
	for len(b) > 1 && b[0] == 0 {
		b = b[1:]
	}
	return element(id, b)
}
