// Package demo plays the storyboard of docs/demo.md on one machine: a court, a
// notary office, a CA and a forensic centre witness real files, the court finds
// an evidence chain, and one flipped bit is named.
//
//	files ─► alliance (4 × institution init, genesis, 4 × join, 4 × node)
//	      ─► member init, enrol ─► deposit before, during, after ─► package
//	      ─► verify, court check ─► evidence chain
//	      ─► one bit flipped in a copy ─► invalid, at that object
//
// It runs the program's own commands as processes, each of which opens one home;
// this process opens none and reads public files alone. What it says of a
// package comes from the verifier's report. It trusts the program it runs.
package demo
