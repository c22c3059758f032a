// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// Give makes the folders of the pins, and what is pinned, another user's, so that this set can go on pinning after the process has
// become that user. From then on the set finds its folder by a descriptor: the way to it may lead through folders that the user
// cannot search. Close closes that.
func (s *Set) Give(uid, gid uint32) error {
	unlock, err := lockFolder(s.root)
	if err != nil {
		return err
	}
	defer unlock()
	folders := []string{s.root, s.path(mapsFolder)}
	for _, b := range s.buses {
		folders = append(folders, s.path(busPrefix+strconv.Itoa(int(b.slot))))
	}
	former, err := formerFolders(s.root)
	if err != nil {
		return err
	}
	for _, name := range former {
		inside, err := filepath.Glob(s.path(name, "*"))
		if err != nil {
			return fmt.Errorf("list former pins: %w", err)
		}
		folders = append(append(folders, s.path(name)), inside...)
	}
	for _, dir := range folders {
		names, err := os.ReadDir(dir)
		if err != nil {
			return fmt.Errorf("list pins: %w", err)
		}
		for _, n := range names {
			// Folders of buses that this set does not have stay as they are.
			if n.IsDir() {
				continue
			}
			if err := os.Lchown(filepath.Join(dir, n.Name()), int(uid), int(gid)); err != nil {
				return fmt.Errorf("give pin %s to user %d: %w", n.Name(), uid, err)
			}
		}
		// The root may end in a link of /proc/PID/fd, and is not to be taken for the link.
		if err := os.Chown(dir, int(uid), int(gid)); err != nil {
			return fmt.Errorf("give folder of pins to user %d: %w", uid, err)
		}
	}
	fd, err := unix.Open(s.root, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open folder of pins: %w", err)
	}
	s.folder = os.NewFile(uintptr(fd), s.root)
	s.root = fmt.Sprintf("/proc/self/fd/%d", fd)
	return nil
}

// closeFolder closes what Give has opened.
func (s *Set) closeFolder() error {
	if s.folder == nil {
		return nil
	}
	if err := s.folder.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("close folder of pins: %w", err)
	}
	return nil
}
