// Package browser drives the recorded Chromium: what a person does goes in, what
// the browser shows and says comes out, in the order it happened.
//
//	Input(act) ──► Before (the recorder writes it down) ──► browser in the sandbox ──► proxy
//	                                                             │
//	Events ◄── one queue, in the order of the browser's pipe ◄───┤  pictures, tabs, navigation,
//	Shot, Document ◄── asked for at a step ◄─────────────────────┘  dialogs, downloads, faults
//
// The browser's protocol runs over a pipe that no one else can open. Its messages
// are read in one place and become events before the next is read, so that the
// order across tabs is kept. A new tab waits until it is listened to: nothing of
// it is missed. A picture is asked for again when the last one was taken, so that
// a slow reader gets fewer pictures and not a longer queue.
//
// What must be exact about the network comes from the proxy, never from here.
//
// Whatever goes wrong in the recording ends the browser: Before that fails, an
// event that cannot be read, a queue that nobody empties, a renderer without its
// sandbox. Nothing happens in it that is not told.
//
// # Trust
//
// Trusted: the sandbox (package sandbox) and that the browser's own process,
// which a page has no part in, tells the truth about what it shows. Pages are
// not trusted: they decide what texts, addresses, names and pictures say, how
// many there are, and when they come; all are bounded. A browser taken over
// whole can tell and show anything: what the proxy recorded stands against that.
package browser
