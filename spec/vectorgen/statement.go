package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/big"
	"strings"

	"github.com/emmansun/gmsm/sm3"
	voi "github.com/oasisprotocol/curve25519-voi/curve"
)

// Labels and values of spec/statement.md, written down a second time.
const (
	lAlg, lType, lKID, lClaims, lHash, lPreimage = 1, 3, 4, 15, 258, 259
	lPrev, lAfter, lSM3, lTreeSize               = -70001, -70002, -70003, -70004
	lReceipts, lVDS, lVDP                        = 394, 395, 396

	typeDeposit       = "application/vnd.zhenglian.manifest+json"
	typeAuthorisation = "application/vnd.zhenglian.trail-authorisation+cbor"
	typeEnrolment     = "application/vnd.zhenglian.member-enrolment+cbor"
	typeRevocation    = "application/vnd.zhenglian.key-revocation+cbor"
	typeTrailHead     = "application/vnd.zhenglian.trail-head+cbor"

	maxStatement = 4096
	iat          = 1772323200 // 2026-03-01T00:00:00Z
)

func sum(s string) []byte { d := sha256.Sum256([]byte(s)); return d[:] }

func claims(iss, sub string, iat int64) fields {
	return fields{{num(1), tstr(iss)}, {num(2), tstr(sub)}, {num(6), num(iat)}}
}

type checkpoint struct {
	Size uint64 `json:"size"`
	Root string `json:"root"`
}

// statementExpect is what a reader makes of a statement.
type statementExpect struct {
	Alg         int64       `json:"alg"`
	KID         string      `json:"kid"`
	Iss         string      `json:"iss"`
	Sub         string      `json:"sub"`
	Iat         int64       `json:"iat"`
	ContentType string      `json:"content_type"`
	Payload     string      `json:"payload"`
	Prev        string      `json:"prev,omitempty"`
	After       *checkpoint `json:"after,omitempty"`
	SM3         string      `json:"sm3,omitempty"`
	Signature   string      `json:"signature"`
}

type statementValid struct {
	Name   string          `json:"name"`
	Key    string          `json:"key"` // name in key/valid.json
	Bytes  string          `json:"bytes"`
	Fields statementExpect `json:"fields"`
	TBS    string          `json:"to_be_signed"`
	Digest string          `json:"digest"`
	ID     string          `json:"id"`
	Trail  string          `json:"trail,omitempty"`
}

// statement is a statement in the making.
type statement struct {
	name    string
	key     *key
	iss     string
	sub     string
	iat     int64
	ctype   string
	payload []byte
	prev    []byte
	after   *checkpoint
	sm3     []byte
}

func (s *statement) protected() fields {
	f := fields{{num(lAlg), num(s.key.alg)}}
	deposit := s.ctype == typeDeposit
	if !deposit {
		f = append(f, pair{num(lType), tstr(s.ctype)})
	}
	f = append(f, pair{num(lKID), bstr(s.key.kid())}, pair{num(lClaims), claims(s.iss, s.sub, s.iat).encode()})
	if deposit {
		f = append(f, pair{num(lHash), num(-16)}, pair{num(lPreimage), tstr(typeDeposit)})
	}
	if s.prev != nil {
		f = append(f, pair{num(lPrev), bstr(s.prev)})
	}
	if s.after != nil {
		f = append(f, pair{num(lAfter), array(head(0, s.after.Size), bstr(mustHex(s.after.Root)))})
	}
	if s.sm3 != nil {
		f = append(f, pair{num(lSM3), bstr(s.sm3)})
	}
	return f
}

func signed(k *key, protected, payload []byte) []byte {
	return sign1(protected, fields{}.encode(), bstr(payload), k.sign(sigStructure(protected, payload)))
}

func (s *statement) bytes() []byte { return signed(s.key, s.protected().encode(), s.payload) }

func (s *statement) digest() []byte { d := sha256.Sum256(s.bytes()); return d[:] }

