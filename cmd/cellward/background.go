// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cellward/cellward/agent"
	"github.com/cellward/cellward/agent/control"
)

// backgroundLimit is how long a new agent may take until it is in service.
const backgroundLimit = 2 * time.Minute

// runInBackground runs this command line once more, without --background, in a session of its own, and returns when that agent answers at
// its control socket, or has ended.
func runInBackground(ctx context.Context, socket string) error {
	args := slices.DeleteFunc(slices.Clone(os.Args[1:]), func(a string) bool { return a == "--background" || a == "--background=true" })
	child := exec.Command("/proc/self/exe", args...)
	child.Stdout, child.Stderr = os.Stdout, os.Stderr
	child.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	if err := child.Start(); err != nil {
		return fmt.Errorf("start in the background: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- child.Wait() }()
	ctx, cancel := context.WithTimeout(ctx, backgroundLimit)
	defer cancel()
	for {
		var s agent.Status
		if err := control.Get(ctx, socket, control.StatusPath, &s); err == nil && s.PID == child.Process.Pid {
			return nil
		}
		select {
		case err := <-ended:
			if err != nil {
				return fmt.Errorf("agent in the background: %w", err)
			}
			return nil // it found nothing to do
		case <-ctx.Done():
			_ = child.Process.Signal(unix.SIGTERM)
			return fmt.Errorf("wait for the agent in the background: %w", context.Cause(ctx))
		case <-time.After(20 * time.Millisecond):
		}
	}
}
