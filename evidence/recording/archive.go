package recording

import (
	"archive/zip"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/big"
	"slices"
	"strings"

	"github.com/zhenglian/zhenglian/evidence"
)

// Limits of an archive.
const (
	// maxArchiveList is the size in bytes of the largest list of files; it names a
	// few files, and at most one a screenshot.
	maxArchiveList  = 8 << 20
	maxArchiveFiles = 100_000
)

// Archive is an opened WACZ 1.1.1 (profile data-package).
type Archive struct {
	// Created is as the list of files says, Software likewise.
	Created, Software string
	Files             []ArchiveFile
	// Signed says that datapackage-digest.json has a signature; Check verifies it.
	Signed bool
	// Key is the SHA-256 of the public key (SubjectPublicKeyInfo) that signed.
	Key evidence.Digest

	byName map[string]*zip.File
	list   []byte
	digest digestFile
}

// ArchiveFile is a line of datapackage.json.
type ArchiveFile struct {
	Path  string `json:"path"`
	Hash  string `json:"hash"`
	Bytes int64  `json:"bytes"`
}

type digestFile struct {
	Path   string `json:"path"`
	Hash   string `json:"hash"`
	Signed *struct {
		Hash      string `json:"hash"`
		Created   string `json:"created"`
		Software  string `json:"software"`
		Version   string `json:"version"`
		Signature string `json:"signature"`
		PublicKey string `json:"publicKey"`
	} `json:"signedData"`
}

// ArchiveError says which file of an archive breaks which rule.
type ArchiveError struct {
	Path   string // in the archive, "" for the whole
	Code   string // stable word, such as "hash"
	Reason string
}

func (e *ArchiveError) Error() string {
	if e.Path == "" {
		return e.Reason
	}
	return e.Path + ": " + e.Reason
}

// OpenArchive reads the directory and the list of files. Errors are
// *ArchiveError; others come from r.
func OpenArchive(r io.ReaderAt, size int64) (*Archive, error) {
	watched := &watched{r: r, size: size}
	z, err := zip.NewReader(watched, size)
	if watched.err != nil {
		return nil, fmt.Errorf("reading the archive: %w", watched.err)
	}
	if err != nil {
		return nil, &ArchiveError{"", "zip", "it is no ZIP file: " + err.Error()}
	}
	a := &Archive{byName: map[string]*zip.File{}}
	if len(z.File) > maxArchiveFiles {
		return nil, &ArchiveError{"", "too-many", fmt.Sprintf("it has %d files, more than %d", len(z.File), maxArchiveFiles)}
	}
	for _, f := range z.File {
		switch {
		case a.byName[f.Name] != nil:
			return nil, &ArchiveError{f.Name, "twice", "it is in the archive twice"}
		case f.Method != zip.Store:
			return nil, &ArchiveError{f.Name, "compressed", "it is compressed, so that no viewer can read a part of it"}
		}
		a.byName[f.Name] = f
	}
	if a.list, err = a.small("datapackage.json"); err != nil {
		return nil, err
	}
	var list struct {
		Profile   string        `json:"profile"`
		Version   string        `json:"wacz_version"`
		Created   string        `json:"created"`
		Software  string        `json:"software"`
		Resources []ArchiveFile `json:"resources"`
	}
	if err := json.Unmarshal(a.list, &list); err != nil {
		return nil, &ArchiveError{"datapackage.json", "form", "it is no JSON: " + err.Error()}
	}
	if list.Profile != "data-package" || list.Version != "1.1.1" {
		return nil, &ArchiveError{"datapackage.json", "version", fmt.Sprintf("it is %.20q %.20q and not data-package 1.1.1", list.Profile, list.Version)}
	}
	a.Created, a.Software, a.Files = list.Created, list.Software, list.Resources
	sum, err := a.small("datapackage-digest.json")
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(sum, &a.digest); err != nil {
		return nil, &ArchiveError{"datapackage-digest.json", "form", "it is no JSON: " + err.Error()}
	}
	a.Signed = a.digest.Signed != nil
	return a, nil
}

// watched keeps the error of a failing reader apart from what a ZIP reader makes
// of it.
type watched struct {
	r    io.ReaderAt
	size int64
	err  error
}

func (w *watched) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off > w.size { // a directory may say anything
		return 0, zip.ErrFormat
	}
	n, err := w.r.ReadAt(p, off)
	if err != nil && !errors.Is(err, io.EOF) {
		w.err = err
	}
	return n, err
}

func (a *Archive) small(name string) ([]byte, error) {
	f := a.byName[name]
	if f == nil {
		return nil, &ArchiveError{name, "missing", "it is not in the archive"}
	}
	if f.UncompressedSize64 > maxArchiveList {
		return nil, &ArchiveError{name, "too-large", fmt.Sprintf("it has more than %d bytes", maxArchiveList)}
	}
	r, err := a.Open(name)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(r, maxArchiveList+1))
	if err != nil {
		return nil, archiveRead(name, err)
	}
	return data, nil
}

