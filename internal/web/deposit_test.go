package web_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/custody"
	"github.com/zhenglian/zhenglian/internal/testalliance"
	"github.com/zhenglian/zhenglian/internal/vault"
	"github.com/zhenglian/zhenglian/internal/web"
	"github.com/zhenglian/zhenglian/internal/web/webtest"
)

// caller asks the portal as a page of one person does.
type caller struct {
	t      *testing.T
	p      *webtest.Portal
	cookie *http.Cookie // nil: nobody
}

func (c *caller) do(method, path string, body []byte, headers map[string]string) (int, http.Header, []byte) {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), method, c.p.Origin+path, bytes.NewReader(body))
	ok(c.t, err)
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	if c.cookie != nil {
		req.AddCookie(c.cookie)
	}
	for name, value := range headers {
		if req.Header.Set(name, value); value == "" {
			req.Header.Del(name)
		}
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	ok(c.t, err)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	ok(c.t, err)
	return resp.StatusCode, resp.Header, data
}

// problem is an answer of RFC 9457.
type problem struct {
	Title, Detail, Code, Request string
	Status                       int
}

// wantProblem wants the same refusal in both languages.
func (c *caller) wantProblem(what, method, path string, body []byte, headers map[string]string, status int, code string) {
	c.t.Helper()
	said := map[string]string{}
	for _, lang := range web.Languages() {
		h := map[string]string{"Accept-Language": lang}
		for k, v := range headers {
			h[k] = v
		}
		got, header, data := c.do(method, path, body, h)
		var p problem
		if err := json.Unmarshal(data, &p); err != nil || header.Get("Content-Type") != "application/problem+json" {
			c.t.Errorf("%s: %d %s, no problem document: %.200s", what, got, header.Get("Content-Type"), data)
			return
		}
		if got != status || p.Status != status || p.Code != code || p.Title == "" || p.Detail == "" || p.Request == "" {
			c.t.Errorf("%s, %s: %d %+v, want %d %s", what, lang, got, p, status, code)
		}
		said[lang] = p.Detail
	}
	if said["en"] == said["zh-CN"] {
		c.t.Errorf("%s: the same words in both languages: %s", what, said["en"])
	}
}

// portalStore uploads and fetches over HTTP as deposit-worker.js does.
type portalStore struct{ *caller }

func (s portalStore) Put(_ context.Context, name string, write func(io.Writer) error) error {
	var b bytes.Buffer
	if err := write(&b); err != nil {
		return err
	}
	status, _, data := s.do("PUT", "/app/objects/"+name+"?offset=0&last", b.Bytes(), digestHeader(b.Bytes()))
	if status == http.StatusConflict {
		return vault.ErrExist
	}
	if status != http.StatusOK {
		return fmt.Errorf("%d %s", status, data)
	}
	return nil
}

