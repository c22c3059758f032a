// SPDX-License-Identifier: Apache-2.0

package chain

import (
	"bytes"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	filePrefix = "events-"
	fileSuffix = ".log"
	fileDigits = 8
	lockName   = "lock"
)

// fileName returns the name of a segment. Names sort in the order of numbers.
func fileName(segment uint64) string {
	return fmt.Sprintf("%s%0*d%s", filePrefix, fileDigits, segment, fileSuffix)
}

// segmentNumber reads the name of a segment.
func segmentNumber(name string) (uint64, bool) {
	digits := strings.TrimSuffix(strings.TrimPrefix(name, filePrefix), fileSuffix)
	n, err := strconv.ParseUint(digits, 10, 63)
	return n, err == nil && fileName(n) == name
}

// segment is what is known of a file of the log.
type segment struct {
	number      uint64
	size        int64
	first, last uint64 // sequence numbers; 0 if it could not be read
	hash        Hash   // of the last line
}

// scan is what a file holds up to the first line that does not continue the chain.
type scan struct {
	header bodySegment
	log    [16]byte
	first  uint64 // sequence number of the header
	last   line
	good   int // bytes up to the end of the last good line; 0 if not even the header is good
	since  int // event lines behind the last head
}

// scanSegment follows the chain from the header on, and behind bytes for which a later line accounts.
func scanSegment(data []byte) (s scan) {
	for s.good < len(data) {
		end := bytes.IndexByte(data[s.good:], '\n')
		if end < 0 {
			return s
		}
		l, err := parseLine(data[s.good : s.good+end])
		if s.good == 0 {
			if err != nil {
				return s
			}
			if s.header, s.log, err = parseHeader(l); err != nil {
				return s
			}
			s.first = l.seq
		} else if err != nil || l.prev != s.last.hash || l.seq != s.last.seq+1 && l.kind != typeCut {
			var skipped int
			if l, skipped = accounted(data[s.good:], s.last); skipped == 0 {
				return s
			}
			end = skipped
		}
		s.since++
		if l.kind == typeHead {
			s.since = 0
		}
		s.last, s.good = l, s.good+end+1
	}
	return s
}

// accounted finds the line that accounts for the bytes between the line last and itself, and where it ends.
func accounted(data []byte, last line) (torn line, end int) {
	for text := range bytes.Lines(data) {
		start := end
		end += len(text)
		body, whole := bytes.CutSuffix(text, []byte("\n"))
		l, err := parseLine(body)
		if err != nil || !whole || l.kind != typeTorn || l.prev != last.hash || l.seq != last.seq+1 {
			continue
		}
		var b bodyTorn
		if unmarshal(l.body, &b) == nil && b.covers(data[:start]) {
			return l, end - 1
		}
	}
	return line{}, 0
}

// covers says whether the bytes in front of the line are those that it was written about. A line end may have been put behind them.
func (b bodyTorn) covers(region []byte) bool {
	if b.Bytes == len(region)-1 && bytes.HasSuffix(region, []byte("\n")) {
		region = region[:b.Bytes]
	}
	return b.Bytes == len(region) && b.SHA384 == sum(region)
}

// parseHeader reads the first line of a file.
func parseHeader(l line) (h bodySegment, log [16]byte, err error) {
	if l.kind != typeSegment {
		return h, log, fmt.Errorf("%w: the first line is no header", ErrLine)
	}
	if err := unmarshal(l.body, &h); err != nil {
		return h, log, err
	}
	if h.Version != 1 || len(h.Log) != 2*len(log) {
		return h, log, fmt.Errorf("%w: version %d of the header", ErrLine, h.Version)
	}
	if _, err := hex.Decode(log[:], []byte(h.Log)); err != nil {
		return h, log, fmt.Errorf("%w: header: %w", ErrLine, err)
	}
	return h, log, nil
}

// folder is the folder of a log that this process alone writes.
type folder struct {
	root *os.Root
	lock *os.File
	path string
}

