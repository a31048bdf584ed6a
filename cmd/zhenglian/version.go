package main

import (
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

func newVersionCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: a.t("显示版本", "Show the version"),
		Args:  a.arguments(0, 0),
		RunE: func(*cobra.Command, []string) error {
			version, revision := "unknown", ""
			if info, ok := debug.ReadBuildInfo(); ok {
				version = info.Main.Version
				for _, s := range info.Settings {
					if s.Key == "vcs.revision" {
						revision = s.Value
					}
				}
			}
			a.say("证链 zhenglian %s", "zhenglian %s", version)
			pairs := []string{"go", runtime.Version(), a.t("平台", "platform"), runtime.GOOS + "/" + runtime.GOARCH}
			if revision != "" {
				pairs = append(pairs, a.t("源码", "source"), revision)
			}
			a.fields(pairs...)
			return nil
		},
	}
}
