package signin

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/zhenglian/zhenglian/internal/identity/gb"
)

// Identity is who signed in, as her provider says.
type Identity struct {
	Provider string // its id here
	Issuer   string
	Subject  string // with Issuer, the person: for ever the same
	Name     string // to greet her by; verified only when Level is above 1

	Level    Level
	Facts    Facts     // verified; the zero value at level 1
	Source   Source    // where the facts come from
	Verified time.Time // when the provider verified them; zero when it does not say
	Reasons  []Reason  // why the level is not higher; empty at Seen

	SignedIn time.Time // when she signed in at the provider
	ACR      string    // how
	Demo     bool      // a demonstration's identity: no real person
}

// Facts are the verified claims that the log's commitment is about. All or none.
type Facts struct {
	Name   string
	Number gb.IDNumber
	Birth  time.Time // midnight UTC
}

// Source is what a level rests on.
type Source struct {
	TrustFramework string
	AssuranceLevel string
	Process        string   // verification_process: the provider's reference
	Evidence       []string // kind and check methods, as "document:vpip,pvp"
	UserInfo       bool     // from the userinfo endpoint, over TLS; otherwise from the signed ID token
}

// idClaims are the claims of an ID token that go-oidc leaves to its user.
type idClaims struct {
	AuthorizedParty string    `json:"azp"`
	AuthTime        *int64    `json:"auth_time"`
	ACR             string    `json:"acr"`
	IssuedAt        *int64    `json:"iat"`
	Audience        audiences `json:"aud"`
	openClaims
}

// openClaims may be in the ID token and in userinfo.
type openClaims struct {
	Name     string          `json:"name"`
	Verified json.RawMessage `json:"verified_claims"`
}

// audiences is one audience or a list (RFC 7519 §4.1.3).
type audiences []string

func (a *audiences) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*a = audiences{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(a))
}

// identify checks the ID token (Core §3.1.3.7) and userinfo (§5.3.4), and weighs
// what they verify.
func (p *provider) identify(ctx context.Context, d *discovered, s *pending, token *oauth2.Token) (*Identity, error) {
	raw, ok := token.Extra("id_token").(string)
	if !ok || raw == "" {
		return nil, p.fail(BadToken, "the provider gave no ID token")
	}
	ctx = oidc.ClientContext(ctx, p.client)
	now := p.now()
	verifier := d.provider.VerifierContext(ctx, &oidc.Config{
		ClientID:             p.ClientID,
		SupportedSigningAlgs: d.algorithms,
		Now:                  func() time.Time { return now.Add(-skew) },
	})
	id, err := verifier.Verify(ctx, raw)
	if err != nil {
		return nil, p.fail(BadToken, "%w", redact(err))
	}
	var claims idClaims
	if err := id.Claims(&claims); err != nil {
		return nil, p.fail(BadToken, "reading the ID token's claims: its types are wrong")
	}
	begun := time.Unix(s.Begun, 0)
	switch {
	case id.Nonce != s.Nonce:
		return nil, p.fail(BadToken, "the ID token's nonce is another one")
	case id.Subject == "" || len(id.Subject) > 255: // Core §2
		return nil, p.fail(BadToken, "the ID token names nobody")
	case claims.AuthorizedParty != "" && claims.AuthorizedParty != p.ClientID,
		len(claims.Audience) > 1 && claims.AuthorizedParty == "":
		return nil, p.fail(BadToken, "the ID token was issued to another party")
	case claims.IssuedAt == nil || id.IssuedAt.After(now.Add(skew)) || id.IssuedAt.Before(begun.Add(-skew)):
		return nil, p.fail(BadToken, "the ID token was not issued during this sign-in")
	}
	if id.AccessTokenHash != "" {
		if err := id.VerifyAccessToken(token.AccessToken); err != nil {
			return nil, p.fail(BadToken, "the ID token belongs to another access token")
		}
	}
	signedIn := id.IssuedAt
	if claims.AuthTime != nil {
		signedIn = time.Unix(*claims.AuthTime, 0)
	}
	if signedIn.After(now.Add(skew)) {
		return nil, p.fail(BadToken, "the ID token's auth_time is in the future")
	}
	if s.Fresh && (claims.AuthTime == nil || signedIn.Before(begun.Add(-skew))) {
		return nil, p.fail(NotFresh, "auth_time is missing or before this sign-in")
	}
	if len(s.ACR) > 0 && !slices.Contains(s.ACR, claims.ACR) {
		return nil, p.fail(NotStrong, "acr is none of those that were asked for")
	}
	if s.Subject != "" && s.Subject != id.Subject {
		return nil, p.fail(OtherPerson, "another subject signed in")
	}
	info, err := p.userInfo(ctx, d, id.Subject, token)
	if err != nil {
		return nil, err
	}
	out := &Identity{Provider: p.ID, Issuer: p.Issuer, Subject: id.Subject, Name: firstText(claims.Name, info.Name), SignedIn: signedIn.UTC(), ACR: claims.ACR, Demo: p.Demonstration}
	p.weigh(out, claims.Verified, info.Verified, now)
	return out, nil
}

// userInfo asks for the claims that are not in the ID token. A provider without
// the endpoint has none; one that fails to answer fails the sign-in, for otherwise
// a level would come and go with the weather.
func (p *provider) userInfo(ctx context.Context, d *discovered, subject string, token *oauth2.Token) (openClaims, error) {
	if d.provider.UserInfoEndpoint() == "" {
		return openClaims{}, nil
	}
	info, err := d.provider.UserInfo(ctx, oauth2.StaticTokenSource(token))
	if err != nil {
		return openClaims{}, p.fail(Unreachable, "asking for userinfo: %w", redact(err))
	}
	if info.Subject != subject {
		return openClaims{}, p.fail(BadToken, "userinfo is about another subject than the ID token")
	}
	var claims struct {
		Issuer   string    `json:"iss"`
		Audience audiences `json:"aud"`
		openClaims
	}
	if err := info.Claims(&claims); err != nil {
		return openClaims{}, p.fail(BadToken, "reading userinfo: its types are wrong")
	}
	// Signed userinfo names both (Core §5.3.2).
	if claims.Issuer != "" && claims.Issuer != p.Issuer || len(claims.Audience) > 0 && !slices.Contains(claims.Audience, p.ClientID) {
		return openClaims{}, p.fail(BadToken, "userinfo was made by or for another party")
	}
	return claims.openClaims, nil
}

// IsCode reports whether an error is a sign-in's and has this code.
func IsCode(err error, code Code) bool {
	var e *Error
	return errors.As(err, &e) && e.Code == code
}

func firstText(texts ...string) string {
	for _, t := range texts {
		t = strings.TrimSpace(t)
		if r := []rune(t); len(r) > 100 {
			t = string(r[:100])
		}
		if t != "" {
			return t
		}
	}
	return ""
}
