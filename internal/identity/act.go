package identity

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"

	"github.com/zhenglian/zhenglian/evidence"
	webauthncheck "github.com/zhenglian/zhenglian/evidence/webauthn"
	"github.com/zhenglian/zhenglian/internal/store"
)

// BeginAct begins the confirmation of an act: the challenge is the act's digest
// (evidence.Manifest.ActDigest), so that the passkey signs this act and no
// other. It fails with ErrState when the person has no enrolled passkey for the
// member.
func (r *Register) BeginAct(ctx context.Context, who Who, member string, digest evidence.Digest) (*Ceremony, error) {
	return r.beginAssertion(ctx, who, ceremonyAct, member, digest, "", StateEnrolled)
}

func (r *Register) beginAssertion(ctx context.Context, who Who, kind, member string, digest evidence.Digest, permit Permit, states ...State) (*Ceremony, error) {
	if _, err := r.mayAct(ctx, r.db, who.Person, member); err != nil {
		return nil, err
	}
	u, err := r.user(ctx, r.db, who.Person, member, states...)
	if err != nil {
		return nil, err
	}
	if len(u.credentials) == 0 {
		return nil, fmt.Errorf("no passkey of this member is enrolled: %w", ErrState)
	}
	options, session, err := r.auth.BeginLogin(u, webauthn.WithChallenge(digest[:]), webauthn.WithUserVerification(protocol.VerificationRequired))
	if err != nil {
		return nil, fmt.Errorf("beginning a confirmation: %w", err)
	}
	return r.begin(ctx, who, kind, member, digest[:], options.Response, ceremonyData{Session: *session, Permit: permit})
}

// FinishAct checks the browser's answer (the JSON of a credential with an
// assertion response) and returns what goes into the manifest. digest is the act
// that the caller is about to accept. Every answer counts as an attempt until it
// is found good (Locked); each ceremony takes one.
func (r *Register) FinishAct(ctx context.Context, who Who, id string, digest evidence.Digest, answer []byte) (*evidence.Assertion, error) {
	a, t, err := r.finishAssertion(ctx, who, ceremonyAct, id, answer)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(t.digest, digest[:]) {
		return nil, fmt.Errorf("the confirmation is for another act: %w", ErrCeremony)
	}
	return a, nil
}

func (r *Register) finishAssertion(ctx context.Context, who Who, kind, id string, answer []byte) (*evidence.Assertion, *taken, error) {
	if err := r.Attempt(ctx, ActionAct, who.Person, who.Address); err != nil {
		return nil, nil, err
	}
	t, err := r.take(ctx, who, kind, id)
	if err != nil {
		return nil, nil, err
	}
	if _, err := r.mayAct(ctx, r.db, who.Person, t.member); err != nil {
		return nil, nil, err
	}
	u, err := r.user(ctx, r.db, who.Person, t.member, StateWaiting, StateEnrolled)
	if err != nil {
		return nil, nil, err
	}
	parsed, err := protocol.ParseCredentialRequestResponseBytes(answer)
	if err != nil {
		return nil, nil, refused(err)
	}
	credential, err := r.auth.ValidateLogin(u, t.Session, parsed)
	if err != nil {
		return nil, nil, refused(err)
	}
	if credential.Authenticator.CloneWarning {
		return nil, nil, fmt.Errorf("the passkey's counter went back, so there may be a copy of it: revoke it and bind another: %w", ErrCeremony)
	}
	public, err := passkeyPublic(credential.PublicKey)
	if err != nil {
		return nil, nil, err
	}
	digest, err := digestOf(t.digest)
	if err != nil {
		return nil, nil, err
	}
	text := base64.RawURLEncoding.EncodeToString
	a := &evidence.Assertion{KID: public.KID(), AuthenticatorData: text(parsed.Raw.AssertionResponse.AuthenticatorData), ClientData: text(parsed.Raw.AssertionResponse.ClientDataJSON), Signature: text(parsed.Raw.AssertionResponse.Signature)}
	// What every verifier will say of it, years from now.
	if err := webauthncheck.Check(a, public, digest, r.rpID); err != nil {
		return nil, nil, fmt.Errorf("%v: %w", err, ErrCeremony)
	}
	row := public.KID().String()
	record, err := json.Marshal(credential)
	if err != nil {
		return nil, nil, err
	}
	err = r.db.In(ctx, func(tx *store.Tx) error {
		n, err := tx.Exec(ctx, "UPDATE passkeys SET record = $1, used = $2 WHERE kid = $3 AND state IN ('waiting', 'enrolled')", r.keys.Seal("passkeys", "record", row, record), r.millis(), row)
		if err != nil {
			return err
		}
		if n != 1 {
			return fmt.Errorf("the passkey was revoked meanwhile: %w", ErrCeremony)
		}
		if kind == ceremonyStepUp {
			if err := r.permit(ctx, tx, who, t.member, t.Permit, ceremonyTime); err != nil {
				return err
			}
		}
		return r.passed(ctx, tx, ActionAct, who.Person, who.Address)
	})
	return a, t, err
}

