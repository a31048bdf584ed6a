package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
)

// Record is what an institution says of an entry. It is a claim: Confirm proves
// position and witnesses.
type Record struct {
	Institution string          `json:"-"` // that says so
	Position    uint64          `json:"position"`
	Entry       evidence.Digest `json:"digest"`
	BlockTime   time.Time       `json:"block_time"`
	Witnesses   []string        `json:"witnesses"`
	Final       bool            `json:"final"`
}

// Lookup finds an entry by its digest. ErrNotFound.
func (c *Client) Lookup(ctx context.Context, entry evidence.Digest) (*Record, error) {
	r, err := c.record(ctx, "/api/v1/statements/"+entry.String())
	if err != nil {
		return nil, fmt.Errorf("looking %s up: %w", entry, err)
	}
	if r.Entry != entry {
		return nil, fmt.Errorf("looking %s up: %s answers for %s", entry, r.Institution, r.Entry)
	}
	return r, nil
}

// RecordAt finds an entry by its position. ErrNotFound.
func (c *Client) RecordAt(ctx context.Context, position uint64) (*Record, error) {
	r, err := c.record(ctx, fmt.Sprintf("/api/v1/positions/%d", position))
	if err != nil {
		return nil, fmt.Errorf("looking position %d up: %w", position, err)
	}
	if r.Position != position {
		return nil, fmt.Errorf("looking position %d up: %s answers for %d", position, r.Institution, r.Position)
	}
	return r, nil
}

func (c *Client) record(ctx context.Context, path string) (*Record, error) {
	r := new(Record)
	a, err := c.anyNode(ctx, request{method: http.MethodGet, path: path, accept: typeJSON}, func(a *answer) error {
		*r = Record{}
		return readJSON(a, r)
	})
	if err != nil {
		return nil, err
	}
	r.Institution = a.node.institution
	return r, nil
}

// Statement returns the registered bytes of a statement, which the digest
// proves. Other than the registry's they are for its signer, the readers of its
// trail, and institutions: the client then needs a signer. ErrNotFound.
func (c *Client) Statement(ctx context.Context, entry evidence.Digest) ([]byte, error) {
	return c.statement(ctx, entry, c.signer != nil)
}

