package signing

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"filippo.io/age"
	"filippo.io/age/armor"
)

// Passphrase is asked for a passphrase when a file turns out to need one; path
// says which. Nil means that there is nobody to ask.
type Passphrase func(path string) (string, error)

// Fixed returns a Passphrase that is known already. The empty one is nil: no
// protection when saving.
func Fixed(phrase string) Passphrase {
	if phrase == "" {
		return nil
	}
	return func(string) (string, error) { return phrase, nil }
}

// ErrNeedsPassphrase says that the file is protected and nobody was asked.
var ErrNeedsPassphrase = errors.New("the file is protected by a passphrase, and none was given")

// ErrWrongPassphrase says that the passphrase does not open the file.
var ErrWrongPassphrase = errors.New("the passphrase does not open the file")

// ExposedError says that others than its owner can reach a secret file.
type ExposedError struct {
	Path string
	Mode fs.FileMode // permission bits found
	Dir  bool
}

func (e *ExposedError) Error() string {
	if e.Dir {
		return fmt.Sprintf("%s can be changed by others (mode %04o): run `chmod 700 %s`, and replace the keys in it if anybody else uses this machine", e.Path, e.Mode, e.Path)
	}
	return fmt.Sprintf("%s can be reached by others (mode %04o): run `chmod 600 %s`, and replace the key if anybody else uses this machine", e.Path, e.Mode, e.Path)
}

// maxSecret is larger than any file we write: a protected key has under 1 kB.
const maxSecret = 64 << 10

// ReadSecret reads a file that only its owner may reach, and opens it when it
// is an age file. It returns an *ExposedError for a file with any permission
// for group or others, or in a directory that they can write to; and
// ErrNeedsPassphrase or ErrWrongPassphrase, wrapped.
func ReadSecret(path string, ask Passphrase) ([]byte, error) {
	if err := checkDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	// Asked of the open file, so that it cannot be another one by now.
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 && hasPermissions() {
		return nil, &ExposedError{Path: path, Mode: mode}
	}
	content, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	if len(content) > maxSecret {
		return nil, fmt.Errorf("%s has more than %d bytes: this is not a key", path, maxSecret)
	}
	if !bytes.HasPrefix(content, []byte(armor.Header)) {
		return content, nil
	}
	if ask == nil {
		return nil, fmt.Errorf("%s: %w", path, ErrNeedsPassphrase)
	}
	phrase, err := ask(path)
	if err != nil {
		return nil, fmt.Errorf("asking for the passphrase of %s: %w", path, err)
	}
	return openProtected(path, content, phrase)
}

func openProtected(path string, content []byte, phrase string) ([]byte, error) {
	identity, err := age.NewScryptIdentity(phrase)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, ErrWrongPassphrase) // the empty passphrase
	}
	plain, err := age.Decrypt(armor.NewReader(bytes.NewReader(content)), identity)
	if err != nil {
		var mismatch *age.NoIdentityMatchError
		if errors.As(err, &mismatch) || errors.Is(err, age.ErrIncorrectIdentity) {
			return nil, fmt.Errorf("%s: %w", path, ErrWrongPassphrase)
		}
		return nil, fmt.Errorf("opening the age file %s: %w", path, err)
	}
	secret, err := io.ReadAll(plain)
	if err != nil {
		return nil, fmt.Errorf("opening the age file %s: %w", path, err)
	}
	return secret, nil
}

// WriteSecret writes a file that only its owner can reach, encrypted when
// protect is given. It fails with fs.ErrExist where a file is already, even
// one that appeared a moment ago. The content is on disk when it returns; a
// crash before leaves no file of that name.
func WriteSecret(path string, content []byte, protect Passphrase) error {
	if protect != nil {
		phrase, err := protect(path)
		if err != nil {
			return fmt.Errorf("asking for a passphrase for %s: %w", path, err)
		}
		if content, err = seal(content, phrase); err != nil {
			return fmt.Errorf("protecting %s: %w", path, err)
		}
	}
	return CreateFile(path, content, 0o600)
}

func seal(content []byte, phrase string) ([]byte, error) {
	recipient, err := age.NewScryptRecipient(phrase)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	text := armor.NewWriter(&out)
	w, err := age.Encrypt(text, recipient)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(content); err != nil {
		return nil, err
	}
	if err := errors.Join(w.Close(), text.Close()); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// CreateFile writes a new file whole or not at all, and durably. It fails with
// fs.ErrExist, wrapped, where one is already.
func CreateFile(path string, content []byte, mode fs.FileMode) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".new-*") // made with mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(content)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	// A link, unlike a rename, does not replace what is there.
	if err := os.Link(f.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	if !hasPermissions() { // Windows has no handle of a directory to flush
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// checkDir refuses a directory in which others can swap files. The sticky bit,
// as /tmp has it, prevents that.
func checkDir(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if mode := info.Mode(); mode.Perm()&0o022 != 0 && mode&fs.ModeSticky == 0 && hasPermissions() {
		return &ExposedError{Path: dir, Mode: mode.Perm(), Dir: true}
	}
	return nil
}

// hasPermissions reports whether mode bits mean anything on this system.
func hasPermissions() bool { return runtime.GOOS != "windows" }

// Save writes the key as PKCS#8 PEM to a new file (WriteSecret).
func (k *Key) Save(path string, protect Passphrase) error {
	text, err := k.EncodePEM()
	if err != nil {
		return err
	}
	return WriteSecret(path, text, protect)
}

// Load reads a key file (ReadSecret, ParsePEM).
func Load(path string, ask Passphrase) (*Key, error) {
	text, err := ReadSecret(path, ask)
	if err != nil {
		return nil, err
	}
	key, err := ParsePEM(text)
	if err != nil {
		return nil, fmt.Errorf("reading the key file %s: %w", path, err)
	}
	return key, nil
}
