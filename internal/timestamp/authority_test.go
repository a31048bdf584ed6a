package timestamp

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/evidence/rfc3161"
)

const testPolicy = "1.3.6.1.4.1.99999.3161"

func newP256(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// rsaKey is made once: 3072 bits take their time.
var rsaKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 3072) })

type station struct {
	*Authority
	root     *x509.Certificate
	register *Register
	path     string // of the register
	clock    *testClock
	ntp      *ntpServer
}

// newStation starts an authority that knows its clock's error, as change leaves
// the configuration.
func newStation(t testing.TB, key crypto.Signer, change func(*Config)) *station {
	t.Helper()
	cert, root, err := SelfIssue(key.Public(), "Test Institution", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	s := &station{root: root, path: filepath.Join(t.TempDir(), "register")}
	s.register = openRegister(t, s.path)
	s.ntp = newNTPServer(t, 0)
	s.clock = newTestClock(t, s.ntp)
	if err := s.clock.Measure(t.Context()); err != nil {
		t.Fatal(err)
	}
	cfg := Config{Key: key, Chain: []*x509.Certificate{cert, root}, Policy: testPolicy, Clock: s.clock.Clock, Register: s.register}
	if change != nil {
		change(&cfg)
	}
	if s.Authority, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	return s
}

func demonstration(cfg *Config) { cfg.Demonstration, cfg.Policy, cfg.Clock = true, "", nil }

func (s *station) trust() rfc3161.Trust { return rfc3161.Trust{Anchors: []*x509.Certificate{s.root}} }

func (s *station) serve(t testing.TB) string {
	t.Helper()
	server := httptest.NewServer(s.Authority)
	t.Cleanup(server.Close)
	return server.URL
}

func newTestClient(t testing.TB, remotes ...Remote) *Client {
	t.Helper()
	c, err := NewClient(ClientConfig{Authorities: remotes})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func wantFailure(t *testing.T, err error, want Failure) {
	t.Helper()
	var refused *RefusalError
	if !errors.As(err, &refused) || refused.Failure != want || refused.Status != 2 || refused.Text == "" {
		t.Fatalf("got %v, want %s", err, want)
	}
	t.Log(err)
}

func openssl(t *testing.T, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("openssl is not installed")
	}
	out, err := exec.Command("openssl", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func writePEM(t *testing.T, path string, certs ...*x509.Certificate) string {
	t.Helper()
	var b bytes.Buffer
	for _, c := range certs {
		if err := pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// OpenSSL asks, our authority answers over HTTP, OpenSSL verifies.
func TestOpenSSLAsksUs(t *testing.T) {
	rsa3072, err := rsaKey()
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]crypto.Signer{"P-256": newP256(t), "RSA-3072": rsa3072} {
		t.Run(name, func(t *testing.T) {
			s, dir := newStation(t, key, nil), t.TempDir()
			url := s.serve(t)
			root := writePEM(t, filepath.Join(dir, "root.pem"), s.root)
			leaf := writePEM(t, filepath.Join(dir, "tsa.pem"), s.Chain()[0])
			data := filepath.Join(dir, "data")
			if err := os.WriteFile(data, []byte("a statement"), 0o600); err != nil {
				t.Fatal(err)
			}
			for _, options := range [][]string{
				{"-cert"}, {"-cert", "-no_nonce"}, {}, {"-cert", "-sha512"}, {"-cert", "-sha384"}, {"-cert", "-tspolicy", testPolicy},
			} {
				query, answer := filepath.Join(dir, "q.tsq"), filepath.Join(dir, "a.tsr")
				openssl(t, append([]string{"ts", "-query", "-data", data, "-out", query}, options...)...)
				body, err := os.ReadFile(query)
				if err != nil {
					t.Fatal(err)
				}
				resp, err := http.Post(url, queryType, bytes.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				var b bytes.Buffer
				if _, err := b.ReadFrom(resp.Body); err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != replyType {
					t.Fatalf("%s, %s", resp.Status, resp.Header.Get("Content-Type"))
				}
				if err := os.WriteFile(answer, b.Bytes(), 0o600); err != nil {
					t.Fatal(err)
				}
				for _, against := range [][]string{{"-queryfile", query}, {"-data", data}} {
					out := openssl(t, append([]string{"ts", "-verify", "-in", answer, "-CAfile", root, "-untrusted", leaf}, against...)...)
					if !strings.Contains(out, "Verification: OK") {
						t.Errorf("%v: %s", options, out)
					}
				}
				text := openssl(t, "ts", "-reply", "-in", answer, "-text")
				if !strings.Contains(text, "Policy OID: "+testPolicy) || !strings.Contains(text, "Accuracy: 0x01 seconds") {
					t.Errorf("%v: %s", options, text)
				}
			}
			if head := s.register.Head(); head.Entries != 6 {
				t.Errorf("%d entries in the register", head.Entries)
			}
		})
	}
}

// The refusals are such as OpenSSL reads.
func TestRefusals(t *testing.T) {
	s, dir := newStation(t, newP256(t), nil), t.TempDir()
	data, queryFile := filepath.Join(dir, "data"), filepath.Join(dir, "q.tsq")
	if err := os.WriteFile(data, []byte("a statement"), 0o600); err != nil {
		t.Fatal(err)
	}
	made := func(options ...string) []byte {
		openssl(t, append([]string{"ts", "-query", "-data", data, "-out", queryFile}, options...)...)
		q, err := os.ReadFile(queryFile)
		if err != nil {
			t.Fatal(err)
		}
		return q
	}
	good := made("-cert")
	rewritten := func(change func(*query)) []byte {
		var q query
		if _, err := asn1.Unmarshal(good, &q); err != nil {
			t.Fatal(err)
		}
		change(&q)
		der, err := asn1.Marshal(q)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	for name, c := range map[string]struct {
		query   []byte
		want    Failure
		openssl string
	}{
		"SHA-1":             {made("-sha1"), BadAlgorithm, "unrecognized or unsupported algorithm identifier"},
		"SM3":               {made("-sm3"), BadAlgorithm, "unrecognized or unsupported algorithm identifier"},
		"another policy":    {made("-tspolicy", "1.2.3"), UnacceptedPolicy, "the requested TSA policy is not supported"},
		"version 2":         {rewritten(func(q *query) { q.Version = 2 }), BadRequest, "transaction not permitted or supported"},
		"a short digest":    {rewritten(func(q *query) { q.Imprint.Digest = q.Imprint.Digest[1:] }), BadDataFormat, "the data submitted has the wrong format"},
		"nothing":           {nil, BadDataFormat, "the data submitted has the wrong format"},
		"bytes that follow": {append(bytes.Clone(good), 0), BadDataFormat, "the data submitted has the wrong format"},
		"cut short":         {good[:len(good)-1], BadDataFormat, "the data submitted has the wrong format"},
		"an extension":      {rewritten(func(q *query) { q.Extensions = s.Chain()[0].Extensions[:1] }), UnacceptedExtension, "the requested extension is not supported"},
	} {
		t.Run(name, func(t *testing.T) {
			answer, err := s.Respond(c.query)
			if err != nil {
				t.Fatal(err)
			}
			_, err = parseReply(answer)
			wantFailure(t, err, c.want)
			file := filepath.Join(t.TempDir(), "a.tsr")
			if err := os.WriteFile(file, answer, 0o600); err != nil {
				t.Fatal(err)
			}
			if text := openssl(t, "ts", "-reply", "-in", file, "-text"); !strings.Contains(text, "Status: Rejected.") || !strings.Contains(text, c.openssl) {
				t.Error(text)
			}
		})
	}
	if n := s.register.Head().Entries; n != 0 {
		t.Errorf("%d entries for what was refused", n)
	}
}

func TestHTTP(t *testing.T) {
	s := newStation(t, newP256(t), nil)
	url := s.serve(t)
	for _, c := range []struct {
		method, contentType string
		body                []byte
		want                int
	}{
		{http.MethodGet, "", nil, http.StatusMethodNotAllowed},
		{http.MethodPost, "application/octet-stream", []byte("x"), http.StatusUnsupportedMediaType},
		{http.MethodPost, queryType, make([]byte, maxQuery+1), http.StatusRequestEntityTooLarge},
		{http.MethodPost, queryType + "; charset=binary", []byte("x"), http.StatusOK},
	} {
		req, err := http.NewRequest(c.method, url, bytes.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", c.contentType)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != c.want {
			t.Errorf("%s %s: %s, want %d", c.method, c.contentType, resp.Status, c.want)
		}
	}
}

// Our client asks our authority; the register has what left.
func TestStamp(t *testing.T) {
	s := newStation(t, newP256(t), nil)
	c := newTestClient(t, Remote{Name: "ours", URL: s.serve(t), Trust: s.trust(), Policy: testPolicy})
	imprint := sha256.Sum256([]byte("a checkpoint"))
	var tokens []Token
	for range 3 {
		token, err := c.Stamp(t.Context(), imprint)
		if err != nil {
			t.Fatal(err)
		}
		if info := token.Info; info.Demo || info.Accuracy < time.Second || info.Accuracy > 2*time.Second || time.Until(info.Time).Abs() > 5*time.Second || token.Authority != "ours" {
			t.Errorf("%+v", info)
		}
		tokens = append(tokens, token)
	}
	n := 0
	if _, err := ReadRegister(s.path, func(e Entry) error {
		token := tokens[n]
		n++
		if e.Serial.Cmp(token.Info.Serial) != 0 || e.Token != sha256.Sum256(token.DER) || !bytes.Equal(e.Imprint, imprint[:]) || !e.Time.Equal(token.Info.Time) ||
			e.Accuracy != token.Info.Accuracy || e.Policy != testPolicy || e.Hash != "SHA-256" || e.Certificate != sha256.Sum256(s.Chain()[0].Raw) {
			t.Errorf("entry %+v for token %+v", e, token.Info)
		}
		return nil
	}); err != nil || n != 3 {
		t.Errorf("%d entries, %v", n, err)
	}
}

// The authority does not sign by a clock that it cannot vouch for, and signs
// again when it can.
func TestClockFaults(t *testing.T) {
	s := newStation(t, newP256(t), nil)
	c := newTestClient(t, Remote{URL: s.serve(t), Trust: s.trust()})
	imprint := sha256.Sum256(nil)
	stamp := func() error { _, err := c.Stamp(t.Context(), imprint); return err }
	if err := errors.Join(stamp(), s.Ready()); err != nil {
		t.Fatal(err)
	}

	s.clock.move(-10*time.Minute, 0) // back-dated
	wantFailure(t, stamp(), TimeNotAvailable)
	if s.Ready() == nil {
		t.Error("ready with a clock that was set back")
	}
	s.clock.move(11*time.Minute, 0) // a minute ahead
	wantFailure(t, stamp(), TimeNotAvailable)
	s.clock.move(-time.Minute, 0)
	if err := stamp(); err != nil {
		t.Fatal(err)
	}

	s.clock.move(0, 40*time.Minute) // 500 ppm of it are more than a second
	wantFailure(t, stamp(), TimeNotAvailable)

	s.ntp.set(func(s *ntpServer) { s.offset = 3 * time.Second })
	if err := s.clock.Measure(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantFailure(t, stamp(), TimeNotAvailable)

	unknown := newStation(t, newP256(t), func(cfg *Config) { cfg.Clock = newTestClock(t, newNTPServer(t, 0)).Clock })
	c = newTestClient(t, Remote{URL: unknown.serve(t), Trust: unknown.trust()})
	wantFailure(t, stamp(), TimeNotAvailable)
	if n := unknown.register.Head().Entries; n != 0 {
		t.Errorf("%d entries for what was refused", n)
	}
}

// Even where nothing measures the clock, tokens do not go back in time: not in
// one run, not after a restart.
func TestTimeDoesNotGoBack(t *testing.T) {
	now := time.Now()
	s := newStation(t, newP256(t), func(cfg *Config) { demonstration(cfg); cfg.now = func() time.Time { return now } })
	c := newTestClient(t, Remote{URL: s.serve(t), Trust: s.trust()})
	token, err := c.Stamp(t.Context(), sha256.Sum256(nil))
	if err != nil {
		t.Fatal(err)
	}
	if i := token.Info; !i.Demo || i.Accuracy != 0 || i.Policy != rfc3161.DemonstrationPolicy {
		t.Errorf("a demonstration's token: %+v", i)
	}
	now = now.Add(-2 * time.Second)
	_, err = c.Stamp(t.Context(), sha256.Sum256(nil))
	wantFailure(t, err, TimeNotAvailable)
	if err := s.register.Close(); err != nil {
		t.Fatal(err)
	}
	cfg := s.cfg
	cfg.Register = openRegister(t, s.path)
	again, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	wantFailure(t, again.Ready(), TimeNotAvailable)
}

// A token does not leave without its line.
func TestRegisterFails(t *testing.T) {
	s := newStation(t, newP256(t), nil)
	c := newTestClient(t, Remote{URL: s.serve(t), Trust: s.trust()})
	if err := s.register.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := c.Stamp(t.Context(), sha256.Sum256(nil))
	wantFailure(t, err, SystemFailure)
}

func TestConfig(t *testing.T) {
	key := newP256(t)
	for name, change := range map[string]func(*Config){
		"no clock":                        func(c *Config) { c.Clock = nil },
		"a demonstration's policy":        func(c *Config) { c.Policy = rfc3161.DemonstrationPolicy },
		"a demonstration with a real one": func(c *Config) { c.Demonstration = true },
		"no policy":                       func(c *Config) { c.Policy = "" },
		"policy in words":                 func(c *Config) { c.Policy = "ours" },
		"a policy that cannot be":         func(c *Config) { c.Policy = "9.9.9" },
		"another key":                     func(c *Config) { c.Key = newP256(t) },
		"the root as authority":           func(c *Config) { c.Chain = c.Chain[1:] },
		"a chain that is none":            func(c *Config) { c.Chain = []*x509.Certificate{c.Chain[0], c.Chain[0]} },
		"no register":                     func(c *Config) { c.Register = nil },
		"no key":                          func(c *Config) { c.Key = nil },
		"a short RSA key": func(c *Config) {
			short, err := rsa.GenerateKey(rand.Reader, 2048)
			if err != nil {
				t.Fatal(err)
			}
			cert, _, err := SelfIssue(short.Public(), "x", time.Now())
			if err != nil {
				t.Fatal(err)
			}
			c.Key, c.Chain = short, []*x509.Certificate{cert}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStation(t, key, nil)
			cfg := s.cfg
			change(&cfg)
			if _, err := New(cfg); err == nil {
				t.Error("accepted")
			} else {
				t.Log(err)
			}
		})
	}
}

func BenchmarkRespond(b *testing.B) {
	rsa3072, err := rsaKey()
	if err != nil {
		b.Fatal(err)
	}
	for name, key := range map[string]crypto.Signer{"P-256": newP256(b), "RSA-3072": rsa3072} {
		b.Run(name, func(b *testing.B) {
			s := newStation(b, key, nil)
			var q query
			q.Version, q.Certificates = 1, true
			q.Imprint.Algorithm.Algorithm, q.Imprint.Digest = hashOID(crypto.SHA256), make([]byte, 32)
			der, err := asn1.Marshal(q)
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				answer, err := s.Respond(der)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := parseReply(answer); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func FuzzQuery(f *testing.F) {
	var q query
	q.Version = 1
	q.Imprint.Algorithm.Algorithm, q.Imprint.Digest = hashOID(crypto.SHA256), make([]byte, 32)
	der, err := asn1.Marshal(q)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(der)
	f.Fuzz(func(t *testing.T, der []byte) {
		q, refused := parseQuery(der)
		if refused == nil {
			if len(q.Imprint.Digest) != q.hash().Size() {
				t.Errorf("accepted %+v", q)
			}
			return
		}
		answer, err := refused.encode()
		if err != nil {
			t.Fatal(err)
		}
		var again *RefusalError
		if _, err := parseReply(answer); !errors.As(err, &again) || *again != *refused {
			t.Fatalf("%v reads %v", refused, err)
		}
	})
}

func FuzzReply(f *testing.F) {
	for _, r := range []*RefusalError{refusal(BadAlgorithm, "no"), refusal(SystemFailure, "")} {
		der, err := r.encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(der)
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		if token, err := parseReply(der); (err == nil) != (len(token) > 0) {
			t.Errorf("%d bytes, %v", len(token), err)
		}
	})
}
