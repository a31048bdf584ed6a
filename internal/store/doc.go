// Package store keeps the portal's application data: rows in SQLite or
// PostgreSQL under one SQL text, columns that only the holder of a key file can
// read, and the rows of browser sessions.
//
//	internal/identity, custody, ca ──SQL with $1──► DB, Tx ──► SQLite file (WAL, synchronous FULL)
//	            │                                    │     └─► postgres://…
//	            │                                    └ migrations/NNN_*.sql, applied by Open
//	            └─plaintext──► Keys.Seal ──► column (AES-256-GCM, bound to table, column and row)
//	                           Keys.Blind ─► column that only equality finds (HMAC-SHA-256)
//
// It is the one package that imports database/sql. A transaction is
// serializable on both engines, and a commit is on disk when In returns.
//
// Trusted: the key file, for the secrecy of sealed columns; whoever has the
// database without it reads when and how much, never who. Not trusted: whoever
// can write to the database, as far as sealed columns go: a value that was
// changed, or moved to another row, column or table, does not open. It can be
// replaced by an older value of the same place, and rows can be deleted; what
// must show that is kept as a chain (internal/identity, the access log).
package store
