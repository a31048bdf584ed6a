package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/zhenglian/zhenglian/client"
	"github.com/zhenglian/zhenglian/evidence"
)

// NodeOverHTTP is a Console that asks the institution's own node. What it shows
// is the node's word, for the people who run it; nothing is decided by it.
type NodeOverHTTP struct {
	// Base is the address of the node's API.
	Base string
	// Client looks entries and checkpoints up, the own institution first. Give it
	// a negative Patience: the page waits for one round, not for better times.
	Client *client.Client
	// Do sends the request for the status; nil: unsigned, and the node leaves out
	// faults and free space.
	Do func(*http.Request) (*http.Response, error)
	// Members tells of the members this institution enrolled; nil: it is no CA.
	Members func(ctx context.Context) (*MembersView, error)
	Now     func() time.Time // nil: time.Now

	mu    sync.Mutex
	begun map[int64]uint64 // beginning of a day in Beijing → entries before it
}

// Recent entries that the console shows, and days of its chart.
const (
	consoleEntries = 12
	consoleDays    = 14
)

// status mirrors the node's answer, as far as the console shows it.
type nodeStatus struct {
	Height        int64                         `json:"height"`
	BlockTime     time.Time                     `json:"block_time"`
	Size          uint64                        `json:"size"`
	Root          string                        `json:"root"`
	WitnessedSize uint64                        `json:"witnessed_size"`
	Pending       int                           `json:"pending"`
	Ready         bool                          `json:"ready"`
	Reasons       []struct{ Code, What string } `json:"reasons"`
	Faults        map[string]string             `json:"faults"`
	DiskFree      *uint64                       `json:"disk_free"`
	Peers         map[string]struct {
		Reachable     bool      `json:"reachable"`
		LastHeard     time.Time `json:"last_heard"`
		WitnessedSize uint64    `json:"witnessed_size"`
		LastError     string    `json:"last_error"`
	} `json:"peers"`
	Timestamps *struct {
		Authorities []string  `json:"authorities"`
		Size        uint64    `json:"size"`
		Last        time.Time `json:"last"`
		Backlog     uint64    `json:"backlog"`
		Failures    uint64    `json:"failures"`
		LastError   string    `json:"last_error"`
	} `json:"timestamps"`
	TSA *struct {
		Ready             bool      `json:"ready"`
		Demonstration     bool      `json:"demonstration"`
		Entries           uint64    `json:"entries"`
		Last              time.Time `json:"last"`
		ClockErrorSeconds *float64  `json:"clock_error_seconds"`
		Reason            string    `json:"reason"`
	} `json:"tsa"`
}

// Node asks the node for its status and its newest entries.
func (n *NodeOverHTTP) Node(ctx context.Context) (*NodeView, error) {
	st, err := n.status(ctx)
	if err != nil {
		return nil, err
	}
	v := st.view(n.names())
	// What fails below leaves a gap and the status stands: who runs a node needs
	// it most when something is broken.
	var gaps []error
	if v.Entries, err = n.entries(ctx, st.Size); err != nil {
		gaps = append(gaps, err)
	}
	if v.Checkpoints, err = n.checkpoints(ctx, v.Entries, st.WitnessedSize); err != nil {
		gaps = append(gaps, err)
	}
	if v.Days, err = n.days(ctx, st.Size); err != nil {
		gaps = append(gaps, err)
	}
	if n.Members != nil {
		if v.Members, err = n.Members(ctx); err != nil {
			gaps = append(gaps, fmt.Errorf("counting members: %w", err))
		}
	}
	if err := errors.Join(gaps...); err != nil {
		v.Gap = err.Error()
	}
	return v, nil
}

func (n *NodeOverHTTP) status(ctx context.Context) (*nodeStatus, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, n.Base+"/api/v1/status", nil)
	if err != nil {
		return nil, fmt.Errorf("asking for the status: %w", err)
	}
	do := n.Do
	if do == nil {
		do = (&http.Client{Timeout: 10 * time.Second}).Do
	}
	resp, err := do(req)
	if err != nil {
		return nil, fmt.Errorf("asking for the status: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("asking for the status: the node answered %s", resp.Status)
	}
	st := new(nodeStatus)
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(st); err != nil {
		return nil, fmt.Errorf("reading the status: %w", err)
	}
	return st, nil
}

func (n *NodeOverHTTP) names() map[string]string {
	names := map[string]string{}
	for _, i := range n.Client.Policy().Institutions {
		names[i.ID] = i.Name
	}
	return names
}

