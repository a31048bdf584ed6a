package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/zhenglian/zhenglian/client"
	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/court"
	"github.com/zhenglian/zhenglian/internal/institution"
	"github.com/zhenglian/zhenglian/verify"
	"github.com/zhenglian/zhenglian/verify/command"
	"github.com/zhenglian/zhenglian/verify/render"
)

// exitCode ends the program with a code; everything was said already.
type exitCode struct{ code int }

func (e *exitCode) Error() string { return fmt.Sprintf("exit code %d", e.code) }

// The files that court check writes.
const (
	courtDocument  = "evidence-chain.json"     // canonical JSON
	courtSignature = "evidence-chain.jws.json" // detached JWS over it
	courtPage      = "report.html"
	courtText      = "report.txt"
)

func newCourtCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "court",
		Short: a.t("法院：核验证据包，形成证据链", "A court: check evidence packages, form the evidence chain"),
	}
	cmd.AddCommand(newCourtCheck(a))
	return cmd
}

type courtFlags struct {
	home, node, out string
	authorities     []string
	asJSON          bool
	timeout         time.Duration
}

func newCourtCheck(a *app) *cobra.Command {
	var o courtFlags
	cmd := &cobra.Command{
		Use:   "check PACKAGE --home COURT_HOME [OPTIONS]",
		Short: a.t("对照法院自己的日志核验证据包，写出已签名的证据链", "Check a package against the court's own log and write the signed evidence chain"),
		Long: a.t(`用法院自己节点上的日志核验证据包：不在其中的存证不成立，无论回执看来如何；
存证事务中没有提交的步骤逐一列出。--out 写出：
  evidence-chain.json      核验结论与依据（规范 JSON）
  evidence-chain.jws.json  法院鉴证密钥对它的签名（RFC 7515，分离）
  report.html、report.txt  供人阅读的报告
不成立的证据包同样写出结论，并列明不符之处。
退出码：0 相符；1 不相符、无法确定，或节点不可用；2 不能作为证据包读取，或命令行有误。`,
			`Checks a package against the log on the court's own node: a statement that is not in
it fails, whatever receipts are shown; steps of the trail that were not handed in are
listed. --out writes:
  evidence-chain.json      the finding and what it stands on (canonical JSON)
  evidence-chain.jws.json  the signature over it by the court's attestation key
                           (RFC 7515, detached)
  report.html, report.txt  the report for people
A package that does not hold gets such a finding too, with what differs.
Exit codes: 0 it matches; 1 it does not, cannot be determined, or the node cannot be
asked; 2 it is not readable as a package, or the command line is wrong.`),
		Args: a.arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.require(cmd, "home"); err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), o.timeout)
			defer cancel()
			return a.network(a.courtCheck(ctx, o, args[0]))
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.home, "home", "", a.t("法院的机构目录：`COURT_HOME`", "the court's home `COURT_HOME`"))
	f.StringVar(&o.node, "node", "", a.t("法院节点的网址 `URL`；默认为机构描述中的公开接口", "`URL` of the court's node; the descriptor's public interface by default"))
	f.StringVar(&o.out, "out", "", a.t("证据链和报告写入目录 `DIR`，须不存在或为空", "write evidence chain and report into `DIR`, which is new or empty"))
	f.StringArrayVar(&o.authorities, "timestamp-authority", nil, a.t("另外信任这个时间戳机构：其 authority.json `FILE`，可多次；node.toml 中的已受信任", "trust this timestamp authority too: its authority.json, `FILE`; may be repeated; those of node.toml are trusted already"))
	f.BoolVar(&o.asJSON, "json", false, a.t("证据链输出为 JSON，代替报告", "print the evidence chain as JSON instead of the report"))
	f.DurationVar(&o.timeout, "timeout", time.Hour, a.t("核验的时间上限：`DURATION`", "how long it may take: `DURATION`"))
	return cmd
}

