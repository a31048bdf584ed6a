package verify

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/zhenglian/zhenglian/evidence"
)

// ClockTolerance is how far, in seconds, a signer's clock may be off before the
// report shows it. The chain refuses statements further ahead than this.
const ClockTolerance = 600

// checkCheckpoints verifies each cosigned checkpoint of the package. The time
// of one that holds is the earliest of its cosignatures: one honest institution
// among the quorum is enough for it not to be too late.
func (r *run) checkCheckpoints() {
	for _, name := range r.withRole(evidence.RoleCheckpoint) {
		r.judged[name] = true
		at := Subject{Path: name}
		fail := func(s Subject, why Reason) {
			r.check("checkpoint", s, DoesNotMatch, why, ClauseBefore, ClauseCheckpoint)
		}
		cp, err := evidence.ParseCheckpoint(r.readFile(name))
		if err != nil {
			code, field, _, detail := formatParts(err)
			fail(at, because("checkpoint-malformed", "code", code, "field", field, "detail", detail))
			continue
		}
		switch {
		case "checkpoints/"+strconv.FormatUint(cp.Size, 10) != name:
			fail(at, because("checkpoint-size", "found", cp.Size))
			continue
		case r.policy == nil:
			r.check("checkpoint", at, Undetermined, because("no-keys"), ClauseBefore, ClauseCheckpoint)
			continue
		case cp.Origin != r.policy.Origin:
			fail(at, because("checkpoint-origin", "found", cp.Origin, "origin", r.policy.Origin))
			continue
		}
		r.checkCosignatures(at, cp)
	}
}

func (r *run) checkCosignatures(at Subject, cp *evidence.CosignedCheckpoint) {
	valid := map[string]int64{}
	open := 0 // cosignatures by keys that the policy does not know
	for _, sig := range cp.Cosignatures {
		s := at
		inst, ours := strings.CutPrefix(sig.Name, cp.Origin+"/")
		if !ours || r.policy.Institution(inst) == nil {
			r.notice(at, because("cosigner-unknown", "name", sig.Name))
			continue
		}
		s.Institution = inst
		ok := false
		for _, key := range r.policy.Keys(inst, evidence.UseCosign, cp.Size) {
			ok = ok || cp.VerifyCosignature(sig, key) == nil
		}
		if !ok && r.unknownCosigner(inst, sig) {
			open++
			r.check("checkpoint", s, Undetermined, because("key-unknown", "institution", inst, "key", hex.EncodeToString(sig.KeyID[:])), ClausePlatform, ClauseCheckpoint)
			continue
		}
		if !ok {
			r.check("checkpoint", s, DoesNotMatch, because("cosignature-wrong", "institution", inst), ClauseBefore, ClauseCheckpoint)
			continue
		}
		if t, twice := valid[inst]; !twice || sig.Time < t {
			valid[inst] = sig.Time
		}
	}
	if have, need := len(valid), r.policy.Quorum; have < need && have+open >= need {
		r.check("checkpoint", at, Undetermined, because("quorum-unknown", "have", have, "need", need, "unknown", open), ClauseBefore, ClauseCheckpoint)
		return
	}
	if have, need := len(valid), r.policy.Quorum; have < need {
		r.check("checkpoint", at, DoesNotMatch, because("checkpoint-quorum", "have", have, "need", need), ClauseBefore, ClauseCheckpoint)
		return
	}
	if !r.sameRoot(at, cp.Size, cp.Root, 0) {
		return
	}
	first := int64(-1)
	for _, t := range valid {
		if first < 0 || t < first {
			first = t
		}
	}
	r.checkpoints[cp.Size] = witnessed{root: cp.Root, time: first}
	r.check("checkpoint", at, Matches, because("checkpoint-holds", "size", cp.Size, "have", len(valid), "first_time", clockText(first)), ClauseBefore, ClauseCheckpoint)
}

// unknownCosigner reports whether none of the institution's cosigning keys, at
// whatever size, has the id that the line names.
func (r *run) unknownCosigner(inst string, sig evidence.Cosignature) bool {
	return !slices.ContainsFunc(r.policy.AllKeys(inst, evidence.UseCosign), func(k *evidence.PublicKey) bool {
		return evidence.CosignerKeyID(sig.Name, k) == sig.KeyID
	})
}

// witnessed is a checkpoint that a quorum cosigned.
type witnessed struct {
	root evidence.Digest
	time int64
}

