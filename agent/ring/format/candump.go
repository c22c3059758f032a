// SPDX-License-Identifier: Apache-2.0

package format

import (
	"fmt"
	"strconv"

	"github.com/cellward/cellward/agent/ring"
)

// maxFrame is CANFD_MAX_DLEN of <linux/can.h>.
const maxFrame = 64

// appendCandump writes "(seconds.microseconds) interface ID#DATA", for bodies of more than 8 bytes ID##0DATA: a CAN FD
// frame with no flags (can-utils, lib.h).
func (w *Writer) appendCandump(s *ring.Sample, st *stream, _ int64) error {
	if len(s.Body) > maxFrame {
		return fmt.Errorf("format sample %d of stream %q: candump frames have at most %d bytes, the body has %d",
			s.Counter, st.Name, maxFrame, len(s.Body))
	}
	t := w.wall(s.ReceiveTime)
	b := append(w.buf, '(')
	b = appendPadded(b, t.Unix(), 10)
	b = append(b, '.')
	b = appendPadded(b, int64(t.Nanosecond()/1000), 6)
	b = append(b, ") "...)
	b = append(b, st.Interface...)
	b = append(b, ' ')
	b = append(b, st.id...)
	if len(s.Body) <= 8 {
		b = append(b, '#')
	} else {
		b = append(b, "##0"...)
	}
	b = appendHex(b, s.Body)
	w.buf = append(b, '\n')
	return nil
}

// appendPadded writes n with at least width digits.
func appendPadded(b []byte, n int64, width int) []byte {
	var digits [20]byte
	text := strconv.AppendInt(digits[:0], n, 10)
	for i := len(text); i < width; i++ {
		b = append(b, '0')
	}
	return append(b, text...)
}
