package demoprovider

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"sync"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

const (
	requestLifetime = 10 * time.Minute // to choose a person
	codeLifetime    = time.Minute      // RFC 6749 §4.1.2 says ten at most
	tokenLifetime   = 5 * time.Minute
	mostRequests    = 10000 // at once; a few hundred bytes each
)

var (
	errGone        = errors.New("it is not there any more")
	errUnsupported = errors.New("not supported here")
)

// store holds what is under way, in memory: a restart ends it, and people begin
// again. It is op.Storage for the parts of the protocol that are offered.
type store struct {
	issuer  string
	key     *signingKey
	people  []Person
	clients []Client
	now     func() time.Time

	mu       sync.Mutex
	requests map[string]*request
	codes    map[[32]byte]*code
	tokens   map[string]*accessToken
}

type code struct {
	request *request
	expires time.Time
	token   string // the access token it was exchanged for
	used    bool
}

type accessToken struct {
	subject string
	wanted  []string // verified claims asked for in userinfo
	expires time.Time
}

// request is one authorization request; op.AuthRequest.
type request struct {
	id       string
	asked    oidc.AuthRequest
	userInfo []string // verified claims asked for in userinfo …
	idToken  []string // … and in the ID token
	expires  time.Time
	subject  string // empty until somebody was chosen
	signedIn time.Time
	code     [32]byte
}

func newStore(key *ecdsa.PrivateKey, c Config) (*store, error) {
	seen := map[string]bool{}
	for _, p := range c.People {
		if p.Subject == "" || seen[p.Subject] || p.NameZH == "" || p.NameEN == "" || p.Level < 1 || p.Level > 3 {
			return nil, fmt.Errorf("the demonstration's person %q needs a subject of her own, names in both languages and a level", p.Subject)
		}
		seen[p.Subject] = true
	}
	for _, cl := range c.Clients {
		if cl.ID == "" || len(cl.RedirectURIs) == 0 {
			return nil, fmt.Errorf("the demonstration provider's client %q needs an id and a redirect address", cl.ID)
		}
		for _, u := range cl.RedirectURIs {
			if parsed, err := url.Parse(u); err != nil || parsed.Host == "" || parsed.Fragment != "" {
				return nil, fmt.Errorf("the redirect address %q of client %q is none", u, cl.ID)
			}
		}
	}
	der, err := key.PublicKey.Bytes()
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(der)
	return &store{
		issuer: c.Issuer, people: c.People, clients: c.Clients, now: c.Now,
		key:      &signingKey{key: key, id: base64.RawURLEncoding.EncodeToString(sum[:12])},
		requests: map[string]*request{}, codes: map[[32]byte]*code{}, tokens: map[string]*accessToken{},
	}, nil
}

// sweep drops what has expired; s.mu is held.
func (s *store) sweep() {
	now := s.now()
	for k, v := range s.requests {
		if now.After(v.expires) {
			delete(s.requests, k)
		}
	}
	for k, v := range s.codes {
		if now.After(v.expires.Add(tokenLifetime)) { // kept as long as what it was exchanged for
			delete(s.codes, k)
		}
	}
	for k, v := range s.tokens {
		if now.After(v.expires) {
			delete(s.tokens, k)
		}
	}
}

func (s *store) add(asked *oidc.AuthRequest, c claimsRequest) (*request, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweep()
	if len(s.requests) >= mostRequests {
		return nil, errors.New("too many sign-ins at once")
	}
	r := &request{id: random(), asked: *asked, userInfo: c.wanted(c.UserInfo.Verified), idToken: c.wanted(c.IDToken.Verified), expires: s.now().Add(requestLifetime)}
	s.requests[r.id] = r
	return r, nil
}

// find returns a request that waits for somebody to be chosen.
func (s *store) find(id string) *request {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.requests[id]
	if r == nil || s.now().After(r.expires) || r.subject != "" {
		return nil
	}
	return r
}

// finish takes a request out; subject is who was chosen, or empty. It answers once.
func (s *store) finish(id, subject string) *request {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.requests[id]
	if r == nil || s.now().After(r.expires) {
		return nil
	}
	delete(s.requests, id)
	r.subject, r.signedIn = subject, s.now()
	return r
}

func (s *store) person(subject string) *Person {
	if i := slices.IndexFunc(s.people, func(p Person) bool { return p.Subject == subject }); i >= 0 {
		return &s.people[i]
	}
	return nil
}

func (s *store) keep(text string, r *request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.code = sha256.Sum256([]byte(text))
	s.codes[r.code] = &code{request: r, expires: s.now().Add(codeLifetime)}
}

// take gives a code's request, once. A code that comes again was stolen, by the
// first or by the second: what it was exchanged for ends (RFC 6749 §4.1.2).
func (s *store) take(text string) *request {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweep()
	c := s.codes[sha256.Sum256([]byte(text))]
	switch {
	case c == nil:
		return nil
	case c.used:
		delete(s.tokens, c.token)
		return nil
	}
	c.used = true
	if s.now().After(c.expires) {
		return nil
	}
	return c.request
}

