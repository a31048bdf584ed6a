package oidc_test

import (
	"bufio"
	"bytes"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/internal/identity/signin"
)

const callback = "http://localhost:9/signin/callback"

// start runs the provider and returns its issuer; it ends with the test.
func start(t *testing.T, secret string) string {
	if testing.Short() {
		t.Skip("installs an npm package: left out of -short")
	}
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("node is not installed")
	}
	npm, err := exec.LookPath("npm")
	if err != nil {
		t.Skip("npm is not installed")
	}
	if _, err := os.Stat("node_modules/oidc-provider"); err != nil {
		if out, err := exec.Command(npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund").CombinedOutput(); err != nil {
			t.Skipf("npm cannot install the provider (is there a registry?): %v\n%s", err, bytes.TrimSpace(out))
		}
	}
	args := []string{"provider.mjs", callback + "/gov"}
	if secret != "" {
		args = append(args, secret)
	}
	cmd := exec.CommandContext(t.Context(), node, args...)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Wait()
	})
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "http://localhost:") {
			return lines.Text()
		}
	}
	t.Fatalf("the provider did not start: %s", stderr.String())
	return ""
}

func party(t *testing.T, issuer, secret string) *signin.RelyingParty {
	rp, err := signin.New(signin.Config{Callback: callback, Providers: []signin.Provider{{
		ID: "gov", Issuer: issuer, ClientID: "portal", Secret: secret, Scopes: []string{"openid", "profile"}, NumberClaim: "id_card_number",
		Policy: signin.Policy{Frameworks: []signin.Framework{{Name: "cn_rna"}}, MaxAge: 24 * time.Hour},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	return rp
}

// browser follows redirects until the portal's callback, and fills in the
// provider's forms on the way.
type browser struct {
	t      *testing.T
	client *http.Client
}

func newBrowser(t *testing.T) *browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &browser{t, &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

func (b *browser) signIn(address, login string) url.Values {
	b.t.Helper()
	at, err := url.Parse(address)
	if err != nil {
		b.t.Fatal(err)
	}
	resp, err := b.client.Get(address)
	for range 20 {
		if err != nil {
			b.t.Fatal(err)
		}
		body, err2 := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err2 != nil {
			b.t.Fatal(err2)
		}
		if location := resp.Header.Get("Location"); location != "" {
			if at, err = at.Parse(location); err != nil {
				b.t.Fatal(err)
			}
			if strings.HasPrefix(at.String(), callback) {
				return at.Query()
			}
			resp, err = b.client.Get(at.String())
			continue
		}
		action := regexp.MustCompile(`<form[^>]* action="([^"]+)"`).FindSubmatch(body)
		if action == nil || resp.StatusCode != http.StatusOK {
			b.t.Fatalf("%s answers %s: %.500s", at, resp.Status, body)
		}
		form := url.Values{}
		for _, m := range regexp.MustCompile(`name="(\w+)" value="(\w*)"`).FindAllStringSubmatch(string(body), -1) {
			form.Set(m[1], m[2])
		}
		if bytes.Contains(body, []byte(`name="login"`)) {
			form.Set("login", login)
			form.Set("password", "any")
		}
		if at, err = at.Parse(html.UnescapeString(string(action[1]))); err != nil {
			b.t.Fatal(err)
		}
		resp, err = b.client.PostForm(at.String(), form)
	}
	b.t.Fatal("too many steps")
	return nil
}

func TestIndependentProvider(t *testing.T) {
	for name, secret := range map[string]string{"public client": "", "confidential client": "a secret of the client: %2B+="} {
		t.Run(name, func(t *testing.T) {
			rp := party(t, start(t, secret), secret)
			b := newBrowser(t)
			begun, err := rp.Begin(t.Context(), "gov", signin.Options{Language: "zh-CN"})
			if err != nil {
				t.Fatal(err)
			}
			answer := b.signIn(begun.Redirect, "independent-1")
			if answer.Get("iss") == "" {
				t.Error("the provider names itself in its answers, and this one does not")
			}
			id, err := rp.Finish(t.Context(), "gov", begun.Pending, answer)
			if err != nil {
				t.Fatal(err)
			}
			if id.Subject != "independent-1" || id.Level != signin.Seen || id.Name != "林若溪" || id.Facts.Number.Number() != "119999199205149024" || id.Demo || !id.Source.UserInfo {
				t.Errorf("%+v", id)
			}

			// The code again, under a new sign-in's state: the provider refuses it.
			again, err := rp.Begin(t.Context(), "gov", signin.Options{})
			if err != nil {
				t.Fatal(err)
			}
			replayed := url.Values{"code": answer["code"], "iss": answer["iss"], "state": {again.State}}
			if _, err := rp.Finish(t.Context(), "gov", again.Pending, replayed); !signin.IsCode(err, signin.Refused) {
				t.Errorf("a replayed code: %v", err)
			}

			// Step-up: the provider knows the browser, and asks all the same.
			fresh, err := rp.Begin(t.Context(), "gov", signin.Options{Fresh: true, Subject: id.Subject})
			if err != nil {
				t.Fatal(err)
			}
			confirmed, err := rp.Finish(t.Context(), "gov", fresh.Pending, b.signIn(fresh.Redirect, "independent-1"))
			if err != nil {
				t.Fatal(err)
			}
			if confirmed.SignedIn.Before(id.SignedIn) || confirmed.Subject != id.Subject {
				t.Errorf("%v after %v", confirmed.SignedIn, id.SignedIn)
			}
			// Somebody else at the keyboard.
			if fresh, err = rp.Begin(t.Context(), "gov", signin.Options{Fresh: true, Subject: id.Subject}); err != nil {
				t.Fatal(err)
			}
			if _, err := rp.Finish(t.Context(), "gov", fresh.Pending, newBrowser(t).signIn(fresh.Redirect, "somebody-else")); !signin.IsCode(err, signin.OtherPerson) {
				t.Errorf("somebody else: %v", err)
			}
		})
	}
}
