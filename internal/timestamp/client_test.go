package timestamp

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/evidence/rfc3161"
)

// opensslAuthority is a timestamp authority that is `openssl ts -reply`.
func opensslAuthority(t *testing.T) (url string, trust rfc3161.Trust) {
	t.Helper()
	dir := t.TempDir()
	key := newP256(t)
	cert, root, err := SelfIssue(key.Public(), "Outside", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	path := func(name string) string { return filepath.Join(dir, name) }
	writePEM(t, path("tsa.pem"), cert)
	writePEM(t, path("chain.pem"), root)
	config := strings.ReplaceAll(`[tsa]
serial = DIR/serial
signer_cert = DIR/tsa.pem
certs = DIR/chain.pem
signer_key = DIR/tsa.key
signer_digest = sha256
default_policy = 1.2.3.4.5
digests = sha256
accuracy = secs:2, millisecs:5
clock_precision_digits = 3
ess_cert_id_alg = sha256
`, "DIR", dir)
	for name, content := range map[string][]byte{
		"tsa.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), "tsa.cnf": []byte(config), "serial": []byte("01\n"),
	} {
		if err := os.WriteFile(path(name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	openssl(t, "version")
	var mu sync.Mutex // it keeps its serial in a file
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		query, err := io.ReadAll(r.Body)
		if err == nil {
			err = os.WriteFile(path("q"), query, 0o600)
		}
		if err == nil {
			err = exec.Command("openssl", "ts", "-reply", "-config", path("tsa.cnf"), "-section", "tsa", "-queryfile", path("q"), "-out", path("a")).Run()
		}
		answer, readErr := os.ReadFile(path("a"))
		if err = errors.Join(err, readErr); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", replyType)
		_, _ = w.Write(answer)
	}))
	t.Cleanup(server.Close)
	return server.URL, rfc3161.Trust{Anchors: []*x509.Certificate{root}}
}

func TestOutsideAuthority(t *testing.T) {
	url, trust := opensslAuthority(t)
	c := newTestClient(t, Remote{Name: "outside", URL: url, Trust: trust})
	imprint := sha256.Sum256([]byte("a checkpoint"))
	token, err := c.Stamp(t.Context(), imprint)
	if err != nil {
		t.Fatal(err)
	}
	if i := token.Info; i.Policy != "1.2.3.4.5" || i.Accuracy != 2005*time.Millisecond || i.Demo || len(i.Chain) != 2 {
		t.Errorf("%+v", i)
	}
	// Its refusals reach us with their reason.
	c = newTestClient(t, Remote{URL: url, Trust: trust, Policy: "1.2.3"})
	_, err = c.Stamp(t.Context(), imprint)
	var refused *RefusalError
	if !errors.As(err, &refused) || refused.Failure != UnacceptedPolicy {
		t.Errorf("another policy: %v", err)
	}
}

// Whatever the first authorities of the list do, the next is asked.
func TestFallback(t *testing.T) {
	good, other := newStation(t, newP256(t), nil), newStation(t, newP256(t), nil)
	goodURL, imprint := good.serve(t), sha256.Sum256([]byte("a checkpoint"))
	old, err := newTestClient(t, Remote{URL: goodURL, Trust: good.trust()}).Stamp(t.Context(), imprint)
	if err != nil {
		t.Fatal(err)
	}
	late := newStation(t, newP256(t), func(cfg *Config) {
		demonstration(cfg)
		cfg.now = func() time.Time { return time.Now().Add(-20 * time.Minute) } // within the certificate's hour
	})
	release := make(chan struct{})
	serve := func(h http.HandlerFunc) string {
		server := httptest.NewServer(h)
		t.Cleanup(server.Close)
		return server.URL
	}
	answer := func(contentType string, body []byte) string {
		return serve(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			_, _ = w.Write(body)
		})
	}
	replay := append([]byte{0x30, 0x82, byte((len(old.DER) + 5) >> 8), byte(len(old.DER) + 5), 0x30, 0x03, 0x02, 0x01, 0x00}, old.DER...)
	if token, err := parseReply(replay); err != nil || !bytes.Equal(token, old.DER) {
		t.Fatalf("the replay is not one: %v", err)
	}
	cases := map[string]struct {
		first Remote
		why   string
	}{
		"nobody there":      {Remote{URL: "http://127.0.0.1:1/", Trust: good.trust()}, "refused"},
		"another's key":     {Remote{URL: other.serve(t), Trust: good.trust()}, "no chain"},
		"an old answer":     {Remote{URL: answer(replyType, replay), Trust: good.trust()}, "nonce"},
		"no reply":          {Remote{URL: answer(replyType, []byte("<html>")), Trust: good.trust()}, "not a TimeStampResp"},
		"a page":            {Remote{URL: answer("text/html", replay), Trust: good.trust()}, "content type"},
		"too much":          {Remote{URL: answer(replyType, make([]byte, rfc3161.MaxToken+1)), Trust: good.trust()}, "more than"},
		"a granted nothing": {Remote{URL: answer(replyType, []byte{0x30, 0x05, 0x30, 0x03, 0x02, 0x01, 0x00}), Trust: good.trust()}, "no token"},
		"a wrong clock":     {Remote{URL: late.serve(t), Trust: late.trust()}, "clocks is wrong"},
		"an error":          {Remote{URL: serve(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "x", http.StatusServiceUnavailable) }), Trust: good.trust()}, "503"},
		"another address": {Remote{URL: serve(func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, goodURL, http.StatusTemporaryRedirect)
		}), Trust: good.trust()}, "307"},
		"no answer":            {Remote{URL: serve(func(http.ResponseWriter, *http.Request) { <-release }), Trust: good.trust(), Wait: 50 * time.Millisecond}, "deadline"},
		"a policy not its own": {Remote{URL: goodURL, Trust: good.trust(), Policy: "1.2.3"}, "unacceptedPolicy"},
	}
	t.Cleanup(func() { close(release) }) // before the servers are closed, which wait for it
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			c.first.Name = "the first"
			token, err := newTestClient(t, c.first, Remote{Name: "the second", URL: goodURL, Trust: good.trust()}).Stamp(t.Context(), imprint)
			if err != nil || token.Authority != "the second" {
				t.Errorf("%s: %v", token.Authority, err)
			}
			_, err = newTestClient(t, c.first).Stamp(t.Context(), imprint)
			if err == nil || !strings.Contains(err.Error(), c.why) || !strings.Contains(err.Error(), "the first") {
				t.Errorf("%v, want %q", err, c.why)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := newTestClient(t, Remote{URL: goodURL, Trust: good.trust()}).Stamp(ctx, imprint); !errors.Is(err, context.Canceled) {
		t.Errorf("called off: %v", err)
	}
}

