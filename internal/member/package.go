package member

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
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

// packing is a package being gathered.
type packing struct {
	h       *Home
	c       *client.Client
	trail   *client.Trail
	finals  []*client.Final
	members map[evidence.Digest]*registrations
	kids    []evidence.Digest
	cps     map[uint64][]byte
	roots   map[uint64]evidence.Digest   // sizes of the steps' receipts
	tokens  map[uint64]map[string][]byte // by size and authority
	owns    map[int]map[string][]byte    // over statements themselves, by step from 1 and authority
	size    uint64
	missing map[string]bool
	changes []evidence.Registration // of institutions' keys
}

// registrations are the statements of the registry about one key.
type registrations struct {
	key                   *evidence.PublicKey
	enrolment, revocation *evidence.Registration
	passkey               *evidence.Registration                     // of a passkey, instead of an enrolment
	certificates          map[evidence.Digest]*evidence.Registration // by the digest of the DER
}

// Package writes the evidence package of a trail as of now: all its steps, the
// plaintext that this home has, the receipts of the institutions that are
// reached. w must be an empty file. Everything is checked before it is written,
// so that what comes out verifies.
func (h *Home) Package(ctx context.Context, c *client.Client, trail evidence.Digest, w io.Writer) (*Packaged, error) {
	if c.Alliance() == nil {
		return nil, errors.New("making a package: the client has no founding document")
	}
	p := &packing{h: h, c: c, members: map[evidence.Digest]*registrations{}, cps: map[uint64][]byte{},
		roots: map[uint64]evidence.Digest{}, tokens: map[uint64]map[string][]byte{}, owns: map[int]map[string][]byte{}, missing: map[string]bool{}}
	var err error
	if p.trail, err = h.wholeTrail(ctx, c, trail); err != nil {
		return nil, err
	}
	if err := p.gather(ctx); err != nil {
		return nil, fmt.Errorf("gathering the package of trail %s: %w", trail, err)
	}
	return p.write(ctx, w)
}

// gather collects everything that comes from the institutions.
func (p *packing) gather(ctx context.Context) error {
	entries, err := p.h.journal.entries(p.trail.Trail)
	if err != nil {
		return err
	}
	own := map[uint64][]byte{}
	for _, e := range entries {
		own[e.Statement.After.Size] = e.After
	}
	for _, s := range p.trail.Steps {
		final, err := p.c.Confirm(ctx, s.Digest())
		if err != nil {
			return err
		}
		p.proven(final)
		p.finals = append(p.finals, final)
		if err := p.covered(s.Digest(), final); err != nil {
			return err
		}
		if err := p.checkpoint(ctx, s.After, own[s.After.Size]); err != nil {
			return err
		}
		if err := p.signer(ctx, s.KID); err != nil {
			return err
		}
		if err := p.passkey(ctx, s.Statement); err != nil {
			return err
		}
	}
	for _, head := range p.trail.Heads {
		p.size = max(p.size, head.Size)
	}
	size := uint64(0)
	if p.changes, size, err = p.c.PackageChanges(ctx); err != nil {
		return err
	}
	p.size = max(p.size, size)
	return p.timestamps(ctx)
}

// covered notes the roots that a step's receipts are over.
func (p *packing) covered(entry evidence.Digest, f *client.Final) error {
	for inst, data := range f.Receipts {
		r, err := evidence.ParseReceipt(data)
		if err != nil {
			return fmt.Errorf("reading the receipt of %s: %w", inst, err)
		}
		root, err := r.Root(entry)
		if err != nil {
			return fmt.Errorf("reading the receipt of %s: %w", inst, err)
		}
		p.roots[r.Size] = root
	}
	return nil
}

// timestamps fetches the tokens over the roots that the steps' receipts are
// over, and the checkpoints that they stamp. A package stands without them, so
// that an institution that cannot give them leaves them out.
func (p *packing) timestamps(ctx context.Context) error {
	for _, size := range sorted(p.roots) {
		cp := evidence.Checkpoint{Size: size, Root: p.roots[size]}
		tokens, err := p.c.Timestamps(ctx, cp)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil || len(tokens) == 0 {
			continue
		}
		if err := p.checkpoint(ctx, cp, nil); err != nil {
			return err
		}
		if p.cps[size] != nil { // else a token would stamp what is not shown
			p.tokens[size] = tokens
		}
	}
	for i, f := range p.finals {
		tokens, err := p.c.StatementTimestamps(ctx, f.Position, p.trail.Steps[i].Digest())
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil && len(tokens) > 0 {
			p.owns[i+1] = tokens
		}
	}
	return nil
}

