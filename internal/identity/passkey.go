package identity

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/protocol/webauthncose"
	"github.com/go-webauthn/webauthn/webauthn"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/store"
)

// Passkey is a WebAuthn credential with which a person confirms acts for a member.
type Passkey struct {
	KID      evidence.Digest // of its public key
	Member   string
	Person   string
	Label    string
	Public   *evidence.PublicKey
	BackedUp bool // the authenticator says that copies of it exist elsewhere (WebAuthn §6.1.3)
	State    State
	Problem  string
	Position int64 // of the binding; -1 until there is one
	Created  time.Time
	Used     time.Time // zero: never
	Revoked  time.Time // zero: not
	Reason   Reason

	record webauthn.Credential
}

// Ceremony is what a page gives to the browser: Options is the JSON of
// PublicKeyCredentialCreationOptions or …RequestOptions (WebAuthn Level 3
// §5.1.8, §5.1.9). The answer, as JSON of PublicKeyCredential.toJSON(), comes
// back with the ID.
type Ceremony struct {
	ID      string          `json:"id"`
	Options json.RawMessage `json:"options"`
}

// ceremonyTime: as long as a person may need to find her phone.
const ceremonyTime = 5 * time.Minute

// The kinds of ceremony.
const (
	ceremonyPasskey = "passkey"
	ceremonyAct     = "act"
	ceremonyStepUp  = "step-up"
)

// ceremonyData is sealed with the ceremony.
type ceremonyData struct {
	Session webauthn.SessionData
	Label   string `json:",omitempty"`
	Permit  Permit `json:",omitempty"`
}

// user is a person in one member's name. Each pair has a handle of its own: an
// authenticator keeps one credential for a handle, and a passkey is bound to one
// member.
type user struct {
	handle        []byte
	name, display string
	credentials   []webauthn.Credential
}

func (u *user) WebAuthnID() []byte                         { return u.handle }
func (u *user) WebAuthnName() string                       { return u.name }
func (u *user) WebAuthnDisplayName() string                { return u.display }
func (u *user) WebAuthnCredentials() []webauthn.Credential { return u.credentials }

func (r *Register) user(ctx context.Context, q store.Reader, person, member string, states ...State) (*user, error) {
	m, err := r.member(ctx, q, member)
	if err != nil {
		return nil, err
	}
	passkeys, err := r.passkeys(ctx, q, member)
	if err != nil {
		return nil, err
	}
	u := &user{handle: r.blindID("webauthn handle", person, member), name: m.Name + " (" + member + ")", display: m.Name}
	for _, p := range passkeys {
		for _, s := range states {
			if p.Person == person && p.State == s {
				u.credentials = append(u.credentials, p.record)
			}
		}
	}
	return u, nil
}

const passkeyColumns = "kid, member, person, label, spki, record, state, problem, position, created, used, revoked, reason"

func (r *Register) passkeys(ctx context.Context, q store.Reader, member string) ([]*Passkey, error) {
	return store.Collect[*Passkey](q.Query(ctx, "SELECT "+passkeyColumns+" FROM passkeys WHERE member = $1 ORDER BY created DESC, kid", member))(func(rows *store.Rows) (*Passkey, error) {
		return r.readPasskey(rows.Scan)
	})
}

func (r *Register) readPasskey(scan func(...any) error) (p *Passkey, err error) {
	p = new(Passkey)
	var kid string
	var label, spki, record []byte
	var created int64
	var position, used, revoked, reason *int64
	if err := scan(&kid, &p.Member, &p.Person, &label, &spki, &record, &p.State, &p.Problem, &position, &created, &used, &revoked, &reason); err != nil {
		return nil, err
	}
	if p.KID, err = evidence.ParseDigest(kid); err != nil {
		return nil, err
	}
	if p.Public, err = evidence.ParsePublicKey(spki); err != nil {
		return nil, err
	}
	plain, err := r.keys.Open("passkeys", "label", kid, label)
	if err != nil {
		return nil, err
	}
	p.Label = string(plain)
	if plain, err = r.keys.Open("passkeys", "record", kid, record); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(plain, &p.record); err != nil {
		return nil, fmt.Errorf("passkey %s: %w", kid, err)
	}
	p.BackedUp = p.record.Flags.BackupState
	p.Created, p.Used, p.Revoked, p.Position = time.UnixMilli(created), fromMillis(used), fromMillis(revoked), -1
	if position != nil {
		p.Position = *position
	}
	if reason != nil {
		p.Reason = Reason(*reason)
	}
	return p, nil
}

