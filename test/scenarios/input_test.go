package scenarios

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/institution"
	"github.com/zhenglian/zhenglian/internal/local"
)

// enrolAs makes the test binary sign an enrolment with the statement key of the
// home it names and print it: one process holds the keys of one institution.
const enrolAs = "ZHENGLIAN_SCENARIOS_ENROL_AS"

func printEnrolment(home string) error {
	h, err := institution.Open(home, evidence.UseStatement)
	if err != nil {
		return err
	}
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	s, err := evidence.NewSigner(k)
	if err != nil {
		return err
	}
	e := evidence.Enrolment{Member: "m:intruder", Key: s.Public(), Kind: evidence.KindPerson, Demo: true}
	st, err := evidence.Statement{Issuer: h.ID(), Subject: evidence.SubjectRegistry, IssuedAt: time.Now().Unix(),
		ContentType: evidence.TypeEnrolment, Payload: e.Encode()}.Sign(h.Key(evidence.UseStatement))
	if err != nil {
		return err
	}
	_, err = fmt.Print(hex.EncodeToString(st.Bytes()))
	return err
}

// randomES256 signs with a fresh nonce each time, as most tokens do.
type randomES256 struct {
	key *ecdsa.PrivateKey
	pub *evidence.PublicKey
}

func (r *randomES256) Public() *evidence.PublicKey { return r.pub }

func (r *randomES256) Sign(message []byte) ([]byte, error) {
	digest := evidence.SumSHA256(message)
	a, b, err := ecdsa.Sign(rand.Reader, r.key, digest[:])
	if err != nil {
		return nil, err
	}
	n := elliptic.P256().Params().N
	if b.Cmp(new(big.Int).Rsh(n, 1)) > 0 {
		b.Sub(n, b)
	}
	return append(a.FillBytes(make([]byte, 32)), b.FillBytes(make([]byte, 32))...), nil
}

func newRandomES256(t *testing.T) *randomES256 {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := evidence.NewSigner(k)
	if err != nil {
		t.Fatal(err)
	}
	return &randomES256{k, s.Public()}
}

// resigned is a statement with a part of its signed bytes replaced and a good
// signature over the result.
func (w *world) resigned(key evidence.Signer, raw, old, with []byte) []byte {
	w.Helper()
	st, err := evidence.ParseStatement(raw)
	w.must(err)
	if len(old) != len(with) || !bytes.Contains(raw, old) {
		w.Fatalf("%x cannot be replaced by %x", old, with)
	}
	signature, err := key.Sign(bytes.Replace(st.ToBeSigned(), old, with, 1))
	w.must(err)
	out := bytes.Replace(raw, old, with, 1)
	return append(out[:len(out)-evidence.SignatureSize], signature...)
}

// bad is a statement that must be refused.
type bad struct {
	name   string
	raw    []byte
	status int
	code   evidence.Code
	field  string
}

func (w *world) badStatements() []bad {
	alice := w.members[0]
	stranger := &member{"m:stranger", newSigner(w, evidence.EdDSA)}
	cp := w.checkpoint()
	good := func() []byte { return w.open(alice) }
	altered := func(change func(*evidence.Statement)) []byte {
		st, err := evidence.ParseStatement(good())
		w.must(err)
		change(st)
		return w.sign(alice.signer, *st)
	}
	flipped := good()
	flipped[len(flipped)-1] ^= 1
	truncated := good()
	var long []byte
	for _, v := range w.vectors() {
		if v.Name == "payload length not shortest" {
			long = v.raw
		}
	}
	return []bad{
		{"nothing", nil, 400, evidence.CodeEmpty, ""},
		{"no statement", []byte("hello"), 400, evidence.CodeMalformed, ""},
		{"cut off", truncated[:len(truncated)-10], 400, evidence.CodeMalformed, ""},
		{"with a byte after it", append(good(), 0), 400, evidence.CodeMalformed, ""},
		{"not in shortest form", long, 400, evidence.CodeNotDeterministic, ""},
		{"too large", make([]byte, evidence.MaxStatement+1), 413, evidence.CodeOversize, ""},
		{"by an unknown key", w.open(stranger), 422, evidence.CodeUnknownKey, "protected.kid"},
		{"with a bad signature", flipped, 422, evidence.CodeBadSignature, "signature"},
		{"of another algorithm", w.resigned(alice.signer, good(), []byte{0x01, 0x27}, []byte{0x01, 0x26}), 422, evidence.CodeWrongAlgorithm, "protected.alg"},
		{"in another's name", altered(func(s *evidence.Statement) { s.Issuer = "m:bob" }), 422, evidence.CodeWrongIssuer, ""},
		{"from the future", altered(func(s *evidence.Statement) { s.IssuedAt = time.Now().Unix() + 3600 }), 422, evidence.CodeClockAhead, ""},
		{"after a checkpoint that never was", altered(func(s *evidence.Statement) {
			s.After = evidence.Checkpoint{Size: cp.Size, Root: evidence.SumSHA256(nil)}
		}), 422, evidence.CodeUnknownCheckpoint, "protected.after"},
		{"after a checkpoint to come", altered(func(s *evidence.Statement) { s.After = evidence.Checkpoint{Size: 1 << 40, Root: cp.Root} }), 422, evidence.CodeUnknownCheckpoint, "protected.after"},
	}
}

