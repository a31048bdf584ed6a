package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/zhenglian/zhenglian/client"
	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/identity/ca"
	"github.com/zhenglian/zhenglian/internal/institution"
	"github.com/zhenglian/zhenglian/internal/signing"
	"github.com/zhenglian/zhenglian/internal/timestamp"
)

// rotateFlags are the flags of institution rotate.
type rotateFlags struct {
	home, use, reason, algorithm, node string
	sm2                                bool
	timeout                            time.Duration
}

func newInstitutionRotate(a *app) *cobra.Command {
	var o rotateFlags
	cmd := &cobra.Command{
		Use:   "rotate --home DIR --use USE [OPTIONS]",
		Short: a.t("更换机构的一把密钥，旧回执照样有效", "Replace one of the institution's keys; old receipts stay valid"),
		Long: a.t(`在本机生成新密钥，用机构现有的声明密钥（statement）签一份更换记录并登记上链。
记录位置之前的日志规模仍由旧密钥担保，之后的由新密钥担保；旧回执一份也不用重签。
运行中的节点自行改用新密钥，无须重启。中断后用同样的命令再运行一次即可接着做完。
声明密钥本身如已丢失，或已落入他人之手，本命令无能为力：要由联盟其他机构表决，
而表决尚未实现。
tsa、ca 两种密钥不登记上链：旧证书留在公开文件中，签过的照样有效；相关进程须重启。`,
			`Makes the new key on this host, signs the change with the institution's present
statement key, and registers it. For sizes of the log up to the change's position the
old key stands, beyond it the new one; no old receipt has to be signed again. A running
node goes over to the new key by itself, without a restart. After an interruption the
same command goes on where it was.
When the statement key itself is lost, or in somebody else's hands, this does not help:
the other institutions would have to vote, and votes are not there yet.
The tsa and ca keys stand in no log: their old certificates stay in the public file,
what they signed stays valid, and the processes that use them have to be restarted.`),
		Example: "  zhenglian institution rotate --home /var/lib/zhenglian/court --use receipt\n" +
			"  zhenglian institution rotate --home /var/lib/zhenglian/court --use cosign --reason keyCompromise\n" +
			"  zhenglian institution rotate --home /var/lib/zhenglian/ca --use ca",
		Args: a.arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.require(cmd, "home", "use"); err != nil {
				return err
			}
			return a.rotate(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.home, "home", "", a.t("机构目录：`DIR`", "the institution's home `DIR`"))
	f.StringVar(&o.use, "use", "", a.t("密钥用途 `USE`：receipt 回执、cosign 检查点、attest 鉴证、statement 声明、tsa 时间戳、ca 成员证书", "what the key is for, `USE`: receipt, cosign, attest, statement, tsa or ca"))
	f.StringVar(&o.reason, "reason", "superseded", a.t("原因 `REASON`：superseded 例行更换、keyCompromise 可能已泄露、unspecified", "`REASON`: superseded (routine), keyCompromise or unspecified"))
	f.BoolVar(&o.sm2, "sm2", false, a.t("更换的是 SM2 的回执密钥或成员证书密钥", "the SM2 key is the one to replace, of receipts or members' certificates"))
	f.StringVar(&o.algorithm, "algorithm", "", a.t("新密钥的算法 `ALG`：ed25519、p256 或 sm2；默认与旧密钥相同", "`ALG` of the new key: ed25519, p256 or sm2; the old key's by default"))
	f.StringVar(&o.node, "node", "", a.t("节点的网址 `URL`；默认为本机构描述中的公开接口", "the node's `URL`; the descriptor's public interface by default"))
	f.DurationVar(&o.timeout, "timeout", time.Minute, a.t("等待最终确认的时间：`DURATION`", "how long to wait until it is final: `DURATION`"))
	return cmd
}

// rotationReasons are the CRLReasons for which a key is replaced.
func rotationReasons() map[string]uint64 {
	return map[string]uint64{"superseded": evidence.ReasonSuperseded, "keyCompromise": evidence.ReasonCompromised, "unspecified": evidence.ReasonUnspecified}
}

func (a *app) rotate(ctx context.Context, o rotateFlags) error {
	if o.algorithm != "" && (o.use == "tsa" || o.use == "ca") {
		return usage(a.t("--use %s 时不能给 --algorithm", "--algorithm does not go with --use %s", o.use), a.t("这种密钥只用 P-256，ca 加 --sm2 时为 SM2", "these keys are always P-256 or, with --sm2, SM2"))
	}
	switch o.use {
	case "tsa":
		return a.rotateTSA(o.home)
	case "ca":
		return a.rotateCA(o.home, o.sm2)
	}
	use := evidence.KeyUse(o.use)
	if !use.Replaceable() {
		hint := a.t("可用：receipt、cosign、attest、statement、tsa、ca", "use receipt, cosign, attest, statement, tsa or ca")
		if use == evidence.UseConsensus || use == evidence.UseNode || use == evidence.UseTLS {
			hint = a.t("consensus、node、tls 三把密钥由创世文件固定，要更换须由联盟表决，而表决尚未实现", "the consensus, node and tls keys are fixed by the genesis: replacing them needs a vote of the alliance, and votes are not there yet")
		}
		return usage(a.t("--use 不能是 %q", "--use cannot be %q", o.use), hint)
	}
	reason, ok := rotationReasons()[o.reason]
	if !ok {
		return usage(a.t("没有 %q 这个原因", "there is no reason %q", o.reason), a.t("可用：superseded、keyCompromise、unspecified", "use superseded, keyCompromise or unspecified"))
	}
	var alg evidence.Algorithm
	if o.algorithm != "" {
		var err error
		if alg, err = signing.ParseAlgorithm(o.algorithm); err != nil {
			return usage(a.t("--algorithm 不能是 %q", "--algorithm cannot be %q", o.algorithm), a.t("可用：ed25519、p256、sm2", "use ed25519, p256 or sm2"))
		}
	}
	h, err := institution.Open(o.home, evidence.UseStatement)
	if err != nil {
		return err
	}
	if _, err := h.Joined(); err != nil {
		return err
	}
	r, err := h.BeginRotation(use, o.sm2 && use == evidence.UseReceipt, alg)
	if err != nil {
		return err
	}
	if r.Resumed {
		a.progress("接着做完上次中断的更换。", "Going on with the replacement that was interrupted.")
	}
	if err := r.Sign(h.Key(evidence.UseStatement), reason, a.now()); err != nil {
		return err
	}
	final, err := a.register(ctx, h, o.node, r.Statement, o.timeout)
	if err != nil {
		return a.withdraw(r, err)
	}
	if err := r.Finish(final.Entry, final.Position); err != nil {
		return err
	}
	a.say("%s 的 %s 密钥已更换。", "The %[2]s key of %[1]s is replaced.", h.ID(), use)
	a.fields(
		a.t("旧密钥", "old key"), r.Replaces.String(),
		a.t("新密钥", "new key"), r.Key.Public().KID().String(),
		a.t("新私钥（不得离开本机）", "new private key (stays here)"), r.KeyPath(),
		a.t("记录位置", "position of the change"), fmt.Sprint(final.Position),
		a.t("旧密钥管到日志规模", "old key counts up to log size"), fmt.Sprint(final.Position),
		a.t("新密钥自日志规模", "new key counts from log size"), fmt.Sprint(final.Position+1))
	if use == evidence.UseReceipt {
		a.awaitNewReceipt(ctx, h, o, final.Entry, r.Key.Public())
	}
	a.sayNext(h, use, reason, r)
	return nil
}

// withdraw says why the log did not take a change, and clears the way for
// another try.
func (a *app) withdraw(r *institution.Rotation, err error) error {
	var refused *client.Problem
	if !errors.As(err, &refused) || !refused.Rule() {
		return err
	}
	burned := refused.Code == evidence.CodeConflict.String() && strings.HasSuffix(refused.Field, "key")
	if werr := r.Withdraw(burned); werr != nil {
		return errors.Join(err, werr)
	}
	return err
}

// newReceiptWait is how long the own node's first signature with a new key is
// waited for: it comes with the root of the block that has the change.
const newReceiptWait = 15 * time.Second

// awaitNewReceipt says whether the running node went over to the new key.
func (a *app) awaitNewReceipt(ctx context.Context, h *institution.Home, o rotateFlags, entry evidence.Digest, key *evidence.PublicKey) {
	config := client.Config{Alliance: h.Alliance, Prefer: h.ID(), Patience: -1, Language: string(a.lang), Now: a.now}
	if o.node != "" {
		config.URLs = map[string]string{h.ID(): o.node}
	}
	c, err := client.New(config)
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, newReceiptWait)
	defer cancel()
	for ctx.Err() == nil {
		if final, err := c.Confirm(ctx, entry); err == nil {
			for _, data := range final.Receipts {
				if rec, err := evidence.ParseReceipt(data); err == nil && rec.KID == key.KID() {
					a.say("\n本机构的节点已用新密钥签出回执，无须重启。", "\nThis institution's node has signed a receipt with the new key; it needs no restart.")
					return
				}
			}
			if key.Algorithm() == evidence.SM2SM3 {
				return // receipts in another algorithm are shown before it
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
		}
	}
	a.say("\n还没有见到本机构节点用新密钥签出的回执：请确认节点在运行，且能读 %s；节点每两秒再找一次。",
		"\nNo receipt of this institution by the new key has been seen yet: see that the node runs and\ncan read %s; it looks again every two seconds.", filepath.Join(h.Path, "keys"))
}

func (a *app) sayNext(h *institution.Home, use evidence.KeyUse, reason uint64, r *institution.Rotation) {
	old := a.t("旧私钥今后不再需要，可离线封存", "the old private key is not needed any more and can be stored offline")
	if reason == evidence.ReasonCompromised {
		old = a.t("销毁旧私钥，并查明它如何泄露；它对此前日志规模的签名仍有效，核验报告会注明它已泄露", "destroy the old private key and find out how it got out; its signatures over sizes before stay valid, and reports say that it was compromised")
	}
	restart := ""
	if use == evidence.UseStatement {
		restart = a.t("\n  4. 本机构的门户等长期运行的程序若仍用旧密钥，会收到 revoked-key：重启它们。", "\n  4. Programs that run for long, such as the portal, get revoked-key while they use the old key:\n     restart them.")
	}
	a.say("\n下一步：\n  1. 离线备份 %s。\n  2. %s。\n  3. 持有核验策略文件的人可取得当前策略：zhenglian alliance policy alliance.json --follow --out policy.json%s",
		"\nNext:\n  1. Back up %s offline.\n  2. About the old one: %s.\n  3. Whoever keeps a policy file gets the current one with:\n     zhenglian alliance policy alliance.json --follow --out policy.json%s", r.KeyPath(), old, restart)
}

// rotateTSA gives a home's timestamp authority its next key and certificate.
func (a *app) rotateTSA(home string) error {
	t, n, err := institution.RotateTSA(home, a.now(), timestamp.SelfIssue)
	if err != nil {
		return err
	}
	a.say("时间戳机构“%s”（%s）有了新的密钥和证书。", "The timestamp authority %q (%s) has its next key and certificates.", t.Name, t.ID)
	a.fields(
		a.t("新私钥（不得离开本机）", "new private key (stays here)"), filepath.Join(home, "keys", fmt.Sprintf("tsa.%d.pem", n)),
		a.t("新证书链", "new certificates"), filepath.Join(home, "tsa", fmt.Sprintf("chain.%d.pem", n)),
		a.t("公开文件（含新旧根证书）", "public file, with the old roots"), filepath.Join(home, "tsa", "authority.json"))
	a.say("\n下一步：\n  1. 备份新私钥。\n  2. 先把 tsa/authority.json 交给请求时间戳的节点和制定核验策略的人：没有它的人会拒收新时间戳。\n  3. 然后重启本机构的节点；重启之前仍用旧密钥。旧时间戳照样有效。",
		"\nNext:\n  1. Back up the new private key.\n  2. First hand tsa/authority.json to the nodes that ask it and to those who write policies: without it\n     they refuse the new tokens.\n  3. Then restart this institution's node; until then it signs with the old key. Old tokens stay valid.")
	return nil
}

// rotateCA gives a home's certification authority its next key and certificate.
func (a *app) rotateCA(home string, sm2 bool) error {
	r, err := institution.RotateCA(home, sm2, a.now(), ca.SelfIssue)
	if err != nil {
		return err
	}
	a.say("“%s”（%s）的成员证书有了新的签发密钥和根证书（第 %d 代）。", "%q (%s) has its next key and root for members' certificates (generation %d).", r.Authority.Name, r.Authority.ID, r.Generation)
	a.fields(
		a.t("新私钥（不得离开本机）", "new private key (stays here)"), r.Key,
		a.t("新根证书（核验此后签发的）", "new root, for what is issued from now on"), r.Certificate,
		a.t("旧根证书（核验此前签发的）", "old root, for what was issued before"), r.Former,
		a.t("公开文件（含新旧根证书）", "public file, with the old roots"), filepath.Join(home, "ca", "authority.json"))
	a.say(`
下一步：
  1. 备份新私钥。
  2. 把 ca/authority.json 交给制定核验策略的人：没有它的人会拒收新根签发的证书。
  3. 重启本机构的门户和 zhenglian ca serve。重启之前它们仍用旧密钥签发，也不答复新密钥
     所签证书的吊销查询；而 zhenglian ca issue 现在就用新密钥。
旧证书照样有效。旧私钥仍要给它们签吊销列表，须留在原处，直到最后一张到期之后七天。`, `
Next:
  1. Back up the new private key.
  2. Hand ca/authority.json to those who write policies: without it they refuse certificates
     under the new root.
  3. Restart this institution's portal and zhenglian ca serve. Until then they issue under
     the old key and answer no question about certificates under the new one, which
     zhenglian ca issue uses from now on.
Old certificates stay valid. The old private key signs their revocation list: leave it where
it is until seven days after the last of them has ended.`)
	return nil
}
