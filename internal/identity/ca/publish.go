package ca

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	_ "crypto/sha1" // OCSP names issuers by SHA-1, as nearly every client asks (RFC 6960 §4.1.1)
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"time"

	"github.com/emmansun/gmsm/smx509"
	"golang.org/x/crypto/ocsp"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/store"
)

func encodePEM(w io.Writer, kind string, der []byte) error {
	return pem.Encode(w, &pem.Block{Type: kind, Bytes: der})
}

// revokedEntry is a certificate that counts as revoked.
type revokedEntry struct {
	serial *big.Int
	reason int
	at     time.Time
}

// keptAfterEnd is how long a revoked certificate stays on the list after its
// end, so that at least one list after it has it (RFC 5280 §3.3).
const keptAfterEnd = 7 * 24 * time.Hour

// revokedOf lists an issuer's certificates that are revoked: those of revoked
// keys, and those that the chain refused.
func (r *Register) revokedOf(ctx context.Context, issuer string) ([]revokedEntry, error) {
	list, err := store.Collect[revokedEntry](r.db.Query(ctx, `SELECT c.serial, COALESCE(v.reason, 0), COALESCE(v.at, c.changed / 1000)
		FROM ca_certificates c LEFT JOIN ca_revocations v ON v.kid = c.kid AND v.state = 'revoked'
		WHERE c.issuer = $1 AND c.role = 'member' AND c.not_after >= $2 AND c.der IS NOT NULL AND (c.state = 'refused' OR v.kid IS NOT NULL) ORDER BY c.serial`,
		issuer, r.now().Add(-keptAfterEnd).Unix()))(func(rows *store.Rows) (e revokedEntry, err error) {
		var serial string
		var at int64
		if err := rows.Scan(&serial, &e.reason, &at); err != nil {
			return e, err
		}
		var ok bool
		if e.serial, ok = new(big.Int).SetString(serial, 16); !ok {
			return e, fmt.Errorf("a serial number %.60q", serial)
		}
		e.at = time.Unix(at, 0).UTC()
		return e, nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading the register for a revocation list: %w", err)
	}
	return list, nil
}

// signLists signs a list for each issuer whose last one lacks a revocation or is
// past half of its life; for a former issuer until it is closed. One that cannot
// sign does not keep the others from it.
func (a *Authority) signLists(ctx context.Context) error {
	a.lists.Lock()
	defer a.lists.Unlock()
	var errs []error
	for _, i := range a.cfg.Issuers {
		if err := a.refreshList(ctx, i); err != nil {
			errs = append(errs, fmt.Errorf("the revocation list %s: %w", i.Name(), err))
		}
	}
	return errors.Join(errs...)
}

func (a *Authority) refreshList(ctx context.Context, i *Issuer) error {
	if done, err := a.closed(ctx, i); done || err != nil {
		return err
	}
	last, err := a.cfg.Register.lastList(ctx, i.ID())
	if err != nil && !errors.Is(err, ErrUnknown) {
		return err
	}
	revoked, err := a.cfg.Register.revokedOf(ctx, i.ID())
	if err != nil {
		return err
	}
	if last != nil && a.cfg.Now().Before(last.ThisUpdate.Add(a.cfg.ListValidity/2)) && sameRevoked(last.DER, revoked) {
		return nil
	}
	return a.signList(ctx, i, revoked)
}

func sameRevoked(der []byte, revoked []revokedEntry) bool {
	l, err := smx509.ParseRevocationList(der)
	if err != nil || len(l.RevokedCertificateEntries) != len(revoked) {
		return false
	}
	for n, e := range l.RevokedCertificateEntries {
		if r := revoked[n]; e.SerialNumber.Cmp(r.serial) != 0 || e.ReasonCode != r.reason || !e.RevocationTime.Equal(r.at) {
			return false
		}
	}
	return true
}

// signList takes the next number, signs and stores. A crash in between leaves a
// number that no list has; numbers only grow.
func (a *Authority) signList(ctx context.Context, i *Issuer, revoked []revokedEntry) error {
	if i.Key == nil {
		return &KeyGoneError{i.Name()}
	}
	this := a.cfg.Now().UTC().Truncate(time.Second)
	next := this.Add(a.cfg.ListValidity)
	n, err := a.cfg.Register.takeNumber(ctx, i.ID(), this, next)
	if err != nil {
		return err
	}
	t := &smx509.RevocationList{Number: big.NewInt(n), ThisUpdate: this, NextUpdate: next}
	for _, e := range revoked {
		t.RevokedCertificateEntries = append(t.RevokedCertificateEntries, smx509.RevocationListEntry{SerialNumber: e.serial, RevocationTime: e.at, ReasonCode: e.reason})
	}
	der, err := smx509.CreateRevocationList(rand.Reader, t, i.Certificate, i.Key.Private())
	if err != nil {
		return fmt.Errorf("signing revocation list %d: %w", n, err)
	}
	return a.cfg.Register.keepList(ctx, i.ID(), n, der)
}

// List returns the last revocation list of an issuer by name (Issuer.Name) in DER, and when it ends. ErrUnknown when none was signed yet.
func (a *Authority) List(ctx context.Context, name string) (der []byte, next time.Time, err error) {
	for _, i := range a.cfg.Issuers {
		if i.Name() == name {
			l, err := a.cfg.Register.lastList(ctx, i.ID())
			if err != nil {
				return nil, time.Time{}, err
			}
			return l.DER, l.NextUpdate, nil
		}
	}
	return nil, time.Time{}, ErrUnknown
}

// responder signs OCSP answers for one issuer. Its key lives in this process
// alone, and its certificate for a week: nothing to steal from a disk.
type responder struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

const responderValidity = 7 * 24 * time.Hour

// responderOf returns the responder of an issuer, a new one when its certificate
// is past half of its life. Always P-256: that is what clients can check.
func (a *Authority) responderOf(ctx context.Context, i *Issuer) (*responder, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.cfg.Now()
	if r := a.responders[i.ID()]; r != nil && now.Before(r.cert.NotAfter.Add(-responderValidity/2)) && !now.Before(r.cert.NotBefore) {
		return r, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making a key for OCSP: %w", err)
	}
	signer, err := evidence.NewSigner(key)
	if err != nil {
		return nil, err
	}
	serial, err := newSerial(rand.Reader)
	if err != nil {
		return nil, err
	}
	e := &Entry{Serial: serial, Issuer: i.ID(), Role: RoleResponder, Request: signer.Public().KID(), Key: signer.Public(), State: Intended,
		NotBefore: now.Add(-backdated).Unix() + 1, NotAfter: min(now.Add(responderValidity).Unix(), i.Certificate.NotAfter.Unix())}
	if _, err := a.cfg.Register.intend(ctx, e); err != nil {
		return nil, err
	}
	der, err := i.sign(e, a.places(i), a.cfg.PolicyArc)
	if err != nil {
		return nil, err
	}
	e.State, e.DER = Issued, der
	if err := a.cfg.Register.advance(ctx, e, Intended); err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("reading the responder's certificate: %w", err)
	}
	r := &responder{key, cert}
	a.responders[i.ID()] = r
	return r, nil
}

