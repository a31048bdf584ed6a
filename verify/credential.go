package verify

import (
	"cmp"
	"crypto/x509"
	"encoding/hex"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
)

// passkey is what is known of a passkey that an act names.
type passkey struct {
	*evidence.Passkey
	holds       bool   // a CA institution's statement with a quorum, or the court's log
	position    uint64 // of its statement
	path        string
	revocations []revocation
}

// certified is a certificate whose registration verified.
type certified struct {
	*evidence.Certificate
	position uint64
	issuer   string // institution
	report   StepCertificate
}

// checkPasskeys verifies how each passkey of the package was registered.
func (r *run) checkPasskeys() {
	for _, name := range r.withRole(evidence.RolePasskey) {
		kid, _, _ := strings.Cut(path.Base(name), ".")
		if d, err := evidence.ParseDigest(kid); err == nil {
			r.checkPasskey(d)
		}
	}
}

func (r *run) checkPasskey(kid evidence.Digest) {
	data, receipts, name, present := r.registration(kid, "passkey", evidence.RolePasskeyReceipt)
	if !present {
		return
	}
	at := Subject{Path: name, Key: kid.String()}
	s, reg, ok := r.registryStatement("passkey", at, evidence.TypePasskey, data, receipts)
	if !ok {
		return
	}
	p, err := evidence.ParsePasskey(s.Payload)
	if err != nil { // ParseStatement has read it already
		r.check("passkey", at, DoesNotMatch, because("registry-other-kind"), ClausePlatform)
		return
	}
	if p.Key.KID() != kid {
		r.check("passkey", at, DoesNotMatch, because("passkey-other-key", "found", p.Key.KID()), ClausePlatform)
		return
	}
	k := &passkey{Passkey: p, position: reg.position, path: name}
	r.passkeys[kid] = k
	inst, ok := r.signedByInstitution("passkey", at, s, reg.position)
	switch {
	case !ok:
	case inst.Kind != evidence.KindCA:
		r.check("passkey", at, DoesNotMatch, because("passkey-not-ca", "institution", inst.ID), ClausePlatform)
	case r.enrolledByAnother(p.Member, inst.ID):
		r.check("passkey", at, DoesNotMatch, because("passkey-other-ca", "institution", inst.ID, "member", p.Member), ClausePlatform)
	case reg.quorum: // else its own check has said so
		k.holds = true
		r.check("passkey", at, Matches, because("passkey-holds", "member", p.Member, "institution", inst.ID, "site", p.RelyingParty, "position", reg.position), ClausePlatform, ClauseBefore)
	}
}

// enrolledByAnother reports whether an enrolment in the package shows that
// another institution enrolled the member.
func (r *run) enrolledByAnother(holder, institution string) bool {
	for _, m := range r.members {
		if m.holds && m.holder == holder && m.by != institution {
			return true
		}
	}
	return false
}

// passkeyOf returns what is known of a passkey. The court's own registry counts
// before what a package shows.
func (r *run) passkeyOf(kid evidence.Digest) *passkey {
	shown := r.passkeys[kid]
	if r.log == nil {
		return shown
	}
	k, ok := r.log.keys[kid]
	if !ok || k.Passkey == nil || k.Passkey.Key == nil || k.Passkey.Key.KID() != kid {
		return shown
	}
	p := &passkey{Passkey: k.Passkey, holds: true, position: k.EnrolledAt}
	if shown != nil {
		p.path = shown.path
	}
	if k.Revoked {
		p.revocations = []revocation{{position: k.RevokedAt}}
	}
	return p
}

// checkCertificates verifies how each certificate of the package was registered,
// and the certificate itself where it is handed in.
func (r *run) checkCertificates() {
	for _, name := range r.withRole(evidence.RoleIssuance) {
		r.checkIssuance(name)
	}
	for _, name := range r.withRole(evidence.RoleCertificate) {
		r.checkCertificateFile(name)
	}
	for _, list := range r.certificates {
		slices.SortFunc(list, func(a, b *certified) int { return cmp.Compare(a.position, b.position) })
	}
}

func (r *run) checkIssuance(name string) {
	base := strings.TrimSuffix(name, "cose")
	var receipts []string
	for _, p := range r.withRole(evidence.RoleIssuanceReceipt) {
		if strings.HasPrefix(p, base) {
			receipts = append(receipts, p)
		}
	}
	at := Subject{Path: name}
	s, reg, ok := r.registryStatement("issuance", at, evidence.TypeCertificate, r.readFile(name), r.receiptFiles(receipts))
	if !ok {
		return
	}
	c, err := evidence.ParseCertificate(s.Payload)
	if err != nil {
		r.check("issuance", at, DoesNotMatch, because("registry-other-kind"), ClausePlatform)
		return
	}
	at.Key = c.KID.String()
	if name != "certificates/"+c.SHA256.String()+".cose" {
		r.check("issuance", at, DoesNotMatch, because("issuance-other-certificate", "found", c.SHA256), ClausePlatform)
		return
	}
	inst, ok := r.signedByInstitution("issuance", at, s, reg.position)
	m := r.members[c.KID]
	switch {
	case !ok:
		return
	case inst.Kind != evidence.KindCA:
		r.check("issuance", at, DoesNotMatch, because("issuance-not-ca", "institution", inst.ID), ClausePlatform)
		return
	case m != nil && m.holds && m.by != inst.ID:
		r.check("issuance", at, DoesNotMatch, because("issuance-other-ca", "institution", inst.ID, "member", m.holder), ClausePlatform)
		return
	case !reg.quorum:
		return // its own check has said so
	}
	r.certificates[c.KID] = append(r.certificates[c.KID], &certified{Certificate: c, position: reg.position, issuer: inst.ID,
		report: StepCertificate{SHA256: c.SHA256, Serial: hex.EncodeToString(c.Serial), Institution: inst.ID, NotBefore: clockText(c.NotBefore), NotAfter: clockText(c.NotAfter)}})
	r.check("issuance", at, Matches, because("issuance-holds", "institution", inst.ID, "position", reg.position, "from_time", clockText(c.NotBefore), "until_time", clockText(c.NotAfter)), ClausePlatform, ClauseBefore)
}

