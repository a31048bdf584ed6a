package main

import (
	"context"
	"errors"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/zhenglian/zhenglian/internal/institution"
)

func newNodeCommand(a *app) *cobra.Command {
	var home string
	cmd := &cobra.Command{
		Use:   "node --home DIR",
		Short: a.t("运行本机构的节点", "Run the institution's node"),
		Long: a.t("运行一个机构的节点，直到收到 SIGINT 或 SIGTERM。设置在机构目录的 node.toml 中，每一项都有说明。",
			"Runs one institution's node until SIGINT or SIGTERM. Its settings are in the\nhome's node.toml, each explained there."),
		Args: a.arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.require(cmd, "home"); err != nil {
				return err
			}
			h, err := institution.Open(home)
			if err != nil {
				return err
			}
			if _, err := h.Joined(); err != nil {
				return err
			}
			if err := runNode(cmd.Context(), h, a.logger(h.Config.Log)); !errors.Is(err, context.Canceled) {
				return err
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&home, "home", "", a.t("机构目录：`DIR`", "the institution's home `DIR`"))
	return cmd
}

func (a *app) logger(c institution.LogConfig) *slog.Logger {
	options := &slog.HandlerOptions{Level: c.SlogLevel()}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(a.err, options))
	}
	return slog.New(slog.NewTextHandler(a.err, options))
}
