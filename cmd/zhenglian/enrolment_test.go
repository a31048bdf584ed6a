package main

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/signing"
)

func testApp(lang language) *app {
	return &app{lang: lang, in: strings.NewReader(""), out: new(bytes.Buffer), err: new(bytes.Buffer), env: func(string) string { return "" },
		now: func() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }}
}

// Keys with which a signer could play tricks, and what a person is told.
func TestEnrolmentRefusesTrickKeys(t *testing.T) {
	a := testApp(english)
	home := filepath.Join(t.TempDir(), "m")
	good, err := a.initMember(home, evidence.EdDSA, evidence.KindPerson, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	ed := func(raw string) []byte {
		key, err := hex.DecodeString("302a300506032b6570032100" + raw)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	rsaDER, err := x509.MarshalPKIXPublicKey(&rsaKey.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	p256, err := signing.Generate(evidence.ES256, nil)
	if err != nil {
		t.Fatal(err)
	}
	offCurve := bytes.Clone(p256.Public().DER())
	offCurve[len(offCurve)-1] ^= 1
	for name, tc := range map[string]struct {
		der    []byte
		en, zh string
	}{
		// Points of order 1, 2, 4 and 8; "mixed order" is the base point plus one
		// of order 8.
		"identity":     {ed("0100000000000000000000000000000000000000000000000000000000000000"), "small order", "小阶点"},
		"order 2":      {ed("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"), "small order", "小阶点"},
		"order 4":      {ed("0000000000000000000000000000000000000000000000000000000000000000"), "small order", "小阶点"},
		"order 8":      {ed("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "small order", "小阶点"},
		"odd encoding": {ed("eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"), "canonical encoding", "编码不规范"},
		"no point":     {ed("0200000000000000000000000000000000000000000000000000000000000000"), "not a point", "不是曲线上的点"},
		"mixed order":  {ed("98519eadf35b995233b51b5cd23e9cc5a28b639b5a4af0ec903cb960d81b7819"), "torsion component", "挠分量"},
		"RSA":          {rsaDER, "not an Ed25519, P-256 or SM2", "不是规范编码"},
		"off curve":    {offCurve, "P-256 key", "P-256 公钥不是曲线上的点"},
		"long form":    {append([]byte{0x30, 0x81, 0x59}, p256.Public().DER()[2:]...), "minimal DER", "不是规范编码"},
	} {
		t.Run(name, func(t *testing.T) {
			r := *good
			r.Key = string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: tc.der}))
			data, err := evidence.MarshalCanonical(&r)
			if err != nil {
				t.Fatal(err)
			}
			_, _, err = parseRequest(data)
			var bad *badKeyError
			if !errors.As(err, &bad) {
				t.Fatalf("error %v, want a badKeyError", err)
			}
			if what, hint := testApp(english).explain(err); !strings.Contains(what, tc.en) || !strings.Contains(hint, "member init") {
				t.Errorf("in English: %q, %q; want %q", what, hint, tc.en)
			}
			if what, hint := testApp(chinese).explain(fail("x", "", err)); !strings.Contains(what, tc.zh) || !strings.Contains(hint, "member init") {
				t.Errorf("in Chinese: %q, %q; want %q", what, hint, tc.zh)
			}
		})
	}
}

func TestRequestProofCoversEveryField(t *testing.T) {
	a := testApp(english)
	dir := t.TempDir()
	for _, alg := range []evidence.Algorithm{evidence.EdDSA, evidence.ES256, evidence.SM2SM3} {
		good, err := a.initMember(filepath.Join(dir, signing.AlgorithmName(alg)), alg, evidence.KindPerson, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		data, err := evidence.MarshalCanonical(good)
		if err != nil {
			t.Fatal(err)
		}
		if _, pub, err := parseRequest(data); err != nil || pub.Algorithm() != alg {
			t.Fatalf("%s: %v", alg, err)
		}
		other, err := age.GenerateX25519Identity()
		if err != nil {
			t.Fatal(err)
		}
		otherKey, err := signing.Generate(alg, nil)
		if err != nil {
			t.Fatal(err)
		}
		for name, tc := range map[string]struct {
			change func(*enrolmentRequest)
			want   error
		}{
			"key":     {func(r *enrolmentRequest) { r.Key = string(otherKey.Public().PEM()) }, errRequestProof},
			"kind":    {func(r *enrolmentRequest) { r.Kind = "service" }, errRequestProof},
			"vault":   {func(r *enrolmentRequest) { r.Vault = other.Recipient().String() }, errRequestProof},
			"made":    {func(r *enrolmentRequest) { r.Made = "2026-01-02T03:04:06Z" }, errRequestProof},
			"proof":   {func(r *enrolmentRequest) { r.Proof = bytes.Clone(r.Proof); r.Proof[3] ^= 1 }, errRequestProof},
			"version": {func(r *enrolmentRequest) { r.V = 2 }, errRequestVersion},
			"no kind": {func(r *enrolmentRequest) { r.Kind = "robot" }, errRequestKind},
			"no age":  {func(r *enrolmentRequest) { r.Vault = "age1nothing" }, errRequestVault},
			"no time": {func(r *enrolmentRequest) { r.Made = "yesterday" }, errRequestTime},
		} {
			r := *good
			tc.change(&r)
			data, err := evidence.MarshalCanonical(&r)
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := parseRequest(data); !errors.Is(err, tc.want) {
				t.Errorf("%s, %s changed: %v, want %v", alg, name, err, tc.want)
			}
		}
	}
}

func TestMemberHome(t *testing.T) {
	a := testApp(english)
	dir := t.TempDir()
	phrase := filepath.Join(dir, "phrase")
	if err := os.WriteFile(phrase, []byte("open sesame\r\nnot this\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	protect, err := a.passphraseFrom(phrase)
	if err != nil {
		t.Fatal(err)
	}
	home := filepath.Join(dir, "alice")
	request, err := a.initMember(home, evidence.ES256, evidence.KindPlatform, "", protect)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.openMember(home, ""); !errors.Is(err, signing.ErrNeedsPassphrase) {
		t.Errorf("without a passphrase and without a terminal: %v", err)
	}
	m, err := a.openMember(home, phrase)
	if err != nil {
		t.Fatal(err)
	}
	if !m.Key.Public().Equal(request.public) {
		t.Error("another key was opened")
	}
	identity, err := m.vaultIdentity()
	if err != nil {
		t.Fatal(err)
	}
	if hybrid, ok := identity.(*age.HybridIdentity); !ok || hybrid.Recipient().String() != request.Vault {
		t.Errorf("the vault key is a %T, not the request's", identity)
	}
	if _, err := m.enrolled(a); err == nil {
		t.Error("enrolled without an enrolment")
	}

	// Another member's signing key under this one's request.
	if err := os.Remove(filepath.Join(home, memberKeyFile)); err != nil {
		t.Fatal(err)
	}
	if _, err := a.openMember(home, phrase); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing key: %v", err)
	}
	other, err := signing.Generate(evidence.ES256, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Save(filepath.Join(home, memberKeyFile), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := a.openMember(home, phrase); err == nil || !strings.Contains(err.Error(), "not the same key") {
		t.Errorf("a foreign key: %v", err)
	}
}
