package chain

import (
	"context"
	stded25519 "crypto/ed25519"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cometbft/cometbft/mempool"
	"github.com/cometbft/cometbft/node"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/ledger"
	"github.com/zhenglian/zhenglian/internal/registry"
	"github.com/zhenglian/zhenglian/internal/sigbatch"
)

// Config is what one institution's node needs. Keys are this institution's own.
type Config struct {
	Alliance    *evidence.Alliance
	Institution string
	Dir         string // data directory; made when absent

	Consensus stded25519.PrivateKey // votes on blocks
	NodeKey   stded25519.PrivateKey // names the node to CometBFT's peers
	// Receipts sign roots, Cosign the checkpoints, Attest the trail heads. Which of
	// them counts for a size of the log the registry says; they may be of any
	// generation, and those that it names and that are not here Signer finds.
	Receipts []evidence.Signer
	Cosign   evidence.Signer
	Attest   evidence.Signer
	// Signer finds a private key of this institution that its own statement put in
	// place since the node started; nil: none is looked for.
	Signer func(use evidence.KeyUse, kid evidence.Digest) (evidence.Signer, error)

	PeerListener net.Listener // other institutions' nodes come in here
	PeerTLS      *tls.Config  // server side, requires a pinned client certificate
	P2PListen    string       // CometBFT, host:port
	Peers        map[string]PeerConfig
	P2PPeers     map[string]string // institution → host:port of its CometBFT

	Stamper Stamper // for tokens over new checkpoints; nil: none are asked for

	PendingBytes int64  // accepted and not committed, own and each peer's; 0: 64 MiB
	DiskReserve  uint64 // bytes to leave free; 0: 512 MiB

	Registerer prometheus.Registerer // nil: metrics are not exported
	Log        *slog.Logger
	Now        func() time.Time // nil: time.Now
}

// Node is one institution's node: CometBFT validator, state machine, stores,
// and the exchange with its peers.
type Node struct {
	cfg      Config
	id       string
	origin   string
	alliance *evidence.Alliance
	log      *slog.Logger
	metrics  *metrics
	tlsKeys  map[evidence.Digest]string // SHA-256 of a TLS key's SPKI → institution

	reg      *registry.Registry
	verifier *verifier
	idx      *index
	ledger   *ledger.Log
	batches  *batchStore
	machine  *machine
	pool     *pool
	witness  *witness
	ring     ring
	peers    *peers
	disk     *disk
	stamps   stamps
	tokens   *tokenFile
	blocks   mark // height

	comet   *node.Node
	mempool mempool.Mempool

	queue    chan *submission
	patience chan struct{}
	stopping chan struct{}
	work     errgroup.Group // what outlives the call that started it

	faultsMu sync.Mutex
	faults   map[string]string

	locMu    sync.Mutex
	orphans  map[evidence.Digest]location // found on disk at start, not in the index
	started  atomic.Bool
	signWake chan struct{}
	fetching sync.Map // digest → *fetchCall

	mendMu sync.Mutex
	life   context.Context // of the stores
	halted chan error      // why the node ends by itself
	stuck  chan struct{}   // closed when CometBFT waits for ever
	stick  sync.Once
	engine atomic.Bool // CometBFT runs or is about to
	dead   atomic.Bool // the index has given up
	// replayErr is why a block could not be applied again at the start; CometBFT
	// passes on its text alone.
	replayErr error
}

