// Package bench measures deposits: a whole alliance of processes on this
// machine, driven over its public interface with individually signed
// statements, timed from submission until they are final.
//
//	local.New ─► N validators as processes
//	enrol keys (one CA's statements) ─► sign the statements beforehand
//	workers ─► POST /api/v1/batches, each to its own institution ─► outcomes
//	/proc, data directories ─► CPU, memory, bytes on disk ─► Result
//
// Final is design.md's one meaning: the block is committed and on disk on a
// quorum, and a quorum of institutions has signed a root that covers it. The
// node answers only then. The driver shares the machine with the validators
// and its CPU is reported beside theirs.
//
// Trusted: the validators' own word that a statement is final (test/scenarios
// proves that this word holds), and /proc. Whoever alters either can only make
// a figure wrong.
package bench

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/emmansun/gmsm/sm2"
	"golang.org/x/sync/errgroup"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/institution"
	"github.com/zhenglian/zhenglian/internal/local"
)

// Config of one measurement. Zero fields take the default beside them.
type Config struct {
	Binary     string             // the zhenglian program; required
	Dir        string             // for the alliance; required, removed by the caller
	Validators int                // 4
	Seconds    float64            // 10
	Keys       int                // 64
	Batch      int                // statements a request; 1000
	Workers    int                // requests at once; 32: fewer leave the validators waiting
	Rate       float64            // statements a second, open loop; 0: as fast as it goes
	Prepared   int                // statements signed beforehand; 0: enough for 60,000 a second
	Algorithm  evidence.Algorithm // EdDSA
	// Profile is a file for a CPU profile of the first validator; empty for none.
	Profile  string
	Progress func(format string, args ...any)
}

// Result of a measurement. Latencies are of statements, from the moment their
// request was due or sent until the line that says they are final arrived.
type Result struct {
	FinalisedPerSecond float64 `json:"finalised_per_second"`
	P50ms              float64 `json:"p50_ms"`
	P99ms              float64 `json:"p99_ms"`
	CPUMicros          float64 `json:"cpu_us_per_deposit_per_validator"`
	DiskBytes          float64 `json:"disk_bytes_per_deposit_per_validator"`
	PeakRSS            uint64  `json:"peak_rss_bytes"` // the largest validator's

	Finalised     uint64     `json:"finalised"`
	Refused       uint64     `json:"refused"`
	MeasuredFor   float64    `json:"measured_seconds"`
	DriverMicros  float64    `json:"driver_cpu_us_per_deposit"`
	StatementSize int        `json:"statement_bytes"`
	LoneP50ms     float64    `json:"lone_p50_ms"` // one deposit at a time on the idle alliance
	LoneP99ms     float64    `json:"lone_p99_ms"`
	Blocks        int64      `json:"blocks"`
	Conditions    Conditions `json:"conditions"`
}

// Conditions of a measurement.
type Conditions struct {
	Validators int     `json:"validators"`
	Keys       int     `json:"keys"`
	Batch      int     `json:"batch"`
	Workers    int     `json:"workers"`
	Rate       float64 `json:"rate"`
	Algorithm  string  `json:"algorithm"`
	Seconds    float64 `json:"seconds"`
	CPUs       int     `json:"cpus"`
	CPU        string  `json:"cpu"`
	Go         string  `json:"go"`
	LoadBefore string  `json:"load_average_before"`
}

func (c *Config) defaults() {
	set := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	set(&c.Validators, 4)
	set(&c.Keys, 64)
	set(&c.Batch, 1000)
	set(&c.Workers, 32)
	if c.Seconds == 0 {
		c.Seconds = 10
	}
	if c.Prepared == 0 {
		perSecond := 60_000.0
		if c.Rate > 0 {
			perSecond = c.Rate
		}
		if c.Algorithm != 0 && c.Algorithm != evidence.EdDSA {
			perSecond = min(perSecond, 15_000)
		}
		c.Prepared = int(perSecond * (c.Seconds + 1))
	}
	if c.Algorithm == 0 {
		c.Algorithm = evidence.EdDSA
	}
	if c.Progress == nil {
		c.Progress = func(string, ...any) {}
	}
}

