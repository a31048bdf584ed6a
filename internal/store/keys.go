package store

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

const (
	keyFileTitle = "zhenglian store keys v1"
	sealedV1     = 1
	keyIDSize    = 4
	sealLabel    = "zhenglian column v1\x00"
	blindLabel   = "zhenglian blind index v1\x00"
)

// ErrSealed: a sealed value does not open in its place: it was altered, moved,
// or sealed under a key that is not in the key file.
var ErrSealed = errors.New("an encrypted value does not open: it was altered or moved, or its key is missing")

// Keys seals columns. It is the content of a key file: one key for blind
// indexes and one or more for values, the last of which seals.
//
//	zhenglian store keys v1
//	index BASE64(32 bytes)
//	seal 8HEXDIGITS BASE64(32 bytes)
//	…
//
// Keys prints as nothing, so that it cannot get into a log.
type Keys struct {
	index []byte
	seals []sealKey
}

type sealKey struct {
	id   [keyIDSize]byte
	raw  []byte
	aead cipher.AEAD
}

// String keeps the keys out of messages.
func (*Keys) String() string { return "store keys" }

// GoString keeps the keys out of messages.
func (*Keys) GoString() string { return "store keys" }

// OpenKeys reads the key file at path, and makes it, with random keys, when it
// is not there. A file that others can read is refused.
func OpenKeys(path string) (*Keys, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		k := &Keys{index: random(32)}
		if err := k.add(newID(nil), random(32)); err != nil {
			return nil, err
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return nil, err
		}
		if err := k.write(path); err != nil {
			return nil, fmt.Errorf("making the key file of the database: %w", err)
		}
		return k, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the key file of the database: %w", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("the key file %s can be read by others (mode %04o): set it to 0600", path, info.Mode().Perm())
	}
	k, err := parseKeys(string(data))
	if err != nil {
		return nil, fmt.Errorf("the key file %s: %w", path, err)
	}
	return k, nil
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b) // never fails (crypto/rand)
	return b
}

// newID gives an id that no key of the file has.
func newID(have []sealKey) [keyIDSize]byte {
	for {
		id := [keyIDSize]byte(random(keyIDSize))
		taken := false
		for _, k := range have {
			taken = taken || k.id == id
		}
		if !taken {
			return id
		}
	}
}

func (k *Keys) add(id [keyIDSize]byte, raw []byte) error {
	block, err := aes.NewCipher(raw)
	if err != nil {
		return err
	}
	// Random 96-bit nonces: fewer than 2^32 values under one key (NIST SP
	// 800-38D §8.3), which the rows of one institution do not reach.
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return err
	}
	k.seals = append(k.seals, sealKey{id, raw, aead})
	return nil
}

// parseKeys reads the file's text; errors name lines, never what they hold.
func parseKeys(text string) (*Keys, error) {
	k := new(Keys)
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if lines[0] != keyFileTitle {
		return nil, fmt.Errorf("line 1 is not %q", keyFileTitle)
	}
	for i, line := range lines[1:] {
		f := strings.Fields(line)
		var raw []byte
		var err error
		if len(f) > 1 {
			raw, err = base64.StdEncoding.DecodeString(f[len(f)-1])
		}
		switch {
		case err != nil, len(raw) != 32:
			return nil, fmt.Errorf("line %d has no key of 32 bytes in base64", i+2)
		case f[0] == "index" && len(f) == 2 && k.index == nil:
			k.index = raw
		case f[0] == "seal" && len(f) == 3:
			var id [keyIDSize]byte
			n, err := strconv.ParseUint(f[1], 16, 32)
			if err != nil || len(f[1]) != 2*keyIDSize {
				return nil, fmt.Errorf("line %d has no key id of 8 hex digits", i+2)
			}
			binary.BigEndian.PutUint32(id[:], uint32(n))
			if err := k.add(id, raw); err != nil {
				return nil, err
			}
		default:
			return nil, fmt.Errorf("line %d is neither the one \"index KEY\" nor \"seal ID KEY\"", i+2)
		}
	}
	if k.index == nil || len(k.seals) == 0 {
		return nil, errors.New("it needs one line \"index KEY\" and at least one \"seal ID KEY\"")
	}
	return k, nil
}

