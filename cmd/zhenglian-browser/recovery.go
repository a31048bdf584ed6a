//go:build js && wasm

package main

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"

	"filippo.io/age"
	"github.com/corvus-ch/shamir"

	"github.com/zhenglian/zhenglian/evidence"
)

// paperGroup is how many characters stand together on paper: as many as people
// copy at one glance.
const paperGroup = 4

const identityPrefix = "AGE-SECRET-KEY-1"

// paper writes an identity for printing. It stays an age identity with its own
// checksum (bech32: any error in up to four characters is found); blanks and
// line ends do not count.
func paper(identity string) string {
	var b strings.Builder
	b.WriteString(identityPrefix)
	rest := strings.TrimPrefix(identity, identityPrefix)
	for i := 0; i < len(rest); i += paperGroup {
		b.WriteByte(' ')
		b.WriteString(rest[i:min(i+paperGroup, len(rest))])
	}
	return b.String()
}

// readRecovery reads a recovery key as somebody typed it from paper.
func readRecovery(text string) (*age.X25519Identity, error) {
	typed := strings.ToUpper(strings.Join(strings.Fields(strings.NewReplacer("—", "-", "–", "-", "－", "-").Replace(text)), ""))
	id, err := age.ParseX25519Identity(typed)
	if err != nil {
		return nil, &codedError{"recovery-key", fmt.Errorf("the checksum of the recovery key does not fit: compare it with the paper, group by group: %w", err)}
	}
	return id, nil
}

// A share of a recovery key, before it is sealed to its holder:
//
//	"ZLSHARE1" ‖ threshold (1 byte) ‖ first 8 bytes of SHA-256 of the recipient ‖ x (1 byte) ‖ share
//
// The digest tells shares of different keys apart, and that the joined key is
// the one that was split. Shares are over GF(2^8), one polynomial a byte.
const shareMagic = "ZLSHARE1"

const (
	shareMark = 8
	shareHead = len(shareMagic) + 1 + shareMark + 1
	maxShares = 16 // more institutions than a member would ask
)

// splitRecovery splits a recovery key so that any k of the holders can give it
// back, and fewer know nothing of it. Each share is an age file for its holder.
func splitRecovery(key string, k int, holders []string) ([][]byte, error) {
	id, err := readRecovery(key)
	if err != nil {
		return nil, err
	}
	if k < 2 || k > len(holders) || len(holders) > maxShares {
		return nil, inputError("%d of %d shares: want at least 2, at most all, and at most %d holders", k, len(holders), maxShares)
	}
	to, err := recipients(holders)
	if err != nil {
		return nil, err
	}
	parts, err := shamir.Split([]byte(id.String()), len(holders), k)
	if err != nil {
		return nil, fmt.Errorf("splitting the recovery key: %w", err)
	}
	mark := recoveryMark(id)
	out := make([][]byte, 0, len(holders))
	for x, y := range parts {
		share := append([]byte(shareMagic), byte(k))
		share = append(append(share, mark[:]...), x)
		share = append(share, y...)
		var sealed bytes.Buffer
		w, err := age.Encrypt(&sealed, to[len(out)])
		if err == nil {
			_, err = w.Write(share)
		}
		if err == nil {
			err = w.Close()
		}
		if err != nil {
			return nil, fmt.Errorf("sealing share %d: %w", len(out)+1, err)
		}
		out = append(out, sealed.Bytes())
	}
	return out, nil
}

// openShare opens a share with its holder's identity.
func openShare(sealed []byte, identity string) (share []byte, threshold int, err error) {
	id, err := age.ParseX25519Identity(strings.TrimSpace(identity))
	if err != nil {
		return nil, 0, inputError("the holder's identity cannot be read: %v", err)
	}
	r, err := age.Decrypt(bytes.NewReader(sealed), id)
	if err != nil {
		return nil, 0, &codedError{"shares", fmt.Errorf("opening the share: %w", err)}
	}
	if share, err = io.ReadAll(io.LimitReader(r, 1024)); err != nil {
		return nil, 0, &codedError{"shares", fmt.Errorf("opening the share: %w", err)}
	}
	if len(share) <= shareHead || string(share[:len(shareMagic)]) != shareMagic {
		return nil, 0, &codedError{"shares", errors.New("this is no share of a recovery key")}
	}
	return share, int(share[len(shareMagic)]), nil
}

// joinRecovery puts opened shares together. Too few, or one of another key,
// give an error and never another key.
func joinRecovery(shares [][]byte) (*age.X25519Identity, error) {
	parts := map[byte][]byte{}
	var head []byte
	for i, s := range shares {
		if len(s) <= shareHead || string(s[:len(shareMagic)]) != shareMagic {
			return nil, &codedError{"shares", fmt.Errorf("share %d is no share of a recovery key", i+1)}
		}
		if h := s[:shareHead-1]; head == nil {
			head = h
		} else if !bytes.Equal(head, h) {
			return nil, &codedError{"shares", fmt.Errorf("share %d is of another recovery key", i+1)}
		}
		parts[s[shareHead-1]] = s[shareHead:]
	}
	if head == nil || len(parts) < int(head[len(shareMagic)]) {
		need := 2
		if head != nil {
			need = int(head[len(shareMagic)])
		}
		return nil, &codedError{"shares", fmt.Errorf("%d different shares are given, %d are needed", len(parts), need)}
	}
	key, err := shamir.Combine(parts)
	if err != nil {
		return nil, &codedError{"shares", fmt.Errorf("joining the shares: %w", err)}
	}
	id, err := age.ParseX25519Identity(string(key))
	if err != nil {
		return nil, &codedError{"shares", errors.New("the shares do not join to a recovery key: one of them is damaged")}
	}
	if mark := recoveryMark(id); !bytes.Equal(mark[:], head[len(shareMagic)+1:]) {
		return nil, &codedError{"shares", errors.New("the shares join to another key than was split")}
	}
	return id, nil
}

func recoveryMark(id *age.X25519Identity) (mark [shareMark]byte) {
	d := evidence.SumSHA256([]byte(id.Recipient().String()))
	copy(mark[:], d[:])
	return mark
}

func recipients(texts []string) ([]age.Recipient, error) {
	out := make([]age.Recipient, len(texts))
	for i, t := range texts {
		r, err := age.ParseX25519Recipient(strings.TrimSpace(t))
		if err != nil {
			return nil, inputError("recipient %d cannot be read: %v", i+1, err)
		}
		out[i] = r
	}
	return out, nil
}

func identities(texts []string) ([]age.Identity, error) {
	out := make([]age.Identity, len(texts))
	for i, t := range texts {
		id, err := readRecovery(t) // a device's identity has the same form
		if err != nil {
			return nil, inputError("identity %d cannot be read", i+1)
		}
		out[i] = id
	}
	return out, nil
}

// codedError carries the word by which the page tells failures apart.
type codedError struct {
	code string
	err  error
}

func (e *codedError) Error() string { return e.err.Error() }
func (e *codedError) Unwrap() error { return e.err }

func inputError(format string, args ...any) error {
	return &codedError{"input", fmt.Errorf(format, args...)}
}

func base64URL(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