// CreateAccessToken is op.Storage's: request is one that take gave.
func (s *store) CreateAccessToken(_ context.Context, asked op.TokenRequest) (string, time.Time, error) {
	r, ok := asked.(*request)
	if !ok {
		return "", time.Time{}, errUnsupported
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	id, expires := random(), s.now().Add(tokenLifetime)
	s.tokens[id] = &accessToken{subject: r.subject, wanted: r.userInfo, expires: expires}
	if c := s.codes[r.code]; c != nil {
		c.token = id
	}
	return id, expires, nil
}

// SetUserinfoFromToken is op.Storage's: what the userinfo endpoint answers.
func (s *store) SetUserinfoFromToken(_ context.Context, info *oidc.UserInfo, id, subject, _ string) error {
	s.mu.Lock()
	t := s.tokens[id]
	s.mu.Unlock()
	if t == nil || s.now().After(t.expires) || t.subject != subject {
		return oidc.ErrAccessDenied().WithDescription("the access token has ended")
	}
	return s.describe(info, t.subject, t.wanted)
}

// SetUserinfoFromRequest is op.Storage's: what the ID token says beside who.
func (s *store) SetUserinfoFromRequest(_ context.Context, info *oidc.UserInfo, asked op.IDTokenRequest, _ []string) error {
	r, ok := asked.(*request)
	if !ok {
		return errUnsupported
	}
	return s.describe(info, r.subject, r.idToken)
}

func (s *store) describe(info *oidc.UserInfo, subject string, wanted []string) error {
	p := s.person(subject)
	if p == nil {
		return errGone
	}
	info.Subject = p.Subject
	info.Name = p.NameZH
	info.AppendClaims("name#en", p.NameEN)
	info.AppendClaims("demonstration", true)
	// A day's register, an hour ago: fresh enough for any policy.
	at := s.now().UTC().Add(-time.Hour).Format(time.RFC3339)
	if v := p.verified(wanted, at); v != nil {
		info.AppendClaims("verified_claims", v)
	}
	return nil
}

// GetClientByClientID is op.Storage's.
func (s *store) GetClientByClientID(_ context.Context, id string) (op.Client, error) {
	for i := range s.clients {
		if s.clients[i].ID == id {
			return &client{&s.clients[i]}, nil
		}
	}
	return nil, oidc.ErrInvalidClient().WithDescription("unknown client")
}

// AuthorizeClientIDSecret is op.Storage's.
func (s *store) AuthorizeClientIDSecret(_ context.Context, id, secret string) error {
	for _, c := range s.clients {
		if c.ID == id && c.Secret != "" && subtle.ConstantTimeCompare([]byte(c.Secret), []byte(secret)) == 1 {
			return nil
		}
	}
	return oidc.ErrInvalidClient().WithDescription("wrong client secret")
}

// DeleteAuthRequest is op.Storage's; a request has gone when it was finished.
func (s *store) DeleteAuthRequest(context.Context, string) error { return nil }

// SigningKey, SignatureAlgorithms and KeySet are op.Storage's.
func (s *store) SigningKey(context.Context) (op.SigningKey, error) { return s.key, nil }

func (s *store) SignatureAlgorithms(context.Context) ([]jose.SignatureAlgorithm, error) {
	return []jose.SignatureAlgorithm{jose.ES256}, nil
}

func (s *store) KeySet(context.Context) ([]op.Key, error) { return []op.Key{publicKey{s.key}}, nil }

// Health is op.Storage's.
func (s *store) Health(context.Context) error { return nil }

// What follows belongs to grants and endpoints that this provider does not have.

func (s *store) CreateAuthRequest(context.Context, *oidc.AuthRequest, string) (op.AuthRequest, error) {
	return nil, errUnsupported
}
func (s *store) AuthRequestByID(context.Context, string) (op.AuthRequest, error) {
	return nil, errUnsupported
}
func (s *store) AuthRequestByCode(context.Context, string) (op.AuthRequest, error) {
	return nil, errUnsupported
}
func (s *store) SaveAuthCode(context.Context, string, string) error { return errUnsupported }
func (s *store) CreateAccessAndRefreshTokens(context.Context, op.TokenRequest, string) (string, string, time.Time, error) {
	return "", "", time.Time{}, errUnsupported
}
func (s *store) TokenRequestByRefreshToken(context.Context, string) (op.RefreshTokenRequest, error) {
	return nil, op.ErrInvalidRefreshToken
}
func (s *store) TerminateSession(context.Context, string, string) error { return errUnsupported }
func (s *store) RevokeToken(context.Context, string, string, string) *oidc.Error {
	return oidc.ErrInvalidRequest()
}
func (s *store) GetRefreshTokenInfo(context.Context, string, string) (string, string, error) {
	return "", "", op.ErrInvalidRefreshToken
}
func (s *store) SetUserinfoFromScopes(context.Context, *oidc.UserInfo, string, string, []string) error {
	return nil
}
func (s *store) SetIntrospectionFromToken(context.Context, *oidc.IntrospectionResponse, string, string, string) error {
	return errUnsupported
}
func (s *store) GetPrivateClaimsFromScopes(context.Context, string, string, []string) (map[string]any, error) {
	return nil, nil
}
func (s *store) GetKeyByIDAndClientID(context.Context, string, string) (*jose.JSONWebKey, error) {
	return nil, errUnsupported
}
func (s *store) ValidateJWTProfileScopes(context.Context, string, []string) ([]string, error) {
	return nil, errUnsupported
}

func random() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // crypto/rand.Read never fails
	return base64.RawURLEncoding.EncodeToString(b)
}
