package evidence

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
)

// Header labels (RFC 9052 §3.1, RFC 9597, RFC 9995, RFC 9942) and our own,
// which are private use.
const (
	labelAlg         = 1
	labelContentType = 3
	labelKID         = 4
	labelClaims      = 15
	labelPayloadHash = 258
	labelPreimage    = 259
	labelReceipts    = 394
	labelVDS         = 395
	labelVDP         = 396
	labelPrev        = -70001 // digest of the statement before in the trail
	labelAfter       = -70002 // [size, root] of a checkpoint the signer had seen
	labelSM3         = -70003 // SM3 digest of the manifest
	labelTreeSize    = -70004 // in receipts: size of the log whose root is signed

	claimIss = 1
	claimSub = 2
	claimIat = 6

	hashSHA256 = -16 // COSE algorithm of the payload's digest
)

// Content types of statements. A deposit is a hash envelope (RFC 9995): its
// payload is the digest of a manifest. The others carry their content, which
// every node reads, and which holds no personal data.
const (
	TypeDeposit       = "application/vnd.zhenglian.manifest+json"
	TypeAuthorisation = "application/vnd.zhenglian.trail-authorisation+cbor"
	TypeEnrolment     = "application/vnd.zhenglian.member-enrolment+cbor"
	TypeRevocation    = "application/vnd.zhenglian.key-revocation+cbor"
	TypePasskey       = "application/vnd.zhenglian.member-passkey+cbor"
	TypeCertificate   = "application/vnd.zhenglian.key-certificate+cbor"
)

// Subjects that are not a trail's name.
const (
	SubjectNewTrail = "trail:new" // this statement opens a trail and names it by its digest
	SubjectRegistry = "registry"  // this statement changes the registry
)

const subjectTrail = "trail:"

// MaxStatement is the largest registered statement in bytes. The largest one
// the formats allow, an enrolment with every field at its limit, has under
// 1,000; the rest is room for a certificate.
const MaxStatement = 4096

// Checkpoint is the size and root of the log at one moment.
type Checkpoint struct {
	Size uint64
	Root Digest
}

// Statement is one signed record, as spec/statement.md defines it. Parse fills
// every field; Sign needs Issuer, Subject, IssuedAt, ContentType, Payload and,
// by kind, Prev, After and ManifestSM3.
type Statement struct {
	Algorithm   Algorithm
	KID         Digest
	Issuer      string // member or institution id
	Subject     string // SubjectNewTrail, "trail:" + digest, or SubjectRegistry
	IssuedAt    int64  // the signer's clock, seconds since 1970; a claim
	ContentType string
	Payload     []byte // TypeDeposit: SHA-256 of the manifest; else the content
	Prev        Digest // zero when the statement opens a trail or is the registry's
	After       Checkpoint
	ManifestSM3 Digest // TypeDeposit only
	Signature   []byte // raw, 64 bytes

	raw       []byte
	protected []byte
}

// Envelope reports whether the payload is a manifest's digest.
func (s *Statement) Envelope() bool { return s.ContentType == TypeDeposit }

// Registry reports whether the statement changes the registry of members.
func (s *Statement) Registry() bool {
	switch s.ContentType {
	case TypeEnrolment, TypeRevocation, TypePasskey, TypeCertificate, TypeKeyChange:
		return true
	}
	return false
}

// Bytes returns the registered bytes: what travels, is logged and verified.
func (s *Statement) Bytes() []byte { return s.raw }

// Digest returns the statement's digest, SHA-256 of Bytes: the entry of the
// log, the `prev` of the next statement, and the name of the trail it opens.
func (s *Statement) Digest() Digest { return sha256.Sum256(s.raw) }

// ID returns the digest of the Sig_structure, the identity that makes deposits
// idempotent: a second signature over the same content is the same statement.
func (s *Statement) ID() Digest { return sha256.Sum256(s.ToBeSigned()) }

// ToBeSigned returns the Sig_structure (RFC 9052 §4.4).
func (s *Statement) ToBeSigned() []byte {
	return s.AppendToBeSigned(make([]byte, 0, len(s.protected)+len(s.Payload)+24))
}

// AppendToBeSigned appends the Sig_structure to b.
func (s *Statement) AppendToBeSigned(b []byte) []byte {
	return appendSigStructure(b, s.protected, s.Payload)
}

