package institution

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/signing"
)

// Params are what an institution decides when it makes its home.
type Params struct {
	ID        string // [a-z0-9][a-z0-9-]{0,31}
	Name      string // in the institution's own language
	Kind      evidence.InstitutionKind
	Addresses evidence.Addresses
	// ReceiptAlgorithm is evidence.EdDSA (also when zero) or evidence.ES256.
	ReceiptAlgorithm evidence.Algorithm
	// SM2Receipt adds a second receipt key, beside the first: software outside
	// China reads no SM2.
	SM2Receipt bool
	// Keys are PKCS#11 URIs by the name of the key file that they stand for, as in
	// [keys] of node.toml. A key that the token has already is taken, with its
	// algorithm; else it is made there.
	Keys map[string]string
	// Token says where the token is, for URIs that don't.
	Token TokenConfig
	// Random is crypto/rand.Reader when nil.
	Random io.Reader
}

// keyPlan is one key of a home: its file's name, its purpose and algorithm.
type keyPlan struct {
	name      string
	use       evidence.KeyUse
	algorithm evidence.Algorithm
}

const nameReceiptSM2 = "receipt-sm2"

func (p *Params) plan() []keyPlan {
	plan := []keyPlan{
		{"consensus", evidence.UseConsensus, evidence.EdDSA},
		{"node", evidence.UseNode, evidence.EdDSA},
		{"receipt", evidence.UseReceipt, p.ReceiptAlgorithm},
	}
	if p.SM2Receipt {
		plan = append(plan, keyPlan{nameReceiptSM2, evidence.UseReceipt, evidence.SM2SM3})
	}
	return append(plan,
		keyPlan{"cosign", evidence.UseCosign, evidence.EdDSA},
		keyPlan{"statement", evidence.UseStatement, evidence.EdDSA},
		keyPlan{"attest", evidence.UseAttest, evidence.EdDSA},
		// P-256, because it is the one that every TLS library has.
		keyPlan{"tls", evidence.UseTLS, evidence.ES256})
}

// Init makes an institution's home: all keys, on this host, the descriptor with
// a proof of possession by each, and the settings with their defaults. It
// refuses a directory that holds anything. Errors are *Error.
//
// The descriptor is written last. A power cut before leaves a directory that is
// no home, which Init and Open name as such; nothing in it was ever published.
func Init(home string, p Params) (*evidence.Descriptor, error) {
	if p.ReceiptAlgorithm == 0 {
		p.ReceiptAlgorithm = evidence.EdDSA
	}
	if p.ReceiptAlgorithm != evidence.EdDSA && p.ReceiptAlgorithm != evidence.ES256 {
		return nil, &Error{Code: CodeParams, Path: home, Reason: fmt.Sprintf("a receipt key cannot be %s alone", p.ReceiptAlgorithm), Hint: "use ed25519 or p256, and add SM2 beside it"}
	}
	settings := Config{Keys: p.Keys, Token: p.Token}
	if setting, reason, hint := settings.checkKeys(); setting != "" {
		return nil, &Error{Code: CodeConfigValue, Path: home, Subject: setting, Reason: setting + " " + reason, Hint: hint}
	}
	if err := refuseExisting(home); err != nil {
		return nil, err
	}
	// A trial with keys in memory finds what is wrong with the parameters before
	// anything is on disk.
	if _, err := describe(&p, memoryStore{}); err != nil {
		return nil, &Error{Code: CodeParams, Path: home, Reason: "no descriptor can be made of these values", Err: err}
	}
	if err := os.MkdirAll(home, 0o700); err != nil {
		return nil, &Error{Code: CodeParams, Path: home, Reason: "the directory cannot be made", Hint: "choose one that this user may write to", Err: err}
	}
	tokens := signing.NewTokens(settings.Token.signing(home))
	defer tokens.Close()
	d, err := describe(&p, signing.Mixed{Files: signing.Dir(keysDir(home)), Tokens: tokens, URIs: byFile(p.Keys)})
	if err != nil {
		return nil, &Error{Code: CodeParams, Path: home, Reason: "making the keys failed", Hint: "remove the directory and run it again", Err: err}
	}
	data, err := d.Encode()
	if err == nil {
		err = errors.Join(
			os.Mkdir(filepath.Join(home, "data"), 0o700),
			signing.CreateFile(filepath.Join(home, configFile), settings.withKeys(defaultConfigFor(d)), 0o600))
	}
	if err == nil {
		err = signing.CreateFile(filepath.Join(home, descriptorFile), data, 0o644)
	}
	if err != nil {
		return nil, &Error{Code: CodeParams, Path: home, Reason: "writing the home failed", Hint: "remove the directory and run it again", Err: err}
	}
	return d, nil
}

func refuseExisting(home string) error {
	entries, err := os.ReadDir(home)
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && len(entries) == 0:
		return nil
	case err != nil:
		return &Error{Code: CodeExists, Path: home, Reason: "the directory cannot be looked into", Hint: "choose another one", Err: err}
	}
	if _, err := os.Lstat(filepath.Join(home, descriptorFile)); err == nil {
		return &Error{Code: CodeExists, Path: home, Reason: "an institution lives here already", Hint: "its keys are never replaced: choose another directory"}
	}
	if _, err := os.Lstat(keysDir(home)); err == nil {
		return interrupted(home)
	}
	return &Error{Code: CodeExists, Path: home, Reason: "the directory is not empty", Hint: "choose an empty or a new one"}
}

func interrupted(home string) error {
	return &Error{Code: CodeInterrupted, Path: home, Reason: "an earlier `institution init` was interrupted here", Hint: "nothing was published of it: remove the directory and run it again"}
}

// describe makes the planned keys in store and the descriptor that they sign.
func describe(p *Params, store signing.KeyStore) (*evidence.Descriptor, error) {
	d := &evidence.Descriptor{V: 1, ID: p.ID, Name: strings.TrimSpace(p.Name), Kind: p.Kind, Addresses: p.Addresses}
	var keys []*signing.Key
	for _, k := range p.plan() {
		key, err := store.Generate(k.name, k.algorithm, p.Random)
		if err != nil {
			return nil, fmt.Errorf("making the %s key: %w", k.name, err)
		}
		keys = append(keys, key)
		pub := key.Public()
		switch k.use {
		case evidence.UseConsensus:
			d.Keys.Consensus = pub.Raw()
		case evidence.UseNode:
			d.Keys.Node = pub.Raw()
		case evidence.UseReceipt:
			d.Keys.Receipt = append(d.Keys.Receipt, pub.DER())
		case evidence.UseCosign:
			d.Keys.Cosign = pub.DER()
		case evidence.UseStatement:
			d.Keys.Statement = pub.DER()
		case evidence.UseAttest:
			d.Keys.Attest = pub.DER()
		case evidence.UseTLS:
			d.Keys.TLS = pub.DER()
		}
	}
	// ProofNames lists the keys in the order of the plan.
	for i, name := range d.ProofNames() {
		if err := d.Prove(name, keys[i]); err != nil {
			return nil, err
		}
	}
	return d, d.Validate()
}

// memoryStore makes keys that are forgotten.
type memoryStore struct{}

func (memoryStore) Key(name string) (*signing.Key, error) {
	return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
}

func (memoryStore) Generate(_ string, alg evidence.Algorithm, _ io.Reader) (*signing.Key, error) {
	return signing.Generate(alg, nil)
}
