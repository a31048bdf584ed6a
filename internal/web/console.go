package web

// Console is the node behind the portal, as its operators see it.
type Console interface{}

func (s *Site) console() {}
