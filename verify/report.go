package verify

import (
	"time"

	"github.com/zhenglian/zhenglian/evidence"
)

// Verdict is the one vocabulary of every report, page, document and API.
type Verdict string

// The verdicts, from the strongest to the weakest.
const (
	Matches      Verdict = "matches"
	Undetermined Verdict = "cannot-be-determined"
	DoesNotMatch Verdict = "does-not-match"
)

func (v Verdict) rank() int {
	switch v {
	case Matches:
		return 0
	case Undetermined:
		return 1
	}
	return 2
}

// Weakest returns the verdict that rules when both hold of parts of one thing.
func Weakest(a, b Verdict) Verdict {
	if b.rank() > a.rank() {
		return b
	}
	return a
}

// Reason is a sentence in no language: a key of the message catalogue and the
// values that go into it. Values are plain text; those whose name ends in
// "_time" are RFC 3339 in UTC, those in "_seconds" whole seconds, and "detail"
// is an English technical remark that no sentence depends on.
type Reason struct {
	Key    string            `json:"key"`
	Params map[string]string `json:"params,omitempty"`
}

// Subject says what a check looked at. Fields that do not apply are absent.
type Subject struct {
	Step        int    `json:"step,omitempty"`   // from 1
	Object      int    `json:"object,omitempty"` // from 1, in the manifest's order
	Institution string `json:"institution,omitempty"`
	Path        string `json:"path,omitempty"` // file in the package
	Key         string `json:"key,omitempty"`  // kid, 64 hexadecimal digits
}

// Line is one check of the report.
type Line struct {
	ID      string   `json:"id"`
	Subject Subject  `json:"subject"`
	Verdict Verdict  `json:"verdict"`
	Reason  Reason   `json:"reason"`
	Clauses []string `json:"clauses"` // keys of Clauses
}

// Basis says on whose word the verdict stands.
type Basis struct {
	Kind         string          `json:"kind"` // "policy", "alliance" (pinned id), "none", or "unread": the package is broken, and nothing was compared with what is trusted
	Alliance     evidence.Digest `json:"alliance,omitzero"`
	Name         string          `json:"name,omitempty"`
	Quorum       int             `json:"quorum,omitempty"`
	Institutions int             `json:"institutions,omitempty"`
	// Names of the institutions by id, in a report whose basis is trusted; a
	// package's own names are nobody's word.
	Names map[string]string `json:"names,omitempty"`
}

// PackageRef names the very bytes that were checked.
type PackageRef struct {
	Size   int64           `json:"size"`
	SHA256 evidence.Digest `json:"sha256"`
	Files  int             `json:"files"`
}

// CourtLog names the court's own copy of the log, when it was compared.
type CourtLog struct {
	Institution string          `json:"institution"`
	Size        uint64          `json:"size"`
	Root        evidence.Digest `json:"root"`
}

// Who is the holder of the key that signed a step, as enrolled.
type Who struct {
	Member      string          `json:"member"` // member or institution id
	KID         evidence.Digest `json:"kid"`
	Kind        string          `json:"kind,omitempty"` // person, enterprise, platform, service, or an institution's kind
	Institution bool            `json:"institution"`
	Known       bool            `json:"known"` // enrolled, by what the package or the log shows
	Assurance   int             `json:"assurance"`
	Demo        bool            `json:"demo"`
	Owner       bool            `json:"owner"` // opened the trail
}

// Bracket is when a step happened, as far as others witnessed it. Times are
// RFC 3339 in UTC, whole seconds; empty means not shown.
type Bracket struct {
	NotBefore       string `json:"not_before,omitempty"`
	NotBeforeSize   uint64 `json:"not_before_size"` // size of the checkpoint the signer had seen
	NotAfter        string `json:"not_after,omitempty"`
	Claimed         string `json:"claimed"`           // the signer's own clock
	ClockOffSeconds int64  `json:"clock_off_seconds"` // how far the claim lies outside the bracket, negative before it
	// Token over a checkpoint that covers the step, where one verified. Only one
	// that is no demonstration's can have made NotAfter earlier.
	Token *StepToken `json:"token,omitempty"`
	// OwnToken is one over the statement itself.
	OwnToken *StepToken `json:"own_token,omitempty"`
}

