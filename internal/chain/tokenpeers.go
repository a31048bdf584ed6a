package chain

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/zhenglian/zhenglian/evidence"
)

// A node asks its peers for the timestamp tokens that they hold:
//
//	GET /tokens?file=ID&from=OFFSET ─► page of tokens, where to go on
//	each token ─► this node's own boundary or entry ─► Stamper.Check ─► kept
//
// It keeps those that an authority of its own configuration made, over what
// stands in its own log; a peer can hand it nothing else. So every institution
// that knows an authority has the tokens that any of them got, and one that lost
// its own gets them back.

const (
	// tokenPoll is how often a peer is asked for new tokens. A package that is
	// made at once finds them where they were made.
	tokenPoll = 3 * time.Second
	// tokenPage of tokens answers one question, and at most maxTokenPage bytes.
	tokenPage    = 200
	maxTokenPage = 400 << 10
)

type tokenPageWire struct {
	File   string      `json:"file"` // id of the file, hexadecimal
	Next   int64       `json:"next"`
	Tokens []tokenWire `json:"tokens"`
}

type tokenWire struct {
	Kind      string `json:"kind"` // "checkpoint" or "statement"
	N         uint64 `json:"n"`    // size or position
	Authority string `json:"authority"`
	Token     []byte `json:"token"`
}

