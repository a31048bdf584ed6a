package custody_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/zhenglian/zhenglian/client"
	"github.com/zhenglian/zhenglian/client/clienttest"
	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/custody"
	"github.com/zhenglian/zhenglian/internal/store"
	"github.com/zhenglian/zhenglian/internal/store/storetest"
	"github.com/zhenglian/zhenglian/internal/testalliance"
	"github.com/zhenglian/zhenglian/internal/vault"
	"github.com/zhenglian/zhenglian/verify"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// house is a portal's custody beside an alliance on loopback.
type house struct {
	t   *testing.T
	net *clienttest.Net
	db  *store.DB
	dir string
	c   *custody.Custody
	end func() // of Run; waits for it
}

func newHouse(t *testing.T, db *store.DB, alter func(*custody.Config)) *house {
	t.Helper()
	h := &house{t: t, net: clienttest.New(t, "custody", 4), db: db, dir: t.TempDir()}
	h.open(alter)
	t.Cleanup(h.close)
	return h
}

func (h *house) open(alter func(*custody.Config)) {
	h.t.Helper()
	config := custody.Config{DB: h.db, Dir: h.dir, Alliance: h.net.Client(h.t, h.net.Get("notary").Statement), Now: h.net.Now, Retry: 50 * time.Millisecond}
	if alter != nil {
		alter(&config)
	}
	var err error
	h.c, err = custody.Open(config)
	must(h.t, err)
	h.end = func() {}
}

func (h *house) run() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.c.Run(ctx) }()
	h.end = func() {
		cancel()
		if err := <-done; err != nil {
			h.t.Errorf("running: %v", err)
		}
	}
}

func (h *house) close() {
	h.end()
	if err := h.c.Close(); err != nil {
		h.t.Errorf("closing: %v", err)
	}
	h.end = func() {}
}

// person is a member as her browser has her.
type person struct {
	*testalliance.Member
	h        *house
	identity *age.X25519Identity
}

func (h *house) person(id string) *person {
	h.t.Helper()
	signer, err := testalliance.Signer(id)
	must(h.t, err)
	identity, err := age.GenerateX25519Identity()
	must(h.t, err)
	return &person{h.net.EnrolKey(h.t, id, signer), h, identity}
}

// browserStore uploads as a page does.
type browserStore struct {
	c      *custody.Custody
	member string
}

func (b browserStore) Put(ctx context.Context, name string, write func(io.Writer) error) error {
	var whole bytes.Buffer
	if err := write(&whole); err != nil {
		return err
	}
	data := whole.Bytes()
	for offset := 0; ; {
		piece := data[offset:min(len(data), offset+custody.MaxPiece)]
		last := offset+len(piece) == len(data)
		_, err := b.c.PutPiece(ctx, b.member, name, int64(offset), piece, sha256.Sum256(piece), last)
		if errors.Is(err, custody.ErrExist) {
			return vault.ErrExist
		}
		if err != nil || last {
			return err
		}
		offset += len(piece)
	}
}

func (b browserStore) Range(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	f, err := b.c.Open(ctx, b.member, name)
	if errors.Is(err, custody.ErrNotFound) {
		return nil, vault.ErrNotExist
	}
	if err != nil {
		return nil, err
	}
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.LimitReader(f, length), f}, nil
}

func (b browserStore) Size(ctx context.Context, name string) (int64, error) {
	n, err := b.c.Size(ctx, b.member, name)
	if errors.Is(err, custody.ErrNotFound) {
		return 0, vault.ErrNotExist
	}
	return n, err
}

func (b browserStore) List(ctx context.Context, prefix string) ([]string, error) {
	return b.c.List(ctx, b.member, prefix)
}

func (browserStore) Delete(context.Context, string) error { return nil }

func (p *person) vault() *vault.Vault { return vault.New(browserStore{p.h.c, p.ID}) }

// upload seals content to the person and uploads it.
func (p *person) upload(content []byte) vault.Object {
	p.h.t.Helper()
	o, err := p.vault().Put(context.Background(), bytes.NewReader(content), []age.Recipient{p.identity.Recipient()}, nil)
	must(p.h.t, err)
	return o
}

