// Package local runs a whole alliance on one machine, every institution as
// processes of its own, for the demonstration, the benchmark and the scenarios.
//
//	New ─► institution init (a process each) ─► alliance genesis ─► institution join
//	Start ─► zhenglian node (a process each) ─► ready
//	AddPortal ─► institution portal; Start ─► zhenglian portal ─► ready
//	Stop, Kill ─► SIGTERM, SIGKILL
//
// This process never opens an institution's home: it starts programs that each
// open one, and reads the public descriptors. Children die with it.
//
// Trusted: the program it is given, and the directory; whoever alters that has
// every institution's keys of this one machine, which is why real institutions
// have machines of their own.
package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/zhenglian/zhenglian/evidence"
)

// Spec says what institution to found.
type Spec struct {
	ID, Name string
	Kind     evidence.InstitutionKind
	Args     []string // more flags of institution init, such as --sm2
}

// Config of an alliance on this machine. Binary and Dir are required.
type Config struct {
	Binary       string // the zhenglian program
	Dir          string // for everything; made when absent, must hold no alliance
	Name, Slug   string
	Institutions []Spec
	Env          []string // more environment of every process, such as settings of the nodes
	// TSA is the id of an institution that runs a demonstration's timestamp
	// authority, which every node then asks and the policy names; empty: none.
	TSA string
	// Host the institutions listen on; 127.0.0.1 when empty. Ports are free ones.
	Host string
}

// Alliance is a founded alliance. Its methods may be called from one goroutine.
type Alliance struct {
	cfg   Config
	Nodes []*Node
	// Portals that AddPortal made.
	Portals []*Portal
	// Genesis is the path of alliance.json, Policy of the trust policy.
	Genesis, Policy string
	Alliance        *evidence.Alliance
}

// Node is one institution's node.
type Node struct {
	Spec
	Home string
	API  string // base URL
	Peer string // host:port
	P2P  string // host:port
	process
}

// New founds the alliance: homes, keys, genesis, joined.
func New(ctx context.Context, cfg Config) (*Alliance, error) {
	if cfg.Host == "" {
		cfg.Host = "127.0.0.1"
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the alliance's directory: %w", err)
	}
	// Every client of this alliance has one address, which would be one client's share.
	cfg.Env = append([]string{"ZHENGLIAN_NODE_LIMITS_REQUESTS_PER_SECOND=0"}, cfg.Env...)
	a := &Alliance{cfg: cfg, Genesis: filepath.Join(cfg.Dir, "alliance.json"), Policy: filepath.Join(cfg.Dir, "policy.json")}
	ports, err := freePorts(cfg.Host, 3*len(cfg.Institutions))
	if err != nil {
		return nil, err
	}
	genesis := []string{"alliance", "genesis", "--name", cfg.Name, "--slug", cfg.Slug, "--out", a.Genesis}
	for i, s := range cfg.Institutions {
		p := ports[3*i:]
		n := &Node{Spec: s, Home: filepath.Join(cfg.Dir, s.ID), API: "http://" + p[0], Peer: p[1], P2P: p[2]}
		n.process = process{what: "node of " + s.ID, LogFile: filepath.Join(cfg.Dir, s.ID+".log"), ready: n.API + "/readyz",
			binary: cfg.Binary, env: cfg.Env, args: []string{"node", "--home", n.Home}}
		args := append([]string{"institution", "init", "--home", n.Home, "--id", s.ID, "--name", s.Name, "--kind", string(s.Kind),
			"--api", n.API, "--peer", n.Peer, "--p2p", n.P2P}, s.Args...)
		if _, err := Run(ctx, cfg.Binary, cfg.Env, args...); err != nil {
			return nil, err
		}
		genesis = append(genesis, filepath.Join(n.Home, "descriptor.json"))
		a.Nodes = append(a.Nodes, n)
	}
	if _, err := Run(ctx, cfg.Binary, cfg.Env, genesis...); err != nil {
		return nil, err
	}
	for _, n := range a.Nodes {
		if _, err := Run(ctx, cfg.Binary, cfg.Env, "institution", "join", "--home", n.Home, a.Genesis); err != nil {
			return nil, err
		}
	}
	data, err := os.ReadFile(a.Genesis)
	if err != nil {
		return nil, err
	}
	if a.Alliance, err = evidence.ParseAlliance(data); err != nil {
		return nil, fmt.Errorf("reading the genesis: %w", err)
	}
	policy := []string{"alliance", "policy", a.Genesis, "--out", a.Policy}
	if cfg.TSA != "" {
		file, err := a.timestamps(ctx)
		if err != nil {
			return nil, err
		}
		policy = append(policy, "--timestamp-authority", file)
	}
	_, err = Run(ctx, cfg.Binary, cfg.Env, policy...)
	return a, err
}

