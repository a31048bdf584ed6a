// Command zhenglian-browser is the member's side of a deposit inside her
// browser, built for WebAssembly (GOOS=js GOARCH=wasm) from the packages that
// the command line uses:
//
//	file ─► seal: SHA-256, SM3, encrypted in chunks ─► the page uploads ciphertext
//	     ─► draft: the manifest ─► a passkey may confirm its digest
//	     ─► deposit: manifest sealed, statement built ─► WebCrypto signs ─► COSE bytes
//	portal's parts + opened objects ─► package ─► a file she saves
//	recovery key on paper ─► rewrap ─► a new browser opens what the lost one could
//
// It sees the plaintext and the age identity, and is trusted with both; the
// signing key stays in WebCrypto, which signs what it is shown. What the portal
// answers is not trusted: an altered object fails to open, an altered part makes
// a package that does not verify. Whoever serves this module is trusted as far
// as any page is that a person types into.
//
// # For the page
//
// The module defines one object, zhenglianBrowser, and calls
// zhenglianBrowserReady, if there is such a function. It belongs in a Worker:
// it computes for as long as a file is long. Each function returns a promise.
// A promise is rejected with an Error whose code is a stable word: "input",
// "manifest" (with field, reason and hint), "damaged", "missing",
// "other-recipients", "not-for-key", "recovery-key", "shares", "aborted" or
// "failed". Bytes are Uint8Array, digests 64 hexadecimal digits, numbers whole.
//
//	newIdentity()            → {identity, recipient}      age X25519, text
//	newRecovery()            → {key, paper, recipient}    paper: the key in groups, as printed
//	readRecovery(text)       → {key, recipient}           as typed from paper; its checksum is checked
//	splitRecovery(key, k, holders)  → [share]             holders: age recipients, 2 ≤ k ≤ n ≤ 16
//	openShare(share, identity)      → {share, threshold}  at the holder's: hands over her opened share
//	joinRecovery([share])           → {key, recipient}    at least k opened shares
//
//	seal(source, {recipients, store, progress}) → object
//	    source {size, read(offset, length) → Promise<bytes>}, name and media are the page's;
//	    object {sha256, sm3, size, chunks, plain_root, cipher_root}; progress(bytes done)
//	draft(manifest)          → {draft, challenge}         JSON in, as package evidence writes it, without v and
//	    salt; challenge (base64url) is what a passkey signs, absent when the manifest names no act
//	deposit({draft, passkey, member, trail, prev, after, issuedAt, recipients, key, store})
//	    → {statement, digest, trail, manifest, manifestDigest, manifestSM3}
//	    passkey: what the assertion is, or absent; trail and prev absent when it opens one;
//	    after: text of a cosigned checkpoint, or absent; issuedAt: seconds since 1970
//	    key {public: bytes (SubjectPublicKeyInfo), sign(bytes) → Promise<bytes> of 64}
//	certificateRequest({key, name})  → {der, pem}         PKCS #10; name is the common name
//	kid(public)              → digest
//
//	openManifest(digest, {identities, store})             → JSON text
//	openObject(object, {identities, store, write(bytes)}) → {size}
//	rewrap([digest], {identity, recipient, store, progress}) → {done, missing: [digest]}
//	package(parts, {identities, store, write(offset, bytes), progress}) → {steps, withheld, no_object, size}
//	    parts: JSON text of the portal; write is called with offsets that go back to fill in a checksum
//	passkeysOf(manifests)    → [kid]                      of the passkeys that these manifests name
//
// store is where ciphertext lies, by names "folder/name":
//
//	size(name) → Promise<number>, -1 when there is none; list(prefix) → Promise<[name]>
//	range(name, offset, length) → Promise<bytes>
//	begin(name) → Promise<upload>, null when the name is taken
//	upload.write(bytes) → Promise, one piece of up to 4 MiB, in order
//	upload.finish() → Promise<bool>, false when another was first; upload.abort() → Promise
package main
