// SPDX-License-Identifier: Apache-2.0

package edhoc

import (
	"bytes"
	"fmt"
)

// Error codes (RFC 9528, 6).
const (
	CodeSuccess           = 0 // never on the wire
	CodeUnspecified       = 1
	CodeWrongSuite        = 2
	CodeUnknownCredential = 3
)

// ErrorMessage is an EDHOC error message. Nothing protects it: anyone on the path can forge one.
type ErrorMessage struct {
	Code   int64
	Text   string // for CodeUnspecified: a diagnostic in English
	Suites []int  // for CodeWrongSuite: SUITES_R
	Info   []byte // for codes this package does not know: ERR_INFO as encoded
}

// IsError reports whether a message that is expected to be message_2, message_3 or message_4 is an error message
// instead. Those begin with a byte string, an error message with an integer. message_1 begins with an integer as well,
// but there nothing was sent that an error could answer.
func IsError(msg []byte) bool { return len(msg) > 0 && msg[0]>>5 <= 1 }

// Error makes a received error message usable as an error value.
func (m *ErrorMessage) Error() string {
	switch m.Code {
	case CodeUnspecified:
		return fmt.Sprintf("edhoc: peer reports (unauthenticated): %q", m.Text)
	case CodeWrongSuite:
		return fmt.Sprintf("edhoc: peer reports (unauthenticated): wrong cipher suite, it supports %v", m.Suites)
	case CodeUnknownCredential:
		return "edhoc: peer reports (unauthenticated): unknown credential"
	}
	return fmt.Sprintf("edhoc: peer reports (unauthenticated): error code %d", m.Code)
}

// Encode gives the message as it is sent. ERR_INFO of an unknown code without Info is an empty text.
func (m *ErrorMessage) Encode() []byte {
	switch {
	case m.Code == CodeUnspecified:
		return sequence(m.Code, m.Text)
	case m.Code == CodeWrongSuite:
		return append(sequence(m.Code), encodeSuites(m.Suites)...)
	case m.Code == CodeUnknownCredential:
		return sequence(m.Code, true)
	case len(m.Info) > 0:
		return append(sequence(m.Code), m.Info...)
	}
	return sequence(m.Code, "")
}

// ParseError reads an error message. Code 0 and an ERR_INFO of another type than the code has are refused.
func ParseError(msg []byte) (*ErrorMessage, error) {
	m, e := parseError(msg)
	if e != nil {
		return nil, e
	}
	return m, nil
}

func parseError(msg []byte) (*ErrorMessage, *Error) {
	seq, e := items(msg)
	if e != nil {
		return nil, e
	}
	if len(seq) != 2 {
		return nil, fail(CheckCDDL, "%d data items where two belong", len(seq))
	}
	code, ok := seq[0].val.(int64)
	if !ok {
		return nil, fail(CheckCDDL, "ERR_CODE is not an integer")
	}
	m := &ErrorMessage{Code: code}
	switch code {
	case CodeSuccess:
		return nil, fail(CheckErrorCode, "error code 0 is success")
	case CodeUnspecified:
		if m.Text, ok = seq[1].val.(string); !ok {
			return nil, fail(CheckErrorInfo, "ERR_INFO of code 1 is not text")
		}
	case CodeWrongSuite:
		suites, e := parseSuites(seq[1])
		if e != nil {
			return nil, fail(CheckErrorInfo, "ERR_INFO of code 2: %w", e.Err)
		}
		for _, s := range suites {
			m.Suites = append(m.Suites, int(s))
		}
	case CodeUnknownCredential:
		if seq[1].val != true {
			return nil, fail(CheckErrorInfo, "ERR_INFO of code 3 is not true")
		}
	default:
		m.Info = bytes.Clone(seq[1].raw)
	}
	return m, nil
}

// encodeSuites encodes SUITES_I or SUITES_R: one suite as an integer, more as an array.
func encodeSuites(ids []int) []byte {
	if len(ids) == 1 {
		return sequence(ids[0])
	}
	return sequence(ids)
}

// parseSuites reads what encodeSuites makes.
func parseSuites(it item) ([]int64, *Error) {
	if it.isInt() {
		return []int64{suiteNumber(it.val)}, nil
	}
	list, ok := it.val.([]any)
	if !ok || len(list) < 2 {
		return nil, fail(CheckCDDL, "cipher suites are an integer or an array of at least two")
	}
	out := make([]int64, len(list))
	for i, v := range list {
		if !(item{val: v}).isInt() {
			return nil, fail(CheckCDDL, "cipher suite %d is not an integer", i+1)
		}
		out[i] = suiteNumber(v)
	}
	return out, nil
}

// suiteNumber maps the integers that no suite can have to one of them.
func suiteNumber(v any) int64 {
	const none = 1 << 20
	if n, ok := v.(int64); ok && n > -none && n < none {
		return n
	}
	return none
}
