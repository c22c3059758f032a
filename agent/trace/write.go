// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
)

const hexDigits = "0123456789ABCDEF"

// AppendCandump appends f as a candump log line without line end:
//
//	(seconds.fraction) bus id#data
//
// followed by " R" or " T" where the direction is known. The time has 6
// decimals, or 9 where 6 would lose something; round Time down to microseconds
// for readers that know 6 only (can-utils before 2023). What a reader makes of
// the line of a valid frame is that frame. It allocates only to grow dst.
func AppendCandump(dst []byte, f *Frame) []byte {
	ns := max(f.Time, 0)
	dst = append(dst, '(')
	dst = strconv.AppendInt(dst, ns/1e9, 10)
	dst = append(dst, '.')
	frac, digit := ns%1e9, int64(1e8)
	last := int64(1)
	if frac%1000 == 0 {
		last = 1000
	}
	for ; digit >= last; digit /= 10 {
		dst = append(dst, '0'+byte(frac/digit%10))
	}
	dst = append(dst, ") "...)
	dst = append(dst, f.Bus...)
	dst = append(dst, ' ')
	dst = AppendCandumpFrame(dst, f)
	switch f.Dir {
	case DirRx:
		dst = append(dst, " R"...)
	case DirTx:
		dst = append(dst, " T"...)
	}
	return dst
}

// AppendCandumpFrame appends identifier and payload of f in the compact form
// of can-utils (snprintf_canframe in lib.h), as cansend takes it:
//
//	123#1122  12345678#1122  123#R8  123##0112233  123#1122334455667788_E
func AppendCandumpFrame(dst []byte, f *Frame) []byte {
	switch {
	case f.Error:
		dst = appendHex(dst, f.ID&MaxExtendedID|errFlag, 8)
	case f.Extended:
		dst = appendHex(dst, f.ID&MaxExtendedID, 8)
	default:
		dst = appendHex(dst, f.ID&MaxStandardID, 3)
	}
	dst = append(dst, '#')
	switch {
	case f.RTR:
		dst = append(dst, 'R')
		if f.Len != 0 {
			dst = append(dst, hexDigits[f.Len&15])
		}
	case f.FD:
		flags := 0
		if f.BRS {
			flags |= 1
		}
		if f.ESI {
			flags |= 2
		}
		dst = append(dst, '#', hexDigits[flags])
	}
	for _, b := range f.Body() {
		dst = append(dst, hexDigits[b>>4], hexDigits[b&15])
	}
	if f.RawDLC != 0 {
		dst = append(dst, '_', hexDigits[f.RawDLC&15])
	}
	return dst
}

func appendHex(dst []byte, v uint32, digits int) []byte {
	for shift := 4 * (digits - 1); shift >= 0; shift -= 4 {
		dst = append(dst, hexDigits[v>>shift&15])
	}
	return dst
}

// CandumpWriter writes a candump log. Nothing is sure to be written before
// Flush. It is not safe for concurrent use.
type CandumpWriter struct {
	out  *bufio.Writer
	line []byte
}

// NewCandumpWriter returns a writer of candump log lines.
func NewCandumpWriter(w io.Writer) *CandumpWriter {
	return &CandumpWriter{out: bufio.NewWriterSize(w, 16<<10)}
}

// Write appends one line. It refuses a frame that is not valid, because its
// line would not read back.
func (w *CandumpWriter) Write(f *Frame) error {
	if err := f.Validate(); err != nil {
		return fmt.Errorf("write candump line: %w", err)
	}
	w.line = append(AppendCandump(w.line[:0], f), '\n')
	if _, err := w.out.Write(w.line); err != nil {
		return fmt.Errorf("write candump line: %w", err)
	}
	return nil
}

// Flush writes what is buffered.
func (w *CandumpWriter) Flush() error {
	if err := w.out.Flush(); err != nil {
		return fmt.Errorf("write candump lines: %w", err)
	}
	return nil
}
