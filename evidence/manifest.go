package evidence

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/emmansun/gmsm/sm3"
)

// Limits of a manifest.
const (
	// MaxManifest is the size in bytes of the largest manifest. It is read whole
	// into memory by every verifier, a browser tab among them; 4 MiB is what
	// MaxObjects entries of the usual length (420 bytes with a vault) take.
	MaxManifest = 4 << 20
	// MaxObjects is the largest number of objects of one deposit. More files go
	// into several steps, or into one archive deposited as one object.
	MaxObjects = 10_000
	// MaxFileName is the longest file name in bytes, the limit of the common
	// file systems (ext4, APFS, NTFS in UTF-16 units).
	MaxFileName = 255
	// MaxFacts and MaxFact bound each map of facts: 64 facts of 1,024 bytes are
	// what a recorder's environment report needs, twice over; longer reports are
	// objects.
	MaxFacts = 64
	MaxFact  = 1024
	// MaxNote is the length of a note in characters: one printed page of Chinese.
	MaxNote = 2000
	// MaxStep is the length of a step's name in characters: one line in a report.
	MaxStep = 80

	vaultChunk = 1 << 20 // bytes of plaintext in a chunk of the vault
)

// FieldError says which field of a document breaks which rule, and what to do.
type FieldError struct {
	Field  string // JSON path, such as $.objects[3].name
	Code   string // stable word for programs and vectors, such as "required"
	Reason string // one sentence
	Hint   string // what to do about it; may be empty
	err    error
}

func (e *FieldError) Error() string {
	s := e.Field + ": " + e.Reason
	if e.Hint != "" {
		s += " (" + e.Hint + ")"
	}
	return s
}

// Unwrap returns the *JSONError underneath, if there is one.
func (e *FieldError) Unwrap() error { return e.err }

// asFieldError gives errors of the JSON layer the form of the other errors.
func asFieldError(err error) error {
	var j *JSONError
	if !errors.As(err, &j) {
		return err
	}
	hint := "write the document with this project's tools, which write the one accepted form"
	if j.Code == "unknown-field" {
		hint = "remove it, or use a newer version if the document was made by one"
	}
	return &FieldError{j.Path, j.Code, fmt.Sprintf("%s, byte %d", j.Reason, j.Offset), hint, err}
}

// Salt is 32 random bytes, which keep a digest from being guessed from a short
// list of likely contents. Its text is base64url without padding (RFC 4648 §5),
// 43 characters.
type Salt [32]byte

// NewSalt reads a salt from random, which is crypto/rand.Reader but in tests.
func NewSalt(random io.Reader) (Salt, error) {
	var s Salt
	if _, err := io.ReadFull(random, s[:]); err != nil {
		return Salt{}, fmt.Errorf("reading 32 random bytes for a salt: %w", err)
	}
	return s, nil
}

func (s Salt) String() string { return base64.RawURLEncoding.EncodeToString(s[:]) }

// MarshalText implements encoding.TextMarshaler, for JSON.
func (s Salt) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText accepts exactly what MarshalText writes.
func (s *Salt) UnmarshalText(text []byte) error {
	var v Salt
	n := base64.RawURLEncoding.DecodedLen(len(text))
	if n == len(v) && !bytes.ContainsAny(text, "\r\n") {
		if _, err := base64.RawURLEncoding.Strict().Decode(v[:], text); err == nil {
			*s = v
			return nil
		}
	}
	return errors.New("a salt is 32 bytes in base64url without padding, 43 characters")
}

// Phase is the part of a trail a deposit belongs to.
type Phase string

// The phases of a trail.
const (
	PhaseBefore Phase = "before" // identity, consent, clean environment
	PhaseDuring Phase = "during" // each step of the act itself
	PhaseAfter  Phase = "after"  // sealing, custody, access, hand-over
)

// Manifest is the private plaintext that a deposit statement commits to: its
// canonical bytes have the digest in the statement. spec/manifest.md, part 2.
type Manifest struct {
	V          int        `json:"v"` // 1
	Salt       Salt       `json:"salt"`
	Phase      Phase      `json:"phase"`
	Step       string     `json:"step"`    // 1 to MaxStep characters, for people, such as "download"
	Created    string     `json:"created"` // the depositor's clock, a claim: RFC 3339, whole seconds, with offset
	Person     Person     `json:"person"`
	Place      Place      `json:"place"`
	Dimensions Dimensions `json:"dimensions"`
	Note       string     `json:"note,omitempty"` // up to MaxNote characters
	Objects    []Object   `json:"objects"`        // up to MaxObjects; none for a step without files
	Act        *Act       `json:"act,omitempty"`  // what the deposit does, where it is more than keeping files
}

