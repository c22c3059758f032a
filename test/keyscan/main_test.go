// SPDX-License-Identifier: Apache-2.0

package keyscan

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/cellward/cellward/crypto/secretmem"
)

const (
	// insideVariable marks the process that runs in the private network namespace.
	insideVariable = "CELLWARD_KEYSCAN_INSIDE"
	// programVariable holds the path of the built cellward.
	programVariable = "CELLWARD_KEYSCAN_PROGRAM"
	// refuseVariable makes this binary the built program, which the kernel refuses memfd_secret(2).
	refuseVariable = "CELLWARD_KEYSCAN_REFUSE"
	// partyVariable holds the path of the built test/keyscan/party.
	partyVariable = "CELLWARD_KEYSCAN_PARTY"
)

// TestMain becomes the built program, if it is told so.
func TestMain(m *testing.M) {
	if os.Getenv(refuseVariable) != "" {
		fmt.Fprintln(os.Stderr, "keyscan:", execWithoutSecretMemory())
		os.Exit(1)
	}
	if os.Getenv(tracerVariable) != "" {
		if err := traceAsTold(); err != nil {
			fmt.Fprintln(os.Stderr, "keyscan: tracer:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if os.Geteuid() != 0 {
		return m.Run()
	}
	if os.Getenv(insideVariable) == "" {
		// Once more, in a namespace that ends with the process: nothing of the host is touched, whatever happens.
		cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
		cmd.Env = append(os.Environ(), insideVariable+"=1")
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		cmd.SysProcAttr = &unix.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Pdeathsig: unix.SIGKILL}
		err := cmd.Run()
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			return exit.ExitCode()
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "keyscan: enter namespace:", err)
			return 1
		}
		return 0
	}
	dir, err := os.MkdirTemp("", "cellward-keyscan-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "keyscan:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	for variable, source := range map[string]string{programVariable: "cmd/cellward", partyVariable: "test/keyscan/party"} {
		built := filepath.Join(dir, filepath.Base(source))
		build := exec.Command("go", "build", "-o", built, "github.com/cellward/cellward/"+source)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if secretmem.Erasure == "runtime/secret" {
			build.Env = append(build.Env, "GOEXPERIMENT=runtimesecret") // the same build as this test's
		}
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "keyscan: build %s: %v\n%s", source, err, out)
			return 1
		}
		if err := os.Setenv(variable, built); err != nil {
			fmt.Fprintln(os.Stderr, "keyscan:", err)
			return 1
		}
	}
	return m.Run()
}

// needRoot skips a test that cannot run.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it makes namespaces, loads an eBPF filter and reads the memory of other processes")
	}
}

// program returns the path of the built cellward, or of one that the kernel refuses memfd_secret(2).
func program(t *testing.T, refuse bool) string {
	t.Helper()
	if !refuse {
		return os.Getenv(programVariable)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(t.TempDir(), "cellward")
	if err := os.WriteFile(script, fmt.Appendf(nil, "#!/bin/sh\n%s=1 exec '%s' \"$@\"\n", refuseVariable, self), 0o700); err != nil {
		t.Fatal(err)
	}
	return script
}

// execWithoutSecretMemory becomes the built program under a seccomp filter (kernel: Documentation/userspace-api/seccomp_filter.rst)
// that answers memfd_secret with ENOSYS, as a kernel without it does. It returns only with an error.
func execWithoutSecretMemory() error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS}, // offset 0 of struct seccomp_data: the number of the call
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_MEMFD_SECRET, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	p := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	// All threads: which of them calls exec is the runtime's choice.
	if _, _, e := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&p))); e != 0 {
		return fmt.Errorf("set seccomp filter: %w", e)
	}
	if err := os.Unsetenv(refuseVariable); err != nil {
		return err
	}
	return unix.Exec(os.Getenv(programVariable), append([]string{"cellward"}, os.Args[1:]...), os.Environ())
}
