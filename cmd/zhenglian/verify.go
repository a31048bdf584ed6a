package main

import (
	"github.com/spf13/cobra"

	"github.com/zhenglian/zhenglian/verify/command"
)

func newVerifyCommand(a *app) *cobra.Command {
	var f command.Flags
	cmd := &cobra.Command{
		Use:   "verify PACKAGE (--policy FILE | --alliance ID) [OPTIONS]",
		Short: a.t("离线核验证据包", "Verify an evidence package, offline"),
		Long: a.t(`按给定的核验策略核验证据包，不联网。没有 --policy 或 --alliance 时只能说
“内部一致，签发者未确认”，不算相符。
退出码：0 相符；1 不相符或无法确定；2 不能作为证据包读取，或命令行有误。`,
			`Verifies a package by the trust policy given, without a connection. With neither
--policy nor --alliance it can say no more than "consistent, issuer not established",
which is no pass. Exit codes: 0 it matches; 1 it does not, or cannot be determined; 2 it
is not readable as a package, or the command line is wrong.`),
		Args: a.arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			f.Package, f.Lang = args[0], string(a.lang)
			if code := command.Run(cmd.Context(), f, a.out, a.err); code != 0 {
				return &exitCode{code}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&f.Policy, "policy", "", a.t("核验策略：机构的密钥和法定数，来自法院或机构：`FILE`", "the trust policy `FILE`: the institutions' keys and the quorum, from the court or an institution"))
	cmd.Flags().StringVar(&f.Alliance, "alliance", "", a.t("所信任联盟的编号 `ID`，64 位十六进制数字", "`ID` of the alliance to trust, 64 hexadecimal digits"))
	cmd.Flags().BoolVar(&f.JSON, "json", false, a.t("报告输出为 JSON", "write the report as JSON"))
	cmd.Flags().StringVar(&f.HTML, "html", "", a.t("另把报告写成网页 `FILE`", "also write the report as a page, `FILE`"))
	return cmd
}
