package verify

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sort"

	"github.com/zhenglian/zhenglian/evidence"
)

// run is one verification under way.
type run struct {
	opts    Options
	pkg     *evidence.Package
	rep     *Report
	policy  *evidence.Policy           // whose keys to check with; nil when there are none
	open    map[evidence.Digest]string // keys that the policy does not know and receipts are signed with, with their institution
	noted   map[evidence.Digest]bool   // keys of which a notice says that they were compromised
	trusted bool                       // the policy comes from the verifier
	log     *ownLog                    // nil without Options.Log
	steps   []*step
	members map[evidence.Digest]*member
	// passkeys and certificates of the package, the latter by the kid of their key.
	passkeys     map[evidence.Digest]*passkey
	certificates map[evidence.Digest][]*certified
	roots        map[uint64]rootSeen
	judged       map[string]bool     // files that some rule looked at
	damaged      map[string]bool     // files whose content is not what the index says
	altered      map[string]Computed // what was computed of those
	files        map[string]evidence.IndexFile
	err          error // the first one of the reader
	// checkpoints are those that a quorum cosigned, by size.
	checkpoints map[uint64]witnessed
	tokens      []stamped      // that count
	rounds      map[int]*round // renewals whose list can be read, by number
}

// rootSeen is the first signed root of a size, to which all others must be equal.
type rootSeen struct {
	root evidence.Digest
	by   Subject
	iat  int64 // block time, 0 when not known
}

// Check verifies the package of that size. The error is for what is no
// readable package at all (*evidence.PackageError with Unreadable), a failing
// reader, a failing log or an ended context; everything else is in the report.
func Check(ctx context.Context, pkg io.ReaderAt, size int64, opts Options) (*Report, error) {
	r := &run{
		opts:     opts,
		rep:      &Report{V: 1, Steps: []Step{}, Withheld: []Withheld{}, Checks: []Line{}, Unchecked: []Unchecked{}, Notices: []Notice{}, NotProven: []Reason{}},
		members:  map[evidence.Digest]*member{},
		passkeys: map[evidence.Digest]*passkey{}, certificates: map[evidence.Digest][]*certified{},
		roots:       map[uint64]rootSeen{},
		judged:      map[string]bool{},
		damaged:     map[string]bool{},
		altered:     map[string]Computed{},
		checkpoints: map[uint64]witnessed{},
	}
	r.rep.Package.Size = size
	opened, err := evidence.OpenPackage(pkg, size)
	var damage *evidence.PackageError
	if errors.As(err, &damage) && (!damage.Unreadable || damage.Code != "version" && oursByTail(pkg, size)) {
		if err := r.digest(ctx, pkg, size, 0); err != nil {
			return nil, err
		}
		r.checkDamage(damage)
		r.rep.Basis.Kind = "unread"
		return r.finish(), nil
	}
	if err != nil {
		return nil, fmt.Errorf("opening the package: %w", err)
	}
	r.pkg = opened
	if err := r.openLog(ctx); err != nil {
		return nil, err
	}
	if err := r.checkFiles(ctx, pkg, size); err != nil {
		return nil, err
	}
	r.establishTrust()
	r.followKeys()
	r.readSteps()
	if err := r.readLogKeys(ctx); err != nil {
		return nil, err
	}
	r.checkMembers()
	r.checkCertificates()
	r.checkStatements()
	r.checkTrail()
	if err := r.checkOwnLog(ctx); err != nil {
		return nil, err
	}
	r.checkHeads()
	r.checkCheckpoints()
	if err := r.checkTimestamps(ctx); err != nil {
		return nil, err
	}
	if err := r.checkTimes(ctx); err != nil {
		return nil, err
	}
	r.checkValidity()
	if err := r.checkRecordings(ctx); err != nil {
		return nil, err
	}
	if err := r.checkOwnRoots(ctx); err != nil {
		return nil, err
	}
	r.checkIndex()
	r.checkAccounted()
	if r.err != nil {
		return nil, r.err
	}
	return r.finish(), nil
}

// digest streams the whole package through SHA-256, so that the report names
// the very bytes it speaks of. more is what will be read after this.
func (r *run) digest(ctx context.Context, pkg io.ReaderAt, size, more int64) error {
	h := sha256.New()
	buf := make([]byte, 256<<10)
	for at := int64(0); at < size; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := pkg.ReadAt(buf[:min(int64(len(buf)), size-at)], at)
		h.Write(buf[:n])
		at += int64(n)
		if n == 0 && err != nil {
			return fmt.Errorf("reading the package at byte %d: %w", at, err)
		}
		r.progress(at, size+more)
	}
	r.rep.Package.SHA256 = evidence.Digest(h.Sum(nil))
	return nil
}

func (r *run) progress(done, total int64) {
	if r.opts.Progress != nil {
		r.opts.Progress(done, total)
	}
}

// check adds a line to the report.
func (r *run) check(id string, s Subject, v Verdict, why Reason, clauses ...string) {
	r.rep.Checks = append(r.rep.Checks, Line{ID: id, Subject: s, Verdict: v, Reason: why, Clauses: clauses})
}

func (r *run) notice(s Subject, why Reason) {
	r.rep.Notices = append(r.rep.Notices, Notice{Subject: s, Reason: why})
}

// because makes a reason of a key and pairs of name and value.
func because(key string, pairs ...any) Reason {
	p := make(map[string]string, len(pairs)/2)
	for i := 0; i+1 < len(pairs); i += 2 {
		p[fmt.Sprint(pairs[i])] = fmt.Sprint(pairs[i+1])
	}
	return Reason{Key: key, Params: p}
}