// Passkeys returns the passkeys of a member that the person may see.
func (r *Register) Passkeys(ctx context.Context, who Who, member string) ([]*Passkey, error) {
	all, err := r.passkeys(ctx, r.db, member)
	if err != nil {
		return nil, err
	}
	var visible []*Passkey
	for _, p := range all {
		switch err := r.mayTouch(ctx, r.db, who, member, p.Person); {
		case err == nil:
			visible = append(visible, p)
		case !errors.Is(err, ErrUnknown):
			return nil, err
		}
	}
	return visible, nil
}

// BeginPasskey begins to bind a new passkey to a member for which the person
// acts. The member must have an enrolled key. After the first passkey it fails
// with ErrPermission unless the person confirmed with another (StepUp, kind
// PermitPasskey) or brought a recovery code, in this session.
func (r *Register) BeginPasskey(ctx context.Context, who Who, member, label string) (*Ceremony, error) {
	label, err := cleanLabel(label)
	if err != nil {
		return nil, err
	}
	if _, err := r.mayAct(ctx, r.db, who.Person, member); err != nil {
		return nil, err
	}
	if err := r.hasPermission(ctx, r.db, who, member, PermitPasskey); err != nil {
		return nil, err
	}
	var enrolled int
	if err := r.db.QueryRow(ctx, "SELECT COUNT(*) FROM member_keys WHERE member = $1 AND state IN ('waiting', 'enrolled')", member).Scan(&enrolled); err != nil {
		return nil, err
	}
	if enrolled == 0 {
		return nil, fmt.Errorf("binding a passkey before a key is enrolled: %w", ErrState)
	}
	u, err := r.user(ctx, r.db, who.Person, member, StateWaiting, StateEnrolled)
	if err != nil {
		return nil, err
	}
	options, session, err := r.auth.BeginRegistration(u,
		webauthn.WithCredentialParameters([]protocol.CredentialParameter{
			{Type: protocol.PublicKeyCredentialType, Algorithm: webauthncose.AlgES256},
			{Type: protocol.PublicKeyCredentialType, Algorithm: webauthncose.AlgEdDSA},
		}),
		webauthn.WithExclusions(webauthn.Credentials(u.credentials).CredentialDescriptors()))
	if err != nil {
		return nil, fmt.Errorf("beginning to bind a passkey: %w", err)
	}
	return r.begin(ctx, who, ceremonyPasskey, member, nil, options.Response, ceremonyData{Session: *session, Label: label})
}

// begin keeps a ceremony until it is finished, once, in the same session.
func (r *Register) begin(ctx context.Context, who Who, kind, member string, digest []byte, options any, data ceremonyData) (*Ceremony, error) {
	c := &Ceremony{ID: newID("c:")}
	var err error
	if c.Options, err = json.Marshal(options); err != nil {
		return nil, err
	}
	plain, err := json.Marshal(data)
	if err != nil {
		return nil, err
	}
	return c, r.db.In(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(ctx, "INSERT INTO ceremonies (id, kind, session, person, member, digest, data, expires) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
			c.ID, kind, who.Session, who.Person, member, digest, r.keys.Seal("ceremonies", "data", c.ID, plain), r.now().Add(ceremonyTime).UnixMilli())
		return err
	})
}

// taken is a ceremony at its end.
type taken struct {
	member string
	digest []byte
	ceremonyData
}

// take ends a ceremony: whatever comes of it, it does not count twice. It fails
// with ErrCeremony for one that is unknown, over, or another session's.
func (r *Register) take(ctx context.Context, who Who, kind, id string) (*taken, error) {
	t := new(taken)
	var sealed []byte
	var expires int64
	err := r.db.In(ctx, func(tx *store.Tx) error {
		return one(tx.QueryRow(ctx, "DELETE FROM ceremonies WHERE id = $1 AND kind = $2 AND session = $3 AND person = $4 RETURNING member, digest, data, expires",
			id, kind, who.Session, who.Person), &t.member, &t.digest, &sealed, &expires)
	})
	if errors.Is(err, ErrUnknown) {
		return nil, fmt.Errorf("unknown, used already, or begun in another session: %w", ErrCeremony)
	}
	if err != nil {
		return nil, err
	}
	if expires <= r.millis() {
		return nil, fmt.Errorf("more than %v after it began: %w", ceremonyTime, ErrCeremony)
	}
	plain, err := r.keys.Open("ceremonies", "data", id, sealed)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(plain, &t.ceremonyData); err != nil {
		return nil, err
	}
	// The time that counts is ours, checked above; the library has its own clock.
	t.Session.Expires = time.Time{}
	return t, nil
}

