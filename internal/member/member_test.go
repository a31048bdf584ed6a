package member_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"filippo.io/age"

	"github.com/zhenglian/zhenglian/client"
	"github.com/zhenglian/zhenglian/client/clienttest"
	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/chain"
	"github.com/zhenglian/zhenglian/internal/member"
	"github.com/zhenglian/zhenglian/internal/testalliance"
	"github.com/zhenglian/zhenglian/verify"
)

type world struct {
	net    *clienttest.Net
	alice  evidence.Signer
	member *testalliance.Member // alice, as enrolled
	client *client.Client
	config member.Config
}

func newWorld(t testing.TB) *world {
	t.Helper()
	net := clienttest.New(t, "a", 4)
	alice, err := testalliance.Signer("alice")
	if err != nil {
		t.Fatal(err)
	}
	m := net.EnrolKey(t, "m:alice", alice)
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{net: net, alice: alice, member: m, client: net.Client(t, alice)}
	w.config = member.Config{Dir: t.TempDir(), Signer: alice, Identity: id, Recipient: id.Recipient(), Now: net.Now,
		Person: evidence.Person{Member: "m:alice", Assurance: m.Assurance, Commitment: m.Commitment, Demo: m.Demo}}
	return w
}

func (w *world) open(t testing.TB) *member.Home {
	t.Helper()
	h, err := member.Open(t.Context(), w.config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}

func text(name, content string) member.Source {
	return member.Source{Name: name, Size: int64(len(content)), Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(content)), nil }}
}

func step(trail evidence.Digest, name string, sources ...member.Source) member.Step {
	return member.Step{Trail: trail, Phase: evidence.PhaseDuring, Name: name, Claimed: map[string]string{"address": "杭州"}, Sources: sources}
}

// check verifies the package of a trail.
func (w *world) check(t testing.TB, h *member.Home, trail evidence.Digest) (*verify.Report, []byte, *member.Packaged) {
	t.Helper()
	file := &evidence.MemoryFile{}
	packed, err := h.Package(t.Context(), w.client, trail, file)
	if err != nil {
		t.Fatal(err)
	}
	data := file.Bytes()
	id := w.net.ID()
	rep, err := verify.Check(t.Context(), bytes.NewReader(data), int64(len(data)), verify.Options{Alliance: &id})
	if err != nil {
		t.Fatal(err)
	}
	return rep, data, packed
}

func wantMatch(t testing.TB, rep *verify.Report) {
	t.Helper()
	for _, c := range rep.Checks {
		if c.Verdict != verify.Matches {
			t.Errorf("%s %+v: %s %v", c.ID, c.Subject, c.Verdict, c.Reason)
		}
	}
	if rep.Verdict != verify.Matches {
		t.Fatalf("the package %s: %v", rep.Verdict, rep.Summary)
	}
}