func (s *statement) vector() statementValid {
	b := s.bytes()
	tbs := sigStructure(s.protected().encode(), s.payload)
	id := sha256.Sum256(tbs)
	v := statementValid{
		Name: s.name, Key: s.key.name, Bytes: hex.EncodeToString(b), TBS: hex.EncodeToString(tbs),
		Digest: hex.EncodeToString(s.digest()), ID: hex.EncodeToString(id[:]),
		Fields: statementExpect{
			Alg: s.key.alg, KID: hex.EncodeToString(s.key.kid()), Iss: s.iss, Sub: s.sub, Iat: s.iat, ContentType: s.ctype,
			Payload: hex.EncodeToString(s.payload), Prev: hex.EncodeToString(s.prev), After: s.after, SM3: hex.EncodeToString(s.sm3),
			Signature: hex.EncodeToString(b[len(b)-64:]),
		},
	}
	switch {
	case s.sub == "trail:new":
		v.Trail = v.Digest
	case strings.HasPrefix(s.sub, "trail:"):
		v.Trail = s.sub[len("trail:"):]
	}
	return v
}

// cast holds the keys and statements that the vectors are about.
type cast struct {
	alice, recorder, bob, eve, ca *key
	opening, second, third        *statement
	authorise, enrol, revoke      *statement
	extra                         []*statement
}

func newCast() *cast {
	c := &cast{alice: edKey("alice"), bob: p256Key("bob"), recorder: sm2Key("recorder"), eve: edKey("eve"), ca: edKey("ca statement")}
	manifest := []byte(`{"a manifest":"stands here"}`)
	m3 := sm3.Sum(manifest)
	m2 := sha256.Sum256(manifest)
	empty := &checkpoint{0, hex.EncodeToString(sum(""))}
	later := &checkpoint{1, hex.EncodeToString(sum("a root"))}
	deposit := func(name string, k *key, iss, sub string, prev []byte, after *checkpoint) *statement {
		return &statement{name: name, key: k, iss: iss, sub: sub, iat: iat, ctype: typeDeposit, payload: m2[:], prev: prev, after: after, sm3: m3[:]}
	}
	c.opening = deposit("deposit that opens a trail, Ed25519", c.alice, "m:alice", "trail:new", nil, empty)
	sub := "trail:" + hex.EncodeToString(c.opening.digest())
	auth := func(name string, k *key, rights int64, prev []byte) *statement {
		return &statement{name: name, key: c.alice, iss: "m:alice", sub: sub, iat: iat + 1, ctype: typeAuthorisation, prev: prev, after: later,
			payload: fields{{num(1), bstr(k.kid())}, {num(2), num(rights)}}.encode()}
	}
	c.authorise = auth("authorisation in a trail", c.recorder, 2, c.opening.digest())
	c.second = deposit("deposit that continues a trail, SM2", c.recorder, "m:recorder", sub, c.authorise.digest(), later)
	c.third = deposit("deposit that continues a trail, P-256", c.bob, "m:bob", sub, c.second.digest(), &checkpoint{1 << 40, hex.EncodeToString(sum("a later root"))})
	c.enrol = &statement{name: "enrolment of an SM2 key", key: c.ca, iss: "ca", sub: "registry", iat: iat, ctype: typeEnrolment,
		payload: enrolment("m:recorder", c.recorder.der, 4, 3, 0).encode()}
	c.revoke = &statement{name: "revocation", key: c.ca, iss: "ca", sub: "registry", iat: iat + 2, ctype: typeRevocation,
		payload: fields{{num(1), bstr(c.recorder.kid())}, {num(2), num(1)}}.encode()}
	longest := deposit("longest issuer, latest time, largest checkpoint", c.alice, strings.Repeat("a-.:0123456789bc", 4), sub, c.third.digest(), &checkpoint{1<<63 - 1, hex.EncodeToString(sum("x"))})
	longest.iat = 253402300799
	first := deposit("shortest issuer, time zero", c.alice, "a", "trail:new", nil, empty)
	first.iat = 0
	c.extra = []*statement{auth("authorisation taken back", c.recorder, 0, c.third.digest()), longest, first,
		{name: "enrolment of a P-256 key by an SM2 key, demo identity", key: c.recorder, iss: "ca-2", sub: "registry", iat: iat, ctype: typeEnrolment,
			payload: enrolment("m:"+strings.Repeat("b", 62), c.bob.der, 1, 0, 1).encode()},
		deposit("deposit that opens a trail, P-256", c.bob, "m:bob", "trail:new", nil, later),
		deposit("deposit that opens a trail, SM2", c.recorder, "m:recorder", "trail:new", nil, later),
	}
	return c
}

func enrolment(member string, der []byte, kind, assurance, demo int64) fields {
	return fields{{num(1), tstr(member)}, {num(2), bstr(der)}, {num(3), num(kind)}, {num(4), num(assurance)}, {num(5), bstr(sum("a salted commitment"))}, {num(6), num(demo)}}
}

