// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"fmt"
	"io"
)

// maxFrame is what a u16 can say.
const maxFrame = 1<<16 - 1

// writeFrame writes length and message in one piece.
func writeFrame(w io.Writer, msg []byte) error {
	if len(msg) > maxFrame {
		return fmt.Errorf("send message of %d bytes: the limit is %d", len(msg), maxFrame)
	}
	b := binary.LittleEndian.AppendUint16(make([]byte, 0, 2+len(msg)), uint16(len(msg)))
	if _, err := w.Write(append(b, msg...)); err != nil {
		return fmt.Errorf("send message: %w", err)
	}
	return nil
}

// readFrame reads one message.
func readFrame(r io.Reader) ([]byte, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, fmt.Errorf("receive message: %w", err)
	}
	msg := make([]byte, binary.LittleEndian.Uint16(head[:]))
	if _, err := io.ReadFull(r, msg); err != nil {
		return nil, fmt.Errorf("receive message: %w", err)
	}
	return msg, nil
}
