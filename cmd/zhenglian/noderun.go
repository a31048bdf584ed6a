package main

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime/pprof"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/api"
	"github.com/zhenglian/zhenglian/internal/chain"
	"github.com/zhenglian/zhenglian/internal/institution"
)

// pendingStatement is the size in bytes that limits.pending_statements counts a
// statement with; a usual one has 300.
const pendingStatement = 320

// runNode runs one institution's node until ctx ends: the chain with its peer
// interface, then, once its stores are at the chain's state, the public one.
func runNode(ctx context.Context, h *institution.Home, log *slog.Logger) (err error) {
	log = log.With("institution", h.ID())
	stopProfile, err := startProfile(h)
	if err != nil {
		return err
	}
	defer stopProfile()
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	cfg, err := chainConfig(h)
	if err != nil {
		return err
	}
	cfg.Log, cfg.Registerer = log, metrics
	if cfg.PeerListener, err = net.Listen("tcp", h.Config.Peer.Listen); err != nil {
		return fmt.Errorf("listening for the other institutions: %w", err)
	}
	apiListener, err := net.Listen("tcp", h.Config.API.Listen)
	if err != nil {
		return fmt.Errorf("listening for the public: %w", err)
	}
	if cfg.Stamper, err = newStamper(h); err != nil {
		return err
	}
	authority, err := newTSA(h, log)
	if err != nil {
		return err
	}
	if authority != nil {
		defer func() { err = errors.Join(err, authority.close()) }()
	}
	node, err := chain.Open(*cfg)
	if err != nil {
		return err
	}
	limits := api.Limits{RequestsPerSecond: int(h.Config.Limits.RequestsPerSecond), BatchBytes: h.Config.Limits.BodyBytes}
	if limits.RequestsPerSecond == 0 {
		limits.RequestsPerSecond = -1 // node.toml: 0 means no limit
	}
	limits.StampsPerSecond = int(h.Config.TSA.RequestsPerSecond)
	if limits.StampsPerSecond == 0 {
		limits.StampsPerSecond = -1
	}
	apiConfig := api.Config{Node: node, Limits: limits, Language: "zh-CN", Logger: log, Metrics: metrics}
	if authority != nil {
		apiConfig.TSA, apiConfig.TSAStatus = authority.handler(), authority.status
	}
	if c := h.Config.API; c.TLSCertificate != "" {
		cert, err := tls.LoadX509KeyPair(under(h.Path, c.TLSCertificate), under(h.Path, c.TLSKey))
		if err != nil {
			return fmt.Errorf("certificate of the public interface: %w", err)
		}
		apiConfig.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	}
	if apiConfig.TLS == nil && strings.HasPrefix(h.Descriptor.Addresses.API, "https://") {
		log.Warn("the public interface is announced as https and serves plain HTTP: set tls_certificate and tls_key under [api] in node.toml, or let a proxy terminate TLS", "announced", h.Descriptor.Addresses.API)
	}
	server, err := api.New(apiConfig)
	if err != nil {
		return err
	}
	ready := make(chan struct{})
	// The node outlives the public interface, whose last answers need it.
	nodeCtx, stopNode := context.WithCancel(context.WithoutCancel(ctx))
	defer stopNode()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return node.Run(nodeCtx, func() { close(ready) }) })
	if authority != nil {
		g.Go(func() error { return authority.run(ctx) })
	}
	g.Go(func() error {
		defer stopNode()
		select {
		case <-ready:
		case <-ctx.Done():
			return apiListener.Close()
		}
		log.Info("the node is ready", "api", h.Config.API.Listen, "size", node.Status().Size)
		return server.Run(ctx, apiListener)
	})
	return g.Wait()
}

// startProfile writes a CPU profile of the whole run when the environment asks
// for one; bench does, for the first institution alone.
func startProfile(h *institution.Home) (stop func(), err error) {
	path := os.Getenv("ZHENGLIAN_PROFILE")
	if path == "" || h.Alliance.Institutions[0].ID != h.ID() {
		return func() {}, nil
	}
	f, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("the profile: %w", err)
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, err
	}
	return func() {
		pprof.StopCPUProfile()
		_ = f.Close() // a profile that is not whole says so when it is read
	}, nil
}

// under resolves a path of node.toml, which is relative to that file.
func under(home, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(home, path)
}

// chainConfig gathers what the chain needs from this institution's home.
func chainConfig(h *institution.Home) (*chain.Config, error) {
	cfg := &chain.Config{
		Alliance: h.Alliance, Institution: h.ID(), Dir: h.DataDir(),
		Cosign: h.Key(evidence.UseCosign), Attest: h.Key(evidence.UseAttest),
		Signer:    findSigner(h),
		P2PListen: h.Config.P2P.Listen, Peers: map[string]chain.PeerConfig{}, P2PPeers: map[string]string{},
		PendingBytes: h.Config.Limits.PendingStatements * pendingStatement, DiskReserve: uint64(h.Config.Limits.FreeDiskBytes),
	}
	for use, into := range map[evidence.KeyUse]*ed25519.PrivateKey{evidence.UseConsensus: &cfg.Consensus, evidence.UseNode: &cfg.NodeKey} {
		key, ok := h.Key(use).Private().(ed25519.PrivateKey)
		if !ok {
			return nil, fmt.Errorf("the %s key is not Ed25519", use)
		}
		*into = key
	}
	for _, k := range h.Keys(evidence.UseReceipt) {
		cfg.Receipts = append(cfg.Receipts, k)
	}
	var err error
	if cfg.PeerTLS, err = h.ServerTLS(); err != nil {
		return nil, err
	}
	for _, id := range h.Peers() {
		addr, err := h.PeerAddresses(id)
		if err != nil {
			return nil, err
		}
		client, err := h.ClientTLS(id)
		if err != nil {
			return nil, err
		}
		cfg.Peers[id] = chain.PeerConfig{Address: addr.Peer, TLS: client}
		cfg.P2PPeers[id] = addr.P2P
	}
	return cfg, nil
}

// findSigner looks in the home for keys that the log names: those that were put
// in place while the node runs, and older ones.
func findSigner(h *institution.Home) func(evidence.KeyUse, evidence.Digest) (evidence.Signer, error) {
	return func(use evidence.KeyUse, kid evidence.Digest) (evidence.Signer, error) {
		key, err := h.FindKey(use, kid)
		if err != nil {
			return nil, err
		}
		return key, nil
	}
}