// Person is who deposits.
type Person struct {
	Member     string `json:"member"`              // id in the registry
	Commitment Digest `json:"commitment,omitzero"` // Commit to name and ID number; required from assurance 1
	Assurance  int    `json:"assurance"`           // 0 none, 1 self-asserted, 2 checked against a source, 3 checked in person or equivalent
	Demo       bool   `json:"demo"`                // the identity is a demonstration's
}

// Place keeps what the depositor says apart from what somebody else saw.
type Place struct {
	Claimed   map[string]string `json:"claimed"`
	Witnessed map[string]string `json:"witnessed"`
}

// Dimensions are free facts on before, during and after.
type Dimensions struct {
	Before map[string]string `json:"before,omitempty"`
	During map[string]string `json:"during,omitempty"`
	After  map[string]string `json:"after,omitempty"`
}

// Object is one evidence file, by digest.
type Object struct {
	Name   string    `json:"name"`  // file name as given, no path, 1 to MaxFileName bytes
	Size   int64     `json:"size"`  // bytes
	Media  string    `json:"media"` // type/subtype, lower case, no parameters
	SHA256 Digest    `json:"sha256"`
	SM3    Digest    `json:"sm3"`
	Vault  *VaultRef `json:"vault,omitempty"` // when it is kept encrypted in a vault
}

// VaultRef binds the encrypted form kept in a vault.
type VaultRef struct {
	Chunks     int64  `json:"chunks"` // of 1 MiB
	PlainRoot  Digest `json:"plain_root"`
	CipherRoot Digest `json:"cipher_root"`
}

// SumSM3 returns the SM3 digest of data (GB/T 32905).
func SumSM3(data []byte) Digest { return sm3.Sum(data) }

// commitmentLabel separates commitments from every other use of HMAC.
const commitmentLabel = "zhenglian commitment v1\x00"

// Commit returns a salted commitment to fields, for a person's name, kind of
// document and number, in this order: HMAC-SHA256, keyed with the salt, over
// the label and each field's length (8 bytes, big-endian) and bytes. The salt
// must be one that the manifest does not hold: a reader of the manifest could
// try all numbers otherwise.
func Commit(salt Salt, fields ...string) Digest {
	h := hmac.New(sha256.New, salt[:])
	io.WriteString(h, commitmentLabel)
	var length [8]byte
	for _, f := range fields {
		binary.BigEndian.PutUint64(length[:], uint64(len(f)))
		h.Write(length[:])
		io.WriteString(h, f)
	}
	return Digest(h.Sum(nil))
}

// Encode validates m and returns its canonical bytes: what is deposited, what
// goes into a package, and what the statement's digest is of.
func (m *Manifest) Encode() ([]byte, error) {
	full := *m
	if full.Objects == nil {
		full.Objects = []Object{}
	}
	if full.Place.Claimed == nil {
		full.Place.Claimed = map[string]string{}
	}
	if full.Place.Witnessed == nil {
		full.Place.Witnessed = map[string]string{}
	}
	if err := full.Validate(); err != nil {
		return nil, err
	}
	data, err := MarshalCanonical(&full)
	if err != nil {
		return nil, asFieldError(err)
	}
	if len(data) > MaxManifest {
		return nil, manifestTooLarge(len(data))
	}
	return data, nil
}

// ParseManifest reads a manifest from its canonical bytes. Errors are
// *FieldError.
func ParseManifest(data []byte) (*Manifest, error) {
	if len(data) > MaxManifest {
		return nil, manifestTooLarge(len(data))
	}
	m := new(Manifest)
	if err := UnmarshalCanonical(data, m); err != nil {
		return nil, asFieldError(err)
	}
	if err := m.Validate(); err != nil {
		return nil, err
	}
	return m, nil
}

func manifestTooLarge(size int) error {
	return &FieldError{"$", "too-large", fmt.Sprintf("the manifest has %d bytes, more than %d", size, MaxManifest),
		"split the deposit into several steps, or put the files into one archive", nil}
}

