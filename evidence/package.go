package evidence

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// The layout of an evidence package, spec/package.md part 2. index.json lists
// every other file; nothing in a package is trusted because it is there.
const (
	pathReadme   = "README.txt"
	pathIndex    = "index.json"
	pathAlliance = "trust/alliance.json"

	// maxIndex is the size in bytes of the largest index: MaxContainerEntries
	// files of 350 bytes, and their steps, take under 40 MiB.
	maxIndex = 48 << 20
	// maxSmallFile is the size of the largest statement, receipt, head,
	// checkpoint, token, key or README. The largest of them, a checkpoint with
	// MaxInstitutions cosignatures of 250 bytes, or a timestamp token with its
	// certificates, stays below half of it.
	maxSmallFile = 64 << 10
	// maxObjectNameInPackage is the length in bytes of a safe file name. With its
	// number and folders a path stays below 150 bytes, which Windows extracts
	// into a usual folder (MAX_PATH 260).
	maxObjectNameInPackage = 120
	// maxSafeExtension is the longest extension, with its dot, kept when a name
	// is cut.
	maxSafeExtension = 16
)

// Role says what a file of a package is.
type Role string

// The roles, each with its path.
const (
	RoleReadme            Role = "readme"              // README.txt
	RoleStatement         Role = "statement"           // statements/000001.cose
	RoleReceipt           Role = "receipt"             // receipts/000001.<institution>.cose
	RoleManifest          Role = "manifest"            // manifests/000001.json
	RoleObject            Role = "object"              // objects/000001/01-<safe file name>
	RoleEnrolment         Role = "enrolment"           // members/<kid>.enrolment.cose
	RoleEnrolmentReceipt  Role = "enrolment-receipt"   // members/<kid>.enrolment.<institution>.cose
	RoleRevocation        Role = "revocation"          // members/<kid>.revocation.cose
	RoleRevocationReceipt Role = "revocation-receipt"  // members/<kid>.revocation.<institution>.cose
	RolePasskey           Role = "passkey"             // members/<kid>.passkey.cose
	RolePasskeyReceipt    Role = "passkey-receipt"     // members/<kid>.passkey.<institution>.cose
	RoleIssuance          Role = "issuance"            // certificates/<sha256>.cose
	RoleIssuanceReceipt   Role = "issuance-receipt"    // certificates/<sha256>.<institution>.cose
	RoleCertificate       Role = "certificate"         // certificates/<sha256>.pem
	RoleHead              Role = "head"                // heads/<institution>.cose
	RoleCheckpoint        Role = "checkpoint"          // checkpoints/<size>
	RoleTimestamp         Role = "timestamp"           // timestamps/<size>.<authority>.tsr
	RoleStatementTime     Role = "statement-timestamp" // timestamps/statements/000001.<authority>.tsr
	RoleRenewal           Role = "renewal"             // timestamps/renewals/<safe file name>
	RoleKeyChange         Role = "key-change"          // keychanges/<kid>.cose
	RoleKeyChangeReceipt  Role = "key-change-receipt"  // keychanges/<kid>.<institution>.cose
	RoleAlliance          Role = "alliance"            // trust/alliance.json
	RoleInstitutionKey    Role = "institution-key"     // trust/<institution>.pem, trust/<institution>.<kid>.pem
	RoleMemberKey         Role = "member-key"          // trust/members/<kid>.pem
)

func (r Role) maxSize() int64 {
	switch r {
	case RoleObject:
		return maxJSONInteger
	case RoleManifest:
		return MaxManifest
	case RoleAlliance:
		return maxAlliance
	case RoleRenewal: // lists every file, as the index does
		return maxIndex
	}
	return maxSmallFile
}

// PackageError says why a file cannot be opened as an evidence package. When
// Unreadable is set it is none, or of a version this program does not know;
// otherwise it is one and is damaged.
type PackageError struct {
	Unreadable bool
	Path       string // of the file inside, when it is about one
	Code       string // stable word for programs and vectors
	Reason     string
	err        error
}

func (e *PackageError) Error() string {
	s := "the evidence package is damaged: "
	if e.Unreadable {
		s = "not readable as an evidence package: "
	}
	if e.Path != "" {
		s += e.Path + ": "
	}
	return s + e.Reason
}

