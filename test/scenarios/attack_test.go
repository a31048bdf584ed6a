package scenarios

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/httpsig"
	"github.com/zhenglian/zhenglian/internal/local"
)

// signedGet makes a request to a node, signed by key.
func (w *world) signedGet(n *local.Node, path string, key evidence.Signer) *http.Request {
	w.Helper()
	req, err := http.NewRequestWithContext(w.ctx, http.MethodGet, n.API+path, nil)
	w.must(err)
	w.must(httpsig.Sign(req, nil, key, time.Now(), nil))
	return req
}

func (w *world) wants(what string, a *answer, status int, code string) {
	w.Helper()
	if a.status != status || code != "" && a.Code != code {
		w.Errorf("%s: want %d %s, got %v", what, status, code, a)
	}
}

// An attacker with a key of her own, and one with an institution's, get nothing
// that is not theirs.
func TestAttackers(t *testing.T) {
	w := newWorld(t, worldConfig{env: []string{"ZHENGLIAN_NODE_LOG_LEVEL=debug"}})
	court, ca := w.node("court"), w.node("ca")
	alice, mallory := w.members[0].signer, w.members[1].signer
	opening := w.open(w.members[0])
	at := w.deposit(court, opening)
	digest := evidence.SumSHA256(opening).String()
	trail := "/api/v1/trails/" + digest
	positions := "/api/v1/keys/" + alice.Public().KID().String() + "/positions"
	private := []string{trail, trail + "/head", positions, "/api/v1/statements/" + digest + "/bytes", "/api/v1/statements/" + digest + "/transparent"}

	t.Run("what is private", func(t *testing.T) {
		w := w.in(t)
		for _, path := range private {
			w.wants("unsigned "+path, w.send(http.MethodGet, court.API+path, "", nil), 401, "signature-missing")
			w.wants("a stranger's "+path, w.do(w.signedGet(court, path, mallory)), 403, "forbidden")
			w.wants("an unknown key's "+path, w.do(w.signedGet(court, path, newSigner(t, evidence.EdDSA))), 401, "unknown-key")
			w.wants("the owner's "+path, w.do(w.signedGet(court, path, alice)), 200, "")
			w.wants("an institution's "+path, w.do(w.signedGet(court, path, w.caKey)), 200, "")
		}
		// A trail that is not there is answered as one that is: a stranger learns nothing.
		nothing := "/api/v1/trails/" + evidence.SumSHA256([]byte("nothing")).String()
		w.wants("a trail that is not there", w.do(w.signedGet(court, nothing, mallory)), 403, "forbidden")
		// What is public tells of no signer and no trail.
		for _, path := range []string{"/api/v1/statements/" + digest, fmt.Sprintf("/api/v1/positions/%d", at)} {
			a := w.send(http.MethodGet, court.API+path, "", nil)
			if a.status != 200 || bytes.Contains(a.body, []byte("m:alice")) || bytes.Contains(a.body, []byte(alice.Public().KID().String())) {
				t.Errorf("%s: %v", path, a)
			}
		}
	})
	t.Run("requests of others", func(t *testing.T) {
		w := w.in(t)
		req := w.signedGet(court, trail, alice)
		w.wants("the first time", w.do(req), 200, "")
		w.wants("the same again", w.do(req.Clone(w.ctx)), 401, string(httpsig.CodeReplayed))

		elsewhere := w.signedGet(court, trail, alice)
		base, err := url.Parse(ca.API)
		w.must(err)
		elsewhere.URL.Host, elsewhere.Host = base.Host, base.Host
		w.wants("signed for the court, sent to the CA", w.do(elsewhere), 401, string(httpsig.CodeInvalid))
		pretending := w.signedGet(court, trail, alice)
		pretending.Host = pretending.URL.Host
		pretending.URL.Host = base.Host
		w.wants("the same under the court's name", w.do(pretending), 401, "signature-wrong-host")

		other := w.signedGet(court, trail, alice)
		other.URL.Path = positions
		w.wants("signed for another address", w.do(other), 401, string(httpsig.CodeInvalid))
		old, err := http.NewRequestWithContext(w.ctx, http.MethodGet, court.API+trail, nil)
		w.must(err)
		w.must(httpsig.Sign(old, nil, alice, time.Now().Add(-time.Hour), nil))
		w.wants("an hour old", w.do(old), 401, string(httpsig.CodeStale))
	})
	t.Run("between institutions", func(t *testing.T) { w.in(t).peerAttacks(court) })
	w.check()
	w.noSecretsInLogs("m:alice")
}

