package evidence

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/emmansun/gmsm/sm3"
)

// PackageWriter writes an evidence package in constant memory but for the index.
// After an error the output is useless and every call returns it.
type PackageWriter struct {
	c     *ContainerWriter
	index Index
	files map[string]int // path → place in index.Files
	// manifests by step, to know the objects; nil for a step without one.
	manifests []*Manifest
	err       error
}

// NewPackageWriter begins a package on w, which must be empty and, when objects
// are added, an io.Seeker too (a file, or *MemoryFile).
func NewPackageWriter(w io.Writer, info PackageInfo) (*PackageWriter, error) {
	p := &PackageWriter{
		c:     NewContainerWriter(w),
		index: Index{V: 1, Alliance: info.Alliance, Trail: info.Trail, TreeSize: info.TreeSize, Files: []IndexFile{}, Steps: []IndexStep{}},
		files: map[string]int{},
	}
	if info.Alliance.IsZero() || info.Trail.IsZero() {
		return nil, errors.New("beginning a package: the alliance's id and the trail's digest are required")
	}
	return p, p.add(pathReadme, []byte(packageReadme))
}

// add writes a file whose content is at hand. The same content at the same path
// again is fine, since several steps may need one file.
func (p *PackageWriter) add(path string, content []byte) error {
	if p.err != nil {
		return p.err
	}
	parsed, ok := parsePackagePath(path)
	if !ok {
		return p.fail(path, errors.New("this path has no place in a package"))
	}
	f := IndexFile{path, parsed.role, int64(len(content)), SumSHA256(content), SumSM3(content)}
	if i, ok := p.files[path]; ok {
		if p.index.Files[i] == f {
			return nil
		}
		return p.fail(path, errors.New("the file is already in the package with another content"))
	}
	if limit := parsed.role.maxSize(); f.Size > limit {
		return p.fail(path, fmt.Errorf("%d bytes are more than the %d a file of this kind may have", f.Size, limit))
	}
	if err := p.c.AddBytes(path, content); err != nil {
		return p.fail(path, err)
	}
	p.list(f)
	return nil
}

func (p *PackageWriter) list(f IndexFile) {
	p.files[f.Path] = len(p.index.Files)
	p.index.Files = append(p.index.Files, f)
}

func (p *PackageWriter) fail(path string, err error) error {
	p.err = fmt.Errorf("writing %s into the package: %w", path, err)
	return p.err
}

// AddStep adds the next statement of the trail: its registered bytes, its
// position in the log, its manifest (nil when withheld, or when the statement
// has none) and its receipts by institution. It returns the step's number.
func (p *PackageWriter) AddStep(statement []byte, position uint64, manifest []byte, receipts map[string][]byte) (n int, err error) {
	n = len(p.index.Steps) + 1
	if p.err == nil && position >= p.index.TreeSize {
		p.fail(statementPath(n), fmt.Errorf("position %d is not in a log of size %d", position, p.index.TreeSize))
	}
	step := IndexStep{N: n, Statement: statementPath(n), Position: position, Objects: []IndexObject{}, Receipts: []string{}}
	if err := p.add(step.Statement, statement); err != nil {
		return 0, err
	}
	for _, inst := range slices.Sorted(maps.Keys(receipts)) {
		path := receiptPath(n, inst)
		if err := p.add(path, receipts[inst]); err != nil {
			return 0, err
		}
		step.Receipts = append(step.Receipts, path)
	}
	slices.Sort(step.Receipts)
	var parsed *Manifest
	if manifest != nil {
		step.Manifest = manifestPath(n)
		if parsed, err = ParseManifest(manifest); err != nil {
			return 0, p.fail(step.Manifest, err)
		}
		if err := p.add(step.Manifest, manifest); err != nil {
			return 0, err
		}
	}
	p.index.Steps = append(p.index.Steps, step)
	p.manifests = append(p.manifests, parsed)
	return n, nil
}

// AddObject streams object i of step n, both from 1, in the order of the step's
// manifest. Content whose size or digest is not the manifest's is refused.
func (p *PackageWriter) AddObject(n, i int, r io.Reader) error {
	if p.err != nil {
		return p.err
	}
	if n < 1 || n > len(p.index.Steps) || p.manifests[n-1] == nil || i < 1 || i > len(p.manifests[n-1].Objects) {
		return p.fail(fmt.Sprintf("object %d of step %d", i, n), errors.New("no manifest in the package names such an object"))
	}
	o, step := &p.manifests[n-1].Objects[i-1], &p.index.Steps[n-1]
	path := objectPath(n, i, SafeFileName(o.Name))
	at, found := slices.BinarySearchFunc(step.Objects, i, func(x IndexObject, i int) int {
		parsed, _ := parsePackagePath(x.Path)
		return parsed.i - i
	})
	if found {
		return p.fail(path, errors.New("the object is already in the package"))
	}
	h256, h3 := sha256.New(), sm3.New()
	if err := p.c.Add(path, o.Size, io.TeeReader(r, io.MultiWriter(h256, h3))); err != nil {
		return p.fail(path, err)
	}
	f := IndexFile{path, RoleObject, o.Size, Digest(h256.Sum(nil)), Digest(h3.Sum(nil))}
	if f.SHA256 != o.SHA256 || f.SM3 != o.SM3 {
		return p.fail(path, fmt.Errorf("the content is not what the manifest says: SHA-256 %s, deposited %s", f.SHA256, o.SHA256))
	}
	p.list(f)
	step.Objects = slices.Insert(step.Objects, at, IndexObject{path, f.SHA256})
	return nil
}

