// SPDX-License-Identifier: Apache-2.0

package privilege

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

func TestCapabilityNames(t *testing.T) {
	for n, want := range map[int]string{
		unix.CAP_CHOWN: "CAP_CHOWN", unix.CAP_NET_ADMIN: "CAP_NET_ADMIN", unix.CAP_IPC_LOCK: "CAP_IPC_LOCK", unix.CAP_SYS_ADMIN: "CAP_SYS_ADMIN",
		unix.CAP_PERFMON: "CAP_PERFMON", unix.CAP_BPF: "CAP_BPF", unix.CAP_LAST_CAP: "CAP_CHECKPOINT_RESTORE", 63: "capability 63",
	} {
		if got := CapabilitySet(n).String(); got != want {
			t.Errorf("capability %d: %s, want %s", n, got, want)
		}
	}
	if got, want := AgentCapabilities().String(), "CAP_NET_ADMIN, CAP_PERFMON, CAP_BPF"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if _, err := ParseCapabilities("cap_bpf,cap_everything"); err == nil {
		t.Error("there is such a capability")
	}
	rapid.Check(t, func(t *rapid.T) {
		c := Capabilities(rapid.Uint64Range(1, 1<<(unix.CAP_LAST_CAP+1)-1).Draw(t, "set"))
		if got, err := ParseCapabilities(c.String()); got != c || err != nil {
			t.Fatalf("%v is read back as %v, %v", c, got, err)
		}
	})
}

func TestLookup(t *testing.T) {
	root, err := Lookup("root")
	if err != nil || root.UID != 0 || root.GID != 0 || root.String() != "root" {
		t.Errorf("root is %+v, %v", root, err)
	}
	number, err := Lookup("0")
	if err != nil || !reflect.DeepEqual(number, root) {
		t.Errorf("user 0 is %+v, %v", number, err)
	}
	nobody, err := Lookup("4000000000")
	if err != nil || !reflect.DeepEqual(nobody, &User{UID: 4000000000, GID: 4000000000}) || nobody.String() != "4000000000" {
		t.Errorf("a number that nobody has is %+v, %v", nobody, err)
	}
	for _, name := range []string{"no-such-user", "4294967295", "99999999999", ""} {
		if u, err := Lookup(name); !errors.Is(err, ErrNoUser) {
			t.Errorf("%q is %+v, %v", name, u, err)
		}
	}
	if _, err := Lookup("no-such-user"); err == nil || !strings.Contains(err.Error(), "useradd --system") {
		t.Errorf("no command that helps: %v", err)
	}
	for _, g := range []uint32{7, 3, 7, 5} {
		nobody.Join(g)
	}
	if !slices.Equal(nobody.Groups, []uint32{3, 5, 7}) {
		t.Errorf("groups %v", nobody.Groups)
	}
}

