// SPDX-License-Identifier: Apache-2.0

package edge

import (
	"errors"
	"io"
	"os"
	"sync/atomic"
	"time"

	"github.com/cellward/cellward/agent/trace"
	"github.com/cellward/cellward/loader"
)

// Live is a trace.Source of the frames that come in on a CAN interface. Next waits for a frame and ends with io.EOF once the
// interface's connection is closed.
type Live struct {
	conn  *loader.CANConn
	name  string
	begun time.Time
	frame loader.CANFrame
	drops atomic.Uint64 // as of Close
}

var _ trace.Source = (*Live)(nil)

// liveQueue is how many frames may wait while the node stands still: several seconds of a classic bus at 1 Mbit/s. It is a limit:
// an empty queue takes no memory.
const liveQueue = 1 << 16

// OpenLive opens an interface in the caller's network namespace. Protected identifiers do not come through where a filter is
// attached.
func OpenLive(name string) (*Live, error) {
	c, err := loader.OpenCAN(nil, name)
	if err != nil {
		return nil, err
	}
	if err := c.SetReceiveQueue(liveQueue); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return &Live{conn: c, name: name, begun: time.Now()}, nil
}

// Dropped returns how many frames of the interface were lost before Next because they waited too long for it. Safe for concurrent use.
func (l *Live) Dropped() uint64 {
	n, err := l.conn.Drops()
	if err != nil { // it is closed
		return l.drops.Load()
	}
	return n
}

// Next implements trace.Source. Times are since the source was opened.
func (l *Live) Next(f *trace.Frame) error {
	size, err := l.conn.Receive(&l.frame, time.Time{})
	if errors.Is(err, os.ErrClosed) {
		return io.EOF
	}
	if err != nil {
		return err
	}
	in := &l.frame
	*f = trace.Frame{Time: int64(time.Since(l.begun)), Bus: l.name, FD: size == loader.CANFDMTU, Len: in.Len, Dir: trace.DirRx}
	if in.ID&loader.CANERRFlag != 0 {
		f.Error = true
		f.ID = in.ID & loader.CANEFFMask
		return nil
	}
	f.Extended, f.RTR = in.ID&loader.CANEFFFlag != 0, in.ID&loader.CANRTRFlag != 0
	f.ID = in.ID & loader.CANSFFMask
	if f.Extended {
		f.ID = in.ID & loader.CANEFFMask
	}
	if !f.RTR {
		copy(f.Data[:], in.Data[:min(int(in.Len), len(in.Data))])
	}
	return nil
}

// Close ends a Next that waits, and all later ones.
func (l *Live) Close() error {
	l.drops.Store(l.Dropped())
	return l.conn.Close()
}