func TestClientConfig(t *testing.T) {
	trust := rfc3161.Trust{Keys: make([][32]byte, 1)}
	for name, remotes := range map[string][]Remote{
		"nobody":     nil,
		"no address": {{URL: "tsa.example", Trust: trust}},
		"a file":     {{URL: "file:///etc/passwd", Trust: trust}},
		"no trust":   {{URL: "http://tsa.example/"}},
		"policy":     {{URL: "http://tsa.example/", Trust: trust, Policy: "1.2.x"}},
	} {
		if _, err := NewClient(ClientConfig{Authorities: remotes}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// The commands of spec/timestamp.md, TS2, with tokens of ours.
func TestSpecifiedCommands(t *testing.T) {
	spec, err := os.ReadFile("../../spec/timestamp.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(spec), "**TS2.**")
	section, _, _ = strings.Cut(section, "**TS3.**")
	openssl(t, "version")
	s, dir := newStation(t, newP256(t), nil), t.TempDir()
	c := newTestClient(t, Remote{URL: s.serve(t), Trust: s.trust()})
	writePEM(t, filepath.Join(dir, "root.pem"), s.root)
	body, statement := "zhenglian-demo-0123456789abcdef\n7\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n", "the bytes of a statement"
	for name, content := range map[string]string{"checkpoint": body + "\n— a b\n", "statement": statement} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ran := 0
	for line := range strings.Lines(section) {
		command, ok := strings.CutPrefix(line, "    ")
		if !ok {
			continue
		}
		if strings.Contains(command, "-verify") {
			stamped := body
			if strings.Contains(command, "-data statement") {
				stamped = statement
			}
			token, err := c.Stamp(t.Context(), sha256.Sum256([]byte(stamped)))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "token.tst"), token.DER, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.Command("sh", "-c", command)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil || strings.Contains(command, "-verify") && !strings.Contains(string(out), "Verification: OK") {
			t.Errorf("%s%v\n%s", command, err, out)
		}
		ran++
	}
	if ran != 4 {
		t.Errorf("%d commands found", ran)
	}
	// And with its own time, for a certificate that has expired.
	data := filepath.Join(dir, "data")
	if err := os.WriteFile(data, []byte("good at its time\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const testdata = "../../evidence/rfc3161/testdata/"
	token, err := os.ReadFile(testdata + "expired.tst")
	if err != nil {
		t.Fatal(err)
	}
	block, err := os.ReadFile(testdata + "expired-root.pem")
	if err != nil {
		t.Fatal(err)
	}
	pool, _ := pem.Decode(block)
	root, err := x509.ParseCertificate(pool.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	info, err := rfc3161.Verify(token, sha256.Sum256([]byte("good at its time\n")), rfc3161.Trust{Anchors: []*x509.Certificate{root}})
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"ts", "-verify", "-data", data, "-in", testdata + "expired.tst", "-token_in", "-CAfile", testdata + "expired-root.pem"}
	if out, err := exec.Command("openssl", args...).CombinedOutput(); err == nil {
		t.Errorf("OpenSSL judges the certificate at the present time no longer: %s", out)
	}
	if out := openssl(t, append(args, "-attime", strconv.FormatInt(info.Time.Unix(), 10))...); !strings.Contains(out, "Verification: OK") {
		t.Error(out)
	}
}
