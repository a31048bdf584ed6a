package web

import (
	"errors"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/custody"
)

// records are the pages on which a member sees what she deposited. What is
// public or signed they show without a script; what only she can decrypt needs
// one.
func (s *Site) records() {
	if s.config.Parts.Custody == nil || s.config.Parts.Enroller == nil {
		return
	}
	s.page("GET /records", member, s.recordsPage)
	s.page("GET /records/{trail}", member, s.recordPage)
	s.navigate(20, "/records", "records.nav", member)
}

type recordsView struct {
	workbench
	Trails []recordTrail
	Older  string // query of the next page; empty: none
	First  bool   // this is the first page
}

// recordTrail is one trail in the timeline.
type recordTrail struct {
	Trail   evidence.Digest
	Opened  time.Time // when the first step came here
	Last    time.Time // when the last step came here
	Steps   []recordStep
	State   custody.State // of what lags behind most
	Witness []string      // names of institutions that signed for every final step
}

type recordStep struct {
	N         int
	Digest    evidence.Digest
	Manifest  evidence.Digest
	SM3       evidence.Digest
	KID       evidence.Digest
	Received  time.Time
	IssuedAt  time.Time
	State     custody.State
	Position  uint64
	NotBefore time.Time
	NotLater  time.Time
	Stamped   time.Time
	Witnesses []string // names
	Refusal   string
	Receipts  []recordReceipt // empty when they could not be fetched
	Tokens    []string        // authorities whose tokens cover it
}

type recordReceipt struct {
	Name   string
	Size   uint64
	Time   time.Time // block time
	Digest evidence.Digest
}

func (r *request) recordStep(n int, d *custody.Deposit) recordStep {
	v := recordStep{N: n, Digest: d.Digest(), Manifest: evidence.Digest(d.Statement.Payload), SM3: d.Statement.ManifestSM3, KID: d.Statement.KID,
		Received: d.Received, IssuedAt: time.Unix(d.Statement.IssuedAt, 0), State: d.State, Position: d.Position, NotBefore: d.NotBefore, NotLater: d.NotLater, Stamped: d.Stamped}
	for _, id := range d.Witnesses {
		v.Witnesses = append(v.Witnesses, r.site.witnessName(id))
	}
	if d.State == custody.Refused {
		v.Refusal = r.refusalText(d.Code)
	}
	return v
}

func (r *request) recordTrail(t *custody.Trail) recordTrail {
	v := recordTrail{Trail: t.Trail, State: custody.Final}
	order := []custody.State{custody.Final, custody.Chained, custody.Received, custody.Refused}
	for i := range t.Steps {
		step := r.recordStep(i+1, &t.Steps[i])
		v.Steps = append(v.Steps, step)
		if slices.Index(order, step.State) > slices.Index(order, v.State) {
			v.State = step.State
		}
		switch {
		case step.State != custody.Final:
		case v.Witness == nil:
			v.Witness = step.Witnesses
		default:
			v.Witness = slices.DeleteFunc(slices.Clone(v.Witness), func(w string) bool { return !slices.Contains(step.Witnesses, w) })
		}
	}
	if n := len(v.Steps); n > 0 {
		v.Opened, v.Last = v.Steps[0].Received, v.Steps[n-1].Received
	}
	return v
}

func (s *Site) recordsPage(r *request) error {
	before, _ := strconv.ParseInt(r.URL.Query().Get("before"), 10, 64)
	trails, err := s.config.Parts.Custody.Trails(r.Context(), r.person.Member, before, recordsPage)
	if err != nil {
		return err
	}
	v := recordsView{workbench: s.workbench(r), First: before <= 0}
	for i := range trails {
		v.Trails = append(v.Trails, r.recordTrail(&trails[i]))
	}
	if len(trails) == recordsPage {
		v.Older = "?before=" + strconv.FormatInt(trails[len(trails)-1].Last, 10)
	}
	return r.render(http.StatusOK, "records", v)
}

type recordView struct {
	workbench
	recordTrail
	Level      int
	Demo       bool
	Kind       string // of the member
	Name       string
	Commitment evidence.Digest
	Final      bool   // a package can be had
	Offline    bool   // the institutions did not answer: receipts are not shown
	Missing    string // institutions without a receipt
}

func (s *Site) recordPage(r *request) error {
	digest, err := digestOf(r.PathValue("trail"))
	if err != nil {
		return err
	}
	t, err := s.config.Parts.Custody.Trail(r.Context(), r.person.Member, digest)
	if err != nil {
		return r.refused(err)
	}
	v := recordView{workbench: s.workbench(r), recordTrail: r.recordTrail(t), Kind: r.person.Kind, Name: r.person.depositor()}
	details, err := s.config.Parts.Enroller.Describe(r.Context(), r.asker(), r.person.Member)
	if err != nil {
		return r.refused(err)
	}
	v.Level, v.Demo, v.Commitment = details.Assurance, details.Demo, details.Commitment
	v.Final = slices.ContainsFunc(v.Steps, func(d recordStep) bool { return d.State == custody.Final })
	if v.Final {
		if err := s.receipts(r, digest, &v); err != nil {
			return err
		}
	}
	return r.render(http.StatusOK, "record", v)
}

// receipts adds what each institution signed, and which tokens cover it, to the
// steps. When no institution answers, the page says so and shows the rest.
func (s *Site) receipts(r *request, trail evidence.Digest, v *recordView) error {
	parts, err := s.config.Parts.Custody.Parts(r.Context(), r.person.Member, trail, nil)
	if _, ok := errors.AsType[*custody.UnavailableError](err); ok {
		v.Offline = true
		return nil
	}
	if err != nil {
		return err
	}
	by := map[evidence.Digest]evidence.PartStep{}
	for _, p := range parts.Steps {
		by[evidence.SumSHA256(p.Statement)] = p
	}
	for i := range v.Steps {
		step := &v.Steps[i]
		part, ok := by[step.Digest]
		if !ok {
			continue
		}
		for _, id := range slices.Sorted(maps.Keys(part.Receipts)) {
			receipt, err := evidence.ParseReceipt(part.Receipts[id])
			if err != nil {
				continue // the package's verification says what is wrong with it
			}
			step.Receipts = append(step.Receipts, recordReceipt{s.witnessName(id), receipt.Size, time.Unix(receipt.IssuedAt, 0), evidence.SumSHA256(part.Receipts[id])})
		}
		for _, size := range slices.Sorted(maps.Keys(parts.Timestamps)) {
			if size <= step.Position {
				continue
			}
			step.Tokens = slices.Sorted(maps.Keys(parts.Timestamps[size]))
			break
		}
	}
	names := make([]string, len(parts.Missing))
	for i, id := range parts.Missing {
		names[i] = s.witnessName(id)
	}
	v.Missing = strings.Join(names, r.T("records.comma"))
	return nil
}
