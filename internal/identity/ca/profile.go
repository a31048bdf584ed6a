package ca

import (
	"crypto"
	"crypto/rand"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/emmansun/gmsm/smx509"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/signing"
)

// Object identifiers of certificate policies. 2.999 is the arc that ITU-T X.660
// reserves for examples: an institution sets its own by Config.PolicyArc.
const (
	// ExamplePolicyArc.N is the policy of assurance level N, 0 to 3.
	ExamplePolicyArc = "2.999.5280.1"
	// DemonstrationPolicy marks certificates of invented people. It is the same
	// for every institution, so that everybody knows them.
	DemonstrationPolicy = "2.999.5280.9"
)

// Bounds of a member's certificate, and how far before the present it begins,
// for the clocks of those who get it.
const (
	MinValidity     = time.Hour
	MaxValidity     = evidence.MaxCertificate * time.Second
	DefaultValidity = 90 * 24 * time.Hour
	backdated       = time.Minute
)

// Subject is whom a certificate names.
type Subject struct {
	Member    string // id in the registry, the common name
	Kind      evidence.MemberKind
	Assurance int  // 0 to 3
	Demo      bool // an invented person
	// Organization is an enterprise's name, and empty unless the institution's
	// configuration asks for names (Config.Names). People's names never stand in
	// a certificate: it travels with every package.
	Organization string
}

// Issuer is a CA key with its certificate.
type Issuer struct {
	// Key is nil when the key of a former issuer is no longer there: then nothing
	// is signed under its certificate any more, lists and answers included.
	Key         *signing.Key
	Certificate *smx509.Certificate
	// Generation counts the keys of an algorithm from 1. The highest signs
	// certificates; the others are former ones.
	Generation int

	public *evidence.PublicKey
}

// NewIssuer checks that key and certificate (DER) belong together and that the
// certificate is a certification authority's. key may be nil, for a former issuer
// whose key is gone.
func NewIssuer(key *signing.Key, certificate []byte, generation int) (*Issuer, error) {
	c, err := smx509.ParseCertificate(certificate)
	if err != nil {
		return nil, fmt.Errorf("reading the CA certificate: %w", err)
	}
	pub, err := evidence.ParsePublicKey(c.RawSubjectPublicKeyInfo)
	switch {
	case err != nil:
		return nil, fmt.Errorf("key of the CA certificate: %w", err)
	case key != nil && !pub.Equal(key.Public()):
		return nil, fmt.Errorf("the CA certificate is of key %s, not of %s", pub.KID(), key.Public().KID())
	case !c.IsCA || c.KeyUsage&smx509.KeyUsageCertSign == 0 || c.KeyUsage&smx509.KeyUsageCRLSign == 0:
		return nil, errors.New("the CA certificate does not allow to sign certificates and revocation lists")
	case pub.Algorithm() == evidence.EdDSA:
		return nil, errors.New("a CA key is P-256 or SM2: few programs check certificates signed with Ed25519")
	case generation < 1:
		return nil, fmt.Errorf("generation %d of a CA key: they count from 1", generation)
	}
	return &Issuer{key, c, generation, pub}, nil
}

// Name is how the issuer's files are called: p256 or sm2, and p256-2 for the
// second generation. The names of former ones stand in certificates and stay.
func (i *Issuer) Name() string {
	return generationName(signing.AlgorithmName(i.public.Algorithm()), "-", i.Generation)
}

func generationName(name, between string, generation int) string {
	if generation > 1 {
		name += between + strconv.Itoa(generation)
	}
	return name
}

// ID is the kid of the issuer's key, as in Entry.Issuer.
func (i *Issuer) ID() string { return i.public.KID().String() }

// SelfIssue makes the self-signed certificate of a CA key, valid for ten years
// from an hour before now, in DER. name is the institution's and stands in the
// subject; a demonstration's says so there, and so does a generation above 1:
// programs that look for an issuer by its name alone find one.
func SelfIssue(key *signing.Key, name string, generation int, demonstration bool, now time.Time) ([]byte, error) {
	common := "Member CA"
	if key.Public().Algorithm() == evidence.SM2SM3 {
		common = "Member CA SM2"
	}
	common = generationName(common, " ", generation)
	if demonstration {
		common += " (demonstration)"
	}
	serial, err := newSerial(rand.Reader)
	if err != nil {
		return nil, err
	}
	kid := key.Public().KID()
	template := &smx509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{Organization: []string{name}, CommonName: common},
		NotBefore:    now.Add(-time.Hour).UTC().Truncate(time.Second), NotAfter: now.AddDate(10, 0, 0).UTC().Truncate(time.Second),
		KeyUsage:              smx509.KeyUsageCertSign | smx509.KeyUsageCRLSign,
		BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true,
		SubjectKeyId: kid[:], AuthorityKeyId: kid[:],
	}
	der, err := smx509.CreateCertificate(rand.Reader, template, template, key.Private().Public(), key.Private())
	if err != nil {
		return nil, fmt.Errorf("signing the CA certificate: %w", err)
	}
	return der, nil
}