// formatParts takes a parse error apart for a reason.
func formatParts(err error) (code, field, offset, detail string) {
	var f *evidence.FormatError
	var m *evidence.FieldError
	switch {
	case errors.As(err, &f):
		return f.Code.String(), f.Field, fmt.Sprint(f.Offset), f.Reason
	case errors.As(err, &m):
		return m.Code, m.Field, "", m.Reason
	}
	return "malformed", "", "", err.Error()
}

// finish forms the whole from the parts: the weakest check rules.
func (r *run) finish() *Report {
	rep := r.rep
	rep.Verdict = Matches
	// What concerns the whole first, then step by step, as a reader goes.
	sort.SliceStable(rep.Checks, func(i, j int) bool { return rep.Checks[i].Subject.Step < rep.Checks[j].Subject.Step })
	for i := range rep.Checks {
		c := &rep.Checks[i]
		rep.Verdict = Weakest(rep.Verdict, c.Verdict)
		if n := c.Subject.Step; n > 0 && n <= len(rep.Steps) {
			rep.Steps[n-1].Verdict = Weakest(rep.Steps[n-1].Verdict, c.Verdict)
		}
	}
	rep.IssuerEstablished = r.trusted && r.issuersHold()
	sort.SliceStable(rep.Withheld, func(i, j int) bool { return rep.Withheld[i].Step < rep.Withheld[j].Step })
	r.summarise()
	r.notProven()
	return rep
}

// issuersHold reports whether every step has its quorum of receipts by the
// institutions of the policy.
func (r *run) issuersHold() bool {
	for _, s := range r.steps {
		if !s.reg.quorum {
			return false
		}
	}
	return len(r.steps) > 0
}

func (r *run) summarise() {
	rep := r.rep
	switch bad := rep.Count(DoesNotMatch); {
	case bad > 0:
		first := rep.Checks[0]
		for _, c := range rep.Checks {
			if c.Verdict == DoesNotMatch {
				first = c
				break
			}
		}
		rep.Summary = because("summary-does-not-match", "count", bad, "first", first.ID)
		if first.ID == "issuer" && first.Reason.Key == "alliance-other" {
			// Mostly a mix-up of files, and it would read like a forgery.
			rep.Summary = because("summary-other-alliance", "count", bad)
			return
		}
		if first.Subject.Path != "" {
			rep.Summary = because("summary-does-not-match-at", "count", bad, "first", first.ID, "path", first.Subject.Path)
		}
	case rep.Verdict == Matches:
		rep.Summary = because("summary-matches", "steps", len(rep.Steps), "alliance", rep.Basis.Name)
	case rep.Basis.Kind == "none":
		rep.Summary = because("summary-issuer-not-established", "steps", len(rep.Steps))
	case len(rep.Withheld) > 0:
		rep.Summary = because("summary-withheld", "count", len(rep.Withheld))
	default:
		rep.Summary = because("summary-undetermined", "count", rep.Count(Undetermined))
	}
}

// notProven lists what even a report that matches leaves open.
func (r *run) notProven() {
	add := func(why Reason) { r.rep.NotProven = append(r.rep.NotProven, why) }
	switch {
	case r.rep.Basis.Kind == "unread":
		add(because("not-proven-unread"))
	case !r.rep.IssuerEstablished:
		add(because("not-proven-issuer"))
	}
	add(because("not-proven-ownership"))
	add(because("not-proven-truth"))
	add(because("not-proven-unrecorded"))
	c := &r.rep.Completeness
	switch {
	case !c.Known:
		add(because("not-proven-completeness"))
	case c.OwnLog:
		add(because("not-proven-after-own-log", "size", c.TreeSize, "institution", r.rep.Court.Institution))
	default:
		add(because("not-proven-after-size", "size", c.TreeSize, "institutions", joinNames(c.Institutions)))
	}
	said := map[string]bool{}
	for i := range r.rep.Steps {
		w := &r.rep.Steps[i].Who
		if w.Institution || !w.Known || said[w.Member] {
			continue
		}
		said[w.Member] = true
		if w.Demo {
			add(because("not-proven-demo-identity", "member", w.Member))
		}
		add(because("not-proven-identity", "member", w.Member, "assurance", w.Assurance))
	}
	if len(r.rep.Recordings) > 0 {
		add(because("not-proven-recorder"))
		add(because("not-proven-for-others"))
	}
	for i := range r.rep.Steps {
		if a := r.rep.Steps[i].Act; a != nil && a.Passkey != nil && a.Passkey.Demo {
			add(because("not-proven-demo-passkey"))
			break
		}
	}
	for i := range r.rep.Steps {
		// The chain does not see which passkey a manifest names, so that no receipt
		// vouches for its status; only the court's registry knows of every revocation.
		if a := r.rep.Steps[i].Act; r.log == nil && a != nil && a.Passkey != nil && a.Passkey.Verdict == Matches {
			add(because("not-proven-passkey-status"))
			break
		}
	}
	for i := range r.rep.Timestamps {
		if t := &r.rep.Timestamps[i]; t.Demo {
			add(because("not-proven-demo-timestamp", "authority", t.Name))
			break
		}
	}
	if len(r.rep.Steps) > 0 && r.policy != nil {
		add(because("not-proven-collusion", "quorum", r.policy.Quorum, "institutions", len(r.policy.Institutions)))
	}
}

func joinNames(names []string) string {
	s := ""
	for i, n := range names {
		if i > 0 {
			s += ", "
		}
		s += n
	}
	return s
}
