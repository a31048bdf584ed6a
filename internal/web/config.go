package web

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"time"

	"github.com/alexedwards/scs/v2"
	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/identity"
)

// Config of a Site. Origin, Institution, Alliance and Sessions are required.
type Config struct {
	// Origin is the address in the browser's bar, such as https://ca.example or
	// http://localhost:8443, without a path. Requests for other hosts are refused.
	Origin      string
	Institution Institution
	Alliance    Alliance
	// Demo marks every page as a demonstration's.
	Demo bool

	// Sessions holds the sessions' rows. It gets hashes of cookies, never the
	// cookies.
	Sessions scs.Store
	// SessionIdle is how long an unused session lives (1 h), SessionLife how long
	// any does (12 h).
	SessionIdle, SessionLife time.Duration

	// FormTargets are origins that a form's answer may lead to, besides this one:
	// the providers that people sign in with.
	FormTargets []string
	// TrustedProxies whose X-Forwarded-For is believed for the limits by client
	// address. Empty: nobody's.
	TrustedProxies []netip.Prefix
	Limits         Limits

	Logger *slog.Logger     // nil: nothing is logged
	Now    func() time.Time // nil: time.Now

	Parts Parts
}

// Institution is whose portal this is.
type Institution struct {
	ID   string // as in the alliance
	Kind string // court, notary, ca, forensic or other
	Name string
}

// Alliance is what the institution belongs to.
type Alliance struct {
	ID   evidence.Digest // of its genesis
	Name string
	// Policy returns by what the public page verifies when the visitor brings no
	// policy of his own, as it is now. Nil: the page proposes none.
	Policy func() *evidence.Policy
}

// Limits on what one client address may do. Zero takes the default beside it,
// negative means no limit.
type Limits struct {
	PagesPerMinute int // any request but static files (600)
	ActsPerMinute  int // requests that change something (120)
}

// Parts are what pages need of the rest of the portal. A nil part's pages are
// not offered.
type Parts struct {
	People  People  // who signs in
	Console Console // the node behind this portal

	Custody  Custody  // members' deposits; with Enroller
	Enroller Enroller // members' keys
	Acts     Acts     // passkeys that confirm acts; nil: deposits are made without

	Providers Providers // that people sign in with; with Entrance
	Entrance  Entrance  // to the register of persons

	Register     Register     // of persons: keys and devices, applications, the desk
	Certificates Certificates // of members' keys; nil: none are shown
}

// Role is what a person may do here by her office.
type Role string

// The roles.
const (
	RoleOfficer  Role = "officer"  // of the registration desk
	RoleOperator Role = "operator" // of the institution's node
)

// Person is who is signed in, as pages need her.
type Person struct {
	ID     string // the person's row
	Name   string // as the header shows it
	Member string // for which she acts: its id in the alliance; empty: not enrolled yet
	Kind   string // of Member: person or enterprise
	Level  int    // of assurance, 0 to 3
	Demo   bool   // a demonstration identity
	Roles  []Role
	// Generation of her sessions: those of another one are over. Signing out
	// everywhere, a lock and a recovery raise it.
	Generation int64

	// Own and Acting are the site's, which sets them for each request: her own
	// member, and the enterprise for which she acts, with her powers; nil: herself.
	Own    string
	Acting *identity.Member
}

// ErrNoPerson says that a session's person is no more, or locked out.
var ErrNoPerson = errors.New("there is no such person")

// People looks up who a session belongs to.
type People interface {
	// Person returns the person by id. ErrNoPerson. It is called on every request
	// of somebody signed in, so that a lock or a lost role works at once.
	Person(ctx context.Context, id string) (*Person, error)
}

func (c Config) withDefaults() (Config, error) {
	u, err := url.Parse(c.Origin)
	if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" || u.Path != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return c, fmt.Errorf("setting up the portal: origin %q is not http(s)://host[:port]", c.Origin)
	}
	if c.Institution.ID == "" || c.Institution.Name == "" {
		return c, errors.New("setting up the portal: the institution has no id or no name")
	}
	if c.Alliance.ID.IsZero() {
		return c, errors.New("setting up the portal: the alliance has no id")
	}
	if c.Sessions == nil {
		return c, errors.New("setting up the portal: there is no store for sessions")
	}
	for _, t := range c.FormTargets {
		if f, err := url.Parse(t); err != nil || f.Scheme == "" || f.Host == "" || f.Path != "" {
			return c, fmt.Errorf("setting up the portal: form target %q is not an origin", t)
		}
	}
	if c.SessionIdle == 0 {
		c.SessionIdle = time.Hour
	}
	if c.SessionLife == 0 {
		c.SessionLife = 12 * time.Hour
	}
	if c.Limits.PagesPerMinute == 0 {
		c.Limits.PagesPerMinute = 600
	}
	if c.Limits.ActsPerMinute == 0 {
		c.Limits.ActsPerMinute = 120
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c, nil
}
