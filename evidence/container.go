package evidence

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
	"unicode/utf8"
)

// A container is a ZIP file (APPNOTE 6.3.10) that any unzip program reads and
// that has one byte form for a given list of names and contents, so that no
// byte in it can say one thing to one program and another to the next:
//
//	┌ local header ┐┌ content, stored ┐ … one after another, nothing between
//	┌ central directory: the same entries in the same order ┐
//	┌ zip64 end record and locator, only where an offset needs them ┐
//	┌ end record, no comment ┐ end of file
//
// It trusts nothing it reads. spec/package.md, part 1.
const (
	// MaxContainerEntries is the most entries that plain ZIP counts: 65,535 is
	// its mark for "see the zip64 record", which older programs do not know.
	MaxContainerEntries = 65_534
	// MaxContainerName is the longest path in bytes: with a folder to extract
	// into before it, it stays below the 1,024 of macOS's PATH_MAX.
	MaxContainerName = 512

	zipLocal     = 0x04034b50
	zipCentral   = 0x02014b50
	zipEnd       = 0x06054b50
	zip64End     = 0x06064b50
	zip64Locator = 0x07064b50

	zipLocalSize   = 30
	zipCentralSize = 46
	zipEndSize     = 22
	zip64TailSize  = 56 + 20

	zipMadeBy   = 3<<8 | 45 // Unix, so that the mode below counts
	zipFlags    = 1 << 11   // names are UTF-8
	zipDate     = 0x0021    // 1980-01-01, the first day ZIP knows; time 00:00:00
	zipMode     = 0o100644  // a plain file
	zip64Mark   = 1<<32 - 1 // "the value is in the zip64 extra field"
	zip64Needed = 45        // version that knows zip64
	zipNeeded   = 20        // version otherwise
)

// ContainerError says at which byte and in which entry a container is not in
// its one form.
type ContainerError struct {
	Offset int64
	Entry  string // path; empty when it is about the whole file
	Code   string // stable word for programs and vectors
	Reason string
}

func (e *ContainerError) Error() string {
	if e.Entry == "" {
		return fmt.Sprintf("container, byte %d: %s", e.Offset, e.Reason)
	}
	return fmt.Sprintf("container, byte %d, %q: %s", e.Offset, e.Entry, e.Reason)
}

// ContainerEntry is one file in a container.
type ContainerEntry struct {
	Name   string
	Size   int64 // bytes
	CRC32  uint32
	Offset int64 // of the content in the container

	header int64 // offset of the local header
}

// appendLocal appends the entry's local header.
func (e *ContainerEntry) appendLocal(b []byte) []byte {
	big := e.Size >= zip64Mark
	b = binary.LittleEndian.AppendUint32(b, zipLocal)
	b = e.appendCommon(b, big)
	if big { // APPNOTE 4.5.3: in a local header both sizes, always
		b = binary.LittleEndian.AppendUint16(b, 20)
		b = append(b, e.Name...)
		b = append(b, 1, 0, 16, 0)
		b = binary.LittleEndian.AppendUint64(b, uint64(e.Size))
		return binary.LittleEndian.AppendUint64(b, uint64(e.Size))
	}
	b = append(b, 0, 0)
	return append(b, e.Name...)
}

// appendCommon appends the fields from "version needed" to "file name length",
// which both headers share.
func (e *ContainerEntry) appendCommon(b []byte, zip64 bool) []byte {
	version, size := uint16(zipNeeded), uint32(zip64Mark)
	if zip64 {
		version = zip64Needed
	}
	if e.Size < zip64Mark {
		size = uint32(e.Size)
	}
	b = binary.LittleEndian.AppendUint16(b, version)
	b = binary.LittleEndian.AppendUint16(b, zipFlags)
	b = append(b, 0, 0, 0, 0) // method stored, time 00:00:00
	b = binary.LittleEndian.AppendUint16(b, zipDate)
	b = binary.LittleEndian.AppendUint32(b, e.CRC32)
	b = binary.LittleEndian.AppendUint32(b, size) // compressed
	b = binary.LittleEndian.AppendUint32(b, size)
	return binary.LittleEndian.AppendUint16(b, uint16(len(e.Name)))
}

// appendCentral appends the entry's record in the central directory.
func (e *ContainerEntry) appendCentral(b []byte) []byte {
	var extra []byte
	if e.Size >= zip64Mark {
		extra = binary.LittleEndian.AppendUint64(extra, uint64(e.Size))
		extra = binary.LittleEndian.AppendUint64(extra, uint64(e.Size))
	}
	offset := uint32(zip64Mark)
	if e.header < zip64Mark {
		offset = uint32(e.header)
	} else {
		extra = binary.LittleEndian.AppendUint64(extra, uint64(e.header))
	}
	b = binary.LittleEndian.AppendUint32(b, zipCentral)
	b = binary.LittleEndian.AppendUint16(b, zipMadeBy)
	b = e.appendCommon(b, len(extra) > 0)
	extraSize := len(extra)
	if extraSize > 0 {
		extraSize += 4
	}
	b = binary.LittleEndian.AppendUint16(b, uint16(extraSize))
	b = append(b, 0, 0, 0, 0, 0, 0) // no comment, disk 0, internal attributes 0
	b = binary.LittleEndian.AppendUint32(b, zipMode<<16)
	b = binary.LittleEndian.AppendUint32(b, offset)
	b = append(b, e.Name...)
	if len(extra) > 0 {
		b = append(b, 1, 0, byte(len(extra)), 0)
		b = append(b, extra...)
	}
	return b
}

