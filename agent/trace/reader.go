// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
)

// Format is a log format.
type Format uint8

// Log formats. The zero value asks for detection by content.
const (
	FormatAuto    Format = iota
	FormatCandump        // log lines of candump -l, candump -L (can-utils)
	FormatASC            // Vector ASC (CANalyzer, CANoe)
	FormatGVRET          // GVRET CSV, the native format of SavvyCAN
)

// String returns the name of the format in lower case.
func (f Format) String() string {
	switch f {
	case FormatAuto:
		return "auto"
	case FormatCandump:
		return "candump"
	case FormatASC:
		return "asc"
	case FormatGVRET:
		return "gvret"
	default:
		return fmt.Sprintf("format(%d)", uint8(f))
	}
}

// Stats counts what a reader met so far. Blank lines, comments and header
// lines are in Lines only.
type Stats struct {
	Lines   uint64 // all lines
	Frames  uint64 // frames handed out
	Events  uint64 // lines that the format defines as no frame (ASC: statistics, status, other buses, transmit requests)
	Invalid uint64 // refused lines, where Options.SkipInvalid let the reading go on
}

// Options of a reader. The zero value detects the format and refuses
// everything that is not well formed.
type Options struct {
	// Format of the log; FormatAuto looks at the first line that is not blank.
	Format Format
	// SkipInvalid makes the reader count refused lines in Stats.Invalid and
	// go on. Lines beyond MaxLine and read errors end the reading even so.
	SkipInvalid bool
}

// lineKind is what a line turned out to be.
type lineKind uint8

const (
	lineNone  lineKind = iota // blank, comment, header
	lineFrame                 // filled in the frame
	lineEvent                 // something else that the format defines
)

// parser turns one line without its line end into a frame. It gets a zeroed
// frame, sets all that the line gives and allocates nothing but bus names.
type parser interface {
	parse(line []byte, f *Frame) (lineKind, error)
}

// Reader reads a log as a stream, one line at a time. It is not safe for
// concurrent use.
type Reader struct {
	name    string
	in      *bufio.Reader
	closer  io.Closer
	format  Format
	skip    bool
	parser  parser
	held    []byte // line read while detecting the format, without its end
	isHeld  bool
	ended   bool // the line last read had its line end
	lineNum int
	stats   Stats
	err     error // sticky
}

var _ Source = (*Reader)(nil)

// Open opens a log file and detects its format. Close it after use.
func Open(path string) (*Reader, error) { return Options{}.Open(path) }

// NewReader reads a log from r, which it never closes; name stands in error
// messages. With FormatAuto it reads as far as the first line that is not blank.
func NewReader(name string, r io.Reader, format Format) (*Reader, error) {
	return Options{Format: format}.NewReader(name, r)
}

// Open opens a log file. Close the reader after use.
func (o Options) Open(path string) (*Reader, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	r, err := o.NewReader(path, file)
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	r.closer = file
	return r, nil
}

// NewReader is like the function NewReader.
func (o Options) NewReader(name string, r io.Reader) (*Reader, error) {
	reader := &Reader{name: name, in: bufio.NewReaderSize(r, MaxLine), format: o.Format, skip: o.SkipInvalid}
	if o.Format == FormatAuto {
		if err := reader.detect(); err != nil {
			return nil, err
		}
	}
	switch reader.format {
	case FormatCandump:
		reader.parser = &candumpParser{}
	case FormatASC:
		reader.parser = &ascParser{}
	case FormatGVRET:
		reader.parser = &gvretParser{}
	default:
		return nil, fmt.Errorf("open log %s: %w: %v", name, ErrFormat, o.Format)
	}
	return reader, nil
}

// Format returns the format of the log, detected or given.
func (r *Reader) Format() Format { return r.format }

// Stats returns the counts up to now.
func (r *Reader) Stats() Stats { return r.stats }

// Close closes the file of a reader made by Open; otherwise it does nothing.
func (r *Reader) Close() error {
	if r.closer == nil {
		return nil
	}
	if err := r.closer.Close(); err != nil {
		return fmt.Errorf("close log: %w", err)
	}
	return nil
}

// Next fills f with the next frame of the log. At the end of the log it
// returns io.EOF, at a line it refuses a *LineError; f is zero then, and the
// same error is returned by every later call.
func (r *Reader) Next(f *Frame) error {
	for r.err == nil {
		line, err := r.line()
		if err != nil {
			r.err = err
			break
		}
		*f = Frame{}
		kind, err := r.parser.parse(line, f)
		if err == nil && kind == lineFrame && !r.ended {
			err = fmt.Errorf("%w: the last line has no line end", ErrTruncated)
		}
		switch {
		case err != nil && r.skip:
			r.stats.Invalid++
		case err != nil:
			r.err = r.fail(err, line)
		case kind == lineFrame:
			r.stats.Frames++
			return nil
		case kind == lineEvent:
			r.stats.Events++
		}
	}
	*f = Frame{}
	return r.err
}

func (r *Reader) fail(err error, line []byte) error {
	return &LineError{Name: r.name, Line: r.lineNum, Text: clip(line), Err: err}
}

// line returns the next line without its end. It is valid until the next call.
func (r *Reader) line() ([]byte, error) {
	if r.isHeld {
		r.isHeld = false
		return r.held, nil
	}
	line, err := r.in.ReadSlice('\n')
	if err == io.EOF && len(line) == 0 {
		return nil, io.EOF
	}
	r.lineNum++
	r.stats.Lines++
	switch {
	case err == bufio.ErrBufferFull:
		return nil, r.fail(fmt.Errorf("%w: more than %d bytes", ErrLineTooLong, MaxLine), line)
	case err != nil && err != io.EOF:
		return nil, r.fail(fmt.Errorf("read log: %w", err), nil)
	}
	if r.ended = err == nil; r.ended {
		line = line[:len(line)-1]
		if n := len(line); n > 0 && line[n-1] == '\r' {
			line = line[:n-1]
		}
	}
	if r.lineNum == 1 && len(line) >= 3 && string(line[:3]) == "\xEF\xBB\xBF" {
		line = line[3:]
	}
	return line, nil
}

// detect looks at the first line that is not blank and keeps it for Next. One
// line is enough, so a log that comes through a pipe is not held up.
func (r *Reader) detect() error {
	for {
		line, err := r.line()
		if err == io.EOF {
			return fmt.Errorf("open log %s: %w: no content", r.name, ErrFormat)
		}
		if err != nil {
			return err
		}
		text := trim(line)
		if len(text) == 0 {
			continue
		}
		switch {
		case text[0] == '(':
			r.format = FormatCandump
		case isASCHeader(text):
			r.format = FormatASC
		case isGVRETHeader(text):
			r.format = FormatGVRET
		default:
			return r.fail(fmt.Errorf("%w: neither candump, Vector ASC nor GVRET CSV", ErrFormat), line)
		}
		r.held, r.isHeld = line, true
		return nil
	}
}
