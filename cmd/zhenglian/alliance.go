package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/zhenglian/zhenglian/client"
	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/institution"
)

func newAllianceCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "alliance",
		Short: a.t("联盟：创世、查看、导出核验策略", "An alliance: its genesis, its trust policy"),
		Long: a.t("联盟由各机构公开的描述组成。创世文件的摘要就是联盟编号，任何一处改动都会改变它。",
			"An alliance is made of its institutions' public descriptors. The digest of the\ngenesis is the alliance's id: any change in it changes the id."),
	}
	cmd.AddCommand(newAllianceGenesis(a), newAllianceShow(a), newAlliancePolicy(a))
	return cmd
}

func newAllianceGenesis(a *app) *cobra.Command {
	var name, slug, out, created string
	cmd := &cobra.Command{
		Use:   "genesis --name NAME --slug SLUG --out FILE DESCRIPTOR...",
		Short: a.t("用机构描述创立联盟", "Found an alliance from descriptors"),
		Long: a.t("核对每份描述的持钥证明，写出创世文件。只读公开文件，不接触任何私钥；一个机构也可以创立联盟。",
			"Checks each descriptor's proofs of possession and writes the genesis. It reads\npublic files alone and no private key. One institution is enough."),
		Example: "  zhenglian alliance genesis --name 浙江司法存证联盟 --slug zhejiang --out alliance.json court.json notary.json ca.json",
		Args:    a.arguments(1, evidence.MaxInstitutions),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.require(cmd, "name", "slug", "out"); err != nil {
				return err
			}
			when := a.now().UTC().Truncate(time.Second)
			if created != "" {
				var err error
				if when, err = time.Parse(time.RFC3339, created); err != nil {
					return usage(a.t("--created %q 不是 RFC 3339 时间", "--created %q is no RFC 3339 time", created), a.t("写成 2026-01-02T03:04:05Z", "write it like 2026-01-02T03:04:05Z"))
				}
			}
			var descriptors []evidence.Descriptor
			for _, path := range args {
				data, err := a.readFile(path)
				if err != nil {
					return err
				}
				d, err := evidence.ParseDescriptor(data)
				if err != nil {
					return fail(a.t("%s 不能用作机构描述", "%s cannot be used as a descriptor", path), "", err)
				}
				descriptors = append(descriptors, *d)
			}
			al, err := evidence.NewAlliance(name, slug, when, descriptors)
			if err != nil {
				return fail(a.t("不能用这些描述创立联盟", "these descriptors cannot found an alliance"), "", err)
			}
			data, err := al.Encode()
			if err != nil {
				return err
			}
			if err := a.writeNew(out, data); err != nil {
				return err
			}
			if out == "-" {
				return nil
			}
			a.say("联盟“%s”已创立：%s", "The alliance %q is founded: %s", al.Name, out)
			a.showAlliance(al)
			a.say("\n下一步：\n  1. 把 %s 交给每个机构；各机构当面或电话核对联盟编号。\n  2. 各机构在自己的主机上运行：zhenglian institution join --home DIR alliance.json",
				"\nNext:\n  1. Send %s to each institution; compare the alliance id in person or by telephone.\n  2. Each institution runs, on its own host: zhenglian institution join --home DIR alliance.json", out)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&name, "name", "", a.t("联盟名称：`NAME`", "the alliance's `NAME`"))
	f.StringVar(&slug, "slug", "", a.t("短名 `SLUG`：小写字母、数字、连字符，用于公开检查点", "short `SLUG` of lower-case letters, digits and hyphens, for public checkpoints"))
	f.StringVar(&out, "out", "", a.t("写到新文件 `FILE`；- 为标准输出", "the new `FILE` to write; - is standard output"))
	f.StringVar(&created, "created", "", a.t("创立时间（RFC 3339）`TIME`；默认为现在", "the `TIME` of founding (RFC 3339); now by default"))
	return cmd
}

func (a *app) readAlliance(path string) (*evidence.Alliance, error) {
	data, err := a.readFile(path)
	if err != nil {
		return nil, err
	}
	al, err := evidence.ParseAlliance(data)
	if err != nil {
		return nil, fail(a.t("%s 不是联盟的创世文件，或已被改动", "%s is no alliance's genesis, or it was altered", path), a.t("向联盟的另一机构重新索取", "get it again from another institution of the alliance"), err)
	}
	return al, nil
}

