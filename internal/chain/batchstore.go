package chain

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/zhenglian/zhenglian/evidence"
)

// The batch store holds the payload of the chain: segment files of frames, each
// "ZLBF", the length as 4 bytes big-endian, the batch's digest, the batch.
// Nothing is ever changed in place.
//
// A batch is durable when put returns: the frame and everything before it in
// its segment is on disk. Many batches share one fsync.
//
// Not trusted: every read is hashed. Whoever alters a segment can only make
// this node fetch the batch again from the others.
const frameMagic = "ZLBF"

const (
	frameHeader = len(frameMagic) + 4 + 32
	// segmentSize keeps a file small enough to copy and a directory short: at
	// 20,000 deposits a second a segment takes 40 s.
	segmentSize = 256 << 20
)

// location is where a batch lies: segment number, offset of its frame, length
// of its bytes.
type location struct {
	seg, size uint32
	off       uint64
}

func (l location) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, l.seg)
	b = binary.BigEndian.AppendUint64(b, l.off)
	return binary.BigEndian.AppendUint32(b, l.size)
}

const locationLen = 16

func readLocation(b []byte) location {
	return location{seg: binary.BigEndian.Uint32(b), off: binary.BigEndian.Uint64(b[4:]), size: binary.BigEndian.Uint32(b[12:])}
}

func (l location) before(o location) bool {
	return l.seg < o.seg || l.seg == o.seg && l.off < o.off
}

type batchStore struct {
	dir  string
	log  *slog.Logger
	puts chan *putRequest
	done chan struct{}

	mu    sync.Mutex
	files map[uint32]*os.File
	end   location // where the next frame goes
}

type putRequest struct {
	digest evidence.Digest
	raw    []byte
	loc    location
	err    chan error
}

