package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/verify"
)

// Names of the two packages in the summary, and their files.
const (
	genuine  = "evidence"
	tampered = "tampered"
)

func (p *play) pkg(name string) string { return p.path(name + "-package.zip") }

// deposit deposits the files, one step each, in one trail, and makes the package.
func (p *play) deposit(ctx context.Context) error {
	for i, f := range p.files {
		args := []string{"deposit", f.path, "--home", p.member(), "--phase", f.phase, "--step", f.step, "--place", "city=" + p.t("杭州", "Hangzhou")}
		if i == 0 {
			args = append(args, "--alliance", p.alliance.Genesis)
		} else {
			args = append(args, "--trail", "last")
		}
		if i == len(p.files)-1 {
			args = append(args, "--out", p.pkg(genuine))
		} else {
			args = append(args, "--no-package")
		}
		began := p.Now()
		p.show(args...)
		out, err := p.must(ctx, append(args, "--json")...)
		if err != nil {
			return err
		}
		var answer struct {
			Trail     evidence.Digest `json:"trail"`
			Statement evidence.Digest `json:"statement"`
			Position  uint64          `json:"position"`
		}
		if err := json.Unmarshal([]byte(out), &answer); err != nil {
			return fmt.Errorf("reading the answer of deposit: %w", err)
		}
		p.trail = answer.Trail
		p.say("      %s，%s：%.1f 秒后最终确认，日志位置 %d", "      %s, %s: final after %.1f s, log position %d",
			filepath.Base(f.path), size(f.size), p.Now().Sub(began).Seconds(), answer.Position)
	}
	p.summary.Trail = p.trail
	return nil
}

// receipts shows what each institution signed, from the package.
func (p *play) receipts(context.Context) error {
	f, err := os.Open(p.pkg(genuine))
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	pkg, err := evidence.OpenPackage(f, info.Size())
	if err != nil {
		return err
	}
	p.say("    每一步都有四家机构各自的回执：它们对同一个日志根的签名。取自证据包：", "    Every step has a receipt from each of the four: its signature over the log's root.\n    Out of the package:")
	seen := map[string]bool{}
	for _, step := range pkg.Steps() {
		of, err := pkg.Receipts(step.N)
		if err != nil {
			return err
		}
		fmt.Fprintln(p.Out)
		for _, institution := range slices.Sorted(maps.Keys(of)) {
			r, err := evidence.ParseReceipt(of[institution])
			if err != nil {
				return err
			}
			seen[institution] = true
			p.say("      receipts/%06d.%s.cose%s 日志位置 %d，日志规模 %d；%s 密钥 %s…", "      receipts/%06d.%s.cose%s log position %d, log size %d; %s key %s…",
				step.N, institution, strings.Repeat(" ", max(0, 9-len(institution))), r.LeafIndex, r.Size, r.Algorithm, r.KID.String()[:16])
		}
	}
	if err := p.tokens(pkg); err != nil {
		return err
	}
	for _, d := range p.alliance.Alliance.Institutions {
		if !seen[d.ID] {
			return errors.New(p.t("证据包里没有"+d.Name+"的回执", "the package has no receipt of "+d.ID))
		}
	}
	return nil
}

// tokens writes the newest timestamp token of the package to a file of its own,
// with what it stamps, so that anyone can check it with OpenSSL.
func (p *play) tokens(pkg *evidence.Package) error {
	var newest string
	for _, f := range pkg.Files() {
		if f.Role == evidence.RoleTimestamp {
			newest = f.Path // in ascending size
		}
	}
	if newest == "" {
		return errors.New(p.t("证据包里没有时间戳", "the package has no timestamp token"))
	}
	num, _, _ := strings.Cut(path.Base(newest), ".")
	read := func(name string) ([]byte, error) {
		f, err := pkg.File(name)
		if err != nil {
			return nil, err
		}
		return io.ReadAll(f)
	}
	token, err := read(newest)
	if err != nil {
		return err
	}
	text, err := read("checkpoints/" + num)
	if err != nil {
		return err
	}
	cp, err := evidence.ParseCheckpoint(text)
	if err != nil {
		return err
	}
	root, err := p.rootCertificate()
	if err != nil {
		return err
	}
	dir := p.path("timestamp")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, content := range map[string][]byte{"token.tsr": token, "checkpoint": text, "body": []byte(cp.Body()), "root.pem": root} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			return err
		}
	}
	p.say("\n      %s 是对规模 %s 的检查点的时间戳（RFC 3161），由示范电子认证中心签发，演示用。任何人都可用 OpenSSL 核对：",
		"\n      %s is a token (RFC 3161) over the checkpoint of size %s by the CA's\n      authority, a demonstration's. Anyone can check it with OpenSSL:", newest, num)
	openssl := []string{"openssl", "ts", "-verify", "-data", p.relative(filepath.Join(dir, "body")), "-in", p.relative(filepath.Join(dir, "token.tsr")), "-token_in", "-CAfile", p.relative(filepath.Join(dir, "root.pem"))}
	fmt.Fprintf(p.Out, "    $ %s\n", quote(openssl))
	return nil
}

