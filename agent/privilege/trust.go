// SPDX-License-Identifier: Apache-2.0

package privilege

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// ErrUntrusted says that somebody who is not trusted could change what is relied on.
var ErrUntrusted = errors.New("may be changed by others")

// maxLinks is how many symbolic links one path may go through, as the kernel has it (MAXSYMLINKS of include/linux/namei.h).
const maxLinks = 40

// Untrusted is a place that somebody else may change. It wraps ErrUntrusted.
type Untrusted struct {
	Path  string // what was to be relied on
	Where string // the place at fault: Path itself, a folder above it, or one on the way to what it links to
	Why   string
	Help  string // the one command that helps
	Owner bool   // it belongs to the wrong user
}

// Error implements error.
func (u *Untrusted) Error() string {
	what := u.Path
	if u.Where != u.Path {
		what += ": " + u.Where
	}
	return fmt.Sprintf("%s %v: %s; run `%s`", what, ErrUntrusted, u.Why, u.Help)
}

// What says what is at fault, without the command that helps.
func (u *Untrusted) What() string { return fmt.Sprintf("%s %v: %s", u.Where, ErrUntrusted, u.Why) }

// Unwrap returns ErrUntrusted.
func (u *Untrusted) Unwrap() error { return ErrUntrusted }

// CheckTrust follows path from the root of the file system, symbolic links included, and returns an [Untrusted] error for the first
// place that somebody else than root and the users in trusted owns or may write: who can write a folder can put something else in
// the place of what is in it. Folders with the sticky bit keep that to the owners of what is in them, so /tmp may lie on the way. A
// path that does not exist, or cannot be looked at, is another error.
func CheckTrust(path string, trusted ...uint32) error {
	abs, err := filepath.Abs(path)
	if err != nil {
		return fmt.Errorf("resolve %s: %w", path, err)
	}
	c := &trustCheck{path: path, trusted: append([]uint32{0}, trusted...)}
	return c.walk(abs)
}

type trustCheck struct {
	path    string
	trusted []uint32
	links   int
}

// walk looks at every place from the root down to path.
func (c *trustCheck) walk(path string) error {
	at := "/"
	if err := c.look(at, path == at); err != nil {
		return err
	}
	rest := strings.Split(strings.Trim(path, "/"), "/")
	for i, name := range rest {
		if name == "" {
			continue
		}
		at = filepath.Join(at, name)
		st, err := os.Lstat(at)
		if err != nil {
			return fmt.Errorf("look at %s: %w", c.path, err)
		}
		last := i == len(rest)-1
		if st.Mode()&fs.ModeSymlink != 0 {
			to, magic, err := target(at)
			if err != nil {
				return fmt.Errorf("look at %s: %w", c.path, err)
			}
			if !magic {
				if err := c.judge(at, st, true); err != nil {
					return err
				}
				if c.links++; c.links > maxLinks {
					return fmt.Errorf("look at %s: %w", c.path, syscall.ELOOP)
				}
				return c.walk(filepath.Join(append([]string{to}, rest[i+1:]...)...))
			}
		}
		if err := c.look(at, last); err != nil {
			return err
		}
	}
	return nil
}

// target returns where a link leads, as an absolute path. magic says that it is one of /proc/PID/fd, whose text names no place: the
// kernel leads to the object itself, and nobody can point it elsewhere.
func target(link string) (to string, magic bool, err error) {
	if to, err = os.Readlink(link); err != nil {
		return "", false, err
	}
	if !filepath.IsAbs(to) {
		to = filepath.Join(filepath.Dir(link), to)
	}
	if !strings.HasPrefix(link, "/proc/") {
		return to, false, nil
	}
	is, err := os.Stat(link)
	if err != nil {
		return "", false, err
	}
	was, err := os.Stat(to)
	return to, err != nil || !os.SameFile(is, was), nil
}

func (c *trustCheck) look(at string, last bool) error {
	st, err := os.Stat(at)
	if err != nil {
		return fmt.Errorf("look at %s: %w", c.path, err)
	}
	return c.judge(at, st, last)
}

func (c *trustCheck) judge(at string, st fs.FileInfo, last bool) error {
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("look at %s: %w", at, errors.ErrUnsupported)
	}
	if !slices.Contains(c.trusted, sys.Uid) {
		return &Untrusted{Path: c.path, Where: at, Why: fmt.Sprintf("it belongs to user %d", sys.Uid), Help: "chown root " + at, Owner: true}
	}
	if st.Mode()&fs.ModeSymlink != 0 {
		return nil // its mode means nothing
	}
	perm := st.Mode().Perm()
	if perm&0o022 == 0 || !last && st.IsDir() && st.Mode()&fs.ModeSticky != 0 {
		return nil
	}
	who := "its group"
	if perm&0o002 != 0 {
		who = "everybody"
	}
	return &Untrusted{Path: c.path, Where: at, Why: fmt.Sprintf("%s may write it (mode %04o)", who, perm), Help: "chmod go-w " + at}
}
