// SPDX-License-Identifier: Apache-2.0

package keyscan

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cellward/cellward/agent"
	"github.com/cellward/cellward/agent/keys"
	"github.com/cellward/cellward/agent/policy"
	"github.com/cellward/cellward/agent/station"
	"github.com/cellward/cellward/crypto/secretmem"
)

// What a party does, in partyVariable.
const (
	partyEnroll = "enroll"
	partyAccept = "accept"
	// partyLeak keeps, against all rules, what it is given.
	partyLeak = "leak"
)

// party is the process that agrees an epoch, by the product's own code, and stays when it is done: arguments are the two
// documents, the message, and for a node its name, its state folder and its TPM, if it has one. It prints what it has made and
// waits for the end of its standard input.
func party(role string, args []string) error {
	if err := agent.Harden(); err != nil {
		return err
	}
	if err := agent.LockMemory(); err != nil {
		return err
	}
	if role == partyLeak {
		b, err := hex.DecodeString(args[0])
		if err != nil {
			return err
		}
		for i := range b {
			b[i] ^= 0x5A // the text in the arguments is not what is looked for
		}
		secretmem.Collect()
		return stay("", func() { clear(b) })
	}
	out, err := agree(role, args)
	if err != nil {
		return err
	}
	secretmem.Collect()
	return stay(out, func() {})
}

func agree(role string, args []string) (string, error) {
	ctx := context.Background()
	set, err := policy.Load(args[0], args[1])
	if err != nil {
		return "", err
	}
	msg, err := os.ReadFile(args[2])
	if err != nil {
		return "", err
	}
	if role == partyAccept {
		_, err := keys.Accept(ctx, set, msg)
		return "", err
	}
	at := station.Options{Dir: args[4], Software: len(args) == 5}
	if !at.Software {
		at.TPM = args[5]
	}
	e, err := keys.Enroll(ctx, set, args[3], at, msg)
	if err != nil {
		return "", err
	}
	return hex.EncodeToString(e.Reply), nil
}

// stay says out and ends with standard input.
func stay(out string, end func()) error {
	if _, err := fmt.Println("done", out); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, os.Stdin)
	end()
	return err
}

// waiting is a party that has done its work.
type waiting struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.Closer
	out string
}

// newParty starts a party and waits until it is done.
func newParty(t *testing.T, role string, args ...string) *waiting {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), partyVariable+"="+role)
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
		t.Fatalf("party %s says %q, %v", role, line, err)
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
