package evidence

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"

	"github.com/emmansun/gmsm/sm3"
)

// Package is an evidence package whose structure is sound. Its contents are
// as yet compared with nothing: Check compares them with the index, and
// verification compares all with a policy.
type Package struct {
	Index Index

	c       *Container
	objects map[[2]int]string            // step, object → path
	byStep  map[int]map[string]string    // step → institution → receipt's path
	members map[string]map[string]string // "enrolment <kid>" → institution ("" for the statement) → path
}

// OpenPackage checks the structure: the container's form, the index, that every
// file is listed, every listed file is there with the size and role given, and
// that the steps name exactly the files that belong to them. It reads no content
// but the index. Errors are *PackageError; others come from r.
func OpenPackage(r io.ReaderAt, size int64) (*Package, error) {
	c, err := OpenContainer(r, size)
	if err != nil {
		return nil, openError(r, err)
	}
	entries := c.Entries()
	if len(entries) < 2 || entries[0].Name != pathReadme || entries[len(entries)-1].Name != pathIndex {
		return nil, &PackageError{true, "", "not-a-package", "it is a ZIP file, but not one that begins with README.txt and ends with index.json", nil}
	}
	last := entries[len(entries)-1]
	if last.Size > maxIndex {
		return nil, damaged(pathIndex, "too-large", fmt.Sprintf("the index has %d bytes, more than %d", last.Size, maxIndex), nil)
	}
	data := make([]byte, last.Size)
	if err := readFullAt(r, data, last.Offset); err != nil {
		return nil, fmt.Errorf("reading index.json: %w", err)
	}
	if err := last.checkCRC(crc32.ChecksumIEEE(data)); err != nil {
		return nil, damaged(pathIndex, "crc", "the index was altered: its checksum differs", err)
	}
	p := &Package{c: c, objects: map[[2]int]string{}, byStep: map[int]map[string]string{}, members: map[string]map[string]string{}}
	err = UnmarshalCanonical(data, &p.Index)
	if err != nil || p.Index.V != 1 {
		if v := peekVersion(data); v != "" && v != "1" {
			return nil, &PackageError{true, pathIndex, "version", "the package is of version " + v + ", this program knows 1: use a newer one", nil}
		}
		return nil, damaged(pathIndex, "index", err.Error(), err)
	}
	if err := p.checkFiles(entries[:len(entries)-1]); err != nil {
		return nil, err
	}
	if err := p.checkSteps(); err != nil {
		return nil, err
	}
	return p, nil
}

func damaged(path, code, reason string, err error) error {
	return &PackageError{false, path, code, reason, err}
}

// openError tells a broken package from a file that is none by its first entry.
func openError(r io.ReaderAt, err error) error {
	var ce *ContainerError
	if !errors.As(err, &ce) {
		return err
	}
	head := make([]byte, zipLocalSize+len(pathReadme))
	ours := readFullAt(r, head, 0) == nil && bytes.HasSuffix(head, []byte(pathReadme)) && bytes.HasPrefix(head, []byte("PK\x03\x04"))
	return &PackageError{!ours, ce.Entry, ce.Code, fmt.Sprintf("%s (byte %d)", ce.Reason, ce.Offset), err}
}

// peekVersion returns the number under "v" of a JSON object, or "": a later
// version may have fields that this one would call damage.
func peekVersion(data []byte) string {
	n, err := parseJSON(data)
	if err != nil || n.kind != '{' {
		return ""
	}
	if v := n.member("v"); v != nil && v.kind == '0' {
		return v.text
	}
	return ""
}

