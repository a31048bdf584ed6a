package client

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
)

// Problem is an institution's refusal (RFC 9457, with members of its own).
type Problem struct {
	Institution string        `json:"-"`
	Status      int           `json:"status"`
	Code        string        `json:"code"` // evidence.Code names and others, such as "rate-limit"
	Title       string        `json:"title"`
	Detail      string        `json:"detail"`
	Field       string        `json:"field"`
	Hint        string        `json:"hint"`
	Request     string        `json:"request"` // its name in the institution's log
	RetryAfter  time.Duration `json:"-"`
}

func (p *Problem) Error() string {
	s := fmt.Sprintf("%s refused it (%s)", p.Institution, p.Code)
	if p.Field != "" {
		s += " " + p.Field
	}
	for _, text := range []string{p.Detail, p.Title} {
		if text != "" {
			return s + ": " + strings.TrimRight(text, ".")
		}
	}
	return s
}

// Rule reports whether the chain's own rules refused a statement, so that every
// institution gives the same answer and sending it again is of no use.
func (p *Problem) Rule() bool { _, ok := evidence.CodeByName(p.Code); return ok }

// ErrNotFound says that no institution that answered knows it.
var ErrNotFound = errors.New("the log has no such entry")

// Attempt is what became of asking one institution.
type Attempt struct {
	Institution string
	Err         error
}

// UnavailableError says that no institution could be made to answer.
type UnavailableError struct{ Attempts []Attempt }

func (e *UnavailableError) Error() string {
	return "no institution answered: " + joinAttempts(e.Attempts)
}

// Unwrap returns what each attempt said.
func (e *UnavailableError) Unwrap() []error { return causes(e.Attempts) }

// QuorumError says that fewer institutions than the policy asks for vouched for
// something. Rejected tells which answers were thrown away, and why: an
// institution that gives a wrong receipt stands there.
type QuorumError struct {
	What     string // what should have been vouched for
	Have     int
	Need     int
	Rejected []Attempt
}

func (e *QuorumError) Error() string {
	s := fmt.Sprintf("%s: %d of the %d institutions needed vouch for it", e.What, e.Have, e.Need)
	if len(e.Rejected) > 0 {
		s += "; " + joinAttempts(e.Rejected)
	}
	return s
}

// Unwrap returns why answers were thrown away.
func (e *QuorumError) Unwrap() []error { return causes(e.Rejected) }

// NotFinalError says that the deposit is accepted and not final. It goes on
// without the client; the same statement may be sent again, or Confirm called.
type NotFinalError struct {
	Digest evidence.Digest
	Err    error // why waiting ended
}

func (e *NotFinalError) Error() string {
	s := fmt.Sprintf("statement %s is accepted and not final yet", e.Digest)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns why waiting ended.
func (e *NotFinalError) Unwrap() error { return e.Err }

// EquivocationError is proof that one log was shown in two versions: two roots
// of one size, each signed by the institutions named. A holds and B holds are
// the signed bytes.
type EquivocationError struct {
	Size           uint64
	RootA, RootB   evidence.Digest
	ByA, ByB       string // institutions
	ProofA, ProofB []byte // receipt, trail head or checkpoint
}

func (e *EquivocationError) Error() string {
	return fmt.Sprintf("two logs were shown: at size %d, %s signed root %s and %s signed root %s", e.Size, e.ByA, e.RootA, e.ByB, e.RootB)
}

func joinAttempts(all []Attempt) string {
	parts := make([]string, len(all))
	for i, a := range all {
		parts[i] = fmt.Sprintf("%s: %v", a.Institution, a.Err)
	}
	return strings.Join(parts, "; ")
}

func causes(all []Attempt) []error {
	errs := make([]error, len(all))
	for i, a := range all {
		errs[i] = a.Err
	}
	return errs
}
