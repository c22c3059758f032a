// SPDX-License-Identifier: Apache-2.0

//go:build !goexperiment.runtimesecret || !(amd64 || arm64)

package secretmem

import "golang.org/x/sys/unix"

// overwriteSignalStack sends the calling thread the signal with which the Go runtime stops goroutines, which it takes at any
// time. The kernel stores the registers, now cleared, where it has stored those of an earlier moment.
func overwriteSignalStack() { _ = unix.Tgkill(unix.Getpid(), unix.Gettid(), unix.SIGURG) }
