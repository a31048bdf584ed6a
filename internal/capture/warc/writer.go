package warc

import (
	"archive/zip"
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/evidence/recording"
)

// Config says what an archive is of.
type Config struct {
	Session evidence.Digest
	Title   string
	// Software is the recorder's name and version, such as "zhenglian/1.2.3".
	Software string
	// Created stands in the list of files and in the signature.
	Created time.Time
	// Info are further lines of the warcinfo record, name and value.
	Info [][2]string
	// Blobs opens a blob of the store. It is called twice for each.
	Blobs func(evidence.Digest) (io.ReadCloser, error)
	// Key signs the list of files, on P-384. Nil leaves the archive unsigned.
	Key *ecdsa.PrivateKey
}

// Page is an entry of the list that viewers begin with.
type Page struct {
	URL   string
	Title string
	At    time.Time // of the response that holds it
}

// Writer writes one archive. Its calls follow each other; after an error the
// archive is of no use.
type Writer struct {
	config   Config
	zip      *zip.Writer
	warc     counted
	sum      hash.Hash // of the WARC file
	info     string    // id of the warcinfo record
	records  int
	index    []string
	pages    []Page
	payloads map[repeated]referred
	files    []resource
	closed   bool
}

// resource is a line of datapackage.json.
type resource struct {
	Name  string `json:"name"`
	Path  string `json:"path"`
	Hash  string `json:"hash"`
	Bytes int64  `json:"bytes"`
}

// Paths in the archive.
const (
	pathWARC    = "archive/data.warc.gz"
	pathIndex   = "indexes/index.cdxj"
	pathPages   = "pages/pages.jsonl"
	pathPackage = "datapackage.json"
	pathDigest  = "datapackage-digest.json"
)

// New begins an archive in w, which is written from its beginning to its end.
func New(w io.Writer, c Config) (*Writer, error) {
	if c.Key != nil && c.Key.Curve.Params().BitSize != 384 {
		return nil, fmt.Errorf("beginning an archive: the key is on %s and not on P-384", c.Key.Curve.Params().Name)
	}
	out := &Writer{config: c, zip: zip.NewWriter(w), sum: sha256.New(), payloads: map[repeated]referred{}, info: recording.NamedRecordID(c.Session, "warcinfo")}
	entry, err := out.create(pathWARC)
	if err != nil {
		return nil, err
	}
	out.warc.w = io.MultiWriter(entry, out.sum)
	info := []field{{"software", c.Software}, {"format", "WARC File Format 1.1"}, {"conformsTo", "http://iipc.github.io/warc-specifications/specifications/warc-format/warc-1.1/"},
		{"session", c.Session.String()}}
	for _, line := range c.Info {
		info = append(info, field{line[0], line[1]})
	}
	_, err = out.write(&record{kind: recording.RecordInfo, id: out.info, at: c.Created, media: mediaFields,
		fields: []field{{"WARC-Filename", "data.warc.gz"}}, open: constant(fieldsBlock(info))})
	return out, err
}

// create begins an entry that is stored as it is (WACZ 1.1.1 §5: so that viewers
// can read parts of it).
func (w *Writer) create(name string) (io.Writer, error) {
	entry, err := w.zip.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Store, Modified: w.config.Created.UTC()})
	if err != nil {
		return nil, fmt.Errorf("beginning %s: %w", name, err)
	}
	return entry, nil
}

// Resource writes a blob as a resource record: a screenshot, a DOM, a
// certificate. name makes the record's id and is used once; uri is what it shows,
// such as urn:view:https://example.org/.
func (w *Writer) Resource(name, uri, media string, at time.Time, blob evidence.Digest, size int64) error {
	r := &record{kind: recording.RecordResource, id: recording.NamedRecordID(w.config.Session, "resource:"+name), uri: uri, at: at, media: media, payload: &blob, plain: packed(media, nil)}
	r.open = func() (io.ReadCloser, error) {
		content, err := w.config.Blobs(blob)
		if err != nil {
			return nil, fmt.Errorf("opening blob %s: %w", blob, err)
		}
		return newChecked(content, blob, size), nil
	}
	r.page = &indexed{url: uri, method: "GET", media: media, status: 200}
	_, err := w.write(r)
	return err
}

