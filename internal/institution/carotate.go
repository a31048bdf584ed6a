package institution

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/emmansun/gmsm/smx509"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/signing"
)

// generation names the files of generation n, from 1, of a CA key and its
// certificate.
func (k caKeyPlan) generation(n int) caKeyPlan {
	if n > 1 {
		ext := filepath.Ext(k.certificate)
		k.certificate = k.certificate[:len(k.certificate)-len(ext)] + "." + strconv.Itoa(n) + ext
		k.key += "." + strconv.Itoa(n)
	}
	return k
}

// RotatedCA is what RotateCA made.
type RotatedCA struct {
	Authority   *CertificateAuthority
	Generation  int    // of the new key, from 2
	Key         string // where it is: its file, or its URI on a token
	Certificate string // path of its certificate
	Former      string // path of the certificate before
}

// RotateCA gives a home's certification authority its next P-256 key, or with
// sm2 its next SM2 key. What the key before signed stays good: its certificate
// stays in the public file, and it goes on signing its revocation list and for
// OCSP until the last certificate under it has ended. Errors are *Error.
//
// In this order, each durable before the next: the key, its certificate, the
// public file with the new certificate as the present one and the old among the
// former, and the mark that it is done (rotations/ca.N.json). A power cut in
// between leaves the authority signing as it did, and running it again goes on
// with what is there: a key is never made twice.
//
// Processes sign with the new key from their next start.
func RotateCA(home string, sm2 bool, now time.Time, issue IssueCA) (*RotatedCA, error) {
	h, err := OpenPublic(home)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	fail := func(err error) (*RotatedCA, error) {
		return nil, &Error{Code: CodeRotation, Path: filepath.Join(home, caDir), Reason: "replacing the certification authority's key failed", Hint: "run it again: it goes on with what is there", Err: err}
	}
	public := caPath(home, caAuthorityFile)
	a, err := ReadCertificateAuthority(public)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &Error{Code: CodeCA, Path: public, Reason: "this institution has no certification authority", Hint: "make one with `zhenglian institution ca`", Err: err}
	}
	if err != nil {
		return nil, &Error{Code: CodeCA, Path: public, Reason: "the certification authority's public file cannot be read", Hint: "restore it from the institution's backup", Err: err}
	}
	plan := caPlan(true)[0]
	present, former := &a.Certificate, &a.Former
	if sm2 {
		plan = caPlan(true)[1]
		present, former = &a.CertificateSM2, &a.FormerSM2
	}
	if *present == "" {
		return nil, &Error{Code: CodeNoSM2, Path: public, Reason: "this institution has no SM2 CA key", Hint: "leave --sm2 out"}
	}
	done, err := h.generations(plan.key)
	if err != nil {
		return nil, err
	}
	n := len(done) + 2
	if n > maxCAGenerations {
		return nil, &Error{Code: CodeCA, Path: public, Reason: fmt.Sprintf("this CA key was replaced %d times, which is the most", len(done))}
	}
	next := plan.generation(n)
	text, key, err := h.makeCAKey(next, n, a.Demonstration, now, issue)
	if err != nil {
		return fail(err)
	}
	// Else an interrupted run came so far, or a lost mark is written again.
	if *present != string(text) && !slices.Contains(*former, string(text)) {
		*former = slices.Insert(*former, 0, *present)
		*present = string(text)
	}
	data, err := evidence.MarshalCanonical(a)
	if err == nil {
		err = replaceFile(public, data)
	}
	if err == nil {
		err = os.MkdirAll(filepath.Join(home, rotationsDir), 0o700)
	}
	var mark []byte
	if err == nil {
		mark, err = json.Marshal(placed{V: 1, Use: evidence.KeyUse(plan.key), KID: key.Public().KID()})
	}
	if err == nil {
		err = signing.CreateFile(h.rotationFile(next.key, ".json"), append(mark, '\n'), 0o600)
	}
	if err != nil {
		return fail(err)
	}
	return &RotatedCA{Authority: a, Generation: n, Key: h.keyStore().Place(next.key), Certificate: caPath(home, next.certificate),
		Former: caPath(home, plan.generation(n-1).certificate)}, nil
}

// maxCAGenerations keeps the public file readable and a policy that names all of
// them within evidence.MaxCertificateAuthorities. A root is valid for ten years:
// these are quarterly changes for that long, less what other institutions need.
const maxCAGenerations = 32

// certifies checks that a certificate in PEM is one of this key, and returns its
// DER.
func certifies(text []byte, key *signing.Key) ([]byte, error) {
	block, rest := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" || len(bytes.TrimSpace(rest)) != 0 {
		return nil, errors.New("it is not one CERTIFICATE block of PEM")
	}
	c, err := smx509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("reading the CA certificate: %w", err)
	}
	if key != nil && !bytes.Equal(c.RawSubjectPublicKeyInfo, key.Public().DER()) {
		return nil, errors.New("the CA certificate is of another key")
	}
	return block.Bytes, nil
}

// caGenerations opens all generations of a CA key, the present one first. A
// former key that is gone is left nil: it may be destroyed when the last
// certificate under it has ended, and whoever publishes says so when it is missed
// before.
func (h *Home) caGenerations(plan caKeyPlan) ([]CAKey, error) {
	done, err := h.generations(plan.key)
	if err != nil {
		return nil, err
	}
	store := h.keyStore()
	var all []CAKey
	for n := len(done) + 1; n >= 1; n-- {
		k := plan.generation(n)
		path := caPath(h.Path, k.certificate)
		key, err := store.Key(k.key)
		switch {
		case errors.Is(err, fs.ErrNotExist) && n <= len(done):
			key = nil
		case err != nil:
			return nil, &Error{Code: CodeCA, Path: store.Place(k.key), Reason: "the CA key cannot be used", Hint: "restore it from the institution's backup", Err: err}
		case n > 1 && key.Public().KID() != done[n-2].KID:
			return nil, &Error{Code: CodeCA, Path: store.Place(k.key), Reason: fmt.Sprintf("it is the key %s, and this generation's is %s", key.Public().KID(), done[n-2].KID), Hint: "restore it from the institution's backup"}
		}
		text, err := readPublic(path)
		var der []byte
		if err == nil {
			der, err = certifies(text, key)
		}
		if err != nil {
			return nil, &Error{Code: CodeCA, Path: path, Reason: "the CA certificate cannot be used", Hint: "restore it from the institution's backup", Err: err}
		}
		all = append(all, CAKey{Key: key, Certificate: der, Generation: n})
	}
	return all, nil
}

// ForPolicy returns what a policy names: the P-256 certificates, the present one
// first. The former ones stay, since packages with certificates under them do.
func (a *CertificateAuthority) ForPolicy() []evidence.CertificateAuthority {
	out := make([]evidence.CertificateAuthority, 0, 1+len(a.Former))
	for _, text := range append([]string{a.Certificate}, a.Former...) {
		out = append(out, evidence.CertificateAuthority{ID: a.ID, Certificate: text})
	}
	return out
}
