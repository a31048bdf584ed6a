// Package httpsig signs and checks HTTP requests by RFC 9421, in the one
// profile that the nodes of an alliance use: a member key or an institution's
// statement key says who asks, so that no password or token exists to be
// stolen.
//
//	client  Sign     ─► Content-Digest (with a body), Signature-Input, Signature
//	request travels  ─► through proxies that leave method, URI and body alone
//	server  Verify   ─► parse strictly, look the key up, check time and signature
//	        nonces   ─► the same signature a second time is refused
//	        kid      ─► who asks; what the key may see is the caller's decision
//
// # The profile
//
//	Signature-Input: zhenglian=("@method" "@target-uri" "content-digest");created=1700000000;keyid="<64 hex>";nonce="<1 to 64 characters>"
//	Signature: zhenglian=:<base64 of 64 bytes>:
//
// There is exactly one signature, under any label. "@method" and "@target-uri"
// must be covered, and "content-digest" (RFC 9530, sha-256) when there is a
// body; "@authority", "@scheme", "@path", "@query" and header fields may be
// covered besides, without component parameters. keyid is the SHA-256 of the
// key's SubjectPublicKeyInfo, as in statements. The algorithm is the key's own:
// Ed25519, ECDSA on P-256 with SHA-256 and low s, or SM2 with SM3 (which has no
// registered name, so `alg` is left out). `created` is at most five minutes off
// the server's clock; `expires` and `tag` are allowed.
//
// # Trust
//
// The server's clock is trusted within the window. The nonces of the window
// live in memory alone: a signature made before the verifier started is
// refused, so that a restart opens no door to a replay.
package httpsig

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
)

// Label is the name Sign gives its signature.
const Label = "zhenglian"

// DefaultWindow is how far `created` may be from the server's clock, in either
// direction: room for a client whose clock nobody looks after.
const DefaultWindow = 5 * time.Minute

// Code says why a signature was refused; it is part of the API's answers.
type Code string

// The reasons, in the order in which they are looked for.
const (
	CodeMissing   Code = "signature-missing"   // no Signature-Input or Signature
	CodeMalformed Code = "signature-malformed" // not in the profile above
	CodeStale     Code = "signature-stale"     // created outside the window, or expired
	CodeInvalid   Code = "signature-invalid"   // the body or the bytes do not fit
	CodeReplayed  Code = "signature-replayed"  // this nonce was seen
	CodeTooMany   Code = "signature-too-many"  // this key, or all, used up the nonces of the window
)

// Error is a refusal. Reason is one sentence and holds nothing secret.
type Error struct {
	Code   Code
	Field  string // the header field or parameter, such as "created"
	Reason string
}

func (e *Error) Error() string { return fmt.Sprintf("%s: %s: %s", e.Code, e.Field, e.Reason) }

func refuse(code Code, field, format string, args ...any) *Error {
	return &Error{Code: code, Field: field, Reason: fmt.Sprintf(format, args...)}
}

// Sign signs the request as it will be sent, with the body that will be sent
// (nil for none), at the time now. It sets Content-Digest, Signature-Input and
// Signature. The request's URL must be absolute. random is crypto/rand.Reader
// when nil.
func Sign(r *http.Request, body []byte, signer evidence.Signer, now time.Time, random io.Reader) error {
	if r.URL == nil || r.URL.Scheme == "" || (r.URL.Host == "" && r.Host == "") {
		return fmt.Errorf("signing the request: the URL %q is not absolute", r.URL)
	}
	if random == nil {
		random = rand.Reader
	}
	var nonce [16]byte // 128 bits: two requests never meet by chance
	if _, err := io.ReadFull(random, nonce[:]); err != nil {
		return fmt.Errorf("signing the request: reading a nonce: %w", err)
	}
	components := []string{"@method", "@target-uri"}
	r.Header.Del("Content-Digest")
	if len(body) > 0 {
		sum := sha256.Sum256(body)
		r.Header.Set("Content-Digest", "sha-256=:"+base64.StdEncoding.EncodeToString(sum[:])+":")
		components = append(components, "content-digest")
	}
	params := fmt.Sprintf(`("%s");created=%d;keyid="%s";nonce="%s"`, strings.Join(components, `" "`), now.Unix(),
		signer.Public().KID(), base64.RawURLEncoding.EncodeToString(nonce[:]))
	base, err := signatureBase(r, clientTarget(r), components, params)
	if err != nil {
		return fmt.Errorf("signing the request: %w", err)
	}
	sig, err := signer.Sign(base)
	if err != nil {
		return fmt.Errorf("signing the request: %w", err)
	}
	r.Header.Set("Signature-Input", Label+"="+params)
	r.Header.Set("Signature", Label+"=:"+base64.StdEncoding.EncodeToString(sig)+":")
	return nil
}

// clientTarget returns what the server will see as scheme, authority and
// request target.
func clientTarget(r *http.Request) target {
	host := r.Host
	if host == "" {
		host = r.URL.Host
	}
	return target{scheme: r.URL.Scheme, authority: host, path: r.URL.EscapedPath(), query: r.URL.RawQuery, requestURI: r.URL.RequestURI()}
}

