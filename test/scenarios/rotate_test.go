package scenarios

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/client"
	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/institution"
	"github.com/zhenglian/zhenglian/internal/local"
	"github.com/zhenglian/zhenglian/verify"
)

// zl runs a command of the program in English and returns what it printed.
func (w *world) zl(args ...string) string {
	w.Helper()
	out, err := local.Run(w.ctx, program, nil, append([]string{"--lang", "en"}, args...)...)
	if err != nil {
		w.Fatalf("%v\n%s", err, out)
	}
	return out
}

// rotate replaces keys of an institution on its own host, and has the checker
// follow.
func (w *world) rotate(id string, uses ...string) {
	w.Helper()
	for _, use := range uses {
		out := w.zl("institution", "rotate", "--home", w.node(id).Home, "--use", use)
		if use == "receipt" && !strings.Contains(out, "needs no restart") {
			w.Errorf("the node of %s was not seen to sign with its new key:\n%s", id, out)
		}
	}
	w.checker.Policy.Store(w.policyFile())
}

func (w *world) client(signer evidence.Signer) *client.Client {
	w.Helper()
	c, err := client.New(client.Config{Alliance: w.a.Alliance, Signer: signer})
	w.must(err)
	return c
}

// packageOf makes the package of a trail without its manifests, by a client that
// knows the founding document alone.
func (w *world) packageOf(m *member, trail evidence.Digest) []byte {
	w.Helper()
	c := w.client(m.signer)
	t, err := c.Trail(w.ctx, trail)
	w.must(err)
	parts, err := c.Parts(w.ctx, t, nil)
	w.must(err)
	file := &evidence.MemoryFile{}
	_, err = parts.Write(file, noPlaintext{})
	w.must(err)
	return file.Bytes()
}

type noPlaintext struct{}

func (noPlaintext) Manifest(*evidence.Statement) ([]byte, error) { return nil, nil }

func (noPlaintext) Object(*evidence.Object) (io.Reader, error) { return nil, nil }

// holds requires that everything in a package matches but what is open because
// its manifests are withheld.
func (w *world) holds(what string, pkg []byte, opts verify.Options) {
	w.Helper()
	rep, err := verify.Check(w.ctx, bytes.NewReader(pkg), int64(len(pkg)), opts)
	w.must(err)
	for _, c := range rep.Checks {
		if c.Verdict != verify.Matches && c.ID != "manifest" {
			w.Errorf("%s: %s %s %s %v", what, c.Verdict, c.ID, c.Reason.Key, c.Reason.Params)
		}
	}
	if !rep.IssuerEstablished {
		w.Errorf("%s: the issuer is not established", what)
	}
}

// policyFile runs alliance policy --follow and reads what it wrote.
func (w *world) policyFile() *evidence.Policy {
	w.Helper()
	path := filepath.Join(w.TempDir(), "policy.json")
	w.zl("alliance", "policy", w.a.Genesis, "--follow", "--out", path)
	data, err := os.ReadFile(path)
	w.must(err)
	p, err := evidence.ParsePolicy(data)
	w.must(err)
	return p
}

func newKeys(p *evidence.Policy) (n int) {
	for i := range p.Institutions {
		for _, k := range p.Institutions[i].Keys {
			if k.From > 0 {
				n++
			}
		}
	}
	return n
}

// Two institutions replace receipt, cosigning, attestation and statement keys
// while the alliance works. What was proven before stays so, what comes after is
// proven by the new keys, and whoever knows the founding document alone follows.
func TestRotateKeys(t *testing.T) {
	w := newWorld(t, worldConfig{})
	alice, court := w.members[0], w.node("court")
	first := w.open(alice)
	w.deposit(court, first)
	trail := evidence.SumSHA256(first)
	before := w.checkpoint()
	a := w.packageOf(alice, trail)
	id := w.a.Alliance.ID()
	w.holds("package A before any change", a, verify.Options{Alliance: &id})

	w.rotate("court", "receipt", "cosign", "statement", "attest")
	w.rotate("notary", "statement", "receipt", "cosign")

	later, err := evidence.Statement{Issuer: alice.id, Subject: evidence.TrailSubject(trail), IssuedAt: time.Now().Unix(), ContentType: evidence.TypeDeposit,
		Payload: bytes.Repeat([]byte{7}, 32), Prev: trail, After: w.checkpoint(), ManifestSM3: evidence.SumSM3(nil)}.Sign(alice.signer)
	w.must(err)
	w.deposit(w.node("forensic"), later.Bytes())
	b := w.packageOf(alice, trail)
	p := w.policyFile()
	if n := newKeys(p); n != 7 {
		t.Errorf("the policy has %d new keys, want 7", n)
	}
	founded, err := evidence.PolicyFromAlliance(w.a.Alliance)
	w.must(err)
	for what, opts := range map[string]verify.Options{"the founding document": {Alliance: &id}, "the founding policy": {Policy: founded}, "the new policy": {Policy: p}} {
		w.holds("package A under "+what, a, opts)
		w.holds("package B under "+what, b, opts)
	}
	want, err := p.Encode()
	w.must(err)
	for _, n := range w.a.Nodes {
		if got := w.send(http.MethodGet, n.API+"/api/v1/policy", "", nil); !bytes.Equal(got.body, want) {
			t.Errorf("%s gives another policy than the one proven", n.ID)
		}
	}
	c := w.client(alice.signer)
	if cp, err := c.CheckpointAt(w.ctx, before.Size); err != nil || cp.Root != before.Root {
		t.Errorf("the checkpoint from before: %v", err)
	}

	// The nodes that changed start again: both generations lie in their homes.
	for _, id := range []string{"court", "notary"} {
		w.must(w.node(id).Stop())
		w.must(w.node(id).Start(w.ctx))
		w.must(w.node(id).WaitReady(w.ctx))
	}
	w.deposit(court, w.open(alice))

	// The CA changes the key that it enrols with.
	w.rotate("ca", "statement", "receipt")
	w.refused(court, w.enrolment(&member{"m:late", newSigner(t, evidence.EdDSA)}), http.StatusUnprocessableEntity, evidence.CodeRevokedKey, "")
	key, err := w.ca.Current(evidence.UseStatement)
	w.must(err)
	w.caKey = key
	w.enrol("m:new", evidence.EdDSA)
	w.holds("package A after all", a, verify.Options{Alliance: &id})
	w.holds("package B after all", b, verify.Options{Policy: w.checker.Policy.Load()})
	w.check() // with fsck, by the new keys
}

