package main

import (
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/big"
	"strings"
)

// Keys.

type keyValid struct {
	Name   string `json:"name"`
	Alg    int64  `json:"alg"`
	DER    string `json:"der"`
	KID    string `json:"kid"`
	Secret string `json:"secret"` // Ed25519 seed or big-endian scalar: for tests alone
}

type keyInvalid struct {
	Name string `json:"name"`
	DER  string `json:"der"`
	Why  string `json:"why"`
}

func validKeys(c *cast) []keyValid {
	var out []keyValid
	for _, k := range append(c.keys(), receiptKeys()...) {
		out = append(out, keyValid{k.name, k.alg, hex.EncodeToString(k.der), hex.EncodeToString(k.kid()), hex.EncodeToString(k.secret[:])})
	}
	return out
}

func invalidKeys(c *cast) []keyInvalid {
	var out []keyInvalid
	put := func(name string, der []byte, why string) {
		out = append(out, keyInvalid{name, hex.EncodeToString(der), why})
	}
	ed, ec, sm := c.alice.der, c.bob.der, c.recorder.der
	put("no bytes", nil, "form")
	put("a bare Ed25519 key without its SubjectPublicKeyInfo", ed[12:], "form")
	put("Ed25519 with a byte after it", cat(ed, []byte{0}), "form")
	put("Ed25519 cut off", ed[:43], "form")
	put("Ed25519 with NULL parameters", cat(mustHex("302c300706032b65700500032100"), ed[12:]), "form")
	put("Ed25519 with a length not in its shortest form", cat(mustHex("30812a300506032b6570032100"), ed[12:]), "form")
	put("Ed25519 with unused bits", cat(mustHex("302a300506032b6570032101"), ed[12:]), "form")
	put("X25519", cat(mustHex("302a300506032b656e032100"), ed[12:]), "form")
	put("Ed448", cat(mustHex("3043300506032b6571033a00"), make([]byte, 57)), "form")
	for _, s := range []struct{ name, raw string }{
		{"identity (order 1)", "0100000000000000000000000000000000000000000000000000000000000000"},
		{"order 2", "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"},
		{"order 4", "0000000000000000000000000000000000000000000000000000000000000000"},
		{"order 4, the other", "0000000000000000000000000000000000000000000000000000000000000080"},
		{"order 8, first", "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"},
		{"order 8, second", "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85"},
		{"order 8, third", "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"},
		{"order 8, fourth", "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa"},
	} {
		put("Ed25519 of small order: "+s.name, derEd25519(mustHex(s.raw)), "small-order")
	}
	for _, s := range []struct{ name, raw string }{
		{"identity with the sign bit of zero", "0100000000000000000000000000000000000000000000000000000000000080"},
		{"order 2 with the sign bit of zero", "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"},
		{"zero with y = p", "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"},
		{"identity with y = p+1", "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"},
		{"y = p+3, a point of large order", "f0ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"},
		{"y = 2^255-1", "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"},
	} {
		put("Ed25519 not canonical: "+s.name, derEd25519(mustHex(s.raw)), "non-canonical")
	}
	put("Ed25519 that is no point", derEd25519(mustHex("0200000000000000000000000000000000000000000000000000000000000000")), "not-a-point")
	put("Ed25519 with a torsion component", derEd25519(torsioned(c.alice)), "torsion")

	flip := func(b []byte, at int) []byte { o := cat(b); o[at] ^= 1; return o }
	for _, k := range []struct {
		name string
		der  []byte
		wrap func([]byte) []byte
	}{{"P-256", ec, derP256}, {"SM2", sm, derSM2}} {
		point := k.der[26:]
		put(k.name+" off the curve", flip(k.der, len(k.der)-1), "not-a-point")
		put(k.name+" with zero coordinates", k.wrap(cat([]byte{4}, make([]byte, 64))), "not-a-point")
		put(k.name+" with coordinates not reduced", k.wrap(cat([]byte{4}, mustHex(strings.Repeat("ff", 64)))), "not-a-point")
		put(k.name+" in hybrid form", k.wrap(cat([]byte{6 | point[64]&1}, point[1:])), "not-a-point")
		compressed := cat([]byte{2 | point[64]&1}, point[1:33])
		put(k.name+" compressed", cat([]byte{0x30, 0x39}, k.der[2:23], []byte{0x03, 0x22, 0x00}, compressed), "form")
		put(k.name+" at infinity", cat([]byte{0x30, 0x19}, k.der[2:23], []byte{0x03, 0x02, 0x00, 0x00}), "form")
		put(k.name+" with a byte after it", cat(k.der, []byte{0}), "form")
		put(k.name+" cut off", k.der[:len(k.der)-1], "form")
	}
	put("a P-256 point named SM2", derSM2(ec[26:]), "not-a-point")
	put("an SM2 point named P-256", derP256(sm[26:]), "not-a-point")
	put("secp256k1", cat(mustHex("3056301006072a8648ce3d020106052b8104000a034200"), ec[26:]), "form")
	rsaKey, err := x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: new(big.Int).SetBytes(cat([]byte{0xc1}, sum("modulus"), []byte{1})), E: 65537})
	if err != nil {
		panic(err)
	}
	put("RSA", rsaKey, "form")
	return out
}