// Open brings the stores to the last state the chain agreed on and makes the
// node ready for Run. It may take long: blocks that the index lost are applied
// again.
func Open(cfg Config) (*Node, error) {
	if cfg.PendingBytes == 0 {
		cfg.PendingBytes = 64 << 20
	}
	if cfg.DiskReserve == 0 {
		cfg.DiskReserve = 512 << 20
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	reg, err := registry.New(cfg.Alliance)
	if err != nil {
		return nil, err
	}
	n := &Node{
		cfg: cfg, id: cfg.Institution, origin: cfg.Alliance.Origin(), alliance: cfg.Alliance, log: cfg.Log,
		metrics: newMetrics(cfg.Registerer), tlsKeys: map[evidence.Digest]string{}, reg: reg,
		pool: newPool(cfg.PendingBytes), blocks: newMark(),
		queue: make(chan *submission, 1024), patience: make(chan struct{}, patienceMax), stopping: make(chan struct{}),
		faults: map[string]string{}, orphans: map[evidence.Digest]location{}, signWake: make(chan struct{}, 1),
		life: context.Background(), halted: make(chan error, 1), stuck: make(chan struct{}),
	}
	for _, d := range cfg.Alliance.Institutions {
		keys, err := d.PublicKeys(evidence.UseTLS)
		if err != nil {
			return nil, err
		}
		for _, k := range keys {
			n.tlsKeys[k.KID()] = d.ID
		}
	}
	n.disk = &disk{dir: cfg.Dir, reserve: cfg.DiskReserve, log: cfg.Log}
	n.verifier = &verifier{reg: reg, ed: sigbatch.New(sigbatch.Config{KeyCache: 1 << 17, Parallel: 1}), parallel: runtime.GOMAXPROCS(0)}
	n.ring.add(cfg.Receipts...)
	n.ring.add(cfg.Cosign, cfg.Attest)
	n.witness = newWitness(n)
	n.peers = newPeers(n)
	return n, n.openStores()
}

func (n *Node) openStores() (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, n.closeStores())
		}
	}()
	if n.idx, err = openIndex(filepath.Join(n.cfg.Dir, "index"), n.log, n.indexDamage, n.indexFatal); err != nil {
		return err
	}
	n.disk.check()
	if n.ledger, err = ledger.Open(filepath.Join(n.cfg.Dir, "ledger")); err != nil {
		if errors.Is(err, ledger.ErrDamaged) {
			return &DamagedError{"ledger", fmt.Sprintf("%v; move %s and %s away and start again: they are computed anew from the blocks and batches",
				err, filepath.Join(n.cfg.Dir, "ledger"), filepath.Join(n.cfg.Dir, "index"))}
		}
		return fmt.Errorf("opening the ledger: %w", err)
	}
	if n.tokens, err = openTokens(filepath.Join(n.cfg.Dir, "tokens"), n.idx, n.log); err != nil {
		return err
	}
	n.machine = &machine{log: n.log, idx: n.idx, ledger: n.ledger, reg: n.reg, recent: map[uint64]evidence.Digest{}}
	var from location
	if v, err := n.idx.get([]byte{'S'}); err != nil {
		return err
	} else if v != nil {
		st, err := decodeState(v)
		if err != nil {
			return err
		}
		from = st.Safe
	}
	n.batches, err = openBatchStore(filepath.Join(n.cfg.Dir, "batches"), from, n.log, func(d evidence.Digest, loc location, _ []byte) {
		n.orphans[d] = loc
	}, func(loc location) {
		n.fault("batch store", fmt.Sprintf("segment %08d.seg is damaged at byte %d, %d bytes; what was there is fetched from the other institutions when it is needed", loc.seg, loc.off, loc.size))
	})
	return err
}

func (n *Node) closeStores() error {
	var errs []error
	if n.batches != nil {
		errs = append(errs, n.batches.close())
	}
	if n.ledger != nil {
		errs = append(errs, n.ledger.Close())
	}
	if n.tokens != nil {
		errs = append(errs, n.tokens.close())
	}
	if n.idx != nil {
		if !n.dead.Load() { // else it never answers again
			errs = append(errs, n.idx.db.Flush(), n.idx.db.Close())
		}
	}
	return errors.Join(errs...)
}

