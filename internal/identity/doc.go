// Package identity is a CA institution's register of who is who: persons and
// what is known of them, the members they act for, members' keys and passkeys,
// the registration authority's desk, and the log of who looked at what.
//
//	sign-in ──facts, level──► person ──application──► desk: an officer who is not she ──► level, mandate
//	person ──key──► EnrolKey ──intention on disk──► Deliver ──signed statement──► chain: enrolment, passkey,
//	   │                                                                           certificate, revocation
//	   └─passkey──► BeginAct(digest) ──challenge = digest──► FinishAct ──► evidence.Assertion for the manifest
//	every look at a person's papers ──► access log, each row under a MAC with the one before
//
// Personal data is here and nowhere else: names and numbers are sealed in the
// database, and the log of the alliance has a salted commitment.
//
// Trusted: the key file of the store, for secrecy and for the access log; the
// sign-in (package signin) for its word on issuer, subject and facts; an
// officer, for what she approved, under her name; the caller for Who: that the
// session is this person's. Not trusted: the browser; a session alone, once a
// passkey is bound: it can neither add a passkey nor a key without that passkey
// or a recovery code from the desk. A database without its key file shows when,
// how many and which ids, not who.
package identity
