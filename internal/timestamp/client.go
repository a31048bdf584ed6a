package timestamp

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/zhenglian/zhenglian/evidence/rfc3161"
)

const (
	defaultWait = 5 * time.Second
	// defaultSkew is the project's line between a clock that is a little off and
	// one that is wrong (design: ten minutes).
	defaultSkew = 10 * time.Minute
)

// Remote is an authority to ask.
type Remote struct {
	Name string // for people
	URL  string // http or https; the token itself is what is trusted, not the way it came
	// Trust says which tokens are its own.
	Trust  rfc3161.Trust
	Policy string        // object identifier, dotted, to ask for; empty: the authority's choice
	Wait   time.Duration // for its answer; 0: five seconds
	// Headers go with each query: what an outside authority wants for its bill.
	Headers http.Header
}

// ClientConfig is a client's configuration.
type ClientConfig struct {
	Authorities []Remote // in the order in which they are asked
	Transport   http.RoundTripper
	// MaxSkew is how far a token's time may be from this host's; 0: ten minutes.
	// An authority that is further off is passed over.
	MaxSkew time.Duration

	now func() time.Time // tests alone
}

// Token is a token that has been checked.
type Token struct {
	DER       []byte
	Info      rfc3161.Info
	Authority string // Remote.Name
}

// Client asks authorities for tokens. Its methods may be called at the same time.
type Client struct {
	cfg    ClientConfig
	http   *http.Client
	policy []asn1.ObjectIdentifier // of each authority
}

// NewClient checks the configuration.
func NewClient(cfg ClientConfig) (*Client, error) {
	if len(cfg.Authorities) == 0 {
		return nil, errors.New("no timestamp authority is configured: name at least one")
	}
	if cfg.MaxSkew == 0 {
		cfg.MaxSkew = defaultSkew
	}
	if cfg.now == nil {
		cfg.now = time.Now
	}
	c := &Client{cfg: cfg, http: &http.Client{
		Transport: cfg.Transport,
		// The address is configured; whoever answers does not choose another.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	c.cfg.Authorities = slices.Clone(cfg.Authorities)
	for i := range c.cfg.Authorities {
		r := &c.cfg.Authorities[i]
		if u, err := url.Parse(r.URL); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return nil, fmt.Errorf("timestamp authority %d: %q is not an http or https address", i+1, r.URL)
		}
		if r.Name == "" {
			r.Name = r.URL
		}
		if len(r.Trust.Anchors) == 0 && len(r.Trust.Keys) == 0 {
			return nil, fmt.Errorf("timestamp authority %s: name its root certificate or pin its key, without which no token of it can be checked", r.Name)
		}
		if r.Wait == 0 {
			r.Wait = defaultWait
		}
		var policy asn1.ObjectIdentifier
		if r.Policy != "" {
			var err error
			if policy, err = parseOID(r.Policy); err != nil {
				return nil, fmt.Errorf("timestamp authority %s: %w", r.Name, err)
			}
		}
		c.policy = append(c.policy, policy)
	}
	return c, nil
}

// Stamp returns a token over the imprint, SHA-256, from the first authority of
// the list that gives one which verifies. The error joins what each of them did.
func (c *Client) Stamp(ctx context.Context, imprint [32]byte) (Token, error) {
	return c.StampDigest(ctx, crypto.SHA256, imprint[:])
}

// StampDigest is Stamp over another of SHA-256, SHA-384 and SHA-512, for
// renewals.
func (c *Client) StampDigest(ctx context.Context, hash crypto.Hash, imprint []byte) (Token, error) {
	if !slices.Contains(digestAlgorithms(), hash) || len(imprint) != hash.Size() {
		return Token{}, fmt.Errorf("a timestamp is over SHA-256, SHA-384 or SHA-512, not over %d bytes of %s", len(imprint), hash)
	}
	var failures []error
	for i := range c.cfg.Authorities {
		token, err := c.ask(ctx, i, hash, imprint)
		if err == nil {
			return token, nil
		}
		failures = append(failures, fmt.Errorf("asking the timestamp authority %s: %w", c.cfg.Authorities[i].Name, err))
		if ctx.Err() != nil {
			break
		}
	}
	return Token{}, errors.Join(failures...)
}

func (c *Client) ask(ctx context.Context, i int, hash crypto.Hash, imprint []byte) (Token, error) {
	r := &c.cfg.Authorities[i]
	ctx, cancel := context.WithTimeout(ctx, r.Wait)
	defer cancel()
	nonce, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 64))
	if err != nil {
		return Token{}, fmt.Errorf("making a nonce: %w", err)
	}
	q := query{Version: 1, Policy: c.policy[i], Nonce: nonce, Certificates: true}
	q.Imprint.Algorithm = pkix.AlgorithmIdentifier{Algorithm: hashOID(hash), Parameters: asn1.NullRawValue}
	q.Imprint.Digest = imprint
	body, err := asn1.Marshal(q)
	if err != nil {
		return Token{}, fmt.Errorf("encoding the query: %w", err)
	}
	answer, err := c.post(ctx, r, body)
	if err != nil {
		return Token{}, err
	}
	der, err := parseReply(answer)
	if err != nil {
		return Token{}, err
	}
	info, err := rfc3161.VerifyDigest(der, hash, imprint, r.Trust)
	if err != nil {
		return Token{}, err
	}
	if info.Nonce == nil || info.Nonce.Cmp(nonce) != 0 {
		return Token{}, errors.New("the token answers another query: its nonce is not ours")
	}
	if r.Policy != "" && info.Policy != r.Policy {
		return Token{}, fmt.Errorf("the token is under policy %s, not %s", info.Policy, r.Policy)
	}
	if d := info.Time.Sub(c.cfg.now()); d.Abs() > c.cfg.MaxSkew {
		return Token{}, fmt.Errorf("its time %s is %s from this host's: one of the two clocks is wrong", info.Time.Format(time.RFC3339), d.Round(time.Second))
	}
	return Token{DER: bytes.Clone(der), Info: info, Authority: r.Name}, nil
}

func (c *Client) post(ctx context.Context, r *Remote, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.URL, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	for name, values := range r.Headers {
		req.Header[name] = values
	}
	req.Header.Set("Content-Type", queryType)
	req.Header.Set("Accept", replyType)
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, rfc3161.MaxToken+1))
	if err != nil {
		return nil, fmt.Errorf("reading the answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("it answers with HTTP status %s", resp.Status)
	}
	if t, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err != nil || t != replyType {
		return nil, fmt.Errorf("it answers with content type %q, not %s", resp.Header.Get("Content-Type"), replyType)
	}
	if len(answer) > rfc3161.MaxToken {
		return nil, fmt.Errorf("the answer has more than %d bytes", rfc3161.MaxToken)
	}
	return answer, nil
}
