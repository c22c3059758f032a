// SPDX-License-Identifier: Apache-2.0

// Package socketcan tests the product on the kernel's own CAN stack: vcan and vxcan interfaces, CAN_RAW, ISO-TP, BCM and can-gw,
// and can-utils at the other end. It runs wherever the kernel has vxcan, as root; `make test-guests` boots kernels that do. Time
// limits are generous and never the point of a test: guests are emulated.
//
// The package may import everything of this module.
package socketcan

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cellward/cellward/loader"
)

// Variables of the environment.
const (
	guestVariable   = "CELLWARD_GUEST"   // set in a guest, to the kernel's name: nothing may be missing there
	programVariable = "CELLWARD_PROGRAM" // path of cellward; built if it is not set
	dataVariable    = "CELLWARD_DATA"    // folder with captures
	tpmVariable     = "CELLWARD_TPM"     // a TPM for one gateway; a software one if it is not set
	insideVariable  = "CELLWARD_SOCKETCAN_INSIDE"
)

// patience bounds every wait for what must happen.
const patience = 60 * time.Second

func program() string { return os.Getenv(programVariable) }
func inGuest() bool   { return os.Getenv(guestVariable) != "" }

func TestMain(m *testing.M) {
	flag.Parse()
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "socketcan:", err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (int, error) {
	if os.Geteuid() != 0 {
		return m.Run(), nil
	}
	if os.Getenv(insideVariable) == "" {
		// Once more, in a namespace that ends with the process: nothing of the machine is touched, whatever happens.
		cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
		cmd.Env = append(os.Environ(), insideVariable+"=1")
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		cmd.SysProcAttr = &unix.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Pdeathsig: unix.SIGKILL}
		err := cmd.Run()
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.ExitCode() >= 0 {
			return exit.ExitCode(), nil
		}
		return 0, err
	}
	if err := tryVXCAN(); errors.Is(err, loader.ErrLinkKind) && !inGuest() {
		return m.Run(), nil // every test says that it is skipped
	}
	if program() == "" {
		dir, err := os.MkdirTemp("", "socketcan-")
		if err != nil {
			return 0, err
		}
		defer os.RemoveAll(dir)
		built := filepath.Join(dir, "cellward")
		cmd := exec.Command("go", "build", "-o", built, "github.com/cellward/cellward/cmd/cellward")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return 0, fmt.Errorf("build the program: %w\n%s", err, out)
		}
		if err := os.Setenv(programVariable, built); err != nil {
			return 0, err
		}
	}
	return m.Run(), nil
}

// needVXCAN skips a test that cannot run on this machine. In a guest, it fails.
func needVXCAN(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it makes interfaces and loads an eBPF filter")
	}
	err := tryVXCAN()
	if errors.Is(err, loader.ErrLinkKind) && !inGuest() {
		t.Skip("this kernel has no vxcan; make test-guests runs this on kernels that have")
	}
	if err != nil {
		t.Fatal(err)
	}
}

// tryVXCAN makes a pair of interfaces that ends at once.
func tryVXCAN() error {
	ns, err := loader.NewNetns()
	if err != nil {
		return err
	}
	err = ns.Do(func() error { return withLinks(func(l *loader.Links) error { return l.AddVXCAN("a", "b", nil) }) })
	return errors.Join(err, ns.Close())
}

// cannotHold says that a case cannot hold on this kernel, and why.
func cannotHold(t *testing.T, why string) {
	t.Helper()
	t.Skip("cannot hold on this kernel: " + why)
}

// capture returns the path of a capture of a real vehicle's bus or, where the folder of captures is absent, of a log of as many
// frames that is made here, and says which.
func capture(t *testing.T) (path, what string) {
	t.Helper()
	dir := os.Getenv(dataVariable)
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "data")
	}
	path, err := filepath.Abs(filepath.Join(dir, "can", "tesla-model-s.candump.log"))
	ok(t, err)
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return shortLog(t, captureFrames), "log made here, since " + path + " is absent"
	} else if err != nil {
		t.Fatal(err)
	}
	return path, "capture " + filepath.Base(path)
}

// captureFrames is how many frames the capture holds.
const captureFrames = 12974

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually waits for what others do in their own time.
func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	for begun := time.Now(); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Since(begun) > patience {
			t.Fatalf("still not: %s", what)
		}
	}
}
