package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/zhenglian/zhenglian/client"
	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/custody"
	"github.com/zhenglian/zhenglian/internal/httpsig"
	"github.com/zhenglian/zhenglian/internal/identity"
	"github.com/zhenglian/zhenglian/internal/identity/ca"
	"github.com/zhenglian/zhenglian/internal/identity/demoprovider"
	"github.com/zhenglian/zhenglian/internal/identity/signin"
	"github.com/zhenglian/zhenglian/internal/institution"
	"github.com/zhenglian/zhenglian/internal/signing"
	"github.com/zhenglian/zhenglian/internal/store"
	"github.com/zhenglian/zhenglian/internal/web"
)

// portal is an institution's portal with everything that its pages use.
type portal struct {
	home      *institution.Home
	config    *institution.PortalConfig
	statement *currentKey
	log       *slog.Logger
	release   func() error // of the lock
	db        *store.DB
	keys      *store.Keys
	client    *client.Client
	quick     *client.Client // the same, for pages: one round, no waiting
	register  *identity.Register
	ca        *ca.Authority // nil where the institution certifies nobody
	custody   *custody.Custody
	relying   *signin.RelyingParty
	provider  *demoprovider.Provider // nil but in a demonstration
	site      *web.Site
}

// runPortal runs the portal until ctx ends. Stores open first and close last; what
// an interrupted run left for the log goes out before and while pages are served.
func runPortal(ctx context.Context, h *institution.Home, c *institution.PortalConfig, log *slog.Logger) (err error) {
	p := &portal{home: h, config: c, statement: newCurrentKey(h, evidence.UseStatement), log: log.With("institution", h.ID())}
	defer func() { err = errors.Join(err, p.close()) }()
	for _, open := range []func(context.Context) error{p.openStores, p.openClient, p.openIdentity, p.openCA, p.openCustody, p.openProviders, p.openSite} {
		if err := open(ctx); err != nil {
			return err
		}
	}
	listener, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return fmt.Errorf("listening for browsers: %w", err)
	}
	if c.TLSCertificate != "" {
		cert, err := tls.LoadX509KeyPair(under(h.Path, c.TLSCertificate), under(h.Path, c.TLSKey))
		if err != nil {
			return fmt.Errorf("certificate of the portal: %w", errors.Join(err, listener.Close()))
		}
		listener = tls.NewListener(listener, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}})
	}
	server := &http.Server{Handler: p.handler(), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute,
		ErrorLog: slog.NewLogLogger(p.log.Handler(), slog.LevelDebug)}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		return p.register.Run(ctx, func(err error) { p.log.Warn("the register waits for the log", "error", err) })
	})
	g.Go(func() error { return p.custody.Run(ctx) })
	g.Go(func() error { return p.follow(ctx) })
	if p.ca != nil {
		g.Go(func() error { return p.ca.Run(ctx) })
	}
	g.Go(func() error {
		<-ctx.Done()
		// What is being answered has a moment to end.
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		return errors.Join(server.Shutdown(stop), ctx.Err())
	})
	g.Go(func() error {
		p.log.Info("the portal is ready", "origin", c.Origin, "listen", c.Listen)
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	return g.Wait()
}

func (p *portal) close() error {
	var errs []error
	if p.custody != nil {
		errs = append(errs, p.custody.Close())
	}
	if p.db != nil {
		errs = append(errs, p.db.Close())
	}
	if p.release != nil {
		errs = append(errs, p.release())
	}
	return errors.Join(errs...)
}

func (p *portal) openStores(ctx context.Context) (err error) {
	dir := p.home.PortalDir(*p.config)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("the portal's directory: %w", err)
	}
	if p.release, err = portalLock(dir); err != nil {
		return err
	}
	if p.keys, err = store.OpenKeys(portalKeys(p.home)); err != nil {
		return fmt.Errorf("keys of the portal's database: %w", err)
	}
	p.db, err = store.Open(ctx, portalDatabase(p.home, *p.config))
	return err
}

func (p *portal) openClient(context.Context) (err error) {
	policy, err := portalPolicy(p.home, p.config)
	if err != nil {
		return err
	}
	c := client.Config{Alliance: p.home.Alliance, Policy: policy, Prefer: p.home.ID(), Signer: p.statement,
		URLs: map[string]string{p.home.ID(): p.nodeURL()}}
	if p.client, err = client.New(c); err != nil {
		return err
	}
	c.Patience = -1
	p.quick, err = client.New(c)
	return err
}

// followEvery is how often the portal looks for key changes of institutions; the
// client looks by itself too, when it meets a key that it does not know.
const followEvery = 10 * time.Minute

