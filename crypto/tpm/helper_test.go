// SPDX-License-Identifier: Apache-2.0

package tpm

import (
	"context"
	"encoding/binary"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/cellward/cellward/crypto/tpm/swtpm"
)

// emulator runs a fresh swtpm until the test ends.
func emulator(tb testing.TB) *swtpm.Process {
	tb.Helper()
	return emulatorIn(tb, tb.TempDir())
}

func emulatorIn(tb testing.TB, dir string) *swtpm.Process {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	p, err := swtpm.Start(ctx, dir)
	if err != nil {
		tb.Fatalf("start a TPM emulator: %v", err)
	}
	tb.Cleanup(func() { _ = p.Stop() })
	return p
}

func openAt(tb testing.TB, p *swtpm.Process, opts Options) *TPM {
	tb.Helper()
	t, err := Open(context.Background(), "unix:"+p.Socket, opts)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = t.Close() })
	return t
}

func fresh(tb testing.TB) *TPM {
	tb.Helper()
	return openAt(tb, emulator(tb), Options{})
}

// wantError fails unless err is target and an *Error.
func wantError(tb testing.TB, err, target error) {
	tb.Helper()
	if !errors.Is(err, target) {
		tb.Fatalf("got %v, want %v", err, target)
	}
	var e *Error
	if !errors.As(err, &e) || e.Op == "" {
		tb.Fatalf("%v names no operation", err)
	}
}

// wantNoHandles fails if the TPM holds a transient object or a session.
func wantNoHandles(tb testing.TB, t *TPM) {
	tb.Helper()
	objects, sessions, err := t.Handles(context.Background())
	if err != nil {
		tb.Fatal(err)
	}
	if len(objects)+len(sessions) != 0 {
		tb.Fatalf("handles left behind: objects %#x, sessions %#x", objects, sessions)
	}
}

// tap is a link that lets a test see and change what goes over it.
type tap struct {
	link
	mu sync.Mutex
	// before sees each command; it returns the command to send, or a
	// response to give without sending.
	before func(command []byte) (send, answer []byte, err error)
	// after sees each response and returns the one to give.
	after func(command, response []byte) ([]byte, error)
}

func (l *tap) set(before func([]byte) ([]byte, []byte, error), after func(c, r []byte) ([]byte, error)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.before, l.after = before, after
}

func (l *tap) exchange(command []byte) ([]byte, error) {
	l.mu.Lock()
	before, after := l.before, l.after
	l.mu.Unlock()
	send := command
	if before != nil {
		var answer []byte
		var err error
		if send, answer, err = before(command); answer != nil || err != nil {
			return answer, err
		}
	}
	response, err := l.link.exchange(send)
	if err == nil && after != nil {
		return after(command, response)
	}
	return response, err
}

// tapped opens an emulator through a tap.
func tapped(tb testing.TB, p *swtpm.Process, opts Options) (*TPM, *tap) {
	tb.Helper()
	opts.setDefaults()
	inner, err := openLink("unix:"+p.Socket, opts.CommandTimeout)
	if err != nil {
		tb.Fatal(err)
	}
	l := &tap{link: inner}
	t, err := open(context.Background(), l, opts)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = t.Close() })
	return t, l
}

func commandOf(command []byte) uint32 { return binary.BigEndian.Uint32(command[6:]) }

// refuse is a response that consists of a code.
func refuse(rc uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte{0x80, 0x01, 0, 0, 0, 10}, rc)
}

// raw gives fn the bus itself, past the API and past the cleaning up, as other
// software on the machine would use it. The emulator serves nobody else
// meanwhile.
func raw(tb testing.TB, p *swtpm.Process, fn func(*bus)) {
	tb.Helper()
	l, err := openLink("unix:"+p.Socket, 10*time.Second)
	if err != nil {
		tb.Fatal(err)
	}
	if err := l.begin(); err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = l.close() }()
	fn(&bus{link: rawLink{l}, sleep: time.Sleep})
}

// rawLink keeps the bus from sweeping.
type rawLink struct{ link }

func (rawLink) managed() bool { return true }

func must[T any](v T, err error) func(testing.TB) T {
	return func(tb testing.TB) T {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		return v
	}
}

func rcIs(err error, rc tpm2.TPMRC) bool {
	var e *Error
	return errors.As(err, &e) && tpm2.TPMRC(e.RC).Is(rc)
}