// openBatchStore opens the segments and reads the frames from `from` on, giving
// each whole one to visit. A torn frame at the very end, the trace of a crash
// before its fsync returned, is cut off; damage before it is given to damaged.
func openBatchStore(dir string, from location, log *slog.Logger, visit func(digest evidence.Digest, loc location, raw []byte), damaged func(location)) (*batchStore, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the batch store: %w", err)
	}
	s := &batchStore{dir: dir, log: log, puts: make(chan *putRequest, 256), done: make(chan struct{}), files: map[uint32]*os.File{}}
	names, err := filepath.Glob(filepath.Join(dir, "*.seg"))
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	for _, name := range names {
		var seg uint32
		if _, err := fmt.Sscanf(strings.TrimSuffix(filepath.Base(name), ".seg"), "%d", &seg); err != nil {
			return nil, fmt.Errorf("%s is not a segment of the batch store: move it away", name)
		}
		f, err := os.OpenFile(name, os.O_RDWR, 0o600)
		if err != nil {
			return nil, fmt.Errorf("opening segment: %w", err)
		}
		s.files[seg] = f
		start := uint64(0)
		switch {
		case seg < from.seg:
			continue
		case seg == from.seg:
			start = from.off
		}
		info, err := f.Stat()
		if err != nil {
			return nil, err
		}
		if size := uint64(info.Size()); size < start {
			// Committed batches were cut off. The segment keeps its length, so that
			// new ones go where no block says that another one lies.
			damaged(location{seg: seg, off: size, size: uint32(start - size)})
			s.end = location{seg: seg, off: start}
			if err := f.Truncate(int64(start)); err != nil {
				return nil, fmt.Errorf("restoring the length of a segment: %w", err)
			}
			continue
		}
		end, err := scanSegment(f, seg, start, visit, damaged)
		if err != nil {
			return nil, err
		}
		s.end = location{seg: seg, off: end}
		if torn := uint64(info.Size()) - end; torn > 0 {
			log.Warn("cut off an unfinished batch", "segment", name, "at", end, "bytes", torn)
			if err := f.Truncate(int64(end)); err != nil {
				return nil, fmt.Errorf("cutting off an unfinished batch: %w", err)
			}
		}
	}
	if len(s.files) == 0 {
		if err := s.newSegment(1); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// scanSegment reads frames from off. It returns where the last whole one ends.
// Bytes that are no whole frame but have one after them are damage, given to
// damaged; without one after them they are a torn end.
func scanSegment(f *os.File, seg uint32, off uint64, visit func(evidence.Digest, location, []byte), damaged func(location)) (uint64, error) {
	info, err := f.Stat()
	if err != nil {
		return off, err
	}
	end := off
	for size := uint64(info.Size()); off < size; {
		digest, raw, err := readFrame(f, off, size)
		if err != nil {
			return end, fmt.Errorf("reading segment %d at byte %d: %w", seg, off, err)
		}
		if raw != nil {
			visit(digest, location{seg: seg, off: off, size: uint32(len(raw))}, raw)
			off += uint64(frameHeader + len(raw))
			end = off
			continue
		}
		next, err := findFrame(f, off+1, size)
		if err != nil {
			return end, fmt.Errorf("searching segment %d from byte %d: %w", seg, off, err)
		}
		if next < size {
			damaged(location{seg: seg, off: off, size: uint32(next - off)})
		}
		off = next
	}
	return end, nil
}

// readFrame returns the batch at off, or nil when there is no whole frame.
func readFrame(f io.ReaderAt, off, size uint64) (evidence.Digest, []byte, error) {
	var head [frameHeader]byte
	if size-off < uint64(frameHeader) {
		return evidence.Digest{}, nil, nil
	}
	if _, err := f.ReadAt(head[:], int64(off)); err != nil {
		return evidence.Digest{}, nil, err
	}
	n := uint64(binary.BigEndian.Uint32(head[len(frameMagic):]))
	if string(head[:len(frameMagic)]) != frameMagic || n == 0 || n > maxBatchBytes || n > size-off-uint64(frameHeader) {
		return evidence.Digest{}, nil, nil
	}
	raw := make([]byte, n)
	if _, err := f.ReadAt(raw, int64(off)+int64(frameHeader)); err != nil {
		return evidence.Digest{}, nil, err
	}
	digest := evidence.Digest(head[len(frameMagic)+4:])
	if evidence.SumSHA256(raw) != digest {
		return evidence.Digest{}, nil, nil
	}
	return digest, raw, nil
}

// findFrame returns the offset of the next whole frame at or after off, or size.
func findFrame(f io.ReaderAt, off, size uint64) (uint64, error) {
	buf := make([]byte, 1<<20)
	for off < size {
		n, err := f.ReadAt(buf[:min(uint64(len(buf)), size-off)], int64(off))
		if err != nil && !errors.Is(err, io.EOF) {
			return off, err
		}
		for i := 0; ; {
			j := bytes.Index(buf[i:n], []byte(frameMagic))
			if j < 0 {
				break
			}
			at := off + uint64(i+j)
			if _, raw, err := readFrame(f, at, size); err != nil || raw != nil {
				return at, err
			}
			i += j + 1
		}
		if n <= len(frameMagic) {
			break
		}
		off += uint64(n - len(frameMagic) + 1) // the mark may lie across two reads
	}
	return size, nil
}

func (s *batchStore) newSegment(n uint32) error {
	f, err := os.OpenFile(filepath.Join(s.dir, fmt.Sprintf("%08d.seg", n)), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("starting a segment: %w", err)
	}
	if err := syncDir(s.dir); err != nil {
		return errors.Join(err, f.Close())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files[n] = f
	s.end = location{seg: n}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// put makes a batch durable and returns where it lies.
func (s *batchStore) put(ctx context.Context, digest evidence.Digest, raw []byte) (location, error) {
	req := &putRequest{digest: digest, raw: raw, err: make(chan error, 1)}
	select {
	case s.puts <- req:
	case <-ctx.Done():
		return location{}, ctx.Err()
	case <-s.done:
		return location{}, ErrStopping
	}
	select {
	case err := <-req.err:
		return req.loc, err
	case <-s.done:
		return location{}, ErrStopping
	}
}

// run writes what put asks for, everything that waits in one write and one
// fsync, until ctx ends.
func (s *batchStore) run(ctx context.Context) error {
	defer close(s.done)
	for {
		var reqs []*putRequest
		select {
		case <-ctx.Done():
			return nil
		case r := <-s.puts:
			reqs = append(reqs, r)
		}
		for more := true; more && len(reqs) < 64; {
			select {
			case r := <-s.puts:
				reqs = append(reqs, r)
			default:
				more = false
			}
		}
		err := s.write(reqs)
		for _, r := range reqs {
			r.err <- err
		}
	}
}

// write appends the frames and syncs. On an error nothing of it counts: the
// segment is cut back, so that a full disk leaves no half frame behind.
func (s *batchStore) write(reqs []*putRequest) error {
	if s.end.off >= segmentSize {
		if err := s.newSegment(s.end.seg + 1); err != nil {
			return err
		}
	}
	s.mu.Lock()
	f := s.files[s.end.seg]
	s.mu.Unlock()
	var buf []byte
	for _, r := range reqs {
		r.loc = location{seg: s.end.seg, off: s.end.off + uint64(len(buf)), size: uint32(len(r.raw))}
		buf = append(buf, frameMagic...)
		buf = binary.BigEndian.AppendUint32(buf, uint32(len(r.raw)))
		buf = append(buf, r.digest[:]...)
		buf = append(buf, r.raw...)
	}
	_, err := f.WriteAt(buf, int64(s.end.off))
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		if cut := f.Truncate(int64(s.end.off)); cut != nil {
			err = errors.Join(err, cut)
		}
		return fmt.Errorf("writing batches: %w", err)
	}
	s.mu.Lock()
	s.end.off += uint64(len(buf))
	s.mu.Unlock()
	return nil
}

// endsAt returns where the next frame will go, or a place before it.
func (s *batchStore) endsAt() location {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.end
}

// get reads a batch and checks it against its digest.
func (s *batchStore) get(digest evidence.Digest, loc location) ([]byte, error) {
	s.mu.Lock()
	f := s.files[loc.seg]
	s.mu.Unlock()
	where := fmt.Sprintf("segment %08d.seg at byte %d", loc.seg, loc.off)
	if f == nil {
		return nil, &DamagedError{"batch store", where + " is gone"}
	}
	raw := make([]byte, loc.size)
	if _, err := f.ReadAt(raw, int64(loc.off)+int64(frameHeader)); err != nil {
		return nil, &DamagedError{"batch store", fmt.Sprintf("%s cannot be read: %v", where, err)}
	}
	if evidence.SumSHA256(raw) != digest {
		return nil, &DamagedError{"batch store", where + " is not the batch " + digest.String()}
	}
	return raw, nil
}

func (s *batchStore) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	for _, f := range s.files {
		err = errors.Join(err, f.Close())
	}
	return err
}
