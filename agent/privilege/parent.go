// SPDX-License-Identifier: Apache-2.0

package privilege

import (
	"context"
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ErrOrphan says that the process that this one was to end with has ended.
var ErrOrphan = errors.New("parent process has ended")

// parentKey finds a parentDeath in a context.
type parentKey struct{}

// parentDeath is what the parent has asked for with PR_SET_PDEATHSIG, and who it is.
type parentDeath struct{ signal, parent int }

// WithParentDeath notes in a context the signal that the kernel sends when the parent ends. It belongs to the first thread, so main
// calls it first of all: on any other thread it finds none.
func WithParentDeath(ctx context.Context) context.Context {
	var signal int32
	if unix.Gettid() != os.Getpid() {
		return ctx
	}
	if _, _, e := unix.RawSyscall(unix.SYS_PRCTL, unix.PR_GET_PDEATHSIG, uintptr(unsafe.Pointer(&signal)), 0); e != 0 || signal == 0 {
		return ctx
	}
	return context.WithValue(ctx, parentKey{}, parentDeath{int(signal), os.Getppid()})
}

// KeepParentDeath asks anew, after a Drop, for what WithParentDeath has noted: the kernel forgets it with every change of rights. It
// does nothing where nothing was noted.
func KeepParentDeath(ctx context.Context) error {
	d, ok := ctx.Value(parentKey{}).(parentDeath)
	if !ok {
		return nil
	}
	if err := allThreads("ask for the parent's death signal", unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(d.signal)); err != nil {
		return err
	}
	if now := os.Getppid(); now != d.parent { // it ended in between, and no signal comes
		return fmt.Errorf("%w: process %d", ErrOrphan, d.parent)
	}
	return nil
}
