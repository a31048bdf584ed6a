package chain

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	cmtcfg "github.com/cometbft/cometbft/config"
	cmted25519 "github.com/cometbft/cometbft/crypto/ed25519"
	cmtjson "github.com/cometbft/cometbft/libs/json"
	cmtlog "github.com/cometbft/cometbft/libs/log"
	"github.com/cometbft/cometbft/node"
	"github.com/cometbft/cometbft/p2p"
	"github.com/cometbft/cometbft/privval"
	cmtproto "github.com/cometbft/cometbft/proto/tendermint/types"
	"github.com/cometbft/cometbft/proxy"
	cmttypes "github.com/cometbft/cometbft/types"

	"github.com/zhenglian/zhenglian/evidence"
)

// The timeouts of a consensus round suit institutions within one country: a
// round trip of 50 ms leaves room, and a validator that is down costs its turn
// the first of them.
const (
	timeoutPropose   = 400 * time.Millisecond
	timeoutPrevote   = 200 * time.Millisecond
	timeoutPrecommit = 200 * time.Millisecond
)

// startComet starts CometBFT in this process. It replays the blocks that the
// machine has not applied before it returns.
func (n *Node) startComet() (err error) {
	dir := filepath.Join(n.cfg.Dir, "consensus")
	defer func() {
		// CometBFT panics on a block or state that it cannot read.
		if r := recover(); r != nil {
			err = n.consensusDamage(fmt.Sprint(r))
		}
	}()
	for _, d := range []string{"config", "data"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			return fmt.Errorf("making the consensus directory: %w", err)
		}
	}
	cfg, err := n.cometConfig(dir)
	if err != nil {
		return err
	}
	pv, err := n.privValidator(filepath.Join(dir, "data", "priv_validator_state.json"))
	if err != nil {
		return err
	}
	genesis, err := n.genesis()
	if err != nil {
		return err
	}
	nodeKey := &p2p.NodeKey{PrivKey: cmted25519.PrivKey(n.cfg.NodeKey)}
	n.comet, err = node.NewNode(cfg, pv, nodeKey, proxy.NewConnSyncLocalClientCreator(&app{n: n}),
		func() (*cmttypes.GenesisDoc, error) { return genesis, nil },
		n.openCometDB, node.DefaultMetricsProvider(cfg.Instrumentation), cometLog{n.log})
	if err != nil {
		return n.consensusError(err)
	}
	n.mempool = n.comet.Mempool()
	n.engine.Store(true)
	if err := n.comet.Start(); err != nil {
		return n.consensusError(err)
	}
	return nil
}

func (n *Node) cometConfig(dir string) (*cmtcfg.Config, error) {
	cfg := cmtcfg.DefaultConfig().SetRoot(dir)
	cfg.Moniker = n.id
	cfg.RPC.ListenAddress = ""
	cfg.P2P.ListenAddress = "tcp://" + n.cfg.P2PListen
	cfg.P2P.AddrBookStrict = false
	cfg.P2P.AllowDuplicateIP = true
	cfg.P2P.PexReactor = false
	cfg.P2P.MaxNumInboundPeers = len(n.alliance.Institutions) + 8
	cfg.P2P.MaxNumOutboundPeers = len(n.alliance.Institutions) + 8
	cfg.P2P.SendRate, cfg.P2P.RecvRate = 200<<20, 200<<20
	cfg.P2P.FlushThrottleTimeout = time.Millisecond
	cfg.P2P.PersistentPeersMaxDialPeriod = 2 * time.Second // an institution that comes back is joined at once
	var ids []string
	for i := range n.alliance.Institutions {
		d := &n.alliance.Institutions[i]
		if d.ID == n.id {
			continue
		}
		raw, err := rawKey(d, evidence.UseNode)
		if err != nil {
			return nil, err
		}
		addr := n.cfg.P2PPeers[d.ID]
		if addr == "" {
			return nil, fmt.Errorf("no address of %s's consensus interface is known", d.ID)
		}
		ids = append(ids, string(p2p.PubKeyToID(cmted25519.PubKey(raw)))+"@"+addr)
	}
	slices.Sort(ids)
	cfg.P2P.PersistentPeers = strings.Join(ids, ",")
	// Each node feeds its own mempool from what it holds, so nothing is gossiped.
	cfg.Mempool.Broadcast = false
	cfg.Mempool.Recheck = false
	cfg.Mempool.CacheSize = 100_000
	cfg.Mempool.Size = 100_000
	cfg.Consensus.TimeoutPropose, cfg.Consensus.TimeoutProposeDelta = timeoutPropose, timeoutPropose/2
	cfg.Consensus.TimeoutPrevote, cfg.Consensus.TimeoutPrevoteDelta = timeoutPrevote, timeoutPrevote/2
	cfg.Consensus.TimeoutPrecommit, cfg.Consensus.TimeoutPrecommitDelta = timeoutPrecommit, timeoutPrecommit/2
	cfg.Consensus.TimeoutCommit = 0
	cfg.Consensus.SkipTimeoutCommit = true
	cfg.Consensus.CreateEmptyBlocks = false
	cfg.Consensus.CreateEmptyBlocksInterval = 0
	cfg.Consensus.PeerGossipSleepDuration = 5 * time.Millisecond
	cfg.Storage.DiscardABCIResponses = true
	cfg.TxIndex.Indexer = "null"
	cfg.Instrumentation.Prometheus = false
	return cfg, cfg.ValidateBasic()
}

