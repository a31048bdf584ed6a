// Package testalliance makes a whole alliance in memory for tests: institutions
// with their keys, a log, members, statements, receipts, checkpoints, trail
// heads and packages. Every key follows from a seed, so that a test has the
// same bytes each time, and another seed makes a forger's alliance of the same
// names.
//
//	New(seed, n) ─► Enrol ─► Open / Deposit / Authorise ─► log grows
//	                                   │
//	           Content(trail) ◄────────┴── receipts, heads, checkpoints
//	                │ tests alter it here
//	           Encode ─► package bytes
//
// It is test code and trusts nothing, because nothing may trust it.
package testalliance

import (
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/transparency-dev/merkle/rfc6962"
	merkle "github.com/transparency-dev/merkle/testonly"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/registry"
)

// Start is the clock of every test alliance at its founding: 2026-03-01
// 09:30:00 in Beijing.
const Start = int64(1772328600)

// BlockEvery is the time between two entries of the log, in seconds.
const BlockEvery = 10

// Institution is one institution with its private keys.
type Institution struct {
	ID        string
	Kind      evidence.InstitutionKind
	Receipt   evidence.Signer
	Cosign    evidence.Signer
	Statement evidence.Signer
	Attest    evidence.Signer

	older []generation
}

// Member is an enrolled member with her key.
type Member struct {
	ID         string
	Signer     evidence.Signer
	Assurance  int
	Demo       bool
	Commitment evidence.Digest
	EnrolledAt uint64
	Revocation *uint64
}

// Alliance is a founded alliance with its log.
type Alliance struct {
	*evidence.Alliance
	Policy       *evidence.Policy
	Institutions []*Institution // in the order of ids
	CosignLater  int64          // seconds that all clocks of cosigners are ahead

	seed       string
	tree       *merkle.Tree
	statements [][]byte
	members    map[evidence.Digest]*Member
	trails     map[evidence.Digest][]uint64
	private    map[uint64]private // manifests and objects by position
	credentials
}

type private struct {
	manifest []byte
	objects  [][]byte
}

// Signer derives an Ed25519 signer from a text.
func Signer(text string) (evidence.Signer, error) {
	seed := sha256.Sum256([]byte(text))
	return evidence.NewSigner(ed25519.NewKeyFromSeed(seed[:]))
}

// New founds an alliance of n institutions: a court, a ca, a notary, a forensic
// institution, then others.
func New(seed string, n int) (*Alliance, error) {
	a := &Alliance{seed: seed, tree: merkle.New(rfc6962.DefaultHasher), members: map[evidence.Digest]*Member{},
		trails: map[evidence.Digest][]uint64{}, private: map[uint64]private{},
		credentials: credentials{map[evidence.Digest]*registeredPasskey{}, map[evidence.Digest][]registry.Issued{}}}
	founders := []struct {
		id, name string
		kind     evidence.InstitutionKind
	}{
		{"ca", "示范数字证书认证中心", evidence.KindCA}, {"court", "示范互联网法院", evidence.KindCourt},
		{"forensic", "示范司法鉴定所", evidence.KindForensic}, {"notary", "示范公证处", evidence.KindNotary},
	}
	var descriptors []evidence.Descriptor
	for i := range n {
		id, name, kind := fmt.Sprintf("other-%02d", i), fmt.Sprintf("示范机构 %d", i), evidence.KindOther
		if i < len(founders) {
			id, name, kind = founders[i].id, founders[i].name, founders[i].kind
		}
		inst, d, err := newInstitution(seed, id, name, kind)
		if err != nil {
			return nil, err
		}
		a.Institutions = append(a.Institutions, inst)
		descriptors = append(descriptors, *d)
	}
	var err error
	if a.Alliance, err = evidence.NewAlliance("示范存证联盟", "demo", time.Unix(Start, 0).UTC(), descriptors); err != nil {
		return nil, err
	}
	a.Policy, err = evidence.PolicyFromAlliance(a.Alliance)
	return a, err
}

func newInstitution(seed, id, name string, kind evidence.InstitutionKind) (*Institution, *evidence.Descriptor, error) {
	inst := &Institution{ID: id, Kind: kind}
	d := &evidence.Descriptor{V: 1, ID: id, Name: name, Kind: kind,
		Addresses: evidence.Addresses{API: "https://" + id + ".example", Peer: id + ".example:9443", P2P: id + ".example:26656"},
		Proofs:    map[string][]byte{}}
	signers := map[string]evidence.Signer{}
	for _, use := range []string{"consensus", "node", "receipt.1", "cosign", "statement", "attest", "tls"} {
		s, err := Signer(seed + "/" + id + "/" + use)
		if err != nil {
			return nil, nil, err
		}
		signers[use] = s
	}
	d.Keys = evidence.InstitutionKeys{Consensus: signers["consensus"].Public().Raw(), Node: signers["node"].Public().Raw(),
		Receipt: [][]byte{signers["receipt.1"].Public().DER()}, Cosign: signers["cosign"].Public().DER(),
		Statement: signers["statement"].Public().DER(), Attest: signers["attest"].Public().DER(), TLS: signers["tls"].Public().DER()}
	for _, proof := range d.ProofNames() {
		if err := d.Prove(proof, signers[proof]); err != nil {
			return nil, nil, err
		}
	}
	inst.Receipt, inst.Cosign, inst.Statement, inst.Attest = signers["receipt.1"], signers["cosign"], signers["statement"], signers["attest"]
	return inst, d, nil
}

// Size returns the number of entries of the log.
func (a *Alliance) Size() uint64 { return a.tree.Size() }

