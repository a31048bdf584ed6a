package identity

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/store"
)

// Holder says where a key's private half is.
type Holder string

// The holders.
const (
	HolderBrowser Holder = "browser"
	HolderFile    Holder = "file"
	HolderToken   Holder = "token"
)

// State of a key or passkey.
type State string

// The states. Only an enrolled one counts; what is being revoked counts here no
// more, and in the log from its revocation's position on.
const (
	StateWaiting  State = "waiting" // for the log
	StateEnrolled State = "enrolled"
	StateRefused  State = "refused" // by the log
	StateRevoking State = "revoking"
	StateRevoked  State = "revoked"
)

// Reason of a revocation: CRLReason of RFC 5280 §5.3.1.
type Reason uint64

// The reasons that persons and the desk give.
const (
	ReasonUnspecified Reason = 0
	ReasonCompromise  Reason = 1 // stolen, or somebody else used it
	ReasonAffiliation Reason = 3 // no more an agent
	ReasonSuperseded  Reason = 4 // replaced
	ReasonCessation   Reason = 5 // lost or not used any more
)

// valid: what is for good (not certificateHold, not removeFromCRL) and is said of
// a holder's key.
func (r Reason) valid() bool {
	switch r {
	case ReasonUnspecified, ReasonCompromise, ReasonAffiliation, ReasonSuperseded, ReasonCessation:
		return true
	}
	return false
}

// Key is a member's signing key.
type Key struct {
	KID       evidence.Digest
	Member    string
	Person    string // who holds it
	Label     string
	Holder    Holder
	Public    *evidence.PublicKey
	Level     int
	Recipient string // the recovery recipient that was given with it; "" without
	State     State
	Problem   string // why the log refused it
	Position  int64  // of the enrolment; -1 until there is one
	Created   time.Time
	Revoked   time.Time // zero: not
	Reason    Reason
}

// NewKey asks for an enrolment. The caller has checked that whoever asks holds
// the private half (the CSR's signature).
type NewKey struct {
	Member    string // "" is the person herself
	Public    *evidence.PublicKey
	Label     string // shown to her, up to 60 characters
	Holder    Holder
	Recipient string // age recipient of her recovery key, or ""
}

// maxLabel in characters: what fits in a row of a list.
const maxLabel = 60

func cleanLabel(s string) (string, error) {
	s = strings.TrimSpace(s)
	if !utf8.ValidString(s) || utf8.RuneCountInString(s) > maxLabel {
		return "", fmt.Errorf("a label has up to %d characters", maxLabel)
	}
	return strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f || c >= 0x202a && c <= 0x202e || c >= 0x2066 && c <= 0x2069 {
			return -1 // controls and marks that turn the direction of writing
		}
		return c
	}, s), nil
}

