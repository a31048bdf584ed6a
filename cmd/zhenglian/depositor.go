package main

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"filippo.io/age"
	"github.com/spf13/cobra"

	"github.com/zhenglian/zhenglian/client"
	"github.com/zhenglian/zhenglian/evidence"
	memberhome "github.com/zhenglian/zhenglian/internal/member"
	"github.com/zhenglian/zhenglian/internal/signing"
	"github.com/zhenglian/zhenglian/internal/vault"
)

// memberAlliance is the founding document in a member's home. It need not be
// trusted: its digest must be the alliance id in enrolment.json.
const memberAlliance = "alliance.json"

// depositorFlags are what every command has that acts for a member.
type depositorFlags struct {
	home, alliance, prefer, passphrase string
	urls                               map[string]string
	timeout                            time.Duration
}

func (o *depositorFlags) add(a *app, cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.home, "home", "", a.t("成员目录 `DIR`；默认为环境变量 ZHENGLIAN_HOME，再次为 ~/.zhenglian", "the member's home `DIR`; by default the variable ZHENGLIAN_HOME, else ~/.zhenglian"))
	f.StringVar(&o.alliance, "alliance", "", a.t("联盟的创世文件 `FILE` 或某机构的网址；首次使用时需要，之后存于成员目录", "the alliance's founding document, a `FILE` or an institution's URL; needed once, then kept in the home"))
	f.StringVar(&o.prefer, "institution", "", a.t("先联系的机构代号 `ID`；不通时自动换其他机构", "`ID` of the institution to ask first; others are asked when it is down"))
	f.StringToStringVar(&o.urls, "url", nil, a.t("某机构的网址，代替创世文件中的：`ID=URL`", "an institution's address instead of the founding document's: `ID=URL`"))
	f.StringVar(&o.passphrase, "passphrase-file", "", a.t("密钥的口令在 `FILE` 的第一行", "the keys' passphrase is the first line of `FILE`"))
	f.DurationVar(&o.timeout, "timeout", 2*time.Minute, a.t("等待最终确认的时间：`DURATION`", "how long to wait until it is final: `DURATION`"))
}

// depositor is a member ready to deposit.
type depositor struct {
	*memberhome.Home
	client   *client.Client
	alliance *evidence.Alliance
	person   *enrolment
	dir      string
}

// openDepositor opens the member's home with its keys, and the alliance that
// her enrolment pins.
func (a *app) openDepositor(ctx context.Context, o depositorFlags) (*depositor, error) {
	if o.home == "" {
		o.home = a.env("ZHENGLIAN_HOME")
	}
	if o.home == "" {
		base := a.env("HOME")
		if base == "" {
			return nil, usage(a.t("缺少 --home", "--home is missing"), "")
		}
		o.home = filepath.Join(base, ".zhenglian")
	}
	m, err := a.openMember(o.home, o.passphrase)
	if err != nil {
		return nil, err
	}
	e, err := m.enrolled(a)
	if err != nil {
		return nil, err
	}
	d := &depositor{person: e, dir: o.home}
	if d.alliance, err = a.pinnedAlliance(ctx, o.home, o.alliance, e.Alliance); err != nil {
		return nil, err
	}
	if d.client, err = client.New(client.Config{Alliance: d.alliance, URLs: o.urls, Prefer: o.prefer, Signer: m.Key, Language: string(a.lang), Now: a.now}); err != nil {
		return nil, usage(err.Error(), "")
	}
	identity, err := m.vaultIdentity()
	if err != nil {
		return nil, err
	}
	recipient, err := recipientOf(m.Request.Vault)
	if err != nil {
		return nil, err
	}
	d.Home, err = memberhome.Open(ctx, memberhome.Config{Dir: o.home, Signer: m.Key, Identity: identity, Recipient: recipient, Now: a.now,
		Person: evidence.Person{Member: e.Member, Commitment: e.Commitment, Assurance: e.Assurance, Demo: e.Demo}})
	return d, err
}

func recipientOf(text string) (age.Recipient, error) {
	if r, err := age.ParseHybridRecipient(text); err == nil {
		return r, nil
	}
	return age.ParseX25519Recipient(text)
}

// pinnedAlliance returns the founding document with the id that the CA wrote
// into the enrolment: from the home, or from where the person says, which is
// then kept in the home.
func (a *app) pinnedAlliance(ctx context.Context, home, from string, pinned evidence.Digest) (*evidence.Alliance, error) {
	path := filepath.Join(home, memberAlliance)
	data, err := os.ReadFile(path)
	switch {
	case err == nil:
		return a.parsePinned(path, data, pinned)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	case from == "":
		return nil, usage(a.t("成员目录里还没有联盟的创世文件", "the member's home has no founding document of the alliance yet"),
			a.t("首次存证请加 --alliance alliance.json，或 --alliance https://任一机构的网址", "for the first deposit add --alliance alliance.json, or --alliance https://… of any institution"))
	case strings.HasPrefix(from, "http://"), strings.HasPrefix(from, "https://"):
		if _, data, err = client.FetchAlliance(ctx, http.DefaultClient, strings.TrimRight(from, "/"), pinned); err != nil {
			return nil, fail(a.t("没有从 %s 得到所登记联盟的创世文件", "%s did not give the founding document of the alliance that enrolled this member", from), "", err)
		}
	default:
		if data, err = a.readFile(from); err != nil {
			return nil, err
		}
	}
	alliance, err := a.parsePinned(from, data, pinned)
	if err != nil {
		return nil, err
	}
	if err := signing.CreateFile(path, data, 0o644); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return alliance, nil
}