type messageSignature struct {
	Name      string `json:"name"`
	Key       string `json:"key"`
	Message   string `json:"message"`
	Signature string `json:"signature"`
	Valid     bool   `json:"valid"`
	Strict    bool   `json:"strict"`
}

func messageSignatures(c *cast) []messageSignature {
	msg := []byte("a message")
	var out []messageSignature
	for _, s := range c.signatures(msg, msg, msg) {
		out = append(out, messageSignature{s.name, s.key.name, hex.EncodeToString(msg), hex.EncodeToString(s.sig), s.valid, s.strict})
	}
	out = append(out,
		messageSignature{"63 bytes", c.alice.name, hex.EncodeToString(msg), hex.EncodeToString(c.alice.sign(msg)[:63]), false, false},
		messageSignature{"ES256 in DER", c.bob.name, hex.EncodeToString(msg), "30440220" + strings.Repeat("11", 32) + "0220" + strings.Repeat("11", 32), false, false})
	return out
}

// Trail heads.

type trailHeadValid struct {
	Name   string          `json:"name"`
	Key    string          `json:"key"`
	Bytes  string          `json:"bytes"`
	Fields trailHeadExpect `json:"fields"`
}

type trailHeadExpect struct {
	Iss   string `json:"iss"`
	Iat   int64  `json:"iat"`
	KID   string `json:"kid"`
	Trail string `json:"trail"`
	Count uint64 `json:"count"`
	Last  string `json:"last"`
	Size  uint64 `json:"size"`
	Root  string `json:"root"`
}

type trailHead struct {
	key               *key
	trail, last, root []byte
	count, size       uint64
}

func (h *trailHead) protected() fields {
	return fields{{num(lAlg), num(h.key.alg)}, {num(lType), tstr(typeTrailHead)}, {num(lKID), bstr(h.key.kid())},
		{num(lClaims), claims(institution, "trail:"+hex.EncodeToString(h.trail), blockTime).encode()}}
}

func (h *trailHead) payload() fields {
	return fields{{num(1), bstr(h.trail)}, {num(2), head(0, h.count)}, {num(3), bstr(h.last)}, {num(4), head(0, h.size)}, {num(5), bstr(h.root)}}
}