// EnrolKey writes a key down and announces its enrolment; Deliver takes it to
// the log. The same key of the same person twice is answered as it stands. It
// fails with ErrLevel, ErrUnknown (no mandate for that member), ErrTaken, and,
// once the person has had a passkey for the member, with ErrPermission unless
// she confirmed with it in this session (StepUp, kind PermitKey) or brought a
// recovery code.
func (r *Register) EnrolKey(ctx context.Context, who Who, n NewKey) (*Key, error) {
	label, err := cleanLabel(n.Label)
	if err != nil {
		return nil, err
	}
	if n.Public == nil {
		return nil, errors.New("enrolling a key: there is none")
	}
	switch n.Holder {
	case HolderBrowser, HolderFile, HolderToken:
	default:
		return nil, fmt.Errorf("enrolling a key: the holder %q is not browser, file or token", n.Holder)
	}
	kid := n.Public.KID()
	row := kid.String()
	err = r.db.In(ctx, func(tx *store.Tx) error {
		var holder, of string
		err := one(tx.QueryRow(ctx, "SELECT person, member FROM member_keys WHERE kid = $1", row), &holder, &of)
		if err == nil {
			if holder != who.Person || n.Member != "" && n.Member != of {
				return ErrTaken
			}
			return nil
		}
		if !errors.Is(err, ErrUnknown) {
			return err
		}
		var m *Member
		if n.Member == "" {
			m, err = r.ownMember(ctx, tx, who.Person)
		} else {
			if _, err = r.mayAct(ctx, tx, who.Person, n.Member); err == nil {
				m, err = r.member(ctx, tx, n.Member)
			}
			if err == nil && m.person != "" {
				m, err = r.ownMember(ctx, tx, who.Person) // takes over what is known since
			}
		}
		if err != nil {
			return err
		}
		if err := r.usePermission(ctx, tx, who, m.ID, PermitKey); err != nil {
			return err
		}
		var recipient []byte
		if n.Recipient != "" {
			recipient = r.keys.Seal("member_keys", "recipient", row, []byte(n.Recipient))
		}
		if _, err := tx.Exec(ctx, "INSERT INTO member_keys (kid, member, person, label, holder, spki, level, recipient, state, created) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'waiting', $9)",
			row, m.ID, who.Person, r.keys.Seal("member_keys", "label", row, []byte(label)), string(n.Holder), n.Public.DER(), m.Level, recipient, r.millis()); err != nil {
			return err
		}
		e := evidence.Enrolment{Member: m.ID, Key: n.Public, Kind: m.Kind, Assurance: uint64(m.Level), Commitment: m.Commitment, Demo: m.Demo}
		if err := r.Announce(ctx, tx, PurposeKey, kid, evidence.TypeEnrolment, e.Encode()); err != nil {
			return err
		}
		return r.log(ctx, tx, Access{Actor: who.Person, Subject: who.Person, Action: "enrol-key", Object: row})
	})
	if err != nil {
		return nil, fmt.Errorf("enrolling a key: %w", err)
	}
	r.nudge()
	return r.Key(ctx, who, kid)
}

const keyColumns = "kid, member, person, label, holder, spki, level, recipient, state, problem, position, created, revoked, reason"

func (r *Register) readKey(scan func(...any) error) (k *Key, err error) {
	k = new(Key)
	var kid string
	var label, spki, recipient []byte
	var position, revoked, reason *int64
	var created int64
	if err := scan(&kid, &k.Member, &k.Person, &label, &k.Holder, &spki, &k.Level, &recipient, &k.State, &k.Problem, &position, &created, &revoked, &reason); err != nil {
		return nil, err
	}
	if k.KID, err = evidence.ParseDigest(kid); err != nil {
		return nil, err
	}
	if k.Public, err = evidence.ParsePublicKey(spki); err != nil {
		return nil, err
	}
	plain, err := r.keys.Open("member_keys", "label", kid, label)
	if err != nil {
		return nil, err
	}
	k.Label = string(plain)
	if recipient != nil {
		if plain, err = r.keys.Open("member_keys", "recipient", kid, recipient); err != nil {
			return nil, err
		}
		k.Recipient = string(plain)
	}
	k.Created, k.Revoked, k.Position = time.UnixMilli(created), fromMillis(revoked), -1
	if position != nil {
		k.Position = *position
	}
	if reason != nil {
		k.Reason = Reason(*reason)
	}
	return k, nil
}

// Key returns a key of a member for which the person acts: her own keys, or
// with PowerKeys all of them. ErrUnknown otherwise.
func (r *Register) Key(ctx context.Context, who Who, kid evidence.Digest) (*Key, error) {
	k, err := r.readKey(func(to ...any) error {
		return one(r.db.QueryRow(ctx, "SELECT "+keyColumns+" FROM member_keys WHERE kid = $1", kid.String()), to...)
	})
	if err != nil {
		return nil, err
	}
	return k, r.mayTouch(ctx, r.db, who, k.Member, k.Person)
}

// mayTouch: the person's own, or an enterprise's whose keys she looks after.
func (r *Register) mayTouch(ctx context.Context, q store.Reader, who Who, member, holder string) error {
	if holder == who.Person {
		return nil
	}
	powers, err := r.mayAct(ctx, q, who.Person, member)
	if err != nil {
		return err
	}
	for _, p := range powers {
		if p == PowerKeys {
			return nil
		}
	}
	return ErrUnknown
}