func TestDepositAndPackage(t *testing.T) {
	w := newWorld(t)
	h := w.open(t)
	page := strings.Repeat("被诉侵权网页 ", 300_000) // four chunks of the vault
	e, final, err := h.Deposit(t.Context(), w.client, step(evidence.Digest{}, "打开网页", text("page.html", page), text("a.png", "png")), member.Events{})
	if err != nil {
		t.Fatal(err)
	}
	if final.Position != 1 || e.N != 1 || e.Place == nil || e.Place.Position != 1 {
		t.Fatalf("got %+v %+v", e, final)
	}
	bob, _ := testalliance.Signer("bob")
	w.net.EnrolKey(t, "m:bob", bob)
	for i := range 2 {
		if _, _, err := h.Deposit(t.Context(), w.client, step(e.Trail, fmt.Sprintf("步骤 %d", i+2), text("same.txt", "same")), member.Events{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := h.Authorise(t.Context(), w.client, e.Trail, bob.Public().KID(), evidence.RightRead|evidence.RightAppend, member.Events{}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := h.Deposit(t.Context(), w.client, step(e.Trail, "没有文件"), member.Events{}); err != nil {
		t.Fatal(err)
	}
	rep, _, packed := w.check(t, h, e.Trail)
	wantMatch(t, rep)
	if len(rep.Steps) != 5 || packed.Steps != 5 || len(packed.Withheld) != 0 || packed.NoObject != 0 || len(packed.Missing) != 0 {
		t.Fatalf("%d steps, %+v", len(rep.Steps), packed)
	}
	if last, ok, err := h.LastTrail(); err != nil || !ok || last != e.Trail {
		t.Fatalf("last trail %s %v %v", last, ok, err)
	}

	// Bob adds a step from a home of his own; his plaintext is not in alice's
	// package, and what he cannot open is not in his.
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	hb, err := member.Open(t.Context(), member.Config{Dir: t.TempDir(), Signer: bob, Identity: id, Recipient: id.Recipient(), Now: w.net.Now,
		Person: evidence.Person{Member: "m:bob", Assurance: 2, Commitment: evidence.SumSHA256([]byte("commitment m:bob")), Demo: true}})
	if err != nil {
		t.Fatal(err)
	}
	defer hb.Close()
	if _, _, err := hb.Deposit(t.Context(), w.net.Client(t, bob), step(e.Trail, "见证", text("b.txt", "bob's")), member.Events{}); err != nil {
		t.Fatal(err)
	}
	rep, _, packed = w.check(t, h, e.Trail)
	if rep.Verdict != verify.Undetermined || len(packed.Withheld) != 1 || packed.Withheld[0] != 6 {
		t.Fatalf("verdict %s, %+v", rep.Verdict, packed)
	}
	for _, c := range rep.Checks {
		if c.Verdict == verify.DoesNotMatch {
			t.Errorf("%+v", c)
		}
	}
}

// Nothing readable of what was deposited lies in the home.
func TestNothingInPlain(t *testing.T) {
	w := newWorld(t)
	h := w.open(t)
	st := step(evidence.Digest{}, "秘密步骤", text("secret.txt", "the secret content"))
	st.Note = "a private note"
	if _, _, err := h.Deposit(t.Context(), w.client, st, member.Events{}); err != nil {
		t.Fatal(err)
	}
	files := 0
	err := filepath.WalkDir(w.config.Dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files++
		data, err := os.ReadFile(path)
		for _, word := range []string{"secret", "秘密", "private note", "杭州"} {
			if bytes.Contains(data, []byte(word)) {
				t.Errorf("%s holds %q", path, word)
			}
		}
		return err
	})
	if err != nil || files < 6 {
		t.Fatal(files, err)
	}
}

// The process dies between signing and sending: here, every institution is
// down. The next run sends the same bytes.
func TestCrashBetweenSignAndSend(t *testing.T) {
	w := newWorld(t)
	h := w.open(t)
	first, _, err := h.Deposit(t.Context(), w.client, step(evidence.Digest{}, "一"), member.Events{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	signed, _, err := h.Deposit(ctx, w.client, step(first.Trail, "二", text("x", "x")), member.Events{Signed: func(*member.Entry) { cancel() }})
	if !errors.Is(err, context.Canceled) || signed == nil {
		t.Fatalf("got %v", err)
	}
	if w.net.Size() != 2 {
		t.Fatalf("the log has %d entries", w.net.Size())
	}
	_ = h.Close()

	h = w.open(t)
	pending, err := h.Pending()
	if err != nil || len(pending) != 1 || pending[0].Statement.Digest() != signed.Statement.Digest() {
		t.Fatalf("pending %+v %v", pending, err)
	}
	// A new step of the trail sends the old one first.
	third, final, err := h.Deposit(t.Context(), w.client, step(first.Trail, "三"), member.Events{})
	if err != nil {
		t.Fatal(err)
	}
	if final.Position != 3 || third.Statement.Prev != signed.Statement.Digest() {
		t.Fatalf("position %d, prev %s", final.Position, third.Statement.Prev)
	}
	if pending, err = h.Pending(); err != nil || len(pending) != 0 {
		t.Fatalf("pending %+v %v", pending, err)
	}
	rep, _, _ := w.check(t, h, first.Trail)
	wantMatch(t, rep)
}

// The answer is lost after the statement was registered: resending gives the
// same position, and the journal learns it.
func TestCrashAfterSend(t *testing.T) {
	w := newWorld(t)
	h := w.open(t)
	st := step(evidence.Digest{}, "一")
	st.NoWait = true
	e, final, err := h.Deposit(t.Context(), w.client, st, member.Events{})
	if err != nil || final != nil {
		t.Fatal(final, err)
	}
	if w.net.Size() != 2 {
		t.Fatalf("the log has %d entries", w.net.Size())
	}
	done, err := h.Resend(t.Context(), w.client, e.Trail, nil)
	if err != nil || len(done) != 1 || done[0].Place.Position != 1 {
		t.Fatalf("got %+v %v", done, err)
	}
	if w.net.Size() != 2 {
		t.Fatalf("resending made %d entries", w.net.Size())
	}
	rep, _, _ := w.check(t, h, e.Trail)
	wantMatch(t, rep)
}

// Processes that add to one trail at once: each handle has a lock of its own.
func TestTwoAtOnce(t *testing.T) {
	w := newWorld(t)
	first, _, err := w.open(t).Deposit(t.Context(), w.client, step(evidence.Digest{}, "一"), member.Events{})
	if err != nil {
		t.Fatal(err)
	}
	const n = 6
	var wg sync.WaitGroup
	errs := make([]error, n)
	for i := range n {
		h := w.open(t)
		wg.Go(func() {
			_, _, errs[i] = h.Deposit(t.Context(), w.client, step(first.Trail, fmt.Sprint("同时 ", i), text("f", fmt.Sprint(i))), member.Events{})
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	rep, _, packed := w.check(t, w.open(t), first.Trail)
	wantMatch(t, rep)
	if packed.Steps != n+1 {
		t.Fatalf("%d steps", packed.Steps)
	}
}

// A full disk while a file is kept: nothing was signed, nothing was sent, and
// the next deposit works.
func TestDiskFull(t *testing.T) {
	w := newWorld(t)
	h := w.open(t)
	broken := member.Source{Name: "big", Size: -1, Open: func() (io.ReadCloser, error) {
		return io.NopCloser(io.MultiReader(strings.NewReader("some"), failing{syscall.ENOSPC})), nil
	}}
	_, _, err := h.Deposit(t.Context(), w.client, step(evidence.Digest{}, "一", text("ok", "ok"), broken), member.Events{})
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "big") {
		t.Fatalf("got %v", err)
	}
	trails, err := h.Trails()
	if err != nil || len(trails) != 0 || w.net.Size() != 1 {
		t.Fatalf("%d trails, %d entries, %v", len(trails), w.net.Size(), err)
	}
	if _, swept, err := h.Sweep(t.Context()); err != nil || !swept {
		t.Fatal(swept, err)
	}
	e, _, err := h.Deposit(t.Context(), w.client, step(evidence.Digest{}, "一", text("ok", "ok")), member.Events{})
	if err != nil {
		t.Fatal(err)
	}
	rep, _, _ := w.check(t, h, e.Trail)
	wantMatch(t, rep)
}

// A vault on a file system that really is full.
func TestVaultOnFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("cannot mount: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	w := newWorld(t)
	w.config.Dir = dir
	h := w.open(t)
	t.Cleanup(func() { _ = h.Close() })
	_, _, err := h.Deposit(t.Context(), w.client, step(evidence.Digest{}, "一", text("big", strings.Repeat("x", 3<<20))), member.Events{})
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("got %v", err)
	}
	if w.net.Size() != 1 {
		t.Fatal("something was sent")
	}
	if _, _, err := h.Deposit(t.Context(), w.client, step(evidence.Digest{}, "一", text("small", "x")), member.Events{}); err != nil {
		t.Fatalf("a deposit that fits: %v", err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// A statement that the rules refuse is set aside and blocks nothing.
func TestRefusedIsSetAside(t *testing.T) {
	w := newWorld(t)
	h := w.open(t)
	first, _, err := h.Deposit(t.Context(), w.client, step(evidence.Digest{}, "一"), member.Events{})
	if err != nil {
		t.Fatal(err)
	}
	refuse := clienttest.Twist{Submit: func(all [][]byte) ([]chain.Outcome, error) {
		return []chain.Outcome{{Digest: evidence.SumSHA256(all[0]), Code: evidence.CodeClockAhead, Reason: "the clock"}}, nil
	}}
	for _, n := range w.net.Nodes {
		n.Twist(refuse)
	}
	_, _, err = h.Deposit(t.Context(), w.client, step(first.Trail, "二"), member.Events{})
	var p *client.Problem
	if !errors.As(err, &p) || p.Code != "clock-ahead" {
		t.Fatalf("got %v", err)
	}
	for _, n := range w.net.Nodes {
		n.Twist(clienttest.Twist{})
	}
	entries, err := h.Entries(first.Trail)
	if err != nil || len(entries) != 2 || entries[1].Refused == nil || entries[1].Refused.Code != "clock-ahead" {
		t.Fatalf("%+v %v", entries, err)
	}
	third, _, err := h.Deposit(t.Context(), w.client, step(first.Trail, "三"), member.Events{})
	if err != nil {
		t.Fatal(err)
	}
	if third.Statement.Prev != first.Statement.Digest() {
		t.Fatal("the refused statement is in the chain")
	}
	rep, _, _ := w.check(t, h, first.Trail)
	wantMatch(t, rep)
}

// Someone else's trail cannot be continued, and nothing is signed for it.
func TestForeignTrail(t *testing.T) {
	w := newWorld(t)
	mine, _, err := w.open(t).Deposit(t.Context(), w.client, step(evidence.Digest{}, "一"), member.Events{})
	if err != nil {
		t.Fatal(err)
	}
	bob, _ := testalliance.Signer("bob")
	w.net.EnrolKey(t, "m:bob", bob)
	other := w.config
	other.Dir, other.Signer, other.Person.Member = t.TempDir(), bob, "m:bob"
	hb, err := member.Open(t.Context(), other)
	if err != nil {
		t.Fatal(err)
	}
	defer hb.Close()
	_, _, err = hb.Deposit(t.Context(), w.net.Client(t, bob), step(mine.Trail, "入侵"), member.Events{})
	var p *client.Problem
	if !errors.As(err, &p) || p.Code != "forbidden" {
		t.Fatalf("got %v", err)
	}
	if pending, err := hb.Pending(); err != nil || len(pending) != 0 {
		t.Fatal(pending, err)
	}
}

// Damage in the journal is named, not skipped.
func TestDamagedJournal(t *testing.T) {
	w := newWorld(t)
	h := w.open(t)
	e, _, err := h.Deposit(t.Context(), w.client, step(evidence.Digest{}, "一"), member.Events{})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(w.config.Dir, "journal", e.Trail.String(), "000001.cose")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data[:len(data)-1], 0o600); err != nil {
		t.Fatal(err)
	}
	var damaged *member.DamagedError
	if _, err := h.Entries(e.Trail); !errors.As(err, &damaged) || damaged.Path != path {
		t.Fatalf("got %v", err)
	}
}
