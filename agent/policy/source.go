// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"
)

// MaxSize is the largest document in bytes. A binding of 4,096 streams has about half of it.
const MaxSize = 1 << 20

// source is the text of one document.
type source struct {
	name  string
	data  []byte
	lines []string // without their ends; never empty
}

// readSource reads a file. It reads no further than MaxSize + 1 bytes, so that a device or a growing file ends.
func readSource(path string) (*source, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read document: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("read document: %w", err)
	}
	return newSource(path, data), nil
}

func newSource(name string, data []byte) *source {
	s := &source{name: name, data: data, lines: []string{""}}
	if len(data) <= MaxSize {
		s.lines = strings.Split(string(data), "\n")
		for i, line := range s.lines {
			s.lines[i] = strings.TrimSuffix(line, "\r")
		}
	}
	return s
}

// clamp moves a place into the text: to the last line, and at most one character behind the end of a line.
func (s *source) clamp(line, column int) (int, int) {
	last := len(s.lines)
	if last > 1 && s.lines[last-1] == "" {
		last-- // what follows the final line break is no line of its own
	}
	if line > last {
		line, column = last, len(s.lines[last-1])+1
	}
	line = max(line, 1)
	return line, min(max(column, 1), utf8.RuneCountInString(s.lines[line-1])+1)
}

// check reports what must not reach the YAML parser: other encodings, which it would accept, characters that it takes
// for line breaks where an editor shows none, and controls that would make a document look different from what it
// says. It reports whether the text may be parsed.
func (s *source) check(r *report) bool {
	switch {
	case len(s.data) > MaxSize:
		r.add(1, 1, "", fmt.Sprintf("the document is larger than 1 MiB (%d bytes)", MaxSize))
		return false
	case bytes.HasPrefix(s.data, []byte("\xef\xbb\xbf")):
		r.add(1, 1, "", "the file begins with a byte order mark; save it as UTF-8 without one")
		return false
	}
	good := true
	for i, line := range s.lines {
		if column, problem := checkLine(line); problem != "" {
			r.add(i+1, column, "", problem)
			good = false
			if strings.HasPrefix(problem, "not UTF-8") {
				return false // one such error says it all; a binary file would give thousands
			}
		}
	}
	return good
}

// checkLine returns the first problem of a line and its column.
func checkLine(line string) (int, string) {
	column, indent := 0, true
	for i, c := range line {
		column++
		indent = indent && (c == ' ' || c == '\t')
		switch {
		case c == utf8.RuneError && line[i] != 0xEF: // U+FFFD itself is encoded EF BF BD
			return column, fmt.Sprintf("not UTF-8: byte 0x%02X", line[i])
		case c == '\t' && indent:
			return column, "tab in indentation; YAML indents with spaces"
		case c == '\r':
			return column, "carriage return without line feed"
		case c < 0x20 && c != '\t' || c >= 0x7F && c <= 0x9F || c == 0xFEFF || c == 0xFFFE || c == 0xFFFF:
			return column, fmt.Sprintf("control character U+%04X", c)
		case c == 0x2028 || c == 0x2029:
			return column, fmt.Sprintf("line or paragraph separator U+%04X", c)
		case c >= 0x202A && c <= 0x202E || c >= 0x2066 && c <= 0x2069 || c == 0x200E || c == 0x200F || c == 0x061C:
			return column, fmt.Sprintf("bidirectional control character U+%04X", c)
		}
	}
	return 0, ""
}
