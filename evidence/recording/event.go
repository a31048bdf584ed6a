package recording

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/zhenglian/zhenglian/evidence"
)

// Limits of an event.
const (
	// MaxEvent is the size in bytes of the largest event. The common one has 500;
	// a second of video frames has 30 digests of 64 digits, a console line is cut
	// at MaxText. It is written with one fsync and hashed at every step.
	MaxEvent = 64 << 10
	// MaxEvents bounds one session: eight hours at the 30 events a second of a
	// busy page are under a million.
	MaxEvents = 1 << 20
	// MaxData is the number of fields in an event's data, MaxList of elements in
	// a list: more than the certificates, answers or frames of any one event.
	MaxData = 32
	MaxList = 512
	// MaxText is the length of a text in bytes; addresses up to 8 KiB are common
	// with tracking parameters, longer texts are blobs.
	MaxText = 16 << 10
	// MaxBlobs is the number of blobs of one event.
	MaxBlobs = 64

	maxInteger = 1<<53 - 1 // RFC 7493 §2.2
)

// timeForm: RFC 3339 in UTC, always three digits of milliseconds.
const timeForm = "2006-01-02T15:04:05.000Z"

// Event is one fact of a session, linked to the one before. spec/recording.md,
// part 1.
type Event struct {
	V       int             `json:"v"`       // 1
	Session evidence.Digest `json:"session"` // 32 random bytes
	Seq     int64           `json:"seq"`     // from 0, without gaps
	Phase   evidence.Phase  `json:"phase"`   // never goes back
	Type    string          `json:"type"`    // one of Types, or env. and a word
	At      string          `json:"at"`      // the recorder's clock: 2026-11-22T15:05:38.123Z
	Mono    int64           `json:"mono"`    // microseconds since session.open on a clock that is never set
	Prev    evidence.Digest `json:"prev"`    // digest of the event before; zeros in the first
	Data    Data            `json:"data"`
	Blobs   []Blob          `json:"blobs"`
}

// Data is what an event says: texts, integers (int64), bools, and lists of texts
// or of integers. There are no floats and no objects in it.
type Data map[string]any

// Blob names bytes that belong to an event, by digest. Where they are found in a
// package is in spec/recording.md, part 5.
type Blob struct {
	Role   string          `json:"role"` // what it is to the event, such as response.body
	SHA256 evidence.Digest `json:"sha256"`
	Size   int64           `json:"size"`  // bytes
	Media  string          `json:"media"` // type/subtype, lower case, no parameters
}

// EventError says which rule of spec/recording.md an event breaks.
type EventError struct {
	Seq    int64  // number of the event in the log, from 0, by counting
	Code   string // stable word for programs and vectors, such as "gap"
	Field  string // JSON path, where there is one
	Reason string // one sentence
	err    error
}

func (e *EventError) Error() string {
	if e.Field != "" {
		return fmt.Sprintf("event %d, %s: %s", e.Seq, e.Field, e.Reason)
	}
	return fmt.Sprintf("event %d: %s", e.Seq, e.Reason)
}

// Unwrap returns the *evidence.JSONError underneath, if there is one.
func (e *EventError) Unwrap() error { return e.err }

// FormatTime returns t in the form of an event's at.
func FormatTime(t time.Time) string { return t.UTC().Format(timeForm) }

// ParseTime reads an event's at.
func ParseTime(s string) (time.Time, error) {
	t, err := time.Parse(timeForm, s)
	if err != nil || t.Format(timeForm) != s {
		return time.Time{}, fmt.Errorf("%.40q is no time such as 2026-11-22T15:05:38.123Z", s)
	}
	return t, nil
}

// Encode validates e and returns its canonical bytes, a line of the log without
// its end. Errors are *EventError.
func (e *Event) Encode() ([]byte, error) {
	full := *e
	if full.Data == nil {
		full.Data = Data{}
	}
	if full.Blobs == nil {
		full.Blobs = []Blob{}
	}
	if err := full.Validate(); err != nil {
		return nil, err
	}
	data, err := evidence.MarshalCanonical(&full)
	if err != nil {
		return nil, &EventError{e.Seq, "form", "", err.Error(), err}
	}
	if len(data) > MaxEvent {
		return nil, tooLarge(e.Seq, len(data))
	}
	return data, nil
}

