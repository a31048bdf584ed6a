package timestamp

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"time"
)

// SelfIssue makes a root and, under it, the certificate of a timestamp authority
// for key: for demonstrations, and for institutions whose CA issues none. The
// root's private key exists for the two signatures and is forgotten, so that
// nobody can issue another certificate under it.
//
// The profile is what `openssl ts -verify` accepts: extended key usage
// timeStamping, alone and critical; key usage digitalSignature, critical. Both
// are valid for ten years from an hour before now. name stands in both subjects
// as the organization.
func SelfIssue(key crypto.PublicKey, name string, now time.Time) (authority, root *x509.Certificate, err error) {
	rootKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("making the key of a root: %w", err)
	}
	from, to := now.Add(-time.Hour).UTC().Truncate(time.Second), now.AddDate(10, 0, 0).UTC().Truncate(time.Second)
	parent := &x509.Certificate{
		Subject:   pkix.Name{Organization: []string{name}, CommonName: "Timestamp Root"},
		NotBefore: from, NotAfter: to,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true,
	}
	root, err = issue(parent, parent, rootKey.Public(), rootKey)
	if err != nil {
		return nil, nil, fmt.Errorf("issuing a root: %w", err)
	}
	usage, err := asn1.Marshal([]asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 8}}) // id-kp-timeStamping
	if err != nil {
		return nil, nil, fmt.Errorf("encoding the key usage: %w", err)
	}
	authority, err = issue(&x509.Certificate{
		Subject:   pkix.Name{Organization: []string{name}, CommonName: "Timestamp Authority"},
		NotBefore: from, NotAfter: to,
		KeyUsage: x509.KeyUsageDigitalSignature,
		// crypto/x509 would not mark it critical.
		ExtraExtensions:       []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Critical: true, Value: usage}},
		BasicConstraintsValid: true,
	}, root, key, rootKey)
	if err != nil {
		return nil, nil, fmt.Errorf("issuing the certificate of a timestamp authority: %w", err)
	}
	return authority, root, nil
}

func issue(template, parent *x509.Certificate, key crypto.PublicKey, signer crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key, signer)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}
