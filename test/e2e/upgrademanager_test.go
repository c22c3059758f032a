// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cellward/cellward/agent/control"
	"github.com/cellward/cellward/agent/demo"
	"github.com/cellward/cellward/agent/takeover"
)

// TestUpgradeUnderManager upgrades as the unit's ExecReload does: a command that knows nothing of the manager ends when the new agent is in
// service. The manager hears of it from the old main process, and then from the new one.
func TestUpgradeUnderManager(t *testing.T) {
	needRoot(t)
	l := newLab(t, demo.LabOptions{Frames: 1000, SoftwareEdge: true}, time.Second)
	path, manager := listenAsManager(t, l)
	raw, err := manager.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var sockErr error
	if err := raw.Control(func(fd uintptr) { sockErr = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSCRED, 1) }); err != nil || sockErr != nil {
		t.Fatal(err, sockErr)
	}
	// hear returns a message and which process has sent it, as the kernel says.
	hear := func() (string, int) {
		t.Helper()
		b, oob := make([]byte, 4096), make([]byte, 256)
		if err := manager.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		n, oobn, _, _, err := manager.ReadMsgUnix(b, oob)
		if err != nil {
			t.Fatal(err)
		}
		all, err := unix.ParseSocketControlMessage(oob[:oobn])
		if err != nil || len(all) == 0 {
			t.Fatalf("no credentials: %v", err)
		}
		cred, err := unix.ParseUnixCredentials(&all[0])
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:n]), int(cred.Pid)
	}
	// Two processes speak at one time, so one may be heard before what is waited for of the other.
	type message struct {
		text string
		from int
	}
	var early []message
	wait := func(prefix string, pid int) {
		t.Helper()
		is := func(m message) bool { return strings.HasPrefix(m.text, prefix) && m.from == pid }
		if i := slices.IndexFunc(early, is); i >= 0 {
			early = slices.Delete(early, i, i+1)
			return
		}
		for deadline := time.Now().Add(patience); ; {
			var m message
			if m.text, m.from = hear(); is(m) {
				return
			}
			if strings.HasPrefix(m.text, prefix) {
				t.Fatalf("%q comes from process %d, want %d", m.text, m.from, pid)
			}
			early = append(early, m)
			if time.Now().After(deadline) {
				t.Fatalf("nothing that begins with %q", prefix)
			}
		}
	}
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "20000000")
	gateway, err := l.StartAgent(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	first := s.PID
	wait("READY=1", first)

	t.Setenv("NOTIFY_SOCKET", "")
	t.Setenv("WATCHDOG_USEC", "")
	upgrade := func(program string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), program, "run", "--policy", l.Documents().Policy, "--binding", l.Documents().Binding,
			"--upgrade", "--background", "--if-changed")
		// Files, so that nobody waits for the new agent's end.
		out, err := os.Create(filepath.Join(t.TempDir(), "out"))
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		cmd.Stdout, cmd.Stderr = out, out
		if err := cmd.Run(); err != nil {
			text, _ := os.ReadFile(out.Name())
			t.Fatalf("%v\n%s", err, text)
		}
	}
	upgrade(program())
	if s, err = l.Status(t.Context()); err != nil || s.PID != first {
		t.Fatalf("after an upgrade to the same program agent %d answers, want %d: %v", s.PID, first, err)
	}
	// A package manager puts another file in the place of the first.
	other := filepath.Join(l.Folder(), "cellward-new")
	text, err := os.ReadFile(program())
	if err == nil {
		err = os.WriteFile(other, text, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	upgrade(other)
	if s, err = l.Status(t.Context()); err != nil || s.PID == first {
		t.Fatalf("after the upgrade agent %d answers: %v", s.PID, err)
	}
	second := s.PID
	wait(fmt.Sprintf("MAINPID=%d", second), first)
	wait("READY=1", second)
	wait("WATCHDOG=1", second)
	if err := gateway.Wait(); err != nil {
		t.Error(err)
	}
	if err := unix.Kill(second, unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	wait("STOPPING=1", second)
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Lstat(l.ControlSocket()); os.IsNotExist(err) {
			break // it takes away what it has inherited
		}
		if time.Now().After(deadline) {
			t.Fatal("the control socket is left behind")
		}
	}
}

// takerVariable marks the process that asks as another user.
const takerVariable = "CELLWARD_E2E_TAKER"

// TestOnlyRootTakesOver has the agent's own user ask for everything that the agent has. It gets nothing.
func TestOnlyRootTakesOver(t *testing.T) {
	needRoot(t)
	l := newLab(t, demo.LabOptions{Frames: 1000, SoftwareEdge: true}, time.Second)
	gateway, err := l.StartAgent(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		uid  uint32
		want string
	}{{demo.AgentUID, "only root may ask for it"}, {65532, "permission denied"}} {
		// A copy that the other user may run.
		self, err := os.ReadFile("/proc/self/exe")
		if err != nil {
			t.Fatal(err)
		}
		copied := filepath.Join(l.Folder(), fmt.Sprint("taker-", tt.uid))
		if err := os.WriteFile(copied, self, 0o755); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), copied)
		cmd.Env = []string{takerVariable + "=" + l.ControlSocket()}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: tt.uid, Gid: tt.uid}, Pdeathsig: unix.SIGKILL}
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), tt.want) {
			t.Errorf("user %d: %v, %q; want %q", tt.uid, err, out, tt.want)
		}
	}
	if err := gateway.Stop(); err != nil {
		t.Fatal(err)
	}
}

// askForAll asks the agent for everything it has and says what came of it.
func askForAll(socket string) string {
	raw, _, err := control.OpenStream(context.Background(), socket, control.UpgradePath)
	if err != nil {
		return err.Error()
	}
	c := takeover.NewConn(raw)
	defer c.Close()
	if _, err := c.Receive(takeover.KindWelcome, &takeover.Welcome{}, 1); err != nil {
		return err.Error()
	}
	return "welcome"
}
