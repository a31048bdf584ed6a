package api

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/chain"
)

// Node is what the API needs of the institution's node. *chain.Node is one.
type Node interface {
	Alliance() *evidence.Alliance
	Institution() string
	Status() chain.Status
	// Submit returns one outcome a statement, in order; see chain.Node.
	Submit(ctx context.Context, statements [][]byte, final bool) ([]chain.Outcome, error)
	Lookup(entry evidence.Digest) (chain.Record, error)
	RecordAt(position uint64) (chain.Record, error)
	StatementAt(position uint64) ([]byte, error)
	ReceiptsAt(position uint64) (chain.Receipts, error)
	Checkpoint() evidence.CosignedCheckpoint
	CheckpointAt(size uint64) (evidence.CosignedCheckpoint, error)
	Tile(level uint, index uint64, width int) ([]byte, error)
	EntryBundle(index uint64, width int) ([]byte, error)
	Trail(trail evidence.Digest) (chain.TrailView, error)
	TrailHead(trail evidence.Digest) ([]byte, error)
	TrailRights(trail, kid evidence.Digest) (owner bool, rights uint64, err error)
	KeyPositions(kid evidence.Digest, from uint64, limit int) ([]uint64, error)
	Member(kid evidence.Digest) (chain.MemberView, error)
	// Policy follows from the genesis and the key changes in the log; KeyChanges are
	// these; ReceiptKeys are the institution's own, present ones first.
	Policy() (*evidence.Policy, error)
	KeyChanges(from uint64, limit int) (changes []chain.KeyChangeRecord, more bool, err error)
	ReceiptKeys() []*evidence.PublicKey
	// Stamps, Timestamps and TimestampFor: tokens over checkpoints, by authority.
	Stamps() chain.StampStatus
	Timestamps(size uint64) (map[string][]byte, error)
	TimestampFor(position uint64) (size uint64, tokens map[string][]byte, err error)
	// StatementTimestamps and StampStatement: tokens over a statement itself.
	StatementTimestamps(position uint64) (map[string][]byte, error)
	StampStatement(ctx context.Context, position uint64) (map[string][]byte, error)
}

// Limits bound what clients can make the node do. Each zero takes the default
// named beside it.
type Limits struct {
	// MaxConnections open at once (4,096): at about 30 kB of buffers each, 120 MB.
	// More wait in the kernel's queue.
	MaxConnections int
	// MaxInFlight requests handled at once (1,024); more are answered 429. A
	// waiting deposit holds its statement and a goroutine, under 20 kB.
	MaxInFlight int
	// MaxBatches read at once (16); more are answered 429. Each holds at most two
	// slices of statements, 8 MB when all are of the largest size.
	MaxBatches int
	// MaxManifests checked at once (16); more are answered 429. Each holds at most
	// a manifest of 4 MiB in base64 and decoded, 10 MB.
	MaxManifests int
	// RequestsPerSecond from one client address (200; an IPv6 /64 counts as one);
	// negative for no limit.
	RequestsPerSecond int
	// ReadsPerSecond is the same for the public log's tiles and checkpoints
	// (2,000): an auditor fetches thousands of small immutable files.
	ReadsPerSecond int
	// StampsPerSecond is the same for queries to the institution's timestamp
	// authority (20): each is a signature and a write to the disk.
	StampsPerSecond int
	// BatchStatements in one request (1,000,000): 300 MB at the usual size.
	BatchStatements int
	// BatchBytes in one request (1 GiB).
	BatchBytes int64
	// SliceStatements of a batch submitted together (1,000): large enough for the
	// signature batch check, small enough to keep memory flat.
	SliceStatements int
	// FinalWait is how long a request waits for finality (10 s) before it answers
	// that it is still on its way.
	FinalWait time.Duration
	// BatchPatience is how long a batch waits for an overloaded node (30 s) before
	// it ends with code "overloaded".
	BatchPatience time.Duration
	// ReadHeaderTimeout (5 s), ReadTimeout for a body or for each statement of a
	// batch (30 s), WriteTimeout for an answer or for each slice of a batch (60 s),
	// IdleTimeout between requests (60 s).
	ReadHeaderTimeout, ReadTimeout, WriteTimeout, IdleTimeout time.Duration
	// MaxHeaderBytes of a request (16 KiB).
	MaxHeaderBytes int
	// StopTimeout is how long Run waits for requests in progress (15 s).
	StopTimeout time.Duration
}

