package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
)

// story is a registry from its genesis on: statements in the order in which
// they come, with what the registry makes of each.
type story struct {
	Alliance string      `json:"alliance"` // canonical bytes
	Genesis  string      `json:"genesis"`  // running hash before the first
	Steps    []storyStep `json:"steps"`
}

type storyStep struct {
	Name     string `json:"name"`
	Bytes    string `json:"bytes"`
	Time     int64  `json:"time"` // of the block, seconds since 1970
	Code     string `json:"code"`
	Field    string `json:"field,omitempty"`
	Position uint64 `json:"position"` // in the log, of the registered
	Hash     string `json:"hash"`     // running hash after it
}

func institutionKeys(id string) map[string]*key {
	keys := map[string]*key{}
	for _, use := range []string{"consensus", "node", "receipt.1", "cosign", "statement", "attest", "tls"} {
		keys[use] = edKey(id + " " + use)
	}
	return keys
}

// descriptor of an institution with Ed25519 keys throughout.
func descriptor(id, name string, kind evidence.InstitutionKind) (*evidence.Descriptor, error) {
	keys := institutionKeys(id)
	d := &evidence.Descriptor{V: 1, ID: id, Name: name, Kind: kind,
		Addresses: evidence.Addresses{API: "https://" + id + ".example", Peer: id + ".example:7443", P2P: id + ".example:26656"},
		Keys: evidence.InstitutionKeys{Consensus: keys["consensus"].der[12:], Node: keys["node"].der[12:], Receipt: [][]byte{keys["receipt.1"].der},
			Cosign: keys["cosign"].der, Statement: keys["statement"].der, Attest: keys["attest"].der, TLS: keys["tls"].der}}
	for _, name := range d.ProofNames() {
		signer, err := evidence.NewSigner(keys[name].ed())
		if err != nil {
			return nil, err
		}
		if err := d.Prove(name, signer); err != nil {
			return nil, err
		}
	}
	return d, nil
}

