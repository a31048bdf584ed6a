// Package verify says what an evidence package proves. It is one pure function
// of the package, a trust policy and, in a court, the court's own copy of the
// log. It has no clock, no network, no files and no state: the same code runs
// in the court's node, on the command line and in a browser.
//
//	package ──► container, index, every file against its digests
//	         ├► statement: form, signature, key status, manifest, objects
//	         ├► receipts: institution, root, inclusion, quorum ◄── policy
//	         ├► trail: links, order, rights, completeness      ◄── court's log
//	         └► report: one line a check, the weakest rules; what is not proven
//
// It trusts the policy (or the pinned alliance id), and in a court the court's
// own log. It does not trust the package: whatever in it is wrong, contradicts
// another part or is looked at by no rule is named in the report. Without a
// policy a report never says "matches".
//
// The rules are in spec/trail.md, the form of the report in spec/report.md.
package verify
