package signin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/zhenglian/zhenglian/internal/identity/gb"
)

// Reason says why an identity's level is not higher. Codes are stable, Detail is
// a word of the provider's configuration or protocol, never a name or number.
type Reason struct {
	Code   string
	Detail string
}

// Why verified claims do not count, or not for more.
const (
	ReasonNone       = "no-verified-claims" // the provider verifies nothing of this person
	ReasonMalformed  = "malformed"          // verified_claims is not what the specification says
	ReasonFramework  = "framework"          // its trust framework is not in the policy
	ReasonAssurance  = "assurance"          // its assurance level is not in the policy
	ReasonTime       = "no-time"            // when it was verified is not said, and the policy asks
	ReasonFuture     = "future"             // verified in the future
	ReasonTooOld     = "too-old"            // verified longer ago than the policy allows
	ReasonEvidence   = "no-evidence"        // no evidence of a kind and check that is understood
	ReasonKind       = "evidence-kind"      // evidence of a kind that does not count
	ReasonMethod     = "evidence-method"    // a check that does not count
	ReasonDocument   = "document-expired"   // the document had expired when it was checked
	ReasonName       = "no-name"            // no verified name
	ReasonNumber     = "no-number"          // no verified identity number
	ReasonBadNumber  = "bad-number"         // the verified number is no identity number
	ReasonBirth      = "birth-conflict"     // birth date and number disagree
	ReasonConflict   = "conflict"           // two verified claims disagree about the name or number
	ReasonFrameCap   = "framework-cap"      // the policy gives this framework no more
	ReasonNotCompare = "not-compared"       // nobody compared the person with the document
)

// verifiedClaims is one element of verified_claims: OpenID Identity Assurance
// Schema Definition 1.0 §5. What is not listed here is not looked at.
type verifiedClaims struct {
	Verification struct {
		TrustFramework string     `json:"trust_framework"`
		AssuranceLevel string     `json:"assurance_level"`
		Time           string     `json:"time"`
		Process        string     `json:"verification_process"`
		Evidence       []evidence `json:"evidence"`
	} `json:"verification"`
	Claims map[string]json.RawMessage `json:"claims"`
}

type evidence struct {
	Type         string `json:"type"` // document, electronic_record, vouch, electronic_signature
	CheckDetails []struct {
		Method string `json:"check_method"`
	} `json:"check_details"`
	Method   string `json:"method"` // of drafts before check_details
	Document struct {
		Expiry string `json:"date_of_expiry"`
	} `json:"document_details"`
}

// weigh gives the identity the best level that one element of verified_claims
// supports alone; elements are never put together. Two that count and disagree
// cancel each other.
func (p *provider) weigh(id *Identity, idToken, userInfo json.RawMessage, now time.Time) {
	id.Level = SelfAsserted
	best := candidate{level: SelfAsserted, reasons: []Reason{{Code: ReasonNone}}}
	var counted []candidate
	seen := false
	for _, from := range []struct {
		raw      json.RawMessage
		userInfo bool
	}{{idToken, false}, {userInfo, true}} {
		elements, ok := split(from.raw)
		if !ok {
			elements = []json.RawMessage{nil}
		}
		for _, raw := range elements {
			c := p.consider(raw, now)
			c.source.UserInfo = from.userInfo
			if c.level > SelfAsserted {
				counted = append(counted, c)
			}
			// The first reason given stays, unless something better comes.
			if !seen || c.level > best.level {
				best, seen = c, true
			}
		}
	}
	for _, c := range counted {
		if c.facts != counted[0].facts {
			id.Reasons = []Reason{{Code: ReasonConflict}}
			return
		}
	}
	id.Reasons = best.reasons
	if best.level == SelfAsserted {
		return
	}
	id.Level, id.Facts, id.Source, id.Verified, id.Name = best.level, best.facts, best.source, best.verified, best.facts.Name
}

type candidate struct {
	level    Level
	facts    Facts
	source   Source
	verified time.Time
	reasons  []Reason
}

// split takes verified_claims apart, an object or an array of them; ok is false
// when it is neither.
func split(raw json.RawMessage) (elements []json.RawMessage, ok bool) {
	raw = bytes.TrimSpace(raw)
	switch {
	case len(raw) == 0 || string(raw) == "null":
		return nil, true
	case raw[0] == '{':
		return []json.RawMessage{raw}, true
	case raw[0] == '[' && json.Unmarshal(raw, &elements) == nil && len(elements) <= 16:
		return elements, true
	}
	return nil, false
}

