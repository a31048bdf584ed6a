package member

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/zhenglian/zhenglian/client"
	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/vault"
)

// Packaged says what a package holds.
type Packaged struct {
	Trail     evidence.Digest
	TreeSize  uint64
	Steps     int
	Withheld  []int // steps whose manifest is not in this home's vault
	NoObject  int   // objects that are named and not in the vault
	Witnesses []string
	Missing   []string // institutions of which some receipt was not to be had
	Foreign   int      // statements in the log that name the trail without a right to
	Tokens    int      // timestamp tokens
	// Unstamped counts the steps without a token over themselves or over a
	// checkpoint that covers them.
	Unstamped int
}

// Package writes the evidence package of a trail as of now: all its steps, the
// plaintext that this home has, the receipts of the institutions that are
// reached. w must be an empty file. Everything is checked before it is written,
// so that what comes out verifies.
func (h *Home) Package(ctx context.Context, c *client.Client, trail evidence.Digest, w io.Writer) (*Packaged, error) {
	if c.Alliance() == nil {
		return nil, errors.New("making a package: the client has no founding document")
	}
	t, err := h.wholeTrail(ctx, c, trail)
	if err != nil {
		return nil, err
	}
	plain := plaintext{ctx, h}
	passkeys, err := plain.passkeys(t)
	if err != nil {
		return nil, err
	}
	parts, err := c.Parts(ctx, t, passkeys)
	if err != nil {
		return nil, fmt.Errorf("gathering the package of trail %s: %w", trail, err)
	}
	if err := h.addOwn(c, t, parts); err != nil {
		return nil, err
	}
	packed, err := parts.Write(w, plain)
	if err != nil {
		return nil, err
	}
	out := &Packaged{Trail: trail, TreeSize: parts.TreeSize, Steps: packed.Steps, NoObject: packed.NoObject, Foreign: parts.Foreign, Missing: parts.Missing}
	if len(packed.Withheld) > 0 {
		out.Withheld = packed.Withheld
	}
	for i := range c.Policy().Institutions {
		if id := c.Policy().Institutions[i].ID; !slices.Contains(parts.Missing, id) {
			out.Witnesses = append(out.Witnesses, id)
		}
	}
	out.Tokens, out.Unstamped = parts.Tokens()
	return out, nil
}

// addOwn adds what this home has and no institution gave: certificates, and the
// checkpoints that were written down when the statements were signed.
func (h *Home) addOwn(c *client.Client, t *client.Trail, parts *evidence.PackageParts) error {
	entries, err := h.journal.entries(t.Trail)
	if err != nil {
		return err
	}
	for _, e := range entries {
		after := e.Statement.After
		if after.Size == 0 || e.After == nil || parts.Checkpoints[after.Size] != nil {
			continue
		}
		if cp, err := client.CheckCheckpoint(c.Policy(), e.After); err == nil && cp.Checkpoint == after {
			parts.Checkpoints[after.Size] = cp.Encode()
		}
	}
	chains, err := h.certificates()
	if err != nil {
		return err
	}
	for i := range parts.Signers {
		for j := range parts.Signers[i].Certificates {
			cert := &parts.Signers[i].Certificates[j]
			cert.Chain = string(chains[cert.SHA256])
		}
	}
	return nil
}

// plaintext is evidence.Plaintext out of this home's vault.
type plaintext struct {
	ctx context.Context
	h   *Home
}

func (p plaintext) Manifest(s *evidence.Statement) ([]byte, error) { return p.h.manifest(p.ctx, s) }

func (p plaintext) Object(o *evidence.Object) (io.Reader, error) {
	var content *vault.Content
	var err error
	if o.Vault != nil {
		content, err = p.h.vault.OpenObject(p.ctx, vault.Object{SHA256: o.SHA256, SM3: o.SM3, Size: o.Size, Chunks: o.Vault.Chunks,
			PlaintextRoot: o.Vault.PlainRoot, CiphertextRoot: o.Vault.CipherRoot}, p.h.config.Identity)
	} else {
		content, err = p.h.vault.Open(p.ctx, o.SHA256, p.h.config.Identity)
	}
	if errors.Is(err, vault.ErrMissing) || errors.Is(err, vault.ErrNotForKey) {
		return nil, nil
	}
	if err != nil {
		return nil, err // not content: a nil *vault.Content is no nil io.Reader
	}
	return content, nil
}

// passkeys returns the kids of the passkeys that confirmed the acts of the
// trail's manifests, as far as this home can open them.
func (p plaintext) passkeys(t *client.Trail) ([]evidence.Digest, error) {
	var kids []evidence.Digest
	for _, s := range t.Steps {
		data, err := p.Manifest(s.Statement)
		if err != nil {
			return nil, err
		}
		if data == nil {
			continue
		}
		m, err := evidence.ParseManifest(data)
		if err != nil || m.Act == nil || m.Act.Passkey == nil {
			continue // writing says what is wrong with a manifest
		}
		if !slices.Contains(kids, m.Act.Passkey.KID) {
			kids = append(kids, m.Act.Passkey.KID)
		}
	}
	return kids, nil
}
