package evidence

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"testing"
)

func stdEd25519(raw []byte) ed25519.PublicKey { return raw }

type receiptVector struct {
	Name   string `json:"name"`
	Key    string `json:"key"`
	Entry  Digest `json:"entry"`
	Root   Digest `json:"root"`
	Bytes  string `json:"bytes"`
	Fields struct {
		Alg       Algorithm `json:"alg"`
		KID       Digest    `json:"kid"`
		Iss       string    `json:"iss"`
		Sub       string    `json:"sub"`
		Iat       int64     `json:"iat"`
		Size      uint64    `json:"size"`
		Index     uint64    `json:"index"`
		Path      []Digest  `json:"path"`
		Signature string    `json:"signature"`
	} `json:"fields"`
}

func TestReceiptVectors(t *testing.T) {
	keys := vectorKeys(t)
	for _, v := range readDocumentVectors[receiptVector](t, "receipt/valid.json") {
		t.Run(v.Name, func(t *testing.T) {
			data := unhex(t, v.Bytes)
			r, err := ParseReceipt(data)
			if err != nil {
				t.Fatal(err)
			}
			f := v.Fields
			if r.Algorithm != f.Alg || r.KID != f.KID || r.Issuer != f.Iss || r.Log != f.Sub || r.IssuedAt != f.Iat || r.Size != f.Size || r.LeafIndex != f.Index ||
				!bytes.Equal(r.Signature, unhex(t, f.Signature)) {
				t.Fatalf("fields %+v", r)
			}
			if len(r.Path) != len(f.Path) {
				t.Fatalf("a path of %d, want %d", len(r.Path), len(f.Path))
			}
			for i := range f.Path {
				if r.Path[i] != f.Path[i] {
					t.Fatalf("path[%d] %s", i, r.Path[i])
				}
			}
			root, err := r.Root(v.Entry)
			if err != nil || root != v.Root {
				t.Fatalf("root %s (%v), want %s", root, err, v.Root)
			}
			if err := r.VerifyInclusion(keys[v.Key], v.Entry); err != nil {
				t.Fatal(err)
			}
			if got := r.Receipt(r.LeafIndex, r.Path); !bytes.Equal(got, data) {
				t.Fatalf("encodes to %x", got)
			}
			if got := reencodeRootHeader(r.RootSignature); !bytes.Equal(got, r.Protected) {
				t.Fatalf("the header encodes to %x", got)
			}
		})
	}
}

func TestReceiptInvalidVectors(t *testing.T) {
	for _, v := range readDocumentVectors[invalidVector](t, "receipt/invalid.json") {
		t.Run(v.Name, func(t *testing.T) {
			_, err := ParseReceipt(unhex(t, v.Bytes))
			wantRefused(t, err, v.Code, v.Field)
		})
	}
}

func TestReceiptRefusedVectors(t *testing.T) {
	keys := vectorKeys(t)
	for _, v := range readDocumentVectors[struct {
		Name   string `json:"name"`
		Key    string `json:"key"`
		Entry  Digest `json:"entry"`
		Bytes  string `json:"bytes"`
		Reason string `json:"reason"`
	}](t, "receipt/refused.json") {
		t.Run(v.Name, func(t *testing.T) {
			r, err := ParseReceipt(unhex(t, v.Bytes))
			if err != nil {
				t.Fatal(err)
			}
			_, pathErr := r.Root(v.Entry)
			if (pathErr != nil) != (v.Reason == "path") {
				t.Fatalf("path: %v, want the reason %q", pathErr, v.Reason)
			}
			err = r.VerifyInclusion(keys[v.Key], v.Entry)
			if err == nil || errors.Is(err, ErrBadSignature) != (v.Reason == "signature") {
				t.Fatalf("error %v, want the reason %q", err, v.Reason)
			}
		})
	}
}

func TestTransparentStatementVectors(t *testing.T) {
	for _, v := range readDocumentVectors[struct {
		Name      string   `json:"name"`
		Statement string   `json:"statement"`
		Receipts  []string `json:"receipts"`
		Bytes     string   `json:"bytes"`
	}](t, "receipt/transparent.json") {
		t.Run(v.Name, func(t *testing.T) {
			s, err := ParseStatement(unhex(t, v.Statement))
			if err != nil {
				t.Fatal(err)
			}
			var receipts [][]byte
			for _, r := range v.Receipts {
				receipts = append(receipts, unhex(t, r))
			}
			got := AttachReceipts(s, receipts)
			if !bytes.Equal(got, unhex(t, v.Bytes)) {
				t.Fatalf("%x", got)
			}
			_, err = ParseStatement(got)
			if len(got) > MaxStatement {
				wantRefused(t, err, "oversize", "statement")
			} else {
				wantRefused(t, err, "malformed", "unprotected")
			}
		})
	}
}