// Run runs the node until ctx ends. ready, if not nil, is called once when
// the stores are at the chain's state and requests can be served.
func (n *Node) Run(ctx context.Context, ready func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	storeCtx, stopStore := context.WithCancel(context.WithoutCancel(ctx))
	defer stopStore()
	n.life = storeCtx
	var storeDone sync.WaitGroup
	storeDone.Go(func() { _ = n.batches.run(storeCtx) })

	g.Go(func() error {
		err := n.peers.server.Serve(tls.NewListener(n.cfg.PeerListener, n.cfg.PeerTLS))
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("peer interface: %w", err)
	})
	g.Go(func() error { return n.disk.run(ctx) })
	g.Go(func() error {
		select {
		case err := <-n.halted:
			return err
		case <-ctx.Done():
			return nil
		}
	})
	for _, q := range n.peers.byID {
		g.Go(func() error { return n.peers.runPush(ctx, q) })
		g.Go(func() error { return n.peers.runPush(ctx, q) }) // two at once hide the round trip
		g.Go(func() error { return n.peers.runWitness(ctx, q) })
	}
	g.Go(func() error {
		if err := n.start(ctx); err != nil {
			return err
		}
		if ready != nil {
			ready()
		}
		g.Go(func() error { return n.runBatcher(ctx) })
		g.Go(func() error { return n.runSigner(ctx) })
		g.Go(func() error { return n.machine.filter.fill(ctx, n.idx) })
		g.Go(func() error { return n.runRelay(ctx) })
		g.Go(func() error { return n.runStamper(ctx) })
		for _, q := range n.peers.byID {
			g.Go(func() error { return n.peers.runTokens(ctx, q) })
		}
		return n.runKeeper(ctx)
	})
	g.Go(func() error {
		<-ctx.Done()
		close(n.stopping)
		return n.peers.server.Close()
	})
	err := g.Wait()
	if n.comet != nil && n.comet.IsRunning() {
		err = errors.Join(err, n.stopComet())
	}
	err = errors.Join(err, n.work.Wait())
	stopStore()
	storeDone.Wait()
	return errors.Join(err, n.closeStores())
}

// start loads the state, lets CometBFT replay what the index lost, takes up the
// batches that a crash left uncommitted, and joins the consensus.
func (n *Node) start(ctx context.Context) error {
	if err := n.machine.load(ctx, n.blockBatch); err != nil {
		return err
	}
	if err := n.witness.load(); err != nil {
		return err
	}
	n.blocks.raise(uint64(n.machine.cur.Load().Height))
	if err := n.startComet(); err != nil {
		return err
	}
	if err := n.witness.resign(); n.keyTrouble(err) != nil {
		return err
	}
	n.started.Store(true)
	for _, p := range n.pool.before(n.now().Add(time.Hour)) { // pushed while this node was starting
		n.offer(p)
	}
	if err := n.adoptOrphans(); err != nil {
		return err
	}
	// Damage that was found while the batches were searched for uncommitted ones
	// has been told; what the chain has of it was fetched or will be when read.
	n.clearFault("batch store")
	return nil
}

func (n *Node) now() time.Time { return n.cfg.Now() }

// applyBlock gives the block to the machine.
func (n *Node) applyBlock(ctx context.Context, height, blockTime int64, batches []*batch) (*applied, error) {
	safe := n.pool.safe(n.batches.endsAt(), batches)
	mine := make(map[evidence.Digest]bool, len(batches))
	for _, b := range batches {
		mine[b.digest] = true
	}
	n.locMu.Lock()
	for d, loc := range n.orphans {
		if !mine[d] && loc.before(safe) {
			safe = loc
		}
	}
	n.locMu.Unlock()
	return n.machine.apply(height, blockTime, batches, safe, func(err error) error {
		n.fault("ledger", err.Error())
		select {
		case <-n.stopping:
			return ErrStopping
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
			n.clearFault("ledger")
			return nil
		}
	})
}

