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

// stoppedWith stops a thread with a signal while a value is in one of its registers, and returns the value inverted. The thread stays until
// end is called, and with it its signal stack.
func stoppedWith(t *testing.T) (inverted [16]byte, end func()) {
	t.Helper()
	var value [16]byte
	if _, err := rand.Read(inverted[:]); err != nil {
		t.Fatal(err)
	}
	for i, b := range inverted {
		value[i] = ^b
	}
	sent, leave, done := make(chan int), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		sent <- registers.SignalX(&value, unix.Getpid(), unix.Gettid(), int(unix.SIGURG))
		<-leave
	}()
	if errno := <-sent; errno != 0 {
		t.Fatal(unix.Errno(errno))
	}
	clear(value[:])
	return inverted, func() {
		close(leave)
		<-done
	}
}

// TestSignalFrames has the kernel store a register with a signal. What it has stored stays when the register is cleared, and Collect
// overwrites it.
func TestSignalFrames(t *testing.T) {
	// The collector sends signals too, which would be stored over this one. So does the scheduler, to a thread that it takes for busy
	// because the system has stopped it for 10 ms: then there is nothing to see, and another thread is asked.
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	for range 100 {
		inverted, end := stoppedWith(t)
		if copies(t, inverted) == 0 {
			end()
			continue
		}
		secretmem.Collect()
		if n := copies(t, inverted); n != 0 {
			t.Errorf("%d copies are left", n)
		}
		end()
		return
	}
	t.Fatal("signals have left nothing behind, so there is nothing to see here")
}
