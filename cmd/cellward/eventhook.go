// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"
)

// eventHook runs a program for each record, one after the other, with the rights of whoever follows: the agent itself may run nothing.
type eventHook struct {
	program string
	limit   time.Duration // how long it may take
	out     io.Writer
	errs    io.Writer
}

// check says why the program could not be run, before anything has happened.
func (h *eventHook) check() error {
	if h.limit <= 0 {
		return usageError{fmt.Errorf("want a positive limit for the program, got %v", h.limit)}
	}
	path, err := exec.LookPath(h.program)
	if err != nil {
		return usageError{fmt.Errorf("find program for events: %w", err)}
	}
	h.program = path
	return nil
}

// run gives a record to the program, as a line of JSON on its standard input. That the program fails or takes too long is said, and no
// reason to miss the next record.
func (h *eventHook) run(ctx context.Context, line []byte) {
	limited, cancel := context.WithTimeout(ctx, h.limit)
	defer cancel()
	cmd := exec.CommandContext(limited, h.program)
	cmd.Stdin = bytes.NewReader(append(bytes.Clone(line), '\n'))
	cmd.Stdout, cmd.Stderr = h.out, h.errs
	// A group of its own, so that what it has started ends with it.
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	cmd.WaitDelay = time.Second // for an output that somebody else still holds
	err := cmd.Run()
	switch {
	case err == nil:
	case ctx.Err() == nil && errors.Is(limited.Err(), context.DeadlineExceeded):
		fmt.Fprintf(h.errs, "cellward: %s took longer than %v for an event and was ended\n", h.program, h.limit)
	default:
		fmt.Fprintf(h.errs, "cellward: %s failed for an event: %v\n", h.program, err)
	}
}