// checkCertificateFile compares a certificate with its registration: by digest,
// so that nothing in it can differ, then what both say, and whether an authority
// that the policy names issued it.
func (r *run) checkCertificateFile(name string) {
	r.judged[name] = true
	at := Subject{Path: name}
	fail := func(v Verdict, why Reason) { r.check("certificate", at, v, why, ClausePlatform, ClauseX509) }
	chain, err := evidence.ParseCertificateChain(r.readFile(name))
	if err != nil {
		fail(DoesNotMatch, because("certificate-malformed", "detail", err))
		return
	}
	leaf := chain[0]
	digest := evidence.SumSHA256(leaf.Raw)
	if name != "certificates/"+digest.String()+".pem" {
		fail(DoesNotMatch, because("certificate-digest", "found", digest))
		return
	}
	var c *certified
	for _, list := range r.certificates {
		for _, x := range list {
			if x.SHA256 == digest {
				c = x
			}
		}
	}
	if c == nil {
		fail(Undetermined, because("certificate-not-registered"))
		return
	}
	at.Key = c.KID.String()
	switch {
	case evidence.SumSHA256(leaf.RawSubjectPublicKeyInfo) != c.KID:
		fail(DoesNotMatch, because("certificate-key"))
		return
	case string(evidence.CertificateSerial(leaf.SerialNumber)) != string(c.Serial) || leaf.NotBefore.Unix() != c.NotBefore || leaf.NotAfter.Unix() != c.NotAfter:
		fail(DoesNotMatch, because("certificate-differs"))
		return
	}
	c.report.Shown, c.report.Subject = true, leaf.Subject.String()
	issuers := r.policy.Issuers(c.issuer)
	if len(issuers) == 0 {
		fail(Matches, because("certificate-registered", "institution", c.issuer))
		return
	}
	opts := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: leaf.NotBefore, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
	for _, cert := range issuers {
		opts.Roots.AddCert(cert)
	}
	for _, cert := range chain[1:] {
		opts.Intermediates.AddCert(cert)
	}
	if _, err := leaf.Verify(opts); err != nil {
		fail(DoesNotMatch, because("certificate-chain", "institution", c.issuer, "detail", err))
		return
	}
	c.report.Chained = true
	fail(Matches, because("certificate-holds", "institution", c.issuer))
}

// checkValidity compares each step's time with the certificates that its key had
// at that place in the log. A key without one does not expire. That the chain
// refuses an expired key is a quorum's word already; this holds it against the
// times that the package shows.
func (r *run) checkValidity() {
	for _, s := range r.steps {
		if s.stmt == nil || !s.reg.quorum {
			continue
		}
		var best *certified
		var line Line
		for _, c := range r.certificates[s.stmt.KID] {
			if c.position >= s.reg.position {
				continue
			}
			v, why := c.covers(&r.rep.Steps[s.n-1].Time, s.reg.notAfter)
			if best == nil || v.rank() < line.Verdict.rank() || v == line.Verdict && c.NotAfter > best.NotAfter {
				best, line = c, Line{Verdict: v, Reason: why}
			}
		}
		if best == nil {
			continue
		}
		report := best.report
		if s.signer != nil {
			report.Assurance, report.Demo = s.signer.assurance, s.signer.demo
		}
		r.rep.Steps[s.n-1].Certificate = &report
		at := s.at()
		at.Key = s.stmt.KID.String()
		r.check("certificate-time", at, line.Verdict, line.Reason, ClausePlatform, ClauseX509)
	}
}

// covers compares a certificate with the bracket of a step, whose upper end is
// notAfter in seconds.
func (c *certified) covers(b *Bracket, notAfter int64) (Verdict, Reason) {
	begins, ends := clockText(c.NotBefore), clockText(c.NotAfter)
	after, err := time.Parse(time.RFC3339, b.NotBefore)
	switch {
	case notAfter < c.NotBefore:
		return DoesNotMatch, because("certificate-not-begun", "from_time", begins, "after_time", clockText(notAfter))
	case notAfter <= c.NotAfter:
		return Matches, because("certificate-covers", "from_time", begins, "until_time", ends)
	case err == nil && after.Unix() > c.NotAfter:
		return DoesNotMatch, because("certificate-ended", "until_time", ends, "before_time", b.NotBefore)
	}
	return Undetermined, because("certificate-ended-perhaps", "until_time", ends, "after_time", clockText(notAfter))
}
