package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// language of all that people read; programs read JSON and exit codes.
type language string

const (
	chinese language = "zh-CN"
	english language = "en"
)

// app is what a command may use of the world.
type app struct {
	lang language
	in   io.Reader
	out  io.Writer // results
	err  io.Writer // errors and progress
	env  func(string) string
	now  func() time.Time // time.Now when nil
}

// Exit codes.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

// failure is an error with a sentence for people and what to do next.
type failure struct {
	what string // one sentence without its full stop
	hint string // what to do; may be empty
	code int    // exit code; exitFailed when zero
	err  error  // the cause, explained after the sentence; may be nil
}

func (f *failure) Error() string {
	if f.err != nil {
		return f.what + ": " + f.err.Error()
	}
	return f.what
}

func (f *failure) Unwrap() error { return f.err }

// run executes one command line and returns its exit code. An error is printed
// here, once.
func run(ctx context.Context, args []string, a *app) int {
	if a.now == nil {
		a.now = time.Now
	}
	var langErr error
	a.lang, langErr = chooseLanguage(args, a.env)
	root := newRootCommand(a)
	root.SetArgs(args)
	err := langErr
	if err == nil {
		err = root.ExecuteContext(ctx)
	}
	if err == nil {
		return exitDone
	}
	var said *exitCode
	if errors.As(err, &said) {
		return said.code
	}
	what, hint := a.explain(err)
	a.report(what, hint)
	var f *failure
	if errors.As(err, &f) && f.code != 0 {
		return f.code
	}
	return exitFailed
}

func (a *app) report(what, hint string) {
	what, hint = strings.TrimRight(what, ".。"), strings.TrimRight(hint, ".。?？")
	if a.lang == chinese {
		fmt.Fprintf(a.err, "错误：%s。\n", what)
		if hint != "" {
			fmt.Fprintf(a.err, "提示：%s。\n", hint)
		}
		return
	}
	fmt.Fprintf(a.err, "error: %s.\n", what)
	if hint != "" {
		fmt.Fprintf(a.err, "hint: %s.\n", hint)
	}
}

// chooseLanguage looks at --lang before anything is parsed, because the help
// itself is in a language; then at the locale as POSIX orders its variables.
func chooseLanguage(args []string, env func(string) string) (language, error) {
	lang := english
	for _, name := range []string{"LC_ALL", "LC_MESSAGES", "LANG"} {
		if value := env(name); value != "" {
			if strings.HasPrefix(value, "zh") {
				lang = chinese
			}
			break
		}
	}
	for i, arg := range args {
		value, ok := strings.CutPrefix(arg, "--lang=")
		if arg == "--lang" && i+1 < len(args) {
			value, ok = args[i+1], true
		}
		if arg == "--" {
			break
		}
		switch {
		case !ok:
		case value == string(chinese), value == string(english):
			lang = language(value)
		default:
			return lang, &failure{what: pick(lang, "--lang 只能是 zh-CN 或 en，不能是 %q", "--lang is zh-CN or en, not %q", value), code: exitUsage}
		}
	}
	return lang, nil
}

// pick returns the text in the language; both take the same arguments.
func pick(lang language, zh, en string, args ...any) string {
	text := en
	if lang == chinese {
		text = zh
	}
	if len(args) == 0 {
		return text
	}
	return fmt.Sprintf(text, args...)
}

// t returns the text in the reader's language.
func (a *app) t(zh, en string, args ...any) string { return pick(a.lang, zh, en, args...) }

// say prints a line in the reader's language to the results.
func (a *app) say(zh, en string, args ...any) { fmt.Fprintln(a.out, a.t(zh, en, args...)) }

// fields prints aligned "name: value" lines.
func (a *app) fields(pairs ...string) {
	width := 0
	for i := 0; i < len(pairs); i += 2 {
		width = max(width, columns(pairs[i]))
	}
	for i := 0; i+1 < len(pairs); i += 2 {
		fmt.Fprintf(a.out, "  %s%s  %s\n", pairs[i], strings.Repeat(" ", width-columns(pairs[i])), pairs[i+1])
	}
}

// columns is a text's width on a terminal: Chinese characters take two.
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

// fail makes an error of a sentence, with a hint and the cause.
func fail(what, hint string, cause error) error {
	return &failure{what: what, hint: hint, err: cause}
}

// usage makes an error of a wrong command line.
func usage(what, hint string) error { return &failure{what: what, hint: hint, code: exitUsage} }