func (c *cast) statements() []*statement {
	return append(append([]*statement{c.opening, c.authorise, c.second, c.third, c.enrol, c.revoke}, c.extra...), c.credentialStatements()...)
}

func (c *cast) keys() []*key { return []*key{c.alice, c.bob, c.recorder, c.eve, c.ca} }

// invalid is one byte string with the one reason it is refused for.
type invalid struct {
	Name  string `json:"name"`
	Bytes string `json:"bytes"`
	Code  string `json:"code"`
	Field string `json:"field"`
}

type invalids []invalid

func (v *invalids) add(name string, b []byte, code, field string) {
	*v = append(*v, invalid{name, hex.EncodeToString(b), code, field})
}

const (
	malformed = "malformed"
	notDet    = "not-deterministic"
)

func (c *cast) invalidStatements() []invalid {
	var v invalids
	good := c.opening.bytes()
	p := c.opening.protected()
	prot, payload := p.encode(), c.opening.payload
	sig := good[len(good)-64:]
	none := []byte{0xa0}

	v.add("no bytes", nil, "empty", "statement")
	v.add("one byte more than allowed", cat(good, make([]byte, maxStatement+1-len(good))), "oversize", "statement")
	cut := func(name string, at int, field string) { v.add("cut off "+name, good[:at], malformed, field) }
	afterProt := 4 + len(prot)
	cut("after the tag", 1, "statement")
	cut("before the protected header", 2, "protected")
	cut("within the length of the protected header", 3, "protected")
	cut("within the protected header", 40, "protected")
	cut("before the unprotected header", afterProt, "unprotected")
	cut("before the payload", afterProt+1, "payload")
	cut("within the length of the payload", afterProt+2, "payload")
	cut("within the payload", afterProt+20, "payload")
	cut("before the signature", afterProt+1+34, "signature")
	cut("in the last byte", len(good)-1, "signature")
	v.add("a byte follows", cat(good, []byte{0}), malformed, "statement")
	v.add("a second statement follows", cat(good, good), malformed, "statement")
	v.add("untagged", good[1:], malformed, "statement")
	v.add("tag 17", cat([]byte{0xd1}, good[1:]), malformed, "statement")
	v.add("tag 98 (COSE_Sign)", cat([]byte{0xd8, 0x62}, good[1:]), malformed, "statement")
	v.add("tag not in its shortest form", cat([]byte{0xd8, 0x12}, good[1:]), malformed, "statement")
	v.add("array of three", cat([]byte{0xd2, 0x83}, good[2:]), malformed, "statement")
	v.add("array of five", cat([]byte{0xd2, 0x85}, good[2:], []byte{0xf6}), malformed, "statement")
	v.add("array of indefinite length", cat([]byte{0xd2, 0x9f}, good[2:], []byte{0xff}), malformed, "statement")

	// The parts of the COSE_Sign1.
	v.add("protected header is a map, not a string", cat([]byte{0xd2, 0x84}, prot, none, bstr(payload), bstr(sig)), malformed, "protected")
	v.add("protected header of indefinite length", cat([]byte{0xd2, 0x84, 0x5f}, bstr(prot), []byte{0xff}, none, bstr(payload), bstr(sig)), notDet, "protected")
	v.add("length of the protected header not shortest", cat([]byte{0xd2, 0x84, 0x59, 0}, good[3:]), notDet, "protected")
	v.add("length of the protected header beyond all memory", cat([]byte{0xd2, 0x84}, mustHex("5bffffffffffffffff"), good[4:]), malformed, "protected")
	v.add("protected header empty", signed(c.alice, nil, payload), malformed, "protected")
	v.add("protected header an empty map", signed(c.alice, none, payload), malformed, "protected")
	v.add("unprotected header holds a key id", sign1(prot, fields{{num(lKID), bstr(c.alice.kid())}}.encode(), bstr(payload), sig), malformed, "unprotected")
	v.add("unprotected header holds a receipt", sign1(prot, fields{{num(lReceipts), array(bstr([]byte{0xd2}))}}.encode(), bstr(payload), sig), malformed, "unprotected")
	v.add("unprotected header null", sign1(prot, []byte{0xf6}, bstr(payload), sig), malformed, "unprotected")
	v.add("unprotected header of indefinite length", sign1(prot, []byte{0xbf, 0xff}, bstr(payload), sig), notDet, "unprotected")
	v.add("unprotected header's length not shortest", sign1(prot, []byte{0xb8, 0}, bstr(payload), sig), notDet, "unprotected")
	v.add("payload detached", sign1(prot, none, []byte{0xf6}, sig), malformed, "payload")
	v.add("payload is text", sign1(prot, none, tstr(strings.Repeat("a", 32)), sig), malformed, "payload")
	v.add("payload of indefinite length", sign1(prot, none, cat([]byte{0x5f}, bstr(payload), []byte{0xff}), sig), notDet, "payload")
	v.add("payload length not shortest", sign1(prot, none, cat([]byte{0x59, 0, 32}, payload), sig), notDet, "payload")
	for _, n := range []int{0, 31, 33, 64} {
		v.add(fmt.Sprintf("payload of %d bytes", n), signed(c.alice, prot, make([]byte, n)), malformed, "payload")
	}
	for _, n := range []int{0, 63, 65} {
		v.add(fmt.Sprintf("signature of %d bytes", n), sign1(prot, none, bstr(payload), make([]byte, n)), malformed, "signature")
	}
	v.add("signature length not shortest", cat(good[:len(good)-66], []byte{0x59, 0, 64}, sig), notDet, "signature")
	v.add("signature is text", cat(good[:len(good)-66], tstr(strings.Repeat("a", 64))), malformed, "signature")

	c.invalidProtected(&v)
	c.invalidClaims(&v)
	c.invalidKinds(&v)
	return v
}

