package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/local"
	"github.com/zhenglian/zhenglian/internal/tour"
	"github.com/zhenglian/zhenglian/internal/tour/walk"
	"github.com/zhenglian/zhenglian/verify"
)

// portalTime bounds the browser's scene; on two cores it takes under half a minute.
const portalTime = 5 * time.Minute

// Portal is where the CA's portal is and what a browser did there.
type Portal struct {
	Origin   string   `json:"origin"`
	Package  string   `json:"package,omitempty"`  // made in the browser
	Finding  string   `json:"finding,omitempty"`  // as the public page shows it
	Pictures []string `json:"pictures,omitempty"` // of the pages, in order
}

// portal starts the CA's portal. A person of the demonstration signs in there in
// a real browser, deposits a photograph and makes a package; a stranger verifies
// it on the public page.
func (p *play) portal(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, portalTime)
	defer cancel()
	where, err := p.openPortal(ctx)
	if err != nil {
		return err
	}
	p.summary.Portal = &Portal{Origin: where.Origin}
	fmt.Fprintf(p.Out, "      %s  %s\n", where.Institution, where.Origin)
	browser, err := tour.Open(ctx)
	if errors.Is(err, tour.ErrNoBrowser) {
		p.say("      这台机器没有 Chromium，这一场留给您自己在浏览器里走：打开上面的网址。", "      There is no Chromium on this machine: walk this scene yourself, at the address above.")
		return nil
	}
	if err != nil {
		return err
	}
	err = p.inBrowser(ctx, browser, where)
	return errors.Join(err, browser.Close())
}

func (p *play) openPortal(ctx context.Context) (*local.Portal, error) {
	where, err := p.alliance.AddPortal(ctx, "ca")
	if err != nil {
		return nil, err
	}
	for i, args := range where.Commands {
		p.show(args...)
		if i == len(where.Commands)-1 {
			p.write(append(p.environment(p.alliance.Node("ca")), append([]string{p.program()}, args...)...), " >>"+quote([]string{where.LogFile})+" 2>&1 &")
			continue
		}
		p.record(args...)
		if args[0] == "alliance" {
			p.note("mv", p.alliance.NextPolicy(), p.alliance.Policy)
		}
	}
	if err := where.Start(ctx); err != nil {
		return nil, err
	}
	return where, where.WaitReady(ctx)
}

// inBrowser is the scene itself, told as it happens.
func (p *play) inBrowser(ctx context.Context, browser *tour.Browser, where *local.Portal) error {
	if err := os.MkdirAll(p.path("portal"), 0o755); err != nil {
		return err
	}
	lang := p.t(walk.Chinese, walk.English)
	visitor, err := browser.Visit(tour.Screen{Lang: lang})
	if err != nil {
		return err
	}
	if _, err := visitor.AddAuthenticator(ctx); err != nil {
		return err
	}
	lin := walk.At(visitor, where.Origin, lang)
	var trail, made string
	photo := p.smallest()
	what := walk.Deposit{Files: []string{photo}, Step: p.t("固定照片", "photograph secured"), Confirm: true}
	for _, step := range []struct {
		picture, zh, en string
		do              func() error
	}{
		{"signed-in", "林若溪登录：身份提供方核验过她的姓名和证件号，等级 3（演示身份）", "Lin Ruoxi signs in: her provider has verified name and number, level 3 (a demonstration's identity)",
			func() error { return lin.SignIn(ctx, walk.Lin) }},
		{"key", "浏览器生成不可导出的密钥，CA 登记上链并签发证书；恢复密钥留在纸上", "Her browser makes a key that cannot be exported; the CA enrols it in the log and certifies it; the recovery key goes on paper",
			func() error {
				if _, err := lin.MakeKey(ctx, p.t("演示浏览器", "demo browser")); err != nil {
					return err
				}
				return errors.Join(lin.KeepPaper(ctx), lin.Open(ctx, "/keys"))
			}},
		{"passkey", "绑定通行密钥：重要操作要她亲手确认", "She binds a passkey: acts of weight need her hand",
			func() error { return lin.AddPasskey(ctx, "", p.t("演示设备", "demo device")) }},
		{"deposit", "她选好文件，写明事项", "She chooses a file and writes what it is for",
			func() error { return lin.FillDeposit(ctx, what) }},
		{"deposited", "存入 " + filepath.Base(photo) + "：在浏览器里计算摘要、加密、签名，通行密钥确认，四家机构见证", "She deposits " + filepath.Base(photo) + ": hashed, encrypted and signed in the browser, confirmed with the passkey, witnessed by all four",
			func() (err error) {
				if trail, err = lin.Deposit(ctx, what); err != nil {
					return err
				}
				return lin.Record(ctx, trail, what.Step)
			}},
		{"packaged", "证据包也在她的浏览器里制作", "The evidence package is made in her browser too",
			func() (err error) {
				made, err = lin.Package(ctx)
				return err
			}},
	} {
		p.say("      · "+strings.ReplaceAll(step.zh, "%", "%%"), "      · "+strings.ReplaceAll(step.en, "%", "%%"))
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.picture, err)
		}
		if err := p.picture(ctx, visitor, step.picture); err != nil {
			return err
		}
	}
	p.summary.Portal.Package = p.path("portal", "evidence-package.zip")
	data, err := os.ReadFile(made) // a photograph's package: it fits into memory
	if err != nil {
		return err
	}
	if err := os.WriteFile(p.summary.Portal.Package, data, 0o644); err != nil {
		return err
	}
	return p.stranger(ctx, browser, where, lang)
}