// BlockTime returns the block time of the entry at a position.
func BlockTime(position uint64) int64 { return Start + BlockEvery*(int64(position)+1) }

// RootAt returns the root of the log at a size.
func (a *Alliance) RootAt(size uint64) evidence.Digest { return evidence.Digest(a.tree.HashAt(size)) }

// Now returns the latest checkpoint.
func (a *Alliance) Now() evidence.Checkpoint {
	return evidence.Checkpoint{Size: a.Size(), Root: a.RootAt(a.Size())}
}

// Append registers a statement without any check, as a log does for whatever a
// quorum of nodes lets pass.
func (a *Alliance) Append(s *evidence.Statement) uint64 {
	position := a.tree.Size()
	d := s.Digest()
	a.tree.AppendData(d[:])
	a.statements = append(a.statements, s.Bytes())
	if trail, ok := s.Trail(); ok {
		a.trails[trail] = append(a.trails[trail], position)
	}
	return position
}

// Enrol makes a member with a key of her own, certified by the ca.
func (a *Alliance) Enrol(id string, assurance int, demo bool) (*Member, error) {
	signer, err := Signer(a.seed + "/member/" + id)
	if err != nil {
		return nil, err
	}
	return a.EnrolKey(id, signer, evidence.KindPerson, assurance, demo, "ca")
}

// EnrolKey registers an enrolment signed by the institution named.
func (a *Alliance) EnrolKey(id string, signer evidence.Signer, kind evidence.MemberKind, assurance int, demo bool, by string) (*Member, error) {
	m := &Member{ID: id, Signer: signer, Assurance: assurance, Demo: demo, Commitment: evidence.SumSHA256([]byte("commitment " + id))}
	e := &evidence.Enrolment{Member: id, Key: signer.Public(), Kind: kind, Assurance: uint64(assurance), Commitment: m.Commitment, Demo: demo}
	s, err := evidence.Statement{Issuer: by, Subject: evidence.SubjectRegistry, IssuedAt: BlockTime(a.Size()), ContentType: evidence.TypeEnrolment, Payload: e.Encode()}.Sign(a.Get(by).Statement)
	if err != nil {
		return nil, err
	}
	m.EnrolledAt = a.Append(s)
	a.members[signer.Public().KID()] = m
	return m, nil
}

// Revoke registers the revocation of a member's key by the ca.
func (a *Alliance) Revoke(m *Member) (uint64, error) {
	rev := &evidence.Revocation{KID: m.Signer.Public().KID(), Reason: 1}
	s, err := evidence.Statement{Issuer: "ca", Subject: evidence.SubjectRegistry, IssuedAt: BlockTime(a.Size()), ContentType: evidence.TypeRevocation, Payload: rev.Encode()}.Sign(a.Get("ca").Statement)
	if err != nil {
		return 0, err
	}
	p := a.Append(s)
	m.Revocation = &p
	return p, nil
}

// Get returns an institution by id.
func (a *Alliance) Get(id string) *Institution {
	for _, inst := range a.Institutions {
		if inst.ID == id {
			return inst
		}
	}
	return nil
}

// Receipts returns one receipt of each institution named (all, when none is)
// for the entry at position in the tree of that size.
func (a *Alliance) Receipts(position, size uint64, institutions ...string) (map[string][]byte, error) {
	proof, err := a.tree.InclusionProof(position, size)
	if err != nil {
		return nil, err
	}
	path := make([]evidence.Digest, len(proof))
	for i := range proof {
		path[i] = evidence.Digest(proof[i])
	}
	out := map[string][]byte{}
	for _, inst := range a.pick(institutions) {
		root, err := evidence.SignRoot(inst.At(evidence.UseReceipt, size), inst.ID, a.Origin(), BlockTime(size-1), evidence.Checkpoint{Size: size, Root: a.RootAt(size)})
		if err != nil {
			return nil, err
		}
		out[inst.ID] = root.Receipt(position, path)
	}
	return out, nil
}

func (a *Alliance) pick(ids []string) []*Institution {
	if len(ids) == 0 {
		return a.Institutions
	}
	var out []*Institution
	for _, id := range ids {
		out = append(out, a.Get(id))
	}
	return out
}

// Head returns an institution's signed head of the trail at a size of the log.
func (a *Alliance) Head(trail evidence.Digest, size uint64, institution string) ([]byte, error) {
	h := evidence.TrailHead{Institution: institution, IssuedAt: BlockTime(size - 1), Trail: trail, Checkpoint: evidence.Checkpoint{Size: size, Root: a.RootAt(size)}}
	for _, p := range a.trails[trail] {
		if p < size {
			h.Count++
			h.Last = evidence.SumSHA256(a.statements[p])
		}
	}
	return h.Sign(a.Get(institution).At(evidence.UseAttest, size))
}

// Cosigned returns the checkpoint of a size with cosignatures of the
// institutions named (all, when none is).
func (a *Alliance) Cosigned(size uint64, institutions ...string) ([]byte, error) {
	c := &evidence.CosignedCheckpoint{Origin: a.Origin(), Checkpoint: evidence.Checkpoint{Size: size, Root: a.RootAt(size)}}
	for i, inst := range a.pick(institutions) {
		sig, err := c.Cosign(inst.At(evidence.UseCosign, size), a.CosignerName(inst.ID), BlockTime(size-1)+int64(i%2)+a.CosignLater)
		if err != nil {
			return nil, err
		}
		c.Cosignatures = append(c.Cosignatures, sig)
	}
	return c.Encode(), nil
}
