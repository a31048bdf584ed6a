package local

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is one long-running process of the program.
type process struct {
	LogFile string
	what    string // for messages, such as "node of court"
	ready   string // URL that answers 200 when it can work
	binary  string
	env     []string
	args    []string

	mu   sync.Mutex
	cmd  *exec.Cmd
	done chan struct{}
	err  error
}

// Start starts the process; its log is appended to LogFile.
func (p *process) Start(ctx context.Context, env ...string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil {
		return fmt.Errorf("the %s runs already", p.what)
	}
	log, err := os.OpenFile(p.LogFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	cmd := Command(context.WithoutCancel(ctx), p.binary, append(append([]string{}, p.env...), env...), p.args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr.Setpgid = true // a Ctrl-C in the terminal is for us to pass on
	if err := cmd.Start(); err != nil {
		return errors.Join(fmt.Errorf("starting the %s: %w", p.what, err), log.Close())
	}
	p.cmd, p.done, p.err = cmd, make(chan struct{}), nil
	go func(done chan struct{}) { // ends with the process, which Stop and Kill wait for
		err := cmd.Wait()
		p.mu.Lock()
		p.err = errors.Join(err, log.Close())
		p.cmd = nil
		p.mu.Unlock()
		close(done)
	}(p.done)
	return nil
}

// PID returns the process's number, 0 when it does not run.
func (p *process) PID() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

func (p *process) signal(s syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil {
		_ = p.cmd.Process.Signal(s) // gone already is as well
	}
}

// stopTime is how long a process may take to stop before it is killed.
const stopTime = 20 * time.Second

// Stop asks the process to stop and waits. The error says how it ended when that
// was not by its own will.
func (p *process) Stop() error {
	p.mu.Lock()
	done := p.done
	p.mu.Unlock()
	if done == nil {
		return nil
	}
	p.signal(syscall.SIGTERM)
	select {
	case <-done:
	case <-time.After(stopTime):
		p.signal(syscall.SIGKILL)
		<-done
		return fmt.Errorf("the %s did not stop in %s and was killed", p.what, stopTime)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return fmt.Errorf("%s: %w; see %s", p.what, p.err, p.LogFile)
	}
	return nil
}

// Kill ends the process as a power cut would, and waits.
func (p *process) Kill() {
	p.mu.Lock()
	done := p.done
	p.mu.Unlock()
	if done == nil {
		return
	}
	p.signal(syscall.SIGKILL)
	<-done
}

// WaitReady returns when the process says it is ready, or an error when it ends
// before, with the last lines of its log.
func (p *process) WaitReady(ctx context.Context) error {
	p.mu.Lock()
	done := p.done
	p.mu.Unlock()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.ready, nil)
		if err != nil {
			return err
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the %s is not ready: %w; see %s", p.what, ctx.Err(), p.LogFile)
		case <-done:
			return fmt.Errorf("the %s ended: %s", p.what, p.LogTail(5))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// LogTail returns the last lines of the process's log.
func (p *process) LogTail(lines int) string {
	data, err := os.ReadFile(p.LogFile)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimSpace(string(data)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
