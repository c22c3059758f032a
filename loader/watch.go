// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Multicast groups of rtnetlink(7) (include/uapi/linux/rtnetlink.h).
const (
	rtnlgrpLink = 1
	rtnlgrpTC   = 4
)

// LinkChange says what a [LinkEvent] is about.
type LinkChange uint8

// The changes.
const (
	LinkPresent       LinkChange = iota // the interface is there, as Link says: new, changed, or only listed
	LinkRemoved                         // it is gone, or has left the namespace
	LinkFilterRemoved                   // a traffic control filter or qdisc was taken off it; only Link.Index is set
)

// LinkEvent is a change of one interface.
type LinkEvent struct {
	Change LinkChange
	Link   Link
}

// LinkWatcher tells what happens to the interfaces of a network namespace. It is level-triggered at heart: each event holds the
// whole state, and where the kernel had no room to queue all events (ENOBUFS) it lists everything anew and tells what is gone, so
// that the last event of each interface is always the truth. Next is for one goroutine, Close for any.
type LinkWatcher struct {
	ns    *Netns
	known map[int]Link // by index; for Next alone

	mu     sync.Mutex
	c      *netlink.Conn
	closed bool
}

// WatchLinks begins to watch the network namespace ns.
func WatchLinks(ns *Netns) (*LinkWatcher, error) {
	w := &LinkWatcher{ns: ns}
	c, err := w.dial()
	if err != nil {
		return nil, err
	}
	w.c = c
	return w, nil
}

func (w *LinkWatcher) dial() (c *netlink.Conn, err error) {
	err = w.ns.Do(func() error {
		c, err = netlink.Dial(unix.NETLINK_ROUTE, &netlink.Config{Groups: 1<<(rtnlgrpLink-1) | 1<<(rtnlgrpTC-1)})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("watch interfaces: %w", err)
	}
	return c, nil
}

// Next waits for the next events; the first call returns all interfaces. It returns os.ErrClosed after Close.
func (w *LinkWatcher) Next() ([]LinkEvent, error) {
	if w.known == nil {
		return w.list()
	}
	for {
		w.mu.Lock()
		c := w.c
		w.mu.Unlock()
		messages, err := c.Receive()
		switch {
		case w.isClosed():
			return nil, fmt.Errorf("watch interfaces: %w", os.ErrClosed)
		case errors.Is(err, unix.ENOBUFS):
			// What is still queued is older than what was lost. A new connection has an empty queue, and is subscribed
			// before the list is made, so nothing falls between.
			if err := w.reopen(); err != nil {
				return nil, err
			}
			return w.list()
		case err != nil:
			return nil, fmt.Errorf("watch interfaces: %w", err)
		}
		events, err := w.read(messages)
		if err != nil || len(events) > 0 {
			return events, err
		}
	}
}

func (w *LinkWatcher) isClosed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.closed
}

func (w *LinkWatcher) reopen() error {
	c, err := w.dial()
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return errors.Join(fmt.Errorf("watch interfaces: %w", os.ErrClosed), c.Close())
	}
	old := w.c
	w.c = c
	if err := old.Close(); err != nil {
		return fmt.Errorf("watch interfaces: %w", err)
	}
	return nil
}

// list tells of all interfaces, and of those that are gone.
func (w *LinkWatcher) list() (events []LinkEvent, err error) {
	var all []Link
	err = w.ns.Do(func() error {
		links, err := DialLinks()
		if err != nil {
			return err
		}
		all, err = links.All()
		return errors.Join(err, links.Close())
	})
	if err != nil {
		return nil, err
	}
	now := make(map[int]Link)
	for _, l := range all {
		now[l.Index] = l
	}
	for index, l := range w.known {
		if _, ok := now[index]; !ok {
			events = append(events, LinkEvent{LinkRemoved, l})
		}
	}
	for _, l := range all {
		events = append(events, LinkEvent{LinkPresent, l})
	}
	w.known = now
	return events, nil
}

func (w *LinkWatcher) read(messages []netlink.Message) (events []LinkEvent, err error) {
	for _, m := range messages {
		e, ok, err := parseLinkEvent(m)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		switch e.Change {
		case LinkPresent:
			w.known[e.Link.Index] = e.Link
		case LinkRemoved:
			delete(w.known, e.Link.Index)
		}
		events = append(events, e)
	}
	return events, nil
}

// parseLinkEvent reads a message of one of the groups; ok is false for one that is about something else.
func parseLinkEvent(m netlink.Message) (e LinkEvent, ok bool, err error) {
	switch m.Header.Type {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		// With another family it is about that family's part of the interface: leaving a bridge is no removal.
		if len(m.Data) > 0 && m.Data[0] != unix.AF_UNSPEC {
			return e, false, nil
		}
		if e.Link, err = parseLink(m); err != nil {
			return e, false, err
		}
		if m.Header.Type == unix.RTM_DELLINK {
			e.Change = LinkRemoved
		}
		return e, true, nil
	case unix.RTM_DELTFILTER, unix.RTM_DELQDISC:
		if len(m.Data) < tcMessageLen {
			return e, false, fmt.Errorf("parse traffic control event: %d bytes are too few", len(m.Data))
		}
		e.Change = LinkFilterRemoved
		e.Link.Index = int(int32(binary.NativeEndian.Uint32(m.Data[4:])))
		return e, true, nil
	default:
		return e, false, nil
	}
}

// Close ends the watch, and Next in another goroutine.
func (w *LinkWatcher) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil
	}
	w.closed = true
	return w.c.Close()
}
