package court_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/client"
	"github.com/zhenglian/zhenglian/client/clienttest"
	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/chain"
	"github.com/zhenglian/zhenglian/internal/court"
	"github.com/zhenglian/zhenglian/internal/signing"
	"github.com/zhenglian/zhenglian/internal/testalliance"
	"github.com/zhenglian/zhenglian/verify"
	"github.com/zhenglian/zhenglian/verify/render"
)

type bench struct {
	net    *clienttest.Net
	alice  *testalliance.Member
	trail  evidence.Digest
	config court.Config
}

// newBench runs an alliance with a trail of three steps.
func newBench(t testing.TB) *bench {
	t.Helper()
	net := clienttest.New(t, "a", 4)
	signer, err := testalliance.Signer("alice")
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{net: net, alice: net.EnrolKey(t, "m:alice", signer)}
	if b.trail, err = net.Open(b.alice, testalliance.Step{Name: "打开", Objects: map[string][]byte{"a.html": []byte("<p>原文</p>")}}); err != nil {
		t.Fatal(err)
	}
	b.deposit(t, "下载")
	b.deposit(t, "封存")
	c, err := client.New(client.Config{Policy: net.Policy, URLs: map[string]string{"court": net.Nodes["court"].URL},
		Signer: net.Get("court").Statement, Patience: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	b.config = court.Config{Client: c, Policy: net.Policy, Institution: "court", Patience: 300 * time.Millisecond,
		Now: func() time.Time { return time.Unix(testalliance.Start, 0) }}
	return b
}

func (b *bench) deposit(t testing.TB, name string) {
	t.Helper()
	defer b.net.Lock()()
	if _, err := b.net.Deposit(b.alice, b.trail, testalliance.Step{Name: name}); err != nil {
		t.Fatal(err)
	}
}

func (b *bench) pack(t testing.TB, alter func(*testalliance.Content)) []byte {
	t.Helper()
	defer b.net.Lock()()
	c, err := b.net.Content(b.trail)
	if err != nil {
		t.Fatal(err)
	}
	if alter != nil {
		alter(c)
	}
	data, err := c.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func (b *bench) check(t testing.TB, pkg []byte) *court.Document {
	t.Helper()
	d, err := court.Check(t.Context(), b.config, bytes.NewReader(pkg), int64(len(pkg)))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func differs(d *court.Document, id string) bool {
	return slices.ContainsFunc(d.Differs, func(i int) bool { return d.Report.Checks[i].ID == id })
}

func TestEvidenceChain(t *testing.T) {
	b := newBench(t)
	d := b.check(t, b.pack(t, nil))
	if d.Kind != court.EvidenceChain || d.Verdict != verify.Matches || len(d.Links) != 3 || len(d.Differs)+len(d.Open) != 0 {
		for _, i := range append(d.Differs, d.Open...) {
			t.Logf("%+v", d.Report.Checks[i])
		}
		t.Fatalf("%s, %s, %d links", d.Kind, d.Verdict, len(d.Links))
	}
	if d.Court.Size != 4 || d.Court.Root != b.net.RootAt(4) || d.Report.Court == nil {
		t.Fatalf("court %+v", d.Court)
	}
	// Every check stands in exactly one place.
	seen := map[int]int{}
	for _, i := range d.Whole {
		seen[i]++
	}
	for _, l := range d.Links {
		for _, a := range []court.Aspect{l.Generated, l.Stored, l.Witnessed} {
			if len(a.Checks) == 0 || a.Verdict != verify.Matches {
				t.Errorf("step %d: %+v", l.N, a)
			}
			for _, i := range a.Checks {
				seen[i]++
			}
		}
	}
	for i := range d.Report.Checks {
		if seen[i] != 1 {
			t.Errorf("check %d (%s) stands in %d places", i, d.Report.Checks[i].ID, seen[i])
		}
	}
	data, err := d.Encode()
	if err != nil {
		t.Fatal(err)
	}
	again, err := court.ParseDocument(data)
	if err != nil {
		t.Fatal(err)
	}
	if twice, err := again.Encode(); err != nil || !bytes.Equal(twice, data) {
		t.Fatalf("read and written again, the document differs: %v", err)
	}
	for _, lang := range render.Languages() {
		r, err := render.New(lang)
		if err != nil {
			t.Fatal(err)
		}
		var page bytes.Buffer
		if err := r.HTML(&page, again.Report); err != nil || page.Len() < 1000 {
			t.Fatalf("%s: %d bytes, %v", lang, page.Len(), err)
		}
	}
}

// Receipts of a forged quorum, with the keys of the real institutions: the
// statement never was in the court's log.
func TestNotInTheLog(t *testing.T) {
	b := newBench(t)
	twin, err := testalliance.New("a", 4) // every key of the alliance, colluding
	if err != nil {
		t.Fatal(err)
	}
	alice, err := twin.EnrolKey("m:alice", b.alice.Signer, evidence.KindPerson, 2, true, "ca")
	if err != nil {
		t.Fatal(err)
	}
	trail, err := twin.Open(alice, testalliance.Step{Name: "伪造"})
	if err != nil {
		t.Fatal(err)
	}
	c, err := twin.Content(trail)
	if err != nil {
		t.Fatal(err)
	}
	pkg, err := c.Encode()
	if err != nil {
		t.Fatal(err)
	}
	// Offline, all its receipts hold.
	rep, err := verify.Check(t.Context(), bytes.NewReader(pkg), int64(len(pkg)), verify.Options{Policy: b.net.Policy})
	if err != nil || rep.Verdict != verify.Matches {
		t.Fatalf("the forgery is not good enough to test anything: %v %v", rep.Summary, err)
	}
	d := b.check(t, pkg)
	if d.Kind != court.Invalid || !differs(d, "own-log") || !differs(d, "own-root") {
		t.Fatalf("%s: %v", d.Kind, d.Differs)
	}
	if d.Links[0].Witnessed.Verdict != verify.DoesNotMatch {
		t.Fatalf("%+v", d.Links[0])
	}
}

// Steps of the trail that were not handed in are listed, also when the heads in
// the package are old enough not to know them.
func TestWithheldSteps(t *testing.T) {
	b := newBench(t)
	old := b.pack(t, nil)
	b.deposit(t, "不利的一步")
	d := b.check(t, old)
	if d.Kind != court.Incomplete || len(d.Report.Withheld) != 1 || d.Report.Withheld[0].What != "statement" {
		t.Fatalf("%s, withheld %+v", d.Kind, d.Report.Withheld)
	}
	if *d.Report.Withheld[0].Position != 4 || d.Report.Withheld[0].Number != 4 {
		t.Fatalf("withheld %+v", d.Report.Withheld[0])
	}
	middle := b.pack(t, func(c *testalliance.Content) { c.Steps = slices.Delete(c.Steps, 1, 2) })
	d = b.check(t, middle)
	if d.Kind != court.Invalid || len(d.Report.Withheld) != 1 || *d.Report.Withheld[0].Position != 2 {
		t.Fatalf("%s, withheld %+v", d.Kind, d.Report.Withheld)
	}
}

func TestAltered(t *testing.T) {
	b := newBench(t)
	pkg := b.pack(t, nil)
	at := bytes.Index(pkg, []byte("<p>"))
	pkg[at+1] ^= 1
	d := b.check(t, pkg)
	if d.Kind != court.Invalid || len(d.Differs) == 0 {
		t.Fatalf("%s", d.Kind)
	}
	if _, err := d.Encode(); err != nil {
		t.Fatal(err)
	}
	d = b.check(t, pkg[:len(pkg)-40])
	if d.Kind != court.Invalid || len(d.Links) != 0 {
		t.Fatalf("truncated: %s", d.Kind)
	}
	_, err := court.Check(t.Context(), b.config, strings.NewReader("no package"), 10)
	var broken *evidence.PackageError
	if !errors.As(err, &broken) || !broken.Unreadable {
		t.Fatalf("got %v", err)
	}
}

// The court's node is a moment behind: the check waits for it. When it stays
// behind, nothing is said to be forged.
func TestNodeBehind(t *testing.T) {
	b := newBench(t)
	pkg := b.pack(t, nil)
	node := b.net.Nodes["court"]
	node.Twist(clienttest.Twist{Lag: 2})
	done := make(chan *court.Document)
	patient := b.config
	patient.Patience = 5 * time.Second
	go func() {
		d, err := court.Check(t.Context(), patient, bytes.NewReader(pkg), int64(len(pkg)))
		if err != nil {
			t.Error(err)
		}
		done <- d
	}()
	node.Twist(clienttest.Twist{Lag: 0})
	if d := <-done; d == nil || d.Kind != court.EvidenceChain {
		t.Fatalf("got %+v", d)
	}
}

// A node whose tiles are not those of its checkpoint is an error, not a finding.
func TestNodeBroken(t *testing.T) {
	b := newBench(t)
	pkg := b.pack(t, nil)
	b.net.Nodes["court"].Twist(clienttest.Twist{Cosigned: func(cp evidence.CosignedCheckpoint) evidence.CosignedCheckpoint {
		cp.Root[0] ^= 1
		return cp
	}})
	if _, err := court.Check(t.Context(), b.config, bytes.NewReader(pkg), int64(len(pkg))); err == nil {
		t.Fatal("a checkpoint that nobody cosigned was used")
	}
	b.net.Nodes["court"].Twist(clienttest.Twist{Submit: func([][]byte) ([]chain.Outcome, error) { return nil, nil }, Down: true})
	var down *client.UnavailableError
	if _, err := court.Check(t.Context(), b.config, bytes.NewReader(pkg), int64(len(pkg))); !errors.As(err, &down) {
		t.Fatalf("got %v", err)
	}
}

func TestSignature(t *testing.T) {
	b := newBench(t)
	data, err := b.check(t, b.pack(t, nil)).Encode()
	if err != nil {
		t.Fatal(err)
	}
	for _, alg := range []evidence.Algorithm{evidence.EdDSA, evidence.ES256} {
		key, err := signing.Generate(alg, nil)
		if err != nil {
			t.Fatal(err)
		}
		sig, err := court.Sign(data, key)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := court.VerifyDocument(data, sig, key.Public()); err != nil {
			t.Fatalf("%s: %v", alg, err)
		}
		refuse := func(name string, doc, sig []byte, k *evidence.PublicKey) {
			t.Helper()
			if _, err := court.VerifyDocument(doc, sig, k); err == nil {
				t.Errorf("%s: %s was accepted", alg, name)
			}
		}
		other, err := signing.Generate(alg, nil)
		if err != nil {
			t.Fatal(err)
		}
		refuse("another court's key", data, sig, other.Public())
		refuse("an altered document", bytes.Replace(data, []byte("matches"), []byte("matchez"), 1), sig, key.Public())
		refuse("a second signature", data, []byte(`{"signatures":[`+string(sig)+`]}`), key.Public())
		refuse("an attached payload", data, bytes.Replace(sig, []byte(`{`), []byte(`{"payload":"e30",`), 1), key.Public())
		refuse("an unprotected header", data, bytes.Replace(sig, []byte(`{`), []byte(`{"header":{"alg":"none"},`), 1), key.Public())
		refuse("nothing", data, nil, key.Public())
		none := []byte(`{"protected":"` + base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + `","signature":""}`)
		refuse("no signature", data, none, key.Public())
		refuse("an unknown critical extension", data, resign(t, key, data, `"crit":["x"],"x":1,`), key.Public())
		refuse("another content type", data, resign(t, key, data, ``), key.Public())
		withOpenSSL(t, alg, data, sig, key.Public())
	}
}

// resign signs by hand, with more in the header.
func resign(t *testing.T, key *signing.Key, doc []byte, more string) []byte {
	t.Helper()
	alg := map[evidence.Algorithm]string{evidence.EdDSA: "EdDSA", evidence.ES256: "ES256"}[key.Public().Algorithm()]
	cty := `"cty":"` + court.TypeDocument + `",`
	if more == "" {
		cty = ""
	}
	protected := base64.RawURLEncoding.EncodeToString([]byte(`{` + more + cty + `"alg":"` + alg + `","kid":"` + key.Public().KID().String() + `"}`))
	sig, err := key.Sign([]byte(protected + "." + base64.RawURLEncoding.EncodeToString(doc)))
	if err != nil {
		t.Fatal(err)
	}
	out, err := json.Marshal(map[string]string{"protected": protected, "signature": base64.RawURLEncoding.EncodeToString(sig)})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// withOpenSSL verifies the signature with another program.
func withOpenSSL(t *testing.T, alg evidence.Algorithm, doc, jws []byte, key *evidence.PublicKey) {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("no openssl")
	}
	var flat struct{ Protected, Signature string }
	if err := json.Unmarshal(jws, &flat); err != nil {
		t.Fatal(err)
	}
	raw, err := base64.RawURLEncoding.DecodeString(flat.Signature)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	input := []byte(flat.Protected + "." + base64.RawURLEncoding.EncodeToString(doc))
	args := []string{"pkeyutl", "-verify", "-pubin", "-inkey", write("key.pem", key.PEM())}
	if alg == evidence.ES256 {
		sum := sha256.Sum256(input)
		args = append(args, "-in", write("input", sum[:]), "-sigfile", write("sig", derSignature(raw)))
	} else {
		args = append(args, "-rawin", "-in", write("input", input), "-sigfile", write("sig", raw))
	}
	out, err := exec.Command("openssl", args...).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "Signature Verified Successfully") {
		t.Fatalf("openssl: %v\n%s", err, out)
	}
}

// derSignature is SEQUENCE { r, s } of r‖s.
func derSignature(raw []byte) []byte {
	integer := func(b []byte) []byte {
		b = bytes.TrimLeft(b, "\x00")
		if len(b) == 0 || b[0]&0x80 != 0 {
			b = append([]byte{0}, b...)
		}
		return append([]byte{2, byte(len(b))}, b...)
	}
	body := append(integer(raw[:32]), integer(raw[32:])...)
	return append([]byte{0x30, byte(len(body))}, body...)
}
