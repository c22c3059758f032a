// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"
	"golang.org/x/sys/unix"

	"github.com/cellward/cellward/agent"
	"github.com/cellward/cellward/agent/control"
)

// What a scraper may cost. A state is read between two batches of the data path, and anyone on the machine can connect to a
// TCP address, so there a state is used for a while.
const (
	maxScrapes     = 4
	maxConnections = 16
	scrapeTimeout  = 5 * time.Second
	keepState      = 500 * time.Millisecond
)

// ErrAddress says that a listen address was not understood.
var ErrAddress = errors.New("address to listen on was not understood")

// Options say where metrics are served besides the control socket.
type Options struct {
	// Listen is a TCP address, IP:PORT, or a port alone, which means that of 127.0.0.1. Empty: none. There is no authentication,
	// so any other address than a loopback one shows the metrics to whoever reaches it.
	Listen string
	Build  agent.BuildInfo
	Log    *slog.Logger
}

// CheckAddress says whether Options.Listen would be understood.
func CheckAddress(s string) error {
	if s == "" {
		return nil
	}
	_, err := parseAddress(s)
	return err
}

// Serve returns agent.Options.Metrics. An address that cannot be listened on is reported and done without: nothing that happens
// to a port may keep the agent from verifying.
func Serve(o Options) func(*agent.Agent) (http.Handler, io.Closer, error) {
	return func(a *agent.Agent) (http.Handler, io.Closer, error) {
		page := NewHandler(NewCollector(a.Status, o.Build))
		if o.Listen == "" {
			return page, io.NopCloser(nil), nil
		}
		s, err := Listen(o.Listen, NewHandler(NewCollector(atMost(keepState, a.Status), o.Build)))
		if errors.Is(err, ErrAddress) {
			return nil, nil, err
		}
		if err != nil {
			o.Log.Error("metrics are on the control socket only", "event", "metrics_not_served", "error", err.Error())
			return page, io.NopCloser(nil), nil
		}
		if !s.addr.Addr().IsLoopback() {
			o.Log.Warn("metrics are shown to whoever reaches this address", "event", "metrics_exposed", "address", s.addr.String())
		}
		o.Log.Info("metrics are served", "event", "metrics_served", "address", s.addr.String())
		return page, s, nil
	}
}

// NewHandler returns the page of a collector's metrics, with those of the Go process.
func NewHandler(c *Collector) http.Handler {
	r := prometheus.NewRegistry()
	r.MustRegister(c, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{
		ErrorHandling: promhttp.HTTPErrorOnError, MaxRequestsInFlight: maxScrapes, Timeout: scrapeTimeout, EnableOpenMetrics: true,
	})
}

// Server serves a page of metrics on a TCP address, and nothing else.
type Server struct {
	http *http.Server
	addr netip.AddrPort
	done chan error
}

// Listen serves page at /metrics of an address as in Options.
func Listen(address string, page http.Handler) (*Server, error) {
	at, err := parseAddress(address)
	if err != nil {
		return nil, err
	}
	// An agent that takes over listens beside the one that is about to end: processes of one user may share a port (socket(7)).
	share := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var serr error
		err := c.Control(func(fd uintptr) { serr = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
		return errors.Join(err, serr)
	}}
	ln, err := share.Listen(context.Background(), "tcp", at.String())
	if err != nil {
		return nil, fmt.Errorf("listen for scrapers of metrics: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET "+control.MetricsPath, page)
	s := &Server{
		http: &http.Server{
			Handler: mux, ReadTimeout: scrapeTimeout, WriteTimeout: 2 * scrapeTimeout, IdleTimeout: time.Minute, MaxHeaderBytes: 4096,
			ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug), // what a peer does wrong would fill a log
		},
		addr: ln.Addr().(*net.TCPAddr).AddrPort(),
		done: make(chan error, 1),
	}
	go func() { s.done <- s.http.Serve(netutil.LimitListener(ln, maxConnections)) }()
	return s, nil
}

// Address returns where the server listens.
func (s *Server) Address() string { return s.addr.String() }

// Close ends the server and its connections.
func (s *Server) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := s.http.Shutdown(ctx); err != nil {
		// A scraper that reads slowly does not hold the agent up.
		if err := s.http.Close(); err != nil {
			return fmt.Errorf("stop serving metrics: %w", err)
		}
	}
	if err := <-s.done; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve metrics: %w", err)
	}
	return nil
}

// parseAddress takes an address apart; names are not looked up, so that what is listened on is what is written.
func parseAddress(s string) (netip.AddrPort, error) {
	host, port, found := strings.Cut(s, ":")
	if !found {
		host, port = "", s
	}
	if host == "" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			return netip.AddrPort{}, fmt.Errorf("%w: %q: want IP:PORT or PORT", ErrAddress, s)
		}
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(n)), nil
	}
	at, err := netip.ParseAddrPort(s)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%w: %q: want IP:PORT or PORT", ErrAddress, s)
	}
	return at, nil
}

// atMost returns get's answers, asking it again only when the last one is older than d.
func atMost(d time.Duration, get func() agent.Status) func() agent.Status {
	var mu sync.Mutex
	var last agent.Status
	var asked time.Time
	return func() agent.Status {
		mu.Lock()
		defer mu.Unlock()
		if asked.IsZero() || time.Since(asked) >= d {
			last, asked = get(), time.Now()
		}
		return last
	}
}
