//go:build js && wasm

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/vault"
)

// objectWire is an object as the page knows it, which puts its fields into the
// manifest.
type objectWire struct {
	SHA256     evidence.Digest `json:"sha256"`
	SM3        evidence.Digest `json:"sm3"`
	Size       int64           `json:"size"`
	Chunks     int64           `json:"chunks"`
	PlainRoot  evidence.Digest `json:"plain_root"`
	CipherRoot evidence.Digest `json:"cipher_root"`
}

func wireOf(o vault.Object) objectWire {
	return objectWire{o.SHA256, o.SM3, o.Size, o.Chunks, o.PlaintextRoot, o.CiphertextRoot}
}

func vaultObject(o *evidence.Object) vault.Object {
	v := vault.Object{SHA256: o.SHA256, SM3: o.SM3, Size: o.Size}
	if o.Vault != nil {
		v.Chunks, v.PlaintextRoot, v.CiphertextRoot = o.Vault.Chunks, o.Vault.PlainRoot, o.Vault.CipherRoot
	}
	return v
}

// seal keeps what r gives encrypted to the recipients.
func seal(ctx context.Context, store vault.Store, r io.Reader, to []string, progress func(int64)) (objectWire, error) {
	rs, err := recipients(to)
	if err != nil {
		return objectWire{}, err
	}
	o, err := vault.New(store).Put(ctx, r, rs, progress)
	return wireOf(o), err
}

// drafted is a manifest that a passkey may still confirm.
type drafted struct {
	Draft     string `json:"draft"`
	Challenge string `json:"challenge,omitempty"`
}

// draft completes a manifest with version and salt and checks it.
func draft(text string, random io.Reader) (*drafted, error) {
	var m evidence.Manifest
	d := json.NewDecoder(bytes.NewReader([]byte(text)))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		return nil, inputError("reading the manifest: %v", err)
	}
	var err error
	if m.Salt, err = evidence.NewSalt(random); err != nil {
		return nil, err
	}
	m.V = 1
	data, err := m.Encode()
	if err != nil {
		return nil, err
	}
	out := &drafted{Draft: string(data)}
	if m.Act != nil {
		digest, err := m.ActDigest()
		if err != nil {
			return nil, err
		}
		out.Challenge = base64URL(digest[:])
	}
	return out, nil
}

// confirm puts the passkey's assertion into a draft.
func confirm(text string, passkey *evidence.Assertion) ([]byte, error) {
	m, err := evidence.ParseManifest([]byte(text))
	if err != nil {
		return nil, err
	}
	if passkey != nil {
		if m.Act == nil {
			return nil, inputError("the draft names no act that a passkey could confirm")
		}
		m.Act.Passkey = passkey
	}
	return m.Encode()
}

// order is what deposit is asked for.
type order struct {
	Draft      string              `json:"draft"`
	Passkey    *evidence.Assertion `json:"passkey"`
	Member     string              `json:"member"`
	Trail      *evidence.Digest    `json:"trail"`
	Prev       *evidence.Digest    `json:"prev"`
	After      string              `json:"after"`
	IssuedAt   int64               `json:"issuedAt"`
	Recipients []string            `json:"recipients"`
}

// deposited is a signed statement and what it commits to.
type deposited struct {
	Statement *evidence.Statement
	Manifest  []byte
}

// deposit seals the manifest and signs the statement. Nothing is sent: the
// manifest's ciphertext lies in the store before there is a signature on its
// digest, so that no statement can stand whose manifest is lost.
func deposit(ctx context.Context, store vault.Store, signer evidence.Signer, o *order) (*deposited, error) {
	data, err := confirm(o.Draft, o.Passkey)
	if err != nil {
		return nil, err
	}
	s := evidence.Statement{Issuer: o.Member, Subject: evidence.SubjectNewTrail, IssuedAt: o.IssuedAt, ContentType: evidence.TypeDeposit}
	switch {
	case o.Trail == nil && o.Prev == nil:
	case o.Trail == nil || o.Prev == nil:
		return nil, inputError("a step of a trail needs the trail and the statement before it")
	default:
		s.Subject, s.Prev = evidence.TrailSubject(*o.Trail), *o.Prev
	}
	if o.After != "" {
		cp, err := evidence.ParseCheckpoint([]byte(o.After))
		if err != nil {
			return nil, inputError("reading the checkpoint: %v", err)
		}
		s.After = cp.Checkpoint
	} else {
		s.After.Root = evidence.SumSHA256(nil) // the root of an empty log, RFC 9162 §2.1.1
	}
	kept, err := seal(ctx, store, bytes.NewReader(data), o.Recipients, nil)
	if err != nil {
		return nil, fmt.Errorf("sealing the manifest: %w", err)
	}
	s.Payload, s.ManifestSM3 = kept.SHA256[:], kept.SM3
	signed, err := s.Sign(signer)
	if err != nil {
		return nil, err
	}
	// WebCrypto's answer is checked here, not first by an institution.
	if err := signer.Public().Verify(signed.ToBeSigned(), signed.Signature); err != nil {
		return nil, fmt.Errorf("checking the signature that the browser made: %w", err)
	}
	return &deposited{signed, data}, nil
}

