// SPDX-License-Identifier: Apache-2.0

// Package control is the agent's local control interface: HTTP/1.1 with JSON bodies over a Unix socket, so that
// `curl --unix-socket` reads what `cellward status` reads. Who may connect, and so read, is decided by the mode and group of the
// socket file; only root and the agent's own user may write.
//
// It may import the standard library and golang.org/x/sys.
package control

import (
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

// The resources: the agent's state, and its metrics for Prometheus.
const (
	StatusPath  = "/v1/status"
	MetricsPath = "/metrics"
)

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
	http     *http.Server
	listener *net.UnixListener
	path     string
	done     chan error
	// ctx ends when the server is closed, and with it what goes on as long as a client listens.
	ctx    context.Context
	cancel context.CancelFunc
}

// Page is a resource that is not JSON. Handler gets GET requests only; where it is nil, Lines writes the answer.
type Page struct {
	Path    string
	Handler http.Handler
	Lines   Lines
}

// Serve listens on path, with mode 0660 and the given group when it is named, and answers GET requests for each resource
// with what its function returns, as JSON, for each page with what its handler writes, and POST requests with what the actions
// do. Functions, handlers and actions are called from many goroutines.
func Serve(path, group string, resources map[string]func() any, actions map[string]Action, pages ...Page) (*Server, error) {
	ln, err := listen(path, group)
	if err != nil {
		return nil, err
	}
	return ServeListener(ln, path, resources, actions, nil, pages...)
}

// ServeListener is Serve on a socket that listens already. Streams leave HTTP behind, see [Stream].
func ServeListener(ln *net.UnixListener, path string, resources map[string]func() any, actions map[string]Action, streams map[string]Stream,
	pages ...Page) (*Server, error) {
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
	for name, take := range streams {
		mux.HandleFunc("POST "+name, serveStream(take))
	}
	s := &Server{
		http: &http.Server{
			Handler: mux, ReadTimeout: 5 * time.Second, WriteTimeout: writeTimeout, MaxHeaderBytes: 4096, ConnContext: notePeer,
		},
		listener: ln,
		path:     path,
		done:     make(chan error, 1),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	for _, p := range pages {
		if p.Handler == nil {
			p.Handler = s.serveLines(p.Lines)
		}
		mux.Handle("GET "+p.Path, p.Handler)
	}
	go func() { s.done <- s.http.Serve(ln) }()
	return s, nil
}

// Close stops the server and removes the socket. Requests in hand have a second to be answered; what is connected then is cut off.
func (s *Server) Close() error {
	s.cancel()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	err := s.http.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		// Whoever may connect could have connected and said nothing: net/http waits for that for 5 s. It is no failure of the agent, which
		// has stopped cleanly.
		err = s.http.Close()
	}
	if err != nil {
		return fmt.Errorf("stop control server: %w", err)
	}
	if err := <-s.done; err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", s.path, err)
	}
	return nil
}

// Listen makes the socket that Serve would make.
func Listen(path, group string) (*net.UnixListener, error) { return listen(path, group) }

func listen(path, group string) (*net.UnixListener, error) {
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
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
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

// What is read is asked for again where the connection ended without an answer: an agent that hands over to its successor leaves what it
// has not begun to answer, and that one listens on the same socket.
const (
	readTries = 4
	readPause = 100 * time.Millisecond
)

// exchange sends one request and reads its answer whole.
func exchange(ctx context.Context, socket, method, resource string, body io.Reader) (status int, answer []byte, err error) {
	resp, err := request(ctx, socket, method, resource, body)
	for try := 1; try < readTries && method == http.MethodGet && isUnanswered(err); try++ {
		select {
		case <-ctx.Done():
			return 0, nil, err
		case <-time.After(readPause):
		}
		resp, err = request(ctx, socket, method, resource, nil)
	}
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

// isUnanswered says that there was a connection, and no answer.
func isUnanswered(err error) bool {
	var op *net.OpError
	return err != nil && !errors.Is(err, ErrNotRunning) && !(errors.As(err, &op) && op.Op == "dial")
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
