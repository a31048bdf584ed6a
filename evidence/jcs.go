package evidence

import "errors"

// JSONError says where a JSON text breaks the rules of spec/manifest.md part 1.
type JSONError struct {
	Offset int    // byte offset in the text, from 0
	Path   string // where in the document, such as $.objects[3].name
	Code   string // stable word for programs and vectors, such as "duplicate_name"
	Reason string // one sentence for people
}

func (e *JSONError) Error() string { return e.Reason }

var errSoon = errors.New("not written yet")

// Canonicalize returns the RFC 8785 form of a JSON text restricted to integers.
func Canonicalize(data []byte) ([]byte, error) { return nil, errSoon }

// MarshalCanonical encodes v with its json tags, in RFC 8785 form.
func MarshalCanonical(v any) ([]byte, error) { return nil, errSoon }

// UnmarshalCanonical decodes data, which must be in canonical form, into v.
func UnmarshalCanonical(data []byte, v any) error { return errSoon }
