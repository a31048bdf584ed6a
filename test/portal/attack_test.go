package portal

import (
	"encoding/json"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/zhenglian/zhenglian/internal/store"
	"github.com/zhenglian/zhenglian/internal/tour"
	"github.com/zhenglian/zhenglian/internal/tour/walk"
)

// Threat model: "replay a sign-in's answer, its code or its nonce", "make a
// victim's browser finish the attacker's sign-in", "forge a token", "have one
// provider's answer taken for another's": against the running portal.
func TestStolenAnswers(t *testing.T) {
	s := tell(t)
	signedIn := func(v *session) bool { return v.get("/en/session").status == http.StatusOK }
	victim := s.session()
	answer := victim.callback(walk.Sun)
	thief := s.session()
	thief.get("/signin/with/demo?lang=en") // has begun something of its own
	thief.get(answer)
	if signedIn(thief) {
		t.Error("the victim's answer signed the thief in")
	}
	// Login CSRF: the attacker's answer in the victim's browser, first.
	foreign := s.session().callback(walk.Gao)
	victim.get(foreign)
	if signedIn(victim) {
		t.Error("the attacker's answer signed the victim's browser in")
	}
	// A code of another's making, and an answer that names another provider.
	for what, change := range map[string]func(url.Values){
		"a code made up":       func(q url.Values) { q.Set("code", "AAAAAAAAAAAAAAAAAAAAAA") },
		"another's code":       func(q url.Values) { q.Set("code", mustQuery(s, foreign).Get("code")) },
		"another provider":     func(q url.Values) { q.Set("iss", "https://id.example") },
		"another state":        func(q url.Values) { q.Set("state", mustQuery(s, foreign).Get("state")) },
		"a token in the query": func(q url.Values) { q.Del("code"); q.Set("id_token", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJkZW1vLWxpbiJ9.") },
	} {
		one := s.session()
		u, err := url.Parse(one.callback(walk.Gao))
		s.must(err)
		q := u.Query()
		change(q)
		u.RawQuery = q.Encode()
		one.get(u.String())
		if signedIn(one) {
			t.Errorf("%s signed somebody in", what)
		}
	}
	// The honest answer, once and no more.
	honest := s.session()
	answer = honest.callback(walk.Sun)
	if a := honest.get(answer); a.status != http.StatusSeeOther || !signedIn(honest) {
		t.Fatalf("the honest answer: %d", a.status)
	}
	again := s.session()
	again.with(honest.cookie())
	again.post("/en/signout")
	honest.get(answer)
	if signedIn(honest) {
		t.Error("the answer signed in a second time")
	}
}

func mustQuery(s *story, address string) url.Values {
	s.Helper()
	u, err := url.Parse(address)
	s.must(err)
	return u.Query()
}

// victim is a member with a key, a passkey and a deposit, and her browser.
func (s *story) victim(p walk.Person) (w *walk.Walker, trail string) {
	s.Helper()
	w = s.visitor(wide(walk.Chinese))
	_, err := w.AddAuthenticator(s.ctx)
	s.must(err)
	s.must(w.SignIn(s.ctx, p))
	text(s)(w.MakeKey(s.ctx, "办公室电脑"))
	s.must(w.KeepPaper(s.ctx))
	s.must(w.AddPasskey(s.ctx, "", "办公室电脑"))
	file, _ := s.photo("合同扫描件.jpg", 60_000)
	return w, text(s)(w.Deposit(s.ctx, walk.Deposit{Files: []string{file}, Step: "合同扫描件", Confirm: true}))
}

// enrolByRequest gives a signed-in person a key from a certificate request, as
// anybody may who has no browser's key.
func (v *session) enrolByRequest() {
	v.Helper()
	request, _ := v.opensslKey()
	if a := v.post("/en/keys/request", "request", request, "label", "a file"); a.status != http.StatusSeeOther {
		v.Fatalf("enrolling by request: %d\n%s", a.status, a.body)
	}
}

// Threat model: "steal a session", "use a confirmation for another act", "read or
// guess another member's records".
func TestThiefOfASession(t *testing.T) {
	s := tell(t)
	w, trail := s.victim(walk.Zhao)
	cookies, err := w.Cookies(s.ctx, w.Origin)
	s.must(err)
	thief := s.session()
	for _, c := range cookies {
		if !c.HttpOnly {
			t.Errorf("scripts can read the cookie %s", c.Name)
		}
		thief.with(c)
	}
	if a := thief.get("/en/session"); a.status != http.StatusOK {
		t.Fatalf("the stolen cookie is worth nothing from the start: %d", a.status)
	}

	// With her session alone he gets no key, no passkey and no confirmation.
	request, _ := s.opensslKey()
	wire, err := json.Marshal(map[string]any{"request": []byte(request), "label": "mine", "recipient": ""})
	s.must(err)
	if a := thief.json("POST", "/app/keys", string(wire)); a.status != http.StatusForbidden {
		t.Errorf("a key for the thief: %d %s", a.status, a.body)
	}
	if a := thief.post("/en/keys/request", "request", request, "label", "mine"); a.status != http.StatusForbidden {
		t.Errorf("a key by request for the thief: %d", a.status)
	}
	member := s.member(w).Member
	if a := thief.json("POST", "/app/passkeys", `{"member":"`+member+`","label":"mine"}`); a.status != http.StatusForbidden {
		t.Errorf("a passkey for the thief: %d %s", a.status, a.body)
	}
	// She confirms one act; he wants the answer for another, and for the same again.
	type ceremony struct {
		ID     string          `json:"id"`
		Answer json.RawMessage `json:"answer"`
	}
	hers := strings.Repeat("11", 32)
	confirmed, err := tour.Eval[ceremony](s.ctx, w.Visitor, `(async () => {
		const c = await (await fetch("/app/acts", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ digest: "`+hers+`" }) })).json();
		const got = await navigator.credentials.get({ publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(c.options.publicKey ?? c.options) });
		return { id: c.id, answer: got.toJSON() };
	})()`)
	s.must(err)
	finish := func(v *session, id, digest string) answer {
		data, err := json.Marshal(map[string]any{"digest": digest, "answer": confirmed.Answer})
		s.must(err)
		return v.json("POST", "/app/acts/"+id, string(data))
	}
	other := strings.Repeat("22", 32)
	var his ceremony
	s.must(json.Unmarshal([]byte(thief.json("POST", "/app/acts", `{"digest":"`+other+`"}`).body), &his))
	if a := finish(thief, his.ID, other); a.status != http.StatusUnprocessableEntity {
		t.Errorf("her confirmation for his act: %d %s", a.status, a.body)
	}
	if a := finish(thief, confirmed.ID, other); a.status != http.StatusUnprocessableEntity {
		t.Errorf("her ceremony for his act: %d %s", a.status, a.body)
	}

	// She signs out everywhere, on another device: his cookie is dead with hers.
	phone := s.visitor(narrow(walk.English))
	s.must(phone.SignIn(s.ctx, walk.Zhao))
	s.must(phone.SignOutEverywhere(s.ctx))
	for _, path := range []string{"/en/session", "/en/records/" + trail, "/en/keys"} {
		if a := thief.get(path); a.status != http.StatusSeeOther {
			t.Errorf("after signing out everywhere %s answers the thief %d", path, a.status)
		}
	}
	if a := thief.get("/app/records"); a.status != http.StatusUnauthorized {
		t.Errorf("after signing out everywhere the records answer the thief %d", a.status)
	}
	// And one sign-out ends a copied cookie too.
	v := s.signIn(walk.Zhao)
	copied := s.session().with(v.cookie())
	if a := v.post("/en/signout"); a.status != http.StatusSeeOther {
		t.Errorf("signing out: %d", a.status)
	}
	if a := copied.get("/en/session"); a.status != http.StatusSeeOther {
		t.Errorf("after signing out the copy of the cookie gets %d", a.status)
	}
	s.noPeeping(member, trail)
}

var requestNumber = regexp.MustCompile(`[A-Z2-7]{12}`)

// noPeeping: another member who guesses ids is told what a stranger to a thing
// that never existed is told.
func (s *story) noPeeping(member, trail string) {
	s.Helper()
	owner := s.signIn(walk.Zhao)
	a := owner.get("/app/records/" + trail)
	if a.status != http.StatusOK {
		s.Fatalf("the owner's record answers %d", a.status)
	}
	manifest := regexp.MustCompile(`"manifest":"([0-9a-f]{64})"`).FindStringSubmatch(a.body)
	if manifest == nil {
		s.Fatalf("the owner's record has no manifest: %s", a.body)
	}
	object := s.objectOf(member)
	kid := regexp.MustCompile(`/keys/([0-9a-f]{64})`).FindStringSubmatch(owner.get("/en/keys").body)[1]

	gao := s.signIn(walk.Gao)
	gao.enrolByRequest()
	gao.get("/en/session") // shows what the enrolment had to say
	nothing := strings.Repeat("5a", 32)
	folder, name, _ := strings.Cut(object, "/")
	no := folder + "/" + strings.Repeat("0", len(name))
	for _, pair := range [][2]string{
		{"/app/records/" + trail, "/app/records/" + nothing},
		{"/app/records/" + trail + "/parts", "/app/records/" + nothing + "/parts"},
		{"/app/deposits/" + trail, "/app/deposits/" + nothing},
		{"/app/next?trail=" + trail, "/app/next?trail=" + nothing},
		{"/app/objects/" + object, "/app/objects/" + no},
		{"/app/objects/" + object + "?state", "/app/objects/" + no + "?state"},
		{"/en/records/" + trail, "/en/records/" + nothing},
		{"/en/keys/" + kid, "/en/keys/" + nothing},
		{"/en/keys/passkey/" + member, "/en/keys/passkey/m:aaaaaaaaaaaaaaaaaaaaaaaaaa"},
	} {
		there, none := gao.get(pair[0]), gao.get(pair[1])
		clean := func(a answer, path string) string {
			return requestNumber.ReplaceAllString(strings.ReplaceAll(a.body, path, "PATH"), "NUMBER")
		}
		if there.status != none.status || clean(there, strings.TrimPrefix(pair[0], "/en")) != clean(none, strings.TrimPrefix(pair[1], "/en")) {
			s.Errorf("%s answers %d, %s answers %d:\n%s\n%s", pair[0], there.status, pair[1], none.status, there.body, none.body)
		}
		if there.status == http.StatusOK && !strings.HasSuffix(pair[0], "?state") {
			s.Errorf("%s answers another member %d:\n%s", pair[0], there.status, there.body)
		}
		if strings.Contains(there.body, manifest[1]) {
			s.Errorf("%s tells of another's manifest", pair[0])
		}
	}
	if a := owner.get("/app/objects/" + object); a.status != http.StatusOK || len(a.body) == 0 {
		s.Errorf("her own object answers the owner %d", a.status)
	}
	for _, path := range []string{"/app/records", "/app/objects?prefix=" + folder + "/" + name[:32], "/en/records"} {
		if a := gao.get(path); strings.Contains(a.body, trail) || strings.Contains(a.body, object) {
			s.Errorf("%s lists another's", path)
		}
	}
	if a := gao.post("/en/keys/"+kid+"/revoke", "reason", "1", "sure", "yes"); a.status != http.StatusNotFound {
		s.Errorf("revoking another's key answers %d", a.status)
	}
	if a := gao.get("/en/desk"); a.status != http.StatusForbidden {
		s.Errorf("the desk answers somebody who is no officer %d", a.status)
	}
	if a := gao.get("/en/console"); a.status != http.StatusForbidden {
		s.Errorf("the console answers somebody who is no operator %d", a.status)
	}
}

// objectOf names one of a member's objects, as the portal's database does.
func (s *story) objectOf(member string) (name string) {
	s.Helper()
	db, err := store.Open(s.ctx, filepath.Join(portalHome(), "portal", "portal.db"))
	s.must(err)
	s.must(db.QueryRow(s.ctx, "SELECT name FROM custody_blobs WHERE member = $1", member).Scan(&name))
	s.must(db.Close())
	return name
}

// Threat model: "register another's identity", "an officer approves herself".
func TestAnothersIdentity(t *testing.T) {
	s := tell(t)
	s.signIn(walk.Lin) // the portal knows her document from her provider
	gao := s.visitor(wide(walk.English))
	s.must(gao.SignIn(s.ctx, walk.Gao))
	id := text(s)(gao.Apply(s.ctx, walk.Application{Name: walk.Lin.Name(walk.Chinese), Number: "119999199205149024", Papers: []string{s.pdf("forged.pdf")}}))
	officer := s.visitor(wide(walk.English))
	s.must(officer.SignIn(s.ctx, walk.Sun))
	s.must(officer.Examine(s.ctx, id, "first check"))
	s.must(officer.WaitText(s.ctx, "This document is registered for another person"))
	if _, err := officer.Decide(s.ctx, walk.Decision{Outcome: "approved", Level: 3}); err == nil {
		t.Error("another's document was approved")
	}
	s.must(officer.WaitText(s.ctx, "The register holds another document of the applicant's"))
	text(s)(officer.Decide(s.ctx, walk.Decision{Outcome: "refused", Reason: "The papers are of somebody else."}))
	if a := s.signIn(walk.Gao).get("/en/keys/data"); strings.Contains(a.body, "119999199205149024") || !strings.Contains(a.body, "119999199012129094") {
		t.Error("the register says of the attacker what he claimed")
	}

	// The officer applies herself: the desk shows it to her, and lets her decide nothing.
	own := text(s)(officer.Apply(s.ctx, walk.Application{Name: walk.Sun.Name(walk.Chinese), Number: "119999198501179063", Papers: []string{s.pdf("own.pdf")}}))
	s.must(officer.Examine(s.ctx, own, "my own"))
	s.must(officer.WaitText(s.ctx, "Another officer has to decide about it."))
	if has, err := officer.Has(s.ctx, "radio", "Approve"); err != nil || has {
		t.Errorf("she is offered to approve herself (%v)", err)
	}
	v := s.signIn(walk.Sun)
	v.post("/en/desk/"+own, "purpose", "my own")
	if a := v.post("/en/desk/"+own+"/decide", "outcome", "approved", "level", "3"); a.status != http.StatusForbidden {
		t.Errorf("approving herself answers %d", a.status)
	}
	if a := v.post("/en/apply/" + own + "/withdraw"); a.status != http.StatusSeeOther {
		t.Errorf("withdrawing answers %d", a.status)
	}
}

// Threat model: "post from another site", "put the portal into a frame": real
// browsers, a page of another origin.
func TestOtherSites(t *testing.T) {
	s := tell(t)
	w := s.visitor(wide(walk.English))
	s.must(w.SignIn(s.ctx, walk.Sun))
	target := shared.portal.Origin
	evil := listen(s, func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "text/html")
		switch r.URL.Path {
		case "/form":
			_, _ = rw.Write([]byte(`<title>win</title><form method="post" action="` + target + `/en/signout/everywhere"><button>Click here</button></form>`))
		case "/json":
			_, _ = rw.Write([]byte(`<title>win</title><form method="post" enctype="text/plain" action="` + target + `/app/acts"><input name='{"digest":"` + strings.Repeat("11", 32) + `","x":"' value='"}'><button>Click here</button></form>`))
		case "/frame":
			_, _ = rw.Write([]byte(`<title>win</title><iframe src="` + target + `/en/signout/everywhere"></iframe>`))
		}
	})
	for _, host := range []string{"localhost", "evil.localhost"} { // the same site on another port, and another site
		for _, page := range []string{"/form", "/json"} {
			s.must(w.Go(s.ctx, strings.Replace(evil, "localhost", host, 1)+page))
			s.must(w.Click(s.ctx, "button", "Click here"))
			s.eventually("the portal's answer", func() error {
				if where := text(s)(w.Where(s.ctx)); !strings.HasPrefix(where, target) {
					return errNotYet
				}
				return nil
			})
			s.must(w.Open(s.ctx, "/session"))
			if path := text(s)(w.Path(s.ctx)); path != "/session" {
				t.Errorf("a form of %s signed her out: %s", host, path)
			}
		}
		w.Console()
		s.must(w.Go(s.ctx, strings.Replace(evil, "localhost", host, 1)+"/frame"))
		s.eventually("the browser to refuse the frame", func() error {
			for _, line := range w.Console() {
				if strings.Contains(line, "frame-ancestors") {
					return nil
				}
			}
			return errNotYet
		})
	}
	// The same form from the portal itself works: the test can tell the difference.
	s.must(w.SignOutEverywhere(s.ctx))
	for _, path := range []string{"/en/", "/en/signin", "/en/verify", "/demo-identity/login"} {
		h := s.session().get(path).header
		if !strings.Contains(h.Get("Content-Security-Policy"), "frame-ancestors 'none'") {
			t.Errorf("%s may be framed: %q", path, h.Get("Content-Security-Policy"))
		}
	}
	// A request that a browser would mark, without its marks.
	v := s.signIn(walk.Sun)
	for what, o := range map[string]func(*http.Request){"cross-site": header("Sec-Fetch-Site", "cross-site"), "same-site": header("Sec-Fetch-Site", "same-site"), "unmarked": header("Sec-Fetch-Site", "")} {
		if a := v.send("POST", "/en/signout/everywhere", strings.NewReader(""), o); a.status != http.StatusForbidden {
			t.Errorf("a post that is %s answers %d", what, a.status)
		}
	}
	if a := v.send("GET", "/en/", nil, func(r *http.Request) { r.Host = "rebound.example" }); a.status < 400 {
		t.Errorf("another host's name answers %d", a.status)
	}
}

// File names of what people upload stay names.
func TestUploadedNames(t *testing.T) {
	s := tell(t)
	ma := s.visitor(wide(walk.English))
	s.must(ma.SignIn(s.ctx, walk.Ma))
	evil := s.pdf(`<img src=x onerror=alert(1)>.pdf`)
	id := text(s)(ma.Apply(s.ctx, walk.Application{Name: `<script>alert(1)</script>`, Number: "11999919830606907X", Papers: []string{evil}}))
	officer := s.visitor(wide(walk.English))
	s.must(officer.SignIn(s.ctx, walk.Sun))
	s.must(officer.Examine(s.ctx, id, `<b>check</b>`))
	for _, shown := range []string{`<script>alert(1)</script>`, filepath.Base(evil), `<b>check</b>`} {
		s.must(officer.WaitText(s.ctx, shown))
	}
	s.quiet(officer)
	text(s)(officer.Decide(s.ctx, walk.Decision{Outcome: "refused", Reason: "No such person."}))
}
