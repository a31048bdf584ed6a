package institution

import (
	_ "embed"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/signing"
)

// PortalConfig is what portal.toml says; the comments are in that file.
type PortalConfig struct {
	Listen         string   `koanf:"listen"`
	Origin         string   `koanf:"origin"`
	TLSCertificate string   `koanf:"tls_certificate"`
	TLSKey         string   `koanf:"tls_key"`
	Proxies        []string `koanf:"proxies"`
	Node           string   `koanf:"node"`
	Data           string   `koanf:"data"`
	Database       string   `koanf:"database"`
	Demonstration  bool     `koanf:"demonstration"`
	// CertificateAuthorities are authority.json files of other institutions.
	CertificateAuthorities []string `koanf:"certificate_authorities"`

	Providers    []ProviderConfig   `koanf:"providers"`
	Officers     []OfficerConfig    `koanf:"officers"`
	Acts         []ActConfig        `koanf:"acts"`
	Certificates CertificatesConfig `koanf:"certificates"`
	Limits       PortalLimits       `koanf:"limits"`
	Log          LogConfig          `koanf:"log"`
}

// ProviderConfig is an OpenID provider that people sign in with.
type ProviderConfig struct {
	ID            string   `koanf:"id"`
	NameZH        string   `koanf:"name_zh"`
	NameEN        string   `koanf:"name_en"`
	Issuer        string   `koanf:"issuer"`
	ClientID      string   `koanf:"client_id"`
	SecretFile    string   `koanf:"secret_file"`
	Scopes        []string `koanf:"scopes"`
	NumberClaim   string   `koanf:"number_claim"`
	Frameworks    []string `koanf:"frameworks"`
	MaxAgeDays    int64    `koanf:"max_age_days"`
	Demonstration bool     `koanf:"demonstration"`
}

// OfficerConfig gives somebody who signs in a role at this institution.
type OfficerConfig struct {
	Issuer  string   `koanf:"issuer"`
	Subject string   `koanf:"subject"`
	Roles   []string `koanf:"roles"`
}

// ActConfig is what an act of one kind needs: evidence.ActRule.
type ActConfig struct {
	Kind      string `koanf:"kind"`
	Assurance int64  `koanf:"assurance"`
	Passkey   bool   `koanf:"passkey"`
}

// CertificatesConfig bounds what the CA institution issues.
type CertificatesConfig struct {
	ValidityHours int64  `koanf:"validity_hours"`
	Policy        string `koanf:"policy"` // object identifier, dotted
	Names         bool   `koanf:"names"`
}

// PortalLimits bound what a member can make the portal hold and do.
type PortalLimits struct {
	ObjectBytes       int64 `koanf:"object_bytes"`
	MemberBytes       int64 `koanf:"member_bytes"`
	RequestsPerMinute int64 `koanf:"requests_per_minute"`
}

const (
	portalFile      = "portal.toml"
	portalEnvPrefix = "ZHENGLIAN_PORTAL_"
)

//go:embed portal.toml
var portalTemplate []byte

// portalDefaults are the template and the lists that it shows as sections.
func portalDefaults() []byte {
	return append([]byte("providers = []\nofficers = []\n"), portalTemplate...)
}

// Portal reads the settings of the institution's portal, HOME/portal.toml; a
// file that is missing means the defaults.
func (h *Home) Portal() (PortalConfig, error) { return h.portal(os.Environ()) }

func (h *Home) portal(environ []string) (PortalConfig, error) {
	var c PortalConfig
	f := settingsFile{path: filepath.Join(h.Path, portalFile), defaults: portalDefaults(), prefix: portalEnvPrefix}
	if err := f.load(environ, &c, func() (setting, reason, hint string) { return c.check() }); err != nil {
		return PortalConfig{}, err
	}
	return c, nil
}

// check returns which setting is wrong, why, and what to do; or nothing.
func (c *PortalConfig) check() (setting, reason, hint string) {
	if err := checkHostPort(c.Listen); err != nil {
		return "listen", fmt.Sprintf("= %q is no address to listen on: %v", c.Listen, err), `write it like "127.0.0.1:8450" or ":443"`
	}
	if setting, reason, hint = c.checkOrigin(); setting != "" {
		return setting, reason, hint
	}
	if (c.TLSCertificate == "") != (c.TLSKey == "") {
		return "tls_certificate", "and tls_key go together, and one is empty", "set both or neither"
	}
	for _, p := range c.Proxies {
		if _, err := netip.ParsePrefix(p); err != nil {
			if _, err := netip.ParseAddr(p); err != nil {
				return "proxies", fmt.Sprintf("has %q, which is no address and no prefix", p), `write it like "10.0.0.5" or "10.0.0.0/24"`
			}
		}
	}
	if c.Data == "" {
		return "data", "is empty", `write data = "portal"`
	}
	if c.Database != "" {
		if u, err := url.Parse(c.Database); err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
			return "database", "is no postgres:// address", "leave it empty for SQLite in `data`"
		} else if _, secret := u.User.Password(); secret {
			return "database", "holds a password", "put the password into the file that PGPASSFILE names, which only the portal's user may read"
		}
	}
	if setting, reason, hint = c.checkPeople(); setting != "" {
		return setting, reason, hint
	}
	for _, l := range []struct {
		key             string
		value, min, max int64
	}{
		{"certificates.validity_hours", c.Certificates.ValidityHours, 1, 400 * 24},
		{"limits.object_bytes", c.Limits.ObjectBytes, 1 << 20, 1 << 50},
		{"limits.member_bytes", c.Limits.MemberBytes, 1 << 20, 1 << 50},
		{"limits.requests_per_minute", c.Limits.RequestsPerMinute, 0, 1 << 30},
	} {
		if l.value < l.min || l.value > l.max {
			return l.key, fmt.Sprintf("= %d is not one of %d to %d", l.value, l.min, l.max), ""
		}
	}
	return c.Log.check()
}

