package vault

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
	"github.com/transparency-dev/merkle/compact"

	"github.com/zhenglian/zhenglian/evidence"
)

var update = flag.Bool("update", false, "write spec/vectors/vault anew")

const vectorDir = "../../spec/vectors/vault"

// hexBytes is a byte string written as lower-case hexadecimal digits.
type hexBytes []byte

func (h hexBytes) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(h)), nil }
func (h *hexBytes) UnmarshalText(b []byte) (err error) {
	*h, err = hex.DecodeString(string(b))
	return err
}

type treeVectors struct {
	Root  hexBytes `json:"root"`
	Nodes []struct {
		Height uint     `json:"height"`
		Index  uint64   `json:"index"`
		Key    hexBytes `json:"key"`
	} `json:"nodes"`
	Chunks []struct {
		Chunk uint64   `json:"chunk"`
		Key   hexBytes `json:"aes_key"`
		Salt  hexBytes `json:"leaf_salt"`
	} `json:"chunks"`
	Covers []struct {
		Begin uint64      `json:"begin"`
		End   uint64      `json:"end"`
		Nodes [][2]uint64 `json:"nodes"` // height, index
	} `json:"covers"`
}

type objectVector struct {
	Root       hexBytes        `json:"root"`
	Object     Object          `json:"object"`
	Chunks     []chunkVector   `json:"chunks"`
	DataLength int64           `json:"data_length"`
	DataSHA256 evidence.Digest `json:"data_sha256"`
}

type chunkVector struct {
	SealedSHA256   evidence.Digest `json:"sealed_sha256"`
	PlaintextLeaf  evidence.Digest `json:"plaintext_leaf"`
	CiphertextLeaf evidence.Digest `json:"ciphertext_leaf"`
}

type headVectors struct {
	Root            hexBytes `json:"root"`
	DataID          hexBytes `json:"data_id"`
	Object          Object   `json:"object"`
	OwnerIdentity   string   `json:"owner_identity"`
	OwnerRecipient  string   `json:"owner_recipient"`
	FriendIdentity  string   `json:"grantee_identity"`
	FriendRecipient string   `json:"grantee_recipient"`
	MACKey          hexBytes `json:"mac_key"`
	Head            hexBytes `json:"head"`
	Grant           hexBytes `json:"grant"`
}

type disclosureVector struct {
	Root            hexBytes        `json:"root"`
	Object          Object          `json:"object"`
	Offset          int64           `json:"offset"`
	Length          int64           `json:"length"`
	Disclosure      hexBytes        `json:"disclosure"`
	SealedLength    int64           `json:"sealed_length"`
	SealedSHA256    evidence.Digest `json:"sealed_sha256"`
	PlaintextSHA256 evidence.Digest `json:"plaintext_sha256"`
}

// invalidVector is refused for one reason alone. Kind says where: "head" and
// "grant" when read; "head key" and "grant key" when opened with the identity
// of head.json; "disclosure" when read; "disclosure proof" when opened with
// the sealed chunks of the first entry of disclosures.json, of which byte Flip
// is changed first where it is given.
type invalidVector struct {
	Kind   string   `json:"kind"`
	Name   string   `json:"name"`
	Bytes  hexBytes `json:"bytes"`
	Flip   *int     `json:"flip,omitempty"`
	Reason string   `json:"reason"`
}

func vectorRoot() (k key) {
	for i := range k {
		k[i] = byte(i)
	}
	return k
}

// vectorPlain is the vectors' plaintext: the first n bytes of SHA-256(seed ‖ 0),
// SHA-256(seed ‖ 1), … with an 8-byte big-endian counter.
func vectorPlain(n int64) []byte {
	b := make([]byte, 0, n+32)
	for i := uint64(0); int64(len(b)) < n; i++ {
		s := sha256.Sum256(binary.BigEndian.AppendUint64([]byte("zhenglian/vault/v1 vector"), i))
		b = append(b, s[:]...)
	}
	return b[:n]
}

func sealVector(t *testing.T, root key, n int64) (Object, []byte) {
	t.Helper()
	var b bytes.Buffer
	o, err := seal(t.Context(), bytes.NewReader(vectorPlain(n)), root, &b, nil, func(Object) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	return o, b.Bytes()
}

func readVectors[T any](t testing.TB, name string) (v T) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(vectorDir, name))
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return v
}

