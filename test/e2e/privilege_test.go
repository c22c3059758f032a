// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cellward/cellward/agent"
	"github.com/cellward/cellward/agent/demo"
	"github.com/cellward/cellward/agent/privilege"
	"github.com/cellward/cellward/loader"
)

// Users of these tests that exist nowhere: one in the group of readers, one in no group.
const (
	reader   = 65531
	stranger = 65530
)

// readersGroup is a group that every distribution has.
const readersGroup = "daemon"

func groupID(t *testing.T, name string) uint32 {
	t.Helper()
	g, err := user.LookupGroup(name)
	if err != nil {
		t.Fatal(err)
	}
	id, err := strconv.ParseUint(g.Gid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(id)
}

// TestAgentPrivileges reads from /proc what every thread of an agent in service may do.
func TestAgentPrivileges(t *testing.T) {
	needRoot(t)
	const simulated = time.Second
	l := newLab(t, demo.LabOptions{Frames: 10_000, SoftwareEdge: true, Group: readersGroup}, simulated)
	gateway, err := l.StartAgent(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sealPack(t, l, simulated) // so that it has made the threads that it makes
	s, err := l.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	keep := privilege.AgentCapabilities()
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", s.PID))
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`(?m)^Max locked memory +unlimited`).Match(limits) {
		keep |= privilege.CapabilitySet(unix.CAP_IPC_LOCK)
	}
	threads, err := privilege.Threads(s.PID)
	if err != nil || len(threads) < 2 {
		t.Fatalf("%d threads, %v", len(threads), err)
	}
	want := [4]uint32{demo.AgentUID, demo.AgentUID, demo.AgentUID, demo.AgentUID}
	for _, x := range threads {
		if x.UID != want || x.GID != want || !slices.Equal(x.Groups, []uint32{groupID(t, readersGroup)}) {
			t.Errorf("thread %d: users %v, groups %v and %v", x.ID, x.UID, x.GID, x.Groups)
		}
		if x.Effective != keep || x.Permitted != keep || x.Inheritable|x.Bounding|x.Ambient != 0 {
			t.Errorf("thread %d: effective %v, permitted %v, inheritable %v, bounding %v, ambient %v; want %v", x.ID, x.Effective, x.Permitted,
				x.Inheritable, x.Bounding, x.Ambient, keep)
		}
		if !x.NoNewPrivs || x.Seccomp != 2 {
			t.Errorf("thread %d: no_new_privs %v, seccomp %d", x.ID, x.NoNewPrivs, x.Seccomp)
		}
	}
	t.Logf("%d threads: uid %d, capabilities %v, bounding and ambient none, NoNewPrivs 1, Seccomp 2", len(threads), demo.AgentUID, keep)
	// It stops cleanly without the rights that it has given up: state written, counter moved, sockets removed.
	if err := gateway.Stop(); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{l.ControlSocket(), l.RingSocket()} {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s after a clean stop: %v", path, err)
		}
	}
	runOnce(t, l)
}

// as runs a command as another user.
func as(t *testing.T, uid uint32, groups []uint32, files []*os.File, name string, args ...string) ([]byte, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.ExtraFiles = files
	cmd.SysProcAttr = &unix.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid, Groups: groups}}
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("%w: %s", err, exit.Stderr)
	}
	return out, err
}

