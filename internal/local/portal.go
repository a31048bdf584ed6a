package local

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/zhenglian/zhenglian/evidence"
)

// Portal is an institution's portal, a process beside its node. Browsers reach
// it at localhost, where they give keys and passkeys without a certificate.
type Portal struct {
	Institution string
	Origin      string     // http://localhost:PORT
	Commands    [][]string // command lines that prepared it, and the one that starts it
	process
}

// AddPortal prepares the portal of an institution: its settings with a
// demonstration's identities, and at a CA institution its authority. Start
// starts it.
func (a *Alliance) AddPortal(ctx context.Context, id string) (*Portal, error) {
	n := a.Node(id)
	if n == nil {
		return nil, fmt.Errorf("%q is no institution of the alliance", id)
	}
	ports, err := freePorts("127.0.0.1", 1)
	if err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(ports[0])
	if err != nil {
		return nil, err
	}
	origin := "http://localhost:" + port
	commands := [][]string{{"institution", "portal", "--home", n.Home, "--listen", ports[0], "--origin", origin, "--demonstration"}}
	if n.Kind == evidence.KindCA {
		commands = append(commands, []string{"institution", "ca", "--home", n.Home, "--demonstration"})
	}
	for _, args := range commands {
		if _, err := Run(ctx, a.cfg.Binary, a.cfg.Env, args...); err != nil {
			return nil, err
		}
	}
	if n.Kind == evidence.KindCA {
		trusting, err := a.trustCA(ctx, n)
		if err != nil {
			return nil, err
		}
		commands = append(commands, trusting)
	}
	start := []string{"portal", "--home", n.Home}
	p := &Portal{Institution: id, Origin: origin, Commands: append(commands, start), process: process{what: "portal of " + id, LogFile: filepath.Join(a.cfg.Dir, id+"-portal.log"),
		ready: origin + "/readyz", binary: a.cfg.Binary, env: n.env, args: start}} // the node's settings are its too
	a.Portals = append(a.Portals, p)
	return p, nil
}

// NextPolicy is where the policy with the portal's authority is written; it then
// takes the place of Policy.
func (a *Alliance) NextPolicy() string { return a.Policy + ".next" }

// trustCA names the institution's authority for members in the policy, and
// returns the command line that did.
func (a *Alliance) trustCA(ctx context.Context, n *Node) ([]string, error) {
	args := []string{"alliance", "policy", a.Genesis, "--base", a.Policy,
		"--certificate-authority", filepath.Join(n.Home, "ca", "authority.json"), "--out", a.NextPolicy()}
	if _, err := Run(ctx, a.cfg.Binary, a.cfg.Env, args...); err != nil {
		return nil, err
	}
	return args, os.Rename(a.NextPolicy(), a.Policy)
}
