package proxy

import (
	"slices"
	"strings"
)

// BackgroundHosts are hosts that Chromium asks by itself, whatever page is open:
// updates of components, safe browsing, autofill, translation, push messages. A
// page may ask them too: traffic is tagged by this list and recorded like any
// other. An entry that begins with a dot stands for all names under it.
func BackgroundHosts() []string {
	return []string{
		"accounts.google.com", "android.clients.google.com", "clients1.google.com", "clients2.google.com", "clients3.google.com",
		"clients4.google.com", "clients5.google.com", "clients6.google.com", "clientservices.googleapis.com",
		"chromewebstore.googleapis.com", "chromekanonymityquery-pa.googleapis.com", "connectivitycheck.gstatic.com", "content-autofill.googleapis.com",
		"mtalk.google.com", "optimizationguide-pa.googleapis.com", "safebrowsing.googleapis.com", "safebrowsing.google.com",
		"sb-ssl.google.com", "translate.googleapis.com", "update.googleapis.com",
		"redirector.gvt1.com", ".gvt1.com", ".gvt2.com",
	}
}

func (p *Proxy) background(host string) bool {
	return slices.ContainsFunc(p.config.Background, func(entry string) bool {
		return host == entry || strings.HasPrefix(entry, ".") && strings.HasSuffix(host, entry)
	})
}
