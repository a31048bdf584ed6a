package evidence

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// AuthorityRevocation says in a policy that a timestamp authority's certificate,
// or one above it, was revoked. spec/timestamp.md, TS24.
type AuthorityRevocation struct {
	// Certificate is SHA-256 of the revoked one, DER; absent: every certificate
	// of this authority.
	Certificate Digest `json:"certificate,omitzero"`
	At          string `json:"at"` // RFC 3339 in UTC, whole seconds; of a key in other hands: since when it may be
	// Reason is a name of RFC 5280 §5.3.1, absent when the issuer gave none, which
	// counts like a key in other hands (RFC 3161 §4).
	Reason string `json:"reason,omitempty"`
}

// Time returns At; zero before Validate has seen that it is one.
func (r *AuthorityRevocation) Time() time.Time { return policyTime(r.At) }

// Orderly reports whether tokens made before the revocation stay good by their
// own word (RFC 3161 §4, part 1).
func (r *AuthorityRevocation) Orderly() bool {
	return slices.Contains([]string{"unspecified", "affiliationChanged", "superseded", "cessationOfOperation"}, r.Reason)
}

// BrokenAlgorithm says in a policy that what an algorithm signed or digested
// from a time on may be anybody's. spec/timestamp.md, TS26.
type BrokenAlgorithm struct {
	// Algorithm is SHA-256, SHA-384, SHA-512, ECDSA-P256, ECDSA-P384, ECDSA-P521,
	// or RSA-N, which stands for RSA keys of up to N bits.
	Algorithm string `json:"algorithm"`
	Since     string `json:"since"` // RFC 3339 in UTC, whole seconds
}

// Time returns Since; zero before Validate has seen that it is a time.
func (b *BrokenAlgorithm) Time() time.Time { return policyTime(b.Since) }

func policyTime(text string) time.Time {
	t, err := time.Parse("2006-01-02T15:04:05Z", text)
	if err != nil {
		return time.Time{}
	}
	return t
}

const (
	// maxRevocations of one authority: it has a handful of certificates in the
	// life of a root.
	maxRevocations = 64
	// maxBroken is more than the algorithms that there are.
	maxBroken = 32
)

func checkPolicyTime(path, text string) error {
	if t := policyTime(text); t.IsZero() || t.Year() < 1990 {
		return &FieldError{path, "time", fmt.Sprintf("%.40q is no time in UTC, whole seconds, from 1990 on", text), "write it like 2031-05-17T09:30:00Z", nil}
	}
	return nil
}

func (t *TimestampAuthority) validateRevoked(path string) error {
	if len(t.Revoked) > maxRevocations {
		return &FieldError{path + ".revoked", "revoked", fmt.Sprintf("%d revocations, at most %d", len(t.Revoked), maxRevocations), "", nil}
	}
	for i := range t.Revoked {
		r, at := &t.Revoked[i], fmt.Sprintf("%s.revoked[%d]", path, i)
		if err := checkPolicyTime(at+".at", r.At); err != nil {
			return err
		}
		if r.Reason != "" && !slices.Contains(revocationReasons(), r.Reason) {
			return &FieldError{at + ".reason", "revoked", fmt.Sprintf("%.40q is no reason for a revocation", r.Reason), "use " + strings.Join(revocationReasons(), ", ") + ", or leave it out", nil}
		}
	}
	return nil
}

// revocationReasons are those of RFC 5280 §5.3.1 for good; certificateHold is
// none of them.
func revocationReasons() []string {
	return []string{"unspecified", "keyCompromise", "cACompromise", "affiliationChanged", "superseded", "cessationOfOperation", "privilegeWithdrawn", "aACompromise"}
}

func (p *Policy) validateBroken() error {
	if len(p.BrokenAlgorithms) > maxBroken {
		return &FieldError{"$.broken_algorithms", "broken-algorithms", fmt.Sprintf("%d algorithms, at most %d", len(p.BrokenAlgorithms), maxBroken), "", nil}
	}
	for i := range p.BrokenAlgorithms {
		b, at := &p.BrokenAlgorithms[i], fmt.Sprintf("$.broken_algorithms[%d]", i)
		if !knownAlgorithm(b.Algorithm) {
			return &FieldError{at + ".algorithm", "broken-algorithms", fmt.Sprintf("%.40q is no algorithm that tokens are made with", b.Algorithm), "use SHA-256, SHA-384, SHA-512, ECDSA-P256, ECDSA-P384, ECDSA-P521 or RSA-N for keys of up to N bits", nil}
		}
		if i > 0 && b.Algorithm <= p.BrokenAlgorithms[i-1].Algorithm {
			return &FieldError{at + ".algorithm", "broken-algorithms", "the algorithms are not sorted, or one is there twice", "sort them", nil}
		}
		if err := checkPolicyTime(at+".since", b.Since); err != nil {
			return err
		}
	}
	return nil
}

func knownAlgorithm(name string) bool {
	if bits, ok := strings.CutPrefix(name, "RSA-"); ok {
		n, err := strconv.ParseUint(bits, 10, 16)
		return err == nil && n >= 2048 && strconv.FormatUint(n, 10) == bits
	}
	return slices.Contains([]string{"SHA-256", "SHA-384", "SHA-512", "ECDSA-P256", "ECDSA-P384", "ECDSA-P521"}, name)
}