func (c *Client) statement(ctx context.Context, entry evidence.Digest, signed bool) ([]byte, error) {
	q := request{method: http.MethodGet, path: "/api/v1/statements/" + entry.String() + "/bytes", accept: "application/scitt-statement+cose", signed: signed}
	a, err := c.anyNode(ctx, q, func(a *answer) error {
		if got := evidence.SumSHA256(a.body); got != entry {
			return fmt.Errorf("it sent other bytes, with the digest %s", got)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("fetching statement %s: %w", entry, err)
	}
	return a.body, nil
}

// CheckpointAt returns the checkpoint of that size with the cosignatures that
// verified; institutions that have less than a quorum of them are passed over.
func (c *Client) CheckpointAt(ctx context.Context, size uint64) (*evidence.CosignedCheckpoint, error) {
	return following(ctx, c, func(first bool) (*evidence.CosignedCheckpoint, bool, error) { return c.checkpointAt(ctx, size, first) })
}

func (c *Client) checkpointAt(ctx context.Context, size uint64, early bool) (cp *evidence.CosignedCheckpoint, short bool, err error) {
	_, err = c.anyNode(ctx, request{method: http.MethodGet, path: fmt.Sprintf("/api/v1/checkpoints/%d", size), accept: "text/plain"}, func(a *answer) (err error) {
		cp, err = CheckCheckpoint(c.Policy(), a.body)
		if short = early && errors.As(err, new(*QuorumError)); short {
			return nil
		}
		if err == nil && cp.Size != size {
			err = fmt.Errorf("it sent the checkpoint of size %d", cp.Size)
		}
		return err
	})
	if err == nil && short {
		err = &QuorumError{What: fmt.Sprintf("the checkpoint of size %d", size), Need: c.Policy().Quorum}
	}
	if err != nil {
		return nil, short, fmt.Errorf("fetching the checkpoint of size %d: %w", size, err)
	}
	return cp, false, nil
}

// Member is the registry's entry of a key, as an institution says it. For a
// member who is enrolled, Registration proves it.
type Member struct {
	Institution string // that says so
	Key         *evidence.PublicKey
	Holder      string // member or institution id
	OfNode      bool   // an institution's statement key
	Kind        string
	Assurance   int
	Demo        bool
	Genesis     bool
	EnrolledAt  uint64
	Revoked     bool
	RevokedAt   uint64
	// Passkey is set for a passkey, which signs no statements; EnrolledAt is the
	// position of its statement.
	Passkey      *Passkey
	Certificates []Certificate // of a member's key, in the order of the log
}

// Passkey is what the registry says of a passkey beside key and holder.
type Passkey struct {
	Credential   evidence.Digest `json:"credential"` // SHA-256 of the credential id
	RelyingParty string          `json:"relying_party"`
}

// Certificate is the registry's entry of a certificate, whose key registers
// nothing after the last NotAfter.
type Certificate struct {
	IssuedAt  uint64          `json:"issued_at"` // position of the statement
	Serial    string          `json:"serial"`    // contents of the INTEGER, hexadecimal
	SHA256    evidence.Digest `json:"sha256"`    // of the DER
	NotBefore time.Time       `json:"not_before"`
	NotAfter  time.Time       `json:"not_after"`
}

// Member looks a key up in the registry. ErrNotFound.
func (c *Client) Member(ctx context.Context, kid evidence.Digest) (*Member, error) {
	var m *Member
	_, err := c.anyNode(ctx, request{method: http.MethodGet, path: "/api/v1/members/" + kid.String(), accept: typeJSON}, func(a *answer) error {
		var v struct {
			Key         string  `json:"key"`
			Holder      string  `json:"holder"`
			Institution bool    `json:"institution"`
			Kind        string  `json:"kind"`
			Assurance   int     `json:"assurance"`
			Demo        bool    `json:"demo"`
			Genesis     bool    `json:"genesis"`
			EnrolledAt  *uint64 `json:"enrolled_at"`
			Revoked     bool    `json:"revoked"`
			RevokedAt   *uint64 `json:"revoked_at"`

			Passkey      *Passkey      `json:"passkey"`
			Certificates []Certificate `json:"certificates"`
		}
		if err := readJSON(a, &v); err != nil {
			return err
		}
		key, err := evidence.ParsePublicKeyPEM([]byte(v.Key))
		if err != nil {
			return err
		}
		if key.KID() != kid {
			return fmt.Errorf("it sent key %s", key.KID())
		}
		if !v.Genesis && v.EnrolledAt == nil || v.Revoked && v.RevokedAt == nil {
			return errors.New("it leaves out where the key was enrolled or revoked")
		}
		m = &Member{Institution: a.node.institution, Key: key, Holder: v.Holder, OfNode: v.Institution, Kind: v.Kind, Assurance: v.Assurance, Demo: v.Demo, Genesis: v.Genesis, Revoked: v.Revoked, Passkey: v.Passkey, Certificates: v.Certificates}
		if v.EnrolledAt != nil {
			m.EnrolledAt = *v.EnrolledAt
		}
		if v.RevokedAt != nil {
			m.RevokedAt = *v.RevokedAt
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("looking key %s up: %w", kid, err)
	}
	return m, nil
}

// Registration fetches the statement of the registry at a position and proves
// it: receipts of a quorum, for these bytes at this position.
func (c *Client) Registration(ctx context.Context, position uint64) (*evidence.Registration, *Final, error) {
	rec, err := c.RecordAt(ctx, position)
	if err != nil {
		return nil, nil, err
	}
	data, err := c.statement(ctx, rec.Entry, false)
	if err != nil {
		return nil, nil, err
	}
	final, err := c.Confirm(ctx, rec.Entry)
	if err != nil {
		return nil, nil, err
	}
	if final.Position != position {
		return nil, nil, fmt.Errorf("the statement that %s names for position %d is at %d", rec.Institution, position, final.Position)
	}
	return &evidence.Registration{Statement: data, Receipts: final.Receipts}, final, nil
}

// FetchAlliance fetches the founding document from an institution's address and
// accepts it only when it has the id pinned.
func FetchAlliance(ctx context.Context, hc *http.Client, base string, pinned evidence.Digest) (*evidence.Alliance, []byte, error) {
	if hc == nil {
		hc = defaultHTTPClient()
	}
	n := &node{institution: base, base: base}
	c := &Client{http: hc, language: "en", now: time.Now, nodes: []*node{n}}
	a, err := c.ask(ctx, n, request{method: http.MethodGet, path: "/api/v1/alliance", accept: typeJSON})
	if err != nil {
		return nil, nil, fmt.Errorf("fetching the founding document: %w", err)
	}
	if got := evidence.SumSHA256(a.body); got != pinned {
		return nil, nil, fmt.Errorf("%s serves the alliance %s, pinned is %s", base, got, pinned)
	}
	alliance, err := evidence.ParseAlliance(a.body)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the founding document: %w", err)
	}
	return alliance, a.body, nil
}
