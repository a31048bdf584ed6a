package institution

import (
	"bytes"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/zhenglian/zhenglian/internal/signing"
)

// TokenConfig is the PKCS#11 token that an institution's keys are on.
type TokenConfig struct {
	Module  string `koanf:"module"`
	PINFile string `koanf:"pin_file"` // relative to the home
	Program string `koanf:"program"`
}

func (c TokenConfig) signing(home string) signing.TokenConfig {
	if c.PINFile != "" && !filepath.IsAbs(c.PINFile) {
		c.PINFile = filepath.Join(home, c.PINFile)
	}
	return signing.TokenConfig{Module: c.Module, PINFile: c.PINFile, Program: c.Program}
}

// onToken are the keys that may be on a token: consensus and node are the
// engine's, which wants them in memory, tls is for every connection, and tokens
// have no SM2. A successor, keys/NAME.2, is NAME-2 in the settings, where a dot
// would begin a section.
func onToken(setting string) bool {
	base, generation, successor := strings.Cut(setting, "-")
	if successor {
		if n, err := strconv.ParseUint(generation, 10, 16); err != nil || n < 2 {
			return false
		}
	}
	return slices.Contains([]string{"receipt", "cosign", "statement", "attest", tsaKeyName, caKeyName}, base)
}

// isTokenKey: keys.NAME.
func isTokenKey(key string) bool {
	name, ok := strings.CutPrefix(key, "keys.")
	return ok && onToken(name)
}

// checkKeys returns which setting of [keys] is wrong, why, and what to do.
func (c *Config) checkKeys() (setting, reason, hint string) {
	for _, name := range slices.Sorted(maps.Keys(c.Keys)) {
		if !onToken(name) {
			return "keys." + name, "cannot be on a token", "only receipt, cosign, statement, attest, tsa and ca can; the others are files"
		}
		if uri := c.Keys[name]; uri != "" {
			if _, err := signing.ParseTokenURI(uri); err != nil {
				return "keys." + name, "names no key: " + err.Error(), `write it like "pkcs11:token=court;object=receipt"`
			}
		}
	}
	return "", "", ""
}

// withKeys writes [keys] and [token] into the text of node.toml.
func (c *Config) withKeys(text []byte) []byte {
	var keys strings.Builder
	for _, name := range slices.Sorted(maps.Keys(c.Keys)) {
		if c.Keys[name] != "" {
			fmt.Fprintf(&keys, "%s = %q\n", name, c.Keys[name])
		}
	}
	text = bytes.Replace(text, []byte("[keys]\n"), []byte("[keys]\n"+keys.String()), 1)
	for _, s := range []struct{ name, value string }{{"module", c.Token.Module}, {"pin_file", c.Token.PINFile}, {"program", c.Token.Program}} {
		text = bytes.Replace(text, fmt.Appendf(nil, "\n%s = \"\"\n", s.name), fmt.Appendf(nil, "\n%s = %q\n", s.name, s.value), 1)
	}
	return text
}

// keyStore is where the home's keys are.
func (h *Home) keyStore() signing.Mixed {
	return signing.Mixed{Files: signing.Dir(keysDir(h.Path)), Tokens: h.tokens, URIs: byFile(h.Config.Keys)}
}

// byFile turns the names of [keys] into those of key files: receipt-2 is
// receipt.2.
func byFile(settings map[string]string) map[string]string {
	uris := make(map[string]string, len(settings))
	for name, uri := range settings {
		uris[strings.Replace(name, "-", ".", 1)] = uri
	}
	return uris
}

// Close ends the processes that sign with tokens, where there are any. They end
// with this process anyway.
func (h *Home) Close() error { return h.tokens.Close() }
