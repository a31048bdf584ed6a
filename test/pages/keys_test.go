package pages

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"

	"github.com/zhenglian/zhenglian/internal/identity"
	"github.com/zhenglian/zhenglian/internal/identity/ca"
	"github.com/zhenglian/zhenglian/internal/tour"
	"github.com/zhenglian/zhenglian/internal/web"
	"github.com/zhenglian/zhenglian/internal/web/webtest"
)

// snapshot writes the page as it stands now, where somebody wants pictures.
func snapshot(t *testing.T, v *tour.Visitor, name string) {
	t.Helper()
	dir := os.Getenv("ZHENGLIAN_SCREENSHOTS")
	if dir == "" {
		return
	}
	png, err := v.Screenshot(t.Context())
	must(t, err)
	must(t, os.MkdirAll(dir, 0o755))
	must(t, os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644))
}

func sound(t *testing.T, v *tour.Visitor, axe string) {
	t.Helper()
	violations, err := v.Axe(t.Context(), axe)
	must(t, err)
	for _, x := range violations {
		t.Errorf("axe: %s", x)
	}
}

const memberID = "m:abcdefghijklmnopqrstuvwxyz"

// wide is a desktop's screen.
func wide() tour.Screen { return tour.Screen{Width: 1280, Height: 900} }

// bind lets the visitor, at the page for it, bind a passkey on a new device.
func bind(t *testing.T, v *tour.Visitor) *tour.Authenticator {
	t.Helper()
	phone, err := v.AddAuthenticator(t.Context())
	must(t, err)
	must(t, v.Fill(t.Context(), "Name (optional)", "phone"))
	must(t, v.Click(t.Context(), "button", "Begin"))
	must(t, v.WaitText(t.Context(), "The passkey is bound."))
	return phone
}

// A member binds a passkey; a wrong finger binds nothing and says so; another
// device gets none without the first one's word.
func TestPasskey(t *testing.T) {
	b, axe := browser(t), axeSource(t)
	p := webtest.Start(t)
	ctx := t.Context()
	page := webtest.Scene{Path: "/keys/passkey/" + memberID, Person: webtest.Member}
	v := visit(t, b, p, page, "en", wide())
	phone, err := v.AddAuthenticator(ctx)
	must(t, err)
	must(t, phone.Refuse(ctx, true))
	must(t, v.Fill(ctx, "Name (optional)", "phone"))
	must(t, v.Click(ctx, "button", "Begin"))
	must(t, v.WaitText(ctx, "It was not completed"))
	sound(t, v, axe)
	snapshot(t, v, "keys-passkey-refused.en")
	who := identity.Who{Person: webtest.Member, Session: "test"}
	if have, err := p.Register.Passkeys(ctx, who, memberID); err != nil || len(have) != 0 {
		t.Fatalf("%d passkeys after a wrong finger, %v", len(have), err)
	}
	must(t, phone.Refuse(ctx, false))
	must(t, v.Click(ctx, "button", "Begin"))
	must(t, v.WaitText(ctx, "The passkey is bound."))
	have, err := p.Register.Passkeys(ctx, who, memberID)
	must(t, err)
	credentials, err := phone.Credentials(ctx)
	must(t, err)
	if len(have) != 1 || have[0].State != identity.StateEnrolled || have[0].Label != "phone" || len(credentials) != 1 {
		t.Fatalf("%d passkeys, %d credentials", len(have), len(credentials))
	}
	snapshot(t, v, "keys-bound.en")
	thief := visit(t, b, p, page, "en", wide())
	laptop, err := thief.AddAuthenticator(ctx)
	must(t, err)
	must(t, thief.Click(ctx, "button", "Begin"))
	must(t, thief.WaitText(ctx, "It was not completed"))
	if c, err := laptop.Credentials(ctx); err != nil || len(c) != 0 {
		t.Errorf("another device has %d credentials without the first one's word, %v", len(c), err)
	}
}

// enroller enrols what a request asks for, and issues nothing.
type enroller struct {
	web.Enroller
	reg *identity.Register
}

