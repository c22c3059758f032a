// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Check says what OpenDirOf, or a vault in the folder, would refuse: errors that wrap ErrUnsafe, one for each name at fault. It
// changes nothing and takes no lock. The second result is an error that kept it from looking.
func Check(path string, owner uint32) (faults []error, err error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, fmt.Errorf("open state folder: %w", err)
	}
	defer root.Close()
	d := &Dir{root: root, path: path, owner: owner}
	names, err := d.List()
	if err != nil {
		return nil, err
	}
	for _, name := range append([]string{"."}, names...) {
		err := d.check(name)
		switch {
		case err == nil, errors.Is(err, fs.ErrNotExist): // removed meanwhile
		case errors.Is(err, ErrUnsafe):
			faults = append(faults, err)
		default:
			return faults, err
		}
	}
	return faults, nil
}

// InUse reports whether a process works with the folder. It tries for a shared lock, which it gives back at once: there is
// no way to ask, and a process that wants the folder in just this instant is told that it is in use.
func InUse(path string) (bool, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return false, fmt.Errorf("open state folder: %w", err)
	}
	defer root.Close()
	f, err := root.OpenFile(lockName, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // nobody has ever worked with it
	}
	if err != nil {
		return false, fmt.Errorf("open lock of state folder: %w", err)
	}
	defer f.Close()
	err = unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("try lock of state folder: %w", err)
	}
	return false, nil
}
