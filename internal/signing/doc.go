// Package signing keeps private keys: it makes them, puts them into files that
// only their owner can read, and hands them out as signers.
//
//	Generate ──► Key ──Save──► keys/receipt.pem   PKCS#8, 0600, never overwritten
//	                                │
//	             evidence.Signer ◄──┴── Load      refused when others can read it
//	                  ▲
//	KeyStore ─────────┤   by name: a directory of files, and those with a URI on a token
//	                  │
//	Tokens ───────────┘── one line of JSON ──► zhenglian-token ── PKCS#11 ──► token
//
// Trusted: the key files. Whoever reads one signs as its owner; whoever can
// only delete one stops its owner from signing. A file protected by a
// passphrase is an age file (scrypt recipient) around the same PEM.
//
// A key on a token (RFC 7512: pkcs11:token=…;object=…) never leaves it. Trusted:
// the token and its library, for keeping the key, and the PIN's file: whoever
// reads it and reaches the token signs as its owner. Not trusted: what the token
// signs, which is checked before it leaves (docs/decisions/0010-pkcs11.md).
//
// A key that is kept in memory is never printed: Key formats as its algorithm
// and kid.
package signing
