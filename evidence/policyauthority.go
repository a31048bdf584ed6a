package evidence

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
)

// parseAuthorityCertificates reads 1 to MaxAuthorityCertificates CERTIFICATE
// blocks of PEM, no two of them the same, and nothing else.
func parseAuthorityCertificates(path, text string) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	rest := []byte(text)
	for len(certs) == 0 || len(bytes.TrimSpace(rest)) > 0 {
		block, after := pem.Decode(rest)
		// pem.Decode skips what stands before a block.
		if block == nil || block.Type != "CERTIFICATE" || !bytes.HasPrefix(bytes.TrimSpace(rest), []byte("-----BEGIN CERTIFICATE-----")) {
			return nil, &FieldError{path, "certificate", "it is not one or more CERTIFICATE blocks of PEM", "paste the whole blocks with their line feeds", nil}
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, &FieldError{path, "certificate", "the certificate cannot be read", "get it again from the authority", err}
		}
		for _, other := range certs {
			if other.Equal(cert) {
				return nil, &FieldError{path, "certificate", "a certificate stands there twice", "leave one out", nil}
			}
		}
		if certs, rest = append(certs, cert), after; len(certs) > MaxAuthorityCertificates {
			return nil, &FieldError{path, "certificate", fmt.Sprintf("more than %d certificates", MaxAuthorityCertificates), "leave out those whose tokens nobody needs", nil}
		}
	}
	return certs, nil
}