// write puts the file in place whole: a power cut leaves the old or the new one.
func (k *Keys) write(path string) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\nindex %s\n", keyFileTitle, base64.StdEncoding.EncodeToString(k.index))
	for _, s := range k.seals {
		fmt.Fprintf(&b, "seal %x %s\n", s.id[:], base64.StdEncoding.EncodeToString(s.raw))
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".keys-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if _, err := f.WriteString(b.String()); err != nil {
		f.Close()
		return err
	}
	if err := f.Sync(); err != nil {
		f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// place is the associated data: a value opens only where it was sealed.
func place(table, column, row string) []byte {
	b := []byte(sealLabel)
	for _, s := range []string{table, column, row} {
		b = binary.BigEndian.AppendUint64(b, uint64(len(s)))
		b = append(b, s...)
	}
	return b
}

// Seal encrypts a value for one place. The result is a version byte, the key's
// id, and nonce and ciphertext with tag: 33 bytes more than the value.
func (k *Keys) Seal(table, column, row string, plain []byte) []byte {
	s := k.seals[len(k.seals)-1]
	out := append([]byte{sealedV1}, s.id[:]...)
	return s.aead.Seal(out, nil, plain, place(table, column, row))
}

// Open decrypts a value of Seal in its place. It fails with ErrSealed, wrapped.
func (k *Keys) Open(table, column, row string, sealed []byte) ([]byte, error) {
	if len(sealed) > 1+keyIDSize && sealed[0] == sealedV1 {
		for _, s := range k.seals {
			if s.id == [keyIDSize]byte(sealed[1:1+keyIDSize]) {
				if plain, err := s.aead.Open(nil, nil, sealed[1+keyIDSize:], place(table, column, row)); err == nil {
					return plain, nil
				}
			}
		}
	}
	return nil, fmt.Errorf("%s.%s: %w", table, column, ErrSealed)
}

// current says whether a value is sealed under the key that seals now.
func (k *Keys) current(sealed []byte) bool {
	return len(sealed) > 1+keyIDSize && sealed[0] == sealedV1 && k.seals[len(k.seals)-1].id == [keyIDSize]byte(sealed[1:1+keyIDSize])
}

// Blind returns what stands for a value in an index that only equality can
// search: HMAC-SHA-256 under the index key. Without the key file nobody can try
// all ID numbers against it. It is not the same in two purposes.
func (k *Keys) Blind(purpose, value string) []byte {
	h := hmac.New(sha256.New, k.index)
	h.Write([]byte(blindLabel))
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], uint64(len(purpose)))
	h.Write(n[:])
	h.Write([]byte(purpose))
	h.Write([]byte(value))
	return h.Sum(nil)
}

// Column is a sealed column of a table: Row is the column with the row's name
// in Seal.
type Column struct{ Table, Column, Row string }

// Rotate adds a new sealing key to the key file at path. Values sealed before
// still open; Reseal moves them to the new key, and Retire then forgets the old.
// The key of blind indexes stays: it is in every indexed row.
func (k *Keys) Rotate(path string) (*Keys, error) {
	next := &Keys{index: k.index, seals: append([]sealKey(nil), k.seals...)}
	if err := next.add(newID(k.seals), random(32)); err != nil {
		return nil, err
	}
	return next, next.write(path)
}

// Retire forgets all sealing keys but the present one. Call it only after
// Reseal went through every sealed column: what is left under them is lost.
func (k *Keys) Retire(path string) (*Keys, error) {
	next := &Keys{index: k.index, seals: k.seals[len(k.seals)-1:]}
	return next, next.write(path)
}

// Reseal seals every value of the columns under the present key, each in a
// transaction of its own, so that it can be stopped and started again. It
// returns how many it changed.
func (k *Keys) Reseal(ctx context.Context, db *DB, columns []Column) (int, error) {
	changed := 0
	for _, c := range columns {
		// Names come from the program, not from a person: see Column.
		rows, err := Collect[string](db.Query(ctx, fmt.Sprintf("SELECT %s FROM %s WHERE %s IS NOT NULL", c.Row, c.Table, c.Column)))(func(r *Rows) (row string, err error) {
			return row, r.Scan(&row)
		})
		if err != nil {
			return changed, fmt.Errorf("listing %s.%s: %w", c.Table, c.Column, err)
		}
		for _, row := range rows {
			did := false
			err := db.In(ctx, func(tx *Tx) error {
				did = false
				var sealed []byte
				err := tx.QueryRow(ctx, fmt.Sprintf("SELECT %s FROM %s WHERE %s = $1", c.Column, c.Table, c.Row), row).Scan(&sealed)
				if errors.Is(err, ErrNone) || err == nil && (sealed == nil || k.current(sealed)) {
					return nil
				}
				if err != nil {
					return err
				}
				plain, err := k.Open(c.Table, c.Column, row, sealed)
				if err != nil {
					return err
				}
				did = true
				_, err = tx.Exec(ctx, fmt.Sprintf("UPDATE %s SET %s = $1 WHERE %s = $2", c.Table, c.Column, c.Row), k.Seal(c.Table, c.Column, row, plain), row)
				return err
			})
			if err != nil {
				return changed, fmt.Errorf("sealing %s.%s again: %w", c.Table, c.Column, err)
			}
			if did {
				changed++
			}
		}
	}
	return changed, nil
}
