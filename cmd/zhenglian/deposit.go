package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/zhenglian/zhenglian/client"
	"github.com/zhenglian/zhenglian/evidence"
	memberhome "github.com/zhenglian/zhenglian/internal/member"
	"github.com/zhenglian/zhenglian/internal/vault"
)

// depositFlags are the flags of deposit.
type depositFlags struct {
	depositorFlags
	trail, phase, step, note, device, dimensions, out, statements string
	place, before, during, after                                  map[string]string
	noWait, noPackage, manifestOnly, resume, asJSON, timestamp    bool
}

func newDepositCommand(a *app) *cobra.Command {
	var o depositFlags
	cmd := &cobra.Command{
		Use:   "deposit FILE... [OPTIONS]",
		Short: a.t("存证：文件加密保管，摘要上链，生成证据包", "Deposit files: keep them encrypted, register digests, write the evidence package"),
		Long: a.t(`把文件存证为一个存证事务中的一步：算出 SHA-256 和 SM3，加密存入成员目录的保管库，
生成存证清单，用成员密钥签名，交给联盟的任一机构，等法定数的机构见证（最终确认），
核对每家的回执，再写出含整个存证事务的证据包。文件内容不离开本机。

签名后的存证先写入成员目录再发送，中断后不会丢失：--resume 重发同一份，位置不变。
--statements 把他处签好的存证成批发送：每行一个 base64，或首尾相接的 CBOR；
每份的结果输出一行 JSON。`,
			`Deposits the files as one step of a trail: it computes SHA-256 and SM3, keeps them
encrypted in the vault of the member's home, builds the manifest, signs with the
member's key, hands the statement to any institution of the alliance, waits until a
quorum has witnessed it (final), checks every receipt, and writes the evidence package
of the whole trail. The content does not leave this machine.

What is signed is written to the member's home before it is sent and survives an
interruption: --resume sends the same statement, which keeps its place.
--statements sends statements signed elsewhere as a batch: one base64 a line, or CBOR
one after the other; the outcome of each is one line of JSON.`),
		Example: `  zhenglian deposit --alliance alliance.json --phase during --step download page.html screenshot.png
  zhenglian deposit --trail last --phase after --step sealing --note "handed over" seal.pdf`,
		Args: a.arguments(0, -1),
		RunE: func(cmd *cobra.Command, files []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), o.timeout)
			defer cancel()
			switch {
			case o.statements != "":
				return a.network(a.depositStatements(ctx, o, files))
			case o.resume:
				return a.network(a.resumeDeposits(ctx, o, files))
			}
			return a.network(a.deposit(ctx, o, files))
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.trail, "trail", "", a.t("续加到存证事务 `TRAIL`：其名字，或 last；不给则新开一个", "continue `TRAIL`: its name, or last; without it a new trail is opened"))
	f.StringVar(&o.phase, "phase", "during", a.t("阶段 `PHASE`：before 事前、during 事中、after 事后", "`PHASE` of the trail: before, during or after"))
	f.StringVar(&o.step, "step", "", a.t("步骤名称 `NAME`；默认为首个文件名", "`NAME` of the step; the first file's by default"))
	f.StringVar(&o.note, "note", "", a.t("备注 `TEXT`，写入清单，不上链", "a note, `TEXT` in the manifest; not on the chain"))
	f.StringToStringVar(&o.place, "place", nil, a.t("所称地点的一项 `KEY=VALUE`，如 address=杭州市，可多次", "a fact of the place as claimed, `KEY=VALUE`, such as address=…; may be repeated"))
	f.StringVar(&o.device, "device", "", a.t("所称设备 `TEXT`，等于 --place device=TEXT", "the device as claimed: `TEXT`, the same as --place device=TEXT"))
	f.StringToStringVar(&o.before, "before", nil, a.t("事前事实的一项 `KEY=VALUE`，如 consent=signed，可多次", "a fact on before, `KEY=VALUE`; may be repeated"))
	f.StringToStringVar(&o.during, "during", nil, a.t("事中事实的一项 `KEY=VALUE`，可多次", "a fact on during, `KEY=VALUE`; may be repeated"))
	f.StringToStringVar(&o.after, "after", nil, a.t("事后事实的一项 `KEY=VALUE`，可多次", "a fact on after, `KEY=VALUE`; may be repeated"))
	f.StringVar(&o.dimensions, "dimensions", "", a.t("从 JSON 文件 `FILE` 读入以上各项：{\"place\":{},\"before\":{},\"during\":{},\"after\":{},\"note\":\"\"}；命令行优先", "read these from the JSON `FILE` {\"place\":{},\"before\":{},\"during\":{},\"after\":{},\"note\":\"\"}; options win over it"))
	f.StringVar(&o.out, "out", "", a.t("证据包写到 `FILE`；默认为 事务名前 16 位.zip", "write the evidence package to `FILE`; by default the trail's first 16 digits and .zip"))
	f.BoolVar(&o.noPackage, "no-package", false, a.t("不写证据包；以后用 zhenglian package 生成", "write no package; zhenglian package makes it later"))
	f.BoolVar(&o.noWait, "no-wait", false, a.t("机构收下即返回，不等最终确认，不写证据包", "return as soon as an institution has it: not final, no package"))
	f.BoolVar(&o.timestamp, "timestamp", false, a.t("另为这份存证本身取一个时间戳，放入证据包", "also have this very statement timestamped, and put the token into the package"))
	f.BoolVar(&o.manifestOnly, "manifest-only", false, a.t("没有文件的一步：只存清单（须有 --step）", "a step without files: only the manifest (needs --step)"))
	f.BoolVar(&o.resume, "resume", false, a.t("重发因中断而未完成的存证，并清理保管库", "send what an interruption left unfinished, and tidy the vault"))
	f.StringVar(&o.statements, "statements", "", a.t("成批发送 `FILE` 中已签名的存证；- 为标准输入", "send the signed statements in `FILE` as a batch; - for standard input"))
	f.BoolVar(&o.asJSON, "json", false, a.t("结果输出为一行 JSON", "write the result as one line of JSON"))
	o.depositorFlags.add(a, cmd)
	hideEmptyDefaults(cmd)
	return cmd
}

