package evidence

import (
	"fmt"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
)

const (
	vdsRFC9162 = 1 // RFC9162_SHA256, RFC 9942 §5.1

	proofInclusion   = -1
	proofConsistency = -2
)

// RootSignature is an institution's signature over a root of the log and its
// size, as a COSE_Sign1 with detached payload has it (RFC 9942 §5.2). The root
// is the payload; the size, which the RFC leaves unsigned, is in the protected
// header (spec/receipt.md, R16). Receipts for every entry under that root are
// derived from it.
type RootSignature struct {
	Algorithm Algorithm
	KID       Digest // the institution's receipt key
	Issuer    string // the institution's id
	Log       string // the log's origin line, Alliance.Origin: the receipt's subject
	IssuedAt  int64  // block time of the root, seconds since 1970
	Size      uint64 // entries of the log under the root
	Protected []byte // the encoded protected header
	Signature []byte // raw, 64 bytes
}

// SignRoot signs size and root of the log of that origin as the block of that
// time (seconds since 1970) left it.
func SignRoot(signer Signer, institution, origin string, blockTime int64, log Checkpoint) (*RootSignature, error) {
	r := &RootSignature{Algorithm: signer.Public().Algorithm(), KID: signer.Public().KID(), Issuer: institution, Log: origin, IssuedAt: blockTime, Size: log.Size}
	b := appendHead(nil, majorMap, 5)
	b = appendInt(appendInt(b, labelAlg), int64(r.Algorithm))
	b = appendBytes(appendInt(b, labelKID), r.KID[:])
	b = appendHead(appendInt(b, labelClaims), majorMap, 3)
	b = appendText(appendInt(b, claimIss), r.Issuer)
	b = appendText(appendInt(b, claimSub), r.Log)
	b = appendInt(appendInt(b, claimIat), r.IssuedAt)
	b = appendInt(appendInt(b, labelVDS), vdsRFC9162)
	r.Protected = appendHead(appendInt(b, labelTreeSize), majorUint, r.Size)
	var err error
	if r.Signature, err = signer.Sign(appendSigStructure(nil, r.Protected, log.Root[:])); err != nil {
		return nil, fmt.Errorf("signing the root: %w", err)
	}
	return r, nil
}

// NewRootSignature reads the two parts strictly; the signature is not checked.
func NewRootSignature(protected, signature []byte) (*RootSignature, error) {
	r := &RootSignature{Protected: protected, Signature: signature}
	c := &cursor{data: protected}
	c.fields("protected", 5)
	c.field("protected.alg", labelAlg)
	r.Algorithm = c.algorithm("protected.alg")
	c.field("protected.kid", labelKID)
	r.KID = c.digest("protected.kid")
	c.field("protected.claims", labelClaims)
	c.fields("protected.claims", 3)
	c.field("protected.claims.iss", claimIss)
	r.Issuer = c.id("protected.claims.iss")
	c.field("protected.claims.sub", claimSub)
	if r.Log = string(c.text("protected.claims.sub")); c.err == nil && !validNoteName(r.Log) {
		c.fail(CodeMalformed, "protected.claims.sub", "want the origin line of a log")
	}
	c.field("protected.claims.iat", claimIat)
	r.IssuedAt = c.seconds("protected.claims.iat")
	c.field("protected.vds", labelVDS)
	if vds := c.uint("protected.vds"); c.err == nil && vds != vdsRFC9162 {
		c.fail(CodeMalformed, "protected.vds", "%d, want 1 (RFC9162_SHA256)", vds)
	}
	c.field("protected.tree-size", labelTreeSize)
	r.Size = c.size("protected.tree-size")
	c.end("protected")
	if c.err == nil && len(signature) != SignatureSize {
		c.fail(CodeMalformed, "signature", "it has %d bytes, want %d", len(signature), SignatureSize)
	}
	return r, c.error()
}

// Verify checks the signature over root with the institution's key, strictly:
// receipts are for other people's verifiers too, and these differ on what only
// the strict rule refuses.
func (r *RootSignature) Verify(key *PublicKey, root Digest) error {
	if key.KID() != r.KID || key.Algorithm() != r.Algorithm {
		return fmt.Errorf("%w: it is by key %s", ErrBadSignature, r.KID)
	}
	return key.VerifyStrict(appendSigStructure(nil, r.Protected, root[:]), r.Signature)
}

// Receipt encodes the receipt for the entry at index in the tree of the signed
// size, whose inclusion path (RFC 9162 §2.1.3) the caller has from the log.
func (r *RootSignature) Receipt(index uint64, path []Digest) []byte {
	p := appendHead(nil, majorArray, 3)
	p = appendHead(p, majorUint, r.Size)
	p = appendHead(p, majorUint, index)
	p = appendHead(p, majorArray, uint64(len(path)))
	for i := range path {
		p = appendBytes(p, path[i][:])
	}
	u := appendHead(nil, majorMap, 1)
	u = appendHead(appendInt(u, labelVDP), majorMap, 1)
	u = appendHead(appendInt(u, proofInclusion), majorArray, 1)
	u = appendBytes(u, p)
	return encodeSign1(r.Protected, u, nil, r.Signature)
}

