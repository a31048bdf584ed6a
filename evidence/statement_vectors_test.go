package evidence

import (
	"bytes"
	"crypto"
	"errors"
	"testing"

	"github.com/veraison/go-cose"
)

// The vectors of spec/vectors/statement, which spec/vectorgen writes with an
// encoder of its own.

type checkpointVector struct {
	Size uint64 `json:"size"`
	Root string `json:"root"`
}

type statementVector struct {
	Name   string `json:"name"`
	Key    string `json:"key"`
	Bytes  string `json:"bytes"`
	Fields struct {
		Alg         Algorithm         `json:"alg"`
		KID         Digest            `json:"kid"`
		Iss         string            `json:"iss"`
		Sub         string            `json:"sub"`
		Iat         int64             `json:"iat"`
		ContentType string            `json:"content_type"`
		Payload     string            `json:"payload"`
		Prev        string            `json:"prev"`
		After       *checkpointVector `json:"after"`
		SM3         string            `json:"sm3"`
		Signature   string            `json:"signature"`
	} `json:"fields"`
	TBS    string `json:"to_be_signed"`
	Digest Digest `json:"digest"`
	ID     Digest `json:"id"`
	Trail  string `json:"trail"`
}

type invalidVector struct {
	Name  string `json:"name"`
	Bytes string `json:"bytes"`
	Code  string `json:"code"`
	Field string `json:"field"`
}

// wantRefused checks that err gives exactly this reason.
func wantRefused(t *testing.T, err error, code, field string) {
	t.Helper()
	var f *FormatError
	if !errors.As(err, &f) {
		t.Fatalf("error %v, want %s at %s", err, code, field)
	}
	if f.Code.String() != code || f.Field != field {
		t.Fatalf("error %q, want %s at %s", err, code, field)
	}
}

func digestOrZero(t testing.TB, s string) (d Digest) {
	t.Helper()
	if s != "" {
		copy(d[:], unhex(t, s))
	}
	return d
}

// vectorKeys returns the keys of spec/vectors/key by name.
func vectorKeys(t testing.TB) map[string]*PublicKey {
	t.Helper()
	keys := map[string]*PublicKey{}
	for _, v := range readDocumentVectors[keyVector](t, "key/valid.json") {
		k, err := ParsePublicKey(unhex(t, v.DER))
		if err != nil {
			t.Fatalf("%s: %v", v.Name, err)
		}
		keys[v.Name] = k
	}
	return keys
}

func TestStatementVectors(t *testing.T) {
	keys := vectorKeys(t)
	for _, v := range readDocumentVectors[statementVector](t, "statement/valid.json") {
		t.Run(v.Name, func(t *testing.T) {
			data := unhex(t, v.Bytes)
			s, err := ParseStatement(data)
			if err != nil {
				t.Fatal(err)
			}
			want := &Statement{Algorithm: v.Fields.Alg, KID: v.Fields.KID, Issuer: v.Fields.Iss, Subject: v.Fields.Sub, IssuedAt: v.Fields.Iat,
				ContentType: v.Fields.ContentType, Payload: unhex(t, v.Fields.Payload), Prev: digestOrZero(t, v.Fields.Prev),
				ManifestSM3: digestOrZero(t, v.Fields.SM3), Signature: unhex(t, v.Fields.Signature)}
			if a := v.Fields.After; a != nil {
				want.After = Checkpoint{a.Size, digestOrZero(t, a.Root)}
			}
			sameStatement(t, s, want)
			if got := reencode(s); !bytes.Equal(got, data) {
				t.Errorf("the fields encode to %x", got)
			}
			if got := s.ToBeSigned(); !bytes.Equal(got, unhex(t, v.TBS)) {
				t.Errorf("to be signed %x", got)
			}
			if s.Digest() != v.Digest || s.ID() != v.ID {
				t.Errorf("digest %s, ID %s", s.Digest(), s.ID())
			}
			if trail, ok := s.Trail(); ok != (v.Trail != "") || trail != digestOrZero(t, v.Trail) {
				t.Errorf("trail %s %v", trail, ok)
			}
			if err := keys[v.Key].VerifyStrict(s.ToBeSigned(), s.Signature); err != nil {
				t.Error(err)
			}
		})
	}
}

