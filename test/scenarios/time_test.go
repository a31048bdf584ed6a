package scenarios

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/evidence/rfc3161"
	"github.com/zhenglian/zhenglian/internal/local"
)

// stampOf is a node's answer about the token over a position's checkpoint.
type stampOf struct {
	Size   *uint64 `json:"size"`
	Tokens []struct {
		Authority string `json:"authority"`
		Token     []byte `json:"token"`
	} `json:"tokens"`
}

func (w *world) stamp(n *local.Node, position uint64) (s stampOf) {
	a := w.send(http.MethodGet, fmt.Sprintf("%s/api/v1/positions/%d/timestamp", n.API, position), "", nil)
	if a.err == nil && a.status == http.StatusOK {
		_ = json.Unmarshal(a.body, &s) // an answer that is none has no token
	}
	return s
}

// stamped waits until a node has a token that covers the position.
func (w *world) stamped(n *local.Node, position uint64) (s stampOf) {
	w.Helper()
	w.eventually(fmt.Sprintf("a token of position %d at %s", position, n.ID), func() error {
		if s = w.stamp(n, position); s.Size == nil || len(s.Tokens) == 0 {
			return errors.New("there is none")
		}
		return nil
	})
	return s
}

// tsaOf is what a node's status says of tokens and of its own authority.
type tsaOf struct {
	Timestamps *struct {
		Size, Backlog, Failures uint64
		LastError               string `json:"last_error"`
	} `json:"timestamps"`
	TSA *struct {
		Ready             bool
		Demonstration     bool
		Entries           uint64
		Reason            string
		ClockErrorSeconds *float64 `json:"clock_error_seconds"`
	} `json:"tsa"`
}

func (w *world) tsaStatus(n *local.Node) (s tsaOf) {
	w.Helper()
	a := w.asInstitution(n, "/api/v1/status")
	if a.err == nil {
		a.err = json.Unmarshal(a.body, &s)
	}
	w.must(a.err)
	return s
}

// A node that lost its index has its tokens from its own file, and one that lost
// that too has them from the others.
func TestTokensComeBack(t *testing.T) {
	w := newWorld(t, worldConfig{tsa: "ca"})
	first := w.deposit(w.node("notary"), w.open(w.members[0]))
	w.stamped(w.node("ca"), first)
	second := w.deposit(w.node("court"), w.open(w.members[1]))
	notary := w.node("notary")
	before := map[uint64]stampOf{first: w.stamped(notary, first), second: w.stamped(notary, second)}
	for _, lost := range [][]string{{"index"}, {"index", "tokens"}} {
		w.must(notary.Stop())
		for _, name := range lost {
			w.must(os.RemoveAll(filepath.Join(notary.Home, "data", name)))
		}
		w.must(notary.Start(w.ctx))
		w.must(notary.WaitReady(w.ctx))
		for position, was := range before {
			w.eventually(fmt.Sprintf("the token of position %d, after %v was lost", position, lost), func() error {
				now := w.stamp(notary, position)
				switch {
				case now.Size == nil:
					return errors.New("there is none")
				case len(lost) == 1 && !bytes.Equal(now.Tokens[0].Token, was.Tokens[0].Token):
					return errors.New("it is another")
				case *now.Size > *was.Size:
					return fmt.Errorf("it is over size %d, was over %d", *now.Size, *was.Size)
				}
				return nil
			})
			// What the others have may have been asked for by them, over the same.
			w.judged(w.stamp(notary, position), rfc3161.DemonstrationPolicy, "unspecified")
		}
	}
	w.check()
}

