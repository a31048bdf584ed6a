package render

import (
	"strconv"
	"strings"

	"github.com/zhenglian/zhenglian/verify"
)

// act says what a step does, how the person confirmed it and what the policy
// demands of it.
func (r *Renderer) act(a *verify.StepAct) string {
	if a == nil {
		return ""
	}
	parts := []string{r.value("act", a.Kind)}
	switch p := a.Passkey; {
	case p == nil:
		parts = append(parts, r.word("act.unconfirmed"))
	case p.Verdict == verify.Matches:
		parts = append(parts, r.with("act.confirmed", "site", p.RelyingParty))
	default:
		parts = append(parts, r.with("act.not-confirmed", "verdict", r.verdict(p.Verdict)))
	}
	if a.Passkey != nil && a.Passkey.Demo {
		parts = append(parts, r.word("act.demo"))
	}
	if a.MinimumAssurance > 0 {
		parts = append(parts, r.with("act.minimum", "minimum", a.MinimumAssurance))
	}
	if a.PasskeyDemanded {
		parts = append(parts, r.word("act.demanded"))
	}
	return strings.Join(parts, r.word("punct.semicolon"))
}

// certificate says whose certificate the signing key had, with the level of the
// enrolment.
func (r *Renderer) certificate(c *verify.StepCertificate) string {
	if c == nil {
		return ""
	}
	parts := []string{
		r.with("certificate.value", "institution", c.Institution, "from_time", c.NotBefore, "until_time", c.NotAfter, "serial", c.Serial),
		r.value("assurance", strconv.Itoa(c.Assurance)),
	}
	if c.Demo {
		parts = append(parts, r.word("certificate.demo"))
	}
	switch {
	case !c.Shown:
		parts = append(parts, r.word("certificate.not-shown"))
	case c.Chained:
		parts = append(parts, r.with("certificate.chained", "subject", c.Subject))
	default:
		parts = append(parts, r.with("certificate.unchained", "subject", c.Subject))
	}
	return strings.Join(parts, r.word("punct.semicolon"))
}
