package judges

import (
	"context"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emmansun/gmsm/smx509"
	"golang.org/x/crypto/ocsp"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/identity/ca"
	"github.com/zhenglian/zhenglian/internal/identity/ca/catest"
	"github.com/zhenglian/zhenglian/internal/signing"
	"github.com/zhenglian/zhenglian/internal/store"
)

// authority is a demonstration's CA behind a web server, with its files for openssl.
type authority struct {
	*ca.Authority
	t       *testing.T
	openssl string
	chain   *catest.Chain
	cfg     ca.Config
	handler atomic.Pointer[http.Handler]
	dir     string
	url     string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, openssl: tool(t, "openssl"), dir: t.TempDir()}
	var err error
	a.chain, err = catest.New(time.Now)
	must(t, err)
	db, err := store.Open(t.Context(), filepath.Join(a.dir, "portal.db"))
	must(t, err)
	t.Cleanup(func() { _ = db.Close() })
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*a.handler.Load()).ServeHTTP(w, r) }))
	server.Listener.Close()
	server.Listener, err = net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	a.url = "http://" + server.Listener.Addr().String()
	a.cfg = ca.Config{Institution: a.chain.CA.ID, Register: ca.NewRegister(db, nil), Chain: a.chain, Statement: a.chain.CA.Statement, URL: a.url, Demonstration: true}
	for _, alg := range []evidence.Algorithm{evidence.ES256, evidence.SM2SM3} {
		a.addIssuer(alg, 1)
	}
	a.open()
	server.Start()
	t.Cleanup(server.Close)
	return a
}

// addIssuer makes a CA key of a generation, with NAME-root.pem for openssl.
func (a *authority) addIssuer(alg evidence.Algorithm, generation int) {
	a.t.Helper()
	key, err := signing.Generate(alg, nil)
	must(a.t, err)
	der, err := ca.SelfIssue(key, "某某数字认证中心", generation, true, time.Now())
	must(a.t, err)
	i, err := ca.NewIssuer(key, der, generation)
	must(a.t, err)
	a.cfg.Issuers = append(a.cfg.Issuers, i)
	a.write(i.Name()+"-root.pem", "CERTIFICATE", der)
}

// open starts the authority, or starts it again with other issuers.
func (a *authority) open() {
	a.t.Helper()
	var err error
	a.Authority, err = ca.New(a.cfg)
	must(a.t, err)
	handler := a.Handler()
	a.handler.Store(&handler)
	must(a.t, a.Sync(a.t.Context()))
}