// A damaged register turns the authority off and nothing else; the operator is
// told what to do, does it, and tokens are given again.
func TestDamagedRegister(t *testing.T) {
	w := newWorld(t, worldConfig{tsa: "ca"})
	ca := w.node("ca")
	for i := range 3 {
		w.stamped(ca, w.deposit(w.node("court"), w.open(w.members[i%2])))
	}
	register := filepath.Join(ca.Home, "tsa", "register")
	w.must(ca.Stop())
	whole, err := os.ReadFile(register)
	w.must(err)
	w.must(flip(register, int64(bytes.IndexByte(whole, '\n')+30))) // in the first entry
	w.must(ca.Start(w.ctx))
	w.must(ca.WaitReady(w.ctx))
	position := w.deposit(ca, w.open(w.members[0]))
	st := w.tsaStatus(ca)
	if st.TSA == nil || st.TSA.Ready || !strings.Contains(st.TSA.Reason, "--restart") {
		t.Fatalf("%+v", st.TSA)
	}
	if log := ca.LogTail(1000); !strings.Contains(log, "register is damaged") || !strings.Contains(log, "tsa register --restart") {
		t.Errorf("the log does not say what to do:\n%s", log)
	}
	a := w.send(http.MethodPost, ca.API+"/tsa", "application/timestamp-query", []byte("any"))
	if a.status != http.StatusOK || a.header.Get("Content-Type") != "application/timestamp-reply" || !bytes.Contains(a.body, []byte("register of this authority is damaged")) {
		t.Errorf("the authority answers %v", a)
	}
	w.eventually("the backlog in the status", func() error {
		if st := w.tsaStatus(ca); st.Timestamps == nil || st.Timestamps.Backlog == 0 || st.Timestamps.Failures == 0 || st.Timestamps.LastError == "" {
			return fmt.Errorf("%+v", st.Timestamps)
		}
		return nil
	})
	if _, err := local.Run(w.ctx, program, nil, "institution", "tsa", "register", "--home", ca.Home); err == nil || !strings.Contains(err.Error(), "--restart") {
		t.Errorf("looking at the register: %v", err)
	}
	w.must(ca.Stop())
	out, err := local.Run(w.ctx, program, nil, "institution", "tsa", "register", "--home", ca.Home, "--restart")
	w.must(err)
	if kept, _ := filepath.Glob(register + ".damaged-*"); len(kept) != 1 || !strings.Contains(out, kept[0]) {
		t.Errorf("%v: %s", kept, out)
	}
	w.must(ca.Start(w.ctx))
	w.must(ca.WaitReady(w.ctx))
	w.stamped(ca, position)
	w.eventually("no backlog", func() error {
		if st := w.tsaStatus(ca); !st.TSA.Ready || st.TSA.Entries == 0 || st.Timestamps.Backlog != 0 {
			return fmt.Errorf("%+v %+v", st.TSA, st.Timestamps)
		}
		return nil
	})
	w.check()
}

// ntpServers answer on addresses of a host apart, all with one offset.
type ntpServers struct {
	mu     sync.Mutex
	offset time.Duration
	conns  []*net.UDPConn
	done   sync.WaitGroup
}

func (s *ntpServers) set(offset time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.offset = offset
}

func (s *ntpServers) serve(address string) error {
	a, err := net.ResolveUDPAddr("udp", address)
	if err != nil {
		return err
	}
	c, err := net.ListenUDP("udp", a)
	if err != nil {
		return err
	}
	s.conns = append(s.conns, c)
	s.done.Go(func() {
		buf := make([]byte, 512)
		for {
			n, from, err := c.ReadFromUDP(buf)
			if err != nil {
				return
			}
			if n >= 48 {
				_, _ = c.WriteToUDP(s.answer(buf[:48]), from) // one that is lost is asked for again
			}
		}
	})
	return nil
}

// answer is RFC 5905 §7.3: server mode, stratum 1, reference GPS.
func (s *ntpServers) answer(query []byte) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := func() uint64 {
		t := time.Now().Add(s.offset)
		return uint64(t.Unix()+2208988800)<<32 | uint64(t.Nanosecond())<<32/1e9
	}
	out := make([]byte, 48)
	out[0], out[1], out[2], out[3] = 4<<3|4, 1, query[2], 0xec // version 4, mode 4; precision 2^-20
	copy(out[12:], "GPS\x00")
	binary.BigEndian.PutUint64(out[16:], at())
	copy(out[24:32], query[40:48])
	binary.BigEndian.PutUint64(out[32:], at())
	binary.BigEndian.PutUint64(out[40:], at())
	return out
}

func (s *ntpServers) close() {
	for _, c := range s.conns {
		_ = c.Close()
	}
	s.done.Wait()
}

const (
	// apartVariable makes this program the part of TestRealAuthority that runs on
	// the host apart; it holds the NTP servers' addresses.
	apartVariable = "ZHENGLIAN_TIME_SOURCES"
	apartSpace    = "zhenglian-time"
	apartHost     = "10.123.77.2"
)

