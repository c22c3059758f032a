// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// ExtendedID is CAN_EFF_FLAG of <linux/can.h>: set in CANID for a 29-bit identifier.
const ExtendedID = 1 << 31

// Sensitivity is the policy's class of a data source.
type Sensitivity uint8

// The classes of the policy, lowest first. Unspecified is the zero value.
const (
	SensitivityUnspecified Sensitivity = iota
	SensitivityLow
	SensitivityMedium
	SensitivityHigh
	SensitivityCritical
)

// String returns the policy's word for the class.
func (s Sensitivity) String() string {
	switch s {
	case SensitivityUnspecified:
		return "UNSPECIFIED"
	case SensitivityLow:
		return "LOW"
	case SensitivityMedium:
		return "MEDIUM"
	case SensitivityHigh:
		return "HIGH"
	case SensitivityCritical:
		return "CRITICAL"
	}
	return fmt.Sprintf("Sensitivity(%d)", uint8(s))
}

// ByteOrder is the byte order of a signal, as the digit after @ in a DBC file means it.
type ByteOrder uint8

// LittleEndian is DBC's @1 (Intel), BigEndian is DBC's @0 (Motorola).
const (
	LittleEndian ByteOrder = iota
	BigEndian
)

// ValueType says how the bits of a signal are read.
type ValueType uint8

// The types of DBC: + and - of a signal, SIG_VALTYPE_ 1 and 2.
const (
	Unsigned ValueType = iota
	Signed
	Float32
	Float64
)

// Signal is one physical value in a body, with the bit numbering of DBC files.
type Signal struct {
	Name string
	Unit string
	// Start is the start bit of DBC: the least significant bit of a LittleEndian signal, the most significant bit of
	// a BigEndian one. Bit n is bit n%8 (0 = least significant) of byte n/8.
	Start uint16
	// Length is the number of bits, 1 to 64; 32 for Float32, 64 for Float64.
	Length    uint16
	ByteOrder ByteOrder
	ValueType ValueType
	// Multiplexor names the signal of the same stream that must be present with the raw value MuxValue for this one
	// to be present. Empty: always present. Multiplexors may be multiplexed themselves.
	Multiplexor string
	MuxValue    uint32
	// The physical value is raw * Factor + Offset. A Factor of 0 means 1.
	Factor float64
	Offset float64
}

// Stream is one entry of the ring's stream table: one message identifier of one node on one bus.
type Stream struct {
	ID          uint32 // unique in the installation; 0 and 0xFFFFFFFF are reserved
	SourceID    uint32 // of the policy's data source
	Name        string // of the stream, unique in the ring
	Source      string // identifier of the policy's data source
	Interface   string // network interface of the bus
	CANID       uint32 // 11 bits, or 29 bits with ExtendedID
	Period      time.Duration
	Sensitivity Sensitivity
	Signals     []Signal
	// SchemaHash is SHA-256 over the canonical form of Signals (docs/ring.md). The producer computes it; in a Config
	// it is ignored.
	SchemaHash [32]byte
}

// Extended reports whether the stream's identifier has 29 bits.
func (s *Stream) Extended() bool { return s.CANID&ExtendedID != 0 }

// check reports what is wrong with the stream for bodies of at most body bytes. Producer and reader use the same
// rules: what the one refuses to write the other refuses to read.
func (s *Stream) check(body int) error {
	if s.ID == 0 || s.ID == math.MaxUint32 {
		return fieldError{"stream_id", fmt.Sprintf("%d is reserved", s.ID)}
	}
	if s.Name == "" {
		return fieldError{"name", "is empty"}
	}
	for _, f := range []struct{ field, value string }{
		{"name", s.Name}, {"source", s.Source}, {"interface", s.Interface},
	} {
		if err := checkText(f.field, f.value); err != nil {
			return err
		}
	}
	if s.Interface == "" || len(s.Interface) > 15 || strings.ContainsAny(s.Interface, "/ ()#") {
		return fieldError{"interface", fmt.Sprintf("%q is not an interface name", s.Interface)}
	}
	limit := uint32(0x7ff)
	if s.Extended() {
		limit = 0x1fffffff
	}
	if s.CANID&^ExtendedID > limit {
		return fieldError{"can_id", fmt.Sprintf("%#x is out of range", s.CANID)}
	}
	if s.Period < 0 {
		return fieldError{"period_ns", "is negative"}
	}
	if s.Sensitivity > SensitivityCritical {
		return fieldError{"sensitivity", fmt.Sprintf("%d is unknown", s.Sensitivity)}
	}
	return checkSignals(s.Signals, body)
}

