// SPDX-License-Identifier: Apache-2.0

package notify

import (
	"log/slog"
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"testing"
	"time"
)

// manager is a service manager that only listens.
func manager(t *testing.T) *net.UnixConn {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	return c
}

// heard returns what has come, without waiting for more.
func heard(t *testing.T, c *net.UnixConn) (all []string) {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 4096)
	for {
		n, err := c.Read(b)
		if err != nil {
			return all
		}
		all = append(all, string(b[:n]))
	}
}

func TestStates(t *testing.T) {
	c := manager(t)
	t.Setenv("WATCHDOG_USEC", "20000000")
	n, err := New(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	n.Ready("good")
	n.Alive()
	n.Reloading()
	n.Ready("better")
	n.Stopping()
	n.Close()
	n.Close()
	got := heard(t, c)
	for i, s := range got {
		got[i] = regexp.MustCompile(`USEC=[0-9]+`).ReplaceAllString(s, "USEC=N")
	}
	want := []string{"READY=1\nSTATUS=good", "WATCHDOG=1", "RELOADING=1\nMONOTONIC_USEC=N", "READY=1\nSTATUS=better", "STOPPING=1"}
	if !slices.Equal(got, want) {
		t.Errorf("the manager heard %q", got)
	}
}

// TestSaidBehindTheEnd has goroutines speak while the notifier is closed, and afterwards: what comes too late is left out.
func TestSaidBehindTheEnd(t *testing.T) {
	c := manager(t)
	n, err := New(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	n.Ready("good")
	var others sync.WaitGroup
	for range 4 { // all of it has room in the shortest queue of a socket, 10 by default
		others.Go(func() {
			n.Stopping()
			n.Stopping()
		})
	}
	n.Close()
	others.Wait()
	if got := heard(t, c); len(got) == 0 || got[0] != "READY=1\nSTATUS=good" {
		t.Errorf("the manager heard %q", got)
	}
	n.Reloading()
	n.Ready("too late")
	n.Close()
	if got := heard(t, c); got != nil {
		t.Errorf("behind the end the manager heard %q", got)
	}
}

// TestNobodyElseSaysAlive wants a notifier to say nothing by itself, however short the watchdog's interval is.
func TestNobodyElseSaysAlive(t *testing.T) {
	c := manager(t)
	t.Setenv("WATCHDOG_USEC", "1000")
	n, err := New(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	n.Ready("good")
	time.Sleep(50 * time.Millisecond)
	n.Close()
	if got := heard(t, c); !slices.Equal(got, []string{"READY=1\nSTATUS=good"}) {
		t.Errorf("the manager heard %q", got)
	}
}

func TestWithoutManager(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	n, err := New(slog.New(slog.DiscardHandler))
	if n != nil || err != nil {
		t.Fatalf("%v, %v", n, err)
	}
	n.Ready("x")
	n.Reloading()
	n.Alive()
	n.Stopping()
	n.Close()
}

func TestWithoutWatchdog(t *testing.T) {
	c := manager(t)
	for _, usec := range []string{"", "nonsense"} {
		t.Setenv("WATCHDOG_USEC", usec)
		n, err := New(slog.New(slog.DiscardHandler))
		if (err != nil) != (usec == "nonsense") {
			t.Fatal(err)
		}
		n.Alive()
		n.Close()
	}
	if got := heard(t, c); got != nil {
		t.Errorf("the manager heard %q", got)
	}
}

// TestManagerThatTakesNothing wants no call to wait: the data path makes them.
func TestManagerThatTakesNothing(t *testing.T) {
	c := manager(t)
	t.Setenv("WATCHDOG_USEC", "20000000")
	if err := c.SetReadBuffer(1); err != nil {
		t.Fatal(err)
	}
	n, err := New(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for range 10_000 { // more than queue and socket take
		n.Alive()
	}
	go func() { // and now it takes again, so that Close need not wait
		b := make([]byte, 64)
		for {
			if _, err := c.Read(b); err != nil {
				return
			}
		}
	}()
	n.Close()
}
