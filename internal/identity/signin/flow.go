package signin

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// RelyingParty signs people in. It is safe for concurrent use.
type RelyingParty struct {
	now       func() time.Time
	order     []string
	providers map[string]*provider

	mu   sync.Mutex
	used map[[32]byte]time.Time // digest of a state → when it expires
}

// New checks the configuration. No provider is asked for anything yet: one that
// is away does not keep the portal from starting.
func New(c Config) (*RelyingParty, error) {
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("configuring sign-in: %w", err)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	rp := &RelyingParty{now: c.Now, providers: map[string]*provider{}, used: map[[32]byte]time.Time{}}
	client := newClient(c.Transport)
	for _, p := range c.Providers {
		rp.order = append(rp.order, p.ID)
		rp.providers[p.ID] = &provider{Provider: p, redirect: strings.TrimSuffix(c.Callback, "/") + "/" + p.ID, client: client, now: c.Now}
	}
	return rp, nil
}

// Choice is a provider as a page offers it.
type Choice struct {
	ID, NameZH, NameEN string
	Demonstration      bool
}

// Choices are the providers in the order of the configuration.
func (rp *RelyingParty) Choices() []Choice {
	out := make([]Choice, 0, len(rp.order))
	for _, id := range rp.order {
		p := rp.providers[id]
		out = append(out, Choice{p.ID, p.NameZH, p.NameEN, p.Demonstration})
	}
	return out
}

// Options of one sign-in.
type Options struct {
	Language string // of the provider's pages, "zh-CN" or "en"
	// Fresh asks the person to sign in now, although the provider still knows her;
	// Finish fails with NotFresh when she did not.
	Fresh bool
	// ACR asks for one of these ways of signing in (acr_values); Finish fails with
	// NotStrong when it was none of them.
	ACR []string
	// Subject is the person who is signed in and confirms it; Finish fails with
	// OtherPerson when it is somebody else. Empty: anybody.
	Subject string
}

// Begun is a sign-in on its way.
type Begun struct {
	Redirect string // where the browser goes
	State    string // comes back as the query's "state": the name to keep Pending by
	// Pending belongs into this browser's session, on the server: it holds the
	// secrets of this sign-in. It is taken out when the answer comes.
	Pending string
}

type pending struct {
	Provider string   `json:"p"`
	State    string   `json:"s"`
	Nonce    string   `json:"n"`
	Verifier string   `json:"v"`
	Begun    int64    `json:"b"` // Unix seconds
	Fresh    bool     `json:"f,omitempty"`
	ACR      []string `json:"a,omitempty"`
	Subject  string   `json:"u,omitempty"`
}