// checkFiles compares the index's list with the container and sorts the paths.
func (p *Package) checkFiles(entries []ContainerEntry) error {
	listed := make(map[string]bool, len(p.Index.Files))
	for _, f := range p.Index.Files {
		if _, ok := p.c.Entry(f.Path); !ok || f.Path == pathIndex {
			return damaged(f.Path, "missing", "the index lists the file, but it is not in the package", nil)
		}
		if listed[f.Path] {
			return damaged(f.Path, "index", "the index lists the file twice", nil)
		}
		listed[f.Path] = true
	}
	for _, e := range entries {
		if !listed[e.Name] {
			return damaged(e.Name, "not-listed", "the file is in the package, but the index does not list it", nil)
		}
	}
	for i, f := range p.Index.Files {
		if f.Path != entries[i].Name {
			return damaged(f.Path, "index", "the index does not list the files in the order of the package", nil)
		}
		parsed, ok := parsePackagePath(f.Path)
		switch {
		case !ok:
			return damaged(f.Path, "path", "a file of this name has no place in a package", nil)
		case parsed.role != f.Role:
			return damaged(f.Path, "role", fmt.Sprintf("the index calls the file %.30q, by its place it is %q", f.Role, parsed.role), nil)
		case f.Size != entries[i].Size:
			return damaged(f.Path, "size", fmt.Sprintf("the index says %d bytes, the package has %d", f.Size, entries[i].Size), nil)
		case f.Size > parsed.role.maxSize():
			return damaged(f.Path, "too-large", fmt.Sprintf("%d bytes are more than the %d a file of this kind may have", f.Size, parsed.role.maxSize()), nil)
		}
		p.file(parsed, f.Path)
		if parsed.role == RoleObject {
			key := [2]int{parsed.n, parsed.i}
			if other, ok := p.objects[key]; ok {
				return damaged(f.Path, "steps", "two files have the same number: "+other, nil)
			}
			p.objects[key] = f.Path
		}
	}
	for key, files := range p.members {
		if files[""] == "" {
			for _, path := range files {
				return damaged(path, "missing", "the statement that this is a receipt of is not in the package: "+key, nil)
			}
		}
	}
	return nil
}

func (p *Package) file(parsed packagePath, path string) {
	put := func(key string) {
		if p.members[key] == nil {
			p.members[key] = map[string]string{}
		}
		p.members[key][parsed.inst] = path
	}
	switch parsed.role {
	case RoleReceipt:
		if p.byStep[parsed.n] == nil {
			p.byStep[parsed.n] = map[string]string{}
		}
		p.byStep[parsed.n][parsed.inst] = path
	case RoleEnrolment, RoleEnrolmentReceipt:
		put("enrolment of " + parsed.kid.String())
	case RoleKeyChange, RoleKeyChangeReceipt:
		put("key change to " + parsed.kid.String())
	case RoleRevocation, RoleRevocationReceipt:
		put("revocation of " + parsed.kid.String())
	case RolePasskey, RolePasskeyReceipt:
		put("passkey of " + parsed.kid.String())
	case RoleIssuance, RoleIssuanceReceipt:
		put("issuance of " + parsed.kid.String())
	}
}

