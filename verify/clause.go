package verify

// The rules that checks serve, by the key used in reports. The law is the Rules
// of Online Litigation of People's Courts (2021); the rest are the technical
// standards whose form a check holds the bytes to.
const (
	ClauseUnaltered  = "online-litigation-16" // presumed unaltered after it was put on the chain
	ClausePlatform   = "online-litigation-17" // the platform, its system, the technology and process
	ClauseBefore     = "online-litigation-18" // source, generation, storage and witnesses before the chain
	ClauseCOSE       = "rfc-9052"             // signatures
	ClauseEnvelope   = "rfc-9995"             // the payload is the digest of the manifest
	ClauseReceipt    = "rfc-9942"             // receipts
	ClauseMerkle     = "rfc-9162-2.1.3"       // inclusion in the tree
	ClauseEncoding   = "rfc-8949-4.2.1"       // one encoding of one statement
	ClauseJSON       = "rfc-8785"             // one encoding of one manifest
	ClauseCheckpoint = "c2sp-tlog-cosignature"
	ClauseTimestamp  = "rfc-3161"
	ClauseWebAuthn   = "webauthn-3-7.2" // assertions of passkeys
	ClauseX509       = "rfc-5280"       // certificates
)

// Clauses lists every key that a report may cite.
func Clauses() []string {
	return []string{ClauseUnaltered, ClausePlatform, ClauseBefore, ClauseCOSE, ClauseEnvelope, ClauseReceipt,
		ClauseMerkle, ClauseEncoding, ClauseJSON, ClauseCheckpoint, ClauseTimestamp, ClauseWebAuthn, ClauseX509}
}
