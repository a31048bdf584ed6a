package rfc3161

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	CodeRevoked     Code = "revoked"          // it is of after the authority's certificate was revoked
	CodeCompromised Code = "compromised"      // the key may be in other hands, and nothing shows that the token is older
	CodeBroken      Code = "broken-algorithm" // an algorithm of it is called broken, and nothing shows that the token is older
	CodeExpired     Code = "expired"          // asked for another time than its own: the certificate had ended by then
)

// Revocation is that of a certificate, as its issuer or the verifier says
// (RFC 5280 §5.3).
type Revocation struct {
	Certificate [32]byte // SHA-256 of the certificate, DER; zero: every one in the chain
	At          time.Time
	// Orderly: revoked with reason unspecified, affiliationChanged, superseded or
	// cessationOfOperation. Tokens made before At stay good; of any other
	// revocation, and of one without a reason, none does by its own word, since
	// whoever has the key sets the time (RFC 3161 §4).
	Orderly bool
}

// Broken says from when on an algorithm proves nothing: a digest or signature
// of after Since may be anybody's.
type Broken struct {
	Algorithm string // as Info.Algorithms names it
	Since     time.Time
}

// Conditions are what a verifier knows against authorities and algorithms.
type Conditions struct {
	Revoked []Revocation
	Broken  []Broken
}

// Holds reports whether a token that Verify accepted counts, where seen is a
// time by which it is shown, by others than its own authority, to have existed;
// zero when nothing shows that. Errors are *Error with CodeRevoked,
// CodeCompromised or CodeBroken.
func (i *Info) Holds(c Conditions, seen time.Time) error {
	older := func(than time.Time) bool { return !seen.IsZero() && seen.Before(than) }
	for _, r := range c.Revoked {
		if !i.has(r.Certificate) || older(r.At) || r.Orderly && i.Latest().Before(r.At) {
			continue
		}
		if r.Orderly {
			return refuse(CodeRevoked, "the token is of %s; the certificate was revoked at %s", i.Time.Format(time.RFC3339), r.At.UTC().Format(time.RFC3339))
		}
		return refuse(CodeCompromised, "the certificate was revoked at %s because its key may be in other hands, and nothing else shows that the token is older", r.At.UTC().Format(time.RFC3339))
	}
	for _, b := range c.Broken {
		for _, a := range i.Algorithms {
			if sameAlgorithm(a, b.Algorithm) && !older(b.Since) {
				return refuse(CodeBroken, "it rests on %s, broken since %s, and nothing shows that the token is older", a, b.Since.UTC().Format(time.RFC3339))
			}
		}
	}
	return nil
}

// has reports whether a certificate, by SHA-256, is in the chain.
func (i *Info) has(certificate [32]byte) bool {
	return certificate == [32]byte{} || slices.ContainsFunc(i.Chain, func(c *x509.Certificate) bool { return sha256.Sum256(c.Raw) == certificate })
}

// sameAlgorithm reports whether what is said of broken applies to used.
func sameAlgorithm(used, broken string) bool {
	limit, rsaRule := strings.CutPrefix(broken, "RSA-")
	bits, rsaKey := strings.CutPrefix(used, "RSA-")
	if !rsaRule || !rsaKey {
		return used == broken
	}
	n, err1 := strconv.Atoi(bits)
	m, err2 := strconv.Atoi(limit)
	return err1 == nil && err2 == nil && n <= m
}

// Ends returns when the first certificate of the chain ends: until then, and not
// after, a renewal can take the token over.
func (i *Info) Ends() time.Time {
	end := i.Chain[0].NotAfter
	for _, c := range i.Chain[1:] {
		if c.NotAfter.Before(end) {
			end = c.NotAfter
		}
	}
	return end.UTC()
}

// Renewable reports whether a later token made at a time, at the latest, could
// still take this one over: the certificates had not ended, and neither they nor
// an algorithm had fallen by then. Errors are *Error.
func (i *Info) Renewable(c Conditions, at time.Time) error {
	if end := i.Ends(); at.After(end) {
		return refuse(CodeExpired, "the renewal is of %s; a certificate of the token ended at %s", at.UTC().Format(time.RFC3339), end.Format(time.RFC3339))
	}
	return i.Holds(c, at)
}

// algorithms names what the word of a token rests on: the digests and the key of
// its signature, and those of the certificates up to the anchor, whose own
// signature nobody needs.
func algorithms(t *token, chain []*x509.Certificate) []string {
	var all []string
	add := func(name string) {
		if name != "" && !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	add(digest(t.info.Imprint.Algorithm.Algorithm).String())
	add(digest(t.signer.DigestAlgorithm.Algorithm).String())
	for n, c := range chain {
		add(keyName(c))
		if n < len(chain)-1 {
			add(signedOver(c))
		}
	}
	slices.Sort(all)
	return all
}

func keyName(c *x509.Certificate) string {
	switch key := c.PublicKey.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA-%d", key.N.BitLen())
	case *ecdsa.PublicKey:
		return "ECDSA-" + strings.ReplaceAll(key.Curve.Params().Name, "-", "")
	}
	return ""
}

// signedOver names the digest under a certificate's signature; empty for one that
// no rule can be about.
func signedOver(c *x509.Certificate) string {
	switch c.SignatureAlgorithm {
	case x509.SHA256WithRSA, x509.SHA256WithRSAPSS, x509.ECDSAWithSHA256:
		return crypto.SHA256.String()
	case x509.SHA384WithRSA, x509.SHA384WithRSAPSS, x509.ECDSAWithSHA384:
		return crypto.SHA384.String()
	case x509.SHA512WithRSA, x509.SHA512WithRSAPSS, x509.ECDSAWithSHA512:
		return crypto.SHA512.String()
	}
	return ""
}
