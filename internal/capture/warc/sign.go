package warc

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"

	"github.com/zhenglian/zhenglian/evidence"
)

// digestFile is datapackage-digest.json (WACZ 1.1.1 §5.4).
type digestFile struct {
	Path   string      `json:"path"`
	Hash   string      `json:"hash"`
	Signed *signedData `json:"signedData,omitempty"`
}

// signedData is the anonymous form of wacz-auth 0.1.0 §5.1: a key and no name. The
// form that names a domain needs a certificate for it and is left out; who made the
// recording, the chain says.
type signedData struct {
	Hash      string `json:"hash"`
	Created   string `json:"created"`
	Software  string `json:"software"`
	Version   string `json:"version"`
	Signature string `json:"signature"`
	PublicKey string `json:"publicKey"`
}

// sign makes datapackage-digest.json: ECDSA on P-384 with SHA-256 over the text
// "sha256:" and the digest in hexadecimal; the signature is r‖s, 48 bytes each.
func (w *Writer) sign(list []byte, created string) ([]byte, error) {
	d := digestFile{Path: pathPackage, Hash: labelled(evidence.SumSHA256(list))}
	if key := w.config.Key; key != nil {
		sum := sha256.Sum256([]byte(d.Hash))
		r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
		if err != nil {
			return nil, fmt.Errorf("signing the archive: %w", err)
		}
		sig := make([]byte, 96)
		r.FillBytes(sig[:48])
		s.FillBytes(sig[48:])
		spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
		if err != nil {
			return nil, fmt.Errorf("signing the archive: %w", err)
		}
		d.Signed = &signedData{Hash: d.Hash, Created: created, Software: w.config.Software, Version: "0.1.0",
			Signature: base64.StdEncoding.EncodeToString(sig), PublicKey: base64.StdEncoding.EncodeToString(spki)}
	}
	data, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("signing the archive: %w", err)
	}
	return data, nil
}
