package institution

import (
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/go-viper/mapstructure/v2"
	"github.com/knadh/koanf/parsers/toml/v2"
	"github.com/knadh/koanf/v2"

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

// loadConfig lays the defaults, HOME/node.toml and the environment over each
// other. A file that is missing means the defaults.
func (h *Home) loadConfig(environ []string) (Config, error) {
	path := filepath.Join(h.Path, configFile)
	fail := func(code ErrorCode, setting, reason, hint string, err error) (Config, error) {
		return Config{}, &Error{Code: code, Path: path, Subject: setting, Reason: reason, Hint: hint, Err: err}
	}
	k := koanf.New(".")
	if err := k.Load(tomlBytes(defaultConfigFor(h.Descriptor)), toml.Parser()); err != nil {
		return fail(CodeConfig, "", "the built-in settings cannot be read", "", err)
	}
	known := k.All()

	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fail(CodeConfig, "", "the settings cannot be read", "", err)
	}
	file := koanf.New(".")
	if err := file.Load(tomlBytes(text), toml.Parser()); err != nil {
		return fail(CodeConfig, "", "the settings are not valid TOML", "correct the line that is named", err)
	}
	for key, value := range file.All() {
		if section, empty := value.(map[string]any); empty && len(section) == 0 && isSection(known, key) {
			file.Delete(key) // a section whose settings are all commented out
			continue
		}
		if _, ok := known[key]; !ok && !isPeerKey(key) {
			return fail(CodeConfigUnknown, key, fmt.Sprintf("there is no setting %q", key), hintKeys(known, key), nil)
		}
	}
	if err := k.Merge(file); err != nil {
		return fail(CodeConfig, "", "the settings contradict each other", "", err)
	}
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, envPrefix) {
			continue
		}
		key, ok := keyOfVariable(known, name)
		if !ok {
			return fail(CodeConfigUnknown, name, fmt.Sprintf("the environment variable %s names no setting", name), hintKeys(known, strings.ToLower(strings.TrimPrefix(name, envPrefix))), nil)
		}
		if err := setFromText(k, key, value, known[key]); err != nil {
			return fail(CodeConfigValue, name, fmt.Sprintf("the environment variable %s has a wrong value", name), "", err)
		}
	}
	var c Config
	if err := k.UnmarshalWithConf("", &c, koanf.UnmarshalConf{
		Tag:           "koanf",
		DecoderConfig: &mapstructure.DecoderConfig{Result: &c, TagName: "koanf", ErrorUnused: true},
	}); err != nil {
		return fail(CodeConfig, "", "a setting has a value of the wrong type", "texts stand in quotes, numbers do not", err)
	}
	if setting, reason, hint := c.check(); setting != "" {
		return fail(CodeConfigValue, setting, setting+" "+reason, hint, nil)
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
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, c.Log.Level) {
		return "log.level", fmt.Sprintf("= %q is no level", c.Log.Level), "use debug, info, warn or error"
	}
	if c.Log.Format != "text" && c.Log.Format != "json" {
		return "log.format", fmt.Sprintf("= %q is no format", c.Log.Format), "use text or json"
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

func isSection(known map[string]any, key string) bool {
	if key == "peers" || strings.HasPrefix(key, "peers.") && strings.Count(key, ".") == 1 {
		return true
	}
	for k := range known {
		if strings.HasPrefix(k, key+".") {
			return true
		}
	}
	return false
}

// isPeerKey: peers.ID.peer or peers.ID.p2p.
func isPeerKey(key string) bool {
	parts := strings.Split(key, ".")
	return len(parts) == 3 && parts[0] == "peers" && (parts[2] == "peer" || parts[2] == "p2p")
}

// hintKeys lists the settings of the same section, or all of them.
func hintKeys(known map[string]any, key string) string {
	section, _, _ := strings.Cut(strings.Replace(key, "_", ".", 1), ".")
	if section == "peers" {
		return "a section [peers.ID] has peer and p2p, in node.toml alone"
	}
	var all, same []string
	for k := range known {
		all = append(all, k)
		if strings.HasPrefix(k, section+".") {
			same = append(same, k)
		}
	}
	if len(same) > 0 {
		all = same
	}
	slices.Sort(all)
	return "the settings are: " + strings.Join(all, ", ")
}

func keyOfVariable(known map[string]any, name string) (string, bool) {
	for key := range known {
		if name == envPrefix+strings.ToUpper(strings.ReplaceAll(key, ".", "_")) {
			return key, true
		}
	}
	return "", false
}

// setFromText gives a setting a value of its default's type.
func setFromText(k *koanf.Koanf, key, value string, like any) error {
	switch like.(type) {
	case bool:
		b, err := strconv.ParseBool(value)
		if err != nil {
			return fmt.Errorf("%q is neither true nor false", value)
		}
		return k.Set(key, b)
	case []any:
		return k.Set(key, listFromText(key, value))
	case int64:
	default:
		return k.Set(key, value)
	}
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		return fmt.Errorf("%q is no whole number", value)
	}
	return k.Set(key, n)
}

// listFromText reads a list that is written with commas. An authority is its
// URL, a space and its file.
func listFromText(key, value string) []any {
	list := []any{}
	for part := range strings.SplitSeq(value, ",") {
		part = strings.TrimSpace(part)
		switch address, file, _ := strings.Cut(part, " "); {
		case part == "":
		case key == "timestamps.authorities":
			list = append(list, map[string]any{"url": address, "file": strings.TrimSpace(file)})
		default:
			list = append(list, part)
		}
	}
	return list
}

// tomlBytes is a koanf.Provider of a text in memory.
type tomlBytes []byte

// ReadBytes implements koanf.Provider.
func (b tomlBytes) ReadBytes() ([]byte, error) { return b, nil }

// Read implements koanf.Provider, which never calls it when there is a parser.
func (b tomlBytes) Read() (map[string]any, error) {
	return nil, errors.New("a text needs a parser")
}
