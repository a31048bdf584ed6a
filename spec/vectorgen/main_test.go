package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/registry"
)

const specDir = ".."

// TestCommittedFilesAreCurrent: what is committed is what the generator writes.
func TestCommittedFilesAreCurrent(t *testing.T) {
	files, err := generate(specDir)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		got, err := os.ReadFile(filepath.Join(specDir, filepath.FromSlash(name)))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is not what the generator writes: run go run ./spec/vectorgen", name)
		}
	}
}

// TestWorkedExamples reads the hexadecimal columns of the worked examples back
// and gives them to the package that the specification is about.
func TestWorkedExamples(t *testing.T) {
	example := func(doc, name string) []byte {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(specDir, doc))
		if err != nil {
			t.Fatal(err)
		}
		b, err := exampleBytes(text, name)
		if err != nil {
			t.Fatalf("%s, %s: %v", doc, name, err)
		}
		return b
	}
	c := newCast()
	s, err := evidence.ParseStatement(example("statement.md", "deposit"))
	if err != nil {
		t.Fatal(err)
	}
	if s.Issuer != "m:alice" || s.Subject != evidence.SubjectNewTrail || s.ContentType != evidence.TypeDeposit {
		t.Errorf("the deposit is %+v", s)
	}
	if !bytes.Equal(s.ToBeSigned(), example("statement.md", "to-be-signed")) {
		t.Error("the Sig_structure of the text is another's")
	}
	key, err := evidence.ParsePublicKey(c.alice.der)
	if err != nil {
		t.Fatal(err)
	}
	if err := key.VerifyStrict(s.ToBeSigned(), s.Signature); err != nil {
		t.Error(err)
	}
	a, err := evidence.ParseStatement(example("statement.md", "authorisation"))
	if err != nil {
		t.Fatal(err)
	}
	if a.Prev != s.Digest() || a.Subject != evidence.TrailSubject(s.Digest()) {
		t.Error("the authorisation does not follow the deposit")
	}
	r, err := evidence.ParseReceipt(example("receipt.md", "receipt"))
	if err != nil {
		t.Fatal(err)
	}
	if key, err = evidence.ParsePublicKey(receiptKeys()[0].der); err != nil {
		t.Fatal(err)
	}
	if err := r.VerifyInclusion(key, evidence.SumSHA256([]byte("entry 3"))); err != nil {
		t.Error(err)
	}
}

// TestRegistryStory gives the statements of the story to a registry in order
// and holds each code, field and running hash against the vector.
func TestRegistryStory(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(specDir, "vectors", "registry", "story.json"))
	if err != nil {
		t.Fatal(err)
	}
	var st story
	if err := json.Unmarshal(data, &st); err != nil {
		t.Fatal(err)
	}
	a, err := evidence.ParseAlliance([]byte(st.Alliance))
	if err != nil {
		t.Fatal(err)
	}
	reg, err := registry.New(a)
	if err != nil {
		t.Fatal(err)
	}
	if got := reg.Hash().String(); got != st.Genesis {
		t.Fatalf("running hash at the genesis %s, want %s", got, st.Genesis)
	}
	registered := map[evidence.Digest]bool{}
	position := uint64(0)
	for _, step := range st.Steps {
		raw, err := hex.DecodeString(step.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		code, field, s := judge(reg, registered, raw, step.Time)
		if code.String() != step.Code || field != step.Field {
			t.Errorf("%s: %s at %q, want %s at %q", step.Name, code, field, step.Code, step.Field)
		}
		if code == evidence.CodeOK {
			if position != step.Position {
				t.Errorf("%s: position %d, want %d", step.Name, position, step.Position)
			}
			if err := reg.Apply(s, position); err != nil {
				t.Fatalf("%s: %v", step.Name, err)
			}
			registered[s.ID()] = true
			position++
		}
		if got := reg.Hash().String(); got != step.Hash {
			t.Errorf("%s: running hash %s, want %s", step.Name, got, step.Hash)
		}
	}
}

// judge follows spec/statement.md, section 8, as far as it does not need the
// log's roots or the signer's clock.
func judge(reg *registry.Registry, registered map[evidence.Digest]bool, raw []byte, blockTime int64) (evidence.Code, string, *evidence.Statement) {
	s, err := evidence.ParseStatement(raw)
	if err != nil {
		var f *evidence.FormatError
		if errors.As(err, &f) {
			return f.Code, f.Field, nil
		}
		return evidence.CodeMalformed, "", nil
	}
	key, no := reg.Holder(s)
	if no != nil {
		return no.Code, no.Field, nil
	}
	if key.Public.Verify(s.ToBeSigned(), s.Signature) != nil {
		return evidence.CodeBadSignature, "signature", nil
	}
	if registered[s.ID()] {
		return evidence.CodeRegistered, "", nil
	}
	if no := reg.Check(s, blockTime*1000); no != nil {
		return no.Code, no.Field, nil
	}
	return evidence.CodeOK, "", s
}

// TestSecondImplementation runs the vectors in JavaScript.
func TestSecondImplementation(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("node is not installed: the second implementation was not run")
	}
	out, err := exec.Command(node, filepath.Join(specDir, "vectors", "run.mjs")).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)

	// The run is worth something only if it can fail: damage one vector a file.
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(specDir, "vectors"))); err != nil {
		t.Fatal(err)
	}
	changes := []struct{ file, from, to string }{
		{"key/invalid.json", `"why": "torsion"`, `"why": "form"`},
		{"key/signatures.json", `"strict": false`, `"strict": true`},
		{"statement/valid.json", `"id": "`, `"id": "0`},
		{"statement/invalid.json", `"code": "not-deterministic"`, `"code": "malformed"`},
		{"act/assertions.json", `"reason": "user-verified"`, `"reason": "signature"`},
		{"registry/contents.json", `"code": "bad-key"`, `"code": "malformed"`},
		{"receipt/valid.json", `"root": "`, `"root": "0`},
		{"receipt/refused.json", `"reason": "path"`, `"reason": "signature"`},
	}
	for _, change := range changes {
		path := filepath.Join(dir, filepath.FromSlash(change.file))
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		changed := strings.Replace(string(data), change.from, change.to, 1)
		if changed == string(data) {
			t.Fatalf("%s holds no %s", change.file, change.from)
		}
		if err := os.WriteFile(path, []byte(changed), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	out, err = exec.Command(node, filepath.Join(dir, "run.mjs")).CombinedOutput()
	if err == nil {
		t.Errorf("damaged vectors were not noticed:\n%s", out)
	}
	for _, change := range changes {
		if !bytes.Contains(out, []byte("FAILED "+change.file)) {
			t.Errorf("a damaged %s was not noticed:\n%s", change.file, out)
		}
	}
}
