// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cellward/cellward/crypto/tpm/swtpm"
	"github.com/cellward/cellward/test/guest/wire"
)

// DefaultMemory is a guest's memory in MiB if a job names none.
const DefaultMemory = 2048

// Job is a program to run in a guest. Init and Command are required.
type Job struct {
	// Init is the path of test/guest/init, built for the guest.
	Init string
	// Programs are paths of programs of the guest's packages; what they need to run comes with them.
	Programs []string
	// Files are files of this machine by the path that they get in the guest. All are executable there.
	Files map[string]string
	// Modules are names of kernel modules to load.
	Modules []string
	// TPM gives the guest a TPM 2.0, a software one, at /dev/tpmrm0.
	TPM bool
	// CAN gives the guest two CAN controllers on one bus: SJA1000 on PCI cards that the driver kvaser_pci knows.
	CAN bool
	// Command is the program's path in the guest and its arguments, Env its environment, Dir its working folder; empty: /.
	Command []string
	Env     []string
	Dir     string
	// Memory is the guest's memory in MiB; 0: DefaultMemory.
	Memory int
	// Output gets what the program writes, as it comes. It must not be nil.
	Output io.Writer
	// Progress gets what init and this package have to say, as lines; nil: nobody does.
	Progress func(format string, args ...any)
}

// Errors of [System.Run]. All come with the last lines of the kernel's console.
var (
	ErrPanic = errors.New("the guest's kernel has panicked")
	ErrEnded = errors.New("the guest has ended before its program")
	ErrInit  = errors.New("the guest could not run its program")
)

// Run boots a guest, runs the job's program in it and returns its exit code: 128 plus the signal if one ended it. The guest
// ends with ctx at the latest, and with this process.
func (s *System) Run(ctx context.Context, j Job) (code int, err error) {
	if j.Progress == nil {
		j.Progress = func(string, ...any) {}
	}
	if j.Memory == 0 {
		j.Memory = DefaultMemory
	}
	// Paths of Unix sockets are short, so the folder is not one of the caller's.
	dir, err := os.MkdirTemp("", "guest-")
	if err != nil {
		return 0, fmt.Errorf("make folder of the guest: %w", err)
	}
	defer func() {
		if rerr := os.RemoveAll(dir); rerr != nil {
			err = errors.Join(err, fmt.Errorf("remove folder of the guest: %w", rerr))
		}
	}()
	img, err := s.imageFor(&j)
	if err != nil {
		return 0, err
	}
	initrd := filepath.Join(dir, "initrd")
	if err := img.write(initrd); err != nil {
		return 0, err
	}
	args := append([]string{"-accel", "tcg,thread=multi", "-smp", "2", "-m", fmt.Sprint(j.Memory)}, s.arch.machine...)
	args = append(args, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio",
		"-kernel", s.boot, "-initrd", initrd,
		// Any fault of the kernel ends the guest at once: -no-reboot turns the reboot into an end.
		"-append", "console="+s.arch.console+" panic=-1 oops=panic loglevel=5 "+s.arch.options,
		"-device", "virtio-serial-pci")
	if j.CAN {
		args = append(args, "-object", "can-bus,id=can", "-device", "kvaser_pci,canbus=can", "-device", "kvaser_pci,canbus=can")
	}
	control := filepath.Join(dir, "control")
	args = append(args, port("control", control, wire.ControlPort)...)
	if j.TPM {
		tpm, err := swtpm.Start(ctx, filepath.Join(dir, "tpm"))
		if err != nil {
			return 0, err
		}
		defer func() { err = errors.Join(err, tpm.Stop()) }()
		if s.arch.virtualTPM {
			args = append(args, port("tpm", tpm.Socket, wire.TPMPort)...)
		} else {
			args = append(args, "-chardev", "socket,id=tpm,path="+tpm.Socket+".ctrl", "-tpmdev", "emulator,id=tpm0,chardev=tpm",
				"-device", "tpm-tis,tpmdev=tpm0")
		}
	}
	l, err := net.Listen("unix", control)
	if err != nil {
		return 0, fmt.Errorf("listen for the guest: %w", err)
	}
	defer l.Close()
	m := &machine{job: &j, kernel: s.Kernel}
	return m.run(ctx, l, s.arch.qemu, args)
}

