package institution

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPortalSettings(t *testing.T) {
	h := &Home{Path: t.TempDir()}
	c, err := h.portal(nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.Origin != "http://localhost:8450" || c.Certificates.ValidityHours != 2160 || len(c.Providers) != 0 || c.Demonstration {
		t.Fatalf("defaults: %+v", c)
	}
	provider := "[[providers]]\nid = \"gov\"\nname_zh = \"身份\"\nname_en = \"Identity\"\nissuer = \"https://id.example.cn\"\nclient_id = \"zl\"\n"
	write := func(text string) {
		if err := os.WriteFile(filepath.Join(h.Path, portalFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(provider + "[[officers]]\nissuer = \"https://id.example.cn\"\nsubject = \"7\"\nroles = [\"ra\"]\n")
	if c, err = h.portal([]string{"ZHENGLIAN_PORTAL_LIMITS_REQUESTS_PER_MINUTE=7", "ZHENGLIAN_PORTAL_DEMONSTRATION=true"}); err != nil {
		t.Fatal(err)
	}
	if len(c.Providers) != 1 || c.Providers[0].NameZH != "身份" || c.Officers[0].Roles[0] != "ra" || c.Limits.RequestsPerMinute != 7 || !c.Demonstration {
		t.Fatalf("%+v", c)
	}
	// The file as it is written takes sections at its end, and where its examples are.
	officer := "[[officers]]\nissuer = \"https://id.example.cn\"\nsubject = \"7\"\nroles = [\"ra\"]\n"
	inside := strings.Replace(strings.Replace(string(portalTemplate), "# [[providers]]\n", provider+"#\n", 1), "# [[officers]]\n", officer+"#\n", 1)
	for _, text := range []string{string(portalTemplate) + provider + officer, inside} {
		write(text)
		if c, err = h.portal(nil); err != nil || len(c.Providers) != 1 || len(c.Officers) != 1 || len(c.Acts) != 7 {
			t.Errorf("%v: %+v\n%s", err, c, text)
		}
	}
	for _, tc := range []struct{ text, subject string }{
		{`origin = "http://portal.example.cn"`, "origin"},
		{`origin = "https://10.0.0.1"`, "origin"},
		{`origin = "https://a.example/"`, "origin"},
		{`listen = "8450"`, "listen"},
		{`database = "mysql://x/y"`, "database"},
		{`database = "postgres://u:p@h/d"`, "database"},
		{`tls_key = "k.pem"`, "tls_certificate"},
		{`proxies = ["x"]`, "proxies"},
		{"[certificates]\nvalidity_hours = 0", "certificates.validity_hours"},
		{provider + provider, "providers[1].id"},
		{strings.Replace(provider, "https://id", "http://id", 1), "providers[0].issuer"},
		{"[[officers]]\nissuer = \"i\"\nsubject = \"s\"\nroles = [\"king\"]", "officers[0].roles"},
		{"acts = [{ kind = \"sign\", assurance = 4 }]", "acts[0].assurance"},
		{"acts = [{ kind = \"sign\", assurance = 2 }, { kind = \"sign\", assurance = 1 }]", "acts[1].kind"},
		{"nonsense = 1", "nonsense"},
	} {
		write(tc.text)
		_, err := h.portal(nil)
		var e *Error
		if !errors.As(err, &e) || e.Subject != tc.subject {
			t.Errorf("%s: %v, want a complaint about %s", tc.text, err, tc.subject)
		}
	}
}
