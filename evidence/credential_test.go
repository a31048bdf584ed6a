package evidence

import (
	"bytes"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
	"testing"
)

func TestContentVectors(t *testing.T) {
	type encoder interface{ Encode() []byte }
	for _, v := range readDocumentVectors[struct{ Name, Kind, Bytes, Code, Field string }](t, "registry/contents.json") {
		t.Run(v.Kind+" "+v.Name, func(t *testing.T) {
			data, err := hex.DecodeString(v.Bytes)
			if err != nil {
				t.Fatal(err)
			}
			var e encoder
			switch v.Kind {
			case "enrolment":
				e, err = ParseEnrolment(data)
			case "revocation":
				e, err = ParseRevocation(data)
			case "authorisation":
				e, err = ParseAuthorisation(data)
			case "passkey":
				e, err = ParsePasskey(data)
			case "certificate":
				e, err = ParseCertificate(data)
			case "key-change":
				e, err = ParseKeyChange(data)
			default:
				t.Skipf("contents of kind %s are tested where they are read", v.Kind)
			}
			var f *FormatError
			switch {
			case v.Code == "ok" && err != nil:
				t.Error(err)
			case v.Code == "ok" && !bytes.Equal(e.Encode(), data):
				t.Errorf("encodes %x", e.Encode())
			case v.Code != "ok" && (!errors.As(err, &f) || f.Code.String() != v.Code || f.Field != v.Field):
				t.Errorf("%v, want %s at %s", err, v.Code, v.Field)
			}
		})
	}
}

func TestCertificateSerial(t *testing.T) {
	for n, want := range map[int64]string{1: "01", 127: "7f", 128: "0080", 4711: "1267", 0xff00: "00ff00"} {
		if got := hex.EncodeToString(CertificateSerial(big.NewInt(n))); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
	if len(CertificateSerial(new(big.Int))) != 0 {
		t.Error("zero has a serial number's form")
	}
}

func TestActDigest(t *testing.T) {
	m := testManifest(t)
	if _, err := m.ActDigest(); err == nil {
		t.Error("a manifest without an act has a challenge")
	}
	m.Act = &Act{Kind: "sign"}
	challenge, err := m.ActDigest()
	if err != nil {
		t.Fatal(err)
	}
	// The confirmation is no part of what is confirmed, and does not get lost.
	m.Act.Passkey = &Assertion{KID: SumSHA256([]byte("k")), AuthenticatorData: "AA", ClientData: "AA", Signature: "AA"}
	if again, err := m.ActDigest(); err != nil || again != challenge || m.Act.Passkey == nil {
		t.Errorf("with its confirmation: %s, %v", again, err)
	}
	seen := map[Digest]string{challenge: "the first"}
	for name, alter := range map[string]func(m *Manifest){
		"kind": func(m *Manifest) { m.Act.Kind = "grant" }, "note": func(m *Manifest) { m.Note = "x" }, "salt": func(m *Manifest) { m.Salt[0]++ },
		"step": func(m *Manifest) { m.Step += "x" }, "object": func(m *Manifest) { m.Objects = []Object{testObject("a", []byte("a"))} },
	} {
		other := *m
		act := *m.Act
		other.Act = &act
		alter(&other)
		d, err := other.ActDigest()
		if err != nil {
			t.Fatal(err)
		}
		if seen[d] != "" {
			t.Errorf("%s: the challenge is that of %s", name, seen[d])
		}
		seen[d] = name
	}
	m.Step = ""
	if _, err := m.ActDigest(); err == nil {
		t.Error("an invalid manifest has a challenge")
	}
}

func TestPolicyActs(t *testing.T) {
	for _, v := range readDocumentVectors[struct {
		Name, Policy string
		Founded      bool
	}](t, "alliance/policy-valid.json") {
		p, err := ParsePolicy([]byte(v.Policy))
		if err != nil {
			t.Fatal(err)
		}
		if v.Name != "acts and certificate authorities" {
			if p.ActRule(ActDeposit) != nil || p.Issuers("ca") != nil {
				t.Errorf("%s demands something", v.Name)
			}
			continue
		}
		if r := p.ActRule("sign"); r == nil || r.Assurance != 3 || !r.Passkey {
			t.Errorf("%+v", r)
		}
		if p.ActRule("grant") != nil {
			t.Error("a rule for an act that has none")
		}
		if len(p.Issuers("ca")) != 2 || len(p.Issuers("ca-2")) != 1 || len(p.Issuers("court")) != 0 {
			t.Errorf("%d, %d", len(p.Issuers("ca")), len(p.Issuers("ca-2")))
		}
		first := p.CertificateAuthorities[0]
		if err := p.AddCertificateAuthority(first); err != nil || len(p.CertificateAuthorities) != 3 {
			t.Errorf("the same once more: %v", err)
		}
		p.CertificateAuthorities = p.CertificateAuthorities[1:]
		if err := p.AddCertificateAuthority(first); err != nil || p.CertificateAuthorities[0].X509() == nil {
			t.Errorf("put back: %v", err)
		}
	}
}

func TestCertificateChainFile(t *testing.T) {
	var p Policy
	for _, v := range readDocumentVectors[struct {
		Name, Policy string
		Founded      bool
	}](t, "alliance/policy-valid.json") {
		if v.Name == "acts and certificate authorities" {
			parsed, err := ParsePolicy([]byte(v.Policy))
			if err != nil {
				t.Fatal(err)
			}
			p = *parsed
		}
	}
	one := p.CertificateAuthorities[0].Certificate
	for text, ok := range map[string]bool{
		one: true, strings.Repeat(one, MaxCertificateChain): true, strings.Repeat(one, MaxCertificateChain+1): false, "": false, "x": false, one + "x": false, "x" + one: false,
		strings.ReplaceAll(one, "CERTIFICATE", "PUBLIC KEY"): false, strings.ReplaceAll(one, "\n", "\r\n"): false, one + "\n": false,
	} {
		if _, err := ParseCertificateChain([]byte(text)); (err == nil) != ok {
			t.Errorf("%.60q…: %v", text, err)
		}
	}
}

// Whatever stands in a file of certificates, it is read or refused; and what is
// read is the same again in the one PEM form.
func FuzzParseCertificateChain(f *testing.F) {
	for _, v := range readDocumentVectors[struct {
		Name, Policy string
		Founded      bool
	}](f, "alliance/policy-valid.json") {
		p, err := ParsePolicy([]byte(v.Policy))
		if err != nil {
			f.Fatal(err)
		}
		for _, c := range p.CertificateAuthorities {
			f.Add([]byte(c.Certificate))
			f.Add([]byte(c.Certificate + c.Certificate))
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		certs, err := ParseCertificateChain(text)
		if err != nil {
			return
		}
		var again []byte
		for _, c := range certs {
			again = append(again, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
		}
		if len(certs) == 0 || !bytes.Equal(again, text) {
			t.Errorf("%d certificates of %q", len(certs), text)
		}
	})
}
