// Package webauthntest is a passkey in memory, for tests: what an authenticator
// and the browser before it would give.
//
//	New(rpID) ──► Authenticator ──► Key, Credential   for the passkey statement
//	                            └─► Assert(challenge) for the manifest
//	                            └─► Sign(data, data)  for a forger's bytes
//
// It is test code and trusts nothing, because nothing may trust it.
package webauthntest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"

	"github.com/zhenglian/zhenglian/evidence"
)

// Flags of authenticator data (WebAuthn Level 3 §6.1).
const (
	UP = 1 << 0
	UV = 1 << 2
)

// Authenticator holds one credential.
type Authenticator struct {
	relyingParty string
	private      crypto.Signer
	public       *evidence.PublicKey
	credential   [32]byte
	count        uint32
}

// New makes a credential on P-256 for a relying party. It panics when the system
// gives no random bytes.
func New(relyingParty string) *Authenticator {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return with(relyingParty, key)
}

// NewEd25519 is New with an Ed25519 key.
func NewEd25519(relyingParty string) *Authenticator {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	return with(relyingParty, key)
}

// FromSeed makes the Ed25519 credential that follows from a text, so that a
// vector has the same bytes each time.
func FromSeed(relyingParty, seed string) *Authenticator {
	sum := sha256.Sum256([]byte(seed))
	a := with(relyingParty, ed25519.NewKeyFromSeed(sum[:]))
	a.credential = sha256.Sum256([]byte(seed + "/credential"))
	return a
}

func with(relyingParty string, key crypto.Signer) *Authenticator {
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		panic(err)
	}
	pub, err := evidence.ParsePublicKey(der)
	if err != nil {
		panic(err)
	}
	a := &Authenticator{relyingParty: relyingParty, private: key, public: pub}
	if _, err := rand.Read(a.credential[:]); err != nil {
		panic(err)
	}
	return a
}

// Key returns the credential's public key.
func (a *Authenticator) Key() *evidence.PublicKey { return a.public }

// CredentialID returns the credential's id, 32 bytes.
func (a *Authenticator) CredentialID() []byte { return a.credential[:] }

// Credential returns the digest that a passkey statement has of the id.
func (a *Authenticator) Credential() evidence.Digest { return evidence.SumSHA256(a.credential[:]) }

// Assert confirms a challenge on a page of that origin; uv says whether the
// device verified its user.
func (a *Authenticator) Assert(challenge evidence.Digest, origin string, uv bool) *evidence.Assertion {
	flags := byte(UP)
	if uv {
		flags |= UV
	}
	return a.Sign(a.Data(flags), ClientData("webauthn.get", challenge, origin, false))
}

// Data returns authenticator data with these flags and no extensions.
func (a *Authenticator) Data(flags byte) []byte {
	a.count++
	hash := sha256.Sum256([]byte(a.relyingParty))
	return binary.BigEndian.AppendUint32(append(hash[:], flags), a.count)
}

// ClientData returns what a browser writes.
func ClientData(kind string, challenge evidence.Digest, origin string, cross bool) []byte {
	data, err := json.Marshal(struct {
		Type        string `json:"type"`
		Challenge   string `json:"challenge"`
		Origin      string `json:"origin"`
		CrossOrigin bool   `json:"crossOrigin"`
	}{kind, base64.RawURLEncoding.EncodeToString(challenge[:]), origin, cross})
	if err != nil {
		panic(err)
	}
	return data
}

// Sign makes an assertion of whatever it is given.
func (a *Authenticator) Sign(authenticatorData, clientData []byte) *evidence.Assertion {
	hash := sha256.Sum256(clientData)
	message := append(append([]byte{}, authenticatorData...), hash[:]...)
	opts := crypto.SignerOpts(crypto.Hash(0))
	if a.public.Algorithm() == evidence.ES256 {
		sum := sha256.Sum256(message)
		message, opts = sum[:], crypto.SHA256
	}
	sig, err := a.private.Sign(rand.Reader, message, opts)
	if err != nil {
		panic(fmt.Sprintf("signing an assertion: %v", err))
	}
	return &evidence.Assertion{KID: a.public.KID(), AuthenticatorData: base64.RawURLEncoding.EncodeToString(authenticatorData),
		ClientData: base64.RawURLEncoding.EncodeToString(clientData), Signature: base64.RawURLEncoding.EncodeToString(sig)}
}
