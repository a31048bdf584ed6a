package main

import (
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/zhenglian/zhenglian/internal/institution"
	"github.com/zhenglian/zhenglian/internal/timestamp"
)

func newInstitutionTSA(a *app) *cobra.Command {
	var home string
	var demonstration bool
	cmd := &cobra.Command{
		Use:   "tsa --home DIR [--demonstration]",
		Short: a.t("给机构建立时间戳机构（RFC 3161）的密钥与证书", "Make the key and certificates of a timestamp authority (RFC 3161)"),
		Long: a.t("在本机生成时间戳密钥（P-256）和证书，写出公开的 tsa/authority.json，供核验策略和其他节点使用。\n密钥不写入机构描述；根证书的私钥签完即弃。没有外部时钟来源的演示用途须加 --demonstration。",
			"Makes the timestamp key (P-256) and its certificates on this host, and writes the\npublic tsa/authority.json for policies and other nodes. The key is in no\ndescriptor; the root's private key is forgotten after its two signatures. For a\ndemonstration without time sources give --demonstration."),
		Example: "  zhenglian institution tsa --home /var/lib/zhenglian/ca",
		Args:    a.arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.require(cmd, "home"); err != nil {
				return err
			}
			t, err := institution.MakeTSA(home, demonstration, time.Now(), timestamp.SelfIssue)
			if err != nil {
				return err
			}
			a.say("时间戳机构“%s”（%s）已建立。", "The timestamp authority %q (%s) is made.", t.Name, t.ID)
			a.fields(
				a.t("私钥（不得离开本机）", "private key (stays here)"), filepath.Join(home, "keys", "tsa.pem"),
				a.t("证书链", "certificates"), filepath.Join(home, "tsa", "chain.pem"),
				a.t("公开文件", "public file"), filepath.Join(home, "tsa", "authority.json"),
				a.t("根证书（openssl -CAfile）", "root (openssl -CAfile)"), filepath.Join(home, "tsa", "root.pem"))
			if demonstration {
				a.say("\n这是演示用时间戳机构：它的每个时间戳都注明不证明任何时间。", "\nIt is a demonstration's: every token of it says that it proves no time.")
			}
			a.say("\n下一步：\n  1. 备份 %s。\n  2. 在 %s 的 [tsa] 中启用。\n  3. 把 tsa/authority.json 交给请求时间戳的节点和制定核验策略的人。",
				"\nNext:\n  1. Back up %s.\n  2. Enable it in [tsa] of %s.\n  3. Hand tsa/authority.json to the nodes that ask it and to those who write policies.",
				filepath.Join(home, "keys", "tsa.pem"), filepath.Join(home, "node.toml"))
			return nil
		},
	}
	cmd.AddCommand(newTSARegister(a))
	cmd.Flags().StringVar(&home, "home", "", a.t("机构目录：`DIR`", "the institution's home `DIR`"))
	cmd.Flags().BoolVar(&demonstration, "demonstration", false, a.t("演示用：时间戳注明不证明任何时间", "for a demonstration: its tokens prove no time"))
	return cmd
}
