package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/zhenglian/zhenglian/evidence"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"zhenglian": main})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			node := &fakeNode{seen: map[evidence.Digest]int{}}
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
				response, err := http.Get(ts.Getenv("NODE") + "/seen")
				ts.Check(err)
				defer response.Body.Close()
				body, err := io.ReadAll(response.Body)
				ts.Check(err)
				var statements, times int
				if _, err := fmt.Sscan(string(body), &statements, &times); err != nil || statements != 1 || times < 2 {
					ts.Fatalf("statements and submissions: %s", body)
				}
			},
		},
	})
}

// fakeNode answers as a node's registering interface does: under /ok it
// registers, under /refuse the rules refuse, under /full there is no room, under
// /later it is not final, under /cut the answer is lost, under /web it is
// another program. It refuses what is no valid registry statement.
type fakeNode struct {
	mu   sync.Mutex
	seen map[evidence.Digest]int // statement → how often it came
	all  []evidence.Digest
}

func (n *fakeNode) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if r.URL.Path == "/seen" {
		times := 0
		for _, k := range n.seen {
			times += k
		}
		fmt.Fprintln(w, len(n.seen), times)
		return
	}
	behaviour, path, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	body, err := io.ReadAll(r.Body)
	s, parseErr := evidence.ParseStatement(body)
	if err != nil || parseErr != nil || path != "api/v1/statements" || r.URL.RawQuery != "wait=final" || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/cose" || !s.Registry() {
		http.Error(w, fmt.Sprintf(`{"title":"a wrong request","detail":%q}`, fmt.Sprint(r.Method, r.URL, err, parseErr)), http.StatusBadRequest)
		return
	}
	code := evidence.CodeOK
	if n.seen[s.Digest()]++; n.seen[s.Digest()] == 1 {
		n.all = append(n.all, s.Digest())
	} else {
		code = evidence.CodeRegistered
	}
	switch behaviour {
	case "refuse":
		w.WriteHeader(http.StatusConflict)
		fmt.Fprint(w, `{"title":"Refused","code":"conflict","reason":"the key is enrolled already"}`)
	case "full":
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusTooManyRequests)
		fmt.Fprint(w, `{"title":"the node is full","code":"overload","hint":"come back in a second"}`)
	case "later":
		w.WriteHeader(http.StatusAccepted)
		n.answer(w, s, code, false)
	case "cut":
		panic(http.ErrAbortHandler) // the connection ends without an answer
	case "web":
		fmt.Fprint(w, "<html>welcome</html>")
	default:
		n.answer(w, s, code, true)
	}
}

func (n *fakeNode) answer(w io.Writer, s *evidence.Statement, code evidence.Code, final bool) {
	position := 0
	for n.all[position] != s.Digest() {
		position++
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"digest": s.Digest(), "position": 41 + position, "code": code.String(), "final": final})
}

func TestAnswerCodes(t *testing.T) {
	for text, want := range map[string]answerCode{`0`: "ok", `"ok"`: "ok", `14`: "conflict", strconv.Quote("bad-key"): "bad-key"} {
		var got answerCode
		if err := json.Unmarshal([]byte(text), &got); err != nil || got != want {
			t.Errorf("%s reads as %q, %v; want %q", text, got, err, want)
		}
	}
}
