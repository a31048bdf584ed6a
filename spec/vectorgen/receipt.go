package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

const (
	origin      = "zhenglian-demo-0123456789abcdef"
	institution = "hangzhou-court"
	blockTime   = 1772323260
)

// The tree of RFC 9162 §2.1, straight from its definition.
func leafHash(entry []byte) []byte {
	d := sha256.Sum256(cat([]byte{0}, entry))
	return d[:]
}

func nodeHash(l, r []byte) []byte {
	d := sha256.Sum256(cat([]byte{1}, l, r))
	return d[:]
}

// split is the largest power of two below n.
func split(n int) int {
	k := 1
	for k*2 < n {
		k *= 2
	}
	return k
}

func treeRoot(entries [][]byte) []byte {
	switch len(entries) {
	case 0:
		return sum("")
	case 1:
		return leafHash(entries[0])
	}
	k := split(len(entries))
	return nodeHash(treeRoot(entries[:k]), treeRoot(entries[k:]))
}

func treePath(m int, entries [][]byte) [][]byte {
	if len(entries) == 1 {
		return nil
	}
	k := split(len(entries))
	if m < k {
		return append(treePath(m, entries[:k]), treeRoot(entries[k:]))
	}
	return append(treePath(m-k, entries[k:]), treeRoot(entries[:k]))
}

// treeEntries are n entries; that of index i is SHA-256("entry i").
func treeEntries(n int) [][]byte {
	out := make([][]byte, n)
	for i := range out {
		out[i] = sum(fmt.Sprintf("entry %d", i))
	}
	return out
}

type receiptValid struct {
	Name   string        `json:"name"`
	Key    string        `json:"key"`
	Entry  string        `json:"entry"`
	Root   string        `json:"root"`
	Bytes  string        `json:"bytes"`
	Fields receiptExpect `json:"fields"`
}

type receiptExpect struct {
	Alg       int64    `json:"alg"`
	KID       string   `json:"kid"`
	Iss       string   `json:"iss"`
	Sub       string   `json:"sub"`
	Iat       int64    `json:"iat"`
	Size      uint64   `json:"size"`
	Index     uint64   `json:"index"`
	Path      []string `json:"path"`
	Signature string   `json:"signature"`
}

type receipt struct {
	key         *key
	size, index int
	entries     [][]byte
}

func newReceipt(k *key, size, index int) *receipt {
	return &receipt{k, size, index, treeEntries(size)}
}

func (r *receipt) protected() fields {
	return fields{{num(lAlg), num(r.key.alg)}, {num(lKID), bstr(r.key.kid())}, {num(lClaims), claims(institution, origin, blockTime).encode()}, {num(lVDS), num(1)}, {num(lTreeSize), head(0, uint64(r.size))}}
}

func (r *receipt) root() []byte { return treeRoot(r.entries) }

func pathItems(path [][]byte) [][]byte {
	items := [][]byte{}
	for _, p := range path {
		items = append(items, bstr(p))
	}
	return items
}

func proofBytes(size, index uint64, path [][]byte) []byte {
	return array(head(0, size), head(0, index), array(pathItems(path)...))
}

func vdp(proof []byte) fields {
	return fields{{num(lVDP), fields{{num(-1), array(bstr(proof))}}.encode()}}
}

func (r *receipt) proof() []byte {
	return proofBytes(uint64(r.size), uint64(r.index), treePath(r.index, r.entries))
}

// with encodes the receipt with these parts, signed over the root.
func (r *receipt) with(protected, unprotected []byte) []byte {
	return sign1(protected, unprotected, []byte{0xf6}, r.key.sign(sigStructure(protected, r.root())))
}

func (r *receipt) bytes() []byte { return r.with(r.protected().encode(), vdp(r.proof()).encode()) }

