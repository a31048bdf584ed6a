package main

import (
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/zhenglian/zhenglian/internal/institution"
)

func newInstitutionPortal(a *app) *cobra.Command {
	var home, listen, origin string
	var demonstration bool
	cmd := &cobra.Command{
		Use:   "portal --home DIR --origin URL [OPTIONS]",
		Short: a.t("写出机构门户的设置", "Write the settings of the institution's portal"),
		Long: a.t("写出 portal.toml：门户在何处监听、人们用什么网址访问、在哪里登录、谁是经办人，每项都有说明。\n--origin 的主机名就是通行密钥的依赖方，以后更改会使所有通行密钥失效。",
			"Writes portal.toml: where the portal listens, how people reach it, where they\nsign in and who the officers are, each setting explained. The host name in\n--origin is the relying party of every passkey: changing it later loses them all."),
		Example: "  zhenglian institution portal --home /var/lib/zhenglian/ca --origin https://portal.example.cn",
		Args:    a.arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.require(cmd, "home", "origin"); err != nil {
				return err
			}
			if err := institution.MakePortal(home, listen, origin, demonstration); err != nil {
				return err
			}
			path := filepath.Join(home, "portal.toml")
			a.say("门户的设置已写入 %s。", "The portal's settings are in %s.", path)
			if demonstration {
				a.say("\n这是演示用门户：身份都是虚构的，每一页都注明。", "\nIt is a demonstration's: its identities are made up, and every page says so.")
			} else {
				a.say("\n下一步：在 [[providers]] 填写人们登录用的身份提供方，在 [[officers]] 填写经办人。", "\nNext: name the identity providers in [[providers]] and the officers in [[officers]].")
			}
			a.say("启动：zhenglian portal --home %s", "Start it: zhenglian portal --home %s", home)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&home, "home", "", a.t("机构目录：`DIR`", "the institution's home `DIR`"))
	f.StringVar(&origin, "origin", "", a.t("浏览器访问门户的网址 `URL`，如 https://portal.example.cn", "the `URL` by which browsers reach it, such as https://portal.example.cn"))
	f.StringVar(&listen, "listen", "127.0.0.1:8450", a.t("监听的地址与端口：`HOST:PORT`", "address and port to listen on: `HOST:PORT`"))
	f.BoolVar(&demonstration, "demonstration", false, a.t("演示用：虚构的身份，处处注明", "for a demonstration: made-up identities, marked everywhere"))
	return cmd
}
