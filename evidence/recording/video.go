package recording

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
)

// Limits of a video.
const (
	// MaxFrame is the size in bytes of the largest picture: a JPEG of 1280 × 720
	// has 50 to 300 KiB.
	MaxFrame = 16 << 20
	// MaxFrames bounds one session: eight hours at 30 a second.
	MaxFrames = 1 << 20
)

// Elements of Matroska (RFC 9559) that this reads or writes.
const (
	idEBML           = 0x1A45DFA3
	idDocType        = 0x4282
	idSegment        = 0x18538067
	idInfo           = 0x1549A966
	idTimestampScale = 0x2AD7B1
	idTracks         = 0x1654AE6B
	idTrackEntry     = 0xAE
	idTrackNumber    = 0xD7
	idTrackUID       = 0x73C5
	idTrackType      = 0x83
	idCodecID        = 0x86
	idEncodings      = 0x6D80
	idVideo          = 0xE0
	idPixelWidth     = 0xB0
	idPixelHeight    = 0xBA
	idCluster        = 0x1F43B675
	idTimestamp      = 0xE7
	idSimpleBlock    = 0xA3
	idBlockGroup     = 0xA0
	idBlock          = 0xA1
)

const unknownSize = -1

// Frame is one picture of a video.
type Frame struct {
	Number int // from 0
	Time   time.Duration
	Data   []byte // a JPEG as it was put in; valid until the next call
	SHA256 evidence.Digest
}

// VideoError says where a video leaves the form that is read.
type VideoError struct {
	Offset int64  // byte in the file
	Code   string // stable word, such as "element"
	Reason string
}

func (e *VideoError) Error() string { return fmt.Sprintf("%s (byte %d)", e.Reason, e.Offset) }

// VideoReader reads a Matroska file (RFC 9559) with one track of JPEG pictures,
// as `ffmpeg -c copy` or VideoWriter writes it, and gives each picture's bytes.
// Known subset: blocks without lacing, no content encodings, sizes known, or
// unknown for segment and clusters. Other elements are skipped.
type VideoReader struct {
	r     *bufio.Reader
	at    int64
	ends  []int64 // of the open elements; unknownSize where it is not known
	ids   []uint32
	scale int64 // nanoseconds a tick
	track uint64
	entry struct {
		number, kind uint64
		codec        string
	}
	cluster int64
	frames  int
	started bool
	buf     []byte
}

// NewVideoReader reads from r.
func NewVideoReader(r io.Reader) *VideoReader {
	return &VideoReader{r: bufio.NewReaderSize(r, 64<<10), scale: 1_000_000}
}

func (v *VideoReader) fail(code, reason string, args ...any) error {
	return &VideoError{v.at, code, fmt.Sprintf(reason, args...)}
}

// readErr tells an early end from a failing reader.
func (v *VideoReader) readErr(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return v.fail("truncated", "the video ends within an element")
	}
	return fmt.Errorf("reading the video: %w", err)
}

// Next returns the next frame. io.EOF is the end. Errors are *VideoError; others
// come from the reader.
func (v *VideoReader) Next() (*Frame, error) {
	for {
		if err := v.leave(); err != nil {
			return nil, err
		}
		if _, err := v.r.Peek(1); err == io.EOF {
			return nil, v.finish()
		}
		id, err := v.id()
		if err != nil {
			return nil, err
		}
		size, err := v.size()
		if err != nil {
			return nil, err
		}
		f, err := v.element(id, size)
		if f != nil || err != nil {
			return f, err
		}
	}
}

// finish is what the end of the file means.
func (v *VideoReader) finish() error {
	for i := len(v.ends) - 1; i >= 0; i-- {
		if v.ends[i] != unknownSize && v.ends[i] > v.at {
			return v.fail("truncated", "the video ends within an element")
		}
	}
	if v.track == 0 {
		return v.fail("form", "it has no track of JPEG pictures")
	}
	return io.EOF
}

// leave closes the elements that end here.
func (v *VideoReader) leave() error {
	for n := len(v.ends); n > 0; n = len(v.ends) {
		end := v.ends[n-1]
		if end == unknownSize || end > v.at {
			return nil
		}
		if end < v.at {
			return v.fail("element", "an element reaches beyond the one that holds it")
		}
		if err := v.close(v.ids[n-1]); err != nil {
			return err
		}
		v.ends, v.ids = v.ends[:n-1], v.ids[:n-1]
	}
	return nil
}

