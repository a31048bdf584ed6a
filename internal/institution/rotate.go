package institution

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/signing"
)

// rotationsDir holds, for generation N of a key, the statement that puts it in
// place (NAME.N.cose) and, once the log has it, where (NAME.N.json). The key
// itself lies with the others, in keys/NAME.N.pem; the first generation is
// keys/NAME.pem, which the descriptor names.
//
// Not trusted: the log says which key counts. Whoever alters a file here makes
// commands sign with a key that the log refuses; nobody else is misled.
const rotationsDir = "rotations"

// maxGenerations is more than the log lets an institution have (evidence.MaxKeyChanges).
const maxGenerations = evidence.MaxKeyChanges + 2

// placed is rotations/NAME.N.json.
type placed struct {
	V         int             `json:"v"` // 1
	Use       evidence.KeyUse `json:"use"`
	KID       evidence.Digest `json:"kid"`
	Position  uint64          `json:"position"` // of the statement in the log
	Statement evidence.Digest `json:"statement"`
}

// Rotation is the replacing of one key, from its first step to its last. A
// crash after any of them loses nothing; running it again goes on:
//
//  1. the new key is on disk. Nobody knows of it.
//  2. the signed statement is on disk. Nobody has it yet.
//  3. the statement is in the log: the new key counts. A running node looks for
//     it in keys/ when it signs the next root, whatever else was written.
//  4. the place in the log is on disk: commands sign with the new key.
//
// Sending the same statement twice gives the same place.
type Rotation struct {
	Use      evidence.KeyUse
	Replaces evidence.Digest
	Key      *signing.Key // the new one
	// Statement is set when it was signed already.
	Statement []byte
	Resumed   bool // an earlier run was interrupted

	h    *Home
	name string // NAME.N
}

func (h *Home) rotationFile(name, ext string) string {
	return filepath.Join(h.Path, rotationsDir, name+ext)
}

// KeyPath says where the new key is: its file, or its URI on a token.
func (r *Rotation) KeyPath() string { return r.h.keyStore().Place(r.name) }

// generations lists the finished generations after the first of a key, the
// oldest first.
func (h *Home) generations(name string) ([]placed, error) {
	var out []placed
	for n := 2; n < maxGenerations; n++ {
		path := h.rotationFile(name+"."+strconv.Itoa(n), ".json")
		data, err := readPublic(path)
		if errors.Is(err, fs.ErrNotExist) {
			return out, nil
		}
		p := placed{}
		if err == nil {
			err = json.Unmarshal(data, &p)
		}
		if err != nil || p.V != 1 || p.KID.IsZero() {
			return nil, &Error{Code: CodeRotation, Path: path, Reason: "the record of a key's replacement cannot be read", Hint: "delete it and run the same `zhenglian institution rotate` again: the log has the place", Err: err}
		}
		out = append(out, p)
	}
	return out, nil
}

// loadCurrent loads the newest finished generation of a planned key.
func (h *Home) loadCurrent(store signing.Mixed, k expectedKey) (*signing.Key, error) {
	if !k.use.Replaceable() {
		return loadKey(store, k)
	}
	all, err := h.generations(k.name)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return loadKey(store, k)
	}
	name := k.name + "." + strconv.Itoa(len(all)+1)
	key, err := store.Key(name)
	path := store.Place(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, &Error{Code: CodeKeyMissing, Path: path, Reason: "the " + name + " key is missing", Hint: "restore it from the institution's backup, or replace it with `zhenglian institution rotate --reason keyCompromise`"}
	case err != nil:
		return nil, &Error{Code: CodeKeyUnreadable, Path: path, Reason: "the " + name + " key cannot be used", Err: err}
	case key.Public().KID() != all[len(all)-1].KID:
		return nil, &Error{Code: CodeKeyMismatch, Path: path, Reason: fmt.Sprintf("the file holds key %s, the log has %s", key.Public().KID(), all[len(all)-1].KID), Hint: "restore the key file from the institution's backup"}
	}
	return key, nil
}