var (
	// ErrLocked says that another process writes the log.
	ErrLocked = errors.New("event log is in use by another process")
	// ErrUnsafe says that others than this user and root could write the log.
	ErrUnsafe = errors.New("folder of the event log is not safe")
)

// openFolder opens a folder, makes it with mode 0700 if it is missing, and locks it.
func openFolder(path string) (*folder, error) {
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make folder of event log: %w", err)
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, fmt.Errorf("open folder of event log: %w", err)
	}
	d := &folder{root: root, path: path}
	st, err := root.Stat(".")
	if err == nil && st.Mode().Perm()&0o022 != 0 {
		err = fmt.Errorf("%w: %s may be written by others (mode %v)", ErrUnsafe, path, st.Mode().Perm())
	}
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	d.lock, err = root.OpenFile(lockName, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open lock of event log: %w", err), root.Close())
	}
	if err := unix.Flock(int(d.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = fmt.Errorf("%w: %s", ErrLocked, path)
		}
		return nil, errors.Join(err, d.close())
	}
	return d, nil
}

func (d *folder) close() error { return errors.Join(d.lock.Close(), d.root.Close()) }

// sync makes the names in the folder durable.
func (d *folder) sync() error {
	f, err := d.root.Open(".")
	if err != nil {
		return fmt.Errorf("open folder of event log: %w", err)
	}
	if err := f.Sync(); err != nil {
		return errors.Join(fmt.Errorf("sync folder of event log: %w", err), f.Close())
	}
	return f.Close()
}

// segments lists the files of the log, ascending.
func (d *folder) segments() ([]segment, error) {
	f, err := d.root.Open(".")
	if err != nil {
		return nil, fmt.Errorf("open folder of event log: %w", err)
	}
	entries, err := f.ReadDir(-1)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("list folder of event log: %w", err)
	}
	var all []segment
	for _, e := range entries {
		if n, ok := segmentNumber(e.Name()); ok {
			st, err := e.Info()
			if err != nil {
				return nil, fmt.Errorf("look at event log: %w", err)
			}
			all = append(all, segment{number: n, size: st.Size()})
		}
	}
	slices.SortFunc(all, func(a, b segment) int {
		if a.number < b.number {
			return -1
		}
		return 1
	})
	return all, nil
}

// maxSegment bounds what is read of a file.
const maxSegment = 256 << 20

// ErrTooLarge says that a file is longer than any segment.
var ErrTooLarge = errors.New("file of the event log is too large")

func (d *folder) read(segment uint64) ([]byte, error) {
	// Not blocking, so that a FIFO in the file's place is not waited for.
	f, err := d.root.OpenFile(fileName(segment), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open event log: %w", err)
	}
	data, err := readAll(f)
	return data, errors.Join(err, f.Close())
}

// readAll reads a file of bounded length.
func readAll(f *os.File) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(f, maxSegment+1))
	if err != nil {
		return nil, fmt.Errorf("read event log: %w", err)
	}
	if len(data) > maxSegment {
		return nil, fmt.Errorf("%w: %s", ErrTooLarge, f.Name())
	}
	return data, nil
}

// create makes a segment with its first line, whole and durable or not at all, and opens it for more.
func (d *folder) create(number uint64, first []byte) (*os.File, error) {
	name := fileName(number)
	tmp := name + ".tmp"
	f, err := d.root.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make event log: %w", err)
	}
	if _, err = f.Write(first); err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("write event log: %w", err)
	}
	if err := d.root.Rename(tmp, name); err != nil {
		return nil, fmt.Errorf("name event log: %w", err)
	}
	if err := d.sync(); err != nil {
		return nil, err
	}
	return d.append(number)
}

// append opens a segment for more lines.
func (d *folder) append(number uint64) (*os.File, error) {
	f, err := d.root.OpenFile(fileName(number), os.O_WRONLY|os.O_APPEND|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, fmt.Errorf("open event log: %w", err)
	}
	return f, nil
}

// sum names bytes in a line about them.
func sum(b []byte) string { return Hash(sha512.Sum384(b)).String() }
