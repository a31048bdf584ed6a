package identity_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/evidence/webauthn"
	"github.com/zhenglian/zhenglian/evidence/webauthn/webauthntest"
	"github.com/zhenglian/zhenglian/internal/identity"
)

func passkey(t *testing.T, w *world) {
	a := w.signedIn("a", 2)
	k := w.enrolled(a)
	for _, d := range []*device{{webauthntest.New(rpID)}, {webauthntest.NewEd25519(rpID)}} {
		c, err := w.reg.BeginPasskey(w.ctx, a, k.Member, "phone")
		if errors.Is(err, identity.ErrPermission) {
			break // the second needs the first: StolenSession
		}
		w.must(err)
		var o struct {
			RP struct {
				ID string `json:"id"`
			} `json:"rp"`
			Attestation string `json:"attestation"`
			Parameters  []struct {
				Alg int `json:"alg"`
			} `json:"pubKeyCredParams"`
			Selection struct {
				Resident string `json:"residentKey"`
				UV       string `json:"userVerification"`
			} `json:"authenticatorSelection"`
		}
		w.must(json.Unmarshal(c.Options, &o))
		if o.RP.ID != rpID || o.Selection.UV != "required" || o.Selection.Resident != "preferred" || o.Attestation != "" && o.Attestation != "none" || len(o.Parameters) != 2 || o.Parameters[0].Alg != -7 || o.Parameters[1].Alg != -8 {
			t.Errorf("%s", c.Options)
		}
		p, err := w.reg.FinishPasskey(w.ctx, a, c.ID, d.create(t, c, origin))
		w.must(err)
		if p.KID != d.Key().KID() || p.Label != "phone" || p.State != identity.StateWaiting {
			t.Errorf("%+v", p)
		}
		w.must(w.reg.Deliver(w.ctx))
		s, err := evidence.ParsePasskey(w.log.of(evidence.TypePasskey)[0])
		w.must(err)
		if s.Member != k.Member || !s.Key.Equal(d.Key()) || s.Credential != d.Credential() || s.RelyingParty != rpID || !s.Demo {
			t.Errorf("%+v", s)
		}
		_, err = w.reg.FinishPasskey(w.ctx, a, c.ID, d.create(t, c, origin))
		w.is(err, identity.ErrCeremony, "the answer a second time")
	}
	all, err := w.reg.Passkeys(w.ctx, a, k.Member)
	w.must(err)
	if len(all) != 1 || all[0].State != identity.StateEnrolled || all[0].Position != 1 {
		t.Errorf("%+v", all)
	}
	// The same person in another's name has another handle: an authenticator
	// would replace the credential otherwise.
	b := w.signedIn("b", 2)
	ed := &device{webauthntest.NewEd25519(rpID)}
	c, err := w.reg.BeginPasskey(w.ctx, b, w.enrolled(b).Member, "")
	w.must(err)
	_, err = w.reg.FinishPasskey(w.ctx, b, c.ID, ed.create(t, c, origin))
	w.must(err)
}

