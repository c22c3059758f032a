// SPDX-License-Identifier: Apache-2.0

// Package capture writes offending frames as pcapng, for Wireshark, tshark and everything else that reads SocketCAN captures.
//
// It may import agent/event and the packages under it, and loader.
package capture

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"github.com/cellward/cellward/agent/event"
	"github.com/cellward/cellward/loader"
)

// LinkType is LINKTYPE_CAN_SOCKETCAN of tcpdump.org: struct can_frame or canfd_frame with the identifier in network byte order.
const LinkType layers.LinkType = 227

// head is the length of the head of a frame in LINKTYPE_CAN_SOCKETCAN.
const head = 8

// Writer writes pcapng. Nothing is sure to be written before Flush. It is not safe for concurrent use.
type Writer struct {
	out        *pcapgo.NgWriter
	w          io.Writer
	interfaces map[string]int
	buf        []byte
}

// NewWriter makes a Writer.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w, interfaces: make(map[string]int)} }

// iface returns the number of an interface in the file. The first one begins the file.
func (w *Writer) iface(name string) (int, error) {
	if n, ok := w.interfaces[name]; ok {
		return n, nil
	}
	info := pcapgo.NgInterface{Name: name, LinkType: LinkType, TimestampResolution: 9}
	n := 0
	var err error
	if w.out == nil {
		w.out, err = pcapgo.NewNgWriterInterface(w.w, info, pcapgo.NgWriterOptions{SectionInfo: pcapgo.NgSectionInfo{OS: "linux", Application: "cellward"}})
	} else {
		n, err = w.out.AddInterface(info)
	}
	if err != nil {
		return 0, fmt.Errorf("write interface of capture: %w", err)
	}
	w.interfaces[name] = n
	return n, nil
}

// Write writes the frame of a record, with its kind and place as a comment; nothing for a record without one. The time is that of the
// record's first event.
func (w *Writer) Write(r *event.Record) error {
	if r.Frame == nil {
		return nil
	}
	n, err := w.iface(r.Interface)
	if err != nil {
		return err
	}
	w.buf = appendFrame(w.buf[:0], r.Frame)
	comment := r.Kind.String()
	if r.Source != "" {
		comment += " source=" + r.Source
	}
	if r.Node != "" {
		comment += " node=" + r.Node
	}
	info := gopacket.CaptureInfo{Timestamp: r.First.Time(), CaptureLength: len(w.buf), Length: len(w.buf), InterfaceIndex: n}
	if err := w.out.WritePacketWithOptions(info, w.buf, pcapgo.NgPacketOptions{Comments: []string{comment}}); err != nil {
		return fmt.Errorf("write frame of capture: %w", err)
	}
	return nil
}

// Flush writes what is buffered. A capture without frames has one interface without a name, since a reader needs one.
func (w *Writer) Flush() error {
	if w.out == nil {
		if _, err := w.iface(""); err != nil {
			return err
		}
	}
	if err := w.out.Flush(); err != nil {
		return fmt.Errorf("write capture: %w", err)
	}
	return nil
}

// appendFrame appends a frame as LINKTYPE_CAN_SOCKETCAN has it.
func appendFrame(b []byte, f *loader.CANFrame) []byte {
	n := min(int(f.Len), len(f.Data))
	b = binary.BigEndian.AppendUint32(b, f.ID)
	b = append(b, uint8(n), f.Flags, 0, 0)
	if f.ID&loader.CANRTRFlag != 0 {
		return b // a length and no data
	}
	return append(b, f.Data[:n]...)
}