// checkSteps derives the steps from the files and compares them with the index.
func (p *Package) checkSteps() error {
	if len(p.Index.Steps) == 0 {
		return damaged(pathIndex, "steps", "the index names no step", nil)
	}
	digests := make(map[string]Digest, len(p.Index.Files))
	manifests := map[int]bool{}
	numbers := make([][]int, len(p.Index.Steps)+1) // objects by step
	for _, f := range p.Index.Files {
		digests[f.Path] = f.SHA256
		parsed, _ := parsePackagePath(f.Path)
		if parsed.n > len(p.Index.Steps) {
			return damaged(f.Path, "steps", fmt.Sprintf("the file belongs to step %d, but the index names %d steps", parsed.n, len(p.Index.Steps)), nil)
		}
		switch parsed.role {
		case RoleManifest:
			manifests[parsed.n] = true
		case RoleObject:
			numbers[parsed.n] = append(numbers[parsed.n], parsed.i)
		}
	}
	for k, s := range p.Index.Steps {
		n := k + 1
		bad := func(reason string) error {
			return damaged(pathIndex, "steps", fmt.Sprintf("step %d: %s", n, reason), nil)
		}
		want := IndexStep{N: n, Statement: statementPath(n), Position: s.Position}
		if manifests[n] {
			want.Manifest = manifestPath(n)
		}
		switch _, there := digests[want.Statement]; {
		case !there:
			return damaged(want.Statement, "missing", "the statement is not in the package", nil)
		case s.N != n || s.Statement != want.Statement:
			return bad("the steps are not numbered from 1 without gaps")
		case s.Manifest != want.Manifest:
			return bad("the index and the package disagree on the manifest")
		case s.Position >= p.Index.TreeSize:
			return bad(fmt.Sprintf("position %d is not in a log of size %d", s.Position, p.Index.TreeSize))
		case len(numbers[n]) > 0 && !manifests[n]:
			return bad("objects are handed in without the manifest that names them")
		}
		slices.Sort(numbers[n])
		var objects []IndexObject
		for _, i := range numbers[n] {
			path := p.objects[[2]int{n, i}]
			objects = append(objects, IndexObject{path, digests[path]})
		}
		if !slices.Equal(s.Objects, objects) {
			return bad("the objects are not those in the package, by number and with the digests listed")
		}
		var receipts []string
		for _, path := range p.byStep[n] {
			receipts = append(receipts, path)
		}
		slices.Sort(receipts)
		if !slices.Equal(s.Receipts, receipts) {
			return bad("the receipts are not those in the package, sorted")
		}
	}
	return nil
}

// Finding is one file whose content is not what the index says.
type Finding struct {
	Path   string
	Code   string // "sha256", "sm3" or "crc", the first that differs
	Reason string
}

// Check streams every file and compares SHA-256, SM3 and CRC-32. progress, which
// may be nil, is told the bytes read so far. An error comes from the reader or
// from ctx.
func (p *Package) Check(ctx context.Context, progress func(done, total int64)) ([]Finding, error) {
	var findings []Finding
	var done, total int64
	for _, f := range p.Index.Files {
		total += f.Size
	}
	buf := make([]byte, 1<<20) // as large as a chunk of the vault
	for _, f := range p.Index.Files {
		r, err := p.c.Open(f.Path)
		if err != nil {
			return findings, err
		}
		h256, h3, crc := sha256.New(), sm3.New(), crc32.NewIEEE()
		for n := 0; ; {
			if err := ctx.Err(); err != nil {
				return findings, err
			}
			if n, err = r.Read(buf); n > 0 {
				h256.Write(buf[:n])
				h3.Write(buf[:n])
				crc.Write(buf[:n])
				if done += int64(n); progress != nil {
					progress(done, total)
				}
			}
			if err == io.EOF {
				break
			}
			if err != nil {
				return findings, fmt.Errorf("reading %s: %w", f.Path, err)
			}
		}
		e, _ := p.c.Entry(f.Path)
		got256, got3 := Digest(h256.Sum(nil)), Digest(h3.Sum(nil))
		switch {
		case got256 != f.SHA256:
			findings = append(findings, Finding{f.Path, "sha256", fmt.Sprintf("the content has SHA-256 %s, the index says %s", got256, f.SHA256)})
		case got3 != f.SM3:
			findings = append(findings, Finding{f.Path, "sm3", fmt.Sprintf("the content has SM3 %s, the index says %s", got3, f.SM3)})
		case crc.Sum32() != e.CRC32:
			findings = append(findings, Finding{f.Path, "crc", e.checkCRC(crc.Sum32()).Error()})
		}
	}
	return findings, nil
}

// Files returns the index's list.
func (p *Package) Files() []IndexFile { return slices.Clone(p.Index.Files) }

// Steps returns the index's steps.
func (p *Package) Steps() []IndexStep { return slices.Clone(p.Index.Steps) }

// File returns the content of a file by its path.
func (p *Package) File(path string) (*io.SectionReader, error) { return p.c.Open(path) }

// read returns a small file whole; nil when it is not there. OpenPackage has
// bounded its size.
func (p *Package) read(path string) ([]byte, error) {
	e, ok := p.c.Entry(path)
	if !ok {
		return nil, nil
	}
	data := make([]byte, e.Size)
	if err := readFullAt(p.c.r, data, e.Offset); err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	return data, nil
}

