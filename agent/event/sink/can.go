// SPDX-License-Identifier: Apache-2.0

package sink

import (
	"github.com/cellward/cellward/agent/event"
	"github.com/cellward/cellward/agent/event/encode"
	"github.com/cellward/cellward/loader"
)

// FrameSender sends CAN FD frames; *loader.CANConn is one. SendFD waits while the bus takes nothing, and Close, which may be
// called more than once and at any time, ends that.
type FrameSender interface {
	SendFD(*loader.CANFrame) error
	Close() error
}

// CAN sends a frame for each record.
type CAN struct {
	conn   FrameSender
	format encode.IdsM
}

// NewCAN makes a CAN, which owns conn from then on.
func NewCAN(conn FrameSender, format encode.IdsM) *CAN { return &CAN{conn, format} }

// Write implements Writer.
func (c *CAN) Write(r *event.Record) error {
	f := c.format.Frame(r)
	return c.conn.SendFD(&f)
}

// Close implements Writer.
func (c *CAN) Close() error { return c.conn.Close() }

// Interrupt implements Interrupter.
func (c *CAN) Interrupt() error { return c.conn.Close() }
