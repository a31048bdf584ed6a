package api

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/chain"
)

// Registered is all that the public may learn of a statement.
type Registered struct {
	Position  uint64    `json:"position" doc:"Place in the log, from 0"`
	Digest    string    `json:"digest" doc:"SHA-256 of the registered statement: the log's entry"`
	BlockTime time.Time `json:"block_time" doc:"Clock of the block's proposer"`
	Witnesses []string  `json:"witnesses" doc:"Institutions whose signature over a covering root is here"`
	Final     bool      `json:"final" doc:"The witnesses are a quorum"`
}

// ReceiptMap is institution to receipts, each in base64.
type ReceiptMap map[string][]string

// Trail is what the log has of a trail as of a tree size.
type Trail struct {
	Trail      string      `json:"trail" doc:"Digest of the opening statement"`
	Count      int         `json:"count" doc:"Statements in the trail"`
	Statements []TrailStep `json:"statements" doc:"In log order, a page of them"`
	Next       *int        `json:"next,omitempty" doc:"The from of the next page, when there is one"`
	Size       uint64      `json:"size" doc:"As of this tree size"`
	Root       string      `json:"root" doc:"Root of that tree"`
	BlockTime  time.Time   `json:"block_time"`
}

// TrailStep is one statement of a trail.
type TrailStep struct {
	Position uint64 `json:"position"`
	Digest   string `json:"digest"`
}

// KeyPositions are positions of statements that a key signed.
type KeyPositions struct {
	KID       string   `json:"kid"`
	Positions []uint64 `json:"positions"`
	Next      *uint64  `json:"next,omitempty" doc:"The from of the next page, when there is one"`
}

// Member is the registry's entry of a key: no name, no ID number.
type Member struct {
	KID         string  `json:"kid" doc:"SHA-256 of the key's SubjectPublicKeyInfo"`
	Key         string  `json:"key" doc:"The public key, PEM"`
	Algorithm   string  `json:"algorithm"`
	Holder      string  `json:"holder" doc:"Member or institution id, a pseudonym"`
	Institution bool    `json:"institution" doc:"It is an institution's statement key"`
	Kind        string  `json:"kind"`
	Assurance   uint64  `json:"assurance" doc:"0 unknown, 1 self-asserted, 2 document, 3 in person or live face"`
	Demo        bool    `json:"demo" doc:"A demonstration's identity, which never passes for a real one"`
	Genesis     bool    `json:"genesis" doc:"Known from the alliance's genesis; there is no enrolment statement"`
	EnrolledAt  *uint64 `json:"enrolled_at,omitempty" doc:"Position of the enrolment statement, whose bytes are public"`
	// Of a passkey, which confirms acts and signs nothing else.
	Passkey      *Passkey      `json:"passkey,omitempty"`
	Certificates []Certificate `json:"certificates,omitempty" doc:"In the order of the log; the key registers nothing after the last has ended"`
	Revoked      bool          `json:"revoked"`
	RevokedAt    *uint64       `json:"revoked_at,omitempty" doc:"Position of the revocation: from here on the key registers nothing"`
	Reason       *uint64       `json:"reason,omitempty" doc:"CRLReason of RFC 5280 section 5.3.1"`
}

// Passkey is what a passkey's registration binds beside key and member.
type Passkey struct {
	Credential   string `json:"credential" doc:"SHA-256 of the credential id"`
	RelyingParty string `json:"relying_party" doc:"RP ID"`
}

// Certificate is the registration of a certificate: no subject, no name.
type Certificate struct {
	IssuedAt  uint64    `json:"issued_at" doc:"Position of the statement, whose bytes are public"`
	Serial    string    `json:"serial" doc:"Contents of the INTEGER, hexadecimal"`
	SHA256    string    `json:"sha256" doc:"Of the certificate's DER"`
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after" doc:"Included"`
}

type output[T any] struct {
	CacheControl string `header:"Cache-Control"`
	CORS         string `header:"Access-Control-Allow-Origin"`
	Body         T
}

// open is an answer that anybody may have, also a page in a browser.
func open[T any](body T) *output[T] {
	return &output[T]{CacheControl: "no-cache", CORS: "*", Body: body}
}

