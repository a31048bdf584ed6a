package web_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/evidence/webauthn"
	"github.com/zhenglian/zhenglian/internal/identity"
	"github.com/zhenglian/zhenglian/internal/tour"
	"github.com/zhenglian/zhenglian/internal/web"
	"github.com/zhenglian/zhenglian/internal/web/webtest"
)

// onePasskey is web.Acts with one passkey, which the test made in the page. It
// checks what every verifier checks later.
type onePasskey struct {
	id     string // of the credential, base64url
	public *evidence.PublicKey
	acts   []evidence.Digest // that were confirmed
}

func (o *onePasskey) BeginAct(_ context.Context, _ identity.Who, _ string, digest evidence.Digest) (*identity.Ceremony, error) {
	options, err := json.Marshal(map[string]any{"challenge": base64.RawURLEncoding.EncodeToString(digest[:]), "rpId": "localhost", "userVerification": "required",
		"allowCredentials": []any{map[string]any{"type": "public-key", "id": o.id}}})
	return &identity.Ceremony{ID: "c:1", Options: options}, err
}

func (o *onePasskey) FinishAct(_ context.Context, _ identity.Who, id string, digest evidence.Digest, answer []byte) (*evidence.Assertion, error) {
	var v struct {
		Response struct{ AuthenticatorData, ClientDataJSON, Signature string }
	}
	if err := json.Unmarshal(answer, &v); err != nil || id != "c:1" {
		return nil, identity.ErrCeremony
	}
	a := &evidence.Assertion{KID: o.public.KID(), AuthenticatorData: v.Response.AuthenticatorData, ClientData: v.Response.ClientDataJSON, Signature: v.Response.Signature}
	if err := webauthn.Check(a, o.public, digest, "localhost"); err != nil {
		return nil, errors.Join(err, identity.ErrCeremony)
	}
	o.acts = append(o.acts, digest)
	return a, nil
}

func (o *onePasskey) BeginStepUp(context.Context, identity.Who, string, identity.Permit) (*identity.Ceremony, error) {
	return nil, identity.ErrState
}

func (o *onePasskey) FinishStepUp(context.Context, identity.Who, string, []byte) error {
	return identity.ErrCeremony
}

const makePasskey = `(async () => {
	const text = (b) => btoa(String.fromCharCode(...new Uint8Array(b)));
	const c = await navigator.credentials.create({ publicKey: { challenge: new Uint8Array(32), rp: { name: "portal", id: "localhost" },
		user: { id: new Uint8Array([1]), name: "li", displayName: "li" }, pubKeyCredParams: [{ type: "public-key", alg: -7 }],
		authenticatorSelection: { residentKey: "required", userVerification: "required" } } });
	return c.id + " " + text(c.response.getPublicKey());
})()`

// TestConfirmedDeposit: an act is confirmed with a passkey whose assertion
// stands in the package's manifest; a finger that does not fit deposits nothing.
func TestConfirmedDeposit(t *testing.T) {
	if testing.Short() {
		t.Skip("drives a browser: left out of -short")
	}
	if _, err := os.Stat("wasm/browser.wasm.gz"); err != nil {
		t.Skip("the WebAssembly module is not built: run scripts/wasm.sh")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	b, err := tour.Open(ctx)
	if errors.Is(err, tour.ErrNoBrowser) {
		t.Skip(err)
	}
	ok(t, err)
	t.Cleanup(func() { ok(t, b.Close()) })
	var deposits *webtest.Deposits
	acts := &onePasskey{}
	p := webtest.Start(t, webtest.WithDeposits(t, &deposits), func(c *web.Config) { c.Parts.Acts, c.Parts.Register = acts, nil })

	d := newDevice(t, ctx, b, p, webtest.Newcomer, tour.Screen{Lang: "en"})
	authenticator, err := d.AddAuthenticator(ctx)
	ok(t, err)
	d.open("/en/deposit/key")
	d.click("button", "Make and enrol the key")
	d.sees("Your recovery key")
	made, err := tour.Eval[string](ctx, d.Visitor, makePasskey)
	ok(t, err)
	id, spki, _ := strings.Cut(made, " ")
	der, err := base64.StdEncoding.DecodeString(spki)
	ok(t, err)
	acts.id = id
	acts.public, err = evidence.ParsePublicKey(der)
	ok(t, err)

	file := filepath.Join(t.TempDir(), "contract.txt")
	ok(t, os.WriteFile(file, []byte("signed"), 0o600))
	fill := func() {
		t.Helper()
		d.open("/en/deposit")
		d.sees("Confirm with my passkey")
		ok(t, d.Upload(ctx, "Choose files", file))
		ok(t, d.Fill(ctx, "What is it for?", "Signed contract"))
	}
	fill()
	ok(t, authenticator.Refuse(ctx, true))
	d.click("button", "Deposit")
	d.sees("The passkey was not confirmed.")
	d.picture("deposit-refused")
	if trails, err := deposits.Trails(ctx, "m:nnnnnnnnnnnnnnnnnnnnnnnnnn", 0, 1); err != nil || len(trails) != 0 || len(acts.acts) != 0 {
		t.Errorf("without her finger: %d trails, %d acts, %v", len(trails), len(acts.acts), err)
	}
	ok(t, authenticator.Refuse(ctx, false))
	d.click("button", "Back to the form")
	d.click("button", "Deposit") // what was chosen is still there
	d.sees("The deposit is final.")
	d.click("link", "See the record")
	d.sees("confirmed with a passkey")
	path, err := d.Download(ctx, func() error { return d.Click(ctx, "button", "Make the evidence package") })
	ok(t, err)
	data, err := os.ReadFile(path)
	ok(t, err)
	pkg, err := evidence.OpenPackage(bytes.NewReader(data), int64(len(data)))
	ok(t, err)
	r, err := pkg.File("manifests/000001.json")
	ok(t, err)
	text, err := io.ReadAll(r)
	ok(t, err)
	m, err := evidence.ParseManifest(text)
	ok(t, err)
	if m.Act == nil || m.Act.Passkey == nil || len(acts.acts) != 1 {
		t.Fatalf("the manifest names no passkey: %s", text)
	}
	challenge, err := m.ActDigest()
	ok(t, err)
	if err := webauthn.Check(m.Act.Passkey, acts.public, challenge, "localhost"); err != nil {
		t.Errorf("the assertion in the package: %v", err)
	}
}
