package verify

import (
	"context"
	"crypto"
	"crypto/sha256"
	"errors"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/evidence/rfc3161"
)

// stamped is a token that counts, over a checkpoint or a statement that holds.
type stamped struct {
	size     uint64 // of the checkpoint; 0: over the statement of step
	step     int
	notAfter int64 // seconds, rounded up
	report   *Timestamp
}

// checkTimestamps verifies each RFC 3161 token by the authority that the policy
// knows under its name. Where the policy knows none, no verdict rests on the
// token, and it is listed as open: a token that anybody can add must not weigh
// against what the quorum signed. The same holds where the policy says that the
// authority's key or an algorithm has fallen and no renewal shows that the token
// is older. Renewals come first, since they say that.
func (r *run) checkTimestamps(ctx context.Context) error {
	if err := r.readRenewals(ctx); err != nil {
		return err
	}
	for _, name := range r.withRole(evidence.RoleTimestamp) {
		num, _, _ := strings.Cut(path.Base(name), ".")
		size, err := strconv.ParseUint(num, 10, 64)
		if err != nil {
			continue // OpenPackage has held the path to its grammar
		}
		r.checkToken(Timestamp{Path: name, Authority: institutionOf(name), Size: size})
	}
	for _, name := range r.withRole(evidence.RoleStatementTime) {
		num, _, _ := strings.Cut(path.Base(name), ".")
		n, err := strconv.Atoi(num)
		if err != nil || n < 1 || n > len(r.steps) {
			continue
		}
		r.checkToken(Timestamp{Path: name, Authority: institutionOf(name), Step: n})
	}
	r.lateRenewals()
	r.checkDigestsRenewed()
	return r.err
}

// authority returns the policy's authority of that id, nil when it has none.
func (r *run) authority(id string) *evidence.TimestampAuthority {
	if r.policy == nil || !r.trusted {
		return nil
	}
	return r.policy.TimestampAuthority(id)
}

// conditions are what the policy has against an authority and against algorithms.
func (r *run) conditions(known *evidence.TimestampAuthority) rfc3161.Conditions {
	var c rfc3161.Conditions
	for i := range known.Revoked {
		v := &known.Revoked[i]
		c.Revoked = append(c.Revoked, rfc3161.Revocation{Certificate: v.Certificate, At: v.Time(), Orderly: v.Orderly()})
	}
	for i := range r.policy.BrokenAlgorithms {
		b := &r.policy.BrokenAlgorithms[i]
		c.Broken = append(c.Broken, rfc3161.Broken{Algorithm: b.Algorithm, Since: b.Time()})
	}
	return c
}

// checkToken judges a token over a checkpoint or a statement and adds it to the
// report.
func (r *run) checkToken(t Timestamp) {
	t.Verdict = Undetermined
	known := r.authority(t.Authority)
	if known == nil {
		t.Reason = because("unchecked-timestamp", "authority", t.Authority)
		r.rep.Timestamps = append(r.rep.Timestamps, t)
		return // checkAccounted lists the file
	}
	r.judged[t.Path] = true
	t.Name = known.Name
	info := r.readToken(&t, known)
	if info != nil && !r.contradicted(&t, info) {
		r.judgeStanding(&t, known, info)
	}
	r.tell(&t)
}

// tell adds a token to the report, with a check unless nothing rests on it.
func (r *run) tell(t *Timestamp) {
	r.rep.Timestamps = append(r.rep.Timestamps, *t)
	if t.Verdict == Undetermined && fallen(t.Reason) {
		r.rep.Unchecked = append(r.rep.Unchecked, Unchecked{t.Path, t.Reason})
		return
	}
	at := Subject{Path: t.Path, Step: t.Step}
	r.check("timestamp", at, t.Verdict, t.Reason, ClauseBefore, ClauseTimestamp)
}

func fallen(why Reason) bool {
	return why.Key == "timestamp-compromised" || why.Key == "timestamp-broken"
}

