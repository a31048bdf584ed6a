package evidence

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func wantContainerError(t *testing.T, err error, code string) {
	t.Helper()
	var ce *ContainerError
	if !errors.As(err, &ce) || ce.Code != code {
		t.Errorf("got %v, want code %s", err, code)
	}
}

func TestContainerVectors(t *testing.T) {
	for _, v := range readDocumentVectors[struct {
		Name    string
		Entries []struct {
			Name       string
			ContentHex string `json:"content_hex"`
		}
		ContainerHex string `json:"container_hex"`
	}](t, "container/valid.json") {
		t.Run(v.Name, func(t *testing.T) {
			// Three ways to write: at once, streamed with the size, and without it.
			var plain bytes.Buffer
			var sized, unsized MemoryFile
			w, ws, wu := NewContainerWriter(&plain), NewContainerWriter(&sized), NewContainerWriter(&unsized)
			for _, e := range v.Entries {
				content := unhex(t, e.ContentHex)
				if err := errors.Join(w.AddBytes(e.Name, content), ws.Add(e.Name, int64(len(content)), bytes.NewReader(content)), wu.Add(e.Name, -1, bytes.NewReader(content))); err != nil {
					t.Fatal(err)
				}
			}
			if err := errors.Join(w.Close(), ws.Close(), wu.Close()); err != nil {
				t.Fatal(err)
			}
			for _, got := range [][]byte{plain.Bytes(), sized.Bytes(), unsized.Bytes()} {
				if hex.EncodeToString(got) != v.ContainerHex {
					t.Errorf("wrote %x\nwant  %s", got, v.ContainerHex)
				}
			}
			c, err := OpenContainer(bytes.NewReader(plain.Bytes()), int64(plain.Len()))
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Check(); err != nil {
				t.Error(err)
			}
			for i, e := range c.Entries() {
				r, err := c.Open(e.Name)
				if err != nil {
					t.Fatal(err)
				}
				content, err := io.ReadAll(r)
				if err != nil || e.Name != v.Entries[i].Name || hex.EncodeToString(content) != v.Entries[i].ContentHex {
					t.Errorf("read %q: %x, %v", e.Name, content, err)
				}
			}
		})
	}
	for _, v := range readDocumentVectors[struct {
		Name         string
		ContainerHex string `json:"container_hex"`
		Reason       string
	}](t, "container/invalid.json") {
		t.Run(v.Name, func(t *testing.T) {
			data := unhex(t, v.ContainerHex)
			_, err := OpenContainer(bytes.NewReader(data), int64(len(data)))
			wantContainerError(t, err, v.Reason)
		})
	}
	for _, v := range readDocumentVectors[struct {
		Name         string
		ContainerHex string `json:"container_hex"`
		Entry        string
		Reason       string
	}](t, "container/damaged.json") {
		data := unhex(t, v.ContainerHex)
		c, err := OpenContainer(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			t.Fatal(err)
		}
		err = c.Check()
		wantContainerError(t, err, v.Reason)
		var ce *ContainerError
		if errors.As(err, &ce) && ce.Entry != v.Entry {
			t.Errorf("found in %q, want %q", ce.Entry, v.Entry)
		}
	}
}