// Deposit runs one measurement.
func Deposit(ctx context.Context, c Config) (*Result, error) {
	c.defaults()
	r := &Result{Conditions: Conditions{Validators: c.Validators, Keys: c.Keys, Batch: c.Batch, Workers: c.Workers, Rate: c.Rate,
		Algorithm: c.Algorithm.String(), Seconds: c.Seconds, CPUs: runtime.NumCPU(), CPU: cpuModel(), Go: runtime.Version(), LoadBefore: loadAverage()}}
	c.Progress("founding an alliance of %d", c.Validators)
	a, err := found(ctx, c)
	if err != nil {
		return nil, err
	}
	if err := a.Start(ctx); err != nil {
		return nil, err
	}
	defer func() { _ = a.Stop() }() // stopped again below, with its error
	d := &driver{c: c, a: a, http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: c.Workers + 1}}}
	if err := d.prepare(ctx); err != nil {
		return nil, err
	}
	r.StatementSize = len(d.statements[0])
	if err := d.lone(ctx, r); err != nil {
		return nil, err
	}
	if err := d.measure(ctx, r); err != nil {
		return nil, err
	}
	if err := a.Stop(); err != nil {
		return nil, err
	}
	// Only now has every node written what it held back in memory.
	size, err := d.disk()
	r.DiskBytes = float64(size-d.diskBefore) / float64(r.Finalised) / float64(c.Validators)
	return r, err
}

func found(ctx context.Context, c Config) (*local.Alliance, error) {
	kinds := []evidence.InstitutionKind{evidence.KindCA, evidence.KindCourt, evidence.KindNotary, evidence.KindForensic}
	var specs []local.Spec
	for i := range c.Validators {
		kind := evidence.KindOther
		if i < len(kinds) {
			kind = kinds[i]
		}
		id := fmt.Sprintf("%s-%d", kind, i)
		specs = append(specs, local.Spec{ID: id, Name: id, Kind: kind})
	}
	env := []string{"ZHENGLIAN_NODE_LOG_LEVEL=warn"}
	if c.Profile != "" {
		env = append(env, "ZHENGLIAN_PROFILE="+c.Profile)
	}
	return local.New(ctx, local.Config{Binary: c.Binary, Dir: c.Dir, Name: "bench", Slug: "bench", Institutions: specs, Env: env})
}

// driver is the load: it holds the members' keys and one CA's statement key.
type driver struct {
	c          Config
	a          *local.Alliance
	http       *http.Client
	signers    []evidence.Signer
	statements [][]byte
	spare      [][]byte // for the lone deposits
	diskBefore int64
}

const loneDeposits = 50

// prepare enrols the keys and signs every statement, all before the clock runs.
func (d *driver) prepare(ctx context.Context) error {
	ca, err := institution.Open(d.a.Nodes[0].Home, evidence.UseStatement)
	if err != nil {
		return err
	}
	key := ca.Key(evidence.UseStatement)
	d.c.Progress("enrolling %d keys", d.c.Keys)
	enrolments := make([][]byte, d.c.Keys)
	d.signers = make([]evidence.Signer, d.c.Keys)
	now := time.Now().Unix()
	err = parallel(d.c.Keys, func(i int) error {
		s, err := newSigner(d.c.Algorithm)
		if err != nil {
			return err
		}
		d.signers[i] = s
		e := evidence.Enrolment{Member: member(i), Key: s.Public(), Kind: evidence.KindPlatform, Assurance: 0, Demo: true}
		st, err := evidence.Statement{Issuer: ca.ID(), Subject: evidence.SubjectRegistry, IssuedAt: now, ContentType: evidence.TypeEnrolment, Payload: e.Encode()}.Sign(key)
		if err != nil {
			return err
		}
		enrolments[i] = st.Bytes()
		return nil
	})
	if err != nil {
		return err
	}
	for at := 0; at < len(enrolments); at += d.c.Batch {
		if _, err := d.post(ctx, d.a.Nodes[0], enrolments[at:min(at+d.c.Batch, len(enrolments))]); err != nil {
			return fmt.Errorf("enrolling: %w", err)
		}
	}
	cp, err := d.checkpoint(ctx)
	if err != nil {
		return err
	}
	total := d.c.Prepared + loneDeposits
	d.c.Progress("signing %d statements beforehand", total)
	all := make([][]byte, total)
	err = parallel(total, func(i int) error {
		st, err := d.sign(i, cp)
		all[i] = st
		return err
	})
	d.statements, d.spare = all[:d.c.Prepared], all[d.c.Prepared:]
	return err
}

func member(i int) string { return fmt.Sprintf("m:%x", i) }

func newSigner(alg evidence.Algorithm) (evidence.Signer, error) {
	switch alg {
	case evidence.ES256:
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, err
		}
		return evidence.NewSigner(k)
	case evidence.SM2SM3:
		k, err := sm2.GenerateKey(rand.Reader)
		if err != nil {
			return nil, err
		}
		return evidence.NewSigner(k)
	}
	_, k, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	return evidence.NewSigner(k)
}

