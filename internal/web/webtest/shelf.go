package webtest

import (
	"bytes"
	"context"
	"io"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/custody"
	"github.com/zhenglian/zhenglian/internal/identity"
	"github.com/zhenglian/zhenglian/internal/testalliance"
	"github.com/zhenglian/zhenglian/internal/web"
)

// Shelf is web.Custody and web.Enroller with records of one member that never
// change, in every state: for looking at the pages. Nothing can be deposited.
type Shelf struct {
	alliance *testalliance.Alliance
	member   string
	trails   []custody.Trail // the newest first
	err      error           // of making it
}

// shelfTrails is more than a page of records has.
const shelfTrails = 23

// NewShelf makes the records of a member.
func NewShelf(member string) *Shelf {
	s := &Shelf{member: member}
	s.err = s.fill()
	return s
}

func (s *Shelf) fill() (err error) {
	if s.alliance, err = testalliance.New("shelf", 4); err != nil {
		return err
	}
	m, err := s.alliance.Enrol(s.member, 3, true)
	if err != nil {
		return err
	}
	for i := range shelfTrails {
		trail, err := s.alliance.Open(m, testalliance.Step{Phase: evidence.PhaseBefore, Name: "权利声明", Objects: map[string][]byte{"a.txt": {byte(i)}}})
		if err != nil {
			return err
		}
		for range i % 3 {
			if _, err := s.alliance.Deposit(m, trail, testalliance.Step{Phase: evidence.PhaseDuring, Name: "取证", Objects: map[string][]byte{"b.txt": {byte(i)}}}); err != nil {
				return err
			}
		}
		t := custody.Trail{Trail: trail, Last: int64(i + 1)}
		c, err := s.alliance.Content(trail)
		if err != nil {
			return err
		}
		for _, step := range c.Steps {
			d, err := shelved(step, i)
			if err != nil {
				return err
			}
			t.Steps = append(t.Steps, *d)
		}
		s.trails = append([]custody.Trail{t}, s.trails...)
	}
	return nil
}

// shelved gives a step one of the states.
func shelved(step testalliance.ContentStep, i int) (*custody.Deposit, error) {
	st, err := evidence.ParseStatement(step.Statement)
	if err != nil {
		return nil, err
	}
	trail, _ := st.Trail()
	at := time.Unix(testalliance.BlockTime(step.Position), 0)
	d := &custody.Deposit{Statement: st, Trail: trail, Received: at.Add(-2 * time.Second), State: custody.Received}
	switch i {
	case shelfTrails - 1:
	case shelfTrails - 2:
		d.State, d.Position = custody.Chained, step.Position
	case shelfTrails - 3:
		d.State, d.Code, d.Reason = custody.Refused, "revoked-key", "the key was revoked"
	case shelfTrails - 4:
		d.State, d.Code, d.Reason = custody.Refused, "a-code-without-words", "unheard of"
	default:
		d.State, d.Position, d.TreeSize, d.NotBefore, d.NotLater = custody.Final, step.Position, step.Position+1, at.Add(-10*time.Second), at
		d.Witnesses = []string{"ca", "court", "forensic", "notary"}
		if i%2 == 0 {
			d.Stamped = at.Add(time.Second)
		}
	}
	return d, nil
}

// Record is the path of a record that is final.
func (s *Shelf) Record() string { return "/records/" + s.trails[shelfTrails-1].Trail.String() }

// Refused is the path of a record that was refused.
func (s *Shelf) Refused() string { return "/records/" + s.trails[2].Trail.String() }

// memberShelf is Member's.
func memberShelf() *Shelf { return NewShelf("m:abcdefghijklmnopqrstuvwxyz") }

// of returns the member's trails.
func (s *Shelf) of(member string) []custody.Trail {
	if member != s.member {
		return nil
	}
	return s.trails
}