func appendSigStructure(b, protected, payload []byte) []byte {
	b = append(b, 0x84, 0x6a)
	b = append(b, "Signature1"...)
	b = appendBytes(b, protected)
	b = append(b, 0x40)
	return appendBytes(b, payload)
}

// Trail returns the digest that names the trail this statement belongs to: its
// own when it opens one. ok is false for statements of the registry.
func (s *Statement) Trail() (d Digest, ok bool) {
	if s.Subject == SubjectNewTrail {
		return s.Digest(), true
	}
	if s.Registry() || !namesTrail(s.Subject) {
		return d, false
	}
	d, err := ParseDigest(s.Subject[len(subjectTrail):])
	return d, err == nil
}

// namesTrail reports whether the subject opens or continues a trail.
func namesTrail(subject string) bool {
	if subject == SubjectNewTrail {
		return true
	}
	name, ok := strings.CutPrefix(subject, subjectTrail)
	if !ok {
		return false
	}
	_, err := ParseDigest(name)
	return err == nil
}

// TrailSubject returns the subject of the later statements of a trail.
func TrailSubject(trail Digest) string { return subjectTrail + trail.String() }

// Sign encodes the statement deterministically, signs it, and returns what
// Parse makes of the bytes, so that what cannot be read is never sent.
func (s Statement) Sign(signer Signer) (*Statement, error) {
	s.Algorithm, s.KID = signer.Public().Algorithm(), signer.Public().KID()
	s.protected = s.encodeProtected()
	sig, err := signer.Sign(s.ToBeSigned())
	if err != nil {
		return nil, fmt.Errorf("signing the statement: %w", err)
	}
	return ParseStatement(encodeSign1(s.protected, nil, s.Payload, sig))
}

// encodeSign1 writes a tagged COSE_Sign1. An empty unprotected is the empty
// map; a nil payload is null (detached).
func encodeSign1(protected, unprotected, payload, sig []byte) []byte {
	b := make([]byte, 0, len(protected)+len(unprotected)+len(payload)+len(sig)+16)
	b = append(b, 0xd2, 0x84)
	b = appendBytes(b, protected)
	if unprotected == nil {
		b = append(b, 0xa0)
	}
	b = append(b, unprotected...)
	if payload == nil {
		b = append(b, 0xf6)
	} else {
		b = appendBytes(b, payload)
	}
	return appendBytes(b, sig)
}

func (s *Statement) encodeProtected() []byte {
	n := uint64(4) // alg, content type, kid, claims
	if s.Envelope() {
		n += 2 // payload hash, sm3
	}
	if !s.Prev.IsZero() {
		n++
	}
	if !s.Registry() {
		n++ // after
	}
	b := make([]byte, 0, 320)
	b = appendHead(b, majorMap, n)
	b = appendInt(appendInt(b, labelAlg), int64(s.Algorithm))
	if !s.Envelope() {
		b = appendText(appendInt(b, labelContentType), s.ContentType)
	}
	b = appendBytes(appendInt(b, labelKID), s.KID[:])
	b = appendHead(appendInt(b, labelClaims), majorMap, 3)
	b = appendText(appendInt(b, claimIss), s.Issuer)
	b = appendText(appendInt(b, claimSub), s.Subject)
	b = appendInt(appendInt(b, claimIat), s.IssuedAt)
	if s.Envelope() {
		b = appendInt(appendInt(b, labelPayloadHash), hashSHA256)
		b = appendText(appendInt(b, labelPreimage), s.ContentType)
	}
	if !s.Prev.IsZero() {
		b = appendBytes(appendInt(b, labelPrev), s.Prev[:])
	}
	if !s.Registry() {
		b = appendHead(appendInt(b, labelAfter), majorArray, 2)
		b = appendHead(b, majorUint, s.After.Size)
		b = appendBytes(b, s.After.Root[:])
	}
	if s.Envelope() {
		b = appendBytes(appendInt(b, labelSM3), s.ManifestSM3[:])
	}
	return b
}