// sign makes the i-th deposit: an opening statement over a manifest digest that
// is nobody's, since the chain never sees manifests.
func (d *driver) sign(i int, cp evidence.Checkpoint) ([]byte, error) {
	var seed [16]byte
	binary.BigEndian.PutUint64(seed[:], uint64(i))
	binary.BigEndian.PutUint64(seed[8:], uint64(time.Now().UnixNano()))
	payload := evidence.SumSHA256(seed[:])
	k := i % len(d.signers)
	st, err := evidence.Statement{Issuer: member(k), Subject: evidence.SubjectNewTrail, IssuedAt: time.Now().Unix(), ContentType: evidence.TypeDeposit,
		Payload: payload[:], After: cp, ManifestSM3: payload}.Sign(d.signers[k])
	if err != nil {
		return nil, err
	}
	return st.Bytes(), nil
}

func parallel(n int, f func(int) error) error {
	var g errgroup.Group
	var next atomic.Int64
	for range runtime.NumCPU() {
		g.Go(func() error {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return nil
				}
				if err := f(i); err != nil {
					return err
				}
			}
		})
	}
	return g.Wait()
}

// checkpoint waits for one that every node knows.
func (d *driver) checkpoint(ctx context.Context) (evidence.Checkpoint, error) {
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.a.Nodes[0].API+"/checkpoint", nil)
		if err != nil {
			return evidence.Checkpoint{}, err
		}
		resp, err := d.http.Do(req)
		if err != nil {
			return evidence.Checkpoint{}, err
		}
		text, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err == nil && resp.StatusCode == http.StatusOK {
			if cp, err := evidence.ParseCheckpoint(text); err == nil && cp.Size >= uint64(d.c.Keys) {
				return cp.Checkpoint, nil
			}
		}
		select {
		case <-ctx.Done():
			return evidence.Checkpoint{}, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// line of a batch's answer.
type line struct {
	End      bool    `json:"end"`
	Code     string  `json:"code"`
	Reason   string  `json:"reason"`
	Position *uint64 `json:"position"`
	Final    bool    `json:"final"`
	Refused  int     `json:"refused"`
}

// post sends statements in one request and returns how many became final.
func (d *driver) post(ctx context.Context, n *local.Node, statements [][]byte) (final int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, n.API+"/api/v1/batches?wait=final", bytes.NewReader(bytes.Join(statements, nil)))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/cbor-seq")
	resp, err := d.http.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1024))
		return 0, fmt.Errorf("%s answers %d: %s", n.ID, resp.StatusCode, text)
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 64<<10)
	for lines.Scan() {
		// The driver shares the machine: a line that says final costs no decoding.
		if bytes.Contains(lines.Bytes(), []byte(`"final":true`)) {
			final++
			continue
		}
		var l line
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			return final, err
		}
		if !l.End && l.Code != "ok" || l.End && l.Code != "" {
			return final, fmt.Errorf("%s refuses: %s %s", n.ID, l.Code, l.Reason)
		}
	}
	return final, lines.Err()
}