// opener opens manifests and objects with the member's identities.
type opener struct {
	ctx        context.Context
	vault      *vault.Vault
	identities []string
}

func (p *opener) open(digest evidence.Digest) ([]byte, error) {
	ids, err := identities(p.identities)
	if err != nil {
		return nil, err
	}
	r, err := p.vault.Open(p.ctx, digest, ids...)
	if err != nil {
		return nil, err
	}
	if r.Size() > evidence.MaxManifest {
		return nil, inputError("object %s has %d bytes, more than a manifest", digest, r.Size())
	}
	return io.ReadAll(r)
}

// Manifest implements evidence.Plaintext.
func (p *opener) Manifest(s *evidence.Statement) ([]byte, error) {
	data, err := p.open(evidence.Digest(s.Payload))
	if errors.Is(err, vault.ErrMissing) || errors.Is(err, vault.ErrNotForKey) {
		return nil, nil
	}
	return data, err
}

// Object implements evidence.Plaintext.
func (p *opener) Object(o *evidence.Object) (io.Reader, error) {
	c, err := p.content(o)
	if errors.Is(err, vault.ErrMissing) || errors.Is(err, vault.ErrNotForKey) {
		return nil, nil
	}
	if err != nil {
		return nil, err // not c: a nil *vault.Content is no nil io.Reader
	}
	return c, nil
}

func (p *opener) content(o *evidence.Object) (*vault.Content, error) {
	ids, err := identities(p.identities)
	if err != nil {
		return nil, err
	}
	if o.Vault == nil {
		return p.vault.Open(p.ctx, o.SHA256, ids...)
	}
	return p.vault.OpenObject(p.ctx, vaultObject(o), ids...)
}

// rewrap gives a new device's recipient the objects that identity opens.
func rewrap(ctx context.Context, store vault.Store, digests []evidence.Digest, identity, recipient string, progress func(int)) (done int, missing []evidence.Digest, err error) {
	id, err := readRecovery(identity)
	if err != nil {
		return 0, nil, err
	}
	to, err := recipients([]string{recipient})
	if err != nil {
		return 0, nil, err
	}
	missing = []evidence.Digest{}
	v := vault.New(store)
	for i, d := range digests {
		err := v.AddRecipient(ctx, d, id, to[0])
		switch {
		case errors.Is(err, vault.ErrMissing), errors.Is(err, vault.ErrNotForKey):
			missing = append(missing, d)
		case err != nil:
			return done, missing, err
		default:
			done++
		}
		if progress != nil {
			progress(i + 1)
		}
	}
	return done, missing, nil
}

// passkeysOf returns the kids of the passkeys that manifests name, once each.
func passkeysOf(manifests []string) ([]evidence.Digest, error) {
	out := []evidence.Digest{}
	seen := map[evidence.Digest]bool{}
	for i, text := range manifests {
		m, err := evidence.ParseManifest([]byte(text))
		if err != nil {
			return nil, fmt.Errorf("manifest %d: %w", i+1, err)
		}
		if m.Act != nil && m.Act.Passkey != nil && !seen[m.Act.Passkey.KID] {
			seen[m.Act.Passkey.KID] = true
			out = append(out, m.Act.Passkey.KID)
		}
	}
	return out, nil
}

// errorCode returns the word by which the page tells failures apart, and the
// fields of a manifest's error.
func errorCode(err error) (code string, field *evidence.FieldError) {
	if coded, ok := errors.AsType[*codedError](err); ok {
		return coded.code, nil
	}
	if field, ok := errors.AsType[*evidence.FieldError](err); ok {
		return "manifest", field
	}
	if _, ok := errors.AsType[*vault.DamagedError](err); ok {
		return "damaged", nil
	}
	for _, known := range []struct {
		err  error
		code string
	}{{vault.ErrMissing, "missing"}, {vault.ErrOtherRecipients, "other-recipients"}, {vault.ErrNotForKey, "not-for-key"}} {
		if errors.Is(err, known.err) {
			return known.code, nil
		}
	}
	return "failed", nil
}