// TestRealAuthority runs an alliance whose CA has a real authority, no
// demonstration's, in a network namespace of its own: to it the NTP servers of
// this process are another host's, as they must be. It needs root and iproute2.
//
//	this process: NTP servers on 10.123.77.1, .3, .4 ══ veth ══ namespace: four nodes
func TestRealAuthority(t *testing.T) {
	if sources := os.Getenv(apartVariable); sources != "" {
		realAuthority(t, strings.Split(sources, ","))
		return
	}
	if os.Getuid() != 0 {
		t.Skip("a network namespace takes root")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("iproute2 is not installed")
	}
	ip := func(args ...string) error {
		out, err := exec.Command("ip", args...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
		}
		return nil
	}
	if err := ip("netns", "add", apartSpace); err != nil {
		t.Skipf("no network namespace is to be had here: %v", err)
	}
	t.Cleanup(func() {
		if err := ip("netns", "del", apartSpace); err != nil {
			t.Error(err)
		}
	})
	for _, args := range []string{
		"link add zltime0 type veth peer name zltime1 netns " + apartSpace,
		"addr add 10.123.77.1/24 dev zltime0", "addr add 10.123.77.3/24 dev zltime0", "addr add 10.123.77.4/24 dev zltime0", "link set zltime0 up",
		"-n " + apartSpace + " addr add " + apartHost + "/24 dev zltime1", "-n " + apartSpace + " link set zltime1 up", "-n " + apartSpace + " link set lo up",
	} {
		if err := ip(strings.Fields(args)...); err != nil {
			t.Skipf("no link between two hosts is to be had here: %v", err)
		}
	}
	servers := &ntpServers{}
	defer servers.close()
	var sources []string
	for _, host := range []string{"10.123.77.1", "10.123.77.3", "10.123.77.4"} {
		if err := servers.serve(host + ":11123"); err != nil {
			t.Fatal(err)
		}
		sources = append(sources, host+":11123")
	}
	// The test in the namespace says when the true time is to be another.
	control, err := net.Listen("tcp", "10.123.77.1:11124")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	web := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d, err := time.ParseDuration(r.URL.Query().Get("offset"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		servers.set(d)
	}), ReadHeaderTimeout: time.Minute}
	serving.Go(func() { _ = web.Serve(control) })
	defer func() {
		_ = web.Close()
		serving.Wait()
	}()
	cmd := exec.CommandContext(t.Context(), "ip", "netns", "exec", apartSpace, os.Args[0], "-test.run=^TestRealAuthority$", "-test.v", "-test.timeout=5m")
	cmd.Env = append(os.Environ(), apartVariable+"="+strings.Join(sources, ","), "ZHENGLIAN_BINARY="+program)
	out, err := cmd.CombinedOutput()
	t.Logf("on the host apart:\n%s", out)
	if err != nil || !bytes.Contains(out, []byte("--- PASS: TestRealAuthority")) {
		t.Fatalf("the host apart: %v", err)
	}
}

// realPolicyOID is the institution's own, outside the arc for examples.
const realPolicyOID = "1.3.6.1.4.1.99999.1"