// Signed reports whether the request carries a signature at all, good or bad.
func Signed(r *http.Request) bool {
	return len(r.Header.Values("Signature-Input")) > 0 || len(r.Header.Values("Signature")) > 0
}

// Config of a Verifier. The zero value works.
type Config struct {
	Window time.Duration    // DefaultWindow when 0
	Now    func() time.Time // time.Now when nil
	// MaxNonces bounds the memory of nonces, at about 100 bytes each. When 0 it
	// is 262,144: 25 MB, and 437 requests a second over the ten minutes that a
	// nonce may have to be kept.
	MaxNonces int
	// MaxNoncesPerKey keeps one key from using up the others'. When 0 it is a
	// sixteenth of MaxNonces.
	MaxNoncesPerKey int
}

// Verifier checks requests and remembers their nonces. It is safe for
// concurrent use.
type Verifier struct {
	window  time.Duration
	now     func() time.Time
	started time.Time
	nonces  *nonceCache
}

// NewVerifier returns a verifier that takes signatures made from now on.
func NewVerifier(c Config) *Verifier {
	if c.Window == 0 {
		c.Window = DefaultWindow
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.MaxNonces <= 0 {
		c.MaxNonces = 1 << 18
	}
	if c.MaxNoncesPerKey <= 0 {
		c.MaxNoncesPerKey = max(1, c.MaxNonces/16)
	}
	return &Verifier{window: c.Window, now: c.Now, started: c.Now().Truncate(time.Second),
		nonces: newNonceCache(c.MaxNonces, c.MaxNoncesPerKey)}
}

// Verify checks the request's one signature and returns the key that made it.
// origin is scheme, authority and (behind a proxy that cuts it off) path under
// which the client addressed this server, such as "https://court.example"; take it from the configuration, not from the
// request, or a signature meant for one server is good at another. body is the
// whole body, nil for none. key returns the public key of a kid; its error is
// returned as it is. Every other error is an *Error.
func (v *Verifier) Verify(r *http.Request, origin string, body []byte, key func(evidence.Digest) (*evidence.PublicKey, error)) (evidence.Digest, error) {
	in, err := parseInput(r.Header)
	if err != nil {
		return evidence.Digest{}, err
	}
	if err := v.checkCoverage(r, in, body); err != nil {
		return evidence.Digest{}, err
	}
	now := v.now()
	if err := v.checkTime(in, now); err != nil {
		return evidence.Digest{}, err
	}
	t, err := serverTarget(r, origin)
	if err != nil {
		return evidence.Digest{}, err
	}
	base, err := signatureBase(r, t, in.components, in.params)
	if err != nil {
		return evidence.Digest{}, err
	}
	pub, err := key(in.kid)
	if err != nil {
		return evidence.Digest{}, err
	}
	if in.alg != "" && in.alg != algorithmName(pub.Algorithm()) {
		return evidence.Digest{}, refuse(CodeMalformed, "alg", "%q is not the key's algorithm: leave alg out", in.alg)
	}
	if err := pub.VerifyStrict(base, in.signature); err != nil {
		return evidence.Digest{}, refuse(CodeInvalid, "signature", "it does not verify over %s %s: sign exactly the method, the address %s and the body that are sent", r.Method, t.uri(), origin)
	}
	// Only now, so that nobody without the key can fill the memory.
	if err := v.nonces.use(in.kid, in.nonce, now, in.created.Add(v.window)); err != nil {
		return evidence.Digest{}, err
	}
	return in.kid, nil
}

func (v *Verifier) checkCoverage(r *http.Request, in *input, body []byte) error {
	for _, need := range [...]string{"@method", "@target-uri"} {
		if !in.covers(need) {
			return refuse(CodeMalformed, "signature-input", "the component %q must be covered", need)
		}
	}
	if len(body) > 0 && !in.covers("content-digest") {
		return refuse(CodeMalformed, "signature-input", `the component "content-digest" must be covered when there is a body`)
	}
	if in.covers("content-digest") {
		return checkContentDigest(r.Header, body)
	}
	return nil
}

func (v *Verifier) checkTime(in *input, now time.Time) error {
	if off := now.Sub(in.created); off > v.window || off < -v.window {
		return refuse(CodeStale, "created", "%s is %s off this server's clock, which says %s; at most %s is allowed: set the clock and sign again",
			in.created.UTC().Format(time.RFC3339), off.Abs().Round(time.Second), now.UTC().Format(time.RFC3339), v.window)
	}
	if in.created.Before(v.started) {
		return refuse(CodeStale, "created", "this server started after the signature was made: sign again")
	}
	if in.hasExpires && !now.Before(in.expires) {
		return refuse(CodeStale, "expires", "the signature expired: sign again")
	}
	return nil
}

// algorithmName is the name in the HTTP Signature Algorithms registry; SM2
// has none.
func algorithmName(a evidence.Algorithm) string {
	switch a {
	case evidence.EdDSA:
		return "ed25519"
	case evidence.ES256:
		return "ecdsa-p256-sha256"
	}
	return "none"
}
