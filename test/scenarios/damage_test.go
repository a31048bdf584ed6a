package scenarios

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/httpsig"
	"github.com/zhenglian/zhenglian/internal/local"
)

// damage is one way in which a store of a stopped node is found broken.
type damage struct {
	name string
	do   func(data string) error
	// says is what the node's log or its last words must hold.
	says string
	// refuses: it ends with a sentence, and starts again once the paths of aside
	// (under data/, as the sentence tells) are moved away.
	refuses bool
	aside   []string
}

// flip changes one bit of a file.
func flip(path string, at int64) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if at < 0 {
		at += int64(len(data))
	}
	if at < 0 || at >= int64(len(data)) {
		return fmt.Errorf("%s has %d bytes", path, len(data))
	}
	data[at] ^= 1
	return os.WriteFile(path, data, 0o600)
}

func halve(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	return os.Truncate(path, info.Size()/2)
}

// largest returns the largest file of a directory with one of these endings.
func largest(dir string, endings ...string) (string, error) {
	var best string
	size := int64(-1)
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err == nil && info.Size() > size && slices.Contains(endings, filepath.Ext(path)) {
			best, size = path, info.Size()
		}
		return err
	})
	if err == nil && best == "" {
		err = fmt.Errorf("%s holds no %v", dir, endings)
	}
	return best, err
}

func inLargest(dir string, how func(path string) error, endings ...string) func(string) error {
	return func(data string) error {
		path, err := largest(filepath.Join(data, dir), endings...)
		if err != nil {
			return err
		}
		return how(path)
	}
}

func flipMiddle(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	return flip(path, info.Size()/2)
}

// asInstitution fetches what is not public, with the CA's statement key.
func (w *world) asInstitution(n *local.Node, path string) *answer {
	w.Helper()
	req, err := http.NewRequestWithContext(w.ctx, http.MethodGet, n.API+path, nil)
	w.must(err)
	w.must(httpsig.Sign(req, nil, w.caKey, time.Now(), nil))
	return w.do(req)
}

// A store of a stopped node is damaged. The node says which, serves nothing
// wrong, and is whole again: by itself, from the others, or after doing what it
// says.
func TestDamage(t *testing.T) {
	long(t)
	w := newWorld(t, worldConfig{})
	// Beyond 256 entries the log has more than its right edge.
	var first [][]byte
	for range 4 {
		var statements [][]byte
		for range 250 {
			statements = append(statements, w.open(w.members[0]))
		}
		if first == nil {
			first = statements
		}
		_, err := w.batch(w.ctx, w.node("ca"), "final", statements)
		w.must(err)
	}
	notary := w.node("notary")
	data := filepath.Join(notary.Home, "data")
	blocks := []string{"index", "consensus/data/blockstore.db", "consensus/data/state.db", "consensus/data/cs.wal"}
	cases := []damage{
		{name: "a byte in a batch", do: inLargest("batches", func(p string) error { return flip(p, 40_000) }, ".seg"), says: "batch store"},
		{name: "the batches cut in half", do: inLargest("batches", halve, ".seg"), says: "batch store"},
		{name: "a byte in the log", do: func(d string) error { return flip(filepath.Join(d, "ledger", "entries"), 100*32+5) }, says: "ledger", refuses: true, aside: []string{"ledger"}},
		{name: "the log cut in half", do: func(d string) error { return halve(filepath.Join(d, "ledger", "entries")) }, says: "rebuilding the end of the log"},
		{name: "a byte in the index", do: inLargest("index", flipMiddle, ".sst"), says: "index", refuses: true, aside: []string{"index"}},
		{name: "the index cut", do: inLargest("index", halve, ".sst"), says: "index", refuses: true, aside: []string{"index"}},
		{name: "the write-ahead log of the consensus", do: func(d string) error { return flipMiddle(filepath.Join(d, "consensus", "data", "cs.wal", "wal")) }},
		{name: "the block store cut", do: inLargest("consensus/data/blockstore.db", halve, ".ldb", ".log"), says: "consensus", refuses: true, aside: blocks},
		{name: "a byte in the block store", do: inLargest("consensus/data/blockstore.db", flipMiddle, ".ldb", ".log"), refuses: true, aside: blocks},
		{name: "the vote state", do: func(d string) error {
			return os.WriteFile(filepath.Join(d, "consensus", "data", "priv_validator_state.json"), []byte("{"), 0o600)
		}, says: "vote state", refuses: true, aside: []string{"."}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w := w.in(t)
			w.must(notary.Stop())
			logged := logSize(notary)
			w.must(c.do(data))
			w.must(notary.Start(w.ctx))
			err := w.readEverything(notary, first)
			log := logSince(notary, logged)
			if c.says != "" && !strings.Contains(log, c.says) {
				t.Errorf("the node does not say %q; it says %s", c.says, lastOf(log))
			}
			for _, bad := range []string{"panic: ", "CONSENSUS FAILURE", "goroutine 1 ["} {
				if strings.Contains(log, bad) {
					t.Errorf("the node's last words hold %q: %s", bad, lastOf(log))
				}
			}
			if err != nil {
				t.Logf("after the damage: %v", err)
				if !c.refuses {
					t.Fatalf("the node does not mend it: %v; it says %s", err, lastOf(log))
				}
				_ = notary.Stop() // it may have ended by itself, with an error
				for _, dir := range c.aside {
					// The sentence names what to move.
					if base := filepath.Base(dir); dir != "." && !strings.Contains(log, base) {
						t.Errorf("the node does not say to move %s away: %s", dir, lastOf(log))
					}
					w.must(os.Rename(filepath.Join(data, dir), filepath.Join(t.TempDir(), "damaged")))
				}
				w.must(notary.Start(w.ctx))
				if err := w.readEverything(notary, first); err != nil {
					t.Fatalf("after moving %v away: %v; it says %s", c.aside, err, lastOf(logSince(notary, logged)))
				}
			}
			w.deposit(notary, w.open(w.members[1])) // it takes part again
			w.deposit(w.node("court"), w.open(w.members[1]))
			w.check()
		})
	}
}