// afterCommit answers those who wait for this block and has its root signed.
func (n *Node) afterCommit(a *applied) {
	for bi, b := range a.batches {
		n.locMu.Lock()
		delete(n.orphans, b.digest)
		n.locMu.Unlock()
		n.metrics.count(a.results[bi])
		if p := n.pool.remove(b.digest); p != nil {
			p.results = a.results[bi]
			close(p.done)
		}
	}
	n.blocks.raise(uint64(a.next.Height))
	if len(a.entries) > 0 {
		select {
		case n.signWake <- struct{}{}:
		default:
		}
	}
}

// runSigner signs roots outside the consensus's own path. Blocks that come
// while it signs are covered by the next signature: a later root serves every
// earlier statement.
func (n *Node) runSigner(ctx context.Context) error {
	again := time.NewTimer(0) // resign may have lacked a key or its token
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-n.signWake:
		case <-again.C:
			if !n.ring.trouble.Load() {
				continue
			}
		}
		cur := n.machine.cur.Load()
		b, ok, err := n.idx.boundaryAt(cur.Size)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		if err := n.keyTrouble(n.witness.sign(b)); err != nil {
			return err
		}
		if n.ring.trouble.Load() {
			again.Reset(keyRetry)
		}
	}
}

// runRelay passes batches on that wait here while no block is made: whoever
// brought them told this node and not the others, by malice or because it died,
// and a proposer makes no block for what it does not know. A node that has a
// batch keeps it, so passing it on once is enough.
func (n *Node) runRelay(ctx context.Context) error {
	tick := time.NewTicker(relayAfter)
	defer tick.Stop()
	relayed := map[evidence.Digest]bool{}
	for height := int64(-1); ; {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		h := n.machine.cur.Load().Height
		if h != height {
			height = h
			clear(relayed)
			continue
		}
		for _, p := range n.pool.before(n.now().Add(-relayAfter)) {
			if p.from == n.id || relayed[p.digest] {
				continue // own ones are pushed until every peer has them
			}
			relayed[p.digest] = true
			n.log.Info("passing on a batch that waits and makes no block", "batch", p.digest, "from", p.from)
			n.peers.push(p)
		}
	}
}

// runKeeper flushes the index now and then, so that little has to be replayed,
// and gives up peers' batches that nobody proposes.
func (n *Node) runKeeper(ctx context.Context) error {
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	flushed := n.machine.cur.Load().Height
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if h := n.machine.cur.Load().Height; h != flushed {
			if err := n.ledger.Sync(); err != nil && !isNoSpace(err) {
				return fmt.Errorf("syncing the ledger: %w", err)
			}
			if !n.disk.full.Load() {
				if _, err := n.idx.db.AsyncFlush(); err != nil {
					return fmt.Errorf("flushing the index: %w", err)
				}
				flushed = h
			}
		}
		for _, p := range n.pool.before(n.now().Add(-flushEvery)) {
			if p.from != n.id && p.since.Before(n.now().Add(-expireAfter)) {
				n.log.Warn("giving up a batch that nobody proposed", "from", p.from, "batch", p.digest)
				n.pool.remove(p.digest)
				n.forget(p.tx())
				continue
			}
			n.offer(p) // in case the mempool was full the first time
		}
		if err := n.adoptOrphans(); err != nil {
			return err
		}
	}
}

const (
	flushEvery = 20 * time.Second
	// relayAfter is how long a peer's batch waits without a block before it is
	// passed on: a block takes a tenth of it.
	relayAfter = time.Second
	// expireAfter is how long a peer's batch may wait for a block. Its maker
	// never gives it up and pushes it again.
	expireAfter = 10 * time.Minute
)

func (n *Node) fault(store, sentence string) {
	n.faultsMu.Lock()
	defer n.faultsMu.Unlock()
	if n.faults[store] != sentence {
		n.faults[store] = sentence
		n.log.Error("fault", "store", store, "what", sentence)
	}
}

func (n *Node) clearFault(store string) {
	n.faultsMu.Lock()
	defer n.faultsMu.Unlock()
	delete(n.faults, store)
}
