// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"errors"
	"fmt"
	"strconv"
)

// Kinds of refused input; every [LineError] wraps one of them or an error of
// the underlying reader.
var (
	// ErrFormat: the content is of none of the known formats, or has no content.
	ErrFormat = errors.New("unknown log format")
	// ErrSyntax: a line is malformed.
	ErrSyntax = errors.New("malformed line")
	// ErrTruncated: the last line of a log holds a frame and has no line end,
	// so that nothing tells whether the frame is whole.
	ErrTruncated = errors.New("truncated line")
	// ErrLineTooLong: a line exceeds MaxLine bytes.
	ErrLineTooLong = errors.New("line too long")
	// ErrUnsupported: a line holds a frame of a kind that Frame cannot hold.
	ErrUnsupported = errors.New("unsupported frame")
)

// MaxLine is the longest line in bytes that a reader takes, line end included.
const MaxLine = 1 << 16

// maxQuote is how much of an offending line an error quotes.
const maxQuote = 120

// LineError is an error of a reader at one line of a log.
type LineError struct {
	Name string // name of the log, as given to the reader
	Line int    // counted from 1
	Text string // the line, clipped to 120 bytes, "..." appended then
	Err  error  // what is wrong
}

// Error returns name:line: reason: "text". The line is quoted as a Go string,
// so that what stands in a log cannot disturb a terminal.
func (e *LineError) Error() string {
	s := e.Name + ":" + strconv.Itoa(e.Line) + ": " + e.Err.Error()
	if e.Text != "" {
		s += ": " + strconv.Quote(e.Text)
	}
	return s
}

// Unwrap returns what is wrong.
func (e *LineError) Unwrap() error { return e.Err }

func clip(line []byte) string {
	if len(line) <= maxQuote {
		return string(line)
	}
	return string(line[:maxQuote]) + "..."
}

func syntaxf(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrSyntax}, args...)...)
}

func unsupported(what string) error {
	return fmt.Errorf("%w: %s", ErrUnsupported, what)
}
