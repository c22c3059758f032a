// SPDX-License-Identifier: Apache-2.0

// Command init is the first process of a guest: it mounts file systems, loads kernel modules, runs the program of its job,
// sends what that writes and how it ended to the host, and powers the machine off.
//
// It imports test/guest/wire only.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cellward/cellward/test/guest/wire"
)

// acknowledge is how long the host gets to say that it has the last message.
const acknowledge = 10 * time.Second

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "init: this is the first process of a guest and nothing else")
		os.Exit(2)
	}
	// Whatever goes wrong here, the host must not wait for its time limit.
	defer powerOff()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "init:", err)
	}
}

func powerOff() {
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF) // returns only if it fails, and then the kernel says so
}

// run does the job. Its error is for the console: the host has not been told.
func run() error {
	if err := mountAll(); err != nil {
		return err
	}
	if err := makeRoom(); err != nil {
		return err
	}
	text, err := os.ReadFile(wire.JobPath)
	if err != nil {
		return fmt.Errorf("read job: %w", err)
	}
	var job wire.Job
	if err := json.Unmarshal(text, &job); err != nil {
		return fmt.Errorf("read job: %w", err)
	}
	if err := loadModules(job.Modules); err != nil {
		return err
	}
	port, err := openPort(wire.ControlPort)
	if err != nil {
		return err
	}
	h := &host{port: port}
	h.note("%s is up with %d modules after %.1f s", release(), len(job.Modules), uptime())
	exit, err := h.do(&job)
	if err != nil {
		exit.Error = err.Error()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := wire.WriteEnd(port, exit); err != nil {
		return err
	}
	// Powering off drops what the host has not taken yet, so it says that it has.
	acked := make(chan error, 1)
	go func() {
		_, err := port.Read(make([]byte, 1))
		acked <- err
	}()
	select {
	case err := <-acked:
		return err
	case <-time.After(acknowledge):
		return errors.New("the host does not acknowledge the end of the job")
	}
}

// host is the way to the host. Its methods are safe for concurrent use.
type host struct {
	mu   sync.Mutex
	port *os.File
}

func (h *host) write(k wire.Kind, p []byte) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return wire.Write(h.port, k, p)
}

func (h *host) note(format string, args ...any) {
	if err := h.write(wire.Note, fmt.Appendf(nil, format, args...)); err != nil {
		fmt.Fprintln(os.Stderr, "init:", err)
	}
}

func (h *host) do(job *wire.Job) (wire.Exit, error) {
	if job.VirtualTPM {
		if err := joinTPM(h); err != nil {
			return wire.Exit{}, err
		}
	}
	if job.WantTPM {
		if err := waitFor("/dev/tpmrm0"); err != nil {
			return wire.Exit{}, err
		}
	}
	return runProgram(h, job)
}
