package evidence

import "fmt"

// Code says why a statement was refused. The numbers are part of the rules of
// the chain: every node gives the same code, and no number is used again.
type Code uint32

// The reasons. spec/statement.md tells the order in which they are looked for,
// which is not that of the numbers.
const (
	CodeOK                Code = 0  // registered
	CodeEmpty             Code = 1  // no bytes at all
	CodeOversize          Code = 2  // longer than MaxStatement
	CodeMalformed         Code = 3  // not a statement: truncated, wrong type, missing or unknown label
	CodeNotDeterministic  Code = 4  // would be one, in another encoding
	CodeUnknownKey        Code = 5  // no member or institution has this key
	CodeRevokedKey        Code = 6  // revoked before this position
	CodeWrongAlgorithm    Code = 7  // the algorithm named is not the key's
	CodeWrongIssuer       Code = 8  // iss is not the holder of the key
	CodeBadSignature      Code = 9  // does not verify
	CodeClockAhead        Code = 10 // the signer's clock is more than ten minutes ahead of block time
	CodeUnknownCheckpoint Code = 11 // `after` names a root the log never had
	CodeNotAllowed        Code = 12 // this signer may not make this kind of statement
	CodeBadKey            Code = 13 // a key that enrolment refuses
	CodeConflict          Code = 14 // contradicts the registry: enrolled already, not enrolled
	CodeManifestMismatch  Code = 15 // a manifest sent along does not have the digest signed
	CodeRegistered        Code = 16 // already in the log: the old position stands
	CodeExpiredKey        Code = 17 // the last certificate of the key has ended
)

var codeNames = [...]string{"ok", "empty", "oversize", "malformed", "not-deterministic", "unknown-key", "revoked-key",
	"wrong-algorithm", "wrong-issuer", "bad-signature", "clock-ahead", "unknown-checkpoint", "not-allowed", "bad-key",
	"conflict", "manifest-mismatch", "already-registered", "expired-key"}

// String returns the name used in the API, in vectors and in metrics.
func (c Code) String() string {
	if int(c) < len(codeNames) {
		return codeNames[c]
	}
	return fmt.Sprintf("code-%d", uint32(c))
}

// CodeByName is the inverse of String for the codes above but CodeOK, and ok is
// false for other words.
func CodeByName(name string) (c Code, ok bool) {
	for c := CodeEmpty; int(c) < len(codeNames); c++ {
		if codeNames[c] == name {
			return c, true
		}
	}
	return 0, false
}

// FormatError says where bytes are not what the specification asks for.
type FormatError struct {
	Code   Code
	Field  string // the field's name in spec/, such as "protected.kid"
	Offset int    // byte offset in the innermost string that was being read
	Reason string
}

func (e *FormatError) Error() string {
	return fmt.Sprintf("%s: %s at byte %d: %s", e.Code, e.Field, e.Offset, e.Reason)
}