// Validate checks every field. Errors are *FieldError.
func (m *Manifest) Validate() error {
	if m.V != 1 {
		return &FieldError{"$.v", "version", fmt.Sprintf("version %d is not known, only 1 is", m.V), "use a newer version of this program", nil}
	}
	if m.Salt == (Salt{}) {
		return &FieldError{"$.salt", "required", "the salt is all zeros", "make one with 32 random bytes", nil}
	}
	if m.Phase != PhaseBefore && m.Phase != PhaseDuring && m.Phase != PhaseAfter {
		return &FieldError{"$.phase", "phase", fmt.Sprintf("%.20q is no phase", m.Phase), "use before, during or after", nil}
	}
	if err := checkText("$.step", m.Step, 1, MaxStep, false); err != nil {
		return err
	}
	if err := checkTime("$.created", m.Created); err != nil {
		return err
	}
	if err := m.Person.validate(); err != nil {
		return err
	}
	for _, f := range []struct {
		path  string
		facts map[string]string
	}{
		{"$.place.claimed", m.Place.Claimed}, {"$.place.witnessed", m.Place.Witnessed},
		{"$.dimensions.before", m.Dimensions.Before}, {"$.dimensions.during", m.Dimensions.During}, {"$.dimensions.after", m.Dimensions.After},
	} {
		if err := checkFacts(f.path, f.facts); err != nil {
			return err
		}
	}
	if err := checkText("$.note", m.Note, 0, MaxNote, true); err != nil {
		return err
	}
	if m.Act != nil {
		if err := m.Act.validate("$.act"); err != nil {
			return err
		}
	}
	if len(m.Objects) > MaxObjects {
		return &FieldError{"$.objects", "too-many", fmt.Sprintf("%d objects, more than %d", len(m.Objects), MaxObjects),
			"split the deposit into several steps, or put the files into one archive", nil}
	}
	for i := range m.Objects {
		if err := m.Objects[i].validate(fmt.Sprintf("$.objects[%d]", i)); err != nil {
			return err
		}
	}
	return nil
}

func (p *Person) validate() error {
	if err := checkText("$.person.member", p.Member, 1, 128, false); err != nil {
		return err
	}
	if p.Assurance < 0 || p.Assurance > 3 {
		return &FieldError{"$.person.assurance", "range", fmt.Sprintf("assurance %d is not one of 0 to 3", p.Assurance), "take the level from the member's enrolment", nil}
	}
	if p.Assurance > 0 && p.Commitment.IsZero() {
		return &FieldError{"$.person.commitment", "required", "a person whose identity was checked has no commitment to it",
			"take it from the member's enrolment, or say assurance 0", nil}
	}
	return nil
}

func (o *Object) validate(path string) error {
	if err := checkFileName(path+".name", o.Name); err != nil {
		return err
	}
	if o.Size < 0 || o.Size > maxJSONInteger {
		return &FieldError{path + ".size", "range", fmt.Sprintf("size %d is not one of 0 to 2^53-1", o.Size), "", nil}
	}
	if !isMediaType(o.Media) {
		return &FieldError{path + ".media", "media", fmt.Sprintf("%.60q is no media type", o.Media),
			"write type/subtype in lower case without parameters, or application/octet-stream", nil}
	}
	if o.SHA256.IsZero() || o.SM3.IsZero() {
		field := ".sha256"
		if !o.SHA256.IsZero() {
			field = ".sm3"
		}
		return &FieldError{path + field, "required", "the digest is all zeros", "compute it over the file's bytes", nil}
	}
	if o.Vault == nil {
		return nil
	}
	if want := (o.Size + vaultChunk - 1) / vaultChunk; o.Vault.Chunks != want {
		return &FieldError{path + ".vault.chunks", "chunks", fmt.Sprintf("%d chunks do not hold %d bytes, %d of 1 MiB do", o.Vault.Chunks, o.Size, want), "", nil}
	}
	if o.Vault.PlainRoot.IsZero() || o.Vault.CipherRoot.IsZero() {
		return &FieldError{path + ".vault", "required", "a root is all zeros", "take both roots from the vault's answer", nil}
	}
	return nil
}

