// SPDX-License-Identifier: Apache-2.0

// Package notify tells the service manager how a service is, as sd_notify(3) describes it: ready, reloading, alive, stopping. Without a
// manager that asks for it nothing is sent.
//
// It may import the standard library and go-systemd.
package notify

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// leastWatchdog is the shortest watchdog interval that a loop which reports once a second can keep.
const leastWatchdog = 2 * time.Second

// Notifier sends states to the manager, in order. Its methods never wait for the manager, whatever it is doing, and on a nil Notifier
// they do nothing. It is safe for concurrent use.
type Notifier struct {
	log      *slog.Logger
	watchdog bool
	queue    chan string
	done     chan struct{}

	mu     sync.Mutex // held to queue a state, which never waits, and to close the queue
	closed bool
}

// New returns a notifier for the manager that NOTIFY_SOCKET names, nil without one.
func New(log *slog.Logger) (*Notifier, error) {
	if os.Getenv("NOTIFY_SOCKET") == "" {
		return nil, nil
	}
	every, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return nil, fmt.Errorf("read watchdog interval: %w", err)
	}
	return start(log, every), nil
}

// Inherit returns a notifier for a manager that has told another process of the service where it listens; nil without one. It sets
// NOTIFY_SOCKET and WATCHDOG_USEC in the environment, as the manager would have, for the process that comes after this one.
func Inherit(log *slog.Logger, socket string, watchdog time.Duration) (*Notifier, error) {
	if socket == "" {
		return nil, nil
	}
	err := errors.Join(os.Setenv("NOTIFY_SOCKET", socket), os.Unsetenv("WATCHDOG_PID"), os.Unsetenv("WATCHDOG_USEC"))
	if watchdog > 0 {
		err = errors.Join(err, os.Setenv("WATCHDOG_USEC", strconv.FormatInt(watchdog.Microseconds(), 10)))
	}
	if err != nil {
		return nil, fmt.Errorf("note the service manager: %w", err)
	}
	return start(log, watchdog), nil
}

func start(log *slog.Logger, every time.Duration) *Notifier {
	if every > 0 && every < leastWatchdog {
		log.Warn("watchdog interval is shorter than the agent reports", "event", "watchdog_short", "interval", every.String(), "least", leastWatchdog.String())
	}
	n := &Notifier{log: log, watchdog: every > 0, queue: make(chan string, 16), done: make(chan struct{})}
	go n.run()
	return n
}

// run sends what is queued. It adds nothing of its own: when nobody calls Alive, nobody tells the manager that the service is alive.
func (n *Notifier) run() {
	defer close(n.done)
	failed := false
	for state := range n.queue {
		_, err := daemon.SdNotify(false, state)
		if err != nil && !failed {
			n.log.Warn("service manager could not be told", "event", "notify_failed", "error", err.Error())
		}
		failed = err != nil
	}
}

// put queues a state, or leaves it out when the manager takes none, or after Close.
func (n *Notifier) put(state string) {
	if n == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return
	}
	select {
	case n.queue <- state:
	default:
	}
}

// Ready says that the service is in operation, and in a line how, after its start or a reload.
func (n *Notifier) Ready(status string) { n.put(daemon.SdNotifyReady + "\nSTATUS=" + status) }

// Reloading says that the service takes up a new configuration; Ready ends that.
func (n *Notifier) Reloading() {
	if n == nil {
		return
	}
	state := daemon.SdNotifyReloading
	var now unix.Timespec // without it a unit of Type=notify-reload does not take the message
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err == nil {
		state += fmt.Sprintf("\nMONOTONIC_USEC=%d", now.Nano()/1000)
	}
	n.put(state)
}

// Alive is to be called by the loop that must not stand still, at least every half of the watchdog's interval.
func (n *Notifier) Alive() {
	if n != nil && n.watchdog {
		n.put(daemon.SdNotifyWatchdog)
	}
}

// Successor says that another process is the service's main one from now on. The manager takes it from the present main process only.
func (n *Notifier) Successor(pid int) { n.put(fmt.Sprintf("MAINPID=%d", pid)) }

// Stopping says that the service has begun to end.
func (n *Notifier) Stopping() { n.put(daemon.SdNotifyStopping) }

// Close waits until what was said is sent. What is said afterwards is left out: whoever takes up a new configuration may come to the end
// of that when the service has ended.
func (n *Notifier) Close() {
	if n == nil {
		return
	}
	n.mu.Lock()
	if !n.closed {
		n.closed = true
		close(n.queue)
	}
	n.mu.Unlock()
	select {
	case <-n.done:
	case <-time.After(time.Second): // a manager that takes nothing
	}
}
