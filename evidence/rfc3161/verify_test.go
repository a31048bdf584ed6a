package rfc3161

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"testing"
	"time"

	tsp "github.com/digitorus/timestamp"
	"github.com/emmansun/gmsm/sm2"
	"github.com/emmansun/gmsm/smx509"
)

var timeStamping = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 8}

// authority makes a root and a certificate under it, as change leaves it.
type authority struct {
	key        crypto.Signer
	cert, root *x509.Certificate
}

func ekuExtension(t testing.TB, critical bool, ids ...asn1.ObjectIdentifier) []pkix.Extension {
	t.Helper()
	value, err := asn1.Marshal(ids)
	if err != nil {
		t.Fatal(err)
	}
	return []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Critical: critical, Value: value}}
}

func newAuthority(t testing.TB, key crypto.Signer, change func(*x509.Certificate)) authority {
	t.Helper()
	rootKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	parent := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root"},
		NotBefore: now.AddDate(-30, 0, 0), NotAfter: now.AddDate(30, 0, 0),
		KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true,
	}
	root := issue(t, parent, parent, rootKey.Public(), rootKey)
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "authority"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtraExtensions: ekuExtension(t, true, timeStamping),
	}
	if change != nil {
		change(leaf)
	}
	return authority{key, issue(t, leaf, root, key.Public(), rootKey), root}
}

