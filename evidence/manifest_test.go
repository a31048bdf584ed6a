package evidence

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestManifestVectors(t *testing.T) {
	for _, v := range readDocumentVectors[struct {
		Name, Manifest string
		SHA256, SM3    Digest
	}](t, "manifest/valid.json") {
		t.Run(v.Name, func(t *testing.T) {
			data := []byte(v.Manifest)
			m, err := ParseManifest(data)
			if err != nil {
				t.Fatal(err)
			}
			if again, err := m.Encode(); err != nil || !bytes.Equal(again, data) {
				t.Errorf("encoded again: %s, %v", again, err)
			}
			if SumSHA256(data) != v.SHA256 || SumSM3(data) != v.SM3 {
				t.Error("digests differ")
			}
		})
	}
	for _, v := range readDocumentVectors[struct{ Name, Manifest, Reason, Field string }](t, "manifest/invalid.json") {
		t.Run(v.Name, func(t *testing.T) {
			_, err := ParseManifest([]byte(v.Manifest))
			wantFieldError(t, err, v.Reason, v.Field)
		})
	}
	for _, v := range readDocumentVectors[struct {
		Salt       Salt
		Fields     []string
		Commitment Digest
	}](t, "manifest/commitments.json") {
		if got := Commit(v.Salt, v.Fields...); got != v.Commitment {
			t.Errorf("%q: got %s, want %s", v.Fields, got, v.Commitment)
		}
	}
}

func testManifest(t testing.TB) *Manifest {
	t.Helper()
	salt, err := NewSalt(bytes.NewReader(bytes.Repeat([]byte{7}, 32)))
	if err != nil {
		t.Fatal(err)
	}
	return &Manifest{V: 1, Salt: salt, Phase: PhaseDuring, Step: "download", Created: time.Unix(1772328600, 0).UTC().Format(time.RFC3339),
		Person: Person{Member: "m-1", Demo: true}}
}

func testObject(name string, content []byte) Object {
	return Object{Name: name, Size: int64(len(content)), Media: "application/octet-stream", SHA256: SumSHA256(content), SM3: SumSM3(content)}
}

func TestManifestLimits(t *testing.T) {
	m := testManifest(t)
	o := testObject("照片-0001.jpg", []byte("x"))
	o.Vault = &VaultRef{Chunks: 1, PlainRoot: o.SHA256, CipherRoot: o.SM3}
	for i := range MaxObjects {
		o.Name = fmt.Sprintf("p%05d.jpg", i)
		m.Objects = append(m.Objects, o)
	}
	data, err := m.Encode()
	if err != nil {
		t.Fatalf("%d objects with a vault: %v", MaxObjects, err)
	}
	t.Logf("%d objects with a vault: %d bytes, %d each", MaxObjects, len(data), len(data)/MaxObjects)
	if _, err := ParseManifest(data); err != nil {
		t.Error(err)
	}
	m.Objects = append(m.Objects, o)
	_, err = m.Encode()
	wantFieldError(t, err, "too-many", "$.objects")
	m.Objects = m.Objects[:MaxObjects]
	for i := range m.Objects {
		m.Objects[i].Name = strings.Repeat("n", MaxFileName)
	}
	_, err = m.Encode()
	wantFieldError(t, err, "too-large", "$")
	_, err = ParseManifest(make([]byte, MaxManifest+1))
	wantFieldError(t, err, "too-large", "$")
}

func TestManifestEncodeRefusesInvalidUTF8(t *testing.T) {
	m := testManifest(t)
	m.Step = "a\xff"
	_, err := m.Encode()
	wantFieldError(t, err, "invalid-utf8", "$.step")
	m = testManifest(t)
	m.Place.Claimed = map[string]string{"address": "\xff"}
	_, err = m.Encode()
	wantFieldError(t, err, "invalid-utf8", "$.place.claimed.address")
}

func TestNewSaltNeedsRandomBytes(t *testing.T) {
	if _, err := NewSalt(bytes.NewReader(make([]byte, 31))); err == nil {
		t.Error("a salt of 31 bytes was made")
	}
}

func FuzzParseManifest(f *testing.F) {
	for _, v := range readDocumentVectors[struct {
		Name, Manifest string
		SHA256, SM3    Digest
	}](f, "manifest/valid.json") {
		f.Add([]byte(v.Manifest))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := ParseManifest(data)
		if err != nil {
			var fe *FieldError
			if !errors.As(err, &fe) {
				t.Fatalf("not a *FieldError: %v", err)
			}
			return
		}
		if again, err := m.Encode(); err != nil || !bytes.Equal(again, data) {
			t.Fatalf("accepted %q, encodes as %q, %v", data, again, err)
		}
	})
}