func checkSignals(signals []Signal, body int) error {
	index := make(map[string]int, len(signals))
	for i := range signals {
		s := &signals[i]
		fail := func(field, format string, args ...any) error {
			return fieldError{fmt.Sprintf("signals[%d].%s", i, field), fmt.Sprintf(format, args...)}
		}
		if s.Name == "" {
			return fail("name", "is empty")
		}
		if err := checkText("name", s.Name); err != nil {
			return fail("name", "%s", err.(fieldError).reason)
		}
		if err := checkText("unit", s.Unit); err != nil {
			return fail("unit", "%s", err.(fieldError).reason)
		}
		if _, taken := index[s.Name]; taken {
			return fail("name", "%q is used twice", s.Name)
		}
		index[s.Name] = i
		if s.Length < 1 || s.Length > 64 {
			return fail("length", "%d bits", s.Length)
		}
		if s.ByteOrder > BigEndian {
			return fail("byte_order", "%d is unknown", s.ByteOrder)
		}
		switch s.ValueType {
		case Unsigned, Signed:
		case Float32, Float64:
			if want := uint16(32) << (s.ValueType - Float32); s.Length != want {
				return fail("length", "%d bits for a floating-point value of %d", s.Length, want)
			}
		default:
			return fail("value_type", "%d is unknown", s.ValueType)
		}
		if end := s.end(); end > body {
			return fail("start", "signal needs %d bytes, bodies have at most %d", end, body)
		}
		for _, f := range []struct {
			field string
			value float64
		}{{"factor", s.Factor}, {"offset", s.Offset}} {
			if math.IsNaN(f.value) || math.IsInf(f.value, 0) {
				return fail(f.field, "is not a finite number")
			}
		}
	}
	for i := range signals {
		// Following the chain of multiplexors for as many steps as there are signals finds every cycle.
		at := i
		for steps := 0; signals[at].Multiplexor != ""; steps++ {
			next, found := index[signals[at].Multiplexor]
			if !found || steps == len(signals) {
				reason := fmt.Sprintf("%q is no signal of the stream", signals[at].Multiplexor)
				if found {
					reason = fmt.Sprintf("%q leads to itself", signals[i].Multiplexor)
				}
				return fieldError{fmt.Sprintf("signals[%d].multiplexor", i), reason}
			}
			if t := signals[next].ValueType; t != Unsigned {
				return fieldError{fmt.Sprintf("signals[%d].multiplexor", i), fmt.Sprintf("%q is not unsigned", signals[next].Name)}
			}
			at = next
		}
	}
	return nil
}

// fieldError is a reason without its place; the caller puts the place in front.
type fieldError struct{ field, reason string }

func (e fieldError) Error() string { return e.field + " " + e.reason }

// checkText refuses what could mislead a terminal or a parser of the reader's output.
func checkText(field, s string) error {
	if len(s) > 255 {
		return fieldError{field, "has more than 255 bytes"}
	}
	if !utf8.ValidString(s) {
		return fieldError{field, "is not UTF-8"}
	}
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return fieldError{field, fmt.Sprintf("%q has an unprintable character", s)}
		}
	}
	return nil
}

// checkStreams checks a whole table. place names the table in errors.
func checkStreams(streams []Stream, body int) error {
	ids := make(map[uint32]int, len(streams))
	names := make(map[string]int, len(streams))
	for i := range streams {
		s := &streams[i]
		if err := s.check(body); err != nil {
			var f fieldError
			if errors.As(err, &f) {
				return fieldError{fmt.Sprintf("streams[%d].%s", i, f.field), f.reason}
			}
			return err
		}
		if other, taken := ids[s.ID]; taken {
			return fieldError{fmt.Sprintf("streams[%d].stream_id", i), fmt.Sprintf("%d is that of streams[%d]", s.ID, other)}
		}
		if other, taken := names[s.Name]; taken {
			return fieldError{fmt.Sprintf("streams[%d].name", i), fmt.Sprintf("%q is that of streams[%d]", s.Name, other)}
		}
		ids[s.ID], names[s.Name] = i, i
	}
	return nil
}
