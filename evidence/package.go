package evidence

import (
	"context"
	"io"
)

// PackageError: Unreadable means this is no package we can open at all;
// otherwise it is one and is damaged.
type PackageError struct {
	Unreadable bool
	Path       string
	Code       string
	Reason     string
	err        error
}

func (e *PackageError) Error() string { return e.Reason }
func (e *PackageError) Unwrap() error { return e.err }

type Index struct {
	V        int         `json:"v"`
	Alliance Digest      `json:"alliance"`
	Trail    Digest      `json:"trail"`
	TreeSize uint64      `json:"tree_size"`
	Files    []IndexFile `json:"files"`
	Steps    []IndexStep `json:"steps"`
}

type IndexFile struct {
	Path   string `json:"path"`
	Role   string `json:"role"`
	Size   int64  `json:"size"`
	SHA256 Digest `json:"sha256"`
	SM3    Digest `json:"sm3"`
}

type IndexStep struct {
	N         int           `json:"n"`
	Statement string        `json:"statement"`
	Position  uint64        `json:"position"`
	Manifest  string        `json:"manifest,omitempty"`
	Objects   []IndexObject `json:"objects"`
	Receipts  []string      `json:"receipts"`
}

type IndexObject struct {
	Path   string `json:"path"`
	SHA256 Digest `json:"sha256"`
}

type PackageInfo struct {
	Alliance Digest
	Trail    Digest
	TreeSize uint64
}

type PackageWriter struct{}

func NewPackageWriter(w io.Writer, info PackageInfo) (*PackageWriter, error) { return nil, errSoon }

// AddStep: manifest nil when withheld; receipts by institution id.
func (w *PackageWriter) AddStep(statement []byte, position uint64, manifest []byte, receipts map[string][]byte) (n int, err error) {
	return 0, errSoon
}

// AddObject streams object i (from 1, the manifest's order) of step n.
func (w *PackageWriter) AddObject(n, i int, r io.Reader) error { return errSoon }
func (w *PackageWriter) AddEnrolment(kid Digest, statement []byte, receipts map[string][]byte) error {
	return errSoon
}
func (w *PackageWriter) AddRevocation(kid Digest, statement []byte, receipts map[string][]byte) error {
	return errSoon
}
func (w *PackageWriter) AddHead(inst string, head []byte) error       { return errSoon }
func (w *PackageWriter) AddCheckpoint(size uint64, text []byte) error { return errSoon }
func (w *PackageWriter) AddTimestamp(size uint64, authority string, token []byte) error {
	return errSoon
}
func (w *PackageWriter) AddAlliance(encoded []byte) error                         { return errSoon }
func (w *PackageWriter) AddInstitutionKeys(inst string, keys ...*PublicKey) error { return errSoon }
func (w *PackageWriter) AddOlderInstitutionKey(inst string, key *PublicKey) error { return errSoon }
func (w *PackageWriter) AddMemberKey(key *PublicKey) error                        { return errSoon }
func (w *PackageWriter) Close() error                                             { return errSoon }

type Package struct{ Index Index }

// Registration is a registry statement and its receipts by institution.
type Registration struct {
	Statement []byte
	Receipts  map[string][]byte
}

// Timestamp is one RFC 3161 token in a package.
type Timestamp struct {
	Path      string
	Size      uint64
	Authority string
	Token     []byte
}

// Finding is one file whose content is not what the index says.
type Finding struct{ Path, Code, Reason string }

func OpenPackage(r io.ReaderAt, size int64) (*Package, error)   { return nil, errSoon }
func (p *Package) Files() []IndexFile                           { return nil }
func (p *Package) Steps() []IndexStep                           { return nil }
func (p *Package) Statement(n int) ([]byte, error)              { return nil, errSoon }
func (p *Package) Manifest(n int) ([]byte, error)               { return nil, errSoon } // nil, nil when withheld
func (p *Package) Object(n, i int) (*io.SectionReader, error)   { return nil, errSoon } // nil, nil when withheld
func (p *Package) Receipts(n int) (map[string][]byte, error)    { return nil, errSoon }
func (p *Package) Enrolment(kid Digest) (*Registration, error)  { return nil, errSoon } // nil, nil when absent
func (p *Package) Revocation(kid Digest) (*Registration, error) { return nil, errSoon }
func (p *Package) Heads() (map[string][]byte, error)            { return nil, errSoon }
func (p *Package) Checkpoint(size uint64) ([]byte, error)       { return nil, errSoon } // nil, nil when absent
func (p *Package) Timestamps() ([]Timestamp, error)             { return nil, errSoon }
func (p *Package) AllianceBytes() ([]byte, error)               { return nil, errSoon } // nil, nil when absent
func (p *Package) File(path string) (*io.SectionReader, error)  { return nil, errSoon }

// Check streams every file and compares CRC-32, SHA-256 and SM3.
func (p *Package) Check(ctx context.Context, progress func(done, total int64)) ([]Finding, error) {
	return nil, errSoon
}
func SafeFileName(name string) string { return "" }

var errSoon = io.ErrNoProgress