// KeysOf returns the keys of a member that the person may see, newest first.
func (r *Register) KeysOf(ctx context.Context, who Who, member string) ([]*Key, error) {
	all, err := store.Collect[*Key](r.db.Query(ctx, "SELECT "+keyColumns+" FROM member_keys WHERE member = $1 ORDER BY created DESC, kid", member))(func(rows *store.Rows) (*Key, error) {
		return r.readKey(rows.Scan)
	})
	if err != nil {
		return nil, err
	}
	var visible []*Key
	for _, k := range all {
		switch err := r.mayTouch(ctx, r.db, who, member, k.Person); {
		case err == nil:
			visible = append(visible, k)
		case !errors.Is(err, ErrUnknown):
			return nil, err
		}
	}
	return visible, nil
}

// Label names a key or a passkey anew.
func (r *Register) Label(ctx context.Context, who Who, kid evidence.Digest, label string) error {
	label, err := cleanLabel(label)
	if err != nil {
		return err
	}
	return r.onEither(ctx, who, kid, func(tx *store.Tx, table, member, person string, state State) error {
		_, err := tx.Exec(ctx, "UPDATE "+table+" SET label = $1 WHERE kid = $2", r.keys.Seal(table, "label", kid.String(), []byte(label)), kid.String())
		return err
	})
}

// Revoke ends a key or passkey, here at once and in the log as soon as it can be
// reached. It needs no passkey: who was robbed has none. Revoking what is
// revoked is no error.
func (r *Register) Revoke(ctx context.Context, who Who, kid evidence.Digest, reason Reason) error {
	if !reason.valid() {
		return fmt.Errorf("revoking a key: %d is no reason that counts here: 0, 1, 3, 4 or 5", reason)
	}
	err := r.onEither(ctx, who, kid, func(tx *store.Tx, table, member, person string, state State) error {
		if err := r.revoke(ctx, tx, table, kid, state, reason); err != nil {
			return err
		}
		return r.log(ctx, tx, Access{Actor: who.Person, Subject: person, Action: "revoke", Object: kid.String()})
	})
	if err == nil {
		r.nudge()
	}
	return err
}

func (r *Register) onEither(ctx context.Context, who Who, kid evidence.Digest, do func(tx *store.Tx, table, member, person string, state State) error) error {
	return r.db.In(ctx, func(tx *store.Tx) error {
		for _, table := range []string{"member_keys", "passkeys"} {
			var member, person string
			var state State
			err := one(tx.QueryRow(ctx, "SELECT member, person, state FROM "+table+" WHERE kid = $1", kid.String()), &member, &person, &state)
			if errors.Is(err, ErrUnknown) {
				continue
			}
			if err != nil {
				return err
			}
			if err := r.mayTouch(ctx, tx, who, member, person); err != nil {
				return err
			}
			return do(tx, table, member, person, state)
		}
		return ErrUnknown
	})
}

func (r *Register) revoke(ctx context.Context, tx *store.Tx, table string, kid evidence.Digest, state State, reason Reason) error {
	if state == StateRevoked || state == StateRevoking || state == StateRefused {
		return nil
	}
	if _, err := tx.Exec(ctx, "UPDATE "+table+" SET state = 'revoking', revoked = $1, reason = $2 WHERE kid = $3", r.millis(), int64(reason), kid.String()); err != nil {
		return err
	}
	purpose := PurposeRevokeKey
	if table == "passkeys" {
		purpose = PurposeRevokePasskey
	}
	content := evidence.Revocation{KID: kid, Reason: uint64(reason)}
	return r.Announce(ctx, tx, purpose, kid, evidence.TypeRevocation, content.Encode())
}

// revokeAll revokes all that a person holds for a member.
func (r *Register) revokeAll(ctx context.Context, tx *store.Tx, member, person string, reason Reason) error {
	for _, table := range []string{"member_keys", "passkeys"} {
		kids, err := store.Collect[string](tx.Query(ctx, "SELECT kid FROM "+table+" WHERE member = $1 AND person = $2 AND state IN ('waiting', 'enrolled')", member, person))(func(rows *store.Rows) (s string, err error) {
			return s, rows.Scan(&s)
		})
		if err != nil {
			return err
		}
		for _, s := range kids {
			raw, err := hex.DecodeString(s)
			if err != nil {
				return err
			}
			kid, err := digestOf(raw)
			if err != nil {
				return err
			}
			if err := r.revoke(ctx, tx, table, kid, StateEnrolled, reason); err != nil {
				return err
			}
		}
	}
	return nil
}
