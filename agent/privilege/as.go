// SPDX-License-Identifier: Apache-2.0

package privilege

import (
	"fmt"
	"runtime"
	"slices"

	"golang.org/x/sys/unix"
)

// Access kinds for [User.Access]; see access(2).
const (
	Read   = unix.R_OK
	Write  = unix.W_OK
	Search = unix.X_OK
)

// Access says whether the user could open a path in the given ways (a sum of Read, Write and Search), all folders on the way
// included. Root may ask for anybody, everybody else for himself.
func (u *User) Access(path string, kind uint32) (err error) {
	ask := func() error {
		// The fourth argument makes the kernel look at the file system user, and not at the real one (faccessat2, Linux 5.8).
		err := unix.Faccessat2(unix.AT_FDCWD, path, kind, unix.AT_EACCESS)
		if err != nil {
			return fmt.Errorf("user %s cannot use %s: %w", u, path, err)
		}
		return nil
	}
	if unix.Geteuid() != 0 || u.UID == 0 {
		return ask()
	}
	done := make(chan error)
	go func() {
		// The file system user belongs to the thread alone: no other one sees it. A thread that could not be put back ends with its
		// goroutine.
		runtime.LockOSThread()
		restored, err := u.asFileUser(ask)
		if restored {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

// asFileUser calls f while files are judged by the user's rights: setfsuid(2) also takes from the thread the capabilities that
// override the rights of files.
func (u *User) asFileUser(f func() error) (restored bool, err error) {
	before, err := unix.Getgroups()
	if err != nil {
		return true, fmt.Errorf("read groups: %w", err)
	}
	if err := threadGroups(u.Groups); err != nil {
		return true, fmt.Errorf("take groups of user %s: %w", u, err)
	}
	gid, gerr := unix.SetfsgidRetGid(int(u.GID))
	uid, uerr := unix.SetfsuidRetUid(int(u.UID))
	if gerr == nil && uerr == nil {
		err = f()
	} else {
		err = fmt.Errorf("take file rights of user %s: %w", u, unix.EPERM)
	}
	_, uerr = unix.SetfsuidRetUid(uid)
	_, gerr = unix.SetfsgidRetGid(gid)
	own := make([]uint32, 0, len(before))
	for _, g := range before {
		own = append(own, uint32(g))
	}
	now, _ := unix.SetfsuidRetUid(-1) // no user: it only tells
	return threadGroups(slices.Clip(own)) == nil && uerr == nil && gerr == nil && now == uid, err
}
