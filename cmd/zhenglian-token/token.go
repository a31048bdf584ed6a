//go:build cgo

package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"strings"

	"github.com/ThalesGroup/crypto11"
	"github.com/miekg/pkcs11"

	"github.com/zhenglian/zhenglian/internal/signing"
)

// Numbers of PKCS#11 v3.0 (§2.3.7, §2.3.11) that the binding has no names for.
const (
	ckkECEdwards           = 0x40
	ckmECEdwardsKeyPairGen = 0x1055
	ckmEDDSA               = 0x1057
)

// hardware is a token: P-256 through crypto11, and Ed25519, which that does not
// know, through the binding under it. Both share the library's one login.
type hardware struct {
	ctx     *crypto11.Context
	raw     *pkcs11.Ctx
	session pkcs11.SessionHandle
}

func openToken(q *signing.TokenRequest) (token, error) {
	// crypto11 has to come first: it insists on starting the library itself.
	ctx, err := crypto11.Configure(&crypto11.Config{Path: q.Module, TokenLabel: q.Token, TokenSerial: q.Serial, Pin: q.PIN})
	switch {
	case err == nil:
	case isAny(err, pkcs11.CKR_PIN_INCORRECT, pkcs11.CKR_PIN_INVALID, pkcs11.CKR_PIN_LEN_RANGE, pkcs11.CKR_PIN_LOCKED, pkcs11.CKR_PIN_EXPIRED):
		return nil, &codedError{signing.TokenWrongPIN, err}
	case strings.Contains(err.Error(), "could not find PKCS#11 token"): // it exports no error for that
		return nil, &codedError{signing.TokenNoToken, fmt.Errorf("no slot has the token %s%s", q.Token, q.Serial)}
	case strings.Contains(err.Error(), "failed to create module context"):
		return nil, &codedError{signing.TokenNoModule, fmt.Errorf("the PKCS#11 library %s cannot be loaded: %w", q.Module, err)}
	default:
		return nil, fmt.Errorf("opening it: %w", err)
	}
	h := &hardware{ctx: ctx, raw: pkcs11.New(q.Module)}
	if h.raw == nil {
		return nil, errors.New("the PKCS#11 library does not load twice")
	}
	if err := h.raw.Initialize(); err != nil && !isAny(err, pkcs11.CKR_CRYPTOKI_ALREADY_INITIALIZED) {
		return nil, fmt.Errorf("starting its library: %w", err)
	}
	slot, err := findSlot(h.raw, q)
	if err != nil {
		return nil, err
	}
	if h.session, err = h.raw.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION); err != nil {
		return nil, fmt.Errorf("opening a session: %w", err)
	}
	return h, nil
}

func isAny(err error, codes ...uint) bool {
	var e pkcs11.Error
	if !errors.As(err, &e) {
		return false
	}
	for _, c := range codes {
		if uint(e) == c {
			return true
		}
	}
	return false
}

// findSlot: exactly one token may have the label; labels are not unique.
func findSlot(raw *pkcs11.Ctx, q *signing.TokenRequest) (uint, error) {
	slots, err := raw.GetSlotList(true)
	if err != nil {
		return 0, fmt.Errorf("listing slots: %w", err)
	}
	var found []uint
	for _, s := range slots {
		info, err := raw.GetTokenInfo(s)
		if err != nil || info.Flags&pkcs11.CKF_TOKEN_INITIALIZED == 0 {
			continue
		}
		if q.Serial != "" && info.SerialNumber == q.Serial || q.Serial == "" && info.Label == q.Token {
			found = append(found, s)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return 0, &codedError{signing.TokenNoToken, fmt.Errorf("no slot has the token %s%s", q.Token, q.Serial)}
	}
	return 0, &codedError{signing.TokenNoToken, fmt.Errorf("%d tokens are called %s: name one by its serial number", len(found), q.Token)}
}

func (h *hardware) close() {
	_ = h.raw.CloseSession(h.session)
	_ = h.ctx.Close()
}

func (h *hardware) do(q *signing.TokenRequest) (signing.TokenAnswer, error) {
	var a signing.TokenAnswer
	pair, err := h.find(q)
	if err != nil {
		return a, err
	}
	switch q.Op {
	case "find":
		if pair == nil {
			return a, noKey(q)
		}
	case "generate":
		if pair != nil {
			return a, &codedError{signing.TokenKeyExists, fmt.Errorf("the token has a key %q already, and keys are never replaced", q.Object)}
		}
		if pair, err = h.generate(q); err != nil {
			return a, err
		}
	case "sign":
		if pair == nil {
			return a, noKey(q)
		}
		a.Signature, err = pair.sign(q.Message)
		return a, err
	default:
		return a, fmt.Errorf("there is no request %q", q.Op)
	}
	a.Public, err = x509.MarshalPKIXPublicKey(pair.public)
	return a, err
}

func noKey(q *signing.TokenRequest) error {
	return &codedError{signing.TokenNoKey, fmt.Errorf("the token has no key pair with label %q and id %x", q.Object, q.ID)}
}

// keyPair is a key pair on the token.
type keyPair struct {
	public crypto.PublicKey
	sign   func([]byte) ([]byte, error)
}

func label(s string) []byte {
	if s == "" {
		return nil
	}
	return []byte(s)
}

// find returns nil without an error when there is none.
func (h *hardware) find(q *signing.TokenRequest) (*keyPair, error) {
	id := q.ID
	if len(id) == 0 {
		id = nil
	}
	edwards, err := h.findEd25519(q.Object, id)
	if err != nil || edwards != nil {
		return edwards, err
	}
	pairs, err := h.ctx.FindKeyPairs(id, label(q.Object))
	if err != nil {
		return nil, fmt.Errorf("looking for a key: %w", err)
	}
	switch len(pairs) {
	case 0:
		return nil, nil
	case 1:
	default:
		return nil, &codedError{signing.TokenBadKey, fmt.Errorf("%d key pairs have the label %q: name one by its id", len(pairs), q.Object)}
	}
	pub, ok := pairs[0].Public().(*ecdsa.PublicKey)
	if !ok || pub.Curve != elliptic.P256() {
		return nil, &codedError{signing.TokenBadKey, fmt.Errorf("the key %q is neither P-256 nor Ed25519", q.Object)}
	}
	return &keyPair{pub, func(digest []byte) ([]byte, error) { return pairs[0].Sign(rand.Reader, digest, crypto.SHA256) }}, nil
}

// objects finds Ed25519 keys of a class.
func (h *hardware) objects(class uint, object string, id []byte) ([]pkcs11.ObjectHandle, error) {
	template := []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_CLASS, class), pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, ckkECEdwards)}
	if object != "" {
		template = append(template, pkcs11.NewAttribute(pkcs11.CKA_LABEL, object))
	}
	if id != nil {
		template = append(template, pkcs11.NewAttribute(pkcs11.CKA_ID, id))
	}
	if err := h.raw.FindObjectsInit(h.session, template); err != nil {
		return nil, fmt.Errorf("looking for a key: %w", err)
	}
	found, _, err := h.raw.FindObjects(h.session, 2)
	return found, errors.Join(err, h.raw.FindObjectsFinal(h.session))
}