// in is the world for a subtest: its failures are the subtest's.
func (w *world) in(t *testing.T) *world {
	sub := *w
	sub.T = t
	return &sub
}

func logSize(n *local.Node) int64 {
	info, err := os.Stat(n.LogFile)
	if err != nil {
		return 0
	}
	return info.Size()
}

func logSince(n *local.Node, from int64) string {
	data, err := os.ReadFile(n.LogFile)
	if err != nil || int64(len(data)) < from {
		return ""
	}
	return string(data[from:])
}

func lastOf(log string) string {
	var lines []string
	for l := range strings.Lines(log) {
		if !strings.Contains(l, "/readyz") {
			lines = append(lines, l)
		}
	}
	return strings.Join(lines[max(0, len(lines)-12):], "")
}

var errEnded = errors.New("the node ended")

// readEverything waits until a node has started and reads all that is asked
// for of it: every entry, every statement of first. What it answers must be
// right or an error; wrong data fails the test at once. It returns nil when all
// could be read and the node calls itself ready.
func (w *world) readEverything(n *local.Node, first [][]byte) error {
	w.Helper()
	reference, err := w.checker.read(w.ctx, "court")
	w.must(err)
	deadline := time.Now().Add(45 * time.Second)
	for {
		err := w.readOnce(n, first, reference)
		if err == nil || errors.Is(err, errEnded) || time.Now().After(deadline) {
			return err
		}
		time.Sleep(250 * time.Millisecond)
		if (strings.Contains(err.Error(), "damaged") || strings.Contains(err.Error(), "503")) && time.Until(deadline) > 10*time.Second {
			deadline = time.Now().Add(10 * time.Second) // enough to mend what it can
		}
	}
}

func (w *world) readOnce(n *local.Node, first [][]byte, reference *view) error {
	if n.PID() == 0 {
		return errEnded
	}
	ctx, cancel := context.WithTimeout(w.ctx, 20*time.Second)
	defer cancel()
	v, err := w.checker.read(ctx, n.ID)
	if err != nil {
		return err
	}
	if len(v.entries) > len(reference.entries) || !slices.Equal(v.entries, reference.entries[:len(v.entries)]) {
		w.Fatalf("%s serves a wrong log", n.ID)
	}
	if len(v.entries) < len(reference.entries) {
		return fmt.Errorf("%s has %d of %d entries", n.ID, len(v.entries), len(reference.entries))
	}
	for i, st := range first {
		d := evidence.SumSHA256(st)
		a := w.send(http.MethodGet, n.API+"/api/v1/statements/"+d.String(), "", nil)
		if a.status == http.StatusNotFound {
			w.Fatalf("%s denies statement %d", n.ID, i)
		}
		if a.status != http.StatusOK {
			return fmt.Errorf("statement %d: %v", i, a)
		}
		if i%25 != 0 { // signed requests are limited
			continue
		}
		a = w.asInstitution(n, "/api/v1/statements/"+d.String()+"/bytes")
		if a.status != http.StatusOK {
			return fmt.Errorf("bytes of statement %d: %v", i, a)
		}
		if !bytes.Equal(a.body, st) {
			w.Fatalf("%s serves wrong bytes for statement %d", n.ID, i)
		}
	}
	if a := w.send(http.MethodGet, n.API+"/readyz", "", nil); a.status != http.StatusOK {
		return fmt.Errorf("not ready: %v", a)
	}
	return nil
}