type vector struct {
	Name  string `json:"name"`
	Bytes string `json:"bytes"`
	Code  string `json:"code"`
	raw   []byte
}

// vectors are the invalid statements of the specification.
func (w *world) vectors() []vector {
	w.Helper()
	data, err := os.ReadFile("../../spec/vectors/statement/invalid.json")
	w.must(err)
	var vs []vector
	w.must(json.Unmarshal(data, &vs))
	for i := range vs {
		vs[i].raw, err = hex.DecodeString(vs[i].Bytes)
		w.must(err)
	}
	return vs
}

// What may not be registered is refused with its reason, and harms nobody else.
func TestInput(t *testing.T) {
	w := newWorld(t, worldConfig{})
	ca, court := w.node("ca"), w.node("court")

	t.Run("alone", func(t *testing.T) {
		w := w.in(t)
		for _, b := range w.badStatements() {
			t.Run(b.name, func(t *testing.T) { w.in(t).refused(court, b.raw, b.status, b.code, b.field) })
		}
	})
	t.Run("vectors", func(t *testing.T) {
		w := w.in(t)
		for _, v := range w.vectors() {
			if a := w.try(court, v.raw); a.status/100 != 4 || a.Code != v.Code {
				t.Errorf("%s: want %s, got %v", v.Name, v.Code, a)
			}
		}
	})
	t.Run("among a thousand", func(t *testing.T) { w.in(t).badAmongThousand(court) })
	t.Run("a stream that is cut", func(t *testing.T) {
		w := w.in(t)
		good, cut := w.open(w.members[0]), w.open(w.members[0])
		lines, err := w.batch(w.ctx, court, "final", [][]byte{good, cut[:50]})
		if len(lines) == 0 || !lines[0].Final || lines[len(lines)-1].Code == "" && err == nil {
			t.Errorf("%v %+v", err, lines)
		}
	})
	t.Run("algorithms", func(t *testing.T) { w.in(t).algorithms() })
	t.Run("manifest", func(t *testing.T) { w.in(t).manifests(ca) })
	t.Run("registry", func(t *testing.T) { w.in(t).registry(ca) })
	t.Run("revocation", func(t *testing.T) { w.in(t).revocation() })
	w.check()
}

// badAmongThousand sends every bad statement in a batch of a thousand good ones.
func (w *world) badAmongThousand(n *local.Node) {
	after := w.checkpoint()
	var statements [][]byte
	for range 1000 {
		st, err := w.members[0].opening(after)
		w.must(err)
		statements = append(statements, st.Bytes())
	}
	want := map[int]bad{}
	for i, b := range w.badStatements() {
		// What is no CBOR item at all ends the stream, so it is sent alone.
		if b.code == evidence.CodeBadSignature || b.status == 422 || b.code == evidence.CodeNotDeterministic {
			at := 17 + 61*i
			statements[at] = b.raw
			want[at] = b
		}
	}
	lines, err := w.batch(w.ctx, n, "final", statements)
	w.must(err)
	if len(lines) != 1001 {
		w.Fatalf("%d lines", len(lines))
	}
	for i, l := range lines[:1000] {
		b, isBad := want[i]
		switch {
		case isBad && (l.Status != b.status || l.Code != b.code.String()):
			w.Errorf("line %d, %s: %+v", i, b.name, l)
		case !isBad && (l.Status != http.StatusCreated || !l.Final):
			w.Errorf("line %d, good: %+v", i, l)
		}
	}
	if len(want) < 8 {
		w.Errorf("only %d bad ones were tried", len(want))
	}
}

// algorithms: a statement has one place, at every institution, and also with a
// second signature over the same content.
func (w *world) algorithms() {
	es := newRandomES256(w.T)
	carol, dora := &member{"m:carol", es}, &member{"m:dora", newSigner(w, evidence.SM2SM3)}
	for _, m := range []*member{w.members[0], carol, dora} {
		if m != w.members[0] {
			w.deposit(w.node("ca"), w.enrolment(m))
		}
		raw := w.open(m)
		at := w.deposit(w.node("court"), raw)
		for _, n := range w.a.Nodes {
			if got := w.deposit(n, raw); got != at {
				w.Errorf("%s: %s has position %d at %s, %d before", m.id, m.signer.Public().Algorithm(), got, n.ID, at)
			}
		}
		if m == w.members[0] {
			continue // Ed25519 has one signature a content
		}
		st, err := evidence.ParseStatement(raw)
		w.must(err)
		again := w.sign(m.signer, *st)
		if bytes.Equal(again, raw) {
			w.Fatalf("%s signs the same bytes twice", m.id)
		}
		for _, n := range w.a.Nodes {
			a := w.try(n, again)
			if a.status != http.StatusOK || a.Code != evidence.CodeRegistered.String() || a.Place == nil || uint64(*a.Place) != at || a.Entry != evidence.SumSHA256(raw).String() {
				w.Errorf("%s: a second signature is answered by %s with %v; the first is at %d", m.id, n.ID, a, at)
			}
		}
	}
}

