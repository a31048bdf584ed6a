package demo

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/local"
)

// found makes the homes and the alliance: every institution its own keys.
func (p *play) found(ctx context.Context) (err error) {
	p.say("    每家机构在自己的目录里生成自己的全部密钥，只交出公开的机构描述。没有哪个进程读过两家的密钥。",
		"    Each institution makes all its keys in a home of its own and hands out a public\n    descriptor. No process reads the keys of two.")
	p.alliance, err = local.New(ctx, local.Config{
		Binary: p.Binary, Dir: p.path("alliance"), Name: "证链示范联盟", Slug: "demo", Institutions: institutions(),
		// A demonstration leaves other programs less room than a server would.
		TSA: stampedBy,
		Env: []string{freeDisk},
	})
	if err != nil {
		return err
	}
	for i := range p.alliance.Alliance.Institutions {
		d := &p.alliance.Alliance.Institutions[i]
		of, err := institutionOf(d)
		if err != nil {
			return err
		}
		p.summary.Institutions = append(p.summary.Institutions, of)
	}
	p.showFounding()
	fmt.Fprintln(p.Out)
	for _, of := range p.summary.Institutions {
		kid := ""
		for _, k := range of.Keys {
			if k.Use == string(evidence.UseReceipt) {
				kid = k.Algorithm + " " + k.KID.String()[:16] + "…"
			}
		}
		fmt.Fprintf(p.Out, "      %s%s  %-8s  %s %s\n", of.Name, strings.Repeat(" ", max(0, 18-columns(of.Name))), of.Kind, p.t("回执密钥", "receipt key"), kid)
	}
	n := len(p.summary.Institutions)
	p.say("\n      示范电子认证中心另设演示用的时间戳机构：没有外部时钟来源，它的时间戳都注明不证明任何时间。",
		"\n      The CA also runs a demonstration's timestamp authority: it has no outside clock,\n      and every token says that it proves no time.")
	p.say("\n      联盟编号 %s\n      法定数：%d 家中的 %d 家", "\n      alliance id %s\n      quorum: of %d institutions %d", p.alliance.Alliance.ID(), n, evidence.Quorum(n))
	return nil
}

// start starts one process an institution.
func (p *play) start(ctx context.Context) error {
	for _, n := range p.alliance.Nodes {
		p.show("node", "--home", n.Home)
		p.recordNode(n)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := p.alliance.Start(ctx); err != nil {
		return fmt.Errorf("%w\n%s", err, p.t("如果是端口被占用，再运行一次即可：每次都另选空闲端口", "if a port was taken meanwhile, run it again: free ones are chosen every time"))
	}
	for _, n := range p.alliance.Nodes {
		fmt.Fprintf(p.Out, "      %-8s  %s %d  %s\n", n.ID, p.t("进程", "process"), n.PID(), n.API)
	}
	return nil
}

// enrol gives the member her keys and has the CA's officer enrol them.
func (p *play) enrol(ctx context.Context) error {
	ca := p.alliance.Node("ca")
	result := p.path("enrolment.json")
	for _, args := range [][]string{
		{"member", "init", "--home", p.member()},
		{"member", "enrol", "--home", ca.Home, "--request", p.path("member", "request.json"), "--assurance", "2", "--demo", "--out", result},
	} {
		p.show(args...)
		if _, err := p.must(ctx, args...); err != nil {
			return err
		}
	}
	// The officer hands the result over; here, both are folders of one machine.
	p.note("mv", result, p.path("member", "enrolment.json"))
	if err := os.Rename(result, p.path("member", "enrolment.json")); err != nil {
		return err
	}
	p.show("member", "show", "--home", p.member())
	out, err := p.must(ctx, "member", "show", "--home", p.member())
	p.indent(out, func(line string) bool { return strings.TrimSpace(line) != "" && !strings.Contains(line, "age1") })
	return err
}

// authority is the public file of the demonstration's timestamp authority.
func (p *play) authority() string { return p.path("alliance", "authority.json") }

func (p *play) member() string { return p.path("member") }