func registryStory(c *cast) (*story, error) {
	var ds []evidence.Descriptor
	for _, i := range []struct {
		id, name string
		kind     evidence.InstitutionKind
	}{{"ca", "CA", evidence.KindCA}, {"ca-2", "Second CA", evidence.KindCA}, {"court", "Court", evidence.KindCourt}, {"notary", "Notary", evidence.KindNotary}} {
		d, err := descriptor(i.id, i.name, i.kind)
		if err != nil {
			return nil, fmt.Errorf("describing %s: %w", i.id, err)
		}
		ds = append(ds, *d)
	}
	a, err := evidence.NewAlliance("Demonstration", "demo", time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC), ds)
	if err != nil {
		return nil, err
	}
	doc, err := a.Encode()
	if err != nil {
		return nil, err
	}
	id := sha256.Sum256(doc)
	hash := id[:]
	st := &story{Alliance: string(doc), Genesis: hex.EncodeToString(hash)}
	position, clock, now := uint64(0), int64(iat), int64(iat)
	step := func(name string, b []byte, code, field string) {
		s := storyStep{Name: name, Bytes: hex.EncodeToString(b), Time: now, Code: code, Field: field}
		now++
		if code == "ok" {
			s.Position = position
			position++
			if bytes.Contains(b, []byte(typeEnrolment)) || bytes.Contains(b, []byte(typeRevocation)) || bytes.Contains(b, []byte(typePasskey)) || bytes.Contains(b, []byte(typeCertificate)) || bytes.Contains(b, []byte(typeKeyChange)) {
				d := sha256.Sum256(b)
				next := sha256.Sum256(cat(hash, d[:]))
				hash = next[:]
			}
		}
		s.Hash = hex.EncodeToString(hash)
		st.Steps = append(st.Steps, s)
	}
	change := func(k *key, iss, ctype string, payload fields) []byte {
		clock++
		return (&statement{key: k, iss: iss, sub: "registry", iat: clock, ctype: ctype, payload: payload.encode()}).bytes()
	}
	enrol := func(k *key, iss, member string, subject *key) []byte {
		return change(k, iss, typeEnrolment, enrolment(member, subject.der, 1, 2, 0))
	}
	revoke := func(k *key, iss string, target *key, reason int64) []byte {
		return change(k, iss, typeRevocation, fields{{num(1), bstr(target.kid())}, {num(2), num(reason)}})
	}
	deposit := func(k *key, iss string) []byte {
		clock++
		return (&statement{key: k, iss: iss, sub: "trail:new", iat: clock, ctype: typeDeposit, payload: sum("m"), sm3: sum("m3"), after: &checkpoint{0, hex.EncodeToString(sum(""))}}).bytes()
	}
	ca, ca2, court := edKey("ca statement"), edKey("ca-2 statement"), edKey("court statement")
	alice, alice2, alice3, bob := edKey("alice"), p256Key("alice's phone"), edKey("alice's third"), sm2Key("bob's token")

	step("a deposit by a key that nobody knows", deposit(alice, "m:alice"), "unknown-key", "protected.kid")
	aliceEnrolled := enrol(ca, "ca", "m:alice", alice)
	step("a CA enrols a member", aliceEnrolled, "ok", "")
	step("the same statement again", aliceEnrolled, "already-registered", "")
	step("the member deposits", deposit(alice, "m:alice"), "ok", "")
	step("under another's name", deposit(alice, "m:bob"), "wrong-issuer", "protected.claims.iss")
	step("a court enrols a member", enrol(court, "court", "m:bob", bob), "not-allowed", "protected.kid")
	step("a member enrols a member", enrol(alice, "m:alice", "m:bob", bob), "not-allowed", "protected.kid")
	step("the CA enrols the same key again", enrol(ca, "ca", "m:alice", alice), "conflict", "payload.key")
	step("the CA enrols the key for another member", enrol(ca, "ca", "m:eve", alice), "conflict", "payload.key")
	step("an institution's own key as a member's", enrol(ca, "ca", "m:court", court), "conflict", "payload.key")
	step("another CA adds a key to the member", enrol(ca2, "ca-2", "m:alice", alice2), "conflict", "payload.member")
	step("the CA adds a key to its member", enrol(ca, "ca", "m:alice", alice2), "ok", "")
	step("another CA enrols another member", enrol(ca2, "ca-2", "m:bob", bob), "ok", "")
	step("an institution deposits", deposit(court, "court"), "ok", "")
	forged := enrol(ca, "ca", "m:mallory", alice3)
	forged[len(forged)-1] ^= 1
	step("an enrolment with a changed signature", forged, "bad-signature", "signature")
	mismatch := (&statement{key: &key{name: ca.name, alg: -7, secret: ca.secret, der: ca.der}, iss: "ca", sub: "registry", iat: iat, ctype: typeEnrolment, payload: enrolment("m:x", alice3.der, 1, 0, 0).encode()})
	step("another algorithm than the key's", sign1(mismatch.protected().encode(), fields{}.encode(), bstr(mismatch.payload), ca.sign(sigStructure(mismatch.protected().encode(), mismatch.payload))), "wrong-algorithm", "protected.alg")
	step("another CA revokes the member's key", revoke(ca2, "ca-2", alice2, 1), "not-allowed", "protected.kid")
	step("a court revokes it", revoke(court, "court", alice2, 1), "not-allowed", "protected.kid")
	step("a stranger's key is revoked", revoke(ca, "ca", alice3, 1), "conflict", "payload.kid")
	step("an institution's key is revoked", revoke(ca, "ca", court, 1), "conflict", "payload.kid")
	step("the member revokes one of her keys with the other", revoke(alice, "m:alice", alice2, 1), "ok", "")
	step("the revoked key deposits", deposit(alice2, "m:alice"), "revoked-key", "protected.kid")
	step("it is revoked again", revoke(ca, "ca", alice2, 1), "conflict", "payload.kid")
	step("it is enrolled again", enrol(ca, "ca", "m:alice", alice2), "conflict", "payload.key")
	step("the other key still deposits", deposit(alice, "m:alice"), "ok", "")
	step("the CA revokes a key", revoke(ca2, "ca-2", bob, 4), "ok", "")
	step("the member uses a new key", enrol(ca2, "ca-2", "m:bob", alice3), "ok", "")
	last := revoke(alice3, "m:bob", alice3, 0)
	step("a key revokes itself", last, "ok", "")
	step("the statement with which it did so, again", last, "already-registered", "")

	// Passkeys.
	ana, phone, token := edKey("ana"), p256Key("ana's phone"), edKey("ana's token")
	bind := func(k *key, iss, member string, subject *key) []byte {
		return change(k, iss, typePasskey, passkey(member, subject.der, "portal.example", 0))
	}
	step("a passkey of a member whom nobody enrolled", bind(ca, "ca", "m:ana", phone), "conflict", "payload.member")
	step("the CA enrols her", enrol(ca, "ca", "m:ana", ana), "ok", "")
	step("another CA registers a passkey of hers", bind(ca2, "ca-2", "m:ana", phone), "conflict", "payload.member")
	step("a court does", bind(court, "court", "m:ana", phone), "not-allowed", "protected.kid")
	step("she does herself", bind(ana, "m:ana", "m:ana", phone), "not-allowed", "protected.kid")
	step("her signing key as her passkey", bind(ca, "ca", "m:ana", ana), "conflict", "payload.key")
	step("her CA registers her passkey", bind(ca, "ca", "m:ana", phone), "ok", "")
	step("the same passkey for another member", bind(ca, "ca", "m:alice", phone), "conflict", "payload.key")
	step("the passkey is enrolled as a signing key", enrol(ca, "ca", "m:ana", phone), "conflict", "payload.key")
	step("the passkey deposits", deposit(phone, "m:ana"), "not-allowed", "protected.kid")
	step("the passkey is certified", change(ca, "ca", typeCertificate, certificate(phone.kid(), []byte{9}, iat, iat+day, "phone")), "conflict", "payload.kid")
	step("a second passkey", bind(ca, "ca", "m:ana", token), "ok", "")
	step("another CA revokes a passkey", revoke(ca2, "ca-2", token, 1), "not-allowed", "protected.kid")
	step("she revokes it herself", revoke(ana, "m:ana", token, 1), "ok", "")
	step("the CA revokes it again", revoke(ca, "ca", token, 1), "conflict", "payload.kid")
	step("it is registered again", bind(ca, "ca", "m:ana", token), "conflict", "payload.key")

	// Certificates. The key ends with the last of them.
	certify := func(k *key, iss string, subject *key, from, until int64, der string) []byte {
		return change(k, iss, typeCertificate, certificate(subject.kid(), []byte{7}, from, until, der))
	}
	step("a certificate for a key that nobody has", certify(ca, "ca", edKey("a stranger"), iat, iat+day, "1"), "conflict", "payload.kid")
	step("a certificate for an institution's key", certify(ca, "ca", court, iat, iat+day, "1"), "conflict", "payload.kid")
	step("a certificate by another CA", certify(ca2, "ca-2", ana, iat, iat+day, "1"), "not-allowed", "protected.kid")
	step("a certificate by a court", certify(court, "court", ana, iat, iat+day, "1"), "not-allowed", "protected.kid")
	step("a certificate for a revoked key", certify(ca, "ca", alice2, iat, iat+day, "1"), "conflict", "payload.kid")
	step("a certificate by its CA", certify(ca, "ca", ana, iat, iat+day, "1"), "ok", "")
	step("the same certificate once more", certify(ca, "ca", ana, iat, iat+day, "1"), "conflict", "payload.sha256")
	now = iat + day
	step("a deposit in its last second", deposit(ana, "m:ana"), "ok", "")
	step("a deposit in the next", deposit(ana, "m:ana"), "expired-key", "protected.kid")
	step("the ended key revokes itself", revoke(ana, "m:ana", ana, 5), "expired-key", "protected.kid")
	step("a key without a certificate does not end", deposit(alice, "m:alice"), "ok", "")
	step("a certificate that ended already", certify(ca, "ca", ana, iat-day, iat-1, "2"), "ok", "")
	step("it renews nothing", deposit(ana, "m:ana"), "expired-key", "protected.kid")
	step("a renewal", certify(ca, "ca", ana, iat+day, iat+300*day, "3"), "ok", "")
	step("the renewed key deposits", deposit(ana, "m:ana"), "ok", "")
	step("the CA revokes it", revoke(ca, "ca", ana, 1), "ok", "")
	now = iat + 400*day
	step("revoked and ended", deposit(ana, "m:ana"), "revoked-key", "protected.kid")

	keyChangeStory(id[:], step, change, deposit)
	return st, nil
}
