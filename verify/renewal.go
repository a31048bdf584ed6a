package verify

import (
	"context"
	"crypto/sha512"
	"maps"
	"slices"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/evidence/rfc3161"
)

// round is one renewal: a list of the package's files by SHA-512, and what its
// tokens say. spec/timestamp.md, part 5.
type round struct {
	n       int
	imprint [sha512.Size]byte
	covers  map[string]bool // listed, in the package, and the same
	tokens  []renewed
	late    map[string]time.Time // tokens listed that had ended by then → when
}

// renewed is a token over the list that counts.
type renewed struct {
	info rfc3161.Info
	demo bool
}

// readRenewals judges the renewals from the newest to the oldest, since each is
// taken over by those after it.
func (r *run) readRenewals(ctx context.Context) error {
	r.rounds = map[int]*round{}
	tokens := map[int][]Timestamp{}
	for _, name := range r.withRole(evidence.RoleRenewal) {
		n, id, ok := evidence.ParseRenewalPath(name)
		if ok && id != "" && r.authority(id) != nil {
			tokens[n] = append(tokens[n], Timestamp{Path: name, Authority: id, Renewal: n, Verdict: Undetermined, Name: r.authority(id).Name})
		}
	}
	numbers := slices.Sorted(maps.Keys(tokens))
	slices.Reverse(numbers)
	sums := map[string][sha512.Size]byte{}
	for _, n := range numbers {
		whole, err := r.readList(ctx, n, sums)
		if err != nil {
			return err
		}
		for _, t := range tokens[n] {
			r.judged[t.Path] = true
			known := r.authority(t.Authority)
			if r.rounds[n] == nil {
				t.Reason = because("renewal-no-list", "number", n)
				r.tell(&t)
				continue
			}
			if info := r.readToken(&t, known); info != nil {
				r.judgeRenewal(&t, known, info, whole)
			}
			r.tell(&t)
		}
	}
	return nil
}

// readList reads the list of a renewal and compares it with the files. A listed
// file that is not in the package was withheld later, and is not covered.
func (r *run) readList(ctx context.Context, n int, sums map[string][sha512.Size]byte) (covered int, err error) {
	name := evidence.RenewalListPath(n)
	if _, there := r.files[name]; !there {
		return 0, nil
	}
	r.judged[name] = true
	data := r.readFile(name)
	entries, err := evidence.ParseRenewalList(data)
	if err != nil {
		r.check("renewal", Subject{Path: name}, DoesNotMatch, because("renewal-malformed", "detail", err), ClauseUnaltered, ClauseTimestamp)
		return 0, nil
	}
	w := &round{n: n, imprint: sha512.Sum512(data), covers: map[string]bool{}, late: map[string]time.Time{}}
	same := true
	for _, e := range entries {
		if _, there := r.files[e.Path]; !there {
			continue
		}
		sum, done := sums[e.Path]
		if !done {
			if sum, err = r.pkg.SHA512(ctx, e.Path); err != nil {
				return 0, err
			}
			sums[e.Path] = sum
		}
		if sum != e.SHA512 {
			same = false
			r.check("renewal", Subject{Path: e.Path}, DoesNotMatch, because("renewal-differs", "number", n, "path", e.Path), ClauseUnaltered, ClauseTimestamp)
			continue
		}
		w.covers[e.Path] = true
	}
	r.rounds[n] = w
	if same {
		r.check("renewal", Subject{Path: name}, Matches, because("renewal-list-holds", "number", n, "files", len(w.covers)), ClauseUnaltered, ClauseTimestamp)
	}
	return len(w.covers), nil
}

// judgeRenewal says whether a renewal's token counts.
func (r *run) judgeRenewal(t *Timestamp, known *evidence.TimestampAuthority, info *rfc3161.Info, covered int) {
	c := r.conditions(known)
	seen := r.seenBy(t, info, c, evidence.RenewalListPath(t.Renewal))
	if !seen.IsZero() {
		t.SeenBy = clockText(roundedUp(seen))
	}
	if err := info.Holds(c, seen); err != nil {
		r.fell(t, err)
		return
	}
	t.Verdict = Matches
	t.Reason = because("renewal-holds", "authority", t.Name, "number", t.Renewal, "token_time", t.Time, "after_time", t.NotAfter, "files", covered)
	if t.Demo {
		t.Reason = because("renewal-holds-demo", "authority", t.Name, "number", t.Renewal, "token_time", t.Time, "after_time", t.NotAfter, "files", covered)
	}
	w := r.rounds[t.Renewal]
	w.tokens = append(w.tokens, renewed{*info, t.Demo})
}

