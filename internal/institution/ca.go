package institution

import (
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

// CodeCA: the files of the certification authority for members.
const CodeCA ErrorCode = "bad-ca"

// The files of an institution's certification authority for members. The keys
// lie with the others, in keys/ca.pem and keys/ca-sm2.pem, or on a token.
const (
	caKeyName    = "ca"
	caSM2KeyName = "ca-sm2"
	caDir        = "ca"

	caCertificateFile    = "certificate.pem"
	caSM2CertificateFile = "certificate-sm2.pem"
	caAuthorityFile      = "authority.json" // CertificateAuthority, for policies
)

// CertificateAuthority is the public file by which an institution's members'
// certificates are checked: canonical JSON. Policies take id and certificate
// (evidence.CertificateAuthority).
type CertificateAuthority struct {
	V              int    `json:"v"` // 1
	ID             string `json:"id"`
	Name           string `json:"name"`
	Certificate    string `json:"certificate"`               // PEM, P-256
	CertificateSM2 string `json:"certificate_sm2,omitempty"` // PEM, SM2; policies cannot name it
	Demonstration  bool   `json:"demonstration"`
	// Former are the certificates of the keys before, the newest first.
	Former    []string `json:"former,omitempty"`
	FormerSM2 []string `json:"former_sm2,omitempty"`
}

// CAKey is one CA key with its self-signed certificate.
type CAKey struct {
	Key         *signing.Key // nil when a former one is gone
	Certificate []byte       // DER
	Generation  int          // from 1; the highest of an algorithm is the present one
}

// CA is an institution's certification authority for members.
type CA struct {
	Keys      []CAKey // P-256, then SM2 where there is one; of each the present one, then the former ones
	Authority *CertificateAuthority
}

// IssueCA makes the self-signed certificate of a CA key of a generation, from 1, in DER.
type IssueCA func(key *signing.Key, name string, generation int, demonstration bool, now time.Time) ([]byte, error)

func caPath(home, name string) string { return filepath.Join(home, caDir, name) }

// MakeCA gives a CA institution's home a certification authority for members: a
// P-256 key, which [keys] of node.toml may put on a token, and with sm2 a second
// key for members with SM2 keys. Errors are *Error.
//
// Keys are written first, then certificates, then the public file by which an
// authority is known to be there. After a power cut in between, running it again
// goes on with what is there: a key is never made twice.
func MakeCA(home string, demonstration, sm2 bool, now time.Time, issue IssueCA) (*CertificateAuthority, error) {
	h, err := OpenPublic(home)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	if !h.IsCA() {
		return nil, &Error{Code: CodeCA, Path: home, Reason: fmt.Sprintf("%s is of the kind %s, and only a ca certifies members", h.ID(), h.Descriptor.Kind), Hint: "make it in the home of the alliance's CA institution"}
	}
	public := caPath(home, caAuthorityFile)
	if _, err := os.Lstat(public); !errors.Is(err, fs.ErrNotExist) {
		return nil, &Error{Code: CodeExists, Path: public, Reason: "this institution has a certification authority already", Hint: "its keys are replaced with `zhenglian institution rotate --use ca`", Err: err}
	}
	fail := func(err error) (*CertificateAuthority, error) {
		return nil, &Error{Code: CodeCA, Path: filepath.Join(home, caDir), Reason: "making the certification authority failed", Hint: "run it again: it goes on with what is there", Err: err}
	}
	if err := os.MkdirAll(filepath.Join(home, caDir), 0o700); err != nil {
		return fail(err)
	}
	a := &CertificateAuthority{V: 1, ID: h.ID(), Name: h.Descriptor.Name, Demonstration: demonstration}
	for _, k := range caPlan(sm2) {
		text, _, err := h.makeCAKey(k, 1, demonstration, now, issue)
		if err != nil {
			return fail(err)
		}
		if k.algorithm == evidence.SM2SM3 {
			a.CertificateSM2 = string(text)
		} else {
			a.Certificate = string(text)
		}
	}
	data, err := evidence.MarshalCanonical(a)
	if err == nil {
		err = signing.CreateFile(public, data, 0o644)
	}
	if err != nil {
		return fail(err)
	}
	return a, nil
}

type caKeyPlan struct {
	key, certificate string
	algorithm        evidence.Algorithm
}

func caPlan(sm2 bool) []caKeyPlan {
	plan := []caKeyPlan{{caKeyName, caCertificateFile, evidence.ES256}}
	if sm2 {
		plan = append(plan, caKeyPlan{caSM2KeyName, caSM2CertificateFile, evidence.SM2SM3})
	}
	return plan
}

// makeCAKey makes key and certificate of a generation where they are missing, and
// returns the certificate in PEM with the key.
func (h *Home) makeCAKey(k caKeyPlan, generation int, demonstration bool, now time.Time, issue IssueCA) ([]byte, *signing.Key, error) {
	store := h.keyStore()
	key, err := store.Key(k.key)
	if errors.Is(err, fs.ErrNotExist) {
		key, err = store.Generate(k.key, k.algorithm, nil)
	}
	if err != nil {
		return nil, nil, err
	}
	if got := key.Public().Algorithm(); got != k.algorithm {
		return nil, nil, fmt.Errorf("the key %s is %s, and has to be %s", store.Place(k.key), got, k.algorithm)
	}
	path := caPath(h.Path, k.certificate)
	text, err := readPublic(path) // of a run that was interrupted
	if errors.Is(err, fs.ErrNotExist) {
		var der []byte
		if der, err = issue(key, h.Descriptor.Name, generation, demonstration, now); err == nil {
			text = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
			err = signing.CreateFile(path, text, 0o644)
		}
	}
	if err == nil {
		_, err = certifies(text, key)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return text, key, nil
}

// HasCA reports whether the institution has a certification authority.
func (h *Home) HasCA() bool {
	_, err := os.Lstat(caPath(h.Path, caAuthorityFile))
	return err == nil
}

// CA returns the institution's certification authority with its keys: only a
// process that issues asks. Errors are *Error.
func (h *Home) CA() (*CA, error) {
	fail := func(path, reason string, err error) (*CA, error) {
		hint := "restore it from the institution's backup"
		if errors.Is(err, fs.ErrNotExist) {
			hint = "make one with `zhenglian institution ca`"
		}
		return nil, &Error{Code: CodeCA, Path: path, Reason: reason, Hint: hint, Err: err}
	}
	public := caPath(h.Path, caAuthorityFile)
	a, err := ReadCertificateAuthority(public)
	if err != nil {
		return fail(public, "the certification authority's public file cannot be read", err)
	}
	ca := &CA{Authority: a}
	for _, k := range caPlan(a.CertificateSM2 != "") {
		keys, err := h.caGenerations(k)
		if err != nil {
			return nil, err
		}
		ca.Keys = append(ca.Keys, keys...)
	}
	return ca, nil
}

// ReadCertificateAuthority reads an authority's public file.
func ReadCertificateAuthority(path string) (*CertificateAuthority, error) {
	data, err := readPublic(path)
	if err != nil {
		return nil, err
	}
	a := new(CertificateAuthority)
	if err := evidence.UnmarshalCanonical(data, a); err != nil {
		return nil, err
	}
	if a.V != 1 {
		return nil, fmt.Errorf("version %d is not known, only 1 is", a.V)
	}
	return a, nil
}
