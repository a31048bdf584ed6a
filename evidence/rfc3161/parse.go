package rfc3161

import (
	"bytes"
	"crypto"
	"crypto/sha1" // the first form of the signing certificate attribute names it
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"time"

	"github.com/smallstep/pkcs7"
)

// MaxToken is the size in bytes of the largest token read. One with a chain of
// four RSA-4096 certificates has under 10,000.
const MaxToken = 64 << 10

// contentInfo and what follows are RFC 5652 §3, §5.1 and §5.3 as RFC 3161 §2.4.2
// narrows them.
type contentInfo struct {
	Type    asn1.ObjectIdentifier
	Content signedData `asn1:"explicit,tag:0"`
}

type signedData struct {
	Version          int
	DigestAlgorithms []pkix.AlgorithmIdentifier `asn1:"set"`
	Encapsulated     struct {
		Type    asn1.ObjectIdentifier
		Content []byte `asn1:"explicit,tag:0"`
	}
	Certificates asn1.RawValue `asn1:"optional,tag:0"`
	CRLs         asn1.RawValue `asn1:"optional,tag:1"`
	Signers      []signerInfo  `asn1:"set"`
}

type signerInfo struct {
	Version            int
	Signer             issuerAndSerial
	DigestAlgorithm    pkix.AlgorithmIdentifier
	SignedAttributes   []attribute `asn1:"tag:0"`
	SignatureAlgorithm pkix.AlgorithmIdentifier
	Signature          []byte
	UnsignedAttributes asn1.RawValue `asn1:"optional,tag:1"`
}

type issuerAndSerial struct {
	Issuer asn1.RawValue
	Serial *big.Int
}

type attribute struct {
	Type   asn1.ObjectIdentifier
	Values asn1.RawValue `asn1:"set"`
}

// tstInfo is RFC 3161 §2.4.2.
type tstInfo struct {
	Version int
	Policy  asn1.RawValue // may be too wide for asn1.ObjectIdentifier
	Imprint struct {
		Algorithm pkix.AlgorithmIdentifier
		Digest    []byte
	}
	Serial     *big.Int
	Time       time.Time        `asn1:"generalized"`
	Accuracy   accuracy         `asn1:"optional"`
	Ordering   bool             `asn1:"optional"`
	Nonce      *big.Int         `asn1:"optional"`
	Authority  asn1.RawValue    `asn1:"optional,tag:0"`
	Extensions []pkix.Extension `asn1:"optional,tag:1"`
}

type accuracy struct {
	Seconds      int64 `asn1:"optional"`
	Milliseconds int   `asn1:"optional,tag:0"`
	Microseconds int   `asn1:"optional,tag:1"`
}

// signingCertificate is RFC 5035 §3 in its first form (SHA-1) and its second.
type signingCertificate struct {
	Certificates []struct {
		Hash   []byte
		Issuer asn1.RawValue `asn1:"optional"`
	}
	Policies asn1.RawValue `asn1:"optional"`
}

type signingCertificateV2 struct {
	Certificates []struct {
		Algorithm pkix.AlgorithmIdentifier `asn1:"optional"`
		Hash      []byte
		Issuer    asn1.RawValue `asn1:"optional"`
	}
	Policies asn1.RawValue `asn1:"optional"`
}

const (
	oidSignedData           = "1.2.840.113549.1.7.2"
	oidTSTInfo              = "1.2.840.113549.1.9.16.1.4"
	oidContentType          = "1.2.840.113549.1.9.3"
	oidMessageDigest        = "1.2.840.113549.1.9.4"
	oidSigningCertificate   = "1.2.840.113549.1.9.16.2.12"
	oidSigningCertificateV2 = "1.2.840.113549.1.9.16.2.47"
	oidExtendedKeyUsage     = "2.5.29.37"
	oidSHA256               = "2.16.840.1.101.3.4.2.1"
	oidSM3                  = "1.2.156.10197.1.401"
	oidSM2Signature         = "1.2.156.10197.1.501"
	oidSM2                  = "1.2.156.10197.1.301"
)

