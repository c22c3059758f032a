// SPDX-License-Identifier: Apache-2.0

// Package format writes samples of the ring as lines: for people, as JSON lines, as CSV, and in the grammar of candump
// logs. It imports agent/ring.
package format

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cellward/cellward/agent/ring"
)

// Kind is an output format. It implements pflag.Value.
type Kind uint8

// The formats. Text is the zero value.
const (
	Text    Kind = iota // one line for people
	JSON                // one object a line (RFC 8259, jsonlines.org)
	CSV                 // RFC 4180 with a header line
	Candump             // log format of can-utils' candump -L
)

// String returns the word for the format: text, json, csv, candump.
func (k Kind) String() string {
	switch k {
	case JSON:
		return "json"
	case CSV:
		return "csv"
	case Candump:
		return "candump"
	}
	return "text"
}

// Set parses the word for a format.
func (k *Kind) Set(s string) error {
	for _, known := range []Kind{Text, JSON, CSV, Candump} {
		if known.String() == s {
			*k = known
			return nil
		}
	}
	return errors.New("want text, json, csv or candump")
}

// Type names the values in a usage text.
func (*Kind) Type() string { return "text|json|csv|candump" }

// Options tune a Writer. The zero value is good.
type Options struct {
	// WallOffset is added to CLOCK_BOOTTIME to get the time of day: nanoseconds since 1970-01-01 UTC at boot.
	WallOffset int64
	// Decode adds the physical values of the signals; JSON and Text only.
	Decode bool
}

// Writer formats samples. It is not safe for concurrent use.
type Writer struct {
	out     io.Writer
	opt     Options
	append  func(*Writer, *ring.Sample, *stream, int64) error
	streams []stream
	buf     []byte
	values  []ring.Value
}

// stream is what is the same in every line of a stream.
type stream struct {
	ring.Stream
	id      string // identifier as candump writes it: 3 or 8 upper-case digits
	decoder *ring.Decoder
	json    jsonParts
}

// New returns a Writer that writes to out whenever Flush is called. Call SetStreams before Append.
func New(out io.Writer, kind Kind, opt Options) (*Writer, error) {
	w := &Writer{out: out, opt: opt}
	switch kind {
	case Text:
		w.append = (*Writer).appendText
	case JSON:
		w.append = (*Writer).appendJSON
	case CSV:
		w.append = (*Writer).appendCSV
		w.buf = append(w.buf, csvHeader...)
	case Candump:
		w.append = (*Writer).appendCandump
	default:
		return nil, fmt.Errorf("format samples: unknown format %d", kind)
	}
	if opt.Decode && kind != JSON && kind != Text {
		return nil, fmt.Errorf("format samples: %s has no place for decoded values, json and text have", kind)
	}
	return w, nil
}

// SetStreams sets the stream table that Sample.Stream indexes from now on.
func (w *Writer) SetStreams(streams []ring.Stream) error {
	prepared := make([]stream, len(streams))
	for i := range streams {
		s := &prepared[i]
		s.Stream = streams[i]
		s.id = canID(s.CANID)
		var err error
		if w.opt.Decode {
			if s.decoder, err = ring.NewDecoder(&s.Stream); err != nil {
				return fmt.Errorf("format samples: %w", err)
			}
		}
		if s.json, err = newJSONParts(&s.Stream); err != nil {
			return fmt.Errorf("format samples: stream %q: %w", s.Name, err)
		}
	}
	w.streams = prepared
	return nil
}

// Append formats one sample. returned is the CLOCK_BOOTTIME at which the reader's call returned it. A sample that the
// format cannot express is an error and leaves no trace.
func (w *Writer) Append(s *ring.Sample, returned int64) error {
	if uint64(s.Stream) >= uint64(len(w.streams)) {
		return fmt.Errorf("format sample: stream %d of %d", s.Stream, len(w.streams))
	}
	return w.append(w, s, &w.streams[s.Stream], returned)
}

// Flush writes what has been formatted since the last Flush, in one call.
func (w *Writer) Flush() error {
	if len(w.buf) == 0 {
		return nil
	}
	_, err := w.out.Write(w.buf)
	w.buf = w.buf[:0]
	if err != nil {
		return fmt.Errorf("write samples: %w", err)
	}
	return nil
}

func (w *Writer) wall(boottime int64) time.Time { return time.Unix(0, boottime+w.opt.WallOffset).UTC() }

const upperDigits = "0123456789ABCDEF"

func appendHex(b, data []byte) []byte {
	for _, x := range data {
		b = append(b, upperDigits[x>>4], upperDigits[x&15])
	}
	return b
}

func canID(id uint32) string {
	if id&ring.ExtendedID != 0 {
		return fmt.Sprintf("%08X", id&^ring.ExtendedID)
	}
	return fmt.Sprintf("%03X", id)
}
