package verify

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/emmansun/gmsm/sm3"
	"github.com/zhenglian/zhenglian/evidence"
)

const pathIndex = "index.json"

// checkDamage reports a package whose structure is broken. Where the place is
// known only as an offset, the report names that.
func (r *run) checkDamage(damage *evidence.PackageError) {
	offset := ""
	var c *evidence.ContainerError
	if errors.As(damage, &c) {
		offset = strconv.FormatInt(c.Offset, 10)
	}
	at := Subject{Path: damage.Path}
	if offset != "" {
		r.check("container", at, DoesNotMatch, because("container-damaged-at", "code", damage.Code, "offset", offset, "detail", damage.Reason), ClauseUnaltered)
		return
	}
	r.check("container", at, DoesNotMatch, because("container-damaged", "code", damage.Code, "detail", damage.Reason), ClauseUnaltered)
}

// oursByTail recognises a package whose first bytes were altered by the entry
// that stands last in its directory, just before the end record.
func oursByTail(pkg io.ReaderAt, size int64) bool {
	const endRecord = 22
	tail := make([]byte, len(pathIndex)+4)
	if size < endRecord+int64(len(pathIndex)) {
		return false
	}
	n, _ := pkg.ReadAt(tail, size-endRecord-int64(len(pathIndex)))
	return n == len(tail) && string(tail) == pathIndex+"PK\x05\x06"
}

// checkFiles streams every file of the package and compares it with the index.
func (r *run) checkFiles(ctx context.Context, pkg io.ReaderAt, size int64) error {
	files := r.pkg.Files()
	var total int64
	for _, f := range files {
		total += f.Size
	}
	if err := r.digest(ctx, pkg, size, total); err != nil {
		return err
	}
	findings, err := r.pkg.Check(ctx, func(done, _ int64) { r.progress(size+done, size+total) })
	if err != nil {
		return fmt.Errorf("reading the package: %w", err)
	}
	r.rep.Package.Files = len(files)
	for _, f := range findings {
		r.damaged[f.Path] = true
		if r.altered[f.Path], err = r.compute(ctx, f.Path); err != nil {
			return err
		}
		r.check("file", Subject{Path: f.Path}, DoesNotMatch, because("file-altered", "code", f.Code, "detail", f.Reason), ClauseUnaltered)
	}
	if len(findings) == 0 {
		r.check("container", Subject{}, Matches, because("container-sound", "files", len(files), "bytes", size), ClauseUnaltered)
	}
	r.files = make(map[string]evidence.IndexFile, len(files))
	for _, f := range files {
		r.files[f.Path] = f
	}
	return nil
}

// compute reads an altered file once more, to say what it is now.
func (r *run) compute(ctx context.Context, name string) (c Computed, err error) {
	section, err := r.pkg.File(name)
	if err != nil {
		return c, fmt.Errorf("reading %s: %w", name, err)
	}
	h256, h3 := sha256.New(), sm3.New()
	buf := make([]byte, 1<<20)
	for err == nil {
		var n int
		n, err = section.Read(buf)
		h256.Write(buf[:n])
		h3.Write(buf[:n])
		c.Size += int64(n)
		if ended := ctx.Err(); ended != nil {
			return c, ended
		}
	}
	if err != io.EOF {
		return c, fmt.Errorf("reading %s: %w", name, err)
	}
	c.SHA256, c.SM3 = evidence.Digest(h256.Sum(nil)), evidence.Digest(h3.Sum(nil))
	return c, nil
}

// readFile returns a small file, whose size OpenPackage has bounded. An error of
// the reader ends the verification: it says nothing about the package.
func (r *run) readFile(name string) []byte {
	section, err := r.pkg.File(name)
	if err != nil {
		r.keepError(fmt.Errorf("reading %s: %w", name, err))
		return nil
	}
	data, err := io.ReadAll(section)
	if err != nil {
		r.keepError(fmt.Errorf("reading %s: %w", name, err))
		return nil
	}
	return data
}

