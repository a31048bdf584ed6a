// Package court is the court's side of a submission: it verifies an evidence
// package against the court's own copy of the log and writes the evidence chain,
// a signed document of what was found.
//
//	package ─► verify.Check ◄─ the court's policy
//	               ▲        ◄─ NodeLog: the court's own node, asked with its statement key
//	               │
//	            Report ─► Document: each step generated, stored, witnessed ─► JWS by the attest key
//	                                └─► page and text for people (verify/render)
//
// # Trust
//
// The court's own node is trusted: what is not in its log fails, whatever
// receipts a package shows. Its checkpoint must all the same be cosigned by a
// quorum, and roots are computed from tiles proven against it, so that a node
// that lost or altered data is noticed. The package is not trusted.
//
// spec/evidence-chain.md says what the document's fields mean.
package court
