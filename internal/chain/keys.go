package chain

import (
	"fmt"
	"slices"

	"github.com/zhenglian/zhenglian/evidence"
)

// KeyChangeRecord is a key change in the log, with what proves it.
type KeyChangeRecord struct {
	Position  uint64
	Statement []byte
	Receipts  Receipts
}

// KeyChanges returns up to limit key changes of institutions, from a position
// on, in log order. more reports whether there are others after them.
func (n *Node) KeyChanges(from uint64, limit int) (changes []KeyChangeRecord, more bool, err error) {
	size := n.machine.cur.Load().Size
	for _, p := range n.reg.KeyChanges() {
		if p < from || p >= size { // the registry may be a block ahead
			continue
		}
		if len(changes) == limit {
			return changes, true, nil
		}
		raw, err := n.StatementAt(p)
		if err != nil {
			return nil, false, fmt.Errorf("key change at position %d: %w", p, err)
		}
		receipts, err := n.ReceiptsAt(p)
		if err != nil {
			return nil, false, fmt.Errorf("key change at position %d: %w", p, err)
		}
		changes = append(changes, KeyChangeRecord{p, raw, receipts})
	}
	return changes, false, nil
}

// Policy returns the trust policy that follows from the genesis and the key
// changes in this node's log.
func (n *Node) Policy() (*evidence.Policy, error) {
	p, err := evidence.PolicyFromAlliance(n.alliance)
	if err != nil {
		return nil, err
	}
	for i := range p.Institutions {
		if h := n.reg.History(p.Institutions[i].ID); h != nil {
			p.Institutions[i].Keys = h.PolicyKeys()
		}
	}
	return p, p.Validate()
}

// ReceiptKeys returns this institution's receipt keys, past and present, the
// present ones first.
func (n *Node) ReceiptKeys() []*evidence.PublicKey {
	var now, before []*evidence.PublicKey
	if h := n.reg.History(n.id); h != nil {
		for _, k := range h.All() {
			switch {
			case k.Use != evidence.UseReceipt:
			case k.To == 0:
				now = append(now, k.Public)
			default:
				before = append(before, k.Public)
			}
		}
	}
	slices.Reverse(before) // the newest first
	return append(now, before...)
}
