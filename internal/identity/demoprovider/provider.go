package demoprovider

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/zitadel/oidc/v3/pkg/op"
)

// Config is what New needs.
type Config struct {
	// Issuer is where browsers and portals reach it: an origin and, when it is
	// mounted beside other pages, a path: "http://localhost:8450/demo-identity".
	Issuer string
	// Demonstration must be true: the portal says of itself that it is one.
	Demonstration bool
	Clients       []Client
	People        []Person         // nil: People()
	KeyFile       string           // PEM (PKCS #8, P-256), made when it is missing; empty: a new key at each start
	Now           func() time.Time // of requests, codes and verifications; nil: time.Now
	Logger        *slog.Logger     // nil: nothing is logged
}

// Client is a portal that may send people here.
type Client struct {
	ID           string
	Secret       string   // empty: a public client
	RedirectURIs []string // exactly
}

// Provider is the OpenID provider.
type Provider struct {
	issuer *url.URL
	op     *op.Provider
	store  *store
	pages  *pages
	log    *slog.Logger
}

// New makes the provider. It refuses to be one of anything but a demonstration.
func New(c Config) (*Provider, error) {
	if !c.Demonstration {
		return nil, errors.New("the demonstration's identity provider gives everybody any identity: it runs only where the settings say demonstration = true")
	}
	issuer, err := url.Parse(c.Issuer)
	if err != nil || issuer.Host == "" || issuer.RawQuery != "" || issuer.Fragment != "" || strings.HasSuffix(c.Issuer, "/") || issuer.Scheme != "http" && issuer.Scheme != "https" {
		return nil, fmt.Errorf("the issuer %q is no address of the form http://localhost:8450/demo-identity", c.Issuer)
	}
	if c.People == nil {
		c.People = People()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	key, err := readKey(c.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("the demonstration provider's key: %w", err)
	}
	st, err := newStore(key, c)
	if err != nil {
		return nil, err
	}
	pages, err := newPages(issuer.Path)
	if err != nil {
		return nil, err
	}
	config := &op.Config{CodeMethodS256: true, AuthMethodPost: true}
	_, _ = rand.Read(config.CryptoKey[:]) // never fails; seals codes and access tokens, which do not outlive the process
	provider, err := op.NewProvider(config, st, op.StaticIssuer(c.Issuer), op.WithAllowInsecure(), op.WithLogger(c.Logger))
	if err != nil {
		return nil, fmt.Errorf("setting up the demonstration provider: %w", err)
	}
	return &Provider{issuer: issuer, op: provider, store: st, pages: pages, log: c.Logger}, nil
}

// Issuer is the issuer, as tokens name it.
func (p *Provider) Issuer() string { return p.issuer.String() }

// People are the persons it knows.
func (p *Provider) People() []Person { return slices.Clone(p.store.people) }

// Handler answers under the issuer's path, as a listener of its own or mounted at
// that path of another: mux.Handle(path+"/", provider.Handler()).
func (p *Provider) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", p.discovery)
	mux.HandleFunc("GET /keys", p.keys)
	mux.HandleFunc("GET /authorize", p.authorize)
	mux.HandleFunc("POST /authorize", p.authorize)
	mux.HandleFunc("GET /login", p.login)
	mux.Handle("POST /login", http.NewCrossOriginProtection().Handler(http.HandlerFunc(p.choose)))
	mux.HandleFunc("POST /token", p.token)
	mux.HandleFunc("GET /userinfo", p.userinfo)
	mux.HandleFunc("POST /userinfo", p.userinfo)
	mux.HandleFunc("GET /style.css", p.pages.style)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		p.pages.problem(w, r, http.StatusNotFound, "not-found")
	})
	limited := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		mux.ServeHTTP(w, r.WithContext(op.ContextWithIssuer(r.Context(), p.issuer.String())))
	})
	return http.StripPrefix(p.issuer.Path, limited)
}

// readKey reads the signing key, or makes it. The file is written before the key
// is used, so that a token never outlives its key by a crash.
func readKey(name string) (*ecdsa.PrivateKey, error) {
	if name == "" {
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	data, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return makeKey(name)
	}
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("%s holds no PEM: remove it, and a new key is made", name)
	}
	any, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	key, ok := any.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, fmt.Errorf("%s holds another key than P-256: remove it, and a new one is made", name)
	}
	return key, nil
}

func makeKey(name string) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	err = pem.Encode(f, &pem.Block{Type: "PRIVATE KEY", Bytes: der})
	if err == nil {
		err = f.Sync()
	}
	return key, errors.Join(err, f.Close())
}