// ParseStatement reads a registered statement strictly: exactly the labels of
// its kind, in order, in the shortest form, with an empty unprotected header.
// It keeps slices of data, which must not change afterwards. The error is a
// *FormatError. The signature is not checked.
func ParseStatement(data []byte) (*Statement, error) {
	s := new(Statement)
	if err := s.parse(data); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Statement) parse(data []byte) error {
	if len(data) == 0 {
		return &FormatError{Code: CodeEmpty, Field: "statement", Reason: "there are no bytes"}
	}
	if len(data) > MaxStatement {
		return &FormatError{Code: CodeOversize, Field: "statement", Offset: MaxStatement, Reason: fmt.Sprintf("%d bytes, at most %d are allowed", len(data), MaxStatement)}
	}
	c := &cursor{data: data}
	c.literal("statement", 0xd2, 0x84)
	s.protected = c.bytes("protected")
	unprotectedAt := c.pos
	if n := c.mapLen("unprotected"); c.err == nil && n != 0 {
		c.pos = unprotectedAt
		c.fail(CodeMalformed, "unprotected", "must be empty when a statement is registered")
	}
	s.Payload = c.bytes("payload")
	s.Signature = c.bytes("signature")
	c.end("statement")
	if c.err == nil && len(s.Signature) != SignatureSize {
		c.fail(CodeMalformed, "signature", "it has %d bytes, want %d", len(s.Signature), SignatureSize)
	}
	if c.err != nil {
		return c.err
	}
	if err := s.parseProtected(); err != nil {
		return err
	}
	s.raw = data
	return nil
}

// Bits of the labels seen, to compare with what the kind of statement needs.
const (
	sawAlg = 1 << iota
	sawContentType
	sawKID
	sawClaims
	sawHash
	sawPreimage
	sawPrev
	sawAfter
	sawSM3
)

func (s *Statement) parseProtected() error {
	c := &cursor{data: s.protected}
	saw := 0
	var last []byte
	for n := c.mapLen("protected"); n > 0 && c.err == nil; n-- {
		switch label := c.key("protected", &last); label {
		case labelAlg:
			saw |= sawAlg
			s.Algorithm = c.algorithm("protected.alg")
		case labelContentType:
			saw |= sawContentType
			s.ContentType = internContentType(c.text("protected.content-type"))
		case labelKID:
			saw |= sawKID
			s.KID = c.digest("protected.kid")
		case labelClaims:
			saw |= sawClaims
			s.parseClaims(c)
		case labelPayloadHash:
			saw |= sawHash
			if h := c.int("protected.payload-hash-alg"); c.err == nil && h != hashSHA256 {
				c.fail(CodeMalformed, "protected.payload-hash-alg", "%d, want -16 (SHA-256)", h)
			}
		case labelPreimage:
			saw |= sawPreimage
			if saw&sawContentType != 0 {
				c.fail(CodeMalformed, "protected", "labels 3 and 259 exclude each other")
			}
			s.ContentType = internContentType(c.text("protected.preimage-content-type"))
		case labelPrev:
			saw |= sawPrev
			s.Prev = c.digest("protected.prev")
			if c.err == nil && s.Prev.IsZero() {
				c.fail(CodeMalformed, "protected.prev", "all zero: leave the label out instead")
			}
		case labelAfter:
			saw |= sawAfter
			if n := c.array("protected.after"); c.err == nil && n != 2 {
				c.fail(CodeMalformed, "protected.after", "an array of %d, want [size, root]", n)
			}
			s.After.Size = c.size("protected.after.size")
			s.After.Root = c.digest("protected.after.root")
		case labelSM3:
			saw |= sawSM3
			s.ManifestSM3 = c.digest("protected.sm3")
		default:
			c.fail(CodeMalformed, "protected", "label %d is unknown", label)
		}
	}
	c.end("protected")
	if c.err != nil {
		return c.err
	}
	return s.checkKind(c, saw)
}

func (s *Statement) parseClaims(c *cursor) {
	if n := c.mapLen("protected.claims"); c.err == nil && n != 3 {
		c.fail(CodeMalformed, "protected.claims", "%d claims, want iss, sub and iat", n)
	}
	var last []byte
	for _, want := range [3]int64{claimIss, claimSub, claimIat} {
		if k := c.key("protected.claims", &last); c.err == nil && k != want {
			c.fail(CodeMalformed, "protected.claims", "claim %d where %d belongs", k, want)
		}
		switch want {
		case claimIss:
			s.Issuer = c.id("protected.claims.iss")
		case claimSub:
			if sub := c.text("protected.claims.sub"); string(sub) == SubjectNewTrail {
				s.Subject = SubjectNewTrail
			} else {
				s.Subject = string(sub)
			}
		case claimIat:
			s.IssuedAt = c.seconds("protected.claims.iat")
		}
	}
}

