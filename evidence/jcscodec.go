package evidence

import (
	"bytes"
	"encoding"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"unicode/utf8"
)

// MarshalCanonical encodes v by its json tags in the form of Canonicalize. A
// string that is not valid UTF-8 is an error and not, as in encoding/json,
// replaced in silence.
func MarshalCanonical(v any) ([]byte, error) {
	if path, ok := findInvalidUTF8(reflect.ValueOf(v), "$", 0); ok {
		return nil, &JSONError{0, path, "invalid-utf8", "a text is not valid UTF-8"}
	}
	data, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encoding JSON: %w", err)
	}
	return Canonicalize(data)
}

// UnmarshalCanonical decodes data into v, a pointer. Beyond canonical form it
// asks that data be exactly what MarshalCanonical writes for the value: no
// unknown name, none in other capitals, none missing that has no omitempty or
// omitzero, no null and no empty value where it would be left out. So one value
// has one byte string. Errors are *JSONError.
func UnmarshalCanonical(data []byte, v any) error {
	n, err := requireCanonical(data)
	if err != nil {
		return err
	}
	t := reflect.TypeOf(v)
	if t == nil || t.Kind() != reflect.Pointer {
		return fmt.Errorf("decoding JSON needs a pointer, not %T", v)
	}
	if err := conform(n, t.Elem(), "$"); err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		at := 0
		var typ *json.UnmarshalTypeError
		if errors.As(err, &typ) {
			at = int(typ.Offset) - 1
		}
		return &JSONError{at, n.pathAt(at), "wrong-type", err.Error()}
	}
	again, err := MarshalCanonical(v)
	if err != nil {
		return err
	}
	if !bytes.Equal(again, data) {
		at := 0
		for at < len(again) && at < len(data) && again[at] == data[at] {
			at++
		}
		return &JSONError{at, n.pathAt(at), "not-canonical", "a value is not in its one form (an empty optional value is left out)"}
	}
	return nil
}

// conform compares a document with the Go type it is to be read into, for what
// encoding/json lets pass.
func conform(n *jsonNode, t reflect.Type, path string) error {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() == reflect.Interface {
		return nil
	}
	fail := func(want string) error {
		return &JSONError{n.offset, path, "wrong-type", "found " + n.describe() + " where " + want + " is expected"}
	}
	if p := reflect.PointerTo(t); p.Implements(reflect.TypeFor[json.Unmarshaler]()) {
		return nil
	} else if p.Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
		if n.kind != '"' {
			return fail("text")
		}
		v := reflect.New(t).Interface().(encoding.TextUnmarshaler)
		if err := v.UnmarshalText([]byte(n.text)); err != nil {
			return &JSONError{n.offset, path, "wrong-value", err.Error()}
		}
		return nil
	}
	switch t.Kind() {
	case reflect.Struct:
		if n.kind != '{' {
			return fail("an object")
		}
		return conformStruct(n, t, path)
	case reflect.Map:
		if n.kind != '{' {
			return fail("an object")
		}
		for i, item := range n.items {
			if err := conform(item, t.Elem(), path+n.step(i)); err != nil {
				return err
			}
		}
	case reflect.Slice, reflect.Array:
		if t.Elem().Kind() == reflect.Uint8 && t.Kind() == reflect.Slice {
			if n.kind != '"' {
				return fail("base64 text")
			}
			if raw, err := base64.StdEncoding.DecodeString(n.text); err != nil || base64.StdEncoding.EncodeToString(raw) != n.text {
				return &JSONError{n.offset, path, "wrong-value", "a value is not in base64 with padding (RFC 4648 section 4)"}
			}
			return nil
		}
		if n.kind != '[' {
			return fail("a list")
		}
		for i, item := range n.items {
			if err := conform(item, t.Elem(), path+n.step(i)); err != nil {
				return err
			}
		}
	case reflect.String:
		if n.kind != '"' {
			return fail("text")
		}
	case reflect.Bool:
		if n.kind != 't' && n.kind != 'f' {
			return fail("true or false")
		}
	default:
		if n.kind != '0' {
			return fail("an integer")
		}
	}
	return nil
}

func conformStruct(n *jsonNode, t reflect.Type, path string) error {
	fields := map[string]reflect.Type{}
	optional := map[string]bool{}
	collectFields(t, fields, optional)
	for i, name := range n.names {
		ft, ok := fields[name]
		if !ok {
			return &JSONError{n.items[i].offset, path + n.step(i), "unknown-field", "a field is not known here"}
		}
		if err := conform(n.items[i], ft, path+n.step(i)); err != nil {
			return err
		}
	}
	missing := ""
	for name := range fields {
		if !optional[name] && n.member(name) == nil && (missing == "" || name < missing) {
			missing = name
		}
	}
	if missing != "" {
		return &JSONError{n.offset, path + pathName(missing), "missing-field", "a required field is missing"}
	}
	return nil
}

func collectFields(t reflect.Type, fields map[string]reflect.Type, optional map[string]bool) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, opts, _ := strings.Cut(f.Tag.Get("json"), ",")
		ft := f.Type
		if ft.Kind() == reflect.Pointer {
			ft = ft.Elem()
		}
		switch {
		case name == "-" && opts == "":
		case f.Anonymous && name == "" && ft.Kind() == reflect.Struct:
			collectFields(ft, fields, optional)
		case !f.IsExported():
		default:
			if name == "" {
				name = f.Name
			}
			fields[name] = f.Type
			optional[name] = strings.Contains(opts, "omitempty") || strings.Contains(opts, "omitzero")
		}
	}
}

func (n *jsonNode) describe() string {
	switch n.kind {
	case '{':
		return "an object"
	case '[':
		return "a list"
	case '"':
		return "text"
	case '0':
		return "a number"
	}
	return n.text
}

// findInvalidUTF8 looks for a string that encoding/json would alter.
func findInvalidUTF8(v reflect.Value, path string, depth int) (string, bool) {
	if depth > maxJSONDepth {
		return "", false // json.Marshal or Canonicalize refuses it
	}
	switch v.Kind() {
	case reflect.String:
		return path, !utf8.ValidString(v.String())
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			return findInvalidUTF8(v.Elem(), path, depth+1)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if !f.IsExported() && !f.Anonymous {
				continue
			}
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if p, bad := findInvalidUTF8(v.Field(i), path+pathName(name), depth+1); bad {
				return p, true
			}
		}
	case reflect.Map:
		for it := v.MapRange(); it.Next(); {
			key := fmt.Sprint(it.Key())
			if p, bad := findInvalidUTF8(it.Key(), path+pathName(key), depth+1); bad {
				return p, true
			}
			if p, bad := findInvalidUTF8(it.Value(), path+pathName(key), depth+1); bad {
				return p, true
			}
		}
	case reflect.Slice, reflect.Array:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return "", false
		}
		for i := range v.Len() {
			if p, bad := findInvalidUTF8(v.Index(i), fmt.Sprintf("%s[%d]", path, i), depth+1); bad {
				return p, true
			}
		}
	}
	return "", false
}
