// Package tour drives a real Chromium through pages, as a person would: for the
// demonstration, the screenshots and the scenarios.
//
//	Open ─► browser ─► Visit ─► a visitor of her own: cookies, screen, language
//	visitor: Go ─► Click(role, name), Fill(label), Upload ─► WaitText ─► Screenshot
//	       : AddAuthenticator ─► passkeys without a hand on a device
//	       : Problems ─► what the console said, which hosts were asked
//
// Elements are found by role and name, as a screen reader announces them: what
// the tour cannot find, a blind reader cannot find either.
//
// Nothing here is trusted: it is for shows and tests. Chromium started by root
// runs without its sandbox, as it must in containers; it opens this project's own
// pages and none other.
package tour