func (r *receipt) vector(name string) receiptValid {
	b := r.bytes()
	path := []string{}
	for _, p := range treePath(r.index, r.entries) {
		path = append(path, hex.EncodeToString(p))
	}
	return receiptValid{
		Name: name, Key: r.key.name, Entry: hex.EncodeToString(r.entries[r.index]), Root: hex.EncodeToString(r.root()), Bytes: hex.EncodeToString(b),
		Fields: receiptExpect{r.key.alg, hex.EncodeToString(r.key.kid()), institution, origin, blockTime, uint64(r.size), uint64(r.index), path, hex.EncodeToString(b[len(b)-64:])},
	}
}

func receiptKeys() []*key {
	return []*key{edKey("court receipt"), p256Key("court receipt, P-256"), sm2Key("court receipt, SM2")}
}

func validReceipts() []receiptValid {
	keys := receiptKeys()
	var out []receiptValid
	put := func(k *key, size, index int) {
		out = append(out, newReceipt(k, size, index).vector(fmt.Sprintf("entry %d of %d, %s", index, size, k.name)))
	}
	for _, at := range [][2]int{{1, 0}, {2, 0}, {2, 1}, {3, 2}, {5, 4}, {7, 3}, {8, 7}, {255, 254}, {256, 0}, {257, 256}, {300, 255}} {
		put(keys[0], at[0], at[1])
	}
	put(keys[1], 7, 6)
	put(keys[2], 6, 5)
	return out
}

