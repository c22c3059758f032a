// SPDX-License-Identifier: Apache-2.0

//go:build linux && !race

package aead

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cellward/cellward/crypto/aead/internal/registers"
	"github.com/cellward/cellward/crypto/secretmem"
)

// copies counts where in the memory of this process a value lies, which is given with all its bits the other way round. It is not for
// memory that changes: what it reads it puts into a buffer that is cleared again.
func copies(t *testing.T, inverted [16]byte) (n int) {
	t.Helper()
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	mem, err := os.Open("/proc/self/mem")
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	buf := make([]byte, 1<<20)
	for line := range strings.Lines(string(maps)) {
		var from, to uint64
		var mode string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &mode); err != nil || !strings.HasPrefix(mode, "rw") {
			continue
		}
		for at := from; at < to; at += uint64(len(buf)) {
			k, _ := mem.ReadAt(buf[:min(uint64(len(buf)), to-at)], int64(at)) // what cannot be read holds nothing for this test
			for i := range k {
				buf[i] ^= 0xff
			}
			n += bytes.Count(buf[:k], inverted[:])
			clear(buf)
		}
	}
	return n
}

// TestSignalFrames stops a thread with a signal while a value is in one of its registers. The kernel stores that with the others, it stays
// when the register is cleared, and Collect overwrites it.
func TestSignalFrames(t *testing.T) {
	var value, inverted [16]byte
	if _, err := rand.Read(inverted[:]); err != nil {
		t.Fatal(err)
	}
	for i, b := range inverted {
		value[i] = ^b
	}
	// The collector sends signals too, which would be stored over this one.
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	sent, leave, done := make(chan int), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		sent <- registers.SignalX(&value, unix.Getpid(), unix.Gettid(), int(unix.SIGURG))
		<-leave // the thread stays, and with it its signal stack
	}()
	errno := <-sent
	defer func() {
		close(leave)
		<-done
	}()
	if errno != 0 {
		t.Fatal(unix.Errno(errno))
	}
	clear(value[:])
	if n := copies(t, inverted); n == 0 {
		t.Fatal("the signal has left nothing behind, so there is nothing to see here")
	}
	secretmem.Collect()
	if n := copies(t, inverted); n != 0 {
		t.Errorf("%d copies are left", n)
	}
}
