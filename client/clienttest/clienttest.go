// Package clienttest runs an alliance on loopback for tests of what talks to
// one: every institution has the real HTTP interface, over one log in memory
// that all share.
//
//	New(t, 4) ─► Node: one httptest server an institution, over internal/api
//	         ─► URLs, Client, Enrol
//	Node.Twist ─► an institution that lies, is down, or lags
//
// It is test code and trusts nothing, because nothing may trust it.
package clienttest

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/client"
	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/api"
	"github.com/zhenglian/zhenglian/internal/chain"
	"github.com/zhenglian/zhenglian/internal/testalliance"
)

// Net is a running alliance.
type Net struct {
	// tokens over checkpoints, by size and authority; nil: nobody is asked for any.
	tokens map[uint64]map[string][]byte
	own    map[uint64]map[string][]byte // tokens over statements, by position
	*testalliance.Alliance
	Nodes map[string]*Node

	mu sync.Mutex
	id map[evidence.Digest]uint64 // statement identity → position
}

// Node is one institution's node and its server.
type Node struct {
	net    *Net
	id     string
	URL    string
	server *httptest.Server

	mu sync.Mutex
	tw Twist
}

// Twist makes a node other than it should be.
type Twist struct {
	Down     bool                                                   // the connection is cut
	Busy     time.Duration                                          // Submit answers 429 with this Retry-After
	Receipts func(position uint64, r chain.Receipts) chain.Receipts // what it says are the receipts
	Cosigned func(evidence.CosignedCheckpoint) evidence.CosignedCheckpoint
	Head     func([]byte) []byte
	Trail    func(chain.TrailView) chain.TrailView
	Changes  func([]chain.KeyChangeRecord) []chain.KeyChangeRecord // of institutions' keys, as it lists them
	Submit   func([][]byte) ([]chain.Outcome, error)               // instead of registering
	// Cut ends the connection after the statement was registered, before the
	// answer, for so many requests.
	Cut int
	// Lag hides so many entries at the end of the log.
	Lag uint64
}

// New starts an alliance of n institutions. seed names it; another seed makes a
// forger's alliance of the same names.
func New(t testing.TB, seed string, n int) *Net {
	t.Helper()
	a, err := testalliance.New(seed, n)
	if err != nil {
		t.Fatal(err)
	}
	net := &Net{Alliance: a, Nodes: map[string]*Node{}, id: map[evidence.Digest]uint64{}}
	for _, inst := range a.Institutions {
		net.start(t, inst.ID)
	}
	return net
}

func (net *Net) start(t testing.TB, id string) {
	node := &Node{net: net, id: id}
	var handler http.Handler
	node.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if node.twist().Down {
			panic(http.ErrAbortHandler)
		}
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(node.server.Close)
	node.URL = node.server.URL
	s, err := api.New(api.Config{Node: node, Addresses: []string{node.URL}, Limits: api.Limits{RequestsPerSecond: -1, ReadsPerSecond: -1, FinalWait: time.Second}})
	if err != nil {
		t.Fatal(err)
	}
	handler = s.Handler()
	net.Nodes[id] = node
}

// URLs returns the address of each institution.
func (net *Net) URLs() map[string]string {
	all := map[string]string{}
	for id, n := range net.Nodes {
		all[id] = n.URL
	}
	return all
}

