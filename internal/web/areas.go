package web

// areas lists who adds pages, one line each.
func (s *Site) areas() {
	s.home()
	s.signin()
	s.keys()
	s.actingRoutes()
	s.desk()
	s.verification()
	s.console()
	s.memberApp()
	s.deposit()
	s.records()
}
