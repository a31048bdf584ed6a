package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
)

// submitted is a node's answer to one statement, or what people need of a
// problem document (RFC 9457).
type submitted struct {
	Digest   evidence.Digest `json:"digest"`
	Position *uint64         `json:"position"`
	Code     answerCode      `json:"code"`
	Reason   string          `json:"reason"`
	Final    bool            `json:"final"`
	Title    string          `json:"title"`
	Detail   string          `json:"detail"`
	Hint     string          `json:"hint"`
}

// answerCode is an evidence.Code by name or number; "" when absent.
type answerCode string

// UnmarshalJSON implements json.Unmarshaler.
func (c *answerCode) UnmarshalJSON(data []byte) error {
	if n, err := strconv.ParseUint(string(data), 10, 32); err == nil {
		*c = answerCode(evidence.Code(n).String())
		return nil
	}
	return json.Unmarshal(data, (*string)(c))
}

func (c answerCode) is(code evidence.Code) bool { return string(c) == code.String() }

// rule reports whether the chain's own rules refused the statement; other codes
// are about this node or this moment.
func (c answerCode) rule() bool {
	for code := evidence.CodeEmpty; code < evidence.CodeRegistered; code++ {
		if c.is(code) {
			return true
		}
	}
	return false
}

// refusedError: the log's rules refuse the statement, now and later.
type refusedError struct{ Code, Reason string }

func (e *refusedError) Error() string { return fmt.Sprintf("refused (%s): %s", e.Code, e.Reason) }

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 1 << 20

// submit sends one statement to a node and waits until the node says that it is
// final, and returns its position. It returns a *refusedError where the rules
// refuse the statement; after every other error the same bytes may be sent again.
func (a *app) submit(ctx context.Context, node string, statement []byte, timeout time.Duration) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for {
		answer, err := a.submitOnce(ctx, node, statement)
		if errors.Is(err, context.DeadlineExceeded) {
			return 0, a.notFinal(node, timeout)
		}
		if err != nil {
			return 0, err
		}
		if answer.Final && answer.Position != nil {
			return *answer.Position, nil
		}
		// The node has it and its patience ended before ours: ask again.
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return 0, a.notFinal(node, timeout)
			}
			return 0, ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (a *app) notFinal(node string, timeout time.Duration) error {
	return fail(a.t("节点 %s 在 %s 内没有最终确认", "the node %s did not confirm it within %s", node, timeout), a.runAgain(), nil)
}

func (a *app) runAgain() string {
	return a.t("稍后用同样的命令再运行一次", "run the same command again later")
}

func (a *app) submitOnce(ctx context.Context, node string, statement []byte) (*submitted, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, node+"/api/v1/statements?wait=final", bytes.NewReader(statement))
	if err != nil {
		return nil, usage(a.t("%q 不是网址", "%q is no URL", node), a.t("写成 https://court.example:8443", "write it like https://court.example:8443"))
	}
	request.Header.Set("Content-Type", "application/cose")
	request.Header.Set("Accept", "application/json, application/problem+json")
	request.Header.Set("Accept-Language", string(a.lang))
	response, err := http.DefaultClient.Do(request)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, fail(a.t("联系不上节点 %s", "the node %s cannot be reached", node), a.t("检查节点是否在运行，或用 --node 指定网址", "see whether it runs, or name another with --node"), err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, fail(a.t("节点 %s 的答复中断了", "the answer of %s broke off", node), a.runAgain(), err)
	}
	foreign := fail(a.t("%s 的答复不是证链节点的（HTTP %d）", "the answer of %s is no Zhenglian node's (HTTP %d)", node, response.StatusCode), a.t("检查 --node", "check --node"), nil)
	answer := new(submitted)
	if err := json.Unmarshal(body, answer); err != nil {
		return nil, foreign
	}
	switch {
	case answer.Code.rule():
		return nil, &refusedError{string(answer.Code), firstOf(answer.Reason, answer.Detail, answer.Title)}
	case response.StatusCode >= 400:
		return nil, fail(a.t("节点 %s 没有接受（HTTP %d：%s）", "the node %s did not take it (HTTP %d: %s)", node, response.StatusCode, firstOf(answer.Title, answer.Detail, answer.Reason, http.StatusText(response.StatusCode))), firstOf(answer.Hint, a.runAgain()), nil)
	case !answer.Code.is(evidence.CodeOK) && !answer.Code.is(evidence.CodeRegistered), answer.Digest != evidence.SumSHA256(statement):
		return nil, foreign
	}
	return answer, nil
}

func firstOf(texts ...string) string {
	for _, s := range texts {
		if s != "" {
			return s
		}
	}
	return ""
}
