// SPDX-License-Identifier: Apache-2.0

package keyscan

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// waiting is a party that has done its work.
type waiting struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.Closer
	out string
}

// newParty starts a party and waits until it is done.
func newParty(t *testing.T, args ...string) *waiting {
	t.Helper()
	cmd := exec.Command(os.Getenv(partyVariable), args...)
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	cmd.Stderr = os.Stderr
	in, e1 := cmd.StdinPipe()
	out, e2 := cmd.StdoutPipe()
	if err := errors.Join(e1, e2, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	w := &waiting{t: t, cmd: cmd, in: in}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "done") {
		t.Fatalf("party %v says %q, %v", args, line, err)
	}
	w.out = strings.TrimSpace(strings.TrimPrefix(line, "done"))
	return w
}

// end lets the party end.
func (w *waiting) end() {
	w.t.Helper()
	if err := errors.Join(w.in.Close(), w.cmd.Wait()); err != nil {
		w.t.Error(err)
	}
}

// write puts a message into a file.
func write(t *testing.T, b []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "message")
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}