func (v *VideoReader) close(id uint32) error {
	if id != idTrackEntry {
		return nil
	}
	e := v.entry
	if e.kind != 1 { // no video: sound and subtitles have no place here
		return v.fail("form", "it has a track that is no video")
	}
	if e.codec != "V_MJPEG" || e.number == 0 {
		return v.fail("form", "its track is %.20q and not V_MJPEG", e.codec)
	}
	if v.track != 0 {
		return v.fail("form", "it has more than one track")
	}
	v.track = e.number
	return nil
}

// element enters, reads or skips an element whose head was read.
func (v *VideoReader) element(id uint32, size int64) (*Frame, error) {
	if !v.started {
		if id != idEBML {
			return nil, v.fail("form", "it is no Matroska file")
		}
		v.started = true
	}
	switch id {
	case idEBML, idSegment, idInfo, idTracks, idTrackEntry, idCluster, idBlockGroup:
		return nil, v.enter(id, size)
	}
	if size == unknownSize {
		return nil, v.fail("element", "an element %X has no size", id)
	}
	parent := uint32(0)
	if n := len(v.ids); n > 0 {
		parent = v.ids[n-1]
		if end := v.ends[n-1]; end != unknownSize && size > end-v.at {
			return nil, v.fail("element", "an element reaches beyond the one that holds it")
		}
	}
	switch {
	case (id == idSimpleBlock && parent == idCluster) || (id == idBlock && parent == idBlockGroup):
		return v.block(size)
	case id == idEncodings:
		return nil, v.fail("form", "its frames are compressed or encrypted once more")
	case parent == idEBML && id == idDocType, parent == idTrackEntry && id == idCodecID:
		b, err := v.bytes(size, 64)
		if err != nil {
			return nil, err
		}
		if id == idCodecID {
			v.entry.codec = string(b)
		} else if string(b) != "matroska" {
			return nil, v.fail("form", "it is %.20q and not matroska", b)
		}
		return nil, nil
	case parent == idInfo && id == idTimestampScale, parent == idCluster && id == idTimestamp,
		parent == idTrackEntry && (id == idTrackNumber || id == idTrackType):
		return nil, v.number(id, size)
	}
	return nil, v.skip(size)
}

func (v *VideoReader) number(id uint32, size int64) error {
	b, err := v.bytes(size, 8)
	if err != nil {
		return err
	}
	var n uint64
	for _, c := range b {
		n = n<<8 | uint64(c)
	}
	if n >= 1<<53 {
		return v.fail("element", "a number of element %X is too large", id)
	}
	switch id {
	case idTimestampScale:
		if n == 0 || n > 1e9 {
			return v.fail("element", "its clock ticks every %d ns", n)
		}
		v.scale = int64(n)
	case idTimestamp:
		v.cluster = int64(n)
	case idTrackNumber:
		v.entry.number = n
	case idTrackType:
		v.entry.kind = n
	}
	return nil
}

func (v *VideoReader) enter(id uint32, size int64) error {
	// A cluster of unknown size ends where the next element of its level begins.
	for n := len(v.ids); n > 0 && v.ends[n-1] == unknownSize && v.ids[n-1] == idCluster && id != idBlockGroup; n = len(v.ids) {
		v.ids, v.ends = v.ids[:n-1], v.ends[:n-1]
	}
	var parent uint32
	if n := len(v.ids); n > 0 {
		parent = v.ids[n-1]
	}
	want := map[uint32]uint32{idEBML: 0, idSegment: 0, idInfo: idSegment, idTracks: idSegment, idTrackEntry: idTracks, idCluster: idSegment, idBlockGroup: idCluster}
	if parent != want[id] {
		return v.fail("element", "the element %X does not belong here", id)
	}
	end := int64(unknownSize)
	if size != unknownSize {
		end = v.at + size
		if n := len(v.ends); n > 0 && v.ends[n-1] != unknownSize && end > v.ends[n-1] {
			return v.fail("element", "an element reaches beyond the one that holds it")
		}
	} else if id != idSegment && id != idCluster {
		return v.fail("element", "the element %X has no size", id)
	}
	if id == idTrackEntry {
		v.entry.number, v.entry.kind, v.entry.codec = 0, 0, ""
	}
	v.ids, v.ends = append(v.ids, id), append(v.ends, end)
	return nil
}