func (h *hardware) findEd25519(object string, id []byte) (*keyPair, error) {
	private, err := h.objects(pkcs11.CKO_PRIVATE_KEY, object, id)
	if err != nil || len(private) == 0 {
		return nil, err
	}
	public, err := h.objects(pkcs11.CKO_PUBLIC_KEY, object, id)
	if err != nil {
		return nil, err
	}
	if len(private) != 1 || len(public) != 1 {
		return nil, &codedError{signing.TokenBadKey, fmt.Errorf("the label %q is of %d private and %d public keys: name one pair by its id", object, len(private), len(public))}
	}
	attributes, err := h.raw.GetAttributeValue(h.session, public[0], []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_EC_POINT, nil)})
	if err != nil {
		return nil, fmt.Errorf("reading a public key: %w", err)
	}
	point := attributes[0].Value
	var inner []byte // PKCS#11 v3.0 has the bytes alone, earlier practice an OCTET STRING
	if rest, err := asn1.Unmarshal(point, &inner); err == nil && len(rest) == 0 {
		point = inner
	}
	if len(point) != ed25519.PublicKeySize {
		return nil, &codedError{signing.TokenBadKey, fmt.Errorf("the key %q is on another curve than edwards25519", object)}
	}
	return &keyPair{ed25519.PublicKey(point), func(message []byte) ([]byte, error) {
		if err := h.raw.SignInit(h.session, []*pkcs11.Mechanism{pkcs11.NewMechanism(ckmEDDSA, nil)}, private[0]); err != nil {
			return nil, fmt.Errorf("beginning to sign: %w", err)
		}
		return h.raw.Sign(h.session, message)
	}}, nil
}

// generate makes a key pair that never leaves the token.
func (h *hardware) generate(q *signing.TokenRequest) (*keyPair, error) {
	id := q.ID
	if len(id) == 0 {
		id = make([]byte, 16)
		_, _ = rand.Read(id) // never fails (crypto/rand)
	}
	if q.Algorithm == "p256" {
		if _, err := h.ctx.GenerateECDSAKeyPairWithLabel(id, []byte(q.Object), elliptic.P256()); err != nil {
			return nil, fmt.Errorf("making a key: %w", err)
		}
		return h.find(q)
	}
	curve, err := asn1.MarshalWithParams("edwards25519", "printable") // PKCS#11 v3.0 §2.3.10
	if err != nil {
		return nil, err
	}
	both := []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_LABEL, q.Object), pkcs11.NewAttribute(pkcs11.CKA_ID, id)}
	public := append([]*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_VERIFY, true), pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, curve)}, both...)
	private := append([]*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_SIGN, true), pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
		pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true), pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false)}, both...)
	_, _, err = h.raw.GenerateKeyPair(h.session, []*pkcs11.Mechanism{pkcs11.NewMechanism(ckmECEdwardsKeyPairGen, nil)}, public, private)
	if isAny(err, pkcs11.CKR_MECHANISM_INVALID) {
		return nil, &codedError{signing.TokenBadKey, errors.New("this token makes no Ed25519 keys: use p256 where that is allowed, or keep this key in a file")}
	}
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	return h.find(q)
}
