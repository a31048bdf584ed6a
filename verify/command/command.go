// Package command is the verifier's command line, the same in the small
// program zhenglian-verify and in `zhenglian verify`:
//
//	PACKAGE --policy FILE | --alliance ID   [--json | --html FILE] [--lang zh-CN|en]
//	   │          │
//	   └──► verify.Check ──► render ──► standard output
//	            │
//	            └─► exit status 0 matches, 1 anything else, 2 unreadable
//
// It opens no connection. It trusts the policy file and the id it was given.
package command

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/verify"
	"github.com/zhenglian/zhenglian/verify/render"
)

// The exit statuses.
const (
	ExitMatches    = 0
	ExitOther      = 1 // does not match, cannot be determined, or no issuer established
	ExitUnreadable = 2 // no package, no policy, or a wrong command line
)

// Flags are the command line's.
type Flags struct {
	Package  string
	Policy   string // file; empty for none
	Alliance string // pinned id, 64 hexadecimal digits; empty for none
	Lang     string
	JSON     bool   // write the report as JSON
	HTML     string // also write the page to this file
}

// Language chooses the language by the locale that env names, in the order of
// POSIX; Chinese where there is none.
func Language(env func(string) string) string {
	for _, name := range []string{"LC_ALL", "LC_MESSAGES", "LANG"} {
		if v := env(name); v != "" {
			if strings.HasPrefix(v, "zh") {
				return "zh-CN"
			}
			return "en"
		}
	}
	return "zh-CN"
}

// words chooses between two languages.
func words(lang, chinese, english string) string {
	if lang == "en" {
		return english
	}
	return chinese
}

// asked is the language that --lang names, before anything is parsed: the help
// is in a language too.
func asked(args []string, otherwise string) string {
	for i, arg := range args {
		name, value, given := strings.Cut(arg, "=")
		if name != "--lang" && name != "-lang" {
			continue
		}
		if !given && i+1 < len(args) {
			value = args[i+1]
		}
		if slices.Contains(render.Languages(), value) {
			return value
		}
	}
	return otherwise
}

// Parse reads the arguments; options may stand before or after the package. env
// tells the locale, for the language where --lang is not given.
func Parse(name string, args []string, env func(string) string, errors io.Writer) (Flags, error) {
	var f Flags
	lang := asked(args, Language(env))
	t := func(chinese, english string) string { return words(lang, chinese, english) }
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	fs.SetOutput(errors)
	fs.Usage = func() {
		fmt.Fprintf(errors, t("用法：", "usage: ")+"%s PACKAGE --policy FILE | --alliance ID [--lang zh-CN|en] [--json] [--html FILE]\n", name)
		fs.PrintDefaults()
	}
	fs.StringVar(&f.Policy, "policy", "", t("核验策略：各机构的公钥和法定数，取自法院或联盟机构", "policy: the institutions' keys and the quorum, from the court or an institution"))
	fs.StringVar(&f.Alliance, "alliance", "", t("所信任联盟的编号，64 位十六进制数字", "id of the alliance to trust, 64 hexadecimal digits"))
	fs.StringVar(&f.Lang, "lang", lang, t("报告的语言：zh-CN 或 en", "language of the report: zh-CN or en"))
	fs.BoolVar(&f.JSON, "json", false, t("以 JSON 输出报告", "write the report as JSON (spec/report.md)"))
	fs.StringVar(&f.HTML, "html", "", t("另把报告写成网页，存入这个文件", "write the page to this file as well, as HTML"))
	for len(args) > 0 {
		if err := fs.Parse(args); err != nil {
			return f, err
		}
		if args = fs.Args(); len(args) == 0 {
			break
		}
		if f.Package != "" {
			return f, fmt.Errorf(t("一次只核验一个证据包，却给了 %q 和 %q", "one package at a time: both %q and %q are named"), f.Package, args[0])
		}
		f.Package, args = args[0], args[1:]
	}
	if f.Package == "" {
		return f, fmt.Errorf(t("没有指定证据包：%s PACKAGE --policy FILE", "no package is named: %s PACKAGE --policy FILE"), name)
	}
	return f, nil
}

// Run verifies and returns the exit status.
func Run(ctx context.Context, f Flags, out, errs io.Writer) int {
	fail := func(err error) int {
		fmt.Fprintln(errs, err)
		return ExitUnreadable
	}
	r, err := render.New(f.Lang)
	if err != nil {
		return fail(err)
	}
	opts, err := f.options()
	if err != nil {
		return fail(err)
	}
	pkg, err := os.Open(f.Package)
	if err != nil {
		return fail(fmt.Errorf("%s%w", words(f.Lang, "打不开证据包：", "opening the package: "), err))
	}
	defer pkg.Close()
	info, err := pkg.Stat()
	if err != nil {
		return fail(err)
	}
	rep, err := verify.Check(ctx, pkg, info.Size(), opts)
	if err != nil {
		return fail(errors.New(r.Unreadable(err)))
	}
	if err := write(r, rep, f, out); err != nil {
		return fail(err)
	}
	if rep.Verdict != verify.Matches || !rep.IssuerEstablished {
		return ExitOther
	}
	return ExitMatches
}

func (f *Flags) options() (opts verify.Options, err error) {
	t := func(chinese, english string) string { return words(f.Lang, chinese, english) }
	if f.Policy != "" {
		data, err := os.ReadFile(f.Policy)
		if err != nil {
			return opts, fmt.Errorf("%s%w", t("打不开核验策略：", "reading the policy: "), err)
		}
		if opts.Policy, err = evidence.ParsePolicy(data); err != nil {
			if foundingDocument(data) {
				return opts, fmt.Errorf(t("%s 是联盟的设立文件，不是核验策略：请用 `zhenglian alliance policy` 由它生成核验策略", "%s is an alliance's founding document: make a policy with `zhenglian alliance policy`"), f.Policy)
			}
			return opts, fmt.Errorf(t("%s 不是有效的核验策略：%w", "reading the policy %s: %w"), f.Policy, err)
		}
	}
	if f.Alliance != "" {
		id, err := evidence.ParseDigest(f.Alliance)
		if err != nil {
			return opts, fmt.Errorf("%s%w", t("联盟编号有误：", "the alliance id: "), err)
		}
		opts.Alliance = &id
	}
	return opts, nil
}

// foundingDocument reports whether the bytes are an alliance's, which is easily
// taken for a policy.
func foundingDocument(data []byte) bool {
	canonical, err := evidence.Canonicalize(data)
	if err != nil {
		return false
	}
	_, err = evidence.ParseAlliance(canonical)
	return err == nil
}

func write(r *render.Renderer, rep *verify.Report, f Flags, out io.Writer) error {
	if f.HTML != "" {
		page, err := os.Create(f.HTML)
		if err != nil {
			return fmt.Errorf("writing the page: %w", err)
		}
		if err := errors.Join(r.HTML(page, rep), page.Close()); err != nil {
			return err
		}
	}
	if f.JSON {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		enc.SetEscapeHTML(false)
		return enc.Encode(rep)
	}
	return r.Text(out, rep)
}
