package demo

import (
	"path/filepath"
	"slices"

	"github.com/zhenglian/zhenglian/internal/local"
)

// Settings of every node here, as the environment of its process.
const (
	freeDisk  = "ZHENGLIAN_NODE_LIMITS_FREE_DISK_BYTES=268435456"
	noLimit   = "ZHENGLIAN_NODE_LIMITS_REQUESTS_PER_SECOND=0" // one machine is all clients at once
	stampedBy = "ca"
)

// showFounding shows the commands that local.New ran, in its order, and writes
// them to commands.txt. The screen has no room for addresses: there they are cut.
func (p *play) showFounding() {
	tell := func(args ...string) {
		p.record(args...)
		if i := slices.Index(args, "--api"); i > 0 {
			args = append(slices.Clone(args[:i]), "--api", "…")
		}
		p.show(args...)
	}
	a := p.alliance
	genesis := []string{"alliance", "genesis", "--name", a.Alliance.Name, "--slug", "demo", "--out", a.Genesis}
	for _, n := range a.Nodes {
		tell(append([]string{"institution", "init", "--home", n.Home, "--id", n.ID, "--name", n.Name, "--kind", string(n.Kind),
			"--api", n.API, "--peer", n.Peer, "--p2p", n.P2P}, n.Args...)...)
		genesis = append(genesis, filepath.Join(n.Home, "descriptor.json"))
	}
	tell(genesis...)
	for _, n := range a.Nodes {
		tell("institution", "join", "--home", n.Home, a.Genesis)
	}
	ca := a.Node(stampedBy)
	tell("institution", "tsa", "--home", ca.Home, "--demonstration")
	p.note("cp", filepath.Join(ca.Home, "tsa", "authority.json"), p.authority())
	tell("alliance", "policy", a.Genesis, "--out", a.Policy, "--timestamp-authority", p.authority())
}

// recordNode writes how a node was started: with its settings, in the background.
func (p *play) recordNode(n *local.Node) {
	p.write(append(p.environment(n), p.program(), "node", "--home", n.Home), " >>"+quote([]string{n.LogFile})+" 2>&1 &")
}

// environment is what the processes of a node's institution are started with.
func (p *play) environment(n *local.Node) []string {
	ca := p.alliance.Node(stampedBy)
	env := []string{noLimit, freeDisk, "ZHENGLIAN_NODE_TIMESTAMPS_AUTHORITIES=" + ca.API + "/tsa " + p.authority()}
	if n == ca {
		env = append(env, "ZHENGLIAN_NODE_TSA_ENABLED=true", "ZHENGLIAN_NODE_TSA_DEMONSTRATION=true")
	}
	return env
}
