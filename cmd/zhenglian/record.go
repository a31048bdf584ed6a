package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/evidence/recording"
	"github.com/zhenglian/zhenglian/internal/capture"
	"github.com/zhenglian/zhenglian/internal/capture/clean"
	"github.com/zhenglian/zhenglian/internal/capture/proxy"
	"github.com/zhenglian/zhenglian/internal/capture/sandbox"
)

// recordFlags are the options of record.
type recordFlags struct {
	depositorFlags
	recorder, recorderPassphrase   string
	script, urls, out, purpose     string
	consent, resume, check, asJSON bool
	allow, without, sites, sources []string
	limit                          time.Duration
	bytes                          int64
}

func newRecordCommand(a *app) *cobra.Command {
	var o recordFlags
	cmd := &cobra.Command{
		Use:   "record [URL] [OPTIONS]",
		Short: a.t("用受控浏览器录制网页，全程存证", "Record web pages in a watched browser, deposited while it happens"),
		Long: a.t(`在隔离的浏览器里打开网页，全程录制：输入、网络往来的每个字节、截图与画面，边录边存证。

  1. 当事人（--home）开启存证事务，写明目的与同意，授权取证服务的密钥（--recorder-home，
     类别为 service 的成员）。命令行没有通行密钥：开启由当事人的成员密钥签署，报告中写明。
  2. 检查本机是否清洁。不清洁即不录制；--allow-unclean 逐项放行，写入报告。
  3. 按 --script 的步骤（或 --urls 的网址清单）录制；没有给出时打开 URL 并截图。
  4. 封存：事件日志、网页归档（WACZ）、录像、下载的文件，加密给当事人；写出证据包。

浏览器、代理或网络出错时封存为“不完整”，写明原因。取证程序被中断后，
zhenglian record --resume 找到未结束的录制并封存。
steps.json：[{"do":"goto","url":"https://…"},{"do":"click","text":"下一页"}]；
do 为 goto、click、type、wait、scroll、screenshot、download。`,
			`Opens web pages in an isolated browser and records all of it: input, every byte on
the network, screenshots and picture, deposited while it happens.

  1. The party (--home) opens a trail with purpose and consent, and authorises the
     recorder's key (--recorder-home, a member of the kind service). There is no
     passkey at the command line: her member key signs, and the record says so.
  2. The machine is inspected. An unclean one does not record; --allow-unclean lets
     named checks pass, and that stands in the report.
  3. The steps of --script, or the addresses of --urls, are recorded; without them
     URL is opened and pictured.
  4. It is sealed: event log, web archive (WACZ), video and downloads, encrypted to
     the party; and an evidence package is written.

When browser, proxy or network fail, it is sealed as partial, with the reason. After
the recorder itself was killed, zhenglian record --resume finds and seals what was open.
steps.json: [{"do":"goto","url":"https://…"},{"do":"click","text":"Next"}]; do is goto,
click, type, wait, scroll, screenshot or download.`),
		Example: "  zhenglian record https://example.org/ --home alice --recorder-home recorder --purpose 侵权取证 --consent --out evidence\n  zhenglian record --resume --recorder-home recorder",
		Args:    a.arguments(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.require(cmd, "recorder-home"); err != nil && !o.check {
				return err
			}
			switch {
			case o.check:
				return a.recordCheck(cmd.Context(), &o)
			case o.resume:
				return a.network(a.recordResume(cmd.Context(), &o))
			}
			if err := a.require(cmd, "purpose", "consent", "out"); err != nil {
				return err
			}
			actions, err := a.recordActions(&o, args)
			if err != nil {
				return err
			}
			config := sandbox.Config{Without: o.without, Limits: sandbox.Limits{Time: o.limit}}
			return a.network(a.record(cmd.Context(), &o, actions, func(ctx context.Context) (capture.Room, error) { return capture.Chromium(ctx, config) }))
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.recorder, "recorder-home", "", a.t("取证服务的成员目录 `DIR`", "the recorder's member home `DIR`"))
	f.StringVar(&o.recorderPassphrase, "recorder-passphrase-file", "", a.t("取证服务密钥的口令在 `FILE` 的第一行", "the recorder's passphrase is the first line of `FILE`"))
	f.StringVar(&o.script, "script", "", a.t("步骤 `FILE`（JSON）", "the steps, a JSON `FILE`"))
	f.StringVar(&o.urls, "urls", "", a.t("网址清单 `FILE`，每行一个，逐个打开并截图", "a `FILE` with an address a line, each opened and pictured"))
	f.StringVar(&o.out, "out", "", a.t("证据包写入 `DIR`", "write the evidence package into `DIR`"))
	f.StringVar(&o.purpose, "purpose", "", a.t("取证目的 `TEXT`", "what it is for, `TEXT`"))
	f.BoolVar(&o.consent, "consent", false, a.t("当事人同意全程录制并存证", "the party agrees that all of it is recorded and deposited"))
	f.StringSliceVar(&o.allow, "allow-unclean", nil, a.t("放行这些检查的异常 `CHECK,…`，写入报告", "accept what these checks find, `CHECK,…`; it stands in the report"))
	f.StringSliceVar(&o.without, "without", nil, a.t("隔离措施缺失时仍录制 `PART,…`，写入报告", "record without these parts of the sandbox, `PART,…`; it stands in the report"))
	f.StringSliceVar(&o.sites, "test-site", nil, a.t("允许浏览器访问的本机测试站点 `HOST:PORT=ADDRESS:PORT`，写入报告", "a test site on this machine that the browser may reach, `HOST:PORT=ADDRESS:PORT`; it stands in the report"))
	f.StringSliceVar(&o.sources, "time-source", nil, a.t("比对时钟的来源 `ntp:HOST` 或 https 网址", "compare the clock with `ntp:HOST` or an https address"))
	f.DurationVar(&o.limit, "time-limit", 2*time.Hour, a.t("录制最长 `DURATION`", "record at most `DURATION`"))
	f.Int64Var(&o.bytes, "max-bytes", 8<<30, a.t("网络流量最多 `N` 字节", "carry at most `N` bytes"))
	f.BoolVar(&o.resume, "resume", false, a.t("封存被中断的录制", "seal recordings that were interrupted"))
	f.BoolVar(&o.check, "check", false, a.t("只检查本机是否清洁", "inspect this machine and record nothing"))
	f.BoolVar(&o.asJSON, "json", false, a.t("结果输出为一行 JSON", "write the result as one line of JSON"))
	o.add(a, cmd)
	hideEmptyDefaults(cmd)
	return cmd
}

// recordActions reads what is to be recorded.
func (a *app) recordActions(o *recordFlags, args []string) ([]capture.Action, error) {
	given := 0
	for _, is := range []bool{o.script != "", o.urls != "", len(args) > 0 && o.script == ""} {
		if is {
			given++
		}
	}
	if given != 1 {
		return nil, usage(a.t("给出一个网址、--script 或 --urls", "give an address, --script or --urls"), "")
	}
	var all []capture.Action
	var err error
	switch {
	case o.script != "":
		var data []byte
		if data, err = a.readFile(o.script); err != nil {
			return nil, err
		}
		all, err = capture.ReadScript(data)
		if err == nil && len(args) > 0 {
			all = append([]capture.Action{{Do: "goto", URL: args[0]}}, all...)
			err = capture.CheckURL(args[0])
		}
	case o.urls != "":
		var data []byte
		if data, err = a.readFile(o.urls); err != nil {
			return nil, err
		}
		all, err = capture.ReadList(strings.NewReader(string(data)))
	default:
		all, err = []capture.Action{{Do: "goto", URL: args[0]}}, capture.CheckURL(args[0])
	}
	var step *capture.ScriptError
	if errors.As(err, &step) {
		return nil, &failure{what: a.t("第 %d 项不能用", "item %d cannot be used", step.Step), code: exitUsage, err: errors.New(step.Reason)}
	}
	if err != nil {
		return nil, &failure{what: a.t("要录制的内容不能用", "what is to be recorded cannot be used"), code: exitUsage, err: err}
	}
	return all, nil
}

// recordSites reads --test-site.
func (a *app) recordSites(o *recordFlags) ([]proxy.Exception, error) {
	var out []proxy.Exception
	for _, text := range o.sites {
		name, at, ok := strings.Cut(text, "=")
		i := strings.LastIndexByte(name, ':')
		dial, err := netip.ParseAddrPort(at)
		if !ok || i < 1 || err != nil {
			return nil, usage(a.t("--test-site 应为 主机:端口=地址:端口，不能是 %q", "--test-site is HOST:PORT=ADDRESS:PORT, not %q", text), "")
		}
		port, err := strconv.ParseUint(name[i+1:], 10, 16)
		if err != nil || port == 0 {
			return nil, usage(a.t("--test-site 的端口 %q 不对", "--test-site cannot have the port %q", name[i+1:]), "")
		}
		out = append(out, proxy.Exception{Host: strings.ToLower(name[:i]), Port: uint16(port), Dial: dial})
	}
	return out, nil
}

// cleanConfig is what the machine is inspected for.
func (a *app) cleanConfig(o *recordFlags, target string, known []string) (clean.Config, error) {
	for _, name := range o.allow {
		if !slices.Contains(clean.Checks(), name) {
			return clean.Config{}, usage(a.t("--allow-unclean 没有 %q 这项检查", "--allow-unclean knows no check %q", name), a.t("有：%s", "there are: %s", strings.Join(clean.Checks(), ", ")))
		}
	}
	browser, err := sandbox.Find()
	if err != nil {
		browser = "" // a finding of the inspection
	}
	c := clean.Config{Software: software(), Browser: browser, Target: target, Accept: o.allow, Known: known, Now: a.now,
		Declared: []string{"proxy: all traffic of the browser goes through this session's recording proxy, which is its only way out"}}
	for _, text := range o.sources {
		switch host, isNTP := strings.CutPrefix(text, "ntp:"); {
		case isNTP && host != "":
			c.Sources = append(c.Sources, clean.NTP{Addr: host + ":123"})
		case strings.HasPrefix(text, "https://"):
			c.Sources = append(c.Sources, clean.HTTPDate{URL: text, Client: timeClient()})
		default:
			return c, usage(a.t("--time-source 应为 ntp:主机 或 https 网址，不能是 %q", "--time-source is ntp:HOST or an https address, not %q", text), "")
		}
	}
	return c, nil
}

func software() string { return "zhenglian/" + version }

func (a *app) recordCheck(ctx context.Context, o *recordFlags) error {
	c, err := a.cleanConfig(o, "", nil)
	if err != nil {
		return err
	}
	rep, err := clean.Inspect(ctx, c)
	if err != nil {
		return err
	}
	if o.asJSON {
		if err := json.NewEncoder(a.out).Encode(rep); err != nil {
			return err
		}
	} else {
		for _, f := range rep.Findings {
			mark := a.t("异常", "found")
			if f.Accepted {
				mark = a.t("放行", "accepted")
			}
			a.say("%s  %s：%s", "%s  %s: %s", mark, f.Check, f.Problem)
		}
	}
	if n := len(rep.Problems()); n > 0 {
		return fail(a.t("本机有 %d 项异常，不能录制", "this machine has %d findings and does not record", n), a.t("排除后重试；确需放行的用 --allow-unclean 检查名", "remove them and try again; what must pass is named with --allow-unclean"), nil)
	}
	if !o.asJSON {
		a.say("本机清洁，可以录制。", "This machine is clean and can record.")
	}
	return nil
}

// record opens the trail, records, and writes the package.
func (a *app) record(ctx context.Context, o *recordFlags, actions []capture.Action, room func(context.Context) (capture.Room, error)) error {
	exceptions, err := a.recordSites(o)
	if err != nil {
		return err
	}
	var known []string
	for _, e := range exceptions {
		known = append(known, "test site: "+e.String())
	}
	for _, part := range o.without {
		known = append(known, "sandbox: recorded without "+part+" where the machine lacks it")
	}
	inspect, err := a.cleanConfig(o, "", known)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(o.out, 0o700); err != nil {
		return err
	}
	r, err := a.openRecorder(ctx, o)
	if err != nil {
		return err
	}
	defer r.Close()
	var session evidence.Digest
	if _, err := io.ReadFull(rand.Reader, session[:]); err != nil {
		return fmt.Errorf("naming the session: %w", err)
	}
	start := actions[0].URL
	trail, err := r.open(ctx, a, o, session, start)
	if err != nil {
		return err
	}
	a.progress("存证事务 %s 已开启，录制 %s。", "Trail %s is open; recording %s.", trail, session)
	home, err := filepath.Abs(r.owner.dir)
	if err != nil {
		return err
	}
	out, err := filepath.Abs(o.out)
	if err != nil {
		return err
	}
	config := r.config(trail, filepath.Join(o.recorder, recordingsFolder, session.String()))
	config.Session, config.Start, config.Title, config.Now = session, start, o.purpose, a.now
	config.Note = map[string]string{"home": home, "out": out}
	run := capture.Run{Config: config, Actions: actions, Bulk: o.urls != "", Room: room, Time: o.limit,
		Inspect: func(ctx context.Context) (*clean.Report, error) { return clean.Inspect(ctx, inspect) },
		Proxy:   proxy.Config{Exceptions: exceptions, Limits: proxy.Limits{SessionBytes: o.bytes}},
		Done: func(n int, name string, err error) {
			if err != nil {
				a.progress("  %d. %s：未完成（%v）", "  %d. %s: not done (%v)", n, name, err)
				return
			}
			a.progress("  %d. %s", "  %d. %s", n, name)
		}}
	result, err := capture.Record(ctx, run)
	if err != nil {
		return a.recordLeft(o, err)
	}
	// What was asked to stop is stopped: closing and packing are not part of it.
	return a.recordEnd(context.WithoutCancel(ctx), o, r, config.Dir, out, result)
}

func (a *app) recordLeft(o *recordFlags, err error) error {
	return fail(a.t("录制已中断，已录内容在本机，尚未全部存证", "the recording was interrupted; it is on this machine, and not all of it is deposited"),
		a.t("排除故障后运行 `zhenglian record --resume --recorder-home %s`", "see to the cause, then run `zhenglian record --resume --recorder-home %s`", o.recorder), err)
}

// recordEnd closes the party's side, writes the package, and removes the
// plaintext.
func (a *app) recordEnd(ctx context.Context, o *recordFlags, r *recorder, dir, out string, result *capture.Result) error {
	ctx, cancel := context.WithTimeout(ctx, 5*o.timeout)
	defer cancel()
	if err := r.close(ctx, result); err != nil {
		return a.recordLeft(o, a.network(err))
	}
	if err := os.MkdirAll(out, 0o700); err != nil {
		return a.recordLeft(o, err)
	}
	path, err := a.writePackage(ctx, r.owner, result.Trail, filepath.Join(out, "evidence-"+result.Trail.String()[:16]+".zip"))
	if err != nil {
		return a.recordLeft(o, a.network(err))
	}
	if err := capture.Destroy(dir); err != nil {
		return err
	}
	if o.asJSON {
		if err := json.NewEncoder(a.out).Encode(map[string]any{"result": result, "package": path}); err != nil {
			return err
		}
	} else {
		a.say("录制已封存：%s", "The recording is sealed: %s", map[string]string{recording.StateComplete: a.t("完整", "complete"), recording.StatePartial: a.t("不完整", "partial")}[result.State])
		a.fields(a.t("存证事务", "trail"), result.Trail.String(), a.t("录制", "session"), result.Session.String(), a.t("步骤", "steps"), fmt.Sprint(result.Steps),
			a.t("事件", "events"), fmt.Sprint(result.Events), a.t("归档记录", "archive records"), fmt.Sprint(result.Records), a.t("画面", "frames"), fmt.Sprint(result.Frames), a.t("证据包", "package"), path)
	}
	if result.State != recording.StateComplete {
		return fail(a.t("录制不完整", "the recording is partial"), a.t("证据包里有已录的全部内容和原因", "the package holds all that was recorded, and the reason"), errors.New(result.Reason))
	}
	return nil
}

// recordResume seals what interrupted recorders left.
func (a *app) recordResume(ctx context.Context, o *recordFlags) error {
	left, err := capture.Left(filepath.Join(o.recorder, recordingsFolder))
	if err != nil {
		return err
	}
	if len(left) == 0 {
		a.say("没有未结束的录制。", "No recording is open.")
		return nil
	}
	var failed error
	for dir, st := range left {
		if err := a.resumeOne(ctx, *o, dir, st); err != nil {
			failed = errors.Join(failed, err)
		}
	}
	return failed
}

func (a *app) resumeOne(ctx context.Context, o recordFlags, dir string, st capture.State) error {
	if o.home == "" {
		o.home = st.Note["home"]
	}
	r, err := a.openRecorder(ctx, &o)
	if err != nil {
		return err
	}
	defer r.Close()
	config := r.config(st.Trail, dir)
	config.Now = a.now
	s, err := capture.Resume(ctx, config)
	if errors.Is(err, capture.ErrBusy) {
		a.progress("录制 %s 仍在进行，未动。", "Session %s is still being recorded and left alone.", st.Session)
		return nil
	}
	if errors.Is(err, capture.ErrNothing) {
		a.progress("录制 %s 尚未开始即中断，已清除。", "Session %s had not begun; its folder was removed.", st.Session)
		return capture.Destroy(dir)
	}
	if err != nil {
		return err
	}
	result, err := s.Seal(ctx, capture.ReasonRecorder)
	if err = errors.Join(err, s.Close()); err != nil {
		return a.recordLeft(&o, err)
	}
	out := o.out
	if out == "" {
		out = st.Note["out"]
	}
	err = a.recordEnd(context.WithoutCancel(ctx), &o, r, dir, out, result)
	var partial *failure
	if errors.As(err, &partial) && result.State == recording.StatePartial && partial.err != nil && partial.err.Error() == result.Reason {
		return nil // sealing it as partial is what was asked for
	}
	return err
}

// recordingsFolder of a recorder's home holds a folder an open session.
const recordingsFolder = "recordings"
