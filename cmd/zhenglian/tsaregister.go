package main

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/zhenglian/zhenglian/internal/timestamp"
)

func newTSARegister(a *app) *cobra.Command {
	var home string
	var restart bool
	cmd := &cobra.Command{
		Use:   "register --home DIR [--restart]",
		Short: a.t("查看时间戳登记簿；损坏时以 --restart 重新开始", "Look at the register of timestamps; begin again where it is damaged"),
		Long: a.t("逐行核对时间戳机构的登记簿。--restart：登记簿损坏时，以损坏处之前的各行续写新登记簿，损坏的文件原样留在旁边；\n先停止节点。完好的登记簿不会被改动。",
			"Checks the timestamp authority's register line by line. --restart: where it is\ndamaged, a register that holds the lines before the damage takes its place, and the\ndamaged file stays beside it as it is; stop the node first. A register that is\nwhole is left as it is."),
		Example: "  zhenglian institution tsa register --home /var/lib/zhenglian/ca --restart",
		Args:    a.arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.require(cmd, "home"); err != nil {
				return err
			}
			path := filepath.Join(home, "tsa", "register")
			if restart {
				return a.restartRegister(path)
			}
			var last time.Time
			head, err := timestamp.ReadRegister(path, func(e timestamp.Entry) error { last = e.Time; return nil })
			var damage *timestamp.DamageError
			switch {
			case errors.As(err, &damage):
				return fail(a.t("登记簿 %s 自第 %d 行起损坏（%s），此前的 %d 项完好", "the register %s is damaged from line %d on (%s); the %d entries before are whole", path, damage.Line, damage.Why, head.Entries),
					a.t("先保存该文件的副本并查明原因；停止节点后用 --restart 重新开始", "copy the file and find out why first; then stop the node and begin again with --restart"), nil)
			case errors.Is(err, fs.ErrNotExist):
				return fail(a.t("没有登记簿 %s", "there is no register %s", path), a.t("时间戳机构第一次运行时建立", "the authority makes it when it runs for the first time"), nil)
			case err != nil:
				return err
			}
			a.say("登记簿完好。", "The register is whole.")
			a.registerFields(head, last)
			return nil
		},
	}
	cmd.Flags().StringVar(&home, "home", "", a.t("机构目录：`DIR`", "the institution's home `DIR`"))
	cmd.Flags().BoolVar(&restart, "restart", false, a.t("登记簿损坏时重新开始", "begin again where the register is damaged"))
	return cmd
}

func (a *app) restartRegister(path string) error {
	m, err := timestamp.MendRegister(path, a.now())
	switch {
	case errors.Is(err, timestamp.ErrRegisterInUse):
		return fail(a.t("登记簿正由运行中的节点使用", "a running node uses the register"), a.t("先停止节点", "stop the node first"), nil)
	case errors.Is(err, fs.ErrNotExist):
		return fail(a.t("没有登记簿 %s", "there is no register %s", path), "", nil)
	case err != nil:
		return err
	case m.Damage == nil:
		a.say("登记簿完好，没有改动。", "The register is whole and was left as it is.")
		a.registerFields(m.Head, m.Last)
		return nil
	}
	a.say("登记簿自第 %d 行起损坏；新登记簿从此前的 %d 项续写。", "The register was damaged from line %d on; the new one goes on from the %d entries before.", m.Damage.Line, m.Head.Entries)
	a.registerFields(m.Head, m.Last)
	a.fields(a.t("损坏的文件", "damaged file"), m.Kept, a.t("仅存于其中的字节数", "bytes that are in it alone"), fmt.Sprint(m.Lost))
	a.say("\n下一步：\n  1. 妥善保存损坏的文件：其后签发的时间戳只记在那里。\n  2. 查明损坏原因。\n  3. 重新启动节点。",
		"\nNext:\n  1. Keep the damaged file: tokens issued after that line are accounted for there alone.\n  2. Find out what damaged it.\n  3. Start the node again.")
	return nil
}

func (a *app) registerFields(head timestamp.Head, last time.Time) {
	text := "-"
	if !last.IsZero() {
		text = last.UTC().Format(time.RFC3339)
	}
	a.fields(a.t("项数", "entries"), fmt.Sprint(head.Entries), a.t("链式摘要", "chain hash"), fmt.Sprintf("%x", head.Hash), a.t("最后一项的时间", "time of the last"), text)
}
