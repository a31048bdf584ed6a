package api

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/veraison/go-cose"
	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/chain"
	"github.com/zhenglian/zhenglian/internal/httpsig"
)

// trail registers an opening and two more statements of alice's, the last of
// which authorises bob with these rights.
func (w *world) trail(rights uint64) (opening, second *evidence.Statement) {
	w.t.Helper()
	opening = w.deposit(w.alice, "m:alice", fmt.Sprint("opening ", rights))
	w.register(opening)
	second = w.deposit(w.alice, "m:alice", fmt.Sprint("second ", rights), opening.Digest())
	w.register(second)
	a := evidence.Authorisation{KID: w.bob.Public().KID(), Rights: rights}
	auth, err := evidence.Statement{Issuer: "m:alice", Subject: evidence.TrailSubject(opening.Digest()), IssuedAt: 1700000000, ContentType: evidence.TypeAuthorisation,
		Payload: a.Encode(), Prev: second.Digest(), After: evidence.Checkpoint{Size: 1, Root: evidence.Digest{9}}}.Sign(w.alice)
	if err != nil {
		w.t.Fatal(err)
	}
	w.register(auth)
	return opening, second
}

func TestPublicLookups(t *testing.T) {
	w := newWorld(t)
	opening, _ := w.trail(evidence.RightRead)
	a := w.get("/api/v1/statements/" + opening.Digest().String())
	var reg Registered
	a.into(t, &reg)
	if a.status != 200 || reg.Position != 3 || reg.Digest != opening.Digest().String() || !reg.Final || len(reg.Witnesses) != 4 || reg.BlockTime.UnixMilli() != 1700000000123 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	// The public learns when and by whom, and nothing else.
	var raw map[string]any
	a.into(t, &raw)
	for name := range raw {
		if !slices.Contains([]string{"position", "digest", "block_time", "witnesses", "final"}, name) {
			t.Errorf("the public is told %q", name)
		}
	}
	if b := w.get("/api/v1/positions/3"); !bytes.Equal(a.body, b.body) {
		t.Fatalf("%s %s", a.body, b.body)
	}
	var receipts ReceiptMap
	w.get("/api/v1/positions/3/receipts").into(t, &receipts)
	if len(receipts) != 4 {
		t.Fatalf("%v", receipts)
	}
	w.want(w.get("/api/v1/statements/"+evidence.Digest{5}.String()), 404, "not-found")
	w.want(w.get("/api/v1/positions/999"), 404, "not-found")
	for _, path := range []string{"/api/v1/statements/" + strings.ToUpper(opening.Digest().String()), "/api/v1/positions/x", "/api/v1/positions/-1", "/api/v1/positions/9223372036854775808", "/api/v1/members/1"} {
		if p := w.want(w.get(path), 400, "bad-request"); p.Field == "" {
			t.Errorf("%s: %+v", path, p)
		}
	}
	// The registry.
	var m Member
	w.get("/api/v1/members/"+w.alice.Public().KID().String()).into(t, &m)
	if m.Holder != "m:alice" || !m.Demo || m.Assurance != 2 || m.EnrolledAt == nil || *m.EnrolledAt != 0 || m.Revoked || m.RevokedAt != nil || m.Key != string(w.alice.Public().PEM()) {
		t.Fatalf("%+v", m)
	}
	w.want(w.get("/api/v1/members/"+w.ghost.Public().KID().String()), 404, "not-found")
	// Its statements are public, so that anybody can package them.
	w.get("/api/v1/positions/0").into(t, &reg)
	a = w.get("/api/v1/statements/" + reg.Digest + "/bytes")
	if st, err := evidence.ParseStatement(a.body); a.status != 200 || err != nil || st.ContentType != evidence.TypeEnrolment || st.Digest().String() != reg.Digest {
		t.Fatalf("%d %v", a.status, err)
	}
	// Genesis and policy are the canonical bytes.
	al, err := evidence.ParseAlliance(w.get("/api/v1/alliance").body)
	if err != nil || al.ID() != w.node.alliance.ID() {
		t.Fatal(err)
	}
	if p, err := evidence.ParsePolicy(w.get("/api/v1/policy").body); err != nil || p.Alliance != al.ID() {
		t.Fatal(err)
	}
}

