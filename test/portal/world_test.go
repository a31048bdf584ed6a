package portal

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/client"
	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/local"
	memberhome "github.com/zhenglian/zhenglian/internal/member"
	"github.com/zhenglian/zhenglian/internal/tour"
	"github.com/zhenglian/zhenglian/internal/tour/walk"
)

// What all stories share: one alliance with a portal, one browser. Every story
// has people, or at least sessions and deposits, of its own.
var shared struct {
	once     sync.Once
	err      error
	dir      string
	verifier string // the program zhenglian-verify
	alliance *local.Alliance
	portal   *local.Portal
	browser  *tour.Browser
}

// portalEnv lifts the limit by client address: everybody here has the same one.
const portalEnv = "ZHENGLIAN_PORTAL_LIMITS_REQUESTS_PER_MINUTE=0"

// errNotYet says that a condition does not hold yet.
var errNotYet = errors.New("not yet")

// patience is how long a step may take on a busy machine.
const patience = 30 * time.Second

func TestMain(m *testing.M) {
	code := m.Run()
	if shared.browser != nil {
		if err := shared.browser.Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	if shared.alliance != nil {
		if err := shared.alliance.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, "stopping the alliance:", err)
			code = 1
		}
	}
	if shared.dir != "" {
		if kept := os.Getenv("ZHENGLIAN_SCENARIO_LOGS"); kept != "" {
			logs, _ := filepath.Glob(filepath.Join(shared.dir, "alliance", "*.log"))
			for _, path := range logs {
				if data, err := os.ReadFile(path); err == nil {
					_ = os.WriteFile(filepath.Join(kept, filepath.Base(path)), data, 0o600)
				}
			}
		}
		_ = os.RemoveAll(shared.dir)
	}
	os.Exit(code)
}

// begin builds the programs, founds the alliance and opens the browser.
func begin() (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	if _, err := os.Stat("../../internal/web/wasm/browser.wasm.gz"); err != nil {
		return errors.New("the WebAssembly modules are not built: run `sh scripts/wasm.sh`")
	}
	if shared.dir, err = os.MkdirTemp("", "zhenglian-portal-"); err != nil {
		return err
	}
	program := os.Getenv("ZHENGLIAN_BINARY")
	shared.verifier = filepath.Join(shared.dir, "zhenglian-verify")
	builds := map[string]string{shared.verifier: "zhenglian-verify"}
	if program == "" {
		program = filepath.Join(shared.dir, "zhenglian")
		builds[program] = "zhenglian"
	}
	for path, name := range builds {
		if out, err := exec.CommandContext(ctx, "go", "build", "-o", path, "github.com/zhenglian/zhenglian/cmd/"+name).CombinedOutput(); err != nil {
			return fmt.Errorf("building %s: %w\n%s", name, err, out)
		}
	}
	if shared.browser, err = tour.Open(context.Background()); err != nil {
		return err
	}
	shared.alliance, err = local.New(ctx, local.Config{Binary: program, Dir: filepath.Join(shared.dir, "alliance"), Name: "示范司法存证联盟", Slug: "shifan", TSA: "forensic",
		Institutions: []local.Spec{
			{ID: "court", Name: "示范互联网法院", Kind: evidence.KindCourt},
			{ID: "notary", Name: "示范公证处", Kind: evidence.KindNotary},
			{ID: "ca", Name: "示范电子认证中心", Kind: evidence.KindCA},
			{ID: "forensic", Name: "示范司法鉴定中心", Kind: evidence.KindForensic, Args: []string{"--receipt-algorithm", "p256"}},
		}})
	if err != nil {
		return err
	}
	shared.portal, err = shared.alliance.AddPortal(ctx, "ca")
	if err != nil {
		return err
	}
	if err := shared.alliance.Start(ctx); err != nil {
		return err
	}
	if err := shared.portal.Start(ctx, portalEnv); err != nil {
		return err
	}
	return shared.portal.WaitReady(ctx)
}

// story is one test's view of the world.
type story struct {
	*testing.T
	ctx context.Context
}

// tell begins a story. Without a browser there are none.
func tell(t *testing.T) *story {
	t.Helper()
	if testing.Short() {
		t.Skip("starts an alliance and a browser: left out of -short")
	}
	shared.once.Do(func() { shared.err = begin() })
	if errors.Is(shared.err, tour.ErrNoBrowser) {
		t.Skip(shared.err)
	}
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	t.Cleanup(func() {
		cancel()
		if t.Failed() {
			t.Logf("last lines of the portal:\n%s", shared.portal.LogTail(15))
		}
	})
	return &story{t, ctx}
}

// must fails the story on an error.
func (s *story) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// text returns the value of a step that also has an error.
func text(s *story) func(value string, err error) string {
	return func(value string, err error) string {
		s.Helper()
		s.must(err)
		return value
	}
}