// Page adds to the list that viewers begin with. The first is the main page.
func (w *Writer) Page(p Page) { w.pages = append(w.pages, p) }

// Records is how many records were written, the warcinfo among them.
func (w *Writer) Records() int { return w.records }

// Add writes a file of the archive's extra directories, one level deep, such as
// "screenshots/1.png". Further records cannot follow.
func (w *Writer) Add(path string, r io.Reader) error {
	if err := w.endWARC(); err != nil {
		return err
	}
	dir, name, ok := strings.Cut(path, "/")
	if !ok || name == "" || strings.Contains(name, "/") || dir == "" || slices.Contains([]string{"archive", "indexes", "pages"}, dir) {
		return fmt.Errorf("adding %s: a file lies in a directory of its own, one level deep", path)
	}
	return w.file(path, r)
}

func (w *Writer) file(path string, r io.Reader) error {
	entry, err := w.create(path)
	if err != nil {
		return err
	}
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(entry, h), r)
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	w.list(path, h, n)
	return nil
}

func (w *Writer) list(path string, h hash.Hash, n int64) {
	w.files = append(w.files, resource{path[strings.LastIndexByte(path, '/')+1:], path, labelled(evidence.Digest(h.Sum(nil))), n})
}

// endWARC ends the records and writes what leads to them.
func (w *Writer) endWARC() error {
	if w.closed {
		return nil
	}
	w.closed = true
	w.list(pathWARC, w.sum, w.warc.n)
	slices.Sort(w.index)
	if err := w.file(pathIndex, strings.NewReader(strings.Join(w.index, ""))); err != nil {
		return err
	}
	var pages bytes.Buffer
	line := func(v any) error {
		data, err := marshal(v)
		if err == nil {
			pages.Write(append(data, '\n'))
		}
		return err
	}
	if err := line(map[string]any{"format": "json-pages-1.0", "id": "pages", "title": "All Pages"}); err != nil {
		return err
	}
	for i, p := range w.pages {
		entry := map[string]any{"id": fmt.Sprint(i + 1), "url": p.URL, "title": p.Title, "ts": p.At.UTC().Format("2006-01-02T15:04:05.000Z")}
		if err := line(entry); err != nil {
			return err
		}
	}
	return w.file(pathPages, &pages)
}

// dataPackage is datapackage.json (WACZ 1.1.1 §5.3).
type dataPackage struct {
	Profile      string     `json:"profile"`
	WACZVersion  string     `json:"wacz_version"`
	Title        string     `json:"title,omitempty"`
	Created      string     `json:"created"`
	Software     string     `json:"software,omitempty"`
	MainPageURL  string     `json:"mainPageUrl,omitempty"`
	MainPageDate string     `json:"mainPageDate,omitempty"`
	Resources    []resource `json:"resources"`
}

// Close writes index, pages, list and signature, and ends the archive. It does
// not close the writer underneath.
func (w *Writer) Close() error {
	if err := w.endWARC(); err != nil {
		return err
	}
	created := w.config.Created.UTC().Format("2006-01-02T15:04:05Z")
	p := dataPackage{Profile: "data-package", WACZVersion: "1.1.1", Title: w.config.Title, Created: created, Software: w.config.Software, Resources: w.files}
	if len(w.pages) > 0 {
		p.MainPageURL, p.MainPageDate = w.pages[0].URL, w.pages[0].At.UTC().Format("2006-01-02T15:04:05.000Z")
	}
	list, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return fmt.Errorf("writing the list of files: %w", err)
	}
	signed, err := w.sign(list, created)
	if err != nil {
		return err
	}
	for _, f := range []struct {
		path string
		data []byte
	}{{pathPackage, list}, {pathDigest, signed}} {
		entry, err := w.create(f.path)
		if err != nil {
			return err
		}
		if _, err := entry.Write(f.data); err != nil {
			return fmt.Errorf("writing %s: %w", f.path, err)
		}
	}
	if err := w.zip.Close(); err != nil {
		return fmt.Errorf("ending the archive: %w", err)
	}
	return nil
}

// marshal is JSON as it is usual in lines: no HTML escapes.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("encoding a line: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