func rawKey(d *evidence.Descriptor, use evidence.KeyUse) ([]byte, error) {
	keys, err := d.PublicKeys(use)
	if err != nil {
		return nil, fmt.Errorf("%s key of %s: %w", use, d.ID, err)
	}
	return keys[0].Raw(), nil
}

// genesis derives CometBFT's genesis from the alliance's: one validator an
// institution, all with the same power.
func (n *Node) genesis() (*cmttypes.GenesisDoc, error) {
	created, err := time.Parse(time.RFC3339, n.alliance.Created)
	if err != nil {
		return nil, fmt.Errorf("the alliance's time of creation: %w", err)
	}
	g := &cmttypes.GenesisDoc{GenesisTime: created, ChainID: n.alliance.ChainID, InitialHeight: 1, ConsensusParams: cmttypes.DefaultConsensusParams()}
	for i := range n.alliance.Institutions {
		d := &n.alliance.Institutions[i]
		raw, err := rawKey(d, evidence.UseConsensus)
		if err != nil {
			return nil, err
		}
		key := cmted25519.PubKey(raw)
		g.Validators = append(g.Validators, cmttypes.GenesisValidator{Address: key.Address(), PubKey: key, Power: 10, Name: d.ID})
	}
	return g, g.ValidateAndComplete()
}

// privValidator signs votes with the institution's consensus key, which stays
// where it is, and keeps on disk what it signed last: without that a restart
// could sign two blocks of one height.
func (n *Node) privValidator(stateFile string) (cmttypes.PrivValidator, error) {
	pv := privval.NewFilePV(cmted25519.PrivKey(n.cfg.Consensus), "", stateFile)
	data, err := os.ReadFile(stateFile)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return &amnesiac{FilePV: pv, now: n.now, needed: evidence.Quorum(len(n.alliance.Institutions)) == len(n.alliance.Institutions)}, nil
	case err != nil:
		return nil, fmt.Errorf("reading what was voted last: %w", err)
	}
	if err := cmtjson.Unmarshal(data, &pv.LastSignState); err != nil {
		return nil, &DamagedError{"vote state", fmt.Sprintf("%s: %v; without it this node could vote twice: move the whole data directory away and start again, the node catches up from the others", stateFile, err)}
	}
	return pv, nil
}

// amnesiac is a validator that does not know what it signed last, because it is
// new or lost its state. It signs nothing of the first height it is asked for,
// unless that is the chain's first: it may have voted there before, and two
// votes of one round are proof against the institution. Where no quorum is
// possible without it, it signs, since the others cannot have decided without
// it either. After abstainFor it signs too: then another institution is missing
// and the alliance waits, in rounds far beyond those it can have voted in.
type amnesiac struct {
	*privval.FilePV
	needed bool
	now    func() time.Time

	mu    sync.Mutex
	first int64
	since time.Time
}

const abstainFor = 30 * time.Second

var errAmnesia = errors.New("this node lost what it voted last and abstains from the height in progress")

func (a *amnesiac) abstains(height int64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.first == 0 {
		a.first, a.since = height, a.now()
	}
	return !a.needed && height == a.first && height > 1 && a.now().Sub(a.since) < abstainFor
}

// SignVote implements CometBFT's PrivValidator.
func (a *amnesiac) SignVote(chainID string, vote *cmtproto.Vote) error {
	if a.abstains(vote.Height) {
		return errAmnesia
	}
	return a.FilePV.SignVote(chainID, vote)
}

// SignProposal implements CometBFT's PrivValidator.
func (a *amnesiac) SignProposal(chainID string, proposal *cmtproto.Proposal) error {
	if a.abstains(proposal.Height) {
		return errAmnesia
	}
	return a.FilePV.SignProposal(chainID, proposal)
}

func txKey(tx []byte) cmttypes.TxKey { return sha256.Sum256(tx) }

// cometLog passes CometBFT's log on; its debug and info lines are an operator's
// debug lines.
type cometLog struct{ log *slog.Logger }

func (l cometLog) Debug(string, ...any)         {}
func (l cometLog) Info(msg string, kv ...any)   { l.log.Debug("consensus: "+msg, strings2(kv)...) }
func (l cometLog) Warn(msg string, kv ...any)   { l.log.Warn("consensus: "+msg, strings2(kv)...) }
func (l cometLog) Error(msg string, kv ...any)  { l.log.Error("consensus: "+msg, strings2(kv)...) }
func (l cometLog) With(kv ...any) cmtlog.Logger { return cometLog{l.log.With(strings2(kv)...)} }

// strings2 renders CometBFT's values as it would itself: some of them are
// whole reactors.
func strings2(kv []any) []any {
	out := make([]any, len(kv))
	for i, v := range kv {
		switch v := v.(type) {
		case string, int, int32, int64, uint64, bool, time.Duration, nil:
			out[i] = v
		case error:
			out[i] = v.Error()
		case fmt.Stringer:
			out[i] = v.String()
		case json.Marshaler:
			out[i] = v
		default:
			out[i] = fmt.Sprintf("%T", v)
		}
	}
	return out
}

// catchingUp reports whether the node still fetches old blocks.
func (n *Node) catchingUp() bool {
	return !n.started.Load() || n.comet.ConsensusReactor().WaitSync()
}
