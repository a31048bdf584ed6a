package chain

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
)

// Institutions' nodes speak HTTP over mutually authenticated TLS with each
// other, apart from CometBFT's own connections:
//
//	PUT  /batch                a batch's bytes; 204 when verified and durable
//	GET  /batch/{digest}       a batch's bytes
//	PUT  /witness              signatures over roots
//	GET  /witness?from=HEIGHT  the node's own signatures from that block on
//	GET  /tokens?from=OFFSET   timestamp tokens that the node holds
//
// Nothing that arrives is believed: batches are verified statement by
// statement, signatures are checked against this node's own roots.
type peers struct {
	n      *Node
	byID   map[string]*peer
	server *http.Server
}

type peer struct {
	id     string
	base   string // https://host:port
	client *http.Client

	mu      sync.Mutex
	heard   time.Time
	lastErr string
	up      bool

	batches chan *pending      // to push; overflow is left to fetching
	witness chan []witnessWire // to push
}

// PeerConfig is how to reach one other institution's node.
type PeerConfig struct {
	Address string      // host:port of its peer interface
	TLS     *tls.Config // client side, pinned to that institution's key
}

// peerTimeout bounds one exchange between nodes: a batch of 1 MiB at 1 Mbit/s.
const peerTimeout = 10 * time.Second

func newPeers(n *Node) *peers {
	p := &peers{n: n, byID: map[string]*peer{}}
	for id, c := range n.cfg.Peers {
		tr := &http.Transport{TLSClientConfig: c.TLS, ForceAttemptHTTP2: false, MaxIdleConnsPerHost: 4, IdleConnTimeout: 5 * time.Minute,
			TLSHandshakeTimeout: peerTimeout, WriteBufferSize: 64 << 10, ReadBufferSize: 64 << 10}
		p.byID[id] = &peer{id: id, base: "https://" + c.Address, client: &http.Client{Transport: tr, Timeout: peerTimeout},
			batches: make(chan *pending, 1024), witness: make(chan []witnessWire, 1024)}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /batch", p.putBatch)
	mux.HandleFunc("GET /batch/{digest}", p.getBatch)
	mux.HandleFunc("PUT /witness", p.putWitness)
	mux.HandleFunc("GET /witness", p.getWitness)
	mux.HandleFunc("GET /tokens", p.getTokens)
	p.server = &http.Server{Handler: mux, ReadHeaderTimeout: peerTimeout, ReadTimeout: peerTimeout, IdleTimeout: 10 * time.Minute,
		MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(n.log.Handler(), slog.LevelDebug)}
	return p
}

// from names the institution on the other end of the connection.
func (p *peers) from(r *http.Request) (string, bool) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return "", false
	}
	id, ok := p.n.tlsKeys[evidence.SumSHA256(r.TLS.PeerCertificates[0].RawSubjectPublicKeyInfo)]
	if ok {
		if q := p.byID[id]; q != nil {
			q.note(p.n.now(), nil)
		}
	}
	return id, ok
}

func (q *peer) note(now time.Time, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err != nil {
		q.up, q.lastErr = false, err.Error()
		return
	}
	q.up, q.heard, q.lastErr = true, now, ""
}

