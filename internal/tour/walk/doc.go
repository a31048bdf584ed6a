// Package walk is what a person does at a portal, told once in both languages:
// for the demonstration, the screenshots and the stories.
//
//	At(visitor, origin, language) ─► Walker
//	SignIn ─► MakeKey ─► AddPasskey ─► Deposit ─► Package ─► Verify, as a stranger
//	Apply ─► Decide, as an officer ─► the member's own pages
//	Lost ─► Decide ─► Recover ─► RestoreKey, on a new device
//
// Each step does what a hand does, by role and accessible name, and returns when
// the page says that it is done. The names stand in words.go; a page that words
// something otherwise fails the walk, as it would stop a reader.
//
// Nothing here is trusted: a walk that arrives shows that a person can, and
// proves nothing about what was deposited.
package walk