func archiveRead(name string, err error) error {
	if errors.Is(err, zip.ErrChecksum) || errors.Is(err, zip.ErrFormat) || errors.Is(err, io.ErrUnexpectedEOF) {
		return &ArchiveError{name, "crc", "it was altered: " + err.Error()}
	}
	return fmt.Errorf("reading %s of the archive: %w", name, err)
}

// Open returns a file's content.
func (a *Archive) Open(name string) (io.Reader, error) {
	f := a.byName[name]
	if f == nil {
		return nil, &ArchiveError{name, "missing", "it is not in the archive"}
	}
	r, err := f.Open()
	if err != nil {
		return nil, archiveRead(name, err)
	}
	return r, nil // nothing is held open: the reader is a view of the package's
}

// Check reads every file and compares it with the list, the list with its
// digest, and the signature with the key beside it. It returns all that differs.
// seen, which may be nil, is told each file's digest and size; the WARC files
// are those under archive/. The error comes from the reader.
func (a *Archive) Check(seen func(path string, sum evidence.Digest, size int64)) ([]*ArchiveError, error) {
	var out []*ArchiveError
	add := func(path, code, reason string, args ...any) {
		out = append(out, &ArchiveError{path, code, fmt.Sprintf(reason, args...)})
	}
	listed := map[string]bool{"datapackage.json": true, "datapackage-digest.json": true}
	for _, f := range a.Files {
		if listed[f.Path] {
			add(f.Path, "twice", "it is listed twice")
			continue
		}
		listed[f.Path] = true
		if a.byName[f.Path] == nil {
			add(f.Path, "missing", "it is listed and not in the archive")
			continue
		}
		r, err := a.Open(f.Path)
		var bad *ArchiveError
		h := sha256.New()
		var n int64
		if err == nil {
			if n, err = io.Copy(h, r); err != nil {
				err = archiveRead(f.Path, err)
			}
		}
		if errors.As(err, &bad) {
			out = append(out, bad)
			continue
		}
		if err != nil {
			return nil, err
		}
		sum := evidence.Digest(h.Sum(nil))
		if f.Hash != "sha256:"+sum.String() || f.Bytes != n {
			add(f.Path, "hash", "it has %d bytes with the digest %s, the list says %d and %.80s", n, sum, f.Bytes, f.Hash)
		}
		if seen != nil {
			seen(f.Path, sum, n)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(a.byName)) {
		if !listed[name] && !strings.HasSuffix(name, "/") {
			add(name, "not-listed", "it is in the archive and not listed")
		}
	}
	a.checkDigest(add)
	return out, nil
}

// checkDigest: WACZ 1.1.1 §5.4 and wacz-auth 0.1.0 §5.1.
func (a *Archive) checkDigest(add func(path, code, reason string, args ...any)) {
	const name = "datapackage-digest.json"
	want := "sha256:" + evidence.SumSHA256(a.list).String()
	if a.digest.Hash != want || a.digest.Path != "datapackage.json" {
		add(name, "hash", "it says %.80s of datapackage.json, which has %s", a.digest.Hash, want)
	}
	s := a.digest.Signed
	if s == nil {
		return
	}
	sig, err1 := base64.StdEncoding.DecodeString(s.Signature)
	spki, err2 := base64.StdEncoding.DecodeString(s.PublicKey)
	if err1 != nil || err2 != nil || len(sig) != 96 {
		add(name, "signature", "its signature is none of 96 bytes in base64")
		return
	}
	pub, err := x509.ParsePKIXPublicKey(spki)
	key, ok := pub.(*ecdsa.PublicKey)
	if err != nil || !ok || key.Params().BitSize != 384 {
		add(name, "signature", "its key is none on P-384")
		return
	}
	a.Key = evidence.SumSHA256(spki)
	sum := sha256.Sum256([]byte(s.Hash))
	switch {
	case s.Hash != a.digest.Hash:
		add(name, "signature", "what was signed is another digest")
	case s.Created != a.Created:
		add(name, "signature", "it was created at %.40q, the list says %.40q", s.Created, a.Created)
	case !ecdsa.Verify(key, sum[:], new(big.Int).SetBytes(sig[:48]), new(big.Int).SetBytes(sig[48:])):
		add(name, "signature", "the signature does not hold")
	}
}

// IsAltered reports whether reading a file of an archive failed because its bytes
// were altered, which Check names, and not because the reader did.
func IsAltered(err error) bool {
	return errors.Is(err, zip.ErrChecksum) || errors.Is(err, zip.ErrFormat)
}
