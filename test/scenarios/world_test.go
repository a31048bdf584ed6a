package scenarios

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/emmansun/gmsm/sm2"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/institution"
	"github.com/zhenglian/zhenglian/internal/local"
)

// program is the zhenglian binary under test, built once for all scenarios.
var program string

func TestMain(m *testing.M) {
	if home := os.Getenv(enrolAs); home != "" {
		if err := printEnrolment(home); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if program = os.Getenv("ZHENGLIAN_BINARY"); program != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "zhenglian-scenarios-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	program = filepath.Join(dir, "zhenglian")
	if out, err := exec.Command("go", "build", "-o", program, "github.com/zhenglian/zhenglian/cmd/zhenglian").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building the program: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// world is one alliance of processes with the actors around it: members who
// deposit, and what was promised to them.
type world struct {
	*testing.T
	ctx     context.Context
	a       *local.Alliance
	http    *http.Client
	ca      *institution.Home // the one institution whose keys this process holds
	caKey   evidence.Signer
	members []*member
	done    *promises
	checker *Checker
}

type member struct {
	id     string
	signer evidence.Signer
}

// patience is how long a condition may take on a busy machine.
const patience = 90 * time.Second

type worldConfig struct {
	ids []string // institution ids; their kind is the part before the dash
	env []string
	tsa string // id of the one that runs a demonstration's timestamp authority; empty: none
	// prepare runs between founding and the first start.
	prepare func(a *local.Alliance)
}

var four = []string{"ca", "court", "forensic", "notary"}

func kindOf(id string) evidence.InstitutionKind {
	kind, _, _ := strings.Cut(id, "-")
	return evidence.InstitutionKind(kind)
}

// newWorld founds and starts an alliance, and enrols two members. It ends with
// the test; when that failed, the nodes' last lines are shown.
func newWorld(t *testing.T, c worldConfig) *world {
	t.Helper()
	if c.ids == nil {
		c.ids = four
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	t.Cleanup(cancel)
	var specs []local.Spec
	for _, id := range c.ids {
		specs = append(specs, local.Spec{ID: id, Name: id, Kind: kindOf(id)})
	}
	a, err := local.New(ctx, local.Config{Binary: program, Dir: t.TempDir(), Name: "scenarios", Slug: "scenarios", Institutions: specs, Env: c.env, TSA: c.tsa})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{T: t, ctx: ctx, a: a, done: newPromises(), http: &http.Client{Timeout: patience, Transport: &http.Transport{MaxIdleConnsPerHost: 16}},
		checker: &Checker{Alliance: a.Alliance, Nodes: map[string]string{}}}
	w.checker.HTTP = w.http
	for _, n := range a.Nodes {
		w.checker.Nodes[n.ID] = n.API
	}
	if c.prepare != nil {
		c.prepare(a)
	}
	t.Cleanup(w.end)
	if err := a.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if w.ca, err = institution.Open(w.node("ca").Home, evidence.UseStatement, evidence.UseTLS); err != nil {
		t.Fatal(err)
	}
	w.caKey = w.ca.Key(evidence.UseStatement)
	w.members = []*member{w.enrol("m:alice", evidence.EdDSA), w.enrol("m:bob", evidence.EdDSA)}
	return w
}

func (w *world) end() {
	w.http.CloseIdleConnections()
	if err := w.a.Stop(); err != nil && !w.Failed() {
		w.Errorf("stopping: %v", err)
	}
	for _, n := range w.a.Nodes {
		log, err := os.ReadFile(n.LogFile)
		if err != nil {
			continue
		}
		if i := bytes.Index(log, []byte("panic: ")); i >= 0 {
			w.Errorf("%s panicked: %.2000s", n.ID, log[i:])
		}
		if w.Failed() {
			w.Logf("last lines of %s:\n%s", n.ID, n.LogTail(25))
		}
	}
}

func (w *world) node(id string) *local.Node {
	n := w.a.Node(id)
	if n == nil {
		w.Fatalf("there is no institution %q", id)
	}
	return n
}

// must fails the test on an error.
func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// eventually waits until the condition holds. It says what for when it never
// does.
func (w *world) eventually(what string, holds func() error) {
	w.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := holds()
		if err == nil {
			return
		}
		if time.Now().After(deadline) || w.ctx.Err() != nil {
			w.dump()
			w.Fatalf("waited in vain for %s: %v", what, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// logsVariable names a directory that gets the nodes' whole logs, with the
// stacks of all their goroutines, when waiting was in vain.
const logsVariable = "ZHENGLIAN_SCENARIO_LOGS"

func (w *world) dump() {
	dir := os.Getenv(logsVariable)
	if dir == "" {
		return
	}
	for _, n := range w.a.Nodes {
		if pid := n.PID(); pid != 0 {
			_ = syscall.Kill(pid, syscall.SIGQUIT) // the Go runtime prints the stacks and ends
			_ = n.Stop()                           // waits for that
		}
		text, err := os.ReadFile(n.LogFile)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, n.ID+".log"), text, 0o600)
		}
		if err != nil {
			w.Log(err)
		}
	}
}

// check waits until the alliance has settled and asserts the invariant.
func (w *world) check() uint64 {
	w.Helper()
	acks, accepted := w.done.list()
	highest := uint64(0)
	for _, a := range acks {
		highest = max(highest, a.Position+1)
	}
	ctx, cancel := context.WithTimeout(w.ctx, patience)
	defer cancel()
	size, err := w.checker.Await(ctx, max(highest, uint64(len(accepted))))
	w.must(err)
	w.must(w.checker.Check(ctx, acks, accepted))
	w.Logf("the invariant holds: %d acknowledged, %d accepted, %d entries, %d nodes", len(acks), len(accepted), size, len(w.a.Nodes))
	return size
}

func newSigner(t testing.TB, alg evidence.Algorithm) evidence.Signer {
	t.Helper()
	var s evidence.Signer
	var err error
	switch alg {
	case evidence.ES256:
		k, kerr := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if kerr != nil {
			t.Fatal(kerr)
		}
		s, err = evidence.NewSigner(k)
	case evidence.SM2SM3:
		k, kerr := sm2.GenerateKey(rand.Reader)
		if kerr != nil {
			t.Fatal(kerr)
		}
		s, err = evidence.NewSigner(k)
	default:
		_, k, kerr := ed25519.GenerateKey(rand.Reader)
		if kerr != nil {
			t.Fatal(kerr)
		}
		s, err = evidence.NewSigner(k)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// enrol gives a new member a key of this algorithm, by a statement of the CA.
func (w *world) enrol(id string, alg evidence.Algorithm) *member {
	w.Helper()
	m := &member{id, newSigner(w, alg)}
	w.deposit(w.node("ca"), w.enrolment(m))
	return m
}

func (w *world) enrolment(m *member) []byte {
	w.Helper()
	e := evidence.Enrolment{Member: m.id, Key: m.signer.Public(), Kind: evidence.KindPerson, Demo: true}
	return w.sign(w.caKey, evidence.Statement{Issuer: "ca", Subject: evidence.SubjectRegistry, IssuedAt: time.Now().Unix(),
		ContentType: evidence.TypeEnrolment, Payload: e.Encode()})
}

func (w *world) sign(key evidence.Signer, s evidence.Statement) []byte {
	w.Helper()
	st, err := s.Sign(key)
	w.must(err)
	return st.Bytes()
}

// opening makes the opening statement of a new trail over a random digest: the
// chain never sees what it is of.
func (m *member) opening(after evidence.Checkpoint) (*evidence.Statement, error) {
	var payload, sm3 evidence.Digest
	_, _ = rand.Read(payload[:])
	_, _ = rand.Read(sm3[:])
	return evidence.Statement{Issuer: m.id, Subject: evidence.SubjectNewTrail, IssuedAt: time.Now().Unix(), ContentType: evidence.TypeDeposit,
		Payload: payload[:], After: after, ManifestSM3: sm3}.Sign(m.signer)
}

// open is opening with the present checkpoint.
func (w *world) open(m *member) []byte {
	w.Helper()
	st, err := m.opening(w.checkpoint())
	w.must(err)
	return st.Bytes()
}

// checkpoint returns one that some node serves now.
func (w *world) checkpoint() evidence.Checkpoint {
	w.Helper()
	var cp evidence.Checkpoint
	w.eventually("a checkpoint", func() error {
		var err error
		for _, n := range w.a.Nodes {
			if n.PID() == 0 {
				continue
			}
			var c *evidence.CosignedCheckpoint
			if c, err = w.checker.checkpoint(w.ctx, n.ID); err == nil {
				cp = c.Checkpoint
				return nil
			}
		}
		return err
	})
	return cp
}

// answer is a node's answer to a deposit, good or bad.
type answer struct {
	status  int
	header  http.Header
	body    []byte
	err     error
	Code    string `json:"code"`
	Field   string `json:"field"`
	Detail  string `json:"detail"`
	Digest  string `json:"digest"`
	Entry   string `json:"entry"`
	Place   *int64 `json:"position"`
	Final   bool   `json:"final"`
	Retry   int    `json:"retry_after"`
	Request string `json:"request"`
}

func (a *answer) String() string {
	if a.err != nil {
		return a.err.Error()
	}
	return fmt.Sprintf("%d %s", a.status, bytes.TrimSpace(a.body))
}

// send makes a request; the answer's err is set when there was none.
func (w *world) send(method, url, contentType string, body []byte) *answer {
	req, err := http.NewRequestWithContext(w.ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return &answer{err: err}
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	return w.do(req)
}

func (w *world) do(req *http.Request) *answer {
	resp, err := w.http.Do(req)
	if err != nil {
		return &answer{err: err}
	}
	defer func() { _ = resp.Body.Close() }()
	a := &answer{status: resp.StatusCode, header: resp.Header}
	if a.body, a.err = io.ReadAll(resp.Body); a.err == nil {
		_ = json.Unmarshal(a.body, a) // not every answer is JSON
	}
	return a
}

const typeCOSE = "application/cose"

// try submits one statement and waits for finality.
func (w *world) try(n *local.Node, statement []byte) *answer {
	return w.send(http.MethodPost, n.API+"/api/v1/statements?wait=final", typeCOSE, statement)
}

// deposit submits a statement, expects it to be registered and final, and notes
// the promise. It returns its position.
func (w *world) deposit(n *local.Node, statement []byte) uint64 {
	w.Helper()
	a := w.try(n, statement)
	if a.status/100 != 2 || !a.Final || a.Place == nil {
		w.Fatalf("%s answers a deposit with %v", n.ID, a)
	}
	entry := a.Digest
	if a.Entry != "" {
		entry = a.Entry
	}
	d, err := evidence.ParseDigest(entry)
	w.must(err)
	w.must(w.done.final(Ack{d, uint64(*a.Place)}))
	return uint64(*a.Place)
}

// refused expects a statement to be refused with this status and code, by a
// node that then still works.
func (w *world) refused(n *local.Node, statement []byte, status int, code evidence.Code, field string) {
	w.Helper()
	a := w.try(n, statement)
	if a.status != status || a.Code != code.String() || field != "" && a.Field != field {
		w.Errorf("want %d %s %s; %s answers %v", status, code, field, n.ID, a)
	}
}

// line of the answer to a batch.
type line struct {
	N        int             `json:"n"`
	End      bool            `json:"end"`
	Complete bool            `json:"complete"`
	Status   int             `json:"status"`
	Code     string          `json:"code"`
	Field    string          `json:"field"`
	Detail   string          `json:"detail"`
	Digest   evidence.Digest `json:"digest"`
	Entry    evidence.Digest `json:"entry"`
	Position *uint64         `json:"position"`
	Final    bool            `json:"final"`
	Retry    int             `json:"retry_after"`
}

// batch posts statements in one request. It notes what was promised, whatever
// came after; the error says why not everything was.
func (w *world) batch(ctx context.Context, n *local.Node, wait string, statements [][]byte) (lines []line, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, n.API+"/api/v1/batches?wait="+wait, bytes.NewReader(bytes.Join(statements, nil)))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/cbor-seq")
	resp, err := w.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 2048))
		return nil, fmt.Errorf("%s answers %d: %s", n.ID, resp.StatusCode, bytes.TrimSpace(text))
	}
	scan := bufio.NewScanner(resp.Body)
	scan.Buffer(nil, 64<<10)
	for scan.Scan() {
		var l line
		if err := json.Unmarshal(scan.Bytes(), &l); err != nil {
			return lines, err
		}
		lines = append(lines, l)
		if l.End {
			if !l.Complete {
				return lines, fmt.Errorf("%s broke off: %s", n.ID, l.Code)
			}
			return lines, nil
		}
		entry := l.Digest
		if !l.Entry.IsZero() {
			entry = l.Entry
		}
		switch {
		case l.Status/100 == 2 && l.Final && l.Position != nil:
			if err := w.done.final(Ack{entry, *l.Position}); err != nil {
				return lines, err
			}
		case l.Status/100 == 2:
			w.done.accepted(entry)
		}
	}
	if err := scan.Err(); err != nil {
		return lines, err
	}
	return lines, fmt.Errorf("%s: the answer has no end", n.ID)
}

func (w *world) digest(text string) evidence.Digest {
	w.Helper()
	d, err := evidence.ParseDigest(text)
	w.must(err)
	return d
}
