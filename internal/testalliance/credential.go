package testalliance

import (
	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/registry"
)

// credentials are the passkeys and certificates that the log has.
type credentials struct {
	passkeys     map[evidence.Digest]*registeredPasskey
	certificates map[evidence.Digest][]registry.Issued // by kid
}

type registeredPasskey struct {
	*evidence.Passkey
	position   uint64
	revocation *uint64
}

// Register appends a statement of the registry signed by an institution, without
// any check.
func (a *Alliance) Register(by, contentType string, payload []byte) (uint64, error) {
	s, err := evidence.Statement{Issuer: by, Subject: evidence.SubjectRegistry, IssuedAt: BlockTime(a.Size()), ContentType: contentType, Payload: payload}.Sign(a.Get(by).Statement)
	if err != nil {
		return 0, err
	}
	return a.Append(s), nil
}

// BindPasskey registers a passkey, signed by the institution named.
func (a *Alliance) BindPasskey(by string, p *evidence.Passkey) error {
	position, err := a.Register(by, evidence.TypePasskey, p.Encode())
	a.passkeys[p.Key.KID()] = &registeredPasskey{Passkey: p, position: position}
	return err
}

// RevokePasskey registers the revocation of a passkey by the ca.
func (a *Alliance) RevokePasskey(kid evidence.Digest) error {
	position, err := a.Register("ca", evidence.TypeRevocation, (&evidence.Revocation{KID: kid, Reason: 1}).Encode())
	a.passkeys[kid].revocation = &position
	return err
}

// Certify registers a certificate, signed by the institution named.
func (a *Alliance) Certify(by string, c *evidence.Certificate) error {
	position, err := a.Register(by, evidence.TypeCertificate, c.Encode())
	a.certificates[c.KID] = append(a.certificates[c.KID], registry.Issued{Certificate: c, Position: position})
	return err
}

// Certificates returns those of a key in the order of the log.
func (a *Alliance) Certificates(kid evidence.Digest) []registry.Issued { return a.certificates[kid] }

// addCredentials adds what belongs to a step's signer and to the passkey that its
// manifest names.
func (a *Alliance) addCredentials(c *Content, s *evidence.Statement, manifest []byte, size uint64) (err error) {
	for _, cert := range a.certificates[s.KID] {
		if c.Issuances[cert.SHA256], err = a.registration(cert.Position, size); err != nil {
			return err
		}
	}
	m, err := evidence.ParseManifest(manifest)
	if err != nil || m.Act == nil || m.Act.Passkey == nil {
		return nil // an authorisation has none
	}
	k := a.passkeys[m.Act.Passkey.KID]
	if k == nil {
		return nil
	}
	if c.Passkeys[k.Key.KID()], err = a.registration(k.position, size); err != nil || k.revocation == nil {
		return err
	}
	c.Revocations[k.Key.KID()], err = a.registration(*k.revocation, size)
	return err
}