// rootCertificate is the authority's, out of the policy.
func (p *play) rootCertificate() ([]byte, error) {
	data, err := os.ReadFile(p.alliance.Policy)
	if err != nil {
		return nil, err
	}
	policy, err := evidence.ParsePolicy(data)
	if err != nil {
		return nil, err
	}
	t := policy.TimestampAuthority(stampedBy)
	if t == nil {
		return nil, errors.New(p.t("核验策略里没有时间戳机构", "the policy names no timestamp authority"))
	}
	return []byte(t.Certificate), nil
}

// verify has anyone check the package, offline: the policy is all it trusts.
func (p *play) verify(ctx context.Context) error {
	args := []string{"verify", p.pkg(genuine), "--policy", p.alliance.Policy}
	p.show(args...)
	report, code, err := p.report(ctx, append(args, "--json")...)
	if err != nil {
		return err
	}
	p.say("      结论：%s（%d 项核验，退出码 %d）", "      verdict: %s (%d checks, exit %d)", p.verdict(report.Verdict), len(report.Checks), code)
	if code != 0 || report.Verdict != verify.Matches || !report.IssuerEstablished {
		return errors.New(p.t("证据包未通过核验", "the package does not verify"))
	}
	for _, s := range report.Steps {
		t := s.Time.Token
		if t == nil || !t.Demo {
			return fmt.Errorf("%s: %+v", p.t("某一步没有演示时间戳", "a step has no token of the demonstration"), t)
		}
		p.say("      第 %d 步：区块时间不晚于 %s；演示时间戳 %s", "      step %d: not later than %s by block time; demonstration token %s", s.N, clock(s.Time.NotAfter), clock(t.NotAfter))
	}
	// Without a policy the same bytes are no pass.
	args = []string{"verify", p.pkg(genuine)}
	p.show(args...)
	if report, code, err = p.report(ctx, append(args, "--json")...); err != nil {
		return err
	}
	p.say("      没有核验策略：内部一致，签发者未确认，不算相符（退出码 %d）", "      without a policy: consistent, issuer not established, no pass (exit %d)", code)
	if code == 0 || report.IssuerEstablished {
		return errors.New(p.t("没有核验策略却通过了", "it passed without a policy"))
	}
	return nil
}

// report runs a verification that prints its report as JSON.
func (p *play) report(ctx context.Context, args ...string) (*verify.Report, int, error) {
	out, code, err := p.run(ctx, args...)
	if err != nil {
		return nil, 0, err
	}
	report := new(verify.Report)
	if err := json.Unmarshal([]byte(out), report); err != nil {
		return nil, code, fmt.Errorf("reading the report: %w\n%s", err, out)
	}
	return report, code, nil
}

// court has the court's node check the package against its own log.
func (p *play) court(ctx context.Context) error {
	found, err := p.check(ctx, genuine)
	if err != nil {
		return err
	}
	if found.Verdict != verify.Matches {
		return errors.New(p.t("法院没有认定证据链", "the court found no evidence chain"))
	}
	for _, s := range found.Report.Steps {
		fmt.Fprintf(p.Out, "      %d  %-6s  %s  %s\n", s.N, p.phase(string(s.Phase)), s.Name, p.verdict(s.Verdict))
		p.say("         不早于 %s，不晚于 %s；%d 家机构见证", "         not before %s, not later than %s; %d institutions", clock(s.Time.NotBefore), clock(s.Time.NotAfter), len(s.Witnesses))
		for _, o := range s.Objects {
			fmt.Fprintf(p.Out, "         %s  %s  SHA-256 %s…\n", o.Name, size(o.Size), o.SHA256.String()[:16])
		}
	}
	p.say("\n      证据链成立。报告也写明它不证明什么：", "\n      The evidence chain stands. The report also says what it does not prove:")
	sections, err := reportText(p.path("evidence-chain", "report.txt"))
	if err != nil {
		return err
	}
	p.indent(sections[len(sections)-2], func(line string) bool { return strings.HasPrefix(line, "  - ") })
	return nil
}