// maxTime is the end of the year 9999, the last that RFC 3339 can write. It
// also catches clients that send milliseconds.
const maxTime = 253402300799

// checkKind compares the labels seen with those the content type needs.
func (s *Statement) checkKind(c *cursor, saw int) error {
	need := sawAlg | sawKID | sawClaims
	if missing := need &^ saw; missing != 0 {
		c.fail(CodeMalformed, "protected", "label %s is missing", labelNames(missing))
		return c.err
	}
	switch s.ContentType {
	case TypeDeposit:
		need |= sawHash | sawPreimage | sawAfter | sawSM3
	case TypeAuthorisation:
		need |= sawContentType | sawAfter
	case TypeEnrolment, TypeRevocation, TypePasskey, TypeCertificate, TypeKeyChange:
		need |= sawContentType
	default:
		switch {
		case saw&(sawContentType|sawPreimage) == 0:
			c.fail(CodeMalformed, "protected", "label 3 (content type) or 259 (preimage content type) is missing")
		case saw&sawPreimage != 0:
			c.fail(CodeMalformed, "protected.preimage-content-type", "%q is not a kind of statement", s.ContentType)
		default:
			c.fail(CodeMalformed, "protected.content-type", "%q is not a kind of statement", s.ContentType)
		}
		return c.err
	}
	switch {
	case s.Registry() && s.Subject != SubjectRegistry, !s.Registry() && !namesTrail(s.Subject):
		c.fail(CodeMalformed, "protected.claims.sub", "%q does not fit the content type: want %q, \"trail:\" and 64 lower-case hexadecimal digits, or %q for the registry", s.Subject, SubjectNewTrail, SubjectRegistry)
	case s.ContentType == TypeAuthorisation && s.Subject == SubjectNewTrail:
		c.fail(CodeMalformed, "protected.claims.sub", "an authorisation continues a trail, it does not open one")
	}
	if !s.Registry() && s.Subject != SubjectNewTrail {
		need |= sawPrev
	}
	if missing := need &^ saw; missing != 0 {
		c.fail(CodeMalformed, "protected", "label %s is missing", labelNames(missing))
	}
	if extra := saw &^ need; extra != 0 {
		c.fail(CodeMalformed, "protected", "label %s does not belong to this kind of statement", labelNames(extra))
	}
	if c.err == nil && s.Envelope() && len(s.Payload) != 32 {
		c.fail(CodeMalformed, "payload", "it has %d bytes, want the 32 of the manifest's SHA-256", len(s.Payload))
	}
	if c.err == nil && !s.Envelope() {
		if err := checkContent(s.ContentType, s.Payload); err != nil {
			var f *FormatError
			if errors.As(err, &f) {
				return f
			}
			return err
		}
	}
	if c.err != nil {
		return c.err
	}
	return nil
}

// internContentType saves an allocation a statement for the known types.
func internContentType(t []byte) string {
	for _, known := range [...]string{TypeDeposit, TypeAuthorisation, TypeEnrolment, TypeRevocation, TypePasskey, TypeCertificate, TypeKeyChange} {
		if string(t) == known {
			return known
		}
	}
	return string(t)
}

func labelNames(bits int) string {
	names := [...]string{"1 (alg)", "3 (content type)", "4 (kid)", "15 (CWT claims)", "258 (payload hash)", "259 (preimage content type)", "-70001 (prev)", "-70002 (after)", "-70003 (sm3)"}
	for i, name := range names {
		if bits&(1<<i) != 0 {
			return name
		}
	}
	return "?"
}

// validID reports whether s can name a member or an institution.
func validID(s string) bool {
	if len(s) == 0 || len(s) > 64 {
		return false
	}
	for i := 0; i < len(s); i++ {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '.' && c != ':' {
			return false
		}
	}
	return true
}