// hideEmptyDefaults keeps "(default [])" of KEY=VALUE options out of the help.
func hideEmptyDefaults(cmd *cobra.Command) {
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if f.DefValue == "[]" {
			f.DefValue = ""
		}
	})
}

// timestampWait is how long a deposit waits for a timestamp token once it is
// final.
const timestampWait = 3 * time.Second

// depositResult is what --json prints.
type depositResult struct {
	Trail     evidence.Digest `json:"trail"`
	Statement evidence.Digest `json:"statement"`
	Step      string          `json:"step,omitempty"`
	Final     bool            `json:"final"`
	Position  *uint64         `json:"position,omitempty"`
	Time      string          `json:"time,omitempty"` // by which a quorum had it, RFC 3339
	Witnesses []string        `json:"witnesses,omitempty"`
	Missing   []string        `json:"missing,omitempty"` // institutions without a receipt here
	// Stamped says whether the package has a timestamp token that covers the
	// statement; absent when the institution asks no authority.
	Stamped *bool `json:"timestamped,omitempty"`
	// Own are the authorities that stamped the statement itself, with --timestamp.
	Own     []string          `json:"own_timestamps,omitempty"`
	Objects []depositedObject `json:"objects,omitempty"`
	Package string            `json:"package,omitempty"`
}

type depositedObject struct {
	Name   string          `json:"name"`
	Size   int64           `json:"size"`
	SHA256 evidence.Digest `json:"sha256"`
	SM3    evidence.Digest `json:"sm3"`
}