// follow keeps the policy that the pages propose up to date.
func (p *portal) follow(ctx context.Context) error {
	again := time.NewTicker(followEvery)
	defer again.Stop()
	for {
		if _, err := p.client.Follow(ctx); err != nil && ctx.Err() == nil {
			p.log.Warn("the institutions' key changes could not be asked for", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-again.C:
		}
	}
}

// nodeURL is the public interface of the institution's own node.
func (p *portal) nodeURL() string { return firstOf(p.config.Node, p.home.Descriptor.Addresses.API) }

// signed sends a request to the node in the institution's name.
func (p *portal) signed(r *http.Request) (*http.Response, error) {
	if err := httpsig.Sign(r, nil, p.statement, time.Now(), nil); err != nil {
		return nil, err
	}
	return (&http.Client{Timeout: 10 * time.Second}).Do(r)
}

// portalPolicy is whom the portal trusts, and proposes to those who verify: the
// founders, the timestamp authorities that its node asks, the authority of its
// own, and those for members that its settings name.
func portalPolicy(h *institution.Home, c *institution.PortalConfig) (*evidence.Policy, error) {
	policy, err := evidence.PolicyFromAlliance(h.Alliance)
	if err != nil {
		return nil, err
	}
	authorities, err := h.Authorities()
	if err != nil {
		return nil, err
	}
	for _, t := range authorities {
		if err := policy.AddTimestampAuthority(*t.TimestampAuthority); err != nil {
			return nil, err
		}
	}
	for _, a := range c.Acts {
		policy.Acts = append(policy.Acts, evidence.ActRule{Kind: a.Kind, Assurance: int(a.Assurance), Passkey: a.Passkey})
	}
	slices.SortFunc(policy.Acts, func(a, b evidence.ActRule) int { return strings.Compare(a.Kind, b.Kind) })
	files := slices.Clone(c.CertificateAuthorities)
	if h.HasCA() {
		files = append(files, filepath.Join("ca", "authority.json"))
	}
	for _, f := range files {
		a, err := institution.ReadCertificateAuthority(under(h.Path, f))
		if err != nil {
			return nil, err
		}
		for _, c := range a.ForPolicy() {
			if err := policy.AddCertificateAuthority(c); err != nil {
				return nil, err
			}
		}
	}
	return policy, nil
}

func (p *portal) openIdentity(context.Context) (err error) {
	officers := make([]identity.Officer, 0, len(p.config.Officers))
	for _, o := range p.config.Officers {
		roles := make([]identity.Role, len(o.Roles))
		for i, r := range o.Roles {
			roles[i] = identity.Role(r)
		}
		officers = append(officers, identity.Officer{Issuer: o.Issuer, Subject: o.Subject, Roles: roles})
	}
	if p.config.Demonstration {
		// The demonstration's own people of the institution, whom its provider knows.
		issuer := p.config.Origin + demoPath
		officers = append(officers, identity.Officer{Issuer: issuer, Subject: "demo-sun", Roles: []identity.Role{identity.RoleRA}},
			identity.Officer{Issuer: issuer, Subject: "demo-ma", Roles: []identity.Role{identity.RoleOperator}})
	}
	c := identity.Config{DB: p.db, Keys: p.keys, Origin: p.config.Origin, Name: p.home.Descriptor.Name, Demo: p.config.Demonstration, Officers: officers}
	if p.home.IsCA() {
		c.Chain = p.chain()
	}
	p.register, err = identity.New(c)
	return err
}

// openCA makes a CA institution's authority ready where `institution ca` made one.
func (p *portal) openCA(context.Context) (err error) {
	if p.home.HasCA() {
		p.ca, err = newAuthority(p.home, *p.config, p.db, asCA{p.chain()}, p.statement, nil, p.log)
	}
	return err
}

// chain is the desk's way to the log.
func (p *portal) chain() *deskChain {
	return &deskChain{home: p.home, signer: p.statement, client: p.client, now: time.Now}
}

func (p *portal) openCustody(context.Context) (err error) {
	p.custody, err = custody.Open(custody.Config{DB: p.db, Dir: filepath.Join(p.home.PortalDir(*p.config), "objects"), Alliance: p.client,
		Quota: p.config.Limits.MemberBytes, MaxBlob: p.config.Limits.ObjectBytes, Logger: p.log})
	return err
}

// demoPath is where a demonstration's identity provider is mounted.
const demoPath = "/demo-identity"

const callbackPath = "/signin/callback"

func (p *portal) openProviders(context.Context) (err error) {
	c := signin.Config{Callback: p.config.Origin + callbackPath, Demonstration: p.config.Demonstration}
	for _, s := range p.config.Providers {
		provider := signin.Provider{ID: s.ID, NameZH: s.NameZH, NameEN: s.NameEN, Issuer: s.Issuer, ClientID: s.ClientID, Scopes: s.Scopes,
			NumberClaim: s.NumberClaim, Demonstration: s.Demonstration, Policy: signin.Policy{MaxAge: time.Duration(s.MaxAgeDays) * 24 * time.Hour}}
		for _, f := range s.Frameworks {
			provider.Policy.Frameworks = append(provider.Policy.Frameworks, signin.Framework{Name: f})
		}
		if s.SecretFile != "" {
			secret, err := signing.ReadSecret(under(p.home.Path, s.SecretFile), nil)
			if err != nil {
				return fmt.Errorf("secret of the identity provider %s: %w", s.ID, err)
			}
			provider.Secret = strings.TrimSpace(string(secret))
		}
		c.Providers = append(c.Providers, provider)
	}
	if p.config.Demonstration {
		id := "demo"
		p.provider, err = demoprovider.New(demoprovider.Config{Issuer: p.config.Origin + demoPath, Demonstration: true, Logger: p.log,
			KeyFile: filepath.Join(p.home.Path, "keys", "demo-identity.pem"),
			Clients: []demoprovider.Client{{ID: "zhenglian", RedirectURIs: []string{c.Callback + "/" + id}}}})
		if err != nil {
			return err
		}
		c.Providers = append(c.Providers, signin.Provider{ID: id, NameZH: "演示身份（虚构人物）", NameEN: "Demonstration identities (made up)", Issuer: p.provider.Issuer(),
			ClientID: "zhenglian", NumberClaim: demoprovider.NumberClaim, Demonstration: true, Policy: signin.Policy{Frameworks: []signin.Framework{{Name: demoprovider.TrustFramework}}}})
	}
	p.relying, err = signin.New(c)
	return err
}

func (p *portal) openSite(context.Context) (err error) {
	var proxies []netip.Prefix
	for _, text := range p.config.Proxies {
		prefix, err := netip.ParsePrefix(text)
		if addr, addrErr := netip.ParseAddr(text); err != nil && addrErr == nil {
			prefix = netip.PrefixFrom(addr, addr.BitLen())
		}
		proxies = append(proxies, prefix)
	}
	limit := int(p.config.Limits.RequestsPerMinute)
	if limit == 0 {
		limit = -1 // portal.toml: 0 means no limit
	}
	d := p.home.Descriptor
	p.site, err = web.New(web.Config{
		Origin:      p.config.Origin,
		Institution: web.Institution{ID: d.ID, Kind: string(d.Kind), Name: d.Name},
		Alliance:    web.Alliance{ID: p.home.Alliance.ID(), Name: p.home.Alliance.Name, Policy: p.client.Policy},
		Demo:        p.config.Demonstration,
		Sessions:    store.NewSessions(p.db, p.keys, nil),
		Limits:      web.Limits{PagesPerMinute: limit, ActsPerMinute: limit},
		Logger:      p.log, TrustedProxies: proxies,
		Parts: p.parts(),
	})
	return err
}

// parts are what the pages get; a CA institution's alone offer keys and deposits.
func (p *portal) parts() web.Parts {
	console := &web.NodeOverHTTP{Base: p.nodeURL(), Client: p.quick, Do: p.signed}
	parts := web.Parts{People: &webPeople{p.register, p.config.Demonstration}, Providers: p.relying, Entrance: p.register, Console: console}
	if p.home.IsCA() {
		console.Members = p.members
		parts.Register, parts.Custody, parts.Acts = p.register, p.custody, p.register
		if p.ca != nil {
			parts.Certificates = webCertificates{p.ca.Register(), p.ca}
		}
		parts.Enroller = &webEnroller{p.register, p.ca, time.Duration(p.config.Certificates.ValidityHours) * time.Hour}
	}
	return parts
}

// handler is the site and, beside it, what is no page.
func (p *portal) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", p.site.Handler())
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if _, err := p.register.Waiting(r.Context()); err != nil {
			http.Error(w, "the database does not answer", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ready")
	})
	if p.ca != nil {
		mux.Handle("/ca/", p.site.Beside(p.ca.Handler()))
	}
	if p.provider != nil {
		mux.Handle(demoPath+"/", p.site.Beside(p.provider.Handler()))
	}
	return mux
}

