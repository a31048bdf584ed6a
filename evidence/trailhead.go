package evidence

import "fmt"

// TypeTrailHead is the content type of a signed trail head.
const TypeTrailHead = "application/vnd.zhenglian.trail-head+cbor"

// TrailHead says what an institution's log held of a trail at one tree size,
// so that a reader without the log can tell whether steps were withheld.
type TrailHead struct {
	Institution string
	IssuedAt    int64  // block time of the checkpoint, seconds since 1970
	Trail       Digest // digest of the opening statement
	Count       uint64 // statements in the trail
	Last        Digest // digest of the last one
	Checkpoint         // as of this tree size and root

	KID       Digest // the institution's attestation key
	alg       Algorithm
	protected []byte
	payload   []byte
	signature []byte
}

// Sign returns the trail head as COSE_Sign1 by the institution's attestation key.
func (h TrailHead) Sign(signer Signer) ([]byte, error) {
	kid := signer.Public().KID()
	p := appendHead(nil, majorMap, 4)
	p = appendInt(appendInt(p, labelAlg), int64(signer.Public().Algorithm()))
	p = appendText(appendInt(p, labelContentType), TypeTrailHead)
	p = appendBytes(appendInt(p, labelKID), kid[:])
	p = appendHead(appendInt(p, labelClaims), majorMap, 3)
	p = appendText(appendInt(p, claimIss), h.Institution)
	p = appendText(appendInt(p, claimSub), TrailSubject(h.Trail))
	p = appendInt(appendInt(p, claimIat), h.IssuedAt)
	b := appendHead(nil, majorMap, 5)
	b = appendBytes(appendInt(b, 1), h.Trail[:])
	b = appendHead(appendInt(b, 2), majorUint, h.Count)
	b = appendBytes(appendInt(b, 3), h.Last[:])
	b = appendHead(appendInt(b, 4), majorUint, h.Size)
	b = appendBytes(appendInt(b, 5), h.Root[:])
	sig, err := signer.Sign(appendSigStructure(nil, p, b))
	if err != nil {
		return nil, fmt.Errorf("signing the trail head: %w", err)
	}
	return encodeSign1(p, nil, b, sig), nil
}

// ParseTrailHead reads a signed trail head strictly; the signature is not checked.
func ParseTrailHead(data []byte) (*TrailHead, error) {
	h := new(TrailHead)
	if len(data) == 0 {
		return nil, &FormatError{Code: CodeEmpty, Field: "trail-head", Reason: "there are no bytes"}
	}
	if len(data) > MaxStatement {
		return nil, &FormatError{Code: CodeOversize, Field: "trail-head", Offset: MaxStatement, Reason: fmt.Sprintf("%d bytes, at most %d are allowed", len(data), MaxStatement)}
	}
	c := &cursor{data: data}
	c.literal("trail-head", 0xd2, 0x84)
	h.protected = c.bytes("protected")
	c.fields("unprotected", 0)
	h.payload = c.bytes("payload")
	h.signature = c.bytes("signature")
	c.end("trail-head")
	if c.err != nil {
		return nil, c.err
	}
	c = &cursor{data: h.protected}
	c.fields("protected", 4)
	c.field("protected.alg", labelAlg)
	h.alg = c.algorithm("protected.alg")
	c.field("protected.content-type", labelContentType)
	if t := c.text("protected.content-type"); c.err == nil && string(t) != TypeTrailHead {
		c.fail(CodeMalformed, "protected.content-type", "%q, want %q", t, TypeTrailHead)
	}
	c.field("protected.kid", labelKID)
	h.KID = c.digest("protected.kid")
	c.field("protected.claims", labelClaims)
	c.fields("protected.claims", 3)
	c.field("protected.claims.iss", claimIss)
	h.Institution = c.id("protected.claims.iss")
	c.field("protected.claims.sub", claimSub)
	sub := string(c.text("protected.claims.sub"))
	c.field("protected.claims.iat", claimIat)
	h.IssuedAt = c.seconds("protected.claims.iat")
	c.end("protected")
	if c.err != nil {
		return nil, c.err
	}
	c = &cursor{data: h.payload}
	c.fields("payload", 5)
	c.field("payload.trail", 1)
	h.Trail = c.digest("payload.trail")
	c.field("payload.count", 2)
	h.Count = c.size("payload.count")
	c.field("payload.last", 3)
	h.Last = c.digest("payload.last")
	c.field("payload.size", 4)
	h.Size = c.size("payload.size")
	c.field("payload.root", 5)
	h.Root = c.digest("payload.root")
	c.end("payload")
	if c.err == nil && (h.Count == 0 || h.Count > h.Size) {
		c.fail(CodeMalformed, "payload.count", "%d statements in a log of %d", h.Count, h.Size)
	}
	if c.err == nil && sub != TrailSubject(h.Trail) {
		c.fail(CodeMalformed, "protected.claims.sub", "%q is not the trail of the payload", sub)
	}
	if c.err == nil && len(h.signature) != SignatureSize {
		c.fail(CodeMalformed, "signature", "it has %d bytes, want %d", len(h.signature), SignatureSize)
	}
	if c.err != nil {
		return nil, c.err
	}
	return h, nil
}

// Verify checks the signature with the institution's attestation key, strictly.
func (h *TrailHead) Verify(key *PublicKey) error {
	if key.KID() != h.KID || key.Algorithm() != h.alg {
		return fmt.Errorf("%w: it is by key %s", ErrBadSignature, h.KID)
	}
	return key.VerifyStrict(appendSigStructure(nil, h.protected, h.payload), h.signature)
}