// stampedFile returns what a token is over: the imprint and the package's file
// that holds it. ok is false when that does not hold, and t says so.
func (r *run) stampedFile(t *Timestamp) (hash crypto.Hash, imprint []byte, file string, ok bool) {
	switch {
	case t.Renewal > 0:
		round := r.rounds[t.Renewal]
		return crypto.SHA512, round.imprint[:], evidence.RenewalListPath(t.Renewal), true
	case t.Step > 0:
		s := r.steps[t.Step-1]
		return crypto.SHA256, s.digest[:], s.index.Statement, true
	}
	cp, known := r.checkpoints[t.Size]
	if !known {
		t.Reason = because("timestamp-no-checkpoint", "size", t.Size)
		return 0, nil, "", false
	}
	body := evidence.CosignedCheckpoint{Origin: r.policy.Origin, Checkpoint: evidence.Checkpoint{Size: t.Size, Root: cp.root}}
	sum := sha256.Sum256([]byte(body.Body()))
	return crypto.SHA256, sum[:], checkpointPath(t.Size), true
}

func checkpointPath(size uint64) string { return "checkpoints/" + strconv.FormatUint(size, 10) }

// readToken verifies a token at its own time and fills what it says; nil when it
// does not hold, and t says why.
func (r *run) readToken(t *Timestamp, known *evidence.TimestampAuthority) *rfc3161.Info {
	hash, imprint, _, ok := r.stampedFile(t)
	if !ok {
		return nil
	}
	info, err := rfc3161.VerifyDigest(r.readFile(t.Path), hash, imprint, rfc3161.Trust{Anchors: known.Anchors()})
	if err != nil {
		r.refuse(t, err)
		return nil
	}
	t.Time, t.Policy, t.Demo = clockText(info.Time.Unix()), info.Policy, info.Demo || known.Demonstration
	t.NotAfter = clockText(roundedUp(info.Latest()))
	t.CertificateEnds = clockText(info.Ends().Unix())
	if info.Accuracy > 0 {
		t.AccuracyMillis = int64((info.Accuracy + time.Millisecond - 1) / time.Millisecond)
	}
	return &info
}

func roundedUp(t time.Time) int64 { return t.Add(time.Second - time.Nanosecond).Unix() }

// refuse says that a token does not hold.
func (r *run) refuse(t *Timestamp, err error) {
	t.Verdict = DoesNotMatch
	code := "malformed"
	var e *rfc3161.Error
	if errors.As(err, &e) {
		code = string(e.Code)
	}
	switch {
	case t.Renewal > 0:
		t.Reason = because("renewal-refused", "authority", t.Name, "number", t.Renewal, "code", code, "detail", err)
	case t.Step > 0:
		t.Reason = because("timestamp-statement-refused", "authority", t.Name, "step", t.Step, "code", code, "detail", err)
	default:
		t.Reason = because("timestamp-refused", "authority", t.Name, "size", t.Size, "code", code, "detail", err)
	}
}

// contradicted compares a token with the time by which what it stamps cannot have
// been there: that of the checkpoint by the quorum, or for a statement that of
// the checkpoint it names. What was stamped earlier than it was made has a wrong
// clock behind one of them, or a stolen key.
func (r *run) contradicted(t *Timestamp, info *rfc3161.Info) bool {
	latest := roundedUp(info.Latest())
	if t.Step > 0 {
		s := r.steps[t.Step-1]
		if s.stmt == nil {
			return false
		}
		cp, shown := r.checkpoints[s.stmt.After.Size]
		if !shown || cp.root != s.stmt.After.Root || latest >= cp.time-ClockTolerance {
			return false
		}
		t.Verdict = DoesNotMatch
		t.Reason = because("timestamp-statement-contradiction", "authority", t.Name, "token_time", t.Time, "before_time", clockText(cp.time), "size", s.stmt.After.Size, "step", t.Step)
		return true
	}
	made := r.roots[t.Size].iat
	if made == 0 {
		made = r.checkpoints[t.Size].time
	}
	if latest >= made-ClockTolerance {
		return false
	}
	t.Verdict = DoesNotMatch
	t.Reason = because("timestamp-contradiction", "authority", t.Name, "token_time", t.Time, "block_time", clockText(made), "size", t.Size)
	return true
}