func passkeyRefused(t *testing.T, w *world) {
	a := w.signedIn("a", 2)
	k := w.enrolled(a)
	d := &device{webauthntest.New(rpID)}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	w.must(err)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	w.must(err)
	const both = webauthntest.UP | webauthntest.UV
	for name, answer := range map[string]func(c *identity.Ceremony) []byte{
		"another site": func(c *identity.Ceremony) []byte { return d.create(t, c, "https://evil.example") },
		"another relying party": func(c *identity.Ceremony) []byte {
			return (&device{webauthntest.New("evil.example")}).create(t, c, origin)
		},
		"user not verified": func(c *identity.Ceremony) []byte {
			return d.createWith(t, challenge(t, c), origin, webauthntest.UP, d.cose(t))
		},
		"user not present": func(c *identity.Ceremony) []byte {
			return d.createWith(t, challenge(t, c), origin, webauthntest.UV, d.cose(t))
		},
		"another challenge": func(c *identity.Ceremony) []byte { return d.createWith(t, digest("x"), origin, both, d.cose(t)) },
		"P-384": func(c *identity.Ceremony) []byte {
			return d.createWith(t, challenge(t, c), origin, both, coseKey(t, &p384.PublicKey))
		},
		"RSA": func(c *identity.Ceremony) []byte {
			return d.createWith(t, challenge(t, c), origin, both, coseKey(t, &rsaKey.PublicKey))
		},
		"no JSON": func(c *identity.Ceremony) []byte { return []byte("{") },
		"nothing": func(c *identity.Ceremony) []byte { return nil },
	} {
		c, err := w.reg.BeginPasskey(w.ctx, a, k.Member, "")
		w.must(err)
		if _, err := w.reg.FinishPasskey(w.ctx, a, c.ID, answer(c)); !errors.Is(err, identity.ErrCeremony) {
			t.Errorf("%s: %v", name, err)
		}
	}
	begin := func() *identity.Ceremony {
		c, err := w.reg.BeginPasskey(w.ctx, a, k.Member, "")
		w.must(err)
		return c
	}
	c := begin()
	thief := a
	thief.Session = "another session"
	_, err = w.reg.FinishPasskey(w.ctx, thief, c.ID, d.create(t, c, origin))
	w.is(err, identity.ErrCeremony, "another session's ceremony")
	w.now = w.now.Add(5 * time.Minute)
	_, err = w.reg.FinishPasskey(w.ctx, a, c.ID, d.create(t, c, origin))
	w.is(err, identity.ErrCeremony, "five minutes later")
	if n := len(w.log.of(evidence.TypePasskey)); n != 0 {
		t.Errorf("%d passkeys were announced", n)
	}
	c = begin()
	_, err = w.reg.FinishPasskey(w.ctx, a, c.ID, d.create(t, c, origin))
	w.must(err)
	// Somebody shows another's public credential as hers.
	b := w.signedIn("b", 2)
	kb := w.enrolled(b)
	c, err = w.reg.BeginPasskey(w.ctx, b, kb.Member, "")
	w.must(err)
	_, err = w.reg.FinishPasskey(w.ctx, b, c.ID, d.create(t, c, origin))
	w.is(err, identity.ErrTaken, "another's credential")
	nobody := w.signedIn("nobody", 2)
	_, err = w.reg.BeginPasskey(w.ctx, nobody, k.Member, "")
	w.is(err, identity.ErrUnknown, "without being the member")
}

func acts(t *testing.T, w *world) {
	a := w.signedIn("a", 2)
	k := w.enrolled(a)
	d := w.bound(a, k.Member)
	for _, text := range []string{"sign this contract", "file this claim"} {
		want := digest(text)
		c, err := w.reg.BeginAct(w.ctx, a, k.Member, want)
		w.must(err)
		if challenge(t, c) != want {
			t.Fatal("the challenge is not the act's digest")
		}
		got, err := w.reg.FinishAct(w.ctx, a, c.ID, want, d.get(t, c))
		w.must(err)
		if err := webauthn.Check(got, d.Key(), want, rpID); err != nil || got.KID != d.Key().KID() {
			t.Errorf("%+v: %v", got, err)
		}
	}
	w.must(w.reg.Revoke(w.ctx, a, d.Key().KID(), identity.ReasonCessation))
	_, err := w.reg.BeginAct(w.ctx, a, k.Member, digest("x"))
	w.is(err, identity.ErrState, "a revoked passkey")
}

func actAttacks(t *testing.T, w *world) {
	a, b := w.signedIn("a", 2), w.signedIn("b", 2)
	ma, mb := w.enrolled(a).Member, w.enrolled(b).Member
	da, db := w.bound(a, ma), w.bound(b, mb)
	x := digest("the act that she sees")
	begin := func() *identity.Ceremony {
		c, err := w.reg.BeginAct(w.ctx, a, ma, x)
		w.must(err)
		return c
	}
	finish := func(name string, who identity.Who, id string, d evidence.Digest, answer []byte) {
		t.Helper()
		_, err := w.reg.FinishAct(w.ctx, who, id, d, answer)
		w.is(err, identity.ErrCeremony, name)
		w.must(w.reg.Passed(w.ctx, identity.ActionAct, who.Person, who.Address)) // LockOut tests that
	}
	c := begin()
	finish("for another act than is accepted", a, c.ID, digest("another"), da.get(t, c))
	c = begin()
	finish("signed for another act", a, c.ID, x, da.answer(t, digest("another"), origin, true))
	c = begin()
	finish("another's passkey", a, c.ID, x, db.get(t, c))
	c = begin()
	finish("another's answer under her credential's name", a, c.ID, x, (&device{db.Authenticator}).get(t, c))
	c = begin()
	finish("another site's page", a, c.ID, x, da.answer(t, x, "https://evil.example", true))
	c = begin()
	finish("without user verification", a, c.ID, x, da.answer(t, x, origin, false))
	c = begin()
	finish("no JSON", a, c.ID, x, []byte("no"))
	c = begin()
	answer := da.get(t, c)
	_, err := w.reg.FinishAct(w.ctx, a, c.ID, x, answer)
	w.must(err)
	finish("replayed", a, c.ID, x, answer)
	c = begin()
	finish("replayed in a new ceremony for the same act", a, c.ID, x, answer)
	c = begin()
	other := a
	other.Session = "another"
	finish("another session", other, c.ID, x, da.get(t, c))
	finish("another person", b, c.ID, x, da.get(t, c))
	if _, err = w.reg.FinishAct(w.ctx, a, c.ID, x, da.get(t, c)); err != nil {
		t.Errorf("others' tries ended her ceremony: %v", err)
	}
	c = begin()
	w.now = w.now.Add(5 * time.Minute)
	finish("after five minutes", a, c.ID, x, da.get(t, c))
	c = begin()
	w.must(w.reg.Revoke(w.ctx, a, da.Key().KID(), identity.ReasonCompromise))
	finish("revoked meanwhile", a, c.ID, x, da.get(t, c))
}