func digestHeader(b []byte) map[string]string {
	sum := sha256.Sum256(b)
	return map[string]string{"Content-Digest": "sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":", "Content-Type": "application/octet-stream"}
}

func (s portalStore) Size(_ context.Context, name string) (int64, error) {
	var v struct {
		Size  int64
		Whole bool
	}
	_, _, data := s.do("GET", "/app/objects/"+name+"?state", nil, nil)
	if err := json.Unmarshal(data, &v); err != nil {
		return 0, err
	}
	if !v.Whole {
		return 0, vault.ErrNotExist
	}
	return v.Size, nil
}

func (s portalStore) Range(_ context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	status, _, data := s.do("GET", "/app/objects/"+name, nil, map[string]string{"Range": fmt.Sprintf("bytes=%d-%d", offset, offset+length-1)})
	if status != http.StatusPartialContent || int64(len(data)) != length {
		return nil, fmt.Errorf("range: %d, %d bytes", status, len(data))
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

func (s portalStore) List(_ context.Context, prefix string) ([]string, error) {
	var v struct{ Names []string }
	_, _, data := s.do("GET", "/app/objects?prefix="+prefix, nil, nil)
	return v.Names, json.Unmarshal(data, &v)
}

func (portalStore) Delete(context.Context, string) error { return nil }

// deposited makes a deposit of a member over HTTP and waits until it is final.
func deposited(t *testing.T, c *caller, d *webtest.Deposits, member string) (statement *evidence.Statement, secret string) {
	t.Helper()
	ctx := context.Background()
	signer, err := testalliance.Signer("browser of " + member)
	ok(t, err)
	m := d.Net.EnrolKey(t, member, signer)
	id, err := age.GenerateX25519Identity()
	ok(t, err)
	v := vault.New(portalStore{c})
	secret = "secret-name-" + member[2:6] + ".txt"
	file, err := v.Put(ctx, strings.NewReader("content of "+secret), []age.Recipient{id.Recipient()}, nil)
	ok(t, err)
	salt, err := evidence.NewSalt(strings.NewReader(strings.Repeat(member, 4)))
	ok(t, err)
	manifest := evidence.Manifest{V: 1, Salt: salt, Phase: evidence.PhaseDuring, Step: "secret-step", Created: time.Now().UTC().Format(time.RFC3339),
		Person:  evidence.Person{Member: member, Commitment: m.Commitment, Assurance: m.Assurance, Demo: m.Demo},
		Objects: []evidence.Object{{Name: secret, Size: file.Size, Media: "text/plain", SHA256: file.SHA256, SM3: file.SM3, Vault: &evidence.VaultRef{Chunks: file.Chunks, PlainRoot: file.PlaintextRoot, CipherRoot: file.CiphertextRoot}}}}
	text, err := manifest.Encode()
	ok(t, err)
	o, err := v.Put(ctx, bytes.NewReader(text), []age.Recipient{id.Recipient()}, nil)
	ok(t, err)
	var next struct{ After string }
	_, _, data := c.do("GET", "/app/next?kid="+signer.Public().KID().String(), nil, nil)
	ok(t, json.Unmarshal(data, &next))
	cp, err := evidence.ParseCheckpoint([]byte(next.After))
	ok(t, err)
	s, err := evidence.Statement{Issuer: member, Subject: evidence.SubjectNewTrail, IssuedAt: time.Now().Unix(), ContentType: evidence.TypeDeposit, Payload: o.SHA256[:], ManifestSM3: o.SM3, After: cp.Checkpoint}.Sign(signer)
	ok(t, err)
	status, _, data := c.do("POST", "/app/deposits", s.Bytes(), map[string]string{"Content-Type": "application/cose"})
	if status != http.StatusAccepted {
		t.Fatalf("depositing: %d %s", status, data)
	}
	for range 500 {
		var state struct{ State custody.State }
		_, _, data := c.do("GET", "/app/deposits/"+s.Digest().String(), nil, nil)
		ok(t, json.Unmarshal(data, &state))
		if state.State == custody.Final {
			return s, secret
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatal("the deposit does not become final")
	return nil, ""
}

const (
	memberID = "m:abcdefghijklmnopqrstuvwxyz" // of webtest.Member
)

func TestMemberEndpoints(t *testing.T) {
	var d *webtest.Deposits
	p := webtest.Start(t, webtest.WithDeposits(t, &d))
	li := &caller{t, p, p.SignIn(t, webtest.Member)}
	eve := &caller{t, p, p.SignIn(t, webtest.Officer)}
	newcomer := &caller{t, p, p.SignIn(t, webtest.Newcomer)}
	nobody := &caller{t, p, nil}
	s, secret := deposited(t, li, d, memberID)
	trail, manifest := s.Digest().String(), evidence.Digest(s.Payload).String()
	never := evidence.SumSHA256([]byte("never")).String()

	t.Run("who may ask", func(t *testing.T) {
		for _, r := range p.Site.Routes() {
			if !strings.HasPrefix(r.Pattern, "/app/") {
				continue
			}
			path := regexp.MustCompile(`\{(\w+)\}`).ReplaceAllString(r.Pattern, never)
			nobody.wantProblem("nobody at "+r.Pattern, r.Method, path, nil, nil, http.StatusUnauthorized, "problem.signed-out")
			if r.Access == "member" {
				newcomer.wantProblem("not enrolled at "+r.Pattern, r.Method, path, nil, nil, http.StatusForbidden, "problem.not-enrolled")
			}
			if r.Method != "GET" {
				li.wantProblem("from another site at "+r.Pattern, r.Method, path, nil, map[string]string{"Sec-Fetch-Site": "cross-site"}, http.StatusForbidden, "problem.other-site")
				li.wantProblem("from no site at "+r.Pattern, r.Method, path, nil, map[string]string{"Sec-Fetch-Site": ""}, http.StatusForbidden, "problem.other-site")
			}
		}
	})
	t.Run("not identified well enough", func(t *testing.T) {
		cose := map[string]string{"Content-Type": "application/cose"}
		d.Net.Policy.Acts = []evidence.ActRule{{Kind: evidence.ActDeposit, Assurance: 3, Passkey: true}}
		defer func() { d.Net.Policy.Acts = nil }()
		li.wantProblem("level 2 where 3 is needed", "POST", "/app/deposits", s.Bytes(), cose, http.StatusForbidden, "deposit.level")
		if code, _, page := li.do("GET", "/en/deposit", nil, nil); code != http.StatusOK || !strings.Contains(string(page), `data-demanded="yes"`) {
			t.Errorf("the page does not say that a passkey is demanded (%d)", code)
		}
		d.Net.Policy.Acts[0].Assurance = 2
		if code, _, body := li.do("POST", "/app/deposits", s.Bytes(), cose); code != http.StatusAccepted {
			t.Errorf("level 2 where 2 is needed: %d %s", code, body)
		}
	})
	t.Run("another member reads", func(t *testing.T) {
		request := regexp.MustCompile(`"request":"[A-Z2-7]+"|[A-Z2-7]{12}`)
		for _, path := range []string{"/app/objects/objects/MANIFEST", "/app/objects/objects/MANIFEST?state", "/app/objects?prefix=objects/MANIFEST", "/app/deposits/TRAIL", "/app/records/TRAIL", "/app/records/TRAIL/parts",
			"/app/next?trail=TRAIL&kid=" + never, "/en/records/TRAIL", "/zh-CN/records/TRAIL", "/en/deposit?trail=TRAIL"} {
			there, _, hers := eve.do("GET", strings.NewReplacer("TRAIL", trail, "MANIFEST", manifest).Replace(path), nil, nil)
			absent, _, none := eve.do("GET", strings.NewReplacer("TRAIL", never, "MANIFEST", never).Replace(path), nil, nil)
			same := func(b []byte) string {
				b = request.ReplaceAll(b, nil)
				return strings.NewReplacer(trail, "", manifest, "", never, "").Replace(string(b))
			}
			if there != absent || same(hers) != same(none) {
				t.Errorf("%s: another's answers %d, nothing's %d\n%s\n%s", path, there, absent, hers, none)
			}
			if mine, _, _ := li.do("GET", strings.NewReplacer("TRAIL", trail, "MANIFEST", manifest, never, s.KID.String()).Replace(path), nil, nil); mine != http.StatusOK {
				t.Errorf("%s: her own answers %d", path, mine)
			}
		}
		if _, _, body := eve.do("GET", "/app/records", nil, nil); strings.Contains(string(body), trail) {
			t.Errorf("another's records: %s", body)
		}
	})
	t.Run("another member deposits", func(t *testing.T) {
		cose := map[string]string{"Content-Type": "application/cose"}
		eve.wantProblem("her statement", "POST", "/app/deposits", s.Bytes(), cose, http.StatusUnprocessableEntity, "deposit.not-your-key")
		li.wantProblem("no statement", "POST", "/app/deposits", []byte("{}"), cose, http.StatusUnprocessableEntity, "deposit.refused")
		li.wantProblem("another type", "POST", "/app/deposits", s.Bytes(), nil, http.StatusUnsupportedMediaType, "problem.bad-request")
		li.wantProblem("a long one", "POST", "/app/deposits", make([]byte, evidence.MaxStatement+2), cose, http.StatusBadRequest, "problem.bad-request")
		if status, _, body := li.do("POST", "/app/deposits", s.Bytes(), cose); status != http.StatusAccepted || !strings.Contains(string(body), `"final"`) {
			t.Errorf("the same again: %d %s", status, body)
		}
	})
	t.Run("uploads", func(t *testing.T) {
		const name = "/app/objects/data/00000000000000000000000000000001"
		li.wantProblem("altered on its way", "PUT", name+"?offset=0&last", []byte("sent"), digestHeader([]byte("meant")), http.StatusUnprocessableEntity, "deposit.piece")
		li.wantProblem("without digest", "PUT", name+"?offset=0", []byte("x"), nil, http.StatusBadRequest, "problem.bad-request")
		li.wantProblem("a bad name", "PUT", "/app/objects/tmp/x?offset=0", []byte("x"), digestHeader([]byte("x")), http.StatusBadRequest, "deposit.blob-name")
		big := make([]byte, custody.MaxPiece+1)
		li.wantProblem("a large piece", "PUT", name+"?offset=0", big, digestHeader(big), http.StatusRequestEntityTooLarge, "deposit.too-large")
		if status, _, body := li.do("PUT", name+"?offset=7&last", []byte("x"), digestHeader([]byte("x"))); status != http.StatusConflict || !strings.Contains(string(body), `"have":0`) {
			t.Errorf("a hole: %d %s", status, body)
		}
		if status, _, _ := li.do("PUT", "/app/objects/objects/"+manifest+"?offset=0&last", []byte("x"), digestHeader([]byte("x"))); status != http.StatusConflict {
			t.Errorf("over what is kept: %d", status)
		}
	})
	t.Run("without a script", func(t *testing.T) {
		for _, lang := range web.Languages() {
			for _, path := range []string{"/records", "/records/" + trail} {
				status, _, body := li.do("GET", "/"+lang+path, nil, nil)
				page := html.UnescapeString(string(body))
				if status != http.StatusOK || strings.Contains(page, "‹") {
					t.Errorf("%s%s: %d\n%s", lang, path, status, page)
				}
				for _, want := range []string{"示范公证处", "示范互联网法院", trail} {
					if !strings.Contains(page, want) {
						t.Errorf("%s%s does not have %q", lang, path, want)
					}
				}
				if strings.Contains(page, secret) || strings.Contains(page, "secret-step") {
					t.Errorf("%s%s has plaintext", lang, path)
				}
			}
			_, _, one := li.do("GET", "/"+lang+"/records/"+trail, nil, nil)
			for _, want := range []string{manifest, s.KID.String(), s.ManifestSM3.String(), "2026-03-01 09:3", "+08:00"} {
				if !strings.Contains(html.UnescapeString(string(one)), want) {
					t.Errorf("%s: the record does not have %q", lang, want)
				}
			}
			_, _, empty := eve.do("GET", "/"+lang+"/records", nil, nil)
			if !strings.Contains(string(empty), `class="empty"`) {
				t.Errorf("%s: no empty state:\n%s", lang, empty)
			}
		}
	})
	t.Run("what the portal has", func(t *testing.T) {
		// Every text that the portal keeps: no name, no step, no note.
		parts, _, body := li.do("GET", "/app/records/"+trail+"/parts", nil, nil)
		if parts != http.StatusOK || strings.Contains(string(body), "secret") {
			t.Errorf("parts: %d %.100s", parts, body)
		}
	})
}
