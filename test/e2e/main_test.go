// SPDX-License-Identifier: Apache-2.0

// Package e2e tests the product as it is run: the built program's processes, real swtpms, a CAN bus, network namespaces of the
// tests' own. It needs root; without it every test says that it is skipped.
//
// The package may import everything of this module.
package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

const (
	// insideVariable marks the process that runs in the private namespace.
	insideVariable = "CELLWARD_E2E_INSIDE"
	// programVariable holds the path of the built cellward.
	programVariable = "CELLWARD_E2E_PROGRAM"
)

// program returns the path of the built cellward; empty when this is not root.
func program() string { return os.Getenv(programVariable) }

func TestMain(m *testing.M) {
	if plan := os.Getenv(intruderVariable); plan != "" && os.Geteuid() != 0 {
		if err := intrude(plan); err != nil {
			fmt.Fprintln(os.Stderr, "e2e: intruder:", err)
			os.Exit(1)
		}
		return
	}
	if socket := os.Getenv(takerVariable); socket != "" {
		fmt.Println(askForAll(socket))
		return
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
			fmt.Fprintln(os.Stderr, "e2e: enter namespaces:", err)
			return 1
		}
		return 0
	}
	dir, err := os.MkdirTemp("", "cellward-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	built := filepath.Join(dir, "cellward")
	build := exec.Command("go", "build", "-o", built, "github.com/cellward/cellward/cmd/cellward")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "e2e: build the program: %v\n%s", err, out)
		return 1
	}
	if err := os.Setenv(programVariable, built); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	return m.Run()
}

// needRoot skips a test that cannot run.
func needRoot(t *testing.T) {
	t.Helper()
	if program() == "" {
		t.Skip("needs root: it makes namespaces and loads an eBPF filter")
	}
}

// shared returns a file of ../shared/data, or skips the test where the folder is absent.
func shared(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("..", "..", "..", "shared", "data", name))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		t.Skipf("%s is absent", path)
	}
	return path
}

// cellward runs the program and returns its output; it fails the test if the program fails.
func cellward(t *testing.T, ctx context.Context, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(ctx, program(), args...)
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("cellward %v: %v\n%s", args, err, exit.Stderr)
		}
		t.Fatalf("cellward %v: %v", args, err)
	}
	return out
}
