package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/local"
)

// Config of a demonstration. Binary, Dir, Files and Out are required.
type Config struct {
	Binary string   // the zhenglian program
	Dir    string   // for everything the demonstration makes; replaced when it holds an earlier one
	Files  []string // what is deposited
	// Stay keeps the alliance running after the last scene, until the context ends.
	Stay     bool
	Chinese  bool      // language of the prose; the titles are in both
	Out      io.Writer // the story
	Progress io.Writer // progress bars of the commands; nil when nobody watches
	Now      func() time.Time
}

// institutions of the demonstration. The names are of no real institution.
func institutions() []local.Spec {
	return []local.Spec{
		{ID: "court", Name: "示范互联网法院", Kind: evidence.KindCourt},
		{ID: "notary", Name: "示范公证处", Kind: evidence.KindNotary},
		{ID: "ca", Name: "示范电子认证中心", Kind: evidence.KindCA},
		{ID: "forensic", Name: "示范司法鉴定中心", Kind: evidence.KindForensic, Args: []string{"--receipt-algorithm", "p256"}},
	}
}

// play is one demonstration being played.
type play struct {
	Config
	dir      string // absolute
	files    []file
	alliance *local.Alliance
	commands *os.File // every command line that was run, for a shell
	summary  Summary
	began    time.Time
	scene    string
	sceneAt  time.Time
	trail    evidence.Digest
}

// Run plays the demonstration. Every process it started has ended when it
// returns. An error says what to do where there is something to do.
func Run(ctx context.Context, cfg Config) (err error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	p := &play{Config: cfg, began: cfg.Now()}
	if p.files, err = p.look(cfg.Files); err != nil {
		return err
	}
	if p.dir, err = filepath.Abs(cfg.Dir); err != nil {
		return err
	}
	if err := p.freshDir(); err != nil {
		return err
	}
	if p.commands, err = os.OpenFile(p.path("commands.txt"), os.O_CREATE|os.O_WRONLY, 0o644); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.commands.Close()) }()
	if here, err := os.Getwd(); err == nil {
		fmt.Fprintf(p.commands, "cd %s\n", quote([]string{here}))
	}
	defer func() {
		if p.alliance != nil {
			err = errors.Join(err, p.alliance.Stop())
		}
	}()
	for _, scene := range []struct {
		name, zh, en string
		play         func(context.Context) error
	}{
		{"alliance", "四家机构组成联盟", "Four institutions found an alliance", p.found},
		{"nodes", "四个节点开始运行", "Four nodes start", p.start},
		{"member", "当事人取得密钥并登记", "A member makes keys and is enrolled", p.enrol},
		{"deposit", "事前、事中、事后：存证真实文件", "Before, during, after: real files are deposited", p.deposit},
		{"receipts", "四家机构的回执", "The receipts of all four", p.receipts},
		{"verify", "任何人离线核验", "Anyone verifies, offline", p.verify},
		{"court", "法院核验，形成证据链", "The court checks: an evidence chain", p.court},
		{"tamper", "翻转一个比特", "One bit is flipped", p.tamper},
		{"portal", "在浏览器里：登录、存证、核验", "In a browser: signing in, depositing, verifying", p.portal},
	} {
		p.open(scene.name, scene.zh, scene.en)
		if err := scene.play(ctx); err != nil {
			return fmt.Errorf("%s: %w", p.t("演示“"+scene.zh+"”", "demo, "+scene.name), err)
		}
		p.close()
	}
	if err := p.finish(); err != nil {
		return err
	}
	if p.Stay {
		p.say("\n联盟还在运行。按 Ctrl-C 结束。", "\nThe alliance goes on running. Ctrl-C ends it.")
		<-ctx.Done()
		p.say("\n正在停止四个节点……", "\nStopping the four nodes …")
	}
	return nil
}

// marker tells a folder of the demonstration from one that holds anything else.
const marker = ".zhenglian-demo"

// freshDir empties the folder of an earlier demonstration, and no other.
func (p *play) freshDir() error {
	entries, err := os.ReadDir(p.dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if len(entries) > 0 {
		if _, err := os.Lstat(p.path(marker)); err != nil {
			return errors.New(p.t(
				fmt.Sprintf("%s 里有别的内容，没有改动它；请用 --out 换一个目录", p.dir),
				fmt.Sprintf("%s holds something else and was left as it is: choose another folder with --out", p.dir)))
		}
		if err := p.notRunning(); err != nil {
			return err
		}
		for _, e := range entries {
			if err := os.RemoveAll(p.path(e.Name())); err != nil {
				return err
			}
		}
	}
	if err := os.MkdirAll(p.dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(p.path(marker), fmt.Appendln(nil, os.Getpid()), 0o644)
}

// notRunning refuses to take the folder from under a demonstration that runs.
func (p *play) notRunning() error {
	data, err := os.ReadFile(p.path(marker))
	var pid int
	if err != nil {
		return err
	}
	if _, err := fmt.Sscan(string(data), &pid); err != nil || pid == os.Getpid() {
		return nil
	}
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return nil // no such system: nothing to compare with
	}
	if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); err == nil && exe == self {
		return errors.New(p.t(
			fmt.Sprintf("%s 里的演示还在运行（进程 %d）；请先按 Ctrl-C 结束它，或用 --out 换一个目录", p.dir, pid),
			fmt.Sprintf("the demonstration in %s is still running (process %d): end it with Ctrl-C, or choose another folder with --out", p.dir, pid)))
	}
	return nil
}

// path is a file of the demonstration's folder.
func (p *play) path(parts ...string) string {
	return filepath.Join(append([]string{p.dir}, parts...)...)
}