// port are QEMU's arguments for a virtio console port that is connected to a Unix socket.
func port(id, socket, name string) []string {
	return []string{"-chardev", "socket,id=" + id + ",path=" + socket, "-device", "virtserialport,chardev=" + id + ",name=" + name}
}

// machine is one run of QEMU.
type machine struct {
	job     *Job
	kernel  Kernel
	console console
}

// run starts QEMU and takes what the guest sends until its end.
func (m *machine) run(ctx context.Context, l net.Listener, program string, args []string) (int, error) {
	begun := time.Now()
	cmd := exec.CommandContext(ctx, program, args...)
	var errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &m.console, &errs
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL, Setpgid: true}
	cmd.WaitDelay = 5 * time.Second
	started, exited := make(chan error, 1), make(chan error, 1)
	go func() {
		// The signal that ends QEMU with its parent comes when the thread ends that started it (prctl(2)).
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			exited <- cmd.Wait()
			_ = l.Close() // nobody will connect any more
		}
	}()
	if err := <-started; err != nil {
		return 0, fmt.Errorf("start %s: %w", program, err)
	}
	exit, err := m.listen(l)
	if err == nil {
		m.job.Progress("program ended with %d after %.0f s", exit.Code, time.Since(begun).Seconds())
		select {
		case <-exited:
		case <-time.After(10 * time.Second):
			_ = cmd.Process.Kill() // it has said all there is to say
			<-exited
		}
		return exit.Code, nil
	}
	_ = cmd.Process.Kill()
	end := <-exited
	switch {
	case ctx.Err() != nil:
		err = fmt.Errorf("kernel %s: %w after %.0f s", m.kernel, context.Cause(ctx), time.Since(begun).Seconds())
	case m.console.panicked():
		err = fmt.Errorf("kernel %s: %w", m.kernel, ErrPanic)
	case errors.Is(err, ErrInit):
	default:
		err = fmt.Errorf("kernel %s: %w: %w (%v %s)", m.kernel, ErrEnded, err, end, strings.TrimSpace(errs.String()))
	}
	return 0, fmt.Errorf("%w\nlast lines of the console:\n%s", err, m.console.tail())
}

// listen takes messages until the last one, which it acknowledges.
func (m *machine) listen(l net.Listener) (wire.Exit, error) {
	var exit wire.Exit
	conn, err := l.Accept()
	if err != nil {
		return exit, errors.New("the guest does not connect")
	}
	defer conn.Close()
	for {
		kind, p, err := wire.Read(conn)
		if err != nil {
			return exit, fmt.Errorf("listen to the guest: %w", err)
		}
		switch kind {
		case wire.Output:
			if _, err := m.job.Output.Write(p); err != nil {
				return exit, fmt.Errorf("hand on output: %w", err)
			}
		case wire.Note:
			m.job.Progress("init: %s", p)
		case wire.End:
			if err := json.Unmarshal(p, &exit); err != nil {
				return exit, fmt.Errorf("read end of job: %w", err)
			}
			if exit.Error != "" {
				return exit, fmt.Errorf("kernel %s: %w: %s", m.kernel, ErrInit, exit.Error)
			}
			_, err := conn.Write([]byte{1})
			return exit, err
		}
	}
}

// console keeps what the kernel writes to its serial console. It is safe for concurrent use.
type console struct {
	mu  sync.Mutex
	all []byte
}

// consoleLimit bounds what is kept, from the end.
const consoleLimit = 1 << 20

func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = append(c.all, p...)
	if n := len(c.all) - consoleLimit; n > 0 {
		c.all = append(c.all[:0], c.all[n:]...)
	}
	return len(p), nil
}

func (c *console) panicked() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return bytes.Contains(c.all, []byte("Kernel panic"))
}

func (c *console) tail() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return lastLines(strings.ReplaceAll(string(c.all), "\r", ""), 60)
}