// eventually waits until the condition holds.
func (s *story) eventually(what string, holds func() error) {
	s.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := holds()
		if err == nil {
			return
		}
		if time.Now().After(deadline) || s.ctx.Err() != nil {
			s.Fatalf("waited in vain for %s: %v", what, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// wide and narrow are the screens of the stories.
func wide(lang string) tour.Screen { return tour.Screen{Width: 1280, Height: 900, Lang: lang} }
func narrow(lang string) tour.Screen {
	return tour.Screen{Width: 360, Height: 800, Mobile: true, Lang: lang}
}

// visitor opens a browser of its own at the portal.
func (s *story) visitor(screen tour.Screen) *walk.Walker {
	s.Helper()
	v, err := shared.browser.Visit(screen)
	s.must(err)
	v.Patience = patience
	s.Cleanup(v.Leave)
	return walk.At(v, shared.portal.Origin, screen.Lang)
}

// portalHome is the CA institution's home, whose disk the stories search.
func portalHome() string { return shared.alliance.Node("ca").Home }

// member asks the portal who the walker is in the alliance.
type member struct {
	Member string `json:"member"`
	Keys   []struct {
		KID     string `json:"kid"`
		Revoked bool   `json:"revoked"`
	} `json:"keys"`
}

func (s *story) member(w *walk.Walker) member {
	s.Helper()
	m, err := tour.Eval[member](s.ctx, w.Visitor, `fetch("/app/member").then((r) => r.json())`)
	s.must(err)
	return m
}

// photo writes bytes that exist nowhere else, under a name that exists nowhere
// else, as a JPEG by its first bytes. It returns the path and 48 bytes of it.
func (s *story) photo(name string, size int) (path string, mark []byte) {
	s.Helper()
	data := make([]byte, size)
	random(data)
	copy(data, "\xff\xd8\xff\xe0\x00\x10JFIF\x00")
	path = filepath.Join(s.TempDir(), name)
	s.must(os.WriteFile(path, data, 0o600))
	return path, data[size/2 : size/2+48]
}

// quoted writes strings as an argument of a script.
func quoted(values ...string) string {
	data, _ := json.Marshal(values) // strings can be written
	return string(data)
}

// depositPlain deposits a file from a member's own systems and keeps nothing.
func depositPlain(s *story, h *memberhome.Home, c *client.Client, path string) (evidence.Digest, error) {
	s.Helper()
	src, err := memberhome.FileSource(path)
	s.must(err)
	e, _, err := h.Deposit(s.ctx, c, memberhome.Step{Phase: evidence.PhaseDuring, Name: "step", Sources: []memberhome.Source{src}}, memberhome.Events{})
	if err != nil {
		return evidence.Digest{}, err
	}
	return e.Trail, nil
}

// quiet: no error in the console, no other host asked.
func (s *story) quiet(w *walk.Walker) {
	s.Helper()
	for _, line := range w.Console() {
		if strings.Contains(line, "pub_key_cred_params") {
			continue // Chromium advises RSA passkeys too; the log knows no RSA keys
		}
		s.Errorf("the console said: %s", line)
	}
	for _, r := range tour.Foreign(w.Origin, w.Requests()) {
		s.Errorf("the pages asked for %s", r)
	}
}

// onDisk lists files under a directory that hold one of the marks.
func (s *story) onDisk(dir string, marks map[string][]byte) (found []string) {
	s.Helper()
	s.must(filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			return nil // a database's own file that came and went
		}
		for what, mark := range marks {
			if bytes.Contains(data, mark) || strings.Contains(path, string(mark)) {
				found = append(found, what+" in "+path)
			}
		}
		return err
	}))
	return found
}

// openssl runs the independent judge and returns what it says.
func (s *story) openssl(args ...string) (string, error) {
	s.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		s.Skip("openssl is not installed: run `sh scripts/prepare.sh`")
	}
	out, err := exec.CommandContext(s.ctx, "openssl", args...).CombinedOutput()
	return string(out), err
}

