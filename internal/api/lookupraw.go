package api

import (
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/zhenglian/zhenglian/evidence"
)

// rawLookupRoutes are the lookups that answer with bytes as they are signed.
func (s *Server) rawLookupRoutes() {
	digest := []*huma.Param{digestParam("digest", "Digest of the statement")}
	s.handle(huma.Operation{OperationID: "get-statement-bytes", Method: http.MethodGet, Path: "/api/v1/statements/{digest}/bytes", Tags: []string{tagPrivate}, Security: signedOrNot,
		Summary:     "The registered bytes of a statement",
		Description: "Statements of the registry are public. Others are for their signer, the readers of their trail, and institutions.",
		Parameters:  digest, Responses: answers(answer("200", "The statement", typeStatement))},
		func(w http.ResponseWriter, r *http.Request) error { return s.statementBytes(w, r, false) })
	s.handle(huma.Operation{OperationID: "get-transparent-statement", Method: http.MethodGet, Path: "/api/v1/statements/{digest}/transparent", Tags: []string{tagPrivate}, Security: signedOrNot,
		Summary:     "The statement with its receipts in the unprotected header",
		Description: "RFC 9943 transparent statement (label 394): one receipt from each institution that signed. For the same readers as the bytes.",
		Parameters:  digest, Responses: answers(answer("200", "The transparent statement", typeStatement))},
		func(w http.ResponseWriter, r *http.Request) error { return s.statementBytes(w, r, true) })
	s.handle(huma.Operation{OperationID: "get-trail-head", Method: http.MethodGet, Path: "/api/v1/trails/{digest}/head", Tags: []string{tagPrivate}, Security: signed,
		Summary:     "This institution's signed trail head",
		Description: "COSE_Sign1 by the attestation key: count and last digest as of a tree size. For the readers of the trail.",
		Parameters:  []*huma.Param{digestParam("digest", "Digest of the opening statement")}, Responses: answers(answer("200", "The trail head", typeCOSE))}, s.trailHead)
	s.handle(huma.Operation{OperationID: "get-checkpoint-at", Method: http.MethodGet, Path: "/api/v1/checkpoints/{size}", Tags: []string{tagLog},
		Summary:    "The cosigned checkpoint of a tree size",
		Parameters: []*huma.Param{pathParam("size", "Tree size")}, Responses: binaryAnswer("text/plain; charset=utf-8", "Signed note")}, s.checkpointAt)
	s.handle(huma.Operation{OperationID: "get-alliance", Method: http.MethodGet, Path: "/api/v1/alliance", Tags: []string{tagLog},
		Summary:     "The alliance's genesis",
		Description: "Canonical JSON; the SHA-256 of the bytes is the alliance's id. Pin the id by another way than this one.",
		Responses:   binaryAnswer("application/json", "The genesis")},
		func(w http.ResponseWriter, _ *http.Request) error {
			b, err := s.node.Alliance().Encode()
			if err != nil {
				return fmt.Errorf("encoding the alliance: %w", err)
			}
			s.writePublic(w, "application/json", genesisAge, b)
			return nil
		})
	s.handle(huma.Operation{OperationID: "get-policy", Method: http.MethodGet, Path: "/api/v1/policy", Tags: []string{tagLog},
		Summary:     "The trust policy that follows from the genesis and the key changes in the log",
		Description: "What verify takes as its policy: each institution's keys, past and present, with the sizes of the log they count for. It is this node's word. To have it proven, start from the genesis and follow /api/v1/key-changes, as `zhenglian alliance policy` does.",
		Responses:   binaryAnswer("application/json", "The policy")},
		func(w http.ResponseWriter, _ *http.Request) error {
			p, err := s.node.Policy()
			if err != nil {
				return fmt.Errorf("deriving the policy: %w", err)
			}
			b, err := p.Encode()
			if err != nil {
				return fmt.Errorf("encoding the policy: %w", err)
			}
			s.writePublic(w, "application/json", keysAge, b)
			return nil
		})
}

func (s *Server) statementBytes(w http.ResponseWriter, r *http.Request, transparent bool) error {
	d, err := parseDigest("digest", r.PathValue("digest"))
	if err != nil {
		return err
	}
	// That the digest is in the log is public, so a stranger may learn that it is not.
	rec, err := s.node.Lookup(d)
	if err != nil {
		return err
	}
	raw, err := s.node.StatementAt(rec.Position)
	if err != nil {
		return err
	}
	st, err := evidence.ParseStatement(raw)
	if err != nil {
		return fmt.Errorf("reading the statement at %d: %w", rec.Position, err)
	}
	if err := s.mayReadStatement(r, st); err != nil {
		return err
	}
	if transparent {
		all, err := s.node.ReceiptsAt(rec.Position)
		if err != nil {
			return err
		}
		var receipts [][]byte
		for _, inst := range sortedKeys(all) {
			receipts = append(receipts, all[inst]...)
		}
		if len(receipts) == 0 { // label 394 holds at least one
			return fail(http.StatusServiceUnavailable, "no-receipt", "", "").after(time.Second)
		}
		raw = evidence.AttachReceipts(st, receipts)
	}
	s.writePrivate(w, typeStatement, raw)
	return nil
}

func (s *Server) writePrivate(w http.ResponseWriter, contentType string, body []byte) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Cache-Control", "private, no-store")
	_, _ = w.Write(body)
}

func (s *Server) trailHead(w http.ResponseWriter, r *http.Request) error {
	d, err := parseDigest("digest", r.PathValue("digest"))
	if err != nil {
		return err
	}
	if err := s.mayReadTrail(r, d); err != nil {
		return err
	}
	head, err := s.node.TrailHead(d)
	if err != nil {
		return err
	}
	s.writePrivate(w, typeCOSE, head)
	return nil
}

func (s *Server) checkpointAt(w http.ResponseWriter, r *http.Request) error {
	size, err := parseUint("size", r.PathValue("size"), 0, maxPosition)
	if err != nil {
		return err
	}
	c, err := s.node.CheckpointAt(size)
	if err != nil {
		return err
	}
	// Cosignatures may still be added to it.
	s.writePublic(w, "text/plain; charset=utf-8", "public, max-age=60", c.Encode())
	return nil
}
