package verify

import (
	"sort"

	"github.com/zhenglian/zhenglian/evidence"
)

// registered is what the receipts of one statement show.
type registered struct {
	seen      bool   // some receipt verified
	position  uint64 // of the receipts that verified
	quorum    bool
	notAfter  int64 // block time by which a quorum had it, 0 without a quorum
	size      uint64
	witnesses []Witness
}

// receiptFile is one receipt in the package.
type receiptFile struct {
	institution string // as the file name says
	path        string
	data        []byte
}

// checkReceipts verifies each receipt for the entry and counts the institutions.
// step is 0 for statements of the registry. position is what the index says, or
// nil where the index says nothing.
func (r *run) checkReceipts(at Subject, entry evidence.Digest, position *uint64, files []receiptFile) (reg registered) {
	times := map[string]int64{}  // institution → block time of its receipt
	unknown := map[string]bool{} // institutions whose receipt is by a key that the policy does not know
	for _, f := range files {
		s := at
		s.Institution, s.Path = f.institution, f.path
		r.judged[f.path] = true
		rec, ok := r.checkReceipt(s, entry, position, f)
		if !ok {
			if rec != nil {
				unknown[f.institution] = true
			}
			continue
		}
		if reg.seen && rec.LeafIndex != reg.position {
			r.check("receipt", s, DoesNotMatch, because("receipt-other-position", "position", rec.LeafIndex, "other", reg.position), ClauseUnaltered, ClauseReceipt)
			continue
		}
		reg.seen, reg.position, reg.size = true, rec.LeafIndex, max(reg.size, rec.Size)
		if t, twice := times[f.institution]; !twice || rec.IssuedAt < t {
			times[f.institution] = rec.IssuedAt
		}
		reg.witnesses = append(reg.witnesses, Witness{Institution: f.institution, TreeSize: rec.Size, Time: clockText(rec.IssuedAt)})
	}
	if r.policy == nil {
		r.check("quorum", at, Undetermined, because("no-keys"), ClauseUnaltered, ClausePlatform)
		return reg
	}
	need, have := r.policy.Quorum, len(times)
	for inst := range times {
		delete(unknown, inst)
	}
	if have < need && have+len(unknown) >= need {
		r.check("quorum", at, Undetermined, because("quorum-unknown", "have", have, "need", need, "unknown", len(unknown)), ClauseUnaltered, ClausePlatform)
		return reg
	}
	if have < need {
		why := because("quorum-missing", "have", have, "need", need, "institutions", len(r.policy.Institutions))
		r.check("quorum", at, DoesNotMatch, why, ClauseUnaltered, ClausePlatform)
		return reg
	}
	reg.quorum = true
	iats := make([]int64, 0, have)
	for _, t := range times {
		iats = append(iats, t)
	}
	sort.Slice(iats, func(i, j int) bool { return iats[i] < iats[j] })
	reg.notAfter = iats[need-1]
	r.check("quorum", at, Matches, because("quorum-reached", "have", have, "need", need, "institutions", len(r.policy.Institutions)), ClauseUnaltered, ClausePlatform)
	return reg
}

// checkReceipt verifies one receipt; one by a key that the policy does not know
// is returned though it is not ok. It looks at: its form, whose it is, its signature over
// size and root that its path leads to, its place in the log, and that this root is
// the one that every other signature in the package has at that size.
func (r *run) checkReceipt(s Subject, entry evidence.Digest, position *uint64, f receiptFile) (*evidence.Receipt, bool) {
	fail := func(why Reason) (*evidence.Receipt, bool) {
		r.check("receipt", s, DoesNotMatch, why, ClauseUnaltered, ClauseReceipt)
		return nil, false
	}
	rec, err := evidence.ParseReceipt(f.data)
	if err != nil {
		code, field, offset, detail := formatParts(err)
		return fail(because("receipt-malformed", "code", code, "field", field, "offset", offset, "detail", detail))
	}
	s.Key = rec.KID.String()
	if rec.Issuer != f.institution {
		return fail(because("receipt-issuer", "issuer", rec.Issuer, "institution", f.institution))
	}
	if r.policy == nil {
		r.check("receipt", s, Undetermined, because("no-keys"), ClauseUnaltered, ClauseReceipt)
		return nil, false
	}
	if r.policy.Institution(f.institution) == nil {
		r.check("receipt", s, Undetermined, because("institution-unknown", "institution", f.institution), ClausePlatform, ClauseReceipt)
		return nil, false
	}
	if rec.Log != r.policy.Origin {
		return fail(because("receipt-log", "found", rec.Log, "origin", r.policy.Origin))
	}
	inst, key, ok := r.policy.ByKID(rec.KID, evidence.UseReceipt, rec.Size)
	if !ok && r.unknownKey(rec.KID) {
		if r.open == nil {
			r.open = map[evidence.Digest]string{}
		}
		r.open[rec.KID] = f.institution
		r.check("receipt", s, Undetermined, because("key-unknown", "institution", f.institution, "key", rec.KID), ClausePlatform, ClauseReceipt)
		return rec, false
	}
	if !ok || inst != f.institution {
		return fail(because("receipt-key", "institution", f.institution, "size", rec.Size))
	}
	root, err := rec.Root(entry)
	if err != nil {
		return fail(because("receipt-path", "position", rec.LeafIndex, "size", rec.Size, "detail", err))
	}
	if err := rec.Verify(key, root); err != nil {
		return fail(because("receipt-signature", "institution", f.institution, "position", rec.LeafIndex, "size", rec.Size))
	}
	if position != nil && rec.LeafIndex != *position {
		return fail(because("receipt-position", "position", rec.LeafIndex, "index", *position))
	}
	if !r.sameRoot(s, rec.Size, root, rec.IssuedAt) {
		return nil, false
	}
	r.noteCompromised(inst, rec.KID)
	r.check("receipt", s, Matches, because("receipt-holds", "institution", f.institution, "position", rec.LeafIndex, "size", rec.Size, "block_time", clockText(rec.IssuedAt)), ClauseUnaltered, ClauseReceipt, ClauseMerkle)
	return rec, true
}

// sameRoot compares a signed root with the others of its size. Two signed roots
// of one size prove that an institution showed two logs.
func (r *run) sameRoot(s Subject, size uint64, root evidence.Digest, iat int64) bool {
	first, ok := r.roots[size]
	switch {
	case !ok:
		r.roots[size] = rootSeen{root: root, by: s, iat: iat}
		return true
	case first.root != root:
		r.check("roots", s, DoesNotMatch, because("two-roots", "size", size, "root", root, "other", first.root, "path", first.by.Path), ClausePlatform, ClauseMerkle)
		return false
	case iat != 0 && first.iat == 0:
		first.iat = iat
		r.roots[size] = first
	case iat != 0 && first.iat != iat:
		r.check("roots", s, DoesNotMatch, because("two-block-times", "size", size, "a_time", clockText(iat), "b_time", clockText(first.iat), "path", first.by.Path), ClausePlatform, ClauseReceipt)
		return false
	}
	return true
}