// StepToken is what a timestamp token says of a step.
type StepToken struct {
	Authority      string `json:"authority"` // id in the policy
	Name           string `json:"name"`
	Size           uint64 `json:"size"` // of the checkpoint; 0 of a token over the statement
	NotAfter       string `json:"not_after"`
	Demo           bool   `json:"demo"`
	AccuracyStated bool   `json:"accuracy_stated"` // else NotAfter is the token's time as it is
}

// Timestamp is a token of the package. With Undetermined no verdict rests on it:
// the policy knows no authority of that id, or does not trust the token any more.
type Timestamp struct {
	Path           string  `json:"path"`
	Authority      string  `json:"authority"`         // id, by the file's name
	Name           string  `json:"name,omitempty"`    // by the policy
	Size           uint64  `json:"size"`              // of the checkpoint; 0 of a token over something else
	Step           int     `json:"step,omitempty"`    // whose statement it is over
	Renewal        int     `json:"renewal,omitempty"` // whose list it is over
	Verdict        Verdict `json:"verdict"`
	Reason         Reason  `json:"reason"`
	Time           string  `json:"time,omitempty"`
	NotAfter       string  `json:"not_after,omitempty"`       // Time and accuracy, rounded up
	AccuracyMillis int64   `json:"accuracy_millis,omitempty"` // absent when not stated
	Policy         string  `json:"policy,omitempty"`          // object identifier
	Demo           bool    `json:"demo"`
	// CertificateEnds is when the first of the authority's certificates ends. The
	// token is good after it too, unless the key or an algorithm falls.
	CertificateEnds string `json:"certificate_ends,omitempty"`
	// SeenBy is the earliest time by which a renewal shows the token to have
	// existed.
	SeenBy string `json:"seen_by,omitempty"`
}

// Witness is one institution's receipt for a step that verified.
type Witness struct {
	Institution string `json:"institution"`
	TreeSize    uint64 `json:"tree_size"`
	Time        string `json:"time"` // block time of the root, RFC 3339 in UTC
}

// StepObject is an evidence file of a step. Size and digests are those deposited,
// as the manifest lists them.
type StepObject struct {
	Name    string          `json:"name"`
	Size    int64           `json:"size"`
	Media   string          `json:"media"`
	SHA256  evidence.Digest `json:"sha256"`
	SM3     evidence.Digest `json:"sm3"`
	Path    string          `json:"path,omitempty"` // absent when withheld
	Verdict Verdict         `json:"verdict"`
	// Computed is of the file handed in, where it differs from what was deposited.
	Computed *Computed `json:"computed,omitempty"`
}

// Computed is what a file handed in was found to be.
type Computed struct {
	Size   int64           `json:"size"`
	SHA256 evidence.Digest `json:"sha256"`
	SM3    evidence.Digest `json:"sm3"`
}

// Rights is what an authorisation step gives to a key.
type Rights struct {
	KID    evidence.Digest `json:"kid"`
	Append bool            `json:"append"`
	Read   bool            `json:"read"`
}

// Step is one statement of the trail with its story.
type Step struct {
	N          int             `json:"n"`
	Kind       string          `json:"kind"` // "deposit", "authorisation" or "unreadable"
	Statement  evidence.Digest `json:"statement"`
	Position   uint64          `json:"position"` // in the log, from 0
	Verdict    Verdict         `json:"verdict"`
	Phase      string          `json:"phase,omitempty"` // before, during, after; absent when withheld
	Name       string          `json:"name,omitempty"`
	Note       string          `json:"note,omitempty"`
	Who        Who             `json:"who"`
	Time       Bracket         `json:"time"`
	Claimed    []Fact          `json:"place_claimed,omitempty"`
	Witnessed  []Fact          `json:"place_witnessed,omitempty"`
	Facts      []Fact          `json:"facts,omitempty"` // the manifest's before, during and after
	Objects    []StepObject    `json:"objects,omitempty"`
	Authorises *Rights         `json:"authorises,omitempty"`
	Witnesses  []Witness       `json:"witnesses"`
	// Act is there when the manifest names an act, or the policy demands something
	// of plain deposits.
	Act *StepAct `json:"act,omitempty"`
	// Certificate that the signing key had at the time, where the package shows one.
	Certificate *StepCertificate `json:"certificate,omitempty"`
}