func (c *cast) invalidProtected(v *invalids) {
	p, payload := c.opening.protected(), c.opening.payload
	raw := func(name string, protected []byte, code, field string) {
		v.add(name, signed(c.alice, protected, payload), code, field)
	}
	is := func(name string, f fields, code, field string) { raw(name, f.encode(), code, field) }
	prot := p.encode()
	raw("protected map cut off", prot[:len(prot)-1], malformed, "protected.sm3")
	raw("protected map cut off within kid", prot[:20], malformed, "protected.kid")
	raw("a byte follows within the protected header", cat(prot, []byte{0}), malformed, "protected")
	raw("protected map says one entry less", cat([]byte{prot[0] - 1}, prot[1:]), malformed, "protected")
	raw("protected map says one entry more", cat([]byte{prot[0] + 1}, prot[1:]), malformed, "protected")
	raw("protected map of indefinite length", cat([]byte{0xbf}, prot[1:], []byte{0xff}), notDet, "protected")
	raw("length of the protected map not shortest", cat([]byte{0xb8, prot[0] & 31}, prot[1:]), notDet, "protected")
	raw("reserved additional information", cat([]byte{0xbc}, prot[1:]), notDet, "protected")
	raw("protected header is an array", array(), malformed, "protected")

	is("kid before alg", p.swap(lAlg, lKID), notDet, "protected")
	is("259 before 258", p.swap(lHash, lPreimage), notDet, "protected")
	is("sm3 before after", p.swap(lAfter, lSM3), notDet, "protected")
	is("labels ordered by value: private labels first", append(append(fields{}, p[5:]...), p[:5]...), notDet, "protected")
	for _, l := range []int64{lAlg, lKID, lClaims, lSM3} {
		is(fmt.Sprintf("label %d twice", l), p.add(l, num(l), p[p.find(l)].value), notDet, "protected")
	}
	for _, u := range []struct {
		name   string
		before int64
		pair
	}{
		{"label 2 (crit)", lKID, pair{num(2), array(num(258))}},
		{"label 5 (IV)", lClaims, pair{num(5), bstr(make([]byte, 12))}},
		{"label 16 (typ)", lHash, pair{num(16), tstr(typeDeposit)}},
		{"label 33 (x5chain)", lHash, pair{num(33), bstr([]byte{0x30})}},
		{"label 260 (payload location)", lAfter, pair{num(260), tstr("https://example.com/")}},
		{"label 395 (vds)", lAfter, pair{num(lVDS), num(1)}},
		{"label -70004", 0, pair{num(-70004), num(0)}},
	} {
		is("unknown "+u.name, p.add(u.before, u.label, u.value), malformed, "protected")
	}
	is("a text label", p.add(0, tstr("x"), num(0)), malformed, "protected")
	is("label 0", p.add(lAlg, num(0), num(0)), malformed, "protected")
	for _, l := range []int64{lAlg, lKID, lClaims, lHash, lPreimage, lAfter, lSM3} {
		is(fmt.Sprintf("label %d missing", l), p.without(l), malformed, "protected")
	}
	is("prev in the opening statement", p.add(lAfter, num(lPrev), bstr(sum("before"))), malformed, "protected")
	is("label 3 beside 258 and 259", p.add(lKID, num(lType), tstr(typeDeposit)), malformed, "protected")
	is("label 3 beside 258 without 259", p.without(lPreimage).add(lKID, num(lType), tstr(typeDeposit)), malformed, "protected")
	is("label 3 instead of 258 and 259", p.without(lPreimage).without(lHash).add(lKID, num(lType), tstr(typeDeposit)), malformed, "protected")

	is("label 1 not shortest", p.as(lAlg, []byte{0x18, 1}), notDet, "protected")
	is("label 258 not shortest", p.as(lHash, mustHex("1a00000102")), notDet, "protected")
	is("label -70002 not shortest", p.as(lAfter, mustHex("3b0000000000011171")), notDet, "protected")
	is("alg not shortest", p.with(lAlg, []byte{0x38, 7}), notDet, "protected.alg")
	is("alg is text", p.with(lAlg, tstr("EdDSA")), malformed, "protected.alg")
	is("alg is null", p.with(lAlg, []byte{0xf6}), malformed, "protected.alg")
	is("alg beyond 63 bits", p.with(lAlg, mustHex("3bffffffffffffffff")), malformed, "protected.alg")
	for _, a := range []int64{-19, -9, -35, -257, 0, 1, 8} {
		is(fmt.Sprintf("alg %d", a), p.with(lAlg, num(a)), "wrong-algorithm", "protected.alg")
	}
	kid := c.alice.kid()
	is("kid of 31 bytes", p.with(lKID, bstr(kid[:31])), malformed, "protected.kid")
	is("kid of 33 bytes", p.with(lKID, bstr(cat(kid, []byte{0}))), malformed, "protected.kid")
	is("kid is text", p.with(lKID, tstr(strings.Repeat("a", 32))), malformed, "protected.kid")
	is("kid length not shortest", p.with(lKID, cat([]byte{0x59, 0, 32}, kid)), notDet, "protected.kid")
	is("payload hash SHA-512", p.with(lHash, num(-44)), malformed, "protected.payload-hash-alg")
	is("payload hash a name", p.with(lHash, tstr("SHA-256")), malformed, "protected.payload-hash-alg")
	is("preimage content type unknown", p.with(lPreimage, tstr("application/json")), malformed, "protected.preimage-content-type")
	is("preimage content type a number", p.with(lPreimage, num(50)), malformed, "protected.preimage-content-type")
	is("preimage content type in chunks", p.with(lPreimage, cat([]byte{0x7f}, tstr(typeDeposit), []byte{0xff})), notDet, "protected.preimage-content-type")
	is("preimage content type of an enrolment", p.with(lPreimage, tstr(typeEnrolment)), malformed, "protected.claims.sub")

	root := sum("")
	is("after of one", p.with(lAfter, array(num(0))), malformed, "protected.after")
	is("after of three", p.with(lAfter, array(num(0), bstr(root), num(0))), malformed, "protected.after")
	is("after is a map", p.with(lAfter, fields{{num(0), bstr(root)}}.encode()), malformed, "protected.after")
	is("after with a negative size", p.with(lAfter, array(num(-1), bstr(root))), malformed, "protected.after.size")
	is("after with a size above 63 bits", p.with(lAfter, array(head(0, 1<<63), bstr(root))), malformed, "protected.after.size")
	is("after with a size not shortest", p.with(lAfter, array([]byte{0x18, 0}, bstr(root))), notDet, "protected.after.size")
	is("after with a fraction for a size", p.with(lAfter, array(mustHex("f93e00"), bstr(root))), malformed, "protected.after.size")
	is("after with a root of 31 bytes", p.with(lAfter, array(num(0), bstr(root[:31]))), malformed, "protected.after.root")
	is("after of indefinite length", p.with(lAfter, cat([]byte{0x9f}, num(0), bstr(root), []byte{0xff})), notDet, "protected.after")
	is("sm3 of 31 bytes", p.with(lSM3, bstr(root[:31])), malformed, "protected.sm3")
	is("sm3 is null", p.with(lSM3, []byte{0xf6}), malformed, "protected.sm3")

	later := c.third.protected()
	l := func(name string, f fields, code, field string) {
		v.add(name, signed(c.bob, f.encode(), payload), code, field)
	}
	l("label -70001 missing in a continuing statement", later.without(lPrev), malformed, "protected")
	l("prev of 31 bytes", later.with(lPrev, bstr(root[:31])), malformed, "protected.prev")
	l("prev all zero", later.with(lPrev, bstr(make([]byte, 32))), malformed, "protected.prev")
	l("after before prev", later.swap(lPrev, lAfter), notDet, "protected")
	l("label -70001 twice", later.add(lPrev, num(lPrev), bstr(root)), notDet, "protected")
}