// consider weighs one element.
func (p *provider) consider(raw json.RawMessage, now time.Time) candidate {
	one := candidate{level: SelfAsserted}
	no := func(code, detail string) candidate {
		one.reasons = append(one.reasons, Reason{code, word(detail)})
		one.level, one.facts = SelfAsserted, Facts{}
		return one
	}
	var v verifiedClaims
	if err := json.Unmarshal(raw, &v); err != nil || v.Verification.TrustFramework == "" || len(v.Claims) == 0 {
		return no(ReasonMalformed, "")
	}
	at := slices.IndexFunc(p.Policy.Frameworks, func(f Framework) bool { return f.Name == v.Verification.TrustFramework })
	if at < 0 {
		return no(ReasonFramework, v.Verification.TrustFramework)
	}
	framework := p.Policy.Frameworks[at]
	if len(framework.Assurance) > 0 && !slices.Contains(framework.Assurance, v.Verification.AssuranceLevel) {
		return no(ReasonAssurance, v.Verification.AssuranceLevel)
	}
	verified, known := moment(v.Verification.Time)
	switch {
	case !known && (p.Policy.MaxAge > 0 || v.Verification.Time != ""):
		return no(ReasonTime, "")
	case known && verified.After(now.Add(skew)):
		return no(ReasonFuture, "")
	case known && p.Policy.MaxAge > 0 && now.Sub(verified) > p.Policy.MaxAge:
		return no(ReasonTooOld, "")
	}
	one.verified = verified
	one.source = Source{TrustFramework: framework.Name, AssuranceLevel: word(v.Verification.AssuranceLevel), Process: word(v.Verification.Process)}
	checked := now
	if known {
		checked = verified
	}
	if one.level = one.weighEvidence(v.Verification.Evidence, checked); one.level == SelfAsserted {
		return no(ReasonEvidence, "")
	}
	facts, reason := p.facts(v.Claims, now)
	if reason != "" {
		return no(reason, "")
	}
	one.facts = facts
	if framework.AtMost > 0 && one.level > framework.AtMost {
		one.level = framework.AtMost
		one.reasons = append(one.reasons, Reason{ReasonFrameCap, framework.Name})
		if one.level == SelfAsserted {
			one.facts = Facts{}
		}
	}
	return one
}

// weighEvidence is the one rule from evidence to level. Level 2: a document or an
// electronic record that was validated. Level 3: besides that, the person was
// compared with it, by somebody qualified or by a biometric check, there or in a
// live picture. Vouches and electronic signatures alone give nothing, for they
// say no more than that somebody else believes it. Methods: the predefined
// identifiers of OpenID Identity Assurance.
func (c *candidate) weighEvidence(all []evidence, checked time.Time) Level {
	level := SelfAsserted
	for _, e := range all {
		if e.Type != "document" && e.Type != "electronic_record" {
			c.reasons = append(c.reasons, Reason{ReasonKind, word(e.Type)})
			continue
		}
		if expiry, err := time.Parse(time.DateOnly, e.Document.Expiry); err == nil && checked.After(expiry.AddDate(0, 0, 2)) { // wherever on earth it was checked
			c.reasons = append(c.reasons, Reason{ReasonDocument, ""})
			continue
		}
		methods := []string{}
		for _, d := range e.CheckDetails {
			methods = append(methods, d.Method)
		}
		if e.Method != "" {
			methods = append(methods, e.Method)
		}
		var counted []string
		validated, compared := false, false
		for _, m := range methods {
			switch m {
			case "vpip", "vpiruv", "vri", "vdig", "vcrypt", "data":
				validated = true
			case "pvp", "pvr", "bvp", "bvr":
				compared = true
			case "pipp", "sripp": // before: in person, or by supervised video
				validated, compared = true, true
			default:
				c.reasons = append(c.reasons, Reason{ReasonMethod, word(m)})
				continue
			}
			counted = append(counted, m)
		}
		if len(counted) > 0 {
			c.source.Evidence = append(c.source.Evidence, e.Type+":"+strings.Join(counted, ","))
		}
		switch {
		case validated && compared:
			level = Seen
		case validated:
			level = max(level, Checked)
		}
	}
	switch level {
	case Seen:
		c.reasons = nil
	case Checked:
		c.reasons = append(c.reasons, Reason{ReasonNotCompare, ""})
	}
	return level
}

// facts takes name, number and birth date; they must agree.
func (p *provider) facts(claims map[string]json.RawMessage, now time.Time) (Facts, string) {
	text := func(key string) string {
		var s string
		if json.Unmarshal(claims[key], &s) != nil {
			return ""
		}
		return strings.TrimSpace(s)
	}
	name := text("name")
	if name == "" {
		name = text("family_name") + text("given_name") // without a space, as Chinese names are written
	}
	if name == "" || len(name) > 300 || strings.ContainsFunc(name, unicode.IsControl) {
		return Facts{}, ReasonName
	}
	if p.NumberClaim == "" || text(p.NumberClaim) == "" {
		return Facts{}, ReasonNumber
	}
	number, err := gb.ParseIDNumber(text(p.NumberClaim), now)
	if err != nil {
		return Facts{}, ReasonBadNumber
	}
	if birth := text("birthdate"); birth != "" && birth != number.Birth().Format(time.DateOnly) {
		return Facts{}, ReasonBirth
	}
	return Facts{Name: name, Number: number, Birth: number.Birth()}, ""
}

// moment reads a time of ISO 8601 as the specification's own examples write it,
// with and without seconds, or a date.
func moment(s string) (time.Time, bool) {
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04Z07:00", time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC(), true
		}
	}
	return time.Time{}, false
}

// word keeps a foreign identifier short and in one line.
func word(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return -1
		}
		return r
	}, s)
	if r := []rune(s); len(r) > 64 {
		s = string(r[:64])
	}
	return s
}

// String is the level's number.
func (l Level) String() string { return fmt.Sprintf("level %d", int(l)) }
