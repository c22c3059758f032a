// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"sync"
	"time"

	"github.com/cellward/cellward/agent/sockfile"
	"golang.org/x/sys/unix"
)

// DefaultMaxClients bounds the readers of a ring.
const DefaultMaxClients = 64

// ServerConfig says where and to whom a ring is handed.
type ServerConfig struct {
	// Socket is the path of the Unix socket, at most 99 bytes. Empty: DefaultSocket. Its folder must exist and be
	// writable to this process alone: who can write there can put a socket of his own in its place.
	Socket string
	// Group is the id of the group whose members may read, besides root and this process's user. 0: nobody else.
	Group uint32
	// MaxClients bounds the readers that are connected at one time. 0: DefaultMaxClients.
	MaxClients int
	// Replace takes the socket over from a live server instead of returning ErrInUse.
	Replace bool
	// Listener is the listening socket of a server in another process, which has handed it over; nil: one is made. The socket stays
	// as it is, so that a reader that connects meanwhile is not refused. Serve takes it in any case.
	Listener *os.File
	// Followers are connections of such a server's readers, as its Followers returned them. They are sent the ring before Serve
	// returns, and so before anything is published in it. Serve takes them in any case.
	Followers []*os.File
}

// ServerStats counts connections.
type ServerStats struct {
	Clients      int    // connected now, and have been sent the ring
	Following    int    // of them, those that go along with it (Server.Followers)
	Served       uint64 // got the ring
	Unauthorized uint64 // were refused for their user and groups
	TooMany      uint64 // were refused for the bound on readers
}

// Server hands a ring to readers. It is safe for concurrent use.
//
// Who may read is decided twice, by the kernel both times. The socket file has mode 0660 and the configured group (0600
// without one), so that connect(2) already fails for everybody else, supplementary groups included; and each accepted
// connection's SO_PEERCRED and SO_PEERGROUPS are compared, in case the file's mode was loosened.
//
// A reader cannot hold the producer up. The server sends one small message into an empty socket buffer and never
// waits for a reader; connections are bounded and nothing is kept for one but a goroutine that waits for its end; a
// reader that sends anything but that it follows, once, is disconnected. The producer's goroutine shares nothing with the
// server but one counter.
type Server struct {
	producer *Producer
	cfg      ServerConfig
	fd       int    // read-only descriptor of the memory, the server's own
	hello    []byte // what goes with it
	listener *net.UnixListener
	file     fs.FileInfo // of the socket, to know it again

	mu      sync.Mutex
	clients map[*net.UnixConn]*client
	stats   ServerStats
	closed  bool
	wg      sync.WaitGroup
	accepts sync.WaitGroup
}

// client is a reader that is connected.
type client struct {
	served  bool // has been sent the ring
	follows bool
}

// Serve begins to hand the ring to readers. Close the server before the producer.
func Serve(p *Producer, cfg ServerConfig) (*Server, error) {
	if cfg.Socket == "" {
		cfg.Socket = DefaultSocket
	}
	if cfg.MaxClients <= 0 {
		cfg.MaxClients = DefaultMaxClients
	}
	if cfg.Listener != nil {
		defer func() { _ = cfg.Listener.Close() }() // net.FileListener has a duplicate
	}
	defer func() {
		for _, f := range cfg.Followers {
			_ = f.Close() // net.FileConn has a duplicate
		}
	}()
	fd, size, err := p.share()
	if err != nil {
		return nil, fmt.Errorf("serve ring: %w", err)
	}
	var l *net.UnixListener
	var info fs.FileInfo
	if cfg.Listener != nil {
		l, info, err = adopt(cfg.Listener, cfg.Socket)
	} else {
		l, info, err = listen(cfg.Socket, cfg.Group, cfg.Replace)
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("serve ring: %w", err)
	}
	s := &Server{
		producer: p, cfg: cfg, fd: fd, hello: encodeHello(helloRing, p.generation, size),
		listener: l, file: info, clients: make(map[*net.UnixConn]*client),
	}
	for _, f := range cfg.Followers {
		s.lead(f)
	}
	s.accepts.Go(s.accept)
	return s, nil
}

// HandOver returns the listening socket for a server in another process (ServerConfig.Listener). The caller closes it.
func (s *Server) HandOver() (*os.File, error) {
	f, err := sockfile.Dup(s.listener, s.cfg.Socket)
	if err != nil {
		return nil, fmt.Errorf("hand over socket of ring: %w", err)
	}
	return f, nil
}