func (p *peers) putBatch(w http.ResponseWriter, r *http.Request) {
	from, ok := p.from(r)
	if !ok {
		http.Error(w, "not an institution of this alliance", http.StatusForbidden)
		return
	}
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBatchBytes))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if _, err := p.n.admit(r.Context(), raw, from); err != nil {
		var over *OverloadError
		switch {
		case errors.As(err, &over):
			w.Header().Set("Retry-After", strconv.Itoa(int(over.RetryAfter.Seconds()+1)))
			http.Error(w, err.Error(), http.StatusTooManyRequests)
		case errors.Is(err, ErrDiskFull):
			http.Error(w, err.Error(), http.StatusInsufficientStorage)
		case errors.Is(err, errNotBatch):
			http.Error(w, err.Error(), http.StatusBadRequest)
		default:
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (p *peers) getBatch(w http.ResponseWriter, r *http.Request) {
	if _, ok := p.from(r); !ok {
		http.Error(w, "not an institution of this alliance", http.StatusForbidden)
		return
	}
	digest, err := evidence.ParseDigest(r.PathValue("digest"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	raw, err := p.n.rawBatch(digest)
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	_, _ = w.Write(raw) // the other side hashes what it got
}

func (p *peers) putWitness(w http.ResponseWriter, r *http.Request) {
	from, ok := p.from(r)
	if !ok {
		http.Error(w, "not an institution of this alliance", http.StatusForbidden)
		return
	}
	var ws []witnessWire
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxWitnessBody)).Decode(&ws); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	for _, x := range ws {
		if err := p.n.witness.receive(from, x); err != nil {
			p.n.log.Warn("refused a root signature", "from", from, "height", x.Height, "reason", err)
			http.Error(w, err.Error(), http.StatusUnprocessableEntity)
			return
		}
	}
	w.WriteHeader(http.StatusNoContent)
}

func (p *peers) getWitness(w http.ResponseWriter, r *http.Request) {
	if _, ok := p.from(r); !ok {
		http.Error(w, "not an institution of this alliance", http.StatusForbidden)
		return
	}
	from, err := strconv.ParseInt(r.URL.Query().Get("from"), 10, 64)
	if err != nil || from < 0 {
		http.Error(w, "from is not a height", http.StatusBadRequest)
		return
	}
	ws, err := p.n.witness.own(from, witnessPage)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(ws) // a broken connection shows at the reader
}

const (
	// witnessPage of signatures answers one poll; the reader polls again.
	witnessPage = 256
	// maxWitnessBody is witnessPage entries of under 2 KiB, with SM2 beside.
	maxWitnessBody = 1 << 20
)

// push sends an own batch to every peer and offers it to the mempool as soon as
// a quorum holds it: before that no block with it could be decided, and a
// validator asked to vote would have to look for it.
func (p *peers) push(b *pending) {
	for _, q := range p.byID {
		select {
		case q.batches <- b:
		default: // that peer is far behind; it will fetch what it needs
		}
	}
	p.n.work.Go(func() error {
		need := evidence.Quorum(len(p.byID)+1) - 1
		timer := time.NewTimer(offerWait)
		defer timer.Stop()
		for need > 0 {
			select {
			case <-b.acks:
				need--
			case <-timer.C:
				need = 0
			case <-p.n.stopping:
				return nil
			}
		}
		p.n.offer(b)
		return nil
	})
}

// offerWait is how long an own batch waits for a quorum of acknowledgements
// before it is proposed anyway: acknowledgements can get lost.
const offerWait = 2 * time.Second

// runPush sends batches to one peer, a few at a time, trying again until it has
// them or they are committed.
func (p *peers) runPush(ctx context.Context, q *peer) error {
	backoff := 10 * time.Millisecond
	for {
		var b *pending
		select {
		case <-ctx.Done():
			return nil
		case b = <-q.batches:
		}
		for {
			err := p.exchange(ctx, q, http.MethodPut, "/batch", b.raw, nil)
			q.note(p.n.now(), err)
			if err == nil {
				backoff = 10 * time.Millisecond
				select {
				case b.acks <- q.id:
				default:
				}
				break
			}
			var refused *refusedError
			if errors.As(err, &refused) && refused.final() {
				p.n.log.Warn("a peer refuses a batch for good", "peer", q.id, "batch", b.digest, "reason", err)
				break
			}
			select {
			case <-ctx.Done():
				return nil
			case <-b.done: // committed without this peer: it fetches
			case <-time.After(backoff):
				backoff = min(2*backoff, time.Second)
				continue
			}
			break
		}
	}
}

func (p *peers) runWitness(ctx context.Context, q *peer) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case ws := <-q.witness:
			for more := true; more && len(ws) < witnessPage; {
				select {
				case x := <-q.witness:
					ws = append(ws, x...)
				default:
					more = false
				}
			}
			body, err := json.Marshal(ws)
			if err != nil {
				return fmt.Errorf("encoding root signatures: %w", err)
			}
			// A peer that misses them polls.
			q.note(p.n.now(), p.exchange(ctx, q, http.MethodPut, "/witness", body, nil))
		case <-tick.C:
			if from, behind := p.n.witness.behind(q.id); behind || q.silent(p.n.now()) {
				var ws []witnessWire
				err := p.exchange(ctx, q, http.MethodGet, "/witness?from="+strconv.FormatInt(from, 10), nil, &ws)
				q.note(p.n.now(), err)
				for _, x := range ws {
					if err := p.n.witness.receive(q.id, x); err != nil {
						p.n.log.Warn("refused a root signature", "from", q.id, "height", x.Height, "reason", err)
						break
					}
				}
			}
		}
	}
}

