// SPDX-License-Identifier: Apache-2.0

package secretmem

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// overwriteSignalStacks sends SIGURG, with which the Go runtime stops goroutines and which it takes at any time, to every thread of the
// process. Where a signal has stopped a thread in the middle of its work the kernel has stored the registers on the thread's signal stack
// (signal(7), arch/x86/kernel/signal.c), and there they stay until the next one. That can be long, and what a cipher worked with
// was in them. The caller has ended the use of whatever is to be gone: what a thread works with now is stored in its place.
//
// It returns when the signals have been taken, or after a second: a thread that the kernel holds up takes its own when it goes on, before
// anything else.
func overwriteSignalStacks() {
	entries, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return // no /proc: then nobody reads this process through it, either
	}
	sent := make([]string, 0, len(entries))
	for _, e := range entries {
		tid, err := strconv.Atoi(e.Name())
		if err == nil && unix.Tgkill(unix.Getpid(), tid, unix.SIGURG) == nil {
			sent = append(sent, e.Name())
		}
	}
	for deadline := time.Now().Add(time.Second); len(sent) > 0 && time.Now().Before(deadline); {
		if pending(sent[len(sent)-1]) {
			time.Sleep(100 * time.Microsecond)
			continue
		}
		sent = sent[:len(sent)-1]
	}
}

// pending reports whether SIGURG still waits to be taken by a thread.
func pending(tid string) bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%s/status", tid))
	if err != nil {
		return false // it has ended
	}
	_, rest, ok := bytes.Cut(status, []byte("\nSigPnd:\t"))
	if !ok {
		return false
	}
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	set, err := strconv.ParseUint(string(line), 16, 64)
	return err == nil && set>>(unix.SIGURG-1)&1 == 1
}
