package identity_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/evidence/webauthn/webauthntest"
	"github.com/zhenglian/zhenglian/internal/identity"
	"github.com/zhenglian/zhenglian/internal/identity/gb"
	"github.com/zhenglian/zhenglian/internal/identity/gb/gbtest"
	"github.com/zhenglian/zhenglian/internal/store"
	"github.com/zhenglian/zhenglian/internal/store/storetest"
)

const (
	origin = "https://portal.example"
	rpID   = "portal.example"
	issuer = "https://id.example"
)

func TestRegister(t *testing.T) {
	storetest.Run(t, func(t *testing.T, fresh storetest.NewDSN) {
		for _, c := range []struct {
			name string
			test func(*testing.T, *world)
		}{
			{"SignIn", signIn}, {"Levels", levels}, {"OneDocumentOnePerson", oneDocument}, {"AccountChangedHands", changedHands},
			{"Enrolment", enrolment}, {"Crash", crash}, {"RefusedByTheLog", refusedByLog}, {"Revocation", revocation}, {"AnothersKey", anothersKey}, {"Roll", roll},
			{"Passkey", passkey}, {"PasskeyRefused", passkeyRefused}, {"Acts", acts}, {"ActAttacks", actAttacks}, {"ClonedPasskey", cloned}, {"StolenSession", stolenSession},
			{"Application", application}, {"AnothersApplication", anothersApplication}, {"Officers", officers}, {"Fields", fields}, {"Documents", documents}, {"Enterprise", enterprise}, {"MandateEnds", mandateEnds}, {"Recovery", recovery},
			{"AccessLog", accessLog}, {"LockOut", lockOut}, {"Sealed", sealedColumns}, {"Enumeration", enumeration}, {"ExportAndErase", exportAndErase}, {"SignOutEverywhere", signOutEverywhere}, {"Run", run},
		} {
			t.Run(c.name, func(t *testing.T) { c.test(t, newWorld(t, fresh.Open(t))) })
		}
	})
}

// world is a register with a clock and a log that the test rules.
type world struct {
	t     *testing.T
	db    *store.DB
	keys  *store.Keys
	log   *fakeLog
	now   time.Time
	reg   *identity.Register
	ctx   context.Context
	count int
}

func newWorld(t *testing.T, db *store.DB) *world {
	w := &world{t: t, db: db, keys: storetest.Keys(t), log: &fakeLog{at: map[string]uint64{}, refuse: map[string]*identity.Refusal{}}, now: time.Date(2026, 11, 22, 15, 0, 0, 0, time.UTC), ctx: t.Context()}
	w.reg = w.restart()
	return w
}

// restart is what a new process finds.
func (w *world) restart() *identity.Register {
	r, err := identity.New(identity.Config{DB: w.db, Keys: w.keys, Chain: w.log, Origin: origin, Name: "Test CA", Demo: true, Now: func() time.Time { return w.now },
		Officers: []identity.Officer{{Issuer: issuer, Subject: "officer", Roles: []identity.Role{identity.RoleRA}}, {Issuer: issuer, Subject: "officer2", Roles: []identity.Role{identity.RoleRA}}, {Issuer: issuer, Subject: "operator", Roles: []identity.Role{identity.RoleOperator}}}})
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) is(err, want error, what string) {
	w.t.Helper()
	if !errors.Is(err, want) {
		w.t.Errorf("%s: got %v, want %v", what, err, want)
	}
}

func (w *world) exec(query string, args ...any) int64 {
	w.t.Helper()
	var n int64
	w.must(w.db.In(w.ctx, func(tx *store.Tx) (err error) {
		n, err = tx.Exec(w.ctx, query, args...)
		return err
	}))
	return n
}

func (w *world) facts(name, number string, level int) []identity.Fact {
	return []identity.Fact{
		{Name: identity.FactRealName, Value: name, Source: issuer, Level: level, Verified: w.now},
		{Name: identity.FactDocument, Value: identity.DocumentID, Source: issuer, Level: level, Verified: w.now},
		{Name: identity.FactNumber, Value: number, Source: issuer, Level: level, Verified: w.now},
	}
}

// signedIn is a person with a real name of that level (0: none).
func (w *world) signedIn(subject string, level int) identity.Who {
	w.t.Helper()
	w.count++
	var facts []identity.Fact
	if level > 0 {
		facts = w.facts("测试"+subject, number(w.count).Number(), level)
	}
	p, err := w.reg.SignIn(w.ctx, identity.SignIn{Issuer: issuer, Subject: subject, Facts: facts})
	w.must(err)
	return identity.Who{Person: p.ID, Session: "session of " + subject, Address: "192.0.2.1"}
}

func number(n int) gb.IDNumber { return gbtest.IDNumber(1990, 5, 17, n) }