func (c *cast) invalidClaims(v *invalids) {
	p, payload := c.opening.protected(), c.opening.payload
	raw := func(name string, claims []byte, code, field string) {
		v.add(name, signed(c.alice, p.with(lClaims, claims).encode(), payload), code, field)
	}
	good := claims("m:alice", "trail:new", iat)
	is := func(name string, f fields, code, field string) { raw(name, f.encode(), code, field) }
	is("claim iss missing", good.without(1), malformed, "protected.claims")
	is("claim sub missing", good.without(2), malformed, "protected.claims")
	is("claim iat missing", good.without(6), malformed, "protected.claims")
	is("no claims", fields{}, malformed, "protected.claims")
	is("a fourth claim, cti", good.add(0, num(7), bstr([]byte{1})), malformed, "protected.claims")
	is("claim exp in place of iat", good.as(6, num(4)), malformed, "protected.claims")
	is("claim sub before iss", good.swap(1, 2), malformed, "protected.claims")
	is("claim iss twice", fields{good[0], good[0], good[2]}, notDet, "protected.claims")
	raw("claims are an array", array(num(1), num(2), num(3)), malformed, "protected.claims")
	raw("claims of indefinite length", cat([]byte{0xbf}, good.encode()[1:], []byte{0xff}), notDet, "protected.claims")
	is("claim label not shortest", good.as(1, []byte{0x18, 1}), notDet, "protected.claims")

	iss := func(name, s string) {
		is("iss "+name, good.with(1, tstr(s)), malformed, "protected.claims.iss")
	}
	iss("empty", "")
	iss("of 65 characters", strings.Repeat("a", 65))
	iss("in upper case", "m:Alice")
	iss("with a space", "m:alice b")
	iss("with a slash", "m/alice")
	iss("in Chinese", "证链")
	iss("with an underscore", "m:a_b")
	iss("not UTF-8", "m:\xff")
	iss("with an overlong encoding", "m:\xc1\xa1")
	is("iss is bytes", good.with(1, bstr([]byte("m:alice"))), malformed, "protected.claims.iss")
	is("iss is a number", good.with(1, num(1)), malformed, "protected.claims.iss")
	is("iss in chunks", good.with(1, cat([]byte{0x7f}, tstr("m:alice"), []byte{0xff})), notDet, "protected.claims.iss")

	trail := hex.EncodeToString(c.opening.digest())
	sub := func(name, s string) {
		is("sub "+name, good.with(2, tstr(s)), malformed, "protected.claims.sub")
	}
	sub("empty", "")
	sub("without the digest", "trail:")
	sub("with 63 digits", "trail:"+trail[:63])
	sub("with 65 digits", "trail:"+trail+"0")
	sub("in upper case", "trail:"+strings.ToUpper(trail))
	sub("a bare digest", trail)
	sub("of the registry in a deposit", "registry")
	sub("with a space after it", "trail:new ")
	sub("not UTF-8", "trail:\xff")
	is("sub is bytes", good.with(2, bstr(c.opening.digest())), malformed, "protected.claims.sub")

	when := func(name string, enc []byte, code string) {
		is("iat "+name, good.with(6, enc), code, "protected.claims.iat")
	}
	when("in milliseconds", num(iat*1000), malformed)
	when("one second past the year 9999", num(253402300800), malformed)
	when("with the largest number", mustHex("1bffffffffffffffff"), malformed)
	when("negative", num(-1), malformed)
	when("a fraction", mustHex("fb41da68dfe0800000"), malformed)
	when("text", tstr("2026-03-01T00:00:00Z"), malformed)
	when("tagged", cat([]byte{0xc1}, num(iat)), malformed)
	when("not shortest", cat([]byte{0x1b, 0, 0, 0, 0}, num(iat)[1:]), notDet)
	when("null", []byte{0xf6}, malformed)
}

