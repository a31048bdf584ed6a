// Package clean inspects the machine before a recording: what an expert would
// look at to say that nothing on it could pass a false page for a true one.
//
//	files, /proc, commands ─► Output: its words, as they are ─┐
//	each Output ─► a reader of that form ─► Finding           ├─► Report: clean, exceptions or unclean
//	accepted checks, declared facts ──────────────────────────┘
//
// It fails closed: what cannot be read is a finding, and a finding makes the
// environment unclean unless the person who records has accepted that check by
// name; then it is an exception, and stands in the report.
//
// Trusted: this machine's kernel and the account that runs the recorder. Whoever
// controls those can show any environment. The report says what was found, and
// proves nothing against him; against him stand the second witness, the
// certificates of the origins and the digests of the programs.
package clean
