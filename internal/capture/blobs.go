package capture

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/evidence/recording"
	"github.com/zhenglian/zhenglian/internal/capture/proxy"
)

// maxSmall is the size in bytes of the largest blob in the file of small ones:
// heads, certificates and short outputs, which would cost a file and a folder's
// fsync each otherwise.
const maxSmall = 64 << 10

// blobs of a session: large ones a file each under blobs/, named by digest, small
// ones one after the other in small.blobs: digest, length (big-endian, 8 bytes),
// bytes.
type blobs struct {
	dir string

	mu    sync.Mutex
	small *os.File
	end   int64
	at    map[evidence.Digest]span
}

type span struct{ off, size int64 }

const spanHead = 32 + 8

// openBlobs makes the store or reads the one that an interrupted run left; the
// torn end of small.blobs is cut off.
func openBlobs(dir string) (*blobs, error) {
	b := &blobs{dir: dir, at: map[evidence.Digest]span{}}
	if err := os.MkdirAll(filepath.Join(dir, "blobs"), 0o700); err != nil {
		return nil, fmt.Errorf("opening the blobs: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "small.blobs"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the blobs: %w", err)
	}
	b.small = f
	if err := b.scan(); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("reading the small blobs: %w", err)
	}
	left, err := filepath.Glob(filepath.Join(dir, "blobs", "*.part"))
	for _, name := range left {
		err = errors.Join(err, os.Remove(name))
	}
	return b, err
}

func (b *blobs) scan() error {
	r := bufio.NewReader(b.small)
	var head [spanHead]byte
	for {
		if _, err := io.ReadFull(r, head[:]); err != nil {
			break // the end, or a head that was not written whole
		}
		size := int64(binary.BigEndian.Uint64(head[32:]))
		if size < 0 || size > maxSmall {
			break
		}
		data := make([]byte, size)
		if _, err := io.ReadFull(r, data); err != nil || evidence.SumSHA256(data) != evidence.Digest(head[:32]) {
			break
		}
		b.at[evidence.Digest(head[:32])] = span{b.end + spanHead, size}
		b.end += spanHead + size
	}
	if err := b.small.Truncate(b.end); err != nil {
		return err
	}
	_, err := b.small.Seek(b.end, io.SeekStart)
	return err
}

func (b *blobs) close() error { return b.small.Close() }

// put stores bytes, durably.
func (b *blobs) put(data []byte) (evidence.Digest, error) {
	d := evidence.SumSHA256(data)
	if len(data) > maxSmall {
		w, err := b.begin()
		if err != nil {
			return d, err
		}
		if _, err := w.Write(data); err != nil {
			w.abort()
			return d, err
		}
		_, _, err = w.commit()
		return d, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, held := b.at[d]; held {
		return d, nil
	}
	line := binary.BigEndian.AppendUint64(append(make([]byte, 0, spanHead+len(data)), d[:]...), uint64(len(data)))
	if _, err := b.small.WriteAt(append(line, data...), b.end); err != nil {
		return d, fmt.Errorf("storing a blob: %w", err)
	}
	if err := b.small.Sync(); err != nil {
		return d, fmt.Errorf("storing a blob: %w", err)
	}
	b.at[d] = span{b.end + spanHead, int64(len(data))}
	b.end += spanHead + int64(len(data))
	return d, nil
}

func (b *blobs) path(d evidence.Digest) string { return filepath.Join(b.dir, "blobs", d.String()) }

// open returns a blob's content. os.ErrNotExist when there is none.
func (b *blobs) open(d evidence.Digest) (io.ReadCloser, error) {
	b.mu.Lock()
	s, held := b.at[d]
	b.mu.Unlock()
	if held {
		return io.NopCloser(io.NewSectionReader(b.small, s.off, s.size)), nil
	}
	if d == evidence.SumSHA256(nil) {
		return io.NopCloser(bytes.NewReader(nil)), nil
	}
	return os.Open(b.path(d))
}

// blobFile is a blob whose size is not known yet.
type blobFile struct {
	b    *blobs
	f    *os.File
	sum  hash.Hash
	size int64
}

func (b *blobs) begin() (*blobFile, error) {
	f, err := os.CreateTemp(filepath.Join(b.dir, "blobs"), "*.part")
	if err != nil {
		return nil, fmt.Errorf("beginning a blob: %w", err)
	}
	return &blobFile{b: b, f: f, sum: sha256.New()}, nil
}

func (w *blobFile) Write(p []byte) (int, error) {
	n, err := w.f.Write(p)
	w.sum.Write(p[:n])
	w.size += int64(n)
	return n, err
}

// commit makes the blob durable. A small one moves to the file of small blobs.
func (w *blobFile) commit() (evidence.Digest, int64, error) {
	d := evidence.Digest(w.sum.Sum(nil))
	if w.size <= maxSmall {
		data := make([]byte, w.size)
		_, err := w.f.ReadAt(data, 0)
		if err == io.EOF {
			err = nil
		}
		w.abort()
		if err == nil {
			_, err = w.b.put(data)
		}
		return d, w.size, err
	}
	if err := errors.Join(w.f.Sync(), w.f.Close()); err != nil {
		_ = os.Remove(w.f.Name())
		return d, w.size, fmt.Errorf("storing a blob: %w", err)
	}
	if err := os.Rename(w.f.Name(), w.b.path(d)); err != nil {
		return d, w.size, fmt.Errorf("storing a blob: %w", err)
	}
	return d, w.size, syncFolder(filepath.Join(w.b.dir, "blobs"))
}

func (w *blobFile) abort() {
	_ = w.f.Close()
	_ = os.Remove(w.f.Name()) // what stays is removed when the folder is opened again
}

func syncFolder(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("syncing a folder: %w", err)
	}
	err = d.Sync()
	if errors.Is(err, errors.ErrUnsupported) {
		err = nil
	}
	return errors.Join(err, d.Close())
}

// wireBlob is a proxy.BlobWriter.
type wireBlob struct {
	*blobFile
	role, media string
}

// Commit implements proxy.BlobWriter.
func (w *wireBlob) Commit() (proxy.Blob, error) {
	d, size, err := w.commit()
	return proxy.Blob{Role: w.role, SHA256: d, Size: size, Media: w.media}, err
}

// Abort implements proxy.BlobWriter.
func (w *wireBlob) Abort() { w.abort() }

// mediaOf brings what a sender wrote as Content-Type to the form of an event.
func mediaOf(text string) string {
	media, _, _ := strings.Cut(text, ";")
	media = strings.ToLower(strings.TrimSpace(media))
	major, minor, ok := strings.Cut(media, "/")
	for _, part := range []string{major, minor} {
		ok = ok && part != "" && len(part) <= 127 && !strings.ContainsFunc(part, func(c rune) bool {
			return !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || strings.ContainsRune("!#$&-^_.+", c))
		})
	}
	if !ok {
		return "application/octet-stream"
	}
	return media
}

// Blob is bytes that an event names.
type Blob struct {
	Role  string
	Media string // as written by whoever sent it; empty: application/octet-stream
	Data  []byte
}

// named stores b and returns how an event names it.
func (b *blobs) named(blob Blob) (recording.Blob, error) {
	d, err := b.put(blob.Data)
	return recording.Blob{Role: blob.Role, SHA256: d, Size: int64(len(blob.Data)), Media: mediaOf(blob.Media)}, err
}