func (c *cast) invalidKinds(v *invalids) {
	of := func(name string, s *statement, f fields, payload []byte, code, field string) {
		v.add(name, signed(s.key, f.encode(), payload), code, field)
	}
	a, e, r := c.authorise, c.enrol, c.revoke
	of("authorisation that opens a trail", a, a.protected().without(lPrev).with(lClaims, claims(a.iss, "trail:new", iat).encode()), a.payload, malformed, "protected.claims.sub")
	of("authorisation in the registry", a, a.protected().with(lClaims, claims(a.iss, "registry", iat).encode()), a.payload, malformed, "protected.claims.sub")
	of("authorisation without prev", a, a.protected().without(lPrev), a.payload, malformed, "protected")
	of("authorisation without after", a, a.protected().without(lAfter), a.payload, malformed, "protected")
	of("authorisation with sm3", a, a.protected().add(0, num(lSM3), bstr(sum("x"))), a.payload, malformed, "protected")
	of("authorisation as a hash envelope", a, a.protected().add(lPrev, num(lHash), num(-16)), a.payload, malformed, "protected")
	of("enrolment in a trail", e, e.protected().with(lClaims, claims(e.iss, a.sub, iat).encode()), e.payload, malformed, "protected.claims.sub")
	of("enrolment that opens a trail", e, e.protected().with(lClaims, claims(e.iss, "trail:new", iat).encode()), e.payload, malformed, "protected.claims.sub")
	of("enrolment with after", e, e.protected().add(0, num(lAfter), array(num(0), bstr(sum("")))), e.payload, malformed, "protected")
	of("enrolment with prev", e, e.protected().add(0, num(lPrev), bstr(sum("x"))), e.payload, malformed, "protected")
	of("content type unknown", e, e.protected().with(lType, tstr("application/cbor")), e.payload, malformed, "protected.content-type")
	of("content type a number", e, e.protected().with(lType, num(60)), e.payload, malformed, "protected.content-type")
	of("content type empty", e, e.protected().with(lType, tstr("")), e.payload, malformed, "protected.content-type")
	of("content type of a deposit under label 3", e, e.protected().with(lType, tstr(typeDeposit)), e.payload, malformed, "protected.claims.sub")
	of("content type of a trail head", e, e.protected().with(lType, tstr(typeTrailHead)), e.payload, malformed, "protected.content-type")
	of("enrolment with no content", e, e.protected(), nil, malformed, "enrolment")
	of("enrolment of a small-order key", e, e.protected(), enrolment("m:x", derEd25519(cat([]byte{1}, make([]byte, 31))), 1, 0, 0).encode(), "bad-key", "enrolment.key")
	of("enrolment with the content of a revocation", e, e.protected(), r.payload, malformed, "enrolment")
	of("revocation with reason 7", r, r.protected(), fields{{num(1), bstr(c.bob.kid())}, {num(2), num(7)}}.encode(), malformed, "revocation.reason")
	of("authorisation of right 4", a, a.protected(), fields{{num(1), bstr(c.bob.kid())}, {num(2), num(4)}}.encode(), malformed, "authorisation.rights")
}

