package web

import "net/http"

// home is the front page, and the way to it.
func (s *Site) home() {
	s.bare("GET /{$}", public, func(r *request) error {
		r.w.Header().Add("Vary", "Accept-Language")
		r.redirect("/")
		return nil
	})
	for _, lang := range languages { // /en → /en/
		s.mux.Handle("GET /"+lang, http.RedirectHandler("/"+lang+"/", http.StatusMovedPermanently))
	}
	s.page("GET /", public, s.front)
}

// frontView is what the front page shows.
type frontView struct {
	// Next is what the person signed in does next: enrol, deposit, desk, console,
	// or empty.
	Next string
}

func (s *Site) front(r *request) error {
	var v frontView
	if p := r.person; p != nil {
		switch {
		case operator.admits(p) && s.offers("/console"):
			v.Next = "console"
		case officer.admits(p) && s.offers("/desk"):
			v.Next = "desk"
		case p.Member == "" && s.offers("/keys"):
			v.Next = "keys"
		case p.Member != "" && s.offers("/deposit"):
			v.Next = "deposit"
		}
	}
	return r.render(http.StatusOK, "home", v)
}
