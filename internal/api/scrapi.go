package api

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/fxamacker/cbor/v2"
	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/chain"
)

// Media types of draft-ietf-scitt-scrapi-11, which has the plain one, and of
// RFC 9943, which registers the others.
const (
	typeCOSE      = "application/cose"
	typeStatement = "application/scitt-statement+cose"
	typeReceipt   = "application/scitt-receipt+cose"
	typeCBOR      = "application/cbor"
)

func (s *Server) scrapiRoutes() {
	cose := requestBody("The signed statement, COSE_Sign1 with tag 18", typeCOSE, typeStatement)
	s.handle(huma.Operation{OperationID: "scrapi-register", Method: http.MethodPost, Path: "/entries", Tags: []string{tagSCRAPI},
		Summary:     "Register a signed statement",
		Description: "draft-ietf-scitt-scrapi-11. Waits for finality for a bounded time. The receipt is this institution's own. The same statement gives the same position and 201 again; when the same content was registered before under another signature, Location names the entry that stands, whose bytes the receipt is for.",
		RequestBody: cose,
		Responses: answers(answer("201", "Registered and final: the receipt", typeCOSE, typeReceipt),
			answer("303", "Accepted and not yet final: ask at Location"))}, s.register)
	s.handle(huma.Operation{OperationID: "scrapi-entry", Method: http.MethodGet, Path: "/entries/{id}", Tags: []string{tagSCRAPI},
		Summary:     "The receipt of a registration, or that it is still running",
		Description: "id is the statement's digest: SHA-256 of its bytes, 64 lower-case hexadecimal digits.",
		Parameters:  []*huma.Param{digestParam("id", "Digest of the statement")},
		Responses: answers(answer("200", "The receipt", typeCOSE, typeReceipt),
			answer("302", "Still running: ask at Location again"))}, s.entry)
	s.handle(huma.Operation{OperationID: "scrapi-keys", Method: http.MethodGet, Path: "/.well-known/scitt-keys", Tags: []string{tagSCRAPI},
		Summary:     "The keys this institution signs receipts with, and those it signed with before",
		Description: "COSE_KeySet (RFC 9052 section 7), the present ones first. The sizes of the log that each counts for are in /api/v1/policy. SM2 has no registered COSE key type: an SM2 receipt key stands in /api/v1/policy alone.",
		Responses:   answers(answer("200", "COSE_KeySet", typeCBOR))}, s.keys)
	s.handle(huma.Operation{OperationID: "scrapi-key", Method: http.MethodGet, Path: "/.well-known/scitt-keys/{kid}", Tags: []string{tagSCRAPI},
		Summary:    "One receipt key of this institution",
		Parameters: []*huma.Param{pathParam("kid", "The kid in base64url without padding, 43 characters")},
		Responses:  answers(answer("200", "COSE_Key", typeCBOR))}, s.key)
	s.handle(huma.Operation{OperationID: "entry-receipts", Method: http.MethodGet, Path: "/entries/{id}/receipts", Tags: []string{tagSCRAPI},
		Summary:     "The receipts of every institution (extension)",
		Description: "Not in SCRAPI. Receipts prove inclusion and hold no content: they are public.",
		Parameters:  []*huma.Param{digestParam("id", "Digest of the statement")},
		Responses:   jsonAnswer[ReceiptMap](s, "Institution to its receipts, each in base64")}, s.entryReceipts)
}

// register is SCRAPI's Register Signed Statement.
func (s *Server) register(w http.ResponseWriter, r *http.Request) error {
	if err := takes(r, typeCOSE, typeStatement); err != nil {
		return err
	}
	receiptType, err := offers(r, typeCOSE, typeReceipt)
	if err != nil {
		return err
	}
	statement, err := readStatement(w, r)
	if err != nil {
		return err
	}
	o, err := s.submit(r, statement, true)
	if err != nil {
		return asBadRequest(err)
	}
	entry := o.Digest
	if o.Known {
		entry = o.Entry
	}
	if o.Final {
		receipt, err := s.ownReceipt(o.Position)
		if err == nil {
			w.Header().Set("Location", s.entryURL(entry))
			w.Header().Set("Content-Type", receiptType)
			w.WriteHeader(http.StatusCreated)
			_, _ = w.Write(receipt)
			return nil
		}
		var f *failure
		if !errors.As(err, &f) || f.code != "no-receipt" {
			return err
		}
	}
	s.running(w, entry, http.StatusSeeOther)
	return nil
}

// asBadRequest gives refusals the status that SCRAPI has for them.
func asBadRequest(err error) error {
	var f *failure
	if errors.As(err, &f) && f.status == http.StatusUnprocessableEntity {
		f.status = http.StatusBadRequest
	}
	return err
}

