package signin

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"
)

// Config is what New needs.
type Config struct {
	// Callback is the address that providers send browsers back to, without the
	// provider's id: "https://portal.example.cn/signin/callback". The redirect
	// address of the provider "gov" is that and "/gov": one each, so that an answer
	// cannot pass for another provider's (RFC 9700 §4.4.2.2).
	Callback string
	// Demonstration: the portal is marked as a demonstration. Without it a
	// demonstration provider is refused.
	Demonstration bool
	Providers     []Provider
	Transport     http.RoundTripper // to the providers; nil: http.DefaultTransport
	Now           func() time.Time  // nil: time.Now
}

// Provider is an OpenID provider and how far it is believed.
type Provider struct {
	ID             string // a-z, 0-9 and -
	NameZH, NameEN string
	Issuer         string // exactly as in the provider's discovery document
	ClientID       string
	Secret         string // empty: a public client, by PKCE alone
	Scopes         []string
	// Algorithms that ID tokens may be signed with, of those that the provider
	// announces; nil: any asymmetric one.
	Algorithms []string
	// Claims is the claims request parameter (OpenID Connect Core §5.5). nil: name,
	// birth date and number as verified claims, sent when the provider announces
	// that it reads it; "{}": none.
	Claims json.RawMessage
	// NumberClaim is the claim inside verified_claims that holds the identity
	// number, as "id_card_number". Empty: numbers are not taken from this provider,
	// and so no level above 1.
	NumberClaim   string
	Policy        Policy
	Demonstration bool // its identities are a demonstration's, whatever it says
}

// Policy says when a provider's verified claims count for more than what the
// person says of herself. The zero Policy believes nothing.
type Policy struct {
	Frameworks []Framework
	MaxAge     time.Duration // since the verification; 0: any age
}

// Framework is a trust framework that is believed.
type Framework struct {
	Name      string   // trust_framework
	Assurance []string // assurance_level must be one of these; nil: any or none
	AtMost    Level    // 0: as high as the evidence goes
}

// Level is how surely somebody's name and number are hers.
type Level int

// The levels.
const (
	SelfAsserted Level = 1 // she says so
	Checked      Level = 2 // a document or a register agrees
	Seen         Level = 3 // and a person or a live picture was compared with it
)

const (
	lifetime        = 10 * time.Minute // of a sign-in between Begin and Finish
	skew            = time.Minute      // by which the provider's clock may differ
	requestTimeout  = 10 * time.Second // a request to a provider
	discoveryAge    = time.Hour        // after which the discovery document is read again
	discoveryGrace  = 24 * time.Hour   // for which an old one serves while the provider is away
	discoveryPause  = 5 * time.Second  // after a failure before the next attempt
	maxResponse     = 1 << 20          // bytes; discovery documents and userinfo are a few thousand
	minStateLetters = 43               // 256 bits in base64url
)

// asymmetric signatures of RFC 7518 and RFC 8037 that go-oidc checks. HS256 is not
// among them: its key would be the client's secret. Nor is "none".
func asymmetric() []string {
	return []string{"RS256", "PS256", "ES256", "EdDSA", "RS384", "PS384", "ES384", "RS512", "PS512", "ES512"}
}

func (c *Config) check() error {
	callback, err := url.Parse(c.Callback)
	if err != nil || callback.Host == "" || callback.RawQuery != "" || callback.Fragment != "" || !secure(callback) {
		return fmt.Errorf("the callback address %q is no https address, or has a query: write it like https://portal.example.cn/signin/callback", c.Callback)
	}
	seen := map[string]bool{}
	for _, p := range c.Providers {
		if err := p.check(c.Demonstration); err != nil {
			return fmt.Errorf("provider %q: %w", p.ID, err)
		}
		if seen[p.ID] {
			return fmt.Errorf("provider %q is there twice: give each an id of its own", p.ID)
		}
		seen[p.ID] = true
	}
	return nil
}

func (p *Provider) check(demonstration bool) error {
	for _, c := range p.ID {
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-') {
			return errors.New("the id may have a-z, 0-9 and - alone: it is part of an address")
		}
	}
	issuer, err := url.Parse(p.Issuer)
	switch {
	case p.ID == "" || len(p.ID) > 32:
		return errors.New("the id has 1 to 32 characters")
	case err != nil || issuer.Host == "" || issuer.RawQuery != "" || issuer.Fragment != "" || issuer.User != nil || !secure(issuer):
		return fmt.Errorf("the issuer %q is no https address: write it exactly as its discovery document does", p.Issuer)
	case p.ClientID == "":
		return errors.New("the client id is missing: register the portal with the provider")
	case p.Demonstration && !demonstration:
		return errors.New("a demonstration provider needs a portal that is marked as a demonstration")
	case len(p.Claims) > 0 && !json.Valid(p.Claims):
		return errors.New("the claims request is no JSON")
	}
	for _, a := range p.Algorithms {
		if !slices.Contains(asymmetric(), a) {
			return fmt.Errorf("ID tokens cannot be signed with %q: choose of %v", a, asymmetric())
		}
	}
	for _, f := range p.Policy.Frameworks {
		if f.Name == "" || f.AtMost < 0 || f.AtMost > Seen {
			return errors.New("a trust framework needs a name, and a highest level of 1, 2 or 3")
		}
	}
	if p.Policy.MaxAge < 0 {
		return errors.New("the age of a verification cannot be below 0")
	}
	return nil
}

// secure: https, or this machine itself.
func secure(u *url.URL) bool {
	h := u.Hostname()
	return u.Scheme == "https" || u.Scheme == "http" && (h == "localhost" || h == "127.0.0.1" || h == "::1")
}