func (st *nodeStatus) view(names map[string]string) *NodeView {
	v := &NodeView{Height: st.Height, BlockTime: st.BlockTime, Size: st.Size, Root: st.Root, WitnessedSize: st.WitnessedSize, Pending: st.Pending,
		Ready: st.Ready, DiskFree: st.DiskFree, Faults: st.Faults}
	for _, r := range st.Reasons {
		v.Reasons = append(v.Reasons, NodeReason(r))
	}
	for _, id := range slices.Sorted(maps.Keys(st.Peers)) {
		p := st.Peers[id]
		v.Peers = append(v.Peers, PeerView{ID: id, Name: names[id], Reachable: p.Reachable, LastHeard: p.LastHeard, WitnessedSize: p.WitnessedSize, LastError: p.LastError})
	}
	if t := st.Timestamps; t != nil {
		v.Stamps = &StampsView{t.Authorities, t.Size, t.Last, t.Backlog, t.Failures, t.LastError}
	}
	if t := st.TSA; t != nil {
		v.Authority = &AuthorityView{Ready: t.Ready, Demonstration: t.Demonstration, Entries: t.Entries, Last: t.Last, Reason: t.Reason}
		if t.ClockErrorSeconds != nil {
			d := time.Duration(*t.ClockErrorSeconds * float64(time.Second))
			v.Authority.ClockError = &d
		}
	}
	return v
}

// entries looks the newest up. What is not there any more or not yet is left out.
func (n *NodeOverHTTP) entries(ctx context.Context, size uint64) ([]EntryView, error) {
	var out []EntryView
	names := n.names()
	for i := uint64(0); i < consoleEntries && i < size; i++ {
		rec, err := n.Client.RecordAt(ctx, size-1-i)
		if errors.Is(err, client.ErrNotFound) {
			continue
		}
		if err != nil {
			return out, fmt.Errorf("looking up entry %d: %w", size-1-i, err)
		}
		e := EntryView{Position: rec.Position, Digest: rec.Entry.String(), Time: rec.BlockTime, Final: rec.Final}
		for _, id := range rec.Witnesses {
			e.Witnesses = append(e.Witnesses, or(names[id], id))
		}
		out = append(out, e)
	}
	return out, nil
}

func or(name, otherwise string) string {
	if name == "" {
		return otherwise
	}
	return name
}

// checkpoints finds the ones after the entries' blocks: entries of one block
// have one time, and the log was signed at the end of each.
func (n *NodeOverHTTP) checkpoints(ctx context.Context, entries []EntryView, witnessed uint64) ([]CheckpointView, error) {
	var out []CheckpointView
	names := n.names()
	for i, e := range entries {
		if i > 0 && entries[i-1].Time.Equal(e.Time) || e.Position+1 > witnessed {
			continue
		}
		cp, err := n.Client.CheckpointAt(ctx, e.Position+1)
		var quorum *client.QuorumError
		switch {
		case errors.Is(err, client.ErrNotFound), errors.As(err, &quorum):
			continue // the largest root of its time covered it
		case err != nil:
			return out, fmt.Errorf("looking up the checkpoint of size %d: %w", e.Position+1, err)
		}
		v := CheckpointView{Size: cp.Size, Time: e.Time, Root: cp.Root.String(), Signers: signers(cp, names)}
		if tokens, err := n.Client.Timestamps(ctx, cp.Checkpoint); err == nil {
			v.Tokens = slices.Sorted(maps.Keys(tokens))
		}
		out = append(out, v)
	}
	return out, nil
}

// signers names who cosigned. A cosigner's name is the log's origin, a slash and
// the institution's id (evidence.Alliance.CosignerName).
func signers(cp *evidence.CosignedCheckpoint, names map[string]string) []string {
	var out []string
	for _, c := range cp.Cosignatures {
		id := strings.TrimPrefix(c.Name, cp.Origin+"/")
		out = append(out, or(names[id], id))
	}
	return out
}

// days counts entries of the last days by looking for the first entry of each.
func (n *NodeOverHTTP) days(ctx context.Context, size uint64) ([]DayView, error) {
	now := time.Now
	if n.Now != nil {
		now = n.Now
	}
	y, m, d := now().In(beijingZone()).Date()
	today := time.Date(y, m, d, 0, 0, 0, 0, beijingZone())
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.begun == nil {
		n.begun = map[int64]uint64{}
	}
	var out []DayView
	before := size
	for i := range consoleDays {
		day := today.AddDate(0, 0, -i)
		first, known := n.begun[day.Unix()]
		if !known {
			var err error
			if first, err = n.firstAt(ctx, before, day); err != nil {
				return nil, err
			}
			if i > 0 || first < size {
				n.begun[day.Unix()] = first
			}
		}
		out = append(out, DayView{day, before - min(first, before)})
		before = min(first, before)
	}
	slices.Reverse(out)
	return out, nil
}

// firstAt returns the first position below size whose block is not before t.
func (n *NodeOverHTTP) firstAt(ctx context.Context, size uint64, t time.Time) (uint64, error) {
	var failed error
	i := sort.Search(int(size), func(i int) bool {
		if failed != nil {
			return true
		}
		rec, err := n.Client.RecordAt(ctx, uint64(i))
		if err != nil {
			failed = fmt.Errorf("looking up entry %d: %w", i, err)
			return true
		}
		return !rec.BlockTime.Before(t)
	})
	return uint64(i), failed
}
