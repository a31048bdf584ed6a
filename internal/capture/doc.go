// Package capture records a browser session: what happened is on disk before the
// next thing happens, and its digests are on the chain while it happens.
//
//	inspection (clean) ─► env.* ─┐
//	input, navigation, pictures ─┼─► Session.Event: event log, fsync ─► batches ─► Chain, by the recorder's key
//	proxy ─► exchanges, blobs ───┘                                                  every step, every two seconds
//	end or fault ─► Seal: video, recording.wacz, session.close {state, count, head} ─► Chain: step "seal" with the files
//	killed ─► Resume: what stands on disk is read, ended as partial, and sealed the same way
//
// A session lies in a folder of its own until it is sealed; blobs first, then the
// event that names them, each with fsync, so that a power cut leaves a log whose
// last whole line is true. What a batch covers is written down before it is
// signed, and Chain tells afterwards whether it was: no event is in two batches.
//
// Trusted: the folder, until its events are in a batch on the chain: whoever
// alters it before can make another recording of it. Afterwards an alteration
// shows in the digests. It holds plaintext while the session is open, and is
// removed when the owner has everything encrypted to her key. Whoever runs this
// process can record what never happened: against that stand the second witness,
// the packets, and the digest of this program in the report.
package capture