// Current reads the home again and returns the key of a use that counts now: for
// processes that run while a key is replaced. Errors are *Error.
func (h *Home) Current(use evidence.KeyUse) (*signing.Key, error) {
	store := h.keyStore()
	for _, k := range filePlan(h.Descriptor) {
		if k.use == use {
			return h.loadCurrent(store, k)
		}
	}
	return nil, &Error{Code: CodeKeyMissing, Path: h.Path, Reason: fmt.Sprintf("the institution has no %s key", use)}
}

// FindKey returns the private key with this kid, of whatever generation, finished
// or not. It fails with fs.ErrNotExist, wrapped, when there is none.
func (h *Home) FindKey(use evidence.KeyUse, kid evidence.Digest) (*signing.Key, error) {
	store := h.keyStore()
	var errs []error
	for _, k := range filePlan(h.Descriptor) {
		if k.use != use {
			continue
		}
		names := []string{k.name}
		for n := 2; n < maxGenerations; n++ {
			name := k.name + "." + strconv.Itoa(n)
			if store.Has(name) {
				names = append(names, name)
			}
		}
		for _, name := range names {
			key, err := store.Key(name)
			if err == nil && key.Public().KID() == kid {
				return key, nil
			}
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
			}
		}
	}
	return nil, errors.Join(append(errs, fmt.Errorf("the %s key %s: %w", use, kid, fs.ErrNotExist))...)
}

// planned finds the key of a use that is to be replaced: of several receipt keys
// the SM2 one when sm2 is set, else the other.
func (h *Home) planned(use evidence.KeyUse, sm2 bool) (expectedKey, bool) {
	for _, k := range filePlan(h.Descriptor) {
		if k.use == use && (k.name == nameReceiptSM2) == sm2 {
			return k, true
		}
	}
	return expectedKey{}, false
}

// BeginRotation makes the next generation of a key, or finds the one that an
// interrupted run made. alg is that of the key before when zero. Errors are
// *Error.
func (h *Home) BeginRotation(use evidence.KeyUse, sm2 bool, alg evidence.Algorithm) (*Rotation, error) {
	if !use.Replaceable() {
		return nil, &Error{Code: CodeRotation, Path: h.Path, Subject: string(use), Reason: fmt.Sprintf("a %s key is not replaced by a statement in the log", use), Hint: "receipt, cosign, attest and statement keys are"}
	}
	k, ok := h.planned(use, sm2)
	if !ok {
		return nil, &Error{Code: CodeNoSM2, Path: h.Path, Subject: string(use), Reason: "this institution has no SM2 receipt key", Hint: "leave --sm2 out"}
	}
	all, err := h.generations(k.name)
	if err != nil {
		return nil, err
	}
	r := &Rotation{Use: use, h: h, name: k.name + "." + strconv.Itoa(len(all)+2)}
	// The public half is known even when the private one is lost.
	old, err := publicOf(k.der)
	if err != nil {
		return nil, &Error{Code: CodeDescriptor, Path: h.DescriptorPath(), Reason: "a key of the descriptor cannot be read", Err: err}
	}
	r.Replaces = old.KID()
	if len(all) > 0 {
		r.Replaces = all[len(all)-1].KID
	}
	if alg == 0 {
		alg = old.Algorithm()
		if len(all) > 0 {
			if key, err := h.FindKey(use, r.Replaces); err == nil {
				alg = key.Public().Algorithm()
			}
		}
	}
	store := h.keyStore()
	r.Key, err = store.Key(r.name)
	if r.Resumed = err == nil; errors.Is(err, fs.ErrNotExist) {
		r.Key, err = store.Generate(r.name, alg, nil)
	}
	if err != nil {
		return nil, &Error{Code: CodeRotation, Path: store.Place(r.name), Reason: "the new key cannot be made or read", Hint: "run it again: it goes on with what is there", Err: err}
	}
	path := h.rotationFile(r.name, ".cose")
	r.Statement, err = readPublic(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, &Error{Code: CodeRotation, Path: path, Reason: "the statement of an interrupted run cannot be read", Hint: "delete it and run it again", Err: err}
	}
	return r, nil
}

