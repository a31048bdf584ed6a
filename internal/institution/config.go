package institution

import (
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/zhenglian/zhenglian/evidence"
)

// Config is what node.toml says; the comments are in the file that Init writes.
type Config struct {
	Data   string               `koanf:"data"`
	API    APIConfig            `koanf:"api"`
	Peer   ListenConfig         `koanf:"peer"`
	P2P    ListenConfig         `koanf:"p2p"`
	Peers  map[string]PeerRoute `koanf:"peers"` // by institution id
	Limits Limits               `koanf:"limits"`
	Log    LogConfig            `koanf:"log"`

	Keys  map[string]string `koanf:"keys"` // by the name of the key file: its PKCS#11 URI
	Token TokenConfig       `koanf:"token"`

	TSA        TSAConfig        `koanf:"tsa"`
	Timestamps TimestampsConfig `koanf:"timestamps"`
}

// TSAConfig is the timestamp authority that this node runs, if it does.
type TSAConfig struct {
	Enabled         bool     `koanf:"enabled"`
	Demonstration   bool     `koanf:"demonstration"`
	Policy          string   `koanf:"policy"`  // object identifier, dotted
	Sources         []string `koanf:"sources"` // NTP servers, host or host:port
	MaxErrorSeconds int64    `koanf:"max_error_seconds"`
	// RequestsPerSecond from one client address; 0 means no limit.
	RequestsPerSecond int64 `koanf:"requests_per_second"`
}

// TimestampsConfig says which authorities this node asks.
type TimestampsConfig struct {
	Authorities []AuthorityConfig `koanf:"authorities"` // in the order in which they are asked
}

// AuthorityConfig is where an authority is reached, and its public file.
type AuthorityConfig struct {
	URL  string `koanf:"url"`
	File string `koanf:"file"` // authority.json of the institution that runs it; relative to the home
}

// APIConfig is the public interface.
type APIConfig struct {
	Listen         string `koanf:"listen"`
	TLSCertificate string `koanf:"tls_certificate"`
	TLSKey         string `koanf:"tls_key"`
}

// ListenConfig is an address and port to listen on.
type ListenConfig struct {
	Listen string `koanf:"listen"`
}

// PeerRoute overrides an institution's addresses; empty keeps the alliance's.
type PeerRoute struct {
	Peer string `koanf:"peer"`
	P2P  string `koanf:"p2p"`
}

// Limits bound what strangers can make the node hold.
type Limits struct {
	BodyBytes         int64 `koanf:"body_bytes"`
	PendingStatements int64 `koanf:"pending_statements"`
	FreeDiskBytes     int64 `koanf:"free_disk_bytes"`
	RequestsPerSecond int64 `koanf:"requests_per_second"`
}

// LogConfig says how much the node logs and how.
type LogConfig struct {
	Level  string `koanf:"level"`
	Format string `koanf:"format"`
}

// SlogLevel returns the level for log/slog; Open checked that it is one.
func (c LogConfig) SlogLevel() slog.Level {
	var level slog.Level
	_ = level.UnmarshalText([]byte(c.Level))
	return level
}

//go:embed node.toml
var configTemplate string

const envPrefix = "ZHENGLIAN_NODE_"

// defaultConfigFor returns node.toml with the listen addresses that fit the
// descriptor's: loopback stays loopback, else every address at the same port.
func defaultConfigFor(d *evidence.Descriptor) []byte {
	api := ""
	if u, err := url.Parse(d.Addresses.API); err == nil {
		port := u.Port()
		if port == "" {
			port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
		}
		api = net.JoinHostPort(u.Hostname(), port)
	}
	return []byte(strings.NewReplacer(
		"@api@", listenAt(api), "@peer@", listenAt(d.Addresses.Peer), "@p2p@", listenAt(d.Addresses.P2P),
	).Replace(configTemplate))
}

func listenAt(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.IsLoopback() || host == "localhost" {
		return address
	}
	return ":" + port
}

// loadConfig reads HOME/node.toml. A file that is missing means the defaults.
func (h *Home) loadConfig(environ []string) (Config, error) {
	var c Config
	f := settingsFile{path: filepath.Join(h.Path, configFile), defaults: defaultConfigFor(h.Descriptor), prefix: envPrefix, open: func(key string) bool { return isPeerKey(key) || isTokenKey(key) }, alone: []string{"peers", "keys"}}
	err := f.load(environ, &c, func() (setting, reason, hint string) { return c.check() })
	if err != nil {
		return Config{}, err
	}
	return c, nil
}

