// SPDX-License-Identifier: Apache-2.0

package format

import (
	"strconv"

	"github.com/cellward/cellward/agent/ring"
)

// appendText writes one line for people: time (UTC), interface, identifier, name, epoch/counter, length, body, flags,
// values.
func (w *Writer) appendText(s *ring.Sample, st *stream, _ int64) error {
	b := w.wall(s.ReceiveTime).AppendFormat(w.buf, "15:04:05.000000")
	b = append(b, "  "...)
	b = append(b, st.Interface...)
	b = append(b, "  "...)
	b = append(b, st.id...)
	b = append(b, "  "...)
	b = append(b, st.Name...)
	b = append(b, "  "...)
	b = strconv.AppendUint(b, uint64(s.Epoch), 10)
	b = append(b, '/')
	b = strconv.AppendUint(b, s.Counter, 10)
	b = append(b, "  ["...)
	b = strconv.AppendInt(b, int64(len(s.Body)), 10)
	b = append(b, ']')
	for i := range s.Body {
		b = append(b, ' ')
		b = appendHex(b, s.Body[i:i+1])
	}
	for _, name := range s.Flags.Names() {
		b = append(b, "  "...)
		b = append(b, name...)
	}
	if st.decoder != nil {
		w.values = st.decoder.Append(w.values[:0], s.Body)
		for _, v := range w.values {
			signal := &st.Signals[v.Signal]
			b = append(b, "  "...)
			b = append(b, signal.Name...)
			b = append(b, '=')
			b = strconv.AppendFloat(b, v.Physical, 'g', 6, 64)
			if signal.Unit != "" {
				b = append(b, ' ')
				b = append(b, signal.Unit...)
			}
		}
	}
	w.buf = append(b, '\n')
	return nil
}