func sameStatement(t testing.TB, got, want *Statement) {
	t.Helper()
	if got.Algorithm != want.Algorithm || got.KID != want.KID || got.Issuer != want.Issuer || got.Subject != want.Subject || got.IssuedAt != want.IssuedAt ||
		got.ContentType != want.ContentType || !bytes.Equal(got.Payload, want.Payload) || got.Prev != want.Prev || got.After != want.After ||
		got.ManifestSM3 != want.ManifestSM3 || want.Signature != nil && !bytes.Equal(got.Signature, want.Signature) {
		t.Fatalf("fields %+v\nwant   %+v", got, want)
	}
}

// reencode writes a statement from its exported fields alone.
func reencode(s *Statement) []byte {
	bare := Statement{Algorithm: s.Algorithm, KID: s.KID, Issuer: s.Issuer, Subject: s.Subject, IssuedAt: s.IssuedAt, ContentType: s.ContentType,
		Payload: s.Payload, Prev: s.Prev, After: s.After, ManifestSM3: s.ManifestSM3}
	return encodeSign1(bare.encodeProtected(), nil, bare.Payload, s.Signature)
}

func TestStatementInvalidVectors(t *testing.T) {
	for _, v := range readDocumentVectors[invalidVector](t, "statement/invalid.json") {
		t.Run(v.Name, func(t *testing.T) {
			_, err := ParseStatement(unhex(t, v.Bytes))
			wantRefused(t, err, v.Code, v.Field)
		})
	}
}

func TestStatementSignatureVectors(t *testing.T) {
	keys := vectorKeys(t)
	for _, v := range readDocumentVectors[struct {
		Name   string `json:"name"`
		Key    string `json:"key"`
		Bytes  string `json:"bytes"`
		Valid  bool   `json:"valid"`
		Strict bool   `json:"strict"`
	}](t, "statement/signatures.json") {
		t.Run(v.Name, func(t *testing.T) {
			s, err := ParseStatement(unhex(t, v.Bytes))
			if err != nil {
				t.Fatal(err)
			}
			wantVerdict(t, keys[v.Key], s.ToBeSigned(), s.Signature, v.Valid, v.Strict)
		})
	}
}

func wantVerdict(t *testing.T, key *PublicKey, message, signature []byte, valid, strict bool) {
	t.Helper()
	for _, c := range []struct {
		rule string
		err  error
		want bool
	}{{"the rule", key.Verify(message, signature), valid}, {"the strict rule", key.VerifyStrict(message, signature), strict}} {
		if (c.err == nil) != c.want {
			t.Errorf("by %s: %v, want valid=%v", c.rule, c.err, c.want)
		}
		if c.err != nil && !errors.Is(c.err, ErrBadSignature) {
			t.Errorf("%v is not ErrBadSignature", c.err)
		}
	}
}

// TestStatementsAreCOSE reads the valid vectors with another implementation of
// COSE and lets it verify what it can.
func TestStatementsAreCOSE(t *testing.T) {
	keys := vectorKeys(t)
	for _, v := range readDocumentVectors[statementVector](t, "statement/valid.json") {
		t.Run(v.Name, func(t *testing.T) {
			var m cose.Sign1Message
			if err := m.UnmarshalCBOR(unhex(t, v.Bytes)); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(m.Payload, unhex(t, v.Fields.Payload)) {
				t.Fatalf("payload %x", m.Payload)
			}
			if v.Fields.Alg == SM2SM3 {
				return
			}
			var public crypto.PublicKey = keys[v.Key].ec
			if v.Fields.Alg == EdDSA {
				public = stdEd25519(keys[v.Key].Raw())
			}
			verifier, err := cose.NewVerifier(cose.Algorithm(v.Fields.Alg), public)
			if err != nil {
				t.Fatal(err)
			}
			if err := m.Verify(nil, verifier); err != nil {
				t.Fatal(err)
			}
		})
	}
}
