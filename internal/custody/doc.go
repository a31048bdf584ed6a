// Package custody keeps what members deposit from their browsers: ciphertext
// they uploaded and statements they signed, and sees each statement through
// until it is final.
//
//	pieces, each with its digest ─► part file ─► whole, synced, linked to its name; row ─► "kept"
//	statement ─► strict reader, her key, her signature, manifest is here, trail's end ─► row, durable ─► answer
//	row ─► one worker a trail, in order ─► institution ─► position ─► quorum's receipts ─► row
//	         └── a crash anywhere: at the next start the same bytes go out again
//	her trails, her blobs, the parts of her packages ─► her session alone
//
// # What a power cut costs
//
//  1. A piece is written to a part file; nothing is answered for it but its
//     length. A cut loses pieces that were not synced: the browser asks for the
//     length and goes on from there.
//  2. The whole blob is synced, linked to its name and its folder synced, then
//     its row is committed. Between both the blob is there without a row, which
//     costs quota nothing and is mended when it is asked for again.
//  3. A statement's row is committed before the answer. Before it: she has no
//     answer and sends the same bytes again. After it: the statement is here and
//     is submitted until an institution takes or refuses it.
//  4. What the log says is written to the row when it is known; without it the
//     same bytes are sent again and get the one place that they have.
//
// # Trust
//
// It never has plaintext, a manifest or a file's name; it learns sizes, the
// digests by which objects are filed, and when. Not trusted: what a browser
// sends, the member's own included. Each call names a member, who must come
// from her session; another's things answer as if they were not there. The
// folder is not trusted: whoever alters it can make a fetch fail. The rows are
// trusted for which statement is whose and what became of it: whoever alters them
// can hide a record from its owner, or show her another's digests; he cannot
// sign, and her packages are proven against the institutions' receipts.
package custody
