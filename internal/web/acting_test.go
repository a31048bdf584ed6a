package web_test

import (
	"context"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/zhenglian/zhenglian/internal/identity"
	"github.com/zhenglian/zhenglian/internal/web"
	"github.com/zhenglian/zhenglian/internal/web/webtest"
)

// with is a browser that has a session's cookie.
func with(t *testing.T, p *webtest.Portal, cookie *http.Cookie) *visitor {
	t.Helper()
	jar, err := cookiejar.New(nil)
	ok(t, err)
	origin, err := url.Parse(p.Origin)
	ok(t, err)
	jar.SetCookies(origin, []*http.Cookie{cookie})
	return &visitor{t: t, p: p, client: &http.Client{Jar: jar}}
}

const enterpriseName = "示例商贸有限公司"

// mandates is the register with the newcomer's mandate as a test wants it.
type mandates struct {
	web.Register
	powers []identity.Power
	over   bool
}

func (m *mandates) Members(ctx context.Context, who identity.Who) (out []*identity.Member, err error) {
	all, err := m.Register.Members(ctx, who)
	for _, one := range all {
		if one.ID == webtest.Enterprise {
			if m.over {
				continue
			}
			if m.powers != nil {
				one.Powers = m.powers
			}
		}
		out = append(out, one)
	}
	return out, err
}

// An agent acts for the enterprise on every page until she switches back; nobody
// else does, and is told no more of it than of one that does not exist.
func TestActing(t *testing.T) {
	p := webtest.Start(t)
	agent, other := visit(t, p, webtest.Newcomer), visit(t, p, webtest.Member)
	agent.get("/en/records").has(403)
	agent.post("/en/acting", "member", webtest.Enterprise).has(200, "You now act for "+enterpriseName, "Switch back").hasNot("Act for " + enterpriseName)
	for _, path := range []string{"/en/", "/en/records", "/en/deposit", "/en/session"} {
		agent.get(path).has(200, "Acting for "+enterpriseName)
	}
	agent.get("/zh-CN/keys").has(200, "正在代表"+enterpriseName+"办理", "切换回本人")
	agent.get("/en/keys/request").has(200, `value="`+webtest.Enterprise+`" selected`)
	agent.get("/en/deposit").has(200, `data-person="`+webtest.Newcomer+"/"+webtest.Enterprise+`"`)
	agent.get("/app/member").has(200, `"member":"`+webtest.Enterprise+`"`)
	// Another browser of hers has made no such choice.
	visit(t, p, webtest.Newcomer).get("/en/records").has(403)
	agent.post("/en/acting").has(200, "You now act for yourself.", "Act for "+enterpriseName).hasNot("Acting for", "Switch back")
	agent.get("/en/records").has(403)
	agent.get("/en/deposit/key").has(200, `data-person="`+webtest.Newcomer+`"`)

	hidden := strings.NewReplacer(webtest.Enterprise, "", "m:zzzzzzzzzzzzzzzzzzzzzzzzzz", "")
	answer := func(v *visitor, member string) string {
		v.post("/en/acting", "member", member).has(404, "There is no such member")
		return hidden.Replace(regexp.MustCompile(`[A-Z2-7]{12,}`).ReplaceAllString(v.body, ""))
	}
	if there, absent := answer(other, webtest.Enterprise), answer(other, "m:zzzzzzzzzzzzzzzzzzzzzzzzzz"); there != absent {
		t.Errorf("another's enterprise answers\n%s\nwhere nothing answers\n%s", there, absent)
	}
	agent.post("/en/acting", "member", memberID).has(404) // nor for another person
	other.get("/en/records").has(200).hasNot("Acting for")
	// A session that says so anyway is asked about at the register.
	with(t, p, p.SignIn(t, webtest.Member, webtest.Enterprise)).get("/en/records").has(200, "You act for yourself again").hasNot("Acting for")
}

// When the mandate is over, the next request is her own.
func TestActingEnds(t *testing.T) {
	m := &mandates{}
	p := webtest.Start(t, func(c *web.Config) { m.Register = c.Parts.Register; c.Parts.Register = m })
	agent := visit(t, p, webtest.Newcomer)
	agent.post("/en/acting", "member", webtest.Enterprise).has(200)
	agent.get("/en/records").has(200)
	m.over = true
	agent.get("/en/records").has(403, "Your mandate for the enterprise is over.").hasNot("Acting for")
	agent.get("/app/objects?prefix=objects/").has(403)
	agent.get("/en/keys").has(200).hasNot(enterpriseName)
	m.over = false
	agent.get("/en/records").has(403) // a new mandate has to be chosen anew
}

