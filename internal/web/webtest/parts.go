package webtest

import "github.com/zhenglian/zhenglian/internal/web"

// parts are the fakes of every part there is.
func parts(p *Portal) web.Parts {
	shelf := memberShelf()
	return web.Parts{People: p.People, Console: p.Console, Providers: Providers{}, Entrance: NewEntrance(p.People), Custody: shelf, Enroller: shelf}
}

// Examples gives a path for each page that has a wildcard in its pattern, so that
// the tests of all pages can open it.
func Examples() map[string]string {
	return map[string]string{
		"/records/{trail}":                memberShelf().Record(),
		"/keys/{kid}":                     "/keys/" + exampleKey(Newcomer, 0).KID().String(),
		"/keys/passkey/{member}":          "/keys/passkey/" + Enterprise,
		"/apply/{id}":                     "/apply/" + Application,
		"/desk/{id}":                      "/desk/" + Submitted,
		"/desk/{id}/documents/{document}": "/desk/" + Submitted + "/documents/" + Paper,
	}
}