// timestamps has an institution make a timestamp authority, and tells every node
// by its environment to ask it. It returns the authority's public file.
func (a *Alliance) timestamps(ctx context.Context) (string, error) {
	runs := a.Node(a.cfg.TSA)
	if runs == nil {
		return "", fmt.Errorf("%q, which is to run the timestamp authority, is no institution of the alliance", a.cfg.TSA)
	}
	if _, err := Run(ctx, a.cfg.Binary, a.cfg.Env, "institution", "tsa", "--home", runs.Home, "--demonstration"); err != nil {
		return "", err
	}
	public, err := os.ReadFile(filepath.Join(runs.Home, "tsa", "authority.json"))
	if err != nil {
		return "", err
	}
	// Handed out, as descriptors are: no other process looks into that home.
	file := filepath.Join(a.cfg.Dir, "authority.json")
	if err := os.WriteFile(file, public, 0o644); err != nil {
		return "", err
	}
	if file, err = filepath.Abs(file); err != nil {
		return "", err
	}
	for _, n := range a.Nodes {
		n.env = append(append([]string{}, n.env...), "ZHENGLIAN_NODE_TIMESTAMPS_AUTHORITIES="+runs.API+"/tsa "+file)
		if n == runs {
			n.env = append(n.env, "ZHENGLIAN_NODE_TSA_ENABLED=true", "ZHENGLIAN_NODE_TSA_DEMONSTRATION=true")
		}
	}
	return file, nil
}

// freePorts returns host:port addresses nobody listens on. Another program can
// take one before the node does; the node then says so.
func freePorts(host string, n int) ([]string, error) {
	var out []string
	var open []net.Listener
	defer func() {
		for _, l := range open {
			_ = l.Close()
		}
	}()
	for range n {
		l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
		if err != nil {
			return nil, fmt.Errorf("looking for a free port: %w", err)
		}
		open = append(open, l)
		out = append(out, l.Addr().String())
	}
	return out, nil
}

// Command prepares a process of the program that dies with this one.
func Command(ctx context.Context, binary string, env []string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// Run runs the program to its end and returns what it printed.
func Run(ctx context.Context, binary string, env []string, args ...string) (string, error) {
	var stderr strings.Builder
	cmd := Command(ctx, binary, env, args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return string(out), fmt.Errorf("zhenglian %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return string(out), nil
}

// Start starts every node and waits until all are ready.
func (a *Alliance) Start(ctx context.Context) error {
	for _, n := range a.Nodes {
		if err := n.Start(ctx); err != nil {
			return err
		}
	}
	return a.WaitReady(ctx)
}

// WaitReady returns when every node answers that it is ready.
func (a *Alliance) WaitReady(ctx context.Context) error {
	for _, n := range a.Nodes {
		if err := n.WaitReady(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Stop stops every portal and node and waits for it.
func (a *Alliance) Stop() error {
	var errs []error
	for _, p := range a.Portals {
		errs = append(errs, p.Stop())
	}
	for _, n := range a.Nodes {
		n.signal(syscall.SIGTERM)
	}
	for _, n := range a.Nodes {
		errs = append(errs, n.Stop())
	}
	return errors.Join(errs...)
}

// Node returns the node of an institution, nil when there is none.
func (a *Alliance) Node(id string) *Node {
	for _, n := range a.Nodes {
		if n.ID == id {
			return n
		}
	}
	return nil
}

// Status asks the node where it stands; the answer is its /api/v1/status.
func (n *Node) Status(ctx context.Context) (s Status, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, n.API+"/api/v1/status", nil)
	if err != nil {
		return s, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return s, err
	}
	defer func() { _ = resp.Body.Close() }()
	return s, json.NewDecoder(resp.Body).Decode(&s)
}

// Status is the part of a node's answer that callers here look at.
type Status struct {
	Height        int64           `json:"height"`
	Size          uint64          `json:"size"`
	Root          evidence.Digest `json:"root"`
	WitnessedSize uint64          `json:"witnessed_size"`
	Ready         bool            `json:"ready"`
}