// StepAct is what a step does, how it was confirmed, and what the policy demands
// of it.
type StepAct struct {
	Kind             string       `json:"kind"`
	Passkey          *StepPasskey `json:"passkey,omitempty"`           // absent when it was not confirmed with one
	MinimumAssurance int          `json:"minimum_assurance,omitempty"` // by the policy
	PasskeyDemanded  bool         `json:"passkey_demanded,omitempty"`  // by the policy
}

// StepPasskey is the confirmation of an act.
type StepPasskey struct {
	KID          evidence.Digest `json:"kid"`
	RelyingParty string          `json:"relying_party,omitempty"` // absent when its registration is not shown
	Demo         bool            `json:"demo"`
	Verdict      Verdict         `json:"verdict"`
}

// StepCertificate is a certificate of the signing key. Times are RFC 3339 in
// UTC, both included.
type StepCertificate struct {
	SHA256      evidence.Digest `json:"sha256"` // of the DER
	Serial      string          `json:"serial"` // contents of the INTEGER, hexadecimal
	Institution string          `json:"institution"`
	NotBefore   string          `json:"not_before"`
	NotAfter    string          `json:"not_after"`
	Assurance   int             `json:"assurance"`         // of the key's enrolment
	Demo        bool            `json:"demo"`              // a demonstration identity's
	Shown       bool            `json:"shown"`             // it is in the package and is the one registered
	Subject     string          `json:"subject,omitempty"` // RFC 4514, where shown
	Chained     bool            `json:"chained"`           // an authority that the policy names issued it
}

// Fact is one entry of a manifest's maps, in the order of the names.
type Fact struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Withheld is something that exists and was not handed in.
type Withheld struct {
	What     string          `json:"what"`             // "statement", "manifest" or "object"
	Step     int             `json:"step,omitempty"`   // step of the package it belongs to
	Number   uint64          `json:"number,omitempty"` // the statement's number in the whole trail, from 1
	Position *uint64         `json:"position,omitempty"`
	Entry    evidence.Digest `json:"entry,omitzero"`
	Name     string          `json:"name,omitempty"` // an object's file name
}

// Completeness says up to where nothing of the trail is missing.
type Completeness struct {
	Known        bool     `json:"known"`
	TreeSize     uint64   `json:"tree_size"`
	Count        uint64   `json:"count"`        // statements of the trail as of that size
	Institutions []string `json:"institutions"` // whose word it is
	OwnLog       bool     `json:"own_log"`      // the court's own log says so
}

// Unchecked is a file whose content no verdict rests on, with the reason.
type Unchecked struct {
	Path   string `json:"path"`
	Reason Reason `json:"reason"`
}

// Notice is something a reader should see that changes no verdict.
type Notice struct {
	Subject Subject `json:"subject"`
	Reason  Reason  `json:"reason"`
}

// Report is the outcome of a verification. spec/report.md.
type Report struct {
	V                 int             `json:"v"` // 1
	Verdict           Verdict         `json:"verdict"`
	Summary           Reason          `json:"summary"`
	IssuerEstablished bool            `json:"issuer_established"`
	Basis             Basis           `json:"basis"`
	Court             *CourtLog       `json:"court,omitempty"`
	Package           PackageRef      `json:"package"`
	Trail             evidence.Digest `json:"trail,omitzero"`
	Steps             []Step          `json:"steps"`
	Timestamps        []Timestamp     `json:"timestamps,omitempty"`
	Recordings        []Recording     `json:"recordings,omitempty"`
	Completeness      Completeness    `json:"completeness"`
	Withheld          []Withheld      `json:"withheld"`
	Checks            []Line          `json:"checks"`
	Unchecked         []Unchecked     `json:"unchecked"`
	Notices           []Notice        `json:"notices"`
	NotProven         []Reason        `json:"not_proven"`
}

// Count returns how many checks have the verdict.
func (r *Report) Count(v Verdict) (n int) {
	for i := range r.Checks {
		if r.Checks[i].Verdict == v {
			n++
		}
	}
	return n
}

// Named reports whether a check that does not match names the file.
func (r *Report) Named(path string) bool {
	for i := range r.Checks {
		if r.Checks[i].Verdict == DoesNotMatch && r.Checks[i].Subject.Path == path {
			return true
		}
	}
	return false
}

func clockText(seconds int64) string { return time.Unix(seconds, 0).UTC().Format(time.RFC3339) }
