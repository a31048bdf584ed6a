package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/zhenglian/zhenglian/evidence"
	memberhome "github.com/zhenglian/zhenglian/internal/member"
)

func newPackageCommand(a *app) *cobra.Command {
	var o depositorFlags
	var out string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "package (TRAIL | show PACKAGE) [OPTIONS]",
		Short: a.t("写出或更新存证事务的证据包", "Write or renew the evidence package of a trail"),
		Long: a.t(`写出一个存证事务的证据包：至今的全部步骤、本机保管库里的清单和文件、各机构的回执。
TRAIL 是存证事务的名字，或 last。未最终确认的步骤先等它确认。
目标已是同一存证事务的证据包时，整体替换。

zhenglian package show PACKAGE 列出证据包的内容，不核验。`,
			`Writes the evidence package of a trail: all its steps as of now, the manifests and
files in this home's vault, the institutions' receipts. TRAIL is the trail's name, or
last. What is not final yet is waited for. A package of the same trail is replaced.

zhenglian package show PACKAGE lists what is in a package, without verifying it.`),
		Example: "  zhenglian package last --out evidence.zip\n  zhenglian package show evidence.zip",
		Args:    a.arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), o.timeout)
			defer cancel()
			return a.network(a.packageTrail(ctx, o, args[0], out, asJSON))
		},
	}
	cmd.Flags().StringVar(&out, "out", "", a.t("证据包写到 `FILE`；默认为 事务名前 16 位.zip", "write the package to `FILE`; by default the trail's first 16 digits and .zip"))
	cmd.Flags().BoolVar(&asJSON, "json", false, a.t("结果输出为一行 JSON", "write the result as one line of JSON"))
	o.add(a, cmd)
	hideEmptyDefaults(cmd)
	cmd.AddCommand(newPackageShow(a))
	return cmd
}

func (a *app) packageTrail(ctx context.Context, o depositorFlags, name, out string, asJSON bool) error {
	d, err := a.openDepositor(ctx, o)
	if err != nil {
		return err
	}
	defer d.Close()
	trail, err := a.trailNamed(d.Home, name)
	if err != nil {
		return err
	}
	if _, err := d.Resend(ctx, d.client, trail, nil); err != nil {
		return err
	}
	path, err := a.writePackage(ctx, d, trail, out)
	if err != nil {
		return err
	}
	if asJSON {
		return json.NewEncoder(a.out).Encode(map[string]string{"trail": trail.String(), "package": path})
	}
	a.say("证据包：%s", "Package: %s", path)
	return nil
}

// writePackage writes the package whole or not at all, and says what is not in
// it. It returns the path.
func (a *app) writePackage(ctx context.Context, d *depositor, trail evidence.Digest, out string) (string, error) {
	if out == "" {
		out = trail.String()[:16] + ".zip"
	}
	if err := a.mayReplace(out, trail); err != nil {
		return "", err
	}
	f, err := os.CreateTemp(filepath.Dir(out), ".zhenglian-*.part")
	if err != nil {
		return "", err
	}
	defer func() {
		_ = f.Close()
		_ = os.Remove(f.Name()) // gone already when all went well
	}()
	packed, err := d.Package(ctx, d.client, trail, f)
	if err != nil {
		return "", err
	}
	if err := errors.Join(f.Chmod(0o600), f.Sync(), f.Close()); err != nil {
		return "", fmt.Errorf("writing %s: %w", out, err)
	}
	if err := os.Rename(f.Name(), out); err != nil {
		return "", err
	}
	a.warnPacked(packed)
	return out, nil
}

