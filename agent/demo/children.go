// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// stopGrace is how long a process gets to stop cleanly.
const stopGrace = 10 * time.Second

// children are the processes of a demonstration: this program again, with other verbs.
type children struct {
	program string
	mu      sync.Mutex
	all     []*Process
	end     []func() error
}

// Process is a verb of the program that runs by itself. What it writes to stderr is kept, for Log and for the case that it fails.
type Process struct {
	// Lines is its output as it comes, nil where it is collected for Output.
	Lines io.ReadCloser

	name string
	cmd  *exec.Cmd
	out  bytes.Buffer
	errs stderr
	done chan struct{}
	err  error
}

// stderr keeps what was written to it. Writes and reads may come from several goroutines.
type stderr struct {
	mu sync.Mutex
	b  []byte
}

const (
	// logSize is the most that Log returns, in bytes. An agent that refuses every frame writes some 150 bytes each second and interface, so
	// this is its whole log for an hour.
	logSize = 1 << 20
	// tailSize is how much of its end an error quotes.
	tailSize = 8 << 10
)

func (e *stderr) Write(p []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.b = append(e.b, p...)
	if n := len(e.b); n > 2*logSize { // not for every line anew
		e.b = append(e.b[:0], e.b[n-logSize:]...)
	}
	return len(p), nil
}

// last returns the last n bytes.
func (e *stderr) last(n int) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return strings.TrimSpace(string(e.b[max(0, len(e.b)-n):]))
}

// String is what an error quotes.
func (e *stderr) String() string { return e.last(tailSize) }

func environment() []string {
	var env []string
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, insideVariable+"=") {
			env = append(env, e)
		}
	}
	return env
}

func (c *children) command(ctx context.Context, args []string) *exec.Cmd {
	program := c.program
	if program == "" {
		program = "/proc/self/exe"
	}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = environment()
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	return cmd
}

// output runs a verb to its end and returns what it printed.
func (c *children) output(ctx context.Context, args ...string) ([]byte, error) {
	runtime.LockOSThread() // see Process.run
	defer runtime.UnlockOSThread()
	cmd := c.command(ctx, args)
	var errs stderr
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("cellward %s: %w: %s", strings.Join(args[:min(2, len(args))], " "), err, errs.String())
	}
	return out, nil
}

// start runs a verb in the background. Its output is handed on as it comes, or collected.
func (c *children) start(name string, lines bool, args ...string) (*Process, error) {
	p := &Process{name: name, cmd: c.command(context.Background(), args), done: make(chan struct{})}
	p.cmd.Stderr = &p.errs
	if lines {
		r, w, err := os.Pipe()
		if err != nil {
			return nil, fmt.Errorf("make pipe: %w", err)
		}
		p.Lines, p.cmd.Stdout = r, w
		defer w.Close()
	} else {
		p.cmd.Stdout = &p.out
	}
	started := make(chan error, 1)
	go p.run(started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	c.mu.Lock()
	c.all = append(c.all, p)
	c.mu.Unlock()
	return p, nil
}

// run starts the process and waits for its end on one locked thread: the signal that ends it with its parent comes when the thread
// ends that started it, not the process (prctl(2)), and threads that enter a network namespace end.
func (p *Process) run(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := p.cmd.Start()
	started <- err
	if err == nil {
		p.err = p.cmd.Wait()
		close(p.done)
	}
}

// Log returns what the process has written to stderr: all of it up to a MiB, else the last MiB.
func (p *Process) Log() string { return p.errs.last(logSize) }

// Output returns what an ended process printed.
func (p *Process) Output() []byte { return p.out.Bytes() }

// failure says how an ended process failed; nil if it runs or ended well.
func (p *Process) failure() error {
	select {
	case <-p.done:
	default:
		return nil
	}
	if p.err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w: %s", p.name, p.err, p.errs.String())
}

// Stop asks the process to end and waits for it.
func (p *Process) Stop() error {
	_ = p.cmd.Process.Signal(unix.SIGTERM) // it may have ended by itself
	select {
	case <-p.done:
		return p.failure()
	case <-time.After(stopGrace):
		_ = p.cmd.Process.Kill()
		<-p.done
		return fmt.Errorf("%s did not stop within %v: %s", p.name, stopGrace, p.errs.String())
	}
}

// Signal sends a signal to the process.
func (p *Process) Signal(s os.Signal) error {
	if err := p.cmd.Process.Signal(s); err != nil {
		return fmt.Errorf("signal %s: %w", p.name, err)
	}
	return nil
}

// Kill ends the process at once (SIGKILL) and waits until it is gone.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill() // it may have ended by itself
	<-p.done
}

// Running reports whether the process has not ended.
func (p *Process) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Wait waits for the process to end by itself and returns how it failed, if it did.
func (p *Process) Wait() error {
	<-p.done
	return p.failure()
}

// onEnd adds something else that ends with the demonstration.
func (c *children) onEnd(f func() error) { c.end = append(c.end, f) }

// endAll kills what still runs, newest first.
func (c *children) endAll() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := len(c.all) - 1; i >= 0; i-- {
		p := c.all[i]
		select {
		case <-p.done:
		default:
			_ = p.cmd.Process.Kill()
			<-p.done
		}
	}
	var errs []error
	for i := len(c.end) - 1; i >= 0; i-- {
		errs = append(errs, c.end[i]())
	}
	return errors.Join(errs...)
}
