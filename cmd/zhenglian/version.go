package main

import (
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version of the program, by semver.org; formats and rules have numbers of their own.
const version = "0.1.0"

func newVersionCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: a.t("显示版本", "Show the version"),
		Args:  a.arguments(0, 0),
		RunE: func(*cobra.Command, []string) error {
			revision := ""
			if info, ok := debug.ReadBuildInfo(); ok {
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
