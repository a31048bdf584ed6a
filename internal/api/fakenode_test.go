package api

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/binary"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/emmansun/gmsm/sm2"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/merkle/testonly"
	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/chain"
)

var institutions = []string{"court", "forensic", "notary", "ra"}

func newEd25519(t testing.TB) evidence.Signer {
	t.Helper()
	_, k, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := evidence.NewSigner(k)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newP256(t testing.TB) evidence.Signer {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := evidence.NewSigner(k)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newSM2(t testing.TB) evidence.Signer {
	t.Helper()
	k, err := sm2.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := evidence.NewSigner(k)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// fakeNode is a log in memory with four institutions' real keys: statements,
// receipts and checkpoints are real bytes; only the consensus is missing.
type fakeNode struct {
	owns     map[uint64]map[string][]byte // tokens over statements
	stampErr error
	alliance *evidence.Alliance
	keys     map[string]map[string]evidence.Signer // institution → proof name

	mu      sync.Mutex
	entries []evidence.Digest
	raw     [][]byte
	parsed  []*evidence.Statement
	byID    map[evidence.Digest]uint64
	byEntry map[evidence.Digest]uint64
	tree    *testonly.Tree
	members map[evidence.Digest]chain.MemberView
	rights  map[[2]evidence.Digest]uint64

	oldReceiptKeys []*evidence.PublicKey

	status   chain.Status
	signed   map[uint64]evidence.CosignedCheckpoint
	overload int           // so many Submits fail
	fault    error         // every Submit and lookup fails
	stuck    bool          // accepted, never in the log
	unfinal  bool          // in the log, never final
	slices   []int         // sizes of Submit calls
	delay    time.Duration // of each Submit
}

func newFakeNode(t testing.TB) *fakeNode {
	t.Helper()
	n := &fakeNode{keys: map[string]map[string]evidence.Signer{}, byID: map[evidence.Digest]uint64{}, byEntry: map[evidence.Digest]uint64{},
		tree: testonly.New(rfc6962.DefaultHasher), members: map[evidence.Digest]chain.MemberView{}, rights: map[[2]evidence.Digest]uint64{}, signed: map[uint64]evidence.CosignedCheckpoint{}}
	var descriptors []evidence.Descriptor
	for _, id := range institutions {
		k := map[string]evidence.Signer{}
		for _, name := range []string{"consensus", "node", "receipt.1", "cosign", "statement", "attest"} {
			k[name] = newEd25519(t)
		}
		k["tls"] = newP256(t)
		k["receipt.2"] = newSM2(t)
		if id == "court" {
			k["receipt.1"] = newP256(t)
		}
		der := func(name string) []byte { return k[name].Public().DER() }
		d := evidence.Descriptor{V: 1, ID: id, Name: id, Kind: evidence.KindOther,
			Addresses: evidence.Addresses{API: "https://" + id + ".example", Peer: id + ".example:7001", P2P: id + ".example:7002"},
			Keys: evidence.InstitutionKeys{Consensus: k["consensus"].Public().Raw(), Node: k["node"].Public().Raw(), Receipt: [][]byte{der("receipt.2"), der("receipt.1")},
				Cosign: der("cosign"), Statement: der("statement"), Attest: der("attest"), TLS: der("tls")}}
		// The SM2 key stands first in the descriptor.
		k["receipt.1"], k["receipt.2"] = k["receipt.2"], k["receipt.1"]
		for _, p := range d.ProofNames() {
			if err := d.Prove(p, k[p]); err != nil {
				t.Fatal(err)
			}
		}
		n.keys[id] = k
		descriptors = append(descriptors, d)
		pub := k["statement"].Public()
		n.members[pub.KID()] = chain.MemberView{KID: pub.KID(), Holder: id, Institution: true, Kind: "other", DER: pub.DER(), Genesis: true}
	}
	a, err := evidence.NewAlliance("Test", "test", time.Unix(1700000000, 0).UTC(), descriptors)
	if err != nil {
		t.Fatal(err)
	}
	n.alliance = a
	n.status = chain.Status{Institution: "court", Height: 7, BlockTime: time.UnixMilli(1700000000123), Peers: map[string]chain.Peer{
		"notary": {Reachable: true, LastHeard: time.Unix(1700000000, 0)}, "forensic": {Reachable: true}, "ra": {LastError: "dial tcp 10.1.2.3:7001: refused"}}}
	return n
}

// enrol registers a member's key by a real enrolment statement of the RA.
func (n *fakeNode) enrol(t testing.TB, holder string, key evidence.Signer) {
	t.Helper()
	e := evidence.Enrolment{Member: holder, Key: key.Public(), Kind: evidence.KindPerson, Assurance: 2, Commitment: evidence.Digest{1}, Demo: true}
	st, err := evidence.Statement{Issuer: "ra", Subject: evidence.SubjectRegistry, IssuedAt: 1700000000, ContentType: evidence.TypeEnrolment, Payload: e.Encode()}.Sign(n.keys["ra"]["statement"])
	if err != nil {
		t.Fatal(err)
	}
	out, err := n.Submit(context.Background(), [][]byte{st.Bytes()}, true)
	if err != nil || !out[0].Accepted {
		t.Fatalf("enrolling: %+v %v", out, err)
	}
	kid := key.Public().KID()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.members[kid] = chain.MemberView{KID: kid, Holder: holder, Kind: "person", Assurance: 2, Demo: true, DER: key.Public().DER(), EnrolledAt: out[0].Position}
}

func (n *fakeNode) revoke(key evidence.Signer, reason uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	m := n.members[key.Public().KID()]
	m.Revoked, m.RevokedAt, m.Reason = true, uint64(len(n.entries)), reason
	n.members[key.Public().KID()] = m
}

func (n *fakeNode) Alliance() *evidence.Alliance { return n.alliance }
func (n *fakeNode) Institution() string          { return "court" }

func (n *fakeNode) Policy() (*evidence.Policy, error) { return evidence.PolicyFromAlliance(n.alliance) }

func (n *fakeNode) ReceiptKeys() []*evidence.PublicKey {
	keys, err := n.alliance.Institution("court").PublicKeys(evidence.UseReceipt)
	if err != nil {
		panic(err)
	}
	return append(keys, n.oldReceiptKeys...)
}

func (n *fakeNode) KeyChanges(from uint64, limit int) (out []chain.KeyChangeRecord, more bool, err error) {
	for p, st := range n.parsed {
		if st.ContentType != evidence.TypeKeyChange || uint64(p) < from {
			continue
		}
		if len(out) == limit {
			return out, true, nil
		}
		r, err := n.ReceiptsAt(uint64(p))
		if err != nil {
			return nil, false, err
		}
		out = append(out, chain.KeyChangeRecord{Position: uint64(p), Statement: n.raw[p], Receipts: r})
	}
	return out, false, nil
}
func (n *fakeNode) Status() chain.Status {
	n.mu.Lock()
	defer n.mu.Unlock()
	st := n.status
	st.Size, st.WitnessedSize = uint64(len(n.entries)), uint64(len(n.entries))
	st.Root = evidence.Digest(n.tree.Hash())
	return st
}

func (n *fakeNode) Submit(ctx context.Context, statements [][]byte, final bool) ([]chain.Outcome, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.slices = append(n.slices, len(statements))
	if n.delay > 0 {
		time.Sleep(n.delay)
	}
	if n.overload > 0 {
		n.overload--
		return nil, &chain.OverloadError{RetryAfter: 10 * time.Millisecond}
	}
	if n.fault != nil {
		return nil, n.fault
	}
	out := make([]chain.Outcome, len(statements))
	for i, b := range statements {
		out[i] = n.submitOne(slices.Clone(b))
	}
	if final && (n.stuck || n.unfinal) {
		n.mu.Unlock()
		<-ctx.Done()
		n.mu.Lock()
		return out, ctx.Err()
	}
	return out, nil
}

func (n *fakeNode) submitOne(b []byte) chain.Outcome {
	st, err := evidence.ParseStatement(b)
	if f, ok := err.(*evidence.FormatError); ok {
		return chain.Outcome{Code: f.Code, Field: f.Field, Reason: f.Reason}
	}
	o := chain.Outcome{Digest: st.Digest()}
	m, ok := n.members[st.KID]
	if !ok {
		o.Code, o.Field, o.Reason = evidence.CodeUnknownKey, "protected.kid", "not registered"
		return o
	}
	if m.Revoked {
		o.Code, o.Field, o.Reason = evidence.CodeRevokedKey, "protected.kid", "revoked"
		return o
	}
	key, err := evidence.ParsePublicKey(m.DER)
	if err != nil || key.Verify(st.ToBeSigned(), st.Signature) != nil {
		o.Code, o.Field, o.Reason = evidence.CodeBadSignature, "signature", "does not verify"
		return o
	}
	o.Accepted = true
	if n.stuck {
		return o
	}
	if pos, ok := n.byID[st.ID()]; ok {
		o.Code, o.Position, o.Known, o.Final, o.Entry = evidence.CodeRegistered, pos, true, !n.unfinal, n.entries[pos]
		return o
	}
	pos := uint64(len(n.entries))
	n.entries, n.raw, n.parsed = append(n.entries, o.Digest), append(n.raw, b), append(n.parsed, st)
	n.byID[st.ID()], n.byEntry[o.Digest] = pos, pos
	n.tree.AppendData(o.Digest[:])
	if st.ContentType == evidence.TypeAuthorisation {
		a, _ := evidence.ParseAuthorisation(st.Payload)
		trail, _ := st.Trail()
		n.rights[[2]evidence.Digest{trail, a.KID}] = a.Rights
	}
	o.Position, o.Known, o.Final, o.Entry = pos, true, !n.unfinal, o.Digest
	return o
}

func (n *fakeNode) Lookup(d evidence.Digest) (chain.Record, error) {
	n.mu.Lock()
	pos, ok := n.byEntry[d]
	n.mu.Unlock()
	if !ok {
		return chain.Record{}, chain.ErrNotFound
	}
	return n.RecordAt(pos)
}

func (n *fakeNode) RecordAt(pos uint64) (chain.Record, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.fault != nil {
		return chain.Record{}, n.fault
	}
	if pos >= uint64(len(n.entries)) {
		return chain.Record{}, chain.ErrNotFound
	}
	return chain.Record{Position: pos, Entry: n.entries[pos], Height: 7, Time: time.UnixMilli(1700000000123), Witnesses: institutions, Final: !n.unfinal}, nil
}

func (n *fakeNode) StatementAt(pos uint64) ([]byte, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if pos >= uint64(len(n.raw)) {
		return nil, chain.ErrNotFound
	}
	return n.raw[pos], nil
}

func (n *fakeNode) ReceiptsAt(pos uint64) (chain.Receipts, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	size := n.tree.Size()
	if pos >= size {
		return nil, chain.ErrNotFound
	}
	proof, err := n.tree.InclusionProof(pos, size)
	if err != nil {
		return nil, err
	}
	path := make([]evidence.Digest, len(proof))
	for i := range proof {
		path[i] = evidence.Digest(proof[i])
	}
	out := chain.Receipts{}
	for _, id := range institutions {
		for _, name := range []string{"receipt.1", "receipt.2"} {
			sig, err := evidence.SignRoot(n.keys[id][name], id, n.alliance.Origin(), 1700000000, evidence.Checkpoint{Size: size, Root: evidence.Digest(n.tree.Hash())})
			if err != nil {
				return nil, err
			}
			out[id] = append(out[id], sig.Receipt(pos, path))
		}
	}
	return out, nil
}

func (n *fakeNode) Checkpoint() evidence.CosignedCheckpoint {
	n.mu.Lock()
	size := n.tree.Size()
	n.mu.Unlock()
	c, _ := n.CheckpointAt(size)
	return c
}

func (n *fakeNode) CheckpointAt(size uint64) (evidence.CosignedCheckpoint, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if c, ok := n.signed[size]; ok {
		return c, nil
	}
	if size > n.tree.Size() {
		return evidence.CosignedCheckpoint{}, chain.ErrNotFound
	}
	c := evidence.CosignedCheckpoint{Origin: n.alliance.Origin(), Checkpoint: evidence.Checkpoint{Size: size, Root: evidence.Digest(n.tree.HashAt(size))}}
	for _, id := range institutions {
		s, err := c.Cosign(n.keys[id]["cosign"], n.alliance.CosignerName(id), 1700000001)
		if err != nil {
			return c, err
		}
		c.Cosignatures = append(c.Cosignatures, s)
	}
	n.signed[size] = c
	return c, nil
}

func (n *fakeNode) Stamps() chain.StampStatus {
	return chain.StampStatus{Authorities: []string{"ca"}, Size: 1, Last: time.Unix(1700000000, 0), Backlog: 3, Since: time.Unix(1700000001, 0), Failures: 2, LastError: "ca.internal: refused"}
}

func (n *fakeNode) StatementTimestamps(pos uint64) (map[string][]byte, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if pos >= n.tree.Size() {
		return nil, chain.ErrNotFound
	}
	return n.owns[pos], nil
}

func (n *fakeNode) StampStatement(_ context.Context, pos uint64) (map[string][]byte, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.stampErr != nil {
		return nil, n.stampErr
	}
	if pos >= n.tree.Size() {
		return nil, chain.ErrNotFound
	}
	if n.owns == nil {
		n.owns = map[uint64]map[string][]byte{}
	}
	n.owns[pos] = map[string][]byte{"ca": []byte("own")}
	return n.owns[pos], nil
}

func (n *fakeNode) Timestamps(size uint64) (map[string][]byte, error) {
	if size > n.tree.Size() {
		return nil, chain.ErrNotFound
	}
	return map[string][]byte{"ca": []byte("token")}, nil
}

func (n *fakeNode) TimestampFor(pos uint64) (uint64, map[string][]byte, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	size := n.tree.Size()
	switch {
	case pos >= size:
		return 0, nil, chain.ErrNotFound
	case n.unfinal:
		return 0, nil, nil
	}
	return size, map[string][]byte{"ca": []byte("token")}, nil
}

func (n *fakeNode) Tile(level uint, index uint64, width int) ([]byte, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []byte
	for i := range uint64(width) {
		out = append(out, n.subtree(8*level, index*256+i)...)
	}
	return out, nil
}

// subtree is the root of the complete subtree of that height.
func (n *fakeNode) subtree(height uint, index uint64) []byte {
	if height == 0 {
		return n.tree.LeafHash(index)
	}
	return rfc6962.DefaultHasher.HashChildren(n.subtree(height-1, 2*index), n.subtree(height-1, 2*index+1))
}

func (n *fakeNode) EntryBundle(index uint64, width int) ([]byte, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []byte
	for i := range uint64(width) {
		out = binary.BigEndian.AppendUint16(out, 32)
		out = append(out, n.entries[index*256+i][:]...)
	}
	return out, nil
}

func (n *fakeNode) Trail(trail evidence.Digest) (chain.TrailView, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	v := chain.TrailView{Trail: trail, Checkpoint: evidence.Checkpoint{Size: n.tree.Size(), Root: evidence.Digest(n.tree.Hash())}, Time: time.UnixMilli(1700000000123)}
	for i, st := range n.parsed {
		if d, ok := st.Trail(); ok && d == trail {
			v.Positions, v.Entries = append(v.Positions, uint64(i)), append(v.Entries, n.entries[i])
		}
	}
	if len(v.Positions) == 0 {
		return v, chain.ErrNotFound
	}
	return v, nil
}

func (n *fakeNode) TrailHead(trail evidence.Digest) ([]byte, error) {
	v, err := n.Trail(trail)
	if err != nil {
		return nil, err
	}
	return evidence.TrailHead{Institution: "court", IssuedAt: 1700000000, Trail: trail, Count: uint64(len(v.Entries)), Last: v.Entries[len(v.Entries)-1], Checkpoint: v.Checkpoint}.Sign(n.keys["court"]["attest"])
}

func (n *fakeNode) TrailRights(trail, kid evidence.Digest) (bool, uint64, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	pos, ok := n.byEntry[trail]
	if !ok || n.parsed[pos].Subject != evidence.SubjectNewTrail {
		return false, 0, chain.ErrNotFound
	}
	return n.parsed[pos].KID == kid, n.rights[[2]evidence.Digest{trail, kid}], nil
}

func (n *fakeNode) KeyPositions(kid evidence.Digest, from uint64, limit int) ([]uint64, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []uint64
	for i := from; i < uint64(len(n.parsed)) && len(out) < limit; i++ {
		if n.parsed[i].KID == kid {
			out = append(out, i)
		}
	}
	return out, nil
}

func (n *fakeNode) Member(kid evidence.Digest) (chain.MemberView, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	m, ok := n.members[kid]
	if !ok {
		return m, chain.ErrNotFound
	}
	return m, nil
}

func (n *fakeNode) set(f func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f()
}

func (n *fakeNode) calls() []int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.slices)
}

// *fakeNode and the real node must keep the same contract.
var _ Node = (*fakeNode)(nil)