// checkTimes brackets each step and compares the signer's clock with it.
func (r *run) checkTimes(ctx context.Context) error {
	for _, s := range r.steps {
		if s.stmt == nil {
			continue
		}
		after, known, err := r.checkAfter(ctx, s)
		if err != nil {
			return err
		}
		b := &r.rep.Steps[s.n-1].Time
		if known && s.stmt.After.Size > 0 {
			b.NotBefore = clockText(after)
		}
		at := s.at()
		if !s.reg.quorum {
			r.check("time", at, Undetermined, because("time-no-quorum"), ClauseBefore, ClauseUnaltered)
			continue
		}
		b.NotAfter = clockText(s.reg.notAfter)
		r.bracketToken(s, b)
		switch {
		case !known:
			// checkAfter has said why there is no lower end.
		case s.stmt.After.Size == 0:
			r.check("time", at, Matches, because("time-no-lower", "after_time", b.NotAfter), ClauseBefore, ClauseUnaltered)
		case after > s.reg.notAfter+ClockTolerance:
			r.check("time", at, DoesNotMatch, because("time-contradiction", "before_time", b.NotBefore, "after_time", b.NotAfter), ClauseBefore, ClausePlatform)
		default:
			r.check("time", at, Matches, because("time-bracket", "before_time", b.NotBefore, "after_time", b.NotAfter), ClauseBefore, ClauseUnaltered)
		}
		r.checkClock(s, at, after, known && s.stmt.After.Size > 0)
	}
	return nil
}

// checkAfter verifies the checkpoint that the signer had seen, and returns its
// time. known is false when the package does not show it; a check says so.
func (r *run) checkAfter(ctx context.Context, s *step) (seconds int64, known bool, err error) {
	at, after := s.at(), s.stmt.After
	fail := func(why Reason) (int64, bool, error) {
		r.check("after", at, DoesNotMatch, why, ClauseBefore)
		return 0, false, nil
	}
	if after.Size == 0 {
		if after.Root != evidence.SumSHA256(nil) { // RFC 9162 §2.1.1: the empty tree
			return fail(because("after-empty-root"))
		}
		return 0, true, nil
	}
	if s.reg.seen && after.Size > s.reg.position {
		return fail(because("after-later", "size", after.Size, "position", s.reg.position))
	}
	if seen, ok := r.roots[after.Size]; ok && seen.root != after.Root {
		return fail(because("after-root", "size", after.Size, "root", after.Root, "other", seen.root, "path", seen.by.Path))
	}
	if r.log != nil {
		root, inLog, err := r.opts.Log.Root(ctx, after.Size)
		if err != nil {
			return 0, false, fmt.Errorf("asking the log for its root at size %d: %w", after.Size, err)
		}
		if inLog && root != after.Root {
			return fail(because("after-not-in-log", "size", after.Size, "root", after.Root, "other", root))
		}
	}
	cp, ok := r.checkpoints[after.Size]
	if !ok {
		r.check("time", at, Undetermined, because("after-not-shown", "size", after.Size), ClauseBefore)
		return 0, false, nil
	}
	return cp.time, true, nil
}

// checkClock compares the signer's claim with the bracket. A claim outside is
// shown with the difference; only one that the chain would have refused is
// wrong.
func (r *run) checkClock(s *step, at Subject, notBefore int64, lower bool) {
	b := &r.rep.Steps[s.n-1].Time
	claim := s.stmt.IssuedAt
	switch {
	case claim > s.reg.notAfter:
		b.ClockOffSeconds = claim - s.reg.notAfter
	case lower && claim < notBefore:
		b.ClockOffSeconds = claim - notBefore
	}
	switch off := b.ClockOffSeconds; {
	case off > ClockTolerance:
		r.check("clock", at, DoesNotMatch, because("clock-ahead", "claimed_time", b.Claimed, "after_time", b.NotAfter, "off_seconds", off), ClauseBefore)
	case off < -ClockTolerance:
		r.notice(Subject{Step: s.n}, because("clock-behind", "claimed_time", b.Claimed, "before_time", b.NotBefore, "off_seconds", -off))
		r.check("clock", at, Matches, because("clock-claim-behind", "claimed_time", b.Claimed, "off_seconds", -off), ClauseBefore)
	case !lower && claim < s.reg.notAfter-ClockTolerance:
		b.ClockOffSeconds = claim - s.reg.notAfter
		r.notice(Subject{Step: s.n}, because("clock-behind-no-lower", "claimed_time", b.Claimed, "after_time", b.NotAfter, "off_seconds", s.reg.notAfter-claim))
		r.check("clock", at, Matches, because("clock-claim-behind", "claimed_time", b.Claimed, "off_seconds", s.reg.notAfter-claim), ClauseBefore)
	default:
		r.check("clock", at, Matches, because("clock-fits", "claimed_time", b.Claimed), ClauseBefore)
	}
}
