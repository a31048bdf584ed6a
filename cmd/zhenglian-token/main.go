// Command zhenglian-token signs with keys on a PKCS#11 token for zhenglian,
// which starts it and speaks to it through its standard input and output: one
// line of JSON a request and an answer (internal/signing, TokenRequest). It is a
// program of its own because a PKCS#11 library is foreign C code: in here it can
// reach the token and nothing else of the node, and a crash of it ends no node.
//
// It is built with cgo; without, it says so to whoever asks.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/zhenglian/zhenglian/internal/signing"
)

// token is an open token.
type token interface {
	do(q *signing.TokenRequest) (signing.TokenAnswer, error)
	close()
}

// maxLine bounds a request: a message to be signed with Ed25519, in base64.
const maxLine = 2 << 20

func main() {
	if info, err := os.Stdin.Stat(); err != nil || info.Mode()&os.ModeCharDevice != 0 {
		fmt.Fprintln(os.Stderr, "zhenglian-token 由 zhenglian 启动，用 PKCS#11 令牌签名，不能单独使用。")
		fmt.Fprintln(os.Stderr, "zhenglian-token is started by zhenglian to sign with PKCS#11 tokens; it does nothing by itself.")
		os.Exit(2)
	}
	// A terminal's Ctrl-C and a service's stop reach this process too, while the
	// node still signs its last words. It ends when nobody can ask it any more.
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	if err := serve(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "zhenglian-token:", err)
		os.Exit(1)
	}
}

// serve answers until the input ends.
func serve(in io.Reader, out io.Writer) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(make([]byte, 0, 64<<10), maxLine)
	encoder := json.NewEncoder(out)
	var t token
	defer func() {
		if t != nil {
			t.close()
		}
	}()
	for lines.Scan() {
		var q signing.TokenRequest
		if err := json.Unmarshal(lines.Bytes(), &q); err != nil {
			return fmt.Errorf("reading a request: it is not JSON") // the cause could quote a PIN
		}
		answer, err := signing.TokenAnswer{}, error(nil)
		switch {
		case q.Op == "open" && t == nil:
			t, err = openToken(&q)
		case t != nil:
			answer, err = t.do(&q)
		default:
			err = fmt.Errorf("the token is not open")
		}
		if err != nil {
			answer = failure(err)
		}
		if err := encoder.Encode(answer); err != nil {
			return fmt.Errorf("writing an answer: %w", err)
		}
	}
	return lines.Err()
}

// codedError is an error with its word for the asking side.
type codedError struct {
	code signing.TokenCode
	error
}

func failure(err error) signing.TokenAnswer {
	if c, ok := err.(*codedError); ok {
		return signing.TokenAnswer{Code: c.code, Reason: c.Error()}
	}
	return signing.TokenAnswer{Code: signing.TokenFailed, Reason: "the token: " + err.Error()}
}
