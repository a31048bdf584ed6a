// Package archtest holds the house together: its tests read the source and fail
// where it leaves the plan of docs/design.md.
//
//	source files ──► imports ──► "The house": who may import whom
//	             ──► syntax  ──► habits: package comments, no init, no state
//	             ──► text    ──► words that have no place here
//
// It is a test and nothing else: no program imports it. It trusts the Go parser.
package archtest