// TestOtherUsers lets a member of the readers' group, and somebody who is in no group, at everything that an agent in service has.
func TestOtherUsers(t *testing.T) {
	needRoot(t)
	const simulated = time.Second
	l := newLab(t, demo.LabOptions{Frames: 10_000, SoftwareEdge: true, Group: readersGroup}, simulated)
	gateway, err := l.StartAgent(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	before := sealPack(t, l, simulated)
	if err := os.Chmod(filepath.Dir(program()), 0o711); err != nil {
		t.Fatal(err)
	}
	group := []uint32{groupID(t, readersGroup)}

	out, err := as(t, reader, group, nil, program(), "read", "--socket", l.RingSocket(), "--from", "oldest", "--count", "5", "-o", "json")
	if err != nil || strings.Count(string(out), "\n") != 5 {
		t.Errorf("a reader reads %q, %v", out, err)
	}
	var o agent.Overview
	out, err = as(t, reader, group, nil, program(), "status", "--socket", l.ControlSocket(), "-o", "json")
	if err == nil {
		err = json.Unmarshal(out, &o)
	}
	if err != nil || !o.Running || o.Status == nil {
		t.Errorf("a reader asks for the status: %v: %s", err, out)
	}
	for _, args := range [][]string{{"read", "--socket", l.RingSocket(), "--count", "1"}, {"status", "--socket", l.ControlSocket()}} {
		if out, err := as(t, stranger, nil, nil, program(), args...); err == nil || !strings.Contains(err.Error(), "permission denied") {
			t.Errorf("a stranger has %s: %v: %s", args[0], err, out)
		}
	}

	// The folder of the pins is handed over, which no installation does: what protects them is then their own owner and mode.
	pins, err := os.Open(filepath.Dir(l.Binding().Gateway.BPFFS))
	if err != nil {
		t.Fatal(err)
	}
	defer pins.Close()
	plan := intrusion{
		Agent: before.PID, Ring: l.RingSocket(), Control: l.ControlSocket(), State: l.GatewayState(), TPM: strings.TrimPrefix(l.GatewayTPM(), "unix:"),
		Documents: []string{l.PolicyPath(), l.BindingPath()}, Pins: "/proc/self/fd/3/" + filepath.Base(l.Binding().Gateway.BPFFS),
	}
	names, err := os.ReadDir(l.GatewayState())
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		plan.Files = append(plan.Files, n.Name())
	}
	text, err := json.Marshal(plan)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(intruderVariable, string(text))
	for _, c := range []struct {
		who    string
		uid    uint32
		groups []uint32
		may    []string
	}{
		{"reader", reader, group, []string{"ring: connect", "ring: map to read", "control: connect", "control: GET", "document 0: read", "document 1: read"}},
		{"stranger", stranger, nil, []string{"document 0: read", "document 1: read"}},
	} {
		out, err := as(t, c.uid, c.groups, []*os.File{pins}, "/proc/self/exe")
		if err != nil {
			t.Fatalf("%s: %v", c.who, err)
		}
		var tries []attempt
		if err := json.Unmarshal(out, &tries); err != nil {
			t.Fatalf("%s: %v: %s", c.who, err, out)
		}
		for _, a := range tries {
			if may := slices.Contains(c.may, a.What); (a.Result == "") != may {
				t.Errorf("%s: %s: %q, want success %v", c.who, a.What, a.Result, may)
			}
		}
		if len(tries) < 20 {
			t.Errorf("%s has tried %d things", c.who, len(tries))
		}
		t.Logf("%s has tried %d things, %d of them came off: %v", c.who, len(tries), len(c.may), c.may)
	}
	after, err := l.Status(t.Context())
	if err != nil || after.PID != before.PID || !after.Settled() {
		t.Errorf("the agent afterwards: %+v, %v", after, err)
	}
	if err := gateway.Stop(); err != nil {
		t.Fatal(err)
	}
}