func invalidReceipts() []invalid {
	var v invalids
	r := newReceipt(edKey("court receipt"), 7, 3)
	good, p, proof := r.bytes(), r.protected(), r.proof()
	prot, sig := p.encode(), good[len(good)-64:]
	un := vdp(proof).encode()
	v.add("no bytes", nil, "empty", "receipt")
	v.add("one byte more than allowed", cat(good, make([]byte, 4097-len(good))), "oversize", "receipt")
	start := 4 + len(prot)
	v.add("cut off after the tag", good[:1], malformed, "receipt")
	v.add("cut off in the protected header", good[:30], malformed, "protected")
	v.add("cut off before the unprotected header", good[:start], malformed, "unprotected")
	v.add("cut off in the proof", good[:start+30], malformed, "unprotected.vdp.inclusion")
	v.add("cut off before the payload", good[:start+len(un)], malformed, "payload")
	v.add("cut off before the signature", good[:start+len(un)+1], malformed, "signature")
	v.add("cut off in the last byte", good[:len(good)-1], malformed, "signature")
	v.add("a byte follows", cat(good, []byte{0}), malformed, "receipt")
	v.add("untagged", good[1:], malformed, "receipt")
	v.add("array of three", cat([]byte{0xd2, 0x83}, good[2:]), malformed, "receipt")

	u := func(name string, unprotected []byte, code, field string) {
		v.add(name, r.with(prot, unprotected), code, field)
	}
	u("unprotected header empty", []byte{0xa0}, malformed, "unprotected")
	u("unprotected header with another label", append(vdp(proof), pair{num(lReceipts), array()}).encode(), malformed, "unprotected")
	u("label 394 in place of 396", fields{{num(lReceipts), vdp(proof)[0].value}}.encode(), malformed, "unprotected.vdp")
	u("label 396 not shortest", fields{{mustHex("1a0000018c"), vdp(proof)[0].value}}.encode(), notDet, "unprotected.vdp")
	u("unprotected header of indefinite length", cat([]byte{0xbf}, un[1:], []byte{0xff}), notDet, "unprotected")
	u("a consistency proof", fields{{num(lVDP), fields{{num(-2), array(bstr(proof))}}.encode()}}.encode(), malformed, "unprotected.vdp")
	u("both kinds of proof", fields{{num(lVDP), fields{{num(-1), array(bstr(proof))}, {num(-2), array()}}.encode()}}.encode(), malformed, "unprotected.vdp")
	u("two inclusion proofs", fields{{num(lVDP), fields{{num(-1), array(bstr(proof), bstr(proof))}}.encode()}}.encode(), malformed, "unprotected.vdp.inclusion")
	u("no inclusion proof", fields{{num(lVDP), fields{{num(-1), array()}}.encode()}}.encode(), malformed, "unprotected.vdp.inclusion")
	u("proof not wrapped in an array", fields{{num(lVDP), fields{{num(-1), bstr(proof)}}.encode()}}.encode(), malformed, "unprotected.vdp.inclusion")
	u("proof not wrapped in bytes", fields{{num(lVDP), fields{{num(-1), array(proof)}}.encode()}}.encode(), malformed, "unprotected.vdp.inclusion")

	path := treePath(3, r.entries)
	i := func(name string, inner []byte, code, field string) { u(name, vdp(inner).encode(), code, field) }
	i("proof of two parts", array(num(7), num(3)), malformed, "inclusion")
	i("proof of four parts", array(num(7), num(3), array(pathItems(path)...), num(0)), malformed, "inclusion")
	i("proof with bytes after it", cat(proof, []byte{0}), malformed, "inclusion")
	i("proof empty", nil, malformed, "inclusion")
	i("proof of indefinite length", cat([]byte{0x9f}, proof[1:], []byte{0xff}), notDet, "inclusion")
	i("tree size not shortest", cat([]byte{0x83, 0x18, 7}, proof[2:]), notDet, "inclusion.tree-size")
	i("tree size negative", array(num(-7), num(3), array(pathItems(path)...)), malformed, "inclusion.tree-size")
	i("tree size above 63 bits", proofBytes(1<<63, 3, path), malformed, "inclusion.tree-size")
	i("tree size zero", proofBytes(0, 0, nil), malformed, "inclusion.tree-size")
	v.add("tree size zero, signed", r.with(p.with(lTreeSize, num(0)).encode(), vdp(proofBytes(0, 0, nil)).encode()), malformed, "inclusion.leaf-index")
	v.add("tree size signed, none in the proof", r.with(prot, vdp(array(num(3), array(pathItems(path)...))).encode()), malformed, "inclusion")
	for _, c := range sameTurns() {
		of := newReceipt(r.key, c.size, c.index)
		v.add(c.name()+" in the proof", of.with(of.protected().encode(), vdp(proofBytes(c.toSize, c.toIndex, treePath(c.index, of.entries))).encode()), malformed, "inclusion.tree-size")
	}
	i("leaf index equal to the tree size", proofBytes(7, 7, path), malformed, "inclusion.leaf-index")
	i("leaf index is text", array(num(7), tstr("3"), array(pathItems(path)...)), malformed, "inclusion.leaf-index")
	i("path null", array(num(7), num(3), []byte{0xf6}), malformed, "inclusion.path")
	i("path with a digest of 31 bytes", array(num(7), num(3), array(bstr(path[0][:31]), bstr(path[1]), bstr(path[2]))), malformed, "inclusion.path")
	i("path of 65 digests", proofBytes(7, 3, slicesOf(path[0], 65)), malformed, "inclusion.path")

	h := func(name string, f fields, code, field string) { v.add(name, r.with(f.encode(), un), code, field) }
	for _, l := range []int64{lAlg, lKID, lClaims, lVDS, lTreeSize} {
		h(fmt.Sprintf("label %d missing", l), p.without(l), malformed, "protected")
	}
	h("an unknown label, 16", p.add(lVDS, num(16), tstr("x")), malformed, "protected")
	h("kid before alg", p.swap(lAlg, lKID), malformed, "protected.alg")
	h("alg twice", append(fields{p[0]}, p[0], p[2], p[3], p[4]), malformed, "protected.kid")
	h("alg -19", p.with(lAlg, num(-19)), "wrong-algorithm", "protected.alg")
	h("alg is text", p.with(lAlg, tstr("ES256")), malformed, "protected.alg")
	h("kid of 31 bytes", p.with(lKID, bstr(r.key.kid()[:31])), malformed, "protected.kid")
	h("vds 2", p.with(lVDS, num(2)), malformed, "protected.vds")
	h("vds missing, another label in its place", p.as(lVDS, num(lVDP)), malformed, "protected.vds")
	h("tree size before vds", p.swap(lVDS, lTreeSize), malformed, "protected.vds")
	h("tree size twice", append(fields{}, p[0], p[1], p[2], p[4], p[4]), malformed, "protected.vds")
	h("label -70005 in place of -70004", p.as(lTreeSize, num(-70005)), malformed, "protected.tree-size")
	h("label -70004 not shortest", p.as(lTreeSize, mustHex("3b0000000000011173")), notDet, "protected.tree-size")
	h("a sixth label, crit, that names the tree size", p.add(lKID, num(2), array(num(lTreeSize))), malformed, "protected")
	h("signed tree size not shortest", p.with(lTreeSize, []byte{0x18, 7}), notDet, "protected.tree-size")
	h("signed tree size negative", p.with(lTreeSize, num(-7)), malformed, "protected.tree-size")
	h("signed tree size is text", p.with(lTreeSize, tstr("7")), malformed, "protected.tree-size")
	h("signed tree size above 63 bits", p.with(lTreeSize, head(0, 1<<63)), malformed, "protected.tree-size")
	h("signed tree size is another than the proof's", p.with(lTreeSize, num(8)), malformed, "inclusion.tree-size")
	cl := func(name string, f fields, code, field string) { h(name, p.with(lClaims, f.encode()), code, field) }
	full := claims(institution, origin, blockTime)
	cl("sub missing", full.without(2), malformed, "protected.claims")
	cl("sub before iss", full.swap(1, 2), malformed, "protected.claims.iss")
	cl("iss empty", full.with(1, tstr("")), malformed, "protected.claims.iss")
	cl("iss in upper case", full.with(1, tstr("Court")), malformed, "protected.claims.iss")
	cl("sub empty", full.with(2, tstr("")), malformed, "protected.claims.sub")
	cl("sub with a line feed", full.with(2, tstr(origin+"\n")), malformed, "protected.claims.sub")
	cl("sub with a plus sign", full.with(2, tstr("a+b")), malformed, "protected.claims.sub")
	cl("sub of 256 bytes", full.with(2, tstr(strings.Repeat("a", 256))), malformed, "protected.claims.sub")
	cl("iat in milliseconds", full.with(6, num(blockTime*1000)), malformed, "protected.claims.iat")
	cl("iat negative", full.with(6, num(-1)), malformed, "protected.claims.iat")
	v.add("protected map of indefinite length", r.with(cat([]byte{0xbf}, prot[1:], []byte{0xff}), un), notDet, "protected")
	v.add("a byte follows within the protected header", r.with(cat(prot, []byte{0}), un), malformed, "protected")

	v.add("payload attached", sign1(prot, un, bstr(r.root()), sig), malformed, "payload")
	v.add("payload empty", sign1(prot, un, bstr(nil), sig), malformed, "payload")
	v.add("signature of 63 bytes", sign1(prot, un, []byte{0xf6}, sig[:63]), malformed, "signature")
	v.add("signature of 65 bytes", sign1(prot, un, []byte{0xf6}, cat(sig, []byte{0})), malformed, "signature")
	return v
}