// verify checks a package with the offline verifier and returns its report and
// exit status.
func (s *story) verify(file string) (string, int) {
	s.Helper()
	cmd := exec.CommandContext(s.ctx, shared.verifier, file, "--policy", shared.alliance.Policy, "--lang", "en")
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// client talks to the alliance; signer signs lookups, nil: nobody's are made.
func (s *story) client(signer evidence.Signer) *client.Client {
	s.Helper()
	data, err := os.ReadFile(shared.alliance.Policy)
	s.must(err)
	policy, err := evidence.ParsePolicy(data)
	s.must(err)
	c, err := client.New(client.Config{Alliance: shared.alliance.Alliance, Policy: policy, Signer: signer})
	s.must(err)
	return c
}

// session is a visitor without a browser, who can send what no page would.
type session struct {
	*story
	http *http.Client
	jar  http.CookieJar
}

func (s *story) session() *session {
	s.Helper()
	jar, err := cookiejar.New(nil)
	s.must(err)
	return &session{s, &http.Client{Jar: jar, Timeout: patience, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, jar}
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   string
}

// send sends a request as this portal's own pages would; options change it.
func (v *session) send(method, address string, body io.Reader, options ...func(*http.Request)) answer {
	v.Helper()
	if !strings.Contains(address, "://") {
		address = shared.portal.Origin + address
	}
	req, err := http.NewRequestWithContext(v.ctx, method, address, body)
	v.must(err)
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	for _, o := range options {
		o(req)
	}
	resp, err := v.http.Do(req)
	v.must(err)
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(resp.Body)
	v.must(err)
	return answer{resp.StatusCode, resp.Header, string(data)}
}

func (v *session) get(address string) answer { v.Helper(); return v.send("GET", address, nil) }

func header(name, value string) func(*http.Request) {
	return func(r *http.Request) {
		if value == "" {
			r.Header.Del(name)
		} else {
			r.Header.Set(name, value)
		}
	}
}

// post sends a form.
func (v *session) post(address string, pairs ...string) answer {
	v.Helper()
	form := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		form.Add(pairs[i], pairs[i+1])
	}
	return v.send("POST", address, strings.NewReader(form.Encode()), header("Content-Type", "application/x-www-form-urlencoded"))
}

func (v *session) json(method, address, body string) answer {
	v.Helper()
	return v.send(method, address, strings.NewReader(body), header("Content-Type", "application/json"), header("Accept-Language", "en"))
}

var loginID = regexp.MustCompile(`name="id" value="([^"]+)"`)

// callback goes as far as the provider's answer and returns its address, which
// nobody has opened.
func (v *session) callback(p walk.Person) string {
	v.Helper()
	to := v.get("/signin/with/demo?lang=en").header.Get("Location")
	for range 3 {
		a := v.get(to)
		if m := loginID.FindStringSubmatch(a.body); m != nil {
			done := v.post("/demo-identity/login", "id", m[1], "lang", "en", "person", string(p))
			back, err := url.Parse(done.header.Get("Location"))
			v.must(err)
			if back.Query().Get("code") == "" {
				v.Fatalf("the provider answers %d, to %s", done.status, back)
			}
			return back.String()
		}
		next, err := url.Parse(to)
		v.must(err)
		next, err = next.Parse(a.header.Get("Location"))
		v.must(err)
		to = next.String()
	}
	v.Fatal("the provider shows no choice of persons")
	return ""
}

// signIn signs a person in.
func (s *story) signIn(p walk.Person) *session {
	s.Helper()
	v := s.session()
	if a := v.get(v.callback(p)); a.status != http.StatusSeeOther {
		s.Fatalf("signing in as %s: %d\n%s", p, a.status, a.body)
	}
	if a := v.get("/en/session"); a.status != http.StatusOK {
		s.Fatalf("the session of %s answers %d", p, a.status)
	}
	return v
}

// cookie returns the session's cookie.
func (v *session) cookie() *http.Cookie {
	v.Helper()
	u, err := url.Parse(shared.portal.Origin)
	v.must(err)
	for _, c := range v.jar.Cookies(u) {
		if strings.Contains(c.Name, "zhenglian") {
			return c
		}
	}
	v.Fatalf("there is no session cookie: %v", v.jar.Cookies(u))
	return nil
}

// with gives this visitor a cookie of somebody else's.
func (v *session) with(c *http.Cookie) *session {
	v.Helper()
	u, err := url.Parse(shared.portal.Origin)
	v.must(err)
	v.jar.SetCookies(u, []*http.Cookie{{Name: c.Name, Value: c.Value, Path: "/"}})
	return v
}

// fetched is what a page's own request got.
type fetched struct {
	Status int    `json:"status"`
	Body   string `json:"body"`
}

// fetch sends JSON from the walker's page, with her cookie.
func (s *story) fetch(w *walk.Walker, method, path string, body any) fetched {
	s.Helper()
	data, err := json.Marshal(body)
	s.must(err)
	got, err := tour.Eval[fetched](s.ctx, w.Visitor, `(async ([method, path, body, lang]) => {
		const r = await fetch(path, { method, headers: { "Content-Type": "application/json", "Accept-Language": lang }, body });
		return { status: r.status, body: await r.text() };
	})(`+quoted(method, path, string(data), w.Lang)+`)`)
	s.must(err)
	return got
}

// listen serves another origin on this machine and returns http://localhost:PORT.
func listen(s *story, h http.HandlerFunc) string {
	s.Helper()
	server := httptest.NewServer(h)
	s.Cleanup(server.Close)
	return strings.Replace(server.URL, "127.0.0.1", "localhost", 1)
}
