// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cellward/cellward/agent/trace"
)

// DefaultDuration is how long the simulated pack runs when no log is given.
const DefaultDuration = 20 * time.Second

// settle is how long the last frames get to come through before they count as lost.
const settle = 15 * time.Second

var (
	// ErrNotRoot says that the process may not make namespaces, load the filter or set up interfaces.
	ErrNotRoot = errors.New("the demonstration loads an eBPF filter and makes network namespaces: run it as root")
	// ErrFailed says that something was not as it must be; the result says what.
	ErrFailed = errors.New("the demonstration found faults")
)

// Options for Run. The zero value runs the simulated pack for 20 seconds at its own pace, without an attacker.
type Options struct {
	// Log is a capture to seal; empty: the simulated pack.
	Log string
	// Duration and Seed are those of the simulated pack.
	Duration time.Duration
	Seed     uint64
	// Speed is a factor on the pace of the time stamps; 0 sends as fast as it goes.
	Speed float64
	// Attacks puts an attacker on the bus who does these, by their names: see AllAttacks and ParseAttacks.
	Attacks []string
	// Policy and Binding are documents to use instead of those that fit the log. Identities, TPM, folders and sockets of the
	// binding are replaced by the demonstration's own.
	Policy  string
	Binding string
	// Progress gets what is going on, as lines, and on a terminal a progress bar. It must not be nil.
	Progress *os.File
}

// Outside runs the program anew, with the same arguments and the environment variable insideVariable set, in a network
// namespace of its own, and waits for it. Everything that the demonstration makes ends with that process.
func Outside(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if unix.Geteuid() != 0 {
		return ErrNotRoot
	}
	cmd := exec.CommandContext(ctx, "/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), insideVariable+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, stdout, stderr
	// The interrupt of a terminal reaches the child by itself; it then cleans up.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	cmd.SysProcAttr = &unix.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNET,
		Pdeathsig:  unix.SIGKILL,
	}
	if err := cmd.Run(); err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			return ErrFailed
		}
		return fmt.Errorf("start demonstration: %w", err)
	}
	return nil
}

// insideVariable says that the process is the one that Outside has started.
const insideVariable = "CELLWARD_DEMO_INSIDE"

// Inside reports whether this process runs in the namespaces that Outside has made.
func Inside() bool { return os.Getenv(insideVariable) != "" }

// source opens what is to be sealed; every call begins at its first frame.
func (o *Options) source() (trace.Source, func() error, error) {
	if o.Log != "" {
		r, err := trace.Open(o.Log)
		if err != nil {
			return nil, nil, err
		}
		return r, r.Close, nil
	}
	p, err := trace.NewPack(o.pack())
	if err != nil {
		return nil, nil, err
	}
	return p, func() error { return nil }, nil
}

// temperatureID is where the simulated pack sends its temperatures: a data source of their own in the policy.
const temperatureID = 0x6F3

func (o *Options) pack() trace.PackOptions {
	d := o.Duration
	if d == 0 {
		d = DefaultDuration
	}
	return trace.PackOptions{Seed: o.Seed, Duration: d, TemperatureID: temperatureID}
}

// edgeInput is what `cellward seal` is told to read the same frames.
func (o *Options) edgeInput() []string {
	if o.Log != "" {
		return []string{"--log", o.Log}
	}
	p := o.pack()
	return []string{"--simulate", p.Duration.String(), "--seed", fmt.Sprint(p.Seed), "--temperature-id", fmt.Sprintf("0x%X", p.TemperatureID)}
}