func (p *peers) getTokens(w http.ResponseWriter, r *http.Request) {
	if _, ok := p.from(r); !ok {
		http.Error(w, "not an institution of this alliance", http.StatusForbidden)
		return
	}
	var id tokenFileID
	raw, err := hex.DecodeString(r.URL.Query().Get("file"))
	from, err2 := strconv.ParseInt(r.URL.Query().Get("from"), 10, 64)
	if err != nil || err2 != nil || len(raw) > len(id) {
		http.Error(w, "file is the id of a file of tokens, and from an offset in it", http.StatusBadRequest)
		return
	}
	copy(id[:], raw)
	records, next, err := p.n.tokens.page(id, from, tokenPage)
	if err != nil {
		p.n.log.Error("timestamp tokens cannot be handed on", "error", err)
		http.Error(w, "the tokens cannot be read", http.StatusInternalServerError)
		return
	}
	out := tokenPageWire{File: hex.EncodeToString(p.n.tokens.id[:]), Next: next, Tokens: []tokenWire{}}
	for _, t := range records {
		kind := "checkpoint"
		if t.Kind == tokenStatement {
			kind = "statement"
		}
		out.Tokens = append(out.Tokens, tokenWire{kind, t.N, t.Authority, t.Token})
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(out) // a broken connection shows at the reader
}

// runTokens asks one peer for its tokens until ctx ends.
func (p *peers) runTokens(ctx context.Context, q *peer) error {
	if p.n.cfg.Stamper == nil {
		return nil // nobody has said whose tokens count
	}
	tick := time.NewTicker(tokenPoll)
	defer tick.Stop()
	for {
		more, err := p.fetchTokens(ctx, q)
		var damage *DamagedError
		if errors.As(err, &damage) {
			return err
		}
		if err != nil && ctx.Err() == nil {
			p.n.log.Debug("tokens of a peer", "peer", q.id, "error", err)
		}
		if more && err == nil && ctx.Err() == nil {
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// fetchTokens takes one page of a peer's tokens. more says that there may be
// another at once.
func (p *peers) fetchTokens(ctx context.Context, q *peer) (more bool, err error) {
	if p.n.disk.full.Load() {
		return false, nil
	}
	id, from, err := p.tokenCursor(q.id)
	if err != nil {
		return false, err
	}
	var page tokenPageWire
	if err := p.exchange(ctx, q, http.MethodGet, fmt.Sprintf("/tokens?file=%x&from=%d", id, from), nil, &page); err != nil {
		return false, err
	}
	raw, err := hex.DecodeString(page.File)
	if err != nil || len(raw) != len(id) || len(page.Tokens) > tokenPage {
		return false, fmt.Errorf("%s sends no page of tokens", q.id)
	}
	if len(page.Tokens) == 0 {
		return false, nil
	}
	var fresh []tokenRecord
	for _, t := range page.Tokens {
		r, take, err := p.n.judgeToken(t)
		if errors.Is(err, errNotYet) {
			return false, p.n.keepTokens(fresh) // and the page is asked for again
		}
		var damage *DamagedError
		if errors.As(err, &damage) {
			return false, err
		}
		if err != nil {
			p.n.metrics.badTokens.Inc()
			p.n.log.Warn("refused a timestamp token", "from", q.id, "kind", t.Kind, "n", t.N, "authority", t.Authority, "reason", err)
			continue
		}
		if take {
			fresh = append(fresh, r)
		}
	}
	if err := p.n.keepTokens(fresh); err != nil {
		return false, err
	}
	copy(id[:], raw)
	moved := page.Next != from || len(fresh) > 0
	return moved, p.setTokenCursor(q.id, id, page.Next)
}

// errNotYet: the token is over what this node's log does not have yet.
var errNotYet = errors.New("not in this log yet")

// judgeToken checks a peer's token against this node's own log and
// configuration. take is false for one that is here already, or of an authority
// that this node does not know.
func (n *Node) judgeToken(t tokenWire) (r tokenRecord, take bool, err error) {
	r = tokenRecord{Kind: tokenCheckpoint, N: t.N, Authority: t.Authority, Token: t.Token}
	known := false
	for _, id := range n.cfg.Stamper.Authorities() {
		known = known || id == t.Authority
	}
	if !known {
		return r, false, nil
	}
	switch t.Kind {
	case "checkpoint":
	case "statement":
		r.Kind = tokenStatement
	default:
		return r, false, fmt.Errorf("%.20q is no kind of token", t.Kind)
	}
	if have, err := n.idx.get(r.key()); err != nil || have != nil {
		return r, false, err
	}
	size := n.machine.cur.Load().Size
	var imprint [32]byte
	switch r.Kind {
	case tokenCheckpoint:
		b, ok, err := n.idx.boundaryAt(t.N)
		if err != nil {
			return r, false, err
		}
		if !ok && t.N > size {
			return r, false, errNotYet
		}
		if !ok {
			return r, false, fmt.Errorf("no block ended at size %d", t.N)
		}
		imprint = n.bodyDigest(b)
	case tokenStatement:
		if t.N >= size {
			return r, false, errNotYet
		}
		if imprint, err = n.entryAt(t.N); err != nil {
			return r, false, err
		}
	}
	_, err = n.cfg.Stamper.Check(t.Authority, imprint, t.Token)
	return r, err == nil, err
}

func (n *Node) bodyDigest(b boundary) [32]byte {
	cp := evidence.CosignedCheckpoint{Origin: n.origin, Checkpoint: b.Checkpoint}
	return sha256.Sum256([]byte(cp.Body()))
}

// keepTokens stores tokens that have been checked.
func (n *Node) keepTokens(records []tokenRecord) error {
	if len(records) == 0 {
		return nil
	}
	if err := n.tokens.add(n.idx, records...); err != nil {
		return err
	}
	for i := range records {
		n.stamps.kept(&records[i], n.now())
	}
	return nil
}

// The cursor of a peer: which of its file was read, and with which authorities,
// since others would have others kept.
func (p *peers) tokenCursorKey(id string) []byte { return append([]byte{'V'}, id...) }

func (p *peers) authoritiesMark() []byte {
	sum := sha256.Sum256([]byte(strings.Join(p.n.cfg.Stamper.Authorities(), " ")))
	return sum[:8]
}

func (p *peers) tokenCursor(peer string) (id tokenFileID, from int64, err error) {
	v, err := p.n.idx.get(p.tokenCursorKey(peer))
	if err != nil || len(v) != len(id)+16 || string(v[len(id)+8:]) != string(p.authoritiesMark()) {
		return id, 0, err
	}
	copy(id[:], v)
	return id, int64(binary.BigEndian.Uint64(v[len(id):])), nil
}

func (p *peers) setTokenCursor(peer string, id tokenFileID, from int64) error {
	v := binary.BigEndian.AppendUint64(append([]byte{}, id[:]...), uint64(from))
	if err := p.n.idx.db.Set(p.tokenCursorKey(peer), append(v, p.authoritiesMark()...), pebble.NoSync); err != nil {
		return fmt.Errorf("noting a peer's tokens: %w", err)
	}
	return nil
}