// peerAttacks knocks at a node's interface for institutions.
func (w *world) peerAttacks(n *local.Node) {
	good := batchBytes(w.open(w.members[0]))
	bare := &tls.Config{InsecureSkipVerify: true} //nolint:gosec // the attacker does not care
	if a := w.pushAs(bare, n, http.MethodPut, "/batch", good); a.err == nil {
		w.Errorf("without a certificate: %v", a)
	}
	foreign := bare.Clone()
	foreign.Certificates = []tls.Certificate{strangerCertificate(w)}
	for _, path := range []string{"/batch", "/witness"} {
		if a := w.pushAs(foreign, n, http.MethodPut, path, good); a.err == nil {
			w.Errorf("with a foreign certificate: %v", a)
		}
	}
	if a := w.send(http.MethodPut, "http://"+n.Peer+"/batch", "", good); a.err == nil && a.status < 400 {
		w.Errorf("without TLS: %v", a)
	}

	// The CA itself lies: signatures over roots that are none, of others, of old.
	caTLS, err := w.ca.ClientTLS(n.ID)
	w.must(err)
	mine := w.pushAs(caTLS, n, http.MethodGet, "/witness?from=1", nil)
	w.wants("the court's own signatures", mine, 200, "")
	var ws []map[string]any
	w.must(json.Unmarshal(mine.body, &ws))
	if len(ws) == 0 {
		w.Fatal("the court has signed nothing")
	}
	put := func(v any) *answer {
		body, err := json.Marshal(v)
		w.must(err)
		return w.pushAs(caTLS, n, http.MethodPut, "/witness", body)
	}
	w.wants("the court's signatures as the CA's", put(ws[:1]), 422, "")
	forged := ws[0]
	forged["roots"] = []map[string]any{}
	w.wants("no signatures", put(ws[:1]), 422, "")
	forged["size"] = 1 << 40
	w.wants("a size that never was", put(ws[:1]), 422, "")
	w.wants("no JSON", w.pushAs(caTLS, n, http.MethodPut, "/witness", []byte("{")), 400, "")
	many := make([]map[string]any, 5000)
	for i := range many {
		many[i] = map[string]any{"height": 1 << 40, "size": i}
	}
	if a := put(many); a.err != nil || a.status/100 == 5 {
		w.Errorf("signatures about blocks to come: %v", a)
	}
	w.wants("a batch nobody has", w.pushAs(caTLS, n, http.MethodGet, "/batch/"+evidence.SumSHA256(nil).String(), nil), 404, "")

	// A batch of garbage from an institution is held and changes nothing.
	before, err := n.Status(w.ctx)
	w.must(err)
	garbage := make([][]byte, 500)
	for i := range garbage {
		garbage[i] = fmt.Appendf(nil, "garbage %d", i)
	}
	w.wants("garbage", w.pushAs(caTLS, n, http.MethodPut, "/batch", batchBytes(garbage...)), 204, "")
	w.deposit(n, w.open(w.members[0]))
	w.eventually("the garbage to be judged", func() error {
		s, err := n.Status(w.ctx)
		if err == nil && s.Size != before.Size+1 {
			err = fmt.Errorf("the log went from %d to %d", before.Size, s.Size)
		}
		return err
	})
}

func strangerCertificate(w *world) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	w.must(err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"ca"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	w.must(err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// noSecretsInLogs reads every node's log, written at its most talkative.
func (w *world) noSecretsInLogs(member string) {
	w.Helper()
	secrets := []string{"PRIVATE KEY", member, "what only the depositor knows"}
	for _, n := range w.a.Nodes {
		files, err := filepath.Glob(filepath.Join(n.Home, "keys", "*.pem"))
		w.must(err)
		if n.ID != "ca" { // the keys of one institution are this process's to read
			files = nil
		}
		for _, f := range files {
			text, err := os.ReadFile(f)
			w.must(err)
			for l := range strings.Lines(string(text)) {
				if l = strings.TrimSpace(l); len(l) > 32 && !strings.HasPrefix(l, "-----") {
					secrets = append(secrets, l)
				}
			}
		}
	}
	for _, n := range w.a.Nodes {
		log, err := os.ReadFile(n.LogFile)
		w.must(err)
		for _, s := range secrets {
			if i := bytes.Index(log, []byte(s)); i >= 0 {
				w.Errorf("the log of %s holds %q: %.200s", n.ID, s, log[i:])
			}
		}
	}
}