// lone measures single deposits, one after the other, each to the next node.
func (d *driver) lone(ctx context.Context, r *Result) error {
	d.c.Progress("%d lone deposits", len(d.spare))
	var took []time.Duration
	for i, st := range d.spare {
		time.Sleep(20 * time.Millisecond) // the empty block after a full one is over
		start := time.Now()
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.a.Nodes[i%len(d.a.Nodes)].API+"/api/v1/statements?wait=final", bytes.NewReader(st))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/cose")
		resp, err := d.http.Do(req)
		if err != nil {
			return err
		}
		text, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || !bytes.Contains(text, []byte(`"final":true`)) {
			return fmt.Errorf("a lone deposit was answered %d: %s", resp.StatusCode, text)
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	r.LoneP50ms, r.LoneP99ms = quantile(took, 0.50), quantile(took, 0.99)
	return nil
}

// measure drives the prepared statements for the time asked.
func (d *driver) measure(ctx context.Context, r *Result) error {
	d.c.Progress("measuring for %g s", d.c.Seconds)
	before, err := d.usage()
	if err != nil {
		return err
	}
	if d.diskBefore, err = d.disk(); err != nil {
		return err
	}
	heightBefore, err := d.a.Nodes[0].Status(ctx)
	if err != nil {
		return err
	}
	start := time.Now()
	until := start.Add(time.Duration(d.c.Seconds * float64(time.Second)))
	var next atomic.Int64
	var mu sync.Mutex
	var took []time.Duration
	var last time.Time
	g, ctx := errgroup.WithContext(ctx)
	for w := range d.c.Workers {
		g.Go(func() error {
			n := d.a.Nodes[w%len(d.a.Nodes)]
			for {
				at := int(next.Add(int64(d.c.Batch))) - d.c.Batch
				if at >= len(d.statements) {
					return nil
				}
				part := d.statements[at:min(at+d.c.Batch, len(d.statements))]
				sent := time.Now()
				if d.c.Rate > 0 { // open loop: late is late, whoever is to blame
					sent = start.Add(time.Duration(float64(at) / d.c.Rate * float64(time.Second)))
					time.Sleep(time.Until(sent))
				}
				if sent.After(until) {
					return nil
				}
				final, err := d.post(ctx, n, part)
				if err != nil {
					return err
				}
				now := time.Now()
				mu.Lock()
				for range final {
					took = append(took, now.Sub(sent))
				}
				if now.After(last) {
					last = now
				}
				r.Refused += uint64(len(part) - final)
				mu.Unlock()
			}
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	after, err := d.usage()
	if err != nil {
		return err
	}
	if st, err := d.a.Nodes[0].Status(context.WithoutCancel(ctx)); err == nil {
		r.Blocks = st.Height - heightBefore.Height
	}
	r.Finalised = uint64(len(took))
	r.MeasuredFor = last.Sub(start).Seconds()
	if r.Finalised == 0 {
		return fmt.Errorf("nothing became final")
	}
	slices.Sort(took)
	n := float64(r.Finalised)
	r.FinalisedPerSecond = n / r.MeasuredFor
	r.P50ms, r.P99ms = quantile(took, 0.50), quantile(took, 0.99)
	v := float64(d.c.Validators)
	r.CPUMicros = (after.cpu - before.cpu).Seconds() * 1e6 / n / v
	r.DriverMicros = (after.own - before.own).Seconds() * 1e6 / n
	r.PeakRSS = after.rss
	return nil
}

func quantile(sorted []time.Duration, q float64) float64 {
	return float64(sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]) / float64(time.Millisecond)
}

type usage struct {
	cpu, own time.Duration
	rss      uint64
}

// disk returns the bytes of every validator's stores.
func (d *driver) disk() (sum int64, err error) {
	for _, n := range d.a.Nodes {
		size, err := dirSize(filepath.Join(n.Home, "data"))
		if err != nil {
			return 0, err
		}
		sum += size
	}
	return sum, nil
}

// usage reads what the validators have used so far.
func (d *driver) usage() (u usage, err error) {
	for _, n := range d.a.Nodes {
		cpu, err := processCPU(n.PID())
		if err != nil {
			return u, err
		}
		u.cpu += cpu
		rss, err := peakRSS(n.PID())
		if err != nil {
			return u, err
		}
		u.rss = max(u.rss, rss)
	}
	u.own, err = processCPU(os.Getpid())
	return u, err
}

// clockTick of /proc: Linux reports it as 100 a second on every platform.
const clockTick = 10 * time.Millisecond

func processCPU(pid int) (time.Duration, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("reading the CPU time of process %d: %w", pid, err)
	}
	f := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	user, err1 := strconv.ParseInt(f[11], 10, 64)
	system, err2 := strconv.ParseInt(f[12], 10, 64)
	if err1 != nil || err2 != nil {
		return 0, fmt.Errorf("reading the CPU time of process %d: %q", pid, data)
	}
	return time.Duration(user+system) * clockTick, nil
}

func peakRSS(pid int) (uint64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, fmt.Errorf("reading the memory of process %d: %w", pid, err)
	}
	for l := range strings.Lines(string(data)) {
		if v, ok := strings.CutPrefix(l, "VmHWM:"); ok {
			kib, err := strconv.ParseUint(strings.Fields(v)[0], 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("process %d has no VmHWM", pid)
}

func dirSize(dir string) (size int64, err error) {
	err = filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return nil // files come and go while a store compacts
		}
		if info, err := e.Info(); err == nil {
			size += info.Size()
		}
		return nil
	})
	return size, err
}

func cpuModel() string {
	data, _ := os.ReadFile("/proc/cpuinfo")
	for l := range strings.Lines(string(data)) {
		if name, v, ok := strings.Cut(l, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(v)
		}
	}
	return "unknown"
}

func loadAverage() string {
	data, _ := os.ReadFile("/proc/loadavg")
	f := strings.Fields(string(data))
	return strings.Join(f[:min(3, len(f))], " ")
}