// Unwrap returns the *ContainerError or *JSONError underneath, if there is one.
func (e *PackageError) Unwrap() error { return e.err }

// Index is index.json: a table of contents that is not signed and proves
// nothing by itself.
type Index struct {
	V        int         `json:"v"` // 1
	Alliance Digest      `json:"alliance"`
	Trail    Digest      `json:"trail"`
	TreeSize uint64      `json:"tree_size"` // size of the log the package speaks of
	Files    []IndexFile `json:"files"`     // in the order of the container, without index.json
	Steps    []IndexStep `json:"steps"`
}

// IndexFile is one file of the package.
type IndexFile struct {
	Path   string `json:"path"`
	Role   Role   `json:"role"`
	Size   int64  `json:"size"` // bytes
	SHA256 Digest `json:"sha256"`
	SM3    Digest `json:"sm3"`
}

// IndexStep is one statement of the trail and what belongs to it.
type IndexStep struct {
	N         int           `json:"n"` // from 1, without gaps
	Statement string        `json:"statement"`
	Position  uint64        `json:"position"`           // in the log, from 0
	Manifest  string        `json:"manifest,omitempty"` // absent when withheld, or when the statement has none
	Objects   []IndexObject `json:"objects"`            // those handed in, by number
	Receipts  []string      `json:"receipts"`           // sorted
}

// IndexObject is one object of a step.
type IndexObject struct {
	Path   string `json:"path"`
	SHA256 Digest `json:"sha256"`
}

// PackageInfo is what a package says of itself.
type PackageInfo struct {
	Alliance Digest // id of the alliance
	Trail    Digest // digest of the opening statement
	TreeSize uint64
}

func statementPath(n int) string              { return fmt.Sprintf("statements/%06d.cose", n) }
func receiptPath(n int, inst string) string   { return fmt.Sprintf("receipts/%06d.%s.cose", n, inst) }
func manifestPath(n int) string               { return fmt.Sprintf("manifests/%06d.json", n) }
func objectPath(n, i int, safe string) string { return fmt.Sprintf("objects/%06d/%02d-%s", n, i, safe) }

// packagePath is what a path says.
type packagePath struct {
	role Role
	n    int    // step
	i    int    // object
	inst string // institution or timestamp authority
	kid  Digest // or, under certificates/, the digest of the certificate
	size uint64
}

// parsePackagePath reads a path by the grammar of spec/package.md; ok is false
// for a path that has no place in a package.
func parsePackagePath(path string) (p packagePath, ok bool) {
	folder, base, nested := strings.Cut(path, "/")
	if !nested {
		return packagePath{role: RoleReadme}, path == pathReadme
	}
	switch folder {
	case "statements":
		p.role = RoleStatement
		num, found := strings.CutSuffix(base, ".cose")
		p.n, ok = parseStep(num)
		return p, ok && found
	case "manifests":
		p.role = RoleManifest
		num, found := strings.CutSuffix(base, ".json")
		p.n, ok = parseStep(num)
		return p, ok && found
	case "receipts":
		p.role = RoleReceipt
		num, rest, _ := strings.Cut(base, ".")
		inst, found := strings.CutSuffix(rest, ".cose")
		p.inst = inst
		p.n, ok = parseStep(num)
		return p, ok && found && isSlug(inst)
	case "objects":
		p.role = RoleObject
		num, rest, _ := strings.Cut(base, "/")
		nn, name, found := strings.Cut(rest, "-")
		p.n, ok = parseStep(num)
		p.i, _ = strconv.Atoi(nn)
		return p, ok && found && p.i >= 1 && p.i <= MaxObjects && fmt.Sprintf("%02d", p.i) == nn && SafeFileName(name) == name
	case "members":
		return parseMemberPath(base)
	case "certificates":
		return parseCertificatePath(base)
	case "keychanges":
		return parseKeyChangePath(base)
	case "heads":
		p.role = RoleHead
		inst, found := strings.CutSuffix(base, ".cose")
		p.inst = inst
		return p, found && isSlug(inst)
	case "checkpoints":
		p.role = RoleCheckpoint
		p.size, ok = parseSize(base)
		return p, ok
	case "timestamps":
		if name, renewal := strings.CutPrefix(base, "renewals/"); renewal {
			p.role = RoleRenewal
			return p, SafeFileName(name) == name
		}
		if of, own := strings.CutPrefix(base, "statements/"); own {
			p.role = RoleStatementTime
			num, rest, _ := strings.Cut(of, ".")
			inst, found := strings.CutSuffix(rest, ".tsr")
			p.inst = inst
			p.n, ok = parseStep(num)
			return p, ok && found && isSlug(inst)
		}
		p.role = RoleTimestamp
		num, rest, _ := strings.Cut(base, ".")
		inst, found := strings.CutSuffix(rest, ".tsr")
		p.inst = inst
		p.size, ok = parseSize(num)
		return p, ok && found && isSlug(inst)
	case "trust":
		return parseTrustPath(base)
	}
	return p, false
}

