// SPDX-License-Identifier: Apache-2.0

// Package swtpm runs the swtpm TPM 2.0 emulator as a child process.
//
// It is for machines without a TPM: the demonstration and the tests. An
// emulator keeps its seeds in plain files, so a state directory of it protects
// nothing against whoever reads that directory.
//
// It may import the standard library and golang.org/x/sys only.
package swtpm

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// ErrMissing reports that no swtpm binary is installed.
var ErrMissing = errors.New("swtpm is not installed (Debian package: swtpm; `make setup` installs it)")

// ErrInUse reports that an emulator already runs on the state directory.
var ErrInUse = errors.New("an emulator already runs on this state directory")

// maxSocketPath is what sockaddr_un holds (108 bytes with the terminating
// zero, unix(7)), less the suffix of the control socket.
const maxSocketPath = 107 - len(controlSuffix)

const controlSuffix = ".ctrl"

// stopGrace is how long Stop waits for an orderly end before it kills.
const stopGrace = 5 * time.Second

// Process is one running emulator. Its methods are safe for concurrent use.
type Process struct {
	// Socket is the path of the Unix stream socket that takes TPM commands.
	// It serves one connection at a time. The control socket beside it has
	// the name that tpm2-tools expect: TPM2TOOLS_TCTI=swtpm:path=Socket.
	Socket string

	cmd     *exec.Cmd
	exited  chan struct{} // closed when the child has been reaped
	waitErr error         // valid after exited
	stderr  *tail
	tempDir string // holds the socket when stateDir's path is too long for one
	once    sync.Once
}

// Start runs swtpm with its state in stateDir, which is made (mode 0700) if it
// does not exist, and returns when the TPM has been powered on, has done
// TPM2_Startup(CLEAR) and takes commands. The child gets SIGTERM when this
// process dies, however it dies. Cancelling ctx after Start has returned stops
// nothing: call Stop.
func Start(ctx context.Context, stateDir string) (*Process, error) {
	bin, err := exec.LookPath("swtpm")
	if err != nil {
		return nil, ErrMissing
	}
	stateDir, err = filepath.Abs(stateDir)
	if err != nil {
		return nil, fmt.Errorf("resolve swtpm state directory: %w", err)
	}
	if err := os.MkdirAll(stateDir, 0o700); err != nil {
		return nil, fmt.Errorf("make swtpm state directory: %w", err)
	}
	p := &Process{
		Socket: filepath.Join(stateDir, "tpm.sock"),
		exited: make(chan struct{}),
		stderr: &tail{limit: 4096},
	}
	if len(p.Socket) > maxSocketPath {
		if p.tempDir, err = os.MkdirTemp("", "swtpm"); err != nil {
			return nil, fmt.Errorf("make a directory for the swtpm socket: %w", err)
		}
		p.Socket = filepath.Join(p.tempDir, "tpm.sock")
	}
	// Two emulators on one state would each overwrite what the other wrote.
	if conn, err := net.Dial("unix", p.Socket); err == nil {
		_ = conn.Close()
		return nil, fmt.Errorf("start swtpm in %s: %w", stateDir, ErrInUse)
	}
	// A socket left by a killed emulator would make bind fail.
	for _, old := range []string{p.Socket, p.Socket + controlSuffix} {
		if err := os.Remove(old); err != nil && !errors.Is(err, os.ErrNotExist) {
			p.cleanup()
			return nil, fmt.Errorf("remove the old swtpm socket: %w", err)
		}
	}
	p.cmd = exec.Command(bin, "socket", "--tpm2",
		"--tpmstate", "dir="+stateDir+",mode=0600",
		"--server", "type=unixio,path="+p.Socket+",mode=0600",
		"--ctrl", "type=unixio,path="+p.Socket+controlSuffix+",mode=0600",
		"--flags", "not-need-init,startup-clear")
	p.cmd.Stderr = p.stderr
	// SIGTERM lets swtpm finish the command in hand. A process group of its
	// own keeps a terminal's Ctrl-C away from it: whoever started it may
	// still need the TPM while shutting down.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setpgid: true}

	started := make(chan error, 1)
	go p.run(started)
	if err := <-started; err != nil {
		p.cleanup()
		return nil, fmt.Errorf("start swtpm: %w", err)
	}
	if err := p.ready(ctx); err != nil {
		p.Kill()
		return nil, err
	}
	return p, nil
}