func TestVectorsKeyTree(t *testing.T) {
	v := readVectors[treeVectors](t, "keytree.json")
	// One path for all, in file order: jumps back and forth must not matter.
	path := keyPath{top: keyNode{height: Depth, key: key(v.Root)}}
	for _, n := range v.Nodes {
		k, err := path.node(n.Height, n.Index)
		if err != nil || !bytes.Equal(k[:], n.Key) {
			t.Errorf("node %d.%d = %x, %v, want %x", n.Height, n.Index, k, err, n.Key)
		}
	}
	for _, c := range v.Chunks {
		leaf, err := path.node(0, c.Chunk)
		if err != nil {
			t.Fatal(err)
		}
		k, err := expand(leaf, infoChunk)
		if err != nil || !bytes.Equal(k[:], c.Key) {
			t.Errorf("chunk %d key = %x, %v, want %x", c.Chunk, k, err, c.Key)
		}
		s, err := expand(leaf, infoSalt)
		if err != nil || !bytes.Equal(s[:], c.Salt) {
			t.Errorf("chunk %d salt = %x, %v, want %x", c.Chunk, s, err, c.Salt)
		}
	}
	for _, c := range v.Covers {
		got := compact.RangeNodes(c.Begin, c.End, nil)
		if len(got) != len(c.Nodes) {
			t.Errorf("cover of [%d, %d) has %d nodes, want %d", c.Begin, c.End, len(got), len(c.Nodes))
			continue
		}
		for i, n := range got {
			if uint64(n.Level) != c.Nodes[i][0] || n.Index != c.Nodes[i][1] {
				t.Errorf("cover of [%d, %d): node %d is %v, want %v", c.Begin, c.End, i, n, c.Nodes[i])
			}
		}
	}
	if c := v.Covers[0]; c.End-c.Begin != 45 || len(c.Nodes) != 5 {
		t.Errorf("the first cover is of %d chunks by %d nodes, want 45 by 5", c.End-c.Begin, len(c.Nodes))
	}
}

func TestVectorsObjects(t *testing.T) {
	for _, v := range readVectors[[]objectVector](t, "objects.json") {
		o, data := sealVector(t, key(v.Root), v.Object.Size)
		if o != v.Object {
			t.Errorf("object of %d bytes is %+v, want %+v", v.Object.Size, o, v.Object)
		}
		if int64(len(data)) != v.DataLength || sha256.Sum256(data) != v.DataSHA256 {
			t.Errorf("data blob of %d bytes differs", v.Object.Size)
		}
		for i, c := range chunkVectors(o, data) {
			if c != v.Chunks[i] {
				t.Errorf("object of %d bytes: chunk %d is %+v, want %+v", o.Size, i, c, v.Chunks[i])
			}
		}
		if int64(len(v.Chunks)) != o.Chunks {
			t.Errorf("object of %d bytes has %d chunks in the vector", o.Size, len(v.Chunks))
		}
	}
}

func chunkVectors(o Object, data []byte) []chunkVector {
	out := make([]chunkVector, o.Chunks)
	table := data[tableOffset(o.Size):]
	for i := range out {
		n := chunkLen(o.Size, uint64(i)) + tagSize
		out[i] = chunkVector{
			sha256.Sum256(data[i*sealed1 : i*sealed1+n]),
			evidence.Digest(table[32*i:]),
			evidence.Digest(table[32*(len(out)+i):]),
		}
	}
	return out
}

// vectorVault is a vault that holds exactly the blobs of head.json.
func vectorVault(t *testing.T, v headVectors, head, grant []byte) *Vault {
	t.Helper()
	s := new(Memory)
	_, data := sealVector(t, key(v.Root), v.Object.Size)
	friend, err := age.ParseX25519Recipient(v.FriendRecipient)
	if err != nil {
		t.Fatal(err)
	}
	id, err := RecipientID(friend)
	if err != nil {
		t.Fatal(err)
	}
	for n, b := range map[string][]byte{
		headName(v.Object.SHA256):       head,
		dataName(dataID(v.DataID)):      data,
		grantName(dataID(v.DataID), id): grant,
	} {
		if err := s.Put(t.Context(), n, func(w io.Writer) error { _, err := w.Write(b); return err }); err != nil {
			t.Fatal(err)
		}
	}
	return New(s)
}

func identity(t *testing.T, s string) age.Identity {
	t.Helper()
	id, err := age.ParseX25519Identity(s)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestVectorsHead(t *testing.T) {
	v := readVectors[headVectors](t, "head.json")
	h, err := parseHead(v.Head)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(h.marshal(), v.Head) || h.object != v.Object || !bytes.Equal(h.id[:], v.DataID) {
		t.Errorf("head reads as %+v", h)
	}
	if k, err := expand(key(v.Root), infoHead); err != nil || !bytes.Equal(k[:], v.MACKey) {
		t.Errorf("MAC key %x, %v, want %x", k, err, v.MACKey)
	}
	vlt := vectorVault(t, v, v.Head, v.Grant)
	for _, id := range []string{v.OwnerIdentity, v.FriendIdentity} {
		c, err := vlt.Open(t.Context(), v.Object.SHA256, identity(t, id))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, vectorPlain(v.Object.Size)) {
			t.Errorf("content is %d bytes, %v", len(got), err)
		}
	}
}