func publicOf(der []byte) (*evidence.PublicKey, error) {
	if len(der) == 32 {
		return evidence.NewEd25519Key(der)
	}
	return evidence.ParsePublicKey(der)
}

// Sign makes the statement with the institution's statement key, and puts it on
// disk. It keeps one that is there.
func (r *Rotation) Sign(statementKey evidence.Signer, reason uint64, now time.Time) error {
	if r.Statement != nil {
		return nil
	}
	a, err := r.h.Joined()
	if err != nil {
		return err
	}
	fail := func(err error) error {
		return &Error{Code: CodeRotation, Path: r.h.rotationFile(r.name, ".cose"), Reason: "the statement cannot be made", Hint: "run it again: it goes on with what is there", Err: err}
	}
	change, err := evidence.NewKeyChange(a.ID(), r.h.ID(), r.Use, r.Replaces, reason, r.Key)
	if err != nil {
		return fail(err)
	}
	s, err := evidence.Statement{Issuer: r.h.ID(), Subject: evidence.SubjectRegistry, IssuedAt: now.Unix(),
		ContentType: evidence.TypeKeyChange, Payload: change.Encode()}.Sign(statementKey)
	if err != nil {
		return fail(err)
	}
	if err := os.MkdirAll(filepath.Join(r.h.Path, rotationsDir), 0o700); err != nil {
		return fail(err)
	}
	if err := signing.CreateFile(r.h.rotationFile(r.name, ".cose"), s.Bytes(), 0o600); err != nil {
		return fail(err)
	}
	r.Statement = s.Bytes()
	return nil
}

// Withdraw takes the statement off the disk after the log refused it for good.
// With burned set the new key goes too: somebody has registered it.
func (r *Rotation) Withdraw(burned bool) error {
	err := os.Remove(r.h.rotationFile(r.name, ".cose"))
	if burned {
		err = errors.Join(err, r.removeKey())
	}
	return err
}

// removeKey deletes the file of a key that nobody uses; one on a token stays.
func (r *Rotation) removeKey() error {
	err := os.Remove(r.h.keyStore().Files.Path(r.name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Finish notes the statement's place in the log.
func (r *Rotation) Finish(statement evidence.Digest, position uint64) error {
	path := r.h.rotationFile(r.name, ".json")
	data, err := json.Marshal(placed{1, r.Use, r.Key.Public().KID(), position, statement})
	if err == nil {
		err = signing.CreateFile(path, append(data, '\n'), 0o600)
	}
	if errors.Is(err, fs.ErrExist) {
		err = nil // another run of the same rotation
	}
	if err != nil {
		return &Error{Code: CodeRotation, Path: path, Reason: "the key is replaced, and its place in the log cannot be written", Hint: "run it again: it goes on with what is there", Err: err}
	}
	return nil
}

// Generation is one key of an institution's home, for people.
type Generation struct {
	Name     string // of the file in keys/, without .pem
	Use      evidence.KeyUse
	KID      evidence.Digest
	Position uint64 // of the statement that put it in place
	Later    bool   // than the founding
	Current  bool
}

// Generations lists the replaceable keys, past and present, in the descriptor's
// order, the oldest first.
func (h *Home) Generations() ([]Generation, error) {
	var out []Generation
	for _, k := range filePlan(h.Descriptor) {
		if !k.use.Replaceable() {
			continue
		}
		pub, err := publicOf(k.der)
		if err != nil {
			return nil, &Error{Code: CodeDescriptor, Path: h.DescriptorPath(), Reason: "a key of the descriptor cannot be read", Err: err}
		}
		all, err := h.generations(k.name)
		if err != nil {
			return nil, err
		}
		out = append(out, Generation{Name: k.name, Use: k.use, KID: pub.KID(), Current: len(all) == 0})
		for i, p := range all {
			out = append(out, Generation{Name: k.name + "." + strconv.Itoa(i+2), Use: k.use, KID: p.KID, Position: p.Position, Later: true, Current: i == len(all)-1})
		}
	}
	return out, nil
}