// digest returns the hash of an algorithm identifier, zero when it is none of
// those that a token may be signed with.
func digest(oid asn1.ObjectIdentifier) crypto.Hash {
	switch oid.String() {
	case oidSHA256:
		return crypto.SHA256
	case "2.16.840.1.101.3.4.2.2":
		return crypto.SHA384
	case "2.16.840.1.101.3.4.2.3":
		return crypto.SHA512
	}
	return 0
}

// token is one that has been read; nothing in it has been verified.
type token struct {
	signer       signerInfo
	content      []byte // TSTInfo, DER
	info         tstInfo
	policy       string
	accuracy     time.Duration
	certificates []*x509.Certificate // those in it, in its order
	cms          *pkcs7.PKCS7
	essV2        *signingCertificateV2
	ess          *signingCertificate
}

// parse reads a token strictly: what RFC 3161 leaves open and no authority needs
// is refused, so that the readers of the same bytes agree.
func parse(der []byte) (*token, error) {
	if len(der) == 0 {
		return nil, refuse(CodeMalformed, "there is no token")
	}
	if len(der) > MaxToken {
		return nil, refuse(CodeMalformed, "the token has %d bytes, more than %d", len(der), MaxToken)
	}
	var outer contentInfo
	if rest, err := asn1.Unmarshal(der, &outer); err != nil {
		return nil, refuse(CodeMalformed, "reading the token as CMS in DER: %v", err)
	} else if len(rest) != 0 {
		return nil, refuse(CodeMalformed, "%d bytes follow the token", len(rest))
	}
	sd := &outer.Content
	switch {
	case outer.Type.String() != oidSignedData:
		return nil, refuse(CodeMalformed, "the content is %s, not signed data", outer.Type)
	case sd.Encapsulated.Type.String() != oidTSTInfo:
		return nil, refuse(CodeMalformed, "what is signed is %s, not the content of a timestamp", sd.Encapsulated.Type)
	case len(sd.Signers) != 1:
		return nil, refuse(CodeMalformed, "%d signers, a token has one", len(sd.Signers))
	}
	t := &token{signer: sd.Signers[0], content: sd.Encapsulated.Content}
	if err := t.checkAlgorithms(sd.Certificates.FullBytes); err != nil {
		return nil, err
	}
	if err := t.readAttributes(); err != nil {
		return nil, err
	}
	if err := t.readInfo(); err != nil {
		return nil, err
	}
	// The library reads the same bytes a second time, for the signature.
	cms, err := pkcs7.Parse(der)
	if err != nil {
		return nil, refuse(CodeMalformed, "reading the token as CMS: %v", err)
	}
	if len(cms.Signers) != 1 || !bytes.Equal(cms.Content, t.content) {
		return nil, refuse(CodeMalformed, "the token can be read in two ways")
	}
	t.cms, t.certificates = cms, cms.Certificates
	return t, nil
}

// checkAlgorithms refuses SM2 and SM3 by name, before anything fails on them for
// a reason that nobody understands.
func (t *token) checkAlgorithms(certificates []byte) error {
	d, s := t.signer.DigestAlgorithm.Algorithm, t.signer.SignatureAlgorithm.Algorithm
	sm2, err := asn1.Marshal(asn1.ObjectIdentifier{1, 2, 156, 10197, 1, 301})
	if err != nil {
		return fmt.Errorf("encoding %s: %w", oidSM2, err)
	}
	if d.String() == oidSM3 || s.String() == oidSM2Signature || s.String() == oidSM2 || bytes.Contains(certificates, sm2) {
		return refuse(CodeAlgorithm, "the token or its chain is signed with SM2, which common tools cannot check in a token; ask an authority with an RSA or ECDSA key")
	}
	if digest(d) == 0 {
		return refuse(CodeAlgorithm, "the token is signed over digest algorithm %s; SHA-256, SHA-384 and SHA-512 are accepted", d)
	}
	return nil
}