// check returns which setting is wrong, why, and what to do; or nothing.
func (c *Config) check() (setting, reason, hint string) {
	for _, l := range []struct{ key, value string }{{"api.listen", c.API.Listen}, {"peer.listen", c.Peer.Listen}, {"p2p.listen", c.P2P.Listen}} {
		if err := checkHostPort(l.value); err != nil {
			return l.key, fmt.Sprintf("= %q is no address to listen on: %v", l.value, err), `write it like "127.0.0.1:8443" or ":8443"`
		}
	}
	for id, route := range c.Peers {
		for _, a := range []struct{ key, value string }{{"peer", route.Peer}, {"p2p", route.P2P}} {
			if host, _, _ := net.SplitHostPort(a.value); a.value != "" && (host == "" || checkHostPort(a.value) != nil) {
				return "peers." + id + "." + a.key, fmt.Sprintf("= %q is no address", a.value), `write it like "notary.example:7443"`
			}
		}
	}
	if (c.API.TLSCertificate == "") != (c.API.TLSKey == "") {
		return "api.tls_certificate", "and api.tls_key go together, and one is empty", "set both or neither"
	}
	if c.Data == "" {
		return "data", "is empty", `write data = "data"`
	}
	for _, l := range []struct {
		key        string
		value, min int64
	}{
		// A request of one statement, and one that the log can hold.
		{"limits.body_bytes", c.Limits.BodyBytes, evidence.MaxStatement},
		{"limits.pending_statements", c.Limits.PendingStatements, 1},
		{"limits.free_disk_bytes", c.Limits.FreeDiskBytes, 0},
		{"limits.requests_per_second", c.Limits.RequestsPerSecond, 0},
	} {
		if l.value < l.min {
			return l.key, fmt.Sprintf("= %d is too small", l.value), fmt.Sprintf("at least %d", l.min)
		}
	}
	if setting, reason, hint = c.checkTimestamps(); setting != "" {
		return setting, reason, hint
	}
	if setting, reason, hint = c.checkKeys(); setting != "" {
		return setting, reason, hint
	}
	return c.Log.check()
}

func (c LogConfig) check() (setting, reason, hint string) {
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, c.Level) {
		return "log.level", fmt.Sprintf("= %q is no level", c.Level), "use debug, info, warn or error"
	}
	if c.Format != "text" && c.Format != "json" {
		return "log.format", fmt.Sprintf("= %q is no format", c.Format), "use text or json"
	}
	return "", "", ""
}

func (c *Config) checkTimestamps() (setting, reason, hint string) {
	t := &c.TSA
	if t.MaxErrorSeconds < 1 {
		return "tsa.max_error_seconds", fmt.Sprintf("= %d is too small", t.MaxErrorSeconds), "at least 1"
	}
	if t.RequestsPerSecond < 0 {
		return "tsa.requests_per_second", fmt.Sprintf("= %d is too small", t.RequestsPerSecond), "at least 0"
	}
	if t.Enabled && !t.Demonstration {
		if t.Policy == "" {
			return "tsa.policy", "is empty", "give the object identifier of the institution's own timestamp policy; only a demonstration's authority has a default"
		}
		if len(t.Sources) == 0 {
			return "tsa.sources", "is empty", "name three NTP servers or more on other hosts; only a demonstration's authority signs without"
		}
	}
	for i, a := range c.Timestamps.Authorities {
		key := fmt.Sprintf("timestamps.authorities[%d]", i)
		if u, err := url.Parse(a.URL); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return key + ".url", fmt.Sprintf("= %q is no http or https address", a.URL), `write it like "https://ca.example:8443/tsa"`
		}
		if a.File == "" {
			return key + ".file", "is empty", "name the authority.json of the institution that runs it"
		}
	}
	return "", "", ""
}

func checkHostPort(s string) error {
	_, port, err := net.SplitHostPort(s)
	if err != nil {
		return errors.New("host and port, separated by a colon, are needed")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("%q is no port from 1 to 65535", port)
	}
	return nil
}

// checkPeers finds overrides of institutions that are not there.
func (h *Home) checkPeers() error {
	if h.Alliance == nil {
		return nil
	}
	for id := range h.Config.Peers {
		if _, err := h.peer(id); err != nil {
			return &Error{Code: CodeConfigUnknown, Path: filepath.Join(h.Path, configFile), Subject: "peers." + id, Reason: fmt.Sprintf("[peers.%s] names no other institution of the alliance", id), Hint: "the others are: " + strings.Join(h.Peers(), ", ")}
		}
	}
	return nil
}

// isPeerKey: peers.ID.peer or peers.ID.p2p.
func isPeerKey(key string) bool {
	parts := strings.Split(key, ".")
	return len(parts) == 3 && parts[0] == "peers" && (parts[2] == "peer" || parts[2] == "p2p")
}