// Who may read what, and that the refusal is the same whether it exists or not.
func TestPrivateLookups(t *testing.T) {
	w := newWorld(t)
	opening, second := w.trail(evidence.RightRead)
	closed, _ := w.trail(evidence.RightAppend)
	enterprise := w.node.keys["notary"]["statement"]
	trail := "/api/v1/trails/" + opening.Digest().String()
	alices := "/api/v1/keys/" + w.alice.Public().KID().String() + "/positions"
	for _, c := range []struct {
		name   string
		signer evidence.Signer
		path   string
		status int
	}{
		{"owner, trail", w.alice, trail, 200},
		{"owner, head", w.alice, trail + "/head", 200},
		{"grantee, trail", w.bob, trail, 200},
		{"grantee, bytes", w.bob, "/api/v1/statements/" + second.Digest().String() + "/bytes", 200},
		{"grantee, transparent", w.bob, "/api/v1/statements/" + second.Digest().String() + "/transparent", 200},
		{"institution, trail", enterprise, trail, 200},
		{"institution, key", enterprise, alices, 200},
		{"institution, absent trail", enterprise, "/api/v1/trails/" + evidence.Digest{3}.String(), 404},
		{"owner, key", w.alice, alices, 200},
		{"stranger, trail", w.mallory, trail, 403},
		{"stranger, head", w.mallory, trail + "/head", 403},
		{"stranger, absent trail", w.mallory, "/api/v1/trails/" + evidence.Digest{3}.String(), 403},
		{"stranger, absent head", w.mallory, "/api/v1/trails/" + evidence.Digest{3}.String() + "/head", 403},
		{"stranger, a statement that opens none", w.mallory, "/api/v1/trails/" + second.Digest().String(), 403},
		{"stranger, bytes", w.mallory, "/api/v1/statements/" + second.Digest().String() + "/bytes", 403},
		{"stranger, transparent", w.mallory, "/api/v1/statements/" + second.Digest().String() + "/transparent", 403},
		{"stranger, key", w.mallory, alices, 403},
		{"stranger, absent key", w.mallory, "/api/v1/keys/" + evidence.Digest{3}.String() + "/positions", 403},
		{"appender only, trail", w.bob, "/api/v1/trails/" + closed.Digest().String(), 403},
		{"unregistered key", w.ghost, trail, 401},
	} {
		a := w.as(c.signer, c.path)
		if a.status != c.status {
			t.Errorf("%s: %d %s, want %d", c.name, a.status, a.body, c.status)
		}
		if a.status == 200 && a.header.Get("Cache-Control") != "private, no-store" {
			t.Errorf("%s: %v", c.name, a.header)
		}
	}
	// Signing is needed at all.
	for _, path := range []string{trail, trail + "/head", alices, "/api/v1/statements/" + second.Digest().String() + "/bytes"} {
		if a := w.get(path); a.status != 401 || a.header.Get("WWW-Authenticate") == "" || a.problem(t).Code != "signature-missing" {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	// A stranger cannot tell an existing trail from none.
	strip := func(a answerOf) string {
		p := a.problem(t)
		p.Request = ""
		return fmt.Sprint(p)
	}
	if a, b := w.as(w.mallory, trail), w.as(w.mallory, "/api/v1/trails/"+evidence.Digest{3}.String()); strip(a) != strip(b) {
		t.Errorf("%s and %s", a.body, b.body)
	}
	// The grantee sees of the owner's key the readable trail alone.
	var kp KeyPositions
	w.as(w.bob, alices).into(t, &kp)
	if !slices.Equal(kp.Positions, []uint64{3, 4, 5}) || kp.Next != nil {
		t.Errorf("%+v", kp)
	}
	// Pages.
	w.as(w.alice, alices+"?limit=4").into(t, &kp)
	if !slices.Equal(kp.Positions, []uint64{3, 4, 5, 6}) || kp.Next == nil || *kp.Next != 7 {
		t.Errorf("%+v", kp)
	}
	kp = KeyPositions{}
	w.as(w.alice, alices+"?limit=4&from=7").into(t, &kp)
	if !slices.Equal(kp.Positions, []uint64{7, 8}) || kp.Next != nil {
		t.Errorf("%+v", kp)
	}
	var tr Trail
	w.as(w.alice, trail+"?limit=1&from=1").into(t, &tr)
	if tr.Count != 3 || len(tr.Statements) != 1 || tr.Statements[0] != (TrailStep{4, second.Digest().String()}) || tr.Next == nil || *tr.Next != 2 {
		t.Errorf("%+v", tr)
	}
	for _, bad := range []string{"?limit=0", "?limit=1001", "?from=-1", "?limit=x"} {
		w.want(w.as(w.alice, trail+bad), 400, "bad-request")
	}
	// Another key of the same member.
	newer := newP256(t)
	w.node.enrol(t, "m:alice", newer)
	if a := w.as(newer, alices); a.status != 200 {
		t.Errorf("%d %s", a.status, a.body)
	}
	// The bytes are those registered; the transparent statement holds the receipts.
	if a := w.as(w.alice, "/api/v1/statements/"+second.Digest().String()+"/bytes"); !bytes.Equal(a.body, second.Bytes()) {
		t.Errorf("%x", a.body)
	}
	var msg cose.Sign1Message
	if err := msg.UnmarshalCBOR(w.as(w.alice, "/api/v1/statements/"+second.Digest().String()+"/transparent").body); err != nil {
		t.Fatal(err)
	}
	if list, ok := msg.Headers.Unprotected[int64(394)].([]any); !ok || len(list) != 8 {
		t.Errorf("%v", msg.Headers.Unprotected)
	}
	head, err := evidence.ParseTrailHead(w.as(w.alice, trail+"/head").body)
	if err != nil || head.Count != 3 || head.Verify(w.node.keys["court"]["attest"].Public()) != nil {
		t.Errorf("%+v %v", head, err)
	}
}

func TestSignatureAttacks(t *testing.T) {
	w := newWorld(t)
	opening, _ := w.trail(evidence.RightRead)
	path := "/api/v1/trails/" + opening.Digest().String()
	good := func() *http.Request { return w.signed(w.alice, path) }
	r := good()
	if a := w.send(r); a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	w.want(w.send(r.Clone(t.Context())), 401, "signature-replayed")

	// Stale and from the future.
	for _, off := range []time.Duration{-6 * time.Minute, 6 * time.Minute} {
		r, _ := http.NewRequest("GET", w.url+path, nil)
		if err := httpsig.Sign(r, nil, w.alice, time.Now().Add(off), nil); err != nil {
			t.Fatal(err)
		}
		w.want(w.send(r), 401, "signature-stale")
	}
	// Moved to another path, query or method.
	r = good()
	r.URL.Path += "/head"
	w.want(w.send(r), 401, "signature-invalid")
	r = good()
	r.URL.RawQuery = "limit=1"
	w.want(w.send(r), 401, "signature-invalid")
	r = good()
	r.Method = "HEAD"
	if a := w.send(r); a.status != 401 {
		t.Errorf("HEAD: %d", a.status)
	}
	// Another method of the address does not exist.
	r = good()
	r.Method = "POST"
	w.want(w.send(r), 405, "method-not-allowed")
	// A body where there was none.
	r, _ = http.NewRequest("GET", w.url+path, strings.NewReader("x"))
	_ = httpsig.Sign(r, nil, w.alice, time.Now(), nil)
	w.want(w.send(r), 400, "bad-request")
	// Signed for another institution's node and sent here, under its name or ours.
	for _, host := range []string{"notary.example", strings.TrimPrefix(w.url, "http://")} {
		r, _ = http.NewRequest("GET", "http://notary.example"+path, nil)
		if err := httpsig.Sign(r, nil, w.alice, time.Now(), nil); err != nil {
			t.Fatal(err)
		}
		r.URL.Host, r.Host = strings.TrimPrefix(w.url, "http://"), host
		if a := w.send(r); a.status != 401 {
			t.Errorf("Host %s: %d %s", host, a.status, a.body)
		}
	}
	// Another's name on one's own signature.
	r = w.signed(w.mallory, path)
	r.Header.Set("Signature-Input", strings.Replace(r.Header.Get("Signature-Input"), w.mallory.Public().KID().String(), w.alice.Public().KID().String(), 1))
	w.want(w.send(r), 401, "signature-invalid")
	// Revoked since: what she has is still hers to read, unless a thief may have the key too.
	r = good()
	w.node.revoke(w.alice, 4) // superseded
	if a := w.send(r); a.status != 200 {
		t.Fatalf("a superseded key reads its own trail: %d %s", a.status, a.body)
	}
	r = good()
	w.node.revoke(w.alice, 1) // keyCompromise
	w.want(w.send(r), 401, "revoked-key")

	if got := w.get("/metrics"); !strings.Contains(string(got.body), `zhenglian_http_denied_total{code="signature-replayed"} 1`) {
		t.Error("refused signatures are not counted")
	}
	// Nothing of a request is in the log: no digest, no key, no signature.
	log := w.log.String()
	for what, secret := range map[string]string{"digest": opening.Digest().String(), "kid": w.alice.Public().KID().String(), "signature": r.Header.Get("Signature"), "address": "127.0.0.1"} {
		if strings.Contains(log, secret) {
			t.Errorf("the log holds the %s", what)
		}
	}
}

func TestHealth(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Limits.MaxInFlight = 1 })
	if a := w.get("/healthz"); a.status != 200 || string(a.body) != "ok\n" {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if a := w.get("/readyz"); a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	w.node.set(func() { w.node.status.Peers["forensic"] = chain.Peer{} })
	if a := w.get("/readyz"); a.status != 503 || !strings.Contains(string(a.body), "no-quorum") {
		t.Fatalf("two of four present: %d %s", a.status, a.body)
	}
	w.node.set(func() { w.node.status.Peers["forensic"] = chain.Peer{Reachable: true} })
	w.node.set(func() {
		w.node.status.Faults = map[string]string{"batch store": "open /var/lib/node/batches: input/output error"}
		w.node.status.CatchingUp = true
	})
	var ready Ready
	a := w.get("/readyz")
	a.into(t, &ready)
	if a.status != 503 || ready.Ready || !slices.Equal(ready.Reasons, []reason{{"fault", "batch store"}, {"catching-up", "chain"}}) {
		t.Fatalf("%d %s", a.status, a.body)
	}
	// What names hosts and files is for institutions.
	public, own, member := w.get("/api/v1/status"), w.as(w.node.keys["ra"]["statement"], "/api/v1/status"), w.as(w.alice, "/api/v1/status")
	for _, secret := range []string{"10.1.2.3", "/var/lib"} {
		if strings.Contains(string(public.body), secret) || strings.Contains(string(member.body), secret) || strings.Contains(string(a.body), secret) || !strings.Contains(string(own.body), secret) {
			t.Errorf("%q: public %s, institution %s", secret, public.body, own.body)
		}
	}
	m := string(w.get("/metrics").body)
	for _, line := range []string{"zhenglian_log_size 3", "zhenglian_ready 0", `zhenglian_peer_reachable{institution="notary"} 1`, `zhenglian_http_requests_total{route="GET /readyz",status="503"} 2`} {
		if !strings.Contains(m, line) {
			t.Errorf("metrics lack %s", line)
		}
	}
}
