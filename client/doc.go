// Package client deposits statements with an alliance and asks its institutions
// for what they know, for platforms and for this project's own commands.
//
//	Checkpoint ─► a fresh root, cosigned by a quorum ─► statement's `after`
//	Submit     ─► any institution; the next one when it is down or busy
//	Confirm    ─► receipts of every institution that is reached, each checked
//	              against the pinned alliance ─► Final, or an error: never a maybe
//	Trail      ─► the steps as the institutions have them; their signed heads
//
// # Trust
//
// Trusted: the Policy (or the founding document it is made of) given to New,
// and the signer. No single institution is: an answer counts when the
// signatures of a quorum of the policy bear it, what one institution alone says
// is a hint on where to look, and two signed roots of one size come back as an
// *EquivocationError, which is proof against whoever signed both logs.
//
// Every request may be repeated: a statement has one place in the log however
// often it is sent.
package client
