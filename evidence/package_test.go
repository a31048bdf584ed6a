package evidence

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

type packageVector struct {
	Name       string
	PackageHex string `json:"package_hex"`
	Files      []string
	Steps      int
	Reason     string
	Unreadable bool
	Findings   [][2]string
}

func openHex(t testing.TB, s string) (*Package, error) {
	data := unhex(t, s)
	return OpenPackage(bytes.NewReader(data), int64(len(data)))
}

func TestPackageVectors(t *testing.T) {
	for _, v := range readDocumentVectors[packageVector](t, "package/valid.json") {
		t.Run(v.Name, func(t *testing.T) {
			p, err := openHex(t, v.PackageHex)
			if err != nil {
				t.Fatal(err)
			}
			var paths []string
			for _, f := range p.Files() {
				paths = append(paths, f.Path)
			}
			if !slices.Equal(paths, v.Files) || len(p.Steps()) != v.Steps {
				t.Errorf("files %q, %d steps", paths, len(p.Steps()))
			}
			if found, err := p.Check(context.Background(), nil); err != nil || len(found) > 0 {
				t.Errorf("%v, %v", found, err)
			}
		})
	}
	for _, v := range readDocumentVectors[packageVector](t, "package/invalid.json") {
		t.Run(v.Name, func(t *testing.T) {
			_, err := openHex(t, v.PackageHex)
			var pe *PackageError
			if !errors.As(err, &pe) || pe.Code != v.Reason || pe.Unreadable != v.Unreadable {
				t.Errorf("got %v (%+v), want %s, unreadable %v", err, pe, v.Reason, v.Unreadable)
			}
		})
	}
	for _, v := range readDocumentVectors[packageVector](t, "package/check.json") {
		t.Run(v.Name, func(t *testing.T) {
			p, err := openHex(t, v.PackageHex)
			if err != nil {
				t.Fatal(err)
			}
			found, err := p.Check(context.Background(), nil)
			if err != nil {
				t.Fatal(err)
			}
			var got [][2]string
			for _, f := range found {
				got = append(got, [2]string{f.Path, f.Code})
			}
			if !slices.Equal(got, v.Findings) {
				t.Errorf("found %v, want %v", found, v.Findings)
			}
		})
	}
	for _, v := range readDocumentVectors[struct{ Name, Safe string }](t, "package/names.json") {
		if got := SafeFileName(v.Name); got != v.Safe {
			t.Errorf("SafeFileName(%q) = %q, want %q", v.Name, got, v.Safe)
		}
	}
}