// manifests: one that is sent along must be the one signed for.
func (w *world) manifests(n *local.Node) {
	manifest := []byte(`{"private":"what only the depositor knows, 7e1f"}`)
	sum := evidence.SumSHA256(manifest)
	statement := func() []byte {
		return w.sign(w.members[0].signer, evidence.Statement{Issuer: w.members[0].id, Subject: evidence.SubjectNewTrail, IssuedAt: time.Now().Unix(),
			ContentType: evidence.TypeDeposit, Payload: sum[:], After: w.checkpoint(), ManifestSM3: evidence.SumSM3(manifest)})
	}
	post := func(m []byte) *answer {
		body, err := json.Marshal(map[string][]byte{"statement": statement(), "manifest": m})
		w.must(err)
		return w.send(http.MethodPost, n.API+"/api/v1/statements?wait=final", "application/json", body)
	}
	if a := post(manifest); a.status != http.StatusCreated || !a.Final {
		w.Errorf("a manifest that fits: %v", a)
	}
	other := bytes.Clone(manifest)
	other[len(other)-3] ^= 1
	if a := post(other); a.status != http.StatusUnprocessableEntity || a.Code != evidence.CodeManifestMismatch.String() {
		w.Errorf("a manifest that does not fit: %v", a)
	}
}

// registry: only a CA enrols, only good keys, each once.
func (w *world) registry(n *local.Node) {
	eve := &member{"m:eve", newSigner(w, evidence.EdDSA)}
	e := evidence.Enrolment{Member: eve.id, Key: eve.signer.Public(), Kind: evidence.KindPerson, Demo: true}
	w.refused(n, w.sign(w.members[0].signer, evidence.Statement{Issuer: w.members[0].id, Subject: evidence.SubjectRegistry, IssuedAt: time.Now().Unix(),
		ContentType: evidence.TypeEnrolment, Payload: e.Encode()}), 422, evidence.CodeNotAllowed, "protected.kid")

	cmd := exec.CommandContext(w.ctx, os.Args[0])
	cmd.Env = append(os.Environ(), enrolAs+"="+w.node("court").Home)
	out, err := cmd.Output()
	w.must(err)
	byCourt, err := hex.DecodeString(string(out))
	w.must(err)
	w.refused(n, byCourt, 422, evidence.CodeNotAllowed, "protected.kid")

	w.deposit(n, w.enrolment(eve))
	again := w.sign(w.caKey, evidence.Statement{Issuer: "ca", Subject: evidence.SubjectRegistry, IssuedAt: time.Now().Unix() - 1,
		ContentType: evidence.TypeEnrolment, Payload: e.Encode()})
	w.refused(n, again, 422, evidence.CodeConflict, "payload.key")

	data, err := os.ReadFile("../../spec/vectors/key/invalid.json")
	w.must(err)
	var keys []struct{ Name, DER, Why string }
	w.must(json.Unmarshal(data, &keys))
	good := &member{"m:weak", newSigner(w, evidence.EdDSA)}
	tried := 0
	for _, k := range keys {
		der, err := hex.DecodeString(k.DER)
		w.must(err)
		if len(der) != len(good.signer.Public().DER()) || k.Why == "form" {
			continue
		}
		tried++
		raw := w.resigned(w.caKey, w.enrolment(good), good.signer.Public().DER(), der)
		a := w.try(n, raw)
		if a.status != http.StatusUnprocessableEntity || a.Code != evidence.CodeBadKey.String() {
			w.Errorf("enrolling a key (%s): %v", k.Name, a)
		}
	}
	if tried < 5 {
		w.Errorf("only %d bad keys were tried", tried)
	}
}

// revocation: from its place in the log on the key registers nothing, and what
// it registered before keeps its place.
func (w *world) revocation() {
	frank := w.enrol("m:frank", evidence.ES256)
	before := w.open(frank)
	at := w.deposit(w.node("court"), before)
	unsent := w.open(frank)
	rev := evidence.Revocation{KID: frank.signer.Public().KID(), Reason: 1}
	w.deposit(w.node("ca"), w.sign(w.caKey, evidence.Statement{Issuer: "ca", Subject: evidence.SubjectRegistry, IssuedAt: time.Now().Unix(),
		ContentType: evidence.TypeRevocation, Payload: rev.Encode()}))
	for _, n := range w.a.Nodes {
		w.refused(n, unsent, 422, evidence.CodeRevokedKey, "protected.kid")
		if got := w.deposit(n, before); got != at {
			w.Errorf("%s: what was registered before the revocation is at %d, was at %d", n.ID, got, at)
		}
	}
}