func realAuthority(t *testing.T, sources []string) {
	var file, api string
	w := newWorld(t, worldConfig{prepare: func(a *local.Alliance) {
		ca := a.Node("ca")
		if _, err := local.Run(t.Context(), program, nil, "institution", "tsa", "--home", ca.Home); err != nil {
			t.Fatal(err)
		}
		file, api = filepath.Join(ca.Home, "tsa", "authority.json"), ca.API
		configure(t, ca, sources)
		for _, n := range a.Nodes {
			configureAsking(t, n, api+"/tsa", file)
		}
	}})
	ca := w.node("ca")
	offset := func(d time.Duration) {
		w.Helper()
		if a := w.send(http.MethodPost, fmt.Sprintf("http://10.123.77.1:11124/?offset=%s", d), "", nil); a.status != http.StatusOK {
			t.Fatal(a)
		}
	}
	first := w.deposit(w.node("court"), w.open(w.members[0]))
	token := w.stamped(w.node("court"), first)
	st := w.tsaStatus(ca)
	if st.TSA == nil || !st.TSA.Ready || st.TSA.Demonstration || st.TSA.ClockErrorSeconds == nil || *st.TSA.ClockErrorSeconds > 1 {
		t.Fatalf("%+v", st.TSA)
	}
	w.judged(token, realPolicyOID, "0x01 seconds")

	// An attacker sets the host's clock back by an hour: to the authority that is
	// the same as servers that are an hour ahead of it. It finds out at its next
	// measurement, here after a start, and signs nothing.
	for _, away := range []time.Duration{time.Hour, -time.Hour} {
		offset(away)
		w.must(ca.Stop())
		w.must(ca.Start(w.ctx))
		w.must(ca.WaitReady(w.ctx))
		w.eventually("the authority's refusal", func() error {
			if st := w.tsaStatus(ca); st.TSA == nil || st.TSA.Ready || st.TSA.ClockErrorSeconds == nil || *st.TSA.ClockErrorSeconds < 3599 {
				return fmt.Errorf("%+v", st.TSA)
			}
			return nil
		})
		entries := w.tsaStatus(ca).TSA.Entries
		position := w.deposit(w.node("court"), w.open(w.members[1]))
		w.eventually("a round in which no authority gave a token", func() error {
			if st := w.tsaStatus(w.node("court")); st.Timestamps.Backlog == 0 || !strings.Contains(st.Timestamps.LastError, "timeNotAvailable") {
				return fmt.Errorf("%+v", st.Timestamps)
			}
			return nil
		})
		if s := w.stamp(w.node("court"), position); s.Size != nil {
			t.Errorf("a token while the clock is off by %s: %+v", away, s)
		}
		if st := w.tsaStatus(ca); st.TSA.Entries != entries {
			t.Errorf("the register has %d entries, had %d", st.TSA.Entries, entries)
		}
		// The clock is right again: what waited gets its token.
		offset(0)
		w.must(ca.Stop())
		w.must(ca.Start(w.ctx))
		w.must(ca.WaitReady(w.ctx))
		w.judged(w.stamped(w.node("court"), position), realPolicyOID, "0x01 seconds")
	}
	w.check()
}

// configure enables a real authority in a node's settings.
func configure(t *testing.T, n *local.Node, sources []string) {
	t.Helper()
	edit(t, n, "[tsa]", "enabled = true", "policy = \""+realPolicyOID+"\"", "sources = [\""+strings.Join(sources, "\", \"")+"\"]")
}

func configureAsking(t *testing.T, n *local.Node, url, file string) {
	t.Helper()
	edit(t, n, "[timestamps]", fmt.Sprintf("authorities = [{ url = %q, file = %q }]", url, file))
}

// edit replaces settings of a section of node.toml.
func edit(t *testing.T, n *local.Node, section string, settings ...string) {
	t.Helper()
	path := filepath.Join(n.Home, "node.toml")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(data), "\n")
	in := false
	done := map[string]bool{}
	for i, line := range lines {
		if strings.HasPrefix(line, "[") {
			in = line == section
		}
		for _, s := range settings {
			if name, _, _ := strings.Cut(s, " = "); in && strings.HasPrefix(line, name+" = ") {
				lines[i], done[s] = s, true
			}
		}
	}
	if len(done) != len(settings) {
		t.Fatalf("%s has not all of %v in %s", path, settings, section)
	}
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
}

// judged has OpenSSL check a token over a checkpoint, and read its policy and
// accuracy.
func (w *world) judged(s stampOf, policy, accuracy string) {
	w.Helper()
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		w.Skip("openssl is not installed")
	}
	a := w.send(http.MethodGet, fmt.Sprintf("%s/api/v1/checkpoints/%d", w.node("court").API, *s.Size), "", nil)
	lines := bytes.SplitAfterN(a.body, []byte("\n"), 4)
	if a.status != http.StatusOK || len(lines) != 4 {
		w.Fatalf("no checkpoint of size %d: %v", *s.Size, a)
	}
	dir := w.TempDir()
	body, token := filepath.Join(dir, "body"), filepath.Join(dir, "token")
	w.must(os.WriteFile(body, bytes.Join(lines[:3], nil), 0o600))
	w.must(os.WriteFile(token, s.Tokens[0].Token, 0o600))
	out, err := exec.Command(openssl, "ts", "-verify", "-data", body, "-in", token, "-token_in", "-CAfile", filepath.Join(w.node("ca").Home, "tsa", "root.pem")).CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("OK")) {
		w.Errorf("openssl ts -verify: %v\n%s", err, out)
	}
	text, err := exec.Command(openssl, "ts", "-reply", "-in", token, "-token_in", "-text").CombinedOutput()
	w.must(err)
	if !bytes.Contains(text, []byte("Policy OID: "+policy)) || !bytes.Contains(text, []byte("Accuracy: "+accuracy)) {
		w.Errorf("the token says:\n%s", text)
	}
}
