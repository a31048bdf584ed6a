package evidence

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// readDocumentVectors reads a file of spec/vectors, which documents.py wrote.
func readDocumentVectors[T any](t testing.TB, path string) []T {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "spec", "vectors", filepath.FromSlash(path)))
	if err != nil {
		t.Fatal(err)
	}
	var v []T
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&v); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	if len(v) == 0 {
		t.Fatalf("%s holds no vectors", path)
	}
	return v
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// wantFieldError checks code and field of a *FieldError.
func wantFieldError(t *testing.T, err error, code, field string) {
	t.Helper()
	var fe *FieldError
	if !errors.As(err, &fe) {
		t.Fatalf("got %v, want a *FieldError with code %s", err, code)
	}
	if fe.Code != code || fe.Field != field {
		t.Errorf("got %s at %s, want %s at %s (%v)", fe.Code, fe.Field, code, field, err)
	}
	if fe.Reason == "" {
		t.Error("the error gives no reason")
	}
}

func TestCanonicalizeVectors(t *testing.T) {
	for _, v := range readDocumentVectors[struct{ Name, Input, Output string }](t, "jcs/valid.json") {
		t.Run(v.Name, func(t *testing.T) {
			got, err := Canonicalize([]byte(v.Input))
			if err != nil || string(got) != v.Output {
				t.Errorf("got %q, %v, want %q", got, err, v.Output)
			}
			var free any
			if err := UnmarshalCanonical([]byte(v.Output), &free); err != nil {
				t.Errorf("the output is refused as input: %v", err)
			}
		})
	}
	for _, v := range readDocumentVectors[struct {
		Name, Input, Reason string
		InputHex            string `json:"input_hex"`
	}](t, "jcs/invalid.json") {
		t.Run(v.Name, func(t *testing.T) {
			in := []byte(v.Input)
			if v.InputHex != "" {
				in = unhex(t, v.InputHex)
			}
			_, err := Canonicalize(in)
			var je *JSONError
			if !errors.As(err, &je) || je.Code != v.Reason {
				t.Errorf("got %v, want code %s", err, v.Reason)
			}
		})
	}
	for _, v := range readDocumentVectors[struct{ Name, Input string }](t, "jcs/not-canonical.json") {
		t.Run(v.Name, func(t *testing.T) {
			var free any
			err := UnmarshalCanonical([]byte(v.Input), &free)
			var je *JSONError
			if !errors.As(err, &je) || je.Code != "not-canonical" {
				t.Errorf("got %v, want not-canonical", err)
			}
		})
	}
}

func TestJSONErrorPlace(t *testing.T) {
	for _, c := range []struct {
		in, path string
		offset   int
	}{
		{`{"a":[1,{"b":1.5}]}`, "$.a[1].b", 13},
		{`{"a":{"x y":[0,01]}}`, `$.a["x y"][1]`, 15},
		{`{"a":1,"b":2,"a":3}`, "$.a", 13},
		{`{"a":1`, "$", 6},
	} {
		_, err := Canonicalize([]byte(c.in))
		var je *JSONError
		if !errors.As(err, &je) || je.Path != c.path || je.Offset != c.offset {
			t.Errorf("%s: got %v, want byte %d at %s", c.in, err, c.offset, c.path)
		}
	}
}

func TestTooManyValues(t *testing.T) {
	list := []byte("[" + strings.Repeat("0,", maxJSONValues-2) + "0]")
	if _, err := Canonicalize(list); err != nil {
		t.Errorf("%d values: %v", maxJSONValues, err)
	}
	_, err := Canonicalize(append(list[:len(list)-1], ",0]"...))
	var je *JSONError
	if !errors.As(err, &je) || je.Code != "too-many" {
		t.Errorf("one value more: %v", err)
	}
}

func TestMarshalCanonicalRefusesInvalidUTF8(t *testing.T) {
	type inner struct {
		Note string `json:"note"`
	}
	for path, v := range map[string]any{
		"$.note":    inner{"\xff"},
		"$[1].note": []inner{{"a"}, {"\xc0\xaf"}},
		`$["\xff"]`: map[string]string{"\xff": "a"},
		"$.k":       map[string]any{"k": "\xed\xa0\x80"},
	} {
		_, err := MarshalCanonical(v)
		var je *JSONError
		if !errors.As(err, &je) || je.Code != "invalid-utf8" || je.Path != path {
			t.Errorf("%q: got %v, want invalid-utf8 at %s", v, err, path)
		}
	}
	if _, err := MarshalCanonical(1.5); err == nil {
		t.Error("a fraction was written")
	}
}

func TestUnmarshalCanonicalIsExact(t *testing.T) {
	type doc struct {
		A int               `json:"a"`
		B string            `json:"b,omitempty"`
		D Digest            `json:"d,omitzero"`
		L []int             `json:"l"`
		M map[string]string `json:"m,omitempty"`
		P *int              `json:"p,omitempty"`
		X []byte            `json:"x,omitempty"`
	}
	var d doc
	if err := UnmarshalCanonical([]byte(`{"a":1,"l":[]}`), &d); err != nil {
		t.Fatal(err)
	}
	for in, code := range map[string]string{
		`{"A":1,"l":[]}`:                      "unknown-field",
		`{"l":[]}`:                            "missing-field",
		`{"a":1}`:                             "missing-field",
		`{"a":null,"l":[]}`:                   "wrong-type",
		`{"a":1,"l":null}`:                    "wrong-type",
		`{"a":1,"l":[null]}`:                  "wrong-type",
		`{"a":1,"b":"","l":[]}`:               "not-canonical",
		`{"a":1,"b":null,"l":[]}`:             "wrong-type",
		`{"a":1,"l":[],"m":{}}`:               "not-canonical",
		`{"a":1,"l":[],"m":{"k":null}}`:       "wrong-type",
		`{"a":1,"l":[],"p":null}`:             "wrong-type",
		`{"a":1,"l":[],"x":"aGk"}`:            "wrong-value",
		`{"a":1,"l":[],"x":"aGl="}`:           "wrong-value",
		`{"a":1,"l":[],"x":"aG\nk="}`:         "wrong-value",
		`{"a":9007199254740991,"l":[],"z":1}`: "unknown-field",
		`[]`:                                  "wrong-type",
	} {
		var d doc
		err := UnmarshalCanonical([]byte(in), &d)
		var je *JSONError
		if !errors.As(err, &je) || je.Code != code {
			t.Errorf("%s: got %v, want %s", in, err, code)
		}
	}
}

func FuzzCanonicalize(f *testing.F) {
	for _, v := range readDocumentVectors[struct{ Name, Input, Output string }](f, "jcs/valid.json") {
		f.Add([]byte(v.Input))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := Canonicalize(data)
		if err != nil {
			var je *JSONError
			if !errors.As(err, &je) || je.Offset < 0 || je.Offset > len(data) {
				t.Fatalf("error without a place: %v", err)
			}
			return
		}
		if !json.Valid(got) || !json.Valid(data) {
			t.Fatalf("accepted what encoding/json refuses: %q → %q", data, got)
		}
		again, err := Canonicalize(got)
		if err != nil || !bytes.Equal(again, got) {
			t.Fatalf("not a fixed point: %q → %q, %v", got, again, err)
		}
		var a, b any
		if json.Unmarshal(data, &a) != nil || json.Unmarshal(got, &b) != nil {
			t.Fatal("lost a value")
		}
		ja, _ := json.Marshal(a)
		jb, _ := json.Marshal(b)
		if !bytes.Equal(ja, jb) {
			t.Fatalf("changed the value: %q → %q", data, got)
		}
	})
}
