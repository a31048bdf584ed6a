package signing

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/zhenglian/zhenglian/evidence"
)

// Mixed is a KeyStore whose keys are files, but for those with a URI.
type Mixed struct {
	Files  Dir
	Tokens *Tokens
	URIs   map[string]string // by key name; empty values count as none
}

// Place says where the key of a name is, for messages.
func (m Mixed) Place(name string) string {
	if uri := m.URIs[name]; uri != "" {
		if u, err := ParseTokenURI(uri); err == nil {
			return u.String()
		}
	}
	return m.Files.Path(name)
}

// Has reports whether a key of that name is named by a URI or is a file.
func (m Mixed) Has(name string) bool {
	if m.URIs[name] != "" {
		return true
	}
	_, err := os.Lstat(m.Files.Path(name))
	return err == nil
}

// Key implements KeyStore.
func (m Mixed) Key(name string) (*Key, error) {
	if uri := m.URIs[name]; uri != "" {
		return m.Tokens.Key(uri)
	}
	return m.Files.Key(name)
}

// Generate implements KeyStore, but takes the key on a token that is there
// already: whoever wrote the URI meant it, and keys of tokens are often made in a
// ceremony of their own, with the algorithm that was decided there.
func (m Mixed) Generate(name string, alg evidence.Algorithm, random io.Reader) (*Key, error) {
	uri := m.URIs[name]
	if uri == "" {
		return m.Files.Generate(name, alg, random)
	}
	key, err := m.Tokens.Key(uri)
	if errors.Is(err, fs.ErrNotExist) {
		return m.Tokens.Generate(uri, alg)
	}
	return key, err
}

// OnToken reports whether the key signs inside a token.
func (k *Key) OnToken() bool { _, ok := k.private.(*tokenKey); return ok }

// maxURI bounds a file that holds a URI.
const maxURI = 4 << 10

// SaveURI writes the URI of a key on a token to a new file, in place of a key
// file; Open reads either. It holds nothing secret, and is as private as a key
// file is: whoever alters it chooses another key.
func SaveURI(path, uri string) error {
	if _, err := ParseTokenURI(uri); err != nil {
		return err
	}
	return WriteSecret(path, []byte(uri+"\n"), nil)
}

// Open reads a key file as Load does, or one that holds a PKCS#11 URI.
func (t *Tokens) Open(path string, ask Passphrase) (*Key, error) {
	text, err := ReadSecret(path, ask)
	if err != nil {
		return nil, err
	}
	if uri := string(bytes.TrimSpace(text)); IsTokenURI(uri) && len(uri) <= maxURI {
		return t.Key(uri)
	}
	key, err := ParsePEM(text)
	if err != nil {
		return nil, fmt.Errorf("reading the key file %s: %w", path, err)
	}
	return key, nil
}