// private is an answer for the caller alone.
func private[T any](body T) *output[T] {
	return &output[T]{CacheControl: "private, no-store", Body: body}
}

type digestInput struct {
	Digest string `path:"digest" doc:"64 lower-case hexadecimal digits" pattern:"^[0-9a-f]{64}$"`
}

func (i *digestInput) parse() (evidence.Digest, error) { return parseDigest("digest", i.Digest) }

func parseDigest(field, text string) (evidence.Digest, error) {
	d, err := evidence.ParseDigest(text)
	if err != nil {
		return d, fail(http.StatusBadRequest, "bad-request", field, "%v", err)
	}
	return d, nil
}

func parseUint(field, text string, dflt, limit uint64) (uint64, error) {
	if text == "" {
		return dflt, nil
	}
	n, err := strconv.ParseUint(text, 10, 63)
	if err != nil || n > limit {
		return 0, fail(http.StatusBadRequest, "bad-request", field, "want a number from 0 to %d", limit)
	}
	return n, nil
}

const maxPosition = 1<<63 - 1

type positionInput struct {
	Position string `path:"position" doc:"Place in the log, from 0" pattern:"^[0-9]+$"`
}

func (i *positionInput) parse() (uint64, error) {
	return parseUint("position", i.Position, 0, maxPosition)
}

const maxPage = 1000

// parsePage reads where a page begins and its length.
func parsePage(fromText, limitText string) (from uint64, limit int, err error) {
	if from, err = parseUint("from", fromText, 0, maxPosition); err != nil {
		return 0, 0, err
	}
	n, err := parseUint("limit", limitText, 100, maxPage)
	if err == nil && n == 0 {
		err = fail(http.StatusBadRequest, "bad-request", "limit", "want a number from 1 to %d", maxPage)
	}
	return from, int(n), err
}

func (s *Server) lookupRoutes() {
	get(s, huma.Operation{OperationID: "get-registration", Path: "/api/v1/statements/{digest}", Tags: []string{tagLookup},
		Summary:     "When a statement was registered, and witnessed by whom",
		Description: "By the SHA-256 of its bytes. Public: it tells no more than that."},
		func(_ *http.Request, in *digestInput) (*output[Registered], error) {
			d, err := in.parse()
			if err != nil {
				return nil, err
			}
			rec, err := s.node.Lookup(d)
			if err != nil {
				return nil, err
			}
			return open(registered(rec)), nil
		})
	get(s, huma.Operation{OperationID: "get-position", Path: "/api/v1/positions/{position}", Tags: []string{tagLookup},
		Summary: "The same, by position"},
		func(_ *http.Request, in *positionInput) (*output[Registered], error) {
			n, err := in.parse()
			if err != nil {
				return nil, err
			}
			rec, err := s.node.RecordAt(n)
			if err != nil {
				return nil, err
			}
			return open(registered(rec)), nil
		})
	get(s, huma.Operation{OperationID: "get-receipts", Path: "/api/v1/positions/{position}/receipts", Tags: []string{tagLookup},
		Summary: "The receipts of every institution for a position"},
		func(_ *http.Request, in *positionInput) (*output[ReceiptMap], error) {
			n, err := in.parse()
			if err != nil {
				return nil, err
			}
			m, err := s.receiptMap(n)
			if err != nil {
				return nil, err
			}
			return open(m), nil
		})
	get(s, huma.Operation{OperationID: "get-trail", Path: "/api/v1/trails/{digest}", Tags: []string{tagPrivate}, Security: signed,
		Summary:     "The statements of a trail",
		Description: "For the trail's owner with any key of hers that is not revoked, keys she authorised to read, and institutions."}, s.trail)
	get(s, huma.Operation{OperationID: "get-key-positions", Path: "/api/v1/keys/{kid}/positions", Tags: []string{tagPrivate}, Security: signed,
		Summary:     "Positions of the statements a key signed",
		Description: "All of them for the key's holder and institutions; for others those in trails they may read."}, s.keyPositions)
	get(s, huma.Operation{OperationID: "get-member", Path: "/api/v1/members/{kid}", Tags: []string{tagLookup},
		Summary:     "The registry's entry of a key",
		Description: "Public: the registry holds no personal data. The enrolment statement's bytes and receipts are found by its position."}, s.member)
	s.rawLookupRoutes()
	s.keyRoutes()
}