func (a *app) parsePinned(path string, data []byte, pinned evidence.Digest) (*evidence.Alliance, error) {
	alliance, err := evidence.ParseAlliance(data)
	if err != nil {
		return nil, fail(a.t("%s 不是联盟的创世文件，或已被改动", "%s is no alliance's founding document, or it was altered", path), a.t("向联盟的任一机构重新索取", "get it again from any institution of the alliance"), err)
	}
	if alliance.ID() != pinned {
		return nil, fail(a.t("%s 属于另一个联盟（%s），成员登记在 %s", "%s is of another alliance (%s), the member is enrolled in %s", path, alliance.ID(), pinned), "", nil)
	}
	return alliance, nil
}

// trailNamed reads --trail: a digest, or "last".
func (a *app) trailNamed(h *memberhome.Home, text string) (evidence.Digest, error) {
	if text == "last" {
		trail, ok, err := h.LastTrail()
		if err == nil && !ok {
			err = usage(a.t("还没有任何存证事务，不能用 last", "there is no trail yet, so none is the last"), a.t("去掉 --trail 即新开一个", "leave --trail out to open one"))
		}
		return trail, err
	}
	trail, err := evidence.ParseDigest(text)
	if err != nil {
		return trail, usage(a.t("存证事务的名字是 64 位小写十六进制数字，或 last", "a trail is named by 64 lower-case hexadecimal digits, or by the word last"), a.t("`zhenglian trail list` 列出本目录的", "`zhenglian trail list` lists those of this home"))
	}
	return trail, nil
}

// network says in the reader's language what the client's and the home's errors
// mean, and what to do.
func (a *app) network(err error) error {
	if err == nil {
		return nil
	}
	var (
		refused  *client.Problem
		down     *client.UnavailableError
		quorum   *client.QuorumError
		open     *client.NotFinalError
		split    *client.EquivocationError
		fork     *memberhome.ForkError
		journal  *memberhome.DamagedError
		object   *vault.DamagedError
		resend   = a.t("稍后运行 `zhenglian deposit --resume`：会重发同一份存证，位置不变", "run `zhenglian deposit --resume` later: it sends the same statement, which keeps its place")
		informed *failure
	)
	switch {
	case errors.As(err, &informed):
		return err
	case errors.As(err, &split):
		return fail(a.t("发现分叉：日志大小为 %d 时，%s 与 %s 签署了不同的根 %s 和 %s", "two logs were shown: at size %d, %s and %s signed different roots, %s and %s", split.Size, split.ByA, split.ByB, split.RootA, split.RootB),
			a.t("这是这些机构作假或密钥被盗的证据：保留本机记录，向联盟的其他机构报告", "this is proof against whoever signed both: keep what this machine has, and tell the other institutions"), nil)
	case errors.As(err, &open):
		return fail(a.t("机构已收下存证 %s，但在等待时间内没有最终确认", "an institution has the statement %s, but it is not final within the time allowed", open.Digest), resend, nil)
	case errors.As(err, &refused) && refused.Rule():
		return fail(a.t("联盟的规则拒绝了这份存证（%s）：%s", "the rules of the alliance refuse the statement (%s): %s", refused.Code, firstOf(refused.Title, refused.Detail)), refused.Hint, nil)
	case errors.As(err, &quorum):
		return fail(a.t("只有 %d 家机构作证，需要 %d 家", "%d institutions vouch for it, and %d are needed", quorum.Have, quorum.Need), resend, rejectedBy(quorum.Rejected))
	case errors.As(err, &down):
		return fail(a.t("没有机构能够答复", "no institution could answer"), a.t("检查网络后再试；已签名的存证不会丢失，用 `zhenglian deposit --resume` 重发", "see to the network and try again; what was signed is not lost, `zhenglian deposit --resume` sends it"), rejectedBy(down.Attempts))
	case errors.As(err, &refused):
		return fail(a.t("%s 没有答应（%s）：%s", "%s refused it (%s): %s", refused.Institution, refused.Code, firstOf(refused.Title, refused.Detail)), refused.Hint, nil)
	case errors.Is(err, client.ErrNotFound):
		return fail(a.t("联盟的日志中没有它", "the alliance's log does not have it"), a.t("刚提交的需要片刻；核对存证事务的名字", "what was just sent needs a moment; check the trail's name"), nil)
	case errors.As(err, &fork):
		return fail(a.t("不能向存证事务 %s 添加步骤", "no step can be added to trail %s", fork.Trail), a.t("本密钥须是其所有者，或得到所有者授权（`zhenglian trail authorise`）", "the key must be its owner's, or be authorised by the owner (`zhenglian trail authorise`)"), errors.New(fork.Reason))
	case errors.As(err, &journal):
		return fail(a.t("成员目录中的 %s 已损坏", "%s in the member's home is damaged", journal.Path), a.t("从备份恢复该文件；其余存证事务不受影响", "restore the file from a backup; other trails are not affected"), journal.Err)
	case errors.As(err, &object):
		return fail(a.t("保管库中的文件 %s 已损坏", "the object %s in the vault is damaged", object.Object), a.t("从备份恢复保管库；链上的存证仍然有效", "restore the vault from a backup; what is registered stands"), err)
	case errors.Is(err, context.DeadlineExceeded):
		return fail(a.t("超过了等待时间", "the time allowed is over"), a.t("用 --timeout 放宽；已签名的存证用 `zhenglian deposit --resume` 重发", "allow more with --timeout; what was signed is sent by `zhenglian deposit --resume`"), nil)
	}
	return err
}

func rejectedBy(all []client.Attempt) error {
	if len(all) == 0 {
		return nil
	}
	texts := make([]string, 0, len(all))
	for _, at := range all {
		texts = append(texts, at.Institution+": "+at.Err.Error())
	}
	return errors.New(strings.Join(texts, "; "))
}
