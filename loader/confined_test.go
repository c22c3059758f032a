// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

const confinedVariable = "CELLWARD_LOADER_CONFINED"

// A process without CAP_SYS_ADMIN asks for no other namespace: where seccomp ends whoever calls setns(2), it must not come to that.
func TestNetnsWithoutRights(t *testing.T) {
	if os.Getenv(confinedVariable) != "" {
		self := must[*Netns](t)(OpenNetns("/proc/thread-self/ns/net"))
		ran := false
		if err := self.Do(func() error { ran = true; return nil }); !errors.Is(err, ErrNetnsRights) || !errors.Is(err, os.ErrPermission) || ran {
			t.Errorf("enter: %v, ran %v", err, ran)
		}
		if _, err := NewNetns(); !errors.Is(err, ErrNetnsRights) {
			t.Errorf("make: %v", err)
		}
		// A note of a namespace that is not this one: nobody is asked for it.
		if _, _, err := (hookNote{Ifindex: 1, Cookie: 1, Inode: must[uint64](t)(netnsInode("/proc/self/ns/net"))}).netns(); !errors.Is(err, ErrElsewhere) {
			t.Errorf("look for a namespace: %v", err)
		}
		return
	}
	needRoot(t)
	cmd := exec.Command("/proc/self/exe", "-test.run", "^TestNetnsWithoutRights$", "-test.v")
	cmd.Env = append(os.Environ(), confinedVariable+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}, Pdeathsig: unix.SIGKILL}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// Whose a filter is that cannot be looked into, the note says: the program that was set last.
func TestClsactNoted(t *testing.T) {
	l := newClsactLab(t)
	b := must[*Bus](t)(l.attach(HookClsact))
	a := b.anchor.(*clsactAnchor)
	id := b.program(t)
	if n := must[hookNote](t)(readNote(a.note)); ebpf.ProgramID(n.Program) != id {
		t.Errorf("the note says program %d, set is %d", n.Program, id)
	}
	for _, c := range []struct {
		id   ebpf.ProgramID
		want bool
	}{{id, true}, {id + 1, false}, {0, false}} {
		if got := must[bool](t)(a.noted(c.id)); got != c.want {
			t.Errorf("program %d: %v", c.id, got)
		}
	}
	// A program that is set in its place is noted, too.
	other := must[*Bus](t)(l.attach(HookClsact))
	if now := other.program(t); now == id || !must[bool](t)(a.noted(now)) || must[bool](t)(a.noted(id)) {
		t.Errorf("program %d after %d is not noted", now, id)
	}
}