func (r *run) keepError(err error) {
	if r.err == nil {
		r.err = err
	}
}

// withRole lists the files of a role in the order of the package.
func (r *run) withRole(role evidence.Role) []string {
	var out []string
	for _, f := range r.pkg.Index.Files {
		if f.Role == role {
			out = append(out, f.Path)
		}
	}
	return out
}

// institutionOf takes the institution out of a path that OpenPackage has held
// to the grammar of spec/package.md: the part before the last dot.
func institutionOf(name string) string {
	base := strings.TrimSuffix(path.Base(name), path.Ext(name))
	return base[strings.LastIndexByte(base, '.')+1:]
}

func (r *run) receiptFiles(paths []string) []receiptFile {
	var out []receiptFile
	for _, p := range paths {
		out = append(out, receiptFile{institution: institutionOf(p), path: p, data: r.readFile(p)})
	}
	return out
}

func headPath(inst string) string { return "heads/" + inst + ".cose" }

// memberKIDs lists the keys whose enrolment or revocation is in the package.
func (r *run) memberKIDs() []evidence.Digest {
	var out []evidence.Digest
	for _, role := range []evidence.Role{evidence.RoleEnrolment, evidence.RoleRevocation} {
		for _, p := range r.withRole(role) {
			kid, _, _ := strings.Cut(path.Base(p), ".")
			if d, err := evidence.ParseDigest(kid); err == nil && !slices.Contains(out, d) {
				out = append(out, d)
			}
		}
	}
	return out
}

// registration returns the statement named members/<kid>.<kind>.cose and its
// receipts; present is false when it is not in the package.
func (r *run) registration(kid evidence.Digest, kind string, receipts evidence.Role) (data []byte, files []receiptFile, name string, present bool) {
	base := "members/" + kid.String() + "." + kind + "."
	name = base + "cose"
	if _, present = r.files[name]; !present {
		return nil, nil, "", false
	}
	var paths []string
	for _, p := range r.withRole(receipts) {
		if strings.HasPrefix(p, base) {
			paths = append(paths, p)
		}
	}
	return r.readFile(name), r.receiptFiles(paths), name, true
}

// checkIndex compares what the index says of the whole with the contents.
func (r *run) checkIndex() {
	ix := &r.pkg.Index
	at := Subject{Path: pathIndex}
	good := true
	fail := func(v Verdict, why Reason) {
		good = false
		r.check("index", at, v, why, ClauseUnaltered)
	}
	switch {
	case r.policy == nil:
		fail(Undetermined, because("no-keys"))
	case ix.Alliance != r.policy.Alliance:
		fail(DoesNotMatch, because("index-alliance", "index", ix.Alliance, "alliance", r.policy.Alliance))
	}
	var largest uint64
	for size := range r.roots {
		largest = max(largest, size)
	}
	switch {
	case len(r.roots) == 0 && r.policy == nil:
	case ix.TreeSize != largest:
		fail(DoesNotMatch, because("index-tree-size", "index", ix.TreeSize, "largest", largest))
	}
	if r.owner() == nil {
		fail(DoesNotMatch, because("index-trail", "trail", ix.Trail))
	}
	if good {
		r.check("index", at, Matches, because("index-holds", "steps", len(ix.Steps), "size", ix.TreeSize), ClauseUnaltered)
	}
}

// checkAccounted goes through every file that no rule has looked at. Keys are
// compared with those trusted; what no verdict rests on is listed with the
// reason; anything else has no business in the package.
func (r *run) checkAccounted() {
	for _, f := range r.pkg.Index.Files {
		if r.judged[f.Path] {
			continue
		}
		at := Subject{Path: f.Path}
		skip := func(why Reason) { r.rep.Unchecked = append(r.rep.Unchecked, Unchecked{f.Path, why}) }
		switch f.Role {
		case evidence.RoleReadme:
			skip(because("unchecked-readme"))
		case evidence.RoleTimestamp, evidence.RoleStatementTime:
			skip(because("unchecked-timestamp", "authority", institutionOf(f.Path)))
		case evidence.RoleRenewal:
			skip(because("unchecked-renewal"))
		case evidence.RoleInstitutionKey:
			inst, _, _ := strings.Cut(path.Base(f.Path), ".")
			r.checkKeyFile(f.Path, inst)
		case evidence.RoleMemberKey:
			r.checkMemberKey(f.Path)
		default:
			r.check("accounted", at, DoesNotMatch, because("not-accounted"), ClauseUnaltered)
		}
	}
	r.rep.Unchecked = append(r.rep.Unchecked, Unchecked{"index.json", because("unchecked-index")})
}