// reportText reads the sections of a report for people; the first is the
// verdict, the last but one what is not proven.
func reportText(path string) ([]string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	sections := strings.Split(string(data), "\n== ")
	if len(sections) < 3 {
		return nil, fmt.Errorf("%s is no report", path)
	}
	return sections, nil
}

// check has the court's node check a package, keeps what it wrote and adds the
// package to the summary.
func (p *play) check(ctx context.Context, name string) (*court, error) {
	dir := p.path("evidence-chain")
	if name == tampered {
		dir = p.path(tampered)
	}
	args := []string{"court", "check", p.pkg(name), "--home", p.alliance.Node("court").Home, "--timestamp-authority", p.authority(), "--out", dir}
	p.show(args...)
	out, code, err := p.run(ctx, append(args, "--json")...)
	if err != nil {
		return nil, err
	}
	found := new(court)
	if err := json.Unmarshal([]byte(out), found); err != nil || found.Report == nil {
		return nil, fmt.Errorf("court check: exit %d: %s", code, strings.TrimSpace(out))
	}
	if (code == 0) != (found.Verdict == verify.Matches) {
		return nil, fmt.Errorf("court check: exit %d, and the verdict is %q", code, found.Verdict)
	}
	p.say("      结论：%s（%s，%d 项核验，退出码 %d）", "      verdict: %s (%s, %d checks, exit %d)", p.verdict(found.Verdict), found.Kind, len(found.Report.Checks), code)
	p.summary.Packages = append(p.summary.Packages, Package{Name: name, Path: p.pkg(name), Verdict: words(found.Verdict),
		Objects: objects(found.Report), Faults: faults(found.Report), Report: filepath.Join(dir, "report.html")})
	return found, nil
}

// court is the part of spec/evidence-chain.md that is shown.
type court struct {
	Kind    string         `json:"kind"`
	Verdict verify.Verdict `json:"verdict"`
	Report  *verify.Report `json:"report"`
}

// tamper flips one bit of the largest file inside a copy of the package, and has
// the court check that.
func (p *play) tamper(ctx context.Context) error {
	object, at, err := p.flip()
	if err != nil {
		return err
	}
	p.say("    在证据包的副本里，把 %s 的第 %d 字节翻转一个比特。", "    In a copy of the package, one bit of byte %[2]d of %[1]s is flipped.", object, at)
	found, err := p.check(ctx, tampered)
	if err != nil {
		return err
	}
	if found.Verdict != verify.DoesNotMatch || !found.Report.Named(object) {
		return errors.New(p.t("被篡改的文件没有被指出", "the file that was tampered with was not named"))
	}
	sections, err := reportText(p.path(tampered, "report.txt"))
	if err != nil {
		return err
	}
	p.indent(sections[0], func(line string) bool { return line != "" })
	p.say("\n      证据链不成立，问题就在这个文件；其余文件仍然相符。", "\n      No evidence chain, and this file is why; the other files still match.")
	return nil
}

