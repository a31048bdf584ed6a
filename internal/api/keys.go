package api

import (
	"encoding/base64"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/zhenglian/zhenglian/evidence"
)

// KeyChanges are changes of institutions' keys, in log order.
type KeyChanges struct {
	Changes []KeyChange `json:"changes"`
	Next    *uint64     `json:"next,omitempty" doc:"The from of the next page, when there is one"`
}

// KeyChange is one change with what proves it. Position and all that follows
// from the statement are repeated for people.
type KeyChange struct {
	Position    uint64     `json:"position" doc:"The new key counts for logs larger than this"`
	Digest      string     `json:"digest" doc:"Of the statement"`
	Institution string     `json:"institution"`
	Use         string     `json:"use" doc:"receipt, cosign, attest or statement"`
	KID         string     `json:"kid" doc:"Of the new key"`
	Replaces    string     `json:"replaces" doc:"kid of the key that ended"`
	Reason      string     `json:"reason" doc:"superseded, keyCompromise or unspecified"`
	Statement   string     `json:"statement" doc:"The registered bytes, base64"`
	Receipts    ReceiptMap `json:"receipts"`
}

// keyChangePage bounds an answer: each change comes with the receipts of up to
// 100 institutions, under 500 kB.
const keyChangePage = 10

func (s *Server) keyRoutes() {
	type input struct {
		From string `query:"from" doc:"First position to list, 0 by default"`
	}
	get(s, huma.Operation{OperationID: "get-key-changes", Path: "/api/v1/key-changes", Tags: []string{tagLog},
		Summary:     "The institutions' key changes, with statements and receipts",
		Description: "In log order, a page of them. With the genesis they prove which key counts for which size of the log: follow them under your own policy."},
		func(_ *http.Request, in *input) (*output[KeyChanges], error) {
			from, err := parseUint("from", in.From, 0, maxPosition)
			if err != nil {
				return nil, err
			}
			found, more, err := s.node.KeyChanges(from, keyChangePage)
			if err != nil {
				return nil, err
			}
			out := KeyChanges{Changes: []KeyChange{}}
			for _, c := range found {
				st, err := evidence.ParseStatement(c.Statement)
				if err != nil {
					return nil, err
				}
				k, err := evidence.ParseKeyChange(st.Payload)
				if err != nil {
					return nil, err
				}
				out.Changes = append(out.Changes, KeyChange{Position: c.Position, Digest: st.Digest().String(), Institution: st.Issuer, Use: string(k.Use),
					KID: k.Key.KID().String(), Replaces: k.Replaces.String(), Reason: evidence.ReasonName(k.Reason),
					Statement: base64.StdEncoding.EncodeToString(c.Statement), Receipts: encodeReceipts(c.Receipts)})
			}
			if more {
				next := found[len(found)-1].Position + 1
				out.Next = &next
			}
			return open(out), nil
		})
}