func newAllianceShow(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "show FILE",
		Short: a.t("核对并显示创世文件", "Check a genesis and show it"),
		Args:  a.arguments(1, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			al, err := a.readAlliance(args[0])
			if err != nil {
				return err
			}
			a.say("联盟：%s", "Alliance: %s", al.Name)
			a.showAlliance(al)
			for i := range al.Institutions {
				d := &al.Institutions[i]
				a.say("\n%s（%s，%s）", "\n%s (%s, %s)", d.Name, d.ID, d.Kind)
				a.fields(
					a.t("公开接口", "public interface"), d.Addresses.API,
					a.t("机构间接口", "peer interface"), d.Addresses.Peer,
					a.t("共识引擎", "consensus engine"), d.Addresses.P2P)
				if err := a.showKeys(d); err != nil {
					return err
				}
				cosign, err := d.PublicKeys(evidence.UseCosign)
				if err != nil {
					return err
				}
				for _, key := range cosign {
					a.fields(a.t("检查点核验密钥", "checkpoint key"), evidence.CosignerVKey(al.CosignerName(d.ID), key))
				}
			}
			return nil
		},
	}
}

func (a *app) showAlliance(al *evidence.Alliance) {
	n := len(al.Institutions)
	ids := make([]string, n)
	for i := range al.Institutions {
		ids[i] = al.Institutions[i].ID
	}
	quorum := evidence.Quorum(n)
	a.fields(
		a.t("联盟编号", "alliance id"), al.ID().String(),
		a.t("法定数", "quorum"), a.t("%d 个机构中的 %d 个；可容忍 %d 个停机", "%[2]d of %[1]d institutions; %[3]d may be down", n, quorum, n-quorum),
		a.t("机构", "institutions"), strings.Join(ids, " "),
		a.t("检查点来源行", "checkpoint origin"), al.Origin(),
		a.t("链号", "chain id"), al.ChainID,
		a.t("规则版本", "rules"), fmt.Sprint(al.Rules),
		a.t("创立时间", "created"), al.Created)
}

// policyFlags are the flags of alliance policy.
type policyFlags struct {
	out, base   string
	follow      bool
	nodes       []string
	authorities []string
	issuers     []string
	timeout     time.Duration
}

