// Package signing keeps private keys: it makes them, puts them into files that
// only their owner can read, and hands them out as signers.
//
//	Generate ──► Key ──Save──► keys/receipt.pem   PKCS#8, 0600, never overwritten
//	                                │
//	             evidence.Signer ◄──┴── Load      refused when others can read it
//	                  ▲
//	KeyStore ─────────┘   by name: a directory of files now, a token by configuration
//
// Trusted: the key files. Whoever reads one signs as its owner; whoever can
// only delete one stops its owner from signing. A file protected by a
// passphrase is an age file (scrypt recipient) around the same PEM.
//
// A key that is kept in memory is never printed: Key formats as its algorithm
// and kid.
package signing
