package docs

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// session is how a document's blocks are run, all in one shell.
type session struct {
	// before and after are put around the document's own commands.
	before, after string
	// following is a document whose blocks come first, in the same shell.
	following string
	// hosts are names with ports that stand for addresses of this machine.
	hosts bool
}

// sessions by document, for blocks that are run "here" or as "nodes".
var sessions = map[string]session{
	"docs/operations.md":  {hosts: true},
	"docs/performance.md": {},
	"docs/portal.md":      {hosts: true, following: "docs/operations.md"},
	"docs/usage.md":       {hosts: true, following: "docs/operations.md"},
}

func TestSessions(t *testing.T) {
	bin := programs(t)
	for path, s := range sessions {
		t.Run(strings.ReplaceAll(path, "/", "_"), func(t *testing.T) {
			var script strings.Builder
			script.WriteString(s.before + "\n")
			if s.following != "" {
				write(t, &script, s.following)
			}
			write(t, &script, path)
			script.WriteString(s.after + "\n")
			text := script.String()
			if s.hosts {
				text = onThisMachine(t, text)
			}
			out := run(t, t.TempDir(), text, "PATH="+bin+":"+os.Getenv("PATH"), "LANG=en_US.UTF-8")
			t.Log(tail(out, 30))
		})
	}
}

// write adds the blocks of a document to a script.
func write(t *testing.T, script *strings.Builder, path string) {
	t.Helper()
	for _, b := range blocks(t, path) {
		fmt.Fprintf(script, "echo '== %s:%d'\n", path, b.line)
		switch b.how {
		case "here":
			script.WriteString(b.text)
		case "nodes":
			script.WriteString(inBackground(b.text))
		case "portal": // in the background, until a block that is run with it stopped
			fmt.Fprintf(script, "%s >portal.log 2>&1 &\nportal=$!\n", strings.TrimSpace(b.text))
			fmt.Fprintf(script, "for i in $(seq 300); do curl -fs http://localhost:%s/readyz >/dev/null && break; sleep 0.2; done\ncurl -fs http://localhost:%s/readyz || { tail -n 20 portal.log >&2; exit 1; }\n", portalPort, portalPort)
		case "stopped":
			script.WriteString("kill $portal; wait $portal || true\n" + b.text)
		}
	}
}

// inBackground starts each line of a block as a process of its own, as on a host
// of its own, and waits until every one is ready.
func inBackground(text string) string {
	var b strings.Builder
	for i, line := range strings.Split(strings.TrimSpace(text), "\n") {
		fmt.Fprintf(&b, "%s >node-%d.log 2>&1 &\n", line, i)
	}
	b.WriteString(`for home in */node.toml; do
  address=$(zhenglian institution show --home "$(dirname "$home")" | sed -n 's/^ *public interface *//p')
  for i in $(seq 300); do
    if curl -fs "$address/readyz" >/dev/null; then continue 2; fi
    sleep 0.2
  done
  echo "$home is not ready at $address" >&2
  tail -n 20 node-*.log >&2
  exit 1
done
`)
	return b.String()
}

// portalPort is the port of docs/portal.md, for which a free one stands in.
const portalPort = "8450"

var host = regexp.MustCompile(`(https?://)?([a-z]+\.example:[0-9]+)`)

// onThisMachine gives every host and port of the text a free port here.
func onThisMachine(t *testing.T, text string) string {
	t.Helper()
	ports := map[string]string{}
	var open []net.Listener
	defer func() {
		for _, l := range open {
			_ = l.Close()
		}
	}()
	if strings.Contains(text, portalPort) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, l)
		_, port, err := net.SplitHostPort(l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		text = strings.ReplaceAll(text, portalPort, port)
	}
	return host.ReplaceAllStringFunc(text, func(found string) string {
		m := host.FindStringSubmatch(found)
		if ports[m[2]] == "" {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			open = append(open, l)
			ports[m[2]] = l.Addr().String()
		}
		if m[1] != "" {
			return "http://" + ports[m[2]]
		}
		return ports[m[2]]
	})
}

// makeSessions are the documents with blocks of make, run in the tree itself.
var makeSessions = []string{"README.md", "README.zh-CN.md", "docs/demo.md"}

// elsewhere are commands that cannot be run from here, and what runs them.
var elsewhere = map[string]struct{ file, with string }{
	"make test": {".ci/run", "make test"}, // it runs this
}

// TestMakeSessions runs what the documents tell a reader to run first, as he
// would. What two documents have alike is run once.
func TestMakeSessions(t *testing.T) {
	var script strings.Builder
	seen := map[string]bool{}
	for _, path := range makeSessions { // in the order of a reader
		for _, b := range blocks(t, path) {
			if b.how != "make" {
				continue
			}
			for _, line := range strings.Split(strings.TrimSpace(b.text), "\n") {
				if by, ok := elsewhere[line]; ok {
					data, err := os.ReadFile(filepath.Join(root, by.file))
					if err != nil || !strings.Contains(string(data), by.with) {
						t.Errorf("%s:%d: %q is not run by %s: %v", path, b.line, line, by.file, err)
					}
				} else if !seen[line] {
					seen[line] = true
					fmt.Fprintln(&script, line)
				}
			}
		}
	}
	if !strings.HasPrefix(script.String(), "make demo\n") {
		t.Fatalf("a reader would first run:\n%s", script.String())
	}
	out := run(t, root, script.String(), "LANG=en_US.UTF-8", "LC_ALL=")
	for _, want := range []string{"The evidence chain stands", "objects/000002/01-recording.mp4", "Verification report on an evidence package: 【matches】"} {
		if !strings.Contains(out, want) {
			t.Errorf("a reader does not see %q:\n%s", want, tail(out, 60))
		}
	}
}
