package signin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// provider is a configured provider and what it last said of itself.
type provider struct {
	Provider
	redirect string
	client   *http.Client
	now      func() time.Time

	mu       sync.Mutex
	known    *discovered // nil before the first success
	failedAt time.Time
	failure  error
}

// discovered is a discovery document (OpenID Connect Discovery §3), with the
// parts that go-oidc does not expose, and the key set that goes with it.
type discovered struct {
	at         time.Time
	provider   *oidc.Provider
	algorithms []string

	Keys           string   `json:"jwks_uri"`
	ResponseIssuer bool     `json:"authorization_response_iss_parameter_supported"` // RFC 9207 §3
	ClaimsRequest  bool     `json:"claims_parameter_supported"`
	AuthMethods    []string `json:"token_endpoint_auth_methods_supported"`
	Algorithms     []string `json:"id_token_signing_alg_values_supported"`
	Challenges     []string `json:"code_challenge_methods_supported"`
}

// discover returns the discovery document, read again after an hour. An old one
// serves for a day while the provider does not answer. One request at a time: whoever
// waits gets the result of the one before.
func (p *provider) discover(ctx context.Context) (*discovered, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	if p.known != nil && now.Sub(p.known.at) < discoveryAge {
		return p.known, nil
	}
	if p.failure == nil || now.Sub(p.failedAt) >= discoveryPause {
		d, err := p.readDiscovery(ctx)
		if err == nil {
			d.at = now
			p.known, p.failure = d, nil
			return d, nil
		}
		if ctx.Err() != nil { // the caller went away: that says nothing of the provider
			return nil, p.fail(Unreachable, "reading its discovery document: %w", ctx.Err())
		}
		p.failedAt, p.failure = now, err
	}
	if p.known != nil && now.Sub(p.known.at) < discoveryGrace {
		return p.known, nil
	}
	return nil, p.fail(Unreachable, "reading its discovery document: %w", p.failure)
}

func (p *provider) readDiscovery(ctx context.Context) (*discovered, error) {
	op, err := oidc.NewProvider(oidc.ClientContext(ctx, p.client), p.Issuer)
	if err != nil {
		var mismatch *oidc.IssuerMismatchError
		if errors.As(err, &mismatch) {
			return nil, err
		}
		return nil, redact(err)
	}
	d := &discovered{provider: op}
	if err := op.Claims(d); err != nil {
		return nil, errors.New("it is no discovery document")
	}
	for _, endpoint := range []string{op.Endpoint().AuthURL, op.Endpoint().TokenURL, d.Keys, op.UserInfoEndpoint()} {
		if endpoint == "" && endpoint == op.UserInfoEndpoint() {
			continue // the one that may be missing
		}
		if u, err := url.Parse(endpoint); err != nil || !secure(u) || u.Scheme != "https" && strings.HasPrefix(p.Issuer, "https://") {
			return nil, errors.New("it names an endpoint that is not https, or leaves one out")
		}
	}
	// A provider that does not say what it knows of PKCE may still know it.
	if len(d.Challenges) > 0 && !slices.Contains(d.Challenges, "S256") {
		return nil, errors.New("it does not know PKCE with S256")
	}
	announced := d.Algorithms
	if len(announced) == 0 {
		announced = []string{oidc.RS256} // the one that is mandatory, Core §15.1
	}
	allowed := p.Provider.Algorithms
	if len(allowed) == 0 {
		allowed = asymmetric()
	}
	for _, a := range announced {
		if slices.Contains(allowed, a) {
			d.algorithms = append(d.algorithms, a)
		}
	}
	if len(d.algorithms) == 0 {
		return nil, fmt.Errorf("it signs ID tokens with none of %v", allowed)
	}
	return d, nil
}

func (p *provider) oauth(d *discovered) *oauth2.Config {
	endpoint := d.provider.Endpoint()
	// Chosen, not tried: trying would send the code twice, and a code that comes
	// twice is a stolen one.
	switch {
	case p.Secret == "":
		endpoint.AuthStyle = oauth2.AuthStyleInParams
	case len(d.AuthMethods) > 0 && !slices.Contains(d.AuthMethods, "client_secret_basic") && slices.Contains(d.AuthMethods, "client_secret_post"):
		endpoint.AuthStyle = oauth2.AuthStyleInParams
	default:
		endpoint.AuthStyle = oauth2.AuthStyleInHeader
	}
	scopes := p.Scopes
	if !slices.Contains(scopes, oidc.ScopeOpenID) {
		scopes = append([]string{oidc.ScopeOpenID}, scopes...)
	}
	return &oauth2.Config{ClientID: p.ClientID, ClientSecret: p.Secret, RedirectURL: p.redirect, Scopes: scopes, Endpoint: endpoint}
}

// newClient makes requests that end: in time, in size, and where they were sent.
func newClient(transport http.RoundTripper) *http.Client {
	if transport == nil {
		transport = http.DefaultTransport
	}
	return &http.Client{
		Transport: bounded{transport},
		Timeout:   requestTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return errors.New("the provider redirects a request that is not a browser's")
		},
	}
}

// bounded cuts answers off at maxResponse: the libraries above read to the end.
type bounded struct{ http.RoundTripper }

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.RoundTripper.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(resp.Body, maxResponse), resp.Body}
	return resp, nil
}

// redact keeps of an error what says which step failed, and drops what the other
// side wrote: bodies may hold tokens, names and numbers.
func redact(err error) error {
	var refused *oauth2.RetrieveError
	switch {
	case errors.As(err, &refused):
		code := refused.ErrorCode
		if !plain(code) {
			code = "no error code"
		}
		status := 0
		if refused.Response != nil {
			status = refused.Response.StatusCode
		}
		return fmt.Errorf("it answered %d: %s", status, code)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("no answer within %v", requestTimeout)
	}
	text, _, _ := strings.Cut(err.Error(), "\n")
	if status, _, ok := strings.Cut(text, ": "); ok && len(status) > 3 && status[0] >= '1' && status[0] <= '9' {
		return fmt.Errorf("it answered %s", status) // what follows is the answer's body
	}
	if i := strings.IndexAny(text, "{<"); i >= 0 {
		text = text[:i]
	}
	if r := []rune(text); len(r) > 200 {
		text = string(r[:200])
	}
	return errors.New(strings.TrimSpace(text))
}

// plain: an error code of RFC 6749 and nothing that could write into a log.
func plain(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for _, c := range s {
		if !(c >= 'a' && c <= 'z' || c == '_') {
			return false
		}
	}
	return true
}