// step makes the step of flags, file of dimensions and files.
func (a *app) step(o depositFlags, files []string) (memberhome.Step, error) {
	st := memberhome.Step{Phase: evidence.Phase(o.phase), Name: o.step, Note: o.note, Claimed: map[string]string{}, NoWait: o.noWait}
	if st.Phase != evidence.PhaseBefore && st.Phase != evidence.PhaseDuring && st.Phase != evidence.PhaseAfter {
		return st, usage(a.t("--phase 只能是 before、during 或 after，不能是 %q", "--phase is before, during or after, not %q", o.phase), "")
	}
	switch {
	case len(files) > 0 && o.manifestOnly:
		return st, usage(a.t("--manifest-only 是没有文件的一步，却给出了文件", "--manifest-only is a step without files, and files are given"), "")
	case len(files) == 0 && o.step == "":
		return st, usage(a.t("没有给出文件", "no file is given"), a.t("给出要存证的文件；没有文件的一步请加 --step 名称", "name the files to deposit; for a step without files give --step NAME"))
	}
	var d struct {
		Place, Before, During, After map[string]string
		Note                         string
	}
	if o.dimensions != "" {
		data, err := a.readFile(o.dimensions)
		if err != nil {
			return st, err
		}
		dec := json.NewDecoder(bytes.NewReader(data))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&d); err != nil {
			return st, usage(a.t("%s 读不懂：%v", "%s cannot be read: %v", o.dimensions, err), a.t("应为 {\"place\":{…},\"before\":{…},\"during\":{…},\"after\":{…},\"note\":\"…\"}，值都是文字", "it is {\"place\":{…},\"before\":{…},\"during\":{…},\"after\":{…},\"note\":\"…\"}, with texts as values"))
		}
	}
	merge := func(base, over map[string]string) map[string]string {
		out := map[string]string{}
		for _, m := range []map[string]string{base, over} {
			for k, v := range m {
				out[k] = v
			}
		}
		return out
	}
	st.Claimed = merge(d.Place, o.place)
	if o.device != "" {
		st.Claimed["device"] = o.device
	}
	st.Dimensions = evidence.Dimensions{Before: merge(d.Before, o.before), During: merge(d.During, o.during), After: merge(d.After, o.after)}
	st.Note = firstOf(o.note, d.Note)
	for _, path := range files {
		src, err := memberhome.FileSource(path)
		if err != nil {
			return st, err
		}
		st.Sources = append(st.Sources, src)
	}
	if st.Name == "" {
		st.Name = shortenTo(st.Sources[0].Name, evidence.MaxStep)
	}
	return st, nil
}

func shortenTo(s string, characters int) string {
	if r := []rune(s); len(r) > characters {
		return string(r[:characters])
	}
	return s
}

// deposit makes one step and the package of its trail.
func (a *app) deposit(ctx context.Context, o depositFlags, files []string) error {
	st, err := a.step(o, files)
	if err != nil {
		return err
	}
	d, err := a.openDepositor(ctx, o.depositorFlags)
	if err != nil {
		return err
	}
	defer d.Close()
	if o.trail != "" {
		if st.Trail, err = a.trailNamed(d.Home, o.trail); err != nil {
			return err
		}
	}
	result := depositResult{Step: st.Name}
	meter := a.newMeter(st.Sources)
	events := memberhome.Events{
		Progress: meter.progress,
		Kept: func(i int, kept vault.Object) {
			meter.kept(i, kept)
			result.Objects = append(result.Objects, depositedObject{st.Sources[i].Name, kept.Size, kept.SHA256, kept.SM3})
		},
		Waiting: func() {
			a.progress("另一个进程正在向这个存证事务添加步骤，等它完成。", "Another process adds to this trail; waiting for it.")
		},
		Signed: func(*memberhome.Entry) {
			meter.done()
			if !o.noWait {
				a.progress("已签名，等待法定数的机构见证……", "Signed; waiting for a quorum of witnesses …")
			}
		},
	}
	e, final, err := d.Deposit(ctx, d.client, st, events)
	meter.done()
	if err != nil {
		return err
	}
	result.Trail, result.Statement = e.Trail, e.Statement.Digest()
	if final != nil {
		result.Final, result.Position, result.Missing = true, &final.Position, final.Missing
		result.Time = final.Time.UTC().Format(time.RFC3339)
		result.Witnesses = sortedNames(final.Receipts)
		if o.timestamp {
			if result.Own, err = a.stampOwn(ctx, d, final.Position, e.Statement.Digest()); err != nil {
				a.warnNoToken(err)
			}
		}
		if !o.noPackage {
			if stamped, asking, err := d.client.AwaitTimestamp(ctx, final.Position, timestampWait); err == nil && asking {
				result.Stamped = &stamped
				if !stamped {
					a.progress("注意：还没有取得时间戳；存证不依赖它。稍后用 `zhenglian package` 可补上。", "Note: no timestamp token is to be had yet; the deposit stands without. `zhenglian package` can add it later.")
				}
			}
			if result.Package, err = a.writePackage(ctx, d, e.Trail, o.out); err != nil {
				return err
			}
		}
	}
	return a.showDeposit(o, &result)
}

