// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cellward/cellward/test/guest/wire"
)

func release() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "a kernel"
	}
	return "Linux " + unix.ByteSliceToString(u.Release[:])
}

// uptime returns the seconds since boot.
func uptime() float64 {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &t) // zero is as good an answer
	return float64(t.Nano()) / 1e9
}

// deviceWait is how long a device may take to appear.
const deviceWait = 60 * time.Second

// mountAll mounts what programs expect of a system.
func mountAll() error {
	for _, m := range []struct {
		kind, at string
		optional bool
	}{
		{"proc", "/proc", false},
		{"sysfs", "/sys", false},
		{"devtmpfs", "/dev", false},
		{"tmpfs", "/dev/shm", false},
		{"devpts", "/dev/pts", false},
		{"tmpfs", "/tmp", false},
		{"tmpfs", "/run", false},
		{"bpf", "/sys/fs/bpf", false},
		{"securityfs", "/sys/kernel/security", true},
	} {
		if err := os.MkdirAll(m.at, 0o755); err != nil && !m.optional {
			return fmt.Errorf("make mount point: %w", err)
		}
		if err := unix.Mount(m.kind, m.at, m.kind, unix.MS_NOSUID, ""); err != nil && !m.optional {
			return fmt.Errorf("mount %s: %w", m.at, err)
		}
	}
	return os.Chmod("/tmp", 0o1777|fs.ModeSticky)
}

// backlog is how many packets may wait for a processor to take them. Senders run far ahead of it while the host has none to spare: older
// kernels then leave reception to a thread that has to wait for its turn (net/core/dev.c, enqueue_to_backlog), and of the 1,000 that are
// usual nothing above is kept.
const backlog = "1000000"

// makeRoom lets virtual buses keep what is sent in one go. Tests that count every frame would otherwise count how busy the host is.
func makeRoom() error {
	if err := os.WriteFile("/proc/sys/net/core/netdev_max_backlog", []byte(backlog), 0); err != nil {
		return fmt.Errorf("make room for packets: %w", err)
	}
	return nil
}

// loadModules loads kernel modules, which must not be compressed, in the order given.
func loadModules(paths []string) error {
	for _, p := range paths {
		f, err := os.Open(p)
		if err != nil {
			return fmt.Errorf("load module: %w", err)
		}
		err = unix.FinitModule(int(f.Fd()), "", 0)
		if errors.Is(err, unix.EEXIST) {
			err = nil
		}
		if err := errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("load module %s: %w", p, err)
		}
	}
	return nil
}

// openPort opens a virtio console port by its name, as soon as it is there.
func openPort(name string) (*os.File, error) {
	for deadline := time.Now().Add(deviceWait); ; time.Sleep(10 * time.Millisecond) {
		names, err := filepath.Glob("/sys/class/virtio-ports/*/name")
		if err != nil {
			return nil, fmt.Errorf("look for port %s: %w", name, err)
		}
		for _, n := range names {
			text, err := os.ReadFile(n)
			if err != nil || strings.TrimSpace(string(text)) != name {
				continue
			}
			dev := "/dev/" + filepath.Base(filepath.Dir(n))
			if err := waitFor(dev); err != nil {
				return nil, err
			}
			f, err := os.OpenFile(dev, os.O_RDWR, 0)
			if err != nil {
				return nil, fmt.Errorf("open port %s: %w", name, err)
			}
			return f, nil
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("the machine has no port %s", name)
		}
	}
}

// waitFor waits until there is a file.
func waitFor(path string) error {
	for deadline := time.Now().Add(deviceWait); ; time.Sleep(10 * time.Millisecond) {
		_, err := os.Stat(path)
		if err == nil {
			return nil
		}
		if !errors.Is(err, os.ErrNotExist) || time.Now().After(deadline) {
			return fmt.Errorf("wait for a device: %w", err)
		}
	}
}

// drain is how long output of processes that outlive the program is waited for.
const drain = 2 * time.Second

// runProgram runs the job's program and sends its output.
func runProgram(h *host, job *wire.Job) (wire.Exit, error) {
	if len(job.Command) == 0 {
		return wire.Exit{}, errors.New("the job has no command")
	}
	r, w, err := os.Pipe()
	if err != nil {
		return wire.Exit{}, fmt.Errorf("make pipe: %w", err)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return wire.Exit{}, fmt.Errorf("open standard input: %w", err)
	}
	p, err := os.StartProcess(job.Command[0], job.Command, &os.ProcAttr{
		Dir: job.Dir, Env: job.Env, Files: []*os.File{null, w, w},
	})
	if err != nil {
		return wire.Exit{}, fmt.Errorf("start program: %w", err)
	}
	_ = w.Close()
	copied := make(chan error, 1)
	go func() { copied <- send(h, r) }()

	// The first process inherits all orphans: it has to take the end of any process.
	var status unix.WaitStatus
	for {
		pid, err := unix.Wait4(-1, &status, 0, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return wire.Exit{}, fmt.Errorf("wait for the program: %w", err)
		}
		if pid == p.Pid && (status.Exited() || status.Signaled()) {
			break
		}
	}
	select {
	case err = <-copied:
	case <-time.After(drain):
		h.note("processes of the program still hold its output")
	}
	exit := wire.Exit{Code: status.ExitStatus()}
	if status.Signaled() {
		exit = wire.Exit{Code: 128 + int(status.Signal()), Signal: status.Signal().String()}
	}
	return exit, err
}

// send sends what comes out of r until its end.
func send(h *host, r *os.File) error {
	b := make([]byte, 32<<10)
	for {
		n, err := r.Read(b)
		if n > 0 {
			if err := h.write(wire.Output, b[:n]); err != nil {
				return err
			}
		}
		if err != nil {
			return nil // the end of a pipe
		}
	}
}
