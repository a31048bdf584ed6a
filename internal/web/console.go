package web

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

// Console tells how the institution's node stands. NodeOverHTTP is one.
type Console interface {
	Node(ctx context.Context) (*NodeView, error)
}

// NodeView is a node as its operators see it. Empty lists and nil parts are not
// known or not there.
type NodeView struct {
	Height        int64
	BlockTime     time.Time // of the last block
	Size          uint64    // entries in the log
	Root          string
	WitnessedSize uint64 // entries that a quorum has witnessed
	Pending       int    // statements accepted and not yet in the log
	Ready         bool
	Reasons       []NodeReason // why it is not
	DiskFree      *uint64      // bytes
	Faults        map[string]string
	Peers         []PeerView
	Stamps        *StampsView    // nil: the node asks no timestamp authority
	Authority     *AuthorityView // nil: the institution runs none
	Checkpoints   []CheckpointView
	Entries       []EntryView // the newest of the log, newest first
	Days          []DayView   // entries a day, oldest first
	Members       *MembersView
	Gap           string // what could not be fetched, and why
}

// NodeReason is why a node is not ready: fault, catching-up, no-quorum, stopping.
type NodeReason struct{ Code, What string }

// PeerView is another institution as this node sees it.
type PeerView struct {
	ID, Name      string
	Reachable     bool
	LastHeard     time.Time
	WitnessedSize uint64
	LastError     string
}

// StampsView is how the node stands with timestamp authorities.
type StampsView struct {
	Authorities []string
	Size        uint64    // of the newest checkpoint with a token
	Last        time.Time // when that came
	Backlog     uint64    // entries that no token covers
	Failures    uint64
	LastError   string
}

// AuthorityView is the institution's own timestamp authority.
type AuthorityView struct {
	Ready, Demonstration bool
	Entries              uint64 // tokens in its register
	Last                 time.Time
	ClockError           *time.Duration // the most by which its clock can be wrong; nil: not known
	Reason               string
}

// CheckpointView is a checkpoint and who cosigned it.
type CheckpointView struct {
	Size    uint64
	Time    time.Time
	Root    string
	Signers []string // names of institutions
	Tokens  []string // authorities whose tokens cover it
}

// EntryView is one entry of the log.
type EntryView struct {
	Position  uint64
	Digest    string
	Time      time.Time
	Witnesses []string
	Final     bool
}

// DayView counts the entries of one day in Beijing.
type DayView struct {
	Day   time.Time
	Count uint64
}

// MembersView is what a CA institution can say of its members.
type MembersView struct {
	Enrolled, Revoked int
	Changes           []MemberChange // newest first
}

// MemberChange is an enrolment or a revocation.
type MemberChange struct {
	At      time.Time
	Member  string // member id
	Kind    string // person or enterprise
	Level   int
	Demo    bool
	Revoked bool
}

func (s *Site) console() {
	if s.config.Parts.Console == nil {
		return
	}
	s.page("GET /console", operator, s.consolePage)
	s.navigate(60, "/console", "console.nav", operator)
}

// consoleData is what the template shows.
type consoleData struct {
	*NodeView
	Now         time.Time
	Chart       *chart
	Quorum      int
	Unwitnessed uint64
}

func (s *Site) consolePage(r *request) error {
	node, err := s.config.Parts.Console.Node(r.Context())
	if err != nil {
		return fail(http.StatusBadGateway, "console.no-node").because(fmt.Errorf("asking the node: %w", err))
	}
	d := consoleData{NodeView: node, Now: s.config.Now(), Chart: newChart(node.Days)}
	if p := s.policy(); p != nil {
		d.Quorum = p.Quorum
	}
	if node.Size > node.WitnessedSize {
		d.Unwitnessed = node.Size - node.WitnessedSize
	}
	return r.render(http.StatusOK, "console", d)
}

// chart is bars in an inline SVG, in units of its view box.
type chart struct {
	Width, Height int
	Bars          []bar
	Top           uint64 // what the highest line stands for
	Total         uint64
}

type bar struct {
	X, Y, Width, Height int
	Label               string // day
	Count               uint64
	ShowLabel           bool
}

const (
	chartHeight = 120
	chartStep   = 44
	chartBar    = 28
)

// newChart returns nil when there is nothing to draw.
func newChart(days []DayView) *chart {
	c := &chart{Width: chartStep * len(days), Height: chartHeight}
	for _, d := range days {
		c.Top = max(c.Top, d.Count)
		c.Total += d.Count
	}
	if c.Total == 0 {
		return nil
	}
	for i, d := range days {
		h := int(uint64(chartHeight) * d.Count / c.Top)
		if d.Count > 0 {
			h = max(h, 2)
		}
		c.Bars = append(c.Bars, bar{X: i*chartStep + (chartStep-chartBar)/2, Y: chartHeight - h, Width: chartBar, Height: h,
			Label: d.Day.In(beijingZone()).Format("01-02"), Count: d.Count, ShowLabel: (len(days)-1-i)%3 == 0})
	}
	return c
}