// step uploads a manifest and signs the statement over it; alter may change it
// before it is signed.
func (p *person) step(trail evidence.Digest, signer evidence.Signer, alter func(*evidence.Statement)) *evidence.Statement {
	p.h.t.Helper()
	file := p.upload(fmt.Appendf(nil, "file of %s, %s", p.ID, time.Now()))
	salt, err := evidence.NewSalt(strings.NewReader(strings.Repeat("salt"+time.Now().String(), 8)))
	must(p.h.t, err)
	m := evidence.Manifest{V: 1, Salt: salt, Phase: evidence.PhaseDuring, Step: "拍照", Created: p.h.net.Now().UTC().Format(time.RFC3339),
		Person:  evidence.Person{Member: p.ID, Commitment: p.Commitment, Assurance: p.Assurance, Demo: p.Demo},
		Objects: []evidence.Object{{Name: "a.jpg", Size: file.Size, Media: "image/jpeg", SHA256: file.SHA256, SM3: file.SM3, Vault: &evidence.VaultRef{Chunks: file.Chunks, PlainRoot: file.PlaintextRoot, CipherRoot: file.CiphertextRoot}}}}
	data, err := m.Encode()
	must(p.h.t, err)
	o := p.upload(data)
	s := evidence.Statement{Issuer: p.ID, Subject: evidence.SubjectNewTrail, IssuedAt: p.h.net.Now().Unix(), ContentType: evidence.TypeDeposit, Payload: o.SHA256[:], ManifestSM3: o.SM3}
	next, err := p.h.c.Next(context.Background(), p.ID, trail, signer.Public().KID())
	must(p.h.t, err)
	cp, err := evidence.ParseCheckpoint(next.After)
	must(p.h.t, err)
	s.After = cp.Checkpoint
	if !trail.IsZero() {
		s.Subject, s.Prev = evidence.TrailSubject(trail), next.Prev
	}
	if alter != nil {
		alter(&s)
	}
	signed, err := s.Sign(signer)
	must(p.h.t, err)
	return signed
}

func (p *person) accept(s *evidence.Statement) *custody.Deposit {
	p.h.t.Helper()
	d, err := p.h.c.Accept(context.Background(), p.ID, s.Bytes())
	must(p.h.t, err)
	return d
}

