package testalliance

import (
	"bytes"
	"context"
	"io"
	"maps"
	"slices"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/verify"
)

// Content is everything in a package before it is written. A test alters it,
// and Encode writes an index that agrees with the alteration.
type Content struct {
	Info        evidence.PackageInfo
	Steps       []ContentStep
	Enrolments  map[evidence.Digest]*evidence.Registration
	Revocations map[evidence.Digest]*evidence.Registration
	Passkeys    map[evidence.Digest]*evidence.Registration
	// Issuances are the registrations of certificates by the digest of their DER.
	Issuances    map[evidence.Digest]*evidence.Registration
	Certificates [][]byte // PEM, as handed in
	KeyChanges   []evidence.Registration
	Heads        map[string][]byte
	Checkpoints  map[uint64][]byte
	Timestamps   map[uint64][]byte
	Renewals     map[string][]byte
	Alliance     []byte
	Keys         map[string][]*evidence.PublicKey
	MemberKeys   []*evidence.PublicKey
}

// ContentStep is one statement with what belongs to it. Manifest nil and an
// object nil are withheld.
type ContentStep struct {
	Statement []byte
	Position  uint64
	Manifest  []byte
	Objects   [][]byte
	Receipts  map[string][]byte
}

// Content gathers the package of a trail as of the log's present size.
func (a *Alliance) Content(trail evidence.Digest) (*Content, error) {
	size := a.Size()
	c := &Content{Info: evidence.PackageInfo{Alliance: a.ID(), Trail: trail, TreeSize: size},
		Enrolments: map[evidence.Digest]*evidence.Registration{}, Revocations: map[evidence.Digest]*evidence.Registration{},
		Passkeys: map[evidence.Digest]*evidence.Registration{}, Issuances: map[evidence.Digest]*evidence.Registration{},
		Heads: map[string][]byte{}, Checkpoints: map[uint64][]byte{}, Timestamps: map[uint64][]byte{}, Renewals: map[string][]byte{}, Keys: map[string][]*evidence.PublicKey{}}
	var err error
	if c.Alliance, err = a.Encode(); err != nil {
		return nil, err
	}
	for _, p := range a.trails[trail] {
		if err := a.addStep(c, p, size); err != nil {
			return nil, err
		}
	}
	if c.KeyChanges, err = a.ChangesAsOf(size); err != nil {
		return nil, err
	}
	for _, inst := range a.Institutions {
		if c.Heads[inst.ID], err = a.Head(trail, size, inst.ID); err != nil {
			return nil, err
		}
		c.Keys[inst.ID] = []*evidence.PublicKey{inst.At(evidence.UseReceipt, size).Public()}
	}
	return c, nil
}

func (a *Alliance) addStep(c *Content, p, size uint64) error {
	receipts, err := a.Receipts(p, size)
	if err != nil {
		return err
	}
	priv := a.private[p]
	c.Steps = append(c.Steps, ContentStep{Statement: a.statements[p], Position: p, Manifest: priv.manifest, Objects: slices.Clone(priv.objects), Receipts: receipts})
	s, err := evidence.ParseStatement(a.statements[p])
	if err != nil {
		return err
	}
	if after := s.After.Size; after > 0 && after <= size && c.Checkpoints[after] == nil {
		if c.Checkpoints[after], err = a.Cosigned(after); err != nil {
			return err
		}
	}
	if err := a.addCredentials(c, s, priv.manifest, size); err != nil {
		return err
	}
	m := a.members[s.KID]
	if m == nil || c.Enrolments[s.KID] != nil {
		return nil
	}
	if c.Enrolments[s.KID], err = a.registration(m.EnrolledAt, size); err != nil {
		return err
	}
	if m.Revocation != nil {
		c.Revocations[s.KID], err = a.registration(*m.Revocation, size)
	}
	c.MemberKeys = append(c.MemberKeys, m.Signer.Public())
	return err
}

func (a *Alliance) registration(p, size uint64) (*evidence.Registration, error) {
	receipts, err := a.Receipts(p, size)
	return &evidence.Registration{Statement: a.statements[p], Receipts: receipts}, err
}

// Encode writes the package.
func (c *Content) Encode() ([]byte, error) {
	file := &evidence.MemoryFile{}
	w, err := evidence.NewPackageWriter(file, c.Info)
	if err != nil {
		return nil, err
	}
	for _, st := range c.Steps {
		n, err := w.AddStep(st.Statement, st.Position, st.Manifest, st.Receipts)
		if err != nil {
			return nil, err
		}
		for i, o := range st.Objects {
			if o == nil || st.Manifest == nil {
				continue
			}
			if err := w.AddObject(n, i+1, bytes.NewReader(o)); err != nil {
				return nil, err
			}
		}
	}
	if err := c.encodeRest(w); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return file.Bytes(), nil
}

