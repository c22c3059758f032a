// SPDX-License-Identifier: Apache-2.0

package control

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/cellward/cellward/agent/sockfile"
	"golang.org/x/sys/unix"
)

// UpgradePath is where a successor asks a running agent for everything it has.
const UpgradePath = "/v1/upgrade"

// upgradeProtocol is what an upgraded connection speaks (RFC 9110, 7.8).
const upgradeProtocol = "cellward-takeover"

// Stream takes a connection that leaves HTTP behind. peer is who is at the other end, as the kernel noted it at connect(2).
// The connection is the function's to close.
type Stream func(conn *net.UnixConn, peer unix.Ucred)

// serveStream hands connections of those who may write to a stream.
func serveStream(take Stream) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !mayWrite(r.Context()) {
			http.Error(w, ErrNotAllowed.Error(), http.StatusForbidden)
			return
		}
		if r.Header.Get("Upgrade") != upgradeProtocol {
			w.Header().Set("Upgrade", upgradeProtocol)
			http.Error(w, "want Upgrade: "+upgradeProtocol, http.StatusUpgradeRequired)
			return
		}
		raw, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			http.Error(w, fmt.Sprintf("leave HTTP: %v", err), http.StatusInternalServerError)
			return
		}
		conn, ok := raw.(*net.UnixConn)
		if !ok || buffered.Reader.Buffered() > 0 {
			_ = raw.Close() // the client has gone ahead without an answer
			return
		}
		cred, err := peerCredentials(conn)
		if err == nil {
			err = conn.SetDeadline(time.Now().Add(time.Second))
		}
		if err == nil {
			_, err = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+upgradeProtocol+"\r\n\r\n")
		}
		if err == nil {
			err = conn.SetDeadline(time.Time{})
		}
		if err != nil {
			_ = conn.Close()
			return
		}
		take(conn, *cred)
	}
}

func peerCredentials(c *net.UnixConn) (*unix.Ucred, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("get peer credentials: %w", err)
	}
	var cred *unix.Ucred
	var inner error
	err = raw.Control(func(fd uintptr) { cred, inner = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err := errors.Join(err, inner); err != nil {
		return nil, fmt.Errorf("get peer credentials: %w", err)
	}
	return cred, nil
}

// maxHead bounds an answer's head.
const maxHead = 4096

// OpenStream asks the agent that listens on socket for a stream. ErrNotRunning, ErrNotAllowed: nobody to ask. The second value is who
// listens.
func OpenStream(ctx context.Context, socket, resource string) (_ *net.UnixConn, _ *unix.Ucred, err error) {
	var d net.Dialer
	raw, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ECONNREFUSED) {
			return nil, nil, fmt.Errorf("%w on %s", ErrNotRunning, socket)
		}
		return nil, nil, fmt.Errorf("ask agent on %s: %w", socket, err)
	}
	conn := raw.(*net.UnixConn)
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer func() {
		if !stop() && err == nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			_ = conn.Close()
		}
	}()
	cred, err := peerCredentials(conn)
	if err != nil {
		return nil, nil, err
	}
	_, err = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: agent\r\nConnection: Upgrade\r\nUpgrade: %s\r\nContent-Length: 0\r\n\r\n", resource, upgradeProtocol)
	if err != nil {
		return nil, nil, fmt.Errorf("ask agent on %s: %w", socket, err)
	}
	// What follows the head is not for HTTP, and may bring descriptors: not a byte of it is read here.
	head, err := readHead(conn)
	if err != nil {
		return nil, nil, fmt.Errorf("read answer of agent: %w", err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(head)), nil)
	if err != nil {
		return nil, nil, fmt.Errorf("read answer of agent: %w", err)
	}
	switch resp.StatusCode {
	case http.StatusSwitchingProtocols:
		return conn, cred, nil
	case http.StatusForbidden:
		return nil, nil, ErrNotAllowed
	case http.StatusNotFound, http.StatusMethodNotAllowed:
		return nil, nil, fmt.Errorf("%w: it is of a version that cannot hand over; stop it and start the new one", ErrRefused)
	default:
		text, _ := io.ReadAll(io.LimitReader(conn, min(max(resp.ContentLength, 0), maxHead)))
		return nil, nil, fmt.Errorf("agent answered %d to %s: %s", resp.StatusCode, resource, strings.TrimSpace(string(text)))
	}
}

// readHead reads the head of an answer and nothing behind it.
func readHead(r io.Reader) ([]byte, error) {
	var head []byte
	var b [1]byte
	for len(head) < maxHead {
		n, err := r.Read(b[:])
		head = append(head, b[:n]...)
		if bytes.HasSuffix(head, []byte("\r\n\r\n")) {
			return head, nil
		}
		if err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("its head is longer than %d bytes", maxHead)
}

// HandOver returns the listening socket for a server in another process. The caller closes it.
func (s *Server) HandOver() (*os.File, error) {
	f, err := sockfile.Dup(s.listener, s.path)
	if err != nil {
		return nil, fmt.Errorf("hand over control socket: %w", err)
	}
	return f, nil
}

// Release is Close when another process goes on at the same socket: it stays, and who connects is that one's. Requests in hand are answered.
func (s *Server) Release() {
	s.listener.SetUnlinkOnClose(false)
	s.cancel()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = s.http.Shutdown(ctx) // a request that is not answered by now ends with the process
	<-s.done
}

// Adopt makes a listener of a socket that another process has handed over. Close removes its file. It takes f in any case.
func Adopt(f *os.File, path string) (*net.UnixListener, error) {
	defer func() { _ = f.Close() }() // the listener has a duplicate
	generic, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("listen on %s with the socket that was handed over: %w", path, err)
	}
	l, ok := generic.(*net.UnixListener)
	if !ok || l.Addr().Network() != "unix" || l.Addr().String() != path {
		return nil, errors.Join(fmt.Errorf("listen on %s: %s was handed over", path, generic.Addr()), generic.Close())
	}
	l.SetUnlinkOnClose(true)
	return l, nil
}