func registered(rec chain.Record) Registered {
	w := rec.Witnesses
	if w == nil {
		w = []string{}
	}
	return Registered{Position: rec.Position, Digest: rec.Entry.String(), BlockTime: rec.Time.UTC(), Witnesses: w, Final: rec.Final}
}

func (s *Server) receiptMap(position uint64) (ReceiptMap, error) {
	all, err := s.node.ReceiptsAt(position)
	if err != nil {
		return nil, err
	}
	return encodeReceipts(all), nil
}

func encodeReceipts(all chain.Receipts) ReceiptMap {
	m := make(ReceiptMap, len(all))
	for inst, receipts := range all {
		for _, b := range receipts {
			m[inst] = append(m[inst], base64.StdEncoding.EncodeToString(b))
		}
	}
	return m
}

type trailInput struct {
	Digest string `path:"digest" doc:"Digest of the opening statement, 64 lower-case hexadecimal digits" pattern:"^[0-9a-f]{64}$"`
	From   string `query:"from" doc:"Where the page begins" pattern:"^[0-9]*$"`
	Limit  string `query:"limit" doc:"At most this many, 1 to 1000; 100 when absent" pattern:"^[0-9]*$"`
}

func (s *Server) trail(r *http.Request, in *trailInput) (*output[Trail], error) {
	d, err := parseDigest("digest", in.Digest)
	if err != nil {
		return nil, err
	}
	from, limit, err := parsePage(in.From, in.Limit)
	if err != nil {
		return nil, err
	}
	if err := s.mayReadTrail(r, d); err != nil {
		return nil, err
	}
	v, err := s.node.Trail(d)
	if err != nil {
		return nil, err
	}
	t := Trail{Trail: d.String(), Count: len(v.Positions), Statements: []TrailStep{}, Size: v.Size, Root: v.Root.String(), BlockTime: v.Time.UTC()}
	start := int(min(from, uint64(len(v.Positions))))
	stop := min(start+limit, len(v.Positions))
	for i := start; i < stop; i++ {
		t.Statements = append(t.Statements, TrailStep{v.Positions[i], v.Entries[i].String()})
	}
	if stop < len(v.Positions) {
		t.Next = &stop
	}
	return private(t), nil
}

type keyInput struct {
	KID   string `path:"kid" doc:"64 lower-case hexadecimal digits" pattern:"^[0-9a-f]{64}$"`
	From  string `query:"from" doc:"Where the page begins" pattern:"^[0-9]*$"`
	Limit string `query:"limit" doc:"At most this many, 1 to 1000; 100 when absent" pattern:"^[0-9]*$"`
}

func (s *Server) keyPositions(r *http.Request, in *keyInput) (*output[KeyPositions], error) {
	kid, err := parseDigest("kid", in.KID)
	if err != nil {
		return nil, err
	}
	from, limit, err := parsePage(in.From, in.Limit)
	if err != nil {
		return nil, err
	}
	c, err := s.authenticate(r)
	if err != nil {
		return nil, err
	}
	all, err := s.holds(c, kid)
	if err != nil {
		return nil, err
	}
	out := KeyPositions{KID: kid.String(), Positions: []uint64{}}
	var found []uint64
	if all {
		found, err = s.node.KeyPositions(kid, from, limit+1)
	} else {
		found, err = s.grantedPositions(c, kid, from, limit+1)
	}
	if err != nil && !errors.Is(err, chain.ErrNotFound) {
		return nil, err
	}
	if !all && len(found) == 0 && from == 0 {
		return nil, forbidden("kid")
	}
	if len(found) > limit {
		next := found[limit]
		out.Next, found = &next, found[:limit]
	}
	out.Positions = append(out.Positions, found...)
	return private(out), nil
}

// holds reports whether all of the key's positions are the caller's to see:
// hers, another key of the same member when hers is not revoked, or any for an
// institution.
func (s *Server) holds(c *caller, kid evidence.Digest) (bool, error) {
	if c.member.Institution || c.kid == kid {
		return true, nil
	}
	m, err := s.node.Member(kid)
	if errors.Is(err, chain.ErrNotFound) {
		return false, nil
	}
	return err == nil && !c.member.Revoked && !m.Institution && m.Holder != "" && m.Holder == c.member.Holder, err
}