// unstamped counts the steps that no token covers.
func (p *packing) unstamped() int {
	var last uint64
	for size := range p.tokens {
		last = max(last, size)
	}
	n := 0
	for i, f := range p.finals {
		if f.Position >= last && p.owns[i+1] == nil {
			n++
		}
	}
	return n
}

func (p *packing) proven(f *client.Final) {
	p.size = max(p.size, f.TreeSize)
	for _, inst := range f.Missing {
		p.missing[inst] = true
	}
}

// checkpoint keeps the cosigned checkpoint that a statement names.
func (p *packing) checkpoint(ctx context.Context, after evidence.Checkpoint, own []byte) error {
	if after.Size == 0 || p.cps[after.Size] != nil {
		return nil
	}
	if own != nil {
		if cp, err := client.CheckCheckpoint(p.c.Policy(), own); err == nil && cp.Checkpoint == after {
			p.cps[after.Size] = cp.Encode()
			return nil
		}
	}
	cp, err := p.c.CheckpointAt(ctx, after.Size)
	if errors.Is(err, client.ErrNotFound) {
		return nil // verification says what that leaves open
	}
	if err != nil {
		return err
	}
	p.cps[after.Size] = cp.Encode()
	return nil
}

// passkey keeps the statements about the passkey that confirmed the act of a
// manifest. One that the registry does not know is left out; verification says
// so.
func (p *packing) passkey(ctx context.Context, s *evidence.Statement) error {
	if !s.Envelope() {
		return nil
	}
	data, err := p.h.manifest(ctx, s)
	if err != nil || data == nil {
		return err
	}
	m, err := evidence.ParseManifest(data)
	if err != nil || m.Act == nil || m.Act.Passkey == nil {
		return nil // write says what is wrong with a manifest
	}
	if err := p.signer(ctx, m.Act.Passkey.KID); !errors.Is(err, client.ErrNotFound) {
		return err
	}
	return nil
}

// signer keeps the statements about a key: those that enrolled, certified and
// revoked it.
func (p *packing) signer(ctx context.Context, kid evidence.Digest) error {
	if p.members[kid] != nil {
		return nil
	}
	m, err := p.c.Member(ctx, kid)
	if err != nil {
		return err
	}
	r := &registrations{key: m.Key}
	p.members[kid] = r
	p.kids = append(p.kids, kid)
	take := func(position uint64) (*evidence.Registration, error) {
		reg, final, err := p.c.Registration(ctx, position)
		if err == nil {
			p.proven(final)
		}
		return reg, err
	}
	if m.OfNode { // its changes are in the package when there are any
		return nil
	}
	switch {
	case m.Passkey != nil:
		if r.passkey, err = take(m.EnrolledAt); err != nil {
			return err
		}
	case !m.Genesis:
		if r.enrolment, err = take(m.EnrolledAt); err != nil {
			return err
		}
	}
	r.certificates = map[evidence.Digest]*evidence.Registration{}
	for _, c := range m.Certificates {
		if r.certificates[c.SHA256], err = take(c.IssuedAt); err != nil {
			return err
		}
	}
	if m.Revoked {
		r.revocation, err = take(m.RevokedAt)
	}
	return err
}

func (p *packing) write(ctx context.Context, w io.Writer) (*Packaged, error) {
	out := &Packaged{Trail: p.trail.Trail, TreeSize: p.size, Steps: len(p.trail.Steps), Foreign: len(p.trail.Foreign)}
	pw, err := evidence.NewPackageWriter(w, evidence.PackageInfo{Alliance: p.c.Policy().Alliance, Trail: p.trail.Trail, TreeSize: p.size})
	if err != nil {
		return nil, err
	}
	for i, s := range p.trail.Steps {
		manifest, err := p.h.manifest(ctx, s.Statement)
		if err != nil {
			return nil, err
		}
		if manifest == nil && s.Envelope() {
			out.Withheld = append(out.Withheld, i+1)
		}
		n, err := pw.AddStep(s.Bytes(), p.finals[i].Position, manifest, p.finals[i].Receipts)
		if err != nil {
			return nil, err
		}
		absent, err := p.writeObjects(ctx, pw, n, manifest)
		if err != nil {
			return nil, err
		}
		out.NoObject += absent
	}
	if err := p.writeTrust(pw); err != nil {
		return nil, err
	}
	for i := range p.c.Policy().Institutions {
		if id := p.c.Policy().Institutions[i].ID; p.missing[id] {
			out.Missing = append(out.Missing, id)
		} else {
			out.Witnesses = append(out.Witnesses, id)
		}
	}
	for _, tokens := range p.tokens {
		out.Tokens += len(tokens)
	}
	for _, tokens := range p.owns {
		out.Tokens += len(tokens)
	}
	out.Unstamped = p.unstamped()
	return out, pw.Close()
}