func (a *app) courtCheck(ctx context.Context, o courtFlags, path string) error {
	h, err := institution.Open(o.home, evidence.UseStatement, evidence.UseAttest)
	if err != nil {
		return err
	}
	alliance, err := h.Joined()
	if err != nil {
		return err
	}
	if h.Descriptor.Kind != evidence.KindCourt {
		return fail(a.t("%s 的类别是 %s，不是法院", "%s is of the kind %s, and no court", h.ID(), h.Descriptor.Kind), a.t("其他机构和个人用 `zhenglian verify`", "others use `zhenglian verify`"), nil)
	}
	if o.out != "" {
		if entries, err := os.ReadDir(o.out); err == nil && len(entries) > 0 {
			return fail(a.t("%s 不是空目录，没有核验", "%s is not empty; nothing was checked", o.out), a.t("用 --out 换一个目录", "choose another with --out"), nil)
		} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	policy, err := evidence.PolicyFromAlliance(alliance)
	if err != nil {
		return err
	}
	// The court believes the authorities that its own node asks.
	asked, err := h.Authorities()
	if err != nil {
		return err
	}
	for _, t := range asked {
		if policy.TimestampAuthority(t.ID) != nil {
			continue // one authority at two addresses
		}
		if err := policy.AddTimestampAuthority(*t.TimestampAuthority); err != nil {
			return err
		}
	}
	if err := a.trustAuthorities(policy, o.authorities); err != nil {
		return err
	}
	c, err := client.New(client.Config{Policy: policy, URLs: map[string]string{h.ID(): nodeURL(h, o.node)}, Signer: h.Key(evidence.UseStatement), Language: string(a.lang), Now: a.now, Patience: 5 * time.Second})
	if err != nil {
		return usage(err.Error(), "")
	}
	// Keys that institutions replaced since the founding: from the court's own
	// node, each proven by the others' receipts.
	if _, err := c.Follow(ctx); err != nil {
		return err
	}
	policy = c.Policy()
	pkg, err := os.Open(path)
	if err != nil {
		return unreadable(err)
	}
	defer pkg.Close()
	info, err := pkg.Stat()
	if err != nil {
		return unreadable(err)
	}
	r, err := render.New(string(a.lang))
	if err != nil {
		return err
	}
	d, err := court.Check(ctx, court.Config{Client: c, Policy: policy, Institution: h.ID(), Now: a.now}, pkg, info.Size())
	var none *evidence.PackageError
	if errors.As(err, &none) {
		return &failure{what: r.Unreadable(err), code: exitUsage}
	}
	if err != nil {
		return err
	}
	finding := render.Court{Institution: d.Court.Institution, Name: d.Court.Name, Made: d.Made}
	if o.out != "" {
		finding.Document, finding.Signature = courtDocument, courtSignature
	}
	r = r.ForCourt(finding)
	data, err := d.Encode()
	if err != nil {
		return err
	}
	if o.out != "" {
		if err := a.writeFinding(o.out, d, data, h, r); err != nil {
			return err
		}
	}
	if o.asJSON {
		_, err = a.out.Write(append(data, '\n'))
	} else {
		err = r.Text(a.out, d.Report)
	}
	if err != nil {
		return err
	}
	if o.out != "" && !o.asJSON && d.Kind != court.EvidenceChain {
		a.say("\n核验结论（已签名）：%s", "\nFinding, signed: %s", filepath.Join(o.out, courtDocument))
	} else if o.out != "" && !o.asJSON {
		a.say("\n证据链（已签名）：%s", "\nEvidence chain, signed: %s", filepath.Join(o.out, courtDocument))
	}
	if d.Verdict != verify.Matches {
		return &exitCode{command.ExitOther}
	}
	return nil
}

func unreadable(err error) error { return &failure{what: err.Error(), code: exitUsage, err: nil} }

// writeFinding writes the signature last: a folder without it is no finding.
func (a *app) writeFinding(dir string, d *court.Document, data []byte, h *institution.Home, r *render.Renderer) error {
	signature, err := court.Sign(data, h.Key(evidence.UseAttest))
	if err != nil {
		return err
	}
	if _, err := court.VerifyDocument(data, signature, h.Key(evidence.UseAttest).Public()); err != nil {
		return fmt.Errorf("reading the evidence chain back: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, f := range []struct {
		name  string
		write func(*os.File) error
	}{
		{courtDocument, func(f *os.File) error { _, err := f.Write(data); return err }},
		{courtPage, func(f *os.File) error { return r.HTML(f, d.Report) }},
		{courtText, func(f *os.File) error { return r.Text(f, d.Report) }},
		{courtSignature, func(f *os.File) error { _, err := f.Write(signature); return err }},
	} {
		file, err := os.OpenFile(filepath.Join(dir, f.name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		if err := errors.Join(f.write(file), file.Sync(), file.Close()); err != nil {
			return fmt.Errorf("writing %s: %w", f.name, err)
		}
	}
	return nil
}
