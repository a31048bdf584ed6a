package main

import (
	"context"
	"crypto"
	"crypto/sha512"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/evidence/rfc3161"
	"github.com/zhenglian/zhenglian/internal/institution"
	"github.com/zhenglian/zhenglian/internal/timestamp"
)

func newTimestampCommand(a *app) *cobra.Command {
	var o depositorFlags
	var step int
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "timestamp (TRAIL | renew PACKAGE) [OPTIONS]",
		Short: a.t("为存证取得自身的时间戳；为证据包续期时间戳", "Timestamp statements themselves; renew the timestamps of a package"),
		Long: a.t(`请机构的时间戳机构为一个存证事务中的存证本身加盖时间戳（RFC 3161）：日志检查点的时间戳之外，
不依赖日志即可核对。TRAIL 是存证事务的名字，或 last；--step 指定一步，默认为全部。
取得后用 zhenglian package 写出的证据包含有这些时间戳。

zhenglian timestamp renew PACKAGE 为已有的证据包续期。`,
			`Has the institutions' timestamp authorities stamp the statements of a trail
themselves (RFC 3161): beside the tokens over checkpoints of the log, and to be
checked without it. TRAIL is the trail's name, or last; --step names one, by default
all are stamped. A package that zhenglian package then writes has the tokens.

zhenglian timestamp renew PACKAGE renews the timestamps of a package.`),
		Example: "  zhenglian timestamp last\n  zhenglian package last --out evidence.zip",
		Args:    a.arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), o.timeout)
			defer cancel()
			return a.network(a.stampTrail(ctx, o, args[0], step, asJSON))
		},
	}
	cmd.Flags().IntVar(&step, "step", 0, a.t("只盖第 `N` 步，从 1 起", "only step `N`, from 1"))
	cmd.Flags().BoolVar(&asJSON, "json", false, a.t("每步输出一行 JSON", "write one line of JSON for each step"))
	o.add(a, cmd)
	hideEmptyDefaults(cmd)
	cmd.AddCommand(newTimestampRenew(a))
	return cmd
}

// stampedStep is a line of --json.
type stampedStep struct {
	Step        int             `json:"step"`
	Statement   evidence.Digest `json:"statement"`
	Authorities []string        `json:"authorities"`
}

func (a *app) stampTrail(ctx context.Context, o depositorFlags, name string, only int, asJSON bool) error {
	d, err := a.openDepositor(ctx, o)
	if err != nil {
		return err
	}
	defer d.Close()
	id, err := a.trailNamed(d.Home, name)
	if err != nil {
		return err
	}
	if _, err := d.Resend(ctx, d.client, id, nil); err != nil {
		return err
	}
	trail, err := d.client.Trail(ctx, id)
	if err != nil {
		return err
	}
	if only < 0 || only > len(trail.Steps) {
		return usage(a.t("--step 应为 1 到 %d，不能是 %d", "--step is 1 to %d, not %d", len(trail.Steps), only), "")
	}
	for i, s := range trail.Steps {
		if only > 0 && i+1 != only {
			continue
		}
		final, err := d.client.Confirm(ctx, s.Digest())
		if err != nil {
			return err
		}
		by, err := a.stampOwn(ctx, d, final.Position, s.Digest())
		if err != nil {
			return fail(a.t("第 %d 步没有取得时间戳", "no timestamp is to be had for step %d", i+1), a.t("机构须配置时间戳机构；稍后再试，或用 --institution 换一家", "the institution must ask a timestamp authority; try again later, or another one with --institution"), err)
		}
		if asJSON {
			if err := json.NewEncoder(a.out).Encode(stampedStep{i + 1, s.Digest(), by}); err != nil {
				return err
			}
			continue
		}
		a.say("第 %d 步已有自身的时间戳：%s", "Step %d has a timestamp of its own, by %s", i+1, strings.Join(by, a.t("、", ", ")))
	}
	if !asJSON {
		a.say("\n下一步：用 `zhenglian package %s` 写出含有它们的证据包", "\nNext: `zhenglian package %s` writes the package with them", id)
	}
	return nil
}

// stampOwn has a statement stamped and returns by whom.
func (a *app) stampOwn(ctx context.Context, d *depositor, position uint64, statement evidence.Digest) ([]string, error) {
	tokens, err := d.client.StampStatement(ctx, position, statement)
	if err != nil {
		return nil, err
	}
	return sortedNames(tokens), nil
}

func (a *app) warnNoToken(err error) {
	a.progress("注意：没有取得存证自身的时间戳（%v）；存证不依赖它。稍后用 `zhenglian timestamp` 可补上。", "Note: no timestamp of the statement itself is to be had (%v); the deposit stands without. `zhenglian timestamp` can add it later.", err)
}

