package api

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/veraison/go-cose"
	"github.com/zhenglian/zhenglian/evidence"
)

func TestSCRAPIRegisterAndResolve(t *testing.T) {
	w := newWorld(t)
	st := w.deposit(w.alice, "m:alice", "m")
	a := w.do("POST", "/entries", st.Bytes(), "Content-Type", typeCOSE, "Accept", typeCOSE, "Accept", typeCBOR)
	if a.status != 201 || a.header.Get("Content-Type") != typeCOSE || a.header.Get("Location") != w.url+"/entries/"+st.Digest().String() {
		t.Fatalf("%d %v %q", a.status, a.header, a.body)
	}
	// The receipt verifies under the key that the well-known resource gives, and
	// is this institution's own.
	receipt, err := evidence.ParseReceipt(a.body)
	if err != nil || receipt.Issuer != "court" {
		t.Fatalf("%+v %v", receipt, err)
	}
	key := w.fetchKey(receipt.KID)
	if err := receipt.VerifyInclusion(key, st.Digest()); err != nil {
		t.Fatal(err)
	}
	if err := receipt.VerifyInclusion(key, evidence.Digest{1}); err == nil {
		t.Fatal("the receipt fits another entry")
	}
	// Idempotent.
	if b := w.do("POST", "/entries", st.Bytes(), "Content-Type", typeStatement, "Accept", typeReceipt); b.status != 201 || b.header.Get("Content-Type") != typeReceipt {
		t.Fatalf("%d %q", b.status, b.body)
	}
	// Resolve, also with the registered media type.
	for accept, want := range map[string]string{"": typeCOSE, "*/*": typeCOSE, typeCOSE: typeCOSE, typeReceipt: typeReceipt} {
		b := w.get("/entries/"+st.Digest().String(), "Accept", accept)
		if b.status != 200 || b.header.Get("Content-Type") != want {
			t.Fatalf("Accept %q: %d %v", accept, b.status, b.header)
		}
		if _, err := evidence.ParseReceipt(b.body); err != nil {
			t.Fatal(err)
		}
	}
	// A third party's COSE library reads the receipt and checks its signature.
	var message cose.Sign1Message
	if err := message.UnmarshalCBOR(a.body); err != nil {
		t.Fatal(err)
	}
	root, err := receipt.Root(st.Digest())
	if err != nil {
		t.Fatal(err)
	}
	message.Payload = root[:]
	pub, err := (&cose.Key{Type: cose.KeyTypeEC2, Algorithm: cose.AlgorithmES256, Params: map[any]any{cose.KeyLabelEC2Curve: cose.CurveP256, cose.KeyLabelEC2X: key.Raw()[1:33], cose.KeyLabelEC2Y: key.Raw()[33:]}}).PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := cose.NewVerifier(cose.AlgorithmES256, pub)
	if err != nil {
		t.Fatal(err)
	}
	if err := message.Verify(nil, verifier); err != nil {
		t.Fatal(err)
	}
}

// fetchKey gets a receipt key by kid and in the set, and compares both.
func (w *world) fetchKey(kid evidence.Digest) *evidence.PublicKey {
	w.t.Helper()
	a := w.get("/.well-known/scitt-keys", "Accept", typeCBOR)
	var set []map[int]any
	if err := cbor.Unmarshal(a.body, &set); a.status != 200 || err != nil || len(set) != 1 {
		w.t.Fatalf("%d %x %v", a.status, a.body, err)
	}
	one := w.get("/.well-known/scitt-keys/"+base64.RawURLEncoding.EncodeToString(kid[:]), "Accept", typeCBOR)
	if one.status != 200 || one.header.Get("Content-Type") != typeCBOR || !bytes.Contains(a.body, one.body) {
		w.t.Fatalf("%d %x", one.status, one.body)
	}
	// {1: 2, 2: kid, 3: -7, -1: 1, -2: x, -3: y}
	der := append([]byte{0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 4}, set[0][-2].([]byte)...)
	key, err := evidence.ParsePublicKey(append(der, set[0][-3].([]byte)...))
	if err != nil || key.KID() != kid || !bytes.Equal(set[0][2].([]byte), kid[:]) {
		w.t.Fatalf("%v %v", key, err)
	}
	return key
}

// concise reads an RFC 9290 answer.
func concise(t *testing.T, a answerOf) (title, detail, code string) {
	t.Helper()
	var m map[any]any
	if err := cbor.Unmarshal(a.body, &m); err != nil || a.header.Get("Content-Type") != typeProblemCBOR {
		t.Fatalf("%d %v %x", a.status, a.header, a.body)
	}
	own, _ := m["urn:zhenglian:problem"].(map[any]any)
	title, _ = m[int64(-1)].(string)
	detail, _ = m[int64(-2)].(string)
	code, _ = own[uint64(0)].(string)
	return title, detail, code
}

