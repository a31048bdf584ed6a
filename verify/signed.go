package verify

import (
	"errors"
	"fmt"

	"github.com/zhenglian/zhenglian/evidence"
)

// The kinds of a signed report.
const (
	// KindEvidenceChain is what a submission becomes that matches, checked
	// against the court's own copy of the log.
	KindEvidenceChain = "evidence-chain"
	// KindVerificationReport is every other outcome.
	KindVerificationReport = "verification-report"
)

// SignedReport is a court's report with its signature. Its canonical JSON is
// the file that goes into the case. spec/report.md, part 3.
type SignedReport struct {
	Body      ReportBody      `json:"body"`
	Signature ReportSignature `json:"signature"`
}

// ReportBody is what is signed.
type ReportBody struct {
	V      int     `json:"v"`    // 1
	Kind   string  `json:"kind"` // KindEvidenceChain or KindVerificationReport
	Court  string  `json:"court"`
	Case   string  `json:"case,omitempty"` // the court's own number of the case
	Time   string  `json:"time"`           // the court's clock when it verified, RFC 3339 in UTC
	Report *Report `json:"report"`
}

// ReportSignature is by the institution's attestation key.
type ReportSignature struct {
	KID   evidence.Digest    `json:"kid"`
	Alg   evidence.Algorithm `json:"alg"`   // as in COSE: -8 or -7
	Value []byte             `json:"value"` // raw, 64 bytes
}

// reportLabel separates reports from all else that an attestation key signs.
const reportLabel = "zhenglian verification report v1\n"

// SignReport signs the report of a verification that a court made against its
// own log. now is seconds since 1970. A report that matches becomes an evidence
// chain.
func SignReport(rep *Report, caseNumber string, now int64, signer evidence.Signer) ([]byte, error) {
	if rep.Court == nil {
		return nil, errors.New("signing the report: it was not made against the court's own log, and only such a report is a court's")
	}
	body := ReportBody{V: 1, Kind: KindVerificationReport, Court: rep.Court.Institution, Case: caseNumber, Time: clockText(now), Report: rep}
	if rep.Verdict == Matches && rep.IssuerEstablished {
		body.Kind = KindEvidenceChain
	}
	message, err := reportMessage(&body)
	if err != nil {
		return nil, fmt.Errorf("signing the report: %w", err)
	}
	sig, err := signer.Sign(message)
	if err != nil {
		return nil, fmt.Errorf("signing the report: %w", err)
	}
	return evidence.MarshalCanonical(&SignedReport{body, ReportSignature{signer.Public().KID(), signer.Public().Algorithm(), sig}})
}

func reportMessage(body *ReportBody) ([]byte, error) {
	data, err := evidence.MarshalCanonical(body)
	if err != nil {
		return nil, err
	}
	return append([]byte(reportLabel), data...), nil
}

// ParseSignedReport reads a signed report and verifies its signature with the
// attestation key that the policy gives the court.
func ParseSignedReport(data []byte, policy *evidence.Policy) (*ReportBody, error) {
	var s SignedReport
	if err := evidence.UnmarshalCanonical(data, &s); err != nil {
		return nil, fmt.Errorf("reading the signed report: %w", err)
	}
	b := &s.Body
	if b.V != 1 || b.Report == nil || b.Report.V != 1 || b.Report.Court == nil || b.Report.Court.Institution != b.Court {
		return nil, errors.New("reading the signed report: not a report of version 1 by the court it names")
	}
	matches := b.Report.Verdict == Matches && b.Report.IssuerEstablished
	if b.Kind != KindEvidenceChain && b.Kind != KindVerificationReport || matches != (b.Kind == KindEvidenceChain) {
		return nil, fmt.Errorf("reading the signed report: it calls itself %.40q, which its verdict %q does not make it", b.Kind, b.Report.Verdict)
	}
	inst, key, ok := policy.ByKID(s.Signature.KID, evidence.UseAttest, b.Report.Court.Size)
	if !ok || inst != b.Court || key.Algorithm() != s.Signature.Alg {
		return nil, fmt.Errorf("reading the signed report: key %s is not the attestation key of %q in the trust policy", s.Signature.KID, b.Court)
	}
	message, err := reportMessage(b)
	if err != nil {
		return nil, fmt.Errorf("reading the signed report: %w", err)
	}
	if err := key.Verify(message, s.Signature.Value); err != nil {
		return nil, fmt.Errorf("reading the signed report: %w", err)
	}
	return b, nil
}
