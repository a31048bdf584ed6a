package court

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/zhenglian/zhenglian/client"
	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/verify"
)

// Kind says what a document finds.
type Kind string

// The kinds, one for each verdict.
const (
	EvidenceChain Kind = "evidence-chain" // everything matches
	Incomplete    Kind = "incomplete"     // nothing contradicts, and something cannot be determined
	Invalid       Kind = "invalid"        // something does not match; Differs says what
)

// Document is the court's finding on one package: canonical JSON, signed beside
// it (Sign). spec/evidence-chain.md.
type Document struct {
	V        int               `json:"v"` // 1
	Kind     Kind              `json:"kind"`
	Made     string            `json:"made"` // RFC 3339 in UTC, the court's clock
	Court    Court             `json:"court"`
	Alliance evidence.Digest   `json:"alliance"`
	Trail    evidence.Digest   `json:"trail,omitzero"`
	Package  verify.PackageRef `json:"package"`
	Verdict  verify.Verdict    `json:"verdict"`
	Links    []Link            `json:"links"`   // one for each step handed in
	Whole    []int             `json:"whole"`   // checks of no single step
	Differs  []int             `json:"differs"` // checks that do not match
	Open     []int             `json:"open"`    // checks that cannot be determined
	Report   *verify.Report    `json:"report"`  // with what was withheld and what is not proven
}

// Court is who found it, and in which log.
type Court struct {
	Institution string          `json:"institution"`
	Name        string          `json:"name"`
	Size        uint64          `json:"size,omitempty"` // of its copy of the log
	Root        evidence.Digest `json:"root,omitzero"`
}

// Link is one step of the trail. Numbers are places in Report.Checks, from 0.
type Link struct {
	N         int             `json:"n"`
	Statement evidence.Digest `json:"statement,omitzero"`
	Verdict   verify.Verdict  `json:"verdict"`
	Generated Aspect          `json:"generated"` // by whom, with what right, when, following what
	Stored    Aspect          `json:"stored"`    // manifest and objects, unaltered
	Witnessed Aspect          `json:"witnessed"` // receipts, quorum, the court's own log
}

// Aspect is one side of a step and the checks it stands on. Without any check it
// cannot be determined.
type Aspect struct {
	Verdict verify.Verdict `json:"verdict"`
	Checks  []int          `json:"checks"`
}

// Config of Check. All but Progress, Patience and Now are required.
type Config struct {
	Client      *client.Client   // asks the court's own node alone, with its statement key
	Policy      *evidence.Policy // the court's
	Institution string           // the court's id in the policy
	Progress    func(done, total int64)
	Patience    time.Duration    // how long to wait for a log that is behind the package (10 s)
	Now         func() time.Time // nil: time.Now
}

// Check verifies a package against the court's own log and forms the document.
// Errors are those of verify.Check (a *evidence.PackageError for what is no
// package), and of the court's node: then nothing was found.
func Check(ctx context.Context, c Config, pkg io.ReaderAt, size int64) (*Document, error) {
	if c.Client == nil || c.Policy == nil || c.Institution == "" {
		return nil, errors.New("checking a package: client, policy and institution are required")
	}
	own := c.Policy.Institution(c.Institution)
	if own == nil {
		return nil, fmt.Errorf("checking a package: %q is no institution of the policy", c.Institution)
	}
	if c.Patience == 0 {
		c.Patience = 10 * time.Second
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	log, err := OpenLog(ctx, c.Client, c.Institution, spokenOf(pkg, size), c.Patience)
	if err != nil {
		return nil, err
	}
	rep, err := verify.Check(ctx, pkg, size, verify.Options{Policy: c.Policy, Log: log, Progress: c.Progress})
	if err != nil {
		return nil, err
	}
	d := form(rep)
	d.Made = c.Now().UTC().Truncate(time.Second).Format(time.RFC3339)
	d.Alliance = c.Policy.Alliance
	d.Court = Court{Institution: c.Institution, Name: own.Name, Size: log.tree.Size, Root: log.tree.Root}
	return d, nil
}

// spokenOf is the size of the log that the package says it speaks of; 0 for
// what is no package, which Check will say.
func spokenOf(pkg io.ReaderAt, size int64) uint64 {
	p, err := evidence.OpenPackage(pkg, size)
	if err != nil {
		return 0
	}
	return p.Index.TreeSize
}

// form sorts the report's checks by step and side.
func form(rep *verify.Report) *Document {
	d := &Document{V: 1, Trail: rep.Trail, Package: rep.Package, Verdict: rep.Verdict, Report: rep,
		Links: make([]Link, 0, len(rep.Steps)), Whole: []int{}, Differs: []int{}, Open: []int{}}
	switch rep.Verdict {
	case verify.Matches:
		d.Kind = EvidenceChain
	case verify.Undetermined:
		d.Kind = Incomplete
	default:
		d.Kind = Invalid
	}
	for _, s := range rep.Steps {
		d.Links = append(d.Links, Link{N: s.N, Statement: s.Statement, Verdict: s.Verdict,
			Generated: Aspect{verify.Matches, []int{}}, Stored: Aspect{verify.Matches, []int{}}, Witnessed: Aspect{verify.Matches, []int{}}})
	}
	for i, c := range rep.Checks {
		switch c.Verdict {
		case verify.DoesNotMatch:
			d.Differs = append(d.Differs, i)
		case verify.Undetermined:
			d.Open = append(d.Open, i)
		}
		if n := c.Subject.Step; n < 1 || n > len(d.Links) {
			d.Whole = append(d.Whole, i)
			continue
		}
		a := d.Links[c.Subject.Step-1].aspect(c.ID)
		a.Checks = append(a.Checks, i)
		a.Verdict = verify.Weakest(a.Verdict, c.Verdict)
	}
	for i := range d.Links {
		l := &d.Links[i]
		for _, a := range []*Aspect{&l.Generated, &l.Stored, &l.Witnessed} {
			if len(a.Checks) == 0 {
				a.Verdict = verify.Undetermined
			}
		}
	}
	return d
}

// aspect returns the side of a step that a check belongs to.
func (l *Link) aspect(check string) *Aspect {
	switch check {
	case "manifest", "object", "file":
		return &l.Stored
	case "receipt", "quorum", "own-log", "own-root", "roots", "checkpoint", "time", "timestamp":
		return &l.Witnessed
	}
	return &l.Generated
}

// Encode returns the document's canonical bytes (RFC 8785).
func (d *Document) Encode() ([]byte, error) {
	data, err := evidence.MarshalCanonical(d)
	if err != nil {
		return nil, fmt.Errorf("encoding the evidence chain: %w", err)
	}
	return data, nil
}

// ParseDocument reads a document from its canonical bytes.
func ParseDocument(data []byte) (*Document, error) {
	d := new(Document)
	if err := evidence.UnmarshalCanonical(data, d); err != nil {
		return nil, fmt.Errorf("reading the evidence chain: %w", err)
	}
	if d.V != 1 {
		return nil, fmt.Errorf("reading the evidence chain: version %d is not known, only 1 is: use a newer version of this program", d.V)
	}
	if d.Report == nil {
		return nil, errors.New("reading the evidence chain: it has no report")
	}
	return d, nil
}
