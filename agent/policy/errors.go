// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"errors"
	"fmt"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"
)

// ErrInvalid is wrapped by every error about the content of a document, as opposed to one about reading a file.
var ErrInvalid = errors.New("invalid document")

// maxErrors bounds what one document can make this package report: a hostile file of 1 MiB could otherwise ask for
// half a million errors, each with its line.
const maxErrors = 250

// excerptWidth is the longest part of a line, in characters, that an error shows.
const excerptWidth = 110

// Error is one thing that is wrong with a document, at one place.
type Error struct {
	File   string `json:"file"`
	Line   int    `json:"line"`           // from 1
	Column int    `json:"column"`         // from 1, in characters
	Path   string `json:"path,omitempty"` // field, such as spec.dataSources[0].samplingRate; empty for the file as a whole
	// Message says what is wanted and what was found.
	Message string `json:"message"`
	// Excerpt is the offending line and, under it, a caret at the column. It holds printable characters only.
	Excerpt string `json:"excerpt,omitempty"`
}

// Error gives "file:line:column: path: message" and, on the next two lines, the excerpt.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s:%d:%d: ", e.File, e.Line, e.Column)
	if e.Path != "" {
		b.WriteString(e.Path + ": ")
	}
	b.WriteString(e.Message)
	if e.Excerpt != "" {
		b.WriteString("\n" + e.Excerpt)
	}
	return b.String()
}

// Unwrap returns [ErrInvalid].
func (e *Error) Unwrap() error { return ErrInvalid }

// Errors holds all errors of one document in the order of their places, or those of several documents one after the
// other. errors.As finds the first [Error].
type Errors []*Error

// Error joins the errors with line breaks.
func (e Errors) Error() string {
	texts := make([]string, len(e))
	for i, one := range e {
		texts[i] = one.Error()
	}
	return strings.Join(texts, "\n")
}

// Unwrap returns the single errors, as errors.Join does.
func (e Errors) Unwrap() []error {
	all := make([]error, len(e))
	for i, one := range e {
		all[i] = one
	}
	return all
}

// report collects the errors of one source.
type report struct {
	src     *source
	errs    Errors
	omitted int
}

// add records an error at a place, given from 1. A place behind the end of the file or of a line, which is where YAML
// puts things that end too early, is moved to that end.
func (r *report) add(line, column int, path, message string) {
	if len(r.errs) >= maxErrors {
		r.omitted++
		return
	}
	line, column = r.src.clamp(line, column)
	r.errs = append(r.errs, &Error{
		File: r.src.name, Line: line, Column: column, Path: path, Message: message,
		Excerpt: excerpt(r.src.lines[line-1], line, column),
	})
}

// err returns what was collected, in the order of places, or nil.
func (r *report) err() error {
	if len(r.errs) == 0 {
		return nil
	}
	sort.SliceStable(r.errs, func(i, j int) bool {
		a, b := r.errs[i], r.errs[j]
		return a.Line < b.Line || a.Line == b.Line && a.Column < b.Column
	})
	errs := r.errs
	if r.omitted > 0 {
		last := errs[len(errs)-1]
		errs = append(errs[:len(errs):len(errs)], &Error{File: last.File, Line: last.Line, Column: last.Column,
			Message: fmt.Sprintf("%d more errors are not shown", r.omitted)})
	}
	return errs
}

// excerpt shows a line with a caret under column. A long line is cut on both sides of the caret; what does not print
// is replaced, since the text of a document must not reach a terminal as control sequences.
func excerpt(line string, number, column int) string {
	before, after := "", ""
	caret := column - 1
	if length := utf8.RuneCountInString(line); length > excerptWidth {
		if from := min(caret-excerptWidth*2/3, length-excerptWidth); from > 0 {
			line, caret, before = line[runeOffset(line, from):], caret-from, "..."
		}
		if end := runeOffset(line, excerptWidth); end < len(line) {
			line, after = line[:end], "..."
		}
	}
	printable := strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case !strconv.IsPrint(r):
			return utf8.RuneError
		}
		return r
	}, line)
	gutter := strconv.Itoa(number)
	return fmt.Sprintf("  %s | %s%s%s\n  %s | %s^", gutter, before, printable, after,
		strings.Repeat(" ", len(gutter)), strings.Repeat(" ", len(before)+caret))
}

// runeOffset returns where in s the n-th character begins, from 0.
func runeOffset(s string, n int) int {
	for i := range s {
		if n == 0 {
			return i
		}
		n--
	}
	return len(s)
}

// clip quotes text from a document for a message, shortened.
func clip(s string) string {
	const limit = 60
	if utf8.RuneCountInString(s) > limit {
		s = string([]rune(s)[:limit]) + "..."
	}
	return strconv.Quote(s)
}