// mayReplace refuses to write over what is not a package of the trail.
func (a *app) mayReplace(path string, trail evidence.Digest) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if p, err := evidence.OpenPackage(f, info.Size()); err == nil && p.Index.Trail == trail {
		for _, file := range p.Files() {
			if file.Role == evidence.RoleRenewal { // nothing could make them again
				return fail(a.t("%s 含有时间戳续期，没有覆盖", "%s holds renewals of its timestamps; it was left as it is", path),
					a.t("用 --out 写到另一文件，两份都保存", "write to another file with --out, and keep both"), nil)
			}
		}
		return nil
	}
	return fail(a.t("%s 已存在，且不是这个存证事务的证据包，没有覆盖", "%s exists and is no package of this trail; it was left as it is", path),
		a.t("存证已完成；用 `zhenglian package %s --out 另一文件名` 写出证据包", "the deposit is done; write the package with `zhenglian package %s --out OTHER`", trail), nil)
}

func (a *app) warnPacked(p *memberhome.Packaged) {
	a.warnMissing(p.Missing)
	if len(p.Withheld) > 0 {
		a.progress("注意：步骤 %s 的清单不在本机的保管库中，证据包里没有其内容。", "Note: the manifests of steps %s are not in this home's vault, and their content is not in the package.", numbers(p.Withheld))
	}
	if p.NoObject > 0 {
		a.progress("注意：有 %d 个文件不在本机的保管库中，证据包里没有。", "Note: %d files are not in this home's vault and not in the package.", p.NoObject)
	}
	if p.Foreign > 0 {
		a.progress("注意：日志中有 %d 份无权者提交的、自称属于本事务的存证，不属于本事务。", "Note: the log holds %d statements by signers without a right that name this trail; they are no part of it.", p.Foreign)
	}
}

func numbers(all []int) string {
	return strings.Trim(strings.Join(strings.Fields(fmt.Sprint(all)), ", "), "[]")
}

func newPackageShow(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		// The usage line of package names it, which a list of commands would hide.
		Hidden: true,
		Use:    "show PACKAGE",
		Short:  a.t("列出证据包的内容（不核验）", "List what is in a package (without verifying it)"),
		Args:   a.arguments(1, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			f, err := os.Open(args[0])
			if err != nil {
				return err
			}
			defer f.Close()
			info, err := f.Stat()
			if err != nil {
				return err
			}
			p, err := evidence.OpenPackage(f, info.Size())
			if err != nil {
				return &failure{what: a.t("%s 不能作为证据包打开", "%s cannot be opened as an evidence package", args[0]), code: exitUsage, err: err}
			}
			if asJSON {
				return json.NewEncoder(a.out).Encode(p.Index)
			}
			return a.showPackage(p)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, a.t("输出目录 index.json", "print the index as JSON"))
	return cmd
}

func (a *app) showPackage(p *evidence.Package) error {
	a.fields(a.t("联盟编号", "alliance id"), p.Index.Alliance.String(), a.t("存证事务", "trail"), p.Index.Trail.String(),
		a.t("日志大小", "log size"), fmt.Sprint(p.Index.TreeSize))
	for _, s := range p.Steps() {
		text := a.t("（未提交清单）", "(manifest withheld)")
		data, err := p.Manifest(s.N)
		if err != nil {
			return err
		}
		if data != nil {
			if m, err := evidence.ParseManifest(data); err == nil {
				text = fmt.Sprintf("%s  %s  %s", m.Phase, m.Step, m.Created)
			}
		} else if raw, err := p.Statement(s.N); err == nil {
			if st, err := evidence.ParseStatement(raw); err == nil && !st.Envelope() {
				text = a.t("授权", "authorisation")
			}
		}
		a.say("\n步骤 %d：%s", "\nStep %d: %s", s.N, text)
		a.fields(a.t("日志位置", "log position"), fmt.Sprint(s.Position), a.t("回执", "receipts"), fmt.Sprint(len(s.Receipts)))
		for _, o := range s.Objects {
			f, err := p.File(o.Path)
			if err != nil {
				return err
			}
			a.fields(a.t("文件", "file"), fmt.Sprintf("%s  %s  SHA-256 %s", o.Path, bytesText(f.Size()), o.SHA256))
		}
	}
	a.say("\n以上取自目录，未经核验；核验用 `zhenglian verify`。", "\nThis is what the index says, unverified; `zhenglian verify` verifies it.")
	return nil
}