func publicKey(t *testing.T) *evidence.PublicKey {
	t.Helper()
	pub, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := evidence.NewEd25519Key(pub)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// enrolled is a member with one enrolled key.
func (w *world) enrolled(who identity.Who) *identity.Key {
	w.t.Helper()
	k, err := w.reg.EnrolKey(w.ctx, who, identity.NewKey{Public: publicKey(w.t), Label: "laptop", Holder: identity.HolderBrowser, Recipient: "age1test"})
	w.must(err)
	w.must(w.reg.Deliver(w.ctx))
	k, err = w.reg.Key(w.ctx, who, k.KID)
	w.must(err)
	return k
}

// bound is a passkey of the person for the member, in the log.
func (w *world) bound(who identity.Who, member string) *device {
	w.t.Helper()
	d := &device{Authenticator: webauthntest.New(rpID)}
	c, err := w.reg.BeginPasskey(w.ctx, who, member, "phone")
	w.must(err)
	_, err = w.reg.FinishPasskey(w.ctx, who, c.ID, d.create(w.t, c, origin))
	w.must(err)
	w.must(w.reg.Deliver(w.ctx))
	return d
}

// fakeLog is the alliance's log. It gives the same bytes the same position.
type fakeLog struct {
	entries [][2]string // type, content
	at      map[string]uint64
	down    error
	crash   error                        // after accepting
	refuse  map[string]*identity.Refusal // by type
	signed  int
}

func (l *fakeLog) Prepare(_ context.Context, contentType string, content []byte) ([]byte, error) {
	l.signed++
	nonce := make([]byte, 16)
	rand.Read(nonce) // signing twice gives two statements
	return json.Marshal([]any{contentType, content, nonce})
}

func (l *fakeLog) Register(_ context.Context, statement []byte) (uint64, error) {
	if l.down != nil {
		return 0, l.down
	}
	var s struct {
		contentType string
		content     []byte
	}
	if err := json.Unmarshal(statement, &[]any{&s.contentType, &s.content, new([]byte)}); err != nil {
		return 0, err
	}
	if r := l.refuse[s.contentType]; r != nil {
		return 0, r
	}
	p, ok := l.at[string(statement)]
	if !ok {
		p = uint64(len(l.entries))
		l.at[string(statement)] = p
		l.entries = append(l.entries, [2]string{s.contentType, string(s.content)})
	}
	return p, l.crash
}

func (l *fakeLog) of(contentType string) (contents [][]byte) {
	for _, e := range l.entries {
		if e[0] == contentType {
			contents = append(contents, []byte(e[1]))
		}
	}
	return contents
}

// device is an authenticator and the browser before it.
type device struct{ *webauthntest.Authenticator }

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func challenge(t *testing.T, c *identity.Ceremony) evidence.Digest {
	t.Helper()
	var o struct {
		Challenge string `json:"challenge"`
	}
	if err := json.Unmarshal(c.Options, &o); err != nil {
		t.Fatal(err)
	}
	raw, err := base64.RawURLEncoding.DecodeString(o.Challenge)
	if err != nil || len(raw) != 32 {
		t.Fatalf("challenge %q: %v", o.Challenge, err)
	}
	return evidence.Digest(raw)
}

func (d *device) cose(t *testing.T) []byte {
	t.Helper()
	pub, err := x509.ParsePKIXPublicKey(d.Key().DER())
	if err != nil {
		t.Fatal(err)
	}
	return coseKey(t, pub)
}

func coseKey(t *testing.T, pub any) []byte {
	t.Helper()
	var m map[int]any
	switch k := pub.(type) {
	case ed25519.PublicKey:
		m = map[int]any{1: 1, 3: -8, -1: 6, -2: []byte(k)}
	case *ecdsa.PublicKey:
		point, err := k.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		n := (len(point) - 1) / 2
		alg, crv := -7, 1
		if k.Curve == elliptic.P384() {
			alg, crv = -35, 2
		}
		m = map[int]any{1: 2, 3: alg, -1: crv, -2: point[1 : 1+n], -3: point[1+n:]}
	case *rsa.PublicKey:
		m = map[int]any{1: 3, 3: -257, -1: k.N.Bytes(), -2: []byte{1, 0, 1}}
	}
	mode, err := cbor.CTAP2EncOptions().EncMode()
	if err != nil {
		t.Fatal(err)
	}
	b, err := mode.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const flagAT = 1 << 6

func (d *device) create(t *testing.T, c *identity.Ceremony, origin string) []byte {
	return d.createWith(t, challenge(t, c), origin, webauthntest.UP|webauthntest.UV, d.cose(t))
}

// createWith is the answer to a creation: an attestation object without
// attestation (WebAuthn §6.5.1, §8.7).
func (d *device) createWith(t *testing.T, challenge evidence.Digest, origin string, flags byte, cose []byte) []byte {
	t.Helper()
	data := d.Data(flags | flagAT)
	data = append(data, make([]byte, 16)...) // AAGUID
	data = binary.BigEndian.AppendUint16(data, uint16(len(d.CredentialID())))
	data = append(append(data, d.CredentialID()...), cose...)
	object, err := cbor.Marshal(map[string]any{"fmt": "none", "attStmt": map[string]any{}, "authData": data})
	if err != nil {
		t.Fatal(err)
	}
	return credentialJSON(t, d.CredentialID(), map[string]any{"clientDataJSON": b64(webauthntest.ClientData("webauthn.create", challenge, origin, false)), "attestationObject": b64(object), "transports": []string{"internal"}})
}

func credentialJSON(t *testing.T, id []byte, response map[string]any) []byte {
	t.Helper()
	b, err := json.Marshal(map[string]any{"id": b64(id), "rawId": b64(id), "type": "public-key", "response": response, "clientExtensionResults": map[string]any{}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (d *device) answer(t *testing.T, challenge evidence.Digest, origin string, uv bool) []byte {
	a := d.Assert(challenge, origin, uv)
	return credentialJSON(t, d.CredentialID(), map[string]any{"clientDataJSON": a.ClientData, "authenticatorData": a.AuthenticatorData, "signature": a.Signature})
}

func (d *device) get(t *testing.T, c *identity.Ceremony) []byte {
	return d.answer(t, challenge(t, c), origin, true)
}

func digest(s string) evidence.Digest { return sha256.Sum256([]byte(s)) }

func pdf(s string) []byte { return append([]byte("%PDF-1.7\n"), bytes.Repeat([]byte(s+"\n"), 10)...) }
