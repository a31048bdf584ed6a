package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/transparency-dev/merkle/rfc6962"
	merkle "github.com/transparency-dev/merkle/testonly"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/institution"
	"github.com/zhenglian/zhenglian/internal/signing"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"zhenglian": main})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			node := newFakeNode(env.WorkDir)
			env.Values["node"] = node
			server := httptest.NewServer(node)
			env.Defer(server.Close)
			env.Setenv("NODE", server.URL)
			env.Setenv("LANG", "en_US.UTF-8")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"mode": func(ts *testscript.TestScript, neg bool, args []string) { // mode OCTAL FILE
				info, err := os.Stat(ts.MkAbs(args[1]))
				ts.Check(err)
				if got := fmt.Sprintf("%o", info.Mode().Perm()); (got == args[0]) == neg {
					ts.Fatalf("%s has mode %s", args[1], got)
				}
			},
			"same-statement": func(ts *testscript.TestScript, neg bool, args []string) { // the node saw one statement, more than once
				node := fakeNodeOf(ts)
				node.mu.Lock()
				defer node.mu.Unlock()
				times := 0
				for _, k := range node.seen {
					times += k
				}
				if len(node.seen) != 1 || times < 2 {
					ts.Fatalf("%d statements, %d submissions", len(node.seen), times)
				}
			},
			"signs": func(ts *testscript.TestScript, neg bool, args []string) { // signs HOME...: receipts bear these institutions' signatures
				for _, id := range args {
					ts.Check(fakeNodeOf(ts).signs(id))
				}
			},
			"others": func(ts *testscript.TestScript, neg bool, args []string) { // others BEHAVIOUR, of what is under /other
				node := fakeNodeOf(ts)
				node.mu.Lock()
				defer node.mu.Unlock()
				node.other = args[0]
			},
		},
	})
}

func fakeNodeOf(ts *testscript.TestScript) *fakeNode { return ts.Value("node").(*fakeNode) }

// fakeNode answers as the nodes of an alliance do, which share one log: under
// /ok it registers, under /refuse the rules refuse, under /full there is no room,
// under /later it is not final, under /cut the answer is lost, under /web it is
// another program, under /lie it says "final" of what one institution alone has
// signed; under /other it behaves as `others` says. It refuses what is no valid
// registry statement. Receipts are signed with the keys of the homes in dir.
type fakeNode struct {
	dir string

	mu    sync.Mutex
	other string
	keys  map[string]*signing.Key // receipt keys by institution
	seen  map[evidence.Digest]int // statement → how often it came
	place map[evidence.Digest]uint64
	tree  *merkle.Tree
}

// newFakeNode makes a log that has entries already.
func newFakeNode(dir string) *fakeNode {
	n := &fakeNode{dir: dir, other: "down", keys: map[string]*signing.Key{}, seen: map[evidence.Digest]int{}, place: map[evidence.Digest]uint64{}, tree: merkle.New(rfc6962.DefaultHasher)}
	for i := range 41 {
		n.tree.AppendData([]byte{byte(i)})
	}
	return n
}

// signs gives the node the receipt key of a home.
func (n *fakeNode) signs(id string) error {
	h, err := institution.Open(filepath.Join(n.dir, id), evidence.UseReceipt)
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.keys[id] = h.Key(evidence.UseReceipt)
	return nil
}

func (n *fakeNode) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n.mu.Lock()
	defer n.mu.Unlock()
	behaviour, path, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if behaviour == "other" {
		behaviour = n.other
	}
	if behaviour == "down" {
		panic(http.ErrAbortHandler)
	}
	if entry, ok := strings.CutPrefix(path, "entries/"); ok {
		n.receipts(w, strings.TrimSuffix(entry, "/receipts"), behaviour == "lie")
		return
	}
	body, err := io.ReadAll(r.Body)
	s, parseErr := evidence.ParseStatement(body)
	if err != nil || parseErr != nil || path != "api/v1/statements" || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/cose" || !s.Registry() {
		http.Error(w, fmt.Sprintf(`{"title":"a wrong request","code":"bad-request","detail":%q}`, fmt.Sprint(r.Method, r.URL, err, parseErr)), http.StatusBadRequest)
		return
	}
	switch behaviour { // these register nothing
	case "refuse":
		w.WriteHeader(http.StatusConflict)
		fmt.Fprint(w, `{"title":"Refused","code":"conflict","detail":"the key is enrolled already"}`)
		return
	case "full":
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusTooManyRequests)
		fmt.Fprint(w, `{"title":"the node is full","code":"overload","hint":"come back in a second"}`)
		return
	case "web":
		fmt.Fprint(w, "<html>welcome</html>")
		return
	}
	code := evidence.CodeRegistered
	if n.seen[s.Digest()]++; n.seen[s.Digest()] == 1 {
		code = evidence.CodeOK
		d := s.Digest()
		n.place[d] = n.tree.Size()
		n.tree.AppendData(d[:])
	}
	if behaviour == "cut" {
		panic(http.ErrAbortHandler) // the connection ends without an answer
	}
	final := behaviour != "later"
	if !final {
		w.WriteHeader(http.StatusAccepted)
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"digest": s.Digest(), "position": n.place[s.Digest()], "code": code.String(), "final": final})
}

// receipts answers with a receipt of every institution, or of the first alone.
func (n *fakeNode) receipts(w http.ResponseWriter, entry string, one bool) {
	fail := func(err error) { http.Error(w, err.Error(), http.StatusTeapot) }
	digest, err := evidence.ParseDigest(entry)
	position, known := n.place[digest]
	if err != nil || !known {
		http.Error(w, "unknown", http.StatusNotFound)
		return
	}
	document, err := os.ReadFile(filepath.Join(n.dir, "alliance.json"))
	if err != nil {
		fail(err)
		return
	}
	alliance, err := evidence.ParseAlliance(document)
	if err != nil {
		fail(err)
		return
	}
	size := n.tree.Size()
	proof, err := n.tree.InclusionProof(position, size)
	if err != nil {
		fail(err)
		return
	}
	var way []evidence.Digest
	for _, hash := range proof {
		way = append(way, evidence.Digest(hash))
	}
	all := map[string][][]byte{}
	for _, id := range slices.Sorted(maps.Keys(n.keys)) {
		root, err := evidence.SignRoot(n.keys[id], id, alliance.Origin(), time.Now().Unix(), evidence.Checkpoint{Size: size, Root: evidence.Digest(n.tree.HashAt(size))})
		if err != nil {
			fail(err)
			return
		}
		all[id] = [][]byte{root.Receipt(position, way)}
		if one {
			break
		}
	}
	_ = json.NewEncoder(w).Encode(all)
}
