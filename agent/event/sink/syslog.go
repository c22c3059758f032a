// SPDX-License-Identifier: Apache-2.0

package sink

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/cellward/cellward/agent/event"
	"github.com/cellward/cellward/agent/event/encode"
)

// ErrNetwork says that a network is none of those that Syslog knows.
var ErrNetwork = errors.New("want network unixgram, unix, udp or tcp")

// DefaultTimeout is how long a connection may take to be made, and to take one message.
const DefaultTimeout = 5 * time.Second

// SyslogOptions say where a syslog server is.
type SyslogOptions struct {
	// Network is unixgram or unix (a local server, such as /dev/log), udp (RFC 5426) or tcp (RFC 6587).
	Network string
	Address string
	Format  encode.Syslog
	// Timeout bounds connecting and each message. 0: DefaultTimeout.
	Timeout time.Duration
}

// Syslog sends RFC 5424 messages: one a datagram, on streams with octet counting (RFC 6587, 3.4.1). It connects when there
// is something to send. A stream tells nothing of messages that a server had not read when it died; they are the
// network's loss and are not noticed.
type Syslog struct {
	o      SyslogOptions
	stream bool
	conn   net.Conn
	buf    []byte
	text   []byte
}

// NewSyslog makes a Syslog.
func NewSyslog(o SyslogOptions) (*Syslog, error) {
	s := &Syslog{o: o}
	switch o.Network {
	case "unixgram", "udp":
	case "unix", "tcp":
		s.stream = true
	default:
		return nil, fmt.Errorf("%w, got %q", ErrNetwork, o.Network)
	}
	if s.o.Timeout <= 0 {
		s.o.Timeout = DefaultTimeout
	}
	return s, nil
}

// Write implements Writer.
func (s *Syslog) Write(r *event.Record) error {
	if s.conn == nil {
		conn, err := net.DialTimeout(s.o.Network, s.o.Address, s.o.Timeout)
		if err != nil {
			return fmt.Errorf("connect to syslog: %w", err)
		}
		s.conn = conn
	}
	s.text = s.o.Format.Append(s.text[:0], r)
	s.buf = s.buf[:0]
	if s.stream {
		s.buf = append(strconv.AppendInt(s.buf, int64(len(s.text)), 10), ' ')
	}
	s.buf = append(s.buf, s.text...)
	err := s.conn.SetWriteDeadline(time.Now().Add(s.o.Timeout))
	if err == nil {
		_, err = s.conn.Write(s.buf)
	}
	if err != nil {
		// A stream is broken behind half a message, and a datagram socket may have lost its peer: begin anew either way.
		return errors.Join(fmt.Errorf("send to syslog: %w", err), s.Close())
	}
	return nil
}

// Close implements Writer.
func (s *Syslog) Close() error {
	if s.conn == nil {
		return nil
	}
	err := s.conn.Close()
	s.conn = nil
	return err
}
