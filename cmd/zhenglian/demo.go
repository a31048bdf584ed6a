package main

import (
	"context"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/zhenglian/zhenglian/internal/demo"
)

func newDemoCommand(a *app) *cobra.Command {
	var out string
	var once bool
	cmd := &cobra.Command{
		Use:   "demo [--out DIR] [--once] FILE...",
		Short: a.t("演示：四家机构见证真实文件，法院核验", "Show it all: four institutions, real files, a court"),
		Long: a.t(`在本机演示全过程：四家机构组成联盟并运行节点，成员在事前、事中、事后存证给出的文件，
法院核验并形成证据链，再翻转副本中的一个比特，核验指出是哪个文件。见 docs/demo.md。

在终端上，演示后联盟继续运行，按 Ctrl-C 结束；加 --once 或不在终端上则自行结束。`,
			`Plays the whole of it on this machine: four institutions found an alliance and run
their nodes, a member deposits the files given before, during and after, the court
checks and finds an evidence chain; then one bit of a copy is flipped, and the check
names the file. See docs/demo.md.

At a terminal the alliance goes on running afterwards, until Ctrl-C; with --once, or
without a terminal, it ends by itself.`),
		Args: a.arguments(1, -1),
		RunE: func(cmd *cobra.Command, files []string) error {
			binary, err := os.Executable()
			if err != nil {
				return err
			}
			stay := !once && a.env("ONCE") == "" && isTerminal(a.in) && isTerminal(a.out)
			var progress io.Writer
			if isTerminal(a.err) {
				progress = a.err
			}
			err = demo.Run(cmd.Context(), demo.Config{Binary: binary, Dir: out, Files: files, Stay: stay, Chinese: a.lang == chinese, Out: a.out, Progress: progress})
			if err != nil && cmd.Context().Err() != nil {
				return context.Canceled
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&out, "out", "out/demo", a.t("结果目录；此前演示的结果会被替换：`DIR`", "`DIR` for the results; those of an earlier demonstration are replaced"))
	f.BoolVar(&once, "once", false, a.t("演示后自行结束（等同于环境变量 ONCE=1）", "end after the last scene (as the variable ONCE=1 does)"))
	return cmd
}

// isTerminal reports whether a stream is a person's terminal.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