// writePackage writes a package of two steps with every kind of file. Object 2
// of step 1 is withheld, and so is the manifest of step 2.
func writePackage(t testing.TB, w io.Writer) (PackageInfo, Digest) {
	t.Helper()
	alliance := []byte(readDocumentVectors[allianceVector](t, "alliance/valid.json")[0].Alliance)
	info := PackageInfo{Alliance: SumSHA256(alliance), Trail: SumSHA256([]byte("statement 1")), TreeSize: 9}
	p, err := NewPackageWriter(w, info)
	if err != nil {
		t.Fatal(err)
	}
	m := testManifest(t)
	m.Objects = []Object{testObject("照片 1.jpg", []byte("photo")), testObject("secret.pdf", []byte("secret")), testObject("a:b.txt", nil)}
	manifest, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	key := newEd25519Signer(t, "member").Public()
	receipts := map[string][]byte{"notary": []byte("rn"), "court": []byte("rc")}
	n, err := p.AddStep([]byte("statement 1"), 4, manifest, receipts)
	if err != nil || n != 1 {
		t.Fatal(n, err)
	}
	n, err = p.AddStep([]byte("statement 2"), 8, nil, nil)
	if err != nil || n != 2 {
		t.Fatal(n, err)
	}
	for _, err := range []error{
		p.AddObject(1, 3, strings.NewReader("")),
		p.AddObject(1, 1, iotest.OneByteReader(strings.NewReader("photo"))),
		p.AddEnrolment(key.KID(), []byte("enrolment"), receipts),
		p.AddEnrolment(key.KID(), []byte("enrolment"), receipts), // a second step of the same signer
		p.AddRevocation(key.KID(), []byte("revocation"), nil),
		p.AddHead("court", []byte("head")),
		p.AddCheckpoint(0, []byte("cp 0")),
		p.AddCheckpoint(7, []byte("cp 7")),
		p.AddCheckpoint(7, []byte("cp 7")),
		p.AddTimestamp(7, "tsa-1", []byte("token")),
		p.AddRenewal("2036.ers", []byte("renewal")),
		p.AddAlliance(alliance),
		p.AddInstitutionKeys("court", key, newEd25519Signer(t, "second").Public()),
		p.AddOlderInstitutionKey("court", key),
		p.AddMemberKey(key),
		p.Close(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return info, key.KID()
}

func TestPackageRoundTrip(t *testing.T) {
	var f, g MemoryFile
	info, kid := writePackage(t, &f)
	writePackage(t, &g)
	if !bytes.Equal(f.Bytes(), g.Bytes()) {
		t.Error("the same package twice has other bytes")
	}
	p, err := OpenPackage(&f, int64(len(f.Bytes())))
	if err != nil {
		t.Fatal(err)
	}
	if p.Index.Alliance != info.Alliance || p.Index.Trail != info.Trail || p.Index.TreeSize != 9 {
		t.Errorf("index %+v", p.Index)
	}
	var last int64
	if found, err := p.Check(context.Background(), func(done, total int64) {
		if done < last || done > total {
			t.Errorf("progress %d of %d after %d", done, total, last)
		}
		last = done
	}); err != nil || len(found) != 0 || last == 0 {
		t.Errorf("%v, %v, %d bytes", found, err, last)
	}
	text := func(b []byte, err error) string {
		if err != nil {
			return err.Error()
		}
		if b == nil {
			return "-"
		}
		return string(b)
	}
	object := func(n, i int) string {
		r, err := p.Object(n, i)
		if err != nil || r == nil {
			return text(nil, err)
		}
		return text(io.ReadAll(r))
	}
	manifest2, err := p.Manifest(2)
	if err != nil || manifest2 != nil {
		t.Errorf("manifest 2: %q, %v", manifest2, err)
	}
	for got, want := range map[string]string{
		text(p.Statement(1)): "statement 1", text(p.Statement(2)): "statement 2", text(p.Statement(3)): "the package has steps 1 to 2, not 3",
		object(1, 1): "photo", object(1, 2): "-", object(1, 3): "", object(4, 1): "the package has steps 1 to 2, not 4",
		text(p.Checkpoint(7)): "cp 7", text(p.Checkpoint(8)): "-",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if r, err := p.Receipts(1); err != nil || fmt.Sprint(r) != fmt.Sprint(map[string][]byte{"court": []byte("rc"), "notary": []byte("rn")}) {
		t.Errorf("receipts %q, %v", r, err)
	}
	if r, err := p.Receipts(2); err != nil || len(r) != 0 {
		t.Errorf("receipts %q, %v", r, err)
	}
	if e, err := p.Enrolment(kid); err != nil || string(e.Statement) != "enrolment" || len(e.Receipts) != 2 {
		t.Errorf("enrolment %+v, %v", e, err)
	}
	if e, err := p.Revocation(kid); err != nil || string(e.Statement) != "revocation" || len(e.Receipts) != 0 {
		t.Errorf("revocation %+v, %v", e, err)
	}
	if e, err := p.Enrolment(info.Trail); err != nil || e != nil {
		t.Errorf("enrolment of an unknown key %+v, %v", e, err)
	}
	if h, err := p.Heads(); err != nil || string(h["court"]) != "head" || len(h) != 1 {
		t.Errorf("heads %q, %v", h, err)
	}
	if ts, err := p.Timestamps(); err != nil || len(ts) != 1 || ts[0].Size != 7 || ts[0].Authority != "tsa-1" || string(ts[0].Token) != "token" {
		t.Errorf("timestamps %+v, %v", ts, err)
	}
	if a, err := p.AllianceBytes(); err != nil || SumSHA256(a) != info.Alliance {
		t.Errorf("alliance: %v", err)
	}
	if s := p.Steps()[0]; len(s.Objects) != 2 || s.Objects[0].Path != "objects/000001/01-照片 1.jpg" || s.Objects[1].Path != "objects/000001/03-a_b.txt" {
		t.Errorf("objects %+v", s.Objects)
	}
	path := filepath.Join(t.TempDir(), "p.zip")
	if err := os.WriteFile(path, f.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	judge(t, "unzip", "-tqq", path)
	judge(t, "python3", "-c", "import sys,zipfile,json,hashlib; z=zipfile.ZipFile(sys.argv[1]); assert z.testzip() is None; ix=json.loads(z.read('index.json')); assert [x['path'] for x in ix['files']]+['index.json']==z.namelist(); assert all(hashlib.sha256(z.read(x['path'])).hexdigest()==x['sha256'] for x in ix['files'])", path)
}

// Whatever bit of a package is changed, opening or checking finds it (one bit
// of every eleventh byte is tried).
func TestPackageBitsCount(t *testing.T) {
	var f MemoryFile
	writePackage(t, &f)
	bad := bytes.Clone(f.Bytes())
	for i := 0; i < len(bad); i += 11 { // each opening reads the index, so that all take long
		bad[i] ^= 1 << (i % 8)
		p, err := OpenPackage(bytes.NewReader(bad), int64(len(bad)))
		if err == nil {
			found, err := p.Check(context.Background(), nil)
			if err != nil || len(found) != 1 {
				t.Fatalf("byte %d changed: %v, %v", i, found, err)
			}
		} else if pe := (*PackageError)(nil); !errors.As(err, &pe) {
			t.Fatalf("byte %d changed: not a *PackageError: %v", i, err)
		}
		bad[i] ^= 1 << (i % 8)
	}
}

func TestPackageWriterRefuses(t *testing.T) {
	m := testManifest(t)
	m.Objects = []Object{testObject("a", []byte("a"))}
	manifest, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, want string
		do         func(p *PackageWriter) error
	}{
		{"altered object", "not what the manifest says", func(p *PackageWriter) error { return p.AddObject(1, 1, strings.NewReader("b")) }},
		{"longer object", "more than 1 bytes", func(p *PackageWriter) error { return p.AddObject(1, 1, strings.NewReader("ab")) }},
		{"shorter object", "after 0 of 1", func(p *PackageWriter) error { return p.AddObject(1, 1, strings.NewReader("")) }},
		{"object that the manifest does not name", "no manifest", func(p *PackageWriter) error { return p.AddObject(1, 2, strings.NewReader("a")) }},
		{"object twice", "already", func(p *PackageWriter) error {
			return errors.Join(p.AddObject(1, 1, strings.NewReader("a")), p.AddObject(1, 1, strings.NewReader("a")))
		}},
		{"another checkpoint of one size", "another content", func(p *PackageWriter) error {
			return errors.Join(p.AddCheckpoint(1, []byte("a")), p.AddCheckpoint(1, []byte("b")))
		}},
		{"institution with a path for a name", "no place", func(p *PackageWriter) error { return p.AddHead("../x", nil) }},
		{"another alliance", "the document is of alliance", func(p *PackageWriter) error { return p.AddAlliance([]byte("{}")) }},
		{"position outside the log", "not in a log", func(p *PackageWriter) error { _, err := p.AddStep(nil, 9, nil, nil); return err }},
		{"broken manifest", "$", func(p *PackageWriter) error { _, err := p.AddStep(nil, 1, []byte("{}"), nil); return err }},
		{"large statement", "more than the 65536", func(p *PackageWriter) error { _, err := p.AddStep(make([]byte, 65537), 1, nil, nil); return err }},
	} {
		var f MemoryFile
		p, err := NewPackageWriter(&f, PackageInfo{Alliance: SumSHA256(nil), Trail: SumSHA256(nil), TreeSize: 9})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.AddStep([]byte("s"), 0, manifest, nil); err != nil {
			t.Fatal(err)
		}
		if err := c.do(p); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want … %s …", c.name, err, c.want)
		}
		if p.Close() == nil {
			t.Errorf("%s: the package can still be finished", c.name)
		}
	}
	var f MemoryFile
	if _, err := NewPackageWriter(&f, PackageInfo{}); err == nil {
		t.Error("a package of no alliance was begun")
	}
	p, err := NewPackageWriter(&f, PackageInfo{Alliance: SumSHA256(nil), Trail: SumSHA256(nil)})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err == nil {
		t.Error("a package without steps was finished")
	}
}

func TestPackageCheckStops(t *testing.T) {
	var f MemoryFile
	writePackage(t, &f)
	p, err := OpenPackage(&f, int64(len(f.Bytes())))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := p.Check(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// A disk error is neither damage nor a foreign file.
func TestPackageReadErrorIsNotDamage(t *testing.T) {
	var f MemoryFile
	writePackage(t, &f)
	for _, limit := range []int64{0, 1, 2, 3, 10, 25} {
		_, err := OpenPackage(&failingAt{&f, limit}, int64(len(f.Bytes())))
		var pe *PackageError
		if err == nil || errors.As(err, &pe) || !errors.Is(err, errDisk) {
			t.Errorf("read %d fails: %v", limit, err)
		}
	}
}

var errDisk = errors.New("disk error")

type failingAt struct {
	r    io.ReaderAt
	good int64 // reads before the first failure
}

func (f *failingAt) ReadAt(p []byte, off int64) (int, error) {
	if f.good--; f.good < 0 {
		return 0, errDisk
	}
	return f.r.ReadAt(p, off)
}

func FuzzSafeFileName(f *testing.F) {
	for _, v := range readDocumentVectors[struct{ Name, Safe string }](f, "package/names.json") {
		f.Add(v.Name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		safe := SafeFileName(name)
		if SafeFileName(safe) != safe {
			t.Errorf("%q → %q → %q", name, safe, SafeFileName(safe))
		}
		path := objectPath(1, 1, safe)
		if reason := checkContainerName(path); reason != "" {
			t.Errorf("%q: %s", path, reason)
		}
		if p, ok := parsePackagePath(path); !ok || p.role != RoleObject {
			t.Errorf("%q is no object's path", path)
		}
	})
}

func FuzzOpenPackage(f *testing.F) {
	for _, v := range readDocumentVectors[packageVector](f, "package/valid.json") {
		f.Add(unhex(f, v.PackageHex))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := OpenPackage(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			var pe *PackageError
			if !errors.As(err, &pe) {
				t.Fatalf("not a *PackageError: %v", err)
			}
			return
		}
		if _, err := p.Check(context.Background(), nil); err != nil {
			t.Fatal(err)
		}
		for _, s := range p.Steps() {
			if b, err := p.Statement(s.N); err != nil || b == nil {
				t.Fatalf("statement %d: %v", s.N, err)
			}
			if _, err := p.Receipts(s.N); err != nil {
				t.Fatal(err)
			}
		}
	})
}
