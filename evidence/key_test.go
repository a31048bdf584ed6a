package evidence

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"strings"
	"testing"

	"github.com/emmansun/gmsm/sm2"
	"github.com/emmansun/gmsm/smx509"
)

type keyVector struct {
	Name   string    `json:"name"`
	Alg    Algorithm `json:"alg"`
	DER    string    `json:"der"`
	KID    Digest    `json:"kid"`
	Secret string    `json:"secret"`
}

// vectorSecrets returns signers for the keys of spec/vectors/key, by name.
func vectorSecrets(t testing.TB) map[string]Signer {
	t.Helper()
	signers := map[string]Signer{}
	for _, v := range readDocumentVectors[keyVector](t, "key/valid.json") {
		secret := unhex(t, v.Secret)
		var s Signer
		var err error
		switch v.Alg {
		case EdDSA:
			s, err = NewSigner(ed25519.NewKeyFromSeed(secret))
		case ES256:
			k, kerr := ecdsa.ParseRawPrivateKey(elliptic.P256(), secret)
			if kerr != nil {
				t.Fatal(kerr)
			}
			s, err = NewSigner(k)
		case SM2SM3:
			k, kerr := sm2.NewPrivateKey(secret)
			if kerr != nil {
				t.Fatal(kerr)
			}
			s, err = NewSigner(k)
		}
		if err != nil {
			t.Fatalf("%s: %v", v.Name, err)
		}
		signers[v.Name] = s
	}
	return signers
}

func TestKeyVectors(t *testing.T) {
	signers := vectorSecrets(t)
	for _, v := range readDocumentVectors[keyVector](t, "key/valid.json") {
		t.Run(v.Name, func(t *testing.T) {
			der := unhex(t, v.DER)
			k, err := ParsePublicKey(der)
			if err != nil {
				t.Fatal(err)
			}
			if k.Algorithm() != v.Alg || k.KID() != v.KID || !bytes.Equal(k.DER(), der) {
				t.Fatalf("key %v %s %x", k.Algorithm(), k.KID(), k.DER())
			}
			if !k.Equal(signers[v.Name].Public()) {
				t.Error("the secret belongs to another key")
			}
			again, err := ParsePublicKeyPEM(k.PEM())
			if err != nil || !again.Equal(k) {
				t.Errorf("through PEM: %v", err)
			}
			// What others write for the same key is the one form accepted here.
			if v.Alg != SM2SM3 {
				pub, err := x509.ParsePKIXPublicKey(der)
				if err != nil {
					t.Fatal(err)
				}
				if other, err := x509.MarshalPKIXPublicKey(pub); err != nil || !bytes.Equal(other, der) {
					t.Errorf("crypto/x509 writes %x (%v)", other, err)
				}
			} else if other, err := smx509.MarshalPKIXPublicKey(k.ec); err != nil || !bytes.Equal(other, der) {
				t.Errorf("smx509 writes %x (%v)", other, err)
			}
		})
	}
}

func TestKeyInvalidVectors(t *testing.T) {
	words := map[string]string{"form": "minimal DER", "small-order": "small order", "non-canonical": "canonical", "not-a-point": "", "torsion": "torsion"}
	for _, v := range readDocumentVectors[struct {
		Name string `json:"name"`
		DER  string `json:"der"`
		Why  string `json:"why"`
	}](t, "key/invalid.json") {
		t.Run(v.Name, func(t *testing.T) {
			k, err := ParsePublicKey(unhex(t, v.DER))
			if err == nil || k != nil {
				t.Fatalf("accepted: %v", k)
			}
			word, ok := words[v.Why]
			if !ok {
				t.Fatalf("unknown reason %q", v.Why)
			}
			if !strings.Contains(err.Error(), word) {
				t.Errorf("error %q does not say %q", err, word)
			}
			if v.Why == "not-a-point" && strings.Contains(err.Error(), "minimal DER") {
				t.Errorf("error %q is about the form", err)
			}
		})
	}
}

func TestKeySignatureVectors(t *testing.T) {
	keys := vectorKeys(t)
	for _, v := range readDocumentVectors[struct {
		Name      string `json:"name"`
		Key       string `json:"key"`
		Message   string `json:"message"`
		Signature string `json:"signature"`
		Valid     bool   `json:"valid"`
		Strict    bool   `json:"strict"`
	}](t, "key/signatures.json") {
		t.Run(v.Name, func(t *testing.T) {
			wantVerdict(t, keys[v.Key], unhex(t, v.Message), unhex(t, v.Signature), v.Valid, v.Strict)
		})
	}
}

func TestPublicKeyPEM(t *testing.T) {
	good := testSigners(t)["ed25519"].Public()
	for name, text := range map[string]string{
		"nothing":         "",
		"a private key":   string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: good.DER()})),
		"two keys":        string(good.PEM()) + string(good.PEM()),
		"text after it":   string(good.PEM()) + "x",
		"a damaged block": strings.Replace(string(good.PEM()), "MCow", "MC!w", 1),
	} {
		if k, err := ParsePublicKeyPEM([]byte(text)); err == nil {
			t.Errorf("%s: accepted as %s", name, k.KID())
		}
	}
}

func TestNewSignerRefuses(t *testing.T) {
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewSigner(p384); err == nil {
		t.Error("a P-384 key signs")
	}
}

// TestES256SignsLowS signs often enough that half of the signatures would have
// come out high.
func TestES256SignsLowS(t *testing.T) {
	s := testSigners(t)["p256"]
	for i := range 64 {
		msg := []byte{byte(i)}
		sig, err := s.Sign(msg)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Public().Verify(msg, sig); err != nil {
			t.Fatal(err)
		}
		again, err := s.Sign(msg)
		if err != nil || !bytes.Equal(sig, again) {
			t.Fatalf("signing twice gives %s and %s", hex.EncodeToString(sig), hex.EncodeToString(again))
		}
	}
}

func TestVerifyRefusesOtherLengths(t *testing.T) {
	for name, s := range testSigners(t) {
		for _, n := range []int{0, 1, 63, 65, 128} {
			if err := s.Public().Verify(nil, make([]byte, n)); err == nil {
				t.Errorf("%s accepts %d bytes", name, n)
			}
		}
	}
}
