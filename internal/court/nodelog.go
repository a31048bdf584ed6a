package court

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/zhenglian/zhenglian/client"
	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/verify"
)

// NodeLog is the court's own copy of the log, asked over its node's interface.
// It implements verify.LogView, as of the checkpoint at which it was opened.
// It is for one goroutine.
type NodeLog struct {
	c           *client.Client
	institution string
	tree        evidence.Checkpoint
	statements  map[uint64][]byte // of the trails asked for
}

// OpenLog takes the node's latest checkpoint. Since a node may be a moment
// behind those whose receipts a package shows, it waits up to patience for the
// log to reach size atLeast; a log that stays smaller is opened as it is. The
// client must speak to the court's own node alone and sign with an
// institution's statement key.
func OpenLog(ctx context.Context, c *client.Client, institution string, atLeast uint64, patience time.Duration) (*NodeLog, error) {
	if ids := c.Institutions(); len(ids) != 1 || ids[0] != institution {
		return nil, fmt.Errorf("opening the log: the client asks %v, not only %s", ids, institution)
	}
	const every = 100 * time.Millisecond
	for waited := time.Duration(0); ; waited += every {
		cp, err := c.Checkpoint(ctx)
		if err != nil {
			return nil, fmt.Errorf("opening the log: %w", err)
		}
		if cp.Size >= atLeast || waited >= patience {
			return &NodeLog{c: c, institution: institution, tree: cp.Checkpoint, statements: map[uint64][]byte{}}, nil
		}
		t := time.NewTimer(every)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil, ctx.Err()
		case <-t.C:
		}
	}
}

// Institution implements verify.LogView.
func (l *NodeLog) Institution() string { return l.institution }

// Checkpoint implements verify.LogView.
func (l *NodeLog) Checkpoint(context.Context) (evidence.Checkpoint, error) { return l.tree, nil }

// Root implements verify.LogView. The root is computed from tiles.
func (l *NodeLog) Root(ctx context.Context, size uint64) (root evidence.Digest, known bool, err error) {
	if size > l.tree.Size {
		return root, false, nil
	}
	root, err = l.c.RootAt(ctx, l.tree, size)
	return root, err == nil, err
}

// Lookup implements verify.LogView.
func (l *NodeLog) Lookup(ctx context.Context, entry evidence.Digest) (position uint64, known bool, err error) {
	r, err := l.c.Lookup(ctx, entry)
	if errors.Is(err, client.ErrNotFound) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	return r.Position, r.Position < l.tree.Size, nil
}

// Trail implements verify.LogView: everything that names the trail, by position.
func (l *NodeLog) Trail(ctx context.Context, trail evidence.Digest) ([]verify.LogEntry, error) {
	t, err := l.c.Trail(ctx, trail)
	if errors.Is(err, client.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []verify.LogEntry
	for _, s := range append(t.Steps, t.Foreign...) {
		if s.Position >= l.tree.Size {
			continue // later than the checkpoint
		}
		l.statements[s.Position] = s.Bytes()
		all = append(all, verify.LogEntry{Position: s.Position, Entry: s.Digest()})
	}
	slices.SortFunc(all, func(a, b verify.LogEntry) int { return cmp.Compare(a.Position, b.Position) })
	return all, nil
}

// Statement implements verify.LogView.
func (l *NodeLog) Statement(ctx context.Context, position uint64) ([]byte, error) {
	if data, ok := l.statements[position]; ok {
		return data, nil
	}
	r, err := l.c.RecordAt(ctx, position)
	if err != nil {
		return nil, err
	}
	return l.c.Statement(ctx, r.Entry)
}

// Key implements verify.LogView. Of a member it reads the enrolment in the log,
// which has the commitment, and of a passkey its registration.
func (l *NodeLog) Key(ctx context.Context, kid evidence.Digest) (status verify.KeyStatus, known bool, err error) {
	m, err := l.c.Member(ctx, kid)
	if errors.Is(err, client.ErrNotFound) {
		return status, false, nil
	}
	if err != nil {
		return status, false, err
	}
	status = verify.KeyStatus{Key: m.Key, Holder: m.Holder, Institution: m.OfNode, Kind: m.Kind, Assurance: m.Assurance, Demo: m.Demo,
		Genesis: m.Genesis, EnrolledAt: m.EnrolledAt, Revoked: m.Revoked, RevokedAt: m.RevokedAt}
	if m.Genesis || m.OfNode { // an institution's key has no enrolment
		return status, true, nil
	}
	data, err := l.Statement(ctx, m.EnrolledAt)
	if err != nil {
		return status, false, fmt.Errorf("reading the enrolment of key %s: %w", kid, err)
	}
	s, err := evidence.ParseStatement(data)
	if err != nil {
		return status, false, fmt.Errorf("reading the enrolment of key %s: %w", kid, err)
	}
	if m.Passkey != nil {
		if status.Passkey, err = passkeyOf(s, kid, m); err != nil {
			return verify.KeyStatus{}, false, fmt.Errorf("the registry contradicts the log: at position %d it %w", m.EnrolledAt, err)
		}
		return status, true, nil
	}
	if s.ContentType != evidence.TypeEnrolment {
		return status, false, fmt.Errorf("the registry says that key %s was enrolled at %d, where there is no enrolment", kid, m.EnrolledAt)
	}
	e, err := evidence.ParseEnrolment(s.Payload)
	if err != nil {
		return status, false, fmt.Errorf("reading the enrolment of key %s: %w", kid, err)
	}
	if e.Key.KID() != kid || e.Member != m.Holder || int(e.Assurance) != m.Assurance || e.Demo != m.Demo {
		return status, false, fmt.Errorf("the registry contradicts the log: the enrolment at %d is not what it says of key %s", m.EnrolledAt, kid)
	}
	status.Commitment = e.Commitment
	return status, true, nil
}

// passkeyOf reads the statement that registered a passkey and compares it with
// what the registry says.
func passkeyOf(s *evidence.Statement, kid evidence.Digest, m *client.Member) (*evidence.Passkey, error) {
	if s.ContentType != evidence.TypePasskey {
		return nil, fmt.Errorf("has no registration of passkey %s", kid)
	}
	p, err := evidence.ParsePasskey(s.Payload)
	if err != nil {
		return nil, fmt.Errorf("has a passkey that cannot be read: %w", err)
	}
	if p.Key.KID() != kid || p.Member != m.Holder || p.Demo != m.Demo || p.RelyingParty != m.Passkey.RelyingParty || p.Credential != m.Passkey.Credential {
		return nil, fmt.Errorf("has something else than it says of passkey %s", kid)
	}
	return p, nil
}
