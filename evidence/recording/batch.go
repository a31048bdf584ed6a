package recording

import (
	"fmt"
	"strconv"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/zhenglian/zhenglian/evidence"
)

// How a session ended, and what an env.report says.
const (
	StateComplete = "complete"
	StatePartial  = "partial" // with a reason

	EnvClean      = "clean"
	EnvExceptions = "exceptions" // clean but for what it lists, which somebody accepted
	EnvUnclean    = "unclean"
)

// Names of steps and files of a recording.
const (
	StepBatch = "batch" // a manifest's step that holds a batch
	StepSeal  = "seal"  // a manifest's step that ends a session
	ActRecord = "record"

	FileEvents = "events.jsonl"
	FileWACZ   = "recording.wacz"
	FileVideo  = "video.mkv"
)

// Batch is what the chain has of the events First to Last: facts of a manifest
// of the phase during. spec/recording.md, part 2.
type Batch struct {
	Session     evidence.Digest
	First, Last int64           // seq, both included
	Root        evidence.Digest // RFC 6962 over the events' digests
	Head        evidence.Digest // digest of event Last
}

// Facts returns the batch as facts of a manifest's dimension during.
func (b *Batch) Facts() map[string]string {
	return map[string]string{"session": b.Session.String(), "first": strconv.FormatInt(b.First, 10), "last": strconv.FormatInt(b.Last, 10),
		"root": b.Root.String(), "head": b.Head.String()}
}

// FactError says which fact of a manifest does not say what it must.
type FactError struct {
	Fact   string
	Reason string
}

func (e *FactError) Error() string { return "the fact " + e.Fact + ": " + e.Reason }

// BatchOf reads the batch in a manifest; ok is false when it holds none. Errors
// are *FactError.
func BatchOf(m *evidence.Manifest) (b *Batch, ok bool, err error) {
	if m.Phase != evidence.PhaseDuring || m.Step != StepBatch {
		return nil, false, nil
	}
	f := facts{m.Dimensions.During, nil}
	b = &Batch{Session: f.digest("session"), First: f.number("first"), Last: f.number("last"), Root: f.digest("root"), Head: f.digest("head")}
	if f.err == nil && b.Last < b.First {
		f.err = &FactError{"last", fmt.Sprintf("%d is before the first event, %d", b.Last, b.First)}
	}
	if f.err != nil {
		return nil, true, f.err
	}
	return b, true, nil
}

// Opening is what the party says when she opens a session: facts of the phase
// before in a manifest whose act is of the kind record.
type Opening struct {
	Session  evidence.Digest
	Recorder evidence.Digest // kid of the key that will sign the batches
	Purpose  string
	Consent  string // what she consented to, in her language
	Start    string // address, may be empty
}

// Facts returns the opening as facts of a manifest's dimension before.
func (o *Opening) Facts() map[string]string {
	out := map[string]string{"session": o.Session.String(), "recorder": o.Recorder.String(), "purpose": o.Purpose, "consent": o.Consent}
	if o.Start != "" {
		out["start"] = o.Start
	}
	return out
}

// OpeningOf reads the opening in a manifest; ok is false when it holds none.
func OpeningOf(m *evidence.Manifest) (o *Opening, ok bool, err error) {
	if m.Kind() != ActRecord {
		return nil, false, nil
	}
	f := facts{m.Dimensions.Before, nil}
	o = &Opening{Session: f.digest("session"), Recorder: f.digest("recorder"), Purpose: f.text("purpose"), Consent: f.text("consent"), Start: f.from["start"]}
	if f.err != nil {
		return nil, true, f.err
	}
	return o, true, nil
}

// Summary is how a session ended: facts of the phase after in the manifest that
// holds the recording's files.
type Summary struct {
	Session evidence.Digest
	Count   int64           // events, session.close included
	Head    evidence.Digest // digest of the last event
	State   string          // complete or partial
	Reason  string          // of partial
}

// Facts returns the summary as facts of a manifest's dimension after.
func (s *Summary) Facts() map[string]string {
	out := map[string]string{"session": s.Session.String(), "count": strconv.FormatInt(s.Count, 10), "head": s.Head.String(), "state": s.State}
	if s.Reason != "" {
		out["reason"] = s.Reason
	}
	return out
}

// SummaryOf reads the summary in a manifest; ok is false when it holds none.
func SummaryOf(m *evidence.Manifest) (s *Summary, ok bool, err error) {
	if m.Phase != evidence.PhaseAfter || m.Step != StepSeal {
		return nil, false, nil
	}
	f := facts{m.Dimensions.After, nil}
	s = &Summary{Session: f.digest("session"), Count: f.number("count"), Head: f.digest("head"), State: f.text("state"), Reason: f.from["reason"]}
	if f.err == nil && (s.State != StateComplete && s.State != StatePartial || (s.State == StatePartial) != (s.Reason != "")) {
		f.err = &FactError{"state", "it is complete, or partial with a reason"}
	}
	if f.err != nil {
		return nil, true, f.err
	}
	return s, true, nil
}

// facts reads texts and keeps the first error.
type facts struct {
	from map[string]string
	err  error
}

func (f *facts) text(name string) string {
	v := f.from[name]
	if v == "" && f.err == nil {
		f.err = &FactError{name, "it is missing"}
	}
	return v
}

func (f *facts) digest(name string) evidence.Digest {
	d, err := evidence.ParseDigest(f.text(name))
	if err != nil && f.err == nil {
		f.err = &FactError{name, err.Error()}
	}
	return d
}

func (f *facts) number(name string) int64 {
	s := f.text(name)
	n, err := strconv.ParseInt(s, 10, 64)
	if f.err == nil && (err != nil || n < 0 || n > MaxEvents || strconv.FormatInt(n, 10) != s) {
		f.err = &FactError{name, fmt.Sprintf("%.30q is no number from 0 to %d", s, MaxEvents)}
	}
	return n
}

// Tree computes the root of a batch as its events come.
type Tree struct{ r *compact.Range }

// NewTree begins a batch.
func NewTree() *Tree {
	return &Tree{(&compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}).NewEmptyRange(0)}
}

// Add appends an event's digest.
func (t *Tree) Add(digest evidence.Digest) error {
	return t.r.Append(rfc6962.DefaultHasher.HashLeaf(digest[:]), nil)
}

// Size is how many events were added.
func (t *Tree) Size() int64 { return int64(t.r.End()) }

// Root returns the RFC 6962 root over the digests added so far.
func (t *Tree) Root() (evidence.Digest, error) {
	if t.r.End() == 0 {
		return evidence.SumSHA256(nil), nil
	}
	root, err := t.r.GetRootHash(nil)
	if err != nil {
		return evidence.Digest{}, fmt.Errorf("computing the batch's root: %w", err)
	}
	return evidence.Digest(root), nil
}
