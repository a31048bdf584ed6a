package proxy

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"fmt"
	"math/big"
	"net"
	"sync"
	"time"
)

// CA is a session's own certification authority: the recorded browser is told
// to believe it, nobody else is. Beside it stands one that nobody believes, for
// hosts whose own certificate is bad. Both keys live in memory only.
type CA struct {
	trusted, untrusted authority

	mu     sync.Mutex
	leaves map[leafName]*tls.Certificate
}

type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

type leafName struct {
	host string
	good bool
}

// MaxCALife is the longest life of a session's authority.
const MaxCALife = 24 * time.Hour

// NewCA makes an authority for one session that begins at now. Certificates are
// good from an hour before (clocks of two processes differ) until life is over.
func NewCA(session string, now time.Time, life time.Duration) (*CA, error) {
	if life <= 0 || life > MaxCALife {
		return nil, fmt.Errorf("a session's authority lives up to %s, not %s", MaxCALife, life)
	}
	ca := &CA{leaves: map[leafName]*tls.Certificate{}}
	var err error
	if ca.trusted, err = newAuthority("Zhenglian recording session "+session, now, life); err != nil {
		return nil, fmt.Errorf("making the session's authority: %w", err)
	}
	if ca.untrusted, err = newAuthority("Zhenglian: this host's own certificate is bad", now, life); err != nil {
		return nil, fmt.Errorf("making the authority of bad hosts: %w", err)
	}
	return ca, nil
}

func newAuthority(name string, now time.Time, life time.Duration) (authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return authority{}, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return authority{}, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(life),
		KeyUsage: x509.KeyUsageCertSign, IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return authority{}, err
	}
	cert, err := x509.ParseCertificate(der)
	return authority{key, cert}, err
}

// Certificate is the one that the recorded browser is to believe.
func (ca *CA) Certificate() *x509.Certificate { return ca.trusted.cert }

// SPKI is the value for Chromium's --ignore-certificate-errors-spki-list: the
// SHA-256 of the authority's public key, in base64.
func (ca *CA) SPKI() string {
	sum := sha256.Sum256(ca.trusted.cert.RawSubjectPublicKeyInfo)
	return base64.StdEncoding.EncodeToString(sum[:])
}

// leaf gives the certificate that the browser sees for a host: under the
// session's authority when the host's own was good, under the other when not.
func (ca *CA) leaf(host string, good bool) (*tls.Certificate, error) {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	name := leafName{host, good}
	if c := ca.leaves[name]; c != nil {
		return c, nil
	}
	by := ca.trusted
	if !good {
		by = ca.untrusted
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making a key for %s: %w", host, err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, fmt.Errorf("making a certificate for %s: %w", host, err)
	}
	common := host
	if len(common) > 64 { // RFC 5280, ub-common-name
		common = ""
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: common},
		NotBefore: by.cert.NotBefore, NotAfter: by.cert.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	if ip := net.ParseIP(host); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{host}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by.cert, &key.PublicKey, by.key)
	if err != nil {
		return nil, fmt.Errorf("making a certificate for %s: %w", host, err)
	}
	c := &tls.Certificate{Certificate: [][]byte{der, by.cert.Raw}, PrivateKey: key}
	ca.leaves[name] = c
	return c, nil
}
