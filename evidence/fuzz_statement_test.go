package evidence

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// The fuzz targets of every reader of foreign bytes here. What a reader accepts
// must be the one encoding of the fields it returns; what it refuses must come
// with a code, a field and a reason.

// addVectors seeds a target with the bytes of vector files.
func addVectors(f *testing.F, field string, paths ...string) {
	f.Helper()
	for _, path := range paths {
		data, err := os.ReadFile(filepath.Join("..", "spec", "vectors", filepath.FromSlash(path)))
		if err != nil {
			f.Fatal(err)
		}
		var vectors []map[string]json.RawMessage
		if err := json.Unmarshal(data, &vectors); err != nil {
			f.Fatal(err)
		}
		for _, v := range vectors {
			var s string
			if err := json.Unmarshal(v[field], &s); err != nil {
				f.Fatal(err)
			}
			f.Add(unhex(f, s))
		}
	}
}

func wantFormatError(t *testing.T, err error) {
	t.Helper()
	var e *FormatError
	if !errors.As(err, &e) {
		t.Fatalf("error %v is no FormatError", err)
	}
	if e.Code == CodeOK || e.Field == "" || e.Reason == "" || e.Offset < 0 {
		t.Fatalf("error %+v says too little", e)
	}
}

func FuzzParseStatement(f *testing.F) {
	addVectors(f, "bytes", "statement/valid.json", "statement/invalid.json")
	f.Fuzz(func(t *testing.T, data []byte) {
		before := bytes.Clone(data)
		s, err := ParseStatement(data)
		if !bytes.Equal(before, data) {
			t.Fatal("the reader changed its input")
		}
		if err != nil {
			wantFormatError(t, err)
			return
		}
		if got := reencode(s); !bytes.Equal(got, data) {
			t.Fatalf("accepted %x\nencodes  %x", data, got)
		}
		if len(s.ToBeSigned()) > len(data) {
			t.Fatal("the Sig_structure is longer than the statement")
		}
		if trail, ok := s.Trail(); ok == s.Registry() || ok && s.Subject != SubjectNewTrail && TrailSubject(trail) != s.Subject {
			t.Fatalf("trail %s %v of %q", trail, ok, s.Subject)
		}
	})
}

func FuzzParseReceipt(f *testing.F) {
	addVectors(f, "bytes", "receipt/valid.json", "receipt/invalid.json")
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := ParseReceipt(data)
		if err != nil {
			wantFormatError(t, err)
			return
		}
		if !bytes.Equal(reencodeRootHeader(r.RootSignature), r.Protected) {
			t.Fatalf("accepted header %x", r.Protected)
		}
		if got := r.Receipt(r.LeafIndex, r.Path); !bytes.Equal(got, data) {
			t.Fatalf("accepted %x\nencodes  %x", data, got)
		}
		if _, err := r.Root(Digest{}); err == nil && len(r.Path) > 63 {
			t.Fatalf("a path of %d in a tree of %d", len(r.Path), r.Size)
		}
	})
}

func FuzzParseTrailHead(f *testing.F) {
	addVectors(f, "bytes", "trailhead/valid.json", "trailhead/invalid.json")
	f.Fuzz(func(t *testing.T, data []byte) {
		h, err := ParseTrailHead(data)
		if err != nil {
			wantFormatError(t, err)
			return
		}
		again := *h
		got, err := again.Sign(recorded{h.alg, h.KID, h.signature})
		if err != nil || !bytes.Equal(got, data) {
			t.Fatalf("accepted %x\nencodes  %x (%v)", data, got, err)
		}
	})
}

// recorded is a signer that repeats a signature.
type recorded struct {
	alg Algorithm
	kid Digest
	sig []byte
}

func (r recorded) Public() *PublicKey          { return &PublicKey{alg: r.alg, kid: r.kid} }
func (r recorded) Sign([]byte) ([]byte, error) { return r.sig, nil }

func FuzzParseCheckpoint(f *testing.F) {
	for _, file := range []struct{ path, field string }{{"checkpoint/valid.json", "text"}} {
		data, err := os.ReadFile(filepath.Join("..", "spec", "vectors", filepath.FromSlash(file.path)))
		if err != nil {
			f.Fatal(err)
		}
		var vectors []struct{ Text string }
		if err := json.Unmarshal(data, &vectors); err != nil {
			f.Fatal(err)
		}
		for _, v := range vectors {
			f.Add([]byte(v.Text))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := ParseCheckpoint(data)
		if err != nil {
			wantFormatError(t, err)
			return
		}
		if got := c.Encode(); !bytes.Equal(got, data) {
			t.Fatalf("accepted %q\nencodes  %q", data, got)
		}
		if !bytes.HasPrefix(data, []byte(c.Body()+"\n")) {
			t.Fatalf("the body %q does not begin %q", c.Body(), data)
		}
	})
}

func FuzzParsePublicKey(f *testing.F) {
	addVectors(f, "der", "key/valid.json", "key/invalid.json")
	f.Fuzz(func(t *testing.T, der []byte) {
		k, err := ParsePublicKey(der)
		if err != nil {
			if k != nil {
				t.Fatal("an error with a key")
			}
			return
		}
		if !bytes.Equal(k.DER(), der) || k.KID() != SumSHA256(der) || !bytes.HasSuffix(der, k.Raw()) {
			t.Fatalf("key %x of %x", k.DER(), der)
		}
		// No key that is accepted takes the signatures that a small-order key would.
		if k.Algorithm() == EdDSA && k.Verify([]byte("m"), append([]byte{1}, make([]byte, 63)...)) == nil {
			t.Fatalf("the key %x signs everything", der)
		}
		if k.Verify(nil, make([]byte, SignatureSize)) == nil {
			t.Fatalf("the key %x takes a signature of zeros", der)
		}
	})
}

func FuzzParseContents(f *testing.F) {
	addVectors(f, "bytes", "registry/contents.json")
	f.Fuzz(func(t *testing.T, data []byte) {
		type encoder interface{ Encode() []byte }
		check := func(v encoder, err error) {
			if err != nil {
				wantFormatError(t, err)
			} else if got := v.Encode(); !bytes.Equal(got, data) {
				t.Fatalf("accepted %x\nencodes  %x", data, got)
			}
		}
		e, err := ParseEnrolment(data)
		check(e, err)
		r, err := ParseRevocation(data)
		check(r, err)
		a, err := ParseAuthorisation(data)
		check(a, err)
		p, err := ParsePasskey(data)
		check(p, err)
		c, err := ParseCertificate(data)
		check(c, err)
	})
}