// newSerial draws 16 random bytes, the first of which is 0x40 to 0x7f: positive
// and of one length (RFC 5280 §4.1.2.2).
func newSerial(random io.Reader) (*big.Int, error) {
	var b [16]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return nil, fmt.Errorf("drawing a serial number: %w", err)
	}
	b[0] = b[0]&0x3f | 0x40
	return new(big.Int).SetBytes(b[:]), nil
}

// places are the addresses that stand in certificates of an issuer.
type places struct{ ocsp, crl, issuer string }

// sign makes the certificate that e intends, in DER. The same e gives the same
// certificate but for the random part of its signature.
func (i *Issuer) sign(e *Entry, at places, arc string) ([]byte, error) {
	if i.Key == nil {
		return nil, &KeyGoneError{i.Name()}
	}
	key, err := publicKey(e.Key)
	if err != nil {
		return nil, err
	}
	kid := e.Key.KID()
	t := &smx509.Certificate{
		SerialNumber: e.Serial,
		NotBefore:    time.Unix(e.NotBefore, 0).UTC(), NotAfter: time.Unix(e.NotAfter, 0).UTC(),
		KeyUsage:              smx509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		SubjectKeyId:          kid[:], // RFC 7093 §2, method 4
		AuthorityKeyId:        i.Certificate.SubjectKeyId,
		IssuingCertificateURL: []string{at.issuer},
	}
	if e.Role == RoleResponder {
		t.Subject = pkix.Name{Organization: i.Certificate.Subject.Organization, CommonName: "OCSP Responder"}
		t.ExtKeyUsage = []smx509.ExtKeyUsage{smx509.ExtKeyUsageOCSPSigning}
		// id-pkix-ocsp-nocheck, RFC 6960 §4.2.2.2.1: it lives for days.
		t.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}, Value: asn1.NullBytes}}
	} else {
		t.OCSPServer, t.CRLDistributionPoints = []string{at.ocsp}, []string{at.crl}
		t.Subject = pkix.Name{CommonName: e.Subject.Member}
		if e.Subject.Organization != "" {
			t.Subject.Organization = []string{e.Subject.Organization}
		}
		if e.Subject.Demo {
			t.Subject.OrganizationalUnit = []string{"Demonstration"}
		}
		t.ExtKeyUsage = []smx509.ExtKeyUsage{smx509.ExtKeyUsageClientAuth}
		if e.Subject.Kind == evidence.KindPerson || e.Subject.Kind == evidence.KindEnterprise {
			// What software asks of signers of documents.
			t.ExtKeyUsage = append(t.ExtKeyUsage, smx509.ExtKeyUsageEmailProtection)
		}
		if t.Policies, err = policies(arc, e.Subject); err != nil {
			return nil, err
		}
	}
	der, err := smx509.CreateCertificate(rand.Reader, t, i.Certificate, key, i.Key.Private())
	if err != nil {
		return nil, fmt.Errorf("signing certificate %x: %w", e.Serial, err)
	}
	return der, nil
}

func policies(arc string, s Subject) ([]smx509.OID, error) {
	names := []string{arc + "." + strconv.Itoa(s.Assurance)}
	if s.Demo {
		names = append(names, DemonstrationPolicy)
	}
	var oids []smx509.OID
	for _, name := range names {
		oid, err := smx509.ParseOID(name)
		if err != nil {
			return nil, fmt.Errorf("certificate policy %s: %w", name, err)
		}
		oids = append(oids, oid)
	}
	return oids, nil
}

// checkArc says whether an institution may issue under this arc.
func checkArc(arc string, demonstration bool) error {
	if _, err := smx509.ParseOID(arc + ".0"); err != nil {
		return fmt.Errorf("the policy arc %q is no object identifier like 1.3.6.1.4.1.99999.1", arc)
	}
	if !demonstration && (arc == "2.999" || strings.HasPrefix(arc, "2.999.")) {
		return fmt.Errorf("the policy arc %s is for examples: only a demonstration issues under it", arc)
	}
	return nil
}

// publicKey is the key as the X.509 encoder takes it.
func publicKey(k *evidence.PublicKey) (crypto.PublicKey, error) {
	key, err := smx509.ParsePKIXPublicKey(k.DER())
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", k.KID(), err)
	}
	return key, nil
}

// validOrganization: ub-organization-name of RFC 5280 appendix A, and nothing
// that would look like something else where it is shown.
func validOrganization(name string) bool {
	return utf8.ValidString(name) && utf8.RuneCountInString(name) <= 64 && strings.IndexFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
}