// members is the console's view of them.
func (p *portal) members(ctx context.Context) (*web.MembersView, error) {
	roll, err := p.register.Roll(ctx, 20)
	if err != nil {
		return nil, err
	}
	v := &web.MembersView{Enrolled: roll.Enrolled, Revoked: roll.Revoked}
	for _, c := range roll.Changes {
		v.Changes = append(v.Changes, web.MemberChange{At: c.At, Member: c.Member, Kind: c.Kind.String(), Level: c.Level, Demo: c.Demo, Revoked: c.Revoked})
	}
	return v, nil
}

// webCertificates is what the pages need of the authority.
type webCertificates struct {
	*ca.Register
	authority *ca.Authority
}

// Sync implements web.Certificates.
func (c webCertificates) Sync(ctx context.Context) error { return c.authority.Sync(ctx) }

// webPeople tells the pages who somebody is.
type webPeople struct {
	register *identity.Register
	demo     bool
}

// Person implements web.People.
func (w *webPeople) Person(ctx context.Context, id string) (*web.Person, error) {
	p, err := w.register.Person(ctx, id)
	if errors.Is(err, identity.ErrUnknown) {
		return nil, web.ErrNoPerson
	}
	if err != nil {
		return nil, err
	}
	out := &web.Person{ID: p.ID, Name: p.Name, Member: p.Member, Kind: "person", Level: p.Level, Demo: w.demo, Generation: p.Generation}
	if p.Is(identity.RoleRA) {
		out.Roles = append(out.Roles, web.RoleOfficer)
	}
	if p.Is(identity.RoleOperator) {
		out.Roles = append(out.Roles, web.RoleOperator)
	}
	return out, nil
}
