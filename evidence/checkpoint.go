package evidence

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Cosignature is one institution's cosignature/v1 (C2SP tlog-cosignature) over
// a checkpoint: it saw this root at this time of its own clock.
type Cosignature struct {
	Name      string // Alliance.CosignerName
	KeyID     [4]byte
	Time      int64 // seconds since 1970
	Signature []byte
}

// CosignedCheckpoint is a checkpoint of the public log with its cosignatures
// (C2SP tlog-checkpoint): a signed note with origin, size and root.
type CosignedCheckpoint struct {
	Origin string
	Checkpoint
	Cosignatures []Cosignature
}

// cosignatureType is the signature type byte of cosignature/v1.
const cosignatureType = 0x04

// Body returns the text that is signed, without the blank line and signatures.
func (c *CosignedCheckpoint) Body() string {
	return fmt.Sprintf("%s\n%d\n%s\n", c.Origin, c.Size, base64.StdEncoding.EncodeToString(c.Root[:]))
}

// Encode returns the signed note.
func (c *CosignedCheckpoint) Encode() []byte {
	var b bytes.Buffer
	b.WriteString(c.Body())
	b.WriteByte('\n')
	for _, s := range c.Cosignatures {
		raw := append([]byte{}, s.KeyID[:]...)
		raw = binary.BigEndian.AppendUint64(raw, uint64(s.Time))
		raw = append(raw, s.Signature...)
		fmt.Fprintf(&b, "— %s %s\n", s.Name, base64.StdEncoding.EncodeToString(raw))
	}
	return b.Bytes()
}

// CosignerKeyID returns the key ID of a cosigning key under a name.
func CosignerKeyID(name string, key *PublicKey) (id [4]byte) {
	h := sha256.Sum256(append([]byte(name+"\n\x04"), key.Raw()...))
	copy(id[:], h[:])
	return id
}

// CosignerVKey returns the key in the text form that tlog clients take:
// name+id+base64(0x04‖key).
func CosignerVKey(name string, key *PublicKey) string {
	id := CosignerKeyID(name, key)
	return fmt.Sprintf("%s+%08x+%s", name, binary.BigEndian.Uint32(id[:]), base64.StdEncoding.EncodeToString(append([]byte{cosignatureType}, key.Raw()...)))
}

// Cosign signs the checkpoint with an institution's Ed25519 cosigning key.
func (c *CosignedCheckpoint) Cosign(signer Signer, name string, now int64) (Cosignature, error) {
	if alg := signer.Public().Algorithm(); alg != EdDSA {
		return Cosignature{}, fmt.Errorf("cosigning the checkpoint: cosignature/v1 is made with an Ed25519 key, not %s", alg)
	}
	sig, err := signer.Sign(c.cosignMessage(now))
	if err != nil {
		return Cosignature{}, fmt.Errorf("cosigning the checkpoint: %w", err)
	}
	return Cosignature{Name: name, KeyID: CosignerKeyID(name, signer.Public()), Time: now, Signature: sig}, nil
}

func (c *CosignedCheckpoint) cosignMessage(now int64) []byte {
	return fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s", now, c.Body())
}

// VerifyCosignature checks one cosignature with the key of that name, strictly:
// other readers of signed notes refuse the whole note for one line that does
// not verify by their rule.
func (c *CosignedCheckpoint) VerifyCosignature(s Cosignature, key *PublicKey) error {
	if key.Algorithm() != EdDSA {
		return fmt.Errorf("%w: cosignature/v1 is made with an Ed25519 key, not %s", ErrBadSignature, key.Algorithm())
	}
	if s.KeyID != CosignerKeyID(s.Name, key) {
		return fmt.Errorf("%w: key ID %x is another key's", ErrBadSignature, s.KeyID)
	}
	return key.VerifyStrict(c.cosignMessage(s.Time), s.Signature)
}

// MaxCheckpoint is the largest cosigned checkpoint read, in bytes:
// MaxInstitutions lines of under 400 bytes each.
const MaxCheckpoint = 64 << 10

// validNoteName reports whether s can stand as a checkpoint's origin or a
// cosigner's name: what C2SP signed-note allows, in visible ASCII.
func validNoteName(s string) bool {
	if len(s) == 0 || len(s) > 255 {
		return false
	}
	for i := 0; i < len(s); i++ {
		if s[i] <= ' ' || s[i] > '~' || s[i] == '+' {
			return false
		}
	}
	return true
}

// ParseCheckpoint reads a signed note that holds exactly origin, size and root
// and only cosignature/v1 signatures, in the form that Encode writes. No
// signature is checked.
func ParseCheckpoint(data []byte) (*CosignedCheckpoint, error) {
	bad := func(field, format string, args ...any) (*CosignedCheckpoint, error) {
		return nil, &FormatError{Code: CodeMalformed, Field: "checkpoint." + field, Reason: fmt.Sprintf(format, args...)}
	}
	if len(data) == 0 {
		return nil, &FormatError{Code: CodeEmpty, Field: "checkpoint", Reason: "there are no bytes"}
	}
	if len(data) > MaxCheckpoint {
		return nil, &FormatError{Code: CodeOversize, Field: "checkpoint", Offset: MaxCheckpoint, Reason: fmt.Sprintf("%d bytes, at most %d are allowed", len(data), MaxCheckpoint)}
	}
	if !utf8.Valid(data) {
		return bad("text", "not UTF-8")
	}
	body, sigs, ok := strings.Cut(string(data), "\n\n")
	lines := strings.Split(body, "\n")
	if !ok || len(lines) != 3 {
		return bad("text", "want three lines (origin, size, root), a blank one, and signatures")
	}
	c := &CosignedCheckpoint{Origin: lines[0]}
	if !validNoteName(c.Origin) {
		return bad("origin", "want 1 to 255 visible ASCII characters without '+'")
	}
	size, err := strconv.ParseUint(lines[1], 10, 63)
	if err != nil {
		return bad("size", "%q is not a decimal number", lines[1])
	}
	root, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil || len(root) != 32 {
		return bad("root", "want the base64 of 32 bytes")
	}
	c.Size, c.Root = size, Digest(root)
	for line := range strings.Lines(sigs) {
		name, b64, ok := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(line, "— "), "\n"), " ")
		raw, err := base64.StdEncoding.DecodeString(b64)
		if !ok || !validNoteName(name) || err != nil || len(raw) != 4+8+SignatureSize {
			return bad("signature", "%q is not a cosignature/v1 line", line)
		}
		t := binary.BigEndian.Uint64(raw[4:])
		if t > maxTime {
			return bad("signature", "time %d is not in seconds since 1970", t)
		}
		for _, s := range c.Cosignatures {
			if s.Name == name {
				return bad("signature", "%s cosigns twice", name)
			}
		}
		c.Cosignatures = append(c.Cosignatures, Cosignature{Name: name, KeyID: [4]byte(raw), Time: int64(t), Signature: raw[12:]})
		if len(c.Cosignatures) > MaxInstitutions {
			return bad("signature", "more than %d cosignatures", MaxInstitutions)
		}
	}
	if len(c.Cosignatures) == 0 {
		return bad("signature", "there is none")
	}
	if !bytes.Equal(c.Encode(), data) {
		return bad("text", "not in the one form this checkpoint is written in")
	}
	return c, nil
}