// running answers that the registration is on its way.
func (s *Server) running(w http.ResponseWriter, entry evidence.Digest, status int) {
	h := w.Header()
	h.Set("Location", s.entryURL(entry))
	h.Set("Retry-After", "1") // a block and its witnessing take well under a second
	h.Set("Content-Type", typeCOSE)
	h.Set("Content-Length", "0")
	w.WriteHeader(status)
}

func (s *Server) entryURL(entry evidence.Digest) string {
	return s.config.Addresses[0] + "/entries/" + entry.String()
}

// entry is SCRAPI's Query Registration Status and Resolve Receipt.
func (s *Server) entry(w http.ResponseWriter, r *http.Request) error {
	receiptType, err := offers(r, typeCOSE, typeReceipt)
	if err != nil {
		return err
	}
	d, err := entryID(r)
	if err != nil {
		return err
	}
	rec, err := s.node.Lookup(d)
	if errors.Is(err, chain.ErrNotFound) {
		if s.pending.has(d) {
			s.running(w, d, http.StatusFound)
			return nil
		}
		return fail(http.StatusNotFound, "not-found", "id", "Receipt with entry ID %s not known to this Transparency Service", d)
	}
	if err != nil {
		return err
	}
	if !rec.Final {
		s.running(w, d, http.StatusFound)
		return nil
	}
	receipt, err := s.ownReceipt(rec.Position)
	if err != nil {
		return err
	}
	w.Header().Set("Location", s.entryURL(d))
	w.Header().Set("Vary", "Accept")
	// Not immutable: a later receipt over a larger root is as good.
	s.writePublic(w, receiptType, "public, max-age=3600", receipt)
	return nil
}

func entryID(r *http.Request) (evidence.Digest, error) {
	d, err := evidence.ParseDigest(r.PathValue("id"))
	if err != nil {
		return d, fail(http.StatusBadRequest, "invalid-locator", "id", "%v", err)
	}
	return d, nil
}

// ownReceipt is this institution's receipt in an algorithm that other people's
// tools know.
func (s *Server) ownReceipt(position uint64) ([]byte, error) {
	all, err := s.node.ReceiptsAt(position)
	if err != nil {
		return nil, err
	}
	for _, b := range all[s.node.Institution()] {
		if rc, err := evidence.ParseReceipt(b); err == nil && rc.Algorithm != evidence.SM2SM3 {
			return b, nil
		}
	}
	return nil, fail(http.StatusServiceUnavailable, "no-receipt", "", "its witnesses so far are listed under /api/v1/positions/%d", position).after(time.Second)
}

func (s *Server) entryReceipts(w http.ResponseWriter, r *http.Request) error {
	d, err := entryID(r)
	if err != nil {
		return err
	}
	rec, err := s.node.Lookup(d)
	if err != nil {
		return err
	}
	m, err := s.receiptMap(rec.Position)
	if err != nil {
		return err
	}
	w.Header().Set("Access-Control-Allow-Origin", "*")
	return writeJSON(w, http.StatusOK, m)
}

// receiptKeys are those of this institution that COSE_Key can express, past
// ones too: receipts over old roots stay as they were signed.
func (s *Server) receiptKeys() []*evidence.PublicKey {
	var out []*evidence.PublicKey
	for _, k := range s.node.ReceiptKeys() {
		if k.Algorithm() != evidence.SM2SM3 {
			out = append(out, k)
		}
	}
	return out
}

// coseKey is RFC 9053 §7: OKP with Ed25519, or EC2 with P-256.
func coseKey(k *evidence.PublicKey) map[int]any {
	kid := k.KID()
	raw := k.Raw()
	if k.Algorithm() == evidence.EdDSA {
		return map[int]any{1: 1, 2: kid[:], 3: -8, -1: 6, -2: raw}
	}
	return map[int]any{1: 2, 2: kid[:], 3: -7, -1: 1, -2: raw[1:33], -3: raw[33:]}
}

const (
	genesisAge = "public, max-age=3600"
	// keysAge is short: a replaced key signs no more from one block to the next.
	keysAge = "public, max-age=10"
)

func (s *Server) keys(w http.ResponseWriter, r *http.Request) error {
	if _, err := offers(r, typeCBOR); err != nil {
		return err
	}
	keys := s.receiptKeys()
	set := make([]map[int]any, len(keys))
	for i, k := range keys {
		set[i] = coseKey(k)
	}
	return s.writeCBOR(w, set)
}

