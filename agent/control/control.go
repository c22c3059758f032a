// SPDX-License-Identifier: Apache-2.0

// Package control is the agent's local control interface: HTTP/1.1 with JSON bodies over a Unix socket, so that
// `curl --unix-socket` reads what `cellward status` reads. Who may connect, and so read, is decided by the mode and group of the
// socket file; only root and the agent's own user may write.
//
// It may import the standard library and golang.org/x/sys.
package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// StatusPath is the resource that answers the agent's state.
const StatusPath = "/v1/status"

// Resources of the agent's keys. KeysPath is read; the others are actions.
const (
	KeysPath         = "/v1/keys"
	OfferPath        = "/v1/keys/offer"
	AcceptPath       = "/v1/keys/accept"
	RetirePath       = "/v1/keys/retire"
	RotateOffersPath = "/v1/keys/rotate-offers"
)

// maxResponse bounds what a client reads: a gateway of 4,096 streams answers about 2 MiB.
const maxResponse = 16 << 20

// writeTimeout is how long a client may take to take an answer, or what is written to it at once.
const writeTimeout = 5 * time.Second

// ErrNotRunning says that no agent listens on the socket.
var ErrNotRunning = errors.New("no agent is listening")

// Server answers requests on a Unix socket until it is closed.
type Server struct {
	http *http.Server
	mux  *http.ServeMux
	path string
	done chan error
	// ctx ends when the server is closed, and with it what goes on as long as a client listens.
	ctx    context.Context
	cancel context.CancelFunc
}

// Serve listens on path, with mode 0660 and the given group when it is named, and answers GET requests for each resource
// with what its function returns, as JSON, and POST requests with what the actions do. The functions are called from many
// goroutines.
func Serve(path, group string, resources map[string]func() any, actions map[string]Action) (*Server, error) {
	ln, err := listen(path, group)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	for name, get := range resources {
		mux.HandleFunc("GET "+name, func(w http.ResponseWriter, _ *http.Request) {
			b, err := json.MarshalIndent(get(), "", "  ")
			if err != nil {
				http.Error(w, fmt.Sprintf("encode %s: %v", name, err), http.StatusInternalServerError)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			// The client may be gone; that is its own affair.
			_, _ = w.Write(append(b, '\n'))
		})
	}
	for name, do := range actions {
		mux.HandleFunc("POST "+name, serveAction(do))
	}
	s := &Server{
		http: &http.Server{
			Handler: mux, ReadTimeout: 5 * time.Second, WriteTimeout: writeTimeout, MaxHeaderBytes: 4096, ConnContext: notePeer,
		},
		mux:  mux,
		path: path,
		done: make(chan error, 1),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	go func() { s.done <- s.http.Serve(ln) }()
	return s, nil
}

// Stream answers GET requests for a resource with what serve writes, as it is written, until serve returns. The context ends with the
// client or with the server. A client that takes nothing for 5 s is given up.
func (s *Server) Stream(resource string, serve func(context.Context, io.Writer)) {
	s.mux.HandleFunc("GET "+resource, func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		defer context.AfterFunc(s.ctx, cancel)()
		w.Header().Set("Content-Type", "application/jsonl")
		out := &stream{w: w, c: http.NewResponseController(w)}
		// The deadline of the request would end the answer.
		if out.c.SetReadDeadline(time.Time{}) != nil || out.flush() != nil {
			return
		}
		serve(ctx, out)
	})
}

// stream sends what is written at once.
type stream struct {
	w http.ResponseWriter
	c *http.ResponseController
}

// Write implements io.Writer.
func (s *stream) Write(b []byte) (int, error) {
	if err := s.c.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return 0, err
	}
	n, err := s.w.Write(b)
	if err == nil {
		err = s.flush()
	}
	return n, err
}

func (s *stream) flush() error { return s.c.Flush() }

// Close stops the server and removes the socket.
func (s *Server) Close() error {
	s.cancel()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := s.http.Shutdown(ctx); err != nil {
		return fmt.Errorf("stop control server: %w", err)
	}
	if err := <-s.done; err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", s.path, err)
	}
	return nil
}

func listen(path, group string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("make folder of control socket: %w", err)
	}
	// A socket that a killed agent left behind refuses connections; only then is it taken away.
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		c.Close()
		return nil, fmt.Errorf("listen on %s: another agent is listening there", path)
	} else if st, serr := os.Lstat(path); serr == nil {
		if st.Mode()&fs.ModeSocket == 0 {
			return nil, fmt.Errorf("listen on %s: there is a file that is no socket", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("remove stale control socket: %w", err)
		}
	}
	old := unix.Umask(0o177)
	ln, err := net.Listen("unix", path)
	unix.Umask(old)
	if err != nil {
		return nil, fmt.Errorf("listen on control socket: %w", err)
	}
	if err := admit(path, group); err != nil {
		ln.Close()
		return nil, err
	}
	return ln, nil
}

// admit opens the socket file to the group; it was made for its owner alone.
func admit(path, group string) error {
	if group == "" {
		return nil
	}
	g, err := user.LookupGroup(group)
	if err != nil {
		return fmt.Errorf("find group of control socket: %w", err)
	}
	gid, err := strconv.Atoi(g.Gid)
	if err != nil {
		return fmt.Errorf("read id of group %s: %w", group, err)
	}
	if err := os.Chown(path, -1, gid); err != nil {
		return fmt.Errorf("set group of control socket: %w", err)
	}
	if err := os.Chmod(path, 0o660); err != nil {
		return fmt.Errorf("set mode of control socket: %w", err)
	}
	return nil
}

// Get reads a resource of the agent that listens on socket and decodes it into out.
func Get(ctx context.Context, socket, resource string, out any) error {
	status, b, err := exchange(ctx, socket, http.MethodGet, resource, nil)
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return fmt.Errorf("agent answered %d %s to %s", status, http.StatusText(status), resource)
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fmt.Errorf("decode answer of agent: %w", err)
	}
	return nil
}

// Follow reads a resource that goes on, and calls line with each line of it until it ends, ctx does, or line returns an error.
func Follow(ctx context.Context, socket, resource string, line func([]byte) error) error {
	resp, err := request(ctx, socket, http.MethodGet, resource, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("agent answered %d %s to %s", resp.StatusCode, http.StatusText(resp.StatusCode), resource)
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxResponse)
	for lines.Scan() {
		if err := line(lines.Bytes()); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("follow %s of agent: %w", resource, err)
	}
	return nil
}

// exchange sends one request and reads its answer whole.
func exchange(ctx context.Context, socket, method, resource string, body io.Reader) (status int, answer []byte, err error) {
	resp, err := request(ctx, socket, method, resource, body)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(resp.Body, maxResponse))
	if err != nil {
		return 0, nil, fmt.Errorf("read answer of agent: %w", err)
	}
	return resp.StatusCode, answer, nil
}

// request sends one request and returns its answer, whose body is still to be read.
func request(ctx context.Context, socket, method, resource string, body io.Reader) (*http.Response, error) {
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		},
	}}
	req, err := http.NewRequestWithContext(ctx, method, "http://agent"+resource, body)
	if err != nil {
		return nil, fmt.Errorf("make request for %s: %w", resource, err)
	}
	resp, err := client.Do(req)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ECONNREFUSED) {
			return nil, fmt.Errorf("%w on %s", ErrNotRunning, socket)
		}
		return nil, fmt.Errorf("ask agent on %s: %w", socket, err)
	}
	return resp, nil
}
