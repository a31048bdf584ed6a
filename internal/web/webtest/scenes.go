package webtest

import (
	"slices"

	"github.com/zhenglian/zhenglian/internal/web"
)

// Scene is a page in one state, for the tests and the pictures of all pages.
type Scene struct {
	Name   string // of its picture
	Path   string // without the language, with its query
	Person string // who looks at it; empty: nobody
	Acting string // the enterprise for which she acts; empty: herself
	Status int    // what it answers; 0: 200
	// Prepare puts the parts into the state that is shown, and returns what undoes
	// it; nil: as they are.
	Prepare func(*Portal) (undo func())
}

// Scenes lists every page that the site has, opened by somebody who may, and the
// further states of pages that areas name below. A page with a wildcard needs its
// path in Examples.
func (p *Portal) Scenes() (scenes []Scene, missing []string) {
	persons := map[string]string{"public": "", "signedIn": Newcomer, "member": Member, "officer": Officer, "operator": Operator}
	examples := Examples()
	for _, r := range p.Site.Routes() {
		if r.Kind != "page" || r.Method != "GET" || slices.Contains(files(), r.Pattern) {
			continue
		}
		path, wild := r.Pattern, false
		for _, c := range r.Pattern {
			wild = wild || c == '{'
		}
		if wild {
			if path = examples[r.Pattern]; path == "" {
				missing = append(missing, r.Pattern)
				continue
			}
		}
		scenes = append(scenes, Scene{Name: pictureName(r.Pattern), Path: path, Person: persons[r.Access]})
	}
	for _, s := range states() {
		if !slices.ContainsFunc(scenes, func(o Scene) bool { return o.Name == s.Name }) {
			scenes = append(scenes, s)
		}
	}
	return scenes, missing
}

// files are patterns that hand out a file and show no page.
func files() []string { return []string{"/desk/{id}/documents/{document}"} }

// states are pages in states that their plain address does not show.
func states() []Scene {
	return []Scene{
		{Name: "home-newcomer", Path: "/", Person: Newcomer},
		{Name: "home-member", Path: "/", Person: Member},
		{Name: "home-operator", Path: "/", Person: Operator},
		{Name: "console-young", Path: "/console", Person: Operator, Prepare: showing(YoungNode())},
		{Name: "console-no-node", Path: "/console", Person: Operator, Status: 502, Prepare: showing(nil)},
		{Name: "problem-not-yours", Path: "/console", Person: Newcomer, Status: 403},
		{Name: "keys-member", Path: "/keys", Person: Member},
		{Name: "keys-acting", Path: "/keys", Person: Newcomer, Acting: Enterprise},
		{Name: "deposit-acting", Path: "/deposit", Person: Newcomer, Acting: Enterprise},
		{Name: "records-acting", Path: "/records", Person: Newcomer, Acting: Enterprise},
		{Name: "keys-none", Path: "/keys", Person: Operator},
		{Name: "keys-revoked", Path: "/keys/" + exampleKey(Member, 1).KID().String(), Person: Member},
		{Name: "keys-log-member", Path: "/keys/log", Person: Member},
		{Name: "apply-submitted", Path: "/apply/" + Submitted, Person: Member},
		{Name: "lost-nothing", Path: "/lost", Person: Operator},
		{Name: "records-empty", Path: "/records", Person: Officer},
		{Name: "records-older", Path: "/records?before=4", Person: Member},
		{Name: "record-refused", Path: memberShelf().Refused(), Person: Member},
		{Name: "record-not-yours", Path: memberShelf().Record(), Person: Officer, Status: 404},
		{Name: "problem-not-found", Path: "/no-such-page", Status: 404},
	}
}

func showing(node *web.NodeView) func(*Portal) func() {
	return func(p *Portal) func() {
		p.Console.Show(node)
		return func() { p.Console.Show(BusyNode()) }
	}
}

// pictureName of a pattern: "/keys/{kid}" is keys-kid, "/" is home.
func pictureName(pattern string) string {
	var out []rune
	for _, c := range pattern {
		switch {
		case c == '/' && len(out) > 0:
			out = append(out, '-')
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-':
			out = append(out, c)
		}
	}
	for len(out) > 0 && out[len(out)-1] == '-' {
		out = out[:len(out)-1]
	}
	if len(out) == 0 {
		return "home"
	}
	return string(out)
}