func parseMemberPath(base string) (p packagePath, ok bool) {
	parts := strings.Split(base, ".")
	if len(parts) < 3 || len(parts) > 4 || parts[len(parts)-1] != "cose" {
		return p, false
	}
	kid, err := ParseDigest(parts[0])
	if err != nil {
		return p, false
	}
	p.kid = kid
	receipt := len(parts) == 4
	if receipt {
		p.inst = parts[2]
		if !isSlug(p.inst) {
			return p, false
		}
	}
	switch parts[1] {
	case "enrolment":
		p.role = RoleEnrolment
		if receipt {
			p.role = RoleEnrolmentReceipt
		}
	case "revocation":
		p.role = RoleRevocation
		if receipt {
			p.role = RoleRevocationReceipt
		}
	case "passkey":
		p.role = RolePasskey
		if receipt {
			p.role = RolePasskeyReceipt
		}
	default:
		return p, false
	}
	return p, true
}

func parseTrustPath(base string) (p packagePath, ok bool) {
	if base == "alliance.json" {
		return packagePath{role: RoleAlliance}, true
	}
	name, found := strings.CutSuffix(base, ".pem")
	if !found {
		return p, false
	}
	if kid, member := strings.CutPrefix(name, "members/"); member {
		d, err := ParseDigest(kid)
		return packagePath{role: RoleMemberKey, kid: d}, err == nil
	}
	inst, kid, older := strings.Cut(name, ".")
	p = packagePath{role: RoleInstitutionKey, inst: inst}
	if older {
		d, err := ParseDigest(kid)
		if err != nil {
			return p, false
		}
		p.kid = d
	}
	return p, isSlug(inst)
}

// parseStep reads six decimal digits, from 000001.
func parseStep(s string) (int, bool) {
	n, err := strconv.ParseUint(s, 10, 32)
	return int(n), err == nil && len(s) == 6 && n > 0
}

// parseSize reads a size of the log: decimal, no leading zero, up to 2^53-1.
func parseSize(s string) (uint64, bool) {
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil && n <= maxJSONInteger && strconv.FormatUint(n, 10) == s
}

// SafeFileName returns the name under which an object lies in a package: the
// name given, Chinese and all, where every common system can extract it.
// Characters that are invisible, or that mean something to a system, become _;
// names over 120 bytes are cut before their extension.
func SafeFileName(name string) string {
	var b strings.Builder
	for _, r := range name { // an invalid byte comes as U+FFFD of width 1
		if r == utf8.RuneError || deceptive(r) || strings.ContainsRune(`/\:*?"<>|`, r) {
			r = '_'
		}
		b.WriteRune(r)
	}
	safe := b.String()
	if len(safe) > maxObjectNameInPackage {
		ext := ""
		if dot := strings.LastIndexByte(safe, '.'); dot > 0 && len(safe)-dot <= maxSafeExtension {
			ext = safe[dot:]
		}
		cut := maxObjectNameInPackage - len(ext)
		for !utf8.RuneStart(safe[cut]) {
			cut--
		}
		safe = safe[:cut] + ext
	}
	if kept := strings.TrimRight(safe, ". "); kept != safe {
		safe = kept + strings.Repeat("_", len(safe)-len(kept))
	}
	if safe == "" {
		return "file"
	}
	return safe
}