// Every bit of a container that is not content is fixed by the contents.
func TestContainerEveryBitCounts(t *testing.T) {
	var f MemoryFile
	w := NewContainerWriter(&f)
	for _, n := range []string{"README.txt", "文件/证据.txt"} {
		if err := w.AddBytes(n, []byte("content of "+n)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	good := bytes.Clone(f.Bytes())
	for i := range good {
		for bit := range 8 {
			bad := bytes.Clone(good)
			bad[i] ^= 1 << bit
			c, err := OpenContainer(bytes.NewReader(bad), int64(len(bad)))
			if err == nil {
				err = c.Check()
			}
			var ce *ContainerError
			if !errors.As(err, &ce) {
				t.Fatalf("bit %d of byte %d changed: %v", bit, i, err)
			}
		}
		if c, err := OpenContainer(bytes.NewReader(good[:i]), int64(i)); err == nil {
			t.Fatalf("cut to %d bytes: opened with %d entries", i, len(c.Entries()))
		}
	}
}

func TestContainerWriterRefuses(t *testing.T) {
	for name, add := range map[string]func(w *ContainerWriter) error{
		"fewer bytes than said":  func(w *ContainerWriter) error { return w.Add("a", 3, strings.NewReader("ab")) },
		"more bytes than said":   func(w *ContainerWriter) error { return w.Add("a", 1, strings.NewReader("ab")) },
		"a path out of the file": func(w *ContainerWriter) error { return w.AddBytes("../a", nil) },
		"a name twice":           func(w *ContainerWriter) error { return errors.Join(w.AddBytes("a", nil), w.AddBytes("A", nil)) },
		"a failing reader": func(w *ContainerWriter) error {
			return w.Add("a", 3, io.MultiReader(strings.NewReader("a"), failing{}))
		},
	} {
		var f MemoryFile
		w := NewContainerWriter(&f)
		if err := add(w); err == nil {
			t.Errorf("%s: no error", name)
		}
		if w.Close() == nil || w.AddBytes("z", nil) == nil {
			t.Errorf("%s: the writer goes on", name)
		}
	}
	var plain bytes.Buffer
	if err := NewContainerWriter(&plain).Add("a", 1, strings.NewReader("a")); err == nil || !strings.Contains(err.Error(), "seek") {
		t.Errorf("streamed to an output that cannot seek: %v", err)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("disk error") }

func TestContainerRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-z]{1,8}(/[a-z证据]{1,8}){0,3}`), 0, 20, rapid.ID[string]).Draw(t, "names")
		var f MemoryFile
		w := NewContainerWriter(&f)
		var kept []string
		contents := map[string][]byte{}
		set := newNameSet()
		for _, n := range names {
			if code, _ := set.add(n); code != "" {
				continue
			}
			content := rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "content")
			if err := w.Add(n, int64(len(content)), bytes.NewReader(content)); err != nil {
				t.Fatal(err)
			}
			kept, contents[n] = append(kept, n), content
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		c, err := OpenContainer(&f, int64(len(f.Bytes())))
		if err != nil {
			t.Fatal(err)
		}
		for i, e := range c.Entries() {
			r, _ := c.Open(e.Name)
			got, err := io.ReadAll(r)
			if err != nil || e.Name != kept[i] || !bytes.Equal(got, contents[e.Name]) {
				t.Fatalf("%q: %x, %v", e.Name, got, err)
			}
		}
	})
}

// sparse is a file whose long runs of zeros are not stored, to try containers of
// many gigabytes.
type sparse struct {
	f *os.File
}

func (s sparse) Write(p []byte) (int, error) {
	if len(bytes.Trim(p, "\x00")) > 0 {
		return s.f.Write(p)
	}
	if _, err := s.f.Seek(int64(len(p)), io.SeekCurrent); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (s sparse) Seek(offset int64, whence int) (int64, error) { return s.f.Seek(offset, whence) }

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func TestContainerBeyond4GiB(t *testing.T) {
	if testing.Short() {
		t.Skip("streams 4 GiB of zeros")
	}
	path := filepath.Join(t.TempDir(), "big.zip")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	// Not exactly 2^32-1, the first size that needs zip64: Info-ZIP 6.0 then
	// misreads the entry after it. That size is in TestContainerZip64Fields.
	const big = 1<<32 + 5
	w := NewContainerWriter(sparse{f})
	for _, err := range []error{
		w.AddBytes("README.txt", []byte("first")),
		w.Add("objects/over.bin", big, io.LimitReader(zeros{}, big)),
		w.AddBytes("index.json", []byte("{}")), // its header lies beyond 4 GiB
		w.Close(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil || size != w.Size() {
		t.Fatalf("file of %d bytes, wrote %d, %v", size, w.Size(), err)
	}
	c, err := OpenContainer(f, size)
	if err != nil {
		t.Fatal(err)
	}
	entries := c.Entries()
	if len(entries) != 3 || entries[1].Size != big || entries[2].Offset < big {
		t.Errorf("entries %+v", entries)
	}
	if err := c.CheckEntry("index.json"); err != nil {
		t.Error(err)
	}
	for at := entries[2].Offset - 40; at < size; at++ { // the zip64 parts, bit by bit
		if at >= entries[2].Offset && at < entries[2].Offset+2 {
			continue // content
		}
		if _, err := OpenContainer(flipped{f, at}, size); err == nil {
			t.Errorf("byte %d changed: opened", at)
		}
	}
	judge(t, "python3", "-c", "import sys,zipfile; z=zipfile.ZipFile(sys.argv[1]); assert [i.file_size for i in z.infolist()]==[5,2**32+5,2], z.infolist(); assert z.read('index.json')==b'{}'", path)
	judge(t, "unzip", "-l", path)
	judge(t, "unzip", "-p", path, "index.json")
}

func TestContainerZip64Fields(t *testing.T) {
	values := []int64{0, zip64Mark - 1, zip64Mark, zip64Mark + 1, 1 << 40}
	for _, size := range values {
		for _, header := range values {
			e := ContainerEntry{Name: "a", Size: size, CRC32: 7, header: header}
			b := e.appendCentral(nil)
			got, n, err := readCentral(bufio.NewReader(bytes.NewReader(b)), 0)
			if err != nil || got != e || n != len(b) {
				t.Errorf("size %d, offset %d: %+v, %v", size, header, got, err)
			}
			extra := 0
			if size >= zip64Mark {
				extra += 16
			}
			if header >= zip64Mark {
				extra += 8
			}
			if extra > 0 {
				extra += 4
			}
			if len(b) != zipCentralSize+1+extra {
				t.Errorf("size %d, offset %d: the record has %d bytes", size, header, len(b))
			}
		}
	}
}

// flipped is a file with one byte inverted.
type flipped struct {
	r  io.ReaderAt
	at int64
}

func (f flipped) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.r.ReadAt(p, off)
	if i := f.at - off; i >= 0 && i < int64(n) {
		p[i] ^= 0xff
	}
	return n, err
}

// judge runs another program on what we wrote.
func judge(t *testing.T, program string, args ...string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Logf("not judged by %s: it is not installed", program)
		return
	}
	if out, err := exec.Command(program, args...).CombinedOutput(); err != nil {
		t.Errorf("%s: %v\n%s", program, err, out)
	}
}

func TestContainerIsReadByOthers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.zip")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := NewContainerWriter(f)
	for i := range 300 {
		name := fmt.Sprintf("objects/%06d/01-证据 %d.txt", i, i)
		if err := w.Add(name, -1, strings.NewReader(strings.Repeat("证", i))); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	judge(t, "unzip", "-tqq", path)
	judge(t, "python3", "-c", "import sys,zipfile; z=zipfile.ZipFile(sys.argv[1]); assert z.testzip() is None; assert z.read('objects/000299/01-证据 299.txt').decode()=='证'*299; assert all(i.compress_type==0 and not i.extra and not i.comment for i in z.infolist())", path)
}

func TestContainerEntryLimit(t *testing.T) {
	var f MemoryFile
	w := NewContainerWriter(&f)
	for i := range MaxContainerEntries {
		if err := w.AddBytes(fmt.Sprintf("%05d", i), nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if c, err := OpenContainer(&f, int64(len(f.Bytes()))); err != nil || len(c.Entries()) != MaxContainerEntries {
		t.Errorf("the largest container: %v", err)
	}
	var g MemoryFile
	w = NewContainerWriter(&g)
	for i := range MaxContainerEntries + 1 {
		err := w.AddBytes(fmt.Sprintf("%05d", i), nil)
		if i == MaxContainerEntries {
			wantContainerError(t, err, "too-many")
		}
	}
}

func FuzzOpenContainer(f *testing.F) {
	for _, v := range readDocumentVectors[struct {
		Name         string
		Entries      []any
		ContainerHex string `json:"container_hex"`
	}](f, "container/valid.json") {
		f.Add(unhex(f, v.ContainerHex))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := OpenContainer(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			var ce *ContainerError
			if !errors.As(err, &ce) {
				t.Fatalf("not a *ContainerError: %v", err)
			}
			return
		}
		// What is accepted is what the writer writes for the same contents, but
		// for checksums that Check finds.
		if c.Check() != nil {
			return
		}
		var again MemoryFile
		w := NewContainerWriter(&again)
		for _, e := range c.Entries() {
			r, _ := c.Open(e.Name)
			if err := w.Add(e.Name, e.Size, r); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil || !bytes.Equal(again.Bytes(), data) {
			t.Fatalf("accepted bytes that the writer does not write: %x, %v", data, err)
		}
	})
}
