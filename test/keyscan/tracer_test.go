// SPDX-License-Identifier: Apache-2.0

package keyscan

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cellward/cellward/crypto/secretmem/secretmemtest"
)

// tracerVariable makes this binary the process that looks through another one. That is not the test itself: it is the parent of those
// that it looks at and waits for their end, and a wait of a parent takes what the kernel says to the one that traces.
const tracerVariable = "CELLWARD_KEYSCAN_TRACER"

// scanRequest is what the tracer is told.
type scanRequest struct {
	PID     int
	Secrets []secretmemtest.Secret
}

// traceAsTold is the tracer.
func traceAsTold() error {
	var q scanRequest
	if err := json.NewDecoder(os.Stdin).Decode(&q); err != nil {
		return fmt.Errorf("read what to look for: %w", err)
	}
	r, err := secretmemtest.Scan(q.PID, q.Secrets)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

// traced has a process of its own look for the secrets in a process.
func traced(ctx context.Context, pid int, all []secretmemtest.Secret) (*secretmemtest.Result, error) {
	q, err := json.Marshal(scanRequest{pid, all})
	if err != nil {
		return nil, err
	}
	// Whatever it is stopped by: when it ends, the kernel lets the other process go on.
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Env = append(os.Environ(), tracerVariable+"=1")
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	cmd.Stdin, cmd.Stderr = bytes.NewReader(q), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("scan process %d: %w", pid, err), ctx.Err())
	}
	r := new(secretmemtest.Result)
	if err := json.Unmarshal(out, r); err != nil {
		return nil, fmt.Errorf("read result of scan: %w", err)
	}
	return r, nil
}
