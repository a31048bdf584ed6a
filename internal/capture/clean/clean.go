package clean

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Names of the checks.
const (
	CheckOS        = "os"
	CheckRecorder  = "recorder"
	CheckBrowser   = "browser"
	CheckProcesses = "processes"
	CheckHosts     = "hosts"
	CheckResolver  = "resolver"
	CheckProxy     = "proxy-variables"
	CheckRoutes    = "routes"
	CheckTrace     = "trace"
	CheckCA        = "certificates"
	CheckClock     = "clock"
	CheckProfile   = "profile"
)

// Checks are all checks, in their order.
func Checks() []string {
	return []string{CheckOS, CheckRecorder, CheckBrowser, CheckProcesses, CheckHosts, CheckResolver, CheckProxy, CheckRoutes, CheckTrace, CheckCA, CheckClock, CheckProfile}
}

// Verdicts, the words of evidence/recording.
const (
	Clean      = "clean"
	Exceptions = "exceptions"
	Unclean    = "unclean"
)

// limits of an output and of a command.
const (
	maxOutput   = 4 << 20
	commandTime = 10 * time.Second
)

// Config of an inspection. The zero value inspects this machine.
type Config struct {
	Root     string   // where /etc and /proc are; "/" when empty
	Environ  []string // os.Environ() when nil
	Hostname string   // os.Hostname() when empty
	Software string   // the recorder's name and version
	Program  string   // the recorder's own file; os.Executable() when empty
	Browser  string   // the browser's file; required
	Profile  string   // the folder that the browser's profile will be in: absent or empty
	Target   string   // host to trace the way to; empty: none
	// Accept names checks whose findings are exceptions.
	Accept []string
	// Declared are facts that a reader must know and that are no fault, such as the
	// recording proxy.
	Declared []string
	// Known are exceptions from elsewhere, such as a test site that the proxy lets
	// through: the environment is not clean with them, and somebody accepted them.
	Known []string
	// Sources are asked for the time; none: the clock is compared with nothing.
	Sources []TimeSource
	// Run runs a command; nil: with the system's own PATH and an empty environment.
	Run func(ctx context.Context, name string, args ...string) ([]byte, error)
	Now func() time.Time // nil: time.Now
}

// Output is what one command or file said, as it is.
type Output struct {
	Check   string    `json:"check"`
	Command string    `json:"command"`
	Media   string    `json:"media"`
	At      time.Time `json:"at"`
	Data    []byte    `json:"-"`
	Error   string    `json:"error,omitempty"`
}

// Finding is something that should not be, or could not be read.
type Finding struct {
	Check    string `json:"check"`
	Problem  string `json:"problem"`
	Accepted bool   `json:"accepted"`
}

// Report is what an inspection found.
type Report struct {
	V          int               `json:"v"` // 1
	At         time.Time         `json:"at"`
	Software   string            `json:"software"`
	Verdict    string            `json:"verdict"`
	Findings   []Finding         `json:"findings"`
	Exceptions []string          `json:"exceptions"`
	Declared   []string          `json:"declared"`
	Facts      map[string]string `json:"facts"` // digests, versions, offsets
	Outputs    []Output          `json:"outputs"`
}

// JSON is the report as it is kept, without the outputs' content.
func (r *Report) JSON() ([]byte, error) {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("writing the report of the environment: %w", err)
	}
	return append(data, '\n'), nil
}

// Problems are the findings that nobody accepted.
func (r *Report) Problems() []string {
	var out []string
	for _, f := range r.Findings {
		if !f.Accepted {
			out = append(out, f.Check+": "+f.Problem)
		}
	}
	return out
}

// Inspect looks at the machine. The error is the context's; what cannot be read
// is a finding.
func Inspect(ctx context.Context, c Config) (*Report, error) {
	if c.Root == "" {
		c.Root = "/"
	}
	if c.Environ == nil {
		c.Environ = os.Environ()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Run == nil {
		c.Run = run
	}
	for _, name := range c.Accept {
		if !slices.Contains(Checks(), name) {
			return nil, fmt.Errorf("there is no check %q to accept; there are %s", name, strings.Join(Checks(), ", "))
		}
	}
	i := &inspection{Config: c, ctx: ctx, report: &Report{V: 1, At: c.Now().UTC(), Software: c.Software, Findings: []Finding{}, Exceptions: []string{}, Declared: append([]string{}, c.Declared...), Facts: map[string]string{}}}
	for _, check := range []func(){i.system, i.programs, i.processes, i.hosts, i.resolver, i.variables, i.routes, i.trace, i.certificates, i.clock, i.profile} {
		check()
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("inspecting the environment: %w", err)
		}
	}
	r := i.report
	r.Verdict = Clean
	for _, f := range r.Findings {
		if f.Accepted {
			r.Exceptions = append(r.Exceptions, f.Check+": "+f.Problem)
		}
	}
	r.Exceptions = append(r.Exceptions, c.Known...)
	if len(r.Exceptions) > 0 {
		r.Verdict = Exceptions
	}
	if len(r.Problems()) > 0 {
		r.Verdict = Unclean
	}
	return r, nil
}

// inspection is one under way.
type inspection struct {
	Config
	ctx    context.Context
	report *Report
}

// finding adds a problem.
func (i *inspection) finding(check, problem string, args ...any) {
	i.report.Findings = append(i.report.Findings, Finding{check, fmt.Sprintf(problem, args...), slices.Contains(i.Accept, check)})
}

func (i *inspection) fact(name, value string) { i.report.Facts[name] = value }

// keep adds an output.
func (i *inspection) keep(check, command string, data []byte, err error) {
	o := Output{Check: check, Command: command, Media: "text/plain", At: i.Now().UTC(), Data: data[:min(len(data), maxOutput)]}
	if err != nil {
		o.Error = err.Error()
	}
	i.report.Outputs = append(i.report.Outputs, o)
}

// file reads a file of the machine as an output; ok is false when it cannot be
// read.
func (i *inspection) file(check, path string) (data []byte, ok bool) {
	data, err := fs.ReadFile(os.DirFS(i.Root), strings.TrimPrefix(path, "/"))
	i.keep(check, "cat "+path, data, err)
	return data, err == nil
}

// must is file, and a finding when it cannot be read.
func (i *inspection) must(check, path string) []byte {
	data, ok := i.file(check, path)
	if !ok {
		i.finding(check, "%s cannot be read", path)
	}
	return data
}

// command runs one as an output; a command that is not there is no output.
func (i *inspection) command(check, name string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(i.ctx, commandTime)
	defer cancel()
	data, err := i.Run(ctx, name, args...)
	if !errors.Is(err, exec.ErrNotFound) {
		i.keep(check, strings.Join(append([]string{name}, args...), " "), data, err)
	}
	return data, err
}

func run(ctx context.Context, name string, args ...string) ([]byte, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = []string{"LC_ALL=C", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	cmd.WaitDelay = time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	return out.Bytes(), err
}

func (i *inspection) system() {
	i.must(CheckOS, "/etc/os-release")
	i.must(CheckOS, "/proc/version")
	i.fact("platform", runtime.GOOS+"/"+runtime.GOARCH)
	if host := i.host(); host != "" {
		i.fact("hostname", host)
	}
}

func (i *inspection) host() string {
	if i.Hostname == "" {
		i.Hostname, _ = os.Hostname() // without one, no name of it may stand in hosts
	}
	return i.Hostname
}