func newTimestampRenew(a *app) *cobra.Command {
	var url, file, out string
	var timeout time.Duration
	cmd := &cobra.Command{
		Hidden: true, // the usage line of timestamp names it
		Use:    "renew PACKAGE --tsa URL --authority FILE [--out FILE]",
		Short:  a.t("为证据包的时间戳续期", "Renew the timestamps of a package"),
		Long: a.t(`列出证据包中每个文件的 SHA-512，请时间戳机构为清单加盖新的时间戳，放入 timestamps/renewals/。
在原时间戳的证书到期、算法或密钥失效之前续期，证据包的时间就能继续得到证明。其他文件不变。
--authority 是该时间戳机构公布的 authority.json；核验策略也须信任它。`,
			`Lists every file of the package by SHA-512, has a timestamp authority stamp the list,
and puts both under timestamps/renewals/. Renewed before the certificates of its
tokens end, or an algorithm or a key falls, a package goes on proving its time. No
other file changes. --authority is the public authority.json of that authority, which
verifiers' policies must trust too.`),
		Example: "  zhenglian timestamp renew evidence.zip --tsa https://ca.example:8443/tsa --authority authority.json",
		Args:    a.arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.require(cmd, "tsa", "authority"); err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			return a.renewPackage(ctx, args[0], firstOf(out, args[0]), url, file)
		},
	}
	cmd.Flags().StringVar(&url, "tsa", "", a.t("时间戳机构的网址：`URL`", "address of the timestamp authority: `URL`"))
	cmd.Flags().StringVar(&file, "authority", "", a.t("它公布的 authority.json：`FILE`", "its public authority.json: `FILE`"))
	cmd.Flags().StringVar(&out, "out", "", a.t("写到 `FILE`；默认替换原文件", "write to `FILE`; by default the package is replaced"))
	cmd.Flags().DurationVar(&timeout, "timeout", 2*time.Minute, a.t("等待的时间：`DURATION`", "how long to wait: `DURATION`"))
	return cmd
}

// renewPackage adds a renewal to a package, whole or not at all.
func (a *app) renewPackage(ctx context.Context, in, out, url, file string) error {
	authority, err := institution.ReadAuthority(file)
	if err != nil {
		return fail(a.t("时间戳机构的文件 %s 不能用", "the timestamp authority's file %s cannot be used", file), a.t("向该机构索取 authority.json", "get authority.json from that institution"), err)
	}
	remote := timestamp.Remote{Name: authority.ID, URL: url, Trust: rfc3161.Trust{Anchors: authority.Anchors()}}
	if authority.Demonstration {
		remote.Policy = rfc3161.DemonstrationPolicy
	}
	c, err := timestamp.NewClient(timestamp.ClientConfig{Authorities: []timestamp.Remote{remote}})
	if err != nil {
		return usage(err.Error(), "")
	}
	f, err := os.Open(in)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	p, err := evidence.OpenPackage(f, info.Size())
	if err != nil {
		return &failure{what: a.t("%s 不能作为证据包打开", "%s cannot be opened as an evidence package", in), code: exitUsage, err: err}
	}
	if found, err := p.Check(ctx, nil); err != nil {
		return err
	} else if len(found) > 0 {
		return fail(a.t("证据包中的 %s 已损坏，没有续期", "%s in the package is damaged; it was not renewed", found[0].Path), a.t("从完好的副本续期", "renew a copy that is whole"), nil)
	}
	n, list, err := p.ListForRenewal(ctx)
	if err != nil {
		return err
	}
	sum := sha512.Sum512(list)
	token, err := c.StampDigest(ctx, crypto.SHA512, sum[:])
	if err != nil {
		return fail(a.t("没有取得时间戳，证据包没有改动", "no timestamp is to be had; the package was left as it is"), a.t("检查网址和 authority.json，稍后再试", "see whether the address and authority.json are right, and try again later"), err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(out), ".zhenglian-*.part")
	if err != nil {
		return err
	}
	defer func() {
		_ = tmp.Close()
		_ = os.Remove(tmp.Name()) // gone already when all went well
	}()
	if err := p.AddTimestamps(tmp, map[string][]byte{evidence.RenewalListPath(n): list, evidence.RenewalTokenPath(n, authority.ID): token.DER}); err != nil {
		return fmt.Errorf("writing %s: %w", out, err)
	}
	if err := errors.Join(tmp.Chmod(0o600), tmp.Sync(), tmp.Close()); err != nil {
		return fmt.Errorf("writing %s: %w", out, err)
	}
	if err := os.Rename(tmp.Name(), out); err != nil {
		return err
	}
	a.say("证据包已续期（第 %d 次）。", "The package is renewed (renewal %d).", n)
	a.fields(a.t("证据包", "package"), out, a.t("时间戳机构", "authority"), authority.Name, a.t("时间", "time"), token.Info.Time.UTC().Format(time.RFC3339),
		a.t("其证书到期", "its certificate ends"), token.Info.Ends().Format(time.RFC3339))
	return nil
}