func trailHeads(c *cast) ([]trailHeadValid, []invalid) {
	ed, ec := edKey("court attest"), p256Key("court attest, P-256")
	heads := map[string]*trailHead{}
	var valid []trailHeadValid
	put := func(name string, h *trailHead) {
		b := signed(h.key, h.protected().encode(), h.payload().encode())
		valid = append(valid, trailHeadValid{name, hex.EncodeToString(h.key.der), hex.EncodeToString(b), trailHeadExpect{institution, blockTime, hex.EncodeToString(h.key.kid()),
			hex.EncodeToString(h.trail), h.count, hex.EncodeToString(h.last), h.size, hex.EncodeToString(h.root)}})
		heads[name] = h
	}
	put("a trail of four", &trailHead{ed, c.opening.digest(), c.third.digest(), sum("root"), 4, 1000})
	put("a trail of its opening alone, P-256", &trailHead{ec, c.opening.digest(), c.opening.digest(), sum("root"), 1, 1})
	put("the largest numbers", &trailHead{ed, sum("t"), sum("l"), sum("r"), 1<<63 - 1, 1<<63 - 1})

	var v invalids
	h := heads["a trail of four"]
	p, b := h.protected(), h.payload()
	good := signed(ed, p.encode(), b.encode())
	v.add("no bytes", nil, "empty", "trail-head")
	v.add("one byte more than allowed", cat(good, make([]byte, 4097-len(good))), "oversize", "trail-head")
	v.add("untagged", good[1:], malformed, "trail-head")
	v.add("cut off in the last byte", good[:len(good)-1], malformed, "signature")
	v.add("a byte follows", cat(good, []byte{0}), malformed, "trail-head")
	v.add("a statement", c.opening.bytes(), malformed, "protected")
	v.add("unprotected header not empty", sign1(p.encode(), fields{{num(4), bstr(nil)}}.encode(), bstr(b.encode()), good[len(good)-64:]), malformed, "unprotected")
	v.add("payload detached", sign1(p.encode(), []byte{0xa0}, []byte{0xf6}, good[len(good)-64:]), malformed, "payload")
	v.add("signature of 63 bytes", sign1(p.encode(), []byte{0xa0}, bstr(b.encode()), good[:63]), malformed, "signature")
	head := func(name string, f fields, code, field string) {
		v.add(name, signed(ed, f.encode(), b.encode()), code, field)
	}
	head("content type of a statement", p.with(lType, tstr(typeDeposit)), malformed, "protected.content-type")
	head("kid missing", p.without(lKID), malformed, "protected")
	head("alg unknown", p.with(lAlg, num(-9)), "wrong-algorithm", "protected.alg")
	head("sub is another trail", p.with(lClaims, claims(institution, "trail:"+hex.EncodeToString(sum("other")), blockTime).encode()), malformed, "protected.claims.sub")
	head("iss empty", p.with(lClaims, claims("", "trail:"+hex.EncodeToString(h.trail), blockTime).encode()), malformed, "protected.claims.iss")
	head("iat in milliseconds", p.with(lClaims, claims(institution, "trail:"+hex.EncodeToString(h.trail), blockTime*1000).encode()), malformed, "protected.claims.iat")
	body := func(name string, f fields, code, field string) {
		v.add(name, signed(ed, p.encode(), f.encode()), code, field)
	}
	for i, field := range []string{"payload.trail", "payload.count", "payload.last", "payload.size", "payload.root"} {
		body("payload without field "+fmt.Sprint(i+1), b.without(int64(i+1)), malformed, "payload")
		body("payload field "+fmt.Sprint(i+1)+" is text", b.with(int64(i+1), tstr("x")), malformed, field)
	}
	body("count zero", b.with(2, num(0)), malformed, "payload.count")
	body("count above the size", b.with(2, num(1001)), malformed, "payload.count")
	body("size above 63 bits", b.with(4, mustHex("1b8000000000000000")), malformed, "payload.size")
	body("count not shortest", b.with(2, []byte{0x18, 4}), notDet, "payload.count")
	body("root before size", b.swap(4, 5), malformed, "payload.size")
	v.add("a byte follows within the payload", signed(ed, p.encode(), cat(b.encode(), []byte{0})), malformed, "payload")
	return valid, v
}

// Checkpoints.

type cosignatureExpect struct {
	Name      string `json:"name"`
	VKey      string `json:"vkey"`
	KeyID     string `json:"key_id"`
	Time      int64  `json:"time"`
	Message   string `json:"message"`
	Signature string `json:"signature"`
}

type checkpointValid struct {
	Name         string              `json:"name"`
	Text         string              `json:"text"`
	Origin       string              `json:"origin"`
	Size         uint64              `json:"size"`
	Root         string              `json:"root"`
	Cosignatures []cosignatureExpect `json:"cosignatures"`
}

type checkpointInvalid struct {
	Name  string `json:"name"`
	Text  string `json:"text"` // base64: some are not UTF-8
	Code  string `json:"code"`
	Field string `json:"field"`
}

func cosign(k *key, name, body string, at int64) (line string, e cosignatureExpect) {
	raw := k.der[12:]
	h := sha256.Sum256(cat([]byte(name), []byte{'\n', 4}, raw))
	msg := fmt.Sprintf("cosignature/v1\ntime %d\n%s", at, body)
	sig := ed25519.Sign(k.ed(), []byte(msg))
	blob := cat(binary.BigEndian.AppendUint64(cat(h[:4]), uint64(at)), sig)
	b64 := base64.StdEncoding.EncodeToString
	return "— " + name + " " + b64(blob) + "\n", cosignatureExpect{name, fmt.Sprintf("%s+%x+%s", name, h[:4], b64(cat([]byte{4}, raw))), hex.EncodeToString(h[:4]), at, msg, hex.EncodeToString(sig)}
}

