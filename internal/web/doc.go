// Package web is an institution's web portal: the shell that every page lives
// in, and the pages.
//
//	browser ─► guard (host, headers, rate, other sites' requests) ─► session ─► access table
//	       ─► handler ─► parts (interfaces declared here; nil = page not offered)
//	       ─► template in the layout, words of the page's language ─► browser
//	package to verify ─► a worker in the visitor's browser; it never comes here
//
// # Adding pages
//
// An area is a file and a name, such as keys: keys.go, template/keys*.html,
// text/{zh-CN,en}/keys.json, static/keys*.js. It declares the interfaces it needs
// of other packages, adds them to Config.Parts, and one line to the list in
// areas.go:
//
//	func (s *Site) keys() {
//		if s.config.Parts.Keys == nil { return } // not offered here
//		s.page("GET /keys", member, s.keysList)           // in every language: /zh-CN/keys, /en/keys
//		s.page("POST /keys/{kid}/revoke", member, s.keyRevoke)
//		s.app("POST /app/keys", signedIn, s.keyRequest)   // JSON; errors are RFC 9457 problems
//		s.bare("GET /signin/callback", public, s.callback) // no language in the path, else like a page
//		s.navigate(30, "/keys", "keys.nav", member)
//	}
//
//	func (s *Site) keysList(r *request) error {
//		list, err := s.config.Parts.Keys.List(r.Context(), r.person.ID)
//		if err != nil { return fmt.Errorf("listing keys: %w", err) } // problem page 500, logged
//		if len(list) == 0 { return fail(404, "keys.none") }           // keys.none.title, keys.none.detail
//		return r.render(200, "keys", list)                            // template/keys.html
//	}
//
// Who may come in is the second argument and nothing else: public, signedIn,
// member, officer, operator.
//
// A template defines "title" and "main"; dot is a view (view.go) with the page's
// own data in .Data. {{t "keys.count" "n" 3}} gives a text with {n} put in, and
// {count:key/keys} the word for the number. A text that is missing in a language,
// or a key in a template without text, fails New; keys begin with the area's name.
// {{path "/keys"}} is the address in the page's language, {{static "keys.js"}} a
// fingerprinted one; scripts are modules: {{define "head"}}<script type="module"
// src="{{static "keys.js"}}"></script>{{end}}. Components are in
// template/shared/components.html with a comment on how each is called.
//
// r.T, r.notice (said on the next page), r.redirect, r.readJSON, r.json,
// r.signIn, r.signOut, r.session do what their names say. Forms need no token:
// requests from other sites are refused by what the browser says of them.
// Scripts fetch with header Accept-Language set to document.documentElement.lang.
// The policy allows no inline script or style, no other host, and no text
// turned into HTML or script addresses but through static/trusted.js.
//
// A fake of a new part goes into webtest/parts.go, a path for each page with a
// wildcard into webtest.Examples, and states worth looking at (empty, refused,
// many) into webtest's states: test/pages then opens them all.
//
// # Trust
//
// Nothing that a browser sends is trusted: who is signed in comes from the
// session's row in the store, what she may do from the person's row. Whoever
// reads the session store cannot use what is in it as a cookie: it has hashes.
// Whoever alters the store, or this program, can sign in as anybody here; he
// cannot make a member's key sign, and cannot alter what the alliance's log has.
package web