// await waits until a statement has one of the states.
func (p *person) await(digest evidence.Digest, states ...custody.State) *custody.Deposit {
	p.h.t.Helper()
	for range 1000 {
		d, err := p.h.c.Deposit(context.Background(), p.ID, digest)
		must(p.h.t, err)
		for _, s := range states {
			if d.State == s {
				return d
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	p.h.t.Fatalf("%s did not become %v", digest, states)
	return nil
}

func wantRefused(t *testing.T, what string, err error, code string) {
	t.Helper()
	r, ok := errors.AsType[*custody.Refusal](err)
	if !ok || r.Code != code {
		t.Errorf("%s: got %v, want a refusal with code %s", what, err, code)
	}
}

// TestDeposits: two steps from upload to a package that verifies, on both
// databases.
func TestDeposits(t *testing.T) {
	storetest.Run(t, func(t *testing.T, fresh storetest.NewDSN) {
		h := newHouse(t, fresh.Open(t), nil)
		h.run()
		li := h.person("m:li")
		first := li.accept(li.step(evidence.Digest{}, li.Signer, nil))
		if first.State == custody.Refused || first.Trail != first.Digest() {
			t.Errorf("accepted as %s in trail %s", first.State, first.Trail)
		}
		// The second follows while the first is on its way, or after it.
		second := li.accept(li.step(first.Trail, li.Signer, nil))
		got := li.await(second.Digest(), custody.Final, custody.Refused)
		if got.State != custody.Final || len(got.Witnesses) < 3 || got.NotLater.IsZero() || got.NotBefore.IsZero() || got.TreeSize <= got.Position {
			t.Errorf("became %+v", got)
		}
		if got.NotBefore.After(got.NotLater) {
			t.Errorf("bracket %s – %s", got.NotBefore, got.NotLater)
		}
		again := li.accept(second.Statement)
		if again.State != custody.Final || again.Digest() != second.Digest() {
			t.Errorf("sent again: %+v", again)
		}
		ctx := context.Background()
		trails, err := h.c.Trails(ctx, li.ID, 0, 10)
		must(t, err)
		if len(trails) != 1 || len(trails[0].Steps) != 2 {
			t.Fatalf("trails %+v", trails)
		}
		third := li.accept(li.step(evidence.Digest{}, li.Signer, nil))
		page, err := h.c.Trails(ctx, li.ID, 0, 1)
		must(t, err)
		rest, err := h.c.Trails(ctx, li.ID, page[0].Last, 10)
		must(t, err)
		if page[0].Trail != third.Trail || len(rest) != 1 || rest[0].Trail != first.Trail {
			t.Errorf("pages %v, %v", page, rest)
		}
		li.await(third.Digest(), custody.Final)

		parts, err := h.c.Parts(ctx, li.ID, first.Trail, nil)
		must(t, err)
		var file evidence.MemoryFile
		_, err = parts.Write(&file, plaintext{li})
		must(t, err)
		rep, err := verify.Check(ctx, &file, int64(len(file.Bytes())), verify.Options{Policy: h.net.Policy})
		must(t, err)
		if rep.Verdict != verify.Matches {
			t.Errorf("the package: %s", rep.Verdict)
		}
	})
}

type plaintext struct{ p *person }

func (x plaintext) Manifest(s *evidence.Statement) ([]byte, error) {
	r, err := x.p.vault().Open(context.Background(), evidence.Digest(s.Payload), x.p.identity)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

func (x plaintext) Object(o *evidence.Object) (io.Reader, error) {
	return x.p.vault().Open(context.Background(), o.SHA256, x.p.identity)
}

// TestAttacker: another member, a stranger's key, altered bytes, foreign names.
func TestAttacker(t *testing.T) {
	storetest.Run(t, func(t *testing.T, fresh storetest.NewDSN) {
		h := newHouse(t, fresh.Open(t), nil)
		h.run()
		ctx := context.Background()
		li, eve := h.person("m:li"), h.person("m:eve")
		signed := li.step(evidence.Digest{}, li.Signer, nil)
		d := li.accept(signed)
		li.await(d.Digest(), custody.Final)
		object := "objects/" + evidence.Digest(signed.Payload).String()
		li.upload([]byte("seen"))

		t.Run("reading another's records", func(t *testing.T) {
			never := evidence.SumSHA256([]byte("never"))
			absent := "objects/" + never.String()
			for name, ask := range map[string]func(there bool) error{
				"size": func(there bool) error { _, err := h.c.Size(ctx, eve.ID, pick(there, object, absent)); return err },
				"open": func(there bool) error { _, err := h.c.Open(ctx, eve.ID, pick(there, object, absent)); return err },
				"statement": func(there bool) error {
					_, err := h.c.Deposit(ctx, eve.ID, pick(there, d.Digest(), never))
					return err
				},
				"trail": func(there bool) error { _, err := h.c.Trail(ctx, eve.ID, pick(there, d.Trail, never)); return err },
				"parts": func(there bool) error { _, err := h.c.Parts(ctx, eve.ID, pick(there, d.Trail, never), nil); return err },
				"next": func(there bool) error {
					_, err := h.c.Next(ctx, eve.ID, pick(there, d.Trail, never), eve.Signer.Public().KID())
					if r, ok := errors.AsType[*custody.Refusal](err); ok {
						r.Detail = strings.ReplaceAll(r.Detail, pick(there, d.Trail, never).String(), "TRAIL")
					}
					return err
				},
			} {
				hers, none := ask(true), ask(false)
				if hers == nil || none == nil || hers.Error() != none.Error() {
					t.Errorf("%s: another's answers %v, nothing's %v: she can tell", name, hers, none)
				}
			}
			if names, err := h.c.List(ctx, eve.ID, object[:len("objects/")+32]); err != nil || len(names) != 0 {
				t.Errorf("listing gives %v, %v", names, err)
			}
			if trails, err := h.c.Trails(ctx, eve.ID, 0, 10); err != nil || len(trails) != 0 {
				t.Errorf("trails %v, %v", trails, err)
			}
		})
		t.Run("depositing as another", func(t *testing.T) {
			_, err := h.c.Accept(ctx, eve.ID, signed.Bytes())
			wantRefused(t, "another's statement", err, custody.RefuseMember)
			_, err = h.c.Accept(ctx, eve.ID, eve.step(evidence.Digest{}, li.Signer, nil).Bytes())
			wantRefused(t, "signed with another's key", err, custody.RefuseMember)
			_, err = h.c.Accept(ctx, eve.ID, eve.step(evidence.Digest{}, eve.Signer, func(s *evidence.Statement) { s.Issuer = li.ID }).Bytes())
			wantRefused(t, "in another's name", err, custody.RefuseMember)
			institution := h.net.Get("ca").Statement
			_, err = h.c.Accept(ctx, eve.ID, eve.step(evidence.Digest{}, institution, nil).Bytes())
			wantRefused(t, "signed by an institution", err, custody.RefuseMember)
			stranger, err := testalliance.Signer("stranger")
			must(t, err)
			_, err = h.c.Accept(ctx, eve.ID, eve.step(evidence.Digest{}, stranger, nil).Bytes())
			wantRefused(t, "a key that nobody enrolled", err, "unknown-key")
			_, err = h.c.Accept(ctx, eve.ID, eve.step(evidence.Digest{}, eve.Signer, func(s *evidence.Statement) { s.Payload = signed.Payload }).Bytes())
			wantRefused(t, "over another's manifest", err, custody.RefuseManifest)
			_, err = h.c.Accept(ctx, eve.ID, eve.step(evidence.Digest{}, eve.Signer, func(s *evidence.Statement) {
				s.Subject, s.Prev = evidence.TrailSubject(d.Trail), d.Digest()
			}).Bytes())
			wantRefused(t, "into another's trail", err, custody.RefuseTrail)
		})
		t.Run("altered statements", func(t *testing.T) {
			s := li.step(evidence.Digest{}, li.Signer, nil)
			for _, i := range []int{0, 5, 40, len(s.Bytes()) - 70, len(s.Bytes()) - 1} {
				bad := bytes.Clone(s.Bytes())
				bad[i] ^= 1
				if _, err := h.c.Accept(ctx, li.ID, bad); err == nil {
					t.Errorf("byte %d altered: accepted", i)
				}
			}
			_, err := h.c.Accept(ctx, li.ID, li.step(evidence.Digest{}, li.Signer, func(s *evidence.Statement) { s.IssuedAt += 3600 }).Bytes())
			wantRefused(t, "a clock an hour ahead", err, "clock-ahead")
		})
		t.Run("forking a trail", func(t *testing.T) {
			a, b := li.step(d.Trail, li.Signer, nil), li.step(d.Trail, li.Signer, nil)
			li.accept(a)
			_, err := h.c.Accept(ctx, li.ID, b.Bytes())
			wantRefused(t, "the second of two pages", err, custody.RefuseMoved)
		})
		t.Run("revoked key", func(t *testing.T) {
			s := eve.step(evidence.Digest{}, eve.Signer, nil)
			unlock := h.net.Lock()
			_, err := h.net.Revoke(eve.Member)
			unlock()
			must(t, err)
			_, err = h.c.Accept(ctx, eve.ID, s.Bytes())
			wantRefused(t, "after revocation", err, "revoked-key")
		})
	})
}

func pick[T any](there bool, a, b T) T {
	if there {
		return a
	}
	return b
}

// TestBlobs: pieces, digests, limits, names, what never changes.
func TestBlobs(t *testing.T) {
	ctx := context.Background()
	db := storetest.NewDSN(storetest.SQLite).Open(t)
	h := newHouse(t, db, func(c *custody.Config) { c.Quota, c.MaxBlob = 6<<20, 5<<20 })
	li := h.person("m:li")
	put := func(name string, offset int64, piece []byte, last bool) (int64, error) {
		return h.c.PutPiece(ctx, li.ID, name, offset, piece, sha256.Sum256(piece), last)
	}
	const data = "data/0123456789abcdef0123456789abcdef"

	for _, name := range []string{"", "data/", "data/../x", "../m_eve/data/" + data[5:], "data/0123456789ABCDEF0123456789ABCDEF", "tmp/0123456789abcdef0123456789abcdef",
		"parts/data.0123456789abcdef0123456789abcdef", data + "/..", "objects/" + data[5:], "grants/" + data[5:], data + "\x00"} {
		_, err := put(name, 0, []byte("x"), true)
		wantRefused(t, fmt.Sprintf("name %q", name), err, custody.RefuseName)
	}
	for _, member := range []string{"", "m:", "../x", "m:a/b", "ca", "m:_"} {
		if _, err := h.c.PutPiece(ctx, member, data, 0, nil, sha256.Sum256(nil), true); member != "m:" && !errors.Is(err, custody.ErrNotFound) {
			t.Errorf("member %q: %v", member, err)
		}
	}
	_, err := h.c.PutPiece(ctx, li.ID, data, 0, []byte("sent"), sha256.Sum256([]byte("declared")), true)
	wantRefused(t, "another digest than declared", err, custody.RefusePiece)
	_, err = put(data, 0, make([]byte, custody.MaxPiece+1), true)
	wantRefused(t, "a large piece", err, custody.RefuseLarge)

	have, err := put(data, 0, []byte("first "), false)
	must(t, err)
	if _, err := h.c.Size(ctx, li.ID, data); !errors.Is(err, custody.ErrNotFound) {
		t.Errorf("half a blob has a size: %v", err)
	}
	var off *custody.OffsetError
	if _, err := put(data, have+1, []byte("x"), true); !errors.As(err, &off) || off.Have != have {
		t.Errorf("a hole: %v", err)
	}
	if n, err := h.c.Pending(ctx, li.ID, data); err != nil || n != have {
		t.Errorf("pending %d, %v", n, err)
	}
	_, err = put(data, have, []byte("second"), true)
	must(t, err)
	if _, err := put(data, 0, []byte("other"), true); !errors.Is(err, custody.ErrExist) {
		t.Errorf("over a whole blob: %v", err)
	}
	f, err := h.c.Open(ctx, li.ID, data)
	must(t, err)
	got, err := io.ReadAll(f)
	must(t, err)
	must(t, f.Close())
	if string(got) != "first second" {
		t.Errorf("the blob is %q", got)
	}
	// A head of nothing, a head under another name, a grant of nothing.
	_, err = put("objects/"+strings.Repeat("a", 64), 0, make([]byte, 400), true)
	wantRefused(t, "a head without data", err, custody.RefuseBlob)
	forged := append(append([]byte("ZLVAULT1"), []byte{0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef}...), make([]byte, 400)...)
	_, err = put("objects/"+strings.Repeat("a", 64), 0, forged, true)
	wantRefused(t, "a forged head", err, custody.RefuseBlob)
	o := li.upload([]byte("an object"))
	head, err := os.ReadFile(filepath.Join(h.dir, "m_li", "objects", o.SHA256.String()))
	must(t, err)
	_, err = put("objects/"+strings.Repeat("b", 64), 0, head, true)
	wantRefused(t, "a head under another name", err, custody.RefuseBlob)

	_, err = put("data/"+strings.Repeat("1", 32), 0, make([]byte, 4<<20), false)
	must(t, err)
	_, err = put("data/"+strings.Repeat("1", 32), 4<<20, make([]byte, 2<<20), true)
	wantRefused(t, "a large blob", err, custody.RefuseLarge)
	_, err = put("data/"+strings.Repeat("2", 32), 0, make([]byte, 3<<20), false)
	wantRefused(t, "above the quota, unfinished uploads counted", err, custody.RefuseQuota)

	for _, prefix := range []string{"", "data/", "objects/%", "objects/" + strings.Repeat("_", 32), "grants/../x"} {
		_, err := h.c.List(ctx, li.ID, prefix)
		wantRefused(t, fmt.Sprintf("listing %q", prefix), err, custody.RefuseName)
	}
	names, err := h.c.List(ctx, li.ID, data)
	must(t, err)
	if len(names) != 1 || names[0] != data {
		t.Errorf("listed %v", names)
	}
}

// TestRestart: what was answered survives a stop at any moment, and goes out
// once; a refused statement keeps its reason and takes its followers along.
func TestRestart(t *testing.T) {
	storetest.Run(t, func(t *testing.T, fresh storetest.NewDSN) {
		h := newHouse(t, fresh.Open(t), nil)
		li := h.person("m:li")
		first := li.accept(li.step(evidence.Digest{}, li.Signer, nil)) // nothing runs yet
		second := li.accept(li.step(first.Trail, li.Signer, nil))
		h.close()
		h.open(func(c *custody.Config) { c.Alliance = &downThenUp{Alliance: c.Alliance, failures: 3} })
		h.run()
		li.await(second.Digest(), custody.Final)
		size := h.net.Size()
		h.close()
		h.open(nil)
		h.run()
		if d := li.await(first.Digest(), custody.Final); d.Position >= size {
			t.Errorf("registered again at %d", d.Position)
		}
		h.close()
		h.open(func(c *custody.Config) { c.Alliance = &refusing{c.Alliance} })
		third := li.accept(li.step(first.Trail, li.Signer, nil))
		fourth := li.accept(li.step(first.Trail, li.Signer, nil))
		h.run()
		if d := li.await(third.Digest(), custody.Refused); d.Code != "unknown-checkpoint" || d.Reason != "the log never had it" {
			t.Errorf("refused with %q, %q", d.Code, d.Reason)
		}
		if d := li.await(fourth.Digest(), custody.Refused); d.Code != custody.RefusePrevious {
			t.Errorf("the one after a refused one: %q", d.Code)
		}
	})
}

type downThenUp struct {
	custody.Alliance
	failures int
}

func (d *downThenUp) Submit(ctx context.Context, s []byte) (*client.Outcome, error) {
	if d.failures > 0 {
		d.failures--
		return nil, &client.UnavailableError{}
	}
	return d.Alliance.Submit(ctx, s)
}

type refusing struct{ custody.Alliance }

func (refusing) Submit(context.Context, []byte) (*client.Outcome, error) {
	return nil, &client.Problem{Institution: "ca", Status: 400, Code: "unknown-checkpoint", Detail: "the log never had it"}
}
