// SPDX-License-Identifier: Apache-2.0

package swtpm

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func start(t *testing.T, dir string) *Process {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	p, err := Start(ctx, dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Stop() })
	return p
}

func TestStartStop(t *testing.T) {
	dir := t.TempDir()
	p := start(t, dir)
	if err := p.send(getFamily(), 5*time.Second); err != nil {
		t.Fatalf("a started TPM does not answer: %v", err)
	}
	info, err := os.Stat(p.Socket)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("socket mode %v, want 0600", info.Mode().Perm())
	}
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.Exited():
	default:
		t.Error("Stop returned before the child was reaped")
	}
	if _, err := os.Stat(p.Socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("socket left behind: %v", err)
	}
	if err := p.Stop(); err != nil {
		t.Errorf("second Stop: %v", err)
	}
	// The same state directory serves again, also after a power cut.
	p = start(t, dir)
	p.Kill()
	start(t, dir)
}

func TestLongPath(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("d", 120))
	p := start(t, dir)
	if len(p.Socket) > maxSocketPath {
		t.Fatalf("socket path of %d bytes", len(p.Socket))
	}
	temp := p.tempDir
	p.Stop()
	if _, err := os.Stat(temp); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("temporary directory left behind: %v", err)
	}
}

func TestStartErrors(t *testing.T) {
	t.Run("state is a file", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "state")
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Start(t.Context(), file); err == nil {
			t.Fatal("started on a file")
		}
	})
	t.Run("state in use", func(t *testing.T) {
		dir := t.TempDir()
		p := start(t, dir)
		if _, err := Start(t.Context(), dir); !errors.Is(err, ErrInUse) {
			t.Fatalf("second emulator: %v", err)
		}
		if err := p.send(getFamily(), 5*time.Second); err != nil {
			t.Fatalf("the first one suffered: %v", err)
		}
	})
	t.Run("state damaged", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "tpm2-00.permall"), []byte("not a state"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Start(t.Context(), dir)
		if err == nil || !strings.Contains(err.Error(), "ended at once") {
			t.Fatalf("damaged state: %v", err)
		}
	})
	t.Run("not installed", func(t *testing.T) {
		t.Setenv("PATH", t.TempDir())
		if _, err := Start(t.Context(), t.TempDir()); !errors.Is(err, ErrMissing) {
			t.Fatalf("got %v", err)
		}
	})
}

// TestDiesWithParent runs this test binary as a child that starts an emulator
// and is then killed with SIGKILL.
func TestDiesWithParent(t *testing.T) {
	if dir := os.Getenv("SWTPM_TEST_CHILD"); dir != "" {
		p, err := Start(context.Background(), dir)
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(p.PID())
		select {}
	}
	child := exec.Command(os.Args[0], "-test.run=^TestDiesWithParent$")
	child.Env = append(os.Environ(), "SWTPM_TEST_CHILD="+t.TempDir())
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Sscan(line, &pid); err != nil {
		t.Fatalf("child said %q", line)
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	child.Wait()
	// An orphan is reaped by someone else: gone or a zombie both mean ended.
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if ended(pid) {
			return
		}
		if time.Now().After(deadline) {
			syscall.Kill(pid, syscall.SIGKILL)
			t.Fatal("the emulator outlived its parent")
		}
	}
}

func ended(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return strings.HasPrefix(rest, "Z") || strings.HasPrefix(rest, "X")
}
