package capture

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"image/jpeg"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/evidence/recording"
)

// filePictures is the video while it is made. It is no part of the evidence:
// sealing copies the frames that events have named out of it.
const filePictures = "pictures.mkv"

// framesAtOnce is how many frames an event names: a second of a busy page.
const framesAtOnce = 30

// film is the video under way. The session's lock is held.
type film struct {
	f      *os.File
	w      *recording.VideoWriter
	zero   time.Time
	last   time.Duration
	named  int64
	frames []string
	times  []int64
	since  time.Time
}

// Frame records a picture of the screencast, a JPEG. Its digest is in an event
// within a second, or with the next step.
func (s *Session) Frame(at time.Time, width, height int, jpeg []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	if s.film == nil {
		f, err := os.OpenFile(filepath.Join(s.config.Dir, filePictures), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return fmt.Errorf("beginning the video: %w", err)
		}
		s.film = &film{f: f, w: recording.NewVideoWriter(f, width, height), zero: at, since: at}
	}
	m := s.film
	shown := max(at.Sub(m.zero).Truncate(time.Millisecond), m.last)
	if err := m.w.Add(shown, jpeg); err != nil {
		return fmt.Errorf("writing a frame: %w", err)
	}
	m.last = shown
	m.frames, m.times = append(m.frames, evidence.SumSHA256(jpeg).String()), append(m.times, shown.Milliseconds())
	if len(m.frames) < framesAtOnce && at.Sub(m.since) < time.Second {
		return nil
	}
	return s.nameFrames(at)
}

// nameFrames writes the event of the frames that none has named. The frames are
// on disk before their event is.
func (s *Session) nameFrames(at time.Time) error {
	m := s.film
	if m == nil || len(m.frames) == 0 {
		return nil
	}
	if err := m.f.Sync(); err != nil {
		s.err = fmt.Errorf("writing the video: %w", err)
		return s.err
	}
	data := recording.Data{"first": m.named, "frames": m.frames, "times": m.times}
	if err := s.eventLocked(recording.TypeFrames, data, nil); err != nil {
		return err
	}
	m.named += int64(len(m.frames))
	m.frames, m.times, m.since = nil, nil, at
	return nil
}

// Frames is how many pictures there are so far; a step names the one that shows
// it.
func (s *Session) Frames() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.film == nil {
		return 0
	}
	return s.film.named + int64(len(s.film.frames))
}

// cutVideo copies the frames that events have named out of the pictures into the
// video: what a killed recorder wrote after its last event is left behind. It
// returns how many were copied, 0 and no file when there are none.
func cutVideo(dir string, frames []evidence.Digest) (n int, err error) {
	in, err := os.Open(filepath.Join(dir, filePictures))
	if errors.Is(err, os.ErrNotExist) || len(frames) == 0 {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("opening the pictures: %w", err)
	}
	defer in.Close()
	r := recording.NewVideoReader(bufio.NewReaderSize(in, 1<<20))
	return n, writeWhole(filepath.Join(dir, recording.FileVideo), func(out io.Writer) error {
		var w *recording.VideoWriter
		for n < len(frames) {
			f, err := r.Next()
			if err != nil {
				return fmt.Errorf("reading frame %d of %d: %w", n, len(frames), err)
			}
			if f.SHA256 != frames[n] {
				return fmt.Errorf("frame %d is not the one that the log names", n)
			}
			if w == nil {
				size, err := jpeg.DecodeConfig(bytes.NewReader(f.Data))
				if err != nil {
					return fmt.Errorf("reading the first picture: %w", err)
				}
				w = recording.NewVideoWriter(out, size.Width, size.Height)
			}
			if err := w.Add(f.Time, f.Data); err != nil {
				return fmt.Errorf("copying frame %d: %w", n, err)
			}
			n++
		}
		return nil
	})
}

// writeWhole writes a file whole and durably, or not at all; one that is there is
// replaced.
func writeWhole(path string, write func(io.Writer) error) error {
	f, err := os.OpenFile(path+".part", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("writing %s: %w", filepath.Base(path), err)
	}
	b := bufio.NewWriterSize(f, 1<<20)
	err = write(b)
	if err == nil {
		err = errors.Join(b.Flush(), f.Sync())
	}
	if err = errors.Join(err, f.Close()); err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("writing %s: %w", filepath.Base(path), err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("writing %s: %w", filepath.Base(path), err)
	}
	return syncFolder(filepath.Dir(path))
}
