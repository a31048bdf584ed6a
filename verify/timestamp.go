package verify

import (
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/evidence/rfc3161"
)

// stamped is a token that verified, over a checkpoint that did.
type stamped struct {
	size     uint64
	notAfter int64 // seconds, rounded up
	report   *Timestamp
}

// checkTimestamps verifies each RFC 3161 token against the checkpoint of its
// size, by the authority that the policy knows under the token's name. Where the
// policy knows none, no verdict rests on the token, and it is listed as open: a
// token that anybody can add must not weigh against what the quorum signed.
func (r *run) checkTimestamps() {
	for _, name := range r.withRole(evidence.RoleTimestamp) {
		base, id := path.Base(name), institutionOf(name)
		num, _, _ := strings.Cut(base, ".")
		size, err := strconv.ParseUint(num, 10, 64)
		if err != nil {
			continue // OpenPackage has held the path to its grammar
		}
		t := Timestamp{Path: name, Authority: id, Size: size, Verdict: Undetermined}
		known := r.authority(id)
		if known == nil {
			t.Reason = because("unchecked-timestamp", "authority", id)
			r.rep.Timestamps = append(r.rep.Timestamps, t)
			continue // checkAccounted lists the file
		}
		r.judged[name] = true
		t.Name = known.Name
		r.checkTimestamp(&t, known)
		r.rep.Timestamps = append(r.rep.Timestamps, t)
		r.check("timestamp", Subject{Path: name}, t.Verdict, t.Reason, ClauseBefore, ClauseTimestamp)
	}
}

// authority returns the policy's authority of that id, nil when it has none.
func (r *run) authority(id string) *evidence.TimestampAuthority {
	if r.policy == nil || !r.trusted {
		return nil
	}
	return r.policy.TimestampAuthority(id)
}

// checkTimestamp fills the rest of t.
func (r *run) checkTimestamp(t *Timestamp, known *evidence.TimestampAuthority) {
	cp, ok := r.checkpoints[t.Size]
	if !ok {
		t.Reason = because("timestamp-no-checkpoint", "size", t.Size)
		return
	}
	body := evidence.CosignedCheckpoint{Origin: r.policy.Origin, Checkpoint: evidence.Checkpoint{Size: t.Size, Root: cp.root}}
	info, err := rfc3161.Verify(r.readFile(t.Path), sha256.Sum256([]byte(body.Body())), rfc3161.Trust{Anchors: []*x509.Certificate{known.X509()}})
	if err != nil {
		t.Verdict = DoesNotMatch
		code := "malformed"
		var e *rfc3161.Error
		if errors.As(err, &e) {
			code = string(e.Code)
		}
		t.Reason = because("timestamp-refused", "authority", t.Name, "size", t.Size, "code", code, "detail", err)
		return
	}
	t.Time, t.Policy, t.Demo = clockText(info.Time.Unix()), info.Policy, info.Demo || known.Demonstration
	latest := info.Latest().Add(time.Second - time.Nanosecond).Unix()
	t.NotAfter = clockText(latest)
	if info.Accuracy > 0 {
		t.AccuracyMillis = int64((info.Accuracy + time.Millisecond - 1) / time.Millisecond)
	}
	// The quorum's time of the same checkpoint: what was stamped earlier than it
	// was made has a wrong clock behind one of them, or a stolen key.
	made := r.roots[t.Size].iat
	if made == 0 {
		made = cp.time
	}
	if latest < made-ClockTolerance {
		t.Verdict = DoesNotMatch
		t.Reason = because("timestamp-contradiction", "authority", t.Name, "token_time", t.Time, "block_time", clockText(made), "size", t.Size)
		return
	}
	t.Verdict = Matches
	switch {
	case t.Demo:
		t.Reason = because("timestamp-holds-demo", "authority", t.Name, "size", t.Size, "token_time", t.Time, "after_time", t.NotAfter)
	case info.Accuracy == 0:
		t.Reason = because("timestamp-holds-no-accuracy", "authority", t.Name, "size", t.Size, "token_time", t.Time)
	default:
		t.Reason = because("timestamp-holds", "authority", t.Name, "size", t.Size, "token_time", t.Time, "after_time", t.NotAfter)
	}
	r.tokens = append(r.tokens, stamped{size: t.Size, notAfter: latest, report: t})
}

// tokenOf returns the token that says the earliest latest time of a step; a
// demonstration's only where there is no other.
func (r *run) tokenOf(s *step) *stamped {
	var best *stamped
	for i := range r.tokens {
		t := &r.tokens[i]
		if !s.reg.seen || t.size <= s.reg.position {
			continue
		}
		if best == nil || best.report.Demo && !t.report.Demo || best.report.Demo == t.report.Demo && t.notAfter < best.notAfter {
			best = t
		}
	}
	return best
}

// bracketToken puts a step's token beside its block time. Only a real one can
// make the bracket narrower.
func (r *run) bracketToken(s *step, b *Bracket) {
	t := r.tokenOf(s)
	if t == nil {
		return
	}
	b.Token = &StepToken{Authority: t.report.Authority, Name: t.report.Name, Size: t.size, NotAfter: t.report.NotAfter, Demo: t.report.Demo, AccuracyStated: t.report.AccuracyMillis > 0}
	if !t.report.Demo && s.reg.quorum && t.notAfter < s.reg.notAfter {
		b.NotAfter = t.report.NotAfter
	}
}