func (s *Server) key(w http.ResponseWriter, r *http.Request) error {
	if _, err := offers(r, typeCBOR); err != nil {
		return err
	}
	keys := s.receiptKeys()
	want, err := base64.RawURLEncoding.Strict().DecodeString(r.PathValue("kid"))
	if err == nil {
		for _, k := range keys {
			if kid := k.KID(); bytes.Equal(kid[:], want) {
				return s.writeCBOR(w, coseKey(k))
			}
		}
	}
	return fail(http.StatusNotFound, "not-found", "kid", "No key could be found for this kid value")
}

func (s *Server) writeCBOR(w http.ResponseWriter, v any) error {
	mode, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		return fmt.Errorf("encoding keys: %w", err)
	}
	b, err := mode.Marshal(v)
	if err != nil {
		return fmt.Errorf("encoding keys: %w", err)
	}
	s.writePublic(w, typeCBOR, keysAge, b)
	return nil
}

// readStatement reads a body of at most one statement.
func readStatement(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, evidence.MaxStatement))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, fail(http.StatusRequestEntityTooLarge, evidence.CodeOversize.String(), "statement", "at most %d bytes are allowed", evidence.MaxStatement)
	case err != nil:
		return nil, bodyBroken(err)
	}
	return b, nil
}

func bodyBroken(err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	var timeout interface{ Timeout() bool }
	if errors.As(err, &timeout) && timeout.Timeout() {
		return fail(http.StatusRequestTimeout, "timeout", "body", "the body did not arrive in time")
	}
	return fail(http.StatusBadRequest, "bad-request", "body", "the body ended early")
}

// submit hands one statement to the node. The error is that of a refusal too.
// Without one the statement is accepted; it may not be final yet.
func (s *Server) submit(r *http.Request, statement []byte, final bool) (chain.Outcome, error) {
	ctx, cancel := s.waitContext(r)
	defer cancel()
	out, err := s.node.Submit(ctx, [][]byte{statement}, final)
	// The wait may have ended; what was accepted stays accepted.
	if err != nil && (ctx.Err() == nil || len(out) != 1 || !out[0].Accepted) {
		return chain.Outcome{}, err
	}
	if len(out) != 1 {
		return chain.Outcome{}, fmt.Errorf("the node gave %d outcomes for one statement", len(out))
	}
	o := out[0]
	s.metrics.outcomes.WithLabelValues(o.Code.String()).Inc()
	if !o.Accepted {
		return o, refused(o)
	}
	if !o.Final {
		s.pending.add(o.Digest)
	}
	return o, nil
}

// takes checks the body's media type.
func takes(r *http.Request, types ...string) error {
	got, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err == nil {
		for _, t := range types {
			if got == t {
				return nil
			}
		}
	}
	return fail(http.StatusUnsupportedMediaType, "unsupported-media", "content-type", "want %s", strings.Join(types, " or "))
}

// offers chooses the first of types that the client accepts. Quality values
// only serve to exclude (q=0): what we offer are names of the same bytes.
func offers(r *http.Request, types ...string) (string, error) {
	accept := accepted(r)
	if len(accept) == 0 {
		return types[0], nil
	}
	for _, a := range accept {
		for _, t := range types {
			family, _, _ := strings.Cut(t, "/")
			if a == t || a == "*/*" || a == family+"/*" {
				return t, nil
			}
		}
	}
	return "", fail(http.StatusNotAcceptable, "not-acceptable", "accept", "there is %s", strings.Join(types, ", "))
}

// accepted lists the media types of all Accept lines in the client's order.
func accepted(r *http.Request) []string {
	var out []string
	for part := range strings.SplitSeq(strings.Join(r.Header.Values("Accept"), ","), ",") {
		t, params, err := mime.ParseMediaType(part)
		if err == nil && strings.Trim(params["q"], "0.") == "" && params["q"] != "" {
			continue // q=0
		}
		if err == nil {
			out = append(out, t)
		}
		if len(out) == 16 { // nobody needs more
			break
		}
	}
	return out
}

// wantsCBOR chooses the form of errors: concise problem details for SCRAPI
// unless JSON is asked for, JSON elsewhere unless CBOR is asked for.
func wantsCBOR(r *http.Request) bool {
	for _, t := range accepted(r) {
		switch t {
		case typeProblemCBOR, typeCBOR:
			return true
		case typeProblemJSON, "application/json":
			return false
		}
	}
	path := r.URL.Path
	return path == "/entries" || strings.HasPrefix(path, "/entries/") && !strings.HasSuffix(path, "/receipts") || strings.HasPrefix(path, "/.well-known/scitt-keys")
}