func (a *app) showDeposit(o depositFlags, r *depositResult) error {
	if o.asJSON {
		return json.NewEncoder(a.out).Encode(r)
	}
	if !r.Final {
		a.say("机构已收下，尚未最终确认。", "An institution has it; it is not final yet.")
		a.fields(a.t("存证事务", "trail"), r.Trail.String(), a.t("存证", "statement"), r.Statement.String())
		a.say("\n下一步：运行 `zhenglian package %s` 等它最终确认并取得证据包", "\nNext: run `zhenglian package %s`, which waits until it is final and writes the package", r.Trail)
		return nil
	}
	a.say("已存证，最终确认。", "Deposited, and final.")
	pairs := []string{
		a.t("存证事务", "trail"), r.Trail.String(),
		a.t("存证", "statement"), r.Statement.String(),
		a.t("日志位置", "log position"), fmt.Sprint(*r.Position),
		a.t("见证时间", "witnessed at"), r.Time,
		a.t("见证机构", "witnesses"), strings.Join(r.Witnesses, a.t("、", ", "))}
	if r.Stamped != nil {
		pairs = append(pairs, a.t("时间戳", "timestamp"), a.t("有", "yes"))
		if !*r.Stamped {
			pairs[len(pairs)-1] = a.t("暂无", "not yet")
		}
	}
	if len(r.Own) > 0 {
		pairs = append(pairs, a.t("存证记录自身的时间戳", "own timestamp"), strings.Join(r.Own, a.t("、", ", ")))
	}
	for _, o := range r.Objects {
		pairs = append(pairs, a.t("文件", "file"), fmt.Sprintf("%s  %s  SHA-256 %s", o.Name, bytesText(o.Size), o.SHA256))
	}
	if r.Package != "" {
		pairs = append(pairs, a.t("证据包", "package"), r.Package)
	}
	a.fields(pairs...)
	a.warnMissing(r.Missing)
	return nil
}

func (a *app) warnMissing(missing []string) {
	if len(missing) > 0 {
		a.progress("注意：没有取得 %s 的回执；已有法定数的机构见证，存证有效。稍后用 `zhenglian package` 可补齐。", "Note: no receipt of %s was to be had; a quorum has witnessed it, and it stands. `zhenglian package` can complete it later.", strings.Join(missing, a.t("、", ", ")))
	}
}

// resumeDeposits sends what an interruption left.
func (a *app) resumeDeposits(ctx context.Context, o depositFlags, files []string) error {
	if len(files) > 0 {
		return usage(a.t("--resume 不接受文件：它重发已签名的存证", "--resume takes no files: it sends what is signed already"), "")
	}
	d, err := a.openDepositor(ctx, o.depositorFlags)
	if err != nil {
		return err
	}
	defer d.Close()
	trails, err := d.Trails()
	if err != nil {
		return err
	}
	sent := 0
	var failed error
	for _, trail := range trails {
		done, err := d.Resend(ctx, d.client, trail, nil)
		for _, e := range done {
			sent++
			r := depositResult{Trail: trail, Statement: e.Statement.Digest(), Final: true, Position: &e.Place.Position, Time: e.Place.Time}
			if o.asJSON {
				if err := json.NewEncoder(a.out).Encode(r); err != nil {
					return err
				}
				continue
			}
			a.say("已补发并最终确认：%s，日志位置 %d，存证事务 %s", "Sent and final: %s, log position %d, trail %s", r.Statement, *r.Position, trail)
		}
		failed = errors.Join(failed, err)
	}
	if failed != nil {
		return failed
	}
	if _, _, err := d.Sweep(ctx); err != nil {
		return err
	}
	if sent == 0 && !o.asJSON {
		a.say("没有未完成的存证。", "Nothing was left unfinished.")
	}
	return nil
}

