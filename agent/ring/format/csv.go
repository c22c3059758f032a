// SPDX-License-Identifier: Apache-2.0

package format

import (
	"encoding/hex"
	"strconv"
	"strings"

	"github.com/cellward/cellward/agent/ring"
)

const csvHeader = "time,receive_ns,latency_ns,interface,id,extended,stream,name,source,epoch,counter,source_time_ms,flags,length,body\r\n"

// appendCSV writes one record with the columns of the header; id and body are hexadecimal, flags are separated by "|".
func (w *Writer) appendCSV(s *ring.Sample, st *stream, returned int64) error {
	b := w.wall(s.ReceiveTime).AppendFormat(w.buf, timeLayout)
	b = append(b, ',')
	b = strconv.AppendInt(b, s.ReceiveTime, 10)
	b = append(b, ',')
	b = strconv.AppendInt(b, returned-s.ReceiveTime, 10)
	b = append(b, ',')
	b = appendField(b, st.Interface)
	b = append(b, ',')
	b = append(b, st.id...)
	b = append(b, ',')
	b = strconv.AppendBool(b, st.Extended())
	b = append(b, ',')
	b = strconv.AppendUint(b, uint64(st.ID), 10)
	b = append(b, ',')
	b = appendField(b, st.Name)
	b = append(b, ',')
	b = appendField(b, st.Source)
	b = append(b, ',')
	b = strconv.AppendUint(b, uint64(s.Epoch), 10)
	b = append(b, ',')
	b = strconv.AppendUint(b, s.Counter, 10)
	b = append(b, ',')
	b = strconv.AppendUint(b, uint64(s.SourceTime), 10)
	b = append(b, ',')
	b = append(b, s.Flags.String()...)
	b = append(b, ',')
	b = strconv.AppendInt(b, int64(len(s.Body)), 10)
	b = append(b, ',')
	b = hex.AppendEncode(b, s.Body)
	w.buf = append(b, '\r', '\n')
	return nil
}

// appendField quotes a field where RFC 4180 asks for it. Names have no line breaks.
func appendField(b []byte, s string) []byte {
	if !strings.ContainsAny(s, `",`) {
		return append(b, s...)
	}
	b = append(b, '"')
	b = append(b, strings.ReplaceAll(s, `"`, `""`)...)
	return append(b, '"')
}
