// Package rfc3161 checks timestamp tokens (RFC 3161, RFC 5816) at the time that
// they state. Its bytes are specified in spec/timestamp.md, part 1 and 2.
//
//	token ──► structure: one signer, SHA-2, TSTInfo, signing certificate named
//	      ──► imprint: the 32 bytes that were to be stamped
//	      ──► signature, and the certificate: timeStamping alone, critical
//	      ──► chain to an anchor, or a pinned key, valid at the token's own time
//	      ──► Info: time, accuracy, serial, policy, authority
//
// Nothing is read from a clock, a file or a network, so that the same code runs
// in a court's node and in a browser.
//
// Trusted: the caller's Trust, and the authorities in it for telling the time.
// Not trusted: the token and the certificates that come with it. It is a package
// of its own, under evidence, because the authority and its client must refuse
// what a verifier would refuse, and may not import the verifier for it.
package rfc3161
