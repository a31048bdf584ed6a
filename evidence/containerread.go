package evidence

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
)

// Container is a container that is in its one form but for the contents, whose
// checksums Check compares.
type Container struct {
	r       io.ReaderAt
	entries []ContainerEntry
	byName  map[string]int
}

// OpenContainer reads the directory, writes every header again from what it
// says, and refuses any byte that differs, so that nothing but the contents is
// left unread. Format errors are *ContainerError; others come from r.
func OpenContainer(r io.ReaderAt, size int64) (*Container, error) {
	count, start, err := readTail(r, size)
	if err != nil {
		return nil, err
	}
	c := &Container{r: r, byName: make(map[string]int, count)}
	names := newNameSet()
	tail := size - tailSize(start)
	if start > tail {
		return nil, &ContainerError{tail, "", "end-record", "the directory begins after its end"}
	}
	dir := bufio.NewReaderSize(io.NewSectionReader(r, start, tail-start), 64<<10)
	at, next := start, int64(0)
	for range count {
		e, n, err := readCentral(dir, at)
		if err != nil {
			return nil, err
		}
		if e.header != next {
			return nil, &ContainerError{at, e.Name, "offset", fmt.Sprintf("the entry is said to begin at %d, but the one before ends at %d", e.header, next)}
		}
		if code, reason := names.add(e.Name); code != "" {
			return nil, &ContainerError{at, e.Name, code, reason}
		}
		want := e.appendLocal(nil)
		e.Offset = e.header + int64(len(want))
		if e.Size < 0 || e.Offset > start || e.Size > start-e.Offset {
			return nil, &ContainerError{at, e.Name, "offset", "the content is said to reach into the directory"}
		}
		got := make([]byte, len(want))
		if err := readFullAt(r, got, e.header); err != nil {
			return nil, fmt.Errorf("reading the header of %q: %w", e.Name, err)
		}
		if i := firstDifference(got, want); i >= 0 {
			return nil, &ContainerError{e.header + int64(i), e.Name, "local-header", "the header is not the one that follows from the directory"}
		}
		next = e.Offset + e.Size
		at += int64(n)
		c.byName[e.Name] = len(c.entries)
		c.entries = append(c.entries, e)
	}
	if next != start {
		return nil, &ContainerError{next, "", "gap", "something stands between the last content and the directory"}
	}
	if at != tail {
		return nil, &ContainerError{at, "", "gap", "something stands between the directory and the end record"}
	}
	want := appendTail(nil, len(c.entries), start, at-start)
	got := make([]byte, len(want))
	if err := readFullAt(r, got, tail); err != nil {
		return nil, fmt.Errorf("reading the end record: %w", err)
	}
	if i := firstDifference(got, want); i >= 0 {
		return nil, &ContainerError{tail + int64(i), "", "end-record", "the end record is not the one that follows from the directory"}
	}
	return c, nil
}

func tailSize(start int64) int64 {
	if start >= zip64Mark {
		return zip64TailSize + zipEndSize
	}
	return zipEndSize // a directory of MaxContainerEntries is far below 4 GiB
}

// readTail finds the number of entries and the directory's offset.
func readTail(r io.ReaderAt, size int64) (count int, start int64, err error) {
	head := make([]byte, 4)
	if size < zipEndSize {
		return 0, 0, &ContainerError{0, "", "not-a-container", "the file is too short to be a ZIP file"}
	}
	if err := readFullAt(r, head, 0); err != nil {
		return 0, 0, fmt.Errorf("reading the first bytes: %w", err)
	}
	end := make([]byte, zipEndSize)
	if err := readFullAt(r, end, size-zipEndSize); err != nil {
		return 0, 0, fmt.Errorf("reading the end record: %w", err)
	}
	if binary.LittleEndian.Uint32(end) != zipEnd {
		if sig := binary.LittleEndian.Uint32(head); sig != zipLocal && sig != zipEnd {
			return 0, 0, &ContainerError{0, "", "not-a-container", "the file is not a ZIP file"}
		}
		return 0, 0, &ContainerError{size - zipEndSize, "", "truncated", "the file does not end with a ZIP end record: it was cut short, or something was appended"}
	}
	count = int(binary.LittleEndian.Uint16(end[10:]))
	start = int64(binary.LittleEndian.Uint32(end[16:]))
	if count > MaxContainerEntries {
		return 0, 0, &ContainerError{size - zipEndSize + 10, "", "too-many", fmt.Sprintf("more than %d entries", MaxContainerEntries)}
	}
	if start == zip64Mark {
		record := make([]byte, 56)
		if size < zip64TailSize+zipEndSize {
			return 0, 0, &ContainerError{size - zipEndSize, "", "end-record", "the zip64 record is missing"}
		}
		at := size - zip64TailSize - zipEndSize
		if err := readFullAt(r, record, at); err != nil {
			return 0, 0, fmt.Errorf("reading the zip64 record: %w", err)
		}
		v := binary.LittleEndian.Uint64(record[48:])
		if binary.LittleEndian.Uint32(record) != zip64End || v < zip64Mark || v > uint64(at) {
			return 0, 0, &ContainerError{at, "", "end-record", "the zip64 record is missing or needless"}
		}
		start = int64(v)
	}
	return count, start, nil
}