// Permit names what a session alone may not do once a passkey exists.
type Permit string

// The permits.
const (
	PermitPasskey Permit = "passkey" // bind another passkey
	PermitKey     Permit = "key"     // enrol another key
)

// stepUpLabel separates step-up challenges from acts: a confirmation for one can
// never be shown as the other.
const stepUpLabel = "zhenglian portal step-up v1\x00"

// BeginStepUp begins a confirmation with a passkey that lets the session do one
// thing, once, within 5 minutes.
func (r *Register) BeginStepUp(ctx context.Context, who Who, member string, permit Permit) (*Ceremony, error) {
	if permit != PermitPasskey && permit != PermitKey {
		return nil, fmt.Errorf("no such permit: %q", permit)
	}
	nonce := make([]byte, 32)
	rand.Read(nonce)
	h := sha256.New()
	fmt.Fprintf(h, "%s%s\x00%s\x00", stepUpLabel, permit, member)
	h.Write(nonce)
	return r.beginAssertion(ctx, who, ceremonyStepUp, member, evidence.Digest(h.Sum(nil)), permit, StateWaiting, StateEnrolled)
}

// FinishStepUp checks the answer; see FinishAct.
func (r *Register) FinishStepUp(ctx context.Context, who Who, id string, answer []byte) error {
	_, _, err := r.finishAssertion(ctx, who, ceremonyStepUp, id, answer)
	return err
}

func (r *Register) permit(ctx context.Context, tx *store.Tx, who Who, member string, permit Permit, d time.Duration) error {
	_, err := tx.Exec(ctx, "INSERT INTO permissions (id, kind, session, person, member, expires) VALUES ($1, $2, $3, $4, $5, $6)",
		newID("g:"), string(permit), who.Session, who.Person, member, r.now().Add(d).UnixMilli())
	return err
}

// hasPermission: nobody needs one before the first passkey, or after all were
// refused by the log. A revoked passkey does count: whoever stole a session and
// revoked all passkeys would be free otherwise.
func (r *Register) hasPermission(ctx context.Context, q store.Reader, who Who, member string, permit Permit) error {
	var ever int
	if err := q.QueryRow(ctx, "SELECT COUNT(*) FROM passkeys WHERE member = $1 AND person = $2 AND state <> 'refused'", member, who.Person).Scan(&ever); err != nil || ever == 0 {
		return err
	}
	var have int
	if err := q.QueryRow(ctx, "SELECT COUNT(*) FROM permissions WHERE kind = $1 AND session = $2 AND person = $3 AND member = $4 AND expires > $5",
		string(permit), who.Session, who.Person, member, r.millis()).Scan(&have); err != nil {
		return err
	}
	if have == 0 {
		return ErrPermission
	}
	return nil
}

// usePermission is hasPermission, and takes it.
func (r *Register) usePermission(ctx context.Context, tx *store.Tx, who Who, member string, permit Permit) error {
	if err := r.hasPermission(ctx, tx, who, member, permit); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, "DELETE FROM permissions WHERE id = (SELECT MIN(id) FROM permissions WHERE kind = $1 AND session = $2 AND person = $3 AND member = $4 AND expires > $5)",
		string(permit), who.Session, who.Person, member, r.millis())
	return err
}