// The command and the node die at each point of a rotation. The same command
// goes on, the node comes back, and nothing that was acknowledged is lost.
func TestRotateKilled(t *testing.T) {
	w := newWorld(t, worldConfig{})
	court := w.node("court")
	l := w.startLoad()

	// The own node is dead: another takes the statement.
	court.Kill()
	w.rotate("court", "cosign")
	w.must(court.Start(w.ctx))
	w.must(court.WaitReady(w.ctx))
	l.goesOn(20)

	// After the new key is on disk, and after the statement is.
	h, err := institution.Open(court.Home, evidence.UseStatement)
	w.must(err)
	r, err := h.BeginRotation(evidence.UseReceipt, false, 0)
	w.must(err)
	made := r.Key.Public().KID()
	if r, err = h.BeginRotation(evidence.UseReceipt, false, 0); err != nil || !r.Resumed || r.Key.Public().KID() != made || r.Statement != nil {
		t.Fatalf("begun twice: %+v, %v", r, err)
	}
	w.must(r.Sign(h.Key(evidence.UseStatement), evidence.ReasonSuperseded, time.Now()))
	// After the log has it: the node is killed at that moment, and comes back with a
	// key of which nobody told it.
	position := w.deposit(w.node("ca"), r.Statement)
	court.Kill()
	w.must(court.Start(w.ctx))
	w.must(court.WaitReady(w.ctx))
	l.goesOn(20)
	w.rotate("court", "receipt") // goes on with what is there
	h, err = institution.Open(court.Home, evidence.UseReceipt, evidence.UseStatement)
	w.must(err)
	if got := h.Key(evidence.UseReceipt).Public().KID(); got != made {
		t.Errorf("the rotation ended with key %s, it began with %s", got, made)
	}
	data, err := os.ReadFile(filepath.Join(court.Home, "rotations", "receipt.2.json"))
	w.must(err)
	var placed struct {
		Position uint64 `json:"position"`
	}
	w.must(json.Unmarshal(data, &placed))
	if placed.Position != position {
		t.Errorf("the rotation is noted at position %d, the log has it at %d", placed.Position, position)
	}

	// The new key is not where the node looks for it: the node says so, goes on
	// voting and serving, and signs when the file is there.
	r, err = h.BeginRotation(evidence.UseReceipt, false, 0)
	w.must(err)
	w.must(r.Sign(h.Key(evidence.UseStatement), evidence.ReasonSuperseded, time.Now()))
	kid := r.Key.Public().KID().String()
	w.must(os.Rename(r.KeyPath(), r.KeyPath()+".away"))
	entry := evidence.SumSHA256(r.Statement)
	w.deposit(w.node("forensic"), r.Statement)
	w.eventually("the court to say that its key is missing", func() error {
		log, err := os.ReadFile(court.LogFile)
		if err == nil && !strings.Contains(string(log), "the receipt key "+kid) {
			err = fmt.Errorf("its log does not name %s", kid)
		}
		return err
	})
	l.goesOn(20, "ca", "forensic", "notary", "court")
	w.must(os.Rename(r.KeyPath()+".away", r.KeyPath()))
	w.eventually("the court to sign with the key that came back", func() error {
		ctx, cancel := context.WithTimeout(w.ctx, 10*time.Second)
		defer cancel()
		f, err := w.client(nil).Confirm(ctx, entry)
		if err != nil {
			return err
		}
		rec, err := evidence.ParseReceipt(f.Receipts["court"])
		if err == nil && rec.KID.String() != kid {
			err = fmt.Errorf("the receipt is by %s", rec.KID)
		}
		return err
	})
	w.rotate("court", "receipt") // finishes it
	l.end()
	w.check()
}