// Without the power she deposits nothing; she sees the enterprise's records all
// the same.
func TestActingPowers(t *testing.T) {
	m := &mandates{powers: []identity.Power{identity.PowerSign}}
	p := webtest.Start(t, func(c *web.Config) { m.Register = c.Parts.Register; c.Parts.Register = m }, func(c *web.Config) {
		if acts, ok := m.Register.(web.Acts); ok {
			c.Parts.Acts = acts
		}
	})
	cookie := p.SignIn(t, webtest.Newcomer, webtest.Enterprise)
	agent := with(t, p, cookie)
	c := &caller{t, p, cookie}
	const object = "/app/objects/data/00000000000000000000000000000001?offset=0&last"
	cose, plain := map[string]string{"Content-Type": "application/cose"}, map[string]string{"Content-Type": "application/json"}
	agent.get("/en/deposit").has(200, "Your mandate does not include deposits").hasNot("deposit-form", "data-worker")
	agent.get("/zh-CN/deposit").has(200, "您的授权不含存证")
	agent.get("/en/records").has(200)
	c.wantProblem("a deposit", "POST", "/app/deposits", []byte("x"), cose, http.StatusForbidden, "deposit.power")
	c.wantProblem("an upload", "PUT", object, []byte("x"), digestHeader([]byte("x")), http.StatusForbidden, "deposit.power")
	c.wantProblem("a confirmation", "POST", "/app/acts", []byte(`{}`), plain, http.StatusForbidden, "deposit.power")
	m.powers = nil // as given: deposits are among them
	agent.get("/en/deposit").has(200).hasNot("does not include deposits")
	c.wantProblem("a confirmation with the power and no passkey", "POST", "/app/acts", []byte(`{}`), plain, http.StatusConflict, "deposit.no-passkey")
}

// A page that was made before a switch sends nothing in another's name.
func TestActingSwitchedElsewhere(t *testing.T) {
	p := webtest.Start(t)
	c := &caller{t, p, p.SignIn(t, webtest.Newcomer)}
	self, both := map[string]string{"Zhenglian-For": webtest.Newcomer}, map[string]string{"Zhenglian-For": webtest.Newcomer + "/" + webtest.Enterprise}
	if status, _, body := c.do("GET", "/app/member", nil, self); status != http.StatusOK {
		t.Errorf("her own page: %d %s", status, body)
	}
	c.wantProblem("the enterprise's page", "GET", "/app/member", nil, both, http.StatusConflict, "deposit.switched")
	c.cookie = p.SignIn(t, webtest.Newcomer, webtest.Enterprise)
	c.wantProblem("her own page after the switch", "GET", "/app/member", nil, self, http.StatusConflict, "deposit.switched")
	if status, _, body := c.do("GET", "/app/member", nil, both); status != http.StatusOK {
		t.Errorf("the enterprise's page after the switch: %d %s", status, body)
	}
}

// Deposits made for the enterprise are the enterprise's: all who act for it see
// them, and the depositor for herself does not.
func TestActingDeposits(t *testing.T) {
	var d *webtest.Deposits
	p := webtest.Start(t, webtest.WithDeposits(t, &d))
	acting := &caller{t, p, p.SignIn(t, webtest.Newcomer, webtest.Enterprise)}
	s, _ := deposited(t, acting, d, webtest.Enterprise)
	path := "/en/records/" + s.Digest().String()
	if status, _, page := acting.do("GET", path, nil, nil); status != http.StatusOK || !strings.Contains(string(page), "<dd>"+enterpriseName) {
		t.Errorf("the enterprise's record: %d\n%s", status, page)
	}
	for _, person := range []string{webtest.Newcomer, webtest.Member} {
		c := &caller{t, p, p.SignIn(t, person)}
		if status, _, _ := c.do("GET", path, nil, nil); status != http.StatusForbidden && status != http.StatusNotFound {
			t.Errorf("%s for herself sees the enterprise's record: %d", person, status)
		}
	}
}