func (v disclosureVector) sealed(t *testing.T) []byte {
	_, data := sealVector(t, key(v.Root), v.Object.Size)
	begin, _ := coverChunks(v.Offset, v.Length)
	return data[begin*sealed1:][:v.SealedLength]
}

func TestVectorsDisclosure(t *testing.T) {
	for i, v := range readVectors[[]disclosureVector](t, "disclosures.json") {
		d, err := ParseDisclosure(v.Disclosure)
		if err != nil {
			t.Fatalf("disclosure %d: %v", i, err)
		}
		if b, err := d.MarshalBinary(); err != nil || !bytes.Equal(b, v.Disclosure) {
			t.Errorf("disclosure %d is written otherwise: %v", i, err)
		}
		o, data := sealVector(t, key(v.Root), v.Object.Size)
		leaves := make([]evidence.Digest, o.Chunks)
		for j, c := range chunkVectors(o, data) {
			leaves[j] = c.PlaintextLeaf
		}
		made, err := disclose(o, key(v.Root), leaves, v.Offset, v.Length)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := made.MarshalBinary(); err != nil || !bytes.Equal(b, v.Disclosure) {
			t.Errorf("disclosure %d is made otherwise: %v", i, err)
		}
		sealed := v.sealed(t)
		if sha256.Sum256(sealed) != v.SealedSHA256 {
			t.Errorf("disclosure %d: sealed chunks differ", i)
		}
		c, err := d.Open(v.Object, bytes.NewReader(sealed))
		if err != nil {
			t.Fatalf("disclosure %d: %v", i, err)
		}
		if got, err := io.ReadAll(c); err != nil || sha256.Sum256(got) != v.PlaintextSHA256 {
			t.Errorf("disclosure %d: content differs, %v", i, err)
		}
	}
}

func TestVectorsInvalid(t *testing.T) {
	hv := readVectors[headVectors](t, "head.json")
	dv := readVectors[[]disclosureVector](t, "disclosures.json")[0]
	for _, v := range readVectors[[]invalidVector](t, "invalid.json") {
		t.Run(v.Kind+"/"+v.Name, func(t *testing.T) {
			var err error
			switch v.Kind {
			case "head":
				_, err = parseHead(v.Bytes)
			case "grant":
				_, err = parseGrant(v.Bytes)
			case "head key":
				_, err = vectorVault(t, hv, v.Bytes, hv.Grant).Open(t.Context(), hv.Object.SHA256, identity(t, hv.OwnerIdentity))
			case "grant key":
				_, err = vectorVault(t, hv, hv.Head, v.Bytes).Open(t.Context(), hv.Object.SHA256, identity(t, hv.FriendIdentity))
			case "disclosure":
				_, err = ParseDisclosure(v.Bytes)
			case "disclosure proof":
				sealed := dv.sealed(t)
				if v.Flip != nil {
					sealed[*v.Flip] ^= 1
				}
				var d *Disclosure
				if d, err = ParseDisclosure(v.Bytes); err != nil {
					t.Fatalf("not read: %v", err)
				}
				_, err = d.Open(dv.Object, bytes.NewReader(sealed))
			default:
				t.Fatalf("unknown kind %q", v.Kind)
			}
			if err == nil || !strings.Contains(err.Error(), v.Reason) {
				t.Errorf("got %v, want %q", err, v.Reason)
			}
		})
	}
}

func FuzzParseHead(f *testing.F) {
	v := readVectors[headVectors](f, "head.json")
	f.Add([]byte(v.Head))
	for _, bad := range readVectors[[]invalidVector](f, "invalid.json") {
		f.Add([]byte(bad.Bytes))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, err := parseHead(b); err == nil && !bytes.Equal(h.marshal(), b) {
			t.Error("a head has two forms")
		} else if err != nil && !errors.Is(err, errFormat) {
			t.Errorf("refused without errFormat: %v", err)
		}
	})
}

func FuzzParseGrant(f *testing.F) {
	f.Add([]byte(readVectors[headVectors](f, "head.json").Grant))
	f.Fuzz(func(t *testing.T, b []byte) {
		if g, err := parseGrant(b); err == nil && !bytes.Equal(g.marshal(), b) {
			t.Error("a grant has two forms")
		}
	})
}

func FuzzParseDisclosure(f *testing.F) {
	for _, v := range readVectors[[]disclosureVector](f, "disclosures.json") {
		f.Add([]byte(v.Disclosure))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := ParseDisclosure(b)
		if err != nil {
			return
		}
		if again, err := d.MarshalBinary(); err != nil || !bytes.Equal(again, b) {
			t.Errorf("a disclosure has two forms: %v", err)
		}
		// Nothing sealed at all: an error, never a panic.
		if _, err := d.Open(Object{SHA256: d.Object, Size: d.Size, PlaintextRoot: d.PlaintextRoot}, bytes.NewReader(nil)); err == nil {
			t.Error("a disclosure opens without its chunks")
		}
	})
}