// maxScan bounds what a grantee's request makes the node read.
const maxScan = 10_000

// grantedPositions finds those of the key's positions that stand in trails the
// caller may read. Nothing in the answer tells of the others.
func (s *Server) grantedPositions(c *caller, kid evidence.Digest, from uint64, limit int) ([]uint64, error) {
	var out []uint64
	rights := map[evidence.Digest]bool{}
	for scanned := 0; ; {
		page, err := s.node.KeyPositions(kid, from, maxPage)
		if err != nil {
			return nil, err
		}
		for _, pos := range page {
			ok, err := s.granted(c, pos, rights)
			if err != nil {
				return nil, err
			}
			if ok {
				if out = append(out, pos); len(out) == limit {
					return out, nil
				}
			}
			from = pos + 1
		}
		if scanned += len(page); len(page) < maxPage {
			return out, nil
		}
		if scanned >= maxScan {
			return nil, fail(http.StatusUnprocessableEntity, "too-large", "kid", "the key has too many statements to search: ask by trail")
		}
	}
}

func (s *Server) granted(c *caller, pos uint64, known map[evidence.Digest]bool) (bool, error) {
	raw, err := s.node.StatementAt(pos)
	if err != nil {
		return false, err
	}
	st, err := evidence.ParseStatement(raw)
	if err != nil {
		return false, err
	}
	trail, ok := st.Trail()
	if !ok {
		return false, nil
	}
	if may, ok := known[trail]; ok {
		return may, nil
	}
	err = s.checkTrail(c, trail, "kid")
	var f *failure
	if err != nil && !errors.As(err, &f) {
		return false, err
	}
	known[trail] = err == nil
	return err == nil, nil
}

type memberInput struct {
	KID string `path:"kid" doc:"64 lower-case hexadecimal digits" pattern:"^[0-9a-f]{64}$"`
}

func (s *Server) member(_ *http.Request, in *memberInput) (*output[Member], error) {
	kid, err := parseDigest("kid", in.KID)
	if err != nil {
		return nil, err
	}
	v, err := s.node.Member(kid)
	if err != nil {
		return nil, err
	}
	key, err := evidence.ParsePublicKey(v.DER)
	if err != nil {
		return nil, err
	}
	m := Member{KID: kid.String(), Key: string(key.PEM()), Algorithm: key.Algorithm().String(), Holder: v.Holder, Institution: v.Institution,
		Kind: v.Kind, Assurance: v.Assurance, Demo: v.Demo, Genesis: v.Genesis, Revoked: v.Revoked}
	if !v.Genesis {
		m.EnrolledAt = &v.EnrolledAt
	}
	if v.Passkey != nil {
		m.Passkey = &Passkey{Credential: v.Passkey.Credential.String(), RelyingParty: v.Passkey.RelyingParty}
	}
	for _, c := range v.Certificates {
		m.Certificates = append(m.Certificates, Certificate{IssuedAt: c.Position, Serial: hex.EncodeToString(c.Serial), SHA256: c.SHA256.String(),
			NotBefore: time.Unix(c.NotBefore, 0).UTC(), NotAfter: time.Unix(c.NotAfter, 0).UTC()})
	}
	if v.Revoked {
		m.RevokedAt, m.Reason = &v.RevokedAt, &v.Reason
	}
	return open(m), nil
}

// get registers a lookup with huma, with our errors and the request at hand.
func get[I, O any](s *Server, op huma.Operation, h func(*http.Request, *I) (*O, error)) {
	op.Method = http.MethodGet
	send(s, op, h)
}

// send is get for the method that the operation names, without a body.
func send[I, O any](s *Server, op huma.Operation, h func(*http.Request, *I) (*O, error)) {
	op.SkipValidateParams = true // ours says which field and what to do
	s.document(&op)
	huma.Register(s.huma, op, func(ctx context.Context, in *I) (*O, error) {
		r, ok := ctx.Value(requestKey{}).(*http.Request)
		if !ok {
			return nil, errors.New("no request in the context")
		}
		out, err := h(r, in)
		if err != nil {
			return nil, s.problem(r, err)
		}
		return out, nil
	})
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