// checkFileName: a name as the depositor gave it, which is one path component
// and reads as it is stored.
func checkFileName(path, name string) error {
	fail := func(reason, hint string) error { return &FieldError{path, "file-name", reason, hint, nil} }
	switch {
	case name == "":
		return &FieldError{path, "required", "the file has no name", "name it, such as page.html", nil}
	case len(name) > MaxFileName:
		return fail(fmt.Sprintf("the name has %d bytes, more than %d", len(name), MaxFileName), "shorten it; a Chinese character takes 3 bytes")
	case !utf8.ValidString(name):
		return fail("the name is not valid UTF-8", "rename the file")
	case name == "." || name == ".." || strings.ContainsAny(name, `/\`):
		return fail("the name is a path", "give the last part alone; folders go into the note or into an archive")
	}
	for _, r := range name {
		if deceptive(r) {
			return fail(fmt.Sprintf("the name holds the invisible character %U", r), "rename the file")
		}
	}
	return nil
}

// deceptive reports characters that make text read otherwise than it is stored:
// controls, line separators and the bidirectional overrides.
func deceptive(r rune) bool {
	return r < 0x20 || r >= 0x7f && r < 0xa0 || r == 0x2028 || r == 0x2029 ||
		r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069
}

// checkText: min to max characters, no deceptive ones (with lines, \n and \t
// are fine) and no blanks at the ends.
func checkText(path, s string, minimum, maximum int, lines bool) error {
	n := utf8.RuneCountInString(s)
	switch {
	case s == "" && minimum > 0:
		return &FieldError{path, "required", "it is empty", fmt.Sprintf("write 1 to %d characters", maximum), nil}
	case n > maximum:
		return &FieldError{path, "too-long", fmt.Sprintf("it has %d characters, more than %d", n, maximum), "shorten it", nil}
	case !utf8.ValidString(s):
		return &FieldError{path, "invalid-utf8", "it is not valid UTF-8", "", nil}
	case !lines && strings.Trim(s, " ") != s:
		return &FieldError{path, "text", "it begins or ends with a blank", "remove it", nil}
	}
	for _, r := range s {
		if deceptive(r) && !(lines && (r == '\n' || r == '\t')) {
			return &FieldError{path, "text", fmt.Sprintf("it holds the invisible character %U", r), "remove it", nil}
		}
	}
	return nil
}

// checkTime: RFC 3339 in one form, YYYY-MM-DDThh:mm:ss and Z or ±hh:mm.
func checkTime(path, s string) error {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil || t.Format(time.RFC3339) != s {
		return &FieldError{path, "time", fmt.Sprintf("%.40q is no time in the accepted form", s),
			"write whole seconds and the offset, such as 2026-03-01T09:30:00+08:00, or Z for UTC", nil}
	}
	return nil
}

func checkFacts(path string, facts map[string]string) error {
	if len(facts) > MaxFacts {
		return &FieldError{path, "too-many", fmt.Sprintf("%d facts, more than %d", len(facts), MaxFacts), "put a longer report into a file and deposit it", nil}
	}
	for _, key := range slices.Sorted(maps.Keys(facts)) {
		value := facts[key]
		if !isFactName(key) {
			return &FieldError{path, "fact-name", fmt.Sprintf("%.64q is no name for a fact", key), "use up to 64 of a-z, 0-9, _ . -", nil}
		}
		if len(value) > MaxFact {
			return &FieldError{path + pathName(key), "too-long", fmt.Sprintf("it has %d bytes, more than %d", len(value), MaxFact), "put it into a file and deposit it", nil}
		}
		if err := checkText(path+pathName(key), value, 0, MaxFact, true); err != nil {
			return err
		}
	}
	return nil
}

func isFactName(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '_' || c == '.' || c == '-') {
			return false
		}
	}
	return true
}

// isMediaType: RFC 6838 §4.2 restricted names, in lower case, no parameters.
func isMediaType(s string) bool {
	major, minor, ok := strings.Cut(s, "/")
	return ok && isRestrictedName(major) && isRestrictedName(minor)
}

func isRestrictedName(s string) bool {
	if s == "" || len(s) > 127 || !(s[0] >= 'a' && s[0] <= 'z' || s[0] >= '0' && s[0] <= '9') {
		return false
	}
	for _, r := range s {
		if r > unicode.MaxASCII || !strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789!#$&-^_.+", r) {
			return false
		}
	}
	return true
}