// Trails and what follows are web.Custody's and web.Enroller's.
func (s *Shelf) Trails(_ context.Context, member string, before int64, limit int) ([]custody.Trail, error) {
	var out []custody.Trail
	for _, t := range s.of(member) {
		if (before <= 0 || t.Last < before) && len(out) < limit {
			out = append(out, t)
		}
	}
	return out, s.err
}

func (s *Shelf) Trail(_ context.Context, member string, trail evidence.Digest) (*custody.Trail, error) {
	for _, t := range s.of(member) {
		if t.Trail == trail {
			return &t, nil
		}
	}
	return nil, custody.ErrNotFound
}

func (s *Shelf) Deposit(_ context.Context, member string, digest evidence.Digest) (*custody.Deposit, error) {
	for _, t := range s.of(member) {
		for i := range t.Steps {
			if t.Steps[i].Digest() == digest {
				return &t.Steps[i], nil
			}
		}
	}
	return nil, custody.ErrNotFound
}

func (s *Shelf) Parts(ctx context.Context, member string, trail evidence.Digest, _ []evidence.Digest) (*evidence.PackageParts, error) {
	if _, err := s.Trail(ctx, member, trail); err != nil {
		return nil, err
	}
	c, err := s.alliance.Content(trail)
	if err != nil {
		return nil, err
	}
	p := &evidence.PackageParts{Alliance: c.Alliance, Trail: trail, TreeSize: c.Info.TreeSize, Timestamps: map[uint64]map[string][]byte{c.Info.TreeSize: {"tsa-notary": []byte("a token")}}}
	for _, step := range c.Steps {
		p.Steps = append(p.Steps, evidence.PartStep{Statement: step.Statement, Position: step.Position, Receipts: step.Receipts})
	}
	return p, nil
}

func (s *Shelf) Next(context.Context, string, evidence.Digest, evidence.Digest) (*custody.Next, error) {
	return nil, &custody.UnavailableError{Err: io.EOF}
}

func (s *Shelf) Accept(context.Context, string, []byte) (*custody.Deposit, error) {
	return nil, &custody.UnavailableError{Err: io.EOF}
}

func (s *Shelf) PutPiece(context.Context, string, string, int64, []byte, evidence.Digest, bool) (int64, error) {
	return 0, &custody.Refusal{Code: custody.RefuseQuota, Detail: "nothing can be deposited here"}
}

func (s *Shelf) Size(context.Context, string, string) (int64, error)     { return 0, custody.ErrNotFound }
func (s *Shelf) Pending(context.Context, string, string) (int64, error)  { return 0, nil }
func (s *Shelf) List(context.Context, string, string) ([]string, error)  { return nil, nil }
func (s *Shelf) Used(context.Context, string) (u custody.Usage, _ error) { return u, nil }
func (s *Shelf) Open(context.Context, string, string) (io.ReadSeekCloser, error) {
	return nopCloser{bytes.NewReader(nil)}, custody.ErrNotFound
}

type nopCloser struct{ io.ReadSeeker }

func (nopCloser) Close() error { return nil }

func (s *Shelf) Describe(_ context.Context, _ identity.Who, member string) (evidence.Person, error) {
	return evidence.Person{Member: member, Assurance: 3, Demo: true, Commitment: evidence.SumSHA256([]byte("commitment " + member))}, s.err
}

func (s *Shelf) Keys(context.Context, identity.Who, string) ([]web.MemberKey, error) {
	return []web.MemberKey{{KID: evidence.SumSHA256([]byte("a key elsewhere")), Label: "Firefox · Windows", Enrolled: time.Unix(testalliance.Start, 0)}}, nil
}

func (s *Shelf) Enrol(context.Context, identity.Who, string, []byte, string, string) (*web.Enrolled, error) {
	return nil, web.ErrEnrolling
}

func (s *Shelf) Certificate(context.Context, evidence.Digest, evidence.Digest) ([]byte, error) {
	return nil, nil
}