func (e enroller) Enrol(ctx context.Context, who identity.Who, member string, request []byte, label, recipient string) (*web.Enrolled, error) {
	r, err := ca.ParseRequest(request)
	if err != nil {
		return nil, err
	}
	k, err := e.reg.EnrolKey(ctx, who, identity.NewKey{Member: member, Public: r.Key, Label: label, Holder: identity.HolderFile, Recipient: recipient})
	if err != nil {
		return nil, err
	}
	return &web.Enrolled{Member: k.Member, KID: k.KID}, e.reg.Deliver(ctx)
}

// A key in a file is enrolled by its request; once there is a passkey, that one
// confirms first.
func TestKeyByRequest(t *testing.T) {
	b, axe := browser(t), axeSource(t)
	p := webtest.Start(t, func(c *web.Config) { c.Parts.Enroller = enroller{reg: c.Parts.Register.(*identity.Register)} })
	ctx := t.Context()
	request := func() string {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		must(t, err)
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
		must(t, err)
		return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
	}
	v := visit(t, b, p, webtest.Scene{Path: "/keys/request", Person: webtest.Member}, "en", wide())
	send := func(text string) {
		t.Helper()
		must(t, v.Go(ctx, p.Origin+"/en/keys/request"))
		must(t, v.Fill(ctx, "Certificate request (PEM)", text))
		must(t, v.Click(ctx, "button", "Enrol"))
	}
	send("no request")
	must(t, v.WaitText(ctx, "This request cannot be used"))
	sound(t, v, axe)
	send(request())
	must(t, v.WaitText(ctx, "The key is enrolled"))
	must(t, v.Go(ctx, p.Origin+"/en/keys/passkey/"+memberID))
	phone := bind(t, v)
	send(request())
	must(t, v.WaitText(ctx, "Confirm with a passkey first"))
	sound(t, v, axe)
	must(t, phone.Refuse(ctx, true))
	must(t, v.Click(ctx, "button", "Confirm with a passkey and enrol"))
	must(t, v.WaitText(ctx, "It was not confirmed"))
	must(t, phone.Refuse(ctx, false))
	must(t, v.Click(ctx, "button", "Confirm with a passkey and enrol"))
	must(t, v.WaitText(ctx, "The key is enrolled"))
	keys, err := p.Register.KeysOf(ctx, identity.Who{Person: webtest.Member, Session: "test"}, memberID)
	must(t, err)
	if len(keys) != 4 {
		t.Errorf("%d keys, want the two of the fixture and two more", len(keys))
	}
}

// An officer looks at an application and decides, on a narrow screen.
func TestDesk(t *testing.T) {
	b, axe := browser(t), axeSource(t)
	p := webtest.Start(t)
	ctx := t.Context()
	v := visit(t, b, p, webtest.Scene{Path: "/desk", Person: webtest.Officer}, "zh-CN", tour.Screen{Width: 360, Height: 800, Mobile: true})
	must(t, v.Go(ctx, p.Origin+"/zh-CN/desk/"+webtest.Submitted))
	must(t, v.Fill(ctx, "查看目的", "核对身份证"))
	must(t, v.Click(ctx, "button", "记录并打开"))
	must(t, v.WaitText(ctx, "本次查看已记录"))
	sound(t, v, axe)
	snapshot(t, v, "desk-opened.zh-CN.narrow")
	must(t, v.Click(ctx, "link", "身份证正面.png"))
	must(t, v.WaitText(ctx, "每次打开都会记录"))
	snapshot(t, v, "desk-document.zh-CN.narrow")
	if wide, err := tour.Eval[int](ctx, v, `document.querySelector("img.paper").decode().then(() => document.querySelector("img.paper").naturalWidth)`); err != nil || wide == 0 {
		t.Errorf("the paper does not show (%v)", err)
	}
	sound(t, v, axe)
	must(t, v.Go(ctx, p.Origin+"/zh-CN/desk/"+webtest.Submitted))
	must(t, v.Click(ctx, "radio", "要求补正"))
	must(t, v.Fill(ctx, "理由 （选填）", "照片不清楚"))
	must(t, v.Click(ctx, "button", "确定"))
	must(t, v.WaitText(ctx, "已处理，并已记录"))
	applicant := visit(t, b, p, webtest.Scene{Path: "/apply/" + webtest.Submitted, Person: webtest.Member}, "en", tour.Screen{Width: 1280, Height: 900})
	must(t, applicant.WaitText(ctx, "照片不清楚"))
	snapshot(t, applicant, "apply-correction.en.wide")
	sound(t, applicant, axe)
}