// readCentral reads one directory record of n bytes at offset at, and refuses it
// unless it is what appendCentral writes for the values in it.
func readCentral(dir *bufio.Reader, at int64) (e ContainerEntry, n int, err error) {
	fail := func(i int, code, reason string) error {
		return &ContainerError{at + int64(i), e.Name, code, reason}
	}
	readErr := func(err error) error {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return fail(0, "directory", "the directory ends before its last entry")
		}
		return fmt.Errorf("reading the directory: %w", err)
	}
	fixed := make([]byte, zipCentralSize)
	if _, err := io.ReadFull(dir, fixed); err != nil {
		return e, 0, readErr(err)
	}
	nameSize, extraSize := int(binary.LittleEndian.Uint16(fixed[28:])), int(binary.LittleEndian.Uint16(fixed[30:]))
	if nameSize > MaxContainerName || extraSize > 28 {
		return e, 0, fail(28, "directory", "a name or an extra field is longer than any this format has")
	}
	rest := make([]byte, nameSize+extraSize)
	if _, err := io.ReadFull(dir, rest); err != nil {
		return e, 0, readErr(err)
	}
	e.Name = string(rest[:nameSize])
	e.CRC32 = binary.LittleEndian.Uint32(fixed[16:])
	e.Size = int64(binary.LittleEndian.Uint32(fixed[24:]))
	e.header = int64(binary.LittleEndian.Uint32(fixed[42:]))
	extra := rest[nameSize:]
	next := 4
	for _, field := range []*int64{&e.Size, &e.header} {
		if *field != zip64Mark {
			continue
		}
		if len(extra) < next+8 {
			return e, 0, fail(zipCentralSize+nameSize, "directory", "the zip64 field is missing")
		}
		v := binary.LittleEndian.Uint64(extra[next:])
		if v < zip64Mark || v > 1<<62 {
			return e, 0, fail(zipCentralSize+nameSize+next, "directory", "a zip64 value is needless or impossible")
		}
		*field = int64(v)
		if next += 8; field == &e.Size {
			next += 8 // the size stands twice
		}
	}
	got := append(fixed, rest...)
	if i := firstDifference(got, e.appendCentral(nil)); i >= 0 {
		return e, 0, fail(i, "directory", "a directory record is not in its one form: stored, 1980-01-01, UTF-8, no comment, no other extra field")
	}
	return e, len(got), nil
}

// firstDifference returns the first index at which a and b differ, or -1.
func firstDifference(a, b []byte) int {
	if bytes.Equal(a, b) {
		return -1
	}
	i := 0
	for i < len(a) && i < len(b) && a[i] == b[i] {
		i++
	}
	return i
}

func readFullAt(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Entries returns the entries in the order of the container.
func (c *Container) Entries() []ContainerEntry { return slices.Clone(c.entries) }

// Entry returns the entry with this name.
func (c *Container) Entry(name string) (ContainerEntry, bool) {
	i, ok := c.byName[name]
	if !ok {
		return ContainerEntry{}, false
	}
	return c.entries[i], true
}

// Open returns an entry's content.
func (c *Container) Open(name string) (*io.SectionReader, error) {
	e, ok := c.Entry(name)
	if !ok {
		return nil, fmt.Errorf("the container has no entry %q", name)
	}
	return io.NewSectionReader(c.r, e.Offset, e.Size), nil
}

// CheckEntry streams an entry's content and compares its CRC-32. A difference is
// a *ContainerError with code "crc"; other errors come from the reader.
func (c *Container) CheckEntry(name string) error {
	e, ok := c.Entry(name)
	if !ok {
		return fmt.Errorf("the container has no entry %q", name)
	}
	sum := crc32.NewIEEE()
	if _, err := io.Copy(sum, io.NewSectionReader(c.r, e.Offset, e.Size)); err != nil {
		return fmt.Errorf("reading entry %q: %w", name, err)
	}
	return e.checkCRC(sum.Sum32())
}

func (e *ContainerEntry) checkCRC(sum uint32) error {
	if sum != e.CRC32 {
		return &ContainerError{e.Offset, e.Name, "crc", fmt.Sprintf("the content has CRC-32 %08x, the directory says %08x", sum, e.CRC32)}
	}
	return nil
}

// Check streams every content and returns the first that CheckEntry refuses.
func (c *Container) Check() error {
	for i := range c.entries {
		if err := c.CheckEntry(c.entries[i].Name); err != nil {
			return err
		}
	}
	return nil
}