// checkKeyFile compares an institution's key file, a convenience for other
// people's tools, with the receipt keys that are trusted.
func (r *run) checkKeyFile(name, institution string) {
	at := Subject{Path: name, Institution: institution}
	fail := func(v Verdict, why Reason) { r.check("institution-key", at, v, why, ClausePlatform) }
	data := r.readFile(name)
	if r.policy == nil {
		fail(Undetermined, because("no-keys"))
		return
	}
	inst := r.policy.Institution(institution)
	if inst == nil {
		fail(Undetermined, because("institution-unknown", "institution", institution))
		return
	}
	count := 0
	for rest := data; len(rest) > 0; count++ {
		block, after := pem.Decode(rest)
		if block == nil {
			fail(DoesNotMatch, because("key-file-malformed"))
			return
		}
		key, err := evidence.ParsePublicKey(block.Bytes)
		if err != nil || !bytes.HasPrefix(rest, key.PEM()) {
			fail(DoesNotMatch, because("key-file-malformed"))
			return
		}
		trusted := slices.ContainsFunc(inst.Keys, func(k evidence.PolicyKey) bool {
			return k.Use == evidence.UseReceipt && bytes.Equal([]byte(k.Key), key.PEM())
		})
		if !trusted && r.open[key.KID()] == institution {
			fail(Undetermined, because("key-unknown", "institution", institution, "key", key.KID()))
			return
		}
		if older, _, ok := olderKey(name); !trusted || ok && older != key.KID().String() {
			fail(DoesNotMatch, because("key-file-not-trusted", "institution", institution, "key", key.KID()))
			return
		}
		rest = after
	}
	if count == 0 {
		fail(DoesNotMatch, because("key-file-malformed"))
		return
	}
	fail(Matches, because("key-file-trusted", "institution", institution))
}

// olderKey takes the kid out of trust/<institution>.<kid>.pem.
func olderKey(name string) (kid, institution string, ok bool) {
	base := strings.TrimSuffix(path.Base(name), ".pem")
	institution, kid, ok = strings.Cut(base, ".")
	return kid, institution, ok
}

// checkMemberKey compares a member's key file with her enrolment.
func (r *run) checkMemberKey(name string) {
	at := Subject{Path: name}
	data := r.readFile(name)
	key, err := evidence.ParsePublicKeyPEM(data)
	if err != nil || !bytes.Equal(key.PEM(), data) || key.KID().String()+".pem" != path.Base(name) {
		r.check("member-key", at, DoesNotMatch, because("key-file-malformed"), ClausePlatform)
		return
	}
	at.Key = key.KID().String()
	m := r.members[key.KID()]
	if m == nil {
		m = r.memberFromLog(key.KID())
	}
	if m == nil && r.policy != nil {
		for i := range r.policy.Institutions {
			for _, k := range r.policy.Institutions[i].Keys {
				if k.Use == evidence.UseStatement && k.Key == string(data) {
					r.check("member-key", at, Matches, because("member-key-institution", "institution", r.policy.Institutions[i].ID), ClausePlatform)
					return
				}
			}
		}
	}
	if m == nil {
		r.check("member-key", at, DoesNotMatch, because("member-key-unknown"), ClausePlatform)
		return
	}
	r.check("member-key", at, Matches, because("member-key-holds", "member", m.holder), ClausePlatform)
}
