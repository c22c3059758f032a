// SPDX-License-Identifier: Apache-2.0

package control

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// askVariable makes the test program a client: what it holds is the socket.
const askVariable = "CELLWARD_CONTROL_ASK"

func TestMain(m *testing.M) {
	if socket := os.Getenv(askVariable); socket != "" {
		var out any
		err := Post(context.Background(), socket, "/v1/echo", 1, &out)
		switch {
		case errors.Is(err, ErrNotAllowed):
			os.Exit(3)
		case err != nil:
			os.Exit(4)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func serveEcho(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "run", "control.sock")
	s, err := Serve(path, "", nil, map[string]Action{
		"/v1/echo":   func(_ context.Context, b []byte) (any, error) { return string(b), nil },
		"/v1/refuse": func(context.Context, []byte) (any, error) { return 7, errors.New("no reason") },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return path
}

func TestPost(t *testing.T) {
	path := serveEcho(t)
	var text string
	if err := Post(t.Context(), path, "/v1/echo", []int{1, 2}, &text); err != nil || text != "[1,2]" {
		t.Fatalf("got %q, %v", text, err)
	}
	var n int
	if err := Post(t.Context(), path, "/v1/refuse", nil, &n); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "no reason") || n != 7 {
		t.Fatalf("refusal: %d, %v", n, err)
	}
	if err := Post(t.Context(), path, "/v1/other", nil, &n); err == nil || errors.Is(err, ErrRefused) {
		t.Fatalf("unknown action: %v", err)
	}
	if err := Get(t.Context(), path, "/v1/echo", &n); err == nil {
		t.Fatal("an action was read")
	}
	if err := Post(t.Context(), filepath.Join(t.TempDir(), "none"), "/v1/echo", nil, &n); !errors.Is(err, ErrNotRunning) {
		t.Fatalf("no socket: %v", err)
	}
	status, _, err := exchange(t.Context(), path, http.MethodPost, "/v1/echo", bytes.NewReader(make([]byte, maxRequest+1)))
	if err != nil || status != http.StatusBadRequest {
		t.Fatalf("a request that is too long: %d, %v", status, err)
	}
}

// TestOthersMayNotWrite opens the socket to everybody and asks as another user: the mode of a file may be loosened by mistake.
func TestOthersMayNotWrite(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it asks as another user")
	}
	path := serveEcho(t)
	for dir := filepath.Dir(path); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(filepath.Dir(path), "ask")
	b, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(program, b, 0o755); err != nil {
		t.Fatal(err)
	}
	for uid, want := range map[uint32]int{0: 0, 65534: 3} {
		cmd := exec.Command(program)
		cmd.Env = append(os.Environ(), askVariable+"="+path)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		err := cmd.Run()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		if got := cmd.ProcessState.ExitCode(); got != want {
			t.Errorf("user %d: exit %d, want %d", uid, got, want)
		}
	}
}
