package evidence

// MemberKind says what sort of holder a member key has.
type MemberKind uint64

// The kinds of member.
const (
	KindPerson     MemberKind = 1
	KindEnterprise MemberKind = 2
	KindPlatform   MemberKind = 3
	KindService    MemberKind = 4 // a machine of an institution, such as a recorder
)

var memberKinds = [...]string{KindPerson: "person", KindEnterprise: "enterprise", KindPlatform: "platform", KindService: "service"}

// String returns the name used on the command line and in JSON.
func (k MemberKind) String() string {
	if k >= KindPerson && k <= KindService {
		return memberKinds[k]
	}
	return "unknown"
}

// ParseMemberKind is the inverse of String; ok is false for other words.
func ParseMemberKind(s string) (k MemberKind, ok bool) {
	for k := KindPerson; k <= KindService; k++ {
		if memberKinds[k] == s {
			return k, true
		}
	}
	return 0, false
}

// Enrolment is the content of a TypeEnrolment statement: a CA institution says
// that this key belongs to this member. The person behind it appears only as a
// salted commitment.
type Enrolment struct {
	Member     string // "m:" and 1 to 62 more characters of an id
	Key        *PublicKey
	Kind       MemberKind
	Assurance  uint64 // 0 unknown, 1 self-asserted, 2 document, 3 in person or live face
	Commitment Digest // salted commitment to name and ID number
	Demo       bool   // the identity is a demonstration's and never passes for a real one
}

// Encode returns the content in deterministic CBOR.
func (e *Enrolment) Encode() []byte {
	b := appendHead(nil, majorMap, 6)
	b = appendText(appendInt(b, 1), e.Member)
	b = appendBytes(appendInt(b, 2), e.Key.DER())
	b = appendInt(appendInt(b, 3), int64(e.Kind))
	b = appendInt(appendInt(b, 4), int64(e.Assurance))
	b = appendBytes(appendInt(b, 5), e.Commitment[:])
	demo := int64(0)
	if e.Demo {
		demo = 1
	}
	return appendInt(appendInt(b, 6), demo)
}

// ParseEnrolment reads the content of a TypeEnrolment statement. A key that
// enrolment refuses gives a *FormatError with CodeBadKey.
func ParseEnrolment(content []byte) (*Enrolment, error) {
	c := &cursor{data: content}
	e := new(Enrolment)
	c.fields("enrolment", 6)
	c.field("enrolment", 1)
	e.Member = c.member("enrolment.member")
	c.field("enrolment", 2)
	der := c.bytes("enrolment.key")
	c.field("enrolment", 3)
	if e.Kind = MemberKind(c.uint("enrolment.kind")); c.err == nil && (e.Kind < KindPerson || e.Kind > KindService) {
		c.fail(CodeMalformed, "enrolment.kind", "%d is not 1 to 4", e.Kind)
	}
	c.field("enrolment", 4)
	if e.Assurance = c.uint("enrolment.assurance"); e.Assurance > 3 {
		c.fail(CodeMalformed, "enrolment.assurance", "%d is not 0 to 3", e.Assurance)
	}
	c.field("enrolment", 5)
	e.Commitment = c.digest("enrolment.commitment")
	c.field("enrolment", 6)
	e.Demo = c.flag("enrolment.demo")
	c.end("enrolment")
	if c.err == nil {
		key, err := ParsePublicKey(der)
		if err != nil {
			c.fail(CodeBadKey, "enrolment.key", "%v", err)
		}
		e.Key = key
	}
	return e, c.error()
}

// Revocation is the content of a TypeRevocation statement: from its position
// in the log on, the key registers nothing.
type Revocation struct {
	KID    Digest
	Reason uint64 // CRLReason of RFC 5280 §5.3.1, 0 to 10 without 7
}

// Encode returns the content in deterministic CBOR.
func (r *Revocation) Encode() []byte {
	b := appendHead(nil, majorMap, 2)
	b = appendBytes(appendInt(b, 1), r.KID[:])
	return appendInt(appendInt(b, 2), int64(r.Reason))
}

// ParseRevocation reads the content of a TypeRevocation statement.
func ParseRevocation(content []byte) (*Revocation, error) {
	c := &cursor{data: content}
	r := new(Revocation)
	c.fields("revocation", 2)
	c.field("revocation", 1)
	r.KID = c.digest("revocation.kid")
	c.field("revocation", 2)
	if r.Reason = c.uint("revocation.reason"); r.Reason > 10 || r.Reason == 7 {
		c.fail(CodeMalformed, "revocation.reason", "%d is not a CRLReason of RFC 5280", r.Reason)
	}
	c.end("revocation")
	return r, c.error()
}

// Rights of a key in a trail that is not its own, as bits.
const (
	RightRead   = 1 // look the trail up
	RightAppend = 2 // add statements to it
)

// Authorisation is the content of a TypeAuthorisation statement: the owner of
// the trail gives another key rights in it, or takes them back (Rights 0).
type Authorisation struct {
	KID    Digest
	Rights uint64
}

// Encode returns the content in deterministic CBOR.
func (a *Authorisation) Encode() []byte {
	b := appendHead(nil, majorMap, 2)
	b = appendBytes(appendInt(b, 1), a.KID[:])
	return appendInt(appendInt(b, 2), int64(a.Rights))
}

// ParseAuthorisation reads the content of a TypeAuthorisation statement.
func ParseAuthorisation(content []byte) (*Authorisation, error) {
	c := &cursor{data: content}
	a := new(Authorisation)
	c.fields("authorisation", 2)
	c.field("authorisation", 1)
	a.KID = c.digest("authorisation.kid")
	c.field("authorisation", 2)
	if a.Rights = c.uint("authorisation.rights"); a.Rights > RightRead|RightAppend {
		c.fail(CodeMalformed, "authorisation.rights", "%d is not a sum of 1 (read) and 2 (append)", a.Rights)
	}
	c.end("authorisation")
	return a, c.error()
}

// fields and field read a map with exactly the keys 1 to n.
func (c *cursor) fields(name string, n uint64) {
	if got := c.mapLen(name); c.err == nil && got != n {
		c.fail(CodeMalformed, name, "a map of %d fields, want %d", got, n)
	}
}

func (c *cursor) field(name string, k int64) {
	if got := c.int(name); c.err == nil && got != k {
		c.fail(CodeMalformed, name, "field %d where %d belongs", got, k)
	}
}

func checkContent(contentType string, content []byte) (err error) {
	switch contentType {
	case TypeEnrolment:
		_, err = ParseEnrolment(content)
	case TypeRevocation:
		_, err = ParseRevocation(content)
	case TypeAuthorisation:
		_, err = ParseAuthorisation(content)
	case TypePasskey:
		_, err = ParsePasskey(content)
	case TypeCertificate:
		_, err = ParseCertificate(content)
	case TypeKeyChange:
		_, err = ParseKeyChange(content)
	}
	return err
}
