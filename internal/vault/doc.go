// Package vault keeps large objects encrypted, so that their plaintext stays
// with the owner and with those to whom she grants it, and so that a clip of an
// object can be disclosed without the rest.
//
//	plaintext ─┬─ SHA-256 ──────────────────────────────┐
//	           ├─ SM3 ──────────────────────────────────┤
//	           └─ 1 MiB chunks ─┬─ salted leaf → plaintext root ──┤→ Object (for the manifest)
//	   root key → key tree ─────┴─ AES-256-GCM → ciphertext root ─┘
//	   root key → age, one wrap a recipient;   a clip = the few key tree nodes over it + Merkle proof
//
// spec/vault.md gives every byte; spec/vectors/vault holds vectors.
//
// The store is not trusted: whoever alters it can only make a fetch fail.
// (Whoever reads it learns sizes, plaintext digests and which public keys may
// open an object, and can so confirm a guess of a whole object.) What is
// trusted is the caller's digest or [Object], the identities she opens with,
// and the random source.
//
// Puts are crash-safe by order: first the data blob is durable under a random
// name, then the head that names it appears in one atomic step. A power cut
// before that step leaves a blob nobody refers to, which [Vault.Sweep] removes;
// after it the object is whole.
package vault
