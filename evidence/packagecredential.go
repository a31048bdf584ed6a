package evidence

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

// MaxCertificateChain is how many certificates a file of a package may hold:
// the key's own, and those of the authorities between it and the root.
const MaxCertificateChain = 4

// parseCertificatePath reads what follows certificates/: <sha256>.cose,
// <sha256>.<institution>.cose or <sha256>.pem, by the digest of the key's own
// certificate in DER.
func parseCertificatePath(base string) (p packagePath, ok bool) {
	parts := strings.Split(base, ".")
	d, err := ParseDigest(parts[0])
	if err != nil {
		return p, false
	}
	p.kid = d
	switch {
	case len(parts) == 2 && parts[1] == "cose":
		p.role = RoleIssuance
	case len(parts) == 2 && parts[1] == "pem":
		p.role = RoleCertificate
	case len(parts) == 3 && parts[2] == "cose" && isSlug(parts[1]):
		p.role, p.inst = RoleIssuanceReceipt, parts[1]
	default:
		return p, false
	}
	return p, true
}

// AddPasskey adds the statement that binds a passkey to its member, and its
// receipts, by the kid of the passkey's key.
func (p *PackageWriter) AddPasskey(kid Digest, statement []byte, receipts map[string][]byte) error {
	return p.addRegistration(kid, "passkey", statement, receipts)
}

// AddIssuance adds the statement with which a signer's certificate was
// registered, and its receipts, by the digest of the certificate's DER.
func (p *PackageWriter) AddIssuance(certificate Digest, statement []byte, receipts map[string][]byte) error {
	return p.addStatement("certificates/"+certificate.String(), statement, receipts)
}

// AddCertificate adds a signer's certificate in PEM, and those of the
// authorities between it and the root after it, each issued by the next.
func (p *PackageWriter) AddCertificate(chain []byte) error {
	certs, err := ParseCertificateChain(chain)
	if err != nil {
		return p.fail("certificates/", err)
	}
	return p.add("certificates/"+SumSHA256(certs[0].Raw).String()+".pem", chain)
}

// ParseCertificateChain reads 1 to MaxCertificateChain CERTIFICATE blocks of PEM
// and nothing else. What they say of each other is not checked.
func ParseCertificateChain(text []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for rest := text; len(rest) > 0; {
		block, after := pem.Decode(rest)
		if block == nil || block.Type != "CERTIFICATE" || !strings.HasPrefix(string(rest), string(pem.EncodeToMemory(block))) {
			return nil, errors.New("not CERTIFICATE blocks of PEM and nothing else")
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(certs)+1, err)
		}
		if certs, rest = append(certs, cert), after; len(certs) > MaxCertificateChain {
			return nil, fmt.Errorf("more than %d certificates", MaxCertificateChain)
		}
	}
	if len(certs) == 0 {
		return nil, errors.New("not CERTIFICATE blocks of PEM and nothing else")
	}
	return certs, nil
}

// Passkey returns the statement that binds a passkey to its member; nil when
// absent.
func (p *Package) Passkey(kid Digest) (*Registration, error) {
	return p.registration("passkey of " + kid.String())
}

// Issuance returns the statement with which a certificate was registered, by the
// digest of its DER; nil when absent.
func (p *Package) Issuance(certificate Digest) (*Registration, error) {
	return p.registration("issuance of " + certificate.String())
}

// Certificate returns a signer's certificate with those above it in PEM, by the
// digest of its DER; nil when absent.
func (p *Package) Certificate(certificate Digest) ([]byte, error) {
	return p.read("certificates/" + certificate.String() + ".pem")
}
