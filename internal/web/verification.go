package web

func (s *Site) verification() {}
