// SPDX-License-Identifier: Apache-2.0

package sink

import (
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cellward/cellward/agent/event"
	"github.com/cellward/cellward/agent/event/encode"
)

// JournalSocket is where systemd's journal takes entries in its native protocol.
const JournalSocket = "/run/systemd/journal/socket"

// Journal sends entries to a journal: one a datagram, and those that are too long for one as a sealed memfd.
type Journal struct {
	path string
	conn *net.UnixConn
	buf  []byte
}

// NewJournal makes a Journal. "" is JournalSocket.
func NewJournal(path string) *Journal {
	if path == "" {
		path = JournalSocket
	}
	return &Journal{path: path}
}

// Write implements Writer.
func (j *Journal) Write(r *event.Record) error {
	j.buf = encode.Journal(j.buf[:0], r)
	return j.send(j.buf)
}

func (j *Journal) send(entry []byte) error {
	if j.conn == nil {
		conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: j.path, Net: "unixgram"})
		if err != nil {
			return fmt.Errorf("connect to journal: %w", err)
		}
		j.conn = conn
	}
	err := j.conn.SetWriteDeadline(time.Now().Add(DefaultTimeout))
	if err == nil {
		_, err = j.conn.Write(entry)
	}
	if errors.Is(err, unix.EMSGSIZE) || errors.Is(err, unix.ENOBUFS) {
		err = j.sendFile(entry)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("send to journal: %w", err), j.Close())
	}
	return nil
}

// sendFile hands an entry over as a memfd. The journal takes only one that nobody can change any more.
func (j *Journal) sendFile(entry []byte) (err error) {
	fd, err := unix.MemfdCreate("cellward-journal-entry", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return fmt.Errorf("make memfd: %w", err)
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	for rest := entry; len(rest) > 0; {
		n, err := unix.Write(fd, rest)
		if err != nil {
			return fmt.Errorf("write memfd: %w", err)
		}
		rest = rest[n:]
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE|unix.F_SEAL_SEAL); err != nil {
		return fmt.Errorf("seal memfd: %w", err)
	}
	raw, err := j.conn.SyscallConn()
	if err != nil {
		return err
	}
	// Without any byte of data: the descriptor is the entry. (UnixConn.WriteMsgUnix refuses connected datagram sockets.)
	var sent error
	err = raw.Write(func(socket uintptr) bool {
		sent = unix.Sendmsg(int(socket), nil, unix.UnixRights(fd), nil, 0)
		return !errors.Is(sent, unix.EAGAIN)
	})
	return errors.Join(err, sent)
}

// Close implements Writer.
func (j *Journal) Close() error {
	if j.conn == nil {
		return nil
	}
	err := j.conn.Close()
	j.conn = nil
	return err
}
