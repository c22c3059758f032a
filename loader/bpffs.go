// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// bpffsStandard is where bpffs is mounted by convention; the kernel makes the folder.
const bpffsStandard = "/sys/fs/bpf"

// ensureRoot makes root a folder in a bpffs, mode 0700, mounting one if there is none: at /sys/fs/bpf if
// root lies under it, else at root itself.
func ensureRoot(root string) error {
	if strings.ContainsRune(filepath.Base(root), '.') {
		// The kernel keeps dots in names for itself and says only EPERM.
		return fmt.Errorf("bpffs folder %s: the last name must not contain a dot", root)
	}
	on, err := onBPFFS(root)
	if err != nil {
		return err
	}
	if !on {
		at := root
		if rel, err := filepath.Rel(bpffsStandard, root); err == nil && filepath.IsLocal(rel) {
			at = bpffsStandard
		}
		if err := os.MkdirAll(at, 0o700); err != nil {
			return fmt.Errorf("make mount point for bpffs: %w", err)
		}
		if err := unix.Mount("bpf", at, "bpf", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0700"); err != nil {
			return fmt.Errorf("mount bpffs at %s: %w", at, err)
		}
	}
	if err := os.MkdirAll(root, 0o700); err != nil {
		return fmt.Errorf("make bpffs folder: %w", err)
	}
	return nil
}

// onBPFFS reports whether path, or the nearest folder above it that exists, lies in a bpffs.
func onBPFFS(path string) (bool, error) {
	for {
		var st unix.Statfs_t
		err := unix.Statfs(path, &st)
		switch {
		case err == nil:
			return int64(st.Type) == unix.BPF_FS_MAGIC, nil
		case !errors.Is(err, unix.ENOENT) || path == "/" || path == ".":
			return false, fmt.Errorf("stat file system of %s: %w", path, err)
		}
		path = filepath.Dir(path)
	}
}

// NewBPFFS makes a bpffs that is mounted nowhere: only holders of the returned file see it, as
// /proc/self/fd/N, and it ends with the last of them and their pins. A child process that inherits the file
// sees the same bpffs.
func NewBPFFS() (*os.File, error) {
	fs, err := unix.Fsopen("bpf", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("open bpffs: %w", err)
	}
	defer unix.Close(fs)
	if err := unix.FsconfigCreate(fs); err != nil {
		return nil, fmt.Errorf("create bpffs: %w", err)
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("mount bpffs: %w", err)
	}
	return os.NewFile(uintptr(fd), "bpffs"), nil
}

// lockFolder takes an exclusive lock on a folder, waiting for whoever has it; the lock ends with the
// process. Two processes that open or attach at the same time must do so one after the other.
func lockFolder(path string) (unlock func(), err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("lock bpffs folder: %w", err)
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock bpffs folder %s: %w", path, err), f.Close())
	}
	return func() { _ = f.Close() }, nil
}

// tmpPrefix begins the name of a folder whose contents are not complete yet.
const tmpPrefix = "tmp_"

// removeStale removes what a process left that was killed while it pinned. Nobody has used it: folders get
// their final name only when they are complete. The caller holds the lock.
func removeStale(root string) error {
	names, err := os.ReadDir(root)
	if err != nil {
		return fmt.Errorf("list bpffs folder: %w", err)
	}
	for _, n := range names {
		if strings.HasPrefix(n.Name(), tmpPrefix) {
			// A tcx link ends with its pin, a filter at clsact must be removed.
			if err := detachClsact(filepath.Join(root, n.Name()), 0); err != nil {
				return fmt.Errorf("remove filter of stale pins: %w", err)
			}
			if err := os.RemoveAll(filepath.Join(root, n.Name())); err != nil {
				return fmt.Errorf("remove stale pins: %w", err)
			}
		}
	}
	return nil
}