// Begin starts a sign-in with the provider of this id. Errors are *Error.
func (rp *RelyingParty) Begin(ctx context.Context, id string, o Options) (*Begun, error) {
	p := rp.providers[id]
	if p == nil {
		return nil, &Error{Code: UnknownProvider, Provider: shorten(id), Err: errors.New("no provider has this id")}
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	d, err := p.discover(ctx)
	if err != nil {
		return nil, err
	}
	s := pending{Provider: id, State: random(), Nonce: random(), Verifier: oauth2.GenerateVerifier(), Begun: rp.now().Unix(), Fresh: o.Fresh, ACR: o.ACR, Subject: o.Subject}
	params := []oauth2.AuthCodeOption{oidc.Nonce(s.Nonce), oauth2.S256ChallengeOption(s.Verifier)}
	add := func(key, value string) { params = append(params, oauth2.SetAuthURLParam(key, value)) }
	if o.Language != "" {
		add("ui_locales", o.Language)
	}
	if o.Fresh {
		add("prompt", "login")
		add("max_age", "0")
	}
	if len(o.ACR) > 0 {
		add("acr_values", strings.Join(o.ACR, " "))
	}
	if c := p.claimsRequest(d); c != "" {
		add("claims", c)
	}
	kept, err := json.Marshal(s)
	if err != nil {
		return nil, p.fail(Refused, "keeping the state: %w", err)
	}
	return &Begun{Redirect: p.oauth(d).AuthCodeURL(s.State, params...), State: s.State, Pending: string(kept)}, nil
}

// claimsRequest is the claims parameter, empty for none.
func (p *provider) claimsRequest(d *discovered) string {
	switch {
	case !d.ClaimsRequest, string(p.Claims) == "{}":
		return ""
	case len(p.Claims) > 0:
		return string(p.Claims)
	case len(p.Policy.Frameworks) == 0 || p.NumberClaim == "":
		return ""
	}
	request := map[string]any{"userinfo": map[string]any{"verified_claims": map[string]any{
		"verification": map[string]any{"trust_framework": nil, "assurance_level": nil, "time": nil,
			"evidence": []any{map[string]any{"type": map[string]any{"value": "document"}, "check_details": nil}}},
		"claims": map[string]any{"name": nil, "birthdate": nil, p.NumberClaim: nil},
	}}, "id_token": map[string]any{"auth_time": map[string]any{"essential": true}}}
	text, err := json.Marshal(request)
	if err != nil {
		return ""
	}
	return string(text)
}

// Finish ends a sign-in. id is the provider that the callback's address names,
// kept the Pending that Begin gave this browser (empty when its session has none
// of this state), query what the provider answered. A Pending serves once, failed
// or not. Errors are *Error.
func (rp *RelyingParty) Finish(ctx context.Context, id, kept string, query url.Values) (*Identity, error) {
	p := rp.providers[id]
	if p == nil {
		return nil, &Error{Code: UnknownProvider, Provider: shorten(id), Err: errors.New("no provider has this id")}
	}
	ctx, cancel := context.WithTimeout(ctx, 3*requestTimeout) // discovery or keys, tokens, userinfo
	defer cancel()
	var s pending
	if kept == "" || json.Unmarshal([]byte(kept), &s) != nil || len(s.State) < minStateLetters || len(s.Nonce) < minStateLetters || s.Verifier == "" {
		return nil, p.fail(NotBegun, "this browser's session holds no sign-in")
	}
	for _, key := range []string{"state", "code", "iss", "error"} {
		if len(query[key]) > 1 {
			return nil, p.fail(NotBegun, "the answer has %s more than once", key)
		}
	}
	if subtle.ConstantTimeCompare([]byte(query.Get("state")), []byte(s.State)) != 1 {
		return nil, p.fail(NotBegun, "the answer's state is another one")
	}
	if !rp.use(s.State) {
		return nil, p.fail(Used, "this state was used before")
	}
	if s.Provider != id {
		return nil, p.fail(WrongIssuer, "the sign-in was begun with another provider")
	}
	begun := time.Unix(s.Begun, 0)
	if now := rp.now(); now.Sub(begun) > lifetime || begun.After(now.Add(skew)) {
		return nil, p.fail(Expired, "begun more than %v ago", lifetime)
	}
	d, err := p.discover(ctx)
	if err != nil {
		return nil, err
	}
	// RFC 9207 §2.4: before anything else of the answer is looked at.
	switch iss, given := query["iss"]; {
	case given && iss[0] != p.Issuer:
		return nil, p.fail(WrongIssuer, "the answer's iss is another provider's")
	case !given && d.ResponseIssuer:
		return nil, p.fail(WrongIssuer, "the answer has no iss, which this provider promised")
	}
	if code := query.Get("error"); code != "" {
		if code == "access_denied" {
			return nil, p.fail(Cancelled, "access_denied")
		}
		if !plain(code) {
			code = "an error that is none of RFC 6749's"
		}
		return nil, p.fail(Refused, "%s", code)
	}
	if query.Get("code") == "" {
		return nil, p.fail(Refused, "the answer has no code")
	}
	token, err := p.oauth(d).Exchange(oidc.ClientContext(ctx, p.client), query.Get("code"), oauth2.VerifierOption(s.Verifier))
	if err != nil {
		code := Unreachable
		if e := new(oauth2.RetrieveError); errors.As(err, &e) && e.Response != nil && e.Response.StatusCode < 500 {
			code = Refused
		}
		return nil, p.fail(code, "exchanging the code: %w", redact(err))
	}
	return p.identify(ctx, d, &s, token)
}

// use takes a state, once. What is kept is bounded by the sign-ins of ten minutes:
// only a state that Begin gave out gets here.
func (rp *RelyingParty) use(state string) bool {
	rp.mu.Lock()
	defer rp.mu.Unlock()
	now := rp.now()
	for k, until := range rp.used {
		if now.After(until) {
			delete(rp.used, k)
		}
	}
	k := sha256.Sum256([]byte(state))
	if _, there := rp.used[k]; there {
		return false
	}
	rp.used[k] = now.Add(lifetime + 2*skew)
	return true
}

func random() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // crypto/rand.Read never fails
	return base64.RawURLEncoding.EncodeToString(b)
}

func shorten(s string) string {
	if len(s) > 32 {
		s = s[:32]
	}
	return strconv.QuoteToASCII(s)
}