// Status returns the OCSP answer (RFC 6960) to a request, both in DER, and how
// long it may be kept. What cannot be answered gets an unsigned error answer, as
// the RFC has it; err is for the log.
//
// "good" means: issued, on the chain, and not revoked there when the chain was
// last asked, which is thisUpdate. A serial that was never handed out is
// "unknown".
func (a *Authority) Status(ctx context.Context, request []byte) (answer []byte, keep time.Duration, err error) {
	q, err := ocsp.ParseRequest(request)
	if err != nil {
		return ocsp.MalformedRequestErrorResponse, 0, nil
	}
	i := a.asked(q)
	if i == nil {
		return ocsp.UnauthorizedErrorResponse, 0, nil // RFC 6960 §2.3: not our certificates
	}
	if done, err := a.closed(ctx, i); err != nil {
		return ocsp.InternalErrorErrorResponse, 0, err
	} else if done {
		return ocsp.UnauthorizedErrorResponse, 0, nil // nothing under it is good any more, and no answer is signed
	}
	a.mu.Lock()
	synced := a.synced
	a.mu.Unlock()
	if a.cfg.Now().Sub(synced) > 3*a.cfg.SyncInterval {
		return ocsp.TryLaterErrorResponse, 0, errors.New("the chain was not asked about revocations for too long")
	}
	t := ocsp.Response{SerialNumber: q.SerialNumber, Status: ocsp.Unknown, IssuerHash: q.HashAlgorithm,
		ThisUpdate: synced.UTC().Truncate(time.Second), NextUpdate: synced.Add(3 * a.cfg.SyncInterval).UTC().Truncate(time.Second)}
	if err := a.statusOf(ctx, i, &t); err != nil {
		return ocsp.InternalErrorErrorResponse, 0, err
	}
	r, err := a.responderOf(ctx, i)
	if err != nil {
		return ocsp.InternalErrorErrorResponse, 0, err
	}
	t.Certificate = r.cert
	answer, err = ocsp.CreateResponse(identity(i), r.cert, t, r.key)
	if err != nil {
		return ocsp.InternalErrorErrorResponse, 0, fmt.Errorf("signing an OCSP answer: %w", err)
	}
	return answer, t.NextUpdate.Sub(a.cfg.Now()), nil
}

// identity is the issuer as the OCSP encoder names it: by name and key.
func identity(i *Issuer) *x509.Certificate {
	return &x509.Certificate{RawSubject: i.Certificate.RawSubject, RawSubjectPublicKeyInfo: i.Certificate.RawSubjectPublicKeyInfo}
}

// asked finds the issuer that a request names by the hashes of name and key.
func (a *Authority) asked(q *ocsp.Request) *Issuer {
	if q.HashAlgorithm != crypto.SHA1 && q.HashAlgorithm != crypto.SHA256 {
		return nil
	}
	sum := func(b []byte) string {
		h := q.HashAlgorithm.New()
		h.Write(b)
		return string(h.Sum(nil))
	}
	for _, i := range a.cfg.Issuers {
		if sum(i.Certificate.RawSubject) == string(q.IssuerNameHash) && sum(i.public.Raw()) == string(q.IssuerKeyHash) {
			return i
		}
	}
	return nil
}

func (a *Authority) statusOf(ctx context.Context, i *Issuer, t *ocsp.Response) error {
	e, err := a.cfg.Register.BySerial(ctx, t.SerialNumber)
	if errors.Is(err, ErrUnknown) {
		return nil
	}
	if err != nil {
		return err
	}
	if e.Issuer != i.ID() {
		return nil
	}
	switch e.State {
	case Refused:
		t.Status, t.RevokedAt = ocsp.Revoked, e.Changed
	case Issued:
		t.Status = ocsp.Good
		v, err := a.cfg.Register.Revocation(ctx, e.Key.KID())
		if err != nil && !errors.Is(err, ErrUnknown) {
			return err
		}
		if err == nil && v.State == Revoked {
			t.Status, t.RevokedAt, t.RevocationReason = ocsp.Revoked, v.At, v.Reason
		}
	}
	return nil
}
