package institution

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/signing"
)

// tsaGeneration names the files of generation n of the authority's key and
// certificates, from 1.
func tsaGeneration(n int) (key, chain string) {
	if n == 1 {
		return tsaKeyName, tsaChainFile
	}
	return tsaKeyName + "." + strconv.Itoa(n), "chain." + strconv.Itoa(n) + ".pem"
}

// tsaGenerations returns the newest generation that is complete: its mark was
// written after everything else, the public file included.
func (h *Home) tsaGenerations() (int, error) {
	done, err := h.generations(tsaKeyName)
	return len(done) + 1, err
}

// RotateTSA gives a home's timestamp authority its next key. Old tokens stay
// valid: the certificates that they lead to stay in the public file. Errors are
// *Error.
//
// In this order, each durable before the next: the key, its certificates, the
// public file with the new root before the old, and the mark that it is done
// (rotations/tsa.N.json). A power cut in between leaves the authority signing as
// it did, and running it again goes on. Certificates that an
// institution's own CA issued for keys/tsa.N.pem, put into tsa/chain.N.pem
// beforehand, are taken as they are; else issue makes them.
//
// The authority signs with the new key from its node's next start, so that the
// public file can be handed out before.
func RotateTSA(home string, now time.Time, issue Issue) (*evidence.TimestampAuthority, int, error) {
	h, err := OpenPublic(home)
	if err != nil {
		return nil, 0, err
	}
	public := tsaPath(home, tsaAuthorityFile)
	t, err := ReadAuthority(public)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, &Error{Code: CodeTSA, Path: public, Reason: "this institution has no timestamp authority", Hint: "make one with `zhenglian institution tsa`", Err: err}
	}
	fail := func(err error) (*evidence.TimestampAuthority, int, error) {
		return nil, 0, &Error{Code: CodeTSA, Path: filepath.Join(home, tsaDir), Reason: "replacing the timestamp authority's key failed", Hint: "run it again: it goes on with what is there", Err: err}
	}
	if err != nil {
		return fail(err)
	}
	n, err := h.tsaGenerations()
	if err != nil {
		return nil, 0, err
	}
	n++
	keyName, chainFile := tsaGeneration(n)
	store := h.keyStore()
	key, err := store.Key(keyName)
	if errors.Is(err, fs.ErrNotExist) {
		key, err = store.Generate(keyName, evidence.ES256, nil)
	}
	if err != nil {
		return fail(err)
	}
	chain, err := readChain(tsaPath(home, chainFile))
	if errors.Is(err, fs.ErrNotExist) {
		var own, root *x509.Certificate
		if own, root, err = issue(key.Private().Public(), h.Descriptor.Name, now); err == nil {
			chain = []*x509.Certificate{own, root}
			err = signing.CreateFile(tsaPath(home, chainFile), encodeChain(chain...), 0o644)
		}
	}
	if err != nil {
		return fail(err)
	}
	if own, err := x509.MarshalPKIXPublicKey(chain[0].PublicKey); err != nil || string(own) != string(key.Public().DER()) {
		return fail(fmt.Errorf("the first certificate of %s is not for the key %s", chainFile, keyName))
	}
	root := chain[len(chain)-1]
	if !slices.ContainsFunc(t.Anchors(), root.Equal) {
		t.Certificate = string(encodeChain(append([]*x509.Certificate{root}, t.Anchors()...)...))
	}
	data, err := t.Encode()
	if err == nil {
		t, err = evidence.ParseTimestampAuthority(data) // refuses more certificates than fit
	}
	if err == nil {
		err = replaceFile(tsaPath(home, tsaRootFile), encodeChain(t.Anchors()...))
	}
	if err == nil {
		err = replaceFile(public, data)
	}
	if err == nil {
		err = os.MkdirAll(filepath.Join(home, rotationsDir), 0o700)
	}
	var mark []byte
	if err == nil {
		mark, err = json.Marshal(placed{V: 1, Use: tsaKeyName, KID: key.Public().KID()})
	}
	if err == nil {
		err = signing.CreateFile(h.rotationFile(keyName, ".json"), append(mark, '\n'), 0o600)
	}
	if err != nil {
		return fail(err)
	}
	return t, n, nil
}

// replaceFile replaces a public file whole or not at all, and durably.
func replaceFile(path string, content []byte) error {
	next := path + ".new"
	if err := os.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := signing.CreateFile(next, content, 0o644); err != nil {
		return err
	}
	if err := os.Rename(next, path); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
