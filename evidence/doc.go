// Package evidence is the nouns and the bytes: statement, receipt, manifest,
// alliance, policy and the evidence package, as spec/ defines them.
//
//	manifest (private, canonical JSON) ──digest──► Statement (COSE_Sign1, public) ──digest──► entry of the log
//	institution: root of the log ──► RootSignature ──► Receipt for each entry (COSE, RFC 9942)
//	                             ──► CosignedCheckpoint (C2SP), TrailHead
//	statements, receipts, manifests, objects ──► Package (a ZIP of one exact form) ──► anyone
//	genesis: Descriptors ──► Alliance ──► Policy: whose signatures count
//
// Every reader is strict: it accepts exactly what the writer writes, so that
// one meaning has one byte string and one digest; what it refuses it refuses
// with a code, the field and the place. Nothing here opens a file, asks a clock
// or a network; everything compiles to WebAssembly.
//
// Trusted: nothing that is read. A parsed value is well formed and says nothing
// about being true; that takes a signature by a key of a Policy, which package
// verify puts together. Whoever alters these bytes can make a reading fail.
package evidence
