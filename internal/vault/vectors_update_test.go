package vault

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"filippo.io/age"
	"github.com/transparency-dev/merkle/compact"

	"github.com/zhenglian/zhenglian/evidence"
)

// TestUpdateVectors writes spec/vectors/vault with -update, and does nothing
// without. What the files say is checked by the TestVectors tests.
func TestUpdateVectors(t *testing.T) {
	if !*update {
		t.Skip("writes only with -update")
	}
	write := func(name string, v any) {
		b, err := json.MarshalIndent(v, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(vectorDir, name), append(b, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	root := vectorRoot()
	must := func(k key, err error) key {
		if err != nil {
			t.Fatal(err)
		}
		return k
	}

	var tree treeVectors
	tree.Root = root[:]
	for _, n := range []compact.NodeID{{Level: 32}, {Level: 31}, {Level: 31, Index: 1}, {Level: 10}, {Level: 5, Index: 9}, {Level: 1}, {Level: 0}, {Level: 0, Index: 1}, {Level: 0, Index: 2}, {Level: 0, Index: 1023}, {Level: 0, Index: 1<<32 - 2}} {
		p := keyPath{top: keyNode{height: Depth, key: root}}
		k := must(p.node(n.Level, n.Index))
		tree.Nodes = append(tree.Nodes, struct {
			Height uint     `json:"height"`
			Index  uint64   `json:"index"`
			Key    hexBytes `json:"key"`
		}{n.Level, n.Index, k[:]})
	}
	for _, i := range []uint64{0, 1, 2, 3, 1023, 1<<32 - 2} {
		p := keyPath{top: keyNode{height: Depth, key: root}}
		leaf := must(p.node(0, i))
		k, s := must(expand(leaf, infoChunk)), must(expand(leaf, infoSalt))
		tree.Chunks = append(tree.Chunks, struct {
			Chunk uint64   `json:"chunk"`
			Key   hexBytes `json:"aes_key"`
			Salt  hexBytes `json:"leaf_salt"`
		}{i, k[:], s[:]})
	}
	for _, c := range [][2]uint64{{300, 345}, {0, 1}, {0, 1024}, {1, 1023}, {3, 7}, {0, 1<<32 - 1}} {
		var nodes [][2]uint64
		for _, n := range compact.RangeNodes(c[0], c[1], nil) {
			nodes = append(nodes, [2]uint64{uint64(n.Level), n.Index})
		}
		tree.Covers = append(tree.Covers, struct {
			Begin uint64      `json:"begin"`
			End   uint64      `json:"end"`
			Nodes [][2]uint64 `json:"nodes"`
		}{c[0], c[1], nodes})
	}
	write("keytree.json", tree)

	var objects []objectVector
	for _, n := range []int64{0, 1, ChunkSize - 1, ChunkSize, ChunkSize + 1, 3 * ChunkSize, 6*ChunkSize + 100} {
		o, data := sealVector(t, root, n)
		objects = append(objects, objectVector{root[:], o, chunkVectors(o, data), int64(len(data)), sha256.Sum256(data)})
	}
	write("objects.json", objects)

	hv := updateHead(t, root)
	write("head.json", hv)

	var disclosures []disclosureVector
	const size = 6*ChunkSize + 100
	for _, r := range [][2]int64{{ChunkSize + 5, 3 * ChunkSize}, {0, 1}, {size - 1, 1}, {0, size}, {2 * ChunkSize, ChunkSize}} {
		o, data := sealVector(t, root, size)
		leaves := make([]evidence.Digest, o.Chunks)
		for i, c := range chunkVectors(o, data) {
			leaves[i] = c.PlaintextLeaf
		}
		d, err := disclose(o, root, leaves, r[0], r[1])
		if err != nil {
			t.Fatal(err)
		}
		b, err := d.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		begin, end := coverChunks(r[0], r[1])
		sealed := data[begin*sealed1 : min(int64(end)*sealed1, tableOffset(size))]
		disclosures = append(disclosures, disclosureVector{root[:], o, r[0], r[1], b, int64(len(sealed)),
			sha256.Sum256(sealed), sha256.Sum256(vectorPlain(size)[r[0] : r[0]+r[1]])})
	}
	write("disclosures.json", disclosures)
	write("invalid.json", invalidVectors(t, root, hv, disclosures[0]))
}

func updateHead(t *testing.T, root key) headVectors {
	owner, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	friend, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	o, _ := sealVector(t, root, ChunkSize+1)
	h := head{id: dataID(bytes.Repeat([]byte{0xd1}, 16)), object: o}
	g := grant{id: h.id}
	wrap := func(r *age.X25519Recipient) wrappedKey {
		id, err := RecipientID(r)
		if err != nil {
			t.Fatal(err)
		}
		w, err := wrapKey(root, id, r)
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	h.keys, g.wrap = []wrappedKey{wrap(owner.Recipient())}, wrap(friend.Recipient())
	h.mac = macOf(t, root, h.unsigned())
	g.mac = macOf(t, root, g.unsigned())
	k, err := expand(root, infoHead)
	if err != nil {
		t.Fatal(err)
	}
	return headVectors{root[:], h.id[:], o, owner.String(), owner.Recipient().String(), friend.String(), friend.Recipient().String(), k[:], h.marshal(), g.marshal()}
}

func macOf(t *testing.T, root key, b []byte) [macLen]byte {
	m, err := headMAC(root, b)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// invalidVectors changes one thing each; MACs are made anew where the change
// is not to the MAC, so that nothing else is wrong.
func invalidVectors(t *testing.T, root key, hv headVectors, dv disclosureVector) (out []invalidVector) {
	add := func(kind, name string, b []byte, reason string) {
		out = append(out, invalidVector{Kind: kind, Name: name, Bytes: b, Reason: reason})
	}
	// edit changes a copy of what the MAC covers and makes the MAC anew.
	edit := func(b []byte, f func(b []byte) []byte) []byte {
		b = f(bytes.Clone(b[:len(b)-macLen]))
		m := macOf(t, root, b)
		return append(b, m[:]...)
	}
	set := func(at int, v ...byte) func([]byte) []byte {
		return func(b []byte) []byte { copy(b[at:], v); return b }
	}
	const count, wrap = headFixed, headFixed + 2
	h := hv.Head
	body := h[wrap : len(h)-macLen]
	add("head", "empty", nil, "is cut off")
	add("head", "magic", edit(h, set(0, 'X')), "does not begin with")
	add("head", "size above the limit", edit(h, set(24, 0, 0x10)), "above the limit")
	add("head", "no wrapped key", edit(h, func(b []byte) []byte { return append(b[:count], 0, 0) }), "0 wrapped keys")
	add("head", "65 wrapped keys", edit(h, set(count, 0, 65)), "65 wrapped keys")
	add("head", "cut off in a wrapped key", edit(h, set(count, 0, 2)), "cut off in a wrapped key")
	add("head", "wrapped key of no bytes", edit(h, func(b []byte) []byte { return append(b[:wrap+32], 0, 0) }), "wrapped key of 0 bytes")
	add("head", "wrapped key too long", edit(h, set(wrap+32, 0x40, 0x01)), "wrapped key of 16385 bytes")
	add("head", "recipient twice", edit(h, func(b []byte) []byte { b[count+1] = 2; return append(b, body...) }), "ascending order")
	add("head", "bytes after the end", edit(h, func(b []byte) []byte { return append(b, 0) }), "33 bytes after the wrapped keys")
	add("head", "MAC cut off", h[:len(h)-1], "31 bytes after the wrapped keys")
	add("head key", "MAC", set(len(h)-1, h[len(h)-1]^1)(bytes.Clone(h)), "MAC under the object's key does not match")
	add("head key", "other object", edit(h, set(32, h[32]^1)), "it is the head of object")
	add("head key", "plaintext root", edit(h, set(96, h[96]^1)), "plaintext leaves do not give their root")
	add("head key", "ciphertext root", edit(h, set(128, h[128]^1)), "ciphertext leaves do not give their root")
	add("head key", "SM3", edit(h, set(64, h[64]^1)), "SM3 digest is another")
	add("head key", "size", edit(h, set(31, h[31]^2)), "data blob has")
	add("head key", "data blob missing", edit(h, set(8, 0)), "data blob is missing")

	g := hv.Grant
	add("grant", "empty", nil, "is cut off")
	add("grant", "magic", edit(g, set(0, 'X')), "does not begin with")
	add("grant", "bytes after the end", edit(g, func(b []byte) []byte { return append(b, 0) }), "33 bytes after the wrapped key")
	add("grant key", "MAC", set(len(g)-1, g[len(g)-1]^1)(bytes.Clone(g)), "MAC under the object's key does not match")
	add("grant key", "other object", edit(g, set(8, 0)), "another object or to another key")
	add("grant key", "other recipient", edit(g, set(24, g[24]^1)), "another object or to another key")
	fr, err := age.ParseX25519Recipient(hv.FriendRecipient)
	if err != nil {
		t.Fatal(err)
	}
	var short bytes.Buffer // a root key of 31 bytes
	w, err := age.Encrypt(&short, fr)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(root[:31]); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	add("grant key", "root key of 31 bytes", edit(g, func(b []byte) []byte {
		return appendWrap(b[:24], wrappedKey{evidence.Digest(g[24:56]), short.Bytes()})
	}), "root key of 31 bytes")

	d := dv.Disclosure
	be := func(n int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(n)) }
	dset := func(at int, v ...byte) []byte { return set(at, v...)(bytes.Clone(d)) }
	add("disclosure", "empty", nil, "is cut off")
	add("disclosure", "magic", dset(0, 'X'), "does not begin with")
	add("disclosure", "size above the limit", dset(8, be(MaxSize+1)...), "is not within 0 and")
	add("disclosure", "size of the top bit", dset(8, 0x80), "is not within 0 and")
	add("disclosure", "no bytes", dset(88, be(0)...), "not within the object's")
	add("disclosure", "past the end", dset(88, be(dv.Object.Size)...), "not within the object's")
	add("disclosure", "offset of the top bit", dset(80, 0x80), "not within the object's")
	add("disclosure", "a hash too few", d[:len(d)-32], "this range takes")
	add("disclosure", "a byte too many", append(bytes.Clone(d), 0), "this range takes")
	add("disclosure proof", "other object", dset(16, d[16]^1), "of another object")
	add("disclosure proof", "other size", dset(8, be(dv.Object.Size-1)...), "of another object")
	add("disclosure proof", "other root", dset(48, d[48]^1), "of another object")
	add("disclosure proof", "node key", dset(disclosureFixed, d[disclosureFixed]^1), "chunk 1 is damaged")
	add("disclosure proof", "proof hash", dset(len(d)-1, d[len(d)-1]^1), "do not give the object's plaintext root")
	flip := sealed1 + 9
	out = append(out, invalidVector{"disclosure proof", "sealed chunk", d, &flip, "chunk 2 is damaged"})
	return out
}