// judgeStanding says whether a token that verified still counts, and keeps it
// when it does.
func (r *run) judgeStanding(t *Timestamp, known *evidence.TimestampAuthority, info *rfc3161.Info) {
	_, _, file, _ := r.stampedFile(t)
	c := r.conditions(known)
	seen := r.seenBy(t, info, c, file)
	if !seen.IsZero() {
		t.SeenBy = clockText(roundedUp(seen))
	}
	if err := info.Holds(c, seen); err != nil {
		r.fell(t, err)
		return
	}
	t.Verdict = Matches
	switch {
	case t.Demo && t.Step > 0:
		t.Reason = because("timestamp-statement-holds-demo", "authority", t.Name, "step", t.Step, "token_time", t.Time, "after_time", t.NotAfter)
	case t.Demo:
		t.Reason = because("timestamp-holds-demo", "authority", t.Name, "size", t.Size, "token_time", t.Time, "after_time", t.NotAfter)
	case info.Accuracy == 0 && t.Step > 0:
		t.Reason = because("timestamp-statement-holds-no-accuracy", "authority", t.Name, "step", t.Step, "token_time", t.Time)
	case info.Accuracy == 0:
		t.Reason = because("timestamp-holds-no-accuracy", "authority", t.Name, "size", t.Size, "token_time", t.Time)
	case t.Step > 0:
		t.Reason = because("timestamp-statement-holds", "authority", t.Name, "step", t.Step, "token_time", t.Time, "after_time", t.NotAfter)
	default:
		t.Reason = because("timestamp-holds", "authority", t.Name, "size", t.Size, "token_time", t.Time, "after_time", t.NotAfter)
	}
	r.tokens = append(r.tokens, stamped{size: t.Size, step: t.Step, notAfter: roundedUp(info.Latest()), report: t})
}

// fell says why a token that verified does not count.
func (r *run) fell(t *Timestamp, err error) {
	var e *rfc3161.Error
	switch errors.As(err, &e); {
	case e != nil && e.Code == rfc3161.CodeCompromised:
		t.Reason = because("timestamp-compromised", "authority", t.Name, "token_time", t.Time, "detail", err)
	case e != nil && e.Code == rfc3161.CodeBroken:
		t.Reason = because("timestamp-broken", "authority", t.Name, "token_time", t.Time, "detail", err)
	default:
		r.refuse(t, err)
	}
}

// tokenOf returns the token that says the earliest latest time of a step, over a
// checkpoint or over its statement; a demonstration's only where there is no
// other.
func (r *run) tokenOf(s *step, own bool) *stamped {
	var best *stamped
	for i := range r.tokens {
		t := &r.tokens[i]
		if own && t.step != s.n || !own && (t.step > 0 || !s.reg.seen || t.size <= s.reg.position) {
			continue
		}
		if best == nil || best.report.Demo && !t.report.Demo || best.report.Demo == t.report.Demo && t.notAfter < best.notAfter {
			best = t
		}
	}
	return best
}

// bracketToken puts a step's tokens beside its block time. Only a real one can
// make the bracket narrower.
func (r *run) bracketToken(s *step, b *Bracket) {
	end := s.reg.notAfter
	put := func(t *stamped) *StepToken {
		if t == nil {
			return nil
		}
		if !t.report.Demo && s.reg.quorum && t.notAfter < end {
			end, b.NotAfter = t.notAfter, t.report.NotAfter
		}
		return &StepToken{Authority: t.report.Authority, Name: t.report.Name, Size: t.size, NotAfter: t.report.NotAfter, Demo: t.report.Demo, AccuracyStated: t.report.AccuracyMillis > 0}
	}
	b.Token, b.OwnToken = put(r.tokenOf(s, false)), put(r.tokenOf(s, true))
}