func (a *authority) write(name, kind string, der []byte) string {
	a.t.Helper()
	must(a.t, os.WriteFile(a.path(name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	return a.path(name)
}

func (a *authority) path(name string) string { return filepath.Join(a.dir, name) }

func (a *authority) run(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(a.t.Context(), 30*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, a.openssl, args...).CombinedOutput()
	return string(out), err
}

// holds runs openssl and wants a text in what it prints.
func (a *authority) holds(want string, args ...string) string {
	a.t.Helper()
	out, err := a.run(args...)
	if err != nil || !strings.Contains(out, want) {
		a.t.Errorf("openssl %s: %v, want %q\n%s", strings.Join(args, " "), err, want, out)
	}
	return out
}

// distid is the identity that SM2 signatures in certificates are made with (GB/T
// 32918.2; GM/T 0009). OpenSSL 3.0 has to be told.
const distid = "distid:1234567812345678"

func sm2Options(alg evidence.Algorithm) []string {
	if alg == evidence.SM2SM3 {
		return []string{"-vfyopt", distid}
	}
	return nil
}

func issuerOf(alg evidence.Algorithm) string {
	if alg == evidence.SM2SM3 {
		return "sm2"
	}
	return "p256"
}

// issued enrols a key and certifies it.
func (a *authority) issued(alg evidence.Algorithm, member string, csr []byte, key *evidence.PublicKey) (*ca.Entry, string) {
	a.t.Helper()
	must(a.t, a.chain.Enrol(member, key, evidence.KindPerson, 2, true))
	e, err := a.IssueEnrolled(a.t.Context(), csr, "", 0)
	must(a.t, err)
	return e, a.write(strings.ReplaceAll(member, ":", "-")+".pem", "CERTIFICATE", e.DER)
}

func TestCertificatesByOpenSSL(t *testing.T) {
	a := newAuthority(t)
	for _, alg := range []evidence.Algorithm{evidence.EdDSA, evidence.ES256, evidence.SM2SM3} {
		name, root := signing.AlgorithmName(alg), a.path(issuerOf(alg)+"-root.pem")
		t.Run(name, func(t *testing.T) {
			key, err := signing.Generate(alg, nil)
			must(t, err)
			csr, err := ca.NewRequest(key, "m:li")
			must(t, err)
			file := a.write(name+".csr", "CERTIFICATE REQUEST", csr)
			a.holds("verify OK", append([]string{"req", "-verify", "-noout", "-in", file}, sm2Options(alg)...)...)

			_, leaf := a.issued(alg, "m:"+name, csr, key.Public())
			for _, purpose := range []string{"sslclient", "smimesign"} {
				a.holds(": OK", append([]string{"verify", "-x509_strict", "-policy_check", "-purpose", purpose, "-CAfile", root}, append(sm2Options(alg), leaf)...)...)
			}
			other := a.path("sm2-root.pem")
			if alg == evidence.SM2SM3 {
				other = a.path("p256-root.pem")
			}
			if out, err := a.run(append([]string{"verify", "-CAfile", other}, append(sm2Options(alg), leaf)...)...); err == nil {
				t.Errorf("it verifies under another root:\n%s", out)
			}
			text := a.holds("CN = m:"+name, "x509", "-noout", "-text", "-in", leaf)
			for _, want := range []string{a.url + "/ca/ocsp", a.url + "/ca/" + issuerOf(alg) + ".crl", "CA:FALSE", "Digital Signature", "TLS Web Client Authentication", "Policy: 2.999.5280.1.2", "Policy: 2.999.5280.9", "OU = Demonstration"} {
				if !strings.Contains(text, want) {
					t.Errorf("openssl x509 does not show %q:\n%s", want, text)
				}
			}
			a.holds(a.url+"/ca/ocsp", "x509", "-noout", "-ocsp_uri", "-in", leaf)
		})
	}
}

func TestRequestsByOpenSSL(t *testing.T) {
	a := newAuthority(t)
	for alg, args := range map[evidence.Algorithm][]string{
		evidence.EdDSA:  {"-newkey", "ed25519"},
		evidence.ES256:  {"-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"},
		evidence.SM2SM3: {"-newkey", "sm2", "-sm3", "-sigopt", distid},
	} {
		name := signing.AlgorithmName(alg)
		key, file := a.path(name+".key"), a.path(name+".csr")
		a.holds("", append([]string{"req", "-new", "-nodes", "-keyout", key, "-out", file, "-subj", "/CN=whatever/O=Somebody Else", "-addext", "subjectAltName=DNS:court.example"}, args...)...)
		csr, err := os.ReadFile(file)
		must(t, err)
		r, err := ca.ParseRequest(csr)
		if err != nil {
			t.Errorf("a %s request by openssl: %v", name, err)
			continue
		}
		_, leaf := a.issued(alg, "m:by-openssl-"+name, csr, r.Key)
		text := a.holds("CN = m:by-openssl-"+name, "x509", "-noout", "-text", "-in", leaf)
		if strings.Contains(text, "Somebody Else") || strings.Contains(text, "court.example") {
			t.Errorf("what a request asks for is in the certificate:\n%s", text)
		}
	}
}

// status asks the running responder with openssl. With SM2 the delegation is
// judged apart: openssl ocsp and openssl crl (3.0) have no way to be told the
// identity that SM2 signatures are made with.
func (a *authority) status(alg evidence.Algorithm, certificate ...string) string {
	a.t.Helper()
	return a.statusUnder(issuerOf(alg), alg, certificate...)
}

// statusUnder is status under a CA key of another generation.
func (a *authority) statusUnder(issuer string, alg evidence.Algorithm, certificate ...string) string {
	a.t.Helper()
	root, answer := a.path(issuer+"-root.pem"), a.path("answer.der")
	args := append([]string{"ocsp", "-issuer", root}, certificate...)
	args = append(args, "-url", a.url+"/ca/ocsp", "-no_nonce", "-timeout", "10", "-respout", answer)
	if alg != evidence.SM2SM3 {
		return a.holds("Response verify OK", append(args, "-CAfile", root)...)
	}
	text := a.holds("", append(args, "-noverify")...)
	der, err := os.ReadFile(answer)
	must(a.t, err)
	r, err := ocsp.ParseResponse(der, nil)
	must(a.t, err)
	responder := a.write("responder.pem", "CERTIFICATE", r.Certificate.Raw)
	a.holds(": OK", append([]string{"verify", "-x509_strict", "-purpose", "ocsphelper", "-CAfile", root}, append(sm2Options(alg), responder)...)...)
	return text + a.holds("Response verify OK", append([]string{"ocsp", "-issuer", root}, append(certificate, "-respin", answer, "-VAfile", responder, "-no_nonce")...)...)
}

// listed has openssl judge a revocation list.
func (a *authority) listed(alg evidence.Algorithm, file, leaf string) (text string, revoked bool) {
	a.t.Helper()
	return a.listedUnder(issuerOf(alg), alg, file, leaf)
}

func (a *authority) listedUnder(issuer string, alg evidence.Algorithm, file, leaf string) (text string, revoked bool) {
	a.t.Helper()
	root := a.path(issuer + "-root.pem")
	text = a.holds("X509v3 CRL Number", "crl", "-in", file, "-noout", "-text")
	if alg != evidence.SM2SM3 {
		a.holds("verify OK", "crl", "-in", file, "-CAfile", root, "-noout", "-verify")
		out, err := a.run("verify", "-crl_check", "-CAfile", root, "-CRLfile", file, leaf)
		if err != nil && !strings.Contains(out, "certificate revoked") {
			a.t.Errorf("openssl verify -crl_check: %v\n%s", err, out)
		}
		return text, err != nil
	}
	data, err := os.ReadFile(file)
	must(a.t, err)
	block, _ := pem.Decode(data)
	list, err := smx509.ParseRevocationList(block.Bytes)
	must(a.t, err)
	must(a.t, os.WriteFile(a.path("tbs"), list.RawTBSRevocationList, 0o600))
	must(a.t, os.WriteFile(a.path("sig"), list.Signature, 0o600))
	must(a.t, os.WriteFile(a.path("sm2.pub"), []byte(a.holds("PUBLIC KEY", "x509", "-in", root, "-noout", "-pubkey")), 0o600))
	a.holds("Verified OK", "dgst", "-sm3", "-verify", a.path("sm2.pub"), "-sigopt", distid, "-signature", a.path("sig"), a.path("tbs"))
	return text, strings.Contains(text, "Serial Number")
}

func TestRevocationByOpenSSL(t *testing.T) {
	a := newAuthority(t)
	for _, alg := range []evidence.Algorithm{evidence.ES256, evidence.SM2SM3} {
		name := issuerOf(alg)
		t.Run(name, func(t *testing.T) {
			key, err := signing.Generate(alg, nil)
			must(t, err)
			csr, err := ca.NewRequest(key, "m:wang")
			must(t, err)
			e, leaf := a.issued(alg, "m:wang-"+name, csr, key.Public())
			list := func(n int) string {
				der, _, err := a.List(t.Context(), name)
				must(t, err)
				return a.write(fmt.Sprintf("%s-%d.crl", name, n), "X509 CRL", der)
			}
			if text, revoked := a.listed(alg, list(1), leaf); revoked {
				t.Errorf("it is on the list before it is revoked:\n%s", text)
			}
			if text := a.status(alg, "-cert", leaf); !strings.Contains(text, ": good") {
				t.Errorf("before the revocation OCSP says:\n%s", text)
			}
			v, err := a.Revoke(t.Context(), key.Public().KID(), 1)
			must(t, err)
			text, revoked := a.listed(alg, list(2), leaf)
			if !revoked || !strings.Contains(text, "Key Compromise") || !strings.Contains(text, strings.ToUpper(ca.SerialHex(e.Serial))) {
				t.Errorf("after the revocation the list says:\n%s", text)
			}
			text = a.status(alg, "-cert", leaf)
			for _, want := range []string{": revoked", "Reason: keyCompromise", "Revocation Time: " + v.At.Format("Jan _2 15:04:05 2006 GMT")} {
				if !strings.Contains(text, want) {
					t.Errorf("after the revocation OCSP does not say %q:\n%s", want, text)
				}
			}
			if text := a.status(alg, "-serial", "0x4711"); !strings.Contains(text, ": unknown") {
				t.Errorf("of a serial number that nobody issued OCSP says:\n%s", text)
			}
		})
	}
}

// A CA key is replaced: openssl takes certificates from before and after, each
// under its root and under both together, with the lists and answers of each.
func TestReplacedCAByOpenSSL(t *testing.T) {
	a := newAuthority(t)
	for _, alg := range []evidence.Algorithm{evidence.ES256, evidence.SM2SM3} {
		first := issuerOf(alg)
		t.Run(first, func(t *testing.T) {
			second := first + "-2"
			issue := func(member string) (*evidence.PublicKey, string) {
				key, err := signing.Generate(alg, nil)
				must(t, err)
				csr, err := ca.NewRequest(key, member)
				must(t, err)
				_, leaf := a.issued(alg, member, csr, key.Public())
				return key.Public(), leaf
			}
			oldKey, before := issue("m:before-" + first)
			a.addIssuer(alg, 2)
			a.open()
			newKey, after := issue("m:after-" + first)

			both := a.path(first + "-roots.pem")
			must(t, os.WriteFile(both, []byte(readFile(t, a.path(first+"-root.pem"))+readFile(t, a.path(second+"-root.pem"))), 0o600))
			verify := func(root, leaf string) (string, error) {
				return a.run(append([]string{"verify", "-x509_strict", "-purpose", "smimesign", "-CAfile", root}, append(sm2Options(alg), leaf)...)...)
			}
			for _, tc := range []struct {
				issuer, other, leaf string
				key                 *evidence.PublicKey
			}{{first, second, before, oldKey}, {second, first, after, newKey}} {
				for _, root := range []string{a.path(tc.issuer + "-root.pem"), both} {
					if out, err := verify(root, tc.leaf); err != nil {
						t.Errorf("%s: %v\n%s", tc.issuer, err, out)
					}
				}
				if out, err := verify(a.path(tc.other+"-root.pem"), tc.leaf); err == nil {
					t.Errorf("a certificate of %s verifies under %s:\n%s", tc.issuer, tc.other, out)
				}
				text := a.holds("CRL Distribution", "x509", "-noout", "-text", "-in", tc.leaf)
				if !strings.Contains(text, a.url+"/ca/"+tc.issuer+".crl") {
					t.Errorf("it names another list than %s.crl:\n%s", tc.issuer, text)
				}
				list := func(n int) string {
					answer, err := http.Get(a.url + "/ca/" + tc.issuer + ".crl")
					must(t, err)
					defer answer.Body.Close()
					der, err := io.ReadAll(answer.Body)
					must(t, err)
					return a.write(fmt.Sprintf("%s-%d.crl", tc.issuer, n), "X509 CRL", der)
				}
				if text, revoked := a.listedUnder(tc.issuer, alg, list(1), tc.leaf); revoked {
					t.Errorf("it is on the list before it is revoked:\n%s", text)
				}
				if text := a.statusUnder(tc.issuer, alg, "-cert", tc.leaf); !strings.Contains(text, ": good") {
					t.Errorf("OCSP of %s says:\n%s", tc.issuer, text)
				}
				_, err := a.Revoke(t.Context(), tc.key.KID(), 4)
				must(t, err)
				if text, revoked := a.listedUnder(tc.issuer, alg, list(2), tc.leaf); !revoked {
					t.Errorf("after its revocation the list says:\n%s", text)
				}
				if text := a.statusUnder(tc.issuer, alg, "-cert", tc.leaf); !strings.Contains(text, "Reason: superseded") {
					t.Errorf("after its revocation OCSP of %s says:\n%s", tc.issuer, text)
				}
			}
		})
	}
}