type trailHeadVector struct {
	Name   string `json:"name"`
	Key    string `json:"key"`
	Bytes  string `json:"bytes"`
	Fields struct {
		Iss   string `json:"iss"`
		Iat   int64  `json:"iat"`
		KID   Digest `json:"kid"`
		Trail Digest `json:"trail"`
		Count uint64 `json:"count"`
		Last  Digest `json:"last"`
		Size  uint64 `json:"size"`
		Root  Digest `json:"root"`
	} `json:"fields"`
}

func TestTrailHeadVectors(t *testing.T) {
	for _, v := range readDocumentVectors[trailHeadVector](t, "trailhead/valid.json") {
		t.Run(v.Name, func(t *testing.T) {
			h, err := ParseTrailHead(unhex(t, v.Bytes))
			if err != nil {
				t.Fatal(err)
			}
			f := v.Fields
			if h.Institution != f.Iss || h.IssuedAt != f.Iat || h.KID != f.KID || h.Trail != f.Trail || h.Count != f.Count || h.Last != f.Last || h.Size != f.Size || h.Root != f.Root {
				t.Fatalf("fields %+v", h)
			}
			key, err := ParsePublicKey(unhex(t, v.Key))
			if err != nil {
				t.Fatal(err)
			}
			if err := h.Verify(key); err != nil {
				t.Fatal(err)
			}
			h.payload[40] ^= 1
			if err := h.Verify(key); !errors.Is(err, ErrBadSignature) {
				t.Fatalf("a changed payload: %v", err)
			}
		})
	}
	for _, v := range readDocumentVectors[invalidVector](t, "trailhead/invalid.json") {
		t.Run(v.Name, func(t *testing.T) {
			_, err := ParseTrailHead(unhex(t, v.Bytes))
			wantRefused(t, err, v.Code, v.Field)
		})
	}
}

// TestSignersMakeTheVectors signs with the package what the vectors hold.
func TestSignersMakeTheVectors(t *testing.T) {
	secrets := vectorSecrets(t)
	for _, v := range readDocumentVectors[statementVector](t, "statement/valid.json") {
		s, err := ParseStatement(unhex(t, v.Bytes))
		if err != nil {
			t.Fatal(err)
		}
		again, err := s.Sign(secrets[v.Key])
		if err != nil {
			t.Fatal(err)
		}
		if again.ID() != v.ID {
			t.Errorf("%s: signed again, its ID is %s", v.Name, again.ID())
		}
		if v.Fields.Alg != SM2SM3 && again.Digest() != v.Digest { // SM2 signatures are random
			t.Errorf("%s: signed again, its digest is %s", v.Name, again.Digest())
		}
	}
	for _, v := range readDocumentVectors[receiptVector](t, "receipt/valid.json") {
		r, err := SignRoot(secrets[v.Key], v.Fields.Iss, v.Fields.Sub, v.Fields.Iat, Checkpoint{v.Fields.Size, v.Root})
		if err != nil {
			t.Fatal(err)
		}
		got := r.Receipt(v.Fields.Index, v.Fields.Path)
		if v.Fields.Alg != SM2SM3 && !bytes.Equal(got, unhex(t, v.Bytes)) {
			t.Errorf("%s: signed again %x", v.Name, got)
		}
	}
}

// reencodeRootHeader writes the protected header from its fields.
func reencodeRootHeader(r RootSignature) []byte {
	b := appendHead(nil, majorMap, 5)
	b = appendInt(appendInt(b, 1), int64(r.Algorithm))
	b = appendBytes(appendInt(b, 4), r.KID[:])
	b = appendHead(appendInt(b, 15), majorMap, 3)
	b = appendText(appendInt(b, 1), r.Issuer)
	b = appendText(appendInt(b, 2), r.Log)
	b = appendInt(appendInt(b, 6), r.IssuedAt)
	b = appendInt(appendInt(b, 395), 1)
	return appendHead(appendInt(b, -70004), majorUint, r.Size)
}
