package api

import (
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/zhenglian/zhenglian/internal/httpsig"
)

// reason is why a node is not ready: a code and the store it is about.
type reason struct {
	Code string `json:"code" enum:"fault,catching-up,stopping"`
	What string `json:"what" doc:"The store or part it is about"`
}

// Ready is the answer of the readiness check.
type Ready struct {
	Ready   bool     `json:"ready"`
	Reasons []reason `json:"reasons"`
}

// Status is what anybody may know of a node's state. Detail is for
// institutions alone: it may name addresses and files.
type Status struct {
	Institution   string                `json:"institution"`
	Alliance      string                `json:"alliance" doc:"Its id: SHA-256 of the genesis"`
	Origin        string                `json:"origin" doc:"Origin line of the public log's checkpoints"`
	Height        int64                 `json:"height"`
	BlockTime     *time.Time            `json:"block_time,omitempty"`
	Size          uint64                `json:"size" doc:"Entries in the log"`
	Root          string                `json:"root"`
	WitnessedSize uint64                `json:"witnessed_size" doc:"Entries under the largest root that a quorum signed"`
	Pending       int                   `json:"pending" doc:"Statements accepted and not yet in the log"`
	Ready         bool                  `json:"ready"`
	Reasons       []reason              `json:"reasons"`
	Peers         map[string]PeerStatus `json:"peers"`
	Timestamps    *TimestampStatus      `json:"timestamps,omitempty" doc:"Absent when this node asks no timestamp authority"`
	TSA           *AuthorityStatus      `json:"tsa,omitempty" doc:"Absent when the institution runs no timestamp authority"`
	Faults        map[string]string     `json:"faults,omitempty" doc:"For institutions only"`
	DiskFree      *uint64               `json:"disk_free,omitempty" doc:"Bytes, for institutions only"`
}

// PeerStatus is how this node sees another institution's.
type PeerStatus struct {
	Reachable     bool       `json:"reachable"`
	LastHeard     *time.Time `json:"last_heard,omitempty"`
	WitnessedSize uint64     `json:"witnessed_size"`
	LastError     string     `json:"last_error,omitempty" doc:"For institutions only"`
}

func (s *Server) healthRoutes() {
	s.handle(huma.Operation{OperationID: "health", Method: http.MethodGet, Path: "/healthz", Tags: []string{tagOperation},
		Summary: "The process answers", Responses: answers(answer("200", "ok", "text/plain; charset=utf-8"))},
		func(w http.ResponseWriter, _ *http.Request) error {
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			_, _ = w.Write([]byte("ok\n"))
			return nil
		})
	ready := jsonAnswer[Ready](s, "Ready")
	ready["503"] = &huma.Response{Description: "Not ready, with reasons", Content: ready["200"].Content}
	s.handle(huma.Operation{OperationID: "readiness", Method: http.MethodGet, Path: "/readyz", Tags: []string{tagOperation},
		Summary: "The node takes and answers requests", Responses: ready},
		func(w http.ResponseWriter, _ *http.Request) error {
			reasons := s.notReady()
			status := http.StatusOK
			if len(reasons) > 0 {
				status = http.StatusServiceUnavailable
			}
			return writeJSON(w, status, Ready{len(reasons) == 0, reasons})
		})
	s.handle(huma.Operation{OperationID: "metrics", Method: http.MethodGet, Path: "/metrics", Tags: []string{tagOperation},
		Summary: "Prometheus metrics", Responses: answers(answer("200", "Text exposition format", "text/plain; version=0.0.4"))},
		func(w http.ResponseWriter, r *http.Request) error {
			s.metrics.handler.ServeHTTP(w, r)
			return nil
		})
	get(s, huma.Operation{OperationID: "status", Path: "/api/v1/status", Tags: []string{tagOperation}, Security: signedOrNot,
		Summary:     "The node's state",
		Description: "Public without details; a request signed by an institution's statement key gets them."}, s.status)
}

func (s *Server) notReady() []reason {
	reasons := notReady(s.node.Status())
	if s.draining.Err() != nil {
		reasons = append(reasons, reason{"stopping", "api"})
	}
	if reasons == nil {
		reasons = []reason{}
	}
	return reasons
}

func (s *Server) status(r *http.Request, _ *struct{}) (*output[Status], error) {
	detail := false
	if httpsig.Signed(r) {
		c, err := s.authenticate(r)
		if err != nil {
			return nil, err
		}
		detail = c.member.Institution
	}
	st := s.node.Status()
	a := s.node.Alliance()
	out := Status{Institution: s.node.Institution(), Alliance: a.ID().String(), Origin: a.Origin(), Height: st.Height, BlockTime: timeOrNil(st.BlockTime),
		Size: st.Size, Root: st.Root.String(), WitnessedSize: st.WitnessedSize, Pending: st.Pending, Reasons: s.notReady(), Peers: map[string]PeerStatus{}}
	out.Ready = len(out.Reasons) == 0
	out.Timestamps, out.TSA = s.timestampStatus(detail), s.authorityStatus(detail)
	for id, p := range st.Peers {
		ps := PeerStatus{Reachable: p.Reachable, LastHeard: timeOrNil(p.LastHeard), WitnessedSize: p.WitnessedSize}
		if detail {
			ps.LastError = p.LastError
		}
		out.Peers[id] = ps
	}
	if !detail {
		return open(out), nil
	}
	out.Faults, out.DiskFree = st.Faults, &st.DiskFree
	return private(out), nil
}

func timeOrNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
