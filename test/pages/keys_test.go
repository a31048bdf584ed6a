package pages

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/zhenglian/zhenglian/internal/identity"
	"github.com/zhenglian/zhenglian/internal/tour"
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

// A member binds a passkey; the next one needs the first; a wrong finger binds
// nothing and says so.
func TestPasskey(t *testing.T) {
	b, axe := browser(t), axeSource(t)
	p := webtest.Start(t)
	for _, lang := range []struct{ name, label, begin, cancelled, bound, confirmed string }{
		{"en", "Name (optional)", "Begin", "It was not completed", "The passkey is bound.", ""},
	} {
		ctx := t.Context()
		const memberID = "m:abcdefghijklmnopqrstuvwxyz"
		v := visit(t, b, p, webtest.Scene{Path: "/keys/passkey/" + memberID, Person: webtest.Member}, lang.name, tour.Screen{Width: 1280, Height: 900})
		phone, err := v.AddAuthenticator(ctx)
		must(t, err)
		must(t, phone.Refuse(ctx, true))
		must(t, v.Fill(ctx, lang.label, "phone"))
		must(t, v.Click(ctx, "button", lang.begin))
		must(t, v.WaitText(ctx, lang.cancelled))
		sound(t, v, axe)
		snapshot(t, v, "keys-passkey-refused."+lang.name)
		who := identity.Who{Person: webtest.Member, Session: "test"}
		if have, err := p.Register.Passkeys(ctx, who, memberID); err != nil || len(have) != 0 {
			t.Fatalf("%d passkeys after a wrong finger, %v", len(have), err)
		}
		must(t, phone.Refuse(ctx, false))
		must(t, v.Click(ctx, "button", lang.begin))
		must(t, v.WaitText(ctx, lang.bound))
		have, err := p.Register.Passkeys(ctx, who, memberID)
		must(t, err)
		credentials, err := phone.Credentials(ctx)
		must(t, err)
		if len(have) != 1 || have[0].State != identity.StateEnrolled || have[0].Label != "phone" || len(credentials) != 1 {
			t.Fatalf("%d passkeys, %d credentials", len(have), len(credentials))
		}
		snapshot(t, v, "keys-bound."+lang.name)
		// The second: the first confirms, a browser without it cannot.
		second := visit(t, b, p, webtest.Scene{Path: "/keys/passkey/" + memberID, Person: webtest.Member}, lang.name, tour.Screen{Width: 1280, Height: 900})
		laptop, err := second.AddAuthenticator(ctx)
		must(t, err)
		must(t, second.Click(ctx, "button", lang.begin))
		must(t, second.WaitText(ctx, lang.cancelled))
		if c, err := laptop.Credentials(ctx); err != nil || len(c) != 0 {
			t.Errorf("the second device has %d credentials without the first's word, %v", len(c), err)
		}
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
	if wide, err := tour.Eval[int](ctx, v, `document.querySelector("img.paper").naturalWidth`); err != nil || wide == 0 {
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
