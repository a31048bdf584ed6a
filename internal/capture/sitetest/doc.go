// Package sitetest is a small web of several hosts on loopback for tests of the
// recording mode and for the demonstration: a search engine, an author's page, a
// shop that copied from it, and hosts that misbehave.
//
//	search ──► results ──► author   the original, with the author's seal
//	                  └──► shop     the copy: pictures, film, download, workers, sockets
//	plain  ──301──► shop            and notice, a page that changes between visits
//	selfsigned, expired             certificates that are bad
//	inner  ──► 127.0.0.1, 169.254.169.254, … in every spelling: nothing may arrive
//
// All of it is made up and our own: the words, the pictures (drawn by draw.go)
// and the film (frames of draw.go; see film_test.go). Nothing comes from
// elsewhere, and the same request gives the same content, except for notice,
// whose visits are counted.
//
// The hosts are names under zhenglian.test (RFC 6761) that no resolver knows. A
// browser reaches them through the recording proxy with Site.Exceptions, and
// with Site.Roots as the proxy's roots. Nobody trusts this site with anything: its
// authority lives as long as the Site does.
package sitetest
