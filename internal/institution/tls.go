package institution

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
)

// Connections between institutions are TLS 1.3 with certificates on both sides.
// What identifies a peer is its TLS key in the alliance's genesis, compared as
// SubjectPublicKeyInfo; names, dates and issuers in certificates mean nothing
// here, so no certificate authority and no expiry can stop the alliance or
// impersonate a member of it. The handshake proves that the peer holds the key
// (RFC 8446 §4.4.3).

// ServerTLS accepts connections from the alliance's other institutions. The
// home must have been opened with evidence.UseTLS. PeerOf says who connected.
// Errors are *Error.
func (h *Home) ServerTLS() (*tls.Config, error) {
	cfg, err := h.mutualTLS()
	if err != nil {
		return nil, err
	}
	cfg.ClientAuth = tls.RequireAnyClientCert // VerifyConnection decides
	cfg.SessionTicketsDisabled = true
	cfg.VerifyConnection = func(state tls.ConnectionState) error {
		_, err := h.PeerOf(&state)
		return err
	}
	return cfg, nil
}

// ClientTLS connects to one other institution and to nobody else.
// Errors are *Error.
func (h *Home) ClientTLS(peer string) (*tls.Config, error) {
	if _, err := h.peer(peer); err != nil {
		return nil, err
	}
	cfg, err := h.mutualTLS()
	if err != nil {
		return nil, err
	}
	cfg.ServerName = peer
	// The library's verification is by issuer and name; ours is by key, below.
	cfg.InsecureSkipVerify = true //nolint:gosec // VerifyConnection pins the peer's key
	cfg.VerifyConnection = func(state tls.ConnectionState) error {
		got, err := h.PeerOf(&state)
		if err != nil {
			return err
		}
		if got != peer {
			return &Error{Code: CodePeerKey, Path: peer, Reason: fmt.Sprintf("the host at the address of %q holds the key of %q", peer, got), Hint: "correct the addresses under [peers] in node.toml"}
		}
		return nil
	}
	return cfg, nil
}

// PeerOf returns the id of the institution at the other end.
// Errors are *Error.
func (h *Home) PeerOf(state *tls.ConnectionState) (string, error) {
	a, err := h.Joined()
	if err != nil {
		return "", err
	}
	if len(state.PeerCertificates) == 0 {
		return "", &Error{Code: CodePeerKey, Path: h.Path, Reason: "the peer sent no certificate"}
	}
	spki := state.PeerCertificates[0].RawSubjectPublicKeyInfo
	for i := range a.Institutions {
		if d := &a.Institutions[i]; d.ID != h.ID() && bytes.Equal(d.Keys.TLS, spki) {
			return d.ID, nil
		}
	}
	return "", &Error{Code: CodePeerKey, Path: h.Path, Reason: fmt.Sprintf("the peer's TLS key %s belongs to no other institution of the alliance", evidence.SumSHA256(spki)), Hint: "compare both sides' alliance.json"}
}

func (h *Home) mutualTLS() (*tls.Config, error) {
	key := h.Key(evidence.UseTLS)
	if key == nil {
		return nil, errors.New("the home was opened without its TLS key")
	}
	// Made anew at each start: it carries the key and nothing that is checked.
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: h.ID()},
		DNSNames:     []string{h.ID()},
		NotBefore:    time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:     time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), // RFC 5280 §4.1.2.5: no expiry
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Private().Public(), key.Private())
	if err != nil {
		return nil, fmt.Errorf("making the TLS certificate of %s: %w", h.ID(), err)
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key.Private()}},
	}, nil
}