// appendTail appends what follows the central directory.
func appendTail(b []byte, entries int, start, size int64) []byte {
	if start >= zip64Mark || size >= zip64Mark {
		b = binary.LittleEndian.AppendUint32(b, zip64End)
		b = binary.LittleEndian.AppendUint64(b, 44)
		b = binary.LittleEndian.AppendUint16(b, zipMadeBy)
		b = binary.LittleEndian.AppendUint16(b, zip64Needed)
		b = append(b, 0, 0, 0, 0, 0, 0, 0, 0) // disks
		b = binary.LittleEndian.AppendUint64(b, uint64(entries))
		b = binary.LittleEndian.AppendUint64(b, uint64(entries))
		b = binary.LittleEndian.AppendUint64(b, uint64(size))
		b = binary.LittleEndian.AppendUint64(b, uint64(start))
		b = binary.LittleEndian.AppendUint32(b, zip64Locator)
		b = append(b, 0, 0, 0, 0)
		b = binary.LittleEndian.AppendUint64(b, uint64(start+size))
		b = append(b, 1, 0, 0, 0) // one disk
	}
	b = binary.LittleEndian.AppendUint32(b, zipEnd)
	b = append(b, 0, 0, 0, 0) // disks
	b = binary.LittleEndian.AppendUint16(b, uint16(entries))
	b = binary.LittleEndian.AppendUint16(b, uint16(entries))
	b = binary.LittleEndian.AppendUint32(b, uint32(min(size, zip64Mark)))
	b = binary.LittleEndian.AppendUint32(b, uint32(min(start, zip64Mark)))
	return append(b, 0, 0) // no comment
}

// nameSet refuses names that could not all be extracted side by side.
type nameSet struct {
	files   map[string]bool // names in lower case (A-Z alone)
	folders map[string]bool
}

func newNameSet() *nameSet { return &nameSet{map[string]bool{}, map[string]bool{}} }

// add returns the code and reason of the rule the name breaks, or "".
func (s *nameSet) add(name string) (code, reason string) {
	if reason := checkContainerName(name); reason != "" {
		return "name", reason
	}
	folded := lowerASCII(name)
	if s.files[folded] {
		return "duplicate", "the name stands twice (capitals do not count)"
	}
	if s.folders[folded] {
		return "duplicate", "the name is also that of a folder"
	}
	s.files[folded] = true
	for i := range len(folded) {
		if folded[i] == '/' {
			if s.files[folded[:i]] {
				return "duplicate", "a folder has the name of a file"
			}
			s.folders[folded[:i]] = true
		}
	}
	return "", ""
}

func lowerASCII(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}

// checkContainerName: a relative path with / between its parts that every
// common file system takes and none reads in another way.
func checkContainerName(name string) string {
	switch {
	case name == "":
		return "the name is empty"
	case len(name) > MaxContainerName:
		return fmt.Sprintf("the name has %d bytes, more than %d", len(name), MaxContainerName)
	case !utf8.ValidString(name):
		return "the name is not valid UTF-8"
	}
	for _, r := range name {
		if deceptive(r) || r == '\\' || r == ':' {
			return fmt.Sprintf("the name holds %U, which is not allowed in one", r)
		}
	}
	for part := range strings.SplitSeq(name, "/") {
		switch {
		case part == "":
			return "the name is absolute, ends with / or holds //"
		case part == "." || part == "..":
			return "the name leaves its folder with . or .."
		case strings.HasSuffix(part, ".") || strings.HasSuffix(part, " "):
			return "a part of the name ends with a dot or a blank, which Windows drops"
		}
	}
	return ""
}

// ContainerWriter writes a container in constant memory but for the list of
// entries. After an error the container is useless and every call returns it.
type ContainerWriter struct {
	w       io.Writer
	seeker  io.Seeker // nil when w cannot go back
	offset  int64
	entries []ContainerEntry
	names   *nameSet
	err     error
}

// NewContainerWriter writes to w, which must be empty. Add needs w to be an
// io.Seeker too, since an entry's checksum stands before its content.
func NewContainerWriter(w io.Writer) *ContainerWriter {
	seeker, _ := w.(io.Seeker)
	return &ContainerWriter{w: w, seeker: seeker, names: newNameSet()}
}

func (w *ContainerWriter) write(b []byte) error {
	n, err := w.w.Write(b)
	w.offset += int64(n)
	return err
}

