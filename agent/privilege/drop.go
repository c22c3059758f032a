// SPDX-License-Identifier: Apache-2.0

package privilege

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

var (
	// ErrDrop says that rights could not be given up as wanted.
	ErrDrop = errors.New("rights could not be given up")
	// ErrNotRoot says that the process is neither root, who can become anybody, nor the user already.
	ErrNotRoot = errors.New("only root can become another user")
)

// secureBits are all of linux/securebits.h, locked, but for SECBIT_KEEP_CAPS, which is locked at zero: being root gives no
// capability, a change of user takes none, and no ambient capability can be raised.
const secureBits = 0xEF

// Drop makes every thread of the process run as user, with the capabilities of keep that it has now and no others, for good:
// nothing that it executes and no later change of user has more. A user of nil stays who it is. keep becomes both the permitted and
// the effective set; inheritable, ambient and bounding set are emptied.
//
// What was read back from the kernel afterwards is compared with what was wanted, thread by thread. After an error the process
// may have lost some rights already and should end.
func Drop(user *User, keep Capabilities) error {
	have, err := effective()
	if err != nil {
		return err
	}
	change := user != nil && (int(user.UID) != os.Geteuid() || int(user.GID) != os.Getegid())
	if change && os.Geteuid() != 0 {
		return fmt.Errorf("become user %s: %w", user, ErrNotRoot)
	}
	if err := allThreads("set no_new_privs", unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1); err != nil {
		return err
	}
	if err := allThreads("clear ambient capabilities", unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL); err != nil {
		return err
	}
	if have.Has(unix.CAP_SETPCAP) {
		if err := dropBounding(); err != nil {
			return err
		}
		if err := allThreads("lock securebits", unix.SYS_PRCTL, unix.PR_SET_SECUREBITS, secureBits); err != nil {
			return err
		}
	} else if change {
		return fmt.Errorf("become user %s: %w: CAP_SETPCAP is missing", user, ErrDrop)
	}
	if change || user != nil && os.Geteuid() == 0 {
		if err := become(user); err != nil {
			return err
		}
	}
	keep &= have
	if err := setCapabilities(keep); err != nil {
		return err
	}
	// A change of user makes a process dumpable as fs.suid_dumpable says, whatever it was.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("make process not dumpable: %w", err)
	}
	return verify(user, keep, have.Has(unix.CAP_SETPCAP))
}

// become changes groups, group and user, real, effective and saved, of all threads.
func become(u *User) error {
	groups := make([]int, 0, len(u.Groups))
	for _, g := range u.Groups {
		groups = append(groups, int(g))
	}
	uid, gid := int(u.UID), int(u.GID)
	if err := syscall.Setgroups(groups); err != nil {
		return fmt.Errorf("take groups of user %s: %w", u, err)
	}
	if err := syscall.Setresgid(gid, gid, gid); err != nil {
		return fmt.Errorf("take group of user %s: %w", u, err)
	}
	if err := syscall.Setresuid(uid, uid, uid); err != nil {
		return fmt.Errorf("become user %s: %w", u, err)
	}
	return nil
}

// dropBounding empties the bounding set; capabilities that this kernel does not know end it.
func dropBounding() error {
	for c := range uintptr(64) {
		switch have, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, c, 0, 0, 0); {
		case errors.Is(err, unix.EINVAL):
			return nil
		case err != nil:
			return fmt.Errorf("read bounding set: %w", err)
		case have == 0:
			continue
		}
		if err := allThreads("empty bounding set", unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, c); err != nil {
			return err
		}
	}
	return nil
}

func setCapabilities(keep Capabilities) error {
	head := &unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := &[2]unix.CapUserData{}
	for i := range data {
		word := uint32(keep >> (32 * i))
		data[i] = unix.CapUserData{Effective: word, Permitted: word}
	}
	err := allThreads("set capabilities", unix.SYS_CAPSET, uintptr(unsafe.Pointer(head)), uintptr(unsafe.Pointer(data)))
	runtime.KeepAlive(head)
	runtime.KeepAlive(data)
	return err
}

// allThreads makes a system call on every thread of the process: rights belong to threads, and Go moves goroutines between them.
func allThreads(what string, trap uintptr, a1, a2 uintptr) error {
	_, _, e := syscall.AllThreadsSyscall6(trap, a1, a2, 0, 0, 0, 0)
	switch {
	case e == 0:
		return nil
	case e == syscall.ENOTSUP:
		return fmt.Errorf("%s: %w: this program was built with cgo, whose threads cannot be reached", what, ErrDrop)
	default:
		return fmt.Errorf("%s: %w: %w", what, ErrDrop, e)
	}
}

// verify reads back what every thread has.
func verify(u *User, keep Capabilities, bounded bool) error {
	return settled(func(t Thread) error {
		var wrong []string
		if u != nil && (t.UID != [4]uint32{u.UID, u.UID, u.UID, u.UID} || t.GID != [4]uint32{u.GID, u.GID, u.GID, u.GID}) {
			wrong = append(wrong, fmt.Sprintf("user %v, group %v", t.UID, t.GID))
		}
		if u != nil && bounded && !slices.Equal(t.Groups, u.Groups) {
			wrong = append(wrong, fmt.Sprintf("groups %v, want %v", t.Groups, u.Groups))
		}
		if t.Permitted != keep || t.Effective != keep || t.Inheritable != 0 || t.Ambient != 0 || bounded && t.Bounding != 0 {
			wrong = append(wrong, fmt.Sprintf("capabilities %v, effective %v, inheritable %v, ambient %v, bounding %v; want %v", t.Permitted,
				t.Effective, t.Inheritable, t.Ambient, t.Bounding, keep))
		}
		if !t.NoNewPrivs {
			wrong = append(wrong, "new privileges can be had")
		}
		if len(wrong) > 0 {
			return fmt.Errorf("%w: thread %d has %s", ErrDrop, t.ID, strings.Join(wrong, "; "))
		}
		return nil
	})
}