// seenBy returns the earliest time by which a later renewal shows a token, with
// the file it stamps, to have existed while it could still be renewed; zero when
// none does. A demonstration's renewal shows nothing of a real token.
func (r *run) seenBy(t *Timestamp, info *rfc3161.Info, c rfc3161.Conditions, file string) (earliest time.Time) {
	for n, w := range r.rounds {
		if n <= t.Renewal || !w.covers[t.Path] || !w.covers[file] {
			continue
		}
		for _, v := range w.tokens {
			at := v.info.Latest()
			if at.Before(info.Earliest().Add(-ClockTolerance * time.Second)) {
				r.check("renewal", Subject{Path: t.Path}, DoesNotMatch, because("renewal-contradiction", "number", n, "renewal_time", clockText(at.Unix()), "token_time", t.Time), ClauseBefore, ClauseTimestamp)
				continue
			}
			if v.demo && !t.Demo {
				continue
			}
			if info.Renewable(c, at) != nil {
				w.late[t.Path] = at
				continue
			}
			if earliest.IsZero() || at.Before(earliest) {
				earliest = at
			}
		}
	}
	return earliest
}

// lateRenewals tells of tokens that a renewal lists and came too late for.
func (r *run) lateRenewals() {
	for _, n := range slices.Sorted(maps.Keys(r.rounds)) {
		w := r.rounds[n]
		for i := range r.rep.Timestamps {
			t := &r.rep.Timestamps[i]
			if at, late := w.late[t.Path]; late && t.SeenBy == "" {
				r.notice(Subject{Path: t.Path}, because("renewal-late", "number", n, "renewal_time", clockText(at.Unix()), "path", t.Path))
			}
		}
	}
}

// checkDigestsRenewed says what is left of a package whose digests, SHA-256, the
// policy calls broken: as much as renewals by SHA-512 of before show.
func (r *run) checkDigestsRenewed() {
	if r.policy == nil || !r.trusted {
		return
	}
	for i := range r.policy.BrokenAlgorithms {
		b := &r.policy.BrokenAlgorithms[i]
		if b.Algorithm != "SHA-256" {
			continue
		}
		open, by := 0, time.Time{}
		for _, f := range r.pkg.Index.Files {
			switch f.Role {
			case evidence.RoleReadme, evidence.RoleTimestamp, evidence.RoleStatementTime, evidence.RoleRenewal, evidence.RoleInstitutionKey, evidence.RoleMemberKey:
				continue
			}
			at, covered := r.fileSeenBy(f.Path)
			if !covered || !at.Before(b.Time()) {
				open++
				continue
			}
			if at.After(by) {
				by = at
			}
		}
		if open > 0 {
			r.check("renewal", Subject{}, Undetermined, because("digests-broken", "algorithm", b.Algorithm, "broken_time", clockText(b.Time().Unix()), "count", open), ClauseUnaltered, ClauseTimestamp)
			return
		}
		r.check("renewal", Subject{}, Matches, because("digests-renewed", "algorithm", b.Algorithm, "broken_time", clockText(b.Time().Unix()), "after_time", clockText(roundedUp(by))), ClauseUnaltered, ClauseTimestamp)
	}
}

// fileSeenBy returns the earliest time by which a renewal's token shows a file.
func (r *run) fileSeenBy(name string) (earliest time.Time, ok bool) {
	for _, w := range r.rounds {
		if !w.covers[name] {
			continue
		}
		for _, v := range w.tokens {
			if at := v.info.Latest(); !v.demo && (!ok || at.Before(earliest)) {
				earliest, ok = at, true
			}
		}
	}
	return earliest, ok
}
