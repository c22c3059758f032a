// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cellward/cellward/agent/privilege"
	"github.com/cellward/cellward/agent/tooltest"
)

const root = "../.."

// units are the units by file name, as systemd is to be asked for them, with the figure of `systemd-analyze security` in the documents.
func units() map[string]string {
	return map[string]string{"cellward.service": "cellward.service", "cellward-edge@.service": "cellward-edge@bmu.service"}
}

// analyze runs systemd-analyze, or skips the test where it is absent.
func analyze(t *testing.T, args ...string) string {
	t.Helper()
	path := tooltest.Path(t, "Debian package systemd", "systemd-analyze")
	out, err := exec.Command(path, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("systemd-analyze %v: %v\n%s", args, err, out)
	}
	return string(out)
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// installed copies the units to a folder, with a program that is there in place of their own and of kill (Debian package procps), and returns
// the folder.
func installed(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name := range units() {
		text := strings.NewReplacer("/usr/bin/cellward", "/bin/true", "/bin/kill", "/bin/true").Replace(read(t, "deploy/"+name))
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// settings returns what a unit says for a name, in order.
func settings(unit, name string) (all []string) {
	for _, line := range strings.Split(unit, "\n") {
		if value, ok := strings.CutPrefix(line, name+"="); ok {
			all = append(all, value)
		}
	}
	return all
}

func TestUnitsAreTaken(t *testing.T) {
	dir := installed(t)
	for _, name := range units() {
		// What is not understood is a warning, and the exit status good.
		if out := analyze(t, "verify", "--man=no", filepath.Join(dir, name)); strings.Contains(out, "cellward") {
			t.Errorf("systemd says of %s:\n%s", name, out)
		}
	}
}

// TestExposure compares the figures of the documents with systemd's. Other versions of systemd weigh differently by a tenth or two.
func TestExposure(t *testing.T) {
	dir := installed(t)
	level := regexp.MustCompile(`exposure level for \S+: (\d+)\.(\d)`)
	for _, name := range units() {
		got := level.FindStringSubmatch(analyze(t, "security", "--offline=yes", filepath.Join(dir, name)))
		want := regexp.MustCompile("`" + regexp.QuoteMeta(strings.Replace(name, "@bmu", "@", 1)) + "` \\| (\\d+)\\.(\\d)").FindStringSubmatch(read(t, "docs/operations.md"))
		if got == nil || want == nil {
			t.Fatalf("%s: systemd says %v, docs/operations.md %v", name, got, want)
		}
		t.Logf("%s: exposure %s.%s", name, got[1], got[2])
		tenths := func(f []string) int { return int(f[1][0]-'0')*10 + int(f[2][0]-'0') }
		if d := tenths(got) - tenths(want); d > 2 || d < -2 {
			t.Errorf("%s: systemd says %s.%s, docs/operations.md %s.%s", name, got[1], got[2], want[1], want[2])
		}
	}
}

// expand returns the system calls of a list of names and @groups.
func expand(t *testing.T, words []string) map[string]bool {
	t.Helper()
	all := make(map[string]bool)
	for _, w := range words {
		if !strings.HasPrefix(w, "@") {
			all[w] = true
			continue
		}
		var inner []string
		for _, line := range strings.Split(analyze(t, "syscall-filter", w), "\n") {
			if f := strings.TrimSpace(line); f != "" && f != w && !strings.HasPrefix(f, "#") {
				inner = append(inner, f)
			}
		}
		maps.Copy(all, expand(t, inner))
	}
	return all
}

// TestUnitsAllowWhatIsNeeded wants the filters of the units to let through what the programs' own filters do, and what it takes to get
// there.
func TestUnitsAllowWhatIsNeeded(t *testing.T) {
	begin := []string{
		"execve", "prctl", "capset", "capget", "seccomp", "setrlimit", "prlimit64", "mlockall", "mmap", "mprotect", "clone", "socket", "tgkill",
		"arch_prctl", "umask", "fchmod", "fchmodat",
	}
	for name, c := range map[string]struct {
		profile privilege.Profile
		more    []string
	}{
		"cellward.service":       {privilege.AgentProfile(), []string{"setresuid", "setresgid", "setgroups", "setfsuid", "setfsgid", "fchownat", "fchown", "lchown", "chown", "bpf"}},
		"cellward-edge@.service": {privilege.EdgeProfile(), nil},
	} {
		allowed := make(map[string]bool)
		for _, s := range settings(read(t, "deploy/"+name), "SystemCallFilter") {
			without, deny := strings.CutPrefix(s, "~")
			for call := range expand(t, strings.Fields(without)) {
				allowed[call] = !deny
			}
		}
		for _, call := range slices.Concat(begin, c.more, c.profile.Calls) {
			if !allowed[call] {
				t.Errorf("%s does not allow %s", name, call)
			}
		}
		for _, call := range []string{"mount", "init_module", "kexec_load", "ptrace", "reboot", "settimeofday", "swapon", "iopl"} {
			if allowed[call] {
				t.Errorf("%s allows %s", name, call)
			}
		}
	}
}

// TestBoundingSet wants the agent's unit to leave it at least what it keeps.
func TestBoundingSet(t *testing.T) {
	for name, want := range map[string]privilege.Capabilities{
		"cellward.service": privilege.AgentCapabilities() | privilege.CapabilitySet(unix.CAP_SETUID, unix.CAP_SETGID, unix.CAP_SETPCAP), "cellward-edge@.service": 0,
	} {
		got, err := privilege.ParseCapabilities(strings.Join(settings(read(t, "deploy/"+name), "CapabilityBoundingSet"), " "))
		if err != nil || got&want != want || want == 0 && got != 0 {
			t.Errorf("%s has %v, %v", name, got, err)
		}
	}
}

// TestOrder wants the filter to be attached before the network is set up.
func TestOrder(t *testing.T) {
	unit := read(t, "deploy/cellward.service")
	for name, want := range map[string]string{
		"Before": "network-pre.target", "Wants": "network-pre.target", "Type": "notify", "NotifyAccess": "main", "DefaultDependencies": "no",
		"LimitMEMLOCK": "infinity",
	} {
		if got := strings.Join(settings(unit, name), " "); !slices.Contains(strings.Fields(got), want) {
			t.Errorf("%s is %q, want %s", name, got, want)
		}
	}
}

// TestInstall installs under a folder and looks at what is there.
func TestInstall(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command("make", "-s", "install", "DESTDIR="+dir)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for path, mode := range map[string]os.FileMode{
		"usr/bin/cellward": 0o755, "usr/lib/systemd/system/cellward.service": 0o644, "usr/lib/systemd/system/cellward-edge@.service": 0o644,
		"usr/lib/sysusers.d/cellward.conf": 0o644, "usr/lib/tmpfiles.d/cellward.conf": 0o644,
	} {
		if st, err := os.Stat(filepath.Join(dir, path)); err != nil || st.Mode() != mode {
			t.Errorf("%s: %v, %v", path, st, err)
		}
	}
}

// TestUsers makes the users and folders under a folder, with the tools of systemd.
func TestUsers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes users under a folder")
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, tool := range [][]string{
		{"systemd-sysusers", "--root=" + dir, filepath.Join(root, "deploy", "sysusers.conf")},
		{"systemd-tmpfiles", "--root=" + dir, "--create", filepath.Join(root, "deploy", "tmpfiles.conf")},
	} {
		path := tooltest.Path(t, "Debian package systemd", tool[0])
		abs, err := filepath.Abs(tool[len(tool)-1])
		if err != nil {
			t.Fatal(err)
		}
		tool[len(tool)-1] = abs
		if out, err := exec.Command(path, tool[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", tool, err, out)
		}
	}
	passwd, err := os.ReadFile(filepath.Join(dir, "etc/passwd"))
	if err != nil {
		t.Fatal(err)
	}
	group, err := os.ReadFile(filepath.Join(dir, "etc/group"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`(?m)^cellward:`, `(?m)^cellward-edge:`} {
		if !regexp.MustCompile(want).Match(passwd) {
			t.Errorf("no user %s in\n%s", want, passwd)
		}
	}
	if !regexp.MustCompile(`(?m)^tss:.*cellward.*cellward-edge`).Match(group) {
		t.Errorf("they are not in tss:\n%s", group)
	}
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(dir, "var/lib/cellward"), &st); err != nil || st.Mode&0o777 != 0o700 || st.Uid == 0 {
		t.Errorf("state folder: mode %o, user %d, %v", st.Mode, st.Uid, err)
	}
}
