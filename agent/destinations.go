// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cellward/cellward/agent/event"
	"github.com/cellward/cellward/agent/event/encode"
	"github.com/cellward/cellward/agent/event/sink"
	"github.com/cellward/cellward/agent/policy"
	"github.com/cellward/cellward/agent/privilege"
	"github.com/cellward/cellward/loader"
)

// openDestinations starts the queues in front of a binding's destinations. stderr is where lines for stderr go; nil: nowhere.
func openDestinations(b *policy.Binding, p *Privileges, stderr io.Writer) (queues []*sink.Queue, err error) {
	defer func() {
		if err == nil {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		for _, q := range queues {
			err = errors.Join(err, q.Close(ctx))
		}
	}()
	for _, d := range b.DestinationsOrDefault() {
		if d.Type == policy.ToStderr && stderr == nil {
			continue
		}
		w, err := openDestination(&d, p, stderr)
		if err != nil {
			return queues, err
		}
		// One destination may be there twice, in two encodings.
		name := destinationName(&d)
		for n := 2; slices.ContainsFunc(queues, func(q *sink.Queue) bool { return q.Stats().Name == name }); n++ {
			name = fmt.Sprintf("%s (%d)", destinationName(&d), n)
		}
		queues = append(queues, sink.New(w, sink.Options{Name: name}))
	}
	return queues, nil
}

// destinationName names a destination for people.
func destinationName(d *policy.Destination) string {
	name := string(d.Type)
	for _, s := range []string{d.Network, d.Path, d.Address, d.Interface} {
		if s != "" {
			name += " " + s
		}
	}
	return name
}

func openDestination(d *policy.Destination, p *Privileges, stderr io.Writer) (sink.Writer, error) {
	switch d.Type {
	case policy.ToStderr:
		return sink.NewLines(stderr, encoding(d.Encoding)), nil
	case policy.ToFile:
		f := sink.NewFile(d.Path, encoding(d.Encoding))
		if p != nil && p.user != nil {
			// Also an agent that fails before it has given up its rights may have something to say.
			f.GiveTo(int(p.user.UID), int(p.user.GID))
		}
		return f, nil
	case policy.ToJournal:
		return sink.NewJournal(d.Path), nil
	case policy.ToSyslog:
		host, err := os.Hostname()
		if err != nil {
			return nil, fmt.Errorf("read host name for syslog: %w", err)
		}
		address := d.Address
		if !d.Remote() {
			address = d.Path
		}
		return sink.NewSyslog(sink.SyslogOptions{Network: d.Network, Address: address, Format: encode.Syslog{Host: host, PID: os.Getpid()}})
	default:
		// Opened when there is something to send: the interface may come later, and a bus that is missing is no reason not to start.
		return &canDestination{name: d.Interface, format: encode.IdsM{CANID: d.CANID}}, nil
	}
}

func encoding(e policy.Encoding) encode.Encoding {
	switch e {
	case policy.EncodeText:
		return encode.Text
	case policy.EncodeCEF:
		return encode.CEF
	case policy.EncodeOCSF:
		return encode.OCSF
	default:
		return encode.JSON
	}
}

// canDestination sends frames on an interface that it opens when there is something to send.
type canDestination struct {
	name   string
	format encode.IdsM

	mu   sync.Mutex // Interrupt comes from another goroutine
	conn *loader.CANConn
}

// Write implements sink.Writer.
func (c *canDestination) Write(r *event.Record) error {
	c.mu.Lock()
	conn := c.conn
	c.mu.Unlock()
	if conn == nil {
		var err error
		if conn, err = loader.OpenCAN(nil, c.name); err != nil {
			return err
		}
		c.mu.Lock()
		c.conn = conn
		c.mu.Unlock()
	}
	f := c.format.Frame(r)
	if err := conn.SendFD(&f); err != nil {
		// The interface may be gone, and another one of its name there the next time.
		return errors.Join(fmt.Errorf("send event on %s: %w", c.name, err), c.Close())
	}
	return nil
}

// Close implements sink.Writer.
func (c *canDestination) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn == nil {
		return nil
	}
	err := c.conn.Close()
	c.conn = nil
	return err
}

// Interrupt implements sink.Interrupter: a bus that takes nothing holds a frame for ever.
func (c *canDestination) Interrupt() error { return c.Close() }

// checkDestinations refuses destinations that the user could not write to: files in folders that are not his, and sockets that are there
// and closed to him. A socket that is not there may come, and is connected to when it does.
func (p *Privileges) checkDestinations(b *policy.Binding) error {
	for _, d := range b.DestinationsOrDefault() {
		path, want := d.Path, uint32(privilege.Write)
		help := fmt.Sprintf("setfacl -m u:%s:rw %s", p.user, path)
		switch d.Type {
		case policy.ToFile:
			if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
				path = filepath.Dir(path)
				want |= privilege.Search
				help = fmt.Sprintf("install -d -m 0750 -o %s %s", p.user, path)
			}
		case policy.ToSyslog, policy.ToJournal:
			if path == "" {
				continue
			}
			if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
				continue
			}
		default:
			continue
		}
		if err := p.user.Access(path, want); err != nil {
			return access(fmt.Errorf("events could not be written (spec.events): %w", err), help)
		}
	}
	return nil
}

// destinationCalls are the system calls that the destinations need beyond those of the agent: sockets of IP where one is remote.
func destinationCalls(b *policy.Binding) privilege.Profile {
	for _, d := range b.DestinationsOrDefault() {
		if d.Remote() {
			return privilege.Sockets(unix.AF_INET, unix.AF_INET6)
		}
	}
	return privilege.Profile{}
}