// TestAccess asks for somebody else and wants this process to be afterwards who it was.
func TestAccess(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: asks for another user")
	}
	dir, err := os.MkdirTemp("", "access-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "file")
	if err := errors.Join(os.WriteFile(file, nil, 0o640), os.Chown(file, 65531, 65530), os.Chmod(file, 0o640)); err != nil {
		t.Fatal(err)
	}
	before, err := Threads(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	owner, member, other := &User{UID: 65531, GID: 65531}, &User{UID: 65532, GID: 65532, Groups: []uint32{65530}}, &User{UID: 65533, GID: 65533}
	for _, c := range []struct {
		mode os.FileMode // of the folder
		u    *User
		kind uint32
		good bool
	}{
		{0o755, owner, Read | Write, true}, {0o755, owner, Search, false}, {0o755, member, Read, true}, {0o755, member, Write, false},
		{0o755, other, Read, false}, {0o700, owner, Read, false}, {0o700, &User{}, Read | Write, true},
	} {
		if err := os.Chmod(dir, c.mode); err != nil {
			t.Fatal(err)
		}
		if err := c.u.Access(file, c.kind); (err == nil) != c.good || err != nil && !errors.Is(err, unix.EACCES) {
			t.Errorf("user %v, folder %v, kind %d: %v", c.u, c.mode, c.kind, err)
		}
	}
	after, err := Threads(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range after {
		if x.UID != before[0].UID || x.GID != before[0].GID || !slices.Equal(x.Groups, before[0].Groups) || x.Effective != before[0].Effective {
			t.Errorf("thread %d is now %+v", x.ID, x)
		}
	}
}

// TestProfiles wants every name known on both architectures, no call that is both allowed and hostile, and programs that the kernel
// would take: at most 4096 instructions.
func TestProfiles(t *testing.T) {
	for name, p := range map[string]Profile{"agent": AgentProfile(), "edge": EdgeProfile()} {
		for _, a := range []*arch.Info{arch.X86_64, arch.AARCH64} {
			known := func(call string) bool { _, ok := a.SyscallNames[call]; return ok }
			foreign := (a == arch.X86_64) != (runtime.GOARCH == "amd64")
			own := slices.Concat(native().Calls, nativeModes().Calls, []string{"arch_prctl"})
			for _, call := range p.Calls {
				if !known(call) && !(foreign && slices.Contains(own, call)) {
					t.Errorf("%s on %s: there is no call %s", name, a.Name, call)
				}
			}
			for _, call := range p.Conditional {
				if !known(call.Name) && !(foreign && slices.Contains(own, call.Name)) {
					t.Errorf("%s on %s: there is no call %s", name, a.Name, call.Name)
				}
			}
			for _, call := range Hostile() {
				if !known(call) {
					t.Errorf("%s: there is no call %s", a.Name, call)
				}
				if slices.Contains(p.Calls, call) || slices.ContainsFunc(p.Conditional, func(c Call) bool { return c.Name == call }) {
					t.Errorf("%s allows %s, which is hostile", name, call)
				}
			}
		}
		for _, e := range []Enforcement{Enforce, Log} {
			policy := p.policy(e)
			program, err := policy.Assemble()
			if err == nil {
				_, err = bpf.Assemble(program)
			}
			if err != nil || len(program) > 4096 {
				t.Errorf("%s, %s: %d instructions, %v", name, e, len(program), err)
			}
		}
	}
}

// TestNativeNames looks up what the other architecture's file adds, since only one of them is built.
func TestNativeNames(t *testing.T) {
	if _, ok := arch.AARCH64.SyscallNames["fstatat"]; !ok {
		t.Error("arm64 has no fstatat")
	}
	if _, ok := arch.X86_64.SyscallNames["newfstatat"]; !ok {
		t.Error("amd64 has no newfstatat")
	}
}

// TestExtension adds to a profile what a deployment needs; it goes before what is hostile.
func TestExtension(t *testing.T) {
	p := AgentProfile().Allow(Profile{Calls: []string{"execve", "read", "mmap"}})
	if !slices.Contains(p.Calls, "execve") {
		t.Error("execve was not added")
	}
	policy := p.policy(Enforce)
	if _, err := policy.Assemble(); err != nil {
		t.Errorf("a call that is listed twice: %v", err)
	}
}

func TestEnforcement(t *testing.T) {
	var e Enforcement
	if e.String() != "enforce" {
		t.Errorf("the zero value is %s", e)
	}
	for _, w := range []string{"log", "off", "enforce"} {
		if err := e.Set(w); err != nil || e.String() != w {
			t.Errorf("%s: %s, %v", w, e, err)
		}
	}
	if err := e.Set("maybe"); !errors.Is(err, ErrEnforcement) {
		t.Errorf("maybe: %v", err)
	}
}

const statusText = "Name:\tx\nPid:\t7\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\t9 10 \nCapInh:\t0000000000000001\nCapPrm:\t000000c000001000\n" +
	"CapEff:\t0000000000000002\nCapBnd:\t0000000000000003\nCapAmb:\t0000000000000004\nNoNewPrivs:\t1\nSeccomp:\t2\n"

func TestParseThread(t *testing.T) {
	got, err := parseThread(statusText)
	want := Thread{
		ID: 7, UID: [4]uint32{1, 2, 3, 4}, GID: [4]uint32{5, 6, 7, 8}, Groups: []uint32{9, 10}, Inheritable: 1, Permitted: AgentCapabilities(),
		Effective: 2, Bounding: 3, Ambient: 4, NoNewPrivs: true, Seccomp: 2,
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, field := range []string{"Pid", "Uid", "Gid", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp"} {
		if _, err := parseThread(strings.Replace(statusText, field+":", "X:", 1)); err == nil {
			t.Errorf("without %s it is read", field)
		}
	}
}

// FuzzThread wants every status text to be read or refused; what lacks a field is never taken for a thread without rights.
func FuzzThread(f *testing.F) {
	f.Add(statusText)
	f.Add("Uid:\t-1\t0\n")
	f.Fuzz(func(t *testing.T, s string) {
		if _, err := parseThread(s); err == nil && (!strings.Contains(s, "CapEff:") || !strings.Contains(s, "Seccomp:")) {
			t.Errorf("read from %q", s)
		}
	})
}

// FuzzCapabilities wants what is read to be written the same.
func FuzzCapabilities(f *testing.F) {
	f.Add("CAP_BPF, cap_net_admin")
	f.Fuzz(func(t *testing.T, s string) {
		c, err := ParseCapabilities(s)
		if err != nil || c == 0 {
			return
		}
		if again, err := ParseCapabilities(c.String()); err != nil || again != c {
			t.Errorf("%q: %v, again %v, %v", s, c, again, err)
		}
	})
}