func (p *Package) step(n int) error {
	if n < 1 || n > len(p.Index.Steps) {
		return fmt.Errorf("the package has steps 1 to %d, not %d", len(p.Index.Steps), n)
	}
	return nil
}

// Statement returns the registered bytes of step n, from 1.
func (p *Package) Statement(n int) ([]byte, error) {
	if err := p.step(n); err != nil {
		return nil, err
	}
	return p.read(statementPath(n))
}

// Manifest returns the bytes of the manifest of step n; nil when the package has
// none.
func (p *Package) Manifest(n int) ([]byte, error) {
	if err := p.step(n); err != nil {
		return nil, err
	}
	return p.read(manifestPath(n))
}

// Object returns the content of object i of step n, both from 1; nil when it
// was not handed in.
func (p *Package) Object(n, i int) (*io.SectionReader, error) {
	path, ok := p.objects[[2]int{n, i}]
	if !ok {
		return nil, p.step(n)
	}
	return p.c.Open(path)
}

// Receipts returns the receipts of step n by institution.
func (p *Package) Receipts(n int) (map[string][]byte, error) {
	if err := p.step(n); err != nil {
		return nil, err
	}
	return p.readAll(p.byStep[n])
}

func (p *Package) readAll(paths map[string]string) (map[string][]byte, error) {
	all := make(map[string][]byte, len(paths))
	for inst, path := range paths {
		data, err := p.read(path)
		if err != nil {
			return nil, err
		}
		all[inst] = data
	}
	return all, nil
}

// Registration is a statement of the registry and its receipts by institution.
type Registration struct {
	Statement []byte
	Receipts  map[string][]byte
}

func (p *Package) registration(key string) (*Registration, error) {
	paths, ok := p.members[key]
	if !ok {
		return nil, nil
	}
	all, err := p.readAll(paths)
	if err != nil {
		return nil, err
	}
	r := &Registration{Statement: all[""], Receipts: all}
	delete(all, "")
	return r, nil
}

// Enrolment returns the statement that enrolled a key; nil when absent.
func (p *Package) Enrolment(kid Digest) (*Registration, error) {
	return p.registration("enrolment of " + kid.String())
}

// Revocation returns the statement that revoked a key; nil when absent.
func (p *Package) Revocation(kid Digest) (*Registration, error) {
	return p.registration("revocation of " + kid.String())
}

// Heads returns the signed trail heads by institution.
func (p *Package) Heads() (map[string][]byte, error) {
	paths := map[string]string{}
	for _, f := range p.Index.Files {
		if parsed, _ := parsePackagePath(f.Path); parsed.role == RoleHead {
			paths[parsed.inst] = f.Path
		}
	}
	return p.readAll(paths)
}

// Checkpoint returns the cosigned checkpoint of the log at size; nil when absent.
func (p *Package) Checkpoint(size uint64) ([]byte, error) {
	return p.read(fmt.Sprintf("checkpoints/%d", size))
}

// Timestamp is one RFC 3161 token of a package.
type Timestamp struct {
	Path      string
	Size      uint64 // of the log whose checkpoint it covers
	Authority string
	Token     []byte
}

// Timestamps returns the tokens over checkpoints in the order of the package.
// Renewals are read with File.
func (p *Package) Timestamps() ([]Timestamp, error) {
	var all []Timestamp
	for _, f := range p.Index.Files {
		parsed, _ := parsePackagePath(f.Path)
		if parsed.role != RoleTimestamp {
			continue
		}
		token, err := p.read(f.Path)
		if err != nil {
			return nil, err
		}
		all = append(all, Timestamp{f.Path, parsed.size, parsed.inst, token})
	}
	return all, nil
}

// AllianceBytes returns the alliance's founding document; nil when absent. It is
// to be compared with a policy, never to be trusted.
func (p *Package) AllianceBytes() ([]byte, error) { return p.read(pathAlliance) }
