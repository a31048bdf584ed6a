package evidence

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
)

// Limits of a policy's rules for acts and of its certification authorities.
const (
	MaxActRules = 64
	// MaxCertificateAuthorities: two generations for each of MaxTimestampAuthorities.
	MaxCertificateAuthorities = 64
)

// ActRule is what a verifier demands of one kind of act. A deposit whose
// manifest names no act is of kind ActDeposit.
type ActRule struct {
	Kind      string `json:"kind"`
	Assurance int    `json:"assurance"` // the least level of the enrolment, 0 to 3
	Passkey   bool   `json:"passkey"`   // it must be confirmed with a passkey
}

// CertificateAuthority is a certificate under which an institution issues
// members' certificates, as a policy names it. An institution that has renewed
// its own stands in a policy more than once.
type CertificateAuthority struct {
	ID          string `json:"id"`          // the institution's
	Certificate string `json:"certificate"` // PEM, one CERTIFICATE block

	cert *x509.Certificate // set by Validate
}

// X509 returns the certificate, nil before Validate.
func (c *CertificateAuthority) X509() *x509.Certificate { return c.cert }

// ActRule returns what the policy demands of acts of that kind, nil for nothing.
func (p *Policy) ActRule(kind string) *ActRule {
	for i := range p.Acts {
		if p.Acts[i].Kind == kind {
			return &p.Acts[i]
		}
	}
	return nil
}

// Issuers returns the certificates under which an institution issues members'
// certificates; none when the policy names none, or before Validate.
func (p *Policy) Issuers(inst string) []*x509.Certificate {
	var certs []*x509.Certificate
	for i := range p.CertificateAuthorities {
		if c := &p.CertificateAuthorities[i]; c.ID == inst && c.cert != nil {
			certs = append(certs, c.cert)
		}
	}
	return certs
}

// AddCertificateAuthority puts a certificate in its place; one that is there
// already stays as it is. Errors are *FieldError.
func (p *Policy) AddCertificateAuthority(c CertificateAuthority) error {
	at, found := slices.BinarySearchFunc(p.CertificateAuthorities, c, compareAuthorities)
	if found {
		return nil
	}
	p.CertificateAuthorities = slices.Insert(p.CertificateAuthorities, at, c)
	return p.validateIssuers()
}

func compareAuthorities(x, y CertificateAuthority) int {
	return cmp.Or(cmp.Compare(x.ID, y.ID), cmp.Compare(x.Certificate, y.Certificate))
}

func (p *Policy) validateActs() error {
	if p.Acts == nil {
		return nil
	}
	if n := len(p.Acts); n == 0 || n > MaxActRules {
		return &FieldError{"$.acts", "acts", fmt.Sprintf("%d rules for acts, want 1 to %d", n, MaxActRules), "leave the field out when nothing is demanded", nil}
	}
	for i, rule := range p.Acts {
		path := fmt.Sprintf("$.acts[%d]", i)
		switch {
		case !isActKind(rule.Kind):
			return &FieldError{path + ".kind", "act-kind", fmt.Sprintf("%.40q is no kind of act", rule.Kind), "use 1 to 32 of a-z and '-', beginning with a letter, such as sign", nil}
		case rule.Assurance < 0 || rule.Assurance > 3:
			return &FieldError{path + ".assurance", "range", fmt.Sprintf("assurance %d is not one of 0 to 3", rule.Assurance), "", nil}
		case rule.Assurance == 0 && !rule.Passkey:
			return &FieldError{path, "acts", "the rule demands nothing", "leave it out", nil}
		case i > 0 && rule.Kind <= p.Acts[i-1].Kind:
			return &FieldError{path + ".kind", "acts", "the rules are not sorted by kind, or two are for the same", "sort them", nil}
		}
	}
	return nil
}

func (p *Policy) validateIssuers() error {
	if p.CertificateAuthorities == nil {
		return nil
	}
	if n := len(p.CertificateAuthorities); n == 0 || n > MaxCertificateAuthorities {
		return &FieldError{"$.certificate_authorities", "certificate-authorities", fmt.Sprintf("%d authorities, want 1 to %d", n, MaxCertificateAuthorities), "leave the field out when none is trusted", nil}
	}
	for i := range p.CertificateAuthorities {
		c, path := &p.CertificateAuthorities[i], fmt.Sprintf("$.certificate_authorities[%d]", i)
		if err := checkSlug(path+".id", c.ID); err != nil {
			return err
		}
		cert, err := parsePolicyCertificate(path+".certificate", c.Certificate)
		if err != nil {
			return err
		}
		if !cert.BasicConstraintsValid || !cert.IsCA {
			return &FieldError{path + ".certificate", "certificate", "the certificate is not a certification authority's", "take the one that the institution issues under", nil}
		}
		c.cert = cert
		if i > 0 && compareAuthorities(p.CertificateAuthorities[i-1], *c) >= 0 {
			return &FieldError{path + ".id", "certificate-authorities", "the authorities are not sorted by id and certificate, or one stands there twice", "sort them", nil}
		}
	}
	return nil
}

// parsePolicyCertificate reads one CERTIFICATE block of PEM and nothing else.
func parsePolicyCertificate(path, text string) (*x509.Certificate, error) {
	block, rest := pem.Decode([]byte(text))
	if block == nil || block.Type != "CERTIFICATE" || len(bytes.TrimSpace(rest)) != 0 {
		return nil, &FieldError{path, "certificate", "it is not one CERTIFICATE block of PEM", "paste the whole block with its line feeds", nil}
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, &FieldError{path, "certificate", "the certificate cannot be read", "get it again from the authority", err}
	}
	return cert, nil
}