// Client returns a client that trusts this alliance.
func (net *Net) Client(t testing.TB, signer evidence.Signer) *client.Client {
	t.Helper()
	c, err := client.New(client.Config{Alliance: net.Alliance.Alliance, URLs: net.URLs(), Signer: signer, Patience: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// EnrolKey enrols a member's key.
func (net *Net) EnrolKey(t testing.TB, id string, signer evidence.Signer) *testalliance.Member {
	t.Helper()
	net.mu.Lock()
	defer net.mu.Unlock()
	m, err := net.Alliance.EnrolKey(id, signer, evidence.KindPerson, 2, true, "ca")
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// Now is a clock that fits the log's block times.
func (net *Net) Now() time.Time {
	net.mu.Lock()
	defer net.mu.Unlock()
	return time.Unix(testalliance.BlockTime(net.Size())-2, 0)
}

// Lock keeps the log still while a test reads or alters it.
func (net *Net) Lock() (unlock func()) {
	net.mu.Lock()
	return net.mu.Unlock
}

// Twist changes how the node behaves.
func (n *Node) Twist(tw Twist) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.tw = tw
}

func (n *Node) twist() Twist {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.tw
}

// cut reports whether this request's connection is to be cut.
func (n *Node) cut() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.tw.Cut == 0 {
		return false
	}
	n.tw.Cut--
	return true
}

// The methods below implement api.Node.

func (n *Node) Alliance() *evidence.Alliance { return n.net.Alliance.Alliance }

func (n *Node) Institution() string { return n.id }

func (n *Node) Policy() (*evidence.Policy, error) {
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	changes, err := n.net.ChangesAsOf(n.size())
	if err != nil {
		return nil, err
	}
	p, _, _ := n.net.Policy.Follow(changes)
	return p, nil
}

func (n *Node) ReceiptKeys() []*evidence.PublicKey {
	return []*evidence.PublicKey{n.net.Get(n.id).Receipt.Public()}
}

func (n *Node) KeyChanges(from uint64, limit int) (out []chain.KeyChangeRecord, more bool, err error) {
	tw := n.twist()
	for _, p := range n.net.KeyChanges() {
		if p < from || p >= n.size() {
			continue
		}
		if len(out) == limit {
			return out, true, nil
		}
		raw, err := n.StatementAt(p)
		if err != nil {
			return nil, false, err
		}
		receipts, err := n.ReceiptsAt(p)
		if err != nil {
			return nil, false, err
		}
		out = append(out, chain.KeyChangeRecord{Position: p, Statement: raw, Receipts: receipts})
	}
	if tw.Changes != nil {
		out = tw.Changes(out)
	}
	return out, false, nil
}

func (n *Node) Status() chain.Status {
	cp := n.Checkpoint()
	return chain.Status{Institution: n.id, Checkpoint: cp.Checkpoint, WitnessedSize: cp.Size}
}

func (n *Node) Submit(_ context.Context, statements [][]byte, _ bool) ([]chain.Outcome, error) {
	tw := n.twist()
	switch {
	case tw.Busy > 0:
		return nil, &chain.OverloadError{RetryAfter: tw.Busy}
	case tw.Submit != nil:
		return tw.Submit(statements)
	}
	out := make([]chain.Outcome, len(statements))
	for i, s := range statements {
		out[i] = n.net.register(s)
	}
	if n.cut() {
		panic(http.ErrAbortHandler)
	}
	return out, nil
}

// register applies the rules that the tests need: form, key, issuer, signature.
func (net *Net) register(data []byte) chain.Outcome {
	net.mu.Lock()
	defer net.mu.Unlock()
	s, err := evidence.ParseStatement(data)
	if err != nil {
		var f *evidence.FormatError
		errors.As(err, &f)
		return chain.Outcome{Code: f.Code, Field: f.Field, Reason: f.Reason}
	}
	o := chain.Outcome{Digest: s.Digest(), Entry: s.Digest()}
	if p, ok := net.id[s.ID()]; ok {
		o.Code, o.Accepted, o.Position, o.Known, o.Final = evidence.CodeRegistered, true, p, true, true
		return o
	}
	k, known, _ := net.Log("court").Key(context.Background(), s.KID)
	switch {
	case !known:
		o.Code, o.Reason = evidence.CodeUnknownKey, "no member has this key"
	case k.Revoked:
		o.Code, o.Reason = evidence.CodeRevokedKey, "revoked"
	case s.Issuer != k.Holder:
		o.Code, o.Reason = evidence.CodeWrongIssuer, "the key is another's"
	case k.Key.Verify(s.ToBeSigned(), s.Signature) != nil:
		o.Code, o.Reason = evidence.CodeBadSignature, "it does not verify"
	default:
		o.Accepted, o.Known, o.Final = true, true, true
		o.Position = net.Append(s)
		net.id[s.ID()] = o.Position
	}
	return o
}

// size is how much of the log this node shows.
func (n *Node) size() uint64 { return n.net.Size() - min(n.twist().Lag, n.net.Size()) }

func (n *Node) Lookup(entry evidence.Digest) (chain.Record, error) {
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	p, known, err := n.net.Log(n.id).Lookup(context.Background(), entry)
	if err != nil || !known || p >= n.size() {
		return chain.Record{}, errors.Join(err, chain.ErrNotFound)
	}
	return n.record(p, entry), nil
}

func (n *Node) record(p uint64, entry evidence.Digest) chain.Record {
	r := chain.Record{Position: p, Entry: entry, Height: int64(p) + 1, Time: time.Unix(testalliance.BlockTime(p), 0), Final: true}
	for _, inst := range n.net.Institutions {
		r.Witnesses = append(r.Witnesses, inst.ID)
	}
	return r
}

func (n *Node) statement(p uint64) ([]byte, error) {
	if p >= n.size() {
		return nil, chain.ErrNotFound
	}
	return n.net.Log(n.id).Statement(context.Background(), p)
}

func (n *Node) RecordAt(p uint64) (chain.Record, error) {
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	s, err := n.statement(p)
	if err != nil {
		return chain.Record{}, err
	}
	return n.record(p, evidence.SumSHA256(s)), nil
}

func (n *Node) StatementAt(p uint64) ([]byte, error) {
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	return n.statement(p)
}

func (n *Node) ReceiptsAt(p uint64) (chain.Receipts, error) {
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	if p >= n.size() {
		return nil, chain.ErrNotFound
	}
	got, err := n.net.Receipts(p, n.size())
	if err != nil {
		return nil, err
	}
	r := chain.Receipts{}
	for inst, data := range got {
		r[inst] = [][]byte{data}
	}
	if f := n.twist().Receipts; f != nil {
		r = f(p, r)
	}
	return r, nil
}

func (n *Node) Checkpoint() evidence.CosignedCheckpoint {
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	return n.cosigned(n.size())
}

func (n *Node) cosigned(size uint64) evidence.CosignedCheckpoint {
	if size == 0 {
		return evidence.CosignedCheckpoint{}
	}
	text, err := n.net.Cosigned(size)
	if err != nil {
		return evidence.CosignedCheckpoint{}
	}
	cp, err := evidence.ParseCheckpoint(text)
	if err != nil {
		return evidence.CosignedCheckpoint{}
	}
	if f := n.twist().Cosigned; f != nil {
		return f(*cp)
	}
	return *cp
}

func (n *Node) CheckpointAt(size uint64) (evidence.CosignedCheckpoint, error) {
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	if size == 0 || size > n.size() {
		return evidence.CosignedCheckpoint{}, chain.ErrNotFound
	}
	return n.cosigned(size), nil
}

// Stamp gives the checkpoint of a size these tokens, by authority; from then on
// the nodes say that they ask authorities.
func (net *Net) Stamp(size uint64, tokens map[string][]byte) {
	net.mu.Lock()
	defer net.mu.Unlock()
	if net.tokens == nil {
		net.tokens = map[uint64]map[string][]byte{}
	}
	net.tokens[size] = tokens
}

// Stamps implements api.Node: a network asks for tokens when its test made some.
func (n *Node) Stamps() chain.StampStatus {
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	if n.net.tokens == nil {
		return chain.StampStatus{}
	}
	return chain.StampStatus{Authorities: []string{"ca"}}
}

// Timestamps implements api.Node.
func (n *Node) Timestamps(size uint64) (map[string][]byte, error) {
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	if size == 0 || size > n.size() {
		return nil, chain.ErrNotFound
	}
	return n.net.tokens[size], nil
}

// TimestampFor implements api.Node.
func (n *Node) TimestampFor(p uint64) (uint64, map[string][]byte, error) {
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	if p >= n.size() {
		return 0, nil, chain.ErrNotFound
	}
	for size := p + 1; size <= n.size(); size++ {
		if t := n.net.tokens[size]; len(t) > 0 {
			return size, t, nil
		}
	}
	return 0, nil, nil
}

// StatementTimestamps implements api.Node.
func (n *Node) StatementTimestamps(p uint64) (map[string][]byte, error) {
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	if p >= n.size() {
		return nil, chain.ErrNotFound
	}
	return n.net.own[p], nil
}

// StampStatement implements api.Node: it gives what the test has made.
func (n *Node) StampStatement(_ context.Context, p uint64) (map[string][]byte, error) {
	tokens, err := n.StatementTimestamps(p)
	if err == nil && len(tokens) == 0 {
		err = chain.ErrNoAuthority
	}
	return tokens, err
}

// StampStatement gives the statement at a position these tokens, by authority.
func (net *Net) StampStatement(position uint64, tokens map[string][]byte) {
	net.mu.Lock()
	defer net.mu.Unlock()
	if net.own == nil {
		net.own = map[uint64]map[string][]byte{}
	}
	net.own[position] = tokens
}

// Tile computes a tile from the entries (C2SP tlog-tiles).
func (n *Node) Tile(level uint, index uint64, width int) ([]byte, error) {
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	var out []byte
	for i := range uint64(width) {
		start := (index*256 + i) << (8 * level)
		if start+1<<(8*level) > n.size() {
			return nil, chain.ErrNotFound
		}
		h, err := n.net.subtree(start, 1<<(8*level))
		if err != nil {
			return nil, err
		}
		out = append(out, h...)
	}
	return out, nil
}

func (n *Node) EntryBundle(index uint64, width int) ([]byte, error) {
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	var out []byte
	for i := range uint64(width) {
		s, err := n.statement(index*256 + i)
		if err != nil {
			return nil, err
		}
		d := evidence.SumSHA256(s)
		out = append(append(out, 0, 32), d[:]...)
	}
	return out, nil
}

func (n *Node) Trail(trail evidence.Digest) (chain.TrailView, error) {
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	entries, err := n.net.Log(n.id).Trail(context.Background(), trail)
	if err != nil {
		return chain.TrailView{}, err
	}
	v := chain.TrailView{Trail: trail, Checkpoint: evidence.Checkpoint{Size: n.size(), Root: n.net.RootAt(n.size())}, Time: time.Unix(testalliance.BlockTime(n.size()-1), 0)}
	for _, e := range entries {
		if e.Position < n.size() {
			v.Positions, v.Entries = append(v.Positions, e.Position), append(v.Entries, e.Entry)
		}
	}
	if len(v.Positions) == 0 {
		return v, chain.ErrNotFound
	}
	if f := n.twist().Trail; f != nil {
		v = f(v)
	}
	return v, nil
}

func (n *Node) TrailHead(trail evidence.Digest) ([]byte, error) {
	if _, err := n.Trail(trail); err != nil {
		return nil, err
	}
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	head, err := n.net.Head(trail, n.size(), n.id)
	if f := n.twist().Head; f != nil && err == nil {
		head = f(head)
	}
	return head, err
}

func (n *Node) TrailRights(trail, kid evidence.Digest) (owner bool, rights uint64, err error) {
	v, err := n.Trail(trail)
	if err != nil {
		return false, 0, err
	}
	for i, p := range v.Positions {
		data, err := n.StatementAt(p)
		if err != nil {
			return false, 0, err
		}
		s, err := evidence.ParseStatement(data)
		if err != nil {
			return false, 0, err
		}
		if i == 0 {
			owner = s.KID == kid
			if opened, err := n.Member(s.KID); err == nil && !owner {
				if mine, err := n.Member(kid); err == nil && mine.Holder == opened.Holder && !mine.Revoked && mine.Passkey == nil {
					defer func() { rights |= evidence.RightRead }()
				}
			}
			continue
		}
		if a, err := evidence.ParseAuthorisation(s.Payload); err == nil && s.ContentType == evidence.TypeAuthorisation && a.KID == kid {
			rights = a.Rights
		}
	}
	return owner, rights, nil
}

func (n *Node) KeyPositions(kid evidence.Digest, from uint64, limit int) ([]uint64, error) {
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	var out []uint64
	for p := from; p < n.size() && len(out) < limit; p++ {
		data, err := n.statement(p)
		if err != nil {
			return nil, err
		}
		if s, err := evidence.ParseStatement(data); err == nil && s.KID == kid {
			out = append(out, p)
		}
	}
	return out, nil
}

func (n *Node) Member(kid evidence.Digest) (chain.MemberView, error) {
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	k, known, err := n.net.Log(n.id).Key(context.Background(), kid)
	if err != nil || !known {
		return chain.MemberView{}, errors.Join(err, chain.ErrNotFound)
	}
	return chain.MemberView{KID: kid, Holder: k.Holder, Institution: k.Institution, Kind: k.Kind, Assurance: uint64(k.Assurance), Demo: k.Demo,
		DER: k.Key.DER(), EnrolledAt: k.EnrolledAt, Genesis: k.Genesis, Revoked: k.Revoked, RevokedAt: k.RevokedAt,
		Passkey: k.Passkey, Certificates: n.net.Certificates(kid)}, nil
}

// subtree is the hash over so many entries from start, which is a multiple of n.
func (net *Net) subtree(start, n uint64) ([]byte, error) {
	if n == 1 {
		s, err := net.Log("court").Statement(context.Background(), start)
		if err != nil {
			return nil, err
		}
		d := evidence.SumSHA256(s)
		return leafHash(d[:]), nil
	}
	left, err := net.subtree(start, n/2)
	if err != nil {
		return nil, err
	}
	right, err := net.subtree(start+n/2, n/2)
	if err != nil {
		return nil, err
	}
	return nodeHash(left, right), nil
}

// Others returns the ids of all institutions but those named.
func (net *Net) Others(but ...string) []string {
	var out []string
	for _, inst := range net.Institutions {
		if !slices.Contains(but, inst.ID) {
			out = append(out, inst.ID)
		}
	}
	return out
}
