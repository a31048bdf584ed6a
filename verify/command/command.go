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

// Parse reads the arguments; options may stand before or after the package.
func Parse(name string, args []string, errors io.Writer) (Flags, error) {
	var f Flags
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	fs.SetOutput(errors)
	fs.Usage = func() {
		fmt.Fprintf(errors, "usage: %s PACKAGE --policy FILE | --alliance ID [--lang zh-CN|en] [--json] [--html FILE]\n", name)
		fs.PrintDefaults()
	}
	fs.StringVar(&f.Policy, "policy", "", "trust policy: the institutions' keys and the quorum, from the court or an institution")
	fs.StringVar(&f.Alliance, "alliance", "", "id of the alliance to trust, 64 hexadecimal digits")
	fs.StringVar(&f.Lang, "lang", "zh-CN", "language of the page: zh-CN or en")
	fs.BoolVar(&f.JSON, "json", false, "write the report as JSON (spec/report.md)")
	fs.StringVar(&f.HTML, "html", "", "write the page to this file as well, as HTML")
	for len(args) > 0 {
		if err := fs.Parse(args); err != nil {
			return f, err
		}
		if args = fs.Args(); len(args) == 0 {
			break
		}
		if f.Package != "" {
			return f, fmt.Errorf("one package at a time: both %q and %q are named", f.Package, args[0])
		}
		f.Package, args = args[0], args[1:]
	}
	if f.Package == "" {
		return f, fmt.Errorf("no package is named: %s PACKAGE --policy FILE", name)
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
		return fail(err)
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
	if f.Policy != "" {
		data, err := os.ReadFile(f.Policy)
		if err != nil {
			return opts, fmt.Errorf("reading the trust policy: %w", err)
		}
		if opts.Policy, err = evidence.ParsePolicy(data); err != nil {
			return opts, fmt.Errorf("reading the trust policy %s: %w", f.Policy, err)
		}
	}
	if f.Alliance != "" {
		id, err := evidence.ParseDigest(f.Alliance)
		if err != nil {
			return opts, fmt.Errorf("the alliance id: %w", err)
		}
		opts.Alliance = &id
	}
	return opts, nil
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
