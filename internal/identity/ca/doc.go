// Package ca is a CA institution's authority for members and platforms: X.509
// certificates for keys that the institution enrolled, their revocation, and
// what the public reads about both. The profile is spec/certificate.md.
//
//	request (PKCS #10) ─► Issue ─► register: intent ─► sign ─► register: DER and statement
//	                                 ─► chain: evidence.Certificate ─► certificate handed out
//	Revoke ─► register: intent ─► chain: evidence.Revocation ─► register: revoked ─► CRL, OCSP
//	chain: revoked by its holder ─► Sync ─► register ─► CRL, OCSP
//	Resume: whatever a power cut left half-way is finished, or closed
//
// What is written in which order, and why a crash after each step loses nothing:
//
//  1. The intent, with the serial number, is in the register before anything is
//     signed: no certificate exists whose serial the register does not know. A
//     crash here leaves an intent; Resume signs it. A signature that was made and
//     not stored was never outside of this process.
//  2. The certificate and the signed statement about it are stored together. A
//     crash here leaves both; Resume sends that same statement, and the log gives
//     it the one place it has.
//  3. The statement is final on the chain. A crash here leaves a statement there
//     whose certificate is in the register; Resume learns its place.
//  4. The register has the place, and only now is the certificate handed out. A
//     lost answer is fetched again: the same request gives the same certificate.
//
// A statement that the rules of the chain refuse closes its certificate for
// good: it is never handed out, and CRL and OCSP call it revoked. Revocations
// take the same steps 1, 3 and 4.
//
// A CA key is replaced by adding an issuer of the next generation. It signs from
// then on; what the former one signed stays good under its own certificate, and
// the former key goes on signing its revocation list and the certificates of its
// OCSP responders, at the addresses that stand in its certificates, until a week
// after the last of them has ended. Then it can be destroyed.
//
// Trusted: the CA key (whoever has it makes certificates that relying parties
// outside believe; without the statement key, none that is on the chain, and the
// verifier of a package asks for that); the register, for the institution's own
// account (whoever alters it can make CRL and OCSP lie until the next Sync, and
// cannot change what the chain says). Not trusted: requests; all but the key in
// them is ignored.
package ca
