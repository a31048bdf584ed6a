package testalliance

import (
	"fmt"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
)

// Step is what a test wants to deposit. Zero fields get plain values.
type Step struct {
	Phase   evidence.Phase
	Name    string
	Note    string
	Objects map[string][]byte // by file name; see Order
	Order   []string          // file names in the manifest's order; default: one at random
	Clock   int64             // seconds that the signer's clock is off
	After   *evidence.Checkpoint
	Person  *evidence.Person // default: the signer
	Issuer  string           // default: the member's id
	Prev    *evidence.Digest // default: the last statement of the trail
	// Act completes the manifest; it may set its act.
	Act func(*evidence.Manifest) error
}

// Open opens a trail and returns its name.
func (a *Alliance) Open(m *Member, st Step) (evidence.Digest, error) {
	s, man, objects, err := a.statement(m, evidence.SubjectNewTrail, evidence.Digest{}, st)
	if err != nil {
		return evidence.Digest{}, err
	}
	a.private[a.Append(s)] = private{man, objects}
	return s.Digest(), nil
}

// Deposit adds a step to a trail and returns its position.
func (a *Alliance) Deposit(m *Member, trail evidence.Digest, st Step) (uint64, error) {
	s, man, objects, err := a.statement(m, evidence.TrailSubject(trail), a.Last(trail), st)
	if err != nil {
		return 0, err
	}
	p := a.Append(s)
	a.private[p] = private{man, objects}
	return p, nil
}

// Authorise registers rights of another key in the trail.
func (a *Alliance) Authorise(m *Member, trail, kid evidence.Digest, rights uint64) (uint64, error) {
	s, err := evidence.Statement{Issuer: m.ID, Subject: evidence.TrailSubject(trail), IssuedAt: BlockTime(a.Size()) - 2, ContentType: evidence.TypeAuthorisation,
		Payload: (&evidence.Authorisation{KID: kid, Rights: rights}).Encode(), Prev: a.Last(trail), After: a.Now()}.Sign(m.Signer)
	if err != nil {
		return 0, err
	}
	return a.Append(s), nil
}

// Last returns the digest of the last statement of a trail.
func (a *Alliance) Last(trail evidence.Digest) evidence.Digest {
	ps := a.trails[trail]
	if len(ps) == 0 {
		return evidence.Digest{}
	}
	return evidence.SumSHA256(a.statements[ps[len(ps)-1]])
}

func (a *Alliance) statement(m *Member, subject string, prev evidence.Digest, st Step) (*evidence.Statement, []byte, [][]byte, error) {
	now := BlockTime(a.Size()) - 2 + st.Clock
	man := evidence.Manifest{V: 1, Salt: evidence.Salt(evidence.SumSHA256(fmt.Appendf(nil, "%s/%d", a.seed, a.Size()))), Phase: st.Phase, Step: st.Name, Note: st.Note,
		Created: time.Unix(now, 0).In(time.FixedZone("", 8*3600)).Format(time.RFC3339),
		Person:  evidence.Person{Member: m.ID, Commitment: m.Commitment, Assurance: m.Assurance, Demo: m.Demo},
		Place:   evidence.Place{Claimed: map[string]string{"address": "杭州市"}, Witnessed: map[string]string{}}, Objects: []evidence.Object{}}
	if st.Person != nil {
		man.Person = *st.Person
	}
	if man.Phase == "" {
		man.Phase = evidence.PhaseDuring
	}
	if man.Step == "" {
		man.Step = "保存网页"
	}
	order := st.Order
	if order == nil {
		for name := range st.Objects {
			order = append(order, name)
		}
	}
	var objects [][]byte
	for _, name := range order {
		data := st.Objects[name]
		man.Objects = append(man.Objects, evidence.Object{Name: name, Size: int64(len(data)), Media: "text/plain", SHA256: evidence.SumSHA256(data), SM3: evidence.SumSM3(data)})
		objects = append(objects, data)
	}
	if st.Act != nil {
		if err := st.Act(&man); err != nil {
			return nil, nil, nil, err
		}
	}
	bytes, err := man.Encode()
	if err != nil {
		return nil, nil, nil, err
	}
	payload := evidence.SumSHA256(bytes)
	s := evidence.Statement{Issuer: m.ID, Subject: subject, IssuedAt: now, ContentType: evidence.TypeDeposit, Payload: payload[:],
		Prev: prev, After: a.Now(), ManifestSM3: evidence.SumSM3(bytes)}
	if st.After != nil {
		s.After = *st.After
	}
	if st.Issuer != "" {
		s.Issuer = st.Issuer
	}
	if st.Prev != nil {
		s.Prev = *st.Prev
	}
	signed, err := s.Sign(m.Signer)
	return signed, bytes, objects, err
}
