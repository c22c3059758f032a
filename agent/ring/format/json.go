// SPDX-License-Identifier: Apache-2.0

package format

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"strconv"

	"github.com/cellward/cellward/agent/ring"
)

// jsonParts are the parts of a line that are the same for every sample of a stream.
type jsonParts struct {
	stream  []byte   // members that describe the stream
	signals [][]byte // `"name":` of each signal
}

func newJSONParts(s *ring.Stream) (jsonParts, error) {
	members, err := json.Marshal(struct {
		Interface string `json:"interface"`
		ID        uint32 `json:"id"`
		Extended  bool   `json:"extended"`
		Stream    uint32 `json:"stream"`
		Name      string `json:"name"`
		Source    string `json:"source"`
	}{s.Interface, s.CANID &^ ring.ExtendedID, s.Extended(), s.ID, s.Name, s.Source})
	if err != nil {
		return jsonParts{}, err
	}
	p := jsonParts{stream: members[1 : len(members)-1]}
	for i := range s.Signals {
		name, err := json.Marshal(s.Signals[i].Name)
		if err != nil {
			return jsonParts{}, fmt.Errorf("signal %d: %w", i, err)
		}
		p.signals = append(p.signals, append(name, ':'))
	}
	return p, nil
}

// timeLayout is RFC 3339 with all nine digits, so that lines stay aligned and sort as text.
const timeLayout = "2006-01-02T15:04:05.000000000Z07:00"

// appendJSON writes one object:
//
//	time            RFC 3339, when the filter saw the frame
//	receive_ns      the same, CLOCK_BOOTTIME in nanoseconds
//	publish_ns      when the sample was published, CLOCK_BOOTTIME in nanoseconds
//	latency_ns      from receive_ns to the return of the reader's call
//	interface, id (number), extended, stream (id), name, source
//	epoch, counter, source_time_ms
//	flags           words of ring.Flags
//	length, body    hexadecimal
//	values          with Decode: physical value by signal name; null for what is no number
func (w *Writer) appendJSON(s *ring.Sample, st *stream, returned int64) error {
	b := append(w.buf, `{"time":"`...)
	b = w.wall(s.ReceiveTime).AppendFormat(b, timeLayout)
	b = append(b, `","receive_ns":`...)
	b = strconv.AppendInt(b, s.ReceiveTime, 10)
	b = append(b, `,"publish_ns":`...)
	b = strconv.AppendInt(b, s.PublishTime, 10)
	b = append(b, `,"latency_ns":`...)
	b = strconv.AppendInt(b, returned-s.ReceiveTime, 10)
	b = append(b, ',')
	b = append(b, st.json.stream...)
	b = append(b, `,"epoch":`...)
	b = strconv.AppendUint(b, uint64(s.Epoch), 10)
	b = append(b, `,"counter":`...)
	b = strconv.AppendUint(b, s.Counter, 10)
	b = append(b, `,"source_time_ms":`...)
	b = strconv.AppendUint(b, uint64(s.SourceTime), 10)
	b = append(b, `,"flags":[`...)
	for i, name := range s.Flags.Names() {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendQuote(b, name)
	}
	b = append(b, `],"length":`...)
	b = strconv.AppendInt(b, int64(len(s.Body)), 10)
	b = append(b, `,"body":"`...)
	b = hex.AppendEncode(b, s.Body)
	b = append(b, '"')
	if st.decoder != nil {
		b = append(b, `,"values":{`...)
		w.values = st.decoder.Append(w.values[:0], s.Body)
		for i, v := range w.values {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(b, st.json.signals[v.Signal]...)
			if math.IsNaN(v.Physical) || math.IsInf(v.Physical, 0) {
				b = append(b, "null"...)
			} else {
				b = strconv.AppendFloat(b, v.Physical, 'g', -1, 64)
			}
		}
		b = append(b, '}')
	}
	w.buf = append(b, '}', '\n')
	return nil
}
