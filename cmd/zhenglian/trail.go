package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/zhenglian/zhenglian/evidence"
	memberhome "github.com/zhenglian/zhenglian/internal/member"
)

func newTrailCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "trail",
		Short: a.t("存证事务：列出、授权", "Trails: list them, authorise other keys"),
	}
	cmd.AddCommand(newTrailList(a), newTrailAuthorise(a))
	return cmd
}

func newTrailList(a *app) *cobra.Command {
	var o depositorFlags
	cmd := &cobra.Command{
		Use:   "list [OPTIONS]",
		Short: a.t("列出本目录签过名的存证事务", "List the trails that this home has signed for"),
		Args:  a.arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := a.openDepositor(cmd.Context(), o)
			if err != nil {
				return err
			}
			defer d.Close()
			trails, err := d.Trails()
			if err != nil {
				return a.network(err)
			}
			for _, trail := range trails {
				entries, err := d.Entries(trail)
				if err != nil {
					return a.network(err)
				}
				a.say("%s", "%s", trail)
				for _, e := range entries {
					state := a.t("未最终确认", "not final")
					switch {
					case e.Place != nil:
						state = a.t("日志位置 %d，%s", "log position %d, %s", e.Place.Position, e.Place.Time)
					case e.Refused != nil:
						state = a.t("被拒绝（%s）", "refused (%s)", e.Refused.Code)
					}
					a.fields(fmt.Sprint(e.N), e.Statement.Digest().String()+"  "+state)
				}
			}
			return nil
		},
	}
	o.add(a, cmd)
	hideEmptyDefaults(cmd)
	return cmd
}

func newTrailAuthorise(a *app) *cobra.Command {
	var o depositorFlags
	var name, kidText string
	var read, write, revoke bool
	cmd := &cobra.Command{
		Use:   "authorise --trail TRAIL --kid HEX (--read | --append | --none) [OPTIONS]",
		Short: a.t("授权另一把密钥查看或续加存证事务", "Let another key read a trail or add to it"),
		Long: a.t(`在存证事务中登记一条授权：让另一把密钥查看它（--read）、续加步骤（--append），或两者兼有
（两个选项都给）。每次授权都取代该密钥此前的权利：先给 --append、后只给 --read，就不能再
续加；--none 收回全部。此前已续加的步骤仍然有效。只有事务的所有者可以授权。`,
			`Registers an authorisation in the trail: another key may look the trail up (--read),
add steps to it (--append), or both (give both). Each authorisation replaces what that
key had: after --append, --read alone takes the adding away again, and --none takes all.
Steps it added before stand. Only the trail's owner can authorise.`),
		Args: a.arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.require(cmd, "trail", "kid"); err != nil {
				return err
			}
			kid, err := evidence.ParseDigest(kidText)
			if err != nil {
				return usage(a.t("--kid 应为 64 位小写十六进制数字", "--kid has 64 lower-case hexadecimal digits"), a.t("成员的 kid 见 `zhenglian member show`", "`zhenglian member show` prints a member's"))
			}
			rights := uint64(0)
			if read {
				rights |= evidence.RightRead
			}
			if write {
				rights |= evidence.RightAppend
			}
			if (rights == 0) != revoke {
				return usage(a.t("给出 --read、--append，或只给 --none", "give --read, --append, or --none alone"), "")
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), o.timeout)
			defer cancel()
			d, err := a.openDepositor(ctx, o)
			if err != nil {
				return a.network(err)
			}
			defer d.Close()
			trail, err := a.trailNamed(d.Home, name)
			if err != nil {
				return err
			}
			_, final, err := d.Authorise(ctx, d.client, trail, kid, rights, memberhome.Events{})
			if err != nil {
				return a.network(err)
			}
			if revoke {
				a.say("已收回密钥 %s 在存证事务 %s 中的权利，日志位置 %d。", "The key %s has no right in trail %s from log position %d on.", kid, trail, final.Position)
				return nil
			}
			a.say("已授权密钥 %s，存证事务 %s，日志位置 %d。权利：%s（取代此前的权利）。", "The key %s is authorised in trail %s from log position %d on. It may: %s. This replaces what it might before.", kid, trail, final.Position, a.rights(rights))
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&name, "trail", "", a.t("存证事务的名字，或 last：`TRAIL`", "the trail's name, or last: `TRAIL`"))
	f.StringVar(&kidText, "kid", "", a.t("被授权的密钥：`HEX`", "the key to authorise: `HEX`"))
	f.BoolVar(&read, "read", false, a.t("可以查看；未同时给 --append 则不可续加", "it may look the trail up, and without --append not add steps"))
	f.BoolVar(&write, "append", false, a.t("可以续加步骤；未同时给 --read 则不可查看", "it may add steps, and without --read not look the trail up"))
	f.BoolVar(&revoke, "none", false, a.t("收回此前的全部权利", "take all its earlier rights back"))
	o.add(a, cmd)
	hideEmptyDefaults(cmd)
	return cmd
}

// rights names what an authorisation gives.
func (a *app) rights(rights uint64) string {
	var names []string
	if rights&evidence.RightRead != 0 {
		names = append(names, a.t("查看（read）", "read"))
	}
	if rights&evidence.RightAppend != 0 {
		names = append(names, a.t("续加（append）", "append"))
	}
	return strings.Join(names, a.t("、", ", "))
}
