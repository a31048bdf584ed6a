package client

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
)

// Config of a Client. Alliance or Policy is required.
type Config struct {
	// Alliance is the founding document that the caller has pinned: it gives the
	// institutions' addresses and, without Policy, their keys.
	Alliance *evidence.Alliance
	// Policy says whose signatures count, where it is not simply the founders'.
	// With Alliance as well, both must name the same alliance.
	Policy *evidence.Policy
	// URLs are base URLs by institution id, before those of the alliance; with a
	// Policy alone they are all there is.
	URLs map[string]string
	// Prefer is the institution asked first; any when empty.
	Prefer string
	// Signer signs requests for what is not public: a member's key, or an
	// institution's statement key. Nil: public lookups and deposits only.
	Signer evidence.Signer
	// HTTPClient carries the requests; nil for one with bounded waits. Its
	// redirects are not followed: a signature is for one address.
	HTTPClient *http.Client
	// Patience is how long a call goes on when every institution is down or busy
	// (30 s); the context may end it before. Negative: one round.
	Patience time.Duration
	// Language of the institutions' words in errors: "en" (default) or "zh-CN".
	Language string
	// Remember is told the policy after each time that it took in key changes of
	// institutions; it may keep it for the next run. Nil: it is kept in memory.
	Remember func(*evidence.Policy)
	Now      func() time.Time // nil: time.Now
	Random   io.Reader        // for nonces; nil: crypto/rand.Reader
}

// Client talks to the institutions of one alliance. It is safe for concurrent
// use.
type Client struct {
	policy   atomic.Pointer[evidence.Policy]
	keys     keys
	alliance *evidence.Alliance // nil with a Policy alone
	nodes    []*node            // in the order of institution ids
	first    atomic.Int32       // index of the node that answered last
	signer   evidence.Signer
	http     *http.Client
	patience time.Duration
	language string
	now      func() time.Time
	random   io.Reader
}

// node is one institution's interface.
type node struct {
	institution string
	base        string       // without a slash at its end
	busyUntil   atomic.Int64 // unix milliseconds until which it asked to be left alone
}

// New checks the configuration. It contacts nobody.
func New(c Config) (*Client, error) {
	fail := func(format string, args ...any) (*Client, error) {
		return nil, fmt.Errorf("setting up the client: "+format, args...)
	}
	if c.Alliance == nil && c.Policy == nil {
		return fail("an alliance or a policy is required: nothing an institution says could be checked without")
	}
	if c.Policy == nil {
		p, err := evidence.PolicyFromAlliance(c.Alliance)
		if err != nil {
			return fail("%w", err)
		}
		c.Policy = p
	} else if err := c.Policy.Validate(); err != nil { // also reads the keys
		return fail("the policy: %w", err)
	}
	if c.Alliance != nil && c.Alliance.ID() != c.Policy.Alliance {
		return fail("the policy is for alliance %s, the founding document for %s", c.Policy.Alliance, c.Alliance.ID())
	}
	cl := &Client{alliance: c.Alliance, signer: c.Signer, http: c.HTTPClient,
		patience: c.Patience, language: c.Language, now: c.Now, random: c.Random}
	cl.policy.Store(c.Policy)
	cl.keys.remember = c.Remember
	if cl.patience == 0 {
		cl.patience = 30 * time.Second
	}
	if cl.language == "" {
		cl.language = "en"
	}
	if cl.now == nil {
		cl.now = time.Now
	}
	if cl.http == nil {
		cl.http = defaultHTTPClient()
	} else {
		own := *cl.http
		own.CheckRedirect = noRedirect
		cl.http = &own
	}
	for i := range c.Policy.Institutions {
		id := c.Policy.Institutions[i].ID
		base := c.URLs[id]
		if base == "" && c.Alliance != nil {
			if d := c.Alliance.Institution(id); d != nil {
				base = d.Addresses.API
			}
		}
		if base == "" {
			continue // its signatures count, and others serve them
		}
		base = strings.TrimRight(base, "/")
		u, err := url.Parse(base)
		if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
			return fail("the address of %s, %q, is not http(s)://host[:port][/path]", id, base)
		}
		cl.nodes = append(cl.nodes, &node{institution: id, base: base})
	}
	for id := range c.URLs {
		if c.Policy.Institution(id) == nil {
			return fail("there is an address of %q, which is no institution of the alliance", id)
		}
	}
	if len(cl.nodes) == 0 {
		return fail("no institution has an address")
	}
	if c.Prefer != "" {
		i := slices.IndexFunc(cl.nodes, func(n *node) bool { return n.institution == c.Prefer })
		if i < 0 {
			return fail("the preferred institution %q has no address", c.Prefer)
		}
		cl.first.Store(int32(i))
	}
	return cl, nil
}

// Policy returns whose signatures count, as far as the client has followed the
// institutions' key changes (Follow). The caller must not change it.
func (c *Client) Policy() *evidence.Policy { return c.policy.Load() }

// Alliance returns the pinned founding document, nil with a Policy alone.
func (c *Client) Alliance() *evidence.Alliance { return c.alliance }

// Institutions returns the ids of those that have an address.
func (c *Client) Institutions() []string {
	ids := make([]string, len(c.nodes))
	for i, n := range c.nodes {
		ids[i] = n.institution
	}
	return ids
}

// inTurn returns the nodes, the one that answered last before the others.
func (c *Client) inTurn() []*node {
	i := int(c.first.Load()) % len(c.nodes)
	return append(slices.Clone(c.nodes[i:]), c.nodes[:i]...)
}

// prefer makes a node the first one asked.
func (c *Client) prefer(n *node) {
	if i := slices.Index(c.nodes, n); i >= 0 {
		c.first.Store(int32(i))
	}
}

// avoid makes the one after this institution the first asked.
func (c *Client) avoid(institution string) {
	if i := slices.IndexFunc(c.nodes, func(n *node) bool { return n.institution == institution }); i >= 0 {
		c.first.Store(int32((i + 1) % len(c.nodes)))
	}
}

func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// defaultHTTPClient bounds what a dead or slow institution can cost: a second
// institution is there to be asked.
func defaultHTTPClient() *http.Client {
	t, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		t = &http.Transport{}
	}
	t = t.Clone()
	t.TLSHandshakeTimeout = 5 * time.Second
	// The node answers within ten seconds that a deposit is not final yet.
	t.ResponseHeaderTimeout = 20 * time.Second
	t.MaxIdleConnsPerHost = 16
	return &http.Client{Transport: t, CheckRedirect: noRedirect}
}

var errNoSigner = errors.New("this needs a signed request, and the client was given no key")
