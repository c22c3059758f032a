// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/cellward/cellward/agent/sockfile"
	"golang.org/x/sys/unix"
)

// A reader that follows need not come to the next ring: its connection is handed to the server of that ring, which sends the memory
// over it before anything is published there. From then on the memory is the reader's, however soon the next producer ends; and so on
// from ring to ring, however far behind the reader is.

// Followers returns the connections of the readers that go along to another server, at most that many (ServerConfig.Followers). They
// stay connected here as well until both ends of them are closed. The caller closes what it gets.
func (s *Server) Followers(most int) (files []*os.File, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn, c := range s.clients {
		if !c.follows || len(files) == most {
			continue
		}
		f, err := sockfile.Dup(conn, "reader of ring")
		if err != nil {
			for _, f := range files {
				_ = f.Close()
			}
			return nil, fmt.Errorf("hand over reader of ring: %w", err)
		}
		files = append(files, f)
	}
	return files, nil
}

// lead goes on with a reader that was another server's. One to which the ring cannot be sent is left to connect by itself.
func (s *Server) lead(f *os.File) {
	generic, err := net.FileConn(f)
	if err != nil {
		return
	}
	conn, ok := generic.(*net.UnixConn)
	if !ok || conn.LocalAddr().Network() != network {
		_ = generic.Close()
		return
	}
	if p, err := peerOf(conn); err != nil || !p.allowed(s.cfg.Group) {
		_ = conn.Close()
		return
	}
	s.mu.Lock()
	s.clients[conn] = &client{follows: true}
	s.mu.Unlock()
	s.producer.listeners.Add(1)
	if err := sendNow(conn, s.hello, unix.UnixRights(s.fd)); err != nil {
		s.drop(conn)
		return
	}
	s.attend(conn)
}

// sendNow sends a message without waiting for room: a reader that has left many rings unread may have none.
func sendNow(conn *net.UnixConn, b, rights []byte) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return fmt.Errorf("send ring: %w", err)
	}
	var inner error
	err = raw.Control(func(fd uintptr) {
		_, inner = unix.SendmsgN(int(fd), b, rights, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	})
	if err = errors.Join(err, inner); err != nil {
		return fmt.Errorf("send ring: %w", err)
	}
	return nil
}
