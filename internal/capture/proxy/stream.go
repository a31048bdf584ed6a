package proxy

import (
	"context"
	"encoding/json"
	"io"
	"sync"
	"time"
)

// stream carries what follows a 101 until either side closes.
func (x *exchanging) stream(ctx context.Context, h head) {
	x.e.Kind = KindUpgrade
	if h.hasToken("Upgrade", "websocket") {
		x.e.Kind = KindWebSocket
	}
	x.e.Stage = StageResponse
	if x.requestDone() != nil || x.p.record(ctx, x.e) != nil {
		return
	}
	var s streams
	if s.open(x) != nil {
		return
	}
	_, err := x.browser.w.Write(h.raw)
	if err == nil {
		err = x.browser.w.Flush()
	}
	var out outcome
	if err == nil {
		back := make(chan outcome, 1)
		waiting := x.waiting
		x.waiting = nil
		go func() {
			o := outcome{reason: TruncatedBrowser}
			if <-waiting == nil {
				o = x.pump(ctx, x.browser, x.origin, s.sent, &s.fromBrowser, TruncatedBrowser)
			}
			o.at = time.Now()
			x.origin.Close()
			back <- o
		}()
		out = x.pump(ctx, x.origin, x.browser, s.received, &s.fromOrigin, TruncatedOrigin)
		out.at = time.Now()
		x.browser.Close()
		if other := <-back; other.err != nil || other.at.Before(out.at) && out.err == nil {
			out = other
		}
	}
	if out.err != nil {
		s.abort()
		return
	}
	if ctx.Err() != nil {
		out.reason = TruncatedSession
	}
	ended := s.fromBrowser.closing || s.fromOrigin.closing
	if x.e.Kind == KindUpgrade {
		ended = out.reason == TruncatedOrigin || out.reason == TruncatedBrowser // nobody knows how it ends
	}
	if !ended {
		x.e.Truncated = out.reason
	}
	x.e.FramesSent, x.e.FramesReceived = s.fromBrowser.frames, s.fromOrigin.frames
	if s.commit(x) != nil {
		return
	}
	x.e.Stage, x.e.Ended = StageEnd, time.Now()
	_ = x.p.record(ctx, x.e) // its failure has ended the session
}

// outcome is how one direction of a stream ended.
type outcome struct {
	reason string
	at     time.Time
	err    error // the recorder's
}

// pump copies one direction: into the blob first.
func (x *exchanging) pump(ctx context.Context, from, to *leg, blob io.Writer, scan *frameScanner, side string) outcome {
	buf := make([]byte, bufferSize)
	for {
		from.within(x.p.config.Limits.Stall)
		n, err := from.r.Read(buf)
		if n > 0 {
			if !x.p.spend(n) {
				return outcome{reason: TruncatedLimit}
			}
			serr := store(blob, buf[:n])
			if serr == nil {
				serr = scan.write(buf[:n], time.Now())
			}
			if serr != nil {
				return outcome{err: x.p.fail(serr)}
			}
			if _, err := to.w.Write(buf[:n]); err != nil || to.w.Flush() != nil {
				other := TruncatedOrigin
				if side == TruncatedOrigin {
					other = TruncatedBrowser
				}
				return outcome{reason: x.reason(ctx, nil, other)}
			}
		}
		if err != nil {
			return outcome{reason: x.reason(ctx, err, side)}
		}
	}
}

// streams are the blobs of an upgraded connection.
type streams struct {
	sent, received, frames  BlobWriter
	fromBrowser, fromOrigin frameScanner
}

func (s *streams) open(x *exchanging) (err error) {
	if s.sent, err = x.p.blob(RoleStreamSent, ""); err != nil {
		return err
	}
	if s.received, err = x.p.blob(RoleStreamReceived, ""); err != nil {
		s.abort()
		return err
	}
	if x.e.Kind != KindWebSocket {
		return nil
	}
	if s.frames, err = x.p.blob(RoleFrames, "application/jsonl"); err != nil {
		s.abort()
		return err
	}
	index := &frameIndex{w: s.frames}
	s.fromBrowser = frameScanner{index: index, from: "browser"}
	s.fromOrigin = frameScanner{index: index, from: "origin"}
	return nil
}

func (s *streams) abort() {
	for _, b := range []BlobWriter{s.sent, s.received, s.frames} {
		if b != nil {
			b.Abort()
		}
	}
}

func (s *streams) commit(x *exchanging) (err error) {
	sent, received, frames := s.sent, s.received, s.frames
	s.sent, s.received, s.frames = nil, nil, nil
	if x.e.Sent, err = x.p.commit(sent); err != nil {
		s.received, s.frames = received, frames
	} else if x.e.Received, err = x.p.commit(received); err != nil {
		s.frames = frames
	} else {
		x.e.Frames, err = x.p.commit(frames)
	}
	s.abort()
	return err
}

// frameIndex is the list of frames, both directions.
type frameIndex struct {
	mu sync.Mutex
	w  io.Writer
}

func (i *frameIndex) add(f Frame) error {
	line, err := json.Marshal(f)
	if err != nil {
		return err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	return store(i.w, append(line, '\n'))
}

// frameScanner finds the frames in one direction of a WebSocket (RFC 6455 §5.2).
// It watches and changes nothing; a scanner without index sees nothing.
type frameScanner struct {
	index   *frameIndex
	from    string
	frames  int
	closing bool // a close frame was seen

	header []byte
	began  time.Time
	offset int64 // of the next octet
	start  int64 // of the frame whose header is being read
	skip   uint64
}

func (s *frameScanner) write(b []byte, at time.Time) error {
	if s.index == nil {
		return nil
	}
	for len(b) > 0 {
		if s.skip > 0 {
			n := min(uint64(len(b)), s.skip)
			s.skip -= n
			s.offset += int64(n)
			b = b[n:]
			continue
		}
		if len(s.header) == 0 {
			s.start, s.began = s.offset, at
		}
		s.header = append(s.header, b[0])
		s.offset++
		b = b[1:]
		if f, ok := s.frame(); ok {
			s.skip, s.header = uint64(f.Length), s.header[:0]
			s.frames++
			s.closing = s.closing || f.Opcode == 8
			if err := s.index.add(f); err != nil {
				return err
			}
		}
	}
	return nil
}

// frame reads the header when it is whole.
func (s *frameScanner) frame() (Frame, bool) {
	h := s.header
	if len(h) < 2 {
		return Frame{}, false
	}
	masked := h[1]&0x80 != 0
	wide := 0
	switch h[1] & 0x7f {
	case 126:
		wide = 2
	case 127:
		wide = 8
	}
	need := 2 + wide
	if masked {
		need += 4
	}
	if len(h) < need {
		return Frame{}, false
	}
	length := uint64(h[1] & 0x7f)
	if wide > 0 {
		length = 0
		for _, c := range h[2 : 2+wide] {
			length = length<<8 | uint64(c)
		}
	}
	return Frame{
		At: s.began.UTC().Format("2006-01-02T15:04:05.000Z"), From: s.from,
		Opcode: int(h[0] & 0x0f), Final: h[0]&0x80 != 0, Reserve: int(h[0] >> 4 & 7), Masked: masked,
		Offset: s.start, Header: need, Length: int64(length &^ (1 << 63)), // the highest bit is always 0 (RFC 6455 §5.2)
	}, true
}
