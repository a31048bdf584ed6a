package client

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/zhenglian/zhenglian/evidence"
)

// partsGathering is a package's parts being gathered.
type partsGathering struct {
	c       *Client
	parts   *evidence.PackageParts
	missing map[string]bool
	signers map[evidence.Digest]bool
	roots   map[uint64]evidence.Digest // of the sizes that the steps' receipts are over
}

// Parts gathers everything of a trail's evidence package but its plaintext, as
// of now, and proves it: receipts of a quorum for every step and registration.
// For the same askers as Trail. passkeys are the kids of passkeys that manifests
// name, which the institutions cannot know.
func (c *Client) Parts(ctx context.Context, t *Trail, passkeys []evidence.Digest) (*evidence.PackageParts, error) {
	if c.Alliance() == nil {
		return nil, errors.New("gathering a package: the client has no founding document")
	}
	g := &partsGathering{c: c, missing: map[string]bool{}, signers: map[evidence.Digest]bool{}, roots: map[uint64]evidence.Digest{},
		parts: &evidence.PackageParts{Trail: t.Trail, Foreign: len(t.Foreign), Heads: map[string][]byte{}, Checkpoints: map[uint64][]byte{},
			Timestamps: map[uint64]map[string][]byte{}, InstitutionKeys: map[string][]string{}, OlderKeys: map[string][]string{}, Missing: []string{}}}
	var err error
	if g.parts.Alliance, err = c.Alliance().Encode(); err != nil {
		return nil, err
	}
	for _, s := range t.Steps {
		if err := g.step(ctx, s); err != nil {
			return nil, fmt.Errorf("gathering step %s: %w", s.Digest(), err)
		}
	}
	for _, kid := range passkeys {
		// One that the registry does not know is left out; verification says so.
		if err := g.signer(ctx, kid); err != nil && !errors.Is(err, ErrNotFound) {
			return nil, fmt.Errorf("gathering passkey %s: %w", kid, err)
		}
	}
	for inst, head := range t.Heads {
		g.parts.Heads[inst] = head.Bytes
		g.parts.TreeSize = max(g.parts.TreeSize, head.Size)
	}
	if err := g.timestamps(ctx); err != nil {
		return nil, err
	}
	size := uint64(0)
	if g.parts.KeyChanges, size, err = c.PackageChanges(ctx); err != nil {
		return nil, err
	}
	g.parts.TreeSize = max(g.parts.TreeSize, size)
	for i := range c.Policy().Institutions {
		id := c.Policy().Institutions[i].ID
		now := c.Policy().Keys(id, evidence.UseReceipt, g.parts.TreeSize)
		g.parts.InstitutionKeys[id] = []string{}
		for _, key := range now {
			g.parts.InstitutionKeys[id] = append(g.parts.InstitutionKeys[id], string(key.PEM()))
		}
		for _, key := range c.Policy().AllKeys(id, evidence.UseReceipt) {
			if !slices.ContainsFunc(now, key.Equal) {
				g.parts.OlderKeys[id] = append(g.parts.OlderKeys[id], string(key.PEM()))
			}
		}
		if g.missing[id] {
			g.parts.Missing = append(g.parts.Missing, id)
		}
	}
	return g.parts, nil
}

func (g *partsGathering) step(ctx context.Context, s TrailStep) error {
	final, err := g.c.Confirm(ctx, s.Digest())
	if err != nil {
		return err
	}
	g.proven(final)
	part := evidence.PartStep{Statement: s.Bytes(), Position: final.Position, Receipts: final.Receipts}
	// A package stands without tokens, as with those over checkpoints.
	if own, err := g.c.StatementTimestamps(ctx, final.Position, s.Digest()); err == nil && len(own) > 0 {
		part.Timestamps = own
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	g.parts.Steps = append(g.parts.Steps, part)
	for inst, data := range final.Receipts {
		r, err := evidence.ParseReceipt(data)
		if err != nil {
			return fmt.Errorf("reading the receipt of %s: %w", inst, err)
		}
		if g.roots[r.Size], err = r.Root(s.Digest()); err != nil {
			return fmt.Errorf("reading the receipt of %s: %w", inst, err)
		}
	}
	if err := g.checkpoint(ctx, s.After); err != nil {
		return err
	}
	return g.signer(ctx, s.KID)
}

func (g *partsGathering) proven(f *Final) {
	g.parts.TreeSize = max(g.parts.TreeSize, f.TreeSize)
	for _, inst := range f.Missing {
		g.missing[inst] = true
	}
}

// checkpoint fetches the cosigned checkpoint that a statement or token names.
func (g *partsGathering) checkpoint(ctx context.Context, at evidence.Checkpoint) error {
	if at.Size == 0 || g.parts.Checkpoints[at.Size] != nil {
		return nil
	}
	cp, err := g.c.CheckpointAt(ctx, at.Size)
	if errors.Is(err, ErrNotFound) {
		return nil // verification says what that leaves open
	}
	if err == nil {
		g.parts.Checkpoints[at.Size] = cp.Encode()
	}
	return err
}

// signer fetches the statements about a key: those that enrolled, certified and
// revoked it.
func (g *partsGathering) signer(ctx context.Context, kid evidence.Digest) error {
	if g.signers[kid] {
		return nil
	}
	g.signers[kid] = true
	m, err := g.c.Member(ctx, kid)
	if err != nil {
		return err
	}
	s := evidence.PartSigner{Key: m.Key.DER()}
	take := func(position uint64) (*evidence.Registration, error) {
		reg, final, err := g.c.Registration(ctx, position)
		if err == nil {
			g.proven(final)
		}
		return reg, err
	}
	if m.OfNode { // an institution's key: key changes lead to it
		g.parts.Signers = append(g.parts.Signers, s)
		return nil
	}
	switch {
	case m.Passkey != nil:
		s.Passkey, err = take(m.EnrolledAt)
	case !m.Genesis:
		s.Enrolment, err = take(m.EnrolledAt)
	}
	if err != nil {
		return err
	}
	for _, cert := range m.Certificates {
		reg, err := take(cert.IssuedAt)
		if err != nil {
			return err
		}
		s.Certificates = append(s.Certificates, evidence.PartCertificate{SHA256: cert.SHA256, Issuance: *reg})
	}
	if m.Revoked {
		if s.Revocation, err = take(m.RevokedAt); err != nil {
			return err
		}
	}
	g.parts.Signers = append(g.parts.Signers, s)
	return nil
}

// timestamps fetches the tokens over the roots that the steps' receipts are
// over, and the checkpoints that they stamp. A package stands without them, so
// that an institution that cannot give them leaves them out.
func (g *partsGathering) timestamps(ctx context.Context) error {
	for _, size := range slices.Sorted(maps.Keys(g.roots)) {
		cp := evidence.Checkpoint{Size: size, Root: g.roots[size]}
		tokens, err := g.c.Timestamps(ctx, cp)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil || len(tokens) == 0 {
			continue
		}
		if err := g.checkpoint(ctx, cp); err != nil {
			return err
		}
		if g.parts.Checkpoints[size] != nil { // else a token would stamp what is not shown
			g.parts.Timestamps[size] = tokens
		}
	}
	return nil
}
