package render

import (
	"maps"
	"slices"
	"strings"

	"github.com/zhenglian/zhenglian/verify"
)

// Court is the court whose finding a report is.
type Court struct {
	Institution string // id
	Name        string
	Made        string // RFC 3339 in UTC
	Document    string // name of the file that is signed; empty when nothing was written
	Signature   string // name of the file with the signature over it
}

// ForCourt returns a renderer whose reports are that court's finding: they say
// by whom and when it was made, and whether there is an evidence chain.
func (r *Renderer) ForCourt(c Court) *Renderer {
	of := *r
	of.court = &c
	return &of
}

// head fills in what a court's finding says at its top and its end.
func (r *Renderer) head(p *page, rep *verify.Report) {
	c := r.court
	if c == nil {
		return
	}
	p.Conclusion = r.word("finding.fails")
	p.Title = r.word("finding.title-fails")
	switch rep.Verdict {
	case verify.Matches:
		p.Title, p.Conclusion = r.word("finding.title"), r.word("finding.stands")
	case verify.Undetermined:
		p.Conclusion = r.word("finding.open")
	}
	p.Made = []row{{r.word("finding.by"), r.of(c.Name, c.Institution)}, {r.word("finding.made"), moment(c.Made)}}
	p.Footer = r.with("finding.footer", "court", c.Name)
	if c.Signature != "" {
		p.Footer += r.with("finding.signed", "document", c.Document, "signature", c.Signature)
	} else {
		p.Footer += r.word("finding.unsigned")
	}
}

// issuer says who issued the package, where that is established.
func (r *Renderer) issuer(rep *verify.Report) string {
	if !rep.IssuerEstablished {
		return r.word("issuer.no")
	}
	ids := slices.Sorted(maps.Keys(rep.Basis.Names))
	return r.with("issuer.yes", "name", rep.Basis.Name, "institutions", strings.Join(ids, ", "))
}

// of is a name with its id.
func (r *Renderer) of(name, id string) string {
	if r.lang == "zh-CN" {
		return plain(name) + "（" + plain(id) + "）"
	}
	return plain(name) + " (" + plain(id) + ")"
}