// FinishPasskey checks the browser's answer (the JSON of a credential with an
// attestation response), stores the passkey and announces its binding.
func (r *Register) FinishPasskey(ctx context.Context, who Who, id string, answer []byte) (*Passkey, error) {
	t, err := r.take(ctx, who, ceremonyPasskey, id)
	if err != nil {
		return nil, err
	}
	if _, err := r.mayAct(ctx, r.db, who.Person, t.member); err != nil {
		return nil, err
	}
	u, err := r.user(ctx, r.db, who.Person, t.member, StateWaiting, StateEnrolled)
	if err != nil {
		return nil, err
	}
	parsed, err := protocol.ParseCredentialCreationResponseBytes(answer)
	if err != nil {
		return nil, refused(err)
	}
	credential, err := r.auth.CreateCredential(u, t.Session, parsed)
	if err != nil {
		return nil, refused(err)
	}
	public, err := passkeyPublic(credential.PublicKey)
	if err != nil {
		return nil, refused(err)
	}
	// What the authenticator says of itself is not kept: it was not asked for,
	// and it could tell one person's devices together.
	credential.Attestation = webauthn.CredentialAttestation{}
	kid, row := public.KID(), public.KID().String()
	record, err := json.Marshal(credential)
	if err != nil {
		return nil, err
	}
	err = r.db.In(ctx, func(tx *store.Tx) error {
		if err := r.usePermission(ctx, tx, who, t.member, PermitPasskey); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "INSERT INTO passkeys (kid, credential, member, person, label, spki, record, state, created) VALUES ($1, $2, $3, $4, $5, $6, $7, 'waiting', $8)",
			row, base64.RawURLEncoding.EncodeToString(credential.ID), t.member, who.Person, r.keys.Seal("passkeys", "label", row, []byte(t.Label)), public.DER(), r.keys.Seal("passkeys", "record", row, record), r.millis())
		if store.IsDuplicate(err) {
			return ErrTaken
		}
		if err != nil {
			return err
		}
		content := evidence.Passkey{Member: t.member, Key: public, Credential: evidence.SumSHA256(credential.ID), RelyingParty: r.rpID, Demo: r.demo}
		if err := r.Announce(ctx, tx, PurposePasskey, kid, evidence.TypePasskey, content.Encode()); err != nil {
			return err
		}
		return r.log(ctx, tx, Access{Actor: who.Person, Subject: who.Person, Action: "bind-passkey", Object: row})
	})
	if err != nil {
		return nil, fmt.Errorf("binding a passkey: %w", err)
	}
	r.nudge()
	return r.readPasskey(func(to ...any) error {
		return one(r.db.QueryRow(ctx, "SELECT "+passkeyColumns+" FROM passkeys WHERE kid = $1", row), to...)
	})
}

// refused turns the library's error into ErrCeremony with its reason.
func refused(err error) error {
	var p *protocol.Error
	if errors.As(err, &p) && p.DevInfo != "" {
		return fmt.Errorf("%s: %s: %w", p.Details, p.DevInfo, ErrCeremony)
	}
	return fmt.Errorf("%v: %w", err, ErrCeremony)
}

// passkeyPublic reads a COSE_Key (RFC 9052 §7): Ed25519, or P-256 uncompressed.
func passkeyPublic(cose []byte) (*evidence.PublicKey, error) {
	parsed, err := webauthncose.ParsePublicKey(cose)
	if err != nil {
		return nil, err
	}
	var key any
	switch k := parsed.(type) {
	case webauthncose.OKPPublicKeyData:
		if webauthncose.COSEAlgorithmIdentifier(k.Algorithm) != webauthncose.AlgEdDSA || len(k.XCoord) != ed25519.PublicKeySize {
			return nil, errors.New("an OKP key that is not Ed25519")
		}
		key = ed25519.PublicKey(k.XCoord)
	case webauthncose.EC2PublicKeyData:
		if webauthncose.COSEAlgorithmIdentifier(k.Algorithm) != webauthncose.AlgES256 || len(k.XCoord) != 32 || len(k.YCoord) != 32 {
			return nil, errors.New("an EC key that is not P-256 for ES256")
		}
		point := append(append([]byte{4}, k.XCoord...), k.YCoord...) // uncompressed, SEC 1 §2.3.3
		if key, err = ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("a passkey of another kind (%T)", parsed)
	}
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, err
	}
	return evidence.ParsePublicKey(der)
}
