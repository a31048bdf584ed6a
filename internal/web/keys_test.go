package web_test

import (
	"bytes"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/zhenglian/zhenglian/internal/identity"
	"github.com/zhenglian/zhenglian/internal/identity/gb/gbtest"
	"github.com/zhenglian/zhenglian/internal/web"
	"github.com/zhenglian/zhenglian/internal/web/webtest"
)

// visitor is a browser without scripts.
type visitor struct {
	t      *testing.T
	p      *webtest.Portal
	client *http.Client
	status int
	body   string
	header http.Header
	at     string
}

func visit(t *testing.T, p *webtest.Portal, person string) *visitor {
	t.Helper()
	return with(t, p, p.SignIn(t, person))
}

func (v *visitor) do(req *http.Request) *visitor {
	v.t.Helper()
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	req.Header.Set("Accept-Language", "en") // for what has no language in its path
	resp, err := v.client.Do(req)
	if err != nil {
		v.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		v.t.Fatal(err)
	}
	v.status, v.body, v.header, v.at = resp.StatusCode, string(body), resp.Header, resp.Request.URL.Path
	return v
}

func (v *visitor) get(path string) *visitor {
	v.t.Helper()
	req, err := http.NewRequestWithContext(v.t.Context(), "GET", v.p.Origin+path, nil)
	if err != nil {
		v.t.Fatal(err)
	}
	return v.do(req)
}

func (v *visitor) post(path string, pairs ...string) *visitor {
	v.t.Helper()
	form := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		form.Set(pairs[i], pairs[i+1])
	}
	req, err := http.NewRequestWithContext(v.t.Context(), "POST", v.p.Origin+path, strings.NewReader(form.Encode()))
	if err != nil {
		v.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return v.do(req)
}

