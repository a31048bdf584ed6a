package verify

import (
	"slices"

	"github.com/zhenglian/zhenglian/evidence"
)

// owner returns the step that opens the trail, nil when it is not there.
func (r *run) owner() *step {
	for _, s := range r.steps {
		if s.stmt != nil && s.stmt.Subject == evidence.SubjectNewTrail && s.digest == r.pkg.Index.Trail {
			return s
		}
	}
	return nil
}

// checkTrail judges the links: one opening, each statement naming the one
// before it, ascending places in the log, and only signers with a right.
func (r *run) checkTrail() {
	r.rep.Trail = r.pkg.Index.Trail
	byDigest := map[evidence.Digest]int{}
	for _, s := range r.steps {
		if s.stmt == nil {
			continue
		}
		if first, twice := byDigest[s.digest]; twice {
			r.check("link", s.at(), DoesNotMatch, because("link-twice", "step", first), ClauseBefore)
			continue
		}
		byDigest[s.digest] = s.n
	}
	for i, s := range r.steps {
		if s.stmt != nil {
			r.checkLink(i, s, byDigest)
		}
	}
	r.checkAuthority()
}

func (r *run) checkLink(i int, s *step, byDigest map[evidence.Digest]int) {
	fail := func(why Reason) { r.check("link", s.at(), DoesNotMatch, why, ClauseBefore, ClauseUnaltered) }
	trail, ok := s.stmt.Trail()
	if !ok || trail != r.pkg.Index.Trail {
		fail(because("link-foreign", "trail", r.pkg.Index.Trail, "subject", s.stmt.Subject))
		return
	}
	if i == 0 {
		if s.stmt.Subject != evidence.SubjectNewTrail {
			fail(because("link-no-opening", "trail", trail))
			return
		}
		r.check("link", s.at(), Matches, because("link-opens", "trail", trail), ClauseBefore)
		return
	}
	before := r.steps[i-1]
	if s.stmt.Prev != before.digest {
		if other, known := byDigest[s.stmt.Prev]; known {
			fail(because("link-order", "prev", other, "before", before.n))
		} else {
			fail(because("link-gap", "prev", s.stmt.Prev, "before", before.n))
		}
		return
	}
	switch {
	case !s.reg.seen || !before.reg.seen:
		r.check("link", s.at(), Undetermined, because("link-position-unknown", "before", before.n), ClauseBefore)
	case s.reg.position <= before.reg.position:
		fail(because("link-position", "position", s.reg.position, "before", before.n, "earlier", before.reg.position))
	default:
		r.check("link", s.at(), Matches, because("link-follows", "before", before.n, "position", s.reg.position), ClauseBefore, ClauseUnaltered)
	}
}

// rights keeps who may add to a trail while its statements are read in order.
type rights struct {
	owner   evidence.Digest
	granted map[evidence.Digest]uint64
}

// may reports whether the key may add a statement of that kind now. Only the
// owner gives and withdraws rights.
func (a *rights) may(s *evidence.Statement) bool {
	if s.KID == a.owner {
		return true
	}
	return s.ContentType == evidence.TypeDeposit && a.granted[s.KID]&evidence.RightAppend != 0
}

func (a *rights) apply(s *evidence.Statement) {
	if s.ContentType != evidence.TypeAuthorisation || s.KID != a.owner {
		return
	}
	if grant, err := evidence.ParseAuthorisation(s.Payload); err == nil {
		a.granted[grant.KID] = grant.Rights
	}
}

func (r *run) checkAuthority() {
	opening := r.owner()
	var a *rights
	for _, s := range r.steps {
		if s.stmt == nil {
			continue
		}
		at := s.at()
		at.Key = s.stmt.KID.String()
		switch {
		case s == opening:
			a = &rights{owner: s.stmt.KID, granted: map[evidence.Digest]uint64{}}
			r.rep.Steps[s.n-1].Who.Owner = true
			r.check("authority", at, Matches, because("authority-opens"), ClauseBefore)
		case a == nil:
			r.check("authority", at, Undetermined, because("authority-no-opening"), ClauseBefore)
		case !a.may(s.stmt):
			r.check("authority", at, DoesNotMatch, because("authority-none", "signer", s.stmt.Issuer), ClauseBefore)
		case s.stmt.KID == a.owner:
			r.rep.Steps[s.n-1].Who.Owner = true
			r.check("authority", at, Matches, because("authority-owner"), ClauseBefore)
		default:
			r.check("authority", at, Matches, because("authority-granted", "signer", s.stmt.Issuer), ClauseBefore)
		}
		if a != nil {
			a.apply(s.stmt)
		}
	}
}

