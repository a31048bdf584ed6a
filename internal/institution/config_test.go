package institution

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/knadh/koanf/parsers/toml/v2"
	"github.com/knadh/koanf/v2"

	"github.com/zhenglian/zhenglian/evidence"
)

func TestSettings(t *testing.T) {
	home, d := initHome(t, params("court", evidence.KindCourt))
	h := &Home{Path: home, Descriptor: d}
	written, err := h.loadConfig(nil)
	if err != nil {
		t.Fatal(err)
	}
	if written.API.Listen != "127.0.0.1:8101" || written.Peer.Listen != "127.0.0.1:8201" || written.P2P.Listen != "127.0.0.1:8301" || written.Limits.BodyBytes != 8<<20 || written.Log.Level != "info" || written.Data != "data" {
		t.Errorf("the written file says %+v", written)
	}
	for name, tc := range map[string]struct {
		file, env string
		want      func(*Config) // changes the defaults to what is wanted
		code      ErrorCode
		subject   string
	}{
		"no file":               {want: func(*Config) {}},
		"all commented out":     {file: "[limits]\n# body_bytes = 1\n[peers.notary]\n[peers]\n", want: func(*Config) {}},
		"file":                  {file: "data = \"/srv/zl\"\n[log]\nlevel = \"debug\"", want: func(c *Config) { c.Data, c.Log.Level = "/srv/zl", "debug" }},
		"environment wins":      {file: "[log]\nlevel = \"debug\"", env: "ZHENGLIAN_NODE_LOG_LEVEL=warn", want: func(c *Config) { c.Log.Level = "warn" }},
		"number in environment": {env: "ZHENGLIAN_NODE_LIMITS_BODY_BYTES=65536", want: func(c *Config) { c.Limits.BodyBytes = 65536 }},
		"other environment":     {env: "ZHENGLIAN_OTHER=1", want: func(*Config) {}},
		"unknown key":           {file: "[limits]\nbody_byte = 1", code: CodeConfigUnknown, subject: "limits.body_byte"},
		"unknown section":       {file: "[limit]\nbody_bytes = 1", code: CodeConfigUnknown, subject: "limit.body_bytes"},
		"section as value":      {file: "limits = 3", code: CodeConfigUnknown, subject: "limits"},
		"unknown peer key":      {file: "[peers.notary]\napi = \"x:1\"", code: CodeConfigUnknown, subject: "peers.notary.api"},
		"unknown variable":      {env: "ZHENGLIAN_NODE_LIMIT=1", code: CodeConfigUnknown, subject: "ZHENGLIAN_NODE_LIMIT"},
		"text for a number":     {file: "[limits]\nbody_bytes = \"many\"", code: CodeConfig},
		"number for a text":     {file: "data = 5", code: CodeConfig},
		"no number in variable": {env: "ZHENGLIAN_NODE_LIMITS_BODY_BYTES=many", code: CodeConfigValue, subject: "ZHENGLIAN_NODE_LIMITS_BODY_BYTES"},
		"not TOML":              {file: "data = ", code: CodeConfig},
		"too small":             {file: "[limits]\nbody_bytes = 10", code: CodeConfigValue, subject: "limits.body_bytes"},
		"negative":              {file: "[limits]\nfree_disk_bytes = -1", code: CodeConfigValue, subject: "limits.free_disk_bytes"},
		"level":                 {file: "[log]\nlevel = \"loud\"", code: CodeConfigValue, subject: "log.level"},
		"listen":                {file: "[api]\nlisten = \"8443\"", code: CodeConfigValue, subject: "api.listen"},
		"port":                  {file: "[api]\nlisten = \":70000\"", code: CodeConfigValue, subject: "api.listen"},
		"half of a TLS pair":    {file: "[api]\ntls_key = \"k.pem\"", code: CodeConfigValue, subject: "api.tls_certificate"},
		"authorities": {file: "[timestamps]\nauthorities = [{ url = \"https://a.example/tsa\", file = \"a.json\" }]", want: func(c *Config) {
			c.Timestamps.Authorities = []AuthorityConfig{{URL: "https://a.example/tsa", File: "a.json"}}
		}},
		"authorities in environment": {env: "ZHENGLIAN_NODE_TIMESTAMPS_AUTHORITIES=https://a.example/tsa /srv/a b.json", want: func(c *Config) {
			c.Timestamps.Authorities = []AuthorityConfig{{URL: "https://a.example/tsa", File: "/srv/a b.json"}}
		}},
		"sources in environment":          {env: "ZHENGLIAN_NODE_TSA_SOURCES=a.example, b.example", want: func(c *Config) { c.TSA.Sources = []string{"a.example", "b.example"} }},
		"authority without a file":        {env: "ZHENGLIAN_NODE_TIMESTAMPS_AUTHORITIES=https://a.example/tsa", code: CodeConfigValue, subject: "timestamps.authorities[0].file"},
		"authority without URL":           {file: "[timestamps]\nauthorities = [{ file = \"a.json\" }]", code: CodeConfigValue, subject: "timestamps.authorities[0].url"},
		"a real authority without policy": {file: "[tsa]\nenabled = true\nsources = [\"a.example\"]", code: CodeConfigValue, subject: "tsa.policy"},
		"a real authority without clocks": {file: "[tsa]\nenabled = true\npolicy = \"1.2.3\"", code: CodeConfigValue, subject: "tsa.sources"},
		"a demonstration needs neither":   {file: "[tsa]\nenabled = true\ndemonstration = true", want: func(c *Config) { c.TSA.Enabled, c.TSA.Demonstration = true, true }},
		"neither true nor false":          {env: "ZHENGLIAN_NODE_TSA_ENABLED=perhaps", code: CodeConfigValue, subject: "ZHENGLIAN_NODE_TSA_ENABLED"},
		"peer without host":               {file: "[peers.notary]\npeer = \":7443\"", code: CodeConfigValue, subject: "peers.notary.peer"},
	} {
		t.Run(name, func(t *testing.T) {
			h := &Home{Path: t.TempDir(), Descriptor: d}
			if tc.file != "" {
				if err := os.WriteFile(filepath.Join(h.Path, configFile), []byte(tc.file), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			got, err := h.loadConfig([]string{"PATH=/bin", tc.env})
			if tc.code != "" {
				wantCode(t, err, tc.code)
				var e *Error
				if errors.As(err, &e); e != nil && (e.Subject != tc.subject || e.Hint == "" && e.Err == nil) {
					t.Errorf("about %q with hint %q, want about %q with a hint", e.Subject, e.Hint, tc.subject)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want := written
			tc.want(&want)
			if !reflect.DeepEqual(got, want) {
				t.Errorf("settings %+v, want %+v", got, want)
			}
		})
	}
}

// Every setting of Config stands in the written file under a comment, and the
// file holds no other.
func TestEverySettingIsExplained(t *testing.T) {
	k := koanf.New(".")
	if err := k.Load(tomlBytes(configTemplate), toml.Parser()); err != nil {
		t.Fatal(err)
	}
	inFile := map[string]bool{}
	for _, key := range k.Keys() {
		inFile[key] = true
	}
	var walk func(prefix string, typ reflect.Type)
	walk = func(prefix string, typ reflect.Type) {
		for i := range typ.NumField() {
			f := typ.Field(i)
			key := prefix + f.Tag.Get("koanf")
			switch f.Type.Kind() {
			case reflect.Struct:
				walk(key+".", f.Type)
			case reflect.Map: // [peers.ID] and [keys] are explained by an example
				if !strings.Contains(configTemplate, "# ["+key+".") && !strings.Contains(configTemplate, "\n["+key+"]\n# ") {
					t.Errorf("[%s] has no example", key)
				}
				delete(inFile, key)
			default:
				if !inFile[key] {
					t.Errorf("%s is not in the file", key)
				}
				delete(inFile, key)
			}
		}
	}
	walk("", reflect.TypeFor[Config]())
	for key := range inFile {
		t.Errorf("%s in the file is no setting", key)
	}
	lines := strings.Split(configTemplate, "\n")
	for i, line := range lines {
		if strings.Contains(line, " = ") && !strings.HasPrefix(line, "#") {
			above := lines[i-1]
			if !strings.HasPrefix(above, "#") && !strings.HasPrefix(above, "[") && !strings.HasPrefix(above, "tls_certificate") {
				t.Errorf("%q has no comment above it", line)
			}
		}
	}
}

func TestListenAddress(t *testing.T) {
	for address, want := range map[string]string{
		"127.0.0.1:8201": "127.0.0.1:8201", "localhost:8201": "localhost:8201", "[::1]:8201": "[::1]:8201",
		"court.example:8201": ":8201", "10.0.0.7:8201": ":8201",
	} {
		if got := listenAt(address); got != want {
			t.Errorf("%s: listens at %s, want %s", address, got, want)
		}
	}
}