// batchOutcome is a line of --statements.
type batchOutcome struct {
	N         int             `json:"n"`
	Statement evidence.Digest `json:"statement"`
	Code      string          `json:"code"`
	Position  *uint64         `json:"position,omitempty"`
	Final     bool            `json:"final"`
	Field     string          `json:"field,omitempty"`
	Reason    string          `json:"reason,omitempty"`
}

// depositStatements sends prepared statements as a batch. It fails when one was
// refused, after all have had their lines.
func (a *app) depositStatements(ctx context.Context, o depositFlags, files []string) error {
	if len(files) > 0 {
		return usage(a.t("--statements 不能与文件同用", "--statements goes without files"), "")
	}
	in := a.in
	if o.statements != "-" {
		f, err := os.Open(o.statements)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	d, err := a.openDepositor(ctx, o.depositorFlags)
	if err != nil {
		return err
	}
	defer d.Close()
	out := bufio.NewWriter(a.out)
	enc := json.NewEncoder(out)
	n, refused := 0, 0
	err = d.client.Batch(ctx, statementReader(in), !o.noWait, func(r client.Outcome) error {
		n++
		line := batchOutcome{N: n, Statement: r.Digest, Code: r.Code.String(), Final: r.Final, Field: r.Field, Reason: r.Reason}
		if r.Known {
			line.Position = &r.Position
		}
		if !r.Accepted() {
			refused++
		}
		if err := enc.Encode(line); err != nil {
			return err
		}
		return out.Flush()
	})
	if err != nil {
		return err
	}
	a.progress("%d 份存证，%d 份被拒绝。", "%d statements, %d refused.", n, refused)
	if refused > 0 {
		return fail(a.t("%d 份存证被拒绝", "%d statements were refused", refused), a.t("原因在各自的输出行中", "the reason is in the line of each"), nil)
	}
	return nil
}

// statementReader reads base64 lines, or statements one after the other, told
// apart by the first byte (COSE_Sign1's tag 18 is 0xd2).
func statementReader(in io.Reader) func() ([]byte, error) {
	br := bufio.NewReaderSize(in, 64<<10)
	first, _ := br.Peek(1)
	if len(first) == 1 && first[0] == 0xd2 {
		return func() ([]byte, error) { return nextStatement(br) }
	}
	line := 0
	return func() ([]byte, error) {
		for {
			text, err := br.ReadString('\n')
			if text = strings.Trim(strings.TrimSpace(text), `"`); text != "" {
				line++
				data, b64 := base64.StdEncoding.DecodeString(text)
				if b64 != nil {
					return nil, fmt.Errorf("line %d is not base64: %w", line, b64)
				}
				return data, nil
			}
			if err != nil {
				return nil, err
			}
		}
	}
}

// nextStatement finds where a statement ends: a tagged array of four, of which
// the second is the empty map and the others are byte strings.
func nextStatement(br *bufio.Reader) ([]byte, error) {
	head, err := br.Peek(2)
	if len(head) == 0 {
		return nil, io.EOF
	}
	if err != nil || head[0] != 0xd2 || head[1] != 0x84 {
		return nil, errors.New("the stream holds something that is no statement")
	}
	out := append(make([]byte, 0, 512), head...)
	_, _ = br.Discard(len(head))
	for part := range 4 {
		ib, err := br.ReadByte()
		if err != nil {
			return nil, io.ErrUnexpectedEOF
		}
		out = append(out, ib)
		if part == 1 && ib == 0xa0 {
			continue
		}
		size := uint64(ib & 31)
		switch {
		case ib>>5 != 2 || size > 25:
			return nil, errors.New("the stream holds something that is no statement")
		case size >= 24:
			length := make([]byte, 1<<(size-24))
			if _, err := io.ReadFull(br, length); err != nil {
				return nil, io.ErrUnexpectedEOF
			}
			out = append(out, length...)
			size = 0
			for _, b := range length {
				size = size<<8 | uint64(b)
			}
		}
		if uint64(len(out))+size > evidence.MaxStatement {
			return nil, fmt.Errorf("the stream holds a statement of more than %d bytes", evidence.MaxStatement)
		}
		at := len(out)
		out = append(out, make([]byte, size)...)
		if _, err := io.ReadFull(br, out[at:]); err != nil {
			return nil, io.ErrUnexpectedEOF
		}
	}
	return out, nil
}