// checkHeads compares the package with the trail heads that institutions
// signed: how many statements the trail had, as of a size of the log.
func (r *run) checkHeads() {
	type verdict struct {
		inst string
		head *evidence.TrailHead
	}
	var good []verdict
	for _, h := range r.receiptFiles(r.withRole(evidence.RoleHead)) {
		r.judged[h.path] = true
		at := Subject{Institution: h.institution, Path: h.path}
		fail := func(why Reason) { r.check("trail-head", at, DoesNotMatch, why, ClauseBefore, ClausePlatform) }
		head, err := evidence.ParseTrailHead(h.data)
		if err != nil {
			code, field, offset, detail := formatParts(err)
			fail(because("head-malformed", "code", code, "field", field, "offset", offset, "detail", detail))
			continue
		}
		at.Key = head.KID.String()
		switch {
		case head.Institution != h.institution:
			fail(because("receipt-issuer", "issuer", head.Institution, "institution", h.institution))
			continue
		case head.Trail != r.pkg.Index.Trail:
			fail(because("head-foreign", "trail", head.Trail))
			continue
		case r.policy == nil:
			r.check("trail-head", at, Undetermined, because("no-keys"), ClauseBefore)
			continue
		case r.policy.Institution(h.institution) == nil:
			r.check("trail-head", at, Undetermined, because("institution-unknown", "institution", h.institution), ClausePlatform)
			continue
		}
		inst, key, ok := r.policy.ByKID(head.KID, evidence.UseAttest, head.Size)
		if !ok && r.unknownKey(head.KID) {
			r.check("trail-head", at, Undetermined, because("key-unknown", "institution", h.institution, "key", head.KID), ClausePlatform)
			continue
		}
		if !ok || inst != h.institution || head.Verify(key) != nil {
			fail(because("head-signature", "institution", h.institution))
			continue
		}
		// A head is dated by the newest block, which may have added nothing to
		// the log of that size: its time is not compared.
		if !r.sameRoot(at, head.Size, head.Root, 0) {
			continue
		}
		r.check("trail-head", at, Matches, because("head-holds", "institution", h.institution, "count", head.Count, "size", head.Size), ClauseBefore, ClausePlatform)
		good = append(good, verdict{h.institution, head})
	}
	if r.log != nil {
		return // the court's own log has said it already, and later
	}
	if len(good) == 0 {
		r.check("completeness", Subject{}, Undetermined, because("complete-no-head"), ClauseBefore)
		return
	}
	slices.SortStableFunc(good, func(a, b verdict) int {
		switch {
		case a.head.Size > b.head.Size:
			return -1
		case a.head.Size < b.head.Size:
			return 1
		}
		return 0
	})
	worst := Matches
	for _, g := range good {
		worst = Weakest(worst, r.checkHead(g.inst, g.head))
	}
	top := good[0].head
	c := &r.rep.Completeness
	c.Known, c.TreeSize, c.Count = worst == Matches, top.Size, top.Count
	for _, g := range good {
		if g.head.Size == top.Size {
			c.Institutions = append(c.Institutions, g.inst)
		}
	}
	slices.Sort(c.Institutions)
}

// checkHead compares the steps below the head's size with its count and last.
func (r *run) checkHead(inst string, head *evidence.TrailHead) Verdict {
	at := Subject{Institution: inst, Path: headPath(inst)}
	var have uint64
	var last evidence.Digest
	for _, s := range r.steps {
		if s.stmt != nil && s.reg.seen && s.reg.position < head.Size {
			have++
			last = s.digest
		}
	}
	switch {
	case have == head.Count && last == head.Last:
		r.check("completeness", at, Matches, because("complete", "count", head.Count, "size", head.Size, "institution", inst), ClauseBefore)
		return Matches
	case have < head.Count:
		r.listMissing(head, have)
		r.check("completeness", at, Undetermined, because("complete-withheld", "count", head.Count, "have", have, "missing", head.Count-have, "size", head.Size, "institution", inst), ClauseBefore)
		return Undetermined
	}
	r.check("completeness", at, DoesNotMatch, because("complete-contradiction", "count", head.Count, "have", have, "size", head.Size, "institution", inst), ClauseBefore)
	return DoesNotMatch
}

// listMissing lists the statements that the head counts and the package lacks.
// Of all but the last, a head tells only that they exist.
func (r *run) listMissing(head *evidence.TrailHead, have uint64) {
	for _, w := range r.rep.Withheld {
		if w.What == "statement" {
			return // another institution's head has told
		}
	}
	for n := have + 1; n <= head.Count && n-have <= maxListed; n++ {
		w := Withheld{What: "statement", Number: n}
		if n == head.Count {
			w.Entry = head.Last
		}
		r.rep.Withheld = append(r.rep.Withheld, w)
	}
}

// maxListed bounds what a head's count can make the report list; the count
// itself is in the completeness line.
const maxListed = 1000
