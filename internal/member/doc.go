// Package member is a depositor's side of a deposit: her journal of signed
// statements, her vault, and the packages made of both.
//
//	files ─► vault (encrypted to her key) ─► manifest ─► vault
//	      ─► statement, signed ─► journal, durable ─► institution ─► final
//	                                   │ a crash from here on: the same bytes again
//	journal + vault + institutions ─► evidence package of the whole trail
//
// # Trust
//
// The journal is trusted for one thing: which statements she signed and may
// have sent. Whoever alters it can make her next step be refused or fork the
// trail, which verification shows; nobody can make it sign. The vault is not
// trusted: whoever alters it can only make a fetch fail. Institutions are
// trusted as package client says.
package member