func (w *ContainerWriter) begin(name string) (*ContainerEntry, error) {
	if w.err != nil {
		return nil, w.err
	}
	if len(w.entries) >= MaxContainerEntries {
		return nil, &ContainerError{w.offset, name, "too-many", fmt.Sprintf("more than %d entries: make two packages", MaxContainerEntries)}
	}
	if code, reason := w.names.add(name); code != "" {
		return nil, &ContainerError{w.offset, name, code, reason}
	}
	return &ContainerEntry{Name: name, header: w.offset}, nil
}

// AddBytes writes an entry whose content is at hand.
func (w *ContainerWriter) AddBytes(name string, content []byte) error {
	e, err := w.begin(name)
	if err != nil {
		w.err = err
		return err
	}
	e.Size, e.CRC32 = int64(len(content)), crc32.ChecksumIEEE(content)
	err = w.write(e.appendLocal(nil))
	e.Offset = w.offset
	if err == nil {
		err = w.write(content)
	}
	if err != nil {
		w.err = fmt.Errorf("writing entry %q: %w", name, err)
		return w.err
	}
	w.entries = append(w.entries, *e)
	return nil
}

// Add streams an entry. size is the content's length in bytes, or -1 when it is
// not known, which serves up to 4 GiB - 2. A reader that gives fewer or more
// bytes than size is an error.
func (w *ContainerWriter) Add(name string, size int64, r io.Reader) error {
	e, err := w.begin(name)
	if err == nil {
		if err = w.stream(e, size, r); err != nil {
			err = fmt.Errorf("writing entry %q: %w", name, err)
		}
	}
	if err != nil {
		w.err = err
		return err
	}
	w.entries = append(w.entries, *e)
	return nil
}

func (w *ContainerWriter) stream(e *ContainerEntry, size int64, r io.Reader) error {
	if w.seeker == nil {
		return errors.New("the output cannot seek, so that contents must be given whole")
	}
	limit := size
	if size < 0 {
		limit = zip64Mark - 1
	}
	e.Size = max(size, 0)
	if err := w.write(e.appendLocal(nil)); err != nil {
		return err
	}
	e.Offset = w.offset
	sum := crc32.NewIEEE()
	n, err := io.Copy(io.MultiWriter(w.w, sum), io.LimitReader(r, limit))
	w.offset += n
	if err != nil {
		return err
	}
	if n == limit {
		// One more byte would mean that the reader holds more than was said.
		var more [1]byte
		if m, err := io.ReadFull(r, more[:]); m > 0 {
			return fmt.Errorf("the content has more than %d bytes: give its true size", limit)
		} else if err != io.EOF {
			return err
		}
	} else if size >= 0 {
		return fmt.Errorf("the content ends after %d of %d bytes", n, size)
	}
	e.Size, e.CRC32 = n, sum.Sum32()
	// The header has the same length with the checksum and size filled in.
	if _, err := w.seeker.Seek(e.header, io.SeekStart); err != nil {
		return err
	}
	if _, err := w.w.Write(e.appendLocal(nil)); err != nil {
		return err
	}
	_, err = w.seeker.Seek(w.offset, io.SeekStart)
	return err
}

// Size returns the number of bytes written so far.
func (w *ContainerWriter) Size() int64 { return w.offset }

// Close writes the central directory and the end. It does not close w.
func (w *ContainerWriter) Close() error {
	if w.err != nil {
		return w.err
	}
	start := w.offset
	var b []byte
	for i := range w.entries {
		b = w.entries[i].appendCentral(b[:0])
		if err := w.write(b); err != nil {
			w.err = fmt.Errorf("writing the directory: %w", err)
			return w.err
		}
	}
	if err := w.write(appendTail(nil, len(w.entries), start, w.offset-start)); err != nil {
		w.err = fmt.Errorf("writing the end record: %w", err)
		return w.err
	}
	w.err = errors.New("the container is already closed")
	return nil
}

// MemoryFile is a growing file in memory: an io.WriteSeeker to write a small
// container to and an io.ReaderAt to read it from. The zero value is empty.
type MemoryFile struct {
	data []byte
	pos  int64
}

// Bytes returns the content. The caller must not change it.
func (f *MemoryFile) Bytes() []byte { return f.data }

// Write implements io.Writer at the current position.
func (f *MemoryFile) Write(p []byte) (int, error) {
	if end := f.pos + int64(len(p)); end > int64(len(f.data)) {
		f.data = append(f.data, make([]byte, end-int64(len(f.data)))...)
	}
	n := copy(f.data[f.pos:], p)
	f.pos += int64(n)
	return n, nil
}

// Seek implements io.Seeker, up to the end.
func (f *MemoryFile) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += f.pos
	case io.SeekEnd:
		offset += int64(len(f.data))
	}
	if offset < 0 || offset > int64(len(f.data)) {
		return f.pos, fmt.Errorf("seeking to %d in a file of %d bytes", offset, len(f.data))
	}
	f.pos = offset
	return offset, nil
}

// ReadAt implements io.ReaderAt.
func (f *MemoryFile) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(f.data).ReadAt(p, off)
}
