package main

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/zhenglian/zhenglian/client"
	"github.com/zhenglian/zhenglian/internal/institution"
)

// register sends a statement of the registry to the institution's own node, to
// the others' when that one does not take it, and waits until it is proven final.
// node is the own node's URL when it is not the descriptor's. It returns a
// *client.Problem whose Rule is true where the rules refuse the statement; after
// every other error the same bytes may be sent again.
func (a *app) register(ctx context.Context, h *institution.Home, node string, statement []byte, timeout time.Duration) (*client.Final, error) {
	// One round over the institutions: an officer who waits is told at once that
	// nobody answers.
	config := client.Config{Alliance: h.Alliance, Prefer: h.ID(), Patience: -1, Language: string(a.lang), Now: a.now}
	if node != "" {
		config.URLs = map[string]string{h.ID(): node}
	}
	c, err := client.New(config)
	if err != nil && node != "" {
		return nil, usage(a.t("%q 不是网址", "%q is no URL", node), a.t("写成 https://court.example:8443", "write it like https://court.example:8443"))
	}
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	final, err := c.Deposit(ctx, statement)
	if err != nil {
		return nil, a.notRegistered(err, timeout)
	}
	return final, nil
}

// notRegistered says what became of a statement that is not proven final.
func (a *app) notRegistered(err error, timeout time.Duration) error {
	again := a.t("稍后用同样的命令再运行一次", "run the same command again later")
	var (
		refused *client.Problem
		open    *client.NotFinalError
		quorum  *client.QuorumError
		down    *client.UnavailableError
		split   *client.EquivocationError
	)
	switch {
	case errors.As(err, &split):
		return a.network(err)
	case errors.Is(err, context.Canceled):
		return context.Canceled
	case errors.As(err, &quorum):
		return fail(a.t("%s 内没有得到证明：只有 %d 家机构作证，需要 %d 家", "it was not proven within %s: %d institutions vouch for it, and %d are needed", timeout, quorum.Have, quorum.Need), again, rejectedBy(quorum.Rejected))
	case !errors.As(err, &open) && errors.As(err, &down): // before the next: a dead line's timeout is a DeadlineExceeded too
		hint := a.t("检查节点是否在运行，或用 --node 指定网址，再运行同样的命令", "see whether the nodes run, or name another address with --node, and run the same command again")
		if errors.As(err, &refused) {
			hint = firstOf(refused.Hint, again)
		}
		return fail(a.t("没有机构收下它", "no institution took it"), hint, rejectedBy(down.Attempts))
	case open != nil, errors.Is(err, context.DeadlineExceeded):
		return fail(a.t("各机构在 %s 内没有最终确认", "the institutions did not confirm it within %s", timeout), again, nil)
	case errors.As(err, &refused):
		return refused
	}
	return err
}

// explainProblem says what an institution refused.
func (a *app) explainProblem(p *client.Problem) (what, hint string) {
	reason := firstOf(p.Detail, p.Title, http.StatusText(p.Status))
	if p.Rule() {
		return a.t("链上规则拒绝了它（%s：%s）", "the rules of the chain refuse it (%s: %s)", p.Code, reason), p.Hint
	}
	return a.t("%s 没有接受（HTTP %d：%s）", "%s did not take it (HTTP %d: %s)", p.Institution, p.Status, reason),
		firstOf(p.Hint, a.t("稍后用同样的命令再运行一次", "run the same command again later"))
}

func firstOf(texts ...string) string {
	for _, s := range texts {
		if s != "" {
			return s
		}
	}
	return ""
}
