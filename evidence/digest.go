package evidence

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// Digest is a SHA-256 (or, where a field says so, SM3) digest: 32 bytes.
// Its text form is 64 lower-case hexadecimal digits.
type Digest [32]byte

// SumSHA256 returns the SHA-256 digest of data.
func SumSHA256(data []byte) Digest { return sha256.Sum256(data) }

// String returns the 64 lower-case hexadecimal digits.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// IsZero reports whether every byte is zero, which no real digest is.
func (d Digest) IsZero() bool { return d == Digest{} }

// MarshalText implements encoding.TextMarshaler, for JSON.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText accepts exactly what MarshalText writes.
func (d *Digest) UnmarshalText(text []byte) error {
	v, err := ParseDigest(string(text))
	if err != nil {
		return err
	}
	*d = v
	return nil
}

// ParseDigest reads 64 lower-case hexadecimal digits. Upper case, prefixes and
// blanks are refused, so that one digest has one text.
func ParseDigest(s string) (Digest, error) {
	var d Digest
	if len(s) != 64 {
		return d, fmt.Errorf("digest has %d characters, want 64 lower-case hexadecimal digits", len(s))
	}
	for i := 0; i < len(s); i++ {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return d, fmt.Errorf("digest has %q at character %d, want lower-case hexadecimal digits", c, i+1)
		}
	}
	_, err := hex.Decode(d[:], []byte(s))
	return d, err
}