func (c *Content) encodeRest(w *evidence.PackageWriter) error {
	byKID := func(m map[evidence.Digest]*evidence.Registration) []evidence.Digest {
		return slices.SortedFunc(maps.Keys(m), func(x, y evidence.Digest) int { return bytes.Compare(x[:], y[:]) })
	}
	for _, kid := range byKID(c.Enrolments) {
		if err := w.AddEnrolment(kid, c.Enrolments[kid].Statement, c.Enrolments[kid].Receipts); err != nil {
			return err
		}
	}
	for _, kid := range byKID(c.Revocations) {
		if err := w.AddRevocation(kid, c.Revocations[kid].Statement, c.Revocations[kid].Receipts); err != nil {
			return err
		}
	}
	for _, kid := range byKID(c.Passkeys) {
		if err := w.AddPasskey(kid, c.Passkeys[kid].Statement, c.Passkeys[kid].Receipts); err != nil {
			return err
		}
	}
	for _, d := range byKID(c.Issuances) {
		if err := w.AddIssuance(d, c.Issuances[d].Statement, c.Issuances[d].Receipts); err != nil {
			return err
		}
	}
	for _, chain := range c.Certificates {
		if err := w.AddCertificate(chain); err != nil {
			return err
		}
	}
	for _, r := range c.KeyChanges {
		if err := w.AddKeyChange(r.Statement, r.Receipts); err != nil {
			return err
		}
	}
	for _, inst := range slices.Sorted(maps.Keys(c.Heads)) {
		if err := w.AddHead(inst, c.Heads[inst]); err != nil {
			return err
		}
	}
	for _, size := range slices.Sorted(maps.Keys(c.Checkpoints)) {
		if err := w.AddCheckpoint(size, c.Checkpoints[size]); err != nil {
			return err
		}
	}
	for _, size := range slices.Sorted(maps.Keys(c.Timestamps)) {
		if err := w.AddTimestamp(size, "notary", c.Timestamps[size]); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Renewals)) {
		if err := w.AddRenewal(name, c.Renewals[name]); err != nil {
			return err
		}
	}
	if c.Alliance != nil {
		if err := w.AddAlliance(c.Alliance); err != nil {
			return err
		}
	}
	for _, inst := range slices.Sorted(maps.Keys(c.Keys)) {
		if err := w.AddInstitutionKeys(inst, c.Keys[inst]...); err != nil {
			return err
		}
	}
	for _, key := range c.MemberKeys {
		if err := w.AddMemberKey(key); err != nil {
			return err
		}
	}
	return nil
}

// Log is the alliance's own log as one institution's copy.
func (a *Alliance) Log(institution string) verify.LogView { return &ownLog{a, institution} }

type ownLog struct {
	a           *Alliance
	institution string
}

func (l *ownLog) Institution() string { return l.institution }

func (l *ownLog) Checkpoint(context.Context) (evidence.Checkpoint, error) { return l.a.Now(), nil }

func (l *ownLog) Root(_ context.Context, size uint64) (evidence.Digest, bool, error) {
	if size > l.a.Size() {
		return evidence.Digest{}, false, nil
	}
	return l.a.RootAt(size), true, nil
}

func (l *ownLog) Lookup(_ context.Context, entry evidence.Digest) (uint64, bool, error) {
	for p, s := range l.a.statements {
		if evidence.SumSHA256(s) == entry {
			return uint64(p), true, nil
		}
	}
	return 0, false, nil
}

func (l *ownLog) Trail(_ context.Context, trail evidence.Digest) ([]verify.LogEntry, error) {
	var out []verify.LogEntry
	for _, p := range l.a.trails[trail] {
		out = append(out, verify.LogEntry{Position: p, Entry: evidence.SumSHA256(l.a.statements[p])})
	}
	return out, nil
}

func (l *ownLog) Statement(_ context.Context, position uint64) ([]byte, error) {
	if position >= l.a.Size() {
		return nil, io.ErrUnexpectedEOF
	}
	return l.a.statements[position], nil
}

func (l *ownLog) Key(_ context.Context, kid evidence.Digest) (verify.KeyStatus, bool, error) {
	if m := l.a.members[kid]; m != nil {
		k := verify.KeyStatus{Key: m.Signer.Public(), Holder: m.ID, Kind: "person", Assurance: m.Assurance, Demo: m.Demo, Commitment: m.Commitment, EnrolledAt: m.EnrolledAt}
		if m.Revocation != nil {
			k.Revoked, k.RevokedAt = true, *m.Revocation
		}
		return k, true, nil
	}
	if p := l.a.passkeys[kid]; p != nil {
		k := verify.KeyStatus{Key: p.Key, Holder: p.Member, Kind: "passkey", Demo: p.Demo, EnrolledAt: p.position, Passkey: p.Passkey}
		if p.revocation != nil {
			k.Revoked, k.RevokedAt = true, *p.revocation
		}
		return k, true, nil
	}
	for _, inst := range l.a.Institutions {
		for _, g := range inst.older {
			if g.use == evidence.UseStatement && g.signer.Public().KID() == kid {
				return verify.KeyStatus{Key: g.signer.Public(), Holder: inst.ID, Institution: true, Kind: string(inst.Kind), Genesis: true, Revoked: true, RevokedAt: g.to - 1}, true, nil
			}
		}
		if inst.Statement.Public().KID() == kid {
			return verify.KeyStatus{Key: inst.Statement.Public(), Holder: inst.ID, Institution: true, Kind: string(inst.Kind), Genesis: true}, true, nil
		}
	}
	return verify.KeyStatus{}, false, nil
}
