package institution

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/signing"
)

// The files of an institution's timestamp authority. The key lies with the
// others, in keys/tsa.pem.
const (
	tsaKeyName = "tsa"
	tsaDir     = "tsa"

	tsaChainFile     = "chain.pem"      // the authority's certificate, then its root
	tsaRootFile      = "root.pem"       // the root alone, for openssl ts -CAfile
	tsaAuthorityFile = "authority.json" // evidence.TimestampAuthority, for policies and other nodes
	tsaRegisterFile  = "register"
)

// TSA is an institution's timestamp authority: its key, which stands in no
// descriptor, and its certificates.
type TSA struct {
	Key       *signing.Key
	Chain     []*x509.Certificate // the authority's certificate, then those above it
	Register  string              // path of the register of issued tokens
	Authority *evidence.TimestampAuthority
}

// Issue makes a root and, under it, an authority's certificate for a key.
type Issue func(key crypto.PublicKey, name string, now time.Time) (authority, root *x509.Certificate, err error)

func tsaPath(home, name string) string { return filepath.Join(home, tsaDir, name) }

// MakeTSA gives a home a timestamp authority. Errors are *Error.
//
// The key is written first, then the certificates, then the public file by
// which an authority is known to be there. After a power cut in between, running
// it again goes on with what is there: a key is never made twice.
func MakeTSA(home string, demonstration bool, now time.Time, issue Issue) (*evidence.TimestampAuthority, error) {
	h, err := OpenPublic(home)
	if err != nil {
		return nil, err
	}
	public := tsaPath(home, tsaAuthorityFile)
	if _, err := os.Lstat(public); !errors.Is(err, fs.ErrNotExist) {
		return nil, &Error{Code: CodeExists, Path: public, Reason: "this institution has a timestamp authority already", Hint: "its key is replaced with `zhenglian institution rotate --use tsa`", Err: err}
	}
	fail := func(err error) (*evidence.TimestampAuthority, error) {
		return nil, &Error{Code: CodeTSA, Path: filepath.Join(home, tsaDir), Reason: "making the timestamp authority failed", Hint: "run it again: it goes on with what is there", Err: err}
	}
	if err := os.MkdirAll(filepath.Join(home, tsaDir), 0o700); err != nil {
		return fail(err)
	}
	store := h.keyStore()
	key, err := store.Key(tsaKeyName)
	if errors.Is(err, fs.ErrNotExist) {
		key, err = store.Generate(tsaKeyName, evidence.ES256, nil)
	}
	if err != nil {
		return fail(err)
	}
	chain, err := readChain(tsaPath(home, tsaChainFile))
	if errors.Is(err, fs.ErrNotExist) {
		var own, root *x509.Certificate
		if own, root, err = issue(key.Private().Public(), h.Descriptor.Name, now); err == nil {
			chain = []*x509.Certificate{own, root}
			err = signing.CreateFile(tsaPath(home, tsaChainFile), encodeChain(chain...), 0o644)
		}
	}
	if err != nil {
		return fail(err)
	}
	root := encodeChain(chain[len(chain)-1])
	t := &evidence.TimestampAuthority{ID: h.ID(), Name: h.Descriptor.Name, Certificate: string(root), Demonstration: demonstration}
	data, err := t.Encode()
	if err == nil {
		if err = signing.CreateFile(tsaPath(home, tsaRootFile), root, 0o644); errors.Is(err, fs.ErrExist) {
			err = nil // of the run that was interrupted, made of the same chain
		}
	}
	if err == nil {
		err = signing.CreateFile(public, data, 0o644)
	}
	if err != nil {
		return fail(err)
	}
	return t, nil
}

func encodeChain(certs ...*x509.Certificate) []byte {
	var b bytes.Buffer
	for _, c := range certs {
		b.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
	}
	return b.Bytes()
}

func readChain(path string) ([]*x509.Certificate, error) {
	data, err := readPublic(path)
	if err != nil {
		return nil, err
	}
	var chain []*x509.Certificate
	for {
		block, rest := pem.Decode(data)
		if block == nil {
			break
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(chain)+1, err)
		}
		chain, data = append(chain, c), rest
	}
	if len(chain) == 0 {
		return nil, errors.New("there is no CERTIFICATE block in it")
	}
	return chain, nil
}

// TSA returns the institution's timestamp authority, with its key: only a node
// that is to run it asks. Errors are *Error.
func (h *Home) TSA() (*TSA, error) {
	fail := func(path, reason string, err error) (*TSA, error) {
		hint := "restore it from the institution's backup"
		if errors.Is(err, fs.ErrNotExist) {
			hint = "make one with `zhenglian institution tsa`, or set enabled = false in [tsa] of node.toml"
		}
		return nil, &Error{Code: CodeTSA, Path: path, Reason: reason, Hint: hint, Err: err}
	}
	public := tsaPath(h.Path, tsaAuthorityFile)
	t, err := ReadAuthority(public)
	if err != nil {
		return fail(public, "the timestamp authority's public file cannot be read", err)
	}
	newest, err := h.tsaGenerations()
	if err != nil {
		return nil, err
	}
	keyName, chainFile := tsaGeneration(newest)
	chain, err := readChain(tsaPath(h.Path, chainFile))
	if err != nil {
		return fail(tsaPath(h.Path, chainFile), "the timestamp authority's certificates cannot be read", err)
	}
	store := h.keyStore()
	key, err := store.Key(keyName)
	if err != nil {
		return fail(store.Place(keyName), "the timestamp authority's key cannot be used", err)
	}
	return &TSA{Key: key, Chain: chain, Register: tsaPath(h.Path, tsaRegisterFile), Authority: t}, nil
}

// ReadAuthority reads an authority's public file.
func ReadAuthority(path string) (*evidence.TimestampAuthority, error) {
	data, err := readPublic(path)
	if err != nil {
		return nil, err
	}
	return evidence.ParseTimestampAuthority(data)
}

// Authority is an authority that this node asks.
type Authority struct {
	URL string
	*evidence.TimestampAuthority
}

// Authorities reads the files of [timestamps] in node.toml, in their order.
// Errors are *Error.
func (h *Home) Authorities() ([]Authority, error) {
	var out []Authority
	for i, a := range h.Config.Timestamps.Authorities {
		path := a.File
		if !filepath.IsAbs(path) {
			path = filepath.Join(h.Path, path)
		}
		t, err := ReadAuthority(path)
		if err != nil {
			return nil, &Error{Code: CodeTSA, Path: path, Subject: fmt.Sprintf("timestamps.authorities[%d]", i), Reason: "the timestamp authority's file cannot be read",
				Hint: "get authority.json from the institution that runs it", Err: err}
		}
		out = append(out, Authority{a.URL, t})
	}
	return out, nil
}
