package signing

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/zhenglian/zhenglian/evidence"
)

// KeyStore is where one holder's private keys are, by name, such as "receipt".
// Dir keeps them in files, Mixed some of them on PKCS#11 tokens, chosen by
// configuration; those sign inside the token.
type KeyStore interface {
	// Key returns the key of that name. It fails with fs.ErrNotExist, wrapped,
	// when there is none.
	Key(name string) (*Key, error)
	// Generate makes the key of that name. It fails with fs.ErrExist, wrapped,
	// when there is one: a key is never replaced in silence.
	Generate(name string, alg evidence.Algorithm, random io.Reader) (*Key, error)
}

// Dir is a directory of key files, NAME.pem.
//
// Trusted: whoever reads a file in it signs as its holder; whoever alters one
// makes Open of the institution's home fail, since the public half is in its
// descriptor.
type Dir string

// Path returns the file of the key of that name.
func (d Dir) Path(name string) string { return filepath.Join(string(d), name+".pem") }

// Key implements KeyStore.
func (d Dir) Key(name string) (*Key, error) { return Load(d.Path(name), nil) }

// Generate implements KeyStore. It makes the directory, mode 0700, when it is
// not there.
func (d Dir) Generate(name string, alg evidence.Algorithm, random io.Reader) (*Key, error) {
	if err := os.MkdirAll(string(d), 0o700); err != nil {
		return nil, err
	}
	if _, err := os.Lstat(d.Path(name)); !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", d.Path(name), fs.ErrExist)
	}
	key, err := Generate(alg, random)
	if err != nil {
		return nil, err
	}
	return key, key.Save(d.Path(name), nil)
}
