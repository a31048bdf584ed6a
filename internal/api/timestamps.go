package api

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/zhenglian/zhenglian/internal/chain"
)

const (
	pathTSA        = "/tsa"
	statementStamp = "/statement-timestamps"
)

// asksAuthority reports whether a request costs an authority a signature.
func asksAuthority(r *http.Request) bool {
	return r.Method == http.MethodPost && (r.URL.Path == pathTSA || strings.HasSuffix(r.URL.Path, statementStamp))
}

// StatementTimestamps are the tokens over one statement.
type StatementTimestamps struct {
	Position uint64  `json:"position"`
	Digest   string  `json:"digest" doc:"SHA-256 of the statement: what each token is over"`
	Tokens   []Token `json:"tokens"`
}

// TimestampStatus is how this node's asking for tokens stands.
type TimestampStatus struct {
	Authorities []string   `json:"authorities" doc:"Ids of the authorities that this node asks, in this order"`
	Size        uint64     `json:"size" doc:"Size of the newest checkpoint with a token; 0 when there is none"`
	Last        *time.Time `json:"last,omitempty" doc:"When that token came"`
	Backlog     uint64     `json:"backlog" doc:"Entries of the public log that no token covers"`
	Since       *time.Time `json:"since,omitempty" doc:"Block time of the first of them"`
	Failures    uint64     `json:"failures" doc:"Rounds in which no authority gave a token, since the start"`
	LastError   string     `json:"last_error,omitempty" doc:"For institutions only"`
}

// AuthorityStatus is how the institution's own timestamp authority stands.
type AuthorityStatus struct {
	Ready             bool       `json:"ready" doc:"It signs; when not, every query is refused"`
	Demonstration     bool       `json:"demonstration" doc:"Its tokens prove no time to anybody"`
	Entries           uint64     `json:"entries" doc:"Tokens in its register"`
	Last              *time.Time `json:"last,omitempty" doc:"Time of the newest"`
	ClockErrorSeconds *float64   `json:"clock_error_seconds,omitempty" doc:"The most by which its clock can be wrong; absent when that is not known"`
	Reason            string     `json:"reason,omitempty" doc:"Why it does not sign and what to do; for institutions only"`
}

func (s *Server) timestampStatus(detail bool) *TimestampStatus {
	st := s.node.Stamps()
	if len(st.Authorities) == 0 {
		return nil
	}
	out := &TimestampStatus{Authorities: st.Authorities, Size: st.Size, Last: timeOrNil(st.Last), Backlog: st.Backlog, Since: timeOrNil(st.Since), Failures: st.Failures}
	if detail {
		out.LastError = st.LastError
	}
	return out
}

func (s *Server) authorityStatus(detail bool) *AuthorityStatus {
	if s.config.TSAStatus == nil {
		return nil
	}
	out := s.config.TSAStatus()
	if !detail {
		out.Reason = ""
	}
	return &out
}

// Token is one timestamp token.
type Token struct {
	Authority string `json:"authority" doc:"Id of the authority, as trust policies name it"`
	Token     string `json:"token" doc:"TimeStampToken in DER, base64"`
}

// CheckpointTimestamps are the tokens over one checkpoint.
type CheckpointTimestamps struct {
	Size   uint64  `json:"size" doc:"Size of the checkpoint; each token is over SHA-256 of its first three lines"`
	Tokens []Token `json:"tokens"`
}

// PositionTimestamp is the first stamped checkpoint that covers a position.
type PositionTimestamp struct {
	Asking bool    `json:"asking" doc:"This node asks timestamp authorities: a token may still come"`
	Size   *uint64 `json:"size,omitempty" doc:"Size of the checkpoint; absent while none that covers the position has a token"`
	Tokens []Token `json:"tokens"`
}

type sizeInput struct {
	Size string `path:"size" doc:"Size of the log at the end of a block" pattern:"^[0-9]+$"`
}

func tokenList(tokens map[string][]byte) []Token {
	list := []Token{}
	for _, id := range sortedKeys(tokens) {
		list = append(list, Token{id, base64.StdEncoding.EncodeToString(tokens[id])})
	}
	return list
}