// writeObjects adds the objects of a step that the vault holds; absent counts
// the others.
func (p *packing) writeObjects(ctx context.Context, pw *evidence.PackageWriter, n int, manifest []byte) (absent int, err error) {
	if manifest == nil {
		return 0, nil
	}
	m, err := evidence.ParseManifest(manifest)
	if err != nil {
		return 0, fmt.Errorf("reading the manifest of step %d: %w", n, err)
	}
	for i, o := range m.Objects {
		var content *vault.Content
		if o.Vault != nil {
			content, err = p.h.vault.OpenObject(ctx, vault.Object{SHA256: o.SHA256, SM3: o.SM3, Size: o.Size, Chunks: o.Vault.Chunks,
				PlaintextRoot: o.Vault.PlainRoot, CiphertextRoot: o.Vault.CipherRoot}, p.h.config.Identity)
		} else {
			content, err = p.h.vault.Open(ctx, o.SHA256, p.h.config.Identity)
		}
		if errors.Is(err, vault.ErrMissing) || errors.Is(err, vault.ErrNotForKey) {
			absent++
			continue
		}
		if err != nil {
			return absent, fmt.Errorf("opening %s: %w", o.Name, err)
		}
		if err := pw.AddObject(n, i+1, content); err != nil {
			return absent, err
		}
	}
	return absent, nil
}

// writeTrust adds registrations, heads, checkpoints and keys.
func (p *packing) writeTrust(pw *evidence.PackageWriter) error {
	for _, kid := range p.kids {
		r := p.members[kid]
		if r.enrolment != nil {
			if err := pw.AddEnrolment(kid, r.enrolment.Statement, r.enrolment.Receipts); err != nil {
				return err
			}
		}
		if r.passkey != nil {
			if err := pw.AddPasskey(kid, r.passkey.Statement, r.passkey.Receipts); err != nil {
				return err
			}
		}
		if r.revocation != nil {
			if err := pw.AddRevocation(kid, r.revocation.Statement, r.revocation.Receipts); err != nil {
				return err
			}
		}
	}
	if err := p.writeCertificates(pw); err != nil {
		return err
	}
	for _, inst := range sorted(p.trail.Heads) {
		if err := pw.AddHead(inst, p.trail.Heads[inst].Bytes); err != nil {
			return err
		}
	}
	for _, size := range sorted(p.cps) {
		if err := pw.AddCheckpoint(size, p.cps[size]); err != nil {
			return err
		}
	}
	for _, size := range sorted(p.tokens) {
		for _, authority := range sorted(p.tokens[size]) {
			if err := pw.AddTimestamp(size, authority, p.tokens[size][authority]); err != nil {
				return err
			}
		}
	}
	for _, ch := range p.changes {
		if err := pw.AddKeyChange(ch.Statement, ch.Receipts); err != nil {
			return err
		}
	}
	for _, n := range slices.Sorted(maps.Keys(p.owns)) {
		for _, authority := range sorted(p.owns[n]) {
			if err := pw.AddStatementTimestamp(n, authority, p.owns[n][authority]); err != nil {
				return err
			}
		}
	}
	genesis, err := p.c.Alliance().Encode()
	if err != nil {
		return err
	}
	if err := pw.AddAlliance(genesis); err != nil {
		return err
	}
	for i := range p.c.Policy().Institutions {
		id := p.c.Policy().Institutions[i].ID
		now := p.c.Policy().Keys(id, evidence.UseReceipt, p.size)
		if err := pw.AddInstitutionKeys(id, now...); err != nil {
			return err
		}
		for _, key := range p.c.Policy().AllKeys(id, evidence.UseReceipt) {
			if slices.ContainsFunc(now, key.Equal) {
				continue
			}
			if err := pw.AddOlderInstitutionKey(id, key); err != nil {
				return err
			}
		}
	}
	for _, kid := range p.kids {
		if p.members[kid].passkey != nil {
			continue // its statement holds it, and it signs nothing that other tools check
		}
		if err := pw.AddMemberKey(p.members[kid].key); err != nil {
			return err
		}
	}
	return nil
}

// writeCertificates adds how the signers' certificates were registered, and the
// certificates of this home.
func (p *packing) writeCertificates(pw *evidence.PackageWriter) error {
	chains, err := p.h.certificates()
	if err != nil {
		return err
	}
	for _, kid := range p.kids {
		for _, d := range slices.SortedFunc(maps.Keys(p.members[kid].certificates), func(a, b evidence.Digest) int { return bytes.Compare(a[:], b[:]) }) {
			c := p.members[kid].certificates[d]
			if err := pw.AddIssuance(d, c.Statement, c.Receipts); err != nil {
				return err
			}
			if chain, ok := chains[d]; ok {
				if err := pw.AddCertificate(chain); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func sorted[K interface{ ~string | ~uint64 }, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