// TestUntrustedState wants an agent to refuse what others could have written, to name it, and to close the bus all the same.
func TestUntrustedState(t *testing.T) {
	needRoot(t)
	l := newLab(t, demo.LabOptions{Frames: 1000, SoftwareEdge: true}, time.Second)
	run := filepath.Dir(l.RingSocket())
	for _, c := range []struct {
		name  string
		path  string
		mode  fs.FileMode
		owner int
		want  []string
		// readable says that a document is safe.
		readable bool
	}{
		{"policy of everybody", l.PolicyPath(), 0o666, 0, []string{l.PolicyPath(), "everybody may write", "chmod go-w " + l.PolicyPath()}, false},
		{"binding of somebody else", l.BindingPath(), 0o644, stranger, []string{l.BindingPath(), "belongs to user", "chown root"}, false},
		{"binding of the agent's own user", l.BindingPath(), 0o644, demo.AgentUID, []string{l.BindingPath(), "belongs to user", "chown root"}, false},
		{"state folder of everybody", l.GatewayState(), 0o777, demo.AgentUID, []string{l.GatewayState(), "everybody may write", "chmod go-w " + l.GatewayState()}, false},
		{"state folder of its group", l.GatewayState(), 0o770, demo.AgentUID, []string{l.GatewayState(), "its group may write", "chmod go-w"}, false},
		{"state folder of somebody else", l.GatewayState(), 0o700, stranger, []string{l.GatewayState(), "belongs to user", "chown -R 65533: " + l.GatewayState()}, false},
		{"state folder of root", l.GatewayState(), 0o700, 0, []string{"user 65533 cannot use " + l.GatewayState(), "chown -R 65533: " + l.GatewayState()}, false},
		{"folder above the state", l.Folder(), 0o777, 0, []string{l.Folder(), "everybody may write", "chmod go-w " + l.Folder()}, false},
		{"binding that the agent cannot read", l.BindingPath(), 0o600, 0, []string{"user 65533 cannot use " + l.BindingPath(), "setfacl"}, true},
		{"folder of the sockets", run, 0o777, demo.AgentUID, []string{run, "everybody may write", "chmod go-w " + run}, false},
		{"folder of the sockets of root", run, 0o755, 0, []string{"user 65533 cannot use " + run, "chown 65533: " + run}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var was unix.Stat_t
			if err := unix.Stat(c.path, &was); err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(os.Chown(c.path, c.owner, c.owner), os.Chmod(c.path, c.mode)); err != nil {
				t.Fatal(err)
			}
			p, err := l.BeginAgent()
			if err != nil {
				t.Fatal(err)
			}
			err = p.Wait()
			for _, w := range c.want {
				if err == nil || !strings.Contains(err.Error(), w) {
					t.Errorf("no %q in %v", w, err)
				}
			}
			_, err = loader.Inspect(l.Binding().Gateway.BPFFS)
			if document := strings.HasSuffix(c.path, ".yaml"); document && !c.readable && !errors.Is(err, loader.ErrNoPins) {
				t.Errorf("unsafe documents were acted upon: %v", err)
			} else if (!document || c.readable) && err != nil {
				t.Errorf("the bus is open: %v", err)
			}
			if err := errors.Join(os.Chown(c.path, int(was.Uid), int(was.Gid)), os.Chmod(c.path, fs.FileMode(was.Mode&0o777))); err != nil {
				t.Fatal(err)
			}
		})
	}
	runOnce(t, l)
}

// TestAgentUsers starts agents as other users than the laboratory's.
func TestAgentUsers(t *testing.T) {
	needRoot(t)
	l := newLab(t, demo.LabOptions{Frames: 1000, SoftwareEdge: true}, time.Second)
	for _, c := range []struct{ user, want string }{
		{"nosuchuser", "useradd --system --no-create-home --shell /usr/sbin/nologin nosuchuser"},
		{"65531", "chown -R 65531:"},
		{"4294967295", "no such user"},
	} {
		out, err := exec.CommandContext(t.Context(), program(), "run", "--policy", l.PolicyPath(), "--binding", l.BindingPath(), "--user", c.user).CombinedOutput()
		if err == nil || !strings.Contains(string(out), c.want) {
			t.Errorf("as user %s: %v: %s", c.user, err, out)
		}
	}
	runOnce(t, l)
}

