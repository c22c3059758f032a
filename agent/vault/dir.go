// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

var (
	// ErrLocked says that another process works with the folder.
	ErrLocked = errors.New("state folder is in use by another process")
	// ErrUnsafe says that somebody else could have written what is in the folder.
	ErrUnsafe = errors.New("state folder is not safe")
	// ErrTooLarge says that a file is longer than any state.
	ErrTooLarge = errors.New("state file is too large")
)

// lockName is the file that is locked while a process works with the folder.
const lockName = "lock"

// Storage is the I/O that a vault needs, and all of it.
type Storage interface {
	// ReadFile returns a whole file, fs.ErrNotExist if there is none.
	ReadFile(name string) ([]byte, error)
	// WriteFile makes or replaces a file and returns after its content is durable; its name may not be.
	WriteFile(name string, data []byte) error
	// Rename gives a file another name, in place of the file that had it.
	Rename(from, to string) error
	// Remove takes a file away.
	Remove(name string) error
	// Sync makes the names in the folder durable.
	Sync() error
}

// Dir is a state folder that this process alone works with. It is safe for concurrent use by one vault per name.
type Dir struct {
	root *os.Root
	lock *os.File
	path string
	// owner is trusted besides root and this user, and gets what root makes.
	owner uint32
}

var _ Lister = (*Dir)(nil)

// maxFile bounds what is read: a gateway of 4,096 streams has a state of less than 1 MiB.
const maxFile = 16 << 20

// OpenDir opens an existing folder, which must belong to this user (or root) and be writable to nobody else, and locks it.
func OpenDir(path string) (*Dir, error) { return OpenDirOf(path, 0) }

// OpenDirOf is OpenDir on a folder that belongs to the user owner, who is trusted like root. What root writes there is his.
func OpenDirOf(path string, owner uint32) (*Dir, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, fmt.Errorf("open state folder: %w", err)
	}
	d := &Dir{root: root, path: path, owner: owner}
	if err := d.check("."); err != nil {
		return nil, errors.Join(err, root.Close())
	}
	d.lock, err = d.create(lockName)
	if errors.Is(err, fs.ErrExist) {
		d.lock, err = root.OpenFile(lockName, os.O_RDWR|unix.O_NOFOLLOW, 0)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open lock of state folder: %w", err), root.Close())
	}
	if err := unix.Flock(int(d.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = fmt.Errorf("%w: %s", ErrLocked, path)
		} else {
			err = fmt.Errorf("lock state folder: %w", err)
		}
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// Path returns the folder's path as it was given.
func (d *Dir) Path() string { return d.path }

// Close unlocks the folder.
func (d *Dir) Close() error {
	var err error
	if d.lock != nil {
		err = d.lock.Close()
	}
	return errors.Join(err, d.root.Close())
}

// gives reports whether what this process makes is to be somebody else's.
func (d *Dir) gives() bool { return d.owner != 0 && os.Geteuid() == 0 }

// create makes a file that was not there and gives it to the owner of the folder. It must be new: who owns a folder can put a link to
// any file in the place of one of its own, and what root gives away there would be that file.
func (d *Dir) create(name string) (*os.File, error) {
	f, err := d.root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil || !d.gives() {
		return f, err
	}
	if err := f.Chown(int(d.owner), -1); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// check refuses what others than this user, the owner and root could have written, and anything that is neither file nor folder.
func (d *Dir) check(name string) error {
	st, err := d.root.Lstat(name)
	if err != nil {
		return fmt.Errorf("look at %s in %s: %w", name, d.path, err)
	}
	if !st.Mode().IsRegular() && !st.IsDir() {
		return fmt.Errorf("%w: %s in %s is neither a file nor a folder", ErrUnsafe, name, d.path)
	}
	// A file holds what nobody else needs to read; a folder may be listed.
	if st.Mode().IsRegular() && st.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%w: %s in %s is open to others (mode %v)", ErrUnsafe, name, d.path, st.Mode().Perm())
	}
	if st.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("%w: %s in %s may be written by others (mode %v)", ErrUnsafe, name, d.path, st.Mode().Perm())
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok && sys.Uid != 0 && sys.Uid != d.owner && int(sys.Uid) != os.Geteuid() {
		return fmt.Errorf("%w: %s in %s belongs to user %d", ErrUnsafe, name, d.path, sys.Uid)
	}
	return nil
}

// ReadFile implements Storage.
func (d *Dir) ReadFile(name string) ([]byte, error) {
	// Not blocking, so that a FIFO in the file's place is refused instead of waited for.
	f, err := d.root.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		return nil, fmt.Errorf("open %s in %s: %w", name, d.path, err)
	}
	defer f.Close()
	if err := d.check(name); err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read %s in %s: %w", name, d.path, err)
	}
	if len(b) > maxFile {
		return nil, fmt.Errorf("%w: %s in %s", ErrTooLarge, name, d.path)
	}
	return b, nil
}

// WriteFile implements Storage.
func (d *Dir) WriteFile(name string, data []byte) (err error) {
	// A file that root was about to give away when it was killed is root's: its place can be taken, and it cannot be written.
	if err := d.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("replace %s in %s: %w", name, d.path, err)
	}
	f, err := d.create(name)
	if err != nil {
		return fmt.Errorf("make %s in %s: %w", name, d.path, err)
	}
	defer func() {
		if cerr := f.Close(); cerr != nil && err == nil {
			err = fmt.Errorf("close %s in %s: %w", name, d.path, cerr)
		}
	}()
	if _, err := f.Write(data); err != nil {
		return fmt.Errorf("write %s in %s: %w", name, d.path, err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync %s in %s: %w", name, d.path, err)
	}
	return nil
}

// List implements Lister.
func (d *Dir) List() ([]string, error) {
	f, err := d.root.Open(".")
	if err != nil {
		return nil, fmt.Errorf("open state folder: %w", err)
	}
	names, err := f.Readdirnames(-1)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("list state folder %s: %w", d.path, err), f.Close())
	}
	return names, f.Close()
}

// Rename implements Storage.
func (d *Dir) Rename(from, to string) error {
	if err := d.root.Rename(from, to); err != nil {
		return fmt.Errorf("rename %s in %s: %w", from, d.path, err)
	}
	return nil
}

// Remove implements Storage.
func (d *Dir) Remove(name string) error {
	if err := d.root.Remove(name); err != nil {
		return fmt.Errorf("remove %s in %s: %w", name, d.path, err)
	}
	return nil
}

// Sync implements Storage.
func (d *Dir) Sync() error {
	f, err := d.root.Open(".")
	if err != nil {
		return fmt.Errorf("open state folder: %w", err)
	}
	if err := f.Sync(); err != nil {
		return errors.Join(fmt.Errorf("sync state folder %s: %w", d.path, err), f.Close())
	}
	return f.Close()
}

const temporary = ".tmp"

// IsTemporary reports whether a name is that of a file that Replace had not finished. Nobody reads it, and the next Replace takes
// its place, whosever it is.
func IsTemporary(name string) bool { return strings.HasSuffix(name, temporary) }

// Replace writes a file so that after a crash at any point its name stands for the old content or the new, whole.
func Replace(s Storage, name string, data []byte) error {
	tmp := name + temporary
	if err := s.WriteFile(tmp, data); err != nil {
		return err
	}
	if err := s.Rename(tmp, name); err != nil {
		return err
	}
	return s.Sync()
}
