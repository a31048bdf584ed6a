package api

import (
	"encoding/base64"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
)

const pathTSA = "/tsa"

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