func (t *token) readAttributes() error {
	seen := map[string]asn1.RawValue{}
	for _, a := range t.signer.SignedAttributes {
		name := a.Type.String()
		if _, twice := seen[name]; twice {
			return refuse(CodeMalformed, "signed attribute %s is there twice", name)
		}
		var value asn1.RawValue
		if rest, err := asn1.Unmarshal(a.Values.Bytes, &value); err != nil || len(rest) != 0 {
			return refuse(CodeMalformed, "signed attribute %s has not exactly one value", name)
		}
		seen[name] = value
	}
	var contentType asn1.ObjectIdentifier
	if err := unmarshal(seen[oidContentType].FullBytes, &contentType); err != nil || contentType.String() != oidTSTInfo {
		return refuse(CodeMalformed, "the signature does not say that it is over a timestamp")
	}
	if len(seen[oidMessageDigest].FullBytes) == 0 {
		return refuse(CodeMalformed, "the signature has no message digest")
	}
	if v, there := seen[oidSigningCertificateV2]; there {
		t.essV2 = new(signingCertificateV2)
		if err := unmarshal(v.FullBytes, t.essV2); err != nil || len(t.essV2.Certificates) == 0 {
			return refuse(CodeMalformed, "the attribute that names the signing certificate cannot be read")
		}
		a := t.essV2.Certificates[0].Algorithm.Algorithm
		if len(a) != 0 && digest(a) == 0 {
			return refuse(CodeAlgorithm, "the signing certificate is named by digest algorithm %s", a)
		}
		return nil
	}
	if v, there := seen[oidSigningCertificate]; there {
		t.ess = new(signingCertificate)
		if err := unmarshal(v.FullBytes, t.ess); err != nil || len(t.ess.Certificates) == 0 {
			return refuse(CodeMalformed, "the attribute that names the signing certificate cannot be read")
		}
		return nil
	}
	return refuse(CodeMalformed, "the signature does not name the authority's certificate (RFC 3161 §2.4.2)")
}

// names reports whether the signed attribute names this certificate.
func (t *token) names(cert *x509.Certificate) bool {
	if t.essV2 != nil {
		first := t.essV2.Certificates[0]
		hash := crypto.SHA256
		if len(first.Algorithm.Algorithm) != 0 {
			hash = digest(first.Algorithm.Algorithm)
		}
		h := hash.New()
		h.Write(cert.Raw)
		return bytes.Equal(h.Sum(nil), first.Hash)
	}
	h := sha1.Sum(cert.Raw)
	return bytes.Equal(h[:], t.ess.Certificates[0].Hash)
}

func (t *token) readInfo() error {
	i := &t.info
	if err := unmarshal(t.content, i); err != nil {
		return refuse(CodeMalformed, "reading the content of the timestamp: %v", err)
	}
	if i.Version != 1 {
		return refuse(CodeMalformed, "version %d of the timestamp is not known, only 1 is", i.Version)
	}
	var oid x509.OID
	if i.Policy.Class != asn1.ClassUniversal || i.Policy.Tag != asn1.TagOID || oid.UnmarshalBinary(i.Policy.Bytes) != nil {
		return refuse(CodeMalformed, "the policy is not an object identifier")
	}
	t.policy = oid.String()
	if i.Serial == nil || i.Serial.Sign() < 0 || i.Serial.BitLen() > 160 {
		return refuse(CodeMalformed, "the serial number is negative or has more than 160 bits")
	}
	// A zero time would make crypto/x509 use the clock of this machine.
	if y := i.Time.Year(); y < 1990 || y > 9999 {
		return refuse(CodeMalformed, "the time is in the year %d", y)
	}
	i.Time = i.Time.UTC()
	a := i.Accuracy
	if a.Seconds < 0 || a.Seconds > maxAccuracySeconds || a.Milliseconds < 0 || a.Milliseconds > 999 || a.Microseconds < 0 || a.Microseconds > 999 {
		return refuse(CodeMalformed, "the accuracy is out of range")
	}
	t.accuracy = time.Duration(a.Seconds)*time.Second + time.Duration(a.Milliseconds)*time.Millisecond + time.Duration(a.Microseconds)*time.Microsecond
	for _, e := range i.Extensions {
		if e.Critical {
			return refuse(CodeMalformed, "extension %s is critical and not known", e.Id)
		}
	}
	return nil
}

// maxAccuracySeconds is a year: a wider bracket proves nothing.
const maxAccuracySeconds = 366 * 24 * 3600

// unmarshal reads one value and nothing after it.
func unmarshal(der []byte, into any) error {
	rest, err := asn1.Unmarshal(der, into)
	if err == nil && len(rest) != 0 {
		err = fmt.Errorf("%d bytes follow", len(rest))
	}
	return err
}
