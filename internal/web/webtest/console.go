package webtest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/zhenglian/zhenglian/internal/web"
)

// Console is web.Console in memory.
type Console struct {
	mu   sync.Mutex
	node *web.NodeView
}

// Node is web.Console; without a node it fails.
func (c *Console) Node(context.Context) (*web.NodeView, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.node == nil {
		return nil, errors.New("no node here")
	}
	return c.node, nil
}

// Show sets what the console shows; nil: the node does not answer.
func (c *Console) Show(node *web.NodeView) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.node = node
}

// BusyNode is a node with much to show, one of its peers out of reach.
func BusyNode() *web.NodeView {
	now := time.Date(2026, 11, 22, 15, 5, 38, 0, time.UTC)
	names := []string{"示例互联网法院", "示例公证处", "示例司法鉴定中心（电子数据鉴定与知识产权鉴定联合实验室）"}
	free := uint64(412 << 30)
	off := 340 * time.Millisecond
	v := &web.NodeView{Height: 48211, BlockTime: now, Size: 1284467, Root: digest("root"), WitnessedSize: 1284464, Pending: 3, Ready: true, DiskFree: &free,
		Stamps:    &web.StampsView{Authorities: []string{"tsa-court", "tsa-outside"}, Size: 1284464, Last: now, Backlog: 3},
		Authority: &web.AuthorityView{Ready: true, Demonstration: true, Entries: 9127, Last: now, ClockError: &off},
		Members:   &web.MembersView{Enrolled: 12, Revoked: 2}}
	for i, name := range names {
		p := web.PeerView{ID: fmt.Sprintf("peer-%d", i), Name: name, Reachable: i != 2, LastHeard: now.Add(-time.Duration(i*i*i) * time.Hour), WitnessedSize: 1284464 - uint64(i*i*900)}
		if i == 2 {
			p.LastError = "dial tcp 10.11.12.13:26656: connect: connection refused"
		}
		v.Peers = append(v.Peers, p)
	}
	for i := range 12 {
		v.Entries = append(v.Entries, web.EntryView{Position: 1284466 - uint64(i), Digest: digest(fmt.Sprint("entry", i)), Time: now.Add(-time.Duration(i/3) * time.Minute), Witnesses: names[:min(3, i)], Final: i >= 3})
	}
	for i := range 4 {
		v.Checkpoints = append(v.Checkpoints, web.CheckpointView{Size: 1284464 - uint64(3*i), Time: now.Add(-time.Duration(i+1) * time.Minute), Root: digest(fmt.Sprint("root", i)), Signers: names[:3-i%2], Tokens: []string{"tsa-court", "tsa-outside"}[:1+i%2]})
	}
	for i, n := range []uint64{120, 340, 90, 0, 0, 411, 530, 498, 702, 655, 120, 80, 913, 377} {
		v.Days = append(v.Days, web.DayView{Day: now.AddDate(0, 0, i-13), Count: n})
	}
	for i := range 5 {
		v.Members.Changes = append(v.Members.Changes, web.MemberChange{At: now.Add(-time.Duration(i*7) * time.Hour), Member: "m:abcdefghijklmnopqrstuvwxyz", Kind: []string{"person", "enterprise"}[i%2], Level: i % 4, Demo: i == 1, Revoked: i == 2})
	}
	return v
}

// YoungNode is a node that has nothing yet and stands alone.
func YoungNode() *web.NodeView {
	return &web.NodeView{Root: digest(""), Reasons: []web.NodeReason{{Code: "no-quorum", What: "peers"}, {Code: "fault", What: "data/index"}},
		Faults: map[string]string{"data/index": "write data/index/000012.sst: no space left on device"}, Members: &web.MembersView{},
		Authority: &web.AuthorityView{Reason: "no source of time has answered; name one in node.toml"}}
}

func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}