func (s *Server) timestampRoutes() {
	get(s, huma.Operation{OperationID: "get-checkpoint-timestamps", Path: "/api/v1/checkpoints/{size}/timestamps", Tags: []string{tagTime},
		Summary:     "The timestamp tokens over a checkpoint",
		Description: "Those that this node holds, perhaps none. 404 where no block ended at this size."},
		func(_ *http.Request, in *sizeInput) (*output[CheckpointTimestamps], error) {
			size, err := parseUint("size", in.Size, 0, maxPosition)
			if err != nil {
				return nil, err
			}
			tokens, err := s.node.Timestamps(size)
			if err != nil {
				return nil, err
			}
			return open(CheckpointTimestamps{size, tokenList(tokens)}), nil
		})
	get(s, huma.Operation{OperationID: "get-position-timestamp", Path: "/api/v1/positions/{position}/timestamp", Tags: []string{tagTime},
		Summary:     "The first timestamped checkpoint that covers a position",
		Description: "Without a size there is no such token yet; asking says whether one may come."},
		func(_ *http.Request, in *positionInput) (*output[PositionTimestamp], error) {
			n, err := in.parse()
			if err != nil {
				return nil, err
			}
			size, tokens, err := s.node.TimestampFor(n)
			if err != nil {
				return nil, err
			}
			out := PositionTimestamp{Asking: len(s.node.Stamps().Authorities) > 0, Tokens: tokenList(tokens)}
			if size > 0 {
				out.Size = &size
			}
			return open(out), nil
		})
	get(s, huma.Operation{OperationID: "get-statement-timestamps", Path: "/api/v1/positions/{position}" + statementStamp, Tags: []string{tagTime},
		Summary:     "The timestamp tokens over the statement at a position itself",
		Description: "Those that this node holds, perhaps none. They need no log to be checked: each is over the statement's digest."},
		func(_ *http.Request, in *positionInput) (*output[StatementTimestamps], error) {
			n, err := in.parse()
			if err != nil {
				return nil, err
			}
			tokens, err := s.node.StatementTimestamps(n)
			if err != nil {
				return nil, err
			}
			return s.statementTokens(n, tokens)
		})
	stamp := huma.Operation{OperationID: "timestamp-statement", Method: http.MethodPost, Path: "/api/v1/positions/{position}" + statementStamp, Tags: []string{tagTime}, Security: signed,
		Summary:     "Have the statement at a position timestamped",
		Description: "Asks the node's timestamp authorities for a token over the statement unless there is one. For whoever holds a registered key: sign the request."}
	send(s, stamp, func(r *http.Request, in *positionInput) (*output[StatementTimestamps], error) {
		n, err := in.parse()
		if err != nil {
			return nil, err
		}
		if _, err := s.authenticate(r); err != nil {
			return nil, err
		}
		tokens, err := s.node.StampStatement(r.Context(), n)
		if err != nil {
			return nil, noToken(err)
		}
		return s.statementTokens(n, tokens)
	})
	s.handle(huma.Operation{OperationID: "timestamp", Method: http.MethodPost, Path: pathTSA, Tags: []string{tagTime},
		Summary:     "The institution's timestamp authority",
		Description: "RFC 3161 section 3.4. A refusal is an answer with status 200. 404 where this institution runs no authority.",
		RequestBody: requestBody("TimeStampReq", "application/timestamp-query"),
		Responses:   binaryAnswer("application/timestamp-reply", "TimeStampResp")},
		func(w http.ResponseWriter, r *http.Request) error {
			if s.config.TSA == nil {
				return fail(http.StatusNotFound, "no-route", "path", "this institution runs no timestamp authority")
			}
			s.config.TSA.ServeHTTP(w, r)
			return nil
		})
}

func (s *Server) statementTokens(position uint64, tokens map[string][]byte) (*output[StatementTimestamps], error) {
	r, err := s.node.RecordAt(position)
	if err != nil {
		return nil, err
	}
	return open(StatementTimestamps{position, r.Entry.String(), tokenList(tokens)}), nil
}

// noToken says why there is no token: what the authorities did is for the
// operator.
func noToken(err error) error {
	var damaged *chain.DamagedError
	switch {
	case errors.Is(err, chain.ErrNoAuthority):
		return fail(http.StatusConflict, "no-authority", "", "%v", chain.ErrNoAuthority)
	case errors.Is(err, chain.ErrNotFound), errors.Is(err, chain.ErrDiskFull), errors.Is(err, chain.ErrStopping), errors.Is(err, context.Canceled), errors.As(err, &damaged):
		return err
	}
	return fail(http.StatusBadGateway, "authority-unavailable", "", "no timestamp authority that this institution asks gave a token").after(10 * time.Second)
}
