package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/institution"
)

func newPortalCommand(a *app) *cobra.Command {
	var home string
	cmd := &cobra.Command{
		Use:   "portal --home DIR",
		Short: a.t("运行本机构的门户网站", "Run the institution's web portal"),
		Long: a.t(`运行机构的门户，直到收到 SIGINT 或 SIGTERM：登录、密钥与设备、存证、我的记录、
登记审核、机构控制台和公开核验页。设置在机构目录的 portal.toml 中（用
institution portal 写出），每一项都有说明。节点另行运行（node）。`,
			`Runs an institution's portal until SIGINT or SIGTERM: sign-in, keys and devices,
deposits, records, the registration desk, the console and the public verification
page. Its settings are in the home's portal.toml (written by institution portal),
each explained there. The node runs beside it (node).`),
		Args: a.arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.require(cmd, "home"); err != nil {
				return err
			}
			h, err := institution.Open(home, evidence.UseStatement)
			if err != nil {
				return err
			}
			if _, err := h.Joined(); err != nil {
				return err
			}
			c, err := h.Portal()
			if err != nil {
				return err
			}
			if err := runPortal(cmd.Context(), h, &c, a.logger(c.Log)); !errors.Is(err, context.Canceled) {
				return a.portalRuns(err)
			}
			return nil
		},
	}
	cmd.AddCommand(newPortalAudit(a), newPortalRekey(a))
	cmd.Flags().StringVar(&home, "home", "", a.t("机构目录：`DIR`", "the institution's home `DIR`"))
	return cmd
}
