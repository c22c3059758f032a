// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var guests = flag.Bool("guests", false, "boot guests, for which packages are fetched")

// actVariable makes this test's program do something in a guest.
const actVariable = "CELLWARD_GUEST_ACT"

func TestMain(m *testing.M) {
	if a := os.Getenv(actVariable); a != "" {
		os.Exit(act(a))
	}
	flag.Parse()
	os.Exit(m.Run())
}

func act(what string) int {
	fmt.Println("to standard output")
	fmt.Fprintln(os.Stderr, "to standard error")
	if what == "panic" || what == "reboot" {
		time.Sleep(time.Second) // what was written is on its way to the host
	}
	switch what {
	case "exit":
		return 7
	case "long":
		fmt.Print(strings.Repeat("0123456789abcdef", 1<<16))
		return 0
	case "signal":
		_ = unix.Kill(os.Getpid(), unix.SIGKILL)
	case "panic":
		_ = os.WriteFile("/proc/sysrq-trigger", []byte("c"), 0)
	case "reboot":
		_ = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
	case "orphan": // a process that outlives its parent and keeps its output open
		p, err := os.StartProcess("/proc/self/exe", os.Args, &os.ProcAttr{
			Env: []string{actVariable + "=hang"}, Files: []*os.File{nil, os.Stdout, os.Stderr},
		})
		if err != nil || p.Release() != nil {
			return 1
		}
		return 3
	case "tpm":
		f, err := os.OpenFile("/dev/tpmrm0", os.O_RDWR, 0)
		if err != nil {
			return 1
		}
		// TPM2_GetRandom of 8 bytes: TPM 2.0 Part 3, 16.1
		if _, err := f.Write([]byte{0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x7B, 0, 8}); err != nil {
			return 2
		}
		b := make([]byte, 64)
		if n, err := f.Read(b); err != nil || n != 20 || !bytes.Equal(b[6:12], []byte{0, 0, 0, 0, 0, 8}) {
			return 3
		}
		return 0
	}
	time.Sleep(time.Hour)
	return 0
}

// staticTest builds this test's program and init for an architecture.
func staticTest(t *testing.T, arch string) (self, init string) {
	t.Helper()
	dir := t.TempDir()
	self, init = filepath.Join(dir, "self"), filepath.Join(dir, "init")
	for _, args := range [][]string{{"test", "-c", "-o", self, "."}, {"build", "-o", init, "./init"}} {
		cmd := exec.CommandContext(t.Context(), "go", args...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH="+arch)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go %v: %v\n%s", args, err, out)
		}
	}
	return self, init
}

// TestGuest sees that whatever a program or a kernel does comes out as what it is.
func TestGuest(t *testing.T) {
	if !*guests {
		t.Skip("boots guests only with -guests, as make test-guests gives it")
	}
	s, err := Prepare(t.Context(), Kernels()[0], Options{Progress: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	self, init := staticTest(t, s.Kernel.Arch)
	for _, c := range []struct {
		act    string
		code   int
		err    error
		output int
	}{
		{"exit", 7, nil, 0},
		{"long", 0, nil, 1 << 20},
		{"signal", 128 + 9, nil, 0},
		{"orphan", 3, nil, 0},
		{"tpm", 0, nil, 0},
		{"panic", 0, ErrPanic, 0},
		{"reboot", 0, ErrEnded, 0},
		{"hang", 0, context.DeadlineExceeded, 0},
	} {
		t.Run(c.act, func(t *testing.T) {
			limit := 2 * time.Minute
			if c.act == "hang" {
				limit = 40 * time.Second // it has booted by then
			}
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			var out bytes.Buffer
			code, err := s.Run(ctx, Job{
				Init: init, Files: map[string]string{"/self": self}, Modules: []string{"virtio_pci", "virtio_console"}, TPM: c.act == "tpm",
				Command: []string{"/self"}, Env: []string{actVariable + "=" + c.act}, Output: &out, Memory: 512, Progress: t.Logf,
			})
			if code != c.code || !errors.Is(err, c.err) {
				t.Errorf("code %d, %v; want %d, %v", code, err, c.code, c.err)
			}
			if c.err != nil {
				t.Logf("as reported: %v", err)
			}
			for _, want := range []string{"to standard output\n", "to standard error\n"} {
				if !strings.Contains(out.String(), want) {
					t.Errorf("no %q in the output", want)
				}
			}
			if out.Len() < c.output {
				t.Errorf("%d bytes of output, want %d", out.Len(), c.output)
			}
		})
	}
	t.Run("no program", func(t *testing.T) {
		_, err := s.Run(t.Context(), Job{
			Init: init, Modules: []string{"virtio_pci", "virtio_console"}, Command: []string{"/none"}, Output: &bytes.Buffer{}, Memory: 512,
		})
		if !errors.Is(err, ErrInit) || !strings.Contains(err.Error(), "/none") {
			t.Errorf("%v", err)
		}
	})
	t.Run("no module", func(t *testing.T) {
		_, err := s.Run(t.Context(), Job{Init: init, Modules: []string{"no-such-module"}, Command: []string{"/none"}, Output: &bytes.Buffer{}})
		if !errors.Is(err, ErrNoModule) {
			t.Errorf("%v", err)
		}
	})
}