func newAlliancePolicy(a *app) *cobra.Command {
	var o policyFlags
	cmd := &cobra.Command{
		Use:   "policy ALLIANCE_FILE [--follow] [--timestamp-authority FILE]... [--certificate-authority FILE]... [--out FILE]",
		Short: a.t("导出核验策略", "Write the trust policy for verification"),
		Long: a.t(`核验策略列出核验证据包时信任谁的密钥、要多少机构一致。证据包从不自带信任。
不加 --follow 时只有创世时的密钥，不联网。加上 --follow 则向各机构索取日志中的密钥更换记录，
从创世文件起逐一核验（机构自己的签名、新密钥的持有证明、法定数机构的回执），写出每把密钥
管到的日志规模。一家机构隐瞒的，别家会给出；编造的不被采信。`,
			`The policy says whose keys a verification trusts and how many institutions must
agree. An evidence package never brings its own trust. Without --follow it has the
founding keys, and nobody is asked. With it the institutions are asked for the key changes
in the log; each is proven from the genesis on (the institution's own signature, the proof
that the new key is held, receipts of a quorum), and the policy says for which sizes of the
log each key counts. What one institution holds back the others show; what one makes up is
not believed.`),
		Example: "  zhenglian alliance policy alliance.json --follow --out policy.json",
		Args:    a.arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			al, err := a.readAlliance(args[0])
			if err != nil {
				return err
			}
			p, err := a.basePolicy(al, o.base)
			if err != nil {
				return err
			}
			var changes []evidence.Followed
			if o.follow {
				if p, changes, err = a.followPolicy(cmd.Context(), al, p, o); err != nil {
					return err
				}
			}
			if err := a.trustAuthorities(p, o.authorities); err != nil {
				return err
			}
			if err := a.trustIssuers(p, o.issuers); err != nil {
				return err
			}
			data, err := p.Encode()
			if err != nil {
				return err
			}
			if err := a.writeNew(o.out, data); err != nil || o.out == "-" {
				return err
			}
			a.say("核验策略已写入 %s（联盟 %s，法定数 %d）。", "The policy is in %s (alliance %s, quorum %d).", o.out, al.ID(), p.Quorum)
			if o.follow {
				a.sayChanges(al, changes)
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.out, "out", "-", a.t("写到新文件 `FILE`；- 为标准输出", "the new `FILE` to write; - is standard output"))
	f.BoolVar(&o.follow, "follow", false, a.t("向各机构索取并核验密钥更换记录", "ask the institutions for their key changes, and prove them"))
	f.StringVar(&o.base, "base", "", a.t("以这份策略 `FILE` 为起点，保留其中的其他规定", "start from this policy `FILE` and keep what else it says"))
	f.StringArrayVar(&o.nodes, "node", nil, a.t("机构的网址 `ID=URL`，代替创世文件中的；可多次", "an institution's address `ID=URL`, before that of the genesis; may be repeated"))
	f.StringArrayVar(&o.authorities, "timestamp-authority", nil, a.t("信任这个时间戳机构：其 authority.json `FILE`，可多次", "trust this timestamp authority: its authority.json, `FILE`; may be repeated"))
	f.StringArrayVar(&o.issuers, "certificate-authority", nil, a.t("成员证书须由这个 CA 签发：其 ca/authority.json `FILE`，可多次", "members' certificates have to be this CA's: its ca/authority.json, `FILE`; may be repeated"))
	f.DurationVar(&o.timeout, "timeout", time.Minute, a.t("索取的时间上限：`DURATION`", "how long asking may take: `DURATION`"))
	return cmd
}

// basePolicy is the policy of the founding, or the one in a file.
func (a *app) basePolicy(al *evidence.Alliance, path string) (*evidence.Policy, error) {
	if path == "" {
		return evidence.PolicyFromAlliance(al)
	}
	data, err := a.readFile(path)
	if err != nil {
		return nil, err
	}
	p, err := evidence.ParsePolicy(data)
	if err != nil {
		return nil, fail(a.t("%s 不能用作核验策略", "%s cannot be used as a policy", path), "", err)
	}
	if p.Alliance != al.ID() {
		return nil, fail(a.t("%s 是另一个联盟（%s）的策略", "%s is the policy of another alliance, %s", path, p.Alliance), a.t("核对两个文件", "compare the two files"), nil)
	}
	return p, nil
}

func (a *app) followPolicy(ctx context.Context, al *evidence.Alliance, p *evidence.Policy, o policyFlags) (*evidence.Policy, []evidence.Followed, error) {
	urls := map[string]string{}
	for _, n := range o.nodes {
		id, u, ok := strings.Cut(n, "=")
		if !ok || al.Institution(id) == nil {
			return nil, nil, usage(a.t("--node %q 不是 机构=网址", "--node %q is not ID=URL with an institution of the alliance", n), a.t("写成 court=https://court.example:8443", "write it like court=https://court.example:8443"))
		}
		urls[id] = u
	}
	c, err := client.New(client.Config{Alliance: al, Policy: p, URLs: urls, Patience: -1, Language: string(a.lang), Now: a.now})
	if err != nil {
		return nil, nil, usage(err.Error(), "")
	}
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	changes, err := c.Follow(ctx)
	if err != nil {
		return nil, nil, a.network(err)
	}
	return c.Policy(), changes, nil
}

func (a *app) sayChanges(al *evidence.Alliance, changes []evidence.Followed) {
	if len(changes) == 0 {
		a.say("自起点以来没有机构更换过密钥。", "No institution has changed a key since.")
		return
	}
	a.say("\n已核验的密钥更换：", "\nKey changes, proven:")
	for _, f := range changes {
		a.say("  位置 %d  %s  %s  %s → %s（%s）", "  position %d  %s  %s  %s → %s (%s)", f.Position, f.Institution, f.Use, f.Replaces, f.Key.KID(), evidence.ReasonName(f.Reason))
		if f.Use == evidence.UseCosign {
			a.say("    检查点核验密钥 %s", "    checkpoint key %s", evidence.CosignerVKey(al.CosignerName(f.Institution), f.Key))
		}
	}
}

// trustAuthorities adds timestamp authorities to a policy, by their public files.
// One that is there already stays as it is when it is the same.
func (a *app) trustAuthorities(p *evidence.Policy, files []string) error {
	for _, path := range files {
		t, err := institution.ReadAuthority(path)
		if err == nil {
			if known := p.TimestampAuthority(t.ID); known != nil && known.Certificate == t.Certificate && known.Demonstration == t.Demonstration {
				continue
			}
			err = p.AddTimestampAuthority(*t)
		}
		if err != nil {
			return fail(a.t("%s 不能作为受信任的时间戳机构", "%s cannot be trusted as a timestamp authority", path),
				a.t("它应是运行时间戳机构者给出的 authority.json", "it is the authority.json of the institution that runs it"), err)
		}
	}
	return nil
}