// stranger verifies the package in a browser that knows nobody.
func (p *play) stranger(ctx context.Context, browser *tour.Browser, where *local.Portal, lang string) error {
	p.say("      · 一个陌生人在公开核验页核验：文件不离开他的浏览器", "      · A stranger verifies it on the public page: the file does not leave his browser")
	visitor, err := browser.Visit(tour.Screen{Lang: lang})
	if err != nil {
		return err
	}
	anybody := walk.At(visitor, where.Origin, lang)
	finding, err := anybody.Verify(ctx, p.summary.Portal.Package)
	if err != nil {
		return err
	}
	finding, _, _ = strings.Cut(strings.TrimSpace(finding), "\n")
	p.summary.Portal.Finding = finding
	fmt.Fprintf(p.Out, "        %s\n", finding)
	if err := p.picture(ctx, visitor, "verified"); err != nil {
		return err
	}
	// The command line runs the same code, and has to come to the same finding.
	report, _, err := p.report(ctx, "verify", p.summary.Portal.Package, "--policy", p.alliance.Policy, "--json")
	if err != nil {
		return err
	}
	if report.Verdict != verify.Matches {
		return errors.New(p.t("命令行核验浏览器做的证据包，结论是“"+p.verdict(report.Verdict)+"”", "the command line's finding on the browser's package is: "+p.verdict(report.Verdict)))
	}
	if err := p.holdsPhoto(report); err != nil {
		return err
	}
	p.show("verify", p.summary.Portal.Package, "--policy", p.alliance.Policy)
	fmt.Fprintf(p.Out, "        %s\n", p.verdict(report.Verdict))
	return nil
}

// holdsPhoto looks whether the report is about the very file that was chosen.
func (p *play) holdsPhoto(report *verify.Report) error {
	data, err := os.ReadFile(p.smallest())
	if err != nil {
		return err
	}
	for _, s := range report.Steps {
		for _, o := range s.Objects {
			if o.SHA256 == evidence.SumSHA256(data) {
				return nil
			}
		}
	}
	return errors.New(p.t("浏览器做的证据包里没有所选的文件", "the browser's package does not hold the file that was chosen"))
}

// picture keeps what the visitor sees.
func (p *play) picture(ctx context.Context, visitor *tour.Visitor, name string) error {
	png, err := visitor.Screenshot(ctx)
	if err != nil {
		return err
	}
	all := &p.summary.Portal.Pictures
	path := p.path("portal", fmt.Sprintf("%d-%s.png", len(*all)+1, name))
	*all = append(*all, path)
	return os.WriteFile(path, png, 0o644)
}

// smallest is the file that a browser deposits quickest, and package and all
// stays in memory there.
func (p *play) smallest() string {
	best := p.files[0]
	for _, f := range p.files {
		if f.size < best.size {
			best = f
		}
	}
	return best.path
}