// The counter of a copy falls behind.
func cloned(t *testing.T, w *world) {
	a := w.signedIn("a", 2)
	k := w.enrolled(a)
	d := w.bound(a, k.Member)
	copyOf := *d.Authenticator // the same key and counter
	for range 3 {
		c, err := w.reg.BeginAct(w.ctx, a, k.Member, digest("x"))
		w.must(err)
		_, err = w.reg.FinishAct(w.ctx, a, c.ID, digest("x"), d.get(t, c))
		w.must(err)
	}
	c, err := w.reg.BeginAct(w.ctx, a, k.Member, digest("x"))
	w.must(err)
	_, err = w.reg.FinishAct(w.ctx, a, c.ID, digest("x"), (&device{&copyOf}).get(t, c))
	w.is(err, identity.ErrCeremony, "a counter that went back")
}

// A session alone, without the passkey, gives its thief nothing that lasts.
func stolenSession(t *testing.T, w *world) {
	a := w.signedIn("a", 2)
	k := w.enrolled(a)
	d := w.bound(a, k.Member)
	newKey := func() identity.NewKey {
		return identity.NewKey{Member: k.Member, Public: publicKey(t), Holder: identity.HolderBrowser}
	}
	_, err := w.reg.BeginPasskey(w.ctx, a, k.Member, "thief")
	w.is(err, identity.ErrPermission, "a second passkey")
	_, err = w.reg.EnrolKey(w.ctx, a, newKey())
	w.is(err, identity.ErrPermission, "a second key")
	_, err = w.reg.EnrolKey(w.ctx, a, identity.NewKey{Public: publicKey(t), Holder: identity.HolderBrowser})
	w.is(err, identity.ErrPermission, "a second key, member not named")
	stepUp := func(p identity.Permit) {
		t.Helper()
		c, err := w.reg.BeginStepUp(w.ctx, a, k.Member, p)
		w.must(err)
		w.must(w.reg.FinishStepUp(w.ctx, a, c.ID, d.get(t, c)))
	}
	stepUp(identity.PermitKey)
	_, err = w.reg.BeginPasskey(w.ctx, a, k.Member, "thief")
	w.is(err, identity.ErrPermission, "a passkey with a permission for a key")
	elsewhere := a
	elsewhere.Session = "another"
	_, err = w.reg.EnrolKey(w.ctx, elsewhere, newKey())
	w.is(err, identity.ErrPermission, "a permission of another session")
	_, err = w.reg.EnrolKey(w.ctx, a, newKey())
	w.must(err)
	_, err = w.reg.EnrolKey(w.ctx, a, newKey())
	w.is(err, identity.ErrPermission, "a permission used twice")
	stepUp(identity.PermitPasskey)
	second := w.bound(a, k.Member)
	stepUp(identity.PermitKey)
	w.now = w.now.Add(6 * time.Minute)
	_, err = w.reg.EnrolKey(w.ctx, a, newKey())
	w.is(err, identity.ErrPermission, "a permission six minutes old")
	// Revoking all passkeys is allowed to a session, and opens nothing.
	for _, p := range []*device{d, second} {
		w.must(w.reg.Revoke(w.ctx, a, p.Key().KID(), identity.ReasonCessation))
	}
	w.must(w.reg.Deliver(w.ctx))
	_, err = w.reg.BeginPasskey(w.ctx, a, k.Member, "thief")
	w.is(err, identity.ErrPermission, "after revoking all")
	// A step-up is no act and an act no step-up.
	b := w.signedIn("b", 2)
	mb := w.enrolled(b).Member
	db := w.bound(b, mb)
	c, err := w.reg.BeginAct(w.ctx, b, mb, digest("x"))
	w.must(err)
	w.is(w.reg.FinishStepUp(w.ctx, b, c.ID, db.get(t, c)), identity.ErrCeremony, "an act as a step-up")
}