// Release is Close when another process goes on at the same socket: it stays, and who connects is that one's. Nobody whom this server has
// accepted is sent away without an answer.
func (s *Server) Release() error {
	if err := s.listener.SetDeadline(time.Unix(1, 0)); errors.Is(err, net.ErrClosed) {
		return nil
	} else if err != nil {
		return fmt.Errorf("release ring server: %w", err)
	}
	s.accepts.Wait()
	s.file = nil
	return s.Close()
}

// Stats returns the counts of now.
func (s *Server) Stats() ServerStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stats
	for _, c := range s.clients {
		if c.served {
			st.Clients++
		}
		if c.follows {
			st.Following++
		}
	}
	return st
}

// Close removes the socket and disconnects all readers, which tells them that the producer ends. Closing twice is
// harmless.
func (s *Server) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	if s.file != nil && sameFile(s.cfg.Socket, s.file) {
		_ = os.Remove(s.cfg.Socket)
	}
	err := s.listener.Close()
	for c := range s.clients {
		_ = c.Close()
	}
	s.mu.Unlock()
	s.accepts.Wait()
	s.wg.Wait()
	_ = unix.Close(s.fd)
	if err != nil {
		return fmt.Errorf("close ring server: %w", err)
	}
	return nil
}

func (s *Server) accept() {
	// After a refusal or a failure (descriptors used up) the next connection waits a moment: a peer that connects in
	// a loop costs a hundred system calls a second and no more.
	const pause = 10 * time.Millisecond
	for {
		conn, err := s.listener.AcceptUnix()
		if errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
		if err != nil || !s.admit(conn) {
			time.Sleep(pause)
		}
	}
}

// admit hands the ring to an authorised peer, or says why not.
func (s *Server) admit(conn *net.UnixConn) bool {
	p, err := peerOf(conn)
	status := uint32(helloRing)
	s.mu.Lock()
	switch {
	case s.closed:
		s.mu.Unlock()
		_ = conn.Close()
		return false
	case err != nil || !p.allowed(s.cfg.Group): // credentials that cannot be read are credentials that do not pass
		status = helloNotAuthorized
		s.stats.Unauthorized++
	case len(s.clients) >= s.cfg.MaxClients:
		status = helloTooMany
		s.stats.TooMany++
	default:
		s.clients[conn] = &client{}
	}
	s.mu.Unlock()

	// The socket's buffer is empty, so neither message waits; the deadline is for a kernel that disagrees.
	_ = conn.SetWriteDeadline(time.Now().Add(time.Second))
	if status != helloRing {
		_, _ = conn.Write(encodeHello(status, 0, 0))
		_ = conn.Close()
		return false
	}
	// Counted before the memory is handed over; see Publish.
	s.producer.listeners.Add(1)
	if _, _, err := conn.WriteMsgUnix(s.hello, unix.UnixRights(s.fd), nil); err != nil {
		s.drop(conn)
		return false
	}
	s.attend(conn)
	return true
}

// attend waits for the end of a reader that has been sent the ring, or until it breaks the rule.
func (s *Server) attend(conn *net.UnixConn) {
	s.mu.Lock()
	s.stats.Served++
	if c := s.clients[conn]; c != nil { // nil: closed meanwhile
		c.served = true
	}
	s.mu.Unlock()
	s.wg.Go(func() {
		var b [2]byte
		for {
			if n, err := conn.Read(b[:]); err != nil || n != 1 || b[0] != follow || !s.follow(conn) {
				break
			}
		}
		s.drop(conn)
	})
}

// follow notes that a reader goes along. It reports false when the reader has said so before.
func (s *Server) follow(conn *net.UnixConn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.clients[conn]
	if c == nil || c.follows {
		return false
	}
	c.follows = true
	return true
}

func (s *Server) drop(conn *net.UnixConn) {
	s.producer.listeners.Add(-1)
	s.mu.Lock()
	delete(s.clients, conn)
	s.mu.Unlock()
	_ = conn.Close()
}

// share duplicates the read-only descriptor: with one of its own the server never takes the producer's lock.
func (p *Producer) share() (fd int, size uint64, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.base == nil {
		return -1, 0, ErrClosed
	}
	fd, err = unix.FcntlInt(uintptr(p.memory.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return -1, 0, fmt.Errorf("duplicate descriptor of shared memory: %w", err)
	}
	return fd, uint64(len(p.memory.bytes)), nil
}