func (c *PortalConfig) checkOrigin() (setting, reason, hint string) {
	u, err := url.Parse(c.Origin)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.Path != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return "origin", fmt.Sprintf("= %q is no origin", c.Origin), `write it like "https://portal.example.cn", without a path`
	}
	if _, err := netip.ParseAddr(u.Hostname()); err == nil {
		return "origin", fmt.Sprintf("= %q names an address", c.Origin), "passkeys need a host name; on one machine use localhost"
	}
	if u.Scheme == "http" && u.Hostname() != "localhost" {
		return "origin", fmt.Sprintf("= %q is not https", c.Origin), "browsers give keys and passkeys only over https, or on localhost"
	}
	return "", "", ""
}

func (c *PortalConfig) checkPeople() (setting, reason, hint string) {
	seen := map[string]bool{}
	for i, p := range c.Providers {
		key := fmt.Sprintf("providers[%d].", i)
		switch u, err := url.Parse(p.Issuer); {
		case !isSlug(p.ID):
			return key + "id", fmt.Sprintf("= %q is no id", p.ID), "use 1 to 32 of a-z, 0-9 and -"
		case seen[p.ID]:
			return key + "id", fmt.Sprintf("= %q is given twice", p.ID), "give each provider an id of its own"
		case p.NameZH == "" || p.NameEN == "":
			return key + "name_zh", "and name_en are needed", "people choose by the name, in their language"
		case err != nil || u.Host == "" || u.Scheme != "https" && !(u.Scheme == "http" && u.Hostname() == "localhost"):
			return key + "issuer", fmt.Sprintf("= %q is no https address", p.Issuer), "write it exactly as the provider's discovery document does"
		case p.ClientID == "":
			return key + "client_id", "is empty", "register this portal with the provider, and take the id it gives"
		case p.MaxAgeDays < 0:
			return key + "max_age_days", fmt.Sprintf("= %d is below 0", p.MaxAgeDays), "0 means any age"
		}
		seen[p.ID] = true
	}
	kinds := map[string]bool{}
	for i, a := range c.Acts {
		key := fmt.Sprintf("acts[%d].", i)
		if !isSlug(a.Kind) || kinds[a.Kind] {
			return key + "kind", fmt.Sprintf("= %q is no kind of act, or is given twice", a.Kind), "use deposit, file, grant, record, settle, sign or submit, each once"
		}
		if a.Assurance < 0 || a.Assurance > 3 {
			return key + "assurance", fmt.Sprintf("= %d is not 0 to 3", a.Assurance), "1 self-asserted, 2 document, 3 in person or live face"
		}
		kinds[a.Kind] = true
	}
	for i, o := range c.Officers {
		key := fmt.Sprintf("officers[%d].", i)
		if o.Issuer == "" || o.Subject == "" {
			return key + "subject", "and issuer are needed", "take both from the person's sign-in, as her account page shows them"
		}
		for _, r := range o.Roles {
			if !slices.Contains([]string{"ra", "operator"}, r) {
				return key + "roles", fmt.Sprintf("has %q, which is no role", r), "use ra, operator or both"
			}
		}
	}
	return "", "", ""
}

func isSlug(s string) bool {
	if s == "" || len(s) > 32 {
		return false
	}
	for _, c := range s {
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-') {
			return false
		}
	}
	return true
}

// PortalDir is where the portal keeps its stores.
func (h *Home) PortalDir(c PortalConfig) string {
	if filepath.IsAbs(c.Data) {
		return c.Data
	}
	return filepath.Join(h.Path, c.Data)
}

// IsCA reports whether the institution enrols members and issues certificates.
func (h *Home) IsCA() bool { return h.Descriptor.Kind == evidence.KindCA }

// MakePortal writes HOME/portal.toml, every setting explained in it, for a
// portal that listens at one address and is reached by browsers at origin. It
// replaces no file.
func MakePortal(home, listen, origin string, demonstration bool) error {
	h, err := OpenPublic(home)
	if err != nil {
		return err
	}
	c := PortalConfig{Listen: listen, Origin: origin}
	path := filepath.Join(home, portalFile)
	if err := checkHostPort(listen); err != nil {
		return &Error{Code: CodeConfigValue, Path: path, Subject: "listen", Reason: fmt.Sprintf("%q is no address to listen on", listen), Hint: `write it like "127.0.0.1:8450" or ":443"`, Err: err}
	}
	if setting, reason, hint := c.checkOrigin(); setting != "" {
		return &Error{Code: CodeConfigValue, Path: path, Subject: setting, Reason: setting + " " + reason, Hint: hint}
	}
	text := strings.NewReplacer(
		`listen = "127.0.0.1:8450"`, fmt.Sprintf("listen = %q", listen),
		`origin = "http://localhost:8450"`, fmt.Sprintf("origin = %q", origin),
		"\ndemonstration = false\n", fmt.Sprintf("\ndemonstration = %t\n", demonstration),
	).Replace(string(portalTemplate))
	if err := signing.CreateFile(filepath.Join(h.Path, portalFile), []byte(text), 0o600); err != nil {
		return &Error{Code: CodePortal, Path: path, Reason: "the settings of the portal cannot be written", Hint: "edit the file that is there", Err: err}
	}
	return nil
}