// run starts and reaps the child on one locked thread: the parent-death signal
// fires when the thread that forked ends, not when the process does (prctl(2)).
func (p *Process) run(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := p.cmd.Start(); err != nil {
		started <- err
		close(p.exited)
		return
	}
	started <- nil
	p.waitErr = p.cmd.Wait()
	close(p.exited)
}

// ready polls until a command is answered. The answer may be an error code: it
// only has to be an answer.
func (p *Process) ready(ctx context.Context) error {
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		err := p.send(getFamily(), time.Second)
		if err == nil {
			return nil
		}
		select {
		case <-p.exited:
			return fmt.Errorf("swtpm ended at once: %w: %s", p.exitErr(), p.stderr)
		case <-ctx.Done():
			return fmt.Errorf("wait for swtpm: %w (last: %w)", ctx.Err(), err)
		case <-time.After(wait):
		}
	}
}

// Exited is closed once the emulator has ended and has been reaped.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// PID returns the process id of the emulator.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Stop powers the TPM off in order: TPM2_Shutdown(CLEAR) when the socket is
// free, then SIGTERM, and SIGKILL if that takes more than five seconds. It
// returns after the child has been reaped. Stopping twice is harmless.
func (p *Process) Stop() error {
	select {
	case <-p.exited:
		p.cleanup()
		return nil
	default:
	}
	// Best effort: a client that still holds the socket makes this time
	// out, and then the TPM merely sees a power cut.
	_ = p.send(shutdownClear(), 500*time.Millisecond)
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.exited:
	case <-time.After(stopGrace):
		_ = p.cmd.Process.Kill()
		<-p.exited
	}
	p.cleanup()
	return nil
}

// Kill ends the emulator at once, as a power cut does, and reaps it.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.exited
	p.cleanup()
}

func (p *Process) exitErr() error {
	if p.waitErr != nil {
		return p.waitErr
	}
	return errors.New("exit status 0")
}

func (p *Process) cleanup() {
	p.once.Do(func() {
		_ = os.Remove(p.Socket)
		_ = os.Remove(p.Socket + controlSuffix)
		if p.tempDir != "" {
			_ = os.RemoveAll(p.tempDir)
		}
	})
}

// send writes one command and reads one whole response.
func (p *Process) send(command []byte, timeout time.Duration) error {
	conn, err := net.DialTimeout("unix", p.Socket, timeout)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	if _, err := conn.Write(command); err != nil {
		return err
	}
	var head [10]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return err
	}
	size := binary.BigEndian.Uint32(head[2:])
	if size < 10 || size > 4096 {
		return fmt.Errorf("response of %d bytes", size)
	}
	_, err = io.CopyN(io.Discard, conn, int64(size)-10)
	return err
}

// getFamily is TPM2_GetCapability(TPM_CAP_TPM_PROPERTIES,
// TPM_PT_FAMILY_INDICATOR, 1): TPM 2.0 Part 3, 30.2.
func getFamily() []byte {
	return []byte{0x80, 0x01, 0, 0, 0, 22, 0, 0, 0x01, 0x7A, 0, 0, 0, 6, 0, 0, 1, 0, 0, 0, 0, 1}
}

// shutdownClear is TPM2_Shutdown(TPM_SU_CLEAR): TPM 2.0 Part 3, 9.4.
func shutdownClear() []byte {
	return []byte{0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x45, 0, 0}
}

// tail keeps the last limit bytes written to it.
type tail struct {
	mu    sync.Mutex
	buf   []byte
	limit int
}

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, b...)
	if over := len(t.buf) - t.limit; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.buf))
}