// block reads a SimpleBlock or Block (RFC 9559 §10): track, time, flags, data.
func (v *VideoReader) block(size int64) (*Frame, error) {
	if v.track == 0 {
		return nil, v.fail("form", "a frame stands before the description of its track")
	}
	if size > MaxFrame {
		return nil, v.fail("too-large", "a frame has more than %d bytes", MaxFrame)
	}
	if v.frames++; v.frames > MaxFrames {
		return nil, v.fail("too-many", "more than %d frames", MaxFrames)
	}
	b, err := v.bytes(size, MaxFrame)
	if err != nil {
		return nil, err
	}
	n := 1
	if len(b) > 0 {
		n = bits.LeadingZeros8(b[0]) + 1
	}
	if n > 8 || len(b) < n+3 {
		return nil, v.fail("element", "a block is too short")
	}
	track := uint64(b[0]) & (1<<(8-n) - 1)
	for _, c := range b[1:n] {
		track = track<<8 | uint64(c)
	}
	if track != v.track {
		return nil, v.fail("form", "a block belongs to track %d, which is not described", track)
	}
	if b[n+2]&0x06 != 0 {
		return nil, v.fail("form", "a block holds several frames (lacing)")
	}
	ticks := v.cluster + int64(int16(uint16(b[n])<<8|uint16(b[n+1])))
	data := b[n+3:]
	return &Frame{v.frames - 1, time.Duration(ticks * v.scale), data, evidence.SumSHA256(data)}, nil
}

// bytes reads an element's content, of at most limit bytes.
func (v *VideoReader) bytes(size, limit int64) ([]byte, error) {
	if size > limit {
		return nil, v.fail("too-large", "an element has %d bytes, more than %d", size, limit)
	}
	// Grows with what is there, not with what a size claims.
	v.buf = v.buf[:0]
	for int64(len(v.buf)) < size {
		from := len(v.buf)
		n := min(size-int64(from), 64<<10)
		if cap(v.buf) < from+int(n) {
			grown := make([]byte, from, max(2*cap(v.buf), from+int(n)))
			copy(grown, v.buf)
			v.buf = grown
		}
		v.buf = v.buf[:from+int(n)]
		got, err := io.ReadFull(v.r, v.buf[from:])
		v.at += int64(got)
		if err != nil {
			return nil, v.readErr(err)
		}
	}
	return v.buf, nil
}

func (v *VideoReader) skip(size int64) error {
	n, err := io.CopyN(io.Discard, v.r, size)
	v.at += n
	if err != nil {
		return v.readErr(err)
	}
	return nil
}

// id reads an element's id (RFC 8794 §5), its marker bits kept.
func (v *VideoReader) id() (uint32, error) {
	first, err := v.byte()
	if err != nil {
		return 0, err
	}
	n := bits.LeadingZeros8(first) + 1
	if n > 4 {
		return 0, v.fail("element", "an element's id is not valid")
	}
	id := uint32(first)
	for range n - 1 {
		c, err := v.byte()
		if err != nil {
			return 0, err
		}
		id = id<<8 | uint32(c)
	}
	return id, nil
}

// size reads an element's size (RFC 8794 §6), or unknownSize.
func (v *VideoReader) size() (int64, error) {
	first, err := v.byte()
	if err != nil {
		return 0, err
	}
	n := bits.LeadingZeros8(first) + 1
	if n > 8 {
		return 0, v.fail("element", "an element's size is not valid")
	}
	size := int64(first) & (1<<(8-n) - 1)
	ones := int64(1)<<(8-n) - 1
	for range n - 1 {
		c, err := v.byte()
		if err != nil {
			return 0, err
		}
		size, ones = size<<8|int64(c), ones<<8|0xff
	}
	if size == ones {
		return unknownSize, nil
	}
	return size, nil
}

func (v *VideoReader) byte() (byte, error) {
	c, err := v.r.ReadByte()
	if err != nil {
		return 0, v.readErr(err)
	}
	v.at++
	return c, nil
}
