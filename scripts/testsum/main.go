// Command testsum reads the events of `go test -json` and prints what a person
// wants of them: one line a package, the output of what failed, and the counts.
//
//	go test -json ./... ──► testsum -out unit.sum ──► lines, unit.sum
//	                        testsum -total *.sum  ──► "N passed, N failed, N skipped"
//
// It trusts the go command's events and nothing else: a run without a test, or
// one whose events end early, has failed.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
)

// event is one line of `go test -json`; see `go doc test2json`.
type event struct {
	Action      string
	Package     string
	ImportPath  string // of build output
	Test        string
	Output      string
	Elapsed     float64
	FailedBuild string
}

// counts of tests and subtests; a package that fails outside a test is one failure.
type counts struct{ Passed, Failed, Skipped int }

func (c *counts) add(o counts) {
	c.Passed += o.Passed
	c.Failed += o.Failed
	c.Skipped += o.Skipped
}

func main() {
	out := flag.String("out", "", "write the counts to this `FILE`")
	total := flag.Bool("total", false, "add the counts of the files named and print them")
	flag.Parse()
	var sum counts
	var err error
	if *total {
		sum, err = addFiles(flag.Args())
	} else {
		sum, err = read(os.Stdin, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "testsum:", err)
		os.Exit(1)
	}
	if *out != "" {
		data, _ := json.Marshal(sum)
		if err := os.WriteFile(*out, data, 0o644); err != nil {
			fmt.Fprintln(os.Stderr, "testsum:", err)
			os.Exit(1)
		}
	}
	if *total {
		fmt.Printf("%d passed, %d failed, %d skipped\n", sum.Passed, sum.Failed, sum.Skipped)
	}
	if sum.Failed > 0 {
		os.Exit(1)
	}
	if sum.Passed == 0 {
		fmt.Fprintln(os.Stderr, "testsum: no test ran")
		os.Exit(1)
	}
}

func addFiles(paths []string) (sum counts, err error) {
	for _, path := range paths {
		var c counts
		data, err := os.ReadFile(path)
		if err == nil {
			err = json.Unmarshal(data, &c)
		}
		if err != nil {
			return sum, fmt.Errorf("adding %s: %w", path, err)
		}
		sum.add(c)
	}
	return sum, nil
}

// pkg is one package under test.
type pkg struct {
	counts
	done   bool
	output map[string][]string // by test, "" for the package; dropped when it passes
}

// read prints the events as they come and returns the counts.
func read(in io.Reader, out io.Writer) (sum counts, err error) {
	packages := map[string]*pkg{}
	lines := bufio.NewReader(in)
	for {
		line, readErr := lines.ReadBytes('\n')
		var e event
		if len(line) > 0 && (line[0] != '{' || json.Unmarshal(line, &e) != nil) {
			fmt.Fprint(out, string(line)) // the go command's own words, such as a wrong flag
			if strings.HasPrefix(string(line), "FAIL") {
				sum.Failed++
			}
		} else if len(line) > 0 {
			sum.add(take(packages, e, out))
		}
		if readErr == io.EOF {
			break
		}
		if readErr != nil {
			return sum, readErr
		}
	}
	for name, p := range packages {
		if !p.done {
			fmt.Fprintf(out, "FAIL\t%s: its events ended early\n", name)
			sum.Failed++
		}
	}
	return sum, nil
}

func take(packages map[string]*pkg, e event, out io.Writer) (delta counts) {
	if e.Package == "" {
		fmt.Fprint(out, e.Output) // of a build
		return delta
	}
	p := packages[e.Package]
	if p == nil {
		p = &pkg{output: map[string][]string{}}
		packages[e.Package] = p
	}
	switch e.Action {
	case "output":
		p.output[e.Test] = append(p.output[e.Test], e.Output)
	case "pass", "fail", "skip":
		if e.Test == "" {
			return p.finish(e, out)
		}
		switch e.Action {
		case "pass":
			delta.Passed++
		case "skip":
			delta.Skipped++
			fmt.Fprintf(out, "skip\t%s %s\n", e.Package, e.Test)
		default:
			delta.Failed++
			fmt.Fprint(out, strings.Join(p.output[e.Test], ""))
		}
		delete(p.output, e.Test)
		p.add(delta)
	}
	return delta
}

// finish ends a package: its line, and its own output when it failed.
func (p *pkg) finish(e event, out io.Writer) (delta counts) {
	p.done = true
	switch {
	case e.Action == "fail":
		if p.Failed == 0 { // not built, a panic, a time limit
			delta.Failed++
			for _, lines := range p.output {
				fmt.Fprint(out, strings.Join(lines, ""))
			}
		}
		fmt.Fprintf(out, "FAIL\t%s\t%.1fs\t%d passed, %d failed\n", e.Package, e.Elapsed, p.Passed, p.Failed+delta.Failed)
	case p.Passed+p.Skipped == 0:
		fmt.Fprintf(out, "-\t%s\t(no tests)\n", e.Package)
	default:
		fmt.Fprintf(out, "ok\t%s\t%.1fs\t%d tests\n", e.Package, e.Elapsed, p.Passed)
	}
	return delta
}