func issue(t testing.TB, template, parent *x509.Certificate, key crypto.PublicKey, signer crypto.Signer) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key, signer)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func newP256(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func (a authority) trust() Trust { return Trust{Anchors: []*x509.Certificate{a.root}} }

// token makes a token of now over the imprint, as change leaves it.
func (a authority) token(t testing.TB, imprint [32]byte, change func(*tsp.Timestamp)) []byte {
	t.Helper()
	stamp := &tsp.Timestamp{
		HashAlgorithm: crypto.SHA256, HashedMessage: imprint[:], Time: time.Now().UTC().Truncate(time.Second),
		Accuracy: 1250 * time.Millisecond, Policy: asn1.ObjectIdentifier{1, 2, 3, 4}, Nonce: big.NewInt(77), AddTSACertificate: true,
	}
	if change != nil {
		change(stamp)
	}
	response, err := stamp.CreateResponseWithOpts(a.cert, a.key, crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	var r struct {
		Status asn1.RawValue
		Token  asn1.RawValue
	}
	if _, err := asn1.Unmarshal(response, &r); err != nil {
		t.Fatal(err)
	}
	return r.Token.FullBytes
}

func wantCode(t *testing.T, err error, want Code) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Code != want {
		t.Fatalf("got %v, want code %q", err, want)
	}
	t.Log(err)
}

func TestVerify(t *testing.T) {
	imprint := sha256.Sum256([]byte("a checkpoint"))
	a := newAuthority(t, newP256(t), nil)
	token := a.token(t, imprint, nil)
	for name, trust := range map[string]Trust{
		"root":            a.trust(),
		"own certificate": {Anchors: []*x509.Certificate{a.cert}},
		"pinned key":      {Keys: [][32]byte{KeyID(a.cert)}},
	} {
		info, err := Verify(token, imprint, trust)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if info.Policy != "1.2.3.4" || info.Accuracy != 1250*time.Millisecond || info.Demo || info.Authority != "CN=authority" || info.Nonce.Int64() != 77 || info.Serial.Sign() <= 0 {
			t.Errorf("%s: %+v", name, info)
		}
		if d := info.Latest().Sub(info.Earliest()); d != 2500*time.Millisecond {
			t.Errorf("%s: the bracket is %s wide", name, d)
		}
		if !info.Chain[0].Equal(a.cert) {
			t.Errorf("%s: the chain begins with %s", name, info.Chain[0].Subject)
		}
	}
	// Without certificates in it the token verifies with those that a package has.
	bare := a.token(t, imprint, func(s *tsp.Timestamp) { s.AddTSACertificate = false })
	_, err := Verify(bare, imprint, a.trust())
	wantCode(t, err, CodeCertificate)
	trust := a.trust()
	trust.Certificates = []*x509.Certificate{a.cert}
	if _, err := Verify(bare, imprint, trust); err != nil {
		t.Error(err)
	}
	demo := a.token(t, imprint, func(s *tsp.Timestamp) { s.Policy = asn1.ObjectIdentifier{2, 999, 3161, 1}; s.Accuracy = 0 })
	if info, err := Verify(demo, imprint, a.trust()); err != nil || !info.Demo || info.Policy != DemonstrationPolicy || !info.Latest().Equal(info.Time) {
		t.Errorf("a demonstration's token: %+v, %v", info, err)
	}
}

func TestRSA(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	a := newAuthority(t, key, nil)
	imprint := sha256.Sum256(nil)
	if _, err := Verify(a.token(t, imprint, nil), imprint, a.trust()); err != nil {
		t.Error(err)
	}
}

func TestRefused(t *testing.T) {
	key, imprint := newP256(t), sha256.Sum256([]byte("a checkpoint"))
	a := newAuthority(t, key, nil)
	token := a.token(t, imprint, nil)
	other := newAuthority(t, newP256(t), nil)
	rewritten := func(change func(*contentInfo)) []byte {
		var c contentInfo
		if _, err := asn1.Unmarshal(token, &c); err != nil {
			t.Fatal(err)
		}
		change(&c)
		der, err := asn1.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	if _, err := Verify(rewritten(func(*contentInfo) {}), imprint, a.trust()); err != nil {
		t.Fatalf("rewritten without a change: %v", err)
	}
	sm3 := asn1.ObjectIdentifier{1, 2, 156, 10197, 1, 401}
	certified := func(change func(*x509.Certificate)) func() ([]byte, Trust) {
		return func() ([]byte, Trust) {
			b := newAuthority(t, key, change)
			return b.token(t, imprint, nil), b.trust()
		}
	}
	given := func(der []byte) func() ([]byte, Trust) { return func() ([]byte, Trust) { return der, a.trust() } }
	for name, c := range map[string]struct {
		make func() ([]byte, Trust)
		want Code
	}{
		"nothing":        {given(nil), CodeMalformed},
		"too long":       {given(make([]byte, MaxToken+1)), CodeMalformed},
		"cut short":      {given(token[:len(token)-1]), CodeMalformed},
		"followed":       {given(append(bytes.Clone(token), 0)), CodeMalformed},
		"another digest": {given(a.token(t, sha256.Sum256(nil), nil)), CodeImprint},
		"another algorithm": {given(a.token(t, imprint, func(s *tsp.Timestamp) {
			s.HashAlgorithm, s.HashedMessage = crypto.SHA384, make([]byte, 48)
		})), CodeImprint},
		"no signer":     {given(rewritten(func(c *contentInfo) { c.Content.Signers = nil })), CodeMalformed},
		"two signers":   {given(rewritten(func(c *contentInfo) { c.Content.Signers = append(c.Content.Signers, c.Content.Signers[0]) })), CodeMalformed},
		"no attributes": {given(rewritten(func(c *contentInfo) { c.Content.Signers[0].SignedAttributes = nil })), CodeMalformed},
		"an attribute twice": {given(rewritten(func(c *contentInfo) {
			s := &c.Content.Signers[0]
			s.SignedAttributes = append(s.SignedAttributes, s.SignedAttributes[0])
		})), CodeMalformed},
		"another content type": {given(rewritten(func(c *contentInfo) { c.Content.Encapsulated.Type = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1} })), CodeMalformed},
		"another time": {given(rewritten(func(c *contentInfo) {
			at := bytes.Index(c.Content.Encapsulated.Content, []byte("20"))
			c.Content.Encapsulated.Content[at+3]++
		})), CodeSignature},
		"another signature": {given(rewritten(func(c *contentInfo) { c.Content.Signers[0].Signature[10] ^= 1 })), CodeSignature},
		"SM3":               {given(rewritten(func(c *contentInfo) { c.Content.Signers[0].DigestAlgorithm.Algorithm = sm3 })), CodeAlgorithm},
		"SHA-1": {given(rewritten(func(c *contentInfo) {
			c.Content.Signers[0].DigestAlgorithm.Algorithm = asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}
		})), CodeAlgorithm},
		"year zero": {given(a.token(t, imprint, func(s *tsp.Timestamp) { s.Time = time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC) })), CodeMalformed},
		"a critical extension": {given(a.token(t, imprint, func(s *tsp.Timestamp) {
			s.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}
		})), CodeMalformed},
		"before the certificate": {given(a.token(t, imprint, func(s *tsp.Timestamp) { s.Time = time.Now().Add(-2 * time.Hour).UTC() })), CodeValidity},
		"after the certificate":  {given(a.token(t, imprint, func(s *tsp.Timestamp) { s.Time = time.Now().Add(2 * time.Hour).UTC() })), CodeValidity},
		"another's anchor":       {func() ([]byte, Trust) { return token, other.trust() }, CodeUntrusted},
		"nobody trusted":         {func() ([]byte, Trust) { return token, Trust{} }, CodeUntrusted},
		"a CA's key pinned":      {func() ([]byte, Trust) { return token, Trust{Keys: [][32]byte{KeyID(a.root)}} }, CodeUntrusted},
		"another key": {func() ([]byte, Trust) {
			return authority{newP256(t), a.cert, a.root}.token(t, imprint, nil), a.trust()
		}, CodeSignature},
		"for servers": {certified(func(c *x509.Certificate) {
			c.ExtraExtensions = ekuExtension(t, true, asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 1})
		}), CodeCertificate},
		"for more than timestamps": {certified(func(c *x509.Certificate) {
			c.ExtraExtensions = ekuExtension(t, true, timeStamping, asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 1})
		}), CodeCertificate},
		"not critical":  {certified(func(c *x509.Certificate) { c.ExtraExtensions = ekuExtension(t, false, timeStamping) }), CodeCertificate},
		"no use":        {certified(func(c *x509.Certificate) { c.ExtraExtensions = nil }), CodeCertificate},
		"another usage": {certified(func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageKeyEncipherment }), CodeCertificate},
		"a CA": {certified(func(c *x509.Certificate) {
			c.KeyUsage, c.BasicConstraintsValid, c.IsCA = x509.KeyUsageDigitalSignature, true, true
		}), CodeCertificate},
	} {
		t.Run(name, func(t *testing.T) {
			token, trust := c.make()
			info, err := Verify(token, imprint, trust)
			wantCode(t, err, c.want)
			if complete := !info.Time.IsZero() && len(info.Chain) == 1; complete != (c.want == CodeUntrusted || c.want == CodeValidity) {
				t.Errorf("info: %+v", info)
			}
		})
	}
}