func tooLarge(seq int64, size int) error {
	return &EventError{seq, "too-large", "", fmt.Sprintf("the event has %d bytes, more than %d: put long texts into blobs", size, MaxEvent), nil}
}

// ParseEvent reads an event from its canonical bytes. Its digest is SHA-256 over
// those. Errors are *EventError.
func ParseEvent(data []byte) (*Event, error) {
	if len(data) > MaxEvent {
		return nil, tooLarge(0, len(data))
	}
	e := new(Event)
	if err := evidence.UnmarshalCanonical(data, e); err != nil {
		return nil, &EventError{e.Seq, "form", "", err.Error(), err}
	}
	e.Data.integers()
	if err := e.Validate(); err != nil {
		return nil, err
	}
	return e, nil
}

// integers turns what encoding/json reads into any into what Data holds. All of
// them are integers within ±(2^53-1), which a float64 keeps.
func (d Data) integers() {
	for name, v := range d {
		switch v := v.(type) {
		case float64:
			d[name] = int64(v)
		case []any:
			for i := range v {
				if f, ok := v[i].(float64); ok {
					v[i] = int64(f)
				}
			}
			d[name] = list(v)
		}
	}
}

// list gives a list its type: []string or []int64. A mixed one stays as it is
// and is refused.
func list(v []any) any {
	texts, numbers := []string{}, []int64{}
	for _, x := range v {
		switch x := x.(type) {
		case string:
			texts = append(texts, x)
		case int64:
			numbers = append(numbers, x)
		}
	}
	switch len(v) {
	case len(texts):
		return texts
	case len(numbers):
		return numbers
	}
	return v
}

// Text, Int, Bool, Texts and Ints return a field, or the zero value when it is
// not there.
func (d Data) Text(name string) string { v, _ := d[name].(string); return v }

// Int returns an integer field.
func (d Data) Int(name string) int64 { v, _ := d[name].(int64); return v }

// Bool returns a field that is true or false.
func (d Data) Bool(name string) bool { v, _ := d[name].(bool); return v }

// Texts returns a list of texts.
func (d Data) Texts(name string) []string { v, _ := d[name].([]string); return v }

// Ints returns a list of integers; an empty list is one of texts.
func (d Data) Ints(name string) []int64 { v, _ := d[name].([]int64); return v }

// Has reports whether the field is there.
func (d Data) Has(name string) bool { _, ok := d[name]; return ok }

// Blob returns the event's blob with this role.
func (e *Event) Blob(role string) (Blob, bool) {
	for _, b := range e.Blobs {
		if b.Role == role {
			return b, true
		}
	}
	return Blob{}, false
}