func TestSCRAPIErrors(t *testing.T) {
	w := newWorld(t)
	unknown := evidence.Digest{7}
	es := w.deposit(w.ghost, "m:ghost", "m")
	for _, c := range []struct {
		name, method, path, kind, accept string
		body                             []byte
		status                           int
		title, detail, code              string
	}{
		{"malformed", "POST", "/entries", typeCOSE, "", []byte("x"), 400, "Malformed request", "The request could not be parsed", "malformed"},
		{"oversize", "POST", "/entries", typeCOSE, "", make([]byte, 5000), 413, "Malformed request", "The request could not be parsed", "oversize"},
		{"unknown key", "POST", "/entries", typeCOSE, "", es.Bytes(), 400, "Rejected", "Signed Statement not accepted by the current Registration Policy", "unknown-key"},
		{"algorithm", "POST", "/entries", typeCOSE, "", []byte{0xd2, 0x84, 0x44, 0xa1, 0x01, 0x38, 0x22, 0xa0, 0x41, 0, 0x58, 64, 63: 0, 75: 0}, 400, "Bad Signature Algorithm", "Signed Statement contained a non supported algorithm", "wrong-algorithm"},
		{"media type", "POST", "/entries", "text/plain", "", es.Bytes(), 415, "The body's media type is not one this address takes.", "want application/cose or application/scitt-statement+cose", "unsupported-media"},
		{"not acceptable", "POST", "/entries", typeCOSE, "text/html", es.Bytes(), 406, "None of the media types asked for can be given.", "there is application/cose, application/scitt-receipt+cose", "not-acceptable"},
		{"locator", "GET", "/entries/xyz", "", "", nil, 400, "Invalid locator", "Operation locator is not in a valid form", "invalid-locator"},
		{"unknown entry", "GET", "/entries/" + unknown.String(), "", "", nil, 404, "Not Found", "Receipt with entry ID " + unknown.String() + " not known to this Transparency Service", "not-found"},
		{"unknown kid", "GET", "/.well-known/scitt-keys/AAAA", "", "", nil, 404, "No such key", "No key could be found for this kid value", "not-found"},
		{"kid not base64url", "GET", "/.well-known/scitt-keys/%2e%2e%2f", "", "", nil, 404, "No such key", "No key could be found for this kid value", "not-found"},
	} {
		t.Run(c.name, func(t *testing.T) {
			header := []string{"Content-Type", c.kind}
			if c.accept != "" {
				header = append(header, "Accept", c.accept)
			}
			a := w.do(c.method, c.path, c.body, header...)
			title, detail, code := concise(t, a)
			if a.status != c.status || (c.title != "" && (title != c.title || detail != c.detail || code != c.code)) {
				t.Fatalf("%d %q %q %q", a.status, title, detail, code)
			}
		})
	}
	// JSON when asked for, CBOR elsewhere when asked for, hint in Chinese.
	w.want(w.get("/entries/xyz", "Accept", "application/cose, application/problem+json"), 400, "invalid-locator")
	if _, _, code := concise(t, w.get("/api/v1/statements/xyz", "Accept", typeProblemCBOR)); code != "bad-request" {
		t.Fatal(code)
	}
	a := w.get("/entries/xyz", "Accept-Language", "zh-CN")
	if !bytes.Contains(a.body, []byte("请使用登记时返回的")) || !bytes.Contains(a.body, []byte{0xd8, 0x26}) { // tag 38
		t.Fatalf("%x", a.body)
	}
	// RFC 9290: keys in deterministic order, title first.
	if a.body[0]>>5 != 5 || a.body[1] != 0x20 {
		t.Fatalf("% x", a.body[:4])
	}
}

func TestSCRAPIRunning(t *testing.T) {
	w := newWorld(t)
	w.node.set(func() { w.node.stuck = true })
	st := w.deposit(w.alice, "m:alice", "m")
	a := w.do("POST", "/entries", st.Bytes(), "Content-Type", typeCOSE)
	location := strings.TrimPrefix(a.header.Get("Location"), w.url)
	if a.status != http.StatusSeeOther || a.header.Get("Retry-After") == "" || len(a.body) != 0 || location != "/entries/"+st.Digest().String() {
		t.Fatalf("%d %v", a.status, a.header)
	}
	if a = w.get(location); a.status != http.StatusFound || a.header.Get("Location") != w.url+location || a.header.Get("Retry-After") == "" {
		t.Fatalf("%d %v", a.status, a.header)
	}
	// In the log and not final: still running.
	w.node.set(func() { w.node.stuck, w.node.unfinal = false, true })
	w.do("POST", "/api/v1/statements?wait=none", st.Bytes(), "Content-Type", typeCOSE)
	if a = w.get(location); a.status != http.StatusFound {
		t.Fatalf("%d", a.status)
	}
	w.node.set(func() { w.node.unfinal = false })
	if a = w.get(location); a.status != http.StatusOK {
		t.Fatalf("%d", a.status)
	}
}

func TestEntryReceipts(t *testing.T) {
	w := newWorld(t)
	st := w.deposit(w.alice, "m:alice", "m")
	w.register(st)
	a := w.get("/entries/" + st.Digest().String() + "/receipts")
	var m ReceiptMap
	if err := json.Unmarshal(a.body, &m); a.status != 200 || err != nil || len(m) != 4 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	for inst, list := range m {
		if len(list) != 2 {
			t.Fatalf("%s has %d receipts", inst, len(list))
		}
		for i, text := range list {
			b, err := base64.StdEncoding.DecodeString(text)
			if err != nil {
				t.Fatal(err)
			}
			r, err := evidence.ParseReceipt(b)
			if err != nil {
				t.Fatal(err)
			}
			if err := r.VerifyInclusion(w.node.keys[inst][[]string{"receipt.1", "receipt.2"}[i]].Public(), st.Digest()); err != nil {
				t.Fatal(inst, err)
			}
		}
	}
	w.want(w.get("/entries/"+evidence.Digest{1}.String()+"/receipts"), 404, "not-found")
}

func TestPendingSetForgets(t *testing.T) {
	now := time.Unix(1700000000, 0)
	p := newPendingSet(func() time.Time { return now })
	p.add(evidence.Digest{1})
	now = now.Add(pendingFor + time.Second)
	if p.has(evidence.Digest{1}) {
		t.Fatal("kept too long")
	}
	for i := range maxPending + 10 {
		p.add(evidence.Digest{2, byte(i), byte(i >> 8), byte(i >> 16)})
	}
	if len(p.at) != maxPending || len(p.ring) != maxPending {
		t.Fatalf("%d %d", len(p.at), len(p.ring))
	}
}