// TestUnderTheUnit starts the agent with the capabilities that its systemd unit leaves it, twice: the second one replaces the program
// of the first.
func TestUnderTheUnit(t *testing.T) {
	needRoot(t)
	setpriv, err := exec.LookPath("setpriv")
	if err != nil {
		t.Skip("setpriv is absent (Debian package util-linux)")
	}
	unit, err := os.ReadFile("../../deploy/cellward.service")
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^CapabilityBoundingSet=(.*)$`).FindSubmatch(unit)
	if line == nil {
		t.Fatal("the unit has no bounding set")
	}
	set := "-all,+sys_ptrace" // to find the laboratory's bpffs, which is mounted nowhere, among the descriptors of this process
	for _, name := range strings.Fields(string(line[1])) {
		set += ",+" + strings.ToLower(strings.TrimPrefix(name, "CAP_"))
	}
	l := newLab(t, demo.LabOptions{Frames: 1000, SoftwareEdge: true}, time.Second)
	for range 2 {
		// The limit on locked memory is the unit's affair (LimitMEMLOCK): without CAP_IPC_LOCK the agent says that memory is not locked.
		cmd := exec.CommandContext(t.Context(), setpriv, "--bounding-set", set, program(), "run", "--policy", l.PolicyPath(), "--binding", l.BindingPath())
		cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
		var says strings.Builder
		cmd.Stderr = &says
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var threads []privilege.Thread
		for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
			if s, err := l.Status(t.Context()); err == nil && s.PID == cmd.Process.Pid {
				if threads, err = privilege.Threads(s.PID); err == nil && threads[0].Seccomp == 2 {
					break
				}
			}
			if time.Now().After(deadline) {
				t.Fatalf("the agent does not come up: %v: %s", cmd.Process.Kill(), says.String())
			}
		}
		for _, x := range threads {
			if x.Effective != privilege.AgentCapabilities() {
				t.Errorf("thread %d has %v", x.ID, x.Effective)
			}
		}
		if err := cmd.Process.Signal(unix.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Fatalf("%v: %s", err, says.String())
		}
	}
}

// TestEdgePrivileges reads from /proc what every thread of a sealing edge may do: first one that root has started, then one that has
// become another user.
func TestEdgePrivileges(t *testing.T) {
	needRoot(t)
	const simulated = 20 * time.Second // it is stopped before
	l := newLab(t, demo.LabOptions{Frames: 10_000}, simulated)
	for _, user := range []uint32{0, reader} {
		input := packInput(simulated)
		if user != 0 {
			input = append(input, "--user", fmt.Sprint(user))
			if err := filepath.WalkDir(l.EdgeState(), func(path string, _ fs.DirEntry, err error) error {
				return errors.Join(err, os.Lchown(path, int(user), int(user)))
			}); err != nil {
				t.Fatal(err)
			}
		}
		edge, err := l.StartEdge("", nil, 1, input...)
		if err != nil {
			t.Fatal(err)
		}
		var threads []privilege.Thread
		confined := func() bool {
			if threads, err = privilege.Threads(edge.PID()); err != nil {
				t.Fatal(errors.Join(err, edge.Wait()))
			}
			return len(threads) > 0 && !slices.ContainsFunc(threads, func(x privilege.Thread) bool { return x.Seccomp != 2 })
		}
		for deadline := time.Now().Add(patience); !confined(); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("the edge is not confined: %+v", threads)
			}
		}
		for _, x := range threads {
			if x.UID != [4]uint32{user, user, user, user} || x.Effective|x.Permitted|x.Inheritable|x.Bounding|x.Ambient != 0 || !x.NoNewPrivs {
				t.Errorf("user %d: thread %+v", user, x)
			}
		}
		t.Logf("%d threads: uid %d, no capabilities, NoNewPrivs 1, Seccomp 2", len(threads), user)
		if err := edge.Stop(); err != nil {
			t.Fatal(err)
		}
		report(t, edge)
	}
}

// TestAgentEndsWithItsParent kills a demonstration: its agent, which has changed its user, must not be left over.
func TestAgentEndsWithItsParent(t *testing.T) {
	needRoot(t)
	dir, err := os.MkdirTemp("", "cellward-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program(), "demo", "--duration", "60s")
	cmd.Env = append(os.Environ(), "TMPDIR="+dir)
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	agentOf := func() int {
		all, err := filepath.Glob("/proc/[0-9]*/cmdline")
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range all {
			b, err := os.ReadFile(path)
			if args := strings.Split(string(b), "\x00"); err != nil || len(args) < 4 || args[1] != "run" || !strings.HasPrefix(args[3], dir) {
				continue
			}
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			if err != nil {
				t.Fatal(err)
			}
			if threads, err := privilege.Threads(pid); err == nil && len(threads) > 0 && threads[0].Seccomp == 2 {
				return pid
			}
		}
		return 0
	}
	pid := 0
	for deadline := time.Now().Add(patience); pid == 0; pid = agentOf() {
		if time.Now().After(deadline) {
			t.Fatalf("there is no agent: %v", cmd.Process.Kill())
		}
		time.Sleep(20 * time.Millisecond)
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	if n, err := unix.Poll(fds, 20_000); err != nil || n != 1 {
		t.Errorf("the agent has outlived the demonstration: %d, %v", n, err)
		_ = unix.Kill(pid, unix.SIGKILL)
	}
}
