package chain

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/testalliance"
)

// allied are four nodes in this process, with a clock that the test moves.
type allied struct {
	*testing.T
	*testalliance.Alliance
	nodes map[string]*Node
	ahead atomic.Int64 // nanoseconds the nodes' clocks are ahead
	log   *syncBuffer
}

// syncBuffer takes the logs of several nodes.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

const alliedSeed = "chain"

// privateKey is the key behind testalliance's signer of the same name.
func privateKey(id, use string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte(alliedSeed + "/" + id + "/" + use))
	return ed25519.NewKeyFromSeed(seed[:])
}

func startAllied(t *testing.T, change ...func(*Config)) *allied {
	t.Helper()
	a := &allied{T: t, nodes: map[string]*Node{}, log: &syncBuffer{}}
	var err error
	if a.Alliance, err = testalliance.New(alliedSeed, 4); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir() // removed after the nodes have ended
	peerListeners, peerAddrs, p2p := map[string]net.Listener{}, map[string]string{}, map[string]string{}
	var free []net.Listener
	for _, i := range a.Institutions {
		for _, into := range []map[string]string{peerAddrs, p2p} {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			into[i.ID] = l.Addr().String()
			if peerListeners[i.ID] == nil {
				peerListeners[i.ID] = l
			} else {
				free = append(free, l)
			}
		}
	}
	for _, l := range free { // CometBFT listens there itself
		_ = l.Close()
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		running.Wait()
		if t.Failed() {
			lines := strings.Split(a.log.String(), "\n")
			t.Log(strings.Join(lines[max(0, len(lines)-60):], "\n"))
		}
	})
	ready := make(chan struct{}, 4)
	for _, i := range a.Institutions {
		others, addrs := map[string]PeerConfig{}, map[string]string{}
		for _, o := range a.Institutions {
			if o.ID != i.ID {
				others[o.ID] = PeerConfig{Address: peerAddrs[o.ID], TLS: a.tls(i.ID)}
				addrs[o.ID] = p2p[o.ID]
			}
		}
		server := a.tls(i.ID)
		server.ClientAuth = tls.RequireAnyClientCert
		if err := os.Mkdir(filepath.Join(dir, i.ID), 0o700); err != nil {
			t.Fatal(err)
		}
		cfg := Config{Alliance: a.Alliance.Alliance, Institution: i.ID, Dir: filepath.Join(dir, i.ID), Consensus: privateKey(i.ID, "consensus"),
			NodeKey: privateKey(i.ID, "node"), Receipts: []evidence.Signer{i.Receipt}, Cosign: i.Cosign, Attest: i.Attest,
			PeerListener: peerListeners[i.ID], PeerTLS: server, P2PListen: p2p[i.ID], Peers: others, P2PPeers: addrs, DiskReserve: 1,
			Log: slog.New(slog.NewTextHandler(a.log, nil)).With("institution", i.ID),
			Now: func() time.Time { return time.Now().Add(time.Duration(a.ahead.Load())) }}
		for _, f := range change {
			f(&cfg)
		}
		n, err := Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		a.nodes[i.ID] = n
		running.Go(func() {
			if err := n.Run(ctx, func() { ready <- struct{}{} }); err != nil && ctx.Err() == nil {
				t.Errorf("%s: %v", i.ID, err)
			}
		})
	}
	for range a.Institutions {
		select {
		case <-ready:
		case <-time.After(time.Minute):
			t.Fatal("the nodes do not start")
		}
	}
	return a
}

// tls presents an institution's key and takes any: these tests are not about it.
func (a *allied) tls(id string) *tls.Config {
	a.Helper()
	key := privateKey(id, "tls")
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		a.Fatal(err)
	}
	return &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

// enrolment is a statement of the CA, made at the nodes' time.
func (a *allied) enrolment(n int) []byte {
	a.Helper()
	signer, err := testalliance.Signer(fmt.Sprint("member ", n))
	if err != nil {
		a.Fatal(err)
	}
	e := evidence.Enrolment{Member: fmt.Sprint("m:", n), Key: signer.Public(), Kind: evidence.KindPerson, Demo: true}
	st, err := evidence.Statement{Issuer: "ca", Subject: evidence.SubjectRegistry, IssuedAt: time.Now().Add(time.Duration(a.ahead.Load())).Unix(),
		ContentType: evidence.TypeEnrolment, Payload: e.Encode()}.Sign(a.Get("ca").Statement)
	if err != nil {
		a.Fatal(err)
	}
	return st.Bytes()
}

func (a *allied) submit(id string, statement []byte) Outcome {
	a.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, err := a.nodes[id].Submit(ctx, [][]byte{statement}, true)
	if err != nil {
		a.Fatalf("%s: %v", id, err)
	}
	if out[0].Code != evidence.CodeOK || !out[0].Final {
		a.Fatalf("%s: %+v", id, out[0])
	}
	return out[0]
}

// A proposer that puts a digest into its block whose batch nobody has is voted
// against, whenever its turn comes, and the others go on.
func TestProposedDigestNobodyHas(t *testing.T) {
	a := startAllied(t)
	a.submit("court", a.enrolment(0))
	liar := a.nodes["notary"]
	ghost := &batch{digest: evidence.SumSHA256([]byte("nobody has this")), raw: []byte("something else"), items: make([]item, 1)}
	finish, ok := liar.pool.reserve(liar.id, len(ghost.raw), liar.batches.endsAt())
	if !ok {
		t.Fatal("the pool is full")
	}
	liar.offer(finish(liar.newPending(ghost, liar.id)))
	honest := []string{"ca", "court", "forensic"}
	for i := 1; !strings.Contains(a.log.String(), "is not to be had"); i++ {
		if i > 40 {
			t.Fatal("the liar's turn never came")
		}
		a.submit(honest[i%3], a.enrolment(i))
	}
	if !strings.Contains(a.log.String(), "voting against a block") {
		t.Error("nobody voted against it")
	}
	for i := range 4 {
		a.submit(honest[i%3], a.enrolment(1000+i))
	}
	for id, n := range a.nodes {
		if _, err := n.Lookup(ghost.digest); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %v", id, err)
		}
		if committed, err := n.committed(ghost.digest); err != nil || committed {
			t.Errorf("%s committed a batch that nobody has (%v)", id, err)
		}
	}
}

// An idle hour does not make the next deposit's time an hour old.
func TestIdleHour(t *testing.T) {
	a := startAllied(t)
	a.submit("court", a.enrolment(0))
	a.ahead.Store(int64(time.Hour))
	before := a.nodes["court"].now()
	o := a.submit("court", a.enrolment(1))
	after := a.nodes["court"].now()
	for id, n := range a.nodes {
		if err := n.WaitFinal(t.Context(), o.Position); err != nil {
			t.Fatal(err)
		}
		r, err := n.RecordAt(o.Position)
		if err != nil {
			t.Fatal(err)
		}
		if r.Time.Before(before.Truncate(time.Millisecond)) || r.Time.After(after) {
			t.Errorf("%s: sent at %s, final at %s, block time %s", id, before, after, r.Time)
		}
	}
}
