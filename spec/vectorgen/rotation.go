package main

import (
	"fmt"
)

const typeKeyChange = "application/vnd.zhenglian.key-change+cbor"

// keyChange is the content of a key change (registry.md, G17), with the proof by
// the new key over its places.
func keyChange(use int64, next *key, replaces []byte, reason int64, alliance []byte, institution string) fields {
	name := map[int64]string{1: "receipt", 2: "cosign", 3: "attest", 4: "statement"}[use]
	proof := next.sign(fmt.Appendf(nil, "zhenglian key change v1\n%x\n%s\n%s\n%x\n", alliance, institution, name, replaces))
	return fields{{num(1), num(use)}, {num(2), bstr(next.der)}, {num(3), bstr(replaces)}, {num(4), num(reason)}, {num(5), bstr(proof)}}
}

func keyChangeContents(c *cast) []contentVector {
	var out []contentVector
	add := func(name string, b []byte, code, field string) {
		out = append(out, contentVector{name, "key-change", fmt.Sprintf("%x", b), code, field})
	}
	k := keyChange(1, c.alice, c.bob.kid(), 4, make([]byte, 32), "court")
	is := func(name string, f fields, code, field string) { add(name, f.encode(), code, field) }
	is("of a receipt key", k, "ok", "")
	is("of a cosigning key", k.with(1, num(2)), "ok", "")
	is("of a statement key, compromised", k.with(1, num(4)).with(4, num(1)), "ok", "")
	is("for no reason", k.with(4, num(0)), "ok", "")
	is("to a P-256 receipt key", k.with(2, bstr(c.bob.der)), "ok", "")
	is("to an SM2 receipt key", k.with(2, bstr(c.recorder.der)), "ok", "")
	is("to a P-256 cosigning key", k.with(1, num(2)).with(2, bstr(c.bob.der)), "bad-key", "key-change.key")
	is("to an SM2 attestation key", k.with(1, num(3)).with(2, bstr(c.recorder.der)), "bad-key", "key-change.key")
	is("to a key of small order", k.with(2, bstr(derEd25519(make([]byte, 32)))), "bad-key", "key-change.key")
	is("of use 0", k.with(1, num(0)), malformed, "key-change.use")
	is("of use 5", k.with(1, num(5)), malformed, "key-change.use")
	is("whose use is a name", k.with(1, tstr("receipt")), malformed, "key-change.use")
	is("kid of 31 bytes", k.with(3, bstr(make([]byte, 31))), malformed, "key-change.replaces")
	for _, r := range []int64{2, 3, 5, 6, 9, 11, -1} {
		is(fmt.Sprintf("for reason %d", r), k.with(4, num(r)), malformed, "key-change.reason")
	}
	is("proof of 63 bytes", k.with(5, bstr(make([]byte, 63))), malformed, "key-change.proof")
	is("without a proof", k.without(5), malformed, "key-change")
	is("a sixth field", k.add(0, num(6), num(0)), malformed, "key-change")
	is("key before use", k.swap(1, 2), malformed, "key-change")
	add("a byte after it", cat(k.encode(), []byte{0}), malformed, "key-change")
	return out
}

// keyChangeStory goes on with the registry's story: institutions replace keys.
func keyChangeStory(alliance []byte, step func(name string, b []byte, code, field string), change func(k *key, iss, ctype string, payload fields) []byte, deposit func(k *key, iss string) []byte) {
	court, courtReceipt, notary := edKey("court statement"), edKey("court receipt.1"), edKey("notary statement")
	next := func(name string) *key { return edKey("court next " + name) }
	replace := func(k *key, iss string, f fields) []byte { return change(k, iss, typeKeyChange, f) }

	step("a member replaces an institution's key", replace(edKey("alice"), "m:alice", keyChange(1, next("a"), courtReceipt.kid(), 4, alliance, "m:alice")), "not-allowed", "protected.kid")
	step("another institution replaces it", replace(notary, "notary", keyChange(1, next("b"), courtReceipt.kid(), 4, alliance, "notary")), "conflict", "payload.replaces")
	step("a proof for another institution", replace(court, "court", keyChange(1, next("c"), courtReceipt.kid(), 4, alliance, "notary")), "bad-key", "payload.proof")
	step("a proof for another alliance", replace(court, "court", keyChange(1, next("d"), courtReceipt.kid(), 4, make([]byte, 32), "court")), "bad-key", "payload.proof")
	step("a proof for another use", replace(court, "court", keyChange(1, next("e"), courtReceipt.kid(), 4, alliance, "court").with(1, num(2))), "bad-key", "payload.proof")
	step("a proof for another predecessor", replace(court, "court", keyChange(1, next("f"), court.kid(), 4, alliance, "court").with(3, bstr(courtReceipt.kid()))), "bad-key", "payload.proof")
	step("a key of another use is replaced", replace(court, "court", keyChange(2, next("g"), courtReceipt.kid(), 4, alliance, "court")), "conflict", "payload.replaces")
	step("the new key is the notary's TLS key", replace(court, "court", keyChange(1, edKey("notary tls"), courtReceipt.kid(), 4, alliance, "court")), "conflict", "payload.key")
	step("the new key is a member's", replace(court, "court", keyChange(1, edKey("alice"), courtReceipt.kid(), 4, alliance, "court")), "conflict", "payload.key")
	step("the new receipt key is SM2 alone", replace(court, "court", keyChange(1, sm2Key("court next h"), courtReceipt.kid(), 4, alliance, "court")), "bad-key", "payload.key")
	first := replace(court, "court", keyChange(1, next("i"), courtReceipt.kid(), 4, alliance, "court"))
	step("the court replaces its receipt key", first, "ok", "")
	step("the same statement again", first, "already-registered", "")
	step("the replaced key is replaced again", replace(court, "court", keyChange(1, next("j"), courtReceipt.kid(), 4, alliance, "court")), "conflict", "payload.replaces")
	step("back to the old key", replace(court, "court", keyChange(1, courtReceipt, next("i").kid(), 4, alliance, "court")), "conflict", "payload.key")
	step("a CA enrols the new receipt key", change(edKey("ca statement"), "ca", typeEnrolment, enrolment("m:zoe", next("i").der, 1, 0, 0)), "conflict", "payload.key")
	step("a P-256 key follows", replace(court, "court", keyChange(1, p256Key("court next k"), next("i").kid(), 1, alliance, "court")), "ok", "")
	step("the court replaces its statement key with itself", replace(court, "court", keyChange(4, next("l"), court.kid(), 1, alliance, "court")), "ok", "")
	step("the old statement key deposits", deposit(court, "court"), "revoked-key", "protected.kid")
	step("the new one deposits", deposit(next("l"), "court"), "ok", "")
	step("the new one replaces the cosigning key", replace(next("l"), "court", keyChange(2, next("m"), edKey("court cosign").kid(), 0, alliance, "court")), "ok", "")
	step("an institution's replaced key is revoked", change(edKey("ca statement"), "ca", typeRevocation, fields{{num(1), bstr(court.kid())}, {num(2), num(1)}}), "conflict", "payload.kid")
}