func (p *PackageWriter) addRegistration(kid Digest, kind string, statement []byte, receipts map[string][]byte) error {
	return p.addStatement("members/"+kid.String()+"."+kind, statement, receipts)
}

// addStatement adds base.cose and base.<institution>.cose.
func (p *PackageWriter) addStatement(base string, statement []byte, receipts map[string][]byte) error {
	if err := p.add(base+".cose", statement); err != nil {
		return err
	}
	for _, inst := range slices.Sorted(maps.Keys(receipts)) {
		if err := p.add(base+"."+inst+".cose", receipts[inst]); err != nil {
			return err
		}
	}
	return nil
}

// AddEnrolment adds the statement that enrolled a signer's key, and its receipts.
func (p *PackageWriter) AddEnrolment(kid Digest, statement []byte, receipts map[string][]byte) error {
	return p.addRegistration(kid, "enrolment", statement, receipts)
}

// AddRevocation adds the statement that revoked a signer's key, and its receipts.
func (p *PackageWriter) AddRevocation(kid Digest, statement []byte, receipts map[string][]byte) error {
	return p.addRegistration(kid, "revocation", statement, receipts)
}

// AddHead adds an institution's signed trail head.
func (p *PackageWriter) AddHead(inst string, head []byte) error {
	return p.add("heads/"+inst+".cose", head)
}

// AddCheckpoint adds a cosigned checkpoint of the log at size, one for each size
// that a statement's `after` names.
func (p *PackageWriter) AddCheckpoint(size uint64, text []byte) error {
	return p.add(fmt.Sprintf("checkpoints/%d", size), text)
}

// AddTimestamp adds an RFC 3161 token over the checkpoint of the log at size.
func (p *PackageWriter) AddTimestamp(size uint64, authority string, token []byte) error {
	return p.add(fmt.Sprintf("timestamps/%d.%s.tsr", size, authority), token)
}

// AddStatementTimestamp adds an RFC 3161 token over the statement of step n, from 1.
func (p *PackageWriter) AddStatementTimestamp(n int, authority string, token []byte) error {
	return p.add(StatementTimestampPath(n, authority), token)
}

// AddRenewal adds a file of a later round of timestamps (spec/timestamp.md, part 5).
func (p *PackageWriter) AddRenewal(name string, content []byte) error {
	return p.add("timestamps/renewals/"+name, content)
}

// AddAlliance adds the alliance's founding document.
func (p *PackageWriter) AddAlliance(encoded []byte) error {
	if p.err == nil && SumSHA256(encoded) != p.index.Alliance {
		return p.fail(pathAlliance, fmt.Errorf("the document is of alliance %s, the package of %s", SumSHA256(encoded), p.index.Alliance))
	}
	return p.add(pathAlliance, encoded)
}

// AddInstitutionKeys adds an institution's present receipt keys, for people's
// convenience: a verifier takes keys from its policy.
func (p *PackageWriter) AddInstitutionKeys(inst string, keys ...*PublicKey) error {
	var text bytes.Buffer
	for _, k := range keys {
		text.Write(k.PEM())
	}
	return p.add("trust/"+inst+".pem", text.Bytes())
}

// AddOlderInstitutionKey adds a receipt key that an institution no longer uses.
func (p *PackageWriter) AddOlderInstitutionKey(inst string, key *PublicKey) error {
	return p.add("trust/"+inst+"."+key.KID().String()+".pem", key.PEM())
}

// AddMemberKey adds a signer's key, for people's convenience.
func (p *PackageWriter) AddMemberKey(key *PublicKey) error {
	return p.add("trust/members/"+key.KID().String()+".pem", key.PEM())
}

// Close writes the index and the end. It does not close the output.
func (p *PackageWriter) Close() error {
	if p.err != nil {
		return p.err
	}
	if len(p.index.Steps) == 0 {
		return p.fail(pathIndex, errors.New("a package holds at least one step"))
	}
	data, err := MarshalCanonical(&p.index)
	if err == nil && len(data) > maxIndex {
		err = fmt.Errorf("%d bytes are more than %d: make two packages", len(data), maxIndex)
	}
	if err == nil {
		err = p.c.AddBytes(pathIndex, data)
	}
	if err == nil {
		err = p.c.Close()
	}
	if err != nil {
		return p.fail(pathIndex, err)
	}
	p.err = errors.New("the package is already closed")
	return nil
}
