package web

// areas lists who adds pages, one line each.
func (s *Site) areas() {
	s.home()
	s.verification()
	s.console()
}