func (l Limits) withDefaults() Limits {
	set := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	wait := func(v *time.Duration, d time.Duration) {
		if *v == 0 {
			*v = d
		}
	}
	set(&l.MaxConnections, 4096)
	set(&l.MaxInFlight, 1024)
	set(&l.MaxBatches, 16)
	set(&l.MaxManifests, 16)
	set(&l.RequestsPerSecond, 200)
	set(&l.ReadsPerSecond, 2000)
	set(&l.StampsPerSecond, 20)
	set(&l.BatchStatements, 1_000_000)
	if l.BatchBytes == 0 {
		l.BatchBytes = 1 << 30
	}
	set(&l.SliceStatements, 1000)
	set(&l.MaxHeaderBytes, 16<<10)
	wait(&l.FinalWait, 10*time.Second)
	wait(&l.BatchPatience, 30*time.Second)
	wait(&l.ReadHeaderTimeout, 5*time.Second)
	wait(&l.ReadTimeout, 30*time.Second)
	wait(&l.WriteTimeout, 60*time.Second)
	wait(&l.IdleTimeout, 60*time.Second)
	wait(&l.StopTimeout, 15*time.Second)
	return l
}

// Config of a Server. Node is required; everything else has a default.
type Config struct {
	Node Node
	// Addresses are the base URLs clients reach this server at, the first of them
	// the one that Location fields name. Signed requests must have been signed for
	// one of them, so that a signature meant for another institution's node is
	// worth nothing here. Empty: the institution's api address in the alliance.
	Addresses []string
	Limits    Limits
	// TrustedProxies whose X-Forwarded-For is believed, for the limits by client
	// address. Empty: nobody's.
	TrustedProxies []netip.Prefix
	// TSA answers RFC 3161 queries at /tsa; nil: this node runs no authority.
	TSA http.Handler
	// TSAStatus is how that authority stands; nil: this node runs none.
	TSAStatus func() AuthorityStatus
	// TLS makes Run serve TLS on a plain listener.
	TLS *tls.Config
	// Language of answers when Accept-Language asks for none we have: "en"
	// (default) or "zh-CN".
	Language string
	Version  string               // of the program, for OpenAPI; "0" when empty
	Logger   *slog.Logger         // nil: nothing is logged
	Metrics  *prometheus.Registry // nil: one of its own
	Now      func() time.Time     // nil: time.Now
}

func (c Config) withDefaults() (Config, error) {
	if c.Node == nil {
		return c, errors.New("setting up the API: there is no node")
	}
	c.Limits = c.Limits.withDefaults()
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Metrics == nil {
		c.Metrics = prometheus.NewRegistry()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Version == "" {
		c.Version = "0"
	}
	switch c.Language {
	case "":
		c.Language = english
	case english, chinese:
	default:
		return c, fmt.Errorf("setting up the API: language %q is neither %q nor %q", c.Language, english, chinese)
	}
	if len(c.Addresses) == 0 {
		own := c.Node.Alliance().Institution(c.Node.Institution())
		if own == nil {
			return c, fmt.Errorf("setting up the API: institution %q is not in the alliance", c.Node.Institution())
		}
		c.Addresses = []string{own.Addresses.API}
	}
	addresses := make([]string, len(c.Addresses))
	for i, a := range c.Addresses {
		u, err := url.Parse(a)
		if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
			return c, fmt.Errorf("setting up the API: address %q is not http(s)://host[:port][/path]", a)
		}
		addresses[i] = strings.TrimSuffix(a, "/")
	}
	c.Addresses = addresses
	return c, nil
}