// upload posts a form with one file.
func (v *visitor) upload(path, name string, content []byte, pairs ...string) *visitor {
	v.t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for i := 0; i < len(pairs); i += 2 {
		if err := w.WriteField(pairs[i], pairs[i+1]); err != nil {
			v.t.Fatal(err)
		}
	}
	if name != "" {
		f, err := w.CreateFormFile("documents", name)
		if err == nil {
			_, err = f.Write(content)
		}
		if err != nil {
			v.t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		v.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(v.t.Context(), "POST", v.p.Origin+path, &b)
	if err != nil {
		v.t.Fatal(err)
	}
	req.Header.Set("Content-Type", w.FormDataContentType())
	return v.do(req)
}

func (v *visitor) has(status int, texts ...string) *visitor {
	v.t.Helper()
	if v.status != status {
		v.t.Fatalf("%s answers %d, want %d:\n%s", v.at, v.status, status, v.body)
	}
	for _, s := range texts {
		if !strings.Contains(v.body, s) {
			v.t.Errorf("%s does not have %q:\n%s", v.at, s, v.body)
		}
	}
	if strings.Contains(v.body, "‹") {
		v.t.Errorf("%s: a text is missing", v.at)
	}
	return v
}

func (v *visitor) hasNot(texts ...string) *visitor {
	v.t.Helper()
	for _, s := range texts {
		if strings.Contains(v.body, s) {
			v.t.Errorf("%s has %q", v.at, s)
		}
	}
	return v
}

func pdf() []byte { return []byte("%PDF-1.7\nan identity card\n") }

// A person applies, an officer asks for a correction and then approves, all
// without a script, and the applicant reads who looked and why.
func TestApplication(t *testing.T) {
	p := webtest.Start(t)
	applicant, officer := visit(t, p, webtest.Newcomer), visit(t, p, webtest.Officer)
	applicant.post("/en/apply", "kind", "person").has(200, "Resident identity number")
	here := applicant.at
	applicant.upload(here, "", nil, "do", "submit", "name", "王小山", "number", "119999199205149025").
		has(422, "This is no valid identity number", "Upload at least one paper", `value="王小山"`)
	applicant.upload(here, "page.html", []byte("<script>alert(1)</script>"), "do", "save", "name", "王小山").has(422, "Only PDF, JPEG and PNG")
	number := gbtest.IDNumber(1992, 5, 14, 902).Number()
	applicant.upload(here, `..\card.pdf`, pdf(), "do", "submit", "name", "王小山", "number", number).has(200, "The application is with the desk", "card.pdf", number)
	id := here[strings.LastIndexByte(here, '/')+1:]

	officer.get("/en/desk").has(200, "/en/desk/"+id).hasNot("王小山", number)
	officer.get("/en/desk/"+id).has(200, "Record and open").hasNot("王小山", number)
	officer.post("/en/desk/"+id, "purpose", " ").has(422, "Give a purpose")
	officer.post("/en/desk/"+id+"/decide", "outcome", "approved", "level", "2").has(403)
	officer.post("/en/desk/"+id, "purpose", "first check of the card").has(200, "王小山", number, "first check of the card")
	paper := regexp.MustCompile(`/en/desk/[^"]+/documents/[^"]+`).FindString(officer.body)
	officer.get(paper).has(200, "card.pdf")
	officer.get(strings.TrimPrefix(paper, "/en")+"/content").has(200, "an identity card")
	if officer.header.Get("Content-Disposition") != `attachment; filename="document.pdf"` || !strings.Contains(officer.header.Get("Content-Security-Policy"), "sandbox") || officer.header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("a paper comes with %v", officer.header)
	}
	officer.post("/en/desk/"+id+"/decide", "outcome", "correction").has(422, "Give a reason")
	officer.post("/en/desk/"+id+"/decide", "outcome", "correction", "reason", "The back is missing.").has(200, "It is decided and recorded")
	officer.get("/en/desk/"+id).has(200, "Record and open").hasNot("王小山") // it asks again

	applicant.get(here).has(200, "The back is missing.")
	applicant.upload(here, "back.png", []byte("\x89PNG\r\n\x1a\n..."), "do", "submit", "name", "王小山", "number", number).has(200, "back.png")
	officer.post("/en/desk/"+id, "purpose", "the back")
	officer.post("/en/desk/"+id+"/decide", "outcome", "approved", "level", "3").has(200, "It is decided")
	person, err := p.Register.Person(t.Context(), webtest.Newcomer)
	if err != nil || person.Level != 3 {
		t.Errorf("%+v %v", person, err)
	}
	applicant.get("/en/keys/log").has(200, "first check of the card", "李尚", "opened the application", "opened a paper", "asked for a correction", "approved the application")
	applicant.get("/keys/my-data.json").has(200, number, "back.png", "first check of the card")
	if !strings.HasPrefix(applicant.header.Get("Content-Disposition"), "attachment") {
		t.Error("the export opens as a page")
	}
}

func TestAnothersPapers(t *testing.T) {
	p := webtest.Start(t)
	other := visit(t, p, webtest.Newcomer)
	other.get("/en/apply/"+webtest.Submitted).has(404, "There is no such entry")
	other.post("/en/apply/" + webtest.Submitted + "/withdraw").has(404)
	other.upload("/en/apply/"+webtest.Submitted, "a.pdf", pdf(), "do", "save").has(404)
	other.get("/apply/" + webtest.Submitted + "/documents/" + webtest.Paper).has(404)
	for _, path := range []string{"/en/desk", "/en/desk/" + webtest.Submitted, "/desk/" + webtest.Submitted + "/documents/" + webtest.Paper + "/content"} {
		other.get(path).has(403)
	}
	other.post("/en/desk/"+webtest.Submitted, "purpose", "curious").has(403)
	officer := visit(t, p, webtest.Officer)
	officer.get("/desk/"+webtest.Submitted+"/documents/"+webtest.Paper+"/content").has(403, "Give a purpose first")
	// A draft is nobody's but the applicant's.
	officer.post("/en/desk/"+webtest.Application, "purpose", "early").has(404)
	// The purpose of one application opens no other.
	officer.post("/en/desk/"+webtest.Submitted, "purpose", "check").has(200)
	officer.get("/en/desk/a:another").has(200, "Record and open")
	own := visit(t, p, webtest.Officer)
	own.post("/en/apply", "kind", "person")
	here := own.at
	own.upload(here, "a.pdf", pdf(), "do", "submit", "name", "李尚", "number", gbtest.IDNumber(1990, 1, 1, 3).Number()).has(200)
	id := here[strings.LastIndexByte(here, '/')+1:]
	own.get("/en/desk").has(200, "your own")
	own.post("/en/desk/"+id, "purpose", "my own").has(200, "Another officer has to decide").hasNot(`value="approved"`)
	own.post("/en/desk/"+id+"/decide", "outcome", "approved", "level", "3").has(403, "You may not do this")
}

func TestKeysPages(t *testing.T) {
	p := webtest.Start(t)
	m, other := visit(t, p, webtest.Member), visit(t, p, webtest.Operator)
	m.get("/en/keys").has(200, "办公室笔记本电脑", "in force", "revoked", "ends soon", "m:abcdefghijklmnopqrstuvwxyz")
	link := regexp.MustCompile(`/en/keys/[0-9a-f]{64}`).FindAllString(m.body, -1)
	if len(link) != 2 {
		t.Fatalf("%d keys are linked", len(link))
	}
	var key string
	for _, l := range link {
		if m.get(l); strings.Contains(m.body, `id="revoke"`) {
			key = l
		}
	}
	other.get(key).has(404)
	other.post(key+"/label", "label", "mine").has(404)
	other.post(key+"/revoke", "reason", "1", "sure", "yes").has(404)
	m.post(key+"/label", "label", `<b>"desk"`).has(200, "The name has been changed", "&lt;b&gt;&#34;desk&#34;")
	m.post(key+"/label", "label", strings.Repeat("长", 61)).has(422)
	m.post(key+"/revoke", "reason", "1").has(422, "It was not confirmed")
	m.post(key+"/revoke", "reason", "6", "sure", "yes").has(422)
	m.post(key+"/revoke", "reason", "1", "sure", "yes").has(200, "log says so", "stolen").hasNot(`id="revoke"`)
	m.get("/zh-CN/keys").has(200, "密钥与设备")
	m.get("/en/keys/" + strings.Repeat("0", 64)).has(404)
	m.get("/en/keys/nonsense").has(404)
	other.get("/en/keys").has(200, "No key is enrolled yet")
	other.get("/en/keys/passkey/m:abcdefghijklmnopqrstuvwxyz").has(404, "There is no such member")
	other.post("/en/keys/data/erase").has(422)
	other.post("/en/keys/data/erase", "sure", "yes").has(200)
	if _, err := p.Register.Person(t.Context(), webtest.Operator); err == nil {
		t.Error("the person is still there")
	}
	m.post("/en/keys/data/erase", "sure", "yes").has(200, "what the law wants kept")
}

func TestLostDevice(t *testing.T) {
	p := webtest.Start(t)
	m, officer := visit(t, p, webtest.Member), visit(t, p, webtest.Officer)
	m.get("/en/lost").has(200, "Apply for recovery")
	m.post("/en/lost", "member", "m:abcdefghijklmnopqrstuvwxyz").has(422, "Fill this in")
	m.post("/en/lost", "member", webtest.Enterprise, "remark", "lost").has(422, "Choose one of those listed")
	m.post("/en/lost", "member", "m:abcdefghijklmnopqrstuvwxyz", "how", "stolen", "remark", "on the bus").has(200, "The application is with the desk")
	all, err := p.Register.Queue(t.Context(), identity.Who{Person: webtest.Officer}, "")
	if err != nil {
		t.Fatal(err)
	}
	id := ""
	for _, a := range all {
		if a.Kind == identity.ApplyRecovery {
			id = a.ID
		}
	}
	officer.post("/en/desk/"+id, "purpose", "she is here").has(200, "on the bus", "stolen")
	officer.post("/en/desk/"+id+"/decide", "outcome", "approved").has(200, "shown this once")
	code := regexp.MustCompile(`<code class="said">([a-z2-7]{5}(-[a-z2-7]{5}){3})</code>`).FindStringSubmatch(officer.body)
	if code == nil {
		t.Fatalf("no code:\n%s", officer.body)
	}
	m = visit(t, p, webtest.Member)
	m.post("/en/lost/code", "code", "aaaaa-aaaaa-aaaaa-aaaaa").has(422, "The recovery code is not right")
	m.post("/en/lost/code", "code", code[1]).has(200, "The code is good")
	m.post("/en/lost/code", "code", code[1]).has(422)
	for range 5 {
		m.post("/en/lost/code", "code", "wrong")
	}
	m.post("/en/lost/code", "code", "wrong").has(429, "Too many attempts")
	if m.header.Get("Retry-After") == "" {
		t.Error("it does not say when")
	}
}

func TestNoRegister(t *testing.T) {
	p := webtest.Start(t, func(c *web.Config) { c.Parts.Register = nil })
	v := visit(t, p, webtest.Officer)
	for _, path := range []string{"/en/keys", "/en/apply", "/en/desk", "/en/lost"} {
		v.get(path).has(404)
	}
}