func slicesOf(d []byte, n int) [][]byte {
	out := make([][]byte, n)
	for i := range out {
		out[i] = d
	}
	return out
}

// receiptRefused is a receipt that reads well and proves nothing.
type receiptRefused struct {
	Name   string `json:"name"`
	Key    string `json:"key"`
	Entry  string `json:"entry"`
	Bytes  string `json:"bytes"`
	Reason string `json:"reason"` // path or signature
}

func refusedReceipts() []receiptRefused {
	k := edKey("court receipt")
	r := newReceipt(k, 7, 3)
	prot := r.protected().encode()
	var out []receiptRefused
	put := func(name, key string, entry, b []byte, reason string) {
		out = append(out, receiptRefused{name, key, hex.EncodeToString(entry), hex.EncodeToString(b), reason})
	}
	entry := r.entries[3]
	path := treePath(3, r.entries)
	proof := func(size, index uint64, path [][]byte) []byte {
		return r.with(r.protected().with(lTreeSize, head(0, size)).encode(), vdp(proofBytes(size, index, path)).encode())
	}
	put("another entry", k.name, r.entries[4], r.bytes(), "signature")
	put("another key", "court receipt, P-256", entry, r.bytes(), "signature")
	good := r.bytes()
	flipped := bytes.Clone(good)
	flipped[len(flipped)-1] ^= 1
	put("signature changed", k.name, entry, flipped, "signature")
	put("another index", k.name, entry, proof(7, 2, path), "signature")
	put("another size with another turn of the path", k.name, r.entries[6], proof(8, 6, slicesOf(path[0], 3)), "signature")
	put("a size that asks for a longer path", k.name, entry, proof(9, 3, path), "path")
	put("a path one digest short", k.name, entry, proof(7, 3, path[:2]), "path")
	put("a path one digest long", k.name, entry, proof(7, 3, append(append([][]byte{}, path...), path[0])), "path")
	put("a path in the wrong order", k.name, entry, proof(7, 3, [][]byte{path[1], path[0], path[2]}), "signature")
	put("an empty path in a tree of seven", k.name, entry, proof(7, 3, nil), "path")
	put("a digest in the path of a tree of one", k.name, entry, proof(1, 0, path[:1]), "path")
	put("block time changed after signing", k.name, entry, sign1(r.protected().with(lClaims, claims(institution, origin, blockTime+1).encode()).encode(), vdp(r.proof()).encode(), []byte{0xf6}, good[len(good)-64:]), "signature")
	put("log changed after signing", k.name, entry, sign1(r.protected().with(lClaims, claims(institution, origin+"0", blockTime).encode()).encode(), vdp(r.proof()).encode(), []byte{0xf6}, good[len(good)-64:]), "signature")
	for _, c := range sameTurns() {
		of := newReceipt(k, c.size, c.index)
		signed := of.bytes()
		b := sign1(of.protected().with(lTreeSize, head(0, c.toSize)).encode(), vdp(proofBytes(c.toSize, c.toIndex, treePath(c.index, of.entries))).encode(), []byte{0xf6}, signed[len(signed)-64:])
		put(c.name()+" in the proof and in the header", k.name, of.entries[c.index], b, "signature")
	}
	identity := mustHex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05")
	put("R of order 8: only the cofactored rule accepts it", k.name, entry, sign1(prot, vdp(r.proof()).encode(), []byte{0xf6}, k.signWithR(identity, little(make([]byte, 32)), sigStructure(prot, r.root()))), "signature")
	return out
}