func checkpoints() ([]checkpointValid, []checkpointInvalid) {
	var valid []checkpointValid
	text := func(size uint64, root []byte) string {
		return fmt.Sprintf("%s\n%d\n%s\n", origin, size, base64.StdEncoding.EncodeToString(root))
	}
	names := []string{"ca", "forensic", "hangzhou-court", "notary"}
	put := func(name string, size uint64, root []byte, n int) string {
		body := text(size, root)
		v := checkpointValid{name, body + "\n", origin, size, hex.EncodeToString(root), nil}
		for i, id := range names[:n] {
			line, e := cosign(edKey(id+" cosign"), origin+"/"+id, body, blockTime+int64(i))
			v.Text += line
			v.Cosignatures = append(v.Cosignatures, e)
		}
		valid = append(valid, v)
		return v.Text
	}
	good := put("four cosignatures", 300, treeRoot(treeEntries(300)), 4)
	one := put("one cosignature, a log of one", 1, treeRoot(treeEntries(1)), 1)
	put("the empty log", 0, sum(""), 1)
	put("the largest size", 1<<63-1, sum("root"), 1)

	var invalid []checkpointInvalid
	bad := func(name, text, code, field string) {
		invalid = append(invalid, checkpointInvalid{name, base64.StdEncoding.EncodeToString([]byte(text)), code, field})
	}
	body, sigs, _ := strings.Cut(one, "\n\n")
	lines := strings.Split(body, "\n")
	bad("no bytes", "", "empty", "checkpoint")
	bad("one byte more than allowed", one+strings.Repeat("a", 64<<10+1-len(one)), "oversize", "checkpoint")
	bad("not UTF-8", strings.Replace(one, "zheng", "zh\xff", 1), malformed, "checkpoint.text")
	bad("without the blank line", strings.Replace(one, "\n\n", "\n", 1), malformed, "checkpoint.text")
	bad("a fourth line", body+"\nextension\n\n"+sigs, malformed, "checkpoint.text")
	bad("two lines", lines[0]+"\n"+lines[1]+"\n\n"+sigs, malformed, "checkpoint.text")
	bad("carriage returns", strings.ReplaceAll(one, "\n", "\r\n"), malformed, "checkpoint.text")
	bad("an empty origin", strings.TrimPrefix(one, origin), malformed, "checkpoint.origin")
	bad("a space in the origin", "a "+one, malformed, "checkpoint.origin")
	bad("a plus sign in the origin", "a+"+one, malformed, "checkpoint.origin")
	size := func(name, s string) {
		bad("size "+name, lines[0]+"\n"+s+"\n"+lines[2]+"\n\n"+sigs, malformed, "checkpoint.size")
	}
	bad("size empty", lines[0]+"\n\n"+lines[2]+"\n\n"+sigs, malformed, "checkpoint.text")
	size("negative", "-1")
	size("hexadecimal", "0x1")
	size("above 63 bits", "9223372036854775808")
	bad("size with a zero before it", strings.Replace(one, "\n1\n", "\n01\n", 1), malformed, "checkpoint.text")
	root := func(name, s string) {
		bad("root "+name, lines[0]+"\n1\n"+s+"\n\n"+sigs, malformed, "checkpoint.root")
	}
	root("of 31 bytes", base64.StdEncoding.EncodeToString(make([]byte, 31)))
	root("in hexadecimal", hex.EncodeToString(sum("")))
	root("without padding", strings.TrimRight(lines[2], "="))
	bad("root with stray bits at its end", strings.Replace(one, lines[2], lines[2][:42]+string(lines[2][42]+1)+"=", 1), malformed, "checkpoint.text")
	sig := func(name, s string) { bad("signature "+name, body+"\n\n"+s, malformed, "checkpoint.signature") }
	sig("missing", "")
	f := strings.Split(strings.TrimSuffix(sigs, "\n"), " ")
	raw, err := base64.StdEncoding.DecodeString(f[2])
	if err != nil {
		panic(err)
	}
	sig("of 75 bytes", f[0]+" "+f[1]+" "+base64.StdEncoding.EncodeToString(raw[:75])+"\n")
	sig("of type 0x01, without a time", f[0]+" "+f[1]+" "+base64.StdEncoding.EncodeToString(cat(raw[:4], raw[12:]))+"\n")
	sig("with a time beyond the year 9999", f[0]+" "+f[1]+" "+base64.StdEncoding.EncodeToString(cat(raw[:4], []byte{0, 0, 1}, raw[7:]))+"\n")
	sig("without a name", f[0]+" "+f[2]+"\n")
	sig("with a plus sign in the name", f[0]+" a+"+f[1]+" "+f[2]+"\n")
	sig("twice by one name", sigs+sigs)
	bad("signature line without its dash", body+"\n\n"+f[1]+" "+f[2]+"\n", malformed, "checkpoint.text")
	bad("signature line with a hyphen for a dash", body+"\n\n- "+f[1]+" "+f[2]+"\n", malformed, "checkpoint.signature")
	bad("no line feed at the end", strings.TrimSuffix(good, "\n"), malformed, "checkpoint.text")
	bad("a blank line at the end", one+"\n", malformed, "checkpoint.signature")
	return valid, invalid
}

