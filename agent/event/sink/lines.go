// SPDX-License-Identifier: Apache-2.0

package sink

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/cellward/cellward/agent/event"
	"github.com/cellward/cellward/agent/event/encode"
)

// Lines writes one line a record to w, such as standard output. A line that went out in part is completed by the next Write,
// so that a destination that was full never has a torn line in its middle.
type Lines struct {
	w      io.Writer
	encode encode.Encoding
	rest   []byte // of a line, its end included
	of     *event.Record
}

// NewLines makes a Lines. Close does not close w.
func NewLines(w io.Writer, e encode.Encoding) *Lines { return &Lines{w: w, encode: e} }

// Write implements Writer.
func (l *Lines) Write(r *event.Record) error {
	if l.of != r { // not the rest of a line that has begun
		l.rest, l.of = append(l.encode(l.rest[:0], r), '\n'), r
	}
	for len(l.rest) > 0 {
		n, err := l.w.Write(l.rest)
		l.rest = l.rest[min(max(n, 0), len(l.rest)):]
		if err == nil && n == 0 {
			err = io.ErrShortWrite
		}
		if err != nil && len(l.rest) > 0 {
			return fmt.Errorf("write event: %w", err)
		}
	}
	l.of = nil
	return nil
}

// Close implements Writer.
func (l *Lines) Close() error { return nil }

// File appends lines to a file. It begins a new one when the file was moved away, as logrotate does.
type File struct {
	path  string
	lines *Lines
	f     *os.File
	owner *[2]int // user and group of a file that root makes; nil: root's
}

// GiveTo makes the file, where root makes it, another user's: whom the process is about to become.
func (f *File) GiveTo(uid, gid int) { f.owner = &[2]int{uid, gid} }

// NewFile makes a File. The file is opened, and made with mode 0600, at the first Write.
func NewFile(path string, e encode.Encoding) *File {
	f := &File{path: path}
	f.lines = NewLines((*openFile)(f), e)
	return f
}

// Write implements Writer.
func (f *File) Write(r *event.Record) error {
	if err := f.open(); err != nil {
		return err
	}
	return f.lines.Write(r)
}

// open opens the file unless the open one still has the name. A line that has begun is completed where it began.
func (f *File) open() error {
	if f.f != nil {
		have, errHave := f.f.Stat()
		named, errNamed := os.Lstat(f.path)
		if errHave == nil && errNamed == nil && os.SameFile(have, named) || f.lines.of != nil {
			return nil
		}
		if errNamed != nil && !errors.Is(errNamed, fs.ErrNotExist) {
			return fmt.Errorf("look at event file: %w", errNamed)
		}
		err := f.f.Close()
		f.f = nil
		if err != nil {
			return fmt.Errorf("close event file: %w", err)
		}
	}
	// Not blocking, so that a FIFO in the file's place fails instead of waiting; no link, so that nobody leads us elsewhere.
	const flags = os.O_WRONLY | os.O_APPEND | os.O_CREATE | unix.O_NOFOLLOW | unix.O_NONBLOCK
	file, err := os.OpenFile(f.path, flags|os.O_EXCL, 0o600)
	if err == nil && f.owner != nil && os.Geteuid() == 0 {
		if err = file.Chown(f.owner[0], f.owner[1]); err != nil {
			err = errors.Join(err, file.Close())
		}
	} else if errors.Is(err, fs.ErrExist) {
		file, err = os.OpenFile(f.path, flags, 0o600)
	}
	if err != nil {
		return fmt.Errorf("open event file: %w", err)
	}
	f.f = file
	return nil
}

// openFile is the side of a File to which its Lines write: whichever file is open.
type openFile File

// Write implements io.Writer.
func (o *openFile) Write(b []byte) (int, error) { return o.f.Write(b) }

// Close implements Writer.
func (f *File) Close() error {
	if f.f == nil {
		return nil
	}
	err := f.f.Close()
	f.f = nil
	return err
}