// flip copies the package with one bit of the largest object changed. It returns
// the object's path and the byte of the object that changed, from 0.
func (p *play) flip() (object string, at int64, err error) {
	source, err := os.Open(p.pkg(genuine))
	if err != nil {
		return "", 0, err
	}
	defer source.Close()
	info, err := source.Stat()
	if err != nil {
		return "", 0, err
	}
	entries, err := evidence.OpenContainer(source, info.Size())
	if err != nil {
		return "", 0, err
	}
	var largest evidence.ContainerEntry
	for _, e := range entries.Entries() {
		if strings.HasPrefix(e.Name, "objects/") && e.Size > largest.Size {
			largest = e
		}
	}
	if largest.Size == 0 {
		return "", 0, errors.New("the package has no object")
	}
	out, err := os.OpenFile(p.pkg(tampered), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return "", 0, err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if _, err := io.Copy(out, source); err != nil {
		return "", 0, err
	}
	at = largest.Size / 2
	b := make([]byte, 1)
	if _, err := out.ReadAt(b, largest.Offset+at); err != nil {
		return "", 0, err
	}
	b[0] ^= 1 << 4
	_, err = out.WriteAt(b, largest.Offset+at)
	return largest.Name, at, err
}

func (p *play) verdict(v verify.Verdict) string {
	switch v {
	case verify.Matches:
		return p.t("【相符】", "[matches]")
	case verify.DoesNotMatch:
		return p.t("【不符】", "[does not match]")
	}
	return p.t("【无法确定】", "[cannot be determined]")
}

// finish writes the summary and says where everything is and what to try next.
func (p *play) finish() error {
	p.summary.Alliance = p.alliance.Alliance.ID()
	p.summary.Seconds = p.Now().Sub(p.began).Seconds()
	if err := p.summary.write(p.path("summary.json")); err != nil {
		return err
	}
	p.say("\n演示完成，共 %.0f 秒。结果都在 %s：", "\nDone, in %.0f s. Everything is under %s:", p.summary.Seconds, p.relative(p.dir))
	rows := [][2]string{
		{p.relative(p.pkg(genuine)), p.t("证据包，用任何解压程序都能打开", "the evidence package; any unzip program opens it")},
		{p.relative(p.path("evidence-chain", "report.html")), p.t("法院的报告", "the court's report, for people")},
		{p.relative(p.path("evidence-chain", "evidence-chain.json")), p.t("证据链，旁边是法院的签名", "the evidence chain, with the court's signature beside it")},
		{p.relative(p.pkg(tampered)), p.t("被翻转一个比特的副本", "the copy with one bit flipped")},
		{p.relative(p.path(tampered, "report.html")), p.t("法院对它的报告", "the court's report on it")},
		{p.relative(p.alliance.Policy), p.t("核验策略：信任谁的密钥", "the trust policy: whose keys count")},
		{p.relative(p.path("portal")), p.t("浏览器那一场的页面和证据包", "the pages of the browser's scene, and its package")},
		{p.relative(p.path("commands.txt")), p.t("演示运行过的每一条命令", "every command that was run")},
		{p.relative(p.path("summary.json")), p.t("供程序读取的摘要", "the summary for programs")},
	}
	width := 0
	for _, r := range rows {
		width = max(width, len(r[0]))
	}
	for _, r := range rows {
		fmt.Fprintf(p.Out, "  %-*s  %s\n", width, r[0], r[1])
	}
	program := p.program()
	p.say("\n接下来可以试试：", "\nWhat to try next:")
	for _, line := range []string{
		fmt.Sprintf("unzip -l %s", p.relative(p.pkg(genuine))),
		fmt.Sprintf("%s verify %s --policy %s", program, p.relative(p.pkg(genuine)), p.relative(p.alliance.Policy)),
		fmt.Sprintf("%s verify %s --policy %s", program, p.relative(p.pkg(tampered)), p.relative(p.alliance.Policy)),
		p.t(`FILES="你的文件.pdf 你的录像.mp4" make demo`, `FILES="your.pdf your.mp4" make demo`),
	} {
		fmt.Fprintln(p.Out, "  "+line)
	}
	if p.Stay {
		p.say("\n门户在 %s ，人物都是虚构的，不用密码：林若溪存证，孙慧审核登记，马立群看机构控制台。", "\nThe portal is at %s . Its people are made up and need no password: Lin Ruoxi deposits, Sun Hui has the desk, Ma Liqun the console.", p.summary.Portal.Origin)
		court := p.alliance.Node("court")
		fmt.Fprintf(p.Out, "  curl %s/checkpoint\n  %s/docs\n", court.API, court.API)
	}
	return nil
}

// faults lists the files of a package that a report says do not match.
func faults(r *verify.Report) []string {
	var all []string
	for _, line := range r.Checks {
		if line.Verdict == verify.DoesNotMatch && line.Subject.Path != "" && !slices.Contains(all, line.Subject.Path) {
			all = append(all, line.Subject.Path)
		}
	}
	return all
}

// objects lists the evidence files of a report.
func objects(r *verify.Report) []string {
	var all []string
	for _, s := range r.Steps {
		for _, o := range s.Objects {
			if o.Path != "" {
				all = append(all, path.Base(o.Path))
			}
		}
	}
	return all
}
