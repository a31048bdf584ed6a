package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func newRootCommand(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "zhenglian",
		Short: a.t("证链：司法存证联盟链", "Zhenglian, a judicial evidence chain"),
		Long: a.t(`证链是法院、公证处、CA 与鉴定机构共同维护的司法存证联盟链。

各机构在自己的主机上建立目录、生成密钥（institution init），用公开的机构描述
组成联盟（alliance genesis），各自加入（institution join）并运行节点（node）。
成员生成自己的密钥（member init），由 CA 机构登记（member enrol），即可存证。

退出码：0 完成；1 失败，或所核验的内容不成立；2 命令行有误，未做任何事。`,
			`Zhenglian is a judicial evidence chain kept by courts, notaries, certification
authorities and forensic institutes together.

Each institution makes its home and keys on its own host (institution init);
their public descriptors found an alliance (alliance genesis); each joins it
(institution join) and runs its node (node). A member makes keys (member init),
a CA institution enrols them (member enrol), and the member can deposit.

Exit codes: 0 done; 1 it failed, or what was checked does not hold; 2 the command
line is wrong, and nothing was done.`),
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	// Read by chooseLanguage before; declared here for the help and the parser.
	root.PersistentFlags().String("lang", string(a.lang), a.t("语言 `LANG`：zh-CN 或 en；默认取自环境变量 LANG", "language `LANG`, zh-CN or en; the default comes from the variable LANG"))
	root.AddCommand(
		newInstitutionCommand(a),
		newAllianceCommand(a),
		newMemberCommand(a),
		newCACommand(a),
		newNodeCommand(a),
		newPortalCommand(a),
		newDepositCommand(a),
		newTrailCommand(a),
		newPackageCommand(a),
		newRecordCommand(a),
		newTimestampCommand(a),
		newVerifyCommand(a),
		newCourtCommand(a),
		newDemoCommand(a),
		newBenchCommand(a),
		newVersionCommand(a),
	)
	root.SetUsageFunc(a.printUsage)
	root.SetHelpFunc(func(cmd *cobra.Command, _ []string) {
		fmt.Fprintf(a.out, "%s\n\n", firstOf(cmd.Long, cmd.Short))
		_ = a.printUsage(cmd)
	})
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usage(a.flagProblem(err), a.seeHelp(cmd))
	})
	root.InitDefaultHelpCmd()
	if help, _, err := root.Find([]string{"help"}); err == nil {
		help.Use, help.Short, help.Long = "help [COMMAND]", a.t("显示某个命令的说明", "Show what a command does"), ""
	}
	finish(a, root)
	return root
}

// finish gives every command what all have alike.
func finish(a *app, cmd *cobra.Command) {
	cmd.Flags().BoolP("help", "h", false, a.t("显示说明", "show this help"))
	cmd.Flags().SortFlags = false
	cmd.DisableFlagsInUseLine = true
	cmd.SuggestionsMinimumDistance = 2
	if cmd.HasSubCommands() && cmd.RunE == nil {
		cmd.Args = cobra.ArbitraryArgs
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			hint := a.seeHelp(cmd)
			if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
				hint = a.t("相近的命令有 `%s %s`", "the nearest one is `%s %s`", cmd.CommandPath(), near[0])
			}
			return usage(a.t("没有 %q 这个命令", "there is no command %q", cmd.CommandPath()+" "+args[0]), hint)
		}
	}
	for _, sub := range cmd.Commands() {
		if sub.Name() != "completion" && sub.Name() != "help" {
			finish(a, sub)
		}
	}
}

func (a *app) seeHelp(cmd *cobra.Command) string {
	return a.t("用法见 `%s --help`", "see `%s --help`", cmd.CommandPath())
}

// arguments checks the number of positional arguments, named in the usage line.
func (a *app) arguments(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) >= least && (most < 0 || len(args) <= most) {
			return nil
		}
		return usage(a.t("参数个数不对：应为 `%s`", "the number of arguments is wrong: it is `%s`", cmd.UseLine()), a.seeHelp(cmd))
	}
}

// require reports the flags that must be given and are not.
func (a *app) require(cmd *cobra.Command, names ...string) error {
	var missing []string
	for _, name := range names {
		if f := cmd.Flags().Lookup(name); f == nil || !f.Changed || f.Value.String() == "" {
			missing = append(missing, "--"+name)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return usage(a.t("缺少 %s", "%s is missing", strings.Join(missing, a.t("、", ", "))), a.seeHelp(cmd))
}

// printUsage writes how a command is called, its subcommands and options.
func (a *app) printUsage(cmd *cobra.Command) error {
	line := cmd.UseLine()
	if cmd.HasAvailableSubCommands() {
		commands := cmd.CommandPath() + " COMMAND"
		if strings.Contains(cmd.Use, " ") { // it does something by itself too
			line += "\n  " + commands
		} else {
			line = commands
		}
	}
	fmt.Fprintf(a.out, "%s\n  %s\n", a.t("用法：", "Usage:"), line)
	if cmd.HasExample() {
		fmt.Fprintf(a.out, "\n%s\n%s\n", a.t("示例：", "Example:"), cmd.Example)
	}
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintf(a.out, "\n%s\n", a.t("命令：", "Commands:"))
		for _, sub := range cmd.Commands() {
			if sub.IsAvailableCommand() || sub.Name() == "help" {
				fmt.Fprintf(a.out, "  %-*s %s\n", cmd.NamePadding(), sub.Name(), sub.Short)
			}
		}
	}
	a.printFlags(a.t("选项：", "Options:"), cmd.LocalFlags())
	a.printFlags(a.t("通用选项：", "Common options:"), cmd.InheritedFlags())
	return nil
}

func (a *app) printFlags(title string, flags *pflag.FlagSet) {
	if !flags.HasAvailableFlags() {
		return
	}
	text := flags.FlagUsages()
	if a.lang == chinese {
		text = strings.ReplaceAll(text, " (default ", " (默认 ")
	}
	fmt.Fprintf(a.out, "\n%s\n%s", title, text)
}

// flagProblem says what is wrong with an option.
func (a *app) flagProblem(err error) string {
	var (
		unknown *pflag.NotExistError
		missing *pflag.ValueRequiredError
		value   *pflag.InvalidValueError
	)
	switch {
	case errors.As(err, &unknown):
		return a.t("没有 %s 这个选项", "there is no option %s", dashed(unknown.GetSpecifiedName()))
	case errors.As(err, &missing):
		return a.t("%s 之后缺少值", "%s needs a value", dashed(missing.GetSpecifiedName()))
	case errors.As(err, &value):
		return a.t("--%s 的值 %q 不对", "--%s cannot be %q", value.GetFlag().Name, value.GetValue())
	}
	return a.t("命令行有误（%v）", "the command line is wrong (%v)", err)
}

func dashed(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}