// samePath is another tree size and index to which the path of an entry leads
// with the same turns, and so to the same root.
type samePath struct {
	size, index     int
	toSize, toIndex uint64
}

func sameTurns() []samePath {
	return []samePath{{7, 3, 8, 3}, {7, 3, 5, 3}, {7, 6, 4, 3}, {5, 4, 2, 1}}
}

func (s samePath) name() string {
	return fmt.Sprintf("entry %d of %d says %d of %d", s.index, s.size, s.toIndex, s.toSize)
}

// transparent is a statement with its receipts.
type transparent struct {
	Name      string   `json:"name"`
	Statement string   `json:"statement"`
	Receipts  []string `json:"receipts"`
	Bytes     string   `json:"bytes"`
}

func transparentStatements(c *cast) []transparent {
	s := c.opening
	entries := append(treeEntries(4), s.digest())
	var out []transparent
	for _, n := range []int{1, 3} {
		var rs []string
		var items [][]byte
		for _, k := range receiptKeys()[:n] {
			b := (&receipt{k, 5, 4, entries}).bytes()
			rs, items = append(rs, hex.EncodeToString(b)), append(items, bstr(b))
		}
		good := s.bytes()
		b := sign1(s.protected().encode(), fields{{num(lReceipts), array(items...)}}.encode(), bstr(s.payload), good[len(good)-64:])
		out = append(out, transparent{fmt.Sprintf("with %d of receipts", n), hex.EncodeToString(good), rs, hex.EncodeToString(b)})
	}
	return out
}