// silent reports whether the peer should be asked only to know that it is there.
func (q *peer) silent(now time.Time) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return now.Sub(q.heard) > silentAfter
}

const (
	// pollEvery is how often a node asks a peer whose signatures are missing.
	pollEvery = time.Second
	// silentAfter is how old the knowledge that a peer is there may get.
	silentAfter = 5 * time.Second
)

// refusedError is a peer's answer other than success.
type refusedError struct {
	peer   string
	status int
	text   string
}

func (e *refusedError) Error() string {
	return fmt.Sprintf("%s answers %d: %s", e.peer, e.status, e.text)
}

// final reports whether asking again would get the same answer.
func (e *refusedError) final() bool {
	return e.status/100 == 4 && e.status != http.StatusTooManyRequests && e.status != http.StatusRequestTimeout
}

// exchange does one request. With into of type *[]byte the body is returned as
// it is, otherwise decoded as JSON.
func (p *peers) exchange(ctx context.Context, q *peer, method, path string, body []byte, into any) error {
	req, err := http.NewRequestWithContext(ctx, method, q.base+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := q.client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode/100 != 2 {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 512))
		return &refusedError{q.id, resp.StatusCode, string(bytes.TrimSpace(text))}
	}
	if into == nil {
		_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<10))
		return err
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxBatchBytes+1))
	if err != nil {
		return err
	}
	if raw, ok := into.(*[]byte); ok {
		*raw = data
		return nil
	}
	return json.Unmarshal(data, into)
}

// fetch asks every peer at once for a batch and returns the first right answer.
func (p *peers) fetch(ctx context.Context, digest evidence.Digest) ([]byte, error) {
	if len(p.byID) == 0 {
		return nil, ErrNotFound
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type answer struct {
		raw []byte
		err error
	}
	answers := make(chan answer, len(p.byID))
	for _, q := range p.byID {
		go func() { // ends with ctx; its answer has room in the channel
			var raw []byte
			err := p.exchange(ctx, q, http.MethodGet, "/batch/"+digest.String(), nil, &raw)
			if err == nil && evidence.SumSHA256(raw) != digest {
				err = fmt.Errorf("%s sent something else", q.id)
			}
			answers <- answer{raw, err}
		}()
	}
	var errs error
	for range p.byID {
		a := <-answers
		if a.err == nil {
			return a.raw, nil
		}
		errs = errors.Join(errs, a.err)
	}
	return nil, errs
}

func (p *peers) status() map[string]Peer {
	out := map[string]Peer{}
	for id, q := range p.byID {
		q.mu.Lock()
		out[id] = Peer{Reachable: q.up, LastHeard: q.heard, LastError: q.lastErr, WitnessedSize: p.n.witness.sizeOf(id)}
		q.mu.Unlock()
	}
	return out
}