// Validate checks every field. Errors are *EventError.
func (e *Event) Validate() error {
	fail := func(code, field, reason string, args ...any) error {
		return &EventError{e.Seq, code, field, fmt.Sprintf(reason, args...), nil}
	}
	switch {
	case e.V != 1:
		return fail("version", "$.v", "version %d is not known, only 1 is", e.V)
	case e.Session.IsZero():
		return fail("session", "$.session", "the session's id is all zeros")
	case e.Seq < 0 || e.Seq >= MaxEvents:
		return fail("range", "$.seq", "%d is not 0 to %d", e.Seq, MaxEvents-1)
	case phaseRank(e.Phase) == 0:
		return fail("phase", "$.phase", "%.20q is none of before, during, after", e.Phase)
	case e.Mono < 0 || e.Mono > maxInteger:
		return fail("range", "$.mono", "%d is no number of microseconds", e.Mono)
	case (e.Seq == 0) != e.Prev.IsZero():
		return fail("link", "$.prev", "zeros stand in the first event and in no other")
	case (e.Seq == 0) != (e.Type == TypeOpen):
		return fail("type", "$.type", "session.open is the first event and no other")
	}
	if _, err := ParseTime(e.At); err != nil {
		return fail("time", "$.at", "%v", err)
	}
	if len(e.Data) > MaxData {
		return fail("too-many", "$.data", "%d fields, more than %d", len(e.Data), MaxData)
	}
	for _, name := range slices.Sorted(maps.Keys(e.Data)) {
		if !isWord(name, 32) {
			return fail("name", "$.data", "%.40q is no name of a field: 1 to 32 of a-z, 0-9 and -", name)
		}
		if reason := checkValue(e.Data[name]); reason != "" {
			return fail("value", "$.data."+name, "%s", reason)
		}
	}
	if len(e.Blobs) > MaxBlobs {
		return fail("too-many", "$.blobs", "%d blobs, more than %d", len(e.Blobs), MaxBlobs)
	}
	for i, b := range e.Blobs {
		path := fmt.Sprintf("$.blobs[%d]", i)
		switch {
		case !isRole(b.Role):
			return fail("name", path+".role", "%.40q is no role: up to three words of a-z, 0-9 and - with dots between", b.Role)
		case b.SHA256.IsZero():
			return fail("value", path+".sha256", "the digest is all zeros")
		case b.Size < 0 || b.Size > maxInteger:
			return fail("range", path+".size", "%d is no size", b.Size)
		case !isMedia(b.Media):
			return fail("value", path+".media", "%.60q is no media type in lower case without parameters", b.Media)
		}
	}
	return e.checkType()
}

func phaseRank(p evidence.Phase) int {
	return 1 + slices.Index([]evidence.Phase{evidence.PhaseBefore, evidence.PhaseDuring, evidence.PhaseAfter}, p)
}

func checkValue(v any) string {
	switch v := v.(type) {
	case bool:
		return ""
	case int64:
		if v > maxInteger || v < -maxInteger {
			return "an integer is beyond ±(2^53-1)"
		}
		return ""
	case string:
		return checkText(v)
	case []string:
		if len(v) > MaxList {
			return fmt.Sprintf("%d elements, more than %d", len(v), MaxList)
		}
		for _, s := range v {
			if why := checkText(s); why != "" {
				return why
			}
		}
		return ""
	case []int64:
		if len(v) > MaxList {
			return fmt.Sprintf("%d elements, more than %d", len(v), MaxList)
		}
		for _, n := range v {
			if n > maxInteger || n < -maxInteger {
				return "an integer is beyond ±(2^53-1)"
			}
		}
		if len(v) == 0 {
			return "an empty list is one of texts"
		}
		return ""
	}
	return fmt.Sprintf("a %T is no text, integer, bool, list of texts or list of integers", v)
}

func checkText(s string) string {
	switch {
	case len(s) > MaxText:
		return fmt.Sprintf("a text has %d bytes, more than %d: make it a blob", len(s), MaxText)
	case !utf8.ValidString(s):
		return "a text is not valid UTF-8"
	}
	return ""
}

// isWord: a to z, digits and hyphens, from a letter.
func isWord(s string, limit int) bool {
	if s == "" || len(s) > limit || s[0] < 'a' || s[0] > 'z' {
		return false
	}
	return !strings.ContainsFunc(s, func(c rune) bool { return !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-') })
}

// isRole: one to three words with dots between.
func isRole(s string) bool {
	words := strings.Split(s, ".")
	return len(words) <= 3 && !slices.ContainsFunc(words, func(w string) bool { return !isWord(w, 32) })
}

// isMedia: RFC 6838 §4.2 restricted names.
func isMedia(s string) bool {
	major, minor, ok := strings.Cut(s, "/")
	for _, part := range []string{major, minor} {
		ok = ok && part != "" && len(part) <= 127 && !strings.ContainsFunc(part, func(c rune) bool {
			return !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || strings.ContainsRune("!#$&-^_.+", c))
		})
	}
	return ok
}