// The signature names the certificate, so that another one over the same key,
// valid at other times, cannot stand in for it.
func TestCertificateSwapped(t *testing.T) {
	key, imprint := newP256(t), sha256.Sum256(nil)
	a := newAuthority(t, key, nil)
	longer := newAuthority(t, key, func(c *x509.Certificate) { c.NotAfter = time.Now().AddDate(20, 0, 0) })
	token := a.token(t, imprint, func(s *tsp.Timestamp) { s.AddTSACertificate = false })
	trust := longer.trust()
	trust.Certificates = []*x509.Certificate{longer.cert}
	_, err := Verify(token, imprint, trust)
	wantCode(t, err, CodeCertificate)
}

// A token by an SM2 key says so, whatever algorithm it claims.
func TestSM2Refused(t *testing.T) {
	key, err := sm2.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &smx509.Certificate{
		SerialNumber: big.NewInt(3), Subject: pkix.Name{CommonName: "SM2 authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), ExtraExtensions: ekuExtension(t, true, timeStamping),
	}
	der, err := smx509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := smx509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	imprint := sha256.Sum256(nil)
	a := authority{key: key, cert: &x509.Certificate{
		Raw: cert.Raw, RawIssuer: cert.RawIssuer, RawSubject: cert.RawSubject, SerialNumber: cert.SerialNumber, RawSubjectPublicKeyInfo: cert.RawSubjectPublicKeyInfo,
	}}
	_, err = Verify(a.token(t, imprint, nil), imprint, Trust{Keys: [][32]byte{KeyID(a.cert)}})
	wantCode(t, err, CodeAlgorithm)
}

// expired returns a token that OpenSSL made with a certificate that ended the
// same minute, and whom to trust for it.
func expired(t testing.TB) (token []byte, imprint [32]byte, trust Trust) {
	t.Helper()
	token, err := os.ReadFile("testdata/expired.tst")
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile("testdata/expired-root.pem")
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(file)
	if block == nil {
		t.Fatal("no PEM")
	}
	root, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return token, sha256.Sum256([]byte("good at its time\n")), Trust{Anchors: []*x509.Certificate{root}}
}

// What was good at its time is good for ever.
func TestExpiredCertificate(t *testing.T) {
	token, imprint, trust := expired(t)
	info, err := Verify(token, imprint, trust)
	if err != nil {
		t.Fatal(err)
	}
	if until := info.Chain[0].NotAfter; until.Sub(info.Time) > time.Minute || time.Now().Before(until) {
		t.Errorf("the certificate is valid until %s and shows nothing", until)
	}
	if info.Time.Nanosecond() == 0 {
		t.Errorf("the time %s has lost its fraction", info.Time)
	}
	if info.Accuracy != time.Second+500*time.Millisecond+100*time.Microsecond || info.Policy != "2.25.97801459013577862375920874130927435162" {
		t.Errorf("%+v", info)
	}
}

// No bit of a token can change and leave it the same token with another meaning.
func TestEveryByte(t *testing.T) {
	imprint := sha256.Sum256(nil)
	a := newAuthority(t, newP256(t), nil)
	token := a.token(t, imprint, nil)
	want, err := Verify(token, imprint, a.trust())
	if err != nil {
		t.Fatal(err)
	}
	accepted := 0
	for i := range token {
		changed := bytes.Clone(token)
		changed[i] ^= 0x01
		info, err := Verify(changed, imprint, a.trust())
		if err != nil {
			continue
		}
		accepted++
		if !info.Time.Equal(want.Time) || info.Serial.Cmp(want.Serial) != 0 || info.Policy != want.Policy || info.Accuracy != want.Accuracy || !info.Chain[0].Equal(a.cert) {
			t.Errorf("byte %d: %+v", i, info)
		}
	}
	t.Logf("%d bytes; %d of them are outside what is signed", len(token), accepted)
}

// Seeds are fixed: with a new key in each process the fuzzer takes every run for
// news.
func FuzzVerify(f *testing.F) {
	token, imprint, trust := expired(f)
	f.Add(token)
	f.Add([]byte{0x30, 0x80})
	f.Fuzz(func(t *testing.T, der []byte) {
		info, err := Verify(der, imprint, trust)
		if err == nil && (info.Serial.Int64() != 2 || info.Time.IsZero() || len(info.Chain) != 2) {
			t.Errorf("accepted %+v", info)
		}
		var e *Error
		if err != nil && !errors.As(err, &e) {
			t.Errorf("an error without a code: %v", err)
		}
	})
}
