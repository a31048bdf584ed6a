package evidence

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"testing"

	fnote "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
)

type checkpointTextVector struct {
	Name         string `json:"name"`
	Text         string `json:"text"`
	Origin       string `json:"origin"`
	Size         uint64 `json:"size"`
	Root         Digest `json:"root"`
	Cosignatures []struct {
		Name      string `json:"name"`
		VKey      string `json:"vkey"`
		KeyID     string `json:"key_id"`
		Time      int64  `json:"time"`
		Message   string `json:"message"`
		Signature string `json:"signature"`
	} `json:"cosignatures"`
}

// vkeyPublic reads the key of a verifier key line.
func vkeyPublic(t *testing.T, vkey string) *PublicKey {
	t.Helper()
	raw, err := base64.StdEncoding.DecodeString(vkey[len(vkey)-44:])
	if err != nil || raw[0] != cosignatureType {
		t.Fatalf("vkey %s: %v", vkey, err)
	}
	k, err := NewEd25519Key(raw[1:])
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestCheckpointVectors(t *testing.T) {
	for _, v := range readDocumentVectors[checkpointTextVector](t, "checkpoint/valid.json") {
		t.Run(v.Name, func(t *testing.T) {
			c, err := ParseCheckpoint([]byte(v.Text))
			if err != nil {
				t.Fatal(err)
			}
			if c.Origin != v.Origin || c.Size != v.Size || c.Root != v.Root || len(c.Cosignatures) != len(v.Cosignatures) {
				t.Fatalf("fields %+v", c)
			}
			if got := string(c.Encode()); got != v.Text {
				t.Fatalf("encodes to %q", got)
			}
			for i, s := range c.Cosignatures {
				want := v.Cosignatures[i]
				if s.Name != want.Name || hex.EncodeToString(s.KeyID[:]) != want.KeyID || s.Time != want.Time || hex.EncodeToString(s.Signature) != want.Signature {
					t.Fatalf("cosignature %+v", s)
				}
				if got := string(c.cosignMessage(s.Time)); got != want.Message {
					t.Fatalf("message %q", got)
				}
				key := vkeyPublic(t, want.VKey)
				if got := CosignerVKey(s.Name, key); got != want.VKey {
					t.Fatalf("vkey %s, want %s", got, want.VKey)
				}
				if err := c.VerifyCosignature(s, key); err != nil {
					t.Fatal(err)
				}
				s.Time++
				if err := c.VerifyCosignature(s, key); !errors.Is(err, ErrBadSignature) {
					t.Fatalf("with another time: %v", err)
				}
				s.Time--
				s.Name += "x"
				if err := c.VerifyCosignature(s, key); !errors.Is(err, ErrBadSignature) {
					t.Fatalf("under another name: %v", err)
				}
				// The reader that most tlog clients use.
				verifier, err := fnote.NewVerifierForCosignatureV1(want.VKey)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := note.Open([]byte(v.Text), note.VerifierList(verifier)); err != nil {
					t.Fatalf("another reader: %v", err)
				}
			}
		})
	}
	for _, v := range readDocumentVectors[struct {
		Name  string `json:"name"`
		Text  []byte `json:"text"`
		Code  string `json:"code"`
		Field string `json:"field"`
	}](t, "checkpoint/invalid.json") {
		t.Run(v.Name, func(t *testing.T) {
			_, err := ParseCheckpoint(v.Text)
			wantRefused(t, err, v.Code, v.Field)
		})
	}
}

func TestCosignWithEd25519Alone(t *testing.T) {
	signers := testSigners(t)
	c := &CosignedCheckpoint{Origin: "demo", Checkpoint: Checkpoint{1, SumSHA256(nil)}}
	for _, name := range []string{"p256", "sm2"} {
		if _, err := c.Cosign(signers[name], "demo/court", 1); err == nil {
			t.Errorf("a %s key cosigns", name)
		}
		key := signers[name].Public()
		sig, err := signers[name].Sign(c.cosignMessage(1))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.VerifyCosignature(Cosignature{"demo/court", CosignerKeyID("demo/court", key), 1, sig}, key); !errors.Is(err, ErrBadSignature) {
			t.Errorf("a cosignature by a %s key: %v", name, err)
		}
	}
	s, err := c.Cosign(signers["ed25519"], "demo/court", 1)
	if err != nil {
		t.Fatal(err)
	}
	c.Cosignatures = []Cosignature{s}
	if _, err := ParseCheckpoint(c.Encode()); err != nil {
		t.Fatal(err)
	}
}