// Receipt is an institution's proof that an entry is in the log, and where (RFC
// 9942). The proof repeats the signed Size; ParseReceipt holds them equal.
type Receipt struct {
	RootSignature
	LeafIndex uint64 // below Size
	Path      []Digest
}

// MaxReceipt is the largest receipt read, in bytes: a path of 64 digests has
// 2,200, the headers and signature under 600.
const MaxReceipt = 4096

// ParseReceipt reads a receipt strictly. The error is a *FormatError, also when
// the proof is of another tree size than the signed one. Neither signature nor
// path is checked.
func ParseReceipt(data []byte) (*Receipt, error) {
	if len(data) == 0 {
		return nil, &FormatError{Code: CodeEmpty, Field: "receipt", Reason: "there are no bytes"}
	}
	if len(data) > MaxReceipt {
		return nil, &FormatError{Code: CodeOversize, Field: "receipt", Offset: MaxReceipt, Reason: fmt.Sprintf("%d bytes, at most %d are allowed", len(data), MaxReceipt)}
	}
	c := &cursor{data: data}
	c.literal("receipt", 0xd2, 0x84)
	protected := c.bytes("protected")
	c.fields("unprotected", 1)
	c.field("unprotected.vdp", labelVDP)
	c.fields("unprotected.vdp", 1)
	c.field("unprotected.vdp", proofInclusion)
	if n := c.array("unprotected.vdp.inclusion"); c.err == nil && n != 1 {
		c.fail(CodeMalformed, "unprotected.vdp.inclusion", "%d proofs, want one", n)
	}
	inner := c.bytes("unprotected.vdp.inclusion")
	c.literal("payload", 0xf6)
	signature := c.bytes("signature")
	c.end("receipt")
	if c.err != nil {
		return nil, c.err
	}
	root, err := NewRootSignature(protected, signature)
	if err != nil {
		return nil, err
	}
	r := &Receipt{RootSignature: *root}
	c = &cursor{data: inner}
	if n := c.array("inclusion"); c.err == nil && n != 3 {
		c.fail(CodeMalformed, "inclusion", "an array of %d, want [size, index, path]", n)
	}
	if size := c.size("inclusion.tree-size"); c.err == nil && size != r.Size {
		c.fail(CodeMalformed, "inclusion.tree-size", "%d, and the signed tree size is %d", size, r.Size)
	}
	r.LeafIndex = c.size("inclusion.leaf-index")
	n := c.array("inclusion.path")
	if c.err == nil && n > 64 {
		c.fail(CodeMalformed, "inclusion.path", "%d digests, more than any tree has levels", n)
	}
	for ; n > 0 && c.err == nil; n-- {
		r.Path = append(r.Path, c.digest("inclusion.path"))
	}
	c.end("inclusion")
	if c.err == nil && r.LeafIndex >= r.Size {
		c.fail(CodeMalformed, "inclusion.leaf-index", "%d is not below the tree size %d", r.LeafIndex, r.Size)
	}
	if c.err != nil {
		return nil, c.err
	}
	return r, nil
}

// Root computes the root that the path leads to from entry.
func (r *Receipt) Root(entry Digest) (Digest, error) {
	path := make([][]byte, len(r.Path))
	for i := range r.Path {
		path[i] = r.Path[i][:]
	}
	root, err := proof.RootFromInclusionProof(rfc6962.DefaultHasher, r.LeafIndex, r.Size, rfc6962.DefaultHasher.HashLeaf(entry[:]), path)
	if err != nil {
		return Digest{}, fmt.Errorf("inclusion path: %w", err)
	}
	return Digest(root), nil
}

// VerifyInclusion checks that key signed Size and a root under which entry
// stands at LeafIndex. The index is proven though it is not signed: it is the
// only one to which these turns lead in a tree of that size (spec/receipt.md,
// R16).
func (r *Receipt) VerifyInclusion(key *PublicKey, entry Digest) error {
	root, err := r.Root(entry)
	if err != nil {
		return err
	}
	return r.Verify(key, root)
}

// AttachReceipts returns the transparent statement: the registered bytes with
// the receipts in unprotected label 394 (RFC 9942 §4.3, RFC 9943).
func AttachReceipts(s *Statement, receipts [][]byte) []byte {
	u := appendHead(nil, majorMap, 1)
	u = appendHead(appendInt(u, labelReceipts), majorArray, uint64(len(receipts)))
	for _, r := range receipts {
		u = appendBytes(u, r)
	}
	return encodeSign1(s.protected, u, s.Payload, s.Signature)
}
