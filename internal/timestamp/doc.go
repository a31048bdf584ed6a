// Package timestamp is an RFC 3161 authority that an institution can run, the
// clock that it signs by, and the client that asks authorities for tokens.
//
//	NTP servers ──► Clock: time, and how wrong it can be ─┐
//	query ──► Authority ──sign──► own check ──► Register ─┴─► answer
//	                                   line on disk before the answer leaves
//	imprint ──► Client ──► first authority of the list that answers ──► token
//	the token is checked by evidence/rfc3161, as every verifier will check it
//
// Imprints, policies, the register's bytes and what verifiers do are specified
// in spec/timestamp.md.
//
// Trusted: the authority's key and a majority of its NTP servers. The register
// is trusted for the account that the authority gives of itself, and for no
// token: whoever alters it can hide that a token was issued, which a token in
// anybody's hands disproves, and cannot make one. Clients trust the authorities
// in their configuration and nothing that the network says.
package timestamp