// signatureCase is a statement that reads well, with what its signature is
// worth under the key that it names.
type signatureCase struct {
	Name   string `json:"name"`
	Key    string `json:"key"`
	Bytes  string `json:"bytes"`
	Valid  bool   `json:"valid"`  // by spec/statement.md: this decides
	Strict bool   `json:"strict"` // by the strict reading of RFC 8032
}

// rawSignature is a signature over a message.
type rawSignature struct {
	name          string
	key           *key
	sig           []byte
	valid, strict bool
}

// signatures are made for the same message by the keys of each algorithm.
func (c *cast) signatures(ed, ec, sm []byte) []rawSignature {
	var out []rawSignature
	put := func(name string, k *key, sig []byte, valid, strict bool) {
		out = append(out, rawSignature{name, k, sig, valid, strict})
	}
	good := c.alice.sign(ed)
	r, s := good[:32], good[32:]
	flip := func(sig []byte, at int) []byte { f := bytes.Clone(sig); f[at] ^= 1; return f }
	put("Ed25519", c.alice, good, true, true)
	put("Ed25519, R changed", c.alice, flip(good, 3), false, false)
	put("Ed25519, S changed", c.alice, flip(good, 40), false, false)
	put("Ed25519 by another key", c.alice, c.eve.sign(ed), false, false)
	put("Ed25519 over another message", c.alice, c.alice.sign(append(bytes.Clone(ed), 0)), false, false)
	put("Ed25519, S plus the order", c.alice, cat(r, little32(new(big.Int).Add(little(s), edOrder()))), false, false)
	put("Ed25519, all zero", c.alice, make([]byte, 64), false, false)
	identity := cat([]byte{1}, make([]byte, 31))
	put("Ed25519, R the identity", c.alice, c.alice.signWithR(identity, new(big.Int), ed), true, true)
	put("Ed25519, R of order 8", c.alice, c.alice.signWithR(mustHex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), new(big.Int), ed), true, false)
	put("Ed25519, R of order 2", c.alice, c.alice.signWithR(mustHex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"), new(big.Int), ed), true, false)
	put("Ed25519, R the identity with y not reduced", c.alice, c.alice.signWithR(mustHex("eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"), new(big.Int), ed), true, false)
	put("Ed25519, R the identity with the sign bit of zero", c.alice, c.alice.signWithR(mustHex("0100000000000000000000000000000000000000000000000000000000000080"), new(big.Int), ed), true, false)
	put("Ed25519, R no point", c.alice, c.alice.signWithR(mustHex("0200000000000000000000000000000000000000000000000000000000000000"), new(big.Int), ed), false, false)
	// R of large order with a part of small order: the public key plus a point of order 8.
	put("Ed25519, R with a torsion component", c.alice, c.alice.signWithR(torsioned(c.eve), c.eve.edScalar(), ed), true, false)

	good = c.bob.sign(ec)
	n := new(big.Int).SetBytes(mustHex("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551"))
	rr, ss := new(big.Int).SetBytes(good[:32]), new(big.Int).SetBytes(good[32:])
	put("ES256", c.bob, good, true, true)
	put("ES256, s in the upper half", c.bob, cat(pad(rr), pad(new(big.Int).Sub(n, ss))), false, false)
	put("ES256, s changed", c.bob, flip(good, 63), false, false)
	put("ES256, r zero", c.bob, cat(make([]byte, 32), good[32:]), false, false)
	put("ES256, s zero", c.bob, cat(good[:32], make([]byte, 32)), false, false)
	put("ES256, r all ones", c.bob, cat(bytes.Repeat([]byte{255}, 32), good[32:]), false, false)
	put("ES256 by another key", c.bob, p256Key("mallory").sign(ec), false, false)

	good = c.recorder.sign(sm)
	n = sm2Curve().n
	ss = new(big.Int).SetBytes(good[32:])
	put("SM2", c.recorder, good, true, true)
	put("SM2, s negated", c.recorder, cat(good[:32], pad(new(big.Int).Sub(n, ss))), false, false)
	put("SM2, s changed", c.recorder, flip(good, 63), false, false)
	put("SM2, r zero", c.recorder, cat(make([]byte, 32), good[32:]), false, false)
	put("SM2, s zero", c.recorder, cat(good[:32], make([]byte, 32)), false, false)
	put("SM2, r+s zero", c.recorder, cat(pad(new(big.Int).Sub(n, ss)), good[32:]), false, false)
	put("SM2 by another key", c.recorder, sm2Key("mallory").sign(sm), false, false)
	return out
}

// torsioned returns the public key with a point of order 8 added: a point of
// the curve, of large order, that no honest signer has.
func torsioned(k *key) []byte {
	var a, sum voi.EdwardsPoint
	var c voi.CompressedEdwardsY
	copy(c[:], k.der[12:])
	if _, err := a.SetCompressedY(&c); err != nil {
		panic(err)
	}
	sum.Add(&a, voi.EIGHT_TORSION[1])
	c.SetEdwardsPoint(&sum)
	return c[:]
}

func (c *cast) signatureCases() []signatureCase {
	tbs := func(s *statement) []byte { return sigStructure(s.protected().encode(), s.payload) }
	of := map[string]*statement{"alice": c.opening, "bob": c.third, "recorder": c.second}
	var out []signatureCase
	for _, s := range c.signatures(tbs(c.opening), tbs(c.third), tbs(c.second)) {
		st := of[s.key.name]
		b := sign1(st.protected().encode(), fields{}.encode(), bstr(st.payload), s.sig)
		out = append(out, signatureCase{s.name, s.key.name, hex.EncodeToString(b), s.valid, s.strict})
	}
	return out
}