// Contents of the registry's statements and of authorisations.

type contentVector struct {
	Name  string `json:"name"`
	Kind  string `json:"kind"` // enrolment, revocation, authorisation, passkey, certificate
	Bytes string `json:"bytes"`
	Code  string `json:"code"` // ok or the reason
	Field string `json:"field,omitempty"`
}

func contents(c *cast) []contentVector {
	var out []contentVector
	put := func(name, kind string, b []byte, code, field string) {
		out = append(out, contentVector{name, kind, hex.EncodeToString(b), code, field})
	}
	e := enrolment("m:alice", c.alice.der, 1, 2, 0)
	en := func(name string, f fields, code, field string) {
		if field != "" {
			field = "enrolment" + field
		}
		put(name, "enrolment", f.encode(), code, field)
	}
	en("a person", e, "ok", "")
	en("a service with the shortest id", enrolment("m:a", c.recorder.der, 4, 0, 1), "ok", "")
	en("member of 65 characters", e.with(1, tstr("m:"+strings.Repeat("a", 63))), malformed, ".member")
	en("member without its prefix", e.with(1, tstr("alice")), malformed, ".member")
	en("member of its prefix alone", e.with(1, tstr("m:")), malformed, ".member")
	en("member in upper case", e.with(1, tstr("m:A")), malformed, ".member")
	en("member is bytes", e.with(1, bstr([]byte("m:alice"))), malformed, ".member")
	en("key empty", e.with(2, bstr(nil)), "bad-key", ".key")
	en("key bare", e.with(2, bstr(c.alice.der[12:])), "bad-key", ".key")
	en("key of small order", e.with(2, bstr(derEd25519(make([]byte, 32)))), "bad-key", ".key")
	en("key with a torsion component", e.with(2, bstr(derEd25519(torsioned(c.alice)))), "bad-key", ".key")
	en("key is text", e.with(2, tstr("x")), malformed, ".key")
	en("kind 0", e.with(3, num(0)), malformed, ".kind")
	en("kind 5", e.with(3, num(5)), malformed, ".kind")
	en("kind is text", e.with(3, tstr("person")), malformed, ".kind")
	en("assurance 4", e.with(4, num(4)), malformed, ".assurance")
	en("assurance negative", e.with(4, num(-1)), malformed, ".assurance")
	en("commitment of 31 bytes", e.with(5, bstr(make([]byte, 31))), malformed, ".commitment")
	en("demo 2", e.with(6, num(2)), malformed, ".demo")
	en("demo true", e.with(6, []byte{0xf5}), malformed, ".demo")
	for i := int64(1); i <= 6; i++ {
		en(fmt.Sprintf("field %d missing", i), e.without(i), malformed, "")
		out[len(out)-1].Field = "enrolment"
	}
	en("a seventh field", e.add(0, num(7), num(0)), malformed, "")
	out[len(out)-1].Field = "enrolment"
	en("key before member", e.swap(1, 2), malformed, "")
	out[len(out)-1].Field = "enrolment"
	en("kind not shortest", e.with(3, []byte{0x18, 1}), notDet, ".kind")
	put("enrolment with a byte after it", "enrolment", cat(e.encode(), []byte{0}), malformed, "enrolment")
	put("enrolment of indefinite length", "enrolment", cat([]byte{0xbf}, e.encode()[1:], []byte{0xff}), notDet, "enrolment")

	r := fields{{num(1), bstr(c.bob.kid())}, {num(2), num(1)}}
	for reason := int64(0); reason <= 11; reason++ {
		code, field := "ok", ""
		if reason == 7 || reason == 11 {
			code, field = malformed, "revocation.reason"
		}
		put(fmt.Sprintf("reason %d", reason), "revocation", r.with(2, num(reason)).encode(), code, field)
	}
	put("kid of 31 bytes", "revocation", r.with(1, bstr(make([]byte, 31))).encode(), malformed, "revocation.kid")
	put("revocation with a third field", "revocation", r.add(0, num(3), num(0)).encode(), malformed, "revocation")
	for rights := int64(0); rights <= 4; rights++ {
		code, field := "ok", ""
		if rights == 4 {
			code, field = malformed, "authorisation.rights"
		}
		put(fmt.Sprintf("rights %d", rights), "authorisation", r.with(2, num(rights)).encode(), code, field)
	}
	put("rights are text", "authorisation", r.with(2, tstr("read")).encode(), malformed, "authorisation.rights")
	put("authorisation empty", "authorisation", nil, malformed, "authorisation")
	return append(append(out, credentialContents(c)...), keyChangeContents(c)...)
}
