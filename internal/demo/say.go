package demo

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/local"
)

// t returns the text in the reader's language.
func (p *play) t(zh, en string) string {
	if p.Chinese {
		return zh
	}
	return en
}

// say prints a line of the story.
func (p *play) say(zh, en string, args ...any) {
	fmt.Fprintf(p.Out, p.t(zh, en)+"\n", args...)
}

// open begins a scene.
func (p *play) open(name, zh, en string) {
	p.scene, p.sceneAt = name, p.Now()
	title := zh + " · " + en
	fmt.Fprintf(p.Out, "\n[%d] %s\n    %s\n", len(p.summary.Timings)+1, title, strings.Repeat("─", columns(title)))
}

// close ends a scene and keeps how long it took.
func (p *play) close() {
	seconds := p.Now().Sub(p.sceneAt).Seconds()
	p.summary.Timings = append(p.summary.Timings, Timing{p.scene, seconds})
	p.say("    用时 %.1f 秒", "    took %.1f s", seconds)
}

// columns is a text's width on a terminal.
func columns(s string) int {
	n := 0
	for _, r := range s {
		n++
		if r >= 0x2e80 && r <= 0xffef {
			n++
		}
	}
	return n
}

// run runs a command of the program to its end and returns what it printed and
// its exit code. Only a command that could not be run, or was interrupted, is an
// error here.
func (p *play) run(ctx context.Context, args ...string) (stdout string, code int, err error) {
	args = append([]string{"--lang", p.t("zh-CN", "en")}, args...)
	p.record(args...)
	var out, errs bytes.Buffer
	cmd := local.Command(ctx, p.Binary, nil, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if p.Progress != nil {
		cmd.Stderr = p.Progress
	}
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() > 0 {
		if errs.Len() > 0 {
			fmt.Fprint(&out, errs.String())
		}
		return out.String(), exit.ExitCode(), nil
	}
	return out.String(), 0, err
}

// record writes a command line to commands.txt, as a shell reads it where the
// demonstration was started.
func (p *play) record(args ...string) { p.write(append([]string{p.program()}, args...), "") }

// note writes what this process did itself, as the command that does it.
func (p *play) note(words ...string) { p.write(words, "") }

// write writes words to commands.txt, NAME=VALUE before the program unquoted but
// for the value.
func (p *play) write(words []string, after string) {
	env := 0
	for env < len(words) && strings.HasPrefix(words[env], "ZHENGLIAN_") {
		env++
	}
	line := ""
	for _, w := range words[:env] {
		name, value, _ := strings.Cut(w, "=")
		line += name + "=" + quote([]string{value}) + " "
	}
	fmt.Fprintln(p.commands, line+quote(words[env:])+after)
}

// program is how a reader who stands where it was started calls the program.
func (p *play) program() string {
	path := p.relative(p.Binary)
	if !strings.ContainsRune(path, filepath.Separator) {
		path = "." + string(filepath.Separator) + path
	}
	return path
}

// beijing is the zone of the reports, +08:00 all year.
func beijing() *time.Location { return time.FixedZone("", 8*60*60) }

// clock writes a time of a report as the report for people does.
func clock(text string) string {
	if text == "" {
		return "–"
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return text
	}
	return at.In(beijing()).Format("2006-01-02 15:04:05 -07:00")
}

// phase names a phase of a trail.
func (p *play) phase(phase string) string {
	switch evidence.Phase(phase) {
	case evidence.PhaseBefore:
		return p.t("事前", phase)
	case evidence.PhaseDuring:
		return p.t("事中", phase)
	case evidence.PhaseAfter:
		return p.t("事后", phase)
	}
	return phase
}

// must runs a command that has to succeed, and returns what it printed.
func (p *play) must(ctx context.Context, args ...string) (string, error) {
	out, code, err := p.run(ctx, args...)
	if err == nil && code != 0 {
		err = fmt.Errorf("zhenglian %s: exit %d: %s", quote(args), code, strings.TrimSpace(out))
	}
	return out, err
}

// show prints a command line as a reader could type it.
func (p *play) show(args ...string) {
	short := make([]string, len(args))
	for i, a := range args {
		short[i] = p.relative(a)
	}
	fmt.Fprintf(p.Out, "    $ %s %s\n", quote([]string{p.program()}), quote(short))
}

// indent prints lines of a command's output under its command line.
func (p *play) indent(text string, keep func(string) bool) {
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		if line := lines.Text(); keep == nil || keep(line) {
			fmt.Fprintln(p.Out, "      "+line)
		}
	}
}

// relative shortens a path for a reader who stands where the program was started.
func (p *play) relative(path string) string {
	if !filepath.IsAbs(path) {
		return path
	}
	here, err := filepath.Abs(".")
	if err != nil {
		return path
	}
	if rel, err := filepath.Rel(here, path); err == nil && !strings.HasPrefix(rel, "..") {
		return rel
	}
	return path
}

// quote writes words as a shell reads them.
func quote(words []string) string {
	out := make([]string, len(words))
	for i, w := range words {
		plain := w != "" && utf8.ValidString(w) && !strings.ContainsAny(w, " \t\n'\"\\$`!*?[](){}<>|&;#~")
		if !plain {
			w = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
		out[i] = w
	}
	return strings.Join(out, " ")
}
